//! RoleService.

use std::sync::Arc;

use enumset::EnumSet;
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::{
    call::begin,
    convert, methods,
    parse::{self, Broken, complete},
    partner_requests::given,
    role_requests::{self, RoleUpdate},
    status,
};
use crate::{
    auth::{
        Call,
        permit::{CreateRole, DeleteRole, Purpose, TestOthers, UpdateRole},
        policy::Access,
        rights::{Explanation, Question},
        sightings::Sighting,
    },
    domain::{
        DomainName, Violation,
        filter::Filter,
        mask::{Mask, Maskable as _, TermField},
        role::{Permission, Role},
    },
    proto::v1::{self as pb, role_service_server::RoleService},
    registry::{
        Error, Kind, Registry,
        pages::{self, PageToken, query_digest},
        roles::{RoleChange, RoleDeletion},
    },
};

const MAX_TESTED_PERMISSIONS: usize = 100;

/// The handlers of RoleService.
#[derive(Debug)]
pub struct Roles {
    registry: Arc<Registry>,
}

impl Roles {
    /// The handlers on `registry`.
    pub const fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl RoleService for Roles {
    async fn get_role(
        &self,
        request: Request<pb::GetRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        let name = &begun.message.name;
        let mut broken = Broken::default();
        let id = parse::role_id(name, "name", &mut broken);
        let id = complete(id, broken)?;
        let role = policy.role(id).ok_or_else(|| {
            let hint = "ListRoles tells which roles there are".to_owned();
            Status::from(Error::from(Kind::NotFound { resource: name.clone(), hint }))
        })?;
        Ok(begun.response(convert::role(role), self.registry.revision()))
    }

    async fn list_roles(
        &self,
        request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let pb::ListRolesRequest { page_size, page_token, filter: text } = &begun.message;
        let mut broken = Broken::default();
        let filter = broken.keep(Filter::<Role>::parse(text));
        let size = broken.keep(pages::page_size(*page_size));
        let (filter, size) = complete(filter.zip(size), broken)?;
        let query = query_digest(&["roles", filter.as_str()]);
        let token = match page_token.as_str() {
            "" => None,
            text => Some(PageToken::decode(text, query)?),
        };
        let mut roles = self.registry.policy().roles();
        roles.retain(|role| filter.matches(role));
        let total = u32::try_from(roles.len()).unwrap_or(u32::MAX);
        if let Some(token) = &token {
            roles.retain(|role| *role.id > *token.after);
        }
        let revision = self.registry.revision();
        let more = roles.len() > size;
        roles.truncate(size);
        let next = roles.last().filter(|_| more).map(|last| {
            let after = last.id.to_string();
            PageToken { revision, total, query, after }.encode()
        });
        let message = pb::ListRolesResponse {
            roles: roles.iter().map(|role| convert::role(role)).collect(),
            next_page_token: next.unwrap_or_default(),
            total_size: i32::try_from(total).unwrap_or(i32::MAX),
        };
        Ok(begun.response(message, revision))
    }

    async fn create_role(
        &self,
        request: Request<pb::CreateRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let policy = self.registry.policy();
        let purpose = Purpose::of(message.validate_only);
        policy.allow::<CreateRole>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let (id, values) = role_requests::new_role(message, &mut broken);
        let retry = broken.retry("CreateRole", &message.request_id, message);
        let permit = policy.permit_role::<CreateRole>(&begun.call, purpose, id)?;
        broken.refuse()?;
        let committed = self.registry.create_role(permit, values, retry).await?;
        Ok(begun.response(convert::role(&committed.result), committed.revision))
    }

    async fn update_role(
        &self,
        request: Request<pb::UpdateRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let policy = self.registry.policy();
        let purpose = Purpose::of(message.validate_only);
        policy.allow::<UpdateRole>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let RoleUpdate { id, values, etag } = RoleUpdate::parse(message, &mut broken);
        let retry = broken.retry("UpdateRole", &message.request_id, message);
        let permit = policy.permit_role::<UpdateRole>(&begun.call, purpose, Arc::clone(&id))?;
        let if_missing = match message.allow_missing {
            true => Some(policy.permit_role::<CreateRole>(&begun.call, purpose, id)?),
            false => None,
        };
        broken.refuse()?;
        let change = RoleChange { permit, if_missing, values, etag };
        let committed = self.registry.update_role(change, retry).await?;
        Ok(begun.response(convert::role(&committed.result), committed.revision))
    }

    async fn delete_role(
        &self,
        request: Request<pb::DeleteRoleRequest>,
    ) -> Result<Response<()>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let policy = self.registry.policy();
        let purpose = Purpose::of(message.validate_only);
        policy.allow::<DeleteRole>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let id = parse::role_id(&message.name, "name", &mut broken);
        let retry = broken.retry("DeleteRole", &message.request_id, message);
        let id = complete(id, broken)?;
        let deletion = RoleDeletion {
            permit: policy.permit_role::<DeleteRole>(&begun.call, purpose, id.into())?,
            etag: given(&message.etag),
            allow_missing: message.allow_missing,
            force: message.force,
        };
        let committed = self.registry.delete_role(deletion, retry).await?;
        Ok(begun.response((), committed.revision))
    }

    async fn list_permissions(
        &self,
        request: Request<pb::ListPermissionsRequest>,
    ) -> Result<Response<pb::ListPermissionsResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let mut permissions: Vec<_> = EnumSet::<Permission>::all()
            .iter()
            .map(|permission| pb::PermissionInfo {
                permission: permission.to_string(),
                description: permission.description().into(),
                methods: methods_that_ask_for(permission),
            })
            .collect();
        permissions.sort_by(|a, b| a.permission.cmp(&b.permission));
        let message = pb::ListPermissionsResponse { permissions };
        Ok(begun.response(message, self.registry.revision()))
    }

    async fn describe_caller(
        &self,
        request: Request<pb::DescribeCallerRequest>,
    ) -> Result<Response<pb::DescribeCallerResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let subject = self.subject(&begun.call, begun.message.other.as_ref())?;
        let policy = self.registry.policy();
        let rights = policy.rights(&subject.roles);
        let mut permissions: Vec<_> =
            rights.permissions().iter().map(|permission| permission.to_string()).collect();
        permissions.sort_unstable();
        let (roles, unknown_roles): (Vec<_>, Vec<_>) =
            subject.roles.iter().partition(|id| policy.role(id).is_some());
        let message = pb::DescribeCallerResponse {
            subject: subject.subject,
            issuer: subject.issuer,
            roles: roles.into_iter().map(|id| convert::role_name(id)).collect(),
            unknown_roles: unknown_roles.into_iter().cloned().collect(),
            permissions,
            expire_time: subject.expire_time.map(convert::timestamp),
            last_seen_time: subject.last_seen.map(convert::timestamp),
        };
        Ok(begun.response(message, self.registry.revision()))
    }

    async fn test_permissions(
        &self,
        request: Request<pb::TestPermissionsRequest>,
    ) -> Result<Response<pb::TestPermissionsResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let subject = self.subject(&begun.call, begun.message.other.as_ref())?;
        let mut broken = Broken::default();
        let test = Test::parse(&begun.message, &mut broken);
        broken.refuse()?;
        let policy = self.registry.policy();
        let rights = policy.rights(&subject.roles);
        let verdicts = test.permissions.iter().map(|permission| {
            let question = Question::about(*permission, test.domain.as_ref(), test.fields);
            verdict(*permission, rights.explain(&question))
        });
        let message = pb::TestPermissionsResponse { verdicts: verdicts.collect() };
        Ok(begun.response(message, self.registry.revision()))
    }
}

impl Roles {
    /// Whom a question is about: the caller, or somebody else if he may ask about others.
    fn subject(&self, call: &Call, other: Option<&pb::OtherSubject>) -> Result<Subject, Status> {
        let Some(other) = other else {
            let caller = &call.caller;
            return Ok(Subject {
                subject: caller.subject.to_string(),
                issuer: caller.issuer.to_string(),
                roles: caller.roles.clone(),
                expire_time: Some(caller.expire_time),
                last_seen: None,
            });
        };
        self.registry.policy().permit::<TestOthers>(call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let roles = role_requests::role_ids(&other.roles, "other.roles", &mut broken);
        if roles.is_empty() && other.subject.is_empty() {
            broken.add("other", "nobody is named; give a subject, or roles");
        }
        broken.refuse()?;
        if !roles.is_empty() {
            return Ok(Subject {
                subject: other.subject.clone(),
                issuer: other.issuer.clone(),
                roles,
                ..Subject::default()
            });
        }
        let issuer = Some(other.issuer.as_str()).filter(|issuer| !issuer.is_empty());
        let seen = self.registry.sightings().of(&other.subject, issuer);
        match <[Sighting; 1]>::try_from(seen) {
            Ok([Sighting { subject, issuer, roles, time }]) => Ok(Subject {
                subject: subject.to_string(),
                issuer: issuer.to_string(),
                roles,
                expire_time: None,
                last_seen: Some(time),
            }),
            Err(seen) if seen.is_empty() => {
                let resource = format!("the subject {}", other.subject);
                let hint = "it was not seen since the server was started; give its roles".into();
                Err(Error::from(Kind::NotFound { resource, hint }).into())
            }
            Err(seen) => {
                let issuers: Vec<_> = seen.iter().map(|sighting| &*sighting.issuer).collect();
                let text = format!("several issuers have it; give one of {}", issuers.join(", "));
                Err(status::invalid(vec![Violation::new("other.issuer", text)]))
            }
        }
    }
}

/// Whom a question is about.
#[derive(Default)]
struct Subject {
    subject: String,
    issuer: String,
    roles: Vec<String>,
    expire_time: Option<Timestamp>,
    last_seen: Option<Timestamp>,
}

fn verdict(permission: Permission, why: Explanation) -> pb::test_permissions_response::Verdict {
    let Explanation { allowed, granting_roles, domain_scopes, denied_fields, text } = why;
    pb::test_permissions_response::Verdict {
        permission: permission.to_string(),
        allowed,
        granting_roles: granting_roles.iter().map(|id| convert::role_name(id)).collect(),
        explanation: text,
        denied_fields: denied_fields.iter().map(|field| field.path().to_owned()).collect(),
        domain_scopes: domain_scopes.iter().map(ToString::to_string).collect(),
    }
}

/// What is asked.
struct Test {
    permissions: Vec<Permission>,
    domain: Option<DomainName>,
    fields: EnumSet<TermField>,
}

impl Test {
    fn parse(message: &pb::TestPermissionsRequest, broken: &mut Broken) -> Self {
        let pb::TestPermissionsRequest { resource, permissions, fields, other: _ } = message;
        if permissions.is_empty() || permissions.len() > MAX_TESTED_PERMISSIONS {
            broken.add("permissions", format!("give 1 to {MAX_TESTED_PERMISSIONS} of them"));
        }
        let permissions = permissions
            .iter()
            .take(MAX_TESTED_PERMISSIONS)
            .enumerate()
            .filter_map(|(at, text)| broken.take(&format!("permissions[{at}]"), text.parse()))
            .collect();
        let of_another_kind = resource == "federationSettings" || resource.starts_with("roles/");
        let domain = match resource.as_str() {
            "" => None,
            _ if of_another_kind => None,
            name => parse::partner_name(name, "resource", broken),
        };
        let mask = Mask::<TermField>::parse(fields);
        let fields = match mask {
            Ok(mask) => mask.fields(),
            Err(violations) => {
                for violation in violations {
                    broken.add("fields", violation.description);
                }
                EnumSet::empty()
            }
        };
        Self { permissions, domain, fields }
    }
}

fn methods_that_ask_for(permission: Permission) -> Vec<String> {
    methods::all()
        .filter(|(_, access)| match access {
            Access::Needs { permission: needed, preview } => {
                *needed == permission || *preview == Some(permission)
            }
            Access::Public | Access::Authenticated | Access::Nobody => false,
        })
        .map(|(path, _)| path.trim_start_matches('/').to_owned())
        .collect()
}

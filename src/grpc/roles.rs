//! RoleService.

use std::sync::Arc;

use enumset::EnumSet;
use tonic::{Request, Response, Status};

use super::{
    call::begin,
    convert, methods,
    parse::{self, Broken, complete},
    status,
};
use crate::{
    auth::policy::Access,
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
        let Some(id) = name.strip_prefix("roles/") else {
            let text = "not a role's name; write roles/ and the role";
            return Err(status::invalid(vec![Violation::new("name", text)]));
        };
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
        let caller = &begun.call.caller;
        let policy = self.registry.policy();
        let mut permissions: Vec<_> =
            policy.permissions(caller).iter().map(|permission| permission.to_string()).collect();
        permissions.sort_unstable();
        let message = pb::DescribeCallerResponse {
            subject: caller.subject.to_string(),
            issuer: caller.issuer.to_string(),
            roles: policy.roles_of(caller).map(|role| format!("roles/{}", role.id)).collect(),
            unknown_roles: policy.unknown_roles_of(caller).cloned().collect(),
            permissions,
            expire_time: Some(convert::timestamp(caller.expire_time)),
        };
        Ok(begun.response(message, self.registry.revision()))
    }

    async fn test_permissions(
        &self,
        request: Request<pb::TestPermissionsRequest>,
    ) -> Result<Response<pb::TestPermissionsResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let mut broken = Broken::default();
        let test = Test::parse(&begun.message, &mut broken);
        broken.refuse()?;
        let policy = self.registry.policy();
        let verdicts = test.permissions.iter().map(|permission| {
            let domain = test.domain.as_ref();
            let why = policy.explain(&begun.call.caller, *permission, domain, test.fields);
            pb::test_permissions_response::Verdict {
                permission: permission.to_string(),
                allowed: why.allowed,
                granting_roles: why.granting_roles.iter().map(|id| format!("roles/{id}")).collect(),
                explanation: why.text,
                denied_fields: why
                    .denied_fields
                    .iter()
                    .map(|field| field.path().to_owned())
                    .collect(),
            }
        });
        let message = pb::TestPermissionsResponse { verdicts: verdicts.collect() };
        Ok(begun.response(message, self.registry.revision()))
    }
}

/// What a caller asks about himself.
struct Test {
    permissions: Vec<Permission>,
    domain: Option<DomainName>,
    fields: EnumSet<TermField>,
}

impl Test {
    fn parse(message: &pb::TestPermissionsRequest, broken: &mut Broken) -> Self {
        let pb::TestPermissionsRequest { resource, permissions, fields } = message;
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

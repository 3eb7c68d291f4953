//! What the messages of RoleService ask for: wire to what the registry takes.

use std::sync::Arc;

use enumset::EnumSet;

use super::{
    parse::{self, Broken, join},
    partner_requests::given,
};
use crate::{
    domain::{
        mask::{Mask, Maskable as _, RoleField, TermField},
        role::{DomainScope, Permission, RoleTerms},
    },
    proto::v1 as pb,
    registry::roles::RoleValues,
};

/// The most elements of a list in a role; a longer one is refused before it is looked at.
const MAX_LIST: usize = 1_000;

const PATH: &str = "role";

/// An update as the caller sent it, understood.
pub struct RoleUpdate {
    pub id: Arc<str>,
    pub values: RoleValues,
    pub etag: Option<String>,
}

impl RoleUpdate {
    pub fn parse(message: &pb::UpdateRoleRequest, broken: &mut Broken) -> Self {
        let pb::UpdateRoleRequest {
            role,
            update_mask,
            allow_missing: _,
            validate_only: _,
            request_id: _,
        } = message;
        let absent = pb::Role::default();
        let role = role.as_ref().unwrap_or(&absent);
        let id = parse::role_id(&role.name, "role.name", broken).unwrap_or_default();
        let mask = parse::mask(update_mask.as_ref(), "update_mask", broken);
        let mask = mask.unwrap_or_else(|| Mask::of(populated(role)));
        let values = values(role, mask, broken);
        Self { id: id.into(), values, etag: given(&role.etag) }
    }
}

/// The id of a role to be made, and the role.
pub fn new_role(message: &pb::CreateRoleRequest, broken: &mut Broken) -> (Arc<str>, RoleValues) {
    let pb::CreateRoleRequest { role_id, role, validate_only: _, request_id: _ } = message;
    let absent = pb::Role::default();
    let role = role.as_ref().unwrap_or(&absent);
    let named = match role.name.as_str() {
        "" => None,
        name => parse::role_id(name, "role.name", broken),
    };
    let id = match (role_id.as_str(), named) {
        ("", Some(named)) => named,
        (id, Some(named)) if id != named => {
            broken.add("role.name", "differs from role_id; leave one of them out");
            id
        }
        (id, _) => id,
    };
    let values = values(role, Mask::of(populated(role)), broken);
    (id.into(), values)
}

/// The ids in the resource names of roles. Sorted, without duplicates, as those of a caller.
pub fn role_ids(names: &[String], path: &str, broken: &mut Broken) -> Vec<String> {
    if names.len() > MAX_LIST {
        broken.add(path, format!("{} roles; at most {MAX_LIST} are looked at", names.len()));
        return Vec::new();
    }
    let ids = names.iter().enumerate().filter_map(|(at, name)| {
        parse::role_id(name, &format!("{path}[{at}]"), broken).map(str::to_owned)
    });
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The fields of a role that are populated.
fn populated(message: &pb::Role) -> EnumSet<RoleField> {
    use RoleField as F;
    EnumSet::<F>::all()
        .iter()
        .filter(|field| match field {
            F::Description => !message.description.is_empty(),
            F::Permissions => !message.permissions.is_empty(),
            F::DomainScopes => !message.domain_scopes.is_empty(),
            F::UpdatableFields => !message.updatable_fields.is_empty(),
        })
        .collect()
}

fn values(message: &pb::Role, mask: Mask<RoleField>, broken: &mut Broken) -> RoleValues {
    let template = match message.template.as_str() {
        "" => "",
        name => parse::role_id(name, "role.template", broken).unwrap_or_default(),
    };
    RoleValues {
        terms: terms(message, mask.fields(), PATH, broken),
        mask,
        template: template.into(),
        path: PATH.into(),
    }
}

/// The terms in a role. Only the `wanted` fields are looked at.
pub fn terms(
    message: &pb::Role,
    wanted: EnumSet<RoleField>,
    path: &str,
    broken: &mut Broken,
) -> RoleTerms {
    use RoleField as F;
    let mut terms = RoleTerms::default();
    for field in wanted {
        let path = join(path, field.path());
        match field {
            F::Description => terms.description.clone_from(&message.description),
            F::Permissions => {
                let permissions = each(&message.permissions, &path, broken, |text| {
                    text.parse::<Permission>().map_err(|error| error.to_string())
                });
                terms.permissions = permissions.into_iter().collect();
            }
            F::DomainScopes => {
                let mut scopes = each(&message.domain_scopes, &path, broken, |text| {
                    text.parse::<DomainScope>().map_err(|error| {
                        format!("{error}; write contoso.com, or *.contoso.com for all below")
                    })
                });
                scopes.sort_unstable();
                scopes.dedup();
                terms.domain_scopes = scopes;
            }
            F::UpdatableFields => {
                let fields = each(&message.updatable_fields, &path, broken, |text| {
                    TermField::from_path(text)
                        .ok_or_else(|| format!("`{text}` is no field of a partner to be updated"))
                });
                terms.updatable_fields =
                    (!message.updatable_fields.is_empty()).then(|| fields.into_iter().collect());
            }
        }
    }
    terms
}

/// What the elements of a list mean; a violation for each that means nothing.
fn each<T>(
    texts: &[String],
    path: &str,
    broken: &mut Broken,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    if texts.len() > MAX_LIST {
        broken.add(path, format!("{} elements; at most {MAX_LIST} are looked at", texts.len()));
        return Vec::new();
    }
    texts
        .iter()
        .enumerate()
        .filter_map(|(at, text)| broken.take(&format!("{path}[{at}]"), parse(text)))
        .collect()
}

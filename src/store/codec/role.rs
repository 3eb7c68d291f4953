//! Roles that somebody made.

use prost::Message as _;
use uuid::Uuid;

use super::{
    Damage, Kind, Stored, Texts, array, message,
    time::{self, StoredTime},
};
use crate::domain::{
    DomainName, Revision,
    mask::{Maskable as _, TermField},
    role::{DomainScope, Origin, Permission, Role, RoleRecord, RoleTerms},
};

/// A role. Permissions, scopes and fields are kept as the API writes them.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredRole {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(string, repeated, tag = "3")]
    permissions: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    domain_scopes: Vec<String>,
    /// Absent when every field may be updated.
    #[prost(message, optional, tag = "5")]
    updatable_fields: Option<StoredFields>,
    #[prost(bytes = "vec", tag = "6")]
    uid: Vec<u8>,
    #[prost(string, tag = "7")]
    template: String,
    #[prost(message, optional, tag = "8")]
    create_time: Option<StoredTime>,
    #[prost(message, optional, tag = "9")]
    update_time: Option<StoredTime>,
    #[prost(string, tag = "10")]
    creator: String,
    #[prost(string, tag = "11")]
    updater: String,
    #[prost(uint64, tag = "12")]
    revision: u64,
}

/// The fields that an update may touch, by their paths.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredFields {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

impl Stored for Role {
    const KIND: Kind = Kind::Role;

    fn to_payload(&self) -> Vec<u8> {
        StoredRole::from(self).encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        message::<StoredRole>(payload)?.into_role(texts)
    }
}

impl From<&Role> for StoredRole {
    fn from(Role { id, terms, origin }: &Role) -> Self {
        let RoleTerms { description, permissions, domain_scopes, updatable_fields } = terms;
        let paths = |fields: &enumset::EnumSet<TermField>| StoredFields {
            paths: fields.iter().map(|field| field.path().to_owned()).collect(),
        };
        let stored = Self {
            id: id.to_string(),
            description: description.clone(),
            permissions: permissions.iter().map(|permission| permission.to_string()).collect(),
            domain_scopes: domain_scopes.iter().map(ToString::to_string).collect(),
            updatable_fields: updatable_fields.as_ref().map(paths),
            ..Self::default()
        };
        // A built-in role is never stored; read back, this one would be refused.
        let Origin::Custom(record) = origin else { return stored };
        let RoleRecord { uid, template, create_time, update_time, creator, updater, revision } =
            record;
        Self {
            uid: uid.as_bytes().to_vec(),
            template: template.to_string(),
            create_time: Some((*create_time).into()),
            update_time: Some((*update_time).into()),
            creator: creator.to_string(),
            updater: updater.to_string(),
            revision: revision.get(),
            ..stored
        }
    }
}

impl StoredRole {
    pub(super) fn into_role(self, texts: &mut Texts) -> Result<Role, Damage> {
        let Self {
            id,
            description,
            permissions,
            domain_scopes,
            updatable_fields,
            uid,
            template,
            create_time,
            update_time,
            creator,
            updater,
            revision,
        } = self;
        let permissions = permissions.iter().map(|text| {
            text.parse::<Permission>().map_err(|error| Damage::content(error.to_string()))
        });
        let fields = |stored: StoredFields| stored.paths.iter().map(|path| field(path)).collect();
        let record = RoleRecord {
            uid: Uuid::from_bytes(array(&uid, "uid")?),
            template: texts.shared(&template),
            create_time: time::required(create_time, "create_time")?,
            update_time: time::required(update_time, "update_time")?,
            creator: texts.shared(&creator),
            updater: texts.shared(&updater),
            revision: Revision::new(revision),
        };
        let terms = RoleTerms {
            description,
            permissions: permissions.collect::<Result<_, _>>()?,
            domain_scopes: domain_scopes
                .iter()
                .map(|text| scope(text))
                .collect::<Result<_, _>>()?,
            updatable_fields: updatable_fields.map(fields).transpose()?,
        };
        Ok(Role { id: id.into(), terms, origin: Origin::Custom(record) })
    }
}

fn scope(text: &str) -> Result<DomainScope, Damage> {
    let name = |text: &str| {
        DomainName::from_stored(text)
            .ok_or_else(|| Damage::content(format!("`{text}` is no domain in its stored form")))
    };
    match text.strip_prefix("*.") {
        Some(ancestor) => name(ancestor).map(DomainScope::Below),
        None => name(text).map(DomainScope::Exactly),
    }
}

fn field(path: &str) -> Result<TermField, Damage> {
    TermField::from_path(path)
        .ok_or_else(|| Damage::content(format!("there is no field `{path}` of a partner")))
}

//! Revocations.

use prost::Message as _;
use uuid::Uuid;

use super::{
    Damage, Kind, Stored, Texts, array, message,
    time::{self, StoredTime},
};
use crate::domain::{
    Revision,
    revocation::{Revocation, Target},
};

/// A revocation. The issuer and exactly one of the three ids say what is revoked.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredRevocation {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    issuer: String,
    #[prost(string, optional, tag = "3")]
    token_id: Option<String>,
    #[prost(string, optional, tag = "4")]
    subject: Option<String>,
    #[prost(string, optional, tag = "5")]
    key_id: Option<String>,
    #[prost(string, tag = "6")]
    reason: String,
    #[prost(string, tag = "7")]
    creator: String,
    #[prost(message, optional, tag = "8")]
    create_time: Option<StoredTime>,
    #[prost(message, optional, tag = "9")]
    expire_time: Option<StoredTime>,
    #[prost(uint64, tag = "10")]
    revision: u64,
}

impl Stored for Revocation {
    const KIND: Kind = Kind::Revocation;

    fn to_payload(&self) -> Vec<u8> {
        StoredRevocation::from(self).encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        message::<StoredRevocation>(payload)?.into_revocation(texts)
    }
}

impl From<&Revocation> for StoredRevocation {
    fn from(revocation: &Revocation) -> Self {
        let Revocation { id, target, reason, creator, create_time, expire_time, revision } =
            revocation;
        let (token_id, subject, key_id) = match target {
            Target::Token { token_id, .. } => (Some(token_id), None, None),
            Target::Subject { subject, .. } => (None, Some(subject), None),
            Target::Key { key_id, .. } => (None, None, Some(key_id)),
        };
        Self {
            id: id.as_bytes().to_vec(),
            issuer: target.issuer().to_string(),
            token_id: token_id.map(ToString::to_string),
            subject: subject.map(ToString::to_string),
            key_id: key_id.map(ToString::to_string),
            reason: reason.to_string(),
            creator: creator.to_string(),
            create_time: Some((*create_time).into()),
            expire_time: expire_time.map(Into::into),
            revision: revision.get(),
        }
    }
}

impl StoredRevocation {
    pub(super) fn into_revocation(self, texts: &mut Texts) -> Result<Revocation, Damage> {
        let Self {
            id,
            issuer,
            token_id,
            subject,
            key_id,
            reason,
            creator,
            create_time,
            expire_time,
            revision,
        } = self;
        let issuer = texts.shared(&issuer);
        let target = match (token_id, subject, key_id) {
            (Some(token_id), None, None) => Target::Token { issuer, token_id: token_id.into() },
            (None, Some(subject), None) => Target::Subject { issuer, subject: subject.into() },
            (None, None, Some(key_id)) => Target::Key { issuer, key_id: key_id.into() },
            _ => return Err(Damage::content("a revocation is not about one thing")),
        };
        Ok(Revocation {
            id: Uuid::from_bytes(array(&id, "id")?),
            target,
            reason: reason.into(),
            creator: texts.shared(&creator),
            create_time: time::required(create_time, "create_time")?,
            expire_time: time::optional(expire_time)?,
            revision: Revision::new(revision),
        })
    }
}

//! Commits and kept answers.

use std::sync::Arc;

use prost::Message as _;
use uuid::Uuid;

use super::{
    Damage, Kind, Stored, Texts, array,
    audit::StoredRestored,
    message,
    revocation::StoredRevocation,
    role::StoredRole,
    settings::StoredSettings,
    time::{self, StoredTime},
};
use crate::{
    domain::{AllowedPartner, Revision, audit::Actor, revocation::Revocation, role::Role},
    store::{Answer, AnswerResult, Change, Commit, RequestKey},
};

#[derive(Clone, PartialEq, prost::Message)]
struct StoredCommit {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    time: Option<StoredTime>,
    #[prost(message, optional, tag = "3")]
    actor: Option<StoredActor>,
    #[prost(message, repeated, tag = "4")]
    changes: Vec<StoredChange>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredActor {
    #[prost(string, tag = "1")]
    subject: String,
    #[prost(string, tag = "2")]
    issuer: String,
    #[prost(string, tag = "3")]
    request_id: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// A change of one resource: only its own pair is there.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredChange {
    /// A partner is a message of its own, encoded, which on the wire is the same.
    #[prost(bytes = "vec", optional, tag = "1")]
    partner_before: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    partner_after: Option<Vec<u8>>,
    #[prost(message, optional, tag = "3")]
    settings_before: Option<StoredSettings>,
    #[prost(message, optional, tag = "4")]
    settings_after: Option<StoredSettings>,
    #[prost(message, optional, tag = "5")]
    role_before: Option<StoredRole>,
    #[prost(message, optional, tag = "6")]
    role_after: Option<StoredRole>,
    #[prost(message, optional, tag = "7")]
    revocation_before: Option<StoredRevocation>,
    #[prost(message, optional, tag = "8")]
    revocation_after: Option<StoredRevocation>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredAnswer {
    #[prost(string, tag = "1")]
    issuer: String,
    #[prost(string, tag = "2")]
    subject: String,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    fingerprint: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    expire_time: Option<StoredTime>,
    #[prost(uint64, tag = "6")]
    revision: u64,
    #[prost(message, optional, tag = "7")]
    settings: Option<StoredSettings>,
    /// Looked at when there is nothing else.
    #[prost(message, repeated, tag = "8")]
    partners: Vec<StoredAnswerItem>,
    #[prost(message, optional, tag = "9")]
    role: Option<StoredAnswerRole>,
    #[prost(message, optional, tag = "10")]
    revocation: Option<StoredAnswerRevocation>,
    #[prost(message, optional, tag = "11")]
    restored: Option<StoredRestored>,
}

/// The revocation in an answer, which may be nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredAnswerRevocation {
    #[prost(message, optional, tag = "1")]
    revocation: Option<StoredRevocation>,
}

/// The role in an answer, which may be nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredAnswerRole {
    #[prost(message, optional, tag = "1")]
    role: Option<StoredRole>,
}

/// One item of a batch's answer, which may be nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredAnswerItem {
    #[prost(bytes = "vec", optional, tag = "1")]
    partner: Option<Vec<u8>>,
}

impl Stored for Commit {
    const KIND: Kind = Kind::Commit;

    fn to_payload(&self) -> Vec<u8> {
        let Self { revision, time, actor, changes } = self;
        StoredCommit {
            revision: revision.get(),
            time: Some((*time).into()),
            actor: Some(actor.into()),
            changes: changes.iter().map(Into::into).collect(),
        }
        .encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        let StoredCommit { revision, time, actor, changes } = message(payload)?;
        Ok(Self {
            revision: Revision::new(revision),
            time: time::required(time, "time")?,
            actor: StoredActor::into_actor(actor, texts)?,
            changes: changes
                .into_iter()
                .map(|change| change.into_change(texts))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Stored for Answer {
    const KIND: Kind = Kind::Answer;

    fn to_payload(&self) -> Vec<u8> {
        let Self { key, fingerprint, expire_time, revision, result } = self;
        let RequestKey { issuer, subject, id } = key;
        let mut stored = StoredAnswer {
            issuer: issuer.to_string(),
            subject: subject.to_string(),
            id: id.as_bytes().to_vec(),
            fingerprint: fingerprint.to_vec(),
            expire_time: Some((*expire_time).into()),
            revision: revision.get(),
            ..StoredAnswer::default()
        };
        match result {
            AnswerResult::Settings(settings) => stored.settings = Some(settings.as_ref().into()),
            AnswerResult::Partners(partners) => {
                stored.partners = partners.iter().map(Into::into).collect();
            }
            AnswerResult::Role(role) => {
                stored.role = Some(StoredAnswerRole { role: role.as_deref().map(Into::into) });
            }
            AnswerResult::Revocation(revocation) => {
                let revocation = revocation.as_deref().map(Into::into);
                stored.revocation = Some(StoredAnswerRevocation { revocation });
            }
            AnswerResult::Restored(restored) => stored.restored = Some(restored.into()),
        }
        stored.encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        let StoredAnswer {
            issuer,
            subject,
            id,
            fingerprint,
            expire_time,
            revision,
            settings,
            partners,
            role,
            revocation,
            restored,
        } = message(payload)?;
        let result = match (settings, role, revocation, restored) {
            (Some(settings), None, None, None) => {
                AnswerResult::Settings(Arc::new(settings.into_settings(texts)?))
            }
            (None, Some(StoredAnswerRole { role }), None, None) => {
                AnswerResult::Role(optional_role(role, texts)?)
            }
            (None, None, Some(StoredAnswerRevocation { revocation }), None) => {
                AnswerResult::Revocation(optional_revocation(revocation, texts)?)
            }
            (None, None, None, Some(restored)) => AnswerResult::Restored(restored.into()),
            (None, None, None, None) => AnswerResult::Partners(
                partners
                    .into_iter()
                    .map(|item| optional_partner(item.partner, texts))
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(Damage::content("an answer is about several things")),
        };
        Ok(Self {
            key: RequestKey {
                issuer: texts.shared(&issuer),
                subject: texts.shared(&subject),
                id: Uuid::from_bytes(array(&id, "request id")?),
            },
            fingerprint: array(&fingerprint, "fingerprint")?,
            expire_time: time::required(expire_time, "expire_time")?,
            revision: Revision::new(revision),
            result,
        })
    }
}

impl From<&Actor> for StoredActor {
    fn from(Actor { subject, issuer, request_id, reason }: &Actor) -> Self {
        Self {
            subject: subject.to_string(),
            issuer: issuer.to_string(),
            request_id: request_id.to_string(),
            reason: reason.to_string(),
        }
    }
}

impl StoredActor {
    pub(super) fn into_actor(stored: Option<Self>, texts: &mut Texts) -> Result<Actor, Damage> {
        let Self { subject, issuer, request_id, reason } =
            stored.ok_or_else(|| Damage::missing("actor"))?;
        Ok(Actor {
            subject: texts.shared(&subject),
            issuer: texts.shared(&issuer),
            // Each request has its own.
            request_id: request_id.into(),
            reason: reason.into(),
        })
    }
}

impl From<&Change> for StoredChange {
    fn from(change: &Change) -> Self {
        match change {
            Change::Partner { before, after } => Self {
                partner_before: before.as_deref().map(Stored::to_payload),
                partner_after: Some(after.to_payload()),
                ..Self::default()
            },
            Change::Settings { before, after } => Self {
                settings_before: Some(before.as_ref().into()),
                settings_after: Some(after.as_ref().into()),
                ..Self::default()
            },
            Change::Role { before, after } => Self {
                role_before: before.as_deref().map(Into::into),
                role_after: after.as_deref().map(Into::into),
                ..Self::default()
            },
            Change::Revocation { before, after } => Self {
                revocation_before: before.as_deref().map(Into::into),
                revocation_after: after.as_deref().map(Into::into),
                ..Self::default()
            },
        }
    }
}

impl StoredChange {
    fn into_change(self, texts: &mut Texts) -> Result<Change, Damage> {
        let Self {
            partner_before,
            partner_after,
            settings_before,
            settings_after,
            role_before,
            role_after,
            revocation_before,
            revocation_after,
        } = self;
        let partner = match (partner_before, partner_after) {
            (None, None) => None,
            (before, after) => Some(Change::Partner {
                before: optional_partner(before, texts)?,
                after: optional_partner(after, texts)?.ok_or_else(|| Damage::missing("partner"))?,
            }),
        };
        let settings = match (settings_before, settings_after) {
            (Some(before), Some(after)) => Some(Change::Settings {
                before: Arc::new(before.into_settings(texts)?),
                after: Arc::new(after.into_settings(texts)?),
            }),
            (None, None) => None,
            _ => return Err(Damage::missing("settings")),
        };
        let role = match (optional_role(role_before, texts)?, optional_role(role_after, texts)?) {
            (None, None) => None,
            (before, after) => Some(Change::Role { before, after }),
        };
        let before = optional_revocation(revocation_before, texts)?;
        let revocation = match (before, optional_revocation(revocation_after, texts)?) {
            (None, None) => None,
            (before, after) => Some(Change::Revocation { before, after }),
        };
        let mut changes = [partner, settings, role, revocation].into_iter().flatten();
        match (changes.next(), changes.next()) {
            (Some(change), None) => Ok(change),
            _ => Err(Damage::content("a change is not of one resource")),
        }
    }
}

fn optional_revocation(
    stored: Option<StoredRevocation>,
    texts: &mut Texts,
) -> Result<Option<Arc<Revocation>>, Damage> {
    stored.map(|revocation| revocation.into_revocation(texts).map(Arc::new)).transpose()
}

fn optional_role(
    stored: Option<StoredRole>,
    texts: &mut Texts,
) -> Result<Option<Arc<Role>>, Damage> {
    stored.map(|role| role.into_role(texts).map(Arc::new)).transpose()
}

impl From<&Option<Arc<AllowedPartner>>> for StoredAnswerItem {
    fn from(partner: &Option<Arc<AllowedPartner>>) -> Self {
        Self { partner: partner.as_deref().map(Stored::to_payload) }
    }
}

fn optional_partner(
    stored: Option<Vec<u8>>,
    texts: &mut Texts,
) -> Result<Option<Arc<AllowedPartner>>, Damage> {
    stored.map(|partner| AllowedPartner::from_payload(&partner, texts).map(Arc::new)).transpose()
}

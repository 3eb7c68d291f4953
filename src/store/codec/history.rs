//! Commits, audit entries and kept answers.

use std::sync::Arc;

use prost::Message as _;
use uuid::Uuid;

use super::{
    Damage, Kind, Stored, Texts, array, message,
    partner::StoredPartner,
    settings::StoredSettings,
    time::{self, StoredTime},
};
use crate::{
    domain::{
        AllowedPartner, Revision,
        audit::{Actor, AuditEntry, FieldChange, ResourceChange, Verb},
    },
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
struct StoredActor {
    #[prost(string, tag = "1")]
    subject: String,
    #[prost(string, tag = "2")]
    issuer: String,
    #[prost(string, tag = "3")]
    request_id: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// A change of a partner or of the settings: exactly one pair has an `after`.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredChange {
    #[prost(message, optional, tag = "1")]
    partner_before: Option<StoredPartner>,
    #[prost(message, optional, tag = "2")]
    partner_after: Option<StoredPartner>,
    #[prost(message, optional, tag = "3")]
    settings_before: Option<StoredSettings>,
    #[prost(message, optional, tag = "4")]
    settings_after: Option<StoredSettings>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredAuditEntry {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, optional, tag = "2")]
    time: Option<StoredTime>,
    #[prost(message, optional, tag = "3")]
    actor: Option<StoredActor>,
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(message, repeated, tag = "5")]
    changes: Vec<StoredResourceChange>,
    #[prost(bytes = "vec", tag = "6")]
    previous_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    hash: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredResourceChange {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(uint32, tag = "2")]
    verb: u32,
    #[prost(message, repeated, tag = "3")]
    fields: Vec<StoredFieldChange>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredFieldChange {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    before: String,
    #[prost(string, tag = "3")]
    after: String,
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
    /// Looked at when there are no settings.
    #[prost(message, repeated, tag = "8")]
    partners: Vec<StoredAnswerItem>,
}

/// One item of a batch's answer, which may be nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredAnswerItem {
    #[prost(message, optional, tag = "1")]
    partner: Option<StoredPartner>,
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

impl Stored for AuditEntry {
    const KIND: Kind = Kind::AuditEntry;

    fn to_payload(&self) -> Vec<u8> {
        let Self { sequence, time, actor, revision, changes, previous_hash, hash } = self;
        StoredAuditEntry {
            sequence: *sequence,
            time: Some((*time).into()),
            actor: Some(actor.into()),
            revision: revision.get(),
            changes: changes.iter().map(Into::into).collect(),
            previous_hash: previous_hash.to_vec(),
            hash: hash.to_vec(),
        }
        .encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        let StoredAuditEntry { sequence, time, actor, revision, changes, previous_hash, hash } =
            message(payload)?;
        Ok(Self {
            sequence,
            time: time::required(time, "time")?,
            actor: StoredActor::into_actor(actor, texts)?,
            revision: Revision::new(revision),
            changes: changes.into_iter().map(ResourceChange::try_from).collect::<Result<_, _>>()?,
            previous_hash: array(&previous_hash, "previous hash")?,
            hash: array(&hash, "hash")?,
        })
    }
}

impl Stored for Answer {
    const KIND: Kind = Kind::Answer;

    fn to_payload(&self) -> Vec<u8> {
        let Self { key, fingerprint, expire_time, revision, result } = self;
        let RequestKey { issuer, subject, id } = key;
        let (settings, partners) = match result {
            AnswerResult::Settings(settings) => (Some(settings.as_ref().into()), Vec::new()),
            AnswerResult::Partners(partners) => (None, partners.iter().map(Into::into).collect()),
        };
        StoredAnswer {
            issuer: issuer.to_string(),
            subject: subject.to_string(),
            id: id.as_bytes().to_vec(),
            fingerprint: fingerprint.to_vec(),
            expire_time: Some((*expire_time).into()),
            revision: revision.get(),
            settings,
            partners,
        }
        .encode_to_vec()
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
        } = message(payload)?;
        let result = match settings {
            Some(settings) => AnswerResult::Settings(Arc::new(settings.into_settings(texts)?)),
            None => AnswerResult::Partners(
                partners
                    .into_iter()
                    .map(|item| optional_partner(item.partner, texts))
                    .collect::<Result<_, _>>()?,
            ),
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
    fn into_actor(stored: Option<Self>, texts: &mut Texts) -> Result<Actor, Damage> {
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
                partner_before: before.as_deref().map(Into::into),
                partner_after: Some(after.as_ref().into()),
                ..Self::default()
            },
            Change::Settings { before, after } => Self {
                settings_before: Some(before.as_ref().into()),
                settings_after: Some(after.as_ref().into()),
                ..Self::default()
            },
        }
    }
}

impl StoredChange {
    fn into_change(self, texts: &mut Texts) -> Result<Change, Damage> {
        match self {
            Self {
                partner_before: before,
                partner_after: Some(after),
                settings_before: None,
                settings_after: None,
            } => Ok(Change::Partner {
                before: optional_partner(before, texts)?,
                after: Arc::new(after.into_partner(texts)?),
            }),
            Self {
                partner_before: None,
                partner_after: None,
                settings_before: Some(before),
                settings_after: Some(after),
            } => Ok(Change::Settings {
                before: Arc::new(before.into_settings(texts)?),
                after: Arc::new(after.into_settings(texts)?),
            }),
            _ => Err(Damage::content("a change is neither of a partner nor of the settings")),
        }
    }
}

impl From<&Option<Arc<AllowedPartner>>> for StoredAnswerItem {
    fn from(partner: &Option<Arc<AllowedPartner>>) -> Self {
        Self { partner: partner.as_deref().map(Into::into) }
    }
}

fn optional_partner(
    stored: Option<StoredPartner>,
    texts: &mut Texts,
) -> Result<Option<Arc<AllowedPartner>>, Damage> {
    stored.map(|partner| partner.into_partner(texts).map(Arc::new)).transpose()
}

impl From<&ResourceChange> for StoredResourceChange {
    fn from(ResourceChange { resource, verb, fields }: &ResourceChange) -> Self {
        Self {
            resource: resource.clone(),
            verb: verb_number(*verb),
            fields: fields.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<StoredResourceChange> for ResourceChange {
    type Error = Damage;

    fn try_from(stored: StoredResourceChange) -> Result<Self, Damage> {
        let StoredResourceChange { resource, verb, fields } = stored;
        Ok(Self {
            resource,
            verb: numbered_verb(verb)?,
            fields: fields.into_iter().map(FieldChange::from).collect(),
        })
    }
}

impl From<&FieldChange> for StoredFieldChange {
    fn from(FieldChange { field, before, after }: &FieldChange) -> Self {
        Self { field: field.clone(), before: before.clone(), after: after.clone() }
    }
}

impl From<StoredFieldChange> for FieldChange {
    fn from(StoredFieldChange { field, before, after }: StoredFieldChange) -> Self {
        Self { field, before, after }
    }
}

// The numbers are what is on the disk: one that was ever used keeps its meaning.

const fn verb_number(verb: Verb) -> u32 {
    match verb {
        Verb::Create => 1,
        Verb::Update => 2,
        Verb::Delete => 3,
        Verb::Undelete => 4,
    }
}

fn numbered_verb(number: u32) -> Result<Verb, Damage> {
    match number {
        1 => Ok(Verb::Create),
        2 => Ok(Verb::Update),
        3 => Ok(Verb::Delete),
        4 => Ok(Verb::Undelete),
        _ => Err(Damage::Content(format!("there is no verb {number}"))),
    }
}

//! Commits, audit entries and kept answers.

use std::sync::Arc;

use prost::Message as _;
use uuid::Uuid;

use super::{
    Damage, Kind, Stored, Texts, array, message,
    partner::StoredPartner,
    revocation::StoredRevocation,
    role::StoredRole,
    settings::StoredSettings,
    time::{self, StoredTime},
};
use crate::{
    domain::{
        AllowedPartner, Revision,
        audit::{
            Actor, AuditEntry, ChainHead, Checkpoint, Event, FieldChange, Refusal, ResourceChange,
            Verb,
        },
        revocation::Revocation,
        role::Role,
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

/// A change of one resource: only its own pair is there.
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
struct StoredAuditEntry {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, optional, tag = "2")]
    time: Option<StoredTime>,
    #[prost(message, optional, tag = "3")]
    actor: Option<StoredActor>,
    #[prost(uint64, tag = "4")]
    revision: u64,
    /// Looked at when it is of a commit, which is when nothing else is there.
    #[prost(message, repeated, tag = "5")]
    changes: Vec<StoredResourceChange>,
    #[prost(bytes = "vec", tag = "6")]
    previous_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    hash: Vec<u8>,
    #[prost(message, optional, tag = "8")]
    denial: Option<StoredRefusal>,
    #[prost(message, optional, tag = "9")]
    login_failure: Option<StoredRefusal>,
    #[prost(string, optional, tag = "10")]
    start: Option<String>,
    #[prost(bool, tag = "11")]
    stop: bool,
    #[prost(message, optional, tag = "12")]
    checkpoint: Option<StoredCheckpoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRefusal {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    permission: String,
    #[prost(string, tag = "3")]
    source: String,
    #[prost(string, tag = "4")]
    claimed_issuer: String,
    #[prost(string, tag = "5")]
    claimed_subject: String,
    #[prost(uint64, tag = "6")]
    count: u64,
    #[prost(message, optional, tag = "7")]
    first_time: Option<StoredTime>,
    #[prost(message, optional, tag = "8")]
    last_time: Option<StoredTime>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredCheckpoint {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    time: Option<StoredTime>,
    #[prost(bytes = "vec", tag = "4")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    signature: Vec<u8>,
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
    /// Looked at when there is nothing else.
    #[prost(message, repeated, tag = "8")]
    partners: Vec<StoredAnswerItem>,
    #[prost(message, optional, tag = "9")]
    role: Option<StoredAnswerRole>,
    #[prost(message, optional, tag = "10")]
    revocation: Option<StoredAnswerRevocation>,
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
        let Self { sequence, time, actor, revision, event, previous_hash, hash } = self;
        let mut stored = StoredAuditEntry {
            sequence: *sequence,
            time: Some((*time).into()),
            actor: Some(actor.into()),
            revision: revision.get(),
            previous_hash: previous_hash.to_vec(),
            hash: hash.to_vec(),
            ..StoredAuditEntry::default()
        };
        match event {
            Event::Commit { changes } => {
                stored.changes = changes.iter().map(Into::into).collect();
            }
            Event::Denial(refusal) => stored.denial = Some(refusal.into()),
            Event::LoginFailure(refusal) => stored.login_failure = Some(refusal.into()),
            Event::Start { version } => stored.start = Some(version.clone()),
            Event::Stop => stored.stop = true,
            Event::Checkpoint(checkpoint) => stored.checkpoint = Some(checkpoint.into()),
        }
        stored.encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        let StoredAuditEntry {
            sequence,
            time,
            actor,
            revision,
            changes,
            previous_hash,
            hash,
            denial,
            login_failure,
            start,
            stop,
            checkpoint,
        } = message(payload)?;
        let event = match (denial, login_failure, start, stop, checkpoint) {
            (None, None, None, false, None) => {
                let changes = changes.into_iter().map(ResourceChange::try_from);
                Event::Commit { changes: changes.collect::<Result<_, _>>()? }
            }
            (Some(refusal), None, None, false, None) => Event::Denial(refusal.try_into()?),
            (None, Some(refusal), None, false, None) => Event::LoginFailure(refusal.try_into()?),
            (None, None, Some(version), false, None) => Event::Start { version },
            (None, None, None, true, None) => Event::Stop,
            (None, None, None, false, Some(checkpoint)) => {
                Event::Checkpoint(checkpoint.try_into()?)
            }
            _ => return Err(Damage::content("an audit entry is about several things")),
        };
        Ok(Self {
            sequence,
            time: time::required(time, "time")?,
            actor: StoredActor::into_actor(actor, texts)?,
            revision: Revision::new(revision),
            event,
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
        } = message(payload)?;
        let result = match (settings, role, revocation) {
            (Some(settings), None, None) => {
                AnswerResult::Settings(Arc::new(settings.into_settings(texts)?))
            }
            (None, Some(StoredAnswerRole { role }), None) => {
                AnswerResult::Role(optional_role(role, texts)?)
            }
            (None, None, Some(StoredAnswerRevocation { revocation })) => {
                AnswerResult::Revocation(optional_revocation(revocation, texts)?)
            }
            (None, None, None) => AnswerResult::Partners(
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
        Self { partner: partner.as_deref().map(Into::into) }
    }
}

fn optional_partner(
    stored: Option<StoredPartner>,
    texts: &mut Texts,
) -> Result<Option<Arc<AllowedPartner>>, Damage> {
    stored.map(|partner| partner.into_partner(texts).map(Arc::new)).transpose()
}

impl From<&Refusal> for StoredRefusal {
    fn from(refusal: &Refusal) -> Self {
        let Refusal {
            reason,
            permission,
            source,
            claimed_issuer,
            claimed_subject,
            count,
            first_time,
            last_time,
        } = refusal;
        Self {
            reason: reason.clone(),
            permission: permission.clone(),
            source: source.clone(),
            claimed_issuer: claimed_issuer.clone(),
            claimed_subject: claimed_subject.clone(),
            count: *count,
            first_time: Some((*first_time).into()),
            last_time: Some((*last_time).into()),
        }
    }
}

impl TryFrom<StoredRefusal> for Refusal {
    type Error = Damage;

    fn try_from(stored: StoredRefusal) -> Result<Self, Damage> {
        let StoredRefusal {
            reason,
            permission,
            source,
            claimed_issuer,
            claimed_subject,
            count,
            first_time,
            last_time,
        } = stored;
        Ok(Self {
            reason,
            permission,
            source,
            claimed_issuer,
            claimed_subject,
            count,
            first_time: time::required(first_time, "first_time")?,
            last_time: time::required(last_time, "last_time")?,
        })
    }
}

impl From<&Checkpoint> for StoredCheckpoint {
    fn from(Checkpoint { head, time, public_key, signature }: &Checkpoint) -> Self {
        Self {
            sequence: head.sequence,
            hash: head.hash.to_vec(),
            time: Some((*time).into()),
            public_key: public_key.to_vec(),
            signature: signature.to_vec(),
        }
    }
}

impl TryFrom<StoredCheckpoint> for Checkpoint {
    type Error = Damage;

    fn try_from(stored: StoredCheckpoint) -> Result<Self, Damage> {
        let StoredCheckpoint { sequence, hash, time, public_key, signature } = stored;
        Ok(Self {
            head: ChainHead { sequence, hash: array(&hash, "hash")? },
            time: time::required(time, "time")?,
            public_key: array(&public_key, "public key")?,
            signature: array(&signature, "signature")?,
        })
    }
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

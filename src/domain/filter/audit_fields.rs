//! The fields of audit entries, as the API names them.

use std::borrow::Cow;

use super::schema::{EnumNames, Field, Filterable, Kind, TextForm};
use crate::domain::audit::{AuditEntry, Event, Refusal, ResourceChange, Verb};

const KINDS: EnumNames = EnumNames {
    prefix: "KIND_",
    short: &[
        "COMMIT",
        "DENIAL",
        "LOGIN_FAILURE",
        "START",
        "STOP",
        "CHECKPOINT",
        "RETENTION",
        "REPLICA",
        "BACKUP",
        "RESTORE",
    ],
};

const fn kind(event: &Event) -> u8 {
    match event {
        Event::Commit { .. } => 0,
        Event::Denial(_) => 1,
        Event::LoginFailure(_) => 2,
        Event::Start { .. } => 3,
        Event::Stop => 4,
        Event::Checkpoint(_) => 5,
        Event::Retention(_) => 6,
        Event::Replica(_) => 7,
        Event::Backup { .. } => 8,
        Event::Restore { .. } => 9,
    }
}

const VERBS: EnumNames =
    EnumNames { prefix: "VERB_", short: &["CREATE", "UPDATE", "DELETE", "UNDELETE"] };

const fn verb(verb: Verb) -> u8 {
    match verb {
        Verb::Create => 0,
        Verb::Update => 1,
        Verb::Delete => 2,
        Verb::Undelete => 3,
    }
}

fn changes(entry: &AuditEntry) -> &[ResourceChange] {
    entry.event.changes()
}

/// A text of what was refused; empty if nothing was.
fn refused(entry: &AuditEntry, text: fn(&Refusal) -> &String) -> Cow<'_, str> {
    match &entry.event {
        Event::Denial(refusal) | Event::LoginFailure(refusal) => Cow::Borrowed(text(refusal)),
        _ => Cow::Borrowed(""),
    }
}

impl Filterable for AuditEntry {
    const FIELDS: &'static [Field<Self>] = &[
        Field::new(
            "name",
            Kind::Text(TextForm::Name("auditEntries/"), |e| Cow::Owned(e.sequence.to_string())),
        ),
        Field::new("sequence", Kind::Number(|e| i64::try_from(e.sequence).ok())),
        Field::new("create_time", Kind::Time(|e| Some(e.time))),
        Field::new("kind", Kind::Enum(&KINDS, |e| kind(&e.event))),
        Field::searched(
            "subject",
            Kind::Text(TextForm::Plain, |e| Cow::Borrowed(&e.actor.subject)),
        ),
        Field::new("issuer", Kind::Text(TextForm::Plain, |e| Cow::Borrowed(&e.actor.issuer))),
        Field::new(
            "request_id",
            Kind::Text(TextForm::Plain, |e| Cow::Borrowed(&e.actor.request_id)),
        ),
        Field::searched("reason", Kind::Text(TextForm::Plain, |e| Cow::Borrowed(&e.actor.reason))),
        Field::new("revision", Kind::Number(|e| Some(e.revision.as_i64()))),
        Field::new("changes", Kind::Messages(|e| !changes(e).is_empty())),
        Field::searched(
            "changes.resource",
            Kind::Texts(TextForm::Plain, |e, ask| {
                changes(e).iter().any(|change| ask(&change.resource))
            }),
        ),
        Field::new(
            "changes.verb",
            Kind::Enums(&VERBS, |e| {
                changes(e).iter().fold(0, |set, change| set | 1 << verb(change.verb))
            }),
        ),
        Field::new("refusal.reason", Kind::Text(TextForm::Plain, |e| refused(e, |r| &r.reason))),
        Field::new(
            "refusal.permission",
            Kind::Text(TextForm::Plain, |e| refused(e, |r| &r.permission)),
        ),
        Field::new("refusal.source", Kind::Text(TextForm::Plain, |e| refused(e, |r| &r.source))),
        Field::new(
            "refusal.claimed_issuer",
            Kind::Text(TextForm::Plain, |e| refused(e, |r| &r.claimed_issuer)),
        ),
        Field::searched(
            "refusal.claimed_subject",
            Kind::Text(TextForm::Plain, |e| refused(e, |r| &r.claimed_subject)),
        ),
    ];
}

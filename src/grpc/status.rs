//! From what went wrong to `google.rpc.Status`, in one exhaustive match.
//!
//! Every status carries an ErrorInfo of domain `federation.xmpp` with a stable reason; the rest of
//! the details depends on the kind. What is internal goes to the log under the request id, never
//! to the caller. This is the only file that makes statuses.

use std::{collections::HashMap, fmt::Display, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    auth::{Denial, layer::Rejection, policy::paths, token::TokenError},
    domain::{DomainName, Violation, role::Permission},
    registry::{Error, Kind, roles::Loss},
};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "federation.xmpp";

/// The most bytes of field violations in one status. A status travels in HTTP trailers, for which
/// clients reserve as little as 8 KiB.
const MAX_VIOLATION_BYTES: usize = 3_072;

/// The most bytes of one text in a status.
const MAX_TEXT_BYTES: usize = 600;

/// When to try again after an overload.
const RETRY_OVERLOADED: Duration = Duration::from_millis(200);
/// When to try a listing again that found too many others.
const RETRY_SCAN: Duration = Duration::from_secs(1);
/// When to try for a stream again.
const RETRY_STREAM: Duration = Duration::from_secs(10);
/// When to try again what has no room until a person makes some.
const RETRY_FULL: Duration = Duration::from_secs(60);
/// When to try another server, or this one after its restart.
const RETRY_DRAINING: Duration = Duration::from_secs(1);
/// When to try again while the keys of a token's issuer cannot be fetched.
const RETRY_KEYS: Duration = Duration::from_secs(5);

/// What a NOT_FOUND keeps from its caller. It stays beside the status for the layers around the
/// handlers, and is never sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller may not know of it")]
pub struct Withheld {
    /// The permission that does not reach it.
    pub permission: Permission,
    /// The domain that was refused before anybody looked whether a partner has it; `None` if
    /// something is there.
    pub unseen: Option<DomainName>,
}

impl Withheld {
    /// What a status withholds, if anything.
    pub fn by(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }

    fn beside(self, mut status: Status) -> Status {
        status.set_source(Arc::new(self));
        status
    }
}

/// A status with a stable reason and no further details.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    detailed(code, message, reason, [], ErrorDetails::new())
}

/// INVALID_ARGUMENT with every field that is at fault.
pub fn invalid(violations: Vec<Violation>) -> Status {
    invalid_and(violations, 0)
}

/// INVALID_ARGUMENT with the fields that are at fault, and word of so many others.
pub fn invalid_and(violations: Vec<Violation>, others: usize) -> Status {
    let violations: Vec<_> = violations.into_iter().map(clipped).collect();
    let mut details = ErrorDetails::new();
    let (mut bytes, mut shown) = (0, 0);
    for violation in &violations {
        bytes += violation.field.len() + violation.description.len();
        if shown > 0 && bytes > MAX_VIOLATION_BYTES {
            break;
        }
        details.add_bad_request_violation(&violation.field, &violation.description);
        shown += 1;
    }
    let message = match violations.as_slice() {
        [only] => only.to_string(),
        [first, ..] => format!("{first} (and {} more)", violations.len() - 1 + others),
        [] => "the request is not valid".into(),
    };
    let omitted = violations.len() - shown + others;
    let metadata = (omitted > 0).then(|| ("violations_omitted", omitted.to_string()));
    detailed(Code::InvalidArgument, message, "FIELD_INVALID", metadata, details)
}

/// RESOURCE_EXHAUSTED or UNAVAILABLE, with the time after which to try again.
pub fn retry_later(code: Code, reason: &str, message: &str, after: Duration) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(after));
    detailed(code, message, reason, [], details)
}

/// RESOURCE_EXHAUSTED: as many streams as this limit allows.
pub fn too_many_streams(limit: &str, most: usize) -> Status {
    let message = format!("{most} streams are open, which {limit} allows; close one, or try later");
    at_limit("TOO_MANY_STREAMS", limit, message, RETRY_STREAM)
}

/// RESOURCE_EXHAUSTED: the caller's listings and walks through the history wait for one another,
/// as many as this limit allows.
pub fn too_many_scans(limit: &str, most: usize) -> Status {
    let message = format!(
        "{most} of your listings and histories are under way, which {limit} allows; wait for one"
    );
    at_limit("TOO_MANY_SCANS", limit, message, RETRY_SCAN)
}

/// RESOURCE_EXHAUSTED: a scan has waited for its turn as long as this limit allows.
pub fn scan_waited(limit: &str, wait: Duration) -> Status {
    let message = format!("no turn came within {wait:?}, which {limit} allows; try again");
    at_limit("TOO_MANY_SCANS", limit, message, RETRY_SCAN)
}

/// RESOURCE_EXHAUSTED because of the limit of that name, with the time after which to try again.
pub fn at_limit(reason: &str, limit: &str, message: String, after: Duration) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(after));
    details.add_quota_failure_violation(limit, &message);
    let metadata = [("limit", limit.to_owned())];
    detailed(Code::ResourceExhausted, message, reason, metadata, details)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let Error { kind, index } = error;
        let index = index.map(|index| ("index", index.to_string()));
        match kind {
            Kind::Invalid(violations) => invalid(violations),
            Kind::NotFound { resource, hint } => not_found(&resource, &hint, index),
            Kind::Hidden { resource, hint, permission } => {
                let withheld = Withheld { permission, unseen: None };
                withheld.beside(not_found(&resource, &hint, index))
            }
            Kind::AlreadyExists { resource } => {
                let message = format!("{resource} exists already; update it instead");
                about(Code::AlreadyExists, "RESOURCE_EXISTS", message, &resource, index)
            }
            Kind::DomainTaken { domain, owner } => {
                let owner = owner.map(|owner| format!("allowedPartners/{owner}"));
                let by = owner.as_deref().unwrap_or("another partner");
                let message = format!("{domain} belongs to {by}; remove it there first");
                let metadata = [Some(("domain", domain.to_string())), index]
                    .into_iter()
                    .flatten()
                    .chain(owner.clone().map(|owner| ("owner", owner)));
                detailed(
                    Code::AlreadyExists,
                    message,
                    "DOMAIN_TAKEN",
                    metadata,
                    ErrorDetails::new(),
                )
            }
            Kind::StaleEtag { resource, current } => {
                let message = format!("{resource} has changed since; read it again and retry");
                let current = current.map(|etag| ("current_etag", etag.to_string()));
                let metadata = index.into_iter().chain(current);
                about(Code::Aborted, "ETAG_MISMATCH", message, &resource, metadata)
            }
            Kind::BuiltInRole { resource } => {
                let message =
                    format!("{resource} comes with the service and cannot be changed; make a role");
                about(Code::FailedPrecondition, "ROLE_BUILT_IN", message, &resource, index)
            }
            Kind::RoleInUse { resource, losses } => role_in_use(&resource, &losses),
            Kind::SelfRevocation => status(
                Code::FailedPrecondition,
                "SELF_REVOCATION",
                "this would revoke what you came with yourself; set force if you mean it",
            ),
            Kind::TooMany { what, most } => too_many(what, most),
            Kind::RevisionMismatch { expected, current } => detailed(
                Code::Aborted,
                format!(
                    "the state is not at revision {expected} any more but at {current}; look at \
                     what has changed and repeat"
                ),
                "REVISION_MISMATCH",
                [("current_revision", current.to_string())],
                ErrorDetails::new(),
            ),
            Kind::RestoreUnderWay => {
                let message = "a backup is being restored; wait for its end";
                retry_later(Code::ResourceExhausted, "RESTORE_UNDER_WAY", message, RETRY_STREAM)
            }
            Kind::RestoreTooLarge { changes, most } => restore_too_large(
                format!("{changes} resources would be changed, and {most} may be at once"),
                "limits.max_restore_changes",
            ),
            Kind::Denied(denial) => denied(denial, index),
            Kind::RevisionToCome { current } => detailed(
                Code::OutOfRange,
                format!(
                    "the last revision is {current}; the metadata x-min-revision waits for a later \
                     one"
                ),
                "REVISION_AHEAD",
                [("current_revision", current.to_string())],
                ErrorDetails::new(),
            ),
            Kind::PageTokenExpired { revision } => detailed(
                Code::OutOfRange,
                "the listing's revision is no longer kept; list again from the start",
                "PAGE_TOKEN_EXPIRED",
                [("revision", revision.to_string())],
                ErrorDetails::new(),
            ),
            Kind::Compacted { oldest } => detailed(
                Code::OutOfRange,
                format!("the history before revision {oldest} is no longer kept; start anew"),
                "REVISION_COMPACTED",
                [("oldest_revision", oldest.to_string())],
                ErrorDetails::new(),
            ),
            Kind::AuditCompacted { oldest } => detailed(
                Code::OutOfRange,
                format!("the audit before entry {oldest} is no longer kept; begin with that"),
                "AUDIT_COMPACTED",
                [("oldest_sequence", oldest.to_string())],
                ErrorDetails::new(),
            ),
            Kind::ReplicaOfAnother { replica } => status(
                Code::PermissionDenied,
                "REPLICA_OF_ANOTHER",
                format!(
                    "another subject reports as replicas/{replica}; give this server another id, or \
                     have an administrator delete that replica: partnerctl replica delete {replica}"
                ),
            ),
            Kind::ReplicaNotSubject => status(
                Code::PermissionDenied,
                "REPLICA_NOT_SUBJECT",
                "here a replica's id must be the subject of its token (replicas.id_is_subject); \
                 report as replicas/ and that subject",
            ),
            Kind::TooManyReplicas { limit } => too_many_replicas(limit),
            Kind::RevisionAhead { given, last } => detailed(
                Code::FailedPrecondition,
                format!(
                    "revision {given} was never committed here, the last one is {last}; the caller \
                     follows another history and must begin anew"
                ),
                "REVISION_AHEAD",
                [("revision", last.to_string())],
                ErrorDetails::new(),
            ),
            Kind::Overloaded => {
                let text = "too many writes wait; try again".to_owned();
                at_limit("WRITE_QUEUE_FULL", "limits.write_queue", text, RETRY_OVERLOADED)
            }
            Kind::SubjectOverloads { most } => at_limit(
                "WRITE_QUEUE_FULL",
                "limits.write_queue_per_subject",
                format!("{most} of your writes wait already; wait for their answers"),
                RETRY_OVERLOADED,
            ),
            Kind::Draining => draining(),
            Kind::ReadOnly { reason } => read_only(&reason),
            Kind::Internal(text) => internal(&text),
        }
    }
}

impl From<Denial> for Status {
    fn from(denial: Denial) -> Self {
        denied(denial, None)
    }
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Token(error @ TokenError::KeysUnavailable) => {
                let text = error.to_string();
                retry_later(Code::Unavailable, error.reason(), &text, RETRY_KEYS)
            }
            Rejection::Token(error) => {
                status(Code::Unauthenticated, error.reason(), error.to_string())
            }
            Rejection::Denied(denial) => denial.into(),
            Rejection::TooOften { retry_after } => {
                let text = "too many of your calls were refused; mend what is wrong, then wait";
                retry_later(Code::ResourceExhausted, "TOO_MANY_REFUSALS", text, retry_after)
            }
        }
    }
}

/// What the gRPC library answers by itself, in our terms. Ours carry details; its own do not.
pub fn of_library(found: Status) -> Status {
    if !found.details().is_empty() {
        return found;
    }
    let message = found.message();
    match found.code() {
        Code::OutOfRange => {
            let message = format!("{message}; send less at a time");
            let mut details = ErrorDetails::new();
            details.add_quota_failure_violation("limits.max_message_bytes", &message);
            detailed(Code::ResourceExhausted, message, "MESSAGE_TOO_LARGE", [], details)
        }
        Code::Internal => {
            let message = format!("the message is not the one this method takes: {message}");
            status(Code::InvalidArgument, "MESSAGE_MALFORMED", message)
        }
        Code::Unimplemented if message.is_empty() => {
            let message = "there is no such method; compare the client's version with the server's";
            status(Code::Unimplemented, "METHOD_UNKNOWN", message)
        }
        // The library has no other use for this code than an encoding it was not told to take.
        Code::Unimplemented => {
            let message = format!("{message}; send messages without compression");
            status(Code::Unimplemented, "COMPRESSION_UNSUPPORTED", message)
        }
        _ => found,
    }
}

/// UNAVAILABLE: the server is going away.
pub fn draining() -> Status {
    let message = "the server is shutting down; try another one, or again soon";
    retry_later(Code::Unavailable, "DRAINING", message, RETRY_DRAINING)
}

/// INVALID_ARGUMENT: not a backup, or not one that can be believed.
pub fn bad_backup(why: impl Display) -> Status {
    status(Code::InvalidArgument, "BACKUP_INVALID", format!("the backup is refused: {why}"))
}

/// RESOURCE_EXHAUSTED: more than a restore may be, by this limit.
pub fn restore_too_large(what: String, limit: &str) -> Status {
    let message = format!("{what}; raise {limit} for this restore");
    let mut details = ErrorDetails::new();
    details.add_quota_failure_violation(limit, &message);
    let metadata = [("limit", limit.to_owned())];
    detailed(Code::ResourceExhausted, message, "RESTORE_TOO_LARGE", metadata, details)
}

/// DEADLINE_EXCEEDED: the client went on neither reading nor sending.
pub fn stalled(patience: Duration) -> Status {
    let message = format!("nothing was read or sent on for {patience:?}; begin anew");
    status(Code::DeadlineExceeded, "TRANSFER_STALLED", message)
}

/// ABORTED: the client paused for too long while the state was told.
pub fn state_given_up() -> Status {
    let message = "the state was not read on for too long and is no longer kept; start anew";
    status(Code::Aborted, "STATE_GIVEN_UP", message)
}

/// INTERNAL; `text` goes to the log alone.
pub fn internal(text: &str) -> Status {
    tracing::error!(error = text, "internal error");
    let message = "internal error; the server's log has more under the request id";
    status(Code::Internal, "INTERNAL", message)
}

/// PERMISSION_DENIED, or NOT_FOUND where the caller may not even know of the resource.
pub fn denied<'a>(denial: Denial, index: impl IntoIterator<Item = (&'a str, String)>) -> Status {
    let (message, permission, extra) = match denial {
        Denial::Method => {
            let message = "this method names no permission, so nobody may call it".to_owned();
            return status(Code::PermissionDenied, "METHOD_DENIED", message);
        }
        Denial::Scope { permission, domain, visible: false } => {
            let status = not_found(&format!("allowedPartners/{domain}"), "", None);
            return Withheld { permission, unseen: Some(domain) }.beside(status);
        }
        Denial::Permission(permission) => (
            format!("the permission {permission} is missing; ask for a role that gives it"),
            permission,
            None,
        ),
        Denial::Escalation { beyond } => {
            let beyond: Vec<_> = beyond.iter().map(Permission::as_str).collect();
            let beyond = beyond.join(",");
            let message = format!(
                "the role gives more than your roles do, or further: {beyond}; ask for a role that \
                 gives {}",
                Permission::RolesEscalate
            );
            (message, Permission::RolesEscalate, Some(("beyond", beyond)))
        }
        Denial::Fields { permission, fields, updatable } => {
            let may = match paths(updatable).as_str() {
                "" => "no field".to_owned(),
                fields => fields.to_owned(),
            };
            let fields = paths(fields);
            let message = format!("your roles may change {may} of this partner, not {fields}");
            (message, permission, Some(("fields", fields)))
        }
        Denial::Scope { permission, domain, visible: true } => (
            format!("your roles give {permission}, but not for {domain}"),
            permission,
            Some(("domain", domain.to_string())),
        ),
    };
    let metadata = [("permission", permission.to_string())];
    let metadata = metadata.into_iter().chain(extra).chain(index);
    detailed(Code::PermissionDenied, message, "PERMISSION_DENIED", metadata, ErrorDetails::new())
}

fn too_many_replicas(limit: usize) -> Status {
    let message = format!(
        "there are {limit} replicas already; delete those that are gone, or raise \
         replicas.max_count"
    );
    let mut details = ErrorDetails::new();
    details.add_quota_failure_violation("replicas.max_count", &message);
    details.set_retry_info(Some(RETRY_FULL));
    detailed(Code::ResourceExhausted, message, "TOO_MANY_REPLICAS", [], details)
}

/// The most holders of a role that a status names.
const MAX_LOSSES: usize = 10;

fn role_in_use(resource: &str, losses: &[Loss]) -> Status {
    let mut details = ErrorDetails::new();
    for Loss { holder, permissions } in losses.iter().take(MAX_LOSSES) {
        let permissions: Vec<_> = permissions.iter().map(|lost| lost.as_str()).collect();
        let text = clip(format!("would lose {}, in part or whole", permissions.join(", ")));
        let subject = clip(format!("{} of {}", holder.subject, holder.issuer));
        details.add_precondition_failure_violation("ROLE_HOLDER", subject, text);
    }
    let named: Vec<_> = losses.iter().take(3).map(|loss| &*loss.holder.subject).collect();
    let message = format!(
        "{resource} is in use: {} who were seen with it would lose rights ({}{}); set force if you \
         mean it",
        losses.len(),
        named.join(", "),
        if losses.len() > named.len() { ", ..." } else { "" },
    );
    let metadata = [("holders", losses.len().to_string())];
    detailed(Code::FailedPrecondition, message, "ROLE_IN_USE", metadata, details)
}

fn too_many(what: &str, most: usize) -> Status {
    let message = format!("there are {most} {what} and can be no more; delete some");
    let mut details = ErrorDetails::new();
    details.add_quota_failure_violation(what, &message);
    let metadata = [("limit", most.to_string())];
    detailed(Code::ResourceExhausted, message, "TOO_MANY_RESOURCES", metadata, details)
}

fn read_only(reason: &str) -> Status {
    tracing::warn!(reason, "a write was refused: the store takes none");
    let message = "the store takes no writes since it failed; reads go on, and the server's log \
                   says why";
    let mut details = ErrorDetails::new();
    details.add_precondition_failure_violation("STORE", "store", message);
    detailed(Code::FailedPrecondition, message, "STORE_READ_ONLY", [], details)
}

fn not_found<'a>(
    resource: &str,
    hint: &str,
    index: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let message = match hint {
        "" => format!("{resource} does not exist"),
        hint => format!("{resource} does not exist: {hint}"),
    };
    about(Code::NotFound, "RESOURCE_NOT_FOUND", message, resource, index)
}

/// A status about one resource.
fn about<'a>(
    code: Code,
    reason: &str,
    message: String,
    resource: &str,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let resource = clip(resource.to_owned());
    let kind = match resource.split_once('/') {
        Some(("allowedPartners", _)) => "federation.xmpp/AllowedPartner",
        Some(("roles", _)) => "federation.xmpp/Role",
        Some(("replicas", _)) => "federation.xmpp/Replica",
        Some(("auditEntries", _)) => "federation.xmpp/AuditEntry",
        Some(("revocations", _)) => "federation.xmpp/Revocation",
        _ => "federation.xmpp/FederationSettings",
    };
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind, resource.as_str(), "", clip(message.clone()));
    detailed(code, message, reason, metadata, details)
}

fn detailed<'a>(
    code: Code,
    message: impl Into<String>,
    reason: &str,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
    mut details: ErrorDetails,
) -> Status {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), clip(value))).collect();
    details.set_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, clip(message.into()), details)
}

fn clipped(violation: Violation) -> Violation {
    let Violation { field, description } = violation;
    Violation { field: clip(field), description: clip(description) }
}

/// A text that may repeat what the caller sent, cut to what every client can take.
fn clip(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

//! What every handler starts and ends with: who calls, on what terms, and what the response says
//! beside its message.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use tokio::time::Instant;
use tonic::{
    Extensions, Request, Response, Status,
    metadata::{MetadataMap, MetadataValue},
};
use uuid::{Uuid, Version};

use super::status;
use crate::{
    auth::{Call, Caller},
    domain::{Revision, Violation},
    registry::{self, Registry},
    telemetry::RequestInfo,
};

/// Metadata: wait until this revision is visible.
pub const MIN_REVISION: &str = "x-min-revision";
/// Metadata: why a change is made, in ASCII.
pub const CHANGE_REASON: &str = "x-change-reason";
/// Metadata: why a change is made, in UTF-8.
pub const CHANGE_REASON_BIN: &str = "x-change-reason-bin";
/// Response metadata: the revision that the response holds at.
pub const REVISION: &str = "x-revision";

/// When a call is answered DEADLINE_EXCEEDED. The deadline layer leaves it in the extensions.
#[derive(Clone, Copy, Debug)]
pub struct CallDeadline(pub Instant);

/// How long a call may take whose deadline is not known.
const UNKNOWN_DEADLINE: Duration = Duration::from_secs(10);

/// What of its time a call that waits keeps for its answer: a tenth, and no more than this.
const LONGEST_MARGIN: Duration = Duration::from_secs(1);

const MAX_REASON_CHARS: usize = 1_024;

/// A call as its handler takes it up: authenticated, and on a state that is new enough.
pub struct Begun<T> {
    /// Who calls, and why.
    pub call: Call,
    /// What he sent.
    pub message: T,
    info: Arc<RequestInfo>,
    deadline: Instant,
}

/// Takes up a request: finds its caller, reads the metadata that every method knows, and waits
/// for the revision asked for.
pub async fn begin<T>(registry: &Registry, request: Request<T>) -> Result<Begun<T>, Status> {
    let (metadata, extensions, message) = request.into_parts();
    let deadline = extensions.get::<CallDeadline>().map(|deadline| deadline.0);
    let deadline = deadline.unwrap_or_else(|| Instant::now() + UNKNOWN_DEADLINE);
    let (caller, info) = identity(&extensions)?;
    let reason = change_reason(&metadata)?;
    if let Some(revision) = min_revision(&metadata)? {
        registry.wait_for(revision).await;
    }
    let call = Call { caller, request_id: Arc::clone(info.id()), reason };
    Ok(Begun { call, message, info, deadline })
}

impl<T> Begun<T> {
    /// How long this call may still wait, so that its answer comes before its deadline.
    pub fn patience(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub((left / 10).min(LONGEST_MARGIN))
    }

    /// The response that answers this call, of the state at `revision`.
    pub fn response<M>(&self, message: M, revision: Revision) -> Response<M> {
        self.info.set_revision(revision);
        let mut response = Response::new(message);
        response.metadata_mut().insert(REVISION, MetadataValue::from(revision.get()));
        response
    }
}

/// Who calls, and what is known of his request, as the layers left it.
pub(super) fn identity(extensions: &Extensions) -> Result<(Arc<Caller>, Arc<RequestInfo>), Status> {
    match (extensions.get::<Arc<Caller>>(), extensions.get::<Arc<RequestInfo>>()) {
        (Some(caller), Some(info)) => Ok((Arc::clone(caller), Arc::clone(info))),
        // Fails closed: a server put together without its layers serves nobody.
        _ => Err(status::internal("a request came past the authentication or telemetry layer")),
    }
}

fn min_revision(metadata: &MetadataMap) -> Result<Option<Revision>, Status> {
    let Some(value) = metadata.get(MIN_REVISION) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    number.map(|number| Some(Revision::new(number))).ok_or_else(|| {
        let text = "not a revision; give a number that a response has stated";
        status::invalid(vec![Violation::new(MIN_REVISION, text)])
    })
}

fn change_reason(metadata: &MetadataMap) -> Result<Arc<str>, Status> {
    let refuse = |text: &str| status::invalid(vec![Violation::new(CHANGE_REASON, text)]);
    let binary = metadata.get_bin(CHANGE_REASON_BIN).map(|value| {
        let bytes = value.to_bytes().map_err(|_| refuse("not base64"))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| refuse("not UTF-8"))
    });
    let reason = match (binary, metadata.get(CHANGE_REASON)) {
        (Some(text), _) => text?,
        (None, Some(value)) => match value.to_str() {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(refuse("not ASCII; send it as x-change-reason-bin in UTF-8")),
        },
        (None, None) => return Ok(Arc::from("")),
    };
    if reason.chars().count() > MAX_REASON_CHARS {
        return Err(refuse("at most 1,024 characters are allowed"));
    }
    if reason.chars().any(char::is_control) {
        return Err(refuse("control characters are not allowed; remove them"));
    }
    Ok(reason.into())
}

/// The request that may be retried, if its caller gave it an id.
///
/// # Errors
/// A violation if the id is no UUID4.
pub fn retryable<M: Message>(
    method: &str,
    request_id: &str,
    message: &M,
) -> Result<Option<registry::Request>, Violation> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let id = Uuid::parse_str(request_id).ok().filter(|id| {
        id.get_version() == Some(Version::Random)
            && request_id.len() == uuid::fmt::Hyphenated::LENGTH
    });
    let id = id.ok_or_else(|| {
        Violation::new("request_id", "not a UUID4; make one for each request, or leave it out")
    })?;
    let mut bytes = method.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend(message.encode_to_vec());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    Ok(Some(registry::Request { id, fingerprint }))
}

//! What the server tells its operator: one log line for each call, and who asked for it.
//!
//! Never logged: tokens, keys, passphrases, bodies of requests and responses.

mod layer;
mod report;

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    panic,
    sync::{Arc, OnceLock},
};

use http::HeaderMap;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};
use uuid::Uuid;

use crate::{
    config::{Log, LogFormat},
    domain::Revision,
};

pub use self::layer::Telemetry;

/// The metadata key of the request id, in both directions.
pub const REQUEST_ID: &str = "x-request-id";

/// The longest request id taken from a client, in characters.
pub const MAX_REQUEST_ID: usize = 64;

/// What is learnt about a request on its way in; the log line at its end is made of it.
///
/// The outermost layer puts an `Arc<RequestInfo>` into the request's extensions. Whoever learns
/// more tells it; what has been told once stays.
#[derive(Debug)]
pub struct RequestInfo {
    id: Arc<str>,
    subject: OnceLock<Arc<str>>,
    revision: OnceLock<Revision>,
}

impl RequestInfo {
    /// The request with these headers: its client's `x-request-id` if it is 1 to 64 letters,
    /// digits, `-`, `_`, `.` or `:`, and a new UUID4 otherwise.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let id = match given.filter(|id| is_safe(id)) {
            Some(id) => id.into(),
            None => {
                Arc::from(&*Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        };
        Self { id, subject: OnceLock::new(), revision: OnceLock::new() }
    }

    /// The id that the log, the response's metadata and an INTERNAL error name.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Tells whose request it is, once the token has been verified.
    pub fn set_subject(&self, subject: Arc<str>) {
        // Only the first is kept: a request has one subject.
        let _ = self.subject.set(subject);
    }

    /// Tells at which revision the request was answered.
    pub fn set_revision(&self, revision: Revision) {
        // Only the first is kept, as with the subject.
        let _ = self.revision.set(revision);
    }

    /// Whose request it is, if it has been told.
    pub fn subject(&self) -> Option<&str> {
        self.subject.get().map(AsRef::as_ref)
    }

    /// The revision at which it was answered, if it has been told.
    pub fn revision(&self) -> Option<Revision> {
        self.revision.get().copied()
    }
}

/// The other end of the connection that a request came on; in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Sends the process's log to standard error, and panics with it.
///
/// # Panics
/// If the process has a log already: this is called once, by `main`.
pub fn init(log: &Log) {
    subscriber(log, io::stderr).init();
    panic::set_hook(Box::new(log_panic));
}

/// What takes the log lines and writes them.
pub(crate) fn subscriber<W>(log: &Log, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let Log { format, filter } = log;
    let filter = EnvFilter::try_new(filter).expect("the configuration was checked");
    let registry = Registry::default().with(filter);
    let lines = fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
    let harmless = filter_fn(shows_no_header);
    match format {
        LogFormat::Text => Box::new(registry.with(lines.with_filter(harmless))),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            Box::new(registry.with(lines.with_filter(harmless)))
        }
    }
}

/// The HTTP/2 library logs the headers it decodes, tokens among them, at the levels below INFO,
/// and a warning for every frame of some kinds that a client should not have sent: no filter that
/// anybody sets lets those through.
fn shows_no_header(metadata: &Metadata<'_>) -> bool {
    let decodes_headers = metadata.target().starts_with("h2");
    !decodes_headers || *metadata.level() <= Level::ERROR
}

fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let formatted = payload.downcast_ref::<String>().map(String::as_str);
    let message = formatted.or_else(|| payload.downcast_ref().copied()).unwrap_or("no message");
    tracing::error!(location, message, "panicked; this is a bug in the server");
}

fn is_safe(id: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.chars().all(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> String {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(REQUEST_ID),
            given.parse().unwrap(),
        )]);
        RequestInfo::from_headers(&headers).id().to_string()
    }

    #[test]
    fn a_clients_safe_request_id_is_kept() {
        for id in ["a", "trace-1_2.3:4", &"x".repeat(MAX_REQUEST_ID)] {
            assert_eq!(id_for(id), id);
        }
    }

    #[test]
    fn any_other_request_id_is_replaced_by_a_uuid() {
        for id in ["", "two words", "a\"b", "é", &"x".repeat(MAX_REQUEST_ID + 1)] {
            assert_eq!(Uuid::parse_str(&id_for(id)).unwrap().get_version_num(), 4, "{id}");
        }
        let none = RequestInfo::from_headers(&HeaderMap::new());
        assert!(Uuid::parse_str(none.id()).is_ok());
    }

    #[test]
    fn what_is_told_first_stays() {
        let info = RequestInfo::from_headers(&HeaderMap::new());
        info.set_subject("alice".into());
        info.set_subject("mallory".into());
        info.set_revision(Revision::new(7));
        info.set_revision(Revision::new(8));
        assert_eq!((info.subject(), info.revision()), (Some("alice"), Some(Revision::new(7))));
    }
}

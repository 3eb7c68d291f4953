//! The errors that the layers answer with before a call reaches its service.

use std::{collections::HashMap, time::Duration};

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every reason, as `google.rpc.ErrorInfo` has it.
const DOMAIN: &str = "federation.xmpp";

/// When a client that was refused for want of room may try again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why a layer refuses a call.
#[derive(Debug)]
pub(super) enum Refusal<'a> {
    /// The service panicked.
    Panicked { request_id: &'a str },
    /// The deadline has passed.
    TooLate { allowed: Duration },
    /// The `grpc-timeout` is not one.
    BadDeadline,
    /// As many calls run as may.
    TooManyCalls { limit: usize },
}

impl Refusal<'_> {
    /// The status, with its details.
    pub fn status(&self) -> Status {
        let (code, reason, message) = match self {
            Self::Panicked { request_id } => (
                Code::Internal,
                "INTERNAL",
                format!("internal error; when you report it, quote the request id {request_id}"),
            ),
            Self::TooLate { allowed } => (
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                format!("no answer within {allowed:?}; ask for less, or allow more time"),
            ),
            Self::BadDeadline => (
                Code::InvalidArgument,
                "DEADLINE_MALFORMED",
                "grpc-timeout is malformed; write 1 to 8 digits and one of H, M, S, m, u, n"
                    .to_owned(),
            ),
            Self::TooManyCalls { limit } => (
                Code::ResourceExhausted,
                "TOO_MANY_CALLS",
                format!("{limit} calls are running, which is the limit; try again shortly"),
            ),
        };
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, self.metadata());
        if let Self::TooManyCalls { .. } = self {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        Status::with_error_details(code, message, details)
    }

    /// The response: trailers only.
    pub fn response(&self) -> Response<Body> {
        self.status().into_http()
    }

    fn metadata(&self) -> HashMap<String, String> {
        let (key, value) = match self {
            Self::Panicked { request_id } => ("request_id", (*request_id).to_owned()),
            Self::TooManyCalls { limit } => ("limit", limit.to_string()),
            Self::TooLate { .. } | Self::BadDeadline => return HashMap::new(),
        };
        HashMap::from([(key.to_owned(), value)])
    }
}

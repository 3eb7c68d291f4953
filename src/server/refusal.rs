//! The errors that the layers answer with before a call reaches its service, or in its stead.

use std::time::Duration;

use http::{HeaderMap, Response};
use http_body::Frame;
use tonic::{Code, Status};

use crate::grpc::status;

/// When a client that was refused for want of room may try again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why a layer refuses a call, or breaks it off.
#[derive(Debug)]
pub(super) enum Refusal<'a> {
    /// The service panicked.
    Panicked { request_id: &'a str },
    /// The deadline has passed.
    TooLate { allowed: Duration },
    /// The `grpc-timeout` is not one.
    BadDeadline,
    /// As many calls run as this limit allows.
    TooManyCalls { limit: &'static str, most: usize },
    /// Calls wait too long for a processor.
    Overloaded,
    /// The server is going away.
    Draining,
}

impl Refusal<'_> {
    /// As a response of its own: trailers only.
    pub fn response<B: Default>(&self) -> Response<B> {
        self.status().into_http()
    }

    /// As the end of a response that has begun.
    pub fn trailers<D>(&self) -> Result<Frame<D>, Status> {
        let mut trailers = HeaderMap::new();
        self.status().add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }

    fn status(&self) -> Status {
        match self {
            Self::Panicked { request_id } => status::status(
                Code::Internal,
                "INTERNAL",
                format!("internal error; when you report it, quote the request id {request_id}"),
            ),
            Self::TooLate { allowed } => status::status(
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                format!("no answer within {allowed:?}; ask for less, or allow more time"),
            ),
            Self::BadDeadline => status::status(
                Code::InvalidArgument,
                "DEADLINE_MALFORMED",
                "grpc-timeout is malformed; write 1 to 8 digits and one of H, M, S, m, u, n",
            ),
            Self::TooManyCalls { limit, most } => status::at_limit(
                "TOO_MANY_CALLS",
                limit,
                format!("{most} calls are running, which is all that {limit} allows; try again"),
                RETRY_DELAY,
            ),
            Self::Overloaded => status::retry_later(
                Code::ResourceExhausted,
                "SERVER_OVERLOADED",
                "the server has more calls than it can serve in time; try again shortly",
                RETRY_DELAY,
            ),
            Self::Draining => status::draining(),
        }
    }
}

//! The one log line of a call, written when its last part is gone.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, Request, StatusCode, Uri};
use tonic::{Code, Status};

use super::{Peer, RequestInfo};

/// The longest method that is logged, in octets: a path is any client's to choose.
const MAX_METHOD: usize = 256;

/// Writes the line when it is dropped, with the last status it was told. A call that ends without
/// one was given up by its client.
#[derive(Debug)]
pub(super) struct Report {
    info: Arc<RequestInfo>,
    /// Shares the bytes of the request's head.
    uri: Uri,
    peer: Option<Peer>,
    started: Instant,
    status: &'static str,
    http_status: Option<u16>,
}

impl Report {
    pub fn new<B>(request: &Request<B>, info: Arc<RequestInfo>) -> Self {
        Self {
            info,
            uri: request.uri().clone(),
            peer: request.extensions().get().copied(),
            started: Instant::now(),
            status: name(Code::Cancelled),
            http_status: None,
        }
    }

    pub fn method(&self) -> &str {
        let path = self.uri.path();
        let end = (0..=path.len().min(MAX_METHOD)).rev().find(|&end| path.is_char_boundary(end));
        &path[..end.unwrap_or(0)]
    }

    /// Takes the status from a head, where a response without messages has it.
    pub fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        if status != StatusCode::OK {
            self.http_status = Some(status.as_u16());
            self.status = name(Code::Unknown);
        }
        self.trailers(headers);
    }

    /// Takes the status from the trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(trailers) {
            self.status = name(status.code());
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let micros = u32::try_from(self.started.elapsed().as_micros()).unwrap_or(u32::MAX);
        tracing::info!(
            parent: None,
            request.id = %self.info.id(),
            method = self.method(),
            status = self.status,
            http.status = self.http_status,
            latency_ms = f64::from(micros) / 1000.0,
            subject = self.info.subject(),
            revision = self.info.revision().map(|revision| revision.get()),
            peer = self.peer.map(|Peer(address)| tracing::field::display(address)),
            "call"
        );
    }
}

/// The name of a code as the gRPC documentation writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

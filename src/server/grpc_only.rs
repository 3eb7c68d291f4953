//! Turns away what is not gRPC.

use std::{
    convert::Infallible,
    future,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::{CallFuture, CallService};

/// Answers 415 to another content type than `application/grpc` and 405 to another method than
/// POST, without a gRPC status, as the gRPC protocol over HTTP/2 has it.
#[derive(Clone, Debug)]
pub struct GrpcOnly<S> {
    inner: S,
}

impl<S> GrpcOnly<S> {
    /// Around this service.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: CallService> Service<Request<Body>> for GrpcOnly<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> CallFuture {
        if request.method() != Method::POST {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Box::pin(future::ready(Ok(response)));
        }
        if !is_grpc(request.headers()) {
            return Box::pin(future::ready(Ok(empty(StatusCode::UNSUPPORTED_MEDIA_TYPE))));
        }
        Box::pin(self.inner.clone().oneshot(request))
    }
}

/// `application/grpc`, and with a message format as in `application/grpc+proto`; but not
/// `application/grpc-web`, which is another protocol.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    match content_type.and_then(|bytes| bytes.strip_prefix(b"application/grpc")) {
        Some(rest) => rest.first().is_none_or(|next| matches!(next, b'+' | b';')),
        None => false,
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

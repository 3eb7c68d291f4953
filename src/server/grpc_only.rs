//! Turns away what is not gRPC.

use std::future::ready;

use futures_util::{FutureExt, future::Either};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use super::body::{Answered, ResponseBody};
use crate::service::CallService;

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

impl<S: CallService<Body, Body: ResponseBody>> CallService<Body> for GrpcOnly<S> {
    type Body = Answered<S::Body>;

    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<S> {
        if request.method() != Method::POST {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Either::Left(ready(response));
        }
        if !is_grpc(request.headers()) {
            return Either::Left(ready(empty(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
        }
        let answer = self.inner.call(request);
        Either::Right(answer.map(|response| response.map(Answered::Service)))
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

fn empty<B: Default>(status: StatusCode) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = status;
    response
}

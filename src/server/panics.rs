//! A panic ends its call and nothing else.

use std::{
    any::Any,
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Either};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{body::ResponseBody, refusal::Refusal};
use crate::{service::CallService, telemetry::RequestInfo};

/// Answers INTERNAL, with the request id, to a call whose service panics; also when it panics
/// while it streams. The process's panic hook has logged it by then.
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

/// A response that ends with INTERNAL if making the next part of it panics.
#[derive(Debug)]
pub struct CaughtBody<B> {
    /// `None` once it or its service has panicked: what is left of it must not be touched.
    inner: Option<B>,
    request_id: Arc<str>,
}

type Panic = Box<dyn Any + Send>;

impl<S> CatchPanic<S> {
    /// Around this service.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: CallService<Body, Body: ResponseBody>> CallService<Body> for CatchPanic<S> {
    type Body = CaughtBody<S::Body>;

    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<S> {
        let info = request.extensions().get::<Arc<RequestInfo>>();
        let request_id = info.map_or_else(|| "unknown".into(), |info| info.id().clone());
        // Unwind safety is asserted because the call is dropped at once, and what it shares with
        // others is behind locks that poison or values that are swapped whole.
        let answer = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let answer = match answer {
            Ok(answer) => Either::Left(AssertUnwindSafe(answer).catch_unwind()),
            Err(panic) => Either::Right(ready(Err(panic))),
        };
        answer.map(|answer| end(answer, request_id))
    }
}

fn end<B>(answer: Result<Response<B>, Panic>, request_id: Arc<str>) -> Response<CaughtBody<B>> {
    let response = match answer {
        Ok(response) => response.map(Some),
        Err(_logged) => Refusal::Panicked { request_id: &request_id }.response(),
    };
    response.map(|inner| CaughtBody { inner, request_id })
}

impl<B: ResponseBody> http_body::Body for CaughtBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx))) {
            Ok(poll) => poll,
            Err(_logged) => {
                self.inner = None;
                let refusal = Refusal::Panicked { request_id: &self.request_id };
                Poll::Ready(Some(refusal.trailers()))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

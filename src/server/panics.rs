//! A panic ends its call and nothing else.

use std::{
    any::Any,
    convert::Infallible,
    future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};

use super::{CallFuture, CallService, refusal::Refusal};
use crate::telemetry::RequestInfo;

/// Answers INTERNAL, with the request id, to a call whose service panics; also when it panics
/// while it streams. The process's panic hook has logged it by then.
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

/// A response that ends with INTERNAL if making the next part of it panics.
struct CaughtBody {
    /// `None` once it has panicked: what is left of it must not be touched.
    inner: Option<Body>,
    request_id: Arc<str>,
}

type Panic = Box<dyn Any + Send>;

impl<S> CatchPanic<S> {
    /// Around this service.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: CallService> Service<Request<Body>> for CatchPanic<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> CallFuture {
        let info = request.extensions().get::<Arc<RequestInfo>>();
        let request_id = info.map_or_else(|| "unknown".into(), |info| info.id().clone());
        let inner = self.inner.clone();
        Box::pin(async move {
            match caught(inner.oneshot(request)).await {
                Ok(Ok(response)) => {
                    Ok(response.map(|body| Body::new(CaughtBody { inner: Some(body), request_id })))
                }
                Err(_logged) => Ok(Refusal::Panicked { request_id: &request_id }.response()),
            }
        })
    }
}

/// The future's output, or what it panicked with.
///
/// Unwind safety is asserted because the future is dropped at once, and what it shares with other
/// calls is behind locks that poison or values that are swapped whole.
async fn caught<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = Box::pin(future);
    future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

impl http_body::Body for CaughtBody {
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

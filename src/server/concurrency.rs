//! No more calls at a time than the server can carry.

use std::{
    convert::Infallible,
    future,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::{CallFuture, CallService, refusal::Refusal};
use crate::grpc::methods;

/// The streams of the health service, which anybody may open without a token, that are counted
/// apart so that they can shut nobody out.
const MAX_HEALTH_STREAMS: usize = 1_000;

/// Answers RESOURCE_EXHAUSTED, with the time to try again, to a call beyond the limit. A call
/// counts until the last of its response is sent. A health check always goes through, and so
/// does a stream as far as its own limits.
#[derive(Clone, Debug)]
pub struct Concurrency<S> {
    inner: S,
    limit: usize,
    free: Arc<Semaphore>,
    free_for_health: Arc<Semaphore>,
}

impl<S> Concurrency<S> {
    /// At most `limit` calls at a time in this service and its clones.
    pub fn new(inner: S, limit: usize) -> Self {
        let free = Arc::new(Semaphore::new(limit));
        let free_for_health = Arc::new(Semaphore::new(MAX_HEALTH_STREAMS));
        Self { inner, limit, free, free_for_health }
    }

    /// Where the call at `path` is counted and how many may be; `None` if it is not counted.
    fn counter(&self, path: &str) -> Option<(&Arc<Semaphore>, usize)> {
        match path {
            "/grpc.health.v1.Health/Check" => None,
            "/grpc.health.v1.Health/Watch" => Some((&self.free_for_health, MAX_HEALTH_STREAMS)),
            // Streams are counted by themselves and by subject, once it is known who calls.
            path if methods::is_stream(path) => None,
            _ => Some((&self.free, self.limit)),
        }
    }
}

impl<S: CallService> Service<Request<Body>> for Concurrency<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> CallFuture {
        let permit = match self.counter(request.uri().path()) {
            None => None,
            Some((free, limit)) => {
                let Ok(permit) = free.clone().try_acquire_owned() else {
                    let refusal = Refusal::TooManyCalls { limit };
                    return Box::pin(future::ready(Ok(refusal.response())));
                };
                Some(permit)
            }
        };
        let answer = self.inner.clone().oneshot(request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            Ok(response.map(|body| held(body, permit)))
        })
    }
}

/// The body, which keeps `guard` until it is gone.
pub(super) fn held<G: Send + 'static>(body: Body, guard: G) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &guard;
        frame
    }))
}

//! No more calls at a time than the server can carry.

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt, future::Either};
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;

use super::{
    body::{Answered, Held, ResponseBody},
    refusal::Refusal,
};
use crate::service::CallService;

/// The streams of the health service, which anybody may open without a token, that are counted
/// apart so that they can shut nobody out.
const MAX_HEALTH_STREAMS: usize = 1_000;

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const WATCH: &str = "/xmpp.federation.v1.AllowedPartnerService/WatchAllowedPartners";

/// Answers RESOURCE_EXHAUSTED, with the time to try again, to a call beyond the limit. A call
/// counts until the last of its response is sent. A health check always goes through, and so
/// does a watch as far as its own limits.
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
            HEALTH_WATCH => Some((&self.free_for_health, MAX_HEALTH_STREAMS)),
            path if counted_apart(path) => None,
            _ => Some((&self.free, self.limit)),
        }
    }
}

impl<S: CallService<Body, Body: ResponseBody>> CallService<Body> for Concurrency<S> {
    type Body = Answered<Held<S::Body, Option<OwnedSemaphorePermit>>>;

    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<S> {
        let permit = match self.counter(request.uri().path()) {
            None => None,
            Some((free, limit)) => match free.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_full) => {
                    let refusal = Refusal::TooManyCalls {
                        limit: "limits.max_concurrent_requests",
                        most: limit,
                    };
                    return Either::Left(ready(refusal.response()));
                }
            },
        };
        let answer = self.inner.call(request);
        Either::Right(
            answer.map(|response| response.map(|body| Answered::Service(Held::new(body, permit)))),
        )
    }
}

/// Whether the call at `path` does not count among calls: a health check, which must be answered
/// above all when there are too many, and streams, which have limits of their own.
pub(super) fn counted_apart(path: &str) -> bool {
    matches!(path, HEALTH_CHECK | HEALTH_WATCH | WATCH)
}

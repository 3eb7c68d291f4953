//! The standard services: health (`grpc.health.v1`) and reflection (`grpc.reflection.v1`).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body, server::NamedService};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{Service, ServiceExt};

use super::{CallFuture, CallService, Shutdown, ShutdownTrigger, refusal::Refusal, shutdown};
use crate::proto;

/// What the health service says. The empty name stands for the server as a whole.
#[derive(Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Vec<&'static str>,
    /// Ends the streams once they have been told.
    streams: ShutdownTrigger,
}

/// A service whose streams end when the server drains: its clients keep them open for ever, and
/// would hold the server up until the drain timeout.
#[derive(Clone, Debug)]
pub struct EndsWithServer<S> {
    inner: S,
    shutdown: Shutdown,
}

struct EndingBody {
    inner: Body,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: bool,
}

/// The health service: SERVING for the server and each of `services`, until [`Health::follow`]
/// sees the drain begin.
pub async fn health(
    services: Vec<&'static str>,
) -> (Health, impl CallService + NamedService + Sync) {
    let (reporter, server) = tonic_health::server::health_reporter();
    let (streams, told) = shutdown();
    let health = Health { reporter, services, streams };
    health.say(ServingStatus::Serving).await;
    (health, EndsWithServer { inner: server, shutdown: told })
}

/// The reflection service over the descriptors of the whole API.
pub fn reflection(shutdown: Shutdown) -> impl CallService + NamedService + Sync {
    let inner = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the build wrote these descriptors");
    EndsWithServer { inner, shutdown }
}

impl Health {
    /// Says NOT_SERVING as soon as the server drains, and then ends the streams.
    pub async fn follow(self, shutdown: Shutdown) {
        shutdown.draining().await;
        self.say(ServingStatus::NotServing).await;
        self.streams.drain();
    }

    async fn say(&self, status: ServingStatus) {
        for service in ["", "grpc.health.v1.Health"].iter().chain(&self.services) {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

impl<S: NamedService> NamedService for EndsWithServer<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: CallService> Service<Request<Body>> for EndsWithServer<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> CallFuture {
        let answer = self.inner.clone().oneshot(request);
        let shutdown = self.shutdown.clone();
        Box::pin(async move {
            let Ok(response) = answer.await;
            let draining = Box::pin(async move { shutdown.draining().await });
            Ok(response.map(|inner| match inner.is_end_stream() {
                true => inner,
                false => Body::new(EndingBody { inner, draining, over: false }),
            }))
        })
    }
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.inner).poll_frame(cx) {
            return ready;
        }
        if self.draining.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.over = true;
        Poll::Ready(Some(Refusal::Draining.trailers()))
    }
}

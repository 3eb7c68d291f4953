//! The standard services: health (`grpc.health.v1`) and reflection (`grpc.reflection.v1`).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{Shutdown, ShutdownTrigger, refusal::Refusal, shutdown};
use crate::{
    proto,
    service::{CallService, FromTower},
};

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
pub async fn health(services: Vec<&'static str>) -> (Health, impl CallService<Body, Body = Body>) {
    let (reporter, server) = tonic_health::server::health_reporter();
    let (streams, told) = shutdown();
    let health = Health { reporter, services, streams };
    health.say(ServingStatus::Serving).await;
    (health, EndsWithServer { inner: FromTower(server), shutdown: told })
}

/// The reflection service over the descriptors of the whole API.
pub fn reflection(shutdown: Shutdown) -> impl CallService<Body, Body = Body> {
    let inner = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the build wrote these descriptors");
    EndsWithServer { inner: FromTower(inner), shutdown }
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

impl<S: CallService<Body, Body = Body>> CallService<Body> for EndsWithServer<S> {
    type Body = Body;

    fn call(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send + use<S> {
        let shutdown = self.shutdown.clone();
        let answer = self.inner.call(request);
        answer.map(|response| {
            response.map(|inner| match inner.is_end_stream() {
                true => inner,
                false => {
                    let draining = Box::pin(async move { shutdown.draining().await });
                    Body::new(EndingBody { inner, draining, over: false })
                }
            })
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

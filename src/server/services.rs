//! All services on one port: ours, and the standard ones beside them.

use futures_util::{FutureExt, future::Either};
use http::{Request, Response};
use tonic::{Code, Status, body::Body};

use crate::{
    grpc::{self, Routes, service_name},
    service::CallService,
};

const HEALTH: &str = "grpc.health.v1.Health";

/// Hands a call to the service that it names.
#[derive(Clone, Debug)]
pub(super) struct Services<H, R> {
    pub ours: Routes,
    pub health: H,
    /// `None` where clients may not ask for the descriptors.
    pub reflection: Option<R>,
}

impl<H, R> CallService<Body> for Services<H, R>
where
    H: CallService<Body, Body = Body>,
    R: CallService<Body, Body = Body>,
{
    type Body = Body;

    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send + use<H, R> {
        let service = service_name(request.uri().path());
        let answer = match &self.reflection {
            // In a box, because they would make room in the future of every call.
            _ if service == HEALTH => Either::Left(self.health.call(request).boxed()),
            Some(reflection) if service.starts_with("grpc.reflection.") => {
                Either::Left(reflection.call(request).boxed())
            }
            _ => Either::Right(self.ours.call(request)),
        };
        answer.map(in_our_terms)
    }
}

/// A refusal by the gRPC library itself, such as that of a message too large, gets our details.
fn in_our_terms(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => grpc::status::of_library(status).into_http(),
        _ => response,
    }
}

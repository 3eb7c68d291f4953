//! The gRPC door of the authentication layer: what a method asks for, and how a refusal looks.

use std::{marker::PhantomData, net::IpAddr, sync::Arc};

use http::{Extensions, Response};
use jiff::Timestamp;
use tonic::{Code, Status};

use crate::{
    auth::{
        Caller, Policy,
        layer::{Door, Rejection},
        policy::Access,
    },
    grpc::methods,
    registry::Registry,
    telemetry::{Peer, RequestInfo},
};

/// Knows the methods by their descriptors and the roles by the registry.
#[derive(Debug)]
pub(super) struct GrpcDoor<B> {
    registry: Arc<Registry>,
    /// The body of its service.
    body: PhantomData<fn() -> B>,
}

impl<B> GrpcDoor<B> {
    pub const fn new(registry: Arc<Registry>) -> Self {
        Self { registry, body: PhantomData }
    }
}

impl<B: Default + Send + 'static> Door for GrpcDoor<B> {
    type Body = B;

    fn access_of(&self, path: &str) -> Option<Access> {
        methods::access_of(path)
    }

    fn policy(&self) -> Arc<Policy> {
        self.registry.policy()
    }

    fn source(&self, extensions: &Extensions) -> Option<IpAddr> {
        extensions.get().map(|Peer(address)| address.ip())
    }

    fn identified(&self, extensions: &Extensions, caller: &Caller) {
        self.registry.sightings().note(caller, Timestamp::now());
        if let Some(info) = extensions.get::<Arc<RequestInfo>>() {
            info.set_subject(caller.subject.clone());
        }
    }

    fn reject(&self, rejection: Rejection) -> Response<B> {
        Status::from(rejection).into_http()
    }

    /// An error that comes before any message is in the head of the response.
    fn denies(&self, response: &Response<B>) -> bool {
        let status = Status::from_header_map(response.headers());
        status.is_some_and(|status| status.code() == Code::PermissionDenied)
    }
}

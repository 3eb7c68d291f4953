//! The tower layer that authenticates every request and stops those that may not call at all.
//!
//! It stands outside every door (gRPC now, HTTP later), so that no handler can be reached without
//! passing it. It knows no protobuf: how a refusal looks on the wire is told by the door.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    Extensions, HeaderMap, Request, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use jiff::Timestamp;
use tower::{Layer, Service};

use super::{
    Caller, Denial, Policy,
    policy::Access,
    token::{TokenError, Verifier},
};

/// Why a request was stopped before any handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Who calls is not known.
    Token(TokenError),
    /// The caller may not call this method at all.
    Denied(Denial),
}

/// What the layer needs of its surroundings.
pub trait Door: Send + Sync + 'static {
    /// The body of a response.
    type Body;

    /// What the method at `path` asks for; `None` if there is no such method.
    fn access_of(&self, path: &str) -> Option<Access>;

    /// The roles in force.
    fn policy(&self) -> Arc<Policy>;

    /// Takes note of who calls, for the log.
    fn identified(&self, extensions: &Extensions, caller: &Caller);

    /// What a rejected caller gets.
    fn reject(&self, rejection: Rejection) -> Response<Self::Body>;
}

/// Authenticates requests to the services it is put around.
#[derive(Debug)]
pub struct AuthLayer<D> {
    verifier: Arc<Verifier>,
    door: Arc<D>,
}

impl<D> AuthLayer<D> {
    /// A layer that believes `verifier` at `door`.
    pub fn new(verifier: Arc<Verifier>, door: D) -> Self {
        Self { verifier, door: Arc::new(door) }
    }
}

impl<D> Clone for AuthLayer<D> {
    fn clone(&self) -> Self {
        Self { verifier: Arc::clone(&self.verifier), door: Arc::clone(&self.door) }
    }
}

impl<S, D> Layer<S> for AuthLayer<D> {
    type Service = Auth<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Auth { inner, layer: self.clone() }
    }
}

/// A service that only authenticated callers reach. See [`AuthLayer`].
#[derive(Debug)]
pub struct Auth<S, D> {
    inner: S,
    layer: AuthLayer<D>,
}

impl<S: Clone, D> Clone for Auth<S, D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, D, B> Service<Request<B>> for Auth<S, D>
where
    S: Service<Request<B>, Response = Response<D::Body>>,
    D: Door,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures_util::future::Either<
        S::Future,
        std::future::Ready<Result<Self::Response, Self::Error>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.layer.admit(&mut request) {
            Ok(()) => futures_util::future::Either::Left(self.inner.call(request)),
            Err(rejection) => {
                let response = self.layer.door.reject(rejection);
                futures_util::future::Either::Right(std::future::ready(Ok(response)))
            }
        }
    }
}

impl<D: Door> AuthLayer<D> {
    /// Lets the request pass with its caller in its extensions, and without its token: nothing
    /// behind this layer can log or forward what it does not have.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        let access = self.door.access_of(request.uri().path());
        if access == Some(Access::Public) {
            request.headers_mut().remove(AUTHORIZATION);
            return Ok(());
        }
        let token = bearer(request.headers()).map_err(Rejection::Token)?;
        let caller = self.verifier.verify(token, Timestamp::now()).map_err(Rejection::Token)?;
        self.door.identified(request.extensions(), &caller);
        if let Some(access) = access {
            self.door.policy().admit(&caller, access).map_err(Rejection::Denied)?;
        }
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

/// The token of an `authorization: Bearer <token>` header (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenError::Missing)?;
    if values.next().is_some() {
        return Err(TokenError::Malformed("there are several authorization headers"));
    }
    parse_bearer(value).ok_or(TokenError::Malformed("the header is not `Bearer <token>`"))
}

fn parse_bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

//! The layer that authenticates every request and stops those that may not call at all.
//!
//! It stands outside every door (gRPC now, HTTP later), so that no handler can be reached without
//! passing it. It knows no protobuf: how a refusal looks on the wire is told by the door.

use std::{future::ready, net::IpAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::Either};
use http::{
    Extensions, HeaderMap, Request, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use jiff::Timestamp;

use super::{
    Caller, Denial, Policy,
    certificate::ClientCertificate,
    failures::Failures,
    keys::Wait,
    policy::Access,
    token::{Refusal, Shown, TokenError, Verifier},
};
use crate::{domain::role::Permission, service::CallService};

/// Why a request was stopped before any handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Who calls is not known.
    Token(TokenError),
    /// The caller may not call this method at all.
    Denied(Denial),
    /// He, or others where he comes from, have been refused too often.
    TooOften {
        /// When to try again.
        retry_after: Duration,
    },
}

/// What the layer needs of its surroundings.
pub trait Door: Send + Sync + 'static {
    /// The body of a response.
    type Body;

    /// What the method at `path` asks for; `None` if there is no such method.
    fn access_of(&self, path: &str) -> Option<Access>;

    /// The roles in force.
    fn policy(&self) -> Arc<Policy>;

    /// The address that the request came from.
    fn source(&self, extensions: &Extensions) -> Option<IpAddr>;

    /// Takes note of who calls, for the log.
    fn identified(&self, extensions: &Extensions, caller: &Caller);

    /// What a rejected caller gets.
    fn reject(&self, rejection: Rejection) -> Response<Self::Body>;

    /// Whether a handler's response tells the caller that he may not.
    fn denies(&self, response: &Response<Self::Body>) -> bool;
}

/// A service that only authenticated callers reach.
#[derive(Debug)]
pub struct Authenticated<S, D> {
    inner: S,
    shared: Arc<Shared<D>>,
}

#[derive(Debug)]
struct Shared<D> {
    verifier: Arc<Verifier>,
    failures: Failures,
    door: D,
}

/// Somebody who may call the method.
struct Admitted {
    caller: Arc<Caller>,
    source: Option<IpAddr>,
    permission: Option<Permission>,
}

/// Why somebody may not, as yet.
enum Stop {
    /// He is not known; another key may help.
    Unknown(Refusal),
    /// He may not, and that is all.
    Rejected(Rejection),
}

impl<S, D> Authenticated<S, D> {
    /// Around `inner`: believes `verifier` at `door`, and tells `failures` whom it refuses.
    pub fn new(inner: S, verifier: Arc<Verifier>, failures: Failures, door: D) -> Self {
        Self { inner, shared: Arc::new(Shared { verifier, failures, door }) }
    }
}

impl<S: Clone, D> Clone for Authenticated<S, D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, D, B> CallService<B> for Authenticated<S, D>
where
    S: CallService<B, Body = D::Body>,
    D: Door<Body: Send>,
    B: Send + 'static,
{
    type Body = D::Body;

    fn call(
        &self,
        mut request: Request<B>,
    ) -> impl Future<Output = Response<D::Body>> + Send + use<S, D, B> {
        let stop = match self.shared.admit(&mut request) {
            Ok(admitted) => return Either::Left(Either::Left(self.pass(admitted, request))),
            Err(stop) => stop,
        };
        let Some(keys) = stop.remedy() else {
            return Either::Left(Either::Right(ready(self.shared.stopped(&request, stop))));
        };
        let this = self.clone();
        Either::Right(Box::pin(async move {
            keys.await;
            match this.shared.admit(&mut request) {
                Ok(admitted) => this.pass(admitted, request).await,
                Err(stop) => this.shared.stopped(&request, stop),
            }
        }))
    }
}

impl<S, D: Door> Authenticated<S, D> {
    /// Hands the request on, and sees whether the handler denies it.
    fn pass<B>(
        &self,
        admitted: Option<Admitted>,
        request: Request<B>,
    ) -> impl Future<Output = Response<D::Body>> + Send + use<S, D, B>
    where
        S: CallService<B, Body = D::Body>,
    {
        let shared = Arc::clone(&self.shared);
        self.inner.call(request).map(move |response| {
            if let Some(admitted) = admitted
                && shared.door.denies(&response)
            {
                let Admitted { caller, source, permission } = admitted;
                // He has his answer already; the next may be another one.
                let _ = shared.failures.denied(source, &caller, permission, Timestamp::now());
            }
            response
        })
    }
}

impl<D: Door> Shared<D> {
    /// Lets the request pass with its caller in its extensions, and without its token: nothing
    /// behind this layer can log or forward what it does not have. `None` where anybody may call.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<Admitted>, Stop> {
        let access = self.door.access_of(request.uri().path());
        if access == Some(Access::Public) {
            request.headers_mut().remove(AUTHORIZATION);
            return Ok(None);
        }
        let source = self.door.source(request.extensions());
        let caller = self.caller(request, source)?;
        self.door.identified(request.extensions(), &caller);
        let permission = match access {
            Some(Access::Needs { permission, .. }) => Some(permission),
            _ => None,
        };
        if let Some(access) = access {
            self.door.policy().admit(&caller, access).map_err(|denial| {
                let now = Timestamp::now();
                Stop::Rejected(match self.failures.denied(source, &caller, permission, now) {
                    Some(retry_after) => Rejection::TooOften { retry_after },
                    None => Rejection::Denied(denial),
                })
            })?;
        }
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(Arc::clone(&caller));
        Ok(Some(Admitted { caller, source, permission }))
    }

    fn caller<B>(&self, request: &Request<B>, source: Option<IpAddr>) -> Result<Arc<Caller>, Stop> {
        let now = Timestamp::now();
        let certificate = request.extensions().get::<Arc<ClientCertificate>>().map(|it| &**it);
        let token = bearer(request.headers()).map_err(|error| Stop::Unknown(error.into()))?;
        let shown = Shown { token, certificate };
        if let Some(caller) = self.verifier.recall(shown, now) {
            return Ok(caller);
        }
        // A certificate alone has proved itself in the handshake, and costs nothing more.
        let by_certificate = token.is_none() && certificate.is_some();
        if !by_certificate && let Some(retry_after) = self.failures.shut_out(source) {
            return Err(Stop::Rejected(Rejection::TooOften { retry_after }));
        }
        self.verifier.identify(shown, now).map_err(Stop::Unknown)
    }

    /// The answer to a request that was stopped.
    fn stopped<B>(&self, request: &Request<B>, stop: Stop) -> Response<D::Body> {
        self.door.reject(match stop {
            Stop::Rejected(rejection) => rejection,
            // An outage of the issuer is no failure of its callers.
            Stop::Unknown(Refusal { error: error @ TokenError::KeysUnavailable, .. }) => {
                Rejection::Token(error)
            }
            Stop::Unknown(Refusal { error, identity, .. }) => {
                let source = self.door.source(request.extensions());
                match self.failures.failed(source, identity, error, Timestamp::now()) {
                    Some(retry_after) => Rejection::TooOften { retry_after },
                    None => Rejection::Token(error),
                }
            }
        })
    }
}

impl Stop {
    fn remedy(&self) -> Option<Wait> {
        match self {
            Self::Unknown(refusal) => refusal.remedy(),
            Self::Rejected(_) => None,
        }
    }
}

/// The token of an `authorization: Bearer <token>` header (RFC 6750 section 2.1), if there is such
/// a header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, TokenError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(TokenError::Malformed("there are several authorization headers"));
    }
    let token = parse_bearer(value);
    token.map(Some).ok_or(TokenError::Malformed("the header is not `Bearer <token>`"))
}

fn parse_bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests;

//! What answers calls, and what is put around it.
//!
//! A call passes some layers before a service answers it. With tower each of them clones what it
//! is around, asks whether that is ready and boxes a future; here a service always is ready and
//! always answers, and a call with all its layers is one future.
//!
//! A layer does what comes before the service at once, in [`CallService::call`], hands the request
//! on, and puts what comes after into a combinator of `futures_util`. An `async` block would do the
//! same in fewer words, and keep the request and the future of the service within it twice: seven
//! of them around one another spent a fifth of a call on moving themselves about.

use std::convert::Infallible;

use futures_util::FutureExt;
use http::{Request, Response};
use tower::ServiceExt;

/// A service that always answers, if need be with an error. Cloning it is cheap and gives another
/// handle to the same service.
pub trait CallService<B>: Clone + Send + Sync + 'static {
    /// What its responses bring.
    type Body;

    /// Answers one call.
    fn call(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<Self, B>;
}

/// A service of tower's.
#[derive(Clone, Copy, Debug)]
pub struct FromTower<S>(pub S);

impl<S, B, R> CallService<B> for FromTower<S>
where
    S: tower::Service<Request<B>, Response = Response<R>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
{
    type Body = R;

    fn call(&self, request: Request<B>) -> impl Future<Output = Response<R>> + Send + use<S, B, R> {
        self.0.clone().oneshot(request).map(|Ok(response)| response)
    }
}

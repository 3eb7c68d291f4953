//! No more calls at a time of one subject than leave room for the others.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::Service;

use super::{
    CallService,
    concurrency::{counted_apart, held},
    pressure::Pressure,
    refusal::Refusal,
};
use crate::auth::{
    Caller,
    shares::{Share, Shares},
};

/// Answers RESOURCE_EXHAUSTED, with the time to try again, to a call of a subject that has as many
/// under way as it may. While calls wait too long, who has others under way is turned away before
/// that, over however many connections they came.
///
/// Stands behind authentication: what has no caller here is public, and is counted elsewhere, as
/// watch streams are.
#[derive(Clone, Debug)]
pub struct Subjects<S> {
    inner: S,
    shares: Shares,
    pressure: Arc<Pressure>,
}

pin_project! {
    /// The answer to a call that counts until the last of its response is sent, or the refusal.
    #[derive(Debug)]
    pub struct Counted<F> {
        #[pin]
        answer: Option<F>,
        share: Option<Share>,
        refusal: Option<Response<Body>>,
    }
}

impl<S> Subjects<S> {
    /// At most `most` calls of one subject at a time in this service and its clones.
    pub fn new(inner: S, most: usize, pressure: Arc<Pressure>) -> Self {
        Self { inner, shares: Shares::new(most), pressure }
    }

    /// The share that the call takes, if it counts here.
    fn share(&self, request: &Request<Body>) -> Result<Option<Share>, Refusal<'static>> {
        let caller = request.extensions().get::<Arc<Caller>>();
        let Some(caller) = caller.filter(|_| !counted_apart(request.uri().path())) else {
            return Ok(None);
        };
        let Some(share) = self.shares.take(&caller.issuer, &caller.subject) else {
            let limit = "limits.max_concurrent_requests_per_subject";
            return Err(Refusal::TooManyCalls { limit, most: self.shares.most() });
        };
        match self.pressure.singles_out(share.before()) {
            true => Err(Refusal::Overloaded),
            false => Ok(Some(share)),
        }
    }
}

impl<S: CallService> Service<Request<Body>> for Subjects<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.share(&request) {
            Ok(share) => Counted { answer: Some(self.inner.call(request)), share, refusal: None },
            Err(refusal) => {
                Counted { answer: None, share: None, refusal: Some(refusal.response()) }
            }
        }
    }
}

impl<F> Future for Counted<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let counted = self.project();
        let Some(answer) = counted.answer.as_pin_mut() else {
            let refusal = counted.refusal.take();
            return Poll::Ready(Ok(refusal.expect("without an answer it was made with a refusal")));
        };
        let Ok(response) = ready!(answer.poll(cx));
        Poll::Ready(Ok(match counted.share.take() {
            Some(share) => response.map(|body| held(body, share)),
            None => response,
        }))
    }
}

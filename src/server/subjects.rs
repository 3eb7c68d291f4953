//! No more calls at a time of one subject than leave room for the others.

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt, future::Either};
use http::{Request, Response};
use tonic::body::Body;

use super::{
    body::{Answered, Held, ResponseBody},
    concurrency::counted_apart,
    pressure::Pressure,
    refusal::Refusal,
};
use crate::{
    auth::{
        Caller,
        shares::{Share, Shares},
    },
    service::CallService,
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

impl<S: CallService<Body, Body: ResponseBody>> CallService<Body> for Subjects<S> {
    type Body = Answered<Held<S::Body, Option<Share>>>;

    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<S> {
        let share = match self.share(&request) {
            Ok(share) => share,
            Err(refusal) => return Either::Left(ready(refusal.response())),
        };
        let answer = self.inner.call(request);
        Either::Right(
            answer.map(|response| response.map(|body| Answered::Service(Held::new(body, share)))),
        )
    }
}

//! Every call has a deadline: the client's, capped by the server's.

use std::{
    convert::Infallible,
    future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};

use super::{CallFuture, CallService, refusal::Refusal};
use crate::grpc::call::CallDeadline;

/// The header in which a client says how long it will wait.
const GRPC_TIMEOUT: &str = "grpc-timeout";

const RESTORE: &str = "/xmpp.federation.v1.MaintenanceService/Restore";

/// Answers DEADLINE_EXCEEDED to a call that has not begun to answer when its time is up: the
/// client's `grpc-timeout` or, without one, the default, and never more than the cap.
///
/// A response that has begun, a stream above all, is bound by the client's own deadline alone. A
/// restore, which answers once all of its stream has come, has a cap of its own.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    default: Duration,
    cap: Duration,
    cap_of_restores: Duration,
}

/// A response that ends with DEADLINE_EXCEEDED when the client's time is up.
struct TimedBody {
    inner: Body,
    deadline: Pin<Box<Sleep>>,
    allowed: Duration,
    over: bool,
}

impl<S> Deadline<S> {
    /// `default` is for calls whose client sets no deadline.
    pub const fn new(inner: S, default: Duration, cap: Duration) -> Self {
        Self { inner, default, cap, cap_of_restores: cap }
    }

    /// The longest that a restore may take, which is also what it may without a client's deadline.
    #[must_use]
    pub fn with_restores(mut self, cap_of_restores: Duration) -> Self {
        self.cap_of_restores = cap_of_restores;
        self
    }

    /// How long the call at `path` may take whose client asked for this.
    fn allowed(&self, path: &str, asked: Option<Duration>) -> Duration {
        let (default, cap) = match path {
            RESTORE => (self.cap_of_restores, self.cap_of_restores),
            _ => (self.default, self.cap),
        };
        asked.unwrap_or(default).min(cap)
    }
}

impl<S: CallService> Service<Request<Body>> for Deadline<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> CallFuture {
        let started = Instant::now();
        let Ok(asked) = client_timeout(request.headers()) else {
            return Box::pin(future::ready(Ok(Refusal::BadDeadline.response())));
        };
        let allowed = self.allowed(request.uri().path(), asked);
        request.extensions_mut().insert(CallDeadline(started + allowed));
        let answer = self.inner.clone().oneshot(request);
        Box::pin(async move {
            let Ok(response) = timeout_at(started + allowed, answer).await else {
                return Ok(Refusal::TooLate { allowed }.response());
            };
            let Ok(response) = response;
            Ok(match asked {
                Some(asked) => response.map(|inner| timed(inner, started, asked)),
                None => response,
            })
        })
    }
}

/// The client's timeout, if it sent one; `Err` if it is malformed.
fn client_timeout(headers: &HeaderMap) -> Result<Option<Duration>, ()> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ())?;
    parse_timeout(text).map(Some).ok_or(())
}

/// Reads a `Timeout` of the gRPC protocol over HTTP/2: 1 to 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

fn timed(inner: Body, started: Instant, allowed: Duration) -> Body {
    if inner.is_end_stream() {
        return inner;
    }
    let deadline = Box::pin(sleep_until(started + allowed));
    Body::new(TimedBody { inner, deadline, allowed, over: false })
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        // The clock first: a stream that always has more would never come to it.
        if self.deadline.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.inner).poll_frame(cx);
        }
        self.over = true;
        Poll::Ready(Some(Refusal::TooLate { allowed: self.allowed }.trailers()))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // The inner body's hint may promise bytes that the deadline takes away.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, timeout) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(text), Some(timeout), "{text}");
        }
        for bad in ["", "S", "1", "1s", "1 S", "+1S", "-1S", "1.5S", "123456789S", "1é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}

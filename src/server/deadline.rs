//! Every call has a deadline: the client's, capped by the server's.

use std::{
    future::ready,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Either};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{Status, body::Body};

use super::{
    body::{Answered, ResponseBody},
    refusal::Refusal,
};
use crate::{grpc::call::CallDeadline, service::CallService};

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

/// A response that ends with DEADLINE_EXCEEDED when the client's time is up, if he set one.
#[derive(Debug)]
pub struct TimedBody<B> {
    inner: B,
    limit: Option<TimeLimit>,
    over: bool,
}

#[derive(Debug)]
struct TimeLimit {
    deadline: Instant,
    allowed: Duration,
    /// Wakes a response that waits. Most never wait, and so need no timer.
    alarm: Option<Pin<Box<Sleep>>>,
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

impl<S: CallService<Body, Body: ResponseBody>> CallService<Body> for Deadline<S> {
    type Body = Answered<TimedBody<S::Body>>;

    fn call(
        &self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<S> {
        let started = Instant::now();
        let Ok(asked) = client_timeout(request.headers()) else {
            return Either::Left(ready(Refusal::BadDeadline.response()));
        };
        let allowed = self.allowed(request.uri().path(), asked);
        request.extensions_mut().insert(CallDeadline(started + allowed));
        let answer = timeout_at(started + allowed, self.inner.call(request));
        Either::Right(answer.map(move |answer| match answer {
            Err(_elapsed) => Refusal::TooLate { allowed }.response(),
            Ok(response) => {
                response.map(|inner| Answered::Service(TimedBody::new(inner, started, asked)))
            }
        }))
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

impl<B: ResponseBody> TimedBody<B> {
    fn new(inner: B, started: Instant, allowed: Option<Duration>) -> Self {
        let allowed = allowed.filter(|_| !inner.is_end_stream());
        let limit = allowed.map(|allowed| TimeLimit::new(started + allowed, allowed));
        Self { inner, limit, over: false }
    }
}

impl TimeLimit {
    const fn new(deadline: Instant, allowed: Duration) -> Self {
        Self { deadline, allowed, alarm: None }
    }

    /// Whether the time is up; if not, the task is woken when it is.
    fn is_up(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.deadline;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        alarm.as_mut().poll(cx).is_ready()
    }
}

impl<B: ResponseBody> http_body::Body for TimedBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, limit, over } = &mut *self;
        if *over {
            return Poll::Ready(None);
        }
        let Some(limit) = limit else { return Pin::new(inner).poll_frame(cx) };
        // The clock first: a stream that always has more would never come to it.
        if Instant::now() < limit.deadline {
            let frame = Pin::new(inner).poll_frame(cx);
            if frame.is_ready() || !limit.is_up(cx) {
                return frame;
            }
        }
        *over = true;
        Poll::Ready(Some(Refusal::TooLate { allowed: limit.allowed }.trailers()))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.limit {
            // The inner body's hint may promise bytes that the deadline takes away.
            Some(_) => SizeHint::default(),
            None => self.inner.size_hint(),
        }
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

//! Gives an answer up that its client does not read.
//!
//! A response waits in memory until its client has room for it, and HTTP/2 lets the client decide
//! when that is. While it waits nobody polls the response, so no body can keep this time: it is
//! kept by the task that the call runs on. The call says by when its answer must be read; only if
//! the task has to wait after that does it set a timer, so a call that is answered at once pays
//! for none.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// What the call that is polled on this thread has said.
    static READ_BY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Spawns the calls of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallExecutor;

pin_project! {
    /// A call as a task: serves it, and sends what it is answered.
    struct CallTask<F> {
        #[pin]
        call: F,
        time: Option<Pin<Box<Sleep>>>,
    }
}

/// Says that the answer of the call that runs on this task must be read by then. If it is not, its
/// stream is reset and what is left of it dropped.
pub(super) fn must_be_read_by(time: Instant) {
    READ_BY.set(Some(time));
}

impl<F> Executor<F> for CallExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, call: F) {
        tokio::spawn(CallTask { call, time: None });
    }
}

impl<F: Future> Future for CallTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.project();
        READ_BY.set(None);
        let polled = task.call.poll(cx);
        let said = READ_BY.take();
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if let Some(time) = said {
            *task.time = Some(Box::pin(sleep_until(time)));
        }
        let Some(time) = task.time else { return Poll::Pending };
        // The call is dropped with the task, and h2 resets its stream.
        ready!(time.as_mut().poll(cx));
        tracing::debug!("an answer was not read within limits.response_timeout; giving it up");
        Poll::Ready(())
    }
}

//! What the writer answers, handed to those who wait a group at a time.
//!
//! To wake a task of another thread's runtime takes a system call, and on a busy machine mostly a
//! change of threads: the first to be woken answers its client before the second is. So one task wakes all
//! those of a group who wait on the same runtime, and what they have to say on one connection goes out
//! together.

use tokio::{runtime::Handle, sync::oneshot};

use super::{Committed, Error};
use crate::store::AnswerResult;

type Outcome = Result<Committed<AnswerResult>, Error>;

/// The way back to somebody who waits for a write.
pub(super) struct Reply {
    runtime: Handle,
    sender: oneshot::Sender<Outcome>,
}

/// Answers that go out together.
#[derive(Default)]
pub(super) struct Replies(Vec<(Reply, Outcome)>);

impl Reply {
    /// A way back to the calling task, which must be one of a runtime, and its end.
    pub fn here() -> (Self, oneshot::Receiver<Outcome>) {
        let (sender, answer) = oneshot::channel();
        (Self { runtime: Handle::current(), sender }, answer)
    }

    /// Whether nobody waits any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Answers at once.
    pub fn send(self, outcome: Outcome) {
        // Fails only if nobody waits.
        let _ = self.sender.send(outcome);
    }
}

impl Replies {
    pub fn add(&mut self, reply: Reply, outcome: Outcome) {
        self.0.push((reply, outcome));
    }

    /// Turns every answer into a failure.
    pub fn fail(&mut self, error: impl Fn() -> Error) {
        self.0.iter_mut().for_each(|(_, outcome)| *outcome = Err(error()));
    }

    /// Answers all of them.
    pub fn send(self) {
        let mut rest = self.0;
        while let Some((first, _)) = rest.first() {
            let runtime = first.runtime.clone();
            let (here, elsewhere): (Vec<_>, _) =
                rest.into_iter().partition(|(reply, _)| reply.runtime.id() == runtime.id());
            rest = elsewhere;
            let alone = here.len() == 1;
            let answer = move || here.into_iter().for_each(|(reply, outcome)| reply.send(outcome));
            match alone {
                true => answer(),
                false => drop(runtime.spawn(async { answer() })),
            }
        }
    }
}

//! Scans take turns: as many at a time as there are cores, and subject by subject.
//!
//! A scan, a listing with a filter or a walk through the history, has a processor to itself for as
//! long as it takes, so scans wait for one another and not calls for them. One subject has at most
//! a core's worth of scans for each core in the common queue; its further ones wait behind its
//! own, so that a subject who comes with one waits for few of another who comes with many.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tonic::Status;

use super::status;
use crate::{
    auth::{
        Caller,
        shares::{Share, Shares},
    },
    registry::history::Waiting,
};

/// The queues for subjects; a subject's share says which is his.
const LANES: usize = 256;

/// Gives scans their turns.
#[derive(Debug)]
pub(super) struct Turns {
    shares: Shares,
    longest_wait: Duration,
    lanes: Box<[Arc<Semaphore>]>,
    processors: Arc<Semaphore>,
}

/// A scan's turn, over when this is dropped. It goes with the scan to its thread: a caller who
/// does not wait for the end does not let another scan begin beside it.
#[derive(Debug)]
pub(super) struct Turn {
    _processor: OwnedSemaphorePermit,
    _lane: OwnedSemaphorePermit,
    _share: Share,
}

impl Turns {
    /// At most `most_per_subject` scans of one subject, those that wait included, and none that
    /// waits longer than `longest_wait`.
    pub fn new(most_per_subject: usize, longest_wait: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let semaphore = || Arc::new(Semaphore::new(cores));
        Self {
            shares: Shares::new(most_per_subject),
            longest_wait,
            lanes: (0..LANES).map(|_| semaphore()).collect(),
            processors: semaphore(),
        }
    }

    /// Waits for the turn of a scan that `caller` asks for.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if he has too many under way, or none came within the longest wait.
    pub async fn take(&self, caller: &Caller) -> Result<Turn, Status> {
        let share = self.shares.take(&caller.issuer, &caller.subject).ok_or_else(|| {
            status::too_many_scans("limits.max_scans_per_subject", self.shares.most())
        })?;
        let lane = Arc::clone(&self.lanes[share.place() % LANES]);
        let turn = async {
            let lane = lane.acquire_owned().await?;
            let processor = Arc::clone(&self.processors).acquire_owned().await?;
            Ok(Turn { _processor: processor, _lane: lane, _share: share })
        };
        match timeout(self.longest_wait, turn).await {
            Ok(turn) => turn.map_err(|_: AcquireError| status::draining()),
            Err(_elapsed) => Err(status::scan_waited("limits.max_scan_wait", self.longest_wait)),
        }
    }
}

/// Does `work` on a thread that serves no calls, and keeps `turn` until it is done. What nobody
/// waits for any more is not begun; work that takes long asks whether somebody still does.
///
/// # Errors
/// INTERNAL if it panics.
pub(super) async fn off_thread<T: Send + 'static>(
    turn: impl Send + 'static,
    work: impl FnOnce(Waiting<'_>) -> T + Send + 'static,
) -> Result<T, Status> {
    let (reply, answer) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        if reply.is_closed() {
            return;
        }
        let done = work(&|| !reply.is_closed());
        // Before the answer: who has that may come for his next turn.
        drop(turn);
        // Fails only if nobody waits.
        let _ = reply.send(done);
    });
    answer.await.map_err(|_| status::internal("a scan panicked"))
}

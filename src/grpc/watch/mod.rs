//! The streams: one request each, and then messages for as long as its caller may have them.
//!
//! There is no task and no channel to a stream: it is pulled, by the connection, when the client
//! has room for more. What it holds meanwhile is its place in the log or in the audit. What is the
//! same about all of them is here; `Source` is what each of them tells.

mod audit;
mod encode;
mod feed;
mod partners;
mod places;
mod ready;
mod streams;

use std::{fmt, net::IpAddr, time::Duration};

use jiff::Timestamp;

pub use self::{
    ready::ready,
    streams::{Messages, Streams},
};
use super::parse::Broken;
use crate::{
    auth::{Caller, layer::Rejection, token::TokenError},
    registry::{Error, watch::Stop},
};

/// How often a stream tells of progress, unless it is told.
const PROGRESS: Duration = Duration::from_secs(30);
const LEAST_PROGRESS: Duration = Duration::from_secs(1);
const MOST_PROGRESS: Duration = Duration::from_secs(10 * 60);

/// What a stream rests on beside the roles. Whoever implements it rings the registry's bells
/// ([`crate::registry::Registry::ring`]) when an answer may have changed, but for a token that
/// comes to its end.
pub trait Standing: fmt::Debug + Send + Sync + 'static {
    /// Whether the server takes no new calls any more.
    fn is_draining(&self) -> bool;

    /// Whether `caller` is still who his token says.
    ///
    /// # Errors
    /// Why he is not.
    fn check(&self, caller: &Caller, now: Timestamp) -> Result<(), TokenError>;

    /// Takes note, for the audit, that a stream of `caller` at the address `source` ended because
    /// he may have it no longer.
    fn lost(&self, caller: &Caller, source: Option<IpAddr>, why: &Rejection);
}

/// What a stream tells: a place in a sequence of events, pulled forward message by message.
trait Source: fmt::Debug + Send + 'static {
    /// A message in the making.
    type Batch: Default + Send;
    /// What the client gets.
    type Message: Send + 'static;

    /// Whether the bell has rung since this was last asked; what rings from now on wakes it. Comes
    /// before the checks that what rings may be about, and before what happened is told.
    fn hears(&mut self) -> bool;

    /// Takes note of the roles in force now.
    ///
    /// # Errors
    /// They no longer let the caller watch.
    fn renew(&mut self) -> Result<(), Error>;

    /// Whether the store has to be read for what comes next.
    fn is_behind(&self) -> bool;

    /// Reads on in the store.
    ///
    /// # Errors
    /// What comes next is no longer kept, or cannot be read.
    fn catch_up(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Waits for something new, or about what the stream rests on.
    fn rung(&mut self) -> impl Future<Output = ()> + Send;

    /// Adds what comes next to a message.
    ///
    /// # Errors
    /// What comes next contradicts itself.
    fn advance(&mut self, batch: &mut Self::Batch) -> Result<Stop, Error>;

    /// Whether there is something to be said at once.
    fn has_news(&self, batch: &Self::Batch, stop: Stop) -> bool;

    /// Whether it is still telling the state at its start, and so holds on to it: there is no
    /// progress to tell of before.
    fn tells_state(&self) -> bool;

    /// The message, and what there is to say of progress.
    fn message(&mut self, batch: Self::Batch, stop: Stop) -> Self::Message;
}

fn interval(asked: Option<&prost_types::Duration>, broken: &mut Broken) -> Option<Duration> {
    let Some(asked) = asked else { return Some(PROGRESS) };
    let interval = Duration::try_from(*asked).ok();
    let interval = interval.filter(|it| (LEAST_PROGRESS..=MOST_PROGRESS).contains(it));
    if interval.is_none() {
        broken.add("progress_interval", "out of range; give 1 s to 10 min, or leave it out");
    }
    interval
}

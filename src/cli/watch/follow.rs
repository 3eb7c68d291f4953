//! Following a stream from a terminal or in a script: when to go on, when to end, what to say.

use std::{future, io, pin::pin, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::SETTINGS;
use crate::{
    cli::{
        console::plain,
        failure::{Exit, Failure, Outcome},
    },
    client::{Cause, EventStream, Interruption, Message, Options, Remote},
    proto::v1::WatchEvent,
};

/// How often a service that was never reached is tried in all.
const FIRST_ATTEMPTS: u32 = 7;

/// What to follow, from where, and until when.
#[derive(Debug)]
pub struct Follow {
    /// The service.
    pub remote: Remote,
    /// The filter and the interval of progress.
    pub options: Options,
    /// The revision to begin after; at 0, with the state.
    pub start_revision: i64,
    /// Whether the state is shown, if the service is asked for it.
    pub shows_state: bool,
    /// Whether the settings are left out.
    pub partners_only: bool,
    /// The revision to end after.
    pub until: Option<i64>,
    /// How long to go on at most.
    pub lasting: Option<Duration>,
    /// Whether to connect again.
    pub reconnect: bool,
}

/// What there is to show.
#[derive(Debug)]
pub enum Told {
    /// The state.
    State(Vec<WatchEvent>),
    /// What one commit did.
    Commit(Vec<WatchEvent>),
}

impl Follow {
    /// Follows all that the filter lets through, the state first and without an end.
    pub fn new(remote: Remote, filter: String) -> Self {
        Self {
            remote,
            options: Options { filter, ..Options::default() },
            start_revision: 0,
            shows_state: true,
            partners_only: false,
            until: None,
            lasting: None,
            reconnect: true,
        }
    }

    /// Follows until the end that was set, Ctrl-C or SIGTERM.
    ///
    /// # Errors
    /// The service refuses, cannot be reached at first or not again if that was asked, or has lost
    /// the history in between; or `show` fails.
    pub async fn run(self, mut show: impl FnMut(Told) -> io::Result<()>) -> Outcome {
        let mut ended = pin!(ended(self.lasting)?);
        let mut stream =
            EventStream::new(self.remote.clone(), self.options.clone(), self.start_revision);
        let (mut was_open, mut is_interrupted) = (false, false);
        while !self.is_over(stream.position()) {
            let message = tokio::select! {
                message = stream.next() => message,
                () = &mut ended => {
                    resumable_at(stream.position());
                    return Ok(());
                }
            };
            match message {
                Message::Opened { start_revision } => {
                    if is_interrupted {
                        eprintln!("connected again; going on after revision {start_revision}");
                    }
                    (was_open, is_interrupted) = (true, false);
                }
                Message::Listed(listing) if self.shows_state => {
                    show(Told::State(self.wanted(listing.events().collect())))?;
                }
                Message::Listed(_) => {}
                Message::Changed(batch) if self.until.is_some_and(|end| batch.revision > end) => {}
                Message::Changed(batch) => show(Told::Commit(self.wanted(batch.events)))?,
                Message::InStep { .. } => {}
                Message::Interrupted(interruption) => {
                    interrupted(&interruption, was_open, self.reconnect).inspect_err(|_| {
                        if was_open {
                            resumable_at(stream.position());
                        }
                    })?;
                    is_interrupted = true;
                }
            }
        }
        Ok(())
    }

    fn is_over(&self, position: i64) -> bool {
        self.until.is_some_and(|end| position >= end)
    }

    fn wanted(&self, mut events: Vec<WatchEvent>) -> Vec<WatchEvent> {
        if self.partners_only {
            events.retain(|event| event.name != SETTINGS);
        }
        events
    }
}

/// Tells that another attempt follows.
///
/// # Errors
/// It would come to nothing, or is not wanted.
pub fn interrupted(interruption: &Interruption, was_open: bool, reconnect: bool) -> Outcome {
    let Interruption { cause, failures, retry_in } = interruption;
    let hopeless = match cause {
        Cause::HistoryGone(_) | Cause::Denied(_) | Cause::Refused(_) | Cause::Faulty(_) => true,
        // A token that ran out may have been renewed.
        Cause::Unauthenticated(_) => !was_open || *failures > 1,
        Cause::Unreachable(_) => !was_open,
        Cause::Lost(_) | Cause::Ended | Cause::Stalled(_) => {
            !was_open && *failures >= FIRST_ATTEMPTS
        }
    };
    if hopeless || (was_open && !reconnect) {
        return Err(cause.clone().into());
    }
    let seconds = retry_in.as_secs_f32();
    eprintln!("interrupted: {}; trying again in {seconds:.1} s", plain(&cause.to_string()));
    Ok(())
}

/// Waits for the end that was set, or that somebody asks for.
pub fn ended(lasting: Option<Duration>) -> Outcome<impl Future<Output = ()> + use<>> {
    let cannot = |error: io::Error| Failure::new(Exit::Failed, error.to_string());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    Ok(async move {
        let over = async {
            match lasting {
                Some(lasting) => tokio::time::sleep(lasting).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = over => {}
        }
    })
}

fn resumable_at(position: i64) {
    if position > 0 {
        eprintln!("seen up to revision {position}; to go on: the same with --from {position}");
    }
}

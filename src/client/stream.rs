//! Following the partners and settings over as many connections as it takes.

use std::{collections::VecDeque, fmt, future::Future, pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::{
    assembly::{Assembly, Batch, Fault, Listing},
    backoff::Backoff,
    error::ConnectError,
    remote::Remote,
};
use crate::proto::{
    v1::{
        WatchAllowedPartnersRequest, allowed_partner_service_client::AllowedPartnerServiceClient,
    },
    watch::WatchAllowedPartnersResponse,
};

/// How long it may take until a service that was reached has opened a stream.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Larger than the largest message: a partner of 1,000 domains, before and after, is under 1 MB.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// How to follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which partners, or which audit entries (AIP-160); all when empty. The settings are followed
    /// whatever it says.
    pub filter: String,
    /// How often the service tells of its progress while nothing happens, 1 s to 10 min.
    pub progress_interval: Duration,
    /// What a message may be late by. A stream on which nothing was heard for twice the
    /// `progress_interval` and this long is given up, and another one opened.
    pub slack: Duration,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// How long a stream must have lived to count as a success, after which the pauses begin
    /// small again.
    pub settled_after: Duration,
}

impl Default for Options {
    /// Everything, with progress every 30 s.
    fn default() -> Self {
        Self {
            filter: String::new(),
            progress_interval: Duration::from_secs(30),
            slack: Duration::from_secs(10),
            backoff: Backoff::default(),
            settled_after: Duration::from_secs(10),
        }
    }
}

impl Options {
    pub(super) fn stalled_after(&self) -> Duration {
        self.progress_interval * 2 + self.slack
    }

    /// How long to wait for the next attempt after so many failures in a row.
    pub(super) fn pause(&self, cause: &Cause, failures: u32) -> Duration {
        match cause {
            Cause::Denied(_) | Cause::Refused(_) => self.backoff.slow_pause(),
            cause => self.backoff.pause(failures, cause.asked_pause()),
        }
    }
}

/// What comes out of an [`EventStream`].
#[derive(Clone, Debug)]
pub enum Message {
    /// A stream is open: the state follows, or every change after `start_revision` if it is not 0.
    Opened {
        /// The revision that it goes on after.
        start_revision: i64,
    },
    /// The whole state. What was known before no longer counts.
    Listed(Listing),
    /// Everything that one commit did.
    Changed(Batch),
    /// Nothing else happened up to this revision.
    InStep {
        /// The revision.
        revision: i64,
    },
    /// There is no stream now. Another attempt follows by itself.
    Interrupted(Interruption),
}

/// Why there is no stream, and when the next attempt is made.
#[derive(Clone, Debug)]
pub struct Interruption {
    /// Why.
    pub cause: Cause,
    /// How many attempts have failed since the last success, this one included.
    pub failures: u32,
    /// How long until the next attempt.
    pub retry_in: Duration,
}

/// Why a stream ended or could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// The service cannot be reached, or there is no usable certificate or token.
    #[error(transparent)]
    Unreachable(#[from] ConnectError),
    /// The connection broke, or the service goes away, is overloaded or failed.
    #[error("{}", words(.0))]
    Lost(Status),
    /// The service ended the stream without saying why.
    #[error("the service ended the stream")]
    Ended,
    /// Nothing was heard for too long.
    #[error("nothing was heard for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The history after the last revision is no longer kept (OUT_OF_RANGE). The state is read anew.
    #[error("{}", words(.0))]
    HistoryGone(Status),
    /// The token is missing, expired or revoked (UNAUTHENTICATED). It is read anew before the next
    /// attempt.
    #[error("{}", words(.0))]
    Unauthenticated(Status),
    /// The caller may not, or no longer, follow the partners (PERMISSION_DENIED).
    #[error("{}", words(.0))]
    Denied(Status),
    /// The service does not take the request, for example because of its filter.
    #[error("{}", words(.0))]
    Refused(Status),
    /// The stream broke its own rules. The state is read anew.
    #[error("the stream is at fault: {0}")]
    Faulty(#[from] Fault),
}

/// The partners and settings as they change: every commit whole, once and in order, however often
/// the connection is lost between. It never ends by itself.
///
/// Each attempt makes a connection of its own and reads token and certificates anew, so nothing of
/// a dead or outdated one is left.
pub struct EventStream {
    remote: Remote,
    options: Options,
    position: i64,
    /// Whether the next stream begins with the state, whatever the position.
    relist: bool,
    phase: Phase,
    ready: VecDeque<Message>,
    failures: u32,
    last_contact: Option<Instant>,
}

type Responses = Streaming<WatchAllowedPartnersResponse>;
type Opening = Pin<Box<dyn Future<Output = Result<Responses, Cause>> + Send>>;

enum Phase {
    Waiting(Pin<Box<Sleep>>),
    Opening { start: i64, opening: Opening },
    Open(Box<Open>),
}

struct Open {
    responses: Responses,
    assembly: Assembly,
    since: Instant,
    /// When the stream counts as dead, unless something is heard before.
    deadline: Instant,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("remote", &self.remote)
            .field("options", &self.options)
            .field("position", &self.position)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl EventStream {
    /// Follows from after `start_revision` on; at 0, beginning with the state. Nothing is done
    /// before [`Self::next`] is called.
    pub fn new(remote: Remote, options: Options, start_revision: i64) -> Self {
        Self {
            remote,
            options,
            position: start_revision,
            relist: false,
            phase: Phase::Waiting(Box::pin(sleep(Duration::ZERO))),
            ready: VecDeque::new(),
            failures: 0,
            last_contact: None,
        }
    }

    /// The next message. May be dropped and called again without a loss.
    pub async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.note(&message);
                return message;
            }
            match &mut self.phase {
                Phase::Waiting(pause) => {
                    pause.as_mut().await;
                    self.open();
                }
                Phase::Opening { start, opening } => {
                    let (start, outcome) = (*start, opening.as_mut().await);
                    match outcome {
                        Ok(responses) => self.opened(start, responses),
                        Err(cause) => self.interrupt(cause),
                    }
                }
                Phase::Open(open) => {
                    let heard = timeout_at(open.deadline, open.responses.message()).await;
                    self.heard(heard.map_err(|_| Cause::Stalled(self.options.stalled_after())));
                }
            }
        }
    }

    /// The revision up to which everything has come out: where another stream can go on.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// When the service was last heard, if ever.
    pub fn last_contact(&self) -> Option<Instant> {
        self.last_contact
    }

    fn note(&mut self, message: &Message) {
        match message {
            Message::Listed(listing) => (self.position, self.relist) = (listing.revision, false),
            Message::Changed(batch) => self.position = batch.revision,
            Message::InStep { revision } => self.position = *revision,
            Message::Opened { .. } | Message::Interrupted(_) => {}
        }
    }

    fn open(&mut self) {
        let start = if self.relist { 0 } else { self.position };
        let request = WatchAllowedPartnersRequest {
            filter: self.options.filter.clone(),
            start_revision: start,
            progress_interval: prost_types::Duration::try_from(self.options.progress_interval).ok(),
        };
        let opening = Box::pin(open(self.remote.clone(), request));
        self.phase = Phase::Opening { start, opening };
    }

    fn opened(&mut self, start: i64, responses: Responses) {
        let now = Instant::now();
        self.last_contact = Some(now);
        self.phase = Phase::Open(Box::new(Open {
            responses,
            assembly: Assembly::new(start),
            since: now,
            deadline: now + self.options.stalled_after(),
        }));
        self.ready.push_back(Message::Opened { start_revision: start });
    }

    fn heard(
        &mut self,
        heard: Result<Result<Option<WatchAllowedPartnersResponse>, Status>, Cause>,
    ) {
        let Phase::Open(open) = &mut self.phase else { return };
        let now = Instant::now();
        let taken = match heard {
            Ok(Ok(Some(response))) => {
                self.last_contact = Some(now);
                open.deadline = now + self.options.stalled_after();
                open.assembly.take(&response, now, &mut self.ready).map_err(Cause::Faulty)
            }
            Ok(Ok(None)) => Err(Cause::Ended),
            Ok(Err(status)) => Err(status.into()),
            Err(stalled) => Err(stalled),
        };
        if let Err(cause) = taken {
            self.interrupt(cause);
        }
    }

    fn interrupt(&mut self, cause: Cause) {
        if let Phase::Open(open) = &self.phase
            && open.since.elapsed() >= self.options.settled_after
        {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.relist |= matches!(cause, Cause::HistoryGone(_) | Cause::Faulty(_));
        let retry_in = match &cause {
            Cause::HistoryGone(_) if self.failures == 1 => Duration::ZERO,
            cause => self.options.pause(cause, self.failures),
        };
        self.phase = Phase::Waiting(Box::pin(sleep(retry_in)));
        let failures = self.failures;
        self.ready.push_back(Message::Interrupted(Interruption { cause, failures, retry_in }));
    }
}

async fn open(remote: Remote, request: WatchAllowedPartnersRequest) -> Result<Responses, Cause> {
    let request = remote.authorized(request).await?;
    let channel = remote.connect().await?;
    let mut client =
        AllowedPartnerServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let response = timeout(OPEN_TIMEOUT, client.watch_allowed_partners(request))
        .await
        .map_err(|_| Cause::Stalled(OPEN_TIMEOUT))?;
    Ok(response?.into_inner())
}

impl Cause {
    /// The status that the service answered with, if it did.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Lost(status)
            | Self::HistoryGone(status)
            | Self::Unauthenticated(status)
            | Self::Denied(status)
            | Self::Refused(status) => Some(status),
            Self::Unreachable(_) | Self::Ended | Self::Stalled(_) | Self::Faulty(_) => None,
        }
    }

    fn asked_pause(&self) -> Option<Duration> {
        self.status()?.get_details_retry_info()?.retry_delay
    }
}

impl From<Status> for Cause {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::OutOfRange => Self::HistoryGone(status),
            Code::Unauthenticated => Self::Unauthenticated(status),
            Code::PermissionDenied => Self::Denied(status),
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Refused(status),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Lost(status),
        }
    }
}

fn words(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        text => text.to_owned(),
    }
}

//! Following the audit over as many connections as it takes.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Streaming;

use super::{
    remote::Remote,
    stream::{Cause, Interruption, OPEN_TIMEOUT, Options},
};
use crate::proto::v1::{
    AuditEntry, WatchAuditEntriesRequest, WatchAuditEntriesResponse,
    audit_service_client::AuditServiceClient,
};

/// Larger than the largest message: a batch of a thousand partners is one entry.
const MAX_MESSAGE_BYTES: usize = 512 * 1024 * 1024;

/// What comes out of an [`AuditStream`].
#[derive(Clone, Debug)]
pub enum AuditMessage {
    /// A stream is open: every entry after `start_sequence`, or from now on if that is 0.
    Opened {
        /// The sequence that it goes on after.
        start_sequence: i64,
    },
    /// What was written, in order; at least one.
    Entries(Vec<AuditEntry>),
    /// There is no stream now. Another attempt follows by itself.
    Interrupted(Interruption),
}

/// The audit as it is written: every entry once and in order, however often the connection is lost
/// between. It never ends by itself. What retention removed before it was read cannot be followed;
/// the reader is told so, again and again, and decides.
#[derive(Debug)]
pub struct AuditStream {
    remote: Remote,
    options: Options,
    position: i64,
    open: Option<Open>,
    pause: Duration,
    failures: u32,
}

#[derive(Debug)]
struct Open {
    responses: Streaming<WatchAuditEntriesResponse>,
    since: Instant,
}

impl AuditStream {
    /// Follows from after `start_sequence` on; at 0, from now on. Nothing is done before
    /// [`Self::next`] is called.
    pub const fn new(remote: Remote, options: Options, start_sequence: i64) -> Self {
        Self {
            remote,
            options,
            position: start_sequence,
            open: None,
            pause: Duration::ZERO,
            failures: 0,
        }
    }

    /// The sequence up to which everything has come out: where another stream can go on. 0 until
    /// the service has told where a stream from now on begins.
    pub const fn position(&self) -> i64 {
        self.position
    }

    /// The next message.
    pub async fn next(&mut self) -> AuditMessage {
        loop {
            let Some(open) = &mut self.open else {
                sleep(self.pause).await;
                match self.connect().await {
                    Ok(responses) => {
                        self.open = Some(Open { responses, since: Instant::now() });
                        return AuditMessage::Opened { start_sequence: self.position };
                    }
                    Err(cause) => return self.interrupted(cause),
                }
            };
            let stalled = self.options.stalled_after();
            let heard = timeout_at(Instant::now() + stalled, open.responses.message()).await;
            let message = match heard {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return self.interrupted(Cause::Ended),
                Ok(Err(status)) => return self.interrupted(status.into()),
                Err(_) => return self.interrupted(Cause::Stalled(stalled)),
            };
            self.position = message.progress_sequence;
            if !message.audit_entries.is_empty() {
                return AuditMessage::Entries(message.audit_entries);
            }
        }
    }

    async fn connect(&self) -> Result<Streaming<WatchAuditEntriesResponse>, Cause> {
        let request = WatchAuditEntriesRequest {
            filter: self.options.filter.clone(),
            start_sequence: self.position,
            progress_interval: prost_types::Duration::try_from(self.options.progress_interval).ok(),
        };
        let request = self.remote.authorized(request).await?;
        let channel = self.remote.connect().await?;
        let mut client =
            AuditServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let response = timeout(OPEN_TIMEOUT, client.watch_audit_entries(request))
            .await
            .map_err(|_| Cause::Stalled(OPEN_TIMEOUT))?;
        Ok(response?.into_inner())
    }

    fn interrupted(&mut self, cause: Cause) -> AuditMessage {
        let settled = self.options.settled_after;
        if self.open.take().is_some_and(|open| open.since.elapsed() >= settled) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.pause = self.options.pause(&cause, self.failures);
        let (failures, retry_in) = (self.failures, self.pause);
        AuditMessage::Interrupted(Interruption { cause, failures, retry_in })
    }
}

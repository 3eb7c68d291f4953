//! Reports to the service: what is in force, since when, and what is wrong.
//!
//! Reports are sent one after the other, the newest state each time. A report that does not get
//! through is sent again, as it is by then; nothing about reporting ever holds enforcement up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost_types::{Duration as WireDuration, Timestamp};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    Answer,
    options::{Kind, Options, host_name},
    roster::Roster,
};
use crate::{
    client::Remote,
    proto::v1::{
        PartnerSessions, ReplicaRejection, ReplicaReport, ReportReplicaRequest,
        ReportReplicaResponse, ServerKind, StalenessPolicy, UnenforcedProperty,
        replica_service_client::ReplicaServiceClient,
    },
};

/// How often to report until the service says otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last report may take when the agent ends.
const FAREWELL: Duration = Duration::from_secs(2);

const MAX_SESSIONS: usize = 1_000;
const MAX_PROPERTIES: usize = 100;
const MAX_EXAMPLES: usize = 10;
const MAX_WARNINGS: usize = 50;

/// The way to the service for everything that is to be reported.
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What is in force, as the service counts.
#[derive(Clone, Debug)]
pub struct Progress {
    revision: i64,
    lease: Option<WireDuration>,
    policy: StalenessPolicy,
}

#[derive(Debug)]
struct Shared {
    news: Mutex<News>,
    bell: Notify,
    history_lost: Notify,
}

/// What the next report says.
#[derive(Debug)]
struct News {
    report: ReplicaReport,
    heard: Option<Instant>,
    /// Whether the service has not been told yet.
    fresh: bool,
    ending: bool,
}

impl Progress {
    /// That this roster is in force.
    pub fn of(roster: &Roster) -> Self {
        let settings = roster.settings();
        Self {
            revision: roster.generation(),
            lease: settings.staleness_lease,
            policy: settings.staleness_policy(),
        }
    }

    /// The same of an earlier revision.
    #[must_use]
    pub fn at(self, revision: i64) -> Self {
        Self { revision, ..self }
    }
}

impl Reporter {
    /// Starts to report.
    pub(super) fn start(options: &Options) -> Self {
        let kind = match options.kind {
            Kind::Prosody => ServerKind::Prosody,
            Kind::Ejabberd => ServerKind::Ejabberd,
            Kind::File => ServerKind::File,
        };
        let report = ReplicaReport {
            server_kind: kind.into(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            host_name: host_name(),
            ..ReplicaReport::default()
        };
        let news = News { report, heard: None, fresh: false, ending: false };
        let shared = Arc::new(Shared {
            news: Mutex::new(news),
            bell: Notify::new(),
            history_lost: Notify::new(),
        });
        let name = format!("replicas/{}", options.replica);
        let line = Line { remote: options.remote.clone(), name, client: None };
        let task = tokio::spawn(line.report_on(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// The service was heard then.
    pub fn heard(&self, at: Option<Instant>) {
        self.shared.news().heard = at;
    }

    /// What is in force is now that of a later revision.
    pub fn note(&self, progress: Progress) {
        self.shared.tell(|report| {
            // Only what is in force moves on; a rejection does not become an application by waiting.
            if report.rejection.is_none() && report.applied_revision > 0 {
                report.progress(progress);
            }
        });
    }

    /// The server has answered. `progress` is what is in force, if that is what it was told.
    pub fn answered(&self, answer: Answer, applied: bool, progress: Option<Progress>) {
        self.shared.tell(|report| report.take(answer, applied, progress));
    }

    /// A revision was refused, or could not be handed over.
    pub fn rejected(&self, revision: i64, reason: String) {
        self.shared.tell(|report| report.reject(revision, reason));
    }

    /// What is in force is of a history that the service no longer has.
    pub fn forget_revision(&self) {
        self.shared.tell(|report| (report.applied_revision, report.rejection) = (0, None));
    }

    /// Waits until the service says that it never had the revision that is in force: it was restored
    /// from a backup.
    pub async fn history_lost(&self) {
        self.shared.history_lost.notified().await;
    }

    /// Sends what the service has not been told yet, and ends.
    pub async fn finish(self) {
        self.shared.news().ending = true;
        self.shared.bell.notify_one();
        if timeout(FAREWELL, self.task).await.is_err() {
            tracing::debug!("the last report did not get through");
        }
    }
}

impl Shared {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the report, and has it sent if it has changed.
    fn tell(&self, change: impl FnOnce(&mut ReplicaReport)) {
        let mut news = self.news();
        let before = news.report.clone();
        change(&mut news.report);
        if news.report != before {
            news.fresh = true;
            drop(news);
            self.bell.notify_one();
        }
    }
}

/// The line to the service.
struct Line {
    remote: Remote,
    name: String,
    client: Option<ReplicaServiceClient<tonic::transport::Channel>>,
}

impl Line {
    async fn report_on(mut self, shared: Arc<Shared>) {
        let mut next = Instant::now() + DEFAULT_INTERVAL;
        loop {
            // Woken by news, or by the time to give a sign of life.
            let _ = timeout_at(next, shared.bell.notified()).await;
            let (report, ending) = {
                let mut news = shared.news();
                let due = news.fresh || Instant::now() >= next;
                let nothing_known =
                    news.report.server_version.is_empty() && news.report.rejection.is_none();
                if !due || nothing_known {
                    if news.ending {
                        return;
                    }
                    next = next.max(Instant::now() + RETRY);
                    continue;
                }
                news.fresh = false;
                let heard = news.heard;
                let mut report = news.report.clone();
                report.data_age = heard.map(|heard| wire_duration(heard.elapsed()));
                (report, news.ending)
            };
            let pause = match self.send(report).await {
                Ok(response) => interval(&response),
                Err(error) => {
                    shared.news().fresh = true;
                    if reason(&error).as_deref() == Some("REVISION_AHEAD") {
                        shared.history_lost.notify_one();
                    }
                    let (code, message) = (error.code(), error.message());
                    tracing::warn!(?code, message, "the service does not take the report");
                    self.client = None;
                    if error.code() == Code::PermissionDenied { DEFAULT_INTERVAL } else { RETRY }
                }
            };
            if ending {
                return;
            }
            next = Instant::now() + pause;
        }
    }

    async fn send(&mut self, report: ReplicaReport) -> Result<ReportReplicaResponse, Status> {
        let sending = async {
            let unreachable =
                |error: crate::client::ConnectError| Status::unavailable(error.to_string());
            let client = match &mut self.client {
                Some(client) => client,
                none => none.insert(ReplicaServiceClient::new(
                    self.remote.connect().await.map_err(unreachable)?,
                )),
            };
            let request = ReportReplicaRequest { name: self.name.clone(), report: Some(report) };
            let request = self.remote.authorized(request).await.map_err(unreachable)?;
            client.report_replica(request).await.map(tonic::Response::into_inner)
        };
        let late = || Status::deadline_exceeded("the service has not answered in time");
        timeout(CALL_TIMEOUT, sending).await.unwrap_or_else(|_| Err(late()))
    }
}

impl ReplicaReport {
    fn progress(&mut self, Progress { revision, lease, policy }: Progress) {
        self.applied_revision = revision;
        self.staleness_lease = lease;
        self.staleness_policy = policy.into();
    }

    fn take(&mut self, answer: Answer, applied: bool, progress: Option<Progress>) {
        // Exhaustive: what a server answers is reported before this compiles.
        let Answer {
            error,
            generation,
            digest: _,
            partners,
            server,
            module,
            started_at,
            applied_at,
            closed,
            closed_total,
            sessions,
            unenforced,
            warnings,
            stale,
            ..
        } = answer;
        match progress {
            Some(progress) => self.progress(progress),
            // The revision that the server itself names: an earlier one than it should have.
            None => self.applied_revision = generation.max(0),
        }
        if error.is_none() {
            self.rejection = None;
        }
        if applied {
            self.closed_session_count = closed;
        }
        self.server_version = server;
        self.module_version = module;
        self.apply_time = timestamp(applied_at);
        self.server_start_time = timestamp(started_at);
        self.partner_count = partners;
        self.session_count = sessions.iter().map(|one| one.inbound + one.outbound).sum();
        self.sessions = sessions
            .into_iter()
            .take(MAX_SESSIONS)
            .map(|one| PartnerSessions {
                domain: one.domain,
                inbound_count: one.inbound,
                outbound_count: one.outbound,
            })
            .collect();
        self.closed_session_total = closed_total;
        self.unenforced_properties = unenforced
            .into_iter()
            .take(MAX_PROPERTIES)
            .map(|one| UnenforcedProperty {
                property: one.property,
                reason: one.reason,
                partner_count: one.partners,
                examples: one.examples.into_iter().take(MAX_EXAMPLES).collect(),
            })
            .collect();
        self.warnings = warnings.into_iter().take(MAX_WARNINGS).collect();
        self.stale = stale;
    }

    fn reject(&mut self, revision: i64, reason: String) {
        let same = self.rejection.as_ref().filter(|before| before.reason == reason);
        let reject_time = match same {
            Some(before) => before.reject_time,
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                timestamp(i64::try_from(now.as_secs()).unwrap_or(0))
            }
        };
        self.rejection = Some(ReplicaRejection { revision, reason, reject_time });
    }
}

fn interval(response: &ReportReplicaResponse) -> Duration {
    let wanted = response.report_interval.and_then(|time| Duration::try_from(time).ok());
    wanted.filter(|time| !time.is_zero()).unwrap_or(DEFAULT_INTERVAL)
}

fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// A moment, if it is one.
fn timestamp(seconds: i64) -> Option<Timestamp> {
    (seconds > 0).then_some(Timestamp { seconds, nanos: 0 })
}

fn wire_duration(time: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

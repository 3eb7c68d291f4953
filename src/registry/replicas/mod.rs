//! The replicas' use cases: what the agents report, and how far every server is.
//!
//! Reports are no commits. They change a table in memory, and what of it has to outlive the service
//! goes to the store through the writer: the binding of an id to its subject, and its end, before
//! they are answered; a new revision, rejection or version within a second, all of that second
//! together; a mere sign of life at most once a minute. So a thousand agents cost one sync a
//! second at the most.

mod table;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::table::Replicas;
use super::{
    Error, Kind, Registry, Snapshot,
    listing::MAX_PAGE_BYTES,
    pages::{PageToken, query_digest},
};
use crate::{
    auth::{
        Permit,
        permit::{DeleteReplica, GetReplica, ListReplicas, Reach, ReportReplica, WaitForReplicas},
    },
    domain::{
        DomainName, Revision,
        filter::Filter,
        replica::{Replica, ReplicaId, Report, State, View, Yardstick},
        settings::FederationSettings,
    },
};

/// How many reports a replica may miss before it is silent.
const MISSED_REPORTS: u32 = 3;

/// How long a wait rests between two looks at all replicas, for each of them: a look costs a
/// hundredth of that.
const REST_PER_REPLICA: Duration = Duration::from_micros(10);

/// What the replicas are allowed.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// The most there may be.
    pub max_count: usize,
    /// How long one may be quiet before it counts as silent.
    pub silent_after: Duration,
    /// Whether the id of a replica must be the subject of its token.
    pub id_is_subject: bool,
}

/// What an agent is told in answer to its report.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The last revision.
    pub revision: Revision,
    /// When to report again at the latest.
    pub interval: Duration,
    /// The settings in force.
    pub settings: Arc<FederationSettings>,
}

/// A page of replicas.
#[derive(Debug)]
pub struct ReplicaPage {
    /// The replicas.
    pub replicas: Vec<View>,
    /// The token of the next page; `None` on the last one.
    pub next: Option<String>,
    /// How many there are in all pages.
    pub total: u32,
}

/// How far the replicas are with a revision.
#[derive(Clone, Debug)]
pub struct Convergence {
    /// The revision.
    pub revision: Revision,
    /// How many replicas there are.
    pub replicas: usize,
    /// How many have it.
    pub in_force: usize,
    /// The sessions that those closed with it, as far as is remembered.
    pub closed: i64,
    /// The replicas that have not got it, with their states.
    pub pending: Vec<(Arc<Replica>, State)>,
}

impl Convergence {
    /// Whether every replica that is not silent has it.
    pub fn is_reached(&self) -> bool {
        self.pending.iter().all(|(_, state)| *state == State::Silent)
    }
}

impl Registry {
    /// Takes a report. The first one of an id binds it to the permit's holder, and returns when
    /// that is on the disk.
    ///
    /// # Errors
    /// [`Kind::RevisionAhead`]; [`Kind::ReplicaNotSubject`]; [`Kind::ReplicaOfAnother`];
    /// [`Kind::TooManyReplicas`]; for a first report also what a write may report.
    pub async fn report_replica(
        &self,
        permit: &Permit<ReportReplica>,
        report: Report,
    ) -> Result<Reported, Error> {
        let snapshot = self.snapshot();
        let rejected = report.rejection.as_ref().map(|rejection| rejection.revision);
        for given in [Some(report.applied), rejected].into_iter().flatten() {
            not_ahead(given, snapshot.revision())?;
        }
        let (id, actor) = (permit.target(), permit.actor());
        let options = &self.replicas.options;
        if options.id_is_subject && id.as_str() != &*actor.subject {
            return Err(Kind::ReplicaNotSubject.into());
        }
        if let Some(saved) = self.replicas.take(id, actor, report, &self.writer)? {
            if let Err(error) = saved.wait().await {
                self.replicas.unbind(id);
                return Err(error);
            }
            let (replica, subject) = (id.as_str(), &*actor.subject);
            tracing::info!(replica, subject, "a new replica reports; its id is bound to it");
        }
        Ok(Reported {
            revision: snapshot.revision(),
            interval: options.silent_after / MISSED_REPORTS,
            settings: Arc::clone(snapshot.settings()),
        })
    }

    /// A replica.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn replica(&self, permit: &Permit<GetReplica>) -> Result<View, Error> {
        let found = self.replicas.get(permit.target());
        let replica = found.ok_or_else(|| not_found(permit.target()))?;
        Ok(self.sight(permit.readable()).view(replica))
    }

    /// A page of the replicas. Looks at all of them, so not for async threads.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a bad page token.
    pub fn list_replicas(
        &self,
        permit: &Permit<ListReplicas>,
        filter: &Filter<View>,
        page_size: usize,
        page_token: &str,
    ) -> Result<ReplicaPage, Error> {
        let reach = format!("{:?}", permit.readable());
        let digest = query_digest(&["replicas", filter.as_str(), &reach]);
        let after = match page_token {
            "" => None,
            text => Some(PageToken::decode(text, digest)?.after),
        };
        let sight = self.sight(permit.readable());
        let all = self.replicas.all();
        let (mut total, mut replicas) = (0_u32, Vec::new());
        for view in all.into_iter().map(|replica| sight.view(replica)) {
            if !filter.matches(&view) {
                continue;
            }
            total = total.saturating_add(1);
            let is_wanted = after.as_deref().is_none_or(|after| view.replica.id.as_str() > after);
            if is_wanted && replicas.len() <= page_size {
                replicas.push(view);
            }
        }
        let fitting = fitting(&replicas, page_size);
        let more = replicas.len() > fitting;
        replicas.truncate(fitting);
        let next = replicas.last().filter(|_| more).map(|last| {
            let after = last.replica.id.to_string();
            PageToken { revision: sight.snapshot.revision(), total, query: digest, after }.encode()
        });
        Ok(ReplicaPage { replicas, next, total })
    }

    /// Forgets a replica. Returns when that is on the disk.
    ///
    /// # Errors
    /// [`Kind::NotFound`], unless `allow_missing`; what a write may report.
    pub async fn delete_replica(
        &self,
        permit: &Permit<DeleteReplica>,
        allow_missing: bool,
    ) -> Result<(), Error> {
        let (id, actor) = (permit.target(), permit.actor());
        let Some(saved) = self.replicas.remove(id, actor, &self.writer)? else {
            return if allow_missing { Ok(()) } else { Err(not_found(id)) };
        };
        saved.wait().await?;
        let (replica, subject) = (id.as_str(), &*actor.subject);
        tracing::info!(replica, subject, reason = &*actor.reason, "a replica was deleted");
        Ok(())
    }

    /// Waits until every replica that is not silent has `revision`, zero being the last one, but
    /// not beyond `until`.
    ///
    /// # Errors
    /// [`Kind::RevisionAhead`]; [`Kind::Draining`] when the server goes away.
    pub async fn wait_for_convergence(
        &self,
        _permit: &Permit<WaitForReplicas>,
        revision: Revision,
        until: Instant,
    ) -> Result<Convergence, Error> {
        let last = self.revision();
        not_ahead(revision, last)?;
        let revision = if revision == Revision::ZERO { last } else { revision };
        let mut bell = self.replicas.bell();
        loop {
            bell.mark_unchanged();
            let by = self.yardstick(&self.snapshot());
            let (found, next_silence) = self.replicas.convergence(revision, by);
            if found.is_reached() || Instant::now() >= until {
                return Ok(found);
            }
            if self.replicas.is_draining() {
                return Err(Kind::Draining.into());
            }
            let quiet = Duration::try_from(next_silence.duration_since(by.now));
            tokio::select! {
                _ = bell.changed() => {}
                () = sleep(quiet.unwrap_or_default()) => {}
                () = sleep_until(until) => {}
            }
            let rest = REST_PER_REPLICA * u32::try_from(found.replicas).unwrap_or(u32::MAX);
            sleep_until(until.min(Instant::now() + rest)).await;
        }
    }

    /// Ends the waits for the replicas, because the server goes away.
    pub fn end_waits(&self) {
        self.replicas.drain();
    }

    /// Writes what the store does not know of the replicas. To be called about once a second.
    ///
    /// # Errors
    /// What a write may report. What was not written is written the next time.
    pub async fn save_replicas(&self) -> Result<(), Error> {
        // A store that failed takes no writes until the server is started anew.
        while self.writer.failure().is_none() {
            match self.replicas.save(&self.writer)? {
                Some(saved) => saved.wait().await?,
                None => break,
            }
        }
        Ok(())
    }

    fn yardstick(&self, snapshot: &Snapshot) -> Yardstick {
        Yardstick {
            now: Timestamp::now(),
            listening_since: self.replicas.listening_since,
            silent_after: self.replicas.options.silent_after,
            target: snapshot.list_revision(),
        }
    }

    fn sight<'a>(&self, readable: &'a Reach) -> Sight<'a> {
        let snapshot = self.snapshot();
        Sight { by: self.yardstick(&snapshot), snapshot, readable }
    }
}

/// What a caller sees of the replicas at one moment.
struct Sight<'a> {
    snapshot: Arc<Snapshot>,
    by: Yardstick,
    readable: &'a Reach,
}

impl Sight<'_> {
    fn view(&self, replica: Arc<Replica>) -> View {
        let report = if self.readable.is_everything() {
            Arc::clone(&replica.report)
        } else {
            Arc::new(replica.report.redacted(|domain| self.may_see(domain)))
        };
        View {
            report,
            state: replica.state(self.by),
            behind: replica.behind(self.by.target),
            data_age: replica.data_age(self.by.now),
            replica,
        }
    }

    fn may_see(&self, domain: &str) -> bool {
        let Ok(domain) = DomainName::parse(domain) else { return false };
        match self.snapshot.owner_of(&domain) {
            Some(partner) => self.readable.covers(partner),
            None => self.readable.covers_domain(&domain),
        }
    }
}

/// How many of `views` fit on a page; at least one.
fn fitting(views: &[View], page_size: usize) -> usize {
    let mut weight = 0;
    let light = views.iter().take_while(|view| {
        weight += view.weight();
        weight <= MAX_PAGE_BYTES
    });
    light.count().clamp(1, page_size)
}

fn not_ahead(given: Revision, last: Revision) -> Result<(), Error> {
    if given > last { Err(Kind::RevisionAhead { given, last }.into()) } else { Ok(()) }
}

fn not_found(id: &ReplicaId) -> Error {
    let hint = "ListReplicas tells which there are; a server is known from its first report on";
    Kind::NotFound { resource: format!("replicas/{id}"), hint: hint.into() }.into()
}

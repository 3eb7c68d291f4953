//! Replicas: the XMPP servers that obey the list, as their agents report on them.
//!
//! A replica belongs to the subject that first reported as it. What it says of itself is its
//! [`Report`]; how far it is, its [`State`], is derived from that and the clock.

use std::{borrow::Borrow, collections::VecDeque, fmt, str::FromStr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{audit::Actor, revision::Revision, settings::StalenessPolicy};

/// The most characters of an id.
const MAX_ID_CHARS: usize = 63;

/// The most applications that are remembered of a replica.
const MAX_APPLICATIONS: usize = 64;

/// The id of a replica: 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end.
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(Arc<str>);

/// A text that is no replica's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a replica's id: 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end"
)]
pub struct BadReplicaId;

/// A kind of XMPP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Prosody.
    Prosody,
    /// ejabberd.
    Ejabberd,
    /// Any other, for which the agent renders a file.
    File,
}

/// A revision that a server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The revision.
    pub revision: Revision,
    /// Why, in the server's words.
    pub reason: String,
    /// When, by the clock of the server's machine.
    pub time: Option<Timestamp>,
}

/// The authenticated sessions of a server with one partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The partner's primary domain, as the server has it.
    pub domain: String,
    /// Those that the partner opened.
    pub inbound: i64,
    /// Those that the server opened.
    pub outbound: i64,
}

/// A property that a server does not enforce although the list asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforced {
    /// The field in the API.
    pub property: String,
    /// Why.
    pub reason: String,
    /// How many partners it concerns.
    pub partners: i64,
    /// Some of their primary domains.
    pub examples: Vec<String>,
}

/// What an agent says of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The kind of server.
    pub server_kind: ServerKind,
    /// Its name and version.
    pub server_version: String,
    /// The version of our module in it.
    pub module_version: String,
    /// The version of the agent.
    pub agent_version: String,
    /// The name of the machine.
    pub host_name: String,
    /// The revision in force; zero if there is none.
    pub applied: Revision,
    /// What the server refuses now.
    pub rejection: Option<Rejection>,
    /// What is known only while the agent reports.
    pub live: Live,
}

/// The part of a report that does not outlive the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// When the revision was put in force, by the server's clock.
    pub apply_time: Option<Timestamp>,
    /// The partners in force.
    pub partners: i64,
    /// The sessions with all partners.
    pub session_count: i64,
    /// The sessions by partner.
    pub sessions: Vec<Sessions>,
    /// The sessions closed by the last application.
    pub closed: i64,
    /// The sessions closed since the start of the server.
    pub closed_total: i64,
    /// When the server started.
    pub start_time: Option<Timestamp>,
    /// What is not enforced.
    pub unenforced: Vec<Unenforced>,
    /// What is wrong with the installation.
    pub warnings: Vec<String>,
    /// The lease that the server goes by.
    pub staleness_lease: Option<Duration>,
    /// What it does when the lease has run out.
    pub staleness_policy: Option<StalenessPolicy>,
    /// Whether it does so now.
    pub stale: bool,
    /// How long before the report the agent last heard from the service.
    pub data_age: Option<Duration>,
}

/// A step of a replica to a later revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Application {
    /// The revision that is in force since.
    pub revision: Revision,
    /// The sessions that it closed.
    pub closed: i64,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// The issuer of its subject.
    pub issuer: Arc<str>,
    /// The subject that alone reports for it.
    pub subject: Arc<str>,
    /// When it first reported.
    pub first_report_time: Timestamp,
    /// When it last reported.
    pub last_report_time: Timestamp,
    /// What it last rejected, be it now or earlier.
    pub last_rejection: Option<Rejection>,
    /// What it said last.
    pub report: Arc<Report>,
    /// Its last steps, oldest first. They do not outlive the service.
    pub applications: VecDeque<Application>,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It enforces everything that was committed.
    UpToDate,
    /// It enforces an earlier revision.
    Behind,
    /// It refuses what it was given last.
    Rejecting,
    /// Nothing was heard from it for too long.
    Silent,
}

/// What the state of a replica is measured against.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick {
    /// The time.
    pub now: Timestamp,
    /// Since when reports could be heard at all: the start of the service.
    pub listening_since: Timestamp,
    /// How long a replica may be quiet.
    pub silent_after: Duration,
    /// The last revision that changed a partner or the settings.
    pub target: Revision,
}

/// A replica as one caller may see it at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The replica.
    pub replica: Arc<Replica>,
    /// Its report, without the partners that the caller may not read.
    pub report: Arc<Report>,
    /// How far it is.
    pub state: State,
    /// How many revisions it is behind.
    pub behind: u64,
    /// How long ago its agent last heard from the service.
    pub data_age: Option<Duration>,
}

impl View {
    /// About how many bytes it takes in a response.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 512;
        const EACH: usize = 24;
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + EACH).sum::<usize>();
        let reason = |it: &Option<Rejection>| it.as_ref().map_or(0, |it| it.reason.len() + EACH);
        let Report { server_version, module_version, agent_version, host_name, .. } = &*self.report;
        let labels = [server_version, module_version, agent_version, host_name];
        let Live { sessions, unenforced, warnings, .. } = &self.report.live;
        let sessions = sessions.iter().map(|it| it.domain.len() + EACH);
        let unenforced = unenforced
            .iter()
            .map(|it| it.property.len() + it.reason.len() + texts(&it.examples) + EACH);
        FIXED
            + self.replica.issuer.len()
            + self.replica.subject.len()
            + reason(&self.replica.last_rejection)
            + reason(&self.report.rejection)
            + labels.map(String::len).iter().sum::<usize>()
            + sessions.sum::<usize>()
            + unenforced.sum::<usize>()
            + texts(warnings)
    }
}

impl ReplicaId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReplicaId {
    type Err = BadReplicaId;

    fn from_str(text: &str) -> Result<Self, BadReplicaId> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let inner = text.bytes().all(|byte| is_allowed(byte) || byte == b'-');
        let ends = !text.starts_with('-') && !text.ends_with('-');
        if inner && ends && (1..=MAX_ID_CHARS).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(BadReplicaId)
        }
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ReplicaId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Replica {
    /// The replica that begins with this report.
    pub fn first(id: ReplicaId, owner: &Actor, report: Report, now: Timestamp) -> Self {
        Self {
            id,
            issuer: Arc::clone(&owner.issuer),
            subject: Arc::clone(&owner.subject),
            first_report_time: now,
            last_report_time: now,
            last_rejection: report.rejection.clone(),
            applications: [Application { revision: report.applied, closed: report.live.closed }]
                .into(),
            report: Arc::new(report),
        }
    }

    /// The replica after one more report.
    #[must_use]
    pub fn reported(&self, report: Report, now: Timestamp) -> Self {
        let mut applications = self.applications.clone();
        if report.applied != self.report.applied {
            // A server that lost what it had begins anew: what it took before is no longer there.
            applications.retain(|earlier| earlier.revision < report.applied);
            applications
                .push_back(Application { revision: report.applied, closed: report.live.closed });
            if applications.len() > MAX_APPLICATIONS {
                applications.pop_front();
            }
        }
        Self {
            last_report_time: now.max(self.last_report_time),
            last_rejection: report.rejection.clone().or_else(|| self.last_rejection.clone()),
            report: Arc::new(report),
            applications,
            ..self.clone()
        }
    }

    /// Whether `actor` is the one who reports for it.
    pub fn is_of(&self, actor: &Actor) -> bool {
        self.issuer == actor.issuer && self.subject == actor.subject
    }

    /// Whether `earlier` would be the same after a restart of the service, but for the time of its
    /// last report.
    pub fn lasts_like(&self, earlier: &Self) -> bool {
        // Exhaustive: a new part of a report must be thought of here.
        let Report {
            server_kind,
            server_version,
            module_version,
            agent_version,
            host_name,
            applied,
            rejection,
            live: _,
        } = &*self.report;
        let other = &earlier.report;
        self.last_rejection == earlier.last_rejection
            && *server_kind == other.server_kind
            && *server_version == other.server_version
            && *module_version == other.module_version
            && *agent_version == other.agent_version
            && *host_name == other.host_name
            && *applied == other.applied
            && *rejection == other.rejection
    }

    /// Whether `revision` is in force on it, as far as is known. What it lacks of it beyond the
    /// `target` is nothing to a replica.
    pub fn has(&self, revision: Revision, target: Revision) -> bool {
        self.report.applied >= revision.min(target)
    }

    /// The sessions that it closed when it put `revision` in force, as far as is remembered.
    pub fn closed_by(&self, revision: Revision, target: Revision) -> i64 {
        let needed = revision.min(target);
        let step = self.applications.iter().find(|step| step.revision >= needed);
        step.map_or(0, |step| step.closed)
    }

    /// How far it is.
    pub fn state(&self, by: Yardstick) -> State {
        if by.now >= self.silent_from(by) {
            State::Silent
        } else if self.report.rejection.is_some() {
            State::Rejecting
        } else if self.report.applied < by.target {
            State::Behind
        } else {
            State::UpToDate
        }
    }

    /// The moment from which it counts as silent, if nothing is heard before.
    pub fn silent_from(&self, by: Yardstick) -> Timestamp {
        let heard = self.last_report_time.max(by.listening_since);
        heard.saturating_add(by.silent_after).unwrap_or(Timestamp::MAX)
    }

    /// How many revisions it is behind.
    pub fn behind(&self, target: Revision) -> u64 {
        target.get().saturating_sub(self.report.applied.get())
    }

    /// How long ago its agent last heard from the service.
    pub fn data_age(&self, now: Timestamp) -> Option<Duration> {
        let since = now.duration_since(self.last_report_time).max(SignedDuration::ZERO);
        self.report.live.data_age?.checked_add(since.unsigned_abs())
    }
}

impl Report {
    /// The report without the domains that `may_see` does not let through.
    #[must_use]
    pub fn redacted(&self, may_see: impl Fn(&str) -> bool) -> Self {
        let mut report = self.clone();
        report.live.sessions.retain(|sessions| may_see(&sessions.domain));
        for unenforced in &mut report.live.unenforced {
            unenforced.examples.retain(|domain| may_see(domain));
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(applied: u64, closed: i64) -> Report {
        Report {
            server_kind: ServerKind::Prosody,
            server_version: "Prosody 0.12.3".into(),
            module_version: "1.0.0".into(),
            agent_version: "0.1.0".into(),
            host_name: "xmpp-1".into(),
            applied: Revision::new(applied),
            rejection: None,
            live: Live { closed, ..Live::default() },
        }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn replica(first: Report) -> Replica {
        let owner = Actor {
            subject: "agent".into(),
            issuer: "https://issuer.example".into(),
            request_id: "".into(),
            reason: "".into(),
        };
        Replica::first("prosody-1".parse().unwrap(), &owner, first, second(0))
    }

    fn at(now: i64, target: u64) -> Yardstick {
        Yardstick {
            now: second(now),
            listening_since: second(-1_000),
            silent_after: Duration::from_secs(90),
            target: Revision::new(target),
        }
    }

    #[test]
    fn an_id_is_a_label_of_lower_case_letters_digits_and_hyphens() {
        for good in ["a", "7", "prosody-1", &"x".repeat(63)] {
            assert_eq!(good.parse::<ReplicaId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", "*", &"x".repeat(64)] {
            assert_eq!(bad.parse::<ReplicaId>(), Err(BadReplicaId), "{bad}");
        }
    }

    #[test]
    fn the_state_is_the_worst_that_is_known() {
        let replica = replica(report(5, 0));
        assert_eq!(replica.state(at(0, 5)), State::UpToDate);
        assert_eq!((replica.state(at(0, 8)), replica.behind(Revision::new(8))), (State::Behind, 3));
        let rejection = Rejection { revision: Revision::new(8), reason: "no".into(), time: None };
        let nack = Report { rejection: Some(rejection.clone()), ..report(5, 0) };
        let rejecting = replica.reported(nack, second(10));
        assert_eq!(rejecting.state(at(10, 8)), State::Rejecting);
        assert_eq!(rejecting.state(at(99, 8)), State::Rejecting);
        assert_eq!(rejecting.state(at(100, 8)), State::Silent);
        let mended = rejecting.reported(report(8, 0), second(20));
        assert_eq!(mended.state(at(20, 8)), State::UpToDate);
        assert_eq!(mended.last_rejection, Some(rejection));
    }

    #[test]
    fn nobody_is_silent_before_he_could_be_heard() {
        let replica = replica(report(5, 0));
        let restarted = |now| Yardstick { listening_since: second(500), ..at(now, 5) };
        assert_eq!(replica.state(restarted(501)), State::UpToDate);
        assert_eq!(replica.state(restarted(590)), State::Silent);
    }

    #[test]
    fn what_a_revision_closed_is_what_the_step_to_it_closed() {
        let target = Revision::new(100);
        let closed_by =
            |replica: &Replica, revision| replica.closed_by(Revision::new(revision), target);
        let mut replica = replica(report(5, 9));
        for (applied, closed) in [(7, 2), (7, 2), (8, 0)] {
            replica = replica.reported(report(applied, closed), second(1));
        }
        assert_eq!([6, 7, 8, 9].map(|revision| closed_by(&replica, revision)), [2, 2, 0, 0]);
        replica = replica.reported(report(0, 0), second(2)).reported(report(8, 3), second(3));
        assert_eq!(closed_by(&replica, 7), 3, "a server that began anew took it again");
        for applied in 9..200 {
            replica = replica.reported(report(applied, 1), second(4));
        }
        assert_eq!(replica.applications.len(), MAX_APPLICATIONS);
    }

    #[test]
    fn a_commit_that_changes_no_partner_is_nothing_to_a_replica() {
        let replica = replica(report(5, 0));
        assert!(replica.has(Revision::new(9), Revision::new(5)));
        assert!(!replica.has(Revision::new(9), Revision::new(6)));
        assert!(replica.has(Revision::new(5), Revision::new(6)));
    }

    #[test]
    fn the_age_of_the_data_grows_while_nothing_is_reported() {
        let live = Live { data_age: Some(Duration::from_secs(3)), ..Live::default() };
        let replica = replica(Report { live, ..report(5, 0) });
        assert_eq!(replica.data_age(second(7)), Some(Duration::from_secs(10)));
        assert_eq!(replica.data_age(second(-7)), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_redacted_report_names_only_what_may_be_seen() {
        let sessions = |domain: &str| Sessions { domain: domain.into(), inbound: 1, outbound: 0 };
        let unenforced = Unenforced {
            property: "proxy_fqdn".into(),
            reason: String::new(),
            partners: 2,
            examples: vec!["a.example".into(), "b.example".into()],
        };
        let live = Live {
            session_count: 2,
            sessions: vec![sessions("a.example"), sessions("b.example")],
            unenforced: vec![unenforced],
            ..Live::default()
        };
        let report = Report { live, ..report(5, 0) }.redacted(|domain| domain == "b.example");
        assert_eq!(report.live.sessions, [sessions("b.example")]);
        assert_eq!(report.live.unenforced[0].examples, ["b.example"]);
        assert_eq!((report.live.session_count, report.live.unenforced[0].partners), (2, 2));
    }
}

//! How far the XMPP servers are: what agents may report, what becomes of it, and who waits for it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use partnerd::{
    dev::DevFolder,
    proto::v1::{
        DeleteReplicaRequest, GetReplicaRequest, ListReplicasRequest, PartnerSessions, Replica,
        ReplicaRejection, ReplicaReport, ReportReplicaRequest, ReportReplicaResponse, ServerKind,
        StalenessPolicy, UnenforcedProperty, WaitForConvergenceRequest, WaitForConvergenceResponse,
        replica::State,
    },
};
use secrecy::ExposeSecret as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    cli::Said,
    harness::{
        TestServer,
        actor::{Actor, Outcome, fields, metadata, reason},
        process::DevServer,
    },
};

impl Actor {
    async fn report(&self, id: &str, report: ReplicaReport) -> Outcome<ReportReplicaResponse> {
        let request = ReportReplicaRequest { name: format!("replicas/{id}"), report: Some(report) };
        Ok(self.replicas().report_replica(request).await?.into_inner())
    }

    async fn replica(&self, id: &str) -> Outcome<Replica> {
        let request = GetReplicaRequest { name: format!("replicas/{id}") };
        Ok(self.replicas().get_replica(request).await?.into_inner())
    }

    async fn replica_ids(&self, filter: &str) -> Vec<String> {
        let request = ListReplicasRequest { filter: filter.into(), ..Default::default() };
        let listed = self.replicas().list_replicas(request).await.unwrap().into_inner();
        listed.replicas.iter().map(|it| it.name.replace("replicas/", "")).collect()
    }

    async fn forget(&self, id: &str) -> Outcome<()> {
        let request = DeleteReplicaRequest { name: format!("replicas/{id}"), ..Default::default() };
        self.replicas().delete_replica(request).await.map(drop)
    }

    async fn converged(
        &self,
        revision: i64,
        seconds: Option<i64>,
    ) -> Outcome<WaitForConvergenceResponse> {
        let timeout = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = WaitForConvergenceRequest { revision, timeout };
        Ok(self.replicas().wait_for_convergence(request).await?.into_inner())
    }
}

/// The report of a server on which `revision` is in force.
fn applied(revision: i64) -> ReplicaReport {
    ReplicaReport {
        server_kind: ServerKind::Prosody.into(),
        server_version: "Prosody 0.12.3".into(),
        host_name: "xmpp-1".into(),
        applied_revision: revision,
        ..Default::default()
    }
}

/// The same server, which refuses `refused`.
fn rejecting(revision: i64, refused: i64) -> ReplicaReport {
    let rejection = ReplicaRejection {
        revision: refused,
        reason: "line 3: no such method".into(),
        reject_time: None,
    };
    ReplicaReport { rejection: Some(rejection), ..applied(revision) }
}

/// A server with two revisions.
async fn started() -> TestServer {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    server.admin().create_plain("fabrikam.com").await;
    server
}

async fn agent(server: &TestServer, name: &str) -> Actor {
    server.actor(name, &["sync-agent"]).await
}

#[tokio::test]
async fn a_server_is_behind_then_rejecting_then_up_to_date() {
    let server = started().await;
    let (agent, viewer) = (agent(&server, "agent-1").await, server.viewer());
    let told = agent.report("prosody-1", applied(1)).await.unwrap();
    assert_eq!(told.revision, 2);
    assert_eq!(told.report_interval, Some(prost_types::Duration { seconds: 30, nanos: 0 }));
    assert_eq!(told.staleness_lease, Some(prost_types::Duration { seconds: 86_400, nanos: 0 }));
    assert_eq!(told.staleness_policy(), StalenessPolicy::Keep);

    let behind = viewer.replica("prosody-1").await.unwrap();
    assert_eq!((behind.state(), behind.revisions_behind), (State::Behind, 1));
    assert_eq!(behind.subject, "agent-1");
    assert_eq!(behind.first_report_time, behind.last_report_time);
    assert_eq!(behind.silent_since_time, None);

    agent.report("prosody-1", rejecting(1, 2)).await.unwrap();
    let nack = viewer.replica("prosody-1").await.unwrap();
    assert_eq!((nack.state(), nack.revisions_behind), (State::Rejecting, 1));
    assert_eq!(nack.last_rejection, nack.report.unwrap().rejection);

    agent.report("prosody-1", applied(2)).await.unwrap();
    let done = viewer.replica("prosody-1").await.unwrap();
    assert_eq!((done.state(), done.revisions_behind), (State::UpToDate, 0));
    assert_eq!(done.last_rejection, nack.last_rejection, "it is still told what went wrong");
    assert_eq!(done.first_report_time, behind.first_report_time);
    assert!(done.report.unwrap().rejection.is_none());
}

#[tokio::test]
async fn all_that_is_reported_is_shown() {
    let server = started().await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let report = ReplicaReport {
        module_version: "1.0.0".into(),
        agent_version: "0.1.0".into(),
        apply_time: Some(prost_types::Timestamp { seconds: 1_795_459_000, nanos: 0 }),
        partner_count: 2,
        session_count: 3,
        sessions: vec![PartnerSessions {
            domain: "contoso.com".into(),
            inbound_count: 1,
            outbound_count: 2,
        }],
        closed_session_count: 4,
        closed_session_total: 5,
        server_start_time: Some(prost_types::Timestamp { seconds: 1_795_400_000, nanos: 0 }),
        unenforced_properties: vec![UnenforcedProperty {
            property: "proxy_fqdn".into(),
            reason: "this server dials no proxies".into(),
            partner_count: 1,
            examples: vec!["contoso.com".into()],
        }],
        warnings: vec!["mod_admin_socket is readable by others".into()],
        staleness_lease: seconds(86_400),
        staleness_policy: StalenessPolicy::DenyAll.into(),
        stale: true,
        data_age: seconds(7),
        ..applied(2)
    };
    let agent = agent(&server, "agent-1").await;
    agent.report("prosody-1", report.clone()).await.unwrap();
    let shown = server.viewer().replica("prosody-1").await.unwrap();
    assert_eq!(shown.report, Some(report));
    assert!(shown.data_age.unwrap().seconds >= 7);

    let words = ReplicaReport { warnings: vec!["a\u{1b}[2Jb".repeat(1_000)], ..applied(2) };
    agent.report("prosody-1", words).await.unwrap();
    let shown = server.viewer().replica("prosody-1").await.unwrap().report.unwrap();
    assert_eq!(shown.warnings[0].chars().count(), 1_024);
    assert!(shown.warnings[0].starts_with("a\u{fffd}[2Jb"));
}

#[tokio::test]
async fn an_id_belongs_to_the_first_subject_that_reports_as_it() {
    let server = started().await;
    let (first, second) = (agent(&server, "agent-1").await, agent(&server, "agent-2").await);
    first.report("prosody-1", applied(2)).await.unwrap();
    let refused = second.report("prosody-1", applied(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(reason(&refused), "REPLICA_OF_ANOTHER");
    assert!(refused.message().contains("partnerctl replica delete prosody-1"), "{refused}");
    assert!(!refused.message().contains("agent-1"), "who owns it is not told: {refused}");
    assert_eq!(server.viewer().replica("prosody-1").await.unwrap().report.unwrap(), applied(2));

    let server = server.restart().await;
    let (first, second) = (agent(&server, "agent-1").await, agent(&server, "agent-2").await);
    let refused = second.report("prosody-1", applied(1)).await.unwrap_err();
    assert_eq!(reason(&refused), "REPLICA_OF_ANOTHER");
    first.report("prosody-1", applied(2)).await.unwrap();

    server.admin().forget("prosody-1").await.unwrap();
    let gone = server.viewer().replica("prosody-1").await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(server.admin().forget("prosody-1").await.unwrap_err().code(), Code::NotFound);
    let request = DeleteReplicaRequest { name: "replicas/prosody-1".into(), allow_missing: true };
    server.admin().replicas().delete_replica(request).await.unwrap();
    second.report("prosody-1", applied(1)).await.unwrap();
    let server = server.restart().await;
    assert_eq!(server.viewer().replica("prosody-1").await.unwrap().subject, "agent-2");
}

#[tokio::test]
async fn the_subject_may_have_to_be_the_id() {
    let server = TestServer::builder().replica_id_is_subject().start().await;
    let agent = agent(&server, "prosody-1").await;
    let refused = agent.report("prosody-2", applied(0)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "REPLICA_NOT_SUBJECT")
    );
    agent.report("prosody-1", applied(0)).await.unwrap();
    assert_eq!(server.viewer().replica_ids("").await, ["prosody-1"]);
}

#[tokio::test]
async fn a_restart_forgets_only_what_the_next_report_brings() {
    let server = started().await;
    let agent_1 = agent(&server, "agent-1").await;
    let sessions = ReplicaReport { session_count: 9, ..applied(2) };
    agent_1.report("prosody-1", sessions).await.unwrap();
    agent(&server, "agent-2").await.report("prosody-2", applied(1)).await.unwrap();
    // A change after the binding, which is written in the background or at the end.
    agent(&server, "agent-2").await.report("prosody-2", rejecting(1, 2)).await.unwrap();
    let before = server.viewer().replica("prosody-2").await.unwrap();

    let server = server.restart().await;
    let after = server.viewer().replica("prosody-2").await.unwrap();
    assert_eq!(after, before);
    let report = server.viewer().replica("prosody-1").await.unwrap().report.unwrap();
    assert_eq!(report, applied(2), "the sessions of before are none of now");
}

#[tokio::test]
async fn a_report_that_makes_no_sense_is_refused_with_every_fault() {
    let server = started().await;
    let agent = agent(&server, "agent-1").await;
    for bad in ["", "-a", "Prosody", "a.example", &"x".repeat(64)] {
        let refused = agent.report(bad, applied(1)).await.unwrap_err();
        assert_eq!(
            (refused.code(), fields(&refused)),
            (Code::InvalidArgument, vec!["name".into()])
        );
    }
    let sessions = PartnerSessions { domain: "a.example".into(), ..Default::default() };
    let report = ReplicaReport {
        server_kind: 0,
        applied_revision: -1,
        session_count: -1,
        sessions: vec![sessions; 1_001],
        rejection: Some(ReplicaRejection { revision: -2, ..Default::default() }),
        ..applied(0)
    };
    let refused = agent.report("prosody-1", report).await.unwrap_err();
    let under = [
        "applied_revision",
        "rejection.reason",
        "rejection.revision",
        "server_kind",
        "session_count",
        "sessions",
    ];
    assert_eq!(fields(&refused), under.map(|field| format!("report.{field}")));
    let empty = ReportReplicaRequest { name: "replicas/a".into(), report: None };
    let refused = agent.replicas().report_replica(empty).await.unwrap_err();
    assert_eq!(fields(&refused), ["report"]);
    assert!(server.viewer().replica_ids("").await.is_empty());
}

#[tokio::test]
async fn a_revision_of_another_history_is_refused() {
    let server = started().await;
    let agent = agent(&server, "agent-1").await;
    for report in [applied(3), rejecting(2, 3)] {
        let refused = agent.report("prosody-1", report).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "REVISION_AHEAD")
        );
        assert_eq!(metadata(&refused, "revision").as_deref(), Some("2"));
    }
    let refused = server.viewer().converged(3, Some(0)).await.unwrap_err();
    assert_eq!(reason(&refused), "REVISION_AHEAD");
}

#[tokio::test]
async fn there_may_be_only_so_many_replicas() {
    let server = TestServer::builder().max_replicas(2).start().await;
    let agent = agent(&server, "agent").await;
    for id in ["a", "b"] {
        agent.report(id, applied(0)).await.unwrap();
    }
    let refused = agent.report("c", applied(0)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_REPLICAS")
    );
    assert!(refused.get_details_retry_info().is_some());
    agent.report("a", applied(0)).await.expect("those that are there go on");
    server.admin().forget("a").await.unwrap();
    agent.report("c", applied(0)).await.unwrap();
    assert_eq!(server.viewer().replica_ids("").await, ["b", "c"]);
}

#[tokio::test]
async fn replicas_are_found_by_what_is_the_matter_with_them_page_by_page() {
    let server = started().await;
    let agent = agent(&server, "agent").await;
    let ejabberd = ReplicaReport { server_kind: ServerKind::Ejabberd.into(), ..applied(2) };
    let busy = ReplicaReport {
        sessions: vec![PartnerSessions { domain: "contoso.com".into(), ..Default::default() }],
        ..applied(2)
    };
    for (id, report) in [("a", applied(1)), ("b", rejecting(1, 2)), ("c", ejabberd), ("d", busy)] {
        agent.report(id, report).await.unwrap();
    }
    let viewer = server.viewer();
    for (filter, expected) in [
        ("state = BEHIND", &["a"][..]),
        ("state != UP_TO_DATE", &["a", "b"]),
        ("report.server_kind = EJABBERD", &["c"]),
        ("report.sessions.domain:\"contoso.com\"", &["d"]),
        ("revisions_behind > 0 AND last_rejection.revision = 2", &["b"]),
        ("name = \"replicas/*\" AND report.applied_revision = 2", &["c", "d"]),
        ("state = SILENT", &[]),
    ] {
        assert_eq!(viewer.replica_ids(filter).await, expected, "{filter}");
    }
    let mut request = ListReplicasRequest { page_size: 3, ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let page = viewer.replicas().list_replicas(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.total_size, 4);
        pages.push(page.replicas.len());
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let other = ListReplicasRequest { filter: "state = BEHIND".into(), ..request.clone() };
        let refused = viewer.replicas().list_replicas(other).await.unwrap_err();
        assert_eq!(fields(&refused), ["page_token"]);
    }
    assert_eq!(pages, [3, 1]);
}

#[tokio::test]
async fn a_wait_ends_when_the_last_server_has_the_revision() {
    let server = started().await;
    let agent = agent(&server, "agent").await;
    for id in ["a", "b"] {
        agent.report(id, applied(2)).await.unwrap();
    }
    server.admin().delete("contoso.com").await.unwrap();
    let operator = server.operator();
    let wait = tokio::spawn(async move { operator.converged(3, None).await });
    let closed = |count| ReplicaReport { closed_session_count: count, ..applied(3) };
    agent.report("a", closed(2)).await.unwrap();
    let half = server.operator().converged(3, Some(0)).await.unwrap();
    assert!(!half.converged);
    assert_eq!((half.replica_count, half.in_force_count, half.closed_session_count), (2, 1, 2));
    assert_eq!(half.pending.len(), 1);
    assert_eq!(
        (half.pending[0].replica.as_str(), half.pending[0].state()),
        ("replicas/b", State::Behind)
    );
    assert!(!wait.is_finished());
    agent.report("b", closed(1)).await.unwrap();
    let done = wait.await.unwrap().unwrap();
    assert!(done.converged && done.pending.is_empty());
    assert_eq!((done.replica_count, done.in_force_count, done.closed_session_count), (2, 2, 3));

    // The same report again closes nothing again, and a later revision has its own count.
    agent.report("a", closed(2)).await.unwrap();
    server.admin().delete("fabrikam.com").await.unwrap();
    for id in ["a", "b"] {
        let later = ReplicaReport { closed_session_count: 0, ..applied(4) };
        agent.report(id, later).await.unwrap();
    }
    assert_eq!(server.operator().converged(3, None).await.unwrap().closed_session_count, 3);
    assert_eq!(server.operator().converged(0, None).await.unwrap().revision, 4);
}

#[tokio::test]
async fn a_wait_that_is_over_names_those_that_lack_the_revision_before_the_deadline() {
    let server = started().await;
    let agent = agent(&server, "agent").await;
    agent.report("a", rejecting(1, 2)).await.unwrap();
    // No timeout of its own: the deadline of the call ends the wait, in time for the answer.
    let mut request = tonic::Request::new(WaitForConvergenceRequest::default());
    request.set_timeout(Duration::from_secs(2));
    let found =
        server.operator().replicas().wait_for_convergence(request).await.unwrap().into_inner();
    assert!(!found.converged);
    let [pending] = &found.pending[..] else { panic!("{found:?}") };
    assert_eq!(pending.state(), State::Rejecting);
    assert_eq!(pending.applied_revision, 1);
    assert_eq!(pending.rejection.as_ref().unwrap().reason, "line 3: no such method");
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_but_named() {
    let server = TestServer::builder().silent_after(Duration::from_millis(700)).start().await;
    server.admin().create_plain("contoso.com").await;
    let agent = agent(&server, "agent").await;
    agent.report("a", applied(0)).await.unwrap();
    let found = server.operator().converged(1, None).await.unwrap();
    assert!(found.converged, "nobody else is waited for: {found:?}");
    assert_eq!((found.replica_count, found.in_force_count), (1, 0));
    assert_eq!(found.pending[0].state(), State::Silent);
    let silent = server.viewer().replica("a").await.unwrap();
    assert_eq!(silent.state(), State::Silent);
    assert_eq!(silent.silent_since_time, silent.last_report_time);
    assert_eq!(found.pending[0].silent_since_time, silent.last_report_time);

    // It is back as soon as it reports. What it had acknowledged stays in force meanwhile.
    agent.report("a", applied(1)).await.unwrap();
    let found = server.operator().converged(1, None).await.unwrap();
    assert_eq!((found.in_force_count, found.pending.len()), (1, 0));
}

#[tokio::test]
async fn a_server_that_is_deleted_is_waited_for_no_longer() {
    let server = started().await;
    agent(&server, "agent").await.report("a", applied(1)).await.unwrap();
    let operator = server.operator();
    let wait = tokio::spawn(async move { operator.converged(2, None).await });
    server.admin().forget("a").await.unwrap();
    let found = wait.await.unwrap().unwrap();
    assert!(found.converged);
    assert_eq!(found.replica_count, 0);
}

#[tokio::test]
async fn a_wait_does_not_hold_up_a_server_that_ends() {
    let server = started().await;
    agent(&server, "agent").await.report("a", applied(1)).await.unwrap();
    let operator = server.operator();
    let wait = tokio::spawn(async move { operator.converged(2, None).await });
    // The wait has begun, or is refused for the same reason.
    assert!(!server.operator().converged(2, Some(0)).await.unwrap().converged);
    server.drain();
    let ended = wait.await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
}

#[tokio::test]
async fn a_binding_outlives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let server = DevServer::start(folder.path());
    let token = |subject: &str| {
        let dev = DevFolder::open(&folder.path().join("partnerd-data")).unwrap();
        let hour = SignedDuration::from_hours(1);
        dev.issue_token(&["sync-agent"], subject, hour, Timestamp::now()).unwrap()
    };
    let agent = async |subject: &str| {
        Actor::of_dev_server_with(folder.path(), token(subject).expose_secret()).await
    };
    agent("agent-1").await.report("prosody-1", applied(0)).await.unwrap();
    server.kill();
    let _server = DevServer::start(folder.path());
    let refused = agent("agent-2").await.report("prosody-1", applied(0)).await.unwrap_err();
    assert_eq!(reason(&refused), "REPLICA_OF_ANOTHER");
    agent("agent-1").await.report("prosody-1", applied(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_says_on_how_many_servers_it_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let server = tokio::task::spawn_blocking(move || DevServer::start(&path)).await.unwrap();
    let admin = Actor::of_dev_server(folder.path()).await;
    let server = std::sync::Arc::new(server);
    let say = async |line: &str| {
        let (server, line) = (std::sync::Arc::clone(&server), line.to_owned());
        let said = tokio::task::spawn_blocking(move || {
            let words: Vec<_> = line.split_whitespace().collect();
            Said::from(server.partnerctl(&words, ""))
        });
        said.await.unwrap()
    };
    let said = say("new contoso.com --wait").await;
    assert_eq!(said.code, 9, "{}{}", said.out, said.err);
    assert!(said.err.contains("no server reports to this service"), "{}", said.err);

    admin.report("prosody-1", applied(1)).await.unwrap();
    admin.report("prosody-2", applied(1)).await.unwrap();
    let removal = say("remove contoso.com --yes --wait");
    let obey = async {
        let mut watched = admin.converged(0, Some(0)).await.unwrap();
        while watched.revision < 2 {
            watched = admin.converged(0, Some(0)).await.unwrap();
        }
        for (id, closed_session_count) in [("prosody-1", 2), ("prosody-2", 1)] {
            let report = ReplicaReport { closed_session_count, ..applied(2) };
            admin.report(id, report).await.unwrap();
        }
    };
    let (said, ()) = tokio::join!(removal, obey);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert_eq!(
        said.out,
        "contoso.com removed at revision 2\nin force on 2 of 2 servers, 3 sessions closed\n"
    );

    say("new fabrikam.com").await;
    let said = say("remove fabrikam.com --yes --wait --wait-timeout 100ms").await;
    assert_eq!(said.code, 9, "{}{}", said.out, said.err);
    assert!(said.out.contains("in force on 0 of 2 servers, 0 sessions closed"), "{}", said.out);
    assert!(said.out.contains("  prosody-1: behind, at revision 2\n"), "{}", said.out);

    let said = say("replica list").await;
    assert!(said.out.contains("behind by 2"), "{}", said.out);
    let said = say("replica get prosody-1").await;
    assert!(said.out.contains("Prosody 0.12.3"), "{}", said.out);
    let said = say("replica wait --revision 2 -o json").await;
    assert_eq!((said.code, said.out.contains("\"converged\": true")), (0, true), "{}", said.out);
    assert_eq!(say("replica delete prosody-1").await.code, 2, "it asks first");
    assert_eq!(say("replica delete prosody-1 --yes").await.code, 0);
    assert_eq!(say("replica get prosody-1").await.code, 3);
}

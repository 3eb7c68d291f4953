//! What of the replicas is written, and what of them a caller with a part of the partners sees.

use enumset::EnumSet;
use tempfile::TempDir;

use super::*;
use crate::{
    auth::{Call, Caller, Policy},
    domain::{
        replica::{Live, Rejection, ServerKind, Sessions},
        role::{DomainScope, Permission, Role, RoleTerms, built_in_roles},
    },
    registry::Options,
    store::sled::{SledOptions, SledStore},
};

/// A registry on a store of its own.
struct Office {
    registry: Registry,
    _folder: TempDir,
}

impl Office {
    fn open() -> Self {
        let folder = TempDir::new().unwrap();
        let store = SledStore::open(&folder.path().join("data"), &SledOptions::default()).unwrap();
        let options = Options::for_tests();
        Self { registry: Registry::open(Arc::new(store), options).unwrap(), _folder: folder }
    }

    async fn report(&self, report: Report) {
        let policy = self.registry.policy();
        let permit = policy.permit_replica(&call("sync-agent"), id()).unwrap();
        self.registry.report_replica(&permit, report).await.unwrap();
    }
}

fn id() -> ReplicaId {
    "prosody-1".parse().unwrap()
}

fn call(role: &str) -> Call {
    let caller = Caller {
        subject: "somebody".into(),
        issuer: "https://issuer.example".into(),
        roles: vec![role.to_owned()],
        expire_time: Timestamp::MAX,
        good_until: Timestamp::MAX,
        token_id: None,
        key_id: "key".into(),
        key_fingerprint: [0; 32],
    };
    Call { caller: Arc::new(caller), request_id: "".into(), reason: "".into() }
}

fn report() -> Report {
    Report {
        server_kind: ServerKind::Prosody,
        server_version: "Prosody 0.12.3".into(),
        module_version: "1.0.0".into(),
        agent_version: "0.1.0".into(),
        host_name: "xmpp-1".into(),
        applied: Revision::ZERO,
        rejection: None,
        live: Live::default(),
    }
}

#[tokio::test]
async fn a_sign_of_life_is_not_written_and_a_change_is_written_once() {
    let office = Office::open();
    office.report(report()).await;
    let replicas = &office.registry.replicas;
    assert_eq!(replicas.unsaved(), 0, "the binding was written before it was answered");
    for sessions in 0..100 {
        let live = Live { session_count: sessions, ..Live::default() };
        office.report(Report { live, ..report() }).await;
    }
    assert_eq!(replicas.unsaved(), 0);
    let rejection = Rejection { revision: Revision::ZERO, reason: "no".into(), time: None };
    for _ in 0..100 {
        office.report(Report { rejection: Some(rejection.clone()), ..report() }).await;
    }
    assert_eq!(replicas.unsaved(), 1);
    office.registry.save_replicas().await.unwrap();
    assert_eq!(replicas.unsaved(), 0);
    office.registry.close().await;
}

#[tokio::test]
async fn who_may_read_a_part_of_the_partners_sees_the_sessions_of_that_part() {
    let office = Office::open();
    let sessions = |domain: &str| Sessions { domain: domain.into(), inbound: 1, outbound: 1 };
    let live = Live {
        session_count: 6,
        sessions: vec![sessions("na.contoso.com"), sessions("fabrikam.com"), sessions("localhost")],
        ..Live::default()
    };
    office.report(Report { live, ..report() }).await;
    let viewer = built_in_roles().into_iter().find(|role| *role.id == *"viewer").unwrap();
    let local = RoleTerms {
        domain_scopes: vec![DomainScope::Below("contoso.com".parse().unwrap())],
        ..viewer.terms
    };
    let permissions = EnumSet::all() - Permission::PartnersGet;
    let blind = RoleTerms { permissions, ..local.clone() };
    let roles = [Role::custom("local", local), Role::custom("blind", blind)];
    let policy = Policy::new(roles.map(Arc::new));
    for (role, seen) in [("local", vec![sessions("na.contoso.com")]), ("blind", vec![])] {
        let permit = policy.permit_replica(&call(role), id()).unwrap();
        let view = office.registry.replica(&permit).unwrap();
        assert_eq!(view.report.live.sessions, seen, "{role}");
        assert_eq!(view.report.live.session_count, 6);
        let permit = policy.permit(&call(role), crate::auth::permit::Purpose::Commit).unwrap();
        let filter = Filter::parse("report.sessions.domain:\"fabrikam.com\"").unwrap();
        let page = office.registry.list_replicas(&permit, &filter, 10, "").unwrap();
        assert_eq!(page.total, 0, "a filter does not tell {role} what is hidden");
    }
    office.registry.close().await;
}

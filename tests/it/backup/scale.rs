//! Many partners at once.

use std::path::Path;

use partnerd::{
    domain::{Revision, audit::Event},
    proto::v1::{
        ListAuditEntriesRequest, VerifyAuditEntriesRequest,
        audit_service_client::AuditServiceClient, backup_record::Record,
    },
    store::{
        Store as _,
        sled::{SledOptions, SledStore},
    },
};
use tokio::time::timeout;

use super::{audit, content, forged, partner, plain_settings};
use crate::harness::{TestServer, actor::Actor, process::DevServer};

const MANY: usize = 20_000;

async fn large(server: &TestServer, domains: impl Iterator<Item = String>) -> Vec<u8> {
    let settings = plain_settings(server).await;
    let partners = domains.map(|domain| Record::AllowedPartner(partner(&domain)));
    forged(std::iter::once(settings).chain(partners).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_partners_are_one_commit_that_is_told_and_audited_in_parts() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mut watch = admin.watch_from(0).await;
    watch.state().await;
    let file = large(&server, (0..MANY).map(|number| format!("p{number}.example"))).await;
    let done = admin.restore(&file).await.unwrap();
    assert_eq!((done.revision, done.created_count), (1, MANY as i64));
    assert_eq!(watch.until(1).await.len(), MANY);
    let mut expected = content(&file);
    expected.sort_by_key(|record| match record {
        Record::AllowedPartner(partner) => partner.name.clone(),
        _ => String::new(),
    });
    assert_eq!(content(&admin.backup().await.unwrap()), expected);

    // Each entry is of a part of the commit, and a page of them fits into a message.
    let of_commit = audit(&admin, "kind = COMMIT").await;
    assert!(of_commit.iter().all(|entry| entry.revision == 1 && entry.changes.len() <= 1_000));
    assert_eq!(of_commit.iter().map(|entry| entry.changes.len()).sum::<usize>(), MANY);
    let mut client = AuditServiceClient::new(admin.service());
    let request = ListAuditEntriesRequest { page_size: 1_000, ..Default::default() };
    let page = client.list_audit_entries(request).await.unwrap().into_inner();
    assert!(!page.audit_entries.is_empty());
    let request = VerifyAuditEntriesRequest::default();
    assert!(client.verify_audit_entries(request).await.unwrap().into_inner().intact);

    let request = partnerd::proto::v1::ListAllowedPartnerRevisionsRequest {
        name: crate::harness::actor::name("p7.example"),
        ..Default::default()
    };
    let history = admin.partners().list_allowed_partner_revisions(request).await.unwrap();
    assert_eq!(history.into_inner().allowed_partner_revisions.len(), 1);
}

/// The partners in force in a store that nobody has open, how many commits it has, and whether the
/// audit tells of a restore.
fn found(folder: &Path) -> (usize, Revision, bool) {
    let path = folder.join("partnerd-data/store");
    let store = SledStore::open(&path, &SledOptions::default()).expect("a crash leaves it sound");
    let state = store.load().unwrap();
    let in_force = state.partners.iter().filter(|partner| partner.delete_time.is_none()).count();
    let entries = store.audit_after(0, usize::MAX).unwrap();
    let told = entries.iter().any(|entry| matches!(entry.event, Event::Restore { .. }));
    (in_force, state.revision, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_the_midst_of_a_restore_leaves_all_of_it_or_nothing() {
    const PARTNERS: usize = 4_000;
    let server = TestServer::start().await;
    let file = large(&server, (0..PARTNERS).map(|number| format!("p{number}.example"))).await;
    let mut outcomes = Vec::new();
    let mut pause = None;
    for round in 0..8_u32 {
        let folder = tempfile::tempdir().unwrap();
        let server = DevServer::start(folder.path());
        let admin = Actor::of_dev_server(folder.path()).await;
        admin.create_plain("before.example").await;
        let began = std::time::Instant::now();
        let restore = {
            let file = file.clone();
            tokio::spawn(async move { admin.restore(&file).await.is_ok() })
        };
        match pause {
            // The first one is let finish, to learn how long it takes.
            None => assert!(restore.await.unwrap()),
            Some(whole) => drop(timeout(whole * round / 7, restore).await),
        }
        pause.get_or_insert(began.elapsed());
        server.kill();
        let found = found(folder.path());
        outcomes.push(found);
        let nothing = (1, Revision::new(1), false);
        let all = (PARTNERS, Revision::new(2), true);
        assert!(found == nothing || found == all, "round {round}: {found:?}");
        // Either way it can be done again.
        let server = DevServer::start(folder.path());
        let admin = Actor::of_dev_server(folder.path()).await;
        assert_eq!(admin.restore(&file).await.unwrap().revision, 2);
        server.kill();
    }
    assert!(outcomes.iter().any(|(partners, ..)| *partners == 1), "{outcomes:?}");
}

//! What is backed up comes back.

use std::collections::BTreeMap;

use partnerd::proto::v1::{
    AllowedPartner, ListAllowedPartnerRevisionsRequest, RestoreOptions,
    RollbackAllowedPartnerRequest, WatchEvent, audit_entry::Kind, backup_record::Record,
    watch_event::Type,
};
use tonic::Code;
use uuid::Uuid;

use super::{PASSPHRASE, audit, content, furnished, make_role, records, revoke, set_owner};
use crate::harness::{
    TestServer,
    actor::{name, reason, update},
    stream::brief,
};

#[tokio::test]
async fn a_backup_restored_into_an_empty_server_brings_everything_back() {
    let old = furnished().await;
    let file = old.admin().backup().await.unwrap();
    assert!(file.windows(PASSPHRASE.len()).any(|bytes| bytes == PASSPHRASE.as_bytes()));
    let (header, _) = records(&file);
    assert_eq!((header.revision, header.partner_count), (old.admin().revision().await, 2));
    assert_eq!((header.deleted_partner_count, header.role_count), (1, 1));
    let before = old.admin().get("contoso.com").await.unwrap();
    drop(old);

    let new = TestServer::start().await;
    let admin = new.admin().with("x-change-reason", "disk lost");
    let mut watch = new.sync_agent().watch_from(0).await;
    watch.state().await;
    let done = admin.restore(&file).await.unwrap();
    let counts = (done.created_count, done.updated_count, done.deleted_count, done.unchanged_count);
    assert_eq!((done.revision, counts), (1, (5, 1, 0, 0)));
    assert_eq!((done.backup, done.signed_here), (Some(header), false));
    assert_eq!(content(&admin.backup().await.unwrap()), content(&file));

    // Who watches is told of one ordinary commit, the agents of the passphrase too.
    let events = watch.until(1).await;
    let told = |kind, domain: &str| (kind, domain.to_owned(), 1);
    assert_eq!(
        brief(&events),
        [
            told(Type::Modified, "federationSettings"),
            told(Type::Added, "contoso.com"),
            told(Type::Added, "fabrikam.org"),
        ]
    );
    assert_eq!((&*events[0].dialback_passphrase, &*events[0].reason), (PASSPHRASE, "disk lost"));

    let after = admin.get("contoso.com").await.unwrap();
    assert_eq!((after.revision, &*after.updater), (1, "admin"));
    assert_ne!((&after.etag, after.update_time), (&before.etag, before.update_time));
    assert_eq!(
        AllowedPartner { revision: 0, etag: String::new(), update_time: None, ..after },
        AllowedPartner { revision: 0, etag: String::new(), update_time: None, ..before }
    );
    admin.undelete("gone.example").await.unwrap();

    // And it is there after a restart.
    let new = new.restart().await;
    let again = new.admin().backup().await.unwrap();
    let undeleted = |record: &Record| format!("{record:?}").contains("gone.example");
    let without = |mut all: Vec<Record>| {
        all.retain(|record| !undeleted(record));
        all
    };
    assert_eq!(without(content(&again)), without(content(&file)));
}

#[tokio::test]
async fn a_restore_over_a_changed_server_undoes_what_was_done_since_and_touches_nothing_else() {
    let server = furnished().await;
    let admin = server.admin();
    let untouched = admin.create_plain("untouched.example").await;
    let removed = admin.create_plain("removed.example").await;
    let replaced = admin.create_plain("replaced.example").await;
    let file = admin.backup().await.unwrap();

    set_owner(&admin, "fabrikam.org", "somebody").await;
    admin.delete("removed.example").await.unwrap();
    admin.delete("replaced.example").await.unwrap();
    admin.create_plain("replaced.example").await;
    admin.undelete("gone.example").await.unwrap();
    // A domain that moves to another partner has to move back.
    let alone = AllowedPartner::default();
    admin.update(update("contoso.com", &["additional_domains"], alone)).await.unwrap();
    let taker = AllowedPartner {
        additional_domains: vec!["na.contoso.com".into()],
        ..AllowedPartner::default()
    };
    admin.create("new.example", taker).await.unwrap();
    make_role(&admin, "later", &["allowedPartners.get"]).await.unwrap();
    let revoked = revoke(&admin, "eve").await.unwrap();
    let before = admin.revision().await;

    let options = RestoreOptions { expected_revision: before, ..RestoreOptions::default() };
    let done = admin.restore_with(options, &file).await.unwrap();
    assert_eq!(done.revision, before + 1);
    assert!(done.signed_here);
    // contoso.com, fabrikam.org, replaced.example; removed.example; gone.example, new.example, the role.
    assert_eq!((done.updated_count, done.created_count, done.deleted_count), (3, 1, 3));
    let mut after = content(&admin.backup().await.unwrap());
    let is_new = |record: &Record| match record {
        Record::AllowedPartner(partner) => partner.name == name("new.example"),
        Record::Revocation(revocation) => revocation.name == revoked.name,
        _ => false,
    };
    let more: Vec<_> = after.extract_if(.., |record| is_new(record)).collect();
    assert_eq!(after, content(&file));
    let [Record::Revocation(stays), Record::AllowedPartner(deleted)] = &more[..] else {
        panic!("{more:?}")
    };
    assert_eq!(stays.name, revoked.name);
    assert!(deleted.delete_time.is_some());

    assert_eq!(admin.get("untouched.example").await.unwrap(), untouched);
    assert_eq!(admin.get("removed.example").await.unwrap().uid, removed.uid);
    assert_eq!(admin.get("replaced.example").await.unwrap().uid, replaced.uid);

    // History goes on over it, in both directions.
    let request =
        ListAllowedPartnerRevisionsRequest { name: name("fabrikam.org"), ..Default::default() };
    let history = admin.partners().list_allowed_partner_revisions(request).await.unwrap();
    let revisions = history.into_inner().allowed_partner_revisions;
    assert_eq!(revisions.len(), 3);
    assert_eq!(revisions[0].changed_fields, ["owner"]);
    let request = RollbackAllowedPartnerRequest {
        name: name("fabrikam.org"),
        revision: before,
        ..Default::default()
    };
    let back = admin.partners().rollback_allowed_partner(request).await.unwrap().into_inner();
    assert_eq!(back.owner, "somebody");

    // A second time there is only that to undo.
    let again = admin.restore(&file).await.unwrap();
    assert_eq!((again.updated_count, again.created_count, again.deleted_count), (1, 0, 0));
    let nothing = admin.restore(&file).await.unwrap();
    assert_eq!(nothing.revision, again.revision);
    assert_eq!(nothing.updated_count, 0);
}

#[tokio::test]
async fn a_preview_tells_what_would_be_done_and_does_nothing() {
    let server = furnished().await;
    let admin = server.admin();
    let file = admin.backup().await.unwrap();
    set_owner(&admin, "fabrikam.org", "somebody").await;
    admin.create_plain("new.example").await;
    let revision = admin.revision().await;
    let before = content(&admin.backup().await.unwrap());
    let options = RestoreOptions { validate_only: true, ..RestoreOptions::default() };
    let told = admin.restore_with(options, &file).await.unwrap();
    assert_eq!((told.created_count, told.updated_count, told.deleted_count), (0, 1, 1));
    assert_eq!((told.revision, admin.revision().await), (revision, revision));
    assert_eq!(content(&admin.backup().await.unwrap()), before);
    assert!(audit(&admin, "kind = RESTORE").await.is_empty());
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_the_id_is_for_one_file() {
    let server = furnished().await;
    let admin = server.admin();
    let file = admin.backup().await.unwrap();
    let other = admin.backup().await.unwrap();
    set_owner(&admin, "fabrikam.org", "somebody").await;
    let options =
        RestoreOptions { request_id: Uuid::new_v4().to_string(), ..RestoreOptions::default() };
    let first = admin.restore_with(options.clone(), &file).await.unwrap();
    set_owner(&admin, "fabrikam.org", "somebody else").await;
    let server = server.restart().await;
    let admin = server.admin();
    assert_eq!(admin.restore_with(options.clone(), &file).await.unwrap(), first);
    assert_eq!(admin.get("fabrikam.org").await.unwrap().owner, "somebody else");
    let refused = admin.restore_with(options, &other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_state_that_has_moved_on_is_not_what_was_looked_at() {
    let server = furnished().await;
    let admin = server.admin();
    let file = admin.backup().await.unwrap();
    let revision = admin.revision().await;
    set_owner(&admin, "fabrikam.org", "somebody").await;
    let options = RestoreOptions { expected_revision: revision, ..RestoreOptions::default() };
    let refused = admin.restore_with(options, &file).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Aborted, "REVISION_MISMATCH"));
    assert_eq!(admin.get("fabrikam.org").await.unwrap().owner, "somebody");
}

#[tokio::test]
async fn a_backup_taken_while_others_write_is_the_state_at_its_revision() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for number in 0..40 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    let mut watch = admin.watch_from(0).await;
    let (state, start) = watch.state().await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let admin = server.admin();
            tokio::spawn(async move {
                for turn in 0..60 {
                    let domain = format!("p{}.example", (writer * 10 + turn) % 40);
                    match turn % 7 {
                        // Somebody else may have been faster.
                        3 => drop(admin.delete(&domain).await),
                        4 => drop(admin.undelete(&domain).await),
                        _ => {
                            let owner = format!("{writer}-{turn}");
                            let partner = AllowedPartner { owner, ..AllowedPartner::default() };
                            drop(admin.update(update(&domain, &["owner"], partner)).await);
                        }
                    }
                }
            })
        })
        .collect();
    let mut files = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        files.push(admin.backup().await.unwrap());
    }
    assert!(files.len() > 3, "only {} backups", files.len());
    let events = watch.until(admin.revision().await).await;
    let mut told = 0;
    for file in files {
        let (header, records) = records(&file);
        told += usize::from(header.revision > start);
        let found: BTreeMap<_, _> = records.into_iter().filter_map(in_force).collect();
        assert_eq!(found, state_at(header.revision, &state, &events), "{header:?}");
    }
    assert!(told > 1, "no backup fell among the writes");
}

/// A partner in force in a backup: its name, revision and owner.
fn in_force(record: Record) -> Option<(String, (i64, String))> {
    match record {
        Record::AllowedPartner(it) if it.delete_time.is_none() => {
            Some((it.name, (it.revision, it.owner)))
        }
        _ => None,
    }
}

/// The partners in force at a revision, as a watch has told of them.
fn state_at(
    revision: i64,
    state: &[WatchEvent],
    events: &[WatchEvent],
) -> BTreeMap<String, (i64, String)> {
    let mut partners = BTreeMap::new();
    let until = events.iter().take_while(|event| event.revision <= revision);
    for event in state.iter().chain(until) {
        let Some(partner) = &event.allowed_partner else { continue };
        match event.r#type() {
            Type::Removed => partners.remove(&event.name),
            _ => partners.insert(event.name.clone(), (partner.revision, partner.owner.clone())),
        };
    }
    partners
}

#[tokio::test]
async fn the_audit_tells_who_took_a_backup_and_which_was_restored() {
    let server = furnished().await;
    let kim = server.actor("kim", &["admin"]).await.with("x-change-reason", "ticket 4");
    let file = kim.backup().await.unwrap();
    let (header, all) = records(&file);
    let admin = server.admin();
    let [taken] = &audit(&admin, "kind = BACKUP").await[..] else { panic!("one backup") };
    assert_eq!((&*taken.subject, &*taken.reason), ("kim", "ticket 4"));
    let backup = taken.backup.unwrap();
    assert_eq!((backup.revision, backup.record_count), (header.revision, all.len() as i64));

    set_owner(&admin, "fabrikam.org", "somebody").await;
    let done = kim.restore(&file).await.unwrap();
    let entries = audit(&admin, "").await;
    let at = entries.iter().position(|entry| entry.kind() == Kind::Restore).unwrap();
    let (commit, restored) = (&entries[at - 1], &entries[at]);
    assert_eq!((commit.kind(), commit.revision), (Kind::Commit, done.revision));
    assert_eq!(commit.changes[0].resource, name("fabrikam.org"));
    assert_eq!((&*restored.subject, restored.revision), ("kim", done.revision));
    let restore = restored.restore.clone().unwrap();
    assert_eq!(
        (restore.backup_revision, restore.backup_time),
        (header.revision, header.create_time)
    );
    assert_eq!(restore.backup_digest, done.backup_digest);
    assert_eq!((restore.created_count, restore.updated_count, restore.deleted_count), (0, 1, 0));
    assert!(!format!("{entries:?}").contains("horse"));
}

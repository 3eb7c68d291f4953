//! The audit through the front door: what is in it, who sees what of it, and that it is whole.

use std::path::Path;

use partnerd::proto::v1::{
    AllowedPartner, AuditCheckpoint, AuditEntry, CreateRoleRequest, FederationSettings,
    GetAuditEntryRequest, ListAuditEntriesRequest, Role, SignAuditCheckpointRequest,
    UpdateFederationSettingsRequest, VerifyAuditEntriesRequest, VerifyAuditEntriesResponse,
    audit_entry::{Kind, Verb},
    audit_service_client::AuditServiceClient,
};
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{Actor, fields, update},
    tokens,
};

pub async fn list(actor: &Actor, filter: &str) -> Vec<AuditEntry> {
    let request = ListAuditEntriesRequest {
        filter: filter.into(),
        order_by: "sequence".into(),
        page_size: 3,
        ..ListAuditEntriesRequest::default()
    };
    let mut client = AuditServiceClient::new(actor.service());
    let mut entries = Vec::new();
    let mut request = request;
    loop {
        let page = client.list_audit_entries(request.clone()).await.unwrap().into_inner();
        entries.extend(page.audit_entries);
        if page.next_page_token.is_empty() {
            return entries;
        }
        request.page_token = page.next_page_token;
    }
}

pub async fn checkpoint(actor: &Actor) -> AuditCheckpoint {
    let mut client = AuditServiceClient::new(actor.service());
    let request = SignAuditCheckpointRequest {};
    client.sign_audit_checkpoint(request).await.unwrap().into_inner()
}

pub async fn verify(
    actor: &Actor,
    checkpoints: Vec<AuditCheckpoint>,
) -> VerifyAuditEntriesResponse {
    let mut client = AuditServiceClient::new(actor.service());
    let request = VerifyAuditEntriesRequest { checkpoints };
    client.verify_audit_entries(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_commit_is_told_field_by_field_with_its_reason_and_a_secret_is_not() {
    let server = TestServer::start().await;
    let admin = server.admin().with("x-change-reason", "ticket 17");
    admin.create_plain("contoso.com").await;
    let owner = AllowedPartner { owner: "Zoë".into(), ..AllowedPartner::default() };
    let done = admin.update(update("contoso.com", &["owner"], owner)).await.unwrap();
    let secret = "correct horse battery staple";
    let settings =
        FederationSettings { dialback_passphrase: secret.into(), ..FederationSettings::default() };
    let request = UpdateFederationSettingsRequest {
        federation_settings: Some(settings),
        ..UpdateFederationSettingsRequest::default()
    };
    admin.settings().update_federation_settings(request).await.unwrap();

    let auditor = server.actor("kim", &["auditor"]).await;
    let entries = list(&auditor, "kind = COMMIT").await;
    assert_eq!(entries.len(), 3);
    let update = &entries[1];
    assert_eq!((update.subject.as_str(), update.reason.as_str()), ("admin", "ticket 17"));
    assert_eq!(update.revision, done.revision);
    let [change] = &update.changes[..] else { panic!("{update:?}") };
    assert_eq!(
        (change.resource.as_str(), change.verb()),
        ("allowedPartners/contoso.com", Verb::Update)
    );
    let field = &change.fields[0];
    assert_eq!(
        (field.path.as_str(), field.before.as_str(), field.after.as_str()),
        ("owner", "", "Zoë")
    );
    assert!(!format!("{entries:?}").contains("horse"));
    let by_resource = list(&auditor, "changes.resource:\"allowedPartners/contoso.com\"").await;
    assert_eq!(by_resource, entries[..2]);
    assert_eq!(list(&auditor, "changes.verb:CREATE").await, entries[..1]);
    let mut client = AuditServiceClient::new(auditor.service());
    let request = GetAuditEntryRequest { name: update.name.clone() };
    assert_eq!(client.get_audit_entry(request).await.unwrap().into_inner(), *update);
    let request = GetAuditEntryRequest { name: "auditEntries/999".into() };
    assert_eq!(client.get_audit_entry(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_newest_come_first_unless_told_otherwise_and_pages_meet() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for number in 0..7 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    let oldest_first = list(&admin, "").await;
    assert_eq!(oldest_first[0].kind(), Kind::Start);
    let sequences: Vec<_> = oldest_first.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, (1..=8).collect::<Vec<_>>());
    let mut client = AuditServiceClient::new(admin.service());
    let request = ListAuditEntriesRequest { page_size: 5, ..Default::default() };
    let page = client.list_audit_entries(request.clone()).await.unwrap().into_inner();
    let next =
        ListAuditEntriesRequest { page_token: page.next_page_token.clone(), ..request.clone() };
    let rest = client.list_audit_entries(next).await.unwrap().into_inner();
    let mut newest_first = [page.audit_entries, rest.audit_entries].concat();
    newest_first.reverse();
    assert_eq!(newest_first, oldest_first);
    assert!(rest.next_page_token.is_empty());
    let other = ListAuditEntriesRequest {
        page_token: page.next_page_token,
        order_by: "sequence".into(),
        ..request
    };
    let refused = client.list_audit_entries(other).await.unwrap_err();
    assert_eq!(fields(&refused), ["page_token"]);
}

#[tokio::test]
async fn starts_and_stops_are_entries_and_the_stop_is_signed() {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    let server = server.restart().await;
    let kinds: Vec<_> = list(&server.admin(), "").await.iter().map(AuditEntry::kind).collect();
    assert_eq!(kinds, [Kind::Start, Kind::Commit, Kind::Stop, Kind::Checkpoint, Kind::Start]);
}

#[tokio::test]
async fn an_audit_is_intact_and_a_checkpoint_binds_its_end() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for number in 0..5 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    let kept = checkpoint(&admin).await;
    assert_eq!(kept.sequence, 6);
    assert_eq!(checkpoint(&admin).await, kept, "nothing has happened since");
    let server = server.restart().await;
    let auditor = server.actor("kim", &["auditor"]).await;
    let answer = verify(&auditor, vec![kept.clone()]).await;
    assert!(answer.intact, "{}", answer.fault);
    assert!(answer.verified_count > 6 && answer.checkpoint_count >= 1);
    assert_eq!(answer.public_key, kept.public_key);

    // A checkpoint of what is not there shows that the end is missing.
    let mut forged = kept.clone();
    forged.sequence = 1_000;
    let answer = verify(&auditor, vec![forged]).await;
    assert!(!answer.intact && answer.fault.contains("signature"), "{}", answer.fault);
    let mut other = kept;
    other.public_key = "00".repeat(32);
    let answer = verify(&auditor, vec![other]).await;
    assert!(!answer.intact && answer.fault.contains("another key"), "{}", answer.fault);
}

#[tokio::test]
async fn a_scoped_auditor_sees_only_what_is_about_partners_in_his_scope() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let role = Role {
        permissions: vec!["auditEntries.list".into(), "auditEntries.get".into()],
        domain_scopes: vec!["*.contoso.com".into()],
        ..Role::default()
    };
    let request = CreateRoleRequest {
        role_id: "regional-auditor".into(),
        role: Some(role),
        ..CreateRoleRequest::default()
    };
    admin.roles().create_role(request).await.unwrap();
    admin.create_plain("eu.contoso.com").await;
    admin.create_plain("fabrikam.com").await;
    let mixed = AllowedPartner {
        additional_domains: vec!["fabrikam.net".into()],
        ..AllowedPartner::default()
    };
    admin.create("us.contoso.com", mixed).await.unwrap();
    let owner = AllowedPartner { owner: "me".into(), ..AllowedPartner::default() };
    admin.update(update("us.contoso.com", &["owner"], owner)).await.unwrap();

    let auditor = server.actor("kim", &["regional-auditor"]).await;
    let entries = list(&auditor, "").await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].changes[0].resource, "allowedPartners/eu.contoso.com");
    let all = list(&admin, "").await;
    let mut client = AuditServiceClient::new(auditor.service());
    for entry in all.iter().filter(|entry| **entry != entries[0]) {
        let request = GetAuditEntryRequest { name: entry.name.clone() };
        let hidden = client.get_audit_entry(request).await.unwrap_err();
        assert_eq!(hidden.code(), Code::NotFound, "{entry:?}");
    }
}

/// Changes a text in a stored audit entry, and mends every checksum that would tell.
fn forge(store: &Path, sequence: u64, before: &str, after: &str) {
    let config = sled::Config::new().path(store.join("sled")).segment_size(4 << 20);
    let tree = config.open().unwrap();
    let key = [b"a", &sequence.to_be_bytes()[..]].concat();
    let mut entry = tree.get(&key).unwrap().expect("there is such an entry").to_vec();
    let at = entry.windows(before.len()).position(|text| text == before.as_bytes()).unwrap();
    let old = checksum(&entry);
    entry[at..at + before.len()].copy_from_slice(after.as_bytes());
    mend(&key, &mut entry);
    let mut note = tree.get(b"m").unwrap().expect("there is a note").to_vec();
    // The last field of the note is the sum of all checksums: its tag, and eight bytes.
    let (rest, sum) = note.split_last_chunk_mut::<8>().unwrap();
    assert_eq!(rest.last(), Some(&0x61));
    let change = u64::from(checksum(&entry)).wrapping_sub(old.into());
    *sum = u64::from_le_bytes(*sum).wrapping_add(change).to_le_bytes();
    mend(b"m", &mut note);
    tree.insert(key, entry).unwrap();
    tree.insert(b"m", note).unwrap();
    tree.flush().unwrap();
}

pub fn checksum(value: &[u8]) -> u32 {
    u32::from_le_bytes(value[2..6].try_into().unwrap())
}

pub fn mend(key: &[u8], value: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(&value[..2]);
    hasher.update(&value[6..]);
    value[2..6].copy_from_slice(&hasher.finalize().to_le_bytes());
}

#[tokio::test]
async fn an_entry_changed_in_the_store_is_named_though_every_checksum_was_mended() {
    let server = TestServer::start().await;
    let admin = server.admin().with("x-change-reason", "ticket 17");
    for number in 0..4 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    let server = server.restart_after(|store| forge(store, 3, "ticket 17", "ticket 18")).await;
    let admin = server.admin();
    let entries = list(&admin, "sequence = 3").await;
    assert_eq!(entries[0].reason, "ticket 18", "the store took it for whole");
    let answer = verify(&admin, Vec::new()).await;
    assert!(!answer.intact);
    assert_eq!((answer.first_fault_sequence, answer.verified_count), (3, 2), "{}", answer.fault);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_store_put_back_to_an_earlier_day_is_found_against_a_checkpoint() {
    let earlier = tempfile::tempdir().unwrap();
    let server = TestServer::start().await;
    server.admin().create_plain("kept.example").await;
    let server = server.restart_after(|store| copy(store, earlier.path())).await;
    for number in 0..10 {
        server.admin().create_plain(&format!("lost{number}.example")).await;
    }
    let kept = checkpoint(&server.admin()).await;
    let put_back = |store: &Path| {
        std::fs::remove_dir_all(store).unwrap();
        copy(earlier.path(), store);
    };
    let server = server.restart_after(put_back).await;
    let admin = server.admin();
    assert!(verify(&admin, Vec::new()).await.intact, "by itself it is a whole chain");
    let answer = verify(&admin, vec![kept]).await;
    assert!(!answer.intact && answer.fault.contains("missing"), "{answer:?}");
}

#[tokio::test]
async fn refusals_are_counted_and_kept_and_strangers_are_not_taken_at_their_word() {
    let server = TestServer::start().await;
    let viewer = server.actor("vera", &["viewer"]).await;
    for _ in 0..3 {
        viewer.create("contoso.com", AllowedPartner::default()).await.unwrap_err();
    }
    let forged = tokens::unsigned(&serde_json::json!({"iss": "x", "sub": "mallory"}));
    server.with_token(&forged).await.get("contoso.com").await.unwrap_err();
    let server = server.restart().await;
    let admin = server.admin();
    let denials = list(&admin, "kind = DENIAL").await;
    let [denial] = &denials[..] else { panic!("{denials:?}") };
    let refusal = denial.refusal.as_ref().unwrap();
    assert_eq!((denial.subject.as_str(), refusal.count), ("vera", 3));
    assert_eq!(refusal.permission, "allowedPartners.create");
    assert_eq!(refusal.source, "127.0.0.1");
    let failures = list(&admin, "kind = LOGIN_FAILURE").await;
    let [failure] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!(failure.subject, "", "nobody vouches for it");
    assert!(failure.refusal.as_ref().unwrap().reason.starts_with("TOKEN_"));
    assert!(!format!("{failures:?}").contains(&forged));
    assert!(verify(&admin, Vec::new()).await.intact);
}

//! What becomes of the audit that is kept no longer, and whether the rest can still be believed.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use partnerd::{
    config,
    domain::audit::{Actor, Event, SigningKey, Walk},
    proto::v1::{
        AuditEntry, GetAuditEntryRequest, WatchAuditEntriesRequest, audit_entry::Kind,
        audit_service_client::AuditServiceClient,
    },
    registry::{
        self, AuditRetention, Options, Registry, Retention, log::TailLimits,
        replicas::ReplicaOptions,
    },
    store::{
        Store,
        sled::{SledOptions, SledStore},
    },
};
use tonic::Code;

use crate::{
    audit::{checkpoint, checksum, list, mend, verify},
    cli::Desk,
    harness::{
        TestServer,
        actor::{metadata, reason},
    },
};

/// A server that keeps so many entries.
async fn keeping(most: u64) -> TestServer {
    let audit = config::Audit { max_age: None, max_entries: Some(most) };
    TestServer::builder().audit(audit).start().await
}

/// Writes until retention has removed `removed` entries at least. The entries that are there then.
async fn filled(server: &TestServer, removed: i64) -> Vec<AuditEntry> {
    let admin = server.admin();
    for number in 0.. {
        if number < 40 {
            admin.create_plain(&format!("p{number}.example")).await;
        }
        let entries = list(&admin, "").await;
        if entries[0].sequence > removed {
            return entries;
        }
        tokio::task::yield_now().await;
    }
    unreachable!("it ends when retention has done its work")
}

#[tokio::test]
async fn the_oldest_entries_go_and_a_signed_entry_says_which() {
    let server = keeping(20).await;
    let admin = server.admin();
    let early = checkpoint(&admin).await;
    let entries = filled(&server, 10).await;
    let oldest = entries[0].sequence;
    let statement = entries.iter().rfind(|entry| entry.kind() == Kind::Retention).unwrap();
    let removal = statement.retention.as_ref().unwrap();
    assert_eq!((statement.subject.as_str(), removal.sequence), ("partnerd", oldest - 1));
    assert_eq!(removal.hash, entries[0].previous_hash);

    let late = checkpoint(&admin).await;
    let answer = verify(&admin, vec![early.clone(), late.clone()]).await;
    assert!(answer.intact, "{}", answer.fault);
    assert!(answer.removed_sequence >= oldest - 1);
    assert_eq!(answer.removed_checkpoints, [early.sequence], "neither intact nor broken");
    let request = GetAuditEntryRequest { name: "auditEntries/1".into() };
    let gone = AuditServiceClient::new(admin.service()).get_audit_entry(request).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    let request = WatchAuditEntriesRequest { start_sequence: 1, ..Default::default() };
    let gone = AuditServiceClient::new(admin.service()).watch_audit_entries(request).await;
    let gone = gone.map(drop).unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::OutOfRange, "AUDIT_COMPACTED"));
    assert!(metadata(&gone, "oldest_sequence").is_some_and(|it| it.parse::<i64>().unwrap() > 2));

    // All of it holds after a restart, and forged or foreign checkpoints are still found.
    let server = server.restart().await;
    let admin = server.admin();
    assert!(verify(&admin, vec![early.clone(), late.clone()]).await.intact);
    let mut forged = early;
    forged.hash = "00".repeat(32);
    let answer = verify(&admin, vec![forged]).await;
    assert!(!answer.intact && answer.fault.contains("signature"), "{}", answer.fault);
    let mut ahead = late;
    ahead.sequence += 1_000;
    assert!(!verify(&admin, vec![ahead]).await.intact);
}

/// A registry on a store of its own, whose retention goes when it is told to.
fn registry(store: &Path, retention: AuditRetention) -> (Registry, Arc<SledStore>) {
    let store = Arc::new(SledStore::open(store, &SledOptions::default()).unwrap());
    let options = Options {
        local_domains: BTreeSet::new(),
        audit_key: SigningKey::generate(),
        write_queue_length: 16,
        write_queue_share: 16,
        retained_listings: 1,
        listing_ttl: Duration::from_secs(60),
        retention: Retention { max_age: Duration::from_secs(86_400), max_commits: 1_000 },
        audit_retention: retention,
        tail: TailLimits { commits: 16, bytes: 1 << 20 },
        replicas: ReplicaOptions {
            max_count: 10,
            silent_after: Duration::from_secs(90),
            id_is_subject: false,
        },
    };
    (Registry::open(Arc::clone(&store) as Arc<dyn Store>, options).unwrap(), store)
}

async fn record(registry: &Registry, entries: usize) {
    let event = || (Actor::service("ticket 17"), Event::Stop);
    registry.record((0..entries).map(|_| event()).collect()).await.unwrap();
}

#[tokio::test]
async fn retention_goes_step_by_step_and_comes_to_rest_within_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let few = AuditRetention { max_age: None, max_entries: Some(600) };
    let (registry, store) = registry(&folder.path().join("store"), few);
    record(&registry, 600).await;
    assert_eq!(registry.compact_audit().await.unwrap(), 0, "there may be so many");
    record(&registry, 900).await;
    let mut steps = Vec::new();
    while let removed @ 1.. = registry.compact_audit().await.unwrap() {
        steps.push(removed);
    }
    assert!(steps.len() >= 4 && steps.iter().all(|removed| *removed <= 256), "{steps:?}");
    let chain = store.audit();
    assert!((300..=600).contains(&chain.length()), "{} are kept", chain.length());
    assert_eq!(registry.compact_audit().await.unwrap(), 0);
    // One more is no reason for one less.
    record(&registry, 1).await;
    assert_eq!(registry.compact_audit().await.unwrap(), 0);
    let mut walk = Walk::new(chain.base, None, Vec::new()).unwrap();
    let entries = store.audit_after(chain.base.sequence, usize::MAX).unwrap();
    entries.iter().try_for_each(|entry| walk.step(entry)).unwrap();
    walk.end().unwrap();
    registry.close().await;
}

#[tokio::test]
async fn what_is_too_old_goes_and_what_is_not_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let hour = AuditRetention { max_age: Some(Duration::from_secs(3_600)), max_entries: None };
    let (young, store) = registry(&path, hour);
    record(&young, 30).await;
    assert_eq!(young.compact_audit().await.unwrap(), 0);
    young.close().await;
    // The end was signed with a key, which retention goes by.
    assert_eq!(store.audit().length(), 31);
    drop((young, store));
    let nothing = AuditRetention { max_age: Some(Duration::from_nanos(1)), max_entries: None };
    let (old, store) = registry(&path, nothing);
    old.compact_audit().await.unwrap_err();
    assert_eq!(store.audit().base.sequence, 0, "what another key signed does not verify");
    old.close().await;
    let other = tempfile::tempdir().unwrap();
    let (old, store) = registry(&other.path().join("store"), nothing);
    record(&old, 30).await;
    assert_eq!(old.compact_audit().await.unwrap(), 30);
    assert_eq!(store.audit().length(), 1, "the entry that says so");
    old.close().await;
}

/// Somebody who has changed an entry does not get rid of the traces by waiting.
#[tokio::test]
async fn what_does_not_verify_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let few = AuditRetention { max_age: None, max_entries: Some(10) };
    let (before, store) = registry(&path, AuditRetention::default());
    record(&before, 15).await;
    before.close().await;
    drop((before, store));
    meddle(&path, |tree| {
        let key = audit_key(3);
        let mut entry = tree.get(&key).unwrap().expect("there is such an entry").to_vec();
        let at = entry.windows(9).position(|text| text == b"ticket 17").unwrap();
        entry[at + 8] = b'8';
        mend(&key, &mut entry);
        tree.insert(key, entry).unwrap();
    });
    let (registry, store) = registry(&path, few);
    let error = registry.compact_audit().await.unwrap_err();
    assert!(matches!(&error.kind, registry::Kind::Internal(text) if text.contains("verify")));
    assert_eq!(registry.compact_audit().await.unwrap(), 0, "it was said once");
    assert_eq!(store.audit().base.sequence, 0);
    record(&registry, 1).await;
    registry.close().await;
}

/// Does something to sled's tree, and makes the note of the store fit the rest.
fn meddle(store: &Path, change: impl FnOnce(&sled::Db)) {
    let config = sled::Config::new().path(store.join("sled")).segment_size(4 << 20);
    let tree = config.open().unwrap();
    let tally = |tree: &sled::Db| {
        let values = tree.iter().map(Result::unwrap).filter(|(key, _)| **key != *b"m");
        values.fold((0_u64, 0_u64), |(count, sum), (_, value)| {
            (count + 1, sum.wrapping_add(checksum(&value).into()))
        })
    };
    let before = tally(&tree);
    change(&tree);
    let after = tally(&tree);
    let mut note = tree.get(b"m").unwrap().expect("there is a note").to_vec();
    replace(&mut note, 0x61, &before.1.to_le_bytes(), &after.1.to_le_bytes());
    replace(&mut note, 0x58, &varint(before.0), &varint(after.0));
    mend(b"m", &mut note);
    tree.insert(b"m", note).unwrap();
    tree.flush().unwrap();
}

/// Replaces a field of a stored message, found by its tag and its value.
fn replace(message: &mut Vec<u8>, tag: u8, before: &[u8], after: &[u8]) {
    let before = [&[tag], before].concat();
    let at = message.windows(before.len()).rposition(|it| it == before).expect("it is there");
    message.splice(at..at + before.len(), [&[tag], after].concat());
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn audit_key(sequence: u64) -> Vec<u8> {
    [b"a", &sequence.to_be_bytes()[..]].concat()
}

/// The sequence of the first entry that is stored.
fn first(store: &Path) -> u64 {
    let config = sled::Config::new().path(store.join("sled")).segment_size(4 << 20);
    let tree = config.open().unwrap();
    let (key, _) = tree.scan_prefix(b"a").next().unwrap().unwrap();
    u64::from_be_bytes(key[1..].try_into().unwrap())
}

/// The hash in a stored entry of a commit, whose last field it is: tag 7, 32 bytes.
fn stored_hash(entry: &[u8]) -> [u8; 32] {
    let (rest, hash) = entry.split_last_chunk::<32>().unwrap();
    assert!(rest.ends_with(&[0x3a, 32]), "it is of a commit");
    *hash
}

/// Removes the entries up to `last` as retention would, but signs nothing, which takes the key.
fn trim(store: &Path, last: u64) {
    meddle(store, |tree| {
        let hash = stored_hash(&tree.get(audit_key(last)).unwrap().unwrap());
        for sequence in 1..=last {
            tree.remove(audit_key(sequence)).unwrap();
        }
        let mut note = tree.get(b"m").unwrap().expect("there is a note").to_vec();
        // Tags 30 and 31 at its end: where the audit begins, and after which hash.
        if note[..note.len() - 32].ends_with(&[0xfa, 0x01, 32]) {
            note.truncate(note.len() - 38);
        }
        note.extend([0xf0, 0x01, u8::try_from(last).unwrap()]);
        note.extend([0xfa, 0x01, 32]);
        note.extend(hash);
        mend(b"m", &mut note);
        tree.insert(b"m", note).unwrap();
    });
}

#[tokio::test]
async fn a_beginning_that_went_without_a_signed_entry_is_found_though_the_store_looks_whole() {
    let server = TestServer::start().await;
    for number in 0..8 {
        server.admin().create_plain(&format!("p{number}.example")).await;
    }
    let server = server.restart_after(|store| trim(store, 4)).await;
    let admin = server.admin();
    assert_eq!(list(&admin, "").await[0].sequence, 5, "the store took it for whole");
    let answer = verify(&admin, Vec::new()).await;
    assert!(!answer.intact);
    assert_eq!(answer.first_fault_sequence, 1);
    assert!(answer.fault.contains("nothing signed"), "{}", answer.fault);
}

#[tokio::test]
async fn more_than_retention_removed_is_found() {
    let server = keeping(20).await;
    filled(&server, 10).await;
    let forever = config::Audit { max_age: None, max_entries: None };
    let stopped = server.stop().await.with_audit(forever);
    let server = stopped.start_after(|store| trim(store, first(store) + 1)).await;
    let admin = server.admin();
    let entries = list(&admin, "").await;
    let removals = entries.iter().filter_map(|entry| entry.retention.as_ref());
    let stated = removals.map(|removal| removal.sequence).max().unwrap();
    assert_eq!(entries[0].sequence, stated + 3, "two more have gone");
    let answer = verify(&admin, Vec::new()).await;
    assert!(!answer.intact, "{answer:?}");
    assert_eq!(answer.first_fault_sequence, stated + 1, "{}", answer.fault);
}

#[test]
fn an_earlier_export_joins_what_is_left_and_checkpoints_of_what_went_tell_nothing() {
    let desk = Desk::with(&["--set", "audit.max_entries=20"]);
    let file = |name: &str| desk.server.folder.join(name).display().to_string();
    let create = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| drop(desk.run(&format!("new p{number}.example"))));
    };
    create(0..8);
    std::fs::write(file("kept.json"), desk.run("audit checkpoint -o json")).unwrap();
    desk.run(&format!("audit export --file {}", file("early.ndjson")));
    create(8..16);
    desk.run(&format!("audit export --file {}", file("middle.ndjson")));
    // What is removed of the oldest, whenever that is, the middle has.
    create(16..24);
    let oldest = || {
        let told = desk.run("audit list --oldest-first --limit 1 -o name");
        told.trim().rsplit('/').next().unwrap().parse::<u64>().unwrap()
    };
    while oldest() == 1 {
        std::thread::yield_now();
    }
    let late = file("late.ndjson");
    desk.run(&format!("audit export --file {late}"));
    let kept = format!("--checkpoint {}", file("kept.json"));
    let undecided = "the checkpoint of entry 9: removed by retention";
    for line in [format!("--file {late} {kept}"), kept] {
        let told = desk.run(&format!("audit verify {line}"));
        assert!(told.contains("intact") && told.contains(undecided), "{told}");
    }
    let told = desk.run(&format!("audit verify --file {late}"));
    assert!(told.contains("begins after entry"), "{told}");
    // With what was exported meanwhile it is whole; without, the gap is found.
    let told = desk.run(&format!("audit verify --file {} --file {late}", file("middle.ndjson")));
    assert!(told.contains("intact") && !told.contains("begins after"), "{told}");
    let said = desk.say(&format!("audit verify --file {} --file {late}", file("early.ndjson")));
    assert_eq!((said.code, said.out.starts_with("entry 11:")), (8, true), "{}", said.out);
}

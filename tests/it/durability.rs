//! What was acknowledged is there after a restart, an orderly end and a kill -9.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use partnerd::proto::v1::AllowedPartner;

use crate::harness::{
    TestServer,
    actor::{Actor, update},
    process::DevServer,
};

/// How many times the server is killed.
const ROUNDS: usize = 5;

/// How many acknowledged writes a round waits for before it kills the server.
const WRITES_PER_ROUND: usize = 60;

/// Writes until the server is gone: creates partners, changes each, deletes every third. What was
/// acknowledged is kept by the writer, the last write of each partner may or may not have counted.
async fn write_until_gone(
    admin: Actor,
    prefix: String,
    written: Arc<tokio::sync::Semaphore>,
    gone: Arc<AtomicBool>,
) -> Vec<Acknowledged> {
    let mut partners = Vec::new();
    for number in 0.. {
        if gone.load(Ordering::Relaxed) {
            break;
        }
        let domain = format!("{prefix}-{number}.example");
        let mut partner =
            Acknowledged { domain: domain.clone(), state: None, next: State::Owned("") };
        partners.push(partner.clone());
        let slot = partners.len() - 1;
        if admin.create(&domain, AllowedPartner::default()).await.is_err() {
            break;
        }
        partner.state = Some(State::Owned(""));
        partner.next = State::Owned("changed");
        partners[slot] = partner.clone();
        let owner = AllowedPartner { owner: "changed".into(), ..Default::default() };
        if admin.update(update(&domain, &["owner"], owner)).await.is_err() {
            break;
        }
        partner.state = Some(State::Owned("changed"));
        partner.next = if number % 3 == 0 { State::Deleted } else { State::Owned("changed") };
        partners[slot] = partner.clone();
        if number % 3 == 0 {
            if admin.delete(&domain).await.is_err() {
                break;
            }
            partner.state = Some(State::Deleted);
            partners[slot] = partner;
        }
        written.add_permits(1);
    }
    partners
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Owned(&'static str),
    Deleted,
}

/// A partner as the last acknowledged write left it, and as the next one would have.
#[derive(Clone, Debug)]
struct Acknowledged {
    domain: String,
    state: Option<State>,
    next: State,
}

async fn found(admin: &Actor, domain: &str) -> Option<State> {
    match admin.get(domain).await {
        Ok(partner) if partner.owner.is_empty() => Some(State::Owned("")),
        Ok(_) => Some(State::Owned("changed")),
        Err(status) if status.message().contains("deleted") => Some(State::Deleted),
        Err(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_write_load_loses_no_acknowledged_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<Acknowledged> = Vec::new();
    for round in 0..ROUNDS {
        let server = DevServer::start(folder.path());
        let admin = Actor::of_dev_server(folder.path()).await;
        let written = Arc::new(tokio::sync::Semaphore::new(0));
        let gone = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let prefix = format!("r{round}w{writer}");
                let (written, gone) = (Arc::clone(&written), Arc::clone(&gone));
                tokio::spawn(write_until_gone(admin.clone(), prefix, written, gone))
            })
            .collect();
        let enough = u32::try_from(WRITES_PER_ROUND).unwrap();
        tokio::time::timeout(Duration::from_secs(60), written.acquire_many(enough))
            .await
            .expect("the server acknowledges writes")
            .unwrap()
            .forget();
        server.kill();
        gone.store(true, Ordering::Relaxed);
        for writer in writers {
            all.extend(writer.await.unwrap());
        }
        let server = DevServer::start(folder.path());
        let admin = Actor::of_dev_server(folder.path()).await;
        for partner in &all {
            let found = found(&admin, &partner.domain).await;
            assert!(
                found == partner.state || found == Some(partner.next),
                "round {round}: {partner:?} was found as {found:?}"
            );
        }
        // The next round starts on what is now there.
        for partner in &mut all {
            partner.state = self::found(&admin, &partner.domain).await;
            partner.next = partner.state.unwrap_or(partner.next);
        }
        all.retain(|partner| partner.state.is_some());
        assert!(server.terminate().success());
    }
    assert!(all.len() >= ROUNDS * WRITES_PER_ROUND / 3);
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mut before = Vec::new();
    for number in 0..20 {
        before.push(admin.create_plain(&format!("p{number:02}.example")).await);
    }
    let revision = admin.revision().await;
    let server = server.restart().await;
    for partner in before {
        let domain = partner.name.replace("allowedPartners/", "");
        assert_eq!(server.admin().get(&domain).await.unwrap(), partner);
    }
    assert_eq!(server.admin().revision().await, revision);
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = DevServer::start(folder.path());
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_partnerd"))
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("another") && text.contains("partnerd-data"), "{text}");
    let admin = Actor::of_dev_server(folder.path()).await;
    admin.create_plain("contoso.com").await;
    drop(first);
}

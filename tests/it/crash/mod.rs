//! What a crash may not do: kill -9 at random moments of a server under load, and disks that fail.
//!
//! `PARTNERD_CRASH_ROUNDS=200 cargo test --test it crash::` kills it so many times, 20 unless told.

mod checks;
mod disk;
mod load;

use std::{path::Path, sync::Arc, time::Duration};

use partnerd::store::sled::{SledOptions, SledStore};
use tokio::time::sleep;

use self::{
    checks::Found,
    load::{Random, Writer},
};
use crate::harness::{actor::Actor, process::DevServer};

const ROUNDS: usize = 20;

/// Clients that write at the same time, each to partners of its own.
const WRITERS: usize = 4;

/// History and audit go all the time, so that crashes fall into their removal too.
const SETTINGS: [&str; 4] = ["--set", "history.max_commits=60", "--set", "audit.max_entries=100"];

fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "it is a setting of the test, not of the server")]
    let rounds = std::env::var("PARTNERD_CRASH_ROUNDS");
    rounds.map_or(ROUNDS, |text| text.parse().expect("PARTNERD_CRASH_ROUNDS is a number"))
}

/// The store of a development server that does not run.
fn open_store(folder: &Path) -> SledStore {
    let path = folder.join("partnerd-data/store");
    SledStore::open(&path, &SledOptions::default()).expect("a crash leaves a sound store")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlasts_kill_9_at_any_moment() {
    let seed = uuid::Uuid::new_v4().as_u128();
    // Shown when the test fails: the moments are the machine's, but the requests are the seed's.
    println!("seed {seed}");
    let random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut writers: Vec<Writer> =
        (0..WRITERS).map(|number| Writer::new(number, random.fork())).collect();
    let (mut compacted, mut removed) = (0, 0);
    for round in 0..rounds() {
        println!("round {round}");
        if round % 4 == 3 {
            kill_while_it_starts(folder.path(), &random).await;
        }
        let server = DevServer::start_with(folder.path(), &SETTINGS);
        let admin = Arc::new(Actor::of_dev_server(folder.path()).await);
        let tasks: Vec<_> = writers
            .drain(..)
            .map(|writer| tokio::spawn(writer.write_until_gone(Arc::clone(&admin))))
            .collect();
        // No condition to wait for: a crash comes when it comes.
        sleep(Duration::from_micros(random.below(1_300_000))).await;
        server.kill();
        for task in tasks {
            writers.push(task.await.unwrap());
        }
        let found = Found::read(open_store(folder.path()));
        found.assert_whole();
        found.assert_holds(&writers, round);
        compacted = found.oldest_revision() - 1;
        removed = found.removed_entries();
    }
    let acknowledged: usize = writers.iter().map(Writer::acknowledged).sum();
    assert!(acknowledged > 10 * rounds(), "only {acknowledged} writes were acknowledged");
    assert!(compacted > 0, "no history was compacted");
    assert!(removed > 0, "no audit entry was removed");
}

/// A crash in the middle of a recovery from a crash.
async fn kill_while_it_starts(folder: &Path, random: &Random) {
    let server = DevServer::spawn(folder, &SETTINGS);
    sleep(Duration::from_micros(random.below(400_000))).await;
    server.kill();
}

//! What the files take, while what they hold comes and goes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::TempStore;
use crate::{
    domain::Revision,
    store::{
        Store as _,
        conformance::model::{Model, domain, rich_partner},
        sled::SledStore,
    },
};

/// The commits that are kept, and how many there are in a group.
const KEPT: u64 = 2_000;
const GROUP: u64 = 64;

/// The bytes of all files below a folder.
fn bytes_in(folder: &Path) -> u64 {
    let size = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { bytes_in(&entry.path()) } else { metadata.len() }
    };
    folder.read_dir().unwrap().map(size).sum()
}

/// The bytes of all keys and values.
fn live_bytes(store: &SledStore) -> u64 {
    let sizes = store.tree.iter().map(Result::unwrap).map(|(key, value)| key.len() + value.len());
    sizes.sum::<usize>() as u64
}

/// Writes `groups` groups over some thousand partners, and compacts after each. Returns the longest
/// time that a compaction took.
fn churn(store: &SledStore, model: &mut Model, groups: u64) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..groups {
        let write = |model: &mut Model, number| {
            let number = (model.revision().get() + number) * 7_919 % 3_000;
            model.set([rich_partner(domain(number), 2, number)])
        };
        let group: Vec<_> = (0..GROUP).map(|number| write(model, number)).collect();
        store.write(&group).unwrap();
        let before = Revision::new(model.revision().next().get().saturating_sub(KEPT));
        let begin = Instant::now();
        let done = store.compact(before, 256).unwrap();
        longest = longest.max(begin.elapsed());
        model.compact(done.oldest_revision);
    }
    longest
}

#[test]
fn what_is_compacted_is_filled_again() {
    let place = TempStore::new();
    let store = place.try_open().unwrap();
    let mut model = Model::default();
    churn(&store, &mut model, 260);
    let (live, disk) = (live_bytes(&store), bytes_in(&place.path()));
    assert_eq!(model.commits.len() as u64, KEPT);
    // The segments being filled and emptied count little for a store that is worth a thought.
    let under_way = 4 * super::super::keepsake::SEGMENT_BYTES as u64;
    assert!(disk <= 3 * live + under_way, "{disk} bytes on disk for {live} live ones");
    model.assert_is_in(&store);
    drop(store);
    model.assert_is_in(&place.try_open().unwrap());
}

/// `cargo test --release --lib figures_of_space -- --ignored --nocapture`
#[test]
#[ignore = "prints figures for docs/storage.md"]
fn figures_of_space() {
    let place = TempStore::new();
    let store = place.try_open().unwrap();
    let mut model = Model::default();
    for _ in 0..20 {
        let begin = Instant::now();
        let longest = churn(&store, &mut model, 200);
        let (live, disk) = (live_bytes(&store) / 1_000, bytes_in(&place.path()) / 1_000);
        let revision = model.revision();
        let took = begin.elapsed();
        println!(
            "revision {revision}: {live} kB live, {disk} kB on disk; 200 groups of {GROUP} and as \
             many compactions took {took:.1?}, the longest compaction {longest:.1?}"
        );
    }
}

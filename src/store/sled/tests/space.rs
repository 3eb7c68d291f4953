//! What the files take, while what they hold comes and goes.

use std::path::Path;

use super::TempStore;
use crate::{
    domain::Revision,
    store::{
        Store as _,
        conformance::model::{Model, domain, plain_partner, rich_partner},
        sled::{SledOptions, SledStore},
    },
};

/// The bytes of all files below a folder.
fn bytes_in(folder: &Path) -> u64 {
    let size = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { bytes_in(&entry.path()) } else { metadata.len() }
    };
    folder.read_dir().unwrap().map(size).sum()
}

#[test]
#[ignore = "measures; takes minutes"]
fn figures() {
    let place = TempStore::new();
    let store = SledStore::open(&place.path(), &SledOptions::default()).unwrap();
    let mut model = Model::default();
    let kept = 2_000;
    for round in 0..40_u64 {
        let (mut write_time, mut compact_time, mut compactions, mut slowest) =
            (std::time::Duration::ZERO, std::time::Duration::ZERO, 0, std::time::Duration::ZERO);
        for step in 0..20 {
            let group: Vec<_> = (0..64)
                .map(|number| {
                    let number = (round * 1_280 + step * 64 + number) * 7_919 % 3_000;
                    model.set([rich_partner(domain(number), 2, number)])
                })
                .collect();
            let begin = std::time::Instant::now();
            store.write(&group).unwrap();
            write_time += begin.elapsed();
            let before = Revision::new(model.revision().get().saturating_sub(kept));
            let begin = std::time::Instant::now();
            let done = store.compact(before, 256).unwrap();
            let took = begin.elapsed();
            compact_time += took;
            slowest = slowest.max(took);
            compactions += 1;
            model.compact(done.oldest_revision);
            model.entries.drain(..model.entries.len() - 1);
        }
        let live: usize = store
            .tree
            .iter()
            .map(|pair| pair.map(|(key, value)| key.len() + value.len()).unwrap())
            .sum();
        let audit: usize = store
            .tree
            .scan_prefix([super::super::layout::AUDIT])
            .map(|pair| pair.map(|(key, value)| key.len() + value.len()).unwrap())
            .sum();
        println!(
            "round {round}: revision {}, live {} kB (audit {} kB), disk {} kB, write {:?}, compact {:?} slowest {:?}",
            model.revision(),
            live / 1_000,
            audit / 1000,
            bytes_in(&place.path()) / 1_000,
            write_time / 20,
            compact_time / compactions,
            slowest,
        );
    }
    let _ = plain_partner(1);
}

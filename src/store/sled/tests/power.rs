//! A power loss: of what was written since the last sync, any part may be lost.
//!
//! Two copies of the log play the disk: one as it was when it was last synced, one as it was
//! written when the next sync began. A loss takes some blocks of the one and some of the other.
//! sled's other files are as they were when the store was opened: nobody syncs them later.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::TempStore;
use crate::store::{
    Store as _, Write,
    conformance::model::{Model, domain, rich_partner},
    sled::{SledOptions, SledStore},
};

/// What a disk writes whole.
const BLOCK: usize = 4_096;

/// The log at two moments.
#[derive(Default)]
struct Disk {
    synced: Vec<u8>,
    written: Vec<u8>,
}

/// Which of the blocks that were not synced were lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    All,
    /// Those that made the file longer.
    Appended,
    /// Those that took the place of something.
    Overwritten,
    /// About half, others for every number.
    Some(u32),
}

impl Lost {
    fn has_lost(self, block: usize, was_there: bool) -> bool {
        match self {
            Self::All => true,
            Self::Appended => !was_there,
            Self::Overwritten => was_there,
            Self::Some(number) => {
                let draw = format!("{number} {block}");
                crc32fast::hash(draw.as_bytes()).count_ones().is_multiple_of(2)
            }
        }
    }
}

impl Disk {
    fn after(&self, lost: Lost) -> Vec<u8> {
        let mut log = self.synced.clone();
        for (number, block) in self.written.chunks(BLOCK).enumerate() {
            let begin = number * BLOCK;
            if !lost.has_lost(number, begin < self.synced.len()) {
                let end = begin + block.len();
                log.resize(log.len().max(end), 0);
                log[begin..end].copy_from_slice(block);
            }
        }
        log
    }
}

/// A store whose syncs are watched.
struct Watched {
    place: TempStore,
    store: SledStore,
    disk: Arc<Mutex<Disk>>,
    /// All files but the log and the lock, as they were when the store was opened.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Watched {
    fn new() -> Self {
        let place = TempStore::new();
        drop(place.try_open().unwrap());
        let log = place.path().join("sled/db");
        let disk = Arc::new(Mutex::new(Disk::default()));
        let sync = {
            let (log, disk) = (log.clone(), Arc::clone(&disk));
            move |file: &File| -> io::Result<()> {
                let mut disk = disk.lock().unwrap();
                disk.synced = std::mem::replace(&mut disk.written, fs::read(&log)?);
                file.sync_data()
            }
        };
        let options = SledOptions::default();
        let store = SledStore::open_with(&place.path(), &options, Box::new(sync)).unwrap();
        disk.lock().unwrap().written = fs::read(&log).unwrap();
        let files = files_below(&place.path());
        Self { place, store, disk, files }
    }

    /// What a power loss during the last group leaves.
    fn after(&self, lost: Lost) -> TempStore {
        let left = TempStore::new();
        for (path, bytes) in &self.files {
            let path = left.path().join(path.strip_prefix(self.place.path()).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let log = self.disk.lock().unwrap().after(lost);
        fs::write(left.path().join("sled/db"), log).unwrap();
        left
    }
}

fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if entry.file_name() != "db" && entry.file_name() != "lock" {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

#[test]
fn what_was_acknowledged_outlasts_the_loss_of_what_was_not_synced() {
    let watched = Watched::new();
    let mut model = Model::default();
    // Enough for the log's segments to be filled a second time.
    for round in 0..44_u32 {
        let acknowledged = model.clone();
        let partner = |number: u64| {
            let number = u64::from(round) * 31 + number * 7;
            rich_partner(domain(number % 200), 60, number)
        };
        let group: Vec<Write> = (0..40).map(|number| model.set([partner(number)])).collect();
        watched.store.write(&group).unwrap();
        if round % 6 == 5 {
            let some = [Lost::Some(round), Lost::Some(round + 1_000)];
            for lost in [Lost::All, Lost::Appended, Lost::Overwritten].into_iter().chain(some) {
                assert_holds(&watched.after(lost), [&acknowledged, &model], lost);
            }
        }
        let before = model.revision().before(200);
        model.compact(watched.store.compact(before, 256).unwrap().oldest_revision);
    }
    let log = watched.place.path().join("sled/db").metadata().unwrap().len();
    let segments = log / super::super::keepsake::SEGMENT_BYTES as u64;
    assert!(segments < 8, "no segment was filled a second time: there are {segments}");
}

/// Asserts that a store holds one of two states: what was acknowledged, or the group in flight too.
#[track_caller]
fn assert_holds(place: &TempStore, [acknowledged, in_flight]: [&Model; 2], lost: Lost) {
    let store = place.try_open().unwrap_or_else(|error| panic!("{lost:?}: {error}"));
    let revision = store.load().unwrap().revision;
    let expected = if revision == in_flight.revision() { in_flight } else { acknowledged };
    expected.assert_is_in(&store);
}

//! A power loss: of what was written since the last sync, any part may be lost.
//!
//! The disk is played by two copies of the log: as it was synced last, and as it is written. Each
//! loss takes some blocks of the one and some of the other. sled's other files are left as they
//! were when the store was opened, since nobody syncs them later.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::TempStore;
use crate::{
    domain::Revision,
    store::{
        Store as _, Write,
        conformance::model::{Model, domain, rich_partner},
        sled::{SledOptions, SledStore},
    },
};

/// What a disk writes whole.
const BLOCK: usize = 4_096;

/// The log, once as the last sync left it and once as it was just before the one after.
#[derive(Clone, Default)]
struct Disk {
    synced: Vec<u8>,
    written: Vec<u8>,
}

/// Which of the blocks that were written since the last sync are on the disk.
#[derive(Clone, Copy, Debug)]
enum Lost {
    All,
    /// Those that overwrote something are there; what made the file longer is not.
    Appended,
    /// The file is longer; what was overwritten is as it was.
    Overwritten,
    /// By the bits of a hash of this seed and the block's number.
    Some(u64),
}

impl Disk {
    fn after(&self, lost: Lost) -> Vec<u8> {
        let mut log = self.synced.clone();
        for (number, block) in self.written.chunks(BLOCK).enumerate() {
            let from = number * BLOCK;
            let appended = from >= self.synced.len();
            let is_there = match lost {
                Lost::All => false,
                Lost::Appended => !appended,
                Lost::Overwritten => appended,
                Lost::Some(seed) => {
                    crc32fast::hash(
                        &(seed, number)
                            .0
                            .to_le_bytes()
                            .iter()
                            .chain(&number.to_le_bytes())
                            .copied()
                            .collect::<Vec<_>>(),
                    ) & 1
                        == 1
                }
            };
            if is_there {
                log.resize(log.len().max(from + block.len()), 0);
                log[from..from + block.len()].copy_from_slice(block);
            }
        }
        log
    }
}

/// A store on a disk that is watched.
struct Watched {
    place: TempStore,
    store: SledStore,
    disk: Arc<Mutex<Disk>>,
    /// The other files, as they were when the store was opened.
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
                let now = fs::read(&log)?;
                disk.synced = std::mem::replace(&mut disk.written, now);
                file.sync_data()
            }
        };
        let store =
            SledStore::open_with(&place.path(), &SledOptions::default(), Box::new(sync)).unwrap();
        disk.lock().unwrap().written = fs::read(&log).unwrap();
        let files = files(&place.path());
        Self { place, store, disk, files }
    }

    /// Opens what a power loss leaves.
    fn after(&self, lost: Lost) -> Result<(TempStore, SledStore), String> {
        let place = TempStore::new();
        for (path, bytes) in &self.files {
            let path = place.path().join(path.strip_prefix(self.place.path()).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::create_dir_all(place.path().join("sled/blobs")).unwrap();
        fs::write(place.path().join("sled/db"), self.disk.lock().unwrap().after(lost)).unwrap();
        place.try_open().map(|store| (place, store)).map_err(|error| error.to_string())
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if entry.file_name() != "db" && entry.file_name() != "lock" {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

#[test]
fn what_was_acknowledged_outlasts_a_power_loss() {
    let per_group: u64 = std::env::var("PG").map_or(40, |v| v.parse().unwrap());
    let disk = Watched::new();
    let mut model = Model::default();
    let (mut lost_all, mut kept_all, mut bad) = (0, 0, 0);
    for round in 0..60_u64 {
        let before = model.clone();
        let group: Vec<Write> = (0..per_group)
            .map(|number| {
                model.set([rich_partner(domain((round * 31 + number * 7) % 200), 60, round)])
            })
            .collect();
        disk.store.write(&group).unwrap();
        if round % 4 == 3 {
            for lost in [
                Lost::All,
                Lost::Appended,
                Lost::Overwritten,
                Lost::Some(round),
                Lost::Some(round + 1000),
            ] {
                match disk.after(lost) {
                    Ok((_place, found)) => {
                        let revision = found.load().unwrap().revision;
                        if revision == model.revision() {
                            kept_all += 1;
                            model.assert_is_in(&found);
                        } else {
                            lost_all += 1;
                            before.assert_is_in(&found);
                        }
                    }
                    Err(error) => {
                        bad += 1;
                        println!("round {round} {lost:?}: {error}")
                    }
                }
            }
        }
        let done = disk
            .store
            .compact(Revision::new(model.revision().get().saturating_sub(200)), 256)
            .unwrap();
        model.compact(done.oldest_revision);
        println!("round {round} size {}", disk.disk.lock().unwrap().written.len());
    }
    println!("{lost_all} lost, {kept_all} kept, {bad} bad");
    assert_eq!(bad, 0);
}

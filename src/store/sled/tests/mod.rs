//! The embedded store's own tests: the contract, damage, crashes.

mod census;
mod crash;
mod damage;
mod power;
mod space;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tempfile::TempDir;

use super::{SledOptions, SledStore};
use crate::{
    domain::Revision,
    store::{
        Store, StoreError, Write, codec,
        conformance::{
            Place, conformance,
            model::{Model, domain, plain_partner, rich_partner},
        },
    },
};

/// A folder for one store, deleted in the end.
struct TempStore(TempDir);

impl TempStore {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// The store's folder, which does not exist at first.
    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn try_open(&self) -> Result<SledStore, StoreError> {
        SledStore::open(&self.path(), &SledOptions::default())
    }

    /// Writes a history of `steps` steps, one group each, and closes the store.
    fn with_history(steps: u64) -> (Self, Model) {
        let place = Self::new();
        let (model, writes) = Model::history(steps);
        let store = place.try_open().unwrap();
        for write in writes {
            store.write(&[write]).unwrap();
        }
        (place, model)
    }
}

impl Place for TempStore {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.try_open().unwrap())
    }
}

conformance!(TempStore::new());

fn blob_files(path: &Path) -> usize {
    path.join("sled/blobs").read_dir().unwrap().count()
}

#[test]
fn large_values_leave_no_parts_behind_and_never_become_blob_files() {
    let place = TempStore::new();
    let store = place.try_open().unwrap();
    let mut model = Model::default();
    for round in 0..12 {
        let write = model.set((0..8).map(|it| rich_partner(domain(it), 1_000, round)));
        store.write(&[write]).unwrap();
    }
    let write = model.set((0..8).map(plain_partner));
    store.write(&[write]).unwrap();
    assert_eq!(blob_files(&place.path()), 0);
    let parts = store.tree.scan_prefix([super::layout::PARTS]).keys();
    let of_partners = parts.filter(|key| key.as_ref().unwrap()[1] == super::layout::PARTNERS);
    assert_eq!(of_partners.count(), 0);
    model.assert_is_in(&store);
}

#[test]
fn what_is_replaced_again_and_again_does_not_make_the_database_grow_without_end() {
    let place = TempStore::new();
    let store = place.try_open().unwrap();
    let mut model = Model::default();
    let write = model.set((0..5).map(|it| rich_partner(domain(it), 200, 0)));
    store.write(std::slice::from_ref(&write)).unwrap();
    // Answers are replaced, where commits stay in the log.
    let (mut written, mut largest) = (0, 0);
    for _ in 0..300 {
        let again = Write { answer: None, ..write.clone() };
        let again = Write { commit: None, ..model.answered(again, 1, 1) };
        written += codec::encode(b"", again.answer.as_ref().unwrap()).len() as u64;
        store.write(&[again]).unwrap();
        largest = largest.max(store.size_on_disk());
    }
    assert!(written > 2 * largest, "{written} bytes written, {largest} on disk");
    model.assert_is_in(&store);
}

#[test]
fn a_failed_sync_is_the_last_write_and_reading_goes_on() {
    let (place, mut model) = TempStore::with_history(5);
    let fails = Arc::new(AtomicBool::new(false));
    let sync = {
        let fails = Arc::clone(&fails);
        move |log: &std::fs::File| match fails.load(Ordering::Acquire) {
            true => Err(io::Error::other("the disk is gone")),
            false => log.sync_data(),
        }
    };
    let path = place.path();
    let store = SledStore::open_with(&path, &SledOptions::default(), Box::new(sync)).unwrap();
    let write = model.step();
    store.write(&[write]).unwrap();

    let acknowledged = model.clone();
    fails.store(true, Ordering::Release);
    let write = model.step();
    for attempt in 0..2 {
        let error = store.write(std::slice::from_ref(&write)).unwrap_err();
        assert!(matches!(error, StoreError::Io(_)), "{attempt}: {error}");
        assert!(error.to_string().contains("the disk is gone"), "{attempt}: {error}");
        fails.store(false, Ordering::Release);
    }
    let error = store.compact(Revision::new(3), 5).unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    let commits = store.commits_after(Revision::ZERO, usize::MAX).unwrap();
    assert_eq!(commits, acknowledged.commits);
    assert_eq!(store.audit_after(0, usize::MAX).unwrap(), acknowledged.entries);
    drop(store);

    // The group that failed may be there or not, but never in part.
    let store = place.try_open().unwrap();
    let revision = store.load().unwrap().revision;
    if revision == model.revision() {
        model.assert_is_in(&store);
    } else {
        acknowledged.assert_is_in(&store);
    }
}

#[test]
fn a_second_opener_is_told_who_has_the_store() {
    let place = TempStore::new();
    let store = place.try_open().unwrap();
    let error = place.try_open().unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    assert!(error.to_string().contains("another partnerd has"), "{error}");
    drop(store);
    place.try_open().unwrap();
}

#[cfg(unix)]
#[test]
fn new_folders_and_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let (place, _) = TempStore::with_history(3);
    drop(place.try_open().unwrap());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o700);
    assert_eq!(mode(&place.path().join("sled")), 0o700);
    let mut files = 0;
    for folder in [place.path(), place.path().join("sled")] {
        for entry in folder.read_dir().unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                files += 1;
                assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
            }
        }
    }
    assert!(files >= 6, "{files} files");
}

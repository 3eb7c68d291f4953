//! Damaged files: what is found is all there or refused, never less without a word.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::TempStore;
use crate::store::{
    StoreError,
    conformance::{Place as _, model::Model},
};

/// Every file below a folder with its bytes, but the lock.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if entry.file_name() != "lock" {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Puts files back as they were, and removes those that were not there.
fn restore(folder: &Path, originals: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in files(folder).keys().filter(|path| !originals.contains_key(*path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in originals {
        fs::write(path, bytes).unwrap();
    }
}

/// Opens a damaged store: either it holds all of `model`, or it is refused and left as it was.
/// Returns whether it was refused.
#[track_caller]
fn assert_whole_or_refused(place: &TempStore, model: &Model, damage: &str) -> bool {
    let damaged = files(&place.path());
    match place.try_open() {
        Ok(store) => {
            model.assert_is_in(&store);
            false
        }
        Err(error) => {
            assert!(matches!(error, StoreError::Damaged(_)), "{damage}: {error}");
            assert!(error.to_string().contains("Nothing was overwritten"), "{damage}: {error}");
            let left = files(&place.path());
            assert!(left.keys().eq(damaged.keys()), "{damage}: {:?}", left.keys());
            assert!(left == damaged, "{damage}: a file was changed");
            true
        }
    }
}

/// The end of what is written in sled's log; the rest of the file was never used.
fn used(log: &[u8]) -> usize {
    log.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn a_flipped_byte_anywhere_in_the_log_is_found_or_harmless() {
    let (place, model) = TempStore::with_history(40);
    let originals = files(&place.path());
    let log = place.path().join("sled/db");
    let used = used(&originals[&log]);
    let mut refused = 0;
    let tries = 120;
    for number in 0..tries {
        let position = if number < 24 { number } else { used * (number - 24) / (tries - 24) };
        let mut bytes = originals[&log].clone();
        bytes[position] ^= 0x55;
        fs::write(&log, bytes).unwrap();
        let damage = format!("byte {position} of {used}");
        refused += usize::from(assert_whole_or_refused(&place, &model, &damage));
        restore(&place.path(), &originals);
    }
    assert!(refused > tries / 4, "only {refused} of {tries} were found");
}

#[test]
fn a_truncated_log_is_refused() {
    let (place, model) = TempStore::with_history(40);
    let originals = files(&place.path());
    let log = place.path().join("sled/db");
    let used = used(&originals[&log]);
    for length in [0, 1, 19, 20, 21, used / 3, used / 2, used - 100, used - 1] {
        fs::write(&log, &originals[&log][..length]).unwrap();
        let damage = format!("{length} of {used} bytes");
        assert!(assert_whole_or_refused(&place, &model, &damage), "{damage} were taken");
        restore(&place.path(), &originals);
    }
}

#[test]
fn a_torn_or_missing_snapshot_is_recovered_from() {
    let (place, model) = TempStore::with_history(30);
    drop(place.open());
    let originals = files(&place.path());
    let is_snapshot =
        |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("snap.");
    let snapshot = originals.keys().find(is_snapshot).expect("sled wrote a snapshot");
    let half = originals[snapshot].len() / 2;
    for torn in [Vec::new(), originals[snapshot][..half].to_vec(), vec![0; half]] {
        fs::write(snapshot, torn).unwrap();
        model.assert_is_in(place.open().as_ref());
        restore_without_copies(&place.path(), &originals);
    }
    fs::remove_file(snapshot).unwrap();
    fs::write(snapshot.with_extension("generating"), b"torn").unwrap();
    model.assert_is_in(place.open().as_ref());
}

fn restore_without_copies(folder: &Path, originals: &BTreeMap<PathBuf, Vec<u8>>) {
    let is_copy = |name: &str| name.starts_with("sled-before-recovery-");
    let copies = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let copies = copies.filter(|path| is_copy(path.file_name().unwrap().to_str().unwrap()));
    let copies: Vec<_> = copies.collect();
    assert_eq!(copies.len(), 1, "one copy is made before a recovery");
    fs::remove_dir_all(&copies[0]).unwrap();
    restore(folder, originals);
}

#[test]
fn every_other_file_damaged_or_missing_is_found_or_harmless() {
    let (place, model) = TempStore::with_history(12);
    let originals = files(&place.path());
    let harmless = ["conf", "snap."];
    for (path, bytes) in &originals {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "db" {
            continue;
        }
        let damages: [(&str, Option<Vec<u8>>); 3] = [
            ("missing", None),
            ("empty", Some(Vec::new())),
            ("overwritten", Some(vec![0xaa; bytes.len()])),
        ];
        for (what, damaged) in damages {
            match damaged {
                Some(damaged) => fs::write(path, damaged).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let damage = format!("{name} {what}");
            if name == "partnerd-store" && what == "missing" {
                let error = place.try_open().unwrap_err().to_string();
                assert!(error.contains("is no partnerd store and not empty"), "{error}");
            } else {
                let refused = assert_whole_or_refused(&place, &model, &damage);
                let may_be_whole = harmless.iter().any(|harmless| name.starts_with(harmless));
                assert!(refused || may_be_whole, "{damage} was not found");
            }
            let copies = place.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
            for copy in copies.filter(|path| path.to_str().unwrap().contains("before-recovery")) {
                fs::remove_dir_all(copy).unwrap();
            }
            restore(&place.path(), &originals);
        }
    }
    model.assert_is_in(place.open().as_ref());
}

#[test]
fn one_torn_slot_of_the_head_file_is_no_damage() {
    let (place, model) = TempStore::with_history(10);
    let head = place.path().join("head");
    let whole = fs::read(&head).unwrap();
    for slot in [0, 512] {
        let mut torn = whole.clone();
        torn[slot + 30] ^= 1;
        fs::write(&head, torn).unwrap();
        model.assert_is_in(place.open().as_ref());
    }
}

#[test]
fn an_older_copy_of_the_log_is_found() {
    let (place, mut model) = TempStore::with_history(10);
    let log = place.path().join("sled/db");
    let older = fs::read(&log).unwrap();
    let write = model.step();
    place.open().write(&[write]).unwrap();
    fs::write(&log, older).unwrap();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("it ends at revision 10, and revision 11 was acknowledged"), "{error}");
}

#[test]
fn the_files_of_another_store_are_found() {
    let (place, _) = TempStore::with_history(10);
    let (other, _) = TempStore::with_history(10);
    for file in ["head", "partnerd-store"] {
        let originals = files(&place.path());
        fs::copy(other.path().join(file), place.path().join(file)).unwrap();
        let error = place.try_open().unwrap_err().to_string();
        assert!(error.contains("another store"), "{error}");
        restore(&place.path(), &originals);
    }
}

#[test]
fn a_value_that_went_back_in_time_or_is_gone_is_found() {
    use crate::store::sled::layout;

    let (place, model) = TempStore::with_history(12);
    let key = layout::partner_key(&model.partners.values().next().unwrap().domain);
    let answer = layout::answer_key(model.answers.keys().next().unwrap());
    for key in [&key[..], &answer, &layout::commit_key(crate::domain::Revision::new(5))] {
        let originals = files(&place.path());
        let store = place.try_open().unwrap();
        store.tree.remove(key).unwrap();
        drop(store);
        let error = place.try_open().unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        restore(&place.path(), &originals);
    }
    let store = place.try_open().unwrap();
    let older = crate::store::conformance::model::partner(
        model.partners.values().next().unwrap().domain.clone(),
    );
    store.tree.insert(&key[..], crate::store::codec::encode(&key, &older)).unwrap();
    drop(store);
    let error = place.try_open().unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[test]
fn a_folder_that_is_somebody_elses_is_not_touched() {
    let place = TempStore::new();
    fs::create_dir(place.path()).unwrap();
    fs::write(place.path().join("thesis.txt"), "chapter one").unwrap();
    let before = files(&place.path());
    let error = place.try_open().unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("it holds thesis.txt"), "{error}");
    assert_eq!(files(&place.path()), before);
    assert!(!place.path().join("lock").exists());
}

#[test]
fn an_empty_folder_and_an_interrupted_creation_are_taken() {
    let place = TempStore::new();
    fs::create_dir(place.path()).unwrap();
    drop(place.open());
    // As if the process had died before the marker said that the store is ready.
    let marker = place.path().join("partnerd-store");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("ready", "unfinished")).unwrap();
    fs::remove_file(place.path().join("head")).unwrap();
    fs::write(place.path().join("sled/db"), b"torn").unwrap();
    Model::default().assert_is_in(place.open().as_ref());
}

#[test]
fn a_store_of_a_later_format_is_refused_by_its_number() {
    let (place, _) = TempStore::with_history(3);
    let marker = place.path().join("partnerd-store");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("format: 2", "format: 3")).unwrap();
    let before = files(&place.path());
    let error = place.try_open().unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert!(
        error.to_string().contains("is of format 3, and this partnerd knows format 2"),
        "{error}"
    );
    assert_eq!(files(&place.path()), before);
}

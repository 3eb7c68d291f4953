//! Damaged files: what is found is all there or refused, never less without a word.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::TempStore;
use crate::{
    domain::audit::{ChainHead, Event, FieldChange, ResourceChange, Verb},
    store::{
        Store as _, StoreError,
        conformance::{Place as _, model::Model},
    },
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

/// Every byte of three stored entries, one of them kept in parts: the check at open finds each, and so
/// does whoever reads the entry.
#[test]
fn no_byte_of_the_stored_audit_can_be_changed_unseen() {
    use crate::store::sled::{check, layout, lock};

    let (place, mut model) = TempStore::with_history(12);
    let store = place.try_open().unwrap();
    store.compact_audit(&model.compact_audit(5)).unwrap();
    // So much in one entry that it does not fit one value.
    let field = |number| FieldChange {
        field: format!("field-{number}"),
        before: "before".into(),
        after: "after".repeat(4),
    };
    let write = model.note(Event::Replica(ResourceChange {
        resource: "replicas/large".into(),
        verb: Verb::Create,
        fields: (0..200).map(field).collect(),
    }));
    store.write(&[write]).unwrap();
    let note = *lock(&store.published);
    let first = note.audit.base.sequence + 1;
    let last = note.audit.head.sequence;
    let entries = [first, last - 1, last].map(layout::audit_key);
    let parts = store.tree.scan_prefix([layout::PARTS]).keys().map(Result::unwrap);
    let of_audit = parts.filter(|key| key[1] == layout::AUDIT).map(|key| key.to_vec());
    let keys: Vec<_> = entries.into_iter().chain(of_audit).collect();
    assert!(keys.len() > 4, "the large one is in parts");
    check::whole_tree(&store.tree, &store.folder, &note).unwrap();
    for key in keys {
        let whole = store.tree.get(&key).unwrap().unwrap();
        // A long part is the same all over: its beginning and its end will do.
        let middle = 300..whole.len().saturating_sub(100).max(300);
        for at in (0..whole.len()).filter(|at| !middle.contains(at)) {
            let mut changed = whole.to_vec();
            changed[at] ^= 0x55;
            store.tree.insert(&key, changed).unwrap();
            let place = format!("byte {at} of {}", layout::place(&key));
            let found = check::whole_tree(&store.tree, &store.folder, &note).unwrap_err();
            assert!(matches!(found, StoreError::Damaged(_)), "{place}: {found}");
            let read = store.audit_after(first - 1, usize::MAX).unwrap_err();
            assert!(matches!(read, StoreError::Damaged(_)), "{place}: {read}");
        }
        store.tree.insert(&key, whole).unwrap();
    }
    check::whole_tree(&store.tree, &store.folder, &note).unwrap();
}

#[test]
fn a_beginning_of_the_audit_that_nobody_removed_is_missed() {
    use crate::store::sled::{layout, lock};

    let (place, mut model) = TempStore::with_history(12);
    let store = place.try_open().unwrap();
    store.compact_audit(&model.compact_audit(5)).unwrap();
    let note = *lock(&store.published);
    drop(store);
    let originals = files(&place.path());
    let first = layout::audit_key(note.audit.base.sequence + 1);
    let mut earlier = note;
    earlier.audit.base = ChainHead::default();
    let mut forged = note;
    forged.audit.base.hash[0] ^= 1;
    type Damage<'a> = &'a dyn Fn(&sled::Db);
    let damages: [(&str, Damage<'_>); 4] = [
        ("number 6 is missing", &|tree| drop(tree.remove(&first).unwrap())),
        ("number 6 is missing", &|tree| {
            (6..=9).for_each(|number| drop(tree.remove(layout::audit_key(number)).unwrap()));
        }),
        ("number 1 is missing", &|tree| drop(tree.insert(layout::NOTE, earlier.sealed()).unwrap())),
        ("what was before it is another one", &|tree| {
            tree.insert(layout::NOTE, forged.sealed()).unwrap();
        }),
    ];
    for (said, damage) in damages {
        let store = place.try_open().unwrap();
        damage(&store.tree);
        drop(store);
        let error = place.try_open().unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        restore(&place.path(), &originals);
    }
    model.assert_is_in(place.open().as_ref());
}

/// The head file may be some seconds old after a power loss, and what it names may have gone since.
#[test]
fn a_head_file_from_before_a_removal_is_no_damage() {
    let (place, mut model) = TempStore::with_history(6);
    let older = fs::read(place.path().join("head")).unwrap();
    let store = place.try_open().unwrap();
    let write = model.step();
    store.write(&[write]).unwrap();
    for count in [6, 2] {
        store.compact_audit(&model.compact_audit(count)).unwrap();
        assert_ne!(fs::read(place.path().join("head")).unwrap(), older);
    }
    drop(store);
    fs::write(place.path().join("head"), older).unwrap();
    model.assert_is_in(place.open().as_ref());
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
fn what_others_put_beside_our_files_is_left_alone() {
    let (place, model) = TempStore::with_history(10);
    let beside = [place.path().join("README"), place.path().join("sled/notes.txt")];
    for path in &beside {
        fs::write(path, "keep out").unwrap();
    }
    model.assert_is_in(place.open().as_ref());
    for path in &beside {
        assert_eq!(fs::read_to_string(path).unwrap(), "keep out", "{}", path.display());
    }
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

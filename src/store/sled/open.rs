//! Making a store, opening one, and what is done about one that sled does not open.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use sled::Db;
use uuid::Uuid;

use super::{
    SledOptions, check,
    folder::{self, Folder, Marker},
    head::{Head, HeadFile},
    keepsake::{Keepsake, SEGMENT_BYTES},
    layout::{self, Note},
};
use crate::store::{State, StoreError};

/// How often sled writes what is buffered, moves the rest out of one segment that is half empty, and
/// syncs. Nothing else gives space back. One segment at a time and a sync after each also means
/// that a segment is not filled anew before what was moved out of it is on the disk; so does a
/// segment that is larger than what one group usually writes.
const CLEANING_INTERVAL_MS: u64 = 100;

/// A store that has passed its check.
pub(super) struct Opened {
    pub(super) tree: Db,
    pub(super) note: Note,
    pub(super) state: State,
    pub(super) head: HeadFile,
    /// A handle of our own on sled's log, for the sync that sled does not do.
    pub(super) log: File,
}

/// Opens the store in the folder at `path`, or makes one if there is none.
pub(super) fn open(path: &Path, options: &SledOptions) -> Result<(Folder, Opened), StoreError> {
    let (folder, marker) = Folder::claim(path)?;
    let opened = match marker {
        Marker::Unfinished(id) => create(&folder, id, options)?,
        Marker::Ready(id) => reopen(&folder, id, options)?,
    };
    Ok((folder, opened))
}

/// Makes the store. Whatever is there is from a start that was cut short before it could
/// acknowledge anything.
fn create(folder: &Folder, id: Uuid, options: &SledOptions) -> Result<Opened, StoreError> {
    let failed = |error: io::Error| folder.failed("making the store", &error);
    match fs::remove_dir_all(folder.sled()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    folder::private_folder(&folder.sled()).map_err(failed)?;
    let tree = sled_at(folder, options, Cleaning::Off)?;
    let note = Note::of_new_store(id);
    folder.shielded("writing", || {
        tree.insert(layout::NOTE, note.sealed())?;
        tree.flush()
    })?;
    let make_durable = || {
        log_of(folder)?.sync_all()?;
        HeadFile::create(&folder.head(), Head::from(&note))?;
        folder.sync()
    };
    make_durable().map_err(failed)?;
    folder.mark(Marker::Ready(id))?;
    checked(folder, id, options, tree)
}

/// Opens a store. If it is refused, its files are left as they were.
fn reopen(folder: &Folder, id: Uuid, options: &SledOptions) -> Result<Opened, StoreError> {
    let path = folder.database();
    match fs::metadata(&path) {
        Ok(found) if found.len() > 0 => {}
        Ok(_) => return Err(folder.damaged(&format!("{} is empty", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(folder.damaged(&format!("{} is missing", path.display())));
        }
        Err(error) => return Err(folder.failed("looking at the database", &error)),
    }
    let keepsake = Keepsake::take(&folder.sled())
        .map_err(|error| folder.failed("reading the newest data", &error))?;
    let refused = match folder.caught("opening the database", || attempt(folder, id, options)) {
        Ok(opened) => return Ok(opened),
        Err(refused) => refused,
    };
    let put_back = folder.wait_for_sled().and_then(|()| {
        keepsake.put_back().map_err(|error| folder.failed("putting back the files", &error))
    });
    match put_back {
        Ok(()) => Err(refused),
        Err(error) => Err(StoreError::Damaged(format!(
            "{refused}. Not all that sled changed while it opened could be put back: {error}"
        ))),
    }
}

fn attempt(folder: &Folder, id: Uuid, options: &SledOptions) -> Result<Opened, StoreError> {
    remove_snapshots(&folder.sled(), Snapshots::Unfinished)
        .map_err(|error| folder.failed("removing an unfinished snapshot", &error))?;
    match sled_at(folder, options, Cleaning::Off) {
        Ok(tree) => checked(folder, id, options, tree),
        Err(StoreError::Damaged(why)) => {
            let copy = copy_aside(folder)
                .map_err(|error| folder.failed(&format!("{why}; copying it aside"), &error))?;
            let recovered = recover(folder, id, options);
            copy.settle(recovered.is_ok());
            recovered
        }
        Err(error) => Err(error),
    }
}

/// Whether sled moves data within its file by itself.
#[derive(Clone, Copy)]
enum Cleaning {
    /// As long as the store is in doubt.
    Off,
    /// Once it has passed its check.
    On,
}

/// Opens sled's database, or makes it.
fn sled_at(folder: &Folder, options: &SledOptions, cleaning: Cleaning) -> Result<Db, StoreError> {
    folder.wait_for_sled()?;
    let config = sled::Config::new()
        .path(folder.sled())
        .cache_capacity(options.cache_bytes)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(match cleaning {
            Cleaning::Off => None,
            Cleaning::On => Some(CLEANING_INTERVAL_MS),
        });
    folder.shielded("opening the database", || config.open())
}

/// A handle of our own on sled's log.
fn log_of(folder: &Folder) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(folder.database())
}

/// The store in `tree`, if it is whole and the one with this id.
fn checked(
    folder: &Folder,
    id: Uuid,
    options: &SledOptions,
    tree: Db,
) -> Result<Opened, StoreError> {
    let note = check::note(&tree, folder)?;
    if note.store_id != id {
        return Err(folder.damaged("the database belongs to another store than the marker file"));
    }
    let (mut head, newest) = match HeadFile::open(&folder.head()) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(folder.damaged("the head file is missing"));
        }
        Err(error) => return Err(folder.failed("reading the head file", &error)),
    };
    let newest = newest.ok_or_else(|| folder.damaged("the head file cannot be understood"))?;
    check::reaches(&tree, folder, &note, &newest)?;
    let state = check::whole_tree(&tree, folder, &note)?;
    drop(tree);
    let tree = sled_at(folder, options, Cleaning::On)?;
    if check::note(&tree, folder)? != note {
        return Err(folder.damaged("it reads otherwise the second time it is opened"));
    }
    let mut make_durable = || {
        make_files_private(&folder.sled())?;
        let log = log_of(folder)?;
        // The last group may be whole without ever having been acknowledged. It counts from now on.
        log.sync_data()?;
        head.write(Head::from(&note))?;
        head.sync()?;
        Ok(log)
    };
    let log = make_durable().map_err(|error: io::Error| folder.failed("syncing", &error))?;
    Ok(Opened { tree, note, state, head, log })
}

/// Opens the store without sled's snapshot file, from the log alone.
///
/// A snapshot that a power loss left torn makes sled refuse a log in which every record is whole.
/// The log is read from its beginning then, and our own check decides whether all is there.
fn recover(folder: &Folder, id: Uuid, options: &SledOptions) -> Result<Opened, StoreError> {
    remove_snapshots(&folder.sled(), Snapshots::All)
        .map_err(|error| folder.failed("removing the snapshot", &error))?;
    let tree = sled_at(folder, options, Cleaning::Off)?;
    checked(folder, id, options, tree)
}

/// A copy of sled's files as they were before a recovery.
struct Copy(PathBuf);

fn copy_aside(folder: &Folder) -> io::Result<Copy> {
    let copy = Copy(folder.aside());
    let fill = || {
        folder::private_folder(&copy.0)?;
        for entry in fs::read_dir(folder.sled())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), copy.0.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    let filled = fill();
    if filled.is_err() {
        copy.settle(false);
    }
    filled.map(|()| copy)
}

impl Copy {
    /// Keeps the copy after a recovery. After a failed one the files themselves are put back, and
    /// the copy goes.
    fn settle(&self, recovered: bool) {
        let copy = self.0.display();
        if recovered {
            tracing::warn!(
                %copy,
                "the database was recovered from its log and is complete; the copy made before \
                 can be deleted"
            );
        } else if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%copy, %error, "a copy made for a recovery could not be deleted");
        }
    }
}

/// Which of sled's snapshot files are meant.
#[derive(Clone, Copy, PartialEq)]
enum Snapshots {
    /// Those that were being written when the process ended.
    Unfinished,
    /// All of them.
    All,
}

fn remove_snapshots(folder: &Path, which: Snapshots) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_meant = which == Snapshots::All || name.ends_with(".generating");
        if name.starts_with("snap.") && is_meant {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled makes its files with the process's usual permissions.
fn make_files_private(sled: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sled)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            folder::make_private(&entry.path())?;
        }
    }
    Ok(())
}

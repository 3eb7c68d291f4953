//! The data folder: whose it is, who has it open, and how its errors read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::layout::{self, STORE_FORMAT};
use crate::store::{StoreError, codec::Damage};

const LOCK: &str = "lock";
const MARKER: &str = "partnerd-store";
const NEW_MARKER: &str = "partnerd-store.new";
const MARKER_TITLE: &str = "partnerd store";

/// How long sled may take to let go of its log.
const PATIENCE_WITH_SLED: Duration = Duration::from_secs(10);

/// What may lie in a folder that we take for empty: our own lock, from a start that was cut short,
/// and what a fresh file system brings.
const NOTHING_OF_NOTE: [&str; 3] = [LOCK, NEW_MARKER, "lost+found"];

/// A data folder that this process alone has open.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked until this is dropped, or the process ends in whatever way.
    lock: File,
}

/// What the marker file says about the folder it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// There is a store in it.
    Ready(Uuid),
    /// A store was being made in it, and nothing was acknowledged yet.
    Unfinished(Uuid),
}

impl Folder {
    /// Takes the folder at `path` for this process alone, and makes it if there is none. Touches
    /// nothing in a folder that is somebody else's.
    pub(super) fn claim(path: &Path) -> Result<(Self, Marker), StoreError> {
        let trouble = |doing: &str, error: io::Error| {
            StoreError::Io(format!("{doing} {} failed: {error}", path.display()))
        };
        private_folder(path).map_err(|error| trouble("making the folder", error))?;
        let found = read_marker(path)?;
        if found.is_none() {
            refuse_if_foreign(path)?;
        }
        let lock = private(OpenOptions::new().read(true).write(true).create(true))
            .open(path.join(LOCK))
            .map_err(|error| trouble("opening the lock file in", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked(format!(
                    "another partnerd has {} open; stop it, or give this one a data folder of its \
                     own",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(trouble("locking", error)),
        }
        let folder = Self { path: path.to_owned(), lock };
        // Read again: whoever had the lock may have made the store meanwhile.
        let marker = match read_marker(path)? {
            Some(marker) => marker,
            None => folder.mark(Marker::Unfinished(Uuid::new_v4()))?,
        };
        Ok((folder, marker))
    }

    /// Writes the marker file anew.
    pub(super) fn mark(&self, marker: Marker) -> Result<Marker, StoreError> {
        let (state, id) = match marker {
            Marker::Unfinished(id) => ("unfinished", id),
            Marker::Ready(id) => ("ready", id),
        };
        let text = format!("{MARKER_TITLE}\nformat: {STORE_FORMAT}\nid: {id}\nstate: {state}\n");
        let replace = || {
            let new = self.path.join(NEW_MARKER);
            let mut options = OpenOptions::new();
            let mut file = private(options.write(true).create(true).truncate(true)).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(new, self.path.join(MARKER))?;
            sync_folder(&self.path)
        };
        replace().map_err(|error| self.failed("writing the marker file", &error))?;
        Ok(marker)
    }

    /// Where sled keeps its files.
    pub(super) fn sled(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// The file with sled's log, in which all data is.
    pub(super) fn database(&self) -> PathBuf {
        self.sled().join("db")
    }

    /// The head file.
    pub(super) fn head(&self) -> PathBuf {
        self.path.join("head")
    }

    /// Where sled's files are copied to before a recovery.
    pub(super) fn aside(&self) -> PathBuf {
        let now = jiff::Timestamp::now().as_second();
        self.path.join(format!("sled-before-recovery-{now}"))
    }

    /// Puts the names of the folder's files on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_folder(&self.sled())?;
        sync_folder(&self.path)
    }

    /// Runs something of sled's. sled panics on some damage; that is an error here like any other.
    pub(super) fn shielded<T>(
        &self,
        doing: &str,
        run: impl FnOnce() -> sled::Result<T>,
    ) -> Result<T, StoreError> {
        self.caught(doing, || {
            run().map_err(|error| match error {
                sled::Error::Io(error) => self.failed(doing, &error),
                error => self.damaged(&format!("{doing} failed: {error}")),
            })
        })
    }

    /// Runs something that may panic inside sled, where an error cannot come from sled otherwise.
    pub(super) fn caught<T>(
        &self,
        doing: &str,
        run: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(self.damaged(&format!("{doing} failed: sled panicked"))))
    }

    /// Waits until nobody has sled's log locked.
    ///
    /// sled's threads may hold on to it for a moment after the database was dropped, and so may a
    /// child process that was forked off meanwhile.
    pub(super) fn wait_for_sled(&self) -> Result<(), StoreError> {
        let path = self.database();
        let give_up = Instant::now() + PATIENCE_WITH_SLED;
        let wait = || {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(error),
            };
            loop {
                match file.try_lock() {
                    Ok(()) => return file.unlock().map(|()| true),
                    Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                        thread::sleep(Duration::from_millis(2));
                    }
                    Err(TryLockError::WouldBlock) => return Ok(false),
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
        };
        match wait() {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Locked(format!(
                "another program has {} open; stop it",
                path.display()
            ))),
            Err(error) => Err(self.failed("opening the database", &error)),
        }
    }

    /// An error for damage in general.
    pub(super) fn damaged(&self, what: &str) -> StoreError {
        damaged(&self.path, what)
    }

    /// An error for the damaged value at `key`.
    pub(super) fn damaged_at(&self, key: &[u8], damage: &Damage) -> StoreError {
        self.damaged(&format!("{}: {damage}", layout::place(key)))
    }

    /// An error for reading or writing that failed.
    pub(super) fn failed(&self, doing: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Io(format!("{doing} in {} failed: {error}", self.path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file is not enough while a child process that was just forked off has a copy
        // of the handle. If unlocking fails, the end of the process unlocks it.
        let _ = self.lock.unlock();
    }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "the data in {} is damaged: {what}. Nothing was overwritten. Keep this folder for \
         examination, and restore a backup into an empty one",
        path.display()
    ))
}

/// The marker in the folder, if it has one.
fn read_marker(path: &Path) -> Result<Option<Marker>, StoreError> {
    let text = match fs::read(path.join(MARKER)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let place = path.join(MARKER);
            return Err(StoreError::Io(format!("reading {} failed: {error}", place.display())));
        }
    };
    let unreadable = || damaged(path, &format!("the marker file {MARKER} cannot be understood"));
    let body = text.strip_prefix(MARKER_TITLE).ok_or_else(unreadable)?;
    let field = |name: &str| {
        body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    };
    let format: u32 = field("format").and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    if format != STORE_FORMAT {
        return Err(StoreError::Damaged(format!(
            "the data in {} is of format {format}, and this partnerd knows format {STORE_FORMAT}; \
             start the version that wrote it. Nothing was overwritten",
            path.display()
        )));
    }
    let id = field("id").and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    match field("state") {
        Some("ready") => Ok(Some(Marker::Ready(id))),
        Some("unfinished") => Ok(Some(Marker::Unfinished(id))),
        _ => Err(unreadable()),
    }
}

/// Refuses a folder without a marker that holds anything.
fn refuse_if_foreign(path: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(path).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
    });
    let names = entries.map_err(|error| {
        StoreError::Io(format!("reading the folder {} failed: {error}", path.display()))
    })?;
    let foreign = names.iter().find(|name| !NOTHING_OF_NOTE.iter().any(|known| *name == known));
    match foreign {
        None => Ok(()),
        Some(name) => Err(StoreError::Damaged(format!(
            "{} is no partnerd store and not empty (it holds {}); give an empty folder, or one \
             that does not exist yet. Nothing was touched",
            path.display(),
            name.display()
        ))),
    }
}

/// Makes a folder, and those above it, for the owner alone, so that they outlast a power loss;
/// leaves one that exists as it is.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    let parents = missing.into_iter().filter_map(Path::parent);
    parents
        .map(|it| if it.as_os_str().is_empty() { Path::new(".") } else { it })
        .try_for_each(sync_folder)
}

/// The same options, with files that are made readable and writable by the owner alone.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes a file that sled made readable and writable by the owner alone.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Puts the names in a folder on the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

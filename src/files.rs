//! Files that are whole or absent, with the right access from their first byte on.
//!
//! Content goes to a new file beside the target, is synced, and then takes the target's name. A
//! crash leaves the old file or the new one, and perhaps a leftover whose name begins with a dot.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The owner alone: 0600.
    Private,
    /// The owner, and the group may read: 0640.
    Group,
    /// Everybody: 0644.
    Public,
}

/// A file in the making. What is written to it goes beside its target; it has the target's name
/// once it is whole. Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    file: File,
    sibling: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// An empty file beside `target`.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(target: &Path, access: Access) -> io::Result<Self> {
        let mode = match access {
            Access::Private => 0o600,
            Access::Group => 0o640,
            Access::Public => 0o644,
        };
        let sibling = folder_of(target).join(format!(".{}.new", Uuid::new_v4().simple()));
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&sibling)?;
        Ok(Self { file, sibling, target: target.to_owned() })
    }

    /// Gives the file its name, which nothing must have yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something has it, which is left untouched; or what the
    /// system says.
    pub fn create(self) -> io::Result<()> {
        self.publish(|sibling, target| {
            fs::hard_link(sibling, target)?;
            fs::remove_file(sibling)
        })
    }

    /// Gives the file its name, in place of the file that may have it.
    ///
    /// # Errors
    /// What the system says; the old file is then untouched.
    pub fn replace(self) -> io::Result<()> {
        self.publish(|sibling, target| fs::rename(sibling, target))
    }

    fn publish(self, name: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        self.file.sync_all()?;
        name(&self.sibling, &self.target)?;
        File::open(folder_of(&self.target))?.sync_all()
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already, unless something failed; then the first error is the one to report.
        let _ = fs::remove_file(&self.sibling);
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes a file that must not be there yet.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if it is there, which leaves it untouched; or what the system
/// says.
pub fn create(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let mut draft = Draft::of(path, access)?;
    draft.write_all(content)?;
    draft.create()
}

/// Writes a file, in place of the one that may be there.
///
/// # Errors
/// What the system says; the old file is then untouched.
pub fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let mut draft = Draft::of(path, access)?;
    draft.write_all(content)?;
    draft.replace()
}

/// Whether a file name is that of a leftover of an interrupted [`Draft`].
pub fn is_leftover(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|name| name.strip_suffix(".new"))
        .is_some_and(|id| Uuid::try_parse(id).is_ok())
}

/// Makes sure there is a folder that its owner alone may enter (0700).
///
/// # Errors
/// What the system says, for example if something else has the name.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn create_writes_once_and_leaves_an_existing_file_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        create(&path, b"one", Access::Private).expect("a new file");
        let error = create(&path, b"two", Access::Private).expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("content"), b"one");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a listing").count(), 1);
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backup");
        let mut draft = Draft::of(&path, Access::Private).expect("a draft");
        draft.write_all(b"half of it").expect("room");
        assert_eq!(fs::read_dir(folder.path()).expect("a listing").count(), 1);
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).expect("a listing").count(), 0);
    }

    #[test]
    fn replace_takes_the_place_of_a_file_and_its_access() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        create(&path, b"one", Access::Public).expect("a new file");
        replace(&path, b"two", Access::Private).expect("a replaced file");
        assert_eq!(fs::read(&path).expect("content"), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a listing").count(), 1);
    }

    #[test]
    fn a_private_folder_is_closed_to_others_even_if_it_was_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a").join("b");
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("open access");
        private_folder(&path).expect("a private folder");
        assert_eq!(mode(&path), 0o700);
    }
}

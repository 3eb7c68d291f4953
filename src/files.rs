//! Files that are whole or absent, with the right access from their first byte on.
//!
//! Content goes to a new file beside the target, is synced, and then takes the target's name. A
//! crash leaves the old file or the new one, and perhaps a leftover whose name begins with a dot.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
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

/// Writes a file that must not be there yet.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if it is there, which leaves it untouched; or what the system
/// says.
pub fn create(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    with_sibling(path, content, access, |sibling| {
        fs::hard_link(sibling, path)?;
        fs::remove_file(sibling)
    })
}

/// Writes a file, in place of the one that may be there.
///
/// # Errors
/// What the system says; the old file is then untouched.
pub fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    with_sibling(path, content, access, |sibling| fs::rename(sibling, path))
}

/// Whether a file name is that of a leftover of an interrupted [`create`] or [`replace`].
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

fn with_sibling(
    path: &Path,
    content: &[u8],
    access: Access,
    publish: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let sibling = folder.join(format!(".{}.new", Uuid::new_v4().simple()));
    let outcome = write_synced(&sibling, content, access)
        .and_then(|()| publish(&sibling))
        .and_then(|()| File::open(folder)?.sync_all());
    if outcome.is_err() {
        // The first error is the one to report; the leftover may not even exist.
        let _ = fs::remove_file(&sibling);
    }
    outcome
}

fn write_synced(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let mode = match access {
        Access::Private => 0o600,
        Access::Group => 0o640,
        Access::Public => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
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

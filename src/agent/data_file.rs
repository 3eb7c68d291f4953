//! The data file that a server's module reads: a base, and the deltas appended since.
//!
//! What is written is on the disk before the server is told of it, so that what is in force is
//! always there for a server that starts without us. A write that fails leaves at most an
//! unfinished delta, which every reader ignores, and the next write begins with a new base.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::json;

use super::{
    Touched, line,
    roster::{Edit, Roster},
};
use crate::files::{self, Access};

/// The number of the format.
const FORMAT: u32 = 1;

/// The most lines of a delta.
const MAX_DELTA_LINES: usize = 256;

/// Deltas may grow to this, or to the size of the base if that is more.
const MIN_DELTA_BYTES: u64 = 1 << 20;

const PASSPHRASE_FILE: &str = "dialback-passphrase.";

/// The data file, and what this process has written to it.
#[derive(Debug)]
pub struct DataFile {
    path: PathBuf,
    /// `None` until a base was written, and after a write that failed.
    written: Option<Written>,
}

#[derive(Debug)]
struct Written {
    file: File,
    roster: Roster,
    settings: String,
    digest: String,
    base_bytes: u64,
    delta_bytes: u64,
}

impl DataFile {
    /// The file at `path`, of which nothing is known yet.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, written: None }
    }

    /// The digest of what the file holds, if this process wrote it.
    pub fn digest(&self) -> Option<&str> {
        self.written.as_ref().map(|written| written.digest.as_str())
    }

    /// Makes the file hold `roster`, which differs from what was written last in no more than
    /// `touched` says. Returns whether it wrote a new base. Blocks until it is on the disk.
    ///
    /// # Errors
    /// What the system says. The file then holds what it held.
    pub fn write(&mut self, roster: Roster, touched: &Touched) -> io::Result<bool> {
        let passphrase = self.passphrase_file(&roster)?;
        let settings =
            line::settings(roster.settings(), passphrase.as_deref()).map_err(io::Error::other)?;
        // A failure below leaves nothing to build upon.
        let delta = self.written.take().filter(|_| !touched.everything).and_then(|written| {
            let delta = Delta::of(&written, &roster, &settings, &touched.partners)?;
            Some((written, delta))
        });
        let is_base = delta.is_none();
        self.written = Some(match delta {
            Some((written, delta)) => delta.append(written, roster, settings)?,
            None => self.write_base(roster, settings)?,
        });
        Ok(is_base)
    }

    /// Removes the files of passphrases that are no longer in use. To be called once the server has
    /// confirmed what the file holds.
    pub fn remove_old_passphrases(&self) {
        let Some(written) = &self.written else { return };
        for path in self.passphrase_files().unwrap_or_default() {
            let is_named = |name| written.settings.contains(&format!("\"{name}\""));
            let used = file_name(&path).is_some_and(is_named);
            if !used && let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old passphrase file is left");
            }
        }
    }

    fn write_base(&self, roster: Roster, settings: String) -> io::Result<Written> {
        let digest = roster.digest_with(&settings);
        let bytes = settings.len() as u64 + 1 + roster.bytes();
        let header = BaseHeader {
            partnerd: FORMAT,
            generation: roster.generation(),
            digest: &digest,
            partners: roster.entries().len(),
            bytes,
        };
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0) + 200);
        serde_json::to_writer(&mut content, &header)?;
        writeln!(content, "\n{settings}")?;
        for entry in roster.entries() {
            writeln!(content, "{}", entry.line)?;
        }
        files::replace(&self.path, &content, Access::Group)?;
        let file = OpenOptions::new().append(true).open(&self.path)?;
        Ok(Written { file, roster, settings, digest, base_bytes: bytes, delta_bytes: 0 })
    }

    /// The name of the file that holds the roster's passphrase, which is written if there is none.
    fn passphrase_file(&self, roster: &Roster) -> io::Result<Option<String>> {
        let Some(passphrase) = roster.passphrase() else { return Ok(None) };
        let known = self.passphrase_files()?.into_iter().find(|path| holds(path, passphrase));
        if let Some(name) = known.as_deref().and_then(file_name) {
            return Ok(Some(name.to_owned()));
        }
        // A new name for a new passphrase, also when a restored service counts anew.
        let name = (0_u32..)
            .map(|turn| format!("{PASSPHRASE_FILE}{}-{turn}", roster.generation()))
            .find(|name| !self.folder().join(name).exists())
            .ok_or(io::ErrorKind::AlreadyExists)?;
        let content = format!("{}\n", passphrase.expose_secret());
        files::replace(&self.folder().join(&name), content.as_bytes(), Access::Group)?;
        Ok(Some(name))
    }

    fn passphrase_files(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.folder())?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths
            .filter(|path| file_name(path).is_some_and(|name| name.starts_with(PASSPHRASE_FILE)))
            .collect())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

/// The first line of a base. The order of the fields is part of the format.
#[derive(Serialize)]
struct BaseHeader<'a> {
    partnerd: u32,
    generation: i64,
    digest: &'a str,
    partners: usize,
    bytes: u64,
}

/// The first line of a delta. The order of the fields is part of the format.
#[derive(Serialize)]
struct DeltaHeader<'a> {
    base: &'a str,
    generation: i64,
    digest: &'a str,
    lines: usize,
}

/// A delta as it is appended.
struct Delta {
    text: String,
    digest: String,
}

impl Delta {
    /// What makes `written` the roster; `None` if that takes a new base.
    fn of(
        written: &Written,
        roster: &Roster,
        settings: &str,
        touched: &BTreeSet<Arc<str>>,
    ) -> Option<Self> {
        let edits = roster.edits_since(&written.roster, touched);
        let new_settings = (settings != written.settings).then_some(settings);
        let lines = edits.len() + usize::from(new_settings.is_some());
        if lines > MAX_DELTA_LINES {
            return None;
        }
        let digest = roster.digest_with(settings);
        let header = DeltaHeader {
            base: &written.digest,
            generation: roster.generation(),
            digest: &digest,
            lines,
        };
        let mut text = serde_json::to_string(&header).ok()? + "\n";
        if let Some(line) = new_settings {
            text.push_str(line);
            text.push('\n');
        }
        for edit in edits {
            match edit {
                Edit::Put(line) => text.push_str(&line),
                Edit::Remove(domain) => text.push_str(&json!({ "remove": &*domain }).to_string()),
            }
            text.push('\n');
        }
        let room = MIN_DELTA_BYTES.max(written.base_bytes);
        (written.delta_bytes + text.len() as u64 <= room).then_some(Self { text, digest })
    }

    fn append(self, written: Written, roster: Roster, settings: String) -> io::Result<Written> {
        let Written { mut file, base_bytes, delta_bytes, .. } = written;
        file.write_all(self.text.as_bytes())?;
        file.sync_data()?;
        let delta_bytes = delta_bytes + self.text.len() as u64;
        Ok(Written { file, roster, settings, digest: self.digest, base_bytes, delta_bytes })
    }
}

fn holds(path: &Path, passphrase: &SecretString) -> bool {
    fs::read_to_string(path)
        .is_ok_and(|text| text.trim_end_matches('\n') == passphrase.expose_secret())
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

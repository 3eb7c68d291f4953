//! What sled may overwrite while it opens, kept so that a refused store can be left as it was.
//!
//! When sled opens a log it zeroes what follows the last whole record, drops segments beyond it
//! and writes a new snapshot file. For a store that turns out to be damaged this would wipe out
//! traces of what was there. Copying a large store first would take too long, so the parts that
//! sled is known to touch are held in memory until the store has passed its check: every small
//! file, and the newest segments of the log. sled touches older segments only if its log breaks off
//! further back than that.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// sled's segment size, which it was opened with and refuses to change. More than one group usually
/// writes, and little beside the data of those who care for the disk.
pub(super) const SEGMENT_BYTES: usize = 4 * 1_024 * 1_024;

/// The newest segments that are kept: 32 MiB, more than sled has in flight.
const KEPT_SEGMENTS: usize = 8;

/// A segment's header: its CRC and two log positions.
const HEADER_BYTES: usize = 20;

/// Where a segment begins in the file.
type Offset = u64;

/// Parts of a sled folder as they were.
#[derive(Debug)]
pub(super) struct Keepsake {
    folder: PathBuf,
    small_files: Vec<(OsString, Vec<u8>)>,
    database_bytes: u64,
    segments: Vec<(Offset, Vec<u8>)>,
}

impl Keepsake {
    /// Reads what sled may overwrite in `folder`.
    pub(super) fn take(folder: &Path) -> io::Result<Self> {
        let mut small_files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name() != "db" && entry.file_type()?.is_file() {
                small_files.push((entry.file_name(), fs::read(entry.path())?));
            }
        }
        let mut database = File::open(folder.join("db"))?;
        let database_bytes = database.metadata()?.len();
        let segments = newest_segments(&mut database, database_bytes)?;
        Ok(Self { folder: folder.to_owned(), small_files, database_bytes, segments })
    }

    /// Writes it all back. sled must have let go of the folder.
    pub(super) fn put_back(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_new = self.small_files.iter().all(|(kept, _)| *kept != name);
            if is_new && name != "db" && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        for (name, bytes) in &self.small_files {
            let path = self.folder.join(name);
            if fs::read(&path).ok().as_ref() != Some(bytes) {
                fs::write(path, bytes)?;
            }
        }
        let mut database = OpenOptions::new().write(true).open(self.folder.join("db"))?;
        for (offset, bytes) in &self.segments {
            database.seek(SeekFrom::Start(*offset))?;
            database.write_all(bytes)?;
        }
        database.set_len(self.database_bytes)?;
        database.sync_all()
    }
}

/// The segments with the highest log positions, and those whose header is broken: where one of
/// those belongs cannot be known.
fn newest_segments(database: &mut File, bytes: u64) -> io::Result<Vec<(Offset, Vec<u8>)>> {
    let mut positions = Vec::new();
    for offset in (0..bytes).step_by(SEGMENT_BYTES) {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        database.seek(SeekFrom::Start(offset))?;
        (&*database).take(HEADER_BYTES as u64).read_to_end(&mut header)?;
        positions.push((position(&header).unwrap_or(i64::MAX), offset));
    }
    positions.sort_unstable_by(|a, b| b.cmp(a));
    positions.truncate(KEPT_SEGMENTS);
    let mut segments = Vec::with_capacity(positions.len());
    for (_, offset) in positions {
        let mut segment = Vec::with_capacity(SEGMENT_BYTES);
        database.seek(SeekFrom::Start(offset))?;
        (&*database).take(SEGMENT_BYTES as u64).read_to_end(&mut segment)?;
        segments.push((offset, segment));
    }
    Ok(segments)
}

/// The log position in a segment's header, if the header is whole.
fn position(header: &[u8]) -> Option<i64> {
    let (crc, content) = header.split_first_chunk()?;
    let (position, _) = content.split_first_chunk()?;
    let is_whole =
        content.len() == HEADER_BYTES - 4 && !u32::from_le_bytes(*crc) == crc32fast::hash(content);
    is_whole.then(|| i64::from_le_bytes(*position) ^ i64::MAX)
}

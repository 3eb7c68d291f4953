//! The head file: what was acknowledged last, kept outside sled.
//!
//! sled takes a damaged record near the end of its log for a write that a crash cut short, and
//! goes back to the last whole batch without a word. The state is consistent then, and older than
//! what was acknowledged. So after each group, once it is durable, its number and the ends of the
//! log and the audit chain are written here, and a store that has less than its head says is
//! refused.
//!
//! The file is written in place, two slots in turn, and not synced by itself: a process that dies
//! loses nothing of it, a power loss at most the last seconds. It is never ahead of the store.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use uuid::Uuid;

use super::layout::Note;
use crate::domain::{Revision, audit::ChainHead};

const MAGIC: [u8; 8] = *b"PDHEAD\x00\x01";

/// A slot has a disk sector to itself.
const SLOT_BYTES: usize = 512;

/// What a slot says, without its checksum.
const CONTENT_BYTES: usize = 80;

/// The end of the store at some group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) store_id: Uuid,
    pub(super) groups: u64,
    pub(super) revision: Revision,
    pub(super) audit: ChainHead,
}

/// The open head file.
#[derive(Debug)]
pub(super) struct HeadFile(File);

impl HeadFile {
    /// Makes the file for a new store and syncs it.
    pub(super) fn create(path: &Path, head: Head) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = Self(super::folder::private(&mut options).open(path)?);
        file.0.set_len(2 * SLOT_BYTES as u64)?;
        file.write(head)?;
        file.0.sync_all()
    }

    /// Opens the file and reads the newest head in it; `None` if neither slot is whole.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Head>)> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let newest = bytes.chunks(SLOT_BYTES).filter_map(Head::from_slot);
        let newest = newest.max_by_key(|head| head.groups);
        Ok((Self(file), newest))
    }

    /// Writes a head over the one before the last.
    pub(super) fn write(&mut self, head: Head) -> io::Result<()> {
        self.0.seek(SeekFrom::Start((head.groups % 2) * SLOT_BYTES as u64))?;
        self.0.write_all(&head.to_slot())
    }

    /// Puts the head on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl From<&Note> for Head {
    fn from(note: &Note) -> Self {
        let Note { store_id, groups, revision, audit, .. } = *note;
        Self { store_id, groups, revision, audit: audit.head }
    }
}

impl Head {
    fn to_slot(self) -> Vec<u8> {
        let Self { store_id, groups, revision, audit: ChainHead { sequence, hash } } = self;
        let mut slot = Vec::with_capacity(CONTENT_BYTES + 4);
        slot.extend(MAGIC);
        slot.extend(store_id.as_bytes());
        for number in [groups, revision.get(), sequence] {
            slot.extend(number.to_le_bytes());
        }
        slot.extend(hash);
        slot.extend(crc32fast::hash(&slot).to_le_bytes());
        slot
    }

    fn from_slot(slot: &[u8]) -> Option<Self> {
        let (content, rest) = slot.split_at_checked(CONTENT_BYTES)?;
        if crc32fast::hash(content).to_le_bytes() != rest.get(..4)? {
            return None;
        }
        let content = content.strip_prefix(&MAGIC)?;
        let (store_id, content) = content.split_first_chunk()?;
        let (groups, content) = content.split_first_chunk()?;
        let (revision, content) = content.split_first_chunk()?;
        let (sequence, content) = content.split_first_chunk()?;
        let (hash, _) = content.split_first_chunk()?;
        Some(Self {
            store_id: Uuid::from_bytes(*store_id),
            groups: u64::from_le_bytes(*groups),
            revision: Revision::new(u64::from_le_bytes(*revision)),
            audit: ChainHead { sequence: u64::from_le_bytes(*sequence), hash: *hash },
        })
    }
}

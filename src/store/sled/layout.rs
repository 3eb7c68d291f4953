//! The keys, the split values and the note that the store keeps about itself.

use std::borrow::Cow;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use prost::Message as _;
use sled::IVec;
use uuid::Uuid;

use super::folder::Folder;
use crate::{
    domain::{
        DomainName, Revision,
        audit::{Chain, ChainHead},
        replica::ReplicaId,
    },
    store::{
        RequestKey, StoreError,
        codec::{self, Damage, Kind},
    },
};

/// The format of the store as a whole. Raised when an older version could not read it.
pub(super) const STORE_FORMAT: u32 = 2;

/// The most bytes of one sled value; a longer one is kept in parts.
///
/// sled moves a page of over 128 KiB into a file of its own under `blobs/`, which nothing ever
/// syncs. A leaf page holds up to about twenty values, so a value may have a twentieth of that,
/// with room for the keys.
pub(super) const MAX_VALUE_BYTES: usize = 4_096;

pub(super) const NOTE: &[u8] = b"m";
pub(super) const SETTINGS: &[u8] = b"s";
pub(super) const PARTNERS: u8 = b'p';
pub(super) const ROLES: u8 = b'o';
pub(super) const REVOCATIONS: u8 = b'w';
pub(super) const COMMITS: u8 = b'l';
pub(super) const AUDIT: u8 = b'a';
pub(super) const ANSWERS: u8 = b'r';
pub(super) const EXPIRIES: u8 = b'x';
pub(super) const PARTS: u8 = b'c';
pub(super) const REPLICAS: u8 = b'n';

/// What the store notes about itself with every group it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Given at creation.
    pub(super) store_id: Uuid,
    /// How many groups were ever written.
    pub(super) groups: u64,
    /// The last revision.
    pub(super) revision: Revision,
    /// The oldest revision whose commit is in the log; the next one if the log is empty.
    pub(super) oldest_revision: Revision,
    /// The partners that are not deleted.
    pub(super) live: u64,
    /// The partners that are.
    pub(super) deleted: u64,
    /// The kept answers.
    pub(super) answers: u64,
    /// How far the audit chain reaches.
    pub(super) audit: Chain,
    /// Every value there is, but this note.
    pub(super) tally: Tally,
}

/// A count and a sum over values: a value that is lost, or went back to what it was earlier, is
/// seen in it though every value left is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// How many values.
    pub(super) count: u64,
    /// The sum of their checksums.
    pub(super) sum: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredNote {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "vec", tag = "2")]
    store_id: Vec<u8>,
    #[prost(uint64, tag = "3")]
    groups: u64,
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(uint64, tag = "5")]
    oldest_revision: u64,
    #[prost(uint64, tag = "6")]
    live: u64,
    #[prost(uint64, tag = "7")]
    deleted: u64,
    #[prost(uint64, tag = "8")]
    answers: u64,
    #[prost(uint64, tag = "9")]
    audit_sequence: u64,
    #[prost(bytes = "vec", tag = "10")]
    audit_hash: Vec<u8>,
    #[prost(uint64, tag = "11")]
    tally_count: u64,
    #[prost(fixed64, tag = "12")]
    tally_sum: u64,
    /// 0 where the audit begins with the first entry that there ever was.
    #[prost(uint64, tag = "30")]
    audit_base_sequence: u64,
    #[prost(bytes = "vec", tag = "31")]
    audit_base_hash: Vec<u8>,
}

impl Note {
    /// The note of a store in which nothing was written yet.
    pub(super) fn of_new_store(store_id: Uuid) -> Self {
        Self {
            store_id,
            groups: 0,
            revision: Revision::ZERO,
            oldest_revision: Revision::ZERO.next(),
            live: 0,
            deleted: 0,
            answers: 0,
            audit: Chain::default(),
            tally: Tally::default(),
        }
    }

    /// The value stored for this note.
    pub(super) fn sealed(&self) -> Vec<u8> {
        let Self {
            store_id,
            groups,
            revision,
            oldest_revision,
            live,
            deleted,
            answers,
            audit,
            tally,
        } = self;
        let stored = StoredNote {
            format: STORE_FORMAT,
            store_id: store_id.as_bytes().to_vec(),
            groups: *groups,
            revision: revision.get(),
            oldest_revision: oldest_revision.get(),
            live: *live,
            deleted: *deleted,
            answers: *answers,
            audit_sequence: audit.head.sequence,
            audit_hash: audit.head.hash.to_vec(),
            tally_count: tally.count,
            tally_sum: tally.sum,
            audit_base_sequence: audit.base.sequence,
            audit_base_hash: match audit.base.sequence {
                0 => Vec::new(),
                _ => audit.base.hash.to_vec(),
            },
        };
        codec::seal(Kind::Note, NOTE, &stored.encode_to_vec())
    }

    /// The note in a stored value.
    pub(super) fn unsealed(bytes: &[u8]) -> Result<Self, Damage> {
        let payload = codec::unseal(Kind::Note, NOTE, bytes)?;
        let StoredNote {
            format,
            store_id,
            groups,
            revision,
            oldest_revision,
            live,
            deleted,
            answers,
            audit_sequence,
            audit_hash,
            tally_count,
            tally_sum,
            audit_base_sequence,
            audit_base_hash,
        } = codec::message(payload)?;
        if format != STORE_FORMAT {
            return Err(Damage::Content(format!("the store is of format {format}")));
        }
        Ok(Self {
            store_id: Uuid::from_bytes(codec::array(&store_id, "store id")?),
            groups,
            revision: Revision::new(revision),
            oldest_revision: Revision::new(oldest_revision),
            live,
            deleted,
            answers,
            audit: Chain {
                base: match audit_base_sequence {
                    0 => ChainHead::default(),
                    sequence => ChainHead {
                        sequence,
                        hash: codec::array(&audit_base_hash, "audit base hash")?,
                    },
                },
                head: ChainHead {
                    sequence: audit_sequence,
                    hash: codec::array(&audit_hash, "audit hash")?,
                },
            },
            tally: Tally { count: tally_count, sum: tally_sum },
        })
    }
}

impl Tally {
    /// With one more value.
    pub(super) fn add(&mut self, value: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(codec::checksum(value).into());
    }

    /// With one value less.
    pub(super) fn take(&mut self, value: &[u8]) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(codec::checksum(value).into());
    }

    /// With all of `other` as well.
    #[must_use]
    pub(super) fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum.wrapping_add(other.sum) }
    }
}

pub(super) fn partner_key(domain: &DomainName) -> Vec<u8> {
    joined(PARTNERS, domain.as_str().as_bytes())
}

pub(super) fn replica_key(id: &ReplicaId) -> Vec<u8> {
    joined(REPLICAS, id.as_str().as_bytes())
}

pub(super) fn role_key(id: &str) -> Vec<u8> {
    joined(ROLES, id.as_bytes())
}

pub(super) fn revocation_key(id: Uuid) -> Vec<u8> {
    joined(REVOCATIONS, id.as_bytes())
}

pub(super) fn commit_key(revision: Revision) -> Vec<u8> {
    joined(COMMITS, &revision.get().to_be_bytes())
}

pub(super) fn audit_key(sequence: u64) -> Vec<u8> {
    joined(AUDIT, &sequence.to_be_bytes())
}

/// The request's key, hashed: subjects and issuers are of any length.
pub(super) fn answer_key(request: &RequestKey) -> Vec<u8> {
    let RequestKey { issuer, subject, id } = request;
    let mut digest = Context::new(&SHA256);
    for part in [issuer.as_bytes(), subject.as_bytes(), id.as_bytes()] {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    joined(ANSWERS, digest.finish().as_ref())
}

/// The entry by which an answer is found once its time has run out.
pub(super) fn expiry_key(expire_time: Timestamp, answer_key: &[u8]) -> Vec<u8> {
    let mut key = joined(EXPIRIES, &sortable(expire_time));
    key.extend_from_slice(&answer_key[1..]);
    key
}

/// The first key of an answer that expires after `now`.
pub(super) fn expiry_end(now: Timestamp) -> Vec<u8> {
    joined(EXPIRIES, &(u128::from_be_bytes(sortable(now)) + 1).to_be_bytes())
}

/// The key of the answer that an expiry entry is about.
pub(super) fn expiring_answer_key(expiry_key: &[u8]) -> Vec<u8> {
    joined(ANSWERS, expiry_key.get(17..).unwrap_or_default())
}

/// The number in a commit's or an audit entry's key.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    key.get(1..)?.try_into().ok().map(u64::from_be_bytes)
}

/// The time's nanoseconds, so that the bytes sort as the times do.
fn sortable(time: Timestamp) -> [u8; 16] {
    (time.as_nanosecond().cast_unsigned() ^ (1 << 127)).to_be_bytes()
}

fn joined(family: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(family);
    key.extend_from_slice(rest);
    key
}

/// What is kept at a key, for people.
pub(super) fn place(key: &[u8]) -> String {
    match key {
        NOTE => "the store's note about itself".to_owned(),
        SETTINGS => "the federation settings".to_owned(),
        [PARTNERS, domain @ ..] => format!("the partner {}", domain.escape_ascii()),
        [REPLICAS, id @ ..] => format!("the replica {}", id.escape_ascii()),
        [ROLES, id @ ..] => format!("the role {}", id.escape_ascii()),
        [REVOCATIONS, id @ ..] => format!("the revocation {}", Hex(id)),
        [COMMITS, ..] if let Some(revision) = number(key) => {
            format!("the commit of revision {revision}")
        }
        [AUDIT, ..] if let Some(sequence) = number(key) => format!("the audit entry {sequence}"),
        [ANSWERS, hash @ ..] => format!("the kept answer {}", Hex(hash)),
        [EXPIRIES, rest @ ..] => format!("the expiry of a kept answer {}", Hex(rest)),
        [PARTS, rest @ ..] if let Some((whole, index)) = rest.split_last_chunk::<4>() => {
            format!("part {} of {}", u32::from_be_bytes(*index), place(whole))
        }
        _ => format!("the key {}, which this version does not know", Hex(key)),
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The pairs under which a sealed value is stored: itself, or a stand-in and its parts.
pub(super) fn pairs(key: Vec<u8>, sealed: Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    if sealed.len() <= MAX_VALUE_BYTES {
        return vec![(key, sealed)];
    }
    let parts = (0_u32..).zip(sealed.chunks(MAX_VALUE_BYTES - 64)).map(|(index, part)| {
        let part_key = part_key(&key, index);
        let part = codec::seal(Kind::Part, &part_key, part);
        (part_key, part)
    });
    let mut pairs: Vec<_> = parts.collect();
    let count = u32::try_from(pairs.len()).expect("a value has fewer than 2^32 parts");
    let stand_in = codec::seal(Kind::Split, &key, &count.to_be_bytes());
    pairs.push((key, stand_in));
    pairs
}

/// How many parts the value stored at `key` is kept in; 0 if it is kept whole.
pub(super) fn part_count(key: &[u8], bytes: &[u8]) -> Result<u32, Damage> {
    match codec::unseal_any(key, bytes)? {
        (kind, payload) if kind == Kind::Split as u8 => {
            Ok(u32::from_be_bytes(codec::array(payload, "number of parts")?))
        }
        _ => Ok(0),
    }
}

/// The sealed value stored at `key` as `bytes`, put together if it is kept in parts, which `part`
/// finds by their keys.
pub(super) fn whole<'a>(
    folder: &Folder,
    key: &[u8],
    bytes: &'a [u8],
    mut part: impl FnMut(&[u8]) -> Result<Option<IVec>, StoreError>,
) -> Result<Cow<'a, [u8]>, StoreError> {
    let damaged = |damage| folder.damaged_at(key, &damage);
    let count = part_count(key, bytes).map_err(damaged)?;
    if count == 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut whole = Vec::new();
    for index in 0..count {
        let key = part_key(key, index);
        let missing = || Damage::Content(format!("part {index} of {count} is missing"));
        let part = part(&key)?.ok_or_else(missing).map_err(damaged)?;
        whole.extend_from_slice(codec::unseal(Kind::Part, &key, &part).map_err(damaged)?);
    }
    Ok(Cow::Owned(whole))
}

/// The key of a part of the value at `key`.
pub(super) fn part_key(key: &[u8], index: u32) -> Vec<u8> {
    let mut part_key = joined(PARTS, key);
    part_key.extend(index.to_be_bytes());
    part_key
}

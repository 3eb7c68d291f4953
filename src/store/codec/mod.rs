//! Domain values to bytes and back, the same for every store.
//!
//! A stored value is a format byte, a kind byte, a CRC-32 (little-endian) and a payload. The CRC
//! covers the value's key, both bytes and the payload, so a value that was changed, cut short or
//! put under another key is found when it is read. The payload is a protobuf message private to
//! the store: a field may be added under a new tag, and none may change its tag or its meaning.
//!
//! A conversion takes its value apart field by field, so a new field of the model does not compile
//! until it is stored. What is read back is believed only as far as it makes sense: an enum number
//! nobody wrote, or a domain that is none, is damage like a wrong CRC.

mod audit;
mod fields;
mod history;
mod partner;
mod replica;
mod revocation;
mod role;
mod settings;
mod time;

use std::{collections::HashSet, sync::Arc};

use prost::Message;

/// The format of the values written by this version.
const FORMAT: u8 = 1;

/// The bytes before the payload: format, kind, CRC-32.
const HEADER_BYTES: usize = 6;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An allowed partner.
    Partner = 1,
    /// The federation settings.
    Settings = 2,
    /// An entry of the commit log.
    Commit = 3,
    /// An entry of the audit chain.
    AuditEntry = 4,
    /// The kept answer to a request.
    Answer = 5,
    /// What a store notes about itself. Its payload is the store's own affair.
    Note = 6,
    /// Stands for a value that is kept in parts. Its payload is the store's own affair.
    Split = 7,
    /// A part of a value.
    Part = 8,
    /// A replica.
    Replica = 16,
    /// A role that somebody made.
    Role = 17,
    /// A revocation.
    Revocation = 18,
}

/// Why bytes are not the value that was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Shorter than the shortest value.
    #[error("the value is cut short")]
    Short,
    /// Another format, which this version does not know.
    #[error("the value is of format {0}, which this version does not know")]
    Format(u8),
    /// Another kind than the key promises.
    #[error("the value is of another kind ({0}) than its key")]
    Kind(u8),
    /// The CRC does not fit.
    #[error("the checksum does not fit the value")]
    Checksum,
    /// The checksum fits, but the payload makes no sense.
    #[error("the value makes no sense: {0}")]
    Content(String),
}

/// A value of the model that can be stored.
pub trait Stored: Sized {
    /// Its kind.
    const KIND: Kind;

    /// The payload.
    fn to_payload(&self) -> Vec<u8>;

    /// The value of a payload. Texts that many values share are taken from `texts`.
    ///
    /// # Errors
    /// [`Damage::Content`] if the payload makes no sense.
    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage>;
}

/// Texts that many values share, such as the subject that created them: each is kept once.
#[derive(Debug, Default)]
pub struct Texts(HashSet<Arc<str>>);

/// The bytes under which `value` is stored at `key`.
pub fn encode<T: Stored>(key: &[u8], value: &T) -> Vec<u8> {
    seal(T::KIND, key, &value.to_payload())
}

/// The value stored at `key` as `bytes`.
///
/// # Errors
/// [`Damage`] if the bytes are not what was stored there.
pub fn decode<T: Stored>(key: &[u8], bytes: &[u8], texts: &mut Texts) -> Result<T, Damage> {
    T::from_payload(unseal(T::KIND, key, bytes)?, texts)
}

/// `payload` with its header, to be stored at `key`.
pub fn seal(kind: Kind, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend([FORMAT, kind as u8]);
    bytes.extend(crc(key, FORMAT, kind as u8, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of the `kind` stored at `key` as `bytes`.
///
/// # Errors
/// [`Damage`] if the bytes are not what was stored there.
pub fn unseal<'a>(kind: Kind, key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (found, payload) = unseal_any(key, bytes)?;
    if found != kind as u8 {
        return Err(Damage::Kind(found));
    }
    Ok(payload)
}

/// The kind's number and the payload of whatever is stored at `key` as `bytes`.
///
/// # Errors
/// [`Damage`] if the bytes are not what was stored there.
pub fn unseal_any<'a>(key: &[u8], bytes: &'a [u8]) -> Result<(u8, &'a [u8]), Damage> {
    let Some((&[format, kind, c0, c1, c2, c3], payload)) = bytes.split_first_chunk() else {
        return Err(Damage::Short);
    };
    if crc(key, format, kind, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Damage::Checksum);
    }
    if format != FORMAT {
        return Err(Damage::Format(format));
    }
    Ok((kind, payload))
}

/// The checksum that a sealed value carries; 0 for bytes too short to carry one.
pub fn checksum(bytes: &[u8]) -> u32 {
    match bytes {
        [_, _, c0, c1, c2, c3, ..] => u32::from_le_bytes([*c0, *c1, *c2, *c3]),
        _ => 0,
    }
}

fn crc(key: &[u8], format: u8, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // The length first, so that no byte can wander from the key into the payload unseen.
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(&[format, kind]);
    hasher.update(payload);
    hasher.finalize()
}

impl Texts {
    /// The shared text equal to `text`.
    pub fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

impl Damage {
    fn content(what: impl Into<String>) -> Self {
        Self::Content(what.into())
    }

    fn missing(what: &str) -> Self {
        Self::Content(format!("it has no {what}"))
    }
}

/// The protobuf message in a payload.
///
/// # Errors
/// [`Damage::Content`] if there is none in it.
pub fn message<M: Message + Default>(payload: &[u8]) -> Result<M, Damage> {
    M::decode(payload).map_err(|error| Damage::Content(error.to_string()))
}

/// `bytes` as an array, for ids and hashes.
///
/// # Errors
/// [`Damage::Content`] if their number is another.
pub fn array<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], Damage> {
    bytes.try_into().map_err(|_| {
        Damage::Content(format!("its {what} has {} bytes instead of {N}", bytes.len()))
    })
}

#[cfg(test)]
mod tests;

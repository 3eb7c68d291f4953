//! Page tokens, and the snapshots kept for listings under way.
//!
//! A token names the revision that its listing comes from, where to go on, and a digest of what
//! was asked for. It is opaque, not secret: nothing in it grants anything, for rights are checked
//! on every page, and the digest covers the caller's reach.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Error, Kind, Snapshot};
use crate::domain::{Revision, Violation};

/// The items of a page when none is asked for.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// The most items of a page.
pub const MAX_PAGE_SIZE: usize = 1_000;

const FORMAT: u8 = 1;
const DIGEST_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;
const FIXED_BYTES: usize = 1 + 8 + 4 + DIGEST_BYTES;

/// A longer token is none of ours.
const MAX_TOKEN_BYTES: usize = 1_024;

/// What a listing was asked for: every page must be asked for the same.
pub type QueryDigest = [u8; DIGEST_BYTES];

/// Where the next page of a listing begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken {
    /// The revision that all pages come from.
    pub revision: Revision,
    /// How many items there are in all pages.
    pub total: u32,
    /// What was asked for.
    pub query: QueryDigest,
    /// The last item of the page before, by the id that listings are ordered by.
    pub after: String,
}

/// A digest of what a listing is asked for.
pub fn query_digest(parts: &[&str]) -> QueryDigest {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    first_bytes(digest(&SHA256, &bytes).as_ref())
}

impl PageToken {
    /// The token as the caller gets it.
    pub fn encode(&self) -> String {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.revision.get().to_be_bytes());
        bytes.extend(self.total.to_be_bytes());
        bytes.extend(self.query);
        bytes.extend(self.after.as_bytes());
        bytes.extend(check(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The token that a caller sends back with `query`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is none of ours, or was given for another query.
    pub fn decode(text: &str, query: QueryDigest) -> Result<Self, Error> {
        let token = Self::parse(text).ok_or_else(Self::none_of_ours)?;
        if token.query != query {
            return Err(invalid(
                "the token belongs to another listing; all but page_size must be the same on every \
                 page",
            ));
        }
        Ok(token)
    }

    /// What is answered to a token that this service never gave.
    pub fn none_of_ours() -> Error {
        invalid("this is no page token of this service; leave it empty to list from the start")
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (content, found) = bytes.split_last_chunk::<CHECK_BYTES>()?;
        let (&format, rest) = content.split_first()?;
        if format != FORMAT || *found != check(content) || content.len() < FIXED_BYTES {
            return None;
        }
        let (revision, rest) = rest.split_first_chunk()?;
        let (total, rest) = rest.split_first_chunk()?;
        let (query, rest) = rest.split_first_chunk()?;
        Some(Self {
            revision: Revision::new(u64::from_be_bytes(*revision)),
            total: u32::from_be_bytes(*total),
            query: *query,
            after: String::from_utf8(rest.to_vec()).ok()?,
        })
    }
}

/// The items of a page for which a caller asks for `wanted`.
///
/// # Errors
/// A violation for a negative number.
pub fn page_size(wanted: i32) -> Result<usize, Violation> {
    match usize::try_from(wanted) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(wanted) => Ok(wanted.min(MAX_PAGE_SIZE)),
        Err(_) => Err(Violation::new(
            "page_size",
            "negative; give 1 to 1,000, or 0 for the default of 100",
        )),
    }
}

fn invalid(text: &str) -> Error {
    Error::invalid(Violation::new("page_token", text))
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    first_bytes(digest(&SHA256, bytes).as_ref())
}

fn first_bytes<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a SHA-256 has 32 bytes, more than any part taken of it")
}

/// The snapshots kept for listings under way, the latest used last.
#[derive(Debug)]
pub struct Pages {
    most: usize,
    ttl: Duration,
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    last_used: Instant,
}

impl Pages {
    /// Keeps at most `most` snapshots, each for `ttl` after its last use.
    pub const fn new(most: usize, ttl: Duration) -> Self {
        Self { most, ttl, kept: Mutex::new(VecDeque::new()) }
    }

    /// Keeps `snapshot` for the next page.
    pub fn keep(&self, snapshot: Arc<Snapshot>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.retain(|old| {
            old.snapshot.revision() != snapshot.revision()
                && now.duration_since(old.last_used) < self.ttl
        });
        if kept.len() >= self.most {
            kept.pop_front();
        }
        kept.push_back(Kept { snapshot, last_used: now });
    }

    /// The snapshot of `revision`: the current one, or one that is still kept.
    ///
    /// # Errors
    /// [`Kind::PageTokenExpired`] if it is kept no longer.
    pub fn find(&self, revision: Revision, current: Arc<Snapshot>) -> Result<Arc<Snapshot>, Error> {
        if current.revision() == revision {
            return Ok(current);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .find(|kept| {
                kept.snapshot.revision() == revision && kept.last_used.elapsed() < self.ttl
            })
            .map(|kept| Arc::clone(&kept.snapshot))
            .ok_or_else(|| Kind::PageTokenExpired { revision }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> PageToken {
        PageToken {
            revision: Revision::new(7),
            total: 12,
            query: query_digest(&["filter", "order"]),
            after: "contoso.com".into(),
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let token = token();
        assert_eq!(PageToken::decode(&token.encode(), token.query).unwrap(), token);
    }

    #[test]
    fn a_token_of_another_query_or_with_any_character_changed_is_refused() {
        let text = token().encode();
        assert!(PageToken::decode(&text, query_digest(&["other", "order"])).is_err());
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(PageToken::decode(&forged, token().query).is_err(), "{at}");
        }
    }

    #[test]
    fn the_digest_knows_where_a_part_ends() {
        assert_ne!(query_digest(&["ab", "c"]), query_digest(&["a", "bc"]));
    }
}

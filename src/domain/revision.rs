//! The store-wide revision and the etag made from it.

use std::fmt;

use uuid::Uuid;

/// One store-wide number, raised by every commit, comparable, never reused. 0 is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision of a store without a commit.
    pub const ZERO: Self = Self(0);

    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as stored.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as the API carries it, which knows signed integers only.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// The revision of the next commit.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The revision so many commits before, or that of the empty store.
    #[must_use]
    pub const fn before(self, commits: u64) -> Self {
        Self(self.0.saturating_sub(commits))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An opaque tag that changes with every commit to a resource (AIP-154).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// The tag of the resource `uid` as it stands since `revision`.
    pub fn of(uid: Uuid, revision: Revision) -> Self {
        let (head, ..) = uid.as_fields();
        Self(format!("{:x}-{head:08x}", revision.get()))
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

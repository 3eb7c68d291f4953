//! What is known of a backup beside its records: what it is of, who made it, what came of it.
//!
//! A backup is sealed by the key that signs the audit's checkpoints. So whoever holds a file can
//! tell that this server made it, as it is.

use jiff::Timestamp;

use super::{
    audit::{Hash, PublicKey, SigningKey, checkpoint},
    revision::Revision,
};

/// What is signed begins with this, so that no other signature of the key can be taken for one.
const CONTEXT: &[u8] = b"partnerd backup 1\0";

/// What a backup is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The revision that all of it comes from.
    pub revision: Revision,
    /// When it was made.
    pub time: Timestamp,
    /// The SHA-256 over all of it but the seal.
    pub digest: Hash,
}

/// What a restore did, resource by resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// They were not there, or were deleted, and now are.
    pub created: u64,
    /// They were changed.
    pub updated: u64,
    /// They were deleted.
    pub deleted: u64,
    /// They were as the backup says.
    pub unchanged: u64,
}

/// A backup's digest, vouched for by the server that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The SHA-256 over all of the backup but this.
    pub digest: Hash,
    /// The key that signed it.
    pub public_key: PublicKey,
    /// The signature over the digest.
    pub signature: [u8; 64],
}

impl Restored {
    /// The resources that were touched.
    pub const fn changes(&self) -> u64 {
        self.created + self.updated + self.deleted
    }
}

impl Seal {
    /// Whether its key has signed it. Whose key that is, is for the reader to know.
    pub fn is_genuine(&self) -> bool {
        let Self { digest, public_key, signature } = self;
        checkpoint::verifies(public_key, &signed(digest), signature)
    }
}

impl SigningKey {
    /// Vouches for a backup with this digest.
    pub fn seal(&self, digest: Hash) -> Seal {
        let signature = self.signature(&signed(&digest));
        Seal { digest, public_key: self.public_key(), signature }
    }
}

fn signed(digest: &Hash) -> Vec<u8> {
    [CONTEXT, digest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_genuine_until_anything_in_it_is_changed() {
        let seal = SigningKey::generate().seal([3; 32]);
        assert!(seal.is_genuine());
        let mut digest = seal;
        digest.digest[0] ^= 1;
        let mut key = seal;
        key.public_key = SigningKey::generate().public_key();
        let mut signature = seal;
        signature.signature[63] ^= 1;
        for changed in [digest, key, signature] {
            assert!(!changed.is_genuine(), "{changed:?}");
        }
    }
}

//! Signed checkpoints: proof, for whoever keeps them elsewhere, of what was in the chain.
//!
//! The chain shows that nothing in it was changed. It cannot show that its end is missing, nor
//! that all of it was made anew. A checkpoint names an entry and its hash under a signature that
//! only the server can make, so a chain without that entry is known to be another one.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use jiff::Timestamp;

use super::{ChainHead, Hash, Removal, removal};

/// What is signed begins with this, so that no other signature of the key can be taken for one.
const CONTEXT: &[u8] = b"partnerd audit checkpoint 1\0";

/// The public half of the key that signs checkpoints (Ed25519, RFC 8032).
pub type PublicKey = [u8; 32];

/// An entry of the chain, vouched for by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The entry.
    pub head: ChainHead,
    /// When it was signed.
    pub time: Timestamp,
    /// The key that signed it.
    pub public_key: PublicKey,
    /// The signature over the rest.
    pub signature: [u8; 64],
}

/// The key that signs checkpoints. Never shown.
#[derive(Clone)]
pub struct SigningKey(Arc<Ed25519KeyPair>);

/// The bytes are no private key for Ed25519.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a private key for Ed25519 in PKCS #8")]
pub struct NoSigningKey;

impl SigningKey {
    /// A new key.
    ///
    /// # Panics
    /// If the system gives no random numbers.
    pub fn generate() -> Self {
        let pair = Ed25519KeyPair::generate().expect("the system gives random numbers");
        Self(Arc::new(pair))
    }

    /// The key in a PKCS #8 document.
    ///
    /// # Errors
    /// There is none in it.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, NoSigningKey> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|_| NoSigningKey)?;
        Ok(Self(Arc::new(pair)))
    }

    /// The key as a PKCS #8 document.
    ///
    /// # Errors
    /// The key cannot be written so.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, NoSigningKey> {
        let document = self.0.to_pkcs8().map_err(|_| NoSigningKey)?;
        Ok(document.as_ref().to_vec())
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let mut key = PublicKey::default();
        key.copy_from_slice(self.0.public_key().as_ref());
        key
    }

    /// Vouches for the end of the chain.
    pub fn sign(&self, head: ChainHead, time: Timestamp) -> Checkpoint {
        let signature = self.signature(&signed(head, time));
        Checkpoint { head, time, public_key: self.public_key(), signature }
    }

    /// Vouches for the removal of `count` entries, the last of them `last`, in the entry that comes
    /// after `head`.
    pub fn sign_removal(
        &self,
        head: ChainHead,
        last: ChainHead,
        count: u64,
        time: Timestamp,
    ) -> Removal {
        let signature = self.signature(&removal::signed(head, last, count, time));
        Removal { last, count, time, public_key: self.public_key(), signature }
    }

    /// The signature over `message`, which begins with a context of its own.
    pub(in crate::domain) fn signature(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Whether its key has signed it. Whose key that is, is for the reader to know.
    pub fn is_genuine(&self) -> bool {
        let Self { head, time, public_key, signature } = self;
        verifies(public_key, &signed(*head, *time), signature)
    }
}

/// Whether the key has signed `message`.
pub(in crate::domain) fn verifies(
    public_key: &PublicKey,
    message: &[u8],
    signature: &[u8; 64],
) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

fn signed(head: ChainHead, time: Timestamp) -> Vec<u8> {
    let ChainHead { sequence, hash } = head;
    let hash: Hash = hash;
    [CONTEXT, &sequence.to_be_bytes(), &hash, &time.as_nanosecond().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_genuine_until_anything_in_it_is_changed() {
        let key = SigningKey::generate();
        let head = ChainHead { sequence: 7, hash: [3; 32] };
        let checkpoint = key.sign(head, Timestamp::UNIX_EPOCH);
        assert!(checkpoint.is_genuine());
        let mut sequence = checkpoint;
        sequence.head.sequence = 8;
        let mut hash = checkpoint;
        hash.head.hash[0] ^= 1;
        let mut time = checkpoint;
        time.time = Timestamp::MAX;
        let mut signature = checkpoint;
        signature.signature[0] ^= 1;
        let mut other = checkpoint;
        other.public_key = SigningKey::generate().public_key();
        for changed in [sequence, hash, time, signature, other] {
            assert!(!changed.is_genuine(), "{changed:?}");
        }
    }

    #[test]
    fn a_key_comes_back_as_it_was_and_is_in_no_debug_output() {
        let key = SigningKey::generate();
        let document = key.to_pkcs8().unwrap();
        let back = SigningKey::from_pkcs8(&document).unwrap();
        assert_eq!(back.public_key(), key.public_key());
        assert_eq!(format!("{key:?}"), "SigningKey { .. }");
        assert!(SigningKey::from_pkcs8(b"nonsense").is_err());
    }
}

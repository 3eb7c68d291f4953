//! The removal of what is kept no longer, vouched for by the server.
//!
//! Whoever removes the beginning of a chain leaves one that follows from nothing. A removal says
//! which entry was the last to go and what its hash was, under a signature that only the server can
//! make, in the very chain that is left. So the first entry that is there joins what was there
//! before, and what an earlier export still has joins what is there now.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use jiff::Timestamp;

use super::{ChainHead, PublicKey};

/// What is signed begins with this, so that no checkpoint can be taken for a removal.
const CONTEXT: &[u8] = b"partnerd audit removal 1\0";

/// The removal of the oldest entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The last entry that went. The chain begins after it.
    pub last: ChainHead,
    /// How many entries went; those before them had gone already.
    pub count: u64,
    /// When it was signed.
    pub time: Timestamp,
    /// The key that signed it.
    pub public_key: PublicKey,
    /// The signature over the rest and over the entry before the one that this is in.
    pub signature: [u8; 64],
}

impl Removal {
    /// Whether its key has signed it for the place after `head`, and no other. Whose key that is,
    /// is for the reader to know.
    pub fn is_genuine(&self, head: ChainHead) -> bool {
        let Self { last, count, time, public_key, signature } = self;
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(&signed(head, *last, *count, *time), signature)
            .is_ok()
    }
}

pub(super) fn signed(head: ChainHead, last: ChainHead, count: u64, time: Timestamp) -> Vec<u8> {
    let mut message = CONTEXT.to_vec();
    for ChainHead { sequence, hash } in [head, last] {
        message.extend(sequence.to_be_bytes());
        message.extend(hash);
    }
    message.extend(count.to_be_bytes());
    message.extend(time.as_nanosecond().to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::SigningKey;

    #[test]
    fn a_removal_is_genuine_in_its_place_until_anything_in_it_is_changed() {
        let key = SigningKey::generate();
        let head = ChainHead { sequence: 9, hash: [1; 32] };
        let last = ChainHead { sequence: 7, hash: [3; 32] };
        let removal = key.sign_removal(head, last, 7, Timestamp::UNIX_EPOCH);
        assert!(removal.is_genuine(head));
        assert!(!removal.is_genuine(last), "it was signed for another place");
        let mut sequence = removal;
        sequence.last.sequence = 8;
        let mut hash = removal;
        hash.last.hash[0] ^= 1;
        let count = Removal { count: 6, ..removal };
        let time = Removal { time: Timestamp::MAX, ..removal };
        let mut signature = removal;
        signature.signature[0] ^= 1;
        let other = Removal { public_key: SigningKey::generate().public_key(), ..removal };
        for changed in [sequence, hash, count, time, signature, other] {
            assert!(!changed.is_genuine(head), "{changed:?}");
        }
    }
}

//! Holding the chain against itself, and against checkpoints kept elsewhere.

use super::{BLOCK, Error, Registry, StoreError};
use crate::{
    auth::{Permit, permit::VerifyAudit},
    domain::{
        Revision,
        audit::{ChainHead, Checkpoint, Fault, PublicKey, Walk},
    },
};

/// What came of holding the chain against itself.
#[derive(Debug)]
pub struct Verification {
    /// The first fault; `None` if there is none.
    pub fault: Option<Fault>,
    /// What the first entry that is there is linked to: the last one that retention removed.
    pub base: ChainHead,
    /// The last entry that is as it should be, before the fault if there is one.
    pub head: ChainHead,
    /// How many entries are as they should be.
    pub verified: u64,
    /// How many checkpoints in the chain are genuine.
    pub checkpoints: u64,
    /// Of the checkpoints that were sent along, those about entries that retention removed.
    pub removed: Vec<Checkpoint>,
    /// The key that this server signs with.
    pub public_key: PublicKey,
    /// The revision when this was begun.
    pub revision: Revision,
}

/// How a walk ended before its end.
enum Cut {
    Fault(Fault),
    /// Retention has overtaken it.
    Overtaken,
}

impl Registry {
    /// Walks the chain from the first entry that is there, and holds it against checkpoints kept
    /// elsewhere.
    ///
    /// # Errors
    /// [`super::Kind::Internal`] if the store cannot be read.
    pub fn verify_audit(
        &self,
        _permit: &Permit<VerifyAudit>,
        kept: &[Checkpoint],
    ) -> Result<Verification, Error> {
        let revision = self.revision();
        let public_key = self.audit_key.public_key();
        // Whenever retention overtakes the walk, the chain begins later than before.
        loop {
            let chain = self.store.audit();
            let verification = |fault, walk: Option<&Walk>| Verification {
                fault,
                base: chain.base,
                head: walk.map(Walk::head).unwrap_or_default(),
                verified: walk.map_or(0, Walk::length),
                checkpoints: walk.map_or(0, Walk::checkpoints),
                removed: walk.map_or_else(Vec::new, |it| it.kept_of_removed().copied().collect()),
                public_key,
                revision,
            };
            let mut walk = match Walk::new(chain.base, Some(public_key), kept.to_vec()) {
                Ok(walk) => walk,
                Err(fault) => return Ok(verification(Some(fault), None)),
            };
            match self.walk_to(chain.head.sequence, &mut walk)? {
                Some(Cut::Fault(fault)) => return Ok(verification(Some(fault), Some(&walk))),
                Some(Cut::Overtaken) => {}
                None => {
                    let fault = walk.clone().end().err();
                    return Ok(verification(fault, Some(&walk)));
                }
            }
        }
    }

    /// Walks on to the entry `last`, unless something is in the way.
    fn walk_to(&self, last: u64, walk: &mut Walk) -> Result<Option<Cut>, Error> {
        let fault =
            |sequence, text: &str| Ok(Some(Cut::Fault(Fault { sequence, text: text.to_owned() })));
        while walk.head().sequence < last {
            let at = walk.head().sequence;
            let most = usize::try_from((last - at).min(BLOCK)).unwrap_or(1);
            let block = match self.store.audit_after(at, most) {
                // One of many: those before it are good, and it is to be named itself.
                Err(StoreError::Damaged(_)) => self.store.audit_after(at, 1),
                other => other,
            };
            match block {
                Ok(block) if block.is_empty() => {
                    return fault(at + 1, "it is missing, with all after it");
                }
                Ok(block) => {
                    let stepped = block.iter().try_for_each(|entry| walk.step(entry));
                    if let Err(fault) = stepped {
                        return Ok(Some(Cut::Fault(fault)));
                    }
                }
                Err(StoreError::AuditCompacted { .. }) => return Ok(Some(Cut::Overtaken)),
                Err(StoreError::Damaged(text)) => {
                    tracing::error!(error = text, "an audit entry is damaged");
                    return fault(at + 1, "it cannot be read: its checksum does not fit it");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

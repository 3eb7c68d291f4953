//! Walking the chain: whether each entry is what it was, and where the first fault is.

use super::{
    AuditEntry, ChainHead, Event,
    checkpoint::{Checkpoint, PublicKey},
};

/// What is wrong with the chain, at the first place where anything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The entry at fault; one beyond the last if it is the end that is missing.
    pub sequence: u64,
    /// What is wrong, in words.
    pub text: String,
}

/// A walk along the chain, entry by entry, from the first one on.
#[derive(Clone, Debug)]
pub struct Walk {
    head: ChainHead,
    signer: Option<PublicKey>,
    kept: Vec<Checkpoint>,
    checkpoints: u64,
}

impl Walk {
    /// A walk from the first entry on that holds the chain against `kept`: checkpoints that
    /// somebody kept elsewhere. Every checkpoint must be of `signer`, if it is known.
    ///
    /// # Errors
    /// A checkpoint that was not signed by its key, or by another one than `signer`.
    pub fn new(signer: Option<PublicKey>, mut kept: Vec<Checkpoint>) -> Result<Self, Fault> {
        kept.sort_by_key(|checkpoint| checkpoint.head.sequence);
        let walk = Self { head: ChainHead::default(), signer, kept: Vec::new(), checkpoints: 0 };
        for checkpoint in &kept {
            walk.check_signature(checkpoint, checkpoint.head.sequence)?;
        }
        Ok(Self { kept, ..walk })
    }

    /// Goes on to the next entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn step(&mut self, entry: &AuditEntry) -> Result<(), Fault> {
        let sequence = self.head.sequence + 1;
        let fault = |text: &str| Err(Fault { sequence, text: text.to_owned() });
        if entry.sequence != sequence {
            return fault(&format!("entry {} stands in its place", entry.sequence));
        }
        if entry.previous_hash != self.head.hash {
            return fault("it does not follow the entry before it");
        }
        if !entry.is_intact() {
            return fault("it is not what it was when it was made");
        }
        if let Event::Checkpoint(checkpoint) = &entry.event {
            if checkpoint.head != self.head {
                return fault("it vouches for another entry than the one before it");
            }
            self.check_signature(checkpoint, sequence)?;
            self.checkpoints += 1;
        }
        self.head = entry.head();
        let mut kept = self.kept.iter().filter(|kept| kept.head.sequence == sequence);
        if kept.any(|kept| kept.head.hash != self.head.hash) {
            return fault("it is another one than the checkpoint vouches for");
        }
        Ok(())
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// Entries that a checkpoint vouches for are missing at the end.
    pub fn end(self) -> Result<Self, Fault> {
        let sequence = self.head.sequence + 1;
        match self.kept.last() {
            Some(last) if last.head.sequence >= sequence => {
                let last = last.head.sequence;
                let text = format!("it is missing, with all after it: {last} was there once");
                Err(Fault { sequence, text })
            }
            _ => Ok(self),
        }
    }

    /// The last entry so far.
    pub const fn head(&self) -> ChainHead {
        self.head
    }

    /// How many checkpoints in the chain were found to be genuine.
    pub const fn checkpoints(&self) -> u64 {
        self.checkpoints
    }

    fn check_signature(&self, checkpoint: &Checkpoint, sequence: u64) -> Result<(), Fault> {
        let fault = |text: &str| Err(Fault { sequence, text: text.to_owned() });
        if self.signer.is_some_and(|signer| signer != checkpoint.public_key) {
            return fault("the checkpoint was signed by another key");
        }
        if !checkpoint.is_genuine() {
            return fault("the signature of the checkpoint is wrong");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{
        Revision,
        audit::{Actor, FieldChange, Refusal, ResourceChange, SigningKey, Verb},
        backup::{Origin, Restored},
    };

    /// Ten entries of every kind, the fifth and the tenth of them checkpoints.
    fn chain(key: &SigningKey) -> Vec<AuditEntry> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        for number in 1..=10 {
            let head = entries.last().map(AuditEntry::head).unwrap_or_default();
            let event = match number {
                1 => Event::Start { version: "1.0.0".into() },
                5 | 10 => Event::Checkpoint(key.sign(head, Timestamp::UNIX_EPOCH)),
                3 => Event::LoginFailure(refusal()),
                4 => Event::Denial(refusal()),
                6 => Event::Backup { revision: Revision::new(5), records: 3 },
                7 => Event::Restore { origin: origin(), restored: Restored::default() },
                9 => Event::Stop,
                _ => Event::Commit { changes: vec![change()] },
            };
            let revision = Revision::new(number);
            let actor = Actor::service("because");
            entries.push(AuditEntry::after(head, Timestamp::UNIX_EPOCH, actor, revision, event));
        }
        entries
    }

    fn origin() -> Origin {
        Origin { revision: Revision::new(5), time: Timestamp::UNIX_EPOCH, digest: [5; 32] }
    }

    fn refusal() -> Refusal {
        Refusal {
            reason: "TOKEN_EXPIRED".into(),
            permission: String::new(),
            source: "192.0.2.1".into(),
            claimed_issuer: "one".into(),
            claimed_subject: "mallory".into(),
            count: 3,
            first_time: Timestamp::UNIX_EPOCH,
            last_time: Timestamp::UNIX_EPOCH,
        }
    }

    fn change() -> ResourceChange {
        let field = FieldChange { field: "owner".into(), before: "a".into(), after: "b".into() };
        ResourceChange {
            resource: "allowedPartners/contoso.com".into(),
            verb: Verb::Update,
            fields: vec![field],
        }
    }

    fn walked(entries: &[AuditEntry], kept: Vec<Checkpoint>) -> Result<Walk, Fault> {
        let mut walk = Walk::new(None, kept)?;
        entries.iter().try_for_each(|entry| walk.step(entry))?;
        walk.end()
    }

    fn checkpoint(entry: &AuditEntry) -> Checkpoint {
        match &entry.event {
            Event::Checkpoint(checkpoint) => *checkpoint,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_chain_is_walked_to_its_end() {
        let entries = chain(&SigningKey::generate());
        let walk = walked(&entries, vec![checkpoint(&entries[9])]).unwrap();
        assert_eq!(walk.head(), entries[9].head());
        assert_eq!(walk.checkpoints(), 2);
    }

    #[test]
    fn the_first_entry_that_was_changed_moved_or_taken_out_is_named() {
        let entries = chain(&SigningKey::generate());
        for at in 0..entries.len() {
            let sequence = at as u64 + 1;
            let mut changed = entries.clone();
            changed[at].actor.reason = "something else".into();
            assert_eq!(walked(&changed, vec![]).unwrap_err().sequence, sequence);
            let mut resealed = entries.clone();
            resealed[at] = AuditEntry::after(
                at.checked_sub(1).map(|before| entries[before].head()).unwrap_or_default(),
                Timestamp::MAX,
                Actor::service("forged"),
                Revision::new(1),
                Event::Stop,
            );
            let found = walked(&resealed, vec![]).map(|walk| walk.head().sequence);
            match at {
                // A forged end follows what is before it; only a checkpoint tells.
                9 => assert_eq!(found, Ok(10)),
                _ => assert_eq!(found.unwrap_err().sequence, sequence + 1),
            }
            let mut missing = entries.clone();
            missing.remove(at);
            match at {
                9 => assert!(walked(&missing, vec![]).is_ok()),
                _ => assert_eq!(walked(&missing, vec![]).unwrap_err().sequence, sequence),
            }
        }
    }

    #[test]
    fn entries_removed_at_the_end_and_a_chain_made_anew_are_found_against_a_checkpoint() {
        let key = SigningKey::generate();
        let entries = chain(&key);
        let kept = checkpoint(&entries[9]);
        assert_eq!(kept.head.sequence, 9);
        assert_eq!(walked(&entries[..8], vec![kept]).unwrap_err().sequence, 9);
        assert!(walked(&entries[..9], vec![kept]).is_ok());
        let mut anew = chain(&key);
        anew.truncate(1);
        for number in 2..=9 {
            let head = anew.last().unwrap().head();
            let event = Event::Commit { changes: Vec::new() };
            let actor = Actor::service("anew");
            anew.push(AuditEntry::after(
                head,
                Timestamp::UNIX_EPOCH,
                actor,
                Revision::new(number),
                event,
            ));
        }
        assert!(walked(&anew, vec![]).is_ok());
        assert_eq!(walked(&anew, vec![kept]).unwrap_err().sequence, 9);
    }

    #[test]
    fn a_checkpoint_of_another_key_or_with_a_wrong_signature_is_refused() {
        let entries = chain(&SigningKey::generate());
        let mut forged = checkpoint(&entries[9]);
        forged.signature[0] ^= 1;
        assert!(walked(&entries, vec![forged]).is_err());
        let stranger = SigningKey::generate().public_key();
        let mut walk = Walk::new(Some(stranger), Vec::new()).unwrap();
        let fault = entries.iter().try_for_each(|entry| walk.step(entry)).unwrap_err();
        assert_eq!(fault.sequence, 5);
    }
}

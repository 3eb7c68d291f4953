//! Walking the chain: whether each entry is what it was, and where the first fault is.

use super::{
    AuditEntry, ChainHead, Event, Hash, Removal,
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

/// A walk along the chain, entry by entry, from the first one that is there.
#[derive(Clone, Debug)]
pub struct Walk {
    base: ChainHead,
    head: ChainHead,
    signer: Option<PublicKey>,
    kept: Vec<Checkpoint>,
    checkpoints: u64,
    /// Whether somebody vouches for the base.
    joined: bool,
    /// The last entry before the base whose removal is vouched for.
    removed: u64,
    /// The hashes of the entries walked past, where parts of an export may overlap.
    passed: Option<Vec<Hash>>,
}

impl Walk {
    /// A walk of a chain whose first entry comes after `base`, which holds it against `kept`:
    /// checkpoints that somebody kept elsewhere. Everything signed must be of `signer`, if it is
    /// known.
    ///
    /// # Errors
    /// A checkpoint that was not signed by its key, or by another one than `signer`, or that
    /// contradicts the base.
    pub fn new(
        base: ChainHead,
        signer: Option<PublicKey>,
        mut kept: Vec<Checkpoint>,
    ) -> Result<Self, Fault> {
        kept.sort_by_key(|checkpoint| checkpoint.head.sequence);
        let mut walk = Self {
            base: ChainHead::default(),
            head: ChainHead::default(),
            signer,
            kept: Vec::new(),
            checkpoints: 0,
            joined: true,
            removed: 0,
            passed: None,
        };
        for checkpoint in &kept {
            walk.check_signature(checkpoint, checkpoint.head.sequence)?;
        }
        walk.kept = kept;
        walk.begin_after(base)?;
        Ok(walk)
    }

    /// The same of an export, which begins with whatever entry comes first, and may consist of
    /// several parts that overlap.
    ///
    /// # Errors
    /// As for [`Walk::new`].
    pub fn of_export(signer: Option<PublicKey>, kept: Vec<Checkpoint>) -> Result<Self, Fault> {
        let walk = Self::new(ChainHead::default(), signer, kept)?;
        Ok(Self { passed: Some(Vec::new()), ..walk })
    }

    /// Goes on to the next entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn step(&mut self, entry: &AuditEntry) -> Result<(), Fault> {
        if self.repeats(entry)? {
            return Ok(());
        }
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
        match &entry.event {
            Event::Checkpoint(checkpoint) => {
                if checkpoint.head != self.head {
                    return fault("it vouches for another entry than the one before it");
                }
                self.check_signature(checkpoint, sequence)?;
                self.checkpoints += 1;
            }
            Event::Retention(removal) => self.check_removal(removal, sequence)?,
            _ => {}
        }
        self.head = entry.head();
        if let Some(passed) = &mut self.passed {
            passed.push(entry.hash);
        }
        let mut kept = self.kept.iter().filter(|kept| kept.head.sequence == sequence);
        if kept.any(|kept| kept.head.hash != self.head.hash) {
            return fault("it is another one than the checkpoint vouches for");
        }
        Ok(())
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// Entries are missing at the beginning although nobody vouches for their removal, or at the
    /// end although a checkpoint vouches for them.
    pub fn end(self) -> Result<Self, Fault> {
        if !self.joined {
            let last = self.base.sequence;
            let text = format!(
                "it is missing, with all up to {last}, and nothing signed says that retention \
                 removed them"
            );
            return Err(Fault { sequence: self.removed + 1, text });
        }
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

    /// What the first entry is linked to: the last one that was removed, or nothing.
    pub const fn base(&self) -> ChainHead {
        self.base
    }

    /// The last entry so far.
    pub const fn head(&self) -> ChainHead {
        self.head
    }

    /// How many entries were walked past.
    pub const fn length(&self) -> u64 {
        self.head.sequence - self.base.sequence
    }

    /// How many checkpoints in the chain were found to be genuine.
    pub const fn checkpoints(&self) -> u64 {
        self.checkpoints
    }

    /// The checkpoints kept elsewhere that are about entries removed by retention, of which nobody
    /// can say any more whether they were what the checkpoints vouch for.
    pub fn kept_of_removed(&self) -> impl Iterator<Item = &Checkpoint> {
        self.kept.iter().take_while(|kept| kept.head.sequence < self.base.sequence)
    }

    fn begin_after(&mut self, base: ChainHead) -> Result<(), Fault> {
        (self.base, self.head) = (base, base);
        let mut kept = self.kept.iter().filter(|kept| kept.head.sequence == base.sequence);
        if kept.any(|kept| kept.head.hash != base.hash) {
            let text = "it was another one than the checkpoint vouches for".to_owned();
            return Err(Fault { sequence: base.sequence, text });
        }
        // A checkpoint of the last entry that went vouches for the join as well as a removal does.
        let kept = self.kept.iter().any(|kept| kept.head == base);
        self.joined = kept || base == ChainHead::default();
        Ok(())
    }

    /// Whether a part of an export repeats an entry of the part before it; if it is the first of
    /// all, the walk begins with it.
    fn repeats(&mut self, entry: &AuditEntry) -> Result<bool, Fault> {
        let Some(passed) = &self.passed else { return Ok(false) };
        if passed.is_empty() && entry.sequence > 1 {
            self.begin_after(entry.previous())?;
            return Ok(false);
        }
        let Some(known) = hash_of(passed, self.base, entry.sequence) else { return Ok(false) };
        if entry.hash != known || !entry.is_intact() {
            let text = "it is given twice, and not the same both times".to_owned();
            return Err(Fault { sequence: entry.sequence, text });
        }
        Ok(true)
    }

    /// Whether a removal is genuine and says what is so.
    fn check_removal(&mut self, removal: &Removal, sequence: u64) -> Result<(), Fault> {
        let fault = |text: &str| Err(Fault { sequence, text: text.to_owned() });
        self.check_signer(removal.public_key, sequence, "the removal was signed by another key")?;
        if !removal.is_genuine(self.head) {
            return fault("the signature of the removal is wrong");
        }
        let last = removal.last;
        if last == self.base {
            self.joined = true;
            return Ok(());
        }
        if last.sequence < self.base.sequence {
            self.removed = self.removed.max(last.sequence);
            return Ok(());
        }
        let there = self.passed.as_ref().map(|passed| hash_of(passed, self.base, last.sequence));
        match there {
            Some(Some(hash)) if hash == last.hash => Ok(()),
            None if last.sequence > self.base.sequence => {
                fault(&format!("it says that all up to {} went, and they are there", last.sequence))
            }
            _ => fault("it says that the last entry that went was another one"),
        }
    }

    fn check_signature(&mut self, checkpoint: &Checkpoint, sequence: u64) -> Result<(), Fault> {
        let key = checkpoint.public_key;
        self.check_signer(key, sequence, "the checkpoint was signed by another key")?;
        if !checkpoint.is_genuine() {
            let text = "the signature of the checkpoint is wrong".to_owned();
            return Err(Fault { sequence, text });
        }
        Ok(())
    }

    /// One key signs all; where it is not known, the first one that signed counts.
    fn check_signer(&mut self, key: PublicKey, sequence: u64, text: &str) -> Result<(), Fault> {
        if *self.signer.get_or_insert(key) == key {
            return Ok(());
        }
        Err(Fault { sequence, text: text.to_owned() })
    }
}

/// The hash of an entry that was walked past.
fn hash_of(passed: &[Hash], base: ChainHead, sequence: u64) -> Option<Hash> {
    let index = sequence.checked_sub(base.sequence + 1)?;
    passed.get(usize::try_from(index).ok()?).copied()
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

    /// The same chain after its first `count` entries went, and the entry that says so.
    fn trimmed(key: &SigningKey, count: usize) -> (Vec<AuditEntry>, Vec<AuditEntry>) {
        let mut entries = chain(key);
        let (head, last) = (entries[9].head(), entries[count - 1].head());
        let removal = key.sign_removal(head, last, count as u64, Timestamp::UNIX_EPOCH);
        let actor = Actor::service("");
        let event = Event::Retention(removal);
        let revision = Revision::new(10);
        entries.push(AuditEntry::after(head, Timestamp::UNIX_EPOCH, actor, revision, event));
        let left = entries.split_off(count);
        (entries, left)
    }

    fn exported<'a>(entries: impl IntoIterator<Item = &'a AuditEntry>) -> Result<Walk, Fault> {
        let mut walk = Walk::of_export(None, Vec::new())?;
        entries.into_iter().try_for_each(|entry| walk.step(entry))?;
        walk.end()
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
        walked_from(ChainHead::default(), entries, kept)
    }

    fn walked_from(
        base: ChainHead,
        entries: &[AuditEntry],
        kept: Vec<Checkpoint>,
    ) -> Result<Walk, Fault> {
        let mut walk = Walk::new(base, None, kept)?;
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
        let mut walk = Walk::new(ChainHead::default(), Some(stranger), Vec::new()).unwrap();
        let fault = entries.iter().try_for_each(|entry| walk.step(entry)).unwrap_err();
        assert_eq!(fault.sequence, 5);
    }

    #[test]
    fn a_chain_that_begins_later_joins_what_went_by_a_signed_entry_alone() {
        let key = SigningKey::generate();
        let (gone, left) = trimmed(&key, 4);
        let base = gone[3].head();
        let walk = walked_from(base, &left, vec![]).unwrap();
        assert_eq!((walk.base(), walk.length()), (base, 7));
        // The entry that says so is missing, or is about another entry.
        let fault = walked_from(base, &left[..6], vec![]).unwrap_err();
        assert_eq!(fault.sequence, 1);
        assert!(fault.text.contains("all up to 4"), "{}", fault.text);
        let fault = walked_from(left[0].head(), &left[1..], vec![]).unwrap_err();
        assert_eq!(fault.sequence, 5, "the removal of 1 to 4 is vouched for");
        let mut forged = base;
        forged.hash[0] ^= 1;
        assert_eq!(walked_from(forged, &left, vec![]).unwrap_err().sequence, 5);
        // What is said to have gone is there.
        let whole = [gone.clone(), left.clone()].concat();
        let fault = walked(&whole, vec![]).unwrap_err();
        assert_eq!(fault.sequence, 11);
        assert!(fault.text.contains("they are there"), "{}", fault.text);
        // Somebody else says so.
        let (_, others) = trimmed(&SigningKey::generate(), 4);
        let mut forged = left.clone();
        let Event::Retention(removal) = &others[6].event else { panic!("{others:?}") };
        forged[6] = AuditEntry::after(
            left[5].head(),
            Timestamp::UNIX_EPOCH,
            Actor::service(""),
            Revision::new(10),
            Event::Retention(Removal { last: base, ..*removal }),
        );
        assert_eq!(walked_from(base, &forged, vec![]).unwrap_err().sequence, 11);
    }

    #[test]
    fn what_checkpoints_say_of_removed_entries_is_neither_so_nor_otherwise() {
        let key = SigningKey::generate();
        let (gone, left) = trimmed(&key, 6);
        let base = gone[5].head();
        let kept = |at: usize| key.sign(gone[at].head(), Timestamp::UNIX_EPOCH);
        let walk = walked_from(base, &left, vec![kept(5), kept(1), kept(2)]).unwrap();
        let removed: Vec<_> = walk.kept_of_removed().map(|kept| kept.head.sequence).collect();
        assert_eq!(removed, [2, 3], "that of the last one that went still tells");
        // It joins what is left even where no entry says what went.
        assert!(walked_from(base, &left[..3], vec![kept(5)]).is_ok());
        let mut other = gone[5].head();
        other.hash[0] ^= 1;
        let other = key.sign(other, Timestamp::UNIX_EPOCH);
        assert_eq!(walked_from(base, &left, vec![other]).unwrap_err().sequence, 6);
    }

    #[test]
    fn the_parts_of_an_export_join_and_may_overlap() {
        let key = SigningKey::generate();
        let (gone, left) = trimmed(&key, 4);
        assert_eq!(exported(&left).unwrap().length(), 7);
        assert_eq!(exported(gone.iter().chain(&left)).unwrap().length(), 11);
        let overlapping = gone.iter().chain(&left[..3]).chain(&left);
        assert_eq!(exported(overlapping).unwrap().length(), 11);
        assert_eq!(exported(gone[..3].iter().chain(&left)).unwrap_err().sequence, 4);
        let mut changed = left.clone();
        changed[1].actor.reason = "something else".into();
        let overlapping = left[..3].iter().chain(&changed);
        assert_eq!(exported(overlapping).unwrap_err().sequence, 6);
        // A part from the middle says nothing of what went before it.
        assert_eq!(exported(&left[..5]).unwrap_err().sequence, 1);
    }
}

//! What a store holds after a crash, beside what was acknowledged before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use partnerd::{
    domain::{
        AllowedPartner, Revision,
        audit::{AuditEntry, Chain, Event, ResourceChange, Walk},
    },
    proto::v1 as pb,
    store::{self, AnswerResult, Change, Commit, RequestKey, State, Store, sled::SledStore},
};
use uuid::Uuid;

use super::load::{Answer, Ask, Sent, Writer};

/// All of a store.
pub struct Found {
    store: SledStore,
    state: State,
    commits: BTreeMap<u64, Commit>,
    entries: Vec<AuditEntry>,
}

/// A partner, by what no two writes leave the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    domain: String,
    revision: u64,
    uid: String,
    owner: String,
    deleted: bool,
}

impl Found {
    pub fn read(store: SledStore) -> Self {
        let state = store.load().unwrap();
        let before = Revision::new(state.oldest_revision.get() - 1);
        let commits = store.commits_after(before, usize::MAX).unwrap();
        let commits = commits.into_iter().map(|commit| (commit.revision.get(), commit)).collect();
        let entries = store.audit_after(state.audit.base.sequence, usize::MAX).unwrap();
        Self { store, state, commits, entries }
    }

    /// The last audit entry that was removed.
    pub fn removed_entries(&self) -> u64 {
        self.state.audit.base.sequence
    }

    pub fn oldest_revision(&self) -> u64 {
        self.state.oldest_revision.get()
    }

    /// State, log and audit agree with each other.
    pub fn assert_whole(&self) {
        let State { revision, oldest_revision, audit, .. } = self.state;
        let revisions: Vec<u64> = self.commits.keys().copied().collect();
        assert_eq!(revisions, (oldest_revision.get()..=revision.get()).collect::<Vec<_>>());
        let mut walk = Walk::new(audit.base, None, Vec::new()).unwrap();
        self.entries.iter().try_for_each(|entry| walk.step(entry)).unwrap();
        let walk = walk.end().expect("what was removed is vouched for");
        assert_eq!(Chain { base: walk.base(), head: walk.head() }, audit);
        let of_commits: Vec<_> = self.entries.iter().filter_map(of_commit).collect();
        let audited: Vec<u64> = of_commits.iter().map(|(entry, _)| entry.revision.get()).collect();
        let oldest = match audit.base.sequence {
            0 => 1,
            _ => audited.first().map_or(revision.next().get(), |oldest| *oldest),
        };
        assert_eq!(audited, (oldest..=revision.get()).collect::<Vec<_>>());
        for (entry, changes) in of_commits {
            let Some(commit) = self.commits.get(&entry.revision.get()) else { continue };
            assert_eq!((commit.time, &commit.actor), (entry.time, &entry.actor));
            let resources: Vec<_> = changes.iter().map(|it| it.resource.clone()).collect();
            assert_eq!(commit.changes.iter().map(resource).collect::<Vec<_>>(), resources);
        }
        self.assert_the_log_leads_to_the_state();
    }

    fn assert_the_log_leads_to_the_state(&self) {
        let mut partners: BTreeMap<String, Arc<AllowedPartner>> = BTreeMap::new();
        let mut settings = None;
        for change in self.commits.values().flat_map(|commit| &commit.changes) {
            match change {
                Change::Partner { before, after } => {
                    let known = partners.insert(after.domain.to_string(), Arc::clone(after));
                    // What is not known was last changed before the log begins, or purged.
                    assert!(known.is_none() || known.as_ref() == before.as_ref(), "{change:?}");
                }
                Change::Settings { before, after } => {
                    let known = settings.replace(Arc::clone(after));
                    assert!(known.is_none_or(|known| known == *before), "{change:?}");
                }
                Change::Role { .. } | Change::Revocation { .. } => panic!("{change:?}"),
            }
        }
        let oldest = self.state.oldest_revision;
        for partner in &self.state.partners {
            match partners.remove(partner.domain.as_str()) {
                Some(logged) => assert_eq!(logged, *partner),
                None => {
                    assert!(partner.revision < oldest, "{partner:?} is not in the log");
                    assert_eq!(partner.delete_time, None, "a deleted partner outlived its history");
                }
            }
        }
        assert!(partners.is_empty(), "in the log, not in the state: {partners:?}");
        assert!(settings.is_none_or(|settings| settings == self.state.settings));
    }

    /// What was acknowledged is there, what was not is there as a whole or not at all, and there is
    /// nothing else.
    pub fn assert_holds(&self, writers: &[Writer], round: usize) {
        let mut expected: BTreeMap<String, Seen> = BTreeMap::new();
        let mut settings = 0;
        let mut revisions = BTreeSet::new();
        for sent in writers.iter().flat_map(|writer| &writer.sent) {
            let Some((revision, partners)) = self.outcome(sent) else { continue };
            assert!(revisions.insert(revision), "two requests made revision {revision}");
            if let Some(commit) = self.commits.get(&revision) {
                let changed: Vec<Seen> = commit.changes.iter().filter_map(seen_in).collect();
                assert_eq!(changed, partners, "round {round}: {sent:?}");
            }
            if matches!(sent.ask, Ask::Settings { .. }) {
                settings = revision;
            }
            expected.extend(partners.into_iter().map(|it| (it.domain.clone(), it)));
        }
        let last = self.state.revision.get();
        assert_eq!(revisions, (1..=last).collect(), "round {round}: revisions nobody asked for");
        assert_eq!(self.state.settings.revision.get(), settings, "round {round}");
        let found = self.state.partners.iter().map(|partner| Seen::stored(partner));
        let found: BTreeMap<_, _> = found.map(|seen| (seen.domain.clone(), seen)).collect();
        expected.retain(|_, seen| !seen.deleted || seen.revision >= self.oldest_revision());
        assert_eq!(found, expected, "round {round}");
    }

    /// The revision that a request made and the partners it left, or `None` if a crash came before
    /// it. The answer kept for its retries says the same.
    fn outcome(&self, sent: &Sent) -> Option<(u64, Vec<Seen>)> {
        let kept = self.kept(sent.id);
        let Some(told) = &sent.answer else {
            let kept = kept?;
            return Some((kept.revision.get(), seen_of(&kept)));
        };
        let kept = kept.unwrap_or_else(|| panic!("the answer to {sent:?} is gone"));
        match told {
            Answer::Partners(partners) => {
                let told: Vec<Seen> = partners.iter().map(Seen::told).collect();
                assert_eq!(told, seen_of(&kept), "{sent:?}");
                assert!(told.iter().all(|seen| seen.revision == kept.revision.get()));
            }
            Answer::Settings(settings) => {
                assert_eq!(settings.revision, kept.revision.as_i64(), "{sent:?}");
            }
        }
        Some((kept.revision.get(), seen_of(&kept)))
    }

    fn kept(&self, id: Uuid) -> Option<store::Answer> {
        // All requests came from one administrator.
        let actor = &self.commits.values().next()?.actor;
        let key = RequestKey { issuer: actor.issuer.clone(), subject: actor.subject.clone(), id };
        self.store.answer(&key).unwrap()
    }
}

impl Seen {
    fn stored(partner: &AllowedPartner) -> Self {
        Self {
            domain: partner.domain.to_string(),
            revision: partner.revision.get(),
            uid: partner.uid.to_string(),
            owner: partner.terms.owner.to_string(),
            deleted: partner.delete_time.is_some(),
        }
    }

    fn told(partner: &pb::AllowedPartner) -> Self {
        Self {
            domain: partner.name.replace("allowedPartners/", ""),
            revision: u64::try_from(partner.revision).unwrap(),
            uid: partner.uid.clone(),
            owner: partner.owner.clone(),
            deleted: partner.delete_time.is_some(),
        }
    }
}

/// An entry of a commit, and what it says was changed.
fn of_commit(entry: &AuditEntry) -> Option<(&AuditEntry, &[ResourceChange])> {
    match &entry.event {
        Event::Commit { changes } => Some((entry, changes)),
        _ => None,
    }
}

fn seen_of(answer: &store::Answer) -> Vec<Seen> {
    match &answer.result {
        AnswerResult::Partners(partners) => {
            partners.iter().flatten().map(|partner| Seen::stored(partner)).collect()
        }
        AnswerResult::Settings(_)
        | AnswerResult::Role(_)
        | AnswerResult::Revocation(_)
        | AnswerResult::Restored(_) => Vec::new(),
    }
}

fn seen_in(change: &Change) -> Option<Seen> {
    match change {
        Change::Partner { after, .. } => Some(Seen::stored(after)),
        Change::Settings { .. } | Change::Role { .. } | Change::Revocation { .. } => None,
    }
}

fn resource(change: &Change) -> String {
    match change {
        Change::Partner { after, .. } => format!("allowedPartners/{}", after.domain),
        Change::Settings { .. } => "federationSettings".to_owned(),
        Change::Role { .. } | Change::Revocation { .. } => panic!("{change:?}"),
    }
}

//! The snapshot: point reads, and the publication of a new one, among few partners and many.

use std::{collections::BTreeSet, hint::black_box, sync::Arc};

use arc_swap::ArcSwap;
use criterion::BatchSize;
use jiff::Timestamp;
use partnerd::{
    domain::{DomainName, Revision, audit::ChainHead, settings::FederationSettings},
    registry::{
        Snapshot,
        draft::Draft,
        log::{Entry, Tail, TailLimits},
    },
    store::{Commit, State},
};

use crate::{Parts, data, model};

/// How many partners there are.
const SIZES: [u32; 2] = [1_000, 100_000];

/// As many commits in memory as the service keeps.
const TAIL: TailLimits = TailLimits { commits: 10_000, bytes: 64 << 20 };

pub fn measure(parts: &mut Parts<'_>) {
    for size in SIZES {
        let snapshot = snapshot(size);
        let now = Timestamp::now();
        let names: Vec<_> = (0..1_000).map(|turn| (turn * 7_919) % size).collect();
        let primary: Vec<_> =
            names.iter().map(|number| model::domain(&data::domain(*number))).collect();
        let additional: Vec<_> =
            names.iter().map(|number| model::domain(&data::additional_domain(*number))).collect();
        let mut turn = 0;
        parts.add(
            &format!("lookup/{size}"),
            &format!("a partner by name, among {size}"),
            |bencher| {
                bencher.iter(|| snapshot.partner(black_box(next(&primary, &mut turn))));
            },
        );
        parts.add(
            &format!("resolve/{size}"),
            &format!("resolving a domain, among {size}"),
            |bencher| {
                bencher.iter(|| snapshot.resolve(black_box(next(&additional, &mut turn)), now));
            },
        );
        let published = Published::new(snapshot);
        parts.add(
            &format!("change/{size}"),
            &format!("changing a partner, among {size}"),
            |bencher| {
                bencher.iter(|| published.changed(next(&primary, &mut turn)));
            },
        );
        let title = format!(
            "publishing the change: the log's end, the snapshot, the old one freed, among {size}"
        );
        parts.add(&format!("publish/{size}"), &title, |bencher| {
            bencher.iter_batched(
                || published.changed(next(&primary, &mut turn)),
                |(snapshot, entry)| published.publish(snapshot, entry),
                BatchSize::PerIteration,
            );
        });
    }
}

/// What readers see, as the registry has it.
struct Published {
    snapshot: ArcSwap<Snapshot>,
    tail: ArcSwap<Tail>,
    nobody: BTreeSet<DomainName>,
}

impl Published {
    fn new(snapshot: Snapshot) -> Self {
        let tail = ArcSwap::from_pointee(Tail::after(&snapshot, TAIL));
        Self { snapshot: ArcSwap::from_pointee(snapshot), tail, nobody: BTreeSet::new() }
    }

    /// The state after a change of one partner, and its entry in the log.
    fn changed(&self, domain: &DomainName) -> (Snapshot, Entry) {
        let base = self.snapshot.load();
        let actor = model::actor();
        let mut draft = Draft::after(&base, Timestamp::UNIX_EPOCH, &actor, &self.nobody);
        let partner = Arc::clone(base.partner(domain).expect("it was put there"));
        draft.stamp(partner);
        let commit = Commit { changes: Vec::new(), ..model::commit() };
        let snapshot = draft.state().clone();
        let policy = Arc::clone(snapshot.policy());
        (snapshot, Entry::new(commit, policy, None))
    }

    /// What the writer does once a commit is on the disk, but for ringing the bell.
    fn publish(&self, snapshot: Snapshot, entry: Entry) {
        self.tail.store(Arc::new(self.tail.load().extended([entry])));
        drop(self.snapshot.swap(Arc::new(snapshot)));
    }
}

fn snapshot(size: u32) -> Snapshot {
    let mut partners: Vec<_> = (0..size).map(|number| Arc::new(model::partner(number))).collect();
    partners.sort_by(|a, b| a.domain.cmp(&b.domain));
    Snapshot::of(State {
        revision: Revision::new(u64::from(size)),
        oldest_revision: Revision::new(1),
        partners,
        settings: Arc::new(FederationSettings::default()),
        replicas: Vec::new(),
        roles: Vec::new(),
        revocations: Vec::new(),
        audit_head: ChainHead::default(),
    })
}

/// One after the other, over and over.
fn next<'a>(domains: &'a [DomainName], turn: &mut usize) -> &'a DomainName {
    *turn += 1;
    &domains[*turn % domains.len()]
}

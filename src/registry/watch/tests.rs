//! What a stream is told when its caller's rights change, and the way back through the log.

use enumset::EnumSet;
use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::{
    auth::{Caller, Policy, permit::Purpose},
    domain::{
        Terms,
        audit::Actor,
        role::{DomainScope, Permission, Role, RoleTerms},
    },
    registry::{
        Kind, Options,
        log::{Tail, TailLimits},
        memory::Log,
    },
    store::{Commit, Store},
};

/// A registry, the caller who watches it, and a writer that gets by without use cases.
struct Rig {
    registry: Arc<Registry>,
    call: Call,
    log: Arc<Log>,
}

/// Keeps the events in short.
#[derive(Default)]
struct Notes(Vec<String>);

impl Sink for Notes {
    fn take(&mut self, event: Event<'_>) {
        let Event { kind, subject, revision, .. } = event;
        let side = |there: bool, mark: &'static str| if there { mark } else { "" };
        let text = match subject {
            Subject::Partner { domain, before, after } => {
                let shown = (side(before.is_some(), " before"), side(after.is_some(), " after"));
                format!("{revision} {kind:?} {domain}{}{}", shown.0, shown.1)
            }
            Subject::Settings { before, after, .. } => {
                let shown = (side(before.is_some(), " before"), side(after.is_some(), " after"));
                format!("{revision} {kind:?} settings{}{}", shown.0, shown.1)
            }
        };
        self.0.push(text);
    }

    fn is_full(&self) -> bool {
        false
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn into_message(self, _: Revision) -> Bytes {
        self.0.into_iter().map(|note| note + "\n").collect::<String>().into()
    }

    fn take_messages(&mut self, messages: Bytes) {
        self.0.extend(str::from_utf8(&messages).unwrap().lines().map(str::to_owned));
    }
}

/// Roles under which the watching role gives these permissions within these scopes.
fn policy(permissions: EnumSet<Permission>, scopes: &[&str]) -> Arc<Policy> {
    let scope = |text: &&str| match text.strip_prefix("*.") {
        Some(ancestor) => DomainScope::Below(ancestor.parse().unwrap()),
        None => DomainScope::Exactly(text.parse().unwrap()),
    };
    let terms = RoleTerms {
        permissions,
        domain_scopes: scopes.iter().map(scope).collect(),
        ..RoleTerms::default()
    };
    Arc::new(Policy::new([Arc::new(Role::custom("watching", terms))]))
}

fn watching(scopes: &[&str]) -> Arc<Policy> {
    policy(EnumSet::only(Permission::PartnersWatch), scopes)
}

fn actor() -> Actor {
    let text = || Arc::from("somebody");
    Actor { subject: text(), issuer: text(), request_id: text(), reason: text() }
}

impl Rig {
    fn new(first: &Arc<Policy>) -> Self {
        Self::with_tail(100, first)
    }

    /// With so many commits in memory.
    fn with_tail(commits: usize, first: &Arc<Policy>) -> Self {
        let log = Arc::<Log>::default();
        let limits = TailLimits { commits, bytes: usize::MAX };
        let options = Options { tail: limits, ..Options::for_tests() };
        let store = Arc::clone(&log) as Arc<dyn Store>;
        let registry = Arc::new(Registry::open(store, options).unwrap());
        let caller = Caller {
            subject: "somebody".into(),
            issuer: "issuer".into(),
            roles: vec!["watching".into()],
            expire_time: Timestamp::MAX,
            good_until: Timestamp::MAX,
            token_id: None,
            key_id: "key".into(),
            key_fingerprint: [0; 32],
        };
        let call = Call { caller: Arc::new(caller), request_id: "id".into(), reason: "".into() };
        let mut state = Snapshot::clone(&registry.snapshot());
        state.set_policy(Arc::clone(first));
        registry.current.tail.store(Arc::new(Tail::after(&state, limits)));
        registry.current.publish(state, []);
        Self { registry, call, log }
    }

    /// Makes this change the next commit.
    fn publish(&self, change: impl FnOnce(&mut Snapshot, Revision) -> Vec<Change>) {
        let before = self.registry.snapshot();
        let mut state = Snapshot::clone(&before);
        let revision = before.revision().next();
        let changes = change(&mut state, revision);
        state.set_revision(revision);
        let turned = !Arc::ptr_eq(before.policy(), state.policy());
        let turn = turned.then(|| state.clone());
        let commit = Commit { revision, time: Timestamp::now(), actor: actor(), changes };
        self.log.append(commit.clone());
        let entry = Entry::new(commit, Arc::clone(state.policy()), turn);
        self.registry.current.publish(state, [entry]);
    }

    fn put(&self, domain: &str) {
        self.publish(|state, revision| {
            let domain: DomainName = domain.parse().unwrap();
            let before = state.partner(&domain).cloned();
            let after = Arc::new(partner(&domain, revision));
            state.insert(Arc::clone(&after));
            vec![Change::Partner { before, after }]
        });
    }

    fn turn(&self, policy: &Arc<Policy>) {
        self.publish(|state, _| {
            state.set_policy(Arc::clone(policy));
            Vec::new()
        });
    }

    fn watch(&self, start: Start) -> Watcher {
        let permit = self.registry.policy().permit(&self.call, Purpose::Commit).unwrap();
        let query = WatchQuery { start, ..WatchQuery::default() };
        self.registry.watch(&permit, self.call.clone(), query).unwrap()
    }
}

fn partner(domain: &DomainName, revision: Revision) -> AllowedPartner {
    AllowedPartner {
        domain: domain.clone(),
        uid: Uuid::new_v4(),
        terms: Terms::default(),
        create_time: Timestamp::now(),
        update_time: Timestamp::now(),
        creator: "somebody".into(),
        updater: "somebody".into(),
        revision,
        delete_time: None,
        expired: false,
    }
}

/// Everything that the watcher tells until the bell.
fn told(watcher: &mut Watcher) -> Vec<String> {
    let mut notes = Notes::default();
    watcher.hears();
    watcher.renew().unwrap();
    while watcher.advance(&mut notes).unwrap() != Stop::Bell {}
    notes.0
}

/// The messages that the watcher is given ready to be sent.
fn shared(watcher: &mut Watcher) -> Vec<Bytes> {
    #[derive(Default)]
    struct Shared(Notes, Option<Bytes>);

    impl Sink for Shared {
        fn take(&mut self, event: Event<'_>) {
            self.0.take(event);
        }

        fn is_full(&self) -> bool {
            self.1.is_some()
        }

        fn is_empty(&self) -> bool {
            self.0.is_empty() && self.1.is_none()
        }

        fn into_message(self, revision: Revision) -> Bytes {
            self.0.into_message(revision)
        }

        fn take_messages(&mut self, messages: Bytes) {
            self.1 = Some(messages);
        }
    }

    watcher.hears();
    watcher.renew().unwrap();
    let mut all = Vec::new();
    loop {
        let mut sink = Shared::default();
        let stop = watcher.advance(&mut sink).unwrap();
        all.extend(sink.1);
        if stop == Stop::Bell {
            return all;
        }
    }
}

#[test]
fn streams_that_see_everything_are_given_the_same_bytes_and_others_never_are() {
    let rig = Rig::new(&watching(&[]));
    let after = |number| rig.watch(Start::After(Revision::new(number)));
    let (mut first, mut second, mut late) = (after(0), after(0), after(1));
    let filter = Filter::parse("owner = \"nobody\"").unwrap();
    let mut filtered = rig.watch(Start::After(Revision::new(0)));
    filtered.filter = filter;
    (1..=3).for_each(|number| rig.put(&format!("p{number}.in.example")));
    let messages = shared(&mut first);
    let expected = "1 Added p1.in.example after\n2 Added p2.in.example after\n\
                    3 Added p3.in.example after\n";
    assert_eq!(messages.concat(), expected.as_bytes());
    let places = |messages: &[Bytes]| messages.iter().map(|it| it.as_ptr()).collect::<Vec<_>>();
    assert_eq!(places(&shared(&mut second)), places(&messages));
    // Whoever is further begins within them.
    let rest = shared(&mut late);
    assert_eq!(rest[0].as_ptr(), messages[0][28..].as_ptr());
    assert_eq!(late.progress(), Some(Revision::new(3)));
    assert!(shared(&mut filtered).is_empty());
    // Under roles that leave something out there is nothing to share, nor once more before them.
    rig.turn(&watching(&["*.in.example"]));
    rig.put("p4.in.example");
    assert!(shared(&mut first).is_empty());
    let mut lagging = rig.watch(Start::After(Revision::new(0)));
    assert!(shared(&mut lagging).is_empty());
    assert_eq!(lagging.progress(), Some(Revision::new(5)));
}

#[test]
fn what_leaves_or_enters_the_sight_is_removed_or_added_at_the_change_of_the_roles() {
    let rig = Rig::new(&watching(&[]));
    rig.put("a.in.example");
    rig.put("b.out.example");
    let mut watcher = rig.watch(Start::State);
    assert_eq!(told(&mut watcher), ["2 Added a.in.example after", "2 Added b.out.example after"]);
    rig.turn(&watching(&["*.in.example"]));
    assert_eq!(told(&mut watcher), ["3 Removed b.out.example"]);
    rig.put("b.out.example");
    rig.put("c.in.example");
    assert_eq!(told(&mut watcher), ["5 Added c.in.example after"]);
    rig.turn(&watching(&["*.out.example", "c.in.example"]));
    assert_eq!(told(&mut watcher), ["6 Removed a.in.example", "6 Added b.out.example after"]);
    assert_eq!(watcher.progress(), Some(Revision::new(6)));
    // The same rights in other words are no change.
    rig.turn(&watching(&["*.out.example", "c.in.example"]));
    assert_eq!(told(&mut watcher), [""; 0]);
}

#[test]
fn a_stream_that_lags_is_not_shown_what_its_caller_may_see_no_longer() {
    let rig = Rig::new(&watching(&[]));
    rig.put("a.in.example");
    rig.put("b.out.example");
    let mut watcher = rig.watch(Start::State);
    told(&mut watcher);
    rig.put("b.out.example");
    rig.put("a.in.example");
    rig.put("d.out.example");
    rig.turn(&watching(&["*.in.example"]));
    assert_eq!(
        told(&mut watcher),
        [
            "4 Modified a.in.example before after",
            "6 Removed b.out.example",
            "6 Removed d.out.example"
        ]
    );
}

#[test]
fn a_start_in_the_past_goes_by_the_roles_of_then() {
    let rig = Rig::new(&watching(&["*.in.example"]));
    rig.put("a.in.example");
    rig.put("b.out.example");
    rig.turn(&watching(&[]));
    rig.put("b.out.example");
    let mut early = rig.watch(Start::After(Revision::ZERO));
    assert_eq!(
        told(&mut early),
        [
            "1 Added a.in.example after",
            "3 Added b.out.example after",
            "4 Modified b.out.example before after"
        ]
    );
    let mut late = rig.watch(Start::After(Revision::new(3)));
    assert_eq!(told(&mut late), ["4 Modified b.out.example before after"]);
    // A start that lies ahead goes by the roles that will be in force by then.
    let mut ahead = rig.watch(Start::After(Revision::new(6)));
    rig.turn(&watching(&["*.in.example"]));
    rig.put("c.in.example");
    assert_eq!(told(&mut ahead), [""; 0]);
    assert_eq!(ahead.progress(), Some(Revision::new(6)));
    rig.put("c.in.example");
    assert_eq!(told(&mut ahead), ["7 Modified c.in.example before after"]);
}

#[tokio::test]
async fn what_is_read_of_the_store_ends_where_the_roles_are_no_longer_known() {
    let rig = Rig::with_tail(2, &watching(&["*.in.example"]));
    let mut watcher = rig.watch(Start::State);
    assert_eq!(told(&mut watcher), [""; 0]);
    rig.put("b.out.example");
    rig.put("a.in.example");
    // From here on the log is in memory, and only it has the state after the change of the roles.
    rig.turn(&watching(&[]));
    rig.put("b.out.example");
    let mut notes = Notes::default();
    watcher.hears();
    watcher.renew().unwrap();
    assert_eq!(watcher.advance(&mut notes).unwrap(), Stop::Behind);
    watcher.catch_up().await.unwrap();
    while watcher.advance(&mut notes).unwrap() != Stop::Bell {}
    assert_eq!(
        notes.0,
        [
            "2 Added a.in.example after",
            "3 Added b.out.example after",
            "4 Modified b.out.example before after"
        ]
    );
}

#[test]
fn a_start_whose_history_is_gone_is_refused_though_it_is_still_in_memory() {
    let rig = Rig::new(&watching(&[]));
    (1..=5).for_each(|number| rig.put(&format!("p{number}.in.example")));
    let mut state = Snapshot::clone(&rig.registry.snapshot());
    state.forget(Revision::new(4), &[]);
    rig.registry.current.publish(state, []);
    let permit = || rig.registry.policy().permit(&rig.call, Purpose::Commit).unwrap();
    let query = WatchQuery { start: Start::After(Revision::new(2)), ..WatchQuery::default() };
    let gone = rig.registry.watch(&permit(), rig.call.clone(), query).unwrap_err();
    assert!(matches!(gone.kind, Kind::Compacted { oldest } if oldest == Revision::new(4)));
    assert_eq!(told(&mut rig.watch(Start::After(Revision::new(3)))).len(), 2);
    assert_eq!(told(&mut rig.watch(Start::State)).len(), 5);
}

#[test]
fn a_right_that_is_taken_away_ends_the_stream_wherever_it_is() {
    let rig = Rig::new(&watching(&[]));
    for number in 0..10 {
        rig.put(&format!("p{number}.in.example"));
    }
    let mut watcher = rig.watch(Start::State);
    rig.turn(&policy(EnumSet::only(Permission::PartnersGet), &[]));
    let denied = watcher.renew().unwrap_err();
    assert!(matches!(denied.kind, Kind::Denied(_)), "{denied:?}");
    // What it would still tell, it may not show.
    let mut notes = Notes::default();
    rig.turn(&watching(&["*.out.example"]));
    watcher.hears();
    watcher.renew().unwrap();
    while watcher.advance(&mut notes).unwrap() != Stop::Bell {}
    assert!(notes.0.iter().all(|note| !note.contains("after")), "{:?}", notes.0);
}

#[test]
fn settings_come_and_go_with_the_right_to_read_them() {
    let both = || Permission::PartnersWatch | Permission::SettingsGet;
    let rig = Rig::new(&watching(&[]));
    let mut watcher = rig.watch(Start::State);
    assert_eq!(told(&mut watcher), [""; 0]);
    rig.turn(&policy(both(), &[]));
    assert_eq!(told(&mut watcher), ["1 Added settings after"]);
    // The passphrase comes with the settings, so these are told again.
    rig.turn(&policy(both() | Permission::SettingsGetDialbackPassphrase, &[]));
    assert_eq!(told(&mut watcher), ["2 Modified settings before after"]);
    rig.turn(&watching(&[]));
    assert_eq!(told(&mut watcher), ["3 Removed settings"]);
}

#[test]
fn the_tail_forgets_its_beginning_by_count_and_by_weight() {
    let rig = Rig::new(&watching(&[]));
    let tail =
        |commits, bytes| Tail::after(&rig.registry.snapshot(), TailLimits { commits, bytes });
    let entry = |number| {
        let commit = Commit {
            revision: Revision::new(number),
            time: Timestamp::now(),
            actor: actor(),
            changes: vec![Change::Partner {
                before: None,
                after: Arc::new(partner(&"a.in.example".parse().unwrap(), Revision::new(number))),
            }],
        };
        Entry::new(commit, watching(&[]), None)
    };
    let by_count = tail(3, usize::MAX).extended((1..=5).map(entry));
    assert_eq!(by_count.base(), Revision::new(2));
    assert!(by_count.next(Revision::new(1)).is_none());
    assert_eq!(by_count.next(Revision::new(2)).unwrap().commit().revision, Revision::new(3));
    assert!(by_count.next(Revision::new(5)).is_none());
    let by_weight = tail(100, 2 * entry(1).weight()).extended((1..=5).map(entry));
    assert_eq!(by_weight.base(), Revision::new(3));
    let nothing = tail(100, 0).extended((1..=5).map(entry));
    assert_eq!(nothing.base(), Revision::new(4), "the last one stays");
}

#[test]
fn a_commit_taken_back_leaves_the_state_before_it() {
    let domain = |text: &str| text.parse::<DomainName>().unwrap();
    let owning = |name: &str, other: &str, number| {
        let mut partner = partner(&domain(name), Revision::new(number));
        partner.terms.additional_domains = [domain(other)].into_iter().collect();
        Arc::new(partner)
    };
    let (a1, b1) =
        (owning("a.in.example", "x.in.example", 1), owning("b.in.example", "y.in.example", 1));
    // They exchange a domain, and one is deleted.
    let (a2, b2) =
        (owning("a.in.example", "y.in.example", 2), owning("b.in.example", "x.in.example", 2));
    let gone = AllowedPartner { delete_time: Some(Timestamp::now()), ..AllowedPartner::clone(&b2) };
    let change = |before: Option<&Arc<AllowedPartner>>, after: &Arc<AllowedPartner>| {
        Change::Partner { before: before.cloned(), after: Arc::clone(after) }
    };
    let commits = [
        vec![change(None, &a1), change(None, &b1)],
        vec![change(Some(&a1), &a2), change(Some(&b1), &b2)],
        vec![change(Some(&b2), &Arc::new(gone))],
    ];
    let mut states = vec![Snapshot::default()];
    for (number, changes) in (1..).zip(&commits) {
        let mut state = states.last().unwrap().clone();
        for change in changes {
            if let Change::Partner { before: Some(before), .. } = change {
                state.release(before);
            }
        }
        for change in changes {
            if let Change::Partner { after, .. } = change {
                state.insert(Arc::clone(after));
            }
        }
        state.set_revision(Revision::new(number));
        states.push(state);
    }
    let mut state = states.last().unwrap().clone();
    for (number, changes) in [1, 2, 3].into_iter().zip(commits).rev() {
        let revision = Revision::new(number);
        state.undo(&Commit { revision, time: Timestamp::now(), actor: actor(), changes });
        let before = &states[usize::try_from(number - 1).unwrap()];
        let all = |state: &Snapshot| state.partners_after(None, true).cloned().collect::<Vec<_>>();
        assert_eq!(all(&state), all(before));
        assert_eq!(state.revision(), before.revision());
        for name in ["a.in.example", "b.in.example", "x.in.example", "y.in.example"] {
            assert_eq!(state.owner_of(&domain(name)), before.owner_of(&domain(name)), "{name}");
        }
    }
}

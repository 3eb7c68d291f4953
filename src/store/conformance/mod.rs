//! One suite, every store: what the contract promises, tried on whatever keeps it.
//!
//! A store joins with `conformance!(place)` in its tests, where `place` makes a new [`Place`].

pub mod model;

use std::sync::atomic::{AtomicBool, Ordering};

use self::model::{
    Model, domain, events, partner, plain_partner, replica, request_key, rich_partner, time,
};
use super::{Change, Compacted, ReplicaWrite, Store, StoreError, Write};
use crate::domain::{
    AllowedPartner, Revision,
    audit::{AuditEntry, Event},
    replica::Replica,
};

/// Where one store lives. Opening it again after the last one was dropped finds what it held.
pub trait Place {
    /// Opens the store that lives here.
    fn open(&self) -> Box<dyn Store>;
}

/// A test for each promise, on the store of a new place.
macro_rules! conformance {
    ($new_place:expr) => {
        $crate::store::conformance::conformance!($new_place =>
            a_new_store_is_empty
            what_was_written_is_read_now_and_after_reopening
            a_group_keeps_its_order_and_may_touch_a_partner_twice
            an_empty_group_changes_nothing
            commits_and_audit_entries_come_in_pages
            a_revision_out_of_turn_is_refused_and_nothing_is_written_any_more
            an_audit_entry_that_is_not_linked_is_refused
            a_change_of_what_is_not_stored_is_refused
            roles_and_revocations_come_and_go
            events_of_no_commit_are_chained_without_a_revision
            a_partner_with_a_thousand_domains_grows_and_shrinks
            answers_outlive_the_process_until_they_are_forgotten
            an_answer_may_be_given_anew
            an_answer_without_a_commit_keeps_the_revision
            replicas_are_kept_without_a_commit_until_they_are_forgotten
            readers_never_see_half_a_group
            compacted_history_is_gone_and_the_rest_stays
            deleted_partners_go_with_their_history
            compaction_goes_step_by_step_and_never_beyond_the_end
            a_reader_of_history_that_goes_is_told_so
            audit_entries_go_with_the_entry_that_says_so
            a_removal_that_says_otherwise_than_the_store_is_refused
            a_reader_of_audit_entries_that_go_is_told_so
        );
    };
    ($new_place:expr => $($name:ident)*) => {
        $(#[test] fn $name() { $crate::store::conformance::$name(&$new_place); })*
    };
}
pub(crate) use conformance;

pub fn a_new_store_is_empty(place: &dyn Place) {
    Model::default().assert_is_in(place.open().as_ref());
    let store = place.open();
    Model::default().assert_is_in(store.as_ref());
    assert_eq!(store.answer(&request_key(1)).unwrap(), None);
    assert_eq!(store.forget_answers(time(0)).unwrap(), 0);
}

pub fn what_was_written_is_read_now_and_after_reopening(place: &dyn Place) {
    let (model, writes) = Model::history(60);
    let store = place.open();
    for group in writes.chunks(7) {
        store.write(group).unwrap();
    }
    model.assert_is_in(store.as_ref());
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn a_group_keeps_its_order_and_may_touch_a_partner_twice(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    let group = [
        model.set([rich_partner(domain(1), 300, 0)]),
        model.set([AllowedPartner { delete_time: Some(time(5)), ..plain_partner(1) }]),
        model.set([rich_partner(domain(1), 100, 1), plain_partner(2)]),
        model.set([partner(domain(1))]),
    ];
    store.write(&group).unwrap();
    model.assert_is_in(store.as_ref());
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn an_empty_group_changes_nothing(place: &dyn Place) {
    let store = place.open();
    store.write(&[]).unwrap();
    store.write(&[Write::default(), Write::default()]).unwrap();
    Model::default().assert_is_in(store.as_ref());
}

pub fn commits_and_audit_entries_come_in_pages(place: &dyn Place) {
    let (model, writes) = Model::history(10);
    let store = place.open();
    store.write(&writes).unwrap();
    let page = |after, limit| store.commits_after(Revision::new(after), limit).unwrap();
    assert_eq!(page(0, 3), model.commits[..3]);
    assert_eq!(page(3, 3), model.commits[3..6]);
    assert_eq!(page(8, 100), model.commits[8..]);
    assert_eq!(page(9, 1), model.commits[9..]);
    assert_eq!(page(4, 0), []);
    assert_eq!(page(10, 5), []);
    assert_eq!(page(u64::MAX - 1, 5), []);
    let page = |after, limit| store.audit_after(after, limit).unwrap();
    assert_eq!(page(0, 4), model.entries[..4]);
    assert_eq!(page(8, 100), model.entries[8..]);
    assert_eq!(page(10, 5), []);
    assert_eq!(page(u64::MAX, 5), []);
}

#[track_caller]
fn assert_refused(place: &dyn Place, mut model: Model, wrong: &Write) {
    let store = place.open();
    let before = model.clone();
    let error = store.write(std::slice::from_ref(wrong)).unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    // The writer is at odds with the store, so what it writes next is not to be trusted.
    let next = model.set([plain_partner(900)]);
    let error = store.write(&[next]).unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    drop(store);
    before.assert_is_in(place.open().as_ref());
}

fn written(place: &dyn Place) -> Model {
    let (model, writes) = Model::history(8);
    place.open().write(&writes).unwrap();
    model
}

pub fn a_revision_out_of_turn_is_refused_and_nothing_is_written_any_more(place: &dyn Place) {
    let model = written(place);
    for skipped in [0, 2] {
        let mut wrong = model.clone().set([plain_partner(50)]);
        let (commit, _) = wrong.commit.as_mut().unwrap();
        commit.revision = Revision::new(model.revision().get() + skipped);
        assert_refused(place, model.clone(), &wrong);
    }
}

pub fn an_audit_entry_that_is_not_linked_is_refused(place: &dyn Place) {
    let model = written(place);
    let mut wrong = model.clone().set([plain_partner(50)]);
    wrong.commit.as_mut().unwrap().1.previous_hash[0] ^= 1;
    assert_refused(place, model.clone(), &wrong);
    let mut wrong = model.clone().set([plain_partner(50)]);
    wrong.commit.as_mut().unwrap().1.sequence += 1;
    assert_refused(place, model, &wrong);
}

pub fn a_change_of_what_is_not_stored_is_refused(place: &dyn Place) {
    let model = written(place);
    let mut wrong = model.clone().set([plain_partner(50)]);
    let Change::Partner { before, after } = &mut wrong.commit.as_mut().unwrap().0.changes[0] else {
        panic!("a partner was set");
    };
    *before = Some(std::sync::Arc::clone(after));
    assert_refused(place, model, &wrong);
}

pub fn events_of_no_commit_are_chained_without_a_revision(place: &dyn Place) {
    let mut model = written(place);
    let store = place.open();
    let head = model.entries.last().unwrap().head();
    let mut writes: Vec<_> = events(head).into_iter().map(|event| model.note(event)).collect();
    let mut both = model.set([plain_partner(60)]);
    both.entries = model.note(events(head).remove(0)).entries;
    writes.push(both);
    store.write(&writes).unwrap();
    model.assert_is_in(store.as_ref());
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn roles_and_revocations_come_and_go(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    let group = [model.set_role("b"), model.set_role("a"), model.set_role("a")];
    store.write(&group).unwrap();
    model.assert_is_in(store.as_ref());
    let group = [model.remove_role("a"), model.set_role("c"), model.revoke(1), model.revoke(2)];
    store.write(&group).unwrap();
    store.write(&[model.take_back(1), model.revoke(3)]).unwrap();
    drop(store);
    model.assert_is_in(place.open().as_ref());
    let absent = model.clone().remove_role("none");
    assert_refused(place, model, &absent);
}

pub fn a_partner_with_a_thousand_domains_grows_and_shrinks(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    for domains in [0, 1_000, 3, 990, 1_000, 0] {
        let write = model.set([rich_partner(domain(1), domains, 7), plain_partner(2)]);
        store.write(&[write]).unwrap();
        model.assert_is_in(store.as_ref());
    }
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn answers_outlive_the_process_until_they_are_forgotten(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    for id in 1..=20 {
        let write = model.set([rich_partner(domain(id), 200, id)]);
        let write = model.answered(write, id, id);
        store.write(&[write]).unwrap();
    }
    drop(store);
    let store = place.open();
    model.assert_is_in(store.as_ref());
    assert_eq!(store.forget_answers(time(0)).unwrap(), 0);
    assert_eq!(store.forget_answers(time(12)).unwrap(), 12);
    assert_eq!(store.forget_answers(time(12)).unwrap(), 0);
    model.answers.retain(|_, answer| answer.expire_time > time(12));
    model.assert_is_in(store.as_ref());
    for id in 1..=12 {
        assert_eq!(store.answer(&request_key(id)).unwrap(), None);
    }
    drop(store);
    let store = place.open();
    model.assert_is_in(store.as_ref());
    assert_eq!(store.forget_answers(time(100)).unwrap(), 8);
}

pub fn an_answer_may_be_given_anew(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    for expiry in [10, 20] {
        let write = model.set([plain_partner(1)]);
        let write = model.answered(write, 1, expiry);
        store.write(&[write]).unwrap();
    }
    assert_eq!(store.forget_answers(time(15)).unwrap(), 0);
    model.assert_is_in(store.as_ref());
    assert_eq!(store.forget_answers(time(20)).unwrap(), 1);
    drop(store);
    assert_eq!(place.open().answer(&request_key(1)).unwrap(), None);
}

pub fn an_answer_without_a_commit_keeps_the_revision(place: &dyn Place) {
    let mut model = written(place);
    let store = place.open();
    let write = model.answered(Write::default(), 99, 99);
    store.write(&[write]).unwrap();
    model.assert_is_in(store.as_ref());
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn replicas_are_kept_without_a_commit_until_they_are_forgotten(place: &dyn Place) {
    let model = written(place);
    let store = place.open();
    let keep = |replica| ReplicaWrite::Keep(std::sync::Arc::new(replica));
    let kept = |store: &dyn Store| -> Vec<Replica> {
        let state = store.load().unwrap();
        state.replicas.iter().map(|replica| Replica::clone(replica)).collect()
    };
    let replicas = [replica(1, 7), replica(2, 8), replica(3, 9)];
    let write =
        |replicas: Vec<ReplicaWrite>| store.write(&[Write { replicas, ..Write::default() }]);
    write(replicas.clone().map(keep).into()).unwrap();
    assert_eq!(kept(store.as_ref()), replicas);
    let gone = ReplicaWrite::Forget(replicas[1].id.clone());
    write(vec![keep(replica(1, 10)), gone.clone(), gone]).unwrap();
    let left = [replica(1, 10), replica(3, 9)];
    assert_eq!(kept(store.as_ref()), left);
    drop(store);
    let store = place.open();
    assert_eq!(kept(store.as_ref()), left);
    model.assert_is_in(store.as_ref());
}

pub fn readers_never_see_half_a_group(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !is_over.load(Ordering::Acquire) || seen == 0 {
                let state = store.load().unwrap();
                // Each group sets all ten partners to its last revision.
                assert!(state.partners.iter().all(|it| it.revision == state.revision));
                let commits = store.commits_after(Revision::ZERO, usize::MAX).unwrap();
                assert!(commits.len() as u64 >= state.revision.get());
                assert!(commits.iter().all(|it| it.changes.len() == 10));
                assert!(store.audit_after(0, usize::MAX).unwrap().len() >= commits.len());
                if let Some(answer) = store.answer(&request_key(1)).unwrap() {
                    assert!(answer.revision >= state.revision);
                }
                seen = commits.len();
            }
        });
        for _ in 0..20 {
            let partners = (0..10).map(|number| rich_partner(domain(number), 60, 0));
            let write = model.set(partners);
            let write = model.answered(write, 1, 50);
            store.write(&[write]).unwrap();
        }
        is_over.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    model.assert_is_in(store.as_ref());
}

pub fn compacted_history_is_gone_and_the_rest_stays(place: &dyn Place) {
    let (mut model, writes) = Model::history(60);
    let store = place.open();
    for group in writes.chunks(9) {
        store.write(group).unwrap();
    }
    for before in [Revision::ZERO, Revision::new(1), Revision::new(17), Revision::new(17)] {
        let done = store.compact(before, usize::MAX).unwrap();
        let purged = model.compact(before.max(model.oldest_revision()));
        assert_eq!(done, Compacted { oldest_revision: model.oldest_revision(), purged });
        model.assert_is_in(store.as_ref());
    }
    drop(store);
    let store = place.open();
    model.assert_is_in(store.as_ref());
    // Writing and compacting go on.
    for _ in 0..30 {
        let write = model.step();
        store.write(&[write]).unwrap();
    }
    store.compact(Revision::new(70), usize::MAX).unwrap();
    model.compact(Revision::new(70));
    model.assert_is_in(store.as_ref());
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn deleted_partners_go_with_their_history(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    let deleted = |number| AllowedPartner { delete_time: Some(time(5)), ..plain_partner(number) };
    let large = AllowedPartner { delete_time: Some(time(5)), ..rich_partner(domain(5), 500, 0) };
    let writes = [
        model.set([plain_partner(1), plain_partner(2), plain_partner(3), plain_partner(4)]),
        model.set([deleted(1), deleted(2), deleted(3), large]),
        // Brought back; brought back and deleted again.
        model.set([plain_partner(2), plain_partner(3)]),
        model.set([deleted(3)]),
        model.set([plain_partner(6)]),
    ];
    store.write(&writes).unwrap();
    let nothing = store.compact(Revision::new(2), usize::MAX).unwrap();
    assert_eq!((nothing.purged, model.compact(Revision::new(2))), (vec![], vec![]));
    model.assert_is_in(store.as_ref());
    for (before, gone) in [(4, vec![domain(1), domain(5)]), (5, vec![domain(3)])] {
        let done = store.compact(Revision::new(before), usize::MAX).unwrap();
        assert_eq!((&done.purged, model.compact(Revision::new(before))), (&gone, gone.clone()));
        model.assert_is_in(store.as_ref());
    }
    // A purged partner is one that never was.
    let write = model.set([plain_partner(1)]);
    store.write(&[write]).unwrap();
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn compaction_goes_step_by_step_and_never_beyond_the_end(place: &dyn Place) {
    let (mut model, writes) = Model::history(30);
    let store = place.open();
    store.write(&writes).unwrap();
    assert_eq!(store.compact(Revision::new(30), 0).unwrap().oldest_revision, Revision::new(1));
    for oldest in [8, 15, 22, 29, 31, 31] {
        let done = store.compact(Revision::new(u64::MAX), 7).unwrap();
        assert_eq!(done.oldest_revision, Revision::new(oldest));
        let mut purged = model.compact(done.oldest_revision);
        let mut told = done.purged;
        purged.sort();
        told.sort();
        assert_eq!(told, purged);
        model.assert_is_in(store.as_ref());
    }
    assert_eq!(store.commits_after(Revision::new(30), 10).unwrap(), []);
    drop(store);
    let store = place.open();
    model.assert_is_in(store.as_ref());
    let write = model.step();
    store.write(&[write]).unwrap();
    model.assert_is_in(store.as_ref());
}

pub fn a_reader_of_history_that_goes_is_told_so(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    for number in 0..40 {
        let write = model.set([rich_partner(domain(number), 100, number)]);
        store.write(&[write]).unwrap();
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut after = Revision::ZERO;
            let mut complaints = 0;
            while after < Revision::new(40) {
                match store.commits_after(after, 5) {
                    Ok(commits) => {
                        assert!(commits.iter().all(|commit| commit.changes.len() == 1));
                        assert_eq!(commits.first().map(|it| it.revision), Some(after.next()));
                    }
                    Err(StoreError::Compacted { oldest }) => {
                        assert!(oldest > after.next());
                        after = Revision::new(oldest.get() - 1);
                        complaints += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            complaints
        });
        for before in 2..=41 {
            store.compact(Revision::new(before), usize::MAX).unwrap();
        }
        assert!(reader.join().unwrap() > 0);
    });
}

pub fn audit_entries_go_with_the_entry_that_says_so(place: &dyn Place) {
    let (mut model, writes) = Model::history(40);
    let store = place.open();
    store.write(&writes).unwrap();
    for count in [1, 17, 5] {
        store.compact_audit(&model.compact_audit(count)).unwrap();
        model.assert_is_in(store.as_ref());
    }
    drop(store);
    let store = place.open();
    model.assert_is_in(store.as_ref());
    // Everything may go but the entry that says so, and writing goes on.
    let all = model.entries.len();
    store.compact_audit(&model.compact_audit(all)).unwrap();
    assert_eq!(model.entries.len(), 1);
    model.assert_is_in(store.as_ref());
    let write = model.set([rich_partner(domain(1), 500, 0)]);
    store.write(&[write]).unwrap();
    store.compact_audit(&model.compact_audit(2)).unwrap();
    drop(store);
    model.assert_is_in(place.open().as_ref());
}

pub fn a_removal_that_says_otherwise_than_the_store_is_refused(place: &dyn Place) {
    let mut model = written(place);
    let store = place.open();
    store.compact_audit(&model.compact_audit(2)).unwrap();
    drop(store);
    let stated = model.clone().compact_audit(3);
    let other = |change: &dyn Fn(&mut AuditEntry)| {
        let mut wrong = stated.clone();
        change(&mut wrong);
        wrong
    };
    let removal = |change: &dyn Fn(&mut crate::domain::audit::Removal)| {
        other(&|entry| match &mut entry.event {
            Event::Retention(removal) => change(removal),
            _ => panic!("a removal was stated"),
        })
    };
    let wrong = [
        other(&|entry| entry.event = Event::Stop),
        other(&|entry| entry.sequence += 1),
        other(&|entry| entry.previous_hash[0] ^= 1),
        removal(&|removal| removal.last.hash[0] ^= 1),
        removal(&|removal| removal.last.sequence += 1),
        removal(&|removal| removal.count = 4),
        removal(&|removal| (removal.count, removal.last) = (0, model.audit_base)),
        removal(&|removal| (removal.count, removal.last.sequence) = (98, 100)),
    ];
    for statement in wrong {
        let store = place.open();
        let error = store.compact_audit(&statement).unwrap_err();
        assert!(matches!(error, StoreError::Io(_)), "{error}");
        // The writer is at odds with the store, so what it writes next is not to be trusted.
        let error = store.compact_audit(&stated).unwrap_err();
        assert!(matches!(error, StoreError::Io(_)), "{error}");
        drop(store);
        model.assert_is_in(place.open().as_ref());
    }
}

pub fn a_reader_of_audit_entries_that_go_is_told_so(place: &dyn Place) {
    let mut model = Model::default();
    let store = place.open();
    for number in 0..40 {
        let write = model.set([rich_partner(domain(number), 100, number)]);
        store.write(&[write]).unwrap();
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut after, mut complaints) = (0, 0);
            while after < 40 {
                match store.audit_after(after, 5) {
                    Ok(entries) => assert_eq!(entries[0].sequence, after + 1),
                    Err(StoreError::AuditCompacted { oldest }) => {
                        assert!(oldest > after + 1);
                        after = oldest - 1;
                        complaints += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            complaints
        });
        for _ in 0..40 {
            store.compact_audit(&model.compact_audit(1)).unwrap();
        }
        assert!(reader.join().unwrap() > 0);
    });
    model.assert_is_in(store.as_ref());
}

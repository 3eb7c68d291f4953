//! Whatever the service did, however its messages are cut and wherever connections end, each commit
//! comes out once, whole and in order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{changed, of, removed, synced};
use crate::{
    client::{Message, assembly::Assembly, state::State},
    proto::{v1::WatchEvent, watch::WatchAllowedPartnersResponse},
};

/// A history: what each revision did. Some are not for this stream.
type History = Vec<Vec<(u8, bool)>>;

fn events_of(revision: usize, commit: &[(u8, bool)]) -> Vec<WatchEvent> {
    let number = i64::try_from(revision).unwrap();
    let event = |(partner, goes): &(u8, bool)| {
        let domain = format!("p{partner}.example");
        if *goes { removed(number, &domain) } else { changed(number, &domain, &number.to_string()) }
    };
    commit.iter().map(event).collect()
}

/// The state after `revision`: each partner's owner.
fn model(history: &History, revision: usize) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    for (number, commit) in history.iter().enumerate().take(revision) {
        for (partner, goes) in commit {
            let domain = format!("p{partner}.example");
            if *goes {
                state.remove(&domain);
            } else {
                state.insert(domain, (number + 1).to_string());
            }
        }
    }
    state
}

/// The messages of a connection from after `start` to `end`, cut into pieces of `cut` events, with
/// progress told after every `mark`th piece.
fn connection(
    history: &History,
    start: usize,
    end: usize,
    cut: usize,
    mark: usize,
) -> Vec<WatchAllowedPartnersResponse> {
    let (mut events, mut following) = (Vec::new(), Vec::new());
    if start == 0 {
        let revision = i64::try_from(end / 2).unwrap();
        let state = model(history, end / 2);
        let state: Vec<_> =
            state.iter().map(|(domain, owner)| changed(revision, domain, owner)).collect();
        following.extend(state.chunks(cut).map(of));
        following.push(synced(revision));
    }
    let first = if start == 0 { end / 2 } else { start };
    for (number, commit) in history.iter().enumerate().take(end).skip(first) {
        events.extend(events_of(number + 1, commit));
    }
    let mut at = 0;
    for (piece, chunk) in events.chunks(cut).enumerate() {
        at += chunk.len();
        let last = chunk.last().unwrap().revision;
        let more = events.get(at).is_some_and(|next| next.revision == last);
        let whole = if more { last - 1 } else { last };
        following.push(WatchAllowedPartnersResponse {
            more_of_this_revision: more,
            progress_revision: if piece % mark == 0 { whole } else { 0 },
            ..of(chunk)
        });
    }
    following
}

proptest! {
    #[test]
    fn every_commit_comes_out_once_whole_and_in_order(
        history in prop::collection::vec(prop::collection::vec((0_u8..6, any::<bool>()), 0..5), 1..40),
        connections in prop::collection::vec((1_usize..8, 1_usize..4, 0_usize..30), 1..12),
    ) {
        let history: History = history
            .into_iter()
            .map(|mut commit| {
                commit.sort();
                commit.dedup_by_key(|(partner, _)| *partner);
                commit
            })
            .collect();
        let mut state = State::default();
        let mut seen = Vec::new();
        // The last connection is long enough to tell everything.
        let all = connections.into_iter().chain([(3, 1, usize::MAX)]);
        for (cut, mark, length) in all {
            let start = usize::try_from(state.revision).unwrap();
            let mut assembly = Assembly::new(state.revision);
            let mut ready = VecDeque::new();
            let messages = connection(&history, start, history.len(), cut, mark);
            for response in messages.iter().take(length) {
                assembly.take(response, Instant::now(), &mut ready).unwrap();
            }
            for message in ready {
                match message {
                    Message::Listed(listing) => {
                        seen.clear();
                        state = State::of_listing(&listing);
                    }
                    Message::Changed(batch) => {
                        let whole = events_of(usize::try_from(batch.revision).unwrap(),
                            &history[usize::try_from(batch.revision).unwrap() - 1]);
                        prop_assert_eq!(&batch.events, &whole);
                        prop_assert!(seen.last().is_none_or(|last| *last < batch.revision));
                        seen.push(batch.revision);
                        state.apply(batch);
                    }
                    Message::InStep { revision } => state.revision = revision,
                    other => prop_assert!(false, "{:?}", other),
                }
                let revision = usize::try_from(state.revision).unwrap();
                let now: BTreeMap<_, _> = state.partners.iter()
                    .map(|(domain, partner)| (domain.to_string(), partner.owner.clone()))
                    .collect();
                prop_assert_eq!(now, model(&history, revision));
            }
        }
        let listed_at = i64::try_from(history.len() / 2).unwrap();
        let missing = history.iter().enumerate().skip(usize::try_from(listed_at).unwrap());
        let expected: Vec<_> = missing
            .filter(|(_, commit)| !commit.is_empty())
            .map(|(number, _)| i64::try_from(number + 1).unwrap())
            .collect();
        prop_assert_eq!(seen, expected);
    }
}

//! Reading all partners: one thread walks the tree, one for each core takes apart what it finds.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use sled::IVec;

use super::{
    check::Check,
    layout::{self, Note, Tally},
};
use crate::{
    domain::AllowedPartner,
    store::{StoreError, codec::Texts},
};

/// The values that are taken apart at once.
pub(super) const BLOCK: usize = 512;

/// The blocks that are found before they are taken apart; more would only keep sled's pages in
/// memory.
const MOST_WAITING: usize = 4;

/// Values and their keys as the tree has them, and the place of the block among the others.
type Found = (usize, Vec<(IVec, IVec)>);

/// All partners, sorted by domain, and the tally of their values.
pub(super) struct Census {
    pub(super) partners: Vec<Arc<AllowedPartner>>,
    pub(super) tally: Tally,
}

/// The partners of a block.
struct Block {
    partners: Vec<Arc<AllowedPartner>>,
    /// A hash of every domain in force.
    domains: Vec<u64>,
    tally: Tally,
}

/// Reads every partner and checks them against each other and the store's note.
pub(super) fn take(check: Check<'_>) -> Result<Census, StoreError> {
    let hashes = RandomState::new();
    let (sender, receiver) = mpsc::sync_channel(MOST_WAITING);
    // Its last holder closes the channel, so a thread that panics leaves nobody waiting for it.
    let receiver = Arc::new(Mutex::new(receiver));
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (walked, blocks) = thread::scope(|scope| {
        let readers: Vec<_> = (0..cores)
            .map(|_| (Arc::clone(&receiver), &hashes))
            .map(|(receiver, hashes)| scope.spawn(move || read(check, &receiver, hashes)))
            .collect();
        drop(receiver);
        let walked = walk(check, sender);
        let blocks: thread::Result<Vec<_>> =
            readers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        (walked, blocks)
    });
    let blocks = blocks.map_err(|_| check.folder.damaged("reading the partners panicked"))?;
    walked?;
    let mut blocks: Vec<_> = blocks.into_iter().flatten().collect();
    blocks.sort_unstable_by_key(|(place, _)| *place);
    let blocks = blocks.into_iter().map(|(_, block)| block).collect::<Result<Vec<_>, _>>()?;
    let domains = blocks.iter().flat_map(|block| block.domains.iter().copied()).collect();
    let tally = blocks.iter().fold(Tally::default(), |sum, block| sum.plus(block.tally));
    let partners: Vec<_> = blocks.into_iter().flat_map(|block| block.partners).collect();
    check_counts(check, &partners)?;
    check_owners(check, &partners, domains)?;
    Ok(Census { partners, tally })
}

/// Sends all that the tree has of partners, in blocks, as long as there are readers.
fn walk(check: Check<'_>, readers: SyncSender<Found>) -> Result<(), StoreError> {
    let mut pairs = check.tree.scan_prefix([layout::PARTNERS]);
    for place in 0.. {
        let block: Vec<_> =
            check.folder.shielded("reading", || pairs.by_ref().take(BLOCK).collect())?;
        if block.is_empty() || readers.send((place, block)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Takes blocks apart until there are no more. After a damaged one it goes on, so that of several
/// the first is told of.
fn read(
    check: Check<'_>,
    found: &Mutex<Receiver<Found>>,
    hashes: &RandomState,
) -> Vec<(usize, Result<Block, StoreError>)> {
    let mut texts = Texts::default();
    let mut blocks = Vec::new();
    let next = || found.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((place, pairs)) = next() {
        blocks.push((place, Block::of(check, pairs, &mut texts, hashes)));
    }
    blocks
}

impl Block {
    fn of(
        check: Check<'_>,
        pairs: Vec<(IVec, IVec)>,
        texts: &mut Texts,
        hashes: &RandomState,
    ) -> Result<Self, StoreError> {
        let mut block = Self {
            partners: Vec::with_capacity(pairs.len()),
            domains: Vec::with_capacity(2 * pairs.len()),
            tally: Tally::default(),
        };
        for (key, bytes) in pairs {
            block.tally.add(&bytes);
            let partner: AllowedPartner = check.value(&key, &bytes, texts)?;
            if key != layout::partner_key(&partner.domain) {
                return Err(check.nonsense(&key, format!("it is of {}", partner.domain)));
            }
            if partner.revision > check.note.revision {
                let revision = partner.revision;
                return Err(check.nonsense(&key, format!("its revision {revision} is to come")));
            }
            if partner.delete_time.is_none() {
                block.domains.extend(partner.domains().map(|domain| hashes.hash_one(domain)));
            }
            block.partners.push(Arc::new(partner));
        }
        Ok(block)
    }
}

fn check_counts(check: Check<'_>, partners: &[Arc<AllowedPartner>]) -> Result<(), StoreError> {
    let live = partners.iter().filter(|partner| partner.delete_time.is_none()).count() as u64;
    let deleted = partners.len() as u64 - live;
    let Note { live: expected_live, deleted: expected_deleted, .. } = *check.note;
    if (live, deleted) != (expected_live, expected_deleted) {
        return Err(check.folder.damaged(&format!(
            "there are {live} partners and {deleted} deleted ones, and there should be \
             {expected_live} and {expected_deleted}"
        )));
    }
    Ok(())
}

/// Checks that no domain belongs to two partners. Domains whose hashes differ do; only when two
/// are alike the domains themselves are looked at.
fn check_owners(
    check: Check<'_>,
    partners: &[Arc<AllowedPartner>],
    mut hashes: Vec<u64>,
) -> Result<(), StoreError> {
    hashes.sort_unstable();
    if hashes.windows(2).all(|pair| pair[0] != pair[1]) {
        return Ok(());
    }
    let in_force = partners.iter().filter(|partner| partner.delete_time.is_none());
    let mut owned = HashSet::with_capacity(hashes.len());
    let twice = in_force.flat_map(|it| it.domains()).find(|domain| !owned.insert(*domain));
    twice.map_or(Ok(()), |domain| {
        Err(check.folder.damaged(&format!("the domain {domain} belongs to two partners")))
    })
}

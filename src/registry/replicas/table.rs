//! The table of replicas, and what of it the store has yet to learn.
//!
//! What is handed to the writer is handed over under the table's lock, so the store sees the
//! changes of a replica in their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{Convergence, ReplicaOptions};
use crate::{
    domain::{
        Revision,
        audit::{Actor, Event, FieldChange, ResourceChange, Verb},
        replica::{Replica, ReplicaId, Report, State, Yardstick},
    },
    registry::{
        Error, Kind,
        writer::{Saved, Writer},
    },
    store::ReplicaWrite,
};

/// How old the stored time of the last report may get while there is nothing else to store.
const SIGN_OF_LIFE: SignedDuration = SignedDuration::from_secs(60);

/// The most replicas that one write keeps.
const MAX_SAVED: usize = 1_000;

/// The replicas.
#[derive(Debug)]
pub(in crate::registry) struct Replicas {
    pub(super) options: ReplicaOptions,
    /// Since when reports can be heard.
    pub(super) listening_since: Timestamp,
    table: Mutex<Table>,
    /// Rings when a wait may be over.
    bell: watch::Sender<()>,
    is_draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<ReplicaId, Entry>,
    /// Those that the store does not know as they are.
    unsaved: BTreeSet<ReplicaId>,
}

#[derive(Debug)]
struct Entry {
    replica: Arc<Replica>,
    /// As it was last handed to the store.
    saved: Arc<Replica>,
}

impl Replicas {
    pub(in crate::registry) fn new(kept: Vec<Arc<Replica>>, options: ReplicaOptions) -> Self {
        let entries = kept
            .into_iter()
            .map(|replica| (replica.id.clone(), Entry { saved: Arc::clone(&replica), replica }));
        let table = Table { entries: entries.collect(), unsaved: BTreeSet::new() };
        Self {
            options,
            listening_since: Timestamp::now(),
            table: Mutex::new(table),
            bell: watch::Sender::new(()),
            is_draining: AtomicBool::new(false),
        }
    }

    /// Takes a report. For one that binds an id, what to wait for before it is answered.
    pub(super) fn take(
        &self,
        id: &ReplicaId,
        actor: &Actor,
        report: Report,
        writer: &Writer,
    ) -> Result<Option<Saved>, Error> {
        let now = Timestamp::now();
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(id) else {
            if table.entries.len() >= self.options.max_count {
                return Err(Kind::TooManyReplicas { limit: self.options.max_count }.into());
            }
            let replica = Arc::new(Replica::first(id.clone(), actor, report, now));
            let bound = (actor.clone(), Event::Replica(bound(&replica)));
            let saved = writer.keep(vec![ReplicaWrite::Keep(Arc::clone(&replica))], Some(bound))?;
            let entry = Entry { saved: Arc::clone(&replica), replica };
            table.entries.insert(id.clone(), entry);
            drop(table);
            self.bell.send_replace(());
            return Ok(Some(saved));
        };
        if !entry.replica.is_of(actor) {
            return Err(Kind::ReplicaOfAnother { replica: id.clone() }.into());
        }
        let before = Arc::clone(&entry.replica);
        entry.replica = Arc::new(before.reported(report, now));
        let is_unsaved = entry.is_unsaved();
        let rings = !entry.replica.lasts_like(&before);
        if is_unsaved {
            table.unsaved.insert(id.clone());
        }
        drop(table);
        if rings {
            self.bell.send_replace(());
        }
        Ok(None)
    }

    pub(super) fn get(&self, id: &ReplicaId) -> Option<Arc<Replica>> {
        self.table().entries.get(id).map(Entry::replica)
    }

    /// A bell that rings when a wait may be over.
    pub(super) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// Whether no wait may go on, because the server goes away.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Ends the waits.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.bell.send_replace(());
    }

    /// How many replicas the store does not know as they are.
    #[cfg(test)]
    pub(super) fn unsaved(&self) -> usize {
        self.table().unsaved.len()
    }

    /// Takes back a binding that could not be written.
    pub(super) fn unbind(&self, id: &ReplicaId) {
        let mut table = self.table();
        table.entries.remove(id);
        table.unsaved.remove(id);
    }

    /// Forgets a replica on behalf of `actor`, and frees its id; `None` if there is none.
    pub(super) fn remove(
        &self,
        id: &ReplicaId,
        actor: &Actor,
        writer: &Writer,
    ) -> Result<Option<Saved>, Error> {
        let mut table = self.table();
        let Some(entry) = table.entries.get(id) else { return Ok(None) };
        let freed = (actor.clone(), Event::Replica(freed(&entry.replica)));
        let saved = writer.keep(vec![ReplicaWrite::Forget(id.clone())], Some(freed))?;
        table.entries.remove(id);
        table.unsaved.remove(id);
        drop(table);
        self.bell.send_replace(());
        Ok(Some(saved))
    }

    /// Hands some of what the store does not know to the writer; `None` if it knows everything.
    pub(super) fn save(&self, writer: &Writer) -> Result<Option<Saved>, Error> {
        let mut table = self.table();
        let Table { entries, unsaved } = &mut *table;
        let ids: Vec<_> = unsaved.iter().take(MAX_SAVED).cloned().collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let replicas = ids.iter().filter_map(|id| entries.get(id));
        let writes = replicas.map(|entry| ReplicaWrite::Keep(Arc::clone(&entry.replica)));
        let saved = writer.keep(writes.collect(), None)?;
        for id in ids {
            unsaved.remove(&id);
            if let Some(entry) = entries.get_mut(&id) {
                entry.saved = Arc::clone(&entry.replica);
            }
        }
        Ok(Some(saved))
    }

    /// How far the replicas are with `revision`, and when the next of those that have not got it
    /// becomes silent.
    pub(super) fn convergence(
        &self,
        revision: Revision,
        by: Yardstick,
    ) -> (Convergence, Timestamp) {
        let all = self.all();
        let mut found = Convergence {
            revision,
            replicas: all.len(),
            in_force: 0,
            closed: 0,
            pending: Vec::new(),
        };
        let mut next_silence = Timestamp::MAX;
        for replica in all {
            if replica.has(revision, by.target) {
                found.in_force += 1;
                found.closed = found.closed.saturating_add(replica.closed_by(revision, by.target));
                continue;
            }
            let state = replica.state(by);
            if state != State::Silent {
                next_silence = next_silence.min(replica.silent_from(by));
            }
            found.pending.push((replica, state));
        }
        (found, next_silence)
    }

    pub(super) fn all(&self) -> Vec<Arc<Replica>> {
        self.table().entries.values().map(Entry::replica).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn replica(&self) -> Arc<Replica> {
        Arc::clone(&self.replica)
    }

    /// Whether the store should learn of what has changed.
    fn is_unsaved(&self) -> bool {
        let age = self.replica.last_report_time.duration_since(self.saved.last_report_time);
        age >= SIGN_OF_LIFE || !self.replica.lasts_like(&self.saved)
    }
}

/// What the audit says of an id that is bound to a subject.
fn bound(replica: &Replica) -> ResourceChange {
    changed(replica, Verb::Create, |field, value| FieldChange {
        field: field.to_owned(),
        before: String::new(),
        after: value.to_owned(),
    })
}

/// What the audit says of an id that is free again.
fn freed(replica: &Replica) -> ResourceChange {
    changed(replica, Verb::Delete, |field, value| FieldChange {
        field: field.to_owned(),
        before: value.to_owned(),
        after: String::new(),
    })
}

fn changed(
    replica: &Replica,
    verb: Verb,
    field: impl Fn(&str, &str) -> FieldChange,
) -> ResourceChange {
    let Replica { id, issuer, subject, .. } = replica;
    ResourceChange {
        resource: format!("replicas/{id}"),
        verb,
        fields: vec![field("issuer", issuer), field("subject", subject)],
    }
}

//! The audit's use cases: reading the chain, following it, holding it against checkpoints, removing
//! what is kept no longer, and writing down what is no commit.

mod retention;
mod verify;
mod watch;

use std::sync::Arc;

pub(super) use self::retention::Halted;
pub use self::{retention::AuditRetention, verify::Verification, watch::AuditWatcher};

use super::{
    Committed, Error, Kind, Registry, Snapshot,
    listing::MAX_PAGE_BYTES,
    pages::{PageToken, query_digest},
};
use crate::{
    auth::{
        Permit,
        incident::{Identity, Incident, What},
        permit::{Action as _, GetAuditEntry, ListAuditEntries, Reach, VerifyAudit},
    },
    domain::{
        DomainName, Revision,
        audit::{Actor, AuditEntry, Checkpoint, Event, Refusal, ResourceChange},
        filter::Filter,
    },
    store::StoreError,
};

/// The entries that are read at once.
const BLOCK: u64 = 256;

/// The entries that one page looks at; with a filter that lets few through, a page has fewer than
/// were asked for, or none.
const MOST_LOOKED_AT: u64 = 20_000;

/// What a listing of the audit is asked for.
#[derive(Debug)]
pub struct AuditQuery {
    /// Which entries.
    pub filter: Filter<AuditEntry>,
    /// Whether the newest come first, or the oldest.
    pub newest_first: bool,
    /// The most entries of a page; at least 1.
    pub page_size: usize,
    /// The token of the page, empty for the first.
    pub page_token: String,
}

/// A page of the audit.
#[derive(Debug)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// The token of the next page; `None` on the last one.
    pub next: Option<String>,
    /// The revision when the page was made.
    pub revision: Revision,
}

impl Registry {
    /// Writes down what happened beside the commits.
    ///
    /// # Errors
    /// [`Kind::Overloaded`], [`Kind::ReadOnly`], [`Kind::Draining`].
    pub async fn record(&self, events: Vec<(Actor, Event)>) -> Result<(), Error> {
        self.writer.record(events).await
    }

    /// Writes down who was refused, as it was collected.
    ///
    /// # Errors
    /// As for [`Registry::record`].
    pub async fn record_refusals(&self, incidents: Vec<Incident>) -> Result<(), Error> {
        if incidents.is_empty() {
            return Ok(());
        }
        self.record(incidents.into_iter().map(refused).collect()).await
    }

    /// Signs the end of the chain, unless nothing happened since that was last done. To be called
    /// now and then.
    ///
    /// # Errors
    /// As for [`Registry::record`].
    pub async fn seal_audit(&self) -> Result<Checkpoint, Error> {
        self.writer.seal().await
    }

    /// A checkpoint of the end of the chain, for somebody to keep elsewhere.
    ///
    /// # Errors
    /// As for [`Registry::record`].
    pub async fn checkpoint(
        &self,
        _permit: &Permit<VerifyAudit>,
    ) -> Result<Committed<Checkpoint>, Error> {
        let result = self.writer.seal().await?;
        Ok(Committed { result, revision: self.revision() })
    }

    /// One entry. Reads the store, so not for async threads; neither are the others here.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Hidden`] if it is not for the permit's holder to see.
    pub fn audit_entry(
        &self,
        permit: &Permit<GetAuditEntry>,
        sequence: u64,
    ) -> Result<Committed<AuditEntry>, Error> {
        let snapshot = self.snapshot();
        let resource = format!("auditEntries/{sequence}");
        let hint = "ListAuditEntries tells which there are".to_owned();
        let missing = Kind::NotFound { resource: resource.clone(), hint: hint.clone() };
        let Some(before) = sequence.checked_sub(1) else { return Err(missing.into()) };
        let entry = match self.store.audit_after(before, 1) {
            Err(StoreError::AuditCompacted { .. }) => None,
            found => found?.pop(),
        };
        match entry {
            None => Err(missing.into()),
            Some(result) if is_visible(&result, permit.reach(), &snapshot) => {
                Ok(Committed { result, revision: snapshot.revision() })
            }
            Some(_) => {
                let permission = GetAuditEntry::PERMISSION;
                Err(Kind::Hidden { resource, hint, permission }.into())
            }
        }
    }

    /// A page of the entries that the permit reaches.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a bad page token.
    pub fn audit_entries(
        &self,
        permit: &Permit<ListAuditEntries>,
        query: &AuditQuery,
    ) -> Result<AuditPage, Error> {
        let reach = format!("{:?}", permit.reach());
        let order = if query.newest_first { "newest" } else { "oldest" };
        let digest = query_digest(&["audit", query.filter.as_str(), order, &reach]);
        let last = self.current.audit.borrow().sequence;
        let mut oldest = self.store.audit().base.sequence + 1;
        let mut place = match query.page_token.as_str() {
            "" if query.newest_first => last + 1,
            "" => 0,
            text => PageToken::decode(text, digest)?.after.parse().unwrap_or(0),
        };
        let snapshot = self.snapshot();
        let mut entries: Vec<AuditEntry> = Vec::new();
        let (mut looked_at, mut weight, mut full) = (0, 0, false);
        while looked_at < MOST_LOOKED_AT && !full {
            let block = match self.block(place, oldest, query.newest_first) {
                // They went while they were being read.
                Err(StoreError::AuditCompacted { oldest: now }) => {
                    oldest = now;
                    continue;
                }
                block => block?,
            };
            if block.is_empty() {
                return Ok(AuditPage { entries, next: None, revision: snapshot.revision() });
            }
            for entry in block {
                let found =
                    is_visible(&entry, permit.reach(), &snapshot) && query.filter.matches(&entry);
                let heavier = weight + entry.weight();
                if found && !entries.is_empty() && heavier > MAX_PAGE_BYTES {
                    full = true;
                    break;
                }
                place = entry.sequence;
                looked_at += 1;
                if found {
                    weight = heavier;
                    entries.push(entry);
                    full = entries.len() == query.page_size;
                    if full {
                        break;
                    }
                }
            }
        }
        let revision = snapshot.revision();
        let at_the_end = if query.newest_first { place <= oldest } else { place >= last };
        let token = PageToken { revision, total: 0, query: digest, after: place.to_string() };
        Ok(AuditPage { entries, next: (!at_the_end).then(|| token.encode()), revision })
    }

    /// The entries next to `place`, before or after it, none of them before `oldest`.
    fn block(
        &self,
        place: u64,
        oldest: u64,
        newest_first: bool,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let before_oldest = oldest.saturating_sub(1);
        if !newest_first {
            let after = place.max(before_oldest);
            return self.store.audit_after(after, usize::try_from(BLOCK).unwrap_or(1));
        }
        let count = place.saturating_sub(oldest).min(BLOCK);
        if count == 0 {
            return Ok(Vec::new());
        }
        let after = place.saturating_sub(1) - count;
        let mut block = self.store.audit_after(after, usize::try_from(count).unwrap_or(1))?;
        block.reverse();
        Ok(block)
    }
}

/// An incident as the audit keeps it. What a stranger says of himself is kept as that.
fn refused(incident: Incident) -> (Actor, Event) {
    let Incident { first_time, last_time, count, what } = incident;
    let What { source, identity, reason, permission } = what;
    let text = |text: Arc<str>| text.to_string();
    let mut actor = Actor { subject: "".into(), ..Actor::service("") };
    let (mut claimed_issuer, mut claimed_subject) = (String::new(), String::new());
    match identity {
        Identity::Unknown => {}
        Identity::Claimed { issuer, subject } => {
            (claimed_issuer, claimed_subject) = (text(issuer), text(subject));
        }
        Identity::Verified { issuer, subject } => {
            (actor.issuer, actor.subject) = (issuer, subject);
        }
    }
    let refusal = Refusal {
        reason: reason.to_owned(),
        permission: permission.map_or_else(String::new, |permission| permission.to_string()),
        source: source.map_or_else(String::new, |source| source.to_string()),
        claimed_issuer,
        claimed_subject,
        count,
        first_time,
        last_time,
    };
    match permission {
        Some(_) => (actor, Event::Denial(refusal)),
        None => (actor, Event::LoginFailure(refusal)),
    }
}

/// Whether somebody who reaches so far may see an entry: all of it, or what is about partners that
/// are wholly within his reach, as they are now and as the entry shows them.
fn is_visible(entry: &AuditEntry, reach: &Reach, snapshot: &Snapshot) -> bool {
    if reach.is_everything() {
        return true;
    }
    match &entry.event {
        Event::Commit { changes } => {
            !changes.is_empty() && changes.iter().all(|change| is_within(change, reach, snapshot))
        }
        _ => false,
    }
}

fn is_within(change: &ResourceChange, reach: &Reach, snapshot: &Snapshot) -> bool {
    let Some(domain) =
        change.resource.strip_prefix("allowedPartners/").and_then(DomainName::from_stored)
    else {
        return false;
    };
    let now = snapshot.partner(&domain).or_else(|| snapshot.deleted(&domain));
    let fields = change.fields.iter().filter(|field| field.field == "additional_domains");
    let mut shown = fields
        .flat_map(|field| field.before.split(',').chain(field.after.split(',')))
        .filter(|text| !text.is_empty());
    reach.covers_domain(&domain)
        && now.is_none_or(|partner| reach.covers(partner))
        && shown.all(|text| {
            DomainName::from_stored(text).is_some_and(|domain| reach.covers_domain(&domain))
        })
}

/// What keeps `Registry::audit_entries` and its like off async threads.
pub async fn off_thread<T: Send + 'static>(
    registry: &Arc<Registry>,
    read: impl FnOnce(&Registry) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let registry = Arc::clone(registry);
    tokio::task::spawn_blocking(move || read(&registry))
        .await
        .unwrap_or_else(|error| Err(Kind::Internal(error.to_string()).into()))
}

//! The audit's use cases: reading the chain, holding it against checkpoints, and writing down what
//! is no commit.

use std::sync::Arc;

use super::{
    Committed, Error, Kind, Registry, Snapshot,
    listing::MAX_PAGE_BYTES,
    pages::{PageToken, query_digest},
};
use crate::{
    auth::{
        Permit,
        incident::{Identity, Incident, What},
        permit::{GetAuditEntry, ListAuditEntries, Reach, VerifyAudit},
    },
    domain::{
        DomainName, Revision,
        audit::{
            Actor, AuditEntry, ChainHead, Checkpoint, Event, Fault, PublicKey, Refusal,
            ResourceChange, Walk,
        },
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

/// What came of holding the chain against itself.
#[derive(Debug)]
pub struct Verification {
    /// The first fault; `None` if there is none.
    pub fault: Option<Fault>,
    /// The last entry that is as it should be, before the fault if there is one.
    pub head: ChainHead,
    /// How many checkpoints in the chain are genuine.
    pub checkpoints: u64,
    /// The key that this server signs checkpoints with.
    pub public_key: PublicKey,
    /// The revision when this was begun.
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
    /// [`Kind::NotFound`].
    pub fn audit_entry(
        &self,
        permit: &Permit<GetAuditEntry>,
        sequence: u64,
    ) -> Result<Committed<AuditEntry>, Error> {
        let snapshot = self.snapshot();
        let missing = || {
            let resource = format!("auditEntries/{sequence}");
            let hint = "ListAuditEntries tells which there are".to_owned();
            Error::from(Kind::NotFound { resource, hint })
        };
        let before = sequence.checked_sub(1).ok_or_else(missing)?;
        let entry = self.store.audit_after(before, 1)?.into_iter().next();
        let entry = entry.filter(|entry| is_visible(entry, permit.reach(), &snapshot));
        let result = entry.ok_or_else(missing)?;
        Ok(Committed { result, revision: snapshot.revision() })
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
        let mut place = match query.page_token.as_str() {
            "" if query.newest_first => last + 1,
            "" => 0,
            text => PageToken::decode(text, digest)?.after.parse().unwrap_or(0),
        };
        let snapshot = self.snapshot();
        let mut entries: Vec<AuditEntry> = Vec::new();
        let (mut looked_at, mut weight, mut full) = (0, 0, false);
        while looked_at < MOST_LOOKED_AT && !full {
            let block = self.block(place, query.newest_first)?;
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
        let at_the_end = if query.newest_first { place <= 1 } else { place >= last };
        let token = PageToken { revision, total: 0, query: digest, after: place.to_string() };
        Ok(AuditPage { entries, next: (!at_the_end).then(|| token.encode()), revision })
    }

    /// The entries next to `place`, before or after it.
    fn block(&self, place: u64, newest_first: bool) -> Result<Vec<AuditEntry>, Error> {
        if !newest_first {
            return Ok(self.store.audit_after(place, usize::try_from(BLOCK).unwrap_or(1))?);
        }
        let count = place.saturating_sub(1).min(BLOCK);
        let after = place.saturating_sub(1) - count;
        let mut block = self.store.audit_after(after, usize::try_from(count).unwrap_or(1))?;
        block.reverse();
        Ok(block)
    }

    /// Walks the chain from its beginning, and holds it against checkpoints kept elsewhere.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the store cannot be read.
    pub fn verify_audit(
        &self,
        _permit: &Permit<VerifyAudit>,
        kept: Vec<Checkpoint>,
    ) -> Result<Verification, Error> {
        let revision = self.revision();
        let public_key = self.audit_key.public_key();
        let end = *self.current.audit.borrow();
        let verification = |fault, walk: Option<&Walk>| Verification {
            fault,
            head: walk.map(Walk::head).unwrap_or_default(),
            checkpoints: walk.map_or(0, Walk::checkpoints),
            public_key,
            revision,
        };
        let mut walk = match Walk::new(Some(public_key), kept) {
            Ok(walk) => walk,
            Err(fault) => return Ok(verification(Some(fault), None)),
        };
        if let Some(fault) = self.walk_to(end.sequence, &mut walk)? {
            return Ok(verification(Some(fault), Some(&walk)));
        }
        match walk.clone().end() {
            Ok(walk) => Ok(verification(None, Some(&walk))),
            Err(fault) => Ok(verification(Some(fault), Some(&walk))),
        }
    }

    /// Walks on to the entry `last`. Gives the first fault, if there is one.
    fn walk_to(&self, last: u64, walk: &mut Walk) -> Result<Option<Fault>, Error> {
        while walk.head().sequence < last {
            let at = walk.head().sequence;
            let block = self.store.audit_after(at, usize::try_from(BLOCK).unwrap_or(1));
            let block = match block {
                // One of many: those before it are good, and it is to be named itself.
                Err(StoreError::Damaged(_)) => self.store.audit_after(at, 1),
                other => other,
            };
            match block {
                Ok(block) if block.is_empty() => {
                    let text = "it is missing, with all after it".to_owned();
                    return Ok(Some(Fault { sequence: at + 1, text }));
                }
                Ok(block) => {
                    let stepped = block.iter().try_for_each(|entry| walk.step(entry));
                    if let Err(fault) = stepped {
                        return Ok(Some(fault));
                    }
                }
                Err(StoreError::Damaged(text)) => {
                    tracing::error!(error = text, "an audit entry is damaged");
                    let text = "it cannot be read: its checksum does not fit it".to_owned();
                    return Ok(Some(Fault { sequence: at + 1, text }));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
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

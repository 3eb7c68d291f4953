//! The past of a partner: what became of it, what it was at a revision, and back to that.
//!
//! There is no index of the past. A partner carries the revision of its last change, and the commit
//! of that revision holds what was under the name before, which carries the revision of the change
//! before that: a linked list through the log. It is walked from the present backwards and ends
//! where the partner began, or where the log does.
//!
//! Who may not see a partner as it is now, in force or deleted, does not see its past; and of the
//! past he sees what lay within his reach.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use enumset::EnumSet;
use jiff::Timestamp;

use super::{
    Committed, Error, Kind, Registry, Request, Snapshot, audit,
    draft::{Draft, Staged},
    listing::MAX_PAGE_BYTES,
    pages::{PageToken, query_digest},
    partners::{Written, check_etag, check_scope, hidden, not_found, refuse, resource_name},
};
use crate::{
    auth::{
        Denial, Permit,
        permit::{Action, GetPartner, ListRevisions, RollbackPartner},
    },
    domain::{
        AllowedPartner, DomainName, Revision, Terms, Violation, audit::Actor, mask::TermField,
        role::Permission,
    },
    store::{AnswerResult, Change, Commit},
};

/// A page ends once so many changes were read for it, other partners' in the same commits
/// included, however many of them it shows.
const MAX_CHANGES_READ: usize = 20_000;

/// Tells a walk whether somebody still waits for what it finds; else it ends.
pub type Waiting<'a> = &'a dyn Fn() -> bool;

/// What is asked of a partner's history.
#[derive(Clone, Debug)]
pub struct RevisionsQuery {
    /// The most revisions of a page; at least 1.
    pub page_size: usize,
    /// The token of the page, empty for the first.
    pub page_token: String,
}

/// A page of a partner's history.
#[derive(Debug)]
pub struct RevisionsPage {
    /// The revisions, newest first.
    pub revisions: Vec<PartnerRevision>,
    /// The token of the next page; `None` on the last one.
    pub next: Option<String>,
    /// The oldest revision whose commit is kept.
    pub oldest_revision: Revision,
    /// The last revision there was.
    pub revision: Revision,
}

/// A partner as one commit left it.
#[derive(Clone, Debug)]
pub struct PartnerRevision {
    /// When it was committed.
    pub time: Timestamp,
    /// Who did it, and why.
    pub actor: Actor,
    /// The paths of the fields that it changed, sorted. Where there was no partner before, or none
    /// that the permit reaches: those that are not as they are by default.
    pub changed_fields: Vec<String>,
    /// The partner after it, deleted or in force.
    pub partner: Arc<AllowedPartner>,
}

/// A partner to be made what it was, and what that is.
#[derive(Debug)]
pub struct Rollback {
    permit: Permit<RollbackPartner>,
    past: Past,
}

impl Registry {
    /// A page of what became of a partner. Reads the log, so not for async threads.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Invalid`] for a bad page token.
    pub fn revisions(
        &self,
        permit: &Permit<ListRevisions>,
        query: &RevisionsQuery,
        waiting: Waiting<'_>,
    ) -> Result<RevisionsPage, Error> {
        let domain = permit.target();
        let snapshot = self.snapshot();
        let present =
            present(&snapshot, domain).ok_or_else(|| not_found(&snapshot, permit, domain))?;
        if !permit.covers(present) {
            return Err(hidden(&snapshot, permit, domain));
        }
        let digest =
            query_digest(&["revisions", domain.as_str(), &format!("{:?}", permit.reach())]);
        let start = match query.page_token.as_str() {
            "" => present.revision,
            text => PageToken::decode(text, digest)?.revision,
        };
        let mut walk = Walk { registry: self, domain, waiting, next: Some(start), changes_read: 0 };
        let revisions = walk.page(permit, query.page_size)?;
        let (oldest_revision, revision) = (snapshot.oldest_revision(), snapshot.revision());
        let next = walk.next.filter(|next| *next >= oldest_revision).map(|revision| {
            PageToken { revision, total: 0, query: digest, after: String::new() }.encode()
        });
        Ok(RevisionsPage { revisions, next, oldest_revision, revision })
    }

    /// A partner as it was at a revision; one that was deleted then only with `show_deleted`.
    /// Reads the log, so not for async threads.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Compacted`]; [`Kind::RevisionToCome`].
    pub fn get_at(
        &self,
        permit: &Permit<GetPartner>,
        revision: Revision,
        show_deleted: bool,
        waiting: Waiting<'_>,
    ) -> Result<Committed<Arc<AllowedPartner>>, Error> {
        let domain = permit.target();
        let snapshot = self.snapshot();
        if present(&snapshot, domain).is_some_and(|present| !permit.covers(present)) {
            return Err(hidden(&snapshot, permit, domain));
        }
        let past = self.past(&snapshot, domain, revision, waiting)?;
        let result = Arc::clone(past.partner(permit, domain, show_deleted)?);
        Ok(Committed { result, revision })
    }

    /// Finds out what a partner was at a revision, to make it that again. Reads the log, so not for
    /// async threads; the writer, which must not wait for reads, is given what was found. That
    /// cannot change any more.
    ///
    /// # Errors
    /// Only of the store: what there was or was not is for [`Registry::rollback`] to tell, once it
    /// knows that this is no retry.
    pub fn prepare_rollback(
        &self,
        permit: Permit<RollbackPartner>,
        revision: Revision,
        waiting: Waiting<'_>,
    ) -> Result<Rollback, Error> {
        let past = self.past(&self.snapshot(), permit.target(), revision, waiting)?;
        Ok(Rollback { permit, past })
    }

    /// Makes a partner what it was.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is not in force, or was not then; [`Kind::Compacted`];
    /// [`Kind::RevisionToCome`]; [`Kind::StaleEtag`]; [`Kind::Denied`] with the fields that differ and
    /// may not be changed; [`Kind::Invalid`]; [`Kind::DomainTaken`].
    pub async fn rollback(
        &self,
        rollback: Rollback,
        etag: Option<String>,
        request: Option<Request>,
    ) -> Result<Written, Error> {
        let (actor, purpose) = (rollback.permit.actor().clone(), rollback.permit.purpose());
        let work =
            Box::new(move |draft: &mut Draft<'_>| rolled_back(draft, &rollback, etag.as_deref()));
        self.write(actor, purpose, request, work).await
    }

    /// What was under a name at `revision`.
    fn past(
        &self,
        snapshot: &Snapshot,
        domain: &DomainName,
        revision: Revision,
        waiting: Waiting<'_>,
    ) -> Result<Past, Error> {
        if revision > snapshot.revision() {
            return Ok(Past::Ahead { current: snapshot.revision() });
        }
        let mut then = present(snapshot, domain).cloned();
        let mut walk = Walk { registry: self, domain, waiting, next: None, changes_read: 0 };
        while let Some(later) = then.as_ref().filter(|partner| partner.revision > revision) {
            match walk.step_at(later.revision)? {
                Step::Taken { before, .. } => then = before,
                Step::Compacted { oldest } => return Ok(Past::Compacted { oldest }),
                Step::Missing => return Err(broken_link(domain, later.revision)),
            }
        }
        Ok(match then {
            Some(partner) => Past::Partner { partner, revision },
            // A deleted partner goes with its history, so only what is kept tells that there was
            // none.
            None if revision.next() < snapshot.oldest_revision() => {
                Past::Compacted { oldest: snapshot.oldest_revision() }
            }
            None => Past::Nothing { revision },
        })
    }
}

/// What was under a name at a revision.
#[derive(Clone, Debug)]
enum Past {
    /// This partner, in force or deleted.
    Partner { partner: Arc<AllowedPartner>, revision: Revision },
    /// No partner.
    Nothing { revision: Revision },
    /// Nobody knows any more.
    Compacted { oldest: Revision },
    /// Nobody knows yet.
    Ahead { current: Revision },
}

impl Past {
    /// The partner, within reach; a deleted one only if `deleted_too`.
    fn partner<A: Action>(
        &self,
        permit: &Permit<A>,
        domain: &DomainName,
        deleted_too: bool,
    ) -> Result<&Arc<AllowedPartner>, Error> {
        let nothing =
            |hint: String| Err(Kind::NotFound { resource: resource_name(domain), hint }.into());
        match self {
            Self::Partner { partner, .. } if !permit.covers(partner) => Err(Kind::Hidden {
                resource: resource_name(domain),
                hint: String::new(),
                permission: A::PERMISSION,
            }
            .into()),
            Self::Partner { partner, revision }
                if partner.delete_time.is_some() && !deleted_too =>
            {
                let deleted = partner.revision;
                nothing(format!("at revision {revision} it was deleted, since revision {deleted}"))
            }
            Self::Partner { partner, .. } => Ok(partner),
            Self::Nothing { revision } => nothing(format!("there was none at revision {revision}")),
            Self::Compacted { oldest } => Err(Kind::Compacted { oldest: *oldest }.into()),
            Self::Ahead { current } => Err(Kind::RevisionToCome { current: *current }.into()),
        }
    }
}

/// A walk through the changes of one name, from the present backwards.
struct Walk<'a> {
    registry: &'a Registry,
    domain: &'a DomainName,
    waiting: Waiting<'a>,
    /// The revision of the change to look at next; `None` at the end.
    next: Option<Revision>,
    changes_read: usize,
}

/// What a walk finds at one revision.
enum Step {
    /// A change of the name.
    Taken { commit: Commit, before: Option<Arc<AllowedPartner>>, after: Arc<AllowedPartner> },
    /// The commit is no longer kept.
    Compacted { oldest: Revision },
    /// The commit has no change of the name.
    Missing,
}

impl Walk<'_> {
    /// The next revisions that the permit reaches.
    fn page(
        &mut self,
        permit: &Permit<ListRevisions>,
        page_size: usize,
    ) -> Result<Vec<PartnerRevision>, Error> {
        let mut page = Vec::new();
        let mut weight = 0;
        while let Some(revision) = self.next
            && page.len() < page_size
            && weight < MAX_PAGE_BYTES
            && self.changes_read < MAX_CHANGES_READ
        {
            let (commit, before, after) = match self.step_at(revision)? {
                Step::Taken { commit, before, after } => (commit, before, after),
                Step::Compacted { .. } => {
                    self.next = None;
                    break;
                }
                // Only a token can lead here: the links of the log do not.
                Step::Missing if page.is_empty() => return Err(PageToken::none_of_ours()),
                Step::Missing => return Err(broken_link(self.domain, revision)),
            };
            self.next = before.as_ref().map(|before| before.revision);
            if permit.covers(&after) {
                weight += after.weight();
                let before = before.filter(|before| permit.covers(before));
                page.push(PartnerRevision::of(commit, before.as_deref(), after));
            }
        }
        Ok(page)
    }

    /// The change of the name at `revision`.
    fn step_at(&mut self, revision: Revision) -> Result<Step, Error> {
        if !(self.waiting)() {
            return Err(Kind::Internal("nobody waits for this history any more".into()).into());
        }
        let found =
            match self.registry.store.commits_after(revision.before(1), 1).map_err(Error::from) {
                Ok(found) => found.into_iter().next(),
                Err(Error { kind: Kind::Compacted { oldest }, .. }) => {
                    return Ok(Step::Compacted { oldest });
                }
                Err(error) => return Err(error),
            };
        let Some(mut commit) = found else { return Ok(Step::Missing) };
        self.changes_read += commit.changes.len();
        let change =
            std::mem::take(&mut commit.changes).into_iter().find_map(|change| match change {
                Change::Partner { before, after } if after.domain == *self.domain => {
                    Some((before, after))
                }
                _ => None,
            });
        Ok(match change {
            Some((before, after)) => Step::Taken { commit, before, after },
            None => Step::Missing,
        })
    }
}

impl PartnerRevision {
    fn of(commit: Commit, before: Option<&AllowedPartner>, partner: Arc<AllowedPartner>) -> Self {
        let Commit { revision: _, time, actor, changes: _ } = commit;
        let changes = audit::partner_changes(before, &partner);
        let mut changed_fields: Vec<_> = changes.into_iter().map(|change| change.field).collect();
        changed_fields.sort_unstable();
        Self { time, actor, changed_fields, partner }
    }
}

/// What is under a name now, in force or deleted.
fn present<'a>(snapshot: &'a Snapshot, domain: &DomainName) -> Option<&'a Arc<AllowedPartner>> {
    snapshot.partner(domain).or_else(|| snapshot.deleted(domain))
}

fn broken_link(domain: &DomainName, revision: Revision) -> Error {
    Kind::Internal(format!("the commit of revision {revision} has no change of {domain}")).into()
}

fn rolled_back(
    draft: &mut Draft<'_>,
    rollback: &Rollback,
    etag: Option<&str>,
) -> Result<AnswerResult, Error> {
    let Rollback { permit, past } = rollback;
    let domain = permit.target();
    let Some(before) = draft.state().partner(domain).cloned() else {
        return Err(not_found(draft.state(), permit, domain));
    };
    check_scope(permit, &before, true)?;
    check_etag(&resource_name(domain), etag, before.etag(), permit.may_read(&before))?;
    let terms = &past.partner(permit, domain, false)?.terms;
    if *terms == before.terms {
        return Ok(AnswerResult::Partners(vec![Some(before)]));
    }
    let after = Arc::new(draft.touched(&before, terms.clone()));
    check_fields(terms, &before.terms, permit.updatable(&before) & permit.updatable(&after))?;
    check_expiry(terms, &before.terms, draft.now())?;
    refuse(terms.violations(domain))?;
    let staged =
        Staged { before: Some(before), after: Arc::clone(&after), index: 0, path: String::new() };
    draft.put(vec![staged], &[permit]).map_err(|error| Error { index: None, ..error })?;
    Ok(AnswerResult::Partners(vec![Some(after)]))
}

/// A rollback is no way round what an update may not touch.
fn check_fields(terms: &Terms, before: &Terms, updatable: EnumSet<TermField>) -> Result<(), Error> {
    let fields = terms.fields_unlike(before) - updatable;
    if fields.is_empty() {
        return Ok(());
    }
    Err(Denial::Fields { permission: Permission::PartnersRollback, fields, updatable }.into())
}

fn check_expiry(terms: &Terms, before: &Terms, now: Timestamp) -> Result<(), Error> {
    match terms.expire_time {
        Some(expiry) if expiry <= now && before.expire_time != Some(expiry) => {
            let text = format!(
                "was {expiry:.0} then, which has passed; update the fields that you want back one \
                 by one, or set suspended to refuse the partner"
            );
            Err(Error::invalid(Violation::new("expire_time", text)))
        }
        _ => Ok(()),
    }
}

//! The revocations' use cases.
//!
//! A revocation is a commit like any other. Once it is on the disk, and before anybody is told so,
//! the verifier knows of it: whoever is answered that a token was revoked can rely on it.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Committed, Error, Kind, Registry, Request, Snapshot, draft::Draft, partners::refuse};
use crate::{
    auth::{
        Permit,
        permit::{
            CreateRevocation, DeleteRevocation, GetRevocation, ListRevocations, Purpose, RevokedBy,
        },
    },
    domain::{
        Revision, Violation,
        audit::Actor,
        filter::Filter,
        revocation::{Revocation, Revocations, Target},
        violation::check_text,
    },
    registry::pages::{PageToken, query_digest},
    store::AnswerResult,
};

/// The most revocations at a time. Each is looked up by hash; this bounds the memory they take.
pub const MAX_REVOCATIONS: usize = 10_000;
/// The most characters of the reason of a revocation.
pub const MAX_REASON_CHARS: usize = 1_024;

/// The most expired revocations that one commit takes away.
const MAX_SWEPT: usize = 1_000;

/// Something to be revoked.
#[derive(Debug)]
pub struct NewRevocation {
    /// What is no longer to be believed.
    pub target: Target,
    /// Why; empty if nobody said.
    pub reason: Arc<str>,
    /// When the revocation ends; `None` means never.
    pub expire_time: Option<Timestamp>,
    /// Whether it is meant though it revokes what the caller himself came with.
    pub force: bool,
    /// The path of the revocation in the request.
    pub path: String,
}

/// What a listing of revocations is asked for.
#[derive(Debug)]
pub struct RevocationQuery {
    /// Which.
    pub filter: Filter<Revocation>,
    /// The most of a page; at least 1.
    pub page_size: usize,
    /// The token of the page, empty for the first.
    pub page_token: String,
}

/// A page of revocations.
#[derive(Debug)]
pub struct RevocationPage {
    /// The revocations, by id.
    pub revocations: Vec<Arc<Revocation>>,
    /// The token of the next page; `None` on the last one.
    pub next: Option<String>,
    /// How many there are in all pages.
    pub total: u32,
    /// The revision of this page.
    pub revision: Revision,
}

impl Registry {
    /// Lets `hear` know of the revocations, now and after each commit that changed them, before
    /// that commit is answered. Called by the writer's thread, so it must not block.
    pub fn on_revocations(&self, hear: impl Fn(Arc<Revocations>) + Send + Sync + 'static) {
        self.current.listen(Box::new(hear));
    }

    /// One revocation.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn revocation(
        &self,
        _permit: &Permit<GetRevocation>,
        id: Uuid,
    ) -> Result<Committed<Arc<Revocation>>, Error> {
        let snapshot = self.snapshot();
        let result = snapshot.revocations().get(id).cloned().ok_or_else(|| not_found(id))?;
        Ok(Committed { result, revision: snapshot.revision() })
    }

    /// A page of the revocations, by id. Those that come and go between two pages are or are not
    /// among them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a bad page token.
    pub fn revocations(
        &self,
        _permit: &Permit<ListRevocations>,
        query: &RevocationQuery,
    ) -> Result<RevocationPage, Error> {
        let digest = query_digest(&["revocations", query.filter.as_str()]);
        let after = match query.page_token.as_str() {
            "" => None,
            text => Uuid::parse_str(&PageToken::decode(text, digest)?.after).ok(),
        };
        let snapshot: Arc<Snapshot> = self.snapshot();
        let matching = || snapshot.revocations().iter().filter(|it| query.filter.matches(it));
        let total = u32::try_from(matching().count()).unwrap_or(u32::MAX);
        let rest = matching().filter(|it| after.is_none_or(|after| it.id > after));
        let mut revocations: Vec<_> = rest.take(query.page_size + 1).cloned().collect();
        let more = revocations.len() > query.page_size;
        revocations.truncate(query.page_size);
        let revision = snapshot.revision();
        let next = revocations.last().filter(|_| more).map(|last| {
            PageToken { revision, total, query: digest, after: last.id.to_string() }.encode()
        });
        Ok(RevocationPage { revocations, next, total, revision })
    }

    /// Revokes a token, a subject or a key.
    ///
    /// # Errors
    /// [`Kind::Invalid`]; [`Kind::SelfRevocation`]; [`Kind::TooMany`].
    pub async fn create_revocation(
        &self,
        permit: Permit<CreateRevocation>,
        new: NewRevocation,
        request: Option<Request>,
    ) -> Result<Committed<Arc<Revocation>>, Error> {
        let (actor, purpose) = (permit.actor().clone(), permit.purpose());
        let work = Box::new(move |draft: &mut Draft<'_>| created(draft, permit.target(), &new));
        let Committed { result, revision } = self.run(actor, purpose, request, work).await?;
        match result {
            AnswerResult::Revocation(Some(result)) => Ok(Committed { result, revision }),
            _ => Err(Error::wrong_answer("a revocation")),
        }
    }

    /// Takes a revocation back; what it was about is believed again.
    ///
    /// # Errors
    /// [`Kind::NotFound`], unless that was allowed.
    pub async fn delete_revocation(
        &self,
        permit: Permit<DeleteRevocation>,
        id: Uuid,
        allow_missing: bool,
        request: Option<Request>,
    ) -> Result<Committed<()>, Error> {
        let (actor, purpose) = (permit.actor().clone(), permit.purpose());
        let work = Box::new(move |draft: &mut Draft<'_>| deleted(draft, id, allow_missing));
        let Committed { result, revision } = self.run(actor, purpose, request, work).await?;
        match result {
            AnswerResult::Revocation(None) => Ok(Committed { result: (), revision }),
            _ => Err(Error::wrong_answer("a deleted revocation")),
        }
    }

    /// Takes away revocations that have ended, so that they do not add up. To be called now and
    /// then; commits nothing when there is none.
    ///
    /// # Errors
    /// [`Kind::Overloaded`], [`Kind::ReadOnly`], [`Kind::Draining`].
    pub async fn sweep_revocations(&self) -> Result<(), Error> {
        let now = Timestamp::now();
        if self.snapshot().revocations().iter().all(|revocation| revocation.is_in_force(now)) {
            return Ok(());
        }
        let actor = Actor::service("the revocation has ended");
        self.run(actor, Purpose::Commit, None, Box::new(swept)).await.map(drop)
    }
}

fn created(
    draft: &mut Draft<'_>,
    RevokedBy(caller): &RevokedBy,
    new: &NewRevocation,
) -> Result<AnswerResult, Error> {
    let NewRevocation { target, reason, expire_time, force, path } = new;
    let mut broken = target.violations();
    check_text(&mut broken, "reason", reason, MAX_REASON_CHARS);
    if expire_time.is_some_and(|end| end <= draft.now()) {
        let text = "lies in the past; leave it out, or give the time at which the last token that \
                    it is about expires";
        broken.push(Violation::new("expire_time", text));
    }
    refuse(broken.into_iter().map(|violation| violation.under(path)).collect())?;
    let revocation = Arc::new(Revocation {
        id: Uuid::new_v4(),
        target: target.clone(),
        reason: Arc::clone(reason),
        creator: draft.subject(),
        create_time: draft.now(),
        expire_time: *expire_time,
        revision: draft.revision(),
    });
    let alone: Revocations = [Arc::clone(&revocation)].into_iter().collect();
    if !force && alone.find(caller.credential(), draft.now()).is_some() {
        return Err(Kind::SelfRevocation.into());
    }
    if draft.state().revocations().len() >= MAX_REVOCATIONS {
        return Err(Kind::TooMany { what: "revocations", most: MAX_REVOCATIONS }.into());
    }
    draft.put_revocation(Arc::clone(&revocation));
    Ok(AnswerResult::Revocation(Some(revocation)))
}

fn deleted(draft: &mut Draft<'_>, id: Uuid, allow_missing: bool) -> Result<AnswerResult, Error> {
    if draft.state().revocations().get(id).is_none() && !allow_missing {
        return Err(not_found(id));
    }
    draft.remove_revocation(id);
    Ok(AnswerResult::Revocation(None))
}

fn swept(draft: &mut Draft<'_>) -> Result<AnswerResult, Error> {
    let now = draft.now();
    let ended = draft.state().revocations().iter().filter(|it| !it.is_in_force(now));
    let ended: Vec<_> = ended.map(|revocation| revocation.id).take(MAX_SWEPT).collect();
    ended.into_iter().for_each(|id| draft.remove_revocation(id));
    Ok(AnswerResult::Revocation(None))
}

fn not_found(id: Uuid) -> Error {
    let hint = "ListRevocations tells which there are".to_owned();
    Kind::NotFound { resource: format!("revocations/{id}"), hint }.into()
}

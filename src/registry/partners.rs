//! The partners' use cases.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Committed, Error, Kind, Registry, Request, Snapshot,
    draft::{Draft, Staged},
    snapshot::Decision,
    writer::Work,
};
use crate::{
    auth::{
        Denial, Permit,
        permit::{
            Action, CreatePartner, DeletePartner, GetPartner, PartnerFields, Purpose,
            ResolveDomain, UndeletePartner, UpdatePartner,
        },
    },
    domain::{
        AllowedPartner, DomainName, Terms, Violation, audit::Actor, partner::TermsChange,
        revision::Etag,
    },
    store::AnswerResult,
};

/// One partner to change.
#[derive(Debug)]
pub struct UpdateItem {
    /// Leave to change those fields of that partner.
    pub permit: Permit<UpdatePartner>,
    /// Leave to create it when it is missing, if that was asked for.
    pub if_missing: Option<Permit<CreatePartner>>,
    /// The change.
    pub change: TermsChange,
    /// The etag that the partner must have, if any.
    pub etag: Option<String>,
    /// The path of the partner in the request.
    pub path: String,
}

/// One partner to delete.
#[derive(Debug)]
pub struct DeleteItem {
    /// Leave to delete it.
    pub permit: Permit<DeletePartner>,
    /// The etag that the partner must have, if any.
    pub etag: Option<String>,
    /// Whether it is no error when there is none.
    pub allow_missing: bool,
}

/// What there is after a write: the partners in the order of the request.
pub type Written = Committed<Vec<Option<Arc<AllowedPartner>>>>;

impl Registry {
    /// One partner; a deleted one only with `show_deleted`.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn get(
        &self,
        permit: &Permit<GetPartner>,
        show_deleted: bool,
    ) -> Result<Committed<Arc<AllowedPartner>>, Error> {
        let snapshot = self.snapshot();
        let result = find(&snapshot, permit, show_deleted)?;
        Ok(Committed { result, revision: snapshot.revision() })
    }

    /// Several partners, all of one revision.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the first that is missing.
    pub fn batch_get(
        &self,
        permits: &[Permit<GetPartner>],
    ) -> Result<Committed<Vec<Arc<AllowedPartner>>>, Error> {
        let snapshot = self.snapshot();
        let partners = permits
            .iter()
            .enumerate()
            .map(|(index, permit)| find(&snapshot, permit, false).map_err(|error| error.at(index)))
            .collect::<Result<_, _>>()?;
        Ok(Committed { result: partners, revision: snapshot.revision() })
    }

    /// Whether a partner has this domain, or had it as its name and can be undeleted. For what is no
    /// answer to anybody.
    pub fn knows(&self, domain: &DomainName) -> bool {
        let snapshot = self.snapshot();
        snapshot.owner_of(domain).is_some() || snapshot.deleted(domain).is_some()
    }

    /// Whether we federate with a domain, now. The partner is left out of the answer if the
    /// permit does not reach it.
    pub fn resolve(&self, permit: &Permit<ResolveDomain>) -> Decision {
        let mut decision = self.snapshot().resolve(permit.target(), Timestamp::now());
        decision.partner = decision.partner.filter(|partner| permit.covers(partner));
        decision
    }

    /// Creates a partner.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every rule that the partner breaks; [`Kind::AlreadyExists`];
    /// [`Kind::DomainTaken`].
    pub async fn create(
        &self,
        permit: Permit<CreatePartner>,
        terms: Terms,
        path: String,
        request: Option<Request>,
    ) -> Result<Written, Error> {
        let (actor, purpose) = (permit.actor().clone(), permit.purpose());
        let work = Box::new(move |draft: &mut Draft<'_>| created(draft, &permit, &terms, &path));
        self.write(actor, purpose, request, work).await
    }

    /// Changes partners, all of them or none.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every rule that the merged partners break; [`Kind::NotFound`],
    /// [`Kind::StaleEtag`], [`Kind::DomainTaken`] with the index of the item at fault.
    pub async fn update(
        &self,
        items: Vec<UpdateItem>,
        request: Option<Request>,
    ) -> Result<Written, Error> {
        let Some((actor, purpose)) = commission(items.iter().map(|item| &item.permit)) else {
            return Ok(self.nothing_written());
        };
        let work = Box::new(move |draft: &mut Draft<'_>| updated(draft, &items));
        self.write(actor, purpose, request, work).await
    }

    /// Deletes partners, all of them or none.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::StaleEtag`] with the index of the item at fault.
    pub async fn delete(
        &self,
        items: Vec<DeleteItem>,
        request: Option<Request>,
    ) -> Result<Written, Error> {
        let Some((actor, purpose)) = commission(items.iter().map(|item| &item.permit)) else {
            return Ok(self.nothing_written());
        };
        let work = Box::new(move |draft: &mut Draft<'_>| deleted(draft, &items));
        self.write(actor, purpose, request, work).await
    }

    /// Brings a deleted partner back as it was.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::AlreadyExists`], [`Kind::StaleEtag`], [`Kind::Invalid`],
    /// [`Kind::DomainTaken`].
    pub async fn undelete(
        &self,
        permit: Permit<UndeletePartner>,
        etag: Option<String>,
        request: Option<Request>,
    ) -> Result<Written, Error> {
        let (actor, purpose) = (permit.actor().clone(), permit.purpose());
        let work =
            Box::new(move |draft: &mut Draft<'_>| undeleted(draft, &permit, etag.as_deref()));
        self.write(actor, purpose, request, work).await
    }

    pub(super) async fn run(
        &self,
        actor: Actor,
        purpose: Purpose,
        request: Option<Request>,
        work: Work,
    ) -> Result<Committed<AnswerResult>, Error> {
        match purpose {
            Purpose::Commit => self.writer.commit(actor, request, work).await,
            Purpose::Preview => self.writer.preview(&actor, &work),
        }
    }

    pub(super) async fn write(
        &self,
        actor: Actor,
        purpose: Purpose,
        request: Option<Request>,
        work: Work,
    ) -> Result<Written, Error> {
        let committed = self.run(actor, purpose, request, work).await?;
        match committed.result {
            AnswerResult::Partners(result) => {
                Ok(Committed { result, revision: committed.revision })
            }
            _ => Err(Error::wrong_answer("partners")),
        }
    }

    fn nothing_written(&self) -> Written {
        Committed { result: Vec::new(), revision: self.snapshot().revision() }
    }
}

/// Who acts and to what purpose: a batch that holds one permit for a preview is a preview.
fn commission<'a, A: Action + 'a>(
    permits: impl Iterator<Item = &'a Permit<A>>,
) -> Option<(Actor, Purpose)> {
    permits.fold(None, |commission, permit| match commission {
        Some((actor, Purpose::Preview)) => Some((actor, Purpose::Preview)),
        _ => Some((permit.actor().clone(), permit.purpose())),
    })
}

fn find(
    snapshot: &Snapshot,
    permit: &Permit<GetPartner>,
    show_deleted: bool,
) -> Result<Arc<AllowedPartner>, Error> {
    let domain = permit.target();
    let deleted = || snapshot.deleted(domain).filter(|_| show_deleted);
    match snapshot.partner(domain).or_else(deleted) {
        Some(partner) if permit.covers(partner) => Ok(Arc::clone(partner)),
        Some(_) => Err(hidden(snapshot, permit, domain)),
        None => Err(not_found(snapshot, permit, domain)),
    }
}

fn created(
    draft: &mut Draft<'_>,
    permit: &Permit<CreatePartner>,
    terms: &Terms,
    path: &str,
) -> Result<AnswerResult, Error> {
    let domain = permit.target();
    let mut broken = Vec::new();
    let after = new_partner(draft, permit, terms.clone(), path, &mut broken)?;
    refuse(broken)?;
    if draft.state().partner(domain).is_some() {
        return Err(Kind::AlreadyExists { resource: resource_name(domain) }.into());
    }
    let before = draft.state().deleted(domain).cloned();
    let staged = Staged { before, after: Arc::clone(&after), index: 0, path: path.into() };
    draft.put(vec![staged], &[permit]).map_err(|error| Error { index: None, ..error })?;
    Ok(AnswerResult::Partners(vec![Some(after)]))
}

fn updated(draft: &mut Draft<'_>, items: &[UpdateItem]) -> Result<AnswerResult, Error> {
    let mut broken = Vec::new();
    let mut staged = Vec::with_capacity(items.len());
    let mut permits = Vec::with_capacity(items.len());
    let mut results = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let before = draft.state().partner(&item.permit.target().domain).cloned();
        let after =
            changed(draft, item, before.as_ref(), &mut broken).map_err(|error| error.at(index))?;
        if before.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &after)) {
            let path = item.path.clone();
            let before = before.or_else(|| draft.state().deleted(&after.domain).cloned());
            staged.push(Staged { before, after: Arc::clone(&after), index, path });
            permits.push(&item.permit);
        }
        results.push(Some(after));
    }
    refuse(broken)?;
    draft.put(staged, &permits)?;
    Ok(AnswerResult::Partners(results))
}

/// The partner after the change of one item; the very same one if nothing changes.
fn changed(
    draft: &Draft<'_>,
    item: &UpdateItem,
    before: Option<&Arc<AllowedPartner>>,
    broken: &mut Vec<Violation>,
) -> Result<Arc<AllowedPartner>, Error> {
    let UpdateItem { permit, if_missing, change, etag, path } = item;
    let PartnerFields { domain, fields: _ } = permit.target();
    let Some(before) = before else {
        let Some(create) = if_missing else {
            return Err(not_found(draft.state(), permit, domain));
        };
        // Who gives an etag has seen the partner: it was deleted since, and must not come back.
        if etag.is_some() {
            return Err(Kind::StaleEtag { resource: resource_name(domain), current: None }.into());
        }
        let mut terms = change.values.clone();
        terms.additional_domains = change.edits.apply(&terms.additional_domains);
        return new_partner(draft, create, terms, path, broken);
    };
    check_scope(permit, before, true)?;
    check_fields(permit, before)?;
    check_etag(&resource_name(domain), etag.as_deref(), before.etag(), permit.may_read(before))?;
    let terms = before.terms.changed_by(change);
    if terms == before.terms {
        return Ok(Arc::clone(before));
    }
    check_terms(draft, domain, &terms, Some(&before.terms), path, broken);
    let after = draft.touched(before, terms);
    check_scope(permit, &after, true)?;
    check_fields(permit, &after)?;
    Ok(Arc::new(after))
}

fn deleted(draft: &mut Draft<'_>, items: &[DeleteItem]) -> Result<AnswerResult, Error> {
    let mut results = Vec::with_capacity(items.len());
    for (index, DeleteItem { permit, etag, allow_missing }) in items.iter().enumerate() {
        let domain = permit.target();
        let Some(before) = draft.state().partner(domain).cloned() else {
            if *allow_missing {
                results.push(None);
                continue;
            }
            return Err(not_found(draft.state(), permit, domain).at(index));
        };
        check_scope(permit, &before, true)
            .and_then(|()| {
                let readable = permit.may_read(&before);
                check_etag(&resource_name(domain), etag.as_deref(), before.etag(), readable)
            })
            .map_err(|error| error.at(index))?;
        results.push(Some(draft.bury(before)));
    }
    Ok(AnswerResult::Partners(results))
}

fn undeleted(
    draft: &mut Draft<'_>,
    permit: &Permit<UndeletePartner>,
    etag: Option<&str>,
) -> Result<AnswerResult, Error> {
    let domain = permit.target();
    let resource = resource_name(domain);
    if draft.state().partner(domain).is_some() {
        return Err(Kind::AlreadyExists { resource }.into());
    }
    let Some(before) = draft.state().deleted(domain).cloned() else {
        return Err(not_found(draft.state(), permit, domain));
    };
    check_scope(permit, &before, permit.may_read(&before))?;
    check_etag(&resource, etag, before.etag(), permit.may_read(&before))?;
    let after = Arc::new(draft.touched(&before, before.terms.clone()));
    refuse(after.terms.violations(domain))?;
    let staged =
        Staged { before: Some(before), after: Arc::clone(&after), index: 0, path: String::new() };
    draft.put(vec![staged], &[permit]).map_err(|error| Error { index: None, ..error })?;
    Ok(AnswerResult::Partners(vec![Some(after)]))
}

fn new_partner(
    draft: &Draft<'_>,
    permit: &Permit<CreatePartner>,
    terms: Terms,
    path: &str,
    broken: &mut Vec<Violation>,
) -> Result<Arc<AllowedPartner>, Error> {
    let domain = permit.target();
    check_terms(draft, domain, &terms, None, path, broken);
    let partner = AllowedPartner {
        domain: domain.clone(),
        uid: Uuid::new_v4(),
        terms,
        create_time: draft.now(),
        update_time: draft.now(),
        creator: draft.subject(),
        updater: draft.subject(),
        revision: draft.revision(),
        delete_time: None,
        // An expiry that is new lies ahead.
        expired: false,
    };
    check_scope(permit, &partner, true)?;
    Ok(Arc::new(partner))
}

/// Every rule, those about the clock included: an expiry that is set or changed must lie ahead.
fn check_terms(
    draft: &Draft<'_>,
    domain: &DomainName,
    terms: &Terms,
    before: Option<&Terms>,
    path: &str,
    broken: &mut Vec<Violation>,
) {
    broken.extend(terms.violations(domain).into_iter().map(|violation| violation.under(path)));
    let is_new = terms.expire_time != before.and_then(|before| before.expire_time);
    if is_new && terms.expire_time.is_some_and(|expiry| expiry <= draft.now()) {
        let text = "lies in the past; to refuse the partner at once, set suspended";
        broken.push(Violation::new("expire_time", text).under(path));
    }
}

pub(super) fn refuse(broken: Vec<Violation>) -> Result<(), Error> {
    if broken.is_empty() { Ok(()) } else { Err(Kind::Invalid(broken).into()) }
}

pub(super) fn check_scope<A: Action>(
    permit: &Permit<A>,
    partner: &AllowedPartner,
    visible: bool,
) -> Result<(), Error> {
    if permit.covers(partner) {
        return Ok(());
    }
    // Who may not know of the partner does not learn its further domains either.
    let mut shown = partner.domains().filter(|_| visible);
    let outside = shown.find(|domain| !permit.reach().covers_domain(domain));
    let domain = outside.unwrap_or(&partner.domain).clone();
    Err(Denial::Scope { permission: A::PERMISSION, domain, visible }.into())
}

/// The permit was given for the fields of a domain; a partner can have further ones.
fn check_fields(permit: &Permit<UpdatePartner>, partner: &AllowedPartner) -> Result<(), Error> {
    let updatable = permit.updatable(partner);
    let fields = permit.target().fields - updatable;
    if fields.is_empty() {
        return Ok(());
    }
    Err(Denial::Fields { permission: UpdatePartner::PERMISSION, fields, updatable }.into())
}

pub(super) fn check_etag(
    resource: &str,
    given: Option<&str>,
    stored: Etag,
    readable: bool,
) -> Result<(), Error> {
    match given {
        Some(etag) if etag != stored.as_str() => Err(Kind::StaleEtag {
            resource: resource.to_owned(),
            current: readable.then_some(stored),
        }
        .into()),
        _ => Ok(()),
    }
}

/// NOT_FOUND, with what the caller may know of the domain.
pub(super) fn not_found<A: Action>(
    snapshot: &Snapshot,
    permit: &Permit<A>,
    domain: &DomainName,
) -> Error {
    let hint = hint(snapshot, permit, domain);
    Kind::NotFound { resource: resource_name(domain), hint }.into()
}

/// The same for the caller, who is refused what is there.
pub(super) fn hidden<A: Action>(
    snapshot: &Snapshot,
    permit: &Permit<A>,
    domain: &DomainName,
) -> Error {
    let hint = hint(snapshot, permit, domain);
    Kind::Hidden { resource: resource_name(domain), hint, permission: A::PERMISSION }.into()
}

fn hint<A: Action>(snapshot: &Snapshot, permit: &Permit<A>, domain: &DomainName) -> String {
    let owner = snapshot.owner_of(domain).filter(|owner| permit.may_read(owner));
    let deleted = snapshot.deleted(domain).filter(|partner| permit.may_read(partner));
    match (owner, deleted) {
        (Some(owner), _) if owner.domain != *domain => {
            format!("{domain} is an additional domain of {}", resource_name(&owner.domain))
        }
        (_, Some(partner)) => match partner.delete_time {
            Some(time) => format!("it was deleted at {time:.0}; it can be undeleted"),
            None => String::new(),
        },
        _ => String::new(),
    }
}

pub(super) fn resource_name(domain: &DomainName) -> String {
    format!("allowedPartners/{domain}")
}

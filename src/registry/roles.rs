//! The roles' use cases.
//!
//! Whether somebody may have to do with a role is decided here, on the state that the commit will
//! follow: what the role gives, before and after, must be within his own rights as they are then.
//! So nobody widens a role that he holds himself, nor takes away what he could not have granted.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Committed, Error, Kind, Registry, Request,
    draft::Draft,
    partners::{check_etag, refuse},
};
use crate::{
    auth::{
        Permit,
        permit::{CreateRole, DeleteRole, RoleTarget, UpdateRole},
        sightings::Sighting,
    },
    domain::{
        Violation,
        mask::{Mask, RoleField},
        role::{MAX_ROLES, Origin, Permission, Role, RoleRecord, RoleTerms, check_role_id},
    },
    store::AnswerResult,
};

/// A role as a caller wants it.
#[derive(Debug)]
pub struct RoleValues {
    /// What it shall give.
    pub terms: RoleTerms,
    /// Which of it is meant: the rest stays as it is or, of a new role, comes from the template.
    pub mask: Mask<RoleField>,
    /// The id of the role that a new one starts from; empty if from none, or if nothing is said.
    pub template: Arc<str>,
    /// The path of the role in the request.
    pub path: String,
}

/// A role to be changed.
#[derive(Debug)]
pub struct RoleChange {
    /// Leave to change it.
    pub permit: Permit<UpdateRole>,
    /// Leave to make it when it is missing, if that was asked for.
    pub if_missing: Option<Permit<CreateRole>>,
    /// As it shall be.
    pub values: RoleValues,
    /// The etag that the role must have, if any.
    pub etag: Option<String>,
}

/// A role to be deleted.
#[derive(Debug)]
pub struct RoleDeletion {
    /// Leave to delete it.
    pub permit: Permit<DeleteRole>,
    /// The etag that the role must have, if any.
    pub etag: Option<String>,
    /// Whether it is no error when there is none.
    pub allow_missing: bool,
    /// Whether it is deleted though somebody was seen with it.
    pub force: bool,
}

/// Somebody who was seen with a role, and what he would lose with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Who.
    pub holder: Sighting,
    /// The permissions that no other of his roles gives him, or not as far.
    pub permissions: Vec<Permission>,
}

impl Registry {
    /// Makes a role.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every rule that the role breaks; [`Kind::AlreadyExists`];
    /// [`Kind::Denied`] if it gives more than its maker holds; [`Kind::TooMany`].
    pub async fn create_role(
        &self,
        permit: Permit<CreateRole>,
        values: RoleValues,
        request: Option<Request>,
    ) -> Result<Committed<Arc<Role>>, Error> {
        let (actor, purpose) = (permit.actor().clone(), permit.purpose());
        let work = Box::new(move |draft: &mut Draft<'_>| created(draft, permit.target(), &values));
        one_role(self.run(actor, purpose, request, work).await?)
    }

    /// Changes a role.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every rule that the merged role breaks; [`Kind::NotFound`];
    /// [`Kind::BuiltInRole`]; [`Kind::StaleEtag`]; [`Kind::Denied`] if the role gives more than its
    /// changer holds, before or after.
    pub async fn update_role(
        &self,
        change: RoleChange,
        request: Option<Request>,
    ) -> Result<Committed<Arc<Role>>, Error> {
        let (actor, purpose) = (change.permit.actor().clone(), change.permit.purpose());
        let work = Box::new(move |draft: &mut Draft<'_>| updated(draft, &change));
        one_role(self.run(actor, purpose, request, work).await?)
    }

    /// Deletes a role.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::BuiltInRole`]; [`Kind::StaleEtag`]; [`Kind::Denied`] if the role
    /// gives more than its deleter holds; [`Kind::RoleInUse`] with those who would lose something.
    pub async fn delete_role(
        &self,
        deletion: RoleDeletion,
        request: Option<Request>,
    ) -> Result<Committed<()>, Error> {
        let holders = self.sightings.with_role(&deletion.permit.target().id);
        let (actor, purpose) = (deletion.permit.actor().clone(), deletion.permit.purpose());
        let work = Box::new(move |draft: &mut Draft<'_>| deleted(draft, &deletion, &holders));
        let Committed { result, revision } = self.run(actor, purpose, request, work).await?;
        match result {
            AnswerResult::Role(None) => Ok(Committed { result: (), revision }),
            _ => Err(Error::wrong_answer("a deleted role")),
        }
    }
}

fn one_role(committed: Committed<AnswerResult>) -> Result<Committed<Arc<Role>>, Error> {
    let Committed { result, revision } = committed;
    match result {
        AnswerResult::Role(Some(result)) => Ok(Committed { result, revision }),
        _ => Err(Error::wrong_answer("a role")),
    }
}

fn created(
    draft: &mut Draft<'_>,
    target: &RoleTarget,
    values: &RoleValues,
) -> Result<AnswerResult, Error> {
    let RoleTarget { id, caller } = target;
    let mut broken = Vec::new();
    if let Err(text) = check_role_id(id) {
        broken.push(Violation::new("role_id", text));
    }
    let terms = values.mask.merge(&template_of(draft, values, &mut broken), &values.terms);
    broken.extend(violations(&terms, values));
    refuse(broken)?;
    draft.state().policy().check_escalation(caller, &terms)?;
    if draft.state().policy().role(id).is_some() {
        return Err(Kind::AlreadyExists { resource: resource_name(id) }.into());
    }
    if draft.state().custom_role_count() >= MAX_ROLES {
        return Err(Kind::TooMany { what: "roles", most: MAX_ROLES }.into());
    }
    let record = RoleRecord {
        uid: Uuid::new_v4(),
        template: Arc::clone(&values.template),
        create_time: draft.now(),
        update_time: draft.now(),
        creator: draft.subject(),
        updater: draft.subject(),
        revision: draft.revision(),
    };
    let role = Arc::new(Role { id: Arc::clone(id), terms, origin: Origin::Custom(record) });
    draft.put_role(Arc::clone(&role));
    Ok(AnswerResult::Role(Some(role)))
}

/// What a new role starts from: its template's terms, or nothing.
fn template_of(draft: &Draft<'_>, values: &RoleValues, broken: &mut Vec<Violation>) -> RoleTerms {
    if values.template.is_empty() {
        return RoleTerms::default();
    }
    let Some(template) = draft.state().policy().role(&values.template) else {
        let text = format!("there is no role {}; ListRoles tells which there are", values.template);
        broken.push(Violation::new("template", text).under(&values.path));
        return RoleTerms::default();
    };
    RoleTerms { description: String::new(), ..template.terms.clone() }
}

fn updated(draft: &mut Draft<'_>, change: &RoleChange) -> Result<AnswerResult, Error> {
    let RoleChange { permit, if_missing, values, etag } = change;
    let RoleTarget { id, caller } = permit.target();
    let policy = Arc::clone(draft.state().policy());
    let Some(before) = policy.role(id) else {
        return match if_missing {
            // Who gives an etag has seen the role: it was deleted since, and must not come back.
            Some(_) if etag.is_some() => {
                Err(Kind::StaleEtag { resource: resource_name(id), current: None }.into())
            }
            Some(create) => created(draft, create.target(), values),
            None => Err(not_found(id)),
        };
    };
    let record = custom(before)?;
    policy.check_escalation(caller, &before.terms)?;
    check_role_etag(before, etag.as_deref())?;
    let terms = values.mask.merge(&before.terms, &values.terms);
    let mut broken = violations(&terms, values);
    if !values.template.is_empty() && values.template != record.template {
        let text = "cannot be changed; what the role gives can be";
        broken.push(Violation::new("template", text).under(&values.path));
    }
    refuse(broken)?;
    policy.check_escalation(caller, &terms)?;
    if terms == before.terms {
        return Ok(AnswerResult::Role(Some(Arc::clone(before))));
    }
    let record = RoleRecord {
        update_time: draft.now(),
        updater: draft.subject(),
        revision: draft.revision(),
        ..record.clone()
    };
    let role = Arc::new(Role { id: Arc::clone(id), terms, origin: Origin::Custom(record) });
    draft.put_role(Arc::clone(&role));
    Ok(AnswerResult::Role(Some(role)))
}

fn deleted(
    draft: &mut Draft<'_>,
    deletion: &RoleDeletion,
    holders: &[Sighting],
) -> Result<AnswerResult, Error> {
    let RoleDeletion { permit, etag, allow_missing, force } = deletion;
    let RoleTarget { id, caller } = permit.target();
    let policy = Arc::clone(draft.state().policy());
    let Some(role) = policy.role(id) else {
        return if *allow_missing { Ok(AnswerResult::Role(None)) } else { Err(not_found(id)) };
    };
    custom(role)?;
    policy.check_escalation(caller, &role.terms)?;
    check_role_etag(role, etag.as_deref())?;
    let losses: Vec<_> = holders
        .iter()
        .filter_map(|holder| {
            let others: Vec<_> = holder.roles.iter().filter(|held| **held != **id).collect();
            let lost = policy.rights(&others).beyond(&role.terms);
            let loss = Loss { holder: holder.clone(), permissions: lost.iter().collect() };
            (!lost.is_empty()).then_some(loss)
        })
        .collect();
    if !force && !losses.is_empty() {
        return Err(Kind::RoleInUse { resource: resource_name(id), losses }.into());
    }
    draft.remove_role(id);
    Ok(AnswerResult::Role(None))
}

/// Every rule that the terms break, by its path in the request.
fn violations(terms: &RoleTerms, values: &RoleValues) -> Vec<Violation> {
    terms.violations().into_iter().map(|violation| violation.under(&values.path)).collect()
}

fn custom(role: &Role) -> Result<&RoleRecord, Error> {
    role.record().ok_or_else(|| Kind::BuiltInRole { resource: resource_name(&role.id) }.into())
}

fn check_role_etag(role: &Role, given: Option<&str>) -> Result<(), Error> {
    match role.etag() {
        Some(etag) => check_etag(&resource_name(&role.id), given, etag, true),
        None => Ok(()),
    }
}

fn not_found(id: &str) -> Error {
    let hint = "ListRoles tells which roles there are".to_owned();
    Kind::NotFound { resource: resource_name(id), hint }.into()
}

fn resource_name(id: &str) -> String {
    format!("roles/{id}")
}

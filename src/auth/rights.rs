//! What several roles give together, and what they do not.
//!
//! A right is a permission for a domain and, where partners are updated, for a field. The rights of
//! roles add up; there is no deny. One function, [`Rights::decide`], answers both the request that
//! wants to act and the question whether one may, so that the two cannot disagree.

use std::sync::Arc;

use enumset::EnumSet;

use super::{
    permit::{Purpose, Reach},
    policy::{Denial, paths},
};
use crate::domain::{
    AllowedPartner, DomainName,
    mask::TermField,
    role::{DomainScope, Permission, Role, RoleTerms},
};

/// Every caller may ask about himself.
const HELD_BY_ALL: Permission = Permission::CallerDescribe;

/// What is to be done, as far as roles decide on it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The permission that a denial names.
    pub permission: Permission,
    /// The permissions of which one is enough.
    pub enough: EnumSet<Permission>,
    /// Whether it is to be committed.
    pub purpose: Purpose,
    /// The domain it is done to; any if there is none.
    pub domain: Option<&'a DomainName>,
    /// The fields it touches.
    pub fields: EnumSet<TermField>,
}

/// The answer to "may I, and why".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether he may.
    pub allowed: bool,
    /// The roles that give the permission, for this target.
    pub granting_roles: Vec<Arc<str>>,
    /// The scopes to which the permission is confined; empty if it is not held, or everywhere.
    pub domain_scopes: Vec<DomainScope>,
    /// The fields that he may not change.
    pub denied_fields: EnumSet<TermField>,
    /// The reason in words.
    pub text: String,
}

/// The roles that somebody has.
#[derive(Clone, Debug)]
pub struct Rights<'a> {
    roles: Vec<&'a Role>,
}

/// Which fields may be changed of what: for each role, where it reaches and which fields it lets
/// one change there.
#[derive(Clone, Debug)]
pub struct FieldRights(Arc<[(Reach, EnumSet<TermField>)]>);

impl<'a> Question<'a> {
    /// Whether `permission` is held, for a commit, on `domain` and `fields`.
    pub fn about(
        permission: Permission,
        domain: Option<&'a DomainName>,
        fields: EnumSet<TermField>,
    ) -> Self {
        let enough = EnumSet::only(permission);
        Self { permission, enough, purpose: Purpose::Commit, domain, fields }
    }

    /// The permissions whose roles say which fields may become other than they are: whoever may
    /// roll a partner back may change the fields that he may update, too.
    pub(super) fn changing(&self) -> EnumSet<Permission> {
        match self.permission {
            Permission::PartnersRollback => self.enough | Permission::PartnersUpdate,
            _ => self.enough,
        }
    }
}

impl<'a> Rights<'a> {
    /// What these roles give.
    pub fn of(roles: impl IntoIterator<Item = &'a Role>) -> Self {
        Self { roles: roles.into_iter().collect() }
    }

    /// Every permission, wherever it reaches.
    pub fn permissions(&self) -> EnumSet<Permission> {
        self.roles
            .iter()
            .fold(EnumSet::only(HELD_BY_ALL), |held, role| held | role.terms.permissions)
    }

    /// The partners for which one of the roles gives one of the permissions.
    pub fn reach(&self, enough: EnumSet<Permission>) -> Reach {
        let mut scopes = Vec::new();
        for role in self.holding(enough) {
            if role.terms.domain_scopes.is_empty() {
                return Reach::Everything;
            }
            scopes.extend(role.terms.domain_scopes.iter().cloned());
        }
        Reach::Within(scopes.into())
    }

    /// Decides: the roles that allow it, which are none when everybody may.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission, the domain out of scope, or the fields.
    pub fn decide(&self, question: &Question<'_>) -> Result<Vec<&'a Role>, Denial> {
        let Question { permission, enough, purpose, domain, fields } = *question;
        let mut granting: Vec<_> = self.holding(enough).collect();
        if granting.is_empty() {
            return match enough.contains(HELD_BY_ALL) {
                true => Ok(granting),
                false => Err(Denial::Permission(permission)),
            };
        }
        let domain = domain.filter(|_| permission.is_scoped());
        if let Some(domain) = domain {
            granting.retain(|role| role.reach().covers_domain(domain));
            if granting.is_empty() {
                let readable = self.reach(EnumSet::only(Permission::PartnersGet));
                let visible = readable.covers_domain(domain);
                return Err(Denial::Scope { permission, domain: domain.clone(), visible });
            }
        }
        if permission.is_limited_to_fields() {
            let updatable = self.field_rights(question.changing(), purpose).at(domain);
            let denied = fields - updatable;
            if !denied.is_empty() {
                return Err(Denial::Fields { permission, fields: denied, updatable });
            }
        }
        Ok(granting)
    }

    /// Whether it may be done, and why or why not.
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        let permission = question.permission;
        let domain_scopes = match self.reach(question.enough) {
            Reach::Within(scopes) if permission.is_scoped() => scopes.to_vec(),
            Reach::Within(_) | Reach::Everything => Vec::new(),
        };
        let decision = self.decide(question);
        let (text, granting, denied_fields) = match &decision {
            Ok(granting) => (granted(permission, granting), granting.as_slice(), EnumSet::empty()),
            Err(denial) => {
                let denied = match denial {
                    Denial::Fields { fields, .. } => *fields,
                    _ => EnumSet::empty(),
                };
                (denied_because(denial, &domain_scopes), &[][..], denied)
            }
        };
        Explanation {
            allowed: decision.is_ok(),
            granting_roles: granting.iter().map(|role| Arc::clone(&role.id)).collect(),
            domain_scopes,
            denied_fields,
            text,
        }
    }

    /// The permissions that a role of these terms would give beyond what these roles give: not
    /// held at all, not everywhere where the role reaches, or not for all its fields.
    pub fn beyond(&self, terms: &RoleTerms) -> EnumSet<Permission> {
        terms.permissions.iter().filter(|permission| !self.cover(*permission, terms)).collect()
    }

    /// Which fields may be changed of what by one of the permissions.
    pub fn field_rights(&self, enough: EnumSet<Permission>, purpose: Purpose) -> FieldRights {
        let rights =
            self.holding(enough).map(|role| (role.reach(), role.updatable(enough, purpose)));
        FieldRights(rights.collect())
    }

    fn cover(&self, permission: Permission, terms: &RoleTerms) -> bool {
        if !permission.is_scoped() {
            return self.permissions().contains(permission);
        }
        let wanted = match permission.is_limited_to_fields() {
            true => terms.updatable_fields.unwrap_or_else(EnumSet::all),
            false => EnumSet::empty(),
        };
        let covered = |is_within: &dyn Fn(&Role) -> bool| {
            let within: Vec<_> = self
                .holding(EnumSet::only(permission))
                .filter(|role| role.terms.domain_scopes.is_empty() || is_within(role))
                .collect();
            let fields = within
                .iter()
                .filter_map(|role| role.terms.updatable_fields)
                .fold(EnumSet::empty(), |all, role| all | role);
            let all_fields = within.iter().any(|role| role.terms.updatable_fields.is_none());
            !within.is_empty() && (all_fields || wanted.is_subset(fields))
        };
        if terms.domain_scopes.is_empty() {
            return covered(&|_| false);
        }
        terms.domain_scopes.iter().all(|scope| {
            covered(&|role| role.terms.domain_scopes.iter().any(|held| held.contains(scope)))
        })
    }

    fn holding(&self, enough: EnumSet<Permission>) -> impl Iterator<Item = &'a Role> {
        self.roles.iter().copied().filter(move |role| !role.terms.permissions.is_disjoint(enough))
    }
}

impl FieldRights {
    /// Those of a permit that is not about fields.
    pub fn none() -> Self {
        Self(Arc::from([]))
    }

    /// The fields that may be changed of `partner`: those that may be changed for each of its
    /// domains, so that one domain in scope does not open what is out of it.
    pub fn of(&self, partner: &AllowedPartner) -> EnumSet<TermField> {
        if let [(Reach::Everything, fields)] = &*self.0 {
            return *fields;
        }
        partner.domains().fold(EnumSet::all(), |all, domain| all & self.at(Some(domain)))
    }

    /// The fields that may be changed of a domain, or of any.
    fn at(&self, domain: Option<&DomainName>) -> EnumSet<TermField> {
        self.0
            .iter()
            .filter(|(reach, _)| domain.is_none_or(|domain| reach.covers_domain(domain)))
            .fold(EnumSet::empty(), |all, (_, fields)| all | *fields)
    }
}

impl Role {
    fn reach(&self) -> Reach {
        if self.terms.domain_scopes.is_empty() {
            Reach::Everything
        } else {
            Reach::Within(self.terms.domain_scopes.as_slice().into())
        }
    }

    /// The fields that this role lets one change by one of the permissions: all of them where
    /// nothing is committed and the role may preview.
    fn updatable(&self, enough: EnumSet<Permission>, purpose: Purpose) -> EnumSet<TermField> {
        let held = self.terms.permissions;
        if purpose == Purpose::Preview && held.contains(Permission::PartnersPreview) {
            EnumSet::all()
        } else if held.is_disjoint(enough) {
            EnumSet::empty()
        } else {
            self.terms.updatable_fields.unwrap_or_else(EnumSet::all)
        }
    }
}

fn granted(permission: Permission, granting: &[&Role]) -> String {
    let roles: Vec<_> = granting.iter().map(|role| &*role.id).collect();
    match roles.as_slice() {
        [] => format!("every authenticated caller has {permission}"),
        roles => format!("{permission} is given by {}", roles.join(", ")),
    }
}

fn denied_because(denial: &Denial, scopes: &[DomainScope]) -> String {
    match denial {
        Denial::Permission(permission) => format!("none of the roles gives {permission}"),
        Denial::Scope { permission, .. } => {
            let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
            format!("the roles give {permission} only within {}", scopes.join(", "))
        }
        Denial::Fields { permission, updatable, .. } => {
            format!("the roles give {permission} only for {}", paths(*updatable))
        }
        Denial::Escalation { .. } | Denial::Method => "nobody may".to_owned(),
    }
}

#[cfg(test)]
mod tests;

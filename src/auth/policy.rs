//! Caller and roles to permits: whether a caller may, and for what exactly.
//!
//! Only [`Policy`] makes a [`Permit`]. Rights add up over a caller's roles; there is no deny.

use std::{collections::HashMap, sync::Arc};

use enumset::EnumSet;

use super::{
    caller::{Call, Caller},
    permit::{
        Action, CreateRevocation, PartnerFields, Permit, Purpose, RestoreBackup, RestoredBy,
        RevokedBy, RoleTarget, UpdatePartner,
    },
    rights::{Question, Rights},
};
use crate::domain::{
    DomainName,
    mask::TermField,
    replica::ReplicaId,
    role::{Permission, Role, RoleTerms},
};

/// What a method asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: anybody may call it, without a token.
    Public,
    /// A valid token, whatever its roles.
    Authenticated,
    /// A permission, or another one that is enough for a preview.
    Needs {
        /// The permission of the method.
        permission: Permission,
        /// What is enough with `validate_only`.
        preview: Option<Permission>,
    },
    /// The method names no permission, so nobody may call it.
    Nobody,
}

/// Why a caller may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// None of his roles gives the permission.
    Permission(Permission),
    /// His roles give the permission, but not for these fields.
    Fields {
        /// The permission.
        permission: Permission,
        /// The fields that he may not change.
        fields: EnumSet<TermField>,
        /// Those that he may.
        updatable: EnumSet<TermField>,
    },
    /// His roles give the permission, but not for this partner.
    Scope {
        /// The permission.
        permission: Permission,
        /// The domain that is out of scope.
        domain: DomainName,
        /// Whether he may know of the partner: else it does not exist for him.
        visible: bool,
    },
    /// The role to be made or changed gives more than he holds, and he lacks `roles.escalate`.
    Escalation {
        /// The permissions that he does not hold, or not as far as the role would give them.
        beyond: EnumSet<Permission>,
    },
    /// The method names no permission.
    Method,
}

impl Denial {
    /// The permission that is missing, or does not reach so far; `None` where none would help.
    pub const fn permission(&self) -> Option<Permission> {
        match self {
            Self::Permission(permission)
            | Self::Fields { permission, .. }
            | Self::Scope { permission, .. } => Some(*permission),
            Self::Escalation { .. } => Some(Permission::RolesEscalate),
            Self::Method => None,
        }
    }
}

/// The roles there are at one revision. Without roles nobody may do anything.
#[derive(Debug, Default)]
pub struct Policy {
    roles: HashMap<String, Arc<Role>>,
}

impl Policy {
    /// A policy of these roles.
    pub fn new(roles: impl IntoIterator<Item = Arc<Role>>) -> Self {
        Self { roles: roles.into_iter().map(|role| (role.id.to_string(), role)).collect() }
    }

    /// Whether `caller` may call a method that asks for `access` at all. The permit, asked for
    /// once the request is understood, decides on the target.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn admit(&self, caller: &Caller, access: Access) -> Result<(), Denial> {
        match access {
            Access::Public | Access::Authenticated => Ok(()),
            Access::Nobody => Err(Denial::Method),
            Access::Needs { permission, preview } => {
                let held = self.rights_of(caller).permissions();
                if held.contains(permission) || preview.is_some_and(|other| held.contains(other)) {
                    Ok(())
                } else {
                    Err(Denial::Permission(permission))
                }
            }
        }
    }

    /// Whether `call` may do `A` to anything at all. Asked before the request is looked at, so that
    /// nobody learns from a request's faults what he may not do.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn allow<A: Action>(&self, call: &Call, purpose: Purpose) -> Result<(), Denial> {
        let question = question::<A>(purpose, None, EnumSet::empty());
        self.rights_of(&call.caller).decide(&question).map(drop)
    }

    /// Leave for `call` to do `A` to what has no fields and no scope.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn permit<A: Action<Target = ()>>(
        &self,
        call: &Call,
        purpose: Purpose,
    ) -> Result<Permit<A>, Denial> {
        self.grant(call, purpose, (), None, EnumSet::empty())
    }

    /// Leave for `call` to do `A` to one domain.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission, or the domain out of scope.
    pub fn permit_domain<A: Action<Target = DomainName>>(
        &self,
        call: &Call,
        purpose: Purpose,
        domain: DomainName,
    ) -> Result<Permit<A>, Denial> {
        self.grant(call, purpose, domain.clone(), Some(&domain), EnumSet::empty())
    }

    /// Leave for `call` to do `A` to one replica.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn permit_replica<A: Action<Target = ReplicaId>>(
        &self,
        call: &Call,
        replica: ReplicaId,
    ) -> Result<Permit<A>, Denial> {
        self.grant(call, Purpose::Commit, replica, None, EnumSet::empty())
    }

    /// Leave for `call` to change `fields` of a partner.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission, the partner out of scope, or the fields.
    pub fn permit_update(
        &self,
        call: &Call,
        purpose: Purpose,
        target: PartnerFields,
    ) -> Result<Permit<UpdatePartner>, Denial> {
        let PartnerFields { domain, fields } = target.clone();
        self.grant(call, purpose, target, Some(&domain), fields)
    }

    /// Leave for `call` to make, change or delete the role `id`. What the role may give is decided
    /// by [`Policy::check_escalation`], once it is known.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn permit_role<A: Action<Target = RoleTarget>>(
        &self,
        call: &Call,
        purpose: Purpose,
        id: Arc<str>,
    ) -> Result<Permit<A>, Denial> {
        let target = RoleTarget { id, caller: Arc::clone(&call.caller) };
        self.grant(call, purpose, target, None, EnumSet::empty())
    }

    /// Leave for `call` to revoke something.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn permit_revocation(
        &self,
        call: &Call,
        purpose: Purpose,
    ) -> Result<Permit<CreateRevocation>, Denial> {
        let target = RevokedBy(Arc::clone(&call.caller));
        self.grant(call, purpose, target, None, EnumSet::empty())
    }

    /// Leave for `call` to restore a backup.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn permit_restore(
        &self,
        call: &Call,
        purpose: Purpose,
    ) -> Result<Permit<RestoreBackup>, Denial> {
        let target = RestoredBy(Arc::clone(&call.caller));
        self.grant(call, purpose, target, None, EnumSet::empty())
    }

    /// Whether `caller` may have to do with a role of these terms: nobody grants what he does not
    /// hold, and nobody takes away what he could not have granted.
    ///
    /// # Errors
    /// A [`Denial`] that names what is beyond his own rights, unless he may escalate.
    pub fn check_escalation(&self, caller: &Caller, terms: &RoleTerms) -> Result<(), Denial> {
        let rights = self.rights_of(caller);
        if rights.permissions().contains(Permission::RolesEscalate) {
            return Ok(());
        }
        let beyond = rights.beyond(terms);
        if beyond.is_empty() { Ok(()) } else { Err(Denial::Escalation { beyond }) }
    }

    /// What `caller`'s roles give together.
    pub fn rights_of(&self, caller: &Caller) -> Rights<'_> {
        self.rights(&caller.roles)
    }

    /// What the roles with these ids give together, as far as they exist.
    pub fn rights<S: AsRef<str>>(&self, ids: &[S]) -> Rights<'_> {
        Rights::of(ids.iter().filter_map(|id| self.roles.get(id.as_ref())).map(|role| &**role))
    }

    /// Every role, sorted by id.
    pub fn roles(&self) -> Vec<Arc<Role>> {
        let mut roles: Vec<_> = self.roles.values().cloned().collect();
        roles.sort_by(|a, b| a.id.cmp(&b.id));
        roles
    }

    /// The role with this id.
    pub fn role(&self, id: &str) -> Option<&Arc<Role>> {
        self.roles.get(id)
    }

    fn grant<A: Action>(
        &self,
        call: &Call,
        purpose: Purpose,
        target: A::Target,
        domain: Option<&DomainName>,
        fields: EnumSet<TermField>,
    ) -> Result<Permit<A>, Denial> {
        let rights = self.rights_of(&call.caller);
        let question = question::<A>(purpose, domain, fields);
        rights.decide(&question)?;
        Ok(Permit::new(target, purpose, &rights, &question, call.actor()))
    }
}

/// What is asked when `A` is to be done.
fn question<A: Action>(
    purpose: Purpose,
    domain: Option<&DomainName>,
    fields: EnumSet<TermField>,
) -> Question<'_> {
    let preview = A::PREVIEW.filter(|_| purpose == Purpose::Preview);
    let enough = preview.into_iter().fold(EnumSet::only(A::PERMISSION), |all, one| all | one);
    Question { permission: A::PERMISSION, enough, purpose, domain, fields }
}

/// The paths of `fields`, for people.
pub fn paths(fields: EnumSet<TermField>) -> String {
    use crate::domain::mask::Maskable;
    let paths: Vec<_> = fields.iter().map(TermField::path).collect();
    paths.join(", ")
}

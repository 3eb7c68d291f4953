//! Caller and roles to permits: whether a caller may, and for what exactly.
//!
//! Only [`Policy`] makes a [`Permit`]. Rights add up over a caller's roles; there is no deny.

use std::{collections::HashMap, sync::Arc};

use enumset::EnumSet;

use super::{
    caller::{Call, Caller},
    permit::{
        Action, PartnerFields, PartnerRollback, Permit, Purpose, Reach, RollbackPartner,
        UpdatePartner,
    },
};
use crate::domain::{
    DomainName,
    mask::TermField,
    replica::ReplicaId,
    role::{Permission, Role},
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
    /// The method names no permission.
    Method,
}

/// The answer to "may I, and why".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether he may.
    pub allowed: bool,
    /// The roles that give the permission, for this target.
    pub granting_roles: Vec<String>,
    /// The fields that he may not change.
    pub denied_fields: EnumSet<TermField>,
    /// The reason in words.
    pub text: String,
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
                let held = self.permissions(caller);
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
        if (self.permissions(&call.caller) & Self::enough::<A>(purpose)).is_empty() {
            return Err(Denial::Permission(A::PERMISSION));
        }
        Ok(())
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
        self.grant(call, purpose, ())
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
        let permit = self.grant::<A>(call, purpose, domain)?;
        self.check_scope::<A>(call, &permit, permit.target())?;
        Ok(permit)
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
        self.grant(call, Purpose::Commit, replica)
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
        let permit = self.grant::<UpdatePartner>(call, purpose, target)?;
        let PartnerFields { domain, fields } = permit.target();
        self.check_scope::<UpdatePartner>(call, &permit, domain)?;
        self.check_fields(call, purpose, domain, *fields)?;
        Ok(permit)
    }

    /// Leave for `call` to make a partner what it was before, as far as the roles that let it roll
    /// back or update this partner let it change the fields.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission, or the partner out of scope.
    pub fn permit_rollback(
        &self,
        call: &Call,
        purpose: Purpose,
        domain: DomainName,
    ) -> Result<Permit<RollbackPartner>, Denial> {
        let either = Permission::PartnersRollback | Permission::PartnersUpdate;
        let updatable = self.updatable(&call.caller, purpose, either, Some(&domain));
        let target = PartnerRollback { domain, updatable };
        let permit = self.grant::<RollbackPartner>(call, purpose, target)?;
        self.check_scope::<RollbackPartner>(call, &permit, &permit.target().domain)?;
        Ok(permit)
    }

    /// Whether `caller` may use `permission` on a domain and on fields, and why or why not.
    pub fn explain(
        &self,
        caller: &Caller,
        permission: Permission,
        domain: Option<&DomainName>,
        fields: EnumSet<TermField>,
    ) -> Explanation {
        let holding: Vec<_> =
            self.roles_of(caller).filter(|role| role.permissions.contains(permission)).collect();
        if holding.is_empty() && permission != Permission::CallerDescribe {
            let text = format!("none of your roles gives {permission}");
            return Explanation::denied(text, EnumSet::empty());
        }
        let granting: Vec<_> = holding
            .iter()
            .filter(|role| domain.is_none_or(|domain| role.reach().covers_domain(domain)))
            .collect();
        if granting.is_empty() && !holding.is_empty() {
            let scopes: Vec<_> = holding
                .iter()
                .flat_map(|role| &role.domain_scopes)
                .map(ToString::to_string)
                .collect();
            let text = format!("your roles give {permission} only within {}", scopes.join(", "));
            return Explanation::denied(text, EnumSet::empty());
        }
        let changing = match permission {
            Permission::PartnersRollback => permission | Permission::PartnersUpdate,
            _ => EnumSet::only(Permission::PartnersUpdate),
        };
        let updatable = self.updatable(caller, Purpose::Commit, changing, domain);
        let denied_fields = fields - updatable;
        if changing.contains(permission) && !denied_fields.is_empty() {
            let text = format!("your roles give {permission} only for {}", paths(updatable));
            return Explanation::denied(text, denied_fields);
        }
        Explanation::granted(permission, granting.iter().map(|role| role.id.to_string()).collect())
    }

    /// The roles of `caller` that exist, sorted.
    pub fn roles_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Arc<Role>> {
        caller.roles.iter().filter_map(|id| self.roles.get(id))
    }

    /// What stands in `caller`'s role claim and is no role.
    pub fn unknown_roles_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a String> {
        caller.roles.iter().filter(|id| !self.roles.contains_key(*id))
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

    /// Everything that `caller`'s roles give together. Every caller may ask about himself.
    pub fn permissions(&self, caller: &Caller) -> EnumSet<Permission> {
        self.roles_of(caller)
            .fold(EnumSet::only(Permission::CallerDescribe), |held, role| held | role.permissions)
    }

    fn grant<A: Action>(
        &self,
        call: &Call,
        purpose: Purpose,
        target: A::Target,
    ) -> Result<Permit<A>, Denial> {
        self.allow::<A>(call, purpose)?;
        let reach = self.reach(&call.caller, Self::enough::<A>(purpose));
        let readable = self.reach(&call.caller, EnumSet::only(Permission::PartnersGet));
        Ok(Permit::new(target, purpose, reach, readable, call.actor()))
    }

    /// The permissions of which one is enough for `A`.
    fn enough<A: Action>(purpose: Purpose) -> EnumSet<Permission> {
        let preview = A::PREVIEW.filter(|_| purpose == Purpose::Preview);
        preview.into_iter().fold(EnumSet::only(A::PERMISSION), |all, one| all | one)
    }

    fn check_scope<A: Action>(
        &self,
        call: &Call,
        permit: &Permit<A>,
        domain: &DomainName,
    ) -> Result<(), Denial> {
        if permit.reach().covers_domain(domain) {
            return Ok(());
        }
        let readable = self.reach(&call.caller, EnumSet::only(Permission::PartnersGet));
        Err(Denial::Scope {
            permission: A::PERMISSION,
            domain: domain.clone(),
            visible: readable.covers_domain(domain),
        })
    }

    fn check_fields(
        &self,
        call: &Call,
        purpose: Purpose,
        domain: &DomainName,
        fields: EnumSet<TermField>,
    ) -> Result<(), Denial> {
        let update = EnumSet::only(Permission::PartnersUpdate);
        let updatable = self.updatable(&call.caller, purpose, update, Some(domain));
        let denied = fields - updatable;
        if denied.is_empty() {
            return Ok(());
        }
        Err(Denial::Fields { permission: Permission::PartnersUpdate, fields: denied, updatable })
    }

    /// The fields that `caller` may change of the partner `domain`, or of any, by roles that give
    /// one of the permissions `changing`.
    fn updatable(
        &self,
        caller: &Caller,
        purpose: Purpose,
        changing: EnumSet<Permission>,
        domain: Option<&DomainName>,
    ) -> EnumSet<TermField> {
        let of_role = |role: &Arc<Role>| {
            if purpose == Purpose::Preview && role.permissions.contains(Permission::PartnersPreview)
            {
                EnumSet::all()
            } else if !(role.permissions & changing).is_empty() {
                role.updatable_fields.unwrap_or_else(EnumSet::all)
            } else {
                EnumSet::empty()
            }
        };
        self.roles_of(caller)
            .filter(|role| domain.is_none_or(|domain| role.reach().covers_domain(domain)))
            .map(of_role)
            .fold(EnumSet::empty(), |all, role| all | role)
    }

    /// The partners for which one of the caller's roles gives one of the permissions.
    fn reach(&self, caller: &Caller, enough: EnumSet<Permission>) -> Reach {
        let mut scopes = Vec::new();
        for role in self.roles_of(caller).filter(|role| !(role.permissions & enough).is_empty()) {
            if role.domain_scopes.is_empty() {
                return Reach::Everything;
            }
            scopes.extend(role.domain_scopes.iter().cloned());
        }
        Reach::Within(scopes.into())
    }
}

impl Role {
    fn reach(&self) -> Reach {
        if self.domain_scopes.is_empty() {
            Reach::Everything
        } else {
            Reach::Within(self.domain_scopes.as_slice().into())
        }
    }
}

impl Explanation {
    fn denied(text: String, denied_fields: EnumSet<TermField>) -> Self {
        Self { allowed: false, granting_roles: Vec::new(), denied_fields, text }
    }

    fn granted(permission: Permission, granting_roles: Vec<String>) -> Self {
        let text = if granting_roles.is_empty() {
            format!("every authenticated caller has {permission}")
        } else {
            format!("{permission} is given by {}", granting_roles.join(", "))
        };
        Self { allowed: true, granting_roles, denied_fields: EnumSet::empty(), text }
    }
}

/// The paths of `fields`, for people.
pub fn paths(fields: EnumSet<TermField>) -> String {
    use crate::domain::mask::Maskable;
    let paths: Vec<_> = fields.iter().map(TermField::path).collect();
    paths.join(", ")
}

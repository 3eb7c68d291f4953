//! The permit: leave to do one action to one target, and the only way into the registry.
//!
//! It carries what it was given for: the partner, the fields, the reach, and whether it is for a
//! commit or only for a preview. What was authorised is therefore what is done.

use std::sync::Arc;

use enumset::EnumSet;

use super::{
    Caller,
    rights::{FieldRights, Question, Rights},
};
use crate::domain::{
    AllowedPartner, DomainName,
    audit::Actor,
    mask::TermField,
    replica::ReplicaId,
    role::{DomainScope, Permission},
};

/// An action that a permit can be given for.
pub trait Action {
    /// The permission it asks for.
    const PERMISSION: Permission;
    /// What is enough when it is only previewed.
    const PREVIEW: Option<Permission> = None;
    /// What it is done to.
    type Target;
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident($target:ty) = $permission:ident $(or $preview:ident)?;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Action for $name {
            const PERMISSION: Permission = Permission::$permission;
            $(const PREVIEW: Option<Permission> = Some(Permission::$preview);)?
            type Target = $target;
        }
    )*};
}

actions! {
    /// Getting a partner.
    GetPartner(DomainName) = PartnersGet;
    /// Listing partners.
    ListPartners(()) = PartnersList;
    /// Creating a partner.
    CreatePartner(DomainName) = PartnersCreate or PartnersPreview;
    /// Changing fields of a partner.
    UpdatePartner(PartnerFields) = PartnersUpdate or PartnersPreview;
    /// Deleting a partner.
    DeletePartner(DomainName) = PartnersDelete or PartnersPreview;
    /// Bringing a deleted partner back.
    UndeletePartner(DomainName) = PartnersUndelete or PartnersPreview;
    /// Asking whether a domain is allowed.
    ResolveDomain(DomainName) = PartnersResolve;
    /// Following the partners.
    WatchPartners(()) = PartnersWatch;
    /// Seeing what became of a partner.
    ListRevisions(DomainName) = PartnersListRevisions;
    /// Making a partner what it was before.
    RollbackPartner(DomainName) = PartnersRollback or PartnersPreview;
    /// Reading the settings.
    GetSettings(()) = SettingsGet;
    /// Being given the dialback passphrase with the settings.
    GetDialbackPassphrase(()) = SettingsGetDialbackPassphrase;
    /// Changing the settings.
    UpdateSettings(()) = SettingsUpdate or SettingsPreview;
    /// Making a role.
    CreateRole(RoleTarget) = RolesCreate;
    /// Changing a role.
    UpdateRole(RoleTarget) = RolesUpdate;
    /// Deleting a role.
    DeleteRole(RoleTarget) = RolesDelete;
    /// Asking what somebody else may do.
    TestOthers(()) = PermissionsTestOthers;
    /// Reading revocations.
    GetRevocation(()) = RevocationsGet;
    /// Listing revocations.
    ListRevocations(()) = RevocationsList;
    /// Revoking a token, a subject or a key.
    CreateRevocation(RevokedBy) = RevocationsCreate;
    /// Taking a revocation back.
    DeleteRevocation(()) = RevocationsDelete;
    /// Reading an audit entry.
    GetAuditEntry(()) = AuditGet;
    /// Listing audit entries.
    ListAuditEntries(()) = AuditList;
    /// Following the audit.
    WatchAudit(()) = AuditWatch;
    /// Holding the audit against itself, and getting checkpoints of it.
    VerifyAudit(()) = AuditVerify;
    /// Seeing how the server is.
    ReadStatus(()) = MaintenanceStatus;
    /// Taking a backup.
    TakeBackup(()) = MaintenanceBackup;
    /// Making everything what a backup says.
    RestoreBackup(RestoredBy) = MaintenanceRestore;
    /// Reporting on an XMPP server.
    ReportReplica(ReplicaId) = ReplicasReport;
    /// Seeing how far an XMPP server is.
    GetReplica(ReplicaId) = ReplicasGet;
    /// Listing the XMPP servers.
    ListReplicas(()) = ReplicasList;
    /// Forgetting an XMPP server.
    DeleteReplica(ReplicaId) = ReplicasDelete;
    /// Waiting for the XMPP servers.
    WaitForReplicas(()) = ReplicasWait;
}

/// A partner and the fields of it that are to be changed.
#[derive(Clone, Debug)]
pub struct PartnerFields {
    /// The partner.
    pub domain: DomainName,
    /// The fields.
    pub fields: EnumSet<TermField>,
}

/// A role, and who wants to have to do with it: nobody grants what he does not hold.
#[derive(Clone, Debug)]
pub struct RoleTarget {
    /// The role.
    pub id: Arc<str>,
    /// Whose rights bound what the role may give.
    pub caller: Arc<Caller>,
}

/// Who revokes: nobody cuts off himself without meaning to.
#[derive(Clone, Debug)]
pub struct RevokedBy(pub Arc<Caller>);

/// Who restores: nobody grants what he does not hold, nor cuts off himself without meaning to.
#[derive(Clone, Debug)]
pub struct RestoredBy(pub Arc<Caller>);

/// Whether a permit is for a commit, or for everything but the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The change is made.
    Commit,
    /// The change is only shown.
    Preview,
}

impl Purpose {
    /// The purpose of a request with this `validate_only`.
    pub const fn of(validate_only: bool) -> Self {
        if validate_only { Self::Preview } else { Self::Commit }
    }
}

/// Leave to do one action to one target.
#[derive(Debug)]
pub struct Permit<A: Action> {
    target: A::Target,
    purpose: Purpose,
    reach: Reach,
    readable: Reach,
    fields: FieldRights,
    actor: Actor,
}

impl<A: Action> Permit<A> {
    /// For the policy alone, which has decided on the question.
    pub(super) fn new(
        target: A::Target,
        purpose: Purpose,
        rights: &Rights<'_>,
        question: &Question<'_>,
        actor: Actor,
    ) -> Self {
        let fields = match question.permission.is_limited_to_fields() {
            true => rights.field_rights(question.changing(), purpose),
            false => FieldRights::none(),
        };
        Self {
            target,
            purpose,
            reach: rights.reach(question.enough),
            readable: rights.reach(EnumSet::only(Permission::PartnersGet)),
            fields,
            actor,
        }
    }

    /// What it was given for.
    pub const fn target(&self) -> &A::Target {
        &self.target
    }

    /// Whether the action may be committed.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Who it was given to.
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Whether the action may be done to `partner` as it is, or as it would become.
    pub fn covers(&self, partner: &AllowedPartner) -> bool {
        self.reach.covers(partner)
    }

    /// The fields that may be changed of `partner` as it is, or as it would become.
    pub fn updatable(&self, partner: &AllowedPartner) -> EnumSet<TermField> {
        self.fields.of(partner)
    }

    /// Whether its holder may read `partner`, so that an error may tell of it.
    pub fn may_read(&self, partner: &AllowedPartner) -> bool {
        self.readable.covers(partner)
    }

    /// The partners that its holder may read, whatever it was given for.
    pub const fn readable(&self) -> &Reach {
        &self.readable
    }

    /// The partners that it reaches.
    pub const fn reach(&self) -> &Reach {
        &self.reach
    }
}

/// The partners that a right is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    Everything,
    /// Those whose domains all lie in one of these scopes; none if there are none.
    Within(Arc<[DomainScope]>),
}

impl Reach {
    /// Whether `partner` is within reach, with all its domains.
    pub fn covers(&self, partner: &AllowedPartner) -> bool {
        match self {
            Self::Everything => true,
            Self::Within(_) => partner.domains().all(|domain| self.covers_domain(domain)),
        }
    }

    /// Whether all partners are within reach.
    pub const fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }

    /// Whether `domain` is within reach.
    pub fn covers_domain(&self, domain: &DomainName) -> bool {
        match self {
            Self::Everything => true,
            Self::Within(scopes) => scopes.iter().any(|scope| scope.covers(domain)),
        }
    }
}

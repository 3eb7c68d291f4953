//! Roles: named sets of permissions, the six that are built in, and what each gives.

use std::{fmt, str::FromStr, sync::Arc};

use enumset::{EnumSet, EnumSetType};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    domain_name::{DomainName, DomainNameError},
    mask::TermField,
    partner::MAX_DESCRIPTION_CHARS,
    revision::{Etag, Revision},
    violation::{Violation, check_text},
};

/// The most roles beside those that are built in.
pub const MAX_ROLES: usize = 1_000;
/// The most domain scopes of a role.
pub const MAX_DOMAIN_SCOPES: usize = 100;
/// The most characters of a role's id.
pub const MAX_ROLE_ID_CHARS: usize = 63;

macro_rules! permissions {
    ($($variant:ident = $text:literal, $description:literal;)*) => {
        /// What a caller can be allowed to do. Each RPC asks for one.
        #[derive(Debug, PartialOrd, Ord, Hash, EnumSetType)]
        pub enum Permission {
            $(#[doc = concat!("`", $text, "`: ", $description)] $variant,)*
        }

        impl Permission {
            /// The permission as the API writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it allows, in words.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }
        }
    };
}

permissions! {
    PartnersGet = "allowedPartners.get", "Get a partner by name.";
    PartnersList = "allowedPartners.list", "List partners.";
    PartnersCreate = "allowedPartners.create", "Create partners.";
    PartnersUpdate = "allowedPartners.update", "Change partners.";
    PartnersDelete = "allowedPartners.delete", "Delete partners.";
    PartnersUndelete = "allowedPartners.undelete", "Bring deleted partners back.";
    PartnersPreview = "allowedPartners.preview", "Prepare a change of partners without making it.";
    PartnersResolve = "allowedPartners.resolve", "Ask whether a domain is allowed.";
    PartnersWatch = "allowedPartners.watch", "Follow the partners' changes.";
    PartnersListRevisions = "allowedPartners.listRevisions", "See what became of a partner.";
    PartnersRollback = "allowedPartners.rollback", "Make partners what they were before.";
    SettingsGet = "federationSettings.get", "Get the federation settings.";
    SettingsGetDialbackPassphrase = "federationSettings.getDialbackPassphrase", "Be given the dialback passphrase with the settings that one watches.";
    SettingsUpdate = "federationSettings.update", "Change the federation settings.";
    SettingsPreview = "federationSettings.preview", "Prepare a change of the settings without making it.";
    RolesGet = "roles.get", "Get a role by name.";
    RolesList = "roles.list", "List roles.";
    RolesCreate = "roles.create", "Make roles that give no more than one holds.";
    RolesUpdate = "roles.update", "Change roles that give no more than one holds.";
    RolesDelete = "roles.delete", "Delete roles that give no more than one holds.";
    RolesEscalate = "roles.escalate", "Have to do with roles that give more than one holds.";
    PermissionsList = "permissions.list", "List the permissions there are.";
    CallerDescribe = "caller.describe", "Ask what one may do oneself; every authenticated caller may.";
    PermissionsTestOthers = "permissions.testOthers", "Ask what somebody else may do.";
    RevocationsGet = "revocations.get", "Get a revocation by name.";
    RevocationsList = "revocations.list", "List what was revoked.";
    RevocationsCreate = "revocations.create", "Revoke tokens, subjects and keys.";
    RevocationsDelete = "revocations.delete", "Take revocations back.";
    AuditGet = "auditEntries.get", "Get an audit entry by name.";
    AuditList = "auditEntries.list", "List audit entries.";
    AuditWatch = "auditEntries.watch", "Follow the audit entries as they are written.";
    AuditVerify = "auditEntries.verify", "Verify the audit, and get signed checkpoints of it.";
    MaintenanceStatus = "maintenance.status", "See how the server is.";
    MaintenanceBackup = "maintenance.backup", "Take a backup, with the dialback passphrase in it.";
    MaintenanceRestore = "maintenance.restore", "Make everything what a backup says.";
    ReplicasGet = "replicas.get", "See how far an XMPP server is.";
    ReplicasList = "replicas.list", "List the XMPP servers that follow the partners.";
    ReplicasReport = "replicas.report", "Report on the XMPP server that one runs beside.";
    ReplicasDelete = "replicas.delete", "Forget an XMPP server and free its name.";
    ReplicasWait = "replicas.wait", "Wait until a revision is in force on the XMPP servers.";
}

impl Permission {
    /// Whether it is about partners, so that a role's domain scopes confine it.
    pub const fn is_scoped(self) -> bool {
        matches!(
            self,
            Self::PartnersGet
                | Self::PartnersList
                | Self::PartnersCreate
                | Self::PartnersUpdate
                | Self::PartnersDelete
                | Self::PartnersUndelete
                | Self::PartnersPreview
                | Self::PartnersResolve
                | Self::PartnersWatch
                | Self::PartnersListRevisions
                | Self::PartnersRollback
                | Self::AuditGet
                | Self::AuditList
                | Self::AuditWatch
        )
    }

    /// Whether a role's updatable fields confine it.
    pub const fn is_limited_to_fields(self) -> bool {
        matches!(self, Self::PartnersUpdate | Self::PartnersRollback)
    }

    /// Whether a role with domain scopes may give it: what is about partners, and what only reads.
    /// Anything else would be a right over everybody's affairs in a role that looks confined.
    pub const fn fits_a_scoped_role(self) -> bool {
        self.is_scoped()
            || matches!(
                self,
                Self::SettingsGet
                    | Self::SettingsGetDialbackPassphrase
                    | Self::RolesGet
                    | Self::RolesList
                    | Self::PermissionsList
                    | Self::CallerDescribe
                    | Self::ReplicasGet
                    | Self::ReplicasList
                    | Self::ReplicasReport
                    | Self::ReplicasWait
            )
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no permission; `partnerctl role permissions` lists them")]
pub struct UnknownPermission(String);

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnumSet::<Self>::all()
            .iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| UnknownPermission(text.to_owned()))
    }
}

/// A part of the partners: one domain, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainScope {
    /// This domain and no other.
    Exactly(DomainName),
    /// Every name below this one, itself not included: `*.contoso.com`.
    Below(DomainName),
}

impl DomainScope {
    /// Whether `domain` is in this scope.
    pub fn covers(&self, domain: &DomainName) -> bool {
        match self {
            Self::Exactly(name) => domain == name,
            Self::Below(ancestor) => domain.is_below(ancestor.as_str()),
        }
    }

    /// Whether every domain in `other` is in this scope too.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exactly(name)) => self.covers(name),
            (Self::Below(ancestor), Self::Below(name)) => {
                name == ancestor || name.is_below(ancestor.as_str())
            }
            (Self::Exactly(_), Self::Below(_)) => false,
        }
    }
}

impl FromStr for DomainScope {
    type Err = DomainNameError;

    /// Parses `contoso.com` or `*.contoso.com`, as people write domains.
    fn from_str(text: &str) -> Result<Self, DomainNameError> {
        match text.strip_prefix("*.") {
            Some(ancestor) => DomainName::parse(ancestor).map(Self::Below),
            None => DomainName::parse(text).map(Self::Exactly),
        }
    }
}

impl fmt::Display for DomainScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => name.fmt(f),
            Self::Below(ancestor) => write!(f, "*.{ancestor}"),
        }
    }
}

/// A named set of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The name, for example `operator`.
    pub id: Arc<str>,
    /// What it is for and what it gives.
    pub terms: RoleTerms,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a role is for and what it gives: all that can be decided about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleTerms {
    /// What the role is for.
    pub description: String,
    /// What it allows.
    pub permissions: EnumSet<Permission>,
    /// The partners it is about, sorted, each once; empty means all.
    pub domain_scopes: Vec<DomainScope>,
    /// The fields that an update by this role may touch; `None` means all.
    pub updatable_fields: Option<EnumSet<TermField>>,
}

/// Where a role comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It comes with the service and cannot be changed.
    BuiltIn {
        /// The original's role it is the counterpart of, empty if there is none.
        lync_role: &'static str,
    },
    /// Somebody made it.
    Custom(RoleRecord),
}

/// What is kept about a role that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRecord {
    /// Given at creation.
    pub uid: Uuid,
    /// The id of the role that it started from, empty if from none. What it took from there was
    /// copied, so the template may change or go.
    pub template: Arc<str>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// The subject that created it.
    pub creator: Arc<str>,
    /// The subject that last changed it.
    pub updater: Arc<str>,
    /// The revision of its last change.
    pub revision: Revision,
}

/// The roles that come with the service.
pub fn built_in_roles() -> Vec<Role> {
    use Permission::{
        AuditGet, AuditList, AuditVerify, AuditWatch, CallerDescribe, MaintenanceStatus,
        PartnersGet, PartnersList, PartnersListRevisions, PartnersPreview, PartnersResolve,
        PartnersUpdate, PartnersWatch, PermissionsList, ReplicasGet, ReplicasList, ReplicasReport,
        ReplicasWait, RolesGet, RolesList, SettingsGet, SettingsGetDialbackPassphrase,
        SettingsPreview,
    };
    let viewer = PartnersGet
        | PartnersList
        | PartnersResolve
        | PartnersWatch
        | PartnersListRevisions
        | SettingsGet
        | RolesGet
        | RolesList
        | PermissionsList
        | ReplicasGet
        | ReplicasList
        | ReplicasWait
        | CallerDescribe;
    vec![
        Role::built_in("admin", "CsAdministrator", "Everything.", EnumSet::all()),
        Role::built_in(
            "operator",
            "CsServerAdministrator",
            "Runs the servers: reads everything, prepares changes, suspends a partner.",
            viewer
                | PartnersPreview
                | SettingsPreview
                | PartnersUpdate
                | MaintenanceStatus
                | ReplicasReport,
        )
        .updating(EnumSet::only(TermField::Suspended)),
        Role::built_in(
            "viewer",
            "CsViewOnlyAdministrator",
            "Reads partners, settings, roles and replicas.",
            viewer,
        ),
        Role::built_in(
            "helpdesk",
            "CsHelpDesk",
            "Reads partners, asks whether a domain is allowed, prepares changes.",
            PartnersGet
                | PartnersList
                | PartnersResolve
                | PartnersWatch
                | PartnersListRevisions
                | PartnersPreview
                | CallerDescribe,
        ),
        Role::built_in(
            "auditor",
            "",
            "Reads what a viewer reads, and the audit.",
            viewer | AuditGet | AuditList | AuditWatch | AuditVerify,
        ),
        Role::built_in(
            "sync-agent",
            "",
            "Follows the partners beside an XMPP server and reports on it.",
            PartnersWatch
                | PartnersResolve
                | SettingsGet
                | SettingsGetDialbackPassphrase
                | ReplicasReport
                | CallerDescribe,
        ),
    ]
}

impl Role {
    fn built_in(
        id: &str,
        lync_role: &'static str,
        description: &str,
        permissions: EnumSet<Permission>,
    ) -> Self {
        let terms =
            RoleTerms { description: description.into(), permissions, ..RoleTerms::default() };
        Self { id: id.into(), terms, origin: Origin::BuiltIn { lync_role } }
    }

    fn updating(mut self, fields: EnumSet<TermField>) -> Self {
        self.terms.updatable_fields = Some(fields);
        self
    }

    /// A role that somebody made, for tests.
    #[cfg(test)]
    pub fn custom(id: &str, terms: RoleTerms) -> Self {
        let record = RoleRecord {
            uid: Uuid::nil(),
            template: "".into(),
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
            creator: "".into(),
            updater: "".into(),
            revision: Revision::ZERO,
        };
        Self { id: id.into(), terms, origin: Origin::Custom(record) }
    }

    /// Whether it comes with the service and cannot be changed.
    pub const fn is_built_in(&self) -> bool {
        matches!(self.origin, Origin::BuiltIn { .. })
    }

    /// The original's role it is the counterpart of, empty if there is none.
    pub const fn lync_role(&self) -> &'static str {
        match self.origin {
            Origin::BuiltIn { lync_role } => lync_role,
            Origin::Custom(_) => "",
        }
    }

    /// What is kept about it, if somebody made it.
    pub const fn record(&self) -> Option<&RoleRecord> {
        match &self.origin {
            Origin::BuiltIn { .. } => None,
            Origin::Custom(record) => Some(record),
        }
    }

    /// The tag that changes with every commit to it; `None` for one that cannot be changed.
    pub fn etag(&self) -> Option<Etag> {
        self.record().map(|record| Etag::of(record.uid, record.revision))
    }
}

impl RoleTerms {
    /// Every rule that the terms break.
    pub fn violations(&self) -> Vec<Violation> {
        let mut broken = Vec::new();
        check_text(&mut broken, "description", &self.description, MAX_DESCRIPTION_CHARS);
        if self.permissions.is_empty() {
            let text = "a role gives at least one permission; `partnerctl role permissions` lists \
                        them";
            broken.push(Violation::new("permissions", text));
        }
        let unfit: Vec<_> = self
            .permissions
            .iter()
            .filter(|permission| !permission.fits_a_scoped_role())
            .map(Permission::as_str)
            .collect();
        if !self.domain_scopes.is_empty() && !unfit.is_empty() {
            let text = format!(
                "a role with domain scopes cannot give {}, which is not about partners; give it by \
                 another role",
                unfit.join(", ")
            );
            broken.push(Violation::new("permissions", text));
        }
        let scopes = self.domain_scopes.len();
        if scopes > MAX_DOMAIN_SCOPES {
            let text = format!("{scopes} scopes; at most {MAX_DOMAIN_SCOPES} are allowed");
            broken.push(Violation::new("domain_scopes", text));
        }
        broken
    }
}

/// Checks the id of a role to be made.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check_role_id(id: &str) -> Result<(), String> {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !(1..=MAX_ROLE_ID_CHARS).contains(&id.len()) || !id.bytes().all(is_allowed) {
        return Err(format!(
            "`{id}` is no role id; give 1 to {MAX_ROLE_ID_CHARS} lower-case letters, digits and \
             hyphens"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_contains_exactly_what_lies_in_it() {
        let scope = |text: &str| text.parse::<DomainScope>().unwrap();
        for (wide, narrow, contains) in [
            ("contoso.com", "contoso.com", true),
            ("contoso.com", "*.contoso.com", false),
            ("*.contoso.com", "contoso.com", false),
            ("*.contoso.com", "eu.contoso.com", true),
            ("*.contoso.com", "*.contoso.com", true),
            ("*.contoso.com", "*.eu.Contoso.com", true),
            ("*.eu.contoso.com", "*.contoso.com", false),
            ("*.contoso.com", "*.notcontoso.com", false),
        ] {
            assert_eq!(scope(wide).contains(&scope(narrow)), contains, "{wide} and {narrow}");
        }
        for text in ["", "*", "*.", "com", "*.com", "a.*.com", "*contoso.com", "**.contoso.com"] {
            assert!(text.parse::<DomainScope>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_built_in_roles_keep_the_rules_of_the_others() {
        for role in built_in_roles() {
            assert_eq!(check_role_id(&role.id), Ok(()));
            assert_eq!(role.terms.violations(), []);
        }
        for id in ["", "Admin", "a_b", "a.b", "rôle", &"x".repeat(64)] {
            assert!(check_role_id(id).is_err(), "{id}");
        }
    }
}

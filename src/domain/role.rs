//! Roles: named sets of permissions, the six that are built in, and what each gives.

use std::{borrow::Cow, fmt, str::FromStr};

use enumset::{EnumSet, EnumSetType};

use super::{domain_name::DomainName, mask::TermField};

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
    PermissionsList = "permissions.list", "List the permissions there are.";
    CallerDescribe = "caller.describe", "Ask what one may do oneself; every authenticated caller may.";
    MaintenanceStatus = "maintenance.status", "See how the server is.";
    ReplicasGet = "replicas.get", "See how far an XMPP server is.";
    ReplicasList = "replicas.list", "List the XMPP servers that follow the partners.";
    ReplicasReport = "replicas.report", "Report on the XMPP server that one runs beside.";
    ReplicasDelete = "replicas.delete", "Forget an XMPP server and free its name.";
    ReplicasWait = "replicas.wait", "Wait until a revision is in force on the XMPP servers.";
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
    pub id: Cow<'static, str>,
    /// What the role is for.
    pub description: Cow<'static, str>,
    /// Whether it comes with the service and cannot be changed.
    pub built_in: bool,
    /// The original's role it is the counterpart of.
    pub lync_role: &'static str,
    /// What it allows.
    pub permissions: EnumSet<Permission>,
    /// The partners it is about; empty means all.
    pub domain_scopes: Vec<DomainScope>,
    /// The fields that an update by this role may touch; `None` means all.
    pub updatable_fields: Option<EnumSet<TermField>>,
}

/// The roles that come with the service.
pub fn built_in_roles() -> Vec<Role> {
    use Permission::{
        CallerDescribe, MaintenanceStatus, PartnersGet, PartnersList, PartnersListRevisions,
        PartnersPreview, PartnersResolve, PartnersUpdate, PartnersWatch, PermissionsList,
        ReplicasGet, ReplicasList, ReplicasReport, ReplicasWait, RolesGet, RolesList, SettingsGet,
        SettingsGetDialbackPassphrase, SettingsPreview,
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
        Role {
            updatable_fields: Some(EnumSet::only(TermField::Suspended)),
            ..Role::built_in(
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
        },
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
        Role::built_in("auditor", "", "Reads what a viewer reads, and the audit.", viewer),
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
        id: &'static str,
        lync_role: &'static str,
        description: &'static str,
        permissions: EnumSet<Permission>,
    ) -> Self {
        Self {
            id: id.into(),
            description: description.into(),
            built_in: true,
            lync_role,
            permissions,
            domain_scopes: Vec::new(),
            updatable_fields: None,
        }
    }
}

//! Permissions as people ask for them: by the command they would run.

use crate::domain::role::Permission;

/// The permission that a text means: the permission itself, or the command that needs it, as in
/// `set` or `settings set`.
///
/// # Errors
/// The text is neither.
pub fn meant_by(text: &str) -> Result<Permission, String> {
    if let Ok(permission) = text.parse() {
        return Ok(permission);
    }
    let words: Vec<_> = text.split([' ', '.']).filter(|word| *word != "partner").collect();
    match words.as_slice() {
        ["get" | "diff"] => Ok(Permission::PartnersGet),
        ["list"] => Ok(Permission::PartnersList),
        ["new" | "create"] => Ok(Permission::PartnersCreate),
        ["set" | "update"] => Ok(Permission::PartnersUpdate),
        ["remove" | "delete"] => Ok(Permission::PartnersDelete),
        ["undelete"] => Ok(Permission::PartnersUndelete),
        ["history"] => Ok(Permission::PartnersListRevisions),
        ["rollback"] => Ok(Permission::PartnersRollback),
        ["preview"] => Ok(Permission::PartnersPreview),
        ["resolve"] => Ok(Permission::PartnersResolve),
        ["settings"] | ["settings", "get"] => Ok(Permission::SettingsGet),
        ["settings", "set" | "update"] => Ok(Permission::SettingsUpdate),
        ["settings", "preview"] => Ok(Permission::SettingsPreview),
        ["role", "get"] => Ok(Permission::RolesGet),
        ["role", "list"] => Ok(Permission::RolesList),
        ["role", "new" | "create"] => Ok(Permission::RolesCreate),
        ["role", "set" | "update"] => Ok(Permission::RolesUpdate),
        ["role", "remove" | "delete"] => Ok(Permission::RolesDelete),
        ["audit"] | ["audit", "list" | "export"] => Ok(Permission::AuditList),
        ["audit", "verify" | "checkpoint"] => Ok(Permission::AuditVerify),
        ["revoke"] | ["revoke", "token" | "subject" | "key"] => Ok(Permission::RevocationsCreate),
        ["revocation", "list"] => Ok(Permission::RevocationsList),
        ["revocation", "delete"] => Ok(Permission::RevocationsDelete),
        ["role", "permissions"] => Ok(Permission::PermissionsList),
        ["replica", "get"] => Ok(Permission::ReplicasGet),
        ["replica", "list"] => Ok(Permission::ReplicasList),
        ["replica", "report"] => Ok(Permission::ReplicasReport),
        ["replica", "delete"] => Ok(Permission::ReplicasDelete),
        ["replica", "wait"] => Ok(Permission::ReplicasWait),
        ["whoami" | "can-i"] => Ok(Permission::CallerDescribe),
        ["status"] => Ok(Permission::MaintenanceStatus),
        ["backup"] => Ok(Permission::MaintenanceBackup),
        ["restore"] => Ok(Permission::MaintenanceRestore),
        _ => Err(format!(
            "`{text}` is no permission and no command; write one such as `set`, `settings set` or \
             `allowedPartners.update`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_permissions_are_both_understood() {
        for (text, permission) in [
            ("set", "allowedPartners.update"),
            ("update", "allowedPartners.update"),
            ("partner set", "allowedPartners.update"),
            ("new", "allowedPartners.create"),
            ("remove", "allowedPartners.delete"),
            ("history", "allowedPartners.listRevisions"),
            ("rollback", "allowedPartners.rollback"),
            ("settings set", "federationSettings.update"),
            ("settings.update", "federationSettings.update"),
            ("allowedPartners.undelete", "allowedPartners.undelete"),
            ("maintenance.status", "maintenance.status"),
        ] {
            assert_eq!(meant_by(text).map(Permission::as_str).as_deref(), Ok(permission), "{text}");
        }
        assert!(meant_by("format disk").is_err());
    }
}

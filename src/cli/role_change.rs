//! `partnerctl role new`, `role set` and `role remove`.

use clap::Args;
use prost_types::FieldMask;

use super::{
    client::request_id,
    console,
    diff::Diff,
    failure::{Failure, Outcome},
    output::{self, ObjectFormat},
    partner::write::Summary,
    role::{print, role_name},
    session::{ChangeFlags, Session},
};
use crate::proto::v1::{
    CreateRoleRequest, DeleteRoleRequest, GetRoleRequest, Role, UpdateRoleRequest,
};

/// What a role gives, as flags.
#[derive(Args, Clone, Debug, Default)]
pub struct RoleFlags {
    /// What the role is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// The permissions it gives, as `role permissions` lists them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    permissions: Option<Vec<String>>,

    /// The partners it is about: contoso.com, or *.contoso.com for all below; all means all
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    scopes: Option<Vec<String>>,

    /// The fields that an update by it may touch; all means all
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    fields: Option<Vec<String>>,
}

impl RoleFlags {
    /// The role with what was given, and the paths of it.
    fn role(self, id: &str) -> (Role, Vec<String>) {
        let Self { description, permissions, scopes, fields } = self;
        let mut role = Role { name: role_name(id), ..Role::default() };
        let mut paths = Vec::new();
        let mut take = |path: &str, given: bool| {
            if given {
                paths.push(path.to_owned());
            }
        };
        take("description", description.is_some());
        take("permissions", permissions.is_some());
        take("domain_scopes", scopes.is_some());
        take("updatable_fields", fields.is_some());
        role.description = description.unwrap_or_default();
        role.permissions = trimmed(permissions);
        role.domain_scopes = or_all(scopes);
        role.updatable_fields = or_all(fields);
        (role, paths)
    }
}

fn trimmed(texts: Option<Vec<String>>) -> Vec<String> {
    let texts = texts.unwrap_or_default().into_iter().map(|text| text.trim().to_owned());
    texts.filter(|text| !text.is_empty()).collect()
}

/// The list; an empty one, which stands for everything, if it says so.
fn or_all(texts: Option<Vec<String>>) -> Vec<String> {
    match trimmed(texts) {
        texts if texts == ["all"] => Vec::new(),
        texts => texts,
    }
}

/// Make a role.
///
/// Nobody makes a role that gives more than he holds himself: that takes roles.escalate.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl role new eu-operator --template operator --scopes '*.eu.contoso.com'
  partnerctl role new lister --permissions allowedPartners.list,allowedPartners.get")]
pub struct NewRoleArgs {
    /// The name: 1 to 63 lower-case letters, digits and hyphens
    #[arg(value_name = "ROLE")]
    role: String,

    /// The role to start from; what is not given is copied from it
    #[arg(long, value_name = "ROLE")]
    template: Option<String>,

    #[command(flatten)]
    values: RoleFlags,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,

    #[command(flatten)]
    change: ChangeFlags,
}

impl NewRoleArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let (role, _) = self.values.role(&self.role);
        let role =
            Role { template: self.template.as_deref().map(role_name).unwrap_or_default(), ..role };
        let request = CreateRoleRequest {
            role_id: String::new(),
            role: Some(role),
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        let made = session.client_for(&self.change).await?.create_role(request).await?;
        if self.change.what_if {
            return show(session, &Diff::between(&self.role, None, Some(&made)));
        }
        print(session, self.output, &made)
    }
}

/// Change what a role gives: at once, for everybody who has it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl role set eu-operator --fields suspended,owner
  partnerctl role set eu-operator --scopes all --what-if")]
pub struct SetRoleArgs {
    /// The role
    #[arg(value_name = "ROLE")]
    role: String,

    #[command(flatten)]
    values: RoleFlags,

    /// Change the role only if this is its etag
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,

    /// Make the role if there is none
    #[arg(long)]
    allow_missing: bool,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,

    #[command(flatten)]
    change: ChangeFlags,
}

impl SetRoleArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Nothing is to be changed, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let (role, paths) = self.values.role(&self.role);
        if paths.is_empty() {
            let text = "nothing is to be changed; give --permissions, --scopes or the like";
            return Err(Failure::usage(text));
        }
        let client = session.client_for(&self.change).await?;
        let before = match self.change.what_if && !self.allow_missing {
            true => Some(client.get_role(GetRoleRequest { name: role.name.clone() }).await?),
            false => None,
        };
        let request = UpdateRoleRequest {
            role: Some(Role { etag: self.etag.unwrap_or_default(), ..role }),
            update_mask: Some(FieldMask { paths }),
            allow_missing: self.allow_missing,
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        let after = client.update_role(request).await?;
        if self.change.what_if {
            return show(session, &Diff::between(&self.role, before.as_ref(), Some(&after)));
        }
        print(session, self.output, &after)
    }
}

fn show(session: &Session, diff: &Diff) -> Outcome {
    let mut summary = Summary::default();
    summary.show(diff, session.console)?;
    summary.finish()
}

/// Delete a role: what it gave ends at once.
///
/// Refused if somebody was seen with it who would lose something, unless --force is given.
#[derive(Args, Clone, Debug)]
pub struct RemoveRoleArgs {
    /// The role
    #[arg(value_name = "ROLE")]
    role: String,

    /// Delete the role only if this is its etag
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,

    /// Do not mind if there is no such role
    #[arg(long)]
    allow_missing: bool,

    #[command(flatten)]
    change: ChangeFlags,
}

impl RemoveRoleArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such role, consent is not given, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let name = role_name(&self.role);
        if !self.change.what_if {
            console::confirm(self.change.consent(), "Remove 1 role", &[&name])?;
        }
        let request = DeleteRoleRequest {
            name: name.clone(),
            etag: self.etag.unwrap_or_default(),
            allow_missing: self.allow_missing,
            force: self.change.force,
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        session.client_for(&self.change).await?.delete_role(request).await?;
        let done = if self.change.what_if { "would be removed" } else { "removed" };
        Ok(output::line(format_args!("{name} {done}"))?)
    }
}

//! `partnerctl role`: the roles and what they allow.

use super::{
    client::Client,
    failure::Outcome,
    json::Json,
    output::{
        ListFormat, ObjectFormat, fields,
        partners::time,
        table::{self, Column, Text},
    },
    permission,
    role_change::{NewRoleArgs, RemoveRoleArgs, SetRoleArgs},
    session::Session,
};
use crate::{
    domain::role::Permission,
    proto::v1::{GetRoleRequest, ListPermissionsRequest, ListRolesRequest, PermissionInfo, Role},
};
use clap::{Args, Subcommand};

/// What can be done with roles.
#[derive(Subcommand, Clone, Debug)]
pub enum RoleCommand {
    List(ListRolesArgs),
    Get(GetRoleArgs),
    New(NewRoleArgs),
    Set(SetRoleArgs),
    Remove(RemoveRoleArgs),
    Permissions(PermissionsArgs),
}

impl RoleCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(args) => args.run(session).await,
            Self::Get(args) => args.run(session).await,
            Self::New(args) => args.run(session).await,
            Self::Set(args) => args.run(session).await,
            Self::Remove(args) => args.run(session).await,
            Self::Permissions(args) => args.run(session).await,
        }
    }
}

/// List the roles, or those that may do something.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl role list
  partnerctl role list --can set
  partnerctl role list --can 'settings set'")]
pub struct ListRolesArgs {
    /// Only roles whose holders may run this command, or that hold this permission
    #[arg(long, value_name = "ACTION", value_parser = permission::meant_by)]
    can: Option<Permission>,

    /// Only roles that match (AIP-160), for example 'built_in = true'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ListFormat,
}

impl ListRolesArgs {
    async fn run(self, session: &Session) -> Outcome {
        let held = self.can.map(|permission| format!("permissions:\"{permission}\""));
        let filter = match (held, self.filter) {
            (Some(held), Some(filter)) => format!("{held} AND ({filter})"),
            (held, filter) => held.or(filter).unwrap_or_default(),
        };
        let roles = all_roles(&session.client().await?, filter).await?;
        let json: Vec<_> = roles.iter().map(Json).collect();
        let table = || {
            const COLUMNS: &[Column] = &[
                Column::fixed("ROLE"),
                Column::fixed("BUILT IN"),
                Column::fixed("LYNC ROLE"),
                Column::flexible("DESCRIPTION"),
            ];
            let rows = roles.iter().map(row).collect();
            table::render(session.console, COLUMNS, rows, true, &mut Vec::new())
        };
        Ok(self.output.print(&json, |index| roles[index].name.clone(), table)?)
    }
}

async fn all_roles(client: &Client, filter: String) -> Outcome<Vec<Role>> {
    let mut request = ListRolesRequest { page_size: 1_000, filter, ..Default::default() };
    let mut roles = Vec::new();
    loop {
        let answer = client.list_roles(request.clone()).await?;
        roles.extend(answer.roles);
        if answer.next_page_token.is_empty() {
            return Ok(roles);
        }
        request.page_token = answer.next_page_token;
    }
}

fn row(role: &Role) -> Vec<Text> {
    let built_in = if role.built_in { "yes" } else { "no" };
    vec![
        id(&role.name).into(),
        built_in.into(),
        role.lync_role.as_str().into(),
        role.description.as_str().into(),
    ]
}

fn id(name: &str) -> &str {
    name.trim_start_matches("roles/")
}

/// Show one role and everything it allows.
#[derive(Args, Clone, Debug)]
pub struct GetRoleArgs {
    /// The role, for example operator
    #[arg(value_name = "ROLE")]
    role: String,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl GetRoleArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let role = client.get_role(GetRoleRequest { name: role_name(&self.role) }).await?;
        print(session, self.output, &role)
    }
}

/// Prints a role.
///
/// # Errors
/// The output cannot be written.
pub fn print(session: &Session, format: ObjectFormat, role: &Role) -> Outcome {
    let or_all = |texts: &[String]| if texts.is_empty() { "all".into() } else { texts.join(", ") };
    let pairs = [
        ("role", id(&role.name).to_owned()),
        ("description", role.description.clone()),
        ("built in", if role.built_in { "yes" } else { "no" }.to_owned()),
        ("Lync role", role.lync_role.clone()),
        ("template", id(&role.template).to_owned()),
        ("permissions", role.permissions.join(", ")),
        ("partners", or_all(&role.domain_scopes)),
        ("updatable fields", or_all(&role.updatable_fields)),
        ("updated", time(role.update_time.as_ref())),
        ("by", role.updater.clone()),
        ("etag", role.etag.clone()),
    ];
    Ok(format.print(&Json(role), || fields(session.console, &pairs))?)
}

/// The resource name of a role, which may be written with the collection before it.
pub fn role_name(role: &str) -> String {
    format!("roles/{}", id(role))
}

/// List every permission and what it allows.
#[derive(Args, Clone, Debug)]
pub struct PermissionsArgs {
    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ListFormat,
}

impl PermissionsArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let answer = client.list_permissions(ListPermissionsRequest {}).await?;
        let permissions = answer.permissions;
        let json: Vec<_> = permissions.iter().map(Json).collect();
        let table = || {
            const COLUMNS: &[Column] =
                &[Column::fixed("PERMISSION"), Column::flexible("WHAT IT ALLOWS")];
            let row = |info: &PermissionInfo| {
                vec![info.permission.as_str().into(), info.description.as_str().into()]
            };
            let rows = permissions.iter().map(row).collect();
            table::render(session.console, COLUMNS, rows, true, &mut Vec::new())
        };
        Ok(self.output.print(&json, |index| permissions[index].permission.clone(), table)?)
    }
}

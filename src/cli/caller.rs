//! `partnerctl whoami` and `partnerctl can-i`: who one is to the service, and what one may do.

use clap::Args;

use super::{
    failure::{Exit, Failure, Outcome},
    json::Json,
    output::{self, ObjectFormat, fields, partners::time},
    permission,
    role::role_name,
    session::Session,
    values,
};
use crate::{
    domain::role::Permission,
    proto::v1::{
        DescribeCallerRequest, DescribeCallerResponse, OtherSubject, TestPermissionsRequest,
        test_permissions_response::Verdict,
    },
};

/// Somebody else, as flags.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Somebody else (takes permissions.testOthers)")]
pub struct OtherFlags {
    /// The subject, with the roles that it was last seen with
    #[arg(long, value_name = "SUBJECT", conflicts_with = "with_roles")]
    subject: Option<String>,

    /// The subject's issuer, when several have such a subject
    #[arg(long, value_name = "ISSUER", requires = "subject")]
    issuer: Option<String>,

    /// Somebody with just these roles
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    with_roles: Vec<String>,
}

impl OtherFlags {
    /// Who is meant; `None` for oneself.
    fn other(self) -> Option<OtherSubject> {
        let Self { subject, issuer, with_roles } = self;
        if subject.is_none() && with_roles.is_empty() {
            return None;
        }
        Some(OtherSubject {
            subject: subject.unwrap_or_default(),
            issuer: issuer.unwrap_or_default(),
            roles: with_roles.iter().map(|role| role_name(role)).collect(),
        })
    }
}

/// Show who you are to the service, your roles and what they allow.
#[derive(Args, Clone, Debug)]
pub struct WhoamiArgs {
    #[command(flatten)]
    other: OtherFlags,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl WhoamiArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let caller =
            client.describe_caller(DescribeCallerRequest { other: self.other.other() }).await?;
        Ok(self.output.print(&Json(&caller), || fields(session.console, &pairs(&caller)))?)
    }
}

fn pairs(caller: &DescribeCallerResponse) -> Vec<(&'static str, String)> {
    vec![
        ("subject", caller.subject.clone()),
        ("issuer", caller.issuer.clone()),
        ("roles", caller.roles.join(", ")),
        ("unknown roles", caller.unknown_roles.join(", ")),
        ("permissions", caller.permissions.join(", ")),
        ("token expires", time(caller.expire_time.as_ref())),
        ("last seen", time(caller.last_seen_time.as_ref())),
    ]
}

/// Tell whether you may do something, and why or why not.
///
/// Exits with 8 when the answer is no.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl can-i set contoso.com
  partnerctl can-i update contoso.com --field tls_negotiation
  partnerctl can-i 'settings set'
  partnerctl can-i allowedPartners.create")]
pub struct CanIArgs {
    /// A command, such as set, or a permission, such as allowedPartners.update
    #[arg(value_name = "ACTION", value_parser = permission::meant_by)]
    action: Permission,

    /// The partner; any without
    #[arg(value_name = "DOMAIN")]
    domain: Option<String>,

    /// A field that would be changed; may be given again
    #[arg(long = "field", value_name = "FIELD")]
    fields: Vec<String>,

    #[command(flatten)]
    other: OtherFlags,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl CanIArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses to answer, or the answer is no.
    pub async fn run(self, session: &Session) -> Outcome {
        let resource = self.domain.as_deref().map(values::resource_name).transpose();
        let request = TestPermissionsRequest {
            resource: resource.map_err(Failure::rejected)?.unwrap_or_default(),
            permissions: vec![self.action.to_string()],
            fields: self.fields,
            other: self.other.other(),
        };
        let client = session.client().await?;
        let answer = client.test_permissions(request).await?;
        self.output.print(&Json(&answer), || answer.verdicts.iter().map(told).collect())?;
        if answer.verdicts.iter().all(|verdict| verdict.allowed) {
            return Ok(());
        }
        Err(Failure::silent(Exit::No))
    }
}

fn told(verdict: &Verdict) -> String {
    let answer = if verdict.allowed { "yes" } else { "no" };
    let mut text = format!("{answer}: {}\n", verdict.explanation);
    if !verdict.denied_fields.is_empty() {
        text += &format!("  fields you may not change: {}\n", verdict.denied_fields.join(", "));
    }
    text
}

/// Show the version, the revision and the size of the service.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl StatusArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let status = client.status(crate::proto::v1::StatusRequest {}).await?;
        let number = |number: i64| output::number(number);
        let writable =
            if status.writable { "yes".into() } else { format!("no: {}", status.read_only_reason) };
        let pairs = [
            ("version", status.version.clone()),
            ("up since", time(status.start_time.as_ref())),
            ("revision", number(status.revision)),
            ("oldest revision", number(status.oldest_revision)),
            ("partners", number(status.partner_count)),
            ("deleted partners", number(status.deleted_partner_count)),
            ("domains", number(status.domain_count)),
            ("store", format!("{}, {} bytes", status.store, number(status.store_size_bytes))),
            ("writable", writable),
        ];
        Ok(self.output.print(&Json(&status), || fields(session.console, &pairs))?)
    }
}

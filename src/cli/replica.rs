//! `partnerctl replica`: the XMPP servers that follow the service, and how far each is.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{
    client::Client,
    console::{Consent, Console, Paint, confirm},
    convergence::{converged, told, verdict},
    failure::Outcome,
    json::{Json, enum_text},
    output::{
        self, ListFormat, ObjectFormat, fields, number,
        partners::time,
        table::{self, Column, Text},
    },
    session::Session,
    values,
};
use crate::proto::v1::{
    DeleteReplicaRequest, GetReplicaRequest, ListReplicasRequest, Replica, ReplicaReport,
    StalenessPolicy, replica::State,
};

/// What can be done with replicas.
#[derive(Subcommand, Clone, Debug)]
pub enum ReplicaCommand {
    List(ListReplicasArgs),
    Get(GetReplicaArgs),
    Wait(WaitReplicasArgs),
    Delete(DeleteReplicaArgs),
}

impl ReplicaCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses; for `wait`, a server does not enforce the revision in time.
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(args) => args.run(session).await,
            Self::Get(args) => args.run(session).await,
            Self::Wait(args) => args.run(session).await,
            Self::Delete(args) => args.run(session).await,
        }
    }
}

/// List the XMPP servers and how far each of them is.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl replica list
  partnerctl replica list --filter 'state != UP_TO_DATE'
  partnerctl replica list --filter 'report.sessions.domain:contoso.com'")]
pub struct ListReplicasArgs {
    /// Only replicas that match (AIP-160), for example 'state = SILENT'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ListFormat,
}

impl ListReplicasArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let replicas = all_replicas(&client, self.filter.unwrap_or_default()).await?;
        let json: Vec<_> = replicas.iter().map(Json).collect();
        let table = || {
            const COLUMNS: &[Column] = &[
                Column::fixed("REPLICA"),
                Column::fixed("STATE"),
                Column::fixed("REVISION"),
                Column::fixed("SESSIONS"),
                Column::fixed("NOT ENFORCED"),
                Column::fixed("LAST REPORT"),
                Column::flexible("SERVER"),
                Column::flexible("HOST"),
            ];
            let rows = replicas.iter().map(row).collect();
            table::render(session.console, COLUMNS, rows, true, &mut Vec::new())
        };
        Ok(self.output.print(&json, |index| replicas[index].name.clone(), table)?)
    }
}

async fn all_replicas(client: &Client, filter: String) -> Outcome<Vec<Replica>> {
    let mut request = ListReplicasRequest { page_size: 1_000, filter, ..Default::default() };
    let mut replicas = Vec::new();
    loop {
        let answer = client.list_replicas(request.clone()).await?;
        replicas.extend(answer.replicas);
        if answer.next_page_token.is_empty() {
            return Ok(replicas);
        }
        request.page_token = answer.next_page_token;
    }
}

fn row(replica: &Replica) -> Vec<Text> {
    let report = replica.report.clone().unwrap_or_default();
    let unenforced = report.unenforced_properties.len();
    let unenforced = match unenforced {
        0 => Text::from("-"),
        some => Text::painted(some.to_string(), Paint::Yellow),
    };
    let paint = match replica.state() {
        State::UpToDate => Paint::Green,
        State::Behind | State::Unspecified => Paint::Yellow,
        State::Rejecting | State::Silent => Paint::Red,
    };
    vec![
        id(&replica.name).into(),
        Text::painted(state(replica), paint),
        number(report.applied_revision).into(),
        number(report.session_count).into(),
        unenforced,
        time(replica.last_report_time.as_ref()).into(),
        server(&report).into(),
        report.host_name.into(),
    ]
}

fn state(replica: &Replica) -> String {
    match replica.state() {
        State::Behind => format!("behind by {}", number(replica.revisions_behind)),
        state => enum_text(state.as_str_name(), "STATE_").replace('-', " "),
    }
}

/// The server as it calls itself, or else its kind.
fn server(report: &ReplicaReport) -> String {
    match report.server_version.as_str() {
        "" => enum_text(report.server_kind().as_str_name(), "SERVER_KIND_"),
        version => version.to_owned(),
    }
}

fn id(name: &str) -> &str {
    name.strip_prefix("replicas/").unwrap_or(name)
}

fn resource_name(replica: &str) -> String {
    format!("replicas/{}", id(replica))
}

/// Show one XMPP server: how far it is, its sessions, what it does not enforce.
#[derive(Args, Clone, Debug)]
pub struct GetReplicaArgs {
    /// The replica, for example prosody-1
    #[arg(value_name = "REPLICA")]
    replica: String,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl GetReplicaArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let request = GetReplicaRequest { name: resource_name(&self.replica) };
        let replica = client.get_replica(request).await?;
        Ok(self.output.print(&Json(&replica), || shown(session.console, &replica))?)
    }
}

fn shown(console: Console, replica: &Replica) -> String {
    let report = replica.report.clone().unwrap_or_default();
    let span = |span: Option<&prost_types::Duration>| {
        span.map_or_else(String::new, |span| format!("{} s", number(span.seconds)))
    };
    let rejection = replica.last_rejection.as_ref().map_or_else(String::new, |rejection| {
        let when = time(rejection.reject_time.as_ref());
        let revision = number(rejection.revision);
        format!("revision {revision} {when}: {}", rejection.reason).replace(" :", ":")
    });
    let policy = match report.staleness_policy() {
        StalenessPolicy::Unspecified => String::new(),
        policy => {
            let policy = enum_text(policy.as_str_name(), "STALENESS_POLICY_");
            let now = if report.stale { ", refusing everybody now" } else { "" };
            format!("{policy} after {}{now}", span(report.staleness_lease.as_ref()))
        }
    };
    let closed = format!(
        "{} by the last application, {} since the start",
        number(report.closed_session_count),
        number(report.closed_session_total)
    );
    let pairs = [
        ("replica", id(&replica.name).to_owned()),
        ("state", state(replica)),
        ("silent since", time(replica.silent_since_time.as_ref())),
        ("revision", number(report.applied_revision)),
        ("in force since", time(report.apply_time.as_ref())),
        ("last rejection", rejection),
        ("partners", number(report.partner_count)),
        ("sessions", number(report.session_count)),
        ("closed sessions", closed),
        ("server", server(&report)),
        ("module", report.module_version.clone()),
        ("agent", report.agent_version.clone()),
        ("host", report.host_name.clone()),
        ("started", time(report.server_start_time.as_ref())),
        ("when cut off", policy),
        ("age of data", span(replica.data_age.as_ref())),
        ("reports as", format!("{} of {}", replica.subject, replica.issuer)),
        ("first report", time(replica.first_report_time.as_ref())),
        ("last report", time(replica.last_report_time.as_ref())),
    ];
    fields(console, &pairs) + &lists(console, &report)
}

/// What there are several of.
fn lists(console: Console, report: &ReplicaReport) -> String {
    let mut text = String::new();
    let mut section = |title: &str, columns: &[Column], rows: Vec<Vec<Text>>| {
        if !rows.is_empty() {
            let table = table::render(console, columns, rows, true, &mut Vec::new());
            text += &format!("\n{title}:\n{table}");
        }
    };
    let warnings = report.warnings.iter().map(|warning| vec![warning.as_str().into()]);
    section("warnings", &[Column::flexible("WARNING")], warnings.collect());
    let unenforced = report.unenforced_properties.iter().map(|unenforced| {
        vec![
            unenforced.property.as_str().into(),
            number(unenforced.partner_count).into(),
            unenforced.reason.as_str().into(),
        ]
    });
    let columns =
        [Column::fixed("PROPERTY"), Column::fixed("PARTNERS"), Column::flexible("REASON")];
    section("not enforced", &columns, unenforced.collect());
    let sessions = report.sessions.iter().map(|sessions| {
        vec![
            sessions.domain.as_str().into(),
            number(sessions.inbound_count).into(),
            number(sessions.outbound_count).into(),
        ]
    });
    let columns = [Column::fixed("PARTNER"), Column::fixed("IN"), Column::fixed("OUT")];
    section("sessions", &columns, sessions.collect());
    text
}

/// Wait until a revision is in force on every XMPP server.
///
/// Silent servers are not waited for, but named. The exit code is 0 only if the revision is in
/// force on all of them.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl replica wait
  partnerctl replica wait --revision 1042 --wait-timeout 2m")]
pub struct WaitReplicasArgs {
    /// The revision; the last one if left out
    #[arg(long, value_name = "REVISION", default_value_t)]
    revision: i64,

    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    wait_timeout: Duration,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl WaitReplicasArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let found = converged(&client, self.revision, self.wait_timeout).await?;
        self.output.print(&Json(&found), || {
            format!("revision {}: {}", number(found.revision), told(&found))
        })?;
        verdict(&found)
    }
}

/// Forget an XMPP server, and free its id for whoever reports as it next.
///
/// What the server enforces stays as it is. An agent that still runs reports again and is back:
/// end it first, or take its token away.
#[derive(Args, Clone, Debug)]
pub struct DeleteReplicaArgs {
    /// The replica, for example prosody-1
    #[arg(value_name = "REPLICA")]
    replica: String,

    /// Do not mind a replica that does not exist
    #[arg(long)]
    allow_missing: bool,

    /// Do not ask for confirmation
    #[arg(long, short = 'y')]
    yes: bool,
}

impl DeleteReplicaArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let replica = id(&self.replica);
        let consent = if self.yes { Consent::Given } else { Consent::ToBeAsked };
        confirm(consent, "Delete 1 replica", &[replica])?;
        let request = DeleteReplicaRequest {
            name: resource_name(replica),
            allow_missing: self.allow_missing,
        };
        client.delete_replica(request).await?;
        Ok(output::line(format_args!("{replica} deleted"))?)
    }
}

//! `partnerctl audit`: what was done and refused, and whether the record of it is whole.

mod entry;
mod verify;
mod watch;

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};

use self::{verify::VerifyAuditArgs, watch::WatchAuditArgs};
use super::{
    failure::{Failure, Outcome},
    json::{Json, enum_text},
    output::{
        ListFormat, ObjectFormat, fields,
        partners::time,
        table::{self, Column, Text},
    },
    session::Session,
};
use crate::proto::v1::{
    AuditEntry, ListAuditEntriesRequest, SignAuditCheckpointRequest, audit_entry as wire,
};

/// The entries of a page.
const PAGE: i32 = 1_000;

/// What can be done with the audit.
#[derive(Subcommand, Clone, Debug)]
pub enum AuditCommand {
    List(ListAuditArgs),
    Watch(WatchAuditArgs),
    Verify(VerifyAuditArgs),
    Checkpoint(CheckpointArgs),
    Export(ExportAuditArgs),
}

impl AuditCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses, or the audit is not whole.
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(args) => args.run(session).await,
            Self::Watch(args) => args.run(session).await,
            Self::Verify(args) => args.run(session).await,
            Self::Checkpoint(args) => args.run(session).await,
            Self::Export(args) => args.run(session).await,
        }
    }
}

/// List the audit, the newest first.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl audit list --limit 20
  partnerctl audit list --filter 'changes.resource:\"allowedPartners/contoso.com\"'
  partnerctl audit list --filter 'kind = DENIAL' -o ndjson")]
pub struct ListAuditArgs {
    /// Only entries that match (AIP-160), for example 'subject = \"jo\"'
    #[arg(long, value_name = "FILTER", default_value = "")]
    filter: String,

    /// At most so many entries; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    /// The oldest first
    #[arg(long)]
    oldest_first: bool,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ListFormat,
}

impl ListAuditArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let mut request = ListAuditEntriesRequest {
            page_size: PAGE,
            page_token: String::new(),
            filter: self.filter,
            order_by: if self.oldest_first { "sequence" } else { "sequence desc" }.into(),
        };
        let most = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut entries = Vec::new();
        while entries.len() < most {
            let wanted = i32::try_from(most - entries.len()).unwrap_or(PAGE);
            request.page_size = wanted.min(PAGE);
            let answer = client.list_audit_entries(request.clone()).await?;
            entries.extend(answer.audit_entries);
            if answer.next_page_token.is_empty() {
                break;
            }
            request.page_token = answer.next_page_token;
        }
        let json: Vec<_> = entries.iter().map(Json).collect();
        let table = || {
            let rows = entries.iter().map(row).collect();
            table::render(session.console, COLUMNS, rows, true, &mut Vec::new())
        };
        Ok(self.output.print(&json, |index| entries[index].name.clone(), table)?)
    }
}

const COLUMNS: &[Column] = &[
    Column::fixed("ENTRY"),
    Column::fixed("TIME"),
    Column::fixed("KIND"),
    Column::flexible("SUBJECT"),
    Column::flexible("WHAT"),
    Column::flexible("REASON"),
];

fn row(entry: &AuditEntry) -> Vec<Text> {
    vec![
        entry.sequence.to_string().into(),
        time(entry.create_time.as_ref()).into(),
        enum_text(entry.kind().as_str_name(), "KIND_").into(),
        entry.subject.as_str().into(),
        what(entry).into(),
        entry.reason.as_str().into(),
    ]
}

fn what(entry: &AuditEntry) -> String {
    if let Some(refusal) = &entry.refusal {
        let who = match refusal.claimed_subject.as_str() {
            "" => String::new(),
            claimed => format!(", said to be {claimed}"),
        };
        let detail = format!("{} {}", refusal.reason, refusal.permission);
        let from = if refusal.source.is_empty() { "?" } else { &refusal.source };
        return format!("{} times {} from {from}{who}", refusal.count, detail.trim());
    }
    if let Some(checkpoint) = &entry.checkpoint {
        return format!("vouches for entry {}", checkpoint.sequence);
    }
    if let Some(removed) = &entry.retention {
        return format!("removed {} entries, up to {}", removed.count, removed.sequence);
    }
    if let Some(backup) = &entry.backup {
        let records = backup.record_count;
        return format!("backup of revision {}, {records} records", backup.revision);
    }
    if let Some(restore) = &entry.restore {
        return format!(
            "restored the backup of revision {} made at {}: {} created, {} updated, {} deleted",
            restore.backup_revision,
            time(restore.backup_time.as_ref()),
            restore.created_count,
            restore.updated_count,
            restore.deleted_count
        );
    }
    let change = |change: &wire::Change| {
        let verb = enum_text(change.verb().as_str_name(), "VERB_");
        let fields: Vec<_> = change.fields.iter().map(|field| field.path.as_str()).collect();
        match change.verb() {
            wire::Verb::Update => format!("{verb} {} ({})", change.resource, fields.join(", ")),
            _ => format!("{verb} {}", change.resource),
        }
    };
    let changes: Vec<_> = entry.changes.iter().map(change).collect();
    changes.join("; ") + &entry.version
}

/// Get a signed checkpoint of the end of the audit, to be kept elsewhere.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  partnerctl audit checkpoint -o json > kept.json")]
pub struct CheckpointArgs {
    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl CheckpointArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let checkpoint = client.sign_audit_checkpoint(SignAuditCheckpointRequest {}).await?;
        let pairs = [
            ("entry", checkpoint.sequence.to_string()),
            ("hash", checkpoint.hash.clone()),
            ("signed", time(checkpoint.sign_time.as_ref())),
            ("public key", checkpoint.public_key.clone()),
            ("signature", checkpoint.signature.clone()),
        ];
        Ok(self.output.print(&Json(&checkpoint), || fields(session.console, &pairs))?)
    }
}

/// Print the whole audit as NDJSON, the oldest entry first, for `audit verify --file`.
#[derive(Args, Clone, Debug)]
pub struct ExportAuditArgs {
    /// The file to write; standard output without
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ExportAuditArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let mut out: Box<dyn io::Write> = match &self.file {
            Some(file) => Box::new(io::BufWriter::new(
                fs::File::create_new(file)
                    .map_err(|error| Failure::rejected(format!("{}: {error}", file.display())))?,
            )),
            None => Box::new(io::BufWriter::new(io::stdout())),
        };
        let mut request = ListAuditEntriesRequest {
            page_size: PAGE,
            order_by: "sequence".into(),
            ..ListAuditEntriesRequest::default()
        };
        loop {
            let answer = client.list_audit_entries(request.clone()).await?;
            for entry in &answer.audit_entries {
                let line = serde_json::to_string(&Json(entry))
                    .map_err(|error| Failure::failed(error.to_string()))?;
                writeln!(out, "{line}")?;
            }
            if answer.next_page_token.is_empty() {
                break;
            }
            request.page_token = answer.next_page_token;
        }
        Ok(out.flush()?)
    }
}

//! `partnerctl audit`: what was done and refused, and whether the record of it is whole.

use std::{
    fs,
    io::{self, BufRead, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};

use super::{
    audit_entry,
    failure::{Exit, Failure, Outcome},
    json::{ApiMessage as _, Json, enum_text},
    output::{
        self, ListFormat, ObjectFormat, fields,
        partners::time,
        table::{self, Column, Text},
    },
    session::Session,
};
use crate::{
    domain::audit::{Walk, hex},
    proto::v1::{
        AuditCheckpoint, AuditEntry, ListAuditEntriesRequest, SignAuditCheckpointRequest,
        VerifyAuditEntriesRequest, audit_entry as wire,
    },
};

/// The entries of a page.
const PAGE: i32 = 1_000;

/// What can be done with the audit.
#[derive(Subcommand, Clone, Debug)]
pub enum AuditCommand {
    List(ListAuditArgs),
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
            const COLUMNS: &[Column] = &[
                Column::fixed("ENTRY"),
                Column::fixed("TIME"),
                Column::fixed("KIND"),
                Column::flexible("SUBJECT"),
                Column::flexible("WHAT"),
                Column::flexible("REASON"),
            ];
            let rows = entries.iter().map(row).collect();
            table::render(session.console, COLUMNS, rows, true, &mut Vec::new())
        };
        Ok(self.output.print(&json, |index| entries[index].name.clone(), table)?)
    }
}

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

/// Verify that no entry was changed, moved or removed.
///
/// The service walks its chain; with --file an export is walked here, without a service.
/// Removed last entries are found only against a checkpoint that was kept elsewhere.
/// Exits with 8 when something is wrong.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl audit verify --checkpoint kept.json
  partnerctl audit verify --file audit.ndjson --checkpoint kept.json")]
pub struct VerifyAuditArgs {
    /// A checkpoint that was kept, as `audit checkpoint -o json` prints it; may be given again
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,

    /// Verify an export instead: the file that `audit export` made; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl VerifyAuditArgs {
    async fn run(self, session: &Session) -> Outcome {
        let checkpoints = self.checkpoints.iter().map(read_checkpoint);
        let checkpoints = checkpoints.collect::<Outcome<Vec<_>>>()?;
        if let Some(file) = &self.file {
            return verify_file(file, &checkpoints);
        }
        let client = session.client().await?;
        let request = VerifyAuditEntriesRequest { checkpoints };
        let answer = client.verify_audit_entries(request).await?;
        let verdict = match answer.intact {
            true => "intact".to_owned(),
            false => format!("entry {}: {}", answer.first_fault_sequence, answer.fault),
        };
        let pairs = [
            ("audit", verdict),
            ("verified entries", answer.verified_count.to_string()),
            ("last hash", answer.last_hash.clone()),
            ("checkpoints", answer.checkpoint_count.to_string()),
            ("public key", answer.public_key.clone()),
        ];
        self.output.print(&Json(&answer), || fields(session.console, &pairs))?;
        if answer.intact { Ok(()) } else { Err(Failure::silent(Exit::No)) }
    }
}

fn read_checkpoint(file: &PathBuf) -> Outcome<AuditCheckpoint> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::rejected(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    AuditCheckpoint::from_json(&value).map_err(|error| wrong(&error))
}

/// Walks an export, line by line.
fn verify_file(file: &PathBuf, checkpoints: &[AuditCheckpoint]) -> Outcome {
    let input: Box<dyn BufRead> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => {
            let file = fs::File::open(file)
                .map_err(|error| Failure::rejected(format!("{}: {error}", file.display())))?;
            Box::new(io::BufReader::new(file))
        }
    };
    let kept = checkpoints.iter().map(audit_entry::checkpoint).collect::<Result<Vec<_>, _>>();
    let kept = kept.map_err(Failure::rejected)?;
    let signer = kept.first().map(|checkpoint| checkpoint.public_key);
    match walk(
        input,
        signer.map_or_else(|| Walk::new(None, Vec::new()), |key| Walk::new(Some(key), kept)),
    )? {
        Ok(walk) => {
            let (sequence, hash) = (walk.head().sequence, hex(&walk.head().hash));
            output::line(format_args!("intact: {sequence} entries, the last hash is {hash}"))?;
            if checkpoints.is_empty() {
                eprintln!("note: without a --checkpoint nobody knows whether the end is missing");
            }
            Ok(())
        }
        Err(fault) => {
            output::line(format_args!("entry {}: {}", fault.sequence, fault.text))?;
            Err(Failure::silent(Exit::No))
        }
    }
}

type Walked = Result<Walk, crate::domain::audit::Fault>;

fn walk(input: impl BufRead, walk: Walked) -> Outcome<Walked> {
    let mut walk = match walk {
        Ok(walk) => walk,
        Err(fault) => return Ok(Err(fault)),
    };
    for (number, line) in input.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |error: String| Failure::rejected(format!("line {}: {error}", number + 1));
        let value = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        let entry = AuditEntry::from_json(&value).map_err(wrong)?;
        let entry = audit_entry::entry(&entry).map_err(wrong)?;
        if let Err(fault) = walk.step(&entry) {
            return Ok(Err(fault));
        }
    }
    Ok(walk.end())
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

//! `partnerctl audit verify`: whether the record is whole.

use std::{
    fs,
    io::{self, BufRead},
    path::{Path, PathBuf},
};

use clap::Args;

use super::entry;
use crate::{
    cli::{
        failure::{Exit, Failure, Outcome},
        json::{ApiMessage as _, Json},
        output::{self, ObjectFormat, fields},
        session::Session,
    },
    domain::audit::{self as domain, Fault, Walk, hex},
    proto::v1::{AuditCheckpoint, AuditEntry, VerifyAuditEntriesRequest},
};

/// Verify that no entry was changed, moved or removed.
///
/// The service walks its chain; with --file an export is walked here, without a service.
/// Removed last entries are found only against a checkpoint that was kept elsewhere. What
/// retention removed must be vouched for by a signed entry; an earlier export joins to it.
/// Exits with 8 when something is wrong.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl audit verify --checkpoint kept.json
  partnerctl audit verify --file audit.ndjson --checkpoint kept.json
  partnerctl audit verify --file audit-2025.ndjson --file audit-2026.ndjson")]
pub struct VerifyAuditArgs {
    /// A checkpoint that was kept, as `audit checkpoint -o json` prints it; may be given again
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,

    /// Verify an export instead: the file that `audit export` made; - is standard input;
    /// may be given again for the parts of one, the oldest first, which may overlap
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl VerifyAuditArgs {
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let checkpoints = self.checkpoints.iter().map(read_checkpoint);
        let checkpoints = checkpoints.collect::<Outcome<Vec<_>>>()?;
        if !self.files.is_empty() {
            return verify_files(&self.files, &checkpoints);
        }
        let client = session.client().await?;
        let request = VerifyAuditEntriesRequest { checkpoints };
        let answer = client.verify_audit_entries(request).await?;
        let verdict = match answer.intact {
            true => "intact".to_owned(),
            false => format!("entry {}: {}", answer.first_fault_sequence, answer.fault),
        };
        let gone = match answer.removed_sequence {
            0 => "none".to_owned(),
            last => format!("1 to {last}, as a signed entry says"),
        };
        let undecided: Vec<_> =
            answer.removed_checkpoints.iter().map(|it| undecided(&it.to_string())).collect();
        let pairs = [
            ("audit", verdict),
            ("removed by retention", gone),
            ("verified entries", answer.verified_count.to_string()),
            ("last hash", answer.last_hash.clone()),
            ("checkpoints", answer.checkpoint_count.to_string()),
            ("of removed entries", undecided.join("; ")),
            ("public key", answer.public_key.clone()),
        ];
        let told = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>();
        self.output.print(&Json(&answer), || fields(session.console, &told))?;
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

/// What is said of a checkpoint that nothing can be held against any more.
fn undecided(sequence: &str) -> String {
    format!(
        "the checkpoint of entry {sequence}: removed by retention, so it tells nothing any more"
    )
}

/// Walks the parts of an export, line by line.
fn verify_files(files: &[PathBuf], checkpoints: &[AuditCheckpoint]) -> Outcome {
    let kept = checkpoints.iter().map(entry::checkpoint).collect::<Result<Vec<_>, _>>();
    let kept = kept.map_err(Failure::rejected)?;
    let signer = kept.first().map(|checkpoint| checkpoint.public_key);
    let walked = files.iter().try_fold(Walk::of_export(signer, kept), |walked, file| {
        let of_file = |failure: Failure| failure.detail(format!("in {}", file.display()));
        match walked {
            Ok(walk) => walk_on(open(file)?, walk).map_err(of_file),
            fault => Ok::<_, Failure>(fault),
        }
    })?;
    match walked.and_then(Walk::end) {
        Ok(walk) => {
            let hash = hex(&walk.head().hash);
            let length = walk.length();
            output::line(format_args!("intact: {length} entries, the last hash is {hash}"))?;
            if let base @ 1.. = walk.base().sequence {
                let hash = hex(&walk.base().hash);
                output::line(format_args!(
                    "begins after entry {base}, which was removed by retention with all before it \
                     and had the hash {hash}"
                ))?;
            }
            for kept in walk.kept_of_removed() {
                output::line(format_args!("{}", undecided(&kept.head.sequence.to_string())))?;
            }
            if checkpoints.is_empty() {
                eprintln!("note: without a --checkpoint nobody knows whether the end is missing");
            }
            Ok(())
        }
        Err(Fault { sequence, text }) => {
            output::line(format_args!("entry {sequence}: {text}"))?;
            Err(Failure::silent(Exit::No))
        }
    }
}

fn open(file: &Path) -> Outcome<Box<dyn BufRead>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = fs::File::open(file)
        .map_err(|error| Failure::rejected(format!("{}: {error}", file.display())))?;
    Ok(Box::new(io::BufReader::new(opened)))
}

fn walk_on(input: impl BufRead, mut walk: Walk) -> Outcome<Result<Walk, Fault>> {
    for (number, line) in input.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let entry = read_line(&line)
            .map_err(|error| Failure::rejected(format!("line {}: {error}", number + 1)))?;
        if let Err(fault) = walk.step(&entry) {
            return Ok(Err(fault));
        }
    }
    Ok(Ok(walk))
}

/// The entry of a line, which must say what an export says, and nothing in another way: what the
/// hash does not cover, such as how a time is written, may not be changed either.
fn read_line(line: &str) -> Result<domain::AuditEntry, String> {
    let value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let entry = AuditEntry::from_json(&value)?;
    let read = entry::entry(&entry)?;
    let written = serde_json::to_value(Json(&entry)).map_err(|error| error.to_string())?;
    if written != value {
        return Err("it is not written as an export writes it".to_owned());
    }
    Ok(read)
}

#[cfg(test)]
mod tests;

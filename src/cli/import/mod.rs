//! `partnerctl import`: a way in for lists that people have.

mod clixml;
mod csv;
mod ejabberd;
pub mod format;
mod json;
mod list;
pub mod plan;
mod prosody;
pub mod record;
mod report;
mod store_xml;
mod text;
mod xml;

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    console::{confirm, count, plain},
    failure::{Exit, Failure, Outcome},
    output,
    partner::write,
    session::{ChangeFlags, Session},
};
use format::{Format, Parsed};
use plan::{Plan, Verdict};
use report::Report;

/// How many refused entries are told one by one; the report has all.
const REFUSALS_TOLD: usize = 100;

/// Bring in partners from a file.
///
/// The format is found out: CLIXML, JSON or CSV of Get-CsXmppAllowedPartner, the original store's
/// XML, plain lists of domains, Prosody's and ejabberd's lists, and what `partnerctl export`
/// writes.
///
/// Everything is checked first, here and by the service. With one bad entry nothing is changed,
/// unless --skip-invalid is given. Fields that the file does not state are left as they are. What
/// is so already is not sent again, so an import can be repeated, and one that was interrupted
/// goes on where it ended. More than one change asks for confirmation at the terminal; where
/// there is none, give --yes.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl import partners.xml --what-if
  partnerctl import partners.xml --yes --report report.json
  partnerctl import prosody.cfg.lua
  partnerctl import ejabberd.yml --list partners
  partnerctl import domains.txt --skip-invalid")]
pub struct ImportArgs {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The format, when it cannot be found out
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// The list to take, when the file has several; may be given again
    #[arg(long = "list", value_name = "NAME")]
    lists: Vec<String>,

    /// Leave out entries that are refused, and import the others
    #[arg(long)]
    skip_invalid: bool,

    /// Write what was done with each entry to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    change: ChangeFlags,
}

impl ImportArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The file cannot be read, an entry is refused, consent is not given, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let (format, parsed) = self.parsed()?;
        self.tell_notes(&parsed);
        let (plan, entries) = Plan::of_records(parsed.records);
        let client = session.client_for(&self.change).await?;
        let before = plan::current(&client, &entries).await?;
        let plan = plan.against(&client, entries, &before).await?;
        let report = |done| self.write(&Report::new(&self.file, format, &plan, done));
        if self.change.what_if {
            report(false)?;
            report::show(&plan, session.console)?;
            return self.verdict(&plan);
        }
        tell_refusals(&plan);
        if plan.refused() > 0 && !self.skip_invalid {
            report(false)?;
            return self.verdict(&plan);
        }
        let done = self.commit(&client, &plan).await;
        report(done.is_ok())?;
        done
    }

    async fn commit(&self, client: &super::client::Client, plan: &Plan) -> Outcome {
        let requests = plan.requests();
        if requests.is_empty() {
            return Ok(output::line(format_args!("nothing to do: {plan}"))?);
        }
        if requests.len() > 1 {
            let labels =
                plan.steps.iter().filter(|step| matches!(step.verdict, Verdict::Do { .. }));
            let labels: Vec<_> = labels.map(|step| step.label.as_str()).collect();
            confirm(self.change.consent(), &format!("Import: {plan}"), &labels)?;
        }
        let committed = write::commit(client, requests).await?;
        self.change.warn(&committed.partners);
        Ok(output::line(format_args!(
            "imported: {}; revision {}",
            plan.done(),
            committed.revision
        ))?)
    }

    fn parsed(&self) -> Outcome<(Format, Parsed)> {
        let refused = |why: String| Failure::rejected(format!("{}: {why}", self.file.display()));
        let bytes = bytes(&self.file)?;
        let text = text::decode(&bytes).map_err(refused)?;
        let format = self.format.map_or_else(|| Format::detect(&text), Ok).map_err(refused)?;
        let parsed = format.parse(&text, &self.lists).map_err(refused)?;
        Ok((format, parsed))
    }

    fn tell_notes(&self, parsed: &Parsed) {
        if self.change.force {
            return;
        }
        parsed.notes.iter().for_each(|note| eprintln!("note: {note}"));
        let mut told: std::collections::BTreeMap<&str, (usize, usize)> = Default::default();
        for record in &parsed.records {
            for note in &record.notes {
                told.entry(note).or_insert((record.line, 0)).1 += 1;
            }
        }
        for (note, (line, times)) in told {
            let all = if times > 1 { format!(" ({} in all)", count(times)) } else { String::new() };
            eprintln!("note: line {line}: {}{all}", plain(note));
        }
    }

    fn verdict(&self, plan: &Plan) -> Outcome {
        if plan.refused() == 0 || self.skip_invalid {
            return Ok(());
        }
        let refused = match plan.refused() {
            1 => "1 entry is refused".to_owned(),
            more => format!("{} entries are refused", count(more)),
        };
        let failure = Failure::rejected(format!("{refused}; nothing was changed"));
        Err(failure.detail("to do: mend them, or leave them out with --skip-invalid"))
    }

    fn write(&self, report: &Report<'_>) -> Outcome {
        let Some(file) = &self.report else { return Ok(()) };
        report.write(file).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
    }
}

fn tell_refusals(plan: &Plan) {
    let mut told = 0;
    for step in &plan.steps {
        if let Verdict::Refused(reason) = &step.verdict {
            told += 1;
            if told <= REFUSALS_TOLD {
                let (label, reason) = (plain(&step.label), plain(reason));
                eprintln!("refused: line {}: {label}: {reason}", step.line);
            }
        }
    }
    if told > REFUSALS_TOLD {
        let more = count(told - REFUSALS_TOLD);
        eprintln!("refused: {more} more; --report FILE has all of them");
    }
}

fn bytes(file: &Path) -> Outcome<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    fs::read(file)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests;

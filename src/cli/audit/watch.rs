//! `partnerctl audit watch`: what happens, as the audit keeps it.

use std::{io, pin::pin, time::Duration};

use clap::Args;

use super::{COLUMNS, row};
use crate::{
    cli::{
        failure::Outcome,
        output::table::{Column, Text},
        session::Session,
        values,
        watch::{EventFormat, EventPrinter, Shown, ended, interrupted},
    },
    client::{AuditMessage, AuditStream, Options},
    proto::v1::AuditEntry,
};

/// Show audit entries as they are written.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Each entry is shown once and in order, over lost connections too. Ctrl-C ends
it and says how to go on from there.

Examples:
  partnerctl audit watch
  partnerctl audit watch --filter 'kind = DENIAL OR kind = LOGIN_FAILURE'
  partnerctl audit watch --from 1042 -o ndjson")]
pub struct WatchAuditArgs {
    /// The entries that match (AIP-160), for example 'subject = \"jo\"'
    #[arg(long, value_name = "FILTER", default_value = "")]
    filter: String,

    /// Begin after this entry instead of now
    #[arg(long, value_name = "ENTRY", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,

    /// End after this long
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    lasting: Option<Duration>,

    /// End when the connection is lost, instead of connecting again
    #[arg(long)]
    no_reconnect: bool,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: EventFormat,
}

impl WatchAuditArgs {
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let options = Options { filter: self.filter, ..Options::default() };
        let mut stream =
            AuditStream::new(session.remote()?, options, self.from.unwrap_or_default());
        let out = io::BufWriter::new(io::stdout());
        let mut printer = EventPrinter::new(out, self.output, session.console);
        let mut ended = pin!(ended(self.lasting)?);
        let (mut was_open, mut is_interrupted) = (false, false);
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                () = &mut ended => {
                    resumable_at(stream.position());
                    return Ok(());
                }
            };
            match message {
                AuditMessage::Opened { start_sequence } => {
                    if is_interrupted {
                        eprintln!("connected again; going on after entry {start_sequence}");
                    }
                    (was_open, is_interrupted) = (true, false);
                }
                AuditMessage::Entries(entries) => printer.print(entries)?,
                AuditMessage::Interrupted(interruption) => {
                    interrupted(&interruption, was_open, !self.no_reconnect).inspect_err(|_| {
                        if was_open {
                            resumable_at(stream.position());
                        }
                    })?;
                    is_interrupted = true;
                }
            }
        }
    }
}

fn resumable_at(position: i64) {
    if position > 0 {
        eprintln!("seen up to entry {position}; to go on: the same with --from {position}");
    }
}

impl Shown for AuditEntry {
    const COLUMNS: &'static [Column] = COLUMNS;
    const WIDTHS: &'static [u16] = &[8, 20, 13, 12, 32, 8];

    fn row(&self) -> Vec<Text> {
        row(self)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

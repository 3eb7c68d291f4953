//! `partnerctl watch`: the changes, as they happen.

mod follow;
mod printer;

use std::{io, time::Duration};

use clap::Args;
use prost_types::FieldMask;

use super::{
    failure::{Exit, Outcome},
    partner::selection,
    session::Session,
    values,
};
use crate::proto::v1::ListAllowedPartnersRequest;

pub use follow::{Follow, Told, ended, interrupted};
pub use printer::{EventFormat, EventPrinter, Shown};

/// The resource name of the settings.
const SETTINGS: &str = "federationSettings";

/// How often the service tells of its progress when an end is waited for.
const OFTEN: Duration = Duration::from_secs(1);

/// Show changes of partners and settings as they happen.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Each change is shown once and in order, over lost connections too. Ctrl-C ends
it and says how to go on from there.

Examples:
  partnerctl watch
  partnerctl watch '*.org' --initial
  partnerctl watch --filter 'partner_type = FEDERATED' -o ndjson
  partnerctl watch --from 1042 --until-revision 1100")]
pub struct WatchArgs {
    /// Domains, or patterns such as '*.org'; without any, all partners and the
    /// settings
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// The partners that match (AIP-160), over every field; what leaves the
    /// filter is shown as removed
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,

    /// Begin after this revision instead of now
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,

    /// Show what is there first
    #[arg(long, conflicts_with = "from")]
    initial: bool,

    /// End once everything up to this revision is shown
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    until_revision: Option<i64>,

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

impl WatchArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses, or the history after `--from` is gone.
    pub async fn run(self, session: &Session) -> Outcome {
        let filter = selection::filter_of(&self.names, self.filter.as_deref())?;
        let start_revision = match self.from {
            Some(revision) => revision,
            None if self.initial => 0,
            None => now(session).await?,
        };
        let mut follow = Follow {
            start_revision,
            shows_state: self.initial,
            partners_only: !self.names.is_empty(),
            until: self.until_revision,
            lasting: self.lasting,
            reconnect: !self.no_reconnect,
            ..Follow::new(session.remote()?, filter)
        };
        if self.until_revision.is_some() {
            follow.options.progress_interval = OFTEN;
        }
        let out = io::BufWriter::new(io::stdout());
        let mut printer = EventPrinter::new(out, self.output, session.console);
        follow
            .run(|told| match told {
                Told::State(events) | Told::Commit(events) => printer.print(events),
            })
            .await
    }
}

/// The last revision. 0 for a caller who may watch but not list: he is sent the state, and it is
/// not shown.
async fn now(session: &Session) -> Outcome<i64> {
    let request = ListAllowedPartnersRequest {
        page_size: 1,
        read_mask: Some(FieldMask { paths: vec!["name".into()] }),
        ..ListAllowedPartnersRequest::default()
    };
    match session.client().await?.list_allowed_partners(request).await {
        Ok(page) => Ok(page.revision),
        Err(failure) if failure.exit() == Exit::Denied => Ok(0),
        Err(failure) => Err(failure),
    }
}

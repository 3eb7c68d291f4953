//! `partnerctl remove`.

use clap::Args;

use super::{selection::Selection, write};
use crate::{
    cli::{
        console::partners,
        convergence::{Telling, WaitFlags},
        failure::{Failure, Outcome},
        output::Format,
        session::{ChangeFlags, Session},
    },
    proto::v1::DeleteAllowedPartnerRequest,
};

/// Delete partners: federation with them ends at once.
///
/// They can be brought back with `partnerctl undelete` while the history is kept.
///
/// Partners come from the names, from --filter, or from standard input: JSON objects or names, as
/// `get -o ndjson` and `get -o name` print them. Asks for confirmation at the terminal, also at
/// the end of a pipe. Where there is no terminal it is refused; give --yes.
///
/// With --wait it says on how many XMPP servers the removal is in force, how many sessions they
/// closed, and which servers are behind, reject it or are silent.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl remove contoso.com
  partnerctl remove contoso.com --wait
  partnerctl get -o ndjson | partnerctl remove
  partnerctl remove --filter 'partner_type = PUBLIC_UNVERIFIED' --yes
  partnerctl remove '*.org' --what-if")]
pub struct RemoveArgs {
    #[command(flatten)]
    selection: Selection,

    /// Delete the partner only if this is its etag
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,

    /// Do not mind partners that do not exist
    #[arg(long)]
    allow_missing: bool,

    /// Print the deleted partners in this form
    #[arg(long, short, value_enum)]
    output: Option<Format>,

    #[command(flatten)]
    change: ChangeFlags,

    #[command(flatten)]
    wait: WaitFlags,
}

impl RemoveArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A partner is not there, consent is not given, the service refuses, or a server does not
    /// enforce the removal in time.
    pub async fn run(self, session: &Session) -> Outcome {
        let source = self.selection.source()?;
        let client = session.client_for(&self.change).await?;
        let names = source.names(&client).await?;
        if self.etag.is_some() && names.len() != 1 {
            return Err(Failure::usage("--etag is for the removal of exactly one partner"));
        }
        let request = |name| DeleteAllowedPartnerRequest {
            name,
            etag: self.etag.clone().unwrap_or_default(),
            allow_missing: self.allow_missing,
            ..DeleteAllowedPartnerRequest::default()
        };
        let requests: Vec<_> = names.into_iter().map(request).collect();
        if self.change.what_if {
            return write::preview_deletions(&client, requests, session.console).await;
        }
        if requests.is_empty() {
            eprintln!("no partners");
            return Ok(());
        }
        write::ask(&self.change, &format!("Remove {}", partners(requests.len())), &requests)?;
        let mut committed = write::commit(&client, requests).await?;
        committed.partners.retain(|partner| !partner.name.is_empty());
        let quiet = ChangeFlags { force: true, ..self.change };
        write::tell::<DeleteAllowedPartnerRequest>(session, &quiet, self.output, &committed)?;
        self.wait.wait(&client, committed.revision, Telling::beside(self.output)).await
    }
}

//! `partnerctl undelete`.

use clap::Args;

use super::{
    selection,
    write::{Committed, Summary},
};
use crate::{
    cli::{
        client::request_id,
        diff::Diff,
        failure::Outcome,
        output::{self, Format, PartnerPrinter, partners::Shape},
        session::{ChangeFlags, Session},
        values::domain_of,
    },
    proto::v1::UndeleteAllowedPartnerRequest,
};

/// Bring deleted partners back as they were.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl get --show-deleted --filter 'delete_time > \"2026-01-01T00:00:00Z\"'
  partnerctl undelete contoso.com")]
pub struct UndeleteArgs {
    /// The domains
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// Bring the partner back only if this is its etag
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,

    /// Print the partners in this form afterwards
    #[arg(long, short, value_enum)]
    output: Option<Format>,

    #[command(flatten)]
    change: ChangeFlags,
}

impl UndeleteArgs {
    /// Runs the command, one commit for each partner.
    ///
    /// # Errors
    /// A partner is not there or not deleted, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let names = selection::each_once(selection::exact(&self.names)?);
        let client = session.client_for(&self.change).await?;
        let mut done = Committed::default();
        for name in names {
            let request = UndeleteAllowedPartnerRequest {
                name,
                etag: self.etag.clone().unwrap_or_default(),
                validate_only: self.change.what_if,
                request_id: request_id(),
            };
            let partner = client.undelete_allowed_partner(request).await?;
            self.change.warn(std::slice::from_ref(&partner));
            if !self.change.what_if && self.output.is_none() {
                let domain = domain_of(&partner.name);
                output::line(format_args!("{domain} undeleted at revision {}", partner.revision))?;
            }
            done.partners.push(partner);
        }
        self.tell(session, &done)
    }

    fn tell(&self, session: &Session, done: &Committed) -> Outcome {
        if self.change.what_if {
            let mut summary = Summary::default();
            for partner in &done.partners {
                let diff = Diff::between(domain_of(&partner.name), None, Some(partner));
                summary.show(&diff, session.console)?;
            }
            return summary.finish();
        }
        if let Some(format) = self.output {
            let shape = if done.partners.len() == 1 { Shape::One } else { Shape::Many };
            let stdout = std::io::stdout().lock();
            let mut printer = PartnerPrinter::new(stdout, format, session.console, shape);
            printer.page(&done.partners)?;
            printer.finish()?;
        }
        Ok(())
    }
}

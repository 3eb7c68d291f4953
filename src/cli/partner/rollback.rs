//! `partnerctl rollback`.

use clap::Args;

use super::{selection, write::Summary};
use crate::{
    cli::{
        client::request_id,
        diff::Diff,
        failure::{Failure, Outcome},
        output::{self, Format, PartnerPrinter, partners::Shape},
        session::{ChangeFlags, Session},
        values::{self, domain_of},
    },
    proto::v1::RollbackAllowedPartnerRequest,
};

/// Make a partner again what it was at a revision.
///
/// It is a change like any other: with a revision of its own, through every rule that holds now.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl history contoso.com
  partnerctl rollback contoso.com --to-revision 4711 --what-if
  partnerctl rollback contoso.com --to-revision 4711 --reason 'undo'")]
pub struct RollbackArgs {
    /// The domain
    #[arg(value_name = "NAME")]
    name: String,

    /// The revision to go back to
    #[arg(long, value_name = "REVISION", value_parser = values::revision)]
    to_revision: i64,

    /// Change the partner only if this is its etag now
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,

    /// Print the partner in this form afterwards
    #[arg(long, short, value_enum)]
    output: Option<Format>,

    #[command(flatten)]
    change: ChangeFlags,
}

impl RollbackArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The partner is not there or was not then, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let name = values::resource_name(&self.name).map_err(Failure::rejected)?;
        let client = session.client_for(&self.change).await?;
        let request = RollbackAllowedPartnerRequest {
            name: name.clone(),
            revision: self.to_revision,
            etag: self.etag.unwrap_or_default(),
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        if self.change.what_if {
            let before = selection::get_one(&client, &name, false).await?;
            let after = client.rollback_allowed_partner(request).await?;
            self.change.warn(std::slice::from_ref(&after));
            let mut summary = Summary::default();
            let diff = Diff::between(domain_of(&name), Some(&before), Some(&after));
            summary.show(&diff, session.console)?;
            return summary.finish();
        }
        let after = client.rollback_allowed_partner(request).await?;
        self.change.warn(std::slice::from_ref(&after));
        if let Some(format) = self.output {
            let stdout = std::io::stdout().lock();
            let mut printer = PartnerPrinter::new(stdout, format, session.console, Shape::One);
            printer.page(std::slice::from_ref(&after))?;
            return Ok(printer.finish()?);
        }
        let (domain, then, now) = (domain_of(&name), self.to_revision, after.revision);
        Ok(output::line(format_args!(
            "{domain} is as it was at revision {then}, at revision {now}"
        ))?)
    }
}

//! `partnerctl diff`.

use clap::Args;

use super::selection;
use crate::{
    cli::{
        client::Client,
        diff::Diff,
        failure::{Exit, Failure, Outcome},
        output::ObjectFormat,
        session::Session,
        values::{self, domain_of},
    },
    proto::v1::AllowedPartner,
};

/// Show how a partner differs between two revisions, field by field.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl history contoso.com
  partnerctl diff contoso.com --from 4711
  partnerctl diff contoso.com --from 4711 --to 4712")]
pub struct DiffArgs {
    /// The domain
    #[arg(value_name = "NAME")]
    name: String,

    /// The revision to begin with
    #[arg(long, value_name = "REVISION", value_parser = values::revision)]
    from: i64,

    /// The revision to end with; the present without
    #[arg(long, value_name = "REVISION", value_parser = values::revision)]
    to: Option<i64>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl DiffArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There was no such partner at either revision, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let name = values::resource_name(&self.name).map_err(Failure::rejected)?;
        let client = session.client().await?;
        let to = self.to.unwrap_or_default();
        let (before, after) =
            (in_force(&client, &name, self.from).await?, in_force(&client, &name, to).await?);
        let (before, after) = match (before, after) {
            (Err(_), Err(missing)) => return Err(missing),
            (before, after) => (before.ok(), after.ok()),
        };
        let diff = Diff::between(domain_of(&name), before.as_ref(), after.as_ref());
        Ok(self.output.print(&diff, || diff.render(session.console))?)
    }
}

/// The partner in force at a revision, or why there is none.
async fn in_force(
    client: &Client,
    name: &str,
    revision: i64,
) -> Outcome<Result<AllowedPartner, Failure>> {
    match selection::get_one_at(client, name, false, revision).await {
        Ok(partner) => Ok(Ok(partner)),
        Err(failure) if failure.exit() == Exit::NotFound => Ok(Err(failure)),
        Err(failure) => Err(failure),
    }
}

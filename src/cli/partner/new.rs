//! `partnerctl new`.

use clap::Args;

use super::properties::PropertyFlags;
use crate::{
    cli::{
        client::request_id,
        convergence::{Telling, WaitFlags},
        diff::Diff,
        failure::{Failure, Outcome},
        output::{Format, PartnerPrinter, partners::Shape},
        session::{ChangeFlags, Session},
        terms,
        values::{self, domain_of},
    },
    proto::v1::{AllowedPartner, CreateAllowedPartnerRequest},
};

/// Create a partner; what is not given gets its default.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl new contoso.com
  partnerctl new contoso.com --partner-type federated
  partnerctl new contoso.com --additional-domains na.contoso.com,eu.contoso.com
  partnerctl new gmail.com --tls not-supported --sasl not-supported \\
      --keep-alive off --dialback on
  partnerctl new contoso.com --in-memory -o json > contoso.json")]
pub struct NewArgs {
    /// The primary domain
    #[arg(value_name = "DOMAIN")]
    domain: String,

    /// Print the partner as it would be, without a service; store nothing
    #[arg(long)]
    in_memory: bool,

    /// The form of the output [default: table, json with --in-memory]
    #[arg(long, short, value_enum)]
    output: Option<Format>,

    #[command(flatten)]
    properties: PropertyFlags,

    #[command(flatten)]
    change: ChangeFlags,

    #[command(flatten)]
    wait: WaitFlags,
}

impl NewArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A value breaks a rule, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let name = values::resource_name(&self.domain).map_err(Failure::rejected)?;
        let partner = self.properties.edit()?.into_partner(name)?;
        if self.in_memory {
            let partner = filled_in(&partner)?;
            return self.print(session, self.output.unwrap_or(Format::Json), &partner);
        }
        let client = session.client_for(&self.change).await?;
        let request = CreateAllowedPartnerRequest {
            allowed_partner_id: domain_of(&partner.name).to_owned(),
            allowed_partner: Some(partner),
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        let partner = client.create_allowed_partner(request).await?;
        self.change.warn(std::slice::from_ref(&partner));
        if self.change.what_if {
            let diff = Diff::between(domain_of(&partner.name), None, Some(&partner));
            let mut summary = super::write::Summary::default();
            summary.show(&diff, session.console)?;
            return summary.finish();
        }
        self.print(session, self.output.unwrap_or_default(), &partner)?;
        self.wait.wait(&client, partner.revision, Telling::Aside).await
    }

    fn print(&self, session: &Session, format: Format, partner: &AllowedPartner) -> Outcome {
        let stdout = std::io::stdout().lock();
        let mut printer = PartnerPrinter::new(stdout, format, session.console, Shape::One);
        printer.page(std::slice::from_ref(partner))?;
        Ok(printer.finish()?)
    }
}

/// The partner with its defaults, as the service would create it.
fn filled_in(partner: &AllowedPartner) -> Outcome<AllowedPartner> {
    match terms::checked(partner) {
        Ok((domain, terms)) => Ok(terms::to_wire(&domain, &terms)),
        Err(broken) => {
            let failure = Failure::rejected("the partner would be refused");
            Err(broken.iter().fold(failure, |failure, broken| failure.detail(broken.to_string())))
        }
    }
}

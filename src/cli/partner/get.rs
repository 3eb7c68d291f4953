//! `partnerctl get`.

use clap::Args;

use super::selection;
use crate::{
    cli::{
        failure::{Failure, Outcome},
        output::{Format, PartnerPrinter, partners::Shape},
        session::Session,
        values,
    },
    proto::v1::ListAllowedPartnersRequest,
};

/// Show partners: all, by name, by pattern, or by filter.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl get
  partnerctl get contoso.com -o yaml
  partnerctl get '*.org' '*.edu'
  partnerctl get --filter 'sasl_negotiation = REQUIRED'
  partnerctl get --filter 'labels.tier = \"gold\" AND suspended = false'
  partnerctl get contoso.com --revision 4711
  partnerctl get '*.org' -o ndjson | partnerctl set --sasl required")]
pub struct GetArgs {
    /// Domains, or patterns such as '*.org'; all partners without any
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// The partners that match (AIP-160), over every field
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,

    /// The order, for example 'partner_type, update_time desc'
    #[arg(long, value_name = "FIELDS")]
    order_by: Option<String>,

    /// Show deleted partners too
    #[arg(long)]
    show_deleted: bool,

    /// Show the partners named as they were at this revision
    #[arg(long, value_name = "REVISION", value_parser = values::revision)]
    #[arg(requires = "names", conflicts_with_all = ["filter", "order_by"])]
    revision: Option<i64>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl GetArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A partner named is not there, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let is_exact = |name: &String| !selection::is_pattern(name);
        if self.filter.is_none() && !self.names.is_empty() && self.names.iter().all(is_exact) {
            return self.by_name(session).await;
        }
        if self.revision.is_some() {
            return Err(Failure::usage("--revision is for partners named one by one"));
        }
        let query = ListAllowedPartnersRequest {
            filter: self.query_filter()?,
            order_by: self.order_by.clone().unwrap_or_default(),
            show_deleted: self.show_deleted,
            ..ListAllowedPartnersRequest::default()
        };
        let client = session.client().await?;
        let mut printer = self.printer(session, Shape::Many);
        selection::each_page(&client, query, |page| Ok(printer.page(&page)?)).await?;
        Ok(printer.finish()?)
    }

    async fn by_name(&self, session: &Session) -> Outcome {
        let names = selection::each_once(selection::exact(&self.names)?);
        let client = session.client().await?;
        let shape = if names.len() == 1 { Shape::One } else { Shape::Many };
        let mut printer = self.printer(session, shape);
        if names.len() == 1 || self.show_deleted || self.revision.is_some() {
            let revision = self.revision.unwrap_or_default();
            for name in &names {
                let deleted = self.show_deleted;
                printer.page(&[selection::get_one_at(&client, name, deleted, revision).await?])?;
            }
        } else {
            printer.page(&selection::get_all(&client, &names).await?)?;
        }
        Ok(printer.finish()?)
    }

    fn query_filter(&self) -> Outcome<String> {
        let (patterns, names): (Vec<_>, Vec<_>) =
            self.names.iter().partition(|name| selection::is_pattern(name));
        let mut terms: Vec<_> = selection::exact(&names)?
            .into_iter()
            .map(|name| format!("name = \"{name}\""))
            .collect();
        if !patterns.is_empty() {
            terms.push(selection::pattern_filter(&patterns)?);
        }
        let named = terms.join(" OR ");
        Ok(match (&self.filter, named.is_empty()) {
            (Some(filter), false) => format!("({filter}) AND ({named})"),
            (Some(filter), true) => filter.clone(),
            (None, _) => named,
        })
    }

    fn printer(
        &self,
        session: &Session,
        shape: Shape,
    ) -> PartnerPrinter<std::io::BufWriter<std::io::Stdout>> {
        let out = std::io::BufWriter::new(std::io::stdout());
        PartnerPrinter::new(out, self.output, session.console, shape)
    }
}

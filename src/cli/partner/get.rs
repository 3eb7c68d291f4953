//! `partnerctl get`.

use clap::Args;

use super::selection;
use crate::{
    cli::{
        failure::{Failure, Outcome},
        output::{Format, PartnerPrinter, partners::Shape},
        session::Session,
        values,
        watch::{EventFormat, EventPrinter, Follow, Told},
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
  partnerctl get '*.org' -o ndjson | partnerctl set --sasl required
  partnerctl get --watch")]
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

    /// Then show every change as it happens; see `partnerctl watch`
    #[arg(long, short, conflicts_with_all = ["order_by", "show_deleted", "revision"])]
    watch: bool,
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
        if self.watch {
            return self.and_watch(session).await;
        }
        let is_exact = |name: &String| !selection::is_pattern(name);
        if self.filter.is_none() && !self.names.is_empty() && self.names.iter().all(is_exact) {
            return self.by_name(session).await;
        }
        if self.revision.is_some() {
            return Err(Failure::usage("--revision is for partners named one by one"));
        }
        let query = ListAllowedPartnersRequest {
            filter: selection::filter_of(&self.names, self.filter.as_deref())?,
            order_by: self.order_by.clone().unwrap_or_default(),
            show_deleted: self.show_deleted,
            ..ListAllowedPartnersRequest::default()
        };
        let client = session.client().await?;
        let mut printer = self.printer(session, Shape::Many);
        selection::each_page(&client, query, |page| Ok(printer.page(&page)?)).await?;
        Ok(printer.finish()?)
    }

    /// The list, as one revision has it, and then the changes to it.
    async fn and_watch(&self, session: &Session) -> Outcome {
        let form = match self.output {
            Format::Table | Format::Wide => EventFormat::Table,
            Format::Json => EventFormat::Json,
            Format::Ndjson => EventFormat::Ndjson,
            Format::Yaml => EventFormat::Yaml,
            Format::Name => EventFormat::Name,
            Format::Csv => return Err(Failure::usage("--watch has no CSV; use -o ndjson")),
        };
        let filter = selection::filter_of(&self.names, self.filter.as_deref())?;
        let follow = Follow { partners_only: true, ..Follow::new(session.remote()?, filter) };
        let out = || std::io::BufWriter::new(std::io::stdout());
        let mut events = EventPrinter::new(out(), form, session.console);
        let mut first = true;
        follow
            .run(|told| match told {
                Told::State(listed) if form == EventFormat::Table && first => {
                    first = false;
                    let partners: Vec<_> =
                        listed.into_iter().filter_map(|event| event.allowed_partner).collect();
                    let mut printer = self.printer(session, Shape::Many);
                    printer.page(&partners)?;
                    printer.finish()
                }
                Told::State(told) | Told::Commit(told) => events.print(told),
            })
            .await
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

    fn printer(
        &self,
        session: &Session,
        shape: Shape,
    ) -> PartnerPrinter<std::io::BufWriter<std::io::Stdout>> {
        let out = std::io::BufWriter::new(std::io::stdout());
        PartnerPrinter::new(out, self.output, session.console, shape)
    }
}

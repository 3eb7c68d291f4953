//! `partnerctl set`.

use std::path::PathBuf;

use clap::Args;
use prost_types::FieldMask;

use super::{
    properties::{PartnerEdit, PropertyFlags},
    selection::{Selection, Source},
    write,
};
use crate::{
    cli::{
        client::Client,
        console::partners,
        convergence::{Telling, WaitFlags},
        failure::{Failure, Outcome},
        input::Input,
        output::Format,
        session::{ChangeFlags, Session},
    },
    proto::v1::{AllowedPartner, UpdateAllowedPartnerRequest},
};

/// Change the properties that are named, and no others.
///
/// Partners come from the names, from --filter, or from standard input: JSON objects or names, as
/// `get -o ndjson` and `get -o name` print them. With property flags only their names are looked
/// at; without, the objects replace the stored ones, and those that are missing are created.
///
/// A change of more than one partner asks for confirmation at the terminal, also at the end of a
/// pipe. Where there is no terminal it is refused; give --yes.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl set contoso.com --dialback off
  partnerctl set contoso.com --additional-domains add=na.contoso.com
  partnerctl set contoso.com --additional-domains remove=europe.contoso.com
  partnerctl set contoso.com --additional-domains none
  partnerctl get '*.org' -o ndjson | partnerctl set --sasl required
  partnerctl set --filter 'sasl_negotiation != REQUIRED' --sasl required --yes
  partnerctl set contoso.com --tls optional --what-if
  partnerctl set --instance contoso.json")]
pub struct SetArgs {
    #[command(flatten)]
    selection: Selection,

    /// A file of JSON objects that replace the stored partners, or create them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "filter"])]
    instance: Option<PathBuf>,

    /// Change the partner only if this is its etag
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,

    /// Create a partner that does not exist
    #[arg(long)]
    allow_missing: bool,

    /// Print the partners in this form afterwards
    #[arg(long, short, value_enum)]
    output: Option<Format>,

    #[command(flatten)]
    properties: PropertyFlags,

    #[command(flatten)]
    change: ChangeFlags,

    #[command(flatten)]
    wait: WaitFlags,
}

impl SetArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Nothing is to be changed, consent is not given, the service refuses, or a server does not
    /// enforce the change in time.
    pub async fn run(self, session: &Session) -> Outcome {
        let edit = self.properties.edit()?;
        let source = match &self.instance {
            Some(_) if !edit.is_empty() => {
                return Err(Failure::usage(
                    "--instance replaces whole partners; leave out the property flags",
                ));
            }
            Some(file) => Source::Given(Input::from_file(file)?),
            None => self.selection.source()?,
        };
        if edit.is_empty() && !matches!(source, Source::Given(Input::Objects(_))) {
            let message = "nothing is to be changed; name a property, such as --sasl";
            return Err(Failure::usage(message));
        }
        let client = session.client_for(&self.change).await?;
        let requests = self.requests(&client, source, &edit).await?;
        if self.change.what_if {
            return write::preview_updates(&client, requests, session.console).await;
        }
        if requests.is_empty() {
            eprintln!("no partners");
            return Ok(());
        }
        if requests.len() > 1 {
            let what = if edit.is_empty() { "all".to_owned() } else { edit.fields().join(", ") };
            let what = format!("Change {what} of {}", partners(requests.len()));
            write::ask(&self.change, &what, &requests)?;
        }
        let committed = write::commit(&client, requests).await?;
        write::tell::<UpdateAllowedPartnerRequest>(session, &self.change, self.output, &committed)?;
        self.wait.wait(&client, committed.revision, Telling::beside(self.output)).await
    }

    async fn requests(
        &self,
        client: &Client,
        source: Source,
        edit: &PartnerEdit,
    ) -> Outcome<Vec<UpdateAllowedPartnerRequest>> {
        let mut requests: Vec<_> = match source {
            Source::Given(Input::Objects(partners)) if edit.is_empty() => {
                partners.into_iter().map(replacement).collect()
            }
            source => {
                let names = source.names(client).await?;
                names.iter().map(|name| edit.update(name)).collect()
            }
        };
        if self.allow_missing {
            requests.iter_mut().for_each(|request| request.allow_missing = true);
        }
        if let Some(etag) = &self.etag {
            let [UpdateAllowedPartnerRequest { allowed_partner: Some(partner), .. }] =
                requests.as_mut_slice()
            else {
                return Err(Failure::usage("--etag is for a change of exactly one partner"));
            };
            partner.etag.clone_from(etag);
        }
        Ok(requests)
    }
}

/// The request that makes the stored partner this one, or creates it.
pub fn replacement(partner: AllowedPartner) -> UpdateAllowedPartnerRequest {
    UpdateAllowedPartnerRequest {
        allowed_partner: Some(partner),
        update_mask: Some(FieldMask { paths: vec!["*".into()] }),
        allow_missing: true,
        ..UpdateAllowedPartnerRequest::default()
    }
}

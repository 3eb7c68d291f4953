//! `partnerctl export`: partners as files, in forms that `import` and `apply` read back.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use super::{
    apply::declaration,
    failure::{Failure, Outcome},
    output::{Format, PartnerPrinter, partners::Shape},
    partner::selection,
    session::Session,
};
use crate::proto::v1::{GetFederationSettingsRequest, ListAllowedPartnersRequest};

/// The forms of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// An array (proto3 JSON)
    #[default]
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated values
    Csv,
    /// YAML, with the fields of the JSON
    Yaml,
    /// What somebody decided and nothing else, for a file under version control; see apply
    Declarative,
}

/// Write all partners, or those that match, to a file.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl export > partners.json
  partnerctl export --format csv --file partners.csv
  partnerctl export --format declarative --file partners.yaml")]
pub struct ExportArgs {
    /// The form
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,

    /// The file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Only the partners that match (AIP-160)
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
}

impl ExportArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The file cannot be written, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        match &self.file {
            None => self.write(session, io::stdout()).await,
            Some(file) => self.write_file(session, file).await,
        }
    }

    /// Writes beside the file and puts it in place at the end, so that there is never half of one.
    async fn write_file(&self, session: &Session, file: &Path) -> Outcome {
        let at = |error: io::Error| Failure::failed(format!("{}: {error}", file.display()));
        let mut draft = file.as_os_str().to_owned();
        draft.push(".new");
        let out = File::create(&draft).map_err(at)?;
        if let Err(failure) = self.write(session, out).await {
            std::fs::remove_file(&draft).map_err(at)?;
            return Err(failure);
        }
        std::fs::rename(&draft, file).map_err(at)
    }

    async fn write(&self, session: &Session, out: impl Write) -> Outcome {
        let format = match self.format {
            ExportFormat::Json => Format::Json,
            ExportFormat::Ndjson => Format::Ndjson,
            ExportFormat::Csv => Format::Csv,
            ExportFormat::Yaml => Format::Yaml,
            ExportFormat::Declarative => return self.declare(session, BufWriter::new(out)).await,
        };
        let client = session.client().await?;
        let out = BufWriter::new(out);
        let mut printer = PartnerPrinter::new(out, format, session.console, Shape::Many);
        selection::each_page(&client, self.query(), |page| Ok(printer.page(&page)?)).await?;
        Ok(printer.finish()?)
    }

    async fn declare(&self, session: &Session, mut out: impl Write) -> Outcome {
        let client = session.client().await?;
        if self.filter.is_none() {
            let request = GetFederationSettingsRequest::default();
            let settings = client.get_federation_settings(request).await?;
            out.write_all(declaration::settings(&settings)?.as_bytes())?;
        }
        let mut empty = true;
        selection::each_page(&client, self.query(), |page| {
            for partner in &page {
                if std::mem::take(&mut empty) {
                    out.write_all(declaration::PARTNERS.as_bytes())?;
                }
                out.write_all(declaration::partner(partner)?.as_bytes())?;
            }
            Ok(())
        })
        .await?;
        if empty {
            out.write_all(declaration::NO_PARTNERS.as_bytes())?;
        }
        Ok(out.flush()?)
    }

    fn query(&self) -> ListAllowedPartnersRequest {
        let filter = self.filter.clone().unwrap_or_default();
        ListAllowedPartnersRequest { filter, ..ListAllowedPartnersRequest::default() }
    }
}

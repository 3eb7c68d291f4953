//! `partnerctl apply`: makes the service equal to a file.

pub mod declaration;

use std::{collections::HashSet, path::PathBuf};

use clap::Args;
use prost_types::FieldMask;

use super::{
    client::{Client, request_id},
    console::{confirm, count, plain},
    diff::{Action, Diff},
    failure::{Failure, Outcome},
    import::{
        plan::{self, Plan, Verdict},
        record::{Record, Stated},
    },
    input, output,
    partner::write,
    session::{ChangeFlags, Session},
    values::domain_of,
};
use crate::proto::v1::{
    DeleteAllowedPartnerRequest, FederationSettings, GetFederationSettingsRequest,
    UpdateFederationSettingsRequest,
};
use declaration::{Declaration, SETTINGS_PATHS};

/// Make the service equal to a declarative file, as `export --format declarative` writes it.
///
/// The differences are shown first, field by field. Partners in the file are created or become
/// exactly what it says; what it does not state gets its default. Partners that are not in the
/// file stay, unless --prune is given. Settings are applied when the file has them; the dialback
/// passphrase is never touched. Everything is checked before anything is changed, and more than
/// one change asks for confirmation at the terminal; where there is none, give --yes.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl export --format declarative --file partners.yaml
  partnerctl apply -f partners.yaml --what-if
  partnerctl apply -f partners.yaml --prune --yes --reason 'change 4711'")]
pub struct ApplyArgs {
    /// The file; - is standard input
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,

    /// Remove the partners that are not in the file
    #[arg(long)]
    prune: bool,

    #[command(flatten)]
    change: ChangeFlags,
}

/// What is to be done.
struct Work {
    plan: Plan,
    pruned: Vec<String>,
    settings: Option<(FederationSettings, Diff)>,
}

impl ApplyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The file is refused, consent is not given, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let text = input::text(&self.file)?;
        let declaration = Declaration::parse(&text)
            .map_err(|why| Failure::rejected(format!("{}: {why}", self.file.display())))?;
        let client = session.client_for(&self.change).await?;
        let work = self.work(&client, declaration).await?;
        work.show(session)?;
        if work.plan.refused() > 0 {
            return Err(Failure::rejected("the file is refused; nothing was changed"));
        }
        if self.change.what_if {
            return Ok(output::line("what if: nothing was changed")?);
        }
        if work.is_empty() {
            return Ok(());
        }
        self.confirm(&work)?;
        work.commit(&client, &self.change).await
    }

    async fn work(&self, client: &Client, declaration: Declaration) -> Outcome<Work> {
        let Declaration { partners, settings } = declaration;
        let records = partners.into_iter().enumerate().map(|(index, partner)| {
            let label = partner.as_ref().map_or("", |partner| domain_of(&partner.name)).to_owned();
            let stated = partner.map(|partner| Stated { partner, paths: vec!["*"] });
            Record { line: index + 1, label, stated, notes: Vec::new() }
        });
        let (plan, entries) = Plan::of_records(records.collect());
        let before = plan::everything(client).await?;
        let named: HashSet<_> =
            entries.iter().flatten().map(|stated| stated.partner.name.clone()).collect();
        let mut pruned: Vec<_> =
            before.keys().filter(|name| !named.contains(*name)).cloned().collect();
        pruned.sort();
        if !self.prune {
            pruned.clear();
        }
        let plan = plan.against(client, entries, &before).await?;
        let settings = match settings {
            Some(settings) => settings_change(client, settings).await?,
            None => None,
        };
        Ok(Work { plan, pruned, settings })
    }

    fn confirm(&self, work: &Work) -> Outcome {
        let labels: Vec<_> = work.labels().collect();
        if labels.len() <= 1 && work.pruned.is_empty() {
            return Ok(());
        }
        let mut what = format!("Apply: {}", work.plan);
        if !work.pruned.is_empty() {
            what += &format!(", {} to remove", count(work.pruned.len()));
        }
        confirm(self.change.consent(), &what, &labels)
    }
}

/// What the settings of the file change, if anything.
async fn settings_change(
    client: &Client,
    settings: FederationSettings,
) -> Outcome<Option<(FederationSettings, Diff)>> {
    let before = client.get_federation_settings(GetFederationSettingsRequest::default()).await?;
    let after = client.update_federation_settings(settings_request(&settings, true)).await?;
    let diff = Diff::between("settings", Some(&before), Some(&after));
    Ok((diff.action != Action::Unchanged).then_some((settings, diff)))
}

fn settings_request(
    settings: &FederationSettings,
    validate_only: bool,
) -> UpdateFederationSettingsRequest {
    let paths = SETTINGS_PATHS.iter().map(ToString::to_string).collect();
    UpdateFederationSettingsRequest {
        federation_settings: Some(FederationSettings { etag: String::new(), ..settings.clone() }),
        update_mask: Some(FieldMask { paths }),
        validate_only,
        request_id: request_id(),
    }
}

impl Work {
    fn show(&self, session: &Session) -> Outcome {
        let console = session.console;
        if let Some((_, diff)) = &self.settings {
            print(&diff.render(console))?;
        }
        for step in &self.plan.steps {
            match &step.verdict {
                Verdict::Do { diff, .. } => print(&diff.render(console))?,
                Verdict::Unchanged => {}
                Verdict::Refused(reason) => {
                    let (label, reason) = (plain(&step.label), plain(reason));
                    eprintln!("refused: entry {}: {label}: {reason}", step.line);
                }
            }
        }
        for name in &self.pruned {
            let diff = Diff {
                title: domain_of(name).to_owned(),
                action: Action::Remove,
                fields: Vec::new(),
            };
            print(&diff.render(console))?;
        }
        let pruned = match self.pruned.len() {
            0 => String::new(),
            some => format!(", {} to remove", count(some)),
        };
        Ok(output::line(format_args!("{}{pruned}", self.plan))?)
    }

    fn is_empty(&self) -> bool {
        self.labels().next().is_none() && self.settings.is_none()
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        let changed =
            self.plan.steps.iter().filter(|step| matches!(step.verdict, Verdict::Do { .. }));
        let removed = self.pruned.iter().map(|name| domain_of(name));
        removed.chain(changed.map(|step| step.label.as_str()))
    }

    /// Settings first, so that a stricter mode holds before the list changes; removals last, so
    /// that a failure before them has taken nothing away.
    async fn commit(self, client: &Client, change: &ChangeFlags) -> Outcome {
        if let Some((settings, _)) = &self.settings {
            client.update_federation_settings(settings_request(settings, false)).await?;
        }
        let requests = self.plan.requests();
        if !requests.is_empty() {
            let committed = write::commit(client, requests).await?;
            change.warn(&committed.partners);
        }
        let request = |name| DeleteAllowedPartnerRequest {
            name,
            allow_missing: true,
            ..DeleteAllowedPartnerRequest::default()
        };
        let deletions: Vec<_> = self.pruned.into_iter().map(request).collect();
        if !deletions.is_empty() {
            write::commit(client, deletions).await?;
        }
        Ok(output::line("applied")?)
    }
}

fn print(text: &str) -> Outcome {
    use std::io::Write;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

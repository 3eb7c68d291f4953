//! Changes of one or many partners: shown beforehand, confirmed, sent in atomic batches.

use std::collections::HashMap;

use prost::Message;

use super::selection::{self, BATCH_LIMIT};
use crate::{
    cli::{
        client::{Client, request_id},
        console::{Console, confirm, count, partners},
        diff::{Action, Diff},
        failure::{Exit, Failure, Outcome},
        output::{self, Format, PartnerPrinter, partners::Shape},
        progress::Progress,
        session::{ChangeFlags, Session},
        values::domain_of,
    },
    proto::v1::{
        AllowedPartner, BatchDeleteAllowedPartnersRequest, BatchUpdateAllowedPartnersRequest,
        DeleteAllowedPartnerRequest, UpdateAllowedPartnerRequest,
    },
};

/// Batches stay below the size of message that servers take (4 MiB unless configured).
const BATCH_BYTES: usize = 3 * 1024 * 1024;

/// A change that can be batched.
pub trait Change: Message + Clone {
    /// What it has done, as in `removed`.
    const DONE: &'static str;

    /// The partner it is about.
    fn name(&self) -> &str;

    /// Sends some in one commit, at most [`BATCH_LIMIT`], and returns the partners and the
    /// revision.
    fn send(
        client: &Client,
        batch: Vec<Self>,
        validate_only: bool,
    ) -> impl Future<Output = Outcome<(Vec<AllowedPartner>, i64)>>;
}

impl Change for UpdateAllowedPartnerRequest {
    const DONE: &'static str = "set";

    fn name(&self) -> &str {
        self.allowed_partner.as_ref().map_or("", |partner| &partner.name)
    }

    async fn send(
        client: &Client,
        mut batch: Vec<Self>,
        validate_only: bool,
    ) -> Outcome<(Vec<AllowedPartner>, i64)> {
        let request_id = request_id();
        if let [single] = batch.as_mut_slice() {
            let request = Self { validate_only, request_id, ..std::mem::take(single) };
            let partner = client.update_allowed_partner(request).await?;
            let revision = partner.revision;
            return Ok((vec![partner], revision));
        }
        let request =
            BatchUpdateAllowedPartnersRequest { requests: batch, validate_only, request_id };
        let answer = client.batch_update_allowed_partners(request).await?;
        Ok((answer.allowed_partners, answer.revision))
    }
}

impl Change for DeleteAllowedPartnerRequest {
    const DONE: &'static str = "removed";

    fn name(&self) -> &str {
        &self.name
    }

    async fn send(
        client: &Client,
        mut batch: Vec<Self>,
        validate_only: bool,
    ) -> Outcome<(Vec<AllowedPartner>, i64)> {
        let request_id = request_id();
        if let [single] = batch.as_mut_slice() {
            let request = Self { validate_only, request_id, ..std::mem::take(single) };
            let partner = client.delete_allowed_partner(request).await?;
            let revision = partner.revision;
            return Ok((vec![partner], revision));
        }
        let request =
            BatchDeleteAllowedPartnersRequest { requests: batch, validate_only, request_id };
        let answer = client.batch_delete_allowed_partners(request).await?;
        Ok((answer.allowed_partners, answer.revision))
    }
}

/// Asks for consent to some changes; `what` says which, as in `Remove 3 partners`.
///
/// # Errors
/// It is not given.
pub fn ask<C: Change>(change: &ChangeFlags, what: &str, changes: &[C]) -> Outcome {
    let names: Vec<_> = changes.iter().map(|change| domain_of(change.name())).collect();
    confirm(change.consent(), what, &names)
}

/// Sends changes in as few commits as the limits allow.
///
/// # Errors
/// The service refuses a batch. The message says how many of the batches before it are done.
pub async fn commit<C: Change>(client: &Client, changes: Vec<C>) -> Outcome<Committed> {
    let total = changes.len();
    let batches = batches(changes);
    if batches.len() > 1 {
        eprintln!(
            "{} are more than one commit holds: sending {} batches, each of them atomic",
            partners(total),
            count(batches.len())
        );
    }
    let progress = (batches.len() > 1).then(|| Progress::new(C::DONE, total));
    let mut committed = Committed::default();
    for batch in batches {
        let names: Vec<_> = batch.iter().map(|change| change.name().to_owned()).collect();
        let (partners, revision) = C::send(client, batch, false).await.map_err(|failure| {
            stopped(at_fault(failure, &names), committed.partners.len(), total)
        })?;
        committed.partners.extend(partners);
        committed.revision = revision;
        if let Some(progress) = &progress {
            progress.advance(names.len());
        }
    }
    Ok(committed)
}

/// What was committed.
#[derive(Debug, Default)]
pub struct Committed {
    /// The partners afterwards, in the order of the changes.
    pub partners: Vec<AllowedPartner>,
    /// The last revision.
    pub revision: i64,
}

/// Names the partners that a refused batch's indexes mean.
fn at_fault(failure: Failure, names: &[String]) -> Failure {
    if names.len() < 2 {
        return failure;
    }
    let faults = failure.faults().to_vec();
    faults.iter().fold(failure, |failure, (index, reason)| match names.get(*index) {
        Some(name) => failure.detail(format!("at fault: {}: {reason}", domain_of(name))),
        None => failure,
    })
}

fn stopped(failure: Failure, done: usize, total: usize) -> Failure {
    if done == 0 {
        return failure;
    }
    let (done, total) = (count(done), count(total));
    failure.detail(format!("{done} of {total} partners are done; the rest is as it was"))
}

/// Splits changes so that each batch is within the limits of count and size.
pub fn batches<C: Message>(changes: Vec<C>) -> Vec<Vec<C>> {
    let mut batches: Vec<Vec<C>> = Vec::new();
    let mut room = 0;
    for change in changes {
        let size = change.encoded_len() + 8;
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_LIMIT && size <= room => {
                room -= size;
                batch.push(change);
            }
            _ => {
                room = BATCH_BYTES.saturating_sub(size);
                batches.push(vec![change]);
            }
        }
    }
    batches
}

/// Prints what was done: the partners when a form was asked for, else one line.
///
/// # Errors
/// Standard output cannot be written.
pub fn tell<C: Change>(
    session: &Session,
    change: &ChangeFlags,
    format: Option<Format>,
    committed: &Committed,
) -> Outcome {
    change.warn(&committed.partners);
    if let Some(format) = format {
        let shape = if committed.partners.len() == 1 { Shape::One } else { Shape::Many };
        let stdout = std::io::stdout().lock();
        let mut printer = PartnerPrinter::new(stdout, format, session.console, shape);
        printer.page(&committed.partners)?;
        return Ok(printer.finish()?);
    }
    let what = match committed.partners.as_slice() {
        [partner] => domain_of(&partner.name).to_owned(),
        all => partners(all.len()),
    };
    Ok(output::line(format_args!("{what} {} at revision {}", C::DONE, committed.revision))?)
}

/// Shows what updates would do, and does nothing.
///
/// # Errors
/// The service would refuse them.
pub async fn preview_updates(
    client: &Client,
    changes: Vec<UpdateAllowedPartnerRequest>,
    console: Console,
) -> Outcome {
    let names: Vec<_> = changes.iter().map(|change| change.name().to_owned()).collect();
    let before = current(client, &names).await?;
    let mut summary = Summary::default();
    for batch in batches(changes) {
        let names: Vec<_> = batch.iter().map(|change| change.name().to_owned()).collect();
        let (after, _) = UpdateAllowedPartnerRequest::send(client, batch, true)
            .await
            .map_err(|failure| at_fault(failure, &names))?;
        for after in &after {
            let diff = Diff::between(domain_of(&after.name), before.get(&after.name), Some(after));
            summary.show(&diff, console)?;
        }
    }
    summary.finish()
}

/// Shows what deletions would do, and does nothing.
///
/// # Errors
/// The service would refuse them.
pub async fn preview_deletions(
    client: &Client,
    changes: Vec<DeleteAllowedPartnerRequest>,
    console: Console,
) -> Outcome {
    let mut summary = Summary::default();
    for batch in batches(changes) {
        let names: Vec<_> = batch.iter().map(|change| change.name().to_owned()).collect();
        let (gone, _) = DeleteAllowedPartnerRequest::send(client, batch, true)
            .await
            .map_err(|failure| at_fault(failure, &names))?;
        for partner in gone.iter().filter(|partner| !partner.name.is_empty()) {
            let title = domain_of(&partner.name);
            summary.show(&Diff::between(title, Some(partner), None), console)?;
        }
    }
    summary.finish()
}

/// Counts what a preview has shown.
#[derive(Debug, Default)]
pub struct Summary {
    counts: [usize; 4],
}

impl Summary {
    /// Prints a difference and counts it.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn show(&mut self, diff: &Diff, console: Console) -> Outcome {
        self.counts[diff.action as usize] += 1;
        print(&diff.render(console))
    }

    /// Prints the counts.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn finish(self) -> Outcome {
        print(&format!("{self}\n"))
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |action: Action| self.counts[action as usize];
        let told = [
            (Action::Create, "to create"),
            (Action::Update, "to change"),
            (Action::Remove, "to remove"),
            (Action::Unchanged, "unchanged"),
        ];
        let told: Vec<_> = told
            .into_iter()
            .filter(|(action, _)| of(*action) > 0)
            .map(|(action, text)| format!("{} {text}", count(of(action))))
            .collect();
        let told = if told.is_empty() { "no partners".to_owned() } else { told.join(", ") };
        write!(f, "what if: {told}; nothing was changed")
    }
}

fn print(text: &str) -> Outcome {
    use std::io::Write;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The partners with these names that there are.
///
/// # Errors
/// The service refuses to show them.
pub async fn current(
    client: &Client,
    names: &[String],
) -> Outcome<HashMap<String, AllowedPartner>> {
    let found = match selection::get_all(client, names).await {
        Ok(partners) => partners,
        Err(failure) if failure.exit() == Exit::NotFound => one_by_one(client, names).await?,
        Err(failure) => return Err(failure),
    };
    Ok(found.into_iter().map(|partner| (partner.name.clone(), partner)).collect())
}

async fn one_by_one(client: &Client, names: &[String]) -> Outcome<Vec<AllowedPartner>> {
    let mut found = Vec::new();
    for name in names {
        match selection::get_one(client, name, false).await {
            Ok(partner) => found.push(partner),
            Err(failure) if failure.exit() == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletion(name: &str) -> DeleteAllowedPartnerRequest {
        DeleteAllowedPartnerRequest { name: name.into(), ..Default::default() }
    }

    #[test]
    fn batches_keep_the_order_and_both_limits() {
        let sizes = |changes| batches(changes).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![deletion("a"); 2_001]), [1_000, 1_000, 1]);
        assert_eq!(sizes(Vec::new()), Vec::<usize>::new());
        let large = deletion(&"x".repeat(BATCH_BYTES / 2));
        assert_eq!(sizes(vec![large; 3]), [1, 1, 1]);
        let huge = deletion(&"x".repeat(2 * BATCH_BYTES));
        assert_eq!(sizes(vec![deletion("a"), huge, deletion("b")]), [1, 1, 1]);
    }

    #[test]
    fn a_summary_counts_each_kind() {
        let mut summary = Summary::default();
        assert_eq!(summary.to_string(), "what if: no partners; nothing was changed");
        summary.counts = [1, 1_000, 2, 0];
        assert_eq!(
            summary.to_string(),
            "what if: 1 to create, 1,000 to change, 2 unchanged; nothing was changed"
        );
    }
}

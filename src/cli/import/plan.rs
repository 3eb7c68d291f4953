//! What an import or an apply would do: every entry against what the service has, and against the
//! service's own judgement, before anything is changed.

use std::collections::{HashMap, HashSet};

use prost_types::FieldMask;

use super::record::{Record, Stated};
use crate::{
    cli::{
        client::Client,
        console::count,
        diff::{Action, Diff},
        failure::{Exit, Failure, Outcome},
        partner::{
            selection,
            write::{self, Change},
        },
        progress::Progress,
        terms,
        values::domain_of,
    },
    domain::mask::{Mask, TermField},
    proto::v1::{AllowedPartner, ListAllowedPartnersRequest, UpdateAllowedPartnerRequest},
};

/// Up to this many entries the service is asked for each; above, for all that it has.
const FEW: usize = 1_000;

/// What is to be done with one entry.
#[derive(Clone, Debug)]
pub struct Step {
    /// The line of the file.
    pub line: usize,
    /// The domain, or what the file calls it.
    pub label: String,
    /// What happens, or why not.
    pub verdict: Verdict,
    /// What was left out of the entry.
    pub notes: Vec<String>,
}

/// What happens with an entry.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is done.
    Do {
        /// What changes.
        diff: Diff,
        /// The request that does it; boxed, it is large.
        request: Box<UpdateAllowedPartnerRequest>,
        /// The domains that the partner gives away.
        released: Vec<String>,
    },
    /// It is so already.
    Unchanged,
    /// It is refused.
    Refused(String),
}

/// Everything that is to be done, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// One step for each entry.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Judges entries by themselves and against each other.
    pub fn of_records(records: Vec<Record>) -> (Self, Vec<Option<Stated>>) {
        let mut owners: HashMap<String, (usize, usize)> = HashMap::new();
        let mut plan = Self::default();
        let mut entries: Vec<Option<Stated>> = Vec::with_capacity(records.len());
        for (index, Record { line, label, stated, notes }) in records.into_iter().enumerate() {
            let judged = stated.and_then(|stated| match claims(&stated.partner, &owners) {
                Some((other, _)) if entries[other].as_ref() == Some(&stated) => Ok(None),
                Some((_, line)) => Err(format!("one of its domains is on line {line} already")),
                None => Ok(Some(stated)),
            });
            if let Ok(Some(stated)) = &judged {
                for domain in domains(&stated.partner) {
                    owners.insert(domain.to_owned(), (index, line));
                }
            }
            let verdict = match &judged {
                Err(reason) => Verdict::Refused(reason.clone()),
                Ok(_) => Verdict::Unchanged,
            };
            plan.steps.push(Step { line, label, verdict, notes });
            entries.push(judged.ok().flatten());
        }
        (plan, entries)
    }

    /// Compares the entries with what the service has, and asks the service to judge what would
    /// change.
    ///
    /// # Errors
    /// The service cannot be asked.
    pub async fn against(
        mut self,
        client: &Client,
        entries: Vec<Option<Stated>>,
        before: &HashMap<String, AllowedPartner>,
    ) -> Outcome<Self> {
        for (step, entry) in self.steps.iter_mut().zip(entries) {
            if let Some(stated) = entry {
                let before = before.get(&stated.partner.name);
                step.verdict = judged(stated, before);
            }
        }
        self.ask_the_service(client).await?;
        Ok(self)
    }

    /// How many entries are refused.
    pub fn refused(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.verdict, Verdict::Refused(_))).count()
    }

    /// How many entries would do this.
    pub fn count(&self, action: Action) -> usize {
        let of = |step: &&Step| match &step.verdict {
            Verdict::Do { diff, .. } => diff.action == action,
            Verdict::Unchanged => action == Action::Unchanged,
            Verdict::Refused(_) => false,
        };
        self.steps.iter().filter(of).count()
    }

    /// Tells the counts once everything is done: `1,000 created, 2 changed, 1 left out`.
    pub fn done(&self) -> String {
        self.told(["created", "changed", "unchanged", "left out"])
    }

    fn told(&self, words: [&str; 4]) -> String {
        let counts = [
            self.count(Action::Create),
            self.count(Action::Update),
            self.count(Action::Unchanged),
            self.refused(),
        ];
        let told = counts.into_iter().zip(words).filter(|(number, _)| *number > 0);
        let told: Vec<_> = told.map(|(number, word)| format!("{} {word}", count(number))).collect();
        if told.is_empty() { "no partners".to_owned() } else { told.join(", ") }
    }

    /// The requests of everything that is to be done. Partners that give domains away come first,
    /// together with those that take them, so that both are in the same commit.
    pub fn requests(&self) -> Vec<UpdateAllowedPartnerRequest> {
        let steps = self.steps.iter().filter_map(|step| match &step.verdict {
            Verdict::Do { request, released, .. } => Some((request, released)),
            _ => None,
        });
        let released: HashSet<&str> =
            steps.clone().flat_map(|(_, released)| released).map(String::as_str).collect();
        let takes = |request: &UpdateAllowedPartnerRequest| {
            request.allowed_partner.iter().flat_map(domains).any(|domain| released.contains(domain))
        };
        let (first, later): (Vec<_>, Vec<_>) =
            steps.partition(|(request, released)| !released.is_empty() || takes(request));
        first.into_iter().chain(later).map(|(request, _)| request.as_ref().clone()).collect()
    }

    async fn ask_the_service(&mut self, client: &Client) -> Outcome {
        let requests = self.requests();
        if requests.is_empty() {
            return Ok(());
        }
        let progress = (requests.len() > FEW).then(|| Progress::new("checked", requests.len()));
        let mut refused = HashMap::new();
        for batch in write::batches(requests) {
            let size = batch.len();
            refused.extend(refusals(client, batch).await?);
            if let Some(progress) = &progress {
                progress.advance(size);
            }
        }
        for step in &mut self.steps {
            if let Verdict::Do { request, .. } = &step.verdict
                && let Some(reason) = refused.remove(request.name())
            {
                step.verdict = Verdict::Refused(reason);
            }
        }
        Ok(())
    }
}

/// The partners that the service has, by name: those of the entries, or all when they are many.
///
/// # Errors
/// The service cannot be asked.
pub async fn current(
    client: &Client,
    entries: &[Option<Stated>],
) -> Outcome<HashMap<String, AllowedPartner>> {
    let names: Vec<_> =
        entries.iter().flatten().map(|stated| stated.partner.name.clone()).collect();
    if names.len() <= FEW {
        return write::current(client, &names).await;
    }
    everything(client).await
}

/// All partners that the service has, by name.
///
/// # Errors
/// The service cannot be asked.
pub async fn everything(client: &Client) -> Outcome<HashMap<String, AllowedPartner>> {
    let mut all = HashMap::new();
    selection::each_page(client, ListAllowedPartnersRequest::default(), |page| {
        all.extend(page.into_iter().map(|partner| (partner.name.clone(), partner)));
        Ok(())
    })
    .await?;
    Ok(all)
}

fn domains(partner: &AllowedPartner) -> impl Iterator<Item = &str> {
    let additional = partner.additional_domains.iter().map(String::as_str);
    std::iter::once(domain_of(&partner.name)).chain(additional)
}

/// The entry that has one of the partner's domains already.
fn claims(
    partner: &AllowedPartner,
    owners: &HashMap<String, (usize, usize)>,
) -> Option<(usize, usize)> {
    domains(partner).find_map(|domain| owners.get(domain)).copied()
}

/// What an entry does to the partner as it is, by the model's own rules.
fn judged(stated: Stated, before: Option<&AllowedPartner>) -> Verdict {
    match after(&stated, before) {
        Err(reason) => Verdict::Refused(reason),
        Ok(after) => {
            let title = domain_of(&after.name).to_owned();
            let diff = Diff::between(&title, before, Some(&after));
            if diff.action == Action::Unchanged {
                return Verdict::Unchanged;
            }
            let old = before.map_or(&[][..], |before| &before.additional_domains);
            let gone = old.iter().filter(|domain| !after.additional_domains.contains(domain));
            let released = gone.cloned().collect();
            Verdict::Do { diff, request: Box::new(request(stated)), released }
        }
    }
}

fn after(stated: &Stated, before: Option<&AllowedPartner>) -> Result<AllowedPartner, String> {
    let words = |broken: Vec<crate::domain::Violation>| {
        broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let (domain, wanted) = terms::from_wire(&stated.partner).map_err(words)?;
    let terms = match before {
        None => wanted,
        Some(before) => {
            let (_, stored) = terms::from_wire(before).map_err(words)?;
            Mask::<TermField>::parse(&stated.paths).map_err(words)?.merge(&stored, &wanted)
        }
    };
    let broken = terms.violations(&domain);
    if broken.is_empty() { Ok(terms::to_wire(&domain, &terms)) } else { Err(words(broken)) }
}

fn request(stated: Stated) -> UpdateAllowedPartnerRequest {
    let Stated { partner, paths } = stated;
    UpdateAllowedPartnerRequest {
        allowed_partner: Some(partner),
        update_mask: Some(FieldMask { paths: paths.into_iter().map(str::to_owned).collect() }),
        allow_missing: true,
        ..UpdateAllowedPartnerRequest::default()
    }
}

/// What the service refuses of a batch, by name. It may name one entry at a time; after a few
/// rounds the batch is halved instead, so that many bad entries do not cost many full batches.
async fn refusals(
    client: &Client,
    batch: Vec<UpdateAllowedPartnerRequest>,
) -> Outcome<Vec<(String, String)>> {
    const ROUNDS: usize = 10;
    let mut refused = Vec::new();
    let mut waiting = vec![(batch, ROUNDS)];
    while let Some((mut batch, rounds)) = waiting.pop() {
        if batch.is_empty() {
            continue;
        }
        let failure = match UpdateAllowedPartnerRequest::send(client, batch.clone(), true).await {
            Ok(_) => continue,
            Err(failure) => failure,
        };
        let about_entries = matches!(
            failure.exit(),
            Exit::Rejected | Exit::Conflict | Exit::Denied | Exit::NotFound
        );
        let faults = failure.faults();
        if batch.len() == 1 && about_entries {
            refused.push((batch[0].name().to_owned(), reason(&failure)));
        } else if !about_entries || (faults.is_empty() && failure.exit() == Exit::Denied) {
            return Err(failure);
        } else if faults.is_empty() || rounds == 0 {
            let rest = batch.split_off(batch.len() / 2);
            waiting.extend([(batch, ROUNDS), (rest, ROUNDS)]);
        } else {
            for (index, reason) in faults {
                let Some(request) = batch.get_mut(*index) else { return Err(failure) };
                refused.push((request.name().to_owned(), reason.clone()));
                *request = UpdateAllowedPartnerRequest::default();
            }
            batch.retain(|request| request.allowed_partner.is_some());
            waiting.push((batch, rounds - 1));
        }
    }
    Ok(refused)
}

fn reason(failure: &Failure) -> String {
    match failure.details() {
        [first, ..] if failure.exit() == Exit::Rejected => first.clone(),
        _ => failure.message().to_owned(),
    }
}

/// Tells the counts: `1,000 to create, 2 to change, 3 unchanged, 1 refused`.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told(["to create", "to change", "unchanged", "refused"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::record::Raw;

    fn record(line: usize, members: &[(&str, &str)]) -> Record {
        let members =
            members.iter().map(|(name, value)| ((*name).into(), Raw::Text((*value).into())));
        Record::of_members(line, members.collect())
    }

    fn verdict(members: &[(&str, &str)], before: &[(&str, &str)]) -> Verdict {
        let stored = record(1, before).stated.unwrap();
        let stored = after(&stored, None).unwrap();
        judged(record(2, members).stated.unwrap(), Some(&stored))
    }

    #[test]
    fn what_is_so_already_is_not_sent_again() {
        let stored = [("Domain", "a.example"), ("Owner", "me"), ("SaslNegotiation", "Optional")];
        let same = verdict(&[("Domain", "A.example"), ("SaslNegotiation", "optional")], &stored);
        assert!(matches!(same, Verdict::Unchanged));
        let Verdict::Do { diff, request, .. } =
            verdict(&[("Domain", "a.example"), ("SaslNegotiation", "Required")], &stored)
        else {
            panic!("it changes")
        };
        assert_eq!(diff.action, Action::Update);
        assert_eq!(request.update_mask.unwrap().paths, ["sasl_negotiation"]);
    }

    #[test]
    fn rules_are_checked_on_what_comes_out() {
        let off = [("Domain", "a.example"), ("SupportDialbackNegotiation", "False")];
        let weak = [("Domain", "a.example"), ("TlsNegotiation", "NotSupported")];
        assert!(matches!(verdict(&weak, &off), Verdict::Refused(_)));
        assert!(matches!(verdict(&off, &weak), Verdict::Refused(_)));
        let both = [weak[1], ("Domain", "a.example"), ("SupportDialbackNegotiation", "True")];
        assert!(matches!(verdict(&both, &off), Verdict::Do { .. }));
    }

    #[test]
    fn who_gives_a_domain_away_and_who_takes_it_go_first() {
        let stored = record(1, &[("Domain", "c.example"), ("AdditionalDomains", "d.example")]);
        let stored = after(&stored.stated.unwrap(), None).unwrap();
        let records = vec![
            record(1, &[("Domain", "a.example")]),
            record(2, &[("Domain", "b.example"), ("AdditionalDomains", "d.example")]),
            record(3, &[("Domain", "c.example"), ("AdditionalDomains", "e.example")]),
        ];
        let (mut plan, entries) = Plan::of_records(records);
        for (step, entry) in plan.steps.iter_mut().zip(entries) {
            let entry = entry.unwrap();
            let before = (entry.partner.name == stored.name).then_some(&stored);
            step.verdict = judged(entry, before);
        }
        let order: Vec<_> = plan.requests().iter().map(|one| one.name().to_owned()).collect();
        assert_eq!(order, ["b", "c", "a"].map(|name| format!("allowedPartners/{name}.example")));
    }

    #[test]
    fn the_same_entry_twice_is_one_and_a_contradiction_is_refused() {
        let records = vec![
            record(1, &[("Domain", "a.example")]),
            record(2, &[("Domain", "A.example")]),
            record(3, &[("Domain", "a.example"), ("Owner", "me")]),
            record(4, &[("Domain", "b.example"), ("AdditionalDomains", "a.example")]),
        ];
        let (plan, entries) = Plan::of_records(records);
        assert_eq!(plan.refused(), 2);
        assert_eq!(entries.iter().flatten().count(), 1);
        let Verdict::Refused(reason) = &plan.steps[3].verdict else { panic!("it is refused") };
        assert!(reason.contains("line 1"), "{reason}");
    }
}

//! `partnerctl history`.

use clap::Args;

use crate::{
    cli::{
        client::Client,
        console::{Paint, count},
        failure::{Failure, Outcome},
        json::Json,
        output::{
            ListFormat,
            partners::time,
            table::{self, Column, Text},
        },
        session::Session,
        values,
    },
    proto::v1::{AllowedPartnerRevision, ListAllowedPartnerRevisionsRequest},
};

/// The most revisions of a page, as the service bounds them.
const PAGE_LIMIT: usize = 1_000;

const COLUMNS: &[Column] = &[
    Column::fixed("REVISION"),
    Column::fixed("TIME"),
    Column::fixed("BY"),
    Column::fixed("WHAT"),
    Column::flexible("FIELDS"),
    Column::flexible("REASON"),
];

/// Show what became of a partner, newest first, and who did it when and why.
///
/// The history of a deleted partner can be shown too, and that of a name that was deleted and
/// created anew goes on through both.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl history contoso.com
  partnerctl history contoso.com --limit 1000 -o ndjson
  partnerctl diff contoso.com --from 4711 --to 4712")]
pub struct HistoryArgs {
    /// The domain
    #[arg(value_name = "NAME")]
    name: String,

    /// The most revisions to show
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// The form of the output; the name of a revision is its number
    #[arg(long, short, value_enum, default_value_t)]
    output: ListFormat,
}

/// The newest revisions of a partner, and what there is besides.
#[derive(Debug, Default)]
struct History {
    revisions: Vec<AllowedPartnerRevision>,
    more: bool,
    oldest_revision: i64,
}

impl HistoryArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There never was such a partner, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let name = values::resource_name(&self.name).map_err(Failure::rejected)?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let history = History::read(&session.client().await?, name, limit).await?;
        let json: Vec<_> = history.revisions.iter().map(Json).collect();
        let table = || {
            let rows = history.revisions.iter().map(row).collect();
            table::render(session.console, COLUMNS, rows, true, &mut Vec::new())
        };
        let number = |index: usize| history.revisions[index].revision.to_string();
        self.output.print(&json, number, table)?;
        if let Some(note) = history.note() {
            eprintln!("{note}");
        }
        Ok(())
    }
}

impl History {
    async fn read(client: &Client, name: String, limit: usize) -> Outcome<Self> {
        let mut request = ListAllowedPartnerRevisionsRequest { name, ..Default::default() };
        let mut history = Self::default();
        loop {
            let wanted = (limit - history.revisions.len()).min(PAGE_LIMIT);
            request.page_size = i32::try_from(wanted).expect("a small number");
            let page = client.list_allowed_partner_revisions(request.clone()).await?;
            history.revisions.extend(page.allowed_partner_revisions);
            history.oldest_revision = page.oldest_revision;
            history.more = !page.next_page_token.is_empty();
            if !history.more || history.revisions.len() >= limit {
                return Ok(history);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// What the revisions do not say themselves: that they are not all.
    fn note(&self) -> Option<String> {
        let begins = self.revisions.last().is_some_and(|oldest| verb(oldest) == Verb::Created);
        if self.more {
            let shown = count(self.revisions.len());
            Some(format!("the newest {shown} revisions; --limit shows more"))
        } else if self.oldest_revision > 1 && !begins {
            let oldest = self.oldest_revision;
            Some(format!("the history before revision {oldest} is no longer kept"))
        } else {
            None
        }
    }
}

/// What a commit did to a partner, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Created,
    Changed,
    Expired,
    Deleted,
    Undeleted,
}

fn verb(revision: &AllowedPartnerRevision) -> Verb {
    let Some(partner) = &revision.allowed_partner else { return Verb::Changed };
    let changed = |field: &str| revision.changed_fields.iter().any(|changed| changed == field);
    if partner.delete_time.is_some() {
        Verb::Deleted
    } else if partner.create_time == revision.commit_time {
        Verb::Created
    } else if changed("delete_time") {
        Verb::Undeleted
    } else if partner.expired && revision.changed_fields == ["expired"] {
        Verb::Expired
    } else {
        Verb::Changed
    }
}

fn row(revision: &AllowedPartnerRevision) -> Vec<Text> {
    let verb = match verb(revision) {
        Verb::Created => Text::painted("created", Paint::Green),
        Verb::Changed => Text::painted("changed", Paint::Yellow),
        Verb::Expired => Text::painted("expired", Paint::Red),
        Verb::Deleted => Text::painted("deleted", Paint::Red),
        Verb::Undeleted => Text::painted("undeleted", Paint::Green),
    };
    let said_already = ["delete_time", "expired"];
    let fields = revision.changed_fields.iter().map(String::as_str);
    let fields: Vec<_> = fields.filter(|field| !said_already.contains(field)).collect();
    vec![
        revision.revision.to_string().into(),
        time(revision.commit_time.as_ref()).into(),
        revision.subject.as_str().into(),
        verb,
        fields.join(",").into(),
        revision.reason.as_str().into(),
    ]
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;
    use crate::{cli::console::Console, proto::v1::AllowedPartner};

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn revision(number: i64, changed: &[&str], partner: AllowedPartner) -> AllowedPartnerRevision {
        AllowedPartnerRevision {
            revision: number,
            commit_time: at(number),
            subject: "jo".into(),
            changed_fields: changed.iter().map(ToString::to_string).collect(),
            allowed_partner: Some(AllowedPartner { create_time: at(3), ..partner }),
            ..Default::default()
        }
    }

    #[test]
    fn every_commit_says_what_it_did() {
        let plain = AllowedPartner::default;
        let revisions = [
            AllowedPartnerRevision {
                reason: "contract is over".into(),
                ..revision(8, &["expire_time", "owner"], plain())
            },
            revision(7, &["expired"], AllowedPartner { expired: true, ..plain() }),
            revision(6, &["delete_time"], plain()),
            revision(5, &["delete_time"], AllowedPartner { delete_time: at(5), ..plain() }),
            revision(3, &["owner"], plain()),
        ];
        let rows = revisions.iter().map(row).collect();
        let text = table::render(Console::default(), COLUMNS, rows, true, &mut Vec::new());
        insta::assert_snapshot!(text, @r"
        REVISION  TIME                  BY  WHAT       FIELDS             REASON
        8         1970-01-01T00:00:08Z  jo  changed    expire_time,owner  contract is over
        7         1970-01-01T00:00:07Z  jo  expired
        6         1970-01-01T00:00:06Z  jo  undeleted
        5         1970-01-01T00:00:05Z  jo  deleted
        3         1970-01-01T00:00:03Z  jo  created    owner
        ");
    }

    #[test]
    fn what_is_missing_is_said() {
        let created = || revision(3, &[], AllowedPartner::default());
        let changed = || revision(4, &["owner"], AllowedPartner::default());
        let note = |revisions, more, oldest_revision| {
            History { revisions, more, oldest_revision }.note().unwrap_or_default()
        };
        assert_eq!(note(vec![changed(), created()], false, 1), "");
        assert_eq!(note(vec![changed(), created()], false, 3), "");
        assert!(note(vec![changed()], true, 1).contains("--limit"));
        assert!(note(vec![changed()], false, 4).contains("before revision 4"));
        assert!(note(Vec::new(), false, 9).contains("before revision 9"));
    }
}

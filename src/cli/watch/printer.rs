//! Events, printed as they come.

use std::io::{self, Write};

use clap::ValueEnum;

use super::SETTINGS;
use crate::{
    cli::{
        console::{Console, Paint},
        diff::{Diff, FieldDiff},
        json::{self, ApiMessage, Json},
        output::{
            partners::time,
            table::{self, Column, Text},
        },
        values::domain_of,
    },
    proto::v1::{WatchEvent, watch_event::Type},
};

/// The form of a stream of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EventFormat {
    /// One line a change
    #[default]
    Table,
    /// Objects (proto3 JSON), one after another
    Json,
    /// One JSON object a line
    Ndjson,
    /// YAML documents, with the fields of the JSON
    Yaml,
    /// The resource names alone
    Name,
}

/// What is printed as it comes.
pub trait Shown: ApiMessage {
    /// The columns of the table.
    const COLUMNS: &'static [Column];
    /// The least widths, so that the columns of the first lines are those of the following ones.
    const WIDTHS: &'static [u16];

    /// The cells of its line.
    fn row(&self) -> Vec<Text>;

    /// Its resource name.
    fn name(&self) -> &str;

    /// Takes out what is for no terminal and no log.
    fn withhold(&mut self) {}
}

/// Prints events.
#[derive(Debug)]
pub struct EventPrinter<W> {
    out: W,
    format: EventFormat,
    console: Console,
    widths: Vec<u16>,
    begun: bool,
}

impl<W: Write> EventPrinter<W> {
    /// A printer of this form.
    pub fn new(out: W, format: EventFormat, console: Console) -> Self {
        Self { out, format, console, widths: Vec::new(), begun: false }
    }

    /// Prints the events of one revision, or of a state.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print<M: Shown>(&mut self, events: Vec<M>) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        if self.format == EventFormat::Table {
            if !self.begun {
                self.widths = M::WIDTHS.to_vec();
            }
            let rows = events.iter().map(M::row).collect();
            let header = !self.begun;
            let text = table::render(self.console, M::COLUMNS, rows, header, &mut self.widths);
            self.out.write_all(text.as_bytes())?;
        } else {
            events.into_iter().try_for_each(|event| self.one(event))?;
        }
        self.begun = true;
        self.out.flush()
    }

    fn one<M: Shown>(&mut self, mut event: M) -> io::Result<()> {
        event.withhold();
        let out = &mut self.out;
        match self.format {
            EventFormat::Json => {
                writeln!(out, "{}", serde_json::to_string_pretty(&Json(&event))?)
            }
            EventFormat::Yaml => {
                writeln!(out, "---\n{}", json::to_yaml(&Json(&event))?.trim_end())
            }
            EventFormat::Ndjson => {
                serde_json::to_writer(&mut *out, &Json(&event))?;
                writeln!(out)
            }
            EventFormat::Name | EventFormat::Table => writeln!(out, "{}", event.name()),
        }
    }
}

impl Shown for WatchEvent {
    const COLUMNS: &'static [Column] = &[
        Column::fixed("TIME"),
        Column::fixed("REVISION"),
        Column::fixed("EVENT"),
        Column::fixed("DOMAIN"),
        Column::flexible("BY"),
        Column::flexible("REASON"),
        Column::flexible("CHANGE"),
    ];
    const WIDTHS: &'static [u16] = &[20, 8, 8, 20, 8, 8, 24];

    fn row(&self) -> Vec<Text> {
        row(self)
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// The passphrase is for the XMPP servers.
    fn withhold(&mut self) {
        self.dialback_passphrase.clear();
    }
}

fn row(event: &WatchEvent) -> Vec<Text> {
    let kind = match event.r#type() {
        Type::Added => Text::painted("added", Paint::Green),
        Type::Modified => Text::painted("modified", Paint::Yellow),
        Type::Removed => Text::painted("removed", Paint::Red),
        Type::Unspecified => "".into(),
    };
    vec![
        time(event.commit_time.as_ref()).into(),
        event.revision.to_string().into(),
        kind,
        if event.name == SETTINGS { "(settings)" } else { domain_of(&event.name) }.into(),
        event.subject.as_str().into(),
        event.reason.as_str().into(),
        change(event).into(),
    ]
}

/// What changed, in one line.
fn change(event: &WatchEvent) -> String {
    let removed = event.r#type() == Type::Removed;
    let (before, after) = (&event.previous_allowed_partner, &event.allowed_partner);
    if let Some(after) = &event.federation_settings {
        let before = event.previous_federation_settings.as_ref();
        return in_one_line(&Diff::between("", before, Some(after)).fields);
    }
    match (before, after) {
        (_, None) if removed => "out of your sight".to_owned(),
        (_, Some(after)) if removed && after.delete_time.is_some() => "deleted".to_owned(),
        (Some(before), Some(after)) if after.expired && !before.expired => "expired".to_owned(),
        // What comes into being is told with all that it has.
        (before, after) => in_one_line(&Diff::between("", before.as_ref(), after.as_ref()).fields),
    }
}

fn in_one_line(fields: &[FieldDiff]) -> String {
    let told = fields.iter().map(|FieldDiff { field, before, after }| match (before, after) {
        (None, Some(after)) => format!("{field}: {after}"),
        (Some(before), None) => format!("{field}: {before} -> (none)"),
        (Some(before), Some(after)) => format!("{field}: {before} -> {after}"),
        (None, None) => field.clone(),
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;
    use crate::proto::v1::{AllowedPartner, FederationMode, FederationSettings, Negotiation};

    fn partner(sasl: Negotiation) -> AllowedPartner {
        AllowedPartner {
            name: "allowedPartners/contoso.com".into(),
            sasl_negotiation: sasl.into(),
            ..AllowedPartner::default()
        }
    }

    fn event(kind: Type, before: Option<AllowedPartner>, after: AllowedPartner) -> WatchEvent {
        WatchEvent {
            r#type: kind.into(),
            name: after.name.clone(),
            previous_allowed_partner: before,
            allowed_partner: Some(after),
            revision: 1042,
            commit_time: Some(Timestamp { seconds: 1_795_000_000, nanos: 0 }),
            subject: "ada".into(),
            reason: "CHG-7".into(),
            ..WatchEvent::default()
        }
    }

    fn events() -> Vec<WatchEvent> {
        let old = partner(Negotiation::Required);
        let new = partner(Negotiation::Optional);
        let settings = |mode: FederationMode| FederationSettings {
            mode: mode.into(),
            ..FederationSettings::default()
        };
        vec![
            event(Type::Added, None, old.clone()),
            event(Type::Modified, Some(old.clone()), new.clone()),
            event(
                Type::Modified,
                Some(new.clone()),
                AllowedPartner { expired: true, ..new.clone() },
            ),
            event(
                Type::Removed,
                Some(new.clone()),
                AllowedPartner { delete_time: Some(Timestamp::default()), ..new },
            ),
            WatchEvent {
                allowed_partner: None,
                ..event(Type::Removed, Some(old.clone()), old.clone())
            },
            WatchEvent {
                r#type: Type::Modified.into(),
                name: "federationSettings".into(),
                federation_settings: Some(settings(FederationMode::DenyAll)),
                previous_federation_settings: Some(settings(FederationMode::AllowListed)),
                dialback_passphrase: "not for a terminal".into(),
                revision: 1043,
                ..WatchEvent::default()
            },
        ]
    }

    fn printed(format: EventFormat, batches: Vec<Vec<WatchEvent>>) -> String {
        let mut out = Vec::new();
        let console = Console { width: Some(120), ..Console::default() };
        let mut printer = EventPrinter::new(&mut out, format, console);
        batches.into_iter().for_each(|events| printer.print(events).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_tells_what_changed_and_keeps_its_columns() {
        let batches = events().into_iter().map(|event| vec![event]).collect();
        insta::assert_snapshot!(printed(EventFormat::Table, batches), @r"
        TIME                  REVISION  EVENT     DOMAIN                BY        REASON    CHANGE
        2026-11-18T11:06:40Z  1042      added     contoso.com           ada       CHG-7     sasl_negotiation: required;…
        2026-11-18T11:06:40Z  1042      modified  contoso.com           ada       CHG-7     sasl_negotiation: required ->…
        2026-11-18T11:06:40Z  1042      modified  contoso.com           ada       CHG-7     expired
        2026-11-18T11:06:40Z  1042      removed   contoso.com           ada       CHG-7     deleted
        2026-11-18T11:06:40Z  1042      removed   contoso.com           ada       CHG-7     out of your sight
                              1043      modified  (settings)                                mode: allow-listed -> deny-all
        ");
    }

    #[test]
    fn no_form_shows_the_passphrase() {
        for format in EventFormat::value_variants() {
            let text = printed(*format, vec![events()]);
            assert!(!text.contains("not for a terminal"), "{format:?}:\n{text}");
            assert!(text.contains("contoso.com"), "{format:?}:\n{text}");
        }
    }

    #[test]
    fn ndjson_is_one_event_a_line() {
        let text = printed(EventFormat::Ndjson, vec![events()]);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), events().len());
        assert_eq!(lines[1]["type"], "TYPE_MODIFIED");
        assert_eq!(lines[1]["revision"], "1042");
        assert_eq!(lines[1]["previousAllowedPartner"]["saslNegotiation"], "NEGOTIATION_REQUIRED");
        assert_eq!(printed(EventFormat::Ndjson, vec![Vec::new()]), "");
    }
}

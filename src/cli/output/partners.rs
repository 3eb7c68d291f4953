//! Partners, printed as they come.

use std::io::{self, Write};

use jiff::Timestamp;

use super::{
    Format, csv,
    table::{self, Column, Text},
};
use crate::{
    cli::{
        console::{Console, Paint, count},
        json::{self, Json, enum_text},
        values::{domain_of, from_proto_time},
    },
    proto::v1::AllowedPartner,
};

const COLUMNS: &[Column] = &[
    Column::fixed("DOMAIN"),
    Column::fixed("TYPE"),
    Column::fixed("TLS"),
    Column::fixed("SASL"),
    Column::fixed("DIALBACK"),
    Column::fixed("STATE"),
    Column::flexible("MORE DOMAINS"),
    Column::flexible("DESCRIPTION"),
];

const WIDE_COLUMNS: &[Column] = &[
    Column::fixed("DOMAIN"),
    Column::fixed("TYPE"),
    Column::fixed("TLS"),
    Column::fixed("SASL"),
    Column::fixed("DIALBACK"),
    Column::fixed("STATE"),
    Column::fixed("MORE DOMAINS"),
    Column::fixed("DESCRIPTION"),
    Column::fixed("KEEP-ALIVE"),
    Column::fixed("LIMIT"),
    Column::fixed("PROXY"),
    Column::fixed("EXPIRES"),
    Column::fixed("REVIEW"),
    Column::fixed("OWNER"),
    Column::fixed("LABELS"),
    Column::fixed("UPDATED"),
    Column::fixed("BY"),
    Column::fixed("REVISION"),
    Column::fixed("WARNINGS"),
];

/// Prints partners page by page, so that the first are seen before the last are there.
#[derive(Debug)]
pub struct PartnerPrinter<W> {
    out: W,
    format: Format,
    console: Console,
    shape: Shape,
    printed: usize,
    widths: Vec<u16>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One partner: JSON is an object.
    One,
    /// Any number of partners: JSON is an array.
    Many,
}

impl<W: Write> PartnerPrinter<W> {
    /// A printer of this form.
    pub fn new(out: W, format: Format, console: Console, shape: Shape) -> Self {
        let console = match format {
            Format::Wide => Console { width: None, ..console },
            _ => console,
        };
        Self { out, format, console, shape, printed: 0, widths: Vec::new() }
    }

    /// Prints some more partners.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn page(&mut self, partners: &[AllowedPartner]) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide if !partners.is_empty() => self.rows(partners)?,
            Format::Csv => self.csv(partners)?,
            _ => partners.iter().enumerate().try_for_each(|(at, partner)| {
                let first = self.printed + at == 0;
                self.one(partner, first)
            })?,
        }
        self.printed += partners.len();
        self.out.flush()
    }

    /// Ends the list. Says on stderr that a table is empty, because nothing else would.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        let empty = self.printed == 0;
        match (self.format, self.shape) {
            (Format::Json, Shape::Many) if empty => writeln!(self.out, "[]")?,
            (Format::Json, Shape::Many) => writeln!(self.out, "\n]")?,
            (Format::Yaml, Shape::Many) if empty => writeln!(self.out, "[]")?,
            (Format::Table | Format::Wide, Shape::Many) if empty => eprintln!("no partners"),
            (Format::Csv, _) if empty => self.out.write_all(&csv::header()?)?,
            _ => {}
        }
        self.out.flush()
    }

    fn one(&mut self, partner: &AllowedPartner, first: bool) -> io::Result<()> {
        let out = &mut self.out;
        match (self.format, self.shape) {
            (Format::Json, Shape::One) => {
                writeln!(out, "{}", serde_json::to_string_pretty(&Json(partner))?)
            }
            (Format::Json, Shape::Many) => {
                let text = serde_json::to_string_pretty(&Json(partner))?.replace('\n', "\n  ");
                write!(out, "{}\n  {text}", if first { "[" } else { "," })
            }
            (Format::Ndjson, _) => {
                serde_json::to_writer(&mut *out, &Json(partner))?;
                writeln!(out)
            }
            (Format::Yaml, Shape::One) => out.write_all(json::to_yaml(&Json(partner))?.as_bytes()),
            (Format::Yaml, Shape::Many) => {
                out.write_all(json::to_yaml(&[Json(partner)])?.as_bytes())
            }
            (Format::Name, _) => writeln!(out, "{}", partner.name),
            (Format::Table | Format::Wide | Format::Csv, _) => Ok(()),
        }
    }

    fn csv(&mut self, partners: &[AllowedPartner]) -> io::Result<()> {
        if self.printed == 0 && !partners.is_empty() {
            self.out.write_all(&csv::header()?)?;
        }
        partners.iter().try_for_each(|partner| self.out.write_all(&csv::record(partner)?))
    }

    fn rows(&mut self, partners: &[AllowedPartner]) -> io::Result<()> {
        let now = Timestamp::now();
        let wide = self.format == Format::Wide;
        let rows = partners.iter().map(|partner| row(partner, now, wide)).collect();
        let columns = if wide { WIDE_COLUMNS } else { COLUMNS };
        let text = table::render(self.console, columns, rows, self.printed == 0, &mut self.widths);
        self.out.write_all(text.as_bytes())
    }
}

fn row(partner: &AllowedPartner, now: Timestamp, wide: bool) -> Vec<Text> {
    let mut row = vec![
        domain_of(&partner.name).into(),
        enum_text(partner.partner_type().as_str_name(), "PARTNER_TYPE_").into(),
        negotiation(partner.tls_negotiation()),
        negotiation(partner.sasl_negotiation()),
        switch(partner.dialback_enabled),
        state(partner, now),
        additional_domains(&partner.additional_domains, wide).into(),
        partner.description.as_str().into(),
    ];
    if wide {
        row.extend(more(partner));
    }
    row
}

fn more(partner: &AllowedPartner) -> Vec<Text> {
    let warnings: Vec<_> = partner
        .warnings
        .iter()
        .map(|warning| enum_text(warning.code().as_str_name(), "CODE_"))
        .collect();
    vec![
        switch(partner.keep_alive_enabled),
        partner.connection_limit.map_or_else(String::new, |limit| limit.to_string()).into(),
        partner.proxy_fqdn.as_str().into(),
        time(partner.expire_time.as_ref()).into(),
        time(partner.review_time.as_ref()).into(),
        partner.owner.as_str().into(),
        labels(partner, ",").into(),
        time(partner.update_time.as_ref()).into(),
        partner.updater.as_str().into(),
        partner.revision.to_string().into(),
        Text::painted(warnings.join(","), Paint::Yellow),
    ]
}

fn negotiation(rule: crate::proto::v1::Negotiation) -> Text {
    enum_text(rule.as_str_name(), "NEGOTIATION_").into()
}

fn switch(value: Option<bool>) -> Text {
    match value {
        Some(true) => "on".into(),
        Some(false) => "off".into(),
        None => "".into(),
    }
}

fn state(partner: &AllowedPartner, now: Timestamp) -> Text {
    let expiry = partner.expire_time.as_ref().and_then(from_proto_time);
    if partner.delete_time.is_some() {
        Text::painted("deleted", Paint::Red)
    } else if partner.suspended {
        Text::painted("suspended", Paint::Yellow)
    } else if expiry.is_some_and(|expiry| expiry <= now) {
        Text::painted("expired", Paint::Red)
    } else {
        Text::painted("allowed", Paint::Green)
    }
}

fn additional_domains(domains: &[String], wide: bool) -> String {
    match domains {
        [first, rest @ ..] if rest.len() > 2 && !wide => {
            format!("{first} and {} more", count(rest.len()))
        }
        _ => domains.join(","),
    }
}

/// A time in UTC, to the second.
pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.map(|time| prost_types::Timestamp { seconds: time.seconds, nanos: 0 });
    time.as_ref().and_then(from_proto_time).map_or_else(String::new, |time| time.to_string())
}

/// The labels, sorted, as `key=value`.
pub fn labels(partner: &AllowedPartner, separator: &str) -> String {
    let mut labels: Vec<_> =
        partner.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::terms,
        domain::{DomainName, Terms},
    };

    fn partners() -> Vec<AllowedPartner> {
        let partner =
            |domain: &str| terms::to_wire(&DomainName::parse(domain).unwrap(), &Terms::default());
        let first = AllowedPartner {
            description: "The \"first\", by far".into(),
            additional_domains: vec!["eu.contoso.com".into(), "na.contoso.com".into()],
            labels: [("tier".into(), "gold".into())].into(),
            ..partner("contoso.com")
        };
        vec![first, AllowedPartner { suspended: true, ..partner("fabrikam.com") }]
    }

    fn printed(format: Format, shape: Shape, partners: &[AllowedPartner]) -> String {
        let mut out = Vec::new();
        let console = Console { width: Some(100), ..Console::default() };
        let mut printer = PartnerPrinter::new(&mut out, format, console, shape);
        partners.chunks(2).for_each(|page| printer.page(page).unwrap());
        printer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_fit_and_wide_shows_all() {
        insta::assert_snapshot!(printed(Format::Table, Shape::Many, &partners()), @r#"
        DOMAIN        TYPE               TLS       SASL      DIALBACK  STATE      DESCRIPTION
        contoso.com   public-unverified  required  required  on        allowed    The "first", by far
        fabrikam.com  public-unverified  required  required  on        suspended
        "#);
        let wide = printed(Format::Wide, Shape::Many, &partners());
        assert!(wide.contains("WARNINGS") && wide.contains("tier=gold"), "{wide}");
    }

    #[test]
    fn one_is_an_object_and_many_are_an_array() {
        let one = printed(Format::Json, Shape::One, &partners()[..1]);
        let object: serde_json::Value = serde_json::from_str(&one).unwrap();
        assert_eq!(object["name"], "allowedPartners/contoso.com");
        for count in 0..=2 {
            let many = printed(Format::Json, Shape::Many, &partners()[..count]);
            let array: Vec<serde_json::Value> = serde_json::from_str(&many).unwrap();
            assert_eq!(array.len(), count, "{many}");
            let yaml = printed(Format::Yaml, Shape::Many, &partners()[..count]);
            let same: Vec<serde_json::Value> = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(same, array);
        }
    }

    #[test]
    fn ndjson_is_one_object_a_line_and_name_is_one_name() {
        let lines = printed(Format::Ndjson, Shape::Many, &partners());
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        assert_eq!(
            printed(Format::Name, Shape::Many, &partners()),
            "allowedPartners/contoso.com\nallowedPartners/fabrikam.com\n"
        );
    }

    #[test]
    fn csv_quotes_what_needs_it_and_has_its_header_even_when_empty() {
        insta::assert_snapshot!(printed(Format::Csv, Shape::Many, &partners()), @r#"
        domain,description,additional_domains,partner_type,proxy_fqdn,connection_limit,keep_alive_enabled,tls_negotiation,sasl_negotiation,dialback_enabled,suspended,expire_time,review_time,owner,labels
        contoso.com,"The ""first"", by far",eu.contoso.com;na.contoso.com,public-unverified,,,true,required,required,true,false,,,,tier=gold
        fabrikam.com,,,public-unverified,,,true,required,required,true,true,,,,
        "#);
        let empty = printed(Format::Csv, Shape::Many, &[]);
        assert_eq!(empty.lines().count(), 1);
    }
}

//! Which format a file has, and the records in it.

use clap::ValueEnum;

use super::{clixml, csv, ejabberd, json, list, prosody, record::Record, store_xml};

/// The formats that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Export-Clixml of Get-CsXmppAllowedPartner
    Clixml,
    /// ConvertTo-Json of the same, or `partnerctl export`
    Json,
    /// Export-Csv of the same, or `partnerctl export --format csv`
    Csv,
    /// The XML of the original's own store
    StoreXml,
    /// Domains, one a line; also the list files of Prosody's mod_firewall
    List,
    /// Prosody's s2s_whitelist, or the zones of a mod_firewall script
    Prosody,
    /// The servers of ejabberd's access control lists
    Ejabberd,
}

/// What was found in a file.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The entries, in the order of the file.
    pub records: Vec<Record>,
    /// What was left out, for people.
    pub notes: Vec<String>,
}

impl Format {
    /// The format as the command line names it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Guesses the format of a text.
    ///
    /// # Errors
    /// It looks like none of them.
    pub fn detect(text: &str) -> Result<Self, String> {
        let start = text.trim_start();
        let line = start.lines().next().unwrap_or_default();
        if start.starts_with('<') {
            let is_clixml = start.find("<Objs").is_some_and(|at| !start[..at].contains("</"));
            return Ok(if is_clixml { Self::Clixml } else { Self::StoreXml });
        }
        if start.starts_with(['{', '[']) {
            return Ok(Self::Json);
        }
        if line.starts_with("#TYPE") || is_csv_header(line) {
            return Ok(Self::Csv);
        }
        if ejabberd::looks_like_one(text) {
            return Ok(Self::Ejabberd);
        }
        if prosody::looks_like_one(text) {
            return Ok(Self::Prosody);
        }
        if list::looks_like_one(text) {
            return Ok(Self::List);
        }
        Err("this is none of the formats that can be imported; name one with --format".into())
    }

    /// Reads the records of a text. `wanted` picks among several named lists.
    ///
    /// # Errors
    /// The text is not of this format, or it has several lists and none is picked.
    pub fn parse(self, text: &str, wanted: &[String]) -> Result<Parsed, String> {
        let mut notes = Vec::new();
        let records = match self {
            Self::Clixml => {
                let (records, others) = clixml::records(text)?;
                if others > 0 {
                    notes.push(format!("objects that are no allowed partners, left out: {others}"));
                }
                records
            }
            Self::Json => json::records(text)?,
            Self::Csv => csv::records(text)?,
            Self::StoreXml => store_xml::records(text)?,
            Self::List => list::records(text),
            Self::Prosody => picked(prosody::lists(text), wanted)?,
            Self::Ejabberd => picked(ejabberd::lists(text)?, wanted)?,
        };
        if !wanted.is_empty() && !matches!(self, Self::Prosody | Self::Ejabberd) {
            return Err(format!("--list is for prosody and ejabberd; this is {}", self.name()));
        }
        Ok(Parsed { records, notes })
    }
}

fn is_csv_header(line: &str) -> bool {
    let delimiter = char::from(csv::delimiter(line));
    let cells =
        line.split(delimiter).map(|cell| cell.trim().trim_matches('"').to_ascii_lowercase());
    cells.into_iter().any(|cell| ["identity", "domain", "name"].contains(&cell.as_str()))
}

/// The records of the lists that are wanted. Some lists allow and some block, and only their names
/// tell: with several, somebody has to say.
fn picked(lists: Vec<(String, Vec<Record>)>, wanted: &[String]) -> Result<Vec<Record>, String> {
    let names: Vec<_> = lists.iter().map(|(name, _)| name.clone()).collect();
    if let Some(missing) = wanted.iter().find(|name| !names.contains(name)) {
        return Err(format!("there is no list `{missing}`; there are: {}", names.join(", ")));
    }
    if wanted.is_empty() && lists.len() > 1 {
        return Err(format!("there are several lists; pick with --list: {}", names.join(", ")));
    }
    let picked = lists.into_iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    Ok(picked.flat_map(|(_, records)| records).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        for (text, format) in [
            ("<?xml version=\"1.0\"?>\n<Objs Version=\"1.1.0.1\">", Format::Clixml),
            ("<AllowedPartners xmlns=\"urn:x\">", Format::StoreXml),
            ("\r\n[{\"Identity\": 1}]", Format::Json),
            ("#TYPE Deserialized.X\r\n\"Identity\"", Format::Csv),
            ("\"Description\",\"Identity\"\r\n", Format::Csv),
            ("domain;description\n", Format::Csv),
            ("hosts:\n  - x.example\nacl:\n  p:\n    server: a.example\n", Format::Ejabberd),
            ("s2s_whitelist = { \"a.example\" }", Format::Prosody),
            ("%ZONE partners: a.example", Format::Prosody),
            ("# partners\na.example\n", Format::List),
        ] {
            assert_eq!(Format::detect(text), Ok(format), "{text}");
        }
        assert!(Format::detect("Dear administrator,\nplease").is_err());
        assert!(Format::detect("").is_err());
    }

    #[test]
    fn of_several_lists_one_must_be_picked() {
        let text = "%ZONE good: a.example\n%ZONE bad: b.example\n";
        let parse = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
            Format::Prosody.parse(text, &wanted).map(|parsed| parsed.records.len())
        };
        assert!(parse(&[]).unwrap_err().contains("good, bad"));
        assert!(parse(&["ugly"]).unwrap_err().contains("ugly"));
        assert_eq!(parse(&["good"]), Ok(1));
        assert_eq!(parse(&["good", "bad"]), Ok(2));
        assert!(Format::List.parse("a.example", &["good".into()]).is_err());
    }
}

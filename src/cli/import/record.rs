//! One partner of a file: what it says, and why it cannot be taken.
//!
//! Lenient in form: any case, any order, unknown members left out and said so. Strict in values:
//! what is not exactly understood is refused, because a guess would change who is trusted.

use prost_types::Timestamp;

use crate::{cli::values, proto::v1::AllowedPartner};

/// Members of the original's objects, and of ours, that mean nothing to an import.
const IGNORED: &[&str] = &[
    "xsanyelements",
    "xsanyattributes",
    "element",
    "scopeclass",
    "anchor",
    "typedidentity",
    "key",
    "datasource",
    "priority",
    "pscomputername",
    "psshowcomputername",
    "runspaceid",
    "pssourcejobinstanceid",
    "uid",
    "negotiationmethods",
    "warnings",
    "createtime",
    "updatetime",
    "creator",
    "updater",
    "revision",
    "etag",
    "deletetime",
];

/// A value as a file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Nothing: `$null`, an empty element.
    Nothing,
    /// A text, a number or a switch.
    Text(String),
    /// Several texts.
    List(Vec<String>),
    /// Something that is no value of a partner.
    Strange,
}

/// A partner as a file states it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stated {
    /// The partner, with its resource name and the values stated.
    pub partner: AllowedPartner,
    /// The fields stated; `*` stands for all of them.
    pub paths: Vec<&'static str>,
}

/// One entry of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The line it begins on, from 1.
    pub line: usize,
    /// What it is called in the file, as far as that is known.
    pub label: String,
    /// The partner, or why it is refused.
    pub stated: Result<Stated, String>,
    /// What was left out, for people.
    pub notes: Vec<String>,
}

impl Record {
    /// A domain and nothing else.
    pub fn of_domain(line: usize, text: &str) -> Self {
        let stated = values::resource_name(text).map(|name| Stated {
            partner: AllowedPartner { name, ..AllowedPartner::default() },
            paths: Vec::new(),
        });
        Self { line, label: text.to_owned(), stated, notes: Vec::new() }
    }

    /// An entry that cannot be understood.
    pub fn refused(line: usize, label: &str, reason: impl Into<String>) -> Self {
        Self { line, label: label.to_owned(), stated: Err(reason.into()), notes: Vec::new() }
    }

    /// A partner from the members of an object, in the original's names or in ours.
    pub fn of_members(line: usize, members: Vec<(String, Raw)>) -> Self {
        let mut record =
            Self { line, label: String::new(), stated: Ok(Stated::default()), notes: Vec::new() };
        let mut reasons = Vec::new();
        for (name, value) in members {
            if let Err(reason) = record.member(&name, value) {
                reasons.push(format!("{name}: {reason}"));
            }
        }
        let nameless = record.stated.as_ref().is_ok_and(|stated| stated.partner.name.is_empty());
        if nameless && reasons.is_empty() {
            reasons.push("it has no Identity and no Domain".to_owned());
        }
        if !reasons.is_empty() {
            record.stated = Err(reasons.join("; "));
        }
        record
    }

    fn member(&mut self, name: &str, value: Raw) -> Result<(), String> {
        let key = name.to_ascii_lowercase().replace(['_', '-', ' '], "");
        let Ok(stated) = &mut self.stated else { return Ok(()) };
        match key.as_str() {
            "identity" | "domain" | "name" | "primarydomain" => return self.identity(value),
            "additionaldomains" => match domains(value)? {
                Some(domains) => {
                    stated.take("additional_domains", |to| to.additional_domains = domains);
                }
                None => {
                    let note = "the file holds only the list's type; left as it is";
                    self.notes.push(format!("{name}: {note}"));
                }
            },
            "description" => {
                let text = text(value)?;
                let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                if text.contains(char::is_control) {
                    self.notes.push(format!("{name}: line breaks became spaces"));
                }
                let value = if text.contains(char::is_control) { line } else { text };
                stated.take("description", |to| to.description = value);
            }
            _ if IGNORED.contains(&key.as_str()) => {}
            _ => {
                if !(stated.enum_or_switch(&key, &value)? || stated.scalar(&key, value)?) {
                    self.notes.push(format!("{name}: unknown; left out"));
                }
            }
        }
        Ok(())
    }

    fn identity(&mut self, value: Raw) -> Result<(), String> {
        let Ok(stated) = &mut self.stated else { return Ok(()) };
        let text = text(value)?;
        let domain = text.trim_start_matches("Global/");
        if self.label.is_empty() {
            domain.clone_into(&mut self.label);
        }
        let name = values::resource_name(domain)?;
        if !stated.partner.name.is_empty() && stated.partner.name != name {
            return Err(format!("the entry is called {} elsewhere in it", self.label));
        }
        stated.partner.name = name;
        Ok(())
    }
}

impl Stated {
    fn take(&mut self, path: &'static str, assign: impl FnOnce(&mut AllowedPartner)) {
        assign(&mut self.partner);
        self.paths.push(path);
    }

    /// Takes a member that has one of a few values; one without a value states nothing. Says
    /// whether it knows the member.
    fn enum_or_switch(&mut self, key: &str, value: &Raw) -> Result<bool, String> {
        match key {
            "partnertype" => {
                if let Some(value) = named(value, values::partner_type)? {
                    self.take("partner_type", |to| to.partner_type = value.into());
                }
            }
            "tlsnegotiation" => {
                if let Some(value) = named(value, values::negotiation)? {
                    self.take("tls_negotiation", |to| to.tls_negotiation = value.into());
                }
            }
            "saslnegotiation" => {
                if let Some(value) = named(value, values::negotiation)? {
                    self.take("sasl_negotiation", |to| to.sasl_negotiation = value.into());
                }
            }
            "enablekeepalive" | "keepaliveenabled" => {
                if let Some(value) = switch(value)? {
                    self.take("keep_alive_enabled", |to| to.keep_alive_enabled = Some(value));
                }
            }
            "supportdialbacknegotiation" | "dialbackenabled" => {
                if let Some(value) = switch(value)? {
                    self.take("dialback_enabled", |to| to.dialback_enabled = Some(value));
                }
            }
            "suspended" => {
                if let Some(value) = switch(value)? {
                    self.take("suspended", |to| to.suspended = value);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a member with a value of its own; one without a value is cleared. Says whether it
    /// knows the member.
    fn scalar(&mut self, key: &str, value: Raw) -> Result<bool, String> {
        match key {
            "owner" => {
                let value = text(value)?;
                self.take("owner", |to| to.owner = value);
            }
            "proxyfqdn" | "proxy" => {
                let value = values::proxy(text(value)?.trim())?.value().unwrap_or_default();
                self.take("proxy_fqdn", |to| to.proxy_fqdn = value);
            }
            "connectionlimit" => {
                let value = values::connection_limit(text(value)?.trim())?.value();
                self.take("connection_limit", |to| to.connection_limit = value);
            }
            "expiretime" => {
                let value = moment(value)?;
                self.take("expire_time", |to| to.expire_time = value);
            }
            "reviewtime" => {
                let value = moment(value)?;
                self.take("review_time", |to| to.review_time = value);
            }
            "labels" => {
                let value = labels(value)?;
                self.take("labels", |to| to.labels = value.into_iter().collect());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn text(value: Raw) -> Result<String, String> {
    match value {
        Raw::Nothing => Ok(String::new()),
        Raw::Text(text) => Ok(text),
        Raw::List(_) | Raw::Strange => Err("one value is expected".into()),
    }
}

/// The value of an enum by its name. A number is refused: which name it stands for is published
/// nowhere, and a wrong guess would weaken a partner.
fn named<T>(
    value: &Raw,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let text = text(value.clone())?;
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "{text} is a number, not a name; export with Export-Clixml, or with ConvertTo-Json \
             -EnumsAsStrings"
        ));
    }
    parse(text).map(Some).map_err(|expected| format!("`{text}` is unknown; {expected}"))
}

fn switch(value: &Raw) -> Result<Option<bool>, String> {
    let text = text(value.clone())?;
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    values::switch(text).map(Some).map_err(|_| format!("`{text}` is neither True nor False"))
}

fn moment(value: Raw) -> Result<Option<Timestamp>, String> {
    match text(value)?.trim() {
        "" => Ok(None),
        text => text
            .parse()
            .map(|time| Some(values::to_proto_time(time)))
            .map_err(|_| format!("`{text}` is no time such as 2027-01-31T12:00:00Z")),
    }
}

fn labels(value: Raw) -> Result<Vec<(String, String)>, String> {
    let texts = match value {
        Raw::Nothing => Vec::new(),
        Raw::Text(text) => text.split([';', ',']).map(str::to_owned).collect(),
        Raw::List(texts) => texts,
        Raw::Strange => return Err("labels are key=value".into()),
    };
    let labels = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    labels
        .map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(format!("`{text}` is no label; write key=value")),
        })
        .collect()
}

/// The domains of a list. `None` when the file holds the name of the list's type instead, as
/// Export-Csv writes it.
fn domains(value: Raw) -> Result<Option<Vec<String>>, String> {
    let texts = match value {
        Raw::Nothing => Vec::new(),
        Raw::List(texts) => texts,
        Raw::Text(text) if is_type_name(&text) => return Ok(None),
        Raw::Text(text) => text.split([' ', ',', ';', '\n']).map(str::to_owned).collect(),
        Raw::Strange => return Err("a list of domains is expected".into()),
    };
    let texts = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    texts
        .map(|text| values::resource_name(text).map(|name| values::domain_of(&name).to_owned()))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn is_type_name(text: &str) -> bool {
    let text = text.trim();
    text.contains('`')
        || ["System.", "Microsoft.", "Deserialized."].iter().any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Negotiation;

    fn record(members: &[(&str, &str)]) -> Record {
        let members =
            members.iter().map(|(name, value)| ((*name).into(), Raw::Text((*value).into())));
        Record::of_members(1, members.collect())
    }

    #[test]
    fn only_what_is_stated_is_in_the_mask() {
        let stated = record(&[
            ("Identity", "Contoso.com"),
            ("SaslNegotiation", "Optional"),
            ("SupportDialbackNegotiation", "False"),
            ("XsAnyElements", "whatever"),
        ])
        .stated
        .unwrap();
        assert_eq!(stated.paths, ["sasl_negotiation", "dialback_enabled"]);
        assert_eq!(stated.partner.name, "allowedPartners/contoso.com");
        assert_eq!(stated.partner.sasl_negotiation(), Negotiation::Optional);
    }

    #[test]
    fn unknown_members_are_left_out_and_said_so() {
        let record = record(&[("Domain", "a.example"), ("Colour", "blue")]);
        assert!(record.stated.is_ok());
        assert_eq!(record.notes, ["Colour: unknown; left out"]);
    }

    #[test]
    fn every_value_that_is_not_understood_is_named() {
        let refused = record(&[
            ("Identity", "a.example"),
            ("TlsNegotiation", "1"),
            ("EnableKeepAlive", "maybe"),
            ("ConnectionLimit", "0"),
            ("PartnerType", "Friend"),
        ]);
        let reason = refused.stated.unwrap_err();
        for part in ["TlsNegotiation: 1 is a number", "maybe", "ConnectionLimit", "Friend"] {
            assert!(reason.contains(part), "{reason}");
        }
        assert!(record(&[("Description", "nobody")]).stated.is_err());
        assert!(record(&[("Identity", "a.example"), ("Domain", "b.example")]).stated.is_err());
        assert!(record(&[("Identity", "Tag:a.example")]).stated.is_err());
    }

    #[test]
    fn a_list_that_a_csv_lost_is_left_as_it_is() {
        let record = record(&[
            ("Identity", "a.example"),
            ("AdditionalDomains", "System.Collections.Generic.List`1[System.String]"),
        ]);
        assert_eq!(record.stated.unwrap().paths, Vec::<&str>::new());
        assert!(record.notes[0].contains("left as it is"));
    }

    #[test]
    fn a_list_written_as_one_text_is_split() {
        let stated =
            record(&[("Identity", "a.example"), ("AdditionalDomains", "B.a.example c.a.example")]);
        assert_eq!(
            stated.stated.unwrap().partner.additional_domains,
            ["b.a.example", "c.a.example"]
        );
    }
}

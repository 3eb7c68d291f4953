//! JSON: what `ConvertTo-Json` writes, and what this program writes.

use serde_json::{Map, Value};

use super::{
    record::{Raw, Record, Stated},
    text::Lines,
};
use crate::{
    cli::{
        json::ApiMessage,
        values::{self, COLLECTION},
    },
    proto::v1::AllowedPartner,
};

/// The records of a file: one object, an array of them, or any number after each other.
///
/// # Errors
/// The text is not even the outline of JSON.
pub fn records(text: &str) -> Result<Vec<Record>, String> {
    let lines = Lines::of(text);
    let objects = outline(text).map_err(|(at, why)| format!("line {}: {why}", lines.number(at)))?;
    Ok(objects.into_iter().map(|(at, object)| record(lines.number(at), object)).collect())
}

/// The texts of the outermost objects, with their offsets.
fn outline(text: &str) -> Result<Vec<(usize, &str)>, (usize, &'static str)> {
    let mut objects = Vec::new();
    let (mut depth, mut start, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if quoted => {
                quoted = byte != b'"' || escaped;
                escaped = byte == b'\\' && !escaped;
            }
            b'"' if depth == 0 => return Err((at, "a text stands where an object is expected")),
            b'"' => quoted = true,
            b'{' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            b'}' => {
                depth = depth.checked_sub(1).ok_or((at, "a `}` closes nothing"))?;
                if depth == 0 {
                    objects.push((start, &text[start..=at]));
                }
            }
            b'[' | b']' | b',' => {}
            _ if depth == 0 && !byte.is_ascii_whitespace() => {
                return Err((at, "an object is expected here"));
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err((start, "this object does not end"));
    }
    Ok(objects)
}

fn record(line: usize, text: &str) -> Record {
    let object: Map<String, Value> = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => return Record::refused(line, "", format!("no valid JSON: {error}")),
    };
    match object.get("name").and_then(Value::as_str) {
        Some(name) if name.starts_with(COLLECTION) => ours(line, name.to_owned(), object),
        _ => Record::of_members(
            line,
            object.iter().map(|(key, value)| (key.clone(), raw(value))).collect(),
        ),
    }
}

/// A whole partner as this program prints it.
fn ours(line: usize, name: String, object: Map<String, Value>) -> Record {
    let stated = AllowedPartner::from_json(&Value::Object(object)).and_then(|partner| {
        let name = values::resource_name(&partner.name)?;
        // The etag is of the place that the file comes from.
        let partner = AllowedPartner { name, etag: String::new(), ..partner };
        Ok(Stated { partner, paths: vec!["*"] })
    });
    Record { line, label: values::domain_of(&name).to_owned(), stated, notes: Vec::new() }
}

fn raw(value: &Value) -> Raw {
    match value {
        Value::Null => Raw::Nothing,
        Value::Bool(on) => Raw::Text(on.to_string()),
        Value::Number(number) => Raw::Text(number.to_string()),
        Value::String(text) => Raw::Text(text.clone()),
        Value::Array(items) => list(items),
        Value::Object(object) => wrapped(object),
    }
}

fn list(items: &[Value]) -> Raw {
    let texts: Option<Vec<_>> = items
        .iter()
        .map(|item| match raw(item) {
            Raw::Text(text) => Some(text),
            _ => None,
        })
        .collect();
    texts.map_or(Raw::Strange, Raw::List)
}

/// PowerShell 5 wraps arrays and enums: `{"value": [...], "Count": 2}`,
/// `{"value": 1, "Value": "Optional"}`; items of a list may be objects that hold a domain. A text
/// says more than the number beside it.
fn wrapped(object: &Map<String, Value>) -> Raw {
    const KEYS: &[&str] = &["value", "domain", "fqdn", "name", "tostring"];
    let known = || {
        object
            .iter()
            .filter(|(key, _)| KEYS.contains(&&*key.to_ascii_lowercase()))
            .map(|(_, value)| value)
    };
    if let Some(Value::Array(items)) = known().find(|value| value.is_array()) {
        return list(items);
    }
    known().find(|value| value.is_string()).or_else(|| known().next()).map_or(Raw::Strange, raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_finds_each_object_and_its_line() {
        let found = records("[\n {\"Identity\": \"a.example\"},\n {\"Identity\": \"x}\\\"{\"}\n]\n{\"name\": \"allowedPartners/b.example\"}").unwrap();
        let seen: Vec<_> =
            found.iter().map(|record| (record.line, record.stated.is_ok())).collect();
        assert_eq!(seen, [(2, true), (3, false), (5, true)]);
        assert!(records("[]").unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_not_even_an_outline_is_refused_with_its_line() {
        for (text, part) in [
            ("[\n\"a.example\"]", "line 2"),
            ("[{\"a\": 1}\n}", "line 2"),
            ("[\n{\"a\": 1", "line 2"),
            ("{} true", "line 1"),
        ] {
            let refusal = records(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    #[test]
    fn our_own_objects_are_whole_and_powershells_are_partial() {
        let ours =
            &records(r#"{"name": "allowedPartners/a.example", "etag": "1-2", "owner": "me"}"#)
                .unwrap()[0];
        let stated = ours.stated.as_ref().unwrap();
        assert_eq!(stated.paths, ["*"]);
        assert_eq!(stated.partner.etag, "");
        let theirs = &records(r#"{"Identity": "a.example", "Description": null}"#).unwrap()[0];
        assert_eq!(theirs.stated.as_ref().unwrap().paths, ["description"]);
    }

    #[test]
    fn what_powershell_wraps_is_unwrapped() {
        let text = r#"{"Identity": "a.example",
            "AdditionalDomains": {"value": ["b.a.example", {"Domain": "c.a.example"}], "Count": 2},
            "TlsNegotiation": {"value": 1, "Value": "Optional"}}"#;
        let stated = records(text).unwrap().remove(0).stated.unwrap();
        assert_eq!(stated.partner.additional_domains, ["b.a.example", "c.a.example"]);
        assert_eq!(stated.partner.tls_negotiation(), crate::proto::v1::Negotiation::Optional);
    }
}

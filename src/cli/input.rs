//! Partners as they come in on standard input or in a file: JSON objects, one or many, or names.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::Path,
};

use serde_json::Value;

use super::{
    failure::{Failure, Outcome},
    json::ApiMessage,
    values,
};
use crate::proto::v1::AllowedPartner;

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Names, one a line.
    Names(Vec<String>),
    /// Whole partners.
    Objects(Vec<AllowedPartner>),
}

impl Input {
    /// Reads standard input to its end.
    ///
    /// # Errors
    /// It is a terminal, or what comes is neither JSON nor names.
    pub fn from_stdin() -> Outcome<Self> {
        let mut stdin = io::stdin().lock();
        if stdin.is_terminal() {
            return Err(Failure::usage(
                "no partner is named; give names, --filter, or partners on standard input",
            ));
        }
        let mut text = String::new();
        stdin.read_to_string(&mut text)?;
        Self::parse(&text).map_err(|why| Failure::rejected(format!("standard input: {why}")))
    }

    /// Reads a file; `-` is standard input.
    ///
    /// # Errors
    /// As for [`Input::from_stdin`].
    pub fn from_file(file: &Path) -> Outcome<Self> {
        if file == Path::new("-") {
            return Self::from_stdin();
        }
        let refused = |why: String| Failure::rejected(format!("{}: {why}", file.display()));
        Self::parse(&text(file)?).map_err(refused)
    }

    /// The names, whichever way the partners came.
    pub fn into_names(self) -> Vec<String> {
        match self {
            Self::Names(names) => names,
            Self::Objects(partners) => partners.into_iter().map(|partner| partner.name).collect(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with(['{', '[']) { objects(text) } else { names(text) }
    }
}

/// The text of a file; `-` is standard input.
///
/// # Errors
/// It cannot be read, or is no UTF-8.
pub fn text(file: &Path) -> Outcome<String> {
    if file == Path::new("-") {
        return Ok(io::read_to_string(io::stdin().lock())?);
    }
    fs::read_to_string(file)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
}

fn names(text: &str) -> Result<Input, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(values::resource_name).collect::<Result<_, _>>().map(Input::Names)
}

/// One object, an array of objects, or any number of objects after each other.
fn objects(text: &str) -> Result<Input, String> {
    let mut partners = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.map_err(|error| error.to_string())? {
            Value::Array(values) => {
                for value in &values {
                    partners.push(partner(value, partners.len())?);
                }
            }
            value => partners.push(partner(&value, partners.len())?),
        }
    }
    Ok(Input::Objects(partners))
}

fn partner(value: &Value, index: usize) -> Result<AllowedPartner, String> {
    let at = |why: String| format!("object {}: {why}", index + 1);
    let mut partner = AllowedPartner::from_json(value).map_err(at)?;
    partner.name =
        values::resource_name(&partner.name).map_err(|why| at(format!("name: {why}")))?;
    Ok(partner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        Input::parse(text).map(Input::into_names)
    }

    #[test]
    fn an_object_an_array_and_lines_of_objects_are_partners() {
        let object = r#"{"name": "allowedPartners/a.example", "suspended": true}"#;
        for text in [object, &format!("[{object}]"), &format!("\u{feff}\n{object}\n")] {
            let Input::Objects(partners) = Input::parse(text).unwrap() else {
                panic!("{text} is objects")
            };
            assert_eq!(partners.len(), 1);
            assert!(partners[0].suspended);
        }
        assert_eq!(read(&format!("{object}\n{object}")).unwrap().len(), 2);
        assert_eq!(read("[]"), Ok(vec![]));
    }

    #[test]
    fn lines_are_names() {
        assert_eq!(
            read("allowedPartners/a.example\r\n\n  B.example\n"),
            Ok(vec!["allowedPartners/a.example".into(), "allowedPartners/b.example".into()])
        );
        assert_eq!(read(""), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let good = r#"{"name": "a.example"}"#;
        for (text, part) in [
            (format!("{good}\n{{\"name\": \"x\"}}"), "object 2: name: `x`"),
            (format!("{good}\n{{\"nam\": \"b.example\"}}"), "object 2"),
            ("{\"name\": ".to_owned(), "EOF"),
            ("not a domain".to_owned(), "`not a domain`"),
        ] {
            let refusal = read(&text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }
}

//! CLIXML, as `Export-Clixml` writes it.
//!
//! An `Obj` has type names (`TN`, or `TNRef` to one before), properties (`Props`, `MS`), and
//! perhaps a list (`LST`, `IE`) or a `ToString`. An enum is an `Obj` whose `ToString` is its name;
//! the integer beside it is not looked at. A value that was written before is a `Ref` to it.

use std::collections::HashMap;

use super::{
    record::{Raw, Record},
    xml::{self, Element},
};

/// What the original's objects are called, whatever stands before and after.
const PARTNER_TYPE: &str = "XmppAllowedPartner";

/// The records of a file, and how many objects in it are no partners.
///
/// # Errors
/// The text is no well-formed XML.
pub fn records(text: &str) -> Result<(Vec<Record>, usize), String> {
    let mut reader = Objects::default();
    let mut records = Vec::new();
    let mut others = 0;
    xml::each(
        text,
        |name| name == "Obj",
        |object| {
            let kind = reader.types(&object);
            let members = reader.members(&object);
            if is_partner(&kind, &members) {
                records.push(Record::of_members(object.line, members));
            } else {
                others += 1;
            }
        },
    )?;
    Ok((records, others))
}

/// The original's type, or an object that a pipeline cut out of one (`Select-Object`).
fn is_partner(types: &[String], members: &[(String, Raw)]) -> bool {
    let named = |part: &str| types.iter().any(|name| name.contains(part));
    let has_domain = || {
        members
            .iter()
            .any(|(name, _)| ["identity", "domain"].contains(&&*name.to_ascii_lowercase()))
    };
    named(PARTNER_TYPE) || ((types.is_empty() || named("PSCustomObject")) && has_domain())
}

/// What later objects may refer to.
#[derive(Default)]
struct Objects {
    types: HashMap<String, Vec<String>>,
    values: HashMap<String, Raw>,
}

impl Objects {
    fn types(&mut self, object: &Element) -> Vec<String> {
        if let Some(reference) = object.child("TNRef").and_then(|tag| tag.attribute("RefId")) {
            return self.types.get(reference).cloned().unwrap_or_default();
        }
        let Some(tag) = object.child("TN") else { return Vec::new() };
        let names: Vec<_> = tag.children.iter().map(|name| name.text.clone()).collect();
        if let Some(id) = tag.attribute("RefId") {
            self.types.insert(id.to_owned(), names.clone());
        }
        names
    }

    fn members(&mut self, object: &Element) -> Vec<(String, Raw)> {
        let bags = object.children.iter().filter(|child| ["Props", "MS"].contains(&&*child.name));
        let members = bags.flat_map(|bag| &bag.children);
        members
            .filter_map(|member| Some((unescaped(member.attribute("N")?), self.value(member))))
            .collect()
    }

    fn value(&mut self, element: &Element) -> Raw {
        match element.name.as_str() {
            "Nil" => Raw::Nothing,
            "Ref" => {
                let id = element.attribute("RefId").unwrap_or_default();
                self.values.get(id).cloned().unwrap_or(Raw::Strange)
            }
            "Obj" => {
                self.types(element);
                let value = self.object_value(element);
                if let Some(id) = element.attribute("RefId") {
                    self.values.insert(id.to_owned(), value.clone());
                }
                value
            }
            _ => Raw::Text(unescaped(&element.text)),
        }
    }

    fn object_value(&mut self, object: &Element) -> Raw {
        let list = object
            .children
            .iter()
            .find(|child| ["LST", "IE", "QUE", "STK"].contains(&&*child.name));
        if let Some(list) = list {
            let items: Option<Vec<_>> = list.children.iter().map(|item| self.item(item)).collect();
            return items.map_or(Raw::Strange, Raw::List);
        }
        match object.child("ToString") {
            Some(name) => Raw::Text(unescaped(&name.text)),
            None => Raw::Strange,
        }
    }

    /// An item of a list of domains: a text, or an object that has one.
    fn item(&mut self, item: &Element) -> Option<String> {
        if item.name == "Obj" {
            let domain = self.members(item).into_iter().find_map(|(name, value)| {
                let known =
                    ["domain", "fqdn", "name", "value"].contains(&&*name.to_ascii_lowercase());
                match value {
                    Raw::Text(text) if known => Some(text),
                    _ => None,
                }
            });
            if domain.is_some() {
                return domain;
            }
        }
        match self.value(item) {
            Raw::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The text with `_xHHHH_` put back to what it stands for. Pairs of surrogates come as two.
fn unescaped(text: &str) -> String {
    if !text.contains("_x") {
        return text.to_owned();
    }
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("_x") {
        units.extend(rest[..at].encode_utf16());
        rest = &rest[at..];
        let unit = rest.get(2..6).filter(|_| rest.as_bytes().get(6) == Some(&b'_'));
        if let Some(unit) = unit.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
            units.push(unit);
            rest = &rest[7..];
        } else {
            units.extend("_x".encode_utf16());
            rest = &rest[2..];
        }
    }
    units.extend(rest.encode_utf16());
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_put_back() {
        for (written, meant) in [
            ("a_x000D__x000A_b", "a\r\nb"),
            ("_x005F_x0041_", "_x0041_"),
            ("snake_xenon", "snake_xenon"),
            ("_xD83D__xDE00_", "\u{1f600}"),
            ("_x00", "_x00"),
            ("_x00é0_", "_x00é0_"),
        ] {
            assert_eq!(unescaped(written), meant, "{written}");
        }
    }
}

//! The original store's own XML: elements in a namespace of the area and year, scalars as
//! attributes, lists as elements.

use super::{
    record::{Raw, Record},
    xml::{self, Element},
};

/// The records of a file.
///
/// # Errors
/// The text is no well-formed XML.
pub fn records(text: &str) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    xml::each(text, is_partner, |element| {
        records.push(Record::of_members(element.line, members(&element)));
    })?;
    Ok(records)
}

fn is_partner(name: &str) -> bool {
    name.ends_with("AllowedPartner")
}

fn members(partner: &Element) -> Vec<(String, Raw)> {
    let attributes = partner.attributes.iter();
    let attributes = attributes.filter(|(name, _)| name != "xmlns" && name != "nil");
    let attributes = attributes.map(|(name, value)| (name.clone(), Raw::Text(value.clone())));
    attributes
        .chain(partner.children.iter().map(|child| (child.name.clone(), value(child))))
        .collect()
}

fn value(element: &Element) -> Raw {
    if !element.children.is_empty() {
        return Raw::List(element.children.iter().map(item).collect());
    }
    match element.text.trim() {
        "" => Raw::Nothing,
        text => Raw::Text(text.to_owned()),
    }
}

/// An item is its text, or the value of its first attribute.
fn item(element: &Element) -> String {
    match (element.text.trim(), element.attributes.first()) {
        ("", Some((_, value))) => value.clone(),
        (text, _) => text.to_owned(),
    }
}

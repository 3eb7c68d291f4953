//! The parts of an XML file that are wanted, one at a time, with the lines they begin on.
//!
//! Namespaces are not looked at, only local names: the original's change with the area and year.

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesRef, BytesStart, Event},
};

use super::text::Lines;

/// Deeper files are not the original's.
const MAX_DEPTH: usize = 64;

/// An element with everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The name without its prefix.
    pub name: String,
    /// The line it begins on.
    pub line: usize,
    /// The attributes, names without their prefixes.
    pub attributes: Vec<(String, String)>,
    /// The elements in it.
    pub children: Vec<Self>,
    /// The text in it, without that of its elements.
    pub text: String,
}

impl Element {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first element in it with this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// Hands over every element that `wanted` picks by its name, whole; what is inside one is not
/// asked about again.
///
/// # Errors
/// The text is no well-formed XML; the message says on which line.
pub fn each(
    text: &str,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(Element),
) -> Result<(), String> {
    let lines = Lines::of(text);
    let mut reader = Reader::from_str(text);
    let mut depth = 0_usize;
    let mut open: Vec<Element> = Vec::new();
    loop {
        let offset = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = reader.read_event().map_err(|error| {
            let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
            format!("line {}: {error}", lines.number(at))
        })?;
        let line = || lines.number(offset + 1);
        match event {
            Event::Start(start) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("line {}: elements are nested too deep", line()));
                }
                if !open.is_empty() || wanted(start.local_name().as_ref()) {
                    open.push(element(&start, line())?);
                }
            }
            Event::Empty(start) if !open.is_empty() || wanted(start.local_name().as_ref()) => {
                close(&mut open, element(&start, line())?, &mut take);
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if let Some(closed) = open.pop() {
                    close(&mut open, closed, &mut take);
                }
            }
            Event::Text(part) => push(&mut open, &part.xml10_content()),
            Event::CData(part) => push(&mut open, &part.xml10_content()),
            Event::GeneralRef(reference) => push(&mut open, &resolved(&reference, line())?),
            Event::Eof if depth == 0 => return Ok(()),
            Event::Eof => return Err("the file ends in the middle of an element".into()),
            _ => {}
        }
    }
}

fn close(open: &mut [Element], closed: Element, take: &mut impl FnMut(Element)) {
    match open.last_mut() {
        Some(parent) => parent.children.push(closed),
        None => take(closed),
    }
}

fn push(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn element(start: &BytesStart<'_>, line: usize) -> Result<Element, String> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| format!("line {line}: {error}"))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| format!("line {line}: {error}"))?;
        let key = attribute.key.local_name();
        attributes.push((key.as_ref().to_owned(), value.into_owned()));
    }
    let name = start.local_name().as_ref().to_owned();
    Ok(Element { name, line, attributes, ..Element::default() })
}

fn resolved(reference: &BytesRef<'_>, line: usize) -> Result<String, String> {
    let unknown = || format!("line {line}: the entity &{}; is unknown", &**reference);
    if let Some(character) = reference.resolve_char_ref().map_err(|_| unknown())? {
        return Ok(character.to_string());
    }
    resolve_predefined_entity(reference).map(str::to_owned).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Result<Vec<Element>, String> {
        let mut found = Vec::new();
        each(text, |name| name == "p", |element| found.push(element))?;
        Ok(found)
    }

    #[test]
    fn wanted_elements_come_whole_with_their_lines() {
        let found = wanted("<?xml version='1.0'?>\n<x:r xmlns:x='u'>\n<x:p a='1&amp;2'>t&lt;<q/>u</x:p>\r\n<p/></x:r>").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[1].line), (3, 4));
        assert_eq!(found[0].attribute("a"), Some("1&2"));
        assert_eq!(found[0].text, "t<u");
        assert!(found[0].child("q").is_some());
    }

    #[test]
    fn what_is_not_well_formed_is_refused_with_its_line() {
        for (text, part) in [
            ("<r>\n<p>\n</r>", "line 3"),
            ("<r>\n<p>&evil;</p></r>", "line 2"),
            ("<r><p>", "middle"),
            ("<!DOCTYPE r [<!ENTITY e 'x'>]>\n<r><p>&e;</p></r>", "&e;"),
        ] {
            let refusal = wanted(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
        assert!(wanted(&"<a>".repeat(1_000)).unwrap_err().contains("deep"));
    }
}

//! Prosody: the `s2s_whitelist` of its configuration (`mod_s2s_whitelist`), and the zones of a
//! `mod_firewall` script (`%ZONE name: a, b`). A list that a script keeps in a file of its own is
//! a plain list: import that file.

use super::{record::Record, text::Lines};

/// A named list in a file.
pub type Named = (String, Vec<Record>);

/// Whether the text is one of Prosody's.
pub fn looks_like_one(text: &str) -> bool {
    text.contains("s2s_whitelist") || text.lines().any(|line| zone(line).is_some())
}

/// The lists of a file, by name.
pub fn lists(text: &str) -> Vec<Named> {
    let mut lists = Vec::new();
    let whitelists = whitelists(text);
    if !whitelists.is_empty() {
        lists.push(("s2s_whitelist".to_owned(), whitelists));
    }
    for (at, line) in text.lines().enumerate() {
        if let Some((name, members)) = zone(line) {
            let members = members.split(',').map(str::trim).filter(|member| !member.is_empty());
            let records = members.map(|member| Record::of_domain(at + 1, member)).collect();
            lists.push((name.to_owned(), records));
        }
    }
    lists
}

fn zone(line: &str) -> Option<(&str, &str)> {
    let (name, members) = line.trim().strip_prefix("%ZONE")?.split_once(':')?;
    Some((name.trim(), members))
}

/// The texts of every `s2s_whitelist = { ... }`, of the server and of its hosts.
fn whitelists(text: &str) -> Vec<Record> {
    let lines = Lines::of(text);
    let mut records = Vec::new();
    let mut from = 0;
    while let Some(found) = text[from..].find("s2s_whitelist") {
        let at = from + found;
        from = at + "s2s_whitelist".len();
        if is_commented(text, at) {
            continue;
        }
        let Some(table) = text[from..].trim_start().strip_prefix('=') else { continue };
        let Some(table) = table.trim_start().strip_prefix('{') else { continue };
        let start = text.len() - table.len();
        records.extend(
            strings(table)
                .map(|(offset, domain)| Record::of_domain(lines.number(start + offset), domain)),
        );
    }
    records
}

fn is_commented(text: &str, at: usize) -> bool {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[line..at].contains("--")
}

/// The quoted texts up to the closing brace, comments left out.
fn strings(table: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &table[at..];
            let next = rest.find(['"', '\'', '}', '-'])?;
            let found = &rest[next..];
            if found.starts_with('}') {
                return None;
            }
            if let Some(comment) = found.strip_prefix("--") {
                at += next + 2 + comment.find('\n').unwrap_or(comment.len());
                continue;
            }
            if found.starts_with('-') {
                at += next + 1;
                continue;
            }
            let quote = &found[..1];
            let length = found[1..].find(quote)?;
            let start = at + next + 1;
            at = start + length + 1;
            return Some((start, &table[start..start + length]));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<(String, Vec<(usize, String)>)> {
        let lists = lists(text).into_iter();
        lists
            .map(|(name, records)| {
                (name, records.into_iter().map(|record| (record.line, record.label)).collect())
            })
            .collect()
    }

    #[test]
    fn the_whitelists_of_a_configuration_are_found_and_comments_are_not() {
        let text = "modules_enabled = { \"s2s_whitelist\" }\n-- s2s_whitelist = { \"no.example\" }\n\
            s2s_whitelist = {\n  \"a.example\"; -- \"not.example\"\n  'b-c.example',\n}\n\
            VirtualHost \"x.example\"\n  s2s_whitelist={\"d.example\"}\n";
        let wanted = [(4, "a.example"), (5, "b-c.example"), (8, "d.example")];
        let wanted = wanted.map(|(line, name)| (line, name.to_owned())).to_vec();
        assert_eq!(seen(text), [("s2s_whitelist".to_owned(), wanted)]);
    }

    #[test]
    fn the_zones_of_a_firewall_are_lists_with_names() {
        let text = "%ZONE partners: a.example, b.example\n%ZONE spam: c.example\nFROM: x\nDROP.\n";
        let names: Vec<_> = seen(text).into_iter().map(|(name, list)| (name, list.len())).collect();
        assert_eq!(names, [("partners".to_owned(), 2), ("spam".to_owned(), 1)]);
    }
}

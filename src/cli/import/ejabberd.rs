//! ejabberd: the servers of the access control lists in `ejabberd.yml`.

use std::collections::HashMap;

use serde_json::Value;

use super::record::Record;

/// A named list in a file.
pub type Named = (String, Vec<Record>);

/// Whether the text is one of ejabberd's.
pub fn looks_like_one(text: &str) -> bool {
    text.lines().any(|line| matches!(line.trim_end(), "acl:" | "\"acl\":" | "'acl':"))
}

/// The lists of a file that name servers, by name.
///
/// # Errors
/// The text is no YAML.
pub fn lists(text: &str) -> Result<Vec<Named>, String> {
    let options = serde_saphyr::options! { budget: None };
    let file: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    let places = places(text);
    let Some(Value::Object(lists)) = file.get("acl") else { return Ok(Vec::new()) };
    let lists = lists.iter().map(|(name, rules)| {
        let mut records = Vec::new();
        collect(rules, &places, &mut records);
        records.sort_by_key(|record| record.line);
        (name.clone(), records)
    });
    Ok(lists.filter(|(_, records)| !records.is_empty()).collect())
}

/// The rules of a list are a map, or a list of maps.
fn collect(rules: &Value, places: &HashMap<&str, usize>, records: &mut Vec<Record>) {
    match rules {
        Value::Array(rules) => rules.iter().for_each(|rule| collect(rule, places, records)),
        Value::Object(rules) => {
            for (kind, servers) in rules {
                match kind.as_str() {
                    "server" => each(servers, places, &mut |line, server| {
                        records.push(Record::of_domain(line, server));
                    }),
                    "server_glob" | "server_regexp" => {
                        each(servers, places, &mut |line, server| {
                            let reason = format!("{kind} is a pattern; name each domain");
                            records.push(Record::refused(line, server, reason));
                        })
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn each(servers: &Value, places: &HashMap<&str, usize>, take: &mut impl FnMut(usize, &str)) {
    match servers {
        Value::String(server) => take(places.get(server.as_str()).copied().unwrap_or(0), server),
        Value::Array(servers) => servers.iter().for_each(|server| each(server, places, take)),
        Value::Object(servers) => {
            for server in servers.keys() {
                take(places.get(server.as_str()).copied().unwrap_or(0), server);
            }
        }
        _ => {}
    }
}

/// The line on which each word of the file first stands.
fn places(text: &str) -> HashMap<&str, usize> {
    let mut places = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let words = line.split([' ', '\t', ',', '[', ']', '{', '}']);
        for word in words.map(|word| word.trim_matches(['"', '\'', ':', '-'])) {
            places.entry(word).or_insert(at + 1);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_every_shape_are_found_with_their_lines() {
        let text = "hosts: [x.example]\nacl:\n  admin:\n    user: me@x.example\n  partners:\n    \
            server:\n      - a.example\n      - \"b.example\"\n  more:\n    - server: c.example\n    \
            - server_glob: \"*.org\"\n";
        assert!(looks_like_one(text));
        let seen: Vec<(String, Vec<_>)> = lists(text)
            .unwrap()
            .into_iter()
            .map(|(name, records)| {
                (name, records.into_iter().map(|r| (r.line, r.label, r.stated.is_ok())).collect())
            })
            .collect();
        let at = |line, label: &str, ok| (line, label.to_owned(), ok);
        assert_eq!(
            seen,
            [
                ("more".to_owned(), vec![at(10, "c.example", true), at(11, "*.org", false)]),
                ("partners".to_owned(), vec![at(7, "a.example", true), at(8, "b.example", true)]),
            ]
        );
    }
}

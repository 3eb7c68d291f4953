//! Plain lists of domains, one a line, as Prosody's `mod_firewall` keeps them in files too.
//!
//! `#`, `;` and `--` begin a comment. Quotes and commas around a domain are taken off.

use super::record::Record;

/// The records of a file.
pub fn records(text: &str) -> Vec<Record> {
    text.lines().enumerate().flat_map(|(at, line)| domains(at + 1, line)).collect()
}

fn domains(line: usize, text: &str) -> Vec<Record> {
    let words = without_comment(text).split([',', ' ', '\t', '\r']);
    let words = words.map(|word| word.trim_matches(['"', '\'']));
    words.filter(|word| !word.is_empty()).map(|word| Record::of_domain(line, word)).collect()
}

fn without_comment(line: &str) -> &str {
    let starts = ["#", ";", " --", "\t--", "//"];
    let line = if line.trim_start().starts_with("--") { "" } else { line };
    let end = starts.iter().filter_map(|start| line.find(start)).min();
    &line[..end.unwrap_or(line.len())]
}

/// Whether the first words of the text could be domains.
pub fn looks_like_one(text: &str) -> bool {
    let mut lines = text.lines().map(|line| domains(0, line)).filter(|found| !found.is_empty());
    lines.next().is_some_and(|found| found.iter().any(|record| record.stated.is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_quotes_and_blank_lines_are_no_domains() {
        let records = records(
            "# ours\r\n\r\nA.example # note\r\n  \"b.example\",\n-- c\n; d\nme@e.example\n-f.example\n",
        );
        let seen: Vec<_> = records
            .iter()
            .map(|record| (record.line, record.label.as_str(), record.stated.is_ok()))
            .collect();
        assert_eq!(
            seen,
            [
                (3, "A.example", true),
                (4, "b.example", true),
                (7, "me@e.example", false),
                (8, "-f.example", false)
            ]
        );
    }
}

//! Files in the shapes that real exporters write, read to the end.

use std::path::Path;

use super::{format::Format, record::Record, text};

fn records(file: &str) -> (Format, Vec<Record>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(file);
    let text = text::decode(&std::fs::read(file).unwrap()).unwrap();
    let format = Format::detect(&text).unwrap();
    (format, format.parse(&text, &[]).unwrap().records)
}

/// What was read, one entry a line: its line, its values, and what was left out or is wrong.
fn told(file: &str) -> String {
    let (format, records) = records(file);
    let lines = records.iter().map(|Record { line, label, stated, notes }| {
        let told = match stated {
            Err(reason) => format!("REFUSED {reason}"),
            Ok(stated) => {
                let json = serde_json::to_string(&crate::cli::json::Json(&stated.partner)).unwrap();
                format!("{} {json}", stated.paths.join(","))
            }
        };
        let notes: String = notes.iter().map(|note| format!("\n    note: {note}")).collect();
        format!("{line}: {label}: {told}{notes}\n")
    });
    format!("{format:?}\n{}", lines.collect::<String>())
}

#[test]
fn clixml_with_deserialized_types_enums_references_and_unknown_members() {
    insta::assert_snapshot!(told("partners.clixml"), @"");
}

#[test]
fn clixml_in_utf_16_with_a_mark_is_the_same() {
    assert_eq!(told("partners-utf16.clixml"), told("partners.clixml"));
}

#[test]
fn json_of_powershell() {
    insta::assert_snapshot!(told("partners.json"), @"");
}

#[test]
fn csv_of_powershell_with_crlf_and_quotes() {
    insta::assert_snapshot!(told("partners.csv"), @"");
}

#[test]
fn the_stores_own_xml() {
    insta::assert_snapshot!(told("store.xml"), @"");
}

#[test]
fn lists_of_other_servers() {
    insta::assert_snapshot!(told("domains.txt"), @"");
    insta::assert_snapshot!(told("prosody.cfg.lua"), @"");
    insta::assert_snapshot!(told("ejabberd.yml"), @"");
}

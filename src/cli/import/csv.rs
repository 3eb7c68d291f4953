//! CSV: what `Export-Csv` writes, with or without its `#TYPE` line, and what this program writes.

use csv::{ReaderBuilder, StringRecord};

use super::record::{Raw, Record};

/// The records of a file.
///
/// # Errors
/// The header cannot be read.
pub fn records(text: &str) -> Result<Vec<Record>, String> {
    let (text, skipped) = without_type_line(text);
    let delimiter = delimiter(text.lines().next().unwrap_or_default());
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| format!("the header: {error}"))?.clone();
    let mut records = Vec::new();
    for row in reader.records() {
        records.push(match row {
            Ok(row) => record(&header, &row, skipped),
            Err(error) => {
                let line = error.position().map_or(0, |position| line(position, skipped));
                Record::refused(line, "", error.to_string())
            }
        });
    }
    Ok(records)
}

fn record(header: &StringRecord, row: &StringRecord, skipped: usize) -> Record {
    let line = row.position().map_or(0, |position| line(position, skipped));
    if row.len() != header.len() {
        let reason = format!("{} cells, but the header has {}", row.len(), header.len());
        return Record::refused(line, row.get(0).unwrap_or_default(), reason);
    }
    let cells = header.iter().zip(row);
    let value =
        |cell: &str| if cell.is_empty() { Raw::Nothing } else { Raw::Text(cell.to_owned()) };
    Record::of_members(
        line,
        cells.map(|(name, cell)| (name.trim().to_owned(), value(cell))).collect(),
    )
}

fn line(position: &csv::Position, skipped: usize) -> usize {
    usize::try_from(position.line()).unwrap_or(usize::MAX).saturating_add(skipped)
}

/// The text without the line with the type's name that PowerShell 5 puts first, and how many lines
/// that takes away.
fn without_type_line(text: &str) -> (&str, usize) {
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("#TYPE") => (rest, 1),
        _ => (text, 0),
    }
}

/// `Export-Csv -UseCulture` takes a semicolon in much of Europe.
pub fn delimiter(header: &str) -> u8 {
    let count = |wanted: u8| header.bytes().filter(|byte| *byte == wanted).count();
    b",;\t".iter().copied().rev().max_by_key(|candidate| count(*candidate)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_file() {
        let text = "#TYPE Selected.Thing\r\n\"Identity\",\"Description\"\r\n\"a.example\",\"two\r\nlines\"\r\n\"b.example\"\r\n\"c.example\",\"\"\r\n";
        let records = records(text).unwrap();
        let seen: Vec<_> =
            records.iter().map(|record| (record.line, record.stated.is_ok())).collect();
        assert_eq!(seen, [(3, true), (5, false), (6, true)]);
        assert!(records[1].stated.as_ref().unwrap_err().contains("the header has 2"));
    }

    #[test]
    fn the_delimiter_is_the_one_the_header_uses() {
        assert_eq!(delimiter("Identity,Description"), b',');
        assert_eq!(delimiter("\"Identity\";\"Description\""), b';');
        assert_eq!(delimiter("Identity\tDescription"), b'\t');
        assert_eq!(delimiter("Identity"), b',');
    }
}

//! CSV: what `Export-Csv` writes, with or without its `#TYPE` line, and what this program writes.

use csv::{ReaderBuilder, StringRecord};

use super::{
    record::{Raw, Record},
    text::Lines,
};

/// The records of a file.
///
/// # Errors
/// The header cannot be read.
pub fn records(text: &str) -> Result<Vec<Record>, String> {
    let places = Places { text, lines: Lines::of(text), skipped: type_line(text) };
    let text = &text[places.skipped..];
    let delimiter = delimiter(text.lines().next().unwrap_or_default());
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| format!("the header: {error}"))?.clone();
    let mut records = Vec::new();
    for row in reader.records() {
        records.push(match row {
            Ok(row) => record(&header, &row, places.line(row.position())),
            Err(error) => Record::refused(places.line(error.position()), "", error.to_string()),
        });
    }
    Ok(records)
}

fn record(header: &StringRecord, row: &StringRecord, line: usize) -> Record {
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

/// Where the rows are. The reader's own line numbers are off where lines end with CRLF.
struct Places<'a> {
    text: &'a str,
    lines: Lines,
    skipped: usize,
}

impl Places<'_> {
    fn line(&self, position: Option<&::csv::Position>) -> usize {
        let Some(position) = position else { return 0 };
        let offset = self.skipped + usize::try_from(position.byte()).unwrap_or(usize::MAX);
        let rest = self.text.get(offset..).unwrap_or_default();
        self.lines.number(offset + rest.len() - rest.trim_start_matches(['\r', '\n']).len())
    }
}

/// The bytes of the line with the type's name that PowerShell 5 puts first.
fn type_line(text: &str) -> usize {
    if text.starts_with("#TYPE") { text.find('\n').map_or(text.len(), |end| end + 1) } else { 0 }
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

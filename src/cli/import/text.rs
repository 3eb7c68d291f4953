//! The text of a file, whatever it was saved as, and the lines in it.
//!
//! PowerShell 5 writes UTF-16 with a byte order mark, PowerShell 7 and everybody else UTF-8.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// The text in these bytes: UTF-8 or UTF-16, with or without a byte order mark.
///
/// # Errors
/// The bytes are neither; the message says where.
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    let (encoding, mark) = Encoding::for_bom(bytes).unwrap_or_else(|| (without_mark(bytes), 0));
    let bytes = &bytes[mark..];
    if encoding == UTF_8 {
        return std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line} is not UTF-8; save the file as UTF-8 or UTF-16")
        });
    }
    encoding
        .decode_without_bom_handling_and_without_replacement(bytes)
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| format!("the file is damaged: it is no valid {}", encoding.name()))
}

/// Text of this kind begins with an ASCII character, whose other half is zero in UTF-16.
fn without_mark(bytes: &[u8]) -> &'static Encoding {
    match bytes {
        [0, low, ..] if *low != 0 => UTF_16BE,
        [low, 0, ..] if *low != 0 => UTF_16LE,
        _ => UTF_8,
    }
}

/// Where the lines of a text begin.
#[derive(Clone, Debug)]
pub struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    /// The lines of a text.
    pub fn of(text: &str) -> Self {
        Self { ends: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    /// The number of the line, from 1, that holds the byte at `offset`.
    pub fn number(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_way_of_saving_gives_the_same_text() {
        let text = "bücher.example\r\n";
        let marked = format!("\u{feff}{text}");
        for bytes in [
            text.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:?}");
        }
        assert_eq!(decode(b"").as_deref(), Ok(""));
    }

    #[test]
    fn damaged_text_is_refused_with_its_place() {
        assert!(decode(b"a.example\nb\xfccher.example").unwrap_err().contains("line 2"));
        assert!(decode(b"\xff\xfea").unwrap_err().contains("damaged"));
    }

    #[test]
    fn offsets_become_line_numbers() {
        let lines = Lines::of("a\nbc\n\nd");
        let numbers: Vec<_> = [0, 1, 2, 4, 5, 6].map(|at| lines.number(at)).into();
        assert_eq!(numbers, [1, 1, 2, 2, 3, 4]);
    }
}

//! The forms in which things are printed.

pub mod csv;
pub mod partners;
pub mod table;

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::{console::Console, json};

pub use partners::PartnerPrinter;

/// The form of a list of partners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table that fits the terminal
    #[default]
    Table,
    /// A table with every column
    Wide,
    /// An object, or an array when several are asked for (proto3 JSON)
    Json,
    /// One JSON object a line
    Ndjson,
    /// YAML, with the fields of the JSON
    Yaml,
    /// Comma-separated values
    Csv,
    /// The resource names alone
    Name,
}

/// The form of one object that is no partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    /// Lines for people
    #[default]
    Table,
    /// proto3 JSON
    Json,
    /// YAML, with the fields of the JSON
    Yaml,
}

/// The form of a list of things that are no partners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// A table that fits the terminal
    #[default]
    Table,
    /// An array (proto3 JSON)
    Json,
    /// One JSON object a line
    Ndjson,
    /// YAML, with the fields of the JSON
    Yaml,
    /// The names alone
    Name,
}

impl ListFormat {
    /// Prints a list in this form.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print<T: Serialize>(
        self,
        list: &[T],
        name: impl Fn(usize) -> String,
        table: impl FnOnce() -> String,
    ) -> io::Result<()> {
        match self {
            Self::Table => ObjectFormat::Table.print(&list, table),
            Self::Json => ObjectFormat::Json.print(&list, table),
            Self::Ndjson => list.iter().try_for_each(|object| line(serde_json::to_string(object)?)),
            Self::Yaml => ObjectFormat::Yaml.print(&list, table),
            Self::Name => (0..list.len()).try_for_each(|index| line(name(index))),
        }
    }
}

impl ObjectFormat {
    /// Prints an object in this form; `table` gives the form for people.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print<T: Serialize>(self, object: &T, table: impl FnOnce() -> String) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Self::Table => out.write_all(table().as_bytes()),
            Self::Json => {
                serde_json::to_writer_pretty(&mut out, object)?;
                writeln!(out)
            }
            Self::Yaml => out.write_all(json::to_yaml(object)?.as_bytes()),
        }
    }
}

/// Prints a line on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// A number with commas.
pub fn number(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let size = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
    format!("{sign}{}", super::console::count(size))
}

/// Names and values as aligned lines; pairs without a value are left out.
pub fn fields(console: Console, pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 2;
    let room = console.width.map_or(usize::MAX, usize::from).saturating_sub(width).max(20);
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let mut lines = wrapped(value, room).into_iter();
        text += &format!("{name:width$}{}\n", lines.next().unwrap_or_default());
        lines.for_each(|line| text += &format!("{:width$}{line}\n", ""));
    }
    text
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_wrapped_below_themselves() {
        let console = Console { width: Some(30), ..Console::default() };
        let pairs = [("roles", "one two three four five six".to_owned()), ("none", String::new())];
        assert_eq!(fields(console, &pairs), "roles  one two three four five\n       six\n");
    }
}

//! What the terminal can do, and asking at it.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
};

use clap::ValueEnum;
use comfy_table::Table;

use super::failure::{Exit, Failure, Outcome};

/// How many names a question shows.
const NAMES_SHOWN: usize = 10;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The terminal that standard output goes to, if it does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Console {
    /// Whether to use colours.
    pub colour: bool,
    /// The columns; `None` when it is no terminal.
    pub width: Option<u16>,
}

/// A colour for a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Something new.
    Green,
    /// Something gone or refused.
    Red,
    /// Something changed, or to look at.
    Yellow,
}

impl Console {
    /// Looks at standard output.
    pub fn detect(choice: ColourChoice, no_color: Option<&str>) -> Self {
        let wanted = match choice {
            ColourChoice::Auto => io::stdout().is_terminal() && no_color.is_none_or(str::is_empty),
            ColourChoice::Always => true,
            ColourChoice::Never => false,
        };
        Self { colour: wanted, width: Table::new().width() }
    }

    /// The text in the colour, if colours are in use.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Red => 31,
            Paint::Green => 32,
            Paint::Yellow => 33,
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether the user has agreed beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// `--yes` was given.
    Given,
    /// The user must be asked.
    ToBeAsked,
}

/// Asks before `what` is done to `names`. The question goes to the terminal even when standard
/// input is a pipe.
///
/// # Errors
/// The answer is not yes, or there is no terminal to ask at.
pub fn confirm(consent: Consent, what: &str, names: &[&str]) -> Outcome {
    if consent == Consent::Given {
        return Ok(());
    }
    let mut answers = terminal().ok_or_else(|| {
        Failure::usage(format!("{what}? Nobody can be asked, for there is no terminal"))
            .detail("to do: give --yes to go ahead, or --what-if to see what would happen")
    })?;
    eprint!("{}", question(what, names));
    io::stderr().flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "not confirmed; nothing was changed"))
}

fn question(what: &str, names: &[&str]) -> String {
    let shown = &names[..names.len().min(NAMES_SHOWN)];
    let mut text = shown.iter().map(|name| format!("  {}\n", plain(name))).collect::<String>();
    if names.len() > shown.len() {
        text += &format!("  and {} more\n", names.len() - shown.len());
    }
    text + &format!("{what}? [y/N] ")
}

/// Where an answer can be read: standard input when it is a terminal; the controlling terminal
/// when only standard input is not, as at the end of a pipe.
fn terminal() -> Option<Box<dyn BufRead>> {
    if !io::stderr().is_terminal() {
        return None;
    }
    if io::stdin().is_terminal() {
        return Some(Box::new(BufReader::new(io::stdin())));
    }
    File::open("/dev/tty").ok().map(|tty| Box::new(BufReader::new(tty)) as Box<dyn BufRead>)
}

/// The text without control characters, so that no file and no answer can drive the terminal.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A number with commas: `1,234`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of partners: `1 partner`, `1,234 partners`.
pub fn partners(number: usize) -> String {
    format!("{} partner{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_shows_the_count_and_some_of_the_names() {
        let names: Vec<_> = (0..12).map(|number| format!("n{number}.example")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let text = question("Remove 12 partners", &names);
        assert!(text.contains("  n9.example\n  and 2 more\nRemove 12 partners? [y/N] "), "{text}");
        assert_eq!(
            question("Remove 1 partner", &["a.example"]),
            "  a.example\nRemove 1 partner? [y/N] "
        );
    }

    #[test]
    fn nothing_that_is_printed_drives_the_terminal() {
        assert_eq!(plain("bücher.example"), "bücher.example");
        assert_eq!(plain("a\u{1b}[2Jb\r\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
    }

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(partners(1), "1 partner");
        assert_eq!(partners(2000), "2,000 partners");
    }
}

//! Tables without lines, after kubectl: one row a line, as wide as the terminal at most.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};

use crate::cli::console::{Console, Paint, plain};

/// A column that would get less room than this is left out.
const LEAST_WIDTH: u16 = 12;
/// What lies between two columns.
const GAP: u16 = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    pub header: &'static str,
    /// Whether it may be cut or left out when the terminal is too narrow.
    pub flexible: bool,
}

impl Column {
    /// A column that is always shown whole.
    pub const fn fixed(header: &'static str) -> Self {
        Self { header, flexible: false }
    }

    /// A column that gets the room that is left.
    pub const fn flexible(header: &'static str) -> Self {
        Self { header, flexible: true }
    }
}

/// A cell: its text and the colour of what it means.
#[derive(Clone, Debug, Default)]
pub struct Text {
    text: String,
    paint: Option<Paint>,
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self { text: text.into(), paint: None }
    }
}

impl Text {
    /// A text in the colour of what it means.
    pub fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self { text: text.into(), paint: Some(paint) }
    }
}

/// Sets the rows, with a header if asked for. `widths` are the least widths of the columns, those
/// of the rows that were printed before; they are raised to those of these rows.
pub fn render(
    console: Console,
    columns: &[Column],
    rows: Vec<Vec<Text>>,
    header: bool,
    widths: &mut Vec<u16>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    if console.colour {
        table.enforce_styling();
    }
    if header {
        table.set_header(columns.iter().map(|column| Cell::new(column.header)));
    }
    for row in rows {
        let mut row = Row::from(row.into_iter().map(cell).collect::<Vec<_>>());
        row.max_height(1);
        table.add_row(row);
    }
    widths.resize(columns.len(), 0);
    for (width, content) in widths.iter_mut().zip(table.column_max_content_widths()) {
        *width = (*width).max(content);
    }
    arrange(&mut table, columns, widths, console.width);
    let mut text = String::new();
    for line in table.lines() {
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn cell(Text { text, paint }: Text) -> Cell {
    let cell = Cell::new(plain(&text));
    match paint {
        Some(Paint::Green) => cell.fg(Color::Green),
        Some(Paint::Red) => cell.fg(Color::Red),
        Some(Paint::Yellow) => cell.fg(Color::Yellow),
        None => cell,
    }
}

/// Gives the flexible columns the room that the others leave, and hides those that get too little.
/// Where there is not even enough for the others, the first column is cut.
fn arrange(table: &mut Table, columns: &[Column], widths: &[u16], room: Option<u16>) {
    let fixed = columns.iter().zip(widths).filter(|(column, _)| !column.flexible);
    let needed: u16 = fixed.map(|(_, width)| width + GAP).sum();
    let mut left = room.unwrap_or(u16::MAX).saturating_sub(needed);
    let mut missing = needed.saturating_sub(room.unwrap_or(u16::MAX));
    if room.is_some() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(room.unwrap_or(u16::MAX));
    }
    let flexible = columns.iter().filter(|column| column.flexible).count();
    let mut waiting = u16::try_from(flexible).unwrap_or(u16::MAX);
    for ((column, settings), width) in columns.iter().zip(table.column_iter_mut()).zip(widths) {
        settings.set_padding((0, GAP));
        let mut given = *width;
        if column.flexible {
            given = given.min((left / waiting.max(1)).saturating_sub(GAP));
            waiting -= 1;
            if given < LEAST_WIDTH.min(*width) {
                settings.set_constraint(ColumnConstraint::Hidden);
                continue;
            }
            left -= given + GAP;
        } else {
            let cut = missing.min(given.saturating_sub(LEAST_WIDTH));
            given -= cut;
            missing = 0;
        }
        settings.set_constraint(ColumnConstraint::Absolute(Width::Fixed(given + GAP)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[Column::fixed("DOMAIN"), Column::fixed("TLS"), Column::flexible("DESCRIPTION")];

    fn rendered(width: Option<u16>) -> String {
        let console = Console { width, ..Console::default() };
        let row = |domain: &str, text: &str| vec![domain.into(), "required".into(), text.into()];
        let rows =
            vec![row("a.example", "short"), row("long.b.example", "a rather long description")];
        render(console, COLUMNS, rows, true, &mut Vec::new())
    }

    #[test]
    fn a_table_is_as_wide_as_it_needs_and_fits_the_terminal() {
        insta::assert_snapshot!(rendered(None), @r"
        DOMAIN          TLS       DESCRIPTION
        a.example       required  short
        long.b.example  required  a rather long description
        ");
        insta::assert_snapshot!(rendered(Some(44)), @r"
        DOMAIN          TLS       DESCRIPTION
        a.example       required  short
        long.b.example  required  a rather long…
        ");
        for width in 30..60 {
            let text = rendered(Some(width));
            let fits = |line: &str| line.chars().count() <= usize::from(width);
            assert!(text.lines().all(fits), "{width}:\n{text}");
        }
        insta::assert_snapshot!(rendered(Some(24)), @r"
        DOMAIN        TLS
        a.example     required
        long.b.exam…  required
        ");
    }
}

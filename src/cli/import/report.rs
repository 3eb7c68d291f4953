//! What an import did or would do: a table for people, a file for programs.

use std::{fs, io, path::Path};

use serde::Serialize;

use super::{
    format::Format,
    plan::{Plan, Step, Verdict},
};
use crate::cli::{
    console::{Console, Paint},
    diff::{Action, FieldDiff},
    failure::Outcome,
    output::{
        self,
        table::{self, Column, Text},
    },
};

/// The report file of an import.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    file: String,
    format: String,
    /// Whether everything that was to be done is done.
    done: bool,
    created: usize,
    updated: usize,
    unchanged: usize,
    refused: usize,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    line: usize,
    domain: &'a str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    fields: Vec<Field<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
}

#[derive(Debug, Serialize)]
struct Field<'a> {
    field: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

impl<'a> Report<'a> {
    /// The report of a plan, and whether it is done.
    pub fn new(file: &Path, format: Format, plan: &'a Plan, done: bool) -> Self {
        Self {
            file: file.display().to_string(),
            format: format.name(),
            done,
            created: plan.count(Action::Create),
            updated: plan.count(Action::Update),
            unchanged: plan.count(Action::Unchanged),
            refused: plan.refused(),
            entries: plan.steps.iter().map(entry).collect(),
        }
    }

    /// Writes the report.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, serde_json::to_string_pretty(self)? + "\n")
    }
}

fn entry(step: &Step) -> Entry<'_> {
    let reason = match &step.verdict {
        Verdict::Refused(reason) => Some(reason.as_str()),
        _ => None,
    };
    let fields = match &step.verdict {
        Verdict::Do { diff, .. } => diff.fields.iter().map(field).collect(),
        _ => Vec::new(),
    };
    let (line, domain, notes) = (step.line, step.label.as_str(), step.notes.as_slice());
    Entry { line, domain, action: action(&step.verdict), reason, fields, notes }
}

fn field(diff: &FieldDiff) -> Field<'_> {
    let FieldDiff { field, before, after } = diff;
    Field { field, before: before.as_deref(), after: after.as_deref() }
}

fn action(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Do { diff, .. } if diff.action == Action::Create => "create",
        Verdict::Do { .. } => "update",
        Verdict::Unchanged => "unchanged",
        Verdict::Refused(_) => "refused",
    }
}

/// Prints what would be done with each entry.
///
/// # Errors
/// Standard output cannot be written.
pub fn show(plan: &Plan, console: Console) -> Outcome {
    const COLUMNS: &[Column] = &[
        Column::fixed("LINE"),
        Column::fixed("DOMAIN"),
        Column::fixed("ACTION"),
        Column::flexible("WHY"),
    ];
    let rows = plan.steps.iter().map(row).collect();
    let text = table::render(console, COLUMNS, rows, true, &mut Vec::new());
    output::line(text.trim_end())?;
    Ok(output::line(format_args!("what if: {plan}; nothing was changed"))?)
}

fn row(step: &Step) -> Vec<Text> {
    let paint = match &step.verdict {
        Verdict::Do { diff, .. } if diff.action == Action::Create => Some(Paint::Green),
        Verdict::Do { .. } => Some(Paint::Yellow),
        Verdict::Unchanged => None,
        Verdict::Refused(_) => Some(Paint::Red),
    };
    let action = action(&step.verdict);
    let action = paint.map_or_else(|| action.into(), |paint| Text::painted(action, paint));
    vec![
        step.line.to_string().into(),
        step.label.as_str().into(),
        action,
        why(&step.verdict).into(),
    ]
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Refused(reason) => reason.clone(),
        Verdict::Unchanged => String::new(),
        Verdict::Do { diff, .. } if diff.action == Action::Create => String::new(),
        Verdict::Do { diff, .. } => {
            let none = || "(none)".to_owned();
            let change = |diff: &FieldDiff| match (&diff.before, &diff.after) {
                (None, Some(after)) => format!("{} {after}", diff.field),
                (before, after) => format!(
                    "{} {} -> {}",
                    diff.field,
                    before.clone().unwrap_or_else(none),
                    after.clone().unwrap_or_else(none)
                ),
            };
            diff.fields.iter().map(change).collect::<Vec<_>>().join(", ")
        }
    }
}

//! The page on performance, and the places in it that measurements write themselves.

use std::{fmt, fs, path::Path};

const PAGE: &str = "docs/performance.md";

/// Puts what was found into the place that is written by the command `by`, in place of what an
/// earlier run found.
pub fn publish(by: &str, found: &impl fmt::Display) {
    let begin = format!("<!-- written by `{by}`: begin -->");
    let end = format!("<!-- written by `{by}`: end -->");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).expect("the page is part of the project");
    let (head, rest) = page.split_once(&begin).expect("the page has the mark of the beginning");
    let (_, tail) = rest.split_once(&end).expect("the page has the mark of the end");
    let found = found.to_string();
    let page = format!("{head}{begin}\n\n{}\n\n{end}{tail}", found.trim_end());
    fs::write(&path, page).expect("the page can be written");
}

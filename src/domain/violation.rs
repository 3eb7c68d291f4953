//! A rule broken by a field, in words a caller can act on.

use std::fmt;

/// A field that breaks a rule, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field from the root of the request, for example `allowed_partner.owner`.
    pub field: String,
    /// What is wrong and what to do.
    pub description: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }

    /// The same violation, of a field inside `parent`.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        if !parent.is_empty() {
            self.field = if self.field.is_empty() {
                parent.to_owned()
            } else {
                format!("{parent}.{}", self.field)
            };
        }
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

/// Notes a text of more than `limit` characters, or with control characters.
pub fn check_text(broken: &mut Vec<Violation>, field: &str, text: &str, limit: usize) {
    let length = text.chars().count();
    if length > limit {
        broken.push(Violation::new(
            field,
            format!("{length} characters; at most {limit} are allowed"),
        ));
    }
    if text.chars().any(char::is_control) {
        broken.push(Violation::new(field, "control characters are not allowed; remove them"));
    }
}

//! AIP-160 filters and AIP-132 orders, over anything that describes its fields.
//!
//! # The language
//!
//! The grammar is that of AIP-160, whole but for functions, which are refused. `OR` binds tighter
//! than `AND`, and factors with a space between must all hold: `a b OR c AND d` means
//! `a AND (b OR c) AND d`. `NOT x` and `-x` negate. `AND`, `OR` and `NOT` are upper case; in lower
//! case they are refused, because they would silently be searched for as text.
//!
//! | written | means |
//! |---|---|
//! | `suspended = true`, `connection_limit >= 10` | a comparison: `=` `!=` `<` `<=` `>` `>=` |
//! | `partner_type = FEDERATED`, `= PARTNER_TYPE_FEDERATED` | an enum, by its short or its full name |
//! | `expire_time < "2027-01-01T00:00:00Z"` | a moment (RFC 3339), with or without quotes |
//! | `name = "allowedPartners/*.org"` | `*` stands for any text, also for none; `\*` is a star |
//! | `owner:*`, `connection_limit:*`, `labels.tier:*` | it has a value |
//! | `description:legal` | the text contains this, in upper or lower case |
//! | `additional_domains:"na.contoso.com"` | the list has this element; `*` works here too |
//! | `labels:tier`, `labels.tier = gold`, ``labels.`a.b` = x`` | the map has this key; its value compared |
//! | `partner_type = (FEDERATED OR PUBLIC_VERIFIED)` | any of these; with `=` and `:` only |
//! | `contoso`, `"legal department"` | some searched field contains this text, in any case |
//!
//! # Decisions that AIP-160 leaves open
//!
//! - **No value.** Every comparison with a field that has no value is false, `!=` included: it
//!   states something of a value, and there is none. `-connection_limit:*` finds those without,
//!   `NOT connection_limit = 5` all but those with 5. A plain string always has a value, which may
//!   be empty: `owner = ""` finds those without an owner.
//! - **Quotes** only protect characters; they say nothing of the type. A quoted `"*"` after `:` is
//!   a text though, while a bare `*` asks whether there is a value.
//! - **Case** counts in `=`, `!=` and the orderings, and not in `:` on a text or a bare text.
//! - **Orderings** of texts go by code points. Booleans and enums have none.
//! - **Domains** are compared in their stored form, so they may be written as people write them.
//!   Beside a `*`, whole labels are converted and the rest is put in lower case.
//! - **Names** are given whole (`allowedPartners/contoso.com`); the bare id is understood too.
//! - **A bare word that names a field** is refused: `suspended` alone would be a text search, and
//!   probably is not meant to be one.

mod audit_fields;
mod check;
mod compile;
mod fields;
mod order;
mod parser;
mod pattern;
mod scanner;
mod schema;
mod syntax;

use std::fmt;

pub use order::OrderBy;
pub use schema::{EnumNames, Field, Filterable, Kind, TextForm};

use self::check::Node;
use super::violation::Violation;

/// The most bytes of a filter or an order.
pub const MAX_FILTER_BYTES: usize = 4_096;
/// The deepest nesting of parentheses in a filter.
pub const MAX_FILTER_DEPTH: usize = 32;
/// The most comparisons and texts in a filter.
pub const MAX_FILTER_TERMS: usize = 256;

/// A compiled filter over `T`. The empty one lets everything through.
pub struct Filter<T: Filterable> {
    text: Box<str>,
    root: Option<Node<T>>,
}

impl<T: Filterable> Filter<T> {
    /// Parses a filter and checks it against the fields of `T`.
    ///
    /// # Errors
    /// A [`Violation`] of field `filter` that says where the fault is and how to mend it.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        let root = compiled(text).map_err(|fault| fault.violation("filter", text))?;
        Ok(Self { text: text.trim().into(), root })
    }

    /// Whether `item` passes.
    pub fn matches(&self, item: &T) -> bool {
        self.root.as_ref().is_none_or(|root| root.holds(item))
    }

    /// Whether it lets everything through because nothing was asked for.
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The filter as it was written, without the space around it. Two filters with the same text
    /// are the same filter, so a page token can be bound to it.
    pub const fn as_str(&self) -> &str {
        &self.text
    }
}

impl<T: Filterable> Default for Filter<T> {
    fn default() -> Self {
        Self { text: Box::default(), root: None }
    }
}

impl<T: Filterable> fmt::Display for Filter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Filterable> fmt::Debug for Filter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

/// What is wrong with a filter or an order, and where.
#[derive(Debug)]
struct Fault {
    /// The byte at which it begins.
    at: usize,
    /// What is wrong and what to do.
    description: String,
}

impl Fault {
    fn new(at: usize, description: impl Into<String>) -> Self {
        Self { at, description: description.into() }
    }

    fn too_long(text: &str) -> Result<(), Self> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(Self::new(
                MAX_FILTER_BYTES,
                format!("{} bytes; at most {MAX_FILTER_BYTES} are allowed", text.len()),
            ));
        }
        Ok(())
    }

    fn violation(self, field: &str, text: &str) -> Violation {
        let before = text.char_indices().take_while(|(at, _)| *at < self.at).count();
        Violation::new(field, format!("at character {}: {}", before + 1, self.description))
    }
}

fn compiled<T: Filterable>(text: &str) -> Result<Option<Node<T>>, Fault> {
    Fault::too_long(text)?;
    parser::parse(text)?.map(|expression| compile::compile(&expression)).transpose()
}

#[cfg(test)]
mod tests;

//! Texts with stars, matched without backtracking.

use std::borrow::Cow;

/// A text in which stars stand for any text, also for none.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    head: Box<str>,
    /// What follows the first star; absent if there is no star.
    tail: Option<Tail>,
    ignores_case: bool,
}

/// What follows the first star.
#[derive(Clone, Debug)]
struct Tail {
    middle: Box<[Box<str>]>,
    last: Box<str>,
}

impl Pattern {
    /// The texts before, between and after the stars, upper and lower case told apart.
    pub fn new<S: AsRef<str>>(parts: &[S]) -> Self {
        let mut parts = parts.iter().map(|part| Box::from(part.as_ref()));
        let head = parts.next().unwrap_or_default();
        let mut parts: Vec<Box<str>> = parts.collect();
        let tail = parts.pop().map(|last| {
            parts.retain(|part| !part.is_empty());
            Tail { middle: parts.into_boxed_slice(), last }
        });
        Self { head, tail, ignores_case: false }
    }

    /// Any text that contains the parts in this order, whatever their case.
    pub fn contained<S: AsRef<str>>(parts: &[S]) -> Self {
        let mut open = vec![String::new()];
        open.extend(parts.iter().map(|part| part.as_ref().to_lowercase()));
        open.push(String::new());
        Self { ignores_case: true, ..Self::new(&open) }
    }

    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let folded = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
        let text = if self.ignores_case && !text.bytes().all(folded) {
            Cow::Owned(text.to_lowercase())
        } else {
            Cow::Borrowed(text)
        };
        self.matches_exactly(&text)
    }

    /// Each part in the middle is taken at its first place, which leaves the most to the others.
    fn matches_exactly(&self, text: &str) -> bool {
        let Some(tail) = &self.tail else { return *text == *self.head };
        let rest = text.strip_prefix(&*self.head);
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(&*tail.last)) else {
            return false;
        };
        for part in &tail.middle {
            let Some(found) = rest.find(&**part) else { return false };
            rest = &rest[found + part.len()..];
        }
        true
    }
}

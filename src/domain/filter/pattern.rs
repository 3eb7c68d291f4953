//! Texts with stars, matched without backtracking.

use memchr::memmem::Finder;

/// Texts up to this length are put in lower case on the stack.
const STACK_BYTES: usize = 256;

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
    middle: Box<[Finder<'static>]>,
    last: Box<str>,
}

impl Pattern {
    /// The texts before, between and after the stars, upper and lower case told apart.
    pub fn new<S: AsRef<str>>(parts: &[S]) -> Self {
        let mut parts = parts.iter().map(AsRef::as_ref);
        let head = parts.next().unwrap_or_default().into();
        let tail = parts.next_back().map(|last| Tail {
            middle: parts
                .filter(|part| !part.is_empty())
                .map(|part| Finder::new(part).into_owned())
                .collect(),
            last: last.into(),
        });
        Self { head, tail, ignores_case: false }
    }

    /// Any text that contains the parts in this order, upper and lower case told apart.
    pub fn contained<S: AsRef<str>>(parts: &[S]) -> Self {
        let around = std::iter::once("");
        let open: Vec<_> =
            around.clone().chain(parts.iter().map(AsRef::as_ref)).chain(around).collect();
        Self::new(&open)
    }

    /// Any text that contains the parts in this order, whatever their case.
    pub fn contained_in_any_case(parts: &[String]) -> Self {
        let parts: Vec<_> = parts.iter().map(|part| part.to_lowercase()).collect();
        Self { ignores_case: true, ..Self::contained(&parts) }
    }

    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        if !self.ignores_case {
            return self.matches_bytes(text.as_bytes());
        }
        if text.len() > STACK_BYTES || !text.is_ascii() {
            return self.matches_bytes(text.to_lowercase().as_bytes());
        }
        let mut buffer = [0; STACK_BYTES];
        let lower = &mut buffer[..text.len()];
        lower.copy_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
        self.matches_bytes(lower)
    }

    /// Each part in the middle is taken at its first place, which leaves the most to the others.
    fn matches_bytes(&self, text: &[u8]) -> bool {
        let Some(tail) = &self.tail else { return *text == *self.head.as_bytes() };
        let rest = text.strip_prefix(self.head.as_bytes());
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(tail.last.as_bytes())) else {
            return false;
        };
        for part in &tail.middle {
            let Some(found) = part.find(rest) else { return false };
            rest = &rest[found + part.needle().len()..];
        }
        true
    }
}

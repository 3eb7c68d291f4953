//! A compiled filter: what is asked of an item, with everything looked up and converted before.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{
    pattern::Pattern,
    schema::{Each, Get, GetText, GetValue},
    syntax::Comparator,
};

/// A compiled filter or a part of one.
pub(super) enum Node<T: 'static> {
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Not(Box<Self>),
    Bool(Get<T, bool>),
    Number(Get<T, Option<i64>>, Check<i64>),
    Time(Get<T, Option<Timestamp>>, Check<Timestamp>),
    Duration(Get<T, Option<SignedDuration>>, Check<SignedDuration>),
    /// An enum is one of the values in the set, by their places in it.
    Enum(Get<T, u8>, u64),
    /// A repeated enum shares a value with the set.
    Enums(Get<T, u64>, u64),
    Text(GetText<T>, TextCheck),
    /// Some element of a repeated text matches.
    Texts(Each<T>, TextCheck),
    /// A key of a map has a value, which passes.
    Value(GetValue<T>, Box<str>, TextCheck),
    Always(bool),
}

/// What is asked of a value that can be absent.
pub(super) enum Check<V> {
    Present,
    Compared(Relation, V),
}

/// What is asked of a text.
pub(super) enum TextCheck {
    /// It is there, be it empty.
    Present,
    Is(Pattern),
    IsNot(Pattern),
    Compared(Relation, Box<str>),
}

/// The orders of two values in which a comparison holds.
#[derive(Clone, Copy)]
pub(super) struct Relation {
    less: bool,
    equal: bool,
    greater: bool,
}

impl<T> Node<T> {
    /// Whether it holds for `item`.
    pub fn holds(&self, item: &T) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(item)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(item)),
            Self::Not(part) => !part.holds(item),
            Self::Bool(get) => get(item),
            Self::Number(get, check) => check.passes(get(item)),
            Self::Time(get, check) => check.passes(get(item)),
            Self::Duration(get, check) => check.passes(get(item)),
            Self::Enum(get, set) => set & (1 << get(item)) != 0,
            Self::Enums(get, set) => set & get(item) != 0,
            Self::Text(get, check) => check.passes(&get(item)),
            Self::Texts(each, check) => each(item, &mut |element| check.passes(element)),
            Self::Value(get, key, check) => get(item, key).is_some_and(|text| check.passes(text)),
            Self::Always(answer) => *answer,
        }
    }

    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }
}

impl<V: Ord> Check<V> {
    fn passes(&self, value: Option<V>) -> bool {
        value.is_some_and(|value| match self {
            Self::Present => true,
            Self::Compared(relation, to) => relation.allows(value.cmp(to)),
        })
    }
}

impl TextCheck {
    fn passes(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Is(pattern) => pattern.matches(text),
            Self::IsNot(pattern) => !pattern.matches(text),
            Self::Compared(relation, to) => relation.allows(text.cmp(to)),
        }
    }
}

impl Relation {
    /// The relation that `comparator` asks for; on a single value `:` is `=` (AIP-160).
    pub const fn of(comparator: Comparator) -> Self {
        use Comparator as C;
        Self {
            less: matches!(comparator, C::Less | C::LessOrEqual | C::NotEqual),
            equal: matches!(comparator, C::Equal | C::Has | C::LessOrEqual | C::GreaterOrEqual),
            greater: matches!(comparator, C::Greater | C::GreaterOrEqual | C::NotEqual),
        }
    }

    const fn allows(self, ordering: Ordering) -> bool {
        match ordering {
            Ordering::Less => self.less,
            Ordering::Equal => self.equal,
            Ordering::Greater => self.greater,
        }
    }
}

//! How a type tells the filters and orders which fields it has.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

/// A type whose fields can be filtered and sorted by.
pub trait Filterable: Sized + 'static {
    /// Every field, in the order in which errors list them. One of them is `name`, the identity.
    const FIELDS: &'static [Field<Self>];
}

/// A field that can be filtered by.
pub struct Field<T: 'static> {
    /// The path, `field` or `field.member`.
    pub path: &'static str,
    /// Its type, and how it is read.
    pub kind: Kind<T>,
    /// Whether a bare text is looked for in it.
    pub is_searched: bool,
}

/// Reads a value.
pub type Get<T, V> = fn(&T) -> V;
/// Reads a text, borrowed where it is stored as one.
pub type GetText<T> = for<'a> fn(&'a T) -> Cow<'a, str>;
/// Reads the value of a key.
pub type GetValue<T> = for<'a> fn(&'a T, &str) -> Option<&'a str>;
/// Whether some element satisfies the question.
pub type Each<T> = fn(&T, &mut dyn FnMut(&str) -> bool) -> bool;

/// The type of a field, and how it is read.
pub enum Kind<T: 'static> {
    /// A truth value.
    Bool(Get<T, bool>),
    /// A whole number, which can be absent.
    Number(Get<T, Option<i64>>),
    /// A moment, which can be absent.
    Time(Get<T, Option<Timestamp>>),
    /// A length of time, which can be absent. Written in seconds: `20s`, `1.5s`.
    Duration(Get<T, Option<SignedDuration>>),
    /// One of several values, by its place among the names.
    Enum(&'static EnumNames, Get<T, u8>),
    /// A list of such values, as a set of bits.
    Enums(&'static EnumNames, Get<T, u64>),
    /// A text, which can be empty and is never absent.
    Text(TextForm, GetText<T>),
    /// A list of texts.
    Texts(TextForm, Each<T>),
    /// A map from text to text.
    Map {
        /// Reads the value of a key.
        value: GetValue<T>,
        /// Goes through the keys.
        keys: Each<T>,
    },
    /// A list of messages, of which one can only ask whether there are any; their members are
    /// fields of their own.
    Messages(Get<T, bool>),
}

/// How the values of a text field are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// Any text.
    Plain,
    /// A domain name in lower-case A-labels, or empty.
    Domain,
    /// A resource name; the field reads the id after this prefix.
    Name(&'static str),
    /// A resource name whose id is a domain; the field reads the domain after this prefix.
    DomainName(&'static str),
}

/// The names of an enum's values.
#[derive(Debug)]
pub struct EnumNames {
    /// What the full names begin with: `PARTNER_TYPE_`.
    pub prefix: &'static str,
    /// The short names; at most 64.
    pub short: &'static [&'static str],
}

impl<T> Field<T> {
    /// A field with this path.
    pub const fn new(path: &'static str, kind: Kind<T>) -> Self {
        Self { path, kind, is_searched: false }
    }

    /// A field with this path, in which a bare text is looked for.
    pub const fn searched(path: &'static str, kind: Kind<T>) -> Self {
        Self { path, kind, is_searched: true }
    }
}

impl TextForm {
    /// What a resource name begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Plain | Self::Domain => "",
            Self::Name(prefix) | Self::DomainName(prefix) => prefix,
        }
    }

    /// Whether it is about domains.
    pub const fn is_domain(self) -> bool {
        matches!(self, Self::Domain | Self::DomainName(_))
    }
}

impl EnumNames {
    /// The place of the value with this short or full name.
    pub fn place(&self, name: &str) -> Option<usize> {
        let short = name.strip_prefix(self.prefix).unwrap_or(name);
        self.short.iter().position(|known| *known == short)
    }
}

/// The field with this path, and what is left of the path behind it.
pub(super) fn find<T: Filterable>(names: &[String]) -> Option<(&'static Field<T>, &[String])> {
    T::FIELDS
        .iter()
        .filter_map(|field| {
            let length = field.path.split('.').count();
            let (head, rest) = names.split_at_checked(length)?;
            field.path.split('.').eq(head.iter().map(String::as_str)).then_some((field, rest))
        })
        .min_by_key(|(_, rest)| rest.len())
}

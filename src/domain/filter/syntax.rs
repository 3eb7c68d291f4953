//! What a filter says, before it is known what its fields are.

use std::fmt;

/// A filter or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// All of these; at least two, none of them an `All`.
    All(Vec<Self>),
    /// Any of these; at least two, none of them an `Any`.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A field compared with a value.
    Comparison(Comparison),
    /// A text to be found in any of the searched fields.
    Text(Literal),
}

/// A field compared with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// The field's name, then the names below it.
    pub path: Path,
    /// How it is compared.
    pub comparator: Comparator,
    /// What it is compared with.
    pub value: Literal,
}

/// A field's name, then the names below it, and where they stand in the text.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// At least one name.
    pub names: Vec<String>,
    /// The byte at which the path begins.
    pub at: usize,
}

/// A text with stars in it that stand for any text, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    /// The texts before, between and after the stars; one if there is no star.
    pub parts: Vec<String>,
    /// Whether it stood in quotes.
    pub quoted: bool,
    /// The byte at which it begins.
    pub at: usize,
}

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `:`
    Has,
}

impl Expression {
    /// All of `parts`, flattened.
    pub fn all(parts: Vec<Self>) -> Self {
        Self::flattened(parts, Self::All, |part| match part {
            Self::All(inner) => Ok(inner),
            other => Err(other),
        })
    }

    /// Any of `parts`, flattened.
    pub fn any(parts: Vec<Self>) -> Self {
        Self::flattened(parts, Self::Any, |part| match part {
            Self::Any(inner) => Ok(inner),
            other => Err(other),
        })
    }

    fn flattened(
        parts: Vec<Self>,
        join: fn(Vec<Self>) -> Self,
        open: fn(Self) -> Result<Vec<Self>, Self>,
    ) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match open(part) {
                Ok(inner) => flat.extend(inner),
                Err(single) => flat.push(single),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { join(flat) }
    }

    fn is_simple(&self) -> bool {
        matches!(self, Self::Comparison(_) | Self::Text(_))
    }
}

impl Literal {
    /// The text, if there is no star in it.
    pub fn plain(&self) -> Option<&str> {
        match &*self.parts {
            [text] => Some(text),
            _ => None,
        }
    }

    /// Whether it is a star without quotes: after `:`, the question whether there is a value.
    pub fn is_bare_star(&self) -> bool {
        !self.quoted && self.parts.len() > 1 && self.parts.iter().all(String::is_empty)
    }
}

// Where something stands is no part of what it says.
impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts && self.quoted == other.quoted
    }
}

impl Eq for Literal {}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

impl Eq for Path {}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => joined(f, parts, " AND "),
            Self::Any(parts) => joined(f, parts, " OR "),
            Self::Not(inner) if inner.is_simple() => write!(f, "NOT {inner}"),
            Self::Not(inner) => write!(f, "NOT ({inner})"),
            Self::Comparison(comparison) => comparison.fmt(f),
            Self::Text(literal) => literal.fmt(f),
        }
    }
}

/// Parentheses around every part that is joined itself, so that no reader needs the precedence.
fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expression], join: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(join)?;
        }
        match part {
            Expression::All(_) | Expression::Any(_) => write!(f, "({part})")?,
            _ => write!(f, "{part}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.path, self.comparator, self.value)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.bytes().all(plain) && !name.is_empty() {
                f.write_str(name)?;
            } else {
                write!(f, "`{name}`")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.quoted {
            return f.write_str(&self.parts.join("*"));
        }
        f.write_str("\"")?;
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str("*")?;
            }
            for character in part.chars() {
                if matches!(character, '"' | '\\' | '*') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
        }
        f.write_str("\"")
    }
}

impl fmt::Display for Comparator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Has => ":",
        })
    }
}

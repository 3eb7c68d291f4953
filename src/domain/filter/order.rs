//! AIP-132 orders: `partner_type, update_time desc`.

use std::{cmp::Ordering, fmt};

use super::{
    Fault,
    schema::{self, Field, Filterable, Kind},
};
use crate::domain::violation::Violation;

/// The field that is the identity of every resource (AIP-122).
const IDENTITY: &str = "name";

/// An order of `T`. Ties are broken by name, so it is total; the empty order is that by name.
///
/// What has no value comes before everything that has one. Texts go by code points, enums by the
/// order of their declaration, false before true.
pub struct OrderBy<T: Filterable> {
    text: Box<str>,
    keys: Vec<Key<T>>,
}

struct Key<T: 'static> {
    field: &'static Field<T>,
    descending: bool,
}

impl<T: Filterable> OrderBy<T> {
    /// Parses fields with commas between, each with ` desc` or ` asc` behind it if wanted.
    ///
    /// # Errors
    /// A [`Violation`] of field `order_by` that says where the fault is and how to mend it.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        let fault = |fault: Fault| fault.violation("order_by", text);
        Fault::too_long(text).map_err(fault)?;
        let mut keys: Vec<Key<T>> = Vec::new();
        if !text.trim().is_empty() {
            let mut at = 0;
            for part in text.split(',') {
                let key = Key::parse(part, at).map_err(fault)?;
                if keys.iter().any(|known| known.field.path == key.field.path) {
                    let again = format!("`{}` stands here twice; remove one", key.field.path);
                    return Err(fault(Fault::new(at, again)));
                }
                keys.push(key);
                at += part.len() + 1;
            }
        }
        if !keys.iter().any(|key| key.field.path == IDENTITY) {
            keys.push(Key { field: identity(), descending: false });
        }
        Ok(Self { text: text.trim().into(), keys })
    }

    /// How `a` and `b` are ordered. Equal only if they have the same name.
    pub fn compare(&self, a: &T, b: &T) -> Ordering {
        let orderings = self.keys.iter().map(|key| key.compare(a, b));
        orderings.into_iter().find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Whether it is the order by name, in which resources are kept.
    pub fn is_by_name(&self) -> bool {
        self.keys.first().is_some_and(|key| key.field.path == IDENTITY && !key.descending)
    }

    /// The order as it was written, without the space around it. Two orders with the same text are
    /// the same order, so a page token can be bound to it.
    pub const fn as_str(&self) -> &str {
        &self.text
    }
}

impl<T: Filterable> Default for OrderBy<T> {
    /// By name.
    fn default() -> Self {
        Self { text: Box::default(), keys: vec![Key { field: identity(), descending: false }] }
    }
}

impl<T: Filterable> fmt::Display for OrderBy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Filterable> fmt::Debug for OrderBy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OrderBy").field(&self.text).finish()
    }
}

impl<T: Filterable> Key<T> {
    fn parse(text: &str, at: usize) -> Result<Self, Fault> {
        let at = at + text.len() - text.trim_start().len();
        let (path, descending) = match &*text.split_whitespace().collect::<Vec<_>>() {
            [path] | [path, "asc"] => (*path, false),
            [path, "desc"] => (*path, true),
            [] => return Err(Fault::new(at, "a field is missing between commas; remove one")),
            _ => {
                return Err(Fault::new(
                    at,
                    format!("`{}` is not a field and ` desc`; put commas between", text.trim()),
                ));
            }
        };
        let names: Vec<_> = path.split('.').map(str::to_owned).collect();
        let found = schema::find::<T>(&names).filter(|(_, rest)| rest.is_empty());
        match found {
            Some((field, _)) if field.kind.is_sortable() => Ok(Self { field, descending }),
            Some(_) => Err(Fault::new(
                at,
                format!("`{path}` holds several values and has no order; {}", remedy::<T>()),
            )),
            None => Err(Fault::new(at, format!("there is no field `{path}`; {}", remedy::<T>()))),
        }
    }

    fn compare(&self, a: &T, b: &T) -> Ordering {
        let ordering = self.field.kind.compare(a, b);
        if self.descending { ordering.reverse() } else { ordering }
    }
}

impl<T> Kind<T> {
    const fn is_sortable(&self) -> bool {
        match self {
            Self::Bool(_)
            | Self::Number(_)
            | Self::Time(_)
            | Self::Duration(_)
            | Self::Enum(..)
            | Self::Text(..) => true,
            Self::Enums(..) | Self::Texts(..) | Self::Map { .. } | Self::Messages(_) => false,
        }
    }

    fn compare(&self, a: &T, b: &T) -> Ordering {
        match self {
            Self::Bool(get) => get(a).cmp(&get(b)),
            Self::Number(get) => get(a).cmp(&get(b)),
            Self::Time(get) => get(a).cmp(&get(b)),
            Self::Duration(get) => get(a).cmp(&get(b)),
            Self::Enum(_, get) => get(a).cmp(&get(b)),
            Self::Text(_, get) => get(a).cmp(&get(b)),
            Self::Enums(..) | Self::Texts(..) | Self::Map { .. } | Self::Messages(_) => {
                Ordering::Equal
            }
        }
    }
}

fn identity<T: Filterable>() -> &'static Field<T> {
    T::FIELDS
        .iter()
        .find(|field| field.path == IDENTITY)
        .expect("every filterable type has a name (Filterable's contract)")
}

fn remedy<T: Filterable>() -> String {
    let sortable = T::FIELDS.iter().filter(|field| field.kind.is_sortable());
    let paths: Vec<_> = sortable.map(|field| field.path).collect();
    format!("sort by {}", paths.join(", "))
}

//! From what a filter says to what is asked of an item: fields are looked up, values converted,
//! and what does not fit is refused.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use jiff::{SignedDuration, Timestamp};

use super::{
    Fault,
    check::{Check, Node, Relation, TextCheck},
    pattern::Pattern,
    schema::{self, EnumNames, Field, Filterable, Kind, TextForm},
    syntax::{Comparator, Comparison, Expression, Literal},
};
use crate::domain::domain_name::DomainName;

/// The most nanoseconds' digits behind the point of a duration.
const NANO_DIGITS: usize = 9;

/// What `expression` asks of a `T`.
pub(super) fn compile<T: Filterable>(expression: &Expression) -> Result<Node<T>, Fault> {
    match expression {
        Expression::All(parts) => Ok(Node::All(each(parts)?)),
        Expression::Any(parts) => Ok(Node::Any(each(parts)?)),
        Expression::Not(part) => Ok(compile(part)?.negated()),
        Expression::Text(text) => search(text),
        Expression::Comparison(comparison) => compare(comparison),
    }
}

fn each<T: Filterable>(parts: &[Expression]) -> Result<Box<[Node<T>]>, Fault> {
    parts.iter().map(compile).collect()
}

/// A bare text is looked for in every searched field.
fn search<T: Filterable>(text: &Literal) -> Result<Node<T>, Fault> {
    if let Some(word) = text.plain().filter(|_| !text.quoted) {
        let names: Vec<_> = word.split('.').map(str::to_owned).collect();
        if schema::find::<T>(&names).is_some() {
            return Err(Fault::new(
                text.at,
                format!(
                    "`{word}` is a field; compare it, as in `{word} = ...` or `{word}:*`, or put \
                     it in quotes to search for the text"
                ),
            ));
        }
    }
    let searched = T::FIELDS.iter().filter(|field| field.is_searched);
    Ok(Node::Any(searched.filter_map(|field| contains(field, text)).collect()))
}

fn contains<T>(field: &Field<T>, text: &Literal) -> Option<Node<T>> {
    match field.kind {
        Kind::Text(form, get) => Some(Node::Text(get, contained(form, text))),
        Kind::Texts(form, each) => Some(Node::Texts(each, contained(form, text))),
        _ => None,
    }
}

fn compare<T: Filterable>(comparison: &Comparison) -> Result<Node<T>, Fault> {
    let path = &comparison.path;
    let Some((field, rest)) = schema::find::<T>(&path.names) else {
        return Err(Fault::new(
            path.at,
            format!("there is no field `{path}`; the fields are {}", known_fields::<T>()),
        ));
    };
    let asked = Asked { field: field.path, comparison };
    match (&field.kind, rest) {
        (Kind::Map { value, .. }, [key]) => {
            asked.map_value().map(|check| Node::Value(*value, key.as_str().into(), check))
        }
        (_, [_, ..]) => {
            Err(Fault::new(path.at, format!("`{path}` goes too deep; compare `{}`", field.path)))
        }
        (kind, []) => asked.of_kind(kind),
    }
}

fn known_fields<T: Filterable>() -> String {
    let paths: Vec<_> = T::FIELDS.iter().map(|field| field.path).collect();
    paths.join(", ")
}

/// A comparison of a field that exists.
struct Asked<'a> {
    field: &'static str,
    comparison: &'a Comparison,
}

impl Asked<'_> {
    fn of_kind<T>(&self, kind: &Kind<T>) -> Result<Node<T>, Fault> {
        match kind {
            Kind::Bool(get) => self.bool(*get),
            Kind::Number(get) => Ok(Node::Number(*get, self.ordered("a whole number", number)?)),
            Kind::Time(get) => Ok(Node::Time(*get, self.ordered(TIME, time)?)),
            Kind::Duration(get) => Ok(Node::Duration(*get, self.ordered(DURATION, duration)?)),
            Kind::Enum(names, get) => self.choice(names, |set| Node::Enum(*get, set)),
            Kind::Enums(names, get) => {
                self.only_has("the list")?;
                self.choice(names, |set| Node::Enums(*get, set))
            }
            Kind::Text(form, get) => Ok(Node::Text(*get, self.text(*form)?)),
            Kind::Texts(form, any) => {
                self.only_has("the list")?;
                let check = if self.asks_presence() {
                    TextCheck::Present
                } else {
                    TextCheck::Is(self.exact(*form)?)
                };
                Ok(Node::Texts(*any, check))
            }
            Kind::Map { keys, .. } => {
                self.only_has("the map, or compare a key's value")?;
                Ok(Node::Texts(*keys, TextCheck::Is(Pattern::new(&self.value().parts))))
            }
            Kind::Messages(any) if self.asks_presence() => Ok(Node::Bool(*any)),
            Kind::Messages(_) => Err(self.fault(format!(
                "of `{0}` one can ask `{0}:*` only, or compare its members",
                self.field
            ))),
        }
    }

    fn bool<T>(&self, get: fn(&T) -> bool) -> Result<Node<T>, Fault> {
        if self.asks_presence() {
            return Ok(Node::Always(true));
        }
        let holds = self.equality("a truth value")?;
        let wanted = match self.plain("true or false")? {
            "true" => true,
            "false" => false,
            _ => return Err(self.wrong_value("true or false")),
        };
        let node = Node::Bool(get);
        Ok(if wanted == holds { node } else { node.negated() })
    }

    fn ordered<V>(
        &self,
        wanted: &'static str,
        convert: fn(&str) -> Option<V>,
    ) -> Result<Check<V>, Fault> {
        if self.asks_presence() {
            return Ok(Check::Present);
        }
        let value = convert(self.plain(wanted)?).ok_or_else(|| self.wrong_value(wanted))?;
        Ok(Check::Compared(Relation::of(self.comparison.comparator), value))
    }

    fn choice<T>(
        &self,
        names: &EnumNames,
        node: impl Fn(u64) -> Node<T>,
    ) -> Result<Node<T>, Fault> {
        if self.asks_presence() {
            return Ok(node(u64::MAX));
        }
        let holds = self.equality("an enum")?;
        let wanted = || format!("one of {}", names.short.join(", "));
        let place =
            names.place(self.plain(&wanted())?).ok_or_else(|| self.wrong_value(&wanted()))?;
        let set = 1_u64 << place;
        Ok(node(if holds { set } else { !set }))
    }

    fn text(&self, form: TextForm) -> Result<TextCheck, Fault> {
        let value = self.value();
        match self.comparison.comparator {
            Comparator::Has if self.asks_presence() => Ok(TextCheck::IsNot(Pattern::new(&[""]))),
            Comparator::Has => Ok(contained(form, value)),
            Comparator::Equal => self.exact(form).map(TextCheck::Is),
            Comparator::NotEqual => self.exact(form).map(TextCheck::IsNot),
            comparator => {
                let text = self.plain("a text without `*`, which has no place in an order")?;
                let text = text.strip_prefix(form.prefix()).unwrap_or(text);
                let text = if form.is_domain() { stored_form(text) } else { text.to_owned() };
                Ok(TextCheck::Compared(Relation::of(comparator), text.into()))
            }
        }
    }

    /// On the value of a key `:` is `=` (AIP-160), and a missing key has no value.
    fn map_value(&self) -> Result<TextCheck, Fault> {
        match self.comparison.comparator {
            Comparator::Has if self.asks_presence() => Ok(TextCheck::Present),
            Comparator::Has => Ok(TextCheck::Is(Pattern::new(&self.value().parts))),
            _ => self.text(TextForm::Plain),
        }
    }

    /// The value to be equal to. Without a star, what can be no domain is refused, because it
    /// would equal none for ever.
    fn exact(&self, form: TextForm) -> Result<Pattern, Fault> {
        let mut parts = self.value().parts.clone();
        if let Some(id) = parts[0].strip_prefix(form.prefix()) {
            parts[0] = id.to_owned();
        }
        if form.is_domain() {
            match &mut *parts {
                [text] if text.is_empty() => {}
                [domain] => {
                    let parsed = DomainName::parse(domain)
                        .map_err(|error| self.fault(format!("`{domain}`: {error}")))?;
                    *domain = parsed.as_str().to_owned();
                }
                _ => parts = stored_parts(&parts),
            }
        }
        Ok(Pattern::new(&parts))
    }

    fn value(&self) -> &Literal {
        &self.comparison.value
    }

    fn plain(&self, wanted: &str) -> Result<&str, Fault> {
        self.value().plain().ok_or_else(|| self.wrong_value(wanted))
    }

    fn asks_presence(&self) -> bool {
        self.comparison.comparator == Comparator::Has && self.value().is_bare_star()
    }

    /// Whether the values shall be equal rather than not.
    fn equality(&self, type_name: &str) -> Result<bool, Fault> {
        match self.comparison.comparator {
            Comparator::Equal | Comparator::Has => Ok(true),
            Comparator::NotEqual => Ok(false),
            other => Err(self.fault(format!(
                "`{}` is {type_name} and has no order, so `{other}` means nothing; use = or !=",
                self.field
            ))),
        }
    }

    fn only_has(&self, what: &str) -> Result<(), Fault> {
        if self.comparison.comparator == Comparator::Has {
            return Ok(());
        }
        Err(self.fault(format!(
            "`{}` holds several values, so `{}` means nothing; ask with `:` what is in {what}",
            self.field, self.comparison.comparator
        )))
    }

    fn wrong_value(&self, wanted: &str) -> Fault {
        self.fault(format!("`{}` is compared with {wanted}, not {}", self.field, self.value()))
    }

    fn fault(&self, description: String) -> Fault {
        Fault::new(self.comparison.path.at, description)
    }
}

const TIME: &str = "a moment such as \"2027-01-01T00:00:00Z\" (RFC 3339)";
const DURATION: &str = "a number of seconds such as 20s or 1.5s";

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The JSON form of protobuf's Duration: seconds with at most nine digits behind the point.
fn duration(text: &str) -> Option<SignedDuration> {
    let number = text.strip_suffix('s')?;
    let (sign, number) = number.strip_prefix('-').map_or((1, number), |rest| (-1, rest));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > NANO_DIGITS {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<NANO_DIGITS$}").parse().ok()?;
    Some(SignedDuration::new(sign * whole.parse::<i64>().ok()?, i32::try_from(sign).ok()? * nanos))
}

fn contained(form: TextForm, text: &Literal) -> TextCheck {
    let mut parts = text.parts.clone();
    if let Some(id) = parts[0].strip_prefix(form.prefix()) {
        parts[0] = id.to_owned();
    }
    TextCheck::Is(if form.is_domain() {
        Pattern::contained(&stored_parts(&parts))
    } else {
        Pattern::contained_in_any_case(&parts)
    })
}

/// Domains around stars, as domains are stored. A domain has no star of its own, so a text that
/// has one is found nowhere.
fn stored_parts(parts: &[String]) -> Vec<String> {
    if parts.iter().any(|part| part.contains('*')) {
        return parts.to_vec();
    }
    let stored = stored_form(&parts.join("*"));
    stored.split('*').map(str::to_owned).collect()
}

/// A part of a domain as domains are stored: every whole label converted to an A-label where
/// that is possible, the rest in lower case.
fn stored_form(text: &str) -> String {
    let label = |label: &str| {
        let ascii = Uts46::new().to_ascii(
            label.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Allow,
            DnsLength::Ignore,
        );
        ascii.map_or_else(|_| label.to_lowercase(), std::borrow::Cow::into_owned)
    };
    let labels: Vec<_> = text.split('.').map(label).collect();
    labels.join(".")
}

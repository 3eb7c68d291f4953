//! Reads typed values out of the layers, and remembers what it was asked for.
//!
//! Reading never stops at the first mistake: it notes one line for each and goes on with the
//! default, so that a person sees all of them at once. What was asked for is the list of the
//! keys there are: it tells an unknown key from a known one, and the documentation is held to it.

use std::{
    cell::RefCell, collections::BTreeMap, fmt::Display, ops::RangeInclusive, path::PathBuf,
    str::FromStr,
};

use toml::Value;

use super::{
    ConfigError,
    layers::{Given, Layers, Place, variable},
    value::{Size, Span},
};

/// One key that the configuration knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name. `[]` stands for the number in a list of sections.
    pub name: String,
    /// What it is when nobody sets it; `required` or `none` if it has no default.
    pub default: String,
    /// Which values it takes, for people.
    pub values: String,
}

pub(super) struct Reader<'a> {
    layers: &'a Layers,
    asked: RefCell<Vec<(String, Key)>>,
    problems: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub fn new(layers: &'a Layers) -> Self {
        Self { layers, asked: RefCell::default(), problems: RefCell::default() }
    }

    /// A whole number.
    pub fn number<N>(&self, key: &str, default: N, range: RangeInclusive<N>) -> N
    where
        N: FromStr + PartialOrd + Display,
    {
        self.ranged(key, default, &range, "a whole number")
    }

    /// A number of bytes.
    pub fn size(&self, key: &str, default: Size, range: RangeInclusive<Size>) -> usize {
        self.ranged(key, default, &range, "a size such as \"4 MiB\"").0
    }

    /// A length of time.
    pub fn span(
        &self,
        key: &str,
        default: Span,
        range: RangeInclusive<Span>,
    ) -> std::time::Duration {
        self.ranged(key, default, &range, "a duration with its unit, such as \"30s\"").0
    }

    /// Yes or no.
    pub fn switch(&self, key: &str, default: bool) -> bool {
        self.one_of(
            key,
            if default { "true" } else { "false" },
            &[("true", true), ("false", false)],
        )
    }

    /// One of a few words; `default` is one of them.
    pub fn one_of<T: Clone>(&self, key: &str, default: &str, words: &[(&str, T)]) -> T {
        let names = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        self.ask(key, default, &names);
        let pick =
            |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, t)| t.clone());
        let fallback = pick(default).expect("the default is one of the words");
        let Some(given) = self.layers.get(key) else { return fallback };
        scalar(&given.value).and_then(|text| pick(&text)).unwrap_or_else(|| {
            self.refuse(&given, &format!("give one of {names}"));
            fallback
        })
    }

    /// Text that may be left out.
    pub fn text(&self, key: &str, default: Option<&str>) -> Option<String> {
        self.ask(key, default.unwrap_or("none"), "text");
        match self.layers.get(key) {
            None => default.map(str::to_owned),
            Some(given) => self.as_text(&given),
        }
    }

    /// Text that must be there; `remedy` says what to write.
    pub fn required_text(&self, key: &str, remedy: &str) -> String {
        self.ask(key, "required", "text");
        let given = self.layers.get(key);
        let text = given.as_ref().and_then(|given| self.as_text(given));
        if given.is_none() {
            self.missing(key, remedy);
        }
        text.unwrap_or_default()
    }

    /// A path that may be left out.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.ask(key, "none", "path");
        let given = self.layers.get(key)?;
        Some(self.layers.resolve(&self.as_text(&given)?, &given.place))
    }

    /// A path that must be there.
    pub fn required_path(&self, key: &str, remedy: &str) -> PathBuf {
        let path = self.path(key);
        self.asked_as(key, "required");
        if self.layers.get(key).is_none() {
            self.missing(key, remedy);
        }
        path.unwrap_or_default()
    }

    /// The way to a member, key by key: dotted text, or a list where a key has dots in it.
    pub fn dotted(&self, key: &str, default: &str) -> Vec<String> {
        self.ask(key, default, "dotted path, or list of keys");
        let way = match self.layers.get(key) {
            Some(Given { value: Value::String(text), .. }) => {
                text.split('.').map(str::to_owned).collect()
            }
            Some(given) => self.as_texts(&given),
            None => default.split('.').map(str::to_owned).collect(),
        };
        if way.iter().any(String::is_empty) {
            self.problem(key, "has an empty part; write it like realm_access.roles");
        }
        way
    }

    /// A list of values that parse; `expected` describes one of them.
    pub fn list<T>(&self, key: &str, default: &[&str], expected: &str) -> Vec<T>
    where
        T: FromStr<Err: Display>,
    {
        let shown = if default.is_empty() { "none".to_owned() } else { default.join(", ") };
        self.ask(key, &shown, &format!("list of {expected}"));
        let Some(given) = self.layers.get(key) else {
            return default.iter().filter_map(|text| text.parse().ok()).collect();
        };
        let parse = |text: String| match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(format!("{}: {text:?} is not {expected}: {error}", given.place));
                None
            }
        };
        self.as_texts(&given).into_iter().filter_map(parse).collect()
    }

    /// A list of values that must be there and not be empty.
    pub fn required_list<T>(&self, key: &str, expected: &str, remedy: &str) -> Vec<T>
    where
        T: FromStr<Err: Display>,
    {
        let list = self.filled_list(key, &[], expected, remedy);
        self.asked_as(key, "required");
        if self.layers.get(key).is_none() {
            self.missing(key, remedy);
        }
        list
    }

    /// A list of values that must not be empty where it is given.
    pub fn filled_list<T>(
        &self,
        key: &str,
        default: &[&str],
        expected: &str,
        remedy: &str,
    ) -> Vec<T>
    where
        T: FromStr<Err: Display>,
    {
        let before = self.problems.borrow().len();
        let list = self.list(key, default, expected);
        let told = self.problems.borrow().len() > before;
        if list.is_empty() && !told && self.layers.get(key).is_some() {
            self.problem(key, &format!("is empty; {remedy}"));
        }
        list
    }

    /// A section whose keys are free and whose values are text.
    pub fn map(&self, key: &str) -> BTreeMap<String, String> {
        self.ask(key, "none", "section of text");
        let Some(given) = self.layers.get(key) else { return BTreeMap::new() };
        let texts = given.value.as_table().and_then(|table| {
            let text = |(name, value): (&String, &Value)| {
                value.as_str().map(|text| (name.clone(), text.to_owned()))
            };
            table.iter().map(text).collect()
        });
        texts.unwrap_or_else(|| {
            self.refuse(&given, "write it as a section of names with text in quotes");
            BTreeMap::new()
        })
    }

    /// Reads each member of a list of sections; at least once, so that the keys are known.
    pub fn sections<T>(&self, list: &str, read: impl Fn(&Self, &str) -> T) -> Vec<T> {
        let count = self.layers.count(list);
        if count == 0 {
            let before = self.problems.borrow().len();
            read(self, &format!("{list}[0]"));
            self.problems.borrow_mut().truncate(before);
        }
        (0..count).map(|index| read(self, &format!("{list}[{index}]"))).collect()
    }

    /// Notes a mistake that is about a key as a whole, at the place where it was given.
    pub fn problem(&self, key: &str, text: &str) {
        match self.layers.get(key) {
            Some(given) => self.note(format!("{}: {text}", given.place)),
            None => self.note(format!("{key}: {text}")),
        }
    }

    /// Notes that a list of sections is missing, which no single variable can set.
    pub fn missing_sections(&self, key: &str, remedy: &str) {
        self.note(format!("{key} is missing: {remedy}"));
    }

    /// Notes that a key is missing.
    pub fn missing(&self, key: &str, remedy: &str) {
        self.note(format!("{key} is missing: {remedy} (or set {})", variable(key)));
    }

    /// The keys there are; or every mistake, unknown keys included.
    pub fn finish(self) -> Result<Vec<Key>, ConfigError> {
        for (given, place) in self.layers.given() {
            if !self.knows(&given, &place) {
                self.note(self.unknown(&given, &place));
            }
        }
        let problems = self.problems.into_inner();
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let mut keys: Vec<Key> = self.asked.into_inner().into_iter().map(|(_, key)| key).collect();
        keys.dedup_by(|later, earlier| later.name == earlier.name);
        Ok(keys)
    }

    fn ranged<T>(&self, key: &str, default: T, range: &RangeInclusive<T>, expected: &str) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        let limits = format!("{} to {}", range.start(), range.end());
        self.ask(key, &default.to_string(), &limits);
        let Some(given) = self.layers.get(key) else { return default };
        match scalar(&given.value).and_then(|text| text.replace('_', "").parse().ok()) {
            Some(value) if range.contains(&value) => value,
            Some(_) => {
                self.refuse(&given, &format!("give {limits}"));
                default
            }
            None => {
                self.refuse(&given, &format!("give {expected}, {limits}"));
                default
            }
        }
    }

    fn as_text(&self, given: &Given) -> Option<String> {
        let text = given.value.as_str().filter(|text| !text.is_empty());
        if text.is_none() {
            self.refuse(given, "give text in quotes");
        }
        text.map(str::to_owned)
    }

    fn as_texts(&self, given: &Given) -> Vec<String> {
        let texts = match &given.value {
            Value::String(text) => Some(text.split(',').map(|t| t.trim().to_owned()).collect()),
            Value::Array(members) => {
                members.iter().map(|m| m.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        texts.unwrap_or_else(|| {
            self.refuse(given, "give a list of text: [\"...\", \"...\"]");
            Vec::new()
        })
    }

    fn ask(&self, key: &str, default: &str, values: &str) {
        let documented =
            Key { name: general(key), default: default.to_owned(), values: values.to_owned() };
        self.asked.borrow_mut().push((key.to_owned(), documented));
    }

    fn asked_as(&self, key: &str, default: &str) {
        if let Some((_, documented)) =
            self.asked.borrow_mut().iter_mut().rfind(|(asked, _)| asked == key)
        {
            default.clone_into(&mut documented.default);
        }
    }

    fn refuse(&self, given: &Given, remedy: &str) {
        self.note(format!("{}: {} is not accepted; {remedy}", given.place, given.value));
    }

    fn note(&self, line: String) {
        self.problems.borrow_mut().push(line);
    }

    fn knows(&self, given: &str, place: &Place) -> bool {
        let asked = self.asked.borrow();
        let mut keys = asked.iter().map(|(key, documented)| (key, documented));
        match place {
            Place::Environment { .. } => keys.any(|(key, _)| variable(key) == given),
            Place::Flag { .. } | Place::Base { .. } => {
                keys.any(|(key, _)| key == given || below(given, key) && self.is_map(key))
            }
        }
    }

    fn is_map(&self, key: &str) -> bool {
        self.layers.get(key).is_some_and(|given| given.value.is_table())
    }

    fn unknown(&self, given: &str, place: &Place) -> String {
        let asked = self.asked.borrow();
        if let Some((key, _)) = asked.iter().find(|(key, _)| below(key, given)) {
            return format!("{place}: is a section, not a value; its keys are such as {key}");
        }
        let known = asked.iter().map(|(key, _)| match place {
            Place::Environment { .. } => variable(key),
            Place::Flag { .. } | Place::Base { .. } => key.clone(),
        });
        match nearest(given, known) {
            Some(key) => format!("{place}: unknown key; did you mean {key}?"),
            None => format!("{place}: unknown key; docs/configuration.md has the list"),
        }
    }
}

/// A plain value as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// The key with the numbers of its lists left out.
fn general(key: &str) -> String {
    let mut inside = false;
    let keep = |c: &char| {
        inside = (inside || *c == '[') && *c != ']';
        !inside || *c == '['
    };
    key.chars().filter(keep).collect()
}

/// The known key that somebody who wrote `given` most likely meant: a few letters off, or in
/// another section.
fn nearest(given: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let distance = |key: &String| {
        let whole = strsim::osa_distance(given, key);
        let misplaced = 1 + strsim::osa_distance(&last(given), &last(key));
        whole.min(misplaced)
    };
    let allowed = 1 + last(given).len() / 4;
    let best = known.map(|key| (distance(&key), key)).min()?;
    (best.0 <= allowed).then_some(best.1)
}

//! What a change would do to a partner, field by field.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use super::{
    console::{Console, Paint},
    json::{ApiMessage, enum_text},
};

/// Fields that say nothing about what a change means.
const BOOKKEEPING: &[&str] = &[
    "name",
    "uid",
    "warnings",
    "create_time",
    "update_time",
    "creator",
    "updater",
    "revision",
    "etag",
    "delete_time",
    "built_in",
    "lync_role",
];

/// Fields that the service sets by the clock: they are told when they change, but say nothing of a
/// resource that comes or goes.
const BY_THE_CLOCK: &[&str] = &["expired"];

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It comes into being.
    Create,
    /// It changes.
    Update,
    /// It stays as it is.
    Unchanged,
    /// It goes.
    Remove,
}

/// One field, before and after; a side without a value is `None`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldDiff {
    /// The field's path.
    pub field: String,
    /// The value before.
    pub before: Option<String>,
    /// The value after.
    pub after: Option<String>,
}

/// A resource, before and after.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diff {
    /// What it is called, for people.
    pub title: String,
    /// What happens to it.
    pub action: Action,
    /// What changes.
    pub fields: Vec<FieldDiff>,
}

impl Diff {
    /// The difference between two states of a resource.
    pub fn between<M: ApiMessage>(title: &str, before: Option<&M>, after: Option<&M>) -> Self {
        let fields = field_diffs(before, after);
        let action = match (before, after) {
            (None, _) => Action::Create,
            (_, None) => Action::Remove,
            _ if fields.is_empty() => Action::Unchanged,
            _ => Action::Update,
        };
        Self { title: title.to_owned(), action, fields }
    }

    /// The difference as lines, the title first.
    pub fn render(&self, console: Console) -> String {
        let (sign, paint, note) = match self.action {
            Action::Create => ("+", Paint::Green, " (new)"),
            Action::Update => ("~", Paint::Yellow, ""),
            Action::Unchanged => return format!("= {} (unchanged)\n", self.title),
            Action::Remove => {
                return console.paint(Paint::Red, &format!("- {}", self.title)) + "\n";
            }
        };
        let mut text = console.paint(paint, &format!("{sign} {}{note}", self.title)) + "\n";
        let width = self.fields.iter().map(|diff| diff.field.len()).max().unwrap_or_default();
        for FieldDiff { field, before, after } in &self.fields {
            let before = before.as_ref().map(|value| console.paint(Paint::Red, value));
            let after = after.as_ref().map(|value| console.paint(Paint::Green, value));
            let change = match (before, after) {
                (None, Some(after)) => after,
                (before, after) => {
                    let none = || "(none)".to_owned();
                    format!("{} -> {}", before.unwrap_or_else(none), after.unwrap_or_else(none))
                }
            };
            text += &format!("    {field:width$}  {change}\n");
        }
        text
    }
}

fn field_diffs<M: ApiMessage>(before: Option<&M>, after: Option<&M>) -> Vec<FieldDiff> {
    let before = before.map(ApiMessage::to_dynamic);
    let after = after.map(ApiMessage::to_dynamic);
    let descriptor = M::descriptor();
    let changes = before.is_some() && after.is_some();
    let told = descriptor.fields().filter(|field| {
        !BOOKKEEPING.contains(&field.name()) && (changes || !BY_THE_CLOCK.contains(&field.name()))
    });
    told.flat_map(|field| match (&before, &after) {
        (Some(before), Some(after)) if field.is_map() || field.is_list() => {
            element_diffs(&field, before, after)
        }
        _ => whole_diff(&field, before.as_ref(), after.as_ref()).into_iter().collect(),
    })
    .collect()
}

fn whole_diff(
    field: &FieldDescriptor,
    before: Option<&DynamicMessage>,
    after: Option<&DynamicMessage>,
) -> Option<FieldDiff> {
    let text = |message: Option<&DynamicMessage>| field_text(message?, field);
    let (before, after) = (text(before), text(after));
    (before != after).then(|| FieldDiff { field: field.name().to_owned(), before, after })
}

/// The elements of a list or the entries of a map that come or go.
fn element_diffs(
    field: &FieldDescriptor,
    before: &DynamicMessage,
    after: &DynamicMessage,
) -> Vec<FieldDiff> {
    let (old, new) = (elements(before, field), elements(after, field));
    let gone = old.iter().filter(|element| !new.contains(element));
    let come = new.iter().filter(|element| !old.contains(element));
    let gone: Vec<_> = gone.map(|element| format!("-{element}")).collect();
    let come: Vec<_> = come.map(|element| format!("+{element}")).collect();
    if gone.is_empty() && come.is_empty() {
        return Vec::new();
    }
    let edits: Vec<_> = gone.into_iter().chain(come).collect();
    vec![FieldDiff { field: field.name().to_owned(), before: None, after: Some(edits.join(" ")) }]
}

fn elements(message: &DynamicMessage, field: &FieldDescriptor) -> Vec<String> {
    match message.get_field(field).as_ref() {
        Value::List(values) => values.iter().map(|value| value_text(field, value)).collect(),
        Value::Map(entries) => {
            let pair = |(key, value): (&MapKey, &Value)| {
                format!("{}={}", key.as_str().unwrap_or_default(), value_text(field, value))
            };
            let mut pairs: Vec<_> = entries.iter().map(pair).collect();
            pairs.sort();
            pairs
        }
        _ => Vec::new(),
    }
}

/// The field's value in the spelling of the flags; `None` when it has none.
fn field_text(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    if field.is_list() || field.is_map() {
        let elements = elements(message, field);
        return (!elements.is_empty()).then(|| elements.join(" "));
    }
    let always = field.kind() == Kind::Bool && !field.supports_presence();
    let shown = message.has_field(field) || always;
    shown.then(|| value_text(field, &message.get_field(field)))
}

fn value_text(field: &FieldDescriptor, value: &Value) -> String {
    match (value, field.kind()) {
        (Value::EnumNumber(number), Kind::Enum(kind)) => {
            let prefix = kind.default_value().name().trim_end_matches("UNSPECIFIED").to_owned();
            kind.get_value(*number)
                .map_or_else(|| number.to_string(), |value| enum_text(value.name(), &prefix))
        }
        (Value::Bool(on), _) => if *on { "on" } else { "off" }.to_owned(),
        (Value::String(text), _) => text.clone(),
        (Value::Message(message), _) => {
            debug_assert!(message.descriptor().full_name().starts_with("google.protobuf."));
            serde_json::to_string(message).unwrap_or_default().trim_matches('"').to_owned()
        }
        (value, _) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{AllowedPartner, Negotiation};

    fn partner() -> AllowedPartner {
        AllowedPartner {
            name: "allowedPartners/a.example".into(),
            additional_domains: vec!["b.a.example".into(), "c.a.example".into()],
            sasl_negotiation: Negotiation::Required.into(),
            dialback_enabled: Some(true),
            connection_limit: Some(5),
            revision: 4,
            labels: [("tier".into(), "gold".into())].into(),
            ..AllowedPartner::default()
        }
    }

    fn rendered(before: Option<&AllowedPartner>, after: Option<&AllowedPartner>) -> String {
        Diff::between("a.example", before, after).render(Console::default())
    }

    #[test]
    fn a_change_is_told_field_by_field_and_bookkeeping_is_not() {
        let after = AllowedPartner {
            additional_domains: vec!["c.a.example".into(), "d.a.example".into()],
            sasl_negotiation: Negotiation::NotSupported.into(),
            dialback_enabled: Some(false),
            connection_limit: None,
            suspended: true,
            expired: true,
            revision: 5,
            labels: [("tier".into(), "silver".into())].into(),
            expire_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..partner()
        };
        insta::assert_snapshot!(rendered(Some(&partner()), Some(&after)), @r"
        ~ a.example
            additional_domains  -b.a.example +d.a.example
            connection_limit    5 -> (none)
            sasl_negotiation    required -> not-supported
            dialback_enabled    on -> off
            suspended           off -> on
            expire_time         1970-01-01T00:00:00Z
            labels              -tier=gold +tier=silver
            expired             off -> on
        ");
    }

    #[test]
    fn new_gone_and_unchanged_partners_say_so() {
        insta::assert_snapshot!(rendered(None, Some(&partner())), @r"
        + a.example (new)
            additional_domains  b.a.example c.a.example
            connection_limit    5
            sasl_negotiation    required
            dialback_enabled    on
            suspended           off
            labels              tier=gold
        ");
        assert_eq!(rendered(Some(&partner()), None), "- a.example\n");
        let moved_on = AllowedPartner { revision: 9, ..partner() };
        assert_eq!(rendered(Some(&partner()), Some(&moved_on)), "= a.example (unchanged)\n");
    }
}

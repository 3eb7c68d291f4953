//! What holds for every filter: it never panics, printing loses nothing, and it decides as a
//! naive evaluator does.

use std::{borrow::Cow, collections::BTreeMap};

use proptest::prelude::*;

use super::super::{
    syntax::{Comparator, Comparison, Expression, Literal, Path},
    *,
};
use crate::domain::partner::AllowedPartner;

/// A small type with one field of each sort, whose values collide often.
#[derive(Clone, Debug)]
struct Thing {
    name: String,
    size: Option<i64>,
    good: bool,
    tags: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl Filterable for Thing {
    const FIELDS: &'static [Field<Self>] = &[
        Field::searched("name", Kind::Text(TextForm::Plain, |t| Cow::Borrowed(&t.name))),
        Field::new("size", Kind::Number(|t| t.size)),
        Field::new("good", Kind::Bool(|t| t.good)),
        Field::searched(
            "tags",
            Kind::Texts(TextForm::Plain, |t, ask| t.tags.iter().any(|tag| ask(tag))),
        ),
        Field::new(
            "labels",
            Kind::Map {
                value: |t, key| t.labels.get(key).map(String::as_str),
                keys: |t, ask| t.labels.keys().any(|key| ask(key)),
            },
        ),
    ];
}

fn thing() -> impl Strategy<Value = Thing> {
    (
        "[abA]{0,4}",
        proptest::option::of(-2_i64..3),
        any::<bool>(),
        proptest::collection::vec("[ab]{0,2}", 0..3),
        proptest::collection::btree_map("[kl]", "[ab]{0,3}", 0..3),
    )
        .prop_map(|(name, size, good, tags, labels)| Thing { name, size, good, tags, labels })
}

fn literal(parts: Vec<String>) -> Literal {
    Literal { parts, quoted: true, at: 0 }
}

fn pattern() -> impl Strategy<Value = Literal> {
    proptest::collection::vec("[abA]{0,2}", 1..4).prop_map(literal)
}

fn star() -> Literal {
    Literal { parts: vec![String::new(); 2], quoted: false, at: 0 }
}

fn comparison(path: &[&str], comparator: Comparator, value: Literal) -> Expression {
    let names = path.iter().map(|&name| name.to_owned()).collect();
    Expression::Comparison(Comparison { path: Path { names, at: 0 }, comparator, value })
}

fn any_comparator() -> impl Strategy<Value = Comparator> {
    use Comparator::{Equal, Greater, GreaterOrEqual, Has, Less, LessOrEqual, NotEqual};
    proptest::sample::select(vec![Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual, Has])
}

fn equality() -> impl Strategy<Value = Comparator> {
    proptest::sample::select(vec![Comparator::Equal, Comparator::NotEqual, Comparator::Has])
}

fn valid_comparison() -> impl Strategy<Value = Expression> {
    let text = |path: &'static [&'static str]| {
        (equality(), pattern()).prop_map(move |(how, value)| comparison(path, how, value))
    };
    let order = (any_comparator(), "[ab]{0,3}")
        .prop_map(|(how, value)| comparison(&["name"], how, literal(vec![value])));
    let number = (any_comparator(), -2_i64..3)
        .prop_map(|(how, value)| comparison(&["size"], how, literal(vec![value.to_string()])));
    let truth = (equality(), any::<bool>())
        .prop_map(|(how, value)| comparison(&["good"], how, literal(vec![value.to_string()])));
    let has = |path: &'static [&'static str]| {
        pattern().prop_map(move |value| comparison(path, Comparator::Has, value))
    };
    let present = proptest::sample::select(vec!["name", "size", "good", "tags", "labels"])
        .prop_map(|field| comparison(&[field], Comparator::Has, star()));
    prop_oneof![
        text(&["name"]),
        text(&["labels", "k"]),
        order,
        number,
        truth,
        has(&["tags"]),
        has(&["labels"]),
        present,
        Just(comparison(&["labels", "l"], Comparator::Has, star())),
        pattern().prop_map(Expression::Text),
    ]
}

fn expression(
    leaf: impl Strategy<Value = Expression> + 'static,
) -> impl Strategy<Value = Expression> {
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expression::all),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expression::any),
            inner.prop_map(|part| Expression::Not(Box::new(part))),
        ]
    })
}

fn any_text() -> impl Strategy<Value = Literal> {
    prop_oneof![
        proptest::collection::vec("\\PC{0,6}", 1..4).prop_map(literal),
        "[a-z0-9_/@+ü]{3,6}\\*?[a-z0-9]{1,4}".prop_map(|word| Literal {
            parts: word.split('*').map(str::to_owned).collect(),
            quoted: false,
            at: 0,
        }),
    ]
}

fn any_comparison() -> impl Strategy<Value = Expression> {
    let names = proptest::collection::vec("[^`\\*]{0,5}", 1..3);
    let compared = (names, any_comparator(), any_text()).prop_map(|(names, comparator, value)| {
        Expression::Comparison(Comparison { path: Path { names, at: 0 }, comparator, value })
    });
    prop_oneof![compared, any_text().prop_map(Expression::Text)]
}

/// Decides by the words of the documentation, with no thought for speed.
fn decides(expression: &Expression, thing: &Thing) -> bool {
    match expression {
        Expression::All(parts) => parts.iter().all(|part| decides(part, thing)),
        Expression::Any(parts) => parts.iter().any(|part| decides(part, thing)),
        Expression::Not(part) => !decides(part, thing),
        Expression::Text(text) => {
            let wanted = format!("*{}*", text.parts.join("*")).to_lowercase();
            let mut texts = thing.tags.iter().chain([&thing.name]);
            texts.any(|text| fits(&wanted, &text.to_lowercase()))
        }
        Expression::Comparison(asked) => compares(asked, thing),
    }
}

fn compares(asked: &Comparison, thing: &Thing) -> bool {
    let wanted = asked.value.parts.join("*");
    let present = asked.value.is_bare_star() && asked.comparator == Comparator::Has;
    let names: Vec<_> = asked.path.names.iter().map(String::as_str).collect();
    match *names {
        ["name"] if present => !thing.name.is_empty(),
        ["name"] if asked.comparator == Comparator::Has => {
            fits(&format!("*{wanted}*").to_lowercase(), &thing.name.to_lowercase())
        }
        ["name"] => text_compares(asked.comparator, &wanted, &thing.name),
        ["size"] => thing.size.is_some_and(|size| {
            present || ordered(asked.comparator, size.cmp(&wanted.parse().unwrap()))
        }),
        ["good"] => {
            let equal = thing.good.to_string() == wanted;
            present || equal == (asked.comparator != Comparator::NotEqual)
        }
        ["tags"] => thing.tags.iter().any(|tag| fits(&wanted, tag)),
        ["labels"] => thing.labels.keys().any(|key| fits(&wanted, key)),
        ["labels", key] => {
            let value = thing.labels.get(key);
            value.is_some_and(|value| present || text_compares(asked.comparator, &wanted, value))
        }
        _ => unreachable!("{names:?}"),
    }
}

fn text_compares(comparator: Comparator, wanted: &str, text: &str) -> bool {
    match comparator {
        Comparator::Equal | Comparator::Has => fits(wanted, text),
        Comparator::NotEqual => !fits(wanted, text),
        _ => ordered(comparator, text.cmp(wanted)),
    }
}

fn ordered(comparator: Comparator, ordering: std::cmp::Ordering) -> bool {
    match comparator {
        Comparator::Equal | Comparator::Has => ordering.is_eq(),
        Comparator::NotEqual => ordering.is_ne(),
        Comparator::Less => ordering.is_lt(),
        Comparator::LessOrEqual => ordering.is_le(),
        Comparator::Greater => ordering.is_gt(),
        Comparator::GreaterOrEqual => ordering.is_ge(),
    }
}

/// Tries every length for every star.
fn fits(wanted: &str, text: &str) -> bool {
    match wanted.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|skipped| fits(&wanted[1..], &text[skipped..])),
        Some(first) => text.strip_prefix(first).is_some_and(|rest| fits(&wanted[1..], rest)),
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = Filter::<AllowedPartner>::parse(&text);
        let _ = OrderBy::<AllowedPartner>::parse(&text);
    }

    #[test]
    fn no_heap_of_signs_makes_the_parser_panic(
        text in proptest::collection::vec(
            proptest::sample::select(vec![
                "(", ")", "NOT", "AND", "OR", "-", " ", ".", ",", ":", "=", "!=", "<", "*", "\"",
                "'", "`", "\\", "name", "labels", "size", "ü", "1",
            ]),
            0..40,
        )
    ) {
        let _ = Filter::<Thing>::parse(&text.concat());
    }

    #[test]
    fn what_is_printed_is_parsed_to_the_same(written in expression(any_comparison())) {
        let printed = written.to_string();
        let parsed = parser::parse(&printed).map_err(|fault| fault.description);
        prop_assert_eq!(parsed, Ok(Some(written)), "{}", printed);
    }

    #[test]
    fn a_filter_decides_as_a_naive_evaluator_does(
        written in expression(valid_comparison()),
        things in proptest::collection::vec(thing(), 1..8),
    ) {
        let filter = Filter::<Thing>::parse(&written.to_string()).unwrap();
        for thing in &things {
            prop_assert_eq!(filter.matches(thing), decides(&written, thing), "{} {:?}", written, thing);
        }
    }
}

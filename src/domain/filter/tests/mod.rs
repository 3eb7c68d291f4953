//! What the filters and orders promise.

mod properties;

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::*;
use crate::domain::{
    domain_name::{DomainName, DomainSet},
    negotiation::Negotiation,
    partner::{AllowedPartner, PartnerType, Terms},
    revision::Revision,
    role::{Role, built_in_roles},
};

fn domain(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn partner(name: &str, terms: Terms) -> AllowedPartner {
    AllowedPartner {
        domain: domain(name),
        uid: Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8),
        terms,
        create_time: time("2026-01-02T03:04:05Z"),
        update_time: time("2026-02-03T04:05:06.5Z"),
        creator: "alice".into(),
        updater: "bob@contoso.com".into(),
        revision: Revision::new(42),
        delete_time: None,
        expired: false,
    }
}

/// A partner with something in every field.
fn contoso() -> AllowedPartner {
    let terms = Terms {
        description: "The Legal department, München".into(),
        additional_domains: ["na.contoso.com", "bücher.example", "co.uk"]
            .into_iter()
            .map(domain)
            .collect::<DomainSet>(),
        partner_type: PartnerType::Federated,
        proxy_fqdn: Some(domain("proxy.contoso.com")),
        connection_limit: Some(10),
        keep_alive_enabled: true,
        tls_negotiation: Negotiation::Required,
        sasl_negotiation: Negotiation::Optional,
        dialback_enabled: true,
        suspended: false,
        expire_time: Some(time("2026-12-31T00:00:00Z")),
        review_time: None,
        owner: "Jo \"the *\" O'Hara".into(),
        labels: [("tier", "gold"), ("a.b", "x"), ("team/site", "")].into(),
    };
    partner("contoso.com", terms)
}

/// A partner with nothing but defaults.
fn fabrikam() -> AllowedPartner {
    partner("fabrikam.org", Terms::default())
}

fn matches<T: Filterable>(filter: &str, item: &T) -> bool {
    Filter::parse(filter).unwrap_or_else(|violation| panic!("{filter}: {violation}")).matches(item)
}

/// Whether the filter lets contoso and fabrikam through.
fn both(filter: &str) -> (bool, bool) {
    (matches(filter, &contoso()), matches(filter, &fabrikam()))
}

fn refusal<T: Filterable>(filter: &str) -> String {
    let violation = Filter::<T>::parse(filter).err();
    let violation = violation.unwrap_or_else(|| panic!("accepted: {filter}"));
    assert_eq!(violation.field, "filter");
    violation.description
}

#[test]
fn the_empty_filter_lets_everything_through() {
    for text in ["", "  \n "] {
        let filter = Filter::<AllowedPartner>::parse(text).unwrap();
        assert!(filter.is_empty() && filter.matches(&contoso()));
        assert_eq!(filter.as_str(), "");
    }
    assert!(!Filter::<AllowedPartner>::parse("suspended = true").unwrap().is_empty());
}

#[test]
fn every_field_can_be_asked() {
    for (filter, expected) in [
        ("name = \"allowedPartners/contoso.com\"", (true, false)),
        ("name = contoso.com", (true, false)),
        ("name = 'ALLOWED.example'", (false, false)),
        ("name = \"allowedPartners/Contoso.COM.\"", (true, false)),
        ("name = \"allowedPartners/*.org\"", (false, true)),
        ("name != \"allowedPartners/*.ORG\"", (true, false)),
        ("name < \"allowedPartners/d\"", (true, false)),
        ("name:ONTOS", (true, false)),
        ("uid = \"67e55044-10b1-426f-9247-bb680e5fe0c8\"", (true, true)),
        ("description = \"The Legal*München\"", (true, false)),
        ("description = \"the legal*\"", (false, false)),
        ("description:\"LEGAL DEP\"", (true, false)),
        ("description:münchen", (true, false)),
        ("description:\"the*dep*mün\"", (true, false)),
        ("description = \"\"", (false, true)),
        ("additional_domains:\"na.contoso.com\"", (true, false)),
        ("additional_domains:\"BÜCHER.example\"", (true, false)),
        ("additional_domains:\"*.bücher.example\"", (false, false)),
        ("additional_domains:\"*bücher.example\"", (false, false)),
        ("additional_domains:\"*.contoso.com\"", (true, false)),
        ("additional_domains:\"bücher.*\"", (true, false)),
        ("additional_domains:*", (true, false)),
        ("partner_type = FEDERATED", (true, false)),
        ("partner_type = PARTNER_TYPE_FEDERATED", (true, false)),
        ("partner_type != \"FEDERATED\"", (false, true)),
        ("partner_type:*", (true, true)),
        ("proxy_fqdn = Proxy.Contoso.com", (true, false)),
        ("proxy_fqdn = \"\"", (false, true)),
        ("proxy_fqdn:*", (true, false)),
        ("connection_limit = 10", (true, false)),
        ("connection_limit >= 11", (false, false)),
        ("connection_limit<11", (true, false)),
        ("connection_limit > -1", (true, false)),
        ("keep_alive_enabled = true", (true, true)),
        ("tls_negotiation != REQUIRED", (false, false)),
        ("sasl_negotiation = OPTIONAL", (true, false)),
        ("dialback_enabled != false", (true, true)),
        ("negotiation_methods:DIALBACK_OVER_TLS", (true, false)),
        ("negotiation_methods:NEGOTIATION_METHOD_DIALBACK_OVER_TCP", (false, false)),
        ("negotiation_methods:*", (true, true)),
        ("warnings.code:PUBLIC_SUFFIX", (true, false)),
        ("warnings.code:CODE_DIALBACK_UNUSED", (false, true)),
        ("warnings:*", (true, true)),
        ("suspended = true", (false, false)),
        ("suspended:false", (true, true)),
        ("expire_time < \"2027-01-01T00:00:00Z\"", (true, false)),
        ("expire_time < 2027-01-01T00:00:00+02:00", (true, false)),
        ("expire_time:*", (true, false)),
        ("review_time:*", (false, false)),
        ("owner = \"Jo \\\"the \\*\\\" O'Hara\"", (true, false)),
        ("owner = 'Jo \"the \\*\" O\\'Hara'", (true, false)),
        ("owner = \"Jo \\*\"", (false, false)),
        ("owner:*", (true, false)),
        ("labels:tier", (true, false)),
        ("labels:\"team/*\"", (true, false)),
        ("labels:*", (true, false)),
        ("labels.tier = gold", (true, false)),
        ("labels.tier = \"g*d\"", (true, false)),
        ("labels.tier:gold", (true, false)),
        ("labels.tier:gol", (false, false)),
        ("labels.tier > bronze", (true, false)),
        ("labels.`a.b` = x", (true, false)),
        ("labels.\"a.b\" = x", (true, false)),
        ("labels.`team/site`:*", (true, false)),
        ("labels.AND:*", (false, false)),
        ("create_time = \"2026-01-02T03:04:05Z\"", (true, true)),
        ("update_time > 2026-02-03T04:05:06.4Z", (true, true)),
        ("creator = alice", (true, true)),
        ("updater = \"*@contoso.com\"", (true, true)),
        ("revision > 41", (true, true)),
        ("etag = \"2a-67e55044\"", (true, true)),
        ("delete_time:*", (false, false)),
    ] {
        assert_eq!(both(filter), expected, "{filter}");
    }
}

#[test]
fn a_comparison_with_no_value_is_false_and_so_is_its_opposite() {
    for (filter, expected) in [
        ("connection_limit != 10", (false, false)),
        ("NOT connection_limit = 10", (false, true)),
        ("-connection_limit:*", (false, true)),
        ("labels.tier != silver", (true, false)),
        ("NOT labels.tier = silver", (true, true)),
        ("expire_time > 2000-01-01T00:00:00Z", (true, false)),
        ("owner != nobody", (true, true)),
    ] {
        assert_eq!(both(filter), expected, "{filter}");
    }
}

#[test]
fn or_binds_tighter_than_and_and_a_space_is_an_and() {
    for (filter, same) in [
        ("a b AND c AND d", "(a b) AND c AND d"),
        ("New York Giants OR Yankees", "New York (Giants OR Yankees)"),
        ("a OR b AND c OR d", "(a OR b) AND (c OR d)"),
        ("a AND b OR c AND d", "a AND (b OR c) AND d"),
        ("NOT a OR b", "(NOT a) OR b"),
        ("-a b", "(NOT a) AND b"),
        ("NOT(a OR b)", "NOT (a OR b)"),
        ("owner = (x OR y)", "owner = x OR owner = y"),
        ("owner:(x AND -y)", "owner:x AND NOT owner:y"),
        ("\n a\tAND\n(b)", "a AND b"),
        ("owner:x", "owner : x"),
    ] {
        assert_eq!(parser::parse(filter).unwrap(), parser::parse(same).unwrap(), "{filter}");
    }
    let loose = parser::parse("(a AND b) OR c").unwrap();
    assert_ne!(parser::parse("a AND b OR c").unwrap(), loose);
}

#[test]
fn a_bare_text_is_looked_for_in_the_searched_fields() {
    for (filter, expected) in [
        ("CONTOSO", (true, false)),
        ("fabrikam.org", (false, true)),
        ("bücher", (true, false)),
        ("\"legal dep\"", (true, false)),
        ("hara", (true, false)),
        ("proxy.con", (true, false)),
        ("\"\\*\"", (true, false)),
        ("legal contoso -fabrikam", (true, false)),
        ("gold", (false, false)),
        ("\"suspended\"", (false, false)),
    ] {
        assert_eq!(both(filter), expected, "{filter}");
    }
}

#[test]
fn roles_are_filtered_by_what_they_allow() {
    let ids = |filter: &str| -> Vec<String> {
        let roles = built_in_roles().into_iter().filter(|role| matches(filter, role));
        roles.map(|role| role.id.to_string()).collect()
    };
    assert_eq!(ids("permissions:\"allowedPartners.update\""), ["admin", "operator"]);
    assert_eq!(ids("permissions:allowedPartners.delete"), ["admin"]);
    assert_eq!(ids("permissions:\"*.delete\""), ["admin"]);
    assert_eq!(ids("updatable_fields:suspended"), ["operator"]);
    assert_eq!(ids("updatable_fields:*"), ["operator"]);
    assert_eq!(ids("name = \"roles/helpdesk\""), ["helpdesk"]);
    assert_eq!(ids("lync_role = \"\""), ["auditor", "sync-agent"]);
    assert_eq!(ids("built_in = false"), [""; 0]);
    assert_eq!(ids("domain_scopes:*"), [""; 0]);
    assert_eq!(ids("csview"), ["viewer"]);
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_a_remedy() {
    for (filter, place, words) in [
        ("bogus = 1", 1, "there is no field `bogus`; the fields are name, uid,"),
        ("owner = x AND labels.`a`.b = 1", 15, "`labels.a.b` goes too deep; compare `labels`"),
        ("owner.first = x", 1, "compare `owner`"),
        ("connection_limit = many", 1, "compared with a whole number, not many"),
        ("connection_limit = 1.5", 1, "a whole number, not 1.5"),
        ("connection_limit = \"*\"", 1, "a whole number"),
        ("suspended = yes", 1, "true or false, not yes"),
        ("suspended > false", 1, "has no order"),
        ("partner_type = federated", 1, "one of PUBLIC_UNVERIFIED, PUBLIC_VERIFIED, FEDERATED"),
        ("partner_type < FEDERATED", 1, "has no order"),
        ("negotiation_methods = SASL_OVER_TLS", 1, "ask with `:`"),
        ("additional_domains = a.example", 1, "ask with `:`"),
        ("labels = tier", 1, "ask with `:`"),
        ("warnings:PUBLIC_SUFFIX", 1, "compare its members"),
        ("expire_time < 2027-01-01", 1, "RFC 3339"),
        ("name = contoso", 1, "single label"),
        ("additional_domains:\"a b.example\"", 1, "not a valid domain name"),
        ("owner > \"a*\"", 1, "has no place in an order"),
        ("suspended", 1, "is a field; compare it"),
        ("warnings.code", 1, "is a field; compare it"),
        ("owner = a and owner = b", 11, "write AND in capitals"),
        ("owner = a or owner = b", 11, "write OR in capitals"),
        ("not owner = a", 1, "write NOT in capitals"),
        ("owner == a", 7, "write `=`"),
        ("owner ! a", 7, "write `!=`"),
        ("owner = a && owner = b", 11, "write AND or OR"),
        ("owner = NOT", 9, "NOT stands where a value should"),
        ("AND a", 1, "AND stands where a field or a text should"),
        ("NOT NOT a", 5, "NOT stands where"),
        ("--a", 2, "after at most one negation"),
        ("a AND", 6, "the filter ends where"),
        ("a OR", 5, "the filter ends where"),
        ("owner =", 8, "the filter ends where"),
        ("(a", 1, "never closed"),
        ("a)", 2, "has no `(`"),
        ("()", 2, "`)` stands where"),
        ("owner = \"a", 9, "a closing \" is missing"),
        ("labels.`a = x", 8, "a closing ` is missing"),
        (r#"owner = "a\n""#, 11, "after a backslash only"),
        ("münchen = \"a\"b", 14, "stands where"),
        ("cohort(owner)", 1, "functions are not supported"),
        ("owner = cohort(x)", 15, "functions are not supported"),
        ("owner != (a OR b)", 10, "takes one value"),
        ("owner = (a OR uid = b)", 15, "only values"),
        ("own*r = a", 1, "`*` cannot stand in a field's name"),
        ("owner..x = a", 7, "`.` stands where"),
    ] {
        let found = refusal::<AllowedPartner>(filter);
        let at = format!("at character {place}: ");
        assert!(found.starts_with(&at) && found.contains(words), "{filter}: {found}");
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_costs_anything() {
    let depth = |count: usize| format!("{}a{}", "(".repeat(count), ")".repeat(count));
    assert!(Filter::<Role>::parse(&depth(MAX_FILTER_DEPTH)).is_ok());
    assert!(refusal::<Role>(&depth(MAX_FILTER_DEPTH + 1)).contains("nested"));
    assert!(refusal::<Role>(&"(".repeat(MAX_FILTER_BYTES)).contains("nested"));
    assert!(refusal::<Role>(&"NOT ".repeat(1_000)).contains("NOT stands"));
    let terms = |count: usize| "a ".repeat(count);
    assert!(Filter::<Role>::parse(&terms(MAX_FILTER_TERMS)).is_ok());
    assert!(refusal::<Role>(&terms(MAX_FILTER_TERMS + 1)).contains("ask in parts"));
    assert!(Filter::<Role>::parse(&"x".repeat(MAX_FILTER_BYTES)).is_ok());
    assert!(refusal::<Role>(&"x".repeat(MAX_FILTER_BYTES + 1)).contains("4097 bytes"));
}

#[test]
fn an_order_sorts_by_its_fields_and_then_by_name() {
    let limited = |name: &str, limit: Option<i32>, partner_type: PartnerType| {
        partner(name, Terms { connection_limit: limit, partner_type, ..Terms::default() })
    };
    let partners = [
        limited("b.example", Some(5), PartnerType::Federated),
        limited("a.example", Some(7), PartnerType::Federated),
        limited("d.example", None, PartnerType::PublicVerified),
        limited("c.example", Some(5), PartnerType::PublicVerified),
    ];
    for (order, expected) in [
        ("", "a b c d"),
        ("name", "a b c d"),
        ("name desc", "d c b a"),
        ("connection_limit", "d b c a"),
        (" connection_limit  desc ", "a b c d"),
        ("partner_type desc , connection_limit asc", "b a d c"),
        ("partner_type, name desc", "d c b a"),
        ("suspended", "a b c d"),
    ] {
        let order_by = OrderBy::<AllowedPartner>::parse(order).unwrap();
        let mut sorted = partners.to_vec();
        sorted.sort_by(|a, b| order_by.compare(a, b));
        let names: Vec<_> = sorted.iter().map(|partner| &partner.domain.as_str()[..1]).collect();
        assert_eq!(names.join(" "), expected, "{order}");
    }
}

#[test]
fn only_an_order_that_begins_with_the_name_is_by_name() {
    for (order, by_name) in
        [("", true), ("name", true), ("name, owner", true), ("name desc", false), ("owner", false)]
    {
        let order_by = OrderBy::<AllowedPartner>::parse(order).unwrap();
        assert_eq!(order_by.is_by_name(), by_name, "{order}");
        assert_eq!(order_by.as_str(), order);
    }
    let order_by = OrderBy::<AllowedPartner>::default();
    assert!(order_by.is_by_name());
    assert_eq!(order_by.compare(&contoso(), &fabrikam()), Ordering::Less);
}

#[test]
fn a_wrong_order_is_refused_with_its_place_and_a_remedy() {
    for (order, place, words) in [
        ("bogus", 1, "there is no field `bogus`; sort by name, uid, description, partner_type,"),
        ("owner,  labels", 9, "holds several values"),
        ("labels.tier", 1, "there is no field"),
        ("owner, owner desc", 7, "twice"),
        ("owner,", 7, "a field is missing"),
        ("owner DESC", 1, "put commas between"),
        ("owner uid", 1, "put commas between"),
    ] {
        let violation = OrderBy::<AllowedPartner>::parse(order).err().unwrap();
        let at = format!("at character {place}: ");
        let found = violation.description;
        assert_eq!(violation.field, "order_by");
        assert!(found.starts_with(&at) && found.contains(words), "{order}: {found}");
    }
}

/// Something with the types that neither partners nor roles have.
struct Lag(Option<SignedDuration>);

impl Filterable for Lag {
    const FIELDS: &'static [Field<Self>] = &[
        Field::new("name", Kind::Text(TextForm::Plain, |_| "lags/1".into())),
        Field::new("behind", Kind::Duration(|lag| lag.0)),
    ];
}

#[test]
fn durations_are_seconds_with_at_most_nine_digits_behind_the_point() {
    let lag = Lag(Some(SignedDuration::from_millis(-1_500)));
    for (filter, expected) in [
        ("behind = -1.5s", true),
        ("behind = \"-1.500000000s\"", true),
        ("behind < -1s", true),
        ("behind > -1.499999999s", false),
        ("behind < 20s", true),
    ] {
        assert_eq!(matches(filter, &lag), expected, "{filter}");
        assert!(!matches(filter, &Lag(None)), "{filter}");
    }
    for filter in ["behind = 20", "behind = 1.s", "behind = .5s", "behind = 1.0000000001s"] {
        assert!(refusal::<Lag>(filter).contains("20s or 1.5s"), "{filter}");
    }
}

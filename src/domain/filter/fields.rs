//! The fields of partners, roles and replicas, as the API names them.

use std::borrow::Cow;

use jiff::SignedDuration;

use super::schema::{EnumNames, Field, Filterable, Kind, TextForm};
use crate::domain::{
    mask::Maskable,
    negotiation::{Negotiation, NegotiationMethod, NegotiationWarning},
    partner::{AllowedPartner, PartnerType, Warning},
    replica::{self, ServerKind},
    revocation::{Revocation, Target},
    role::{DomainScope, Role},
};

const PARTNER_TYPES: EnumNames = EnumNames {
    prefix: "PARTNER_TYPE_",
    short: &["PUBLIC_UNVERIFIED", "PUBLIC_VERIFIED", "FEDERATED"],
};

const fn partner_type(value: PartnerType) -> u8 {
    match value {
        PartnerType::PublicUnverified => 0,
        PartnerType::PublicVerified => 1,
        PartnerType::Federated => 2,
    }
}

const NEGOTIATIONS: EnumNames =
    EnumNames { prefix: "NEGOTIATION_", short: &["REQUIRED", "OPTIONAL", "NOT_SUPPORTED"] };

const fn negotiation(value: Negotiation) -> u8 {
    match value {
        Negotiation::Required => 0,
        Negotiation::Optional => 1,
        Negotiation::NotSupported => 2,
    }
}

const NEGOTIATION_METHODS: EnumNames = EnumNames {
    prefix: "NEGOTIATION_METHOD_",
    short: &["SASL_OVER_TLS", "DIALBACK_OVER_TLS", "DIALBACK_OVER_TCP"],
};

const fn negotiation_method(value: NegotiationMethod) -> u8 {
    match value {
        NegotiationMethod::SaslOverTls => 0,
        NegotiationMethod::DialbackOverTls => 1,
        NegotiationMethod::DialbackOverTcp => 2,
    }
}

const WARNING_CODES: EnumNames =
    EnumNames { prefix: "CODE_", short: &["DIALBACK_UNUSED", "SASL_NEEDS_TLS", "PUBLIC_SUFFIX"] };

const fn warning_code(warning: &Warning) -> u8 {
    match warning {
        Warning::Negotiation(NegotiationWarning::DialbackUnused) => 0,
        Warning::Negotiation(NegotiationWarning::SaslNeedsTls) => 1,
        Warning::PublicSuffix(_) => 2,
    }
}

/// The values at these places, as a set.
fn set_of(places: impl Iterator<Item = u8>) -> u64 {
    places.fold(0, |set, place| set | 1 << place)
}

impl Filterable for AllowedPartner {
    const FIELDS: &'static [Field<Self>] = &[
        Field::searched(
            "name",
            Kind::Text(TextForm::DomainName("allowedPartners/"), |p| {
                Cow::Borrowed(p.domain.as_str())
            }),
        ),
        Field::new("uid", Kind::Text(TextForm::Plain, |p| Cow::Owned(p.uid.to_string()))),
        Field::searched(
            "description",
            Kind::Text(TextForm::Plain, |p| Cow::Borrowed(&p.terms.description)),
        ),
        Field::searched(
            "additional_domains",
            Kind::Texts(TextForm::Domain, |p, ask| {
                p.terms.additional_domains.iter().any(|domain| ask(domain.as_str()))
            }),
        ),
        Field::new(
            "partner_type",
            Kind::Enum(&PARTNER_TYPES, |p| partner_type(p.terms.partner_type)),
        ),
        Field::searched(
            "proxy_fqdn",
            Kind::Text(TextForm::Domain, |p| {
                Cow::Borrowed(p.terms.proxy_fqdn.as_ref().map_or("", |host| host.as_str()))
            }),
        ),
        Field::new("connection_limit", Kind::Number(|p| p.terms.connection_limit.map(i64::from))),
        Field::new("keep_alive_enabled", Kind::Bool(|p| p.terms.keep_alive_enabled)),
        Field::new(
            "tls_negotiation",
            Kind::Enum(&NEGOTIATIONS, |p| negotiation(p.terms.tls_negotiation)),
        ),
        Field::new(
            "sasl_negotiation",
            Kind::Enum(&NEGOTIATIONS, |p| negotiation(p.terms.sasl_negotiation)),
        ),
        Field::new("dialback_enabled", Kind::Bool(|p| p.terms.dialback_enabled)),
        Field::new(
            "negotiation_methods",
            Kind::Enums(&NEGOTIATION_METHODS, |p| {
                set_of(p.terms.negotiation_methods().iter().copied().map(negotiation_method))
            }),
        ),
        Field::new("warnings", Kind::Messages(|p| !p.warnings().is_empty())),
        Field::new(
            "warnings.code",
            Kind::Enums(&WARNING_CODES, |p| set_of(p.warnings().iter().map(warning_code))),
        ),
        Field::new("suspended", Kind::Bool(|p| p.terms.suspended)),
        Field::new("expire_time", Kind::Time(|p| p.terms.expire_time)),
        Field::new("review_time", Kind::Time(|p| p.terms.review_time)),
        Field::searched("owner", Kind::Text(TextForm::Plain, |p| Cow::Borrowed(&p.terms.owner))),
        Field::new(
            "labels",
            Kind::Map {
                value: |p, key| p.terms.labels.get(key),
                keys: |p, ask| p.terms.labels.keys().any(ask),
            },
        ),
        Field::new("create_time", Kind::Time(|p| Some(p.create_time))),
        Field::new("update_time", Kind::Time(|p| Some(p.update_time))),
        Field::new("creator", Kind::Text(TextForm::Plain, |p| Cow::Borrowed(&p.creator))),
        Field::new("updater", Kind::Text(TextForm::Plain, |p| Cow::Borrowed(&p.updater))),
        Field::new("revision", Kind::Number(|p| Some(p.revision.as_i64()))),
        Field::new(
            "etag",
            Kind::Text(TextForm::Plain, |p| Cow::Owned(p.etag().as_str().to_owned())),
        ),
        Field::new("delete_time", Kind::Time(|p| p.delete_time)),
        Field::new("expired", Kind::Bool(|p| p.expired)),
    ];
}

impl Filterable for Role {
    const FIELDS: &'static [Field<Self>] = &[
        Field::searched("name", Kind::Text(TextForm::Name("roles/"), |r| Cow::Borrowed(&r.id))),
        Field::searched(
            "description",
            Kind::Text(TextForm::Plain, |r| Cow::Borrowed(&r.terms.description)),
        ),
        Field::new("built_in", Kind::Bool(Role::is_built_in)),
        Field::searched(
            "permissions",
            Kind::Texts(TextForm::Plain, |r, ask| {
                r.terms.permissions.iter().any(|permission| ask(permission.as_str()))
            }),
        ),
        Field::new(
            "domain_scopes",
            Kind::Texts(TextForm::Plain, |r, ask| {
                r.terms.domain_scopes.iter().any(|scope| match scope {
                    DomainScope::Exactly(domain) => ask(domain.as_str()),
                    DomainScope::Below(_) => ask(&scope.to_string()),
                })
            }),
        ),
        Field::new(
            "updatable_fields",
            Kind::Texts(TextForm::Plain, |r, ask| {
                r.terms.updatable_fields.into_iter().flatten().any(|field| ask(field.path()))
            }),
        ),
        Field::searched("lync_role", Kind::Text(TextForm::Plain, |r| Cow::Borrowed(r.lync_role()))),
        Field::new(
            "template",
            Kind::Text(TextForm::Name("roles/"), |r| {
                Cow::Borrowed(r.record().map_or("", |record| &record.template))
            }),
        ),
        Field::new("create_time", Kind::Time(|r| r.record().map(|record| record.create_time))),
        Field::new("update_time", Kind::Time(|r| r.record().map(|record| record.update_time))),
        Field::new(
            "creator",
            Kind::Text(TextForm::Plain, |r| {
                Cow::Borrowed(r.record().map_or("", |record| &record.creator))
            }),
        ),
        Field::new(
            "updater",
            Kind::Text(TextForm::Plain, |r| {
                Cow::Borrowed(r.record().map_or("", |record| &record.updater))
            }),
        ),
        Field::new("revision", Kind::Number(|r| r.record().map(|record| record.revision.as_i64()))),
        Field::new(
            "uid",
            Kind::Text(TextForm::Plain, |r| {
                Cow::Owned(r.record().map_or_else(String::new, |record| record.uid.to_string()))
            }),
        ),
        Field::new(
            "etag",
            Kind::Text(TextForm::Plain, |r| {
                Cow::Owned(r.etag().map_or_else(String::new, |etag| etag.to_string()))
            }),
        ),
    ];
}

const TARGETS: EnumNames = EnumNames { prefix: "TARGET_", short: &["TOKEN", "SUBJECT", "KEY"] };

/// What is revoked, as one of three kinds, and its id.
fn target(revocation: &Revocation) -> (u8, &str) {
    match &revocation.target {
        Target::Token { token_id, .. } => (0, token_id),
        Target::Subject { subject, .. } => (1, subject),
        Target::Key { key_id, .. } => (2, key_id),
    }
}

/// The id of what is revoked, if it is of this kind.
fn target_of_kind(revocation: &Revocation, wanted: u8) -> Cow<'_, str> {
    match target(revocation) {
        (kind, id) if kind == wanted => Cow::Borrowed(id),
        _ => Cow::Borrowed(""),
    }
}

impl Filterable for Revocation {
    const FIELDS: &'static [Field<Self>] = &[
        Field::searched(
            "name",
            Kind::Text(TextForm::Name("revocations/"), |r| Cow::Owned(r.id.to_string())),
        ),
        Field::new("target", Kind::Enum(&TARGETS, |r| target(r).0)),
        Field::searched(
            "issuer",
            Kind::Text(TextForm::Plain, |r| Cow::Borrowed(r.target.issuer())),
        ),
        Field::searched("token_id", Kind::Text(TextForm::Plain, |r| target_of_kind(r, 0))),
        Field::searched("subject", Kind::Text(TextForm::Plain, |r| target_of_kind(r, 1))),
        Field::searched("key_id", Kind::Text(TextForm::Plain, |r| target_of_kind(r, 2))),
        Field::searched("reason", Kind::Text(TextForm::Plain, |r| Cow::Borrowed(&r.reason))),
        Field::new("creator", Kind::Text(TextForm::Plain, |r| Cow::Borrowed(&r.creator))),
        Field::new("create_time", Kind::Time(|r| Some(r.create_time))),
        Field::new("expire_time", Kind::Time(|r| r.expire_time)),
        Field::new("revision", Kind::Number(|r| Some(r.revision.as_i64()))),
    ];
}

const REPLICA_STATES: EnumNames =
    EnumNames { prefix: "STATE_", short: &["UP_TO_DATE", "BEHIND", "REJECTING", "SILENT"] };

const fn replica_state(value: replica::State) -> u8 {
    match value {
        replica::State::UpToDate => 0,
        replica::State::Behind => 1,
        replica::State::Rejecting => 2,
        replica::State::Silent => 3,
    }
}

const SERVER_KINDS: EnumNames =
    EnumNames { prefix: "SERVER_KIND_", short: &["PROSODY", "EJABBERD", "FILE"] };

const fn server_kind(value: ServerKind) -> u8 {
    match value {
        ServerKind::Prosody => 0,
        ServerKind::Ejabberd => 1,
        ServerKind::File => 2,
    }
}

impl Filterable for replica::View {
    const FIELDS: &'static [Field<Self>] = &[
        Field::searched(
            "name",
            Kind::Text(TextForm::Name("replicas/"), |v| Cow::Borrowed(v.replica.id.as_str())),
        ),
        Field::new("state", Kind::Enum(&REPLICA_STATES, |v| replica_state(v.state))),
        Field::new("revisions_behind", Kind::Number(|v| i64::try_from(v.behind).ok())),
        Field::new(
            "silent_since_time",
            Kind::Time(|v| {
                (v.state == replica::State::Silent).then_some(v.replica.last_report_time)
            }),
        ),
        Field::new("issuer", Kind::Text(TextForm::Plain, |v| Cow::Borrowed(&v.replica.issuer))),
        Field::searched(
            "subject",
            Kind::Text(TextForm::Plain, |v| Cow::Borrowed(&v.replica.subject)),
        ),
        Field::new("first_report_time", Kind::Time(|v| Some(v.replica.first_report_time))),
        Field::new("last_report_time", Kind::Time(|v| Some(v.replica.last_report_time))),
        Field::new(
            "last_rejection.revision",
            Kind::Number(|v| v.replica.last_rejection.as_ref().map(|it| it.revision.as_i64())),
        ),
        Field::new(
            "last_rejection.reject_time",
            Kind::Time(|v| v.replica.last_rejection.as_ref().and_then(|it| it.time)),
        ),
        Field::new(
            "data_age",
            Kind::Duration(|v| v.data_age.and_then(|age| SignedDuration::try_from(age).ok())),
        ),
        Field::new(
            "report.server_kind",
            Kind::Enum(&SERVER_KINDS, |v| server_kind(v.report.server_kind)),
        ),
        Field::searched(
            "report.server_version",
            Kind::Text(TextForm::Plain, |v| Cow::Borrowed(&v.report.server_version)),
        ),
        Field::new(
            "report.module_version",
            Kind::Text(TextForm::Plain, |v| Cow::Borrowed(&v.report.module_version)),
        ),
        Field::new(
            "report.agent_version",
            Kind::Text(TextForm::Plain, |v| Cow::Borrowed(&v.report.agent_version)),
        ),
        Field::searched(
            "report.host_name",
            Kind::Text(TextForm::Plain, |v| Cow::Borrowed(&v.report.host_name)),
        ),
        Field::new("report.applied_revision", Kind::Number(|v| Some(v.report.applied.as_i64()))),
        Field::new("report.session_count", Kind::Number(|v| Some(v.report.live.session_count))),
        Field::new("report.sessions", Kind::Messages(|v| !v.report.live.sessions.is_empty())),
        Field::new(
            "report.sessions.domain",
            Kind::Texts(TextForm::Domain, |v, ask| {
                v.report.live.sessions.iter().any(|sessions| ask(&sessions.domain))
            }),
        ),
        Field::new(
            "report.unenforced_properties",
            Kind::Messages(|v| !v.report.live.unenforced.is_empty()),
        ),
        Field::new(
            "report.unenforced_properties.property",
            Kind::Texts(TextForm::Plain, |v, ask| {
                v.report.live.unenforced.iter().any(|unenforced| ask(&unenforced.property))
            }),
        ),
        Field::searched(
            "report.warnings",
            Kind::Texts(TextForm::Plain, |v, ask| {
                v.report.live.warnings.iter().any(|warning| ask(warning))
            }),
        ),
        Field::new("report.stale", Kind::Bool(|v| v.report.live.stale)),
    ];
}

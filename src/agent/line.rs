//! The lines of the data file: a partner, the settings, as `docs/enforcement.md` defines them.

use prost_types::{Duration, Timestamp};
use serde::Serialize;

use super::Rendered;
use crate::{
    domain::DomainName,
    proto::v1::{
        AllowedPartner, FederationMode, FederationSettings, NegotiationMethod, PartnerType,
        StalenessPolicy,
    },
};

/// What a domain without a line must do, where such domains are let in: the service's defaults.
const UNLISTED_METHODS: [&str; 1] = ["SASL_OVER_TLS"];

/// The settings' line. The order of the fields is part of the format.
#[derive(Serialize)]
struct SettingsLine<'a> {
    mode: &'static str,
    connection_limit: i32,
    partner_connection_limit: i32,
    keep_alive_interval: i64,
    stream_establishment_timeout: i64,
    stream_inactivity_timeout: i64,
    subscription_refresh_interval: i64,
    message_body_logging_enabled: bool,
    unlisted_methods: [&'static str; 1],
    staleness_lease: i64,
    staleness_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialback_passphrase: Option<&'a str>,
}

/// A partner's line. The order of the fields is part of the format.
#[derive(Serialize)]
struct PartnerLine<'a> {
    domain: &'a str,
    names: Vec<String>,
    methods: Vec<&'static str>,
    partner_type: &'static str,
    keep_alive_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_limit: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    proxy_fqdn: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    suspended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<i64>,
}

/// The primary domain of a partner.
pub fn domain(partner: &AllowedPartner) -> &str {
    partner.name.strip_prefix("allowedPartners/").unwrap_or(&partner.name)
}

/// A partner's line, without its end.
pub fn partner(partner: &AllowedPartner) -> Rendered<String> {
    let mut methods = partner.negotiation_methods().filter_map(method).collect::<Vec<_>>();
    // What is not understood is not let in.
    let understood = !methods.is_empty();
    if !understood {
        methods = UNLISTED_METHODS.to_vec();
    }
    json(&PartnerLine {
        domain: domain(partner),
        names: names(partner),
        methods,
        partner_type: partner_type(partner.partner_type()),
        keep_alive_enabled: partner.keep_alive_enabled(),
        connection_limit: partner.connection_limit,
        proxy_fqdn: &partner.proxy_fqdn,
        suspended: partner.suspended || !understood,
        expire_time: partner.expire_time.as_ref().map(rounded_down),
    })
}

/// The settings' line, without its end. `passphrase` names the file that holds it.
pub fn settings(settings: &FederationSettings, passphrase: Option<&str>) -> Rendered<String> {
    json(&SettingsLine {
        mode: mode(settings.mode()),
        connection_limit: settings.connection_limit,
        partner_connection_limit: settings.partner_connection_limit,
        keep_alive_interval: seconds(settings.keep_alive_interval.as_ref()),
        stream_establishment_timeout: seconds(settings.stream_establishment_timeout.as_ref()),
        stream_inactivity_timeout: seconds(settings.stream_inactivity_timeout.as_ref()),
        subscription_refresh_interval: seconds(settings.subscription_refresh_interval.as_ref()),
        message_body_logging_enabled: settings.message_body_logging_enabled,
        unlisted_methods: UNLISTED_METHODS,
        staleness_lease: seconds(settings.staleness_lease.as_ref()),
        staleness_policy: policy(settings.staleness_policy()),
        dialback_passphrase: passphrase,
    })
}

/// Every name by which a server may see the partner: A-labels, and U-labels where they differ.
pub fn names(partner: &AllowedPartner) -> Vec<String> {
    let mut names = Vec::with_capacity(1 + partner.additional_domains.len());
    for name in std::iter::once(domain(partner))
        .chain(partner.additional_domains.iter().map(String::as_str))
    {
        names.push(name.to_owned());
        if let Some(unicode) = unicode(name) {
            names.push(unicode);
        }
    }
    names
}

/// The name in U-labels, if it is another one then.
fn unicode(name: &str) -> Option<String> {
    // Names without an encoded label are most of them, and the same in both forms.
    if !name.contains("xn--") {
        return None;
    }
    DomainName::from_stored(name).map(|name| name.to_unicode()).filter(|unicode| unicode != name)
}

fn json(line: &impl Serialize) -> Rendered<String> {
    serde_json::to_string(line).map_err(|error| format!("a line cannot be written: {error}"))
}

/// At least a second: the format knows no shorter times.
fn seconds(time: Option<&Duration>) -> i64 {
    time.map_or(1, |time| time.seconds.max(1))
}

/// Never later than it was meant.
const fn rounded_down(time: &Timestamp) -> i64 {
    time.seconds
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

const fn method(method: NegotiationMethod) -> Option<&'static str> {
    match method {
        NegotiationMethod::Unspecified => None,
        NegotiationMethod::SaslOverTls => Some("SASL_OVER_TLS"),
        NegotiationMethod::DialbackOverTls => Some("DIALBACK_OVER_TLS"),
        NegotiationMethod::DialbackOverTcp => Some("DIALBACK_OVER_TCP"),
    }
}

const fn partner_type(kind: PartnerType) -> &'static str {
    match kind {
        PartnerType::Unspecified | PartnerType::PublicUnverified => "PUBLIC_UNVERIFIED",
        PartnerType::PublicVerified => "PUBLIC_VERIFIED",
        PartnerType::Federated => "FEDERATED",
    }
}

const fn mode(mode: FederationMode) -> &'static str {
    match mode {
        FederationMode::AllowListed => "ALLOW_LISTED",
        FederationMode::AllowAllExceptSuspended => "ALLOW_ALL_EXCEPT_SUSPENDED",
        FederationMode::Unspecified | FederationMode::DenyAll => "DENY_ALL",
    }
}

const fn policy(policy: StalenessPolicy) -> &'static str {
    match policy {
        StalenessPolicy::Unspecified | StalenessPolicy::Keep => "KEEP",
        StalenessPolicy::DenyAll => "DENY_ALL",
    }
}

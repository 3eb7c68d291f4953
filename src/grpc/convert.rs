//! Domain to wire.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    domain::{
        AllowedPartner, Terms,
        mask::Maskable as _,
        negotiation::{Negotiation, NegotiationMethod, NegotiationWarning},
        partner::{PartnerType, Warning},
        revocation::{Revocation, Target},
        role::{Role, RoleRecord, RoleTerms},
        settings::{FederationMode, FederationSettings, SettingsValues, StalenessPolicy},
    },
    proto::v1 as pb,
    registry::snapshot::{Decision, DenialReason},
};

/// What the resource name of a partner begins with; its domain follows.
pub const PARTNER_PREFIX: &str = "allowedPartners/";

/// The resource name of a partner.
pub fn partner_name(partner: &AllowedPartner) -> String {
    format!("{PARTNER_PREFIX}{}", partner.domain)
}

/// A partner, with what is derived from it.
pub fn partner(partner: &AllowedPartner) -> pb::AllowedPartner {
    let methods = partner.terms.negotiation_methods();
    pb::AllowedPartner {
        negotiation_methods: methods.iter().map(|method| wire_method(*method) as i32).collect(),
        warnings: partner.warnings().into_iter().map(wire_warning).collect(),
        etag: partner.etag().to_string(),
        ..stored_partner(partner)
    }
}

/// A partner, without what is derived from it.
pub fn stored_partner(partner: &AllowedPartner) -> pb::AllowedPartner {
    // Exhaustive, here and below: a new field must be converted before this compiles.
    let AllowedPartner {
        domain: _,
        uid,
        terms,
        create_time,
        update_time,
        creator,
        updater,
        revision,
        delete_time,
        expired,
    } = partner;
    let Terms {
        description,
        additional_domains,
        partner_type,
        proxy_fqdn,
        connection_limit,
        keep_alive_enabled,
        tls_negotiation,
        sasl_negotiation,
        dialback_enabled,
        suspended,
        expire_time,
        review_time,
        owner,
        labels,
    } = terms;
    pb::AllowedPartner {
        name: partner_name(partner),
        uid: uid.to_string(),
        description: description.clone(),
        additional_domains: additional_domains.iter().map(ToString::to_string).collect(),
        partner_type: wire_partner_type(*partner_type).into(),
        proxy_fqdn: proxy_fqdn.as_ref().map_or_else(String::new, ToString::to_string),
        connection_limit: *connection_limit,
        keep_alive_enabled: Some(*keep_alive_enabled),
        tls_negotiation: wire_negotiation(*tls_negotiation).into(),
        sasl_negotiation: wire_negotiation(*sasl_negotiation).into(),
        dialback_enabled: Some(*dialback_enabled),
        negotiation_methods: Vec::new(),
        warnings: Vec::new(),
        suspended: *suspended,
        expire_time: expire_time.map(timestamp),
        review_time: review_time.map(timestamp),
        owner: owner.to_string(),
        labels: labels.into(),
        create_time: Some(timestamp(*create_time)),
        update_time: Some(timestamp(*update_time)),
        creator: creator.to_string(),
        updater: updater.to_string(),
        revision: revision.as_i64(),
        etag: String::new(),
        delete_time: delete_time.map(timestamp),
        expired: *expired,
    }
}

/// The resource name of the settings.
pub const SETTINGS_NAME: &str = "federationSettings";

/// The settings' secret, for those who may have it; empty if none is set.
pub fn dialback_passphrase(settings: &FederationSettings) -> String {
    let passphrase = settings.values.dialback_passphrase.as_ref();
    passphrase.map_or_else(String::new, |secret| secret.expose().to_owned())
}

/// The settings, without their secret.
pub fn settings(settings: &FederationSettings) -> pb::FederationSettings {
    let FederationSettings { values, update_time, updater, revision } = settings;
    let SettingsValues {
        mode,
        connection_limit,
        partner_connection_limit,
        keep_alive_interval,
        stream_establishment_timeout,
        stream_inactivity_timeout,
        subscription_refresh_interval,
        message_body_logging_enabled,
        staleness_lease,
        staleness_policy,
        dialback_passphrase,
    } = values;
    pb::FederationSettings {
        name: SETTINGS_NAME.into(),
        mode: wire_mode(*mode).into(),
        connection_limit: *connection_limit,
        partner_connection_limit: *partner_connection_limit,
        keep_alive_interval: Some(duration(*keep_alive_interval)),
        stream_establishment_timeout: Some(duration(*stream_establishment_timeout)),
        stream_inactivity_timeout: Some(duration(*stream_inactivity_timeout)),
        subscription_refresh_interval: Some(duration(*subscription_refresh_interval)),
        message_body_logging_enabled: *message_body_logging_enabled,
        staleness_lease: Some(duration(*staleness_lease)),
        staleness_policy: self::staleness_policy(*staleness_policy).into(),
        dialback_passphrase: String::new(),
        dialback_passphrase_set: dialback_passphrase.is_some(),
        update_time: update_time.map(timestamp),
        updater: updater.to_string(),
        revision: revision.as_i64(),
        etag: settings.etag().to_string(),
    }
}

/// A role.
pub fn role(role: &Role) -> pb::Role {
    let Role { id, terms, origin: _ } = role;
    let RoleTerms { description, permissions, domain_scopes, updatable_fields } = terms;
    let mut permissions: Vec<_> =
        permissions.iter().map(|permission| permission.to_string()).collect();
    permissions.sort_unstable();
    let wire = pb::Role {
        name: role_name(id),
        description: description.clone(),
        built_in: role.is_built_in(),
        permissions,
        domain_scopes: domain_scopes.iter().map(ToString::to_string).collect(),
        updatable_fields: updatable_fields
            .iter()
            .flat_map(|fields| fields.iter())
            .map(|field| field.path().to_owned())
            .collect(),
        lync_role: role.lync_role().to_owned(),
        etag: role.etag().map_or_else(String::new, |etag| etag.to_string()),
        ..pb::Role::default()
    };
    let Some(record) = role.record() else { return wire };
    let RoleRecord { uid, template, create_time, update_time, creator, updater, revision } = record;
    pb::Role {
        template: if template.is_empty() { String::new() } else { role_name(template) },
        uid: uid.to_string(),
        create_time: Some(timestamp(*create_time)),
        update_time: Some(timestamp(*update_time)),
        creator: creator.to_string(),
        updater: updater.to_string(),
        revision: revision.as_i64(),
        ..wire
    }
}

/// The resource name of the role with this id.
pub fn role_name(id: &str) -> String {
    format!("roles/{id}")
}

/// A revocation.
pub fn revocation(revocation: &Revocation) -> pb::Revocation {
    use pb::revocation::Target as Wire;
    let Revocation { id, target, reason, creator, create_time, expire_time, revision } = revocation;
    let wire_target = match target {
        Target::Token { token_id, .. } => Wire::TokenId(token_id.to_string()),
        Target::Subject { subject, .. } => Wire::Subject(subject.to_string()),
        Target::Key { key_id, .. } => Wire::KeyId(key_id.to_string()),
    };
    pb::Revocation {
        name: format!("revocations/{id}"),
        issuer: target.issuer().to_string(),
        target: Some(wire_target),
        reason: reason.to_string(),
        expire_time: expire_time.map(timestamp),
        creator: creator.to_string(),
        create_time: Some(timestamp(*create_time)),
        revision: revision.as_i64(),
    }
}

/// The answer about a domain.
pub fn decision(domain: String, decision: &Decision) -> pb::ResolveDomainResponse {
    use pb::resolve_domain_response::DenialReason as Wire;
    let reason = match decision.denial {
        None => Wire::Unspecified,
        Some(DenialReason::NotListed) => Wire::NotListed,
        Some(DenialReason::Suspended) => Wire::Suspended,
        Some(DenialReason::Expired) => Wire::Expired,
        Some(DenialReason::ModeDenyAll) => Wire::ModeDenyAll,
    };
    pb::ResolveDomainResponse {
        allowed: decision.denial.is_none(),
        denial_reason: reason.into(),
        domain,
        allowed_partner: decision.partner.as_deref().map(partner),
        federation_settings: Some(settings(&decision.settings)),
        effective_connection_limit: decision.connection_limit,
        revision: decision.revision.as_i64(),
    }
}

/// A moment. Every moment that the domain holds fits, since it came from the wire or a clock.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    // The wire counts nanoseconds forward from the second, also before 1970.
    let (seconds, nanos) =
        if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) };
    prost_types::Timestamp { seconds, nanos }
}

/// A span of time.
pub fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

/// How far a partner's users are trusted.
pub const fn wire_partner_type(kind: PartnerType) -> pb::PartnerType {
    match kind {
        PartnerType::PublicUnverified => pb::PartnerType::PublicUnverified,
        PartnerType::PublicVerified => pb::PartnerType::PublicVerified,
        PartnerType::Federated => pb::PartnerType::Federated,
    }
}

/// Whether something is negotiated.
pub const fn wire_negotiation(negotiation: Negotiation) -> pb::Negotiation {
    match negotiation {
        Negotiation::Required => pb::Negotiation::Required,
        Negotiation::Optional => pb::Negotiation::Optional,
        Negotiation::NotSupported => pb::Negotiation::NotSupported,
    }
}

/// A way of authentication.
pub const fn wire_method(method: NegotiationMethod) -> pb::NegotiationMethod {
    match method {
        NegotiationMethod::SaslOverTls => pb::NegotiationMethod::SaslOverTls,
        NegotiationMethod::DialbackOverTls => pb::NegotiationMethod::DialbackOverTls,
        NegotiationMethod::DialbackOverTcp => pb::NegotiationMethod::DialbackOverTcp,
    }
}

const fn wire_mode(mode: FederationMode) -> pb::FederationMode {
    match mode {
        FederationMode::Unspecified => pb::FederationMode::Unspecified,
        FederationMode::AllowListed => pb::FederationMode::AllowListed,
        FederationMode::DenyAll => pb::FederationMode::DenyAll,
        FederationMode::AllowAllExceptSuspended => pb::FederationMode::AllowAllExceptSuspended,
    }
}

/// What a server does once its lease has run out.
pub const fn staleness_policy(policy: StalenessPolicy) -> pb::StalenessPolicy {
    match policy {
        StalenessPolicy::Keep => pb::StalenessPolicy::Keep,
        StalenessPolicy::DenyAll => pb::StalenessPolicy::DenyAll,
    }
}

/// A warning, as people read it.
pub fn wire_warning(warning: Warning) -> pb::PartnerWarning {
    use pb::partner_warning::Code;
    let (code, text, field) = match warning {
        Warning::Negotiation(NegotiationWarning::DialbackUnused) => (
            Code::DialbackUnused,
            "TLS and SASL are both required, so dialback is never used; turn it off, or make SASL \
             optional"
                .to_owned(),
            "dialback_enabled",
        ),
        Warning::Negotiation(NegotiationWarning::SaslNeedsTls) => (
            Code::SaslNeedsTls,
            "SASL runs only inside TLS, which is not required; streams without TLS have no SASL"
                .to_owned(),
            "sasl_negotiation",
        ),
        Warning::PublicSuffix(domain) => (
            Code::PublicSuffix,
            format!("{domain} is a public suffix: names below it belong to other organisations"),
            "",
        ),
    };
    pb::PartnerWarning { code: code.into(), text, field: field.into() }
}

//! Partners of the wire as the model's terms and back, for what is decided without the service:
//! `new --in-memory`, and what an import is told before anything is sent.

use crate::{
    cli::values::{self, from_proto_time, to_proto_time},
    domain::{
        DomainName, Terms, Violation,
        domain_name::DomainSet,
        negotiation::{Negotiation, NegotiationMethod},
        partner::{self, PartnerType},
    },
    proto::v1,
};

/// The domain and the terms of a partner, with every default filled in.
///
/// # Errors
/// Every rule that the partner breaks.
pub fn checked(partner: &v1::AllowedPartner) -> Result<(DomainName, Terms), Vec<Violation>> {
    let (domain, terms) = from_wire(partner)?;
    let broken = terms.violations(&domain);
    if broken.is_empty() { Ok((domain, terms)) } else { Err(broken) }
}

/// The same, without the rules about fields that are each valid in themselves.
///
/// # Errors
/// Every value that the model cannot hold.
pub fn from_wire(partner: &v1::AllowedPartner) -> Result<(DomainName, Terms), Vec<Violation>> {
    let mut broken = Vec::new();
    let domain = parsed(&mut broken, "name", values::domain_of(&partner.name));
    let defaults = Terms::default();
    let terms = Terms {
        description: partner.description.clone(),
        additional_domains: domains(&mut broken, &partner.additional_domains),
        partner_type: partner_type(partner.partner_type()),
        proxy_fqdn: match partner.proxy_fqdn.as_str() {
            "" => None,
            host => parsed(&mut broken, "proxy_fqdn", host),
        },
        connection_limit: partner.connection_limit,
        keep_alive_enabled: partner.keep_alive_enabled.unwrap_or(defaults.keep_alive_enabled),
        tls_negotiation: negotiation(partner.tls_negotiation()),
        sasl_negotiation: negotiation(partner.sasl_negotiation()),
        dialback_enabled: partner.dialback_enabled.unwrap_or(defaults.dialback_enabled),
        suspended: partner.suspended,
        expire_time: partner.expire_time.as_ref().and_then(from_proto_time),
        review_time: partner.review_time.as_ref().and_then(from_proto_time),
        owner: partner.owner.as_str().into(),
        labels: (&partner.labels).into(),
    };
    match domain {
        Some(domain) if broken.is_empty() => Ok((domain, terms)),
        _ => Err(broken),
    }
}

/// The partner that the service would make of these terms, without what only it can give.
pub fn to_wire(domain: &DomainName, terms: &Terms) -> v1::AllowedPartner {
    // Exhaustive: a new term must be shown before this compiles.
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
    } = terms.clone();
    v1::AllowedPartner {
        name: format!("{}{domain}", values::COLLECTION),
        description,
        additional_domains: additional_domains.iter().map(ToString::to_string).collect(),
        partner_type: wire_partner_type(partner_type).into(),
        proxy_fqdn: proxy_fqdn.map(|host| host.to_string()).unwrap_or_default(),
        connection_limit,
        keep_alive_enabled: Some(keep_alive_enabled),
        tls_negotiation: wire_negotiation(tls_negotiation).into(),
        sasl_negotiation: wire_negotiation(sasl_negotiation).into(),
        dialback_enabled: Some(dialback_enabled),
        negotiation_methods: terms
            .negotiation_methods()
            .iter()
            .map(|way| wire_method(*way))
            .collect(),
        suspended,
        expire_time: expire_time.map(to_proto_time),
        review_time: review_time.map(to_proto_time),
        owner: owner.to_string(),
        labels: (&labels).into(),
        ..v1::AllowedPartner::default()
    }
}

fn parsed(broken: &mut Vec<Violation>, field: &str, text: &str) -> Option<DomainName> {
    DomainName::parse(text)
        .map_err(|error| broken.push(Violation::new(field, format!("`{text}`: {error}"))))
        .ok()
}

fn domains(broken: &mut Vec<Violation>, texts: &[String]) -> DomainSet {
    texts.iter().filter_map(|text| parsed(broken, "additional_domains", text)).collect()
}

const fn partner_type(wire: v1::PartnerType) -> PartnerType {
    match wire {
        v1::PartnerType::Unspecified | v1::PartnerType::PublicUnverified => {
            PartnerType::PublicUnverified
        }
        v1::PartnerType::PublicVerified => PartnerType::PublicVerified,
        v1::PartnerType::Federated => PartnerType::Federated,
    }
}

const fn wire_partner_type(kind: PartnerType) -> v1::PartnerType {
    match kind {
        partner::PartnerType::PublicUnverified => v1::PartnerType::PublicUnverified,
        partner::PartnerType::PublicVerified => v1::PartnerType::PublicVerified,
        partner::PartnerType::Federated => v1::PartnerType::Federated,
    }
}

const fn negotiation(wire: v1::Negotiation) -> Negotiation {
    match wire {
        v1::Negotiation::Unspecified | v1::Negotiation::Required => Negotiation::Required,
        v1::Negotiation::Optional => Negotiation::Optional,
        v1::Negotiation::NotSupported => Negotiation::NotSupported,
    }
}

const fn wire_negotiation(rule: Negotiation) -> v1::Negotiation {
    match rule {
        Negotiation::Required => v1::Negotiation::Required,
        Negotiation::Optional => v1::Negotiation::Optional,
        Negotiation::NotSupported => v1::Negotiation::NotSupported,
    }
}

fn wire_method(way: NegotiationMethod) -> i32 {
    match way {
        NegotiationMethod::SaslOverTls => v1::NegotiationMethod::SaslOverTls,
        NegotiationMethod::DialbackOverTls => v1::NegotiationMethod::DialbackOverTls,
        NegotiationMethod::DialbackOverTcp => v1::NegotiationMethod::DialbackOverTcp,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_gets_its_default() {
        let partner =
            v1::AllowedPartner { name: "allowedPartners/A.example".into(), ..Default::default() };
        let (domain, terms) = from_wire(&partner).unwrap();
        assert_eq!(terms, Terms::default());
        let filled = to_wire(&domain, &terms);
        assert_eq!(filled.name, "allowedPartners/a.example");
        assert_eq!(filled.keep_alive_enabled, Some(true));
        assert_eq!(filled.sasl_negotiation(), v1::Negotiation::Required);
        assert_eq!(filled.negotiation_methods, [i32::from(v1::NegotiationMethod::SaslOverTls)]);
        assert_eq!(from_wire(&filled).unwrap(), (domain, terms));
    }

    #[test]
    fn every_broken_rule_is_named() {
        let partner = v1::AllowedPartner {
            name: "allowedPartners/a.example".into(),
            additional_domains: vec!["localhost".into()],
            proxy_fqdn: "*.example".into(),
            ..Default::default()
        };
        let fields = |broken: Vec<Violation>| -> Vec<_> {
            broken.into_iter().map(|broken| broken.field).collect()
        };
        assert_eq!(fields(checked(&partner).unwrap_err()), ["additional_domains", "proxy_fqdn"]);
        let partner = v1::AllowedPartner {
            name: "allowedPartners/a.example".into(),
            connection_limit: Some(0),
            owner: "o".repeat(257),
            ..Default::default()
        };
        assert!(from_wire(&partner).is_ok());
        assert_eq!(fields(checked(&partner).unwrap_err()), ["owner", "connection_limit"]);
    }
}

//! The partners that are made up: about 400 bytes each on the wire, two domains each.

use std::collections::BTreeMap;

use partnerd::proto::v1::{self as pb, Negotiation, PartnerType};

/// One partner in so many has the label that the selective filter asks for.
const GOLD_ONE_IN: u32 = 1_000;

/// The primary domain of a partner. The domains are in no order, so neither is a load.
pub fn domain(number: u32) -> String {
    // Odd, so that no two numbers give the same (Knuth's multiplicative hash).
    let scattered = number.wrapping_mul(2_654_435_761);
    let suffix = ["com", "org", "net", "de", "co.uk"][number as usize % 5];
    format!("partner-{scattered:08x}.{suffix}")
}

/// The additional domain of a partner.
pub fn additional_domain(number: u32) -> String {
    format!("chat.{}", domain(number))
}

/// A domain that no partner has.
pub fn unknown_domain(number: u32) -> String {
    format!("un{}", domain(number))
}

/// A partner as it is sent to be created.
pub fn partner(number: u32) -> pb::AllowedPartner {
    let tier = if number.is_multiple_of(GOLD_ONE_IN) { "gold" } else { "standard" };
    let kind = [PartnerType::Federated, PartnerType::PublicVerified, PartnerType::PublicUnverified]
        [number as usize % 3];
    let tls = if number.is_multiple_of(4) { Negotiation::Optional } else { Negotiation::Required };
    pb::AllowedPartner {
        name: format!("allowedPartners/{}", domain(number)),
        description: format!(
            "Agreement {number:07}, made with the messaging team of the partner; to be looked at \
             again when either side moves to other servers or other domains"
        ),
        additional_domains: vec![additional_domain(number)],
        partner_type: kind.into(),
        connection_limit: number.is_multiple_of(10).then_some(50),
        tls_negotiation: tls.into(),
        sasl_negotiation: Negotiation::Optional.into(),
        owner: format!("owner-{:03}@example.com", number % 500),
        labels: BTreeMap::from([("tier".to_owned(), tier.to_owned())]),
        ..Default::default()
    }
}

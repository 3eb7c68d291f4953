//! A partner straight to bytes, for pages of many.
//!
//! What `convert::partner` makes has some twenty texts of its own; a page of a thousand would make
//! twenty thousand, to copy each once more and drop it. Here the wire form is written from the
//! domain's, byte for byte what the generated message gives; a property holds one against the
//! other.

use jiff::Timestamp;
use prost::encoding::{self, WireType};

use super::convert;
use crate::domain::{AllowedPartner, Terms};

/// Appends the encoded `AllowedPartner` to `out`.
pub(super) fn write(partner: &AllowedPartner, out: &mut Vec<u8>) {
    // Exhaustive: a new field must be written before this compiles.
    let AllowedPartner {
        domain,
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
    element(1, &[convert::PARTNER_PREFIX, domain.as_str()], out);
    element(2, &[uid.hyphenated().encode_lower(&mut [0; 36])], out);
    text(3, description, out);
    for domain in additional_domains {
        element(4, &[domain.as_str()], out);
    }
    number(5, i64::from(convert::wire_partner_type(*partner_type) as i32), out);
    text(6, proxy_fqdn.as_ref().map_or("", |host| host.as_str()), out);
    if let Some(limit) = connection_limit {
        present(7, i64::from(*limit), out);
    }
    present(8, (*keep_alive_enabled).into(), out);
    number(9, i64::from(convert::wire_negotiation(*tls_negotiation) as i32), out);
    number(10, i64::from(convert::wire_negotiation(*sasl_negotiation) as i32), out);
    present(11, (*dialback_enabled).into(), out);
    let methods = terms.negotiation_methods();
    if !methods.is_empty() {
        // Packed, and the number of each takes one byte.
        begin(12, methods.len(), out);
        for method in methods {
            encoding::encode_varint(convert::wire_method(*method) as u64, out);
        }
    }
    for warning in partner.warnings() {
        encoding::message::encode(13, &convert::wire_warning(warning), out);
    }
    number(14, (*suspended).into(), out);
    moment(15, *expire_time, out);
    moment(16, *review_time, out);
    text(17, owner, out);
    for (key, value) in labels.iter() {
        begin(18, text_len(1, key) + text_len(2, value), out);
        text(1, key, out);
        text(2, value, out);
    }
    moment(19, Some(*create_time), out);
    moment(20, Some(*update_time), out);
    text(21, creator, out);
    text(22, updater, out);
    number(23, revision.as_i64(), out);
    text(24, partner.etag().as_str(), out);
    moment(25, *delete_time, out);
    number(26, (*expired).into(), out);
}

/// The key and the length of what takes `length` bytes.
fn begin(tag: u32, length: usize, out: &mut Vec<u8>) {
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint(length as u64, out);
}

/// An element, which is written even if it is empty, of parts that follow each other.
fn element(tag: u32, parts: &[&str], out: &mut Vec<u8>) {
    begin(tag, parts.iter().map(|part| part.len()).sum(), out);
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// A text, which is left out if it is empty.
fn text(tag: u32, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        element(tag, &[text], out);
    }
}

/// The bytes that [`text`] writes.
fn text_len(tag: u32, text: &str) -> usize {
    let length = text.len();
    match length {
        0 => 0,
        _ => encoding::key_len(tag) + encoding::encoded_len_varint(length as u64) + length,
    }
}

/// A number, which is left out if it is 0.
fn number(tag: u32, number: i64, out: &mut Vec<u8>) {
    if number != 0 {
        present(tag, number, out);
    }
}

/// A number that is there although it may be 0. On the wire all integers and truth values of this
/// message are alike.
fn present(tag: u32, number: i64, out: &mut Vec<u8>) {
    encoding::encode_key(tag, WireType::Varint, out);
    encoding::encode_varint(number.cast_unsigned(), out);
}

fn moment(tag: u32, time: Option<Timestamp>, out: &mut Vec<u8>) {
    if let Some(time) = time {
        encoding::message::encode(tag, &convert::timestamp(time), out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        DomainName, Revision, labels::Labels, negotiation::Negotiation, partner::PartnerType,
    };

    fn domain() -> impl Strategy<Value = DomainName> {
        // One of them is a public suffix, which has a warning.
        prop::sample::select(vec![
            "contoso.com",
            "chat.contoso.com",
            "xn--bcher-kva.example",
            "co.uk",
        ])
        .prop_map(|name| DomainName::parse(name).unwrap())
    }

    fn moment() -> impl Strategy<Value = Timestamp> {
        (-10_000_000_000_i64..10_000_000_000, -999_999_999..999_999_999_i32)
            .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap_or_default())
    }

    fn negotiation() -> impl Strategy<Value = Negotiation> {
        prop::sample::select(vec![
            Negotiation::Required,
            Negotiation::Optional,
            Negotiation::NotSupported,
        ])
    }

    prop_compose! {
        fn terms()(
            description in "\\PC{0,200}",
            additional_domains in prop::collection::vec(domain(), 0..4),
            partner_type in prop::sample::select(vec![
                PartnerType::PublicUnverified,
                PartnerType::PublicVerified,
                PartnerType::Federated,
            ]),
            proxy_fqdn in prop::option::of(domain()),
            connection_limit in prop::option::of(-1..100_000_i32),
            (tls_negotiation, sasl_negotiation) in (negotiation(), negotiation()),
            (keep_alive_enabled, dialback_enabled, suspended) in any::<(bool, bool, bool)>(),
            (expire_time, review_time) in (prop::option::of(moment()), prop::option::of(moment())),
            owner in "\\PC{0,5}",
            labels in prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,200}", 0..4),
        ) -> Terms {
            Terms {
                description,
                additional_domains: additional_domains.into_iter().collect(),
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
                owner: owner.into(),
                labels: Labels::from(&labels),
            }
        }
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_generated_message(
            domain in domain(),
            uid in any::<u128>(),
            terms in terms(),
            (create_time, update_time) in (moment(), moment()),
            (creator, updater) in ("\\PC{0,3}", "\\PC{0,3}"),
            revision in any::<u64>(),
            delete_time in prop::option::of(moment()),
            expired in any::<bool>(),
        ) {
            let partner = AllowedPartner {
                domain,
                uid: Uuid::from_u128(uid),
                terms,
                create_time,
                update_time,
                creator: creator.into(),
                updater: updater.into(),
                revision: Revision::new(revision),
                delete_time,
                expired,
            };
            let mut written = Vec::new();
            write(&partner, &mut written);
            prop_assert_eq!(written, convert::partner(&partner).encode_to_vec());
        }
    }
}

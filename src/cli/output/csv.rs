//! Partners as comma-separated values. The importer reads this form back.

use std::io;

use super::partners::{labels, time};
use crate::{
    cli::{json::enum_text, values::domain_of},
    proto::v1::AllowedPartner,
};

/// What stands between the values of a list in one cell.
pub const LIST_SEPARATOR: &str = ";";

const HEADER: &[&str] = &[
    "domain",
    "description",
    "additional_domains",
    "partner_type",
    "proxy_fqdn",
    "connection_limit",
    "keep_alive_enabled",
    "tls_negotiation",
    "sasl_negotiation",
    "dialback_enabled",
    "suspended",
    "expire_time",
    "review_time",
    "owner",
    "labels",
];

/// The header's line.
///
/// # Errors
/// Never, in memory.
pub fn header() -> io::Result<Vec<u8>> {
    encoded(HEADER)
}

/// A partner's line.
///
/// # Errors
/// Never, in memory.
pub fn record(partner: &AllowedPartner) -> io::Result<Vec<u8>> {
    let switch = |value: Option<bool>| value.map_or_else(String::new, |value| value.to_string());
    encoded(&[
        domain_of(&partner.name).to_owned(),
        partner.description.clone(),
        partner.additional_domains.join(LIST_SEPARATOR),
        enum_text(partner.partner_type().as_str_name(), "PARTNER_TYPE_"),
        partner.proxy_fqdn.clone(),
        partner.connection_limit.map_or_else(String::new, |limit| limit.to_string()),
        switch(partner.keep_alive_enabled),
        enum_text(partner.tls_negotiation().as_str_name(), "NEGOTIATION_"),
        enum_text(partner.sasl_negotiation().as_str_name(), "NEGOTIATION_"),
        switch(partner.dialback_enabled),
        partner.suspended.to_string(),
        time(partner.expire_time.as_ref()),
        time(partner.review_time.as_ref()),
        partner.owner.clone(),
        labels(partner, LIST_SEPARATOR),
    ])
}

fn encoded<S: AsRef<[u8]>>(cells: &[S]) -> io::Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

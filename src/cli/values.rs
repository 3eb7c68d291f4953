//! The values of flags and of imported files, as people write them.
//!
//! Names of enums are taken in the original's spelling (`NotSupported`), in the API's
//! (`NEGOTIATION_NOT_SUPPORTED`) and in ours (`not-supported`), in any case.

use std::{str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use crate::{
    domain::{DomainName, partner::MAX_CONNECTION_LIMIT},
    proto::v1::{FederationMode, Negotiation, PartnerType, StalenessPolicy},
};

/// What every partner's resource name begins with.
pub const COLLECTION: &str = "allowedPartners/";

/// The resource name of the partner with this domain, which may be written with the collection
/// before it.
///
/// # Errors
/// The text is no domain name.
pub fn resource_name(text: &str) -> Result<String, String> {
    let text = text.trim();
    let domain = text.strip_prefix(COLLECTION).unwrap_or(text);
    let domain = DomainName::parse(domain).map_err(|error| format!("`{text}`: {error}"))?;
    Ok(format!("{COLLECTION}{domain}"))
}

/// The domain in a resource name.
pub fn domain_of(name: &str) -> &str {
    name.strip_prefix(COLLECTION).unwrap_or(name)
}

/// A value, or the wish to have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clearable<T> {
    /// This value.
    Value(T),
    /// None; written `none` or as nothing.
    None,
}

impl<T> Clearable<T> {
    /// The value, if it is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::None => None,
        }
    }
}

fn clearable<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Clearable<T>, String> {
    if text.is_empty() || text.eq_ignore_ascii_case("none") {
        return Ok(Clearable::None);
    }
    parse(text).map(Clearable::Value)
}

/// A partner type.
///
/// # Errors
/// The text names none.
pub fn partner_type(text: &str) -> Result<PartnerType, String> {
    match bare(text, "partnertype").as_str() {
        "federated" => Ok(PartnerType::Federated),
        "publicverified" => Ok(PartnerType::PublicVerified),
        "publicunverified" => Ok(PartnerType::PublicUnverified),
        _ => Err("give federated, public-verified or public-unverified".into()),
    }
}

/// A negotiation.
///
/// # Errors
/// The text names none.
pub fn negotiation(text: &str) -> Result<Negotiation, String> {
    match bare(text, "negotiation").as_str() {
        "required" => Ok(Negotiation::Required),
        "optional" => Ok(Negotiation::Optional),
        "notsupported" => Ok(Negotiation::NotSupported),
        _ => Err("give required, optional or not-supported".into()),
    }
}

/// A federation mode.
///
/// # Errors
/// The text names none.
pub fn federation_mode(text: &str) -> Result<FederationMode, String> {
    match bare(text, "federationmode").as_str() {
        "allowlisted" => Ok(FederationMode::AllowListed),
        "denyall" => Ok(FederationMode::DenyAll),
        "allowallexceptsuspended" => Ok(FederationMode::AllowAllExceptSuspended),
        _ => Err("give allow-listed, deny-all or allow-all-except-suspended".into()),
    }
}

/// A staleness policy.
///
/// # Errors
/// The text names none.
pub fn staleness_policy(text: &str) -> Result<StalenessPolicy, String> {
    match bare(text, "stalenesspolicy").as_str() {
        "keep" => Ok(StalenessPolicy::Keep),
        "denyall" => Ok(StalenessPolicy::DenyAll),
        _ => Err("give keep or deny-all".into()),
    }
}

/// A switch: `on` or `off`, or what other tools write for them.
///
/// # Errors
/// The text is neither.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.trim_start_matches('$').to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err("give on or off".into()),
    }
}

/// A connection limit, or `none` for the settings' one.
///
/// # Errors
/// The text is no number in range.
pub fn connection_limit(text: &str) -> Result<Clearable<i32>, String> {
    clearable(text, |text| {
        text.parse()
            .ok()
            .filter(|limit| (1..=MAX_CONNECTION_LIMIT).contains(limit))
            .ok_or_else(|| format!("give 1 to {MAX_CONNECTION_LIMIT}, or none"))
    })
}

/// A revision.
///
/// # Errors
/// The text is no number from 1 upwards.
pub fn revision(text: &str) -> Result<i64, String> {
    text.parse().ok().filter(|revision| *revision > 0).ok_or_else(|| {
        "give a revision, a number from 1 upwards, as `partnerctl history` shows them".into()
    })
}

/// The host of a proxy, or `none`.
///
/// # Errors
/// The text is no host name.
pub fn proxy(text: &str) -> Result<Clearable<String>, String> {
    clearable(text, |text| {
        DomainName::parse(text).map(|host| host.to_string()).map_err(|error| error.to_string())
    })
}

/// A moment: RFC 3339, a date (its first moment in UTC), a time from now such as `30d`, or `none`.
///
/// # Errors
/// The text is none of these.
pub fn moment(text: &str) -> Result<Clearable<Timestamp>, String> {
    clearable(text, |text| {
        // To the second: nobody means the nanoseconds of this moment.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        Timestamp::from_str(text)
            .ok()
            .or_else(|| midnight(text))
            .or_else(|| now.checked_add(ahead(text)?).ok())
            .ok_or_else(|| {
                "give a time such as 2027-01-31T12:00:00Z, a date, a time from now such as 30d, \
                 or none"
                    .into()
            })
    })
}

fn midnight(text: &str) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(Date::from_str(text).ok()?.at(0, 0, 0, 0)).ok()
}

fn ahead(text: &str) -> Option<SignedDuration> {
    SignedDuration::try_from(duration(text).ok()?).ok()
}

/// A length of time: a number with `ms`, `s`, `m`, `h`, `d` or `w`; seconds without.
///
/// # Errors
/// The text is no length of time.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(unit_at);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => 0,
    };
    count
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(millis))
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| "give a length of time such as 30s, 5m, 24h or 30d".into())
}

/// One label: `key=value` sets it, `key-` removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelEdit {
    /// The key.
    pub key: String,
    /// The value; `None` removes the label.
    pub value: Option<String>,
}

/// A label to set or to remove.
///
/// # Errors
/// The text is neither `key=value` nor `key-`.
pub fn label(text: &str) -> Result<LabelEdit, String> {
    if let Some((key, value)) = text.split_once('=') {
        return Ok(LabelEdit { key: key.into(), value: Some(value.into()) });
    }
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() => Ok(LabelEdit { key: key.into(), value: None }),
        _ => Err("give key=value to set a label, or key- to remove it".into()),
    }
}

/// The text in lower case without hyphens, underscores and the enum's own prefix.
fn bare(text: &str, prefix: &str) -> String {
    let text: String = text.trim().to_ascii_lowercase().replace(['-', '_', ' '], "");
    text.strip_prefix(prefix).unwrap_or(&text).to_owned()
}

/// A timestamp as the API carries it.
pub fn to_proto_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_nanosecond().div_euclid(1_000_000_000).try_into().unwrap_or(i64::MAX),
        nanos: time.as_nanosecond().rem_euclid(1_000_000_000).try_into().unwrap_or(0),
    }
}

/// A timestamp from what the API carries; `None` when it is out of the calendar.
pub fn from_proto_time(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let nanos =
        i128::from(time.seconds).checked_mul(1_000_000_000)?.checked_add(time.nanos.into())?;
    Timestamp::from_nanosecond(nanos).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_are_read_in_every_spelling() {
        for text in ["not-supported", "NotSupported", "NOT_SUPPORTED", "NEGOTIATION_NOT_SUPPORTED"]
        {
            assert_eq!(negotiation(text), Ok(Negotiation::NotSupported), "{text}");
        }
        for text in ["federated", "Federated", "PARTNER_TYPE_FEDERATED"] {
            assert_eq!(partner_type(text), Ok(PartnerType::Federated), "{text}");
        }
        assert!(negotiation("0").is_err());
        assert!(negotiation("").is_err());
        assert!(partner_type("public").is_err());
    }

    #[test]
    fn lengths_of_time_need_a_known_unit_and_more_than_nothing() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2w"), Ok(Duration::from_secs(14 * 86_400)));
        for text in ["", "0", "-1s", "5y", "99999999999999999999d", "s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_absolute_or_from_now_or_none() {
        let noon: Timestamp = "2027-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(moment("2027-01-31T13:00:00+01:00"), Ok(Clearable::Value(noon)));
        assert_eq!(
            moment("2027-01-31"),
            Ok(Clearable::Value("2027-01-31T00:00:00Z".parse().unwrap()))
        );
        assert_eq!(moment("None"), Ok(Clearable::None));
        let in_a_day = moment("1d").unwrap().value().unwrap();
        assert!(in_a_day > Timestamp::now() + SignedDuration::from_hours(23));
        assert!(moment("soon").is_err());
    }

    #[test]
    fn a_time_survives_the_wire_before_1970_too() {
        for text in ["2027-01-31T12:00:00.5Z", "1969-12-31T23:59:59.25Z"] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(from_proto_time(&to_proto_time(time)), Some(time));
        }
    }

    #[test]
    fn names_are_taken_with_and_without_the_collection() {
        for text in ["contoso.com", "Contoso.COM.", "allowedPartners/contoso.com"] {
            assert_eq!(resource_name(text).as_deref(), Ok("allowedPartners/contoso.com"), "{text}");
        }
        assert!(resource_name("contoso").is_err());
    }
}

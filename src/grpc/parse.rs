//! Wire to domain. What is malformed is collected with its path, not reported one at a time.

use std::{fmt::Display, time::Duration};

use enumset::EnumSet;
use jiff::Timestamp;
use prost::Message;
use prost_types::FieldMask;
use tonic::Status;

use super::{call::retryable, status};
use crate::{
    domain::{
        DomainName, Terms, Violation,
        domain_name::DomainSet,
        mask::{Mask, Maskable, SettingsField, TermField},
        negotiation::Negotiation,
        partner::PartnerType,
        settings::{FederationMode, Passphrase, SettingsValues, StalenessPolicy},
    },
    proto::v1 as pb,
    registry::Request,
};

/// What is wrong with a message, gathered while it is read: the first so many violations, and the
/// count of the others, so that a message that is all wrong costs no more than one that is right.
#[derive(Debug, Default)]
pub struct Broken {
    first: Vec<Violation>,
    others: usize,
}

/// The violations of a message that are kept.
const MAX_VIOLATIONS: usize = 100;

impl Broken {
    /// Adds a violation.
    pub fn add(&mut self, path: impl Into<String>, text: impl Display) {
        if self.first.len() < MAX_VIOLATIONS {
            self.first.push(Violation::new(path, text.to_string()));
        } else {
            self.others += 1;
        }
    }

    /// The value, or a note of what is wrong with it.
    pub fn take<T, E: Display>(&mut self, path: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add(path, error)).ok()
    }

    /// The value, or the violation added to the others.
    pub fn keep<T>(&mut self, parsed: Result<T, Violation>) -> Option<T> {
        parsed.map_err(|Violation { field, description }| self.add(field, description)).ok()
    }

    /// Takes over what is wrong with a part of the message, and says with what.
    pub fn absorb(&mut self, part: Self, what: &str) {
        for Violation { field, description } in part.first {
            self.add(field, format!("{what}: {description}"));
        }
        self.others += part.others;
    }

    /// The request as one that may be retried, if its caller gave it an id.
    pub fn retry<M: Message>(&mut self, method: &str, id: &str, message: &M) -> Option<Request> {
        self.keep(retryable(method, id, message)).flatten()
    }

    /// Nothing if nothing is wrong.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with all that is wrong.
    pub fn refuse(self) -> Result<(), Status> {
        if self.first.is_empty() {
            return Ok(());
        }
        Err(status::invalid_and(self.first, self.others))
    }
}

/// What the request is about, once nothing is wrong with it.
///
/// # Errors
/// INVALID_ARGUMENT with all that is wrong.
pub fn complete<T>(parsed: Option<T>, broken: Broken) -> Result<T, Status> {
    broken.refuse()?;
    parsed.ok_or_else(|| status::internal("a request was refused without a violation"))
}

/// A path inside another.
pub fn join(parent: &str, field: &str) -> String {
    if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") }
}

/// The domain in a partner's resource name.
pub fn partner_name(name: &str, path: &str, broken: &mut Broken) -> Option<DomainName> {
    let Some(domain) = name.strip_prefix("allowedPartners/") else {
        broken.add(path, "not a partner's name; write allowedPartners/ and the primary domain");
        return None;
    };
    broken.take(path, DomainName::parse(domain))
}

/// A mask, or `None` if the request has none.
pub fn mask<F: Maskable>(
    mask: Option<&FieldMask>,
    path: &str,
    broken: &mut Broken,
) -> Option<Mask<F>> {
    let paths = &mask.filter(|mask| !mask.paths.is_empty())?.paths;
    match Mask::parse(paths) {
        Ok(mask) => Some(mask),
        Err(violations) => {
            for violation in violations {
                broken.add(path, violation.description);
            }
            None
        }
    }
}

/// The fields of a partner that are populated.
pub fn populated_terms(message: &pb::AllowedPartner) -> EnumSet<TermField> {
    use TermField as F;
    EnumSet::<F>::all()
        .iter()
        .filter(|field| match field {
            F::Description => !message.description.is_empty(),
            F::AdditionalDomains => !message.additional_domains.is_empty(),
            F::PartnerType => message.partner_type != 0,
            F::ProxyFqdn => !message.proxy_fqdn.is_empty(),
            F::ConnectionLimit => message.connection_limit.is_some(),
            F::KeepAliveEnabled => message.keep_alive_enabled.is_some(),
            F::TlsNegotiation => message.tls_negotiation != 0,
            F::SaslNegotiation => message.sasl_negotiation != 0,
            F::DialbackEnabled => message.dialback_enabled.is_some(),
            F::Suspended => message.suspended,
            F::ExpireTime => message.expire_time.is_some(),
            F::ReviewTime => message.review_time.is_some(),
            F::Owner => !message.owner.is_empty(),
            F::Labels => !message.labels.is_empty(),
        })
        .collect()
}

/// The terms in a partner. Only the `wanted` fields are looked at; an empty one, and every other,
/// has its default.
pub fn terms(
    message: &pb::AllowedPartner,
    wanted: EnumSet<TermField>,
    path: &str,
    broken: &mut Broken,
) -> Terms {
    use TermField as F;
    let mut terms = Terms::default();
    for field in wanted {
        let path = join(path, field.path());
        match field {
            F::Description => terms.description.clone_from(&message.description),
            F::AdditionalDomains => {
                terms.additional_domains = domains(&message.additional_domains, &path, broken);
            }
            F::PartnerType => {
                terms.partner_type = partner_type(message.partner_type, &path, broken);
            }
            F::ProxyFqdn => {
                terms.proxy_fqdn = match message.proxy_fqdn.as_str() {
                    "" => None,
                    text => broken.take(&path, DomainName::parse(text)),
                };
            }
            F::ConnectionLimit => terms.connection_limit = message.connection_limit,
            F::KeepAliveEnabled => {
                terms.keep_alive_enabled = message.keep_alive_enabled.unwrap_or(true);
            }
            F::TlsNegotiation => {
                terms.tls_negotiation = negotiation(message.tls_negotiation, &path, broken);
            }
            F::SaslNegotiation => {
                terms.sasl_negotiation = negotiation(message.sasl_negotiation, &path, broken);
            }
            F::DialbackEnabled => terms.dialback_enabled = message.dialback_enabled.unwrap_or(true),
            F::Suspended => terms.suspended = message.suspended,
            F::ExpireTime => terms.expire_time = moment(message.expire_time, &path, broken),
            F::ReviewTime => terms.review_time = moment(message.review_time, &path, broken),
            F::Owner => terms.owner = message.owner.as_str().into(),
            F::Labels => terms.labels = (&message.labels).into(),
        }
    }
    terms
}

/// Domains as people write them.
pub fn domains(texts: &[String], path: &str, broken: &mut Broken) -> DomainSet {
    texts
        .iter()
        .enumerate()
        .filter_map(|(index, text)| {
            broken.take(&format!("{path}[{index}]"), DomainName::parse(text))
        })
        .collect()
}

/// The settings that are populated.
pub fn populated_settings(message: &pb::FederationSettings) -> EnumSet<SettingsField> {
    use SettingsField as F;
    EnumSet::<F>::all()
        .iter()
        .filter(|field| match field {
            F::Mode => message.mode != 0,
            F::ConnectionLimit => message.connection_limit != 0,
            F::PartnerConnectionLimit => message.partner_connection_limit != 0,
            F::KeepAliveInterval => message.keep_alive_interval.is_some(),
            F::StreamEstablishmentTimeout => message.stream_establishment_timeout.is_some(),
            F::StreamInactivityTimeout => message.stream_inactivity_timeout.is_some(),
            F::SubscriptionRefreshInterval => message.subscription_refresh_interval.is_some(),
            F::MessageBodyLoggingEnabled => message.message_body_logging_enabled,
            F::StalenessLease => message.staleness_lease.is_some(),
            F::StalenessPolicy => message.staleness_policy != 0,
            F::DialbackPassphrase => !message.dialback_passphrase.is_empty(),
        })
        .collect()
}

/// The settings in a message. Only the `wanted` ones are looked at; an empty one has its default.
pub fn settings(
    message: &pb::FederationSettings,
    wanted: EnumSet<SettingsField>,
    path: &str,
    broken: &mut Broken,
) -> SettingsValues {
    use SettingsField as F;
    let mut values = SettingsValues::default();
    for field in wanted {
        let path = join(path, field.path());
        let count = |count: i32, default: i32| if count == 0 { default } else { count };
        let mut time = |wire: Option<prost_types::Duration>, default: &mut Duration| {
            if let Some(time) = wire.and_then(|wire| span(wire, &path, broken)) {
                *default = time;
            }
        };
        match field {
            F::Mode => values.mode = mode(message.mode, &path, broken),
            F::ConnectionLimit => {
                values.connection_limit = count(message.connection_limit, values.connection_limit);
            }
            F::PartnerConnectionLimit => {
                values.partner_connection_limit =
                    count(message.partner_connection_limit, values.partner_connection_limit);
            }
            F::KeepAliveInterval => {
                time(message.keep_alive_interval, &mut values.keep_alive_interval);
            }
            F::StreamEstablishmentTimeout => {
                time(
                    message.stream_establishment_timeout,
                    &mut values.stream_establishment_timeout,
                );
            }
            F::StreamInactivityTimeout => {
                time(message.stream_inactivity_timeout, &mut values.stream_inactivity_timeout);
            }
            F::SubscriptionRefreshInterval => time(
                message.subscription_refresh_interval,
                &mut values.subscription_refresh_interval,
            ),
            F::MessageBodyLoggingEnabled => {
                values.message_body_logging_enabled = message.message_body_logging_enabled;
            }
            F::StalenessLease => time(message.staleness_lease, &mut values.staleness_lease),
            F::StalenessPolicy => {
                values.staleness_policy = staleness_policy(message.staleness_policy, &path, broken);
            }
            F::DialbackPassphrase => {
                let text = message.dialback_passphrase.clone();
                values.dialback_passphrase = (!text.is_empty()).then(|| Passphrase::new(text));
            }
        }
    }
    values
}

/// The id in a role's resource name.
pub fn role_id<'a>(name: &'a str, path: &str, broken: &mut Broken) -> Option<&'a str> {
    let id = name.strip_prefix("roles/").filter(|id| !id.is_empty() && !id.contains('/'));
    if id.is_none() {
        broken.add(path, "not a role's name; write roles/ and the role");
    }
    id
}

/// A moment, if there is one.
pub fn moment(
    wire: Option<prost_types::Timestamp>,
    path: &str,
    broken: &mut Broken,
) -> Option<Timestamp> {
    let wire = wire?;
    let in_range = (0..1_000_000_000).contains(&wire.nanos);
    match Timestamp::new(wire.seconds, wire.nanos) {
        Ok(time) if in_range => Some(time),
        _ => {
            broken.add(path, "not a moment between the years 1 and 9999");
            None
        }
    }
}

pub(super) fn span(
    wire: prost_types::Duration,
    path: &str,
    broken: &mut Broken,
) -> Option<Duration> {
    let span = Duration::try_from(wire);
    if span.is_err() {
        broken.add(path, "a negative time; give a positive one");
    }
    span.ok()
}

fn partner_type(wire: i32, path: &str, broken: &mut Broken) -> PartnerType {
    match pb::PartnerType::try_from(wire) {
        Ok(pb::PartnerType::Unspecified) => PartnerType::default(),
        Ok(pb::PartnerType::PublicUnverified) => PartnerType::PublicUnverified,
        Ok(pb::PartnerType::PublicVerified) => PartnerType::PublicVerified,
        Ok(pb::PartnerType::Federated) => PartnerType::Federated,
        Err(_) => unknown(wire, "PUBLIC_UNVERIFIED, PUBLIC_VERIFIED or FEDERATED", path, broken),
    }
}

fn negotiation(wire: i32, path: &str, broken: &mut Broken) -> Negotiation {
    match pb::Negotiation::try_from(wire) {
        Ok(pb::Negotiation::Unspecified) => Negotiation::default(),
        Ok(pb::Negotiation::Required) => Negotiation::Required,
        Ok(pb::Negotiation::Optional) => Negotiation::Optional,
        Ok(pb::Negotiation::NotSupported) => Negotiation::NotSupported,
        Err(_) => unknown(wire, "REQUIRED, OPTIONAL or NOT_SUPPORTED", path, broken),
    }
}

fn mode(wire: i32, path: &str, broken: &mut Broken) -> FederationMode {
    match pb::FederationMode::try_from(wire) {
        Ok(pb::FederationMode::Unspecified) => FederationMode::Unspecified,
        Ok(pb::FederationMode::AllowListed) => FederationMode::AllowListed,
        Ok(pb::FederationMode::DenyAll) => FederationMode::DenyAll,
        Ok(pb::FederationMode::AllowAllExceptSuspended) => FederationMode::AllowAllExceptSuspended,
        Err(_) => {
            unknown(wire, "ALLOW_LISTED, DENY_ALL or ALLOW_ALL_EXCEPT_SUSPENDED", path, broken)
        }
    }
}

pub(super) fn staleness_policy(wire: i32, path: &str, broken: &mut Broken) -> StalenessPolicy {
    match pb::StalenessPolicy::try_from(wire) {
        Ok(pb::StalenessPolicy::Unspecified) => StalenessPolicy::default(),
        Ok(pb::StalenessPolicy::Keep) => StalenessPolicy::Keep,
        Ok(pb::StalenessPolicy::DenyAll) => StalenessPolicy::DenyAll,
        Err(_) => unknown(wire, "KEEP or DENY_ALL", path, broken),
    }
}

fn unknown<T: Default>(wire: i32, known: &str, path: &str, broken: &mut Broken) -> T {
    broken.add(path, format!("{wire} is no value of this field; give {known}"));
    T::default()
}

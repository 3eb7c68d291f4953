//! The allowed partner: its terms, what is derived from them, and the rules they obey.

use std::sync::Arc;

use enumset::EnumSet;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    domain_name::{DomainName, DomainSet},
    labels::Labels,
    mask::{DomainEdits, Mask, TermField},
    negotiation::{self, Negotiation, NegotiationMethod, NegotiationWarning},
    revision::{Etag, Revision},
    violation::{Violation, check_text},
};

/// The most characters of a description.
pub const MAX_DESCRIPTION_CHARS: usize = 1_024;
/// The most characters of an owner.
pub const MAX_OWNER_CHARS: usize = 256;
/// The most additional domains of a partner.
pub const MAX_ADDITIONAL_DOMAINS: usize = 1_000;
/// The most connections that a partner can be allowed.
pub const MAX_CONNECTION_LIMIT: i32 = 100_000;
/// The most labels of a partner.
pub const MAX_LABELS: usize = 64;
/// The most characters of a label's name or value (Kubernetes).
pub const MAX_LABEL_CHARS: usize = 63;

/// How far a partner's users are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartnerType {
    /// A public provider that does not verify its users.
    #[default]
    PublicUnverified,
    /// A public provider that verifies its users.
    PublicVerified,
    /// A trusted organisation.
    Federated,
}

impl PartnerType {
    /// The type as the API writes it, without its prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PublicUnverified => "PUBLIC_UNVERIFIED",
            Self::PublicVerified => "PUBLIC_VERIFIED",
            Self::Federated => "FEDERATED",
        }
    }
}

/// What an administrator decides about a partner. What is stored here is what is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What people should know of this partner.
    pub description: String,
    /// Further domains that belong to it.
    pub additional_domains: DomainSet,
    /// How far its users are trusted.
    pub partner_type: PartnerType,
    /// The host through which it is reached, if not by DNS.
    pub proxy_fqdn: Option<DomainName>,
    /// The most simultaneous connections; `None` means the settings' limit.
    pub connection_limit: Option<i32>,
    /// Whether idle streams are kept open.
    pub keep_alive_enabled: bool,
    /// Whether streams are encrypted.
    pub tls_negotiation: Negotiation,
    /// Whether streams are authenticated by certificates.
    pub sasl_negotiation: Negotiation,
    /// Whether server dialback is accepted.
    pub dialback_enabled: bool,
    /// Listed, but refused.
    pub suspended: bool,
    /// From this moment on it is refused.
    pub expire_time: Option<Timestamp>,
    /// When somebody should look at it again.
    pub review_time: Option<Timestamp>,
    /// Who answers for it: often the same for many.
    pub owner: Arc<str>,
    /// Labels with the limits of Kubernetes.
    pub labels: Labels,
}

impl Default for Terms {
    /// The defaults on create.
    fn default() -> Self {
        Self {
            description: String::new(),
            additional_domains: DomainSet::default(),
            partner_type: PartnerType::default(),
            proxy_fqdn: None,
            connection_limit: None,
            keep_alive_enabled: true,
            tls_negotiation: Negotiation::Required,
            sasl_negotiation: Negotiation::Required,
            dialback_enabled: true,
            suspended: false,
            expire_time: None,
            review_time: None,
            owner: Arc::default(),
            labels: Labels::default(),
        }
    }
}

/// A partner as it is stored: its terms and what the service keeps about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPartner {
    /// The primary domain, which is its identity.
    pub domain: DomainName,
    /// Given at creation; a domain created anew gets another one.
    pub uid: Uuid,
    /// What an administrator decides.
    pub terms: Terms,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// The subject that created it.
    pub creator: Arc<str>,
    /// The subject that last changed it.
    pub updater: Arc<str>,
    /// The revision at which it last changed.
    pub revision: Revision,
    /// When it was deleted; `None` while it is in force.
    pub delete_time: Option<Timestamp>,
    /// Whether its time had run out when it was last committed. The service commits once more when
    /// it runs out; what is decided in between goes by the clock.
    pub expired: bool,
}

impl AllowedPartner {
    /// Opaque; changes with every commit to the partner (AIP-154).
    pub fn etag(&self) -> Etag {
        Etag::of(self.uid, self.revision)
    }

    /// All its domains, the primary one first.
    pub fn domains(&self) -> impl Iterator<Item = &DomainName> {
        std::iter::once(&self.domain).chain(&self.terms.additional_domains)
    }

    /// About how many bytes it takes on the wire, by what can be long in it.
    pub fn weight(&self) -> usize {
        let Terms { description, owner, labels, additional_domains, .. } = &self.terms;
        let labels: usize = labels.iter().map(|(key, value)| key.len() + value.len() + 6).sum();
        let domains: usize =
            additional_domains.iter().map(|domain| domain.as_str().len() + 3).sum();
        // A short one takes 200 to 400; a domain that is a public suffix has a warning, too.
        512 + description.len() + owner.len() + labels + domains
    }

    /// Whether its time has run out at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.terms.is_expired(now)
    }

    /// What is allowed and yet probably not meant.
    pub fn warnings(&self) -> Vec<Warning> {
        let negotiation = self.terms.negotiation_warning().map(Warning::Negotiation);
        let suffixes = self
            .domains()
            .filter(|domain| domain.is_public_suffix())
            .map(|domain| Warning::PublicSuffix(domain.clone()));
        negotiation.into_iter().chain(suffixes).collect()
    }
}

/// What is allowed and yet probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// About the TLS, SASL and dialback triple.
    Negotiation(NegotiationWarning),
    /// A domain below which anybody can register names.
    PublicSuffix(DomainName),
}

/// A change asked for by a caller: new values, which of them are meant, and edits of the list.
#[derive(Clone, Debug, Default)]
pub struct TermsChange {
    /// The new values; those that the mask does not name are not looked at.
    pub values: Terms,
    /// Which values are meant.
    pub mask: Mask<TermField>,
    /// Domains to remove from and add to the additional ones.
    pub edits: DomainEdits,
}

impl Terms {
    /// Whether the time given has run out at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expire_time.is_some_and(|expiry| expiry <= now)
    }

    /// The terms after `change`. Not yet checked: see [`Terms::violations`].
    #[must_use]
    pub fn changed_by(&self, change: &TermsChange) -> Self {
        let mut terms = change.mask.merge(self, &change.values);
        terms.additional_domains = change.edits.apply(&terms.additional_domains);
        terms
    }

    /// The fields in which these terms differ from others.
    pub fn fields_unlike(&self, others: &Self) -> EnumSet<TermField> {
        let differs =
            |field: &TermField| Mask::of(EnumSet::only(*field)).merge(others, self) != *others;
        EnumSet::all().iter().filter(differs).collect()
    }

    /// The ways of authentication that TLS, SASL and dialback allow, none if they are invalid.
    pub fn negotiation_methods(&self) -> &'static [NegotiationMethod] {
        self.negotiation().map_or(&[], |allowed| allowed.methods)
    }

    fn negotiation_warning(&self) -> Option<NegotiationWarning> {
        self.negotiation().ok().and_then(|allowed| allowed.warning)
    }

    fn negotiation(&self) -> Result<negotiation::Allowed, negotiation::InvalidTriple> {
        negotiation::evaluate(self.tls_negotiation, self.sasl_negotiation, self.dialback_enabled)
    }

    /// Every rule that these terms break as the terms of `domain`, by the fields' paths inside
    /// the partner. What concerns other partners or the clock is not looked at here.
    pub fn violations(&self, domain: &DomainName) -> Vec<Violation> {
        let mut broken = Vec::new();
        check_text(&mut broken, "description", &self.description, MAX_DESCRIPTION_CHARS);
        check_text(&mut broken, "owner", &self.owner, MAX_OWNER_CHARS);
        self.check_domains(domain, &mut broken);
        self.check_connection_limit(&mut broken);
        self.check_negotiation(&mut broken);
        check_labels(&mut broken, &self.labels);
        broken
    }

    fn check_domains(&self, domain: &DomainName, broken: &mut Vec<Violation>) {
        if self.additional_domains.len() > MAX_ADDITIONAL_DOMAINS {
            broken.push(Violation::new(
                "additional_domains",
                format!(
                    "{} domains; at most {MAX_ADDITIONAL_DOMAINS} are allowed",
                    self.additional_domains.len()
                ),
            ));
        }
        if self.additional_domains.contains(domain) {
            broken.push(Violation::new(
                "additional_domains",
                format!("{domain} is the primary domain already; leave it out"),
            ));
        }
    }

    fn check_connection_limit(&self, broken: &mut Vec<Violation>) {
        if let Some(limit) = self.connection_limit
            && !(1..=MAX_CONNECTION_LIMIT).contains(&limit)
        {
            broken.push(Violation::new(
                "connection_limit",
                format!(
                    "{limit} is out of range; give 1 to {MAX_CONNECTION_LIMIT}, or leave it unset \
                     for the settings' limit"
                ),
            ));
        }
    }

    fn check_negotiation(&self, broken: &mut Vec<Violation>) {
        if let Err(invalid) = self.negotiation() {
            for field in ["tls_negotiation", "sasl_negotiation", "dialback_enabled"] {
                broken.push(Violation::new(
                    field,
                    format!("{invalid}; turn dialback on, or allow both TLS and SASL"),
                ));
            }
        }
    }
}

fn check_labels(broken: &mut Vec<Violation>, labels: &Labels) {
    if labels.len() > MAX_LABELS {
        broken.push(Violation::new(
            "labels",
            format!("{} labels; at most {MAX_LABELS} are allowed", labels.len()),
        ));
    }
    for (key, value) in labels.iter() {
        if !is_label_key(key) {
            broken.push(Violation::new(
                format!("labels.`{key}`"),
                "not a label key: an optional DNS prefix and a slash, then 1 to 63 letters, \
                 digits, '-', '_' and '.', with a letter or digit at both ends",
            ));
        }
        if !(value.is_empty() || is_label_name(value)) {
            broken.push(Violation::new(
                format!("labels.`{key}`"),
                "not a label value: at most 63 letters, digits, '-', '_' and '.', with a letter \
                 or digit at both ends, or empty",
            ));
        }
    }
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

fn is_label_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL_CHARS
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= super::domain_name::MAX_OCTETS
        && text.split('.').all(|label| {
            let bytes = label.as_bytes();
            let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            bytes.first().is_some_and(edge)
                && bytes.last().is_some_and(edge)
                && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
        })
}

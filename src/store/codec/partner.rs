//! Partners.

use std::collections::BTreeMap;

use prost::Message as _;
use uuid::Uuid;

use super::{
    Damage, Kind, Stored, Texts, array, message,
    time::{self, StoredTime},
};
use crate::domain::{
    AllowedPartner, DomainName, Revision, Terms, negotiation::Negotiation, partner::PartnerType,
};

/// An allowed partner.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredPartner {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(bytes = "vec", tag = "2")]
    uid: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    terms: Option<StoredTerms>,
    #[prost(message, optional, tag = "4")]
    create_time: Option<StoredTime>,
    #[prost(message, optional, tag = "5")]
    update_time: Option<StoredTime>,
    #[prost(string, tag = "6")]
    creator: String,
    #[prost(string, tag = "7")]
    updater: String,
    #[prost(uint64, tag = "8")]
    revision: u64,
    #[prost(message, optional, tag = "9")]
    delete_time: Option<StoredTime>,
    #[prost(bool, tag = "10")]
    expired: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredTerms {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(string, repeated, tag = "2")]
    additional_domains: Vec<String>,
    #[prost(uint32, tag = "3")]
    partner_type: u32,
    #[prost(string, optional, tag = "4")]
    proxy_fqdn: Option<String>,
    #[prost(int32, optional, tag = "5")]
    connection_limit: Option<i32>,
    #[prost(bool, tag = "6")]
    keep_alive_enabled: bool,
    #[prost(uint32, tag = "7")]
    tls_negotiation: u32,
    #[prost(uint32, tag = "8")]
    sasl_negotiation: u32,
    #[prost(bool, tag = "9")]
    dialback_enabled: bool,
    #[prost(bool, tag = "10")]
    suspended: bool,
    #[prost(message, optional, tag = "11")]
    expire_time: Option<StoredTime>,
    #[prost(message, optional, tag = "12")]
    review_time: Option<StoredTime>,
    #[prost(string, tag = "13")]
    owner: String,
    #[prost(btree_map = "string, string", tag = "14")]
    labels: BTreeMap<String, String>,
}

impl Stored for AllowedPartner {
    const KIND: Kind = Kind::Partner;

    fn to_payload(&self) -> Vec<u8> {
        StoredPartner::from(self).encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        message::<StoredPartner>(payload)?.into_partner(texts)
    }
}

impl From<&AllowedPartner> for StoredPartner {
    fn from(partner: &AllowedPartner) -> Self {
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
        Self {
            domain: domain.to_string(),
            uid: uid.as_bytes().to_vec(),
            terms: Some(terms.into()),
            create_time: Some((*create_time).into()),
            update_time: Some((*update_time).into()),
            creator: creator.to_string(),
            updater: updater.to_string(),
            revision: revision.get(),
            delete_time: delete_time.map(Into::into),
            expired: *expired,
        }
    }
}

impl StoredPartner {
    pub(super) fn into_partner(self, texts: &mut Texts) -> Result<AllowedPartner, Damage> {
        let Self {
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
        } = self;
        Ok(AllowedPartner {
            domain: domain_name(&domain)?,
            uid: Uuid::from_bytes(array(&uid, "uid")?),
            terms: terms.ok_or_else(|| Damage::missing("terms"))?.try_into()?,
            create_time: time::required(create_time, "create_time")?,
            update_time: time::required(update_time, "update_time")?,
            creator: texts.shared(&creator),
            updater: texts.shared(&updater),
            revision: Revision::new(revision),
            delete_time: time::optional(delete_time)?,
            expired,
        })
    }
}

impl From<&Terms> for StoredTerms {
    fn from(terms: &Terms) -> Self {
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
        Self {
            description: description.clone(),
            additional_domains: additional_domains.iter().map(DomainName::to_string).collect(),
            partner_type: partner_type_number(*partner_type),
            proxy_fqdn: proxy_fqdn.as_ref().map(DomainName::to_string),
            connection_limit: *connection_limit,
            keep_alive_enabled: *keep_alive_enabled,
            tls_negotiation: negotiation_number(*tls_negotiation),
            sasl_negotiation: negotiation_number(*sasl_negotiation),
            dialback_enabled: *dialback_enabled,
            suspended: *suspended,
            expire_time: expire_time.map(Into::into),
            review_time: review_time.map(Into::into),
            owner: owner.clone(),
            labels: labels.into(),
        }
    }
}

impl TryFrom<StoredTerms> for Terms {
    type Error = Damage;

    fn try_from(stored: StoredTerms) -> Result<Self, Damage> {
        let StoredTerms {
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
        } = stored;
        Ok(Self {
            description,
            additional_domains: additional_domains
                .iter()
                .map(|domain| domain_name(domain))
                .collect::<Result<_, _>>()?,
            partner_type: numbered_partner_type(partner_type)?,
            proxy_fqdn: proxy_fqdn.as_deref().map(domain_name).transpose()?,
            connection_limit,
            keep_alive_enabled,
            tls_negotiation: numbered_negotiation(tls_negotiation)?,
            sasl_negotiation: numbered_negotiation(sasl_negotiation)?,
            dialback_enabled,
            suspended,
            expire_time: time::optional(expire_time)?,
            review_time: time::optional(review_time)?,
            owner,
            labels: (&labels).into(),
        })
    }
}

fn domain_name(text: &str) -> Result<DomainName, Damage> {
    DomainName::from_stored(text)
        .ok_or_else(|| Damage::Content(format!("{text:?} is no domain in its stored form")))
}

// The numbers are what is on the disk: one that was ever used keeps its meaning. None is 0, so a
// number that was lost is noticed.

const fn partner_type_number(partner_type: PartnerType) -> u32 {
    match partner_type {
        PartnerType::PublicUnverified => 1,
        PartnerType::PublicVerified => 2,
        PartnerType::Federated => 3,
    }
}

fn numbered_partner_type(number: u32) -> Result<PartnerType, Damage> {
    match number {
        1 => Ok(PartnerType::PublicUnverified),
        2 => Ok(PartnerType::PublicVerified),
        3 => Ok(PartnerType::Federated),
        _ => Err(Damage::Content(format!("there is no partner type {number}"))),
    }
}

const fn negotiation_number(negotiation: Negotiation) -> u32 {
    match negotiation {
        Negotiation::Required => 1,
        Negotiation::Optional => 2,
        Negotiation::NotSupported => 3,
    }
}

fn numbered_negotiation(number: u32) -> Result<Negotiation, Damage> {
    match number {
        1 => Ok(Negotiation::Required),
        2 => Ok(Negotiation::Optional),
        3 => Ok(Negotiation::NotSupported),
        _ => Err(Damage::Content(format!("there is no negotiation {number}"))),
    }
}

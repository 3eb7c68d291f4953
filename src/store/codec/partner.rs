//! Partners: written as messages, and read field by field, because a start reads a million. That
//! both are about the same fields is what the tests of this folder are for.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use prost::Message as _;
use uuid::Uuid;

use super::{
    Damage, Kind, Stored, Texts, array,
    fields::{self, Value},
    message,
    time::StoredTime,
};
use crate::domain::{
    AllowedPartner, DomainName, Revision, Terms, labels::Labels, negotiation::Negotiation,
    partner::PartnerType,
};

/// An allowed partner, as it is written.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredPartner {
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
        partner(payload, texts)
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

/// The partner in the message [`StoredPartner`].
fn partner(payload: &[u8], texts: &mut Texts) -> Result<AllowedPartner, Damage> {
    let (mut domain, mut uid, mut terms) = (None, None, None);
    let (mut create_time, mut update_time, mut delete_time) = (None, None, None);
    let (mut creator, mut updater) = ("", "");
    let (mut revision, mut expired) = (0, false);
    fields::each(payload, |tag, value| {
        match tag {
            1 => domain = Some(domain_name(value.text()?)?),
            2 => uid = Some(Uuid::from_bytes(array(value.bytes()?, "uid")?)),
            3 => terms = Some(self::terms(value.bytes()?, texts)?),
            4 => create_time = Some(moment(value)?),
            5 => update_time = Some(moment(value)?),
            6 => creator = value.text()?,
            7 => updater = value.text()?,
            8 => revision = value.number()?,
            9 => delete_time = Some(moment(value)?),
            10 => expired = value.bool()?,
            _ => {}
        }
        Ok(())
    })?;
    let missing = |what| move || Damage::missing(what);
    Ok(AllowedPartner {
        domain: domain.ok_or_else(missing("domain"))?,
        uid: uid.ok_or_else(missing("uid"))?,
        terms: terms.ok_or_else(missing("terms"))?,
        create_time: create_time.ok_or_else(missing("create_time"))?,
        update_time: update_time.ok_or_else(missing("update_time"))?,
        creator: texts.shared(creator),
        updater: texts.shared(updater),
        revision: Revision::new(revision),
        delete_time,
        expired,
    })
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
            owner: owner.to_string(),
            labels: labels.into(),
        }
    }
}

/// The terms in the message [`StoredTerms`].
fn terms(payload: &[u8], texts: &mut Texts) -> Result<Terms, Damage> {
    // What is false is not written, and some defaults are true.
    let mut terms =
        Terms { keep_alive_enabled: false, dialback_enabled: false, ..Terms::default() };
    // Most have one of each, and the slices they end up in have no room to spare.
    let (mut domains, mut labels) = (Vec::new(), Vec::new());
    let (mut partner_type, mut tls, mut sasl) = (0, 0, 0);
    fields::each(payload, |tag, value| {
        match tag {
            1 => value.text()?.clone_into(&mut terms.description),
            2 => {
                domains.reserve_exact(1);
                domains.push(domain_name(value.text()?)?);
            }
            3 => partner_type = value.number()?,
            4 => terms.proxy_fqdn = Some(domain_name(value.text()?)?),
            5 => terms.connection_limit = Some(limit(value)?),
            6 => terms.keep_alive_enabled = value.bool()?,
            7 => tls = value.number()?,
            8 => sasl = value.number()?,
            9 => terms.dialback_enabled = value.bool()?,
            10 => terms.suspended = value.bool()?,
            11 => terms.expire_time = Some(moment(value)?),
            12 => terms.review_time = Some(moment(value)?),
            13 => terms.owner = texts.shared(value.text()?),
            14 => {
                labels.reserve_exact(1);
                labels.push(label(value.bytes()?, texts)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    terms.additional_domains = domains.into_iter().collect();
    terms.labels = labels.into_iter().collect::<Labels>();
    terms.partner_type = numbered_partner_type(partner_type)?;
    terms.tls_negotiation = numbered_negotiation(tls)?;
    terms.sasl_negotiation = numbered_negotiation(sasl)?;
    Ok(terms)
}

/// A key and its value, of which there are few among many partners.
fn label(entry: &[u8], texts: &mut Texts) -> Result<(Arc<str>, Arc<str>), Damage> {
    let (mut key, mut value) = ("", "");
    fields::each(entry, |tag, field| {
        match tag {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((texts.shared(key), texts.shared(value)))
}

fn moment(value: Value<'_>) -> Result<Timestamp, Damage> {
    message::<StoredTime>(value.bytes()?)?.try_into()
}

fn limit(value: Value<'_>) -> Result<i32, Damage> {
    i32::try_from(value.number()?.cast_signed())
        .map_err(|_| Damage::content("a connection limit is out of range"))
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

fn numbered_partner_type(number: u64) -> Result<PartnerType, Damage> {
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

fn numbered_negotiation(number: u64) -> Result<Negotiation, Damage> {
    match number {
        1 => Ok(Negotiation::Required),
        2 => Ok(Negotiation::Optional),
        3 => Ok(Negotiation::NotSupported),
        _ => Err(Damage::Content(format!("there is no negotiation {number}"))),
    }
}

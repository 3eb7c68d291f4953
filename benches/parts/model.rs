//! What the parts are given: the same partners as the other measurements, as the model has them.

use std::sync::Arc;

use jiff::Timestamp;
use partnerd::{
    auth::{Call, Caller},
    domain::{
        AllowedPartner, DomainName, Revision, Terms, audit::Actor, labels::Labels,
        partner::PartnerType,
    },
    store::{Change, Commit},
};
use uuid::Uuid;

use crate::data;

/// A domain.
pub fn domain(text: &str) -> DomainName {
    DomainName::parse(text).expect("the domains made up are valid")
}

/// A partner of some 400 bytes on the wire.
pub fn partner(number: u32) -> AllowedPartner {
    let sent = data::partner(number);
    AllowedPartner {
        domain: domain(&data::domain(number)),
        uid: Uuid::from_u128(u128::from(number) + 1),
        terms: Terms {
            description: sent.description,
            additional_domains: [domain(&data::additional_domain(number))].into_iter().collect(),
            partner_type: PartnerType::Federated,
            owner: sent.owner.into(),
            labels: Labels::from(&sent.labels),
            ..Terms::default()
        },
        create_time: Timestamp::UNIX_EPOCH,
        update_time: Timestamp::UNIX_EPOCH,
        creator: "admin".into(),
        updater: "admin".into(),
        revision: Revision::new(u64::from(number) + 1),
        delete_time: None,
        expired: false,
    }
}

/// A commit that changes the owner of one partner.
pub fn commit() -> Commit {
    let before = partner(1);
    let terms = Terms { owner: "someone-else@example.com".into(), ..before.terms.clone() };
    let after = AllowedPartner { terms, revision: Revision::new(2), ..before.clone() };
    let change = Change::Partner { before: Some(Arc::new(before)), after: Arc::new(after) };
    Commit {
        revision: Revision::new(2),
        time: Timestamp::UNIX_EPOCH,
        actor: actor(),
        changes: vec![change],
    }
}

/// Who changes it.
pub fn actor() -> Actor {
    call(&["operator"]).actor()
}

/// A call of somebody with these roles.
pub fn call(roles: &[&str]) -> Call {
    let caller = Caller {
        subject: "alice@example.com".into(),
        issuer: "https://login.example.com".into(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        expire_time: Timestamp::MAX,
        good_until: Timestamp::MAX,
        token_id: None,
        key_id: "k1".into(),
        key_fingerprint: [0; 32],
    };
    Call {
        caller: Arc::new(caller),
        request_id: "f7a1c0de-0000-4000-8000-000000000000".into(),
        reason: "a new contact".into(),
    }
}

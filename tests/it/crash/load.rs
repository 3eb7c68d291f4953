//! Clients that write without a pause, and remember what they sent and what they were told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use partnerd::proto::v1::{self as pb, FederationSettings};
use prost_types::FieldMask;
use uuid::Uuid;

use crate::harness::actor::{Actor, Outcome, name, update};

/// The partners of each writer.
const PARTNERS: u64 = 12;

/// Numbers from a seed (splitmix64), so that a run can be repeated.
pub struct Random(Mutex<u64>);

impl Random {
    pub fn new(seed: u128) -> Self {
        Self(Mutex::new(seed as u64))
    }

    pub fn fork(&self) -> Self {
        Self::new(self.below(u64::MAX).into())
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub fn uuid(&self) -> Uuid {
        let halves = [self.below(u64::MAX), self.below(u64::MAX)];
        uuid::Builder::from_random_bytes(Uuid::from_u64_pair(halves[0], halves[1]).into_bytes())
            .into_uuid()
    }
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    Create {
        domain: String,
        owner: String,
    },
    Update {
        domain: String,
        owner: String,
    },
    Delete {
        domain: String,
    },
    /// Updates, or creates, all at one revision.
    Batch {
        domains: Vec<String>,
        owner: String,
    },
    Settings {
        limit: i32,
    },
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Partners(Vec<pb::AllowedPartner>),
    Settings(FederationSettings),
}

/// A request, and its answer if there was one.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: Uuid,
    pub ask: Ask,
    pub answer: Option<Answer>,
}

/// A client with partners of its own. The first one also changes the settings.
pub struct Writer {
    number: usize,
    random: Random,
    pub sent: Vec<Sent>,
    /// The domains in force, as the answers tell.
    live: BTreeSet<String>,
}

impl Sent {
    async fn send(&self, admin: &Actor) -> Outcome<Answer> {
        let request_id = self.id.to_string();
        let owned = |owner: &str| pb::AllowedPartner { owner: owner.into(), ..Default::default() };
        let one = |partner| Answer::Partners(vec![partner]);
        match &self.ask {
            Ask::Create { domain, owner } => {
                let request = pb::CreateAllowedPartnerRequest {
                    allowed_partner: Some(owned(owner)),
                    allowed_partner_id: domain.clone(),
                    request_id,
                    ..Default::default()
                };
                let created = admin.partners().create_allowed_partner(request).await?;
                Ok(one(created.into_inner()))
            }
            Ask::Update { domain, owner } => {
                let request = pb::UpdateAllowedPartnerRequest {
                    request_id,
                    ..update(domain, &["owner"], owned(owner))
                };
                Ok(one(admin.partners().update_allowed_partner(request).await?.into_inner()))
            }
            Ask::Delete { domain } => {
                let request = pb::DeleteAllowedPartnerRequest {
                    name: name(domain),
                    request_id,
                    ..Default::default()
                };
                Ok(one(admin.partners().delete_allowed_partner(request).await?.into_inner()))
            }
            Ask::Batch { domains, owner } => {
                let item = |domain: &String| pb::UpdateAllowedPartnerRequest {
                    allow_missing: true,
                    ..update(domain, &["owner"], owned(owner))
                };
                let request = pb::BatchUpdateAllowedPartnersRequest {
                    requests: domains.iter().map(item).collect(),
                    request_id,
                    ..Default::default()
                };
                let updated = admin.partners().batch_update_allowed_partners(request).await?;
                Ok(Answer::Partners(updated.into_inner().allowed_partners))
            }
            Ask::Settings { limit } => {
                let settings = FederationSettings {
                    name: "federationSettings".into(),
                    connection_limit: *limit,
                    ..Default::default()
                };
                let request = pb::UpdateFederationSettingsRequest {
                    federation_settings: Some(settings),
                    update_mask: Some(FieldMask { paths: vec!["connection_limit".into()] }),
                    request_id,
                    ..Default::default()
                };
                let updated = admin.settings().update_federation_settings(request).await?;
                Ok(Answer::Settings(updated.into_inner()))
            }
        }
    }
}

impl Writer {
    pub fn new(number: usize, random: Random) -> Self {
        Self { number, random, sent: Vec::new(), live: BTreeSet::new() }
    }

    /// How many of its requests were answered.
    pub fn acknowledged(&self) -> usize {
        self.sent.iter().filter(|sent| sent.answer.is_some()).count()
    }

    /// Repeats the request that a crash left without an answer, and goes on until the next crash.
    pub async fn write_until_gone(mut self, admin: Arc<Actor>) -> Self {
        if let Some(unanswered) = self.sent.last_mut().filter(|sent| sent.answer.is_none()) {
            match unanswered.send(&admin).await {
                Ok(answer) => unanswered.answer = Some(answer.clone()),
                Err(status) => return self.unless_gone(&status),
            }
            let answered = self.sent.last().expect("it was just answered").clone();
            self.remember(&answered);
        }
        loop {
            if self.random.below(8) == 0
                && let Err(status) = self.repeat_an_old_request(&admin).await
            {
                return self.unless_gone(&status);
            }
            let sent = Sent { id: self.random.uuid(), ask: self.next(), answer: None };
            self.sent.push(sent.clone());
            match sent.send(&admin).await {
                Ok(answer) => {
                    let answered = Sent { answer: Some(answer), ..sent };
                    self.remember(&answered);
                    *self.sent.last_mut().expect("it was just sent") = answered;
                }
                Err(status) => return self.unless_gone(&status),
            }
        }
    }

    /// A retry gets the first answer, whatever happened since.
    async fn repeat_an_old_request(&self, admin: &Actor) -> Outcome<()> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let old = &self.sent[self.random.below(self.sent.len() as u64) as usize];
        assert_eq!(Some(old.send(admin).await?), old.answer, "{:?}", old.ask);
        Ok(())
    }

    /// The server was killed: what is refused for any other reason is a mistake.
    fn unless_gone(self, status: &tonic::Status) -> Self {
        use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};
        let is_gone = matches!(status.code(), Unavailable | Cancelled | Unknown | Internal)
            && status.details().is_empty();
        assert!(is_gone, "{:?}: {status:?}", self.sent.last());
        self
    }

    fn remember(&mut self, sent: &Sent) {
        let Some(Answer::Partners(partners)) = &sent.answer else { return };
        for partner in partners {
            let domain = partner.name.replace("allowedPartners/", "");
            match partner.delete_time {
                None => self.live.insert(domain),
                Some(_) => self.live.remove(&domain),
            };
        }
    }

    fn next(&self) -> Ask {
        let number = self.sent.len();
        // Never twice the same, so that every request changes something.
        let owner = format!("{}-{number}", self.number);
        let domain = |number: u64| format!("w{}-p{number}.example", self.number);
        let some = domain(self.random.below(PARTNERS));
        match (self.random.below(12), self.live.contains(&some)) {
            (0, _) if self.number == 0 => {
                Ask::Settings { limit: 1 + i32::try_from(number).expect("not that many") }
            }
            (0..=2, _) => {
                let first = self.random.below(PARTNERS);
                let domains = (first..first + 3).map(|it| domain(it % PARTNERS)).collect();
                Ask::Batch { domains, owner }
            }
            (_, false) => Ask::Create { domain: some, owner },
            (3..=5, true) => Ask::Delete { domain: some },
            (_, true) => Ask::Update { domain: some, owner },
        }
    }
}

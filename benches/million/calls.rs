//! The calls that are measured, one at a time on one connection.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use partnerd::proto::v1::{self as pb, ListAllowedPartnersRequest};
use prost::Message as _;

use crate::{data, harness::actor, subject::Subject};

/// The most partners of a page.
const PAGE: u32 = 1_000;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Get,
    ResolvePrimary,
    ResolveAdditional,
    ResolveUnknown,
    PageOfHundred,
    PageOfThousand,
    MiddlePage,
    Selective,
    FullScan,
    Ordered,
    Update,
}

/// What calls of one kind came to on one server.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    latencies: Vec<Duration>,
    /// The server's processor time per call, one figure a round.
    processor: Vec<Duration>,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Get,
        Self::ResolvePrimary,
        Self::ResolveAdditional,
        Self::ResolveUnknown,
        Self::PageOfHundred,
        Self::PageOfThousand,
        Self::MiddlePage,
        Self::Selective,
        Self::FullScan,
        Self::Ordered,
        Self::Update,
    ];

    /// The name of its row.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Get => "Get",
            Self::ResolvePrimary => "ResolveDomain, a primary domain",
            Self::ResolveAdditional => "ResolveDomain, an additional domain",
            Self::ResolveUnknown => "ResolveDomain, an unknown domain",
            Self::PageOfHundred => "List, first page of 100",
            Self::PageOfThousand => "List, first page of 1,000",
            Self::MiddlePage => "List, page of 100 from the middle",
            Self::Selective => "List, filter that one in 1,000 meets, page of 100",
            Self::FullScan => "List, filter that none meets, with the total",
            Self::Ordered => "List, by owner, page of 100",
            Self::Update => "Update of one field, durable",
        }
    }

    /// Calls a round.
    const fn turns(self) -> usize {
        match self {
            Self::Get | Self::ResolvePrimary | Self::ResolveAdditional | Self::ResolveUnknown => {
                1_000
            }
            Self::PageOfHundred | Self::MiddlePage | Self::Update => 100,
            Self::PageOfThousand => 40,
            Self::Selective | Self::FullScan | Self::Ordered => 4,
        }
    }

    /// One round on one server.
    pub async fn measure(self, subject: &Subject, figures: &mut Figures) {
        let middle = match self {
            Self::MiddlePage => middle(subject).await,
            _ => String::new(),
        };
        // Whatever only the first call of a round pays is not measured.
        self.call(subject, 0, &middle).await;
        let before = subject.threads();
        for turn in 0..self.turns() {
            let start = Instant::now();
            self.call(subject, figures.latencies.len() + turn + 1, &middle).await;
            figures.latencies.push(start.elapsed());
        }
        let used = subject.threads().since(&before);
        let turns = u32::try_from(self.turns()).expect("they are few");
        figures.processor.push(used / turns);
    }

    async fn call(self, subject: &Subject, turn: usize, page_token: &str) {
        let number = subject.number(turn);
        match self {
            Self::Get => {
                subject.admin.get(&data::domain(number)).await.expect("it was loaded");
            }
            Self::ResolvePrimary => resolve(subject, &data::domain(number), true).await,
            Self::ResolveAdditional => {
                resolve(subject, &data::additional_domain(number), true).await;
            }
            Self::ResolveUnknown => resolve(subject, &data::unknown_domain(number), false).await,
            Self::Update => {
                let owner = format!("turn-{turn}@example.com");
                let partner = pb::AllowedPartner { owner, ..Default::default() };
                let update = actor::update(&data::domain(number), &["owner"], partner);
                subject.admin.update(update).await.expect("an owner may change");
            }
            _ => {
                subject.admin.list(self.listing(page_token)).await.expect("the query is valid");
            }
        }
    }

    fn listing(self, page_token: &str) -> ListAllowedPartnersRequest {
        let request = ListAllowedPartnersRequest { page_size: 100, ..Default::default() };
        match self {
            Self::PageOfThousand => ListAllowedPartnersRequest { page_size: 1_000, ..request },
            Self::MiddlePage => {
                ListAllowedPartnersRequest { page_token: page_token.to_owned(), ..request }
            }
            Self::Selective => ListAllowedPartnersRequest {
                filter: "labels.tier = \"gold\"".to_owned(),
                ..request
            },
            Self::FullScan => ListAllowedPartnersRequest {
                filter: "partner_type = FEDERATED AND tls_negotiation = NOT_SUPPORTED".to_owned(),
                ..request
            },
            Self::Ordered => ListAllowedPartnersRequest { order_by: "owner".to_owned(), ..request },
            _ => request,
        }
    }
}

async fn resolve(subject: &Subject, domain: &str, allowed: bool) {
    let answer = subject.admin.resolve(domain).await.expect("there is always an answer");
    assert_eq!(answer.allowed, allowed, "{domain}");
}

/// The token of the page that begins in the middle of the list.
async fn middle(subject: &Subject) -> String {
    let mut page_token = String::new();
    for _ in 0..subject.partners.div_ceil(2 * PAGE) {
        let page_size = i32::try_from(PAGE.min(subject.partners / 2)).expect("a page is small");
        let request = ListAllowedPartnersRequest { page_size, page_token, ..Default::default() };
        page_token = subject.admin.list(request).await.expect("it is our token").next_page_token;
    }
    page_token
}

impl Figures {
    /// The latency that this part of the calls stayed within.
    pub fn latency(&self, part: f64) -> Duration {
        quantile(&self.latencies, part)
    }

    /// The server's processor time for a call: the median of the rounds.
    pub fn processor(&self) -> Duration {
        quantile(&self.processor, 0.5)
    }
}

/// The value that this part of `values` stays within.
pub fn quantile(values: &[Duration], part: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let place = (part * (sorted.len() - 1) as f64).round() as usize;
    sorted[place]
}

/// The processor time to encode a page and no more: the median of many.
pub fn cost_of_encoding(page: &pb::ListAllowedPartnersResponse) -> Duration {
    let times: Vec<_> = (0..201)
        .map(|_| {
            let start = Instant::now();
            black_box(black_box(page).encode_to_vec());
            start.elapsed()
        })
        .collect();
    quantile(&times, 0.5)
}

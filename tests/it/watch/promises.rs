//! The promises kept by the real server: random writes, followers that come and go, and the
//! checker over what they were told.

use partnerd::proto::{
    v1::{self as pb, AllowedPartner, WatchAllowedPartnersRequest, WatchEvent, watch_event::Type},
    watch::WatchAllowedPartnersResponse,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use prost_types::{Duration, FieldMask};
use tokio::sync::watch as told;

use super::checker::{History, Message, Session, State, Told, Version, check};
use crate::harness::{
    TestServer,
    actor::{Actor, name, update},
    stream::{Watch, events},
};

const SETTINGS: &str = "federationSettings";
const DOMAINS: [&str; 5] = ["a.example", "b.example", "c.example", "d.example", "e.example"];
const OWNERS: [&str; 2] = ["jo", "al"];

/// A write, by the places of domains and owners in their lists.
#[derive(Clone, Debug)]
enum Write {
    Create(usize, usize),
    Owner(usize, usize),
    Delete(usize),
    Undelete(usize),
    Upserts(Vec<(usize, usize)>),
    Deletes(Vec<usize>),
    Limit(i32),
}

/// Somebody who follows what is written.
#[derive(Clone, Debug)]
struct Follower {
    /// Before which write he comes.
    comes: Index,
    /// From where on; the state if `None`.
    start: Option<Index>,
    /// The owner whose partners he wants to see; all of them if `None`.
    owner: Option<usize>,
    /// After how many messages he loses his connections.
    patience: Vec<usize>,
}

/// The writer's own account of what he did.
pub struct Chronicle {
    admin: Actor,
    state: State,
    pub history: History,
}

fn writes() -> impl Strategy<Value = Write> {
    let (domain, owner) = (0..DOMAINS.len(), 0..OWNERS.len());
    prop_oneof![
        4 => (domain.clone(), owner.clone()).prop_map(|(domain, owner)| Write::Create(domain, owner)),
        6 => (domain.clone(), owner.clone()).prop_map(|(domain, owner)| Write::Owner(domain, owner)),
        2 => domain.clone().prop_map(Write::Delete),
        2 => domain.clone().prop_map(Write::Undelete),
        3 => vec((domain.clone(), owner), 1..5).prop_map(Write::Upserts),
        1 => vec(domain, 1..4).prop_map(Write::Deletes),
        1 => (1..5_i32).prop_map(Write::Limit),
    ]
}

fn followers() -> impl Strategy<Value = Follower> {
    let owner = proptest::option::of(0..OWNERS.len());
    let start = proptest::option::of(any::<Index>());
    (any::<Index>(), start, owner, vec(1..6_usize, 0..8))
        .prop_map(|(comes, start, owner, patience)| Follower { comes, start, owner, patience })
}

impl Chronicle {
    /// The account of an empty server.
    pub async fn of(server: &TestServer) -> Self {
        let admin = server.admin();
        let mut state = State::new();
        let settings = admin
            .settings()
            .get_federation_settings(pb::GetFederationSettingsRequest::default())
            .await
            .unwrap();
        state.insert(SETTINGS.into(), version(&settings.into_inner().etag, ""));
        Self { admin, history: History::new(state.clone()), state }
    }

    /// The same account, gone on with at the server after its restart.
    pub fn at(self, server: &TestServer) -> Self {
        Self { admin: server.admin(), ..self }
    }

    /// Creates a partner or gives it to another owner.
    pub async fn upsert(&mut self, domains: &[String], owner: &str) {
        let requests = domains.iter().map(|domain| upsert(domain, owner)).collect();
        let request = pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
        let mut partners = self.admin.partners();
        let written = partners.batch_update_allowed_partners(request).await.unwrap().into_inner();
        self.put(&written.allowed_partners, written.revision);
    }

    async fn write(&mut self, write: &Write) {
        let mut partners = self.admin.partners();
        let owned =
            |owner: usize| AllowedPartner { owner: OWNERS[owner].into(), ..Default::default() };
        let written = match write {
            Write::Create(domain, owner) => {
                self.admin.create(DOMAINS[*domain], owned(*owner)).await
            }
            Write::Owner(domain, owner) => {
                self.admin.update(update(DOMAINS[*domain], &["owner"], owned(*owner))).await
            }
            Write::Delete(domain) => self.admin.delete(DOMAINS[*domain]).await,
            Write::Undelete(domain) => self.admin.undelete(DOMAINS[*domain]).await,
            Write::Upserts(items) => {
                let mut items = items.clone();
                items.sort_unstable();
                items.dedup_by_key(|(domain, _)| *domain);
                let requests =
                    items.iter().map(|(domain, owner)| upsert(DOMAINS[*domain], OWNERS[*owner]));
                let requests = requests.collect();
                let request =
                    pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
                let written =
                    partners.batch_update_allowed_partners(request).await.unwrap().into_inner();
                return self.put(&written.allowed_partners, written.revision);
            }
            Write::Deletes(items) => {
                let mut items = items.clone();
                items.sort_unstable();
                items.dedup();
                let requests = items.iter().map(|domain| pb::DeleteAllowedPartnerRequest {
                    name: name(DOMAINS[*domain]),
                    allow_missing: true,
                    ..Default::default()
                });
                let requests = requests.collect();
                let request =
                    pb::BatchDeleteAllowedPartnersRequest { requests, ..Default::default() };
                let written =
                    partners.batch_delete_allowed_partners(request).await.unwrap().into_inner();
                return self.put(&written.allowed_partners, written.revision);
            }
            Write::Limit(limit) => return self.limit(*limit).await,
        };
        // What cannot be done now is left undone.
        if let Ok(partner) = written {
            self.put(std::slice::from_ref(&partner), partner.revision);
        }
    }

    async fn limit(&mut self, connection_limit: i32) {
        let settings = pb::FederationSettings { connection_limit, ..Default::default() };
        let request = pb::UpdateFederationSettingsRequest {
            federation_settings: Some(settings),
            ..Default::default()
        };
        let mut settings = self.admin.settings();
        let written = settings.update_federation_settings(request).await.unwrap().into_inner();
        if written.revision > self.history.last() {
            self.state.insert(SETTINGS.into(), version(&written.etag, ""));
            self.history.push(self.state.clone());
        }
    }

    fn put(&mut self, partners: &[AllowedPartner], revision: i64) {
        if revision <= self.history.last() {
            return;
        }
        assert_eq!(revision, self.history.last() + 1, "nobody else writes");
        for partner in partners.iter().filter(|partner| partner.revision == revision) {
            match partner.delete_time {
                None => {
                    let version = version(&partner.etag, &partner.owner);
                    self.state.insert(partner.name.clone(), version);
                }
                Some(_) => drop(self.state.remove(&partner.name)),
            }
        }
        self.history.push(self.state.clone());
    }
}

fn upsert(domain: &str, owner: &str) -> pb::UpdateAllowedPartnerRequest {
    pb::UpdateAllowedPartnerRequest {
        allowed_partner: Some(AllowedPartner {
            name: name(domain),
            owner: owner.into(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["owner".into()] }),
        allow_missing: true,
        ..Default::default()
    }
}

fn version(etag: &str, owner: &str) -> Version {
    Version { etag: etag.into(), owner: owner.into() }
}

/// What the checker needs of an event.
fn told(event: &WatchEvent) -> Told {
    let partner = event.allowed_partner.as_ref().filter(|partner| partner.delete_time.is_none());
    let etag = partner.map(|partner| partner.etag.clone());
    let settings = event.federation_settings.as_ref().map(|settings| settings.etag.clone());
    let gone = event.r#type() == Type::Removed && etag.is_none();
    assert!(gone || etag.is_some() || settings.is_some(), "an admin is shown everything");
    Told {
        kind: event.r#type(),
        name: event.name.clone(),
        revision: event.revision,
        etag: etag.or(settings),
    }
}

pub fn message(message: &WatchAllowedPartnersResponse) -> Message {
    Message {
        events: events(message).iter().map(told).collect(),
        progress: message.progress_revision,
        more: message.more_of_this_revision,
        synced: message.synced,
    }
}

impl Follower {
    fn request(&self, start_revision: i64) -> WatchAllowedPartnersRequest {
        let filter = self.owner.map(|owner| format!("owner = \"{}\"", OWNERS[owner]));
        WatchAllowedPartnersRequest {
            filter: filter.unwrap_or_default(),
            start_revision,
            progress_interval: Some(Duration { seconds: 1, nanos: 0 }),
        }
    }

    fn sees(&self, name: &str, version: &Version) -> bool {
        name == SETTINGS || self.owner.is_none_or(|owner| OWNERS[owner] == version.owner)
    }

    /// Follows, over as many connections as it takes, until the last revision is known and told.
    async fn follow(
        self,
        actor: Actor,
        mut start: i64,
        mut last: told::Receiver<Option<i64>>,
    ) -> Vec<Session> {
        let mut sessions = Vec::new();
        let mut patience = self.patience.clone().into_iter();
        loop {
            let watch = actor.watch(self.request(start)).await.unwrap();
            let most = patience.next().unwrap_or(usize::MAX);
            let (session, done) = recorded(watch, start, most, &mut last).await;
            let progress = session.messages.iter().rev().map(|message| message.progress);
            start = progress.into_iter().find(|progress| *progress > 0).unwrap_or(start);
            sessions.push(session);
            if done {
                return sessions;
            }
        }
    }
}

/// Records a stream until it has told everything, or so many messages.
pub async fn recorded(
    mut watch: Watch,
    start: i64,
    most: usize,
    last: &mut told::Receiver<Option<i64>>,
) -> (Session, bool) {
    let mut session = Session { start, messages: Vec::new() };
    while session.messages.len() < most {
        let next = message(&watch.next().await);
        let progress = next.progress;
        session.messages.push(next);
        if last.borrow().is_some_and(|last| progress >= last) {
            return (session, true);
        }
    }
    (session, false)
}

/// Writes while followers come and go, and checks what they were told.
async fn rehearse(writes: Vec<Write>, followers: Vec<Follower>, tail: usize) {
    let server =
        TestServer::builder().limits(move |limits| limits.watch_tail_commits = tail).start().await;
    let mut chronicle = Chronicle::of(&server).await;
    let (done, last) = told::channel(None);
    let mut running = Vec::new();
    for (at, write) in writes.iter().enumerate() {
        for follower in followers.iter().filter(|it| it.comes.index(writes.len()) == at) {
            // From the state, from a revision that has passed, or from one that lies ahead.
            let ahead = usize::try_from(chronicle.history.last()).unwrap() + 3;
            let start = follower.start.map_or(0, |start| start.index(ahead) + 1);
            let start = if follower.start.is_none() { 0 } else { i64::try_from(start).unwrap() };
            let task = follower.clone().follow(server.admin(), start, last.clone());
            running.push((follower, tokio::spawn(task)));
        }
        chronicle.write(write).await;
    }
    done.send_replace(Some(chronicle.history.last()));
    for (follower, task) in running {
        let sessions = task.await.unwrap();
        let checked =
            check(&chronicle.history, &|name, version| follower.sees(name, version), &sessions);
        assert_eq!(checked, Ok(()), "{follower:?}\n{sessions:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, ..Default::default() })]

    #[test]
    fn whoever_comes_and_goes_is_told_everything_once_and_in_order(
        writes in vec(writes(), 20..60),
        followers in vec(followers(), 1..6),
        tail in 1..30_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(rehearse(writes, followers, tail));
    }
}

//! The load: what a year brings, in minutes. The rates are fixed, so that a fast machine and a slow
//! one do about the same.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use partnerd::proto::v1::{self as pb, WatchAllowedPartnersRequest};
use prost_types::FieldMask;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tonic::Code;

use crate::{
    data,
    harness::actor::{self, Actor},
    server::PARTNERS,
    site::{Site, every},
};

/// The partners that one writer makes and removes.
const OWN_PARTNERS: usize = 100;

/// The replicas that report.
const REPLICAS: usize = 20;

/// How long a stream is followed.
const FOLLOWED: Duration = Duration::from_millis(300);

/// Runs all of it until its time is over, and waits until nothing of it runs any more.
pub async fn run(site: Arc<Site>) {
    let mut people = JoinSet::new();
    for number in 0..2 {
        people.spawn(reads(Arc::clone(&site), number));
        people.spawn(writes(Arc::clone(&site), number));
    }
    for number in 0..8 {
        people.spawn(follows(Arc::clone(&site), number));
    }
    people.spawn(lists(Arc::clone(&site)));
    people.spawn(batches(Arc::clone(&site)));
    people.spawn(is_denied(Arc::clone(&site)));
    people.spawn(is_not_believed(Arc::clone(&site)));
    people.spawn(reports(Arc::clone(&site)));
    people.spawn(comes_and_goes(Arc::clone(&site)));
    people.spawn(hangs_up(Arc::clone(&site)));
    while let Some(ended) = people.join_next().await {
        if let Err(error) = ended {
            site.fault(format!("a part of the load has ended early: {error}"));
        }
    }
}

async fn reads(site: Arc<Site>, number: u32) {
    let reader = site.somebody(&format!("reader-{number}"), "viewer").await;
    let mut beat = every(Duration::from_millis(5));
    let mut turn = number;
    while site.goes_on() {
        beat.tick().await;
        turn = turn.wrapping_add(7_919);
        let partner = turn % PARTNERS;
        if turn.is_multiple_of(2) {
            site.call("Get", &[Code::Ok], reader.get(&data::domain(partner))).await;
        } else {
            let domain = data::additional_domain(partner);
            site.call("ResolveDomain", &[Code::Ok], reader.resolve(&domain)).await;
        }
    }
}

async fn lists(site: Arc<Site>) {
    let reader = site.somebody("lister", "viewer").await;
    let mut beat = every(Duration::from_millis(100));
    let queries = [
        ("", "", 1_000),
        ("labels.tier = \"gold\"", "", 100),
        ("partner_type = FEDERATED AND connection_limit:*", "", 50),
        ("", "owner desc", 100),
        ("owner:\"owner-00\"", "update_time", 10),
    ];
    for (filter, order_by, page_size) in queries.into_iter().cycle() {
        if !site.goes_on() {
            return;
        }
        beat.tick().await;
        let mut request = pb::ListAllowedPartnersRequest {
            filter: filter.into(),
            order_by: order_by.into(),
            page_size,
            show_deleted: page_size == 100,
            read_mask: (page_size == 50).then(|| FieldMask { paths: vec!["owner".into()] }),
            ..Default::default()
        };
        // Some pages, and the listing is given up in the middle.
        for _ in 0..3 {
            let page = site.call("List", &[Code::Ok], reader.list(request.clone())).await;
            match page {
                Some(page) if !page.next_page_token.is_empty() => {
                    request.page_token = page.next_page_token;
                }
                _ => break,
            }
        }
    }
}

async fn writes(site: Arc<Site>, number: u32) {
    let writer = site.somebody(&format!("writer-{number}"), "admin").await;
    let mut beat = every(Duration::from_millis(25));
    let mut turn = 0;
    while site.goes_on() {
        let domain = format!("own-{number}-{}.example", turn % OWN_PARTNERS);
        turn += 1;
        let owner = format!("turn-{turn}@example.com");
        let partner = pb::AllowedPartner { owner, ..Default::default() };
        beat.tick().await;
        let created = writer.create(&domain, pb::AllowedPartner::default());
        site.call("Create", &[Code::Ok], created).await;
        beat.tick().await;
        let update = actor::update(&domain, &["owner"], partner.clone());
        site.call("Update", &[Code::Ok], writer.update(update)).await;
        beat.tick().await;
        site.call("Delete", &[Code::Ok], writer.delete(&domain)).await;
        beat.tick().await;
        site.call("Undelete", &[Code::Ok], writer.undelete(&domain)).await;
        beat.tick().await;
        let stale = pb::AllowedPartner { etag: "\"stale\"".into(), ..partner };
        let update = actor::update(&domain, &["owner"], stale);
        let wanted = [Code::Aborted, Code::InvalidArgument];
        site.call("Update with a stale etag", &wanted, writer.update(update)).await;
        site.call("Delete", &[Code::Ok], writer.delete(&domain)).await;
    }
}

async fn batches(site: Arc<Site>) {
    let writer = site.somebody("loader", "admin").await;
    let mut beat = every(Duration::from_millis(500));
    let mut turn = 0;
    while site.goes_on() {
        beat.tick().await;
        turn += 1;
        let requests = (0..50).map(|index| {
            let partner = data::partner((turn * 50 + index) % PARTNERS);
            let owner = format!("batch-{turn}@example.com");
            pb::UpdateAllowedPartnerRequest {
                allowed_partner: Some(pb::AllowedPartner { owner, ..partner }),
                update_mask: Some(FieldMask { paths: vec!["owner".into()] }),
                ..Default::default()
            }
        });
        let batch = pb::BatchUpdateAllowedPartnersRequest {
            requests: requests.collect(),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        for _ in 0..2 {
            // The second is the retry of the first, and answered with the same.
            let mut partners = writer.partners();
            let call = partners.batch_update_allowed_partners(batch.clone());
            site.call("BatchUpdate", &[Code::Ok], call).await;
        }
        let limit = i32::try_from(turn % 100 + 1).expect("it is small");
        let settings = pb::UpdateFederationSettingsRequest {
            federation_settings: Some(pb::FederationSettings {
                name: "federationSettings".into(),
                partner_connection_limit: limit,
                ..Default::default()
            }),
            update_mask: Some(FieldMask { paths: vec!["partner_connection_limit".into()] }),
            ..Default::default()
        };
        let mut service = writer.settings();
        let call = service.update_federation_settings(settings);
        site.call("UpdateFederationSettings", &[Code::Ok], call).await;
    }
}

/// Follows for a while and drops the stream; some read, some never do.
async fn follows(site: Arc<Site>, number: usize) {
    let mut turn = number;
    while site.goes_on() {
        // A connection for some streams.
        let follower = site.somebody(&format!("follower-{number}"), "viewer").await;
        for _ in 0..8 {
            turn += 1;
            let start_revision = match turn % 3 {
                0 => 0,
                _ => follower.revision().await - i64::try_from(turn % 7).expect("it is small"),
            };
            let filter = if turn.is_multiple_of(5) { "owner:\"turn\"" } else { "" };
            let request = WatchAllowedPartnersRequest {
                start_revision,
                filter: filter.into(),
                ..Default::default()
            };
            let wanted = [Code::Ok, Code::OutOfRange];
            let stream = site.call("Watch", &wanted, follower.watch(request)).await;
            let Some(mut stream) = stream else { continue };
            let end = Instant::now() + FOLLOWED;
            if turn.is_multiple_of(4) {
                // Reads nothing, whatever comes.
                let _ = timeout_at(end, std::future::pending::<()>()).await;
                continue;
            }
            while let Ok(message) = timeout_at(end, stream.try_next()).await {
                match message {
                    Ok(Some(_)) => site.count("messages of streams"),
                    Ok(None) => site.fault("a stream ended without a status".to_owned()),
                    Err(status) if status.code() == Code::OutOfRange => break,
                    Err(status) => {
                        site.fault(format!("a stream ended: {status:?}"));
                        break;
                    }
                }
            }
        }
    }
}

async fn is_denied(site: Arc<Site>) {
    let mut beat = every(Duration::from_millis(50));
    let mut turn = 0;
    while site.goes_on() {
        // Another person each time, so that what is kept about people is bounded too.
        let nobody = site.somebody(&format!("curious-{turn}"), "viewer").await;
        for _ in 0..10 {
            beat.tick().await;
            turn += 1;
            let domain = data::domain(turn % PARTNERS);
            site.call("denied calls", &[Code::PermissionDenied], nobody.delete(&domain)).await;
        }
    }
}

async fn is_not_believed(site: Arc<Site>) {
    let good = site.token("mallory", "admin", SignedDuration::from_hours(1));
    let (signed, signature) = good.rsplit_once('.').expect("a token has three parts");
    let reversed: String = signature.chars().rev().collect();
    let mut beat = every(Duration::from_millis(50));
    let mut turn = 0_u64;
    while site.goes_on() {
        beat.tick().await;
        turn += 1;
        let token = match turn % 3 {
            0 => format!("{signed}.{reversed}"),
            1 => format!("nonsense-{turn}"),
            _ => format!("{}.e30.{turn}", "A".repeat(2_000)),
        };
        let mallory = site.with_token(&token).await;
        let domain = data::domain(1);
        site.call("bad tokens", &[Code::Unauthenticated], mallory.get(&domain)).await;
        // And a good one that nobody has shown yet.
        let token = site.token(&format!("guest-{turn}"), "viewer", SignedDuration::from_mins(1));
        let guest = site.with_token(&token).await;
        site.call("new tokens", &[Code::Ok], guest.get(&data::domain(1))).await;
    }
}

async fn reports(site: Arc<Site>) {
    let agent = site.somebody("agent", "sync-agent").await;
    let admin = site.somebody("admin", "admin").await;
    let mut beat = every(Duration::from_millis(20));
    let mut turn = 0;
    while site.goes_on() {
        beat.tick().await;
        turn += 1;
        let name = format!("replicas/replica-{}", turn % REPLICAS);
        let report = pb::ReplicaReport {
            server_kind: pb::ServerKind::Prosody.into(),
            host_name: format!("xmpp-{}", turn % REPLICAS),
            applied_revision: 1,
            ..Default::default()
        };
        let request = pb::ReportReplicaRequest { name: name.clone(), report: Some(report) };
        let mut service = agent.replicas();
        site.call("ReportReplica", &[Code::Ok], service.report_replica(request)).await;
        if turn.is_multiple_of(97) {
            let request = pb::DeleteReplicaRequest { name, ..Default::default() };
            let mut service = admin.replicas();
            site.call("DeleteReplica", &[Code::Ok], service.delete_replica(request)).await;
        }
    }
}

/// A handshake, a call, and gone.
async fn comes_and_goes(site: Arc<Site>) {
    let mut beat = every(Duration::from_millis(50));
    let token = site.token("visitor", "viewer", SignedDuration::from_hours(24));
    while site.goes_on() {
        beat.tick().await;
        let visitor = site.with_token(&token).await;
        site.call("TLS handshakes", &[Code::Ok], visitor.get(&data::domain(2))).await;
    }
}

/// Whatever can be broken off in the middle is.
async fn hangs_up(site: Arc<Site>) {
    let endpoint = site.endpoint();
    let visitor = site.somebody("impatient", "viewer").await;
    let writer = site.somebody("impatient-writer", "admin").await;
    let mut beat = every(Duration::from_millis(50));
    let mut turn = 0_u32;
    while site.goes_on() {
        beat.tick().await;
        turn += 1;
        match turn % 4 {
            0 => drop(TcpStream::connect(&endpoint).await),
            1 => {
                let Ok(mut stream) = TcpStream::connect(&endpoint).await else { continue };
                // The beginning of a TLS record of a kilobyte.
                let _ = stream.write_all(&[22, 3, 1, 4, 0, 1]).await;
            }
            2 => abandon(list_all(&visitor)).await,
            _ => {
                let domain = data::domain(turn % PARTNERS);
                let owner = format!("impatient-{turn}@example.com");
                let partner = pb::AllowedPartner { owner, ..Default::default() };
                abandon(writer.update(actor::update(&domain, &["owner"], partner))).await;
            }
        }
        site.count("hung up in the middle");
    }
}

async fn list_all(visitor: &Actor) -> actor::Outcome<pb::ListAllowedPartnersResponse> {
    let request = pb::ListAllowedPartnersRequest { page_size: 1_000, ..Default::default() };
    visitor.list(request).await
}

/// Begins something and does not wait for its end.
async fn abandon<T>(call: impl Future<Output = T>) {
    let _ = timeout(Duration::from_millis(1), call).await;
}

//! Five times what the server can serve, from clients that do not wait for one another.
//!
//! The server has a thread of its own, so that what is measured is its wait and not that of the
//! clients. Figures are compared with figures of the same minute, and a measurement that another
//! process has spoilt is made again.

use std::{
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use partnerd::{
    config::Limits,
    proto::v1::{
        AllowedPartner, BatchUpdateAllowedPartnersRequest, ListAllowedPartnersRequest,
        UpdateAllowedPartnerRequest,
    },
};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::harness::{
    TestServer,
    actor::{Actor, name, reason},
};

/// How often a measurement is made before it is believed that it fails.
const ATTEMPTS: usize = 5;

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(2);

/// The connections that the load comes over.
const CONNECTIONS: usize = 16;

/// Few enough to be listed on the thread that serves, and enough to keep it busy for milliseconds,
/// beside which the cost of a refusal, and of a client, is little.
const PARTNERS: usize = 2_000;

/// As many are written at once.
const BATCH: usize = 1_000;

/// Comparisons in the filter of a call. No partner passes one.
const TERMS: usize = 24;

/// Calls of which it is measured how long they take, and how many can be served.
const CALLS: usize = 160;

/// What is measured of one load.
#[derive(Debug)]
struct Measured {
    /// Calls a second that the server can serve.
    capacity: f64,
    /// The 99th percentile of a call when there is no other.
    unloaded: Duration,
    /// The same of those admitted under the load, from the moment they were due.
    admitted: Duration,
    served: usize,
    shed: usize,
    health: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn at_five_times_capacity_the_server_sheds_and_the_rest_is_served_in_time() {
    // A call here takes one or two milliseconds, so the default would let it wait for longer than
    // ten times that.
    let (server, _end) = server(|limits| limits.max_queue_delay = Duration::from_millis(2)).await;
    let actors = actors(&server).await;
    fill(&actors[0]).await;
    let mut all = Vec::new();
    for _ in 0..ATTEMPTS {
        let measured = measure(&actors).await;
        if measured.is_as_promised() {
            return;
        }
        all.push(measured);
    }
    panic!("not once in {ATTEMPTS} measurements: {all:#?}");
}

/// What the test above would miss if it could not fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_sheds_nothing_serves_nobody_in_time() {
    let (server, _end) = server(|limits| limits.max_queue_delay = Duration::from_secs(60)).await;
    let actors = actors(&server).await;
    fill(&actors[0]).await;
    let measured = measure(&actors).await;
    assert_eq!(measured.shed, 0);
    assert!(!measured.is_as_promised(), "{measured:?}");
    assert!(measured.admitted > 10 * measured.unloaded, "{measured:?}");
}

impl Measured {
    fn is_as_promised(&self) -> bool {
        let enough = self.capacity * LOAD.as_secs_f64() / 4.0;
        self.admitted < 10 * self.unloaded
            && self.health < 10 * self.unloaded
            && self.served as f64 > enough
            && self.shed > self.served
    }
}

/// A server on a thread of its own, until it is told to end.
async fn server(
    change: impl Fn(&mut Limits) + Send + Sync + 'static,
) -> (TestServer, oneshot::Sender<()>) {
    let (ready, started) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = TestServer::builder().limits(change).start().await;
            assert!(ready.send(server).is_ok(), "the test waits");
            // An error is an end too: the test is over.
            let _ = ended.await;
        });
    });
    (started.await.unwrap(), end)
}

/// One subject for each connection.
async fn actors(server: &TestServer) -> Vec<Actor> {
    let actors = (0..CONNECTIONS).map(|number| async move {
        let token = server.token(&format!("subject-{number}"), &["admin"]);
        server.with_token(&token).await
    });
    join_all(actors).await
}

async fn fill(actor: &Actor) {
    let requests: Vec<_> = (0..PARTNERS)
        .map(|number| UpdateAllowedPartnerRequest {
            allowed_partner: Some(AllowedPartner {
                name: name(&format!("p{number}.example")),
                description: format!("this is what there is to say of number {number}"),
                ..Default::default()
            }),
            allow_missing: true,
            ..Default::default()
        })
        .collect();
    for batch in requests.chunks(BATCH) {
        let request =
            BatchUpdateAllowedPartnersRequest { requests: batch.to_vec(), ..Default::default() };
        actor.partners().batch_update_allowed_partners(request).await.unwrap();
    }
}

/// A call that is work for the server and hardly any for its client.
async fn call(actor: &Actor) -> Result<(), Status> {
    let terms = (0..TERMS).map(|number| format!("description = \"*s*say*x{number}*\""));
    let filter = terms.collect::<Vec<_>>().join(" OR ");
    let request = ListAllowedPartnersRequest { filter, ..Default::default() };
    let found = actor.list(request).await?;
    assert_eq!(found.allowed_partners, []);
    Ok(())
}

async fn measure(actors: &[Actor]) -> Measured {
    let mut alone = Vec::new();
    while alone.len() < CALLS {
        for actor in actors {
            let begun = Instant::now();
            // The first may still feel the load of the measurement before.
            if call(actor).await.is_ok() {
                alone.push(begun.elapsed());
            }
        }
    }
    let capacity = capacity(actors).await;
    let checks = tokio::spawn(health(actors[0].clone()));
    let outcomes = load(actors, 5.0 * capacity).await;
    let mut admitted = Vec::new();
    let mut shed = 0;
    for (time, outcome) in outcomes {
        match outcome {
            Ok(()) => admitted.push(time),
            Err(refused) => {
                assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
                assert_eq!(reason(&refused), "SERVER_OVERLOADED");
                let retry = refused.get_details_retry_info().and_then(|retry| retry.retry_delay);
                assert!(retry.is_some(), "it says when to try again");
                shed += 1;
            }
        }
    }
    let served = admitted.len();
    Measured {
        capacity,
        unloaded: p99(alone),
        admitted: p99(admitted),
        served,
        shed,
        health: p99(checks.await.unwrap()),
    }
}

/// What the server serves when it always has something to do, and never much.
async fn capacity(actors: &[Actor]) -> f64 {
    let begun = Instant::now();
    let calls = stream::iter(actors.iter().cycle().take(CALLS)).map(call).buffer_unordered(3);
    let served = calls.filter(|outcome| std::future::ready(outcome.is_ok())).count().await;
    assert!(served > CALLS / 2, "hardly anything is shed at this load");
    served as f64 / begun.elapsed().as_secs_f64()
}

/// Makes so many calls a second, whatever becomes of those before.
async fn load(actors: &[Actor], rate: f64) -> Vec<(Duration, Result<(), Status>)> {
    let begun = tokio::time::Instant::now();
    let number = (rate * LOAD.as_secs_f64()) as usize;
    let mut calls = Vec::with_capacity(number);
    for (number, actor) in actors.iter().cycle().take(number).enumerate() {
        let due = begun + Duration::from_secs_f64(number as f64 / rate);
        sleep_until(due).await;
        let actor = actor.clone();
        calls.push(tokio::spawn(async move {
            let outcome = call(&actor).await;
            (due.elapsed(), outcome)
        }));
    }
    join_all(calls).await.into_iter().map(Result::unwrap).collect()
}

/// Asks for the server's health while the load lasts.
async fn health(actor: Actor) -> Vec<Duration> {
    let mut health = HealthClient::new(actor.service());
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < LOAD {
        ticks.tick().await;
        let asked = Instant::now();
        health.check(HealthCheckRequest::default()).await.expect("health is always answered");
        times.push(asked.elapsed());
    }
    times
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

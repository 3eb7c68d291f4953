//! Servers that are killed and connections that are cut lose nothing and double nothing.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use partnerd::{
    client::{AuditMessage, AuditStream, EventStream, Informer, Message, Remote},
    proto::v1::{AllowedPartner, WatchEvent},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{PATIENCE, copied, everything, quick, remote};
use crate::harness::{
    actor::{Actor, update},
    process::DevServer,
};

/// How many times the server is killed.
const ROUNDS: usize = 4;
/// How many partners are made, changed and perhaps deleted before a round kills the server.
const PARTNERS_PER_ROUND: u32 = 30;
/// How many commits a follower takes before it is thrown away, as by a kill, for another that goes
/// on where it was.
const COMMITS_PER_LIFE: usize = 7;

/// An address that stays while servers come and go behind it.
struct Relay {
    address: SocketAddr,
    server: watch::Sender<Option<SocketAddr>>,
}

impl Relay {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, to) = watch::channel(None);
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let Some(server) = *to.borrow() else { continue };
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        // It ends with an error when either side is killed.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, server }
    }

    fn lead_to(&self, server: Option<SocketAddr>) {
        self.server.send_replace(server);
    }
}

/// Writes until the server is gone: creates partners, changes each, deletes every other one.
async fn write(admin: Actor, prefix: String, written: Arc<Semaphore>, gone: Arc<AtomicBool>) {
    for number in 0.. {
        let domain = format!("{prefix}-{number}.example");
        let owner = AllowedPartner { owner: prefix.clone(), ..Default::default() };
        let acknowledged = admin.create(&domain, AllowedPartner::default()).await.is_ok()
            && admin.update(update(&domain, &["owner"], owner)).await.is_ok()
            && (number % 2 == 0 || admin.delete(&domain).await.is_ok());
        if !acknowledged || gone.load(Ordering::Relaxed) {
            return;
        }
        written.add_permits(1);
    }
}

/// Records every event after revision 1, in one life or many.
async fn record(remote: Remote, mortal: bool, events: mpsc::UnboundedSender<WatchEvent>) {
    let mut position = 1;
    loop {
        let mut stream = EventStream::new(remote.clone(), quick(), position);
        let mut commits = 0;
        while !mortal || commits < COMMITS_PER_LIFE {
            match stream.next().await {
                Message::Listed(listing) => panic!("history is lost: {listing:?}"),
                Message::Changed(batch) => {
                    position = batch.revision;
                    commits += 1;
                    for event in batch.events {
                        if events.send(event).is_err() {
                            return;
                        }
                    }
                }
                Message::InStep { revision } => position = revision,
                Message::Opened { .. } | Message::Interrupted(_) => {}
            }
        }
    }
}

/// The revisions recorded, up to `last`.
async fn recorded(mut events: mpsc::UnboundedReceiver<WatchEvent>, last: i64) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.last().is_none_or(|revision| *revision < last) {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await;
        revisions.push(event.expect("it comes in time").expect("the recorder lives").revision);
    }
    revisions
}

/// Follows until the copy holds at the revision that `end` is set to.
async fn follow(mut informer: Informer, end: watch::Receiver<Option<i64>>) -> Informer {
    loop {
        informer.next().await;
        let revision = informer.state().map_or(0, |state| state.revision);
        if end.borrow().is_some_and(|end| revision >= end) {
            return informer;
        }
    }
}

/// Lets several writers write until enough is acknowledged, and kills the server meanwhile.
async fn write_and_kill(folder: &Path, round: usize, relay: &Relay, server: DevServer) {
    let admin = Actor::of_dev_server(folder).await;
    let (written, gone) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let prefix = format!("r{round}w{writer}");
        writers.spawn(write(admin.clone(), prefix, Arc::clone(&written), Arc::clone(&gone)));
    }
    let enough = tokio::time::timeout(PATIENCE, written.acquire_many(PARTNERS_PER_ROUND)).await;
    enough.expect("writes are acknowledged").unwrap().forget();
    server.kill();
    relay.lead_to(None);
    gone.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_servers_and_followers_under_writes_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start().await;
    let remote = remote(&folder.path().join("partnerd-data"), relay.address);
    let mut server = DevServer::start(folder.path());
    relay.lead_to(Some(server.address()));
    Actor::of_dev_server(folder.path()).await.create_plain("first.example").await;
    let (end, ends) = watch::channel(None);
    let following = tokio::spawn(follow(Informer::new(remote.clone(), quick()), ends));
    let (steady, steadily) = mpsc::unbounded_channel();
    let (mortal, in_lives) = mpsc::unbounded_channel();
    tokio::spawn(record(remote.clone(), false, steady));
    tokio::spawn(record(remote, true, mortal));

    for round in 0..ROUNDS {
        write_and_kill(folder.path(), round, &relay, server).await;
        server = DevServer::start(folder.path());
        relay.lead_to(Some(server.address()));
    }

    let admin = Actor::of_dev_server(folder.path()).await;
    admin.create_plain("last.example").await;
    let last = admin.revision().await;
    end.send_replace(Some(last));
    let informer = tokio::time::timeout(PATIENCE, following).await.expect("it is in step").unwrap();
    assert_eq!(copied(&informer), everything(&admin).await);
    let expected: Vec<_> = (2..=last).collect();
    assert!(expected.len() > 2 * ROUNDS * usize::try_from(PARTNERS_PER_ROUND).unwrap());
    for events in [steadily, in_lives] {
        assert_eq!(recorded(events, last).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_stream_goes_on_over_killed_servers() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start().await;
    let (entries, mut recorded) = mpsc::unbounded_channel();
    let data = folder.path().join("partnerd-data");
    // What the first server writes before anybody follows is there to be told afterwards.
    let mut server = DevServer::start(folder.path());
    let mut stream = AuditStream::new(remote(&data, relay.address), quick(), 1);
    let follower = tokio::spawn(async move {
        loop {
            if let AuditMessage::Entries(told) = stream.next().await {
                for entry in told {
                    // Nobody listens any more once the test has seen enough.
                    let _ = entries.send(entry.sequence);
                }
            }
        }
    });
    let (mut told, mut expected) = (Vec::new(), 1);
    for round in 0..ROUNDS {
        relay.lead_to(Some(server.address()));
        let admin = Actor::of_dev_server(folder.path()).await;
        for number in 0..20 {
            admin.create_plain(&format!("p{round}-{number}.example")).await;
        }
        // The start, and what was written.
        expected += 20;
        while told.last().is_none_or(|last| *last < expected) {
            let next = tokio::time::timeout(PATIENCE, recorded.recv()).await;
            told.push(next.expect("it comes in time").expect("the follower lives"));
        }
        relay.lead_to(None);
        server.kill();
        server = DevServer::start(folder.path());
        expected += 1;
    }
    follower.abort();
    assert_eq!(told, (2..expected).collect::<Vec<_>>());
}

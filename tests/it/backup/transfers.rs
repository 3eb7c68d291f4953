//! Streams that stall, that lose their right, or that are too many.

use std::time::Duration;

use partnerd::proto::v1::{
    BackupRequest, BackupResponse, RestoreOptions, RestoreRequest, backup_record::Record,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{forged, messages, partner, plain_settings, revoke_subject};
use crate::harness::{
    Builder, TestServer,
    actor::{Actor, metadata, reason},
};

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than fits between a server and a client that does not read.
const MANY: usize = 15_000;

async fn with_many(builder: Builder) -> TestServer {
    let server = builder.start().await;
    let partners = (0..MANY).map(|number| {
        let mut partner = partner(&format!("p{number}.example"));
        partner.description = "x".repeat(400);
        Record::AllowedPartner(partner)
    });
    let settings = plain_settings(&server).await;
    let file = forged(std::iter::once(settings).chain(partners).collect());
    server.admin().restore(&file).await.unwrap();
    server
}

fn impatient(builder: Builder) -> Builder {
    builder.limits(|limits| {
        limits.transfer_patience = Duration::from_millis(300);
        limits.max_backups = 1;
    })
}

/// A backup of which one piece was read, and no more.
async fn begun(actor: &Actor) -> Streaming<BackupResponse> {
    let mut stream = actor.maintenance().backup(BackupRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stream
}

/// How a stream ends that is read on.
async fn end(mut stream: Streaming<BackupResponse>) -> Status {
    loop {
        match timeout(PATIENCE, stream.message()).await.expect("it ends in time") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => return status,
        }
    }
}

/// Waits until there is room for another backup.
async fn until_there_is_room(actor: &Actor) {
    let room = async {
        while let Err(status) = actor.maintenance().backup(BackupRequest {}).await {
            assert_eq!(reason(&status), "TOO_MANY_STREAMS");
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, room).await.expect("the place is free in time");
}

#[tokio::test]
async fn a_backup_that_nobody_reads_gives_its_place_up_and_says_so_in_the_end() {
    let server = with_many(impatient(TestServer::builder())).await;
    let admin = server.admin();
    let stream = begun(&admin).await;
    let refused = admin.maintenance().backup(BackupRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
    assert_eq!(metadata(&refused, "limit").as_deref(), Some("limits.max_backups"));
    until_there_is_room(&admin).await;
    let end = end(stream).await;
    assert_eq!((end.code(), &*reason(&end)), (Code::DeadlineExceeded, "TRANSFER_STALLED"));
}

#[tokio::test]
async fn a_backup_ends_with_the_right_to_it() {
    let server = with_many(TestServer::builder()).await;
    let admin = server.admin();
    let kim = server.actor("kim", &["admin"]).await;
    let stream = begun(&kim).await;
    revoke_subject(&admin, "kim").await;
    assert_eq!(end(stream).await.code(), Code::Unauthenticated);

    let stream = begun(&admin).await;
    server.drain();
    let end = end(stream).await;
    assert_eq!((end.code(), &*reason(&end)), (Code::Unavailable, "DRAINING"));
}

#[tokio::test]
async fn a_backup_that_is_given_up_frees_its_place() {
    let server = with_many(TestServer::builder().limits(|limits| limits.max_backups = 1)).await;
    let admin = server.admin();
    drop(begun(&admin).await);
    until_there_is_room(&admin).await;
}

/// A restore that has begun: its options and half of a file.
struct Half {
    sender: mpsc::Sender<RestoreRequest>,
    answer: tokio::task::JoinHandle<Result<(), Status>>,
}

async fn half(server: &TestServer, actor: &Actor) -> Half {
    let settings = plain_settings(server).await;
    let file = forged(vec![settings, Record::AllowedPartner(partner("half.example"))]);
    let (sender, receiver) = mpsc::channel(16);
    for message in messages(RestoreOptions::default(), &file[..file.len() / 2]) {
        sender.send(message).await.unwrap();
    }
    let mut client = actor.maintenance();
    let answer =
        tokio::spawn(async move { client.restore(ReceiverStream::new(receiver)).await.map(drop) });
    Half { sender, answer }
}

impl Half {
    async fn end(self) -> Status {
        let answer = timeout(PATIENCE, self.answer).await.expect("it is answered in time");
        drop(self.sender);
        answer.unwrap().unwrap_err()
    }
}

#[tokio::test]
async fn a_restore_that_is_not_sent_on_is_ended_and_one_runs_at_a_time() {
    let patient = Duration::from_secs(2);
    let server = TestServer::builder()
        .limits(move |limits| limits.transfer_patience = patient)
        .start()
        .await;
    let admin = server.admin();
    let (one, other) = (half(&server, &admin).await, half(&server, &admin).await);
    let mut ends = [one.end().await, other.end().await].map(|end| (end.code(), reason(&end)));
    ends.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        ends,
        [
            (Code::ResourceExhausted, "RESTORE_UNDER_WAY".to_owned()),
            (Code::DeadlineExceeded, "TRANSFER_STALLED".to_owned())
        ]
    );
    admin.restore(&admin.backup().await.unwrap()).await.unwrap();
    assert_eq!(admin.names("").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_restore_ends_with_the_right_to_it() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let kim = server.actor("kim", &["admin"]).await;
    let half = half(&server, &kim).await;
    revoke_subject(&admin, "kim").await;
    assert_eq!(half.end().await.code(), Code::Unauthenticated);
    assert_eq!(admin.names("").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_restore_may_take_longer_than_other_calls_and_not_for_ever() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.default_request_timeout = Duration::from_millis(200);
            limits.max_request_timeout = Duration::from_millis(200);
            limits.max_restore_time = Duration::from_millis(1_500);
        })
        .start()
        .await;
    let began = std::time::Instant::now();
    let end = half(&server, &server.admin()).await.end().await;
    assert_eq!((end.code(), &*reason(&end)), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert!(began.elapsed() >= Duration::from_millis(1_500));
}

//! Floods: of connections, streams, resets, heads, and frames that cost their sender nothing.

use std::io;

use partnerd::proto::v1 as pb;
use prost::Message as _;
use tokio::time::timeout;
use tonic::Code;

use super::{GET, SOON, check, in_time, still_serves};
use crate::harness::{
    TestServer,
    actor::name,
    frames::{
        self, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames,
        GOAWAY, HEADERS, PING, REFUSED_STREAM, RST_STREAM, SETTINGS, frame, head, literal, message,
    },
};

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let server = TestServer::start().await;
    let mut client = Frames::begin(server.tls().await, &[]).await;
    let head = head(GET, None, &[]);
    let flood = (0..100).flat_map(|number| {
        let stream = 2 * number + 1;
        let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        [frame(HEADERS, END_HEADERS, stream, &head), reset].concat()
    });
    client.send(&flood.collect::<Vec<_>>()).await.unwrap();
    let farewell = in_time(client.last_of(GOAWAY)).await.expect("it is told why");
    assert_eq!(farewell.error(), ENHANCE_YOUR_CALM);
    still_serves(&server).await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_then_the_connection() {
    let server =
        TestServer::builder().limits(|limits| limits.max_concurrent_streams = 4).start().await;
    let mut client = Frames::begin(server.tls().await, &[]).await;
    assert!(in_time(client.next_of(SETTINGS)).await.is_some());
    let token = server.token("jo", &["viewer"]);
    let head = head(GET, Some(&token), &[]);
    let streams = |numbers: std::ops::Range<u32>| -> Vec<u8> {
        numbers.flat_map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, &head)).collect()
    };
    client.send(&streams(0..5)).await.unwrap();
    let refused = in_time(client.next_of(RST_STREAM)).await.unwrap();
    assert_eq!((refused.stream, refused.error()), (9, REFUSED_STREAM));
    // The connection may be closed before all is written.
    let _ = client.send(&streams(5..500)).await;
    let farewell = in_time(client.last_of(GOAWAY)).await;
    assert!(farewell.is_none_or(|farewell| farewell.error() == ENHANCE_YOUR_CALM));
    still_serves(&server).await;
}

#[tokio::test]
async fn the_connections_of_one_address_leave_room_for_others() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.max_connections = 8;
            limits.max_connections_per_address = 4;
        })
        .start()
        .await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.extend(server.tls_from("127.0.0.2").await);
    }
    assert_eq!(held.len(), 4, "no more than its share");
    still_serves(&server).await;
    let mut first = Frames::begin(held.remove(0), &[]).await;
    first.send(&check(1)).await.unwrap();
    assert!(in_time(first.next_of(DATA)).await.is_some(), "those that it has go on");
    drop(first);
    in_time(async { while server.tls_from("127.0.0.2").await.is_err() {} }).await;
}

#[tokio::test]
async fn a_head_without_end_is_not_listened_to() {
    let server = TestServer::start().await;
    for filling in [vec![], literal("x-padding", &"x".repeat(8_000))] {
        let mut client = Frames::begin(server.tls().await, &[]).await;
        client.send(&frame(HEADERS, END_STREAM, 1, &head(GET, None, &[]))).await.unwrap();
        let more: Vec<u8> = (0..1_000).flat_map(|_| frame(CONTINUATION, 0, 1, &filling)).collect();
        let _ = client.send(&more).await;
        let farewell = in_time(client.last_of(GOAWAY)).await;
        assert!(farewell.is_none_or(|farewell| farewell.error() == ENHANCE_YOUR_CALM));
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_head_that_grows_when_it_is_decoded_is_refused() {
    let server = TestServer::start().await;
    let mut client = Frames::begin(server.tls().await, &[]).await;
    // One field goes into the table of the connection (RFC 7541 section 6.2.1) and is then named
    // twelve thousand times, by a byte each: 45 MB.
    let mut block = head(GET, None, &[]);
    block.extend([&[0x40][..], &frames::text("x"), &frames::text(&"x".repeat(3_800))].concat());
    block.extend([0xbe; 12_000]);
    assert!(block.len() < 16_384);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await.unwrap();
    let farewell = in_time(client.last_of(GOAWAY)).await.expect("it is told why");
    assert_eq!(farewell.error(), ENHANCE_YOUR_CALM);
    still_serves(&server).await;
}

#[tokio::test]
async fn who_asks_for_signs_of_life_and_does_not_read_them_is_no_longer_read() {
    // Pings want a pong each, and settings an acknowledgement.
    for asking in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let server = TestServer::start().await;
        let mut client = Frames::begin(server.tls().await, &[]).await;
        let batch = asking.repeat(16 << 10);
        let mut sent = 0;
        // What the system buffers both ways, and no more.
        while let Ok(Ok(())) = timeout(SOON, client.send(&batch)).await {
            sent += batch.len();
            assert!(sent < 64 << 20, "the server takes in whatever comes");
            tokio::task::yield_now().await;
        }
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn compressed_messages_are_refused_unread_and_told_so() {
    let server = TestServer::start().await;
    let get = pb::GetAllowedPartnerRequest { name: name("contoso.com"), ..Default::default() };
    let refused = {
        let call = server.viewer().with("grpc-encoding", "gzip");
        call.partners().get_allowed_partner(get.clone()).await.unwrap_err()
    };
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
    assert_eq!(crate::harness::actor::reason(&refused), "COMPRESSION_UNSUPPORTED");
    assert!(refused.message().contains("without compression"), "{refused:?}");

    // The message itself says that it is compressed, and to what length it is.
    let token = server.token("jo", &["viewer"]);
    let mut flagged = message(&get.encode_to_vec());
    flagged[0] = 1;
    for (encoding, length) in [(None, get.encoded_len()), (Some("gzip"), 1 << 30)] {
        let length = u32::try_from(length).unwrap().to_be_bytes();
        flagged[1..5].copy_from_slice(&length);
        let more: Vec<_> =
            encoding.map(|encoding| ("grpc-encoding", encoding)).into_iter().collect();
        let mut client = Frames::begin(server.tls().await, &[]).await;
        client
            .send(&frame(HEADERS, END_HEADERS, 1, &head(GET, Some(&token), &more)))
            .await
            .unwrap();
        client.send(&frame(DATA, 0, 1, &flagged)).await.unwrap();
        let answer = in_time(client.next_of(HEADERS)).await.unwrap();
        assert_eq!(answer.flags & END_STREAM, END_STREAM, "a status, at once");
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_flood_of_connections_that_say_nothing_is_closed_and_forgotten() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.max_connections = 16;
            limits.handshake_timeout = SOON;
        })
        .start()
        .await;
    let mut silent: Vec<io::Result<_>> = Vec::new();
    for _ in 0..64 {
        silent.push(frames::connect_from("127.0.0.2", server.address()).await);
    }
    // There is room again once they have had their time, although they are all still there.
    in_time(async { while server.tls_from("127.0.0.3").await.is_err() {} }).await;
    still_serves(&server).await;
    drop(silent);
}

//! Clients that take all the time there is, at every step at which they can.

use std::time::Duration;

use futures_util::future::join_all;
use partnerd::proto::v1 as pb;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::interval,
};

use super::{GET, PATIENCE, SOON, check, in_time, still_serves};
use crate::harness::{
    TestServer,
    actor::name,
    frames::{
        self, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PREFACE,
        RST_STREAM, frame, head, message,
    },
};

/// How often a client that dribbles sends its next byte.
const DRIBBLE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_tls_handshake_that_dribbles_is_cut() {
    let server =
        TestServer::builder().limits(|limits| limits.handshake_timeout = SOON).start().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    // A record of 16 KiB is announced, and they come one by one.
    stream.write_all(b"\x16\x03\x01\x40\x00").await.unwrap();
    in_time(async {
        let mut ticks = interval(DRIBBLE);
        loop {
            tokio::select! {
                _ = ticks.tick() => if stream.write_all(b"\x01").await.is_err() { return },
                read = stream.read_u8() => if read.is_err() { return },
            }
        }
    })
    .await;
    still_serves(&server).await;
}

#[tokio::test]
async fn a_connection_that_never_comes_to_a_call_is_closed() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.first_call_timeout = SOON;
            // So long they have for a farewell.
            limits.handshake_timeout = Duration::from_secs(2);
        })
        .start()
        .await;
    let begun = frame(HEADERS, 0, 1, &head(GET, None, &[])[..5]);
    let settings = frame(frames::SETTINGS, 0, 0, &[]);
    let begins = [
        vec![],
        PREFACE[..10].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, &settings].concat(),
        [PREFACE, &settings, &begun].concat(),
    ];
    let server = &server;
    join_all(begins.map(|said| async move {
        let mut stream = server.tls().await;
        stream.write_all(&said).await.unwrap();
        let mut answer = Vec::new();
        // It may be told GOAWAY; it must be closed.
        let _ = in_time(stream.read_to_end(&mut answer)).await;
    }))
    .await;
    still_serves(server).await;
}

#[tokio::test]
async fn the_head_of_a_request_that_dribbles_is_cut() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.keepalive_interval = SOON;
            limits.keepalive_timeout = SOON;
        })
        .start()
        .await;
    let mut client = Frames::begin(server.tls().await, &[]).await;
    client.send(&check(1)).await.unwrap();
    assert!(in_time(client.next_of(DATA)).await.is_some());

    let block = head(GET, None, &[("x-padding", &"x".repeat(10_000))]);
    client.send(&frame(HEADERS, END_STREAM, 3, &block[..10])).await.unwrap();
    let rest = frame(CONTINUATION, END_HEADERS, 3, &block[10..]);
    in_time(async {
        let mut ticks = interval(DRIBBLE);
        for byte in rest {
            tokio::select! {
                _ = ticks.tick() => {}
                // Pings come, which nobody can answer in the midst of a head.
                frame = client.next() => if frame.is_none() { return },
            }
            if client.send(&[byte]).await.is_err() {
                return;
            }
        }
        panic!("the head came to its end after {PATIENCE:?} and more");
    })
    .await;
    still_serves(&server).await;
}

#[tokio::test]
async fn the_body_of_a_request_that_dribbles_is_answered_without_it() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.default_request_timeout = SOON;
            limits.max_concurrent_requests = 1;
        })
        .start()
        .await;
    let token = server.token("jo", &["viewer"]);
    let mut client = Frames::begin(server.tls().await, &[]).await;
    client.send(&frame(HEADERS, END_HEADERS, 1, &head(GET, Some(&token), &[]))).await.unwrap();
    client.send(&frame(DATA, 0, 1, &[0])).await.unwrap();
    let answer = in_time(client.next_of(HEADERS)).await.unwrap();
    assert_eq!((answer.stream, answer.flags & END_STREAM), (1, END_STREAM), "a status, no message");
    let reset = in_time(client.next_of(RST_STREAM)).await.unwrap();
    assert_eq!(reset.stream, 1, "no more of the body is wanted");
    still_serves(&server).await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.response_timeout = SOON;
            limits.max_concurrent_requests_per_subject = 1;
        })
        .start()
        .await;
    server.admin().create_plain("contoso.com").await;
    let token = server.token("jo", &["viewer"]);
    let get = pb::GetAllowedPartnerRequest { name: name("contoso.com"), ..Default::default() };
    // SETTINGS_INITIAL_WINDOW_SIZE: no room for so much as a byte.
    let mut client = Frames::begin(server.tls().await, &[(4, 0)]).await;
    let request = [
        frame(HEADERS, END_HEADERS, 1, &head(GET, Some(&token), &[])),
        frame(DATA, END_STREAM, 1, &message(&get.encode_to_vec())),
    ];
    client.send(&request.concat()).await.unwrap();
    let reset = in_time(client.next_of(RST_STREAM)).await.unwrap();
    assert_eq!((reset.stream, reset.error()), (1, CANCEL));
    let again = server.with_token(&token).await;
    in_time(again.get("contoso.com")).await.expect("the call is over and counts no more");
}

#[tokio::test]
async fn a_call_whose_client_is_gone_is_no_longer_worked_on() {
    let server = TestServer::builder()
        .limits(|limits| limits.max_concurrent_requests_per_subject = 1)
        .start()
        .await;
    server.admin().create_plain("contoso.com").await;
    let token = server.token("jo", &["viewer"]);
    let get = pb::GetAllowedPartnerRequest { name: name("contoso.com"), ..Default::default() };
    let again = server.with_token(&token).await;
    for round in 0..20 {
        let mut client = Frames::begin(server.tls().await, &[]).await;
        let mut streams = Vec::new();
        // It waits for a revision that does not come, as soon as it is let in: the one share may
        // be that of the call by which this is seen.
        in_time(async {
            for stream in (1..).step_by(2) {
                let waiting = head(GET, Some(&token), &[("x-min-revision", "1000")]);
                let request = [
                    frame(HEADERS, END_HEADERS, stream, &waiting),
                    frame(DATA, END_STREAM, stream, &message(&get.encode_to_vec())),
                ];
                client.send(&request.concat()).await.unwrap();
                streams.push(stream);
                if again.get("contoso.com").await.is_err() {
                    return;
                }
            }
        })
        .await;
        match round % 2 {
            0 => {
                for stream in streams {
                    let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
                    client.send(&reset).await.unwrap();
                }
            }
            _ => drop(client),
        }
        in_time(async { while again.get("contoso.com").await.is_err() {} }).await;
    }
}

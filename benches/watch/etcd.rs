//! etcd, in plain text and without authentication. The few messages that are needed stand here by
//! hand, after `etcdserverpb` and `mvccpb` (Apache-2.0).

use std::process::Command;

use prost::Message;

use crate::{
    data,
    line::{Line, More, Told},
    subject::{self, Caller, Process, Protocol, Subject},
};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// How many keys are written to in turn.
const KEYS: u64 = 1_000;

/// The bytes of a value: those of a partner.
const VALUE_BYTES: usize = 400;

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create_request: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    start_revision: i64,
    #[prost(bool, tag = "6")]
    prev_kv: bool,
}

/// In a `WatchResponse` the field of the events, in an event that of what is there now, and in that the
/// field of its revision.
const REVISION: [u32; 3] = [11, 2, 3];

/// Starts it and fills it; or says why not. Its streams are told what was there `before` too, if that
/// is asked for.
pub async fn start(before: bool) -> Result<Subject, String> {
    if Command::new("etcd").arg("--version").output().is_err() {
        return Err("etcd is not in the path (Debian: etcd-server)".to_owned());
    }
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let (client, peer) = (subject::free_address(), subject::free_address());
    let arguments = [
        format!("--data-dir={}", folder.path().join("data").display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        "--log-level=error".to_owned(),
    ];
    let process = Process::start("etcd", &arguments);
    subject::wait_for(client);
    let caller = Caller::connected(client, None).await;
    for number in 0..KEYS {
        write(caller.clone(), number).await;
    }
    let protocol = Protocol {
        write: |caller, number| Box::pin(write(caller, number)),
        follow: match before {
            true => |line, after| Box::pin(follow(line, after, true)),
            false => |line, after| Box::pin(follow(line, after, false)),
        },
    };
    let name = if before { "etcd, prev_kv" } else { "etcd" };
    Ok(Subject::new(name, protocol, client, None, process, folder))
}

async fn write(caller: Caller, number: u64) -> i64 {
    let partner = u32::try_from(number % KEYS).expect("there are few keys");
    let key = format!("/partners/{}", data::domain(partner)).into_bytes();
    let value = format!("{number:0>VALUE_BYTES$}").into_bytes();
    let answer: PutResponse = caller.unary(PUT, PutRequest { key, value }).await;
    answer.header.expect("every answer has one").revision
}

async fn follow(line: Line, after: i64, prev_kv: bool) -> Told {
    let create_request = Some(WatchCreateRequest {
        key: b"/partners/".to_vec(),
        range_end: b"/partners0".to_vec(),
        start_revision: after + 1,
        prev_kv,
    });
    line.told(WATCH, &WatchRequest { create_request }, More::Perhaps, &REVISION).await
}

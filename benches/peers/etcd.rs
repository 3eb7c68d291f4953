//! etcd, without authentication and with JWT. The few messages that are needed stand here by hand.

use std::{fs, path::Path, process::Command};

use bytes::Bytes;
use prost::Message;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use tempfile::TempDir;

use crate::{
    data,
    partnerd_server::PARTNERS,
    server::{self, Contestant, Name, Process, framed},
    writes,
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
const PASSWORD: &str = "bench";

/// `etcdserverpb.RangeRequest`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bool, tag = "7")]
    serializable: bool,
}

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.AuthenticateRequest`.
#[derive(Clone, PartialEq, Message)]
struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    password: String,
}

/// `etcdserverpb.AuthenticateResponse`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    token: String,
}

/// Without authentication, filled with the bytes of `reply` under every key; or why not.
pub async fn start(reply: &[u8]) -> Result<Contestant, String> {
    let etcd = program("etcd").ok_or("etcd is not in the path (Debian: etcd-server)")?;
    let contestant = launched(etcd, Name::Etcd, |_| Vec::new(), reply);
    fill(&contestant).await;
    Ok(contestant)
}

/// The same with JWT; or why not.
pub async fn start_with_tokens(reply: &[u8]) -> Result<Contestant, String> {
    let etcd = program("etcd").ok_or("etcd is not in the path (Debian: etcd-server)")?;
    let etcdctl = program("etcdctl").ok_or("etcdctl is not in the path (Debian: etcd-client)")?;
    Ok(with_tokens(etcd, etcdctl, reply).await)
}

async fn with_tokens(etcd: &str, etcdctl: &str, reply: &[u8]) -> Contestant {
    let mut contestant = launched(etcd, Name::EtcdJwt, token_flags, reply);
    fill(&contestant).await;
    let endpoint = format!("--endpoints=http://{}", contestant.address);
    for step in [
        ["user", "add", &format!("root:{PASSWORD}")].as_slice(),
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        let done = Command::new(etcdctl).env("ETCDCTL_API", "3").arg(&endpoint).args(step).output();
        assert!(done.is_ok_and(|output| output.status.success()), "etcdctl {step:?}");
    }
    let request = AuthenticateRequest { name: "root".into(), password: PASSWORD.into() };
    let answer = writes::call(&contestant, AUTHENTICATE, framed(&request)).await;
    let answer = AuthenticateResponse::decode(&answer[5..]).expect("it is etcd's answer");
    contestant.headers = vec![("token", answer.token)];
    contestant
}

/// Tokens signed by RS256, as etcd's manual shows them.
fn token_flags(folder: &Path) -> Vec<String> {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("the library makes RSA keys");
    let [public, private] = ["jwt.pub", "jwt.key"].map(|name| folder.join(name));
    fs::write(&public, key.public_key_pem()).expect("there is room for a file");
    fs::write(&private, key.serialize_pem()).expect("there is room for a file");
    let (public, private) = (public.display(), private.display());
    vec![format!("--auth-token=jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=1h")]
}

fn launched(
    etcd: &str,
    name: Name,
    flags: impl Fn(&Path) -> Vec<String>,
    reply: &[u8],
) -> Contestant {
    let folder: TempDir = tempfile::tempdir().expect("there is room for a folder");
    let (client, peer) = (server::free_address(), server::free_address());
    let mut arguments = vec![
        format!("--data-dir={}", folder.path().join("data").display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        "--quota-backend-bytes=4294967296".to_owned(),
        "--log-level=error".to_owned(),
    ];
    arguments.extend(flags(folder.path()));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let process = Process::start(etcd, &arguments);
    server::wait_for(client);
    Contestant {
        read_path: RANGE,
        read_body: framed(&RangeRequest { key: key(1), serializable: true }),
        write: Some((PUT, put)),
        reply: reply.to_vec(),
        ..Contestant::new(name, process, client).with_folder(folder)
    }
}

async fn fill(contestant: &Contestant) {
    let value = &contestant.reply;
    for number in 0..PARTNERS {
        let request = PutRequest { key: key(number), value: value.clone() };
        writes::call(contestant, PUT, framed(&request)).await;
    }
}

/// A record of the size of a partner, different for every number, framed.
fn put(number: u64) -> Vec<u8> {
    let partner = u32::try_from(number % u64::from(PARTNERS)).expect("it is below a u32");
    let value = format!("{number:0>420}");
    framed(&PutRequest { key: key(partner), value: value.into_bytes() })
}

fn key(number: u32) -> Vec<u8> {
    format!("/partners/{}", data::domain(number)).into_bytes()
}

/// The program of this name, if it is in the path.
pub fn program(name: &'static str) -> Option<&'static str> {
    Command::new(name).arg("--version").output().ok().map(|_| name)
}

/// The body of a gRPC call.
pub type Body = http_body_util::Full<Bytes>;

//! partnerd under load: the release build, on loopback, with a token on every call.

use std::{fs, net::SocketAddr, path::Path};

use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use partnerd::{
    auth::issuer::KeySource,
    dev::{AUDIENCE, DevFolder, ISSUER},
    proto::v1::{self as pb, allowed_partner_service_client::AllowedPartnerServiceClient},
    tls::TlsConfig,
};
use prost::Message as _;
use prost_types::FieldMask;
use secrecy::ExposeSecret as _;
use tonic::{Request, transport::Channel};

use crate::{
    data,
    server::{self, Contestant, Name, Process, framed},
};

/// The path of Get.
pub const GET: &str = "/xmpp.federation.v1.AllowedPartnerService/GetAllowedPartner";
const UPDATE: &str = "/xmpp.federation.v1.AllowedPartnerService/UpdateAllowedPartner";

/// How many partners it has.
pub const PARTNERS: u32 = 10_000;

/// A Get of one partner, framed.
pub fn read_body() -> Vec<u8> {
    framed(&pb::GetAllowedPartnerRequest { name: name(1), ..Default::default() })
}

/// Starts this build and fills it; then, if it is to speak TLS, starts it anew with it.
pub async fn start(tls: bool) -> Contestant {
    start_build(Name::Partnerd, env!("CARGO_BIN_EXE_partnerd"), tls).await
}

/// The same of any build.
pub async fn start_build(who: Name, program: &str, tls: bool) -> Contestant {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let dev = DevFolder::open_or_create(&folder.path().join("keys"), Timestamp::now())
        .expect("the folder is empty");
    let (mut process, mut address) = launched(program, folder.path(), &dev, false);
    let token = dev
        .issue_token(&["admin"], "bench", SignedDuration::from_hours(24), Timestamp::now())
        .expect("the subject is valid");
    let authorization = format!("Bearer {}", token.expose_secret());
    let channel = Channel::from_shared(format!("http://{address}"))
        .expect("it is an address")
        .connect()
        .await
        .expect("it listens");
    let client = Client { channel, authorization: authorization.clone() };
    client.fill().await;
    let reply = client.get().await.encode_to_vec();
    if tls {
        drop(process);
        (process, address) = launched(program, folder.path(), &dev, true);
    }
    Contestant {
        tls,
        read_path: GET,
        read_body: read_body(),
        headers: vec![("authorization", authorization)],
        write: Some((UPDATE, update)),
        reply,
        ..Contestant::new(who, process, address).with_folder(folder)
    }
}

/// A server on the data that is there, or on none.
fn launched(program: &str, folder: &Path, dev: &DevFolder, tls: bool) -> (Process, SocketAddr) {
    let address = server::free_address();
    let config = folder.join("partnerd.toml");
    fs::write(&config, configuration(&address.to_string(), folder, dev, tls))
        .expect("there is room for a file");
    let config = config.to_str().expect("a temporary folder has a path in UTF-8");
    let process = Process::start(program, &["serve", "--config", config]);
    server::wait_for(address);
    (process, address)
}

/// A change of one field of one partner, different for every number, framed.
fn update(number: u64) -> Vec<u8> {
    let partner = u32::try_from(number % u64::from(PARTNERS)).expect("it is below a u32");
    framed(&pb::UpdateAllowedPartnerRequest {
        allowed_partner: Some(pb::AllowedPartner {
            name: name(partner),
            owner: format!("turn-{number}@example.com"),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["owner".to_owned()] }),
        ..Default::default()
    })
}

fn name(number: u32) -> String {
    format!("allowedPartners/{}", data::domain(number))
}

/// As it is by default, but that it serves whatever it is asked: how long calls wait here is the
/// generator's choice.
fn configuration(address: &str, folder: &Path, dev: &DevFolder, tls: bool) -> String {
    let tls = if tls {
        let TlsConfig { cert_file, key_file, .. } = dev.tls_config();
        format!("cert_file = {cert_file:?}\nkey_file = {key_file:?}")
    } else {
        "enabled = false".to_owned()
    };
    let issuer = dev.issuer_config();
    let [KeySource::PemFile { path, kid: Some(kid), .. }] = issuer.keys.as_slice() else {
        panic!("a development folder has one key with an id");
    };
    format!(
        "listen = [\"{address}\"]\ndata_dir = {:?}\n[tls]\n{tls}\n\
         [limits]\nmax_queue_delay = \"1m\"\n[log]\nfilter = \"warn\"\n[[auth.issuers]]\nissuer = \"{ISSUER}\"\n\
         audiences = [\"{AUDIENCE}\"]\nalgorithms = [\"ES256\"]\n\
         keys = [{{ pem_file = {path:?}, kid = \"{kid}\" }}]\n",
        folder.join("data"),
    )
}

/// An administrator on one connection.
struct Client {
    channel: Channel,
    authorization: String,
}

impl Client {
    async fn fill(&self) {
        stream::iter((0..PARTNERS).step_by(1_000)).for_each(|first| self.load(first)).await;
    }

    async fn load(&self, first: u32) {
        let requests = (first..first + 1_000).map(|number| pb::UpdateAllowedPartnerRequest {
            allowed_partner: Some(data::partner(number)),
            allow_missing: true,
            ..Default::default()
        });
        let batch = pb::BatchUpdateAllowedPartnersRequest {
            requests: requests.collect(),
            ..Default::default()
        };
        let mut client = AllowedPartnerServiceClient::new(self.channel.clone());
        let loaded = client.batch_update_allowed_partners(self.authorized(batch)).await;
        loaded.expect("every partner made up is valid");
    }

    async fn get(&self) -> pb::AllowedPartner {
        let mut client = AllowedPartnerServiceClient::new(self.channel.clone());
        let get = pb::GetAllowedPartnerRequest { name: name(1), ..Default::default() };
        client.get_allowed_partner(self.authorized(get)).await.expect("it was loaded").into_inner()
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = self.authorization.parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", value);
        request
    }
}

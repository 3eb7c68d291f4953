//! partnerd: the release build, in plain text on loopback as etcd is, with tokens.

use std::{fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use partnerd::{
    auth::issuer::KeySource,
    dev::{AUDIENCE, DevFolder, ISSUER},
    proto::v1 as pb,
};
use prost_types::FieldMask;
use secrecy::ExposeSecret as _;

use crate::{
    data,
    line::{Line, More, Told},
    subject::{self, Caller, Process, Protocol, Subject},
};

const BATCH: &str = "/xmpp.federation.v1.AllowedPartnerService/BatchUpdateAllowedPartners";
const UPDATE: &str = "/xmpp.federation.v1.AllowedPartnerService/UpdateAllowedPartner";
const WATCH: &str = "/xmpp.federation.v1.AllowedPartnerService/WatchAllowedPartners";

/// How many partners are changed in turn.
const PARTNERS: u32 = 1_000;

/// In a message the field of the events, and in an event that of its revision.
const REVISION: [u32; 2] = [1, 7];

/// Starts it and fills it.
pub async fn start() -> Subject {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let address = subject::free_address();
    let dev = DevFolder::open_or_create(&folder.path().join("keys"), Timestamp::now())
        .expect("the folder is empty");
    let config = folder.path().join("partnerd.toml");
    fs::write(&config, configuration(&address.to_string(), folder.path(), &dev))
        .expect("there is room for a file");
    let arguments = ["serve".to_owned(), "--config".to_owned(), config.display().to_string()];
    let process = Process::start(env!("CARGO_BIN_EXE_partnerd"), &arguments);
    subject::wait_for(address);
    let token = dev
        .issue_token(&["admin"], "bench", SignedDuration::from_hours(24), Timestamp::now())
        .expect("the subject is valid");
    let authorization = Some(format!("Bearer {}", token.expose_secret()));
    fill(&Caller::connected(address, authorization.clone()).await).await;
    let protocol = Protocol {
        write: |caller, number| Box::pin(write(caller, number)),
        follow: |line, after| Box::pin(follow(line, after)),
    };
    Subject::new("partnerd", protocol, address, authorization, process, folder)
}

fn configuration(address: &str, folder: &Path, dev: &DevFolder) -> String {
    let issuer = dev.issuer_config();
    let [KeySource::PemFile { path, kid: Some(kid), .. }] = issuer.keys.as_slice() else {
        panic!("a development folder has one key with an id");
    };
    format!(
        "listen = [\"{address}\"]\ndata_dir = {:?}\n[tls]\nenabled = false\n\
         [log]\nfilter = \"warn\"\n[[auth.issuers]]\nissuer = \"{ISSUER}\"\n\
         audiences = [\"{AUDIENCE}\"]\nalgorithms = [\"ES256\"]\n\
         keys = [{{ pem_file = {path:?}, kid = \"{kid}\" }}]\n",
        folder.join("data"),
    )
}

async fn fill(caller: &Caller) {
    let requests = (0..PARTNERS).map(|number| pb::UpdateAllowedPartnerRequest {
        allowed_partner: Some(data::partner(number)),
        allow_missing: true,
        ..Default::default()
    });
    let requests = requests.collect();
    let request = pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
    let _: pb::BatchUpdateAllowedPartnersResponse = caller.unary(BATCH, request).await;
}

async fn write(caller: Caller, number: u64) -> i64 {
    let partner = u32::try_from(number % u64::from(PARTNERS)).expect("there are few partners");
    let request = pb::UpdateAllowedPartnerRequest {
        allowed_partner: Some(pb::AllowedPartner {
            name: format!("allowedPartners/{}", data::domain(partner)),
            owner: format!("turn-{number}@example.com"),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["owner".to_owned()] }),
        ..Default::default()
    };
    let answer: pb::AllowedPartner = caller.unary(UPDATE, request).await;
    answer.revision
}

async fn follow(line: Line, after: i64) -> Told {
    let request = pb::WatchAllowedPartnersRequest { start_revision: after, ..Default::default() };
    line.told(WATCH, &request, More::Never, &REVISION).await
}

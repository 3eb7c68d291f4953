//! Backup and restore through the front door.

mod command;
mod refusals;
mod rights;
mod round_trip;
mod scale;
mod transfers;

use partnerd::{
    domain::audit::{SigningKey, hex},
    proto::{
        backup::{Encoder, FORMAT, Reader},
        v1::{
            self as pb, AllowedPartner, BackupHeader, BackupRequest, FederationSettings,
            RestoreOptions, RestoreRequest, RestoreResponse, backup_record::Record,
        },
    },
};
use prost_types::Timestamp;

use crate::harness::{
    TestServer,
    actor::{Actor, Outcome, name, update},
};

const PASSPHRASE: &str = "correct horse battery staple";

impl Actor {
    /// A backup, as the file that it makes.
    async fn backup(&self) -> Outcome<Vec<u8>> {
        let mut stream = self.maintenance().backup(BackupRequest {}).await?.into_inner();
        let mut file = Vec::new();
        while let Some(message) = stream.message().await? {
            file.extend(message.data);
        }
        Ok(file)
    }

    /// Restores a file.
    async fn restore(&self, file: &[u8]) -> Outcome<RestoreResponse> {
        self.restore_with(RestoreOptions::default(), file).await
    }

    async fn restore_with(&self, options: RestoreOptions, file: &[u8]) -> Outcome<RestoreResponse> {
        let messages = tokio_stream::iter(messages(options, file));
        Ok(self.maintenance().restore(messages).await?.into_inner())
    }
}

/// The messages that restore a file, cut into pieces of an odd size.
fn messages(options: RestoreOptions, file: &[u8]) -> Vec<RestoreRequest> {
    let first = RestoreRequest { options: Some(options), data: Vec::new() };
    let piece = |data: &[u8]| RestoreRequest { options: None, data: data.to_vec() };
    std::iter::once(first).chain(file.chunks(1_237).map(piece)).collect()
}

/// The records of a backup.
fn records(file: &[u8]) -> (BackupHeader, Vec<Record>) {
    let mut reader = Reader::default();
    let mut records = Vec::new();
    reader.read(file, |_, record| records.push(record)).unwrap();
    (reader.end().unwrap().header, records)
}

/// What a backup is of, without what every commit to a resource changes.
fn content(file: &[u8]) -> Vec<Record> {
    let (_, mut records) = records(file);
    for record in &mut records {
        match record {
            Record::FederationSettings(it) => {
                (it.revision, it.update_time, it.updater) = (0, None, String::new());
            }
            Record::Role(it) => {
                (it.revision, it.update_time, it.updater) = (0, None, String::new());
            }
            Record::Revocation(it) => it.revision = 0,
            Record::AllowedPartner(it) => {
                (it.revision, it.update_time, it.updater) = (0, None, String::new());
            }
            Record::Header(_) | Record::Trailer(_) => unreachable!("the reader keeps them"),
        }
    }
    records
}

/// A file with these records, whole and signed by a key that no server has.
fn forged(records: Vec<Record>) -> Vec<u8> {
    let count = |is: fn(&Record) -> bool| records.iter().filter(|it| is(it)).count() as i64;
    let is_deleted = |record: &Record| match record {
        Record::AllowedPartner(partner) => partner.delete_time.is_some(),
        _ => false,
    };
    let deleted = count(is_deleted);
    let header = BackupHeader {
        format: FORMAT,
        server_version: "0.1.0".into(),
        revision: 77,
        create_time: Some(Timestamp { seconds: 1_800_000_000, nanos: 5 }),
        partner_count: count(|it| matches!(it, Record::AllowedPartner(_))) - deleted,
        deleted_partner_count: deleted,
        role_count: count(|it| matches!(it, Record::Role(_))),
        revocation_count: count(|it| matches!(it, Record::Revocation(_))),
    };
    let mut file = Vec::new();
    let mut encoder = Encoder::begin(header, &mut file);
    records.into_iter().for_each(|record| encoder.add(record, &mut file));
    let key = SigningKey::generate();
    let seal = |digest| {
        let seal = key.seal(digest);
        (hex(&seal.public_key), hex(&seal.signature))
    };
    encoder.end(seal, &mut file);
    file
}

/// A partner as a backup has it.
fn partner(domain: &str) -> AllowedPartner {
    let time = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
    AllowedPartner {
        name: name(domain),
        uid: uuid::Uuid::new_v4().to_string(),
        partner_type: pb::PartnerType::Federated.into(),
        keep_alive_enabled: Some(true),
        tls_negotiation: pb::Negotiation::Required.into(),
        sasl_negotiation: pb::Negotiation::Required.into(),
        dialback_enabled: Some(true),
        create_time: time,
        update_time: time,
        creator: "jo".into(),
        updater: "jo".into(),
        revision: 3,
        ..AllowedPartner::default()
    }
}

/// The settings as a backup of a new server has them.
async fn plain_settings(server: &TestServer) -> Record {
    let (_, records) = records(&server.admin().backup().await.unwrap());
    records.into_iter().next().unwrap()
}

/// A server with something of everything that a backup has.
async fn furnished() -> TestServer {
    let server = TestServer::start().await;
    let admin = server.admin();
    let full = AllowedPartner {
        description: "Für die Kollegen".into(),
        additional_domains: vec!["na.contoso.com".into(), "eu.contoso.com".into()],
        partner_type: pb::PartnerType::PublicVerified.into(),
        proxy_fqdn: "proxy.contoso.com".into(),
        connection_limit: Some(7),
        keep_alive_enabled: Some(false),
        tls_negotiation: pb::Negotiation::Optional.into(),
        sasl_negotiation: pb::Negotiation::NotSupported.into(),
        suspended: true,
        expire_time: Some(Timestamp { seconds: 32_503_680_000, nanos: 1 }),
        review_time: Some(Timestamp { seconds: 32_503_680_000, nanos: 0 }),
        owner: "Zoë".into(),
        labels: [("example.org/tier".to_owned(), "gold".to_owned())].into(),
        ..AllowedPartner::default()
    };
    admin.create("contoso.com", full).await.unwrap();
    admin.create_plain("fabrikam.org").await;
    admin.create_plain("gone.example").await;
    admin.delete("gone.example").await.unwrap();
    let settings = FederationSettings {
        dialback_passphrase: PASSPHRASE.into(),
        connection_limit: 321,
        ..FederationSettings::default()
    };
    let request = pb::UpdateFederationSettingsRequest {
        federation_settings: Some(settings),
        ..Default::default()
    };
    admin.settings().update_federation_settings(request).await.unwrap();
    make_role(&admin, "eu-operator", &["allowedPartners.get"]).await.unwrap();
    revoke(&admin, "mallory").await.unwrap();
    server
}

async fn make_role(actor: &Actor, id: &str, permissions: &[&str]) -> Outcome<pb::Role> {
    let role = pb::Role {
        permissions: permissions.iter().map(|&text| text.to_owned()).collect(),
        description: "made by hand".into(),
        ..pb::Role::default()
    };
    let request =
        pb::CreateRoleRequest { role_id: id.into(), role: Some(role), ..Default::default() };
    Ok(actor.roles().create_role(request).await?.into_inner())
}

async fn revoke(actor: &Actor, subject: &str) -> Outcome<pb::Revocation> {
    revoke_of("https://elsewhere.example", actor, subject).await
}

/// Stops believing somebody of the server's own issuer.
async fn revoke_subject(actor: &Actor, subject: &str) {
    revoke_of(crate::harness::tokens::ISSUER, actor, subject).await.unwrap();
}

async fn revoke_of(issuer: &str, actor: &Actor, subject: &str) -> Outcome<pb::Revocation> {
    use pb::revocation_service_client::RevocationServiceClient;
    let revocation = pb::Revocation {
        issuer: issuer.into(),
        target: Some(pb::revocation::Target::Subject(subject.into())),
        ..pb::Revocation::default()
    };
    let request =
        pb::CreateRevocationRequest { revocation: Some(revocation), ..Default::default() };
    let mut client = RevocationServiceClient::new(actor.service());
    Ok(client.create_revocation(request).await?.into_inner())
}

/// Gives a partner another owner.
async fn set_owner(actor: &Actor, domain: &str, owner: &str) -> AllowedPartner {
    let partner = AllowedPartner { owner: owner.into(), ..AllowedPartner::default() };
    actor.update(update(domain, &["owner"], partner)).await.unwrap()
}

/// The audit, the oldest entry first.
async fn audit(actor: &Actor, filter: &str) -> Vec<pb::AuditEntry> {
    use pb::audit_service_client::AuditServiceClient;
    let mut request = pb::ListAuditEntriesRequest {
        filter: filter.into(),
        order_by: "sequence".into(),
        page_size: 1_000,
        ..Default::default()
    };
    let mut client = AuditServiceClient::new(actor.service());
    let mut entries = Vec::new();
    loop {
        let page = client.list_audit_entries(request.clone()).await.unwrap().into_inner();
        entries.extend(page.audit_entries);
        if page.next_page_token.is_empty() {
            return entries;
        }
        request.page_token = page.next_page_token;
    }
}

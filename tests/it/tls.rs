//! Certificates: swapped without a restart, and asked of clients.

use std::time::Duration;

use jiff::Timestamp;
use partnerd::{
    certs::{Authority, CertificateFacts, Identity, new_key, read_key},
    dev::DevFolder,
    tls::ClientAuth,
};
use secrecy::ExposeSecret as _;

use crate::harness::{TestServer, peer_certificate};

/// The authority of a server's folder.
fn authority(dev: &DevFolder) -> Authority {
    let key = read_key(&dev.path().join("ca.key")).unwrap();
    let pem = std::fs::read_to_string(dev.path().join("ca.pem")).unwrap();
    Authority::from_pem(&pem, key).unwrap()
}

fn client_identity(dev: &DevFolder) -> Identity {
    authority(dev).issue_client("agent-1", &new_key().unwrap(), Timestamp::now()).unwrap()
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let before = peer_certificate(&server).await;

    let server_key = read_key(&server.dev().path().join("server.key")).unwrap();
    let names = ["localhost".to_owned()];
    let renewed =
        authority(&server.dev()).issue_server(&names, &server_key, Timestamp::now()).unwrap();
    std::fs::write(server.dev().path().join("server.pem"), &renewed.certificate_pem).unwrap();
    let swapped = async {
        while peer_certificate(&server).await == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), swapped).await.expect("it is read anew");
    let facts = CertificateFacts::from_der(&peer_certificate(&server).await).unwrap();
    assert!(facts.not_after > Timestamp::now());
    // The connection that was open all the time still serves.
    admin.get("contoso.com").await.unwrap();
}

#[tokio::test]
async fn where_client_certificates_are_required_nobody_calls_without() {
    let server = TestServer::builder().client_auth(ClientAuth::Required).start_unconnected().await;
    assert!(server.try_admin(None).await.is_err(), "without a certificate");

    let stranger = DevFolder::open_or_create(tempfile::tempdir().unwrap().path(), Timestamp::now())
        .map(|dev| client_identity(&dev))
        .unwrap();
    assert!(server.try_admin(Some(&stranger)).await.is_err(), "with one by another authority");

    let known = client_identity(&server.dev());
    assert!(!known.key_pem.expose_secret().is_empty());
    server.try_admin(Some(&known)).await.unwrap();
}

#[tokio::test]
async fn where_client_certificates_are_optional_both_sorts_call() {
    let server = TestServer::builder().client_auth(ClientAuth::Optional).start().await;
    server.admin().create_plain("contoso.com").await;
    let known = client_identity(&server.dev());
    server.try_admin(Some(&known)).await.unwrap();
}

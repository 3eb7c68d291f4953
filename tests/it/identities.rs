//! Client certificates: bound to a token, or standing for a subject.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use partnerd::{
    certs::{Authority, Identity, new_key, read_key},
    tls::ClientAuth,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::harness::{
    TestServer,
    actor::{Actor, reason},
    issuer::TestIssuer,
    tokens,
};

/// A client certificate with this DNS name, by the server's own authority.
fn identity(server: &TestServer, name: &str) -> Identity {
    let dev = server.dev();
    let key = read_key(&dev.path().join("ca.key")).unwrap();
    let pem = std::fs::read_to_string(dev.path().join("ca.pem")).unwrap();
    let authority = Authority::from_pem(&pem, key).unwrap();
    authority.issue_client(name, &new_key().unwrap(), Timestamp::now()).unwrap()
}

/// What a token says that is bound to a certificate (RFC 8705 section 3.1).
fn bound_to(identity: &Identity) -> Value {
    let der = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    json!({"x5t#S256": URL_SAFE_NO_PAD.encode(hash)})
}

/// An administrator's token by the server's own key, bound so.
fn token(server: &TestServer, binding: &Value) -> String {
    let now = Timestamp::now().as_second();
    let claims = json!({
        "iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "jo", "roles": ["admin"],
        "iat": now, "exp": now + 600, "cnf": binding,
    });
    tokens::signed(server, &claims)
}

async fn outcome(actor: Actor) -> String {
    match actor.describe().await {
        Ok(caller) => caller.subject,
        Err(status) => reason(&status),
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_worth_nothing_without_it() {
    let server = TestServer::builder().client_auth(ClientAuth::Optional).start().await;
    let [mine, theirs] = ["agent-1", "agent-2"].map(|name| identity(&server, name));
    let token = token(&server, &bound_to(&mine));
    // Before and after it has been found good for its owner.
    for _ in 0..2 {
        for (shown, expected) in [
            (None, "TOKEN_BOUND_ELSEWHERE"),
            (Some(&theirs), "TOKEN_BOUND_ELSEWHERE"),
            (Some(&mine), "jo"),
        ] {
            assert_eq!(outcome(server.over(shown, Some(&token)).await).await, expected);
        }
    }
}

#[tokio::test]
async fn a_token_that_is_bound_in_another_way_is_no_plain_token() {
    let server = TestServer::builder().client_auth(ClientAuth::Optional).start().await;
    let mine = identity(&server, "agent-1");
    let mut both = bound_to(&mine);
    both["jkt"] = json!("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    for binding in [json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), both] {
        let token = token(&server, &binding);
        let outcome = outcome(server.over(Some(&mine), Some(&token)).await).await;
        assert_eq!(outcome, "TOKEN_BINDING_UNSUPPORTED");
    }
}

#[tokio::test]
async fn an_issuer_whose_tokens_must_be_bound_is_believed_with_no_other() {
    let issuer = TestIssuer::start().await;
    let mut config = issuer.config();
    config.require_bound_tokens = true;
    let server =
        TestServer::builder().client_auth(ClientAuth::Optional).issuer(config).start().await;
    let mine = identity(&server, "agent-1");
    let plain = issuer.token("k1");
    let bound = issuer.token_with("k1", &json!({"cnf": bound_to(&mine)}));
    assert_eq!(outcome(server.over(Some(&mine), Some(&plain)).await).await, "TOKEN_NOT_BOUND");
    assert_eq!(outcome(server.over(Some(&mine), Some(&bound)).await).await, "alice");
}

#[tokio::test]
async fn a_certificate_stands_for_its_subject_where_there_is_no_token() {
    let server = TestServer::builder()
        .client_auth(ClientAuth::Optional)
        .certificate_subject("dns:*.agents.example", &["sync-agent"])
        .certificate_subject("dns:muc.agents.example", &["viewer"])
        .start()
        .await;
    let agent = identity(&server, "muc.agents.example");
    let caller = server.over(Some(&agent), None).await.describe().await.unwrap();
    assert_eq!(caller.subject, "muc.agents.example");
    assert_eq!(caller.roles, ["roles/sync-agent", "roles/viewer"]);
    assert_eq!(caller.issuer, "urn:partnerd:certificate");

    for (name, expected) in [
        ("agents.example", "CERTIFICATE_UNKNOWN"),
        ("a.muc.agents.example", "CERTIFICATE_UNKNOWN"),
        ("muc.agents.example.evil.example", "CERTIFICATE_UNKNOWN"),
    ] {
        let other = identity(&server, name);
        assert_eq!(outcome(server.over(Some(&other), None).await).await, expected, "{name}");
    }
    assert_eq!(outcome(server.over(None, None).await).await, "TOKEN_MISSING");

    // A token speaks for itself: a certificate does not make up for a bad one.
    let bad = server.over(Some(&agent), Some("nonsense")).await;
    assert_eq!(outcome(bad).await, "TOKEN_MALFORMED");
    let jo = token(&server, &bound_to(&agent));
    assert_eq!(outcome(server.over(Some(&agent), Some(&jo)).await).await, "jo");
}

#[tokio::test]
async fn a_certificate_is_nobody_unless_it_was_configured_to_be_somebody() {
    let server = TestServer::builder().client_auth(ClientAuth::Optional).start().await;
    let agent = identity(&server, "muc.agents.example");
    assert_eq!(outcome(server.over(Some(&agent), None).await).await, "TOKEN_MISSING");
}

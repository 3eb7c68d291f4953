//! Issuers whose keys are online: found, followed, and no harm done by those that are not well.

use std::time::Duration;

use jiff::Timestamp;
use partnerd::{
    auth::{issuer::KeySource, keys::FetchLimits},
    certs::{Authority, new_key},
};
use rcgen::KeyPair;
use serde_json::json;
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::reason,
    issuer::{Mood, TestIssuer},
};

/// Keys are asked for anew all the time.
fn eager() -> FetchLimits {
    FetchLimits {
        least_age: Duration::from_millis(20),
        most_age: Duration::from_millis(40),
        unknown_key_interval: Duration::from_millis(1),
        ..FetchLimits::default()
    }
}

/// Keys are asked for once, and after that only when a token has an unknown one.
fn patient() -> FetchLimits {
    let hour = Duration::from_secs(3_600);
    FetchLimits {
        least_age: hour,
        most_age: hour,
        unknown_key_interval: Duration::from_millis(1),
        ..FetchLimits::default()
    }
}

/// What becomes of a call with this token.
async fn outcome(server: &TestServer, token: &str) -> String {
    match server.with_token(token).await.describe().await {
        Ok(_) => "accepted".to_owned(),
        Err(status) => reason(&status),
    }
}

/// Waits until a call with a token comes to this.
async fn until(server: &TestServer, token: &str, expected: &str) {
    let mut last = String::new();
    let reached = async {
        while last != expected {
            last = outcome(server, token).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), reached).await;
    assert!(in_time.is_ok(), "{last}, not {expected}");
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_their_rotation_is_followed_live() {
    let issuer = TestIssuer::start().await;
    let server = TestServer::builder().issuer(issuer.config()).fetch(eager()).start().await;
    let old = issuer.token("k1");
    let caller = server.with_token(&old).await.describe().await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.roles), ("alice", vec!["roles/viewer".to_owned()]));

    issuer.add_key("k2");
    assert_eq!(outcome(&server, &issuer.token("k2")).await, "accepted");
    assert_eq!(outcome(&server, &old).await, "accepted", "both are published");

    issuer.remove_key("k1");
    until(&server, &old, "TOKEN_KEY_UNKNOWN").await;
    assert_eq!(outcome(&server, &issuer.token("k2")).await, "accepted");

    // Another key under the same id is another key.
    let before = issuer.token("k2");
    issuer.remove_key("k2");
    issuer.add_key("k2");
    until(&server, &before, "TOKEN_SIGNATURE_INVALID").await;
    assert_eq!(outcome(&server, &issuer.token("k2")).await, "accepted");
}

#[tokio::test]
async fn keys_are_found_at_an_address_that_is_configured() {
    let issuer = TestIssuer::start().await;
    let source = KeySource::JwksUrl { url: issuer.url("/keys"), algorithm: None, ca_file: None };
    let config = issuer.config_with(source);
    let server = TestServer::builder().issuer(config).fetch(patient()).start().await;
    assert_eq!(outcome(&server, &issuer.token("k1")).await, "accepted");
}

#[tokio::test]
async fn an_issuer_over_tls_is_believed_if_its_certificate_is_by_the_configured_authority() {
    let authority = Authority::new(new_key().unwrap(), Timestamp::now()).unwrap();
    let names = ["localhost".to_owned()];
    let identity = authority.issue_server(&names, &new_key().unwrap(), Timestamp::now()).unwrap();
    let issuer = TestIssuer::start_with_tls(&identity).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.certificate_pem()).unwrap();

    for (ca_file, expected) in [(Some(ca_file), "accepted"), (None, "TOKEN_KEYS_UNAVAILABLE")] {
        let source = KeySource::Discovery { algorithm: None, ca_file };
        let config = issuer.config_with(source);
        let server = TestServer::builder().issuer(config).fetch(patient()).start().await;
        assert_eq!(outcome(&server, &issuer.token("k1")).await, expected);
    }
}

#[tokio::test]
async fn tokens_with_unknown_keys_prompt_one_fetch_in_the_interval_whatever_their_number() {
    let issuer = TestIssuer::start().await;
    let hour = Duration::from_secs(3_600);
    let limits = FetchLimits { unknown_key_interval: hour, ..patient() };
    let server = TestServer::builder().issuer(issuer.config()).fetch(limits).start().await;
    assert_eq!(outcome(&server, &issuer.token("k1")).await, "accepted");
    assert_eq!(issuer.key_requests(), 1);

    let stranger = KeyPair::generate().unwrap();
    let forged = |number: i32| {
        issuer.token_by(&stranger, &json!({"kid": format!("forged-{number}")}), &json!({}))
    };
    let calls = (0..20).map(|number| {
        let token = forged(number);
        let server = &server;
        async move { outcome(server, &token).await }
    });
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(|outcome| outcome == "TOKEN_KEY_UNKNOWN"), "{outcomes:?}");
    assert_eq!(outcome(&server, &forged(20)).await, "TOKEN_KEY_UNKNOWN");
    assert_eq!(issuer.key_requests(), 2);
}

#[tokio::test]
async fn an_outage_of_the_issuer_is_survived_with_the_keys_there_are() {
    let issuer = TestIssuer::start().await;
    let server = TestServer::builder().issuer(issuer.config()).fetch(eager()).start().await;
    assert_eq!(outcome(&server, &issuer.token("k1")).await, "accepted");

    issuer.set_mood(Mood::Gone);
    issuer.add_key("k2");
    let before = issuer.connections();
    assert_eq!(outcome(&server, &issuer.token("k2")).await, "TOKEN_KEY_UNKNOWN");
    assert!(issuer.connections() > before, "it was tried");
    assert_eq!(outcome(&server, &issuer.token("k1")).await, "accepted");

    issuer.set_mood(Mood::Well);
    until(&server, &issuer.token("k2"), "accepted").await;
}

#[tokio::test]
async fn a_server_starts_without_its_issuer_and_believes_nobody_until_it_is_there() {
    let issuer = TestIssuer::start().await;
    issuer.set_mood(Mood::Gone);
    let server = TestServer::builder().issuer(issuer.config()).fetch(eager()).start().await;
    let refused = server.with_token(&issuer.token("k1")).await.describe().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(reason(&refused), "TOKEN_KEYS_UNAVAILABLE");
    server.admin().create_plain("contoso.com").await;

    issuer.set_mood(Mood::Well);
    until(&server, &issuer.token("k1"), "accepted").await;
}

#[tokio::test]
async fn an_issuer_that_answers_badly_changes_nothing() {
    let issuer = TestIssuer::start().await;
    let elsewhere = TestIssuer::start().await;
    let limits = FetchLimits {
        timeout: Duration::from_secs(1),
        unknown_key_wait: Duration::from_millis(200),
        ..patient()
    };
    let server = TestServer::builder().issuer(issuer.config()).fetch(limits).start().await;
    assert_eq!(outcome(&server, &issuer.token("k1")).await, "accepted");

    let moods = [
        Mood::Failing,
        Mood::Huge,
        Mood::Endless,
        Mood::Redirecting(elsewhere.url("/.well-known/openid-configuration")),
        Mood::SomebodyElse,
        Mood::KeysAt("http://169.254.169.254/latest/meta-data".to_owned()),
        Mood::KeysAt("file:///etc/passwd".to_owned()),
        Mood::KeysAt(String::new()),
        Mood::Garbage,
        Mood::OtherJson,
        Mood::Slow,
    ];
    for (number, mood) in moods.into_iter().enumerate() {
        let kid = format!("new-{number}");
        issuer.add_key(&kid);
        issuer.set_mood(mood.clone());
        let connections = issuer.connections();
        assert_eq!(outcome(&server, &issuer.token(&kid)).await, "TOKEN_KEY_UNKNOWN", "{mood:?}");
        assert!(issuer.connections() > connections, "{mood:?}: it was asked");
        assert_eq!(outcome(&server, &issuer.token("k1")).await, "accepted", "{mood:?}");
        issuer.set_mood(Mood::Well);
        until(&server, &issuer.token(&kid), "accepted").await;
    }
    assert_eq!(elsewhere.connections(), 0, "nobody is sent on");
}

#[tokio::test]
async fn of_a_key_set_only_sound_keys_are_believed() {
    let issuer = TestIssuer::start().await;
    let [private, encryption, other_curve] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let mut exposed = TestIssuer::member("private", &private);
    exposed["d"] = json!("AAAA");
    issuer.add_member(exposed);
    let mut for_encryption = TestIssuer::member("encryption", &encryption);
    for_encryption["use"] = json!("enc");
    issuer.add_member(for_encryption);
    let mut off_its_curve = TestIssuer::member("off", &other_curve);
    off_its_curve["x"] = off_its_curve["y"].clone();
    issuer.add_member(off_its_curve);
    issuer.add_member(json!({"kty": "EC"}));
    // A second key under the id of the first.
    issuer.add_member(TestIssuer::member("k1", &private));

    let server = TestServer::builder().issuer(issuer.config()).fetch(eager()).start().await;
    assert_eq!(outcome(&server, &issuer.token("k1")).await, "accepted");
    for (key, kid, expected) in [
        (&private, "private", "TOKEN_KEY_UNKNOWN"),
        (&encryption, "encryption", "TOKEN_KEY_UNKNOWN"),
        (&other_curve, "off", "TOKEN_KEY_UNKNOWN"),
        (&private, "k1", "TOKEN_SIGNATURE_INVALID"),
    ] {
        let token = issuer.token_by(key, &json!({"kid": kid}), &json!({}));
        assert_eq!(outcome(&server, &token).await, expected, "{kid}");
    }
}

#[tokio::test]
async fn an_issuer_that_publishes_no_key_any_more_is_believed_no_more() {
    let issuer = TestIssuer::start().await;
    let server = TestServer::builder().issuer(issuer.config()).fetch(eager()).start().await;
    let token = issuer.token("k1");
    assert_eq!(outcome(&server, &token).await, "accepted");
    issuer.remove_key("k1");
    until(&server, &token, "TOKEN_KEY_UNKNOWN").await;
}

#[tokio::test]
async fn no_token_makes_the_server_fetch_what_it_names() {
    let issuer = TestIssuer::start().await;
    let evil = TestIssuer::start().await;
    let server = TestServer::builder().issuer(issuer.config()).fetch(eager()).start().await;
    let key = KeyPair::generate().unwrap();
    let at = evil.url("/keys");
    let jwk = TestIssuer::member("mine", &key);
    for headers in [
        json!({"kid": "mine", "jku": at}),
        json!({"kid": "mine", "x5u": at}),
        json!({"kid": at, "jku": at}),
        json!({"kid": "mine", "jwk": jwk}),
        json!({"kid": "../../../../etc/passwd"}),
    ] {
        let token = issuer.token_by(&key, &headers, &json!({}));
        assert_eq!(outcome(&server, &token).await, "TOKEN_KEY_UNKNOWN", "{headers}");
    }
    let theirs = issuer.token_by(&key, &json!({"kid": "k1"}), &json!({"iss": evil.name()}));
    assert_eq!(outcome(&server, &theirs).await, "TOKEN_ISSUER_UNKNOWN");
    assert_eq!(evil.connections(), 0);
}

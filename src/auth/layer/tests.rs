//! What the layer lets pass, what it stops, and what it tells about it.

use std::{convert::Infallible, fs};

use http::StatusCode;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::{
    auth::{
        failures::FailureLimits,
        incident::{Identity, Incident, Incidents},
        issuer::{IssuerConfig, KeySource},
        token::Options,
    },
    domain::role::built_in_roles,
    service::FromTower,
};

const ISSUER: &str = "https://login.example.org";

/// A door of plain HTTP: the path says what is asked for, the status what came of it.
struct PlainDoor;

impl Door for PlainDoor {
    type Body = String;

    fn access_of(&self, path: &str) -> Option<Access> {
        Some(match path {
            "/public" => Access::Public,
            "/settings" => Access::Needs { permission: Permission::SettingsUpdate, preview: None },
            _ => Access::Authenticated,
        })
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::new(Policy::new(built_in_roles().into_iter().map(Arc::new)))
    }

    fn source(&self, extensions: &Extensions) -> Option<IpAddr> {
        extensions.get().copied()
    }

    fn identified(&self, _: &Extensions, _: &Caller) {}

    fn reject(&self, rejection: Rejection) -> Response<String> {
        let mut response = Response::new(format!("{rejection:?}"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
    }

    fn denies(&self, response: &Response<String>) -> bool {
        response.status() == StatusCode::FORBIDDEN
    }
}

struct Fixture {
    key: KeyPair,
    shared: Arc<Shared<PlainDoor>>,
    incidents: Arc<Incidents>,
}

impl Fixture {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub");
        fs::write(&path, key.public_key_pem()).unwrap();
        let config = IssuerConfig {
            issuer: ISSUER.to_owned(),
            audiences: vec!["partnerd".to_owned()],
            algorithms: vec!["ES256".to_owned()],
            keys: vec![KeySource::PemFile { path, kid: None, algorithm: None }],
            ..IssuerConfig::default()
        };
        let verifier = Arc::new(Verifier::new(vec![config], Options::default()).unwrap());
        let incidents = Arc::new(Incidents::new());
        let failures = Failures::new(FailureLimits::default(), Arc::clone(&incidents));
        let shared = Arc::new(Shared { verifier, failures, door: PlainDoor });
        Self { key, shared, incidents }
    }

    fn token(&self, claims: Value) -> String {
        let mut all = json!({"iss": ISSUER, "aud": "partnerd", "sub": "alice", "roles": ["viewer"],
                             "exp": Timestamp::now().as_second() + 600});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let key = jsonwebtoken::EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes());
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        jsonwebtoken::encode(&header, &all, &key.unwrap()).unwrap()
    }

    fn around<S>(&self, inner: S) -> Authenticated<S, PlainDoor> {
        Authenticated { inner, shared: Arc::clone(&self.shared) }
    }

    /// The status that a call gets. The handler denies `/denied`, and repeats who calls and what
    /// token it sees.
    async fn call(&self, path: &str, token: Option<&str>) -> (StatusCode, String) {
        let handler = FromTower(service_fn(|request: Request<String>| async move {
            let caller = request.extensions().get::<Arc<Caller>>();
            let caller = caller.map_or_else(String::new, |caller| caller.subject.to_string());
            let token = request.headers().get(AUTHORIZATION).is_some();
            let mut response = Response::new(format!("{caller} {token}"));
            if request.uri().path() == "/denied" {
                *response.status_mut() = StatusCode::FORBIDDEN;
            }
            Ok::<_, Infallible>(response)
        }));
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(String::new()).unwrap();
        request.extensions_mut().insert(IpAddr::from([192, 0, 2, 1]));
        let response = self.around(handler).call(request).await;
        (response.status(), response.into_body())
    }

    /// Reason, identity and count of what was noted.
    fn noted(&self) -> Vec<(&'static str, Identity, u64)> {
        let row = |row: Incident| (row.what.reason, row.what.identity, row.count);
        self.incidents.take().into_iter().map(row).collect()
    }
}

fn claimed(issuer: &str, subject: &str) -> Identity {
    Identity::Claimed { issuer: issuer.into(), subject: subject.into() }
}

fn verified(subject: &str) -> Identity {
    Identity::Verified { issuer: ISSUER.into(), subject: subject.into() }
}

#[tokio::test]
async fn a_handler_gets_the_caller_and_never_the_token() {
    let fixture = Fixture::new();
    let token = fixture.token(json!({}));
    for _ in 0..2 {
        let (status, seen) = fixture.call("/", Some(&token)).await;
        assert_eq!((status, seen.as_str()), (StatusCode::OK, "alice false"));
    }
    let (status, seen) = fixture.call("/public", Some(&token)).await;
    assert_eq!((status, seen.as_str()), (StatusCode::OK, " false"));
    assert!(fixture.noted().is_empty());
}

#[tokio::test]
async fn a_failed_login_is_noted_with_who_it_was_or_said_he_was() {
    let fixture = Fixture::new();
    let stranger = Fixture::new();
    let past = json!({"exp": Timestamp::now().as_second() - 600});
    let cases = [
        (None, "TOKEN_MISSING", Identity::Unknown),
        (Some("nonsense".to_owned()), "TOKEN_MALFORMED", Identity::Unknown),
        (
            Some(stranger.token(json!({"sub": "bob"}))),
            "TOKEN_SIGNATURE_INVALID",
            claimed(ISSUER, "bob"),
        ),
        (
            Some(fixture.token(json!({"iss": "https://evil.example", "sub": "a\nb"}))),
            "TOKEN_ISSUER_UNKNOWN",
            claimed("https://evil.example", ""),
        ),
        (Some(fixture.token(past)), "TOKEN_EXPIRED", verified("alice")),
        (Some(fixture.token(json!({"aud": "mail"}))), "TOKEN_AUDIENCE_WRONG", verified("alice")),
    ];
    for (token, reason, identity) in cases {
        for _ in 0..3 {
            let (status, _) = fixture.call("/", token.as_deref()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(fixture.noted(), [(reason, identity, 3)]);
    }
}

#[tokio::test]
async fn a_denial_is_noted_with_the_permission_whoever_denies() {
    let fixture = Fixture::new();
    let token = fixture.token(json!({}));
    let (status, _) = fixture.call("/settings", Some(&token)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = fixture.call("/denied", Some(&token)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let rows = fixture.incidents.take();
    let permissions: Vec<_> = rows.iter().map(|row| row.what.permission).collect();
    assert_eq!(permissions, [Some(Permission::SettingsUpdate), None]);
    for row in rows {
        assert_eq!((row.what.reason, row.what.identity), ("PERMISSION_DENIED", verified("alice")));
        assert_eq!(row.what.source, Some(IpAddr::from([192, 0, 2, 1])));
    }
}

#[tokio::test]
async fn two_tokens_are_as_bad_as_none() {
    let fixture = Fixture::new();
    let token = fixture.token(json!({}));
    let handler = FromTower(service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    let request = Request::get("/")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(String::new());
    let response = fixture.around(handler).call(request.unwrap()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

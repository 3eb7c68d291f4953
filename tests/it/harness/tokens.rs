//! Tokens of every sort, made with a test server's own signing key or against it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use partnerd::auth::issuer::KeySource;
use serde_json::Value;

pub use partnerd::dev::{AUDIENCE, ISSUER};

use super::TestServer;

fn header(server: &TestServer, algorithm: Algorithm) -> Header {
    let kid = match &server.dev().issuer_config().keys[..] {
        [KeySource::PemFile { kid, .. }] => kid.clone(),
        other => panic!("a dev server has one key: {other:?}"),
    };
    Header { typ: Some("at+jwt".into()), kid, ..Header::new(algorithm) }
}

/// A token with these claims, signed by the server's own key.
pub fn signed(server: &TestServer, claims: &Value) -> String {
    let key = std::fs::read(server.dev().path().join("jwt.key")).unwrap();
    let key = EncodingKey::from_ec_pem(&key).unwrap();
    encode(&header(server, Algorithm::ES256), claims, &key).unwrap()
}

/// A token with these claims, signed by HMAC with the server's public key as its secret.
pub fn hs256(server: &TestServer, claims: &Value) -> String {
    let public = std::fs::read(server.dev().path().join("jwt.pem")).unwrap();
    encode(&header(server, Algorithm::HS256), claims, &EncodingKey::from_secret(&public)).unwrap()
}

/// A token with these claims and no signature at all.
pub fn unsigned(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none","typ":"at+jwt"}"#), part(&claims.to_string()))
}

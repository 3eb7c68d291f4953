//! Tokens: found good before, and verified in full with each algorithm.

use std::{fs, hint::black_box, path::Path};

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use partnerd::auth::{
    issuer::{IssuerConfig, KeySource},
    token::{Options, Shown, Verifier},
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::json;

use crate::Parts;

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256];

const SECRET: &[u8] = b"a secret of more than thirty-two octets, for this measurement alone";

pub fn measure(parts: &mut Parts<'_>) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let signers: Vec<_> =
        ALGORITHMS.map(|algorithm| Signer::new(folder.path(), algorithm)).into_iter().collect();
    let issuers = signers.iter().map(|signer| signer.issuer.clone()).collect();
    let verifier = Verifier::new(issuers, Options::default()).expect("all of it is there");
    let now = Timestamp::now();
    let tokens: Vec<_> = signers.iter().map(|signer| signer.token(now)).collect();
    let shown = |token| Shown { token: Some(token), certificate: None };
    verifier.verify(&tokens[1], now).expect("the token is good");
    parts.add("token-remembered", "a token that was found good before", |bencher| {
        bencher.iter(|| {
            verifier.recall(shown(black_box(&tokens[1])), now).expect("it was found good before")
        });
    });
    for (algorithm, token) in ALGORITHMS.iter().zip(&tokens) {
        let key = format!("token-{algorithm:?}");
        let title = format!("verifying a token in full, {algorithm:?}");
        parts.add(&key, &title, |bencher| {
            bencher.iter(|| verifier.identify(shown(black_box(token)), now).expect("it is good"));
        });
    }
}

/// Somebody who signs tokens with one algorithm.
struct Signer {
    issuer: IssuerConfig,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    fn new(folder: &Path, algorithm: Algorithm) -> Self {
        let name = format!("{algorithm:?}");
        let path = folder.join(&name);
        let kid = Some("k1".to_owned());
        let pair = |kind| KeyPair::generate_for(kind).expect("the library makes such keys");
        let public = |pair: &KeyPair| {
            fs::write(&path, pair.public_key_pem()).expect("there is room for a file");
            KeySource::PemFile { path: path.clone(), kid: kid.clone(), algorithm: None }
        };
        let (source, key) = match algorithm {
            Algorithm::HS256 => {
                fs::write(&path, SECRET).expect("there is room for a file");
                let algorithm = name.clone();
                let source = KeySource::SecretFile { path: path.clone(), kid, algorithm };
                (source, Ok(EncodingKey::from_secret(SECRET)))
            }
            Algorithm::EdDSA => {
                let pair = pair(&PKCS_ED25519);
                (public(&pair), EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()))
            }
            Algorithm::ES256 => {
                let pair = pair(&PKCS_ECDSA_P256_SHA256);
                (public(&pair), EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()))
            }
            _ => {
                let pair = pair(&PKCS_RSA_SHA256);
                (public(&pair), EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()))
            }
        };
        let issuer = IssuerConfig {
            issuer: format!("urn:{name}"),
            audiences: vec!["partnerd".to_owned()],
            algorithms: vec![name],
            keys: vec![source],
            ..IssuerConfig::default()
        };
        Self { issuer, algorithm, key: key.expect("it is such a key") }
    }

    fn token(&self, now: Timestamp) -> String {
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some("k1".to_owned()),
            ..Header::new(self.algorithm)
        };
        let claims = json!({
            "iss": self.issuer.issuer, "aud": "partnerd", "sub": "alice@example.com",
            "roles": ["viewer", "operator"], "iat": now.as_second(),
            "exp": now.as_second() + 3_600, "jti": uuid::Uuid::new_v4().to_string(),
        });
        encode(&header, &claims, &self.key).expect("the key fits the algorithm")
    }
}

//! Every kind of bad token against one verifier, each with exactly its reason; then what the
//! configuration allows and refuses, and how keys are replaced.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::LazyLock};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    auth::issuer::KeySource,
    domain::revocation::{Revocation, Target},
};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://login.example.org/realms/one";

/// The issuer's and a stranger's keys: made once, since an RSA key takes its time.
struct Keys {
    rsa: KeyPair,
    ec: KeyPair,
    ed: KeyPair,
    stranger: KeyPair,
    secret: &'static str,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    rsa: KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("an RSA key"),
    ec: KeyPair::generate().expect("a P-256 key"),
    ed: KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("an Ed25519 key"),
    stranger: KeyPair::generate().expect("a P-256 key"),
    secret: "a secret of at least thirty-two octets",
});

/// A verifier for one issuer that signs with each kind of key, and the folder its keys are in.
struct Fixture {
    folder: TempDir,
    verifier: Verifier,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: impl FnOnce(&mut IssuerConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(&folder);
        adjust(&mut config);
        let verifier = Verifier::new(vec![config], Options::default()).expect("a verifier");
        Self { folder, verifier }
    }

    fn verify(&self, token: &str) -> Result<Arc<Caller>, TokenError> {
        self.verifier.verify(token, Timestamp::from_second(NOW).expect("a time"))
    }

    fn reason(&self, token: &str) -> &'static str {
        self.verify(token).map_or_else(|error| error.reason(), |_| "accepted")
    }
}

fn config(folder: &TempDir) -> IssuerConfig {
    let pem = |name: &str, key: &KeyPair| {
        let path = folder.path().join(name);
        fs::write(&path, key.public_key_pem()).expect("a key file");
        KeySource::PemFile { path, kid: Some(name.to_owned()), algorithm: None }
    };
    let secret = folder.path().join("shared");
    fs::write(&secret, format!("{}\n", KEYS.secret)).expect("a key file");
    IssuerConfig {
        issuer: ISSUER.to_owned(),
        audiences: vec!["partnerd".to_owned(), "partnerd-test".to_owned()],
        algorithms: ["RS256", "ES256", "EdDSA", "HS256"].map(str::to_owned).to_vec(),
        keys: vec![
            pem("rsa", &KEYS.rsa),
            pem("ec", &KEYS.ec),
            pem("ed", &KEYS.ed),
            KeySource::SecretFile {
                path: secret,
                kid: Some("shared".to_owned()),
                algorithm: "HS256".to_owned(),
            },
        ],
        ..IssuerConfig::default()
    }
}

fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "partnerd", "sub": "alice", "jti": "t-1",
        "exp": NOW + 600, "nbf": NOW - 5, "iat": NOW - 5, "roles": ["viewer", "admin", "viewer"],
    })
}

fn with(mut object: Value, changes: Value) -> Value {
    let members = object.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        members.insert(name.clone(), value.clone());
    }
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().expect("an object").remove(name).expect("it was there");
    object
}

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    raw_token(&header.to_string(), &claims.to_string(), sign)
}

fn raw_token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn by(key: &KeyPair, algorithm: Algorithm) -> impl Fn(&[u8]) -> Vec<u8> {
    let pem = key.serialize_pem();
    let key = match algorithm {
        Algorithm::ES256 => jsonwebtoken::EncodingKey::from_ec_pem(pem.as_bytes()),
        Algorithm::EdDSA => jsonwebtoken::EncodingKey::from_ed_pem(pem.as_bytes()),
        _ => jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes()),
    }
    .expect("a signing key");
    move |message| {
        let signature = jsonwebtoken::crypto::sign(message, &key, algorithm).expect("a signature");
        URL_SAFE_NO_PAD.decode(signature).expect("base64url")
    }
}

fn by_secret(secret: impl AsRef<[u8]>) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

/// A token with these octets for a payload, signed as good ones are.
fn octets_token(payload: &[u8]) -> String {
    let signed = format!("{}.{}", encode(r#"{"alg":"ES256","kid":"ec"}"#), encode(payload));
    let signature = encode(by(&KEYS.ec, Algorithm::ES256)(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn utf16(json: &Value, mark: bool) -> Vec<u8> {
    let mark = if mark { "\u{feff}" } else { "" };
    format!("{mark}{json}").encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn utf32(json: &Value) -> Vec<u8> {
    json.to_string().chars().flat_map(|c| u32::from(c).to_be_bytes()).collect()
}

/// A token that is good but for its claims.
fn es256(claims: &Value) -> String {
    token(
        &json!({"alg": "ES256", "typ": "at+jwt", "kid": "ec"}),
        claims,
        by(&KEYS.ec, Algorithm::ES256),
    )
}

/// A token that is good but for its header.
fn es256_with_header(header: &Value) -> String {
    token(header, &good_claims(), by(&KEYS.ec, Algorithm::ES256))
}

#[test]
fn a_good_token_gives_its_caller() {
    let fixture = Fixture::new();
    let caller = fixture.verify(&es256(&good_claims())).expect("a caller");
    assert_eq!(
        *caller,
        Caller {
            subject: "alice".into(),
            issuer: ISSUER.into(),
            roles: vec!["admin".to_owned(), "viewer".to_owned()],
            expire_time: Timestamp::from_second(NOW + 600).expect("a time"),
            good_until: Timestamp::from_second(NOW + 630).expect("a time"),
            token_id: Some("t-1".into()),
            key_id: "ec".into(),
            key_fingerprint: caller.key_fingerprint,
        }
    );
}

#[test]
fn a_token_is_accepted_by_each_kind_of_key_with_and_without_kid() {
    let fixture = Fixture::new();
    type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;
    let signers: [(&str, &str, Sign); 4] = [
        ("RS256", "rsa", Box::new(by(&KEYS.rsa, Algorithm::RS256))),
        ("ES256", "ec", Box::new(by(&KEYS.ec, Algorithm::ES256))),
        ("EdDSA", "ed", Box::new(by(&KEYS.ed, Algorithm::EdDSA))),
        ("HS256", "shared", Box::new(by_secret(KEYS.secret))),
    ];
    for (alg, kid, sign) in &signers {
        for header in [json!({"alg": alg, "kid": kid}), json!({"alg": alg})] {
            let caller = fixture.verify(&token(&header, &good_claims(), sign));
            assert_eq!(
                caller.map(|caller| caller.key_id.to_string()),
                Ok((*kid).to_owned()),
                "{header}"
            );
        }
    }
}

#[test]
fn every_bad_token_is_refused_for_its_own_reason() {
    let fixture = Fixture::new();
    let good = good_claims();
    let signed = es256(&good);
    let (body, signature) = signed.rsplit_once('.').expect("three segments");
    let (header, _) = body.split_once('.').expect("three segments");
    let other_payload = encode(with(good.clone(), json!({"sub": "mallory"})).to_string());
    let claim = |changes: Value| es256(&with(good_claims(), changes));
    let nested_twice =
        good.to_string().replacen('{', r#"{"realm_access":{"roles":[],"roles":["admin"]},"#, 1);
    let twice = good.to_string().replacen('{', r#"{"sub":"mallory","#, 1);
    let es256_header = r#"{"alg":"ES256","kid":"ec"}"#;
    let ec = by(&KEYS.ec, Algorithm::ES256);

    let table: Vec<(&str, String, &str)> = vec![
        ("control", signed.clone(), "accepted"),
        // The form.
        ("empty", String::new(), "TOKEN_MISSING"),
        (
            "100 kB",
            es256(&with(good.clone(), json!({"x": "x".repeat(100_000)}))),
            "TOKEN_TOO_LARGE",
        ),
        ("100 kB of dots", ".".repeat(100_000), "TOKEN_TOO_LARGE"),
        ("one segment", "alice".to_owned(), "TOKEN_MALFORMED"),
        ("two segments", body.to_owned(), "TOKEN_MALFORMED"),
        ("encrypted", format!("{signed}.a.b"), "TOKEN_MALFORMED"),
        ("padded base64", format!("{signed}="), "TOKEN_MALFORMED"),
        ("standard base64", signed.replacen(header, "+/+/", 1), "TOKEN_MALFORMED"),
        ("a space in it", signed.replacen('.', ". ", 1), "TOKEN_MALFORMED"),
        (
            "header is no JSON",
            format!("{}.{}", encode("alg"), &signed[header.len() + 1..]),
            "TOKEN_MALFORMED",
        ),
        ("header is a list", raw_token("[]", &good.to_string(), &ec), "TOKEN_MALFORMED"),
        ("payload is no JSON", raw_token(es256_header, "alice", &ec), "TOKEN_MALFORMED"),
        (
            "payload is not UTF-8",
            format!("{header}.{}.{signature}", encode([0xff, 0xfe])),
            "TOKEN_MALFORMED",
        ),
        ("a claim twice", raw_token(es256_header, &twice, &ec), "TOKEN_MALFORMED"),
        (
            "a header twice",
            raw_token(r#"{"alg":"none","alg":"ES256"}"#, &good.to_string(), &ec),
            "TOKEN_MALFORMED",
        ),
        (
            "a name twice within a claim",
            raw_token(es256_header, &nested_twice, &ec),
            "TOKEN_MALFORMED",
        ),
        // Other encodings of the same JSON (RFC 8725 sections 2.6, 3.7).
        ("payload in UTF-16", octets_token(&utf16(&good, false)), "TOKEN_MALFORMED"),
        ("payload in UTF-16 with a mark", octets_token(&utf16(&good, true)), "TOKEN_MALFORMED"),
        ("payload in UTF-32", octets_token(&utf32(&good)), "TOKEN_MALFORMED"),
        (
            "payload with a byte order mark",
            octets_token(format!("\u{feff}{good}").as_bytes()),
            "TOKEN_MALFORMED",
        ),
        (
            "payload with more behind it",
            octets_token(format!("{good}{{}}").as_bytes()),
            "TOKEN_MALFORMED",
        ),
        (
            "payload that is compressed",
            raw_token(r#"{"alg":"ES256","kid":"ec","zip":"DEF"}"#, &good.to_string(), &ec),
            "TOKEN_HEADER_UNSUPPORTED",
        ),
        // The signature and the algorithm (RFC 8725 sections 2.1, 2.2, 3.1, 3.2).
        (
            "alg none",
            token(&json!({"alg": "none"}), &good, |_| Vec::new()),
            "TOKEN_ALGORITHM_NOT_ALLOWED",
        ),
        (
            "alg nOnE",
            token(&json!({"alg": "nOnE"}), &good, |_| Vec::new()),
            "TOKEN_ALGORITHM_NOT_ALLOWED",
        ),
        (
            "alg none, signature kept",
            es256_with_header(&json!({"alg": "none"})),
            "TOKEN_ALGORITHM_NOT_ALLOWED",
        ),
        ("alg absent", es256_with_header(&json!({"kid": "ec"})), "TOKEN_MALFORMED"),
        ("alg is a number", es256_with_header(&json!({"alg": 256})), "TOKEN_CLAIM_INVALID"),
        ("alg unknown", es256_with_header(&json!({"alg": "ES257"})), "TOKEN_ALGORITHM_NOT_ALLOWED"),
        (
            "alg not accepted",
            token(&json!({"alg": "RS512", "kid": "rsa"}), &good, by(&KEYS.rsa, Algorithm::RS512)),
            "TOKEN_ALGORITHM_NOT_ALLOWED",
        ),
        (
            "HS256 with the RSA key's PEM, naming that key",
            token(
                &json!({"alg": "HS256", "kid": "rsa"}),
                &good,
                by_secret(KEYS.rsa.public_key_pem()),
            ),
            "TOKEN_ALGORITHM_NOT_ALLOWED",
        ),
        (
            "HS256 with the RSA key's PEM, naming none",
            token(&json!({"alg": "HS256"}), &good, by_secret(KEYS.rsa.public_key_pem())),
            "TOKEN_SIGNATURE_INVALID",
        ),
        (
            "HS256 with the RSA key's DER",
            token(&json!({"alg": "HS256"}), &good, by_secret(KEYS.rsa.public_key_raw())),
            "TOKEN_SIGNATURE_INVALID",
        ),
        (
            "HS256 with an empty secret",
            token(&json!({"alg": "HS256"}), &good, by_secret("")),
            "TOKEN_SIGNATURE_INVALID",
        ),
        (
            "the key of another algorithm",
            token(&json!({"alg": "ES256", "kid": "rsa"}), &good, &ec),
            "TOKEN_ALGORITHM_NOT_ALLOWED",
        ),
        (
            "a stranger's signature",
            token(
                &json!({"alg": "ES256", "kid": "ec"}),
                &good,
                by(&KEYS.stranger, Algorithm::ES256),
            ),
            "TOKEN_SIGNATURE_INVALID",
        ),
        ("no signature", format!("{body}."), "TOKEN_SIGNATURE_INVALID"),
        (
            "a zero signature (CVE-2022-21449)",
            format!("{body}.{}", encode([0; 64])),
            "TOKEN_SIGNATURE_INVALID",
        ),
        (
            "a changed payload",
            format!("{header}.{other_payload}.{signature}"),
            "TOKEN_SIGNATURE_INVALID",
        ),
        // The header (RFC 8725 sections 2.4, 2.6, 3.8, 3.10, 3.11).
        (
            "unknown kid",
            es256_with_header(&json!({"alg": "ES256", "kid": "gone"})),
            "TOKEN_KEY_UNKNOWN",
        ),
        (
            "kid that would be a path",
            es256_with_header(&json!({"alg": "ES256", "kid": "../../dev/null"})),
            "TOKEN_KEY_UNKNOWN",
        ),
        (
            "kid that would be a query",
            es256_with_header(&json!({"alg": "ES256", "kid": "ec' OR '1'='1"})),
            "TOKEN_KEY_UNKNOWN",
        ),
        (
            "kid that would be an address",
            es256_with_header(&json!({"alg": "ES256", "kid": "http://169.254.169.254/"})),
            "TOKEN_KEY_UNKNOWN",
        ),
        (
            "kid is a number",
            es256_with_header(&json!({"alg": "ES256", "kid": 1})),
            "TOKEN_CLAIM_INVALID",
        ),
        (
            "kid is endless",
            es256_with_header(&json!({"alg": "ES256", "kid": "k".repeat(257)})),
            "TOKEN_CLAIM_INVALID",
        ),
        (
            "an ID token",
            es256_with_header(&json!({"alg": "ES256", "typ": "id+jwt"})),
            "TOKEN_TYPE_WRONG",
        ),
        (
            "a logout token",
            es256_with_header(&json!({"alg": "ES256", "typ": "logout+jwt"})),
            "TOKEN_TYPE_WRONG",
        ),
        (
            "a security event",
            es256_with_header(&json!({"alg": "ES256", "typ": "secevent+jwt"})),
            "TOKEN_TYPE_WRONG",
        ),
        (
            "a DPoP proof",
            es256_with_header(&json!({"alg": "ES256", "typ": "dpop+jwt"})),
            "TOKEN_TYPE_WRONG",
        ),
        (
            "critical extension",
            es256_with_header(&json!({"alg": "ES256", "crit": ["exp"]})),
            "TOKEN_HEADER_UNSUPPORTED",
        ),
        (
            "unencoded payload",
            es256_with_header(&json!({"alg": "ES256", "b64": false})),
            "TOKEN_HEADER_UNSUPPORTED",
        ),
        ("brings its own key", own_key_token("jwk"), "TOKEN_SIGNATURE_INVALID"),
        ("links its own key", own_key_token("jku"), "TOKEN_SIGNATURE_INVALID"),
        ("links its own certificate", own_key_token("x5u"), "TOKEN_SIGNATURE_INVALID"),
        ("brings its own certificate", own_key_token("x5c"), "TOKEN_SIGNATURE_INVALID"),
        // The claims (RFC 8725 sections 2.7, 2.8, 3.8, 3.9).
        ("no iss", es256(&without(good.clone(), "iss")), "TOKEN_CLAIM_MISSING"),
        ("another iss", claim(json!({"iss": "https://evil.example"})), "TOKEN_ISSUER_UNKNOWN"),
        (
            "iss with a slash more",
            claim(json!({"iss": format!("{ISSUER}/")})),
            "TOKEN_ISSUER_UNKNOWN",
        ),
        (
            "iss in another case",
            claim(json!({"iss": ISSUER.to_uppercase()})),
            "TOKEN_ISSUER_UNKNOWN",
        ),
        ("iss is a list", claim(json!({"iss": [ISSUER]})), "TOKEN_CLAIM_INVALID"),
        ("no aud", es256(&without(good.clone(), "aud")), "TOKEN_CLAIM_MISSING"),
        ("another aud", claim(json!({"aud": "calendar"})), "TOKEN_AUDIENCE_WRONG"),
        ("aud only begins so", claim(json!({"aud": "partnerd-other"})), "TOKEN_AUDIENCE_WRONG"),
        ("other auds", claim(json!({"aud": ["calendar", "mail"]})), "TOKEN_AUDIENCE_WRONG"),
        ("empty auds", claim(json!({"aud": []})), "TOKEN_AUDIENCE_WRONG"),
        ("aud among others", claim(json!({"aud": ["calendar", "partnerd-test"]})), "accepted"),
        ("aud is an object", claim(json!({"aud": {"partnerd": 1}})), "TOKEN_CLAIM_INVALID"),
        ("a number among auds", claim(json!({"aud": ["partnerd", 1]})), "TOKEN_CLAIM_INVALID"),
        ("no exp", es256(&without(good.clone(), "exp")), "TOKEN_CLAIM_MISSING"),
        ("string exp", claim(json!({"exp": (NOW + 600).to_string()})), "TOKEN_CLAIM_INVALID"),
        ("null exp", claim(json!({"exp": null})), "TOKEN_CLAIM_INVALID"),
        ("exp beyond time", claim(json!({"exp": 1e300})), "TOKEN_CLAIM_INVALID"),
        ("fractional exp", claim(json!({"exp": NOW as f64 + 600.5})), "accepted"),
        ("expired", claim(json!({"exp": NOW - 600})), "TOKEN_EXPIRED"),
        ("expired just beyond the leeway", claim(json!({"exp": NOW - 30})), "TOKEN_EXPIRED"),
        ("expired within the leeway", claim(json!({"exp": NOW - 29})), "accepted"),
        ("not yet valid", claim(json!({"nbf": NOW + 31})), "TOKEN_NOT_YET_VALID"),
        ("valid within the leeway", claim(json!({"nbf": NOW + 30})), "accepted"),
        ("issued in the future", claim(json!({"iat": NOW + 31})), "TOKEN_NOT_YET_VALID"),
        ("string nbf", claim(json!({"nbf": "0"})), "TOKEN_CLAIM_INVALID"),
        ("string iat", claim(json!({"iat": "0"})), "TOKEN_CLAIM_INVALID"),
        ("no nbf, no iat", es256(&without(without(good.clone(), "nbf"), "iat")), "accepted"),
        ("no sub", es256(&without(good.clone(), "sub")), "TOKEN_CLAIM_MISSING"),
        ("empty sub", claim(json!({"sub": ""})), "TOKEN_CLAIM_INVALID"),
        ("sub is a number", claim(json!({"sub": 7})), "TOKEN_CLAIM_INVALID"),
        ("sub with a line break", claim(json!({"sub": "alice\nadmin"})), "TOKEN_CLAIM_INVALID"),
        ("sub of 257 characters", claim(json!({"sub": "ä".repeat(257)})), "TOKEN_CLAIM_INVALID"),
        ("sub of 256 characters", claim(json!({"sub": "ä".repeat(256)})), "accepted"),
        ("jti is a number", claim(json!({"jti": 7})), "TOKEN_CLAIM_INVALID"),
        ("roles is a number", claim(json!({"roles": 7})), "TOKEN_CLAIM_INVALID"),
        ("a number among roles", claim(json!({"roles": ["viewer", 7]})), "TOKEN_CLAIM_INVALID"),
        // The binding (RFC 7800, RFC 8705).
        ("cnf is a text", claim(json!({"cnf": "x"})), "TOKEN_CLAIM_INVALID"),
        ("cnf is null", claim(json!({"cnf": null})), "TOKEN_CLAIM_INVALID"),
        ("cnf is empty", claim(json!({"cnf": {}})), "TOKEN_BINDING_UNSUPPORTED"),
        ("bound by DPoP", claim(json!({"cnf": {"jkt": "x"}})), "TOKEN_BINDING_UNSUPPORTED"),
        (
            "bound to a certificate and more",
            claim(json!({"cnf": {"x5t#S256": encode([7; 32]), "jkt": "x"}})),
            "TOKEN_BINDING_UNSUPPORTED",
        ),
        (
            "bound to half a certificate",
            claim(json!({"cnf": {"x5t#S256": encode([7; 16])}})),
            "TOKEN_CLAIM_INVALID",
        ),
        (
            "bound to a certificate",
            claim(json!({"cnf": {"x5t#S256": encode([7; 32])}})),
            "TOKEN_BOUND_ELSEWHERE",
        ),
        ("no roles", es256(&without(good, "roles")), "accepted"),
    ];
    for (what, token, reason) in &table {
        assert_eq!(fixture.reason(token), *reason, "{what}");
    }
    let refused = table.iter().map(|(.., reason)| *reason).filter(|reason| *reason != "accepted");
    let mut shown = refused.collect::<BTreeSet<_>>();
    // What depends on more than the token has tests of its own.
    let at = Timestamp::UNIX_EPOCH;
    shown.extend(
        [
            TokenError::Revoked,
            TokenError::KeysUnavailable,
            TokenError::NotBound,
            TokenError::CertificateUnknown,
            TokenError::CertificateAmbiguous,
            TokenError::CertificateExpired { at },
        ]
        .map(|error| error.reason()),
    );
    assert_eq!(shown, documented_reasons());
}

#[test]
fn every_test_that_the_table_of_attacks_names_is_there() {
    let sources = [
        include_str!("tests.rs"),
        include_str!("../keys/url.rs"),
        include_str!("../../../tests/it/hostile.rs"),
        include_str!("../../../tests/it/issuers.rs"),
        include_str!("../../../tests/it/identities.rs"),
    ]
    .concat();
    let documentation = include_str!("../../../docs/authentication.md");
    let (_, attacks) = documentation.split_once("## Attacks on tokens").expect("the table");
    let mut named = 0;
    for row in attacks.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let test = row.trim_end_matches(" |").rsplit(" | ").next().expect("a last column");
        for (index, part) in test.split(['`', '"']).enumerate().filter(|(index, _)| index % 2 == 1)
        {
            let row_of_the_table = sources.contains(&format!("\"{part}"));
            let test = sources.contains(&format!("fn {part}()"));
            assert!(row_of_the_table || test, "{part} ({index}) in {row}");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn public_keys_that_protect_nothing_are_refused() {
    let modulus = || {
        let mut octets = [0xa5; 256];
        octets[255] = 1;
        encode(octets)
    };
    for (what, n, e) in [
        ("of 1,024 bits", encode([0xc1; 128]), "AQAB".to_owned()),
        ("of 2,047 bits", encode([[0x7f; 1], [0xff; 1]].concat().repeat(128)), "AQAB".to_owned()),
        (
            "of 2,048 bits, most of them zeros before it",
            encode([&[0; 192][..], &[0xc1; 64]].concat()),
            "AQAB".to_owned(),
        ),
        ("with the exponent 1", modulus(), encode([1])),
        ("with an even exponent", modulus(), encode([2])),
    ] {
        let key = json!([{"kty": "RSA", "n": n, "e": e}]);
        assert!(jwks_fixture(key, &["RS256"]).is_err(), "an RSA key {what}");
    }
}

/// The reasons that the table of refusals in the documentation has.
fn documented_reasons() -> BTreeSet<&'static str> {
    include_str!("../../../docs/authentication.md")
        .lines()
        .filter(|line| line.starts_with("| `TOKEN_") || line.starts_with("| `CERTIFICATE_"))
        .filter_map(|line| line.split('`').nth(1))
        .collect()
}

#[test]
fn a_token_changed_in_any_one_character_is_refused() {
    let fixture = Fixture::new();
    let good = es256(&good_claims());
    for index in 0..good.len() {
        let old = good.as_bytes()[index];
        for new in ['A', 'B', '.', '=', ' '] {
            if new as u8 == old {
                continue;
            }
            let mut changed = good.clone();
            changed.replace_range(index..=index, new.encode_utf8(&mut [0; 4]));
            assert_ne!(fixture.reason(&changed), "accepted", "{new} at {index}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(token in r"[A-Za-z0-9_.\-]{0,40}|\PC{0,40}") {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::new);
        prop_assert_ne!(FIXTURE.reason(&token), "accepted");
    }

    #[test]
    fn any_json_in_the_claims_is_answered_without_a_panic(
        name in "iss|aud|exp|nbf|iat|sub|jti|roles",
        value in prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            proptest::collection::vec(".{0,4}", 0..3).prop_map(Value::from),
            Just(Value::Null),
            Just(json!({"a": {"b": []}})),
        ],
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::new);
        let claims = with(good_claims(), json!({ name: value }));
        let _ = FIXTURE.reason(&es256(&claims));
    }
}

/// Signed by a stranger whose key, or where to find it, is in the header.
fn own_key_token(name: &str) -> String {
    let key = KEYS.stranger.public_key_raw();
    let (x, y) = key[1..].split_at(32);
    let value = match name {
        "jwk" => json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}),
        "x5c" => json!([encode(key)]),
        _ => json!("https://evil.example/keys"),
    };
    let header = with(json!({"alg": "ES256"}), json!({name: value}));
    token(&header, &good_claims(), by(&KEYS.stranger, Algorithm::ES256))
}

#[test]
fn a_refusal_never_repeats_what_the_token_says() {
    let fixture = Fixture::new();
    let marker = "x-marker-x";
    let bad = [
        es256(&with(good_claims(), json!({"iss": marker}))),
        es256(&with(good_claims(), json!({"aud": marker}))),
        es256(&with(good_claims(), json!({"exp": marker}))),
        es256(&with(good_claims(), json!({"sub": format!("{marker}\n")}))),
        es256_with_header(&json!({"alg": marker})),
        es256_with_header(&json!({"alg": "ES256", "kid": marker})),
        es256_with_header(&json!({"alg": "ES256", "typ": marker})),
        format!("{marker}.{marker}.{marker}"),
    ];
    for token in bad {
        let error = fixture.verify(&token).expect_err("a refusal");
        assert!(!format!("{error} {error:?}").contains(marker), "{error}");
    }
}

#[test]
fn typ_is_compared_as_a_media_type() {
    let fixture = Fixture::new();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt"] {
        assert_eq!(
            fixture.reason(&es256_with_header(&json!({"alg": "ES256", "typ": typ}))),
            "accepted",
            "{typ}"
        );
    }
    let strict = Fixture::with(|config| config.token_types = vec!["at+jwt".to_owned()]);
    assert_eq!(strict.reason(&es256_with_header(&json!({"alg": "ES256"}))), "TOKEN_TYPE_WRONG");
    assert_eq!(
        strict.reason(&es256_with_header(&json!({"alg": "ES256", "typ": "JWT"}))),
        "TOKEN_TYPE_WRONG"
    );
}

#[test]
fn roles_come_from_the_configured_claim_and_are_mapped() {
    let roles = |path: &[&str], claims: Value| {
        let fixture = Fixture::with(|config| {
            config.roles_claim = path.iter().map(|&key| key.to_owned()).collect::<Vec<_>>().into();
            config.role_mapping =
                [("CsAdministrator".to_owned(), "admin".to_owned())].into_iter().collect();
        });
        fixture.verify(&es256(&with(good_claims(), claims))).expect("a caller").roles.join(" ")
    };
    let nested = json!({"realm_access": {"roles": ["CsAdministrator", "viewer"]}});
    assert_eq!(roles(&["realm_access", "roles"], nested), "admin viewer");
    let dotted = json!({"https://example.com/roles": ["auditor"]});
    assert_eq!(roles(&["https://example.com/roles"], dotted), "auditor");
    assert_eq!(roles(&["scope"], json!({"scope": "viewer CsAdministrator"})), "admin viewer");
    assert_eq!(roles(&["realm_access", "roles"], json!({})), "");
}

#[test]
fn without_kid_a_token_is_refused_when_two_keys_fit() {
    let fixture = Fixture::with(|config| {
        let path = config.keys[1].key_file().expect("a file").with_file_name("second");
        fs::write(&path, KEYS.stranger.public_key_pem()).expect("a key file");
        config.keys.push(KeySource::PemFile { path, kid: None, algorithm: None });
    });
    assert_eq!(fixture.reason(&es256_with_header(&json!({"alg": "ES256"}))), "TOKEN_KEY_UNKNOWN");
    assert_eq!(fixture.reason(&es256(&good_claims())), "accepted");
}

#[test]
fn each_issuer_is_believed_with_its_own_keys_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = config(&folder);
    let two = IssuerConfig { issuer: "https://two.example".to_owned(), ..one.clone() };
    let one = IssuerConfig {
        keys: vec![one.keys[0].clone()],
        algorithms: vec!["RS256".to_owned()],
        ..one
    };
    let verifier = Verifier::new(vec![one, two], Options::default()).expect("a verifier");
    let now = Timestamp::from_second(NOW).expect("a time");
    let theirs = es256(&with(good_claims(), json!({"iss": "https://two.example"})));
    assert!(verifier.verify(&theirs, now).is_ok());
    assert_eq!(verifier.verify(&es256(&good_claims()), now), Err(TokenError::AlgorithmNotAllowed));
}

#[test]
fn a_rotated_key_is_seen_by_reload_and_a_broken_one_changes_nothing() {
    let fixture = Fixture::new();
    let file = fixture.folder.path().join("ec");
    let old = es256(&good_claims());
    let header = json!({"alg": "ES256", "kid": "ec"});
    let new = token(&header, &good_claims(), by(&KEYS.stranger, Algorithm::ES256));
    assert!(fixture.verifier.reload().changed.is_empty());

    fs::write(&file, "-----BEGIN PUBLIC KEY-----\n").expect("a broken file");
    let outcome = fixture.verifier.reload();
    assert_eq!((outcome.changed.len(), outcome.failed.len()), (0, 1));
    assert_eq!(fixture.reason(&old), "accepted");

    fs::write(&file, KEYS.stranger.public_key_pem()).expect("the new key");
    let outcome = fixture.verifier.reload();
    assert_eq!((outcome.changed, outcome.failed.len()), (vec![ISSUER.into()], 0));
    assert_eq!(fixture.reason(&old), "TOKEN_SIGNATURE_INVALID");
    assert_eq!(fixture.reason(&new), "accepted");
}

#[test]
fn what_is_revoked_is_refused_and_a_caller_who_was_believed_is_so_no_longer() {
    let fixture = Fixture::new();
    let token = es256(&good_claims());
    let now = Timestamp::from_second(NOW).expect("a time");
    let caller = fixture.verify(&token).expect("a caller");
    let (issuer, subject) = (Arc::clone(&caller.issuer), Arc::clone(&caller.subject));
    let revoke = |target: Option<Target>| {
        let revocation = |target| {
            Arc::new(Revocation {
                id: uuid::Uuid::from_u128(1),
                target,
                reason: "".into(),
                creator: "admin".into(),
                create_time: now,
                expire_time: None,
                revision: crate::domain::Revision::new(1),
            })
        };
        let all = target.into_iter().map(revocation).collect::<Revocations>();
        fixture.verifier.set_revocations(Arc::new(all));
    };
    for target in [
        Target::Token { issuer: issuer.clone(), token_id: "t-1".into() },
        Target::Subject { issuer: issuer.clone(), subject },
        Target::Key { issuer: issuer.clone(), key_id: "ec".into() },
    ] {
        let mut bell = fixture.verifier.changes();
        assert_eq!(fixture.verifier.still_valid(&caller, now), Ok(()));
        revoke(Some(target));
        assert_eq!(fixture.verify(&token), Err(TokenError::Revoked));
        assert_eq!(fixture.verifier.still_valid(&caller, now), Err(TokenError::Revoked));
        assert!(bell.has_changed().expect("the verifier lives"));
        bell.mark_unchanged();
        revoke(None);
        assert!(bell.has_changed().expect("the verifier lives"));
        assert_eq!(fixture.verify(&token), Ok(Arc::clone(&caller)));
    }
    revoke(Some(Target::Key { issuer, key_id: "rsa".into() }));
    assert_eq!(fixture.verify(&token), Ok(caller));
}

#[test]
fn a_caller_is_believed_until_the_leeway_is_over_or_his_key_is_gone() {
    let fixture = Fixture::new();
    let caller = fixture.verify(&es256(&good_claims())).expect("a caller");
    let valid = |second| {
        let now = Timestamp::from_second(second).expect("a time");
        fixture.verifier.still_valid(&caller, now).map_err(|error| error.reason())
    };
    assert_eq!(valid(NOW + 629), Ok(()));
    assert_eq!(valid(NOW + 630), Err("TOKEN_EXPIRED"));

    // Another key under the same id is another key.
    let mut bell = fixture.verifier.changes();
    fs::write(fixture.folder.path().join("ec"), KEYS.stranger.public_key_pem()).expect("a key");
    fixture.verifier.reload();
    assert!(bell.has_changed().expect("the verifier lives"));
    bell.mark_unchanged();
    assert_eq!(valid(NOW), Err("TOKEN_KEY_UNKNOWN"));
    fixture.verifier.reload();
    assert!(!bell.has_changed().expect("the verifier lives"));
}

#[test]
fn a_token_that_was_found_good_is_remembered_for_as_long_as_nothing_changes() {
    let fixture = Fixture::new();
    let token = es256(&good_claims());
    let time = |second| Timestamp::from_second(second).expect("a time");
    let recalled = |second| {
        let shown = Shown { token: Some(&token), certificate: None };
        fixture.verifier.recall(shown, time(second)).is_some()
    };
    let verify = || assert_eq!(fixture.reason(&token), "accepted");
    assert!(!recalled(NOW), "before it was seen");
    verify();
    assert!(recalled(NOW) && recalled(NOW + 629));
    assert!(!recalled(NOW + 630), "after its end");

    fixture.verifier.set_revocations(Arc::default());
    assert!(!recalled(NOW), "after a change of revocations");
    verify();
    assert!(recalled(NOW));

    fixture.verifier.reload();
    assert!(recalled(NOW), "the keys are the same");
    fs::write(fixture.folder.path().join("ed"), "no key").expect("a file");
    assert_eq!(fixture.verifier.reload().failed.len(), 1);
    assert!(recalled(NOW), "the keys stay as they were");
    fs::write(fixture.folder.path().join("ec"), KEYS.stranger.public_key_pem()).expect("a key");
    fs::write(fixture.folder.path().join("ed"), KEYS.ed.public_key_pem()).expect("a key");
    assert_eq!(fixture.verifier.reload().changed.len(), 1);
    assert!(!recalled(NOW), "after a change of keys");
    assert_eq!(fixture.reason(&token), "TOKEN_SIGNATURE_INVALID");
}

#[test]
fn what_is_refused_is_never_remembered_and_other_tokens_are_not_taken_for_one_that_is() {
    let fixture = Fixture::new();
    let recalled = |token: &str| {
        let shown = Shown { token: Some(token), certificate: None };
        fixture.verifier.recall(shown, Timestamp::from_second(NOW).expect("a time")).is_some()
    };
    let good = es256(&good_claims());
    assert_eq!(fixture.reason(&good), "accepted");
    let (head, signature) = good.rsplit_once('.').expect("three segments");
    for bad in [
        es256(&with(good_claims(), json!({"aud": "calendar"}))),
        format!("{head}."),
        format!("{head}.{signature}="),
        String::new(),
    ] {
        assert_ne!(fixture.reason(&bad), "accepted");
        assert!(!recalled(&bad));
    }
    assert!(recalled(&good));
}

#[test]
fn tokens_beyond_the_room_take_the_place_of_others_and_all_are_still_believed() {
    for cached_tokens in [0, 1, 100] {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options { cached_tokens, ..Options::default() };
        let verifier = Verifier::new(vec![config(&folder)], options).expect("a verifier");
        let now = Timestamp::from_second(NOW).expect("a time");
        let sign = by_secret(KEYS.secret);
        let header = json!({"alg": "HS256", "kid": "shared"});
        let tokens: Vec<_> = (0..1_000)
            .map(|number| {
                token(&header, &with(good_claims(), json!({"jti": number.to_string()})), &sign)
            })
            .collect();
        for token in &tokens {
            let caller = verifier.verify(token, now).expect("a caller");
            assert_eq!(verifier.verify(token, now).expect("a caller"), caller);
        }
        let recalled = tokens.iter().filter(|token| {
            let shown = Shown { token: Some(token), certificate: None };
            verifier.recall(shown, now).is_some()
        });
        assert_eq!(recalled.count(), usize::div_ceil(cached_tokens, 8) * 8);
    }
}

fn jwks_fixture(keys: Value, algorithms: &[&str]) -> Result<Verifier, AuthConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jwks.json");
    fs::write(&path, json!({ "keys": keys }).to_string()).expect("a key file");
    let config = IssuerConfig {
        algorithms: algorithms.iter().map(|&name| name.to_owned()).collect(),
        keys: vec![KeySource::JwksFile { path, algorithm: None }],
        ..config(&folder)
    };
    Verifier::new(vec![config], Options::default())
}

fn ec_jwk(key: &KeyPair) -> Value {
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
}

#[test]
fn a_jwk_set_gives_its_signature_keys_and_passes_over_the_rest() {
    let ec = with(ec_jwk(&KEYS.ec), json!({"kid": "ec", "use": "sig", "alg": "ES256"}));
    let keys = json!([
        ec,
        with(ec_jwk(&KEYS.stranger), json!({"kid": "enc", "use": "enc"})),
        with(ec_jwk(&KEYS.stranger), json!({"kid": "dh", "alg": "ECDH-ES"})),
        with(ec_jwk(&KEYS.stranger), json!({"kid": "sign", "key_ops": ["sign"]})),
        {"kty": "oct", "k": encode("0123456789abcdef0123456789abcdef"), "kid": "oct", "alg": "HS256"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "later"},
    ]);
    let verifier = jwks_fixture(keys, &["ES256"]).expect("a verifier");
    assert_eq!(verifier.key_ids(), [(ISSUER.into(), "ec".into())]);
    let now = Timestamp::from_second(NOW).expect("a time");
    assert!(verifier.verify(&es256(&good_claims()), now).is_ok());
}

#[test]
fn a_key_without_kid_goes_by_its_thumbprint() {
    // The key and its thumbprint are those of RFC 8037 appendix A.2 and A.3.
    let key = json!([{
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }]);
    let verifier = jwks_fixture(key, &["EdDSA"]).expect("a verifier");
    let id = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    assert_eq!(verifier.key_ids(), [(ISSUER.into(), id.into())]);
}

#[test]
fn an_unsound_jwk_set_is_refused_with_the_remedy() {
    let ec = || ec_jwk(&KEYS.ec);
    let short = json!({"kty": "RSA", "n": encode([0xc1; 128]), "e": "AQAB"});
    let table: Vec<(Value, &[&str], &str)> = vec![
        (json!([]), &["ES256"], "none of its keys is usable"),
        (json!([with(ec(), json!({"d": "AAAA"}))]), &["ES256"], "holds a private key"),
        (json!([with(ec(), json!({"x": encode([1; 32])}))]), &["ES256"], "not on its curve"),
        (json!([ec(), ec()]), &["ES256"], "is there twice"),
        (json!([ec()]), &["RS256"], "none of its keys is usable"),
        (json!([short]), &["RS256"], "has 1024 bits"),
        (json!([short]), &["RS256", "PS256"], "say which with `algorithm`"),
        (json!({}), &["ES256"], "not a JWK set"),
        (json!([with(ec(), json!({"kid": 5}))]), &["ES256"], "its key number 1 is malformed"),
        (json!([ec()]), &["ES256", "HS256"], "needs a key { secret_file"),
    ];
    for (keys, algorithms, expected) in table {
        let error = jwks_fixture(keys, algorithms).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains(ISSUER), "{error}");
    }
}

#[test]
fn an_incomplete_or_contradictory_configuration_is_refused_with_the_remedy() {
    type Adjust = fn(&mut IssuerConfig);
    let table: [(Adjust, &str); 16] = [
        (|config| config.issuer.clear(), "has no `issuer`"),
        (|config| config.audiences.clear(), "`audiences` is missing or empty; list"),
        (|config| config.audiences.push(String::new()), "`audiences` has an empty entry"),
        (|config| config.algorithms.clear(), "`algorithms` is missing or empty; list"),
        (
            |config| config.algorithms.push("none".to_owned()),
            "`none` is no accepted signature algorithm",
        ),
        (|config| config.keys.clear(), "`keys` is empty; add"),
        (|config| config.token_types.clear(), "`token_types` is missing or empty"),
        (|config| config.leeway = 301, "the most is 300"),
        (
            |config| config.roles_claim = vec!["a".to_owned(), String::new()].into(),
            "`roles_claim` has an empty part",
        ),
        (
            |config| drop(config.role_mapping.insert("x".to_owned(), String::new())),
            "`role_mapping` has an empty entry",
        ),
        (|config| config.keys[0] = pem_source("/nonexistent/key.pem"), "No such file or directory"),
        (
            |config| config.algorithms.retain(|name| name != "ES256"),
            "fits none of `algorithms`; it could be used with [ES256]",
        ),
        (|config| config.algorithms.push("PS256".to_owned()), "say which with `algorithm`"),
        (
            |config| config.keys.push(config.keys[0].clone()),
            "`rsa` is there twice; give every key its own `kid`",
        ),
        (|config| overwrite(config, &KEYS.rsa.serialize_pem()), "holds a private key"),
        (|config| overwrite(config, "not a key"), "does not hold exactly one public key"),
    ];
    for (adjust, expected) in table {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(&folder);
        adjust(&mut config);
        let error =
            Verifier::new(vec![config], Options::default()).expect_err(expected).to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

fn pem_source(path: &str) -> KeySource {
    KeySource::PemFile { path: PathBuf::from(path), kid: None, algorithm: None }
}

fn overwrite(config: &mut IssuerConfig, content: &str) {
    fs::write(config.keys[0].key_file().expect("a file"), content).expect("a key file");
}

#[test]
fn a_short_secret_is_refused_without_being_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder);
    fs::write(config.keys[3].key_file().expect("a file"), "hunter2").expect("a key file");
    let error = Verifier::new(vec![config], Options::default()).expect_err("too short").to_string();
    assert!(error.contains("has 7 octets") && !error.contains("hunter2"), "{error}");
}

#[test]
fn no_issuer_and_twice_the_same_issuer_are_refused() {
    let options = Options::default;
    let error = Verifier::new(Vec::new(), options()).expect_err("no issuer").to_string();
    assert!(error.contains("no issuer is configured"), "{error}");
    let folder = tempfile::tempdir().expect("a folder");
    let twice = vec![config(&folder), config(&folder)];
    let error = Verifier::new(twice, options()).expect_err("twice").to_string();
    assert!(error.contains("is configured twice"), "{error}");
}

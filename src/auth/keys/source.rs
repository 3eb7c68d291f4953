//! From files to keys: what is read, what is refused, and what a JWK set may hold beside.

use std::{fmt, fs::File, io::Read, path::Path};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse},
};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::{VerificationKey, fitting};
use crate::auth::issuer::{KeySource, parse_algorithm};

/// The largest key file that is read, in octets.
const MAX_KEY_FILE: u64 = 1 << 20;

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<Member>,
}

type Member = serde_json::Map<String, serde_json::Value>;

/// Reads the file of a source.
///
/// # Errors
/// If it cannot be read, with the reason.
pub(super) fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let describe = |problem: &dyn fmt::Display| {
        format!("key file {}: {problem}; give a readable key file", path.display())
    };
    let mut content = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE + 1).read_to_end(&mut content))
        .map_err(|error| describe(&error))?;
    match content.len() as u64 {
        0 => Err(describe(&"it is empty")),
        len if len > MAX_KEY_FILE => Err(describe(&"it is larger than 1 MiB")),
        _ => Ok(content),
    }
}

/// The keys in the file of a source.
///
/// # Errors
/// The first key that is unusable.
pub(super) fn load_file(
    source: &KeySource,
    content: &[u8],
    accepted: &[Algorithm],
) -> Result<Vec<VerificationKey>, String> {
    let stated = |name: &Option<String>| name.as_deref().map(parse_algorithm).transpose();
    match source {
        KeySource::PemFile { kid, algorithm, .. } => {
            let jwk = jwk_from_pem(content)?;
            VerificationKey::from_jwk(&jwk, kid.as_deref(), stated(algorithm)?, accepted)
                .map(|key| vec![key])
        }
        KeySource::JwksFile { algorithm, .. } => load_jwks(content, stated(algorithm)?, accepted),
        KeySource::SecretFile { kid, algorithm, .. } => {
            let algorithm = parse_algorithm(algorithm)?;
            VerificationKey::from_secret(content, kid.as_deref(), algorithm, accepted)
                .map(|key| vec![key])
        }
        KeySource::JwksUrl { .. } | KeySource::Discovery { .. } => Ok(Vec::new()),
    }
}

/// The usable keys of a JWK set in a file, where any key that is unusable is a mistake to be told.
fn load_jwks(
    content: &[u8],
    default: Option<Algorithm>,
    accepted: &[Algorithm],
) -> Result<Vec<VerificationKey>, String> {
    let mut keys = Vec::new();
    for (index, member) in members(content)?.into_iter().enumerate() {
        keys.extend(usable(member, index, default, accepted)?);
    }
    if keys.is_empty() {
        return Err(
            "none of its keys is usable; it needs a signature key for one of `algorithms`".into()
        );
    }
    Ok(keys)
}

/// What an issuer has published: the keys that are usable, and what is wrong with others.
#[derive(Debug)]
pub(super) struct Published {
    pub keys: Vec<VerificationKey>,
    pub problems: Vec<String>,
}

/// The usable keys of a JWK set that an issuer has published.
///
/// One bad key must not keep a good one from coming into force, nor a removed one in force: it is
/// left out, and told. A set without any usable key is an issuer that believes in none.
///
/// # Errors
/// If it is no JWK set at all.
pub(super) fn load_published(
    content: &[u8],
    default: Option<Algorithm>,
    accepted: &[Algorithm],
) -> Result<Published, String> {
    let (mut keys, mut problems) = (Vec::<VerificationKey>::new(), Vec::new());
    for (index, member) in members(content)?.into_iter().enumerate() {
        match usable(member, index, default, accepted) {
            Ok(key) => keys.extend(key),
            Err(problem) => problems.push(problem),
        }
    }
    let mut one_of_each = Vec::new();
    for key in keys {
        match one_of_each.iter().position(|other: &VerificationKey| other.id == key.id) {
            None => one_of_each.push(key),
            Some(place) if one_of_each[place].fingerprint == key.fingerprint => {}
            Some(_) => problems.push(format!(
                "it holds different keys with the same id `{}`, of which the first is taken",
                key.id.escape_debug()
            )),
        }
    }
    Ok(Published { keys: one_of_each, problems })
}

fn members(content: &[u8]) -> Result<Vec<Member>, String> {
    let document: KeySetDocument = serde_json::from_slice(content).map_err(|_| {
        "it is not a JWK set, { \"keys\": [ ... ] } (RFC 7517 section 5)".to_owned()
    })?;
    Ok(document.keys)
}

/// The key that a member of a set holds. `None` if it is not for verifying signatures, of a type
/// unknown here, or for an algorithm that is not accepted: it is passed over (RFC 7517 section 5).
fn usable(
    member: Member,
    index: usize,
    default: Option<Algorithm>,
    accepted: &[Algorithm],
) -> Result<Option<VerificationKey>, String> {
    if member.contains_key("d") {
        return Err(
            "it holds a private key; publish the public part only, and replace the key".into()
        );
    }
    let jwk = serde_json::from_value::<Jwk>(member.into())
        .map_err(|_| format!("its key number {} is malformed; correct it", index + 1))?;
    if !verifies_signatures(&jwk) {
        return Ok(None);
    }
    let fits = fitting(&jwk.algorithm);
    let stated = match jwk.common.key_algorithm.map(Algorithm::try_from) {
        Some(Ok(algorithm)) if accepted.contains(&algorithm) => Some(algorithm),
        Some(_) => return Ok(None),
        None => default.filter(|algorithm| fits.contains(algorithm)),
    };
    if stated.is_none() && !fits.iter().any(|algorithm| accepted.contains(algorithm)) {
        return Ok(None);
    }
    VerificationKey::from_jwk(&jwk, jwk.common.key_id.as_deref(), stated, accepted).map(Some)
}

fn verifies_signatures(jwk: &Jwk) -> bool {
    let for_signatures =
        jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let may_verify = jwk
        .common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let public =
        !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_));
    for_signatures && may_verify && public
}

fn jwk_from_pem(content: &[u8]) -> Result<Jwk, String> {
    const REMEDY: &str = "give one public key in PEM (`BEGIN PUBLIC KEY`)";
    let text = std::str::from_utf8(content).map_err(|_| format!("it is not PEM; {REMEDY}"))?;
    if text.contains("PRIVATE KEY-----") {
        return Err(format!("it holds a private key, which belongs to the issuer alone; {REMEDY}"));
    }
    let one_key = text.matches("-----BEGIN ").count() == 1
        && (text.contains("-----BEGIN PUBLIC KEY-----")
            || text.contains("-----BEGIN RSA PUBLIC KEY-----"));
    if !one_key {
        return Err(format!("it does not hold exactly one public key; {REMEDY}"));
    }
    DecodingKey::from_rsa_pem(content)
        .or_else(|_| DecodingKey::from_ec_pem(content))
        .or_else(|_| DecodingKey::from_ed_pem(content))
        .and_then(|key| Jwk::from_decoding_key(&key, None))
        .map_err(|_| format!("it holds no RSA, P-256, P-384 or Ed25519 key; {REMEDY}"))
}

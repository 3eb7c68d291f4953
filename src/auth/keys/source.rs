//! From files to keys: what is read, what is refused, and what a JWK set may hold beside.

use std::{fmt, fs::File, io::Read, path::Path};

use aws_lc_rs::digest;
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

/// A source's files as they were read: what tells whether anything has changed.
pub(in crate::auth) struct KeyFiles(pub(super) Vec<Zeroizing<Vec<u8>>>);

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<serde_json::Map<String, serde_json::Value>>,
}

impl KeyFiles {
    /// Reads the file of every source.
    ///
    /// # Errors
    /// The first file that cannot be read, with the reason.
    pub(in crate::auth) fn read(sources: &[KeySource]) -> Result<Self, String> {
        sources
            .iter()
            .map(|source| read_key_file(source.path()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Differs whenever the contents differ.
    pub(in crate::auth) fn fingerprint(&self) -> digest::Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        for file in &self.0 {
            context.update(&(file.len() as u64).to_be_bytes());
            context.update(file);
        }
        context.finish()
    }
}

fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
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

/// The keys of one source.
pub(super) fn load_source(
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
    }
}

/// The usable keys of a JWK set. Keys that are not for verifying signatures, of a type unknown
/// here, or for an algorithm that is not accepted are passed over (RFC 7517 section 5).
fn load_jwks(
    content: &[u8],
    default: Option<Algorithm>,
    accepted: &[Algorithm],
) -> Result<Vec<VerificationKey>, String> {
    let document: KeySetDocument = serde_json::from_slice(content).map_err(|_| {
        "it is not a JWK set, { \"keys\": [ ... ] } (RFC 7517 section 5)".to_owned()
    })?;
    let mut keys = Vec::new();
    for (index, member) in document.keys.into_iter().enumerate() {
        if member.contains_key("d") {
            return Err(
                "it holds a private key; publish the public part only, and replace the key".into(),
            );
        }
        let jwk = serde_json::from_value::<Jwk>(member.into())
            .map_err(|_| format!("its key number {} is malformed; correct it", index + 1))?;
        if !verifies_signatures(&jwk) {
            continue;
        }
        let fits = fitting(&jwk.algorithm);
        let stated = match jwk.common.key_algorithm.map(Algorithm::try_from) {
            Some(Ok(algorithm)) if accepted.contains(&algorithm) => Some(algorithm),
            Some(_) => continue,
            None => default.filter(|algorithm| fits.contains(algorithm)),
        };
        if stated.is_none() && !fits.iter().any(|algorithm| accepted.contains(algorithm)) {
            continue;
        }
        keys.push(VerificationKey::from_jwk(&jwk, jwk.common.key_id.as_deref(), stated, accepted)?);
    }
    if keys.is_empty() {
        return Err(
            "none of its keys is usable; it needs a signature key for one of `algorithms`".into()
        );
    }
    Ok(keys)
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

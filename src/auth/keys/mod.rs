//! The keys that verify tokens: read from their sources, each tied to one algorithm.
//!
//! A key never learns its algorithm from a token. It is fixed when the key is loaded, and a token
//! whose header says otherwise is refused (RFC 8725 section 3.1): an RSA key's text can therefore
//! not be used as the secret of an HS256 token.
//!
//! PEM and JWKS keys go the same way: both become a `Jwk`, and one function makes a
//! `VerificationKey` of it.

mod fetch;
mod online;
mod ring;
mod source;
mod url;

use std::{fmt, sync::Arc};

use aws_lc_rs::{digest, hmac, signature as lc};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash},
};

pub use self::fetch::FetchLimits;
pub(super) use self::{
    online::{Endpoint, Online, Wait},
    ring::KeyRing,
};

/// The least RSA modulus, in bits (RFC 7518 section 3.3).
const MIN_RSA_BITS: usize = 2048;

/// The keys of one issuer at one time. No two have the same id.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
    missing: bool,
}

/// A key and the one algorithm it is for.
pub(super) struct VerificationKey {
    id: Arc<str>,
    algorithm: Algorithm,
    fingerprint: [u8; 32],
    material: Material,
}

/// Why no key of a set fits a token's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// No key has the id, or there is no id and not exactly one key has the algorithm.
    Unknown,
    /// The key with this id is for another algorithm.
    OtherAlgorithm,
}

enum Material {
    Public(lc::ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl KeySet {
    /// The key for a token with this `kid` and `alg`.
    ///
    /// # Errors
    /// See [`NoKey`].
    pub(super) fn select(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Arc<VerificationKey>, NoKey> {
        let Some(kid) = kid else {
            let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                _ => Err(NoKey::Unknown),
            };
        };
        match self.keys.iter().find(|key| &*key.id == kid) {
            None => Err(NoKey::Unknown),
            Some(key) if key.algorithm != algorithm => Err(NoKey::OtherAlgorithm),
            Some(key) => Ok(key),
        }
    }

    /// Whether the key with this id is there and has this fingerprint.
    pub(super) fn holds(&self, id: &str, fingerprint: &[u8; 32]) -> bool {
        self.keys.iter().any(|key| &*key.id == id && key.fingerprint == *fingerprint)
    }

    /// Whether a source has not been reached yet, so that a key may be missing.
    pub(super) const fn is_missing_some(&self) -> bool {
        self.missing
    }

    /// How many keys there are.
    pub(super) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has the same keys as another, and lacks as much.
    fn is_same(&self, other: &Self) -> bool {
        let same = |(one, two): (&Arc<VerificationKey>, &Arc<VerificationKey>)| {
            one.id == two.id && one.fingerprint == two.fingerprint
        };
        self.missing == other.missing
            && self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&other.keys).all(same)
    }

    /// The ids of its keys.
    #[cfg(test)]
    pub(super) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.keys.iter().map(|key| &key.id)
    }
}

impl VerificationKey {
    /// The key's id, unique in its set.
    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// A SHA-256 of the key and its algorithm.
    pub(super) const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Whether `signature` is this key's over `message`, by this key's algorithm.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }

    fn from_jwk(
        jwk: &Jwk,
        kid: Option<&str>,
        stated: Option<Algorithm>,
        accepted: &[Algorithm],
    ) -> Result<Self, String> {
        let algorithm = bind(fitting(&jwk.algorithm), stated, accepted)?;
        let thumbprint = thumbprint(jwk)?;
        let fingerprint = fingerprint(algorithm, thumbprint.as_bytes());
        let id = kid.map_or(thumbprint, str::to_owned).into();
        let material = Material::Public(public_material(&jwk.algorithm, algorithm)?);
        Ok(Self { id, algorithm, fingerprint, material })
    }

    fn from_secret(
        content: &[u8],
        kid: Option<&str>,
        algorithm: Algorithm,
        accepted: &[Algorithm],
    ) -> Result<Self, String> {
        let hs = AlgorithmFamily::Hmac.algorithms();
        let algorithm = bind(hs, Some(algorithm), accepted)?;
        let secret = content.strip_suffix(b"\n").unwrap_or(content);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        let hash = match algorithm {
            Algorithm::HS256 => hmac::HMAC_SHA256,
            Algorithm::HS384 => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA512,
        };
        let least = hash.digest_algorithm().output_len;
        if secret.len() < least {
            return Err(format!(
                "the secret has {} octets; {algorithm:?} needs at least {least} (RFC 7518 section 3.2)",
                secret.len()
            ));
        }
        let fingerprint = fingerprint(algorithm, secret);
        let material = Material::Secret(Box::new(hmac::Key::new(hash, secret)));
        Ok(Self { id: kid.unwrap_or("secret").into(), algorithm, fingerprint, material })
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The algorithms a key of this kind could be for; none if the kind is not supported.
fn fitting(parameters: &AlgorithmParameters) -> &'static [Algorithm] {
    match parameters {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            &[Algorithm::ES256]
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
            &[Algorithm::ES384]
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            &[Algorithm::EdDSA]
        }
        _ => &[],
    }
}

/// Ties a key to one algorithm: the one stated for it, or the only accepted one that fits.
fn bind(
    fits: &[Algorithm],
    stated: Option<Algorithm>,
    accepted: &[Algorithm],
) -> Result<Algorithm, String> {
    let mut candidates = fits.iter().filter(|algorithm| accepted.contains(algorithm));
    match (stated, candidates.next(), candidates.next()) {
        (Some(stated), ..) if !fits.contains(&stated) => {
            Err(format!("its key cannot be used with {stated:?}; correct `algorithm`"))
        }
        (Some(stated), ..) if !accepted.contains(&stated) => Err(format!(
            "its key is for {stated:?}, which `algorithms` does not list; add it there"
        )),
        (Some(stated), ..) => Ok(stated),
        (None, Some(only), None) => Ok(*only),
        (None, None, _) => Err(format!(
            "its key fits none of `algorithms`; it could be used with {fits:?}: list one of them"
        )),
        (None, Some(_), Some(_)) => {
            Err("its key fits several of `algorithms`; say which with `algorithm`".into())
        }
    }
}

fn thumbprint(jwk: &Jwk) -> Result<String, String> {
    jwk.thumbprint(ThumbprintHash::SHA256)
        .map_err(|_| "its key has no thumbprint; state a `kid`".into())
}

fn fingerprint(algorithm: Algorithm, key: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(format!("{algorithm:?}:").as_bytes());
    context.update(key);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

fn public_material(
    parameters: &AlgorithmParameters,
    algorithm: Algorithm,
) -> Result<lc::ParsedPublicKey, String> {
    const MALFORMED: &str = "it holds a key that is malformed or not on its curve";
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| MALFORMED.to_owned());
    let parsed = match parameters {
        AlgorithmParameters::RSA(key) => {
            let components = lc::RsaPublicKeyComponents { n: bytes(&key.n)?, e: bytes(&key.e)? };
            check_rsa(&components.n, &components.e)?;
            components.to_parsed_public_key(rsa_parameters(algorithm))
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let point = [&[4], bytes(&key.x)?.as_slice(), bytes(&key.y)?.as_slice()].concat();
            let curve = match algorithm {
                Algorithm::ES384 => &lc::ECDSA_P384_SHA384_FIXED,
                _ => &lc::ECDSA_P256_SHA256_FIXED,
            };
            lc::ParsedPublicKey::new(curve, point)
        }
        AlgorithmParameters::OctetKeyPair(key) => {
            lc::ParsedPublicKey::new(&lc::ED25519, bytes(&key.x)?)
        }
        _ => return Err(MALFORMED.into()),
    };
    parsed.map_err(|_| MALFORMED.into())
}

fn rsa_parameters(algorithm: Algorithm) -> &'static lc::RsaParameters {
    match algorithm {
        Algorithm::RS384 => &lc::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &lc::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &lc::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &lc::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &lc::RSA_PSS_2048_8192_SHA512,
        _ => &lc::RSA_PKCS1_2048_8192_SHA256,
    }
}

/// A key of the size that RFC 7518 section 3.3 asks for, with an exponent that is one: with 1,
/// anybody can sign.
fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), String> {
    let significant = |octets: &[u8]| -> Vec<u8> {
        octets.iter().copied().skip_while(|octet| *octet == 0).collect()
    };
    let modulus = significant(modulus);
    let bits = match modulus.first() {
        Some(first) => modulus.len() * 8 - first.leading_zeros() as usize,
        None => 0,
    };
    if bits < MIN_RSA_BITS {
        return Err(format!(
            "its RSA key has {bits} bits; make one of at least {MIN_RSA_BITS} (RFC 7518 section 3.3)"
        ));
    }
    match significant(exponent)[..] {
        [] | [1] => Err("its RSA key has an exponent below 3; make another".into()),
        [.., last] if last % 2 == 0 => Err("its RSA key has an even exponent; make another".into()),
        _ => Ok(()),
    }
}

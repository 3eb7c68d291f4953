//! JWT bytes to a verified caller (RFC 7519, hardened as RFC 8725 and RFC 9068 say).
//!
//! The order of the checks is cheap before dear, and nothing of the payload but `iss` is used
//! before the signature holds:
//!
//! 1. size, three segments, base64url, JSON;
//! 2. the header: no critical extensions, `typ`, and `alg` among those of the issuer that `iss`
//!    names. Headers that bring a key along (`jwk`, `jku`, `x5c`, `x5u`) are never followed;
//! 3. the key: by `kid`, tied to its algorithm when it was loaded;
//! 4. the signature;
//! 5. `exp`, `nbf`, `iat`, `aud`, `sub`, `jti`, the roles.
//!
//! [`Verifier::verify`] is the only way from a token to a [`Caller`]. A cache of verified tokens
//! belongs in front of it, keyed by a hash of the token, and must drop what [`Verifier::reload`]
//! changes.

mod claims;
mod error;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, str::FromStr, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use tokio::sync::watch;

use self::claims::Claims;
pub use self::error::TokenError;
use super::{
    Caller,
    issuer::{AuthConfigError, IssuerConfig, IssuerRules, media_type},
    keys::{KeyFiles, KeySet, NoKey, VerificationKey},
};
use crate::domain::revocation::Revocations;

/// What a token may cost before it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    /// The largest token that is looked at, in octets. 8 KiB unless configured.
    pub max_token_bytes: usize,
}

/// Turns tokens into callers. Cheap to share; keys are swapped under it while it works.
#[derive(Debug)]
pub struct Verifier {
    issuers: HashMap<Arc<str>, Issuer>,
    limits: TokenLimits,
    revocations: ArcSwap<Revocations>,
    bell: watch::Sender<u64>,
}

/// What a [`Verifier::reload`] did.
#[derive(Debug, Default)]
pub struct KeyReload {
    /// The issuers whose keys are new now.
    pub changed: Vec<Arc<str>>,
    /// What could not be loaded. These issuers keep the keys they had.
    pub failed: Vec<AuthConfigError>,
}

#[derive(Debug)]
struct Issuer {
    name: Arc<str>,
    config: IssuerConfig,
    rules: IssuerRules,
    keys: ArcSwap<KeySet>,
}

/// A token taken apart, believed in nothing yet.
struct Unverified<'a> {
    header: Claims,
    payload: Claims,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl Verifier {
    /// Checks the configuration and loads every key.
    ///
    /// # Errors
    /// The first thing that is missing, contradictory or unreadable. There is no verifier without an
    /// issuer, and no issuer without audience, algorithm and key.
    pub fn new(issuers: Vec<IssuerConfig>, limits: TokenLimits) -> Result<Self, AuthConfigError> {
        if issuers.is_empty() {
            return Err(AuthConfigError::new(
                "no issuer is configured; add one with `issuer`, `audiences`, `algorithms` and `keys`",
            ));
        }
        if limits.max_token_bytes == 0 {
            return Err(AuthConfigError::new(
                "`max_token_bytes` is 0, which no token fits; leave it out for 8192",
            ));
        }
        let mut known = HashMap::new();
        for config in issuers {
            let issuer = Issuer::load(config)?;
            if let Some(other) = known.insert(Arc::clone(&issuer.name), issuer) {
                return Err(other.config.error(
                    "it is configured twice; put all its `keys` and `audiences` into one entry",
                ));
            }
        }
        let (revocations, bell) = (ArcSwap::default(), watch::Sender::new(0));
        Ok(Self { issuers: known, limits, revocations, bell })
    }

    /// Says who the bearer of `token` is at the time `now`.
    ///
    /// # Errors
    /// Why the token is not believed; nothing of it may be used then.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, TokenError> {
        let token = Unverified::parse(token, self.limits.max_token_bytes)?;
        let issuer = match token.payload.text("iss")? {
            None => return Err(TokenError::ClaimMissing("iss")),
            Some(name) => self.issuers.get(name).ok_or(TokenError::IssuerUnknown)?,
        };
        let keys = issuer.keys.load();
        let key = issuer.select_key(&token.header, &keys)?;
        if !key.verifies(token.signed, &token.signature) {
            return Err(TokenError::SignatureInvalid);
        }
        let caller = issuer.caller(&token.payload, key, now)?;
        self.not_revoked(&caller, now)?;
        Ok(Arc::new(caller))
    }

    /// Whether a caller who was believed still is: his token has not expired, his issuer still has
    /// the key that signed it, and nothing of it has been revoked. For streams that outlive the
    /// request that began them.
    ///
    /// # Errors
    /// Why he is no longer believed.
    pub fn still_valid(&self, caller: &Caller, now: Timestamp) -> Result<(), TokenError> {
        if now >= caller.good_until {
            return Err(TokenError::Expired { at: caller.expire_time });
        }
        let issuer = self.issuers.get(&caller.issuer).ok_or(TokenError::IssuerUnknown)?;
        if !issuer.keys.load().holds(&caller.key_id, &caller.key_fingerprint) {
            return Err(TokenError::KeyUnknown);
        }
        self.not_revoked(caller, now)
    }

    /// Puts these revocations into force at once, in place of those before.
    pub fn set_revocations(&self, revocations: Arc<Revocations>) {
        self.revocations.store(revocations);
        self.ring();
    }

    /// A bell that rings after keys or revocations have changed. Its number says nothing else.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Reads every key file again and puts what has changed into force at once. An issuer whose
    /// keys cannot be loaded keeps those it had.
    ///
    /// Reads files: keep it off the threads that serve.
    pub fn reload(&self) -> KeyReload {
        let mut outcome = KeyReload::default();
        for issuer in self.issuers.values() {
            match issuer.reload() {
                Ok(true) => outcome.changed.push(Arc::clone(&issuer.name)),
                Ok(false) => {}
                Err(error) => outcome.failed.push(error),
            }
        }
        if !outcome.changed.is_empty() {
            self.ring();
        }
        outcome
    }

    fn not_revoked(&self, caller: &Caller, now: Timestamp) -> Result<(), TokenError> {
        match self.revocations.load().find(caller.credential(), now) {
            Some(_) => Err(TokenError::Revoked),
            None => Ok(()),
        }
    }

    fn ring(&self) {
        self.bell.send_modify(|rung| *rung += 1);
    }

    /// Every key in force, as issuer and key id.
    #[cfg(test)]
    fn key_ids(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let of = |issuer: &Issuer| {
            let name = &issuer.name;
            issuer
                .keys
                .load()
                .ids()
                .map(|id| (Arc::clone(name), Arc::clone(id)))
                .collect::<Vec<_>>()
        };
        let mut ids: Vec<_> = self.issuers.values().flat_map(of).collect();
        ids.sort();
        ids
    }
}

impl Issuer {
    fn load(config: IssuerConfig) -> Result<Self, AuthConfigError> {
        if config.issuer.is_empty() {
            return Err(AuthConfigError::new(
                "an issuer has no `issuer`; set it to the `iss` of its tokens, letter by letter",
            ));
        }
        let rules = config.rules()?;
        let keys = KeyFiles::read(&config.keys)
            .and_then(|files| KeySet::load(&config.keys, &files, &rules.algorithms))
            .map_err(|problem| config.error(problem))?;
        let name = config.issuer.as_str().into();
        Ok(Self { name, config, rules, keys: ArcSwap::from_pointee(keys) })
    }

    fn reload(&self) -> Result<bool, AuthConfigError> {
        let sources = &self.config.keys;
        let files = KeyFiles::read(sources).map_err(|problem| self.config.error(problem))?;
        if self.keys.load().is_from(&files.fingerprint()) {
            return Ok(false);
        }
        let keys = KeySet::load(sources, &files, &self.rules.algorithms)
            .map_err(|problem| self.config.error(problem))?;
        self.keys.store(Arc::new(keys));
        Ok(true)
    }

    fn select_key<'k>(
        &self,
        header: &Claims,
        keys: &'k KeySet,
    ) -> Result<&'k VerificationKey, TokenError> {
        let algorithm =
            header.text("alg")?.ok_or(TokenError::Malformed("its header has no `alg`")).and_then(
                |name| Algorithm::from_str(name).map_err(|_| TokenError::AlgorithmNotAllowed),
            )?;
        if !self.rules.algorithms.contains(&algorithm) {
            return Err(TokenError::AlgorithmNotAllowed);
        }
        let typ = media_type(header.text("typ")?.unwrap_or_default());
        if !self.rules.token_types.contains(&typ) {
            return Err(TokenError::TypeWrong);
        }
        keys.select(header.identifier("kid")?, algorithm).map_err(|problem| match problem {
            NoKey::Unknown => TokenError::KeyUnknown,
            NoKey::OtherAlgorithm => TokenError::AlgorithmNotAllowed,
        })
    }

    /// The caller that a payload with a valid signature speaks of.
    fn caller(
        &self,
        payload: &Claims,
        key: &VerificationKey,
        now: Timestamp,
    ) -> Result<Caller, TokenError> {
        let expire_time = self.check_times(payload, now)?;
        if !payload.audience_is_among(&self.rules.audiences)? {
            return Err(TokenError::AudienceWrong);
        }
        Ok(Caller {
            subject: payload.identifier("sub")?.ok_or(TokenError::ClaimMissing("sub"))?.into(),
            issuer: Arc::clone(&self.name),
            roles: self.roles(payload)?,
            expire_time,
            good_until: expire_time.saturating_add(self.rules.leeway).unwrap_or(Timestamp::MAX),
            token_id: payload.identifier("jti")?.map(Into::into),
            key_id: Arc::clone(key.id()),
            key_fingerprint: *key.fingerprint(),
        })
    }

    fn check_times(&self, payload: &Claims, now: Timestamp) -> Result<Timestamp, TokenError> {
        let expire_time = payload.time("exp")?.ok_or(TokenError::ClaimMissing("exp"))?;
        let leeway = self.rules.leeway;
        let earliest = now.saturating_sub(leeway).unwrap_or(Timestamp::MIN);
        let latest = now.saturating_add(leeway).unwrap_or(Timestamp::MAX);
        if expire_time <= earliest {
            return Err(TokenError::Expired { at: expire_time });
        }
        for name in ["nbf", "iat"] {
            match payload.time(name)? {
                Some(at) if at > latest => return Err(TokenError::NotYetValid { at }),
                _ => {}
            }
        }
        Ok(expire_time)
    }

    fn roles(&self, payload: &Claims) -> Result<Vec<String>, TokenError> {
        let mapping = &self.rules.role_mapping;
        let mut roles: Vec<String> = payload
            .roles(self.rules.roles_claim.keys())?
            .into_iter()
            .map(|value| mapping.get(value).cloned().unwrap_or_else(|| value.to_owned()))
            .collect();
        roles.sort();
        roles.dedup();
        Ok(roles)
    }
}

impl<'a> Unverified<'a> {
    fn parse(token: &'a str, limit: usize) -> Result<Self, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > limit {
            return Err(TokenError::TooLarge { limit });
        }
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(TokenError::Malformed(match token.matches('.').count() {
                4 => "it is encrypted (JWE)",
                _ => "it does not have three segments",
            }));
        };
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header = decode_object(header, "its header is not a JSON object in base64url")?;
        for extension in ["crit", "b64"] {
            if header.has(extension) {
                return Err(TokenError::HeaderUnsupported(extension));
            }
        }
        Ok(Self {
            header,
            payload: decode_object(payload, "its payload is not a JSON object in base64url")?,
            signed,
            signature: decode(signature, "its signature is not base64url")?,
        })
    }
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self { max_token_bytes: 8 * 1024 }
    }
}

fn decode_object(segment: &str, problem: &'static str) -> Result<Claims, TokenError> {
    Claims::parse(&decode(segment, problem)?, TokenError::Malformed(problem))
}

fn decode(segment: &str, problem: &'static str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed(problem))
}

//! From what a client shows to a verified caller (RFC 7519, hardened as RFC 8725 and RFC 9068 say).
//!
//! The order of the checks of a token is cheap before dear, and nothing of the payload but `iss`
//! is used before the signature holds:
//!
//! 1. size, three segments, base64url, JSON;
//! 2. the header: no critical extensions, `typ`, and `alg` among those of the issuer that `iss`
//!    names. Headers that bring a key along (`jwk`, `jku`, `x5c`, `x5u`) are never followed;
//! 3. the key: by `kid`, tied to its algorithm when it was loaded;
//! 4. the signature;
//! 5. `exp`, `nbf`, `iat`, `aud`, `cnf`, `sub`, `jti`, the roles; then the revocations, and the
//!    certificate that it is bound to.
//!
//! [`Verifier::identify`] is the only way from a token or a certificate to a [`Caller`], and
//! [`Verifier::recall`] remembers what it found. Neither waits for anything: keys are fetched by
//! tasks of their own, [`Verifier::keepers`].

mod believed;
mod cache;
mod claims;
mod error;
#[cfg(test)]
mod tests;
mod unverified;

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::watch;

pub use self::error::TokenError;
use self::{
    believed::{Believed, Issuer},
    cache::{TokenCache, TokenHash, Verified},
    unverified::Unverified,
};
use super::{
    Caller,
    certificate::{CertificateConfig, CertificateRules, ClientCertificate, Thumbprint},
    incident::Identity,
    issuer::{AuthConfigError, IssuerConfig},
    keys::{FetchLimits, Wait},
};
use crate::domain::revocation::Revocations;

/// What a verifier is told beside the issuers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The largest token that is looked at, in octets. 8 KiB unless configured.
    pub max_token_bytes: usize,
    /// How many verified tokens are remembered; 10,000 unless configured. With 0, none.
    pub cached_tokens: usize,
    /// What fetching keys may cost.
    pub fetch: FetchLimits,
    /// Whom client certificates stand for.
    pub certificates: CertificateConfig,
}

/// Turns what clients show into callers. Cheap to share; keys are swapped under it while it works.
#[derive(Debug)]
pub struct Verifier {
    issuers: HashMap<Arc<str>, Arc<Issuer>>,
    certificates: CertificateRules,
    max_token_bytes: usize,
    revocations: ArcSwap<Revocations>,
    cache: TokenCache,
    bell: watch::Sender<u64>,
}

/// What a client shows to be known by.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The token of the request.
    pub token: Option<&'a str>,
    /// The certificate of the connection.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Why a client is not known, and what he says he is.
pub struct Refusal {
    /// Why.
    pub error: TokenError,
    /// Who he is, or says he is.
    pub identity: Identity,
    /// The issuer of which another key might help.
    issuer: Option<Arc<Issuer>>,
}

/// What a [`Verifier::reload`] did.
#[derive(Debug, Default)]
pub struct KeyReload {
    /// The issuers whose keys are new now.
    pub changed: Vec<Arc<str>>,
    /// What could not be loaded. These issuers keep the keys they had.
    pub failed: Vec<AuthConfigError>,
}

impl Verifier {
    /// Checks the configuration and loads every key that is in a file.
    ///
    /// # Errors
    /// The first thing that is missing, contradictory or unreadable. There is no verifier without an
    /// issuer, and no issuer without audience, algorithm and key.
    pub fn new(issuers: Vec<IssuerConfig>, options: Options) -> Result<Self, AuthConfigError> {
        let Options { max_token_bytes, cached_tokens, fetch, certificates } = options;
        if issuers.is_empty() {
            return Err(AuthConfigError::new(
                "no issuer is configured; add one with `issuer`, `audiences`, `algorithms` and `keys`",
            ));
        }
        if max_token_bytes == 0 {
            return Err(AuthConfigError::new(
                "`max_token_bytes` is 0, which no token fits; leave it out for 8192",
            ));
        }
        let certificates = certificates.rules()?;
        let mut known = HashMap::new();
        for config in issuers {
            let issuer = Arc::new(Issuer::load(config, &fetch)?);
            if issuer.name == *certificates.issuer() {
                return Err(issuer.error(
                    "callers by certificate have the same issuer; give them another in \
                     `auth.certificates.issuer`",
                ));
            }
            if let Some(other) = known.insert(Arc::clone(&issuer.name), issuer) {
                return Err(other.error(
                    "it is configured twice; put all its `keys` and `audiences` into one entry",
                ));
            }
        }
        Ok(Self {
            issuers: known,
            certificates,
            max_token_bytes,
            revocations: ArcSwap::default(),
            cache: TokenCache::new(cached_tokens),
            bell: watch::Sender::new(0),
        })
    }

    /// Says who the bearer of `token` is at the time `now`, if he shows no certificate.
    ///
    /// # Errors
    /// Why the token is not believed; nothing of it may be used then.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, TokenError> {
        let shown = Shown { token: Some(token), certificate: None };
        match self.recall(shown, now) {
            Some(caller) => Ok(caller),
            None => self.identify(shown, now).map_err(|refusal| refusal.error),
        }
    }

    /// Who shows this, if the token was found good before and nothing has changed since.
    pub fn recall(&self, shown: Shown<'_>, now: Timestamp) -> Option<Arc<Caller>> {
        let token = shown.token.filter(|token| token.len() <= self.max_token_bytes)?;
        let verified = self.cache.get(TokenHash::of(token), &self.revocations.load(), now)?;
        let bound_here = check_binding(verified.binding, shown.certificate).is_ok();
        bound_here.then(|| Arc::clone(&verified.caller))
    }

    /// Says who shows this at the time `now`: by the token, or without one by the certificate.
    ///
    /// # Errors
    /// Why it is not believed; nothing of it may be used then.
    pub fn identify(&self, shown: Shown<'_>, now: Timestamp) -> Result<Arc<Caller>, Refusal> {
        match shown {
            Shown { token: Some(token), certificate } => self.by_token(token, certificate, now),
            Shown { token: None, certificate: Some(certificate) } => {
                self.by_certificate(certificate, now)
            }
            Shown { token: None, certificate: None } => Err(TokenError::Missing.into()),
        }
    }

    fn by_token(
        &self,
        token: &str,
        certificate: Option<&ClientCertificate>,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refusal> {
        let parsed = Unverified::parse(token, self.max_token_bytes)?;
        let unknown = |error| Refusal { error, identity: parsed.claimed(), issuer: None };
        let issuer = match parsed.payload.text("iss").map_err(unknown)? {
            None => return Err(unknown(TokenError::ClaimMissing("iss"))),
            Some(name) => {
                self.issuers.get(name).ok_or_else(|| unknown(TokenError::IssuerUnknown))?
            }
        };
        let refused = |error| Refusal { issuer: Some(Arc::clone(issuer)), ..unknown(error) };
        // What was found good is remembered with the very keys and revocations looked at here.
        let revocations = self.revocations.load_full();
        let keys = Arc::clone(&issuer.keys.current());
        let key = issuer.select_key(&parsed.header, &keys).map_err(refused)?;
        if !key.verifies(parsed.signed, &parsed.signature) {
            return Err(unknown(TokenError::SignatureInvalid));
        }
        let genuine =
            |error| Refusal { error, identity: parsed.claimed().vouched_for(), issuer: None };
        let Believed { caller, binding } =
            issuer.believe(&parsed.payload, key, now).map_err(genuine)?;
        if revocations.find(caller.credential(), now).is_some() {
            return Err(genuine(TokenError::Revoked));
        }
        check_binding(binding, certificate).map_err(genuine)?;
        let caller = Arc::new(caller);
        let verified = Verified {
            hash: TokenHash::of(token),
            caller: Arc::clone(&caller),
            binding,
            issuer: Arc::clone(issuer),
            keys,
            revocations,
        };
        self.cache.put(verified, now);
        Ok(caller)
    }

    fn by_certificate(
        &self,
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refusal> {
        let caller = self.certificates.caller(certificate, now)?;
        match self.revocations.load().find(caller.credential(), now) {
            Some(_) => Err(Refusal {
                error: TokenError::Revoked,
                identity: Identity::of(&caller),
                issuer: None,
            }),
            None => Ok(Arc::new(caller)),
        }
    }

    /// Whether a caller who was believed still is: his token has not expired, his issuer still has
    /// the key that signed it, and nothing of it has been revoked. For streams that outlive the
    /// request that began them.
    ///
    /// # Errors
    /// Why he is no longer believed.
    pub fn still_valid(&self, caller: &Caller, now: Timestamp) -> Result<(), TokenError> {
        let by_certificate = caller.issuer == *self.certificates.issuer();
        if now >= caller.good_until {
            let at = caller.expire_time;
            return Err(match by_certificate {
                true => TokenError::CertificateExpired { at },
                false => TokenError::Expired { at },
            });
        }
        if !by_certificate {
            let issuer = self.issuers.get(&caller.issuer).ok_or(TokenError::IssuerUnknown)?;
            if !issuer.keys.current().holds(&caller.key_id, &caller.key_fingerprint) {
                return Err(TokenError::KeyUnknown);
            }
        }
        match self.revocations.load().find(caller.credential(), now) {
            Some(_) => Err(TokenError::Revoked),
            None => Ok(()),
        }
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

    /// Reads every key file again and puts what has changed into force at once; an issuer whose
    /// keys cannot be loaded keeps those it had. Keys that are online are fetched again soon.
    ///
    /// Reads files: keep it off the threads that serve.
    pub fn reload(&self) -> KeyReload {
        let mut outcome = KeyReload::default();
        for issuer in self.issuers.values() {
            issuer.online.iter().for_each(super::keys::Online::refresh);
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

    /// The tasks that fetch keys, one for each issuer that has any online. They never end: run them
    /// for as long as the verifier is used.
    pub fn keepers(
        self: &Arc<Self>,
    ) -> impl Iterator<Item = impl Future<Output = ()> + Send + use<>> + use<> {
        let issuers: Vec<_> = self.issuers.values().cloned().collect();
        let verifier = Arc::clone(self);
        issuers.into_iter().map(move |issuer| {
            let verifier = Arc::clone(&verifier);
            async move {
                if let Some(online) = &issuer.online {
                    online.keep(&issuer.name, &issuer.keys, || verifier.ring()).await;
                }
            }
        })
    }

    fn ring(&self) {
        self.bell.send_modify(|rung| *rung += 1);
    }

    /// Every key in force, as issuer and key id.
    #[cfg(test)]
    fn key_ids(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let of = |issuer: &Arc<Issuer>| {
            let name = &issuer.name;
            let keys = issuer.keys.current();
            keys.ids().map(|id| (Arc::clone(name), Arc::clone(id))).collect::<Vec<_>>()
        };
        let mut ids: Vec<_> = self.issuers.values().flat_map(of).collect();
        ids.sort();
        ids
    }
}

impl Refusal {
    /// Prompts a fetch of the issuer's keys where that may help, and gives the wait for its end,
    /// after which the same may be shown once more. `None` where nothing is to be expected.
    pub fn remedy(&self) -> Option<Wait> {
        let before_the_first = match self.error {
            TokenError::KeysUnavailable => true,
            TokenError::KeyUnknown => false,
            _ => return None,
        };
        self.issuer.as_ref()?.online.as_ref()?.prompt(before_the_first)
    }
}

impl From<TokenError> for Refusal {
    /// Of somebody who says nothing about himself that could be read.
    fn from(error: TokenError) -> Self {
        Self { error, identity: Identity::Unknown, issuer: None }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("error", &self.error)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_token_bytes: 8 * 1024,
            cached_tokens: 10_000,
            fetch: FetchLimits::default(),
            certificates: CertificateConfig::default(),
        }
    }
}

/// A token that is bound to a certificate is worth nothing without it (RFC 8705 section 3).
fn check_binding(
    binding: Option<Thumbprint>,
    certificate: Option<&ClientCertificate>,
) -> Result<(), TokenError> {
    match binding {
        Some(bound) if certificate.is_none_or(|shown| shown.thumbprint != bound) => {
            Err(TokenError::BoundElsewhere)
        }
        _ => Ok(()),
    }
}

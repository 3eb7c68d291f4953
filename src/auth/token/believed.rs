//! One issuer as the verifier knows it: its rules, its keys, and what it makes of a token.

use std::{str::FromStr, sync::Arc};

use jiff::Timestamp;
use jsonwebtoken::Algorithm;

use super::{claims::Claims, error::TokenError};
use crate::auth::{
    Caller,
    certificate::Thumbprint,
    issuer::{AuthConfigError, IssuerConfig, IssuerRules, KeySource, media_type, parse_algorithm},
    keys::{Endpoint, FetchLimits, KeyRing, KeySet, NoKey, Online, VerificationKey},
};

/// An issuer whose tokens are believed.
#[derive(Debug)]
pub(super) struct Issuer {
    pub name: Arc<str>,
    pub keys: KeyRing,
    /// Its sources online, if it has any.
    pub online: Option<Online>,
    config: IssuerConfig,
    rules: IssuerRules,
}

/// What a genuine token says.
pub(super) struct Believed {
    pub caller: Caller,
    pub binding: Option<Thumbprint>,
}

impl Issuer {
    /// Checks its configuration and reads its key files.
    ///
    /// # Errors
    /// The first thing that is missing, contradictory or unreadable.
    pub fn load(config: IssuerConfig, limits: &FetchLimits) -> Result<Self, AuthConfigError> {
        if config.issuer.is_empty() {
            return Err(AuthConfigError::new(
                "an issuer has no `issuer`; set it to the `iss` of its tokens, letter by letter",
            ));
        }
        let rules = config.rules()?;
        let failed = |problem: String| config.error(problem);
        let keys = KeyRing::load(config.keys.clone(), rules.algorithms.clone()).map_err(failed)?;
        let endpoints = endpoints(&config, limits).map_err(failed)?;
        let online = (!endpoints.is_empty())
            .then(|| Online::new(endpoints, rules.algorithms.clone(), limits.clone()));
        Ok(Self { name: config.issuer.as_str().into(), keys, online, config, rules })
    }

    /// An error about its configuration.
    pub fn error(&self, problem: impl std::fmt::Display) -> AuthConfigError {
        self.config.error(problem)
    }

    /// Reads its key files again; gives whether a key is new or gone.
    pub fn reload(&self) -> Result<bool, AuthConfigError> {
        self.keys.reload_files().map_err(|problem| self.config.error(problem))
    }

    /// The key among `keys` that a token with this header must be signed by.
    pub fn select_key<'k>(
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
        let selected = keys.select(header.identifier("kid")?, algorithm);
        selected.map(|key| &**key).map_err(|problem| match problem {
            NoKey::Unknown if keys.is_missing_some() => TokenError::KeysUnavailable,
            NoKey::Unknown => TokenError::KeyUnknown,
            NoKey::OtherAlgorithm => TokenError::AlgorithmNotAllowed,
        })
    }

    /// The caller that a payload with a valid signature speaks of.
    pub fn believe(
        &self,
        payload: &Claims,
        key: &VerificationKey,
        now: Timestamp,
    ) -> Result<Believed, TokenError> {
        let expire_time = self.check_times(payload, now)?;
        if !payload.audience_is_among(&self.rules.audiences)? {
            return Err(TokenError::AudienceWrong);
        }
        let binding = payload.binding()?;
        if binding.is_none() && self.rules.require_bound_tokens {
            return Err(TokenError::NotBound);
        }
        let caller = Caller {
            subject: payload.identifier("sub")?.ok_or(TokenError::ClaimMissing("sub"))?.into(),
            issuer: Arc::clone(&self.name),
            roles: self.roles(payload)?,
            expire_time,
            good_until: expire_time.saturating_add(self.rules.leeway).unwrap_or(Timestamp::MAX),
            token_id: payload.identifier("jti")?.map(Into::into),
            key_id: Arc::clone(key.id()),
            key_fingerprint: *key.fingerprint(),
        };
        Ok(Believed { caller, binding })
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

/// The sources of an issuer that are online.
fn endpoints(config: &IssuerConfig, limits: &FetchLimits) -> Result<Vec<Endpoint>, String> {
    let endpoint = |(index, source): (usize, &KeySource)| {
        let parsed =
            |algorithm: &Option<String>| algorithm.as_deref().map(parse_algorithm).transpose();
        match source {
            KeySource::PemFile { .. }
            | KeySource::JwksFile { .. }
            | KeySource::SecretFile { .. } => None,
            KeySource::JwksUrl { url, algorithm, ca_file } => {
                Some(parsed(algorithm).and_then(|algorithm| {
                    Endpoint::jwks(index, url, algorithm, ca_file.clone(), limits)
                        .map_err(|problem| format!("`jwks_url`: {problem}"))
                }))
            }
            KeySource::Discovery { algorithm, ca_file } => {
                Some(parsed(algorithm).and_then(|algorithm| {
                    Endpoint::discovery(index, &config.issuer, algorithm, ca_file.clone(), limits)
                        .map_err(|problem| format!("`discovery`: {problem}"))
                }))
            }
        }
    };
    config.keys.iter().enumerate().filter_map(endpoint).collect()
}

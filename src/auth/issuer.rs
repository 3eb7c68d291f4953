//! The configuration of token issuers: whose tokens are believed, on what conditions, and what
//! their role claim means here.
//!
//! Nothing has a default that could let anybody in: without an issuer, an audience, an algorithm
//! and a key there is no verifier, and so no server.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jsonwebtoken::{Algorithm, AlgorithmFamily};

/// The leeway for `exp`, `nbf` and `iat` unless configured, in seconds.
pub const DEFAULT_LEEWAY: u32 = 30;

/// The most leeway that can be configured, in seconds.
pub const MAX_LEEWAY: u32 = 300;

/// One issuer as the configuration states it. Not yet checked: making a verifier of it is what
/// reports what is missing, in an [`AuthConfigError`] that names the remedy.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The `iss` of its tokens, compared octet by octet. Required.
    pub issuer: String,
    /// The `aud` values that mean this service; a token must carry one of them. Required.
    pub audiences: Vec<String>,
    /// The accepted signature algorithms by their JWA names (RFC 7518 section 3.1). Required.
    pub algorithms: Vec<String>,
    /// Where the keys are that sign its tokens. Required.
    pub keys: Vec<KeySource>,
    /// Where a token carries the roles.
    pub roles_claim: RolesClaim,
    /// What a value of the roles claim is called here; a value that is not listed is taken as
    /// it stands.
    pub role_mapping: BTreeMap<String, String>,
    /// How far the issuer's clock may be off, in seconds: 0 to [`MAX_LEEWAY`].
    pub leeway: u32,
    /// The accepted `typ` headers, compared as media types without `application/` (RFC 7515
    /// section 4.1.9). The empty string stands for a token without `typ`.
    pub token_types: Vec<String>,
    /// Whether only tokens are believed that are bound to a client certificate (RFC 8705).
    pub require_bound_tokens: bool,
}

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// One public key in PEM: `PUBLIC KEY` (RFC 5280) or `RSA PUBLIC KEY` (RFC 8017).
    PemFile {
        /// The file.
        path: PathBuf,
        /// The `kid` of the tokens it signs; its RFC 7638 thumbprint if not stated.
        kid: Option<String>,
        /// The algorithm it is for; may be left out where only one accepted algorithm fits.
        algorithm: Option<String>,
    },
    /// A set of public keys as RFC 7517 section 5 has it.
    JwksFile {
        /// The file.
        path: PathBuf,
        /// The algorithm of those keys in it that state none.
        algorithm: Option<String>,
    },
    /// A secret shared with the issuer, for the HS algorithms. A line break at its end does not
    /// belong to it.
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The `kid` of the tokens it signs; `secret` if not stated.
        kid: Option<String>,
        /// The algorithm it is for.
        algorithm: String,
    },
    /// A set of public keys that the issuer publishes (RFC 7517 section 5).
    JwksUrl {
        /// Its address: https, or http on a loopback address.
        url: String,
        /// The algorithm of those keys in it that state none.
        algorithm: Option<String>,
        /// The authorities that its certificate may come from, in PEM, in place of the system's.
        ca_file: Option<PathBuf>,
    },
    /// The set that the issuer's discovery document names (OpenID Connect Discovery 1.0). The
    /// issuer is then an address itself.
    Discovery {
        /// The algorithm of those keys in it that state none.
        algorithm: Option<String>,
        /// The authorities that the certificates may come from, in PEM, in place of the system's.
        ca_file: Option<PathBuf>,
    },
}

/// The path to the roles in a token, key by key: `roles`, or `realm_access` and `roles` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolesClaim(Vec<String>);

/// A configuration that no verifier can be made from: one line that names the key and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthConfigError(String);

/// An [`IssuerConfig`] that has been found sound.
#[derive(Debug)]
pub(super) struct IssuerRules {
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    pub roles_claim: RolesClaim,
    pub role_mapping: BTreeMap<String, String>,
    pub leeway: Duration,
    pub token_types: Vec<String>,
    pub require_bound_tokens: bool,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            keys: Vec::new(),
            roles_claim: RolesClaim::default(),
            role_mapping: BTreeMap::new(),
            leeway: DEFAULT_LEEWAY,
            token_types: ["at+jwt", "JWT", ""].map(str::to_owned).to_vec(),
            require_bound_tokens: false,
        }
    }
}

impl IssuerConfig {
    /// Checks everything that can be checked without opening a file.
    ///
    /// # Errors
    /// The first thing that is missing or out of its range.
    pub(super) fn rules(&self) -> Result<IssuerRules, AuthConfigError> {
        self.required(
            "audiences",
            &self.audiences,
            "list the `aud` values that mean this service",
        )?;
        self.required(
            "algorithms",
            &self.algorithms,
            "list what its keys sign with, as in [\"RS256\"]",
        )?;
        self.required("token_types", &self.token_types, "leave it out for the default")?;
        if self.keys.is_empty() {
            return Err(self
                .error("`keys` is empty; add { pem_file = \"...\" }, { jwks_url = \"...\" } or { discovery = true }"));
        }
        if self.leeway > MAX_LEEWAY {
            return Err(self
                .error(format!("`leeway` is {} seconds; the most is {MAX_LEEWAY}", self.leeway)));
        }
        if self.roles_claim.0.is_empty() || self.roles_claim.0.iter().any(String::is_empty) {
            return Err(
                self.error("`roles_claim` has an empty part; write it like `realm_access.roles`")
            );
        }
        if self.role_mapping.iter().any(|(value, role)| value.is_empty() || role.is_empty()) {
            return Err(
                self.error("`role_mapping` has an empty entry; map a claim value to a role id")
            );
        }
        let algorithms = self
            .algorithms
            .iter()
            .map(|name| parse_algorithm(name).map_err(|problem| self.error(problem)))
            .collect::<Result<Vec<_>, _>>()?;
        self.secrets_are_explicit(&algorithms)?;
        Ok(IssuerRules {
            audiences: self.audiences.clone(),
            algorithms,
            roles_claim: self.roles_claim.clone(),
            role_mapping: self.role_mapping.clone(),
            leeway: Duration::from_secs(self.leeway.into()),
            token_types: self.token_types.iter().map(|typ| media_type(typ)).collect(),
            require_bound_tokens: self.require_bound_tokens,
        })
    }

    /// An error about this issuer.
    pub(super) fn error(&self, problem: impl fmt::Display) -> AuthConfigError {
        AuthConfigError(format!("issuer `{}`: {problem}", self.issuer))
    }

    /// An HS algorithm needs a secret that was configured as one: no published key is ever one.
    fn secrets_are_explicit(&self, algorithms: &[Algorithm]) -> Result<(), AuthConfigError> {
        let shared = algorithms.iter().find(|one| one.family() == AlgorithmFamily::Hmac);
        let has_secret = self.keys.iter().any(|key| matches!(key, KeySource::SecretFile { .. }));
        match shared {
            Some(algorithm) if !has_secret => Err(self.error(format!(
                "`algorithms` lists {algorithm:?}, which needs a key {{ secret_file = \"...\" }}; \
                 remove it or add one"
            ))),
            _ => Ok(()),
        }
    }

    fn required(&self, key: &str, values: &[String], remedy: &str) -> Result<(), AuthConfigError> {
        match values {
            [] => Err(self.error(format!("`{key}` is missing or empty; {remedy}"))),
            values if key != "token_types" && values.iter().any(String::is_empty) => {
                Err(self.error(format!("`{key}` has an empty entry; {remedy}")))
            }
            _ => Ok(()),
        }
    }
}

impl AuthConfigError {
    /// An error about the list of issuers as a whole.
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

impl KeySource {
    /// The file the keys are in; none for a source that is online.
    pub fn key_file(&self) -> Option<&Path> {
        match self {
            Self::PemFile { path, .. }
            | Self::JwksFile { path, .. }
            | Self::SecretFile { path, .. } => Some(path),
            Self::JwksUrl { .. } | Self::Discovery { .. } => None,
        }
    }

    /// Every file that it needs.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let ca_file = match self {
            Self::JwksUrl { ca_file, .. } | Self::Discovery { ca_file, .. } => ca_file.as_deref(),
            Self::PemFile { .. } | Self::JwksFile { .. } | Self::SecretFile { .. } => None,
        };
        self.key_file().into_iter().chain(ca_file)
    }
}

impl RolesClaim {
    /// The keys from the token's top level downwards.
    pub(super) fn keys(&self) -> &[String] {
        &self.0
    }
}

impl Default for RolesClaim {
    fn default() -> Self {
        Self(vec!["roles".to_owned()])
    }
}

impl From<Vec<String>> for RolesClaim {
    /// The keys from the token's top level downwards.
    fn from(keys: Vec<String>) -> Self {
        Self(keys)
    }
}

/// A `typ` in the form in which two are compared: RFC 7515 section 4.1.9 lets `application/` be
/// left out, and media types have no case.
pub(super) fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").map_or_else(|| typ.clone(), str::to_owned)
}

/// Reads an algorithm of the configuration. `none` is none.
pub(super) fn parse_algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::from_str(name).map_err(|_| {
        format!(
            "`{name}` is no accepted signature algorithm; take RS256, RS384, RS512, PS256, PS384, \
             PS512, ES256, ES384, EdDSA, or HS256, HS384, HS512 with a `secret_file`"
        )
    })
}

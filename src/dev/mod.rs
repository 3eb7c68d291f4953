//! The folder of a development server: an authority, keys and an administrator's token of its own.
//!
//! | file | what | access |
//! |---|---|---|
//! | `DEVELOPMENT.txt` | says what the folder is; a folder that is not empty and lacks it is left alone | 0600 |
//! | `ca.pem`, `ca.key` | the certificate authority | certificate 0644, key 0600 |
//! | `server.pem`, `server.key` | the server's certificate, for localhost, 127.0.0.1 and ::1 | the same |
//! | `jwt.pem`, `jwt.key` | what signs the tokens: ES256, which JWT libraries everywhere know | the same |
//! | `admin.token` | an administrator's token, 24 hours | 0600 |
//! | `partnerctl.toml` | where `partnerctl` finds server, authority and token | 0600 |
//! | `store/` | the data | of the store |
//!
//! The folder itself is 0700. In each pair the key is written first, and what is beside it follows
//! from it: a start that was interrupted is completed by the next. A certificate or public key whose
//! private key is gone is never replaced silently.

#[cfg(test)]
mod tests;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, ThumbprintHash},
};
use rcgen::{KeyPair, PublicKeyData};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    auth::issuer::{IssuerConfig, KeySource},
    certs::{self, Authority, CertificateFacts, CertsError, at},
    files::{self, Access},
    tls::{ClientAuth, TlsConfig},
};

/// The folder unless told otherwise.
pub const DEFAULT_PATH: &str = "./partnerd-data";

/// The `iss` of development tokens.
pub const ISSUER: &str = "urn:partnerd:dev";

/// The `aud` of development tokens.
pub const AUDIENCE: &str = "partnerd";

/// How long the administrator's token is valid.
pub const ADMIN_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// How long a token can be made valid.
pub const MAX_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long before its end a certificate is made anew.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

const MARKER: &str = "DEVELOPMENT.txt";
const MARKER_TEXT: &str = "\
Made by `partnerd serve --dev`. The keys in this folder are for development only.
Remove the folder to begin anew; the data in store/ goes with it.
";
const SIGNER: &str = "jwt";

/// The folder of a development server.
pub struct DevFolder {
    path: PathBuf,
    signing_key: EncodingKey,
    key_id: String,
}

/// What `partnerctl` needs to find a development server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Where the server listens, for example `https://localhost:7443`.
    pub endpoint: String,
    /// The authority that signed the server's certificate; an absolute path.
    pub ca_file: PathBuf,
    /// The token to send; an absolute path.
    pub token_file: PathBuf,
}

/// Why a development folder cannot be used. Reported, never acted upon by code.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The folder belongs to somebody else.
    #[error("{} holds other files; give an empty folder, or a name that is free, with --data-dir", .0.display())]
    Foreign(PathBuf),
    /// There is no development server's folder here.
    #[error("{} is no development server's folder; start `partnerd serve --dev` first, or give its folder with --data-dir", .0.display())]
    NotThere(PathBuf),
    /// A certificate, a key or a file.
    #[error(transparent)]
    Certs(#[from] CertsError),
    /// A token that no server would take.
    #[error("{0}")]
    BadToken(&'static str),
}

impl DevFolder {
    /// Opens the folder, or makes it, or completes what was begun: all keys and certificates, and a
    /// new administrator's token.
    ///
    /// # Errors
    /// If the folder holds other things, if half of a pair is lost, or if the system refuses.
    pub fn open_or_create(path: &Path, now: Timestamp) -> Result<Self, DevError> {
        if holds_other_things(path).map_err(at(path))? {
            return Err(DevError::Foreign(path.to_owned()));
        }
        files::private_folder(path).map_err(at(path))?;
        let marker = path.join(MARKER);
        files::replace(&marker, MARKER_TEXT.as_bytes(), Access::Private).map_err(at(&marker))?;
        let key = ensure_key(path, SIGNER)?;
        let folder = Self::with_key(path, &key)?;
        folder.write("jwt.pem", &key.public_key_pem(), Access::Public)?;
        folder.refresh(now)?;
        Ok(folder)
    }

    /// Opens a folder that a development server has made, to issue tokens; changes nothing.
    ///
    /// # Errors
    /// If there is none, or its signing key is lost.
    pub fn open(path: &Path) -> Result<Self, DevError> {
        let [_, key] = certs::pair(path, SIGNER);
        if !path.join(MARKER).exists() || !key.exists() {
            return Err(DevError::NotThere(path.to_owned()));
        }
        Self::with_key(path, &certs::read_key(&key)?)
    }

    /// Makes anew what ages: the certificates when their end is near, and the administrator's token
    /// always. For every start and once an hour after it.
    ///
    /// # Errors
    /// If half of a pair is lost, or if the system refuses.
    pub fn refresh(&self, now: Timestamp) -> Result<(), DevError> {
        let authority = self.ensure_authority(now)?;
        self.ensure_server_certificate(&authority, now)?;
        let token = self.issue_token(&["admin"], "dev-admin", ADMIN_TOKEN_LIFETIME, now)?;
        self.write("admin.token", &format!("{}\n", token.expose_secret()), Access::Private)?;
        Ok(())
    }

    /// The folder, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store's data is.
    pub fn store_path(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Believes the tokens signed with this folder's key.
    pub fn issuer_config(&self) -> IssuerConfig {
        let [path, _] = certs::pair(&self.path, SIGNER);
        IssuerConfig {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms: vec!["ES256".to_owned()],
            keys: vec![KeySource::PemFile {
                path,
                kid: Some(self.key_id.clone()),
                algorithm: None,
            }],
            token_types: vec!["at+jwt".to_owned()],
            ..IssuerConfig::default()
        }
    }

    /// TLS with this folder's certificate.
    pub fn tls_config(&self) -> TlsConfig {
        let [cert_file, key_file] = certs::pair(&self.path, certs::SERVER);
        TlsConfig { cert_file, key_file, client_ca_file: None, client_auth: ClientAuth::None }
    }

    /// Issues an access token (RFC 9068) for the roles, valid from `now` for `lifetime`.
    ///
    /// # Errors
    /// If the subject is empty, longer than 256 characters or has control characters, or the
    /// lifetime is not between a second and [`MAX_TOKEN_LIFETIME`].
    pub fn issue_token(
        &self,
        roles: &[impl AsRef<str>],
        subject: &str,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<SecretString, DevError> {
        let fits = (1..=256).contains(&subject.chars().count());
        if !fits || subject.chars().any(char::is_control) {
            return Err(DevError::BadToken(
                "a subject has 1 to 256 characters and no control characters; correct --subject",
            ));
        }
        if lifetime < SignedDuration::from_secs(1) || lifetime > MAX_TOKEN_LIFETIME {
            return Err(DevError::BadToken(
                "a token lives between a second and 30 days; correct --ttl",
            ));
        }
        let issued = now.as_second();
        let claims = serde_json::json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": "partnerd",
            "jti": Uuid::new_v4().to_string(),
            "iat": issued,
            "exp": issued + lifetime.as_secs(),
            "roles": roles.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        });
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &claims, &self.signing_key)
            .map(SecretString::from)
            .map_err(|_| DevError::BadToken(UNUSABLE_SIGNER))
    }

    /// Writes `partnerctl.toml`, so that `partnerctl` finds this server without flags. Gives its path.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_client_config(&self, endpoint: &str) -> Result<PathBuf, DevError> {
        let [ca_file, _] = certs::pair(&self.path, certs::AUTHORITY);
        let token_file = self.path.join("admin.token");
        let config = ClientConfig { endpoint: endpoint.to_owned(), ca_file, token_file };
        let text = toml::to_string(&config).expect("three strings are always TOML");
        self.write("partnerctl.toml", &text, Access::Private)
    }

    fn with_key(path: &Path, key: &KeyPair) -> Result<Self, DevError> {
        let pem = SecretString::from(key.serialize_pem());
        let unusable = |_| DevError::BadToken(UNUSABLE_SIGNER);
        let signing_key =
            EncodingKey::from_ec_pem(pem.expose_secret().as_bytes()).map_err(unusable)?;
        let key_id = Jwk::from_encoding_key(&signing_key, Algorithm::ES256)
            .and_then(|jwk| jwk.thumbprint(ThumbprintHash::SHA256))
            .map_err(unusable)?;
        Ok(Self { path: fs::canonicalize(path).map_err(at(path))?, signing_key, key_id })
    }

    fn ensure_authority(&self, now: Timestamp) -> Result<Authority, DevError> {
        let key = ensure_key(&self.path, certs::AUTHORITY)?;
        let [certificate, _] = certs::pair(&self.path, certs::AUTHORITY);
        if let Some(pem) = read_if_there(&certificate)? {
            let facts = CertificateFacts::from_pem(&pem);
            if facts.is_none_or(|facts| facts.not_after > now + RENEW_BEFORE) {
                return Ok(Authority::from_pem(&pem, key)?);
            }
        }
        let authority = Authority::new(key, now)?;
        files::replace(&certificate, authority.certificate_pem().as_bytes(), Access::Public)
            .map_err(at(&certificate))?;
        Ok(authority)
    }

    /// A renewed certificate is for the same key, so that the two files never disagree.
    fn ensure_server_certificate(
        &self,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<(), DevError> {
        let key = ensure_key(&self.path, certs::SERVER)?;
        let [certificate, _] = certs::pair(&self.path, certs::SERVER);
        if let Some(pem) = read_if_there(&certificate)?
            && let Some(facts) = CertificateFacts::from_pem(&pem)
            && facts.not_after > now + RENEW_BEFORE
            && facts.public_key == key.subject_public_key_info()
            && authority.has_signed(&pem)
        {
            return Ok(());
        }
        let names = certs::LOCAL_NAMES.map(str::to_owned);
        let issued = authority.issue_server(&names, &key, now)?;
        files::replace(&certificate, issued.certificate_pem.as_bytes(), Access::Public)
            .map_err(at(&certificate))?;
        Ok(())
    }

    fn write(&self, name: &str, content: &str, access: Access) -> Result<PathBuf, DevError> {
        let path = self.path.join(name);
        files::replace(&path, content.as_bytes(), access).map_err(at(&path))?;
        Ok(path)
    }
}

impl fmt::Debug for DevFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevFolder")
            .field("path", &self.path)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

const UNUSABLE_SIGNER: &str =
    "jwt.key is no P-256 key; remove jwt.key and jwt.pem to have them made anew";

/// Whether there is something in the folder that no development server has put there.
fn holds_other_things(path: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    if path.join(MARKER).exists() {
        return Ok(false);
    }
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !files::is_leftover(&name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pair's private key, made if neither half of the pair is there.
fn ensure_key(folder: &Path, stem: &str) -> Result<KeyPair, DevError> {
    let [public, private] = certs::pair(folder, stem);
    if private.exists() {
        return Ok(certs::read_key(&private)?);
    }
    if public.exists() {
        return Err(CertsError::HalfMissing { present: public, missing: private }.into());
    }
    let key = certs::new_key()?;
    let pem = SecretString::from(key.serialize_pem());
    files::create(&private, pem.expose_secret().as_bytes(), Access::Private)
        .map_err(at(&private))?;
    Ok(key)
}

fn read_if_there(path: &Path) -> Result<Option<String>, DevError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error).into()),
    }
}

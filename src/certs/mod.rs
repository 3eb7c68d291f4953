//! Certificates for development: a certificate authority of one's own and what it signs.
//!
//! All keys are ECDSA P-256. The authority lives five years and signs end entities only; server and
//! client certificates live 397 days, the longest that browsers take from a server.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use x509_parser::{certificate::X509Certificate, pem::parse_x509_pem};

use crate::files::{self, Access};

/// How long a certificate authority is valid.
pub const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(5 * 365 * 24);

/// How long a server or client certificate is valid.
pub const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(397 * 24);

/// The names that every development server certificate is for.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What a validity begins before the present, so that a clock that is late accepts it.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// The arguments of `partnerd certs`.
#[derive(Args, Clone, Debug)]
pub struct CertsArgs {
    /// The folder to write to. An authority that is there already (ca.pem, ca.key) is used again
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub out: PathBuf,

    /// A DNS name or IP address of the server, beside localhost, 127.0.0.1 and ::1. Repeatable
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,

    /// The name of a client to make a certificate for: NAME.pem and NAME.key. Repeatable
    #[arg(long = "client", value_name = "NAME", default_value = "client")]
    pub clients: Vec<String>,

    /// Replace server and client keys that are there already. The authority is never replaced
    #[arg(long)]
    pub force: bool,
}

/// Something that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate and its key, both in PEM.
pub struct Identity {
    /// The certificate alone; the authority's is not in it.
    pub certificate_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: SecretString,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// When it begins to be valid.
    pub not_before: Timestamp,
    /// The last moment it is valid.
    pub not_after: Timestamp,
    /// Its public key (SubjectPublicKeyInfo in DER).
    pub public_key: Vec<u8>,
}

/// Why certificates could not be made or read. Reported, never acted upon by code.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something that must not be overwritten is there.
    #[error("{} is there already and would be lost; give --force, or another folder", .0.display())]
    WouldOverwrite(PathBuf),
    /// One half of a pair is missing.
    #[error("{} is there without {}; restore it, or remove the former to have both made anew", present.display(), missing.display())]
    HalfMissing {
        /// What is there.
        present: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// A name cannot be put into a certificate.
    #[error("`{0}` is no DNS name or IP address; correct the name")]
    BadName(String),
    /// A file does not hold what it should.
    #[error("{problem}")]
    Unusable {
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Makes what `partnerd certs` makes: an authority unless there is one, a server's and the clients'
/// certificates. Gives the files written.
///
/// # Errors
/// See [`CertsError`]. Nothing is written over without `force`, and every clash is found before the
/// first file is written.
pub fn make(args: &CertsArgs, now: Timestamp) -> Result<Vec<PathBuf>, CertsError> {
    let server_names = LOCAL_NAMES.iter().map(|&name| name.to_owned()).chain(args.names.clone());
    let server_names: Vec<String> = server_names.collect();
    let stems = stems(args)?;
    subject_names(&server_names)?;
    subject_names(&args.clients)?;
    for stem in &stems {
        for path in pair(&args.out, stem) {
            if !args.force && path.exists() {
                return Err(CertsError::WouldOverwrite(path));
            }
        }
    }
    if !args.out.is_dir() {
        files::private_folder(&args.out).map_err(at(&args.out))?;
    }
    let mut written = Vec::new();
    let authority = authority_in(&args.out, now, &mut written)?;
    for stem in &stems {
        let identity = match *stem {
            SERVER => authority.issue_server(&server_names, &new_key()?, now)?,
            client => authority.issue_client(client, &new_key()?, now)?,
        };
        let [certificate, key] = pair(&args.out, stem);
        let key_pem = identity.key_pem.expose_secret();
        files::replace(&key, key_pem.as_bytes(), Access::Private).map_err(at(&key))?;
        files::replace(&certificate, identity.certificate_pem.as_bytes(), Access::Public)
            .map_err(at(&certificate))?;
        written.extend([certificate, key]);
    }
    Ok(written)
}

impl Authority {
    /// Makes an authority for the key, valid from now on.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn new(key: KeyPair, now: Timestamp) -> Result<Self, CertsError> {
        let mut params = params("partnerd development CA", AUTHORITY_LIFETIME, now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key).map_err(unusable_key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// An authority that was made before.
    ///
    /// # Errors
    /// If the two do not belong together, or are not PEM.
    pub fn from_pem(certificate_pem: &str, key: KeyPair) -> Result<Self, CertsError> {
        let facts = CertificateFacts::from_pem(certificate_pem);
        if facts.is_none_or(|facts| facts.public_key != key.subject_public_key_info()) {
            return Err(CertsError::Unusable {
                problem: "ca.pem is malformed or not the certificate of ca.key; restore the pair, \
                          or remove both to have them made anew"
                    .to_owned(),
            });
        }
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(unusable_key)?;
        Ok(Self { issuer, certificate_pem: certificate_pem.to_owned() })
    }

    /// Its certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Whether it has signed the first certificate of a PEM text.
    pub fn has_signed(&self, certificate_pem: &str) -> bool {
        let (Ok((_, own)), Ok((_, other))) = (
            parse_x509_pem(self.certificate_pem.as_bytes()),
            parse_x509_pem(certificate_pem.as_bytes()),
        ) else {
            return false;
        };
        match (own.parse_x509(), other.parse_x509()) {
            (Ok(own), Ok(other)) => other.verify_signature(Some(own.public_key())).is_ok(),
            _ => false,
        }
    }

    /// A certificate for a server that is reached by these DNS names and IP addresses.
    ///
    /// # Errors
    /// The first name that is neither.
    pub fn issue_server(
        &self,
        names: &[String],
        key: &KeyPair,
        now: Timestamp,
    ) -> Result<Identity, CertsError> {
        let common_name = names.first().map_or("partnerd", String::as_str);
        self.issue(
            common_name,
            subject_names(names)?,
            ExtendedKeyUsagePurpose::ServerAuth,
            key,
            now,
        )
    }

    /// A certificate for a client; its name is the subject's common name and a DNS name.
    ///
    /// # Errors
    /// If the name has other characters than a DNS name.
    pub fn issue_client(
        &self,
        name: &str,
        key: &KeyPair,
        now: Timestamp,
    ) -> Result<Identity, CertsError> {
        let names = subject_names(&[name.to_owned()])?;
        self.issue(name, names, ExtendedKeyUsagePurpose::ClientAuth, key, now)
    }

    fn issue(
        &self,
        common_name: &str,
        subject_alt_names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        key: &KeyPair,
        now: Timestamp,
    ) -> Result<Identity, CertsError> {
        let mut params = params(common_name, LEAF_LIFETIME, now);
        params.subject_alt_names = subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(unusable_key)?;
        Ok(Identity {
            certificate_pem: certificate.pem(),
            key_pem: SecretString::from(key.serialize_pem()),
        })
    }
}

impl CertificateFacts {
    /// Reads the first certificate of a PEM text; `None` if there is none, or it is malformed.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let (_, block) = parse_x509_pem(pem.as_bytes()).ok()?;
        Self::of(&block.parse_x509().ok()?)
    }

    /// Reads a certificate in DER.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        Self::of(&certificate)
    }

    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let validity = certificate.validity();
        Some(Self {
            not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// A new key pair of the kind that all certificates here have.
///
/// # Errors
/// If the system has no randomness to give.
pub fn new_key() -> Result<KeyPair, CertsError> {
    KeyPair::generate().map_err(unusable_key)
}

/// The stem of an authority's files.
pub const AUTHORITY: &str = "ca";

/// The stem of a server's files.
pub const SERVER: &str = "server";

/// The files that a certificate and its key are in: `STEM.pem` and `STEM.key`.
pub fn pair(folder: &Path, stem: &str) -> [PathBuf; 2] {
    [folder.join(format!("{stem}.pem")), folder.join(format!("{stem}.key"))]
}

fn stems(args: &CertsArgs) -> Result<Vec<&str>, CertsError> {
    let mut stems = vec![SERVER];
    for client in &args.clients {
        let plain = client.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        let taken = client == AUTHORITY || stems.contains(&client.as_str());
        if taken || !plain || client.is_empty() || client.starts_with('.') {
            return Err(CertsError::Unusable {
                problem: format!(
                    "`{}` cannot be a client's name; take letters, digits, `-`, `.`, `_`, not `ca` \
                     or `server`, and each name once",
                    client.escape_default()
                ),
            });
        }
        stems.push(client);
    }
    Ok(stems)
}

fn authority_in(
    folder: &Path,
    now: Timestamp,
    written: &mut Vec<PathBuf>,
) -> Result<Authority, CertsError> {
    let [certificate, key] = pair(folder, AUTHORITY);
    match (certificate.exists(), key.exists()) {
        (true, true) => {
            let certificate_pem = fs::read_to_string(&certificate).map_err(at(&certificate))?;
            let authority = Authority::from_pem(&certificate_pem, read_key(&key)?)?;
            let facts = CertificateFacts::from_pem(&certificate_pem);
            if facts.is_none_or(|facts| facts.not_after <= now) {
                return Err(CertsError::Unusable {
                    problem: format!(
                        "{} has expired; give another folder to begin anew",
                        certificate.display()
                    ),
                });
            }
            Ok(authority)
        }
        (true, false) => Err(CertsError::HalfMissing { present: certificate, missing: key }),
        (false, true) => Err(CertsError::HalfMissing { present: key, missing: certificate }),
        (false, false) => {
            let pair = new_key()?;
            let key_pem = SecretString::from(pair.serialize_pem());
            let authority = Authority::new(pair, now)?;
            let content = key_pem.expose_secret().as_bytes();
            files::create(&key, content, Access::Private).map_err(at(&key))?;
            files::create(&certificate, authority.certificate_pem.as_bytes(), Access::Public)
                .map_err(at(&certificate))?;
            written.extend([certificate, key]);
            Ok(authority)
        }
    }
}

/// Reads a private key in PEM (PKCS #8).
///
/// # Errors
/// If the file cannot be read or holds no such key; its content is never in the error.
pub fn read_key(path: &Path) -> Result<KeyPair, CertsError> {
    let pem = fs::read_to_string(path).map(SecretString::from).map_err(at(path))?;
    KeyPair::from_pem(pem.expose_secret()).map_err(|_| CertsError::Unusable {
        problem: format!("{} holds no private key in PEM; restore or remove it", path.display()),
    })
}

/// Says which file an I/O error is about.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> CertsError {
    let path = path.to_owned();
    move |error| CertsError::File { path, error }
}

fn params(common_name: &str, lifetime: SignedDuration, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Without one of its own a renewed certificate would have the number of the one it replaces.
    params.serial_number = Some(SerialNumber::from_slice(Uuid::new_v4().as_bytes()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let day_zero = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: SignedDuration| Duration::from_secs(time.as_secs().max(0).cast_unsigned());
    params.not_before = day_zero + since(now.as_duration() - BACKDATE);
    params.not_after = day_zero + since(now.as_duration() + lifetime - BACKDATE);
    params
}

fn subject_names(names: &[String]) -> Result<Vec<SanType>, CertsError> {
    let subject_name = |name: &String| {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(SanType::IpAddress(address));
        }
        let bad = || CertsError::BadName(name.escape_default().to_string());
        let label = |label: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=63).contains(&label.len()) && label.chars().all(plain)
        };
        let host = name.strip_prefix("*.").unwrap_or(name);
        if name.len() > 253 || !host.split('.').all(label) {
            return Err(bad());
        }
        name.as_str().try_into().map(SanType::DnsName).map_err(|_| bad())
    };
    names.iter().map(subject_name).collect()
}

fn unusable_key(error: rcgen::Error) -> CertsError {
    CertsError::Unusable { problem: format!("the certificate cannot be made: {error}") }
}

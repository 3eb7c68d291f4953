//! What must be true of a configuration as a whole.

use std::{fs, io, path::Path, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{Audit, Auth, Config, ConfigError, Limits, reader::Reader};
use crate::{
    auth::{issuer::IssuerConfig, keys::FetchLimits},
    tls::{ClientAuth, TlsConfig},
};

/// Checks the values against each other.
pub(super) fn consistent(config: &Config, reader: &Reader<'_>) {
    listening(config, reader);
    issuers(&config.auth, reader);
    deadlines(&config.limits, reader);
    client_certificates(config.tls.as_ref(), reader);
    certificate_identities(config, reader);
    fetching(&config.auth.tokens.fetch, reader);
    audit(&config.audit, reader);
    if let Err(error) = EnvFilter::try_new(&config.log.filter) {
        reader.problem("log.filter", &format!("{error}; write it as info,partnerd=debug"));
    }
}

/// Checks the files and folders that the configuration names.
pub(super) fn files(config: &Config) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    let mut readable = |key: &str, path: &Path| {
        if let Err(error) = fs::File::open(path).and_then(|file| plain(&file)) {
            let path = path.display();
            problems.push(format!("{key}: cannot read {path}: {error}; name a readable file"));
        }
    };
    if let Some(TlsConfig { cert_file, key_file, client_ca_file, client_auth: _ }) = &config.tls {
        readable("tls.cert_file", cert_file);
        readable("tls.key_file", key_file);
        client_ca_file.iter().for_each(|path| readable("tls.client_ca_file", path));
    }
    for (index, issuer) in config.auth.issuers.iter().enumerate() {
        for source in &issuer.keys {
            for path in source.files() {
                readable(&format!("auth.issuers[{index}].keys"), path);
            }
        }
    }
    if let Err(error) = writable(&config.data_dir) {
        let path = config.data_dir.display();
        problems.push(format!(
            "data_dir: cannot write to {path}: {error}; name a folder that the server owns"
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
}

fn listening(config: &Config, reader: &Reader<'_>) {
    for address in config.listen.iter().filter(|address| !address.ip().is_loopback()) {
        if config.dev {
            reader.problem(
                "listen",
                &format!(
                    "a development server listens on loopback only, and {address} is not; \
                     give 127.0.0.1 or [::1], or set up a server with --config"
                ),
            );
        } else if config.tls.is_none() {
            reader.problem(
                "tls.enabled",
                &format!(
                    "plain text is for loopback only, and {address} is not; \
                     give a certificate and leave TLS on"
                ),
            );
        }
    }
}

/// A slip of the pen must not cost the audit.
fn audit(audit: &Audit, reader: &Reader<'_>) {
    const LEAST_AGE: Duration = Duration::from_secs(60 * 60);
    const LEAST_ENTRIES: u64 = 10;
    if audit.max_age.is_some_and(|age| age < LEAST_AGE) {
        reader.problem("audit.max_age", "is too short; give at least 1h, or 0s to keep everything");
    }
    if audit.max_entries.is_some_and(|most| most < LEAST_ENTRIES) {
        reader
            .problem("audit.max_entries", "is too few; give at least 10, or 0 to keep everything");
    }
}

fn issuers(auth: &Auth, reader: &Reader<'_>) {
    if auth.issuers.is_empty() {
        reader.missing_sections(
            "auth.issuers",
            "name at least one [[auth.issuers]] with issuer, audiences, algorithms and keys",
        );
    }
    for (index, issuer) in auth.issuers.iter().enumerate() {
        let key = |name| format!("auth.issuers[{index}].{name}");
        let same =
            |other: &IssuerConfig| !issuer.issuer.is_empty() && other.issuer == issuer.issuer;
        if auth.issuers[..index].iter().any(same) {
            reader.problem(&key("issuer"), "is there twice; put its keys in one section");
        }
    }
}

fn deadlines(limits: &Limits, reader: &Reader<'_>) {
    if limits.default_request_timeout > limits.max_request_timeout {
        reader.problem(
            "limits.default_request_timeout",
            "is longer than limits.max_request_timeout; make it the shorter one",
        );
    }
}

fn client_certificates(tls: Option<&TlsConfig>, reader: &Reader<'_>) {
    let Some(tls) = tls else { return };
    if tls.client_auth != ClientAuth::None && tls.client_ca_file.is_none() {
        reader.missing("tls.client_ca_file", "name the authorities of the client certificates");
    }
    if tls.client_auth == ClientAuth::None && tls.client_ca_file.is_some() {
        reader.problem(
            "tls.client_ca_file",
            "is not used; set tls.client_auth to optional or required",
        );
    }
}

/// What is to be told from client certificates needs clients that are asked for them.
fn certificate_identities(config: &Config, reader: &Reader<'_>) {
    let asked = config.tls.as_ref().is_some_and(|tls| tls.client_auth != ClientAuth::None);
    if asked {
        return;
    }
    const REMEDY: &str = "needs client certificates; set tls.client_auth to optional or required";
    if !config.auth.tokens.certificates.subjects.is_empty() {
        reader.problem("auth.certificates.subjects", REMEDY);
    }
    for (index, issuer) in config.auth.issuers.iter().enumerate() {
        if issuer.require_bound_tokens {
            reader.problem(&format!("auth.issuers[{index}].require_bound_tokens"), REMEDY);
        }
    }
}

fn fetching(limits: &FetchLimits, reader: &Reader<'_>) {
    if limits.least_age > limits.most_age {
        reader.problem(
            "auth.fetch.least_age",
            "is longer than auth.fetch.most_age; make it the shorter one",
        );
    }
    if limits.connect_timeout > limits.timeout {
        reader.problem(
            "auth.fetch.connect_timeout",
            "is longer than auth.fetch.timeout; make it the shorter one",
        );
    }
}

fn plain(file: &fs::File) -> io::Result<()> {
    match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    }
}

/// Whether a file can be made in the folder, or the folder in the nearest one above it that
/// exists. Leaves nothing behind.
fn writable(folder: &Path) -> io::Result<()> {
    let existing = folder.ancestors().find(|path| path.exists());
    let existing = match existing {
        Some(path) if path.is_dir() => path,
        Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
        None => Path::new("."),
    };
    let probe = existing.join(format!(".partnerd-{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&probe)?;
    fs::remove_file(probe)
}

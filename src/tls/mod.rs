//! TLS as the server speaks it: rustls with the aws-lc provider, certificates that are replaced
//! while it runs, and client certificates where they are asked for.
//!
//! What is in force is one immutable [`rustls::ServerConfig`]. A reload builds a whole new one and
//! swaps it in, so certificate, key and client authorities always belong together, and no session
//! made under the old ones is resumed under the new.

#[cfg(test)]
mod tests;
mod transport;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

pub use self::transport::Transport;
use crate::certs::CertificateFacts;

/// The application protocols that are offered (RFC 7301), the preferred first.
pub const ALPN: &[&[u8]] = &[b"h2"];

/// The files TLS needs, as the configuration states them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate in PEM, followed by the intermediate ones.
    pub cert_file: PathBuf,
    /// Its private key in PEM.
    pub key_file: PathBuf,
    /// The authorities whose client certificates are accepted, in PEM.
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They may; one that is shown must be valid.
    Optional,
    /// They must.
    Required,
}

/// The server's side of TLS.
#[derive(Debug)]
pub struct ServerTls {
    config: TlsConfig,
    current: ArcSwap<ServerConfig>,
    loaded: Mutex<Fingerprint>,
}

/// Files that no TLS can be spoken with: one line that names the file and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// Why a connection did not get as far as an application protocol.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client took too long.
    #[error("no TLS handshake within {0:?}")]
    TimedOut(Duration),
    /// What came was not TLS; most often a client that was told `http` in place of `https`.
    #[error("the client does not speak TLS; it must connect with `https`")]
    NotTls,
    /// TLS did not come about: no common version or protocol, or a certificate was refused.
    #[error("TLS handshake failed: {0}")]
    Refused(rustls::Error),
    /// The connection was lost.
    #[error("connection lost in the TLS handshake: {0}")]
    Lost(io::Error),
}

/// Differs whenever the contents of the files differ.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint(Vec<u8>);

/// The files as they were read at one time.
struct Files {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one is missing, empty, malformed or expired, if certificate and key do not belong
    /// together, or if client authentication and its authorities are not stated together.
    pub fn load(config: &TlsConfig, now: Timestamp) -> Result<Self, TlsError> {
        let files = Files::read(config)?;
        let server = files.server_config(config, now)?;
        Ok(Self {
            config: config.clone(),
            current: ArcSwap::from_pointee(server),
            loaded: Mutex::new(files.fingerprint()),
        })
    }

    /// What is in force. Take it anew for every connection.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again and puts them into force for new connections if they have changed.
    /// Gives whether they had.
    ///
    /// Reads files: keep it off the threads that serve.
    ///
    /// # Errors
    /// As [`load`](Self::load); what was in force stays in force.
    pub fn reload_if_changed(&self, now: Timestamp) -> Result<bool, TlsError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::read(&self.config)?;
        let fingerprint = files.fingerprint();
        if *loaded == fingerprint {
            return Ok(false);
        }
        self.current.store(Arc::new(files.server_config(&self.config, now)?));
        *loaded = fingerprint;
        Ok(true)
    }

    /// Speaks the handshake with a client that has just connected.
    ///
    /// # Errors
    /// See [`HandshakeError`]; the connection is closed then.
    pub async fn handshake<S>(
        &self,
        stream: S,
        timeout: Duration,
    ) -> Result<Transport<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.server_config()).accept(stream);
        match tokio::time::timeout(timeout, handshake).await {
            Err(_) => Err(HandshakeError::TimedOut(timeout)),
            Ok(Err(error)) => Err(HandshakeError::from(error)),
            Ok(Ok(stream)) => Ok(Transport::Tls(Box::new(stream))),
        }
    }
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read("cert_file", &config.cert_file)?,
            key: Zeroizing::new(read("key_file", &config.key_file)?),
            client_ca: match &config.client_ca_file {
                Some(path) => Some(read("client_ca_file", path)?),
                None => None,
            },
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        let client_ca = self.client_ca.as_deref().unwrap_or_default();
        for content in [self.certificate.as_slice(), self.key.as_slice(), client_ca] {
            context.update(&(content.len() as u64).to_be_bytes());
            context.update(content);
        }
        Fingerprint(context.finish().as_ref().to_vec())
    }

    fn server_config(&self, config: &TlsConfig, now: Timestamp) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(provider::default_provider());
        let chain = certificates("cert_file", &config.cert_file, &self.certificate, now)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            error(
                "key_file",
                &config.key_file,
                "it holds no private key in PEM; give the key of `cert_file`",
            )
        })?;
        let verifier = self.client_verifier(config, &provider, now)?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|problem| TlsError(problem.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|problem| match problem {
                rustls::Error::InconsistentKeys(_) => error(
                    "key_file",
                    &config.key_file,
                    format!(
                        "it is not the key of {}; give the two that belong together",
                        config.cert_file.display()
                    ),
                ),
                other => {
                    error("cert_file", &config.cert_file, format!("{other}; give a usable pair"))
                }
            })?;
        server.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(server)
    }

    fn client_verifier(
        &self,
        config: &TlsConfig,
        provider: &Arc<CryptoProvider>,
        now: Timestamp,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let (path, content) = match (&config.client_ca_file, &self.client_ca, config.client_auth) {
            (None, _, ClientAuth::None) => return Ok(WebPkiClientVerifier::no_client_auth()),
            (None, ..) => {
                return Err(TlsError(
                    "`client_auth` asks for client certificates, but there is no `client_ca_file`; \
                     state whose certificates are accepted"
                        .to_owned(),
                ));
            }
            (Some(path), _, ClientAuth::None) => {
                return Err(error(
                    "client_ca_file",
                    path,
                    "no client is asked for a certificate; set `client_auth` to \"optional\" or \"required\", or remove it",
                ));
            }
            (Some(path), content, _) => (path, content.as_deref().unwrap_or_default()),
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("client_ca_file", path, content, now)? {
            roots.add(certificate).map_err(|problem| {
                error(
                    "client_ca_file",
                    path,
                    format!("{problem}; give certificates of authorities"),
                )
            })?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        match config.client_auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            _ => builder,
        }
        .build()
        .map_err(|problem| error("client_ca_file", path, problem.to_string()))
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(tls) => Self::Refused(tls.clone()),
            None => Self::Lost(error),
        }
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    match fs::read(path) {
        Ok(content) if content.is_empty() => Err(error(key, path, "it is empty; restore it")),
        Ok(content) => Ok(content),
        Err(problem) => Err(error(key, path, format!("{problem}; give a readable file"))),
    }
}

/// Every certificate of a PEM file, all of them valid now.
fn certificates(
    key: &str,
    path: &Path,
    content: &[u8],
    now: Timestamp,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const MALFORMED: &str = "it holds a malformed certificate; give certificates in PEM";
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(content)
        .collect::<Result<_, _>>()
        .map_err(|_| error(key, path, MALFORMED))?;
    if chain.is_empty() {
        return Err(error(key, path, "it holds no certificate; give certificates in PEM"));
    }
    for certificate in &chain {
        let facts =
            CertificateFacts::from_der(certificate).ok_or_else(|| error(key, path, MALFORMED))?;
        if facts.not_after < now {
            return Err(error(key, path, format!("it expired at {}; renew it", facts.not_after)));
        }
        if facts.not_before > now {
            let from = facts.not_before;
            return Err(error(
                key,
                path,
                format!("it is not valid before {from}; check the clock"),
            ));
        }
    }
    Ok(chain)
}

fn error(key: &str, path: &Path, problem: impl AsRef<str>) -> TlsError {
    TlsError(format!("`{key}` {}: {}", path.display(), problem.as_ref()))
}

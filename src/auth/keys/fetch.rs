//! One GET of a small document from an issuer, with a bound on everything.
//!
//! HTTP/1.1 over rustls, one connection a request. It follows no redirect, sends no cookie and no
//! credential, keeps nothing, and takes plain HTTP from a loopback address only. The authorities
//! are read at every request, so that a changed file is seen: requests are minutes apart.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs as provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::url::Url;

/// What fetching keys may cost, and how long what was fetched is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// How long a connection may take to come about, TLS included.
    pub connect_timeout: Duration,
    /// How long one document may take, the connection included.
    pub timeout: Duration,
    /// The largest document, in octets.
    pub max_bytes: usize,
    /// The least time between two fetches that nothing prompted, whatever the issuer says.
    pub least_age: Duration,
    /// The longest time for which fetched keys are taken for fresh, whatever the issuer says: how
    /// long a key that the issuer has removed may still be believed.
    pub most_age: Duration,
    /// The least time between two fetches prompted by tokens whose key is not known.
    pub unknown_key_interval: Duration,
    /// How long such a token waits for the fetch.
    pub unknown_key_wait: Duration,
}

/// Fetches documents.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    pub ca_file: Option<PathBuf>,
    pub limits: FetchLimits,
}

/// A document, and how long its sender says that it is fresh.
#[derive(Debug)]
pub(super) struct Document {
    pub content: Bytes,
    pub fresh_for: Option<Duration>,
}

/// Why there is no document. Nothing of what the other side sent is in it but numbers.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Authorities(String),
    #[error("cannot find {host}")]
    Name { host: String, source: io::Error },
    #[error("{0} is not this machine; plain http is for loopback addresses only, use https")]
    NotLoopback(String),
    #[error("cannot connect to {host}")]
    Connect { host: String, source: io::Error },
    #[error("no connection with {host} within {after:?}")]
    ConnectTimeout { host: String, after: Duration },
    #[error("{0:?} is no name that a certificate can be for")]
    ServerName(String),
    #[error("HTTP with {host} failed")]
    Http { host: String, source: hyper::Error },
    #[error("{host} answered with HTTP status {status}")]
    Status { host: String, status: u16 },
    #[error("{host} answered with a redirect, which is not followed; name the final address")]
    Redirect { host: String },
    #[error("the document of {host} is larger than {limit} octets")]
    TooLarge { host: String, limit: usize },
    #[error("no document from {host} within {after:?}")]
    Timeout { host: String, after: Duration },
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            max_bytes: 256 << 10,
            least_age: Duration::from_secs(60),
            most_age: Duration::from_secs(15 * 60),
            unknown_key_interval: Duration::from_secs(60),
            unknown_key_wait: Duration::from_secs(2),
        }
    }
}

impl Fetcher {
    /// Fetches a document.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, url: &Url) -> Result<Document, FetchError> {
        let after = self.limits.timeout;
        timeout(after, self.get_in_time(url))
            .await
            .unwrap_or_else(|_| Err(FetchError::Timeout { host: url.host.clone(), after }))
    }

    async fn get_in_time(&self, url: &Url) -> Result<Document, FetchError> {
        if !url.encrypted {
            return self.exchange(url, self.in_time(url, connect(url)).await?).await;
        }
        let tls = self.tls().await?;
        let name = ServerName::try_from(url.host.clone())
            .map_err(|_| FetchError::ServerName(url.host.clone()))?;
        let shake = async {
            let stream = connect(url).await?;
            let connected = TlsConnector::from(tls).connect(name, stream).await;
            connected.map_err(|source| FetchError::Connect { host: url.host.clone(), source })
        };
        self.exchange(url, self.in_time(url, shake).await?).await
    }

    async fn in_time<S>(
        &self,
        url: &Url,
        connecting: impl Future<Output = Result<S, FetchError>>,
    ) -> Result<S, FetchError> {
        let after = self.limits.connect_timeout;
        let late = |_| FetchError::ConnectTimeout { host: url.host.clone(), after };
        timeout(after, connecting).await.map_err(late)?
    }

    async fn exchange<S>(&self, url: &Url, stream: S) -> Result<Document, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |source| FetchError::Http { host: url.host.clone(), source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let request = Request::get(&url.target)
            .header(header::HOST, url.authority())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("partnerd/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .expect("an address that was parsed makes a request");
        let exchange = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            self.document(url, response).await
        };
        tokio::select! {
            biased;
            document = exchange => document,
            Err(error) = connection => Err(failed(error)),
        }
    }

    async fn document(
        &self,
        url: &Url,
        response: http::Response<Incoming>,
    ) -> Result<Document, FetchError> {
        let host = || url.host.clone();
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(FetchError::Redirect { host: host() });
            }
            status => return Err(FetchError::Status { host: host(), status: status.as_u16() }),
        }
        let fresh_for = freshness(response.headers());
        let limit = self.limits.max_bytes;
        let content =
            Limited::new(response.into_body(), limit).collect().await.map_err(|error| {
                match error.downcast::<hyper::Error>() {
                    Ok(source) => FetchError::Http { host: host(), source: *source },
                    Err(other) => {
                        debug_assert!(other.is::<LengthLimitError>(), "the only other reason");
                        FetchError::TooLarge { host: host(), limit }
                    }
                }
            })?;
        Ok(Document { content: content.to_bytes(), fresh_for })
    }

    /// Believes the authorities in `ca_file`, or those of the system where none is named.
    async fn tls(&self) -> Result<Arc<ClientConfig>, FetchError> {
        let ca_file = self.ca_file.clone();
        let roots = spawn_blocking(move || authorities(ca_file))
            .await
            .map_err(|_| FetchError::Authorities("cannot read the authorities".into()))?
            .map_err(FetchError::Authorities)?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
                .with_protocol_versions(&[&TLS13, &TLS12])
                .map_err(|error| FetchError::Authorities(error.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

async fn connect(url: &Url) -> Result<TcpStream, FetchError> {
    let host = || url.host.clone();
    let addresses: Vec<SocketAddr> = lookup_host((url.host.as_str(), url.port))
        .await
        .map_err(|source| FetchError::Name { host: host(), source })?
        .collect();
    // What a name means is the resolver's affair; that plain text stays here is ours.
    if !url.encrypted && !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err(FetchError::NotLoopback(host()));
    }
    TcpStream::connect(&*addresses)
        .await
        .map_err(|source| FetchError::Connect { host: host(), source })
}

/// The certificates of the authorities in a file, or of those that the system believes.
pub(super) fn authorities(ca_file: Option<PathBuf>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        let (_, _unusable) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return match roots.is_empty() {
            false => Ok(roots),
            true => Err("this system knows no certificate authorities; install them (the package \
                         is often ca-certificates), or name a ca_file"
                .into()),
        };
    };
    let failed =
        |problem: &str| format!("ca_file {}: {problem}; give certificates in PEM", path.display());
    let certificates =
        CertificateDer::pem_file_iter(&path).map_err(|_| failed("it cannot be read"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|_| failed("it holds a malformed certificate"))?;
        roots.add(certificate).map_err(|_| failed("it holds no certificate of an authority"))?;
    }
    match roots.is_empty() {
        false => Ok(roots),
        true => Err(failed("it holds no certificate")),
    }
}

/// How long a response says that it is fresh (RFC 9111 sections 4.2.1 and 5.2.2), less its age.
/// `None` if it does not say; nothing if it says that it must not be kept.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut fresh_for = None;
    for directive in directives {
        match directive.split_once('=') {
            None if matches!(directive.as_str(), "no-store" | "no-cache") => {
                return Some(Duration::ZERO);
            }
            Some(("max-age", seconds)) => {
                fresh_for = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
            _ => {}
        }
    }
    let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse().ok());
    fresh_for.map(|fresh| fresh.saturating_sub(Duration::from_secs(age.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_the_cache_control_says_less_the_age() {
        let fresh = |control: &'static str, age: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, control.parse().unwrap());
            age.map(|age| headers.insert(header::AGE, age.parse().unwrap()));
            freshness(&headers).map(|fresh| fresh.as_secs())
        };
        assert_eq!(freshness(&HeaderMap::new()), None);
        assert_eq!(fresh("public, Max-Age=600", None), Some(600));
        assert_eq!(fresh("max-age=\"600\", must-revalidate", Some("500")), Some(100));
        assert_eq!(fresh("max-age=600", Some("700")), Some(0));
        assert_eq!(fresh("max-age=600, no-store", None), Some(0));
        assert_eq!(fresh("max-age=soon", None), None);
        assert_eq!(fresh("max-age=-1", None), None);
    }
}

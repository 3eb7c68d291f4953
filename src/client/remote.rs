//! A service as seen from here: where it is, whom to trust, what to show.

use std::{io, net::IpAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use super::{error::ConnectError, tls, token::TokenSource};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a peer that is silent is asked whether it lives, while something is under way.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to say so, before the connection counts as dead.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A service as seen from here.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where it is; see [`parse_endpoint`].
    pub endpoint: Uri,
    /// The certificates to trust, in PEM; those of the system when `None`.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show, when the service wants one.
    pub certificate: Option<ClientCertificate>,
    /// The token to show.
    pub token: TokenSource,
    /// Who is asking, `name/version`, for the service's log.
    pub user_agent: &'static str,
}

/// A certificate and its private key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and the authority.
    pub certificate_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Stream = TokioIo<Pin<Box<dyn Transport>>>;

impl Remote {
    /// Opens a channel. The files are read anew, so renewed certificates are used from here on.
    ///
    /// A channel connects again by itself when a connection is lost; a peer that is gone without a
    /// word fails the calls that wait for it within 20 s.
    ///
    /// # Errors
    /// The files cannot be used, or the service cannot be reached or is not the one meant.
    pub async fn connect(&self) -> Result<Channel, ConnectError> {
        let tls = match self.endpoint.scheme_str() {
            Some("https") => Some(TlsConnector::from(Arc::new(tls::client_config(self)?))),
            _ => None,
        };
        let connector = tower::service_fn(move |uri: Uri| connect(uri, tls.clone()));
        let unreachable = |error| ConnectError::unreachable(&self.endpoint, &error);
        Endpoint::from(self.endpoint.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .user_agent(self.user_agent)
            .map_err(unreachable)?
            .connect_with_connector(connector)
            .await
            .map_err(unreachable)
    }

    /// The request with the token as it is now.
    ///
    /// # Errors
    /// There is no usable token.
    pub async fn authorized<M>(&self, message: M) -> Result<Request<M>, ConnectError> {
        let mut request = Request::new(message);
        if self.token != TokenSource::None {
            let source = self.token.clone();
            let value = tokio::task::spawn_blocking(move || source.authorization())
                .await
                .map_err(|_| ConnectError::NoToken("the token was not read".into()))??;
            if let Some(value) = value {
                request.metadata_mut().insert("authorization", value);
            }
        }
        Ok(request)
    }
}

/// The address of a service: `https://host:port`, or `http://` on this machine alone.
///
/// # Errors
/// The text is something else.
pub fn parse_endpoint(text: &str) -> Result<Uri, ConnectError> {
    let refused = |why| ConnectError::Endpoint { endpoint: text.to_owned(), why };
    let uri: Uri = text.parse().map_err(|_| refused("write https://host:port"))?;
    let host = uri.host().ok_or_else(|| refused("write https://host:port"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(host) => Ok(uri),
        Some("http") => Err(refused("http is for this machine alone; use https")),
        _ => Err(refused("write https://host:port")),
    }
}

/// Whether a URI's host is this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || bare(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn connect(uri: Uri, tls: Option<TlsConnector>) -> io::Result<Stream> {
    let host = bare(uri.host().unwrap_or_default());
    let default_port = if tls.is_some() { 443 } else { 80 };
    let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(default_port))).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(TokioIo::new(Box::pin(tcp)));
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = tls.connect(name, tcp).await?;
    Ok(TokioIo::new(Box::pin(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for endpoint in
            ["https://a.example:1", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"]
        {
            assert!(parse_endpoint(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in [
            "http://a.example:1",
            "http://127.0.0.1.example:1",
            "a.example:1",
            "ftp://a.example",
            "",
        ] {
            assert!(parse_endpoint(endpoint).is_err(), "{endpoint}");
        }
    }
}

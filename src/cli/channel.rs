//! The channel to the service: TCP, TLS by rustls with the server's name verified, HTTP/2.

use std::{io, path::Path, pin::Pin, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::{
    connection::{Connection, Target},
    failure::{Exit, Failure, Outcome},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Where systems keep the certificates they trust.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Stream = TokioIo<Pin<Box<dyn Transport>>>;

/// Opens the channel.
///
/// # Errors
/// The certificates cannot be read, or the service cannot be reached or is not the one meant.
pub async fn open(target: &Target) -> Outcome<Channel> {
    let tls = match target.endpoint.scheme_str() {
        Some("https") => Some(TlsConnector::from(Arc::new(tls_config(&target.connection)?))),
        _ => None,
    };
    let connector = tower::service_fn(move |uri: Uri| connect(uri, tls.clone()));
    let endpoint = Endpoint::from(target.endpoint.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .user_agent(concat!("partnerctl/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| Failure::failed(error.to_string()))?;
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| unreachable_service(&target.endpoint, &error))
}

async fn connect(uri: Uri, tls: Option<TlsConnector>) -> io::Result<Stream> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
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

fn tls_config(connection: &Connection) -> Outcome<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::failed(error.to_string()))?
        .with_root_certificates(roots(connection.ca_file.as_deref())?);
    let mut config = match (&connection.client_cert_file, &connection.client_key_file) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| bad_pem(certificate, &error.to_string()))?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(file: Option<&Path>) -> Outcome<RootCertStore> {
    let file =
        file.or_else(|| SYSTEM_ROOTS.iter().map(Path::new).find(|file| file.exists())).ok_or_else(
            || Failure::usage("this system keeps no trusted certificates; give --ca-file"),
        )?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(file)?);
    if added == 0 {
        return Err(bad_pem(file, "it holds no certificate"));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| bad_pem(file, &error.to_string()))
}

fn private_key(file: &Path) -> Outcome<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| bad_pem(file, &error.to_string()))
}

fn bad_pem(file: &Path, why: &str) -> Failure {
    Failure::failed(format!("the file {} cannot be used: {why}", file.display()))
}

/// The whole chain of causes: only the innermost says what to mend.
fn unreachable_service(endpoint: &Uri, error: &tonic::transport::Error) -> Failure {
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !causes.iter().any(|known: &String| known.contains(&text)) {
            causes.push(text);
        }
        cause = inner.source();
    }
    let failure = Failure::new(Exit::Unavailable, format!("{endpoint} cannot be reached"));
    let failure = causes.iter().fold(failure, Failure::detail);
    let about_trust = causes.iter().any(|cause| cause.contains("certificate"));
    failure.detail(if about_trust {
        "to do: check that --ca-file is the service's and that the endpoint's host is its name"
    } else {
        "to do: check that the service runs and that the endpoint is right"
    })
}

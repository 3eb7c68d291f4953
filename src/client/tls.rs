//! TLS by rustls, with the server's name verified.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{error::ConnectError, remote::Remote};

/// Where systems keep the certificates they trust.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What is trusted and shown, read from the files as they are now.
pub fn client_config(remote: &Remote) -> Result<ClientConfig, ConnectError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has the default versions")
        .with_root_certificates(roots(remote.ca_file.as_deref())?);
    let mut config = match &remote.certificate {
        None => builder.with_no_client_auth(),
        Some(shown) => builder
            .with_client_auth_cert(
                certificates(&shown.certificate_file)?,
                private_key(&shown.key_file)?,
            )
            .map_err(|error| ConnectError::file("certificate", &shown.certificate_file, error))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, ConnectError> {
    let file = file
        .or_else(|| SYSTEM_ROOTS.iter().map(Path::new).find(|file| file.exists()))
        .ok_or(ConnectError::NothingTrusted)?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(file)?);
    if added == 0 {
        return Err(ConnectError::file("certificate", file, "it holds no certificate"));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| ConnectError::file("certificate", file, error))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, ConnectError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| ConnectError::file("key", file, error))
}

//! A server in this process, on port 0 and a temporary folder, and the people who call it.

pub mod actor;
pub mod process;
pub mod tokens;

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use partnerd::dev::DevFolder;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use actor::Actor;

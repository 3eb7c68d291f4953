//! A client of the service, for programs that stand on the other side of the wire.
//!
//! - [`Remote`] reaches a service: certificates, token, a channel that notices a dead peer.
//! - [`EventStream`] follows the partners and settings: every commit whole, once and in order,
//!   over as many connections as it takes.
//! - [`AuditStream`] follows the audit in the same way.
//! - [`Informer`] keeps a copy of them on top of that, and tells what changed and how fresh it is.
//!
//! Neither decides what a reader does about a failure. They report it, keep what they know, and try
//! again until they are dropped. `docs/clients.md` tells the same algorithm for other languages.

mod assembly;
mod audit;
mod backoff;
mod error;
mod informer;
mod remote;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod token;

pub use assembly::{Batch, Fault, Listing};
pub use audit::{AuditMessage, AuditStream};
pub use backoff::Backoff;
pub use error::{ConnectError, is_lost};
pub use informer::{Delta, Informer, Origin, Update};
pub use remote::{ClientCertificate, Remote, is_loopback, parse_endpoint};
pub use state::State;
pub use stream::{Cause, EventStream, Interruption, Message, Options};
pub use token::TokenSource;

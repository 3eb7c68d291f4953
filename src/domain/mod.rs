//! The model: what a partner is and what the rules are. No I/O, no async, no protobuf.

pub mod audit;
pub mod backup;
pub mod domain_name;
pub mod filter;
pub mod labels;
pub mod mask;
pub mod negotiation;
pub mod partner;
pub mod replica;
pub mod revision;
pub mod revocation;
pub mod role;
pub mod settings;
pub mod violation;

pub use domain_name::DomainName;
pub use partner::{AllowedPartner, Terms};
pub use revision::Revision;
pub use violation::Violation;

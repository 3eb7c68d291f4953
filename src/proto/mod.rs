//! The types generated from `proto/`, and the descriptors they were generated from.

pub mod backup;
pub mod codec;
pub mod page;
pub mod watch;

use std::fmt;

/// The public API, `xmpp.federation.v1`. Its comments are the API reference.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("xmpp.federation.v1");

    pub use super::page::ListAllowedPartnersResponse;
}

/// The encoded `FileDescriptorSet` of the API, method options included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));

impl fmt::Debug for v1::FederationSettings {
    /// Without the dialback passphrase, so that no log can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederationSettings")
            .field("mode", &self.mode())
            .field("connection_limit", &self.connection_limit)
            .field("partner_connection_limit", &self.partner_connection_limit)
            .field("dialback_passphrase_set", &self.dialback_passphrase_set)
            .field("revision", &self.revision)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::WatchEvent {
    /// Without the dialback passphrase, so that no log can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchEvent")
            .field("type", &self.r#type())
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("allowed_partner", &self.allowed_partner)
            .field("previous_allowed_partner", &self.previous_allowed_partner)
            .field("federation_settings", &self.federation_settings)
            .field("subject", &self.subject)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::BackupResponse {
    /// Without the data, which may hold the dialback passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupResponse").field("data", &self.data.len()).finish()
    }
}

impl fmt::Debug for v1::RestoreRequest {
    /// Without the data, which may hold the dialback passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreRequest")
            .field("options", &self.options)
            .field("data", &self.data.len())
            .finish()
    }
}

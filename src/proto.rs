//! The types generated from `proto/`, and the descriptors they were generated from.

/// The public API, `xmpp.federation.v1`. Its comments are the API reference.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("xmpp.federation.v1");
}

/// The encoded `FileDescriptorSet` of the API, method options included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));

//! Compiles the protos with protox, so nobody needs protoc installed.
//!
//! The encoded descriptor set keeps the extension bytes of our method options, which is what
//! lets the server read each RPC's permission at run time.

use std::{env, error::Error, fs, path::PathBuf};

const SERVICES: &[&str] = &[
    "xmpp/federation/v1/allowed_partner_service.proto",
    "xmpp/federation/v1/federation_settings_service.proto",
    "xmpp/federation/v1/role_service.proto",
    "xmpp/federation/v1/revocation_service.proto",
    "xmpp/federation/v1/audit_service.proto",
    "xmpp/federation/v1/maintenance_service.proto",
    "xmpp/federation/v1/replica_service.proto",
];

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script OUT_DIR in no other way")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(SERVICES)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor_set.bin"), compiler.encode_file_descriptor_set())?;

    // Ordered maps, so that equal messages have equal bytes: a request's fingerprint relies on it.
    tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(
            ".xmpp.federation.v1.ListAllowedPartnersResponse",
            "crate::proto::page::ListAllowedPartnersResponse",
        )
        .extern_path(
            ".xmpp.federation.v1.WatchAllowedPartnersResponse",
            "crate::proto::watch::WatchAllowedPartnersResponse",
        )
        .codec_path("crate::proto::codec::BoundedCodec")
        .skip_debug([
            "xmpp.federation.v1.BackupResponse",
            "xmpp.federation.v1.FederationSettings",
            "xmpp.federation.v1.RestoreRequest",
            "xmpp.federation.v1.WatchEvent",
        ])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

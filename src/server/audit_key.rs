//! The key that signs the audit's checkpoints: a file of its own beside the store.

use std::{fs, io, path::Path};

use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use crate::{
    domain::audit::SigningKey,
    files::{self, Access},
};

/// The file's name in the data folder.
pub const AUDIT_KEY_FILE: &str = "audit.key";

/// Reads the key in the folder, or makes one at the first start. Whoever has it can sign
/// checkpoints in the server's name, so it is for its owner alone.
///
/// # Errors
/// The file cannot be read or made, or holds no key.
pub fn open_or_create(folder: &Path) -> io::Result<SigningKey> {
    let path = folder.join(AUDIT_KEY_FILE);
    let about = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("the audit's signing key {}: {error}", path.display()))
    };
    match fs::read(&path) {
        Ok(pem) => {
            let document = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|it| about(&it))?;
            SigningKey::from_pkcs8(document.secret_pkcs8_der()).map_err(|it| about(&it))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SigningKey::generate();
            let document = key.to_pkcs8().map_err(|it| about(&it))?;
            files::create(&path, pem(&document).as_bytes(), Access::Private)
                .map_err(|it| about(&it))?;
            Ok(key)
        }
        Err(error) => Err(about(&error)),
    }
}

/// The document as PEM (RFC 7468).
fn pem(document: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(document);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let key = open_or_create(folder.path()).unwrap();
        let path = folder.path().join(AUDIT_KEY_FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = open_or_create(folder.path()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        fs::write(&path, "nonsense").unwrap();
        let error = open_or_create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("audit.key"), "{error}");
    }
}

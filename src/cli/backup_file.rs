//! A backup as a file: read, and held against its digest and its signature, without a service.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    failure::{Exit, Failure, Outcome},
    json::Json,
    output::{number, partners::time},
};
use crate::{
    domain::{
        audit::{PublicKey, from_hex},
        backup::Seal,
    },
    proto::{
        backup::{BadBackup, Reader, Whole},
        v1::{BackupHeader, BackupTrailer, backup_record::Record},
    },
};

/// How much is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// A backup that is whole and was signed by the key in it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What it says about itself.
    pub whole: Whole,
    has_passphrase: bool,
}

/// The same for programs.
#[derive(Serialize)]
pub struct Shown<'a> {
    header: Json<'a, BackupHeader>,
    trailer: Json<'a, BackupTrailer>,
}

/// Checks a backup as it comes.
#[derive(Debug, Default)]
pub struct Check {
    reader: Reader,
    has_passphrase: bool,
    records: usize,
}

impl Check {
    /// Takes the next piece.
    ///
    /// # Errors
    /// What is wrong with the backup.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), BadBackup> {
        let Self { reader, has_passphrase, records } = self;
        reader.read(piece, |_, record| {
            *records += 1;
            if let Record::FederationSettings(settings) = record {
                *has_passphrase |= !settings.dialback_passphrase.is_empty();
            }
        })
    }

    /// How many records have come, and how many are to come in all, once that is known.
    pub fn progress(&self) -> (usize, Option<usize>) {
        let header = self.reader.header();
        let counts = [
            header.partner_count,
            header.deleted_partner_count,
            header.role_count,
            header.revocation_count,
        ];
        let known = header.format > 0;
        let all = counts.iter().map(|count| usize::try_from(*count).unwrap_or(0)).sum::<usize>();
        (self.records, known.then_some(all + 1))
    }

    /// The backup, once all of it has come.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn end(self, signer: Option<PublicKey>) -> Result<Checked, String> {
        let whole = self.reader.end().map_err(|error| error.to_string())?;
        let Whole { digest, trailer, .. } = &whole;
        let seal = from_hex(&trailer.public_key)
            .zip(from_hex(&trailer.signature))
            .map(|(public_key, signature)| Seal { digest: *digest, public_key, signature })
            .filter(Seal::is_genuine);
        let seal = seal.ok_or("its signature is wrong; it was damaged or changed")?;
        if signer.is_some_and(|signer| signer != seal.public_key) {
            return Err(format!("it was signed by another key, {}", trailer.public_key));
        }
        Ok(Checked { whole, has_passphrase: self.has_passphrase })
    }
}

impl Checked {
    /// Reads and checks a file; `signer` is the key that must have signed it, if any.
    ///
    /// # Errors
    /// The file cannot be read, or is not a backup that can be believed.
    pub fn of_file(path: &Path, signer: Option<PublicKey>) -> Outcome<Self> {
        let failed = |error: io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let mut file = File::open(path).map_err(failed)?;
        let mut check = Check::default();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = file.read(&mut piece).map_err(failed)?;
            if length == 0 {
                return check.end(signer).map_err(|error| refused(path, &error));
            }
            check.take(&piece[..length]).map_err(|error| refused(path, &error.to_string()))?;
        }
    }

    /// What is in it, for people.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let Whole { header, trailer, .. } = &self.whole;
        let passphrase = if self.has_passphrase { "in the file, in the clear" } else { "not set" };
        vec![
            ("backup", "intact".to_owned()),
            ("revision", number(header.revision)),
            ("made", time(header.create_time.as_ref())),
            ("by version", header.server_version.clone()),
            ("partners", number(header.partner_count)),
            ("deleted partners", number(header.deleted_partner_count)),
            ("roles", number(header.role_count)),
            ("revocations", number(header.revocation_count)),
            ("dialback passphrase", passphrase.to_owned()),
            ("digest", trailer.digest.clone()),
            ("public key", trailer.public_key.clone()),
        ]
    }

    /// What is in it, for programs.
    pub const fn shown(&self) -> Shown<'_> {
        let Whole { header, trailer, .. } = &self.whole;
        Shown { header: Json(header), trailer: Json(trailer) }
    }
}

/// The key that a text means.
///
/// # Errors
/// The text is none.
pub fn public_key(text: &str) -> Result<PublicKey, String> {
    from_hex(text).ok_or_else(|| {
        "not a public key: 64 hexadecimal digits, as `audit verify` shows it".to_owned()
    })
}

/// A file that is no backup, or not one to be believed.
pub fn refused(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::No, format!("{}: {why}", PathBuf::from(path).display()))
}

//! Restore: a backup on its way in, piece by piece, until it is whole and can be believed.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::records::{self, Records};
use crate::{
    auth::{
        Call,
        permit::{Purpose, RestoreBackup},
    },
    domain::{
        Revision, Violation,
        audit::{PublicKey, from_hex, hex},
        backup::{Origin, Restored, Seal},
    },
    grpc::{
        TransferLimits,
        parse::{Broken, complete},
        status,
        tenure::Tenure,
    },
    proto::{
        backup::{Reader, Whole},
        v1 as pb,
    },
    registry::{
        self, Committed, Registry,
        restore::{Contents, Intake, Restoration},
    },
};

/// So much of a piece is looked at before others have their turn.
const TURN_BYTES: usize = 64 << 10;

/// A restore as its caller wants it.
#[derive(Debug)]
pub(super) struct Options {
    validate_only: bool,
    expected_revision: Option<Revision>,
    force: bool,
    /// The key that must have signed the backup, if any.
    pub signer: Option<PublicKey>,
    message: pb::RestoreOptions,
}

/// A stream that is being received.
pub(super) struct Upload {
    reader: Reader,
    records: Records,
    limits: TransferLimits,
    bytes: usize,
}

/// A backup that has come as a whole, is genuine, and keeps the rules.
pub(super) struct Received {
    origin: Origin,
    contents: Contents,
    header: pb::BackupHeader,
    seal: Seal,
}

impl Options {
    /// The options in the first message.
    pub fn of(message: Option<&pb::RestoreRequest>) -> Result<Self, Status> {
        let mut broken = Broken::default();
        let options = message.and_then(|message| message.options.clone());
        if options.is_none() {
            broken.add("options", "the first message has none; give them there");
        }
        let message = options.unwrap_or_default();
        let pb::RestoreOptions { request_id, validate_only, expected_revision, force, public_key } =
            &message;
        broken.retry("Restore", request_id, &message);
        let expected = records::revision(*expected_revision, "options.expected", &mut broken);
        let signer = match public_key.as_str() {
            "" => Some(None),
            text => from_hex(text).map(Some),
        };
        if signer.is_none() {
            broken.add("options.public_key", "not a key; give its 64 hexadecimal digits");
        }
        let (expected, signer) = complete(expected.zip(signer), broken)?;
        Ok(Self {
            validate_only: *validate_only,
            expected_revision: Some(expected).filter(|expected| *expected > Revision::ZERO),
            force: *force,
            signer,
            message,
        })
    }
}

impl Upload {
    pub fn new(intake: Intake, limits: TransferLimits) -> Self {
        Self { reader: Reader::default(), records: Records::into(intake), limits, bytes: 0 }
    }

    /// Receives the stream to its end. `first` is its first message.
    ///
    /// # Errors
    /// What is wrong with it; why it may not go on; DEADLINE_EXCEEDED if nothing comes for too long.
    pub async fn receive(
        mut self,
        first: pb::RestoreRequest,
        rest: &mut Streaming<pb::RestoreRequest>,
        tenure: &mut Tenure<RestoreBackup>,
        signer: Option<PublicKey>,
    ) -> Result<Received, Status> {
        self.take(&first.data).await?;
        while let Some(message) = next(rest, tenure, self.limits.patience).await? {
            if message.options.is_some() {
                let text = "only the first message has them";
                return Err(status::invalid(vec![Violation::new("options", text)]));
            }
            self.take(&message.data).await?;
        }
        self.finish(signer)
    }

    async fn take(&mut self, piece: &[u8]) -> Result<(), Status> {
        let most = self.limits.max_restore_bytes;
        self.bytes += piece.len();
        for part in piece.chunks(TURN_BYTES) {
            if self.bytes.max(self.records.bytes()) > most {
                let what = format!("the backup takes more than {most} bytes");
                return Err(status::restore_too_large(what, "limits.max_restore_bytes"));
            }
            let records = &mut self.records;
            self.reader
                .read(part, |number, record| records.take(number, &record))
                .map_err(status::bad_backup)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn finish(self, signer: Option<PublicKey>) -> Result<Received, Status> {
        // What the file says about itself comes first: rules broken by damage are no rules broken.
        let Whole { header, digest, trailer } = self.reader.end().map_err(status::bad_backup)?;
        let seal = from_hex(&trailer.public_key)
            .zip(from_hex(&trailer.signature))
            .map(|(public_key, signature)| Seal { digest, public_key, signature })
            .filter(Seal::is_genuine);
        let seal = seal.ok_or_else(|| {
            status::bad_backup("its signature is wrong; it was damaged or changed")
        })?;
        if signer.is_some_and(|signer| signer != seal.public_key) {
            let key = hex(&seal.public_key);
            return Err(status::bad_backup(format!("it was signed by another key, {key}")));
        }
        let (intake, mut broken) = self.records.finish();
        let path = "records[0].header";
        let revision = records::revision(header.revision, path, &mut broken);
        let time = records::moment(header.create_time, &format!("{path}.create_time"), &mut broken);
        let (revision, time) = complete(revision.zip(time), broken)?;
        let origin = Origin { revision, time, digest };
        let contents = intake.finish();
        let contents = contents.ok_or_else(|| status::bad_backup("it has no settings"))?;
        Ok(Received { origin, contents, header, seal })
    }
}

impl Received {
    /// Restores it.
    ///
    /// # Errors
    /// What the registry reports.
    pub async fn restore(
        self,
        registry: &Arc<Registry>,
        call: &Call,
        options: Options,
        max_changes: usize,
    ) -> Result<(pb::RestoreResponse, Revision), Status> {
        let Self { origin, contents, header, seal } = self;
        let Options { validate_only, expected_revision, force, signer: _, message } = options;
        let permit = registry.policy().permit_restore(call, Purpose::of(validate_only))?;
        let request = retry(&message, &origin)?;
        let restoration =
            Restoration { permit, origin, contents, expected_revision, force, max_changes };
        let Committed { result, revision } = registry.restore(restoration, request).await?;
        let Restored { created, updated, deleted, unchanged } = result;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let response = pb::RestoreResponse {
            revision: revision.as_i64(),
            created_count: count(created),
            updated_count: count(updated),
            deleted_count: count(deleted),
            unchanged_count: count(unchanged),
            backup: Some(header),
            backup_digest: hex(&origin.digest),
            backup_public_key: hex(&seal.public_key),
            signed_here: seal.public_key == registry.public_key(),
        };
        Ok((response, revision))
    }
}

/// The request as one that may be retried: the same options and the same file are the same request.
fn retry(
    options: &pb::RestoreOptions,
    origin: &Origin,
) -> Result<Option<registry::Request>, Status> {
    let content =
        pb::RestoreRequest { options: Some(options.clone()), data: origin.digest.to_vec() };
    let mut broken = Broken::default();
    let request = broken.retry("Restore", &options.request_id, &content);
    broken.refuse()?;
    Ok(request)
}

/// The next message; `None` at the end of the stream.
///
/// # Errors
/// Why the call may not go on; DEADLINE_EXCEEDED if nothing comes for as long as `patience`.
pub(super) async fn next(
    stream: &mut Streaming<pb::RestoreRequest>,
    tenure: &mut Tenure<RestoreBackup>,
    patience: Duration,
) -> Result<Option<pb::RestoreRequest>, Status> {
    tokio::select! {
        end = tenure.end() => Err(end),
        next = timeout(patience, stream.message()) => {
            next.unwrap_or_else(|_elapsed| Err(status::stalled(patience)))
        }
    }
}

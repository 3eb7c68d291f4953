//! `partnerctl restore`: everything as a backup has it.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use futures_util::{Stream, stream};

use super::{
    backup_file::{Checked, public_key},
    client::{Client, request_id},
    console::{confirm, count},
    failure::{Failure, Outcome},
    json::Json,
    output::{ObjectFormat, fields, number, partners::time},
    progress::Progress,
    session::{ChangeFlags, Session},
};
use crate::{
    domain::audit::{PublicKey, hex},
    proto::v1::{RestoreOptions, RestoreRequest, RestoreResponse},
};

/// Below the least that `limits.max_message_bytes` can be.
const PIECE_BYTES: usize = 12 << 10;

/// Make everything what a backup says, in one commit.
///
/// The file is checked first, here and by the service, and what would change is shown before it
/// is asked for confirmation. Then all of it is done, or nothing. What is as the backup says is
/// not touched. Partners and roles that the backup does not have are removed; the partners can
/// be brought back. Revocations that it does not have stay.
///
/// The history goes on, and so does the audit: neither is in a backup.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl restore --file partnerd-2026-11-30.backup --what-if
  partnerctl restore --file partnerd-2026-11-30.backup --reason 'disk lost'")]
pub struct RestoreArgs {
    /// The file that `backup` made
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,

    /// The key that must have signed the backup
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    public_key: Option<PublicKey>,

    #[command(flatten)]
    change: ChangeFlags,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl RestoreArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The file is not a backup to be believed, consent is not given, or the service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        let checked = Checked::of_file(&self.file, self.public_key)?;
        let client = session.client_for(&self.change).await?;
        let options = RestoreOptions {
            request_id: request_id(),
            validate_only: true,
            expected_revision: 0,
            force: self.change.force,
            public_key: self.public_key.map(|key| hex(&key)).unwrap_or_default(),
        };
        let preview = self.send(&client, "checked", &options).await?;
        let changes = preview.created_count + preview.updated_count + preview.deleted_count;
        if !preview.signed_here && !self.change.force {
            eprintln!("note: the backup was signed by another server's key");
        }
        if self.change.what_if || changes == 0 {
            let done = if changes == 0 { "nothing to do" } else { "what if; nothing was changed" };
            return self.show(session, done, &preview);
        }
        confirm(self.change.consent(), &question(&checked, &preview), &[])?;
        // What was shown is what is done: a change that came in between is looked at again.
        let options =
            RestoreOptions { validate_only: false, expected_revision: preview.revision, ..options };
        let done = self.send(&client, "restored", &options).await?;
        self.show(session, "restored", &done)
    }

    async fn send(
        &self,
        client: &Client,
        what: &'static str,
        options: &RestoreOptions,
    ) -> Outcome<RestoreResponse> {
        let failed = |error| Failure::failed(format!("{}: {error}", self.file.display()));
        let size = self.file.metadata().map_err(failed)?.len();
        let progress = Arc::new(Progress::new(what, usize::try_from(size).unwrap_or(usize::MAX)));
        client.restore(|| messages(&self.file, options.clone(), Arc::clone(&progress))).await
    }

    fn show(&self, session: &Session, verdict: &str, answer: &RestoreResponse) -> Outcome {
        let pairs = || {
            let backup = answer.backup.clone().unwrap_or_default();
            vec![
                ("restore", verdict.to_owned()),
                ("backup of revision", number(backup.revision)),
                ("made", time(backup.create_time.as_ref())),
                ("created", number(answer.created_count)),
                ("updated", number(answer.updated_count)),
                ("deleted", number(answer.deleted_count)),
                ("unchanged", number(answer.unchanged_count)),
                ("revision", number(answer.revision)),
            ]
        };
        Ok(self.output.print(&Json(answer), || fields(session.console, &pairs()))?)
    }
}

fn question(checked: &Checked, preview: &RestoreResponse) -> String {
    let header = &checked.whole.header;
    let count = |number: i64| count(usize::try_from(number).unwrap_or_default());
    format!(
        "Restore the backup of revision {} made at {}: {} to create, {} to change, {} to delete",
        header.revision,
        time(header.create_time.as_ref()),
        count(preview.created_count),
        count(preview.updated_count),
        count(preview.deleted_count)
    )
}

/// The options, and then the file piece by piece. A file that cannot be read any more ends early,
/// and the service refuses what it has of it.
fn messages(
    file: &Path,
    options: RestoreOptions,
    progress: Arc<Progress>,
) -> impl Stream<Item = RestoreRequest> + Send + use<> {
    let first = RestoreRequest { options: Some(options), data: Vec::new() };
    let pieces = File::open(file).into_iter().flat_map(move |mut file| {
        let progress = Arc::clone(&progress);
        std::iter::from_fn(move || {
            let mut data = vec![0; PIECE_BYTES];
            let length = file.read(&mut data).ok().filter(|length| *length > 0)?;
            data.truncate(length);
            progress.advance(length);
            Some(RestoreRequest { options: None, data })
        })
    });
    stream::iter(std::iter::once(first).chain(pieces))
}

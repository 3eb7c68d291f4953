//! `partnerctl backup`: everything in one file, or a look at such a file.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    backup_file::{Check, Checked, public_key, refused},
    console::partners,
    failure::{Exit, Failure, Outcome},
    output::{ObjectFormat, fields},
    progress::Progress,
    session::{ChangeFlags, Session},
};
use crate::{
    domain::audit::PublicKey,
    files::{Access, Draft},
};

/// Save everything in one file, or check such a file.
///
/// All of it is of one revision: partners, those deleted that can be brought back, settings,
/// roles and revocations. The history and the audit are not in it.
///
/// The file has the dialback passphrase in the clear and is as secret as that: it is made for
/// its owner alone (0600). It has its name only once it is complete and checked.
///
/// With --check a file is held against its digest and its signature, without a service. Compare
/// the public key with the one that `audit verify` shows, or give it by --public-key. Exits
/// with 8 when something is wrong.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl backup --file partnerd-2026-11-30.backup
  partnerctl backup --file - | age -r RECIPIENT > partnerd.backup.age
  partnerctl backup --check partnerd-2026-11-30.backup")]
pub struct BackupArgs {
    /// The file to write; - is standard output
    #[arg(long, short, value_name = "FILE", required_unless_present = "check")]
    file: Option<PathBuf>,

    /// Check this file instead, and show what it is of
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "force", "reason"])]
    check: Option<PathBuf>,

    /// Replace the file if there is one
    #[arg(long)]
    force: bool,

    /// The key that must have signed the backup
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    public_key: Option<PublicKey>,

    /// Why the backup is taken; kept in the audit
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl BackupArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses, the file cannot be written, or it is not a backup to be believed.
    pub async fn run(self, session: &Session) -> Outcome {
        if let Some(file) = &self.check {
            let checked = Checked::of_file(file, self.public_key)?;
            return self.show(session, &checked);
        }
        let file = self.file.as_deref().unwrap_or(Path::new("-"));
        if file == Path::new("-") {
            if io::stdout().is_terminal() {
                let what = "a backup is no text and has the passphrase in it";
                return Err(Failure::usage(format!("{what}; it is not written to a terminal")));
            }
            let checked = self.save(session, file, &mut io::stdout()).await?;
            eprintln!("saved: {}", told(&checked));
            return Ok(());
        }
        if !self.force && file.exists() {
            return Err(exists(file));
        }
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(file),
            _ => Failure::failed(format!("{}: {error}", file.display())),
        };
        let mut draft = Draft::of(file, Access::Private).map_err(failed)?;
        let checked = self.save(session, file, &mut draft).await?;
        let published = if self.force { draft.replace() } else { draft.create() };
        published.map_err(failed)?;
        eprintln!("saved: {}", told(&checked));
        self.show(session, &checked)
    }

    /// Writes the backup to `out` and checks it on the way.
    async fn save(&self, session: &Session, file: &Path, out: &mut impl Write) -> Outcome<Checked> {
        let reason = ChangeFlags { reason: self.reason.clone(), ..ChangeFlags::default() };
        let mut stream = session.client_for(&reason).await?.backup().await?;
        let mut check = Check::default();
        let mut progress = None;
        let mut told = 0;
        while let Some(message) = stream.message().await? {
            check.take(&message.data).map_err(|error| refused(file, &error.to_string()))?;
            out.write_all(&message.data)?;
            if let (done, Some(all)) = check.progress() {
                progress.get_or_insert_with(|| Progress::new("saved", all)).advance(done - told);
                told = done;
            }
        }
        out.flush()?;
        drop(progress);
        check.end(self.public_key).map_err(|error| refused(file, &error))
    }

    fn show(&self, session: &Session, checked: &Checked) -> Outcome {
        Ok(self.output.print(&checked.shown(), || fields(session.console, &checked.pairs()))?)
    }
}

fn exists(file: &Path) -> Failure {
    let message = format!("{}: there is such a file already", file.display());
    Failure::new(Exit::Conflict, message)
        .detail("to do: give another name, or --force to replace it")
}

fn told(checked: &Checked) -> String {
    let header = &checked.whole.header;
    let count = partners(usize::try_from(header.partner_count).unwrap_or_default());
    format!("{count} at revision {}", header.revision)
}

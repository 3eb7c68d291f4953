//! Partners: one file for each verb.

mod diff;
mod get;
mod history;
mod new;
pub mod properties;
mod remove;
mod resolve;
mod rollback;
pub mod selection;
pub mod set;
mod undelete;
pub mod write;

use clap::Subcommand;

use super::{failure::Outcome, session::Session};

/// What can be done with partners. Each is a command of its own too.
#[derive(Subcommand, Clone, Debug)]
pub enum PartnerCommand {
    Get(get::GetArgs),
    New(Box<new::NewArgs>),
    Set(Box<set::SetArgs>),
    Remove(remove::RemoveArgs),
    Undelete(undelete::UndeleteArgs),
    History(history::HistoryArgs),
    Diff(diff::DiffArgs),
    Rollback(rollback::RollbackArgs),
    Resolve(resolve::ResolveArgs),
}

impl PartnerCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// See the commands.
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Get(args) => args.run(session).await,
            Self::New(args) => args.run(session).await,
            Self::Set(args) => args.run(session).await,
            Self::Remove(args) => args.run(session).await,
            Self::Undelete(args) => args.run(session).await,
            Self::History(args) => args.run(session).await,
            Self::Diff(args) => args.run(session).await,
            Self::Rollback(args) => args.run(session).await,
            Self::Resolve(args) => args.run(session).await,
        }
    }
}

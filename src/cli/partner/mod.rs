//! Partners: one file for each verb.

mod get;
mod new;
pub mod properties;
mod remove;
mod resolve;
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
            Self::Resolve(args) => args.run(session).await,
        }
    }
}

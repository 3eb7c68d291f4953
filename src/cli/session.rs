//! What every command is given: where to connect, the contexts, the terminal.

use std::path::PathBuf;

use clap::Args;

use super::{
    client::Client,
    connection::ConnectionFlags,
    console::{Consent, Console},
    contexts::Contexts,
    failure::Outcome,
};
use crate::proto::v1::AllowedPartner;

/// What a command runs with.
#[derive(Debug)]
pub struct Session {
    /// The flags of the connection.
    pub flags: ConnectionFlags,
    /// The file of contexts.
    pub contexts_file: PathBuf,
    /// The terminal.
    pub console: Console,
}

/// The flags of every command that changes something.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Change")]
pub struct ChangeFlags {
    /// Show what would change, field by field, and change nothing
    #[arg(long)]
    pub what_if: bool,

    /// Do not ask for confirmation
    #[arg(long, short = 'y')]
    pub yes: bool,

    /// Do not print warnings
    #[arg(long)]
    pub force: bool,

    /// Why the change is made; kept in the history and the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl Session {
    /// Connects to the service.
    ///
    /// # Errors
    /// No service is named, or it cannot be reached.
    pub async fn client(&self) -> Outcome<Client> {
        self.connect(None).await
    }

    /// Connects to the service for a change.
    ///
    /// # Errors
    /// As for [`Session::client`].
    pub async fn client_for(&self, change: &ChangeFlags) -> Outcome<Client> {
        self.connect(change.reason.as_deref()).await
    }

    /// Reads the file of contexts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn contexts(&self) -> Outcome<Contexts> {
        Contexts::load(&self.contexts_file)
    }

    async fn connect(&self, reason: Option<&str>) -> Outcome<Client> {
        let target = self.flags.target(&self.contexts()?)?;
        Client::connect(&target, self.flags.timeout, reason).await
    }
}

impl ChangeFlags {
    /// Whether the user has agreed beforehand.
    pub fn consent(&self) -> Consent {
        if self.yes { Consent::Given } else { Consent::ToBeAsked }
    }

    /// Prints the warnings of a partner, unless they are silenced.
    pub fn warn(&self, partner: &AllowedPartner) {
        if self.force {
            return;
        }
        let domain = super::values::domain_of(&partner.name);
        for warning in &partner.warnings {
            eprintln!("warning: {domain}: {}", warning.text);
        }
    }
}

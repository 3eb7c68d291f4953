//! What every command is given: where to connect, the contexts, the terminal.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;

use super::{
    client::Client,
    connection::ConnectionFlags,
    console::{Consent, Console, count},
    contexts::Contexts,
    failure::Outcome,
    values::domain_of,
};
use crate::{client::Remote, proto::v1::AllowedPartner};

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

    /// The service that is meant.
    ///
    /// # Errors
    /// No service is named, or not in a usable way.
    pub fn remote(&self) -> Outcome<Remote> {
        self.flags.remote(&self.contexts()?)
    }

    /// Reads the file of contexts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn contexts(&self) -> Outcome<Contexts> {
        Contexts::load(&self.contexts_file)
    }

    async fn connect(&self, reason: Option<&str>) -> Outcome<Client> {
        let remote = self.remote()?;
        Client::connect(&remote, self.flags.timeout, reason).await
    }
}

impl ChangeFlags {
    /// Whether the user has agreed beforehand.
    pub fn consent(&self) -> Consent {
        if self.yes { Consent::Given } else { Consent::ToBeAsked }
    }

    /// Prints the warnings of partners, unless they are silenced.
    pub fn warn(&self, partners: &[AllowedPartner]) {
        if !self.force {
            warnings(partners).iter().for_each(|warning| eprintln!("warning: {warning}"));
        }
    }
}

/// The warnings of partners, each text once.
fn warnings(partners: &[AllowedPartner]) -> Vec<String> {
    let mut warned: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for partner in partners {
        for warning in &partner.warnings {
            warned.entry(&warning.text).or_default().push(domain_of(&partner.name));
        }
    }
    let told = warned.into_iter().map(|(text, domains)| match domains.as_slice() {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more: {text}", count(rest.len()))
        }
        few => format!("{}: {text}", few.join(", ")),
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::PartnerWarning;

    #[test]
    fn a_warning_of_many_partners_is_said_once() {
        let partner = |domain: &str| AllowedPartner {
            name: format!("allowedPartners/{domain}"),
            warnings: vec![PartnerWarning { text: "look".into(), ..Default::default() }],
            ..Default::default()
        };
        let mut partners: Vec<_> = ["a.example", "b.example"].map(partner).into();
        assert_eq!(warnings(&partners), ["a.example, b.example: look"]);
        partners.extend(["c.example", "d.example", "e.example"].map(partner));
        assert_eq!(warnings(&partners), ["a.example, b.example, c.example and 2 more: look"]);
        assert!(warnings(&[AllowedPartner::default()]).is_empty());
    }
}

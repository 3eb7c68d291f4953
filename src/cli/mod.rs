//! partnerctl: the commands, from the command line to the exit code.
//!
//! One file for each noun; partners, which are what it is about, have a file for each verb. How a
//! service is reached is `crate::client`'s.

mod additional_domains;
mod apply;
mod audit;
mod backup;
mod backup_file;
mod caller;
mod client;
mod config;
mod connection;
mod console;
mod contexts;
mod convergence;
mod diff;
mod export;
mod failure;
mod import;
mod input;
mod json;
mod output;
mod partner;
mod permission;
mod progress;
mod reference;
mod replica;
mod restore;
mod revocation;
mod role;
mod role_change;
mod session;
mod settings;
mod terms;
mod values;
mod watch;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

use connection::ConnectionFlags;
use console::{ColourChoice, Console};
use failure::{EXIT_CODES, Failure, Outcome};
use session::Session;

const HELP_WIDTH: usize = 80;

const WHICH_SERVICE: &str = "\
Which service:
  --endpoint, or PARTNERCTL_ENDPOINT; nothing else is looked at then
  the context of --context, or PARTNERCTL_CONTEXT
  ./partnerd-data/partnerctl.toml, as `partnerd serve --dev` leaves it
  the current context (`partnerctl config`)";

/// Administer the XMPP domains that we may federate with.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "partnerctl",
    version,
    max_term_width = HELP_WIDTH,
    after_help = "Start: `partnerctl get`, `partnerctl new contoso.com`, `partnerctl whoami`.",
    after_long_help = format!("{WHICH_SERVICE}\n\n{EXIT_CODES}"),
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct CommandLine {
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    #[arg(hide_short_help = true)]
    color: ColourChoice,

    #[command(flatten)]
    connection: ConnectionFlags,

    #[arg(long, hide = true, env = "NO_COLOR", hide_env = true)]
    no_color: Option<String>,

    #[arg(long, hide = true, env = "XDG_CONFIG_HOME", hide_env = true)]
    config_home: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    #[command(flatten)]
    Short(partner::PartnerCommand),
    /// Partners: the long form of get, new, set, remove and so on
    #[command(subcommand)]
    Partner(partner::PartnerCommand),
    Watch(watch::WatchArgs),
    Import(Box<import::ImportArgs>),
    Export(export::ExportArgs),
    Apply(apply::ApplyArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    /// The gateway-wide settings
    #[command(subcommand)]
    Settings(settings::SettingsCommand),
    /// The roles and what they allow
    #[command(subcommand)]
    Role(role::RoleCommand),
    /// Stop believing a token, a subject or a key
    #[command(subcommand)]
    Revoke(revocation::RevokeCommand),
    /// What was done and refused, and whether the record of it is whole
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// What was revoked
    #[command(subcommand)]
    Revocation(revocation::RevocationCommand),
    /// The XMPP servers that follow the service, and how far each is
    #[command(subcommand)]
    Replica(replica::ReplicaCommand),
    Whoami(caller::WhoamiArgs),
    CanI(caller::CanIArgs),
    Status(caller::StatusArgs),
    /// The contexts: which services there are, and which is meant
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Completion(reference::CompletionArgs),
    Man(reference::ManArgs),
    /// Print the reference of all commands in Markdown
    #[command(hide = true)]
    Reference,
}

/// Runs the program and tells how it ended.
pub fn main() -> ExitCode {
    let line = match parse(std::env::args_os()) {
        Ok(line) => line,
        Err(error) => {
            // A closed pipe is no reason to fail while showing help.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match run(line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(arguments)
}

fn run(line: CommandLine) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the program cannot start: {error}")))?;
    runtime.block_on(line.run())
}

impl CommandLine {
    async fn run(self) -> Outcome {
        let session = Session {
            contexts_file: contexts_file(self.config_home.as_deref()),
            console: Console::detect(self.color, self.no_color.as_deref()),
            flags: self.connection,
        };
        match self.command {
            Command::Short(command) | Command::Partner(command) => command.run(&session).await,
            Command::Watch(args) => args.run(&session).await,
            Command::Import(args) => args.run(&session).await,
            Command::Export(args) => args.run(&session).await,
            Command::Apply(args) => args.run(&session).await,
            Command::Backup(args) => args.run(&session).await,
            Command::Restore(args) => args.run(&session).await,
            Command::Settings(command) => command.run(&session).await,
            Command::Role(command) => command.run(&session).await,
            Command::Revoke(command) => command.run(&session).await,
            Command::Audit(command) => command.run(&session).await,
            Command::Revocation(command) => command.run(&session).await,
            Command::Replica(command) => command.run(&session).await,
            Command::Whoami(args) => args.run(&session).await,
            Command::CanI(args) => args.run(&session).await,
            Command::Status(args) => args.run(&session).await,
            Command::Config(command) => command.run(&session),
            Command::Completion(args) => args.run(Self::command()),
            Command::Man(args) => args.run(Self::command()),
            Command::Reference => {
                Ok(output::line(reference::markdown(&Self::command()).trim_end())?)
            }
        }
    }
}

/// Where the contexts are kept, after the XDG base directory specification.
fn contexts_file(config_home: Option<&Path>) -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".config");
    let folder = config_home.filter(|folder| folder.is_absolute());
    folder.map_or_else(home, Path::to_path_buf).join("partnerctl/config.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_reference_is_the_help_of_this_program() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/partnerctl.md");
        let page = reference::markdown(&CommandLine::command());
        if option_env!("UPDATE_REFERENCE").is_some() {
            std::fs::write(&file, &page).unwrap();
        }
        let stored = std::fs::read_to_string(&file).unwrap();
        assert!(
            stored == page,
            "docs/partnerctl.md is stale; write it anew: UPDATE_REFERENCE=1 cargo test --lib reference"
        );
    }

    #[test]
    fn no_line_of_the_help_is_over_80_columns() {
        let page = reference::markdown(&CommandLine::command());
        let long: Vec<_> = page.lines().filter(|line| line.chars().count() > HELP_WIDTH).collect();
        assert!(long.is_empty(), "{long:#?}");
    }
}

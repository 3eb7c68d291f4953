//! The commands of `partnerd`.

mod agent;
mod serve;
mod settings;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

pub use self::serve::OpenStore;
use self::{serve::ServeArgs, settings::SettingsArgs, token::TokenArgs};
use crate::{
    agent::AgentArgs,
    certs::{self, CertsArgs},
    config::Config,
    server::{StartError, credentials},
};

/// The system of record for XMPP federation partners
#[derive(Debug, Parser)]
#[command(name = "partnerd", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer calls until told to stop
    Serve(ServeArgs),
    /// Follow the service beside an XMPP server and make that server obey
    Agent(Box<AgentArgs>),
    /// Make certificates for development: an authority, a server's and clients'
    Certs(CertsArgs),
    /// Print a token for a development server
    Token(TokenArgs),
    /// Check a configuration and the files it names, and start nothing
    CheckConfig(SettingsArgs),
}

/// Why a command failed: lines for the person who gave it.
type Failure = Box<dyn std::error::Error>;

impl Cli {
    /// Carries out the command. What goes wrong is told on standard error, a line each.
    ///
    /// Exit codes: 0 done, 1 failed, 2 (by clap, before this) misused.
    pub fn run(self, open_store: OpenStore) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(args) => args.run(open_store).map_err(Failure::from),
            Command::Agent(args) => agent::run(&args),
            Command::Certs(args) => make_certificates(&args),
            Command::Token(args) => args.run(),
            Command::CheckConfig(args) => check(&args).map_err(Failure::from),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                for line in failure.to_string().lines() {
                    eprintln!("error: {line}");
                }
                ExitCode::FAILURE
            }
        }
    }
}

fn make_certificates(args: &CertsArgs) -> Result<(), Failure> {
    for path in certs::make(args, Timestamp::now())? {
        println!("{}", path.display());
    }
    Ok(())
}

fn check(args: &SettingsArgs) -> Result<(), StartError> {
    let config = Config::load(&args.layers()?)?;
    credentials(&config)?;
    println!("the configuration is sound");
    Ok(())
}

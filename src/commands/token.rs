//! `partnerd token`: a token for trying things out, signed by a development server's own key.

use std::path::PathBuf;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use super::Failure;
use crate::dev::{self, DevFolder};

#[derive(Args, Clone, Debug)]
pub(super) struct TokenArgs {
    /// A role that the token gives, such as viewer. Repeatable
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<String>,

    /// Whose token it is [default: dev-ROLE]
    #[arg(long)]
    subject: Option<String>,

    /// How long it is valid, such as 15m or 24h; at most 30 days
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    ttl: SignedDuration,

    /// The development server's folder
    #[arg(long, value_name = "DIR", env = "PARTNERD_DATA_DIR", default_value = dev::DEFAULT_PATH)]
    data_dir: PathBuf,
}

impl TokenArgs {
    /// Prints the token and nothing else, so that `$(partnerd token --role viewer)` is one.
    pub fn run(self) -> Result<(), Failure> {
        let Self { roles, subject, ttl, data_dir } = self;
        let subject = subject.unwrap_or_else(|| format!("dev-{}", roles.join("-")));
        let folder = DevFolder::open(&data_dir)?;
        let token = folder.issue_token(&roles, &subject, ttl, Timestamp::now())?;
        println!("{}", token.expose_secret());
        Ok(())
    }
}

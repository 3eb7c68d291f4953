//! What an agent drives: a server with our module, or a file and a command of the operator's.

mod ejabberd;
mod files;
mod prosody;

use std::{
    future::Future,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ejabberd::Ejabberd;
use files::Files;
use prosody::Prosody;
use tokio::time::timeout;

use super::{
    Answer, Touched,
    data_file::DataFile,
    options::{Options, OptionsError, Server},
    roster::Roster,
};

/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// And when it reads everything anew.
const BASE_TIMEOUT: Duration = Duration::from_secs(60);

/// What an agent drives.
#[derive(Debug)]
pub enum Target {
    /// A server with our module, which reads a data file.
    Module(Box<Module>),
    /// A file of any form, and a command that makes a server read it.
    Files(Box<Files>),
}

/// A server with our module.
#[derive(Debug)]
pub struct Module {
    /// Lent to the thread that writes; always back by the next call.
    file: Option<DataFile>,
    path: PathBuf,
    bell: Bell,
}

/// The way to a module.
#[derive(Debug)]
pub enum Bell {
    Prosody(Prosody),
    Ejabberd(Ejabberd),
}

/// What a server says, held against what it was told.
#[derive(Debug)]
pub struct Reply {
    pub answer: Answer,
    /// Whether it enforces what it was told last.
    pub in_step: bool,
}

/// A command to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Apply,
    Status,
}

impl Target {
    /// The target that the options name.
    ///
    /// # Errors
    /// What the options say of it cannot be used.
    pub fn of(options: &Options) -> Result<Self, OptionsError> {
        let module = |path: &PathBuf, bell| {
            let file = Some(DataFile::new(path.clone()));
            Self::Module(Box::new(Module { file, path: path.clone(), bell }))
        };
        Ok(match &options.server {
            Server::Prosody { data_file, socket } => {
                module(data_file, Bell::Prosody(Prosody::new(socket.clone())))
            }
            Server::Ejabberd { data_file, api } => {
                module(data_file, Bell::Ejabberd(Ejabberd::new(api.clone())))
            }
            Server::Files(files) => Self::Files(Box::new(Files::new(files.clone())?)),
        })
    }

    /// Puts a roster in force, which differs from the last one in no more than `touched` says.
    ///
    /// # Errors
    /// Why nothing is known of what the server does now, for people.
    pub async fn apply(
        &mut self,
        roster: Roster,
        touched: Touched,
        heard: Option<SystemTime>,
    ) -> Result<Reply, String> {
        match self {
            Self::Files(files) => files.apply(roster, heard).await,
            Self::Module(module) => module.apply(roster, touched, heard).await,
        }
    }

    /// Asks how the server is.
    ///
    /// # Errors
    /// As for [`Target::apply`].
    pub async fn ask(&mut self, heard: Option<SystemTime>) -> Result<Reply, String> {
        match self {
            Self::Files(files) => files.look(heard).await,
            Self::Module(module) => module.command(Command::Status, heard, ANSWER_TIMEOUT).await,
        }
    }
}

impl Module {
    async fn apply(
        &mut self,
        roster: Roster,
        touched: Touched,
        heard: Option<SystemTime>,
    ) -> Result<Reply, String> {
        let mut file = self.file.take().unwrap_or_else(|| DataFile::new(self.path.clone()));
        let writing = tokio::task::spawn_blocking(move || {
            let outcome = file.write(roster, &touched);
            (file, outcome)
        });
        let (file, outcome) = writing.await.map_err(|error| error.to_string())?;
        self.file = Some(file);
        let is_base = outcome
            .map_err(|error| format!("{} cannot be written: {error}", self.path.display()))?;
        let patience = if is_base { BASE_TIMEOUT } else { ANSWER_TIMEOUT };
        self.command(Command::Apply, heard, patience).await
    }

    async fn command(
        &self,
        command: Command,
        heard: Option<SystemTime>,
        patience: Duration,
    ) -> Result<Reply, String> {
        let text = match &self.bell {
            Bell::Prosody(prosody) => answered(patience, prosody.command(command, heard)).await?,
            Bell::Ejabberd(ejabberd) => {
                answered(patience, ejabberd.command(command, heard)).await?
            }
        };
        let answer = Answer::parse(&text)?;
        let file = self.file.as_ref();
        let in_step = file.and_then(DataFile::digest).is_some_and(|told| told == answer.digest);
        if let Some(file) = file.filter(|_| in_step) {
            file.remove_old_passphrases();
        }
        Ok(Reply { answer, in_step })
    }
}

async fn answered(
    patience: Duration,
    exchange: impl Future<Output = Result<String, String>>,
) -> Result<String, String> {
    timeout(patience, exchange).await.unwrap_or_else(|_| {
        Err(format!("the server has not answered within {} s", patience.as_secs()))
    })
}

/// Whole seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

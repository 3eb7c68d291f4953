//! `partnerctl config`: the contexts.

use clap::Subcommand;

use super::{
    console::Paint,
    failure::{Failure, Outcome},
    output::{
        self,
        table::{self, Column, Text},
    },
    session::Session,
};

/// What can be done with contexts.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigCommand {
    /// List the contexts
    GetContexts,
    /// Print the name of the current context
    CurrentContext,
    /// Make a context the current one
    UseContext {
        /// The context
        name: String,
    },
    /// Add a context, or change one: what it holds are the connection flags given
    #[command(after_help = "\
Example:
  partnerctl config set-context prod --ca-file ca.pem \\
      --endpoint https://partners.example.com:8443 --token-file token")]
    SetContext {
        /// The context
        name: String,
    },
    /// Remove a context
    DeleteContext {
        /// The context
        name: String,
    },
    /// Print the file of contexts
    View,
}

impl ConfigCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such context, or the file cannot be read or written.
    pub fn run(self, session: &Session) -> Outcome {
        let mut contexts = session.contexts()?;
        match self {
            Self::GetContexts => return list(session),
            Self::CurrentContext => {
                let current =
                    contexts.current().ok_or_else(|| Failure::failed("none is current"))?;
                return Ok(output::line(current)?);
            }
            Self::View => {
                let file = session.contexts_file.display();
                output::line(format_args!("# {file}"))?;
                return Ok(output::line(contexts.to_toml()?.trim_end())?);
            }
            Self::UseContext { name } => contexts.select(&name)?,
            Self::DeleteContext { name } => contexts.delete(&name)?,
            Self::SetContext { name } => {
                contexts.set(&name, session.flags.connection.clone().absolute()?);
                if contexts.get(&name)?.endpoint.is_none() {
                    return Err(Failure::usage("a context needs an endpoint; give --endpoint"));
                }
                if contexts.iter().count() == 1 {
                    contexts.select(&name)?;
                }
            }
        }
        contexts.save(&session.contexts_file)
    }
}

fn list(session: &Session) -> Outcome {
    const COLUMNS: &[Column] =
        &[Column::fixed("CURRENT"), Column::fixed("NAME"), Column::flexible("ENDPOINT")];
    let contexts = session.contexts()?;
    let row = |(name, connection): (&str, &super::connection::Connection)| {
        let current = contexts.current() == Some(name);
        let mark = if current { Text::painted("*", Paint::Green) } else { "".into() };
        vec![mark, name.into(), connection.endpoint.clone().unwrap_or_default().into()]
    };
    let rows = contexts.iter().map(row).collect();
    let text = table::render(session.console, COLUMNS, rows, true, &mut Vec::new());
    Ok(output::line(text.trim_end())?)
}

//! Where the service is and how to be let in: flags, environment, contexts, the development
//! server in the current folder.
//!
//! A source is taken whole. With an endpoint on the command line, nothing comes from a context or
//! from the development server, so a token never goes to a server it was not meant for.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use http::Uri;
use serde::{Deserialize, Serialize};

use super::{
    contexts::Contexts,
    failure::{Failure, Outcome},
    values,
};
use crate::client::{ClientCertificate, Remote, TokenSource, is_loopback, parse_endpoint};

const USER_AGENT: &str = concat!("partnerctl/", env!("CARGO_PKG_VERSION"));

/// What a development server leaves in its data folder for this client.
const DEV_FILE: &str = "partnerd-data/partnerctl.toml";

/// What it takes to reach a service.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The service, for example https://partners.example.com:8443
    #[arg(long, global = true, value_name = "URL", env = "PARTNERCTL_ENDPOINT")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// The certificates to trust, in PEM [default: those of the system]
    #[arg(long, global = true, value_name = "FILE", env = "PARTNERCTL_CA_FILE")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,

    /// The file that holds the bearer token
    #[arg(long, global = true, value_name = "FILE", env = "PARTNERCTL_TOKEN_FILE")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,

    /// A command that prints the bearer token; run by the shell
    #[arg(long, global = true, value_name = "COMMAND", env = "PARTNERCTL_TOKEN_COMMAND")]
    #[arg(hide_short_help = true, hide_env_values = true, conflicts_with = "token_file")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_command: Option<String>,

    /// The client certificate, in PEM, when the service wants one
    #[arg(long, global = true, value_name = "FILE", env = "PARTNERCTL_CLIENT_CERT_FILE")]
    #[arg(hide_short_help = true, hide_env_values = true, requires = "client_key_file")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_file: Option<PathBuf>,

    /// The private key of the client certificate, in PEM
    #[arg(long, global = true, value_name = "FILE", env = "PARTNERCTL_CLIENT_KEY_FILE")]
    #[arg(hide_short_help = true, hide_env_values = true, requires = "client_cert_file")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<PathBuf>,
}

/// The flags of every command that talks to a service.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionFlags {
    #[command(flatten)]
    pub(super) connection: Connection,

    /// The context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME", env = "PARTNERCTL_CONTEXT")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    pub(super) context: Option<String>,

    /// How long one request may take
    #[arg(long, global = true, value_name = "TIME", default_value = "30s")]
    #[arg(hide_short_help = true, value_parser = values::duration)]
    pub timeout: Duration,
}

impl ConnectionFlags {
    /// Finds out where to connect to.
    ///
    /// # Errors
    /// No source names an endpoint, or the one named cannot be used.
    pub fn remote(&self, contexts: &Contexts) -> Outcome<Remote> {
        self.remote_in(Path::new("."), contexts)
    }

    fn remote_in(&self, folder: &Path, contexts: &Contexts) -> Outcome<Remote> {
        self.source(folder, contexts)?.remote()
    }

    fn source(&self, folder: &Path, contexts: &Contexts) -> Outcome<Connection> {
        if self.connection.endpoint.is_some() && self.context.is_none() {
            return Ok(self.connection.clone());
        }
        let dev_server = match self.context {
            Some(_) => None,
            None => dev_server(folder)?,
        };
        let base = match (dev_server, self.context.as_deref().or(contexts.current())) {
            (Some(connection), _) => connection,
            (None, Some(name)) => contexts.get(name)?.clone(),
            (None, None) => return Err(nowhere()),
        };
        Ok(self.connection.clone().or(base))
    }
}

impl Connection {
    /// These values, and those of `other` where there are none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let has_token = self.token_file.is_some() || self.token_command.is_some();
        let (token_file, token_command) = if has_token {
            (self.token_file, self.token_command)
        } else {
            (other.token_file, other.token_command)
        };
        Self {
            endpoint: self.endpoint.or(other.endpoint),
            ca_file: self.ca_file.or(other.ca_file),
            token_file,
            token_command,
            client_cert_file: self.client_cert_file.or(other.client_cert_file),
            client_key_file: self.client_key_file.or(other.client_key_file),
        }
    }

    fn remote(self) -> Outcome<Remote> {
        let endpoint = parse_endpoint(self.endpoint.as_deref().ok_or_else(nowhere)?)?;
        let token = match (self.token_file, self.token_command) {
            (Some(file), _) => TokenSource::File(file),
            (None, Some(command)) => TokenSource::Command(command),
            (None, None) => TokenSource::None,
        };
        let certificate = self.client_cert_file.zip(self.client_key_file);
        let certificate = certificate
            .map(|(certificate_file, key_file)| ClientCertificate { certificate_file, key_file });
        let (ca_file, user_agent) = (self.ca_file, USER_AGENT);
        Ok(Remote { endpoint, ca_file, certificate, token, user_agent })
    }

    /// The same with its paths made absolute, so that it holds from any folder.
    ///
    /// # Errors
    /// The current folder is unknown.
    pub fn absolute(self) -> Outcome<Self> {
        Ok(self.relative_to(&std::env::current_dir()?))
    }

    fn relative_to(self, folder: &Path) -> Self {
        let place = |file: Option<PathBuf>| file.map(|file| folder.join(file));
        Self {
            ca_file: place(self.ca_file),
            token_file: place(self.token_file),
            client_cert_file: place(self.client_cert_file),
            client_key_file: place(self.client_key_file),
            ..self
        }
    }
}

/// What the development server below `folder` left, if there is one.
fn dev_server(folder: &Path) -> Outcome<Option<Connection>> {
    let file = folder.join(DEV_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable("connection", &file, &error)),
    };
    let connection: Connection = toml::from_str(&text)
        .map_err(|error| Failure::failed(format!("{}: {}", file.display(), error.message())))?;
    refuse_a_trap(&file, &connection)?;
    Ok(Some(connection.relative_to(file.parent().unwrap_or(folder))))
}

/// The file is believed because of the folder one happens to be in, so it may run nothing and send
/// a token nowhere but to this machine.
fn refuse_a_trap(file: &Path, connection: &Connection) -> Outcome<()> {
    let uri: Option<Uri> = connection.endpoint.as_deref().and_then(|text| text.parse().ok());
    let host = uri.as_ref().and_then(Uri::host);
    if connection.token_command.is_none() && host.is_some_and(is_loopback) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} is not what a development server leaves: it may name a server on this machine and a \
         token file, nothing else; remove it, or leave this folder",
        file.display()
    )))
}

fn unreadable(what: &str, file: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("the {what} file {} cannot be read: {error}", file.display()))
}

fn nowhere() -> Failure {
    Failure::usage("no service is named; do one of these:")
        .detail("run `partnerd serve --dev` in this folder")
        .detail("give --endpoint, --ca-file and --token-file")
        .detail("set PARTNERCTL_ENDPOINT, PARTNERCTL_CA_FILE and PARTNERCTL_TOKEN_FILE")
        .detail("make a context: `partnerctl config set-context prod --endpoint https://...`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    fn flags(connection: Connection) -> ConnectionFlags {
        ConnectionFlags { connection, context: None, timeout: Duration::from_secs(1) }
    }

    fn at(endpoint: &str) -> Connection {
        Connection { endpoint: Some(endpoint.into()), ..Connection::default() }
    }

    fn with_current_context() -> Contexts {
        let mut contexts = Contexts::default();
        let connection = Connection { token_file: Some("secret".into()), ..at("https://prod:1") };
        contexts.set("prod", connection);
        contexts.select("prod").unwrap();
        contexts
    }

    #[test]
    fn an_endpoint_on_the_command_line_gets_no_token_of_a_context() {
        let (folder, contexts) = (tempfile::tempdir().unwrap(), with_current_context());
        let remote = flags(at("https://other:1")).remote_in(folder.path(), &contexts).unwrap();
        assert_eq!(remote.token, TokenSource::None);
        let remote = flags(Connection::default()).remote_in(folder.path(), &contexts).unwrap();
        assert_eq!(remote.token, TokenSource::File("secret".into()));
    }

    #[test]
    fn the_development_server_of_the_folder_comes_before_the_current_context() {
        let (folder, contexts) = (tempfile::tempdir().unwrap(), with_current_context());
        fs::create_dir(folder.path().join("partnerd-data")).unwrap();
        let leave = |text: &str| fs::write(folder.path().join(DEV_FILE), text).unwrap();
        leave("endpoint = 'https://127.0.0.1:1'");
        let found = flags(Connection::default()).remote_in(folder.path(), &contexts).unwrap();
        assert_eq!(found.endpoint.to_string(), "https://127.0.0.1:1/");
        let named =
            ConnectionFlags { context: Some("prod".into()), ..flags(Connection::default()) };
        let found = named.remote_in(folder.path(), &contexts).unwrap();
        assert_eq!(found.endpoint.to_string(), "https://prod:1/");
        for trap in [
            "endpoint = 'https://evil.example:1'",
            "endpoint = 'https://127.0.0.1:1'\ntoken_command = 'true'",
            "",
        ] {
            leave(trap);
            let refused = flags(Connection::default()).remote_in(folder.path(), &contexts);
            assert_eq!(refused.unwrap_err().exit(), Exit::Usage, "{trap}");
        }
    }

    #[test]
    fn an_unknown_context_is_an_error_that_lists_the_known_ones() {
        let flags =
            ConnectionFlags { context: Some("test".into()), ..flags(Connection::default()) };
        let failure = flags.remote_in(Path::new("."), &with_current_context()).unwrap_err();
        assert!(failure.to_string().contains("prod"), "{failure}");
    }

    #[test]
    fn the_development_servers_files_are_found_beside_its_connection_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("partnerd-data")).unwrap();
        fs::write(
            folder.path().join(DEV_FILE),
            "endpoint = 'https://127.0.0.1:1'\nca_file = 'ca.pem'\ntoken_file = '/abs/token'\n",
        )
        .unwrap();
        let connection = dev_server(folder.path()).unwrap().unwrap();
        assert_eq!(connection.ca_file, Some(folder.path().join("partnerd-data/ca.pem")));
        assert_eq!(connection.token_file, Some("/abs/token".into()));
        assert_eq!(dev_server(&folder.path().join("elsewhere")).unwrap(), None);
    }
}

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
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{
    contexts::Contexts,
    failure::{Exit, Failure, Outcome},
    values,
};

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

/// A connection that can be made.
#[derive(Debug)]
pub struct Target {
    /// The service.
    pub endpoint: Uri,
    /// The rest of what it takes.
    pub connection: Connection,
}

impl ConnectionFlags {
    /// Finds out where to connect to.
    ///
    /// # Errors
    /// No source names an endpoint, or the one named cannot be used.
    pub fn target(&self, contexts: &Contexts) -> Outcome<Target> {
        self.target_in(Path::new("."), contexts)
    }

    fn target_in(&self, folder: &Path, contexts: &Contexts) -> Outcome<Target> {
        let connection = self.source(folder, contexts)?;
        let endpoint = connection.endpoint.as_deref().ok_or_else(nowhere)?;
        Ok(Target { endpoint: checked_endpoint(endpoint)?, connection })
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

    /// The bearer token, if a source of one is given.
    ///
    /// # Errors
    /// The file cannot be read, the command fails, or either gives no token.
    pub fn token(&self) -> Outcome<Option<SecretString>> {
        let (text, origin) = if let Some(file) = &self.token_file {
            let text =
                fs::read_to_string(file).map_err(|error| unreadable("token", file, &error))?;
            (text, format!("the token file {}", file.display()))
        } else if let Some(command) = &self.token_command {
            (output_of(command)?, "the token command".to_owned())
        } else {
            return Ok(None);
        };
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::new(
                Exit::Denied,
                format!("{origin} gives no token; it must hold one JWT and nothing else"),
            ));
        }
        Ok(Some(token.into()))
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

fn checked_endpoint(text: &str) -> Outcome<Uri> {
    let refused =
        |why: &str| Failure::usage(format!("the endpoint `{text}` cannot be used: {why}"));
    let uri: Uri = text.parse().map_err(|_| refused("write https://host:port"))?;
    let host = uri.host().ok_or_else(|| refused("write https://host:port"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(host) => Ok(uri),
        Some("http") => Err(refused("http is for this machine alone; use https")),
        _ => Err(refused("write https://host:port")),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn output_of(command: &str) -> Outcome<String> {
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| Failure::failed(format!("the token command did not start: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(
            Exit::Denied,
            format!("the token command failed: {}", output.status),
        ));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(Exit::Denied, "the token command prints no text"))
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
    use secrecy::ExposeSecret;

    use super::*;

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
    fn plain_http_is_for_loopback_alone() {
        for endpoint in
            ["https://a.example:1", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"]
        {
            assert!(checked_endpoint(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in [
            "http://a.example:1",
            "http://127.0.0.1.example:1",
            "a.example:1",
            "ftp://a.example",
            "",
        ] {
            assert!(checked_endpoint(endpoint).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn an_endpoint_on_the_command_line_gets_no_token_of_a_context() {
        let (folder, contexts) = (tempfile::tempdir().unwrap(), with_current_context());
        let target = flags(at("https://other:1")).target_in(folder.path(), &contexts).unwrap();
        assert_eq!(target.connection.token_file, None);
        let target = flags(Connection::default()).target_in(folder.path(), &contexts).unwrap();
        assert_eq!(target.connection.token_file, Some("secret".into()));
    }

    #[test]
    fn the_development_server_of_the_folder_comes_before_the_current_context() {
        let (folder, contexts) = (tempfile::tempdir().unwrap(), with_current_context());
        fs::create_dir(folder.path().join("partnerd-data")).unwrap();
        let leave = |text: &str| fs::write(folder.path().join(DEV_FILE), text).unwrap();
        leave("endpoint = 'https://127.0.0.1:1'");
        let found = flags(Connection::default()).target_in(folder.path(), &contexts).unwrap();
        assert_eq!(found.endpoint.to_string(), "https://127.0.0.1:1/");
        let named =
            ConnectionFlags { context: Some("prod".into()), ..flags(Connection::default()) };
        let found = named.target_in(folder.path(), &contexts).unwrap();
        assert_eq!(found.endpoint.to_string(), "https://prod:1/");
        for trap in [
            "endpoint = 'https://evil.example:1'",
            "endpoint = 'https://127.0.0.1:1'\ntoken_command = 'true'",
            "",
        ] {
            leave(trap);
            let refused = flags(Connection::default()).target_in(folder.path(), &contexts);
            assert_eq!(refused.unwrap_err().exit(), Exit::Usage, "{trap}");
        }
    }

    #[test]
    fn an_unknown_context_is_an_error_that_lists_the_known_ones() {
        let flags =
            ConnectionFlags { context: Some("test".into()), ..flags(Connection::default()) };
        let failure = flags.target_in(Path::new("."), &with_current_context()).unwrap_err();
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

    #[test]
    fn a_token_comes_from_a_file_or_a_command_and_must_be_one_word() {
        let command = |command: &str| {
            let token_command = Some(command.to_owned());
            Connection { token_command, ..Connection::default() }.token()
        };
        assert_eq!(command("echo a.b.c").unwrap().unwrap().expose_secret(), "a.b.c");
        assert_eq!(command("echo; exit 3").unwrap_err().exit(), Exit::Denied);
        let failure = command("echo two words").unwrap_err();
        assert!(!failure.to_string().contains("two"), "{failure}");
        assert!(Connection::default().token().unwrap().is_none());
    }
}

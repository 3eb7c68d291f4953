//! The agent's options: flags, over the keys of a file, over defaults. All are checked at once, and
//! every mistake is told in a line of its own.

use std::{fmt, fs, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use http::Uri;
use serde::Deserialize;

use crate::client::{self, ClientCertificate, Remote, TokenSource};

const USER_AGENT: &str = concat!("partnerd-agent/", env!("CARGO_PKG_VERSION"));

const DEFAULT_API: &str = "http://127.0.0.1:5281";
const DEFAULT_SOCKET: &str = "/run/prosody/prosody.sock";
const DEFAULT_STATUS_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_AGE_ALARM: Duration = Duration::from_secs(300);

/// Follow the service beside an XMPP server and make that server obey
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentArgs {
    /// Read what is not given here from this file: TOML, keys as the long flags with _ for -
    #[arg(long, value_name = "FILE", env = "PARTNERD_AGENT_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// What to make obey
    #[arg(long)]
    pub server: Option<Kind>,

    /// The name of this server in the service: 1 to 63 lower-case letters, digits, hyphens
    /// [default: the first label of the host name]
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,

    /// Where the service is: https://host:port, or http:// on this machine
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// The certificates to trust, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// The file with this agent's token; read again for every stream
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// A command of the shell that prints the token
    #[arg(long, value_name = "COMMAND")]
    pub token_command: Option<String>,

    /// The certificate to show, in PEM
    #[arg(long, value_name = "FILE")]
    pub client_cert_file: Option<PathBuf>,

    /// Its private key
    #[arg(long, value_name = "FILE")]
    pub client_key_file: Option<PathBuf>,

    /// The file that the server's module reads, or that is rendered
    #[arg(long, value_name = "FILE")]
    pub data_file: Option<PathBuf>,

    /// Prosody's admin socket [default: /run/prosody/prosody.sock]
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,

    /// ejabberd's HTTP API, on loopback [default: http://127.0.0.1:5281]
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,

    /// With --server file: the form of the file [default: json]
    #[arg(long)]
    pub form: Option<FormName>,

    /// With --form template: the template (Jinja)
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,

    /// With --server file: a command of the shell that makes the server read the file
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,

    /// With --server file: a property that file and command enforce, beside the list itself; may be
    /// repeated. All others are reported as not enforced
    #[arg(long, value_name = "PROPERTY")]
    pub enforces: Vec<String>,

    /// How often to ask the server how it is, 1s to 5m [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub status_interval: Option<String>,

    /// Log an error when the service was not heard for so long [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub age_alarm: Option<String>,
}

/// What an agent drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Prosody with mod_s2s_partners
    Prosody,
    /// ejabberd with mod_s2s_partners
    Ejabberd,
    /// Any other: a file, and a command
    File,
}

/// The forms of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormName {
    /// Everything, as one JSON document
    Json,
    /// The allowed names, one a line
    List,
    /// What a template makes of it
    Template,
}

/// Options that were checked.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub remote: Remote,
    pub stream: client::Options,
    pub replica: String,
    pub kind: Kind,
    pub server: Server,
    pub status_interval: Duration,
    pub age_alarm: Duration,
}

/// What to drive, and how.
#[derive(Clone, Debug)]
pub(super) enum Server {
    Prosody { data_file: PathBuf, socket: PathBuf },
    Ejabberd { data_file: PathBuf, api: Uri },
    Files(FileOptions),
}

/// A file and its command.
#[derive(Clone, Debug)]
pub(super) struct FileOptions {
    pub output: PathBuf,
    pub form: Form,
    pub command: Option<String>,
    pub enforces: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    Json,
    List,
    Template(PathBuf),
}

/// What is missing or wrong, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsError(Vec<String>);

impl OptionsError {
    pub(super) fn one(problem: String) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    /// Checks the options, those of the file included.
    pub fn of(args: &AgentArgs) -> Result<Self, OptionsError> {
        let args = args.clone().over_file()?;
        let mut problems = Vec::new();
        let remote = args.remote(&mut problems);
        let server = args.server(&mut problems);
        let replica = args.replica_name(&mut problems);
        let status_interval = time(
            "status_interval",
            args.status_interval.as_deref(),
            DEFAULT_STATUS_INTERVAL,
            Duration::from_secs(1)..=Duration::from_secs(300),
            &mut problems,
        );
        let age_alarm = time(
            "age_alarm",
            args.age_alarm.as_deref(),
            DEFAULT_AGE_ALARM,
            Duration::from_secs(1)..=Duration::from_secs(86_400),
            &mut problems,
        );
        match (remote, server, args.server) {
            (Some(remote), Some(server), Some(kind)) if problems.is_empty() => Ok(Self {
                remote,
                stream: client::Options::default(),
                replica,
                kind,
                server,
                status_interval,
                age_alarm,
            }),
            _ => Err(OptionsError(problems)),
        }
    }
}

impl AgentArgs {
    /// These options, and those of the file where these say nothing.
    fn over_file(self) -> Result<Self, OptionsError> {
        let Some(path) = &self.config else { return Ok(self) };
        let unusable = |why: String| OptionsError::one(format!("{}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let file: Self = toml::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        // Exhaustive: a new option must be readable from the file before this compiles.
        let Self {
            config,
            server,
            replica,
            endpoint,
            ca_file,
            token_file,
            token_command,
            client_cert_file,
            client_key_file,
            data_file,
            socket,
            api,
            form,
            template,
            command,
            enforces,
            status_interval,
            age_alarm,
        } = self;
        Ok(Self {
            config,
            server: server.or(file.server),
            replica: replica.or(file.replica),
            endpoint: endpoint.or(file.endpoint),
            ca_file: ca_file.or(file.ca_file),
            token_file: token_file.or(file.token_file),
            token_command: token_command.or(file.token_command),
            client_cert_file: client_cert_file.or(file.client_cert_file),
            client_key_file: client_key_file.or(file.client_key_file),
            data_file: data_file.or(file.data_file),
            socket: socket.or(file.socket),
            api: api.or(file.api),
            form: form.or(file.form),
            template: template.or(file.template),
            command: command.or(file.command),
            enforces: if enforces.is_empty() { file.enforces } else { enforces },
            status_interval: status_interval.or(file.status_interval),
            age_alarm: age_alarm.or(file.age_alarm),
        })
    }

    fn remote(&self, problems: &mut Vec<String>) -> Option<Remote> {
        let endpoint = match &self.endpoint {
            None => {
                problems.push("endpoint is missing; name the service: https://host:port".into());
                None
            }
            Some(text) => client::parse_endpoint(text)
                .map_err(|error| problems.push(format!("endpoint: {error}")))
                .ok(),
        };
        let token = match (&self.token_file, &self.token_command) {
            (Some(file), None) => Some(TokenSource::File(file.clone())),
            (None, Some(command)) => Some(TokenSource::Command(command.clone())),
            (None, None) => {
                problems.push("token_file is missing; name the file with the agent's token".into());
                None
            }
            (Some(_), Some(_)) => {
                problems.push("token_file and token_command are both given; leave one out".into());
                None
            }
        };
        let certificate = match (&self.client_cert_file, &self.client_key_file) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                certificate_file: certificate.clone(),
                key_file: key.clone(),
            }),
            (None, None) => None,
            _ => {
                problems.push("client_cert_file and client_key_file go together; give both".into());
                None
            }
        };
        Some(Remote {
            endpoint: endpoint?,
            ca_file: self.ca_file.clone(),
            certificate,
            token: token?,
            user_agent: USER_AGENT,
        })
    }

    fn server(&self, problems: &mut Vec<String>) -> Option<Server> {
        let Some(kind) = self.server else {
            problems.push("server is missing; say prosody, ejabberd or file".into());
            return None;
        };
        self.refuse_foreign(kind, problems);
        let Some(data_file) = self.data_file.clone() else {
            problems.push("data_file is missing; name the file to keep up to date".into());
            return None;
        };
        match kind {
            Kind::Prosody => {
                let socket = self.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into());
                Some(Server::Prosody { data_file, socket })
            }
            Kind::Ejabberd => {
                let text = self.api.as_deref().unwrap_or(DEFAULT_API);
                let api = client::parse_endpoint(text).ok();
                let api = api.filter(|api| api.scheme_str() == Some("http"));
                if api.is_none() {
                    problems.push(format!("api: {text} is not http:// and a loopback address"));
                }
                Some(Server::Ejabberd { data_file, api: api? })
            }
            Kind::File => self.file(data_file, problems).map(Server::Files),
        }
    }

    fn file(&self, output: PathBuf, problems: &mut Vec<String>) -> Option<FileOptions> {
        let form = match (self.form.unwrap_or(FormName::Json), &self.template) {
            (FormName::Template, Some(template)) => Form::Template(template.clone()),
            (FormName::Json, None) => Form::Json,
            (FormName::List, None) => Form::List,
            (FormName::Template, None) => {
                problems.push("template is missing; name the template's file".into());
                return None;
            }
            (_, Some(_)) => {
                problems.push("template is given; say `form = \"template\"` as well".into());
                return None;
            }
        };
        let (command, enforces) = (self.command.clone(), self.enforces.clone());
        Some(FileOptions { output, form, command, enforces })
    }

    /// An option that would be ignored is a mistake.
    fn refuse_foreign(&self, kind: Kind, problems: &mut Vec<String>) {
        let given = [
            ("socket", self.socket.is_some(), Kind::Prosody),
            ("api", self.api.is_some(), Kind::Ejabberd),
            ("form", self.form.is_some(), Kind::File),
            ("template", self.template.is_some(), Kind::File),
            ("command", self.command.is_some(), Kind::File),
            ("enforces", !self.enforces.is_empty(), Kind::File),
        ];
        for (name, is_given, of) in given {
            if is_given && of != kind {
                problems.push(format!("{name} means nothing to this kind of server; leave it out"));
            }
        }
    }

    fn replica_name(&self, problems: &mut Vec<String>) -> String {
        let name = self.replica.clone().unwrap_or_else(|| {
            let host = host_name().to_lowercase();
            host.split('.').next().unwrap_or_default().to_owned()
        });
        let is_name = (1..=63).contains(&name.len())
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !is_name {
            problems.push(format!(
                "replica: `{name}` is no name; give 1 to 63 lower-case letters, digits and inner \
                 hyphens"
            ));
        }
        name
    }
}

/// The name of this machine; empty if it has none.
pub(super) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn time(
    name: &str,
    text: Option<&str>,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
    problems: &mut Vec<String>,
) -> Duration {
    let Some(text) = text else { return default };
    let parsed = text.parse::<jiff::SignedDuration>().ok();
    match parsed.and_then(|time| Duration::try_from(time).ok()) {
        Some(time) if range.contains(&time) => time,
        _ => {
            let (least, most) = (range.start(), range.end());
            problems.push(format!("{name}: `{text}` is no time of {least:?} to {most:?}; say 30s"));
            default
        }
    }
}

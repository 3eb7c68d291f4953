//! A file of any form, and a command of the operator's that makes a server read it.
//!
//! There is no module here that would go by the clock, hold the lease or say what it enforces, so
//! the agent does: it leaves out who is suspended or expired, renders an empty list when the lease
//! has run out and the policy says so, and reports everything that it was not told is enforced.
//! What the command refuses is taken back: the file is again what it was.
//!
//! The command is run by the shell, with `PARTNERD_FILE`, `PARTNERD_GENERATION`, and
//! `PARTNERD_REMOVED_FILE`: a file with the names that are gone, one a line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::{Reply, seconds};
use crate::{
    agent::{
        Answer,
        answer::Unenforced,
        line,
        options::{FileOptions, Form, OptionsError},
        roster::{Entry, Roster},
    },
    files::{self, Access},
    proto::v1::{AllowedPartner, FederationMode, StalenessPolicy},
};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The most characters of what a command says when it fails.
const MAX_COMPLAINT_CHARS: usize = 500;

const TEMPLATE: &str = "template";

/// The endings of the files that keep the lease, the names that the command accepted, and those that
/// are gone since.
const LEASE: &str = ".lease";
const NAMES: &str = ".names";
const REMOVED: &str = ".removed";

/// The name in the answer of who enforces.
const SERVER: &str = "file";

/// A file, and what makes a server read it.
#[derive(Debug)]
pub struct Files {
    options: FileOptions,
    template: Option<Environment<'static>>,
    roster: Option<Roster>,
    lease: Option<Lease>,
    /// The names that the command accepted last, also before this process was started.
    accepted: BTreeSet<String>,
    /// What the file holds, as far as the command has accepted it.
    in_force: Option<InForce>,
}

#[derive(Debug)]
struct InForce {
    content: String,
    /// The names allowed by it, sorted.
    names: BTreeSet<String>,
    generation: i64,
    partners: i64,
    applied_at: SystemTime,
    stale: bool,
}

/// What a file is made of, but for a plain list.
#[derive(Serialize)]
struct Content {
    generation: i64,
    settings: Value,
    partners: Vec<Value>,
}

/// What the settings say of being cut off, kept beside the file for an agent that starts without the
/// service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    seconds: i64,
    deny_all: bool,
    heard: u64,
    /// What a file for nobody is made of.
    generation: i64,
    settings: Value,
}

impl Files {
    /// What the options describe. The template is read and checked.
    ///
    /// # Errors
    /// The template cannot be used, or `enforces` names no property.
    pub fn new(options: FileOptions) -> Result<Self, OptionsError> {
        check_names(&options.enforces)?;
        let template = match &options.form {
            Form::Template(path) => Some(template(path)?),
            Form::Json | Form::List => None,
        };
        let lease = fs::read(beside(&options.output, LEASE))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let accepted = fs::read_to_string(beside(&options.output, NAMES)).unwrap_or_default();
        let accepted = accepted.lines().map(str::to_owned).collect();
        Ok(Self { options, template, roster: None, lease, accepted, in_force: None })
    }

    /// Puts a roster in force.
    ///
    /// # Errors
    /// The command refuses it, or there is something wrong with file or template.
    pub async fn apply(
        &mut self,
        roster: Roster,
        heard: Option<SystemTime>,
    ) -> Result<Reply, String> {
        self.roster = Some(roster);
        self.look(heard).await
    }

    /// Puts in force what the clock has made of the roster.
    ///
    /// # Errors
    /// As for [`Files::apply`].
    pub async fn look(&mut self, heard: Option<SystemTime>) -> Result<Reply, String> {
        let now = SystemTime::now();
        self.keep_lease(heard)?;
        let stale = self.lease.as_ref().is_some_and(|lease| lease.has_run_out(now));
        let Some(roster) = self.roster.clone() else {
            return self.without_roster(now, stale).await;
        };
        let allowed = if stale { Vec::new() } else { allowed(&roster, now) };
        let names = allowed.iter().flat_map(|entry| line::names(&entry.partner)).collect();
        let generation = roster.generation();
        let content = self.rendered(generation, settings(&roster)?, &allowed, &names)?;
        let partners = i64::try_from(allowed.len()).unwrap_or(i64::MAX);
        self.put(InForce { content, names, generation, partners, applied_at: now, stale }).await?;
        Ok(Reply { answer: self.answer(), in_step: true })
    }

    /// The agent has started and heard nothing yet: the file stays, until the lease runs out.
    async fn without_roster(&mut self, now: SystemTime, stale: bool) -> Result<Reply, String> {
        if let Some(lease) = self.lease.clone().filter(|_| stale) {
            let (generation, names) = (lease.generation, BTreeSet::new());
            let content = self.rendered(generation, lease.settings, &[], &names)?;
            self.put(InForce { content, names, generation, partners: 0, applied_at: now, stale })
                .await?;
        }
        Ok(Reply { answer: self.answer(), in_step: false })
    }

    async fn put(&mut self, wanted: InForce) -> Result<(), String> {
        let before = fs::read(&self.options.output).ok();
        let is_there = before.as_deref() == Some(wanted.content.as_bytes());
        if let Some(now) = self.in_force.as_ref().filter(|now| now.content == wanted.content)
            && is_there
        {
            self.in_force = Some(InForce { applied_at: now.applied_at, ..wanted });
            return Ok(());
        }
        self.write_removed(&wanted.names)?;
        self.write(&self.options.output, wanted.content.as_bytes())?;
        if let Err(why) = self.run_command(wanted.generation).await {
            if let Some(before) = before {
                self.write(&self.options.output, &before)?;
            }
            return Err(why);
        }
        self.write(&beside(&self.options.output, NAMES), lines(&wanted.names).as_bytes())?;
        self.accepted.clone_from(&wanted.names);
        self.in_force = Some(wanted);
        Ok(())
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), String> {
        files::replace(path, content, Access::Group)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    /// Tells the command which names are gone, so that it can close their streams.
    fn write_removed(&self, names: &BTreeSet<String>) -> Result<(), String> {
        let removed = self.accepted.difference(names).cloned().collect();
        self.write(&beside(&self.options.output, REMOVED), lines(&removed).as_bytes())
    }

    async fn run_command(&self, generation: i64) -> Result<(), String> {
        let Some(command) = &self.options.command else { return Ok(()) };
        let running = Command::new("sh")
            .args(["-c", command])
            .env("PARTNERD_FILE", &self.options.output)
            .env("PARTNERD_REMOVED_FILE", beside(&self.options.output, REMOVED))
            .env("PARTNERD_GENERATION", generation.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let output = timeout(COMMAND_TIMEOUT, running)
            .await
            .map_err(|_| format!("the command took over {} s", COMMAND_TIMEOUT.as_secs()))?
            .map_err(|error| format!("the command did not start: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(MAX_COMPLAINT_CHARS).collect();
        Err(format!("the command failed ({}): {said}", output.status))
    }

    fn rendered(
        &self,
        generation: i64,
        settings: Value,
        allowed: &[&Entry],
        names: &BTreeSet<String>,
    ) -> Result<String, String> {
        if matches!(self.options.form, Form::List) {
            return Ok(lines(names));
        }
        let content = Content { generation, settings, partners: partners(allowed)? };
        match &self.template {
            Some(template) => filled_in(template, &content),
            None => serde_json::to_string_pretty(&content)
                .map(|text| text + "\n")
                .map_err(|error| error.to_string()),
        }
    }

    fn answer(&self) -> Answer {
        let Some(now) = &self.in_force else {
            return Answer::of_own(SERVER.into(), -1, String::new(), 0);
        };
        let unenforced = self.roster.as_ref().map_or_else(Vec::new, |roster| self.omitted(roster));
        Answer {
            applied_at: i64::try_from(seconds(now.applied_at)).unwrap_or(0),
            stale: now.stale,
            unenforced,
            warnings: vec![
                "a file closes no streams by itself: those that are open stay open unless the \
                 command closes them"
                    .into(),
            ],
            ..Answer::of_own(SERVER.into(), now.generation, String::new(), now.partners)
        }
    }

    /// What the roster asks for and nobody has said is enforced.
    fn omitted(&self, roster: &Roster) -> Vec<Unenforced> {
        let claimed = |property: &str| self.options.enforces.iter().any(|name| name == property);
        let reason = || "the agent renders a file; `enforces` does not name it".to_owned();
        // A list cannot say who is kept out.
        let mode =
            (roster.settings().mode() == FederationMode::AllowAllExceptSuspended).then(|| {
                Unenforced {
                    property: "federation_settings.mode".to_owned(),
                    reason: "the file holds who is allowed, so it is as for ALLOW_LISTED"
                        .to_owned(),
                    ..Unenforced::default()
                }
            });
        let properties = PROPERTIES.iter().filter(|(property, _)| !claimed(property)).filter_map(
            |(property, asks)| {
                let concerned: Vec<_> =
                    roster.entries().filter(|entry| asks(&entry.partner)).collect();
                let examples = concerned.iter().take(10);
                (!concerned.is_empty()).then(|| Unenforced {
                    property: (*property).to_owned(),
                    reason: reason(),
                    partners: i64::try_from(concerned.len()).unwrap_or(i64::MAX),
                    examples: examples.map(|entry| line::domain(&entry.partner).into()).collect(),
                })
            },
        );
        let settings = SETTINGS.iter().filter(|property| !claimed(property)).map(|property| {
            let property = (*property).to_owned();
            Unenforced { property, reason: reason(), ..Unenforced::default() }
        });
        mode.into_iter().chain(properties).chain(settings).collect()
    }

    /// Notes when the service was heard and what it says of being cut off.
    fn keep_lease(&mut self, heard: Option<SystemTime>) -> Result<(), String> {
        let (Some(roster), Some(heard)) = (&self.roster, heard) else { return Ok(()) };
        let lease = Lease::of(roster, heard)?;
        if self.lease.as_ref() != Some(&lease) {
            let bytes = serde_json::to_vec(&lease).map_err(|error| error.to_string())?;
            self.write(&beside(&self.options.output, LEASE), &bytes)?;
            self.lease = Some(lease);
        }
        Ok(())
    }
}

/// What a partner may ask for that a list of names does not say, and when it does.
#[expect(clippy::type_complexity, reason = "a table of names and questions")]
const PROPERTIES: [(&str, fn(&AllowedPartner) -> bool); 7] = [
    ("tls_negotiation", |_| true),
    ("sasl_negotiation", |_| true),
    ("dialback_enabled", |_| true),
    ("connection_limit", |partner| partner.connection_limit.is_some()),
    ("keep_alive_enabled", |partner| partner.keep_alive_enabled == Some(false)),
    ("proxy_fqdn", |partner| !partner.proxy_fqdn.is_empty()),
    ("partner_type", |_| true),
];

/// The settings that a file does not enforce.
const SETTINGS: [&str; 8] = [
    "federation_settings.connection_limit",
    "federation_settings.partner_connection_limit",
    "federation_settings.keep_alive_interval",
    "federation_settings.stream_establishment_timeout",
    "federation_settings.stream_inactivity_timeout",
    "federation_settings.subscription_refresh_interval",
    "federation_settings.message_body_logging_enabled",
    "federation_settings.dialback_passphrase",
];

impl Lease {
    fn of(roster: &Roster, heard: SystemTime) -> Result<Self, String> {
        let terms = roster.settings();
        Ok(Self {
            seconds: terms.staleness_lease.as_ref().map_or(0, |lease| lease.seconds),
            deny_all: terms.staleness_policy() == StalenessPolicy::DenyAll,
            heard: seconds(heard),
            generation: roster.generation(),
            settings: settings(roster)?,
        })
    }

    fn has_run_out(&self, now: SystemTime) -> bool {
        let age = i64::try_from(seconds(now).saturating_sub(self.heard)).unwrap_or(i64::MAX);
        self.deny_all && age > self.seconds
    }
}

fn check_names(enforces: &[String]) -> Result<(), OptionsError> {
    let known: Vec<_> = PROPERTIES.iter().map(|(name, _)| *name).chain(SETTINGS).collect();
    match enforces.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(OptionsError::one(format!(
            "enforces: `{name}` is no property; give some of {}",
            known.join(", ")
        ))),
    }
}

/// Who is allowed at `now`.
fn allowed(roster: &Roster, now: SystemTime) -> Vec<&Entry> {
    let now = i64::try_from(seconds(now)).unwrap_or(i64::MAX);
    let denies =
        matches!(roster.settings().mode(), FederationMode::Unspecified | FederationMode::DenyAll);
    let in_time = |partner: &AllowedPartner| {
        partner.expire_time.as_ref().is_none_or(|expiry| expiry.seconds > now)
    };
    let is_allowed = |entry: &&Entry| {
        !denies && !entry.partner.suspended && !entry.partner.expired && in_time(&entry.partner)
    };
    roster.entries().filter(is_allowed).collect()
}

fn filled_in(template: &Environment<'_>, content: &Content) -> Result<String, String> {
    template
        .get_template(TEMPLATE)
        .and_then(|template| template.render(content))
        .map_err(|error| format!("the template cannot be filled in: {error:#}"))
}

fn lines(names: &BTreeSet<String>) -> String {
    names.iter().flat_map(|name| [name.as_str(), "\n"]).collect()
}

fn settings(roster: &Roster) -> Result<Value, String> {
    let line = line::settings(roster.settings(), None)?;
    serde_json::from_str(&line).map_err(|error| error.to_string())
}

fn partners(allowed: &[&Entry]) -> Result<Vec<Value>, String> {
    let read = |entry: &&Entry| serde_json::from_str(&entry.line).map_err(|e| e.to_string());
    allowed.iter().map(read).collect()
}

fn template(path: &Path) -> Result<Environment<'static>, OptionsError> {
    let unusable = |why: String| OptionsError::one(format!("template {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment
        .add_template_owned(TEMPLATE, text)
        .map_err(|error| unusable(format!("{error:#}")))?;
    Ok(environment)
}

/// The file whose name is that of `output` and this ending.
fn beside(output: &Path, ending: &str) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

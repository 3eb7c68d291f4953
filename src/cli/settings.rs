//! `partnerctl settings`: the gateway-wide settings.

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use prost_types::FieldMask;

use super::{
    client::request_id,
    console::Console,
    diff::Diff,
    failure::{Failure, Outcome},
    json::{Json, enum_text},
    output::{ObjectFormat, fields, number, partners::time},
    partner::write::Summary,
    session::{ChangeFlags, Session},
    values,
};
use crate::proto::v1::{
    FederationMode, FederationSettings, GetFederationSettingsRequest, StalenessPolicy,
    UpdateFederationSettingsRequest,
};

/// What can be done with the settings.
#[derive(Subcommand, Clone, Debug)]
pub enum SettingsCommand {
    Get(GetSettingsArgs),
    Set(Box<SetSettingsArgs>),
}

impl SettingsCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses.
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Get(args) => args.run(session).await,
            Self::Set(args) => args.run(session).await,
        }
    }
}

/// Show the settings.
#[derive(Args, Clone, Debug)]
pub struct GetSettingsArgs {
    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl GetSettingsArgs {
    async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let settings =
            client.get_federation_settings(GetFederationSettingsRequest::default()).await?;
        print(session, self.output, &settings)
    }
}

/// Change the settings that are named, and no others; `default` puts one back.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl settings set --mode deny-all --reason 'incident 4711'
  partnerctl settings set --keep-alive-interval 5m --staleness-lease default
  partnerctl settings set --dialback-passphrase-file passphrase.txt")]
pub struct SetSettingsArgs {
    /// Who is allowed at all: allow-listed, deny-all or allow-all-except-suspended
    #[arg(long, value_name = "MODE", value_parser = values::federation_mode)]
    mode: Option<FederationMode>,

    /// The most connections with all partners together
    #[arg(long, value_name = "COUNT", value_parser = or_default::<i32>)]
    connection_limit: Option<OrDefault<i32>>,

    /// The most connections with a partner that does not say otherwise
    #[arg(long, value_name = "COUNT", value_parser = or_default::<i32>)]
    partner_connection_limit: Option<OrDefault<i32>>,

    /// How often an idle stream is pinged
    #[arg(long, value_name = "TIME", value_parser = time_or_default)]
    keep_alive_interval: Option<OrDefault<Duration>>,

    /// How long a stream may take to become established
    #[arg(long, value_name = "TIME", value_parser = time_or_default)]
    stream_establishment_timeout: Option<OrDefault<Duration>>,

    /// How long a stream without keep-alive may be idle
    #[arg(long, value_name = "TIME", value_parser = time_or_default)]
    stream_inactivity_timeout: Option<OrDefault<Duration>>,

    /// How often presence subscriptions are refreshed
    #[arg(long, value_name = "TIME", value_parser = time_or_default)]
    subscription_refresh_interval: Option<OrDefault<Duration>>,

    /// Whether servers log the bodies of messages: on or off
    #[arg(long, value_name = "SWITCH", value_parser = values::switch)]
    message_body_logging: Option<bool>,

    /// How long a server that is cut off trusts its last list
    #[arg(long, value_name = "TIME", value_parser = time_or_default)]
    staleness_lease: Option<OrDefault<Duration>>,

    /// What such a server does then: keep or deny-all
    #[arg(long, value_name = "POLICY", value_parser = values::staleness_policy)]
    staleness_policy: Option<StalenessPolicy>,

    /// The file that holds the secret for dialback keys; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "clear_dialback_passphrase")]
    dialback_passphrase_file: Option<PathBuf>,

    /// Forget the secret for dialback keys
    #[arg(long)]
    clear_dialback_passphrase: bool,

    /// Change the settings only if this is their etag
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,

    #[command(flatten)]
    change: ChangeFlags,
}

/// A value, or the wish for the default.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OrDefault<T> {
    Value(T),
    Default,
}

impl<T: Default> OrDefault<T> {
    fn or_empty(self) -> T {
        match self {
            Self::Value(value) => value,
            Self::Default => T::default(),
        }
    }
}

fn or_default<T: std::str::FromStr>(text: &str) -> Result<OrDefault<T>, String> {
    if text.eq_ignore_ascii_case("default") {
        return Ok(OrDefault::Default);
    }
    text.parse().map(OrDefault::Value).map_err(|_| "give a number, or default".into())
}

fn time_or_default(text: &str) -> Result<OrDefault<Duration>, String> {
    if text.eq_ignore_ascii_case("default") {
        return Ok(OrDefault::Default);
    }
    values::duration(text).map(OrDefault::Value)
}

impl SetSettingsArgs {
    async fn run(self, session: &Session) -> Outcome {
        let (settings, paths) = self.values()?;
        if paths.is_empty() {
            return Err(Failure::usage("nothing is to be changed; name a setting, such as --mode"));
        }
        let client = session.client_for(&self.change).await?;
        let before = if self.change.what_if {
            Some(client.get_federation_settings(GetFederationSettingsRequest::default()).await?)
        } else {
            None
        };
        let request = UpdateFederationSettingsRequest {
            federation_settings: Some(settings),
            update_mask: Some(FieldMask { paths }),
            validate_only: self.change.what_if,
            request_id: request_id(),
        };
        let after = client.update_federation_settings(request).await?;
        match before {
            Some(before) => {
                let diff = Diff::between("settings", Some(&before), Some(&after));
                let mut summary = Summary::default();
                summary.show(&diff, session.console)?;
                summary.finish()
            }
            None => print(session, self.output, &after),
        }
    }

    /// The new values, and the paths of those that are meant.
    fn values(&self) -> Outcome<(FederationSettings, Vec<String>)> {
        // Exhaustive: a new flag must be put into the mask before this compiles.
        let Self {
            mode,
            connection_limit,
            partner_connection_limit,
            keep_alive_interval,
            stream_establishment_timeout,
            stream_inactivity_timeout,
            subscription_refresh_interval,
            message_body_logging,
            staleness_lease,
            staleness_policy,
            dialback_passphrase_file,
            clear_dialback_passphrase,
            etag,
            change: _,
            output: _,
        } = self.clone();
        let passphrase = dialback_passphrase_file.as_deref().map(passphrase).transpose()?;
        let passphrase = passphrase.or(clear_dialback_passphrase.then(String::new));
        let mut edit = SettingsEdit::default();
        edit.values.etag = etag.unwrap_or_default();
        edit.take("mode", mode, |to, value| to.mode = value.into());
        edit.take("connection_limit", connection_limit, |to, value| {
            to.connection_limit = value.or_empty();
        });
        edit.take("partner_connection_limit", partner_connection_limit, |to, value| {
            to.partner_connection_limit = value.or_empty();
        });
        edit.time("keep_alive_interval", keep_alive_interval, |to| &mut to.keep_alive_interval)?;
        edit.time("stream_establishment_timeout", stream_establishment_timeout, |to| {
            &mut to.stream_establishment_timeout
        })?;
        edit.time("stream_inactivity_timeout", stream_inactivity_timeout, |to| {
            &mut to.stream_inactivity_timeout
        })?;
        edit.time("subscription_refresh_interval", subscription_refresh_interval, |to| {
            &mut to.subscription_refresh_interval
        })?;
        edit.take("message_body_logging_enabled", message_body_logging, |to, value| {
            to.message_body_logging_enabled = value;
        });
        edit.time("staleness_lease", staleness_lease, |to| &mut to.staleness_lease)?;
        edit.take("staleness_policy", staleness_policy, |to, value| {
            to.staleness_policy = value.into();
        });
        edit.take("dialback_passphrase", passphrase, |to, value| to.dialback_passphrase = value);
        Ok((edit.values, edit.paths))
    }
}

/// New values, and which of them are meant.
#[derive(Default)]
struct SettingsEdit {
    values: FederationSettings,
    paths: Vec<String>,
}

impl SettingsEdit {
    fn take<T>(
        &mut self,
        path: &str,
        value: Option<T>,
        assign: impl FnOnce(&mut FederationSettings, T),
    ) {
        if let Some(value) = value {
            self.paths.push(path.to_owned());
            assign(&mut self.values, value);
        }
    }

    fn time(
        &mut self,
        path: &str,
        value: Option<OrDefault<Duration>>,
        field: impl FnOnce(&mut FederationSettings) -> &mut Option<prost_types::Duration>,
    ) -> Outcome {
        let wire = match value {
            None => return Ok(()),
            Some(OrDefault::Default) => None,
            Some(OrDefault::Value(time)) => Some(wire_duration(time)?),
        };
        self.take(path, Some(wire), |to, wire| *field(to) = wire);
        Ok(())
    }
}

fn wire_duration(time: Duration) -> Outcome<prost_types::Duration> {
    time.try_into().map_err(|_| Failure::usage("a length of time is out of range"))
}

/// The secret in the file, without the line's end.
fn passphrase(file: &std::path::Path) -> Outcome<String> {
    let text = if file == std::path::Path::new("-") {
        let mut stdin = std::io::stdin().lock();
        if stdin.is_terminal() {
            eprintln!("type the passphrase, then Ctrl-D");
        }
        let mut text = String::new();
        stdin.read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(file)
            .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?
    };
    match text.trim_end_matches(['\r', '\n']) {
        "" => {
            Err(Failure::usage("the passphrase is empty; --clear-dialback-passphrase removes it"))
        }
        secret => Ok(secret.to_owned()),
    }
}

fn print(session: &Session, format: ObjectFormat, settings: &FederationSettings) -> Outcome {
    Ok(format.print(&Json(settings), || table(session.console, settings))?)
}

fn table(console: Console, settings: &FederationSettings) -> String {
    let duration = |time: Option<&prost_types::Duration>| {
        time.map_or_else(String::new, |time| format!("{} s", number(time.seconds)))
    };
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    let secret = if settings.dialback_passphrase_set { "set" } else { "not set" };
    let policy = enum_text(settings.staleness_policy().as_str_name(), "STALENESS_POLICY_");
    let pairs = [
        ("mode", enum_text(settings.mode().as_str_name(), "FEDERATION_MODE_")),
        ("connection limit", number(settings.connection_limit.into())),
        ("partner connection limit", number(settings.partner_connection_limit.into())),
        ("keep-alive interval", duration(settings.keep_alive_interval.as_ref())),
        ("stream establishment timeout", duration(settings.stream_establishment_timeout.as_ref())),
        ("stream inactivity timeout", duration(settings.stream_inactivity_timeout.as_ref())),
        (
            "subscription refresh interval",
            duration(settings.subscription_refresh_interval.as_ref()),
        ),
        ("message body logging", switch(settings.message_body_logging_enabled)),
        ("staleness lease", duration(settings.staleness_lease.as_ref())),
        ("staleness policy", policy),
        ("dialback passphrase", secret.to_owned()),
        ("updated", time(settings.update_time.as_ref())),
        ("by", settings.updater.clone()),
        ("revision", number(settings.revision)),
    ];
    fields(console, &pairs)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SetSettingsArgs,
    }

    fn values(flags: &str) -> (FederationSettings, Vec<String>) {
        let words = std::iter::once("test").chain(flags.split_whitespace());
        Line::try_parse_from(words).unwrap().args.values().unwrap()
    }

    #[test]
    fn only_the_settings_named_are_in_the_mask() {
        let (settings, paths) = values("--mode DenyAll --keep-alive-interval 5m");
        assert_eq!(paths, ["mode", "keep_alive_interval"]);
        assert_eq!(settings.mode(), FederationMode::DenyAll);
        assert_eq!(settings.keep_alive_interval.unwrap().seconds, 300);
    }

    #[test]
    fn default_names_the_setting_and_leaves_it_empty() {
        let (settings, paths) = values(
            "--connection-limit default --staleness-lease default --clear-dialback-passphrase",
        );
        assert_eq!(paths, ["connection_limit", "staleness_lease", "dialback_passphrase"]);
        assert_eq!(settings, FederationSettings::default());
    }

    #[test]
    fn a_passphrase_comes_from_a_file_without_the_lines_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "correct horse battery\r\n").unwrap();
        assert_eq!(passphrase(file.path()).unwrap(), "correct horse battery");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(passphrase(file.path()).is_err());
    }
}

//! The gateway-wide settings, after the original's XMPP gateway configuration.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{
    revision::{Etag, Revision},
    violation::Violation,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Who is allowed at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FederationMode {
    /// Not stated, which denies everybody.
    #[default]
    Unspecified,
    /// The partners in the list.
    AllowListed,
    /// Nobody.
    DenyAll,
    /// Everybody but the partners that are suspended or expired.
    AllowAllExceptSuspended,
}

impl FederationMode {
    /// The mode as the API writes it, without its prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::AllowListed => "ALLOW_LISTED",
            Self::DenyAll => "DENY_ALL",
            Self::AllowAllExceptSuspended => "ALLOW_ALL_EXCEPT_SUSPENDED",
        }
    }
}

/// What a server does once it has been cut off for longer than the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StalenessPolicy {
    /// Go on with the last list.
    #[default]
    Keep,
    /// Refuse everybody.
    DenyAll,
}

impl StalenessPolicy {
    /// The policy as the API writes it, without its prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "KEEP",
            Self::DenyAll => "DENY_ALL",
        }
    }
}

/// The secret from which dialback keys are made (XEP-0185). Never shown by `Debug`.
#[derive(Clone, Debug)]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// The secret with this text.
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text, for the store and the sync agents alone.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Passphrase {}

/// What an administrator decides about federation as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsValues {
    /// Who is allowed at all.
    pub mode: FederationMode,
    /// The most connections with all partners together.
    pub connection_limit: i32,
    /// The most connections with one partner that does not say otherwise.
    pub partner_connection_limit: i32,
    /// How often an idle stream is pinged.
    pub keep_alive_interval: Duration,
    /// How long a stream may take to become established.
    pub stream_establishment_timeout: Duration,
    /// How long a stream without keep-alive may be idle.
    pub stream_inactivity_timeout: Duration,
    /// How often presence subscriptions are refreshed.
    pub subscription_refresh_interval: Duration,
    /// Whether servers log the bodies of messages.
    pub message_body_logging_enabled: bool,
    /// How long a server that is cut off trusts its last list.
    pub staleness_lease: Duration,
    /// What it does then.
    pub staleness_policy: StalenessPolicy,
    /// The secret from which dialback keys are made.
    pub dialback_passphrase: Option<Passphrase>,
}

impl Default for SettingsValues {
    /// What a cleared setting goes back to. The mode goes back to unspecified, which denies.
    fn default() -> Self {
        Self {
            mode: FederationMode::Unspecified,
            connection_limit: 1_000,
            partner_connection_limit: 20,
            keep_alive_interval: Duration::from_secs(300),
            stream_establishment_timeout: MINUTE,
            stream_inactivity_timeout: Duration::from_secs(600),
            subscription_refresh_interval: Duration::from_secs(28_800),
            message_body_logging_enabled: false,
            staleness_lease: DAY,
            staleness_policy: StalenessPolicy::Keep,
            dialback_passphrase: None,
        }
    }
}

impl SettingsValues {
    /// Every rule that these settings break, by the settings' paths.
    pub fn violations(&self) -> Vec<Violation> {
        let counts = [
            ("connection_limit", self.connection_limit, 1_000_000),
            ("partner_connection_limit", self.partner_connection_limit, 100_000),
        ];
        let times = [
            ("keep_alive_interval", self.keep_alive_interval, 10 * SECOND, DAY),
            ("stream_establishment_timeout", self.stream_establishment_timeout, SECOND, HOUR),
            ("stream_inactivity_timeout", self.stream_inactivity_timeout, 10 * SECOND, DAY),
            ("subscription_refresh_interval", self.subscription_refresh_interval, MINUTE, 7 * DAY),
            ("staleness_lease", self.staleness_lease, MINUTE, 365 * DAY),
        ];
        let counts = counts.into_iter().filter(|(_, count, most)| !(1..=*most).contains(count));
        let counts = counts.map(|(field, count, most)| {
            Violation::new(field, format!("{count} is out of range; give 1 to {most}"))
        });
        let times = times.into_iter().filter(|(_, time, least, most)| time < least || time > most);
        let times = times.map(|(field, _, least, most)| {
            let (least, most) = (least.as_secs(), most.as_secs());
            Violation::new(field, format!("out of range; give {least} s to {most} s"))
        });
        counts.chain(times).chain(self.passphrase_violation()).collect()
    }

    fn passphrase_violation(&self) -> Option<Violation> {
        let length = self.dialback_passphrase.as_ref()?.expose().chars().count();
        (!(16..=1_024).contains(&length))
            .then(|| Violation::new("dialback_passphrase", "give 16 to 1,024 characters, or none"))
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// The settings as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationSettings {
    /// What an administrator decides.
    pub values: SettingsValues,
    /// When they were last changed; `None` while they are the defaults.
    pub update_time: Option<Timestamp>,
    /// The subject that last changed them.
    pub updater: Arc<str>,
    /// The revision at which they last changed.
    pub revision: Revision,
}

impl Default for FederationSettings {
    /// The settings of a new store: only listed partners are allowed, and none is listed.
    fn default() -> Self {
        Self {
            values: SettingsValues {
                mode: FederationMode::AllowListed,
                ..SettingsValues::default()
            },
            update_time: None,
            updater: Arc::from(""),
            revision: Revision::ZERO,
        }
    }
}

impl FederationSettings {
    /// Opaque; changes with every commit to the settings (AIP-154).
    pub fn etag(&self) -> Etag {
        Etag::of(Uuid::nil(), self.revision)
    }
}

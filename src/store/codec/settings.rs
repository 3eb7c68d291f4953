//! The federation settings.

use std::{fmt, time::Duration};

use prost::Message as _;

use super::{
    Damage, Kind, Stored, Texts, message,
    time::{self, StoredSpan, StoredTime},
};
use crate::domain::{
    Revision,
    settings::{FederationMode, FederationSettings, Passphrase, SettingsValues, StalenessPolicy},
};

/// The federation settings. They hold the dialback passphrase, so they have no `Debug` to tell it.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct StoredSettings {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(int32, tag = "2")]
    connection_limit: i32,
    #[prost(int32, tag = "3")]
    partner_connection_limit: i32,
    #[prost(message, optional, tag = "4")]
    keep_alive_interval: Option<StoredSpan>,
    #[prost(message, optional, tag = "5")]
    stream_establishment_timeout: Option<StoredSpan>,
    #[prost(message, optional, tag = "6")]
    stream_inactivity_timeout: Option<StoredSpan>,
    #[prost(message, optional, tag = "7")]
    subscription_refresh_interval: Option<StoredSpan>,
    #[prost(bool, tag = "8")]
    message_body_logging_enabled: bool,
    #[prost(message, optional, tag = "9")]
    staleness_lease: Option<StoredSpan>,
    #[prost(uint32, tag = "10")]
    staleness_policy: u32,
    #[prost(string, optional, tag = "11")]
    dialback_passphrase: Option<String>,
    #[prost(message, optional, tag = "12")]
    update_time: Option<StoredTime>,
    #[prost(string, tag = "13")]
    updater: String,
    #[prost(uint64, tag = "14")]
    revision: u64,
}

impl fmt::Debug for StoredSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSettings").finish_non_exhaustive()
    }
}

impl Stored for FederationSettings {
    const KIND: Kind = Kind::Settings;

    fn to_payload(&self) -> Vec<u8> {
        StoredSettings::from(self).encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        message::<StoredSettings>(payload)?.into_settings(texts)
    }
}

impl From<&FederationSettings> for StoredSettings {
    fn from(settings: &FederationSettings) -> Self {
        let FederationSettings { values, update_time, updater, revision } = settings;
        let SettingsValues {
            mode,
            connection_limit,
            partner_connection_limit,
            keep_alive_interval,
            stream_establishment_timeout,
            stream_inactivity_timeout,
            subscription_refresh_interval,
            message_body_logging_enabled,
            staleness_lease,
            staleness_policy,
            dialback_passphrase,
        } = values;
        Self {
            mode: mode_number(*mode),
            connection_limit: *connection_limit,
            partner_connection_limit: *partner_connection_limit,
            keep_alive_interval: Some((*keep_alive_interval).into()),
            stream_establishment_timeout: Some((*stream_establishment_timeout).into()),
            stream_inactivity_timeout: Some((*stream_inactivity_timeout).into()),
            subscription_refresh_interval: Some((*subscription_refresh_interval).into()),
            message_body_logging_enabled: *message_body_logging_enabled,
            staleness_lease: Some((*staleness_lease).into()),
            staleness_policy: policy_number(*staleness_policy),
            dialback_passphrase: dialback_passphrase.as_ref().map(|it| it.expose().to_owned()),
            update_time: update_time.map(Into::into),
            updater: updater.to_string(),
            revision: revision.get(),
        }
    }
}

impl StoredSettings {
    pub(super) fn into_settings(self, texts: &mut Texts) -> Result<FederationSettings, Damage> {
        let Self {
            mode,
            connection_limit,
            partner_connection_limit,
            keep_alive_interval,
            stream_establishment_timeout,
            stream_inactivity_timeout,
            subscription_refresh_interval,
            message_body_logging_enabled,
            staleness_lease,
            staleness_policy,
            dialback_passphrase,
            update_time,
            updater,
            revision,
        } = self;
        let values = SettingsValues {
            mode: numbered_mode(mode)?,
            connection_limit,
            partner_connection_limit,
            keep_alive_interval: span(keep_alive_interval)?,
            stream_establishment_timeout: span(stream_establishment_timeout)?,
            stream_inactivity_timeout: span(stream_inactivity_timeout)?,
            subscription_refresh_interval: span(subscription_refresh_interval)?,
            message_body_logging_enabled,
            staleness_lease: span(staleness_lease)?,
            staleness_policy: numbered_policy(staleness_policy)?,
            dialback_passphrase: dialback_passphrase.map(Passphrase::new),
        };
        Ok(FederationSettings {
            values,
            update_time: time::optional(update_time)?,
            updater: texts.shared(&updater),
            revision: Revision::new(revision),
        })
    }
}

fn span(stored: Option<StoredSpan>) -> Result<Duration, Damage> {
    stored.ok_or_else(|| Damage::missing("interval"))?.try_into()
}

// The numbers are what is on the disk: one that was ever used keeps its meaning. None is 0, so a
// number that was lost is noticed.

const fn mode_number(mode: FederationMode) -> u32 {
    match mode {
        FederationMode::Unspecified => 1,
        FederationMode::AllowListed => 2,
        FederationMode::DenyAll => 3,
        FederationMode::AllowAllExceptSuspended => 4,
    }
}

fn numbered_mode(number: u32) -> Result<FederationMode, Damage> {
    match number {
        1 => Ok(FederationMode::Unspecified),
        2 => Ok(FederationMode::AllowListed),
        3 => Ok(FederationMode::DenyAll),
        4 => Ok(FederationMode::AllowAllExceptSuspended),
        _ => Err(Damage::Content(format!("there is no federation mode {number}"))),
    }
}

const fn policy_number(policy: StalenessPolicy) -> u32 {
    match policy {
        StalenessPolicy::Keep => 1,
        StalenessPolicy::DenyAll => 2,
    }
}

fn numbered_policy(number: u32) -> Result<StalenessPolicy, Damage> {
    match number {
        1 => Ok(StalenessPolicy::Keep),
        2 => Ok(StalenessPolicy::DenyAll),
        _ => Err(Damage::Content(format!("there is no staleness policy {number}"))),
    }
}

//! The declarative file: what somebody decided, and nothing that the service made of it.
//!
//! ```yaml
//! federationSettings:
//!   mode: FEDERATION_MODE_ALLOW_LISTED
//! allowedPartners:
//!   - name: contoso.com
//!     saslNegotiation: NEGOTIATION_OPTIONAL
//! ```
//!
//! What is not stated has its default. The settings may be left out, and are left alone then. The
//! dialback passphrase is a secret and never in here.

use prost_reflect::DynamicMessage;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{
        json::{self, ApiMessage},
        terms,
        values::{self, domain_of},
    },
    domain::Terms,
    proto::v1::{AllowedPartner, FederationSettings},
};

/// What stands before the first partner.
pub const PARTNERS: &str = "allowedPartners:\n";
/// What stands there instead when there is none.
pub const NO_PARTNERS: &str = "allowedPartners: []\n";

/// What the service made of a partner, and its name, which comes first.
const NOT_DECIDED: &[&str] = &[
    "name",
    "uid",
    "negotiation_methods",
    "warnings",
    "create_time",
    "update_time",
    "creator",
    "updater",
    "revision",
    "etag",
    "delete_time",
    "expired",
];

/// What the service made of the settings.
const NOT_DECIDED_SETTINGS: &[&str] = &[
    "name",
    "dialback_passphrase",
    "dialback_passphrase_set",
    "update_time",
    "updater",
    "revision",
    "etag",
];

/// The settings that a file can state: all but the secret.
pub const SETTINGS_PATHS: &[&str] = &[
    "mode",
    "connection_limit",
    "partner_connection_limit",
    "keep_alive_interval",
    "stream_establishment_timeout",
    "stream_inactivity_timeout",
    "subscription_refresh_interval",
    "message_body_logging_enabled",
    "staleness_lease",
    "staleness_policy",
];

/// What a file states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declaration {
    /// The partners, or why an entry is none.
    pub partners: Vec<Result<AllowedPartner, String>>,
    /// The settings, if stated.
    pub settings: Option<FederationSettings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(default)]
    federation_settings: Option<Value>,
    allowed_partners: Vec<Value>,
}

impl Declaration {
    /// Reads a file in YAML, of which JSON is a part. A bare list is one of partners.
    ///
    /// # Errors
    /// The text is no such file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! { budget: None };
        let value: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| error.to_string())?;
        let document = match value {
            Value::Array(allowed_partners) => {
                Document { federation_settings: None, allowed_partners }
            }
            value => serde_json::from_value(value).map_err(|error| error.to_string())?,
        };
        let settings = document.federation_settings.as_ref().map(FederationSettings::from_json);
        Ok(Self {
            partners: document.allowed_partners.iter().map(read_partner).collect(),
            settings: settings.transpose().map_err(|why| format!("federationSettings: {why}"))?,
        })
    }
}

fn read_partner(value: &Value) -> Result<AllowedPartner, String> {
    let partner = AllowedPartner::from_json(value)?;
    let name = values::resource_name(&partner.name)?;
    // A file states what somebody wants, whatever the service has had since.
    Ok(AllowedPartner { name, etag: String::new(), ..partner })
}

/// The lines of a partner.
///
/// # Errors
/// Never, in memory.
pub fn partner(partner: &AllowedPartner) -> Result<String, std::io::Error> {
    let mut decided = partner.to_dynamic();
    clear(&mut decided, NOT_DECIDED);
    if let Ok((domain, _)) = terms::from_wire(partner) {
        clear_equal(&mut decided, &terms::to_wire(&domain, &Terms::default()).to_dynamic());
    }
    let body = json::to_yaml(&decided)?;
    let mut text = format!("- name: {}\n", domain_of(&partner.name));
    if body.trim_end() != "{}" {
        body.lines().for_each(|line| text += &format!("  {line}\n"));
    }
    Ok(text)
}

/// The lines of the settings.
///
/// # Errors
/// Never, in memory.
pub fn settings(settings: &FederationSettings) -> Result<String, std::io::Error> {
    let mut decided = settings.to_dynamic();
    clear(&mut decided, NOT_DECIDED_SETTINGS);
    let body = json::to_yaml(&decided)?;
    let mut text = "federationSettings:\n".to_owned();
    body.lines().for_each(|line| text += &format!("  {line}\n"));
    Ok(text)
}

fn clear(message: &mut DynamicMessage, fields: &[&str]) {
    fields.iter().for_each(|field| message.clear_field_by_name(field));
}

/// Clears what says the same as `defaults`.
fn clear_equal(message: &mut DynamicMessage, defaults: &DynamicMessage) {
    let same: Vec<_> = message
        .fields()
        .filter(|(field, value)| {
            defaults.has_field(field) && defaults.get_field(field).as_ref() == *value
        })
        .map(|(field, _)| field)
        .collect();
    same.iter().for_each(|field| message.clear_field(field));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            DomainName,
            mask::{Maskable, SettingsField},
        },
        proto::v1::Negotiation,
    };

    fn stored() -> AllowedPartner {
        let defaults =
            terms::to_wire(&DomainName::parse("contoso.com").unwrap(), &Terms::default());
        AllowedPartner {
            description: "yes: it's \"on\"".into(),
            sasl_negotiation: Negotiation::Optional.into(),
            additional_domains: vec!["eu.contoso.com".into()],
            uid: "1".into(),
            revision: 7,
            etag: "7-1".into(),
            ..defaults
        }
    }

    #[test]
    fn only_what_somebody_decided_is_written_and_it_comes_back() {
        let text = format!("{PARTNERS}{}- name: plain.example\n", partner(&stored()).unwrap());
        insta::assert_snapshot!(text, @r#"
        allowedPartners:
        - name: contoso.com
          description: "yes: it's \"on\""
          additionalDomains:
          - eu.contoso.com
          saslNegotiation: NEGOTIATION_OPTIONAL
        - name: plain.example
        "#);
        let read = Declaration::parse(&text).unwrap();
        let [Ok(first), Ok(second)] = read.partners.as_slice() else { panic!("{read:?}") };
        assert_eq!(terms::from_wire(first), terms::from_wire(&stored()));
        assert_eq!(second.name, "allowedPartners/plain.example");
        assert_eq!(read.settings, None);
    }

    #[test]
    fn settings_come_back_without_the_secret() {
        let stored = FederationSettings {
            mode: 1,
            connection_limit: 1_000,
            dialback_passphrase_set: true,
            etag: "x".into(),
            ..FederationSettings::default()
        };
        let text = settings(&stored).unwrap() + NO_PARTNERS;
        assert!(!text.contains("passphrase"), "{text}");
        let read = Declaration::parse(&text).unwrap();
        let expected =
            FederationSettings { mode: 1, connection_limit: 1_000, ..Default::default() };
        assert_eq!(read.settings, Some(expected));
    }

    #[test]
    fn every_setting_but_the_secret_can_be_stated() {
        let all = enumset::EnumSet::<SettingsField>::all();
        let stated: Vec<_> = all
            .iter()
            .filter(|field| *field != SettingsField::DialbackPassphrase)
            .map(Maskable::path)
            .collect();
        assert_eq!(stated, SETTINGS_PATHS);
    }

    #[test]
    fn a_misspelt_file_is_refused() {
        for text in
            ["partners: []", "allowedPartners: 3", "allowedPartner:\n- name: a.example", "a: [b"]
        {
            assert!(Declaration::parse(text).is_err(), "{text}");
        }
        let read = Declaration::parse("- name: a.example\n  tls: on\n- name: localhost\n").unwrap();
        assert!(read.partners.iter().all(Result::is_err));
    }
}

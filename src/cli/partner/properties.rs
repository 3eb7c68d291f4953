//! The properties of a partner as flags, in the original's terms, and the edit they add up to.
//!
//! The set of flags given is the field mask: only what was named is touched.

use clap::Args;
use jiff::Timestamp;
use prost_types::FieldMask;

use crate::{
    cli::{
        additional_domains::{self, DomainsArgument, DomainsEdit},
        failure::{Failure, Outcome},
        values::{self, Clearable, LabelEdit},
    },
    proto::v1::{AllowedPartner, Negotiation, PartnerType, UpdateAllowedPartnerRequest},
};

/// The properties of a partner.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Properties")]
pub struct PropertyFlags {
    /// What people should know of this partner
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Further domains: a,b replaces them, add=a,b and remove=a edit them, none clears them
    #[arg(long, value_name = "EDIT", value_parser = additional_domains::parse)]
    additional_domains: Vec<DomainsArgument>,

    /// How far its users are trusted: federated, public-verified or public-unverified
    #[arg(long, value_name = "TYPE", value_parser = values::partner_type)]
    partner_type: Option<PartnerType>,

    /// The host through which it is reached, or none
    #[arg(long, visible_alias = "proxy-fqdn", value_name = "HOST", value_parser = values::proxy)]
    proxy: Option<Clearable<String>>,

    /// The most simultaneous connections, or none for the settings' limit
    #[arg(long, value_name = "COUNT", value_parser = values::connection_limit)]
    connection_limit: Option<Clearable<i32>>,

    /// Keep idle streams open: on or off
    #[arg(long, visible_alias = "enable-keep-alive", value_name = "SWITCH")]
    #[arg(value_parser = values::switch)]
    keep_alive: Option<bool>,

    /// Encryption by TLS: required, optional or not-supported
    #[arg(long, visible_alias = "tls-negotiation", value_name = "RULE")]
    #[arg(value_parser = values::negotiation)]
    tls: Option<Negotiation>,

    /// Authentication by certificates (SASL EXTERNAL): required, optional or not-supported
    #[arg(long, visible_alias = "sasl-negotiation", value_name = "RULE")]
    #[arg(value_parser = values::negotiation)]
    sasl: Option<Negotiation>,

    /// Accept server dialback: on or off
    #[arg(long, visible_alias = "support-dialback-negotiation", value_name = "SWITCH")]
    #[arg(value_parser = values::switch)]
    dialback: Option<bool>,

    /// List it, but refuse it
    #[arg(long, value_name = "SWITCH", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = values::switch)]
    suspended: Option<bool>,

    /// When it is refused: a time, a date, a time from now such as 30d, or none
    #[arg(long, value_name = "WHEN", value_parser = values::moment)]
    expires: Option<Clearable<Timestamp>>,

    /// When somebody should look at it again; written as for --expires
    #[arg(long, value_name = "WHEN", value_parser = values::moment)]
    review: Option<Clearable<Timestamp>>,

    /// Who answers for it
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,

    /// A label: key=value sets it, key- removes it; may be given again
    #[arg(long = "label", value_name = "LABEL", value_parser = values::label)]
    labels: Vec<LabelEdit>,
}

/// A change of a partner: new values, which of them are meant, and edits of its domains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartnerEdit {
    values: AllowedPartner,
    paths: Vec<String>,
    add: Vec<String>,
    remove: Vec<String>,
}

impl PropertyFlags {
    /// What the flags add up to.
    ///
    /// # Errors
    /// A list of domains is both replaced and edited.
    pub fn edit(&self) -> Outcome<PartnerEdit> {
        // Exhaustive: a new flag must be put into the mask before this compiles.
        let Self {
            description,
            additional_domains,
            partner_type,
            proxy,
            connection_limit,
            keep_alive,
            tls,
            sasl,
            dialback,
            suspended,
            expires,
            review,
            owner,
            labels,
        } = self.clone();
        let time = |moment: Clearable<Timestamp>| moment.value().map(values::to_proto_time);
        let mut edit = PartnerEdit::default();
        edit.domains(additional_domains::combine(&additional_domains).map_err(Failure::usage)?);
        edit.take("description", description, |to, value| to.description = value);
        edit.take("partner_type", partner_type, |to, value| to.partner_type = value.into());
        edit.take("proxy_fqdn", proxy, |to, value| {
            to.proxy_fqdn = value.value().unwrap_or_default();
        });
        edit.take("connection_limit", connection_limit, |to, value| {
            to.connection_limit = value.value();
        });
        edit.take("keep_alive_enabled", keep_alive, |to, value| {
            to.keep_alive_enabled = Some(value);
        });
        edit.take("tls_negotiation", tls, |to, value| to.tls_negotiation = value.into());
        edit.take("sasl_negotiation", sasl, |to, value| to.sasl_negotiation = value.into());
        edit.take("dialback_enabled", dialback, |to, value| to.dialback_enabled = Some(value));
        edit.take("suspended", suspended, |to, value| to.suspended = value);
        edit.take("expire_time", expires, |to, value| to.expire_time = time(value));
        edit.take("review_time", review, |to, value| to.review_time = time(value));
        edit.take("owner", owner, |to, value| to.owner = value);
        labels.into_iter().for_each(|label| edit.label(label));
        Ok(edit)
    }
}

impl PartnerEdit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// The fields it touches, for people.
    pub fn fields(&self) -> Vec<&str> {
        let edited = !(self.add.is_empty() && self.remove.is_empty());
        let edited = edited.then_some("additional_domains");
        self.paths.iter().map(String::as_str).chain(edited).collect()
    }

    /// The request that makes this change to the partner with this name.
    pub fn update(&self, name: &str) -> UpdateAllowedPartnerRequest {
        UpdateAllowedPartnerRequest {
            allowed_partner: Some(AllowedPartner { name: name.into(), ..self.values.clone() }),
            update_mask: Some(FieldMask { paths: self.paths.clone() }),
            add_additional_domains: self.add.clone(),
            remove_additional_domains: self.remove.clone(),
            ..UpdateAllowedPartnerRequest::default()
        }
    }

    /// A new partner with these values; what is not named is left to its default.
    ///
    /// # Errors
    /// Something is to be removed from a partner that has nothing yet.
    pub fn into_partner(mut self, name: String) -> Outcome<AllowedPartner> {
        let removed_label = self.paths.iter().find_map(|path| {
            let key = path.strip_prefix("labels.`")?.strip_suffix('`')?;
            (!self.values.labels.contains_key(key)).then_some(key)
        });
        if let Some(key) = removed_label {
            return Err(Failure::usage(format!("a new partner has no label `{key}` to remove")));
        }
        if !self.remove.is_empty() {
            return Err(Failure::usage("a new partner has no additional domains to remove"));
        }
        self.values.additional_domains.append(&mut self.add);
        Ok(AllowedPartner { name, ..self.values })
    }

    fn take<T>(
        &mut self,
        path: &str,
        value: Option<T>,
        assign: impl FnOnce(&mut AllowedPartner, T),
    ) {
        if let Some(value) = value {
            self.paths.push(path.to_owned());
            assign(&mut self.values, value);
        }
    }

    fn domains(&mut self, edit: Option<DomainsEdit>) {
        match edit {
            Some(DomainsEdit::Replace(domains)) => {
                self.take("additional_domains", Some(domains), |to, value| {
                    to.additional_domains = value;
                });
            }
            Some(DomainsEdit::Edit { add, remove }) => (self.add, self.remove) = (add, remove),
            None => {}
        }
    }

    fn label(&mut self, LabelEdit { key, value }: LabelEdit) {
        self.paths.push(format!("labels.`{key}`"));
        match value {
            Some(value) => self.values.labels.insert(key, value),
            None => self.values.labels.remove(&key),
        };
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: PropertyFlags,
    }

    fn edit(flags: &str) -> PartnerEdit {
        let words = std::iter::once("test").chain(flags.split_whitespace());
        Line::try_parse_from(words).unwrap().flags.edit().unwrap()
    }

    #[test]
    fn only_the_flags_given_are_in_the_mask() {
        let request =
            edit("--support-dialback-negotiation=false").update("allowedPartners/a.example");
        assert_eq!(request.update_mask.unwrap().paths, ["dialback_enabled"]);
        let partner = request.allowed_partner.unwrap();
        assert_eq!(
            partner,
            AllowedPartner {
                name: "allowedPartners/a.example".into(),
                dialback_enabled: Some(false),
                ..AllowedPartner::default()
            }
        );
    }

    #[test]
    fn every_flag_has_its_field_and_clearing_names_the_field_with_nothing_in_it() {
        for (flags, path) in [
            ("--description x", "description"),
            ("--additional-domains none", "additional_domains"),
            ("--partner-type PublicVerified", "partner_type"),
            ("--proxy-fqdn none", "proxy_fqdn"),
            ("--connection-limit none", "connection_limit"),
            ("--enable-keep-alive off", "keep_alive_enabled"),
            ("--tls-negotiation Optional", "tls_negotiation"),
            ("--sasl not-supported", "sasl_negotiation"),
            ("--dialback=off", "dialback_enabled"),
            ("--suspended", "suspended"),
            ("--suspended=false", "suspended"),
            ("--expires none", "expire_time"),
            ("--review 2w", "review_time"),
            ("--owner me", "owner"),
            ("--label tier=gold", "labels.`tier`"),
            ("--label example.org/tier-", "labels.`example.org/tier`"),
        ] {
            assert_eq!(edit(flags).fields(), [path], "{flags}");
        }
        assert!(edit("").is_empty());
        assert!(!edit("--suspended=false").update("x").allowed_partner.unwrap().suspended);
        assert_eq!(edit("--connection-limit none").values, AllowedPartner::default());
    }

    #[test]
    fn edits_of_the_domains_are_outside_the_mask() {
        let edit =
            edit("--additional-domains add=na.a.example --additional-domains remove=eu.a.example");
        assert!(!edit.is_empty());
        let request = edit.update("allowedPartners/a.example");
        assert!(request.update_mask.unwrap().paths.is_empty());
        assert_eq!(request.add_additional_domains, ["na.a.example"]);
        assert_eq!(request.remove_additional_domains, ["eu.a.example"]);
    }

    #[test]
    fn a_new_partner_takes_added_domains_and_has_nothing_to_remove() {
        let new = |flags| edit(flags).into_partner("allowedPartners/a.example".into());
        let partner = new("--additional-domains add=na.a.example --tls optional").unwrap();
        assert_eq!(partner.additional_domains, ["na.a.example"]);
        assert_eq!(partner.tls_negotiation(), Negotiation::Optional);
        assert_eq!(partner.sasl_negotiation(), Negotiation::Unspecified);
        assert!(new("--additional-domains remove=na.a.example").is_err());
        assert!(new("--label tier-").is_err());
    }

    #[test]
    fn a_value_out_of_range_is_refused_on_the_command_line() {
        for flags in ["--connection-limit 0", "--tls 1", "--proxy bad_host", "--label novalue"] {
            let words = std::iter::once("test").chain(flags.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{flags}");
        }
    }
}

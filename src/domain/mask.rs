//! Field masks (AIP-134, AIP-161) and the only merge.
//!
//! A mask says which fields of a resource a change means. Merging destructures the resource
//! exhaustively, so a new field does not compile until it is merged.

use std::collections::BTreeSet;

use enumset::{EnumSet, EnumSetType};

use super::{
    domain_name::DomainSet, partner::Terms, role::RoleTerms, settings::SettingsValues,
    violation::Violation,
};

/// The most paths of a mask.
pub const MAX_PATHS: usize = 1_000;

/// The fields of a resource that a mask can name.
pub trait Maskable: EnumSetType {
    /// The fields a caller may send but never change: named in a mask, they are ignored
    /// (AIP-203).
    const IGNORED: &'static [&'static str];

    /// The path of the field.
    fn path(self) -> &'static str;

    /// Whether the field is a map, whose keys can be named one by one.
    fn is_map(self) -> bool {
        false
    }

    /// What to use instead of naming one element of this repeated field, if it is one.
    fn list_remedy(self) -> Option<&'static str> {
        None
    }

    /// The field with this path.
    fn from_path(path: &str) -> Option<Self> {
        EnumSet::<Self>::all().iter().find(|field| field.path() == path)
    }
}

/// Which fields of a resource are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask<F: Maskable> {
    fields: EnumSet<F>,
    map_keys: BTreeSet<String>,
}

impl<F: Maskable> Default for Mask<F> {
    /// No field.
    fn default() -> Self {
        Self::of(EnumSet::empty())
    }
}

impl<F: Maskable> Mask<F> {
    /// These fields.
    pub const fn of(fields: EnumSet<F>) -> Self {
        Self { fields, map_keys: BTreeSet::new() }
    }

    /// Every field: a full replacement.
    pub fn all() -> Self {
        Self::of(EnumSet::all())
    }

    /// Parses the paths of a field mask. `*` means every field.
    ///
    /// # Errors
    /// A [`Violation`] for each path that names nothing that can be changed, of field
    /// `update_mask`.
    pub fn parse<S: AsRef<str>>(paths: &[S]) -> Result<Self, Vec<Violation>> {
        if paths.len() > MAX_PATHS {
            let text = format!("{} paths; at most {MAX_PATHS} are allowed", paths.len());
            return Err(vec![Violation::new("update_mask", text)]);
        }
        let mut mask = Self::default();
        let mut broken = Vec::new();
        for path in paths {
            if let Err(description) = mask.add(path.as_ref()) {
                broken.push(Violation::new("update_mask", description));
            }
        }
        if broken.is_empty() { Ok(mask) } else { Err(broken) }
    }

    /// The fields it names whole or in part.
    pub fn fields(&self) -> EnumSet<F> {
        let in_part =
            EnumSet::<F>::all().iter().filter(|field| field.is_map() && !self.map_keys.is_empty());
        self.fields | in_part.collect::<EnumSet<F>>()
    }

    /// Whether it names `field`, whole or in part.
    pub fn names(&self, field: F) -> bool {
        self.fields().contains(field)
    }

    /// The same mask without `field`.
    #[must_use]
    pub fn without(mut self, field: F) -> Self {
        self.fields -= field;
        self
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.map_keys.is_empty()
    }

    fn add(&mut self, path: &str) -> Result<(), String> {
        if path == "*" {
            self.fields = EnumSet::all();
            return Ok(());
        }
        let segments = segments(path)
            .ok_or_else(|| format!("`{path}` is not a path: write `field` or labels.`key`"))?;
        let (head, rest) = segments.split_first().ok_or("a path is empty; remove it")?;
        if F::IGNORED.contains(&head.as_str()) && rest.is_empty() {
            return Ok(());
        }
        let Some(field) = F::from_path(head) else {
            if F::IGNORED.contains(&head.as_str()) {
                return Err(format!("`{path}` goes too deep; leave it out, it cannot be changed"));
            }
            return Err(format!("`{path}` is unknown; the fields are {}", field_list::<F>()));
        };
        match rest {
            [] => {
                self.fields |= field;
                Ok(())
            }
            [key] if field.is_map() && key != "*" => {
                self.map_keys.insert(key.clone());
                Ok(())
            }
            _ => Err(match field.list_remedy() {
                Some(remedy) => format!("`{path}` names an element of a repeated field; {remedy}"),
                None => format!("`{path}` goes too deep; name `{head}`"),
            }),
        }
    }

    fn has(&self, field: F) -> bool {
        self.fields.contains(field)
    }
}

fn field_list<F: Maskable>() -> String {
    let paths: Vec<_> = EnumSet::<F>::all().iter().map(F::path).collect();
    paths.join(", ")
}

/// The segments of a path, with back-ticks around those that hold dots (AIP-161). `None` when
/// it is malformed.
pub fn segments(path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = path;
    loop {
        let (segment, after) = if let Some(quoted) = rest.strip_prefix('`') {
            quoted.split_once('`')?
        } else {
            rest.split_at(rest.find('.').unwrap_or(rest.len()))
        };
        if segment.is_empty() {
            return None;
        }
        segments.push(segment.to_owned());
        if after.is_empty() {
            return Some(segments);
        }
        rest = after.strip_prefix('.')?;
    }
}

/// The fields of a partner that a caller may change.
#[derive(Debug, PartialOrd, Ord, Hash, EnumSetType)]
pub enum TermField {
    /// `description`
    Description,
    /// `additional_domains`
    AdditionalDomains,
    /// `partner_type`
    PartnerType,
    /// `proxy_fqdn`
    ProxyFqdn,
    /// `connection_limit`
    ConnectionLimit,
    /// `keep_alive_enabled`
    KeepAliveEnabled,
    /// `tls_negotiation`
    TlsNegotiation,
    /// `sasl_negotiation`
    SaslNegotiation,
    /// `dialback_enabled`
    DialbackEnabled,
    /// `suspended`
    Suspended,
    /// `expire_time`
    ExpireTime,
    /// `review_time`
    ReviewTime,
    /// `owner`
    Owner,
    /// `labels`
    Labels,
}

impl Maskable for TermField {
    const IGNORED: &'static [&'static str] = &[
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

    fn path(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::AdditionalDomains => "additional_domains",
            Self::PartnerType => "partner_type",
            Self::ProxyFqdn => "proxy_fqdn",
            Self::ConnectionLimit => "connection_limit",
            Self::KeepAliveEnabled => "keep_alive_enabled",
            Self::TlsNegotiation => "tls_negotiation",
            Self::SaslNegotiation => "sasl_negotiation",
            Self::DialbackEnabled => "dialback_enabled",
            Self::Suspended => "suspended",
            Self::ExpireTime => "expire_time",
            Self::ReviewTime => "review_time",
            Self::Owner => "owner",
            Self::Labels => "labels",
        }
    }

    fn is_map(self) -> bool {
        self == Self::Labels
    }

    fn list_remedy(self) -> Option<&'static str> {
        (self == Self::AdditionalDomains).then_some(
            "use add_additional_domains and remove_additional_domains, or name the whole field",
        )
    }
}

impl Mask<TermField> {
    /// `current` with the named fields taken from `patch`. A named label that `patch` does not
    /// have is removed.
    #[must_use]
    pub fn merge(&self, current: &Terms, patch: &Terms) -> Terms {
        // Exhaustive: a new field must be merged before this compiles.
        let Terms {
            description,
            additional_domains,
            partner_type,
            proxy_fqdn,
            connection_limit,
            keep_alive_enabled,
            tls_negotiation,
            sasl_negotiation,
            dialback_enabled,
            suspended,
            expire_time,
            review_time,
            owner,
            labels,
        } = patch;
        let mut merged = current.clone();
        let take = |field: TermField| self.has(field);
        assign(take(TermField::Description), &mut merged.description, description);
        assign(
            take(TermField::AdditionalDomains),
            &mut merged.additional_domains,
            additional_domains,
        );
        assign(take(TermField::PartnerType), &mut merged.partner_type, partner_type);
        assign(take(TermField::ProxyFqdn), &mut merged.proxy_fqdn, proxy_fqdn);
        assign(take(TermField::ConnectionLimit), &mut merged.connection_limit, connection_limit);
        assign(
            take(TermField::KeepAliveEnabled),
            &mut merged.keep_alive_enabled,
            keep_alive_enabled,
        );
        assign(take(TermField::TlsNegotiation), &mut merged.tls_negotiation, tls_negotiation);
        assign(take(TermField::SaslNegotiation), &mut merged.sasl_negotiation, sasl_negotiation);
        assign(take(TermField::DialbackEnabled), &mut merged.dialback_enabled, dialback_enabled);
        assign(take(TermField::Suspended), &mut merged.suspended, suspended);
        assign(take(TermField::ExpireTime), &mut merged.expire_time, expire_time);
        assign(take(TermField::ReviewTime), &mut merged.review_time, review_time);
        assign(take(TermField::Owner), &mut merged.owner, owner);
        assign(take(TermField::Labels), &mut merged.labels, labels);
        if !take(TermField::Labels) {
            for key in &self.map_keys {
                match labels.get(key) {
                    Some(value) => merged.labels.insert(key, value),
                    None => merged.labels.remove(key),
                }
            }
        }
        merged
    }
}

fn assign<T: Clone>(named: bool, to: &mut T, from: &T) {
    if named {
        to.clone_from(from);
    }
}

/// Domains to remove from and to add to a list, after the original's `@{Add=...; Remove=...}`.
/// Removing what is absent and adding what is present are no errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainEdits {
    /// Removed first.
    pub remove: DomainSet,
    /// Added then.
    pub add: DomainSet,
}

impl DomainEdits {
    /// Whether nothing is to be edited.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// The list after the edits.
    #[must_use]
    pub fn apply(&self, domains: &DomainSet) -> DomainSet {
        let kept = domains.iter().filter(|domain| !self.remove.contains(domain));
        kept.chain(&self.add).cloned().collect()
    }
}

/// The settings that a caller may change.
#[derive(Debug, PartialOrd, Ord, Hash, EnumSetType)]
pub enum SettingsField {
    /// `mode`
    Mode,
    /// `connection_limit`
    ConnectionLimit,
    /// `partner_connection_limit`
    PartnerConnectionLimit,
    /// `keep_alive_interval`
    KeepAliveInterval,
    /// `stream_establishment_timeout`
    StreamEstablishmentTimeout,
    /// `stream_inactivity_timeout`
    StreamInactivityTimeout,
    /// `subscription_refresh_interval`
    SubscriptionRefreshInterval,
    /// `message_body_logging_enabled`
    MessageBodyLoggingEnabled,
    /// `staleness_lease`
    StalenessLease,
    /// `staleness_policy`
    StalenessPolicy,
    /// `dialback_passphrase`
    DialbackPassphrase,
}

impl Maskable for SettingsField {
    const IGNORED: &'static [&'static str] =
        &["name", "dialback_passphrase_set", "update_time", "updater", "revision", "etag"];

    fn path(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::ConnectionLimit => "connection_limit",
            Self::PartnerConnectionLimit => "partner_connection_limit",
            Self::KeepAliveInterval => "keep_alive_interval",
            Self::StreamEstablishmentTimeout => "stream_establishment_timeout",
            Self::StreamInactivityTimeout => "stream_inactivity_timeout",
            Self::SubscriptionRefreshInterval => "subscription_refresh_interval",
            Self::MessageBodyLoggingEnabled => "message_body_logging_enabled",
            Self::StalenessLease => "staleness_lease",
            Self::StalenessPolicy => "staleness_policy",
            Self::DialbackPassphrase => "dialback_passphrase",
        }
    }
}

impl Mask<SettingsField> {
    /// `current` with the named settings taken from `patch`.
    #[must_use]
    pub fn merge(&self, current: &SettingsValues, patch: &SettingsValues) -> SettingsValues {
        // Exhaustive: a new setting must be merged before this compiles.
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
        } = patch;
        use SettingsField as F;
        let mut merged = current.clone();
        assign(self.has(F::Mode), &mut merged.mode, mode);
        assign(self.has(F::ConnectionLimit), &mut merged.connection_limit, connection_limit);
        assign(
            self.has(F::PartnerConnectionLimit),
            &mut merged.partner_connection_limit,
            partner_connection_limit,
        );
        assign(
            self.has(F::KeepAliveInterval),
            &mut merged.keep_alive_interval,
            keep_alive_interval,
        );
        assign(
            self.has(F::StreamEstablishmentTimeout),
            &mut merged.stream_establishment_timeout,
            stream_establishment_timeout,
        );
        assign(
            self.has(F::StreamInactivityTimeout),
            &mut merged.stream_inactivity_timeout,
            stream_inactivity_timeout,
        );
        assign(
            self.has(F::SubscriptionRefreshInterval),
            &mut merged.subscription_refresh_interval,
            subscription_refresh_interval,
        );
        assign(
            self.has(F::MessageBodyLoggingEnabled),
            &mut merged.message_body_logging_enabled,
            message_body_logging_enabled,
        );
        assign(self.has(F::StalenessLease), &mut merged.staleness_lease, staleness_lease);
        assign(self.has(F::StalenessPolicy), &mut merged.staleness_policy, staleness_policy);
        assign(
            self.has(F::DialbackPassphrase),
            &mut merged.dialback_passphrase,
            dialback_passphrase,
        );
        merged
    }
}

/// What a caller may change about a role.
#[derive(Debug, PartialOrd, Ord, Hash, EnumSetType)]
pub enum RoleField {
    /// `description`
    Description,
    /// `permissions`
    Permissions,
    /// `domain_scopes`
    DomainScopes,
    /// `updatable_fields`
    UpdatableFields,
}

impl Maskable for RoleField {
    const IGNORED: &'static [&'static str] = &[
        "name",
        "uid",
        "built_in",
        "lync_role",
        "create_time",
        "update_time",
        "creator",
        "updater",
        "revision",
        "etag",
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Permissions => "permissions",
            Self::DomainScopes => "domain_scopes",
            Self::UpdatableFields => "updatable_fields",
        }
    }

    fn list_remedy(self) -> Option<&'static str> {
        (self != Self::Description).then_some("name the whole field")
    }
}

impl Mask<RoleField> {
    /// `current` with the named fields taken from `patch`.
    #[must_use]
    pub fn merge(&self, current: &RoleTerms, patch: &RoleTerms) -> RoleTerms {
        // Exhaustive: a new field must be merged before this compiles.
        let RoleTerms { description, permissions, domain_scopes, updatable_fields } = patch;
        use RoleField as F;
        let mut merged = current.clone();
        assign(self.has(F::Description), &mut merged.description, description);
        assign(self.has(F::Permissions), &mut merged.permissions, permissions);
        assign(self.has(F::DomainScopes), &mut merged.domain_scopes, domain_scopes);
        assign(self.has(F::UpdatableFields), &mut merged.updatable_fields, updatable_fields);
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Result<Mask<TermField>, Vec<Violation>> {
        Mask::parse(paths)
    }

    #[test]
    fn only_the_named_fields_are_merged() {
        let current = Terms { description: "kept".into(), owner: "old".into(), ..Terms::default() };
        let patch = Terms { description: "lost".into(), owner: "new".into(), ..Terms::default() };
        let merged = mask(&["owner"]).unwrap().merge(&current, &patch);
        assert_eq!(merged, Terms { description: "kept".into(), owner: "new".into(), ..current });
    }

    #[test]
    fn one_label_is_set_or_removed_without_the_others() {
        let current = Terms { labels: [("a.b", "1"), ("tier", "gold")].into(), ..Terms::default() };
        let patch = Terms { labels: [("a.b", "2")].into(), ..Terms::default() };
        let set = mask(&["labels.`a.b`"]).unwrap().merge(&current, &patch);
        assert_eq!(set.labels, [("a.b", "2"), ("tier", "gold")].into());
        let removed = mask(&["labels.tier"]).unwrap().merge(&current, &patch);
        assert_eq!(removed.labels, [("a.b", "1")].into());
    }

    #[test]
    fn output_only_fields_are_ignored_and_the_rest_is_an_error_that_names_the_path() {
        assert!(mask(&["uid", "warnings", "name"]).unwrap().is_empty());
        for path in [
            "",
            ".",
            "colour",
            "description.",
            "description.x",
            "additional_domains[0]",
            "additional_domains.0",
            "labels.a.b",
            "labels.`a",
            "labels.*",
            "Description",
            "warnings.0.code",
        ] {
            let broken = mask(&["owner", path]).unwrap_err();
            assert_eq!(broken.len(), 1, "{path}");
            assert!(broken[0].description.contains(path), "{path}: {}", broken[0]);
        }
    }
}

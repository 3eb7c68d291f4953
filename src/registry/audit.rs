//! What a commit changed, field by field, as the audit keeps it. Secrets never get in.

use enumset::EnumSet;
use jiff::Timestamp;

use crate::{
    domain::{
        AllowedPartner, Terms,
        audit::{FieldChange, ResourceChange, Verb},
        mask::{Maskable as _, TermField},
        revocation::{Revocation, Target},
        role::{Permission, Role, RoleTerms},
        settings::{FederationSettings, SettingsValues},
    },
    store::Change,
};

/// What happened to each resource of a commit.
pub fn resource_changes(changes: &[Change]) -> Vec<ResourceChange> {
    changes.iter().map(resource_change).collect()
}

/// An audit entry is of so many changes at most, and none follows once they weigh so many bytes: a
/// restore changes everything at once, and each of its entries must be light enough to be listed.
const MAX_ENTRY_CHANGES: usize = 1_000;
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// The changes of a commit, entry by entry; at least one.
pub fn pages(changes: Vec<ResourceChange>) -> Vec<Vec<ResourceChange>> {
    let (mut pages, mut page, mut bytes) = (Vec::new(), Vec::new(), 0);
    for change in changes {
        if page.len() >= MAX_ENTRY_CHANGES || bytes >= MAX_ENTRY_BYTES {
            pages.push(std::mem::take(&mut page));
            bytes = 0;
        }
        bytes += change.weight();
        page.push(change);
    }
    pages.push(page);
    pages
}

fn resource_change(change: &Change) -> ResourceChange {
    match change {
        Change::Partner { before, after } => {
            // A deleted partner of the same name is another partner.
            let before = before.as_ref().filter(|before| before.uid == after.uid);
            let earlier =
                before.map_or_else(Vec::new, |before| partner_fields(&before.terms, state(before)));
            ResourceChange {
                resource: format!("allowedPartners/{}", after.domain),
                verb: verb(before.map(|before| &**before), after),
                fields: differences(&earlier, &partner_fields(&after.terms, state(after))),
            }
        }
        Change::Settings { before, after } => ResourceChange {
            resource: "federationSettings".into(),
            verb: Verb::Update,
            fields: settings_differences(before, after),
        },
        Change::Role { before, after } => role_change(before.as_deref(), after.as_deref()),
        Change::Revocation { before, after } => {
            revocation_change(before.as_deref(), after.as_deref())
        }
    }
}

/// What became of a partner, field by field. Where there was none before, or another one of the same
/// name, it is held against what a partner is by default.
pub fn partner_changes(
    before: Option<&AllowedPartner>,
    after: &AllowedPartner,
) -> Vec<FieldChange> {
    let before = before.filter(|before| before.uid == after.uid).map_or_else(
        || partner_fields(&Terms::default(), State::default()),
        |before| partner_fields(&before.terms, state(before)),
    );
    differences(&before, &partner_fields(&after.terms, state(after)))
}

fn verb(before: Option<&AllowedPartner>, after: &AllowedPartner) -> Verb {
    match before {
        _ if after.delete_time.is_some() => Verb::Delete,
        None => Verb::Create,
        Some(before) if before.delete_time.is_some() => Verb::Undelete,
        Some(_) => Verb::Update,
    }
}

type Fields = Vec<(String, String)>;

/// What has become of a partner without anybody changing its terms.
#[derive(Clone, Copy, Default)]
struct State {
    delete_time: Option<Timestamp>,
    expired: bool,
}

const fn state(partner: &AllowedPartner) -> State {
    State { delete_time: partner.delete_time, expired: partner.expired }
}

/// The fields that are not empty, as text, by path.
fn partner_fields(terms: &Terms, state: State) -> Fields {
    // Exhaustive: a new field must be audited before this compiles.
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
    } = terms;
    let State { delete_time, expired } = state;
    let domains: Vec<_> = additional_domains.iter().map(ToString::to_string).collect();
    let mut fields = vec![
        ("description".into(), description.clone()),
        ("additional_domains".into(), domains.join(",")),
        ("partner_type".into(), partner_type.as_str().into()),
        ("proxy_fqdn".into(), text(proxy_fqdn.as_ref())),
        ("connection_limit".into(), text(connection_limit.as_ref())),
        ("keep_alive_enabled".into(), keep_alive_enabled.to_string()),
        ("tls_negotiation".into(), tls_negotiation.as_str().into()),
        ("sasl_negotiation".into(), sasl_negotiation.as_str().into()),
        ("dialback_enabled".into(), dialback_enabled.to_string()),
        ("suspended".into(), suspended.to_string()),
        ("expire_time".into(), text(expire_time.as_ref())),
        ("review_time".into(), text(review_time.as_ref())),
        ("owner".into(), owner.to_string()),
        ("delete_time".into(), text(delete_time.as_ref())),
        ("expired".into(), expired.to_string()),
    ];
    let labels = labels.iter().map(|(key, value)| (format!("labels.`{key}`"), value.to_owned()));
    fields.extend(labels);
    fields
}

fn role_change(before: Option<&Role>, after: Option<&Role>) -> ResourceChange {
    let fields = |role: Option<&Role>| role.map_or_else(Vec::new, role_fields);
    ResourceChange {
        resource: after.or(before).map_or_else(String::new, |role| format!("roles/{}", role.id)),
        verb: match (before, after) {
            (_, None) => Verb::Delete,
            (None, Some(_)) => Verb::Create,
            (Some(_), Some(_)) => Verb::Update,
        },
        fields: differences(&fields(before), &fields(after)),
    }
}

fn revocation_change(before: Option<&Revocation>, after: Option<&Revocation>) -> ResourceChange {
    let fields = |it: Option<&Revocation>| it.map_or_else(Vec::new, revocation_fields);
    ResourceChange {
        resource: after.or(before).map_or_else(String::new, |it| format!("revocations/{}", it.id)),
        verb: if after.is_some() { Verb::Create } else { Verb::Delete },
        fields: differences(&fields(before), &fields(after)),
    }
}

fn revocation_fields(revocation: &Revocation) -> Fields {
    let Revocation { id: _, target, reason, creator: _, create_time: _, expire_time, revision: _ } =
        revocation;
    let (field, value) = match target {
        Target::Token { token_id, .. } => ("token_id", token_id),
        Target::Subject { subject, .. } => ("subject", subject),
        Target::Key { key_id, .. } => ("key_id", key_id),
    };
    vec![
        ("issuer".into(), target.issuer().to_string()),
        (field.into(), value.to_string()),
        ("reason".into(), reason.to_string()),
        ("expire_time".into(), text(expire_time.as_ref())),
    ]
}

fn role_fields(role: &Role) -> Fields {
    // Exhaustive: a new field must be audited before this compiles.
    let RoleTerms { description, permissions, domain_scopes, updatable_fields } = &role.terms;
    let mut permissions: Vec<_> = permissions.iter().map(Permission::as_str).collect();
    permissions.sort_unstable();
    let scopes: Vec<_> = domain_scopes.iter().map(ToString::to_string).collect();
    let template = role.record().map_or("", |record| &record.template);
    vec![
        ("description".into(), description.clone()),
        ("template".into(), template.to_owned()),
        ("permissions".into(), permissions.join(",")),
        ("domain_scopes".into(), scopes.join(",")),
        ("updatable_fields".into(), updatable_fields.map_or_else(|| "*".into(), paths)),
    ]
}

/// The paths of fields, separated by commas.
fn paths(fields: EnumSet<TermField>) -> String {
    let paths: Vec<_> = fields.iter().map(TermField::path).collect();
    paths.join(",")
}

fn settings_differences(
    before: &FederationSettings,
    after: &FederationSettings,
) -> Vec<FieldChange> {
    let mut fields = differences(&settings_fields(&before.values), &settings_fields(&after.values));
    let secret = |settings: &FederationSettings| settings.values.dialback_passphrase.clone();
    if secret(before) != secret(after) {
        let shown = |settings| secret(settings).map_or("not set", |_| "set").to_owned();
        fields.push(FieldChange {
            field: "dialback_passphrase".into(),
            before: shown(before),
            after: shown(after),
        });
    }
    fields
}

fn settings_fields(values: &SettingsValues) -> Fields {
    // Exhaustive: a new setting must be audited before this compiles.
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
        dialback_passphrase: _,
    } = values;
    let seconds = |time: &std::time::Duration| format!("{}s", time.as_secs_f64());
    vec![
        ("mode".into(), mode.as_str().into()),
        ("connection_limit".into(), connection_limit.to_string()),
        ("partner_connection_limit".into(), partner_connection_limit.to_string()),
        ("keep_alive_interval".into(), seconds(keep_alive_interval)),
        ("stream_establishment_timeout".into(), seconds(stream_establishment_timeout)),
        ("stream_inactivity_timeout".into(), seconds(stream_inactivity_timeout)),
        ("subscription_refresh_interval".into(), seconds(subscription_refresh_interval)),
        ("message_body_logging_enabled".into(), message_body_logging_enabled.to_string()),
        ("staleness_lease".into(), seconds(staleness_lease)),
        ("staleness_policy".into(), staleness_policy.as_str().into()),
    ]
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

/// The fields whose text differs, those of one side alone included.
fn differences(before: &Fields, after: &Fields) -> Vec<FieldChange> {
    let value = |fields: &Fields, field: &str| {
        fields
            .iter()
            .find(|(path, _)| path == field)
            .map_or_else(String::new, |(_, value)| value.clone())
    };
    let gone = before.iter().filter(|(path, _)| !after.iter().any(|(other, _)| other == path));
    after
        .iter()
        .chain(gone)
        .map(|(path, _)| FieldChange {
            field: path.clone(),
            before: value(before, path),
            after: value(after, path),
        })
        .filter(|change| change.before != change.after)
        .collect()
}

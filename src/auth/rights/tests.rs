//! Rights against an oracle that knows nothing but single roles, single domains, single fields.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::{collection, option, prelude::*, sample::select};
use uuid::Uuid;

use super::*;
use crate::{
    auth::{
        Call, Caller, Policy,
        permit::{GetPartner, PartnerFields, UpdateSettings},
    },
    domain::{Revision, Terms},
};

const DOMAINS: [&str; 5] =
    ["contoso.com", "eu.contoso.com", "de.eu.contoso.com", "fabrikam.com", "eu.fabrikam.com"];

const PERMISSIONS: [Permission; 5] = [
    Permission::PartnersGet,
    Permission::PartnersUpdate,
    Permission::PartnersDelete,
    Permission::PartnersPreview,
    Permission::SettingsUpdate,
];

const FIELDS: [TermField; 3] = [TermField::Owner, TermField::Suspended, TermField::Labels];

fn domain(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

fn scopes() -> impl Strategy<Value = DomainScope> {
    (select(DOMAINS.to_vec()), any::<bool>()).prop_map(|(name, below)| match below {
        true => DomainScope::Below(domain(name)),
        false => DomainScope::Exactly(domain(name)),
    })
}

fn terms() -> impl Strategy<Value = RoleTerms> {
    let permissions = collection::vec(select(PERMISSIONS.to_vec()), 1..4);
    let fields = option::of(collection::vec(select(FIELDS.to_vec()), 1..3));
    (permissions, collection::vec(scopes(), 0..3), fields).prop_map(
        |(permissions, domain_scopes, fields)| RoleTerms {
            description: String::new(),
            permissions: permissions.into_iter().collect(),
            domain_scopes,
            updatable_fields: fields.map(|fields| fields.into_iter().collect()),
        },
    )
}

fn caller(roles: Vec<String>) -> Caller {
    Caller {
        subject: "jo".into(),
        issuer: "one".into(),
        roles,
        expire_time: Timestamp::MAX,
        good_until: Timestamp::MAX,
        token_id: None,
        key_id: "k".into(),
        key_fingerprint: [0; 32],
    }
}

/// A policy of these roles, and a call by somebody who has all of them.
fn situation(terms: &[RoleTerms]) -> (Policy, Call) {
    let roles: Vec<_> = terms
        .iter()
        .enumerate()
        .map(|(at, terms)| Arc::new(Role::custom(&format!("role-{at}"), terms.clone())))
        .collect();
    let ids = roles.iter().map(|role| role.id.to_string()).collect();
    let call = Call { caller: Arc::new(caller(ids)), request_id: "r".into(), reason: "".into() };
    (Policy::new(roles), call)
}

fn oracle(
    roles: &[RoleTerms],
    permission: Permission,
    domain: &DomainName,
    field: Option<TermField>,
) -> bool {
    roles.iter().any(|role| {
        let reaches =
            role.domain_scopes.is_empty() || role.domain_scopes.iter().any(|it| it.covers(domain));
        role.permissions.contains(permission)
            && (reaches || !permission.is_scoped())
            && field.is_none_or(|field| {
                role.updatable_fields.is_none_or(|fields| fields.contains(field))
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_explained_is_what_is_permitted_and_what_single_roles_say(
        roles in collection::vec(terms(), 0..4),
        name in select(DOMAINS.to_vec()),
        fields in collection::btree_set(select(FIELDS.to_vec()), 0..3),
    ) {
        let (policy, call) = situation(&roles);
        let rights = policy.rights_of(&call.caller);
        let domain = domain(name);
        let explained = |permission, fields: &BTreeSet<TermField>| {
            let fields = fields.iter().copied().collect();
            rights.explain(&Question::about(permission, Some(&domain), fields))
        };

        let read = explained(Permission::PartnersGet, &BTreeSet::new());
        let permit = policy.permit_domain::<GetPartner>(&call, Purpose::Commit, domain.clone());
        prop_assert_eq!(read.allowed, permit.is_ok());
        let expected = oracle(&roles, Permission::PartnersGet, &domain, None);
        prop_assert_eq!(read.allowed, expected);
        prop_assert_eq!(read.granting_roles.is_empty(), !expected);

        let change = explained(Permission::PartnersUpdate, &fields);
        let target =
            PartnerFields { domain: domain.clone(), fields: fields.iter().copied().collect() };
        let permit = policy.permit_update(&call, Purpose::Commit, target);
        prop_assert_eq!(change.allowed, permit.is_ok());
        let may = |field| oracle(&roles, Permission::PartnersUpdate, &domain, field);
        let expected = may(None) && fields.iter().all(|field| may(Some(*field)));
        prop_assert_eq!(change.allowed, expected);
        if may(None) {
            let denied: BTreeSet<_> = change.denied_fields.iter().collect();
            let wanted = fields.iter().copied().filter(|field| !may(Some(*field)));
            prop_assert_eq!(denied, wanted.collect::<BTreeSet<_>>());
        }

        let settings = explained(Permission::SettingsUpdate, &BTreeSet::new());
        let permit = policy.permit::<UpdateSettings>(&call, Purpose::Commit);
        prop_assert_eq!(settings.allowed, permit.is_ok());
    }

    /// Whoever makes only roles that are not beyond his own rights can do nothing by them that he
    /// could not do before.
    #[test]
    fn a_role_that_is_not_beyond_gives_nothing_that_was_not_held(
        held in collection::vec(terms(), 0..4),
        new in terms(),
        name in select(DOMAINS.to_vec()),
    ) {
        let (policy, call) = situation(&held);
        let beyond = policy.rights_of(&call.caller).beyond(&new);
        let single = std::slice::from_ref(&new);
        let domain = domain(name);
        for permission in new.permissions - beyond {
            let fields: Vec<_> = match permission.is_limited_to_fields() {
                true => FIELDS.iter().copied().map(Some).collect(),
                false => vec![None],
            };
            for field in fields {
                if oracle(single, permission, &domain, field) {
                    prop_assert!(
                        oracle(&held, permission, &domain, field),
                        "{} on {} for {:?}", permission, domain, field
                    );
                }
            }
        }
    }

    #[test]
    fn what_one_holds_is_never_beyond(held in collection::vec(terms(), 1..4)) {
        let (policy, call) = situation(&held);
        for terms in &held {
            prop_assert!(policy.rights_of(&call.caller).beyond(terms).is_empty());
        }
    }

    /// A partner's fields are updatable where they are for each of its domains.
    #[test]
    fn a_partner_is_as_updatable_as_the_least_of_its_domains(
        held in collection::vec(terms(), 0..4),
        names in collection::btree_set(select(DOMAINS.to_vec()), 1..4),
    ) {
        let (policy, call) = situation(&held);
        let enough = EnumSet::only(Permission::PartnersUpdate);
        let rights = policy.rights_of(&call.caller).field_rights(enough, Purpose::Commit);
        let mut domains = names.iter().map(|name| domain(name));
        let partner = AllowedPartner {
            domain: domains.next().unwrap(),
            uid: Uuid::nil(),
            terms: Terms { additional_domains: domains.collect(), ..Terms::default() },
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
            creator: "".into(),
            updater: "".into(),
            revision: Revision::ZERO,
            delete_time: None,
            expired: false,
        };
        for field in FIELDS {
            let expected = partner
                .domains()
                .all(|domain| oracle(&held, Permission::PartnersUpdate, domain, Some(field)));
            prop_assert_eq!(rights.of(&partner).contains(field), expected, "{:?}", field);
        }
    }
}

#[test]
fn an_explanation_says_which_role_which_scope_and_which_field() {
    let scope: DomainScope = "*.contoso.com".parse().unwrap();
    let regional = Role::custom(
        "regional",
        RoleTerms {
            permissions: Permission::PartnersUpdate.into(),
            domain_scopes: vec![scope.clone()],
            updatable_fields: Some(TermField::Owner.into()),
            ..RoleTerms::default()
        },
    );
    let rights = Rights::of([&regional]);
    let ask = |name: &str, field: TermField| {
        let domain = domain(name);
        rights.explain(&Question::about(Permission::PartnersUpdate, Some(&domain), field.into()))
    };
    let yes = ask("eu.contoso.com", TermField::Owner);
    assert!(yes.allowed);
    assert_eq!(yes.granting_roles, ["regional".into()]);
    assert_eq!(yes.domain_scopes, [scope]);
    let elsewhere = ask("fabrikam.com", TermField::Owner);
    assert!(!elsewhere.allowed);
    assert_eq!(elsewhere.text, "the roles give allowedPartners.update only within *.contoso.com");
    let other = ask("eu.contoso.com", TermField::Labels);
    assert_eq!(other.denied_fields, TermField::Labels);
    assert_eq!(other.text, "the roles give allowedPartners.update only for owner");
}

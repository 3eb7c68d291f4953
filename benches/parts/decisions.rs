//! Masks, filters and rights.

use std::{hint::black_box, sync::Arc};

use enumset::EnumSet;
use partnerd::{
    auth::{
        Policy,
        permit::{GetPartner, PartnerFields, Purpose},
        rights::Question,
    },
    domain::{
        AllowedPartner, Terms,
        filter::Filter,
        mask::{Mask, TermField},
        role::{Origin, Permission, Role, RoleTerms, built_in_roles},
    },
};

use crate::{Parts, model};

/// A filter that looks at three fields.
const FILTER: &str =
    r#"partner_type = FEDERATED AND (owner = "owner-007@example.com" OR labels.tier = "gold")"#;

/// A role that is confined to some partners.
const SCOPES: [&str; 3] = ["*.contoso.com", "*.fabrikam.com", "partner-9e3779b1.org"];

pub fn measure(parts: &mut Parts<'_>) {
    let partner = model::partner(1);
    let patch = Terms { owner: "someone-else@example.com".into(), ..partner.terms.clone() };
    let mask = Mask::<TermField>::parse(&["owner", "labels.tier"]).expect("both are fields");
    parts.add("mask-merge", "merging two fields by their mask", |bencher| {
        bencher.iter(|| mask.merge(black_box(&partner.terms), black_box(&patch)));
    });
    parts.add("filter-parse", "parsing a filter over three fields", |bencher| {
        bencher.iter(|| Filter::<AllowedPartner>::parse(black_box(FILTER)));
    });
    let filter = Filter::<AllowedPartner>::parse(FILTER).expect("it is a filter");
    parts.add("filter-evaluate", "holding a partner against it", |bencher| {
        bencher.iter(|| filter.matches(black_box(&partner)));
    });
    let policy = Policy::new(built_in_roles().into_iter().chain([confined()]).map(Arc::new));
    let (viewer, confined) = (model::call(&["viewer"]), model::call(&["confined", "viewer"]));
    parts.add("permit-get", "the permit to get a partner, by a built-in role", |bencher| {
        bencher.iter(|| {
            let domain = partner.domain.clone();
            let permit =
                policy.permit_domain::<GetPartner>(black_box(&viewer), Purpose::Commit, domain);
            permit.expect("the role gives it")
        });
    });
    let fields = mask.fields();
    parts.add(
        "permit-update",
        "the permit to update two fields, by a role with scopes",
        |bencher| {
            bencher.iter(|| {
                let target = PartnerFields { domain: partner.domain.clone(), fields };
                let permit = policy.permit_update(black_box(&confined), Purpose::Commit, target);
                permit.expect("the role gives it")
            });
        },
    );
    parts.add("explain", "explaining that decision", |bencher| {
        bencher.iter(|| {
            let question =
                Question::about(Permission::PartnersUpdate, Some(&partner.domain), fields);
            policy.rights_of(black_box(&confined.caller)).explain(&question)
        });
    });
}

fn confined() -> Role {
    let scopes = SCOPES.map(|scope| scope.parse().expect("it is a scope"));
    Role {
        id: "confined".into(),
        terms: RoleTerms {
            permissions: EnumSet::only(Permission::PartnersUpdate),
            domain_scopes: scopes.to_vec(),
            updatable_fields: Some(TermField::Owner | TermField::Labels),
            ..RoleTerms::default()
        },
        origin: Origin::BuiltIn { lync_role: "" },
    }
}

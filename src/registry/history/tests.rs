//! The past against a model that simply remembers it, with histories and compactions of all sorts.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{
    auth::{
        Call, Caller, Policy,
        permit::{PartnerFields, Purpose},
        rights::Question,
    },
    domain::{
        mask::Mask,
        partner::TermsChange,
        role::{DomainScope, Role, RoleTerms, built_in_roles},
    },
    registry::{
        memory::{Log, opened},
        partners::{DeleteItem, UpdateItem},
    },
};

const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];

/// Somebody who is an administrator, as far as the policy says what that is.
fn call() -> Call {
    call_as(&["admin"])
}

fn call_as(roles: &[&str]) -> Call {
    let caller = Caller {
        subject: "jo".into(),
        issuer: "https://issuer.example".into(),
        roles: roles.iter().map(ToString::to_string).collect(),
        expire_time: Timestamp::MAX,
        good_until: Timestamp::MAX,
        token_id: None,
        key_id: "key".into(),
        key_fingerprint: [0; 32],
    };
    Call { caller: Arc::new(caller), request_id: "request".into(), reason: "because".into() }
}

fn domain(at: usize) -> DomainName {
    DOMAINS[at].parse().unwrap()
}

/// What an administrator of these domains alone may do.
fn within(scopes: &[&str]) -> Policy {
    let scopes = scopes.iter().map(|scope| DomainScope::Exactly(scope.parse().unwrap()));
    let admin = built_in_roles().into_iter().find(|role| *role.id == *"admin").unwrap();
    let terms = RoleTerms { domain_scopes: scopes.collect(), ..admin.terms };
    Policy::new([Arc::new(Role { terms, ..admin })])
}

#[derive(Clone, Debug)]
enum Op {
    Create(usize),
    Describe(usize, u8),
    Delete(usize),
    Undelete(usize),
    /// To expire in so many hours from now; never at 0.
    Expire(usize, u8),
    /// Back by so many revisions.
    Rollback(usize, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..DOMAINS.len();
    prop_oneof![
        2 => at.clone().prop_map(Op::Create),
        4 => (at.clone(), 0..4_u8).prop_map(|(at, text)| Op::Describe(at, text)),
        2 => at.clone().prop_map(Op::Delete),
        1 => at.clone().prop_map(Op::Undelete),
        2 => (at.clone(), 0..3_u8).prop_map(|(at, hours)| Op::Expire(at, hours)),
        2 => (at, 0..8_u64).prop_map(|(at, back)| Op::Rollback(at, back)),
    ]
}

async fn run(registry: &Registry, op: Op) -> Result<(), Error> {
    let (policy, call, purpose) = (registry.policy(), call(), Purpose::Commit);
    match op {
        Op::Create(at) => {
            let permit = policy.permit_domain(&call, purpose, domain(at))?;
            registry.create(permit, Terms::default(), String::new(), None).await?;
        }
        Op::Describe(at, text) => {
            let values = Terms { description: text.to_string(), ..Terms::default() };
            registry.update(vec![change(at, TermField::Description, values)], None).await?;
        }
        Op::Expire(at, hours) => {
            let ahead = SignedDuration::from_hours(hours.into());
            let expire_time = (hours > 0).then(|| Timestamp::now() + ahead);
            let values = Terms { expire_time, ..Terms::default() };
            registry.update(vec![change(at, TermField::ExpireTime, values)], None).await?;
        }
        Op::Delete(at) => {
            let permit = policy.permit_domain(&call, purpose, domain(at))?;
            let item = DeleteItem { permit, etag: None, allow_missing: false };
            registry.delete(vec![item], None).await?;
        }
        Op::Undelete(at) => {
            let permit = policy.permit_domain(&call, purpose, domain(at))?;
            registry.undelete(permit, None, None).await?;
        }
        Op::Rollback(at, back) => {
            let revision = Revision::new(registry.revision().get().saturating_sub(back));
            let permit = policy.permit_domain(&call, purpose, domain(at))?;
            let rollback = registry.prepare_rollback(permit, revision, &|| true)?;
            let then = at_revision(registry, at, revision).map(|partner| partner.terms.clone());
            let after = registry.rollback(rollback, None, None).await?;
            assert_eq!(after.result[0].as_ref().unwrap().terms, then.unwrap());
        }
    }
    Ok(())
}

/// A change of one field by an administrator of everything.
fn change(at: usize, field: TermField, values: Terms) -> UpdateItem {
    let policy = Policy::new(built_in_roles().into_iter().map(Arc::new));
    let fields = EnumSet::only(field);
    let target = PartnerFields { domain: domain(at), fields };
    UpdateItem {
        permit: policy.permit_update(&call(), Purpose::Commit, target).unwrap(),
        if_missing: None,
        change: TermsChange { values, mask: Mask::of(fields), ..TermsChange::default() },
        etag: None,
        path: String::new(),
    }
}

fn at_revision(
    registry: &Registry,
    at: usize,
    revision: Revision,
) -> Result<Arc<AllowedPartner>, Kind> {
    let permit = registry.policy().permit_domain(&call(), Purpose::Commit, domain(at)).unwrap();
    let found = registry.get_at(&permit, revision, true, &|| true);
    found.map(|found| found.result).map_err(|error| error.kind)
}

/// The revisions of a partner, newest first, asked for in pages.
fn listed(
    registry: &Registry,
    policy: &Policy,
    at: usize,
    page_size: usize,
) -> Result<Vec<PartnerRevision>, Kind> {
    let permit = policy.permit_domain(&call(), Purpose::Commit, domain(at)).unwrap();
    let mut query = RevisionsQuery { page_size, page_token: String::new() };
    let mut all = Vec::new();
    loop {
        let page = registry.revisions(&permit, &query, &|| true).map_err(|error| error.kind)?;
        assert!(page.revisions.len() <= page_size);
        all.extend(page.revisions);
        match page.next {
            Some(next) => query.page_token = next,
            None => return Ok(all),
        }
    }
}

/// What was under each name, by revision: the model.
type Remembered = Vec<[Option<Arc<AllowedPartner>>; DOMAINS.len()]>;

fn remember(registry: &Registry, remembered: &mut Remembered) {
    let snapshot = registry.snapshot();
    if snapshot.revision().get() == remembered.len() as u64 {
        remembered.push([0, 1, 2].map(|at| present(&snapshot, &domain(at)).cloned()));
    }
    check_schedule(&snapshot);
}

/// Scheduled to expire is exactly what is in force, has a time and is not marked.
fn check_schedule(snapshot: &Snapshot) {
    let mut expected: Vec<_> = snapshot
        .partners_after(None, false)
        .filter(|partner| partner.terms.expire_time.is_some() && !partner.expired)
        .collect();
    expected.sort_by_key(|partner| (partner.terms.expire_time, partner.domain.clone()));
    let scheduled: Vec<_> = snapshot.expiries_until(Timestamp::MAX).collect();
    assert_eq!(scheduled, expected);
    let first = expected.first().and_then(|partner| partner.terms.expire_time);
    assert_eq!(snapshot.next_expiry(), first);
}

fn check_points(registry: &Registry, remembered: &Remembered, oldest: u64) {
    for (revision, partners) in (0..).zip(remembered) {
        for (at, expected) in partners.iter().enumerate() {
            let found = at_revision(registry, at, Revision::new(revision));
            // With the history of a deletion goes the deleted partner.
            let purged = expected.as_ref().is_some_and(|partner| {
                partner.delete_time.is_some() && partner.revision.get() < oldest
            });
            match (found, expected) {
                (Ok(found), Some(expected)) => assert_eq!(found, *expected),
                (Err(Kind::NotFound { .. }), None) => {}
                (Err(Kind::NotFound { .. }), Some(_)) => assert!(purged, "{revision}"),
                (Err(Kind::Compacted { oldest: told }), _) => {
                    assert_eq!(told.get(), oldest);
                    assert!(revision + 1 < oldest, "{revision} is answerable from {oldest} on");
                }
                (found, expected) => panic!("{revision}: {found:?} is not {expected:?}"),
            }
        }
    }
}

fn check_lists(registry: &Registry, remembered: &Remembered, oldest: u64, page_size: usize) {
    for at in 0..DOMAINS.len() {
        let states = remembered.iter().rev().filter_map(|partners| partners[at].clone());
        let mut expected: Vec<_> =
            states.filter(|partner| partner.revision.get() >= oldest).collect();
        expected.dedup();
        let found = match listed(registry, &registry.policy(), at, page_size) {
            Ok(found) => found.into_iter().map(|revision| revision.partner).collect(),
            Err(Kind::NotFound { .. }) => Vec::new(),
            Err(kind) => panic!("{kind:?}"),
        };
        assert_eq!(found, expected);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_past_is_what_it_was_as_far_as_it_is_kept(
        ops in prop::collection::vec(op(), 1..40),
        page_size in 1..4_usize,
        forgotten in 0..40_u64,
    ) {
        let log = Arc::new(Log::default());
        let mut remembered = Remembered::new();
        let registry = opened(&log);
        remember(&registry, &mut remembered);
        runtime().block_on(async {
            for op in ops {
                // What cannot be done leaves no trace, which is what is looked at below.
                let _ = run(&registry, op).await;
                remember(&registry, &mut remembered);
            }
        });
        check_points(&registry, &remembered, 1);
        check_lists(&registry, &remembered, 1, page_size);

        let oldest = forgotten.clamp(1, remembered.len() as u64);
        log.forget_before(Revision::new(oldest));
        let reopened = opened(&log);
        check_points(&reopened, &remembered, oldest);
        check_lists(&reopened, &remembered, oldest, page_size);
    }
}

fn after(ops: &[Op]) -> Registry {
    let registry = opened(&Arc::default());
    runtime().block_on(async {
        for op in ops {
            run(&registry, op.clone()).await.unwrap();
        }
    });
    registry
}

#[test]
fn a_revision_tells_who_when_why_and_what() {
    let registry = after(&[Op::Create(0), Op::Describe(0, 1), Op::Delete(0), Op::Undelete(0)]);
    let all = listed(&registry, &registry.policy(), 0, 10).unwrap();
    let changed: Vec<_> = all.iter().map(|revision| revision.changed_fields.join(",")).collect();
    assert_eq!(changed, ["delete_time", "delete_time", "description", ""]);
    let Actor { subject, issuer, request_id, reason } = &all[0].actor;
    assert_eq!(
        [subject, issuer, request_id, reason].map(|text| &**text),
        ["jo", "https://issuer.example", "request", "because"]
    );
    assert_eq!(all[0].time, all[0].partner.update_time);
}

#[test]
fn a_new_holder_of_a_name_is_held_against_the_defaults_and_not_against_the_old_one() {
    let registry = after(&[Op::Create(0), Op::Describe(0, 1), Op::Delete(0), Op::Create(0)]);
    let all = listed(&registry, &registry.policy(), 0, 10).unwrap();
    assert_eq!(all.len(), 4);
    assert!(all[0].changed_fields.is_empty(), "{:?}", all[0].changed_fields);
    assert_ne!(all[0].partner.uid, all[1].partner.uid);
}

#[test]
fn a_page_token_is_for_one_name_and_one_reach() {
    let registry = after(&[Op::Create(0), Op::Create(1), Op::Describe(0, 1)]);
    let ask = |policy: &Policy, at, page_token: &str| {
        let permit = policy.permit_domain(&call(), Purpose::Commit, domain(at)).unwrap();
        let query = RevisionsQuery { page_size: 1, page_token: page_token.into() };
        registry.revisions(&permit, &query, &|| true)
    };
    let everything = registry.policy();
    let token = ask(&everything, 0, "").unwrap().next.unwrap();
    assert!(ask(&everything, 0, &token).is_ok());
    let narrow = within(&[DOMAINS[0]]);
    for refused in [ask(&everything, 1, &token), ask(&narrow, 0, &token)] {
        assert!(matches!(refused.unwrap_err().kind, Kind::Invalid(_)));
    }
    // A token of the right form that leads to somebody else's commit is none of ours either.
    let query = query_digest(&["revisions", DOMAINS[0], "Everything"]);
    let revision = Revision::new(2);
    let forged = PageToken { revision, total: 0, query, after: String::new() }.encode();
    assert!(matches!(ask(&everything, 0, &forged).unwrap_err().kind, Kind::Invalid(_)));
}

#[test]
fn what_lay_out_of_reach_is_not_shown_and_what_lies_out_of_reach_has_no_past() {
    let registry = after(&[Op::Create(0), Op::Describe(0, 1)]);
    let policy = within(&[DOMAINS[0]]);
    let additional = |at: usize| -> Terms {
        Terms { additional_domains: [domain(at)].into_iter().collect(), ..Terms::default() }
    };
    let set = |values: Terms| {
        let item = change(0, TermField::AdditionalDomains, values);
        runtime().block_on(registry.update(vec![item], None)).unwrap();
    };
    let get = |revision| {
        let permit = policy.permit_domain(&call(), Purpose::Commit, domain(0)).unwrap();
        registry.get_at(&permit, Revision::new(revision), true, &|| true).map(|found| found.result)
    };
    set(additional(1));
    let hidden = listed(&registry, &policy, 0, 10).unwrap_err();
    assert!(matches!(hidden, Kind::Hidden { .. }), "{hidden:?}");
    assert!(matches!(get(2).unwrap_err().kind, Kind::Hidden { .. }));

    set(Terms::default());
    let all = listed(&registry, &policy, 0, 1).unwrap();
    let revisions: Vec<_> = all.iter().map(|one| one.partner.revision.get()).collect();
    assert_eq!(revisions, [4, 2, 1]);
    // What was out of sight is no state to hold the next one against.
    assert_eq!(all[0].changed_fields, ["description"]);
    assert_eq!(get(2).unwrap().revision.get(), 2);
    assert!(matches!(get(3).unwrap_err().kind, Kind::Hidden { .. }));
}

#[test]
fn a_walk_that_nobody_waits_for_ends() {
    let registry = after(&[Op::Create(0), Op::Describe(0, 1)]);
    let permit = registry.policy().permit_domain(&call(), Purpose::Commit, domain(0)).unwrap();
    let given_up = registry.get_at(&permit, Revision::new(1), false, &|| false);
    assert!(matches!(given_up.unwrap_err().kind, Kind::Internal(_)));
}

/// A policy of two roles that may change something of a partner: one by rollbacks, one by updates.
fn of_two_roles(rollback: TermField, update: TermField) -> Policy {
    let given = [
        ("admin", Permission::PartnersRollback, rollback),
        ("operator", Permission::PartnersUpdate, update),
    ];
    let roles = built_in_roles().into_iter().filter_map(|role| {
        let (_, permission, field) = given.iter().find(|(id, ..)| *role.id == **id)?;
        let permissions = EnumSet::only(*permission);
        let updatable_fields = Some(EnumSet::only(*field));
        let terms = RoleTerms { permissions, updatable_fields, ..role.terms };
        Some(Arc::new(Role { terms, ..role }))
    });
    Policy::new(roles)
}

#[test]
fn a_rollback_is_no_way_round_the_fields_that_a_role_may_change() {
    let registry = after(&[Op::Create(0), Op::Describe(0, 1), Op::Expire(0, 1)]);
    let policy = of_two_roles(TermField::ExpireTime, TermField::Description);
    let go_back = |roles: &[&str], revision: u64| {
        let permit = policy.permit_domain(&call_as(roles), Purpose::Commit, domain(0))?;
        let rollback = registry.prepare_rollback(permit, Revision::new(revision), &|| true)?;
        runtime().block_on(registry.rollback(rollback, None, None))
    };
    let denied = |roles: &[&str], revision| match go_back(roles, revision).unwrap_err().kind {
        Kind::Denied(denial) => denial,
        other => panic!("{other:?}"),
    };
    let permission = Permission::PartnersRollback;
    assert_eq!(denied(&["operator"], 1), Denial::Permission(permission));
    let fields = EnumSet::only(TermField::Description);
    let updatable = EnumSet::only(TermField::ExpireTime);
    assert_eq!(denied(&["admin"], 1), Denial::Fields { permission, fields, updatable });
    assert_eq!(registry.revision(), Revision::new(3));
    // One role alone is enough for the one field, and both together for both.
    assert_eq!(go_back(&["admin"], 2).unwrap().revision, Revision::new(4));
    assert_eq!(go_back(&["admin", "operator"], 1).unwrap().revision, Revision::new(5));
}

#[test]
fn a_question_about_rollbacks_is_answered_as_they_are_decided() {
    let policy = of_two_roles(TermField::ExpireTime, TermField::Description);
    let ask = |roles: &[&str], fields| {
        let caller = call_as(roles).caller;
        let domain = domain(0);
        let question = Question::about(Permission::PartnersRollback, Some(&domain), fields);
        policy.rights_of(&caller).explain(&question).denied_fields
    };
    let both = TermField::ExpireTime | TermField::Description;
    assert_eq!(ask(&["admin"], both), EnumSet::only(TermField::Description));
    assert!(ask(&["admin", "operator"], both).is_empty());
}

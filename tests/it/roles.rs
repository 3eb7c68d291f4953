//! Roles that somebody makes: what they give, to whom, and who may have to do with them.

use partnerd::proto::v1::{
    AllowedPartner, CreateRoleRequest, DeleteRoleRequest, DescribeCallerRequest, GetRoleRequest,
    ListRolesRequest, OtherSubject, Role, TestPermissionsRequest, UpdateRoleRequest,
};
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    TestServer,
    actor::{Actor, fields, metadata, name, reason, update},
};

fn role(permissions: &[&str], scopes: &[&str], fields: &[&str]) -> Role {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Role {
        permissions: texts(permissions),
        domain_scopes: texts(scopes),
        updatable_fields: texts(fields),
        ..Role::default()
    }
}

async fn create(actor: &Actor, id: &str, role: Role) -> Result<Role, Status> {
    let request = CreateRoleRequest { role_id: id.into(), role: Some(role), ..Default::default() };
    Ok(actor.roles().create_role(request).await?.into_inner())
}

async fn change(actor: &Actor, id: &str, mask: &[&str], role: Role) -> Result<Role, Status> {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateRoleRequest {
        role: Some(Role { name: format!("roles/{id}"), ..role }),
        update_mask: (!mask.is_empty()).then_some(FieldMask { paths }),
        ..Default::default()
    };
    Ok(actor.roles().update_role(request).await?.into_inner())
}

async fn remove(actor: &Actor, id: &str) -> Result<(), Status> {
    let request = DeleteRoleRequest { name: format!("roles/{id}"), ..Default::default() };
    actor.roles().delete_role(request).await.map(drop)
}

const READ: &[&str] = &["allowedPartners.get", "allowedPartners.list"];

#[tokio::test]
async fn a_role_counts_at_once_and_outlives_a_restart() {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    let jo = server.actor("jo", &["reader"]).await;
    assert_eq!(jo.get("contoso.com").await.unwrap_err().code(), Code::PermissionDenied);
    let made = create(&server.admin(), "reader", role(READ, &[], &[])).await.unwrap();
    assert_eq!((made.name.as_str(), made.built_in), ("roles/reader", false));
    assert!(!made.etag.is_empty() && !made.uid.is_empty() && made.create_time.is_some());
    assert_eq!(made.creator, "admin");
    jo.get("contoso.com").await.unwrap();

    let server = server.restart().await;
    let jo = server.actor("jo", &["reader"]).await;
    jo.get("contoso.com").await.unwrap();
    let admin = server.admin();
    let request = GetRoleRequest { name: "roles/reader".into() };
    assert_eq!(admin.roles().get_role(request).await.unwrap().into_inner(), made);
    let changed = change(&admin, "reader", &["permissions"], role(&READ[1..], &[], &[])).await;
    let changed = changed.unwrap();
    assert_ne!(changed.etag, made.etag);
    assert_eq!(changed.uid, made.uid);
    assert_eq!(jo.get("contoso.com").await.unwrap_err().code(), Code::PermissionDenied);
    let again = change(&admin, "reader", &["permissions"], role(&READ[1..], &[], &[])).await;
    assert_eq!(again.unwrap(), changed, "a change that changes nothing");
    let stale = Role { etag: made.etag, ..role(READ, &[], &[]) };
    let stale = change(&admin, "reader", &["permissions"], stale).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
}

#[tokio::test]
async fn a_template_is_copied_and_what_is_given_goes_before_it() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let from = |template: &str, given: Role| Role { template: template.into(), ..given };
    let scoped = role(&["allowedPartners.update", "allowedPartners.get"], &["*.contoso.com"], &[]);
    let made = create(&admin, "eu", from("roles/operator", scoped.clone())).await.unwrap();
    assert_eq!(made.updatable_fields, ["suspended"]);
    assert_eq!(made.domain_scopes, ["*.contoso.com"]);
    assert_eq!(made.template, "roles/operator");
    let second = create(&admin, "eu-two", from("roles/eu", Role::default())).await.unwrap();
    assert_eq!(second.permissions, made.permissions);
    assert_eq!(second.domain_scopes, made.domain_scopes);
    remove(&admin, "eu").await.unwrap();
    let request = GetRoleRequest { name: "roles/eu-two".into() };
    assert_eq!(admin.roles().get_role(request).await.unwrap().into_inner(), second);
    let moved = change(&admin, "eu-two", &[], from("roles/viewer", scoped)).await.unwrap_err();
    assert_eq!(fields(&moved), ["role.template"]);
    let absent = create(&admin, "x", from("roles/none", Role::default())).await.unwrap_err();
    assert!(fields(&absent).contains(&"role.template".to_owned()), "{absent}");
    let wide = create(&admin, "x", from("roles/admin", role(&[], &["contoso.com"], &[]))).await;
    assert_eq!(fields(&wide.unwrap_err()), ["role.permissions"]);
}

#[tokio::test]
async fn every_fault_of_a_role_is_named_with_its_path() {
    let server = TestServer::start().await;
    let wrong = role(&["allowedPartners.get", "nonsense"], &["*", "contoso.com"], &["colour"]);
    let refused = create(&server.admin(), "ok", wrong).await.unwrap_err();
    let faults = ["role.permissions[1]", "role.domain_scopes[0]", "role.updatable_fields[0]"];
    assert_eq!(fields(&refused), faults);
    for id in ["", "Upper", "with.dot", "x/y", &"x".repeat(64)] {
        let refused = create(&server.admin(), id, role(READ, &[], &[])).await.unwrap_err();
        assert_eq!(fields(&refused), ["role_id"], "{id}");
    }
    let empty = create(&server.admin(), "empty", Role::default()).await.unwrap_err();
    assert_eq!(fields(&empty), ["role.permissions"]);
    let twice = create(&server.admin(), "viewer", role(READ, &[], &[])).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn built_in_roles_are_immutable() {
    let server = TestServer::start().await;
    let changed = change(&server.admin(), "viewer", &["permissions"], role(READ, &[], &[])).await;
    let removed = remove(&server.admin(), "viewer").await;
    for refused in [changed.unwrap_err(), removed.unwrap_err()] {
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(reason(&refused), "ROLE_BUILT_IN");
    }
}

/// A manager of roles who holds some rights of his own, within `*.contoso.com`.
async fn manager(server: &TestServer) -> Actor {
    let admin = server.admin();
    let managing = &["roles.create", "roles.update", "roles.delete", "roles.get"];
    create(&admin, "manager", role(managing, &[], &[])).await.unwrap();
    let regional = &["allowedPartners.get", "allowedPartners.update"];
    create(&admin, "regional", role(regional, &["*.contoso.com"], &["owner"])).await.unwrap();
    server.actor("mara", &["manager", "regional"]).await
}

#[tokio::test]
async fn nobody_grants_what_he_does_not_hold() {
    let server = TestServer::start().await;
    let mara = manager(&server).await;
    let within = role(&["allowedPartners.update"], &["*.eu.contoso.com"], &["owner"]);
    create(&mara, "within", within.clone()).await.unwrap();
    for (beyond, what) in [
        (role(&["allowedPartners.delete"], &["*.contoso.com"], &[]), "a permission"),
        (role(&["allowedPartners.get"], &[], &[]), "every domain"),
        (role(&["allowedPartners.get"], &["contoso.com"], &[]), "another domain"),
        (role(&["allowedPartners.update"], &["*.contoso.com"], &["owner", "labels"]), "a field"),
        (role(&["allowedPartners.update"], &["*.contoso.com"], &[]), "all fields"),
        (role(&["roles.escalate"], &[], &[]), "the right to escalate"),
    ] {
        let denied = create(&mara, "beyond", beyond.clone()).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{what}");
        assert_eq!(metadata(&denied, "permission").as_deref(), Some("roles.escalate"), "{what}");
        let mask = &["permissions", "domain_scopes", "updatable_fields"];
        let denied = change(&mara, "within", mask, beyond).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{what}");
    }
    // Taking a scope away widens a role to everything.
    let denied = change(&mara, "within", &["domain_scopes"], Role::default()).await.unwrap_err();
    assert_eq!(metadata(&denied, "beyond").as_deref(), Some("allowedPartners.update"));
    remove(&mara, "within").await.unwrap();
}

#[tokio::test]
async fn whoever_may_edit_a_role_that_he_holds_cannot_widen_himself() {
    let server = TestServer::start().await;
    let mara = manager(&server).await;
    for (mask, wider) in [
        (&["updatable_fields"][..], Role::default()),
        (&["domain_scopes"][..], Role::default()),
        (&["permissions"][..], role(&["allowedPartners.get", "allowedPartners.delete"], &[], &[])),
    ] {
        let denied = change(&mara, "regional", mask, wider).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{mask:?}");
    }
    let all = role(&["roles.create", "federationSettings.update"], &[], &[]);
    let denied = change(&mara, "manager", &["permissions"], all).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    // Nor may he touch a role that gives more than he holds, be it to narrow or to remove it.
    create(&server.admin(), "strong", role(&["allowedPartners.delete"], &[], &[])).await.unwrap();
    let narrowed = change(&mara, "strong", &["permissions"], role(READ, &[], &[])).await;
    assert_eq!(narrowed.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(remove(&mara, "strong").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_deletion_of_a_role_in_use_says_who_would_lose_what() {
    let server = TestServer::start().await;
    let admin = server.admin();
    create(&admin, "reader", role(READ, &[], &[])).await.unwrap();
    server.actor("jo", &["reader"]).await.names("").await;
    server.actor("eve", &["reader", "viewer"]).await.names("").await;
    let refused = remove(&admin, "reader").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "ROLE_IN_USE");
    let details = refused.get_error_details();
    let [holder] = &details.precondition_failure().unwrap().violations[..] else {
        panic!("eve loses nothing: {refused:?}");
    };
    assert!(holder.subject.starts_with("jo of "), "{}", holder.subject);
    assert!(holder.description.contains("allowedPartners.get"), "{}", holder.description);
    let request =
        DeleteRoleRequest { name: "roles/reader".into(), force: true, ..Default::default() };
    admin.roles().delete_role(request.clone()).await.unwrap();
    assert_eq!(
        admin.roles().delete_role(request.clone()).await.unwrap_err().code(),
        Code::NotFound
    );
    let request = DeleteRoleRequest { allow_missing: true, ..request };
    admin.roles().delete_role(request).await.unwrap();
    let jo = server.actor("jo", &["reader"]).await;
    let denied = jo.list(Default::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_scoped_caller_moves_no_partner_into_or_out_of_his_scope() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let all = &[
        "allowedPartners.get",
        "allowedPartners.list",
        "allowedPartners.update",
        "allowedPartners.create",
        "allowedPartners.delete",
        "allowedPartners.resolve",
    ];
    create(&admin, "contoso", role(all, &["contoso.com", "*.contoso.com"], &[])).await.unwrap();
    let jo = server.actor("jo", &["contoso"]).await;
    admin.create_plain("contoso.com").await;
    admin.create_plain("fabrikam.com").await;
    let mixed = AllowedPartner {
        additional_domains: vec!["mixed.contoso.com".into()],
        ..AllowedPartner::default()
    };
    admin.create("outside.example", mixed).await.unwrap();

    let with = |domains: &[&str]| AllowedPartner {
        additional_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        ..AllowedPartner::default()
    };
    let mask = &["additional_domains"];
    jo.update(update("contoso.com", mask, with(&["eu.contoso.com"]))).await.unwrap();
    let out = jo.update(update("contoso.com", mask, with(&["fabrikam.net"]))).await.unwrap_err();
    assert_eq!(
        (out.code(), metadata(&out, "domain").as_deref()),
        (Code::PermissionDenied, Some("fabrikam.net"))
    );
    let created = jo.create("new.contoso.com", with(&["elsewhere.example"])).await.unwrap_err();
    assert_eq!(created.code(), Code::PermissionDenied);
    // What is partly out of scope can be neither seen nor pulled in.
    for denied in [
        jo.get("outside.example").await.unwrap_err(),
        jo.get("fabrikam.com").await.unwrap_err(),
        jo.update(update("outside.example", mask, with(&[]))).await.unwrap_err(),
        jo.delete("fabrikam.com").await.unwrap_err(),
    ] {
        assert_eq!(denied.code(), Code::NotFound, "{denied}");
    }
    assert_eq!(jo.names("").await, ["contoso.com"]);
    assert_eq!(jo.resolve("fabrikam.com").await.unwrap_err().code(), Code::NotFound);
    let resolved = jo.resolve("mixed.contoso.com").await.unwrap();
    assert!(resolved.allowed && resolved.allowed_partner.is_none());
    assert_eq!(admin.get("contoso.com").await.unwrap().additional_domains, ["eu.contoso.com"]);
}

#[tokio::test]
async fn a_field_right_for_one_domain_of_a_partner_is_none_for_its_others() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let update_only = &["allowedPartners.get", "allowedPartners.update"];
    create(&admin, "wide", role(update_only, &["contoso.com"], &[])).await.unwrap();
    create(&admin, "narrow", role(update_only, &["fabrikam.com"], &["suspended"])).await.unwrap();
    let both = AllowedPartner {
        additional_domains: vec!["fabrikam.com".into()],
        ..AllowedPartner::default()
    };
    admin.create("contoso.com", both).await.unwrap();
    let jo = server.actor("jo", &["wide", "narrow"]).await;
    let owner = AllowedPartner { owner: "jo".into(), suspended: true, ..Default::default() };
    let denied = jo.update(update("contoso.com", &["owner"], owner.clone())).await.unwrap_err();
    assert_eq!(metadata(&denied, "fields").as_deref(), Some("owner"));
    assert!(jo.update(update("contoso.com", &["suspended"], owner)).await.unwrap().suspended);
}

#[tokio::test]
async fn what_somebody_else_may_do_is_told_to_those_who_may_ask() {
    let server = TestServer::start().await;
    let admin = server.admin();
    create(&admin, "eu", role(READ, &["*.eu.contoso.com"], &[])).await.unwrap();
    let ask = |other: OtherSubject| TestPermissionsRequest {
        resource: name("contoso.com"),
        permissions: vec!["allowedPartners.get".into()],
        other: Some(other),
        ..Default::default()
    };
    let with_role = OtherSubject { roles: vec!["roles/eu".into()], ..Default::default() };
    let denied = server.viewer().roles().test_permissions(ask(with_role.clone())).await;
    assert_eq!(
        metadata(&denied.unwrap_err(), "permission").as_deref(),
        Some("permissions.testOthers")
    );
    let answer = admin.roles().test_permissions(ask(with_role)).await.unwrap().into_inner();
    assert!(!answer.verdicts[0].allowed);
    assert_eq!(answer.verdicts[0].domain_scopes, ["*.eu.contoso.com"]);

    let jo = OtherSubject { subject: "jo".into(), ..Default::default() };
    let unseen = admin.roles().test_permissions(ask(jo.clone())).await.unwrap_err();
    assert_eq!(unseen.code(), Code::NotFound);
    server.actor("jo", &["viewer"]).await.names("").await;
    let answer = admin.roles().test_permissions(ask(jo.clone())).await.unwrap().into_inner();
    assert!(answer.verdicts[0].allowed);
    assert_eq!(answer.verdicts[0].granting_roles, ["roles/viewer"]);
    let request = DescribeCallerRequest { other: Some(jo) };
    let described = admin.roles().describe_caller(request).await.unwrap().into_inner();
    assert_eq!(
        (described.subject.as_str(), &described.roles[..]),
        ("jo", &["roles/viewer".to_owned()][..])
    );
    assert!(described.last_seen_time.is_some() && described.expire_time.is_none());
}

#[tokio::test]
async fn roles_that_were_made_are_listed_with_the_others() {
    let server = TestServer::start().await;
    create(&server.admin(), "aa", role(READ, &["contoso.com"], &[])).await.unwrap();
    let list = async |filter: &str| {
        let request = ListRolesRequest { filter: filter.into(), ..Default::default() };
        let page = server.viewer().roles().list_roles(request).await.unwrap().into_inner();
        page.roles.into_iter().map(|role| role.name).collect::<Vec<_>>()
    };
    assert_eq!(list("built_in = false").await, ["roles/aa"]);
    assert_eq!(list("domain_scopes:\"contoso.com\"").await, ["roles/aa"]);
    assert_eq!(list("").await.len(), 7);
}

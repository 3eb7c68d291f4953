//! Who may do what, through the front door: every method against every role.

use std::fmt::Write as _;

use partnerd::{
    grpc::methods,
    proto::v1::{
        self as pb, AllowedPartner, DescribeCallerRequest, GetRoleRequest, ListPermissionsRequest,
        ListRolesRequest, StatusRequest, TestPermissionsRequest,
    },
};
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{Actor, fields, metadata, name, reason, update},
};

const ROLES: [&str; 6] = ["admin", "operator", "viewer", "helpdesk", "auditor", "sync-agent"];

/// Calls a method with an empty message, but for `validate_only` where that is asked for: what is
/// not denied fails for another reason, or succeeds. `None` if the method knows no `validate_only`.
async fn call(actor: &Actor, path: &'static str, validate_only: bool) -> Option<Code> {
    let (service, method) = path.trim_start_matches('/').split_once('/').expect("a path has two");
    let service = methods::DESCRIPTORS.get_service_by_name(service).expect("it is ours");
    let method = service.methods().find(|known| known.name() == method);
    let mut message = match method {
        Some(method) => DynamicMessage::new(method.input()),
        None => DynamicMessage::new(service.methods().next().expect("there is one").input()),
    };
    if validate_only {
        message.descriptor().get_field_by_name("validate_only")?;
        message.set_field_by_name("validate_only", Value::Bool(true));
    }
    let mut client = tonic::client::Grpc::new(actor.service());
    client.ready().await.expect("the connection is up");
    let codec = tonic_prost::ProstCodec::<DynamicMessage, ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    // Asks a method with one response and one with a stream alike; the head tells enough.
    match client.server_streaming(tonic::Request::new(message), path, codec).await {
        Ok(_) => Some(Code::Ok),
        Err(status) => Some(status.code()),
    }
}

/// What an actor may do with a method: all of it, prepare it, or nothing.
async fn verdict(actor: &Actor, path: &'static str) -> &'static str {
    let denied = [Some(Code::PermissionDenied), Some(Code::Unauthenticated)];
    if !denied.contains(&call(actor, path, false).await) {
        return "may";
    }
    match call(actor, path, true).await {
        None => "-",
        preview if denied.contains(&preview) => "-",
        Some(_) => "preview",
    }
}

#[tokio::test]
async fn every_method_against_every_role_is_as_the_golden_table_says() {
    let server = TestServer::start().await;
    let mut actors = Vec::new();
    for role in ROLES {
        actors.push((role, server.actor("somebody", &[role]).await));
    }
    actors.push(("no role", server.actor("nobody", &["made-up"]).await));
    actors.push(("no token", server.anonymous()));
    let mut table = format!("{:<53}", "");
    for (name, _) in &actors {
        write!(table, "{name:<11}").unwrap();
    }
    for (path, _) in methods::all() {
        let (_, method) = path.split_once("v1.").expect("every service is of this version");
        write!(table, "\n{method:<53}").unwrap();
        for (_, actor) in &actors {
            write!(table, "{:<11}", verdict(actor, path).await).unwrap();
        }
    }
    let table: Vec<_> = table.lines().map(str::trim_end).collect();
    insta::assert_snapshot!("method_by_role", table.join("\n"));
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_unimplemented_to_those_who_are_known() {
    let server = TestServer::start().await;
    let path = "/xmpp.federation.v1.AllowedPartnerService/Nonsense";
    assert_eq!(call(&server.admin(), path, false).await, Some(Code::Unimplemented));
    assert_eq!(call(&server.anonymous(), path, false).await, Some(Code::Unauthenticated));
}

#[tokio::test]
async fn a_denial_names_the_permission_that_is_missing() {
    let server = TestServer::start().await;
    let denied =
        server.viewer().create("contoso.com", AllowedPartner::default()).await.unwrap_err();
    assert_eq!(
        (denied.code(), reason(&denied).as_str()),
        (Code::PermissionDenied, "PERMISSION_DENIED")
    );
    assert_eq!(metadata(&denied, "permission").as_deref(), Some("allowedPartners.create"));
    assert!(denied.message().contains("allowedPartners.create"));
}

#[tokio::test]
async fn authorisation_comes_before_validation_and_existence() {
    let server = TestServer::start().await;
    let malformed =
        pb::DeleteAllowedPartnerRequest { name: "nonsense".into(), ..Default::default() };
    let denied =
        server.viewer().partners().delete_allowed_partner(malformed.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let refused = server.admin().partners().delete_allowed_partner(malformed).await.unwrap_err();
    assert_eq!(
        (refused.code(), fields(&refused)),
        (Code::InvalidArgument, vec!["name".to_owned()])
    );
    // A preview may be asked for with less, but not by everybody, and it is no way to commit.
    let commit = server.helpdesk().delete("absent.example").await.unwrap_err();
    assert_eq!(commit.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_operator_may_suspend_and_change_nothing_else() {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    let operator = server.operator();
    let suspended = AllowedPartner { suspended: true, owner: "me".into(), ..Default::default() };
    let done =
        operator.update(update("contoso.com", &["suspended"], suspended.clone())).await.unwrap();
    assert!(done.suspended && done.owner.is_empty());
    for (mask, offending) in [
        (&["suspended", "owner"][..], "owner"),
        (&["labels.tier"][..], "labels"),
        (&[][..], "owner"),
    ] {
        let denied =
            operator.update(update("contoso.com", mask, suspended.clone())).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{mask:?}");
        assert_eq!(metadata(&denied, "fields").as_deref(), Some(offending));
    }
    let star = operator.update(update("contoso.com", &["*"], suspended.clone())).await.unwrap_err();
    assert_eq!(star.code(), Code::PermissionDenied);
    let edits = pb::UpdateAllowedPartnerRequest {
        add_additional_domains: vec!["x.example".into()],
        ..update("contoso.com", &["suspended"], suspended.clone())
    };
    assert_eq!(operator.update(edits).await.unwrap_err().code(), Code::PermissionDenied);
    let upsert = pb::UpdateAllowedPartnerRequest {
        allow_missing: true,
        ..update("new.example", &["suspended"], suspended.clone())
    };
    assert_eq!(operator.update(upsert).await.unwrap_err().code(), Code::PermissionDenied);
    let preview = pb::UpdateAllowedPartnerRequest {
        validate_only: true,
        ..update("contoso.com", &["owner"], suspended)
    };
    assert_eq!(operator.update(preview).await.unwrap().owner, "me");
    assert_eq!(server.admin().get("contoso.com").await.unwrap().owner, "");
}

#[tokio::test]
async fn rights_add_up_over_roles() {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    let agent = server.actor("agent", &["sync-agent"]).await;
    assert_eq!(agent.get("contoso.com").await.unwrap_err().code(), Code::PermissionDenied);
    let both = server.actor("both", &["sync-agent", "viewer"]).await;
    both.get("contoso.com").await.unwrap();
    both.resolve("contoso.com").await.unwrap();
}

#[tokio::test]
async fn a_caller_is_told_who_he_is_and_what_is_unknown_of_his_roles() {
    let server = TestServer::start().await;
    let caller = server.actor("jo@example.org", &["viewer", "CsAdministrator"]).await;
    let described = caller
        .roles()
        .describe_caller(DescribeCallerRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(described.subject, "jo@example.org");
    assert_eq!(described.roles, ["roles/viewer"]);
    assert_eq!(described.unknown_roles, ["CsAdministrator"]);
    assert!(described.permissions.contains(&"allowedPartners.list".to_owned()));
    assert!(!described.permissions.contains(&"allowedPartners.create".to_owned()));
    assert!(described.expire_time.is_some());
}

#[tokio::test]
async fn the_question_whether_one_may_is_answered_with_the_reason() {
    let server = TestServer::start().await;
    let request = TestPermissionsRequest {
        resource: name("contoso.com"),
        permissions: vec!["allowedPartners.update".into(), "allowedPartners.delete".into()],
        fields: vec!["suspended".into(), "tls_negotiation".into()],
        ..Default::default()
    };
    let answer =
        server.operator().roles().test_permissions(request.clone()).await.unwrap().into_inner();
    let [update, delete] = &answer.verdicts[..] else { panic!("{answer:?}") };
    assert!(!update.allowed && !delete.allowed);
    assert_eq!(update.denied_fields, ["tls_negotiation"]);
    assert!(update.explanation.contains("suspended"), "{}", update.explanation);
    let suspend = TestPermissionsRequest { fields: vec!["suspended".into()], ..request.clone() };
    let answer = server.operator().roles().test_permissions(suspend).await.unwrap().into_inner();
    assert!(answer.verdicts[0].allowed);
    assert_eq!(answer.verdicts[0].granting_roles, ["roles/operator"]);
    let bad = TestPermissionsRequest {
        permissions: vec!["nonsense".into()],
        fields: vec!["nonsense".into()],
        resource: "allowedPartners/*".into(),
        ..Default::default()
    };
    let refused = server.operator().roles().test_permissions(bad).await.unwrap_err();
    assert_eq!(fields(&refused), ["fields", "permissions[0]", "resource"]);
}

#[tokio::test]
async fn roles_are_found_by_what_they_allow() {
    let server = TestServer::start().await;
    let list = |filter: &str| ListRolesRequest { filter: filter.into(), ..Default::default() };
    let viewer = server.viewer();
    let names = |response: pb::ListRolesResponse| {
        response.roles.into_iter().map(|role| role.name).collect::<Vec<_>>()
    };
    let all = viewer.roles().list_roles(list("")).await.unwrap().into_inner();
    assert_eq!((all.roles.len(), all.total_size), (6, 6));
    assert!(all.roles.iter().all(|role| role.built_in));
    let updaters =
        viewer.roles().list_roles(list("permissions:\"allowedPartners.update\"")).await.unwrap();
    assert_eq!(names(updaters.into_inner()), ["roles/admin", "roles/operator"]);

    let mut pages = Vec::new();
    let mut request = ListRolesRequest { page_size: 4, ..Default::default() };
    for _ in 0..2 {
        let page = viewer.roles().list_roles(request.clone()).await.unwrap().into_inner();
        request.page_token.clone_from(&page.next_page_token);
        pages.extend(names(page));
    }
    assert_eq!(pages.len(), 6);
    assert!(request.page_token.is_empty());

    let request = GetRoleRequest { name: "roles/operator".into() };
    let operator = viewer.roles().get_role(request).await.unwrap().into_inner();
    assert_eq!(operator.lync_role, "CsServerAdministrator");
    assert_eq!(operator.updatable_fields, ["suspended"]);
    let absent = viewer.roles().get_role(GetRoleRequest { name: "roles/none".into() }).await;
    assert_eq!(absent.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn every_permission_is_listed_with_the_methods_that_ask_for_it() {
    let server = TestServer::start().await;
    let listed = server.viewer().roles().list_permissions(ListPermissionsRequest {}).await.unwrap();
    let unused: Vec<_> = listed
        .into_inner()
        .permissions
        .into_iter()
        .filter(|permission| permission.methods.is_empty() || permission.description.is_empty())
        .map(|permission| permission.permission)
        .collect();
    // No method asks for them: they add to what a watch shows, and to what others allow.
    let adding =
        ["federationSettings.getDialbackPassphrase", "permissions.testOthers", "roles.escalate"];
    assert_eq!(unused, adding);
}

#[tokio::test]
async fn the_status_tells_how_the_server_is() {
    let server = TestServer::start().await;
    let partner =
        AllowedPartner { additional_domains: vec!["na.contoso.com".into()], ..Default::default() };
    server.admin().create("contoso.com", partner).await.unwrap();
    server.admin().create_plain("gone.example").await;
    server.admin().delete("gone.example").await.unwrap();
    let status =
        server.operator().maintenance().status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (status.partner_count, status.deleted_partner_count, status.domain_count),
        (1, 1, 2)
    );
    assert_eq!((status.revision, status.oldest_revision), (3, 1));
    assert_eq!((status.store.as_str(), status.writable), ("sled", true));
    assert!(status.store_size_bytes > 0);
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn health_is_for_everybody_and_reflection_for_those_who_are_known() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.anonymous().service());
    for service in ["", "xmpp.federation.v1.AllowedPartnerService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "SERVING");
    }
    let reflect = async |actor: Actor| {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(actor.service());
        let mut answers =
            client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
        answers.message().await
    };
    assert_eq!(reflect(server.anonymous()).await.unwrap_err().code(), Code::Unauthenticated);
    let answer = format!("{:?}", reflect(server.viewer()).await.unwrap());
    assert!(answer.contains("AllowedPartnerService"), "{answer}");
}

#[tokio::test]
async fn health_streams_shut_nobody_out_and_say_when_the_server_drains() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let server = TestServer::builder().max_concurrent_requests(2).start().await;
    let mut watches = Vec::new();
    for _ in 0..10 {
        let mut health = HealthClient::new(server.anonymous().service());
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "SERVING");
        watches.push(watch);
    }
    server.admin().create_plain("contoso.com").await;
    server.drain();
    for mut watch in watches {
        assert_eq!(watch.message().await.unwrap().unwrap().status, 2, "NOT_SERVING");
        assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_resource_that_is_not_understood_is_no_reason_to_say_yes() {
    let server = TestServer::start().await;
    let request = TestPermissionsRequest {
        resource: "contoso.com".into(),
        other: None,
        permissions: vec!["allowedPartners.get".into()],
        fields: vec![],
    };
    let refused = server.admin().roles().test_permissions(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["resource"]);
}

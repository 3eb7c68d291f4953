//! The golden table: every role against every method, for a partner in the scope of the scoped
//! role and for one out of it, for a field that the role lists and for one that it does not.

use std::fmt::Write as _;

use partnerd::{
    grpc::methods,
    proto::v1::{AllowedPartner, CreateRoleRequest, Role},
};
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{Actor, name},
};

const OWN: &str = "own.example";
const OTHER: &str = "other.example";

const ROLES: [&str; 8] =
    ["admin", "operator", "viewer", "helpdesk", "auditor", "sync-agent", "scoped", "scoped-reader"];

/// Aims a message at one partner wherever it can name one, and at one of its fields. An etag that
/// no partner has keeps a call that is allowed from changing anything.
fn aim(message: &mut DynamicMessage, domain: &str, field: &str) {
    for known in message.descriptor().fields().collect::<Vec<_>>() {
        let value = match known.name() {
            "name" => Value::String(name(domain)),
            "domain" | "allowed_partner_id" => Value::String(domain.into()),
            "etag" => Value::String("none".into()),
            "names" => Value::List(vec![Value::String(name(domain))]),
            "suspended" if field == "suspended" => Value::Bool(true),
            "owner" if field == "owner" => Value::String("somebody".into()),
            "allowed_partner" | "requests" => {
                let Some(kind) = known.kind().as_message().cloned() else { continue };
                let mut inner = DynamicMessage::new(kind);
                aim(&mut inner, domain, field);
                match known.is_list() {
                    true => Value::List(vec![Value::Message(inner)]),
                    false => Value::Message(inner),
                }
            }
            _ => continue,
        };
        message.set_field(&known, value);
    }
    if message.descriptor().get_field_by_name("update_mask").is_some() {
        let paths = prost_types::FieldMask { paths: vec![field.to_owned()] };
        let kind = message.descriptor().get_field_by_name("update_mask").unwrap().kind();
        let mut mask = DynamicMessage::new(kind.as_message().unwrap().clone());
        let paths = paths.paths.into_iter().map(Value::String).collect();
        mask.set_field_by_name("paths", Value::List(paths));
        message.set_field_by_name("update_mask", Value::Message(mask));
    }
}

/// What becomes of a call that is aimed at a partner which exists.
async fn verdict(actor: &Actor, path: &'static str, domain: &str, field: &str) -> &'static str {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
    let service_of = methods::DESCRIPTORS.get_service_by_name(service).unwrap();
    let method = service_of.methods().find(|known| known.name() == method).unwrap();
    let mut message = DynamicMessage::new(method.input());
    if service.ends_with("AllowedPartnerService") {
        aim(&mut message, domain, field);
    }
    let mut client = tonic::client::Grpc::new(actor.service());
    client.ready().await.expect("the connection is up");
    let codec = tonic_prost::ProstCodec::<DynamicMessage, ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    match client.unary(tonic::Request::new(message), path, codec).await {
        Ok(_) => "may",
        Err(status) => match status.code() {
            Code::PermissionDenied => "-",
            Code::NotFound if service.ends_with("AllowedPartnerService") => "hidden",
            _ => "may",
        },
    }
}

/// Whether the method says which fields it changes.
fn has_fields(path: &str) -> bool {
    path.ends_with("UpdateAllowedPartner") || path.ends_with("BatchUpdateAllowedPartners")
}

#[tokio::test]
async fn every_role_against_every_method_scope_and_field_is_as_the_golden_table_says() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let partners: Vec<_> = methods::all()
        .filter_map(|(_, access)| match access {
            partnerd::auth::policy::Access::Needs { permission, .. } => Some(permission),
            _ => None,
        })
        .filter(|permission| permission.is_scoped())
        .map(|permission| permission.to_string())
        .collect();
    for (id, template) in [("scoped", ""), ("scoped-reader", "roles/viewer")] {
        let role = Role {
            template: template.into(),
            permissions: if template.is_empty() { partners.clone() } else { Vec::new() },
            domain_scopes: vec![OWN.into()],
            updatable_fields: vec!["suspended".into()],
            ..Role::default()
        };
        let request =
            CreateRoleRequest { role_id: id.into(), role: Some(role), ..Default::default() };
        admin.roles().create_role(request).await.unwrap();
    }
    for domain in [OWN, OTHER] {
        admin.create(domain, AllowedPartner::default()).await.unwrap();
    }
    let mut table = format!("own/other scope; - denied\n{:<62}", "");
    let mut actors = Vec::new();
    for role in ROLES {
        write!(table, "{role:<15}").unwrap();
        actors.push(server.actor("somebody", &[role]).await);
    }
    for (path, _) in methods::all() {
        let (_, method) = path.split_once("v1.").unwrap();
        let fields: &[&str] = if has_fields(path) { &["suspended", "owner"] } else { &[""] };
        for field in fields {
            let row = format!("{method} {field}");
            write!(table, "\n{row:<62}").unwrap();
            for actor in &actors {
                let own = verdict(actor, path, OWN, field).await;
                let other = verdict(actor, path, OTHER, field).await;
                let cell = if own == other { own.to_owned() } else { format!("{own}/{other}") };
                write!(table, "{cell:<15}").unwrap();
            }
        }
    }
    let table: Vec<_> = table.lines().map(str::trim_end).collect();
    insta::assert_snapshot!("method_by_scope_and_field", table.join("\n"));
}

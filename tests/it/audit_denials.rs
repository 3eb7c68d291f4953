//! Refusals that are told as if there were nothing, and what the audit says of them and of replicas.

use partnerd::{
    auth::failures::FailureLimits,
    proto::v1::{
        self as pb, AllowedPartner, AuditEntry, DeleteReplicaRequest, GetAuditEntryRequest,
        ListAllowedPartnerRevisionsRequest, ReplicaReport, ReportReplicaRequest, ServerKind,
        audit_entry::Verb, audit_service_client::AuditServiceClient,
    },
};
use tonic::Code;

use crate::{
    audit::{list, verify},
    harness::{
        TestServer,
        actor::{Actor, name, reason, update},
    },
};

/// Somebody who may do everything with partners below contoso.com, and read the audit about them.
async fn regional(server: &TestServer) -> Actor {
    let permissions = [
        "allowedPartners.get",
        "allowedPartners.create",
        "allowedPartners.update",
        "allowedPartners.delete",
        "allowedPartners.undelete",
        "allowedPartners.listRevisions",
        "auditEntries.get",
    ];
    let role = pb::Role {
        permissions: permissions.map(str::to_owned).into(),
        domain_scopes: vec!["*.contoso.com".into()],
        ..Default::default()
    };
    let request = pb::CreateRoleRequest {
        role_id: "regional".into(),
        role: Some(role),
        ..Default::default()
    };
    server.admin().roles().create_role(request).await.unwrap();
    server.actor("jo", &["regional"]).await
}

/// What was refused to jo, by permission: how often, and with which reason.
fn refused(denials: &[AuditEntry], permission: &str) -> Option<(i64, String)> {
    let found = denials.iter().filter(|denial| denial.subject == "jo");
    let mut found = found.filter_map(|denial| denial.refusal.as_ref());
    let refusal = found.find(|refusal| refusal.permission == permission)?;
    Some((refusal.count, refusal.reason.clone()))
}

#[tokio::test]
async fn what_is_hidden_is_audited_as_denied_and_what_is_not_there_is_not() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("fabrikam.com").await;
    let mixed =
        AllowedPartner { additional_domains: vec!["fabrikam.net".into()], ..Default::default() };
    admin.create("eu.contoso.com", mixed).await.unwrap();
    let jo = regional(&server).await;
    let owner = || AllowedPartner { owner: "jo".into(), ..Default::default() };
    let not_found = |code: Code| assert_eq!(code, Code::NotFound);
    // There, and not for him: out of his scope, or with a domain that is.
    for hidden in ["fabrikam.com", "fabrikam.net", "eu.contoso.com"] {
        not_found(jo.get(hidden).await.unwrap_err().code());
    }
    not_found(jo.delete("fabrikam.com").await.unwrap_err().code());
    let request = update("fabrikam.com", &["owner"], owner());
    not_found(jo.update(request).await.unwrap_err().code());
    let request =
        ListAllowedPartnerRevisionsRequest { name: name("eu.contoso.com"), ..Default::default() };
    let hidden = jo.partners().list_allowed_partner_revisions(request).await;
    not_found(hidden.unwrap_err().code());
    let request = GetAuditEntryRequest { name: "auditEntries/2".into() };
    let mut audit = AuditServiceClient::new(jo.service());
    not_found(audit.get_audit_entry(request).await.unwrap_err().code());
    // What he may not make is refused him, whether it is there or not.
    not_found(jo.create("new.example", owner()).await.unwrap_err().code());
    let request = update("newer.example", &["owner"], owner());
    let upsert = pb::UpdateAllowedPartnerRequest { allow_missing: true, ..request };
    not_found(jo.update(upsert).await.unwrap_err().code());
    // Not there, for anybody.
    for absent in ["absent.contoso.com", "absent.example"] {
        not_found(jo.get(absent).await.unwrap_err().code());
    }
    not_found(jo.undelete("absent.contoso.com").await.unwrap_err().code());
    not_found(admin.get("absent.example").await.unwrap_err().code());
    let request = GetAuditEntryRequest { name: "auditEntries/999".into() };
    not_found(audit.get_audit_entry(request).await.unwrap_err().code());

    let server = server.restart().await;
    let denials = list(&server.admin(), "kind = DENIAL").await;
    let hidden = |count| Some((count, "RESOURCE_NOT_FOUND".to_owned()));
    assert_eq!(refused(&denials, "allowedPartners.get"), hidden(3), "{denials:?}");
    assert_eq!(refused(&denials, "allowedPartners.create"), hidden(2), "{denials:?}");
    for permission in ["delete", "update", "listRevisions"] {
        let permission = format!("allowedPartners.{permission}");
        assert_eq!(refused(&denials, &permission), hidden(1), "{permission}: {denials:?}");
    }
    assert_eq!(refused(&denials, "auditEntries.get"), hidden(1));
    assert_eq!(refused(&denials, "allowedPartners.undelete"), None);
    assert!(denials.iter().all(|denial| denial.subject == "jo"), "{denials:?}");
}

#[tokio::test]
async fn how_often_one_may_ask_does_not_tell_what_is_hidden_from_what_is_not_there() {
    let failures = FailureLimits { per_source: 1_000, per_subject: 3 };
    let server = TestServer::builder().failures(failures).start().await;
    server.admin().create_plain("fabrikam.com").await;
    let mixed =
        AllowedPartner { additional_domains: vec!["fabrikam.net".into()], ..Default::default() };
    server.admin().create("eu.contoso.com", mixed).await.unwrap();
    let jo = regional(&server).await;
    for domain in ["fabrikam.com", "absent.example", "eu.contoso.com", "absent.contoso.com"] {
        for _ in 0..10 {
            let refused = jo.get(domain).await.unwrap_err();
            assert_eq!(reason(&refused), "RESOURCE_NOT_FOUND", "{domain}");
        }
    }
    // The answers differ in the name alone.
    let told = async |domain: &str| {
        let refused = jo.get(domain).await.unwrap_err();
        format!("{refused:?}").replace(domain, "NAME")
    };
    let (hidden, absent) = (told("eu.contoso.com").await, told("no.contoso.com").await);
    let without_dates = |text: String| text.split("metadata").next().unwrap().to_owned();
    assert_eq!(without_dates(hidden), without_dates(absent));
}

#[tokio::test]
async fn what_somebody_may_not_know_of_is_not_named_by_its_other_domains() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mixed =
        AllowedPartner { additional_domains: vec!["fabrikam.net".into()], ..Default::default() };
    admin.create("eu.contoso.com", mixed).await.unwrap();
    admin.delete("eu.contoso.com").await.unwrap();
    let jo = regional(&server).await;
    let refused = jo.undelete("eu.contoso.com").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(!format!("{refused:?}").contains("fabrikam"), "{refused:?}");
    let server = server.restart().await;
    let denials = list(&server.admin(), "kind = DENIAL").await;
    assert!(refused_once(&denials, "allowedPartners.undelete"), "{denials:?}");
}

fn refused_once(denials: &[AuditEntry], permission: &str) -> bool {
    refused(denials, permission) == Some((1, "RESOURCE_NOT_FOUND".to_owned()))
}

#[tokio::test]
async fn the_binding_and_the_end_of_a_replica_are_entries() {
    let server = TestServer::start().await;
    let agent = server.actor("agent-1", &["sync-agent"]).await;
    let report = ReplicaReport { server_kind: ServerKind::Prosody.into(), ..Default::default() };
    let request = ReportReplicaRequest { name: "replicas/one".into(), report: Some(report) };
    for _ in 0..3 {
        agent.replicas().report_replica(request.clone()).await.unwrap();
    }
    let admin = server.admin().with("x-change-reason", "ticket 17");
    let request = DeleteReplicaRequest { name: "replicas/one".into(), ..Default::default() };
    admin.replicas().delete_replica(request).await.unwrap();
    let entries = list(&admin, "kind = REPLICA").await;
    let [bound, freed] = &entries[..] else { panic!("{entries:?}") };
    let told = |entry: &AuditEntry| {
        let [change] = &entry.changes[..] else { panic!("{entry:?}") };
        let subject = change.fields.iter().find(|field| field.path == "subject").unwrap();
        assert_eq!(change.resource, "replicas/one");
        (entry.subject.clone(), change.verb(), subject.before.clone(), subject.after.clone())
    };
    assert_eq!(told(bound), ("agent-1".into(), Verb::Create, "".into(), "agent-1".into()));
    assert_eq!(told(freed), ("admin".into(), Verb::Delete, "agent-1".into(), "".into()));
    assert_eq!(freed.reason, "ticket 17");
    assert_eq!(list(&admin, "changes.resource:\"replicas/one\"").await, entries);
    assert!(verify(&admin, Vec::new()).await.intact);
}

//! Who may back up and restore, and how far.

use partnerd::proto::v1::{
    AllowedPartner, RestoreOptions, Role, backup_record::Record, revocation::Target,
};
use tonic::Code;

use super::{content, forged, furnished, make_role, partner, records};
use crate::harness::{
    TestServer,
    actor::{metadata, reason},
};

#[tokio::test]
async fn nobody_but_an_administrator_may_back_up_or_restore() {
    let server = furnished().await;
    let file = server.admin().backup().await.unwrap();
    let auditor = server.actor("kim", &["auditor"]).await;
    for actor in [server.operator(), server.viewer(), server.sync_agent(), auditor] {
        let denied = actor.backup().await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        assert_eq!(metadata(&denied, "permission").as_deref(), Some("maintenance.backup"));
        for validate_only in [false, true] {
            let options = RestoreOptions { validate_only, ..RestoreOptions::default() };
            let denied = actor.restore_with(options, &file).await.unwrap_err();
            assert_eq!(metadata(&denied, "permission").as_deref(), Some("maintenance.restore"));
        }
    }
    assert_eq!(server.anonymous().backup().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn who_may_restore_still_grants_no_more_than_he_holds() {
    let server = furnished().await;
    let admin = server.admin();
    let holds = ["maintenance.restore", "maintenance.backup", "allowedPartners.get"];
    make_role(&admin, "restorer", &holds).await.unwrap();
    let restorer = server.actor("robin", &["restorer"]).await;
    let file = restorer.backup().await.unwrap();

    // Roles that are as the backup says are nobody's business; others are, before and after.
    admin.create_plain("new.example").await;
    restorer.restore(&file).await.unwrap();
    make_role(&admin, "strong", &["roles.delete"]).await.unwrap();
    let denied = restorer.restore(&file).await.unwrap_err();
    assert_eq!((denied.code(), &*reason(&denied)), (Code::PermissionDenied, "PERMISSION_DENIED"));
    assert_eq!(metadata(&denied, "beyond").as_deref(), Some("roles.delete"));

    let (_, mut wider) = records(&file);
    for record in &mut wider {
        if let Record::Role(Role { name, permissions, .. }) = record
            && name == "roles/restorer"
        {
            permissions.push("roles.escalate".into());
        }
    }
    wider.push(Record::AllowedPartner(partner("smuggled.example")));
    let before = content(&admin.backup().await.unwrap());
    let denied = restorer.restore(&forged(wider.clone())).await.unwrap_err();
    assert_eq!(metadata(&denied, "beyond").as_deref(), Some("roles.escalate"));
    assert_eq!(content(&admin.backup().await.unwrap()), before);
    admin.restore(&forged(wider)).await.unwrap();
}

#[tokio::test]
async fn a_revocation_of_oneself_is_restored_only_when_that_is_meant() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let (_, mut all) = records(&admin.backup().await.unwrap());
    let time = partner("a.example").create_time;
    all.push(Record::Revocation(partnerd::proto::v1::Revocation {
        name: format!("revocations/{}", uuid::Uuid::new_v4()),
        issuer: crate::harness::tokens::ISSUER.into(),
        target: Some(Target::Subject("admin".into())),
        creator: "jo".into(),
        create_time: time,
        ..Default::default()
    }));
    let file = forged(all);
    let refused = admin.restore(&file).await.unwrap_err();
    assert_eq!(reason(&refused), "SELF_REVOCATION");
    let options = RestoreOptions { force: true, ..RestoreOptions::default() };
    admin.restore_with(options, &file).await.unwrap();
    let other = server.actor("somebody", &["admin"]).await;
    assert_eq!(other.revision().await, 1);
    let shut_out = admin.create("a.example", AllowedPartner::default()).await.unwrap_err();
    assert_eq!(shut_out.code(), Code::Unauthenticated);
}

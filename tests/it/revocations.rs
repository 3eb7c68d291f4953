//! What is revoked is believed no longer, from the answer on.

use partnerd::proto::v1::{
    CreateRevocationRequest, DeleteRevocationRequest, GetRevocationRequest, ListRevocationsRequest,
    Revocation, revocation::Target, revocation_service_client::RevocationServiceClient,
};
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{fields, reason},
    tokens::ISSUER,
};

fn subject(subject: &str) -> CreateRevocationRequest {
    let revocation = Revocation {
        issuer: ISSUER.into(),
        target: Some(Target::Subject(subject.into())),
        reason: "left the company".into(),
        ..Revocation::default()
    };
    CreateRevocationRequest { revocation: Some(revocation), ..Default::default() }
}

#[tokio::test]
async fn a_revoked_subject_is_a_stranger_from_the_answer_on_and_after_a_restart() {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    let jo = server.actor("jo", &["viewer"]).await;
    jo.get("contoso.com").await.unwrap();
    let mut revocations = RevocationServiceClient::new(server.admin().service());
    let made = revocations.create_revocation(subject("jo")).await.unwrap().into_inner();
    assert_eq!((made.creator.as_str(), made.reason.as_str()), ("admin", "left the company"));
    let refused = jo.get("contoso.com").await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "TOKEN_REVOKED")
    );
    server.viewer().get("contoso.com").await.unwrap();

    let server = server.restart().await;
    let jo = server.actor("jo", &["viewer"]).await;
    assert_eq!(jo.get("contoso.com").await.unwrap_err().code(), Code::Unauthenticated);
    let mut revocations = RevocationServiceClient::new(server.admin().service());
    let request = GetRevocationRequest { name: made.name.clone() };
    assert_eq!(revocations.get_revocation(request).await.unwrap().into_inner(), made);
    let request =
        ListRevocationsRequest { filter: "target = SUBJECT".into(), ..Default::default() };
    let page = revocations.list_revocations(request).await.unwrap().into_inner();
    assert_eq!((page.revocations, page.total_size), (vec![made.clone()], 1));
    let request = DeleteRevocationRequest { name: made.name, ..Default::default() };
    revocations.delete_revocation(request.clone()).await.unwrap();
    jo.get("contoso.com").await.unwrap();
    assert_eq!(revocations.delete_revocation(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn nobody_cuts_himself_off_without_meaning_to() {
    let server = TestServer::start().await;
    let mut revocations = RevocationServiceClient::new(server.admin().service());
    let refused = revocations.create_revocation(subject("admin")).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "SELF_REVOCATION")
    );
    let meant = CreateRevocationRequest { force: true, ..subject("admin") };
    revocations.create_revocation(meant).await.unwrap();
    assert_eq!(server.admin().get("a.example").await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_revocation_needs_a_target_and_an_end_that_lies_ahead() {
    let server = TestServer::start().await;
    let mut revocations = RevocationServiceClient::new(server.admin().service());
    let mut faults = async |revocation| {
        let request = CreateRevocationRequest { revocation, ..Default::default() };
        fields(&revocations.create_revocation(request).await.unwrap_err())
    };
    assert_eq!(faults(None).await, ["revocation"]);
    assert_eq!(faults(Some(Revocation::default())).await, ["revocation"]);
    let past = Revocation {
        target: Some(Target::KeyId(String::new())),
        expire_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..Revocation::default()
    };
    let all = ["revocation.issuer", "revocation.key_id", "revocation.expire_time"];
    assert_eq!(faults(Some(past)).await, all);
}

//! The decision point.

use partnerd::proto::v1::{
    self as pb, AllowedPartner, FederationMode, FederationSettings,
    resolve_domain_response::DenialReason,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{fields, name, update},
};

#[tokio::test]
async fn a_domain_is_allowed_through_the_partner_that_owns_it() {
    let server = TestServer::start().await;
    let partner = AllowedPartner {
        additional_domains: vec!["na.contoso.com".into()],
        connection_limit: Some(3),
        ..Default::default()
    };
    server.admin().create("contoso.com", partner).await.unwrap();
    let agent = server.sync_agent();
    for domain in ["contoso.com", "NA.Contoso.com."] {
        let answer = agent.resolve(domain).await.unwrap();
        assert!(answer.allowed);
        assert_eq!(answer.denial_reason(), DenialReason::Unspecified);
        assert_eq!(answer.domain, domain.trim_end_matches('.').to_lowercase());
        assert_eq!(answer.allowed_partner.as_ref().unwrap().name, name("contoso.com"));
        assert_eq!((answer.effective_connection_limit, answer.revision), (3, 1));
        assert_eq!(answer.federation_settings.unwrap().mode(), FederationMode::AllowListed);
    }
}

#[tokio::test]
async fn every_refusal_has_its_reason_and_is_no_error() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin
        .create("suspended.example", AllowedPartner { suspended: true, ..Default::default() })
        .await
        .unwrap();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(150);
    let expire_time =
        Some(Timestamp { seconds: soon.as_second(), nanos: soon.subsec_nanosecond() });
    admin
        .create("expired.example", AllowedPartner { expire_time, ..Default::default() })
        .await
        .unwrap();
    while jiff::Timestamp::now() <= soon {
        tokio::task::yield_now().await;
    }
    for (domain, reason) in [
        ("unknown.example", DenialReason::NotListed),
        ("sub.suspended.example", DenialReason::NotListed),
        ("suspended.example", DenialReason::Suspended),
        ("expired.example", DenialReason::Expired),
    ] {
        let answer = admin.resolve(domain).await.unwrap();
        assert_eq!((answer.allowed, answer.denial_reason()), (false, reason), "{domain}");
        assert_eq!(answer.effective_connection_limit, 0);
        assert_eq!(answer.allowed_partner.is_some(), reason != DenialReason::NotListed);
    }
    let malformed = admin.resolve("not a domain").await.unwrap_err();
    assert_eq!(
        (malformed.code(), fields(&malformed)),
        (Code::InvalidArgument, vec!["domain".to_owned()])
    );
}

#[tokio::test]
async fn the_mode_decides_over_the_list() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    admin
        .create("suspended.example", AllowedPartner { suspended: true, ..Default::default() })
        .await
        .unwrap();
    for (mode, listed, unlisted, suspended) in [
        (
            FederationMode::AllowListed,
            None,
            Some(DenialReason::NotListed),
            Some(DenialReason::Suspended),
        ),
        (FederationMode::AllowAllExceptSuspended, None, None, Some(DenialReason::Suspended)),
        (
            FederationMode::DenyAll,
            Some(DenialReason::ModeDenyAll),
            Some(DenialReason::ModeDenyAll),
            Some(DenialReason::ModeDenyAll),
        ),
        (
            FederationMode::Unspecified,
            Some(DenialReason::ModeDenyAll),
            Some(DenialReason::ModeDenyAll),
            Some(DenialReason::ModeDenyAll),
        ),
    ] {
        let request = pb::UpdateFederationSettingsRequest {
            federation_settings: Some(FederationSettings {
                mode: mode.into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["mode".into()] }),
            ..Default::default()
        };
        admin.settings().update_federation_settings(request).await.unwrap();
        for (domain, denial) in [
            ("contoso.com", listed),
            ("unknown.example", unlisted),
            ("suspended.example", suspended),
        ] {
            let answer = admin.resolve(domain).await.unwrap();
            assert_eq!(answer.allowed, denial.is_none(), "{mode:?} {domain}");
            assert_eq!(answer.denial_reason(), denial.unwrap_or_default(), "{mode:?} {domain}");
        }
    }
}

#[tokio::test]
async fn a_domain_that_leaves_its_partner_is_refused_with_the_same_commit() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let partner =
        AllowedPartner { additional_domains: vec!["na.contoso.com".into()], ..Default::default() };
    admin.create("contoso.com", partner).await.unwrap();
    admin
        .update(update("contoso.com", &["additional_domains"], AllowedPartner::default()))
        .await
        .unwrap();
    assert!(!admin.resolve("na.contoso.com").await.unwrap().allowed);
    assert!(admin.resolve("contoso.com").await.unwrap().allowed);
}

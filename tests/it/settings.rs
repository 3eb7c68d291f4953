//! The gateway-wide settings.

use partnerd::proto::v1::{
    FederationMode, FederationSettings, GetFederationSettingsRequest, StalenessPolicy,
    UpdateFederationSettingsRequest,
};
use prost_types::{Duration, FieldMask};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{
    TestServer,
    actor::{Actor, fields, reason},
};

const SECRET: &str = "correct horse battery staple";

async fn get(actor: &Actor) -> FederationSettings {
    let request = GetFederationSettingsRequest::default();
    actor.settings().get_federation_settings(request).await.unwrap().into_inner()
}

async fn set(
    actor: &Actor,
    mask: &[&str],
    settings: FederationSettings,
) -> Result<FederationSettings, Status> {
    let request = UpdateFederationSettingsRequest {
        federation_settings: Some(settings),
        update_mask: Some(FieldMask {
            paths: mask.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    Ok(actor.settings().update_federation_settings(request).await?.into_inner())
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn a_new_store_has_the_originals_defaults() {
    let server = TestServer::start().await;
    let expected = FederationSettings {
        name: "federationSettings".into(),
        mode: FederationMode::AllowListed.into(),
        connection_limit: 1_000,
        partner_connection_limit: 20,
        keep_alive_interval: seconds(300),
        stream_establishment_timeout: seconds(60),
        stream_inactivity_timeout: seconds(600),
        subscription_refresh_interval: seconds(28_800),
        staleness_lease: seconds(86_400),
        staleness_policy: StalenessPolicy::Keep.into(),
        ..Default::default()
    };
    let found = get(&server.viewer()).await;
    assert_eq!(found, FederationSettings { etag: found.etag.clone(), ..expected });
}

#[tokio::test]
async fn an_update_touches_the_named_settings_and_survives_a_restart() {
    let server = TestServer::start().await;
    let before = get(&server.admin()).await;
    let change = FederationSettings {
        partner_connection_limit: 7,
        keep_alive_interval: seconds(1),
        ..Default::default()
    };
    let after = set(&server.admin(), &["partner_connection_limit"], change).await.unwrap();
    let expected = FederationSettings {
        partner_connection_limit: 7,
        revision: 1,
        updater: "admin".into(),
        etag: after.etag.clone(),
        update_time: after.update_time,
        ..before.clone()
    };
    assert_eq!(after, expected);
    let server = server.restart().await;
    assert_eq!(get(&server.admin()).await, after);

    let cleared =
        set(&server.admin(), &["partner_connection_limit"], FederationSettings::default())
            .await
            .unwrap();
    assert_eq!(cleared.partner_connection_limit, 20);
    let stale = FederationSettings { etag: before.etag, connection_limit: 5, ..Default::default() };
    let stale = set(&server.admin(), &["connection_limit"], stale).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
}

#[tokio::test]
async fn what_is_out_of_range_is_refused_by_name() {
    let server = TestServer::start().await;
    let change = FederationSettings {
        connection_limit: -1,
        keep_alive_interval: seconds(-5),
        staleness_lease: seconds(1),
        staleness_policy: 9,
        dialback_passphrase: "short".into(),
        ..Default::default()
    };
    let malformed = set(&server.admin(), &["*"], change.clone()).await.unwrap_err();
    let under = |names: &[&str]| {
        names.iter().map(|name| format!("federation_settings.{name}")).collect::<Vec<_>>()
    };
    assert_eq!(fields(&malformed), under(&["keep_alive_interval", "staleness_policy"]));
    let mended = FederationSettings { keep_alive_interval: None, staleness_policy: 0, ..change };
    let refused = set(&server.admin(), &["*"], mended).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        under(&["connection_limit", "dialback_passphrase", "staleness_lease"])
    );
    let refused =
        set(&server.admin(), &["nonsense"], FederationSettings::default()).await.unwrap_err();
    assert_eq!(fields(&refused), ["update_mask"]);
    assert_eq!(get(&server.admin()).await.revision, 0);
}

#[tokio::test]
async fn the_passphrase_is_taken_kept_and_never_shown() {
    let server = TestServer::start().await;
    let change = FederationSettings { dialback_passphrase: SECRET.into(), ..Default::default() };
    let after = set(&server.admin(), &["dialback_passphrase"], change.clone()).await.unwrap();
    assert!(after.dialback_passphrase_set && after.dialback_passphrase.is_empty());
    let same = set(&server.admin(), &["dialback_passphrase"], change).await.unwrap();
    assert_eq!(same.revision, after.revision, "the same secret is no change");
    let server = server.restart().await;
    assert!(get(&server.viewer()).await.dialback_passphrase_set);
    let cleared = set(&server.admin(), &["dialback_passphrase"], FederationSettings::default())
        .await
        .unwrap();
    assert!(!cleared.dialback_passphrase_set);
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_a_preview_commits_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let request = UpdateFederationSettingsRequest {
        federation_settings: Some(FederationSettings { connection_limit: 5, ..Default::default() }),
        validate_only: true,
        ..Default::default()
    };
    let preview = admin.settings().update_federation_settings(request.clone()).await.unwrap();
    assert_eq!(preview.into_inner().connection_limit, 5);
    assert_eq!(get(&admin).await.connection_limit, 1_000);

    let request = UpdateFederationSettingsRequest {
        validate_only: false,
        request_id: Uuid::new_v4().to_string(),
        ..request
    };
    let first =
        admin.settings().update_federation_settings(request.clone()).await.unwrap().into_inner();
    set(
        &admin,
        &["connection_limit"],
        FederationSettings { connection_limit: 6, ..Default::default() },
    )
    .await
    .unwrap();
    let again = admin.settings().update_federation_settings(request).await.unwrap().into_inner();
    assert_eq!((again, get(&admin).await.connection_limit), (first, 6));
}

#[tokio::test]
async fn a_preview_does_not_tell_whether_a_guess_of_the_passphrase_is_right() {
    let server = TestServer::start().await;
    let guess = FederationSettings { dialback_passphrase: SECRET.into(), ..Default::default() };
    let preview = UpdateFederationSettingsRequest {
        federation_settings: Some(guess),
        validate_only: true,
        ..Default::default()
    };
    let denied =
        server.operator().settings().update_federation_settings(preview.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    server.admin().settings().update_federation_settings(preview).await.unwrap();
}

#[tokio::test]
async fn a_star_with_what_was_read_leaves_the_passphrase_as_it_is() {
    let server = TestServer::start().await;
    let change = FederationSettings { dialback_passphrase: SECRET.into(), ..Default::default() };
    set(&server.admin(), &["dialback_passphrase"], change).await.unwrap();
    let read = get(&server.admin()).await;
    let written = FederationSettings { connection_limit: 9, ..read };
    let after = set(&server.admin(), &["*"], written).await.unwrap();
    assert!(after.dialback_passphrase_set && after.connection_limit == 9);
}

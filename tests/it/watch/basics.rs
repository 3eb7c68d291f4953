//! What a stream is told, request by request.

use partnerd::proto::v1::{
    self as pb, AllowedPartner, WatchAllowedPartnersRequest, watch_event::Type,
};
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{fields, reason, update},
    stream::brief,
};

const SETTINGS: &str = "federationSettings";

fn owned_by(owner: &str) -> AllowedPartner {
    AllowedPartner { owner: owner.into(), ..Default::default() }
}

#[tokio::test]
async fn the_state_comes_first_and_then_every_change() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for domain in ["b.example", "a.example"] {
        admin.create_plain(domain).await;
    }
    let mut watch = admin.watch_from(0).await;
    let (state, revision) = watch.state().await;
    assert_eq!(revision, 2);
    let added = |domain: &str, revision| (Type::Added, domain.to_owned(), revision);
    assert_eq!(brief(&state), [added(SETTINGS, 2), added("a.example", 2), added("b.example", 2)]);
    assert!(state.iter().all(|event| event.commit_time.is_none() && event.subject.is_empty()));
    assert_eq!(state[1].allowed_partner, Some(admin.get("a.example").await.unwrap()));

    let before = admin.get("a.example").await.unwrap();
    let with_reason = server.admin().with("x-change-reason", "ticket 7");
    let after = with_reason.update(update("a.example", &["owner"], owned_by("jo"))).await.unwrap();
    let gone = admin.delete("b.example").await.unwrap();
    let back = admin.undelete("b.example").await.unwrap();

    let events = watch.until(5).await;
    assert_eq!(
        brief(&events),
        [
            (Type::Modified, "a.example".to_owned(), 3),
            (Type::Removed, "b.example".to_owned(), 4),
            (Type::Added, "b.example".to_owned(), 5),
        ]
    );
    let [modified, removed, added] = &events[..] else { panic!("{events:?}") };
    assert_eq!(modified.previous_allowed_partner, Some(before));
    assert_eq!(modified.allowed_partner, Some(after));
    assert_eq!((modified.subject.as_str(), modified.reason.as_str()), ("admin", "ticket 7"));
    assert!(modified.commit_time.is_some());
    assert_eq!(removed.allowed_partner, Some(gone));
    assert!(removed.previous_allowed_partner.is_some());
    assert_eq!((&added.allowed_partner, &added.previous_allowed_partner), (&Some(back), &None));
}

#[tokio::test]
async fn a_start_revision_gives_every_later_change_once() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for number in 0..5 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    let mut watch = admin.watch_from(2).await;
    admin.create_plain("live.example").await;
    let added = |domain: &str, revision| (Type::Added, domain.to_owned(), revision);
    assert_eq!(
        brief(&watch.until(6).await),
        [
            added("p2.example", 3),
            added("p3.example", 4),
            added("p4.example", 5),
            added("live.example", 6)
        ]
    );
}

#[tokio::test]
async fn a_start_ahead_of_the_log_waits_and_claims_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("p1.example").await;
    let request = WatchAllowedPartnersRequest {
        start_revision: 3,
        progress_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let mut watch = admin.watch(request).await.unwrap();
    let waiting = watch.next().await;
    assert_eq!((waiting.events.len(), waiting.progress_revision), (0, 1));
    for domain in ["p2.example", "p3.example", "p4.example"] {
        admin.create_plain(domain).await;
    }
    assert_eq!(brief(&watch.until(4).await), [(Type::Added, "p4.example".to_owned(), 4)]);
}

#[tokio::test]
async fn what_enters_or_leaves_the_filter_is_added_or_removed() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create("a.example", owned_by("jo")).await.unwrap();
    admin.create("b.example", owned_by("al")).await.unwrap();
    let (mut watch, state) = admin.watch_filtered("owner = \"jo\"").await;
    assert_eq!(
        brief(&state),
        [(Type::Added, SETTINGS.to_owned(), 2), (Type::Added, "a.example".to_owned(), 2)]
    );
    admin.update(update("b.example", &["owner"], owned_by("jo"))).await.unwrap();
    admin
        .update(update(
            "a.example",
            &["description"],
            AllowedPartner { description: "still jo's".into(), ..Default::default() },
        ))
        .await
        .unwrap();
    admin.update(update("a.example", &["owner"], owned_by("al"))).await.unwrap();
    admin.update(update("a.example", &["description"], AllowedPartner::default())).await.unwrap();
    admin.delete("b.example").await.unwrap();
    let events = watch.until(7).await;
    assert_eq!(
        brief(&events),
        [
            (Type::Added, "b.example".to_owned(), 3),
            (Type::Modified, "a.example".to_owned(), 4),
            (Type::Removed, "a.example".to_owned(), 5),
            (Type::Removed, "b.example".to_owned(), 7),
        ]
    );
    let owner = |partner: &Option<AllowedPartner>| partner.as_ref().map(|it| it.owner.clone());
    assert_eq!(owner(&events[0].previous_allowed_partner).as_deref(), Some("al"));
    assert_eq!(owner(&events[2].allowed_partner).as_deref(), Some("al"));
}

#[tokio::test]
async fn settings_go_to_those_who_may_read_them_and_the_passphrase_to_agents() {
    let server = TestServer::start().await;
    let (admin, agent, viewer) = (server.admin(), server.sync_agent(), server.viewer());
    let (mut without, state) = server.helpdesk().watch_filtered("").await;
    assert_eq!(brief(&state), []);
    let mut streams = Vec::new();
    for actor in [&agent, &viewer] {
        let mut watch = actor.watch_from(0).await;
        watch.state().await;
        streams.push(watch);
    }
    let settings = pb::FederationSettings {
        dialback_passphrase: "correct horse battery".into(),
        connection_limit: 5,
        ..Default::default()
    };
    let request = pb::UpdateFederationSettingsRequest {
        federation_settings: Some(settings),
        ..Default::default()
    };
    admin.settings().update_federation_settings(request).await.unwrap();
    let mut passphrases = Vec::new();
    for watch in &mut streams {
        let events = watch.until(1).await;
        assert_eq!(brief(&events), [(Type::Modified, SETTINGS.to_owned(), 1)]);
        let limit = |settings: &Option<pb::FederationSettings>| {
            settings.as_ref().map(|settings| settings.connection_limit)
        };
        assert_eq!(limit(&events[0].federation_settings), Some(5));
        assert_eq!(limit(&events[0].previous_federation_settings), Some(1000));
        passphrases.push(events[0].dialback_passphrase.clone());
    }
    assert_eq!(passphrases, ["correct horse battery", ""]);
    admin.create_plain("a.example").await;
    assert_eq!(brief(&without.until(2).await), [(Type::Added, "a.example".to_owned(), 2)]);
    let (state, _) = agent.watch_from(0).await.state().await;
    assert_eq!(state[0].dialback_passphrase, "correct horse battery");
}

#[tokio::test]
async fn what_is_malformed_is_refused_by_its_field() {
    let server = TestServer::start().await;
    let request = WatchAllowedPartnersRequest {
        filter: "owner = ".into(),
        start_revision: -1,
        progress_interval: Some(prost_types::Duration { seconds: 0, nanos: 999_999_999 }),
    };
    let refused = server.admin().watch(request).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["filter", "progress_interval", "start_revision"]);
    let long = WatchAllowedPartnersRequest {
        progress_interval: Some(prost_types::Duration { seconds: 601, nanos: 0 }),
        ..Default::default()
    };
    let refused = server.admin().watch(long).await.map(drop).unwrap_err();
    assert_eq!(fields(&refused), ["progress_interval"]);
    let nobody = server.actor("nobody", &["made-up"]).await;
    let denied = nobody.watch(WatchAllowedPartnersRequest::default()).await;
    assert_eq!(reason(&denied.map(drop).unwrap_err()), "PERMISSION_DENIED");
}

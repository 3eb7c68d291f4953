//! What an informer knows, and what it says of its copy.

use secrecy::ExposeSecret as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    added, changed,
    fake::{FakeService, Step, quick},
    of, partner, progress, removed, settings, synced, torn,
};
use crate::{
    client::{Delta, Informer, Origin, State, Update},
    proto::v1::FederationMode,
};

/// The next change of the copy.
async fn delta(informer: &mut Informer) -> Delta {
    loop {
        if let Update::Changed(delta) = informer.next().await {
            return delta;
        }
    }
}

fn upserts(delta: &Delta) -> Vec<&str> {
    let names = delta.upserts.iter().map(|partner| partner.name.as_str());
    names.map(|name| name.trim_start_matches("allowedPartners/")).collect()
}

fn removals(delta: &Delta) -> Vec<&str> {
    delta.removals.iter().map(|domain| &**domain).collect()
}

fn domains(informer: &Informer) -> Vec<String> {
    informer.state().unwrap().partners.keys().map(|domain| domain.to_string()).collect()
}

fn script(responses: &[crate::proto::watch::WatchAllowedPartnersResponse]) -> Vec<Step> {
    let mut script: Vec<_> = responses.iter().cloned().map(Step::Send).collect();
    script.push(Step::Stall);
    script
}

fn history_gone() -> Vec<Step> {
    let details = ErrorDetails::new();
    vec![Step::Fail(Status::with_error_details(Code::OutOfRange, "it is gone", details))]
}

#[tokio::test]
async fn the_copy_is_always_that_of_one_whole_revision() {
    let service = FakeService::start(vec![script(&[
        of(&[added(5, "b.example"), added(5, "a.example")]),
        synced(5),
        torn(&[added(6, "c.example"), changed(6, "a.example", "me")]),
        of(&[removed(6, "b.example")]),
        progress(9),
    ])])
    .await;
    let mut informer = Informer::new(service.remote(), quick());
    assert!(matches!(informer.next().await, Update::Opened));
    assert!(informer.state().is_none());
    let first = delta(&mut informer).await;
    assert_eq!((first.origin, first.base_revision, first.revision), (Origin::Listed, None, 5));
    assert_eq!(upserts(&first), ["a.example", "b.example"]);
    assert_eq!(domains(&informer), ["a.example", "b.example"]);
    let kept = informer.state().unwrap().clone();

    let second = delta(&mut informer).await;
    assert_eq!((second.origin, second.base_revision), (Origin::Commit, Some(5)));
    assert_eq!((second.revision, second.commit_time.unwrap().seconds), (6, 6));
    assert_eq!(upserts(&second), ["a.example", "c.example"]);
    assert_eq!(removals(&second), ["b.example"]);
    assert!(!second.settings_changed);
    assert_eq!(domains(&informer), ["a.example", "c.example"]);
    assert_eq!(informer.state().unwrap().partners["a.example"].owner, "me");
    assert_eq!((kept.revision, kept.partners.len()), (5, 2), "a copy that was taken stays");

    assert!(matches!(informer.next().await, Update::InStep { revision: 9 }));
    assert_eq!(informer.state().unwrap().revision, 9);
}

#[tokio::test]
async fn a_state_read_anew_is_told_as_its_difference() {
    let service = FakeService::start(vec![
        vec![
            Step::Send(of(&[
                added(5, "a.example"),
                added(5, "b.example"),
                added(5, "c.example"),
                settings(5, FederationMode::AllowListed, "0123456789abcdef"),
            ])),
            Step::Send(synced(5)),
        ],
        history_gone(),
        script(&[
            of(&[
                added(90, "a.example"),
                changed(90, "b.example", "new"),
                added(90, "d.example"),
                settings(90, FederationMode::AllowListed, "0123456789abcdef"),
            ]),
            synced(90),
        ]),
    ])
    .await;
    let mut informer = Informer::new(service.remote(), quick());
    assert!(delta(&mut informer).await.settings_changed);
    let anew = delta(&mut informer).await;
    assert_eq!((anew.origin, anew.base_revision, anew.revision), (Origin::Listed, Some(5), 90));
    assert_eq!(upserts(&anew), ["b.example", "d.example"]);
    assert_eq!(removals(&anew), ["c.example"]);
    assert!(!anew.settings_changed);
    assert_eq!(service.starts(), [0, 5, 0]);
}

#[tokio::test]
async fn settings_and_passphrase_come_change_and_leave_and_the_passphrase_is_never_shown() {
    let (first, second) = ("first secret text", "second secret text");
    let mut gone = settings(8, FederationMode::DenyAll, "");
    gone.r#type = crate::proto::v1::watch_event::Type::Removed.into();
    let service = FakeService::start(vec![script(&[
        of(&[settings(5, FederationMode::AllowListed, first)]),
        synced(5),
        of(&[settings(6, FederationMode::AllowListed, second)]),
        of(&[settings(7, FederationMode::DenyAll, "")]),
        of(&[gone]),
    ])])
    .await;
    let mut informer = Informer::new(service.remote(), quick());
    for (mode, passphrase) in [
        (Some(FederationMode::AllowListed), Some(first)),
        (Some(FederationMode::AllowListed), Some(second)),
        (Some(FederationMode::DenyAll), None),
        (None, None),
    ] {
        let delta = delta(&mut informer).await;
        assert!(delta.settings_changed);
        let state = informer.state().unwrap();
        assert_eq!(state.settings.as_ref().map(|settings| settings.mode()), mode);
        let known = state.dialback_passphrase.as_ref().map(|secret| secret.expose_secret());
        assert_eq!(known, passphrase);
        let shown = format!("{state:?} {delta:?} {informer:?}");
        assert!(!shown.contains("secret text"), "{shown}");
    }
}

#[tokio::test]
async fn a_copy_that_was_kept_is_gone_on_from() {
    let service = FakeService::start(vec![script(&[of(&[removed(8, "a.example")])])]).await;
    let mut kept = State { revision: 7, ..State::default() };
    kept.partners.insert("a.example".into(), partner("a.example", "").into());
    kept.partners.insert("b.example".into(), partner("b.example", "").into());
    let mut informer = Informer::resume(service.remote(), quick(), kept);
    assert_eq!(domains(&informer), ["a.example", "b.example"]);
    let delta = delta(&mut informer).await;
    assert_eq!((delta.base_revision, delta.revision), (Some(7), 8));
    assert_eq!(removals(&delta), ["a.example"]);
    assert_eq!(domains(&informer), ["b.example"]);
    assert_eq!(service.starts(), [7]);
}

#[tokio::test]
async fn losing_the_service_or_the_right_leaves_the_copy_as_it_was() {
    let fail = |code| vec![Step::Fail(Status::with_error_details(code, "no", ErrorDetails::new()))];
    let service = FakeService::start(vec![
        vec![Step::Send(of(&[added(5, "a.example")])), Step::Send(synced(5))],
        fail(Code::PermissionDenied),
        fail(Code::Unauthenticated),
        fail(Code::Unavailable),
    ])
    .await;
    let mut informer = Informer::new(service.remote(), quick());
    delta(&mut informer).await;
    let heard = informer.last_contact().unwrap();
    for _ in 0..6 {
        while !matches!(informer.next().await, Update::Interrupted(_)) {}
        assert_eq!(domains(&informer), ["a.example"]);
        assert_eq!(informer.state().unwrap().revision, 5);
    }
    assert_eq!(informer.last_contact().unwrap(), heard);
}

#[tokio::test]
async fn a_domain_that_is_touched_twice_in_a_commit_is_told_once_as_it_is() {
    let service = FakeService::start(vec![script(&[
        of(&[added(5, "a.example")]),
        synced(5),
        of(&[removed(6, "a.example"), event_again(6), added(6, "b.example"), gone_again(6)]),
    ])])
    .await;
    let mut informer = Informer::new(service.remote(), quick());
    delta(&mut informer).await;
    let delta = delta(&mut informer).await;
    assert_eq!(upserts(&delta), ["a.example"]);
    assert_eq!(removals(&delta), ["b.example"]);
    assert_eq!(domains(&informer), ["a.example"]);
}

fn event_again(revision: i64) -> crate::proto::v1::WatchEvent {
    added(revision, "a.example")
}

fn gone_again(revision: i64) -> crate::proto::v1::WatchEvent {
    removed(revision, "b.example")
}

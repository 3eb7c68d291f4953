//! What is damaged, foreign or against the rules is refused, and nothing changes.

use partnerd::proto::v1::{
    self as pb, AllowedPartner, RestoreOptions, RestoreRequest, Revocation, Role,
    backup_record::Record,
};
use tonic::{Code, Status};

use super::{content, forged, furnished, messages, partner, plain_settings};
use crate::harness::{
    TestServer,
    actor::{fields, metadata, name, reason},
};

fn is_bad_backup(status: &Status) -> bool {
    status.code() == Code::InvalidArgument && reason(status) == "BACKUP_INVALID"
}

#[tokio::test]
async fn every_kind_of_damage_is_refused_with_a_reason_and_nothing_changes() {
    let server = furnished().await;
    let admin = server.admin();
    let file = admin.backup().await.unwrap();
    admin.create_plain("since.example").await;
    let revision = admin.revision().await;
    let before = content(&admin.backup().await.unwrap());

    let mut damaged: Vec<(String, Vec<u8>)> = Vec::new();
    for bit in (0..file.len() * 8).step_by(file.len() / 20).chain([file.len() * 8 - 1]) {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        damaged.push((format!("bit {bit} flipped"), flipped));
    }
    for length in (0..file.len()).step_by(file.len() / 12) {
        damaged.push((format!("{length} bytes"), file[..length].to_vec()));
    }
    let (a, b) = (file.len() / 3, 2 * file.len() / 3);
    damaged.push(("pieces exchanged".into(), [&file[..a], &file[b..], &file[a..b]].concat()));
    damaged.push(("a piece missing".into(), [&file[..a], &file[b..]].concat()));
    damaged.push(("twice".into(), [&file[..], &file[..]].concat()));
    damaged.push(("another file".into(), b"PK\x03\x04 is a zip file".repeat(100)));
    for (what, bytes) in &damaged {
        let refused = admin.restore(bytes).await.expect_err(what);
        assert!(is_bad_backup(&refused), "{what}: {refused:?}");
    }
    assert_eq!(admin.revision().await, revision);
    assert_eq!(content(&admin.backup().await.unwrap()), before);
    // The file itself is as good as ever.
    admin.restore(&file).await.unwrap();
}

#[tokio::test]
async fn a_key_that_was_not_expected_is_refused() {
    let server = furnished().await;
    let admin = server.admin();
    let file = admin.backup().await.unwrap();
    let ours = admin.restore(&file).await.unwrap().backup_public_key;
    let expecting = |public_key: &str| RestoreOptions {
        public_key: public_key.into(),
        ..RestoreOptions::default()
    };
    admin.restore_with(expecting(&ours), &file).await.unwrap();
    let strange = forged(vec![plain_settings(&server).await]);
    let refused = admin.restore_with(expecting(&ours), &strange).await.unwrap_err();
    assert!(is_bad_backup(&refused) && refused.message().contains("another key"), "{refused:?}");
    let refused = admin.restore_with(expecting("nonsense"), &file).await.unwrap_err();
    assert_eq!(fields(&refused), ["options.public_key"]);
}

#[tokio::test]
async fn every_rule_that_a_record_breaks_is_named_with_the_record() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let settings = plain_settings(&server).await;
    let record = |partner: AllowedPartner| Record::AllowedPartner(partner);
    let triple = AllowedPartner {
        tls_negotiation: pb::Negotiation::NotSupported.into(),
        dialback_enabled: Some(false),
        ..partner("triple.example")
    };
    let taker =
        AllowedPartner { additional_domains: vec!["one.example".into()], ..partner("two.example") };
    let role = Role {
        name: "roles/odd".into(),
        permissions: vec!["made.up".into()],
        uid: uuid::Uuid::new_v4().to_string(),
        create_time: triple.create_time,
        update_time: triple.create_time,
        ..Role::default()
    };
    let revocation = Revocation {
        name: format!("revocations/{}", uuid::Uuid::new_v4()),
        issuer: "one".into(),
        create_time: triple.create_time,
        ..Revocation::default()
    };
    let file = forged(vec![
        settings.clone(),
        Record::Role(role),
        Record::Revocation(revocation),
        record(partner("one.example")),
        record(taker),
        record(triple),
        record(AllowedPartner { uid: "no".into(), ..partner("uid.example") }),
        record(partner("not a domain")),
        record(partner("one.example")),
        settings,
    ]);
    let refused = admin.restore(&file).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "FIELD_INVALID"));
    assert_eq!(
        fields(&refused),
        [
            "records[10].federation_settings",
            "records[2].role.permissions",
            "records[2].role.permissions[0]",
            "records[3].revocation",
            "records[5].allowed_partner.additional_domains",
            "records[6].allowed_partner.dialback_enabled",
            "records[6].allowed_partner.sasl_negotiation",
            "records[6].allowed_partner.tls_negotiation",
            "records[7].allowed_partner.uid",
            "records[8].allowed_partner.name",
            "records[9].allowed_partner.name",
        ]
    );
    assert!(refused.message().contains("roles/odd"), "{}", refused.message());
    assert_eq!(admin.revision().await, 0);
}

#[tokio::test]
async fn a_backup_that_is_all_wrong_still_gets_an_answer_that_reaches_its_caller() {
    let server = TestServer::start().await;
    let wrong = |number: usize| {
        let limit = Some(0);
        let domain = format!("p{number}.example");
        Record::AllowedPartner(AllowedPartner { connection_limit: limit, ..partner(&domain) })
    };
    let settings = plain_settings(&server).await;
    let file = forged(std::iter::once(settings).chain((0..500).map(wrong)).collect());
    let refused = server.admin().restore(&file).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(fields(&refused).contains(&"records[2].allowed_partner.connection_limit".to_owned()));
    let omitted: usize = metadata(&refused, "violations_omitted").unwrap().parse().unwrap();
    assert_eq!(omitted + fields(&refused).len(), 500);
}

#[tokio::test]
async fn a_stream_that_says_nothing_or_says_it_twice_is_refused() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let settings = plain_settings(&server).await;
    let file = forged(vec![settings, Record::AllowedPartner(partner("a.example"))]);
    let without = vec![RestoreRequest { options: None, data: file.clone() }];
    let mut twice = messages(RestoreOptions::default(), &file);
    twice.push(RestoreRequest { options: Some(RestoreOptions::default()), data: Vec::new() });
    let bad_id = RestoreOptions { request_id: "17".into(), ..RestoreOptions::default() };
    for (messages, field) in [
        (Vec::new(), "options"),
        (without, "options"),
        (twice, "options"),
        (messages(bad_id, &file), "request_id"),
    ] {
        let refused = admin.maintenance().restore(tokio_stream::iter(messages)).await.unwrap_err();
        assert_eq!(fields(&refused), [field], "{refused:?}");
    }
    let no_settings = forged(vec![Record::AllowedPartner(partner("a.example"))]);
    let refused = admin.restore(&no_settings).await.unwrap_err();
    assert!(is_bad_backup(&refused) && refused.message().contains("settings"), "{refused:?}");
    assert_eq!(admin.revision().await, 0);
}

#[tokio::test]
async fn a_domain_that_this_server_serves_is_refused() {
    let server = TestServer::builder().local_domain("ours.example").start().await;
    let settings = plain_settings(&server).await;
    let file = forged(vec![settings, Record::AllowedPartner(partner("ours.example"))]);
    let refused = server.admin().restore(&file).await.unwrap_err();
    assert_eq!(fields(&refused), [format!("{}.name", name("ours.example"))]);
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.max_restore_bytes = 4 << 20;
            limits.max_restore_changes = 10;
        })
        .start()
        .await;
    let admin = server.admin();
    let settings = plain_settings(&server).await;
    let of = |count: usize, description: &str| {
        let partner = |number: usize| {
            let description = description.to_owned();
            let domain = format!("p{number}.example");
            Record::AllowedPartner(AllowedPartner { description, ..partner(&domain) })
        };
        forged(std::iter::once(settings.clone()).chain((0..count).map(partner)).collect())
    };
    admin.restore(&of(10, "")).await.unwrap();
    for (file, limit) in [
        (of(30, ""), "limits.max_restore_changes"),
        (of(5_000, &"x".repeat(1_000)), "limits.max_restore_bytes"),
        // Small on the wire, and not in memory.
        (of(20_000, ""), "limits.max_restore_bytes"),
    ] {
        let refused = admin.restore(&file).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert_eq!(reason(&refused), "RESTORE_TOO_LARGE");
        assert_eq!(metadata(&refused, "limit").as_deref(), Some(limit));
    }
    assert_eq!(admin.revision().await, 1);
}

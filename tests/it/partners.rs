//! What creating, changing and deleting partners does, through the front door.

use partnerd::proto::v1::{
    self as pb, AllowedPartner, Negotiation, NegotiationMethod, PartnerType,
    partner_warning::Code as WarningCode,
};
use prost_types::{FieldMask, Timestamp};
use tonic::Code;
use uuid::Uuid;

use crate::harness::{
    TestServer,
    actor::{fields, metadata, name, reason, update},
};

fn described(description: &str) -> AllowedPartner {
    AllowedPartner { description: description.into(), ..Default::default() }
}

fn with_domains(domains: &[&str]) -> AllowedPartner {
    let additional_domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    AllowedPartner { additional_domains, ..Default::default() }
}

#[tokio::test]
async fn a_created_partner_comes_back_with_every_default_filled_in() {
    let server = TestServer::start().await;
    let created = server.admin().create("Contoso.COM.", AllowedPartner::default()).await.unwrap();
    assert_eq!(created.name, "allowedPartners/contoso.com");
    assert_eq!(created.partner_type(), PartnerType::PublicUnverified);
    assert_eq!(created.tls_negotiation(), Negotiation::Required);
    assert_eq!(created.sasl_negotiation(), Negotiation::Required);
    assert_eq!(created.keep_alive_enabled, Some(true));
    assert_eq!(created.dialback_enabled, Some(true));
    assert_eq!(created.connection_limit, None);
    assert_eq!(created.negotiation_methods, [NegotiationMethod::SaslOverTls as i32]);
    assert_eq!(created.warnings.len(), 1);
    assert_eq!(created.warnings[0].code(), WarningCode::DialbackUnused);
    assert_eq!(Uuid::parse_str(&created.uid).unwrap().get_version_num(), 4);
    assert_eq!((created.revision, created.creator.as_str()), (1, "admin"));
    assert_eq!(created.create_time, created.update_time);
    assert_eq!(server.viewer().get("contoso.com").await.unwrap(), created);
}

#[tokio::test]
async fn a_domain_belongs_to_one_partner() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create("contoso.com", with_domains(&["na.contoso.com"])).await.unwrap();

    let again = admin.create("contoso.com", AllowedPartner::default()).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::AlreadyExists, "RESOURCE_EXISTS"));

    for partner in [
        ("na.contoso.com", AllowedPartner::default()),
        ("fabrikam.com", with_domains(&["NA.contoso.com"])),
    ] {
        let taken = admin.create(partner.0, partner.1).await.unwrap_err();
        assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "DOMAIN_TAKEN"));
        assert_eq!(metadata(&taken, "domain").as_deref(), Some("na.contoso.com"));
        assert_eq!(metadata(&taken, "owner").as_deref(), Some("allowedPartners/contoso.com"));
    }
    assert_eq!(admin.revision().await, 1);
}

#[tokio::test]
async fn every_field_at_fault_is_named_at_once() {
    let server = TestServer::start().await;
    let partner = AllowedPartner {
        description: "x".repeat(1_025),
        owner: "line\nbreak".into(),
        additional_domains: vec!["fine.example".into(), "*.contoso.com".into()],
        proxy_fqdn: "192.0.2.1".into(),
        connection_limit: Some(0),
        partner_type: 9,
        tls_negotiation: 77,
        labels: [("-bad".to_owned(), "x".to_owned())].into(),
        expire_time: Some(Timestamp { seconds: 0, nanos: -1 }),
        ..Default::default()
    };
    let malformed = server.admin().create("contoso.com", partner.clone()).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    assert_eq!(reason(&malformed), "FIELD_INVALID");
    assert_eq!(
        fields(&malformed),
        [
            "allowed_partner.additional_domains[1]",
            "allowed_partner.expire_time",
            "allowed_partner.partner_type",
            "allowed_partner.proxy_fqdn",
            "allowed_partner.tls_negotiation",
        ]
    );
    let well_formed = AllowedPartner {
        additional_domains: vec!["contoso.com".into()],
        proxy_fqdn: String::new(),
        partner_type: 0,
        tls_negotiation: Negotiation::NotSupported.into(),
        dialback_enabled: Some(false),
        expire_time: Some(Timestamp { seconds: 1_000, nanos: 0 }),
        ..partner
    };
    let invalid = server.admin().create("contoso.com", well_formed).await.unwrap_err();
    assert_eq!(
        fields(&invalid),
        [
            "additional_domains",
            "connection_limit",
            "description",
            "dialback_enabled",
            "expire_time",
            "labels.`-bad`",
            "owner",
            "sasl_negotiation",
            "tls_negotiation",
        ]
        .map(|field| format!("allowed_partner.{field}"))
    );
    assert_eq!(server.admin().revision().await, 0);
}

#[tokio::test]
async fn an_update_touches_exactly_the_fields_of_its_mask() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let before = admin
        .create("contoso.com", AllowedPartner { owner: "ops".into(), ..described("kept") })
        .await
        .unwrap();
    let noise = AllowedPartner {
        dialback_enabled: Some(false),
        owner: "not meant".into(),
        // Not in the mask, so not even looked at.
        proxy_fqdn: "*".into(),
        ..described("not meant")
    };
    let after = admin.update(update("CONTOSO.com", &["dialback_enabled"], noise)).await.unwrap();
    let expected = AllowedPartner {
        dialback_enabled: Some(false),
        warnings: vec![],
        revision: 2,
        etag: after.etag.clone(),
        update_time: after.update_time,
        ..before.clone()
    };
    assert_eq!(after, expected);
    assert_ne!(after.etag, before.etag);
    assert_eq!(server.admin().get("contoso.com").await.unwrap(), after);
}

#[tokio::test]
async fn without_a_mask_the_populated_fields_are_changed_and_nothing_is_cleared() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin
        .create("contoso.com", AllowedPartner { owner: "ops".into(), ..described("kept") })
        .await
        .unwrap();
    let sent = AllowedPartner { suspended: true, ..described("new") };
    let after = admin.update(update("contoso.com", &[], sent)).await.unwrap();
    assert_eq!(
        (after.description.as_str(), after.owner.as_str(), after.suspended),
        ("new", "ops", true)
    );
}

#[tokio::test]
async fn a_named_empty_field_is_cleared_and_a_star_replaces_all() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let full = AllowedPartner {
        partner_type: PartnerType::Federated.into(),
        connection_limit: Some(7),
        keep_alive_enabled: Some(false),
        sasl_negotiation: Negotiation::Optional.into(),
        additional_domains: vec!["b.example".into(), "a.example".into(), "B.example".into()],
        labels: [("tier".to_owned(), "gold".to_owned()), ("a.b".to_owned(), "1".to_owned())].into(),
        ..described("all of it")
    };
    let created = admin.create("contoso.com", full).await.unwrap();
    assert_eq!(created.additional_domains, ["a.example", "b.example"]);

    let mask = ["connection_limit", "partner_type", "keep_alive_enabled", "labels.`a.b`"];
    let cleared =
        admin.update(update("contoso.com", &mask, AllowedPartner::default())).await.unwrap();
    assert_eq!(cleared.connection_limit, None);
    assert_eq!(cleared.partner_type(), PartnerType::PublicUnverified);
    assert_eq!(cleared.keep_alive_enabled, Some(true));
    assert_eq!(cleared.labels, [("tier".to_owned(), "gold".to_owned())].into());
    assert_eq!(cleared.sasl_negotiation(), Negotiation::Optional);

    let replaced =
        admin.update(update("contoso.com", &["*"], described("only this"))).await.unwrap();
    assert_eq!(replaced.description, "only this");
    assert!(replaced.additional_domains.is_empty() && replaced.labels.is_empty());
    assert_eq!(replaced.sasl_negotiation(), Negotiation::Required);
    assert_eq!((&replaced.uid, replaced.create_time), (&created.uid, created.create_time));
}

#[tokio::test]
async fn a_bad_mask_is_refused_with_its_path_and_output_only_fields_are_ignored() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let bad = ["nonsense", "additional_domains.0", "labels.a.b", "description.x", ""];
    let refused = admin.update(update("contoso.com", &bad, described("x"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["update_mask"; 5]);

    let ignored = update("contoso.com", &["uid", "revision", "warnings"], described("x"));
    let unchanged = admin.update(ignored).await.unwrap();
    assert_eq!((unchanged.revision, unchanged.description.as_str()), (1, ""));
}

#[tokio::test]
async fn the_triple_is_checked_on_the_merged_partner() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let gmail = AllowedPartner {
        tls_negotiation: Negotiation::NotSupported.into(),
        sasl_negotiation: Negotiation::NotSupported.into(),
        keep_alive_enabled: Some(false),
        ..Default::default()
    };
    let created = admin.create("gmail.com", gmail).await.unwrap();
    assert_eq!(created.negotiation_methods, [NegotiationMethod::DialbackOverTcp as i32]);
    let off = AllowedPartner { dialback_enabled: Some(false), ..Default::default() };
    let refused = admin.update(update("gmail.com", &["dialback_enabled"], off)).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        ["dialback_enabled", "sasl_negotiation", "tls_negotiation"]
            .map(|field| format!("allowed_partner.{field}"))
    );
    assert_eq!(admin.get("gmail.com").await.unwrap(), created);
}

#[tokio::test]
async fn additional_domains_are_edited_atomically_removes_first() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin
        .create("contoso.com", with_domains(&["europe.contoso.com", "old.contoso.com"]))
        .await
        .unwrap();
    let edit = |add: &[&str], remove: &[&str]| pb::UpdateAllowedPartnerRequest {
        add_additional_domains: add.iter().map(|domain| (*domain).to_owned()).collect(),
        remove_additional_domains: remove.iter().map(|domain| (*domain).to_owned()).collect(),
        ..update("contoso.com", &[], AllowedPartner::default())
    };
    let edited = admin
        .update(edit(
            &["na.contoso.com", "old.contoso.com"],
            &["EUROPE.contoso.com", "absent.example", "old.contoso.com"],
        ))
        .await
        .unwrap();
    assert_eq!(edited.additional_domains, ["na.contoso.com", "old.contoso.com"]);

    let unchanged = admin.update(edit(&["na.contoso.com"], &["absent.example"])).await.unwrap();
    assert_eq!(
        unchanged, edited,
        "adding what is present and removing what is absent is no change"
    );

    let mut both = edit(&["x.example"], &[]);
    both.update_mask = Some(FieldMask { paths: vec!["additional_domains".into()] });
    let refused = admin.update(both).await.unwrap_err();
    assert_eq!(fields(&refused), ["update_mask"]);
}

#[tokio::test]
async fn update_with_a_stale_etag_is_aborted() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let first = admin.create_plain("contoso.com").await;
    let with_etag = |etag: &str, text: &str| {
        update(
            "contoso.com",
            &["description"],
            AllowedPartner { etag: etag.into(), ..described(text) },
        )
    };
    let second = admin.update(with_etag(&first.etag, "mine")).await.unwrap();
    let stale = admin.update(with_etag(&first.etag, "theirs")).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(metadata(&stale, "current_etag"), Some(second.etag.clone()));
    assert_eq!(admin.get("contoso.com").await.unwrap(), second);

    let request = pb::DeleteAllowedPartnerRequest {
        name: name("contoso.com"),
        etag: first.etag,
        ..Default::default()
    };
    let stale = admin.partners().delete_allowed_partner(request).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
}

#[tokio::test]
async fn validate_only_does_everything_but_the_commit() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let preview = pb::UpdateAllowedPartnerRequest {
        validate_only: true,
        ..update("contoso.com", &["description"], described("would be"))
    };
    // Whoever may preview but not write may prepare a change.
    let shown = server.helpdesk().update(preview).await.unwrap();
    assert_eq!(shown.description, "would be");
    let create = pb::CreateAllowedPartnerRequest {
        allowed_partner_id: "fabrikam.com".into(),
        allowed_partner: Some(AllowedPartner::default()),
        validate_only: true,
        ..Default::default()
    };
    server.helpdesk().partners().create_allowed_partner(create.clone()).await.unwrap();
    let taken =
        pb::CreateAllowedPartnerRequest { allowed_partner_id: "contoso.com".into(), ..create };
    let taken = server.helpdesk().partners().create_allowed_partner(taken).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert_eq!(admin.revision().await, 1);
    assert_eq!(admin.get("contoso.com").await.unwrap().description, "");
}

#[tokio::test]
async fn allow_missing_creates_and_ignores_the_mask() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let missing = update("contoso.com", &["owner"], described("created"));
    let refused = admin.update(missing.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    let upsert = pb::UpdateAllowedPartnerRequest { allow_missing: true, ..missing };
    let created = admin.update(upsert.clone()).await.unwrap();
    assert_eq!((created.description.as_str(), created.revision), ("created", 1));
    // Now it exists, so the mask counts, and it names nothing that changes.
    assert_eq!(admin.update(upsert).await.unwrap(), created);
}

#[tokio::test]
async fn a_write_that_changes_nothing_commits_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let created = admin.create("contoso.com", described("same")).await.unwrap();
    let same =
        admin.update(update("contoso.com", &["description"], described("same"))).await.unwrap();
    assert_eq!(same, created);
    assert_eq!(admin.revision().await, 1);
}

#[tokio::test]
async fn a_retry_with_the_same_request_id_gets_the_first_answer_also_after_a_restart() {
    let server = TestServer::start().await;
    let id = Uuid::new_v4().to_string();
    let request = pb::CreateAllowedPartnerRequest {
        allowed_partner_id: "contoso.com".into(),
        allowed_partner: Some(described("first")),
        request_id: id.clone(),
        ..Default::default()
    };
    let first = server
        .admin()
        .partners()
        .create_allowed_partner(request.clone())
        .await
        .unwrap()
        .into_inner();
    server
        .admin()
        .update(update("contoso.com", &["description"], described("later")))
        .await
        .unwrap();
    let again = server
        .admin()
        .partners()
        .create_allowed_partner(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first);

    let server = server.restart().await;
    let again = server
        .admin()
        .partners()
        .create_allowed_partner(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first);
    assert_eq!(server.admin().revision().await, 2);

    let other = pb::CreateAllowedPartnerRequest {
        allowed_partner_id: "other.example".into(),
        ..request.clone()
    };
    let refused = server.admin().partners().create_allowed_partner(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["request_id"]);

    // Another subject's id is another id.
    let theirs = server.actor("somebody-else", &["admin"]).await;
    let refused = theirs.partners().create_allowed_partner(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);

    let no_uuid4 = pb::CreateAllowedPartnerRequest { request_id: "retry-1".into(), ..request };
    let refused = server.admin().partners().create_allowed_partner(no_uuid4).await.unwrap_err();
    assert_eq!(fields(&refused), ["request_id"]);
}

#[tokio::test]
async fn a_deleted_partner_can_be_undeleted_as_it_was() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let created = admin.create("contoso.com", with_domains(&["na.contoso.com"])).await.unwrap();
    let deleted = admin.delete("contoso.com").await.unwrap();
    assert!(deleted.delete_time.is_some());
    let gone = admin.get("contoso.com").await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(gone.message().contains("undeleted"), "{}", gone.message());
    let request = pb::GetAllowedPartnerRequest {
        name: name("contoso.com"),
        show_deleted: true,
        ..Default::default()
    };
    let shown = admin.partners().get_allowed_partner(request).await.unwrap().into_inner();
    assert_eq!(shown, deleted);
    assert!(!admin.resolve("na.contoso.com").await.unwrap().allowed);

    let server = server.restart().await;
    let admin = server.admin();
    let back = admin.undelete("contoso.com").await.unwrap();
    assert_eq!((&back.uid, &back.additional_domains), (&created.uid, &created.additional_domains));
    assert_eq!((back.delete_time, back.revision), (None, 3));
    assert!(admin.resolve("na.contoso.com").await.unwrap().allowed);
    assert_eq!(admin.undelete("contoso.com").await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn undelete_goes_through_every_rule_and_a_domain_created_anew_has_a_new_uid() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let first = admin.create("contoso.com", with_domains(&["na.contoso.com"])).await.unwrap();
    admin.delete("contoso.com").await.unwrap();
    admin.create("fabrikam.com", with_domains(&["na.contoso.com"])).await.unwrap();
    let taken = admin.undelete("contoso.com").await.unwrap_err();
    assert_eq!(reason(&taken), "DOMAIN_TAKEN");

    let anew = admin.create_plain("contoso.com").await;
    assert_ne!(anew.uid, first.uid);
    assert_eq!(admin.undelete("contoso.com").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(admin.undelete("never.example").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn deleting_what_is_missing_is_an_error_unless_allowed() {
    let server = TestServer::start().await;
    let admin = server.admin();
    assert_eq!(admin.delete("contoso.com").await.unwrap_err().code(), Code::NotFound);
    let request = pb::DeleteAllowedPartnerRequest {
        name: name("contoso.com"),
        allow_missing: true,
        ..Default::default()
    };
    let nothing = admin.partners().delete_allowed_partner(request).await.unwrap().into_inner();
    assert_eq!(nothing, AllowedPartner::default());
    assert_eq!(admin.revision().await, 0);
}

fn batch(requests: Vec<pb::UpdateAllowedPartnerRequest>) -> pb::BatchUpdateAllowedPartnersRequest {
    pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() }
}

#[tokio::test]
async fn a_batch_is_one_revision_or_nothing_and_names_the_item_at_fault() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for domain in ["a.example", "b.example", "c.example"] {
        admin.create_plain(domain).await;
    }
    let owner = |text: &str| AllowedPartner { owner: text.into(), ..Default::default() };
    let requests: Vec<_> =
        ["a.example", "b.example"].map(|domain| update(domain, &["owner"], owner("us"))).into();
    let done = admin
        .partners()
        .batch_update_allowed_partners(batch(requests.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(done.revision, 4);
    assert!(done.allowed_partners.iter().all(|partner| partner.revision == 4));

    let mut absent = requests.clone();
    absent.push(update("absent.example", &["owner"], owner("us")));
    absent[0] = update("a.example", &["owner"], owner("them"));
    let refused = admin.partners().batch_update_allowed_partners(batch(absent)).await.unwrap_err();
    assert_eq!(
        (refused.code(), metadata(&refused, "index").as_deref()),
        (Code::NotFound, Some("2"))
    );

    let mut invalid = requests.clone();
    invalid[0] = update("a.example", &["owner"], owner(&"x".repeat(300)));
    invalid.push(update(
        "c.example",
        &["connection_limit"],
        AllowedPartner { connection_limit: Some(-1), ..Default::default() },
    ));
    let refused = admin.partners().batch_update_allowed_partners(batch(invalid)).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        ["requests[0].allowed_partner.owner", "requests[2].allowed_partner.connection_limit"]
    );

    let mut twice = requests.clone();
    twice.push(update("A.example.", &["owner"], owner("them")));
    let refused = admin.partners().batch_update_allowed_partners(batch(twice)).await.unwrap_err();
    assert_eq!(fields(&refused), ["requests[2]"]);

    assert_eq!(
        admin.partners().batch_update_allowed_partners(batch(vec![])).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(admin.get("a.example").await.unwrap().owner, "us");
    assert_eq!(admin.revision().await, 4);
}

#[tokio::test]
async fn domains_may_move_between_the_partners_of_a_batch_in_any_order() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create("a.example", with_domains(&["moves.example"])).await.unwrap();
    admin.create("b.example", with_domains(&["back.example"])).await.unwrap();
    let requests = vec![
        update("b.example", &["additional_domains"], with_domains(&["moves.example"])),
        update("a.example", &["additional_domains"], with_domains(&["back.example"])),
    ];
    admin.partners().batch_update_allowed_partners(batch(requests)).await.unwrap();
    for (domain, owner) in [("moves.example", "b.example"), ("back.example", "a.example")] {
        let resolved = admin.resolve(domain).await.unwrap();
        assert_eq!(resolved.allowed_partner.unwrap().name, name(owner));
    }
}

#[tokio::test]
async fn a_batch_deletes_all_or_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for domain in ["a.example", "b.example"] {
        admin.create_plain(domain).await;
    }
    let request = |domains: &[&str]| pb::BatchDeleteAllowedPartnersRequest {
        requests: domains
            .iter()
            .map(|domain| pb::DeleteAllowedPartnerRequest {
                name: name(domain),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let refused = admin
        .partners()
        .batch_delete_allowed_partners(request(&["a.example", "absent.example"]))
        .await
        .unwrap_err();
    assert_eq!(metadata(&refused, "index").as_deref(), Some("1"));
    assert_eq!(admin.names("").await, ["a.example", "b.example"]);
    let done = admin
        .partners()
        .batch_delete_allowed_partners(request(&["b.example", "a.example"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((done.allowed_partners.len(), done.revision), (2, 3));
    assert!(admin.names("").await.is_empty());
}

#[tokio::test]
async fn concurrent_updates_of_one_partner_all_count() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let adds = (0..40).map(|number| {
        let admin = admin.clone();
        tokio::spawn(async move {
            let request = pb::UpdateAllowedPartnerRequest {
                add_additional_domains: vec![format!("d{number:02}.contoso.com")],
                ..update("contoso.com", &[], AllowedPartner::default())
            };
            admin.update(request).await.map(|partner| partner.revision)
        })
    });
    let mut revisions = Vec::new();
    for add in adds.collect::<Vec<_>>() {
        revisions.push(add.await.unwrap().unwrap());
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (2..42).collect::<Vec<_>>());
    assert_eq!(admin.get("contoso.com").await.unwrap().additional_domains.len(), 40);
}

#[tokio::test]
async fn domains_that_the_server_itself_serves_are_no_partners() {
    let server = TestServer::builder().local_domain("example.org").start().await;
    let refused =
        server.admin().create("Example.org", AllowedPartner::default()).await.unwrap_err();
    assert_eq!(fields(&refused), ["allowed_partner.name"]);
    let refused =
        server.admin().create("contoso.com", with_domains(&["example.org"])).await.unwrap_err();
    assert_eq!(fields(&refused), ["allowed_partner.additional_domains"]);
}

#[tokio::test]
async fn a_read_mask_shows_what_it_names() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let labels =
        [("tier".to_owned(), "gold".to_owned()), ("zone".to_owned(), "eu".to_owned())].into();
    admin.create("contoso.com", AllowedPartner { labels, ..described("hidden") }).await.unwrap();
    let request = |paths: &[&str]| pb::GetAllowedPartnerRequest {
        name: name("contoso.com"),
        read_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..Default::default()
    };
    let shown = admin
        .partners()
        .get_allowed_partner(request(&["name", "labels.tier"]))
        .await
        .unwrap()
        .into_inner();
    let expected = AllowedPartner {
        name: name("contoso.com"),
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(shown, expected);
    let refused = admin.partners().get_allowed_partner(request(&["nonsense"])).await.unwrap_err();
    assert_eq!(fields(&refused), ["read_mask"]);
}

#[tokio::test]
async fn several_partners_are_got_at_one_revision_or_none() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for domain in ["a.example", "b.example"] {
        admin.create_plain(domain).await;
    }
    let request = |domains: &[&str]| pb::BatchGetAllowedPartnersRequest {
        names: domains.iter().map(|domain| name(domain)).collect(),
        read_mask: None,
    };
    let got = admin
        .partners()
        .batch_get_allowed_partners(request(&["b.example", "a.example"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(crate::harness::actor::domains(&got.allowed_partners), ["b.example", "a.example"]);
    let refused = admin
        .partners()
        .batch_get_allowed_partners(request(&["a.example", "x.example"]))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), metadata(&refused, "index").as_deref()),
        (Code::NotFound, Some("1"))
    );
}

#[tokio::test]
async fn what_was_deleted_meanwhile_is_not_brought_back_by_an_upsert_with_its_etag() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let seen = admin.create_plain("contoso.com").await;
    admin.delete("contoso.com").await.unwrap();
    let upsert = pb::UpdateAllowedPartnerRequest {
        allow_missing: true,
        ..update("contoso.com", &["*"], seen)
    };
    let refused = admin.update(upsert).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert!(!admin.resolve("contoso.com").await.unwrap().allowed);
}

#[tokio::test]
async fn rules_are_checked_before_existence() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let refused = admin.create("contoso.com", described(&"x".repeat(2_000))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

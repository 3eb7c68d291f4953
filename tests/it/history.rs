//! What became of a partner, what it was, and back, through the front door.

use partnerd::proto::v1::{
    self as pb, AllowedPartner, AllowedPartnerRevision, GetAllowedPartnerRequest,
    ListAllowedPartnerRevisionsRequest, Negotiation, RollbackAllowedPartnerRequest,
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    cli::Desk,
    harness::{
        TestServer,
        actor::{Actor, Outcome, fields, metadata, name, reason, update},
    },
};

async fn page(
    actor: &Actor,
    domain: &str,
    page_size: i32,
    page_token: &str,
) -> Outcome<pb::ListAllowedPartnerRevisionsResponse> {
    let request = ListAllowedPartnerRevisionsRequest {
        name: name(domain),
        page_size,
        page_token: page_token.into(),
    };
    Ok(actor.partners().list_allowed_partner_revisions(request).await?.into_inner())
}

async fn history(actor: &Actor, domain: &str) -> Vec<AllowedPartnerRevision> {
    page(actor, domain, 0, "").await.unwrap().allowed_partner_revisions
}

async fn get_at(actor: &Actor, domain: &str, revision: i64) -> Outcome<AllowedPartner> {
    let request = GetAllowedPartnerRequest { name: name(domain), revision, ..Default::default() };
    Ok(actor.partners().get_allowed_partner(request).await?.into_inner())
}

fn back(domain: &str, revision: i64) -> RollbackAllowedPartnerRequest {
    RollbackAllowedPartnerRequest { name: name(domain), revision, ..Default::default() }
}

async fn rollback(
    actor: &Actor,
    request: RollbackAllowedPartnerRequest,
) -> Outcome<AllowedPartner> {
    Ok(actor.partners().rollback_allowed_partner(request).await?.into_inner())
}

fn owned_by(owner: &str) -> AllowedPartner {
    AllowedPartner { owner: owner.into(), ..Default::default() }
}

fn with_domains(domains: &[&str]) -> AllowedPartner {
    let additional_domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    AllowedPartner { additional_domains, ..Default::default() }
}

#[tokio::test]
async fn the_history_tells_every_commit_newest_first_with_who_when_why_and_what() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let created = admin.create("contoso.com", owned_by("ops")).await.unwrap();
    admin.create_plain("other.example").await;
    let jo = server.actor("jo", &["admin"]).await.with("x-change-reason", "ticket 7");
    let patch =
        AllowedPartner { labels: [("tier".to_owned(), "gold".to_owned())].into(), ..owned_by("") };
    let changed = jo.update(update("contoso.com", &["owner", "labels"], patch)).await.unwrap();
    let deleted = admin.delete("contoso.com").await.unwrap();

    let told = history(&server.viewer(), "CONTOSO.com").await;
    let partners: Vec<_> = told.iter().filter_map(|one| one.allowed_partner.clone()).collect();
    assert_eq!(partners, [deleted.clone(), changed.clone(), created.clone()]);
    let changes: Vec<_> = told.iter().map(|one| one.changed_fields.join(" ")).collect();
    assert_eq!(changes, ["delete_time", "labels.`tier` owner", "owner"]);
    let second = &told[1];
    assert_eq!((second.revision, second.subject.as_str()), (3, "jo"));
    assert_eq!((second.reason.as_str(), &second.commit_time), ("ticket 7", &changed.update_time));
    assert!(!second.issuer.is_empty() && !second.request_id.is_empty());
}

#[tokio::test]
async fn a_history_comes_in_pages_that_go_on_where_the_last_one_ended() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    for owner in 0..6 {
        admin
            .update(update("contoso.com", &["owner"], owned_by(&owner.to_string())))
            .await
            .unwrap();
    }
    let first = page(&admin, "contoso.com", 3, "").await.unwrap();
    assert_eq!(first.oldest_revision, 1);
    // What happens meanwhile is newer than what is left to list.
    admin.update(update("contoso.com", &["owner"], owned_by("new"))).await.unwrap();
    let mut revisions = Vec::new();
    let mut next = first;
    loop {
        revisions.extend(next.allowed_partner_revisions.iter().map(|one| one.revision));
        if next.next_page_token.is_empty() {
            break;
        }
        next = page(&admin, "contoso.com", 3, &next.next_page_token).await.unwrap();
    }
    assert_eq!(revisions, [7, 6, 5, 4, 3, 2, 1]);

    admin.create_plain("other.example").await;
    let token = page(&admin, "contoso.com", 3, "").await.unwrap().next_page_token;
    for (domain, size, token) in
        [("other.example", 3, token.as_str()), ("contoso.com", 3, "x"), ("contoso.com", -1, "")]
    {
        let refused = page(&admin, domain, size, token).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{domain} {size} {token}");
    }
}

#[tokio::test]
async fn a_partner_is_seen_as_it_was_at_any_revision_that_is_kept() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let created = admin.create_plain("contoso.com").await;
    admin.create_plain("other.example").await;
    let changed = admin.update(update("contoso.com", &["owner"], owned_by("me"))).await.unwrap();
    admin.delete("contoso.com").await.unwrap();
    let anew = admin.create_plain("contoso.com").await;

    let server = server.restart().await;
    let viewer = server.viewer();
    for (revision, expected) in [(1, &created), (2, &created), (3, &changed), (5, &anew)] {
        assert_eq!(get_at(&viewer, "contoso.com", revision).await.unwrap(), *expected);
    }
    assert_eq!(get_at(&viewer, "contoso.com", 0).await.unwrap(), anew);
    assert_ne!(anew.uid, created.uid);

    let gone = get_at(&viewer, "contoso.com", 4).await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    assert!(gone.message().contains("at revision 4 it was deleted"), "{}", gone.message());
    let request = GetAllowedPartnerRequest {
        name: name("contoso.com"),
        revision: 4,
        show_deleted: true,
        ..Default::default()
    };
    let shown = viewer.partners().get_allowed_partner(request).await.unwrap();
    assert_eq!(shown.metadata().get("x-revision").unwrap(), "4");
    assert!(shown.into_inner().delete_time.is_some());

    let not_yet = get_at(&viewer, "other.example", 1).await.unwrap_err();
    assert_eq!(not_yet.code(), Code::NotFound);
    let ahead = get_at(&viewer, "contoso.com", 6).await.unwrap_err();
    assert_eq!((ahead.code(), reason(&ahead).as_str()), (Code::OutOfRange, "REVISION_AHEAD"));
    assert_eq!(metadata(&ahead, "current_revision").as_deref(), Some("5"));
    assert!(ahead.message().contains("x-min-revision"));
    let negative = get_at(&viewer, "contoso.com", -1).await.unwrap_err();
    assert_eq!(fields(&negative), ["revision"]);
}

#[tokio::test]
async fn who_never_was_has_no_history() {
    let server = TestServer::start().await;
    let absent = page(&server.viewer(), "contoso.com", 0, "").await.unwrap_err();
    assert_eq!((absent.code(), reason(&absent).as_str()), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    let denied = page(&server.sync_agent(), "contoso.com", 0, "").await.unwrap_err();
    assert_eq!(metadata(&denied, "permission").as_deref(), Some("allowedPartners.listRevisions"));
}

#[tokio::test]
async fn a_rollback_is_a_new_commit_with_the_old_terms() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let before = admin
        .create(
            "contoso.com",
            AllowedPartner { owner: "ops".into(), ..with_domains(&["na.contoso.com"]) },
        )
        .await
        .unwrap();
    let other = AllowedPartner {
        tls_negotiation: Negotiation::Optional.into(),
        suspended: true,
        ..with_domains(&["eu.contoso.com"])
    };
    let changed = admin.update(update("contoso.com", &["*"], other)).await.unwrap();

    let shown = RollbackAllowedPartnerRequest { validate_only: true, ..back("contoso.com", 1) };
    let preview = rollback(&server.helpdesk(), shown).await.unwrap();
    assert_eq!(admin.get("contoso.com").await.unwrap(), changed);

    let jo = server.actor("jo", &["admin"]).await.with("x-change-reason", "undo");
    let after = rollback(&jo, back("contoso.com", 1)).await.unwrap();
    let expected = AllowedPartner {
        update_time: after.update_time,
        updater: "jo".into(),
        revision: 3,
        etag: after.etag.clone(),
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(
        (preview.owner, preview.additional_domains),
        (after.owner, after.additional_domains)
    );
    assert!(server.viewer().resolve("na.contoso.com").await.unwrap().allowed);
    assert!(!server.viewer().resolve("eu.contoso.com").await.unwrap().allowed);
    let told = history(&admin, "contoso.com").await;
    assert_eq!((told[0].revision, told[0].reason.as_str()), (3, "undo"));
    assert!(told[0].changed_fields.contains(&"suspended".to_owned()));

    // It is so already: nothing is committed, whichever revision says so.
    for revision in [1, 3] {
        assert_eq!(rollback(&admin, back("contoso.com", revision)).await.unwrap().revision, 3);
    }
    assert_eq!(admin.revision().await, 3);
}

#[tokio::test]
async fn a_rollback_obeys_the_rules_that_hold_now() {
    let server = TestServer::builder().start().await;
    let admin = server.admin();
    admin.create("contoso.com", with_domains(&["shared.example"])).await.unwrap();
    admin.update(update("contoso.com", &["additional_domains"], with_domains(&[]))).await.unwrap();
    admin.create_plain("shared.example").await;
    let taken = rollback(&admin, back("contoso.com", 1)).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "DOMAIN_TAKEN"));
    assert_eq!(metadata(&taken, "domain").as_deref(), Some("shared.example"));

    let stale = RollbackAllowedPartnerRequest { etag: "1-x".into(), ..back("contoso.com", 1) };
    let stale = rollback(&admin, stale).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    for (request, field) in [
        (back("contoso.com", 0), "revision"),
        (back("contoso.com", -3), "revision"),
        (back("*.com", 1), "name"),
    ] {
        assert_eq!(fields(&rollback(&admin, request).await.unwrap_err()), [field]);
    }
    let ahead = rollback(&admin, back("contoso.com", 99)).await.unwrap_err();
    assert_eq!(reason(&ahead), "REVISION_AHEAD");
    let not_then = rollback(&admin, back("shared.example", 1)).await.unwrap_err();
    assert_eq!(not_then.code(), Code::NotFound);
    assert!(not_then.message().contains("none at revision 1"), "{}", not_then.message());

    admin.delete("contoso.com").await.unwrap();
    let gone = rollback(&admin, back("contoso.com", 2)).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(gone.message().contains("undeleted"), "{}", gone.message());
    assert_eq!(admin.revision().await, 4);
}

#[tokio::test]
async fn a_rollback_needs_its_permission_and_a_preview_that_of_previews() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    admin.update(update("contoso.com", &["owner"], owned_by("me"))).await.unwrap();
    for actor in [server.operator(), server.viewer(), server.helpdesk()] {
        let denied = rollback(&actor, back("contoso.com", 1)).await.unwrap_err();
        assert_eq!(metadata(&denied, "permission").as_deref(), Some("allowedPartners.rollback"));
    }
    let preview = RollbackAllowedPartnerRequest { validate_only: true, ..back("contoso.com", 1) };
    assert_eq!(rollback(&server.operator(), preview.clone()).await.unwrap().owner, "");
    let denied = rollback(&server.viewer(), preview).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(admin.revision().await, 2);
}

#[tokio::test]
async fn a_retry_of_a_rollback_gets_the_first_answer_even_when_it_could_not_be_done_again() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    admin.update(update("contoso.com", &["owner"], owned_by("me"))).await.unwrap();
    let request_id = Uuid::new_v4().to_string();
    let request = RollbackAllowedPartnerRequest { request_id, ..back("contoso.com", 1) };
    let first = rollback(&admin, request.clone()).await.unwrap();
    admin.delete("contoso.com").await.unwrap();
    assert_eq!(rollback(&admin, request.clone()).await.unwrap(), first);
    let other = RollbackAllowedPartnerRequest { revision: 2, ..request };
    assert_eq!(fields(&rollback(&admin, other).await.unwrap_err()), ["request_id"]);
    assert_eq!(admin.revision().await, 4);
}

#[test]
fn the_command_line_tells_the_history_and_goes_back() {
    let desk = Desk::new();
    desk.run("new contoso.com --owner ops --force");
    desk.run("set contoso.com --suspended --owner me --reason 'incident 7' --force");
    desk.run("remove contoso.com --yes");
    desk.run("undelete contoso.com --force");

    let table = desk.run("history contoso.com");
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 5, "{table}");
    let words = |at: usize| lines[at][3..].join(" ");
    assert_eq!(words(1), "undeleted");
    assert_eq!(words(2), "deleted");
    assert_eq!(words(3), "changed owner,suspended incident 7");
    assert_eq!(words(4), "created owner");
    assert_eq!(desk.run("history contoso.com -o name"), "4\n3\n2\n1\n");
    let objects = desk.run("history contoso.com -o ndjson");
    let newest: serde_json::Value = serde_json::from_str(objects.lines().next().unwrap()).unwrap();
    assert_eq!((&newest["revision"], &newest["subject"]), (&"4".into(), &"dev-admin".into()));
    let few = desk.say("history contoso.com --limit 2 -o name");
    assert_eq!((few.out.as_str(), few.code), ("4\n3\n", 0));
    assert!(few.err.contains("--limit shows more"), "{}", few.err);

    insta::assert_snapshot!(desk.run("diff contoso.com --from 1 --to 2"), @r"
    ~ contoso.com
        suspended  off -> on
        owner      ops -> me
    ");
    insta::assert_snapshot!(desk.run("diff contoso.com --from 2 --to 3"), @"- contoso.com");
    insta::assert_snapshot!(desk.run("diff contoso.com --from 2"), @"= contoso.com (unchanged)");
    let diff: serde_json::Value =
        serde_json::from_str(&desk.run("diff contoso.com --from 1 --to 2 -o json")).unwrap();
    assert_eq!(diff["fields"][1]["before"], "ops");

    let shown = desk.run("rollback contoso.com --to-revision 1 --what-if --force");
    assert!(shown.contains("owner      me -> ops"), "{shown}");
    let done = desk.run("rollback contoso.com --to-revision 1 --force");
    assert_eq!(done, "contoso.com is as it was at revision 1, at revision 5\n");
    assert!(desk.run("get contoso.com --revision 2 -o json").contains("\"me\""));
    assert!(desk.run("get contoso.com -o json").contains("\"ops\""));
    for (line, code) in [
        ("rollback contoso.com --to-revision 3", 3),
        ("rollback contoso.com --to-revision 99", 6),
        ("rollback contoso.com --to-revision 0", 2),
        ("get '*.com' --revision 2", 2),
        ("diff nosuch.com --from 1", 3),
        ("history nosuch.com", 3),
    ] {
        let said = desk.say(line);
        assert_eq!(said.code, code, "partnerctl {line}\n{}\n{}", said.out, said.err);
    }
}

//! Listings: pages of one revision, filters, orders.

use partnerd::proto::v1::{
    self as pb, AllowedPartner, ListAllowedPartnersRequest, Negotiation, PartnerType,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{Actor, domains, fields, metadata, name, reason, update},
};

async fn populate(admin: &Actor, count: usize) {
    let requests = (0..count)
        .map(|number| pb::UpdateAllowedPartnerRequest {
            allow_missing: true,
            ..update(&format!("p{number:04}.example"), &[], AllowedPartner::default())
        })
        .collect();
    let batch = pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
    admin.partners().batch_update_allowed_partners(batch).await.unwrap();
}

#[tokio::test]
async fn all_pages_come_from_one_revision_whatever_is_written_meanwhile() {
    let server = TestServer::start().await;
    let admin = server.admin();
    populate(&admin, 250).await;
    let mut request = ListAllowedPartnersRequest::default();
    let mut seen = Vec::new();
    loop {
        let page = admin.list(request.clone()).await.unwrap();
        assert_eq!((page.revision, page.total_size), (1, 250));
        assert!(page.allowed_partners.len() <= 100, "the default page has 100");
        seen.extend(domains(&page.allowed_partners));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        admin.delete(&format!("p{:04}.example", seen.len())).await.unwrap();
        admin.create_plain(&format!("a{}.example", seen.len())).await;
    }
    let expected: Vec<_> = (0..250).map(|number| format!("p{number:04}.example")).collect();
    assert_eq!(seen, expected);
    assert_eq!(admin.list(ListAllowedPartnersRequest::default()).await.unwrap().revision, 5);
}

#[tokio::test]
async fn a_page_token_is_bound_to_its_listing_and_to_kept_revisions() {
    let server = TestServer::start().await;
    let admin = server.admin();
    populate(&admin, 30).await;
    let first = ListAllowedPartnersRequest { page_size: 10, ..Default::default() };
    let token = admin.list(first.clone()).await.unwrap().next_page_token;
    let with_token = |change: fn(&mut ListAllowedPartnersRequest)| {
        let mut request = ListAllowedPartnersRequest { page_token: token.clone(), ..first.clone() };
        change(&mut request);
        request
    };
    for other in [
        with_token(|request| request.filter = "suspended = true".into()),
        with_token(|request| request.order_by = "owner".into()),
        with_token(|request| request.show_deleted = true),
        with_token(|request| request.page_token.push('A')),
        with_token(|request| request.page_token = "nonsense".into()),
        with_token(|request| request.page_token = "A".repeat(100_000)),
    ] {
        let what = format!("{other:?}");
        let Err(refused) = admin.list(other).await else { panic!("taken: {what}") };
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(fields(&refused), ["page_token"]);
    }
    // The page size may change.
    let wider = admin.list(with_token(|request| request.page_size = 1_000_000)).await.unwrap();
    assert_eq!(wider.allowed_partners.len(), 20);

    // A restarted server keeps the current revision alone.
    let server = server.restart().await;
    let last_page = with_token(|request| request.page_size = 1_000);
    server.admin().list(last_page.clone()).await.unwrap();
    server.admin().create_plain("new.example").await;
    let expired = server.admin().list(last_page).await.unwrap_err();
    assert_eq!(
        (expired.code(), reason(&expired).as_str()),
        (Code::OutOfRange, "PAGE_TOKEN_EXPIRED")
    );
    assert_eq!(metadata(&expired, "revision").as_deref(), Some("1"));
}

#[tokio::test]
async fn filters_find_partners_by_every_kind_of_field() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let partners = [
        (
            "contoso.com",
            AllowedPartner {
                partner_type: PartnerType::Federated.into(),
                additional_domains: vec!["na.contoso.com".into()],
                labels: [("tier".to_owned(), "gold".to_owned())].into(),
                expire_time: Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }),
                ..Default::default()
            },
        ),
        (
            "fabrikam.org",
            AllowedPartner {
                partner_type: PartnerType::Federated.into(),
                tls_negotiation: Negotiation::Optional.into(),
                sasl_negotiation: Negotiation::Optional.into(),
                ..Default::default()
            },
        ),
        (
            "litware.org",
            AllowedPartner {
                connection_limit: Some(5),
                suspended: true,
                description: "a small one".into(),
                ..Default::default()
            },
        ),
    ];
    for (domain, partner) in partners {
        admin.create(domain, partner).await.unwrap();
    }
    for (filter, found) in [
        ("", &["contoso.com", "fabrikam.org", "litware.org"][..]),
        ("name = \"allowedPartners/*.org\"", &["fabrikam.org", "litware.org"]),
        ("partner_type = FEDERATED AND tls_negotiation != REQUIRED", &["fabrikam.org"]),
        ("sasl_negotiation = REQUIRED", &["contoso.com", "litware.org"]),
        ("additional_domains:\"na.contoso.com\"", &["contoso.com"]),
        ("labels.tier = \"gold\"", &["contoso.com"]),
        ("expire_time > \"2027-01-01T00:00:00Z\"", &["contoso.com"]),
        // OR binds more tightly than AND (AIP-160).
        (
            "connection_limit <= 5 OR suspended = false AND NOT labels:tier",
            &["fabrikam.org", "litware.org"],
        ),
        ("warnings.code:SASL_NEEDS_TLS", &["fabrikam.org"]),
        ("creator = \"admin\" revision < 3", &["contoso.com", "fabrikam.org"]),
        ("description:\"small\"", &["litware.org"]),
    ] {
        assert_eq!(admin.names(filter).await, found, "{filter}");
    }
    for bad in
        ["nonsense = 1", "partner_type = SOMETHING", "(", "suspended > true", "name =", "a b c ("]
    {
        let request = ListAllowedPartnersRequest { filter: bad.into(), ..Default::default() };
        let refused = admin.list(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), fields(&refused)),
            (Code::InvalidArgument, vec!["filter".to_owned()]),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn an_order_holds_across_pages() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for (domain, owner) in [
        ("a.example", "y"),
        ("b.example", "x"),
        ("c.example", "y"),
        ("d.example", "z"),
        ("e.example", "x"),
    ] {
        admin
            .create(domain, AllowedPartner { owner: owner.into(), ..Default::default() })
            .await
            .unwrap();
    }
    for (order_by, expected) in [
        ("owner", ["b.example", "e.example", "a.example", "c.example", "d.example"]),
        (
            "owner desc, name desc",
            ["d.example", "c.example", "a.example", "e.example", "b.example"],
        ),
        ("name desc", ["e.example", "d.example", "c.example", "b.example", "a.example"]),
        ("revision desc", ["e.example", "d.example", "c.example", "b.example", "a.example"]),
    ] {
        let mut request = ListAllowedPartnersRequest {
            order_by: order_by.into(),
            page_size: 2,
            ..Default::default()
        };
        let mut seen = Vec::new();
        for _ in 0..3 {
            let page = admin.list(request.clone()).await.unwrap();
            assert_eq!(page.total_size, 5);
            seen.extend(domains(&page.allowed_partners));
            request.page_token = page.next_page_token;
        }
        assert!(request.page_token.is_empty());
        assert_eq!(seen, expected, "{order_by}");
    }
    let bad = ListAllowedPartnersRequest { order_by: "labels".into(), ..Default::default() };
    assert_eq!(fields(&admin.list(bad).await.unwrap_err()), ["order_by"]);
    let bad = ListAllowedPartnersRequest { page_size: -1, ..Default::default() };
    assert_eq!(fields(&admin.list(bad).await.unwrap_err()), ["page_size"]);
}

#[tokio::test]
async fn deleted_partners_are_listed_only_when_asked_for() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for domain in ["a.example", "b.example", "c.example"] {
        admin.create_plain(domain).await;
    }
    admin.delete("b.example").await.unwrap();
    assert_eq!(admin.names("").await, ["a.example", "c.example"]);
    let request = ListAllowedPartnersRequest { show_deleted: true, ..Default::default() };
    let all = admin.list(request.clone()).await.unwrap();
    assert_eq!(
        (domains(&all.allowed_partners), all.total_size),
        (["a.example", "b.example", "c.example"].map(str::to_owned).to_vec(), 3)
    );
    let deleted = ListAllowedPartnersRequest { filter: "delete_time:*".into(), ..request };
    assert_eq!(domains(&admin.list(deleted).await.unwrap().allowed_partners), ["b.example"]);
}

#[tokio::test]
async fn a_read_waits_for_the_revision_it_asks_for() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let waiting = admin.clone().with("x-min-revision", "1");
    let read = tokio::spawn(async move { waiting.get("contoso.com").await });
    admin.create_plain("contoso.com").await;
    assert_eq!(read.await.unwrap().unwrap().name, name("contoso.com"));

    let never = admin.clone().with("x-min-revision", "99");
    let mut request = tonic::Request::new(pb::GetAllowedPartnerRequest {
        name: name("contoso.com"),
        ..Default::default()
    });
    request.set_timeout(std::time::Duration::from_millis(100));
    let late = never.partners().get_allowed_partner(request).await.unwrap_err();
    // The client cancels and the server gives up; either may be first.
    assert!(matches!(late.code(), Code::Cancelled | Code::DeadlineExceeded), "{late:?}");
    let bad = admin.with("x-min-revision", "soon");
    assert_eq!(fields(&bad.get("contoso.com").await.unwrap_err()), ["x-min-revision"]);
}

#[tokio::test]
async fn a_page_of_heavy_partners_ends_before_clients_refuse_it() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let label = "x".repeat(60);
    for partner in 0..24 {
        let additional_domains = (0..1_000)
            .map(|domain| format!("d{domain}.{label}.{label}.{label}.p{partner:02}.example"))
            .collect();
        let partner = AllowedPartner { additional_domains, ..Default::default() };
        admin.create(&format!("p{:02}.example", admin.revision().await), partner).await.unwrap();
    }
    let mut request = ListAllowedPartnersRequest::default();
    let (mut seen, mut pages) = (0, 0);
    loop {
        // The client of this test takes 4 MiB, as every gRPC client does unless told otherwise.
        let page = admin.list(request.clone()).await.unwrap();
        seen += page.allowed_partners.len();
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, 24);
    assert!(pages > 1);
    let names = (0..24).map(|number| name(&format!("p{number:02}.example"))).collect();
    let request = pb::BatchGetAllowedPartnersRequest { names, read_mask: None };
    let refused = admin.partners().batch_get_allowed_partners(request).await.unwrap_err();
    assert_eq!(reason(&refused), "RESPONSE_TOO_LARGE");
}

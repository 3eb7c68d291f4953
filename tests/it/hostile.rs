//! Malformed input of every kind gets the documented answer, and nothing changes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use partnerd::proto::v1::{self as pb, AllowedPartner};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{fields, name, reason, update},
    tokens::{self, hs256, signed, unsigned},
};

#[tokio::test]
async fn bad_tokens_of_every_sort_are_refused_with_their_reason() {
    let server = TestServer::start().await;
    let now = Timestamp::now();
    let at = |seconds: i64| (now + SignedDuration::from_secs(seconds)).as_second();
    let good = || {
        json!({"iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "jo", "roles": ["admin"],
               "iat": at(0), "exp": at(600)})
    };
    let with = |key: &str, value: Value| {
        let mut claims = good();
        claims[key] = value;
        signed(&server, &claims)
    };
    let without = |key: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(key);
        signed(&server, &claims)
    };
    server.with_token(&signed(&server, &good())).await.get("absent.example").await.unwrap_err();
    let tampered = {
        let token = signed(&server, &good());
        let (head, signature) = token.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        format!("{head}.{first}{}", &signature[1..])
    };
    let cases = [
        ("garbage".to_owned(), "TOKEN_MALFORMED"),
        ("a.b.c".to_owned(), "TOKEN_MALFORMED"),
        (unsigned(&good()), "TOKEN_ALGORITHM_NOT_ALLOWED"),
        (hs256(&server, &good()), "TOKEN_ALGORITHM_NOT_ALLOWED"),
        (tampered, "TOKEN_SIGNATURE_INVALID"),
        (with("iss", json!("https://evil.example")), "TOKEN_ISSUER_UNKNOWN"),
        (with("aud", json!("another-service")), "TOKEN_AUDIENCE_WRONG"),
        (with("exp", json!(at(-600))), "TOKEN_EXPIRED"),
        (with("exp", json!(at(600).to_string())), "TOKEN_CLAIM_INVALID"),
        (with("nbf", json!(at(600))), "TOKEN_NOT_YET_VALID"),
        (without("exp"), "TOKEN_CLAIM_MISSING"),
        (without("sub"), "TOKEN_CLAIM_MISSING"),
        (without("aud"), "TOKEN_CLAIM_MISSING"),
        (with("padding", json!("x".repeat(20_000))), "TOKEN_TOO_LARGE"),
    ];
    for (token, expected) in cases {
        let caller = server.with_token(&token).await;
        let refused = caller.create("contoso.com", AllowedPartner::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{expected}: {refused:?}");
        assert_eq!(reason(&refused), expected);
        assert!(!format!("{refused:?}").contains(&token), "an error repeats the token");
    }
    let nobody = server.anonymous().create("contoso.com", AllowedPartner::default()).await;
    assert_eq!(reason(&nobody.unwrap_err()), "TOKEN_MISSING");
    assert_eq!(server.admin().revision().await, 0);
}

#[tokio::test]
async fn a_token_of_100_kb_is_refused_and_the_server_lives() {
    let server = TestServer::start().await;
    let caller = server.with_token(&"x".repeat(100_000)).await;
    let refused = caller.get("contoso.com").await.unwrap_err();
    // Larger than all headers together may be: answered by HTTP 431 before anybody looks for a
    // token. gRPC has no code for that; the client makes one of the HTTP status.
    assert!(refused.message().contains("431"), "{refused:?}");
    server.admin().create_plain("contoso.com").await;
}

#[tokio::test]
async fn malformed_requests_are_refused_with_their_field() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for domain in ["", "com", "*.com", "a@b.example", "192.0.2.1", "a..b", "faß.de", "x.example/y"]
    {
        let refused = admin.create(domain, AllowedPartner::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{domain}");
        assert_eq!(fields(&refused), ["allowed_partner_id"], "{domain}");
    }
    for bad in ["", "contoso.com", "allowedPartners/", "allowedPartners/a/b", "roles/contoso.com"] {
        let request = pb::GetAllowedPartnerRequest { name: bad.into(), ..Default::default() };
        let refused = admin.partners().get_allowed_partner(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), fields(&refused)),
            (Code::InvalidArgument, vec!["name".to_owned()]),
            "{bad}"
        );
    }
    let both = pb::CreateAllowedPartnerRequest {
        allowed_partner: Some(AllowedPartner { name: name("a.example"), ..Default::default() }),
        allowed_partner_id: "b.example".into(),
        ..Default::default()
    };
    let refused = admin.partners().create_allowed_partner(both).await.unwrap_err();
    assert_eq!(fields(&refused), ["allowed_partner.name"]);
    let reasons = [("x-change-reason", "y".repeat(1_025)), ("x-min-revision", "-1".into())];
    for (key, value) in reasons {
        let refused = admin.clone().with(key, &value).get("contoso.com").await.unwrap_err();
        assert_eq!(fields(&refused), [key]);
    }
    assert_eq!(admin.revision().await, 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let server = TestServer::start().await;
    let huge = AllowedPartner { description: "x".repeat(5 << 20), ..Default::default() };
    let refused = server.admin().update(update("contoso.com", &[], huge)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(reason(&refused), "MESSAGE_TOO_LARGE");
    server.admin().create_plain("contoso.com").await;
}

#[tokio::test]
async fn bytes_that_are_no_message_and_methods_that_are_none_are_refused_with_a_reason() {
    let server = TestServer::start().await;
    let mut client = tonic::client::Grpc::new(server.admin().service());
    for (method, expected) in [
        ("GetAllowedPartner", (Code::InvalidArgument, "MESSAGE_MALFORMED")),
        ("Nonsense", (Code::Unimplemented, "METHOD_UNKNOWN")),
    ] {
        client.ready().await.unwrap();
        let path = format!("/xmpp.federation.v1.AllowedPartnerService/{method}");
        // Field 1 of the request is a text, and a number is none.
        let garbage = tonic_health::pb::HealthCheckResponse { status: 1 };
        let codec = tonic_prost::ProstCodec::<_, ()>::default();
        let request = tonic::Request::new(garbage);
        let refused = client.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), expected, "{refused:?}");
    }
}

#[tokio::test]
async fn an_error_with_a_thousand_violations_still_reaches_its_caller() {
    let server = TestServer::start().await;
    let additional_domains = (0..1_000).map(|number| format!("*.{number}")).collect();
    let partner = AllowedPartner { additional_domains, ..Default::default() };
    let refused = server.admin().create("contoso.com", partner).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let shown = fields(&refused).len();
    let omitted = crate::harness::actor::metadata(&refused, "violations_omitted").unwrap();
    assert_eq!(shown + omitted.parse::<usize>().unwrap(), 1_000);
    assert!(refused.details().len() < 6_000);
}

#[tokio::test]
async fn bytes_that_are_no_tls_close_the_connection_and_nothing_else() {
    let server = TestServer::start().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\xff\x13\x37 garbage",
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The server may answer with an alert or a reset; it must not keep the connection.
        let ended = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer));
        let _ = ended.await.expect("the server closes the connection");
    }
    server.admin().create_plain("contoso.com").await;
}

#[tokio::test]
async fn a_client_that_trusts_another_ca_gets_no_connection() {
    let server = TestServer::start().await;
    let other = TestServer::start().await;
    assert!(other.connect_to(server.address()).await.is_err());
}

#[tokio::test]
async fn small_messages_that_would_grow_large_are_refused_before_they_do() {
    let server = TestServer::start().await;
    let viewer = server.viewer();
    let paths = vec!["z".to_owned(); 15_000];
    let request = pb::GetAllowedPartnerRequest {
        name: name("contoso.com"),
        read_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    };
    let refused = viewer.partners().get_allowed_partner(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["read_mask"]);

    let requests = vec![pb::UpdateAllowedPartnerRequest::default(); 30_000];
    let request = pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
    let refused =
        server.helpdesk().partners().batch_update_allowed_partners(request).await.unwrap_err();
    assert_eq!(reason(&refused), "MESSAGE_TOO_LARGE");

    let requests = vec![pb::UpdateAllowedPartnerRequest::default(); 1_001];
    let request = pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
    let refused =
        server.admin().partners().batch_update_allowed_partners(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["requests"]);
}

#[tokio::test]
async fn an_error_repeats_no_more_than_a_part_of_what_was_sent() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let long = "x".repeat(20_000);
    let label =
        AllowedPartner { labels: [(long.clone(), "y".into())].into(), ..Default::default() };
    let role = pb::GetRoleRequest { name: format!("roles/{long}") };
    for refused in [
        admin.update(update("contoso.com", &[&long], AllowedPartner::default())).await.unwrap_err(),
        admin.create("contoso.com", label).await.unwrap_err(),
        admin.roles().get_role(role).await.unwrap_err(),
    ] {
        let size = refused.message().len() + refused.details().len();
        assert!(size < 6_000, "{size}: {:?}", refused.code());
    }
}

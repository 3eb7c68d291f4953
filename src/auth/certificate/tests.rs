//! Which certificates stand for whom, and which for nobody.

use rcgen::{CertificateParams, KeyPair, SanType};

use super::*;

fn now() -> Timestamp {
    Timestamp::now()
}

/// A certificate with these names, each with its kind before it.
fn certificate(names: &[&str]) -> ClientCertificate {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.split_once(':').expect("a kind") {
            ("uri", uri) => SanType::URI(uri.try_into().expect("ASCII")),
            ("dns", name) => SanType::DnsName(name.try_into().expect("ASCII")),
            ("email", address) => SanType::Rfc822Name(address.try_into().expect("ASCII")),
            (_, address) => SanType::IpAddress(address.parse().expect("an address")),
        })
        .collect();
    let key = KeyPair::generate().expect("a key");
    let der = params.self_signed(&key).expect("a certificate").der().to_vec();
    ClientCertificate::from_der(&der).expect("it can be read")
}

fn rules(subjects: &[(&str, Option<&str>, &[&str])]) -> Result<CertificateRules, AuthConfigError> {
    let subjects = subjects.iter().map(|(san, subject, roles)| CertificateSubject {
        san: (*san).to_owned(),
        subject: subject.map(str::to_owned),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
    });
    CertificateConfig { subjects: subjects.collect(), ..CertificateConfig::default() }.rules()
}

#[test]
fn a_name_matches_whole_and_a_star_stands_for_one_part_of_it() {
    for (san, name, expected) in [
        ("dns:muc.example.org", "dns:muc.example.org", true),
        ("dns:muc.example.org", "dns:MUC.Example.org", true),
        ("dns:Muc.example.org", "dns:muc.example.org", true),
        ("dns:muc.example.org", "dns:muc.example.org.evil.example", false),
        ("dns:muc.example.org", "dns:x.muc.example.org", false),
        ("dns:muc.example.org", "uri:muc.example.org", false),
        ("dns:*.example.org", "dns:muc.example.org", true),
        ("dns:*.example.org", "dns:a.muc.example.org", false),
        ("dns:*.example.org", "dns:example.org", false),
        ("dns:*.example.org", "dns:evilexample.org", false),
        ("dns:agent-*.example.org", "dns:agent-.example.org", false),
        ("uri:spiffe://example.org/agent/*", "uri:spiffe://example.org/agent/1", true),
        ("uri:spiffe://example.org/agent/*", "uri:spiffe://example.org/agent/", false),
        ("uri:spiffe://example.org/agent/*", "uri:spiffe://example.org/agent/1/admin", false),
        ("uri:spiffe://example.org/agent/*", "uri:SPIFFE://example.org/agent/1", false),
        ("uri:spiffe://*/agent/1", "uri:spiffe://evil.example/x/agent/1", false),
        ("email:*@example.org", "email:jo@example.org", true),
        ("email:*@example.org", "email:jo@evil@example.org", false),
        ("email:jo@example.org", "email:Jo@example.org", false),
        ("dns:192.0.2.1", "ip:192.0.2.1", false),
    ] {
        let rules = rules(&[(san, None, &["viewer"])]).expect("sound rules");
        let found = rules.caller(&certificate(&[name]), now());
        assert_eq!(found.is_ok(), expected, "{san} {name}: {found:?}");
    }
}

#[test]
fn the_roles_of_all_its_names_add_up_if_they_mean_one_subject() {
    let rules = rules(&[
        ("dns:muc.example.org", Some("muc"), &["viewer", "sync-agent"]),
        ("uri:spiffe://example.org/agent/1", Some("muc"), &["auditor", "viewer"]),
        ("email:jo@example.org", None, &["admin"]),
    ])
    .expect("sound rules");
    let names = ["dns:muc.example.org", "uri:spiffe://example.org/agent/1", "dns:x.example"];
    let shown = certificate(&names);
    let caller = rules.caller(&shown, now()).expect("somebody");
    assert_eq!(&*caller.subject, "muc");
    assert_eq!(caller.roles, ["auditor", "sync-agent", "viewer"]);
    assert_eq!(&*caller.issuer, DEFAULT_ISSUER);
    assert_eq!(*caller.key_id, shown.id());

    let two = certificate(&["dns:muc.example.org", "email:jo@example.org"]);
    assert_eq!(rules.caller(&two, now()), Err(TokenError::CertificateAmbiguous));
    let none = certificate(&["dns:x.example"]);
    assert_eq!(rules.caller(&none, now()), Err(TokenError::CertificateUnknown));
}

#[test]
fn a_certificate_that_has_expired_since_the_handshake_is_nobody() {
    let rules = rules(&[("dns:muc.example.org", None, &["viewer"])]).expect("sound rules");
    let mut shown = certificate(&["dns:muc.example.org"]);
    shown.not_after = now();
    let expired = TokenError::CertificateExpired { at: shown.not_after };
    assert_eq!(rules.caller(&shown, now()), Err(expired));
}

#[test]
fn unsound_rules_are_refused_with_the_remedy() {
    for (san, subject, roles, expected) in [
        ("muc.example.org", None, &["viewer"][..], "write it as `uri:"),
        ("ip:192.0.2.1", None, &["viewer"], "write it as `uri:"),
        ("dns:", None, &["viewer"], "it must say more than `*`"),
        ("dns:*", None, &["viewer"], "it must say more than `*`"),
        ("dns:*.*.example.org", None, &["viewer"], "have at most one"),
        ("dns:*.example.org", Some("agent"), &["viewer"], "many names are not one subject"),
        ("dns:muc.example.org", None, &[], "it has no roles"),
    ] {
        let error = rules(&[(san, subject, roles)]).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains(san), "{error}");
    }
}

#[test]
fn what_is_no_certificate_is_no_identity() {
    let key = KeyPair::generate().expect("a key");
    let der = CertificateParams::default().self_signed(&key).expect("a certificate").der().to_vec();
    assert!(ClientCertificate::from_der(&der).is_ok());
    assert_eq!(ClientCertificate::from_der(&der[..der.len() - 1]), Err(Unreadable));
    assert_eq!(ClientCertificate::from_der(&[&der[..], &[0]].concat()), Err(Unreadable));
    assert_eq!(ClientCertificate::from_der(b""), Err(Unreadable));
}

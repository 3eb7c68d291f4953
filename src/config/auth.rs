//! Whose tokens and certificates are believed, as the configuration says it.

use super::{Size, Span, reader::Reader};
use crate::auth::{
    certificate::{self, CertificateConfig, CertificateSubject},
    failures::FailureLimits,
    issuer::{IssuerConfig, KeySource},
    keys::FetchLimits,
    token,
};

/// Whose tokens and certificates are accepted, and what they may cost.
#[derive(Clone, Debug)]
pub struct Auth {
    /// The issuers. At least one.
    pub issuers: Vec<IssuerConfig>,
    /// How tokens are checked, and whom certificates stand for.
    pub tokens: token::Options,
    /// How often somebody may be refused.
    pub failures: FailureLimits,
}

impl Auth {
    /// What is said beside the issuers, which a development server brings with it.
    pub(super) fn read(r: &Reader<'_>, issuers: Vec<IssuerConfig>) -> Self {
        Self { issuers, tokens: read_tokens(r), failures: read_failures(r) }
    }
}

/// The issuers of a configuration file.
pub(super) fn read_issuers(r: &Reader<'_>) -> Vec<IssuerConfig> {
    r.sections("auth.issuers", read_issuer)
}

fn read_tokens(r: &Reader<'_>) -> token::Options {
    token::Options {
        max_token_bytes: r.size("auth.max_token_bytes", Size::kib(8), Size::kib(1)..=Size::kib(64)),
        cached_tokens: r.number("auth.cached_tokens", 10_000, 0..=1_000_000),
        fetch: read_fetch(r),
        certificates: CertificateConfig {
            issuer: r
                .text("auth.certificates.issuer", Some(certificate::DEFAULT_ISSUER))
                .unwrap_or_default(),
            subjects: r.sections("auth.certificates.subjects", read_certificate_subject),
        },
    }
}

fn read_fetch(r: &Reader<'_>) -> FetchLimits {
    let span = |key, default, least, most| {
        r.span(key, Span::secs(default), Span::millis(least)..=Span::secs(most))
    };
    FetchLimits {
        connect_timeout: span("auth.fetch.connect_timeout", 3, 100, 60),
        timeout: span("auth.fetch.timeout", 5, 100, 60),
        max_bytes: r.size("auth.fetch.max_bytes", Size::kib(256), Size::kib(4)..=Size::mib(4)),
        least_age: span("auth.fetch.least_age", 60, 1_000, 3_600),
        most_age: span("auth.fetch.most_age", 900, 1_000, 86_400),
        unknown_key_interval: span("auth.fetch.unknown_key_interval", 60, 1_000, 3_600),
        unknown_key_wait: span("auth.fetch.unknown_key_wait", 2, 0, 10),
    }
}

fn read_certificate_subject(r: &Reader<'_>, section: &str) -> CertificateSubject {
    let key = |name: &str| format!("{section}.{name}");
    CertificateSubject {
        san: r.required_text(&key("san"), "name it, as in uri:spiffe://example.org/agent/*"),
        subject: r.text(&key("subject"), None),
        roles: r.required_list(&key("roles"), "a role", "list what its holder may be"),
    }
}

fn read_failures(r: &Reader<'_>) -> FailureLimits {
    FailureLimits {
        per_source: r.number("auth.failures.per_source", 120, 1..=1_000_000),
        per_subject: r.number("auth.failures.per_subject", 120, 1..=1_000_000),
    }
}

fn read_issuer(r: &Reader<'_>, section: &str) -> IssuerConfig {
    let key = |name: &str| format!("{section}.{name}");
    let leeway = r.span(&key("leeway"), Span::secs(30), Span::secs(0)..=Span::secs(300));
    IssuerConfig {
        issuer: r.required_text(&key("issuer"), "write the `iss` of its tokens"),
        audiences: r.required_list(
            &key("audiences"),
            "text",
            "list the `aud` values that mean this service",
        ),
        algorithms: r.required_list(
            &key("algorithms"),
            "a JWA name",
            "list what its keys sign with, as in [\"RS256\"]",
        ),
        keys: read_keys(r, &key("keys")),
        roles_claim: r.dotted(&key("roles_claim"), "roles").into(),
        role_mapping: r.map(&key("role_mapping")),
        leeway: u32::try_from(leeway.as_secs()).expect("the range ends at five minutes"),
        token_types: r.list(&key("token_types"), &["at+jwt", "JWT", ""], "text"),
        require_bound_tokens: r.switch(&key("require_bound_tokens"), false),
    }
}

fn read_keys(r: &Reader<'_>, list: &str) -> Vec<KeySource> {
    let keys = r.sections(list, read_key);
    if keys.is_empty() {
        r.missing_sections(
            list,
            "add { pem_file = \"...\" }, { jwks_url = \"...\" } or { discovery = true }",
        );
    }
    keys.into_iter().flatten().collect()
}

fn read_key(r: &Reader<'_>, section: &str) -> Option<KeySource> {
    let key = |name: &str| format!("{section}.{name}");
    let files = [r.path(&key("pem_file")), r.path(&key("jwks_file")), r.path(&key("secret_file"))];
    let (url, discovery) = (r.text(&key("jwks_url"), None), r.switch(&key("discovery"), false));
    let kid = r.text(&key("kid"), None);
    let algorithm = r.text(&key("algorithm"), None);
    let ca_file = r.path(&key("ca_file"));
    let online = url.is_some() || discovery;
    if ca_file.is_some() && !online {
        r.problem(&key("ca_file"), "is for keys that are online; remove this");
        return None;
    }
    if kid.is_some() && (online || files[1].is_some()) {
        r.problem(&key("kid"), "a JWK set states the kid of each of its keys; remove this");
        return None;
    }
    match (files, url, discovery) {
        ([Some(path), None, None], None, false) => {
            Some(KeySource::PemFile { path, kid, algorithm })
        }
        ([None, Some(path), None], None, false) => Some(KeySource::JwksFile { path, algorithm }),
        ([None, None, Some(path)], None, false) => match algorithm {
            Some(algorithm) => Some(KeySource::SecretFile { path, kid, algorithm }),
            None => {
                r.missing(&key("algorithm"), "name the algorithm that the secret is for");
                None
            }
        },
        ([None, None, None], Some(url), false) => {
            Some(KeySource::JwksUrl { url, algorithm, ca_file })
        }
        ([None, None, None], None, true) => Some(KeySource::Discovery { algorithm, ca_file }),
        _ => {
            r.problem(
                section,
                "name exactly one of pem_file, jwks_file, secret_file, jwks_url and discovery",
            );
            None
        }
    }
}

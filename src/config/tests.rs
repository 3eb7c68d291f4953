//! Each mistake and the line that tells it; the order of the layers; the documentation.

use std::{fs, path::Path};

use super::*;
use crate::auth::{failures::FailureLimits, issuer::KeySource, token};

/// A configuration without a mistake; the files it names are not looked at.
const SOUND: &str = r#"
data_dir = "data"

[tls]
cert_file = "server.pem"
key_file = "/etc/partnerd/server.key"

[[auth.issuers]]
issuer = "https://issuer.example"
audiences = ["partnerd"]
algorithms = ["RS256"]
keys = [{ pem_file = "issuer.pem" }]
roles_claim = "realm_access.roles"
role_mapping = { CsAdministrator = "admin" }
"#;

fn layers(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Layers {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("partnerd.toml");
    fs::write(&path, text).unwrap();
    let set = |(key, value): &(&str, &str)| Flag {
        flag: "--set",
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    let mut layers = Layers::with_file(&path)
        .unwrap()
        .environment(environment.iter().map(|(name, value)| (name.into(), value.into())))
        .unwrap()
        .flags(flags.iter().map(set).collect());
    layers.rename_base("partnerd.toml", Path::new("/etc/partnerd"));
    layers
}

fn parse(layers: &Layers) -> Config {
    Config::parse(layers, None).map(|(config, _)| config).unwrap()
}

fn problems(layers: &Layers) -> Vec<String> {
    Config::parse(layers, None).map(|_| ()).unwrap_err().problems
}

/// `SOUND` with one piece replaced.
fn but(old: &str, new: &str) -> String {
    assert!(SOUND.contains(old), "{old}");
    SOUND.replace(old, new)
}

#[test]
fn each_mistake_has_its_line() {
    let top = |line: &str| format!("{line}\n{SOUND}");
    let section = |lines: &str| format!("{SOUND}\n{lines}");
    for (text, line) in [
        (
            section("[limits]\nmax_conections = 5"),
            "partnerd.toml: limits.max_conections: unknown key; did you mean limits.max_connections?",
        ),
        (
            top("max_connections = 5"),
            "partnerd.toml: max_connections: unknown key; did you mean limits.max_connections?",
        ),
        (
            top("colour = 'blue'"),
            "partnerd.toml: colour: unknown key; docs/configuration.md has the list",
        ),
        (
            top("limits = 5"),
            "partnerd.toml: limits: is a section, not a value; its keys are such as limits.max_message_bytes",
        ),
        (
            section("[limits]\nmax_connections = 0"),
            "partnerd.toml: limits.max_connections: 0 is not accepted; give 1 to 1000000",
        ),
        (
            section("[limits]\nmax_connections = 'many'"),
            "partnerd.toml: limits.max_connections: \"many\" is not accepted; give a whole number, 1 to 1000000",
        ),
        (
            section("[limits]\nhandshake_timeout = 10"),
            "partnerd.toml: limits.handshake_timeout: 10 is not accepted; give a duration with its unit, such as \"30s\", 100ms to 5m",
        ),
        (
            section("[limits]\nmax_message_bytes = '1 GiB'"),
            "partnerd.toml: limits.max_message_bytes: \"1 GiB\" is not accepted; give 16 KiB to 256 MiB",
        ),
        (
            section("[limits]\ndefault_request_timeout = '2m'"),
            "partnerd.toml: limits.default_request_timeout: is longer than limits.max_request_timeout; make it the shorter one",
        ),
        (
            section("[log]\nformat = 'xml'"),
            "partnerd.toml: log.format: \"xml\" is not accepted; give one of text, json",
        ),
        (
            section("[server]\nlocal_domains = ['not a domain']"),
            "partnerd.toml: server.local_domains: \"not a domain\" is not a domain: ",
        ),
        (
            top("listen = ['localhost']"),
            "partnerd.toml: listen: \"localhost\" is not an address and port: invalid socket address syntax",
        ),
        (
            top("listen = []"),
            "partnerd.toml: listen: is empty; give at least one, such as 127.0.0.1:7443",
        ),
        (
            but("data_dir = \"data\"", ""),
            "data_dir is missing: name the folder for the data (or set PARTNERD_DATA_DIR)",
        ),
        (
            but("issuer = \"https://issuer.example\"", ""),
            "auth.issuers[0].issuer is missing: write the `iss` of its tokens (or set PARTNERD_AUTH_ISSUERS_0_ISSUER)",
        ),
        (
            but("audiences = [\"partnerd\"]", "audiences = []"),
            "partnerd.toml: auth.issuers[0].audiences: is empty; list the `aud` values that mean this service",
        ),
        (
            but("algorithms = [\"RS256\"]", ""),
            "auth.issuers[0].algorithms is missing: list what its keys sign with, as in [\"RS256\"] (or set PARTNERD_AUTH_ISSUERS_0_ALGORITHMS)",
        ),
        (
            but("keys = [{ pem_file = \"issuer.pem\" }]", ""),
            "auth.issuers[0].keys is missing: add { pem_file = \"...\" }, { jwks_url = \"...\" } or { discovery = true }",
        ),
        (
            but("pem_file = \"issuer.pem\"", "pem_file = \"a\", jwks_file = \"b\""),
            "auth.issuers[0].keys[0]: name exactly one of pem_file, jwks_file, secret_file, jwks_url and discovery",
        ),
        (
            but("pem_file = \"issuer.pem\"", "jwks_file = \"a\", kid = \"b\""),
            "auth.issuers[0].keys[0].kid: a JWK set states the kid of each of its keys; remove this",
        ),
        (
            but("{ CsAdministrator = \"admin\" }", "{ CsAdministrator = 1 }"),
            "partnerd.toml: auth.issuers[0].role_mapping: ",
        ),
        (
            but("cert_file = \"server.pem\"", ""),
            "tls.cert_file is missing: name the server's certificate, PEM (or set PARTNERD_TLS_CERT_FILE)",
        ),
        (
            but(
                "cert_file = \"server.pem\"",
                "cert_file = \"server.pem\"\nclient_auth = \"required\"",
            ),
            "tls.client_ca_file is missing: name the authorities of the client certificates",
        ),
        (
            but("pem_file = \"issuer.pem\"", "jwks_url = \"https://a\", discovery = true"),
            "auth.issuers[0].keys[0]: name exactly one of",
        ),
        (
            but("pem_file = \"issuer.pem\"", "discovery = true, kid = \"a\""),
            "auth.issuers[0].keys[0].kid: a JWK set states the kid of each of its keys",
        ),
        (
            but("pem_file = \"issuer.pem\"", "pem_file = \"a\", ca_file = \"b\""),
            "auth.issuers[0].keys[0].ca_file: is for keys that are online; remove this",
        ),
        (
            section(
                "[[auth.certificates.subjects]]\nsan = \"dns:a.example\"\nroles = [\"viewer\"]",
            ),
            "auth.certificates.subjects: needs client certificates; set tls.client_auth",
        ),
        (
            but("audiences = [", "require_bound_tokens = true\naudiences = ["),
            "auth.issuers[0].require_bound_tokens: needs client certificates; set tls.client_auth",
        ),
        (
            section("[auth.fetch]\nleast_age = \"2m\"\nmost_age = \"1m\""),
            "auth.fetch.least_age: is longer than auth.fetch.most_age; make it the shorter one",
        ),
    ] {
        let found = problems(&layers(&text, &[], &[]));
        assert!(found.iter().any(|problem| problem.contains(line)), "{line}\nnot in {found:#?}");
        assert_eq!(found.len(), 1, "one mistake, one line: {found:#?}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = "[limits]\nmax_connections = 0\nmax_batch = 0";
    let found = problems(&layers(text, &[], &[]));
    for key in ["limits.max_connections", "limits.max_batch", "data_dir", "tls.key_file"] {
        assert!(found.iter().any(|line| line.contains(key)), "{key} in {found:#?}");
    }
    assert!(found.iter().any(|line| line.starts_with("auth.issuers is missing")), "{found:#?}");
}

#[test]
fn plain_text_is_for_loopback_only() {
    let tls = "[tls]\ncert_file = \"server.pem\"\nkey_file = \"/etc/partnerd/server.key\"";
    let text = but(tls, "[tls]\nenabled = false");
    assert!(parse(&layers(&text, &[], &[])).tls.is_none());
    let open = layers(&text, &[], &[("listen", "127.0.0.1:1,0.0.0.0:7443")]);
    assert_eq!(
        problems(&open),
        ["partnerd.toml: tls.enabled: plain text is for loopback only, and 0.0.0.0:7443 is not; \
          give a certificate and leave TLS on"]
    );
}

#[test]
fn a_development_server_listens_on_loopback_only() {
    let development = || Development {
        data_dir: "dev/store".into(),
        tls: TlsConfig {
            cert_file: "server.pem".into(),
            key_file: "server.key".into(),
            client_ca_file: None,
            client_auth: ClientAuth::None,
        },
        issuer: IssuerConfig {
            keys: vec![KeySource::JwksFile { path: "keys.json".into(), algorithm: None }],
            ..IssuerConfig::default()
        },
    };
    let (config, _) = Config::parse(&layers("", &[], &[]), Some(development())).unwrap();
    assert_eq!(config.data_dir, Path::new("dev/store"));
    let open = layers("", &[], &[("listen", "192.0.2.1:7443")]);
    let found = Config::parse(&open, Some(development())).map(|_| ()).unwrap_err().problems;
    assert!(found[0].contains("listens on loopback only, and 192.0.2.1:7443 is not"), "{found:?}");
}

#[test]
fn flags_come_before_the_environment_before_the_file_before_defaults() {
    let text = format!("{SOUND}\n[limits]\nmax_batch = 3\nmax_connections = 3\nwrite_queue = 3");
    let environment =
        [("PARTNERD_LIMITS_MAX_BATCH", "2"), ("PARTNERD_LIMITS_MAX_CONNECTIONS", "2")];
    let config = parse(&layers(&text, &environment, &[("limits.max_batch", "1")]));
    let Limits { max_batch, max_connections, write_queue, max_concurrent_streams, .. } =
        config.limits;
    assert_eq!((max_batch, max_connections, write_queue), (1, 2, 3));
    assert_eq!(max_concurrent_streams, 256);
}

#[test]
fn what_one_may_have_is_a_part_of_what_there_is() {
    let text = format!("{SOUND}\n[limits]\nmax_connections = 100\nmax_concurrent_requests = 40");
    let set = [("limits.write_queue", "1"), ("limits.max_connections_per_address", "7")];
    let limits = parse(&layers(&text, &[], &set)).limits;
    assert_eq!(limits.max_concurrent_requests_per_subject, 10);
    assert_eq!(limits.write_queue_per_subject, 1);
    assert_eq!(limits.max_connections_per_address, 7);
}

#[test]
fn a_mistake_is_told_where_it_was_made() {
    let environment = [("PARTNERD_LIMITS_MAX_BATCH", "none"), ("PARTNERD_LIMIT_MAX_BATCH", "1")];
    let flags = [("log.fromat", "json")];
    let found = problems(&layers(SOUND, &environment, &flags));
    assert_eq!(
        found,
        [
            "PARTNERD_LIMITS_MAX_BATCH: \"none\" is not accepted; give a whole number, 1 to 10000",
            "--set log.fromat: unknown key; did you mean log.format?",
            "PARTNERD_LIMIT_MAX_BATCH: unknown key; did you mean PARTNERD_LIMITS_MAX_BATCH?",
        ]
    );
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_no_mistake() {
    let environment = [
        ("PARTNERD_SERVICE_HOST", "10.0.0.1"),
        ("PARTNERD_PORT", "tcp://10.0.0.1:7443"),
        ("PARTNERD_PORT_7443_TCP_ADDR", "10.0.0.1"),
        ("PARTNERD_CONFIG", "partnerd.toml"),
        ("PARTNERD_LOG_FILTER", ""),
    ];
    assert_eq!(parse(&layers(SOUND, &environment, &[])).log.filter, "info");
}

#[test]
fn everything_can_come_from_the_environment() {
    let environment = [
        ("PARTNERD_DATA_DIR", "data"),
        ("PARTNERD_TLS_CERT_FILE", "server.pem"),
        ("PARTNERD_TLS_KEY_FILE", "server.key"),
        ("PARTNERD_AUTH_ISSUERS_0_ISSUER", "https://issuer.example"),
        ("PARTNERD_AUTH_ISSUERS_0_AUDIENCES", "partnerd, other"),
        ("PARTNERD_AUTH_ISSUERS_0_ALGORITHMS", "ES256"),
        ("PARTNERD_AUTH_ISSUERS_0_KEYS_0_JWKS_FILE", "keys.json"),
        ("PARTNERD_AUTH_ISSUERS_0_LEEWAY", "1m"),
    ];
    let config = parse(&layers("", &environment, &[]));
    let [issuer] = config.auth.issuers.try_into().unwrap();
    assert_eq!(issuer.audiences, ["partnerd", "other"]);
    assert_eq!(issuer.leeway, 60);
    let keys = KeySource::JwksFile { path: "keys.json".into(), algorithm: None };
    assert_eq!(issuer.keys, [keys]);
}

#[test]
fn keys_online_and_the_holders_of_certificates_are_read() {
    let text = SOUND
        .replace("pem_file = \"issuer.pem\"", "discovery = true, ca_file = \"ca.pem\"")
        .replace("[tls]", "[tls]\nclient_auth = \"optional\"\nclient_ca_file = \"clients.pem\"")
        + "[[auth.certificates.subjects]]\nsan = \"uri:spiffe://example.org/*\"\nroles = [\"viewer\"]";
    let auth = parse(&layers(&text, &[], &[])).auth;
    let ca_file = Some("/etc/partnerd/ca.pem".into());
    assert_eq!(auth.issuers[0].keys, [KeySource::Discovery { algorithm: None, ca_file }]);
    let [holder] = auth.tokens.certificates.subjects.try_into().unwrap();
    assert_eq!((holder.san.as_str(), holder.subject), ("uri:spiffe://example.org/*", None));
    assert_eq!(holder.roles, ["viewer"]);
    assert_eq!(auth.tokens.certificates.issuer, "urn:partnerd:certificate");

    let text = but("pem_file = \"issuer.pem\"", "jwks_url = \"https://issuer.example/keys\"");
    let auth = parse(&layers(&text, &[], &[])).auth;
    let url = "https://issuer.example/keys".to_owned();
    assert_eq!(auth.issuers[0].keys, [KeySource::JwksUrl { url, algorithm: None, ca_file: None }]);
}

#[test]
fn the_documented_defaults_of_authentication_are_those_of_the_code() {
    let auth = parse(&layers(SOUND, &[], &[])).auth;
    assert_eq!(auth.tokens, token::Options::default());
    assert_eq!(auth.failures, FailureLimits::default());
}

#[test]
fn paths_in_the_file_are_relative_to_it() {
    let config = parse(&layers(SOUND, &[("PARTNERD_DATA_DIR", "elsewhere")], &[]));
    let tls = config.tls.unwrap();
    assert_eq!(tls.cert_file, Path::new("/etc/partnerd/server.pem"));
    assert_eq!(tls.key_file, Path::new("/etc/partnerd/server.key"));
    assert_eq!(config.data_dir, Path::new("elsewhere"));
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("partnerd.toml");
    fs::write(&path, "data_dir = 'data'\nlisten = [\n").unwrap();
    let error = Layers::with_file(&path).unwrap_err().to_string();
    assert!(error.contains("partnerd.toml:2:") || error.contains("partnerd.toml:3:"), "{error}");
    assert!(error.contains("not valid TOML"), "{error}");
    assert_eq!(error.lines().count(), 1);

    let missing = Layers::with_file(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml: ") && missing.contains("--config"), "{missing}");
}

#[test]
fn unreadable_files_and_an_unwritable_folder_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("partnerd.toml");
    fs::write(folder.path().join("server.pem"), "").unwrap();
    fs::write(folder.path().join("occupied"), "").unwrap();
    let text = but("data_dir = \"data\"", "data_dir = \"occupied/data\"");
    fs::write(&path, text.replace("/etc/partnerd/server.key", "gone.key")).unwrap();
    let found = Config::load(&Layers::with_file(&path).unwrap()).unwrap_err().problems;
    let [key_file, keys, data_dir] = found.as_slice() else { panic!("{found:#?}") };
    assert!(key_file.starts_with("tls.key_file: cannot read ") && key_file.contains("gone.key"));
    assert!(keys.starts_with("auth.issuers[0].keys: cannot read "), "{keys}");
    assert!(data_dir.starts_with("data_dir: cannot write to "), "{data_dir}");
}

#[test]
fn the_documentation_has_every_key_with_its_default_and_its_values() {
    let documentation = include_str!("../../docs/configuration.md");
    let (_, keys) = Config::parse(&layers(SOUND, &[], &[]), None).unwrap();
    let mut rows = documentation.lines().filter(|line| line.starts_with("| `")).collect::<Vec<_>>();
    for Key { name, default, values } in &keys {
        let row = format!("| `{name}` | {default} | {values} |");
        let before = rows.len();
        rows.retain(|line| !line.starts_with(&row));
        assert_eq!(rows.len() + 1, before, "docs/configuration.md needs one row: {row}");
    }
    assert!(rows.is_empty(), "docs/configuration.md has rows for no key: {rows:#?}");
}

//! partnerctl as administrators and scripts meet it: exit codes, words, what is sent and what is
//! not.

use std::process::Output;

use crate::harness::process::{DevServer, partnerctl};

/// An administrator at the folder of a development server.
pub struct Desk {
    pub server: DevServer,
    _folder: tempfile::TempDir,
}

/// How a command ended and what it said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Desk {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// At a server with these arguments.
    pub fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { server: DevServer::start_with(folder.path(), arguments), _folder: folder }
    }

    pub fn say(&self, line: &str) -> Said {
        self.pipe("", line)
    }

    /// Splits at white space, but for what is in single quotes.
    pub fn pipe(&self, input: &str, line: &str) -> Said {
        let parts = line.split('\'').enumerate();
        let words: Vec<_> = parts
            .flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            })
            .collect();
        self.server.partnerctl(&words, input).into()
    }

    /// Runs a command that must succeed; gives what it printed.
    pub fn run(&self, line: &str) -> String {
        let said = self.say(line);
        assert_eq!(said.code, 0, "partnerctl {line}\n{}\n{}", said.out, said.err);
        said.out
    }

    pub fn names(&self) -> Vec<String> {
        self.run("get -o name").lines().map(str::to_owned).collect()
    }
}

#[test]
fn failures_have_their_exit_codes_and_say_what_to_do() {
    let desk = Desk::new();
    desk.run("new contoso.com");
    desk.run("new gmail.com --tls not-supported --sasl not-supported");
    for (line, code, words) in [
        ("get nosuch.com", 3, &["nosuch.com"][..]),
        ("new contoso.com", 5, &["exists already"]),
        ("set contoso.com --etag 1-x --owner me", 5, &["has changed since", "to do: get it again"]),
        (
            "set gmail.com --dialback off",
            6,
            &["tls_negotiation", "sasl_negotiation", "dialback_enabled"],
        ),
        ("get --filter colour=blue", 6, &["colour"]),
        ("new bad..com", 6, &["bad..com"]),
        ("set contoso.com", 2, &["name a property"]),
        ("set contoso.com --tls sometimes", 2, &["required, optional or not-supported"]),
        ("set contoso.com --additional-domains append=a.example", 2, &["add=a,b"]),
        ("remove contoso.com", 2, &["--yes", "--what-if"]),
        ("resolve nosuch.com --check", 8, &[]),
        ("get --token-command 'echo not.a.token'", 4, &["--token-file"]),
        (
            "get --endpoint https://127.0.0.1:1",
            7,
            &["cannot be reached", "check that the service runs"],
        ),
        ("get --endpoint http://192.0.2.1:1", 2, &["use https"]),
        ("get --context nosuch", 2, &["nosuch"]),
    ] {
        let said = desk.say(line);
        assert_eq!(said.code, code, "partnerctl {line}\n{}\n{}", said.out, said.err);
        for word in words {
            assert!(
                said.err.contains(word),
                "partnerctl {line}\ndoes not say {word}:\n{}",
                said.err
            );
        }
        assert!(!said.err.contains("not.a.token"), "the token is in:\n{}", said.err);
    }
    assert_eq!(desk.names().len(), 2);
}

#[test]
fn a_server_with_another_name_or_another_authority_is_not_talked_to() {
    let desk = Desk::new();
    let folder = &desk.server.folder;
    let file = std::fs::read_to_string(folder.join("partnerd-data/partnerctl.toml")).unwrap();
    let endpoint = file.split('"').nth(1).unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let _other_server = DevServer::start(other.path());
    let ca = other.path().join("partnerd-data/ca.pem");
    for arguments in [
        &["get", "--endpoint", &endpoint][..],
        &["get", "--endpoint", &endpoint, "--ca-file", ca.to_str().unwrap()],
    ] {
        let said = Said::from(partnerctl(folder, arguments, ""));
        assert_eq!(said.code, 7, "{}", said.err);
        assert!(said.err.contains("certificate"), "{}", said.err);
    }
}

#[test]
fn what_if_shows_the_change_and_makes_none() {
    let desk = Desk::new();
    desk.run("new contoso.com --additional-domains na.contoso.com");
    let before = desk.run("get -o json");
    let shown = desk.run(
        "set contoso.com --additional-domains add=eu.contoso.com --additional-domains \
         remove=na.contoso.com --sasl optional --label tier=gold --what-if",
    );
    insta::assert_snapshot!(shown, @r"
    ~ contoso.com
        additional_domains   -na.contoso.com +eu.contoso.com
        sasl_negotiation     required -> optional
        negotiation_methods  +dialback-over-tls
        labels               +tier=gold
    what if: 1 to change; nothing was changed
    ");
    insta::assert_snapshot!(desk.run("remove contoso.com --what-if"), @r"
    - contoso.com
    what if: 1 to remove; nothing was changed
    ");
    insta::assert_snapshot!(desk.run("new fabrikam.com --what-if --force"), @r"
    + fabrikam.com (new)
        partner_type         public-unverified
        keep_alive_enabled   on
        tls_negotiation      required
        sasl_negotiation     required
        dialback_enabled     on
        negotiation_methods  sasl-over-tls
        suspended            off
    what if: 1 to create; nothing was changed
    ");
    let objects = before.replace("contoso.com", "fabrikam.com").replace("\"etag\"", "\"owner\"");
    let shown = desk.pipe(&objects, "set --what-if");
    assert!(shown.out.contains("+ fabrikam.com (new)"), "{}\n{}", shown.out, shown.err);
    assert_eq!(desk.run("get -o json"), before);
}

#[test]
fn objects_on_standard_input_replace_and_create() {
    let desk = Desk::new();
    desk.run("new contoso.com --owner me --description old");
    let objects =
        "{\"name\": \"contoso.com\", \"description\": \"new\"}\n{\"name\": \"b.example\"}";
    let refused = desk.pipe(objects, "set");
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("2 partners") && refused.err.contains("--yes"), "{}", refused.err);
    assert_eq!(desk.pipe(objects, "set --yes --force").code, 0);
    let contoso: serde_json::Value =
        serde_json::from_str(&desk.run("get contoso.com -o json")).unwrap();
    assert_eq!((contoso.get("owner"), &contoso["description"]), (None, &"new".into()));
    assert_eq!(desk.names().len(), 2);
    let misspelt = desk.pipe("{\"name\": \"contoso.com\", \"colour\": 1}", "set");
    assert!(misspelt.code == 6 && misspelt.err.contains("colour"), "{}", misspelt.err);
}

#[test]
fn a_bulk_change_is_whole_or_not_at_all_and_names_the_one_at_fault() {
    let desk = Desk::new();
    desk.run("new a.example");
    desk.run("new b.example --tls not-supported --sasl not-supported");
    desk.run("new c.example");
    let before = desk.run("get -o json");
    let objects = desk.run("get -o ndjson");
    let said = desk.pipe(&objects, "set --dialback off --yes");
    assert_eq!(said.code, 6);
    assert!(said.err.contains("at fault: b.example"), "{}", said.err);
    assert_eq!(desk.run("get -o json"), before);
}

#[test]
fn an_object_in_memory_needs_no_service() {
    let folder = tempfile::tempdir().unwrap();
    let line = ["new", "Contoso.com", "--in-memory", "--tls", "optional", "-o", "json"];
    let said = Said::from(partnerctl(folder.path(), &line, ""));
    assert_eq!(said.code, 0, "{}", said.err);
    let partner: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(partner["name"], "allowedPartners/contoso.com");
    assert_eq!(partner["keepAliveEnabled"], true);
    assert_eq!(partner["saslNegotiation"], "NEGOTIATION_REQUIRED");

    let lost = Said::from(partnerctl(folder.path(), &["get"], ""));
    assert_eq!(lost.code, 2);
    for way in ["serve --dev", "--endpoint", "PARTNERCTL_ENDPOINT", "set-context"] {
        assert!(lost.err.contains(way), "{}", lost.err);
    }
}

#[test]
fn contexts_are_kept_and_used_from_any_folder() {
    let desk = Desk::new();
    desk.run("new contoso.com");
    let data = desk.server.folder.join("partnerd-data");
    let file = std::fs::read_to_string(data.join("partnerctl.toml")).unwrap();
    let endpoint = file.split('"').nth(1).unwrap().to_owned();
    let home = tempfile::tempdir().unwrap();
    let at_home = |line: &[&str]| Said::from(partnerctl(home.path(), line, ""));
    let ca = data.join("ca.pem").display().to_string();
    let token = format!("cat '{}'", data.join("admin.token").display());
    let set = ["config", "set-context", "dev", "--endpoint", &endpoint, "--ca-file", &ca];
    let set = at_home(&[&set[..], &["--token-command", &token]].concat());
    assert_eq!(set.code, 0, "{}", set.err);
    assert_eq!(at_home(&["config", "current-context"]).out, "dev\n");
    let got = at_home(&["get", "-o", "name"]);
    assert_eq!(got.out, "allowedPartners/contoso.com\n", "{}", got.err);
    assert_eq!(at_home(&["config", "delete-context", "dev"]).code, 0);
    assert_eq!(at_home(&["get"]).code, 2);
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let desk = Desk::new();
    let objects: String =
        (0..2_000).map(|at| format!("{{\"name\": \"p{at}.example\"}}\n")).collect();
    assert_eq!(desk.pipe(&objects, "set --yes --force").code, 0);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_partnerctl"))
        .args(["get", "-o", "json"])
        .current_dir(&desk.server.folder)
        .env_clear()
        .env("HOME", &desk.server.folder)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

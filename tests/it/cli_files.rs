//! Import, export and apply against a real server.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::cli::Desk;

fn data(file: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(file);
    file.display().to_string()
}

impl Desk {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.server.folder.join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

/// A CSV file of partners, as large as asked for.
fn csv(rows: usize) -> String {
    let rows = (0..rows).map(|at| format!("p{at}.example,Partner {at},Optional\r\n"));
    format!("Identity,Description,SaslNegotiation\r\n{}", rows.collect::<String>())
}

#[test]
fn an_import_with_a_bad_entry_changes_nothing_and_names_it() {
    let desk = Desk::new();
    desk.run("new taken.example --additional-domains p1501.example");
    let text = csv(1_600)
        .replace("p1.example,Partner 1,Optional", "p1.example,Partner 1,Sometimes")
        .replace("p1500.example,", "p1501.example,");
    desk.file("bad.csv", &text);
    let said = desk.say("import bad.csv --yes --report report.json");
    assert_eq!(said.code, 6, "{}", said.err);
    for named in [
        "line 3: p1.example",
        "`Sometimes` is unknown",
        "line 1502: p1501.example",
        "taken.example",
    ] {
        assert!(said.err.contains(named), "{named} is not in\n{}", said.err);
    }
    assert_eq!(desk.names(), ["allowedPartners/taken.example"]);

    let report = fs::read_to_string(desk.server.folder.join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["done"], &report["refused"]), (&false.into(), &3.into()));

    let said = desk.say("import bad.csv --yes --skip-invalid --force");
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(desk.names().len(), 1 + 1_600 - 3);
}

#[test]
fn a_second_import_has_nothing_to_do() {
    let desk = Desk::new();
    desk.file("partners.csv", &csv(3));
    desk.run("new p1.example --owner me");
    insta::assert_snapshot!(desk.run("import partners.csv --what-if"), @r"
    LINE  DOMAIN      ACTION  WHY
    2     p0.example  create
    3     p1.example  update  description Partner 1, sasl_negotiation required -> optional, negotiation_methods +dialback-over-tls
    4     p2.example  create
    what if: 2 to create, 1 to change; nothing was changed
    ");
    assert_eq!(desk.names().len(), 1);
    assert_eq!(desk.say("import partners.csv").code, 2);
    desk.run("import partners.csv --yes");
    let partner: Value = serde_json::from_str(&desk.run("get p1.example -o json")).unwrap();
    assert_eq!((&partner["owner"], &partner["description"]), (&"me".into(), &"Partner 1".into()));
    let revision = desk.run("status -o json");
    assert_eq!(desk.run("import partners.csv --yes"), "nothing to do: 3 unchanged\n");
    let at = |status: &str| serde_json::from_str::<Value>(status).unwrap()["revision"].clone();
    assert_eq!(at(&desk.run("status -o json")), at(&revision));
}

#[test]
fn every_format_goes_in() {
    for (file, count) in [
        ("partners-utf16.clixml", 2),
        ("partners.json", 2),
        ("partners.csv", 2),
        ("store.xml", 2),
        ("domains.txt", 3),
        ("prosody.cfg.lua", 2),
        ("ejabberd.yml", 2),
    ] {
        let desk = Desk::new();
        let said = desk.say(&format!("import {} --yes --skip-invalid", data(file)));
        assert_eq!(said.code, 0, "{file}\n{}", said.err);
        assert_eq!(desk.names().len(), count, "{file}\n{}{}", said.out, said.err);
    }
}

#[test]
fn an_export_comes_back_the_same() {
    let desk = Desk::new();
    desk.run(
        "new contoso.com --additional-domains na.contoso.com,eu.contoso.com --label tier=gold \
         --label a.example/b=c --owner me --expires 2099-01-31 --sasl optional --connection-limit 7",
    );
    desk.run("new gmail.com --tls not-supported --sasl not-supported --keep-alive off --suspended");
    for format in ["json", "ndjson", "csv", "yaml", "declarative"] {
        desk.run(&format!("export --format {format} --file out.{format}"));
    }
    for format in ["json", "ndjson", "csv"] {
        let out = desk.run(&format!("import out.{format} --yes"));
        assert_eq!(out, "nothing to do: 2 unchanged\n", "{format}");
    }
    for format in ["yaml", "declarative"] {
        assert_eq!(desk.run(&format!("apply -f out.{format}")), "2 unchanged\n", "{format}");
    }
    let before = desk.run("get -o csv");
    desk.run("remove contoso.com gmail.com --yes");
    desk.run("apply -f out.declarative --yes --force");
    assert_eq!(desk.run("get -o csv"), before);
}

#[test]
fn apply_makes_the_service_equal_to_the_file() {
    let desk = Desk::new();
    desk.run("new contoso.com --owner me");
    desk.run("new old.example");
    desk.file(
        "partners.yaml",
        "federationSettings:\n  mode: FEDERATION_MODE_DENY_ALL\n\
         allowedPartners:\n- name: contoso.com\n  saslNegotiation: NEGOTIATION_OPTIONAL\n- name: new.example\n",
    );
    insta::assert_snapshot!(desk.run("apply -f partners.yaml --prune --what-if"), @r"
    ~ settings
        mode  allow-listed -> deny-all
    ~ contoso.com
        sasl_negotiation     required -> optional
        negotiation_methods  +dialback-over-tls
        owner                me -> (none)
    + new.example (new)
        partner_type         public-unverified
        keep_alive_enabled   on
        tls_negotiation      required
        sasl_negotiation     required
        dialback_enabled     on
        negotiation_methods  sasl-over-tls
        suspended            off
    - old.example
    1 to create, 1 to change, 1 to remove
    what if: nothing was changed
    ");
    assert_eq!(desk.say("apply -f partners.yaml --prune").code, 2);
    assert_eq!(desk.names(), ["allowedPartners/contoso.com", "allowedPartners/old.example"]);
    desk.run("apply -f partners.yaml --prune --yes");
    assert_eq!(desk.names(), ["allowedPartners/contoso.com", "allowedPartners/new.example"]);
    assert!(desk.run("settings get").contains("deny-all"));
    assert_eq!(desk.run("apply -f partners.yaml --prune"), "2 unchanged\n");

    desk.file("bad.yaml", "- name: a.example\n- name: localhost\n- name: b.example\n  colour: 1\n");
    let said = desk.say("apply -f bad.yaml --yes");
    assert_eq!(said.code, 6);
    assert!(said.err.contains("localhost") && said.err.contains("colour"), "{}", said.err);
    assert_eq!(desk.names().len(), 2);
}

#[test]
fn an_import_that_is_killed_leaves_whole_batches_and_a_second_run_finishes() {
    let desk = Desk::new();
    desk.file("partners.csv", &csv(4_000));
    let mut child = Command::new(env!("CARGO_BIN_EXE_partnerctl"))
        .args(["import", "partners.csv", "--yes", "--force"])
        .current_dir(&desk.server.folder)
        .env_clear()
        .env("HOME", &desk.server.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let begun = said.into_iter().any(|line| line.contains("batches"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(begun);
    assert_eq!(desk.names().len() % 1_000, 0);
    desk.run("import partners.csv --yes --force");
    assert_eq!(desk.names().len(), 4_000);
}

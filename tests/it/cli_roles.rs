//! Roles, revocations and the audit at the command line.

use crate::cli::Desk;

#[test]
fn a_role_is_made_shown_changed_and_removed() {
    let desk = Desk::new();
    let made = desk.run(
        "role new eu --template operator --scopes *.eu.contoso.com \
         --permissions allowedPartners.get,allowedPartners.update",
    );
    for text in ["*.eu.contoso.com", "suspended", "operator"] {
        assert!(made.contains(text), "{text}: {made}");
    }
    let shown = desk.run("role set eu --fields suspended,owner --what-if");
    assert!(shown.contains("updatable_fields"), "{shown}");
    desk.run("role set eu --fields all");
    assert!(desk.run("role get eu").contains("all"));
    assert!(desk.run("role list --can set").contains("eu"));
    let yes = desk.run("can-i update x.eu.contoso.com --field owner --with-roles eu");
    assert!(yes.starts_with("yes"), "{yes}");
    let no = desk.say("can-i update contoso.com --with-roles eu");
    assert_eq!(no.code, 8);
    assert!(no.out.contains("only within *.eu.contoso.com"), "{}", no.out);
    desk.run("role remove eu --yes");
    assert_eq!(desk.say("role get eu").code, 3);
    assert_ne!(desk.say("role remove viewer --yes").code, 0);
}

#[test]
fn a_subject_is_revoked_and_the_revocation_taken_back() {
    let desk = Desk::new();
    let said = desk.run("revoke subject mallory --issuer https://idp.example.com --for 24h --yes");
    assert!(said.contains("is revoked"), "{said}");
    let listed = desk.run("revocation list -o name");
    assert_eq!(listed.lines().count(), 1, "{listed}");
    desk.run(&format!("revocation delete {} --yes", listed.trim()));
    assert_eq!(desk.run("revocation list -o name").trim(), "");
}

#[test]
fn an_export_is_verified_without_a_service_and_a_change_of_it_is_named() {
    let desk = Desk::new();
    desk.run("new contoso.com --reason 'ticket 17'");
    desk.run("set contoso.com --owner Zoë");
    desk.run("role new lister --permissions allowedPartners.list");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let kept = desk.run("audit checkpoint -o json");
    std::fs::write(file("kept.json"), kept).unwrap();
    desk.run(&format!("audit export --file {}", file("audit.ndjson")));
    assert!(desk.run("audit verify").contains("intact"));
    let against = format!("--checkpoint {}", file("kept.json"));
    assert!(desk.run(&format!("audit verify {against}")).contains("intact"));
    let whole = format!("audit verify --file {} {against}", file("audit.ndjson"));
    assert!(desk.run(&whole).starts_with("intact"));

    let lines = std::fs::read_to_string(file("audit.ndjson")).unwrap();
    let changed = lines.replace("ticket 17", "ticket 18");
    assert_ne!(changed, lines);
    std::fs::write(file("changed.ndjson"), changed).unwrap();
    let said = desk.say(&format!("audit verify --file {}", file("changed.ndjson")));
    assert_eq!(said.code, 8);
    assert!(said.out.starts_with("entry 2:"), "{}", said.out);
    let short: Vec<_> = lines.lines().take(2).collect();
    std::fs::write(file("short.ndjson"), short.join("\n")).unwrap();
    let said = desk.say(&format!("audit verify --file {} {against}", file("short.ndjson")));
    assert_eq!(said.code, 8);
    assert!(said.out.contains("missing"), "{}", said.out);
    assert!(desk.run("audit list --filter 'kind = COMMIT'").contains("contoso.com"));
}

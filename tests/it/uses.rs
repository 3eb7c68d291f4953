//! The documented uses of the original, one to eight, as an administrator types them.

use std::process::Output;

use serde_json::Value;

use crate::harness::process::DevServer;

/// An administrator at a dev server's folder.
struct Desk {
    server: DevServer,
    _folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { server: DevServer::start(folder.path()), _folder: folder }
    }

    /// Runs a command line that must succeed; gives what it printed.
    fn run(&self, line: &str) -> String {
        self.pipe("", line)
    }

    fn pipe(&self, input: &str, line: &str) -> String {
        let output = self.output(input, line);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "partnerctl {line}\n{out}\n{err}");
        out
    }

    fn output(&self, input: &str, line: &str) -> Output {
        let words: Vec<_> = line.split_whitespace().map(|word| word.trim_matches('\'')).collect();
        self.server.partnerctl(&words, input)
    }

    fn partner(&self, domain: &str) -> Value {
        serde_json::from_str(&self.run(&format!("get {domain} -o json"))).unwrap()
    }

    /// The domains that a `get` finds, in order.
    fn names(&self, arguments: &str) -> Vec<String> {
        self.run(&format!("get {arguments} -o name"))
            .lines()
            .map(|line| line.trim_start_matches("allowedPartners/").to_owned())
            .collect()
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The fields in which two partners differ, but for those that every commit changes.
fn differing(before: &Value, after: &Value) -> Vec<String> {
    let bookkeeping = ["revision", "etag", "updateTime", "negotiationMethods", "warnings"];
    let (before, after) = (before.as_object().unwrap(), after.as_object().unwrap());
    let mut fields: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|field| before.get(*field) != after.get(*field))
        .filter(|field| !bookkeeping.contains(&field.as_str()))
        .cloned()
        .collect();
    fields.sort();
    fields.dedup();
    fields
}

#[test]
fn the_documented_uses_work_and_touch_exactly_the_fields_named() {
    let desk = Desk::new();

    // 2: create with one property given and the rest defaulted; with additional domains.
    desk.run("new contoso.com --description=Contoso --additional-domains na.contoso.com,europe.contoso.com");
    desk.run("new fabrikam.org --partner-type federated --sasl optional");
    desk.run("new litware.org");
    let litware = desk.partner("litware.org");
    assert_eq!(litware["tlsNegotiation"], "NEGOTIATION_REQUIRED");
    assert_eq!(litware["partnerType"], "PARTNER_TYPE_PUBLIC_UNVERIFIED");
    assert_eq!(
        desk.partner("contoso.com")["additionalDomains"],
        serde_json::json!(["europe.contoso.com", "na.contoso.com"])
    );

    // 3: the public-provider recipe.
    desk.run(
        "new gmail.com --tls not-supported --sasl not-supported --keep-alive off --dialback on",
    );
    let gmail = desk.partner("gmail.com");
    assert_eq!(
        gmail["negotiationMethods"],
        serde_json::json!(["NEGOTIATION_METHOD_DIALBACK_OVER_TCP"])
    );
    assert_eq!(gmail["keepAliveEnabled"], false);

    // 1: all; one by name; by pattern; those whose SASL is required.
    assert_eq!(desk.names(""), ["contoso.com", "fabrikam.org", "gmail.com", "litware.org"]);
    assert_eq!(desk.names("CONTOSO.com"), ["contoso.com"]);
    assert_eq!(desk.names("'*.org'"), ["fabrikam.org", "litware.org"]);
    let by_filter = desk
        .server
        .partnerctl(&["get", "--filter", "sasl_negotiation = REQUIRED", "-o", "name"], "");
    assert_eq!(texts(&by_filter).0.lines().count(), 2);

    // 4: one property, the others untouched.
    let before = desk.partner("contoso.com");
    desk.run("set contoso.com --dialback off");
    let after = desk.partner("contoso.com");
    assert_eq!(
        (differing(&before, &after), &after["dialbackEnabled"]),
        (vec!["dialbackEnabled".to_owned()], &Value::Bool(false))
    );

    // 5: every partner's SASL to required, by piping get into set.
    let objects = desk.run("get -o ndjson");
    desk.pipe(&objects, "set --sasl required --yes");
    let fabrikam = desk.partner("fabrikam.org");
    assert_eq!(fabrikam["saslNegotiation"], "NEGOTIATION_REQUIRED");
    assert_eq!(fabrikam["partnerType"], "PARTNER_TYPE_FEDERATED");
    assert_eq!(differing(&gmail, &desk.partner("gmail.com")), ["saslNegotiation"]);

    // 6: add, remove, replace and clear additional domains.
    for (change, expected) in [
        (
            "add=sales.contoso.com",
            serde_json::json!(["europe.contoso.com", "na.contoso.com", "sales.contoso.com"]),
        ),
        ("remove=europe.contoso.com", serde_json::json!(["na.contoso.com", "sales.contoso.com"])),
        (
            "asia.contoso.com,NA.contoso.com",
            serde_json::json!(["asia.contoso.com", "na.contoso.com"]),
        ),
        ("none", serde_json::json!(null)),
    ] {
        let before = desk.partner("contoso.com");
        desk.run(&format!("set contoso.com --additional-domains {change}"));
        let after = desk.partner("contoso.com");
        assert_eq!(differing(&before, &after), ["additionalDomains"], "{change}");
        let found = after.get("additionalDomains").filter(|list| **list != serde_json::json!([]));
        assert_eq!(found.unwrap_or(&Value::Null), &expected, "{change}");
    }

    // WhatIf changes nothing.
    let before = desk.partner("contoso.com");
    let shown = desk.run("set contoso.com --tls optional --what-if");
    assert!(shown.contains("tls_negotiation"), "{shown}");
    desk.run("remove contoso.com --what-if");
    assert_eq!(desk.partner("contoso.com"), before);

    // 7: remove one; those of a type by piping; without --yes and a terminal it is refused.
    let refused = desk.output("", "remove gmail.com");
    let (_, error) = texts(&refused);
    assert!(!refused.status.success() && error.contains("--yes"), "{error}");
    desk.run("remove gmail.com --yes");
    let unverified = desk
        .server
        .partnerctl(&["get", "--filter", "partner_type = PUBLIC_UNVERIFIED", "-o", "ndjson"], "");
    desk.pipe(&texts(&unverified).0, "remove --yes");
    assert_eq!(desk.names(""), ["fabrikam.org"]);
    let rest = desk.run("get -o ndjson");
    desk.pipe(&rest, "remove --yes");
    assert!(desk.names("").is_empty());

    // 8: which roles may run the set command.
    let roles = desk.run("role list --can set -o name");
    assert_eq!(roles.lines().collect::<Vec<_>>(), ["roles/admin", "roles/operator"]);
    assert!(desk.run("whoami").contains("roles/admin"));
}

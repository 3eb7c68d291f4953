//! `partnerctl backup` and `partnerctl restore`.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::Value;

use super::PASSPHRASE;
use crate::cli::Desk;

#[test]
fn a_lost_folder_comes_back_from_a_file() {
    let old = Desk::new();
    old.run("new contoso.com --owner jo");
    old.run("new gone.example");
    old.run("remove gone.example --yes");
    let passphrase = old.server.folder.join("passphrase");
    fs::write(&passphrase, PASSPHRASE).unwrap();
    old.run("settings set --dialback-passphrase-file passphrase");
    let said = old.say("backup --file all.backup --reason nightly");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("saved: 1 partner at revision 4"), "{}", said.err);
    assert!(!said.out.contains("horse") && !said.err.contains("horse"));
    let file = old.server.folder.join("all.backup");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let audit = old.run("audit list --filter 'kind = BACKUP'");
    assert!(
        audit.contains("backup of revision 4, 3 records") && audit.contains("nightly"),
        "{audit}"
    );

    // Not over a file that is there, unless that is meant, and no leftover either way.
    let said = old.say("backup --file all.backup");
    assert_eq!(said.code, 5, "{}", said.err);
    old.run("backup --file all.backup --force");
    let names = fs::read_dir(&old.server.folder).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{names:?}");
    let piped = Command::new(env!("CARGO_BIN_EXE_partnerctl"))
        .args(["backup", "--file", "-"])
        .current_dir(&old.server.folder)
        .output()
        .unwrap();
    assert!(piped.stdout.starts_with(b"partnerd backup\n"));

    let shown: Value = serde_json::from_str(&old.run("backup --check all.backup -o json")).unwrap();
    assert_eq!(shown["header"]["partnerCount"], "1");
    let key = shown["trailer"]["publicKey"].as_str().unwrap().to_owned();
    let verified: Value = serde_json::from_str(&old.run("audit verify -o json")).unwrap();
    assert_eq!(verified["publicKey"], key);

    let new = Desk::new();
    let bytes = fs::read(&file).unwrap();
    fs::write(new.server.folder.join("all.backup"), &bytes).unwrap();
    insta::assert_snapshot!(
        new.run("restore --file all.backup --what-if").replace(&made(&shown), "(then)"), @r"
    restore             what if; nothing was changed
    backup of revision  4
    made                (then)
    created             2
    updated             1
    deleted             0
    unchanged           0
    revision            0
    ");
    assert!(new.names().is_empty());
    // Nobody can be asked.
    assert_eq!(new.say("restore --file all.backup").code, 2);
    let said = new.say(&format!("restore --file all.backup --public-key {key} --yes"));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("restored") && said.err.contains("another server's key"),
        "{}",
        said.err
    );
    assert_eq!(new.names(), ["allowedPartners/contoso.com"]);
    new.run("undelete gone.example");
    assert!(new.run("settings get -o json").contains("\"dialbackPassphraseSet\": true"));
    let audit = new.run("audit list --filter 'kind = RESTORE'");
    assert!(audit.contains("restored the backup of revision"), "{audit}");
}

fn made(shown: &Value) -> String {
    let time = shown["header"]["createTime"].as_str().unwrap();
    let (second, _) = time.split_once('.').unwrap();
    format!("{second}Z")
}

#[test]
fn a_file_that_is_not_to_be_believed_is_found_without_a_service_and_not_sent_to_one() {
    let desk = Desk::new();
    desk.run("new contoso.com");
    desk.run("backup --file all.backup");
    let file = desk.server.folder.join("all.backup");
    let whole = fs::read(&file).unwrap();
    let strange = format!("--public-key {}", "0".repeat(64));
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for (bytes, more, expected) in [
        (&whole[..whole.len() / 2], "", "cut short"),
        (&flipped, "", ""),
        (b"something else".as_slice(), "", "does not begin as"),
        (&whole, &*strange, "signed by another key"),
    ] {
        fs::write(&file, bytes).unwrap();
        for command in ["backup --check", "restore --yes --file"] {
            let said = desk.say(&format!("{command} all.backup {more}"));
            assert_eq!(said.code, 8, "{command}: {}", said.err);
            assert!(said.err.contains(expected), "{}", said.err);
        }
    }
    let audit = desk.run("audit list --filter 'kind = RESTORE' -o name");
    assert!(audit.is_empty(), "{audit}");
}

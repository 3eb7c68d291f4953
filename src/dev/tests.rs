//! First start, later starts, interrupted ones, and folders of others.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::{
    auth::token::{Options, Verifier},
    tls::ServerTls,
};

/// A free name in a folder that goes away.
fn place() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("partnerd-data");
    (parent, path)
}

fn read(folder: &DevFolder, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).expect(name)
}

fn verifier(folder: &DevFolder) -> Verifier {
    Verifier::new(vec![folder.issuer_config()], Options::default()).expect("a verifier")
}

#[test]
fn a_new_folder_has_everything_a_server_and_a_client_need() {
    let (_parent, path) = place();
    let now = Timestamp::now();
    let folder = DevFolder::open_or_create(&path, now).expect("a folder");
    ServerTls::load(&folder.tls_config(), now).expect("TLS");
    let token = read(&folder, "admin.token");
    let caller = verifier(&folder).verify(token.trim_end(), now).expect("a caller");
    assert_eq!((&*caller.subject, &*caller.roles), ("dev-admin", &["admin".to_owned()][..]));
    let until = (now + ADMIN_TOKEN_LIFETIME).as_second();
    assert_eq!(caller.expire_time.as_second(), until);
    let file = folder.write_client_config("https://localhost:7443").expect("written");
    let config: ClientConfig =
        toml::from_str(&fs::read_to_string(file).expect("content")).expect("TOML");
    assert_eq!(config.endpoint, "https://localhost:7443");
    assert!(config.ca_file.is_absolute() && config.ca_file.exists());
    assert!(config.token_file.is_absolute() && config.token_file.exists());
}

#[test]
fn nobody_else_may_read_what_is_secret() {
    let (_parent, path) = place();
    let folder = DevFolder::open_or_create(&path, Timestamp::now()).expect("a folder");
    folder.write_client_config("https://localhost:7443").expect("written");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    for entry in fs::read_dir(folder.path()).expect("a listing") {
        let path = entry.expect("an entry").path();
        let public = path.extension().is_some_and(|extension| extension == "pem");
        assert_eq!(mode(&path), if public { 0o644 } else { 0o600 }, "{}", path.display());
    }
    assert!(!format!("{folder:?}").contains("PRIVATE"));
}

#[test]
fn a_second_start_keeps_the_keys_and_gives_a_new_token() {
    let (_parent, path) = place();
    let now = Timestamp::now();
    let names = ["ca.pem", "ca.key", "server.pem", "server.key", "jwt.pem", "jwt.key"];
    let first = DevFolder::open_or_create(&path, now).expect("a folder");
    let (kept, token) = (names.map(|name| read(&first, name)), read(&first, "admin.token"));
    let again = DevFolder::open_or_create(&path, now).expect("the folder");
    assert_eq!(names.map(|name| read(&again, name)), kept);
    assert_ne!(read(&again, "admin.token"), token);
}

#[test]
fn an_interrupted_start_is_completed_by_the_next() {
    let now = Timestamp::now();
    for lost in [
        &["ca.pem"][..],
        &["server.pem"],
        &["jwt.pem"],
        &["admin.token"],
        &["server.pem", "server.key"],
        &["ca.pem", "ca.key", "server.pem", "server.key", "jwt.pem", "jwt.key", "admin.token"],
    ] {
        let (_parent, path) = place();
        DevFolder::open_or_create(&path, now).expect("a folder");
        for name in lost {
            fs::remove_file(path.join(name)).expect("removed");
        }
        let folder = DevFolder::open_or_create(&path, now).expect("completed");
        ServerTls::load(&folder.tls_config(), now).expect("TLS");
        let token = read(&folder, "admin.token");
        verifier(&folder).verify(token.trim_end(), now).expect("a caller");
    }
}

#[test]
fn a_new_authority_gets_a_new_server_certificate() {
    let (_parent, path) = place();
    let now = Timestamp::now();
    let old = read(&DevFolder::open_or_create(&path, now).expect("a folder"), "server.pem");
    for name in ["ca.pem", "ca.key"] {
        fs::remove_file(path.join(name)).expect("removed");
    }
    let folder = DevFolder::open_or_create(&path, now).expect("completed");
    assert_ne!(read(&folder, "server.pem"), old);
    let key = certs::read_key(&folder.path().join("ca.key")).expect("a key");
    let authority = Authority::from_pem(&read(&folder, "ca.pem"), key).expect("an authority");
    assert!(authority.has_signed(&read(&folder, "server.pem")) && !authority.has_signed(&old));
}

#[test]
fn a_lost_private_key_is_an_error_that_names_it() {
    let now = Timestamp::now();
    for lost in ["ca.key", "server.key", "jwt.key"] {
        let (_parent, path) = place();
        DevFolder::open_or_create(&path, now).expect("a folder");
        fs::remove_file(path.join(lost)).expect("removed");
        let error = DevFolder::open_or_create(&path, now).expect_err("a lost key").to_string();
        assert!(error.contains(lost) && error.contains("restore it"), "{error}");
    }
}

#[test]
fn certificates_are_renewed_for_the_same_key_before_they_end() {
    let (_parent, path) = place();
    let start = Timestamp::now();
    let folder = DevFolder::open_or_create(&path, start).expect("a folder");
    let [ca, server, key] = ["ca.pem", "server.pem", "server.key"].map(|name| read(&folder, name));
    folder.refresh(start + SignedDuration::from_hours(300 * 24)).expect("refreshed");
    assert_eq!(read(&folder, "server.pem"), server);
    folder.refresh(start + SignedDuration::from_hours(370 * 24)).expect("refreshed");
    assert_ne!(read(&folder, "server.pem"), server);
    assert_eq!((read(&folder, "ca.pem"), read(&folder, "server.key")), (ca.clone(), key));
    let later = start + certs::AUTHORITY_LIFETIME;
    folder.refresh(later).expect("refreshed");
    assert_ne!(read(&folder, "ca.pem"), ca);
    ServerTls::load(&folder.tls_config(), later).expect("TLS");
}

#[test]
fn a_folder_with_other_things_is_left_as_it_is() {
    let (_parent, path) = place();
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("server.key"), "precious").expect("a file");
    let error = DevFolder::open_or_create(&path, Timestamp::now()).expect_err("foreign");
    assert!(matches!(error, DevError::Foreign(_)), "{error}");
    assert_eq!(fs::read_dir(&path).expect("a listing").count(), 1);
}

#[test]
fn an_empty_folder_and_one_with_a_leftover_are_taken() {
    let (_parent, path) = place();
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join(format!(".{}.new", Uuid::new_v4().simple())), "").expect("a leftover");
    DevFolder::open_or_create(&path, Timestamp::now()).expect("a folder");
}

#[test]
fn tokens_are_issued_for_any_role_from_an_existing_folder_only() {
    let (_parent, path) = place();
    let now = Timestamp::now();
    assert!(matches!(DevFolder::open(&path), Err(DevError::NotThere(_))));
    let server = DevFolder::open_or_create(&path, now).expect("a folder");
    let folder = DevFolder::open(&path).expect("the folder");
    let minute = SignedDuration::from_mins(1);
    let token = folder.issue_token(&["viewer", "auditor"], "alice", minute, now).expect("a token");
    let caller = verifier(&server).verify(token.expose_secret(), now).expect("a caller");
    assert_eq!(caller.roles, ["auditor", "viewer"]);
    assert_eq!(caller.expire_time.as_second(), (now + minute).as_second());
    assert!(caller.token_id.is_some());
}

#[test]
fn a_token_that_no_server_would_take_is_not_issued() {
    let (_parent, path) = place();
    let now = Timestamp::now();
    let folder = DevFolder::open_or_create(&path, now).expect("a folder");
    let hour = SignedDuration::from_hours(1);
    let long = "x".repeat(257);
    for subject in ["", "a\nb", &long] {
        folder.issue_token(&["viewer"], subject, hour, now).expect_err(subject);
    }
    for lifetime in [SignedDuration::ZERO, -hour, MAX_TOKEN_LIFETIME + hour] {
        folder.issue_token(&["viewer"], "alice", lifetime, now).expect_err("a bad lifetime");
    }
}

#[test]
fn a_token_of_one_folder_is_nothing_to_the_server_of_another() {
    let (_one, one) = place();
    let (_two, two) = place();
    let now = Timestamp::now();
    let one = DevFolder::open_or_create(&one, now).expect("a folder");
    let two = DevFolder::open_or_create(&two, now).expect("a folder");
    let token = read(&one, "admin.token");
    let error = verifier(&two).verify(token.trim_end(), now).expect_err("a stranger's token");
    assert_eq!(error.reason(), "TOKEN_KEY_UNKNOWN");
}

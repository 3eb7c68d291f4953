//! What `partnerd certs` makes, keeps and refuses.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn args(out: &Path) -> CertsArgs {
    let clients = vec!["client".to_owned()];
    CertsArgs {
        out: out.to_owned(),
        names: vec!["xmpp.example.org".to_owned()],
        clients,
        force: false,
    }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("a file")
}

#[test]
fn certs_makes_an_authority_a_server_and_a_client_with_private_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = make(&args(folder.path()), now()).expect("certificates");
    let mut names: Vec<_> = written.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ca.key", "ca.pem", "client.key", "client.pem", "server.key", "server.pem"]);
    for name in names {
        let mode = fs::metadata(folder.path().join(name)).expect("metadata").permissions().mode();
        let expected = if name.ends_with(".key") { 0o600 } else { 0o644 };
        assert_eq!(mode & 0o777, expected, "{name}");
    }
}

#[test]
fn lifetimes_and_names_are_as_documented() {
    let folder = tempfile::tempdir().expect("a folder");
    make(&args(folder.path()), now()).expect("certificates");
    for (name, lifetime) in [("ca.pem", AUTHORITY_LIFETIME), ("server.pem", LEAF_LIFETIME)] {
        let facts = CertificateFacts::from_pem(&read(folder.path(), name)).expect("facts");
        assert_eq!(facts.not_after.duration_since(facts.not_before), lifetime, "{name}");
        assert_eq!(facts.not_before, now() - BACKDATE, "{name}");
    }
    let pem = read(folder.path(), "server.pem");
    let (_, block) = parse_x509_pem(pem.as_bytes()).expect("PEM");
    let certificate = block.parse_x509().expect("a certificate");
    let names = certificate.subject_alternative_name().expect("one extension").expect("names");
    let names = names.value.general_names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names.len(), 4);
    for expected in ["localhost", "xmpp.example.org"] {
        assert!(names.iter().any(|name| name.contains(expected)), "{names:?}");
    }
    assert!(!certificate.is_ca());
}

#[test]
fn nothing_is_overwritten_without_force_and_the_authority_never() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = args(folder.path());
    make(&first, now()).expect("certificates");
    let [ca, ca_key, server, key] =
        ["ca.pem", "ca.key", "server.pem", "server.key"].map(|name| read(folder.path(), name));
    let error = make(&first, now()).expect_err("they are there");
    assert!(matches!(error, CertsError::WouldOverwrite(_)), "{error}");
    assert_eq!(read(folder.path(), "server.key"), key);
    make(&CertsArgs { force: true, ..first }, now()).expect("new certificates");
    assert_ne!(read(folder.path(), "server.key"), key);
    assert_ne!(read(folder.path(), "server.pem"), server);
    assert_eq!((read(folder.path(), "ca.pem"), read(folder.path(), "ca.key")), (ca, ca_key));
}

#[test]
fn a_clash_with_the_last_client_is_found_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("client.key"), "precious").expect("a file");
    make(&args(folder.path()), now()).expect_err("client.key is there");
    assert_eq!(fs::read_dir(folder.path()).expect("a listing").count(), 1);
}

#[test]
fn half_an_authority_is_refused() {
    for lost in ["ca.key", "ca.pem"] {
        let folder = tempfile::tempdir().expect("a folder");
        make(&args(folder.path()), now()).expect("certificates");
        fs::remove_file(folder.path().join(lost)).expect("removed");
        let again = CertsArgs { force: true, ..args(folder.path()) };
        let error = make(&again, now()).expect_err("half an authority").to_string();
        assert!(error.contains(lost), "{error}");
    }
}

#[test]
fn a_key_of_another_authority_is_refused() {
    let authority = Authority::new(new_key().expect("a key"), now()).expect("an authority");
    let error = Authority::from_pem(authority.certificate_pem(), new_key().expect("a key"))
        .err()
        .expect("another key");
    assert!(error.to_string().contains("not the certificate of ca.key"), "{error}");
}

#[test]
fn two_certificates_for_one_key_have_different_numbers() {
    let authority = Authority::new(new_key().expect("a key"), now()).expect("an authority");
    let key = new_key().expect("a key");
    let numbers = [0, 1].map(|_| {
        let issued = authority.issue_client("client", &key, now()).expect("a certificate");
        let (_, block) = parse_x509_pem(issued.certificate_pem.as_bytes()).expect("PEM");
        block.parse_x509().expect("a certificate").raw_serial().to_vec()
    });
    assert_ne!(numbers[0], numbers[1]);
    // RFC 5280 section 4.1.2.2: positive, at most 20 octets.
    assert!(numbers.iter().all(|number| number[0] < 0x80 && number.len() <= 20), "{numbers:?}");
}

#[test]
fn an_expired_authority_signs_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    make(&args(folder.path()), now()).expect("certificates");
    let again = CertsArgs { force: true, ..args(folder.path()) };
    let error = make(&again, now() + AUTHORITY_LIFETIME).expect_err("too late").to_string();
    assert!(error.contains("ca.pem has expired"), "{error}");
}

#[test]
fn names_that_would_leave_the_folder_or_the_certificate_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for client in ["", "ca", "server", "../up", "a/b", ".hidden", "a b", "a..b"] {
        let args = CertsArgs { clients: vec![client.to_owned()], ..args(folder.path()) };
        make(&args, now()).expect_err(client);
    }
    for name in ["", "a b", "a..b", "ü.example", &"a".repeat(64)] {
        let args = CertsArgs { names: vec![name.to_owned()], ..args(folder.path()) };
        assert!(matches!(make(&args, now()), Err(CertsError::BadName(_))), "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a listing").count(), 0);
}

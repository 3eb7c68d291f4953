//! The server's program, as those who run it meet it.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use partnerd::proto::v1::{AllowedPartner, DescribeCallerRequest};
use tokio::net::TcpStream;

use crate::harness::{actor::Actor, process::DevServer};

fn partnerd(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_partnerd"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn it_refuses_to_start_on_what_is_missing_or_unknown_with_a_line_for_each() {
    let folder = tempfile::tempdir().unwrap();
    for (config, named) in [
        ("", &["data_dir", "tls.cert_file", "auth.issuers"][..]),
        ("lisen = [\"127.0.0.1:0\"]", &["lisen", "listen"]),
        ("[[auth.issuers]]\nissuer = \"x\"", &["audiences", "algorithms", "keys"]),
        ("[tls]\nenabled = false\n[limits]\nmax_batch = 0", &["limits.max_batch"]),
        ("listen = [\"0.0.0.0:7443\"]\n[tls]\nenabled = false", &["tls.enabled"]),
        ("not toml", &["partnerd.toml"]),
    ] {
        std::fs::write(folder.path().join("partnerd.toml"), config).unwrap();
        let (code, out, err) = partnerd(folder.path(), &["serve", "--config", "partnerd.toml"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{config}\n{err}");
        for name in named {
            assert!(err.contains(name), "{config}\n does not name {name}:\n{err}");
        }
        assert!(err.lines().all(|line| line.starts_with("error: ")), "{err}");
    }
    let (code, _, err) = partnerd(folder.path(), &["serve", "--config", "absent.toml"]);
    assert!(code == Some(1) && err.contains("absent.toml"), "{err}");
    let (code, _, err) = partnerd(folder.path(), &["serve"]);
    assert!(code == Some(1) && err.contains("--dev"), "{err}");
    assert!(!folder.path().join("partnerd-data").exists());
}

#[test]
fn a_development_server_listens_on_loopback_only() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = partnerd(folder.path(), &["serve", "--dev", "--listen", "0.0.0.0:0"]);
    assert!(code == Some(1) && err.contains("loopback"), "{err}");
}

#[tokio::test]
async fn a_development_token_of_any_role_is_printed_and_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = partnerd(folder.path(), &["token", "--role", "viewer"]);
    assert!(code == Some(1) && err.contains("serve --dev"), "{err}");

    let server = DevServer::start(folder.path());
    let (code, token, _) = partnerd(folder.path(), &["token", "--role", "viewer"]);
    assert_eq!(code, Some(0));
    let viewer = Actor::of_dev_server_with(folder.path(), token.trim()).await;
    let described = viewer
        .roles()
        .describe_caller(DescribeCallerRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(described.roles, ["roles/viewer"]);
    viewer.create("contoso.com", AllowedPartner::default()).await.unwrap_err();
    assert!(server.terminate().success());
}

#[test]
fn it_says_in_a_few_lines_where_it_listens_and_what_to_try() {
    let folder = tempfile::tempdir().unwrap();
    let server = DevServer::start(folder.path());
    assert!(server.greeting.lines().count() <= 6, "{}", server.greeting);
    assert!(server.greeting.contains("https://127.0.0.1:"), "{}", server.greeting);
    assert!(server.greeting.contains("partnerctl"), "{}", server.greeting);
    assert!(server.terminate().success());
}

#[cfg(unix)]
#[test]
fn nothing_secret_is_readable_by_others() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let server = DevServer::start(folder.path());
    let data = folder.path().join("partnerd-data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for secret in ["ca.key", "server.key", "jwt.key", "admin.token"] {
        assert_eq!(mode(&data.join(secret)), 0o600, "{secret}");
    }
    drop(server);
}

#[tokio::test]
async fn the_first_signal_waits_for_a_call_and_the_second_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = DevServer::start(folder.path());
    let admin = Actor::of_dev_server(folder.path()).await;
    admin.create_plain("contoso.com").await;
    // A read of a revision that never comes is a call in flight for as long as it may be.
    let waiting = admin.clone().with("x-min-revision", "99");
    let mut call = Box::pin(waiting.get("contoso.com"));
    // Both go over one connection, so once the second is answered the first has arrived.
    tokio::select! {
        biased;
        early = &mut call => panic!("there is no such revision: {early:?}"),
        found = admin.get("contoso.com") => found.unwrap(),
    };
    server.signal("TERM");
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(server.runs(), "it waits for the call");
    let told = Instant::now();
    server.signal("TERM");
    assert!(server.wait().success());
    assert!(told.elapsed() < Duration::from_secs(20), "well before the drain timeout of 30 s");
    call.await.unwrap_err();
}

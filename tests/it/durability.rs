//! What was acknowledged is there after a restart, and for as long as it is to be kept. `crash/` has
//! the ends that are not orderly.

use partnerd::proto::v1::{GetAllowedPartnerRequest, StatusRequest};
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{Actor, name},
    process::DevServer,
};

#[tokio::test]
async fn a_restart_changes_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mut before = Vec::new();
    for number in 0..20 {
        before.push(admin.create_plain(&format!("p{number:02}.example")).await);
    }
    let revision = admin.revision().await;
    let server = server.restart().await;
    for partner in before {
        let domain = partner.name.replace("allowedPartners/", "");
        assert_eq!(server.admin().get(&domain).await.unwrap(), partner);
    }
    assert_eq!(server.admin().revision().await, revision);
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = DevServer::start(folder.path());
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_partnerd"))
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("another") && text.contains("partnerd-data"), "{text}");
    let admin = Actor::of_dev_server(folder.path()).await;
    admin.create_plain("contoso.com").await;
    drop(first);
}

/// How far back the history goes, as the status says it.
async fn oldest_revision(admin: &Actor) -> i64 {
    let status = admin.maintenance().status(StatusRequest {}).await.unwrap();
    status.into_inner().oldest_revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_history_goes_while_the_server_runs_and_deleted_partners_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--set", "history.max_commits=20"];
    let server = DevServer::start_with(folder.path(), &settings);
    let admin = Actor::of_dev_server(folder.path()).await;
    for domain in ["early.example", "kept.example"] {
        admin.create_plain(domain).await;
    }
    admin.delete("early.example").await.unwrap();
    let show_deleted = GetAllowedPartnerRequest {
        name: name("early.example"),
        show_deleted: true,
        ..Default::default()
    };
    admin.partners().get_allowed_partner(show_deleted.clone()).await.unwrap();
    for number in 0..40 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    assert_eq!(admin.revision().await, 43);
    while oldest_revision(&admin).await < 24 {
        tokio::task::yield_now().await;
    }
    let gone = admin.partners().get_allowed_partner(show_deleted).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(admin.undelete("early.example").await.unwrap_err().code(), Code::NotFound);
    admin.get("kept.example").await.unwrap();
    assert_eq!(admin.revision().await, 43);
    assert!(server.terminate().success());

    let server = DevServer::start_with(folder.path(), &settings);
    let admin = Actor::of_dev_server(folder.path()).await;
    assert_eq!(oldest_revision(&admin).await, 24);
    admin.get("kept.example").await.unwrap();
    // The name is as free as one that was never used.
    let anew = admin.create_plain("early.example").await;
    assert_eq!(anew.revision, 44);
    assert!(server.terminate().success());
}

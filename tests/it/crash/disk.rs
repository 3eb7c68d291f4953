//! Disks that fill up or may not be written to, through the front door.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use partnerd::proto::v1::{AllowedPartner, StatusRequest, StatusResponse};
use tonic::{Code, Status};

use crate::harness::{
    actor::{Actor, reason},
    process::DevServer,
};

/// Room for some hundred large partners beside the files of an empty store.
const ROOM_MIB: usize = 24;

/// The mounts of a few processes, which nobody else sees.
struct PrivateMounts {
    /// Keeps them there as long as it runs.
    keeper: Child,
}

impl PrivateMounts {
    /// Mounts an empty file system of some MiB over `folder`, or says aloud why not.
    fn over(folder: &Path, mebibytes: usize) -> Option<Self> {
        let script = "mount -t tmpfs -o size=$1m tmpfs \"$2\" && echo mounted && exec cat";
        let keeper = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "--propagation", "private"])
            .args(["sh", "-c", script, "sh", &mebibytes.to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mounted = keeper.ok().and_then(|mut keeper| {
            let mut line = String::new();
            let output = keeper.stdout.take().expect("it is piped");
            let _ = BufReader::new(output).read_line(&mut line);
            let mounts = Self { keeper };
            (line == "mounted\n").then_some(mounts)
        });
        if mounted.is_none() {
            // Not by a macro: what those print is not shown when a test passes.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: a test of full and read-only disks, for which this system lets nobody \
                 mount (it needs user namespaces)"
            );
        }
        mounted
    }

    /// A command that runs a program in `folder`, among these mounts.
    fn run(&self, folder: &Path, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let keeper = self.keeper.id().to_string();
        command.args(["--target", &keeper, "--user", "--mount", "--preserve-credentials"]);
        // Whoever enters begins at the root.
        command.args(["--", "sh", "-c", "cd \"$1\" && shift && exec \"$@\"", "sh"]);
        command.arg(folder).arg(program);
        command
    }

    fn remount(&self, folder: &Path, option: &str) {
        let remount = format!("remount,{option}");
        let done = self.run(Path::new("/"), "mount").args(["-o", &remount]).arg(folder).status();
        assert!(done.unwrap().success(), "{remount}");
    }

    fn serve(&self, folder: &Path) -> DevServer {
        let command = self.run(folder, env!("CARGO_BIN_EXE_partnerd"));
        DevServer::spawn_by(command, folder, &[]).ready()
    }
}

impl Drop for PrivateMounts {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A folder in which a development server has run, and the folder of its store, emptied.
fn prepared() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    DevServer::start(folder.path()).kill();
    let store = folder.path().join("partnerd-data/store");
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::create_dir(&store).unwrap();
    (folder, store)
}

/// A partner of some 20 KiB.
fn large(number: usize) -> AllowedPartner {
    let domains = 0..400;
    let domains = domains.map(|it| format!("additional-domain-{it}.of-p{number}.example"));
    AllowedPartner { additional_domains: domains.collect(), ..Default::default() }
}

/// Creates large partners until one is refused.
async fn fill(admin: &Actor) -> (Vec<AllowedPartner>, Status) {
    let mut created = Vec::new();
    loop {
        let number = created.len();
        assert!(number < 5_000, "the disk does not fill up");
        match admin.create(&format!("p{number}.example"), large(number)).await {
            Ok(partner) => created.push(partner),
            Err(status) => return (created, status),
        }
    }
}

async fn status(admin: &Actor) -> StatusResponse {
    admin.maintenance().status(StatusRequest {}).await.unwrap().into_inner()
}

async fn assert_there(admin: &Actor, partners: &[AllowedPartner]) {
    for partner in partners {
        let domain = partner.name.replace("allowedPartners/", "");
        assert_eq!(admin.get(&domain).await.unwrap(), *partner);
    }
}

/// Fills the disk: writes stop, reads go on, the status says so.
async fn assert_a_full_disk_stops_writes_alone(admin: &Actor) -> Vec<AllowedPartner> {
    assert!(status(admin).await.writable);
    let (created, refusal) = fill(admin).await;
    assert!(created.len() > 10, "only {} were created", created.len());
    let again = admin.create("small.example", AllowedPartner::default()).await.unwrap_err();
    for refusal in [refusal, again] {
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal:?}");
        assert_eq!(reason(&refusal), "STORE_READ_ONLY");
    }
    let status = status(admin).await;
    assert!(!status.writable);
    assert_eq!(status.revision, i64::try_from(created.len()).unwrap());
    assert_there(admin, &created).await;
    created
}

/// After a restart with more room: all that was acknowledged, and at most the write that was not.
async fn assert_recovered(folder: &Path, created: &[AllowedPartner]) {
    let admin = Actor::of_dev_server(folder).await;
    assert_there(&admin, created).await;
    let status = status(&admin).await;
    assert!(status.writable);
    let more = usize::try_from(status.revision).unwrap() - created.len();
    assert!(more <= 1, "{more} writes were not acknowledged and are there");
    admin.create_plain("after.example").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_writes_and_room_brings_them_back() {
    let (folder, store) = prepared();
    let Some(mounts) = PrivateMounts::over(&store, ROOM_MIB) else { return };
    let server = mounts.serve(folder.path());
    let admin = Actor::of_dev_server(folder.path()).await;
    let created = assert_a_full_disk_stops_writes_alone(&admin).await;
    assert!(server.terminate().success());

    mounts.remount(&store, "size=1g");
    let server = mounts.serve(folder.path());
    assert_recovered(folder.path(), &created).await;
    assert!(server.terminate().success());
    drop(mounts.serve(folder.path()));
}

/// The same where nobody may mount: a limit on the size of files stands for the end of the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_not_grow_stops_writes_and_room_brings_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = Command::new("sh");
    // A process that ignores the signal gets an error instead. The unit is 512 bytes.
    let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
    let blocks = (ROOM_MIB * 2_048).to_string();
    limited.args(["-c", script, "sh", &blocks, env!("CARGO_BIN_EXE_partnerd")]);
    let server = DevServer::spawn_by(limited, folder.path(), &[]).ready();
    let admin = Actor::of_dev_server(folder.path()).await;
    let created = assert_a_full_disk_stops_writes_alone(&admin).await;
    server.kill();

    let server = DevServer::start(folder.path());
    assert_recovered(folder.path(), &created).await;
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_may_not_be_written_to_is_refused_and_left_alone() {
    let (folder, store) = prepared();
    let Some(mounts) = PrivateMounts::over(&store, ROOM_MIB) else { return };
    let server = mounts.serve(folder.path());
    let admin = Actor::of_dev_server(folder.path()).await;
    let created = vec![admin.create_plain("contoso.com").await];
    assert!(server.terminate().success());

    mounts.remount(&store, "ro");
    let refused = mounts
        .run(folder.path(), env!("CARGO_BIN_EXE_partnerd"))
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("data_dir: cannot write to") && text.contains("Read-only"), "{text}");

    mounts.remount(&store, "rw");
    let server = mounts.serve(folder.path());
    assert_recovered(folder.path(), &created).await;
    assert!(server.terminate().success());
}

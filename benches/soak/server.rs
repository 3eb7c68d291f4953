//! The server under load, and what it must be like afterwards.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use partnerd::proto::v1::{
    self as pb, VerifyAuditEntriesRequest, WatchAllowedPartnersRequest,
    audit_service_client::AuditServiceClient,
};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Code;

use crate::{
    data,
    footprint::{self, Footprint},
    harness::{actor::Actor, process::DevServer},
    site::every,
};

/// The partners that are there from the beginning.
pub const PARTNERS: u32 = 10_000;

/// Partners that are loaded in one request.
const BATCH: u32 = 1_000;

/// The commits that are kept, and the streams that there can be at a time.
const COMMITS: i64 = 500;
const STREAMS: usize = 64;

/// How long something may take to be given back.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many times what is in the store may be on the disk, and some segments of sled's beside.
const DISK_TIMES: u64 = 3;
const DISK_BESIDE: u64 = 4 * SEGMENT as u64;

/// Where the store is, in the server's folder.
const STORE: &str = "partnerd-data/store";

/// The size of a segment, which sled wants to be told again.
const SEGMENT: usize = 4 << 20;

/// A server with little room.
pub struct Server {
    process: DevServer,
    admin: Actor,
    folder: TempDir,
}

/// What a process takes at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// The store's files, in bytes.
    pub disk: u64,
}

/// Everything that a caller can see of the state.
#[derive(Debug, PartialEq)]
pub struct State {
    partners: Vec<pb::AllowedPartner>,
    settings: pb::FederationSettings,
    replicas: Vec<String>,
    revision: i64,
}

impl Server {
    /// A server with partners.
    pub async fn filled() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let (process, admin) = started(folder.path()).await;
        for first in (0..PARTNERS).step_by(BATCH as usize) {
            let requests = (first..first + BATCH).map(|number| pb::UpdateAllowedPartnerRequest {
                allowed_partner: Some(data::partner(number)),
                allow_missing: true,
                ..Default::default()
            });
            let batch = pb::BatchUpdateAllowedPartnersRequest {
                requests: requests.collect(),
                ..Default::default()
            };
            let loaded = admin.partners().batch_update_allowed_partners(batch).await;
            loaded.expect("every partner made up is valid");
        }
        Self { process, admin, folder }
    }

    /// The folder it was started in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it takes now.
    pub fn taken(&self) -> Taken {
        let entries = |kind: &str| {
            let folder = fs::read_dir(format!("/proc/{}/{kind}", self.process.id()));
            folder.expect("it runs").count()
        };
        Taken {
            resident: Footprint::of(self.process.id()).resident,
            descriptors: entries("fd"),
            threads: entries("task"),
            disk: footprint::disk(&self.folder.path().join(STORE)),
        }
    }

    /// Its open descriptors now.
    pub fn descriptors(&self) -> usize {
        self.taken().descriptors
    }

    /// Waits until it has no more descriptors open than it had before anybody came.
    pub async fn descriptors_return_to(&self, before: usize) -> Result<String, String> {
        let text = |now| format!("{before} before, {now} afterwards");
        let returned = until(|| async {
            let now = self.descriptors();
            if now <= before { Ok(text(now)) } else { Err(text(now)) }
        });
        returned.await
    }

    /// Opens as many streams as there can be, and one more.
    pub async fn streams_are_free(&self) -> Result<String, String> {
        let free = until(|| async {
            let mut streams = Vec::new();
            for number in 0..STREAMS {
                let request = WatchAllowedPartnersRequest::default();
                let stream = self.admin.watch(request).await;
                let stream = stream.map_err(|status| format!("stream {number}: {status:?}"))?;
                streams.push(stream);
            }
            let one_more = self.admin.watch(WatchAllowedPartnersRequest::default()).await;
            match one_more.map(drop).map_err(|status| status.code()) {
                Err(Code::ResourceExhausted) => Ok(format!("all {STREAMS}")),
                other => Err(format!("one more than {STREAMS} was answered {other:?}")),
            }
        });
        free.await
    }

    /// Waits until the history is no longer than it may be.
    pub async fn history_is_short(&self) -> Result<String, String> {
        let short = until(|| async {
            let mut service = self.admin.maintenance();
            let status = service.status(pb::StatusRequest::default()).await;
            let status = status.map_err(|status| format!("{status:?}"))?.into_inner();
            let kept = status.revision - status.oldest_revision + 1;
            let text = format!("{kept} of {} commits kept, {COMMITS} allowed", status.revision);
            if kept <= COMMITS { Ok(text) } else { Err(text) }
        });
        short.await
    }

    /// Has the server walk its audit.
    pub async fn audit_is_intact(&self) -> Result<String, String> {
        let mut client = AuditServiceClient::new(self.admin.service());
        let answer = client.verify_audit_entries(VerifyAuditEntriesRequest::default()).await;
        let answer = answer.map_err(|status| format!("{status:?}"))?.into_inner();
        match answer.intact {
            true => Ok(format!("{} entries", answer.verified_count)),
            false => Err(format!("entry {}: {}", answer.first_fault_sequence, answer.fault)),
        }
    }

    /// What can be seen of the state.
    pub async fn state(&self) -> State {
        let mut partners = Vec::new();
        let mut page_token = String::new();
        let mut revision = 0;
        loop {
            let request = pb::ListAllowedPartnersRequest {
                page_size: 1_000,
                page_token,
                show_deleted: true,
                ..Default::default()
            };
            let page = self.admin.list(request).await.expect("the query is valid");
            partners.extend(page.allowed_partners);
            (page_token, revision) = (page.next_page_token, revision.max(page.revision));
            if page_token.is_empty() {
                break;
            }
        }
        let request = pb::GetFederationSettingsRequest { name: "federationSettings".into() };
        let settings = self.admin.settings().get_federation_settings(request).await;
        let request = pb::ListReplicasRequest { page_size: 1_000, ..Default::default() };
        let replicas = self.admin.replicas().list_replicas(request).await;
        let replicas = replicas.expect("an administrator may").into_inner().replicas;
        State {
            partners,
            settings: settings.expect("an administrator may").into_inner(),
            replicas: replicas.into_iter().map(|replica| replica.name).collect(),
            revision,
        }
    }

    /// The same server, ended and started anew; and whether its folder was in bounds meanwhile.
    pub async fn restarted(self) -> (Self, Result<String, String>) {
        let Self { process, admin, folder } = self;
        drop(admin);
        assert!(process.terminate().success(), "it ends in order");
        let store = folder.path().join(STORE);
        let (disk, held) = (footprint::disk(&store), held(&store));
        let text = format!("{:.1} MB of {:.1} MB held", disk as f64 / 1e6, held as f64 / 1e6);
        let within = disk <= DISK_TIMES * held + DISK_BESIDE;
        let (process, admin) = started(folder.path()).await;
        let server = Self { process, admin, folder };
        (server, if within { Ok(text) } else { Err(text) })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partners, settings: _, replicas, revision } = self;
        let (partners, replicas) = (partners.len(), replicas.len());
        write!(f, "{partners} partners, the settings, {replicas} replicas at revision {revision}")
    }
}

/// A server in `folder`, on the data that is there, and its administrator.
async fn started(folder: &Path) -> (DevServer, Actor) {
    let settings = [
        format!("history.max_commits={COMMITS}"),
        format!("limits.max_watch_streams={STREAMS}"),
        format!("limits.max_watch_streams_per_subject={STREAMS}"),
        "limits.max_connections=200".to_owned(),
        "limits.max_listings=8".to_owned(),
        "limits.listing_ttl=5s".to_owned(),
        "limits.watch_tail_commits=100".to_owned(),
        "limits.watch_tail_bytes=1 MiB".to_owned(),
        "auth.cached_tokens=64".to_owned(),
        "auth.failures.per_source=1000000".to_owned(),
        "auth.failures.per_subject=1000000".to_owned(),
        "replicas.silent_after=3s".to_owned(),
        "log.filter=warn".to_owned(),
    ];
    let arguments: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let process = DevServer::start_with(folder, &arguments);
    let admin = Actor::of_dev_server(folder).await;
    admin.list(pb::ListAllowedPartnersRequest::default()).await.expect("it answers");
    (process, admin)
}

/// The bytes of all keys and values in a store that nobody has open. Looks at a copy, because sled
/// writes to what it opens.
fn held(store: &Path) -> u64 {
    let copy = tempfile::tempdir().expect("there is room for a folder");
    let copied = copy.path().join("sled");
    copy_files(&store.join("sled"), &copied);
    let config = sled::Config::new().path(&copied).segment_size(SEGMENT).flush_every_ms(None);
    let tree = config.open().expect("the store is sound");
    let bytes = tree.iter().map(|entry| {
        let (key, value) = entry.expect("the store is sound");
        (key.len() + value.len()) as u64
    });
    bytes.sum()
}

fn copy_files(from: &Path, to: &PathBuf) {
    fs::create_dir(to).expect("there is room for a folder");
    for entry in fs::read_dir(from).expect("the server made it") {
        let entry = entry.expect("it can be listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_files(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("there is room for a copy");
        }
    }
}

/// Looks again and again until it is as it should be, or for too long.
async fn until<F>(look: impl Fn() -> F) -> Result<String, String>
where
    F: Future<Output = Result<String, String>>,
{
    let end = Instant::now() + PATIENCE;
    let mut beat = every(Duration::from_millis(200));
    loop {
        beat.tick().await;
        let found = look().await;
        if found.is_ok() || Instant::now() > end {
            return found;
        }
    }
}

//! A server under measurement: the real one, in a process of its own, full of partners.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use partnerd::proto::v1::{self as pb, UpdateAllowedPartnerRequest};
use prost::Message as _;
use tempfile::TempDir;

use crate::{
    data,
    footprint::{self, Footprint, Threads},
    harness::{actor::Actor, process::DevServer},
};

/// Partners that are loaded in one request.
const BATCH: u32 = 1_000;

/// Requests under way while loading.
const IN_FLIGHT: usize = 3;

/// A server, its data and somebody who may do everything.
pub struct Subject {
    server: DevServer,
    folder: TempDir,
    /// Its administrator, on one connection.
    pub admin: Actor,
    /// How many partners it has.
    pub partners: u32,
}

/// What it took to load the partners.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How long.
    pub time: Duration,
    /// What the server took when it was done.
    pub footprint: Footprint,
    /// What the data takes on disk.
    pub disk: u64,
}

/// How a server is ended before it is started again.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// It is asked to.
    InOrder,
    /// It is killed, as by a crash.
    Killed,
}

/// What it took to start on the data that was there.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// How it had ended.
    pub end: End,
    /// From the start of the process to the first answered Get.
    pub time: Duration,
    /// What the server took then.
    pub footprint: Footprint,
}

impl Subject {
    /// A new server with so many partners.
    pub async fn filled(partners: u32) -> (Self, Load) {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let server = DevServer::start(folder.path());
        let admin = Actor::of_dev_server(folder.path()).await;
        let subject = Self { server, folder, admin, partners };
        let start = Instant::now();
        let batches = (0..partners).step_by(BATCH as usize);
        stream::iter(batches)
            .map(|first| subject.load(first..partners.min(first + BATCH)))
            .buffer_unordered(IN_FLIGHT)
            .enumerate()
            .for_each(async |(done, ())| {
                if done % 100 == 99 {
                    eprintln!("{} partners loaded", (done + 1) * BATCH as usize);
                }
            })
            .await;
        let time = start.elapsed();
        let disk = footprint::disk(subject.folder.path());
        let load = Load { time, footprint: subject.footprint(), disk };
        (subject, load)
    }

    async fn load(&self, numbers: std::ops::Range<u32>) {
        let requests = numbers.map(|number| UpdateAllowedPartnerRequest {
            allowed_partner: Some(data::partner(number)),
            allow_missing: true,
            ..Default::default()
        });
        let batch = pb::BatchUpdateAllowedPartnersRequest {
            requests: requests.collect(),
            ..Default::default()
        };
        let loaded = self.admin.partners().batch_update_allowed_partners(batch).await;
        loaded.expect("every partner made up is valid");
    }

    /// The same server, ended and started on the data that is there.
    pub async fn restarted(self, end: End) -> (Self, Restart) {
        let Self { server, folder, partners, .. } = self;
        match end {
            End::InOrder => assert!(server.terminate().success(), "it ends in order"),
            End::Killed => server.kill(),
        }
        let start = Instant::now();
        let server = DevServer::start(folder.path());
        let admin = Actor::of_dev_server(folder.path()).await;
        admin.get(&data::domain(partners / 2)).await.expect("it was loaded");
        let time = start.elapsed();
        let subject = Self { server, folder, admin, partners };
        let footprint = subject.footprint();
        (subject, Restart { end, time, footprint })
    }

    /// The number of a partner, another for each `turn` and all over the list.
    pub fn number(&self, turn: usize) -> u32 {
        let turn = u32::try_from(turn % self.partners as usize).expect("it is below a u32");
        turn.wrapping_mul(7_919) % self.partners
    }

    /// The first page of the partners by name.
    pub async fn page(&self, page_size: i32) -> pb::ListAllowedPartnersResponse {
        let request = pb::ListAllowedPartnersRequest { page_size, ..Default::default() };
        self.admin.list(request).await.expect("a plain listing is valid")
    }

    /// The bytes of a partner on the wire, on average over a page.
    pub async fn average_partner_bytes(&self) -> usize {
        let listed = self.page(1_000).await.allowed_partners;
        listed.iter().map(pb::AllowedPartner::encoded_len).sum::<usize>() / listed.len()
    }

    pub fn footprint(&self) -> Footprint {
        Footprint::of(self.server.id())
    }

    pub fn threads(&self) -> Threads {
        Threads::of(self.server.id())
    }
}

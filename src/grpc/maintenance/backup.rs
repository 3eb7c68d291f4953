//! Backup: a state on its way to one client.
//!
//! Unlike watches there are few, so each has a task, which ends it when its caller may have it no
//! longer, or does not read on. The task is a few pieces ahead of its client at most; once it has
//! ended, the snapshot and the place among the backups are free, whatever the client does.

use std::{pin::Pin, time::Duration};

use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tonic::Status;

use super::records;
use crate::{
    auth::permit::TakeBackup,
    domain::audit::hex,
    grpc::{status, tenure::Tenure},
    proto::{backup::Encoder, v1 as pb},
    registry::backup::Backup,
};

/// The messages of one backup.
pub type BackupStream =
    Pin<Box<dyn futures_util::Stream<Item = Result<pb::BackupResponse, Status>> + Send>>;

/// A piece is sent once it has so many bytes; a record more at most is in it.
const PIECE_BYTES: usize = 64 << 10;

/// The pieces that wait for the client.
const PIECES_AHEAD: usize = 2;

/// A backup that is being sent.
pub(super) struct Transfer {
    pub backup: Backup,
    pub tenure: Tenure<TakeBackup>,
    /// How long the client may not read on.
    pub patience: Duration,
    /// The place among the backups.
    pub _place: OwnedSemaphorePermit,
}

type Sender = mpsc::Sender<Result<pb::BackupResponse, Status>>;

impl Transfer {
    /// The messages.
    pub fn stream(self) -> BackupStream {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(self.run(sender));
        Box::pin(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|message| (message, receiver))
        }))
    }

    async fn run(mut self, sender: Sender) {
        let end = self.send(&sender).await;
        drop(self);
        if let Err(end) = end {
            // Waits for a client that does not read, and holds nothing; it may never read again.
            let _ = sender.send(Err(end)).await;
        }
    }

    async fn send(&mut self, sender: &Sender) -> Result<(), Status> {
        let Self { backup, tenure, patience, _place: _ } = self;
        let mut piece = Vec::with_capacity(2 * PIECE_BYTES);
        let mut encoder = Encoder::begin(records::header(&backup.inventory()), &mut piece);
        loop {
            let more = backup.advance(|record| {
                encoder.add(records::record(record), &mut piece);
                piece.len() < PIECE_BYTES
            });
            if !more {
                encoder.end(|digest| sealed(backup, digest), &mut piece);
            }
            let room = tokio::select! {
                end = tenure.end() => return Err(end),
                room = timeout(*patience, sender.reserve()) => room,
            };
            match room {
                Err(_elapsed) => return Err(status::stalled(*patience)),
                // The client has gone.
                Ok(Err(_closed)) => return Ok(()),
                Ok(Ok(room)) => room.send(Ok(pb::BackupResponse { data: piece })),
            }
            if !more {
                return Ok(());
            }
            piece = Vec::with_capacity(2 * PIECE_BYTES);
        }
    }
}

/// The trailer's key and signature.
fn sealed(backup: &Backup, digest: [u8; 32]) -> (String, String) {
    let seal = backup.seal(digest);
    (hex(&seal.public_key), hex(&seal.signature))
}

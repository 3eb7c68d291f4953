//! Takes connections, within the limit, until told to stop; then lets them finish.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tonic::body::Body;

use super::{
    Pressure, ResponseBody, Shutdown,
    connection::Connections,
    room::{Full, Room},
    workers::Workers,
};
use crate::{config::Limits, service::CallService, tls::ServerTls};

/// How long to wait after a failed accept: most often the process is out of file descriptors, and
/// asking again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is told that connections are closed for want of room: as often as somebody likes
/// would fill the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Whether connections are encrypted.
#[derive(Clone, Debug)]
pub enum Security {
    /// They are not: for loopback only, which the configuration sees to.
    PlainText,
    /// They are, with the certificate that is in force when one begins.
    Tls(Arc<ServerTls>),
}

/// Serves on `workers` threads, or on the caller's if there are none, until `shutdown` says to
/// stop, and returns when the last call is over, the drain timeout has passed or the shutdown turns
/// into an end.
///
/// A connection beyond a limit, in all or from its address, is closed at once. Nothing that a
/// client does ends it.
///
/// # Errors
/// If the threads cannot be started.
pub async fn serve(
    listeners: Vec<TcpListener>,
    security: Security,
    service: impl CallService<Body, Body: ResponseBody>,
    limits: &Limits,
    pressure: Arc<Pressure>,
    workers: usize,
    shutdown: Shutdown,
) -> io::Result<()> {
    let workers = Arc::new(Workers::start(workers)?);
    let connections = Connections::new(security, service, limits, pressure, shutdown.clone());
    let connections = Arc::new(connections);
    let room = Arc::new(Room::new(limits));
    let drain_timeout = limits.drain_timeout;
    let mut loops = JoinSet::new();
    for listener in listeners {
        let (connections, workers) = (connections.clone(), workers.clone());
        let (room, shutdown) = (room.clone(), shutdown.clone());
        loops.spawn(async move {
            let mut open = accept(listener, connections, &workers, room, &shutdown).await;
            drain(&mut open, drain_timeout, &shutdown).await;
        });
    }
    while loops.join_next().await.is_some() {}
    Ok(())
}

/// Accepts until the drain begins, and gives back the connections that are open then.
async fn accept<S: CallService<Body, Body: ResponseBody>>(
    listener: TcpListener,
    connections: Arc<Connections<S>>,
    workers: &Workers,
    room: Arc<Room>,
    shutdown: &Shutdown,
) -> JoinSet<()> {
    let mut open = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.draining() => return open,
            Some(_ended) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = match room.take(peer.ip()) {
            Ok(place) => place,
            Err(Full(limit)) => {
                if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(%peer, "{limit} is reached; closing new connections");
                }
                continue;
            }
        };
        // Off this thread's reactor, so that its worker's can take it.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%peer, %error, "the connection was gone at once");
                continue;
            }
        };
        let connections = connections.clone();
        workers.spawn(&mut open, async move {
            connections.run(stream, peer).await;
            drop(place);
        });
    }
}

async fn drain(open: &mut JoinSet<()>, timeout: Duration, shutdown: &Shutdown) {
    let finished = async { while open.join_next().await.is_some() {} };
    let cut = tokio::select! {
        () = finished => None,
        () = sleep(timeout) => Some("limits.drain_timeout has passed"),
        () = shutdown.ended() => Some("told to end at once"),
    };
    if let Some(reason) = cut {
        tracing::warn!(connections = open.len(), "cutting connections: {reason}");
        open.shutdown().await;
    }
}

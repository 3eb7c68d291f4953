//! One connection: handshake, HTTP/2, an end in good order.

use std::{
    convert::Infallible,
    net::{self, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};
use tonic::body::Body;

use super::{ResponseBody, Security, Shutdown, body::Held};
use crate::{
    auth::certificate::{ClientCertificate, Unreadable},
    config::Limits,
    service::CallService,
    telemetry::Peer,
    tls::{HandshakeError, Transport},
};

/// What a client may send on one stream before we have read it: a whole request of ordinary size
/// goes out without waiting for a window update.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same for all streams of a connection together. It bounds what one client can make us
/// buffer.
const CONNECTION_WINDOW: u32 = 2 << 20;

/// How every connection is served.
#[derive(Debug)]
pub(super) struct Connections<S> {
    security: Security,
    service: S,
    http2: http2::Builder<TokioExecutor>,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    shutdown: Shutdown,
}

/// What a connection does: how many calls run on it, and since when none does.
#[derive(Debug)]
struct Activity {
    opened: Instant,
    running: AtomicUsize,
    /// When the last call ended, in milliseconds after `opened`.
    last_end: AtomicU64,
}

/// A call that is running on a connection.
struct Running(Arc<Activity>);

impl<S: CallService<Body, Body: ResponseBody>> Connections<S> {
    pub fn new(security: Security, service: S, limits: &Limits, shutdown: Shutdown) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(limits.max_header_list_bytes)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let Limits { handshake_timeout, idle_timeout, .. } = *limits;
        Self { security, service, http2, handshake_timeout, idle_timeout, shutdown }
    }

    /// Serves one connection to its end. What goes wrong is the client's affair, or the network's:
    /// it is logged for debugging and forgotten.
    pub async fn run(&self, stream: net::TcpStream, peer: SocketAddr) {
        let prepared = stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream));
        let stream = match prepared {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%peer, %error, "the connection was gone at once");
                return;
            }
        };
        let handshake = self.handshake(stream);
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.shutdown.draining() => return,
        };
        match shaken {
            Ok(io) => match certificate(&io) {
                Ok(certificate) => self.serve(io, peer, certificate).await,
                Err(error) => tracing::debug!(%peer, %error, "no connection came about"),
            },
            Err(error) => tracing::debug!(%peer, %error, "no connection came about"),
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Result<Transport<TcpStream>, HandshakeError> {
        match &self.security {
            Security::PlainText => Ok(Transport::Plain(stream)),
            Security::Tls(tls) => tls.handshake(stream, self.handshake_timeout).await,
        }
    }

    async fn serve(
        &self,
        io: Transport<TcpStream>,
        peer: SocketAddr,
        certificate: Option<Arc<ClientCertificate>>,
    ) {
        let activity = Arc::new(Activity::begin());
        let (active, service) = (Arc::clone(&activity), self.service.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(Arc::clone(certificate));
            }
            let running = Running::new(&active);
            let answer = service.call(request.map(Body::new));
            answer
                .map(|response| Ok::<_, Infallible>(response.map(|body| Held::new(body, running))))
        });
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(io), service));

        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.shutdown.draining() => None,
            () = activity.idle_for(self.idle_timeout) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                // A client that does not take part in the farewell is left without one.
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = activity.idle_for(self.handshake_timeout) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "the connection broke");
        }
    }
}

impl Activity {
    fn begin() -> Self {
        let (running, last_end) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { opened: Instant::now(), running, last_end }
    }

    /// Waits until no call has run for `period`. Looks now and then, so that calls wake nobody.
    async fn idle_for(&self, period: Duration) {
        loop {
            if self.running.load(Ordering::Acquire) > 0 {
                sleep(period).await;
                continue;
            }
            let last_end = Duration::from_millis(self.last_end.load(Ordering::Acquire));
            let end = self.opened + last_end + period;
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Running {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Activity { opened, running, last_end } = &*self.0;
        let now = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        last_end.store(now, Ordering::Release);
        running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the client's own certificate says, if it has shown one. One that cannot be read ends the
/// connection: it must not pass for none.
fn certificate<S>(io: &Transport<S>) -> Result<Option<Arc<ClientCertificate>>, Unreadable> {
    let certificate = io.peer_certificates().first();
    certificate.map(|der| ClientCertificate::from_der(der).map(Arc::new)).transpose()
}

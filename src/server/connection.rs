//! One connection: handshake, HTTP/2, an end in good order.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tonic::body::Body;
use tower::ServiceExt;

use super::{
    CallService, Security, Shutdown,
    concurrency::held,
    gathering::{Gathering, driven},
};
use crate::{
    auth::certificate::{ClientCertificate, Unreadable},
    config::Limits,
    telemetry::Peer,
    tls::{HandshakeError, Transport},
};

/// What a client may send on one stream before we have read it: a whole request of ordinary size
/// goes out without waiting for a window update.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same for all streams of a connection together. It bounds what one client can make us
/// buffer.
const CONNECTION_WINDOW: u32 = 2 << 20;

/// What of one call's answer is handed to the connection before it is sent: beside the message that
/// comes next, all that a client who reads slowly makes us keep.
const SEND_BUFFER: usize = 64 << 10;

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

/// A call that is running on a connection.
struct Running(watch::Sender<usize>);

impl<S: CallService> Connections<S> {
    pub fn new(security: Security, service: S, limits: &Limits, shutdown: Shutdown) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(limits.max_header_list_bytes)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let Limits { handshake_timeout, idle_timeout, .. } = *limits;
        Self { security, service, http2, handshake_timeout, idle_timeout, shutdown }
    }

    /// Serves one connection to its end. What goes wrong is the client's affair, or the network's:
    /// it is logged for debugging and forgotten.
    pub async fn run(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the connection was gone at once");
            return;
        }
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
        let (sender, mut running) = watch::channel(0);
        let service = self.service.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(Arc::clone(certificate));
            }
            let running = Running::new(&sender);
            let answer = service.clone().oneshot(request.map(Body::new));
            async move { answer.await.map(|response| response.map(|body| held(body, running))) }
        });
        let io = Gathering::over(io);
        let transport = io.handle();
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(io), service));

        let ended = tokio::select! {
            ended = driven(connection.as_mut(), &transport) => Some(ended),
            () = self.shutdown.draining() => None,
            () = idle(&mut running, self.idle_timeout) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                // A client that does not take part in the farewell is left without one.
                tokio::select! {
                    ended = driven(connection.as_mut(), &transport) => ended,
                    () = idle(&mut running, self.handshake_timeout) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "the connection broke");
        }
    }
}

impl Running {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|running| *running += 1);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// What the client's own certificate says, if it has shown one. One that cannot be read ends the
/// connection: it must not pass for none.
fn certificate<S>(io: &Transport<S>) -> Result<Option<Arc<ClientCertificate>>, Unreadable> {
    let certificate = io.peer_certificates().first();
    certificate.map(|der| ClientCertificate::from_der(der).map(Arc::new)).transpose()
}

/// Waits until no call has run for `period`.
async fn idle(running: &mut watch::Receiver<usize>, period: Duration) {
    loop {
        // The sender lives in the connection's service, which outlives this wait.
        let _ = running.wait_for(|running| *running == 0).await;
        if timeout(period, running.changed()).await.is_err() {
            return;
        }
    }
}

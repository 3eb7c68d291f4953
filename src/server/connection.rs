//! One connection: handshake, HTTP/2, an end in good order.

use std::{
    convert::Infallible,
    net::{self, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, lazy},
};
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};
use tonic::body::Body;

use super::{
    Pressure, ResponseBody, Security, Shutdown,
    body::{Answered, Held},
    concurrency::counted_apart,
    pressure::{Arrival, Entrance},
    unread::{CallExecutor, must_be_read_by},
};
use crate::{
    auth::certificate::{ClientCertificate, Unreadable},
    config::Limits,
    grpc::methods,
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

/// Streams that the client may reset before they are so much as looked at; one more ends the
/// connection (CVE-2023-44487). Nobody does that by accident more than now and then.
const PENDING_RESETS: usize = 20;

/// Streams that we may have to reset because the client broke the rules, or opened more than it
/// may, over the life of a connection (RUSTSEC-2024-0003). A client that has not yet heard the
/// limit may begin with more streams than it allows.
const ERROR_RESETS: usize = 256;

/// What is made ready to be sent on one stream before the client has room for it, but for one
/// message, which is made as a whole.
const SEND_BUFFER: usize = 256 << 10;

/// How every connection is served.
#[derive(Debug)]
pub(super) struct Connections<S> {
    security: Security,
    service: S,
    http2: http2::Builder<CallExecutor>,
    pressure: Arc<Pressure>,
    handshake_timeout: Duration,
    first_call_timeout: Duration,
    response_timeout: Duration,
    idle_timeout: Duration,
    shutdown: Shutdown,
}

/// What a connection does: whether it was ever used, how many calls run on it, and since when none
/// does.
#[derive(Debug)]
struct Activity {
    opened: Instant,
    used: AtomicBool,
    running: AtomicUsize,
    /// When the last call ended, in milliseconds after `opened`.
    last_end: AtomicU64,
}

/// A call that is running on a connection.
struct Running(Arc<Activity>);

impl<S: CallService<Body, Body: ResponseBody>> Connections<S> {
    pub fn new(
        security: Security,
        service: S,
        limits: &Limits,
        pressure: Arc<Pressure>,
        shutdown: Shutdown,
    ) -> Self {
        let mut http2 = http2::Builder::new(CallExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(limits.max_header_list_bytes)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS)
            .max_send_buf_size(SEND_BUFFER);
        let Limits {
            handshake_timeout, first_call_timeout, response_timeout, idle_timeout, ..
        } = *limits;
        Self {
            security,
            service,
            http2,
            pressure,
            handshake_timeout,
            first_call_timeout,
            response_timeout,
            idle_timeout,
            shutdown,
        }
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
        let entrance = Entrance::new(self.pressure.clone());
        let response_timeout = self.response_timeout;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(Arc::clone(certificate));
            }
            let path = request.uri().path();
            let arrival = (!counted_apart(path)).then(|| entrance.arrive());
            let streams = methods::streams(path);
            let running = Running::new(&active);
            let service = service.clone();
            // Nothing is done for a call until it has its turn on the thread.
            let entered = lazy(move |_| match arrival.map(Arrival::enter).transpose() {
                Err(turned_away) => Either::Left(turned_away.response()),
                Ok(entered) => {
                    let answer = service.call(request.map(Body::new));
                    Either::Right(answer.map(move |response| {
                        if !streams {
                            must_be_read_by(Instant::now() + response_timeout);
                        }
                        let guard = (running, entered);
                        response.map(|body| Answered::Service(Held::new(body, guard)))
                    }))
                }
            });
            entered.flatten().map(Ok::<_, Infallible>)
        });
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(io), service));

        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.shutdown.draining() => None,
            () = activity.unused(self.first_call_timeout, self.idle_timeout) => None,
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
        Self {
            opened: Instant::now(),
            used: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            last_end: AtomicU64::new(0),
        }
    }

    /// Waits until no call has come within `first`, the preface and the head of the request included,
    /// or none has run for `period` after one.
    async fn unused(&self, first: Duration, period: Duration) {
        sleep(first).await;
        if self.used.load(Ordering::Acquire) {
            self.idle_for(period).await;
        }
    }

    /// Waits until no call has run for `period`, from now on. Looks now and then, so that calls
    /// wake nobody.
    async fn idle_for(&self, period: Duration) {
        let from = Instant::now();
        loop {
            if self.running.load(Ordering::Acquire) > 0 {
                sleep(period).await;
                continue;
            }
            let last_end = Duration::from_millis(self.last_end.load(Ordering::Acquire));
            let end = from.max(self.opened + last_end) + period;
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Running {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.used.store(true, Ordering::Release);
        activity.running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Activity { opened, used: _, running, last_end } = &*self.0;
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

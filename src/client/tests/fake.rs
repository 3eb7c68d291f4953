//! A service that plays a script on every stream, whatever it is asked for.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use http::Uri;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, body::Body, server::NamedService};

use crate::{
    client::{Backoff, Options, Remote, TokenSource},
    proto::{
        codec::BoundedCodec, v1::WatchAllowedPartnersRequest, watch::WatchAllowedPartnersResponse,
    },
};

/// What the service does next on a stream. At the end of the script the stream ends.
#[derive(Clone, Debug)]
pub enum Step {
    Send(WatchAllowedPartnersResponse),
    /// Ends the stream with this status; as the first step, does not open it at all.
    Fail(Status),
    /// Says nothing more, but holds the stream open.
    Stall,
}

/// A service on a port of its own. The nth stream plays the nth script; later ones are refused.
pub struct FakeService {
    endpoint: Uri,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// What a stream was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub request: WatchAllowedPartnersRequest,
    pub authorization: Option<String>,
}

#[derive(Clone)]
struct FakeWatch {
    scripts: Arc<Mutex<std::vec::IntoIter<Vec<Step>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeService {
    pub async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let watch = FakeWatch {
            scripts: Arc::new(Mutex::new(scripts.into_iter())),
            asked: Arc::clone(&asked),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tonic::transport::Server::builder().add_service(watch);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { endpoint, asked }
    }

    pub fn remote(&self) -> Remote {
        Remote {
            endpoint: self.endpoint.clone(),
            ca_file: None,
            certificate: None,
            token: TokenSource::None,
            user_agent: "test/1",
        }
    }

    /// What the streams were asked for, in their order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The revisions that the streams were asked to go on after.
    pub fn starts(&self) -> Vec<i64> {
        self.asked().iter().map(|asked| asked.request.start_revision).collect()
    }
}

/// Options with which nothing takes long.
pub fn quick() -> Options {
    Options {
        progress_interval: Duration::from_secs(1),
        backoff: Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(10) },
        ..Options::default()
    }
}

type Responses =
    Pin<Box<dyn Stream<Item = Result<WatchAllowedPartnersResponse, Status>> + Send + 'static>>;

impl FakeWatch {
    fn play(
        &self,
        request: Request<WatchAllowedPartnersRequest>,
    ) -> Result<Response<Responses>, Status> {
        let authorization = request.metadata().get("authorization");
        self.asked.lock().unwrap().push(Asked {
            authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
            request: request.into_inner(),
        });
        let script = self.scripts.lock().unwrap().next();
        let script = script.ok_or_else(|| Status::unavailable("the script is over"))?;
        if let Some(Step::Fail(status)) = script.first() {
            return Err(status.clone());
        }
        let steps = stream::iter(script).then(|step| async {
            match step {
                Step::Send(response) => Ok(response),
                Step::Fail(status) => Err(status),
                Step::Stall => std::future::pending().await,
            }
        });
        Ok(Response::new(Box::pin(steps)))
    }
}

impl NamedService for FakeWatch {
    const NAME: &'static str = "xmpp.federation.v1.AllowedPartnerService";
}

impl tower::Service<http::Request<Body>> for FakeWatch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let watch = self.clone();
        let method = tower::service_fn(move |request| std::future::ready(watch.play(request)));
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(BoundedCodec::<
                WatchAllowedPartnersResponse,
                WatchAllowedPartnersRequest,
            >::default());
            Ok(grpc.server_streaming(method, request).await)
        })
    }
}

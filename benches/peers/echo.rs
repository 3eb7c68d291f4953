//! A bare tonic server that answers every call with the same partner: what the libraries cost.

use std::{convert::Infallible, env, path::Path, process::ExitCode, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use partnerd::{
    dev::DevFolder,
    proto::v1 as pb,
    tls::{ServerTls, Transport},
};
use prost::Message as _;
use tokio::{net::TcpListener, runtime::Builder};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;

use crate::{
    partnerd_server::{GET, read_body},
    server::{self, Contestant, Name, Process},
};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Answers with its partner, whatever is asked.
#[derive(Clone)]
struct Echo(Arc<pb::AllowedPartner>);

impl UnaryService<pb::GetAllowedPartnerRequest> for Echo {
    type Response = pb::AllowedPartner;
    type Future = std::future::Ready<Result<Response<pb::AllowedPartner>, Status>>;

    fn call(&mut self, _request: Request<pb::GetAllowedPartnerRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(self.0.as_ref().clone())))
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "xmpp.federation.v1.AllowedPartnerService";
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(echo, request).await) })
    }
}

/// How one is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// By tonic's own server, with its defaults.
    Default,
    /// By hyper, with a transport that gathers small writes, as partnerd's.
    Tuned,
    /// The same over TLS, as partnerd's.
    TunedTls,
}

/// Starts one in a process of its own: this program, called by another name.
///
/// It is sent what `partnerd` is sent, the token too, which it decodes as every header and never
/// looks at: what a call's bytes cost the libraries is no cost of ours.
pub fn start(tuning: Tuning, partnerd: &Contestant) -> Contestant {
    let reply = &partnerd.reply;
    let address = server::free_address();
    let this = env::current_exe().expect("a process has a program");
    let this = this.to_str().expect("the build has a path in UTF-8");
    let partner = format!("{address}/{}", URL_SAFE_NO_PAD.encode(reply));
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let keys = folder.path().to_str().expect("a temporary folder has a path in UTF-8");
    let process = Process::start(this, &["echo", tuning.name(), &partner, keys]);
    server::wait_for(address);
    let name = if tuning == Tuning::Default { Name::Echo } else { Name::TunedEcho };
    Contestant {
        tls: tuning == Tuning::TunedTls,
        read_path: GET,
        read_body: read_body(),
        headers: partnerd.headers.clone(),
        reply: reply.clone(),
        ..Contestant::new(name, process, address).with_folder(folder)
    }
}

/// What that process does.
pub async fn serve(tuning: Tuning, partner: &str, keys: &str) -> ExitCode {
    let (address, reply) = partner.split_once('/').expect("this program started itself");
    let reply = URL_SAFE_NO_PAD.decode(reply).expect("this program started itself");
    let partner = pb::AllowedPartner::decode(reply.as_slice()).expect("it came from a server");
    let echo = Echo(Arc::new(partner));
    match tuning {
        Tuning::Default => {
            let address = address.parse().expect("this program started itself");
            let served = tonic::transport::Server::builder().add_service(echo).serve(address).await;
            served.expect("the address is free");
        }
        Tuning::Tuned => serve_tuned(address, echo, None).await,
        Tuning::TunedTls => {
            let dev = DevFolder::open_or_create(&Path::new(keys).join("keys"), Timestamp::now());
            let config = dev.expect("the folder is empty").tls_config();
            let tls = ServerTls::load(&config, Timestamp::now()).expect("it was just made");
            serve_tuned(address, echo, Some(Arc::new(tls))).await;
        }
    }
    ExitCode::SUCCESS
}

async fn serve_tuned(address: &str, echo: Echo, tls: Option<Arc<ServerTls>>) {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    loop {
        let (stream, _) = listener.accept().await.expect("loopback accepts");
        stream.set_nodelay(true).expect("it is connected");
        let echo = echo.clone();
        let service = hyper::service::service_fn(move |request: http::Request<_>| {
            tower::Service::call(&mut echo.clone(), request.map(Body::new))
        });
        let tls = tls.clone();
        tokio::spawn(async move {
            let transport = match &tls {
                None => Transport::Plain(stream),
                Some(tls) => match tls.handshake(stream, HANDSHAKE).await {
                    Ok(transport) => transport,
                    // Somebody only looked whether it listens.
                    Err(_) => return,
                },
            };
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.max_concurrent_streams(256);
            // An error is the end of the generator's turn.
            let _ = http2.serve_connection(TokioIo::new(transport), service).await;
        });
    }
}

impl Tuning {
    const ALL: [Self; 3] = [Self::Default, Self::Tuned, Self::TunedTls];

    /// tonic's own server has tokio's usual runtime; a connection of partnerd's stays on a thread
    /// with a runtime of its own.
    pub fn runtime(self) -> Builder {
        match self {
            Self::Default => Builder::new_multi_thread(),
            Self::Tuned | Self::TunedTls => Builder::new_current_thread(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tuned => "tuned",
            Self::TunedTls => "tuned-tls",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tuning| tuning.name() == name)
    }
}

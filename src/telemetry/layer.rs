//! The outermost layer: gives a call its id and its span, and reports it when it is over.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};
use tracing::{Instrument, Span};

use super::{REQUEST_ID, RequestInfo, report::Report};

/// Puts an `Arc<RequestInfo>` into each request, sends its id back as `x-request-id`, runs the
/// call in a span with the id, and logs one line once the response is sent, or given up.
#[derive(Clone, Debug)]
pub struct Telemetry<S> {
    inner: S,
}

/// A response whose trailers are read as they pass. Dropping it ends the call.
struct ReportedBody {
    inner: Body,
    report: Report,
    span: Span,
}

impl<S> Telemetry<S> {
    /// Around this service.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for Telemetry<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let info = Arc::new(RequestInfo::from_headers(request.headers()));
        let id = HeaderValue::from_str(info.id()).expect("a request id is made of safe characters");
        let mut report = Report::new(&request, info.clone());
        let span = tracing::info_span!("rpc", request.id = %info.id(), method = report.method());
        request.extensions_mut().insert(info);

        let answer = self.inner.clone().oneshot(request).instrument(span.clone());
        Box::pin(async move {
            let Ok(mut response) = answer.await;
            response.headers_mut().insert(REQUEST_ID, id);
            report.head(response.status(), response.headers());
            Ok(response.map(|inner| Body::new(ReportedBody { inner, report, span })))
        })
    }
}

impl http_body::Body for ReportedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, report, span } = &mut *self;
        let frame = span.in_scope(|| Pin::new(inner).poll_frame(cx));
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            report.trailers(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

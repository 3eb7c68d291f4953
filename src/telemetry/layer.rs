//! The outermost layer: gives a call its id and its span, and reports it when it is over.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tracing::{Instrument, Span};

use super::{REQUEST_ID, RequestInfo, report::Report};
use crate::service::CallService;

/// Puts an `Arc<RequestInfo>` into each request, sends its id back as `x-request-id`, runs the
/// call in a span with the id, and logs one line once the response is sent, or given up.
#[derive(Clone, Debug)]
pub struct Telemetry<S> {
    inner: S,
}

/// A response whose trailers are read as they pass. Dropping it ends the call.
#[derive(Debug)]
pub struct ReportedBody<B> {
    inner: B,
    report: Report,
    span: Span,
}

impl<S> Telemetry<S> {
    /// Around this service.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> CallService<B> for Telemetry<S>
where
    S: CallService<B>,
    B: Send + 'static,
{
    type Body = ReportedBody<S::Body>;

    fn call(
        &self,
        mut request: Request<B>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<S, B> {
        let info = Arc::new(RequestInfo::from_headers(request.headers()));
        let id = HeaderValue::from_str(info.id()).expect("a request id is made of safe characters");
        let mut report = Report::new(&request, info.clone());
        let span = tracing::info_span!("rpc", request.id = %info.id(), method = report.method());
        request.extensions_mut().insert(info);

        let answer = span.in_scope(|| self.inner.call(request)).instrument(span.clone());
        answer.map(|mut response| {
            response.headers_mut().insert(REQUEST_ID, id);
            report.head(response.status(), response.headers());
            response.map(|inner| ReportedBody { inner, report, span })
        })
    }
}

impl<B: Body + Unpin> Body for ReportedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
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

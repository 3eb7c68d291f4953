//! What responses are made of on their way through the layers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

/// The body of a gRPC response, whatever layers are around it.
pub trait ResponseBody: Body<Data = Bytes, Error = Status> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error = Status> + Send + Unpin + 'static> ResponseBody for B {}

/// The body of a layer that may answer in its service's stead.
#[derive(Debug, Default)]
pub enum Answered<B> {
    /// By the service.
    Service(B),
    /// By the layer: the head says it all.
    #[default]
    Layer,
}

/// A body that keeps something until it is gone.
#[derive(Debug)]
pub struct Held<B, G> {
    inner: B,
    _guard: G,
}

impl<B, G> Held<B, G> {
    pub const fn new(inner: B, guard: G) -> Self {
        Self { inner, _guard: guard }
    }
}

impl<B: ResponseBody> Body for Answered<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::Service(inner) => Pin::new(inner).poll_frame(cx),
            Self::Layer => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Service(inner) => inner.is_end_stream(),
            Self::Layer => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Service(inner) => inner.size_hint(),
            Self::Layer => SizeHint::with_exact(0),
        }
    }
}

impl<B: ResponseBody, G: Unpin> Body for Held<B, G> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

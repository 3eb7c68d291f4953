//! A response that is sent as it is: past tonic's encoder, which would copy every message.
//!
//! The handler answers with a stream without messages, and beside it, among the response's
//! extensions, with what is to be sent; [`ready`] puts that into its place.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::{Response, Status, body::Body};

/// What is to be sent instead of the response's own body.
#[derive(Clone)]
struct Ready(Arc<Mutex<Option<Body>>>);

/// Lets the messages, as they go on the wire, be the response's.
pub(super) fn send_as_it_is<T>(
    response: &mut Response<T>,
    messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) {
    let ready = Ready(Arc::new(Mutex::new(Some(body(messages)))));
    response.extensions_mut().insert(ready);
}

/// The response with the body that was made for it, if one was.
pub fn ready(mut response: http::Response<Body>) -> http::Response<Body> {
    let Some(Ready(body)) = response.extensions_mut().remove() else { return response };
    let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
    match body {
        Some(body) => response.map(|_| body),
        None => response,
    }
}

/// The messages, and trailers that say how they ended: they end with a status, whichever it is.
fn body(messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Body {
    let frames = messages.map(|message| match message {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(status) => trailers(&status).map(Frame::trailers),
    });
    Body::new(StreamBody::new(frames))
}

fn trailers(status: &Status) -> Result<HeaderMap, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(trailers)
}

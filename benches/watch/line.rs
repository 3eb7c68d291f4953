//! A connection that many streams are followed on, at little cost: the clients have one core for a
//! thousand streams, and should not be what is measured. Of a message the revisions of its events are
//! looked for and nothing else, whichever server sent it.

use std::net::SocketAddr;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::Request;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tokio::net::TcpStream;

/// The windows of tonic's client.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;

/// What stands before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A connection for streams.
#[derive(Clone)]
pub struct Line {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
    authorization: Option<String>,
}

/// Whether a client of this method has more to say after its first request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum More {
    Never,
    Perhaps,
}

/// What a stream is told.
pub struct Told {
    response: RecvStream,
    /// Kept: where more may be said, the end of it ends the stream.
    _request: SendStream<Bytes>,
    /// A message of which the end has yet to come.
    begun: BytesMut,
    /// Where in a message the revisions are: the fields' numbers, from the outside in.
    path: &'static [u32],
}

impl Line {
    pub async fn connected(address: SocketAddr, authorization: Option<String>) -> Self {
        let socket = TcpStream::connect(address).await.expect("somebody listens");
        socket.set_nodelay(true).expect("it is connected");
        let mut http2 = Builder::new();
        http2.initial_window_size(STREAM_WINDOW);
        http2.initial_connection_window_size(CONNECTION_WINDOW);
        let (requests, connection) = http2.handshake(socket).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Self { requests, address, authorization }
    }

    /// Opens a stream with this request, and perhaps with more of them to come.
    pub async fn told<Q: Message>(
        self,
        path: &'static str,
        request: &Q,
        more: More,
        revision: &'static [u32],
    ) -> Told {
        let mut head = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(authorization) = &self.authorization {
            head = head.header("authorization", authorization);
        }
        let head = head.body(()).expect("it is well-formed");
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(request.encoded_len().try_into().expect("it is short"));
        request.encode(&mut body).expect("there is room for it");
        let mut requests = self.requests.ready().await.expect("the connection is up");
        let (response, mut sender) = requests.send_request(head, false).expect("it is up");
        sender.send_data(body.freeze(), more == More::Never).expect("it is up");
        let response = response.await.expect("it answers");
        assert_eq!(response.status(), 200);
        assert!(response.headers().get("grpc-status").is_none(), "{:?}", response.headers());
        let response = response.into_body();
        Told { response, _request: sender, begun: BytesMut::new(), path: revision }
    }
}

impl Told {
    /// Adds the revisions of the events that come next, if any; false at the end.
    pub async fn next(&mut self, revisions: &mut Vec<i64>) -> bool {
        let Some(part) = self.response.data().await else { return false };
        let mut part = part.expect("the stream goes on");
        self.response.flow_control().release_capacity(part.len()).expect("so much came");
        // Copied only where a message comes in parts.
        if !self.begun.is_empty() {
            self.begun.extend_from_slice(&part);
            part = self.begun.split().freeze();
        }
        while let Some(length) = message_length(&part) {
            part.advance(PREFIX_BYTES);
            collect(&part.split_to(length), self.path, revisions);
        }
        self.begun.extend_from_slice(&part);
        true
    }
}

/// The length of the first message, if all of it is there.
fn message_length(bytes: &Bytes) -> Option<usize> {
    let prefix = bytes.get(1..PREFIX_BYTES)?;
    let length = u32::from_be_bytes(prefix.try_into().expect("four bytes")) as usize;
    (bytes.len() >= PREFIX_BYTES + length).then_some(length)
}

/// Adds the numbers at the end of this path of fields.
fn collect(mut message: &[u8], path: &[u32], numbers: &mut Vec<i64>) {
    let (field, inner) = path.split_first().expect("a path has an end");
    while !message.is_empty() {
        let (tag, kind) = decode_key(&mut message).expect("it is well-formed");
        if tag != *field {
            skip_field(kind, tag, &mut message, DecodeContext::default()).expect("it has an end");
            continue;
        }
        let value = decode_varint(&mut message).expect("it is well-formed");
        if kind == WireType::Varint {
            numbers.push(value.cast_signed());
        } else {
            let (value, rest) = message.split_at(value.try_into().expect("it is short"));
            collect(value, inner, numbers);
            message = rest;
        }
    }
}

//! The codec of every method: prost's, with a bound on what a small message can grow to.
//!
//! An empty message inside a repeated field takes two bytes on the wire and hundreds in memory, so
//! a limit on bytes alone lets 4 MB become a gigabyte. Elements are counted before any is decoded.

use std::marker::PhantomData;

use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The most fields of a message, each element of a repeated field counted. A batch of the largest
/// configurable size has half as many.
pub const MAX_ELEMENTS: usize = 20_000;

/// What a response has room for before it grows: most are one partner. tonic's own 8 KiB would be
/// taken and given back for each of them.
const SMALL_MESSAGE: usize = 512;

/// How much of a stream's messages is gathered before it is sent; tonic's own figure.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// prost's codec, which refuses a message of more than [`MAX_ELEMENTS`].
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(SMALL_MESSAGE, YIELD_THRESHOLD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstCodec::<T, U>::raw_decoder(BufferSettings::default()))
    }
}

/// prost's decoder, which refuses a message of more than [`MAX_ELEMENTS`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use bytes::Buf as _;
        // The whole message: tonic hands it over in one piece.
        if has_more_elements_than(MAX_ELEMENTS, buffer.chunk()) {
            return Err(Status::out_of_range(format!("more than {MAX_ELEMENTS} elements")));
        }
        self.0.decode(buffer)
    }
}

/// Malformed bytes have no more elements; decoding refuses them.
fn has_more_elements_than(most: usize, mut bytes: &[u8]) -> bool {
    let mut elements = 0;
    while !bytes.is_empty() {
        elements += 1;
        if elements > most {
            return true;
        }
        let skipped = decode_key(&mut bytes)
            .and_then(|(tag, kind)| skip_field(kind, tag, &mut bytes, DecodeContext::default()));
        if skipped.is_err() {
            return false;
        }
    }
    false
}

//! The response of ListAllowedPartners, whose partners a server can give as ready bytes.
//!
//! A page of a thousand partners is half a million bytes. Written straight from what the server
//! has, they take a fraction of the time that a message for each partner takes to be made, encoded
//! and dropped, and the writing can be done where it keeps nobody waiting. A client of this crate
//! finds the partners decoded as in every other response. A test holds the fields against the
//! descriptor.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

use super::v1::AllowedPartner;

const PARTNERS: u32 = 1;
const NEXT_PAGE_TOKEN: u32 = 2;
const TOTAL_SIZE: u32 = 3;
const REVISION: u32 = 4;

/// A page of a listing of partners.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListAllowedPartnersResponse {
    /// The partners of this page; those in `ready` come before them.
    pub allowed_partners: Vec<AllowedPartner>,
    /// Partners of this page as they go over the wire: elements of the field 1, each with its key
    /// and its length. Empty in a response that was received.
    pub ready: Bytes,
    /// The token of the next page; empty on the last one.
    pub next_page_token: String,
    /// How many partners there are in all pages.
    pub total_size: i32,
    /// The revision that all pages of this listing come from.
    pub revision: i64,
}

impl ListAllowedPartnersResponse {
    /// Puts an encoded partner behind those in `ready`.
    pub fn put(ready: &mut Vec<u8>, partner: &[u8]) {
        encoding::encode_key(PARTNERS, WireType::LengthDelimited, ready);
        encoding::encode_varint(partner.len() as u64, ready);
        ready.extend_from_slice(partner);
    }
}

impl Message for ListAllowedPartnersResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        let Self { allowed_partners, ready, next_page_token, total_size, revision } = self;
        buf.put_slice(ready);
        encoding::message::encode_repeated(PARTNERS, allowed_partners, buf);
        if !next_page_token.is_empty() {
            encoding::string::encode(NEXT_PAGE_TOKEN, next_page_token, buf);
        }
        if *total_size != 0 {
            encoding::int32::encode(TOTAL_SIZE, total_size, buf);
        }
        if *revision != 0 {
            encoding::int64::encode(REVISION, revision, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            PARTNERS => {
                let partners = &mut self.allowed_partners;
                encoding::message::merge_repeated(wire_type, partners, buf, context)
            }
            NEXT_PAGE_TOKEN => {
                encoding::string::merge(wire_type, &mut self.next_page_token, buf, context)
            }
            TOTAL_SIZE => encoding::int32::merge(wire_type, &mut self.total_size, buf, context),
            REVISION => encoding::int64::merge(wire_type, &mut self.revision, buf, context),
            _ => encoding::skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let Self { allowed_partners, ready, next_page_token, total_size, revision } = self;
        let token = !next_page_token.is_empty();
        let total = *total_size != 0;
        let revision = Some(revision).filter(|it| **it != 0);
        ready.len()
            + encoding::message::encoded_len_repeated(PARTNERS, allowed_partners)
            + if token {
                encoding::string::encoded_len(NEXT_PAGE_TOKEN, next_page_token)
            } else {
                0
            }
            + if total { encoding::int32::encoded_len(TOTAL_SIZE, total_size) } else { 0 }
            + revision.map_or(0, |revision| encoding::int64::encoded_len(REVISION, revision))
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

//! A token taken apart, believed in nothing yet.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{claims::Claims, error::TokenError};
use crate::{auth::incident::Identity, domain::revocation::is_identifier};

/// A token taken apart, believed in nothing yet.
pub(super) struct Unverified<'a> {
    pub header: Claims,
    pub payload: Claims,
    pub signed: &'a [u8],
    pub signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// If it is not a signed JWT in compact form (RFC 7519), or larger than `limit` octets.
    pub fn parse(token: &'a str, limit: usize) -> Result<Self, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > limit {
            return Err(TokenError::TooLarge { limit });
        }
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(TokenError::Malformed(match token.matches('.').count() {
                4 => "it is encrypted (JWE)",
                _ => "it does not have three segments",
            }));
        };
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header = decode_object(header, "its header is not a JSON object in base64url")?;
        for extension in ["crit", "b64", "zip"] {
            if header.has(extension) {
                return Err(TokenError::HeaderUnsupported(extension));
            }
        }
        Ok(Self {
            header,
            payload: decode_object(payload, "its payload is not a JSON object in base64url")?,
            signed,
            signature: decode(signature, "its signature is not base64url")?,
        })
    }

    /// Who it says its bearer is. Nobody vouches for that.
    pub fn claimed(&self) -> Identity {
        let text = |name| {
            let text = self.payload.text(name).ok().flatten();
            text.filter(|text| is_identifier(text)).unwrap_or_default().into()
        };
        Identity::Claimed { issuer: text("iss"), subject: text("sub") }
    }
}

fn decode_object(segment: &str, problem: &'static str) -> Result<Claims, TokenError> {
    Claims::parse(&decode(segment, problem)?, TokenError::Malformed(problem))
}

fn decode(segment: &str, problem: &'static str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed(problem))
}

//! The JSON inside a token, read strictly: one value for each name, every claim of its own type.

use std::fmt;

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::TokenError;

/// The most characters in a `sub`, `jti` or `kid`.
const MAX_IDENTIFIER: usize = 256;

/// A JSON object in which no name is there twice, at its top level.
///
/// Parsers differ on which of two equal names wins, and so would two services that are shown the
/// same token (RFC 7519 section 4 leaves the choice of refusing).
#[derive(Debug, Default)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Reads the decoded header or payload.
    pub(super) fn parse(json: &[u8], malformed: TokenError) -> Result<Self, TokenError> {
        serde_json::from_slice(json).map_err(|_| malformed)
    }

    /// Whether there is such a member, `null` included.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text that may be absent.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(TokenError::ClaimInvalid(name)),
        }
    }

    /// A non-empty text of at most [`MAX_IDENTIFIER`] characters without control characters, that
    /// may be absent.
    pub(super) fn identifier(&self, name: &'static str) -> Result<Option<&str>, TokenError> {
        match self.text(name)? {
            Some(text) if !is_identifier(text) => Err(TokenError::ClaimInvalid(name)),
            text => Ok(text),
        }
    }

    /// A NumericDate (RFC 7519 section 2) that may be absent. A fraction of a second is cut off.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value
            .as_i64()
            .or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .map(Some)
            .ok_or(TokenError::ClaimInvalid(name))
    }

    /// Whether `aud`, a text or a list of texts, has one of `accepted`.
    pub(super) fn audience_is_among(&self, accepted: &[String]) -> Result<bool, TokenError> {
        const AUD: &str = "aud";
        let values = self.0.get(AUD).ok_or(TokenError::ClaimMissing(AUD))?;
        let values = texts(values).ok_or(TokenError::ClaimInvalid(AUD))?;
        Ok(values.iter().any(|value| accepted.iter().any(|one| one == value)))
    }

    /// The values at `path`: a list of texts, or one text with spaces between the values as OAuth's
    /// `scope` has it. None if there is nothing at the path.
    pub(super) fn roles(&self, path: &[String]) -> Result<Vec<&str>, TokenError> {
        const INVALID: TokenError = TokenError::ClaimInvalid("roles");
        let Some((last, parents)) = path.split_last() else { return Ok(Vec::new()) };
        let mut object = &self.0;
        for key in parents {
            object = match object.get(key) {
                None => return Ok(Vec::new()),
                Some(Value::Object(inner)) => inner,
                Some(_) => return Err(INVALID),
            };
        }
        match object.get(last) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(text.split_ascii_whitespace().collect()),
            Some(list) => texts(list).ok_or(INVALID),
        }
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name is there twice"));
                    }
                }
                Ok(Claims(members))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.chars().take(MAX_IDENTIFIER + 1).count() <= MAX_IDENTIFIER
        && !text.chars().any(char::is_control)
}

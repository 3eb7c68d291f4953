//! The JSON inside a token, read strictly: one value for each name, every claim of its own type.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::TokenError;
use crate::{auth::certificate::Thumbprint, domain::revocation::is_identifier};

/// A JSON object in which no name is there twice, nor in any object within it.
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

    /// A text that may be absent: of 1 to 256 characters, none of them a control character.
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

    /// The certificate that the token is bound to (`cnf`, RFC 7800; `x5t#S256`, RFC 8705), if it is
    /// bound at all. What cannot be checked here is no binding that could be left unchecked.
    pub(super) fn binding(&self) -> Result<Option<Thumbprint>, TokenError> {
        const CNF: &str = "cnf";
        const CERTIFICATE: &str = "x5t#S256";
        let Some(confirmation) = self.0.get(CNF) else { return Ok(None) };
        let invalid = TokenError::ClaimInvalid(CNF);
        let members = confirmation.as_object().ok_or(invalid)?;
        if members.is_empty() || members.keys().any(|member| member != CERTIFICATE) {
            return Err(TokenError::BindingUnsupported);
        }
        let text = members.get(CERTIFICATE).and_then(Value::as_str).ok_or(invalid)?;
        let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid)?;
        octets.try_into().map(Some).map_err(|_| invalid)
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
        match Unique.deserialize(deserializer)? {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(D::Error::custom("it is no object")),
        }
    }
}

/// Reads any JSON, and refuses an object in which a name is there twice.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.insert(name, map.next_value_seed(Self)?).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Value::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

//! The fields of a payload, read where they lie: for what is read a million times at a start, and
//! would make a dozen texts each time only to have them copied.

use prost::encoding::{self, WireType};

use super::Damage;

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// A number or a truth value.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

/// Goes through the fields of the message in `payload`, by their tags. Whoever takes them passes
/// over tags that he does not know.
pub(super) fn each<'a>(
    mut payload: &'a [u8],
    mut take: impl FnMut(u32, Value<'a>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let broken = |error: prost::DecodeError| Damage::Content(error.to_string());
    while !payload.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut payload).map_err(broken)?;
        let value = match wire_type {
            WireType::Varint => {
                Value::Number(encoding::decode_varint(&mut payload).map_err(broken)?)
            }
            WireType::LengthDelimited => {
                let length = encoding::decode_varint(&mut payload).map_err(broken)?;
                let parts =
                    usize::try_from(length).ok().and_then(|at| payload.split_at_checked(at));
                let (bytes, rest) = parts.ok_or_else(|| Damage::content("a field is cut short"))?;
                payload = rest;
                Value::Bytes(bytes)
            }
            _ => {
                return Err(Damage::content(format!("field {tag} is of no type that was written")));
            }
        };
        take(tag, value)?;
    }
    Ok(())
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Result<u64, Damage> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(Damage::content("a field is no number")),
        }
    }

    pub(super) fn bool(self) -> Result<bool, Damage> {
        Ok(self.number()? != 0)
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Damage> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Damage::content("a field is a number")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage::content("a text is no UTF-8"))
    }
}

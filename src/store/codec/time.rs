//! Points and spans of time, to the nanosecond.

use std::time::Duration;

use jiff::Timestamp;

use super::Damage;

/// A point in time; before 1970 both numbers are negative.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct StoredTime {
    #[prost(sint64, tag = "1")]
    seconds: i64,
    #[prost(sint32, tag = "2")]
    nanos: i32,
}

/// A span of time.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct StoredSpan {
    #[prost(uint64, tag = "1")]
    seconds: u64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
}

impl From<Timestamp> for StoredTime {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
    }
}

impl TryFrom<StoredTime> for Timestamp {
    type Error = Damage;

    fn try_from(StoredTime { seconds, nanos }: StoredTime) -> Result<Self, Damage> {
        Self::new(seconds, nanos).map_err(|_| Damage::content("a time is out of range"))
    }
}

impl From<Duration> for StoredSpan {
    fn from(span: Duration) -> Self {
        Self { seconds: span.as_secs(), nanos: span.subsec_nanos() }
    }
}

impl TryFrom<StoredSpan> for Duration {
    type Error = Damage;

    fn try_from(StoredSpan { seconds, nanos }: StoredSpan) -> Result<Self, Damage> {
        if nanos >= 1_000_000_000 {
            return Err(Damage::content("a span of time is out of range"));
        }
        Ok(Self::new(seconds, nanos))
    }
}

/// The time that a value cannot be without.
pub(super) fn required(time: Option<StoredTime>, what: &str) -> Result<Timestamp, Damage> {
    time.ok_or_else(|| Damage::missing(what))?.try_into()
}

/// The time that a value may be without.
pub(super) fn optional(time: Option<StoredTime>) -> Result<Option<Timestamp>, Damage> {
    time.map(Timestamp::try_from).transpose()
}

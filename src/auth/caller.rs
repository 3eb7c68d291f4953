//! The authenticated subject of a request.

use std::sync::Arc;

use jiff::Timestamp;

/// Who a verified token says the caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`.
    pub subject: Arc<str>,
    /// The token's `iss`.
    pub issuer: Arc<str>,
    /// The roles that the token's role claim gives after the issuer's mapping, as they stand
    /// there: sorted, without duplicates, known here or not.
    pub roles: Vec<String>,
    /// When the token expires (`exp`, without leeway).
    pub expire_time: Timestamp,
    /// The token's `jti`, if it has one.
    pub token_id: Option<Arc<str>>,
    /// The id of the key that signed the token, unique among the issuer's keys.
    pub key_id: Arc<str>,
}

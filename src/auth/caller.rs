//! The authenticated subject of a request, and the call he makes.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::{audit::Actor, revocation::Credential};

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
    /// Until when he is believed: `exp` and the issuer's leeway.
    pub good_until: Timestamp,
    /// The token's `jti`, if it has one.
    pub token_id: Option<Arc<str>>,
    /// The id of the key that signed the token, unique among the issuer's keys.
    pub key_id: Arc<str>,
    /// A SHA-256 of that key and its algorithm: another key under the same id has another.
    pub key_fingerprint: [u8; 32],
}

impl Caller {
    /// What of him can be revoked.
    pub const fn credential(&self) -> Credential<'_> {
        let Self { issuer, subject, token_id, key_id, .. } = self;
        Credential { issuer, subject, token_id: token_id.as_ref(), key_id }
    }
}

/// A call that an authenticated caller makes.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// The id of the request, which the log and the audit repeat.
    pub request_id: Arc<str>,
    /// The reason the caller gave for a change, empty if none.
    pub reason: Arc<str>,
}

impl Call {
    /// The caller as the audit names him.
    pub fn actor(&self) -> Actor {
        Actor {
            subject: Arc::clone(&self.caller.subject),
            issuer: Arc::clone(&self.caller.issuer),
            request_id: Arc::clone(&self.request_id),
            reason: Arc::clone(&self.reason),
        }
    }
}

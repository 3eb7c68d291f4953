//! Why a token or a certificate was refused, for the caller and for whoever counts refusals.

use jiff::Timestamp;

/// Why a token was refused.
///
/// The message says what to do about it. It never holds the token, a key, or text out of the
/// token: claim and header names are our own, a time is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no token.
    #[error("no token was given; send one as `authorization: Bearer <token>`")]
    Missing,
    /// It is larger than the limit.
    #[error("the token is larger than {limit} octets; ask the issuer for one with fewer claims")]
    TooLarge {
        /// The limit in octets.
        limit: usize,
    },
    /// It is not a JWT in compact form (RFC 7519).
    #[error("the token is malformed: {0}; send a signed JWT as the issuer gave it")]
    Malformed(&'static str),
    /// Its header asks for something that is not supported.
    #[error("the token's header has `{0}`, which is not supported; ask the issuer for a plain JWT")]
    HeaderUnsupported(&'static str),
    /// Its `typ` is not one that the issuer's access tokens have.
    #[error("the token's `typ` is not accepted; send an access token, not an ID or other token")]
    TypeWrong,
    /// Nobody here believes its issuer.
    #[error(
        "the token's issuer is not accepted here; get a token from an issuer this server is configured for"
    )]
    IssuerUnknown,
    /// Its `alg` is not accepted from this issuer, or not the one of the key it names.
    #[error(
        "the token's `alg` is not accepted from its issuer with that key; an administrator can compare it with `algorithms`"
    )]
    AlgorithmNotAllowed,
    /// No key, or more than one, could have signed it.
    #[error(
        "no key of the issuer fits the token's `kid`; get a new token, or have the issuer's keys configured"
    )]
    KeyUnknown,
    /// The signature is not that of the issuer's key.
    #[error("the token's signature is not valid; get a new token from the issuer")]
    SignatureInvalid,
    /// A required claim is absent.
    #[error("the token has no `{0}` claim; ask the issuer to include it")]
    ClaimMissing(&'static str),
    /// A claim or header has the wrong type or a value out of range.
    #[error("the token's `{0}` has the wrong type or value; ask the issuer to correct it")]
    ClaimInvalid(&'static str),
    /// It is meant for somebody else.
    #[error(
        "the token's `aud` does not name this service; ask the issuer for a token with this service's audience"
    )]
    AudienceWrong,
    /// It has expired.
    #[error("the token expired at {at}; get a new one")]
    Expired {
        /// Its `exp`.
        at: Timestamp,
    },
    /// Its `nbf` or `iat` is in the future.
    #[error("the token is not valid before {at}; wait, or compare the clocks")]
    NotYetValid {
        /// Its `nbf` or `iat`.
        at: Timestamp,
    },
    /// The token, its subject or its key has been revoked.
    #[error(
        "the token has been revoked, or its subject or key has; ask an administrator of this service"
    )]
    Revoked,
    /// The issuer's keys are not known yet, so that nothing can be said about the token.
    #[error("the keys of the token's issuer cannot be fetched at present; try again shortly")]
    KeysUnavailable,
    /// It is not bound to a certificate, and its issuer's tokens must be.
    #[error(
        "the token is not bound to a client certificate, as this issuer's must be; ask it for one that is"
    )]
    NotBound,
    /// It is bound to a certificate that this connection does not have (RFC 8705).
    #[error(
        "the token is bound to a client certificate that this connection has not shown; send it over a connection with that certificate"
    )]
    BoundElsewhere,
    /// It is bound in a way that cannot be checked here (RFC 7800).
    #[error(
        "the token is bound to something other than a client certificate, which is not supported; ask the issuer for another"
    )]
    BindingUnsupported,
    /// There is no token, and the client certificate stands for nobody.
    #[error(
        "no token was given, and the client certificate stands for nobody here; send a token, or have its name configured"
    )]
    CertificateUnknown,
    /// There is no token, and the client certificate stands for more than one subject.
    #[error("the client certificate stands for several subjects here; get one with a single name")]
    CertificateAmbiguous,
    /// There is no token, and the client certificate has expired since the connection began.
    #[error("the client certificate expired at {at}; connect with a new one")]
    CertificateExpired {
        /// The end of its validity.
        at: Timestamp,
    },
}

impl TokenError {
    /// The stable reason, as in the `ErrorInfo` of the answer.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "TOKEN_MISSING",
            Self::TooLarge { .. } => "TOKEN_TOO_LARGE",
            Self::Malformed(_) => "TOKEN_MALFORMED",
            Self::HeaderUnsupported(_) => "TOKEN_HEADER_UNSUPPORTED",
            Self::TypeWrong => "TOKEN_TYPE_WRONG",
            Self::IssuerUnknown => "TOKEN_ISSUER_UNKNOWN",
            Self::AlgorithmNotAllowed => "TOKEN_ALGORITHM_NOT_ALLOWED",
            Self::KeyUnknown => "TOKEN_KEY_UNKNOWN",
            Self::SignatureInvalid => "TOKEN_SIGNATURE_INVALID",
            Self::ClaimMissing(_) => "TOKEN_CLAIM_MISSING",
            Self::ClaimInvalid(_) => "TOKEN_CLAIM_INVALID",
            Self::AudienceWrong => "TOKEN_AUDIENCE_WRONG",
            Self::Expired { .. } => "TOKEN_EXPIRED",
            Self::NotYetValid { .. } => "TOKEN_NOT_YET_VALID",
            Self::Revoked => "TOKEN_REVOKED",
            Self::KeysUnavailable => "TOKEN_KEYS_UNAVAILABLE",
            Self::NotBound => "TOKEN_NOT_BOUND",
            Self::BoundElsewhere => "TOKEN_BOUND_ELSEWHERE",
            Self::BindingUnsupported => "TOKEN_BINDING_UNSUPPORTED",
            Self::CertificateUnknown => "CERTIFICATE_UNKNOWN",
            Self::CertificateAmbiguous => "CERTIFICATE_AMBIGUOUS",
            Self::CertificateExpired { .. } => "CERTIFICATE_EXPIRED",
        }
    }
}

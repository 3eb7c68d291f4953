//! The TLS x SASL x dialback matrix: which ways of authentication a triple allows.
//!
//! SASL EXTERNAL (XEP-0178) runs only inside TLS. Dialback (XEP-0220) runs with or without. A
//! triple that leaves no way, or leaves one the administrator did not ask for, is invalid.

/// Whether a stream feature is demanded, allowed or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Negotiation {
    /// A stream without it is refused.
    #[default]
    Required,
    /// Used when both sides offer it.
    Optional,
    /// Neither offered nor accepted.
    NotSupported,
}

impl Negotiation {
    /// The value as the API writes it, without its prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::Optional => "OPTIONAL",
            Self::NotSupported => "NOT_SUPPORTED",
        }
    }
}

/// A way in which two servers prove to each other who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NegotiationMethod {
    /// SASL EXTERNAL with certificates, inside TLS (XEP-0178).
    SaslOverTls,
    /// Server dialback inside TLS (XEP-0220).
    DialbackOverTls,
    /// Server dialback in the clear (XEP-0220).
    DialbackOverTcp,
}

/// Something a triple allows and that is probably not meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NegotiationWarning {
    /// TLS and SASL are both required, so dialback is on for nothing.
    DialbackUnused,
    /// SASL is wanted, but it runs only inside TLS, which is not required.
    SaslNeedsTls,
}

/// What a valid triple allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The ways of authentication, the strongest first.
    pub methods: &'static [NegotiationMethod],
    /// What is probably not meant.
    pub warning: Option<NegotiationWarning>,
}

/// A triple that must not be stored: dialback is off, and TLS or SASL is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("with dialback off, neither TLS nor SASL may be NOT_SUPPORTED")]
pub struct InvalidTriple;

/// What `tls`, `sasl` and `dialback` together allow.
///
/// # Errors
/// [`InvalidTriple`] for the 5 of 18 triples that leave no sound way of authentication.
pub const fn evaluate(
    tls: Negotiation,
    sasl: Negotiation,
    dialback: bool,
) -> Result<Allowed, InvalidTriple> {
    use Negotiation::{NotSupported, Optional, Required};
    use NegotiationMethod::{DialbackOverTcp, DialbackOverTls, SaslOverTls};
    use NegotiationWarning::{DialbackUnused, SaslNeedsTls};

    const SASL: &[NegotiationMethod] = &[SaslOverTls];
    const SASL_OR_DIALBACK_IN_TLS: &[NegotiationMethod] = &[SaslOverTls, DialbackOverTls];
    const ANY: &[NegotiationMethod] = &[SaslOverTls, DialbackOverTls, DialbackOverTcp];
    const DIALBACK_IN_TLS: &[NegotiationMethod] = &[DialbackOverTls];
    const DIALBACK: &[NegotiationMethod] = &[DialbackOverTls, DialbackOverTcp];
    const DIALBACK_IN_THE_CLEAR: &[NegotiationMethod] = &[DialbackOverTcp];

    let (methods, warning) = match (tls, sasl, dialback) {
        (Required, Required, true) => (SASL, Some(DialbackUnused)),
        (Required, Required | Optional, false) => (SASL, None),
        (Optional, Required | Optional, false) => (SASL, Some(SaslNeedsTls)),
        (NotSupported, _, false) | (_, NotSupported, false) => return Err(InvalidTriple),
        (Optional, Required | Optional, true) => (ANY, Some(SaslNeedsTls)),
        (NotSupported, Required | Optional, true) => (DIALBACK_IN_THE_CLEAR, Some(SaslNeedsTls)),
        (Required, Optional, true) => (SASL_OR_DIALBACK_IN_TLS, None),
        (Required, NotSupported, true) => (DIALBACK_IN_TLS, None),
        (Optional, NotSupported, true) => (DIALBACK, None),
        (NotSupported, NotSupported, true) => (DIALBACK_IN_THE_CLEAR, None),
    };
    Ok(Allowed { methods, warning })
}

#[cfg(test)]
mod tests {
    use super::{
        Negotiation::{NotSupported, Optional, Required},
        NegotiationMethod::{DialbackOverTcp, DialbackOverTls, SaslOverTls},
        NegotiationWarning::{DialbackUnused, SaslNeedsTls},
        *,
    };

    #[test]
    fn all_eighteen_triples_are_as_the_contract_says() {
        let sasl = &[SaslOverTls][..];
        let sasl_dialback = &[SaslOverTls, DialbackOverTls][..];
        let any = &[SaslOverTls, DialbackOverTls, DialbackOverTcp][..];
        let dialback_tls = &[DialbackOverTls][..];
        let dialback = &[DialbackOverTls, DialbackOverTcp][..];
        let dialback_tcp = &[DialbackOverTcp][..];
        let rows = [
            (Required, Required, true, Some((sasl, Some(DialbackUnused)))),
            (Required, Required, false, Some((sasl, None))),
            (Required, Optional, true, Some((sasl_dialback, None))),
            (Required, Optional, false, Some((sasl, None))),
            (Required, NotSupported, true, Some((dialback_tls, None))),
            (Required, NotSupported, false, None),
            (Optional, Required, true, Some((any, Some(SaslNeedsTls)))),
            (Optional, Required, false, Some((sasl, Some(SaslNeedsTls)))),
            (Optional, Optional, true, Some((any, Some(SaslNeedsTls)))),
            (Optional, Optional, false, Some((sasl, Some(SaslNeedsTls)))),
            (Optional, NotSupported, true, Some((dialback, None))),
            (Optional, NotSupported, false, None),
            (NotSupported, Required, true, Some((dialback_tcp, Some(SaslNeedsTls)))),
            (NotSupported, Required, false, None),
            (NotSupported, Optional, true, Some((dialback_tcp, Some(SaslNeedsTls)))),
            (NotSupported, Optional, false, None),
            (NotSupported, NotSupported, true, Some((dialback_tcp, None))),
            (NotSupported, NotSupported, false, None),
        ];
        assert_eq!(rows.iter().filter(|row| row.3.is_none()).count(), 5);
        for (tls, sasl, dialback, expected) in rows {
            let found = evaluate(tls, sasl, dialback)
                .ok()
                .map(|allowed| (allowed.methods, allowed.warning));
            assert_eq!(found, expected, "{tls:?} {sasl:?} {dialback}");
        }
    }
}

//! Client certificates: what of one matters here, and whom it stands for.
//!
//! That a certificate is valid, and that the client has its key, was found out in the TLS
//! handshake. A certificate can do two things for a request: be the one that the token is bound to
//! (RFC 8705 section 3), or stand for a subject itself, by a name in its subject alternative names.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::{Caller, issuer::AuthConfigError, token::TokenError};

/// What callers by certificate have for an issuer unless configured.
pub const DEFAULT_ISSUER: &str = "urn:partnerd:certificate";

/// The SHA-256 of a certificate's DER, as `x5t#S256` has it (RFC 8705 section 3.1).
pub type Thumbprint = [u8; 32];

/// A client certificate that was verified in the handshake of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// What a token is bound to.
    pub thumbprint: Thumbprint,
    /// The end of its validity.
    pub not_after: Timestamp,
    names: Vec<Name>,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    kind: NameKind,
    value: String,
}

/// The kinds of subject alternative names that can stand for a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameKind {
    /// A URI, such as a SPIFFE id.
    Uri,
    /// A DNS name.
    Dns,
    /// An e-mail address (RFC 822).
    Email,
}

/// Which client certificates stand for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateConfig {
    /// What callers by certificate have for an issuer, in the audit and in revocations.
    pub issuer: String,
    /// Who they are. Empty: a certificate stands for nobody.
    pub subjects: Vec<CertificateSubject>,
}

/// The holders of certificates with a certain name, and what they are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSubject {
    /// The name, with its kind before it: `uri:spiffe://example.org/agent/1`, `dns:*.example.org`,
    /// `email:ops@example.org`. One `*` stands for one or more characters, but not for a `/` in a
    /// URI, a `.` in a DNS name or an `@` in an address.
    pub san: String,
    /// The subject it stands for; the name itself, without its kind, if not stated.
    pub subject: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
}

/// A [`CertificateConfig`] that has been found sound.
#[derive(Debug)]
pub(super) struct CertificateRules {
    issuer: Arc<str>,
    subjects: Vec<(Pattern, CertificateSubject)>,
}

/// A name with at most one `*` in it.
#[derive(Debug)]
struct Pattern {
    kind: NameKind,
    before: String,
    /// What follows the `*`, if there is one.
    after: Option<String>,
}

/// Bytes that are no certificate that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's certificate cannot be read; issue it anew")]
pub struct Unreadable;

impl ClientCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn from_der(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
        let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
        let not_after = certificate.validity().not_after.timestamp();
        if !rest.is_empty() {
            return Err(Unreadable);
        }
        Ok(Self {
            thumbprint: sha256(der),
            not_after: Timestamp::from_second(not_after).map_err(|_| Unreadable)?,
            names: names.iter().filter_map(Name::of).collect(),
        })
    }

    /// Its thumbprint as text: its id, where a key has a `kid`.
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.thumbprint)
    }
}

impl Name {
    fn of(name: &GeneralName<'_>) -> Option<Self> {
        let (kind, value) = match *name {
            GeneralName::URI(uri) => (NameKind::Uri, uri.to_owned()),
            // DNS names have no case (RFC 4343).
            GeneralName::DNSName(name) => (NameKind::Dns, name.to_ascii_lowercase()),
            GeneralName::RFC822Name(address) => (NameKind::Email, address.to_owned()),
            _ => return None,
        };
        let printable = !value.is_empty() && value.len() <= 256 && value.is_ascii();
        (printable && !value.contains(|c: char| c.is_control())).then_some(Self { kind, value })
    }
}

impl Default for CertificateConfig {
    fn default() -> Self {
        Self { issuer: DEFAULT_ISSUER.to_owned(), subjects: Vec::new() }
    }
}

impl CertificateConfig {
    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that is missing or malformed, with the remedy.
    pub(super) fn rules(self) -> Result<CertificateRules, AuthConfigError> {
        let error = |san: &str, problem: &str| {
            AuthConfigError::new(format!(
                "client certificates, `{}`: {problem}",
                san.escape_debug()
            ))
        };
        if self.issuer.is_empty() {
            return Err(AuthConfigError::new(
                "client certificates: `issuer` is empty; leave it out for the default",
            ));
        }
        let mut subjects = Vec::with_capacity(self.subjects.len());
        for subject in self.subjects {
            let pattern: Pattern =
                subject.san.parse().map_err(|problem: String| error(&subject.san, &problem))?;
            if pattern.after.is_some() && subject.subject.is_some() {
                return Err(error(
                    &subject.san,
                    "many names are not one subject; leave `subject` out, or the `*`",
                ));
            }
            if subject.roles.iter().all(String::is_empty) {
                return Err(error(&subject.san, "it has no roles; list at least one"));
            }
            subjects.push((pattern, subject));
        }
        Ok(CertificateRules { issuer: self.issuer.into(), subjects })
    }
}

impl CertificateRules {
    /// What its callers have for an issuer.
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Whom a certificate stands for.
    ///
    /// # Errors
    /// If it has expired since the handshake, or stands for nobody, or for several.
    pub fn caller(
        &self,
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Result<Caller, TokenError> {
        if now >= certificate.not_after {
            return Err(TokenError::CertificateExpired { at: certificate.not_after });
        }
        let mut subjects = BTreeSet::<&str>::new();
        let mut roles = BTreeSet::<&str>::new();
        for name in &certificate.names {
            for (_, named) in self.subjects.iter().filter(|(pattern, _)| pattern.matches(name)) {
                subjects.insert(named.subject.as_deref().unwrap_or(&name.value));
                roles.extend(named.roles.iter().map(String::as_str));
            }
        }
        let mut subjects = subjects.into_iter();
        let subject = match (subjects.next(), subjects.next()) {
            (None, _) if self.subjects.is_empty() => return Err(TokenError::Missing),
            (None, _) => return Err(TokenError::CertificateUnknown),
            (Some(_), Some(_)) => return Err(TokenError::CertificateAmbiguous),
            (Some(subject), None) => subject,
        };
        Ok(Caller {
            subject: subject.into(),
            issuer: Arc::clone(&self.issuer),
            roles: roles.into_iter().map(str::to_owned).collect(),
            expire_time: certificate.not_after,
            good_until: certificate.not_after,
            token_id: None,
            key_id: certificate.id().into(),
            key_fingerprint: certificate.thumbprint,
        })
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const REMEDY: &str =
            "write it as `uri:spiffe://example.org/agent/*`, `dns:...` or `email:...`";
        let (kind, name) = text.split_once(':').ok_or(REMEDY)?;
        let kind = match kind {
            "uri" => NameKind::Uri,
            "dns" => NameKind::Dns,
            "email" => NameKind::Email,
            _ => return Err(REMEDY.to_owned()),
        };
        if name.is_empty() || name == "*" || name.matches('*').count() > 1 {
            return Err(format!("it must say more than `*`, and have at most one; {REMEDY}"));
        }
        let name = match kind {
            NameKind::Dns => name.to_ascii_lowercase(),
            NameKind::Uri | NameKind::Email => name.to_owned(),
        };
        let (before, after) = match name.split_once('*') {
            None => (name, None),
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
        };
        Ok(Self { kind, before, after })
    }
}

impl Pattern {
    fn matches(&self, name: &Name) -> bool {
        if self.kind != name.kind {
            return false;
        }
        let Some(after) = &self.after else { return self.before == name.value };
        name.value
            .strip_prefix(&self.before)
            .and_then(|rest| rest.strip_suffix(after.as_str()))
            .is_some_and(|middle| !middle.is_empty() && !middle.contains(self.kind.separator()))
    }
}

impl NameKind {
    const fn separator(self) -> char {
        match self {
            Self::Uri => '/',
            Self::Dns => '.',
            Self::Email => '@',
        }
    }
}

/// The SHA-256 of some octets.
pub(super) fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
    hash
}

#[cfg(test)]
mod tests;

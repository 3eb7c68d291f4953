//! XMPP domain names: parsed once, stored and compared as lower-case IDNA A-labels.
//!
//! The rules are those of the domainpart of a JID (RFC 7622 section 3.2), narrowed to what may be
//! federated with: fully qualified names, no IP literals, no wildcards. Names whose IDNA2003 and
//! IDNA2008 forms differ are refused, because Prosody and ejabberd prepare names by IDNA2003 and
//! would match another domain than the one that was meant.

use std::{borrow::Borrow, fmt, net::IpAddr, str::FromStr, sync::Arc};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// The most octets of a name (RFC 1035 section 2.3.4), the final dot not counted.
pub const MAX_OCTETS: usize = 253;

/// Longer input is refused before any work is spent on it. A U-label is never longer than its
/// A-label by more than this allows.
const MAX_INPUT_BYTES: usize = 4 * MAX_OCTETS;

/// The characters that IDNA2003 maps away and IDNA2008 keeps (UTS 46 section 7).
const DEVIATIONS: [char; 4] = ['ß', 'ς', '\u{200c}', '\u{200d}'];

/// A fully qualified XMPP domain in lower-case A-labels. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(Arc<str>);

/// Why a text is not a domain name we can federate with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainNameError {
    /// There is no text.
    #[error("a domain is missing; give a name such as contoso.com")]
    Empty,
    /// Over 253 octets, or a label over 63.
    #[error("the domain is too long: at most 253 octets, at most 63 a label (RFC 1035)")]
    TooLong,
    /// A `*`.
    #[error("wildcards are not allowed in a domain; name each domain (RFC 7622)")]
    Wildcard,
    /// A `@` or `/`.
    #[error("this is an address, not a domain; leave out the local part and the resource")]
    Address,
    /// An IPv4 or IPv6 literal.
    #[error("IP addresses cannot be federated with; give the domain name")]
    IpLiteral,
    /// No dot.
    #[error("the domain has a single label; give the full name, such as contoso.com")]
    SingleLabel,
    /// A character, hyphen or label that IDNA refuses.
    #[error(
        "not a valid domain name (UTS 46, RFC 7622): letters, digits and inner hyphens, in labels \
         of 1 to 63, with dots between"
    )]
    Malformed,
    /// IDNA2003 and IDNA2008 disagree.
    #[error(
        "the name means different domains under IDNA2003 and IDNA2008, and XMPP servers use \
         either; such a name cannot be federated with safely"
    )]
    Ambiguous,
}

impl DomainName {
    /// Parses what people write: upper case, U-labels and one trailing dot are accepted.
    ///
    /// # Errors
    /// [`DomainNameError`] when the text is no fully qualified domain name.
    pub fn parse(text: &str) -> Result<Self, DomainNameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Self::refuse_the_obvious(text)?;
        let ascii = Uts46::new()
            .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify)
            .map_err(|_| Self::malformed(text))?;
        let Some((_, last_label)) = ascii.rsplit_once('.') else {
            return Err(DomainNameError::SingleLabel);
        };
        if last_label.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DomainNameError::IpLiteral);
        }
        let name = Self(Arc::from(ascii.as_ref()));
        // Only a label in A-label form stands for anything else than it says.
        if name.0.contains("xn--") && name.to_unicode().contains(DEVIATIONS) {
            return Err(DomainNameError::Ambiguous);
        }
        Ok(name)
    }

    /// A name that was parsed before it was stored, and is not parsed again: full IDNA processing
    /// of the names of a million partners would take longer than reading them. `None` if the text
    /// cannot be the stored form of a name: lower-case letters, digits and inner hyphens in two or
    /// more labels of 1 to 63, at most 253 octets together.
    pub fn from_stored(text: &str) -> Option<Self> {
        let is_label = |label: &[u8]| {
            matches!(label.len(), 1..=63)
                && !label.starts_with(b"-")
                && !label.ends_with(b"-")
                && label.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        let is_name = text.len() <= MAX_OCTETS
            && text.contains('.')
            && text.as_bytes().split(|byte| *byte == b'.').all(is_label);
        is_name.then(|| Self(Arc::from(text)))
    }

    /// The name in A-labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in U-labels, as people read it.
    pub fn to_unicode(&self) -> String {
        let (unicode, _) =
            Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
        unicode.into_owned()
    }

    /// Whether the name lies below `ancestor`. A name does not lie below itself.
    pub fn is_below(&self, ancestor: &str) -> bool {
        self.0.strip_suffix(ancestor).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
    }

    /// Whether the name is a public suffix (publicsuffix.org), below which anybody can register.
    pub fn is_public_suffix(&self) -> bool {
        psl::suffix(self.0.as_bytes())
            .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == self.0.as_bytes())
    }

    fn refuse_the_obvious(text: &str) -> Result<(), DomainNameError> {
        if text.is_empty() {
            return Err(DomainNameError::Empty);
        }
        if text.len() > MAX_INPUT_BYTES {
            return Err(DomainNameError::TooLong);
        }
        if text.contains('*') {
            return Err(DomainNameError::Wildcard);
        }
        let unbracketed = text.trim_start_matches('[').trim_end_matches(']');
        if unbracketed.parse::<IpAddr>().is_ok() {
            return Err(DomainNameError::IpLiteral);
        }
        if text.contains(['@', '/']) {
            return Err(DomainNameError::Address);
        }
        Ok(())
    }

    fn malformed(text: &str) -> DomainNameError {
        let too_long = text.is_ascii()
            && (text.len() > MAX_OCTETS || text.split('.').any(|label| label.len() > 63));
        if too_long { DomainNameError::TooLong } else { DomainNameError::Malformed }
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Domains sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSet(Box<[DomainName]>);

impl DomainSet {
    /// The domains, sorted.
    pub fn as_slice(&self) -> &[DomainName] {
        &self.0
    }

    /// The domains, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, DomainName> {
        self.0.iter()
    }

    /// Whether `domain` is one of them.
    pub fn contains(&self, domain: &DomainName) -> bool {
        self.0.binary_search(domain).is_ok()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<DomainName> for DomainSet {
    fn from_iter<I: IntoIterator<Item = DomainName>>(domains: I) -> Self {
        let mut sorted: Vec<_> = domains.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted.into_boxed_slice())
    }
}

impl<'a> IntoIterator for &'a DomainSet {
    type Item = &'a DomainName;
    type IntoIter = std::slice::Iter<'a, DomainName>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, DomainNameError> {
        DomainName::parse(text).map(|name| name.to_string())
    }

    #[test]
    fn names_are_accepted_as_people_write_them() {
        for (written, stored) in [
            ("contoso.com", "contoso.com"),
            ("Contoso.COM", "contoso.com"),
            ("contoso.com.", "contoso.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("a-b.c1.example", "a-b.c1.example"),
        ] {
            assert_eq!(parsed(written).as_deref(), Ok(stored), "{written}");
        }
    }

    #[test]
    fn what_is_no_federable_name_is_refused_with_its_reason() {
        use DomainNameError::*;
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = format!("{}com", "abcdefgh.".repeat(29));
        for (written, reason) in [
            ("", Empty),
            (".", Empty),
            ("contoso.com..", Malformed),
            ("a..b", Malformed),
            ("com", SingleLabel),
            ("*.contoso.com", Wildcard),
            ("user@contoso.com", Address),
            ("contoso.com/resource", Address),
            ("192.0.2.1", IpLiteral),
            ("1.2.3", IpLiteral),
            ("2001:db8::1", IpLiteral),
            ("[2001:db8::1]", IpLiteral),
            ("contoso.com:5269", Malformed),
            ("con toso.com", Malformed),
            ("con_toso.com", Malformed),
            ("-contoso.com", Malformed),
            ("contoso-.com", Malformed),
            ("xn--zzzzzz--.com", Malformed),
            ("faß.de", Ambiguous),
            ("xn--fa-hia.de", Ambiguous),
            (&long_label, TooLong),
            (&long_name, TooLong),
            (&"a".repeat(5000), TooLong),
        ] {
            assert_eq!(parsed(written), Err(reason), "{written}");
        }
    }

    #[test]
    fn a_stored_name_is_taken_as_it_is_and_anything_else_is_not() {
        for name in ["contoso.com", "xn--bcher-kva.example", "a-b.c1.example", "1.a"] {
            let stored = DomainName::from_stored(name).unwrap();
            assert_eq!(Ok(stored), DomainName::parse(name), "{name}");
        }
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = format!("{}com", "abcdefgh.".repeat(29));
        for text in [
            "",
            ".",
            "com",
            "a..b",
            "a.b.",
            "Contoso.com",
            "b\u{fc}cher.example",
            "-a.com",
            "a-.com",
            "a_b.com",
            "*.com",
            &long_label,
            &long_name,
        ] {
            assert_eq!(DomainName::from_stored(text), None, "{text}");
        }
    }

    #[test]
    fn below_means_a_whole_label_further_down() {
        let name = DomainName::parse("na.contoso.com").unwrap();
        assert!(name.is_below("contoso.com"));
        assert!(name.is_below("com"));
        assert!(!name.is_below("na.contoso.com"));
        assert!(!name.is_below("ontoso.com"));
    }

    #[test]
    fn public_suffixes_are_known() {
        assert!(DomainName::parse("co.uk").unwrap().is_public_suffix());
        assert!(!DomainName::parse("contoso.co.uk").unwrap().is_public_suffix());
    }
}

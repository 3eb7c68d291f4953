//! Addresses that keys may be fetched from.

use http::Uri;

/// An address that keys may be fetched from: HTTPS, or HTTP on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether it is spoken to over TLS.
    pub encrypted: bool,
    /// The name or address of the machine, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub target: String,
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is none that may be used, with the remedy.
    pub fn parse(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "write it as https://login.example.org/keys";
        let malformed = || format!("`{}` is no address; {REMEDY}", text.escape_debug());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let (Some(scheme), Some(authority), Some(host)) =
            (uri.scheme_str(), uri.authority(), uri.host())
        else {
            return Err(malformed());
        };
        if authority.as_str().contains('@') || text.contains('#') || host.is_empty() {
            return Err(malformed());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let encrypted = match scheme {
            "https" => true,
            "http" if names_this_machine(&host) => false,
            _ => {
                return Err(format!(
                    "`{}` is neither https nor http on a loopback address; use https",
                    text.escape_debug()
                ));
            }
        };
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { encrypted, host, port, target })
    }

    /// Reads an address that a document from this one names. Only who was fetched without
    /// encryption himself may send us on to such an address: no issuer elsewhere can make this
    /// server talk to its own machine in plain text.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_linked(&self, text: &str) -> Result<Self, String> {
        let linked = Self::parse(text)?;
        match linked.encrypted || !self.encrypted {
            true => Ok(linked),
            false => Err(format!("`{}` is not encrypted; use https", text.escape_debug())),
        }
    }

    /// What an OpenID provider that calls itself this says about itself (OpenID Connect Discovery
    /// 1.0 section 4).
    pub fn discovery(issuer: &str) -> Result<Self, String> {
        let url = Self::parse(issuer)?;
        if url.target.contains('?') {
            return Err("an issuer with a query has no discovery document; use jwks_url".into());
        }
        let folder = url.target.trim_end_matches('/');
        Ok(Self { target: format!("{folder}/.well-known/openid-configuration"), ..url })
    }

    /// Host and port, as the `host` header has them.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

fn names_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_or_on_this_machine() {
        for good in [
            "https://login.example.org",
            "https://login.example.org:8443/keys?a=b",
            "https://[2001:db8::1]/keys",
            "http://localhost:3000/keys",
            "http://127.0.0.2/keys",
            "http://[::1]:80/",
        ] {
            assert!(Url::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "login.example.org",
            "/keys",
            "http://login.example.org/keys",
            "http://localhost.example.org/",
            "http://127.0.0.1.example.org/",
            "http://0.0.0.0/",
            "http://10.0.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "ftp://login.example.org/",
            "file:///etc/passwd",
            "https://user:pass@login.example.org/",
            "https://login.example.org/#keys",
            "https:///keys",
            "https://login example.org/",
            "https://login.example.org/\r\nHost: x",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_elsewhere_sends_this_server_to_its_own_machine_in_plain_text() {
        let elsewhere = Url::parse("https://login.example.org/").unwrap();
        let here = Url::parse("http://127.0.0.1:3000/").unwrap();
        assert!(elsewhere.parse_linked("http://127.0.0.1:8080/keys").is_err());
        assert!(elsewhere.parse_linked("https://keys.example.net/keys").is_ok());
        assert!(here.parse_linked("http://127.0.0.1:3000/keys").is_ok());
    }

    #[test]
    fn the_discovery_document_is_below_the_issuer() {
        let target = |issuer| Url::discovery(issuer).map(|url| url.target);
        let expected = Ok("/realms/one/.well-known/openid-configuration".to_owned());
        assert_eq!(target("https://login.example.org/realms/one"), expected);
        assert_eq!(target("https://login.example.org/realms/one/"), expected);
        let root = Ok("/.well-known/openid-configuration".to_owned());
        assert_eq!(target("https://login.example.org"), root);
        assert!(target("https://login.example.org/?tenant=one").is_err());
        assert!(target("urn:partnerd:dev").is_err());
    }
}

//! Which requests are this service's (RFC 9110, section 7.4), and which pages may have browsers change something.
//!
//! The proxy looks like the service itself, so it answers to the service's names and to no others. Without that any web
//! page could reach it through its visitor's browser: the page's own name is made to lead to the proxy's address (DNS
//! rebinding), and what the page fetches then is of its own origin to the browser. Addresses need no list, since no
//! name leads to them.

use core::net::{Ipv4Addr, Ipv6Addr};

/// The names that the service has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
    any: bool,
}

impl Hosts {
    /// Addresses, `localhost`, and these names. `*` is any name.
    ///
    /// # Errors
    /// One line that says which is no name.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut hosts = Self::default();
        for name in names {
            if name == "*" {
                hosts.any = true;
                continue;
            }
            match Authority::parse(name) {
                Some(Authority { port: None, .. }) if !name.ends_with(':') && !name.contains('*') => {
                    hosts.names.push(plain(name).to_owned());
                }
                _ => return Err(format!("host {name}: expected a name without a port, or * for every name")),
            }
        }
        Ok(hosts)
    }

    /// Whether the service has this name.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        let host = plain(host);
        let is_local = host
            .rsplit('.')
            .next()
            // The resolver of a browser or of the system leads it to no other machine (RFC 6761, section 6.3).
            .is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
        self.any
            || is_local
            || host.starts_with('[')
            || host.parse::<Ipv4Addr>().is_ok()
            || self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// A name without the dot that makes it absolute.
fn plain(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// `HOST[:PORT]`, as in the field Host (RFC 9110, section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: &'a str,
    /// The port, if it is given.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads one. `None` if it is none, has no host (RFC 9110, section 4.2.1), or names a user (section 4.2.4).
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (text, ""),
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
            // RFC 3986, section 3.2.2.
            None => {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte))
            }
        };
        is_host.then_some(Self { host, port })
    }

    /// Whether a page of this origin (RFC 6454, section 7) is one that was fetched from here. Behind a proxy for TLS the
    /// schemes differ.
    #[must_use]
    pub fn has_page(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else {
            // `null`: a page whose origin the browser does not tell.
            return false;
        };
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let port = |authority: &Authority<'_>| authority.port.unwrap_or(usual);
        Authority::parse(authority)
            .is_some_and(|page| plain(page.host).eq_ignore_ascii_case(plain(self.host)) && port(&page) == port(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_the_names_of_the_list_are_answered_to() {
        let hosts = Hosts::new(["Gateway.lan", "b."]).unwrap();
        for host in ["127.0.0.1", "192.0.2.1", "[::1]", "localhost", "LOCALHOST.", "a.localhost", "gateway.LAN", "b"] {
            assert!(hosts.contains(host), "{host}");
        }
        for host in ["example.com", "lan", "gateway.lan.example", "localhost.example", "127.0.0.1.example", "127.1", ""]
        {
            assert!(!hosts.contains(host), "{host}");
        }
        assert!(Hosts::new(["*"]).unwrap().contains("example.com"));
        for wrong in ["", "a:80", "a:", "http://a", "a b", "*.a", "u@a", "a/b", "[::1", "[x]"] {
            assert!(Hosts::new([wrong]).unwrap_err().contains(&format!("host {wrong}:")), "{wrong}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let parsed = |text| Authority::parse(text).map(|authority| (authority.host, authority.port));
        assert_eq!(parsed("a.b:80"), Some(("a.b", Some(80))));
        assert_eq!((parsed("a:"), parsed("a")), (Some(("a", None)), Some(("a", None))));
        assert_eq!(parsed("[2001:db8::1]:8080"), Some(("[2001:db8::1]", Some(8080))));
        assert_eq!(parsed("[::1]"), Some(("[::1]", None)));
        for wrong in
            ["", ":80", "a:b", "a:+1", "a:65536", "u@a", "a b", "a/", "a?b", "::1", "[::1", "[::1]x", "[a]", "a\t"]
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_page_of_the_service_has_its_host_and_port() {
        let of = |host: &'static str| Authority::parse(host).unwrap();
        for (host, origin) in [
            ("a:8080", "http://A:8080"),
            ("a", "http://a"),
            ("a", "https://a"),
            ("a:443", "https://a"),
            ("a.", "http://a:80"),
            ("[::1]:1", "http://[::1]:1"),
        ] {
            assert!(of(host).has_page(origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("a", "null"),
            ("a", "http://b"),
            ("a:8080", "http://a"),
            ("a", "http://a:8080"),
            ("a", "ftp://a"),
            ("a", "http://"),
            ("a", "http://a/"),
            ("a", "http://a http://b"),
        ] {
            assert!(!of(host).has_page(origin), "{host} {origin}");
        }
    }
}

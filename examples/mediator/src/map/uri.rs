//! The URI of an HTTP request as options of a CoAP request (RFC 8075, section 5; RFC 7252, section 6).
//!
//! A path leads to the origin whose prefix it has: the longest one. `/hc/coap://HOST:PORT/PATH?QUERY`, the default
//! mapping of RFC 8075, section 5.3, leads to an origin by its own URI. Only configured origins can be reached.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;
use std::borrow::Cow;
use std::net::ToSocketAddrs;

use crate::coap::message::option;
use crate::counters::Reason;

/// The port of CoAP (RFC 7252, section 12.6).
const PORT: u16 = 5683;

/// The longest segment or argument, in bytes (RFC 7252, section 5.10).
const MAX_SEGMENT: usize = 255;

/// The longest path and query together, in bytes: with a block of 1024 bytes and all other options they fit into a
/// packet of 1500.
const MAX_OPTIONS: usize = 300;

/// The longest path and query of a Location that is passed on, in bytes: with all other fields and a payload it fits into
/// the output.
const MAX_LOCATION: usize = 400;

/// Where the default mapping of RFC 8075 begins.
const HOSTING: &str = "/hc/";

/// A CoAP origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Which paths lead to it: `/`, or a path without a slash at its end.
    pub prefix: String,
    /// The prefix's segments, decoded.
    under: Vec<Vec<u8>>,
    /// Its endpoint, as byway's rules name it.
    pub at: SocketAddrV4,
    /// Its name, if it was given one.
    pub host: Option<String>,
    /// What its path begins with: segments, decoded. What is not below it cannot be reached.
    pub base: Vec<Vec<u8>>,
}

/// Why a text names no origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError {
    text: String,
    expected: &'static str,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "origin {}: expected {}", self.text, self.expected)
    }
}

impl core::error::Error for OriginError {}

impl FromStr for Origin {
    type Err = OriginError;

    /// Reads `[PREFIX=]coap://HOST[:PORT][/PATH]`. A name is resolved now, to its first IPv4 address.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        let error = |expected| OriginError { text: text.to_owned(), expected };
        let (prefix, uri) = match text.find("=coap://") {
            Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
            None => ("/", text),
        };
        if !prefix.starts_with('/') {
            return Err(error("a prefix that begins with a slash"));
        }
        let rest = uri.strip_prefix("coap://").ok_or_else(|| error("[/PREFIX=]coap://HOST[:PORT][/PATH]"))?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.starts_with('[') {
            return Err(error("an IPv4 address, or a name that has one"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            None => (authority, PORT),
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, port.ok_or_else(|| error("a port from 1 to 65535"))?)
            }
        };
        let (ip, name) = match host.parse::<Ipv4Addr>() {
            Ok(ip) => (ip, None),
            Err(_) => {
                let all = (host, port).to_socket_addrs().map_err(|_| error("a name that has an IPv4 address"))?;
                let ip = all.filter_map(|at| match at.ip() {
                    core::net::IpAddr::V4(ip) => Some(ip),
                    core::net::IpAddr::V6(_) => None,
                });
                (ip.take(1).next().ok_or_else(|| error("a name that has an IPv4 address"))?, Some(host.to_owned()))
            }
        };
        let is_path = |path: &str| !path.contains(['?', '#']);
        let base = segments(path).ok().filter(|_| is_path(path));
        let mut base = base.ok_or_else(|| error("a path as in a URL, without a query"))?;
        base.retain(|segment| !segment.is_empty());
        let trimmed = prefix.trim_end_matches('/');
        let under = segments(trimmed).ok().filter(|_| is_path(trimmed));
        let under = under.ok_or_else(|| error("a prefix as in a URL, without a query"))?;
        let prefix = if trimmed.is_empty() { "/" } else { trimmed }.to_owned();
        let at = SocketAddrV4::new(crate::far::carrier::inside(ip), port);
        Ok(Self { prefix, under, at, host: name, base })
    }
}

/// Which origin a request is for, and the options that name the resource there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The origin.
    pub origin: SocketAddrV4,
    /// Uri-Host, Uri-Path and Uri-Query.
    pub options: Vec<(u16, Vec<u8>)>,
    /// What stands before the path of a Location of this origin. `None`: its paths have no place among ours.
    pub locations: Option<String>,
}

/// Why a URI cannot be mapped: the HTTP status, and what to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status of the response.
    pub status: u16,
    /// What is counted.
    pub reason: Reason,
}

const BAD: Refused = Refused { status: 400, reason: Reason::BadUri };
const TOO_LONG: Refused = Refused { status: 414, reason: Reason::BadUri };
const FOREIGN: Refused = Refused { status: 403, reason: Reason::ForeignOrigin };
const NOT_FOUND: Refused = Refused { status: 404, reason: Reason::ForeignOrigin };
const OTHER_SCHEME: Refused = Refused { status: 501, reason: Reason::Unsupported };

/// Takes the authority off a target that has one: of `http://HOST:PORT/PATH?QUERY` (RFC 9112, section 3.2.2).
///
/// # Errors
/// [`Refused`]: it is neither this nor a path.
pub fn split(target: &str) -> Result<(Option<&str>, Cow<'_, str>), Refused> {
    if target.starts_with('/') {
        return Ok((None, target.into()));
    }
    let (scheme, rest) = target.split_once("://").ok_or(BAD)?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(BAD);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
    Ok((Some(authority), path))
}

/// Maps the target of a request: `/PATH?QUERY`, or with `http://HOST` before it, which decides nothing here.
///
/// # Errors
/// [`Refused`]: it is malformed, has a dot segment (CoAP has no place for one), is too long, or leads nowhere.
pub fn map(target: &str, origins: &[Origin]) -> Result<Target, Refused> {
    let (_, target) = split(target)?;
    let target = target.as_ref();
    if !target.starts_with('/') || target.contains('#') {
        return Err(BAD);
    }
    if let Some(hosted) = target.strip_prefix(HOSTING) {
        return map_hosted(hosted, origins);
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    // However it is encoded, it is the same path (RFC 3986, section 6.2.2.2).
    let path = segments(path)?;
    let under = |origin: &&Origin| path.starts_with(&origin.under);
    let origin = origins.iter().filter(under).max_by_key(|origin| origin.under.len()).ok_or(NOT_FOUND)?;
    let rest = path.get(origin.under.len()..).unwrap_or_default();
    let locations = origin.base.is_empty().then(|| origin.prefix.clone());
    options(origin, &origin.base, rest, query, locations)
}

/// `coap://HOST:PORT/PATH?QUERY`, also percent-encoded as a whole.
fn map_hosted(text: &str, origins: &[Origin]) -> Result<Target, Refused> {
    let decoded;
    let text = if text.starts_with("coap%3A") || text.starts_with("coap%3a") {
        decoded = String::from_utf8(decode(text)?).map_err(|_| BAD)?;
        &decoded
    } else {
        text
    };
    let Some(rest) = text.strip_prefix("coap://") else {
        let is_other = text.split_once("://").is_some_and(|(scheme, _)| scheme.starts_with("coap"));
        return Err(if is_other { OTHER_SCHEME } else { BAD });
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if authority.len() > MAX_SEGMENT {
        return Err(TOO_LONG);
    }
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let (host, port) = match authority.rsplit_once(':') {
        None => (authority, PORT),
        Some((host, port)) => (host, port.parse().map_err(|_| BAD)?),
    };
    let ip = host.parse::<Ipv4Addr>().ok().map(crate::far::carrier::inside);
    let is_it = |origin: &&Origin| {
        let is_named = origin.host.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(host));
        origin.at.port() == port && (ip == Some(*origin.at.ip()) || is_named)
    };
    let path = segments(path)?;
    let is_below = |origin: &&Origin| path.starts_with(&origin.base);
    let origin = origins.iter().filter(is_it).find(is_below).ok_or(FOREIGN)?;
    options(origin, &[], &path, query, Some(format!("{HOSTING}coap://{authority}")))
}

/// The segments of a path that is empty or begins with a slash, decoded. Dot segments are refused: CoAP has no place for them.
/// So are those with one behind an encoded slash, since a server that joins segments would take it for one.
fn segments(path: &str) -> Result<Vec<Vec<u8>>, Refused> {
    let all = path.strip_prefix('/').into_iter().flat_map(|path| path.split('/'));
    let has_dots =
        |segment: &[u8]| segment.split(|byte| b"/\\".contains(byte)).any(|part| matches!(part, b"." | b".."));
    all.map(text).map(|segment| segment.and_then(|s| if has_dots(&s) { Err(BAD) } else { Ok(s) })).collect()
}

fn options(
    origin: &Origin,
    base: &[Vec<u8>],
    path: &[Vec<u8>],
    query: Option<&str>,
    locations: Option<String>,
) -> Result<Target, Refused> {
    let mut options = Vec::new();
    if let Some(host) = &origin.host {
        options.push((option::URI_HOST, host.clone().into_bytes()));
    }
    // A path of nothing but a slash has no segments (RFC 7252, section 6.4).
    let path = if matches!(path, [only] if only.is_empty()) { &[] } else { path };
    options.extend(base.iter().chain(path).map(|segment| (option::URI_PATH, segment.clone())));
    if let Some(query) = query {
        for argument in query.split('&') {
            options.push((option::URI_QUERY, text(argument)?));
        }
    }
    let length = |value: &Vec<u8>| value.len() + 3;
    if options.iter().any(|(_, value)| value.len() > MAX_SEGMENT)
        || options.iter().map(|(_, value)| length(value)).sum::<usize>() > MAX_OPTIONS
    {
        return Err(TOO_LONG);
    }
    Ok(Target { origin: origin.at, options, locations })
}

/// A segment or an argument: UTF-8 without control characters.
fn text(encoded: &str) -> Result<Vec<u8>, Refused> {
    let bytes = decode(encoded)?;
    let is_text = core::str::from_utf8(&bytes).is_ok_and(|text| !text.chars().any(char::is_control));
    is_text.then_some(bytes).ok_or(BAD)
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<Vec<u8>, Refused> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len().min(MAX_SEGMENT));
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or(BAD);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            // Nothing that a URI cannot have.
            0x21..=0x7e if !b"\"<>\\^`{|}".contains(&byte) => byte,
            _ => return Err(BAD),
        });
    }
    Ok(decoded)
}

/// Percent-encodes the segments and arguments of a Location (RFC 7252, section 5.10.7), for HTTP's field.
/// `None` if there are none, or too many for a field: the client has its 201 without it.
#[must_use]
pub fn location<'a>(options: impl Iterator<Item = (u16, &'a [u8])> + Clone, prefix: &str) -> Option<String> {
    let mut location = String::new();
    let of = |wanted: u16| options.clone().filter(move |(number, _)| *number == wanted).map(|(_, value)| value);
    for segment in of(option::LOCATION_PATH) {
        location.push('/');
        encode(segment, &mut location);
    }
    for (at, argument) in of(option::LOCATION_QUERY).enumerate() {
        location.push(if at == 0 { '?' } else { '&' });
        encode(argument, &mut location);
    }
    let is_possible = (1..=MAX_LOCATION).contains(&location.len());
    is_possible.then(|| format!("{}{location}", prefix.trim_end_matches('/')))
}

fn encode(bytes: &[u8], text: &mut String) {
    use fmt::Write;
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~=".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // A String takes everything.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_with_and_without_prefix() {
        let origin: Origin = "coap://192.0.2.1".parse().unwrap();
        assert_eq!((origin.prefix.as_str(), origin.at.to_string().as_str()), ("/", "192.0.2.1:5683"));
        let origin: Origin = "/libcoap/=coap://127.0.0.1:7/a/b".parse().unwrap();
        assert_eq!((origin.prefix.as_str(), origin.at.to_string().as_str()), ("/libcoap", "198.18.0.1:7"));
        assert_eq!(origin.base, [b"a", b"b"]);
        let origin: Origin = "/a%20b=coap://192.0.2.1/c%2Fd".parse().unwrap();
        assert_eq!((origin.prefix.as_str(), &origin.base[..]), ("/a%20b", &[b"c/d".to_vec()][..]));
        for wrong in [
            "http://192.0.2.1",
            "x=coap://192.0.2.1",
            "coap://192.0.2.1:x",
            "coap://192.0.2.1:0",
            "coap://192.0.2.1:70000",
            "coap://",
            "coap://[2001:db8::1]",
            "coap://192.0.2.1/a?b",
            "coap://192.0.2.1/a/../b",
            "coap://192.0.2.1/a b",
            "/a=192.0.2.1",
            "/a?b=coap://192.0.2.1",
            "/a/..=coap://192.0.2.1",
            "/%=coap://192.0.2.1",
        ] {
            assert!(wrong.parse::<Origin>().unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_location_is_encoded_and_left_out_if_it_is_too_long() {
        let path = |length: usize| vec![b'%'; length];
        let of = |segment: &[u8]| location([(option::LOCATION_PATH, segment)].into_iter(), "/a/");
        assert_eq!(of(b"x y\r\n"), Some("/a/x%20y%0D%0A".into()));
        assert_eq!(of(&path(133)).map(|location| location.len()), Some(2 + 400));
        assert_eq!(of(&path(134)), None);
        let origins = ["coap://192.0.2.1".parse().unwrap()];
        let zeros = format!("/hc/coap://192.0.2.1:{}5683/x", "0".repeat(300));
        assert_eq!(map(&zeros, &origins), Err(TOO_LONG));
    }

    #[test]
    fn the_longest_prefix_decides() {
        let origins: [Origin; 3] =
            ["coap://192.0.2.1", "/a=coap://192.0.2.2/base", "/a/b=coap://192.0.2.3"].map(|text| text.parse().unwrap());
        let path = |target: &str| {
            let target = map(target, &origins).unwrap();
            let segments = target.options.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned());
            (target.origin.ip().octets()[3], segments.collect::<Vec<_>>().join("|"))
        };
        assert_eq!(path("/"), (1, String::new()));
        assert_eq!(path("/ab"), (1, "ab".into()));
        assert_eq!(path("/a/c?d&e=f"), (2, "base|c|d|e=f".into()));
        assert_eq!(path("/a/b/c/"), (3, "c|".into()));
        assert_eq!(
            (path("/a"), path("/a/"), path("/a//")),
            ((2, "base".into()), (2, "base".into()), (2, "base||".into()))
        );
        // The same paths, encoded otherwise; and one that is not the same.
        assert_eq!((path("/%61/c"), path("/%61/%62/c")), ((2, "base|c".into()), (3, "c".into())));
        assert_eq!(path("/a%2Fb/c"), (1, "a/b|c".into()));
        assert_eq!(path("http://host/a/b"), (3, String::new()));
        assert_eq!(path("HTTP://host:80/a/b?c"), (3, "c".into()));
        assert_eq!(path("http://host"), (1, String::new()));
        // What stands behind a question mark is no path.
        assert_eq!(path("http://host?a=/a/b"), (1, "a=/a/b".into()));
        for wrong in ["https://host/a", "coap://192.0.2.1/a", "host:80", "://host/a", "http:/host/a", ""] {
            assert_eq!(map(wrong, &origins), Err(BAD), "{wrong}");
        }
    }

    /// What an origin's own URI has before its paths is all that can be reached of it, also by a URI of CoAP.
    #[test]
    fn what_is_not_below_an_origin_is_out_of_reach() {
        let origins: [Origin; 2] =
            ["/lights=coap://192.0.2.2/l", "/more=coap://192.0.2.2/m/n"].map(|text| text.parse().unwrap());
        for target in [
            "/lights/1",
            "/hc/coap://192.0.2.2/l/1",
            "/hc/coap%3A%2F%2F192.0.2.2%2Fl%2F1",
            "/hc/coap://192.0.2.2/%6c/1",
        ] {
            let segments: Vec<_> = map(target, &origins).unwrap().options.into_iter().map(|(_, value)| value).collect();
            assert_eq!(segments, [b"l", b"1"], "{target}");
        }
        assert!(map("/hc/coap://192.0.2.2/m/n/o", &origins).is_ok());
        for target in
            ["/hc/coap://192.0.2.2", "/hc/coap://192.0.2.2/", "/hc/coap://192.0.2.2/m", "/hc/coap://192.0.2.2/ll"]
        {
            assert_eq!(map(target, &origins), Err(FOREIGN), "{target}");
        }
        assert_eq!((map("/", &origins), map("/light", &origins)), (Err(NOT_FOUND), Err(NOT_FOUND)));
    }
}

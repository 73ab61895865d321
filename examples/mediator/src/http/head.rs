//! The head of a request.

use super::host::Authority;
use crate::counters::Reason;
use crate::map::format::{self, Accept};

/// How many fields a head may have.
const MAX_FIELDS: usize = 64;

/// The longest target, in bytes (RFC 9110, section 4.1, recommends 8000; what is longer than this is too long for CoAP
/// in any case).
const MAX_TARGET: usize = 2048;

/// How many bytes of ETags an If-None-Match may have.
const MAX_ETAGS: usize = 4;

/// How the end of a body is found (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// The body has this many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// What the proxy needs of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// As it was sent.
    pub method: String,
    /// As it was sent.
    pub target: String,
    /// The field Host, if there is one. It is an [`Authority`], as far as its form goes.
    pub host: Option<String>,
    /// The field Origin: the page that has a browser send this.
    pub origin: Option<String>,
    /// Whether it is HTTP/1.1, not 1.0.
    pub is_1_1: bool,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// The body.
    pub framing: Framing,
    /// Whether the client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// The formats that the client accepts.
    pub accept: Accept,
    /// The body's format.
    pub content_format: Option<u16>,
    /// Whether the body has a format or a coding that CoAP does not have.
    pub is_of_foreign_format: bool,
    /// ETags of CoAP that the client has.
    pub if_none_match: Vec<Vec<u8>>,
    /// Whether it must not exist.
    pub if_none_match_any: bool,
    /// ETags of which it must have one.
    pub if_match: Vec<Vec<u8>>,
}

/// Why a request is refused: the status, and what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// What is counted.
    pub reason: Reason,
}

const BAD: Refused = Refused { status: 400, reason: Reason::BadRequest };

const fn unsupported(status: u16) -> Refused {
    Refused { status, reason: Reason::Unsupported }
}

/// Reads the head at the beginning of `input`: it and its length. `None` if it is not complete yet.
///
/// # Errors
/// [`Refused`]: it is malformed, or asks for something that there is not. The connection cannot go on, as it is not
/// known where the next request begins.
pub fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Refused> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(input) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(length)) => length,
        Err(httparse::Error::TooManyHeaders) => return Err(Refused { status: 431, reason: Reason::HeadTooLarge }),
        Err(httparse::Error::Version) => return Err(unsupported(505)),
        Err(_) => return Err(BAD),
    };
    // httparse ends a line at a bare line feed too, as a server may (RFC 9112, section 2.2). A proxy before us may not.
    let lines = input.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
    if lines.into_iter().any(|line| line.ends_with(b"\n") && !line.ends_with(b"\r\n")) {
        return Err(BAD);
    }
    let (method, target) = (request.method.ok_or(BAD)?, request.path.ok_or(BAD)?);
    if target.len() > MAX_TARGET {
        return Err(Refused { status: 414, reason: Reason::BadUri });
    }
    let is_1_1 = request.version == Some(1);
    let mut head = Head {
        method: method.to_owned(),
        target: target.to_owned(),
        host: None,
        origin: None,
        is_1_1,
        keep_alive: is_1_1,
        framing: Framing::None,
        expects_continue: false,
        accept: Accept::Any,
        content_format: None,
        is_of_foreign_format: false,
        if_none_match: Vec::new(),
        if_none_match_any: false,
        if_match: Vec::new(),
    };
    let (mut length_field, mut is_chunked) = (None, false);
    let (mut closes, mut accepted) = (false, None::<String>);
    for field in request.headers.iter() {
        // Nothing else is white space here: what others take for a part of the value must not be (RFC 9112, section 5).
        let value = core::str::from_utf8(field.value).map(|value| value.trim_matches([' ', '\t']));
        let name = |wanted: &str| field.name.eq_ignore_ascii_case(wanted);
        if name("host") {
            let value = value.ok().filter(|value| Authority::parse(value).is_some()).ok_or(BAD)?;
            // With two of them, two servers may each read another one (RFC 9112, section 3.2).
            if head.host.replace(value.to_owned()).is_some() {
                return Err(BAD);
            }
        } else if name("origin") {
            if head.origin.replace(value.map_err(|_| BAD)?.to_owned()).is_some() {
                return Err(BAD);
            }
        } else if name("content-length") {
            let value = value.map_err(|_| BAD)?;
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = Some(value).filter(|_| digits).and_then(|value| value.parse::<u64>().ok()).ok_or(BAD)?;
            // Two that differ are an attempt at request smuggling (RFC 9112, section 11.2).
            if length_field.is_some_and(|earlier| earlier != number) {
                return Err(BAD);
            }
            length_field = Some(number);
        } else if name("transfer-encoding") {
            if !value.is_ok_and(|value| value.eq_ignore_ascii_case("chunked")) {
                return Err(unsupported(501));
            }
            if is_chunked || !is_1_1 {
                return Err(BAD);
            }
            is_chunked = true;
        } else if name("connection") {
            let has = |wanted: &str| value.is_ok_and(|v| v.split(',').any(|o| o.trim().eq_ignore_ascii_case(wanted)));
            if has("close") {
                closes = true;
            } else if has("keep-alive") {
                head.keep_alive = true;
            }
        } else if name("expect") {
            if !value.is_ok_and(|value| value.eq_ignore_ascii_case("100-continue")) {
                return Err(unsupported(417));
            }
            head.expects_continue = is_1_1;
        } else if name("accept") {
            // Several are one list (RFC 9110, section 5.3).
            let value = value.map_err(|_| BAD)?;
            accepted = Some(accepted.map_or_else(|| value.to_owned(), |earlier| earlier + "," + value));
        } else if name("content-type") {
            let format = format::format(value.map_err(|_| BAD)?);
            head.content_format = format;
            head.is_of_foreign_format |= format.is_none();
        } else if name("content-encoding") {
            head.is_of_foreign_format |= !value.is_ok_and(|v| v.is_empty() || v.eq_ignore_ascii_case("identity"));
        } else if name("content-range") {
            // A part must not replace the whole (RFC 9110, section 14.5).
            return Err(BAD);
        } else if name("if-none-match") {
            let value = value.map_err(|_| BAD)?;
            head.if_none_match_any |= value == "*";
            etags(value, true, &mut head.if_none_match);
        } else if name("if-match") {
            let value = value.map_err(|_| BAD)?;
            // An empty If-Match is "*": the resource exists (RFC 7252, section 5.10.8.1).
            if value == "*" {
                head.if_match.push(Vec::new());
            } else {
                etags(value, false, &mut head.if_match);
                if head.if_match.is_empty() {
                    // None of them can be the resource's.
                    return Err(unsupported(412));
                }
            }
        }
    }
    if (is_1_1 && head.host.is_none()) || (is_chunked && length_field.is_some()) {
        return Err(BAD);
    }
    head.keep_alive &= !closes;
    if let Some(accepted) = accepted {
        head.accept = format::accept(&accepted);
    }
    head.framing = match (is_chunked, length_field) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) if length != 0 => Framing::Length(length),
        _ => Framing::None,
    };
    Ok(Some((head, length)))
}

/// ETags that came from CoAP: hexadecimal digits in quotes. Others are left out, since no resource here has them. Weak ones
/// equal none where the comparison is strong (RFC 9110, section 8.8.3.2).
fn etags(field: &str, weak: bool, etags: &mut Vec<Vec<u8>>) {
    for tag in field.split(',').take(MAX_ETAGS) {
        let tag = tag.trim();
        let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or_default();
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if digits.is_empty() || digits.len() > 16 || digits.len() % 2 != 0 || !is_hexadecimal {
            continue;
        }
        let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
        let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        etags.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(more: &str) -> Result<Option<(Head, usize)>, Refused> {
        parse(format!("GET /a?b HTTP/1.1\r\nHost: x\r\n{more}\r\n").as_bytes())
    }

    fn status(more: &str) -> u16 {
        get(more).expect_err(more).status
    }

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let whole = b"GET /a?b HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"0a\", W/\"ff00\", \"zz\"\r\n\r\nrest";
        for length in 0..whole.len() - 4 {
            assert_eq!(parse(&whole[..length]), Ok(None));
        }
        let (head, length) = parse(whole).unwrap().unwrap();
        assert_eq!(&whole[length..], b"rest");
        assert_eq!((head.method.as_str(), head.target.as_str(), head.keep_alive), ("GET", "/a?b", true));
        assert_eq!(head.if_none_match, [vec![10], vec![255, 0]]);
    }

    #[test]
    fn what_hides_where_a_request_ends_is_refused() {
        assert_eq!(status("Content-Length: 3\r\nContent-Length: 4\r\n"), 400);
        assert_eq!(status("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400);
        assert_eq!(status("Content-Length: +3\r\n"), 400);
        assert_eq!(status("Content-Length: 3, 3\r\n"), 400);
        assert_eq!(status("Content-Length:\r\n"), 400);
        assert_eq!(status("Content-Length: 99999999999999999999999\r\n"), 400);
        assert_eq!(status("Transfer-Encoding: gzip, chunked\r\n"), 501);
        // What is white space to Unicode, but not to HTTP; folded lines; line ends that are none.
        assert_eq!(status("Content-Length: \u{a0}3\r\n"), 400);
        assert_eq!(status("Content-Length: 3\u{2003}\r\n"), 400);
        assert_eq!(status("Transfer-Encoding: \u{a0}chunked\r\n"), 501);
        assert_eq!(status("Transfer-Encoding:\u{85}chunked\r\n"), 501);
        assert_eq!(status("Transfer-Encoding: \x0bchunked\r\n"), 400);
        assert_eq!(status("Transfer-Encoding:\r\n chunked\r\n"), 400);
        assert_eq!(status("A: b\rContent-Length: 3\r\n"), 400);
        assert_eq!(status("A: b\0\r\n"), 400);
        assert_eq!(status("Content-Length: 3\r\nContent-Length: 03\r\nTransfer-Encoding: x\r\n"), 501);
        assert_eq!(status("Content-Range: bytes 0-1/2\r\n"), 400);
        assert_eq!(status("If-Match: W/\"0a\", \"+a\", 0a\r\n"), 412);
        assert_eq!(status("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400);
        assert_eq!(status("Host: y\r\n"), 400);
        assert_eq!(status("Expect: something\r\n"), 417);
        assert_eq!(status("A : b\r\n"), 400);
        assert_eq!(status(&"A: b\r\n".repeat(64)), 431);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n").unwrap_err().status, 400);
        assert_eq!(parse(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n").unwrap_err().status, 505);
        let both = get("Connection: close\r\nConnection: keep-alive\r\n").unwrap().unwrap();
        assert!(!both.0.keep_alive);
        let lists = get("Accept: application/json;q=0.1\r\nAccept: application/cbor\r\n").unwrap().unwrap();
        assert_eq!(lists.0.accept, Accept::Format(60));
        let twice = get("Content-Length: 3\r\nContent-Length: 3\r\n").unwrap().unwrap();
        assert_eq!(twice.0.framing, Framing::Length(3));
    }
}

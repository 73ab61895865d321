//! Downloads over HTTP/1.1: requests the rest of a response with a range (RFC 9110, section 14).

use crate::connection::Direction;
use crate::endpoint::Pair;
use crate::translator::handover::resumption::{AtRest, Checked, Observed, Position, Resumed, Resumption};

/// How many header fields of a message are read.
const FIELDS: usize = 48;
/// The longest entity tag that is remembered, in bytes, quotes included.
const TAG: usize = 64;

/// Hands over HTTP/1.1 downloads: `GET` requests whose responses have a length and a strong entity tag (RFC 9110,
/// section 8.8.3), and connections between two requests.
///
/// In the middle of a body the new server is asked for the rest, with `Range` and `If-Range`; only a 206 with the same
/// tag, the same range and the same length is accepted. While nothing of the response has arrived, the request is
/// repeated as it was: `GET` is idempotent (RFC 9110, section 9.2.2). Between requests the connection moves as with
/// [`AtRest`]. A connection stays where it is in the middle of a response's head, in the middle of a body without a
/// strong tag, after any other method, while requests are pipelined, and when the response is chunked or longer than
/// 2 GiB.
///
/// It remembers the heads of the last requests of `HEADS` connections, each up to `BYTES` bytes. It sees only what
/// passes through [`HandOvers::translate`](crate::HandOvers::translate), and reads a response's head if one segment has
/// all of it. A connection that it does not know stays until its client's next request: one of more than `HEADS`, one
/// whose client has not asked anything, or one that another process has handed to this one.
#[derive(Clone, Debug)]
pub struct HttpGet<const HEADS: usize, const BYTES: usize = 1024> {
    heads: [Head<BYTES>; HEADS],
    /// The place to use next.
    next: usize,
    at_rest: AtRest,
}

/// The last request of a connection, and its response.
#[derive(Clone, Copy, Debug)]
struct Head<const BYTES: usize> {
    client_side: Option<Pair>,
    bytes: [u8; BYTES],
    length: usize,
    /// The sequence number after the request, and that of the first byte of its response.
    end: u32,
    answer: u32,
    stage: Seen,
    response: Response,
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Part of a request.
    Part,
    /// A whole `GET`.
    Request,
    /// The head of its response.
    Response,
    /// Something that cannot be resumed.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Response {
    /// The sequence number of the body's first byte.
    body: u32,
    /// Bytes of the body.
    length: u32,
    /// Where the body begins in the representation.
    start: u64,
    tag: [u8; TAG],
    tag_length: usize,
}

/// What a new server was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Whole,
    /// The bytes from the first to the last.
    Range(u64, u64),
}

impl Response {
    const NONE: Self = Self { body: 0, length: 0, start: 0, tag: [0; TAG], tag_length: 0 };

    fn tag(&self) -> &[u8] {
        self.tag.get(..self.tag_length).unwrap_or_default()
    }
}

impl<const BYTES: usize> Head<BYTES> {
    const NONE: Self = Self {
        client_side: None,
        bytes: [0; BYTES],
        length: 0,
        end: 0,
        answer: 0,
        stage: Seen::Other,
        response: Response::NONE,
        asked: Asked::Nothing,
    };

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Appends what the client has sent.
    fn add(&mut self, data: &[u8]) {
        self.end = self.end.wrapping_add(data.len() as u32);
        match self.bytes.get_mut(self.length..self.length + data.len()) {
            Some(place) => {
                place.copy_from_slice(data);
                self.length += data.len();
            }
            None => {
                self.stage = Seen::Other;
                return;
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        self.stage = match request.parse(self.bytes()) {
            Ok(httparse::Status::Partial) => Seen::Part,
            // Bytes after the head would be a body, or another request.
            Ok(httparse::Status::Complete(length)) if length == self.length && request.method == Some("GET") => {
                let is_plain = |field: &httparse::Header<'_>| {
                    let is = |name| field.name.eq_ignore_ascii_case(name);
                    // Some clients state explicitly that there is no body.
                    let is_empty = is("content-length") && field.value == b"0";
                    is_empty || !["content-length", "transfer-encoding", "upgrade", "expect"].into_iter().any(is)
                };
                if request.headers.iter().all(is_plain) && request.version == Some(1) {
                    Seen::Request
                } else {
                    Seen::Other
                }
            }
            _ => Seen::Other,
        };
    }

    /// Writes the request for the bytes from `first` to `last` of the representation. `None` if there is no room.
    fn write_range(&self, first: u64, last: u64, buffer: &mut [u8]) -> Option<usize> {
        let mut out = Out { buffer, length: 0 };
        let head = self.bytes();
        let lines = head.strip_suffix(b"\r\n\r\n")?;
        for line in lines.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if name.eq_ignore_ascii_case(b"range") || name.eq_ignore_ascii_case(b"if-range") {
                continue;
            }
            out.add(line)?;
            out.add(b"\r\n")?;
        }
        out.add(b"Range: bytes=")?;
        out.number(first)?;
        out.add(b"-")?;
        out.number(last)?;
        out.add(b"\r\nIf-Range: ")?;
        out.add(self.response.tag())?;
        out.add(b"\r\n\r\n")?;
        Some(out.length)
    }
}

/// Text under construction.
struct Out<'b> {
    buffer: &'b mut [u8],
    length: usize,
}

impl Out<'_> {
    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        self.buffer.get_mut(self.length..self.length + bytes.len())?.copy_from_slice(bytes);
        self.length += bytes.len();
        Some(())
    }

    fn number(&mut self, number: u64) -> Option<()> {
        let mut digits = [0; 20];
        let mut place = digits.len();
        let mut rest = number;
        loop {
            place -= 1;
            *digits.get_mut(place)? = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.add(digits.get(place..)?)
    }
}

/// The head of a response as far as it matters here.
struct Parsed<'a> {
    status: u16,
    /// Bytes of the head.
    head: usize,
    length: Option<u64>,
    tag: Option<&'a [u8]>,
    /// First, last and total of a range.
    range: Option<(u64, u64, u64)>,
    is_chunked: bool,
}

/// Reads a response's head. `Ok(None)` if it is not complete.
fn parse(data: &[u8]) -> Result<Option<Parsed<'_>>, ()> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(data) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let mut parsed =
        Parsed { status: response.code.unwrap_or(0), head, length: None, tag: None, range: None, is_chunked: false };
    for field in response.headers.iter() {
        let value = field.value.trim_ascii();
        if field.name.eq_ignore_ascii_case("content-length") {
            parsed.length = Some(number(value).ok_or(())?);
        } else if field.name.eq_ignore_ascii_case("etag") {
            parsed.tag = Some(value);
        } else if field.name.eq_ignore_ascii_case("content-range") {
            parsed.range = Some(content_range(value).ok_or(())?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            parsed.is_chunked = true;
        }
    }
    Ok(Some(parsed))
}

fn number(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// `bytes FIRST-LAST/TOTAL` (RFC 9110, section 14.4).
fn content_range(value: &[u8]) -> Option<(u64, u64, u64)> {
    let text = core::str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}

#[cfg(feature = "defmt")]
impl<const HEADS: usize, const BYTES: usize> defmt::Format for HttpGet<HEADS, BYTES> {
    /// How much it can remember.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "HttpGet {{ heads: {}, bytes: {} }}", HEADS, BYTES);
    }
}

impl<const HEADS: usize, const BYTES: usize> HttpGet<HEADS, BYTES> {
    /// Creates one that remembers nothing yet. Between requests a connection moves when it is at rest as `at_rest`
    /// defines it.
    #[must_use]
    pub const fn new(at_rest: AtRest) -> Self {
        Self { heads: [Head::NONE; HEADS], next: 0, at_rest }
    }

    fn find(&mut self, client_side: &Pair) -> Option<&mut Head<BYTES>> {
        self.heads.iter_mut().find(|head| head.client_side.as_ref() == Some(client_side))
    }

    fn observe_request(&mut self, observed: &Observed<'_>) {
        let Observed { client_side, sequence, acknowledgment, data, .. } = observed;
        if let Some(head) = self.find(client_side) {
            let ahead = sequence.wrapping_sub(head.end);
            if head.stage == Seen::Part && ahead == 0 {
                head.answer = *acknowledgment;
                return head.add(data);
            }
            if ahead >= 1 << 31 && head.stage != Seen::Other {
                // A retransmission.
                return;
            }
            if head.stage == Seen::Request || head.stage == Seen::Part {
                // A second request before the first is answered, or data is missing.
                (head.stage, head.end) = (Seen::Other, sequence.wrapping_add(data.len() as u32));
                return;
            }
        }
        let starts = data.starts_with(b"GET ");
        if let Some(head) = self.place_for(client_side) {
            *head = Head { client_side: Some(*client_side), end: *sequence, answer: *acknowledgment, ..Head::NONE };
            if starts {
                head.add(data);
            }
        }
    }

    /// The place for a new request of this connection.
    fn place_for(&mut self, client_side: &Pair) -> Option<&mut Head<BYTES>> {
        let known = self.heads.iter().position(|head| head.client_side.as_ref() == Some(client_side));
        let place = known.unwrap_or(self.next);
        if known.is_none() {
            self.next = if self.next + 1 >= HEADS { 0 } else { self.next + 1 };
        }
        self.heads.get_mut(place)
    }
}

impl<const HEADS: usize, const BYTES: usize> Resumption for HttpGet<HEADS, BYTES> {
    const OBSERVES: bool = true;

    fn observe(&mut self, observed: &Observed<'_>) {
        match observed.direction {
            Direction::ToServer => self.observe_request(observed),
            Direction::ToClient => {
                let Some(head) = self.find(&observed.client_side).filter(|head| head.stage == Seen::Request) else {
                    return;
                };
                if observed.sequence == head.answer {
                    head.stage = match response_in(observed.sequence, observed.data) {
                        Some(response) => {
                            head.response = response;
                            Seen::Response
                        }
                        None => Seen::Other,
                    };
                }
            }
        }
    }

    fn resume(&mut self, position: &Position, buffer: &mut [u8]) -> Resumed {
        let at_rest = self.at_rest;
        let Some(head) = self.find(&position.client_side) else {
            // It may be in the middle of anything.
            return Resumed::Refuse;
        };
        head.asked = Asked::Nothing;
        match head.stage {
            Seen::Request
                if position.awaits_answer && position.all_acknowledged && head.end == position.client_next =>
            {
                let Some(place) = buffer.get_mut(..head.length) else {
                    return Resumed::Refuse;
                };
                place.copy_from_slice(head.bytes());
                head.asked = Asked::Whole;
                Resumed::Write(head.length)
            }
            Seen::Response if head.end == position.client_next => {
                let Response { body, length, start, .. } = head.response;
                let done = position.server_next.wrapping_sub(body);
                if done == length {
                    return at_rest_only(at_rest, position, buffer);
                }
                if done > length || head.response.tag().is_empty() {
                    // In the middle of the head, or of a body that may differ on another server.
                    return Resumed::Refuse;
                }
                let (first, last) = (start + u64::from(done), start + u64::from(length) - 1);
                match head.write_range(first, last, buffer) {
                    Some(length) => {
                        head.asked = Asked::Range(first, last);
                        Resumed::Write(length)
                    }
                    None => Resumed::Refuse,
                }
            }
            _ => Resumed::Refuse,
        }
    }

    fn check(&mut self, position: &Position, received: &[u8]) -> Checked {
        let at_rest = self.at_rest;
        let Some(head) = self.find(&position.client_side) else {
            return Checked::Refuse;
        };
        match head.asked {
            Asked::Nothing => Resumption::check(&mut { at_rest }, position, received),
            Asked::Whole if received.is_empty() => Checked::More,
            Asked::Whole => {
                // The client will see the response's head, from its first byte.
                let start: &[u8] = b"HTTP/1.1 ";
                let common = received.iter().zip(start).all(|(one, other)| one == other);
                if !common {
                    Checked::Refuse
                } else if received.len() < start.len() {
                    Checked::Undecided
                } else {
                    head.stage = response_in(position.server_next, received).map_or(Seen::Other, |response| {
                        head.response = response;
                        Seen::Response
                    });
                    Checked::Accept { dropped: 0 }
                }
            }
            Asked::Range(first, last) => match parse(received) {
                Ok(None) => Checked::More,
                Ok(Some(parsed)) => {
                    let range = parsed.range.map(|(first, last, _)| (first, last));
                    let same = parsed.status == 206
                        && range == Some((first, last))
                        && parsed.length.is_none_or(|length| length == last - first + 1)
                        && parsed.tag == Some(head.response.tag())
                        && !parsed.is_chunked;
                    if same { Checked::Accept { dropped: parsed.head } } else { Checked::Refuse }
                }
                Err(()) => Checked::Refuse,
            },
        }
    }
}

/// Resumes as [`AtRest`] does: there is no request that could be repeated.
fn at_rest_only(mut at_rest: AtRest, position: &Position, buffer: &mut [u8]) -> Resumed {
    at_rest.resume(position, buffer)
}

/// The response that begins with this data. `None` if it does not say where it ends.
fn response_in(sequence: u32, data: &[u8]) -> Option<Response> {
    let parsed = parse(data).ok()??;
    let length = match parsed.status {
        // Another response follows, or another protocol.
        0..=199 => return None,
        // Whatever it says of its length, it has no body (RFC 9110, section 6.4.1).
        204 | 304 => 0,
        _ if parsed.is_chunked => return None,
        _ => u32::try_from(parsed.length?).ok().filter(|length| *length < 1 << 31)?,
    };
    let mut response = Response { body: sequence.wrapping_add(parsed.head as u32), length, ..Response::NONE };
    let start = match (parsed.status, parsed.range) {
        (200, _) => Some(0),
        (206, Some((first, last, _))) if last.checked_sub(first)?.checked_add(1)? == u64::from(length) => Some(first),
        _ => None,
    };
    let tag = parsed.tag.filter(|tag| tag.starts_with(b"\"") && tag.len() <= TAG && tag.len() >= 2);
    // Without these the rest cannot be requested: a hand-over has to wait for the end of the response.
    if let (Some(start), Some(tag)) = (start, tag) {
        (response.start, response.tag_length) = (start, tag.len());
        response.tag.get_mut(..tag.len())?.copy_from_slice(tag);
    }
    Some(response)
}

//! CoAP messages as bytes (RFC 7252, section 3): a reader that borrows, and a writer.

use core::fmt;

/// The longest token, in bytes (RFC 7252, section 3).
pub const MAX_TOKEN: usize = 8;

/// The version, in the upper two bits of the first byte.
const VERSION: u8 = 1;
/// Separates options from the payload.
const MARKER: u8 = 0xff;

/// The numbers of the options that the proxy uses (RFC 7252, section 5.10; RFC 7641, section 2; RFC 7959, section 2.1
/// and 4). Odd numbers are critical.
pub mod option {
    /// Do it only if the resource has one of these ETags.
    pub const IF_MATCH: u16 = 1;
    /// The host of the URI.
    pub const URI_HOST: u16 = 3;
    /// Names one representation of a resource; 1 to 8 bytes.
    pub const ETAG: u16 = 4;
    /// Do it only if the resource does not exist.
    pub const IF_NONE_MATCH: u16 = 5;
    /// Registers (0) or deregisters (1) an observer; in a notification, its order.
    pub const OBSERVE: u16 = 6;
    /// A segment of the path of what was created.
    pub const LOCATION_PATH: u16 = 8;
    /// A segment of the path.
    pub const URI_PATH: u16 = 11;
    /// The payload's format.
    pub const CONTENT_FORMAT: u16 = 12;
    /// How many seconds a response may be cached.
    pub const MAX_AGE: u16 = 14;
    /// An argument of the query.
    pub const URI_QUERY: u16 = 15;
    /// The format that is wanted.
    pub const ACCEPT: u16 = 17;
    /// An argument of the query of what was created.
    pub const LOCATION_QUERY: u16 = 20;
    /// A block of the response.
    pub const BLOCK2: u16 = 23;
    /// A block of the request.
    pub const BLOCK1: u16 = 27;
    /// The size of the whole response, in bytes.
    pub const SIZE2: u16 = 28;
    /// The size of the whole request, in bytes.
    pub const SIZE1: u16 = 60;
}

/// What a message is at the message layer (RFC 7252, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is sent again until it is acknowledged.
    Confirmable,
    /// It is sent once.
    NonConfirmable,
    /// It acknowledges a confirmable message, and may hold the response.
    Acknowledgement,
    /// Its sender could not process a message.
    Reset,
}

/// A method or a response code, `class.detail` (RFC 7252, section 12.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u8);

#[expect(missing_docs, reason = "each has the name that the registry has for it")]
impl Code {
    pub const EMPTY: Self = Self(0);
    pub const GET: Self = Self(1);
    pub const POST: Self = Self(2);
    pub const PUT: Self = Self(3);
    pub const DELETE: Self = Self(4);
    /// RFC 8132.
    pub const PATCH: Self = Self(6);
    pub const CREATED: Self = Self::new(2, 1);
    pub const DELETED: Self = Self::new(2, 2);
    pub const VALID: Self = Self::new(2, 3);
    pub const CHANGED: Self = Self::new(2, 4);
    pub const CONTENT: Self = Self::new(2, 5);
    pub const CONTINUE: Self = Self::new(2, 31);
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    pub const BAD_OPTION: Self = Self::new(4, 2);
    pub const NOT_FOUND: Self = Self::new(4, 4);
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::new(4, 8);
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::new(4, 13);
    pub const SERVICE_UNAVAILABLE: Self = Self::new(5, 3);

    /// The code `class.detail`.
    #[must_use]
    pub const fn new(class: u8, detail: u8) -> Self {
        Self((class << 5) | (detail & 0x1f))
    }

    /// 0 is a request or empty, 2 success, 4 the client's error, 5 the server's.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The number after the dot.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }

    /// Whether it is a response's: one of the classes 2, 4 and 5.
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

/// What relates a response to its request: 0 to 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token {
    bytes: [u8; MAX_TOKEN],
    length: u8,
}

impl Token {
    /// A token of eight bytes.
    #[must_use]
    pub const fn new(bytes: [u8; MAX_TOKEN]) -> Self {
        Self { bytes, length: MAX_TOKEN as u8 }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn from_slice(slice: &[u8]) -> Option<Self> {
        let mut token = Self { bytes: [0; MAX_TOKEN], length: u8::try_from(slice.len()).ok()? };
        token.bytes.get_mut(..slice.len())?.copy_from_slice(slice);
        Some(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why bytes are no CoAP message: a format error of RFC 7252, section 3 or 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends inside its header, its token or an option.
    Short,
    /// It is of another version.
    Version,
    /// The length of its token is 9 or more.
    Token,
    /// An option's delta or length is 15, or its number is above 65535.
    Option,
    /// Nothing follows the payload marker.
    Marker,
    /// An empty message is longer than its header.
    Empty,
}

/// A message that was received. Its options were checked: iterating over them cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it is at the message layer.
    pub kind: Kind,
    /// What it asks for or answers.
    pub code: Code,
    /// Relates acknowledgements and resets to it, and tells repetitions.
    pub id: u16,
    /// Relates the response to the request.
    pub token: Token,
    options: &'a [u8],
    /// The body, or a block of it.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Malformed`], if it is no message of RFC 7252.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (&[first, code, high, low], rest) = datagram.split_first_chunk().ok_or(Malformed::Short)?;
        if first >> 6 != VERSION {
            return Err(Malformed::Version);
        }
        let kind = match (first >> 4) & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        let length = usize::from(first & 0x0f);
        if length > MAX_TOKEN {
            return Err(Malformed::Token);
        }
        let (token, rest) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
        let (code, id) = (Code(code), u16::from_be_bytes([high, low]));
        if code == Code::EMPTY && (length != 0 || !rest.is_empty()) {
            return Err(Malformed::Empty);
        }
        let token = Token::from_slice(token).ok_or(Malformed::Token)?;
        let (mut left, mut number) = (rest, 0);
        while let Some(next) = split_option(left, number)? {
            (number, left) = (next.number, next.rest);
        }
        let options = rest.get(..rest.len() - left.len()).unwrap_or_default();
        let payload = match left.split_first() {
            None => left,
            Some((_marker, [])) => return Err(Malformed::Marker),
            Some((_marker, payload)) => payload,
        };
        Ok(Self { kind, code, id, token, options, payload })
    }

    /// Its options in order: number and value.
    pub fn options(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let (mut left, mut number) = (self.options, 0);
        core::iter::from_fn(move || {
            // Checked when the message was parsed.
            let next = split_option(left, number).ok()??;
            (number, left) = (next.number, next.rest);
            Some((number, next.value))
        })
    }

    /// The first option with this number.
    #[must_use]
    pub fn option(&self, number: u16) -> Option<&'a [u8]> {
        self.options().find(|option| option.0 == number).map(|option| option.1)
    }

    /// The first option with this number, as an unsigned integer of at most `bytes` bytes. A longer one counts as not
    /// there (RFC 7252, section 5.4.3).
    #[must_use]
    pub fn uint(&self, number: u16, bytes: usize) -> Option<u32> {
        let value = self.option(number).filter(|value| value.len() <= bytes.min(4))?;
        Some(value.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)))
    }
}

struct Split<'a> {
    number: u16,
    value: &'a [u8],
    rest: &'a [u8],
}

/// The next option; none at the end or at the payload marker.
fn split_option(bytes: &[u8], previous: u16) -> Result<Option<Split<'_>>, Malformed> {
    let Some((&first, rest)) = bytes.split_first().filter(|(first, _)| **first != MARKER) else {
        return Ok(None);
    };
    let (delta, rest) = extended(first >> 4, rest)?;
    let (length, rest) = extended(first & 0x0f, rest)?;
    let number = u32::from(previous) + delta;
    let number = u16::try_from(number).map_err(|_| Malformed::Option)?;
    let (value, rest) = rest.split_at_checked(length as usize).ok_or(Malformed::Short)?;
    Ok(Some(Split { number, value, rest }))
}

/// A nibble, with what extends it (RFC 7252, section 3.1).
fn extended(nibble: u8, rest: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    match nibble {
        13 => rest.split_first().map(|(more, rest)| (u32::from(*more) + 13, rest)).ok_or(Malformed::Short),
        14 => rest
            .split_first_chunk()
            .map(|(more, rest)| (u32::from(u16::from_be_bytes(*more)) + 269, rest))
            .ok_or(Malformed::Short),
        15 => Err(Malformed::Option),
        small => Ok((u32::from(small), rest)),
    }
}

/// An option to send: its number and its value.
pub type ToSend<'a> = (u16, &'a [u8]);

/// Writes a message. The options are put into order; those of one number stay in theirs.
#[must_use]
pub fn write(kind: Kind, code: Code, id: u16, token: Token, options: &mut [ToSend<'_>], payload: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::Confirmable => 0,
        Kind::NonConfirmable => 1,
        Kind::Acknowledgement => 2,
        Kind::Reset => 3,
    };
    let mut bytes = Vec::with_capacity(64 + payload.len());
    bytes.push((VERSION << 6) | (kind << 4) | token.length);
    bytes.push(code.0);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(token.as_bytes());
    options.sort_by_key(|option| option.0);
    let mut previous = 0;
    for (number, value) in options {
        // Nothing longer than a block is ever sent.
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let value = value.get(..usize::from(length)).unwrap_or_default();
        let (delta, delta_more) = nibble(*number - previous);
        let (length, length_more) = nibble(length);
        bytes.push((delta << 4) | length);
        for more in [delta_more, length_more] {
            match more {
                More::None => {}
                More::One(byte) => bytes.push(byte),
                More::Two(bytes_of) => bytes.extend_from_slice(&bytes_of),
            }
        }
        bytes.extend_from_slice(value);
        previous = *number;
    }
    if !payload.is_empty() {
        bytes.push(MARKER);
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Gives a message that was written another identifier.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// An empty message: an acknowledgement or a reset of the message `id`.
#[must_use]
pub fn empty(kind: Kind, id: u16) -> Vec<u8> {
    write(kind, Code::EMPTY, id, Token::default(), &mut [], &[])
}

enum More {
    None,
    One(u8),
    Two([u8; 2]),
}

fn nibble(value: u16) -> (u8, More) {
    match value {
        0..13 => (value as u8, More::None),
        13..269 => (13, More::One((value - 13) as u8)),
        _ => (14, More::Two((value - 269).to_be_bytes())),
    }
}

/// An unsigned integer as an option's value: without leading zeros (RFC 7252, section 3.2).
#[derive(Clone, Copy, Debug)]
pub struct Uint {
    bytes: [u8; 4],
    skip: usize,
}

impl Uint {
    /// The value of this number.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self { bytes: value.to_be_bytes(), skip: value.leading_zeros() as usize / 8 }
    }

    /// Its bytes: none for zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.skip..).unwrap_or_default()
    }
}

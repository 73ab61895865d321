//! What is wrong with a text that should say a rule, or a part of one.

use core::fmt;

/// The longest piece of a text that an error repeats, in bytes.
const EXCERPT: usize = 32;

/// Why a text could not be read as a [`Prefix`](crate::Prefix), [`Protocol`](crate::Protocol), [`Match`](crate::Match),
/// [`Target`](crate::Target), [`Weighted`](crate::Weighted), [`Redivert`](crate::Redivert),
/// [`Midstream`](crate::Midstream) or [`Divert`](crate::Divert).
///
/// ```
/// let wrong = "192.0.2.0/33:53 udp".parse::<byway::Match>().unwrap_err();
/// assert_eq!((wrong.field(), wrong.text(), wrong.expected()), ("prefix length", "33", "a number from 0 to 32"));
/// assert_eq!(wrong.to_string(), "prefix length \"33\": it must be a number from 0 to 32");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    field: &'static str,
    expected: &'static str,
    excerpt: [u8; EXCERPT],
    length: u8,
}

impl ParseError {
    #[cold]
    pub(crate) fn new(field: &'static str, text: &str, expected: &'static str) -> Self {
        let text = text.trim_ascii();
        let mut length = text.len().min(EXCERPT);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        let mut excerpt = [0; EXCERPT];
        for (to, from) in excerpt.iter_mut().zip(text.as_bytes().iter().take(length)) {
            *to = *from;
        }
        Self { field, expected, excerpt, length: length as u8 }
    }

    /// Which part of the text is wrong: `"address"`, `"prefix length"`, `"port"`, `"protocol"`, `"weight"` and so on.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What stands there: at most the first 32 bytes. Empty if the text ends where something should follow.
    #[must_use]
    pub fn text(&self) -> &str {
        let bytes = self.excerpt.get(..usize::from(self.length)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// What should stand there.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.expected
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: it must be {}", self.field, self.text(), self.expected)
    }
}

impl fmt::Debug for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParseError")
            .field("field", &self.field)
            .field("text", &self.text())
            .field("expected", &self.expected)
            .finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for ParseError {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{} \"{}\": it must be {}", self.field, self.text(), self.expected);
    }
}

impl core::error::Error for ParseError {}

/// Reads a number: digits and nothing else.
pub(crate) fn number<T: core::str::FromStr>(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<T, ParseError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| ParseError::new(field, text, expected))
}

/// Reads what may have a port behind it: what stands in front, and the port.
pub(crate) fn with_port(text: &str) -> Result<(&str, Option<u16>), ParseError> {
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((rest, port)) => Ok((rest, Some(number("port", port, "a number from 0 to 65535")?))),
    }
}

pub(crate) fn address(text: &str) -> Result<core::net::Ipv4Addr, ParseError> {
    text.parse().map_err(|_| ParseError::new("address", text, "an IPv4 address"))
}

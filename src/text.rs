//! Helpers for parsing the text forms of rules and their parts.

use core::net::Ipv4Addr;

use crate::error::ParseError;

pub(crate) fn address(text: &str) -> Result<Ipv4Addr, ParseError> {
    text.parse().map_err(|_| ParseError::new("address", text, "an IPv4 address"))
}

/// Parses a text that may end with a port: the part before it, and the port.
pub(crate) fn with_port(text: &str) -> Result<(&str, Option<u16>), ParseError> {
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((rest, port)) => Ok((rest, Some(number("port", port, "a number from 0 to 65535")?))),
    }
}

/// Parses a number: digits and nothing else.
pub(crate) fn number<T: core::str::FromStr>(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<T, ParseError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| ParseError::new(field, text, expected))
}

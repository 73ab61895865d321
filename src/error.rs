//! Errors in a configuration, or in the text form of a rule or part of one.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use crate::limits::{MAX_ALTERNATIVES, MAX_CONNECTIONS, MAX_TIMEOUT};

/// Why a configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfigError {
    /// More alternative address ranges than [`MAX_ALTERNATIVES`].
    TooManyAlternatives {
        /// The first address of the last range that was added.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        first: Ipv4Addr,
        /// Its last address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        last: Ipv4Addr,
    },
    /// More other own addresses than [`MAX_ALTERNATIVES`].
    TooManyOwn {
        /// The last one that was added.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        address: Ipv4Addr,
    },
    /// A range of alternative addresses or ports that is empty, or has only port zero, which is never used.
    EmptyAlternative {
        /// The first address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        first: Ipv4Addr,
        /// The last address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        last: Ipv4Addr,
        /// The first and the last port.
        ports: (u16, u16),
    },
    /// An alternative address that no packet may have (RFC 1812, section 5.3.7).
    MartianAlternative {
        /// The address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        address: Ipv4Addr,
    },
    /// A time-out below the floor of the RFCs; see
    /// [`Config::allow_short_timeouts`](crate::Config::allow_short_timeouts).
    TimeoutTooShort {
        /// The field of [`Timeouts`](crate::Timeouts).
        name: &'static str,
        /// The requested value.
        value: Duration,
        /// The smallest valid value.
        floor: Duration,
    },
    /// A time-out above [`Timeouts::MAX`](crate::Timeouts::MAX).
    TimeoutTooLong {
        /// The field of [`Timeouts`](crate::Timeouts).
        name: &'static str,
        /// The requested value.
        value: Duration,
    },
    /// A limit per client above 65 534.
    ClientLimit {
        /// The requested value.
        value: u32,
    },
    /// The storage has room for fewer than 8 connections, for 13 to 15 (of which its index would hold 12), or for more
    /// than 2^28.
    Capacity {
        /// How many connections it has room for.
        connections: usize,
    },
    /// The storage has fewer index places than [`INDEX_WORDS`](crate::INDEX_WORDS) for each connection, or a number of
    /// measurements that is neither zero nor the number of connections.
    MismatchedStorage {
        /// The slice.
        name: &'static str,
        /// Its length.
        length: usize,
        /// The length that it must have.
        expected: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyAlternatives { first, last } => {
                write!(
                    f,
                    "alternative {first}-{last}: there is room for {MAX_ALTERNATIVES} ranges and not for this one"
                )
            }
            Self::TooManyOwn { address } => {
                write!(f, "own {address}: there is room for {MAX_ALTERNATIVES} addresses and not for this one")
            }
            Self::EmptyAlternative { first, last, ports: (low, high) } => {
                write!(f, "alternative {first}-{last}, ports {low}-{high}: the range is empty")
            }
            Self::MartianAlternative { address } => {
                write!(f, "alternative {address}: no packet may bear this address")
            }
            Self::TimeoutTooShort { name, value, floor } => {
                write!(f, "time-out {name} of {value:?} is below the floor of {floor:?}")
            }
            Self::TimeoutTooLong { name, value } => {
                write!(f, "time-out {name} of {value:?} is above {:?}", MAX_TIMEOUT)
            }
            Self::ClientLimit { value } => write!(f, "client limit of {value} is above 65534"),
            Self::Capacity { connections } => {
                write!(f, "room for {connections} connections; valid are 8 to 12, and 16 to {}", MAX_CONNECTIONS)
            }
            Self::MismatchedStorage { name, length, expected } => {
                write!(f, "storage for {name} has {length} places instead of {expected}")
            }
        }
    }
}

impl core::error::Error for ConfigError {}

/// The longest part of the text that an error repeats, in bytes.
const EXCERPT: usize = 32;

/// Why a text could not be parsed as a [`Prefix`](crate::Prefix), [`Protocol`](crate::Protocol),
/// [`Match`](crate::Match), [`Target`](crate::Target), [`Weighted`](crate::Weighted), [`Redivert`](crate::Redivert),
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
        let length = text.floor_char_boundary(EXCERPT);
        let mut excerpt = [0; EXCERPT];
        for (to, from) in excerpt.iter_mut().zip(text.as_bytes().iter().take(length)) {
            *to = *from;
        }
        Self { field, expected, excerpt, length: length as u8 }
    }

    /// The part of the text that is wrong: `"address"`, `"prefix length"`, `"port"`, `"protocol"`, `"weight"` and so
    /// on.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The wrong text: at most its first 32 bytes. Empty if the text ends where something should follow.
    #[must_use]
    pub fn text(&self) -> &str {
        let bytes = self.excerpt.get(..usize::from(self.length)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// What is expected there.
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

//! Protocols, prefixes, and the document's pairs of addresses.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

use crate::error::ParseError;
use crate::text;

/// A protocol whose packets can be assigned to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Protocol {
    /// ICMP echo (RFC 792): the identifier is used as the client's port, and the server's port is zero.
    Icmp,
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
}

impl Protocol {
    /// The number in the protocol field of the IPv4 header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol with this number, if it is one that is translated.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ParseError;

    /// Reads `tcp`, `udp` or `icmp`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "icmp" => Ok(Self::Icmp),
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(ParseError::new("protocol", text, "tcp, udp or icmp")),
        }
    }
}

/// One end of a connection on one side of the translator: what a table compares and a header holds. The port of an ICMP
/// echo is its identifier, or zero at the end that answers.
#[derive(Clone, Copy, Debug, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Endpoint {
    pub(crate) address: u32,
    pub(crate) port: u16,
}

impl Endpoint {
    pub(crate) const NONE: Self = Self::new(0, 0);

    #[inline]
    pub(crate) const fn new(address: u32, port: u16) -> Self {
        Self { address, port }
    }

    /// Its public form.
    #[inline]
    pub(crate) const fn socket(self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(self.address), self.port)
    }
}

// One comparison instead of two: 84 bytes of flash.
impl PartialEq for Endpoint {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        (self.address ^ other.address) | u32::from(self.port ^ other.port) == 0
    }
}

impl From<SocketAddrV4> for Endpoint {
    #[inline]
    fn from(endpoint: SocketAddrV4) -> Self {
        Self::new(endpoint.ip().to_bits(), endpoint.port())
    }
}

/// The addresses of a connection's packets on one side: source and destination.
///
/// For [`Protocol::Icmp`] the source's port is the echo identifier and the destination's port is zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The source of packets in the forward direction.
    pub source: SocketAddrV4,
    /// The destination of packets in the forward direction.
    pub destination: SocketAddrV4,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, self.destination)
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Pair {
    fn format(&self, f: defmt::Formatter<'_>) {
        let (s, d) = (self.source.ip().octets(), self.destination.ip().octets());
        defmt::write!(f, "{}:{} -> {}:{}", s, self.source.port(), d, self.destination.port());
    }
}

/// A range of addresses that share their first `length` bits (RFC 4632).
///
/// Its text is `ADDRESS/LENGTH`; an address without a length is read as the prefix of that address alone, and bits
/// after the prefix are cleared.
///
/// ```
/// use byway::Prefix;
///
/// let private: Prefix = "192.168.0.0/16".parse()?;
/// assert!(private.contains([192, 168, 7, 7].into()));
/// assert_eq!("10.1.2.3/24".parse::<Prefix>()?.to_string(), "10.1.2.0/24");
/// assert_eq!("10.1.2.3".parse::<Prefix>()?, Prefix::host([10, 1, 2, 3].into()));
/// # Ok::<(), byway::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    network: u32,
    length: u8,
}

impl Prefix {
    /// Every address.
    pub const ALL: Self = Self { network: 0, length: 0 };

    /// The prefix of `length` bits that contains `address`; bits after the prefix are cleared. `None` if `length` is
    /// above 32.
    #[must_use]
    pub const fn new(address: Ipv4Addr, length: u8) -> Option<Self> {
        if length > 32 {
            return None;
        }
        Some(Self { network: address.to_bits() & mask(length), length })
    }

    /// The prefix that contains this address alone.
    #[must_use]
    pub const fn host(address: Ipv4Addr) -> Self {
        Self { network: address.to_bits(), length: 32 }
    }

    /// The first address of the prefix.
    #[must_use]
    pub const fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network)
    }

    /// How many leading bits are fixed, 0 to 32.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` is in the prefix.
    #[must_use]
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        self.holds(address.to_bits())
    }

    pub(crate) const fn holds(self, address: u32) -> bool {
        (address ^ self.network) & mask(self.length) == 0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.network
    }

    /// From the [`bits`](Self::bits) and the [`length`](Self::length) of a prefix.
    #[cfg(feature = "naming")]
    pub(crate) const fn from_parts(network: u32, length: u8) -> Self {
        Self { network, length }
    }
}

pub(crate) const fn mask(length: u8) -> u32 {
    match u32::MAX.checked_shl(32 - length as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.length)
    }
}

impl FromStr for Prefix {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const LENGTH: &str = "a number from 0 to 32";
        let Some((network, digits)) = text.split_once('/') else {
            return Ok(Self::host(text::address(text)?));
        };
        let network = text::address(network)?;
        let length = text::number("prefix length", digits, LENGTH)?;
        Self::new(network, length).ok_or_else(|| ParseError::new("prefix length", digits, LENGTH))
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Prefix {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}/{}", self.network().octets(), self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_own_addresses_only() {
        let prefix = Prefix::new(Ipv4Addr::new(10, 1, 2, 3), 24).unwrap();
        assert_eq!(prefix.network(), Ipv4Addr::new(10, 1, 2, 0));
        assert!(prefix.contains(Ipv4Addr::new(10, 1, 2, 255)));
        assert!(!prefix.contains(Ipv4Addr::new(10, 1, 3, 0)));
        assert!(Prefix::ALL.contains(Ipv4Addr::BROADCAST));
        assert_eq!(Prefix::new(Ipv4Addr::LOCALHOST, 33), None);
    }
}

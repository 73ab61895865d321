//! Where diverted packets go.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

use crate::error::ParseError;
use crate::text;

/// Where diverted packets go. Its text is `same`, `ADDRESS` or `ADDRESS:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The original destination itself: only the source is replaced (plain masquerade).
    Same,
    /// This address; the original port is kept.
    Address(Ipv4Addr),
    /// This address and port. ICMP echo goes to the address.
    Endpoint(SocketAddrV4),
}

impl From<SocketAddrV4> for Target {
    fn from(endpoint: SocketAddrV4) -> Self {
        Self::Endpoint(endpoint)
    }
}

impl From<Ipv4Addr> for Target {
    fn from(address: Ipv4Addr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("same"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Endpoint(endpoint) => write!(f, "{endpoint}"),
        }
    }
}

impl FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "same" {
            return Ok(Self::Same);
        }
        let (text, port) = text::with_port(text)?;
        let address = text.parse().map_err(|_| ParseError::new("target", text, "\"same\" or an IPv4 address"))?;
        Ok(match port {
            Some(port) => Self::Endpoint(SocketAddrV4::new(address, port)),
            None => Self::Address(address),
        })
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Target {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Same => defmt::write!(f, "same"),
            Self::Address(address) => defmt::write!(f, "{}", address.octets()),
            Self::Endpoint(endpoint) => {
                defmt::write!(f, "{}:{}", endpoint.ip().octets(), endpoint.port())
            }
        }
    }
}

/// One server of a group, and its share of the clients. Its text is a [`Target`], followed by `*WEIGHT` unless the
/// weight is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Weighted {
    /// The server.
    pub target: Target,
    /// Its share: twice the weight, twice the clients. Zero keeps it in the group without giving it new connections.
    pub weight: u16,
}

impl Weighted {
    /// A server with this weight.
    #[must_use]
    pub fn new(target: impl Into<Target>, weight: u16) -> Self {
        Self { target: target.into(), weight }
    }
}

impl fmt::Display for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            1 => write!(f, "{}", self.target),
            weight => write!(f, "{}*{weight}", self.target),
        }
    }
}

impl FromStr for Weighted {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (target, weight) = match text.split_once('*') {
            None => (text, 1),
            Some((target, weight)) => (target, text::number("weight", weight, "a number from 0 to 65535")?),
        };
        Ok(Self { target: target.parse()?, weight })
    }
}

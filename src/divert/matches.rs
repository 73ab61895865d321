//! What a rule matches.

use core::cmp::{Ordering, Reverse};
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

use crate::endpoint::{Prefix, Protocol};
use crate::error::ParseError;
use crate::text;

/// Which packets a rule matches: their destination, and optionally their protocol and client.
///
/// Made from a `SocketAddrV4` (address and port), an `Ipv4Addr` (any port), a [`Prefix`], or a `(Prefix, port)`. When
/// several rules match a packet, the most specific one applies: the longest destination prefix, then a port rather than
/// none, then a protocol rather than none, then the longest client prefix.
///
/// A port applies to TCP and UDP; ICMP echo has none, and only rules without a port match it. A prefix shorter than 32
/// bits matches neither the translator's own addresses nor addresses that are not hosts: multicast, broadcast,
/// loopback.
///
/// ```
/// use byway::{Match, Prefix, Protocol};
/// use core::net::{Ipv4Addr, SocketAddrV4};
///
/// let network = Prefix::new(Ipv4Addr::new(192, 0, 2, 0), 24).unwrap();
/// let only_dns = Match::from((network, 53)).protocol(Protocol::Udp);
/// let web = Match::from(SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80)).clients(network);
/// assert_eq!(only_dns.to_string(), "192.0.2.0/24:53 udp");
/// assert_eq!(web.to_string(), "198.51.100.1:80 from 192.0.2.0/24");
/// assert_eq!("192.0.2.0/24:53 udp".parse(), Ok(only_dns));
/// ```
///
/// Its text is `ADDRESS[/LENGTH][:PORT] [PROTOCOL] [from CLIENTS]`. The more specific of two matches sorts first, so
/// that the first of several sorted matches that fit a packet is the one that applies:
///
/// ```
/// # use byway::Match;
/// let mut rules: [Match; 3] = ["192.0.2.0/24".parse()?, "192.0.2.7".parse()?, "192.0.2.7:53 udp".parse()?];
/// rules.sort();
/// assert_eq!(rules.map(|rule| rule.to_string()), ["192.0.2.7:53 udp", "192.0.2.7", "192.0.2.0/24"]);
/// # Ok::<(), byway::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Match {
    pub(crate) destination: Prefix,
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) clients: Prefix,
}

impl Match {
    /// Limits it to one protocol.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Limits it to clients within `prefix`.
    #[must_use]
    pub const fn clients(mut self, prefix: Prefix) -> Self {
        self.clients = prefix;
        self
    }

    /// The destinations.
    #[must_use]
    pub const fn destination(&self) -> Prefix {
        self.destination
    }

    /// The destination's port; `None` for any.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The protocol; `None` for any.
    #[must_use]
    pub const fn limited_to(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The clients; [`Prefix::ALL`] for any.
    #[must_use]
    pub const fn from_clients(&self) -> Prefix {
        self.clients
    }

    /// Its place in the order of rules: more specific first.
    fn order(&self) -> impl Ord + use<> {
        (
            Reverse(self.destination.length()),
            self.destination.bits(),
            Reverse(self.port.is_some()),
            self.port,
            Reverse(self.protocol.is_some()),
            self.protocol,
            Reverse(self.clients.length()),
            self.clients.bits(),
        )
    }
}

impl Ord for Match {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Match {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<SocketAddrV4> for Match {
    fn from(endpoint: SocketAddrV4) -> Self {
        Self { port: Some(endpoint.port()), ..Self::from(*endpoint.ip()) }
    }
}

impl From<Ipv4Addr> for Match {
    fn from(address: Ipv4Addr) -> Self {
        Self::from(Prefix::host(address))
    }
}

impl From<Prefix> for Match {
    fn from(destination: Prefix) -> Self {
        Self { destination, port: None, protocol: None, clients: Prefix::ALL }
    }
}

impl From<(Prefix, u16)> for Match {
    fn from((destination, port): (Prefix, u16)) -> Self {
        Self { port: Some(port), ..Self::from(destination) }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination.length() {
            32 => write!(f, "{}", self.destination.network())?,
            _ => write!(f, "{}", self.destination)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, " {protocol}")?;
        }
        if self.clients != Prefix::ALL {
            write!(f, " from {}", self.clients)?;
        }
        Ok(())
    }
}

impl FromStr for Match {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = text.split_ascii_whitespace();
        let (destination, port) = text::with_port(words.next().unwrap_or_default())?;
        let mut matches = Self { port, ..Self::from(destination.parse::<Prefix>()?) };
        let mut word = words.next();
        if let Some(protocol) = word.filter(|word| *word != "from") {
            matches.protocol = Some(protocol.parse()?);
            word = words.next();
        }
        if let Some(word) = word {
            if word != "from" {
                return Err(ParseError::new("match", word, "\"from\" and the clients' prefix"));
            }
            matches.clients = words.next().unwrap_or_default().parse()?;
        }
        match words.next() {
            Some(more) => Err(ParseError::new("match", more, "left out: nothing follows the clients' prefix")),
            None => Ok(matches),
        }
    }
}

//! The diverted addresses (209 in the document): which destinations go where instead.

use core::cmp::Reverse;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use super::server::{self, Servers};
use crate::endpoint::{Prefix, Protocol, mask};

/// Which packets a rule is about: their destination, and optionally their protocol and client.
///
/// Made from a `SocketAddrV4` (address and port), an `Ipv4Addr` (any port), a [`Prefix`], or a `(Prefix, port)`. When
/// several match a packet the most specific decides: the longest destination prefix, then a port rather than none,
/// then a protocol rather than none, then the longest client prefix.
///
/// A port speaks of TCP and UDP; ICMP echo has none and is matched by rules without a port. A prefix shorter than 32
/// bits speaks neither of the translator's own addresses nor of what is no host: multicast, broadcast, loopback.
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
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Match {
    destination: Prefix,
    port: Option<u16>,
    protocol: Option<Protocol>,
    clients: Prefix,
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

    /// Where it stands among the others: more specific first.
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

/// Where diverted packets go.
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
            Self::Same => f.write_str("the same"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Endpoint(endpoint) => write!(f, "{endpoint}"),
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Target {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Same => defmt::write!(f, "the same"),
            Self::Address(address) => defmt::write!(f, "{}", address.octets()),
            Self::Endpoint(endpoint) => {
                defmt::write!(f, "{}:{}", endpoint.ip().octets(), endpoint.port())
            }
        }
    }
}

/// One server of a group, and its share of the clients.
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

/// One rule of the divert table: what matches, and where it goes instead.
///
/// ```
/// use byway::{Divert, Prefix, Weighted};
/// use core::net::{Ipv4Addr, SocketAddrV4};
///
/// let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
/// let mirror = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 80);
///
/// let diverted = Divert::new(original).to(mirror);
/// let group = [Weighted::new(original, 1), Weighted::new(mirror, 2)];
/// let shared = Divert::new(original).to_group(&group);
/// let masquerade = Divert::new(Prefix::ALL); // no target: only the source is replaced
/// # let _ = (diverted, shared, masquerade);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Divert<'a> {
    pub(crate) matches: Match,
    pub(crate) single: Weighted,
    pub(crate) group: Option<&'a [Weighted]>,
    pub(crate) keep_source: bool,
    pub(crate) siblings: bool,
}

impl<'a> Divert<'a> {
    /// A rule for what `matches` matches, with the target [`Target::Same`].
    #[must_use]
    pub fn new(matches: impl Into<Match>) -> Self {
        Self {
            matches: matches.into(),
            single: Weighted { target: Target::Same, weight: 1 },
            group: None,
            keep_source: false,
            siblings: false,
        }
    }

    /// Sends it to one server.
    #[must_use]
    pub fn to(mut self, target: impl Into<Target>) -> Self {
        self.single.target = target.into();
        self.group = None;
        self
    }

    /// Shares it among servers by weight. A client keeps to its server as long as that is in the group, and a change
    /// of the group moves only the clients that it must (weighted rendezvous hashing of the client's address).
    #[must_use]
    pub const fn to_group(mut self, group: &'a [Weighted]) -> Self {
        self.group = Some(group);
        self
    }

    /// Limits the rule to one protocol.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.matches = self.matches.protocol(protocol);
        self
    }

    /// Limits the rule to clients within `prefix`.
    #[must_use]
    pub const fn clients(mut self, prefix: Prefix) -> Self {
        self.matches = self.matches.clients(prefix);
        self
    }

    /// Leaves the source as it is: the server sees the client's own address. Its answers must come back through this
    /// translator all the same.
    ///
    /// A rule that keeps the source and has no target either lets what it matches pass: an exception from a wider rule
    /// (RFC 6888, REQ-6).
    #[must_use]
    pub const fn keep_source(mut self) -> Self {
        self.keep_source = true;
        self
    }

    /// Takes answers from the server's other ports for the client, too: a TFTP server answers from a fresh port
    /// (RFC 1350). Each such port becomes a connection of its own, with the original address and that port on the
    /// client's side. Only UDP has use for it.
    #[must_use]
    pub const fn replies_from_any_port(mut self) -> Self {
        self.siblings = true;
        self
    }

    /// What the rule matches.
    #[must_use]
    pub const fn matches(&self) -> Match {
        self.matches
    }

    pub(crate) fn targets(&self) -> &[Weighted] {
        self.group.unwrap_or(core::slice::from_ref(&self.single))
    }
}

/// Room for one rule in a translator's storage: all zeros when unused.
#[derive(Clone, Copy, Debug)]
pub struct DivertSlot {
    network: u32,
    clients: u32,
    port: u16,
    /// The first of its servers; the others follow by their links.
    pub(crate) servers: u16,
    length: u8,
    clients_length: u8,
    /// Zero for any.
    protocol: u8,
    flags: u8,
}

const HAS_PORT: u8 = 1;
const KEEP_SOURCE: u8 = 2;
const SIBLINGS: u8 = 4;

impl DivertSlot {
    /// An unused place.
    pub const EMPTY: Self =
        Self { network: 0, clients: 0, port: 0, servers: 0, length: 0, clients_length: 0, protocol: 0, flags: 0 };

    pub(crate) fn new(divert: &Divert<'_>, servers: u16) -> Self {
        let Match { destination, port, protocol, clients } = divert.matches;
        let flag = |set, flag| if set { flag } else { 0 };
        Self {
            network: destination.bits(),
            clients: clients.bits(),
            port: port.unwrap_or(0),
            servers,
            length: destination.length(),
            clients_length: clients.length(),
            protocol: protocol.map_or(0, Protocol::number),
            flags: flag(port.is_some(), HAS_PORT)
                | flag(divert.keep_source, KEEP_SOURCE)
                | flag(divert.siblings, SIBLINGS),
        }
    }

    pub(crate) fn matches(&self) -> Match {
        let prefix = |bits, length| Prefix::new(Ipv4Addr::from_bits(bits), length).unwrap_or(Prefix::ALL);
        Match {
            destination: prefix(self.network, self.length),
            port: self.port(),
            protocol: Protocol::from_number(self.protocol),
            clients: prefix(self.clients, self.clients_length),
        }
    }

    pub(crate) const fn keeps_source(&self) -> bool {
        self.flags & KEEP_SOURCE != 0
    }

    pub(crate) const fn has_siblings(&self) -> bool {
        self.flags & SIBLINGS != 0
    }

    /// The one address that it is about; `None` if it is about a whole prefix.
    pub(crate) const fn host(&self) -> Option<u32> {
        if self.length == 32 { Some(self.network) } else { None }
    }

    pub(crate) const fn has_port(&self) -> bool {
        self.flags & HAS_PORT != 0
    }

    fn port(&self) -> Option<u16> {
        (self.flags & HAS_PORT != 0).then_some(self.port)
    }

    fn admits(&self, protocol: u8, client: u32) -> bool {
        (self.protocol == 0 || self.protocol == protocol) && (client ^ self.clients) & mask(self.clients_length) == 0
    }
}

/// What a rule says, as the table holds it; from [`Translator::diverts`](crate::Translator::diverts).
#[derive(Clone, Copy, Debug)]
pub struct DivertEntry<'a> {
    slot: DivertSlot,
    servers: &'a [server::ServerSlot],
}

impl<'a> DivertEntry<'a> {
    pub(crate) const fn new(slot: DivertSlot, servers: &'a [server::ServerSlot]) -> Self {
        Self { slot, servers }
    }

    /// What the rule matches.
    #[must_use]
    pub fn matches(&self) -> Match {
        self.slot.matches()
    }

    /// Whether the client's address is kept.
    #[must_use]
    pub const fn keeps_source(&self) -> bool {
        self.slot.keeps_source()
    }

    /// Whether answers from the server's other ports belong to the client.
    #[must_use]
    pub const fn takes_replies_from_any_port(&self) -> bool {
        self.slot.has_siblings()
    }

    /// Its servers, and how many connections stand on each through this rule. A rule without a group has one.
    pub fn servers(&self) -> impl Iterator<Item = (Weighted, u32)> + use<'a> {
        let servers = self.servers;
        let first = servers.get(usize::from(self.slot.servers));
        core::iter::successors(first, move |s| servers.get(usize::from(s.next)))
            .take(servers.len())
            .map(|s| (Weighted { target: s.target(), weight: s.weight }, s.connections))
    }
}

/// The rules, over the storage: those in use stand in front, the most specific first.
#[derive(Debug)]
pub(crate) struct Diverts<'a> {
    pub(crate) slots: &'a mut [DivertSlot],
    pub(crate) length: usize,
}

impl Diverts<'_> {
    pub(crate) fn rules(&self) -> &[DivertSlot] {
        self.slots.get(..self.length).unwrap_or_default()
    }

    /// The rule with exactly this match: its place, or the place where it would stand.
    pub(crate) fn place(&self, matches: &Match) -> Result<usize, usize> {
        self.rules().binary_search_by_key(&matches.order(), |s| s.matches().order())
    }

    /// Puts a rule at `place`. The caller has made sure that there is room.
    pub(crate) fn insert(&mut self, place: usize, slot: DivertSlot) {
        self.length += 1;
        if let Some(tail) = self.slots.get_mut(place..self.length) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = slot;
            }
        }
    }

    pub(crate) fn remove(&mut self, place: usize) {
        if let Some(tail) = self.slots.get_mut(place..self.length) {
            tail.rotate_left(1);
            self.length -= 1;
        }
    }
}

/// Where a rule for this destination and port stands among rules of one prefix length.
const fn rank(network: u32, port: Option<u16>) -> u64 {
    match port {
        Some(port) => (network as u64) << 17 | port as u64,
        None => (network as u64) << 17 | 1 << 16,
    }
}

impl DivertSlot {
    const fn rank(&self) -> u64 {
        rank(self.network, if self.has_port() { Some(self.port) } else { None })
    }
}

/// The most specific of the rules for a new connection. The work grows with the number of different prefix lengths and
/// the logarithm of the number of rules; rules that differ in protocol or client alone are tried one by one.
pub(crate) fn find(mut rules: &[DivertSlot], protocol: u8, client: u32, destination: (u32, u16)) -> Option<DivertSlot> {
    // ICMP echo has no port that a rule could speak of.
    let port = (protocol != crate::wire::flow::ICMP).then_some(destination.1);
    while let Some(longest) = rules.first() {
        let length = longest.length;
        let end = match rules.last() {
            Some(last) if last.length == length => rules.len(),
            _ => rules.partition_point(|s| s.length == length),
        };
        let (same, rest) = rules.split_at_checked(end).unwrap_or((rules, &[]));
        rules = rest;
        let network = destination.0 & mask(length);
        for port in [port, None] {
            let rank = rank(network, port);
            let start = same.partition_point(|s| s.rank() < rank);
            let mut equal = same.iter().skip(start).take_while(|s| s.rank() == rank);
            if let Some(found) = equal.find(|s| s.admits(protocol, client)) {
                return Some(*found);
            }
        }
    }
    None
}

/// Whether some rule speaks of exactly this address and port, whoever the client is.
pub(crate) fn forwards(rules: &[DivertSlot], protocol: u8, (address, port): (u32, u16)) -> bool {
    let rank = rank(address, Some(port));
    let start = rules.partition_point(|s| s.length == 32 && s.rank() < rank);
    let mut equal = rules.iter().skip(start).take_while(|s| s.length == 32 && s.rank() == rank);
    equal.any(|s| s.protocol == 0 || s.protocol == protocol)
}

/// The servers of a rule, one after the other.
pub(crate) fn servers_of<'s>(servers: &'s Servers<'_>, first: u16) -> impl Iterator<Item = u16> + use<'s> {
    let slots = &*servers.0;
    let follow = move |entry: &u16| slots.get(usize::from(*entry)).map(|s| s.next);
    core::iter::successors(Some(first), follow).take_while(|e| *e != server::NONE).take(slots.len())
}

/// Why a rule was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DivertError {
    /// The divert table holds as many rules as it can.
    TableFull {
        /// How many that is.
        capacity: usize,
    },
    /// There are not enough entries for its servers. Each server of each rule takes one, and those that rules no
    /// longer point at keep theirs until their last connection ends.
    ServersFull {
        /// How many entries there are in all.
        capacity: usize,
    },
    /// Its group has no server with a weight above zero.
    EmptyGroup,
    /// Its group names a server twice.
    DuplicateServer {
        /// The server.
        target: Target,
    },
    /// It replaces the source, and the configuration names no alternative address.
    NoAlternative,
    /// It diverts to an address that no host can have (RFC 1812, section 5.3.7).
    MartianTarget {
        /// The target.
        target: Target,
    },
    /// It diverts to one of the translator's own addresses.
    OwnTarget {
        /// The target.
        target: Target,
    },
    /// It diverts a destination to itself. Say [`Target::Same`] if that is what you want.
    ToItself {
        /// The target.
        target: Target,
    },
    /// It diverts to port zero, or matches port zero.
    PortZero,
}

impl fmt::Display for DivertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableFull { capacity } => write!(f, "the divert table is full: {capacity} rules"),
            Self::ServersFull { capacity } => {
                write!(f, "no room for its servers: {capacity} entries are in use")
            }
            Self::EmptyGroup => f.write_str("the group has no server with a weight above zero"),
            Self::DuplicateServer { target } => write!(f, "the group names {target} twice"),
            Self::NoAlternative => f.write_str("no alternative address to replace the source with"),
            Self::MartianTarget { target } => {
                write!(f, "target {target}: no host can have this address")
            }
            Self::OwnTarget { target } => {
                write!(f, "target {target} is an address of the translator itself")
            }
            Self::ToItself { target } => {
                write!(f, "target {target} is the original destination itself")
            }
            Self::PortZero => f.write_str("port zero"),
        }
    }
}

impl core::error::Error for DivertError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(matches: &[Match]) -> std::vec::Vec<DivertSlot> {
        let mut slots = std::vec![DivertSlot::EMPTY; matches.len()];
        let mut table = Diverts { slots: &mut slots, length: 0 };
        for (i, m) in matches.iter().enumerate() {
            let place = table.place(m).unwrap_err();
            table.insert(place, DivertSlot::new(&Divert::new(*m), i as u16));
        }
        slots
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let host = Ipv4Addr::new(192, 0, 2, 9);
        let clients = Prefix::new(Ipv4Addr::new(10, 1, 0, 0), 16).unwrap();
        let closer = Prefix::new(Ipv4Addr::new(10, 1, 2, 0), 24).unwrap();
        let matches = [
            Match::from(Prefix::ALL),
            Match::from(Prefix::new(host, 24).unwrap()),
            Match::from((Prefix::new(host, 24).unwrap(), 53)),
            Match::from(host),
            Match::from(SocketAddrV4::new(host, 80)),
            Match::from(SocketAddrV4::new(host, 80)).protocol(Protocol::Udp),
            Match::from(SocketAddrV4::new(host, 80)).clients(clients),
            Match::from(SocketAddrV4::new(host, 80)).clients(closer),
            Match::from(Prefix::ALL).protocol(Protocol::Icmp),
            Match::from(SocketAddrV4::new(host, 79)),
        ];
        let mut reversed = matches;
        reversed.reverse();
        let bits = |a, b, c, d| Ipv4Addr::new(a, b, c, d).to_bits();
        for order in [matches, reversed] {
            let rules = table(&order);
            for (protocol, client, destination, expected) in [
                (6, bits(9, 9, 9, 9), (bits(8, 8, 8, 8), 80), 0),
                (1, bits(9, 9, 9, 9), (bits(8, 8, 8, 8), 0), 8),
                (6, bits(9, 9, 9, 9), (bits(192, 0, 2, 1), 80), 1),
                (6, bits(9, 9, 9, 9), (bits(192, 0, 2, 1), 53), 2),
                (6, bits(9, 9, 9, 9), (host.to_bits(), 443), 3),
                (1, bits(9, 9, 9, 9), (host.to_bits(), 0), 3),
                (6, bits(9, 9, 9, 9), (host.to_bits(), 80), 4),
                (17, bits(10, 1, 2, 3), (host.to_bits(), 80), 5),
                (6, bits(10, 1, 9, 9), (host.to_bits(), 80), 6),
                (6, bits(10, 1, 2, 3), (host.to_bits(), 80), 7),
                (6, bits(10, 1, 2, 3), (host.to_bits(), 79), 9),
            ] {
                let found = find(&rules, protocol, client, destination).unwrap();
                assert_eq!(found.matches(), matches[expected], "{protocol} {destination:?}");
            }
        }
    }

    #[test]
    fn rules_are_found_and_removed_again() {
        let matches: std::vec::Vec<Match> =
            (0..40_u8).map(|i| Match::from(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, i % 7), u16::from(i)))).collect();
        let mut slots = table(&matches);
        let length = slots.len();
        let mut table = Diverts { slots: &mut slots, length };
        for (i, m) in matches.iter().enumerate() {
            let place = table.place(m).unwrap();
            assert_eq!(table.rules()[place].servers, i as u16);
            table.remove(place);
            assert!(table.place(m).is_err());
        }
        assert!(table.rules().is_empty());
    }
}

//! The diverted addresses (209 in the document): which destinations go where instead.

use core::fmt;
use core::net::Ipv4Addr;

use crate::config::Midstream;
pub(crate) use crate::divert::{Divert, DivertError, Match, Target, Weighted};
use crate::divert::{DivertOptions, write_rule};
use crate::endpoint::{Endpoint, Prefix, Protocol, mask};
use crate::table::server;
use crate::track::measure_server::MeasuredServerSlot;
use crate::wire::ipv4::{TCP, UDP};

/// Room for one rule in a translator's storage: all zeros when unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DivertSlot {
    /// Prefix and port, encoded so that they sort in the order of the rules: see [`rank`].
    rank: u64,
    clients: u32,
    /// The first of its servers; the others follow by their links.
    pub(crate) servers: u16,
    /// The length of the clients' prefix, and above it what happens to midstream segments.
    clients_length: u8,
    /// The protocol, zero for any, and flags above it.
    protocol: u8,
}

/// How many bits of `clients_length` are the length.
const LENGTH_BITS: u32 = 6;
/// The numbers of the protocols that a rule can be limited to have this bit clear: 1, 6 and 17.
const RESUMABLE: u8 = 0x08;
/// And these bits distinguish them. Bit 2, which is left out, is set only in 6, like bit 1.
const PROTOCOL: u8 = 0x13;
const LEAST_LOADED: u8 = 0x04;
const KEEP_SOURCE: u8 = 0x40;
/// In a rule that replaces the source: the destination stays as it is. In a rule that keeps the source: the servers'
/// own addresses must not be seen.
const HIDES: u8 = 0x20;
const ANY_PORT_REPLIES: u8 = 0x80;

/// In a rank, stands for any port.
pub(in crate::table) const ANY_PORT: u64 = 1 << 16;
const NETWORK: u32 = 17;
const LENGTH: u32 = 49;

/// The sort key of rules for this prefix and port: longer prefixes first, then by address, then by port, with any port
/// last.
pub(in crate::table) const fn rank(length: u8, network: u32, port: u64) -> u64 {
    (32 - length as u64) << LENGTH | (network as u64) << NETWORK | port
}

impl DivertSlot {
    /// An unused place.
    pub const EMPTY: Self = Self { rank: 0, clients: 0, servers: 0, clients_length: 0, protocol: 0 };

    /// `is_forward` says that its original is one of the translator's own addresses, and that it passes no midstream
    /// segments.
    pub(crate) fn new(divert: &Divert<'_>, servers: u16, is_forward: bool) -> Self {
        let Match { destination, port, protocol, clients } = divert.matches;
        let options = divert.options;
        let hides = if options.keep_source { is_forward } else { divert.masquerades() };
        let flag = |set, flag| if set { flag } else { 0 };
        Self {
            rank: rank(destination.length(), destination.bits(), port.map_or(ANY_PORT, u64::from)),
            clients: clients.bits(),
            servers,
            clients_length: clients.length() | midstream_number(options.midstream) << LENGTH_BITS,
            protocol: (protocol.map_or(0, Protocol::number) & PROTOCOL)
                | flag(options.keep_source, KEEP_SOURCE)
                | flag(options.any_port_replies, ANY_PORT_REPLIES)
                | flag(options.resumable, RESUMABLE)
                | flag(options.least_loaded, LEAST_LOADED)
                | flag(hides, HIDES),
        }
    }

    pub(crate) fn matches(&self) -> Match {
        let prefix = |bits, length| Prefix::new(Ipv4Addr::from_bits(bits), length).unwrap_or(Prefix::ALL);
        Match {
            destination: prefix(self.network(), self.length()),
            port: self.port(),
            protocol: Protocol::from_number(self.protocol_or_zero()),
            clients: prefix(self.clients, self.clients_length()),
        }
    }

    #[cfg(target_pointer_width = "64")]
    pub(in crate::table) const fn rank(&self) -> u64 {
        self.rank
    }

    #[cfg(target_pointer_width = "64")]
    pub(in crate::table) const fn clients(&self) -> u32 {
        self.clients
    }

    #[inline(always)]
    pub(in crate::table) const fn protocol_or_zero(&self) -> u8 {
        let bits = self.protocol & PROTOCOL;
        bits | (bits & 2) << 1
    }

    /// Whether this is exactly its match.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(in crate::table) const fn is_exactly(&self, rank: u64, protocol: u8, clients: u32, length: u8) -> bool {
        self.rank == rank
            && self.clients == clients
            && self.clients_length() == length
            && (self.protocol ^ protocol) & PROTOCOL == 0
    }

    pub(crate) const fn network(&self) -> u32 {
        (self.rank >> NETWORK) as u32
    }

    pub(crate) const fn length(&self) -> u8 {
        32 - (self.rank >> LENGTH) as u8
    }

    pub(crate) const fn keeps_source(&self) -> bool {
        self.protocol & KEEP_SOURCE != 0
    }

    pub(crate) const fn has_any_port_replies(&self) -> bool {
        self.protocol & ANY_PORT_REPLIES != 0
    }

    pub(crate) const fn is_resumable(&self) -> bool {
        self.protocol & RESUMABLE != 0
    }

    pub(crate) const fn is_least_loaded(&self) -> bool {
        self.protocol & LEAST_LOADED != 0
    }

    /// Whether it replaces the source and nothing else. No re-divert changes that.
    pub(crate) const fn masquerades(&self) -> bool {
        self.protocol & (HIDES | KEEP_SOURCE) == HIDES
    }

    /// Whether it is a port forward that keeps the source, so that its servers' own addresses must not be seen.
    pub(crate) const fn hides_servers(&self) -> bool {
        self.protocol & (HIDES | KEEP_SOURCE) == HIDES | KEEP_SOURCE
    }

    pub(crate) const fn midstream(&self) -> Option<Midstream> {
        midstream_from(self.clients_length >> LENGTH_BITS)
    }

    /// Its options; whether it ejects servers is stored elsewhere.
    pub(crate) const fn options(&self, ejecting: bool) -> DivertOptions {
        DivertOptions {
            keep_source: self.keeps_source(),
            any_port_replies: self.has_any_port_replies(),
            resumable: self.is_resumable(),
            least_loaded: self.is_least_loaded(),
            ejecting,
            midstream: self.midstream(),
        }
    }

    pub(crate) const fn clients_length(&self) -> u8 {
        self.clients_length & ((1 << LENGTH_BITS) - 1)
    }

    /// The single address that it matches; `None` if it matches a whole prefix.
    pub(crate) const fn host(&self) -> Option<u32> {
        if self.rank >> LENGTH == 0 { Some(self.network()) } else { None }
    }

    pub(crate) const fn has_port(&self) -> bool {
        self.rank & ANY_PORT == 0
    }

    pub(crate) const fn port_or_zero(&self) -> u16 {
        self.rank as u16
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.has_port().then_some(self.port_or_zero())
    }

    pub(crate) fn admits(&self, protocol: u8, client: u32) -> bool {
        self.is_for(protocol) && (client ^ self.clients) & mask(self.clients_length()) == 0
    }

    /// Whether it applies to this protocol.
    pub(crate) fn is_for(&self, protocol: u8) -> bool {
        let own = self.protocol_or_zero();
        own == 0 || own == protocol
    }
}

#[cfg(feature = "control")]
impl DivertSlot {
    /// Whether it can match a packet to this place.
    pub(crate) fn speaks_of(&self, to: server::Place) -> bool {
        let ports = self.port().is_none_or(|own| to.port.is_none_or(|port| port == own));
        ports && (to.address ^ self.network()) & mask(self.length()) == 0
    }

    /// Whether both can match the same packet, by protocol and client.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let theirs = other.protocol_or_zero();
        let protocols = theirs == 0 || self.is_for(theirs);
        protocols && (self.clients ^ other.clients) & mask(self.clients_length().min(other.clients_length())) == 0
    }
}

/// The two bits that say what happens to midstream segments, in the table and in datagrams.
pub(crate) const fn midstream_number(midstream: Option<Midstream>) -> u8 {
    match midstream {
        None => 0,
        Some(Midstream::Pass) => 1,
        Some(Midstream::Adopt) => 2,
        Some(Midstream::Drop) => 3,
    }
}

/// Decodes the two bits of [`midstream_number`].
pub(crate) const fn midstream_from(number: u8) -> Option<Midstream> {
    match number & 3 {
        0 => None,
        1 => Some(Midstream::Pass),
        2 => Some(Midstream::Adopt),
        _ => Some(Midstream::Drop),
    }
}

/// A rule as the table holds it; from [`Translator::diverts`](crate::Translator::diverts).
#[derive(Clone, Copy, Debug)]
pub struct DivertEntry<'a> {
    slot: DivertSlot,
    servers: &'a [server::ServerSlot],
    /// The measurements of the servers, if there are any.
    measured: &'a [MeasuredServerSlot],
}

#[cfg(feature = "defmt")]
impl defmt::Format for DivertEntry<'_> {
    /// The rule without its servers.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "DivertEntry {{ matches: {}, keeps_source: {} }}",
            self.slot.matches(),
            self.slot.keeps_source()
        );
    }
}

impl fmt::Display for DivertEntry<'_> {
    /// The rule as [`Divert::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rule(f, &self.matches(), self.servers().map(|(server, _)| server), self.options())
    }
}

impl<'a> DivertEntry<'a> {
    pub(crate) const fn new(
        slot: DivertSlot,
        servers: &'a [server::ServerSlot],
        measured: &'a [MeasuredServerSlot],
    ) -> Self {
        Self { slot, servers, measured }
    }

    /// What the rule matches.
    #[must_use]
    pub fn matches(&self) -> Match {
        self.slot.matches()
    }

    /// The rule's options: everything but its match and its servers.
    #[must_use]
    pub fn options(&self) -> DivertOptions {
        self.slot.options(self.is_ejecting())
    }

    /// Whether the client's address is kept.
    #[must_use]
    pub const fn keeps_source(&self) -> bool {
        self.slot.keeps_source()
    }

    /// Whether answers from the server's other ports belong to the client.
    #[must_use]
    pub const fn takes_replies_from_any_port(&self) -> bool {
        self.slot.has_any_port_replies()
    }

    /// Whether another server can take over its TCP connections ([`Divert::resumable`](crate::Divert::resumable)).
    #[must_use]
    pub const fn is_resumable(&self) -> bool {
        self.slot.is_resumable()
    }

    /// Whether a new connection goes to the server with the fewest for its weight
    /// ([`Divert::least_loaded`](crate::Divert::least_loaded)).
    #[must_use]
    pub const fn is_least_loaded(&self) -> bool {
        self.slot.is_least_loaded()
    }

    /// Whether servers that fail are ejected ([`Divert::ejecting`](crate::Divert::ejecting)).
    #[must_use]
    pub fn is_ejecting(&self) -> bool {
        self.slot.is_ejecting(self.servers, self.measured)
    }

    /// What happens to segments in the middle of unknown connections, if the rule itself says so
    /// ([`Divert::midstream`](crate::Divert::midstream)).
    #[must_use]
    pub const fn midstream(&self) -> Option<Midstream> {
        self.slot.midstream()
    }

    /// Its servers, with the weights that the rule gives them, and how many connections each has through this rule. A
    /// rule without a group has one server, whose connections are counted for all rules that have only this server.
    pub fn servers(&self) -> impl Iterator<Item = (Weighted, u32)> + use<'a> {
        let listed = self.slot.members(self.servers, self.measured);
        listed.map(|(slot, weighted)| (weighted, slot.connections))
    }
}

impl DivertSlot {
    /// Whether servers that fail are ejected. This is stored with their measurements.
    pub(crate) fn is_ejecting(&self, servers: &[server::ServerSlot], measured: &[MeasuredServerSlot]) -> bool {
        let first = server::meant(servers, self.servers);
        measured.get(usize::from(first)).is_some_and(|measured| measured.ejection.on)
    }

    /// The entries of its servers, each with its target and its weight in the rule: the entry of an ejected server has
    /// weight zero for now.
    pub(crate) fn members<'a>(
        &self,
        servers: &'a [server::ServerSlot],
        measured: &'a [MeasuredServerSlot],
    ) -> impl Iterator<Item = (&'a server::ServerSlot, Weighted)> + use<'a> {
        let in_rule = |entry: u16| measured.get(usize::from(entry)).and_then(|m| m.ejection.weight_in_rule());
        servers_of(servers, self.servers).filter_map(move |entry| {
            let slot = servers.get(usize::from(entry))?;
            let weight = in_rule(entry).unwrap_or(slot.weight());
            Some((slot, Weighted { target: slot.target(), weight }))
        })
    }

    /// The entries of its servers.
    pub(crate) fn chain<'a>(
        &self,
        servers: &'a [server::ServerSlot],
    ) -> impl Iterator<Item = &'a server::ServerSlot> + use<'a> {
        let first = servers.get(usize::from(server::meant(servers, self.servers)));
        core::iter::successors(first, move |s| servers.get(usize::from(s.next))).take(servers.len())
    }
}

/// The rules whose rank is at least this.
#[inline(never)]
fn from_rank(rules: &[DivertSlot], rank: u64) -> &[DivertSlot] {
    let start = rules.partition_point(|s| s.rank < rank);
    rules.get(start..).unwrap_or_default()
}

/// The most specific of the rules for a new connection. The work grows with the number of different prefix lengths and
/// the logarithm of the number of rules; rules that differ only in protocol or client are tried one by one.
pub(crate) fn find(mut rules: &[DivertSlot], protocol: u8, client: u32, destination: Endpoint) -> Option<&DivertSlot> {
    // No other protocol has a port that a rule could name.
    let port = if matches!(protocol, TCP | UDP) { u64::from(destination.port) } else { ANY_PORT };
    while let Some(first) = rules.first() {
        let length = first.length();
        let network = rank(length, destination.address & mask(length), 0);
        // Each search continues after the previous one. The last one is for shorter prefixes; no rule matches port 0.
        let wanted = if first.rank <= network | port {
            network | port
        } else if first.rank <= network | ANY_PORT {
            network | ANY_PORT
        } else {
            (33 - u64::from(length)) << LENGTH
        };
        rules = from_rank(rules, wanted);
        while let [rule, others @ ..] = rules
            && rule.rank == wanted
        {
            if rule.admits(protocol, client) {
                return Some(rule);
            }
            rules = others;
        }
    }
    None
}

/// The same, but only if the result is a rule for exactly this address and the first of its rank. `None` does not mean
/// that there is no rule.
#[cfg(target_pointer_width = "64")]
#[inline(always)]
pub(crate) fn find_host(
    rules: &[DivertSlot],
    protocol: u8,
    client: u32,
    Endpoint { address, port }: Endpoint,
) -> Option<&DivertSlot> {
    let exactly = rank(32, address, u64::from(port));
    let any = rank(32, address, ANY_PORT);
    let first = rules.get(rules.partition_point(|s| s.rank < exactly))?;
    let is_it = (first.rank == exactly || first.rank == any) && first.admits(protocol, client);
    is_it.then_some(first)
}

/// Whether some rule names exactly this address.
pub(crate) fn names(rules: &[DivertSlot], address: u32) -> bool {
    from_rank(rules, rank(32, address, 0)).first().is_some_and(|rule| rule.host() == Some(address))
}

/// Counts of rules in a large storage, which has too many rules to examine all of them.
#[cfg(target_pointer_width = "64")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleCounts {
    /// Rules for prefixes.
    pub(crate) prefixes: u32,
    /// Rules for own addresses.
    pub(crate) forwards: u32,
    /// Those of them that have a port and are limited to a client prefix.
    pub(crate) limited_forwards: u32,
    /// Rules that hide their servers.
    pub(crate) hiding: u32,
}

#[cfg(target_pointer_width = "64")]
impl RuleCounts {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            prefixes: self.prefixes + other.prefixes,
            forwards: self.forwards + other.forwards,
            limited_forwards: self.limited_forwards + other.limited_forwards,
            hiding: self.hiding + other.hiding,
        }
    }

    pub(crate) const fn minus(self, other: Self) -> Self {
        Self {
            prefixes: self.prefixes.saturating_sub(other.prefixes),
            forwards: self.forwards.saturating_sub(other.forwards),
            limited_forwards: self.limited_forwards.saturating_sub(other.limited_forwards),
            hiding: self.hiding.saturating_sub(other.hiding),
        }
    }
}

/// Whether some rule, for any client, names exactly this address and port.
pub(crate) fn forwards(rules: &[DivertSlot], protocol: u8, Endpoint { address, port }: Endpoint) -> bool {
    let rank = rank(32, address, u64::from(port));
    of_rank(from_rank(rules, rank), rank, |s| s.is_for(protocol)).is_some()
}

/// The first rule of this rank that is `suitable`; the rules of this rank come first in `rules`.
fn of_rank(rules: &[DivertSlot], rank: u64, suitable: impl Fn(&DivertSlot) -> bool) -> Option<&DivertSlot> {
    rules.iter().take_while(|s| s.rank == rank).find(|s| suitable(s))
}

/// The servers of a rule, one after the other.
pub(crate) fn servers_of(slots: &[server::ServerSlot], first: u16) -> impl Iterator<Item = u16> + use<'_> {
    let follow = move |entry: &u16| slots.get(usize::from(*entry)).map(|s| s.next);
    let first = server::meant(slots, first);
    core::iter::successors(Some(first), follow).take_while(|e| *e != server::NONE).take(slots.len())
}

#[cfg(test)]
mod tests;

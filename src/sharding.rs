//! Finds which of several translators a packet belongs to, from the packet alone.
//!
//! ```text
//!   forward:    source (the client's address)        -> keyed hash -> shard
//!   reply:      destination (an alternative address) -> its owner  -> shard
//!                 and, where shards share an address, its port, or the identifier of an echo reply
//!   ICMP error: as the packet that would answer the one that it quotes
//! ```
//!
//! Only the client's address is hashed, because every packet of the forward direction has it, including later
//! fragments, and because a client that is in one shard keeps to one alternative address and to its limit.
//!
//! In the reply direction a later fragment has no port. That does not matter where each shard has its own addresses.
//! Where shards share an address, nothing in such a fragment identifies its owner, and nothing could: its sender
//! chooses its identification, and may send the same header to two ports of the address that belong to two shards. So
//! the answer is [`Owner::Every`]: each shard gets a copy. The one that has seen the first fragment knows what to do with
//! it, and all others hold theirs.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::RangeInclusive;

use crate::config::{Alternative, Config, List};
use crate::connection::Connection;
use crate::divert::{Divert, DivertError, Target};
use crate::endpoint::Protocol;
use crate::error::ConfigError;
use crate::limits::MAX_ALTERNATIVES;
use crate::table::hash::{Keys, Label, reduce, sip13};
use crate::wire::ipv4::{self, HEADER, Header, ICMP, TCP, UDP};
use crate::wire::{icmp, quote};

/// Which shard has to translate a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Owner {
    /// The shard with this number, and no other.
    One(usize),
    /// A later fragment to an address that shards share: give each of them its own copy. At most one shard has seen its
    /// first fragment, and translates or passes it. To every other shard it is a fragment without a first, so that none
    /// forwards it untranslated: their verdict is [`Verdict::Hold`](crate::Verdict::Hold), or
    /// [`Verdict::Drop`](crate::Verdict::Drop) if the fragment itself is invalid.
    Every,
}

impl Owner {
    /// Whether this shard has to get the packet, or a copy of it.
    #[must_use]
    pub const fn includes(self, shard: usize) -> bool {
        match self {
            Self::One(one) => one == shard,
            Self::Every => true,
        }
    }
}

/// How packets, alternative addresses and ports are divided among translators ("shards"), so that a connection and all
/// of its packets belong to one shard, and no two shards share anything.
///
/// It is a small value without state: give each thread that receives packets a copy. [`Sharding::owner`] finds the
/// owner of a packet, [`Sharding::config`] returns the configuration for each translator; `Sharded` (feature `alloc`)
/// uses both.
///
/// With at least as many alternative addresses as shards, each shard has whole addresses, and every packet has one
/// owner. With fewer, each shard has a part of the ports of every address, and later fragments in the reply direction
/// belong to [`Owner::Every`] shard. Where servers send fragments, it is worth having enough addresses.
///
/// Two cores of a microcontroller, without an allocator:
///
/// ```
/// use byway::{Config, Fixed, Sharding, Translator};
/// use core::net::Ipv4Addr;
///
/// let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
/// let sharding = Sharding::new(&config, 2)?;
/// let of_core = |core| sharding.config(&config, core).map(|config| Translator::new(config, Fixed::<64, 4>::new()));
/// assert!(matches!((of_core(0), of_core(1), of_core(2)), (Some(Ok(_)), Some(Ok(_)), None)));
/// let (_first, _last, ports) = sharding.alternatives(1).next().unwrap();
/// assert_eq!(ports, 33280..=65535);
/// # Ok::<(), byway::ShardingError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Sharding {
    alternatives: List<Alternative>,
    /// The key of the hash of clients' addresses.
    key: (u64, u64),
    shards: u32,
    /// Whether each address belongs to one shard.
    whole: bool,
}

impl Sharding {
    /// Divides the alternative addresses of `config` among this many translators.
    ///
    /// # Errors
    /// [`ShardingError`] says what cannot be divided.
    pub fn new(config: &Config, shards: usize) -> Result<Self, ShardingError> {
        config.check().map_err(ShardingError::Config)?;
        if !(1..=usize::from(u16::MAX)).contains(&shards) {
            return Err(ShardingError::Shards { value: shards });
        }
        let keys = Keys::new(&config.secret);
        let key = |half| keys.choose(Label::Shard, [half, 0]);
        let alternatives = config.settings.alternatives;
        let mut new = Self { alternatives, key: (key(0), key(1)), shards: shards as u32, whole: true };
        if shards == 1 {
            return Ok(new);
        }
        let mut disjoint = true;
        for (i, one) in alternatives.iter().enumerate() {
            for other in alternatives.iter().skip(i + 1) {
                let address = one.first.max(other.first);
                if address > one.last.min(other.last) {
                    continue;
                }
                disjoint = false;
                let port = one.ports.0.max(other.ports.0);
                if port <= one.ports.1.min(other.ports.1) {
                    return Err(ShardingError::Overlapping { address: Ipv4Addr::from_bits(address), port });
                }
            }
        }
        let enough = alternatives.iter().map(addresses_of).sum::<u64>() >= shards as u64;
        new.whole = disjoint && enough;
        if new.whole {
            let most = (0..new.shards).map(|shard| new.pieces(shard).count()).max();
            return if most > Some(MAX_ALTERNATIVES) { Err(ShardingError::TooManyPieces) } else { Ok(new) };
        }
        for alternative in alternatives.iter() {
            let (_, count) = usable(alternative.ports);
            if count < shards as u64 {
                let (first, last) = (Ipv4Addr::from_bits(alternative.first), Ipv4Addr::from_bits(alternative.last));
                return Err(ShardingError::TooFewPorts { first, last, ports: alternative.ports, shards });
            }
        }
        if config.settings.rewrite_identification && alternatives.iter().next().is_some() {
            return Err(ShardingError::SharedIdentification);
        }
        Ok(new)
    }

    /// The number of shards.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards as usize
    }

    /// Which shard has to translate a packet, starting at its IPv4 header, before anything in it is changed.
    ///
    /// A packet that is not IPv4, is malformed, or matches neither a rule nor a connection is treated alike by every
    /// shard. Any shard could have it; it goes to the one that its addresses select.
    #[must_use]
    pub fn owner(&self, packet: &[u8]) -> Owner {
        let Some((header, payload)) = read(packet) else {
            return Owner::One(0);
        };
        let (source, destination) = (header.source(), header.destination());
        let fragmentation = header.fragmentation();
        if ipv4::offset(fragmentation) != 0 {
            let shared = !self.whole && self.alternatives.iter().any(|a| holds(a, destination));
            return if shared { Owner::Every } else { self.one(source, destination, None) };
        }
        let word = |at: usize| payload.get(at..).and_then(|rest| rest.first_chunk()).map(|w| u16::from_be_bytes(*w));
        let port = match header.protocol() {
            TCP | UDP => word(2),
            ICMP => match payload.first().map(|number| icmp::kind(*number)) {
                Some(icmp::Kind::EchoReply) => word(4),
                // A real error is too small to be fragmented; one that claims to be a fragment is not parsed.
                Some(icmp::Kind::Error) if !ipv4::is_fragment(fragmentation) => {
                    return self.owner_of_error(source, destination, payload);
                }
                _ => None,
            },
            _ => None,
        };
        self.one(source, destination, port)
    }

    /// An error belongs to the owner of the packet that would answer the quoted one.
    fn owner_of_error(&self, source: u32, destination: u32, message: &[u8]) -> Owner {
        match quote::read_quoted(message) {
            Ok(Some(quoted)) => {
                // A host that answers an echo has no identifier of its own.
                let has_port = quoted.protocol != ICMP || quoted.source_port != 0;
                self.one(quoted.destination, quoted.source, has_port.then_some(quoted.source_port))
            }
            _ => self.one(source, destination, None),
        }
    }

    /// The shard of a client: it gets all packets that this address sends, except those to an alternative address
    /// itself.
    #[must_use]
    pub fn shard_of_client(&self, client: Ipv4Addr) -> usize {
        let hash = sip13(self.key, [u64::from(client.to_bits()), 0]);
        reduce((hash >> 32) as u32, self.shards) as usize
    }

    /// The key of the hash of clients, for a program that steers packets in the kernel. Protect it like the secret.
    ///
    /// The hash is SipHash-1-3 of 16 bytes: the address as a number, lowest byte first, and twelve zeros. The shard is
    /// the upper 32 bits of the product of the hash's upper 32 bits and the number of shards.
    #[must_use]
    pub const fn client_key(&self) -> (u64, u64) {
        self.key
    }

    /// The shard of a connection, for importing its record: the one that both directions lead to. `None` if they lead
    /// to different shards, which is possible if the connection is from a set with another secret or another number of
    /// shards.
    #[must_use]
    pub fn shard_of(&self, connection: &Connection) -> Option<usize> {
        let (there, back) = (connection.client_side, connection.server_side);
        let port_of = |endpoint: SocketAddrV4| {
            let none = connection.protocol == Protocol::Icmp && endpoint.port() == 0;
            (!none).then_some(endpoint.port())
        };
        let shard = |source: SocketAddrV4, destination: SocketAddrV4| {
            self.place(source.ip().to_bits(), destination.ip().to_bits(), port_of(destination))
        };
        let shard_there = shard(there.source, there.destination);
        (shard_there == shard(back.destination, back.source)).then_some(shard_there)
    }

    /// The shard that replies to an alternative endpoint belong to, for importing a connection of which only the
    /// replies arrive here. `None` if no shard has it.
    #[must_use]
    pub fn shard_of_alternative(&self, alternative: SocketAddrV4) -> Option<usize> {
        let (address, port) = (*alternative.ip(), alternative.port());
        let has_it = |shard: &usize| {
            self.alternatives(*shard)
                .any(|(first, last, ports)| (first..=last).contains(&address) && ports.contains(&port))
        };
        (0..self.shards()).find(has_it)
    }

    /// The configuration for the translator of this shard: `config`, which must be the one that this value was made
    /// from, with the shard's own part of the alternative addresses. `None` if there is no such shard.
    ///
    /// It contains the other shards' addresses too: they are the machine's own, and no connection gets a port of them.
    /// Limits and rates apply per shard: [`Config::transmit_rates`] to each, and [`Config::client_limit`] to a client,
    /// which is in one shard.
    #[must_use]
    pub fn config(&self, config: &Config, shard: usize) -> Option<Config> {
        if shard >= self.shards() {
            return None;
        }
        let mut pieces = List::new(Alternative { first: 0, last: 0, ports: (0, 0) });
        for piece in self.pieces(shard as u32) {
            // `new` has checked that they fit.
            let _ = pieces.push(piece);
        }
        let mut config = config.clone();
        config.settings.alternatives = pieces;
        Some(config)
    }

    /// The alternative addresses of this shard, first and last, and its ports: for writing the steering rules of a
    /// network card.
    pub fn alternatives(&self, shard: usize) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr, RangeInclusive<u16>)> {
        let pieces = (shard < self.shards()).then(|| self.pieces(shard as u32)).into_iter().flatten();
        pieces
            .filter(|p| p.ports != NO_PORTS)
            .map(|p| (Ipv4Addr::from_bits(p.first), Ipv4Addr::from_bits(p.last), p.ports.0..=p.ports.1))
    }

    /// Whether each alternative address belongs to one shard, so that no packet belongs to [`Owner::Every`] shard.
    #[must_use]
    pub const fn has_whole_addresses(&self) -> bool {
        self.whole
    }

    /// Checks a rule for a set of shards, beyond what a translator checks. `Sharded::divert` calls it; a caller that
    /// adds rules to the shards one by one must call it too.
    ///
    /// # Errors
    /// [`ShardingError::KeptSource`].
    pub fn check(&self, divert: &Divert<'_>) -> Result<(), ShardingError> {
        let exception = divert.targets().iter().all(|t| t.target == Target::Same);
        if divert.options.keep_source && !exception && self.shards > 1 {
            return Err(ShardingError::KeptSource);
        }
        Ok(())
    }

    fn one(&self, source: u32, destination: u32, port: Option<u16>) -> Owner {
        Owner::One(self.place(source, destination, port))
    }

    /// The shard of a packet with these addresses and this destination port, if it has one.
    fn place(&self, source: u32, destination: u32, port: Option<u16>) -> usize {
        let mut before = 0;
        for alternative in self.alternatives.iter() {
            if holds(alternative, destination) {
                let ports = alternative.ports.0..=alternative.ports.1;
                if self.whole {
                    let all = self.alternatives.iter().map(addresses_of).sum();
                    return self.share_of(before + u64::from(destination - alternative.first), all);
                }
                if let Some(port) = port.filter(|port| ports.contains(port)) {
                    let (first, count) = usable(alternative.ports);
                    return self.share_of(u64::from(port.saturating_sub(first)), count);
                }
            }
            before += addresses_of(alternative);
        }
        self.shard_of_client(Ipv4Addr::from_bits(source))
    }

    /// The owner of the `n`th of `all` things, when they are divided as in [`Self::cut`].
    fn share_of(&self, n: u64, all: u64) -> usize {
        let shards = u64::from(self.shards);
        ((n + 1) * shards - 1).checked_div(all).unwrap_or(0).min(shards - 1) as usize
    }

    /// The start and the end (exclusive) of a shard's share of `all` things.
    fn cut(&self, shard: u32, all: u64) -> (u64, u64) {
        let up_to = |shard: u32| (all * u64::from(shard)).checked_div(u64::from(self.shards)).unwrap_or(0);
        (up_to(shard), up_to(shard + 1))
    }

    /// All alternative addresses for the translator of a shard, with the shard's ports, or none.
    fn pieces(&self, shard: u32) -> impl Iterator<Item = Alternative> {
        let all = self.alternatives.iter().map(addresses_of).sum();
        let mine = self.cut(shard, all);
        let mut before = 0;
        self.alternatives
            .iter()
            .flat_map(move |&alternative| {
                let (start, end) = (before, before + addresses_of(&alternative));
                before = end;
                let piece = |from: u64, to: u64, ports| {
                    let address = |place: u64| alternative.first + (place - start) as u32;
                    (from < to).then(|| Alternative { first: address(from), last: address(to - 1), ports })
                };
                if self.whole {
                    let (low, high) = (mine.0.clamp(start, end), mine.1.clamp(start, end));
                    return [
                        piece(start, low, NO_PORTS),
                        piece(low, high, alternative.ports),
                        piece(high, end, NO_PORTS),
                    ];
                }
                let (first, count) = usable(alternative.ports);
                let (low, high) = self.cut(shard, count);
                // Port zero is never given to a connection, but it still has an owner.
                let low = if shard == 0 { alternative.ports.0 } else { first + low as u16 };
                [piece(start, end, (low, (u64::from(first) + high - 1) as u16)), None, None]
            })
            .flatten()
    }
}

impl fmt::Debug for Sharding {
    /// Everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharding")
            .field("alternatives", &self.alternatives)
            .field("shards", &self.shards)
            .field("whole", &self.whole)
            .finish_non_exhaustive()
    }
}

/// The ports of an address that gives none to connections of this shard.
const NO_PORTS: (u16, u16) = (1, 0);

fn addresses_of(alternative: &Alternative) -> u64 {
    u64::from(alternative.last - alternative.first) + 1
}

const fn holds(alternative: &Alternative, address: u32) -> bool {
    alternative.first <= address && address <= alternative.last
}

/// The first of the ports that a connection can get, and how many there are.
fn usable(ports: (u16, u16)) -> (u16, u64) {
    let first = ports.0.max(1);
    (first, (u64::from(ports.1) + 1).saturating_sub(u64::from(first)))
}

/// The header and the payload of a packet, if these are well-formed.
fn read(packet: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let fixed = packet.first_chunk::<HEADER>()?;
    let header = Header(fixed);
    if fixed[0] >> 4 != 4 || header.header_length() < HEADER {
        return None;
    }
    Some((header, packet.get(header.header_length()..header.total_length())?))
}

#[cfg(feature = "defmt")]
impl defmt::Format for Sharding {
    /// Everything but the key and the addresses.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Sharding {{ shards: {}, whole: {} }}", self.shards, self.whole);
    }
}

/// Why a set of shards cannot be created, or cannot do what was asked. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ShardingError {
    /// No shards, or more than 65 535.
    Shards {
        /// The requested number.
        value: usize,
    },
    /// The configuration cannot be used, or not with this storage.
    Config(ConfigError),
    /// Two ranges of alternative addresses overlap in an endpoint, so two shards would too.
    Overlapping {
        /// An address that is in both.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        address: Ipv4Addr,
        /// A port of it that is in both.
        port: u16,
    },
    /// There are fewer addresses than shards, and this range has too few ports for every shard to get one.
    TooFewPorts {
        /// The first address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        first: Ipv4Addr,
        /// The last address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        last: Ipv4Addr,
        /// The first and the last port.
        ports: (u16, u16),
        /// The requested number of shards.
        shards: usize,
    },
    /// Ranges that are divided among shards would take more than [`MAX_ALTERNATIVES`] places: use fewer ranges, or
    /// ranges that end where a shard's share does.
    TooManyPieces,
    /// [`Config::rewrite_identification`] with fewer alternative addresses than shards: two shards could give packets
    /// from one address the same identification.
    SharedIdentification,
    /// The rule keeps the source. A packet in its reply direction goes to the client's own address, and does not show
    /// whether that is a client or a server, so its owner could not be determined.
    KeptSource,
    /// A shard refused the rule, so none has it.
    Divert(DivertError),
}

impl fmt::Display for ShardingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shards { value } => write!(f, "{value} shards; valid are 1 to {}", u16::MAX),
            Self::Config(error) => error.fmt(f),
            Self::Overlapping { address, port } => write!(f, "{address}:{port} is in two ranges of alternatives"),
            Self::TooFewPorts { first, last, ports: (low, high), shards } => {
                write!(f, "alternative {first}-{last}, ports {low}-{high}: too few for {shards} shards")
            }
            Self::TooManyPieces => {
                write!(
                    f,
                    "divided among the shards, there are more than {MAX_ALTERNATIVES} ranges of alternative addresses"
                )
            }
            Self::SharedIdentification => {
                f.write_str("identifications cannot be rewritten with fewer alternative addresses than shards")
            }
            Self::KeptSource => f.write_str("a rule of several shards cannot keep the source"),
            Self::Divert(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ShardingError {}

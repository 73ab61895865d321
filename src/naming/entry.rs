//! Entries: which names are answered, and with what.

use core::fmt;
use core::net::Ipv4Addr;

use super::name::Pattern;
use crate::divert::Match;
use crate::endpoint::Prefix;

/// How many addresses one entry can have.
pub const MAX_ADDRESSES: usize = 8;

/// How many entries can have the same pattern, each for a different client prefix. It bounds what a query costs.
pub const MAX_CLIENT_PREFIXES: usize = 16;

/// The longest time to live in seconds (RFC 2181, section 8).
pub const MAX_TTL: u32 = i32::MAX as u32;

/// An address that a name is answered with, and its share of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WeightedAddress {
    /// The address.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub address: Ipv4Addr,
    /// Its share: twice the weight, twice the clients. Zero keeps it in the entry without giving it to anyone.
    pub weight: u16,
}

/// An entry: a pattern of names, and the address that clients get for them.
///
/// A client always gets one address, and the same one as long as the entry has it (weighted rendezvous hashing of the
/// client's address). So an answer reveals only what this client may know.
///
/// ```
/// use byway::naming::{NameEntry, WeightedAddress};
/// use core::net::Ipv4Addr;
///
/// let [a, b] = [1, 2].map(|n| Ipv4Addr::new(203, 0, 113, n));
/// let one = NameEntry::new("www.bt.com".parse::<byway::naming::Pattern>()?).to(a).ttl(20);
/// let group = [WeightedAddress { address: a, weight: 3 }, WeightedAddress { address: b, weight: 1 }];
/// let shared = NameEntry::new("*.xyz.com".parse::<byway::naming::Pattern>()?)
///     .clients("192.168.0.0/16".parse()?)
///     .to_group(&group);
/// # let _ = (one, shared);
/// # Ok::<(), byway::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NameEntry<'a> {
    pub(crate) pattern: Pattern,
    pub(crate) clients: Prefix,
    pub(crate) ttl: u32,
    single: WeightedAddress,
    group: Option<&'a [WeightedAddress]>,
}

impl<'a> NameEntry<'a> {
    /// The time to live of an answer in seconds, unless it is set. Short, since a change of an entry that is not tied
    /// to a rule reaches a client only when its cached answer has expired.
    pub const DEFAULT_TTL: u32 = 30;

    /// An entry for these names and all clients. It needs an address.
    #[must_use]
    pub fn new(pattern: impl Into<Pattern>) -> Self {
        Self {
            pattern: pattern.into(),
            clients: Prefix::ALL,
            ttl: Self::DEFAULT_TTL,
            single: WeightedAddress { address: Ipv4Addr::UNSPECIFIED, weight: 0 },
            group: None,
        }
    }

    /// Answers with one address.
    #[must_use]
    pub const fn to(mut self, address: Ipv4Addr) -> Self {
        self.single = WeightedAddress { address, weight: 1 };
        self.group = None;
        self
    }

    /// Distributes the clients among these addresses by weight.
    #[must_use]
    pub const fn to_group(mut self, group: &'a [WeightedAddress]) -> Self {
        self.group = Some(group);
        self
    }

    /// Limits the entry to clients within this prefix. Of several entries with the same pattern the longest prefix
    /// applies; a client in none of them gets what the next shorter pattern says.
    #[must_use]
    pub const fn clients(mut self, prefix: Prefix) -> Self {
        self.clients = prefix;
        self
    }

    /// How long clients may keep the answer, in seconds; up to [`MAX_TTL`]. Zero: not at all.
    #[must_use]
    pub const fn ttl(mut self, seconds: u32) -> Self {
        self.ttl = seconds;
        self
    }

    /// Which names it is for.
    #[must_use]
    pub const fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Which clients it is for.
    #[must_use]
    pub const fn from_clients(&self) -> Prefix {
        self.clients
    }

    pub(crate) fn addresses(&self) -> &[WeightedAddress] {
        self.group.unwrap_or(core::slice::from_ref(&self.single))
    }
}

/// What [`Names::insert`](super::Names::insert) has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Inserted {
    /// The generation of the names after it.
    pub generation: u32,
    /// Whether an entry with the same pattern and clients was updated, rather than a new one inserted.
    pub updated: bool,
}

/// Why an entry was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EntryError {
    /// There is no room for another entry.
    TableFull {
        /// How many entries there is room for.
        capacity: usize,
    },
    /// There are [`MAX_CLIENT_PREFIXES`] entries with this pattern.
    TooManyClientPrefixes {
        /// The prefix of the entry that is one too many.
        clients: Prefix,
    },
    /// It has more addresses than [`MAX_ADDRESSES`].
    TooManyAddresses {
        /// How many it has.
        addresses: usize,
    },
    /// None of its addresses has a weight above zero.
    NoAddress {
        /// How many addresses it has in all.
        addresses: usize,
    },
    /// It has an address twice.
    DuplicateAddress {
        /// The address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        address: Ipv4Addr,
    },
    /// It has an address that no host can have (RFC 1812, section 5.3.7).
    MartianAddress {
        /// The address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        address: Ipv4Addr,
    },
    /// Its time to live is above [`MAX_TTL`].
    TtlTooLong {
        /// The requested value, in seconds.
        seconds: u32,
    },
    /// The entry is tied to a rule of the translator. Change both together
    /// ([`Names::divert`](super::Names::divert), [`Names::redivert`](super::Names::redivert),
    /// [`Names::remove_both`](super::Names::remove_both)), or [untie](super::Names::untie) it first.
    Tied {
        /// What the rule matches.
        rule: Match,
    },
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableFull { capacity } => write!(f, "the table of names is full: {capacity} entries"),
            Self::TooManyClientPrefixes { clients } => {
                write!(f, "clients {clients}: the name has entries for {MAX_CLIENT_PREFIXES} other prefixes")
            }
            Self::TooManyAddresses { addresses } => {
                write!(f, "{addresses} addresses: an entry has room for {MAX_ADDRESSES}")
            }
            Self::NoAddress { addresses } => write!(f, "none of the {addresses} addresses has a weight above zero"),
            Self::DuplicateAddress { address } => write!(f, "the entry has address {address} twice"),
            Self::MartianAddress { address } => write!(f, "address {address}: no host can have this address"),
            Self::TtlTooLong { seconds } => write!(f, "ttl of {seconds} s is above {MAX_TTL}"),
            Self::Tied { rule } => write!(f, "the entry is tied to the rule for {rule}: change both, or untie it"),
        }
    }
}

impl core::error::Error for EntryError {}

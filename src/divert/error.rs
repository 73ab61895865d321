//! Why a rule is refused.

use core::fmt;

use crate::divert::target::Target;
use crate::endpoint::Prefix;

/// Why a rule was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DivertError {
    /// The divert table is full.
    TableFull {
        /// How many rules it has room for.
        capacity: usize,
    },
    /// There are not enough entries for its servers. Each server of each rule takes one, and servers that no rule uses
    /// any more keep theirs until their last connection ends. In a storage with room for more than 1024 rules, on a
    /// 64-bit machine, rules that have only the same server share its entry. There are 65 534 entries at most.
    ServersFull {
        /// How many entries there are in all.
        capacity: usize,
    },
    /// Its group has no server with a weight above zero.
    EmptyGroup {
        /// How many servers it has in all.
        servers: usize,
    },
    /// Its group has more than 4095 servers, more than one instruction may examine (64-bit machines). Several rules, each for a
    /// part of the clients, can have groups of their own.
    GroupTooLarge {
        /// How many servers a group can have.
        capacity: usize,
    },
    /// Its group contains a server twice.
    DuplicateServer {
        /// The server.
        target: Target,
    },
    /// It replaces the source, but the configuration has no alternative address.
    NoAlternative {
        /// The destinations that it matches.
        destination: Prefix,
    },
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
    /// It diverts a destination to itself. Use [`Target::Same`] if that is intended. Or it keeps the source, and its
    /// group goes by its servers' connections ([`Divert::least_loaded`](crate::Divert::least_loaded),
    /// [`Divert::ejecting`](crate::Divert::ejecting)) and contains the original destination: packets to that are not
    /// translated, so there are no connections that could be counted or fail.
    ToItself {
        /// The target.
        target: Target,
    },
    /// It matches port zero.
    MatchesPortZero {
        /// The destinations that it matches.
        destination: Prefix,
    },
    /// It asks that its connections can be handed over, and the storage has no room for what that needs
    /// (`Heap::resumable`, [`Borrowed::resumable`](crate::Borrowed::resumable), the last parameter of
    /// [`Fixed`](crate::Fixed)).
    NotResumable {
        /// The destinations that it matches.
        destination: Prefix,
    },
    /// It asks that failing servers are ejected, and the storage does not measure servers (`Heap::measured`,
    /// [`Borrowed::measured_servers`](crate::Borrowed::measured_servers), [`Fixed`](crate::Fixed)).
    NotMeasured {
        /// The destinations that it matches.
        destination: Prefix,
    },
    /// It diverts to port zero.
    TargetPortZero {
        /// The target.
        target: Target,
    },
}

impl fmt::Display for DivertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableFull { capacity } => write!(f, "the divert table is full: {capacity} rules"),
            Self::ServersFull { capacity } => {
                write!(f, "no room for its servers: {capacity} entries are in use")
            }
            Self::EmptyGroup { servers } => {
                write!(f, "none of the {servers} servers of the group has a weight above zero")
            }
            Self::GroupTooLarge { capacity } => write!(f, "the group has more than {capacity} servers"),
            Self::DuplicateServer { target } => write!(f, "the group names {target} twice"),
            Self::NoAlternative { destination } => {
                write!(f, "destination {destination}: there is no alternative address to replace the source with")
            }
            Self::MartianTarget { target } => {
                write!(f, "target {target}: no host can have this address")
            }
            Self::OwnTarget { target } => {
                write!(f, "target {target} is an address of the translator itself")
            }
            Self::ToItself { target } => {
                write!(f, "target {target} is the original destination itself")
            }
            Self::MatchesPortZero { destination } => {
                write!(f, "destination {destination} with port 0: no packet has this port")
            }
            Self::NotResumable { destination } => {
                write!(f, "destination {destination}: the storage has no room for resumable connections")
            }
            Self::NotMeasured { destination } => {
                write!(
                    f,
                    "destination {destination}: failing servers cannot be ejected, since servers are not measured"
                )
            }
            Self::TargetPortZero { target } => write!(f, "target {target}: port 0 cannot be used"),
        }
    }
}

impl core::error::Error for DivertError {}

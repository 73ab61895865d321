//! Why a translator cannot be made as it was asked for.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use crate::config::MAX_ALTERNATIVES;
use crate::table::storage;
use crate::timeouts::Timeouts;

/// Why a configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfigError {
    /// More alternative address ranges than [`MAX_ALTERNATIVES`].
    TooManyAlternatives {
        /// The first address of the last one that was added.
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
    /// A range of alternative addresses or ports that holds nothing.
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
    /// An alternative address that no packet may bear (RFC 1812, section 5.3.7).
    MartianAlternative {
        /// The address.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        address: Ipv4Addr,
    },
    /// A time-out below the floor of the RFCs; see [`Config::allow_short_timeouts`](crate::Config::allow_short_timeouts).
    TimeoutTooShort {
        /// Which field of [`Timeouts`].
        name: &'static str,
        /// What was asked for.
        value: Duration,
        /// The least that is allowed.
        floor: Duration,
    },
    /// A time-out above [`Timeouts::MAX`].
    TimeoutTooLong {
        /// Which field of [`Timeouts`].
        name: &'static str,
        /// What was asked for.
        value: Duration,
    },
    /// A limit per client above 65 534.
    ClientLimit {
        /// What was asked for.
        value: u32,
    },
    /// The storage has room for fewer than 8 connections, for 13 to 15 (of which its index would hold 12), or for more
    /// than 2^28.
    Capacity {
        /// How many connections it has room for.
        connections: usize,
    },
    /// The storage has fewer index places than [`INDEX_WORDS`](crate::INDEX_WORDS) for each connection, or a number
    /// of measurements that is neither zero nor the number of connections.
    MismatchedStorage {
        /// Which of the slices.
        name: &'static str,
        /// Its length.
        length: usize,
        /// The length that it should have.
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
                write!(f, "time-out {name} of {value:?} is above {:?}", Timeouts::MAX)
            }
            Self::ClientLimit { value } => write!(f, "client limit of {value} is above 65534"),
            Self::Capacity { connections } => {
                write!(
                    f,
                    "room for {connections} connections; possible are 8 to 12, and 16 to {}",
                    storage::MAX_CONNECTIONS
                )
            }
            Self::MismatchedStorage { name, length, expected } => {
                write!(f, "storage for {name} has {length} places instead of {expected}")
            }
        }
    }
}

impl core::error::Error for ConfigError {}

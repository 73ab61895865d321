//! Events: what happened to connections.

use core::net::SocketAddrV4;

use crate::connection::Connection;
#[cfg(feature = "report")]
use crate::connection::Measured;
#[cfg(feature = "report")]
use crate::endpoint::Pair;
#[cfg(feature = "report")]
use crate::time::Instant;

/// Something that happened to a connection; fetched with
/// [`Translator::poll_event`](crate::Translator::poll_event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// A packet opened it, or it was imported from a record.
    Opened(Connection),
    /// Its state changed. Reported only if the configuration asks for it
    /// ([`Config::tell_changes`](crate::Config::tell_changes)).
    Changed(Connection),
    /// A re-divert moved it, or a record showed that another portion had; the connection has its new server.
    Moved {
        /// The connection after the move.
        connection: Connection,
        /// The server before the move.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        from: SocketAddrV4,
    },
    /// It ended.
    Closed {
        /// The connection at its end.
        connection: Connection,
        /// The reason.
        why: Closed,
    },
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Closed {
    /// TCP: both sides have sent a FIN, and either both FINs were acknowledged or the client has reused the port.
    Finished,
    /// TCP: one side sent a RST with the sequence number that the other expected.
    Reset,
    /// A re-divert ended it: TCP with [`Redivert::Reset`](crate::Redivert::Reset), or by
    /// [`Translator::reset`](crate::Translator::reset), or a connection that keeps its
    /// source and was sent back to its original destination, so that nothing is left to translate.
    Rediverted,
    /// Its time-out passed.
    Expired,
    /// It was evicted to make room.
    Evicted,
    /// It was moved to a server towards which no alternative port was free, or for which the index had no room.
    Stranded,
    /// All connections were forgotten ([`Translator::forget`](crate::Translator::forget)).
    Forgotten,
}

impl Closed {
    /// A short name in lower case, stable across versions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Rediverted => "rediverted",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Stranded => "stranded",
            Self::Forgotten => "forgotten",
        }
    }
}

/// An event, and what else is known about it; from [`Translator::poll_report`](crate::Translator::poll_report).
#[cfg(feature = "report")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Report {
    /// The event.
    pub event: Event,
    /// When it happened. The time of the last packet or poll, if the storage has no room for such details of events.
    pub at: Instant,
    /// [`Event::Closed`]: what was measured of the connection, the packet that ended it included. Packets after its end
    /// (late segments in TIME-WAIT) are not included.
    pub measured: Option<Measured>,
    /// [`Event::Moved`]: what it was moved from, and how.
    pub moved: Option<Moved>,
}

#[cfg(feature = "report")]
impl Report {
    /// An event about which nothing else is known.
    #[must_use]
    pub const fn new(event: Event, at: Instant) -> Self {
        Self { event, at, measured: None, moved: None }
    }
}

/// A move of a connection from one server to another.
#[cfg(feature = "report")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Moved {
    /// `(alternative source, diverted destination)` before the move.
    pub from: Pair,
    /// The generation of the rules that the connection follows now: see [`Rediverted`](crate::Rediverted).
    pub generation: u32,
    /// What moved it.
    pub how: Moving,
}

/// What moves a connection.
#[cfg(feature = "report")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Moving {
    /// It followed a re-divert.
    Instruction,
    /// It was handed over, with its state, to a server that continues where the previous one stopped.
    HandOver,
    /// A record showed that another portion had moved it.
    Record,
}

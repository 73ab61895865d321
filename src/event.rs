//! Events: what happened to connections.

use core::net::SocketAddrV4;

use crate::connection::Connection;

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
    /// It was moved to a server towards which no alternative port was free.
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

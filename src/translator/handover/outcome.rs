//! The outcome of a hand-over.

use core::net::SocketAddrV4;
use core::time::Duration;

use crate::connection::Connection;
use crate::endpoint::Pair;
use crate::translator::handover::resumption::Kept;

/// The outcome of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Outcome {
    /// The connection was moved to the new server.
    Moved {
        /// The connection, with its new server.
        connection: Connection,
        /// The old server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        from: SocketAddrV4,
        /// How long no packet of the connection passed.
        gap: Duration,
        /// How many bytes the new server was sent first.
        replayed: usize,
        /// How many bytes of its answer were not passed on to the client.
        dropped: usize,
        /// The sequence number, as the client knows it, of the first byte that the new server sends to the client.
        position: u32,
        /// What is added to the new server's sequence numbers (modulo 2^32), and to its timestamps.
        offsets: (u32, u32),
    },
    /// The connection was not moved.
    Kept {
        /// The client, and the original destination.
        client_side: Pair,
        /// The server that was to take over.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        to: SocketAddrV4,
        /// The reason.
        why: Kept,
    },
}

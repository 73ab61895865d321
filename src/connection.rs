//! The public view of a connection.

use core::fmt;
use core::net::SocketAddrV4;
use core::time::Duration;

use crate::endpoint::{Pair, Protocol};
use crate::time::Instant;

/// One current connection: the document's pair of pairs, and its state.
///
/// UDP flows and ICMP echo exchanges are connections too, as in the document. This is a copy; it does not change when
/// the connection does.
///
/// A packet from `client_side.source` to `client_side.destination` reaches the server with the addresses
/// `server_side.source` and `server_side.destination`; replies are translated in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Connection {
    /// TCP, UDP or ICMP echo.
    pub protocol: Protocol,
    /// `(client, original destination)`: the addresses of the client's packets, reversed in the replies that it
    /// receives.
    pub client_side: Pair,
    /// `(alternative source, diverted destination)`: the addresses of the packets that the server receives.
    pub server_side: Pair,
    /// Its state.
    pub state: State,
}

impl fmt::Display for Connection {
    /// The document's notation: `(client, original), (alternative, server)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (c, s) = (self.client_side, self.server_side);
        write!(f, "({}, {}), ({}, {})", c.source, c.destination, s.source, s.destination)
    }
}

/// The state of a connection. Each state has one of the time-outs of [`Timeouts`](crate::Timeouts).
///
/// For TCP it is what both ends have confirmed, not what one of them claims; `docs/tcp.md` describes which segments
/// lead to which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum State {
    /// TCP: the client has sent a SYN that the server has not answered (transitory).
    Opening,
    /// TCP: the server has answered with its SYN (transitory).
    Opened,
    /// TCP: each side has acknowledged the other's SYN, and no FIN has been acknowledged (established). Also an adopted
    /// connection, which has the transitory time-out until a segment of its server has been seen.
    Established,
    /// TCP: the server has acknowledged the client's FIN, and may go on sending (established).
    ClientClosed,
    /// TCP: the client has acknowledged the server's FIN, and may go on sending (established).
    ServerClosed,
    /// TCP: both have sent a FIN with exactly the number that its receiver expects, and at least one of them is not
    /// acknowledged yet (transitory).
    Closing,
    /// TCP: both FINs are acknowledged, or a RST was seen that its receiver accepts; late segments are still translated
    /// (hold).
    TimeWait,
    /// TCP: a RST was seen after data or a FIN that is not acknowledged yet. Its receiver accepts it if that data
    /// arrived; the next segment that its receiver accepts restores the connection (transitory).
    Doubtful,
    /// TCP: being reset by a re-divert: every segment from either end is answered with a RST (hold).
    Resetting,
    /// UDP or ICMP echo: the server has not answered yet; or the server has sent from another port
    /// ([`Divert::replies_from_any_port`](crate::Divert::replies_from_any_port)), and the client has not answered that yet.
    Unanswered,
    /// UDP or ICMP echo: the server has answered.
    Answered,
}

impl State {
    /// A short name in lower case, stable across versions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Opened => "opened",
            Self::Established => "established",
            Self::ClientClosed => "client_closed",
            Self::ServerClosed => "server_closed",
            Self::Closing => "closing",
            Self::TimeWait => "time_wait",
            Self::Doubtful => "doubtful",
            Self::Resetting => "resetting",
            Self::Unanswered => "unanswered",
            Self::Answered => "answered",
        }
    }
}

/// One of the two directions that a packet of a connection can go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// From the client to the server: the document's client process 201.
    ToServer,
    /// From the server to the client: the document's server process 203.
    ToClient,
}

/// What was measured of one connection, where the storage has room for it ([`Fixed`](crate::Fixed), or `Heap::measured`
/// with the feature `alloc`): the document's "performance information".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Measured {
    /// What the client sent.
    pub to_server: Volume,
    /// What the server sent.
    pub to_client: Volume,
    /// When its first packet was translated.
    pub first: Instant,
    /// When its last packet was translated, to within 65.5 ms. Of a connection that has ended in a silence of the whole
    /// translator (no packet, and no call of `poll`) for more than some five days, it is later: by as much as the silence
    /// was longer.
    pub last: Instant,
    /// TCP: time from the client's SYN to the server's SYN, as seen here: the server's share of the handshake.
    pub server_handshake: Option<Duration>,
    /// TCP: time from the server's SYN to the client's acknowledgement, as seen here: the client's share.
    pub client_handshake: Option<Duration>,
    /// TCP: smoothed round-trip time from here to the server and back (RFC 6298, section 2, gain 1/8). UDP and ICMP
    /// echo: smoothed time from a packet to the next answer.
    pub round_trip: Option<Duration>,
    /// TCP segments with data that had been sent before, in both directions; at most 65 535 are counted.
    pub retransmissions: u16,
    /// TCP segments with RST, in both directions; at most 255 are counted.
    pub resets: u16,
    /// ICMP errors about packets of this connection, in both directions; at most 255 are counted.
    pub icmp_errors: u16,
}

/// The volume of traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Volume {
    /// Packets translated.
    pub packets: u64,
    /// Bytes in them, IPv4 headers included.
    pub bytes: u64,
    /// The smallest packet, in bytes; zero if there was none.
    pub smallest: u16,
    /// The largest packet, in bytes; zero if there was none.
    pub largest: u16,
}

impl Connection {
    /// The original destination: the server that the client asked for.
    #[must_use]
    pub const fn original(&self) -> SocketAddrV4 {
        self.client_side.destination
    }

    /// The current destination: the server that the client is connected to.
    #[must_use]
    pub const fn server(&self) -> SocketAddrV4 {
        self.server_side.destination
    }
}

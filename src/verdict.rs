//! What the caller does with a packet.

use core::fmt;

use crate::connection::Direction;

/// What the caller must do with the packet that it passed to [`Translator::translate`](crate::Translator::translate).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the packet is to be sent, held or dropped"]
pub enum Verdict {
    /// Send it: it was diverted to the server; both of its addresses are rewritten.
    ToServer,
    /// Send it: it is a reply to the client, with both of its addresses restored.
    ToClient,
    /// Send it as it is: the translator does not handle it, and its bytes are untouched.
    Pass,
    /// Keep it for a moment or drop it: a later fragment whose first fragment has not been seen. Its bytes are
    /// untouched. Offer it again after the next fragment of the same datagram, identified by
    /// [`DatagramId`](crate::DatagramId), and discard it after
    /// [`Translator::hold_until`](crate::Translator::hold_until).
    Hold,
    /// Drop it: its bytes are untouched, and the reason is counted.
    Drop(DropReason),
}

impl Verdict {
    /// The verdict for a packet translated in this direction.
    pub(crate) const fn carried(direction: Direction) -> Self {
        match direction {
            Direction::ToServer => Self::ToServer,
            Direction::ToClient => Self::ToClient,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was dropped. Each reason has its own counter in
        /// [`Counters::dropped`](crate::Counters::dropped).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A short name in lower case with underscores, stable across versions.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// The IPv4 header is truncated or inconsistent (RFC 791, section 3.1).
    MalformedIpv4 = "malformed_ipv4",
    /// The TCP, UDP or ICMP header is truncated or inconsistent.
    MalformedTransport = "malformed_transport",
    /// The source is an address that no packet may come from (RFC 1812, section 5.3.7; RFC 3704).
    MartianSource = "martian_source",
    /// The source is one of the translator's own addresses.
    OwnSource = "own_source",
    /// It is addressed to an alternative address and port, or comes from the server of a port forward that keeps the
    /// source, and belongs to no live connection.
    NoConnection = "no_connection",
    /// It comes from a server that its connection was moved away from.
    OldServer = "old_server",
    /// A TCP segment in the middle of an unknown connection, and its rule or the configuration says to drop those; or
    /// it cannot be adopted by a rule that masquerades ([`Midstream`](crate::Midstream)).
    Midstream = "midstream",
    /// A RST with a sequence number other than the expected one, and the configuration says to drop those (RFC 5961).
    InexactReset = "inexact_reset",
    /// The connection is being reset: the sender is answered with a RST.
    Resetting = "resetting",
    /// There is no room for another connection, and none that may be evicted for it.
    TableFull = "table_full",
    /// The client has reached the limit of connections per client (RFC 6888, REQ-4).
    ClientLimit = "client_limit",
    /// No free alternative port was found towards this server (RFC 6888, REQ-11).
    NoPort = "no_port",
    /// The first fragment is too short to contain the transport header (RFC 1858, section 3).
    TinyFragment = "tiny_fragment",
    /// A fragment overlaps one that was seen before, lies after the last one of its datagram, or reaches into the
    /// transport header (RFC 3128).
    OverlappingFragment = "overlapping_fragment",
    /// The datagram's fragments form more disjoint ranges than are tracked: 12, including the first, so that up to 24
    /// fragments are never dropped for this, in any order.
    ScatteredFragment = "scattered_fragment",
    /// An ICMP message with a wrong checksum, of its own or in the header that it quotes (RFC 5508, REQ-3).
    IcmpChecksum = "icmp_checksum",
    /// An ICMP error that quotes a packet of no known connection (RFC 5508, REQ-4 and REQ-5).
    IcmpUnrelated = "icmp_unrelated",
    /// It cannot be translated, and would leave with its private source: a rule that masquerades matches a protocol
    /// without ports, an ICMP message other than an error and an echo, or an unsolicited echo reply.
    Untranslatable = "untranslatable",
    /// It belongs to a connection that is being handed over: a segment of one of the two ends, which
    /// [`HandOvers`](crate::HandOvers) keeps or has the sender repeat, or an answer of the new server.
    HandingOver = "handing_over",
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

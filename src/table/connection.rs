//! The current connections (211 in the document): one slot each, both sides of a connection in one cache line.

use crate::connection::{Connection, Direction};
use crate::endpoint::{Endpoint, Pair, Protocol};
use crate::table::hash::Key;
use crate::time::Tick;
use crate::track::phase::Phase;
use crate::track::sequence::Sequences;
use crate::track::timers::CoarseTime;
use crate::wire::checksum::{Checksums, Delta};
use crate::wire::ipv4::ICMP;

/// No slot: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

/// Room for one connection in a translator's storage: exactly one 64-byte cache line, all zeros when unused.
///
/// Everything that a packet reads or writes of its connection lies here. The rest of a connection's 96 bytes is its
/// share of the indexes ([`INDEX_WORDS`](crate::INDEX_WORDS)).
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(align(64))]
pub struct ConnectionSlot(pub(crate) Entry);

const _: () = assert!(size_of::<ConnectionSlot>() == 64);

impl ConnectionSlot {
    /// An unused slot.
    pub const EMPTY: Self = Self(Entry::EMPTY);
}

/// A connection as the table stores it. Not itself aligned to a cache line, so that a copy on the stack need not be
/// either.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub(crate) struct Entry {
    // Each endpoint beside its peer, so that both are read, compared and written at once, in the order in which they
    // stand in a translated packet: the client's side, then the server's side.
    pub(crate) client: u32,
    pub(crate) original: u32,
    pub(crate) client_port: u16,
    pub(crate) original_port: u16,
    pub(crate) server: u32,
    pub(crate) alternative: u32,
    pub(crate) server_port: u16,
    pub(crate) alternative_port: u16,
    /// The number, modulo 256, of the last re-divert that this connection has followed.
    pub(crate) epoch: u8,
    pub(crate) protocol: u8,
    pub(crate) phase: Phase,
    pub(crate) flags: u8,
    /// How translation in the forward direction changes the IPv4 header checksum, if software updates it.
    pub(crate) network: Delta,
    /// How translation in the forward direction changes the transport checksum, if software updates it.
    pub(crate) transport: Delta,
    pub(crate) last: Tick,
    pub(crate) sequences: Sequences,
    /// Neighbours in the age list, or the next free slot.
    pub(crate) previous: u32,
    pub(crate) next: u32,
    /// The entry that counts this connection among the servers.
    pub(crate) member: u16,
    /// When it was put at the end of its age list.
    pub(crate) listed_at: CoarseTime,
}

/// A protocol and an epoch as they stand side by side in an entry, read and compared at once.
#[inline(always)]
pub(crate) const fn mark_of(protocol: u8, epoch: u8) -> u32 {
    u16::from_le_bytes([epoch, protocol]) as u32
}

/// Selects one of a connection's entries in the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexKey {
    /// For packets of the client.
    Forward,
    /// For packets of the server.
    Reply,
    /// For packets from the server's other ports.
    AnyPortReply,
}

/// The client keeps its address: only the destination is rewritten.
pub(crate) const SOURCE_KEPT: u8 = 1;
/// Replies from the server's other ports belong to the client: there is a second entry in the reply index.
pub(crate) const ANY_PORT_REPLIES: u8 = 2;
/// Its client's count includes it.
pub(crate) const CLIENT_COUNTED: u8 = 4;
/// Its server's count includes it.
pub(crate) const SERVER_COUNTED: u8 = 8;
/// The client is owed a RST.
pub(crate) const OWES_CLIENT: u8 = 16;
/// The server is owed a RST.
pub(crate) const OWES_SERVER: u8 = 32;
/// Its rule asks that another server can take it over; TCP only.
pub(crate) const RESUMABLE: u8 = 64;

impl Entry {
    /// An unused slot.
    pub(crate) const EMPTY: Self = Self {
        client: 0,
        original: 0,
        client_port: 0,
        original_port: 0,
        alternative_port: 0,
        server_port: 0,
        alternative: 0,
        server: 0,
        network: Delta(0),
        transport: Delta(0),
        last: Tick(0),
        sequences: Sequences::from_words([0; 4]),
        protocol: 0,
        phase: Phase::Free,
        flags: 0,
        epoch: 0,
        previous: 0,
        next: 0,
        member: 0,
        listed_at: CoarseTime(0),
    };

    #[inline]
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The phase to store when the tracker reports this one.
    #[inline]
    pub(crate) const fn stored(&self, phase: Phase) -> Phase {
        match phase {
            Phase::Established if self.has(RESUMABLE) => Phase::EstablishedResumable,
            phase => phase,
        }
    }

    /// Whether it is listed as a connection: until it is finished and both ends have been notified.
    pub(crate) fn is_shown(&self) -> bool {
        self.phase.is_listed() && (self.phase != Phase::Resetting || self.has(OWES_CLIENT | OWES_SERVER))
    }

    #[inline(always)]
    pub(crate) const fn client_endpoint(&self) -> Endpoint {
        Endpoint::new(self.client, self.client_port)
    }

    /// What the client asked for.
    #[inline(always)]
    pub(crate) const fn original_endpoint(&self) -> Endpoint {
        Endpoint::new(self.original, self.original_port)
    }

    /// What the server sees instead of the client.
    #[inline(always)]
    pub(crate) const fn alternative_endpoint(&self) -> Endpoint {
        Endpoint::new(self.alternative, self.alternative_port)
    }

    #[inline(always)]
    pub(crate) const fn server_endpoint(&self) -> Endpoint {
        Endpoint::new(self.server, self.server_port)
    }

    #[inline(always)]
    pub(crate) const fn set_alternative(&mut self, endpoint: Endpoint) {
        (self.alternative, self.alternative_port) = (endpoint.address, endpoint.port);
    }

    #[inline(always)]
    pub(crate) const fn set_server(&mut self, endpoint: Endpoint) {
        (self.server, self.server_port) = (endpoint.address, endpoint.port);
    }

    /// The key that finds it for a packet of the client.
    #[inline]
    pub(crate) const fn forward_key(&self) -> Key {
        Key::new(self.protocol, self.client_endpoint(), self.original_endpoint())
    }

    /// The key that finds it for a packet of the server.
    #[inline]
    pub(crate) const fn reply_key(&self) -> Key {
        Key::new(self.protocol, self.alternative_endpoint(), self.server_endpoint())
    }

    /// The index that it is entered in, and the key.
    pub(crate) const fn entry(&self, which: IndexKey) -> (Direction, Key) {
        match which {
            IndexKey::Forward => (Direction::ToServer, self.forward_key()),
            IndexKey::Reply => (Direction::ToClient, self.reply_key()),
            IndexKey::AnyPortReply => (Direction::ToClient, self.key_siblings()),
        }
    }

    /// The key that finds it for a packet in this direction.
    #[inline(always)]
    const fn key(&self, direction: Direction) -> Key {
        match direction {
            Direction::ToServer => self.forward_key(),
            Direction::ToClient => self.reply_key(),
        }
    }

    /// Whether a packet in this direction belongs to it, and its epoch is `epoch`. `answer` has the addresses and ports
    /// of a reply to that packet.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) fn is_plainly(&self, direction: Direction, answer: Key, epoch: u32) -> bool {
        // Compares with the fields in the slot, instead of assembling a key from them first.
        let (addresses, ports) = self.becomes(direction.opposite());
        addresses == answer.addresses
            && ports == (answer.ports >> 16) as u32
            && mark_of(self.protocol, self.epoch) == epoch | mark_of(answer.ports as u8, 0)
    }

    /// Source and destination of a packet in this direction after translation.
    #[inline(always)]
    pub(crate) const fn ends(&self, direction: Direction) -> (Endpoint, Endpoint) {
        match direction {
            Direction::ToServer => (self.alternative_endpoint(), self.server_endpoint()),
            Direction::ToClient => (self.original_endpoint(), self.client_endpoint()),
        }
    }

    /// The same, packed as in the packet: both addresses, and both ports.
    #[inline(always)]
    pub(crate) const fn becomes(&self, direction: Direction) -> (u64, u32) {
        let (source, destination) = self.ends(direction);
        (
            (source.address as u64) << 32 | destination.address as u64,
            (source.port as u32) << 16 | destination.port as u32,
        )
    }

    /// The key that finds it for a packet from another port of the server.
    const fn key_siblings(&self) -> Key {
        Key::of_any_port_replies(self.alternative_endpoint(), self.server)
    }

    /// Whether a key is one of those under which it is entered in the index of this direction.
    #[inline(always)]
    pub(crate) fn answers(&self, direction: Direction, key: &Key) -> bool {
        let mine = self.key(direction);
        let ports = (mine.ports >> 16) as u32 ^ (key.ports >> 16) as u32;
        let of_any_port_replies = key.is_of_siblings();
        // The key of any-port replies does not include the server's port.
        let ports = if of_any_port_replies { ports >> 16 } else { ports };
        mine.addresses == key.addresses
            && ports == 0
            && self.protocol == key.ports as u8
            && (!of_any_port_replies || self.has(ANY_PORT_REPLIES))
    }

    /// Computes the deltas from the addresses. Checksums that the hardware computes do not change: their deltas are
    /// zero, so that packets need no test. The hardware does not compute those of ICMP.
    #[inline(always)]
    pub(crate) fn set_deltas(&mut self, checksums: Checksums) {
        let (network, transport) = self.deltas();
        let hardware = checksums == Checksums::Hardware;
        self.network = if hardware { Delta(0) } else { network };
        self.transport = if hardware && self.protocol != ICMP { Delta(0) } else { transport };
    }

    /// How translation in the forward direction changes the IPv4 header checksum and the transport checksum.
    pub(crate) fn deltas(&self) -> (Delta, Delta) {
        let network = Delta::of([self.client, self.original], [self.alternative, self.server]);
        let ports = self.ports_delta();
        (network, if self.protocol == ICMP { ports } else { network.and(ports) })
    }

    /// How the ports alone change the checksum in the forward direction.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn ports_delta(&self) -> Delta {
        Delta::of(
            [u32::from(self.client_port), u32::from(self.original_port)],
            [u32::from(self.alternative_port), u32::from(self.server_port)],
        )
    }

    /// The client, and the endpoint that it asked for.
    #[inline(always)]
    pub(crate) const fn client_side(&self) -> Pair {
        Pair { source: self.client_endpoint().socket(), destination: self.original_endpoint().socket() }
    }

    /// Its public form. `None` if it is not a connection whose packets are translated.
    pub(crate) fn view(&self) -> Option<Connection> {
        Some(Connection {
            protocol: Protocol::from_number(self.protocol)?,
            client_side: self.client_side(),
            server_side: Pair {
                source: self.alternative_endpoint().socket(),
                destination: self.server_endpoint().socket(),
            },
            state: self.phase.state()?,
        })
    }
}

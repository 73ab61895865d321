//! The plain packet, which nearly every packet is: whole, without IP options, TCP or UDP, of an existing connection
//! that it does not change, or of none.
//!
//! Translating it here is a fast path: it must give the same result as `Table::translate`. A packet that turns out not
//! to be plain is left to `Table::translate`, unchanged and uncounted.

use crate::connection::Direction;
use crate::table::connection::Entry;
use crate::table::hash::Key;
use crate::track::phase::Phase;
use crate::translator::state::State;
use crate::verdict::Verdict;
use crate::wire::checksum;
use crate::wire::ipv4::{self, HEADER, Header, TCP, UDP};
use crate::wire::tcp::{self, ACK, FIN, RST, SYN, Segment};

/// Length in bytes of the shortest plain packet: a UDP datagram without data.
const LEAST: usize = HEADER + UDP_HEADER;
const UDP_HEADER: usize = 8;

/// The addresses and ports of a plain packet, packed as they stand in it.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// Source and destination.
    addresses: u64,
    /// Source port and destination port.
    ports: u32,
    /// Bytes after the transport header.
    data: u16,
    pub(super) protocol: u8,
}

impl Plain {
    /// No packet.
    #[cfg(target_pointer_width = "64")]
    pub(super) const NOTHING: Self = Self { addresses: 0, ports: 0, data: 0, protocol: 0 };

    /// Reads a packet. `None` if it is not plain.
    #[inline(always)]
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        Self::read_as(*packet.get(ipv4::PROTOCOL)?, packet)
    }

    /// Reads a packet of this protocol.
    #[inline(always)]
    pub(super) fn read_as(protocol: u8, packet: &[u8]) -> Option<Self> {
        // The longest access first: its bounds check covers all others.
        let (least, offset) = if protocol == TCP {
            (HEADER + tcp::HEADER, packet.first_chunk::<{ HEADER + tcp::HEADER }>()?[HEADER + 12])
        } else {
            (LEAST, 0)
        };
        let start = packet.first_chunk::<LEAST>()?;
        let [header @ .., a, b, c, d, e, f, _, _] = start;
        let view = Header(header);
        // A length that is too short wraps around, here and below, and then fails as too long.
        let beyond = view.total_length().wrapping_sub(least);
        if header[0] != 0x45 || ipv4::is_fragment(view.fragmentation()) || beyond > packet.len().wrapping_sub(least) {
            return None;
        }
        let data = match protocol {
            UDP => {
                let data = usize::from(u16::from_be_bytes([*e, *f])).wrapping_sub(UDP_HEADER);
                (data <= beyond).then_some(data)?
            }
            TCP => beyond.checked_sub((usize::from(offset >> 4) << 2).wrapping_sub(tcp::HEADER))?,
            _ => return None,
        };
        let [.., s, t, u, v, w, x, y, z] = *header;
        Some(Self {
            addresses: u64::from_be_bytes([s, t, u, v, w, x, y, z]),
            ports: u32::from_be_bytes([*a, *b, *c, *d]),
            data: data as u16,
            protocol,
        })
    }

    #[inline(always)]
    pub(super) const fn destination(&self) -> u32 {
        self.addresses as u32
    }

    /// Bytes after the transport header.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(super) fn data(&self) -> u32 {
        self.data.into()
    }

    /// The key of the connection that the packet belongs to if it goes in this direction.
    #[inline(always)]
    pub(super) const fn key(&self, direction: Direction) -> Key {
        let key = Key::packed(self.protocol, self.addresses, self.ports);
        match direction {
            Direction::ToServer => key,
            Direction::ToClient => key.reversed(),
        }
    }
}

/// Why a packet is left to `Table::translate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It needs more than plain translation.
    NotPlain,
    /// It arrives after a long time without a poll.
    Late,
    /// It belongs to no known connection in this direction.
    Unknown(Direction),
}

impl State {
    /// The direction in which a packet to this destination most likely goes; `None` if it certainly passes.
    #[inline(always)]
    pub(super) fn likely_direction(&self, destination: u32) -> Option<Direction> {
        if self.span.holds(destination) && (self.has_one_range() || self.is_alternative(destination)) {
            return Some(Direction::ToClient);
        }
        self.likely_direction_elsewhere(destination)
    }

    /// Like [`likely_direction`](Self::likely_direction), for a destination that is not an alternative address.
    #[inline(always)]
    pub(super) fn likely_direction_elsewhere(&self, destination: u32) -> Option<Direction> {
        if self.filter.may_hold_at_first(destination) {
            Some(Direction::ToServer)
        } else if self.kept != 0 {
            Some(Direction::ToClient)
        } else {
            None
        }
    }

    /// Translates a plain packet of this connection, which is not stale. `None`, with nothing changed, if the packet
    /// needs more than that.
    #[inline(always)]
    pub(super) fn carry_plain(
        &mut self,
        connection: &mut Entry,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
    ) -> Option<Verdict> {
        let phase = plain_phase(plain.protocol, direction, connection.phase)?;
        self.carry_in(phase, connection, direction, plain, packet)
    }

    /// Like [`carry_plain`](Self::carry_plain), for a connection in this phase, in which a plain packet does not change it.
    #[inline(always)]
    pub(super) fn carry_in(
        &mut self,
        phase: Phase,
        connection: &mut Entry,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
    ) -> Option<Verdict> {
        if self.timers.is_dead(phase, connection.last, self.tick) {
            return None;
        }
        if plain.protocol == TCP {
            let tcp = packet.get(HEADER..)?.first_chunk::<{ tcp::HEADER }>()?;
            if tcp[13] & (SYN | FIN | RST | ACK) != ACK {
                return None;
            }
            if !connection.sequences.note_plain(direction, &Segment::with(tcp, plain.data.into())) {
                return None;
            }
        }
        let refreshes = direction == Direction::ToServer || self.config.refresh_from_server;
        self.write_plain(connection, direction, plain.protocol, refreshes, packet)
    }

    /// Gives a plain packet of this connection the addresses and ports of the other side, and counts it. `None`, with nothing
    /// changed, if it is too short for one.
    #[inline(always)]
    pub(super) fn write_plain(
        &mut self,
        connection: &mut Entry,
        direction: Direction,
        protocol: u8,
        refreshes: bool,
        packet: &mut [u8],
    ) -> Option<Verdict> {
        let (header, payload) = packet.split_first_chunk_mut::<HEADER>()?;
        let (addresses, ports) = connection.becomes(direction);
        if protocol == TCP {
            let tcp = payload.first_chunk_mut::<{ tcp::HEADER }>()?;
            [tcp[0], tcp[1], tcp[2], tcp[3]] = ports.to_be_bytes();
            [tcp[16], tcp[17]] = checksum::update_along([tcp[16], tcp[17]], connection.transport, direction);
        } else {
            let udp = payload.first_chunk_mut::<8>()?;
            [udp[0], udp[1], udp[2], udp[3]] = ports.to_be_bytes();
            if let Some(field) = udp.last_chunk_mut() {
                checksum::update_udp(field, connection.transport.along(direction));
            }
        }
        *header.last_chunk_mut()? = addresses.to_be_bytes();
        [header[10], header[11]] = checksum::update_along([header[10], header[11]], connection.network, direction);
        if refreshes {
            connection.last = self.tick;
        }
        match direction {
            Direction::ToServer => {
                self.counters.to_server = self.counters.to_server.wrapping_add(1);
                Some(Verdict::ToServer)
            }
            Direction::ToClient => {
                self.counters.to_client = self.counters.to_client.wrapping_add(1);
                Some(Verdict::ToClient)
            }
        }
    }
}

/// The phase in which a plain packet does not change the connection, if the connection is in one. Where only one phase
/// qualifies, it is returned as a constant instead of passed on: its time-out is then known before the slot has arrived
/// in the cache.
#[inline(always)]
fn plain_phase(protocol: u8, direction: Direction, phase: Phase) -> Option<Phase> {
    let only = match (protocol, direction) {
        (TCP, _) => Phase::Established,
        (_, Direction::ToClient) => Phase::UdpAnswered,
        (_, Direction::ToServer) => return phase.is_plain_forward().then_some(phase),
    };
    (phase == only).then_some(only)
}

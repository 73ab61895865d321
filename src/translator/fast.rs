//! The packet that nearly every packet is: whole, without IP options, TCP or UDP, of a connection that is there and
//! that it does not change, or of none at all.
//!
//! This is a shorter way to what `Table::translate` would do, and never another: whatever is not plain here is left to
//! that, untouched and uncounted.

use super::Translator;
use super::state::State;
use crate::connection::Direction;
use crate::table::connection::{ConnectionSlot, Entry};
use crate::table::hash::Key;
#[cfg(target_pointer_width = "64")]
use crate::table::index::{self, Layout};
use crate::table::storage::Storage;
use crate::track::phase::Phase;
use crate::verdict::Verdict;
use crate::wire::checksum;
use crate::wire::flow::{TCP, UDP};
use crate::wire::ipv4::{self, HEADER, Header};
use crate::wire::tcp::{self, ACK, FIN, RST, SYN, Segment};

/// Octets of the shortest plain packet: a UDP datagram without data.
const LEAST: usize = HEADER + UDP_HEADER;
const UDP_HEADER: usize = 8;

/// The addresses of a plain packet, packed as they stand in it.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// Source and destination.
    pub(super) addresses: u64,
    /// Source port and destination port.
    pub(super) ports: u32,
    /// Octets behind the transport header.
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
    fn read_as(protocol: u8, packet: &[u8]) -> Option<Self> {
        // The longest look first, which makes sure of all others.
        let offset = if protocol == TCP { packet.first_chunk::<{ HEADER + tcp::HEADER }>()?[HEADER + 12] } else { 0 };
        let start = packet.first_chunk::<LEAST>()?;
        let [header @ .., a, b, c, d, e, f, _, _] = start;
        let view = Header(header);
        // What is too short wraps around, and is too long.
        let beyond = view.total_length().wrapping_sub(LEAST);
        if header[0] != 0x45 || ipv4::is_fragment(view.fragmentation()) || beyond > packet.len() - LEAST {
            return None;
        }
        let data = match protocol {
            UDP => {
                let data = usize::from(u16::from_be_bytes([*e, *f])).wrapping_sub(UDP_HEADER);
                (data <= beyond).then_some(data)?
            }
            TCP => {
                let length = usize::from(offset >> 4) << 2;
                let data = (beyond + UDP_HEADER).checked_sub(length)?;
                (length >= tcp::HEADER).then_some(data)?
            }
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

    /// The key of the connection that it belongs to if it goes this way.
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
    /// There is more to it than plain translation.
    NotPlain,
    /// It belongs to no connection that is known if it goes this way.
    Unknown(Direction),
}

impl<S: Storage> Translator<S> {
    /// Translates or passes a plain packet.
    ///
    /// # Errors
    /// Why there is more to it than that.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn fast(&mut self, packet: &mut [u8]) -> Result<Verdict, Left> {
        #[cfg(target_pointer_width = "64")]
        match packet.get(ipv4::PROTOCOL) {
            Some(&TCP) => self.fast_of::<TCP>(packet),
            Some(&UDP) => self.fast_of::<UDP>(packet),
            _ => Err(Left::NotPlain),
        }
        #[cfg(not(target_pointer_width = "64"))]
        self.fast_plain(Plain::read(packet), packet)
    }

    /// The same of this protocol. On a large processor it is compiled once for each, and for each way, so that nothing is
    /// chosen at run time; on a small one flash is dearer.
    #[cfg(target_pointer_width = "64")]
    #[inline(never)]
    fn fast_of<const PROTOCOL: u8>(&mut self, packet: &mut [u8]) -> Result<Verdict, Left> {
        let plain = Plain::read_as(PROTOCOL, packet);
        self.fast_plain(plain, packet)
    }

    #[inline(always)]
    fn fast_plain(&mut self, plain: Option<Plain>, packet: &mut [u8]) -> Result<Verdict, Left> {
        let plain = plain.ok_or(Left::NotPlain)?;
        match self.likely_way(plain.destination()) {
            Some(Direction::ToServer) => self.fast_along(Direction::ToServer, &plain, packet),
            Some(Direction::ToClient) => self.fast_along(Direction::ToClient, &plain, packet),
            None => Ok(self.state.pass()),
        }
    }

    /// Which way a packet to this destination goes, most likely; `None` if it is surely none of ours.
    #[inline(always)]
    pub(super) fn likely_way(&self, destination: u32) -> Option<Direction> {
        let state = &self.state;
        if state.hull.holds(destination) && (state.config.alternatives.len() == 1 || state.is_alternative(destination))
        {
            Some(Direction::ToClient)
        } else if state.filter.may_hold_at_first(destination) {
            Some(Direction::ToServer)
        } else if state.kept != 0 {
            Some(Direction::ToClient)
        } else {
            None
        }
    }

    /// Translates a plain packet that goes this way.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    fn fast_along(&mut self, direction: Direction, plain: &Plain, packet: &mut [u8]) -> Result<Verdict, Left> {
        let hash = self.state.keys.hash(&plain.key(direction));
        let position = self.state.layout.position(direction, hash);
        let guesses = Layout::guesses(self.storage.parts().index, position, index::tag(hash));
        let Some(guess) = guesses.and_then(|mut guesses| guesses.next()) else {
            return self.fast_late(direction, packet);
        };
        self.fast_at(direction, plain, packet, guess)
    }

    /// The same.
    #[cfg(not(target_pointer_width = "64"))]
    #[inline(never)]
    fn fast_along(&mut self, direction: Direction, plain: &Plain, packet: &mut [u8]) -> Result<Verdict, Left> {
        let memory = self.storage.parts();
        let slot = self.state.find(memory.connections, memory.index, direction, &plain.key(direction));
        let slot = slot.ok_or(Left::Unknown(direction))?;
        match memory.connections.get_mut(slot as usize) {
            Some(ConnectionSlot(c)) if u16::from(c.epoch) == self.state.plain_epoch => {
                self.state.carry_plain(c, direction, plain, packet)
            }
            _ => Err(Left::NotPlain),
        }
    }

    /// Translates a plain packet that goes this way and belongs, most likely, to the connection in this slot.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(super) fn fast_at(
        &mut self,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
        slot: u32,
    ) -> Result<Verdict, Left> {
        if let Some(ConnectionSlot(connection)) = self.storage.parts().connections.get_mut(slot as usize)
            && connection.is_plainly(direction, plain.key(direction), self.state.plain_epoch)
        {
            return self.state.carry_plain(connection, direction, plain, packet);
        }
        // As the last thing that is done here, so that nothing has to be kept for when it comes back.
        self.fast_late(direction, packet)
    }
}

impl State {
    /// Carries a plain packet over, of this connection, which is behind no re-divert.
    ///
    /// # Errors
    /// There is more to it than that.
    #[inline(always)]
    pub(super) fn carry_plain(
        &mut self,
        connection: &mut Entry,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
    ) -> Result<Verdict, Left> {
        if self.timers.is_dead(connection.phase, connection.last, self.tick) {
            return Err(Left::NotPlain);
        }
        let (header, payload) = packet.split_first_chunk_mut::<HEADER>().ok_or(Left::NotPlain)?;
        let (addresses, ports) = connection.becomes(direction);
        if plain.protocol == TCP {
            let tcp = payload.first_chunk_mut::<{ tcp::HEADER }>().ok_or(Left::NotPlain)?;
            if tcp[13] & (SYN | FIN | RST | ACK) != ACK || connection.phase != Phase::Established {
                return Err(Left::NotPlain);
            }
            if !connection.sequences.note_plain(direction, &Segment::with(tcp, plain.data.into())) {
                return Err(Left::NotPlain);
            }
            [tcp[0], tcp[1], tcp[2], tcp[3]] = ports.to_be_bytes();
            [tcp[16], tcp[17]] = checksum::update([tcp[16], tcp[17]], connection.transport.along(direction));
        } else {
            let settled = match direction {
                Direction::ToServer => connection.phase.is_listed(),
                Direction::ToClient => connection.phase == Phase::UdpAnswered,
            };
            if !settled {
                return Err(Left::NotPlain);
            }
            let udp = payload.first_chunk_mut::<8>().ok_or(Left::NotPlain)?;
            [udp[0], udp[1], udp[2], udp[3]] = ports.to_be_bytes();
            if let Some(field) = udp.last_chunk_mut() {
                checksum::update_udp(field, connection.transport.along(direction));
            }
        }
        let [.., a, b, c, d, e, f, g, h] = header;
        [*a, *b, *c, *d, *e, *f, *g, *h] = addresses.to_be_bytes();
        [header[10], header[11]] = checksum::update([header[10], header[11]], connection.network.along(direction));
        match direction {
            Direction::ToServer => {
                connection.last = self.tick;
                self.counters.to_server = self.counters.to_server.wrapping_add(1);
                Ok(Verdict::ToServer)
            }
            Direction::ToClient => {
                if self.config.refresh_from_server {
                    connection.last = self.tick;
                }
                self.counters.to_client = self.counters.to_client.wrapping_add(1);
                Ok(Verdict::ToClient)
            }
        }
    }
}

//! The packet that nearly every packet is: whole, without IP options, TCP or UDP, of a connection that is there and
//! that it does not change, or of none at all.
//!
//! This is a shorter way to what `Table::translate` would do, and never another: whatever is not plain here is left to
//! that, untouched and uncounted.

use super::Translator;
use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::track::phase::Phase;
use crate::verdict::Verdict;
use crate::wire::checksum;
use crate::wire::flow::{TCP, UDP};
use crate::wire::ipv4::{self, HEADER, Header};
use crate::wire::tcp::{self, ACK, FIN, RST, SYN, Segment};

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
    pub(super) const NOTHING: Self = Self { addresses: 0, ports: 0, data: 0, protocol: 0 };

    /// Reads a packet. `None` if it is not plain.
    #[inline(always)]
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<HEADER>()?;
        let view = Header(header);
        if header[0] != 0x45 || ipv4::is_fragment(view.fragmentation()) {
            return None;
        }
        let payload = rest.get(..view.total_length().wrapping_sub(HEADER))?;
        let udp = payload.first_chunk::<8>()?;
        let protocol = view.protocol();
        let (least, length) = match protocol {
            UDP => (8, usize::from(u16::from_be_bytes([udp[4], udp[5]]))),
            TCP => (tcp::HEADER, usize::from(payload.first_chunk::<{ tcp::HEADER }>()?[12] >> 4) << 2),
            _ => return None,
        };
        if length < least || length > payload.len() {
            return None;
        }
        let [.., a, b, c, d, e, f, g, h] = *header;
        Some(Self {
            addresses: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            ports: u32::from_be_bytes([udp[0], udp[1], udp[2], udp[3]]),
            data: (payload.len() - length) as u16,
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
        match direction {
            Direction::ToServer => Key::packed(self.protocol, self.addresses, self.ports),
            Direction::ToClient => {
                Key::packed(self.protocol, self.addresses.rotate_left(32), self.ports.rotate_left(16))
            }
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
    #[inline(never)]
    pub(super) fn fast(&mut self, packet: &mut [u8]) -> Result<Verdict, Left> {
        let plain = Plain::read(packet).ok_or(Left::NotPlain)?;
        match self.likely_way(plain.destination()) {
            Some(Direction::ToServer) => self.fast_along(Direction::ToServer, &plain, packet, None),
            Some(Direction::ToClient) => self.fast_along(Direction::ToClient, &plain, packet, None),
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

    /// Translates a plain packet that goes this way, with a guess which slot it is. On a large processor it is compiled
    /// once for each way, so that nothing is chosen at run time; on a small one flash is dearer.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn fast_along(
        &mut self,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
        guess: Option<u32>,
    ) -> Result<Verdict, Left> {
        let key = plain.key(direction);
        let memory = self.storage.parts();
        let is_it = |slot: &u32| memory.connections.get(*slot as usize).is_some_and(|c| c.0.has_key(direction, key));
        let slot = match guess.filter(is_it) {
            Some(guess) => guess,
            #[cfg(target_pointer_width = "64")]
            None => {
                let hash = self.state.keys.hash(&key);
                match self.state.layout.find_early(memory.index, direction, hash, |slot| is_it(&slot)) {
                    Some(slot) => slot,
                    // As the last thing that is done here, so that nothing has to be kept for when it comes back.
                    None => return self.fast_late(direction, packet),
                }
            }
            #[cfg(not(target_pointer_width = "64"))]
            None => {
                let found = self.state.find(memory.connections, memory.index, direction, &key);
                found.ok_or(Left::Unknown(direction))?
            }
        };
        self.fast_at(direction, plain, packet, slot)
    }

    /// Translates a plain packet of the connection in this slot.
    #[inline(always)]
    pub(super) fn fast_at(
        &mut self,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
        slot: u32,
    ) -> Result<Verdict, Left> {
        let memory = self.storage.parts();
        let state = &mut self.state;
        let ConnectionSlot(connection) = memory.connections.get_mut(slot as usize).ok_or(Left::NotPlain)?;
        let troubled = u16::from(connection.epoch) != state.plain_epoch
            || state.timers.is_dead(connection.phase, connection.last, state.tick);
        if troubled {
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
                connection.last = state.tick;
                state.counters.to_server = state.counters.to_server.wrapping_add(1);
                Ok(Verdict::ToServer)
            }
            Direction::ToClient => {
                if state.config.refresh_from_server {
                    connection.last = state.tick;
                }
                state.counters.to_client = state.counters.to_client.wrapping_add(1);
                Ok(Verdict::ToClient)
            }
        }
    }
}

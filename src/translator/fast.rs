//! The packet that nearly every packet is: whole, without IP options, TCP or UDP, of a connection that is there and
//! that it does not change, or of none at all.
//!
//! This is a shorter way to what `process` would do, and never another: whatever is not plain here is left to it,
//! untouched and uncounted.

use super::Translator;
use crate::config::Checksums;
use crate::connection::Direction;
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::track::phase::Phase;
use crate::verdict::Verdict;
use crate::wire::checksum;
use crate::wire::flow::{TCP, UDP};
use crate::wire::ipv4::{self, HEADER, Header};
use crate::wire::tcp::{self, FIN, RST, SYN, Segment};

/// The addresses of a plain packet, packed as they stand in it.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// Source and destination.
    addresses: u64,
    /// Source port and destination port.
    ports: u32,
    protocol: u8,
}

impl Plain {
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
        if protocol == UDP {
            let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
            if length < 8 || length > payload.len() {
                return None;
            }
        } else if protocol == TCP {
            let tcp = payload.first_chunk::<{ tcp::HEADER }>()?;
            let length = usize::from(tcp[12] >> 4) << 2;
            if length < tcp::HEADER || length > payload.len() {
                return None;
            }
        } else {
            return None;
        }
        let [.., a, b, c, d, e, f, g, h] = *header;
        Some(Self {
            addresses: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            ports: u32::from_be_bytes([udp[0], udp[1], udp[2], udp[3]]),
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

impl<S: Storage> Translator<S> {
    /// Translates or passes a plain packet. `None` if there is more to it than that.
    #[inline(always)]
    pub(super) fn fast(&mut self, packet: &mut [u8], guess: Option<u32>) -> Option<Verdict> {
        let plain = Plain::read(packet)?;
        let Some(direction) = self.way(plain.destination()) else { return Some(self.state.pass()) };
        let key = plain.key(direction);
        let memory = self.storage.parts();
        let state = &mut self.state;
        let slot = match guess {
            Some(guess) => guess,
            None => {
                let share = memory.connections.len() * 2;
                let words = match direction {
                    Direction::ToServer => memory.index.get(..share)?,
                    Direction::ToClient => memory.index.get(share..share * 2)?,
                };
                state.layout.find(words, state.keys.hash(key), |slot| {
                    memory.connections.get(slot as usize).is_some_and(|c| c.key(direction) == key)
                })?
            }
        };
        let connection = memory.connections.get_mut(slot as usize)?;
        let troubled = connection.key(direction) != key
            || connection.epoch != state.moves.epoch
            || state.extras
            || state.timers.is_dead(connection.phase, connection.last, state.tick);
        if troubled {
            return None;
        }

        let (header, payload) = packet.split_first_chunk_mut::<HEADER>()?;
        let software = state.config.checksums == Checksums::Software;
        let (change, ports) = connection.becomes(direction);
        if plain.protocol == TCP {
            let total = Header(header).total_length();
            let tcp = payload.first_chunk_mut::<{ tcp::HEADER }>()?;
            let segment = Segment::read(tcp, total.wrapping_sub(HEADER))?;
            if segment.has(SYN | FIN | RST) || connection.phase != Phase::Established {
                return None;
            }
            connection.sequences.note(direction, segment);
            [tcp[0], tcp[1], tcp[2], tcp[3]] = ports.to_be_bytes();
            if software {
                let old = u16::from_be_bytes([tcp[16], tcp[17]]);
                [tcp[16], tcp[17]] = checksum::update(old, connection.transport.along(direction)).to_be_bytes();
            }
        } else {
            let first_answer = direction == Direction::ToClient && connection.phase != Phase::UdpAnswered;
            if first_answer || !connection.phase.is_listed() {
                return None;
            }
            let udp = payload.first_chunk_mut::<8>()?;
            [udp[0], udp[1], udp[2], udp[3]] = ports.to_be_bytes();
            if software {
                let old = u16::from_be_bytes([udp[6], udp[7]]);
                [udp[6], udp[7]] = checksum::update_udp(old, connection.transport.along(direction)).to_be_bytes();
            }
        }
        [header[12], header[13], header[14], header[15], header[16], header[17], header[18], header[19]] =
            change.to_be_bytes();
        if software {
            let old = u16::from_be_bytes([header[10], header[11]]);
            [header[10], header[11]] = checksum::update(old, connection.network.along(direction)).to_be_bytes();
        }
        match direction {
            Direction::ToServer => {
                connection.last = state.tick;
                state.counters.to_server = state.counters.to_server.wrapping_add(1);
                Some(Verdict::ToServer)
            }
            Direction::ToClient => {
                if state.config.refresh_from_server {
                    connection.last = state.tick;
                }
                state.counters.to_client = state.counters.to_client.wrapping_add(1);
                Some(Verdict::ToClient)
            }
        }
    }

    /// Which way a packet to this destination goes, most likely; `None` if it is surely none of ours.
    #[inline(always)]
    pub(super) fn way(&self, destination: u32) -> Option<Direction> {
        if self.state.alternative(destination).is_some() {
            Some(Direction::ToClient)
        } else if self.state.filter.may_hold(destination) {
            Some(Direction::ToServer)
        } else if self.state.kept != 0 {
            Some(Direction::ToClient)
        } else {
            None
        }
    }
}

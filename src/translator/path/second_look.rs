//! The plain packet whose connection is not the first guess of the index: it is another entry of the bucket, or in the
//! second bucket, or stale, or the packet opens it, or there is none.
//!
//! For large processors, where [`fast`](crate::translator::path::fast) is compiled for each direction and needs few
//! registers only without this code. A fast path: it must give the same result as `Table::translate`.

use crate::connection::Direction;
use crate::endpoint::Endpoint;
use crate::table::connection::ConnectionSlot;
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::track::phase::Phase;
use crate::translator::Translator;
use crate::translator::path::plain::{Left, Plain};
use crate::translator::path::slow::Revisit;
use crate::translator::path::track::Tracked;
use crate::translator::state::Table;
use crate::verdict::Verdict;
use crate::wire::ipv4::{self, HEADER, TCP};
use crate::wire::tcp::{SYN, Segment};

impl<S: Storage> Translator<S> {
    /// Translates or passes such a packet, which is known to be plain.
    #[cold]
    #[inline(never)]
    pub(super) fn second_look(&mut self, direction: Direction, packet: &mut [u8]) -> Verdict {
        let mut table = self.table();
        match (direction, forward_key(packet)) {
            (Direction::ToServer, Some(key)) => table.plain_forward(key, packet),
            (Direction::ToClient, Some(key)) => table.plain_reply(&key.reversed(), packet, Left::Unknown(direction)),
            (_, None) => table.translate(packet, Left::NotPlain),
        }
    }
}

impl Table<'_> {
    /// Handles a packet of the connection that is entered under this forward key, if there is one.
    #[inline(never)]
    fn plain_forward(&mut self, key: Key, packet: &mut [u8]) -> Verdict {
        let kept = self.state.kept != 0;
        if !kept && !self.state.filter.may_hold(key.addresses as u32) {
            return self.state.pass();
        }
        if !kept && self.state.directory.is_there() {
            return self.plain_forward_indexed(key, packet);
        }
        let hash = self.state.keys.hash(&key);
        if let Some(slot) = self.find_hashed(Direction::ToServer, &key, hash) {
            return self.plain_at(Direction::ToServer, packet, slot);
        }
        if kept {
            // If the source is kept, replies go to the client's own address, which a rule may match.
            if let Some(slot) = self.find_reply(&key.reversed()) {
                return self.plain_at(Direction::ToClient, packet, slot);
            }
            if self.state.any_port_replies != 0 {
                return self.translate(packet, Left::Unknown(Direction::ToServer));
            }
        }
        self.first_plain(key, hash, packet)
    }

    /// Like [`plain_forward`](Self::plain_forward), with an index of rules, whose filter recognises more of the packets
    /// that are not ours.
    #[inline(never)]
    fn plain_forward_indexed(&mut self, key: Key, packet: &mut [u8]) -> Verdict {
        let mut lengths = 0;
        if let Some(index) = self.rule_index() {
            lengths = index.lengths_for(key.addresses as u32);
            if lengths == 0 && self.state.renewal.covers_connections {
                return self.state.pass();
            }
            index.prefetch(Endpoint::new(key.addresses as u32, (key.ports >> 16) as u16));
        }
        let hash = self.state.keys.hash(&key);
        if let Some(slot) = self.find_hashed(Direction::ToServer, &key, hash) {
            return self.plain_at(Direction::ToServer, packet, slot);
        }
        self.first_indexed(key, hash, packet, lengths)
    }

    /// Handles a packet of the connection that is entered under this reply key; otherwise the slow path does, with
    /// `left`.
    #[inline(never)]
    fn plain_reply(&mut self, key: &Key, packet: &mut [u8], left: Left) -> Verdict {
        match self.find_reply(key) {
            Some(slot) => self.plain_at(Direction::ToClient, packet, slot),
            None => self.translate(packet, left),
        }
    }

    /// Handles a packet of the connection in this slot.
    #[inline(never)]
    fn plain_at(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Verdict {
        let Some(plain) = Plain::read(packet) else {
            return self.translate(packet, Left::NotPlain);
        };
        match self.memory.connections.get_mut(slot as usize) {
            Some(ConnectionSlot(c)) if self.state.is_plain_epoch(c) => {
                let carried = self.state.carry_plain(c, direction, &plain, packet);
                carried.unwrap_or_else(|| self.carry_found(direction, packet, slot))
            }
            _ => {
                let carried = self.plain_stale(direction, &plain, packet, slot);
                carried.unwrap_or_else(|| self.translate(packet, Left::NotPlain))
            }
        }
    }

    /// Handles the first answer to a UDP datagram, on the connection in this slot. `None`, with nothing changed, if the
    /// packet is not one.
    #[inline(always)]
    fn carry_answer(&mut self, packet: &mut [u8], slot: u32) -> Option<Verdict> {
        let ConnectionSlot(connection) = self.memory.connections.get(slot as usize)?;
        if connection.phase != Phase::UdpUnanswered
            || !self.state.is_plain_epoch(connection)
            || self.state.is_dead(connection)
        {
            return None;
        }
        let plain = Plain::read(packet)?;
        self.hear(slot, Direction::ToClient);
        let ConnectionSlot(connection) = self.memory.connections.get_mut(slot as usize)?;
        self.state.carry_plain(connection, Direction::ToClient, &plain, packet)
    }

    /// Handles a plain packet that belongs to the connection in this slot and changes it: like `translate`, without
    /// looking for the connection again.
    #[inline(never)]
    pub(super) fn carry_found(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Verdict {
        if direction == Direction::ToClient
            && let Some(verdict) = self.carry_answer(packet, slot)
        {
            return verdict;
        }
        if let Some(verdict) = self.carry_segment(direction, packet, slot) {
            return verdict;
        }
        // In a burst the slot may have been freed since it was guessed.
        let listed = self.slot(slot).is_some_and(|c| c.phase.is_listed());
        let Some(key) = forward_key(packet).filter(|_| listed) else {
            return self.translate(packet, Left::NotPlain);
        };
        let Ok(mut parts) = ipv4::split(packet) else {
            return self.translate(packet, Left::NotPlain);
        };
        let flow = key.flow();
        let verdict = match self.revisit(slot, direction, parts.payload, flow.protocol) {
            Revisit::Carry => self.carry(slot, direction, &mut parts, &flow),
            Revisit::Miss => return self.translate(packet, Left::NotPlain),
            Revisit::Done(verdict) => verdict,
        };
        self.state.count(verdict)
    }

    /// Handles a whole segment that changes the connection in this slot, and only has to be tracked and translated.
    /// `None`, with nothing changed, if it needs more.
    #[inline(always)]
    fn carry_segment(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Option<Verdict> {
        let ConnectionSlot(connection) = self.memory.connections.get(slot as usize)?;
        if packet.get(ipv4::PROTOCOL) != Some(&TCP)
            || !connection.phase.is_followed()
            || !self.state.is_plain_epoch(connection)
            || self.state.is_dead(connection)
            || self.for_resumable(slot).is_some()
        {
            return None;
        }
        let plain = Plain::read(packet)?;
        let segment = Segment::with(packet.get(HEADER..)?.first_chunk()?, plain.data());
        if connection.phase == Phase::Closing && segment.has(SYN) {
            return None;
        }
        let refreshes = match self.follow_segment(slot, direction, &segment, true) {
            Tracked::Refreshing => direction == Direction::ToServer || self.state.config.refresh_from_server,
            Tracked::Quiet => false,
            Tracked::Dropped(verdict) => return Some(self.state.count(verdict)),
        };
        let ConnectionSlot(connection) = self.memory.connections.get_mut(slot as usize)?;
        self.state.write_plain(connection, direction, TCP, refreshes, packet)
    }
}

/// The key of the connection that a plain packet belongs to if it goes to the server.
#[inline(always)]
fn forward_key(packet: &[u8]) -> Option<Key> {
    let start = packet.first_chunk::<{ HEADER + 4 }>()?;
    let [.., protocol, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = *start;
    Some(Key::packed(protocol, u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l])))
}

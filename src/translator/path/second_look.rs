//! The plain packet whose connection is not the first guess where it is looked for: it is another one there, or in the
//! second place, or it is behind a re-divert, or the packet begins it, or there is none.
//!
//! For large processors, on which [`fast`](crate::translator::path::fast) is compiled for each way by itself, and small enough to need few
//! registers only without this. It is a shorter way to what `Table::translate` would do, and never another.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::translator::path::plain::{Left, Plain};
use crate::translator::table::Table;
use crate::verdict::Verdict;
use crate::wire::ipv4;

impl<S: Storage> Translator<S> {
    /// Translates such a packet, which is known to be plain, or passes it.
    #[cold]
    #[inline(never)]
    pub(in crate::translator) fn fast_late(&mut self, direction: Direction, packet: &mut [u8]) -> Verdict {
        let mut table = self.table();
        match (direction, key_there(packet)) {
            (Direction::ToServer, Some(key)) => table.plain_there(key, packet),
            (Direction::ToClient, Some(key)) => table.plain_back(&key.reversed(), packet, Left::Unknown(direction)),
            (_, None) => table.translate(packet, Left::NotPlain),
        }
    }
}

impl Table<'_> {
    /// A packet of the connection that is entered under this key for the way there, if there is one.
    #[inline(never)]
    fn plain_there(&mut self, key: Key, packet: &mut [u8]) -> Verdict {
        let kept = self.state.kept != 0;
        if !kept && !self.state.filter.may_hold(key.addresses as u32) {
            return self.state.pass();
        }
        if !kept && self.state.directory.is_there() {
            return self.plain_there_indexed(key, packet);
        }
        let hash = self.state.keys.hash(&key);
        let (connections, index) = (&*self.memory.connections, &*self.memory.index);
        if let Some(slot) = self.state.find_hashed(connections, index, Direction::ToServer, &key, hash) {
            return self.plain_at(Direction::ToServer, packet, slot);
        }
        if !kept {
            return self.first_plain(key, hash, packet);
        }
        // Where the source is kept the way back leads to the client's own address, and a rule may speak of that.
        self.plain_back(&key.reversed(), packet, Left::Unknown(Direction::ToServer))
    }

    /// The same where there is an index of rules, whose filter knows better which packets are none of ours.
    #[inline(never)]
    fn plain_there_indexed(&mut self, key: Key, packet: &mut [u8]) -> Verdict {
        if self.is_foreign(key.addresses as u32) {
            return self.state.pass();
        }
        if let Some(index) = self.rule_index() {
            index.prefetch((key.addresses as u32, (key.ports >> 16) as u16));
        }
        let hash = self.state.keys.hash(&key);
        let (connections, index) = (&*self.memory.connections, &*self.memory.index);
        if let Some(slot) = self.state.find_hashed(connections, index, Direction::ToServer, &key, hash) {
            return self.plain_at(Direction::ToServer, packet, slot);
        }
        self.first_indexed(key, hash, packet)
    }

    /// A packet of the connection that is entered under this key for the way back; else it is `left`.
    #[inline(never)]
    fn plain_back(&mut self, key: &Key, packet: &mut [u8], left: Left) -> Verdict {
        match self.find_back(key) {
            Some(slot) => self.plain_at(Direction::ToClient, packet, slot),
            None => self.translate(packet, left),
        }
    }

    /// A packet of the connection in this slot.
    #[inline(never)]
    fn plain_at(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Verdict {
        let carried = Plain::read(packet).and_then(|plain| match self.memory.connections.get_mut(slot as usize) {
            Some(ConnectionSlot(c)) if self.state.is_plain_epoch(c) => {
                self.state.carry_plain(c, direction, &plain, packet)
            }
            _ => self.plain_behind(direction, &plain, packet, slot),
        });
        carried.unwrap_or_else(|| self.translate(packet, Left::NotPlain))
    }
}

/// The key of the connection that a plain packet belongs to if it goes to the server.
#[inline(always)]
fn key_there(packet: &[u8]) -> Option<Key> {
    let start = packet.first_chunk::<{ ipv4::HEADER + 4 }>()?;
    let [.., protocol, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = *start;
    Some(Key::packed(protocol, u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l])))
}

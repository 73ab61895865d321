//! The plain packet whose connection is not the first guess of the index: it is another entry of the bucket, or in the
//! second bucket, or stale, or the packet opens it, or there is none.
//!
//! For large processors, where [`fast`](crate::translator::path::fast) is compiled for each direction and needs few
//! registers only without this code. A fast path: it must give the same result as `Table::translate`.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::translator::path::plain::{Left, Plain};
use crate::translator::state::Table;
use crate::verdict::Verdict;
use crate::wire::ipv4;

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
        let hash = self.state.keys.hash(&key);
        let (connections, index) = (&*self.memory.connections, &*self.memory.index);
        if let Some(slot) = self.state.find_hashed(connections, index, Direction::ToServer, &key, hash) {
            return self.plain_at(Direction::ToServer, packet, slot);
        }
        if !kept {
            return self.first_plain(key, hash, packet);
        }
        // Where the source is kept, replies go to the client's own address, and a rule may match that address.
        self.plain_reply(&key.reversed(), packet, Left::Unknown(Direction::ToServer))
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
        let carried = Plain::read(packet).and_then(|plain| match self.memory.connections.get_mut(slot as usize) {
            Some(ConnectionSlot(c)) if self.state.is_plain_epoch(c) => {
                self.state.carry_plain(c, direction, &plain, packet)
            }
            _ => self.plain_stale(direction, &plain, packet, slot),
        });
        carried.unwrap_or_else(|| self.translate(packet, Left::NotPlain))
    }
}

/// The key of the connection that a plain packet belongs to if it goes to the server.
#[inline(always)]
fn forward_key(packet: &[u8]) -> Option<Key> {
    let start = packet.first_chunk::<{ ipv4::HEADER + 4 }>()?;
    let [.., protocol, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = *start;
    Some(Key::packed(protocol, u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l])))
}

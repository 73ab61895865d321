//! The plain packet whose connection is not in the first place where it is looked for: it is in the second, or the packet
//! begins it, or there is none.
//!
//! For large processors, on which [`fast`](super::fast) is compiled for each way by itself, and small enough to need few
//! registers only without this. It is a shorter way to what `Table::translate` would do, and never another.

use super::Translator;
use super::fast::{Left, Plain};
use crate::connection::Direction;
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::verdict::Verdict;
use crate::wire::ipv4;

impl<S: Storage> Translator<S> {
    /// Translates or passes such a packet, which is known to be plain.
    ///
    /// # Errors
    /// Why there is more to it than that.
    #[cold]
    #[inline(never)]
    pub(super) fn fast_late(&mut self, direction: Direction, packet: &mut [u8]) -> Result<Verdict, Left> {
        match direction {
            Direction::ToServer => self.fast_late_there(packet),
            Direction::ToClient => self.fast_late_back(packet),
        }
    }

    #[inline(never)]
    fn fast_late_there(&mut self, packet: &mut [u8]) -> Result<Verdict, Left> {
        let key = key_there(packet).ok_or(Left::NotPlain)?;
        let kept = self.state.kept != 0;
        if !kept && !self.state.filter.may_hold(key.addresses as u32) {
            return Ok(self.state.pass());
        }
        let hash = self.state.keys.hash(&key);
        if let Some(slot) = self.find_late(Direction::ToServer, key, hash) {
            return self.fast_second(Direction::ToServer, packet, slot);
        }
        let mut table = self.table();
        if !kept {
            return Ok(table.first_plain(key, hash, packet));
        }
        // Where the source is kept the way back leads to the client's own address, and a rule may speak of that.
        let slot = table.find_back(&key.reversed()).ok_or(Left::Unknown(Direction::ToServer))?;
        self.fast_second(Direction::ToClient, packet, slot)
    }

    #[inline(never)]
    fn fast_late_back(&mut self, packet: &mut [u8]) -> Result<Verdict, Left> {
        let plain = Plain::read(packet).ok_or(Left::NotPlain)?;
        let key = plain.key(Direction::ToClient);
        let hash = self.state.keys.hash(&key);
        let slot = self.find_late(Direction::ToClient, key, hash).ok_or(Left::Unknown(Direction::ToClient))?;
        self.fast_at(Direction::ToClient, &plain, packet, slot)
    }

    /// The slot of the connection that is entered under a key in its second bucket.
    #[inline(always)]
    fn find_late(&mut self, direction: Direction, key: Key, hash: u64) -> Option<u32> {
        let memory = self.storage.parts();
        let is_it = |slot: u32| memory.connections.get(slot as usize).is_some_and(|c| c.0.has_key(direction, key));
        self.state.layout.find_late(memory.index, direction, hash, is_it)
    }

    /// Translates a plain packet of the connection in this slot.
    #[inline(never)]
    fn fast_second(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Result<Verdict, Left> {
        let plain = Plain::read(packet).ok_or(Left::NotPlain)?;
        self.fast_at(direction, &plain, packet, slot)
    }
}

/// The key of the connection that a plain packet belongs to if it goes to the server.
#[inline(always)]
fn key_there(packet: &[u8]) -> Option<Key> {
    let start = packet.first_chunk::<{ ipv4::HEADER + 4 }>()?;
    let [.., protocol, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = *start;
    Some(Key::packed(protocol, u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l])))
}

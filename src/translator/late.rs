//! The plain packet whose connection is not the first guess where it is looked for: it is another one there, or in the
//! second place, or it is behind a re-divert, or the packet begins it, or there is none.
//!
//! For large processors, on which [`fast`](super::fast) is compiled for each way by itself, and small enough to need few
//! registers only without this. It is a shorter way to what `Table::translate` would do, and never another.

use super::Translator;
use super::fast::{Left, Plain};
use super::state::Table;
use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
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
        let mut table = self.table();
        match direction {
            Direction::ToServer => table.plain_there(packet),
            Direction::ToClient => {
                let key = key_there(packet).ok_or(Left::NotPlain)?.reversed();
                table.plain_back(&key, packet, Left::Unknown(direction))
            }
        }
    }
}

impl Table<'_> {
    #[inline(never)]
    fn plain_there(&mut self, packet: &mut [u8]) -> Result<Verdict, Left> {
        let key = key_there(packet).ok_or(Left::NotPlain)?;
        let kept = self.state.kept != 0;
        if !kept && !self.state.filter.may_hold(key.addresses as u32) {
            return Ok(self.state.pass());
        }
        let hash = self.state.keys.hash(&key);
        let (connections, index) = (&*self.memory.connections, &*self.memory.index);
        if let Some(slot) = self.state.find_hashed(connections, index, Direction::ToServer, &key, hash) {
            return self.plain_at(Direction::ToServer, packet, slot);
        }
        if !kept {
            return Ok(self.first_plain(key, hash, packet));
        }
        // Where the source is kept the way back leads to the client's own address, and a rule may speak of that.
        self.plain_back(&key.reversed(), packet, Left::Unknown(Direction::ToServer))
    }

    /// A packet of the connection that is entered under this key for the way back; else it is `left`.
    #[inline(never)]
    fn plain_back(&mut self, key: &Key, packet: &mut [u8], left: Left) -> Result<Verdict, Left> {
        let slot = self.find_back(key).ok_or(left)?;
        self.plain_at(Direction::ToClient, packet, slot)
    }

    /// A packet of the connection in this slot.
    #[inline(never)]
    fn plain_at(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Result<Verdict, Left> {
        let plain = Plain::read(packet).ok_or(Left::NotPlain)?;
        match self.memory.connections.get_mut(slot as usize) {
            Some(ConnectionSlot(c)) if u16::from(c.epoch) == self.state.plain_epoch => {
                self.state.carry_plain(c, direction, &plain, packet)
            }
            _ => self.plain_behind(direction, &plain, packet, slot),
        }
    }
}

/// The key of the connection that a plain packet belongs to if it goes to the server.
#[inline(always)]
fn key_there(packet: &[u8]) -> Option<Key> {
    let start = packet.first_chunk::<{ ipv4::HEADER + 4 }>()?;
    let [.., protocol, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = *start;
    Some(Key::packed(protocol, u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l])))
}

//! The fast path of a plain packet, for small processors, where flash is scarcer than time: it is compiled once.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::translator::path::plain::{Left, Plain};
use crate::verdict::Verdict;

impl<S: Storage> Translator<S> {
    /// Translates or passes a packet. `late` says that it arrives after a long time without a poll.
    #[inline(always)]
    pub(in crate::translator) fn fast(&mut self, packet: &mut [u8], late: bool) -> Verdict {
        let plain = if late { Err(Left::Late) } else { self.plain(packet) };
        plain.unwrap_or_else(|left| self.table().translate(packet, left))
    }

    /// Translates or passes a plain packet.
    ///
    /// # Errors
    /// Why the packet needs more than that.
    #[inline(never)]
    fn plain(&mut self, packet: &mut [u8]) -> Result<Verdict, Left> {
        let plain = Plain::read(packet).ok_or(Left::NotPlain)?;
        match self.state.likely_direction(plain.destination()) {
            Some(direction) => self.plain_along(direction, &plain, packet),
            None => Ok(self.state.pass()),
        }
    }

    /// Translates a plain packet in this direction.
    ///
    /// # Errors
    /// Why the packet needs more than that.
    #[inline(never)]
    fn plain_along(&mut self, direction: Direction, plain: &Plain, packet: &mut [u8]) -> Result<Verdict, Left> {
        let memory = self.storage.parts();
        let slot = self.state.find(memory.connections, memory.index, direction, &plain.key(direction));
        let slot = slot.ok_or(Left::Unknown(direction))?;
        match memory.connections.get_mut(slot as usize) {
            Some(ConnectionSlot(c)) if self.state.is_plain_epoch(c) => {
                self.state.carry_plain(c, direction, plain, packet).ok_or(Left::NotPlain)
            }
            _ => Err(Left::NotPlain),
        }
    }
}

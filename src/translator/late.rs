//! The plain packet whose connection is not in the first place where it is looked for: it is in the second, or the packet
//! begins it, or there is none.
//!
//! For large processors, on which [`fast`](super::fast) is compiled for each way by itself, and small enough to need few
//! registers only without this. It is a shorter way to what `Table::translate` would do, and never another.

use super::Translator;
use super::fast::{Left, Plain};
use super::state::Table;
use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::storage::Storage;
use crate::verdict::Verdict;
use crate::wire::flow::{Flow, Shape};
use crate::wire::ipv4;

impl<S: Storage> Translator<S> {
    /// Translates or passes such a packet.
    ///
    /// # Errors
    /// Why there is more to it than that.
    #[cold]
    #[inline(never)]
    pub(super) fn fast_late(&mut self, direction: Direction, packet: &mut [u8]) -> Result<Verdict, Left> {
        let plain = Plain::read(packet).ok_or(Left::NotPlain)?;
        let key = plain.key(direction);
        let mut table = self.table();
        if direction == Direction::ToServer
            && table.state.kept == 0
            && !table.state.filter.may_hold(plain.destination())
        {
            return Ok(table.state.pass());
        }
        match table.find(direction, &key) {
            Some(slot) => table.plain_at(direction, &plain, packet, slot),
            None if direction == Direction::ToServer && table.state.kept == 0 => Ok(table.first_plain(&plain, packet)),
            None if direction == Direction::ToServer => {
                // Where the source is kept the way back leads to the client's own address, and a rule may speak of that.
                let key = plain.key(Direction::ToClient);
                let slot = table.find_back(&key).ok_or(Left::Unknown(direction))?;
                table.plain_at(Direction::ToClient, &plain, packet, slot)
            }
            None => Err(Left::Unknown(direction)),
        }
    }
}

impl Table<'_> {
    /// A plain packet of the connection in this slot.
    fn plain_at(&mut self, direction: Direction, plain: &Plain, packet: &mut [u8], slot: u32) -> Result<Verdict, Left> {
        match self.memory.connections.get_mut(slot as usize) {
            Some(ConnectionSlot(c)) if u16::from(c.epoch) == self.state.plain_epoch => {
                self.state.carry_plain(c, direction, plain, packet)
            }
            _ => self.plain_behind(direction, plain, packet, slot),
        }
    }

    /// A plain packet to no alternative address, and of no connection.
    fn first_plain(&mut self, plain: &Plain, packet: &mut [u8]) -> Verdict {
        let flow = Flow {
            source: (plain.addresses >> 32) as u32,
            destination: plain.destination(),
            source_port: (plain.ports >> 16) as u16,
            destination_port: plain.ports as u16,
            protocol: plain.protocol,
            shape: Shape::Whole,
        };
        match ipv4::split(packet) {
            Ok(mut parts) => self.first(&mut parts, &flow),
            Err(reason) => self.state.drop(reason),
        }
    }
}

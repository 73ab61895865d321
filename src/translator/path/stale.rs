//! The plain packet whose connection is behind a re-divert: it catches up, and the packet goes on where it was.
//!
//! For large processors, on which the first packet of each connection after a re-divert shall cost little more than any
//! other. It is a shorter way to what `Table::translate` would do, and never another: it is not parsed and not looked for
//! twice more.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::translator::path::plain::Plain;
use crate::translator::path::slow::Revisit;
use crate::translator::state::Table;
use crate::verdict::Verdict;
use crate::wire::ipv4::{HEADER, Header};

impl Table<'_> {
    /// Translates such a packet, of the connection in this slot, which may be behind a re-divert. `None` if there is more
    /// to it than that.
    pub(super) fn plain_stale(
        &mut self,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
        slot: u32,
    ) -> Option<Verdict> {
        let ConnectionSlot(connection) = self.memory.connections.get(slot as usize)?;
        if self.state.extras || self.state.is_dead(connection) {
            return None;
        }
        match self.revisit_alive(slot, direction, || payload(packet), plain.protocol) {
            Revisit::Carry => {
                let ConnectionSlot(connection) = self.memory.connections.get_mut(slot as usize)?;
                self.state.carry_plain(connection, direction, plain, packet)
            }
            // What is left of it is not found any more, or is over: as the long way sees for itself.
            Revisit::Miss => None,
            Revisit::Done(verdict) => Some(self.state.count(verdict)),
        }
    }
}

/// What a plain packet carries: it has no options.
fn payload(packet: &[u8]) -> &[u8] {
    let total = packet.first_chunk().map_or(0, |header| Header(header).total_length());
    packet.get(HEADER..total).unwrap_or_default()
}

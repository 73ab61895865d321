//! The plain packet of a stale connection: the connection follows the re-divert, then the packet is translated as
//! usual.
//!
//! For large processors, where the first packet of each connection after a re-divert should cost little more than any
//! other. A fast path: it must give the same result as `Table::translate`, but saves parsing the packet and looking it
//! up twice more.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::translator::path::plain::Plain;
use crate::translator::path::slow::Revisit;
use crate::translator::state::Table;
use crate::verdict::Verdict;
use crate::wire::ipv4::{HEADER, Header};

impl Table<'_> {
    /// Translates a plain packet of the connection in this slot, which may be stale. `None` if the packet needs more
    /// than that.
    pub(super) fn plain_stale(
        &mut self,
        direction: Direction,
        plain: &Plain,
        packet: &mut [u8],
        slot: u32,
    ) -> Option<Verdict> {
        let ConnectionSlot(connection) = self.memory.connections.get(slot as usize)?;
        if self.state.is_dead(connection) {
            return None;
        }
        if self.state.extras {
            return self.state.for_measured.and_then(|measured| (measured.plain)(self, direction, packet, slot));
        }
        match self.revisit_alive(slot, direction, || payload(packet), plain.protocol) {
            Revisit::Carry => {
                let ConnectionSlot(connection) = self.memory.connections.get_mut(slot as usize)?;
                self.state.carry_plain(connection, direction, plain, packet)
            }
            // The connection can no longer be found, or is finished; the slow path finds that out for itself.
            Revisit::Miss => None,
            Revisit::Done(verdict) => Some(self.state.count(verdict)),
        }
    }
}

/// The payload of a plain packet, which has no IP options.
fn payload(packet: &[u8]) -> &[u8] {
    let total = packet.first_chunk().map_or(0, |header| Header(header).total_length());
    packet.get(HEADER..total).unwrap_or_default()
}

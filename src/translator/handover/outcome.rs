//! The outcome of a hand-over.

use core::net::SocketAddrV4;
use core::time::Duration;

use crate::connection::Connection;
use crate::endpoint::Pair;
use crate::table::connection::Entry;
use crate::time::Instant;
use crate::translator::handover::resumption::Kept;
use crate::translator::handover::run::Run;
use crate::translator::state::Table;

/// The outcome of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Outcome {
    /// The connection was moved to the new server.
    Moved {
        /// The connection, with its new server.
        connection: Connection,
        /// The old server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        from: SocketAddrV4,
        /// How long no packet of the connection passed.
        gap: Duration,
        /// How many bytes the new server was sent first.
        replayed: usize,
        /// How many bytes of its answer were not passed on to the client.
        dropped: usize,
        /// The sequence number, as the client knows it, of the first byte that the new server sends to the client.
        position: u32,
        /// What is added to the new server's sequence numbers (modulo 2^32), and to its timestamps.
        offsets: (u32, u32),
    },
    /// The connection was not moved.
    Kept {
        /// The client, and the original destination.
        client_side: Pair,
        /// The server that was to take over.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        to: SocketAddrV4,
        /// The reason.
        why: Kept,
    },
}

impl Run {
    /// Ends the hand-over: moves the connection to its new server, or, if it has failed, leaves it on the old one.
    ///
    /// # Errors
    /// Why the connection stays on the old server.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn conclude(
        &mut self,
        now: Instant,
        table: &mut Table<'_>,
        failed: Option<Kept>,
    ) -> Result<Outcome, Kept> {
        let from = self.from().socket();
        let (offsets, position) = (self.offsets(), self.standing.position());
        let found = table.find_standing(&mut self.standing);
        let slot = self.standing.slot;
        let spliced = match (found, failed) {
            (Ok(()), None) => {
                let spliced = table.splice(slot, &self.leg, &offsets, position);
                spliced.and_then(|()| table.slot(slot).and_then(Entry::view).ok_or(Kept::NoConnection))
            }
            (Err(why), None) | (_, Some(why)) => Err(why),
        };
        match spliced {
            Ok(connection) => {
                self.commit();
                let gap = now.duration_since(self.frozen);
                let (replayed, dropped) = (self.request, self.dropped);
                let offsets = (offsets.reply, offsets.clock);
                Ok(Outcome::Moved { connection, from, gap, replayed, dropped, position, offsets })
            }
            Err(why) => {
                if found.is_ok() {
                    table.freeze(slot, false);
                    table.note_failed(slot, why);
                }
                table.release_leg(&self.leg);
                self.fail();
                Err(why)
            }
        }
    }
}

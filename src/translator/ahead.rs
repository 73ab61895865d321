//! Asks for what will be needed soon, where the processor can fetch it meanwhile (see `prefetch`). It changes no result,
//! and is not compiled where it would gain nothing.

use super::state::Table;
use crate::connection::Direction;
use crate::prefetch::{USEFUL, prefetch};
use crate::table::connection::NONE;
use crate::table::hash::Key;

impl Table<'_> {
    /// Asks for both buckets of a key.
    #[inline]
    pub(crate) fn ask_for_buckets(&self, direction: Direction, key: &Key) {
        if USEFUL {
            let (layout, hash) = (&self.state.layout, self.state.keys.hash(key));
            prefetch(self.memory.index, layout.position(direction, hash));
            prefetch(self.memory.index, layout.second_position(direction, hash));
        }
    }

    /// Asks for the slot that the next connection gets.
    #[inline]
    pub(crate) fn ask_for_slot(&self) {
        if USEFUL {
            let next = if self.state.free == NONE { self.state.fresh } else { self.state.free };
            prefetch(self.memory.connections, next as usize);
        }
    }

    /// Asks for what a new connection of this client takes: the counts of clients.
    #[inline]
    pub(crate) fn ask_for_counts(&self, client: u32) {
        if USEFUL {
            let hash = self.state.keys.hash_client(client);
            for position in self.state.layout.client_positions(hash) {
                prefetch(self.memory.index, position);
            }
        }
    }
}

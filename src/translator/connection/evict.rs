//! Slots for new connections, and which connection is evicted when all are in use.

use crate::event::Closed;
use crate::table::connection::{ConnectionSlot, Entry, NONE};
use crate::track::phase::Class;
use crate::translator::connection::expire::LOOKS;
use crate::translator::state::Table;

/// How many of the oldest and of the newest connections of each cheap class are compared for eviction.
pub(super) const SAMPLES: usize = 4;

impl Table<'_> {
    /// Returns a slot for a new connection. If all are in use, one is freed.
    pub(in crate::translator) fn allocate(&mut self) -> Option<u32> {
        if self.state.redivert_log.is_closed() {
            return None;
        }
        self.take_free().or_else(|| self.make_room())
    }

    /// Frees a slot and returns it: first that of a dead connection, then one in quarantine, then, of the oldest and
    /// newest half-open TCP, unanswered UDP and ICMP connections, that of the one whose client has the most connections.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn make_room(&mut self) -> Option<u32> {
        let dead = self.state.ages.heads().iter().find(|head| self.is_dead(**head));
        let mut victim = dead.copied().unwrap_or(self.state.ages.head(Class::Quarantined));
        if victim == NONE {
            victim = self.cheapest();
        }
        if victim == NONE {
            // Dead connections may come after ones that were busy recently.
            self.expire_all(LOOKS, true);
            victim = self.state.ages.head(Class::Quarantined);
        }
        self.close_if_dead(victim);
        self.slot(victim)?;
        self.evict(victim);
        self.take_free()
    }

    /// Evicts a connection to make room for another.
    fn evict(&mut self, slot: u32) {
        self.give_up(slot, Closed::Evicted);
    }

    /// Ends a connection whose slot is needed at once: its alternative endpoint is remembered as recently used instead
    /// of being quarantined.
    // Not inlined into `open`, which would need more stack.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn give_up(&mut self, slot: u32, why: Closed) {
        self.owe_resets_now(slot);
        self.finish(slot, why);
        self.remember(slot);
        self.release(slot);
    }

    /// Remembers the alternative endpoint of a connection that leaves it.
    pub(in crate::translator) fn remember(&mut self, slot: u32) {
        if let Some(ConnectionSlot(c)) = self.memory.connections.get(slot as usize) {
            self.state.recent.add(c.alternative_endpoint(), c.server);
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn take_free(&mut self) -> Option<u32> {
        let slot = match self.slot(self.state.free) {
            Some(free) => {
                let slot = self.state.free;
                self.state.free = free.next;
                slot
            }
            None if (self.state.fresh as usize) < self.memory.connections.len() => {
                self.state.fresh += 1;
                self.state.fresh - 1
            }
            None => return None,
        };
        self.state.used += 1;
        Some(slot)
    }

    /// How many connections a client has.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn count_of(&mut self, client: u32) -> u32 {
        let hash = self.state.keys.hash_client(client);
        self.clients().count(hash)
    }

    /// Of the oldest few and the newest few connections of each cheap class, the one whose client has the most
    /// connections; among equals the oldest; [`NONE`] if there are none. A client that floods the table is among the
    /// newest, one that has been idle for long among the oldest.
    fn cheapest(&mut self) -> u32 {
        let mut best = (NONE, 0);
        for class in Class::cheap() {
            self.heaviest(self.state.ages.head(class), true, &mut best);
            self.heaviest(self.state.ages.tail(class), false, &mut best);
        }
        best.0
    }

    /// Makes `best` the one whose client has the most connections, and how many these are, if the first few connections
    /// from this end of a list on have one with more.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn heaviest(&mut self, mut slot: u32, forward: bool, best: &mut (u32, u32)) {
        for _ in 0..SAMPLES {
            let Some(&Entry { client, next, previous, .. }) = self.slot(slot) else { break };
            let count = self.count_of(client) + 1;
            if count > best.1 {
                *best = (slot, count);
            }
            slot = if forward { next } else { previous };
        }
    }
}

//! The entries for servers, over the storage: taken, shared, exchanged and given back.

use crate::divert::Target;
use crate::table::server::{Holder, NONE, ServerSlot, Unused};
#[cfg(target_pointer_width = "64")]
use crate::table::server_index::Shared;

/// The entries, over the storage.
#[derive(Debug)]
pub(crate) struct Servers<'a> {
    pub(crate) slots: &'a mut [ServerSlot],
    pub(crate) unused: &'a mut Unused,
    #[cfg(target_pointer_width = "64")]
    pub(crate) shared: Shared<'a>,
}

impl Servers<'_> {
    pub(crate) fn get(&self, entry: u16) -> Option<&ServerSlot> {
        self.slots.get(usize::from(entry))
    }

    pub(crate) fn get_mut(&mut self, entry: u16) -> Option<&mut ServerSlot> {
        self.slots.get_mut(usize::from(entry))
    }

    /// How many entries are unused.
    pub(crate) fn free(&self) -> usize {
        self.slots.len().saturating_sub(usize::from(self.unused.used))
    }

    /// Takes an unused entry for `target`.
    pub(crate) fn take(&mut self, target: Target, holder: Holder, seed: u32) -> Option<u16> {
        let known = self.unused.first;
        let entry = if known == NONE { self.unused.fresh } else { known };
        let slot = self.get_mut(entry)?;
        let next = slot.next;
        *slot = ServerSlot { seed, next: NONE, holder, ..ServerSlot::EMPTY };
        slot.set_target(target);
        if known == NONE {
            self.unused.fresh += 1;
        } else {
            self.unused.first = next;
        }
        self.unused.used += 1;
        Some(entry)
    }

    fn give_back(&mut self, entry: u16) {
        let next = self.unused.first;
        if let Some(slot) = self.get_mut(entry) {
            *slot = ServerSlot { next, ..ServerSlot::EMPTY };
            self.unused.first = entry;
            self.unused.used -= 1;
        }
    }

    /// Detaches a rule or a re-divert from the entry that it pointed at. The entry stays as long as others point at it
    /// or it has connections. A shared entry can be shared again as long as it stays.
    pub(crate) fn detach(&mut self, entry: u16) {
        let Some(slot) = self.get_mut(entry) else {
            return;
        };
        #[cfg(target_pointer_width = "64")]
        if slot.is_shared() {
            slot.leave_shared();
            self.clean(entry);
            return;
        }
        slot.holder = Holder::Nobody;
        slot.next = NONE;
        self.clean(entry);
    }

    /// Gives an entry back if nothing needs it.
    pub(crate) fn clean(&mut self, entry: u16) {
        let Some(slot) = self.get_mut(entry).filter(|slot| slot.connections == 0) else {
            return;
        };
        #[cfg(target_pointer_width = "64")]
        if slot.is_shared() {
            slot.holder = Holder::Rules;
            if slot.rules() == 0 {
                self.leave(entry);
                self.give_back(entry);
            }
            return;
        }
        if slot.holder == Holder::Nobody {
            self.give_back(entry);
        }
    }

    /// Replaces the server of an entry.
    pub(crate) fn set_target(&mut self, entry: u16, target: Target) {
        #[cfg(target_pointer_width = "64")]
        self.leave(entry);
        if let Some(slot) = self.get_mut(entry) {
            slot.set_target(target);
        }
        #[cfg(target_pointer_width = "64")]
        self.enter(entry);
    }

    /// Sets the count of connections of every entry to zero. Returns how many there were.
    pub(crate) fn forget(&mut self) -> u32 {
        let mut counted = 0;
        for entry in 0..self.unused.fresh {
            // An entry that already has none is not waiting for connections to end.
            let Some(slot) = self.get_mut(entry).filter(|slot| slot.connections != 0) else {
                continue;
            };
            counted += core::mem::take(&mut slot.connections);
            self.clean(entry);
        }
        counted
    }
}

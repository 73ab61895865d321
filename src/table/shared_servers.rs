//! The entries that rules with one server share, in large storages.
//!
//! An entry stays in the index while it has connections, so that a rule that is added again finds them. Two entries may
//! be for the same server after a re-divert; new rules get the one that is found first.

use crate::divert::Target;
use crate::table::server::{Holder, NONE};
use crate::table::servers::Servers;

impl Servers<'_> {
    /// Whether rules with one server share its entry.
    pub(crate) const fn are_shared(&self) -> bool {
        !self.shared.firsts.is_empty()
    }

    /// The entry that rules with only this server share, if there is one.
    pub(crate) fn shared(&self, target: Target) -> Option<u16> {
        let follow = |entry: &u16| self.get(*entry).map(|slot| slot.weight);
        let mut list = core::iter::successors(Some(self.shared.first(target)), follow);
        list.find(|entry| self.get(*entry).is_some_and(|slot| slot.target() == target))
    }

    /// Makes one more rule point at the entry that rules with only this server share. Creates that entry if there is
    /// none.
    pub(crate) fn share(&mut self, target: Target) -> Option<u16> {
        let entry = match self.shared(target) {
            Some(entry) => entry,
            None => {
                let entry = self.take(target, Holder::Rules, 0)?;
                self.enter(entry);
                entry
            }
        };
        self.get_mut(entry)?.seed += 1;
        Some(entry)
    }

    /// Turns an entry that one rule points at into a shared one, or into one of a group with this seed, unless it
    /// already is that.
    pub(crate) fn set_holder(&mut self, entry: u16, holder: Holder, seed: u32) {
        // An entry that stays in its group keeps its share.
        if self.get(entry).is_some_and(|slot| slot.holder == holder) {
            return;
        }
        self.leave(entry);
        if let Some(slot) = self.get_mut(entry) {
            (slot.holder, slot.seed, slot.next) = (holder, seed, NONE);
        }
        self.enter(entry);
    }

    /// Replaces an entry that has connections by one for `target`. Rules that point at the old one mean the new one
    /// from now on. [`finish_draining`](Self::finish_draining) must follow if the old one is in a group, or if rules
    /// may still point at another drained entry.
    pub(crate) fn drain(&mut self, entry: u16, target: Target) -> Option<u16> {
        let old = *self.get(entry)?;
        // The new server may be the old one by another name.
        self.leave(entry);
        let new = if old.is_shared() {
            // It counts all of the old entry's rules, not just one.
            let new = self.share(target)?;
            self.get_mut(new)?.seed += old.seed.wrapping_sub(1);
            new
        } else {
            let new = self.take(target, Holder::Group, old.seed)?;
            let slot = self.get_mut(new)?;
            (slot.weight, slot.next) = (old.weight, old.next);
            new
        };
        let slot = self.get_mut(entry)?;
        slot.seed = if old.is_shared() { old.seed } else { 1 };
        (slot.holder, slot.next) = (Holder::Drained, new);
        Some(new)
    }

    /// Links groups to the entries that their servers have now, and rules of earlier drains to those of the last one.
    pub(crate) fn finish_draining(&mut self) {
        for entry in 0..self.unused.up_to() {
            let Some(slot) = self.get(entry).copied() else {
                break;
            };
            let pointing = match slot.holder {
                // Only the chain points at a server that is not the first.
                Holder::Group => 1,
                // Those were counted for the entry that is drained now, but do not point at it.
                Holder::Drained => slot.seed,
                _ => continue,
            };
            let mut meant = slot.next;
            while let Some(next) = self.get_mut(meant).filter(|next| next.holder == Holder::Drained) {
                next.seed = next.seed.saturating_sub(pointing);
                meant = next.next;
            }
            if let Some(slot) = self.get_mut(entry) {
                slot.next = meant;
            }
        }
        for entry in 0..self.unused.up_to() {
            self.release_drained(entry);
        }
    }

    /// Releases a drained entry that no rule points at any more.
    fn release_drained(&mut self, entry: u16) {
        if let Some(slot) = self.get_mut(entry).filter(|slot| slot.holder == Holder::Drained && slot.seed == 0) {
            (slot.holder, slot.next) = (Holder::Nobody, NONE);
            self.clean(entry);
        }
    }

    /// Stops a rule from pointing at this entry if the entry is drained. Returns the entry that the rule means.
    pub(crate) fn leave_drained(&mut self, entry: u16) -> u16 {
        let Some(slot) = self.get_mut(entry).filter(|slot| slot.holder == Holder::Drained) else {
            return entry;
        };
        slot.seed = slot.seed.saturating_sub(1);
        let meant = slot.next;
        self.release_drained(entry);
        meant
    }

    /// Enters a shared entry into the index.
    pub(in crate::table) fn enter(&mut self, entry: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(entry)).filter(|slot| slot.is_shared()) {
            slot.weight = self.shared.set_first(slot.target(), entry);
        }
    }

    /// Takes a shared entry out of the index.
    pub(in crate::table) fn leave(&mut self, entry: u16) {
        let Some(slot) = self.slots.get(usize::from(entry)).filter(|slot| slot.is_shared()) else {
            return;
        };
        let (target, next) = (slot.target(), slot.weight);
        let mut at = self.shared.first(target);
        if at == entry {
            self.shared.set_first(target, next);
            return;
        }
        while let Some(slot) = self.slots.get_mut(usize::from(at)) {
            at = slot.weight;
            if at == entry {
                slot.weight = next;
                return;
            }
        }
    }
}

//! Connections by age: one list for each class of time-out.
//!
//! A packet writes the time into its own connection's line and does not touch the list, since its neighbours' lines are
//! cold. So the head of a list is not always the connection that was silent longest, but the one that was examined
//! longest ago. Expiry examines the heads: it closes dead connections and moves busy ones to the end, with a second
//! chance. It goes through a list once per quarter of the time-out. A connection that was not examined in time is still
//! dead to a packet that looks it up.

use crate::table::connection::{ConnectionSlot, Entry, NONE};
use crate::time::Tick;
use crate::track::phase::Class;
use crate::track::timers::CoarseTime;

/// The two ends of each list. The links are in the slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    heads: [u32; Class::COUNT],
    tails: [u32; Class::COUNT],
}

impl Ages {
    pub(crate) const EMPTY: Self = Self { heads: [NONE; Class::COUNT], tails: [NONE; Class::COUNT] };

    pub(crate) fn head(&self, class: Class) -> u32 {
        self.heads.get(class as usize).copied().unwrap_or(NONE)
    }

    /// The heads of all lists, by class.
    pub(crate) const fn heads(&self) -> &[u32; Class::COUNT] {
        &self.heads
    }

    pub(crate) fn tail(&self, class: Class) -> u32 {
        self.tails.get(class as usize).copied().unwrap_or(NONE)
    }

    /// Puts a slot that is in no list at the end of this one.
    pub(crate) fn append(&mut self, slots: &mut [ConnectionSlot], class: Class, slot: u32, now: Tick) {
        let tail = self.tails.get(class as usize).copied().unwrap_or(NONE);
        let Some(ConnectionSlot(new)) = slots.get_mut(slot as usize) else {
            return;
        };
        new.previous = tail;
        new.next = NONE;
        new.listed_at = CoarseTime::of(now);
        match slots.get_mut(tail as usize) {
            Some(last) => last.0.next = slot,
            None => set(&mut self.heads, class, slot),
        }
        set(&mut self.tails, class, slot);
    }

    /// Removes a slot from the list that it is in.
    pub(crate) fn remove(&mut self, slots: &mut [ConnectionSlot], class: Class, slot: u32) {
        let Some(&ConnectionSlot(Entry { previous, next, .. })) = slots.get(slot as usize) else {
            return;
        };
        match slots.get_mut(previous as usize) {
            Some(neighbour) => neighbour.0.next = next,
            None => set(&mut self.heads, class, next),
        }
        match slots.get_mut(next as usize) {
            Some(neighbour) => neighbour.0.previous = previous,
            None => set(&mut self.tails, class, previous),
        }
    }
}

fn set(ends: &mut [u32; Class::COUNT], class: Class, slot: u32) {
    if let Some(end) = ends.get_mut(class as usize) {
        *end = slot;
    }
}

//! The rules, over the storage: sorted in small storages, found by an index in large ones.

#[cfg(target_pointer_width = "64")]
use crate::divert::Divert;
use crate::divert::Match;
use crate::table::rule::DivertSlot;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::RuleIndexMut;

/// The rules, over the storage: those in use stand in front. The most specific stands first, unless there is an index.
#[derive(Debug)]
pub(crate) struct Diverts<'a> {
    pub(crate) slots: &'a mut [DivertSlot],
    pub(crate) length: usize,
    #[cfg(target_pointer_width = "64")]
    pub(crate) index: RuleIndexMut<'a>,
}

impl Diverts<'_> {
    pub(super) fn rules(&self) -> &[DivertSlot] {
        self.slots.get(..self.length).unwrap_or_default()
    }

    /// The rule with exactly this match: its place, or the place where it would stand.
    pub(crate) fn place(&self, matches: &Match) -> Result<usize, usize> {
        #[cfg(target_pointer_width = "64")]
        if self.index.is_there() {
            let same = DivertSlot::new(&Divert::new(*matches), 0, false);
            return self.index.read().place(self.rules(), &same).ok_or(self.length);
        }
        self.rules().binary_search_by_key(&matches.order(), |s| s.matches().order())
    }

    /// Puts a rule at `place`. The caller has made sure that there is room for it. False if the index has none, in which
    /// case nothing has changed.
    #[must_use]
    pub(crate) fn insert(&mut self, place: usize, slot: DivertSlot) -> bool {
        #[cfg(target_pointer_width = "64")]
        if self.index.is_there() && !self.index.insert(&slot, place) {
            return false;
        }
        self.length += 1;
        // The last one is free. An empty list, which cannot be here, could not be rotated.
        if let Some(tail) = self.slots.get_mut(place..self.length).filter(|tail| !tail.is_empty()) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = slot;
            }
        }
        true
    }

    pub(crate) fn remove(&mut self, place: usize) {
        #[cfg(target_pointer_width = "64")]
        if self.index.is_there() {
            self.remove_indexed(place);
            return;
        }
        if let Some(tail) = self.slots.get_mut(place..self.length).filter(|tail| !tail.is_empty()) {
            tail.rotate_left(1);
            self.length -= 1;
        }
    }

    /// Puts the last rule in the place of this one.
    #[cfg(target_pointer_width = "64")]
    fn remove_indexed(&mut self, place: usize) {
        let Some(last) = self.length.checked_sub(1) else {
            return;
        };
        let (Some(&gone), Some(&moved)) = (self.slots.get(place), self.slots.get(last)) else {
            return;
        };
        self.index.remove(&gone, place);
        if place != last {
            self.index.remove(&moved, last);
            // There is room where it was just now.
            let _ = self.index.insert(&moved, place);
            if let Some(slot) = self.slots.get_mut(place) {
                *slot = moved;
            }
        }
        self.length = last;
    }
}

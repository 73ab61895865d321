//! The rules, over the storage: sorted in small storages, found by an index in large ones.
//!
//! Two questions about rules cannot be answered by looking up a match: whether a rule hides the server that a packet
//! comes from, and whether a rule for some client names a port of the translator's own. In large storages the few rules
//! that such a question concerns stand apart, in front of all others, so that only they need to be examined.

#[cfg(target_pointer_width = "64")]
use crate::divert::Divert;
use crate::divert::Match;
use crate::table::rule::DivertSlot;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::RuleIndexMut;

/// The rules, over the storage: the slots in use come first. Without an index they are sorted, the most specific rule
/// first; with one they are in no particular order, except that the rules that stand apart come first.
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
        self.rules().binary_search_by_key(matches, |s| s.matches())
    }

    /// Puts a rule at `place`, where there is no index. The caller has made sure that there is room for it.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn insert(&mut self, place: usize, mut slot: DivertSlot) {
        self.length += 1;
        // Each slot takes the rule of the one before it. `rotate_right` takes a kilobyte of flash.
        for later in self.slots.get_mut(place..self.length).unwrap_or_default() {
            core::mem::swap(later, &mut slot);
        }
    }

    pub(crate) fn remove(&mut self, place: usize) {
        #[cfg(target_pointer_width = "64")]
        if self.index.is_there() {
            self.remove_indexed(place);
            return;
        }
        let tail = self.slots.get_mut(place..self.length).unwrap_or_default();
        self.length -= usize::from(!tail.is_empty());
        let mut next = DivertSlot::EMPTY;
        for slot in tail.iter_mut().rev() {
            core::mem::swap(slot, &mut next);
        }
    }
}

/// Where there is an index: first the rules that stand apart, then all others.
#[cfg(target_pointer_width = "64")]
impl Diverts<'_> {
    /// Enters a rule, either with those that stand apart or after all others. Returns its place; `None` if the index
    /// has no room, in which case nothing has changed. The caller has made sure that there is a slot for it.
    #[must_use]
    pub(crate) fn insert_indexed(&mut self, slot: DivertSlot, stands_apart: bool) -> Option<usize> {
        let end = self.length;
        let border = self.index.directory.apart();
        let place = if stands_apart { border } else { end };
        self.relocate(place, end);
        if !self.index.insert(&slot, place) {
            self.relocate(end, place);
            return None;
        }
        *self.slots.get_mut(place)? = slot;
        self.length += 1;
        self.index.directory.set_apart(border + usize::from(stands_apart));
        Some(place)
    }

    /// Moves a rule across the border if it stands on the wrong side: the rule that stood next to the border takes its
    /// place. Returns its new place.
    pub(crate) fn set_apart(&mut self, place: usize, stands_apart: bool) -> usize {
        let border = self.index.directory.apart();
        let (next, other) = match (place < border, stands_apart) {
            (false, true) => (border + 1, border),
            (true, false) => (border - 1, border - 1),
            _ => return place,
        };
        self.index.directory.set_apart(next);
        if let (Some(&moved), Some(&exchanged), true) = (self.slots.get(place), self.slots.get(other), place != other) {
            // One after the other, so that each finds the room that it has left.
            self.index.relocate(&moved, place, self.length);
            self.index.relocate(&exchanged, other, place);
            self.index.relocate(&moved, self.length, other);
            self.slots.swap(place, other);
        }
        other
    }

    /// Removes a rule: the last rule on the same side of the border takes its place, and the last rule of all takes the
    /// place of that one.
    fn remove_indexed(&mut self, place: usize) {
        let (Some(last), Some(gone)) = (self.length.checked_sub(1), self.slots.get(place).copied()) else {
            return;
        };
        self.index.remove(&gone, place);
        let mut hole = place;
        if let Some(last_apart) = self.index.directory.apart().checked_sub(1).filter(|last| place <= *last) {
            self.relocate(last_apart, hole);
            hole = last_apart;
            self.index.directory.set_apart(last_apart);
        }
        self.relocate(last, hole);
        self.length = last;
    }

    /// Moves a rule to a free place.
    fn relocate(&mut self, from: usize, to: usize) {
        if from != to
            && let Some(&moved) = self.slots.get(from)
            && let Some(slot) = self.slots.get_mut(to)
        {
            *slot = moved;
            self.index.relocate(&moved, from, to);
        }
    }
}

//! What the control protocol needs of the names, independent of their storage.

use heapless::Vec;

use super::counters::NameCounters;
use super::entry::{EntryError, Inserted, MAX_CLIENT_PREFIXES, NameEntry};
use super::index::{self, Candidates};
use super::list::ListedName;
use super::name::Pattern;
use super::storage::{NONE, NameSlot, NameStorage};
use super::table::{Names, slot_mut};
use crate::divert::Match;
use crate::endpoint::Prefix;

/// How many changes of names one request can hold at most.
const MAX_CHANGES: usize = 16;

/// Names that take instructions from a monitor: [`Names`] with any storage.
///
/// Sealed: it is what the feature `control` calls.
pub trait NameTable: sealed::Instructed {}

impl<N: NameStorage> NameTable for Names<N> {}

pub(crate) mod sealed {
    use super::{EntryError, Inserted, ListedName, Match, NameCounters, NameEntry, NameRoom, Pattern, Prefix};

    pub trait Instructed {
        fn generation(&self) -> u32;
        fn counters(&self) -> &NameCounters;
        /// How many entries there are, and how many there is room for.
        fn sizes(&self) -> (usize, usize);
        /// The entry in a place of the table, counted from zero: `Some(None)` in an unused place, and `None` after the
        /// last place.
        fn in_place(&self, place: usize) -> Option<Option<ListedName<'_>>>;
        fn find(&self, pattern: &Pattern, clients: Prefix) -> Option<ListedName<'_>>;
        /// Calls `each` with the entries that are tied to a rule. Looks at all entries if one is tied to any rule.
        fn each_tied(&self, rule: &Match, each: &mut dyn FnMut(ListedName<'_>));
        /// How many entries have this pattern.
        fn count_of(&self, pattern: &Pattern) -> usize;
        /// Plans to insert an entry with this pattern, which `others` entries already have. An error if there is no
        /// room for it after the changes planned so far.
        fn plan_insert(
            &self,
            room: &mut NameRoom,
            pattern: &Pattern,
            clients: Prefix,
            others: usize,
        ) -> Result<(), EntryError>;
        /// Plans to remove an entry, one of `all` with this pattern.
        fn plan_remove(&self, room: &mut NameRoom, pattern: &Pattern, all: usize);
        /// Inserts or updates an entry and ties it to a rule or to none, no matter what it was tied to before.
        fn set(&mut self, entry: &NameEntry<'_>, rule: Option<&Match>) -> Result<Inserted, EntryError>;
        /// Removes an entry, also one that is tied to a rule. Returns whether it was there.
        fn unset(&mut self, pattern: &Pattern, clients: Prefix) -> bool;
        /// A rule was inserted: resumes the entries that are tied to it.
        fn resume(&mut self, rule: &Match);
    }
}

/// Room that planned changes take and give back, so that a request is known to fit before its first change is made.
#[derive(Debug, Default)]
pub struct NameRoom {
    inserted: usize,
    removed: usize,
    /// Buckets of the index that get a word more (`true`) or less.
    words: Vec<(usize, bool), MAX_CHANGES>,
}

impl<N: NameStorage> sealed::Instructed for Names<N> {
    fn generation(&self) -> u32 {
        self.state.generation
    }

    fn counters(&self) -> &NameCounters {
        &self.state.counters
    }

    fn sizes(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }

    fn in_place(&self, place: usize) -> Option<Option<ListedName<'_>>> {
        let slot = self.storage.view().slots.get(..self.state.fresh)?.get(place)?;
        Some(slot.is_used().then_some(ListedName { slot }))
    }

    fn find(&self, pattern: &Pattern, clients: Prefix) -> Option<ListedName<'_>> {
        Self::find(self, pattern, clients)
    }

    fn each_tied(&self, rule: &Match, each: &mut dyn FnMut(ListedName<'_>)) {
        if self.state.tied != 0 {
            self.entries().filter(|entry| entry.rule().as_ref() == Some(rule)).for_each(each);
        }
    }

    fn count_of(&self, pattern: &Pattern) -> usize {
        let slots = self.storage.view().slots;
        let mut next = self.first(self.hash(pattern), pattern);
        let mut count = 0;
        while let Some(slot) = index::slot(slots, next) {
            count += 1;
            next = slot.next;
        }
        count
    }

    fn plan_insert(
        &self,
        room: &mut NameRoom,
        pattern: &Pattern,
        clients: Prefix,
        others: usize,
    ) -> Result<(), EntryError> {
        let capacity = self.capacity();
        let full = EntryError::TableFull { capacity };
        if others >= MAX_CLIENT_PREFIXES {
            return Err(EntryError::TooManyClientPrefixes { clients });
        }
        if self.len() + room.inserted >= capacity + room.removed {
            return Err(full);
        }
        if others == 0 {
            let index = self.storage.view().index;
            let more = |start: usize| {
                let changes = room.words.iter().filter(|(bucket, _)| *bucket == start);
                changes.map(|(_, more)| if *more { 1 } else { -1 }).sum()
            };
            let place = index::place_for(index, self.hash(pattern), more);
            if !place.has_room(index) || room.words.push((place.start, true)).is_err() {
                return Err(full);
            }
        }
        room.inserted += 1;
        Ok(())
    }

    fn plan_remove(&self, room: &mut NameRoom, pattern: &Pattern, all: usize) {
        room.removed += 1;
        if all == 1 {
            let hash = self.hash(pattern);
            let first = self.first(hash, pattern);
            if let Some(start) = index::place_of(self.storage.view().index, hash, first) {
                // A request has fewer changes than there is room for.
                let _ = room.words.push((start, false));
            }
        }
    }

    fn set(&mut self, entry: &NameEntry<'_>, rule: Option<&Match>) -> Result<Inserted, EntryError> {
        let hash = self.hash(&entry.pattern);
        let place = self.place(hash, &entry.pattern, entry.clients);
        let done = self.enter(hash, place, entry)?;
        let at = self.place(hash, &entry.pattern, entry.clients).at;
        self.set_tie(at, rule);
        Ok(done)
    }

    fn unset(&mut self, pattern: &Pattern, clients: Prefix) -> bool {
        let hash = self.hash(pattern);
        let place = self.place(hash, pattern, clients);
        let is_there = place.at != NONE;
        if is_there {
            self.set_tie(place.at, None);
            self.take_out(hash, place);
        }
        is_there
    }

    fn resume(&mut self, rule: &Match) {
        if self.state.tied == 0 {
            return;
        }
        let slots = self.storage.parts().slots;
        for number in 1..=self.state.fresh as u32 {
            if let Some(slot) = slot_mut(slots, number)
                && slot.rule().as_ref() == Some(rule)
            {
                slot.suspend(false);
            }
        }
    }
}

impl<N: NameStorage> Names<N> {
    /// The first entry of the list with this pattern; [`NONE`] if there is none.
    fn first(&self, hash: u64, pattern: &Pattern) -> u32 {
        let view = self.storage.view();
        index::find(
            view.index,
            view.slots,
            Candidates::of(view.index, hash),
            pattern.name().as_wire(),
            pattern.is_suffix(),
        )
    }
}

const _: () = assert!(NONE == 0 && size_of::<NameSlot>() != 0, "places are numbers less one");

#[cfg(test)]
mod tests {
    use super::sealed::Instructed;
    use super::*;
    use crate::naming::{FixedNames, NamesConfig};
    use core::net::Ipv4Addr;
    use std::{format, vec::Vec};

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    fn pattern(number: usize) -> Pattern {
        format!("n{number}.example").parse().unwrap()
    }

    /// A plan predicts what happens, even if the index has few buckets and the table is full: with many secrets, each
    /// of which puts the names into other buckets.
    #[test]
    fn a_plan_comes_true() {
        let mut refused = 0;
        for secret in 0..200_u8 {
            let mut names = Names::new(NamesConfig::new([secret; 32]), FixedNames::<12, 1>::new());
            let half = usize::from(secret) % 12;
            for number in 0..half {
                names.insert(NameEntry::new(pattern(number)).to(ADDRESS)).unwrap();
            }
            // Remove some, and enter others in their place, in one request.
            let gone: Vec<_> = (0..half / 2).collect();
            let mut room = NameRoom::default();
            for number in &gone {
                names.plan_remove(&mut room, &pattern(*number), 1);
            }
            let mut planned = Vec::new();
            for number in 12..28 - gone.len() {
                if names.plan_insert(&mut room, &pattern(number), Prefix::ALL, 0).is_ok() {
                    planned.push(number);
                } else {
                    refused += 1;
                }
            }
            assert_eq!(planned.len(), (12 - half + gone.len()).min(16 - gone.len()));
            for number in gone {
                assert!(names.unset(&pattern(number), Prefix::ALL));
            }
            for number in planned {
                names.set(&NameEntry::new(pattern(number)).to(ADDRESS), None).unwrap();
            }
        }
        assert!(refused > 0);
    }
}

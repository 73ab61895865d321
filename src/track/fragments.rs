//! Fragments without reassembly (RFC 4787, REQ-14; RFC 1858; RFC 3128).
//!
//! Only the first fragment of a datagram has ports. It goes through the table like a whole packet and leaves an entry
//! here that records what became of it; the later fragments follow the entry. A later fragment that arrives before its
//! first finds no entry and is handed back to the caller, which may hold it.
//!
//! Each entry remembers which parts of the datagram were seen, so that nothing can be written twice: fragments that
//! overlap are dropped, and so are those beyond the end. The entry stores the length of the contiguous part that starts
//! with the first fragment, and up to [`ISLANDS`] ranges after it. At least one missing fragment precedes each such
//! island, so `n` fragments make at most `(n - 1) / 2` islands if the first one arrives first: with 11 islands, 24
//! fragments can arrive in any order. So can larger datagrams, as long as there are no more than 11 islands at once; a
//! fragment that would need another one is dropped.
//!
//! Once all of the datagram was seen, its identification may be reused at once: a first fragment begins a new datagram,
//! as it does for a receiver, which has reassembled the old one. A repeated later fragment cannot be distinguished from
//! one of a new datagram that overtook its first. For [`REPEATED`] ticks it is taken for a repetition and dropped;
//! after that it is held like any other. The entry of an incomplete datagram also gives way to a new first fragment
//! then: its sender has given up the old datagram (RFC 6864, section 4), and nothing more of it is lost that way.

use crate::time::Tick;
use crate::verdict::DropReason;
use crate::wire::checksum::Delta;
use crate::wire::ipv4::{self, Header};

/// How many ranges after the first gap an entry can remember.
const ISLANDS: usize = 11;

/// For how many ticks after the last fragment a repeated one is taken for a copy that the network made: between 65 and
/// 131 ms.
const REPEATED: u32 = 1;

/// Room for one fragmented datagram in progress in a translator's storage: all zeros when unused.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
// The large field comes last.
#[repr(C)]
pub struct FragmentSlot {
    source: u32,
    destination: u32,
    new_source: u32,
    new_destination: u32,
    last: Tick,
    protocol: u8,
    action: Action,
    identification: u16,
    new_identification: u16,
    network: Delta,
    /// Everything up to here was seen, in units of 8 bytes.
    reach: u16,
    /// Where the datagram ends; zero as long as its last fragment was not seen.
    end: u16,
    /// Disjoint ranges after `reach`, `start..end`; unused ones are empty.
    islands: [(u16, u16); ISLANDS],
}

/// What became of the first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub(crate) enum Action {
    /// There is no entry in this slot.
    Free = 0,
    ToServer,
    ToClient,
    Passed,
}

/// What to do with a later fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follow {
    pub(crate) action: Action,
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) network: Delta,
    pub(crate) identification: u16,
}

impl FragmentSlot {
    /// An unused slot.
    pub const EMPTY: Self = Self {
        source: 0,
        destination: 0,
        new_source: 0,
        new_destination: 0,
        last: Tick(0),
        identification: 0,
        new_identification: 0,
        network: Delta(0),
        protocol: 0,
        action: Action::Free,
        reach: 0,
        end: 0,
        islands: [(0, 0); ISLANDS],
    };

    fn is_of(&self, fragment: &Fragment) -> bool {
        self.action != Action::Free
            && self.identification == fragment.identification
            && self.source == fragment.source
            && self.destination == fragment.destination
            && self.protocol == fragment.protocol
    }

    /// The original destination of a datagram, if more of its fragments may follow its first one to a server.
    pub(crate) fn original(&self, now: Tick, timeout: u32) -> Option<u32> {
        let waits = self.action == Action::ToServer && now.since_past(self.last) <= self.lifetime(timeout);
        waits.then_some(self.destination)
    }

    /// Whether all of the datagram was seen, or there is none.
    const fn is_complete(&self) -> bool {
        self.reach == self.end
    }

    /// For how many ticks after the last fragment the entry is valid.
    const fn lifetime(&self, timeout: u32) -> u32 {
        if self.is_complete() && timeout > REPEATED { REPEATED } else { timeout }
    }

    fn has_islands(&self) -> bool {
        self.islands.iter().fold(0, |any, island| any | island.1) != 0
    }

    /// Adds a later fragment to what was seen.
    fn add(&mut self, range: (u16, u16), is_last: bool) -> Result<(), DropReason> {
        let (mut start, mut end) = range;
        // Fragments in the order in which they were sent, as nearly all arrive. A small processor has no flash to spare
        // for this.
        if cfg!(target_pointer_width = "64") && start == self.reach && self.end == 0 && !self.has_islands() {
            self.reach = end;
            self.end = if is_last { end } else { 0 };
            return Ok(());
        }
        let known = self.end != 0;
        let mut seen = start < self.reach || (known && (is_last || end > self.end));
        for island in &self.islands {
            // Nothing lies after the last fragment.
            seen |= start < island.1 && (island.0 < end || is_last);
        }
        if seen {
            return Err(DropReason::OverlappingFragment);
        }
        // It merges with its neighbours, if they are there, and frees their places.
        let mut room = None;
        for island in &mut self.islands {
            if island.0 == range.1 || island.1 == range.0 {
                (start, end) = (start.min(island.0), end.max(island.1));
                *island = (0, 0);
            }
            if island.1 == 0 {
                room = Some(island);
            }
        }
        if start == self.reach {
            self.reach = end;
        } else {
            *room.ok_or(DropReason::ScatteredFragment)? = (start, end);
        }
        if is_last {
            self.end = range.1;
        }
        Ok(())
    }
}

/// A fragment: its datagram, and the part of it that it carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    identification: u16,
    protocol: u8,
    /// In units of 8 bytes, `start..end`.
    range: (u16, u16),
    /// No more fragments follow.
    is_last: bool,
}

impl Fragment {
    /// What identifies its datagram: the addresses, and the identification with the protocol.
    #[cfg(target_pointer_width = "64")]
    pub(crate) const fn datagram(&self) -> (u64, u64) {
        let addresses = (self.source as u64) << 32 | self.destination as u64;
        (addresses, (self.identification as u64) << 8 | self.protocol as u64)
    }

    /// The fragment with this header and this many bytes after it.
    ///
    /// # Errors
    /// [`DropReason::MalformedIpv4`] if it is empty, does not end on a unit although more follow, or reaches beyond the
    /// largest datagram (RFC 791, section 3.1).
    pub(crate) fn read(header: Header<'_>, length: usize) -> Result<Self, DropReason> {
        let start = ipv4::offset(header.fragmentation());
        let units = length.div_ceil(8);
        let is_last = !ipv4::more_fragments(header.fragmentation());
        let ragged = !is_last && !length.is_multiple_of(8);
        let too_long = usize::from(start) * 8 + length + header.header_length() > 65_535;
        // Not one after the other: that would compile the sum twice.
        if (units == 0) | ragged | too_long {
            return Err(DropReason::MalformedIpv4);
        }
        Ok(Self {
            source: header.source(),
            destination: header.destination(),
            identification: header.identification(),
            protocol: header.protocol(),
            // Together no more than 65 535 bytes.
            range: (start, start + units as u16),
            is_last,
        })
    }
}

/// How many entries a set has, at least.
#[cfg(target_pointer_width = "64")]
const SET: usize = 16;

/// The set of entries for a datagram with this hash: all entries where there are few.
#[cfg(target_pointer_width = "64")]
pub(crate) fn set_of(slots: &mut [FragmentSlot], hash: u64) -> &mut [FragmentSlot] {
    let sets = (slots.len() / SET).max(1);
    let set = (((hash >> 32) * sets as u64) >> 32) as usize;
    let start = set * SET;
    // The last set also has the entries that are left over.
    let end = if set + 1 == sets { slots.len() } else { start + SET };
    slots.get_mut(start..end).unwrap_or_default()
}

/// When entries are read, and how long they are valid, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Tick,
    pub(crate) timeout: u32,
}

impl FragmentSlot {
    /// The entry of a fragment's datagram, among these.
    pub(crate) fn find<'s>(slots: &'s mut [Self], fragment: &Fragment, clock: Clock) -> Option<&'s mut Self> {
        slots.iter_mut().find(|s| s.is_of(fragment) && clock.now.since_past(s.last) <= s.lifetime(clock.timeout))
    }

    /// Whether another first fragment is a copy of the one that was seen, as far as that can be known.
    pub(crate) const fn is_copied(&self, now: Tick) -> bool {
        !self.is_complete() && now.since_past(self.last) <= REPEATED
    }

    /// The place for the entry of a fragment's datagram: its own entry if there is one, or else one whose datagram is
    /// complete or expired, or else the oldest entry. The flag says that the entry of another datagram is given up for
    /// it early.
    pub(crate) fn place<'s>(slots: &'s mut [Self], fragment: &Fragment, clock: Clock) -> Option<(&'s mut Self, bool)> {
        // Nothing is older than half of the range.
        const USELESS: u32 = u32::MAX / 2;
        let (mut best, mut most) = (None, 0);
        // Among equals the first.
        for slot in slots.iter_mut().rev() {
            let age = clock.now.since_past(slot.last).min(USELESS);
            let rank = match age {
                _ if slot.is_of(fragment) => u32::MAX,
                _ if slot.is_complete() || age > clock.timeout => USELESS + age,
                _ => age,
            };
            if rank >= most {
                (best, most) = (Some(slot), rank);
            }
        }
        best.map(|slot| (slot, most < USELESS))
    }

    /// Records what became of a first fragment. `fragment` is as it arrived, `becomes` is its header now, and `network`
    /// is the delta between the two headers' addresses.
    pub(crate) fn set(&mut self, fragment: &Fragment, becomes: Header<'_>, action: Action, network: Delta, now: Tick) {
        *self = Self {
            source: fragment.source,
            destination: fragment.destination,
            new_source: becomes.source(),
            new_destination: becomes.destination(),
            last: now,
            protocol: fragment.protocol,
            action,
            identification: fragment.identification,
            new_identification: becomes.identification(),
            network,
            reach: fragment.range.1,
            end: 0,
            islands: [(0, 0); ISLANDS],
        };
    }

    /// Forgets the datagram.
    pub(crate) const fn forget(&mut self) {
        (self.action, self.end) = (Action::Free, self.reach);
    }

    /// What to do with a later fragment.
    ///
    /// # Errors
    /// [`DropReason::OverlappingFragment`] or [`DropReason::ScatteredFragment`].
    pub(crate) fn follow(&mut self, fragment: &Fragment, now: Tick) -> Result<Follow, DropReason> {
        self.add(fragment.range, fragment.is_last)?;
        self.last = now;
        Ok(Follow {
            action: self.action,
            source: self.new_source,
            destination: self.new_destination,
            network: self.network,
            identification: self.new_identification,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn every_note_belongs_to_one_set() {
        for count in [0, 1, 15, 16, 17, 31, 32, 47, 200, 1024] {
            let mut slots = [FragmentSlot::EMPTY; 1024];
            let slots = &mut slots[..count];
            // Each hash marks its whole set once.
            let mut seen = [false; 64];
            for number in 0..4_096_u64 {
                let set = set_of(slots, number << 52);
                assert!(set.len() == count || (SET..2 * SET).contains(&set.len()));
                let marked = set.iter().filter(|slot| slot.reach == 1).count();
                assert!(marked == 0 || marked == set.len(), "sets overlap");
                set.iter_mut().for_each(|slot| slot.reach = 1);
                seen[(number / 64) as usize] |= marked == 0 && count > 0;
            }
            assert!(slots.iter().all(|slot| slot.reach == 1), "of {count} some belong to none");
            assert_eq!(seen.iter().filter(|first| **first).count(), (count / SET).max(1).min(count));
        }
    }

    /// The entry of a datagram of which this many units were seen.
    fn entry(reach: u16) -> FragmentSlot {
        FragmentSlot { reach, ..FragmentSlot::EMPTY }
    }

    const OVERLAPPING: Result<(), DropReason> = Err(DropReason::OverlappingFragment);

    #[test]
    fn ranges_join_and_refuse_to_overlap() {
        let mut slot = entry(10);
        assert_eq!(slot.add((20, 30), false), Ok(()));
        for overlapping in [(5, 6), (9, 12), (19, 21), (29, 31), (20, 30), (15, 40), (22, 23)] {
            assert_eq!(slot.add(overlapping, false), OVERLAPPING);
        }
        assert_eq!(slot.add((10, 20), false), Ok(()));
        assert_eq!(slot.reach, 30);
        for island in 0..ISLANDS as u16 {
            assert_eq!(slot.add((40 + 20 * island, 50 + 20 * island), false), Ok(()));
        }
        assert_eq!(slot.add((900, 910), false), Err(DropReason::ScatteredFragment));
        // A range that joins one neighbour, or two, needs no place.
        assert_eq!(slot.add((35, 40), false), Ok(()));
        assert_eq!(slot.add((50, 60), false), Ok(()));
        assert_eq!(slot.add((30, 35), false), Ok(()));
        assert_eq!(slot.reach, 70);
        assert_eq!(slot.islands.iter().filter(|island| island.1 != 0).count(), ISLANDS - 2);
    }

    #[test]
    fn nothing_lies_behind_the_end() {
        let mut slot = entry(10);
        assert_eq!(slot.add((50, 60), true), Ok(()));
        for beyond in [(60, 70), (40, 61), (61, 62)] {
            assert_eq!(slot.add(beyond, false), OVERLAPPING);
            assert_eq!(slot.add(beyond, true), OVERLAPPING);
        }
        // There is no second end.
        assert_eq!(slot.add((20, 30), true), OVERLAPPING);
        let mut slot = entry(10);
        assert_eq!(slot.add((50, 60), false), Ok(()));
        assert_eq!(slot.add((20, 30), true), OVERLAPPING);
        assert_eq!(slot.add((60, 61), true), Ok(()));
        assert!(!slot.is_complete());
        assert_eq!(slot.add((10, 50), false), Ok(()));
        assert!(slot.is_complete());
    }

    fn random(state: &mut u32) -> u32 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *state >> 8
    }

    /// The limit that is documented: 24 fragments of any sizes, the first one first, and the others in any order. The
    /// worst order leaves out every second one.
    #[test]
    fn twenty_four_fragments_fit_in_any_order() {
        let mut state = 5;
        let worst = (2..24).step_by(2).chain((1..24).step_by(2)).collect::<Vec<usize>>();
        for round in 0..2_000 {
            let mut ends = vec![0_u16];
            for _ in 0..24 {
                ends.push(ends.last().unwrap() + 1 + (random(&mut state) % 200) as u16);
            }
            let mut order = worst.clone();
            for n in (1..order.len()).rev().filter(|_| round != 0) {
                order.swap(n, random(&mut state) as usize % (n + 1));
            }
            let mut slot = entry(ends[1]);
            for (count, n) in order.iter().enumerate() {
                assert!(!slot.is_complete());
                assert_eq!(slot.add((ends[*n], ends[n + 1]), *n == 23), Ok(()), "{order:?} at {count}");
                assert_eq!(slot.add((ends[*n], ends[n + 1]), *n == 23), OVERLAPPING);
            }
            assert!(slot.is_complete());
        }
        let mut slot = entry(1);
        assert!((1..=11).all(|n| slot.add((2 * n, 2 * n + 1), false).is_ok()));
        assert_eq!(slot.add((24, 25), false), Err(DropReason::ScatteredFragment), "the 25th");
    }

    /// Against a plain list of units.
    #[test]
    fn ranges_agree_with_a_bitmap() {
        let mut state = 7;
        let (mut scattered, mut complete) = (0, 0);
        for round in 0..3_000 {
            let mut slot = entry(1);
            let mut seen = [false; 64];
            seen[0] = true;
            let mut last = None;
            for _ in 0..60 {
                let start = 1 + random(&mut state) % 55;
                let end = start + 1 + random(&mut state) % if round % 2 == 0 { 1 } else { 8 };
                let range = start as usize..end as usize;
                let is_last = random(&mut state).is_multiple_of(16);
                let contradicts = match last {
                    Some(last) => is_last || range.end > last,
                    None => is_last && seen[range.end..].contains(&true),
                };
                match slot.add((start as u16, end as u16), is_last) {
                    Ok(()) => {
                        assert!(!contradicts && seen[range.clone()].iter().all(|s| !s));
                        seen[range.clone()].fill(true);
                        last = if is_last { Some(range.end) } else { last };
                    }
                    Err(DropReason::OverlappingFragment) => {
                        assert!(contradicts || seen[range].iter().any(|s| *s));
                    }
                    Err(other) => {
                        assert_eq!(other, DropReason::ScatteredFragment);
                        let islands = seen.windows(2).filter(|pair| !pair[0] && pair[1]).count();
                        assert_eq!(islands, ISLANDS);
                        scattered += 1;
                    }
                }
                let mut drawn = [false; 64];
                drawn[..usize::from(slot.reach)].fill(true);
                for (start, end) in slot.islands {
                    drawn[usize::from(start)..usize::from(end)].fill(true);
                }
                assert_eq!(drawn, seen);
                assert_eq!(slot.is_complete(), last.is_some_and(|last| seen[..last].iter().all(|s| *s)));
                complete += u32::from(slot.is_complete());
            }
        }
        assert!(scattered > 0 && complete > 0, "{scattered} {complete}");
    }
}

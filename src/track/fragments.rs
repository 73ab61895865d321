//! Fragments without reassembly (RFC 4787, REQ-14; RFC 1858; RFC 3128).
//!
//! Only the first fragment of a datagram has ports. It goes through the table like a whole packet and leaves a note
//! here of what became of it; the later ones follow the note. A later one that comes before its first finds no note
//! and is handed back to the caller, who may hold it. Each note remembers which parts of the datagram were seen, as at
//! most four disjoint ranges, so that nothing can be written twice: what overlaps is dropped, and so is what would
//! need a fifth range.

use crate::time::Tick;
use crate::verdict::DropReason;
use crate::wire::checksum::Delta;
use crate::wire::ipv4::{self, Header};

const RANGES: usize = 4;

/// Room for one datagram under way in fragments in a translator's storage: all zeros when unused.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FragmentSlot {
    source: u32,
    destination: u32,
    new_source: u32,
    new_destination: u32,
    last: Tick,
    identification: u16,
    new_identification: u16,
    network: Delta,
    protocol: u8,
    fate: Fate,
    /// Disjoint ranges in units of 8 octets, `start..end`; unused ones are empty.
    ranges: [(u16, u16); RANGES],
}

/// What became of the first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub(crate) enum Fate {
    /// There is no note in this slot.
    Free = 0,
    ToServer,
    ToClient,
    Passed,
}

/// What a later fragment is to become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follow {
    pub(crate) fate: Fate,
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
        fate: Fate::Free,
        ranges: [(0, 0); RANGES],
    };

    fn is_of(&self, piece: &Piece) -> bool {
        self.fate != Fate::Free
            && self.identification == piece.identification
            && self.source == piece.source
            && self.destination == piece.destination
            && self.protocol == piece.protocol
    }

    /// Adds a range to those that were seen, and joins it with its neighbours.
    fn add(&mut self, (start, end): (u16, u16)) -> Result<(), DropReason> {
        if self.overlaps((start, end)) {
            return Err(DropReason::OverlappingFragment);
        }
        let gone = |r: &(u16, u16)| r.0 == r.1 || r.1 == start || r.0 == end;
        let Some(place) = self.ranges.iter().position(gone) else { return Err(DropReason::ScatteredFragment) };
        let mut joined = (start, end);
        for range in self.ranges.iter_mut().filter(|r| gone(r) && r.0 != r.1) {
            joined = (joined.0.min(range.0), joined.1.max(range.1));
            *range = (0, 0);
        }
        if let Some(range) = self.ranges.get_mut(place) {
            *range = joined;
        }
        Ok(())
    }

    fn overlaps(&self, (start, end): (u16, u16)) -> bool {
        self.ranges.iter().any(|r| start < r.1 && r.0 < end)
    }
}

/// A fragment: of which datagram it is, and which part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    identification: u16,
    protocol: u8,
    /// In units of 8 octets, `start..end`.
    range: (u16, u16),
}

impl Piece {
    /// The fragment with this header and this many octets behind it.
    ///
    /// # Errors
    /// [`DropReason::MalformedIpv4`] if it is empty, does not end on a unit although more follow, or reaches beyond the
    /// largest datagram (RFC 791, section 3.1).
    pub(crate) fn read(header: Header<'_>, length: usize) -> Result<Self, DropReason> {
        let start = ipv4::offset(header.fragmentation());
        let units = length.div_ceil(8);
        let ragged = ipv4::more_fragments(header.fragmentation()) && !length.is_multiple_of(8);
        let too_long = usize::from(start) * 8 + length + header.header_length() > 65_535;
        if units == 0 || ragged || too_long {
            return Err(DropReason::MalformedIpv4);
        }
        Ok(Self {
            source: header.source(),
            destination: header.destination(),
            identification: header.identification(),
            protocol: header.protocol(),
            // Together no more than 65 535 octets.
            range: (start, start + units as u16),
        })
    }
}

/// The notes, over the storage, as they are to be read now.
#[derive(Debug)]
pub(crate) struct Notes<'a> {
    pub(crate) slots: &'a mut [FragmentSlot],
    pub(crate) now: Tick,
    /// How long a note counts, in ticks.
    pub(crate) timeout: u32,
}

impl Notes<'_> {
    /// The note about a fragment's datagram.
    fn find(&mut self, piece: &Piece) -> Option<&mut FragmentSlot> {
        let (now, timeout) = (self.now, self.timeout);
        self.slots.iter_mut().find(|s| s.is_of(piece) && now.since(s.last) <= timeout)
    }

    /// Checks a first fragment before anything is done with it: that no fragment of its datagram was seen that it would
    /// overlap.
    pub(crate) fn check_first(&mut self, piece: &Piece) -> Result<(), DropReason> {
        match self.find(piece) {
            Some(note) if note.overlaps(piece.range) => Err(DropReason::OverlappingFragment),
            _ => Ok(()),
        }
    }

    /// Leaves a note of what became of a first fragment, as it came: its header now, and the delta between the two
    /// headers' addresses. True if the note of another datagram was given up for it before its time.
    pub(crate) fn teach(&mut self, piece: &Piece, becomes: Header<'_>, fate: Fate, network: Delta) -> bool {
        let (now, timeout) = (self.now, self.timeout);
        // Its own note if there is one, or a free place, or the oldest note.
        let age = |s: &FragmentSlot| match s.fate {
            _ if s.is_of(piece) => u32::MAX,
            Fate::Free => u32::MAX - 1,
            _ => now.since(s.last),
        };
        let Some(slot) = self.slots.iter_mut().max_by_key(|s| age(s)) else {
            return false;
        };
        let evicted = age(slot) <= timeout;
        *slot = FragmentSlot {
            source: piece.source,
            destination: piece.destination,
            new_source: becomes.source(),
            new_destination: becomes.destination(),
            last: now,
            identification: piece.identification,
            new_identification: becomes.identification(),
            network,
            protocol: piece.protocol,
            fate,
            ranges: [piece.range, (0, 0), (0, 0), (0, 0)],
        };
        evicted
    }

    /// What a later fragment is to become. `None` if no first fragment is known.
    ///
    /// # Errors
    /// [`DropReason::OverlappingFragment`] or [`DropReason::ScatteredFragment`].
    pub(crate) fn follow(&mut self, piece: &Piece) -> Result<Option<Follow>, DropReason> {
        let now = self.now;
        let Some(slot) = self.find(piece) else {
            return Ok(None);
        };
        slot.add(piece.range)?;
        slot.last = now;
        Ok(Some(Follow {
            fate: slot.fate,
            source: slot.new_source,
            destination: slot.new_destination,
            network: slot.network,
            identification: slot.new_identification,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_refuse_to_overlap() {
        let mut slot = FragmentSlot { ranges: [(0, 10), (0, 0), (0, 0), (0, 0)], ..FragmentSlot::EMPTY };
        assert_eq!(slot.add((20, 30)), Ok(()));
        assert_eq!(slot.add((5, 6)), Err(DropReason::OverlappingFragment));
        assert_eq!(slot.add((9, 12)), Err(DropReason::OverlappingFragment));
        assert_eq!(slot.add((19, 21)), Err(DropReason::OverlappingFragment));
        assert_eq!(slot.add((10, 20)), Ok(()));
        assert_eq!(slot.add((40, 50)), Ok(()));
        assert_eq!(slot.add((60, 70)), Ok(()));
        assert_eq!(slot.add((80, 90)), Ok(()));
        assert_eq!(slot.add((100, 110)), Err(DropReason::ScatteredFragment));
        assert_eq!(slot.add((35, 40)), Ok(()));
        assert_eq!(slot.add((50, 55)), Ok(()));
        assert_eq!(slot.add((30, 35)), Ok(()));
        let mut ranges = slot.ranges;
        ranges.sort_unstable();
        assert_eq!(ranges, [(0, 0), (0, 55), (60, 70), (80, 90)]);
    }

    /// Against a plain list of units, over all orders of a few fragments.
    #[test]
    fn ranges_agree_with_a_bitmap() {
        let mut state = 7_u32;
        for _ in 0..2_000 {
            let mut slot = FragmentSlot::EMPTY;
            let mut seen = [false; 64];
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let start = (state >> 8) % 56;
                let end = start + 1 + (state >> 20) % 8;
                let range = start as usize..end as usize;
                match slot.add((start as u16, end as u16)) {
                    Ok(()) => {
                        assert!(seen[range.clone()].iter().all(|s| !s));
                        seen[range].fill(true);
                    }
                    Err(DropReason::OverlappingFragment) => assert!(seen[range].iter().any(|s| *s)),
                    Err(other) => assert_eq!(other, DropReason::ScatteredFragment),
                }
                let mut drawn = [false; 64];
                for (start, end) in slot.ranges {
                    drawn[usize::from(start)..usize::from(end)].fill(true);
                }
                assert_eq!(drawn, seen);
            }
        }
    }
}

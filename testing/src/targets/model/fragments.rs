//! Fragments: what is remembered of a datagram, and where its later fragments go.

use core::net::Ipv4Addr;

use byway::{DropReason, Verdict};
use byway_testing::packet::{TCP, address, layout, word};

use super::rewriting::follow_checksums;
use super::{Model, TICK, TIMEOUTS, micros};

/// What is known of a datagram that is under way in fragments.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) key: (Ipv4Addr, Ipv4Addr, u8, u16),
    pub(super) verdict: Verdict,
    /// Source, destination and identification of the first fragment as it went out.
    pub(super) out: (Ipv4Addr, Ipv4Addr, u16),
    /// Units of 8 bytes that were seen.
    pub(super) seen: Vec<u16>,
    /// Where the datagram ends, if its last fragment was seen.
    pub(super) end: Option<u16>,
    pub(super) last: u64,
    /// Whether the library must remember it: it need not remember what is none of ours.
    pub(super) sure: bool,
}

impl Note {
    fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| (0..end).all(|unit| self.seen.contains(&unit)))
    }
}

/// Within this time a fragment that was seen is taken for a copy, in microseconds.
pub(super) const REPEATED: u64 = TICK;

impl Model {
    /// Range in units of 8 bytes, or `None` if a fragment contradicts itself.
    pub(super) fn units(packet: &[u8]) -> Option<(u16, u16)> {
        let at = layout(packet)?;
        let (start, length) = (word(packet, 6) & 0x1fff, at.total - at.header);
        let more = word(packet, 6) & 0x2000 != 0;
        let too_long = usize::from(start) * 8 + length + at.header > 65_535;
        if length == 0 || (more && length % 8 != 0) || too_long {
            return None;
        }
        Some((start, start + length.div_ceil(8) as u16))
    }

    /// What is known of a fragment's datagram. What is complete is known for a moment only, so that copies of its
    /// fragments are told from those of the next datagram with its identification.
    fn note_of(&self, packet: &[u8]) -> Option<usize> {
        let key = (address(packet, 12), address(packet, 16), packet[9], word(packet, 4));
        let limit = |n: &Note| if n.is_complete() { REPEATED } else { micros(TIMEOUTS.fragment) };
        self.notes.iter().position(|n| n.key == key && self.now - n.last <= limit(n))
    }

    /// The reason to drop a first fragment, if there is one: if another came a moment ago and the datagram is not complete, it is
    /// a copy. Otherwise the sender has begun another datagram.
    pub(super) fn against_first(&self, packet: &[u8], verdict: Verdict) -> Option<DropReason> {
        let Some((start, end)) = Self::units(packet) else {
            return Some(DropReason::MalformedIpv4);
        };
        let known = self.note_of(packet).map(|n| &self.notes[n]);
        let known = known.filter(|n| !n.is_complete() && self.now - n.last <= REPEATED);
        let seen = known.is_some_and(|n| (start..end).any(|u| n.seen.contains(&u)));
        let sure = known.is_some_and(|n| n.sure);
        (seen && (sure || verdict == Verdict::Drop(DropReason::OverlappingFragment)))
            .then_some(DropReason::OverlappingFragment)
    }

    /// A first fragment has gone its way: later ones follow it.
    pub(super) fn learn(&mut self, before: &[u8], after: &[u8], verdict: Verdict) {
        let Some((start, end)) = Self::units(before) else {
            return;
        };
        let key = (address(before, 12), address(before, 16), before[9], word(before, 4));
        match verdict {
            // It was dropped before its datagram was looked up.
            Verdict::Drop(
                DropReason::OverlappingFragment
                | DropReason::TinyFragment
                | DropReason::MalformedIpv4
                | DropReason::MalformedTransport,
            ) => return,
            // What follows it must not follow the first one of an older datagram.
            Verdict::Drop(_) => return self.notes.retain(|n| n.key != key),
            _ => self.notes.retain(|n| n.key != key),
        }
        let out = (address(after, 12), address(after, 16), word(after, 4));
        let sure = verdict != Verdict::Pass || self.concerns(key.1);
        self.notes.push(Note { key, verdict, out, seen: (start..end).collect(), end: None, last: self.now, sure });
    }

    pub(super) fn judge_later(&mut self, before: &[u8], after: &[u8], verdict: Verdict, concerned: bool) {
        let refused = |reason| verdict == Verdict::Drop(reason) || (!concerned && verdict == Verdict::Pass);
        // It reaches into the TCP header (RFC 3128).
        let reaches = before[9] == TCP && word(before, 6) & 0x1fff == 1;
        if reaches && (concerned || verdict == Verdict::Drop(DropReason::OverlappingFragment)) {
            return assert_eq!(verdict, Verdict::Drop(DropReason::OverlappingFragment));
        }
        let Some((start, end)) = Self::units(before) else {
            return assert!(refused(DropReason::MalformedIpv4), "{verdict:?}");
        };
        let Some(note) = self.note_of(before) else {
            let either =
                !concerned && matches!(verdict, Verdict::Hold | Verdict::Drop(DropReason::OverlappingFragment));
            let expected = if concerned { Verdict::Hold } else { Verdict::Pass };
            return assert!(either || verdict == expected, "{verdict:?} for a fragment without a first one");
        };
        if self.notes[note].is_complete() && self.notes.len() > 1 && verdict == Verdict::Hold {
            // The note of a complete datagram has given its place to another one.
            self.notes.remove(note);
            return;
        }
        let is_known = self.notes[note].verdict == Verdict::ToServer;
        if !self.notes[note].sure || (!concerned && !is_known && verdict == Verdict::Pass) {
            // The library may have remembered it all the same.
            let now = self.now;
            let note = &mut self.notes[note];
            (note.sure, note.last) = (false, now);
            note.seen.extend(start..end);
            return assert!(!matches!(verdict, Verdict::ToServer | Verdict::ToClient));
        }
        let now = self.now;
        let note = &mut self.notes[note];
        let is_last = word(before, 6) & 0x2000 == 0;
        let beyond = match note.end {
            Some(known) => is_last || end > known,
            None => is_last && note.seen.iter().any(|unit| *unit >= end),
        };
        if beyond || (start..end).any(|unit| note.seen.contains(&unit)) {
            return assert!(refused(DropReason::OverlappingFragment), "{verdict:?}");
        }
        let mut seen = note.seen.clone();
        seen.extend(start..end);
        seen.sort_unstable();
        let pieces = 1 + seen.windows(2).filter(|w| w[0] + 1 != w[1]).count();
        // The first one and eleven behind it.
        if pieces > 12 {
            return assert!(refused(DropReason::ScatteredFragment), "{verdict:?}");
        }
        (note.seen, note.last) = (seen, now);
        note.end = note.end.or(is_last.then_some(end));
        assert_eq!(verdict, note.verdict, "a later fragment goes where the first one went");
        if verdict != Verdict::Pass {
            let mut new = before.to_vec();
            new[4..6].copy_from_slice(&note.out.2.to_be_bytes());
            new[12..16].copy_from_slice(&note.out.0.octets());
            new[16..20].copy_from_slice(&note.out.1.octets());
            follow_checksums(before, &mut new);
            assert_eq!(after, new, "not what the first fragment became");
        }
    }
}

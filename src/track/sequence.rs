//! What each end of a TCP connection has sent and acknowledged.

use crate::connection::Direction;
use crate::wire::tcp::Segment;

/// For each side, the sequence number after the last that it has used, and the highest that it has acknowledged.
///
/// What one side has sent and what the other has acknowledged are numbers of one sequence space. In it the acknowledged
/// number never lies after the sent one.
///
/// Zero stands for "not known". A number that happens to be zero (one in 2^32) is taken for unknown until its side
/// sends the next segment, which makes a RST inexact for that long and does no other harm; four flags would not fit
/// into the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub(crate) struct Sequences {
    /// Of the client's numbers and of the server's.
    spaces: [Space; 2],
}

/// The sequence space of one side: how much it has sent, and how much of that the other side has acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
struct Space {
    sent: u32,
    acknowledged: u32,
}

/// No window in use is larger: 16 MiB. A number further away from what is known belongs to another conversation, or
/// many segments have taken another path.
pub(super) const WINDOW: u32 = 1 << 24;

/// How many bytes an overtaken acknowledgement may lie before the highest one: 1 MiB. The smaller this is, the less an
/// attacker who guesses numbers gets through.
const OVERTAKEN: u32 = 1 << 20;

/// A number lies after another if the distance is less than half of all numbers (RFC 9293, section 3.4).
const AHEAD: u32 = 1 << 31;

impl Sequences {
    /// Takes note of a segment with nothing but data or an acknowledgement, as [`super::tcp::Tcp::follow`] does, in the
    /// usual case: it brings nothing old, and acknowledges only what was sent. Otherwise false, with nothing noted.
    #[inline(always)]
    #[must_use]
    pub(crate) fn note_plain(&mut self, direction: Direction, segment: &Segment) -> bool {
        let [client, server] = &mut self.spaces;
        let (own, other) = match direction {
            Direction::ToServer => (client, server),
            Direction::ToClient => (server, client),
        };
        let (end, new) = (segment.sequence.wrapping_add(segment.data), segment.acknowledgment);
        let acknowledged = other.acknowledged;
        if end.wrapping_sub(own.sent) >= WINDOW
            || new.wrapping_sub(acknowledged) > other.sent.wrapping_sub(acknowledged)
        {
            return false;
        }
        own.sent = end;
        other.acknowledged = new;
        true
    }

    /// Whether a segment of this side fits what is known: it ends within a window of what the side has sent, and it
    /// acknowledges what the other has sent, and nothing far before the highest acknowledgement (RFC 5961, section
    /// 5.2).
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) const fn fits(&self, side: Direction, end: u32, acknowledgment: u32) -> bool {
        self.goes_on(side, end, WINDOW) && self.may_acknowledge(side, acknowledgment)
    }

    /// Whether a segment is one that [`Self::note_plain`] takes, by its numbers.
    pub(super) const fn continues(&self, side: Direction, segment: &Segment) -> bool {
        let Space { sent, acknowledged } = *self.of(side.opposite());
        let end = segment.sequence.wrapping_add(segment.data);
        self.goes_on(side, end, 0)
            && segment.acknowledgment.wrapping_sub(acknowledged) <= sent.wrapping_sub(acknowledged)
    }

    const fn goes_on(&self, side: Direction, end: u32, back: u32) -> bool {
        end.wrapping_sub(self.of(side).sent).wrapping_add(back) < WINDOW + back
    }

    /// Whether this side may acknowledge this number.
    pub(super) const fn may_acknowledge(&self, side: Direction, number: u32) -> bool {
        let Space { sent, acknowledged } = *self.of(side.opposite());
        let oldest = acknowledged.wrapping_sub(OVERTAKEN);
        number.wrapping_sub(oldest) <= sent.wrapping_sub(oldest)
    }

    /// Whether a segment of this side ends after everything that it has sent before.
    pub(super) const fn is_new(&self, side: Direction, end: u32) -> bool {
        end.wrapping_sub(self.of(side).sent).wrapping_sub(1) < AHEAD - 1
    }

    /// Records that the side has sent up to `end`.
    pub(super) const fn set_sent(&mut self, side: Direction, end: u32) {
        self.of_mut(side).sent = end;
    }

    /// Records that the side has acknowledged up to `number`.
    pub(super) const fn set_acknowledged(&mut self, side: Direction, number: u32) {
        self.of_mut(side.opposite()).acknowledged = number;
    }

    /// The same, unless the side has acknowledged more before.
    pub(super) const fn raise_acknowledged(&mut self, side: Direction, number: u32) {
        if number.wrapping_sub(self.of(side.opposite()).acknowledged) < AHEAD {
            self.of_mut(side.opposite()).acknowledged = number;
        }
    }

    /// Records that this side has sent up to `number`, and that the other has acknowledged all of it.
    pub(super) const fn agree(&mut self, side: Direction, number: u32) {
        self.of_mut(side).sent = number;
        self.of_mut(side).acknowledged = number;
    }

    /// Whether a number lies within what this side has sent and is not acknowledged yet, including its end.
    pub(super) const fn in_flight(&self, side: Direction, number: u32) -> bool {
        let from = self.of(side).acknowledged;
        let flight = self.of(side).sent.wrapping_sub(from);
        flight < AHEAD && number.wrapping_sub(from) <= flight
    }

    /// The sequence number of the next new byte in this direction: what its receiver expects when all has arrived.
    /// `None` if nothing is known.
    pub(crate) const fn sent(&self, direction: Direction) -> Option<u32> {
        match self.of(direction).sent {
            0 => None,
            sent => Some(sent),
        }
    }

    /// The number after the last that this side has used; zero if unknown.
    pub(crate) const fn end(&self, side: Direction) -> u32 {
        self.of(side).sent
    }

    /// The numbers that the other side may acknowledge: from the highest that it has acknowledged to the end of what
    /// this side has sent.
    pub(crate) const fn unacknowledged(&self, side: Direction) -> (u32, u32) {
        let Space { sent, acknowledged } = *self.of(side);
        (acknowledged, sent)
    }

    /// The highest number that this side has acknowledged; zero if unknown.
    pub(super) const fn expected(&self, side: Direction) -> u32 {
        self.of(side.opposite()).acknowledged
    }

    /// Whether anything is known of what this side sends.
    pub(super) const fn knows(&self, side: Direction) -> bool {
        self.of(side).sent | self.of(side).acknowledged != 0
    }

    /// Whether all that this side has sent is acknowledged.
    pub(super) const fn all_acknowledged(&self, side: Direction) -> bool {
        self.of(side).sent == self.of(side).acknowledged
    }

    const fn of(&self, side: Direction) -> &Space {
        &self.spaces[side as usize]
    }

    const fn of_mut(&mut self, side: Direction) -> &mut Space {
        &mut self.spaces[side as usize]
    }

    pub(crate) const fn to_words(self) -> [u32; 4] {
        let [client, server] = self.spaces;
        [client.sent, server.sent, server.acknowledged, client.acknowledged]
    }

    pub(crate) const fn from_words(words: [u32; 4]) -> Self {
        let [client, server, by_client, by_server] = words;
        let client = Space { sent: client, acknowledged: by_server };
        Self { spaces: [client, Space { sent: server, acknowledged: by_client }] }
    }

    /// Takes over those numbers of `other` that lie after the known ones: another portion has seen the other half of
    /// the connection.
    pub(super) fn merge(&mut self, other: Self) {
        let mut words = self.to_words();
        for (mine, theirs) in words.iter_mut().zip(other.to_words()) {
            if *mine == 0 || (theirs != 0 && theirs.wrapping_sub(*mine) < AHEAD) {
                *mine = theirs;
            }
        }
        *self = Self::from_words(words);
    }

    /// Corrects numbers that come from elsewhere: no end has acknowledged more than was sent. `all_known` says that the
    /// numbers of both ends have been followed, so that a zero not far before what was sent is a number.
    pub(super) fn mend(&mut self, all_known: bool) {
        for side in [Direction::ToServer, Direction::ToClient] {
            let sent = self.of(side).sent;
            let acknowledged = &mut self.of_mut(side).acknowledged;
            if *acknowledged == 0 && !(all_known && sent < WINDOW) || sent.wrapping_sub(*acknowledged) >= AHEAD {
                *acknowledged = sent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Direction::{ToClient, ToServer};

    /// The client has sent up to 1000, the server up to 2000; of that 900 and 1900 are acknowledged.
    const KNOWN: Sequences = Sequences::from_words([1_000, 2_000, 1_900, 900]);

    #[test]
    fn a_plain_segment_brings_nothing_old_and_acknowledges_what_was_sent() {
        let note = |direction, sequence, data, acknowledgment| {
            let mut s = KNOWN;
            let noted = s.note_plain(direction, &Segment { sequence, acknowledgment, data, flags: 0 });
            assert!(noted || s == KNOWN);
            noted.then_some(s.to_words())
        };
        assert_eq!(note(ToServer, 1_000, 10, 1_950), Some([1_010, 2_000, 1_950, 900]));
        assert_eq!(note(ToClient, 2_000, 0, 1_000), Some([1_000, 2_000, 1_900, 1_000]));
        assert_eq!(note(ToServer, 1_000, WINDOW - 1, 2_000), Some([999 + WINDOW, 2_000, 2_000, 900]));
        for (sequence, data, acknowledgment) in
            [(999, 0, 1_900), (1_000, WINDOW, 1_900), (1_000, 0, 1_899), (1_000, 0, 2_001)]
        {
            assert_eq!(note(ToServer, sequence, data, acknowledgment), None, "{sequence} {data} {acknowledgment}");
        }
    }

    #[test]
    fn what_may_be_sent_and_acknowledged() {
        let ends =
            [1_000 - WINDOW as i64, 1_000 + WINDOW as i64 - 1].map(|end| KNOWN.fits(ToServer, end as u32, 1_900));
        assert_eq!(ends, [true, true]);
        let ends = [999 - WINDOW as i64, 1_000 + WINDOW as i64].map(|end| KNOWN.fits(ToServer, end as u32, 1_900));
        assert_eq!(ends, [false, false]);
        let may = |number: u32| KNOWN.may_acknowledge(ToServer, number);
        assert_eq!([1_900_u32.wrapping_sub(OVERTAKEN), 1_900, 2_000].map(may), [true; 3]);
        assert_eq!([1_899_u32.wrapping_sub(OVERTAKEN), 2_001].map(may), [false; 2]);
    }

    #[test]
    fn what_is_new_and_what_is_in_flight() {
        let new = |end: u32| KNOWN.is_new(ToServer, end);
        assert_eq!([1_001, 999 + AHEAD].map(new), [true; 2]);
        assert_eq!([1_000, 999, 1_000 + AHEAD].map(new), [false; 3]);
        let in_flight = |number: u32| KNOWN.in_flight(ToClient, number);
        assert_eq!([1_900, 2_000].map(in_flight), [true; 2]);
        assert_eq!([1_899, 2_001].map(in_flight), [false; 2]);
        // Nobody can have acknowledged more than was sent.
        assert!(!Sequences::from_words([5, 0, 0, 6]).in_flight(ToServer, 6));
        assert!(!KNOWN.all_acknowledged(ToServer));
        assert!(Sequences::from_words([5, 0, 0, 5]).all_acknowledged(ToServer));
    }

    #[test]
    fn numbers_rise_and_are_agreed_on() {
        let mut s = KNOWN;
        s.raise_acknowledged(ToServer, 1_800);
        assert_eq!(s.expected(ToServer), 1_900);
        s.raise_acknowledged(ToServer, 1_901);
        assert_eq!(s.expected(ToServer), 1_901);
        s.agree(ToClient, 7);
        assert_eq!(s.to_words(), [1_000, 7, 7, 900]);
        s.set_sent(ToServer, 0);
        s.set_acknowledged(ToClient, 0);
        assert_eq!((s.sent(ToServer), s.sent(ToClient), s.end(ToServer)), (None, Some(7), 0));
        assert_eq!((s.knows(ToServer), s.knows(ToClient)), (false, true));
        assert_eq!(Sequences::from_words(s.to_words()), s);
    }

    #[test]
    fn the_one_that_is_ahead_is_taken_over() {
        let mut s = Sequences::from_words([1_000, 0, u32::MAX, 900]);
        s.merge(Sequences::from_words([999, 2_000, 1, 0]));
        assert_eq!(s.to_words(), [1_000, 2_000, 1, 900]);
    }

    #[test]
    fn what_comes_from_elsewhere_is_mended() {
        let mended = |words| {
            let mut s = Sequences::from_words(words);
            s.mend(false);
            s.to_words()
        };
        assert_eq!(mended(KNOWN.to_words()), KNOWN.to_words());
        assert_eq!(mended([1_000, 2_000, 0, 0]), [1_000, 2_000, 2_000, 1_000]);
        assert_eq!(mended([1_000, 2_000, 2_001, 1_000]), [1_000, 2_000, 2_000, 1_000]);
        assert_eq!(mended([AHEAD - 1, 2_000, 1_900, u32::MAX]), [AHEAD - 1, 2_000, 1_900, AHEAD - 1]);
        // The client has sent 100 bytes from the number 0 on.
        let mut s = Sequences::from_words([100, 2_000, 1_900, 0]);
        s.mend(true);
        assert_eq!(s.to_words(), [100, 2_000, 1_900, 0]);
    }
}

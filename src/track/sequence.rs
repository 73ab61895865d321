//! What each end of a TCP connection has sent and acknowledged.

use crate::connection::Direction;
use crate::wire::tcp::{ACK, Segment};

/// Of each side, the sequence number behind the last that it has used, and the highest that it has acknowledged.
///
/// Zero stands for "not known". A number that happens to be zero (one in 2^32) is taken for unknown until its side sends
/// the next segment, which makes a RST inexact for that long and does no other harm; four flags would not fit into the
/// line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub(crate) struct Sequences {
    sent: [u32; 2],
    acknowledged: [u32; 2],
}

/// Numbers further ahead than this are not believed, neither of what is sent nor of what is acknowledged: 16 MiB, more
/// than any window in use. Who does not know the numbers cannot spoil what is known of them.
const PLAUSIBLE: u32 = 1 << 24;

/// A number is ahead of another if it is by less than half of all numbers (RFC 9293, section 3.4).
const AHEAD: u32 = 1 << 31;

impl Sequences {
    /// Takes note of a segment of data or acknowledgement alone, as [`Self::note`] does, if all is as nearly always:
    /// neither of its numbers is older than what is known, nor wild. False, and nothing noted, if it is not so.
    #[inline(always)]
    #[must_use]
    pub(crate) fn note_plain(&mut self, direction: Direction, segment: &Segment) -> bool {
        let [there, back] = &mut self.sent;
        let [acknowledged_there, acknowledged_back] = &mut self.acknowledged;
        let (sent, other_sent, acknowledged) = match direction {
            Direction::ToServer => (there, back, acknowledged_there),
            Direction::ToClient => (back, there, acknowledged_back),
        };
        let (end, new) = (segment.sequence.wrapping_add(segment.data), segment.acknowledgment);
        let beyond = new.wrapping_sub(*other_sent);
        if end.wrapping_sub(*sent) >= PLAUSIBLE
            || beyond.cast_signed() >= PLAUSIBLE.cast_signed()
            || new.wrapping_sub(*acknowledged) >= AHEAD
        {
            return false;
        }
        *sent = end;
        *acknowledged = new;
        // What the receiver has, the sender has sent, even if it did not pass here.
        if beyond < PLAUSIBLE {
            *other_sent = new;
        }
        true
    }

    /// Takes note of a segment that goes this way.
    pub(crate) fn note(&mut self, direction: Direction, segment: &Segment) {
        let end = segment.sequence.wrapping_add(segment.span());
        let [sent, other_sent] = match direction {
            Direction::ToServer => {
                let [there, back] = &mut self.sent;
                [there, back]
            }
            Direction::ToClient => {
                let [there, back] = &mut self.sent;
                [back, there]
            }
        };
        if end.wrapping_sub(*sent) < PLAUSIBLE || *sent == 0 {
            *sent = end;
        }
        if segment.has(ACK) {
            let acknowledged = match direction {
                Direction::ToServer => &mut self.acknowledged[0],
                Direction::ToClient => &mut self.acknowledged[1],
            };
            let new = segment.acknowledgment;
            let known = (*other_sent | *acknowledged) != 0;
            if known && new.wrapping_sub(*other_sent).wrapping_add(AHEAD) >= AHEAD + PLAUSIBLE {
                return;
            }
            if new.wrapping_sub(*acknowledged) < AHEAD || *acknowledged == 0 {
                *acknowledged = new;
            }
            // What the receiver has, the sender has sent, even if it did not pass here.
            if new.wrapping_sub(*other_sent) < PLAUSIBLE || !known {
                *other_sent = new;
            }
        }
    }

    /// Forgets all and begins anew with the numbers of a server's SYN+ACK.
    pub(crate) fn begin_anew(&mut self, answer: &Segment) {
        *self = Self::default();
        self.note(Direction::ToClient, answer);
    }

    /// Whether a number lies within what goes this way and is not acknowledged yet, its end included.
    pub(crate) fn in_flight(&self, direction: Direction, number: u32) -> bool {
        match (self.acknowledged(direction.opposite()), self.sent(direction)) {
            (Some(from), Some(to)) => {
                number.wrapping_sub(from) <= to.wrapping_sub(from) && to.wrapping_sub(from) < AHEAD
            }
            _ => false,
        }
    }

    /// The sequence number that this way's next new octet will have: what its receiver expects when all has arrived.
    /// `None` if nothing is known.
    pub(crate) const fn sent(&self, direction: Direction) -> Option<u32> {
        match self.sent[direction as usize] {
            0 => None,
            sent => Some(sent),
        }
    }

    /// The highest number that the side which sends this way has acknowledged: what it expects next. `None` if it has
    /// acknowledged nothing.
    pub(crate) const fn acknowledged(&self, direction: Direction) -> Option<u32> {
        match self.acknowledged[direction as usize] {
            0 => None,
            acknowledged => Some(acknowledged),
        }
    }

    /// Whether each side has acknowledged all that the other has sent.
    pub(crate) const fn both_acknowledged(&self) -> bool {
        let known = self.sent[0] != 0 && self.sent[1] != 0;
        known && self.acknowledged[1] == self.sent[0] && self.acknowledged[0] == self.sent[1]
    }

    pub(crate) const fn to_words(self) -> [u32; 4] {
        [self.sent[0], self.sent[1], self.acknowledged[0], self.acknowledged[1]]
    }

    pub(crate) const fn from_words(words: [u32; 4]) -> Self {
        Self { sent: [words[0], words[1]], acknowledged: [words[2], words[3]] }
    }

    /// Takes over whatever `other` is ahead in: another portion has seen the other half of the connection.
    pub(crate) fn merge(&mut self, other: Self) {
        let both = self.sent.iter_mut().chain(&mut self.acknowledged).zip(other.to_words());
        for (mine, theirs) in both {
            if *mine == 0 || (theirs != 0 && theirs.wrapping_sub(*mine) < AHEAD) {
                *mine = theirs;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ToClient, ToServer};

    fn data(sequence: u32, data: u32, acknowledgment: u32) -> Segment {
        Segment { sequence, acknowledgment, data, flags: ACK }
    }

    #[test]
    fn it_follows_what_is_sent_and_not_what_is_repeated() {
        let mut s = Sequences::default();
        s.note(ToServer, &data(1_000, 100, 9));
        assert_eq!(s.sent(ToServer), Some(1_100));
        s.note(ToServer, &data(1_000, 50, 9));
        assert_eq!(s.sent(ToServer), Some(1_100));
        s.note(ToClient, &data(9, 0, 1_100));
        assert_eq!(s.acknowledged(ToClient), Some(1_100));
        assert!(s.both_acknowledged());
    }

    #[test]
    fn a_wild_number_is_not_believed() {
        let mut s = Sequences::default();
        s.note(ToServer, &data(1_000, 0, 9));
        s.note(ToServer, &data(0x8000_0000, 100, 9));
        assert_eq!(s.sent(ToServer), Some(1_000));
        s.note(ToClient, &data(9, 0, 0x2000_0000));
        assert_eq!((s.sent(ToServer), s.acknowledged(ToClient)), (Some(1_000), None));
        // What was sent past us is believed within reason.
        s.note(ToClient, &data(9, 0, 500_000));
        assert_eq!((s.sent(ToServer), s.acknowledged(ToClient)), (Some(500_000), Some(500_000)));
    }

    #[test]
    fn what_is_noted_plainly_is_what_would_be_noted() {
        const EDGES: [u32; 10] =
            [0, 1, 1_000, PLAUSIBLE - 1, PLAUSIBLE, AHEAD - 1, AHEAD, AHEAD + 1, u32::MAX - 1, u32::MAX];
        let mut plainly = 0;
        for known in 0..10_000 {
            let words = [known % 10, known / 10 % 10, known / 100 % 10, known / 1_000].map(|edge| EDGES[edge]);
            for (sequence, acknowledgment) in EDGES.iter().flat_map(|s| EDGES.map(|a| (*s, a))) {
                for direction in [ToServer, ToClient] {
                    let (mut plain, mut usual) = (Sequences::from_words(words), Sequences::from_words(words));
                    let segment = data(sequence, 1, acknowledgment);
                    let noted = plain.note_plain(direction, &segment);
                    if noted {
                        usual.note(direction, &segment);
                        plainly += 1;
                    }
                    assert_eq!(plain, usual, "{words:x?}, {direction:?}, {segment:x?}");
                }
            }
        }
        assert!(plainly > 100_000, "{plainly}");
    }

    #[test]
    fn numbers_wrap() {
        let mut s = Sequences::default();
        s.note(ToServer, &data(u32::MAX - 10, 0, 9));
        s.note(ToServer, &data(u32::MAX - 10, 100, 9));
        assert_eq!(s.sent(ToServer), Some(89));
    }
}

//! What each end of a TCP connection has sent and acknowledged.

use crate::connection::Direction;
use crate::wire::tcp::Segment;

/// Of each side, the sequence number behind the last that it has used, and the highest that it has acknowledged.
///
/// What one side has sent and the other has acknowledged are numbers of one sequence space. In it the acknowledged
/// number is never ahead of the sent one.
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

/// No window in use is larger: 16 MiB. A number further away from what is known belongs to another conversation, or
/// much has gone another way.
pub(crate) const WINDOW: u32 = 1 << 24;

/// An acknowledgement further behind the highest one, in bytes, is not taken for one that was overtaken: 1 MiB. The
/// smaller it is, the less a stranger who guesses gets through.
const OVERTAKEN: u32 = 1 << 20;

/// A number is ahead of another if it is by less than half of all numbers (RFC 9293, section 3.4).
const AHEAD: u32 = 1 << 31;

impl Sequences {
    /// Takes note of a segment of data or acknowledgement alone, as [`super::tcp::Tcp::follow`] does, if all is as
    /// nearly always: it brings nothing old, and acknowledges only what was sent. False, and nothing noted, if not.
    #[inline(always)]
    #[must_use]
    pub(crate) fn note_plain(&mut self, direction: Direction, segment: &Segment) -> bool {
        let [to_server, to_client] = &mut self.sent;
        let [by_client, by_server] = &mut self.acknowledged;
        let (sent, other_sent, acknowledged) = match direction {
            Direction::ToServer => (to_server, *to_client, by_client),
            Direction::ToClient => (to_client, *to_server, by_server),
        };
        let (end, new) = (segment.sequence.wrapping_add(segment.data), segment.acknowledgment);
        if end.wrapping_sub(*sent) >= WINDOW || new.wrapping_sub(*acknowledged) > other_sent.wrapping_sub(*acknowledged)
        {
            return false;
        }
        *sent = end;
        *acknowledged = new;
        true
    }

    /// Whether a segment of this side fits what is known: it ends within a window of what the side has sent, and it
    /// acknowledges what the other has sent, and nothing far behind what was acknowledged before (RFC 5961, section 5.2).
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) const fn fits(&self, side: Direction, end: u32, acknowledgment: u32) -> bool {
        self.goes_on(side, end, WINDOW) && self.may_acknowledge(side, acknowledgment)
    }

    /// Whether a segment is one that [`Self::note_plain`] takes, by its numbers.
    pub(crate) const fn continues(&self, side: Direction, segment: &Segment) -> bool {
        let (sent, acknowledged) = (self.sent[side.opposite() as usize], self.acknowledged[side as usize]);
        let end = segment.sequence.wrapping_add(segment.data);
        self.goes_on(side, end, 0)
            && segment.acknowledgment.wrapping_sub(acknowledged) <= sent.wrapping_sub(acknowledged)
    }

    const fn goes_on(&self, side: Direction, end: u32, behind: u32) -> bool {
        end.wrapping_sub(self.sent[side as usize]).wrapping_add(behind) < WINDOW + behind
    }

    /// Whether this side may acknowledge this number.
    pub(crate) const fn may_acknowledge(&self, side: Direction, number: u32) -> bool {
        let (sent, acknowledged) = (self.sent[side.opposite() as usize], self.acknowledged[side as usize]);
        let oldest = acknowledged.wrapping_sub(OVERTAKEN);
        number.wrapping_sub(oldest) <= sent.wrapping_sub(oldest)
    }

    /// Whether a segment of this side ends behind everything that it has sent before.
    pub(crate) const fn is_new(&self, side: Direction, end: u32) -> bool {
        end.wrapping_sub(self.sent[side as usize]).wrapping_sub(1) < AHEAD - 1
    }

    /// The side has sent so much.
    pub(crate) const fn set_sent(&mut self, side: Direction, end: u32) {
        self.sent[side as usize] = end;
    }

    /// The side has acknowledged so much.
    pub(crate) const fn set_acknowledged(&mut self, side: Direction, number: u32) {
        self.acknowledged[side as usize] = number;
    }

    /// The side has acknowledged so much, or more before.
    pub(crate) const fn raise_acknowledged(&mut self, side: Direction, number: u32) {
        if number.wrapping_sub(self.acknowledged[side as usize]) < AHEAD {
            self.acknowledged[side as usize] = number;
        }
    }

    /// Both sides agree that one of them has sent so much and the other has got it all.
    pub(crate) const fn agree(&mut self, side: Direction, number: u32) {
        self.sent[side as usize] = number;
        self.acknowledged[side.opposite() as usize] = number;
    }

    /// Whether a number lies within what goes this way and is not acknowledged yet, its end included.
    pub(crate) const fn in_flight(&self, side: Direction, number: u32) -> bool {
        let from = self.acknowledged[side.opposite() as usize];
        let flight = self.sent[side as usize].wrapping_sub(from);
        flight < AHEAD && number.wrapping_sub(from) <= flight
    }

    /// The sequence number that this way's next new byte will have: what its receiver expects when all has arrived.
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

    /// The number behind the last that this side has used, known or not.
    pub(crate) const fn end(&self, side: Direction) -> u32 {
        self.sent[side as usize]
    }

    /// The highest number that this side has acknowledged, known or not.
    pub(crate) const fn expected(&self, side: Direction) -> u32 {
        self.acknowledged[side as usize]
    }

    /// Whether anything is known of what this side sends.
    pub(crate) const fn knows(&self, side: Direction) -> bool {
        self.sent[side as usize] | self.acknowledged[side.opposite() as usize] != 0
    }

    /// Whether all that this side has sent is acknowledged.
    pub(crate) const fn all_acknowledged(&self, side: Direction) -> bool {
        self.sent[side as usize] == self.acknowledged[side.opposite() as usize]
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

    /// Mends what comes from elsewhere: nobody has acknowledged more than was sent.
    pub(crate) fn mend(&mut self) {
        for side in [Direction::ToServer, Direction::ToClient] {
            let sent = self.sent[side as usize];
            let acknowledged = &mut self.acknowledged[side.opposite() as usize];
            if *acknowledged == 0 || sent.wrapping_sub(*acknowledged) >= AHEAD {
                *acknowledged = sent;
            }
        }
    }
}

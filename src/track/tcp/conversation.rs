//! The conversation: segments whose numbers fit, FINs, and numbers that do not fit until both ends agree on them.

use crate::connection::Direction::{self, ToClient, ToServer};
use crate::track::claims::{Attempt, Fin};
use crate::track::phase::Phase;
use crate::track::sequence::WINDOW;
use crate::track::tcp::{AGREEMENTS, AT_ONCE, Tcp};
use crate::wire::tcp::{FIN, Segment};

/// The phase of a conversation by the client's FIN (row) and the server's (column). See [`Fin`].
#[rustfmt::skip]
pub(super) const BY_FINS: [[Phase; 4]; 4] = {
    use Phase::{ClientClosed as CC, Closing as Cl, Established as Es, EstablishedPending as Ep, ServerClosed as SC, TimeWait as TW};
    [
        // None Sent InOrder Acknowledged
        [Es,    Ep,  Ep,     SC],
        //  A FIN that is not acknowledged may be forged. It changes nothing, except that its acknowledgement is watched
        //  for.
        [Ep,    Ep,  Ep,     SC],
        [Ep,    Ep,  Cl,     Cl],
        //  Both sides have sent a FIN, and each has exactly the number that its receiver expects or has acknowledged:
        //  as sure as a RST. What is left is transitory (RFC 5382, REQ-5).
        [CC,    CC,  Cl,     TW],
        //  Half-closed for as long as the server likes (RFC 5382, REQ-2): the established time-out goes on.
    ]
};

impl Tcp {
    /// A segment with ACK and without SYN. After the end, only segments that do not fit count: those of two ends that go
    /// on with other numbers.
    pub(super) fn conversation(&mut self, direction: Direction, segment: &Segment, whole: bool) -> bool {
        let end = segment.end();
        let other = direction.opposite();
        if !self.claims.heard(direction) && !self.sequences.knows(direction) {
            self.sequences.set_sent(direction, end);
            // At least this: what lies before it may still be in flight.
            self.sequences.set_acknowledged(other, segment.sequence);
        }
        let new = self.sequences.is_new(direction, end);
        if new && self.claims.fin(direction) == Fin::Acknowledged {
            return self.misfit(direction, segment, end);
        }
        if !self.claims.heard(other) {
            // If the other direction takes another path, past this translator, an acknowledgement of what was sent
            // there is believed: only a receiver acknowledges it.
            if !self.sequences.knows(other) {
                self.sequences.agree(other, segment.acknowledgment);
            } else if segment.acknowledgment.wrapping_sub(self.sequences.end(other)) < WINDOW
                && self.sequences.fits(direction, end, self.sequences.end(other))
            {
                self.sequences.set_sent(other, segment.acknowledgment);
            }
        }
        if !self.sequences.fits(direction, end, segment.acknowledgment) {
            let agreed = self.misfit(direction, segment, end);
            // Both ends may have just agreed on the numbers with which this segment continues, so it is checked again.
            // Otherwise, if every segment carries data, each would lie one segment after the known numbers, and none
            // would ever fit.
            if !self.sequences.fits(direction, end, segment.acknowledgment) {
                return agreed;
            }
        }
        if self.phase.is_over() {
            // It came late.
            return false;
        }
        if !whole && self.claims.heard_both() {
            // What follows the fragment is unknown, but both sides are seen here all the same.
            self.claims.set_confirmed();
        }
        self.claims.set_heard(direction, whole);
        if new {
            // Nothing comes after a FIN: that one was forged.
            self.claims.set_fin(direction, Fin::None);
            self.sequences.set_sent(direction, end);
        }
        self.take_fin(direction, segment);
        self.sequences.raise_acknowledged(direction, segment.acknowledgment);
        self.settle();
        true
    }

    /// Takes note of a FIN that fits.
    pub(super) fn take_fin(&mut self, side: Direction, segment: &Segment) {
        let end = segment.end();
        if !segment.has(FIN) || self.claims.fin(side) == Fin::Acknowledged {
            return;
        }
        let in_order = self.sequences.expected(side.opposite()) == segment.sequence;
        let fin = match self.claims.fin(side.opposite()) {
            _ if self.claims.known_both() && in_order => Fin::InOrder,
            _ if self.claims.known_both() => Fin::Sent,
            // A portion that sees one way only never sees the acknowledgement: there a FIN is believed.
            Fin::Acknowledged => Fin::InOrder,
            _ => Fin::Acknowledged,
        };
        // Data noted beyond a FIN in order never got there.
        if in_order || self.sequences.end(side) == end {
            self.sequences.set_sent(side, end);
            self.claims.set_fin(side, fin.max(self.claims.fin(side)));
        }
    }

    /// Sets the phase of a conversation from what is known of it.
    pub(super) fn settle(&mut self) {
        for side in Direction::both() {
            if self.claims.fin(side) != Fin::None && self.sequences.all_acknowledged(side) {
                self.claims.set_fin(side, Fin::Acknowledged);
            }
        }
        let unheard = !self.claims.heard_both();
        if unheard && self.phase == Phase::Adopted {
            return;
        }
        self.phase = match BY_FINS[self.claims.fin(ToServer) as usize][self.claims.fin(ToClient) as usize] {
            // A segment that completes an attempt may look like part of the conversation.
            Phase::Established if unheard || self.claims.attempt() >= Attempt::SynAck => Phase::EstablishedPending,
            by_fins => by_fins,
        };
    }

    /// A segment whose numbers do not fit. If the other side's numbers agree with them, many segments have taken
    /// another path, or the known numbers are out of date.
    pub(super) fn misfit(&mut self, direction: Direction, segment: &Segment, end: u32) -> bool {
        if self.claims.attempt() != Attempt::None {
            if direction == ToClient {
                return false;
            }
            // The client continues with its old connection, or agreement will show with which one. Its attempt is given
            // up only after some such segments: one of them may be forged, or late.
            let times = self.claims.agreed(ToServer) + 1;
            if self.claims.attempt() != Attempt::Unasked && times <= AGREEMENTS {
                self.claims.set_agreed(ToServer, times);
                return false;
            }
            self.claims.clear_numbers();
        }
        let other = direction.opposite();
        let claimed = self.claims.numbers[other as usize];
        let covers = segment.acknowledgment.wrapping_sub(claimed);
        let mut agreed = false;
        if claimed != 0 && covers.wrapping_add(WINDOW) >= WINDOW {
            // Otherwise the acknowledgement has not got that far yet.
            self.claims.numbers[other as usize] = 0;
            // A keep-alive ends one byte before what it asks for. One that covers more is found too easily by chance.
            agreed = covers <= 1;
            let mut times = if covers < AT_ONCE { self.claims.agreed(other) + 1 } else { 0 };
            if times == AGREEMENTS {
                times = 0;
                agreed = true;
                self.claims.set_heard(other, true);
                self.claims.set_fin(other, Fin::None);
                self.sequences.agree(other, segment.acknowledgment);
                self.settle();
            }
            self.claims.set_agreed(other, times);
        }
        if self.claims.numbers[direction as usize] == 0 {
            self.claims.numbers[direction as usize] = end;
        }
        agreed
    }
}

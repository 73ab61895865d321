//! A conversation: both sides talk, and each segment fits or does not.

use byway::State;
use byway_testing::packet::{ACK, FIN, SYN};

use super::attempt::{Attempt, FORGED, Is};
use super::rules::met;
use super::side::{Fin, Side, side};
use super::{
    AGREEMENT, EARLY, OVERTAKEN, Reset, Segment, Sign, UNKNOWN, WINDOW, Way, between, distance, is_in_flight, known,
};

#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) attempt: Option<Attempt>,
    pub(super) doubtful: bool,
    /// Taken up in the middle by a segment of the client; both sides together were not heard yet.
    pub(super) adopted: bool,
    /// Both sides were heard before one of them sent a fragment.
    pub(super) confirmed: bool,
}

/// What a segment that does not fit shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    Nothing,
    /// Its sender agrees with a number that the other side has claimed.
    Agrees,
    /// So it does, for the third time: the other side's numbers are known now.
    Convinces,
}

impl Misfit {
    pub(super) fn sign(self) -> Sign {
        if self == Self::Nothing { Sign::None } else { Sign::OfLife }
    }
}

impl Conversation {
    pub(super) fn new(client: Side, server: Side) -> Self {
        Self { client, server, attempt: None, doubtful: false, adopted: false, confirmed: false }
    }

    /// The side that sends this way, and the other.
    pub(super) const fn seen_from(&self, way: Way) -> (Side, Side) {
        match way {
            Way::There => (self.client, self.server),
            Way::Back => (self.server, self.client),
        }
    }

    /// The same, to be changed.
    pub(super) fn sides(&mut self, way: Way) -> (&mut Side, &mut Side) {
        match way {
            Way::There => (&mut self.client, &mut self.server),
            Way::Back => (&mut self.server, &mut self.client),
        }
    }

    pub(super) fn are_both_heard(&self) -> bool {
        self.client.heard && self.server.heard
    }

    /// One side is not heard: its segments take another path.
    pub(super) fn is_one_sided(&self) -> bool {
        !(self.are_both_heard() || self.confirmed)
    }

    pub(super) fn state(&self) -> State {
        if self.doubtful {
            return State::Doubtful;
        }
        if self.adopted {
            return State::Established;
        }
        match (self.client.fin, self.server.fin) {
            (Fin::Acknowledged, Fin::Acknowledged) => State::TimeWait,
            (client, server) if client >= Fin::InOrder && server >= Fin::InOrder => State::Closing,
            (Fin::Acknowledged, _) => State::ClientClosed,
            (_, Fin::Acknowledged) => State::ServerClosed,
            _ => State::Established,
        }
    }

    pub(super) fn follow(&mut self, way: Way, segment: Segment) -> Sign {
        match (way, segment.has(SYN), segment.has(ACK)) {
            (Way::There, true, false) => self.begin_attempt(segment),
            (Way::Back, true, true) => self.answer_attempt(segment),
            (_, true, _) | (_, false, false) => {
                met("accepted by nobody");
                Sign::None
            }
            (Way::There, false, true) if self.completes_attempt(segment, false) => {
                met("attempt completed");
                self.begin_anew(segment);
                Sign::OfLife
            }
            (_, false, true) => {
                self.believe_first(way, segment);
                if self.fits(way, segment) {
                    self.take(way, segment);
                    return Sign::OfLife;
                }
                let misfit = self.misfit(way, segment);
                if !self.fits(way, segment) {
                    return misfit.sign();
                }
                met("fits what was just agreed on");
                self.take(way, segment);
                Sign::OfLife
            }
        }
    }

    /// A SYN of the client.
    fn begin_attempt(&mut self, segment: Segment) -> Sign {
        let client = segment.behind_syn();
        if client == self.server.expected {
            met("late copy of the SYN");
        } else if self.attempt.is_some_and(|attempt| attempt.client == client) {
            met("attempt repeated");
        } else {
            met("attempt");
            let otherwise = self.attempt.map_or(UNKNOWN, |before| before.answer());
            let attempt = Attempt { otherwise, ..Attempt::asked(client, segment.data) };
            self.forget_claims();
            self.attempt = Some(attempt);
        }
        Sign::None
    }

    fn forget_claims(&mut self) {
        for side in [&mut self.client, &mut self.server] {
            (side.claimed, side.agreements) = (None, 0);
        }
        self.attempt = None;
    }

    /// A SYN+ACK of the server.
    pub(super) fn answer_attempt(&mut self, segment: Segment) -> Sign {
        let (number, server) = (segment.acknowledgment, segment.behind_syn());
        let answers = self.attempt.is_some_and(|attempt| attempt.is_acknowledged_by(number));
        if !answers && server == self.client.expected {
            met("late copy of the SYN+ACK");
            return Sign::None;
        }
        match self.attempt {
            Some(attempt) if attempt.is_acknowledged_by(number) => {
                met("attempt answered");
                let data = number.wrapping_sub(attempt.client);
                self.attempt = Some(Attempt { is: Is::Answered, data, server, ..attempt });
                return Sign::OfLife;
            }
            Some(attempt) if attempt.is != Is::Unasked => self.attempt = Some(attempt.answered_otherwise(server)),
            _ if self.may_acknowledge(Way::Back, number) => met("SYN+ACK that fits"),
            _ => {
                met("SYN+ACK that does not fit");
                self.forget_claims();
                self.attempt = Some(Attempt { is: Is::Unasked, server, ..Attempt::asked(number, 0) });
            }
        }
        Sign::None
    }

    /// Whether a segment of the client completes the attempt. After the end there is no conversation that it might go on with.
    pub(super) fn completes_attempt(&self, segment: Segment, over: bool) -> bool {
        let Some(attempt) = self.attempt else {
            return false;
        };
        let begins = if attempt.is == Is::Asked {
            // It knows what the server has answered to another attempt: that one was not given up.
            known(attempt.otherwise) == Some(segment.acknowledgment)
        } else {
            (0..AGREEMENT).contains(&distance(segment.sequence, attempt.acknowledged()))
                && (0..=EARLY).contains(&distance(segment.acknowledgment, attempt.server))
        };
        let ahead = distance(segment.sequence.wrapping_add(segment.data), self.client.sent);
        // A SYN ahead of all that the client has sent is no copy.
        let is_copy = attempt.is == Is::Asked || distance(attempt.client, self.client.sent) <= 0;
        let goes_on = is_copy
            && !over
            && (0..WINDOW).contains(&ahead)
            && between(segment.acknowledgment, self.client.expected, self.server.sent);
        if begins && goes_on {
            met("late copies of a handshake");
        }
        begins && !goes_on
    }

    pub(super) fn begin_anew(&mut self, segment: Segment) {
        let mut waiting = None;
        let begins = match self.attempt {
            Some(attempt) if attempt.is != Is::Asked => attempt.acknowledged(),
            attempt => {
                met("the attempt before completed");
                waiting = attempt.map(|attempt| attempt.client).filter(|asked| *asked != segment.sequence);
                segment.sequence
            }
        };
        *self =
            Self::new(side(segment.end(), segment.acknowledgment, true), side(segment.acknowledgment, begins, true));
        self.note_fin(Way::There, segment);
        self.note_acknowledged_fins();
        self.attempt = waiting.and_then(known).map(|asked| Attempt::asked(asked, 0));
    }

    /// Takes the first numbers of a side that was not heard and of which nothing is known.
    fn believe_first(&mut self, way: Way, segment: Segment) {
        let (me, peer) = self.sides(way);
        if !me.heard && me.sent == UNKNOWN && peer.expected == UNKNOWN {
            me.sent = segment.end();
            // At least: what lies before it may be on its way still.
            peer.expected = segment.sequence;
        }
        let behind_fin = me.fin == Fin::Acknowledged && distance(segment.end(), me.sent) > 0;
        if !peer.heard && peer.sent == UNKNOWN && me.expected == UNKNOWN && !behind_fin {
            peer.sent = segment.acknowledgment;
            me.expected = segment.acknowledgment;
        }
    }

    fn may_acknowledge(&self, way: Way, number: u32) -> bool {
        let (me, peer) = self.seen_from(way);
        between(number, me.expected.wrapping_sub(OVERTAKEN), peer.sent)
    }

    pub(super) fn fits(&self, way: Way, segment: Segment) -> bool {
        let (me, peer) = self.seen_from(way);
        let ahead = distance(segment.end(), me.sent);
        let most = if me.fin == Fin::Acknowledged { 0 } else { WINDOW - 1 };
        // Data that took another path: a side that acknowledges it has got it.
        let past_us = !peer.heard && (0..WINDOW).contains(&distance(segment.acknowledgment, peer.sent));
        (-WINDOW..=most).contains(&ahead) && (past_us || self.may_acknowledge(way, segment.acknowledgment))
    }

    /// A segment that its receiver would accept.
    pub(super) fn take(&mut self, way: Way, segment: Segment) {
        met("fits");
        if self.doubtful {
            met("talk after a RST in flight");
        }
        self.confirmed |= self.are_both_heard() && !segment.whole;
        let (me, peer) = self.sides(way);
        // It is not known where a fragment's segment ends.
        me.heard = segment.whole;
        let end = segment.end();
        if distance(end, me.sent) > 0 {
            me.sent = end;
            if me.fin != Fin::None {
                met("FIN forgotten");
                me.fin = Fin::None;
            }
        }
        if distance(segment.acknowledgment, peer.sent) > 0 {
            met("acknowledges what went past us");
            peer.sent = segment.acknowledgment;
        }
        self.note_fin(way, segment);
        let (me, _) = self.sides(way);
        if distance(segment.acknowledgment, me.expected) > 0 {
            me.expected = segment.acknowledgment;
        }
        self.note_acknowledged_fins();
        self.settle();
    }

    fn settle(&mut self) {
        self.adopted &= !self.are_both_heard();
        self.doubtful = false;
    }

    /// Looks at the FIN of a segment that fits.
    pub(super) fn note_fin(&mut self, way: Way, segment: Segment) {
        let one_sided = self.is_one_sided();
        let (me, peer) = self.sides(way);
        if !segment.has(FIN) || me.fin == Fin::Acknowledged {
            return;
        }
        let in_order = segment.sequence == peer.expected;
        if !in_order && segment.end() != me.sent {
            met("FIN of no use");
            return;
        }
        me.sent = segment.end();
        let fin = match (one_sided, peer.fin) {
            // Its acknowledgement goes another way.
            (true, Fin::Acknowledged) => {
                met("second FIN of a connection that is seen one way");
                Fin::InOrder
            }
            (true, _) => {
                met("FIN of a connection that is seen one way");
                Fin::Acknowledged
            }
            (false, _) if in_order => {
                met("FIN in order");
                Fin::InOrder
            }
            (false, _) => {
                met("FIN sent");
                Fin::Sent
            }
        };
        me.fin = me.fin.max(fin);
    }

    pub(super) fn note_acknowledged_fins(&mut self) {
        self.client.note_acknowledged_fin(&self.server);
        self.server.note_acknowledged_fin(&self.client);
    }

    /// A segment that its receiver would not accept.
    pub(super) fn misfit(&mut self, way: Way, segment: Segment) -> Misfit {
        match &mut self.attempt {
            Some(_) if way == Way::Back => {
                met("misfit of the server with an attempt");
                return Misfit::Nothing;
            }
            Some(attempt) if attempt.is != Is::Unasked && attempt.misfits < FORGED => {
                met(if attempt.is == Is::Answered {
                    "misfit of the client with an answered attempt"
                } else {
                    "misfit of the client with an attempt"
                });
                attempt.misfits += 1;
                return Misfit::Nothing;
            }
            Some(attempt) => {
                met(if attempt.is == Is::Answered { "answered attempt forgotten" } else { "attempt forgotten" });
                self.forget_claims();
            }
            None => {}
        }
        let (me, peer) = self.sides(way);
        let mut misfit = Misfit::Nothing;
        if let Some(claimed) = peer.claimed {
            let more = distance(segment.acknowledgment, claimed);
            if (0..AGREEMENT).contains(&more) {
                if more <= 1 {
                    misfit = Misfit::Agrees;
                }
                peer.claimed = None;
                peer.agreements += 1;
                met("agreement");
                if peer.agreements == 3 {
                    met("third agreement");
                    peer.agreements = 0;
                    peer.sent = segment.acknowledgment;
                    peer.fin = Fin::None;
                    peer.heard = true;
                    me.expected = segment.acknowledgment;
                    misfit = Misfit::Convinces;
                }
            } else if (-WINDOW..0).contains(&more) {
                met("no agreement yet");
            } else {
                met("disagreement");
                peer.claimed = None;
                peer.agreements = 0;
            }
        }
        if me.claimed.is_none() {
            met("number claimed");
            me.claimed = known(segment.end());
        }
        if misfit == Misfit::Convinces {
            self.note_acknowledged_fins();
            self.settle();
        }
        misfit
    }

    /// The attempt that the server has answered, unless both numbers fit the conversation so that it may be made of copies.
    pub(super) fn fresh_attempt(&self) -> Option<Attempt> {
        let fits = |attempt: &Attempt| {
            self.may_acknowledge(Way::Back, attempt.client) && self.may_acknowledge(Way::There, attempt.server)
        };
        self.answered_attempt().filter(|attempt| !fits(attempt))
    }

    /// The attempt that the server has answered.
    pub(super) fn answered_attempt(&self) -> Option<Attempt> {
        self.attempt.filter(|attempt| attempt.is == Is::Answered)
    }

    pub(super) fn judge_reset(&self, way: Way, segment: Segment) -> Reset {
        let number = segment.sequence;
        let asked = |attempt: &Attempt| attempt.is_acknowledged_by(segment.acknowledgment);
        if way == Way::Back && segment.has(ACK) && self.attempt.as_ref().is_some_and(asked) {
            return Reset::Exact;
        }
        let answered = self.answered_attempt();
        let (me, peer) = self.seen_from(way);
        if me.heard || me.sent != UNKNOWN || peer.expected != UNKNOWN {
            if number == peer.expected {
                // Of an adopted connection it is a guess what its server expects.
                return match answered {
                    _ if self.adopted && way == Way::There => Reset::InFlight,
                    Some(_) => Reset::Replaced,
                    None => Reset::Exact,
                };
            }
            let of_attempt = |a: Attempt| number == if way == Way::There { a.acknowledged() } else { a.server };
            if answered.is_some_and(of_attempt) {
                return Reset::Exact;
            }
            if is_in_flight(number, peer.expected, me.sent) {
                return Reset::InFlight;
            }
        }
        if way == Way::There
            && let Some(attempt) = self.attempt
        {
            // A side that gives up an attempt has lost its state before: a half-closed connection is of no use to it.
            let gives_up = (-1..=i64::from(attempt.data)).contains(&distance(number, attempt.client));
            let half_closed = matches!(self.state(), State::ClientClosed | State::ServerClosed);
            return if half_closed && gives_up { Reset::InFlight } else { Reset::Elsewhere };
        }
        if self.are_both_heard() { Reset::Inexact } else { Reset::Elsewhere }
    }
}

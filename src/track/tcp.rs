//! TCP seen from the middle (RFC 9293). The two ends decide; this follows them.
//!
//! Nothing counts because one side says so. A handshake is complete when each side has acknowledged the other's SYN,
//! with the numbers of one attempt. A FIN counts once its receiver has acknowledged it. A segment that its receiver
//! would not accept, because its numbers fit nothing that the other side has said, changes no state and prolongs
//! nothing. Who can forge the packets of one side, and sees neither's numbers, gets nowhere.
//!
//! What is tracked of each side: how much it has sent and acknowledged ([`Sequences`], in the line that a packet touches
//! anyway), and what it has claimed that the other has not confirmed ([`Claims`], beside it). Windows are not tracked: a
//! translator is no firewall, and the ends judge data for themselves.
//!
//! - Handshake ([`Tcp::handshake`]): SYN, SYN+ACK and the ACK that completes belong together by their numbers.
//! - Conversation ([`Tcp::conversation`]): numbers fit, or they do not. If both sides go on with numbers that do not fit
//!   and agree with each other ([`AGREEMENTS`] times), those are the numbers.
//! - A new attempt within a conversation (`attempt`): the client has lost its state and sends a SYN. The server's
//!   answer tells what becomes of it; until it is complete the connection stays as it is.
//! - RST ([`Tcp::judge_reset`]): it counts if it has exactly the number that its receiver expects (RFC 5961).

use super::claims::{Attempt, Claims, Fin};
use super::phase::Phase;
use super::sequence::{Sequences, WINDOW};

use crate::connection::Direction::{self, ToClient, ToServer};
use crate::wire::tcp::{ACK, FIN, SYN, Segment};

/// How often the ends have to agree on numbers that do not fit before those are believed.
const AGREEMENTS: u32 = 3;

/// An acknowledgement agrees with a claimed number if it covers it and at most so much more, in bytes: what a receiver
/// acknowledges at once.
const AT_ONCE: u32 = 1 << 20;

/// The most that a server sends before its client has completed the handshake, in bytes: with a SYN+ACK, or behind it
/// (RFC 7413, section 4.2; initial windows of RFC 6928).
const EARLY: u32 = 1 << 14;

/// The phase of a conversation by the client's FIN (row) and the server's (column). See [`Fin`].
#[rustfmt::skip]
const BY_FINS: [[Phase; 4]; 4] = {
    use Phase::{ClientClosed as CC, Closing as Cl, Established as Es, EstablishedPending as Ep, ServerClosed as SC, TimeWait as TW};
    [
        // None Sent InOrder Acknowledged
        [Es,    Ep,  Ep,     SC],
        //  A FIN that is not acknowledged may be forged. It changes nothing but that the answer is looked out for.
        [Ep,    Ep,  Ep,     SC],
        [Ep,    Ep,  Cl,     Cl],
        //  Both sides have sent a FIN, and each has exactly the number that its receiver expects or has acknowledged: as
        //  sure as a RST. What is left is transitory (RFC 5382, REQ-5).
        [CC,    CC,  Cl,     TW],
        //  Half-closed for as long as the server likes (RFC 5382, REQ-2): the established time-out goes on.
    ]
};

/// A connection as the tracker works on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    pub(crate) phase: Phase,
    pub(crate) sequences: Sequences,
    pub(crate) claims: Claims,
}

/// What a phase says of the client's and of the server's FIN at least.
pub(crate) const fn implied_fins(phase: Phase) -> [Fin; 2] {
    match phase {
        Phase::ClientClosed => [Fin::Acknowledged, Fin::None],
        Phase::ServerClosed => [Fin::None, Fin::Acknowledged],
        Phase::Closing => [Fin::InOrder; 2],
        _ => [Fin::None; 2],
    }
}

/// What a RST means to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// Its receiver obeys it at once: the connection is over.
    Exact,
    /// The same, and a new attempt that the server has answered goes on.
    Replaced,
    /// It lies within what is sent and not acknowledged yet: its receiver will obey it if all of that has arrived.
    InFlight,
    /// The client refuses what the server has answered to another attempt.
    Refused,
    /// It is not about this connection but about an attempt before, which it ends at its receiver.
    Elsewhere,
    /// Its receiver will not obey it; at best it asks back (RFC 5961, section 3.2).
    Inexact,
}

impl Tcp {
    /// A connection that a client's SYN opens: as [`Self::follow`] makes it of one of which nothing is known.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) fn opening(segment: &Segment) -> Self {
        let mut claims = Claims::default();
        claims.set_heard(ToServer, true);
        claims.set_syn_data(segment.data);
        let mut sequences = Sequences::default();
        sequences.set_sent(ToServer, segment.sequence.wrapping_add(1).wrapping_add(claims.syn_data()));
        Self { phase: Phase::Opening, sequences, claims }
    }

    /// A connection that was tracked elsewhere: the FINs are as they are known there, or at least as its phase says.
    pub(crate) fn resume(phase: Phase, mut sequences: Sequences, fins: [Fin; 2], vouched: bool) -> Self {
        let mut claims = Claims::default();
        if vouched {
            claims.set_vouched();
        }
        for (side, (fin, implied)) in [ToServer, ToClient].into_iter().zip(fins.into_iter().zip(implied_fins(phase))) {
            claims.set_fin(side, fin.max(implied));
        }
        match phase {
            Phase::Opening => {}
            Phase::Opened => claims.set_syn_acknowledged(ToServer, true),
            _ => sequences.mend(),
        }
        let mut tcp = Self { phase, sequences, claims };
        if !matches!(phase, Phase::Opening | Phase::Opened | Phase::Doubtful) {
            tcp.settle();
        }
        tcp
    }

    /// Takes over what another portion, which has seen the other half of the connection, knows better.
    pub(crate) fn join(&mut self, other: &Self) {
        let rank = |phase| match phase {
            Phase::Opening => 0,
            Phase::Opened => 1,
            Phase::Adopted => 2,
            Phase::Doubtful => 3,
            Phase::TimeWait => 5,
            _ if phase.is_over() => 6,
            _ => 4,
        };
        let (mine, theirs) = (rank(self.phase), rank(other.phase));
        self.sequences.merge(other.sequences);
        if theirs > mine {
            if mine < 2 {
                // What was claimed in the handshake no longer matters.
                self.claims.clear_numbers();
            }
            if theirs == 1 {
                self.claims.set_syn_acknowledged(ToServer, true);
            }
            self.phase = other.phase;
        }
        for side in [ToServer, ToClient] {
            self.claims.set_fin(side, self.claims.fin(side).max(other.claims.fin(side)));
        }
        if rank(self.phase) >= 2 {
            self.sequences.mend();
        }
        if rank(self.phase) == 4 {
            self.settle();
        }
    }

    /// Puts down as sent what the receiver of a RST will expect, for a connection that is to be reset. `silent` says that
    /// nothing has been on its way for a while: then what was not acknowledged did not arrive, as a probe of a closed window
    /// does not.
    pub(crate) fn expect_resets(&mut self, silent: bool) {
        match self.phase {
            Phase::Opening => self.sequences.set_sent(ToServer, self.behind_syn()),
            Phase::Opened if self.claims.syn_acknowledged(ToServer) => {
                self.sequences.set_sent(ToServer, self.sequences.expected(ToClient));
            }
            Phase::Opened => {}
            _ if silent && self.claims.heard_both() => {
                for &side in &[ToServer, ToClient] {
                    self.sequences.set_sent(side, self.sequences.expected(side.opposite()));
                }
            }
            _ => {}
        }
    }

    /// Follows a segment that is no RST. `whole` says that it is no fragment. Returns whether the segment is a sign of
    /// life: whether its receiver would accept it, or agrees with it.
    pub(crate) fn follow(&mut self, direction: Direction, segment: &Segment, whole: bool) -> bool {
        match self.phase {
            Phase::Opening | Phase::Opened => self.handshake(direction, segment),
            phase if phase.is_over() && !segment.has(SYN) => self.is_repeated(direction, segment),
            _ => self.conversation(direction, segment, whole),
        }
    }

    /// Whether a segment of a connection that is over repeats its side's FIN, or the acknowledgement that was sent behind
    /// it: the other end is not done yet (RFC 9293, section 3.10.7.4, TIME-WAIT). After a RST nobody listens any more.
    fn is_repeated(&self, direction: Direction, segment: &Segment) -> bool {
        let end = segment.end();
        segment.has(ACK) && self.claims.fin(direction) == Fin::Acknowledged && self.sequences.end(direction) == end
    }

    // A handshake uses the numbers so: of the client, `sent` lies behind its latest SYN and the most data that a SYN has
    // carried; `acknowledged` is the number behind the server's latest SYN. Of the server, `sent` lies behind its SYN and
    // what came with it or after it; `acknowledged` is what its latest answer acknowledged.

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn handshake(&mut self, direction: Direction, segment: &Segment) -> bool {
        match (direction, segment.has(SYN), segment.has(ACK)) {
            (ToServer, true, false) => self.clients_syn(segment),
            (ToServer, true, true) => self.clients_syn_ack(segment),
            (ToServer, false, true) => self.completes(segment),
            (_, false, false) => false,
            (ToClient, ..) => self.servers_segment(segment),
        }
    }

    /// The number behind the client's latest SYN, its data not counted.
    fn behind_syn(&self) -> u32 {
        self.sequences.end(ToServer).wrapping_sub(self.claims.syn_data())
    }

    /// Whether a number acknowledges a SYN with this number behind it, and all, some or none of its data (RFC 7413).
    fn acknowledges(&self, number: u32, behind_syn: u32) -> bool {
        number.wrapping_sub(behind_syn) <= self.claims.syn_data()
    }

    /// The same of the SYN of the other attempt, if there is one.
    fn acknowledges_other(&self, number: u32) -> bool {
        let [other, _] = self.claims.numbers;
        other != 0 && self.acknowledges(number, other)
    }

    /// A SYN that is repeated, perhaps without its data, or that begins another attempt. What the server has answered to
    /// the one before is kept: which of them lives, the client's acknowledgement will tell.
    fn clients_syn(&mut self, segment: &Segment) -> bool {
        let start = segment.sequence.wrapping_add(1);
        let known = self.behind_syn();
        if start != known {
            self.claims.numbers[ToServer as usize] = known;
            self.phase = Phase::Opening;
        }
        self.claims.set_heard(ToServer, true);
        self.claims.set_syn_data(self.claims.syn_data().max(segment.data));
        self.sequences.set_sent(ToServer, start.wrapping_add(self.claims.syn_data()));
        true
    }

    /// What a server says: its SYN, with ACK or, when both open at once, without (RFC 9293, section 3.5); or, without SYN,
    /// early data, or a challenge about an older connection (RFC 5961, section 4).
    fn servers_segment(&mut self, segment: &Segment) -> bool {
        let syn = segment.has(SYN);
        let behind = segment.sequence.wrapping_add(syn.into());
        let end = segment.end();
        let answered = self.claims.syn_acknowledged(ToServer);
        let before = self.sequences.expected(ToServer);
        let mut accepted = if segment.has(ACK) {
            self.acknowledges(segment.acknowledgment, self.behind_syn())
        } else {
            syn && !answered
        };
        if !syn && self.phase == Phase::Opened {
            accepted &= end.wrapping_sub(before) <= EARLY;
            if accepted {
                if self.sequences.is_new(ToClient, end) {
                    self.sequences.set_sent(ToClient, end);
                    self.claims.set_fin(ToClient, Fin::None);
                }
                // A FIN that ends behind the SYN would stand in its place.
                if segment.has(FIN) && end != before && self.sequences.end(ToClient) == end {
                    self.claims.set_fin(ToClient, Fin::Sent);
                }
                self.acknowledge_clients_syn(segment.acknowledgment);
            }
            return accepted;
        }
        if syn && !accepted && segment.has(ACK) && self.acknowledges_other(segment.acknowledgment) {
            // It answers the other attempt.
            let other = self.claims.numbers[ToServer as usize];
            self.claims.numbers[ToServer as usize] = self.behind_syn();
            self.sequences.set_sent(ToServer, other.wrapping_add(self.claims.syn_data()));
            accepted = true;
        }
        accepted &= syn;
        // What answers nobody is remembered as long as there is nothing better: the client may say what it is, by a RST
        // with this number or by going on with it.
        if !accepted && (answered || self.phase == Phase::Opened || !segment.has(ACK)) {
            return false;
        }
        if (answered || self.phase == Phase::Opened) && before != behind {
            self.claims.numbers[ToClient as usize] = before;
        }
        if before != behind {
            // The client has not acknowledged this SYN yet.
            self.claims.set_syn_acknowledged(ToClient, false);
        }
        if before != behind || self.sequences.is_new(ToClient, end) {
            self.sequences.set_sent(ToClient, end);
            self.claims.set_fin(ToClient, Fin::None);
        }
        self.sequences.set_acknowledged(ToServer, behind);
        if accepted {
            self.claims.set_heard(ToClient, true);
            self.phase = Phase::Opened;
        }
        if !accepted {
            self.sequences.set_acknowledged(ToClient, segment.acknowledgment);
        } else if segment.has(ACK) {
            self.acknowledge_clients_syn(segment.acknowledgment);
        }
        accepted
    }

    fn acknowledge_clients_syn(&mut self, number: u32) {
        self.sequences.set_acknowledged(ToClient, number);
        self.claims.set_syn_acknowledged(ToServer, true);
        self.complete_if_both_acknowledged();
    }

    /// When both open at once the client, too, acknowledges a SYN with its own (RFC 9293, section 3.5). That it knows the
    /// server's number shows that this is its attempt.
    fn clients_syn_ack(&mut self, segment: &Segment) -> bool {
        let number = segment.acknowledgment;
        if number == 0 || self.sequences.expected(ToServer) != number {
            return false;
        }
        self.phase = Phase::Opened;
        let behind = segment.sequence.wrapping_add(1);
        self.claims.set_syn_acknowledged(ToClient, true);
        if !self.claims.syn_acknowledged(ToServer) {
            self.sequences.set_sent(ToServer, behind.wrapping_add(self.claims.syn_data()));
            self.sequences.set_acknowledged(ToClient, behind);
        }
        self.complete_if_both_acknowledged();
        true
    }

    fn complete_if_both_acknowledged(&mut self) {
        if self.claims.syn_acknowledged(ToServer) && self.claims.syn_acknowledged(ToClient) {
            self.sequences.set_sent(ToServer, self.sequences.expected(ToClient));
            self.complete();
        }
    }

    /// Both ends have acknowledged each other's SYN.
    fn complete(&mut self) {
        self.claims.clear_numbers();
        self.claims.set_heard(ToServer, true);
        self.phase = Phase::Established;
        self.settle();
    }

    /// A client's segment that may complete the handshake: it acknowledges the server's latest SYN, or the one before,
    /// and goes on where the server's answer said.
    fn completes(&mut self, segment: &Segment) -> bool {
        let number = segment.acknowledgment;
        let behind = self.sequences.expected(ToServer);
        let latest = number.wrapping_sub(behind) <= self.sequences.end(ToClient).wrapping_sub(behind);
        let before = self.claims.numbers[ToClient as usize];
        let earlier = !latest && before != 0 && number == before;
        let expected = self.sequences.expected(ToClient);
        // An answer to no known SYN has to be confirmed to the byte, and without an answer there is nothing to confirm.
        let room = if self.claims.syn_acknowledged(ToServer) { WINDOW } else { u32::from(behind.min(expected) != 0) };
        let other = self.claims.numbers[ToServer as usize];
        let goes_on = segment.sequence.wrapping_sub(expected) < room;
        let goes_on_otherwise = earlier && other != 0 && segment.sequence == other;
        if !(latest || earlier) || !(goes_on || goes_on_otherwise) {
            return false;
        }
        if earlier {
            self.sequences.set_sent(ToClient, number);
            self.claims.set_fin(ToClient, Fin::None);
        }
        if !goes_on {
            self.sequences.set_acknowledged(ToClient, segment.sequence);
        }
        self.sequences.set_acknowledged(ToServer, number);
        self.sequences.set_sent(ToServer, segment.end());
        self.complete();
        self.take_fin(ToServer, segment);
        self.settle();
        true
    }

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn conversation(&mut self, direction: Direction, segment: &Segment, whole: bool) -> bool {
        if segment.has(SYN) {
            return self.attempt(direction, segment);
        }
        // Without ACK no end accepts anything (RFC 9293, section 3.10.7.4).
        if !segment.has(ACK) {
            return false;
        }
        if direction == ToServer && self.begins_anew(segment) {
            return true;
        }
        let end = segment.end();
        let other = direction.opposite();
        if !self.claims.heard(direction) && !self.sequences.knows(direction) {
            self.sequences.set_sent(direction, end);
            // At least: what lies before it may be on its way still.
            self.sequences.set_acknowledged(other, segment.sequence);
        }
        let new = self.sequences.is_new(direction, end);
        if new && self.claims.fin(direction) == Fin::Acknowledged {
            return self.misfit(direction, segment, end);
        }
        if !self.claims.heard(other) {
            // What goes past us, because the other way leads elsewhere, is believed: whoever acknowledges it has got it.
            if !self.sequences.knows(other) {
                self.sequences.agree(other, segment.acknowledgment);
            } else if segment.acknowledgment.wrapping_sub(self.sequences.end(other)) < WINDOW
                && self.sequences.fits(direction, end, self.sequences.end(other))
            {
                self.sequences.set_sent(other, segment.acknowledgment);
            }
        }
        if !self.sequences.fits(direction, end, segment.acknowledgment) {
            return self.misfit(direction, segment, end);
        }
        if !whole && self.claims.heard_both() {
            // What follows the fragment is unknown, but both sides are seen here all the same.
            self.claims.set_vouched();
        }
        self.claims.set_heard(direction, whole);
        if new {
            // Nothing comes behind a FIN: that one was forged.
            self.claims.set_fin(direction, Fin::None);
            self.sequences.set_sent(direction, end);
        }
        self.take_fin(direction, segment);
        self.sequences.raise_acknowledged(direction, segment.acknowledgment);
        self.settle();
        true
    }

    /// Takes note of a FIN that fits.
    fn take_fin(&mut self, side: Direction, segment: &Segment) {
        let end = segment.end();
        if !segment.has(FIN) || self.claims.fin(side) == Fin::Acknowledged {
            return;
        }
        let in_order = self.sequences.expected(side.opposite()) == segment.sequence;
        let fin = match self.claims.fin(side.opposite()) {
            // A portion that sees one way only never sees the acknowledgement: there a FIN is believed.
            Fin::Acknowledged if !self.claims.known_both() => Fin::InOrder,
            _ if !self.claims.known_both() => Fin::Acknowledged,
            _ if in_order => Fin::InOrder,
            _ => Fin::Sent,
        };
        // Whatever was noted beyond one in order, it never got there.
        if in_order || self.sequences.end(side) == end {
            self.sequences.set_sent(side, end);
            self.claims.set_fin(side, fin.max(self.claims.fin(side)));
        }
    }

    /// The phase of a conversation by what is known of it.
    fn settle(&mut self) {
        for &side in &[ToServer, ToClient] {
            if self.claims.fin(side) != Fin::None && self.sequences.all_acknowledged(side) {
                self.claims.set_fin(side, Fin::Acknowledged);
            }
        }
        let pending = !self.claims.heard_both();
        if self.phase.is_over() || pending && self.phase == Phase::Adopted {
            return;
        }
        self.phase = match BY_FINS[self.claims.fin(ToServer) as usize][self.claims.fin(ToClient) as usize] {
            Phase::Established if pending => Phase::EstablishedPending,
            by_fins => by_fins,
        };
    }

    /// A segment whose numbers do not fit. If the other side goes on in the same way, much has gone another way, or
    /// what was known is old.
    fn misfit(&mut self, direction: Direction, segment: &Segment, end: u32) -> bool {
        if self.claims.attempt() != Attempt::None {
            if direction == ToClient {
                return false;
            }
            // The client goes on with its old connection, or agreement will tell with which. An attempt that the server has
            // answered is given up only after some such segments: one of them may be forged.
            let times = self.claims.agreed(ToServer) + 1;
            if self.claims.attempt() == Attempt::SynAck && times <= AGREEMENTS {
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
            // Else it has not got so far yet.
            self.claims.numbers[other as usize] = 0;
            agreed = covers < AT_ONCE;
            let times = if agreed { self.claims.agreed(other) + 1 } else { 0 };
            self.claims.set_agreed(other, times);
            if times == AGREEMENTS {
                self.claims.set_agreed(other, 0);
                self.claims.set_heard(other, true);
                self.claims.set_fin(other, Fin::None);
                self.sequences.agree(other, segment.acknowledgment);
                self.settle();
            }
        }
        if self.claims.numbers[direction as usize] == 0 {
            self.claims.numbers[direction as usize] = end;
        }
        agreed
    }

    /// A SYN in a conversation: the client has lost its state and begins anew, or somebody pretends that it does. The
    /// server's answer will tell.
    fn attempt(&mut self, direction: Direction, segment: &Segment) -> bool {
        let behind = segment.sequence.wrapping_add(1);
        let claims = &mut self.claims;
        // A late copy of the SYN that the connection began with; so is what answers it.
        if behind == self.sequences.expected(direction.opposite()) {
            return false;
        }
        match (direction, segment.has(ACK)) {
            (ToServer, false) => {
                if claims.attempt() != Attempt::None && claims.numbers[0] == behind {
                    return false;
                }
                claims.clear_numbers();
                claims.numbers[0] = behind;
                claims.set_syn_data(segment.data);
                claims.set_attempt(Attempt::Syn);
                false
            }
            (ToClient, true) => {
                let number = segment.acknowledgment;
                let attempted = matches!(claims.attempt(), Attempt::Syn | Attempt::SynAck);
                let answers = attempted && number.wrapping_sub(claims.numbers[0]) <= claims.syn_data();
                // One that fits is a late copy, or answers a late copy. Or it answers an attempt that was given up.
                if !answers && (attempted || self.sequences.may_acknowledge(ToClient, number)) {
                    return false;
                }
                // Of the data so much as is acknowledged. The SYN may come again.
                let begins = if answers { claims.numbers[0] } else { number };
                claims.set_syn_data(number.wrapping_sub(begins));
                claims.numbers = [begins, behind];
                claims.set_attempt(if answers { Attempt::SynAck } else { Attempt::Unasked });
                answers
            }
            _ => false,
        }
    }

    /// The numbers with which both sides go on from an attempt that the server has answered.
    fn answered_numbers(&self) -> [u32; 2] {
        let [client, server] = self.claims.numbers;
        [client.wrapping_add(self.claims.syn_data()), server]
    }

    /// Whether a client's segment completes an attempt; then it is the connection.
    fn begins_anew(&mut self, segment: &Segment) -> bool {
        let [client, server] = self.answered_numbers();
        let early = segment.acknowledgment.wrapping_sub(server);
        if !matches!(self.claims.attempt(), Attempt::SynAck | Attempt::Unasked)
            || segment.sequence.wrapping_sub(client) >= AT_ONCE
            || early > EARLY
            // Both SYNs were late copies.
            || self.sequences.continues(ToServer, segment)
        {
            return false;
        }
        self.sequences.agree(ToClient, segment.acknowledgment);
        self.sequences.agree(ToServer, client);
        self.sequences.set_sent(ToServer, segment.end());
        self.claims = Claims::default();
        self.claims.set_heard(ToServer, true);
        self.claims.set_heard(ToClient, true);
        self.phase = Phase::Established;
        self.take_fin(ToServer, segment);
        self.settle();
        true
    }

    /// Judges a RST: it is exact if its number is what the other side has last acknowledged, which is what that side
    /// expects next, and which only that side can change. In answer to a SYN it must acknowledge that (RFC 9293,
    /// section 3.10.7.3).
    ///
    /// A RST behind data that is still unacknowledged ends nothing at once, although its receiver will obey it if the
    /// data arrived: the connection becomes [`Phase::Doubtful`], with a shorter time-out (RFC 7857, section 2.2). Counting
    /// unacknowledged data as expected would let a stranger who can forge data forge the RST too.
    pub(crate) fn judge_reset(&self, direction: Direction, segment: &Segment) -> Reset {
        let handshake = matches!(self.phase, Phase::Opening | Phase::Opened);
        let attempt = self.claims.attempt();
        let [attempted, _] = self.claims.numbers;
        if direction == ToClient && segment.has(ACK) {
            let number = segment.acknowledgment;
            let latest = if handshake { self.behind_syn() } else { attempted };
            if self.acknowledges(number, latest) && (handshake || matches!(attempt, Attempt::Syn | Attempt::SynAck)) {
                // Behind an answer the other attempt may be the later one.
                return if self.phase == Phase::Opened && attempted != 0 { Reset::Replaced } else { Reset::Exact };
            }
            if handshake && self.acknowledges_other(number) {
                return Reset::Elsewhere;
            }
        }
        let number = segment.sequence;
        let unanswered = self.phase == Phase::Opening || handshake && !self.claims.syn_acknowledged(ToServer);
        if direction == ToServer && unanswered {
            // The client gives up, or refuses what the server has answered to another attempt.
            return if self.acknowledges(number, self.behind_syn()) {
                Reset::Exact
            } else if self.sequences.expected(ToClient) == number {
                Reset::Refused
            } else if self.acknowledges_other(number) {
                Reset::Elsewhere
            } else {
                Reset::Inexact
            };
        }
        // Before it has answered, a client obeys no RST but one that acknowledges its SYN.
        if self.phase != Phase::Opening && (self.claims.heard(direction) || self.sequences.knows(direction)) {
            if self.sequences.expected(direction.opposite()) == number {
                return match self.phase {
                    // What the server of an adopted connection expects is a guess. What its client expects is not.
                    Phase::Adopted if direction == ToServer => Reset::InFlight,
                    Phase::Opened if attempted != 0 => Reset::Replaced,
                    _ if attempt == Attempt::SynAck => Reset::Replaced,
                    _ => Reset::Exact,
                };
            }
            if attempt == Attempt::SynAck && self.answered_numbers()[direction as usize] == number {
                // The server has answered the attempt, so it knows nothing of the connection before; and now that ends.
                return Reset::Exact;
            }
            if self.sequences.in_flight(direction, number) {
                return Reset::InFlight;
            }
        }
        if direction == ToServer && attempt != Attempt::None {
            // A client that has begun anew, and gives that up before an answer, has no use for a connection that is half
            // closed already.
            let given_up = number.wrapping_sub(attempted).wrapping_add(1) <= self.claims.syn_data() + 1;
            return match self.phase {
                Phase::ClientClosed | Phase::ServerClosed if given_up => Reset::InFlight,
                // It refuses what answers its old connection.
                _ => Reset::Elsewhere,
            };
        }
        // Nor can be judged what has not been heard.
        if handshake || !self.claims.heard_both() { Reset::Elsewhere } else { Reset::Inexact }
    }

    /// Forgets what the server has answered in a handshake.
    pub(crate) fn forget_answer(&mut self) {
        self.phase = Phase::Opening;
        self.claims.set_syn_acknowledged(ToServer, false);
        self.claims.numbers[ToClient as usize] = 0;
        self.sequences.agree(ToClient, 0);
    }

    /// The connection was reset, and another attempt goes on: in a handshake the other one, in a conversation the one that
    /// the server has answered.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn replace(&mut self) {
        let [client, server] = self.answered_numbers();
        let handshake = self.phase == Phase::Opened;
        let syn_data = self.claims.syn_data();
        self.claims = Claims::default();
        self.claims.set_heard(ToServer, true);
        self.claims.set_heard(ToClient, true);
        if handshake {
            self.claims.set_syn_data(syn_data);
            // The RST may come again.
            self.claims.numbers[ToServer as usize] = self.sequences.end(ToServer).wrapping_sub(syn_data);
            self.sequences = Sequences::default();
            self.sequences.set_sent(ToServer, client);
            self.phase = Phase::Opening;
        } else {
            self.sequences.agree(ToServer, client);
            self.sequences.agree(ToClient, server);
            self.claims.set_syn_acknowledged(ToServer, true);
            self.phase = Phase::Opened;
        }
    }
}

impl Direction {
    /// The other way.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::RST;

    /// The client's and the server's initial sequence numbers, and the numbers behind their SYNs.
    const C0: u32 = 1_000_000_000;
    const V0: u32 = 3_000_000_000;
    const C: u32 = C0 + 1;
    const V: u32 = V0 + 1;
    const W: u32 = 1 << 24;

    const fn segment(flags: u8, sequence: u32, acknowledgment: u32, data: u32) -> Segment {
        Segment { sequence, acknowledgment, data, flags }
    }

    impl Tcp {
        /// A segment of the client; whether it is a sign of life.
        fn client(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: u32) -> bool {
            self.follow(ToServer, &segment(flags, sequence, acknowledgment, data), true)
        }

        fn server(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: u32) -> bool {
            self.follow(ToClient, &segment(flags, sequence, acknowledgment, data), true)
        }

        fn client_resets(&self, sequence: u32) -> Reset {
            self.judge_reset(ToServer, &segment(RST, sequence, 0, 0))
        }

        fn server_resets(&self, sequence: u32) -> Reset {
            self.judge_reset(ToClient, &segment(RST, sequence, 0, 0))
        }

        fn server_refuses(&self, acknowledgment: u32) -> Reset {
            self.judge_reset(ToClient, &segment(RST | ACK, 0, acknowledgment, 0))
        }

        /// `sent` of client and server, `expected` of client and server.
        fn numbers(&self) -> [u32; 4] {
            self.sequences.to_words()
        }

        fn fins(&self) -> [Fin; 2] {
            [self.claims.fin(ToServer), self.claims.fin(ToClient)]
        }
    }

    /// Nothing but a SYN with so much data.
    fn opening_with(data: u32) -> Tcp {
        let mut tcp = Tcp { phase: Phase::Opening, sequences: Sequences::default(), claims: Claims::default() };
        assert!(tcp.client(SYN, C0, 0, data));
        assert_eq!(tcp.phase, Phase::Opening);
        tcp
    }

    fn opening() -> Tcp {
        opening_with(0)
    }

    fn opened() -> Tcp {
        let mut tcp = opening();
        assert!(tcp.server(SYN | ACK, V0, C, 0));
        assert_eq!(tcp.phase, Phase::Opened);
        tcp
    }

    fn established() -> Tcp {
        let mut tcp = opened();
        assert!(tcp.client(ACK, C, V, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
        tcp
    }

    /// One that was taken up by a segment of the client.
    fn adopted() -> Tcp {
        let mut tcp = Tcp { phase: Phase::Adopted, sequences: Sequences::default(), claims: Claims::default() };
        assert!(tcp.client(ACK, C, V, 10));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Adopted, [C + 10, V, V, C]));
        tcp
    }

    /// Asserts that a segment changes nothing and is no sign of life.
    fn changes_nothing(tcp: &Tcp, direction: Direction, segment: Segment) {
        let mut after = *tcp;
        assert!(!after.follow(direction, &segment, true), "{segment:?}");
        assert_eq!((after.phase, after.sequences, after.claims), (tcp.phase, tcp.sequences, tcp.claims), "{segment:?}");
    }

    // Handshake.

    #[test]
    fn a_syn_again_is_no_new_attempt() {
        let mut tcp = opening();
        assert!(tcp.client(SYN, C0, 0, 0));
        assert_eq!(tcp.claims.numbers, [0; 2]);
        assert!(tcp.client(SYN, C0 + 50, 0, 0));
        assert_eq!((tcp.behind_syn(), tcp.claims.numbers[0]), (C + 50, C));
    }

    #[test]
    fn an_answer_chooses_the_attempt() {
        let mut tcp = opening();
        assert!(tcp.client(SYN, C0 + 50, 0, 0));
        // The one before is answered, and becomes the latest.
        assert!(tcp.server(SYN | ACK, V0, C, 0));
        assert_eq!((tcp.phase, tcp.behind_syn(), tcp.claims.numbers[0]), (Phase::Opened, C, C + 50));
        changes_nothing(&tcp, ToServer, segment(ACK, C + 50, V + 1, 0));
        assert!(tcp.client(ACK, C, V, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
    }

    #[test]
    fn a_syn_after_the_answer_keeps_the_answer() {
        let mut tcp = opened();
        assert!(tcp.client(SYN, C0 + 50, 0, 0));
        assert_eq!((tcp.phase, tcp.behind_syn(), tcp.claims.numbers[0]), (Phase::Opening, C + 50, C));
        assert_eq!([C + 50, C].map(|number| tcp.server_refuses(number)), [Reset::Exact, Reset::Elsewhere]);
        // The client may still complete with the answer to the attempt before: then the new SYN was forged, or a late copy.
        let mut before = tcp;
        assert!(before.client(ACK, C, V, 0));
        assert_eq!((before.phase, before.numbers()), (Phase::Established, [C, V, V, C]));
        // Or it refuses that answer, which is forgotten.
        let mut refused = tcp;
        assert_eq!(refused.client_resets(C), Reset::Refused);
        refused.forget_answer();
        changes_nothing(&refused, ToServer, segment(ACK, C, V, 0));
        assert_eq!((refused.phase, refused.behind_syn()), (Phase::Opening, C + 50));
        // Answered, it is the latest; the one before is over, and a late refusal of it means nothing.
        assert!(tcp.server(SYN | ACK, V0 + 9, C + 50, 0));
        assert_eq!((tcp.behind_syn(), tcp.server_refuses(C)), (C + 50, Reset::Elsewhere));
        assert!(tcp.client(ACK, C + 50, V + 9, 0));
        assert_eq!(tcp.numbers(), [C + 50, V + 9, V + 9, C + 50]);
    }

    #[test]
    fn an_answer_to_neither_attempt() {
        let mut tcp = opening();
        assert!(!tcp.server(SYN | ACK, V0, C + 7, 0));
        assert_eq!((tcp.phase, tcp.client_resets(C + 7)), (Phase::Opening, Reset::Refused));
        // Its numbers have to be confirmed to the byte.
        for (sequence, acknowledgment) in [(C + 8, V), (C + 6, V), (C + 7, V + 1), (C + 7, V - 1), (0, 0)] {
            changes_nothing(&tcp, ToServer, segment(ACK, sequence, acknowledgment, 0));
        }
        assert!(tcp.client(ACK, C + 7, V, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::EstablishedPending, [C + 7, V, V, C + 7]));
        // Once there is an answer to the attempt, others change nothing.
        changes_nothing(&opened(), ToClient, segment(SYN | ACK, V0, C + 7, 0));
    }

    #[test]
    fn without_an_answer_nothing_completes() {
        for (sequence, acknowledgment) in [(C, V), (C, 0), (0, 0), (0, V)] {
            changes_nothing(&opening(), ToServer, segment(ACK, sequence, acknowledgment, 0));
        }
        // A SYN of the server without ACK acknowledges nothing.
        let mut tcp = opening();
        assert!(tcp.server(SYN, V0, 0, 0));
        for sequence in [0, C] {
            changes_nothing(&tcp, ToServer, segment(ACK, sequence, V, 0));
        }
    }

    #[test]
    fn a_challenge_before_the_handshake() {
        let mut tcp = opening();
        assert!(!tcp.server(ACK, V, C + 70, 0));
        assert_eq!((tcp.phase, tcp.client_resets(C + 70), tcp.client_resets(C + 71)), {
            (Phase::Opening, Reset::Refused, Reset::Inexact)
        });
        assert!(tcp.client(SYN, C0, 0, 0) && tcp.server(SYN | ACK, V0 + 500, C, 0) && tcp.client(ACK, C, V + 500, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V + 500, V + 500, C]));
    }

    #[test]
    fn data_with_a_syn_is_acknowledged_in_part() {
        for acknowledged in [C, C + 1, C + 99, C + 100] {
            let mut tcp = opening_with(100);
            // Repeated without its data (RFC 7413, section 4.1.3).
            assert!(tcp.client(SYN, C0, 0, 0));
            assert!(tcp.server(SYN | ACK, V0, acknowledged, 0));
            assert!(tcp.client(ACK, acknowledged, V, 100));
            assert_eq!((tcp.phase, tcp.numbers()), { (Phase::Established, [acknowledged + 100, V, V, acknowledged]) });
        }
        for acknowledged in [C - 1, C + 101] {
            let mut tcp = opening_with(100);
            assert!(!tcp.server(SYN | ACK, V0, acknowledged, 0));
            assert_eq!(tcp.phase, Phase::Opening);
        }
    }

    #[test]
    fn early_data() {
        let mut tcp = opened();
        assert!(tcp.server(ACK, V, C, 1_000));
        assert!(tcp.server(ACK, V + 1_000, C, EARLY - 1_000));
        // Too much, for another attempt, without ACK, before the SYN.
        for (flags, sequence, acknowledgment) in [(ACK, V + EARLY, C), (ACK, V, C + 1), (0, V, C), (ACK, V - 3, C)] {
            changes_nothing(&tcp, ToClient, segment(flags, sequence, acknowledgment, 1));
        }
        for acknowledged in [V, V + 77, V + EARLY] {
            let mut tcp = tcp;
            assert!(tcp.client(ACK, C, acknowledged, 0));
            assert_eq!(tcp.numbers(), [C, V + EARLY, acknowledged, C]);
        }
        for acknowledged in [V - 1, V + EARLY + 1] {
            changes_nothing(&tcp, ToServer, segment(ACK, C, acknowledged, 0));
        }
    }

    #[test]
    fn an_early_fin() {
        let mut tcp = opened();
        assert!(tcp.server(FIN | ACK, V, C, 10));
        assert_eq!(tcp.fins(), [Fin::None, Fin::Sent]);
        let mut all = tcp;
        assert!(all.client(ACK, C, V + 11, 0));
        assert_eq!(all.phase, Phase::ServerClosed);
        assert!(tcp.client(ACK, C, V, 0));
        assert_eq!(tcp.phase, Phase::EstablishedPending);
        // Data behind it: it was forged.
        let mut tcp = opened();
        assert!(tcp.server(FIN | ACK, V, C, 10) && tcp.server(ACK, V, C, 50) && tcp.client(ACK, C, V + 50, 0));
        assert_eq!((tcp.phase, tcp.fins()), (Phase::Established, [Fin::None; 2]));
    }

    /// A server that was started again answers the same SYN once more: its early FIN is not that of the second answer.
    #[test]
    fn an_early_fin_belongs_to_its_answer() {
        let mut answered_twice = opened();
        assert!(answered_twice.server(FIN | ACK, V, C, 10) && answered_twice.server(SYN | ACK, V0 + 900, C, 0));
        for acknowledged in [V + 900, V] {
            let mut tcp = answered_twice;
            assert!(tcp.client(ACK, C, acknowledged, 0));
            assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, acknowledged, acknowledged, C]));
        }
    }

    #[test]
    fn one_syn_and_two_answers() {
        for acknowledged in [V, V + 900] {
            let mut tcp = opened();
            assert!(tcp.server(SYN | ACK, V0 + 900, C, 0));
            assert_eq!((tcp.server_resets(V), tcp.server_resets(V + 900)), (Reset::Elsewhere, Reset::Exact));
            changes_nothing(&tcp, ToServer, segment(ACK, C, V + 1, 0));
            assert!(tcp.client(ACK, C, acknowledged, 5));
            assert_eq!(tcp.numbers(), [C + 5, acknowledged, acknowledged, C]);
        }
    }

    #[test]
    fn the_answer_before_and_the_other_attempt() {
        let mut tcp = opened();
        assert!(tcp.client(SYN, C0 + 50_000_000, 0, 0));
        assert!(tcp.server(SYN | ACK, V0 + 900, C + 50_000_000, 0));
        // The client had the first answer, and its ACK comes late.
        changes_nothing(&tcp, ToServer, segment(ACK, C, V + 900, 0));
        changes_nothing(&tcp, ToServer, segment(ACK, C + 1, V, 0));
        assert!(tcp.client(ACK, C, V, 0));
        assert_eq!(tcp.numbers(), [C, V, V, C]);
    }

    #[test]
    fn a_handshake_may_be_completed_a_window_later() {
        for (beyond, completes) in [(0, true), (W - 1, true), (W, false), (1_u32.wrapping_neg(), false)] {
            let mut tcp = opened();
            assert_eq!(tcp.client(ACK, C.wrapping_add(beyond), V, 0), completes, "{beyond}");
            assert_eq!(tcp.phase == Phase::Established, completes, "{beyond}");
        }
    }

    #[test]
    fn both_open_at_once() {
        for server_first in [true, false] {
            let mut tcp = opening();
            assert!(tcp.server(SYN, V0, 0, 0));
            assert_eq!(tcp.phase, Phase::Opened);
            changes_nothing(&tcp, ToServer, segment(SYN | ACK, C0, V + 1, 0));
            changes_nothing(&tcp, ToServer, segment(SYN | ACK, C0, V - 1, 0));
            let (by_client, by_server) = ((SYN | ACK, C0, V), (SYN | ACK, V0, C));
            if server_first {
                assert!(tcp.server(by_server.0, by_server.1, by_server.2, 0));
                assert_eq!(tcp.phase, Phase::Opened);
                changes_nothing(&tcp, ToClient, segment(SYN, V0, 0, 0));
                assert!(tcp.client(by_client.0, by_client.1, by_client.2, 0));
            } else {
                assert!(tcp.client(by_client.0, by_client.1, by_client.2, 0));
                assert_eq!(tcp.phase, Phase::Opened);
                assert!(tcp.server(by_server.0, by_server.1, by_server.2, 0));
            }
            assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
        }
    }

    /// Whoever knows the server's number is the client: its SYN+ACK says which attempt is the latest.
    #[test]
    fn a_syn_ack_of_the_client_says_what_its_attempt_is() {
        let mut tcp = opening();
        assert!(tcp.server(SYN, V0, 0, 0) && tcp.client(SYN | ACK, C0 + 50, V, 0));
        assert_eq!((tcp.phase, tcp.behind_syn()), (Phase::Opened, C + 50));
        // So it is in `Opening`, once a segment of the server is remembered.
        let mut tcp = opening();
        changes_nothing(&tcp, ToServer, segment(SYN | ACK, C0, 0, 0));
        assert!(!tcp.server(SYN | ACK, V0, C + 7, 0) && tcp.client(SYN | ACK, C0, V, 0));
        assert_eq!(tcp.phase, Phase::Opened);
        // What the server has acknowledged before, the client cannot change.
        let mut tcp = opened();
        assert!(tcp.client(SYN | ACK, C0 + 50, V, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
    }

    #[test]
    fn an_early_acknowledgement_when_both_open_at_once() {
        let mut tcp = opening();
        assert!(tcp.server(SYN, V0, 0, 0));
        changes_nothing(&tcp, ToClient, segment(ACK, V, C + 1, 0));
        assert!(tcp.server(ACK, V, C, 0));
        assert_eq!(tcp.phase, Phase::Opened);
        assert!(tcp.client(SYN | ACK, C0, V, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
    }

    /// What the client has acknowledged is the server's SYN that it has seen, not the next one with another number.
    #[test]
    fn another_syn_of_the_server_has_to_be_acknowledged_anew() {
        let mut tcp = opening();
        assert!(tcp.server(SYN, V0, 0, 0) && tcp.client(SYN | ACK, C0, V, 0) && tcp.server(SYN | ACK, V0 + 900, C, 0));
        assert_eq!(tcp.phase, Phase::Opened);
        assert!(tcp.client(SYN | ACK, C0, V + 900, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V + 900, V + 900, C]));
    }

    // Conversation.

    /// The table of phases by FINs against what the page says of it.
    #[test]
    fn every_cell_of_the_table_of_fins() {
        const FINS: [Fin; 4] = [Fin::None, Fin::Sent, Fin::InOrder, Fin::Acknowledged];
        for client in FINS {
            for server in FINS {
                let got = BY_FINS[client as usize][server as usize];
                let (client_done, server_done) = (client == Fin::Acknowledged, server == Fin::Acknowledged);
                let sure = |fin| fin == Fin::InOrder || fin == Fin::Acknowledged;
                let said = if client_done && server_done {
                    Phase::TimeWait
                } else if sure(client) && sure(server) {
                    Phase::Closing
                } else if client_done {
                    Phase::ClientClosed
                } else if server_done {
                    Phase::ServerClosed
                } else if client == Fin::None && server == Fin::None {
                    Phase::Established
                } else {
                    Phase::EstablishedPending
                };
                assert_eq!(got, said, "{client:?} {server:?}");
            }
        }
    }

    #[test]
    fn where_a_segment_may_end() {
        for (end, fits) in
            [(C - W, true), (C - W - 1, false), (C + W - 1, true), (C + W, false), (C + (1 << 31), false)]
        {
            let mut tcp = established();
            assert_eq!(tcp.client(ACK, end, V, 0), fits, "{end}");
            assert_eq!(tcp.numbers()[0], if fits { end.max(C) } else { C }, "{end}");
            // And the server's.
            let mut tcp = established();
            let end = end.wrapping_sub(C).wrapping_add(V);
            assert_eq!(tcp.server(ACK, end, C, 0), fits, "{end}");
        }
    }

    #[test]
    fn what_may_be_acknowledged() {
        const OVERTAKEN: u32 = 1 << 20;
        for (number, fits) in [(V, true), (V + 1, false), (V - OVERTAKEN, true), (V - OVERTAKEN - 1, false)] {
            let mut tcp = established();
            assert_eq!(tcp.client(ACK, C, number, 0), fits, "{number}");
            assert_eq!(tcp.numbers(), [C, V, V, C], "{number}");
        }
    }

    #[test]
    fn without_ack_nothing_is_accepted() {
        for flags in [0, FIN] {
            changes_nothing(&established(), ToServer, segment(flags, C, V, 10));
            changes_nothing(&established(), ToClient, segment(flags, V, C, 10));
        }
    }

    #[test]
    fn numbers_wrap() {
        // The client's numbers pass 2^32 within data, the server's with its SYN.
        let (client, server) = (0_u32.wrapping_sub(50), u32::MAX - 1);
        let mut tcp = Tcp { phase: Phase::Opening, sequences: Sequences::default(), claims: Claims::default() };
        assert!(tcp.client(SYN, client - 1, 0, 0) && tcp.server(SYN | ACK, server, client, 0));
        assert!(tcp.client(ACK, client, server.wrapping_add(1), 100));
        assert!(tcp.server(ACK, server.wrapping_add(1), 50, 100));
        assert_eq!(tcp.numbers(), [50, 99, server.wrapping_add(1), 50]);
        assert!(tcp.client(FIN | ACK, 50, 99, 0) && tcp.server(FIN | ACK, 99, 51, 0) && tcp.client(ACK, 51, 100, 0));
        assert_eq!(tcp.phase, Phase::TimeWait);
    }

    #[test]
    fn a_fin_in_order_counts_when_it_is_acknowledged() {
        let mut tcp = established();
        assert!(tcp.client(FIN | ACK, C, V, 0));
        assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::InOrder, Fin::None]));
        assert!(tcp.server(ACK, V, C + 1, 0));
        assert_eq!(tcp.phase, Phase::ClientClosed);
        // Half-closed for as long as it lasts; in the end both are in order.
        assert!(tcp.server(ACK, V, C + 1, 1_000) && tcp.client(ACK, C + 1, V + 1_000, 0));
        assert!(tcp.server(FIN | ACK, V + 1_000, C + 1, 0));
        assert_eq!(tcp.phase, Phase::Closing);
        assert!(tcp.client(ACK, C + 1, V + 1_001, 0));
        assert_eq!(tcp.phase, Phase::TimeWait);
    }

    #[test]
    fn the_server_closes_first() {
        let mut tcp = established();
        assert!(tcp.server(FIN | ACK, V, C, 0) && tcp.client(ACK, C, V + 1, 0));
        assert_eq!(tcp.phase, Phase::ServerClosed);
        assert!(tcp.client(FIN | ACK, C, V + 1, 0) && tcp.server(ACK, V + 1, C + 1, 0));
        assert_eq!(tcp.phase, Phase::TimeWait);
    }

    #[test]
    fn both_close_at_once() {
        let mut tcp = established();
        assert!(tcp.client(FIN | ACK, C, V, 0) && tcp.server(FIN | ACK, V, C, 0));
        assert_eq!(tcp.phase, Phase::Closing);
        assert!(tcp.client(ACK, C + 1, V + 1, 0) && tcp.server(ACK, V + 1, C + 1, 0));
        assert_eq!(tcp.phase, Phase::TimeWait);
    }

    #[test]
    fn a_fin_behind_unacknowledged_data_is_only_sent() {
        let mut tcp = established();
        assert!(tcp.client(ACK, C, V, 100) && tcp.client(FIN | ACK, C + 100, V, 0));
        assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::Sent, Fin::None]));
        // Two that are only sent make no Closing.
        assert!(tcp.server(ACK, V, C, 100) && tcp.server(FIN | ACK, V + 100, C, 0));
        assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::Sent, Fin::Sent]));
        assert!(tcp.server(ACK, V + 101, C + 101, 0));
        assert_eq!(tcp.phase, Phase::ClientClosed);
        // Once acknowledged it stays, and nothing comes behind it.
        assert!(!tcp.client(ACK, C + 101, V, 1));
        assert_eq!((tcp.phase, tcp.numbers()[0]), (Phase::ClientClosed, C + 101));
    }

    #[test]
    fn a_fin_is_forgotten_when_more_comes() {
        let mut tcp = established();
        assert!(tcp.client(FIN | ACK, C + 500, V, 0));
        assert_eq!((tcp.fins()[0], tcp.numbers()[0]), (Fin::Sent, C + 501));
        assert!(tcp.client(ACK, C + 501, V, 1));
        assert_eq!((tcp.phase, tcp.fins()[0]), (Phase::Established, Fin::None));
        // A FIN in order says where its side ends, whatever was noted behind it.
        assert!(tcp.client(FIN | ACK, C, V, 20));
        assert_eq!((tcp.fins()[0], tcp.numbers()[0]), (Fin::InOrder, C + 21));
        // One that lies within what was sent, and begins nowhere, means nothing.
        let mut tcp = established();
        assert!(tcp.client(ACK, C, V, 100) && tcp.client(FIN | ACK, C + 10, V, 10));
        assert_eq!(tcp.fins()[0], Fin::None);
    }

    #[test]
    fn one_way_only() {
        // Of the server nothing is heard here, and no record vouches for it.
        let mut tcp = Tcp::resume(Phase::Opened, opened().sequences, [Fin::None; 2], false);
        assert!(tcp.client(ACK, C, V, 0));
        tcp.claims.set_heard(ToClient, false);
        assert!(tcp.client(ACK, C, V + W - 1, 0), "what went past us");
        assert_eq!(tcp.numbers()[1], V + W - 1);
        assert_eq!(tcp.phase, Phase::EstablishedPending);
        assert!(tcp.client(FIN | ACK, C, V + W - 1, 0));
        assert_eq!(tcp.phase, Phase::ClientClosed);
        let mut far = tcp;
        assert!(!far.client(ACK, C + 1, V + W - 1 + W, 0), "a window more is too far");
        // A record that vouches for both sides: a FIN counts when it is acknowledged.
        let mut tcp = Tcp::resume(Phase::Established, established().sequences, [Fin::None; 2], true);
        assert!(tcp.client(FIN | ACK, C, V, 0));
        assert_eq!(tcp.phase, Phase::EstablishedPending);
    }

    #[test]
    fn a_record_tells_of_fins() {
        let resumed = |phase, fins| Tcp::resume(phase, established().sequences, fins, true).fins();
        // Of an older version: as the phase says.
        assert_eq!(resumed(Phase::ClientClosed, [Fin::None; 2]), [Fin::Acknowledged, Fin::None]);
        assert_eq!(resumed(Phase::ServerClosed, [Fin::None; 2]), [Fin::None, Fin::Acknowledged]);
        // A FIN of a portion that sees one way only counts as acknowledged, as the phase says.
        let mut ahead = established();
        assert!(ahead.client(ACK, C, V, 100) && ahead.client(FIN | ACK, C + 100, V, 0));
        let tcp = Tcp::resume(Phase::ClientClosed, ahead.sequences, [Fin::Sent, Fin::None], false);
        assert_eq!((tcp.phase, tcp.fins()), (Phase::ClientClosed, [Fin::Acknowledged, Fin::None]));
    }

    /// A fragment with a forged FIN must not make the connection one of which only one side is seen.
    #[test]
    fn a_fragment_is_no_sign_of_another_way() {
        let mut tcp = established();
        for direction in [ToServer, ToClient] {
            let (mine, theirs) = if direction == ToServer { (C, V) } else { (V, C) };
            // Within the window, and ahead of everything.
            assert!(tcp.follow(direction, &segment(FIN | ACK, mine + 5_000, theirs, 8), false));
        }
        assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::Sent; 2]));
        // What its segment goes on with may be acknowledged.
        let mut tcp = established();
        assert!(tcp.follow(ToServer, &segment(ACK, C, V, 8), false));
        assert!(tcp.server(ACK, V, C + 1_400, 0));
        assert_eq!(tcp.numbers()[0], C + 1_400);
    }

    #[test]
    fn adopted_until_the_server_is_heard() {
        let mut tcp = adopted();
        assert!(tcp.client(FIN | ACK, C + 10, V, 0));
        assert_eq!(tcp.phase, Phase::Adopted);
        assert!(tcp.server(ACK, V, C + 11, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::ClientClosed, [C + 11, V, V, C + 11]));
        let mut tcp = adopted();
        assert!(tcp.server(ACK, V, C + 10, 50));
        assert_eq!(tcp.phase, Phase::Established);
    }

    // Numbers that do not fit.

    /// The client goes on at `far` (its segments end there), and the server acknowledges that, `times` times.
    fn agree(tcp: &mut Tcp, times: u32, far: u32) {
        for time in 0..times {
            assert!(!tcp.client(ACK, far + time * 10, V + W + 5, 0));
            assert!(tcp.server(ACK, V, far + time * 10, 0), "{time}");
        }
    }

    #[test]
    fn three_agreements_make_numbers_known() {
        let far = C + (1 << 30);
        let mut tcp = established();
        agree(&mut tcp, 2, far);
        assert_eq!(tcp.numbers(), [C, V, V, C]);
        agree(&mut tcp, 1, far + 100);
        assert_eq!(tcp.numbers(), [far + 100, V, V, far + 100]);
        assert_eq!((tcp.client_resets(far + 100), tcp.client_resets(C)), (Reset::Exact, Reset::Inexact));
    }

    #[test]
    fn one_side_alone_agrees_with_nobody() {
        let mut tcp = established();
        for number in 0..100 {
            assert!(!tcp.client(FIN | ACK, C + (1 << 30) + number, V + (1 << 30), 10));
            assert!(!{ tcp }.server(ACK, V, C + (1 << 29), 0));
        }
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
        assert_eq!([tcp.claims.agreed(ToServer), tcp.claims.agreed(ToClient)], [0; 2]);
    }

    #[test]
    fn how_exactly_an_agreement_agrees() {
        let far = C + (1 << 30);
        for (number, agrees, left) in [
            (far, true, false),
            (far + AT_ONCE - 1, true, false),
            (far + AT_ONCE, false, false),
            (far - 1, false, true),
            (far - W, false, true),
            (far - W - 1, false, false),
        ] {
            let mut tcp = established();
            agree(&mut tcp, 1, far - 100);
            assert!(!tcp.client(ACK, far, V + W + 5, 0));
            assert_eq!(tcp.server(ACK, V, number, 0), agrees, "{number}");
            assert_eq!(tcp.claims.numbers[0] != 0, left, "{number}");
            // One that disagrees ends the row; one that has not got so far does not.
            assert_eq!(tcp.claims.agreed(ToServer), if agrees { 2 } else { u32::from(left) }, "{number}");
        }
    }

    // A new attempt within a conversation.

    const C2: u32 = C + (1 << 29);
    const V2: u32 = V - (1 << 29);

    /// The client has sent a SYN with so much data.
    fn attempted(data: u32) -> Tcp {
        let mut tcp = established();
        assert!(!tcp.client(SYN, C2 - 1, 0, data));
        assert_eq!((tcp.phase, tcp.numbers(), tcp.claims.attempt()), (Phase::Established, [C, V, V, C], Attempt::Syn));
        tcp
    }

    #[test]
    fn an_attempt_is_completed() {
        for (sequence, acknowledgment, completes) in [
            (C2, V2, true),
            (C2 + AT_ONCE - 1, V2 + EARLY, true),
            (C2 + AT_ONCE, V2, false),
            (C2 - 1, V2, false),
            (C2, V2 - 1, false),
            (C2, V2 + EARLY + 1, false),
        ] {
            let mut tcp = attempted(0);
            assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
            assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
            assert_eq!(tcp.client(ACK, sequence, acknowledgment, 3), completes, "{sequence} {acknowledgment}");
            let new = [sequence + 3, acknowledgment, acknowledgment, C2];
            assert_eq!(tcp.numbers(), if completes { new } else { [C, V, V, C] });
            let attempt = if completes { Attempt::None } else { Attempt::SynAck };
            assert_eq!(tcp.claims.attempt(), attempt, "completed, or not given up yet");
        }
    }

    /// One forged segment must not take the client's answered attempt away.
    #[test]
    fn an_answered_attempt_outlives_three_misfits() {
        let mut tcp = attempted(0);
        assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
        for _ in 0..3 {
            assert!(!tcp.client(ACK, C + (1 << 30), V, 0));
            assert_eq!((tcp.claims.attempt(), tcp.claims.numbers), (Attempt::SynAck, [C2, V2]));
        }
        let mut completed = tcp;
        assert!(completed.client(ACK, C2, V2, 0));
        assert_eq!(completed.numbers(), [C2, V2, V2, C2]);
        assert!(!tcp.client(ACK, C + (1 << 30), V, 0));
        assert_eq!(tcp.claims.attempt(), Attempt::None);
    }

    #[test]
    fn a_repeated_syn_keeps_its_attempt() {
        let mut tcp = attempted(0);
        changes_nothing(&tcp, ToServer, segment(SYN, C2 - 1, 0, 0));
        assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
        changes_nothing(&tcp, ToServer, segment(SYN, C2 - 1, 0, 0));
        assert!(!tcp.client(SYN, C2 + 4, 0, 0));
        assert_eq!((tcp.claims.attempt(), tcp.claims.numbers), (Attempt::Syn, [C2 + 5, 0]));
    }

    /// While an attempt waits, what answers another one is not remembered: it would take the client's place.
    #[test]
    fn an_unasked_answer_does_not_replace_an_attempt() {
        changes_nothing(&attempted(0), ToClient, segment(SYN | ACK, V2 - 1, C2 + 9, 0));
        let mut answered = attempted(0);
        assert!(answered.server(SYN | ACK, V2 - 1, C2, 0));
        changes_nothing(&answered, ToClient, segment(SYN | ACK, V2 + 9, C2 + 9, 0));
    }

    #[test]
    fn an_answered_attempt_goes_on_after_a_reset() {
        let mut tcp = attempted(0);
        assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
        assert_eq!([tcp.client_resets(C), tcp.server_resets(V)], [Reset::Replaced; 2]);
        // The attempt itself is over by a RST with its numbers.
        assert_eq!([tcp.client_resets(C2), tcp.server_resets(V2), tcp.server_refuses(C2)], [Reset::Exact; 3]);
        tcp.replace();
        assert_eq!((tcp.phase, tcp.behind_syn()), (Phase::Opened, C2));
        assert!(tcp.client(ACK, C2, V2, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C2, V2, V2, C2]));
    }

    #[test]
    fn the_other_attempt_goes_on_after_a_reset() {
        let mut tcp = opening();
        assert!(tcp.client(SYN, C0 + 50, 0, 0) && tcp.server(SYN | ACK, V0, C, 0));
        assert_eq!([tcp.client_resets(C), tcp.server_resets(V), tcp.server_refuses(C)], [Reset::Replaced; 3]);
        tcp.replace();
        assert_eq!((tcp.phase, tcp.behind_syn()), (Phase::Opening, C + 50));
        // The RST again.
        assert_eq!([tcp.client_resets(C), tcp.server_refuses(C)], [Reset::Elsewhere; 2]);
        assert!(tcp.server(SYN | ACK, V0 + 9, C + 50, 0) && tcp.client(ACK, C + 50, V + 9, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C + 50, V + 9, V + 9, C + 50]));
    }

    #[test]
    fn an_attempt_with_data_is_answered_in_part() {
        for acknowledged in [C2, C2 + 40] {
            let mut tcp = attempted(40);
            assert!(tcp.server(SYN | ACK, V2 - 1, acknowledged, 0) && tcp.client(ACK, acknowledged, V2, 0));
            assert_eq!(tcp.numbers(), [acknowledged, V2, V2, acknowledged]);
        }
        for acknowledged in [C2 - 1, C2 + 41] {
            assert!(!attempted(40).server(SYN | ACK, V2 - 1, acknowledged, 0));
            assert_eq!(attempted(40).server_refuses(acknowledged), Reset::Inexact);
        }
        assert_eq!([C2, C2 + 40].map(|number| attempted(40).server_refuses(number)), [Reset::Exact; 2]);
    }

    #[test]
    fn an_attempt_is_refused_or_challenged() {
        assert_eq!(attempted(0).server_refuses(C2), Reset::Exact);
        let mut tcp = attempted(0);
        assert!(tcp.server(ACK, V, C, 0), "a challenge fits");
        assert_eq!((tcp.client_resets(C), tcp.client_resets(C2)), (Reset::Exact, Reset::Elsewhere));
    }

    #[test]
    fn an_attempt_is_forgotten_when_the_client_goes_on() {
        let mut tcp = attempted(0);
        // Of the server's segments those that do not fit change nothing.
        changes_nothing(&tcp, ToClient, segment(ACK, V2, C2, 0));
        assert!(tcp.client(ACK, C, V, 10));
        assert_eq!(tcp.claims.attempt(), Attempt::Syn, "one that fits leaves it alone");
        assert!(!tcp.client(ACK, C + (1 << 30), V, 0));
        assert_eq!((tcp.claims.attempt(), tcp.server_refuses(C2)), (Attempt::None, Reset::Inexact));
    }

    #[test]
    fn a_syn_ack_that_nobody_asked_for() {
        // It fits: a late copy.
        changes_nothing(&established(), ToClient, segment(SYN | ACK, V0, C, 0));
        // It does not: the SYN went past us.
        let mut tcp = established();
        assert!(!tcp.server(SYN | ACK, V2 - 1, C2, 0));
        assert!(tcp.client(ACK, C2, V2, 0));
        assert_eq!(tcp.numbers(), [C2, V2, V2, C2]);
        // The other two that have SYN.
        changes_nothing(&established(), ToClient, segment(SYN, V2, 0, 0));
        changes_nothing(&established(), ToServer, segment(SYN | ACK, C0, V, 0));
    }

    #[test]
    fn late_copies_of_a_handshake_begin_nothing() {
        changes_nothing(&established(), ToServer, segment(SYN, C0, 0, 0));
        changes_nothing(&established(), ToClient, segment(SYN | ACK, V0, C, 0));
        // Once more is acknowledged a late SYN looks like an attempt. The segments that go on do not complete it.
        let mut tcp = established();
        assert!(tcp.client(ACK, C, V, 10) && tcp.server(ACK, V, C + 10, 10) && tcp.client(ACK, C + 10, V + 10, 0));
        assert!(!tcp.client(SYN, C0, 0, 0) && tcp.server(SYN | ACK, V0, C, 0));
        assert!(tcp.client(ACK, C + 10, V + 10, 100));
        let numbers = [C + 110, V + 10, V + 10, C + 10];
        assert_eq!((tcp.numbers(), tcp.claims.attempt()), (numbers, Attempt::SynAck));
    }

    // RST: the rows of the table.

    #[test]
    fn a_reset_of_the_server_in_a_handshake() {
        let mut tcp = opening_with(10);
        assert!(tcp.client(SYN, C0 + 50, 0, 0));
        for (number, is) in [
            (C + 50, Reset::Exact),
            (C + 60, Reset::Exact),
            (C + 61, Reset::Elsewhere),
            (C, Reset::Elsewhere),
            (C + 10, Reset::Elsewhere),
            (C + 11, Reset::Elsewhere),
        ] {
            assert_eq!(tcp.server_refuses(number), is, "{number}");
        }
        // Without ACK it says nothing to a client that has sent a SYN.
        assert_eq!(tcp.judge_reset(ToClient, &segment(RST, 0, C + 50, 0)), Reset::Elsewhere);
        let mut tcp = opened();
        assert!(tcp.server(ACK, V, C, 20));
        for (number, is) in [(V, Reset::Exact), (V + 1, Reset::InFlight), (V + 20, Reset::InFlight)] {
            assert_eq!(tcp.server_resets(number), is, "{number}");
        }
        assert_eq!([V - 1, V + 21].map(|number| tcp.server_resets(number)), [Reset::Elsewhere; 2]);
    }

    #[test]
    fn a_reset_of_the_client_in_a_handshake() {
        let mut tcp = opening_with(10);
        assert!(tcp.client(SYN, C0 + 50, 0, 0));
        assert!(!tcp.server(ACK, V, C + 999, 0));
        for (number, is) in [
            (C + 50, Reset::Exact),
            (C + 60, Reset::Exact),
            (C + 999, Reset::Refused),
            (C, Reset::Elsewhere),
            (C + 10, Reset::Elsewhere),
            (C + 11, Reset::Inexact),
        ] {
            assert_eq!(tcp.client_resets(number), is, "{number}");
        }
        assert!(tcp.server(SYN | ACK, V0, C + 55, 0));
        for (number, is) in [
            // The attempt before may still be answered.
            (C + 55, Reset::Replaced),
            (C + 56, Reset::InFlight),
            (C + 60, Reset::InFlight),
            (C + 50, Reset::Elsewhere),
            (C + 61, Reset::Elsewhere),
        ] {
            assert_eq!(tcp.client_resets(number), is, "{number}");
        }
    }

    #[test]
    fn a_reset_in_a_conversation() {
        let mut tcp = established();
        assert!(tcp.client(ACK, C, V, 30) && tcp.server(ACK, V, C, 40));
        for (number, is) in [
            (0, Reset::Exact),
            (1, Reset::InFlight),
            (30, Reset::InFlight),
            (31, Reset::Inexact),
            (1_u32.wrapping_neg(), Reset::Inexact),
        ] {
            assert_eq!(tcp.client_resets(C.wrapping_add(number)), is, "{number}");
        }
        assert_eq!([V, V + 40, V + 41].map(|number| tcp.server_resets(number)), {
            [Reset::Exact, Reset::InFlight, Reset::Inexact]
        });
        // It acknowledges no attempt, and so its acknowledgement means nothing.
        assert_eq!(tcp.server_refuses(C), Reset::Inexact);
    }

    /// What a server answers that knows nothing of the connection: its client obeys.
    #[test]
    fn a_reset_of_an_adopted_connection() {
        assert_eq!([V, V + 1].map(|number| adopted().server_resets(number)), [Reset::Exact, Reset::Elsewhere]);
        assert_eq!([C, C + 10, C + 11].map(|number| adopted().client_resets(number)), {
            [Reset::InFlight, Reset::InFlight, Reset::Elsewhere]
        });
    }

    #[test]
    fn a_reset_of_an_attempt_on_a_half_closed_connection() {
        let mut tcp = established();
        assert!(tcp.server(FIN | ACK, V, C, 0) && tcp.client(ACK, C, V + 1, 0) && !tcp.client(SYN, C2 - 1, 0, 5));
        assert_eq!(tcp.phase, Phase::ServerClosed);
        for (number, is) in [
            (C2 - 2, Reset::Elsewhere),
            (C2 - 1, Reset::InFlight),
            (C2, Reset::InFlight),
            (C2 + 5, Reset::InFlight),
            (C2 + 6, Reset::Elsewhere),
        ] {
            assert_eq!(tcp.client_resets(number), is, "{number}");
        }
    }

    // The end.

    #[test]
    fn after_the_end_only_a_repeated_fin_is_a_sign_of_life() {
        let mut tcp = established();
        assert!(
            tcp.client(FIN | ACK, C, V, 0) && tcp.server(FIN | ACK, V, C + 1, 0) && tcp.client(ACK, C + 1, V + 1, 0)
        );
        assert_eq!(tcp.phase, Phase::TimeWait);
        assert!(
            tcp.server(FIN | ACK, V, C + 1, 0) && tcp.client(ACK, C + 1, V + 1, 0) && tcp.client(FIN | ACK, C, V, 0)
        );
        for (flags, sequence) in [(ACK, V), (ACK, V + 2), (FIN | ACK, V + 1), (FIN, V), (SYN | ACK, V), (0, V + 1)] {
            changes_nothing(&tcp, ToClient, segment(flags, sequence, C + 1, 0));
        }
        // After a RST nobody listens.
        for before in [opening(), opened(), established(), adopted()] {
            let tcp = Tcp { phase: Phase::TimeWait, ..before };
            for acknowledgment in [0, C, C + 1] {
                changes_nothing(&tcp, ToClient, segment(FIN | ACK, V, acknowledgment, 0));
                // A SYN+ACK that answers no attempt may be remembered, and means nothing here.
                let mut unasked = tcp;
                assert!(!unasked.server(SYN | ACK, V0, acknowledgment, 0));
                assert_eq!((unasked.phase, unasked.sequences), (tcp.phase, tcp.sequences));
                assert_ne!(unasked.claims.attempt(), Attempt::SynAck);
                changes_nothing(&unasked, ToServer, segment(ACK, acknowledgment, V, 0));
                changes_nothing(&tcp, ToServer, segment(ACK, C, V, 0));
            }
        }
    }

    /// The client's SYN came before the RST, and its answer comes after it.
    #[test]
    fn the_answer_to_an_attempt_that_waits_opens_again() {
        let mut tcp = Tcp { phase: Phase::TimeWait, ..attempted(0) };
        assert!(!{ tcp }.server(SYN | ACK, V2 - 1, C2 + 1, 0), "it answers something else");
        assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
        assert_eq!(tcp.claims.attempt(), Attempt::SynAck);
        tcp.replace();
        assert!(tcp.client(ACK, C2, V2, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C2, V2, V2, C2]));
    }

    #[test]
    fn whoever_goes_on_is_no_longer_doubtful() {
        let mut tcp = Tcp { phase: Phase::Doubtful, ..established() };
        changes_nothing(&tcp, ToServer, segment(FIN, C, V, 0));
        assert!(!tcp.client(ACK, C2, V, 0));
        assert_eq!(tcp.phase, Phase::Doubtful);
        assert!(tcp.server(ACK, V, C, 1));
        assert_eq!(tcp.phase, Phase::Established);
    }

    #[test]
    fn what_a_reset_of_our_own_says() {
        let expected = |mut tcp: Tcp| {
            tcp.expect_resets(false);
            [tcp.sequences.end(ToServer), tcp.sequences.end(ToClient)]
        };
        let [client, _] = expected(opening_with(10));
        assert_eq!(client, C, "the attempt's number, without its data");
        let mut tcp = opening_with(10);
        assert!(tcp.server(SYN | ACK, V0, C + 4, 0) && tcp.server(ACK, V, C + 4, 20));
        assert_eq!(expected(tcp), [C + 4, V + 20]);
        let mut tcp = established();
        assert!(tcp.client(ACK, C, V, 30));
        assert_eq!(expected(tcp), [C + 30, V]);
        // After a silence, what was not acknowledged did not arrive; unless one side's segments go another way.
        let mut one_sided = tcp;
        one_sided.claims.set_heard(ToClient, false);
        for (mut tcp, client) in [(tcp, C), (one_sided, C + 30)] {
            tcp.expect_resets(true);
            assert_eq!([tcp.sequences.end(ToServer), tcp.sequences.end(ToClient)], [client, V]);
        }
    }

    /// The short note of a segment says what the long one says, for all edges of all numbers.
    #[test]
    fn what_is_noted_plainly_is_what_would_be_followed() {
        const AHEAD: u32 = 1 << 31;
        const EDGES: [u32; 10] = [0, 1, 1_000, W - 1, W, AHEAD - 1, AHEAD, AHEAD + 1, u32::MAX - 1, u32::MAX];
        let mut claims = established().claims;
        claims.numbers = [C2, V2];
        let mut plainly = 0;
        for known in 0..10_000 {
            let words = [known % 10, known / 10 % 10, known / 100 % 10, known / 1_000].map(|edge| EDGES[edge]);
            let [by_client, by_server, of_client, of_server] = words;
            if by_client.wrapping_sub(of_server) >= AHEAD || by_server.wrapping_sub(of_client) >= AHEAD {
                // In no conversation is more acknowledged than was sent.
                continue;
            }
            let before = Tcp { phase: Phase::Established, sequences: Sequences::from_words(words), claims };
            for (sequence, acknowledgment) in EDGES.iter().flat_map(|s| EDGES.map(|a| (*s, a))) {
                for (direction, data) in [(ToServer, 0), (ToServer, 1), (ToClient, 0), (ToClient, 1)] {
                    let segment = segment(ACK, sequence, acknowledgment, data);
                    let (mut plain, mut usual) = (before.sequences, before);
                    if plain.note_plain(direction, &segment) {
                        plainly += 1;
                        assert!(usual.follow(direction, &segment, true), "{words:x?}, {direction:?}, {segment:x?}");
                        assert_eq!((usual.phase, usual.claims), (Phase::Established, claims));
                    }
                    let noted = if plain == before.sequences { before.sequences } else { usual.sequences };
                    assert_eq!(plain, noted, "{words:x?}, {direction:?}, {segment:x?}");
                }
            }
        }
        assert!(plainly > 50_000, "{plainly}");
    }
}

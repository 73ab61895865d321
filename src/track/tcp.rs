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
        Phase::TimeWait => [Fin::Acknowledged; 2],
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
    /// It is not about this connection but about an attempt before, which it ends at its receiver.
    Elsewhere,
    /// Its receiver will not obey it; at best it asks back (RFC 5961, section 3.2).
    Inexact,
}

impl Tcp {
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
            Phase::Opened => claims.set_syn_acknowledged(ToServer),
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
                self.claims.set_syn_acknowledged(ToServer);
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

    /// Puts down as sent what the receiver of a RST will expect, for a connection that is to be reset.
    pub(crate) fn expect_resets(&mut self) {
        match self.phase {
            Phase::Opening => self.sequences.set_sent(ToServer, self.behind_syn()),
            Phase::Opened if self.claims.syn_acknowledged(ToServer) => {
                self.sequences.set_sent(ToServer, self.sequences.expected(ToClient));
            }
            _ => {}
        }
    }

    /// Follows a segment that is no RST. `whole` says that it is no fragment. Returns whether the segment is a sign of
    /// life: whether its receiver would accept it, or agrees with it.
    pub(crate) fn follow(&mut self, direction: Direction, segment: &Segment, whole: bool) -> bool {
        match self.phase {
            Phase::Opening | Phase::Opened => self.handshake(direction, segment),
            _ => self.conversation(direction, segment, whole),
        }
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
        let end = segment.sequence.wrapping_add(segment.span());
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
                }
                if segment.has(FIN) {
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
        if answered && before != behind {
            self.claims.numbers[ToClient as usize] = before;
        }
        if before != behind || self.sequences.is_new(ToClient, end) {
            self.sequences.set_sent(ToClient, end);
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
        self.claims.set_syn_acknowledged(ToServer);
        self.complete_if_both_acknowledged();
    }

    /// When both open at once the client, too, acknowledges a SYN with its own (RFC 9293, section 3.5). That it knows the
    /// server's number shows that this is its attempt.
    fn clients_syn_ack(&mut self, segment: &Segment) -> bool {
        if self.phase != Phase::Opened || self.sequences.expected(ToServer) != segment.acknowledgment {
            return false;
        }
        let behind = segment.sequence.wrapping_add(1);
        self.claims.set_syn_acknowledged(ToClient);
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
        // An answer to no known SYN has to be confirmed to the byte.
        let room = if self.claims.syn_acknowledged(ToServer) { WINDOW } else { 1 };
        let other = self.claims.numbers[ToServer as usize];
        let goes_on = segment.sequence.wrapping_sub(expected) < room;
        let goes_on_otherwise = earlier && other != 0 && segment.sequence == other;
        if !(latest || earlier) || !(goes_on || goes_on_otherwise) {
            return false;
        }
        if earlier {
            self.sequences.set_sent(ToClient, number);
        }
        if !goes_on {
            self.sequences.set_acknowledged(ToClient, segment.sequence);
        }
        self.sequences.set_acknowledged(ToServer, number);
        self.sequences.set_sent(ToServer, segment.sequence.wrapping_add(segment.span()));
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
        let end = segment.sequence.wrapping_add(segment.span());
        let other = direction.opposite();
        if !self.claims.heard(direction) && !self.sequences.knows(direction) {
            self.sequences.set_sent(direction, end);
            // At least: what lies before it may be on its way still.
            self.sequences.set_acknowledged(other, segment.sequence);
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
        let new = self.sequences.is_new(direction, end);
        if !self.sequences.fits(direction, end, segment.acknowledgment)
            || new && self.claims.fin(direction) == Fin::Acknowledged
        {
            return self.misfit(direction, segment, end);
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
        let end = segment.sequence.wrapping_add(segment.span());
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
        for side in [ToServer, ToClient] {
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
            // The client goes on with its old connection.
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
        let claims = &mut self.claims;
        match (direction, segment.has(ACK)) {
            (ToServer, false) => {
                let behind = segment.sequence.wrapping_add(1);
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
                // One that fits is a late copy, or answers a late copy.
                if !answers && self.sequences.may_acknowledge(ToClient, number) {
                    return false;
                }
                claims.numbers = [number, segment.sequence.wrapping_add(1)];
                claims.set_syn_data(0);
                claims.set_attempt(if answers { Attempt::SynAck } else { Attempt::Unasked });
                answers
            }
            _ => false,
        }
    }

    /// Whether a client's segment completes an attempt; then it is the connection.
    fn begins_anew(&mut self, segment: &Segment) -> bool {
        let [client, server] = self.claims.numbers;
        let early = segment.acknowledgment.wrapping_sub(server);
        if !matches!(self.claims.attempt(), Attempt::SynAck | Attempt::Unasked)
            || segment.sequence.wrapping_sub(client) >= AT_ONCE
            || early > EARLY
            || self.phase.is_over()
            // Both SYNs were late copies.
            || self.sequences.continues(ToServer, segment)
        {
            return false;
        }
        self.sequences.agree(ToClient, segment.acknowledgment);
        self.sequences.agree(ToServer, client);
        self.sequences.set_sent(ToServer, segment.sequence.wrapping_add(segment.span()));
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
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn judge_reset(&self, direction: Direction, segment: &Segment) -> Reset {
        let handshake = matches!(self.phase, Phase::Opening | Phase::Opened);
        let attempt = self.claims.attempt();
        let [attempted, _] = self.claims.numbers;
        if direction == ToClient && segment.has(ACK) {
            let number = segment.acknowledgment;
            let latest = if handshake { self.behind_syn() } else { attempted };
            if self.acknowledges(number, latest) && (handshake || matches!(attempt, Attempt::Syn | Attempt::SynAck)) {
                return Reset::Exact;
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
            } else if self.sequences.expected(ToClient) == number || self.acknowledges_other(number) {
                Reset::Elsewhere
            } else {
                Reset::Inexact
            };
        }
        // Before it has answered, a client obeys no RST but one that acknowledges its SYN.
        if self.phase != Phase::Opening && (self.claims.heard(direction) || self.sequences.knows(direction)) {
            if self.sequences.expected(direction.opposite()) == number {
                return match self.phase {
                    // Of an adopted connection it is a guess what its server expects.
                    Phase::Adopted => Reset::InFlight,
                    Phase::Opened if attempted != 0 => Reset::Replaced,
                    _ if attempt == Attempt::SynAck => Reset::Replaced,
                    _ => Reset::Exact,
                };
            }
            if attempt == Attempt::SynAck && self.claims.numbers[direction as usize] == number {
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

    /// The connection was reset, and another attempt goes on: in a handshake the other one, in a conversation the one that
    /// the server has answered.
    pub(crate) fn replace(&mut self) {
        let [client, server] = self.claims.numbers;
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
            self.sequences.set_sent(ToServer, client.wrapping_add(syn_data));
            self.phase = Phase::Opening;
        } else {
            self.sequences.agree(ToServer, client);
            self.sequences.agree(ToClient, server);
            self.claims.set_syn_acknowledged(ToServer);
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

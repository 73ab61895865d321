//! TCP seen from the middle (RFC 9293). The two ends decide; this follows them.
//!
//! What one side claims counts only when the other side confirms it. A handshake is complete when each side has
//! acknowledged the other's SYN, with the numbers of one attempt. A FIN counts once its receiver has acknowledged it. A
//! segment that its receiver would not accept, because its numbers fit nothing that the other side has sent, changes no
//! state and prolongs nothing. An attacker who can forge the packets of one side but sees neither side's numbers
//! achieves nothing.
//!
//! What is tracked of each side: how much it has sent and acknowledged ([`Sequences`], in the line that a packet
//! touches anyway), and what it has claimed that the other has not confirmed ([`Claims`], beside it). Windows are not
//! tracked: a translator is no firewall, and the ends judge data for themselves.
//!
//! - Handshake ([`Tcp::handshake`]): SYN, SYN+ACK and the ACK that completes it are matched by their numbers.
//! - Conversation ([`Tcp::conversation`]): numbers fit, or they do not. If both sides continue with numbers that do not
//!   fit but agree with each other ([`AGREEMENTS`] times), those become the numbers.
//! - A new attempt within a conversation (`attempt`): the client has lost its state and sends a SYN. The server's
//!   answer decides what becomes of it; until the attempt is complete the connection stays as it is.
//! - RST ([`Tcp::judge_reset`]): it counts if it has exactly the number that its receiver expects (RFC 5961).

mod attempt;
mod conversation;
mod handshake;
mod reset;

use crate::track::claims::{Attempt, Claims, Fin};
use crate::track::phase::Phase;
use crate::track::sequence::Sequences;

use crate::connection::Direction::{self, ToClient, ToServer};
use crate::wire::tcp::{ACK, SYN, Segment};

pub(crate) use reset::Reset;

/// How often the ends have to agree on numbers that do not fit before those are believed.
const AGREEMENTS: u32 = 3;

/// An acknowledgement agrees with a claimed number if it covers that number and at most this many bytes more: what a
/// receiver acknowledges at once.
const AT_ONCE: u32 = 1 << 20;

/// The most that a server sends before its client has completed the handshake, in bytes: with a SYN+ACK, or after it
/// (RFC 7413, section 4.2; initial windows of RFC 6928).
const EARLY: u32 = 1 << 14;

/// A connection as the tracker works on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    pub(crate) phase: Phase,
    pub(crate) sequences: Sequences,
    pub(crate) claims: Claims,
}

/// The least that a phase implies about the client's and the server's FIN.
pub(crate) const fn implied_fins(phase: Phase) -> [Fin; 2] {
    match phase {
        Phase::ClientClosed => [Fin::Acknowledged, Fin::None],
        Phase::ServerClosed => [Fin::None, Fin::Acknowledged],
        Phase::Closing => [Fin::InOrder; 2],
        _ => [Fin::None; 2],
    }
}

impl Tcp {
    /// A connection that a client's SYN opens: the same as [`Self::follow`] makes of a new connection.
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

    /// A connection that was tracked elsewhere: the FINs are as known there, or at least as its phase implies.
    pub(crate) fn resume(phase: Phase, mut sequences: Sequences, fins: [Fin; 2], confirmed: bool) -> Self {
        let mut claims = Claims::default();
        if confirmed {
            claims.set_confirmed();
        }
        for (side, (fin, implied)) in Direction::both().zip(fins.into_iter().zip(implied_fins(phase))) {
            claims.set_fin(side, fin.max(implied));
        }
        match phase {
            Phase::Opening => {}
            Phase::Opened => claims.set_syn_acknowledged(ToServer, true),
            _ => sequences.mend(confirmed),
        }
        let mut tcp = Self { phase, sequences, claims };
        if !(phase.is_over() || matches!(phase, Phase::Opening | Phase::Opened | Phase::Doubtful)) {
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
        for side in Direction::both() {
            self.claims.set_fin(side, self.claims.fin(side).max(other.claims.fin(side)));
        }
        if rank(self.phase) >= 2 {
            self.sequences.mend(mine >= 2);
        }
        if rank(self.phase) == 4 {
            self.settle();
        }
    }

    /// Sets the numbers of what was sent to those that the receiver of a RST will expect, for a connection that is
    /// about to be reset. What was not acknowledged may not have arrived, like a probe of a closed window, so a second RST
    /// must follow then ([`Self::expects_otherwise`]).
    pub(crate) fn expect_resets(&mut self) {
        let mut otherwise = [0; 2];
        match self.phase {
            Phase::Opening => self.sequences.set_sent(ToServer, self.after_syn()),
            Phase::Opened if self.claims.syn_acknowledged(ToServer) => {
                self.sequences.set_sent(ToServer, self.sequences.expected(ToClient));
            }
            Phase::Opened => {}
            // The server has started again, and so has its client: these are no late copies.
            _ if self.claims.attempt() == Attempt::SynAck
                && !(self.sequences.may_acknowledge(ToClient, self.claims.numbers[0])
                    && self.sequences.may_acknowledge(ToServer, self.claims.numbers[1])) =>
            {
                let [client, server] = self.answered_numbers();
                self.sequences.set_sent(ToServer, client);
                self.sequences.set_sent(ToClient, server);
            }
            _ if self.claims.heard_both() => {
                for side in Direction::both() {
                    if !self.sequences.all_acknowledged(side) {
                        otherwise[side as usize] = self.sequences.end(side);
                        self.sequences.set_sent(side, self.sequences.expected(side.opposite()));
                    }
                }
            }
            _ => {}
        }
        self.claims.numbers = otherwise;
    }

    /// Whether the receiver of what this side sends may also expect another number in a RST than the one that is set.
    /// If so, sets that other number.
    pub(crate) fn expects_otherwise(&mut self, side: Direction) -> bool {
        let number = core::mem::take(&mut self.claims.numbers[side as usize]);
        if number != 0 {
            self.sequences.set_sent(side, number);
        }
        number != 0
    }

    /// Follows a segment that is not a RST. `whole` says that it is not a fragment. Returns whether the segment is a
    /// sign of life: whether its receiver would accept it, or agrees with it.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn follow(&mut self, direction: Direction, segment: &Segment, whole: bool) -> bool {
        let phase = self.phase;
        match phase {
            Phase::Opening | Phase::Opened => self.handshake(direction, segment),
            _ if segment.has(SYN) => self.attempt(direction, segment),
            // Without ACK no end accepts anything (RFC 9293, section 3.10.7.4).
            _ if !segment.has(ACK) => false,
            _ if direction == ToServer && self.starts_again(segment) => true,
            // The FIN that ended it comes again, or the acknowledgement that was sent after it: the other end is not done
            // yet (RFC 9293, section 3.10.7.4, TIME-WAIT).
            _ if phase.is_over() && self.claims.both_closed() && self.sequences.end(direction) == segment.end() => true,
            // What ended it may have been about another attempt: two ends that were heard may go on.
            _ if phase.is_over() && !self.claims.heard_both() => false,
            _ => self.conversation(direction, segment, whole),
        }
    }
}

impl Direction {
    /// To the server, and then to the client. An array of the two would take flash.
    #[inline]
    pub(crate) fn both() -> impl DoubleEndedIterator<Item = Self> {
        (0..2_u8).map(|number| if number == 0 { Self::ToServer } else { Self::ToClient })
    }

    /// The opposite direction.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

#[cfg(test)]
mod tests;

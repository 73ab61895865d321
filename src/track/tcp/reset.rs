//! What a RST means, and what continues after it.

use crate::connection::Direction::{self, ToClient, ToServer};
use crate::track::claims::{Attempt, Claims};
use crate::track::phase::Phase;
use crate::track::sequence::Sequences;
use crate::track::tcp::Tcp;
use crate::wire::tcp::{ACK, Segment};

/// What a RST means to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// Its receiver accepts it at once: the connection is over.
    Exact,
    /// As `Exact`, but another attempt continues: see [`Tcp::replace`].
    Replaced,
    /// It lies within what is sent and not acknowledged yet: its receiver will accept it if all of that has arrived.
    InFlight,
    /// The client refuses the server's answer to another attempt.
    Refused,
    /// It is not about this connection but about an earlier attempt, which it ends at its receiver.
    Elsewhere,
    /// Its receiver will not accept it; at best it answers with a challenge ACK (RFC 5961, section 3.2).
    Inexact,
}

impl Tcp {
    /// Judges a RST: it is exact if its number is the highest that the other side has acknowledged. That is the number
    /// that the other side expects next, and only that side can change it. In answer to a SYN, the RST must acknowledge
    /// the SYN (RFC 9293, section 3.10.7.3).
    ///
    /// A RST after data that is still unacknowledged ends nothing at once, although its receiver will accept it if the
    /// data arrived: the connection becomes [`Phase::Doubtful`], with a shorter time-out (RFC 7857, section 2.2).
    /// Counting unacknowledged data as expected would let a stranger who can forge data forge the RST too.
    pub(crate) fn judge_reset(&self, direction: Direction, segment: &Segment) -> Reset {
        let handshake = matches!(self.phase, Phase::Opening | Phase::Opened);
        let attempt = self.claims.attempt();
        let [attempted, _] = self.claims.numbers;
        if direction == ToClient && segment.has(ACK) {
            let number = segment.acknowledgment;
            let latest = if handshake { self.after_syn() } else { attempted };
            if self.acknowledges(number, latest) && (handshake || matches!(attempt, Attempt::Syn | Attempt::SynAck)) {
                // After an answer the other attempt may be the later one.
                return if self.phase == Phase::Opened && attempted != 0 { Reset::Replaced } else { Reset::Exact };
            }
            if handshake && self.acknowledges_other(number) {
                return Reset::Elsewhere;
            }
        }
        let number = segment.sequence;
        let unanswered = self.phase == Phase::Opening || handshake && !self.claims.syn_acknowledged(ToServer);
        if direction == ToServer && unanswered {
            // The client gives up, or refuses the server's answer to another attempt: perhaps one that is no longer
            // known, or whose answer was not seen here.
            return if self.acknowledges(number, self.after_syn()) {
                Reset::Exact
            } else if number != 0 && self.sequences.expected(ToClient) == number {
                Reset::Refused
            } else {
                Reset::Elsewhere
            };
        }
        // Before the server has answered, the client accepts only a RST that acknowledges its SYN.
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
                // The server has answered the attempt, so it knows nothing of the previous connection; and now the
                // attempt ends.
                return Reset::Exact;
            }
            if self.sequences.in_flight(direction, number) {
                return Reset::InFlight;
            }
        }
        if direction == ToServer && attempt != Attempt::None {
            // A client that has started again, and gives up before an answer, has no use for a connection that is
            // already half-closed.
            let given_up = number.wrapping_sub(attempted).wrapping_add(1) <= self.claims.syn_data() + 1;
            return match self.phase {
                Phase::ClientClosed | Phase::ServerClosed if given_up => Reset::InFlight,
                // It refuses what answers its old connection.
                _ => Reset::Elsewhere,
            };
        }
        // Until both sides have been heard, such a RST cannot be judged.
        if handshake || !self.claims.heard_both() { Reset::Elsewhere } else { Reset::Inexact }
    }

    /// Forgets the server's answer in a handshake.
    pub(crate) fn forget_answer(&mut self) {
        self.phase = Phase::Opening;
        self.claims.set_syn_acknowledged(ToServer, false);
        self.claims.numbers[ToClient as usize] = 0;
        self.sequences.agree(ToClient, 0);
        self.sequences.set_acknowledged(ToClient, 0);
    }

    /// The connection was reset, and another attempt continues: in a handshake the other one, in a conversation the one
    /// that the server has answered.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn replace(&mut self) {
        let [client, server] = self.answered_numbers();
        let handshake = self.phase == Phase::Opened;
        let syn_data = self.claims.syn_data();
        self.claims = Claims::default();
        self.claims.set_heard(ToServer, true);
        self.claims.set_heard(ToClient, true);
        self.claims.set_syn_data(syn_data);
        if handshake {
            // The RST may come again.
            self.claims.numbers = [self.sequences.end(ToServer).wrapping_sub(syn_data), server];
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

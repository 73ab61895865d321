//! A new attempt within a conversation: the client has lost its state and starts again.

use crate::connection::Direction::{self, ToClient, ToServer};
use crate::track::claims::{Attempt, Claims};
use crate::track::phase::Phase;
use crate::track::tcp::{AT_ONCE, EARLY, Tcp};
use crate::wire::tcp::{ACK, Segment};

impl Tcp {
    /// A SYN in a conversation: the client has lost its state and starts again, or somebody pretends that it does. The
    /// server's answer will show which.
    pub(super) fn attempt(&mut self, direction: Direction, segment: &Segment) -> bool {
        let after = segment.sequence.wrapping_add(1);
        // Here no end accepts a SYN without ACK from the server, or one with ACK from the client.
        if segment.has(ACK) == (direction == ToServer) {
            return false;
        }
        let attempt = self.claims.attempt();
        let attempted = matches!(attempt, Attempt::Syn | Attempt::SynAck);
        let late = after == self.sequences.expected(direction.opposite());
        let [asked, answer] = self.claims.numbers;
        if direction == ToServer {
            // Neither a late copy of the SYN that the connection began with, nor the SYN of this attempt again.
            if !(late || attempt != Attempt::None && asked == after) {
                // One of the two SYNs may be late, possibly this one: then the client still acknowledges the known
                // answer.
                self.claim_attempt(after, segment.data);
                self.claims.numbers[1] = if attempted { answer } else { 0 };
            }
            return false;
        }
        let number = segment.acknowledgment;
        // How much of the SYN's data is acknowledged. The SYN may come again.
        let mut data = number.wrapping_sub(asked);
        let answers = attempted && data <= self.claims.syn_data();
        if !answers {
            // An answer to a late copy of the connection's SYN; but only here, since a restarted server may begin with
            // the same number again.
            if late {
                return false;
            }
            if attempted {
                // It may answer another attempt, if one of the two SYNs has overtaken the other.
                if attempt == Attempt::Syn {
                    self.claims.numbers[1] = after;
                }
                return false;
            }
            // One that fits is a late copy, or answers a late copy.
            if self.sequences.may_acknowledge(ToClient, number) {
                return false;
            }
            data = 0;
        }
        self.claims.set_syn_data(data);
        self.claims.numbers = [number.wrapping_sub(data), after];
        self.claims.set_attempt(if answers { Attempt::SynAck } else { Attempt::Unasked });
        if self.phase == Phase::Established {
            // The fast path must not take what completes it, as in `Self::settle`.
            self.phase = Phase::EstablishedPending;
        }
        answers
    }

    /// Records that a SYN of the client waits for an answer: `after` is the number after it, and `data` how much data
    /// it carries. Earlier claims are forgotten.
    fn claim_attempt(&mut self, after: u32, data: u32) {
        self.claims.clear_numbers();
        self.claims.numbers[0] = after;
        self.claims.set_syn_data(data);
        self.claims.set_attempt(Attempt::Syn);
    }

    /// A handshake was reset by the side that sends in this direction, with this sequence number. The server may have
    /// answered one copy of the SYN with a RST, and another one differently, before or after it: once the client has
    /// acknowledged that answer, it does not obey the RST. The client may have sent its other SYN after the one that it
    /// has given up.
    pub(crate) fn await_another_answer(&mut self, direction: Direction, number: u32) {
        // What is known of a handshake's numbers is too little to tell whether a segment fits.
        self.claims.forget_server();
        let answer =
            if self.has_answered_beside(number) { self.sequences.expected(ToServer) } else { self.claims.numbers[1] };
        self.await_answer(if direction == ToClient { self.after_syn() } else { self.claims.numbers[0] }, answer);
    }

    /// Whether the server has given an answer that a RST with this number is not about.
    pub(super) fn has_answered_beside(&self, number: u32) -> bool {
        self.claims.syn_acknowledged(ToServer) && !self.sequences.in_flight(ToClient, number)
    }

    /// Records that a SYN waits for an answer: `after` is the number after it, zero if there is no such SYN. `answer`
    /// is the number after an answer of the server that may belong to it, zero if there is none.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn await_answer(&mut self, after: u32, answer: u32) {
        if after != 0 {
            self.claims.numbers = [after, answer];
            self.claims.set_attempt(Attempt::Syn);
        }
    }

    /// The numbers with which both sides go on from an attempt that the server has answered.
    pub(super) fn answered_numbers(&self) -> [u32; 2] {
        let [client, server] = self.claims.numbers;
        [client.wrapping_add(self.claims.syn_data()), server]
    }

    /// Whether a client's segment completes an attempt; then the attempt becomes the connection.
    pub(super) fn starts_again(&mut self, segment: &Segment) -> bool {
        let [mut client, server] = self.answered_numbers();
        let asked = self.claims.numbers[0];
        let early = segment.acknowledgment.wrapping_sub(server);
        let attempt = self.claims.attempt();
        let begins = if attempt == Attempt::Syn {
            // Another SYN was answered, and only its client knows with which number.
            client = segment.sequence;
            server != 0 && early == 0
        } else {
            // After the end, a server that still waits for this segment repeats its SYN.
            let goes_on = attempt != Attempt::None && !self.phase.is_over();
            goes_on && segment.sequence.wrapping_sub(client) < AT_ONCE && early <= EARLY
        };
        // Both SYNs were late copies, unless the client's lies after everything that it has sent.
        let ahead = attempt != Attempt::Syn && self.sequences.is_new(ToServer, asked);
        if !begins || !ahead && !self.phase.is_over() && self.sequences.continues(ToServer, segment) {
            return false;
        }
        self.sequences.agree(ToClient, segment.acknowledgment);
        self.sequences.set_acknowledged(ToClient, client);
        self.claims = Claims::default();
        self.claims.set_heard(ToClient, true);
        // Another SYN waits as if it had come after this segment.
        self.complete_by(segment, if attempt == Attempt::Syn && asked != client { asked } else { 0 }, 0);
        true
    }
}

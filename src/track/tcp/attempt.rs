//! A new attempt within a conversation: the client has lost its state and starts again.

use crate::connection::Direction::{self, ToClient, ToServer};
use crate::track::claims::{Attempt, Claims};
use crate::track::phase::Phase;
use crate::track::tcp::{AT_ONCE, EARLY, Tcp};
use crate::wire::tcp::{ACK, Segment};

impl Tcp {
    /// A SYN in a conversation: the client has lost its state and starts again, or somebody pretends that it does. The
    /// server's answer will tell.
    pub(super) fn attempt(&mut self, direction: Direction, segment: &Segment) -> bool {
        let behind = segment.sequence.wrapping_add(1);
        let claims = &mut self.claims;
        let number = segment.acknowledgment;
        let attempted = matches!(claims.attempt(), Attempt::Syn | Attempt::SynAck);
        let answers = direction == ToClient
            && segment.has(ACK)
            && attempted
            && number.wrapping_sub(claims.numbers[0]) <= claims.syn_data();
        // A late copy of the SYN that the connection began with; so is what answers it. But a server that was restarted may
        // begin with the same number again.
        if !answers && behind == self.sequences.expected(direction.opposite()) {
            return false;
        }
        match (direction, segment.has(ACK)) {
            (ToServer, false) => {
                if claims.attempt() != Attempt::None && claims.numbers[0] == behind {
                    return false;
                }
                // One of the two may be late, and it may be this one: then the client acknowledges that answer still.
                let answer = if attempted { claims.numbers[1] } else { 0 };
                self.claim_attempt(behind, segment.data);
                self.claims.numbers[1] = answer;
                false
            }
            (ToClient, true) => {
                // One that fits is a late copy, or answers a late copy. Or it answers an attempt that was given up.
                if !answers && (attempted || self.sequences.may_acknowledge(ToClient, number)) {
                    return false;
                }
                // Of the data so much as is acknowledged. The SYN may come again.
                let begins = if answers { claims.numbers[0] } else { number };
                claims.set_syn_data(number.wrapping_sub(begins));
                claims.numbers = [begins, behind];
                claims.set_attempt(if answers { Attempt::SynAck } else { Attempt::Unasked });
                if self.phase == Phase::Established {
                    // The fast path must not take what completes it, as in `Self::settle`.
                    self.phase = Phase::EstablishedPending;
                }
                answers
            }
            _ => false,
        }
    }

    /// A SYN of the client with this number behind it, and so much data, waits for an answer. Whatever was claimed before is
    /// forgotten.
    fn claim_attempt(&mut self, behind: u32, data: u32) {
        self.claims.clear_numbers();
        self.claims.numbers[0] = behind;
        self.claims.set_syn_data(data);
        self.claims.set_attempt(Attempt::Syn);
    }

    /// The server has reset a handshake. It may have answered one copy of the SYN so, and answer the next one otherwise.
    pub(crate) fn await_another_answer(&mut self) {
        self.claim_attempt(self.behind_syn(), self.claims.syn_data());
    }

    /// The numbers with which both sides go on from an attempt that the server has answered.
    pub(super) fn answered_numbers(&self) -> [u32; 2] {
        let [client, server] = self.claims.numbers;
        [client.wrapping_add(self.claims.syn_data()), server]
    }

    /// Whether a client's segment completes an attempt; then it is the connection.
    pub(super) fn starts_again(&mut self, segment: &Segment) -> bool {
        let [mut client, server] = self.answered_numbers();
        let early = segment.acknowledgment.wrapping_sub(server);
        let begins = match self.claims.attempt() {
            Attempt::None => false,
            // The SYN before this one was answered, and only its client knows with which number.
            Attempt::Syn => {
                client = segment.sequence;
                server != 0 && early == 0
            }
            Attempt::SynAck | Attempt::Unasked => segment.sequence.wrapping_sub(client) < AT_ONCE && early <= EARLY,
        };
        // Both SYNs were late copies, unless the client's is ahead of all that it has sent.
        let ahead = self.claims.attempt() != Attempt::Syn && self.sequences.is_new(ToServer, self.claims.numbers[0]);
        if !begins || !ahead && self.sequences.continues(ToServer, segment) {
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
}

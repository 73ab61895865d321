//! The handshake: SYN, SYN+ACK and the ACK that completes it are matched by their numbers.

use crate::connection::Direction::{self, ToClient, ToServer};
use crate::track::claims::Fin;
use crate::track::phase::Phase;
use crate::track::sequence::WINDOW;
use crate::track::tcp::{EARLY, Tcp};
use crate::wire::tcp::{ACK, FIN, SYN, Segment};

impl Tcp {
    // A handshake uses the numbers as follows. Of the client, `sent` lies after its latest SYN and the most data that a
    // SYN has carried; `acknowledged` is the number after the server's latest SYN. Of the server, `sent` lies after its
    // SYN and what came with it or after it; `acknowledged` is what its latest answer acknowledged.

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn handshake(&mut self, direction: Direction, segment: &Segment) -> bool {
        match (direction, segment.has(SYN), segment.has(ACK)) {
            (ToServer, true, false) => self.clients_syn(segment),
            (ToServer, true, true) => self.clients_syn_ack(segment),
            (ToServer, false, true) => self.completes(segment),
            (_, false, false) => false,
            (ToClient, ..) => self.servers_segment(segment),
        }
    }

    /// The number after the client's latest SYN, its data not counted.
    pub(super) fn after_syn(&self) -> u32 {
        self.sequences.end(ToServer).wrapping_sub(self.claims.syn_data())
    }

    /// Whether a number acknowledges a SYN with this number after it, and all, some or none of its data (RFC 7413).
    pub(super) fn acknowledges(&self, number: u32, after_syn: u32) -> bool {
        number.wrapping_sub(after_syn) <= self.claims.syn_data()
    }

    /// The same for the SYN of the other attempt, if there is one.
    pub(super) fn acknowledges_other(&self, number: u32) -> bool {
        let [other, _] = self.claims.numbers;
        other != 0 && self.acknowledges(number, other)
    }

    /// A SYN that is repeated, perhaps without its data, or that begins another attempt. The server's answer to the
    /// previous attempt is kept: the client's acknowledgement will show which of them survives.
    pub(super) fn clients_syn(&mut self, segment: &Segment) -> bool {
        let start = segment.sequence.wrapping_add(1);
        let known = self.after_syn();
        if start != known {
            self.claims.numbers[ToServer as usize] = known;
            self.phase = Phase::Opening;
        }
        self.claims.set_heard(ToServer, true);
        self.claims.set_syn_data(self.claims.syn_data().max(segment.data));
        self.sequences.set_sent(ToServer, start.wrapping_add(self.claims.syn_data()));
        true
    }

    /// A segment of the server: its SYN, with ACK or, in a simultaneous open, without (RFC 9293, section 3.5); or,
    /// without SYN, early data, or a challenge ACK about an older connection (RFC 5961, section 4).
    pub(super) fn servers_segment(&mut self, segment: &Segment) -> bool {
        let syn = segment.has(SYN);
        if !segment.has(ACK) && self.claims.syn_acknowledged(ToClient) {
            // The client has acknowledged a SYN, and accepts no other.
            return false;
        }
        let after = segment.sequence.wrapping_add(syn.into());
        let end = segment.end();
        let answered = self.claims.syn_acknowledged(ToServer);
        let before = self.sequences.expected(ToServer);
        let mut accepted = if segment.has(ACK) {
            self.acknowledges(segment.acknowledgment, self.after_syn())
        } else {
            // A simultaneous open.
            syn && !(answered && self.phase == Phase::Opened)
        };
        if !syn && self.phase == Phase::Opened {
            accepted &= end.wrapping_sub(before) <= EARLY;
            if accepted {
                if self.sequences.is_new(ToClient, end) {
                    self.sequences.set_sent(ToClient, end);
                    self.claims.set_fin(ToClient, Fin::None);
                }
                // A FIN that ends after the SYN would occupy the SYN's number.
                if segment.has(FIN) && end != before && self.sequences.end(ToClient) == end {
                    self.claims.set_fin(ToClient, Fin::Sent);
                }
                self.acknowledge_clients_syn(segment.acknowledgment);
            }
            return accepted;
        }
        let other = self.claims.numbers[ToServer as usize];
        if syn && !accepted && other != 0 && (!segment.has(ACK) || self.acknowledges_other(segment.acknowledgment)) {
            // It answers the other attempt, or, since this one is answered already, opens simultaneously with the other
            // one.
            self.claims.numbers[ToServer as usize] = self.after_syn();
            self.sequences.set_sent(ToServer, other.wrapping_add(self.claims.syn_data()));
            accepted = true;
        }
        accepted &= syn;
        // An answer to no known attempt is remembered as long as there is nothing better: the client may show what it
        // is, by a RST with this number or by continuing with it. What is no SYN and is about the other attempt is a
        // challenge: the client has given that attempt up.
        if !accepted && (answered || self.phase == Phase::Opened || self.acknowledges_other(segment.acknowledgment)) {
            return false;
        }
        if answered && before != after {
            self.claims.numbers[ToClient as usize] = before;
        }
        if before != after {
            // The client has not acknowledged this SYN yet.
            self.claims.set_syn_acknowledged(ToClient, false);
        }
        if before != after || self.sequences.is_new(ToClient, end) {
            self.sequences.set_sent(ToClient, end);
            self.claims.set_fin(ToClient, Fin::None);
        }
        self.sequences.set_acknowledged(ToServer, after);
        if accepted {
            self.claims.set_heard(ToClient, true);
            self.phase = Phase::Opened;
            self.claims.set_syn_acknowledged(ToServer, segment.has(ACK));
        }
        // In a simultaneous open, what the server has acknowledged before was another attempt.
        self.sequences.set_acknowledged(ToClient, if segment.has(ACK) { segment.acknowledgment } else { 0 });
        self.complete_if_both_acknowledged();
        accepted
    }

    pub(super) fn acknowledge_clients_syn(&mut self, number: u32) {
        self.sequences.set_acknowledged(ToClient, number);
        self.claims.set_syn_acknowledged(ToServer, true);
        self.complete_if_both_acknowledged();
    }

    /// In a simultaneous open the client, too, acknowledges a SYN with its own (RFC 9293, section 3.5). Its knowledge
    /// of the server's number shows that this is its attempt.
    pub(super) fn clients_syn_ack(&mut self, segment: &Segment) -> bool {
        let number = segment.acknowledgment;
        if number == 0 || self.sequences.expected(ToServer) != number {
            return false;
        }
        self.phase = Phase::Opened;
        let after = segment.sequence.wrapping_add(1);
        self.claims.set_syn_acknowledged(ToClient, true);
        if !self.claims.syn_acknowledged(ToServer) {
            self.sequences.set_sent(ToServer, after.wrapping_add(self.claims.syn_data()));
            self.sequences.set_acknowledged(ToClient, after);
        }
        self.complete_if_both_acknowledged();
        true
    }

    pub(super) fn complete_if_both_acknowledged(&mut self) {
        if self.claims.syn_acknowledged(ToServer) && self.claims.syn_acknowledged(ToClient) {
            self.sequences.set_sent(ToServer, self.sequences.expected(ToClient));
            self.complete();
            self.settle();
        }
    }

    /// Both ends have acknowledged each other's SYN. [`Self::settle`] must follow.
    pub(super) fn complete(&mut self) {
        self.claims.clear_numbers();
        self.claims.set_heard(ToServer, true);
        self.phase = Phase::Established;
    }

    /// A client's segment that may complete the handshake: it acknowledges the server's latest SYN and continues where
    /// the server's acknowledgement ended, or it acknowledges the server's previous SYN.
    pub(super) fn completes(&mut self, segment: &Segment) -> bool {
        let number = segment.acknowledgment;
        let after = self.sequences.expected(ToServer);
        let latest = number.wrapping_sub(after) <= self.sequences.end(ToClient).wrapping_sub(after);
        let before = self.claims.numbers[ToClient as usize];
        let earlier = !latest && before != 0 && number == before;
        let expected = self.sequences.expected(ToClient);
        // An answer to no known SYN has to be confirmed to the byte, and without an answer there is nothing to confirm.
        let room = if self.claims.syn_acknowledged(ToServer) { WINDOW } else { u32::from(expected != 0) };
        let goes_on = segment.sequence.wrapping_sub(expected) < room;
        // Only the client knows the number of an answer to another attempt.
        if !(earlier || latest && goes_on) {
            return false;
        }
        if earlier {
            self.sequences.set_sent(ToClient, number);
            self.claims.set_fin(ToClient, Fin::None);
        }
        // The first byte of one attempt may look like data of the one that was answered last.
        let begins = if goes_on
            && (latest || segment.sequence != self.claims.numbers[0] && segment.sequence != self.after_syn())
        {
            expected
        } else {
            segment.sequence
        };
        self.sequences.set_acknowledged(ToClient, begins);
        // If it completes an attempt other than the latest, the latest SYN and its answer are treated as if they had
        // come after this segment.
        let latest = self.after_syn();
        let late = !self.acknowledges(begins, latest);
        self.complete_by(segment, if late { latest } else { 0 }, if earlier { after } else { 0 });
        true
    }

    /// This segment of the client completes the handshake, and is the first one of the conversation. Another attempt
    /// may still be waiting: `waiting` is the number after its SYN, and `answer` the number after its answer; zero if
    /// there is none.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn complete_by(&mut self, segment: &Segment, waiting: u32, answer: u32) {
        self.complete();
        self.await_answer(waiting, answer);
        self.sequences.set_acknowledged(ToServer, segment.acknowledgment);
        self.sequences.set_sent(ToServer, segment.end());
        self.take_fin(ToServer, segment);
        self.settle();
    }
}

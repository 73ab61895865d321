//! A handshake that is not complete.

use byway_testing::packet::{ACK, FIN, SYN};

use super::attempt::Attempt;
use super::conversation::Conversation;
use super::rules::met;
use super::side::{Fin, Side, side};
use super::{EARLY, Reset, Segment, Sign, UNKNOWN, WINDOW, Way, between, covers, distance, is_in_flight, known};

/// A handshake that is not complete.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    /// `Opened`, rather than `Opening`.
    pub(super) opened: bool,
    /// The number behind the SYN that counts.
    pub(super) attempt: u32,
    /// The same of another attempt of the client.
    pub(super) other: Option<u32>,
    /// The most data that came with a SYN.
    pub(super) data: u32,
    /// The number behind the server's SYN, which the client will acknowledge.
    pub(super) start: u32,
    /// The number behind the server's early data.
    pub(super) end: u32,
    pub(super) fin: Fin,
    /// The number behind the SYN of a SYN+ACK before.
    pub(super) before: Option<u32>,
    /// What the server has acknowledged, be it an attempt or not.
    pub(super) acknowledged: u32,
    /// The server has acknowledged the client's SYN.
    pub(super) is_client_acknowledged: bool,
    /// The client has acknowledged the server's SYN by a SYN+ACK.
    pub(super) is_server_acknowledged: bool,
    pub(super) is_server_heard: bool,
}

impl Handshake {
    /// A client has sent a SYN, or, if that is still to come, it will.
    pub(super) fn new(attempt: u32) -> Self {
        Self {
            opened: false,
            attempt,
            other: None,
            data: 0,
            start: UNKNOWN,
            end: UNKNOWN,
            fin: Fin::None,
            before: None,
            acknowledged: UNKNOWN,
            is_client_acknowledged: false,
            is_server_acknowledged: false,
            is_server_heard: false,
        }
    }

    /// The server has answered an attempt within a conversation, so that its numbers are the ones to go on with.
    pub(super) fn answered(attempt: Attempt) -> Self {
        Self {
            opened: true,
            data: attempt.data,
            acknowledged: attempt.acknowledged(),
            start: attempt.server,
            end: attempt.server,
            is_client_acknowledged: true,
            is_server_heard: true,
            ..Self::new(attempt.client)
        }
    }

    /// The other attempt goes on, and nobody has answered it. The RST may come again.
    pub(super) fn replaced(&self) -> Self {
        let attempt = self.other.expect("it goes on");
        Self {
            other: known(self.attempt),
            before: self.before,
            data: self.data,
            is_server_heard: true,
            ..Self::new(attempt)
        }
    }

    /// The number after the SYN with which the server has answered an attempt, if that is not the answer that this RST is about;
    /// else of the answer before. A client that has acknowledged it does not obey the RST.
    pub(super) fn answer_beside(&self, reset: Segment) -> Option<u32> {
        let is_about_it = between(reset.sequence, self.start, self.end);
        if self.is_client_acknowledged && !is_about_it { known(self.start) } else { self.before }
    }

    /// The client refuses what the server has answered to something else.
    pub(super) fn forget_answer(&mut self) {
        self.opened = false;
        (self.start, self.end, self.before) = (UNKNOWN, UNKNOWN, None);
        (self.is_client_acknowledged, self.acknowledged) = (false, UNKNOWN);
    }

    /// What is known of the client's side.
    pub(super) fn client(&self) -> Side {
        side(self.attempt.wrapping_add(self.data), self.start, true)
    }

    pub(super) fn server(&self) -> Side {
        Side { fin: self.fin, ..side(self.end, self.acknowledged, self.is_server_heard) }
    }

    fn acknowledges_attempt(&self, number: u32) -> bool {
        covers(number, self.attempt, self.data)
    }

    fn acknowledges_other(&self, number: u32) -> bool {
        self.other.is_some_and(|other| covers(number, other, self.data))
    }

    pub(super) fn follow(&mut self, way: Way, segment: Segment) -> (Sign, Option<Conversation>) {
        match (way, segment.has(SYN), segment.has(ACK)) {
            (Way::There, true, false) => {
                self.attempt_again(segment);
                (Sign::OfLife, None)
            }
            (Way::There, true, true) => self.open_as_client(segment),
            (Way::There, false, true) => self.complete(segment),
            (Way::Back, true, true) => self.answer(segment),
            (Way::Back, true, false) => (self.open_too(segment), None),
            (Way::Back, false, true) => self.speak_early(segment),
            (_, false, false) => {
                met("handshake: accepted by nobody");
                (Sign::None, None)
            }
        }
    }

    /// A SYN of the client.
    fn attempt_again(&mut self, syn: Segment) {
        let number = syn.behind_syn();
        if syn.data > self.data {
            met("more data with a SYN");
            self.data = syn.data;
        }
        if number == self.attempt {
            met("SYN repeated");
            return;
        }
        met(if self.is_client_acknowledged { "SYN after an answer" } else { "SYN before an answer" });
        self.other = known(self.attempt);
        self.attempt = number;
        self.opened = false;
    }

    /// A SYN+ACK of the server.
    pub(super) fn answer(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        let number = segment.acknowledgment;
        if !self.acknowledges_attempt(number) && self.acknowledges_other(number) {
            met("other attempt answered");
            let answered = self.other.expect("it is answered");
            self.other = known(self.attempt);
            self.attempt = answered;
        }
        if !self.acknowledges_attempt(number) {
            self.remember_if_nothing_is_better(segment);
            return (Sign::None, None);
        }
        met(match distance(number, self.attempt) {
            0 if self.data == 0 => "SYN+ACK for a SYN without data",
            0 => "SYN+ACK for none of the data",
            some if some < i64::from(self.data) => "SYN+ACK for some of the data",
            _ => "SYN+ACK for all of the data",
        });
        self.take_servers_numbers(segment);
        (self.opened, self.is_server_heard) = (true, true);
        self.acknowledged = number;
        self.is_client_acknowledged = true;
        (Sign::OfLife, self.both_acknowledged())
    }

    /// A SYN of the server without ACK: both open at once.
    fn open_too(&mut self, segment: Segment) -> Sign {
        if self.is_server_acknowledged {
            met("SYN of the server after the client has acknowledged one");
            return Sign::None;
        }
        if self.is_client_acknowledged && self.opened {
            let Some(other) = self.other else {
                met("SYN of the server after its SYN+ACK");
                return Sign::None;
            };
            met("both open, with the other attempt");
            (self.attempt, self.other) = (other, known(self.attempt));
        } else {
            met(if self.is_client_acknowledged {
                "both open after an answer to the other attempt"
            } else {
                "both open"
            });
        }
        self.take_servers_numbers(segment);
        (self.opened, self.is_server_heard) = (true, true);
        // Whatever it has acknowledged was another attempt.
        (self.is_client_acknowledged, self.acknowledged) = (false, UNKNOWN);
        Sign::OfLife
    }

    /// A segment of the server that acknowledges no attempt, or has no SYN where one is due.
    fn remember_if_nothing_is_better(&mut self, segment: Segment) {
        if self.opened || self.is_client_acknowledged {
            met("unrelated answer after a better one");
            return;
        }
        met("unrelated answer remembered");
        self.take_servers_numbers(segment);
        self.acknowledged = segment.acknowledgment;
    }

    /// What the client may acknowledge from now on.
    fn take_servers_numbers(&mut self, segment: Segment) {
        let start = if segment.has(SYN) { segment.behind_syn() } else { segment.sequence };
        let end = segment.end();
        let another = start != self.start;
        if another {
            if self.is_client_acknowledged {
                met("second SYN+ACK");
                self.before = known(self.start);
            }
            self.start = start;
            self.is_server_acknowledged = false;
        }
        if another || distance(end, self.end) > 0 {
            self.end = end;
            self.fin = Fin::None;
        }
    }

    /// A segment of the server without SYN.
    fn speak_early(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        if !self.opened && self.acknowledges_other(segment.acknowledgment) {
            met("challenge about the other attempt");
            return (Sign::None, None);
        }
        if !self.opened {
            met("challenge before the handshake");
            self.remember_if_nothing_is_better(segment);
            return (Sign::None, None);
        }
        let end = segment.end();
        if !self.acknowledges_attempt(segment.acknowledgment) {
            met("early data for another attempt");
            return (Sign::None, None);
        }
        if !(0..=EARLY).contains(&distance(end, self.start)) {
            met("too much early data");
            return (Sign::None, None);
        }
        if distance(end, self.end) > 0 {
            met("early data");
            self.end = end;
            self.fin = Fin::None;
        }
        // One that ends behind the SYN would stand in its place.
        if segment.has(FIN) && end == self.end && end != self.start {
            met("early FIN");
            self.fin = Fin::Sent;
        }
        self.acknowledged = segment.acknowledgment;
        self.is_client_acknowledged = true;
        (Sign::OfLife, self.both_acknowledged())
    }

    /// A SYN+ACK of the client: both open at once.
    fn open_as_client(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        if segment.acknowledgment != self.start || self.start == UNKNOWN {
            met("SYN+ACK of the client for nothing");
            return (Sign::None, None);
        }
        met("SYN+ACK of the client");
        self.opened = true;
        self.is_server_acknowledged = true;
        if !self.is_client_acknowledged {
            self.attempt = segment.behind_syn();
            self.acknowledged = segment.behind_syn();
        }
        (Sign::OfLife, self.both_acknowledged())
    }

    /// Whether both SYNs are acknowledged, each by an end that has sent one itself.
    fn both_acknowledged(&self) -> Option<Conversation> {
        if !(self.is_client_acknowledged && self.is_server_acknowledged) {
            return None;
        }
        met("both have acknowledged the other's SYN");
        Some(self.completed(side(self.acknowledged, self.start, true)))
    }

    /// The conversation that begins with this client.
    pub(super) fn completed(&self, client: Side) -> Conversation {
        let mut conversation = Conversation::new(client, self.server());
        conversation.note_acknowledged_fins();
        conversation
    }

    /// A segment of the client that may complete the handshake.
    pub(super) fn complete(&self, segment: Segment) -> (Sign, Option<Conversation>) {
        let (sequence, number) = (segment.sequence, segment.acknowledgment);
        let latest = between(number, self.start, self.end);
        let before = !latest && self.before == Some(number);
        // What acknowledges no attempt has to be confirmed to the byte.
        let begins = if self.is_client_acknowledged {
            (0..WINDOW).contains(&distance(sequence, self.acknowledged))
        } else {
            self.acknowledged != UNKNOWN && sequence == self.acknowledged
        };
        // Only the client knows the number of an answer to another attempt.
        if !(before || latest && begins) {
            met("completes nothing");
            return (Sign::None, None);
        }
        // A number that happens to be zero is that of an attempt that is not known.
        let is_another = self.other.unwrap_or(UNKNOWN) == sequence || self.attempt == sequence;
        met(match (latest, begins, self.is_client_acknowledged) {
            (true, _, true) if number == self.start => "completes",
            (true, _, true) => "completes and acknowledges early data",
            (true, _, false) => "completes what the server said of an unknown attempt",
            (false, true, _) if is_another => "completes the other attempt, which is near",
            (false, true, _) => "completes with the SYN+ACK before",
            (false, false, _) => "completes the other attempt",
        });
        let mut complete = self.clone();
        if before {
            (complete.end, complete.fin) = (number, Fin::None);
        }
        if !begins || before && is_another {
            complete.acknowledged = sequence;
        }
        let mut conversation = complete.completed(side(segment.end(), number, true));
        conversation.note_fin(Way::There, segment);
        conversation.note_acknowledged_fins();
        if !self.acknowledges_attempt(complete.acknowledged) {
            met("completes with a later SYN under way");
            let later = known(self.attempt).map(|attempt| Attempt::asked(attempt, 0));
            // Its answer came already, if it was the later one.
            let otherwise = if before { self.start } else { UNKNOWN };
            conversation.attempt = later.map(|attempt| Attempt { otherwise, ..attempt });
        }
        (Sign::OfLife, Some(conversation))
    }

    pub(super) fn judge_reset(&self, way: Way, segment: Segment) -> Reset {
        let over = if self.opened && self.other.is_some() { Reset::Replaced } else { Reset::Exact };
        let number = segment.sequence;
        match way {
            Way::Back if segment.has(ACK) && self.acknowledges_attempt(segment.acknowledgment) => over,
            Way::Back if segment.has(ACK) && self.acknowledges_other(segment.acknowledgment) => Reset::Elsewhere,
            // A client that has got no answer obeys nothing else.
            Way::Back if !self.opened => Reset::Elsewhere,
            Way::Back if number == self.start => over,
            Way::Back if is_in_flight(number, self.start, self.end) => Reset::InFlight,
            Way::Back => Reset::Elsewhere,
            Way::There if !self.opened || !self.is_client_acknowledged => {
                if self.acknowledges_attempt(number) {
                    Reset::Exact
                } else if number != UNKNOWN && number == self.acknowledged {
                    Reset::Refused
                } else {
                    Reset::Elsewhere
                }
            }
            Way::There if number == self.acknowledged => over,
            Way::There if is_in_flight(number, self.acknowledged, self.attempt.wrapping_add(self.data)) => {
                Reset::InFlight
            }
            // It has sent a SYN, and refuses whatever answers something else.
            Way::There => Reset::Elsewhere,
        }
    }
}

//! What is left of a connection that is over.

use byway_testing::packet::{ACK, SYN};

use super::attempt::{Attempt, Is};
use super::conversation::Conversation;
use super::handshake::Handshake;
use super::rules::met;
use super::side::{Fin, Side};
use super::{Life, Segment, Sign, Way};

/// What is left of a connection that is over.
#[derive(Clone, Debug)]
pub(super) struct Over {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) vouched: bool,
    /// It was waiting.
    pub(super) attempt: Option<Attempt>,
}

impl Over {
    pub(super) fn new(client: Side, server: Side) -> Self {
        Self { client, server, vouched: false, attempt: None }
    }

    /// What lives again, if the server answers an attempt now, or the client completes one.
    pub(super) fn follow(&mut self, way: Way, segment: Segment) -> (Sign, Option<Life>) {
        let (number, behind_syn) = (segment.acknowledgment, segment.behind_syn());
        let mut conversation = Conversation { attempt: self.attempt, ..Conversation::new(self.client, self.server) };
        if way == Way::Back && segment.has(SYN) && segment.has(ACK) {
            if let Some(attempt) = self.attempt.filter(|attempt| attempt.is_acknowledged_by(number)) {
                met("opened again");
                let data = number.wrapping_sub(attempt.client);
                let answered = Attempt { data, server: behind_syn, ..attempt };
                return (Sign::OfLife, Some(Life::Handshake(Handshake::answered(answered))));
            }
            if behind_syn != self.client.expected {
                self.attempt = self.attempt.map(|attempt| attempt.answered_otherwise(behind_syn));
            }
        }
        // A FIN that is repeated, or the ACK behind it.
        let me = if way == Way::There { self.client } else { self.server };
        let behind_fin = me.fin == Fin::Acknowledged && segment.end() == me.sent;
        let repeated = segment.has(ACK) && !segment.has(SYN) && behind_fin;
        let asked = self.attempt.is_some_and(|attempt| attempt.is == Is::Asked);
        let may_complete = way == Way::There && segment.has(ACK) && !segment.has(SYN) && asked;
        if may_complete && conversation.completes_attempt(segment) {
            conversation.begin_anew(segment);
            return (Sign::OfLife, Some(Life::Conversation(conversation)));
        }
        met(match (repeated, behind_fin) {
            (true, _) => "repeated after the end",
            (false, true) => "behind a FIN after the end, and no repetition",
            (false, false) => "something else after the end",
        });
        (if repeated { Sign::OfLife } else { Sign::None }, None)
    }
}

//! What opens a connection again that is over.

use byway_testing::packet::{ACK, SYN};

use super::attempt::{Attempt, Is};
use super::conversation::Conversation;
use super::handshake::Handshake;
use super::over::Over;
use super::rules::met;
use super::{Life, Segment, Way};

/// What lives again, if the server answers an attempt now, or the client completes one.
pub(super) fn open_again(over: &mut Over, way: Way, segment: Segment) -> Option<Life> {
    let attempt = over.attempt?;
    match (way, segment.has(SYN), segment.has(ACK)) {
        (Way::Back, true, true) => {
            let (number, server) = (segment.acknowledgment, segment.behind_syn());
            if attempt.is_acknowledged_by(number) {
                met("opened again");
                let data = number.wrapping_sub(attempt.client);
                return Some(Life::Handshake(Handshake::answered(Attempt { data, server, ..attempt })));
            }
            if server != over.client.expected {
                over.attempt = Some(attempt.answered_otherwise(server));
            }
            None
        }
        (Way::There, false, true) if attempt.is == Is::Asked => {
            let mut conversation =
                Conversation { attempt: over.attempt, ..Conversation::new(over.client, over.server) };
            conversation.completes_attempt(segment, true).then(|| {
                conversation.begin_anew(segment);
                Life::Conversation(conversation)
            })
        }
        _ => None,
    }
}

//! A connection that is over: what is a sign of life of it, and what opens it again.

use byway_testing::packet::{ACK, SYN};

use super::attempt::Is;
use super::conversation::{Conversation, Misfit};
use super::handshake::Handshake;
use super::rules::met;
use super::side::Fin;
use super::{Life, Segment, Sign, Way};

/// What a segment says of a connection that is over; and what lives again, if it does.
pub(super) fn follow(over: &mut Conversation, way: Way, segment: Segment) -> (Sign, Option<Life>) {
    match (way, segment.has(SYN), segment.has(ACK)) {
        (Way::Back, true, true) => {
            let sign = over.answer_attempt(segment);
            let answered = over.answered_attempt().filter(|_| sign == Sign::OfLife).map(|attempt| {
                met("opened again");
                Life::Handshake(Handshake::answered(attempt))
            });
            (sign, answered)
        }
        (Way::There, false, true) if completes(over, segment) => {
            over.begin_anew(segment);
            (Sign::OfLife, Some(Life::Conversation(over.clone())))
        }
        (_, false, true) => go_on(over, way, segment),
        _ => {
            met("accepted by nobody after the end");
            (Sign::None, None)
        }
    }
}

/// After the end, a server that still waits for this segment repeats its SYN.
fn completes(over: &Conversation, segment: Segment) -> bool {
    over.attempt.is_some_and(|attempt| attempt.is == Is::Asked) && over.completes_attempt(segment, true)
}

/// A segment that belongs to no attempt.
fn go_on(over: &mut Conversation, way: Way, segment: Segment) -> (Sign, Option<Life>) {
    if [over.client, over.server].iter().all(|side| side.fin == Fin::Acknowledged) {
        // A FIN that is repeated, or the ACK behind it.
        if segment.end() == over.seen_from(way).0.sent {
            met("repeated after the end");
            return (Sign::OfLife, None);
        }
        met("something else after the end");
    }
    if !over.are_both_heard() {
        met("after the end of what was not heard of both sides");
        return (Sign::None, None);
    }
    if over.fits(way, segment) {
        met("late after the end");
        return (Sign::None, None);
    }
    let misfit = over.misfit(way, segment);
    let again = (misfit == Misfit::Convinces).then(|| {
        met("both ends go on after the end");
        if over.fits(way, segment) {
            over.take(way, segment);
        }
        Life::Conversation(over.clone())
    });
    (misfit.sign(), again)
}

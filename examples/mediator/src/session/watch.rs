//! Looking after a session's client: whose turn it is, and what becomes of a client that is too slow.

use byway::Instant;
use smoltcp::phy;

use super::{Session, Shared, State, Stream};
use crate::coap::transfer::Transfer;
use crate::counters::Reason;

/// What the client is doing, as far as its time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing.
    Idle,
    /// It sends the head of a request.
    Head,
    /// It sends the body, waits, or reads the response.
    Request,
}

impl Session {
    /// Lets its client go if that is too slow, and refuses a request that has waited too long for a lane. Returns whether the
    /// session has something to do now: [`drive`](Self::drive) it, or take it away if it is [closed](Self::is_closed).
    pub fn check<D: phy::Device>(&mut self, now: Instant, stream: &mut impl Stream, shared: &mut Shared<D>) -> bool {
        let before = self.state;
        self.clock.read(now);
        if let State::Lingering { until, .. } = self.state
            && until <= now
        {
            self.state = State::Closed;
        }
        if !self.is_waiting() {
            self.since = None;
        } else if *self.since.get_or_insert(now) + shared.pace.patience <= now {
            self.waiting = None;
            self.refuse(503, Reason::NoLane, "too many transfers of this resource at once", shared);
        }
        if self.clock.is_over(&shared.pace) {
            self.let_go(now, stream, shared);
        }
        if self.state == State::Closed {
            self.end(shared);
        }
        self.state != before || self.is_starved()
    }

    /// Ends a connection whose client is too slow. One that has asked for something is told so, unless it does not read.
    fn let_go<D>(&mut self, now: Instant, stream: &mut impl Stream, shared: &mut Shared<D>) {
        let has_unread = self.sent < self.output.len();
        let is_silent = self.active + shared.pace.patience <= now;
        let reason = if is_silent { Reason::ClientIdle } else { Reason::ClientSlow };
        if self.stage == Stage::Idle {
            self.state = State::Closed;
        } else if has_unread || self.response.is_begun {
            shared.counters.count(reason);
            // What it has is not the whole, and what it has not read is not kept for it.
            stream.abort();
            self.state = State::Closed;
        } else {
            self.clock.reset();
            self.refuse(408, reason, "the request has come too slowly", shared);
        }
    }

    /// Notes whether it is the client's turn, after all was done that can be.
    pub(super) fn note_turn(&mut self, now: Instant) {
        let has_begun = !self.input.is_empty() || self.skipped != 0;
        let stage = match self.state {
            // A head that waits behind a response is not late.
            State::Head if has_begun && self.has_room() => Stage::Head,
            State::Head if self.sent == self.output.len() => Stage::Idle,
            _ => Stage::Request,
        };
        // For a request's body and its response the clock was reset with the end of the head.
        if core::mem::replace(&mut self.stage, stage) != stage && stage != Stage::Request {
            self.clock.reset();
        }
        let is_clients_turn = match self.state {
            State::Head | State::Closing => true,
            State::Working => self.sent < self.output.len() || self.awaits_body(),
            State::Lingering { .. } | State::Closed => false,
        };
        self.clock.turn(now, is_clients_turn);
    }

    /// Whether nothing can be done until more of the request's body has come.
    fn awaits_body(&self) -> bool {
        let is_free = |transfer: &Transfer| !transfer.is_busy() && !transfer.is_starved();
        !self.decoder.is_done() && self.transfer.as_ref().is_some_and(is_free)
    }
}

//! What else is known about an event. It is kept in a slot for measurements that belongs to no connection.

use super::{BYTES, Flags, MeasureSlot, set_upper, upper};
use crate::connection::Measured;
use crate::endpoint::Endpoint;
use crate::event::Moving;
use crate::time::{Instant, Tick};

/// What a slot is about. Zero: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Opened = 1,
    Moved = 2,
    Closed = 3,
}

impl MeasureSlot {
    /// The slot for the end of a connection at `now`, with what was measured of it, or for its opening.
    pub(crate) const fn about(mut self, about: About, client: Endpoint, last: Tick, now: Instant) -> Self {
        self.set_flags(Flags(about as u8));
        self.set_entry(client.port);
        self.probe_end = client.address;
        self.probe_at = last.0;
        self.wait(now);
        self
    }

    /// The slot for the move of a connection at `now` from this alternative endpoint.
    pub(crate) const fn about_move(
        alternative: Endpoint,
        generation: u32,
        how: Moving,
        client: Endpoint,
        now: Instant,
    ) -> Self {
        let mut slot = Self::EMPTY;
        slot.server_handshake = alternative.address;
        slot.smallest[0] = alternative.port;
        slot.client_handshake = generation;
        slot.largest[0] = how as u16;
        slot.about(About::Moved, client, Tick(0), now)
    }

    /// Whether this is about such an event of this client.
    pub(crate) fn is_about(&self, about: About, client: Endpoint) -> bool {
        upper(self.bytes[0], BYTES) == about as u16 && Endpoint::new(self.probe_end, self.entry()) == client
    }

    /// When the event happened.
    pub(crate) fn happened(&self, now: Instant) -> Instant {
        let ago = self.waited(now).unwrap_or(0);
        Instant::from_micros(now.as_micros().saturating_sub(ago))
    }

    /// What was measured until the end.
    pub(crate) fn final_report(&self, at: Instant) -> Measured {
        let mut slot = *self;
        set_upper(&mut slot.bytes[0], BYTES, 0);
        slot.report(Tick(self.probe_at), at)
    }

    /// The alternative endpoint before a move, the generation after it, and how it came about.
    pub(crate) const fn moved(&self) -> (Endpoint, u32, Moving) {
        let how = match self.largest[0] {
            1 => Moving::HandOver,
            2 => Moving::Record,
            _ => Moving::Instruction,
        };
        (Endpoint::new(self.server_handshake, self.smallest[0]), self.client_handshake, how)
    }
}

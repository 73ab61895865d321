//! The packets that a hand-over sends: to the new server, to the old server, and the new server's answer to the client.

use crate::time::Instant;
use crate::translator::handover::run::{Room, Run, SEND_ABORT, SEND_ACK, SEND_FAREWELL, SEND_SYN, Stage};
use crate::translator::handover::segment::{Outgoing, PSH};
use crate::translator::handover::splice::farewell;
use crate::wire::tcp::{ACK, RST, SYN};

/// The new server is never offered a smaller window, or it would send byte by byte.
const LEAST_WINDOW: usize = 1_460;
/// How many bytes are sent before any are acknowledged (RFC 6928).
const INITIAL_WINDOW: u32 = 14_600;

impl Run {
    /// How many bytes of the request may be sent now.
    pub(super) fn unsent(&self) -> usize {
        if self.stage != Stage::Replaying {
            return 0;
        }
        let window = self.peer.window.min(INITIAL_WINDOW) as usize;
        self.request.min(self.acknowledged + window).saturating_sub(self.sent)
    }

    /// How many bytes the new server may send before it has taken over: at most the client's window, which applies
    /// afterwards, unless that is closed at the moment.
    fn offered(&self, room: usize) -> usize {
        let client = (self.standing.resume.client_window_bytes() as usize).max(LEAST_WINDOW);
        if room == 0 { client } else { room.min(client) }
    }

    /// The window that the new server is offered: the room in the buffer, and after the move the client's own window.
    #[inline(always)]
    fn window(&self, room: &Room<'_>, replays: bool) -> u16 {
        // In units of the scale that the new server was offered, if it scales too.
        let scale = self.peer.offer.scale.and(self.offer().scale).unwrap_or(0);
        if self.stage == Stage::Ending || !replays {
            return (self.standing.resume.client_window_bytes() >> scale).min(u32::from(u16::MAX)) as u16;
        }
        let free = self.offered(room.answer.len()).saturating_sub(self.answered);
        // With a large scale, one unit is more than there is room for: bytes that do not fit will be retransmitted.
        (free >> scale).clamp(1, usize::from(u16::MAX)) as u16
    }

    /// The next segment for a server. `None` if there is none.
    #[inline(always)]
    pub(super) fn next_for_server<'r>(
        &mut self,
        now: Instant,
        room: &'r Room<'_>,
        most: usize,
        replays: bool,
    ) -> Option<Outgoing<'r>> {
        // If nothing is replayed, all of these are zero.
        let number = |bytes: usize| if replays { bytes as u32 } else { 0 };
        let clocks = self.has_clocks().then_some((self.standing.resume.client_clock, self.peer.clock));
        let mut outgoing = Outgoing {
            source: self.leg.alternative,
            destination: self.leg.to,
            sequence: self.first_byte().wrapping_add(number(self.sent)),
            acknowledgment: self.first_answer().wrapping_add(number(self.confirmed)),
            flags: ACK,
            window: self.window(room, replays),
            clocks,
            offer: None,
            data: &[],
        };
        let unsent = if replays { self.unsent() } else { 0 };
        if self.take_pending(SEND_FAREWELL) {
            (outgoing.sequence, outgoing.acknowledgment) = farewell(&self.standing);
            (outgoing.source, outgoing.destination) = (self.standing.entry.alternative_endpoint(), self.from());
            (outgoing.flags, outgoing.clocks) = (RST | ACK, None);
        } else if self.take_pending(SEND_ABORT) {
            (outgoing.flags, outgoing.clocks) = (RST | ACK, None);
        } else if self.take_pending(SEND_SYN) {
            self.timer = now.plus_micros(self.wait);
            (outgoing.sequence, outgoing.acknowledgment, outgoing.flags) = (self.initial, 0, SYN);
            outgoing.window = self.offered(room.answer.len()).clamp(1, usize::from(u16::MAX)) as u16;
            outgoing.clocks = clocks.map(|(clock, _)| (clock, 0));
            outgoing.offer = Some(self.offer());
        } else if unsent != 0 {
            let length = unsent.min(most).min(usize::from(self.peer.offer.mss.max(64)) - 12);
            outgoing.data = room.request.get(self.sent..self.sent + length)?;
            outgoing.flags = ACK | PSH;
            self.sent += length;
            self.pending &= !SEND_ACK;
        } else if self.take_pending(SEND_ACK) {
            // After the move, all bytes that were not for the client are acknowledged, and the client's window applies.
            if self.stage == Stage::Ending {
                outgoing.acknowledgment = self.first_answer().wrapping_add(number(self.dropped));
            }
        } else {
            return None;
        }
        Some(outgoing)
    }

    fn take_pending(&mut self, which: u8) -> bool {
        let is_pending = self.pending & which != 0;
        self.pending &= !which;
        is_pending
    }

    /// The next bytes of the answer that are for the client, as a segment of the new server.
    pub(super) fn next_for_client<'r>(&mut self, room: &'r Room<'_>, most: usize) -> Option<Outgoing<'r>> {
        if self.stage != Stage::Ending || self.flushed >= self.answered {
            return None;
        }
        let mss = usize::from(self.standing.resume.client_mss.max(64)) - 12;
        let length = (self.answered - self.flushed).min(most).min(mss);
        let data = room.answer.get(self.flushed..self.flushed + length)?;
        let sequence = self.first_answer().wrapping_add(self.flushed as u32);
        self.flushed += length;
        let window = (self.peer.window >> self.peer_scale()).min(u32::from(u16::MAX)) as u16;
        Some(Outgoing {
            source: self.leg.to,
            destination: self.leg.alternative,
            sequence,
            acknowledgment: self.first_byte().wrapping_add(self.request as u32),
            flags: ACK | PSH,
            window,
            clocks: self.has_clocks().then_some((self.peer.clock, self.standing.resume.client_clock)),
            offer: None,
            data,
        })
    }
}

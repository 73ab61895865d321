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
    fn window(&self, room: &Room<'_>) -> u16 {
        // In units of the scale that the new server was offered, if it scales too.
        let scale = self.peer.offer.scale.and(self.offer().scale).unwrap_or(0);
        if self.stage == Stage::Ending {
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
        let clocks = self.has_clocks().then_some((self.standing.resume.client_clock, self.peer.clock));
        let outgoing = Outgoing {
            source: self.alternative,
            destination: self.to,
            sequence: self.first_byte().wrapping_add(self.sent as u32),
            acknowledgment: self.first_answer().wrapping_add(self.confirmed as u32),
            flags: ACK,
            window: self.window(room),
            clocks,
            offer: None,
            data: &[],
        };
        if self.take_pending(SEND_FAREWELL) {
            let (sequence, acknowledgment) = farewell(&self.standing);
            let entry = &self.standing.entry;
            let (source, destination) = (entry.alternative_endpoint(), self.from());
            return Some(Outgoing {
                source,
                destination,
                sequence,
                acknowledgment,
                flags: RST | ACK,
                clocks: None,
                ..outgoing
            });
        }
        if self.take_pending(SEND_ABORT) {
            return Some(Outgoing { flags: RST | ACK, clocks: None, ..outgoing });
        }
        if self.take_pending(SEND_SYN) {
            self.timer = now.plus_micros(self.wait);
            let window = self.offered(room.answer.len());
            return Some(Outgoing {
                sequence: self.initial,
                acknowledgment: 0,
                flags: SYN,
                window: window.clamp(1, usize::from(u16::MAX)) as u16,
                clocks: clocks.map(|(clock, _)| (clock, 0)),
                offer: Some(self.offer()),
                ..outgoing
            });
        }
        let unsent = if replays { self.unsent() } else { 0 };
        if unsent != 0 {
            let length = unsent.min(most).min(usize::from(self.peer.offer.mss.max(64)) - 12);
            let data = room.request.get(self.sent..self.sent + length)?;
            self.sent += length;
            self.pending &= !SEND_ACK;
            return Some(Outgoing { flags: ACK | PSH, data, ..outgoing });
        }
        if self.take_pending(SEND_ACK) {
            // After the move, all bytes that were not for the client are acknowledged, and the client's window applies.
            let confirmed = if self.stage == Stage::Ending { self.dropped } else { self.confirmed };
            return Some(Outgoing { acknowledgment: self.first_answer().wrapping_add(confirmed as u32), ..outgoing });
        }
        None
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
            source: self.to,
            destination: self.alternative,
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

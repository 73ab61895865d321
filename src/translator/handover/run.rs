//! One hand-over: a small TCP client towards the new server.
//!
//! ```text
//!   Opening     SYN ------------------> SYN+ACK      the old server goes on
//!   Replaying   what was asked -------> answer       nothing passes between client and old server
//!   Ending      the rest of the answer goes to the client, RST to the old server: moved
//!               RST to the new server: kept
//! ```

use core::time::Duration;

use crate::endpoint::{Pair, endpoint};
use crate::time::Instant;
use crate::track::resume::{ASKED, Offsets, SACK, TIMESTAMPS};
use crate::translator::handover::resumption::{Checked, Kept, Position, Resumed, Resumption};
use crate::translator::handover::segment::{Incoming, Offer, Outgoing, PSH};
use crate::translator::handover::splice::{Standing, farewell};
use crate::translator::state::Table;
use crate::wire::tcp::{ACK, RST, SYN};

/// How long the new server may take to accept the connection.
const OPENING: Duration = Duration::from_secs(3);
/// How long the connection may stand still.
pub(super) const FROZEN: Duration = Duration::from_secs(2);
/// The first wait for an answer, before anything is known of the way (RFC 6298 would wait a second: but nobody suffers
/// here from a SYN too many).
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// What is added to twice the time of the handshake for the next waits.
const SLACK: Duration = Duration::from_millis(50);
/// The new server is never offered less, or it would send byte by byte.
const LEAST_WINDOW: usize = 1_460;
/// How many bytes are sent before any are acknowledged (RFC 6928).
const INITIAL_WINDOW: u32 = 14_600;

/// What is still to be sent.
pub(super) const SEND_SYN: u8 = 1;
pub(super) const SEND_ACK: u8 = 2;
/// A RST for the new server.
pub(super) const SEND_ABORT: u8 = 4;
/// A RST for the old server.
pub(super) const SEND_FAREWELL: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Opening,
    Replaying,
    /// Moved or kept; some packets are still to be sent.
    Ending,
}

/// The new server, as its SYN+ACK and the segments after it show it.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// Its initial sequence number.
    initial: u32,
    /// Its first timestamp, and its latest.
    first_clock: u32,
    clock: u32,
    offer: Offer,
    /// Bytes.
    window: u32,
}

/// The parts of a hand-over's share of the lent buffer.
#[derive(Debug)]
pub(super) struct Room<'a> {
    /// What the new server is sent.
    pub(super) request: &'a mut [u8],
    /// What the new server sent.
    pub(super) answer: &'a mut [u8],
    /// A packet of the client that came meanwhile.
    pub(super) held: &'a mut [u8],
}

impl<'a> Room<'a> {
    /// A quarter for what is sent, a quarter for a packet of the client, the rest for the answer.
    pub(super) fn split(share: &'a mut [u8]) -> Self {
        let quarter = share.len() / 4;
        let (request, rest) = share.split_at_mut(quarter);
        let (held, answer) = rest.split_at_mut(quarter);
        Self { request, answer, held }
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Goes,
    /// It is to be put on the new server.
    Commit,
    Fails(Kept),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) client: (u32, u16),
    pub(super) original: (u32, u16),
    /// The old server, and the alternative endpoint that it knows.
    pub(super) from: (u32, u16),
    pub(super) before: (u32, u16),
    /// The new server, and the alternative endpoint that it knows.
    pub(super) to: (u32, u16),
    pub(super) alternative: (u32, u16),
    pub(super) stage: Stage,
    pub(super) pending: u8,
    /// How many bytes of a client's packet are held, and whether it has data.
    pub(super) held: usize,
    pub(super) holds_data: bool,
    /// The latest acknowledgement and window of the client.
    pub(super) latest: (u32, u16),
    pub(super) started: Instant,
    pub(super) frozen: Instant,
    pub(super) position: Position,
    standing: Standing,
    /// Our own initial sequence number.
    initial: u32,
    peer: Peer,
    /// What is to be sent, how much of it was sent, and how much is acknowledged.
    pub(super) request: usize,
    sent: usize,
    acknowledged: usize,
    /// How much has been answered, how much of that was acknowledged; how much of it is not for the client, and how much
    /// of it the client has been sent.
    answered: usize,
    told: usize,
    pub(super) dropped: usize,
    flushed: usize,
    /// When to send again, and how long to wait after that.
    timer: Instant,
    wait: Duration,
    /// Whether the SYN was sent again: its answer could be to either.
    repeated: bool,
    farewell: (u32, u32),
}

impl Position {
    pub(super) fn of(standing: &Standing, to: (u32, u16)) -> Self {
        let Standing { entry, resume, .. } = standing;
        Self {
            client_side: Pair {
                source: endpoint(entry.client, entry.client_port),
                destination: endpoint(entry.original, entry.original_port),
            },
            to: endpoint(to.0, to.1),
            client_next: standing.client_next,
            server_next: standing.position,
            all_acknowledged: standing.all_acknowledged,
            awaits_answer: resume.has(ASKED),
            has_hole: resume.has_hole(),
            silence: Duration::from_micros(u64::from(standing.silence) << 16),
        }
    }
}

impl Run {
    /// Begins: the new server is to be asked for a connection.
    pub(super) fn new(
        now: Instant,
        standing: Standing,
        to: (u32, u16),
        alternative: (u32, u16),
        position: Position,
        request: usize,
    ) -> Self {
        let entry = &standing.entry;
        Self {
            client: (entry.client, entry.client_port),
            original: (entry.original, entry.original_port),
            from: (entry.server, entry.server_port),
            before: (entry.alternative, entry.alternative_port),
            to,
            alternative,
            stage: Stage::Opening,
            pending: SEND_SYN,
            held: 0,
            holds_data: false,
            latest: (standing.position, standing.resume.client_window),
            started: now,
            frozen: now,
            position,
            // The client's bytes then have the same numbers on both sides.
            initial: standing.client_next.wrapping_sub(request as u32).wrapping_sub(1),
            standing,
            peer: Peer {
                initial: 0,
                first_clock: 0,
                clock: 0,
                offer: Offer { mss: 536, scale: None, sack: false },
                window: 0,
            },
            request,
            sent: 0,
            acknowledged: 0,
            answered: 0,
            told: 0,
            dropped: 0,
            flushed: 0,
            timer: now,
            wait: FIRST_WAIT,
            repeated: false,
            farewell: (0, 0),
        }
    }

    /// Whether a packet between these endpoints is the new server's.
    pub(super) fn is_from_server(&self, incoming: &Incoming<'_>) -> bool {
        self.stage != Stage::Ending && incoming.source == self.to && incoming.destination == self.alternative
    }

    pub(super) fn is_from_client(&self, incoming: &Incoming<'_>) -> bool {
        incoming.source == self.client && incoming.destination == self.original
    }

    /// Whether this segment of the client is to be held: the first with data, or else what says more than all before.
    pub(super) fn prefers(&self, incoming: &Incoming<'_>) -> bool {
        let (acknowledgment, window) = self.latest;
        let ahead = incoming.segment.acknowledgment.wrapping_sub(acknowledgment);
        let says_more = ahead != 0 && ahead < 1 << 31 || ahead == 0 && incoming.window >= window;
        !self.holds_data && (incoming.segment.data != 0 || says_more)
    }

    fn has_clocks(&self) -> bool {
        self.standing.resume.has(TIMESTAMPS)
    }

    fn first_byte(&self) -> u32 {
        self.initial.wrapping_add(1)
    }

    fn first_answer(&self) -> u32 {
        self.peer.initial.wrapping_add(1)
    }

    /// Takes a segment of the new server.
    pub(super) fn take<R: Resumption>(
        &mut self,
        now: Instant,
        table: &mut Table<'_>,
        incoming: &Incoming<'_>,
        room: &mut Room<'_>,
        resumption: &mut R,
    ) -> Step {
        match self.stage {
            Stage::Opening => self.take_first(now, table, incoming, room, resumption),
            Stage::Replaying => self.take_answer(now, incoming, room, resumption),
            Stage::Ending => Step::Goes,
        }
    }

    /// The new server answers the SYN: from here on the connection stands still.
    fn take_first<R: Resumption>(
        &mut self,
        now: Instant,
        table: &mut Table<'_>,
        incoming: &Incoming<'_>,
        room: &mut Room<'_>,
        resumption: &mut R,
    ) -> Step {
        let segment = &incoming.segment;
        if !segment.has(ACK) || segment.acknowledgment != self.first_byte() {
            return Step::Goes;
        }
        if segment.has(RST) {
            return Step::Fails(Kept::Refused);
        }
        if !segment.has(SYN) {
            return Step::Goes;
        }
        let clocks = incoming.clocks.filter(|_| self.has_clocks());
        self.peer = Peer {
            initial: segment.sequence,
            first_clock: clocks.map_or(0, |(value, _)| value),
            clock: clocks.map_or(0, |(value, _)| value),
            offer: incoming.offer(),
            window: u32::from(incoming.window),
        };
        if !self.repeated {
            self.wait = now.duration_since(self.started) * 2 + SLACK;
        }
        // The RST for it has to be right from here on.
        self.stage = Stage::Replaying;
        if self.has_clocks() && clocks.is_none() {
            return Step::Fails(Kept::NoTimestamps);
        }
        let (slot, standing) = match table.standing(self.client, self.original) {
            Ok(found) => found,
            Err(why) => return Step::Fails(why),
        };
        if !standing.client_acknowledged {
            return Step::Fails(Kept::Unacknowledged);
        }
        if (standing.entry.server, standing.entry.server_port) != self.from {
            return Step::Fails(Kept::NotNow);
        }
        self.standing = standing;
        self.latest = (standing.position, standing.resume.client_window);
        self.position = Position::of(&standing, self.to);
        self.request = match resumption.resume(&self.position, room.request) {
            Resumed::Write(length) if length <= room.request.len() => length,
            Resumed::Write(_) | Resumed::Refuse => return Step::Fails(Kept::NotNow),
        };
        self.frozen = now;
        self.timer = now + self.wait;
        table.freeze(slot, true);
        self.pending |= SEND_ACK;
        self.check(room, resumption)
    }

    /// The new server answers what it was sent.
    fn take_answer<R: Resumption>(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        room: &mut Room<'_>,
        resumption: &mut R,
    ) -> Step {
        let segment = &incoming.segment;
        if segment.has(SYN) {
            // Our acknowledgement was lost.
            self.pending |= SEND_ACK;
            return Step::Goes;
        }
        let place = segment.sequence.wrapping_sub(self.first_answer()) as usize;
        if segment.has(RST) {
            // Only the exact number is believed (RFC 5961, section 3.2).
            return if place == self.answered { Step::Fails(Kept::Refused) } else { Step::Goes };
        }
        let acknowledged = segment.acknowledgment.wrapping_sub(self.first_byte()) as usize;
        if !segment.has(ACK) || acknowledged > self.sent {
            return Step::Goes;
        }
        let advances = acknowledged > self.acknowledged;
        if advances {
            self.acknowledged = acknowledged;
            self.timer = now + self.wait;
        }
        self.peer.window = u32::from(incoming.window) << self.peer_scale();
        if let Some((clock, _)) = incoming.clocks
            && clock.wrapping_sub(self.peer.clock) < 1 << 31
        {
            self.peer.clock = clock;
        }
        if incoming.data.is_empty() {
            return if advances { self.check(room, resumption) } else { Step::Goes };
        }
        self.pending |= SEND_ACK;
        let known = self.answered.checked_sub(place);
        let Some(new) = known.and_then(|known| incoming.data.get(known..)) else {
            // Something before it is missing, or nothing of it is new.
            return Step::Goes;
        };
        let free = room.answer.get_mut(self.answered..).unwrap_or_default();
        let length = new.len().min(free.len());
        for (to, from) in free.iter_mut().zip(new) {
            *to = *from;
        }
        self.answered += length;
        self.check(room, resumption)
    }

    fn check<R: Resumption>(&mut self, room: &Room<'_>, resumption: &mut R) -> Step {
        let received = room.answer.get(..self.answered).unwrap_or_default();
        match resumption.check(&self.position, received) {
            Checked::More if self.answered >= room.answer.len() => Step::Fails(Kept::LongAnswer),
            Checked::More => {
                self.told = self.answered;
                Step::Goes
            }
            Checked::Accept { dropped } if dropped <= self.answered => {
                self.dropped = dropped;
                // What the new server has not got it cannot have answered.
                if self.acknowledged == self.request { Step::Commit } else { Step::Goes }
            }
            Checked::Accept { .. } | Checked::Refuse => Step::Fails(Kept::WrongAnswer),
        }
    }

    /// The scale of the new server's windows. It has one only if it was offered one.
    fn peer_scale(&self) -> u8 {
        self.offer().scale.and(self.peer.offer.scale).unwrap_or(0)
    }

    /// What the client offered.
    fn offer(&self) -> Offer {
        let resume = &self.standing.resume;
        Offer { mss: resume.client_mss, scale: resume.agreed_scale(), sack: resume.has(SACK) }
    }

    /// How the numbers of the new server become those that the client knows.
    pub(super) fn offsets(&self) -> Offsets {
        let next = self.first_byte().wrapping_add(self.request as u32);
        let clock = self.standing.resume.server_clock.wrapping_sub(self.peer.first_clock);
        Offsets {
            forward: next.wrapping_sub(self.position.client_next),
            reply: self.position.server_next.wrapping_sub(self.first_answer()).wrapping_sub(self.dropped as u32),
            clock: if self.has_clocks() { clock } else { 0 },
            scale: self.peer_scale(),
            sack: self.peer.offer.sack,
        }
    }

    /// It stands on the new server now.
    pub(super) fn commit(&mut self) {
        self.farewell = farewell(&self.standing);
        self.stage = Stage::Ending;
        self.flushed = self.dropped;
        self.pending = SEND_FAREWELL | SEND_ACK;
    }

    /// It stays on the old server.
    pub(super) fn fail(&mut self) {
        self.pending = if self.stage == Stage::Replaying { SEND_ABORT } else { 0 };
        self.stage = Stage::Ending;
        self.flushed = self.answered;
    }

    /// When something has to be done, if nothing arrives.
    pub(super) fn due(&self) -> Instant {
        match self.stage {
            Stage::Ending => Instant::ZERO,
            _ if self.pending != 0 || self.unsent() != 0 => Instant::ZERO,
            Stage::Opening => self.timer.min(self.started + OPENING),
            Stage::Replaying => self.timer.min(self.frozen + FROZEN),
        }
    }

    /// Repeats what was not answered in time, and gives up what takes too long.
    pub(super) fn tick(&mut self, now: Instant) -> Step {
        let late = match self.stage {
            Stage::Opening => now >= self.started + OPENING,
            Stage::Replaying => now >= self.frozen + FROZEN,
            Stage::Ending => return Step::Goes,
        };
        if late {
            return Step::Fails(Kept::Silent);
        }
        if now >= self.timer && self.pending & SEND_SYN == 0 {
            if self.stage == Stage::Opening {
                self.pending |= SEND_SYN;
                self.repeated = true;
            } else {
                self.sent = self.acknowledged;
                self.pending |= SEND_ACK;
            }
            self.wait *= 2;
            self.timer = now + self.wait;
        }
        Step::Goes
    }

    /// How many bytes of the request may be sent now.
    fn unsent(&self) -> usize {
        if self.stage != Stage::Replaying {
            return 0;
        }
        let window = self.peer.window.min(INITIAL_WINDOW) as usize;
        self.request.min(self.acknowledged + window).saturating_sub(self.sent)
    }

    /// Whether everything has been sent.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Ending && self.pending == 0 && self.held == 0 && self.flushed >= self.answered
    }

    /// How many bytes the new server may send before it has taken over: no more than the client, whose window holds then,
    /// unless that is shut just now.
    fn offered(&self, room: usize) -> usize {
        let client = (self.standing.resume.client_window_bytes() as usize).max(LEAST_WINDOW);
        if room == 0 { client } else { room.min(client) }
    }

    /// The window that the new server is offered: what there is room for, and after that the client's own.
    fn window(&self, room: &Room<'_>) -> u16 {
        if self.stage == Stage::Ending {
            return self.standing.resume.client_window;
        }
        let scale = self.offer().scale.and(self.peer.offer.scale).unwrap_or(0);
        let free = self.offered(room.answer.len()).saturating_sub(self.answered);
        // With a large scale, one unit is more than there is room for: what does not fit will be sent again.
        (free >> scale).clamp(1, usize::from(u16::MAX)) as u16
    }

    /// The next segment for a server. `None` if there is none.
    pub(super) fn next_for_server<'r>(
        &mut self,
        now: Instant,
        room: &'r Room<'_>,
        most: usize,
    ) -> Option<Outgoing<'r>> {
        let clocks = self.has_clocks().then_some((self.standing.resume.client_clock, self.peer.clock));
        let outgoing = Outgoing {
            source: self.alternative,
            destination: self.to,
            sequence: self.first_byte().wrapping_add(self.sent as u32),
            acknowledgment: self.first_answer().wrapping_add(self.told as u32),
            flags: ACK,
            window: self.window(room),
            clocks,
            offer: None,
            data: &[],
        };
        if self.take_pending(SEND_FAREWELL) {
            let (sequence, acknowledgment) = self.farewell;
            let (source, destination) = (self.before, self.from);
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
            self.timer = now + self.wait;
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
        let unsent = self.unsent();
        if unsent != 0 {
            let length = unsent.min(most).min(usize::from(self.peer.offer.mss.max(64)) - 12);
            let data = room.request.get(self.sent..self.sent + length)?;
            self.sent += length;
            self.pending &= !SEND_ACK;
            return Some(Outgoing { flags: ACK | PSH, data, ..outgoing });
        }
        if self.take_pending(SEND_ACK) {
            // Once it is moved: all that was not for the client is acknowledged, and the client's window holds.
            let told = if self.stage == Stage::Ending { self.dropped } else { self.told };
            return Some(Outgoing { acknowledgment: self.first_answer().wrapping_add(told as u32), ..outgoing });
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

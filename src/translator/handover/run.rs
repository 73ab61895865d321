//! One hand-over: a small TCP client towards the new server.
//!
//! ```text
//!   Opening     SYN ------------------> SYN+ACK      the old server goes on
//!   Replaying   what was asked -------> answer       nothing passes between client and old server
//!   Ending      the rest of the answer goes to the client, RST to the old server: moved
//!               RST to the new server: kept
//! ```

use crate::connection::Direction;
use crate::endpoint::Endpoint;
use crate::time::Instant;
use crate::track::resume::{ASKED, SACK, TIMESTAMPS};
use crate::translator::handover::resumption::{Checked, Kept, Position, Resumed, Resumption};
use crate::translator::handover::segment::Incoming;
use crate::translator::handover::splice::{Ends, Leg, Standing};
use crate::translator::state::Table;
use crate::wire::options::Offer;
use crate::wire::tcp::{ACK, RST, SYN, Segment, is_behind};

/// How long the new server may take to accept the connection, in microseconds like all times here.
const OPENING: u64 = 3_000_000;
/// How long the connection may be frozen.
const FROZEN: u64 = 2_000_000;
/// The first wait for an answer, before the round-trip time is known (RFC 6298 would wait a second, but an unnecessary
/// SYN does no harm here).
const FIRST_WAIT: u64 = 250_000;
/// No window is larger, in bytes: 16 MiB, as in tracking.
const LONGEST_WINDOW: u32 = 1 << 24;
/// Added to twice the duration of the handshake, for the next waits.
const SLACK: u64 = 50_000;

/// What is still to be sent: flags of `Run::pending`.
pub(super) const SEND_SYN: u8 = 1;
pub(super) const SEND_ACK: u8 = 2;
/// A RST for the new server.
pub(super) const SEND_ABORT: u8 = 4;
/// A RST for the old server.
pub(super) const SEND_FAREWELL: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is none.
    Free,
    Opening,
    Replaying,
    /// Moved or kept; some packets are still to be sent.
    Ending,
}

/// The new server, as known from its SYN+ACK and later segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Its initial sequence number.
    pub(super) initial: u32,
    /// Its first timestamp, and its latest.
    pub(super) first_clock: u32,
    pub(super) clock: u32,
    pub(super) offer: Offer,
    /// In bytes.
    pub(super) window: u32,
}

/// The parts of a hand-over's share of the buffer.
#[derive(Debug)]
pub(super) struct Room<'a> {
    /// Bytes for the new server.
    pub(super) request: &'a mut [u8],
    /// Bytes from the new server.
    pub(super) answer: &'a mut [u8],
    /// A packet that the client has sent in the meantime.
    pub(super) held: &'a mut [u8],
}

impl<'a> Room<'a> {
    /// A quarter for what is sent, a quarter for a packet of the client, the rest for the answer.
    pub(super) fn split(share: &'a mut [u8]) -> Self {
        let quarter = share.len() / 4;
        let (request, rest) = share.split_at_mut_checked(quarter).unwrap_or_default();
        let (held, answer) = rest.split_at_mut_checked(quarter).unwrap_or_default();
        Self { request, answer, held }
    }
}

/// The buffer share of the hand-over in this place.
pub(super) fn room<R: Resumption, const N: usize>(buffer: &mut [u8], place: usize) -> Room<'_> {
    if !R::REPLAYS {
        return Room { request: &mut [], answer: &mut [], held: &mut [] };
    }
    let share = buffer.len().checked_div(N).unwrap_or(0);
    Room::split(buffer.get_mut(place * share..(place + 1) * share).unwrap_or_default())
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Goes,
    /// The connection is to be moved to the new server.
    Commit,
    Fails(Kept),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The connection on its old server, as of the start of the hand-over; once the SYN is answered, as of that time.
    pub(super) standing: Standing,
    /// The new server, and the alternative endpoint that it knows.
    pub(super) leg: Leg,
    pub(super) stage: Stage,
    pub(super) pending: u8,
    /// How many bytes of a client's packet are kept, and whether it has data.
    pub(super) held: usize,
    pub(super) holds_data: bool,
    /// The latest acknowledgement and window of the client.
    pub(super) latest: (u32, u16),
    started: Instant,
    pub(super) frozen: Instant,
    /// When the new server is given up.
    until: Instant,
    /// Our own initial sequence number.
    pub(super) initial: u32,
    pub(super) peer: Peer,
    /// What is to be sent, how much of it was sent, and how much is acknowledged.
    pub(super) request: usize,
    pub(super) sent: usize,
    pub(super) acknowledged: usize,
    /// Bytes of the answer: how many were received, were acknowledged, are not for the client, and were sent to the
    /// client.
    pub(super) answered: usize,
    pub(super) confirmed: usize,
    pub(super) dropped: usize,
    pub(super) flushed: usize,
    /// When to send again, and how long to wait after that.
    pub(super) timer: Instant,
    pub(super) wait: u64,
    /// Whether the SYN was repeated: its answer could be to either.
    repeated: bool,
}

impl Position {
    pub(super) fn of(standing: &Standing, to: Endpoint) -> Self {
        let Standing { entry, resume, .. } = standing;
        Self {
            client_side: entry.client_side(),
            to: to.socket(),
            client_next: standing.client_next(),
            server_next: standing.position(),
            all_acknowledged: standing.is_acknowledged(Direction::ToServer)
                && standing.is_acknowledged(Direction::ToClient),
            awaits_answer: resume.has(ASKED),
            has_hole: resume.has_hole(),
            client_window: resume.client_window_bytes(),
            client_mss: resume.client_mss,
            silence: Instant::from_micros(u64::from(standing.silence) << 16).duration_since(Instant::ZERO),
        }
    }
}

impl Run {
    pub(super) const FREE: Self = Self {
        standing: Standing::NONE,
        leg: Leg::NONE,
        stage: Stage::Free,
        pending: 0,
        held: 0,
        holds_data: false,
        latest: (0, 0),
        started: Instant::ZERO,
        frozen: Instant::ZERO,
        until: Instant::ZERO,
        initial: 0,
        // Nothing is known of it. All zeros, so that there is no image of it in flash.
        peer: Peer { initial: 0, first_clock: 0, clock: 0, offer: Offer { mss: 0, ..Offer::NONE }, window: 0 },
        request: 0,
        sent: 0,
        acknowledged: 0,
        answered: 0,
        confirmed: 0,
        dropped: 0,
        flushed: 0,
        timer: Instant::ZERO,
        wait: 0,
        repeated: false,
    };

    /// Begins by asking the new server for a connection. What an earlier hand-over has left here does not matter.
    ///
    /// # Errors
    /// The reason why it cannot begin. It is still free then.
    pub(super) fn begin<R: Resumption>(
        &mut self,
        now: Instant,
        table: &mut Table<'_>,
        ends: &Ends,
        to: Endpoint,
        room: &mut Room<'_>,
        resumption: &mut R,
    ) -> Result<(), Kept> {
        self.standing.set_ends(ends);
        table.read_standing(&mut self.standing)?;
        if self.from() == to {
            return Err(Kept::SameServer);
        }
        self.leg.to = to;
        self.ask(room, resumption)?;
        table.reserve_leg(&self.standing.entry, &mut self.leg)?;
        (self.stage, self.pending) = (Stage::Opening, SEND_SYN);
        (self.started, self.timer, self.wait, self.repeated) = (now, now, FIRST_WAIT, false);
        self.until = now.plus_micros(OPENING);
        // The client's bytes then have the same numbers on both sides.
        self.initial = self.standing.client_next().wrapping_sub(self.request as u32).wrapping_sub(1);
        (self.sent, self.acknowledged, self.held, self.holds_data) = (0, 0, 0, false);
        (self.answered, self.confirmed, self.dropped, self.flushed) = (0, 0, 0, 0);
        Ok(())
    }

    /// Asks for the bytes that make the new server take this connection over.
    fn ask<R: Resumption>(&mut self, room: &mut Room<'_>, resumption: &mut R) -> Result<(), Kept> {
        if !self.standing.is_acknowledged(Direction::ToServer) {
            return Err(Kept::Unacknowledged);
        }
        self.request = match resumption.resume(&self.position(), room.request) {
            Resumed::Write(0) if !R::REPLAYS => 0,
            Resumed::Write(length) if R::REPLAYS && length <= room.request.len() => length,
            Resumed::Write(_) | Resumed::Refuse => return Err(Kept::NotNow),
        };
        self.latest = (self.standing.position(), self.standing.resume.client_window);
        Ok(())
    }

    /// Whether a packet is from the new server.
    pub(super) fn is_from_server(&self, incoming: &Incoming<'_>) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Replaying)
            && incoming.source == self.leg.to
            && incoming.destination == self.leg.alternative
    }

    /// Whether it is about the connection of this client and original destination.
    pub(super) fn is_of(&self, ends: &Ends) -> bool {
        self.stage != Stage::Free && self.ends() == *ends
    }

    /// Whether this segment of the client is to be kept: the first with data; before that, one with a newer
    /// acknowledgement, or with the same acknowledgement and no smaller window.
    pub(super) fn prefers(&self, incoming: &Incoming<'_>) -> bool {
        let (acknowledgment, window) = self.latest;
        let new = incoming.segment.acknowledgment;
        let says_more = is_behind(acknowledgment, new) || acknowledgment == new && incoming.window >= window;
        !self.holds_data && (incoming.segment.data != 0 || says_more) && self.fits(&incoming.segment)
    }

    /// Whether a segment of the client continues what is known: there is room for one packet only, which no forged one
    /// may take, nor a copy or a keep-alive.
    fn fits(&self, segment: &Segment) -> bool {
        let range = self.standing.entry.sequences.unacknowledged(Direction::ToClient);
        let seen = self.standing.resume.for_client(Direction::ToServer, *segment, range);
        let (first, last) = range;
        let ahead = segment.end().wrapping_sub(self.standing.client_next());
        segment.has(ACK)
            && seen.acknowledgment.wrapping_sub(first) <= last.wrapping_sub(first)
            && ahead < LONGEST_WINDOW
            && (ahead != 0 || segment.data == 0)
    }

    pub(super) fn ends(&self) -> Ends {
        Ends::of(&self.standing.entry)
    }

    /// The old server.
    pub(super) fn from(&self) -> Endpoint {
        self.standing.server()
    }

    pub(super) fn position(&self) -> Position {
        Position::of(&self.standing, self.leg.to)
    }

    pub(super) fn has_clocks(&self) -> bool {
        self.standing.resume.has(TIMESTAMPS)
    }

    pub(super) fn first_byte(&self) -> u32 {
        self.initial.wrapping_add(1)
    }

    pub(super) fn first_answer(&self) -> u32 {
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
            Stage::Replaying if R::REPLAYS => self.take_answer(now, incoming, room, resumption),
            Stage::Free | Stage::Replaying | Stage::Ending => Step::Goes,
        }
    }

    /// Handles the new server's answer to the SYN. From here on the connection is frozen.
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
            // `OPENING` limits the time, so this cannot overflow.
            self.wait = now.micros_since(self.started).min(OPENING) * 2 + SLACK;
        }
        // From here on the RST for the new server must have the right numbers.
        self.stage = Stage::Replaying;
        if self.has_clocks() && clocks.is_none() {
            return Step::Fails(Kept::NoTimestamps);
        }
        if let Err(why) = self.stand_again(table, room, resumption) {
            return Step::Fails(why);
        }
        self.frozen = now;
        if !R::REPLAYS {
            return Step::Commit;
        }
        (self.timer, self.until) = (now.plus_micros(self.wait), now.plus_micros(FROZEN));
        table.freeze(self.standing.slot, true);
        self.pending |= SEND_ACK;
        self.check(room, resumption)
    }

    /// Reads the connection's state again, now that the new server has accepted, and asks for the bytes to send.
    fn stand_again<R: Resumption>(
        &mut self,
        table: &mut Table<'_>,
        room: &mut Room<'_>,
        resumption: &mut R,
    ) -> Result<(), Kept> {
        let from = self.from();
        table.read_standing(&mut self.standing)?;
        if self.from() != from {
            return Err(Kept::NotNow);
        }
        self.ask(room, resumption)
    }

    /// Handles the new server's answer to the bytes that it was sent.
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
            self.timer = now.plus_micros(self.wait);
        }
        self.peer.window = u32::from(incoming.window) << self.peer_scale();
        if let Some((clock, _)) = incoming.clocks
            && is_behind(self.peer.clock, clock)
        {
            self.peer.clock = clock;
        }
        if incoming.data.is_empty() {
            return if advances { self.check(room, resumption) } else { Step::Goes };
        }
        self.pending |= SEND_ACK;
        let known = self.answered.checked_sub(place);
        let Some(new) = known.and_then(|known| incoming.data.get(known..)) else {
            // Data before it is missing, or none of it is new.
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
        match resumption.check(&self.position(), received) {
            Checked::More | Checked::Undecided if self.answered >= room.answer.len() => Step::Fails(Kept::LongAnswer),
            Checked::More => {
                self.confirmed = self.answered;
                Step::Goes
            }
            Checked::Undecided => Step::Goes,
            // What was acknowledged, the new server cannot send again if it is lost on its way to the client.
            Checked::Accept { dropped } if (self.confirmed..=self.answered).contains(&dropped) => {
                self.dropped = dropped;
                // The new server cannot have answered what it has not received.
                if self.acknowledged == self.request { Step::Commit } else { Step::Goes }
            }
            Checked::Accept { .. } | Checked::Refuse => Step::Fails(Kept::WrongAnswer),
        }
    }

    /// The scale of the new server's windows. It has one only if it was offered one.
    pub(super) fn peer_scale(&self) -> u8 {
        self.offer().scale.and(self.peer.offer.scale).unwrap_or(0)
    }

    /// What the client offered.
    pub(super) fn offer(&self) -> Offer {
        let resume = &self.standing.resume;
        let (mss, scale, sack) = (resume.client_mss, resume.agreed_scale(), resume.has(SACK));
        Offer { mss, scale, sack, timestamps: self.has_clocks(), signed: false }
    }

    /// When something has to be done, if nothing arrives.
    #[inline(always)]
    pub(super) fn due(&self, replays: bool) -> Instant {
        if self.stage == Stage::Ending || self.pending != 0 || replays && self.unsent() != 0 {
            return Instant::ZERO;
        }
        self.timer.min(self.until)
    }

    /// Repeats what was not answered in time, and gives up what takes too long. If nothing is replayed, no time passes
    /// between the answer to the SYN and the end.
    #[inline(always)]
    pub(super) fn tick(&mut self, now: Instant, replays: bool) -> Step {
        if matches!(self.stage, Stage::Free | Stage::Ending) {
            return Step::Goes;
        }
        if now >= self.until {
            return Step::Fails(Kept::Silent);
        }
        if now >= self.timer && self.pending & SEND_SYN == 0 {
            if !replays || self.stage == Stage::Opening {
                self.pending |= SEND_SYN;
                self.repeated = true;
            } else {
                self.sent = self.acknowledged;
                self.pending |= SEND_ACK;
            }
            self.wait *= 2;
            self.timer = now.plus_micros(self.wait);
        }
        Step::Goes
    }

    /// Whether everything has been sent.
    #[inline(always)]
    pub(super) fn is_over(&self, replays: bool) -> bool {
        let is_sent = !replays || self.held == 0 && self.flushed >= self.answered;
        self.stage == Stage::Ending && self.pending == 0 && is_sent
    }
}

//! TCP hand-over: another server takes over a connection, which stays open for the client.
//!
//! ```text
//!        client                 translator                        old server     new server
//!          |  <-------- data --------|-------------------------------- |              |
//!          |                         |  SYN with the client's options --------------> |
//!          |  <-------- data --------|-------------------------------- |              |
//!          |                         | <------------------------------------- SYN+ACK |
//!          |            nothing passes: the position is what the client has acknowledged
//!          |                         |  what was asked for, from the position on ---> |
//!          |                         | <----------------------------- answer, data    |
//!          |            the head of the answer is dropped, the numbers are spliced
//!          |  <-------- data --------|                            RST->|              |
//!          |  -------- ACK --------> | ---------------------------------------------> |
//! ```
//!
//! The new server chooses its own sequence numbers, timestamps and window scale, and the client must not notice. So
//! from then on the numbers of each segment are translated: see `track/resume/`. `splice.rs` changes the table,
//! `run.rs` talks to the new server, and `resumption.rs` is the interface to the protocol above TCP.

#[cfg(feature = "http")]
mod http;
mod labels;
mod outcome;
mod resumption;
mod run;
mod segment;
mod send;
mod splice;
mod wanted;

use core::net::SocketAddrV4;

use crate::connection::Direction;
use crate::endpoint::{Endpoint, Pair};
use crate::packet_meta::{ChecksumState, PacketMeta};
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::Translator;
use crate::translator::state::Table;
use crate::translator::transmit::Transmit;
use crate::verdict::{DropReason, Verdict};
use crate::wire::tcp::{FIN, RST, SYN};

#[cfg(feature = "http")]
pub use http::HttpGet;
pub use outcome::Outcome;
pub use resumption::{AtRest, Checked, Greeted, Kept, Observed, Position, Resumed, Resumption};

use labels::{Labels, show};
use outcome::Outcomes;
use run::{Room, Run, Stage, Step, room};
use segment::{HEADERS, Incoming, copy, finish_checksum};
use splice::Ends;
use wanted::Sweep;

/// The longest packet of a client that is kept, in bytes: one that any path takes.
const LONGEST_HELD: usize = 1_500;

/// Hands connections over, up to `N` at once, beside a [`Translator`] whose packets pass through it.
///
/// Only connections of rules that ask for it ([`Divert::resumable`](crate::Divert::resumable)) are handed over. A
/// [`Resumption`] decides what the new server is sent so that it continues at the right byte.
///
/// Call [`translate`](Self::translate) instead of [`Translator::translate`], and [`poll_transmit`](Self::poll_transmit)
/// in addition to [`Translator::poll_transmit`].
///
/// ```
/// use byway::{AtRest, Config, Divert, Fixed, HandOvers, Instant, Translator};
/// use core::{net::{Ipv4Addr, SocketAddrV4}, time::Duration};
///
/// // 64 connections, 4 rules; all 64 can be handed over.
/// let storage = Fixed::<64, 4, 8, 8, 0, 64>::sized();
/// let mut byway = Translator::new(Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535), storage)?;
/// let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
/// let [first, second] = [89, 90].map(|n| SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, n), 80));
/// byway.divert(Divert::new(original).to(first).resumable())?;
///
/// let mut buffer = [0; 4096];
/// let mut hand_overs = HandOvers::<_, 4>::new(AtRest::after(Duration::from_millis(200)), &mut buffer);
/// # let now = Instant::ZERO;
/// // For each packet: `hand_overs.translate(now, &mut byway, &mut packet)`, and to move a connection:
/// let connections: Vec<_> = byway.connections().collect();
/// for connection in connections {
///     if let Err(why) = hand_overs.begin(now, &mut byway, &connection.client_side, second) {
///         println!("{connection} stays: {why}");
///     }
/// }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HandOvers<'b, R, const N: usize> {
    runs: [Run; N],
    active: usize,
    resumption: R,
    buffer: &'b mut [u8],
    outcomes: Outcomes,
    sweep: Sweep,
}

#[cfg(feature = "defmt")]
impl<R, const N: usize> defmt::Format for HandOvers<'_, R, N> {
    /// How many are under way, and how many there were.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "HandOvers {{ under_way: {} of {}, moved: {} }}", self.active, N, self.outcomes.moved);
    }
}

impl<'b, R: Resumption, const N: usize> HandOvers<'b, R, N> {
    /// Creates it with no hand-over under way.
    ///
    /// Each hand-over gets an equal share of `buffer`: a quarter of the share for the bytes to send to the new server,
    /// a quarter for a packet that the client sends in the meantime (1500 bytes are enough for most; the client has to
    /// retransmit a longer one), and half for the start of the answer. [`AtRest`] needs no buffer.
    #[must_use]
    pub fn new(resumption: R, buffer: &'b mut [u8]) -> Self {
        Self {
            runs: const { [Run::FREE; N] },
            active: 0,
            resumption,
            buffer,
            outcomes: Outcomes::NONE,
            sweep: Sweep::NONE,
        }
    }

    /// The part that knows the protocol above TCP.
    pub const fn resumption(&mut self) -> &mut R {
        &mut self.resumption
    }

    /// How many connections were moved.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.outcomes.moved
    }

    /// How many connections were not moved, for this reason.
    #[must_use]
    pub fn kept(&self, why: Kept) -> u64 {
        self.outcomes.kept.get(why as usize).copied().unwrap_or(0)
    }

    /// How many outcomes were lost because they were not fetched in time. Their hand-overs are counted all the same.
    #[must_use]
    pub const fn outcomes_lost(&self) -> u64 {
        self.outcomes.lost
    }

    /// How many hand-overs are under way.
    #[must_use]
    pub const fn under_way(&self) -> usize {
        self.active
    }

    /// The next outcome of a hand-over, oldest first.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.queue.pop_front()
    }

    /// Begins to hand over the connection of this client and original destination to the server `to`. The old server
    /// continues until the new one has accepted; an [`Outcome`] says whether the hand-over succeeded.
    ///
    /// # Errors
    /// [`Kept`] if it cannot begin now. The reason is counted; nothing else has changed.
    pub fn begin<S: Storage>(
        &mut self,
        now: Instant,
        byway: &mut Translator<S>,
        client_side: &Pair,
        to: SocketAddrV4,
    ) -> Result<(), Kept> {
        let ends = Ends { client: client_side.source.into(), original: client_side.destination.into() };
        let mut table = byway.rare_table();
        table.advance(now);
        let done = self.try_begin(now, &mut table, &ends, to.into());
        if let Err(why) = done {
            self.outcomes.count_kept(why);
        }
        done
    }

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn try_begin(&mut self, now: Instant, table: &mut Table<'_>, ends: &Ends, to: Endpoint) -> Result<(), Kept> {
        if self.runs.iter().any(|run| run.is_of(ends)) {
            return Err(Kept::Busy);
        }
        let free = self.runs.iter_mut().enumerate().find(|(_, run)| run.stage == Stage::Free);
        let (place, run) = free.ok_or(Kept::Busy)?;
        let mut room = room::<R, N>(self.buffer, place);
        run.begin(now, table, ends, to, &mut room, &mut self.resumption)?;
        self.active += 1;
        Ok(())
    }

    /// Translates a packet as [`Translator::translate`] does, and handles the packets of connections that are being
    /// handed over. Those that a hand-over consumes are dropped ([`DropReason::HandingOver`]).
    #[inline]
    pub fn translate<S: Storage>(&mut self, now: Instant, byway: &mut Translator<S>, packet: &mut [u8]) -> Verdict {
        self.translate_with(now, byway, packet, PacketMeta::new())
    }

    /// Like [`translate`](Self::translate), given what the driver knows about the packet
    /// ([`Translator::translate_with`]).
    pub fn translate_with<S: Storage>(
        &mut self,
        now: Instant,
        byway: &mut Translator<S>,
        packet: &mut [u8],
        meta: PacketMeta,
    ) -> Verdict {
        if self.active != 0
            && let Some(verdict) = self.take(now, byway, packet, meta)
        {
            return verdict;
        }
        let before = if R::OBSERVES { Labels::of(packet) } else { None };
        byway.state.carried_resumable = false;
        let verdict = byway.translate_with(now, packet, meta);
        if R::REPLAYS && verdict == Verdict::Drop(DropReason::HandingOver) {
            return self.take_frozen(now, byway, packet, meta);
        }
        if R::OBSERVES && byway.state.carried_resumable {
            show(&mut self.resumption, verdict, before, packet);
        }
        verdict
    }

    /// Takes a packet of a new server that is being asked to take over.
    #[inline(never)]
    fn take<S: Storage>(
        &mut self,
        now: Instant,
        byway: &mut Translator<S>,
        packet: &[u8],
        meta: PacketMeta,
    ) -> Option<Verdict> {
        let mut table = byway.rare_table();
        table.advance(now);
        let (place, step) = self.hear(now, &mut table, packet, meta)?;
        self.step(now, &mut table, place, step);
        Some(Verdict::Drop(DropReason::HandingOver))
    }

    /// The hand-over that a packet belongs to, and the resulting step. Not inlined: the stack that it uses is free
    /// again before that step is taken.
    #[inline(never)]
    fn hear(&mut self, now: Instant, table: &mut Table<'_>, packet: &[u8], meta: PacketMeta) -> Option<(usize, Step)> {
        let incoming = Incoming::read(packet)?;
        let (place, run) = self.runs.iter_mut().enumerate().find(|(_, run)| run.is_from_server(&incoming))?;
        let _ = table.state.count(Verdict::Drop(DropReason::HandingOver));
        if !incoming.is_intact(meta) {
            return Some((place, Step::Goes));
        }
        let mut room = room::<R, N>(self.buffer, place);
        Some((place, run.take(now, table, &incoming, &mut room, &mut self.resumption)))
    }

    /// Takes a packet of a frozen connection.
    #[cold]
    fn take_frozen<S: Storage>(
        &mut self,
        now: Instant,
        byway: &mut Translator<S>,
        packet: &mut [u8],
        meta: PacketMeta,
    ) -> Verdict {
        let dropped = Verdict::Drop(DropReason::HandingOver);
        let Some(incoming) = Incoming::read(packet).filter(|incoming| incoming.is_intact(meta)) else {
            return dropped;
        };
        let ends = Ends { client: incoming.source, original: incoming.destination };
        let mut runs = self.runs.iter_mut().enumerate();
        let Some((place, run)) = runs.find(|(_, run)| run.is_of(&ends)) else {
            return dropped;
        };
        let segment = incoming.segment;
        if segment.flags & (SYN | FIN | RST) != 0 {
            // The client ends the connection, and will not repeat that. Only the exact number is accepted (RFC 5961,
            // section 3.2).
            let is_exact = segment.flags & SYN == 0 && segment.sequence == run.standing.client_next();
            if !is_exact {
                return dropped;
            }
            self.step(now, &mut byway.rare_table(), place, Step::Fails(Kept::Closing));
            return byway.translate_with(now, packet, meta);
        }
        let room = room::<R, N>(self.buffer, place);
        // The client would retransmit data after a while, but not an acknowledgement or a window update.
        if run.prefers(&incoming)
            && packet.len() <= LONGEST_HELD
            && let Some(held) = room.held.get_mut(..packet.len())
        {
            (run.holds_data, run.latest) = (segment.data != 0, (segment.acknowledgment, incoming.window));
            run.held = packet.len();
            held.copy_from_slice(packet);
            if meta.checksum == ChecksumState::Partial {
                finish_checksum(held);
            }
        }
        dropped
    }

    /// Carries out a step.
    fn step(&mut self, now: Instant, table: &mut Table<'_>, place: usize, step: Step) {
        let failed = match step {
            Step::Goes => return,
            Step::Commit => None,
            Step::Fails(why) => Some(why),
        };
        let Some(run) = self.runs.get_mut(place) else {
            return;
        };
        run.conclude(now, table, failed, &mut self.outcomes);
        self.free(place);
    }

    /// Frees the place of a hand-over that has nothing more to send.
    fn free(&mut self, place: usize) {
        if let Some(run) = self.runs.get_mut(place)
            && run.is_over(R::REPLAYS)
        {
            run.stage = Stage::Free;
            self.active -= 1;
        }
    }

    /// Repeats segments that were not answered in time, and gives up hand-overs that take too long. The work is bounded
    /// by `N`.
    pub fn poll<S: Storage>(&mut self, now: Instant, byway: &mut Translator<S>) {
        let mut table = byway.rare_table();
        table.advance(now);
        for place in 0..N {
            if let Some(run) = self.runs.get_mut(place) {
                let step = run.tick(now, R::REPLAYS);
                self.step(now, &mut table, place, step);
            }
        }
        self.follow_rediverts(now, &mut table);
    }

    /// When to call [`poll`](Self::poll) and [`poll_transmit`](Self::poll_transmit) next, besides the translator's own
    /// [`poll_at`](Translator::poll_at); `None` if nothing is under way. A re-divert or an import also creates work,
    /// but this does not show here before the next [`poll`](Self::poll). Calling late makes a hand-over take longer.
    #[must_use]
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let sweep = if self.active < N { self.sweep.due(now) } else { None };
        let mut first = sweep;
        for due in self.runs.iter().filter(|run| run.stage != Stage::Free).map(|run| run.due(R::REPLAYS)) {
            first = Some(first.map_or(due, |first| first.min(due)));
        }
        first.map(|due| due.max(now))
    }

    /// Writes the next packet of a hand-over into `buffer`, which should have room for a packet of the path MTU: with
    /// less room more packets are needed. `None` if there is nothing to send now, or less than 128 bytes of room.
    ///
    /// Call it after [`translate`](Self::translate) and [`poll`](Self::poll) until it returns `None`.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub fn poll_transmit<S: Storage>(
        &mut self,
        now: Instant,
        byway: &mut Translator<S>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        if self.active == 0 {
            return None;
        }
        let most = buffer.len().checked_sub(HEADERS).filter(|most| *most >= 64)?;
        for place in 0..N {
            let Some(run) = self.runs.get_mut(place) else {
                continue;
            };
            let room = room::<R, N>(self.buffer, place);
            let segment = run.next_for_server(now, &room, most, R::REPLAYS);
            let length = segment.and_then(|segment| segment.write(buffer));
            let mut transmit = length.map(|length| Transmit { length, direction: Direction::ToServer });
            if transmit.is_some() {
                byway.state.counters.transmitted = byway.state.counters.transmitted.wrapping_add(1);
            } else if R::REPLAYS {
                transmit = Self::next_translated(run, &mut self.resumption, &room, now, byway, (buffer, most));
            }
            self.free(place);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// The next packet of the client or the new server that was kept until it could be translated.
    fn next_translated<S: Storage>(
        run: &mut Run,
        resumption: &mut R,
        room: &Room<'_>,
        now: Instant,
        byway: &mut Translator<S>,
        (buffer, most): (&mut [u8], usize),
    ) -> Option<Transmit> {
        while let Some(segment) = run.next_for_client(room, most) {
            let length = segment.write(buffer)?;
            let verdict = byway.translate(now, buffer.get_mut(..length)?);
            if verdict == Verdict::ToClient {
                return Some(Transmit { length, direction: Direction::ToClient });
            }
        }
        if run.stage == Stage::Ending && run.held != 0 {
            let length = core::mem::take(&mut run.held);
            let packet = buffer.get_mut(..length)?;
            copy(packet, room.held.get(..length)?)?;
            let before = if R::OBSERVES { Labels::of(packet) } else { None };
            let verdict = byway.translate(now, packet);
            if R::OBSERVES {
                show(resumption, verdict, before, packet);
            }
            if verdict == Verdict::ToServer {
                return Some(Transmit { length, direction: Direction::ToServer });
            }
        }
        None
    }
}

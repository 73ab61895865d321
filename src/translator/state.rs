//! The translator's state outside the memory of the tables.

use super::span::Span;
#[cfg(target_pointer_width = "64")]
use crate::config::Alternative;
use crate::config::{Config, Settings};
use crate::connection::Direction;
use crate::counters::Counters;
use crate::divert::Match;
use crate::event::Closed;
use crate::table::ages::Ages;
use crate::table::connection::{ConnectionSlot, Entry, NONE, mark_of};
use crate::table::event_queue::EventQueue;
use crate::table::filter::Filter;
use crate::table::hash::{Key, Keys, Label};
use crate::table::index::Layout;
use crate::table::outbox::Outbox;
#[cfg(target_pointer_width = "64")]
use crate::table::ports::RandomPool;
use crate::table::rebuilding::Rebuilding;
use crate::table::recent::Recent;
use crate::table::redivert_log::{DONE, RedivertLog, Treatment};
#[cfg(target_pointer_width = "64")]
use crate::table::renewal::Renewal;
#[cfg(target_pointer_width = "64")]
use crate::table::rule::RuleCounts;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::Directory;
use crate::table::server::Unused;
use crate::table::storage::Parts;
use crate::time::{Instant, Tick};
use crate::track::phase::Phase;
use crate::track::timers::Timers;
use crate::verdict::Verdict;
use crate::wire::checksum::Checksums;
use crate::wire::flow::Flow;
use crate::wire::ipv4;
use crate::wire::rewrite::Change;
use crate::wire::tcp::Segment;

/// After this many microseconds (2^10 ticks) without a poll, the next call closes connections whose time-out has
/// passed. At 64 slots per list each time, a table of any size is swept once before ticks wrap around, no matter which
/// calls are made.
pub(super) const POLL_WITHIN: u32 = 1 << 26;

/// The translator without the memory of its tables.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct State {
    /// Whether packets need more than their addresses rewritten: a new identification, or measurements.
    pub(super) extras: bool,
    /// Whether a rule matches an address of our own: a port forward.
    pub(super) forwards: bool,
    /// Whether there may be an imported connection for which there is no rule yet.
    pub(super) strays: bool,
    /// Whether a finished connection may still handle stragglers; reset when all connections are forgotten.
    pub(super) lingered: bool,
    /// Whether a re-divert asked for hand-overs, or a connection has opened again that may still wait for one, since
    /// [`HandOvers`](crate::HandOvers) last looked.
    pub(super) hand_overs_wanted: bool,
    /// Whether the latest packet belonged to a resumable connection, for [`HandOvers`](crate::HandOvers).
    pub(super) carried_resumable: bool,
    /// Which age list the next new connection examines.
    pub(super) turn: u8,
    /// Whether `span` is one range: then each address in it is an alternative address.
    #[cfg(target_pointer_width = "64")]
    pub(super) one_range: bool,
    pub(super) redivert_log: RedivertLog,
    /// The time in ticks, without the [skipped](Self::skipped) ones.
    pub(super) tick: Tick,
    pub(crate) now: Instant,
    /// The epoch of connections whose packets may be plain, in the form of their marks: the epoch of the redivert log,
    /// or `NO_EPOCH` if there are extras or the log is closed.
    pub(super) plain_epoch: u32,
    /// The span of the alternative addresses. On a large processor, only of those with ports for connections: no
    /// connection has any other, so packets to the others may be looked up like packets to any address.
    pub(super) span: Span,
    /// The span of all alternative addresses, including those of other shards.
    #[cfg(target_pointer_width = "64")]
    pub(super) own_span: Span,
    /// How many slots in use have a connection that keeps its source, and the flag [`HIDES_SERVERS`].
    pub(super) kept: u32,
    /// Slots in use, including quarantined ones.
    pub(crate) used: u32,
    /// The first free slot that was used before; linked by `next`.
    pub(super) free: u32,
    /// The first slot that was never used.
    pub(super) fresh: u32,
    /// How many slots in use have a second entry in the reply index, for any-port replies.
    pub(super) any_port_replies: u32,
    /// Rules in use.
    pub(crate) diverts: usize,
    /// The unused entries for servers.
    pub(crate) unused: Unused,
    /// The directory of the index of rules, if there is one.
    #[cfg(target_pointer_width = "64")]
    pub(crate) directory: Directory,
    #[cfg(target_pointer_width = "64")]
    pub(crate) rule_counts: RuleCounts,
    #[cfg(target_pointer_width = "64")]
    pub(crate) renewal: Renewal,
    /// The functions that measure connections and servers, if these are measured.
    pub(super) for_measured: Option<&'static ForMeasured>,
    /// The functions for resumable connections, if there can be any.
    pub(super) for_resumable: Option<&'static ForResumable>,
    pub(super) layout: Layout,
    /// The next slot that `adopt` examines; [`DONE`] if no rule has been added since.
    pub(super) adopting: u32,
    pub(super) ages: Ages,
    pub(super) rebuilding: Rebuilding,
    /// When the next call closes connections whose time-out has passed, unless there is a poll before.
    pub(super) poll_by: Instant,
    pub(crate) generation: u32,
    /// How many heads of the list of finished connections still have to be examined, so that every connection that was
    /// in it at the last `forget` has been seen.
    pub(super) rotate: u32,
    /// Ticks that were skipped: of a silence longer than any time-out, the part beyond that.
    pub(super) skipped: u32,
    /// How many connections had been opened, modulo 2^32, at the last `forget`.
    pub(super) begun_before: u32,
    /// Ends a dead connection, unless it is over, while there may be forgotten ones, or connections are measured. A
    /// function pointer, so that it is linked only into programs that forget or measure connections.
    pub(super) close_dead: Option<fn(&mut Table<'_>, u32)>,
    /// Makes a stale connection follow outstanding re-diverts, once there was one. A function pointer, so that it is
    /// linked only into programs that re-divert. A large processor calls it directly, because more of it is inlined
    /// there.
    #[cfg(not(target_pointer_width = "64"))]
    pub(super) follow_moves: Option<fn(&mut Table<'_>, u32) -> Followed>,
    /// Counts connections that no server's entry counts yet, while there may be any: imported ones that had no rule. A
    /// function pointer, so that it is linked only into programs that import records.
    pub(super) adopt: Option<Adopt>,
    pub(super) identification: u32,
    /// Incremented with each choice of an alternative endpoint.
    pub(super) serial: u64,
    /// The pool that the ports of new connections are drawn from.
    #[cfg(target_pointer_width = "64")]
    pub(super) random_pool: RandomPool,
    pub(super) keys: Keys,
    pub(crate) config: Settings,
    // From here on all fields are initially zero, so that they are cleared as one run.
    pub(super) timers: Timers,
    pub(crate) counters: Counters,
    pub(super) recent: Recent,
    pub(super) events: EventQueue,
    pub(super) filter: Filter,
    pub(super) outbox: Outbox,
}

/// State and memory together, for everything except the fast paths.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) memory: Parts<'a>,
}

/// A flag in the count of connections that keep their source: some rule is a port forward that keeps the source, so
/// that its servers' own addresses must not be visible.
pub(super) const HIDES_SERVERS: u32 = 1 << 31;
/// Counts connections in the given number of slots with the servers of rules that were added after them.
type Adopt = fn(&mut Table<'_>, usize);
/// The functions for resumable connections. They are called through a pointer, so that they are linked only into
/// programs whose storage has room for such connections.
#[derive(Debug)]
pub(super) struct ForResumable {
    /// Translates a segment of the connection in this slot.
    pub(super) carry: fn(&mut Table<'_>, u32, Direction, &mut ipv4::Parts<'_>, &Flow) -> Verdict,
    /// Rewrites the numbers in the packet that an ICMP error in this direction quotes.
    pub(super) requote: fn(&Table<'_>, u32, Direction, &mut [u8]),
    /// Sequence number and acknowledgement of a segment in this direction, as its receiver numbers them.
    pub(super) number: fn(&Table<'_>, u32, Direction, Numbers) -> Numbers,
    /// Records that a re-divert wants the connection handed over, if it can be. Returns whether it stays open.
    pub(super) want: fn(&mut Table<'_>, u32, Treatment) -> bool,
}
/// The functions that measure connections and their servers. They are called through a pointer, so that they are linked
/// only into programs whose storage has room for measurements.
#[derive(Debug)]
pub(super) struct ForMeasured {
    /// A slot has a new connection, which may be over already.
    pub(super) start: fn(&mut Table<'_>, u32, Beginning),
    /// A packet with this header was translated in this direction.
    pub(super) packet: fn(&mut Table<'_>, u32, Direction, &[u8; ipv4::HEADER]),
    /// A TCP segment has arrived; the connection has not been updated with it yet.
    pub(super) segment: fn(&mut Table<'_>, u32, Direction, &Segment),
    /// Translates and measures a plain packet of the connection in this slot. `None`, with nothing changed, if it needs
    /// more than that.
    #[cfg(target_pointer_width = "64")]
    pub(super) plain: fn(&mut Table<'_>, Direction, &mut [u8], u32) -> Option<Verdict>,
    /// An ICMP error that goes in this direction was about the connection.
    pub(super) icmp_error: fn(&mut Table<'_>, u32, Direction, &ipv4::Parts<'_>),
    /// A connection was moved to the server of another entry.
    pub(super) moved: fn(&mut Table<'_>, u32),
    /// A connection ends, unless it is over already.
    pub(super) close: fn(&mut Table<'_>, u32, Closed),
    /// Ends a dead connection: [`State::close_dead`].
    pub(super) close_dead: fn(&mut Table<'_>, u32),
    /// Called before and after a change of rules, for rules that eject servers. Returns whether the rule ejects.
    pub(super) rules: fn(&mut Table<'_>, RuleChange<'_>) -> bool,
}
/// How a connection has come into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// By a packet of its own.
    Seen,
    /// By a record: what it waits for is seen elsewhere.
    Imported,
}

/// A change of rules or their servers.
#[derive(Clone, Copy, Debug)]
pub(super) enum RuleChange<'a> {
    /// The rule with this match, if there is one, will be changed or removed.
    Before(&'a Match),
    /// The rule is in the table, and ejects servers that fail.
    After(&'a Match),
    /// The rule was removed, or no longer ejects.
    Gone,
    /// A re-divert may replace any servers.
    BeforeAll,
    /// The re-divert has replaced them, or was refused.
    AfterAll,
}
/// The result of following re-diverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// The connection stays where it was.
    Stayed,
    /// It is on another server now.
    Moved,
    /// It is being reset.
    Reset,
    /// It is closed: no port was free for it.
    Stranded,
    /// It is closed: it returned to its original destination, with its source kept.
    Home,
}

/// A sequence number and an acknowledgement.
type Numbers = (u32, u32);

/// A value that no mark has.
const NO_EPOCH: u32 = u32::MAX;

impl State {
    #[inline(never)]
    pub(super) fn new(
        config: Config,
        layout: Layout,
        for_measured: Option<&'static ForMeasured>,
        for_resumable: Option<&'static ForResumable>,
    ) -> Self {
        let secret = config.secret;
        #[cfg(not(target_pointer_width = "64"))]
        let config = &config.settings;
        #[cfg(target_pointer_width = "64")]
        let config = &{
            let mut settings = config.settings;
            // The fast paths only look at the first range if no other has ports.
            settings.alternatives.move_in_front(Alternative::has_ports);
            settings
        };
        let given = || config.alternatives.iter().filter(|a| !cfg!(target_pointer_width = "64") || a.has_ports());
        let extras = config.rewrite_identification || for_measured.is_some();
        let mut state = Self {
            extras,
            forwards: false,
            strays: false,
            lingered: false,
            hand_overs_wanted: false,
            carried_resumable: false,
            turn: 0,
            #[cfg(target_pointer_width = "64")]
            one_range: given().count() == 1,
            redivert_log: RedivertLog::NONE,
            tick: Tick(0),
            now: Instant::ZERO,
            plain_epoch: if extras { NO_EPOCH } else { mark_of(0, 0) },
            span: Span::of(given()),
            #[cfg(target_pointer_width = "64")]
            own_span: Span::of(config.alternatives.iter()),
            kept: 0,
            used: 0,
            free: NONE,
            fresh: 0,
            any_port_replies: 0,
            diverts: 0,
            unused: Unused::ALL,
            #[cfg(target_pointer_width = "64")]
            directory: Directory::new(&[]),
            #[cfg(target_pointer_width = "64")]
            rule_counts: RuleCounts::default(),
            #[cfg(target_pointer_width = "64")]
            renewal: Renewal::NONE,
            for_measured,
            for_resumable,
            layout,
            adopting: DONE,
            ages: Ages::EMPTY,
            rebuilding: Rebuilding::NONE,
            poll_by: Instant::from_micros(POLL_WITHIN as u64),
            generation: 0,
            rotate: 0,
            skipped: 0,
            begun_before: 0,
            close_dead: for_measured.map(|measured| measured.close_dead),
            #[cfg(not(target_pointer_width = "64"))]
            follow_moves: None,
            adopt: None,
            identification: 0,
            serial: 0,
            #[cfg(target_pointer_width = "64")]
            random_pool: RandomPool::NONE,
            keys: Keys::NONE,
            config: *config,
            timers: Timers::NONE,
            counters: Counters::ZERO,
            recent: Recent::EMPTY,
            events: EventQueue::EMPTY,
            filter: Filter::NONE,
            outbox: Outbox::new(),
        };
        state.keys.derive(&secret);
        state.filter.set_secret(state.keys.choose(Label::Filter, [0, 0]) as u32);
        state.timers.set(&state.config.timeouts);
        state
    }

    /// The slot that is entered under this key in the index of this direction. On a small processor this function is
    /// compiled once.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn find(
        &self,
        connections: &[ConnectionSlot],
        index: &[u32],
        direction: Direction,
        key: &Key,
    ) -> Option<u32> {
        self.find_hashed(connections, index, direction, key, self.keys.hash(key))
    }

    /// Like [`find`](Self::find), for a key whose hash is known.
    #[inline(always)]
    pub(super) fn find_hashed(
        &self,
        connections: &[ConnectionSlot],
        index: &[u32],
        direction: Direction,
        key: &Key,
        hash: u64,
    ) -> Option<u32> {
        let is_it = |slot| connections.get(slot as usize).is_some_and(|c| c.0.answers(direction, key));
        self.layout.find(index, direction, hash, is_it)
    }

    /// Whether a connection's epoch allows the fast path.
    pub(super) const fn is_plain_epoch(&self, connection: &Entry) -> bool {
        mark_of(0, connection.epoch) == self.plain_epoch
    }

    /// The epoch, in the form of their marks, of connections whose packets are plain except that they are measured.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(super) const fn measured_epoch(&self) -> Option<u32> {
        if self.config.rewrite_identification || self.redivert_log.is_closed() {
            return None;
        }
        Some(mark_of(0, self.redivert_log.epoch))
    }

    /// Updates `plain_epoch` after a change of epoch.
    pub(super) fn set_plain_epoch(&mut self) {
        let none = self.extras || self.redivert_log.is_closed();
        self.plain_epoch = if none { NO_EPOCH } else { mark_of(0, self.redivert_log.epoch) };
    }

    /// Whether a connection has outlived its time-out, or is forgotten. A quarantined connection is never forgotten.
    pub(super) fn is_dead(&self, connection: &Entry) -> bool {
        self.timers.is_dead(connection.phase, connection.last, self.tick)
            || (connection.phase != Phase::Quarantined && self.redivert_log.has_forgotten(connection.epoch))
    }

    /// Advances the time, which never runs backwards. True if there has been no poll for so long that
    /// [`Table::catch_up_with_time`] is due.
    #[inline]
    #[must_use]
    pub(super) fn advance(&mut self, now: Instant) -> bool {
        if now > self.now {
            self.now = now;
            self.tick = Tick(now.tick().0.wrapping_sub(self.skipped));
            return now >= self.poll_by;
        }
        false
    }

    /// The tick on the caller's clock.
    pub(super) const fn on_clock(&self, tick: Tick) -> Tick {
        tick.plus(self.skipped)
    }

    /// The time of a future tick; now if it has passed.
    pub(super) fn instant(&self, tick: Tick) -> Instant {
        self.on_clock(tick).instant(self.now)
    }

    /// Counts a packet by its verdict.
    #[inline]
    pub(super) fn count(&mut self, verdict: Verdict) -> Verdict {
        self.counters.count(verdict);
        verdict
    }

    #[inline]
    pub(super) fn pass(&mut self) -> Verdict {
        self.counters.passed = self.counters.passed.wrapping_add(1);
        Verdict::Pass
    }

    /// Like [`pass`](Self::pass), for one packet per verdict.
    #[cfg(target_pointer_width = "64")]
    #[inline]
    pub(super) fn pass_all(&mut self, verdicts: &mut [Verdict]) {
        self.counters.passed = self.counters.passed.wrapping_add(verdicts.len() as u64);
        verdicts.fill(Verdict::Pass);
    }

    /// How a packet of this connection in this direction is rewritten. No hardware can compute the checksum of a packet
    /// that is not whole.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn change(&self, slot: &Entry, direction: Direction, whole: bool) -> Change {
        let in_software = !whole && self.config.checksums == Checksums::Hardware;
        let transport = if in_software { slot.deltas().1 } else { slot.transport };
        let (source, destination) = slot.ends(direction);
        Change {
            source: source.address,
            destination: destination.address,
            source_port: source.port,
            destination_port: destination.port,
            network: slot.network.along(direction),
            transport: transport.along(direction),
        }
    }
}

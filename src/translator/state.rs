//! Everything of a translator that is not in the tables' memory.

use crate::config::{Alternative, Config, Settings};
use crate::connection::Direction;
use crate::counters::Counters;
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
use crate::table::redivert_log::{DONE, RedivertLog};
use crate::table::storage::Parts;
use crate::time::{Instant, Tick};
use crate::track::measure::Measure;
use crate::track::phase::Phase;
use crate::track::timers::Timers;
use crate::verdict::Verdict;
use crate::wire::checksum::Checksums;
use crate::wire::rewrite::Change;

/// The first call after so many microseconds (2^10 ticks) without a poll closes connections whose time-out has passed. With
/// 64 looks at each list each time a table of any size is gone through before ticks wrap around, whatever is called.
pub(super) const POLL_WITHIN: u32 = 1 << 26;

/// From the lowest to the highest of some addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    first: u32,
    /// How far the last one lies above it.
    extent: u32,
}

impl Span {
    /// Of no ranges it is an address that does not matter.
    fn of<'a>(ranges: impl Iterator<Item = &'a Alternative>) -> Self {
        let ranges = ranges.map(|a| (a.first, a.last));
        let (first, last) = ranges.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).unwrap_or((0, 0));
        Self { first, extent: last.wrapping_sub(first) }
    }

    #[inline(always)]
    pub(super) const fn holds(self, address: u32) -> bool {
        address.wrapping_sub(self.first) <= self.extent
    }
}

/// The translator less its memory.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct State {
    /// Whether packets need more than their addresses rewritten: identification or measurements.
    pub(super) extras: bool,
    /// Whether one of them is about an address of our own: a port forward.
    pub(super) forwards: bool,
    /// Whether one was found for which there is no rule yet.
    pub(super) strays: bool,
    /// Whether one of them may be over and still see to stragglers, since the last time that all were forgotten.
    pub(super) lingered: bool,
    /// Whose turn it is among the age lists to be looked at by a new connection.
    pub(super) turn: u8,
    /// Whether that is one range: then each address in it is alternative.
    #[cfg(target_pointer_width = "64")]
    pub(super) one_range: bool,
    pub(super) redivert_log: RedivertLog,
    /// The time in ticks, less what is [left out](Self::skipped).
    pub(super) tick: Tick,
    pub(crate) now: Instant,
    /// The epoch of connections whose packets may be plain, as it stands in their marks: that of the moves, or none if
    /// there are extras.
    pub(super) plain_epoch: u32,
    /// Of the alternative addresses. On a large processor only of those that connections get ports of: no connection has
    /// another one, so that packets to the others may be looked up as packets to any address.
    pub(super) span: Span,
    /// Of all alternative addresses, those of other shards included.
    #[cfg(target_pointer_width = "64")]
    pub(super) own_span: Span,
    /// Those of them whose connections keep their source, and [`HIDES_SERVERS`].
    pub(super) kept: u32,
    /// Slots in use, held ones included.
    pub(crate) used: u32,
    /// The first of the slots that were given back, linked by `next`.
    pub(super) free: u32,
    /// The first slot that was never used.
    pub(super) fresh: u32,
    /// Those of them that have a second entry for the server's other ports.
    pub(super) any_port_replies: u32,
    /// Rules in use.
    pub(crate) diverts: usize,
    /// How connections are measured, if they are.
    pub(super) measure: Option<Measure>,
    pub(super) layout: Layout,
    pub(crate) generation: u32,
    /// How many heads of the list of what is over have to be looked at to have seen all that was in it then.
    pub(super) rotate: u32,
    /// The next slot that is looked at for that; [`DONE`] if no rule has come since.
    pub(super) adopting: u32,
    /// Ticks that are left out: of a silence longer than any time-out all but that.
    pub(super) skipped: u32,
    pub(super) ages: Ages,
    pub(super) rebuilding: Rebuilding,
    /// How many connections had begun, modulo 2^32, when all that there were were forgotten.
    pub(super) begun_before: u32,
    /// Ends a connection that is dead, while some may be forgotten. It is linked where something is ever forgotten.
    pub(super) close_dead: Option<fn(&mut Table<'_>, u32)>,
    /// Counts connections that no server's entry counts, if there may be any: those that records brought for which there
    /// was no rule. So that it is not linked where nothing is imported, it is reached through here.
    pub(super) adopt: Option<Adopt>,
    /// When the next call closes connections whose time-out has passed, if nobody polls before.
    pub(super) poll_by: Instant,
    /// Grows by one with each choice of an alternative endpoint.
    pub(super) serial: u64,
    /// What the ports of new connections are drawn from.
    #[cfg(target_pointer_width = "64")]
    pub(super) random_pool: RandomPool,
    pub(super) keys: Keys,
    pub(super) timers: Timers,
    pub(crate) counters: Counters,
    pub(crate) config: Settings,
    pub(super) recent: Recent,
    pub(super) identification: u32,
    pub(super) events: EventQueue,
    pub(super) outbox: Outbox,
    /// The last, since it is large.
    pub(super) filter: Filter,
}

/// State and memory together: what all the slower work is done on.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) memory: Parts<'a>,
}

/// In the number of connections that keep their source: a port forward keeps it too, so that its servers' own addresses
/// must not be seen.
pub(super) const HIDES_SERVERS: u32 = 1 << 31;
/// Counts so many slots' connections with the servers of rules that have come after them.
type Adopt = fn(&mut Table<'_>, usize);

/// What no mark is.
const NO_EPOCH: u32 = u32::MAX;

impl State {
    #[inline(never)]
    pub(super) fn new(config: Config, layout: Layout, measure: Option<Measure>) -> Self {
        let keys = Keys::new(&config.secret);
        #[cfg(not(target_pointer_width = "64"))]
        let config = &config.settings;
        #[cfg(target_pointer_width = "64")]
        let config = &{
            let mut settings = config.settings;
            // Fast paths look at the first range alone if no other has ports.
            settings.alternatives.move_in_front(Alternative::has_ports);
            settings
        };
        let given = || config.alternatives.iter().filter(|a| !cfg!(target_pointer_width = "64") || a.has_ports());
        let extras = config.rewrite_identification || measure.is_some();
        let filter = Filter::new(keys.choose(Label::Filter, [0, 0]) as u32);
        let mut state = Self {
            timers: Timers::NONE,
            now: Instant::ZERO,
            tick: Tick(0),
            skipped: 0,
            poll_by: Instant::from_micros(POLL_WITHIN as u64),
            begun_before: 0,
            counters: Counters::ZERO,
            layout,
            filter,
            rebuilding: Rebuilding::NONE,
            span: Span::of(given()),
            #[cfg(target_pointer_width = "64")]
            one_range: given().count() == 1,
            #[cfg(target_pointer_width = "64")]
            own_span: Span::of(config.alternatives.iter()),
            ages: Ages::EMPTY,
            free: NONE,
            fresh: 0,
            used: 0,
            adopt: None,
            adopting: DONE,
            strays: false,
            lingered: false,
            rotate: 0,
            close_dead: None,
            kept: 0,
            any_port_replies: 0,
            redivert_log: RedivertLog::NONE,
            diverts: 0,
            forwards: false,
            generation: 0,
            serial: 0,
            #[cfg(target_pointer_width = "64")]
            random_pool: RandomPool::NONE,
            identification: 0,
            recent: Recent::EMPTY,
            turn: 0,
            events: EventQueue::EMPTY,
            outbox: Outbox::new(),
            extras,
            measure,
            plain_epoch: if extras { NO_EPOCH } else { mark_of(0, 0) },
            keys,
            config: *config,
        };
        state.timers.set(&state.config.timeouts);
        state
    }

    /// The slot that is entered under this key in the index of this way. On a small processor it is compiled once.
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

    /// The same with the key's hash, where that is known.
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

    /// Whether packets of a connection may be plain as far as its epoch tells.
    pub(super) const fn is_plain_epoch(&self, connection: &Entry) -> bool {
        mark_of(0, connection.epoch) == self.plain_epoch
    }

    /// Takes note of a new epoch.
    pub(super) fn set_plain_epoch(&mut self) {
        let none = self.extras || self.redivert_log.is_closed();
        self.plain_epoch = if none { NO_EPOCH } else { mark_of(0, self.redivert_log.epoch) };
    }

    /// Whether a connection has outlived its time-out, or is forgotten. What only holds its endpoint is never forgotten.
    pub(super) fn is_dead(&self, connection: &Entry) -> bool {
        self.timers.is_dead(connection.phase, connection.last, self.tick)
            || (connection.phase != Phase::Quarantined && self.redivert_log.has_forgotten(connection.epoch))
    }

    /// Lets time go on; it never goes back. Whether nobody has polled for so long that
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

    /// The tick as the caller's clock has it.
    pub(super) const fn on_clock(&self, tick: Tick) -> Tick {
        tick.plus(self.skipped)
    }

    /// When a tick that lies ahead comes; now if it does not.
    pub(super) fn instant(&self, tick: Tick) -> Instant {
        self.on_clock(tick).instant(self.now)
    }

    /// Whether `address` is an alternative address.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn is_alternative(&self, address: u32) -> bool {
        self.config.alternatives.iter().any(|a| a.holds(address))
    }

    /// Whether every address in the hull is an alternative one.
    #[inline(always)]
    pub(super) const fn has_one_range(&self) -> bool {
        #[cfg(target_pointer_width = "64")]
        return self.one_range;
        #[cfg(not(target_pointer_width = "64"))]
        return self.config.alternatives.len() == 1;
    }

    /// Whether this is an alternative address and a port of it that connections get.
    pub(super) fn gives_away(&self, (address, port): (u32, u16)) -> bool {
        let mut alternatives = self.config.alternatives.iter();
        alternatives.any(|a| (a.first..=a.last).contains(&address) && (a.ports.0..=a.ports.1).contains(&port))
    }

    pub(super) fn is_own(&self, address: u32) -> bool {
        self.is_alternative(address) || self.config.own.iter().any(|own| *own == address)
    }

    /// Counts a packet by what becomes of it.
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

    /// The same for so many packets as there are verdicts.
    #[cfg(target_pointer_width = "64")]
    #[inline]
    pub(super) fn pass_all(&mut self, verdicts: &mut [Verdict]) {
        self.counters.passed = self.counters.passed.wrapping_add(verdicts.len() as u64);
        verdicts.fill(Verdict::Pass);
    }

    /// What a packet of this connection that goes this way becomes. What is not whole has a checksum that no hardware
    /// can compute.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn change(&self, slot: &Entry, direction: Direction, whole: bool) -> Change {
        let in_software = !whole && self.config.checksums == Checksums::Hardware;
        let transport = if in_software { slot.deltas().1 } else { slot.transport };
        let ((source, source_port), (destination, destination_port)) = slot.ends(direction);
        Change {
            source,
            destination,
            source_port,
            destination_port,
            network: slot.network.along(direction),
            transport: transport.along(direction),
        }
    }

    /// An identification that no other datagram of late has had.
    ///
    /// A counter goes through series of 2^14, each of them a quarter of all identifications in an order of its own: a
    /// keyed permutation. With new keys for each series nothing that was seen tells what comes, and since the quarters
    /// take turns an identification comes again after three other series at the earliest. `path/offload.rs` takes runs from
    /// the quarter opposite.
    pub(super) fn next_identification(&mut self) -> u16 {
        let count = self.identification;
        self.identification = count.wrapping_add(1);
        let series = count >> 14;
        // Four rounds of a Feistel network over two halves of 7 bits.
        let (mut left, mut right) = (count >> 7 & 0x7f, count & 0x7f);
        for round in 0..4_u64 {
            let words = [u64::from(series), round << 8 | u64::from(right)];
            let mixed = self.keys.choose(Label::Identification, words) as u32 & 0x7f;
            (left, right) = (right, left ^ mixed);
        }
        (series << 14 | left << 7 | right) as u16
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::sharding::Sharding;
    use core::net::Ipv4Addr;

    /// Fast paths are for translators of which exactly one range has ports, whatever else is their own.
    #[test]
    fn a_shard_with_an_address_of_its_own_has_one_range() {
        let [first, last] = [10, 13].map(|n| Ipv4Addr::new(10, 10, 10, n));
        let in_a_row = Config::new([7; 32]).alternatives(first, last, 1_024..=65_535);
        let apart = [10, 110, 60, 200]
            .into_iter()
            .fold(Config::new([7; 32]), |config, n| config.alternative(Ipv4Addr::new(n, 10, 10, 10), 1_024..=65_535));
        let layout = Layout::new(&[0; 256], 16);
        for config in [in_a_row, apart] {
            let sharding = Sharding::new(&config, 4).unwrap();
            assert!(sharding.has_whole_addresses());
            for shard in 0..4 {
                let (own, _, _) = sharding.alternatives(shard).next().unwrap();
                let state = State::new(sharding.config(&config, shard).unwrap(), layout, None);
                assert!(state.has_one_range());
                for (other, _, _) in (0..4).flat_map(|shard| sharding.alternatives(shard)) {
                    let address = other.to_bits();
                    assert!(state.own_span.holds(address) && state.is_own(address));
                    assert_eq!(state.span.holds(address), other == own);
                }
            }
        }
        let several = Config::new([7; 32]).alternative(first, 5..=6).alternative(last, 5..=6);
        assert!(!State::new(several, layout, None).has_one_range());
        assert!(!State::new(Config::new([7; 32]), layout, None).has_one_range());
    }
}

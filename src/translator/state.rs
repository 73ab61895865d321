//! Everything of a translator that is not in the tables' memory.

use crate::config::{Alternative, Checksums, Config, Settings};
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
use crate::table::ports::Draws;
use crate::table::recent::Recent;
use crate::table::redivert_log::{DONE, Moves};
#[cfg(target_pointer_width = "64")]
use crate::table::rule::RuleCounts;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::Directory;
use crate::table::server::Unused;
use crate::time::{Instant, Tick};
use crate::track::measure::Measure;
use crate::track::phase::Phase;
use crate::track::timers::Timers;
use crate::translator::connection::expire::POLL_WITHIN;
use crate::translator::rules::filter::Rebuilding;
#[cfg(target_pointer_width = "64")]
use crate::translator::rules::indexed::Renewal;
use crate::translator::table::Table;
use crate::verdict::Verdict;
use crate::wire::rewrite::Change;

/// From the lowest to the highest of some addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hull {
    first: u32,
    /// How far the last one lies above it.
    extent: u32,
}

impl Hull {
    /// Of no ranges it is an address that does not matter.
    fn of<'a>(ranges: impl Iterator<Item = &'a Alternative>) -> Self {
        let ranges = ranges.map(|a| (a.first, a.last));
        let (first, last) = ranges.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).unwrap_or((0, 0));
        Self { first, extent: last.wrapping_sub(first) }
    }

    #[inline(always)]
    pub(crate) const fn holds(self, address: u32) -> bool {
        address.wrapping_sub(self.first) <= self.extent
    }
}

/// The translator less its memory.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct State {
    /// Whether packets need more than their addresses rewritten: identification or measurements.
    pub(crate) extras: bool,
    /// Whether one of them is about an address of our own: a port forward.
    pub(crate) forwards: bool,
    /// Whether one was found for which there is no rule yet.
    pub(crate) strays: bool,
    /// Whether one of them may be over and still see to stragglers, since the last time that all were forgotten.
    pub(crate) lingered: bool,
    /// Whose turn it is among the age lists to be looked at by a new connection.
    pub(crate) turn: u8,
    /// Whether that is one range: then each address in it is alternative.
    #[cfg(target_pointer_width = "64")]
    pub(crate) one_range: bool,
    pub(crate) moves: Moves,
    /// The time in ticks, less what is [left out](Self::skipped).
    pub(crate) tick: Tick,
    pub(crate) now: Instant,
    /// The epoch of connections whose packets may be plain, as it stands in their marks: that of the moves, or none if
    /// there are extras.
    pub(crate) plain_epoch: u32,
    /// Of the alternative addresses. On a large processor only of those that connections get ports of: no connection has
    /// another one, so that packets to the others may be looked up as packets to any address.
    pub(crate) hull: Hull,
    /// Of all alternative addresses, those of other shards included.
    #[cfg(target_pointer_width = "64")]
    pub(crate) own_hull: Hull,
    /// Those of them whose connections keep their source, and [`HIDES_SERVERS`].
    pub(crate) kept: u32,
    /// Slots in use, held ones included.
    pub(crate) used: u32,
    /// The first of the slots that were given back, linked by `next`.
    pub(crate) free: u32,
    /// The first slot that was never used.
    pub(crate) fresh: u32,
    /// Those of them that have a second entry for the server's other ports.
    pub(crate) siblings: u32,
    /// Rules in use.
    pub(crate) diverts: usize,
    /// The entries for servers that are unused.
    pub(crate) unused: Unused,
    /// What the index of rules knows, if there is one.
    #[cfg(target_pointer_width = "64")]
    pub(crate) directory: Directory,
    #[cfg(target_pointer_width = "64")]
    pub(crate) rule_counts: RuleCounts,
    #[cfg(target_pointer_width = "64")]
    pub(crate) renewal: Renewal,
    /// How connections are measured, if they are.
    pub(crate) measure: Option<Measure>,
    pub(crate) layout: Layout,
    pub(crate) generation: u32,
    /// How many heads of the list of what is over have to be looked at to have seen all that was in it then.
    pub(crate) rotate: u32,
    /// The next slot that is looked at for that; [`DONE`] if no rule has come since.
    pub(crate) adopting: u32,
    /// Ticks that are left out: of a silence longer than any time-out all but that.
    pub(crate) skipped: u32,
    pub(crate) ages: Ages,
    pub(crate) rebuilding: Rebuilding,
    /// How many connections had begun, modulo 2^32, when all that there were were forgotten.
    pub(crate) begun_before: u32,
    /// Ends a connection that is dead, while some may be forgotten. It is linked where something is ever forgotten.
    pub(crate) bury: Option<fn(&mut Table<'_>, u32)>,
    /// Counts connections that no server's entry counts, if there may be any: those that records brought for which there
    /// was no rule. So that it is not linked where nothing is imported, it is reached through here.
    pub(crate) adopt: Option<Adopt>,
    /// When the next call closes connections whose time-out has passed, if nobody polls before.
    pub(crate) poll_by: Instant,
    /// Grows by one with each choice of an alternative endpoint.
    pub(crate) serial: u64,
    /// What the ports of new connections are drawn from.
    #[cfg(target_pointer_width = "64")]
    pub(crate) draws: Draws,
    pub(crate) keys: Keys,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    pub(crate) config: Settings,
    pub(crate) recent: Recent,
    pub(crate) identification: u32,
    pub(crate) events: EventQueue,
    pub(crate) outbox: Outbox,
    /// The last, since it is large.
    pub(crate) filter: Filter,
}

/// In the number of connections that keep their source: a port forward keeps it too, so that its servers' own addresses
/// must not be seen.
pub(crate) const HIDES_SERVERS: u32 = 1 << 31;
/// Counts so many slots' connections with the servers of rules that have come after them.
pub(crate) type Adopt = fn(&mut Table<'_>, usize);

/// What no mark is.
const NO_EPOCH: u32 = u32::MAX;

impl State {
    #[inline(never)]
    pub(crate) fn new(config: Config, layout: Layout, measure: Option<Measure>) -> Self {
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
            hull: Hull::of(given()),
            #[cfg(target_pointer_width = "64")]
            one_range: given().count() == 1,
            #[cfg(target_pointer_width = "64")]
            own_hull: Hull::of(config.alternatives.iter()),
            ages: Ages::EMPTY,
            free: NONE,
            fresh: 0,
            used: 0,
            adopt: None,
            adopting: DONE,
            strays: false,
            lingered: false,
            rotate: 0,
            bury: None,
            kept: 0,
            siblings: 0,
            moves: Moves::NONE,
            diverts: 0,
            unused: Unused::ALL,
            #[cfg(target_pointer_width = "64")]
            directory: Directory::new(&[]),
            #[cfg(target_pointer_width = "64")]
            rule_counts: RuleCounts::default(),
            #[cfg(target_pointer_width = "64")]
            renewal: Renewal::NONE,
            forwards: false,
            generation: 0,
            serial: 0,
            #[cfg(target_pointer_width = "64")]
            draws: Draws::NONE,
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
    pub(crate) fn find(
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
    pub(crate) fn find_hashed(
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
    pub(crate) const fn is_plain_epoch(&self, connection: &Entry) -> bool {
        mark_of(0, connection.epoch) == self.plain_epoch
    }

    /// Takes note of a new epoch.
    pub(crate) fn set_plain_epoch(&mut self) {
        let none = self.extras || self.moves.is_closed();
        self.plain_epoch = if none { NO_EPOCH } else { mark_of(0, self.moves.epoch) };
    }

    /// Whether a connection has outlived its time-out, or is forgotten. What only holds its endpoint is never forgotten.
    pub(crate) fn is_dead(&self, connection: &Entry) -> bool {
        self.timers.is_dead(connection.phase, connection.last, self.tick)
            || (connection.phase != Phase::Held && self.moves.has_forgotten(connection.epoch))
    }

    /// Lets time go on; it never goes back. Whether nobody has polled for so long that
    /// [`Table::catch_up_with_time`] is due.
    #[inline]
    #[must_use]
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        if now > self.now {
            self.now = now;
            self.tick = Tick(now.tick().0.wrapping_sub(self.skipped));
            return now >= self.poll_by;
        }
        false
    }

    /// The tick as the caller's clock has it.
    pub(crate) const fn on_clock(&self, tick: Tick) -> Tick {
        tick.plus(self.skipped)
    }

    /// When a tick that lies ahead comes; now if it does not.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.on_clock(tick).instant(self.now)
    }

    /// Whether `address` is an alternative address.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn is_alternative(&self, address: u32) -> bool {
        self.config.alternatives.iter().any(|a| a.holds(address))
    }

    /// Whether every address in the hull is an alternative one.
    #[inline(always)]
    pub(crate) const fn has_one_range(&self) -> bool {
        #[cfg(target_pointer_width = "64")]
        return self.one_range;
        #[cfg(not(target_pointer_width = "64"))]
        return self.config.alternatives.len() == 1;
    }

    /// Whether this is an alternative address and a port of it that connections get.
    pub(crate) fn gives_away(&self, (address, port): (u32, u16)) -> bool {
        let mut alternatives = self.config.alternatives.iter();
        alternatives.any(|a| (a.first..=a.last).contains(&address) && (a.ports.0..=a.ports.1).contains(&port))
    }

    pub(crate) fn is_own(&self, address: u32) -> bool {
        self.is_alternative(address) || self.config.own.iter().any(|own| *own == address)
    }

    /// Counts a packet by what becomes of it.
    #[inline]
    pub(crate) fn count(&mut self, verdict: Verdict) -> Verdict {
        self.counters.count(verdict);
        verdict
    }

    #[inline]
    pub(crate) fn pass(&mut self) -> Verdict {
        self.counters.passed = self.counters.passed.wrapping_add(1);
        Verdict::Pass
    }

    /// The same for so many packets as there are verdicts.
    #[cfg(target_pointer_width = "64")]
    #[inline]
    pub(crate) fn pass_all(&mut self, verdicts: &mut [Verdict]) {
        self.counters.passed = self.counters.passed.wrapping_add(verdicts.len() as u64);
        verdicts.fill(Verdict::Pass);
    }

    /// What a packet of this connection that goes this way becomes. What is not whole has a checksum that no hardware
    /// can compute.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn change(&self, slot: &Entry, direction: Direction, whole: bool) -> Change {
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
    pub(crate) fn next_identification(&mut self) -> u16 {
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
                    assert!(state.own_hull.holds(address) && state.is_own(address));
                    assert_eq!(state.hull.holds(address), other == own);
                }
            }
        }
        let several = Config::new([7; 32]).alternative(first, 5..=6).alternative(last, 5..=6);
        assert!(!State::new(several, layout, None).has_one_range());
        assert!(!State::new(Config::new([7; 32]), layout, None).has_one_range());
    }
}

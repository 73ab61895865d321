//! The plain packet that opens a connection in the usual way: by a rule for one host with one server, with the first
//! port that is drawn.
//!
//! A fast path: it must give the same result as `Table::first`, or leave the packet to it with nothing changed but for what
//! `Table::tidy` does, a port that was drawn, and perhaps a connection that was evicted. For large processors, like
//! [`second_look`](crate::translator::path::second_look).

use core::hint::cold_path;

use crate::config::{PortChoice, Settings};
use crate::connection::Direction::{self, ToClient, ToServer};
use crate::endpoint::Endpoint;
use crate::intrinsics::prefetch;
use crate::table::connection::{Entry, IndexKey, NONE};
use crate::table::hash::Key;
use crate::table::index::Layout;
use crate::table::ports::{self, Wanted};
use crate::table::rule::{self, DivertSlot};
use crate::table::server;
use crate::track::phase::{Class, Phase};
use crate::track::tcp::Tcp;
use crate::translator::connection::evict::SAMPLES;
use crate::translator::state::Table;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ipv4::{self, TCP};
use crate::wire::tcp::{ACK, RST, SYN, Segment};

/// How many ports are drawn here: several in a row may have been left by connections recently.
const DRAWS: u32 = 8;

impl Table<'_> {
    /// Handles a plain packet that goes to no alternative address and belongs to no connection. `key` is its forward
    /// key, which is not in the index, and `hash` the hash of that.
    #[inline(never)]
    pub(in crate::translator) fn first_plain(&mut self, key: Key, hash: u64, packet: &mut [u8]) -> Verdict {
        match self.begin(key, hash, packet, None) {
            Some(verdict) => verdict,
            None => self.first_unusual(key, packet),
        }
    }

    /// Like [`first_plain`](Self::first_plain), with an index of rules and no connection that keeps its source: without
    /// a rule the packet passes.
    #[inline(never)]
    pub(in crate::translator) fn first_indexed(
        &mut self,
        key: Key,
        hash: u64,
        packet: &mut [u8],
        lengths: u64,
    ) -> Verdict {
        let (client, original) = key.ends();
        let found = self
            .rule_index()
            .and_then(|index| index.find_of_lengths(lengths, self.rules(), key.ports as u8, client.address, original));
        let Some(&rule) = found else {
            return self.state.pass();
        };
        let begun =
            if self.may_match(&rule, original.address) { self.begin(key, hash, packet, Some(&rule)) } else { None };
        match begun {
            Some(verdict) => verdict,
            None => self.first_unusual(key, packet),
        }
    }

    #[cold]
    #[inline(never)]
    fn first_unusual(&mut self, key: Key, packet: &mut [u8]) -> Verdict {
        match ipv4::split(packet) {
            Ok(mut parts) => {
                let verdict = self.first(&mut parts, &key.flow());
                self.state.count(verdict)
            }
            Err(reason) => self.state.count(Verdict::Drop(reason)),
        }
    }

    /// Drops a packet for whose connection there is no room, and sends an ICMP error if that is configured.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, key: Key, packet: &mut [u8]) -> Verdict {
        if let Ok(parts) = ipv4::split(packet) {
            self.state.say_prohibited(DropReason::TableFull, &key.flow(), &parts);
        }
        self.state.count(Verdict::Drop(DropReason::TableFull))
    }

    /// Opens the connection and translates its first packet. `None` if anything is unusual.
    #[inline(always)]
    fn begin(&mut self, there: Key, hash: u64, packet: &mut [u8], rule: Option<&DivertSlot>) -> Option<Verdict> {
        let (client, original) = there.ends();
        let protocol = there.ports as u8;
        let next = if self.state.free == NONE { self.state.fresh } else { self.state.free };
        if next as usize >= self.memory.connections.len() {
            cold_path();
            self.fetch_for_eviction();
        }
        // While the index is being fetched, prefetch the other lines that the connection will be written to.
        let hash_client = self.state.keys.hash_client(client.address);
        self.clients().prefetch(hash_client);
        prefetch(self.memory.connections, next as usize);
        let config = &self.state.config;
        // One test for all conditions, since they are nearly always false.
        let unusual = u32::from(self.state.extras)
            | u32::from(self.state.redivert_log.is_closed())
            | u32::from(config.port_choice != PortChoice::Random);
        usually_not(unusual != 0 || self.state.own_span.holds(client.address) || ipv4::is_martian(client.address))?;
        usually_not(self.is_crowded(0, 1))?;
        if config.own.len() as u32 | config.client_limit != 0 {
            self.check_client(client.address, hash_client)?;
        }
        let rule = match rule.or_else(|| self.rule_for_host(protocol, client.address, original)) {
            Some(rule) => *rule,
            None => self.search_rule(protocol, client.address, original)?,
        };
        usually_not(rule.keeps_source() || rule.has_any_port_replies() || rule.is_resumable())?;
        let mut member = rule.servers;
        let mut server = usually(self.memory.servers.get(usize::from(member)))?;
        if server.next != server::NONE {
            cold_path();
            member = self.choose_member(&rule, client.address, original.address)?;
            server = self.memory.servers.get(usize::from(member))?;
        }
        let server = server.resolve(original);
        let phase = if protocol == TCP {
            let flags = packet.get(ipv4::HEADER + 13).copied().unwrap_or(0);
            usually_not(flags & (SYN | ACK | RST) != SYN)?;
            Phase::Opening
        } else {
            Phase::UdpUnanswered
        };

        self.state.recent.advance(self.state.tick, self.state.timers.quarantine());
        let state = &*self.state;
        let (serial, mut random_pool) = (state.serial.wrapping_add(1), state.random_pool);
        let wanted = Wanted { client, server, serial };
        let suits = |candidate: &Endpoint| {
            candidate.port != 0
                && !state.recent.may_hold(*candidate, server.address)
                && (!state.forwards || !self.is_forwarded(protocol, *candidate))
        };
        let alternatives = &state.config.alternatives;
        let range = if state.one_range {
            *usually(alternatives.iter().next())?
        } else {
            ports::preferred_range(&state.keys, alternatives, client.address)?
        };
        let mut alternative = usually(ports::early(&state.keys, &mut random_pool, &range, &wanted, 0))?;
        if !suits(&alternative) {
            cold_path();
            let mut draw = |attempt| ports::early(&state.keys, &mut random_pool, &range, &wanted, attempt);
            alternative = (1..DRAWS).filter_map(&mut draw).find(suits)?;
        }
        let back = Key::new(protocol, alternative, server);
        let hash_back = state.keys.hash(&back);
        prefetch(self.memory.index, state.layout.position(ToClient, hash_back) as usize);
        usually_not(self.find_hashed(ToClient, &back, hash_back).is_some())?;

        // From here on nothing is unusual, except that the table may be full.
        self.tidy();
        (self.state.serial, self.state.random_pool) = (serial, random_pool);
        let Some(slot) = usually(self.take_free()).or_else(|| self.allocate()) else {
            return Some(self.refuse(there, packet));
        };
        let state = &*self.state;
        let mut new = Entry {
            client: client.address,
            client_port: client.port,
            original: original.address,
            original_port: original.port,
            alternative: alternative.address,
            alternative_port: alternative.port,
            server: server.address,
            server_port: server.port,
            protocol,
            phase,
            member,
            last: state.tick,
            epoch: state.redivert_log.epoch,
            ..Entry::EMPTY
        };
        new.set_deltas(state.config.checksums);
        *usually(self.slot_mut(slot))? = new;
        // If an index has no room, the slow path evicts.
        if !self.list(ToServer, hash, slot) {
            cold_path();
            self.give_back(slot);
            return None;
        }
        if !self.list(ToClient, hash_back, slot) {
            cold_path();
            self.leave(slot, IndexKey::Forward);
            self.give_back(slot);
            return None;
        }
        // A rule for a host has its address in the filter already.
        if rule.host().is_none() {
            self.state.filter.add_diverted(original.address);
        }
        self.count_in(slot, hash_client, member);
        self.state.ages.append(self.memory.connections, phase.class(), slot, self.state.tick);
        self.state.counters.opened = self.state.counters.opened.wrapping_add(1);
        Some(self.carry_first(slot, &new, packet))
    }

    /// `None` if the client has one of our own addresses, or has reached the limit of connections per client.
    #[inline(never)]
    fn check_client(&mut self, client: u32, hash: u64) -> Option<()> {
        let Settings { own, client_limit, .. } = &self.state.config;
        let limit = *client_limit;
        // Alternative addresses need no check: their span has been tested.
        let is_own = own.iter().any(|own| *own == client);
        (!is_own && (limit == 0 || self.clients().count(hash) < limit)).then_some(())
    }

    /// The rule for exactly this destination, if rules are sorted.
    #[inline(always)]
    fn rule_for_host(&self, protocol: u8, client: u32, original: Endpoint) -> Option<&DivertSlot> {
        if self.state.directory.is_there() {
            return None;
        }
        rule::find_host(self.rules(), protocol, client, original)
    }

    /// The rule for a destination, of any kind. `None` also if the slow path has to decide.
    #[inline(never)]
    fn search_rule(&self, protocol: u8, client: u32, original: Endpoint) -> Option<DivertSlot> {
        let rule = self.find_rule(protocol, client, original)?;
        self.may_match(rule, original.address).then_some(*rule)
    }

    /// Prefetches the lines that an eviction most likely examines: those of the oldest connections, and of those that
    /// will be among the oldest next.
    #[cold]
    #[inline(never)]
    fn fetch_for_eviction(&mut self) {
        for class in [Class::Quarantined, Class::TcpTransitory, Class::UdpUnanswered] {
            let mut slot = self.state.ages.head(class);
            let Some(&oldest) = self.slot(slot) else { continue };
            for which in [IndexKey::Forward, IndexKey::Reply] {
                let (direction, key) = oldest.entry(which);
                let position = self.state.layout.position(direction, self.state.keys.hash(&key));
                prefetch(self.memory.index, position as usize);
            }
            let mut client = oldest.client;
            for _ in 0..SAMPLES {
                let Some(next) = self.slot(slot) else { break };
                (slot, client) = (next.next, next.client);
            }
            let hash = self.state.keys.hash_client(client);
            self.clients().prefetch(hash);
            prefetch(self.memory.connections, slot as usize);
        }
    }

    /// Enters a slot into the index of this direction. False, with nothing changed, if there is no room.
    #[inline(always)]
    fn list(&mut self, direction: Direction, hash: u64, slot: u32) -> bool {
        let (layout, index) = (self.state.layout, &mut *self.memory.index);
        layout.insert_early(index, direction, hash, slot) || list_late(layout, index, direction, hash, slot)
    }

    /// Translates the packet that has opened the connection in this slot.
    #[inline(always)]
    fn carry_first(&mut self, slot: u32, new: &Entry, packet: &mut [u8]) -> Verdict {
        let Ok(mut parts) = ipv4::split(packet) else {
            return self.state.count(Verdict::Drop(DropReason::MalformedIpv4));
        };
        // A SYN that opens a connection changes nothing but its sequence numbers.
        if new.protocol == TCP
            && let Some(segment) = Segment::of(parts.payload)
        {
            self.set_tcp(slot, &Tcp::opening(&segment));
        }
        self.state.change(new, ToServer, true).apply(&mut parts, new.protocol);
        self.state.count(Verdict::ToServer)
    }
}

/// Enters a slot whose first bucket is full.
#[cold]
#[inline(never)]
fn list_late(layout: Layout, index: &mut [u32], direction: Direction, hash: u64, slot: u32) -> bool {
    layout.index(index, direction).insert(hash, slot)
}

/// Marks `None` as unlikely, so that the compiler optimises for the other case.
#[inline(always)]
fn usually<T>(looked_at: Option<T>) -> Option<T> {
    if looked_at.is_none() {
        cold_path();
    }
    looked_at
}

/// `None` if `it_is_so`, which is unlikely.
#[inline(always)]
fn usually_not(it_is_so: bool) -> Option<()> {
    if it_is_so {
        cold_path();
        return None;
    }
    Some(())
}

//! The plain packet that begins a connection as nearly all begin: by a rule for one host with one server, with the first
//! port that is drawn.
//!
//! It is a shorter way to what `Table::first` would do, and never another: whatever is not as usual is left to that, and
//! nothing has changed then. For large processors, like [`second_look`](crate::translator::path::second_look).

use core::hint::cold_path;

use crate::config::PortChoice;
use crate::connection::Direction::{self, ToClient, ToServer};
use crate::intrinsics::prefetch;
use crate::table::connection::{Entry, NONE, Which};
use crate::table::hash::Key;
use crate::table::index::Layout;
use crate::table::ports::{self, Wanted};
use crate::table::rule::DivertSlot;
use crate::table::{rule, server};
use crate::track::phase::{Class, Phase};
use crate::track::tcp::Tcp;
use crate::translator::connection::evict::SAMPLES;
use crate::translator::table::Table;
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::{Flow, Shape, TCP};
use crate::wire::ipv4;
use crate::wire::tcp::{ACK, RST, SYN, Segment};

/// How many ports are drawn here; of those that connections have left a short while ago there may be some in a row.
const DRAWS: u32 = 8;

impl Table<'_> {
    /// A plain packet to no alternative address and of no connection, with the key under which there is none, and its
    /// hash.
    #[inline(never)]
    pub(in crate::translator) fn first_plain(&mut self, key: Key, hash: u64, packet: &mut [u8]) -> Verdict {
        match self.begin(key, hash, packet, None) {
            Some(verdict) => verdict,
            None => self.first_unusual(key, packet),
        }
    }

    /// The same where there is an index of rules, and nobody keeps his source: without a rule the packet passes.
    #[inline(never)]
    pub(in crate::translator) fn first_indexed(&mut self, key: Key, hash: u64, packet: &mut [u8]) -> Verdict {
        let (client, original) = ends(key);
        let Some(&rule) = self.find_rule(key.ports as u8, client.0, original) else {
            return self.state.pass();
        };
        // A prefix does not speak of every address: that is left to the long way.
        let begun = if rule.host().is_some() { self.begin(key, hash, packet, Some(&rule)) } else { None };
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
                let verdict = self.first(&mut parts, &flow_of(key));
                self.state.count(verdict)
            }
            Err(reason) => self.state.count(Verdict::Drop(reason)),
        }
    }

    /// Drops a packet for whose connection there is no room, and says so if that is wanted.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, key: Key, packet: &mut [u8]) -> Verdict {
        if let Ok(parts) = ipv4::split(packet) {
            self.state.say_prohibited(DropReason::TableFull, &flow_of(key), &parts);
        }
        self.state.count(Verdict::Drop(DropReason::TableFull))
    }

    /// Opens the connection and carries its first packet over. `None` if there is anything unusual.
    #[inline(always)]
    fn begin(&mut self, there: Key, hash: u64, packet: &mut [u8], rule: Option<&DivertSlot>) -> Option<Verdict> {
        let (client, original) = ends(there);
        let protocol = there.ports as u8;
        let next = if self.state.free == NONE { self.state.fresh } else { self.state.free };
        if next as usize >= self.memory.connections.len() {
            cold_path();
            self.fetch_for_eviction();
        }
        // While the index is still waited for, the other lines that the connection is going to be written to are fetched.
        let hash_client = self.state.keys.hash_client(client.0);
        self.clients().prefetch(hash_client);
        prefetch(self.memory.connections, next as usize);
        let config = &self.state.config;
        // All at once, since it is nearly always so.
        let unusual = u32::from(self.state.extras)
            | u32::from(self.state.forwards)
            | u32::from(self.state.moves.is_closed())
            | config.client_limit
            | u32::from(config.port_choice != PortChoice::Random)
            | u32::from(!self.state.one_range)
            | config.own.len() as u32;
        let range = *usually(config.alternatives.iter().next())?;
        usually_not(unusual != 0 || self.state.own_hull.holds(client.0) || ipv4::is_martian(client.0))?;
        let rule = match rule {
            Some(rule) => rule,
            None => usually(rule::find_host(self.rules(), protocol, client.0, original))?,
        };
        usually_not(rule.keeps_source() || rule.has_siblings())?;
        let mut member = rule.servers;
        let mut server = usually(self.memory.servers.get(usize::from(member)))?;
        if server.next != server::NONE {
            cold_path();
            member = self.member_for(member, client.0, original.0)?;
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

        let state = &mut *self.state;
        state.recent.advance(state.tick, state.timers.hold());
        let state = &*state;
        let (serial, mut draws) = (state.serial.wrapping_add(1), state.draws);
        let wanted = Wanted { client, server, serial };
        let suits = |candidate: &(u32, u16)| candidate.1 != 0 && !state.recent.may_hold(*candidate, server.0);
        let mut alternative = usually(ports::early(&state.keys, &mut draws, &range, &wanted, 0))?;
        if !suits(&alternative) {
            cold_path();
            let mut draw = |attempt| ports::early(&state.keys, &mut draws, &range, &wanted, attempt);
            alternative = (1..DRAWS).filter_map(&mut draw).find(suits)?;
        }
        let back = Key::new(protocol, alternative, server);
        let hash_back = state.keys.hash(&back);
        prefetch(self.memory.index, state.layout.position(ToClient, hash_back) as usize);
        let (connections, index) = (&*self.memory.connections, &*self.memory.index);
        usually_not(state.find_hashed(connections, index, ToClient, &back, hash_back).is_some())?;

        // From here on it is as usual, or the table is full.
        self.tidy();
        (self.state.serial, self.state.draws) = (serial, draws);
        let Some(slot) = usually(self.take_free()).or_else(|| self.allocate()) else {
            return Some(self.refuse(there, packet));
        };
        let state = &*self.state;
        let mut new = Entry {
            client: client.0,
            client_port: client.1,
            original: original.0,
            original_port: original.1,
            alternative: alternative.0,
            alternative_port: alternative.1,
            server: server.0,
            server_port: server.1,
            protocol,
            phase,
            member,
            last: state.tick,
            epoch: state.moves.epoch,
            ..Entry::EMPTY
        };
        new.set_deltas(state.config.checksums);
        *usually(self.slot_mut(slot))? = new;
        if !self.list(ToServer, hash, slot) {
            cold_path();
            self.give_back(slot);
            return Some(self.refuse(there, packet));
        }
        if !self.list(ToClient, hash_back, slot) {
            cold_path();
            self.leave(slot, Which::There);
            self.give_back(slot);
            return Some(self.refuse(there, packet));
        }
        self.count_in(slot, hash_client, member);
        self.state.ages.append(self.memory.connections, phase.class(), slot, self.state.tick);
        // The rule has its address in the filter already.
        self.state.counters.opened = self.state.counters.opened.wrapping_add(1);
        Some(self.carry_first(slot, &new, packet))
    }

    /// Asks for the lines that will most likely be looked at when somebody has to make room: those of the oldest, and of
    /// who will be among the oldest next.
    #[cold]
    #[inline(never)]
    fn fetch_for_eviction(&mut self) {
        for class in [Class::Held, Class::TcpTransitory, Class::UdpUnanswered] {
            let mut slot = self.state.ages.head(class);
            let Some(&oldest) = self.slot(slot) else { continue };
            for which in [Which::There, Which::Back] {
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

    /// Enters a slot in the index of this way. False, and nothing changed, if there is no room.
    #[inline(always)]
    fn list(&mut self, direction: Direction, hash: u64, slot: u32) -> bool {
        let (layout, index) = (self.state.layout, &mut *self.memory.index);
        layout.insert_early(index, direction, hash, slot) || list_late(layout, index, direction, hash, slot)
    }

    /// Carries over the packet that has opened the connection in this slot.
    #[inline(always)]
    fn carry_first(&mut self, slot: u32, new: &Entry, packet: &mut [u8]) -> Verdict {
        let Ok(mut parts) = ipv4::split(packet) else {
            return self.state.count(Verdict::Drop(DropReason::MalformedIpv4));
        };
        // A SYN that opens changes nothing but what is known of the sequence numbers.
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

/// Says of what is looked at that it is hardly ever `None`: the compiler takes what follows for the way to make short.
#[inline(always)]
fn usually<T>(looked_at: Option<T>) -> Option<T> {
    if looked_at.is_none() {
        cold_path();
    }
    looked_at
}

/// `None` if it is so, which it hardly ever is.
#[inline(always)]
fn usually_not(it_is_so: bool) -> Option<()> {
    if it_is_so {
        cold_path();
        return None;
    }
    Some(())
}

/// What a packet of this key says.
const fn flow_of(there: Key) -> Flow {
    let ((source, source_port), (destination, destination_port)) = ends(there);
    Flow { source, destination, source_port, destination_port, protocol: there.ports as u8, shape: Shape::Whole }
}

/// The client's endpoint and the original one.
#[inline(always)]
const fn ends(there: Key) -> ((u32, u16), (u32, u16)) {
    let client = ((there.addresses >> 32) as u32, (there.ports >> 32) as u16);
    (client, (there.addresses as u32, (there.ports >> 16) as u16))
}

//! Memory from an allocator.

use alloc::vec;
use alloc::vec::Vec;

use crate::table::connection::ConnectionSlot;
use crate::table::event_queue::EventSlot;
#[cfg(target_pointer_width = "64")]
use crate::table::groups::{GROUP_WORDS, groups_for};
use crate::table::index::INDEX_WORDS;
use crate::table::redivert_log::{MAX_OUTSTANDING, MoveSlot};
use crate::table::rule::DivertSlot;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::CLASS_WORDS;
use crate::table::server::{MAX_SERVERS, ServerSlot};
#[cfg(target_pointer_width = "64")]
use crate::table::storage::FEW_RULES;
use crate::table::storage::{Parts, View, sealed};
use crate::track::fragments::FragmentSlot;
use crate::track::measure::MeasureSlot;
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::resume::ResumeSlot;

/// Memory from the heap, all of it allocated at construction: nothing is allocated after that.
///
/// ```
/// use byway::{Config, Heap, Translator};
///
/// let storage = Heap::new(100_000, 64).events(1_000).measured();
/// let translator = Translator::new(Config::new([7; 32]), storage)?;
/// # let _ = translator;
/// # Ok::<(), byway::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Heap {
    connections: Vec<ConnectionSlot>,
    index: Vec<u32>,
    diverts: Vec<DivertSlot>,
    servers: Vec<ServerSlot>,
    #[cfg(target_pointer_width = "64")]
    rule_index: Vec<u32>,
    #[cfg(target_pointer_width = "64")]
    rule_filter: Vec<u16>,
    #[cfg(target_pointer_width = "64")]
    server_index: Vec<u16>,
    #[cfg(target_pointer_width = "64")]
    group_index: Vec<u32>,
    moves: Vec<MoveSlot>,
    fragments: Vec<FragmentSlot>,
    events: Vec<EventSlot>,
    measured: Vec<MeasureSlot>,
    measured_servers: Vec<MeasuredServerSlot>,
    resumable: Vec<ResumeSlot>,
}

impl Heap {
    /// Empty tables for this many connections, and for this many rules, servers of rules, and re-diverts in one
    /// sweep (at most 64 of those); with room for 64 fragmented datagrams and 64 events, and without measurements.
    #[must_use]
    pub fn new(connections: usize, diverts: usize) -> Self {
        #[cfg(target_pointer_width = "64")]
        let indexed = if diverts > FEW_RULES { diverts } else { 0 };
        Self {
            connections: vec![ConnectionSlot::EMPTY; connections],
            // One line more, so that the index can start on a line wherever the allocator puts it.
            index: vec![0; connections.saturating_mul(INDEX_WORDS) + 16],
            diverts: vec![DivertSlot::EMPTY; diverts],
            servers: Vec::new(),
            #[cfg(target_pointer_width = "64")]
            rule_index: vec![0; if indexed == 0 { 0 } else { indexed.saturating_mul(2) + CLASS_WORDS + 16 }],
            #[cfg(target_pointer_width = "64")]
            rule_filter: vec![0; indexed],
            #[cfg(target_pointer_width = "64")]
            server_index: vec![0; indexed.min(MAX_SERVERS)],
            #[cfg(target_pointer_width = "64")]
            group_index: Vec::new(),
            moves: vec![MoveSlot::EMPTY; diverts.min(MAX_OUTSTANDING)],
            fragments: vec![FragmentSlot::EMPTY; 64],
            events: vec![EventSlot::EMPTY; 64],
            measured: Vec::new(),
            measured_servers: Vec::new(),
            resumable: Vec::new(),
        }
        .servers(diverts)
    }

    /// Room for `count` servers of rules in all; 65 534 is the most that can be numbered.
    #[must_use]
    pub fn servers(mut self, count: usize) -> Self {
        let count = count.min(MAX_SERVERS);
        self.servers = vec![ServerSlot::EMPTY; count];
        if !self.measured_servers.is_empty() {
            self.measured_servers = vec![MeasuredServerSlot::EMPTY; count];
        }
        #[cfg(target_pointer_width = "64")]
        {
            self.group_index = vec![0; groups_for(count) * GROUP_WORDS];
        }
        self
    }

    /// Room for `count` fragmented datagrams in progress.
    ///
    /// On a 64-bit machine a datagram can be in any of 16 places or a few more, which a keyed hash chooses, so that a
    /// fragment costs the same however large `count` is. If all of them are taken by incomplete datagrams, the oldest
    /// gives way.
    #[must_use]
    pub fn fragments(mut self, count: usize) -> Self {
        self.fragments = vec![FragmentSlot::EMPTY; count];
        self
    }

    /// Room for `count` events that wait to be fetched.
    #[must_use]
    pub fn events(mut self, count: usize) -> Self {
        self.events = vec![EventSlot::EMPTY; count];
        if self.measured.len() > self.connections.len() { self.measured_events() } else { self }
    }

    /// Measures each connection, and each server of a rule.
    #[must_use]
    pub fn measured(mut self) -> Self {
        self.measured = vec![MeasureSlot::EMPTY; self.connections.len()];
        self.measured_servers = vec![MeasuredServerSlot::EMPTY; self.servers.len()];
        self
    }

    /// The same, and keeps what else is known about each event, such as what was measured of a connection until its end
    /// (`Translator::poll_report`, feature `report`).
    #[must_use]
    pub fn measured_events(mut self) -> Self {
        self = self.measured();
        self.measured.resize(self.connections.len().saturating_add(self.events.len()), MeasureSlot::EMPTY);
        self
    }

    /// Has room for connections that can be handed over ([`Divert::resumable`](crate::Divert::resumable)).
    #[must_use]
    pub fn resumable(mut self) -> Self {
        self.resumable = vec![ResumeSlot::EMPTY; self.connections.len()];
        self
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Heap {
    fn format(&self, f: defmt::Formatter<'_>) {
        sealed::Memory::view(self).format(f);
    }
}

impl sealed::Memory for Heap {
    #[inline(always)]
    fn parts(&mut self) -> Parts<'_> {
        parts!(self, &mut self.index)
    }

    #[inline(always)]
    fn view(&self) -> View<'_> {
        view!(self, &self.index)
    }
}

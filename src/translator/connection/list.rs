//! Listing the contents of the tables.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::connection::{Connection, Direction, Measured};
use crate::counters::Counters;
use crate::endpoint::Protocol;
use crate::error::ConfigError;
use crate::table::connection::{ConnectionSlot, Entry};
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::timeouts::Timeouts;
use crate::track::measure::MeasureSlot;
use crate::translator::Translator;
use crate::translator::state::State;
#[cfg(feature = "control")]
use crate::translator::state::Table;

/// An iterator over the current connections, in no particular order; from [`Translator::connections`].
///
/// Each step skips the empty slots before the next connection.
#[derive(Clone, Debug)]
pub struct Connections<'a> {
    state: &'a State,
    slots: &'a [ConnectionSlot],
    measured: &'a [MeasureSlot],
    next: usize,
}

#[cfg(feature = "defmt")]
impl defmt::Format for Connections<'_> {
    /// How far it has come, in slots.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Connections {{ next: {}, end: {} }}", self.next, self.slots.len());
    }
}

impl Connections<'_> {
    pub(crate) fn next_slot(&mut self) -> Option<(usize, &Entry)> {
        loop {
            let place = self.next;
            let ConnectionSlot(slot) = self.slots.get(place)?;
            self.next += 1;
            if slot.is_shown() && !self.state.is_dead(slot) {
                return Some((place, slot));
            }
        }
    }

    /// The next connection, and what was measured of it if the storage has room for measurements.
    pub fn next_measured(&mut self) -> Option<(Connection, Option<Measured>)> {
        let (state, measured) = (self.state, self.measured);
        let (place, slot) = self.next_slot()?;
        let report = measured.get(place).map(|m| m.report(state.on_clock(slot.last), state.now));
        Some((slot.view()?, report))
    }
}

impl Iterator for Connections<'_> {
    type Item = Connection;

    fn next(&mut self) -> Option<Connection> {
        self.next_slot()?.1.view()
    }
}

#[cfg(feature = "defmt")]
impl<S: Storage> defmt::Format for Translator<S> {
    /// How full it is, and its counters.
    fn format(&self, f: defmt::Formatter<'_>) {
        let State { used, diverts, generation, counters, .. } = &self.state;
        let capacity = self.capacity();
        defmt::write!(f, "Translator {{ used: {}/{}, rules: {}, generation: {}, ", used, capacity, diverts, generation);
        defmt::write!(f, "counters: {} }}", counters);
    }
}

impl<S: Storage> Translator<S> {
    /// The current connections, including finished ones that still handle stragglers. A connection that is being reset
    /// is listed only until both of its ends have been sent a RST; [`connection`](Self::connection) finds it for two
    /// minutes more, while segments that its ends still send are answered.
    ///
    /// A stale connection, which has not followed a re-divert yet, is shown on the server that its last packet went to.
    #[must_use]
    pub fn connections(&self) -> Connections<'_> {
        self.connections_from(0)
    }

    /// The current connections from the slot `first` on, for listing in pages: [`Connections::position`] says where the
    /// next page begins.
    #[must_use]
    pub fn connections_from(&self, first: usize) -> Connections<'_> {
        let view = self.storage.view();
        let (slots, measured) = (view.connections, view.measured);
        let fresh = slots.get(..self.state.fresh as usize).unwrap_or(slots);
        Connections { state: &self.state, slots: fresh, measured, next: first }
    }

    /// The connection between this client and this original destination, and what was measured of it.
    #[must_use]
    pub fn connection(
        &self,
        protocol: Protocol,
        client: SocketAddrV4,
        original: SocketAddrV4,
    ) -> Option<(Connection, Option<Measured>)> {
        let slot = self.find(&Key::new(protocol.number(), client.into(), original.into()))?;
        let view = self.storage.view();
        let ConnectionSlot(connection) = view.connections.get(slot as usize)?;
        let measured = view.measured.get(slot as usize);
        Some((connection.view()?, measured.map(|m| m.report(self.state.on_clock(connection.last), self.state.now))))
    }

    pub(in crate::translator) fn find(&self, key: &Key) -> Option<u32> {
        let view = self.storage.view();
        let slot = self.state.find(view.connections, view.index, Direction::ToServer, key)?;
        let ConnectionSlot(connection) = view.connections.get(slot as usize)?;
        (!self.state.is_dead(connection)).then_some(slot)
    }

    /// How many slots are in use: current connections, and finished ones whose alternative endpoint is in quarantine.
    #[must_use]
    pub const fn slots_in_use(&self) -> u32 {
        self.state.used
    }

    /// Whether an address is one of the translator's own: an alternative address (of any shard), or one that
    /// [`Config::own`](crate::Config::own) names. Nothing can be diverted to it, rules for prefixes do not match it,
    /// and packets that claim to come from it are dropped where a rule matches them.
    ///
    /// ```
    /// use byway::{Config, Fixed, Translator};
    /// use core::net::{Ipv4Addr, SocketAddrV4};
    ///
    /// let [alternative, inside, elsewhere] = [[10, 10, 10, 10], [192, 168, 7, 1], [8, 8, 8, 8]].map(Ipv4Addr::from);
    /// let config = Config::new([7; 32]).alternative(alternative, 32_768..=60_999).own(inside);
    /// let byway = Translator::new(config, Fixed::<64, 4>::new())?;
    ///
    /// assert!(byway.is_own(alternative) && byway.is_own(inside) && !byway.is_own(elsewhere));
    ///
    /// // May a program of this machine listen on a port, or send from it, without taking it from a connection?
    /// let at = |port| SocketAddrV4::new(alternative, port);
    /// assert!(byway.is_alternative(at(40_000)) && !byway.is_alternative(at(22)));
    /// assert!(!byway.is_alternative(SocketAddrV4::new(inside, 40_000)));
    /// # Ok::<(), byway::ConfigError>(())
    /// ```
    #[must_use]
    pub fn is_own(&self, address: Ipv4Addr) -> bool {
        self.state.is_own(address.to_bits())
    }

    /// Whether an endpoint is an alternative address with one of the ports (or echo identifiers) that this translator
    /// gives to connections, whether or not a connection has it now. A packet to it is a reply, and is dropped if it
    /// belongs to no connection, unless a rule names this very address and port. Other ports of the address are the
    /// machine's own. Port zero is never given to a connection.
    ///
    /// This does not cover clients that keep their source, whose replies go to their own addresses.
    #[must_use]
    pub fn is_alternative(&self, endpoint: SocketAddrV4) -> bool {
        endpoint.port() != 0 && self.state.gives_away(endpoint.into())
    }

    /// How many connections there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.storage.view().connections.len()
    }

    /// The counters since the translator was created.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// Changes the time-outs, for existing connections as well as for new ones.
    ///
    /// # Errors
    /// [`ConfigError`] if one is below the floor of the RFCs, unless the configuration allows it, or above
    /// [`Timeouts::MAX`].
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), ConfigError> {
        timeouts.check(self.state.config.short_timeouts)?;
        self.state.set_timeouts(&timeouts);
        Ok(())
    }

    /// The time-outs.
    #[must_use]
    pub const fn timeouts(&self) -> Timeouts {
        self.state.config.timeouts
    }

    /// Until when a fragment that gets [`Verdict::Hold`](crate::Verdict::Hold) at `now` is worth keeping: `now` plus
    /// [`Timeouts::fragment`]. Its receiver would not wait longer for the rest of the datagram either.
    #[must_use]
    pub fn hold_until(&self, now: Instant) -> Instant {
        now + self.state.config.timeouts.fragment
    }

    /// Changes how many connections one client may have; zero means no limit. Existing connections stay.
    ///
    /// # Errors
    /// [`ConfigError::ClientLimit`] above 65 534.
    pub fn set_client_limit(&mut self, connections: u32) -> Result<(), ConfigError> {
        check_client_limit(connections)?;
        self.state.config.client_limit = connections;
        Ok(())
    }

    /// How many connections one client may have; zero means no limit.
    #[must_use]
    pub const fn client_limit(&self) -> u32 {
        self.state.config.client_limit
    }
}

impl State {
    /// Sets time-outs that have been checked.
    pub(crate) fn set_timeouts(&mut self, timeouts: &Timeouts) {
        self.timers.set(timeouts);
        self.config.timeouts = *timeouts;
    }
}

pub(in crate::translator) const fn check_client_limit(connections: u32) -> Result<(), ConfigError> {
    if connections > MAX_CLIENT_LIMIT { Err(ConfigError::ClientLimit { value: connections }) } else { Ok(()) }
}

/// The largest number that the count of a client's connections can hold.
pub(crate) const MAX_CLIENT_LIMIT: u32 = 65_534;

#[cfg(feature = "control")]
impl Table<'_> {
    /// The current connections in the `slots` slots from `first` on, and the position after the last slot in use.
    pub(crate) fn connections_within(&self, first: usize, slots: usize) -> (Connections<'_>, usize) {
        let all = (self.state.fresh as usize).min(self.memory.connections.len());
        let end = first.saturating_add(slots).min(all);
        let slots = self.memory.connections.get(..end).unwrap_or_default();
        (Connections { state: self.state, slots, measured: self.memory.measured, next: first }, all)
    }
}

impl Connections<'_> {
    /// The slot at which the next page begins.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.next
    }
}

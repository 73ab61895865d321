//! The re-diverts that connections may still have to follow.
//!
//! A re-divert is recorded once, here, however many connections it moves. Each connection stores the number of the last
//! one that it has followed (its epoch, modulo 256). A connection with an older epoch is stale; it follows when its
//! next packet arrives. Meanwhile a sweep goes through the slots, a few at each call, and makes the silent connections
//! follow too. When the sweep is complete no connection is stale, and the places can be reused.

use crate::endpoint::Endpoint;
use crate::table::server::{self, Place};
use crate::table::servers::Servers;
use crate::time::Tick;
use crate::wire::ipv4::{ICMP, TCP};

/// The largest number of outstanding re-diverts with any storage: epochs modulo 256 must remain distinct.
pub(super) const MAX_OUTSTANDING: usize = 64;

/// Room for one outstanding re-divert in a translator's storage.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MoveSlot {
    from: u32,
    to: u32,
    from_port: u16,
    to_port: u16,
    any_from_port: bool,
    keep_port: bool,
    treatment: Treatment,
    /// The server entry of this move, for connections whose own entry no longer describes their server; or none.
    entry: u16,
}

/// What a move does to the connections that it applies to. When several apply, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub(crate) enum Treatment {
    /// They change servers.
    Switch = 0,
    /// They stay, and those that can be handed over wait for that.
    HandOver,
    /// As `HandOver`, but TCP connections that cannot be handed over are reset.
    HandOverOrReset,
    /// TCP connections are reset, others change servers.
    Reset,
}

impl MoveSlot {
    /// An unused place.
    pub const EMPTY: Self = Self {
        from: 0,
        to: 0,
        from_port: 0,
        to_port: 0,
        any_from_port: false,
        keep_port: false,
        treatment: Treatment::Switch,
        entry: 0,
    };

    pub(crate) fn new(from: Place, to: Place, treatment: Treatment, entry: u16) -> Self {
        Self {
            from: from.address,
            to: to.address,
            from_port: from.port.unwrap_or(0),
            to_port: to.port.unwrap_or(0),
            any_from_port: from.port.is_none(),
            keep_port: to.port.is_none(),
            treatment,
            entry,
        }
    }

    fn from(&self) -> Place {
        Place { address: self.from, port: (!self.any_from_port).then_some(self.from_port) }
    }

    fn to(&self) -> Place {
        Place { address: self.to, port: (!self.keep_port).then_some(self.to_port) }
    }

    /// The next step of the route of a connection that has come this far. `None` if this move does not apply to it.
    #[inline(always)]
    fn apply(&self, route: Route, portless: bool) -> Option<Route> {
        if !self.from().holds(route.server) {
            return None;
        }
        let Endpoint { address, port } = self.to().resolve(route.server.port);
        Some(Route {
            server: Endpoint::new(address, if portless { 0 } else { port }),
            treatment: route.treatment.max(self.treatment),
            // When a later move continues an earlier one, the earlier one's entry has already been changed to match.
            entry: if self.entry == server::NONE { route.entry } else { self.entry },
        })
    }
}

/// The state of the log; its places are in the storage, as a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedivertLog {
    /// The number of the newest move.
    pub(crate) epoch: u8,
    /// How many of the newest moves a connection may still have to follow.
    outstanding: u8,
    /// How many places of the ring contain moves, outstanding or not.
    known: u8,
    /// The place of the next move.
    next: u8,
    /// The next slot that the sweep examines; [`DONE`] if there is nothing to sweep for.
    pub(crate) cursor: u32,
    /// The next slot, never beyond the sweep's, whose ends may be owed a RST; [`DONE`] if there is none.
    pub(crate) reset_cursor: u32,
    /// Connections that are this many epochs old, or more, are forgotten: [`NOBODY`] if none are, zero if all are.
    forgotten: u16,
    /// How many different epochs connections may have besides the newest.
    span: u8,
    /// When connections were last forgotten.
    forgotten_at: Tick,
}

/// A value of [`RedivertLog::forgotten`] that no connection's age in epochs reaches.
const NOBODY: u16 = 256;

/// The largest [`RedivertLog::span`] with which one more epoch leaves room for all outstanding re-diverts.
const MOST_SPAN: u8 = (255 - MAX_OUTSTANDING - 1) as u8;

/// There is nothing to sweep for.
pub(crate) const DONE: u32 = u32::MAX;

/// Where a connection is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) server: Endpoint,
    pub(crate) treatment: Treatment,
    /// The entry of the last move that has one, or [`server::NONE`].
    pub(crate) entry: u16,
}

impl RedivertLog {
    pub(crate) const NONE: Self = Self {
        epoch: 0,
        outstanding: 0,
        known: 0,
        next: 0,
        cursor: DONE,
        reset_cursor: DONE,
        forgotten: NOBODY,
        span: 0,
        forgotten_at: Tick(0),
    };

    fn capacity(slots: &[MoveSlot]) -> usize {
        slots.len().min(MAX_OUTSTANDING)
    }

    pub(crate) fn is_full(&self, slots: &[MoveSlot]) -> bool {
        usize::from(self.outstanding) >= Self::capacity(slots)
    }

    /// How many more re-diverts can be outstanding.
    pub(crate) fn room(&self, slots: &[MoveSlot]) -> usize {
        Self::capacity(slots).saturating_sub(usize::from(self.outstanding))
    }

    /// Adds a move, and restarts the sweep.
    pub(crate) fn push(&mut self, slots: &mut [MoveSlot], new: MoveSlot) {
        let capacity = Self::capacity(slots);
        if let Some(slot) = slots.get_mut(usize::from(self.next)) {
            *slot = new;
        }
        self.next = if usize::from(self.next) + 1 >= capacity { 0 } else { self.next + 1 };
        self.next_epoch();
        self.outstanding += 1;
        self.known = (usize::from(self.known) + 1).min(capacity) as u8;
        self.cursor = 0;
        if new.treatment >= Treatment::HandOverOrReset {
            self.reset_cursor = 0;
        }
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.span = self.span.saturating_add(1);
        if self.forgotten != 0 && self.forgotten != NOBODY {
            self.forgotten += 1;
        }
    }

    /// Forgets every connection as of `now`; if `any` is false, all have already been forgotten. Forgotten connections
    /// are recognised by their epochs. No re-divert is left to follow, and no server has connections any more.
    ///
    /// When the epochs are used up, because connections forgotten many times before have not been swept yet, the table
    /// [is closed](Self::is_closed) to new connections until they have been. Returns how many were counted on servers.
    pub(crate) fn forget(&mut self, slots: &[MoveSlot], servers: &mut Servers<'_>, now: Tick, any: bool) -> u32 {
        self.drop_outstanding(slots, servers);
        let counted = servers.forget();
        self.forgotten_at = now;
        if !any {
            return counted;
        }
        self.forgotten = 0;
        if self.can_forget() {
            self.next_epoch();
            self.forgotten = 1;
        }
        counted
    }

    /// Whether an epoch is left to distinguish new connections from forgotten ones.
    const fn can_forget(&self) -> bool {
        self.span <= MOST_SPAN
    }

    /// Whether a connection of this epoch is forgotten.
    #[cfg_attr(target_pointer_width = "64", inline)]
    pub(crate) fn has_forgotten(&self, epoch: u8) -> bool {
        u16::from(self.epoch.wrapping_sub(epoch)) >= self.forgotten
    }

    /// Whether forgotten connections may still be in the table.
    pub(crate) const fn is_forgetting(&self) -> bool {
        self.forgotten != NOBODY
    }

    /// Whether no connection can be opened for now.
    pub(crate) const fn is_closed(&self) -> bool {
        self.forgotten == 0
    }

    /// When connections were last forgotten.
    pub(crate) const fn forgotten_at(&self) -> Tick {
        self.forgotten_at
    }

    /// Records that no forgotten connection is left in the table.
    pub(crate) fn forgot_all(&mut self) {
        if self.is_forgetting() {
            self.span = self.forgotten.saturating_sub(1) as u8;
            self.forgotten = NOBODY;
        }
    }

    /// Records that the sweep is complete: no connection is stale. Detaches the server entries that the moves held.
    pub(crate) fn settle(&mut self, slots: &[MoveSlot], servers: &mut Servers<'_>) {
        self.drop_outstanding(slots, servers);
        // Every slot has been examined since the last time that connections were forgotten.
        (self.forgotten, self.span) = (NOBODY, 0);
    }

    fn drop_outstanding(&mut self, slots: &[MoveSlot], servers: &mut Servers<'_>) {
        for ago in 0..self.outstanding {
            if let Some(slot) = self.ago(slots, ago) {
                servers.detach(slot.entry);
            }
        }
        self.outstanding = 0;
        self.cursor = DONE;
    }

    /// Where a connection of this epoch on `server` is to go. `None` if it stays. The servers of an ICMP echo are
    /// `portless`.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn route(&self, slots: &[MoveSlot], epoch: u8, server: Endpoint, portless: bool) -> Option<Route> {
        let missed = self.epoch.wrapping_sub(epoch).min(self.outstanding);
        let route = Route { server, treatment: Treatment::Switch, entry: server::NONE };
        #[cfg(target_pointer_width = "64")]
        if missed == 1 {
            return self.ago(slots, 0)?.apply(route, portless);
        }
        self.route_of_many(slots, missed, route, portless)
    }

    /// The same for a connection that has missed this many moves.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn route_of_many(&self, slots: &[MoveSlot], missed: u8, mut route: Route, portless: bool) -> Option<Route> {
        let mut moved = false;
        for ago in (0..missed).rev() {
            if let Some(further) = self.ago(slots, ago).and_then(|slot| slot.apply(route, portless)) {
                route = further;
                moved = true;
            }
        }
        moved.then_some(route)
    }

    /// Whether a connection that a record shows on this server would be elsewhere, or reset, if it had been here: the
    /// moves in the log, taken together, lead away from it.
    pub(crate) fn leads_away(&self, slots: &[MoveSlot], server: Endpoint, protocol: u8) -> bool {
        let route = Route { server, treatment: Treatment::Switch, entry: server::NONE };
        let end = self.route_of_many(slots, self.known, route, protocol == ICMP);
        end.is_some_and(|end| {
            let is_reset = protocol == TCP && end.treatment >= Treatment::HandOverOrReset;
            is_reset || end.server != server
        })
    }

    /// Whether connections were moved away from this server, as far as the log goes back.
    pub(crate) fn left(&self, slots: &[MoveSlot], server: Endpoint) -> bool {
        (0..self.known).filter_map(|ago| self.ago(slots, ago)).any(|slot| slot.from().holds(server))
    }

    fn ago<'s>(&self, slots: &'s [MoveSlot], ago: u8) -> Option<&'s MoveSlot> {
        let capacity = Self::capacity(slots);
        let back = usize::from(ago) + 1;
        let next = usize::from(self.next);
        let place = if next >= back { next - back } else { (next + capacity).checked_sub(back)? };
        slots.get(place)
    }
}

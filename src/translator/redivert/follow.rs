//! How stale connections follow the re-diverts in the log: when their next packet arrives, or when the sweep reaches
//! them.

#[cfg(target_pointer_width = "64")]
use crate::connection::Direction;
use crate::endpoint::Endpoint;
use crate::event::Closed;
#[cfg(feature = "report")]
use crate::event::Moving;
#[cfg(target_pointer_width = "64")]
use crate::intrinsics::prefetch;
use crate::table::connection::{
    ANY_PORT_REPLIES, ConnectionSlot, OWES_CLIENT, OWES_SERVER, SERVER_COUNTED, SOURCE_KEPT,
};
use crate::table::event_queue::EventKind;
#[cfg(target_pointer_width = "64")]
use crate::table::hash::Key;
use crate::table::redivert_log::{DONE, Route, Treatment};
use crate::table::server::{self, Kind};
use crate::track::claims::Claims;
use crate::track::phase::Phase;
use crate::translator::rules::find::describes;
#[cfg(target_pointer_width = "64")]
use crate::translator::state::State;
use crate::translator::state::{Followed, Table};
use crate::translator::table::servers;
use crate::wire::ipv4::{ICMP, TCP};

impl Table<'_> {
    /// Makes a connection follow the re-diverts that it has not followed yet.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn follow_rediverts(&mut self, slot: u32) -> Followed {
        if self.slot(slot).is_none_or(|c| c.epoch == self.state.redivert_log.epoch) {
            return Followed::Stayed;
        }
        #[cfg(target_pointer_width = "64")]
        return self.follow_moves(slot);
        // Without a re-divert, an older epoch means that the connection is forgotten.
        #[cfg(not(target_pointer_width = "64"))]
        self.state.follow_moves.map_or(Followed::Stayed, |follow| follow(self, slot))
    }

    /// Like [`follow_rediverts`](Self::follow_rediverts), for a stale connection.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn follow_moves(&mut self, slot: u32) -> Followed {
        let moves = &self.state.redivert_log;
        let Some(ConnectionSlot(connection)) = self.memory.connections.get_mut(slot as usize) else {
            return Followed::Stayed;
        };
        let epoch = core::mem::replace(&mut connection.epoch, moves.epoch);
        if connection.phase.is_over() {
            self.stay_ended(slot);
            return Followed::Stayed;
        }
        let server = connection.server_endpoint();
        let Some(route) = moves.route(self.memory.moves, epoch, server, connection.protocol == ICMP) else {
            return self.stay(slot, server::NONE);
        };
        let goes_home = connection.has(SOURCE_KEPT) && route.server == connection.original_endpoint();
        if route.treatment != Treatment::Switch && connection.protocol == TCP && !self.stays_open(slot, route.treatment)
        {
            self.start_reset(slot);
            return Followed::Reset;
        }
        if route.server == server {
            return self.stay(slot, route.entry);
        }
        if goes_home {
            // Neither address is replaced any more: there is nothing to translate.
            self.finish(slot, Closed::Rediverted);
            self.release(slot);
            return Followed::Home;
        }
        self.move_to(slot, server, route)
    }

    /// Whether a TCP connection stays open after a re-divert that does more than switch its server. If it can be handed
    /// over, it waits for that from now on.
    #[cold]
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn stays_open(&mut self, slot: u32, treatment: Treatment) -> bool {
        treatment != Treatment::Reset && self.state.for_resumable.is_some_and(|f| (f.want)(self, slot, treatment))
    }

    /// A finished connection does not move. Clearing its claims keeps it from being reopened on its old
    /// server.
    #[cold]
    #[inline(never)]
    fn stay_ended(&mut self, slot: u32) {
        self.set_claims(slot, Claims::default());
    }

    /// A connection stays on its server, which its own entry may have left: if the moves lead back, and only some of
    /// them have changed the entry; or if it has another port than the entry, as an ICMP echo and a reply from another
    /// port have. Then it is counted with the last move's entry, or nowhere.
    #[cfg_attr(target_pointer_width = "64", inline)]
    fn stay(&mut self, slot: u32, entry: u16) -> Followed {
        let has_left = |c: &ConnectionSlot| {
            let own = self.memory.servers.get(usize::from(c.0.member));
            c.0.has(SERVER_COUNTED) && own.is_some_and(|s| s.kind != Kind::Same && s.address != c.0.server)
        };
        if entry != server::NONE || self.memory.connections.get(slot as usize).is_some_and(has_left) {
            self.recount(slot, entry);
        }
        Followed::Stayed
    }

    /// Moves a connection from one server to another.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn move_to(&mut self, slot: u32, from: Endpoint, route: Route) -> Followed {
        self.state.serial = self.state.serial.wrapping_add(1);
        #[cfg(feature = "report")]
        let before = self.slot(slot).map(|c| c.alternative_endpoint());
        #[cfg(target_pointer_width = "64")]
        let listed = self.relist_plainly(slot, route.server).unwrap_or_else(|| self.relist(slot, route.server));
        #[cfg(not(target_pointer_width = "64"))]
        let listed = self.relist(slot, route.server);
        if !listed {
            return Followed::Stranded;
        }
        // If none of the moves has an entry, every entry still describes its connections.
        if route.entry != server::NONE {
            self.recount(slot, route.entry);
        }
        self.state.counters.moved = self.state.counters.moved.wrapping_add(1);
        #[cfg(feature = "report")]
        self.keep_move(slot, before, Moving::Instruction);
        self.notify(slot, EventKind::Moved(from));
        Followed::Moved
    }

    /// Gives a connection its new server and an alternative endpoint that is free there, and updates the reply index.
    /// False if that is not possible; the connection is closed then.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn relist(&mut self, slot: u32, server: Endpoint) -> bool {
        let Some(old) = self.slot(slot) else {
            return false;
        };
        let flags = old.flags;
        let here = old.alternative_endpoint();
        let alternative = if self.is_free(old, server, here) {
            Some(here)
        } else if old.has(SOURCE_KEPT) {
            None
        } else {
            self.choose_alternative(old, server)
        };
        let listed = alternative.is_some_and(|alternative| {
            self.remember(slot);
            self.unlist_reply(slot);
            let checksums = self.state.config.checksums;
            if let Some(connection) = self.slot_mut(slot) {
                connection.set_server(server);
                connection.set_alternative(alternative);
                connection.flags = flags;
                connection.set_deltas(checksums);
                let key = connection.reply_key();
                self.reclaim(key);
            }
            self.list_reply(slot)
        });
        if !listed {
            self.close_stranded(slot, alternative.is_some());
        }
        listed
    }

    /// Like [`relist`](Self::relist), for the simple case: no connection has the new reply key. Each key is hashed
    /// once. `None`, with nothing changed, in any other case.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    fn relist_plainly(&mut self, slot: u32, server: Endpoint) -> Option<bool> {
        const BACK: Direction = Direction::ToClient;
        let connection = &self.memory.connections.get(slot as usize)?.0;
        if connection.has(ANY_PORT_REPLIES) {
            return None;
        }
        let state = &mut *self.state;
        let here = connection.alternative_endpoint();
        let key = Key::new(connection.protocol, here, server);
        let (old, new) = (state.keys.hash(&connection.reply_key()), state.keys.hash(&key));
        if state.find_hashed(self.memory.connections, self.memory.index, BACK, &key, new).is_some() {
            return None;
        }
        state.recent.add(here, connection.server);
        let mut index = state.layout.index(self.memory.index, BACK);
        index.remove(old, slot);
        let listed = index.insert(new, slot);
        let connection = &mut self.memory.connections.get_mut(slot as usize)?.0;
        connection.set_server(server);
        connection.set_deltas(self.state.config.checksums);
        if !listed {
            self.close_stranded(slot, true);
        }
        Some(listed)
    }

    /// Closes a connection that could not be moved. `unlisted` says that it is only in the forward index.
    pub(in crate::translator) fn close_stranded(&mut self, slot: u32, unlisted: bool) {
        if unlisted && let Some(connection) = self.slot_mut(slot) {
            connection.flags &= !ANY_PORT_REPLIES;
        }
        self.give_up(slot, Closed::Stranded);
    }

    /// Counts a connection with this entry, or nowhere if it is none, if its own entry describes another server.
    #[cfg_attr(target_pointer_width = "64", cold)]
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    pub(in crate::translator) fn recount(&mut self, slot: u32, entry: u16) {
        let Some(connection) = self.slot(slot) else {
            return;
        };
        let (member, counted) = (connection.member, connection.has(SERVER_COUNTED));
        if self.memory.servers.get(usize::from(member)).is_some_and(|server| describes(server, connection)) {
            return;
        }
        if counted {
            self.discount(member);
        }
        let counted = server::count(self.memory.servers, entry);
        if let Some(connection) = self.slot_mut(slot) {
            connection.member = entry;
            connection.flags &= !SERVER_COUNTED;
            connection.flags |= if counted { SERVER_COUNTED } else { 0 };
        }
        if let Some(measured) = self.state.for_measured {
            (measured.moved)(self, slot);
        }
    }

    /// Ends a TCP connection, and marks both of its ends as owed a RST.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn start_reset(&mut self, slot: u32) {
        self.finish(slot, Closed::Rediverted);
        self.expect_resets(slot);
        self.begin_phase(slot, Phase::Resetting);
        if self.state.config.resets_per_second == 0 {
            // The configuration forbids RSTs: the ends will find out by themselves.
            self.state.counters.transmit_lost = self.state.counters.transmit_lost.wrapping_add(2);
        } else if let Some(connection) = self.slot_mut(slot) {
            connection.flags |= OWES_CLIENT | OWES_SERVER;
        }
    }

    /// Like [`start_reset`](Self::start_reset), for a connection that no sweep reaches.
    pub(in crate::translator) fn reset_alone(&mut self, slot: u32) {
        self.start_reset(slot);
        let reset_cursor = &mut self.state.redivert_log.reset_cursor;
        *reset_cursor = slot.min(*reset_cursor);
    }

    /// Fetches the buckets that the connection in a slot will leave and enter when it follows a re-divert, if it has yet to
    /// follow one.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(in crate::translator) fn prefetch_move(&self, slot: u32) {
        let State { redivert_log: log, keys, layout, .. } = &*self.state;
        let Some(ConnectionSlot(connection)) = self.memory.connections.get(slot as usize) else {
            return;
        };
        if connection.epoch == log.epoch || connection.phase.is_over() {
            return;
        }
        let server = connection.server_endpoint();
        if let Some(route) = log.route(self.memory.moves, connection.epoch, server, connection.protocol == ICMP) {
            let here = connection.alternative_endpoint();
            for server in [server, route.server] {
                let hash = keys.hash(&Key::new(connection.protocol, here, server));
                prefetch(self.memory.index, layout.position(Direction::ToClient, hash) as usize);
            }
        }
    }

    /// Makes stale connections follow, examining at most `slots` slots.
    pub(in crate::translator) fn sweep(&mut self, slots: usize) {
        #[cfg(target_pointer_width = "64")]
        if self.state.redivert_log.cursor != DONE {
            let first = self.state.redivert_log.cursor;
            let end = first.saturating_add(slots as u32).min(self.state.fresh);
            (first..end).for_each(|slot| self.prefetch_move(slot));
        }
        for _ in 0..slots {
            let cursor = self.state.redivert_log.cursor;
            if cursor == DONE {
                return;
            }
            if cursor >= self.state.fresh {
                self.state.redivert_log.settle(self.memory.moves, &mut servers!(self.state, self.memory));
                self.state.set_plain_epoch();
                return;
            }
            if self.slot(cursor).is_some_and(|c| c.phase != Phase::Free) {
                // A dead connection is closed instead of moved.
                if !self.close_if_dead(cursor) {
                    self.follow_rediverts(cursor);
                }
            }
            self.state.redivert_log.cursor = cursor + 1;
        }
    }

    /// The next connection, among at most `slots`, one of whose ends is owed a RST. If this scan overtakes the sweep,
    /// it advances the sweep.
    pub(in crate::translator) fn next_owing(&mut self, slots: usize) -> Option<u32> {
        for _ in 0..slots {
            let reset_cursor = self.state.redivert_log.reset_cursor;
            if reset_cursor == DONE {
                return None;
            }
            if reset_cursor >= self.state.fresh {
                self.state.redivert_log.reset_cursor = DONE;
                return None;
            }
            if reset_cursor >= self.state.redivert_log.cursor {
                self.sweep(1);
                continue;
            }
            if self.slot(reset_cursor).is_some_and(|c| c.has(OWES_CLIENT | OWES_SERVER)) {
                return Some(reset_cursor);
            }
            self.state.redivert_log.reset_cursor = reset_cursor + 1;
        }
        None
    }
}

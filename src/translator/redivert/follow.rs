//! How connections follow the re-diverts that were written down: when their next packet finds them behind, or when the
//! sweep comes by.

#[cfg(target_pointer_width = "64")]
use crate::connection::Direction;
use crate::event::Closed;
use crate::table::connection::{ConnectionSlot, OWES_CLIENT, OWES_SERVER, SERVER_COUNTED, SIBLINGS, SOURCE_KEPT};
use crate::table::event_queue::News;
#[cfg(target_pointer_width = "64")]
use crate::table::hash::Key;
use crate::table::redivert_log::{Course, DONE};
use crate::table::server;
use crate::track::claims::Claims;
use crate::track::phase::Phase;
use crate::translator::table::{Table, servers};
use crate::wire::flow::{ICMP, TCP};

/// What catching up has made of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaughtUp {
    /// It is where it was.
    Stayed,
    /// It stands on another server.
    Moved,
    /// It is being reset.
    Reset,
    /// It is gone: no port was free for it.
    Stranded,
    /// It is gone: it went back to its original destination, with its source kept.
    Home,
}

impl Table<'_> {
    /// Lets a connection follow the re-diverts that it has not followed yet.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn catch_up(&mut self, slot: u32) -> CaughtUp {
        let moves = &self.state.moves;
        let Some(ConnectionSlot(connection)) = self.memory.connections.get_mut(slot as usize) else {
            return CaughtUp::Stayed;
        };
        let behind = connection.epoch;
        if behind == moves.epoch {
            return CaughtUp::Stayed;
        }
        connection.epoch = moves.epoch;
        if connection.phase.is_over() {
            self.stay_ended(slot);
            return CaughtUp::Stayed;
        }
        let server = (connection.server, connection.server_port);
        let Some(course) = moves.course(self.memory.moves, behind, server, connection.protocol == ICMP) else {
            return CaughtUp::Stayed;
        };
        if course.reset && connection.protocol == TCP {
            self.start_reset(slot);
            return CaughtUp::Reset;
        }
        if course.server == server {
            return CaughtUp::Stayed;
        }
        if connection.has(SOURCE_KEPT) && course.server == (connection.original, connection.original_port) {
            // Neither address is replaced any more: there is nothing to translate.
            self.finish(slot, Closed::Rediverted);
            self.release(slot);
            return CaughtUp::Home;
        }
        self.relocate(slot, server, course)
    }

    /// A connection that is over does not move, so it must not be opened again where it stands.
    #[cold]
    #[inline(never)]
    fn stay_ended(&mut self, slot: u32) {
        self.set_claims(slot, Claims::default());
    }

    /// Puts a connection from one server onto another.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn relocate(&mut self, slot: u32, from: (u32, u16), course: Course) -> CaughtUp {
        self.state.serial = self.state.serial.wrapping_add(1);
        #[cfg(target_pointer_width = "64")]
        let listed = self.relist_plainly(slot, course.server).unwrap_or_else(|| self.relist(slot, course.server));
        #[cfg(not(target_pointer_width = "64"))]
        let listed = self.relist(slot, course.server);
        if !listed {
            return CaughtUp::Stranded;
        }
        // None of the moves has an entry where every entry describes its connections.
        if course.entry != server::NONE {
            self.recount(slot, course);
        }
        self.state.counters.moved = self.state.counters.moved.wrapping_add(1);
        self.tell(slot, News::Moved(from));
        CaughtUp::Moved
    }

    /// Gives a connection its new server, and an alternative endpoint that is free there, and lists it as such. False if
    /// it cannot be, in which case it is gone.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn relist(&mut self, slot: u32, server: (u32, u16)) -> bool {
        let Some(old) = self.slot(slot) else {
            return false;
        };
        let flags = old.flags;
        let here = (old.alternative, old.alternative_port);
        let alternative = if self.is_free(old, server, here) {
            Some(here)
        } else if old.has(SOURCE_KEPT) {
            None
        } else {
            self.choose_alternative(old, server)
        };
        let listed = alternative.is_some_and(|alternative| {
            self.remember(slot);
            self.unlist_back(slot);
            let checksums = self.state.config.checksums;
            if let Some(connection) = self.slot_mut(slot) {
                (connection.server, connection.server_port) = server;
                (connection.alternative, connection.alternative_port) = alternative;
                connection.flags = flags;
                connection.set_deltas(checksums);
                let key = connection.key_back();
                self.reclaim(key);
            }
            self.list_back(slot)
        });
        if !listed {
            self.strand(slot, alternative.is_some());
        }
        listed
    }

    /// The same where there is nothing to it: nobody at all has the key that the way back will have. Each key is hashed
    /// once. `None`, and nothing has changed, if there is more to it.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    fn relist_plainly(&mut self, slot: u32, server: (u32, u16)) -> Option<bool> {
        const BACK: Direction = Direction::ToClient;
        let connection = &self.memory.connections.get(slot as usize)?.0;
        if connection.has(SIBLINGS) {
            return None;
        }
        let state = &mut *self.state;
        let here = (connection.alternative, connection.alternative_port);
        let key = Key::new(connection.protocol, here, server);
        let (old, new) = (state.keys.hash(&connection.key_back()), state.keys.hash(&key));
        if state.find_hashed(self.memory.connections, self.memory.index, BACK, &key, new).is_some() {
            return None;
        }
        state.recent.add(here, connection.server);
        let mut index = state.layout.index(self.memory.index, BACK);
        index.remove(old, slot);
        let listed = index.insert(new, slot);
        let connection = &mut self.memory.connections.get_mut(slot as usize)?.0;
        (connection.server, connection.server_port) = server;
        connection.set_deltas(self.state.config.checksums);
        if !listed {
            self.strand(slot, true);
        }
        Some(listed)
    }

    /// Ends a connection that could not be moved. `unlisted` says that it is in the index of the way there alone.
    pub(crate) fn strand(&mut self, slot: u32, unlisted: bool) {
        if unlisted && let Some(connection) = self.slot_mut(slot) {
            connection.flags &= !SIBLINGS;
        }
        self.give_up(slot, Closed::Stranded);
    }

    /// Counts a moved connection where it stands now, if its entry speaks of another server.
    #[cfg_attr(target_pointer_width = "64", cold)]
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn recount(&mut self, slot: u32, course: Course) {
        let Some(connection) = self.slot(slot) else {
            return;
        };
        let (member, counted, portless) =
            (connection.member, connection.has(SERVER_COUNTED), connection.protocol == ICMP);
        let original = (connection.original, connection.original_port);
        let described = self.servers().get(member).is_some_and(|s| {
            let (address, port) = s.resolve(original);
            address == course.server.0 && (port == course.server.1 || portless)
        });
        if described {
            return;
        }
        if counted {
            self.discount(member);
        }
        let counted = server::count(self.memory.servers, course.entry);
        if let Some(connection) = self.slot_mut(slot) {
            connection.member = course.entry;
            connection.flags &= !SERVER_COUNTED;
            connection.flags |= if counted { SERVER_COUNTED } else { 0 };
        }
    }

    /// Ends a TCP connection, and owes both of its ends a RST.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn start_reset(&mut self, slot: u32) {
        self.finish(slot, Closed::Rediverted);
        self.expect_resets(slot);
        self.begin_phase(slot, Phase::Resetting);
        if self.state.config.resets_per_second == 0 {
            // By the configuration: the ends will find out by themselves.
            self.state.counters.transmit_lost = self.state.counters.transmit_lost.wrapping_add(2);
        } else if let Some(connection) = self.slot_mut(slot) {
            connection.flags |= OWES_CLIENT | OWES_SERVER;
        }
    }

    /// Lets connections catch up, at most `slots` of them.
    pub(crate) fn sweep(&mut self, slots: usize) {
        for _ in 0..slots {
            let cursor = self.state.moves.cursor;
            if cursor == DONE {
                return;
            }
            if cursor >= self.state.fresh {
                self.state.moves.settle(self.memory.moves, &mut servers!(self.state, self.memory));
                self.state.set_plain_epoch();
                return;
            }
            if self.slot(cursor).is_some_and(|c| c.phase != Phase::Free) {
                // The dead follow nobody.
                if self.is_dead(cursor) {
                    self.bury(cursor);
                } else {
                    self.catch_up(cursor);
                }
            }
            self.state.moves.cursor = cursor + 1;
        }
    }

    /// The next connection, among at most `slots`, one of whose ends is to be told with a RST. Whoever comes here before
    /// the sweep lets it go on.
    pub(crate) fn next_owing(&mut self, slots: usize) -> Option<u32> {
        for _ in 0..slots {
            let telling = self.state.moves.telling;
            if telling == DONE {
                return None;
            }
            if telling >= self.state.fresh {
                self.state.moves.telling = DONE;
                return None;
            }
            if telling >= self.state.moves.cursor {
                self.sweep(1);
                continue;
            }
            if self.slot(telling).is_some_and(|c| c.has(OWES_CLIENT | OWES_SERVER)) {
                return Some(telling);
            }
            self.state.moves.telling = telling + 1;
        }
        None
    }
}

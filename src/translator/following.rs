//! How connections follow the re-diverts that were written down: when their next packet finds them behind, or when the
//! sweep comes by.

use super::state::Table;
use crate::event::Closed;
use crate::table::connection::{OWES_CLIENT, OWES_SERVER, SERVER_COUNTED, SIBLINGS, SOURCE_KEPT};
use crate::table::events::News;
use crate::table::moves::{Course, DONE};
use crate::table::server::{self, Servers};
use crate::track::phase::Phase;
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
    pub(crate) fn catch_up(&mut self, slot: u32) -> CaughtUp {
        let epoch = self.state.moves.epoch;
        let Some(connection) = self.slot_mut(slot) else {
            return CaughtUp::Stayed;
        };
        let behind = connection.epoch;
        if behind == epoch {
            return CaughtUp::Stayed;
        }
        connection.epoch = epoch;
        if connection.phase.is_over() {
            return CaughtUp::Stayed;
        }
        let server = (connection.server, connection.server_port);
        let protocol = connection.protocol;
        let home = connection.has(SOURCE_KEPT).then_some((connection.original, connection.original_port));
        let Some(course) = self.state.moves.course(self.memory.moves, behind, server, protocol == ICMP) else {
            return CaughtUp::Stayed;
        };
        if course.reset && protocol == TCP {
            self.start_reset(slot);
            return CaughtUp::Reset;
        }
        if course.server == server {
            return CaughtUp::Stayed;
        }
        if home == Some(course.server) {
            // Neither address is replaced any more: there is nothing to translate.
            self.finish(slot, Closed::Rediverted);
            self.release(slot);
            return CaughtUp::Home;
        }
        self.relocate(slot, course)
    }

    /// Puts a connection onto another server.
    fn relocate(&mut self, slot: u32, course: Course) -> CaughtUp {
        self.state.serial = self.state.serial.wrapping_add(1);
        let Some(old) = self.slot(slot) else {
            return CaughtUp::Stayed;
        };
        let (from, flags) = ((old.server, old.server_port), old.flags);
        let here = (old.alternative, old.alternative_port);
        let alternative = if self.is_free(old, course.server, here) {
            Some(here)
        } else if old.has(SOURCE_KEPT) {
            None
        } else {
            self.choose_alternative(old, course.server)
        };
        let listed = alternative.is_some_and(|alternative| {
            self.remember(slot);
            self.unlist_back(slot);
            let checksums = self.state.config.checksums;
            if let Some(connection) = self.slot_mut(slot) {
                (connection.server, connection.server_port) = course.server;
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
            return CaughtUp::Stranded;
        }
        self.recount(slot, course);
        self.state.counters.moved = self.state.counters.moved.wrapping_add(1);
        self.tell(slot, News::Moved(from));
        CaughtUp::Moved
    }

    /// Ends a connection that could not be moved. `unlisted` says that it is in the index of the way there alone.
    pub(crate) fn strand(&mut self, slot: u32, unlisted: bool) {
        if unlisted && let Some(connection) = self.slot_mut(slot) {
            connection.flags &= !SIBLINGS;
        }
        self.give_up(slot, Closed::Stranded);
    }

    /// Counts a moved connection where it stands now, if its entry speaks of another server.
    fn recount(&mut self, slot: u32, course: Course) {
        let Some(&connection) = self.slot(slot) else {
            return;
        };
        let original = (connection.original, connection.original_port);
        let described = self.servers().get(connection.member).is_some_and(|s| {
            let (address, port) = s.resolve(original);
            address == course.server.0 && (port == course.server.1 || connection.protocol == ICMP)
        });
        if described || course.entry == server::NONE {
            return;
        }
        if connection.has(SERVER_COUNTED) {
            self.servers().discount(connection.member);
        }
        let counted = self.servers().count(course.entry);
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
        self.set_phase(slot, Phase::Resetting);
        let tick = self.state.tick;
        if self.state.config.resets_per_second == 0 {
            // Silenced by the configuration: the ends will find out by themselves.
            self.state.counters.transmit_lost = self.state.counters.transmit_lost.wrapping_add(2);
            return;
        }
        if let Some(connection) = self.slot_mut(slot) {
            connection.last = tick;
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
                let mut servers = Servers(self.memory.servers);
                self.state.moves.settle(self.memory.moves, &mut servers);
                return;
            }
            if self.slot(cursor).is_some_and(|c| c.phase != Phase::Free) {
                self.catch_up(cursor);
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

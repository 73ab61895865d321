//! How connections end: by themselves, by their time-out, or to make room.

use crate::event::Closed;
use crate::table::connection::{
    CLIENT_COUNTED, OWES_CLIENT, OWES_SERVER, SERVER_COUNTED, SIBLINGS, SOURCE_KEPT, Which,
};
use crate::table::event_queue::News;
use crate::track::phase::Phase;
use crate::translator::table::Table;

impl Table<'_> {
    /// Moves a connection to another phase, and to the age list that belongs to it.
    pub(crate) fn set_phase(&mut self, slot: u32, phase: Phase) {
        self.enter_phase(slot, phase, false);
    }

    /// Moves a connection to another phase, whose time-out begins now, even if the packet itself prolongs nothing: it
    /// may be shorter than the connection has been silent for.
    pub(crate) fn begin_phase(&mut self, slot: u32, phase: Phase) {
        self.enter_phase(slot, phase, true);
    }

    fn enter_phase(&mut self, slot: u32, phase: Phase, anew: bool) {
        let tick = self.state.tick;
        let Some(connection) = self.slot_mut(slot) else {
            return;
        };
        let same = connection.phase.class() == phase.class();
        let seen = connection.phase.state() != phase.state();
        // What only the tracker tells apart has one time-out.
        if anew && (seen || !same) {
            connection.last = tick;
        }
        if same {
            connection.phase = phase;
        } else {
            self.state.lingered |= phase.is_lingering();
            self.dequeue(slot);
            if let Some(connection) = self.slot_mut(slot) {
                connection.phase = phase;
            }
            self.enqueue(slot);
        }
        if seen && self.state.config.tell_changes {
            self.tell(slot, News::Changed);
        }
    }

    /// The connection has come to its end: it is told and counted, once. Its slot stays as it is.
    pub(crate) fn finish(&mut self, slot: u32, why: Closed) {
        let Some(connection) = self.slot_mut(slot) else {
            return;
        };
        if connection.phase.is_over() {
            return;
        }
        let (flags, member, client) = (connection.flags, connection.member, connection.client);
        connection.flags &= !(CLIENT_COUNTED | SERVER_COUNTED);
        if flags & CLIENT_COUNTED != 0 {
            let hash = self.state.keys.hash_client(client);
            self.clients().subtract(hash);
        }
        if flags & SERVER_COUNTED != 0 {
            self.discount(member);
        }
        self.count_closed(why);
        self.tell(slot, News::Closed(why));
    }

    /// Ends a connection whose server may still know it: its alternative endpoint is held for a while (RFC 6888, REQ-8).
    /// The RSTs that it owes are said all the same.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn hold(&mut self, slot: u32, why: Closed) {
        self.finish(slot, why);
        self.leave(slot, Which::There);
        self.dequeue(slot);
        let tick = self.state.tick;
        if let Some(connection) = self.slot_mut(slot) {
            connection.phase = Phase::Held;
            connection.last = tick;
        }
        self.enqueue(slot);
    }

    /// Gives a slot back, whatever it holds.
    pub(crate) fn release(&mut self, slot: u32) {
        let Some(connection) = self.slot(slot) else {
            return;
        };
        let (phase, flags) = (connection.phase, connection.flags);
        if phase == Phase::Free {
            return;
        }
        if phase.is_listed() {
            self.leave(slot, Which::There);
        }
        self.unlist_back(slot);
        let unsaid = u64::from(flags & OWES_CLIENT != 0) + u64::from(flags & OWES_SERVER != 0);
        self.state.counters.transmit_lost = self.state.counters.transmit_lost.wrapping_add(unsaid);
        self.dequeue(slot);
        let kept = flags & SOURCE_KEPT != 0;
        self.state.kept -= u32::from(kept);
        self.outdate_filter(kept);
        self.give_back(slot);
    }

    /// Takes a connection out of the index of the way back.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn unlist_back(&mut self, slot: u32) {
        self.leave(slot, Which::Back);
        self.unlist_siblings(slot);
    }

    /// Takes a connection out of that index as one that takes what other ports of its server send, if it does.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn unlist_siblings(&mut self, slot: u32) {
        let siblings = self.slot(slot).is_some_and(|c| c.has(SIBLINGS));
        if siblings {
            self.leave(slot, Which::Siblings);
            self.state.siblings -= 1;
            if let Some(c) = self.slot_mut(slot) {
                c.flags &= !SIBLINGS;
            }
        }
    }
}

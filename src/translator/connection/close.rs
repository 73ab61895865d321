//! How connections end: by their own protocol, by their time-out, or to make room.

use crate::event::Closed;
use crate::table::connection::{
    ANY_PORT_REPLIES, CLIENT_COUNTED, IndexKey, OWES_CLIENT, OWES_SERVER, SERVER_COUNTED, SOURCE_KEPT,
};
use crate::table::event_queue::EventKind;
use crate::track::phase::Phase;
use crate::translator::state::Table;

impl Table<'_> {
    /// Moves a connection to another phase, and to the age list of that phase.
    pub(in crate::translator) fn set_phase(&mut self, slot: u32, phase: Phase) {
        self.enter_phase(slot, phase, false);
    }

    /// Moves a connection to another phase whose time-out starts now, even if the packet itself does not refresh the
    /// connection: the new time-out may be shorter than the time since the last packet that did.
    pub(in crate::translator) fn begin_phase(&mut self, slot: u32, phase: Phase) {
        self.enter_phase(slot, phase, true);
    }

    fn enter_phase(&mut self, slot: u32, phase: Phase, anew: bool) {
        let tick = self.state.tick;
        let Some(connection) = self.slot_mut(slot) else {
            return;
        };
        let phase = connection.stored(phase);
        let same = connection.phase.class() == phase.class();
        let seen = connection.phase.state() != phase.state();
        // Phases that only the tracker distinguishes share one time-out.
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
            self.notify(slot, EventKind::Changed);
        }
    }

    /// Marks the end of a connection: counts it and notifies the caller, once. The slot stays as it is.
    pub(in crate::translator) fn finish(&mut self, slot: u32, why: Closed) {
        if let Some(measured) = self.state.for_measured {
            (measured.close)(self, slot, why);
        }
        self.finish_unmeasured(slot, why);
    }

    /// The same where the storage has no room for measurements.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn finish_unmeasured(&mut self, slot: u32, why: Closed) {
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
        self.notify(slot, EventKind::Closed(why));
    }

    /// Ends a connection that its server may still know: its alternative endpoint goes into quarantine (RFC 6888,
    /// REQ-8). RSTs that it owes are still sent.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in crate::translator) fn quarantine(&mut self, slot: u32, why: Closed) {
        self.finish(slot, why);
        self.retire(slot);
    }

    /// The same for one whose time-out has passed, where the storage has no room for measurements. On a large processor it
    /// is faster without asking.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn quarantine_expired(&mut self, slot: u32) {
        #[cfg(not(target_pointer_width = "64"))]
        self.finish(slot, Closed::Expired);
        #[cfg(target_pointer_width = "64")]
        self.finish_unmeasured(slot, Closed::Expired);
        self.retire(slot);
    }

    /// Keeps a connection that has ended in quarantine.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn retire(&mut self, slot: u32) {
        self.leave(slot, IndexKey::Forward);
        self.dequeue(slot);
        let tick = self.state.tick;
        if let Some(connection) = self.slot_mut(slot) {
            connection.phase = Phase::Quarantined;
            connection.last = tick;
        }
        self.enqueue(slot);
    }

    /// Frees a slot, whatever it holds.
    pub(in crate::translator) fn release(&mut self, slot: u32) {
        let Some(connection) = self.slot(slot) else {
            return;
        };
        let (phase, flags) = (connection.phase, connection.flags);
        if phase == Phase::Free {
            return;
        }
        if phase.is_listed() {
            self.leave(slot, IndexKey::Forward);
        }
        self.unlist_reply(slot);
        let unsaid = u64::from(flags & OWES_CLIENT != 0) + u64::from(flags & OWES_SERVER != 0);
        self.state.counters.transmit_lost = self.state.counters.transmit_lost.wrapping_add(unsaid);
        self.dequeue(slot);
        let kept = flags & SOURCE_KEPT != 0;
        self.state.kept -= u32::from(kept);
        self.outdate_filter(kept);
        self.give_back(slot);
    }

    /// Removes a connection from the reply index.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in crate::translator) fn unlist_reply(&mut self, slot: u32) {
        self.leave(slot, IndexKey::Reply);
        self.unlist_any_port_replies(slot);
    }

    /// Removes a connection's any-port-reply entry from the reply index, if it has one.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn unlist_any_port_replies(&mut self, slot: u32) {
        let any_port_replies = self.slot(slot).is_some_and(|c| c.has(ANY_PORT_REPLIES));
        if any_port_replies {
            self.leave(slot, IndexKey::AnyPortReply);
            self.state.any_port_replies -= 1;
            if let Some(c) = self.slot_mut(slot) {
                c.flags &= !ANY_PORT_REPLIES;
            }
        }
    }
}

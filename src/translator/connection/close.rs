//! How connections end: by their own protocol, by their time-out, or to make room.

use crate::connection::Connection;
use crate::endpoint::Pair;
use crate::event::Closed;
use crate::table::connection::{
    ANY_PORT_REPLIES, CLIENT_COUNTED, ConnectionSlot, IndexKey, OWES_CLIENT, OWES_SERVER, SERVER_COUNTED, SOURCE_KEPT,
};
use crate::table::event_queue::EventKind;
use crate::table::hash::Key;
use crate::table::storage::Storage;
use crate::track::phase::Phase;
use crate::translator::Translator;
use crate::translator::state::{Followed, Table};
use crate::wire::ipv4::TCP;

impl<S: Storage> Translator<S> {
    /// Ends one connection at once: from now on no packet finds it. The next packet of its client may open another.
    ///
    /// It is reported and counted as [`Closed::Forgotten`], and its alternative endpoint is quarantined. Neither end is
    /// notified, except by RSTs that an earlier re-divert has ordered.
    ///
    /// Returns false and changes nothing if there is no connection between this client and this original destination,
    /// or if it has another alternative source, which shows that it is a later connection. Its server may differ, since
    /// a re-divert moves a connection.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// byway.divert(Divert::new(original).to(server))?;
    /// byway.translate(Instant::ZERO, &mut udp(client, original));
    ///
    /// let connection = byway.connections().next().expect("one");
    /// assert!(byway.close(&connection));
    /// assert!(!byway.close(&connection));
    /// assert_eq!((byway.connections().count(), byway.connections_on(server)), (0, 0));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn close(&mut self, connection: &Connection) -> bool {
        let Some(slot) = self.find_same(connection) else {
            return false;
        };
        let mut table = self.table();
        // It is counted on its current server only after it has followed outstanding re-diverts.
        if !matches!(table.follow_rediverts(slot), Followed::Stranded | Followed::Home) {
            table.quarantine(slot, Closed::Forgotten);
        }
        true
    }

    /// Ends one TCP connection as a re-divert with [`Redivert::Reset`](crate::Redivert::Reset) does: both ends are sent
    /// a RST ([`poll_transmit`](Self::poll_transmit)), and segments that they send afterwards are answered with one. It
    /// is reported and counted as [`Closed::Rediverted`].
    ///
    /// Returns false and changes nothing if [`close`](Self::close) would not find the connection, or if it is over or
    /// not TCP.
    pub fn reset(&mut self, connection: &Connection) -> bool {
        let Some(slot) = self.find_same(connection) else {
            return false;
        };
        let mut table = self.table();
        let followed = table.follow_rediverts(slot);
        if table.slot(slot).is_none_or(|c| c.protocol != TCP || c.phase.is_over()) {
            return followed == Followed::Reset;
        }
        table.reset_alone(slot);
        true
    }

    /// The slot of a connection with the same client, original destination and alternative source.
    fn find_same(&self, connection: &Connection) -> Option<u32> {
        let Pair { source, destination } = connection.client_side;
        let slot = self.find(&Key::new(connection.protocol.number(), source.into(), destination.into()))?;
        let ConnectionSlot(known) = self.storage.view().connections.get(slot as usize)?;
        (known.alternative_endpoint() == connection.server_side.source.into()).then_some(slot)
    }
}

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

    fn enter_phase(&mut self, slot: u32, phase: Phase, restarts: bool) {
        let tick = self.state.tick;
        let Some(connection) = self.slot_mut(slot) else {
            return;
        };
        let phase = connection.stored(phase);
        let same = connection.phase.class() == phase.class();
        let seen = connection.phase.state() != phase.state();
        // Phases that only the tracker distinguishes share one time-out.
        if restarts && (seen || !same) {
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

    /// Like [`finish`](Self::finish), where the storage has no room for measurements.
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
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn quarantine(&mut self, slot: u32, why: Closed) {
        self.finish(slot, why);
        self.retire(slot);
    }

    /// Quarantines a connection whose time-out has passed, where the storage has no room for measurements. On a large
    /// processor it is faster not to check for that.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn quarantine_expired(&mut self, slot: u32) {
        if cfg!(target_pointer_width = "64") {
            self.finish_unmeasured(slot, Closed::Expired);
            self.retire(slot);
        } else {
            self.quarantine(slot, Closed::Expired);
        }
    }

    /// Keeps a connection that has ended in quarantine. If its time-out has passed, it ended then, however late that is
    /// noticed.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn retire(&mut self, slot: u32) {
        self.leave(slot, IndexKey::Forward);
        self.dequeue(slot);
        if let Some(ConnectionSlot(connection)) = self.memory.connections.get_mut(slot as usize) {
            connection.last = self.state.timers.end(connection.phase, connection.last, self.state.tick);
            connection.phase = Phase::Quarantined;
        }
        self.enqueue(slot);
    }

    /// Frees a slot, no matter what it holds.
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
        let unsent = u64::from(flags & OWES_CLIENT != 0) + u64::from(flags & OWES_SERVER != 0);
        self.state.counters.transmit_lost = self.state.counters.transmit_lost.wrapping_add(unsent);
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

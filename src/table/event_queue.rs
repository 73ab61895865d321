//! Events that wait to be fetched, in a ring over the storage.

use crate::endpoint::Endpoint;
use crate::event::{Closed, Event};
use crate::table::connection::Entry;
use crate::track::phase::Phase;

/// Room for one event in a translator's storage.
///
/// An [`Event`] in flat form: all zeros when empty, so that a queue in a `static` takes no flash.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EventSlot {
    addresses: [u32; 4],
    /// The server before a move.
    from: Endpoint,
    ports: [u16; 4],
    protocol: u8,
    phase: Phase,
    kind: Kind,
    why: Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
enum Kind {
    Opened = 0,
    Changed,
    Moved,
    Closed,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Opened,
    Changed,
    /// From this server.
    Moved(Endpoint),
    Closed(Closed),
}

impl EventSlot {
    /// An empty place.
    pub const EMPTY: Self = Self {
        addresses: [0; 4],
        from: Endpoint::NONE,
        ports: [0; 4],
        protocol: 0,
        phase: Phase::Free,
        kind: Kind::Opened,
        why: Closed::Finished,
    };

    fn pack(c: &Entry, event: EventKind) -> Self {
        let (kind, from, why) = match event {
            EventKind::Opened => (Kind::Opened, Endpoint::NONE, Closed::Finished),
            EventKind::Changed => (Kind::Changed, Endpoint::NONE, Closed::Finished),
            EventKind::Moved(from) => (Kind::Moved, from, Closed::Finished),
            EventKind::Closed(why) => (Kind::Closed, Endpoint::NONE, why),
        };
        Self {
            addresses: [c.client, c.original, c.alternative, c.server],
            from,
            ports: [c.client_port, c.original_port, c.alternative_port, c.server_port],
            protocol: c.protocol,
            phase: c.phase,
            kind,
            why,
        }
    }

    /// Whether it reports that a connection of this client was opened.
    #[cfg(feature = "report")]
    pub(crate) fn is_opening_of(&self, client: Endpoint) -> bool {
        self.kind == Kind::Opened && Endpoint::new(self.addresses[0], self.ports[0]) == client
    }

    fn unpack(&self) -> Option<Event> {
        let [client, original, alternative, server] = self.addresses;
        let [client_port, original_port, alternative_port, server_port] = self.ports;
        let connection = Entry {
            client,
            client_port,
            original,
            original_port,
            alternative,
            alternative_port,
            server,
            server_port,
            protocol: self.protocol,
            phase: self.phase,
            ..Entry::EMPTY
        }
        .view()?;
        Some(match self.kind {
            Kind::Opened => Event::Opened(connection),
            Kind::Changed => Event::Changed(connection),
            Kind::Moved => Event::Moved { connection, from: self.from.socket() },
            Kind::Closed => Event::Closed { connection, why: self.why },
        })
    }
}

/// The two ends of the queue; its places are in the storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventQueue {
    first: u32,
    length: u32,
}

impl EventQueue {
    pub(crate) const EMPTY: Self = Self { first: 0, length: 0 };

    /// Appends an event of a connection. False if there is no room: the older events are kept then, since later ones
    /// make no sense without them.
    #[must_use]
    pub(crate) fn push(&mut self, slots: &mut [EventSlot], connection: &Entry, event: EventKind) -> bool {
        if self.length as usize >= slots.len() {
            return false;
        }
        let mut place = (self.first + self.length) as usize;
        if place >= slots.len() {
            place -= slots.len();
        }
        if let Some(slot) = slots.get_mut(place) {
            *slot = EventSlot::pack(connection, event);
        }
        self.length += 1;
        true
    }

    /// The place of the oldest event.
    #[cfg(feature = "report")]
    pub(crate) const fn oldest(&self) -> Option<usize> {
        if self.length == 0 { None } else { Some(self.first as usize) }
    }

    /// The place of the latest event in a queue of `capacity` places.
    #[cfg(feature = "report")]
    pub(crate) const fn latest(&self, capacity: usize) -> Option<usize> {
        if self.length == 0 { None } else { self.place(self.length as usize - 1, capacity) }
    }

    /// The place of the next event in a queue of `capacity` places, if there is room for one.
    #[cfg(feature = "report")]
    pub(crate) const fn next(&self, capacity: usize) -> Option<usize> {
        if self.length as usize >= capacity { None } else { self.place(self.length as usize, capacity) }
    }

    #[cfg(feature = "report")]
    const fn place(&self, after: usize, capacity: usize) -> Option<usize> {
        (self.first as usize + after).checked_rem(capacity)
    }

    /// Removes and returns the oldest.
    pub(crate) fn pop(&mut self, slots: &[EventSlot]) -> Option<Event> {
        if self.length == 0 {
            return None;
        }
        let event = slots.get(self.first as usize)?.unpack();
        self.first += 1;
        if self.first as usize >= slots.len() {
            self.first = 0;
        }
        self.length -= 1;
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    fn entry(port: u16) -> Entry {
        Entry {
            client: 0x0a00_0001,
            client_port: port,
            original_port: 2,
            alternative_port: 3,
            server_port: 4,
            protocol: 6,
            phase: Phase::Doubtful,
            ..Entry::EMPTY
        }
    }

    fn connection(port: u16) -> Connection {
        entry(port).view().unwrap()
    }

    #[test]
    fn events_come_out_as_they_went_in() {
        let mut slots = [EventSlot::EMPTY; 4];
        let mut queue = EventQueue::EMPTY;
        for event in [
            EventKind::Opened,
            EventKind::Changed,
            EventKind::Moved(Endpoint::new(5, 6)),
            EventKind::Closed(Closed::Stranded),
        ] {
            assert!(queue.push(&mut slots, &entry(1), event));
        }
        for event in [
            Event::Opened(connection(1)),
            Event::Changed(connection(1)),
            Event::Moved { connection: connection(1), from: Endpoint::new(5, 6).socket() },
            Event::Closed { connection: connection(1), why: Closed::Stranded },
        ] {
            assert_eq!(queue.pop(&slots), Some(event));
        }
        assert_eq!(queue.pop(&slots), None);
    }

    #[test]
    fn a_full_queue_keeps_the_oldest() {
        let mut slots = [EventSlot::EMPTY; 2];
        let mut queue = EventQueue::EMPTY;
        for port in 1..=3 {
            assert_eq!(queue.push(&mut slots, &entry(port), EventKind::Opened), port < 3);
        }
        assert_eq!(queue.pop(&slots), Some(Event::Opened(connection(1))));
        assert!(queue.push(&mut slots, &entry(4), EventKind::Opened));
        assert_eq!(queue.pop(&slots), Some(Event::Opened(connection(2))));
        assert_eq!(queue.pop(&slots), Some(Event::Opened(connection(4))));
        assert!(!queue.push(&mut [], &entry(5), EventKind::Opened));
    }
}

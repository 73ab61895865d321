//! What happened to connections, for whoever keeps a log or a picture.

use core::net::SocketAddrV4;

use crate::connection::{Connection, State};
use crate::endpoint::{Pair, Protocol, endpoint};

/// Something that happened to a connection; fetched with
/// [`Translator::poll_event`](crate::Translator::poll_event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// A packet opened it, or a record brought it.
    Opened(Connection),
    /// It changed its state. Told only where the configuration asks for it
    /// ([`Config::tell_changes`](crate::Config::tell_changes)).
    Changed(Connection),
    /// A re-divert moved it; the connection shows where to.
    Moved {
        /// The connection after the move.
        connection: Connection,
        /// The server that it stood on before.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        from: SocketAddrV4,
    },
    /// It came to its end.
    Closed {
        /// The connection as it last was.
        connection: Connection,
        /// Why.
        why: Closed,
    },
}

/// Why a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Closed {
    /// TCP: both sides said good-bye and acknowledged it.
    Finished,
    /// TCP: one side sent a RST with the sequence number that the other expected.
    Reset,
    /// A re-divert ended it: TCP with [`Redivert::Reset`](crate::Redivert::Reset), or a connection that keeps its source
    /// and was sent back to its original destination, so that nothing is left to translate.
    Rediverted,
    /// Its time-out passed.
    Expired,
    /// It was given up to make room.
    Evicted,
    /// It was moved to a server towards which no alternative port was free.
    Stranded,
}

impl Closed {
    /// A short name in lower case, stable across versions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Rediverted => "rediverted",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Stranded => "stranded",
        }
    }
}

/// Room for one event in a translator's storage.
///
/// An [`Event`] in flat form: all zeros when empty, so that a queue in a `static` costs no flash.
#[derive(Clone, Copy, Debug)]
pub struct EventSlot {
    kind: Kind,
    protocol: u8,
    state: u8,
    why: u8,
    ports: [u16; 5],
    addresses: [u32; 5],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Opened = 0,
    Changed,
    Moved,
    Closed,
}

impl EventSlot {
    /// An empty place.
    pub const EMPTY: Self =
        Self { kind: Kind::Opened, protocol: 0, state: 0, why: 0, ports: [0; 5], addresses: [0; 5] };

    fn pack(event: &Event) -> Self {
        let none = SocketAddrV4::new(core::net::Ipv4Addr::UNSPECIFIED, 0);
        let (kind, connection, from, why) = match event {
            Event::Opened(connection) => (Kind::Opened, connection, none, 0),
            Event::Changed(connection) => (Kind::Changed, connection, none, 0),
            Event::Moved { connection, from } => (Kind::Moved, connection, *from, 0),
            Event::Closed { connection, why } => (Kind::Closed, connection, none, *why as u8),
        };
        let (c, s) = (connection.client_side, connection.server_side);
        let all = [c.source, c.destination, s.source, s.destination, from];
        Self {
            kind,
            protocol: connection.protocol.number(),
            state: connection.state as u8,
            why,
            ports: all.map(|e| e.port()),
            addresses: all.map(|e| e.ip().to_bits()),
        }
    }

    fn unpack(&self) -> Event {
        let [p0, p1, p2, p3, p4] = self.ports;
        let [a0, a1, a2, a3, a4] = self.addresses;
        let connection = Connection {
            protocol: Protocol::from_number(self.protocol).unwrap_or(Protocol::Udp),
            client_side: Pair { source: endpoint(a0, p0), destination: endpoint(a1, p1) },
            server_side: Pair { source: endpoint(a2, p2), destination: endpoint(a3, p3) },
            state: State::from_index(self.state),
        };
        match self.kind {
            Kind::Opened => Event::Opened(connection),
            Kind::Changed => Event::Changed(connection),
            Kind::Moved => Event::Moved { connection, from: endpoint(a4, p4) },
            Kind::Closed => Event::Closed { connection, why: Closed::from_index(self.why) },
        }
    }
}

impl State {
    const fn from_index(index: u8) -> Self {
        const ALL: [State; 11] = [
            State::Opening,
            State::Opened,
            State::Established,
            State::ClientClosed,
            State::ServerClosed,
            State::Closing,
            State::TimeWait,
            State::Doubtful,
            State::Resetting,
            State::Unanswered,
            State::Answered,
        ];
        let index = index as usize;
        if index < ALL.len() { ALL[index] } else { Self::Answered }
    }
}

impl Closed {
    const fn from_index(index: u8) -> Self {
        const ALL: [Closed; 6] =
            [Closed::Finished, Closed::Reset, Closed::Rediverted, Closed::Expired, Closed::Evicted, Closed::Stranded];
        let index = index as usize;
        if index < ALL.len() { ALL[index] } else { Self::Expired }
    }
}

/// The queue's two ends; its places lie in the storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventQueue {
    first: u32,
    length: u32,
}

impl EventQueue {
    pub(crate) const EMPTY: Self = Self { first: 0, length: 0 };

    /// Whether there is no room for another event. The older ones stay then, since they tell how the story began.
    pub(crate) const fn is_full(&self, slots: &[EventSlot]) -> bool {
        self.length as usize >= slots.len()
    }

    /// Puts `event` behind the others, if there is room.
    pub(crate) fn push(&mut self, slots: &mut [EventSlot], event: &Event) {
        if self.is_full(slots) {
            return;
        }
        let mut place = (self.first + self.length) as usize;
        if place >= slots.len() {
            place -= slots.len();
        }
        if let Some(slot) = slots.get_mut(place) {
            *slot = EventSlot::pack(event);
        }
        self.length += 1;
    }

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
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(port: u16) -> Connection {
        let here = |p| endpoint(0x0a00_0001, p);
        Connection {
            protocol: Protocol::Tcp,
            client_side: Pair { source: here(port), destination: here(2) },
            server_side: Pair { source: here(3), destination: here(4) },
            state: State::Doubtful,
        }
    }

    #[test]
    fn events_come_out_as_they_went_in() {
        let mut slots = [EventSlot::EMPTY; 4];
        let mut queue = EventQueue::EMPTY;
        let events = [
            Event::Opened(connection(1)),
            Event::Changed(connection(1)),
            Event::Moved { connection: connection(1), from: endpoint(5, 6) },
            Event::Closed { connection: connection(1), why: Closed::Stranded },
        ];
        for event in &events {
            queue.push(&mut slots, event);
        }
        for event in events {
            assert_eq!(queue.pop(&slots), Some(event));
        }
        assert_eq!(queue.pop(&slots), None);
    }

    #[test]
    fn a_full_queue_keeps_the_oldest() {
        let mut slots = [EventSlot::EMPTY; 2];
        let mut queue = EventQueue::EMPTY;
        for port in 1..=3 {
            queue.push(&mut slots, &Event::Opened(connection(port)));
        }
        assert!(queue.is_full(&slots));
        assert_eq!(queue.pop(&slots), Some(Event::Opened(connection(1))));
        queue.push(&mut slots, &Event::Opened(connection(4)));
        assert_eq!(queue.pop(&slots), Some(Event::Opened(connection(2))));
        assert_eq!(queue.pop(&slots), Some(Event::Opened(connection(4))));
        assert!(EventQueue::EMPTY.is_full(&[]));
    }
}

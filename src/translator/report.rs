//! Details of events that the events themselves do not hold. If the storage has more slots for measurements than
//! connections, each place in the queue of events has one of the additional slots.

use crate::connection::Direction;
use crate::endpoint::{Endpoint, Pair};
use crate::event::{Event, Moved, Moving, Report};
use crate::table::connection::Entry;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::track::measure::{About, MeasureSlot};
use crate::translator::Translator;
use crate::translator::state::Table;

impl<S: Storage> Translator<S> {
    /// The next event, oldest first, like [`poll_event`](Self::poll_event), with details that the event itself does not
    /// hold: when it happened, what was measured of a connection until its end, what it was moved from. This requires
    /// storage that measures and has one additional slot for each event ([`Fixed`](crate::Fixed),
    /// [`Borrowed::measured`](crate::Borrowed::measured), or `Heap::measured_events` with the feature `alloc`).
    ///
    /// Fetch each event within 4 hours: the time of an older one is wrong.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # use core::time::Duration;
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// // 64 connections, 4 rules, 8 events; 64 + 8 slots for measurements.
    /// let mut byway = Translator::new(config, Fixed::<64, 4, 8, 8, 72, 0, 4>::sized())?;
    /// byway.divert(Divert::new(original).to(server))?;
    ///
    /// byway.translate(Instant::from_secs(1), &mut udp(client, original));
    /// let opened = byway.poll_report().expect("it has begun");
    /// assert_eq!(opened.at, Instant::from_secs(1));
    ///
    /// byway.poll(Instant::from_secs(1000)); // its time-out has long passed
    /// let closed = byway.poll_report().expect("it has ended");
    /// let measured = closed.measured.expect("there is room for it");
    /// assert_eq!((measured.to_server.packets, measured.to_client.packets), (1, 0));
    /// assert_eq!((measured.first, closed.at), (Instant::from_secs(1), Instant::from_secs(1000)));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn poll_report(&mut self) -> Option<Report> {
        let now = self.state.now;
        let memory = self.storage.parts();
        let place = self.state.events.oldest();
        let event = self.state.events.pop(memory.events)?;
        let kept = place.and_then(|place| memory.measured.get(memory.connections.len().checked_add(place)?));
        Some(kept.map_or(Report::new(event, now), |kept| with(kept, event, now)))
    }
}

/// Adds the details in the slot to an event, if they belong to this event.
fn with(kept: &MeasureSlot, event: Event, now: Instant) -> Report {
    let (connection, about) = match &event {
        Event::Opened(connection) => (connection, About::Opened),
        Event::Moved { connection, .. } => (connection, About::Moved),
        Event::Closed { connection, .. } => (connection, About::Closed),
        Event::Changed(_) => return Report::new(event, now),
    };
    let client = connection.client_side.source;
    let mut report = Report::new(event, now);
    if !kept.is_about(about, client.into()) {
        return report;
    }
    report.at = kept.happened(now);
    match event {
        Event::Moved { from, .. } => {
            let (source, generation, how) = kept.moved();
            report.moved = Some(Moved { from: Pair { source: source.socket(), destination: from }, generation, how });
        }
        Event::Closed { .. } => report.measured = Some(kept.final_report(report.at)),
        _ => {}
    }
    report
}

impl Table<'_> {
    /// Keeps when a connection was opened, if its `Opened` event was queued last.
    pub(super) fn keep_opening(&mut self, slot: u32) {
        let client = self.slot(slot).map(|c| c.client_endpoint());
        let place = self.state.events.latest(self.memory.events.len()).filter(|place| {
            let event = self.memory.events.get(*place);
            event.zip(client).is_some_and(|(event, client)| event.is_opening_of(client))
        });
        self.keep(place, slot, |_, client, table| {
            MeasureSlot::EMPTY.about(About::Opened, client, table.state.tick, table.state.now)
        });
    }

    /// Keeps the measurements of a connection that ends, for the event that is queued next.
    pub(super) fn keep_end(&mut self, slot: u32) {
        if self.slot(slot).is_none_or(|c| c.phase.is_over()) {
            return;
        }
        let place = self.state.events.next(self.memory.events.len());
        self.keep(place, slot, |entry, client, table| {
            let measured = table.memory.measured.get(slot as usize).unwrap_or(&MeasureSlot::EMPTY);
            measured.about(About::Closed, client, table.state.on_clock(entry.last), table.state.now)
        });
    }

    /// Counts the packet that has ended a connection, if its `Closed` event was queued last.
    pub(super) fn count_ending(&mut self, slot: u32, direction: Direction, bytes: usize) {
        let now = self.state.now;
        let tick = self.state.on_clock(self.state.tick);
        let place = self.state.events.latest(self.memory.events.len());
        let client = self.slot(slot).map(|c| c.client_endpoint());
        let kept = place.and_then(|place| self.memory.measured.get_mut(self.memory.connections.len() + place));
        if let (Some(kept), Some(client)) = (kept, client)
            && kept.is_about(About::Closed, client)
            && kept.happened(now) == now
        {
            kept.count(direction, bytes);
            *kept = kept.about(About::Closed, client, tick, now);
        }
    }

    /// Keeps what a connection was moved from, for the event that is queued next.
    pub(super) fn keep_move(&mut self, slot: u32, before: Option<Endpoint>, how: Moving) {
        let place = self.state.events.next(self.memory.events.len());
        self.keep(place, slot, |_, client, table| {
            MeasureSlot::about_move(
                before.unwrap_or(Endpoint::NONE),
                table.state.generation,
                how,
                client,
                table.state.now,
            )
        });
    }

    fn keep(&mut self, place: Option<usize>, slot: u32, what: impl FnOnce(&Entry, Endpoint, &Self) -> MeasureSlot) {
        let (Some(place), Some(entry)) = (place, self.slot(slot)) else {
            return;
        };
        let place = self.memory.connections.len() + place;
        if place >= self.memory.measured.len() {
            return;
        }
        let kept = what(entry, entry.client_endpoint(), self);
        if let Some(place) = self.memory.measured.get_mut(place) {
            *place = kept;
        }
    }
}

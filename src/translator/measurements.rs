//! Reading the measurements of servers.

use crate::divert::Target;
use crate::measurements::Measurements;
use crate::table::server::{Kind, ServerSlot};
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::track::measure_server::MeasuredServerSlot;
use crate::translator::Translator;
use crate::translator::redivert::instruction::place_of;

/// An iterator over the measurements of each server; from [`Translator::measurements`].
///
/// Each step skips the unused entries before the next server.
#[derive(Clone, Debug)]
pub struct MeasuredServers<'a> {
    entries: &'a [ServerSlot],
    measured: &'a [MeasuredServerSlot],
    now: Instant,
    next: usize,
}

impl MeasuredServers<'_> {
    /// Where the next page begins: see [`Translator::measurements_from`].
    #[must_use]
    pub const fn position(&self) -> usize {
        self.next
    }
}

impl Iterator for MeasuredServers<'_> {
    type Item = Measurements;

    fn next(&mut self) -> Option<Measurements> {
        loop {
            let place = self.next;
            let (entry, measured) = (self.entries.get(place)?, self.measured.get(place)?);
            self.next += 1;
            if entry.kind != Kind::Free {
                return Some(measured.report(entry.identity(), entry.target(), entry.connections, self.now));
            }
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for MeasuredServers<'_> {
    /// The iterator's position.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "MeasuredServers {{ next: {}, end: {} }}", self.next, self.entries.len());
    }
}

impl<S: Storage> Translator<S> {
    /// The measurements of each server of a rule, as of the last packet or [`poll`](Self::poll). A server in the groups
    /// of several rules appears once for each; [`Measurements::merge`] adds them up. Empty if the storage has no room
    /// for measurements ([`Fixed`](crate::Fixed), [`Borrowed::measured_servers`](crate::Borrowed::measured_servers), or
    /// `Heap::measured` with the feature `alloc`).
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
    /// // 64 connections and 4 rules; all connections and all servers measured.
    /// let mut byway = Translator::new(config, Fixed::<64, 4, 8, 8, 64, 0, 4>::sized())?;
    /// byway.divert(Divert::new(original).to(server))?;
    ///
    /// byway.translate(Instant::ZERO, &mut udp(client, original)); // a question without an answer
    /// byway.poll(Instant::from_secs(3));
    ///
    /// let measured = byway.measurements().next().expect("there is one server");
    /// assert_eq!((measured.server, measured.started, measured.connections), (server.into(), 1, 1));
    /// assert_eq!((measured.waiting.count, measured.silent), (1, Some(Duration::from_secs(3))));
    /// assert_eq!(measured.response.percentile(99.0), None);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[must_use]
    pub fn measurements(&self) -> MeasuredServers<'_> {
        self.measurements_from(0)
    }

    /// Like [`measurements`](Self::measurements), from the entry `first` on, for reading in pages:
    /// [`MeasuredServers::position`] says where the next page begins.
    #[must_use]
    pub fn measurements_from(&self, first: usize) -> MeasuredServers<'_> {
        let view = self.storage.view();
        let used = usize::from(self.state.unused.up_to());
        let entries = view.servers.get(..used).unwrap_or(view.servers);
        MeasuredServers { entries, measured: view.measured_servers, now: self.state.now, next: first }
    }

    /// The measurements of one server, in all rules together. `None` if no rule names it, or the storage does not
    /// measure servers. The work depends on the number of servers of rules.
    #[must_use]
    pub fn measurements_of(&self, server: impl Into<Target>) -> Option<Measurements> {
        let place = place_of(server.into())?;
        let mut entries = self.measurements();
        let mut sum: Option<Measurements> = None;
        loop {
            let Some(found) = entries.next() else {
                return sum;
            };
            if entries.entries.get(entries.next - 1).is_some_and(|entry| entry.lies_within(place)) {
                match &mut sum {
                    Some(sum) => sum.merge(&found),
                    None => sum = Some(found),
                }
            }
        }
    }
}

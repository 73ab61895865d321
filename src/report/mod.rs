//! What happened to connections and what was measured, as IPFIX messages for a collector (RFC 7011): the document's
//! "performance information", sent to a collector of flows.
//!
//! An [`Exporter`] fills messages with records and lends each to the caller, who sends it over UDP or TCP. It has no
//! socket, no clock and no allocator. `docs/report.md` in the repository lists templates and elements.
//!
//! - A connection that has ended is one bidirectional record (RFC 5103) with the addresses of both sides, counters,
//!   times and the cause of its end; each re-divert is a record of its own.
//! - Sessions that begin and end are NAT events too (RFC 8158), and so is running out of room or of ports.
//! - What was measured of a server, the translator's counters and what the exporter itself could not send are reported
//!   at intervals.
//! - Type records (RFC 5610) say what our own elements are, so that a collector shows them by name.
//!
//! ```
//! use byway::report::{Exporter, Settings};
//! use byway::{Config, Divert, Fixed, Instant, Translator};
//! # use core::net::{Ipv4Addr, SocketAddrV4};
//! # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
//! # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
//! # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
//! # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
//! # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
//! # let mut sent: Vec<Vec<u8>> = Vec::new();
//! # let mut send = |message: &[u8]| sent.push(message.to_vec());
//!
//! // 64 connections, 4 rules, 8 events; every connection, server and event measured.
//! let mut byway = Translator::new(config, Fixed::<64, 4, 8, 8, 72, 0, 4>::sized())?;
//! byway.divert(Divert::new(original).to(server))?;
//! // 32473 is for examples; take your own. No message is longer than the buffer: the path MTU less 28.
//! let mut exporter = Exporter::new(Settings::new(32_473), [0; 1_472])?;
//!
//! byway.translate(Instant::from_secs(1), &mut udp(client, original));
//! byway.poll(Instant::from_secs(1_000)); // no answer has come: it ends
//!
//! // Whenever there may be events, and at the time that `poll_at` returns:
//! let now = Instant::from_secs(1_000);
//! while let Some(report) = byway.poll_report() {
//!     while exporter.report(now, &report).is_err() {
//!         // It does not fit: what is there goes first.
//!         while let Some(message) = exporter.poll_transmit(now) {
//!             send(message);
//!         }
//!     }
//! }
//! let now = Instant::from_secs(1_001); // records wait for others half a second at most
//! while let Some(message) = exporter.poll_transmit(now) {
//!     send(message);
//! }
//! # assert!(sent.iter().all(|message| message[..2] == [0, 10] && message.len() <= 1_472));
//! // Templates and types first, then the connection with two NAT events.
//! # let [.., last] = &sent[..] else { panic!() };
//! # assert_eq!(exporter.statistics().records - exporter.types(), 3);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod element;
mod message;
mod record;
mod settings;
mod template;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

use crate::counters::Counters;
use crate::event::{Closed, Event, Report};
use crate::measurements::Measurements;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::Translator;
use crate::verdict::DropReason;

use element::ELEMENTS;
use message::{HEADER, Message, SET_HEADER, Writer};
use record::{NatEvent, Quota};
use template::{
    CLIENT_LIMIT, CONNECTION, COUNTERS, DROP, MOVE, NO_PORT, SERVER, SESSION, STATISTICS, TABLE_FULL, TEMPLATES, TYPE,
    Template,
};

pub use settings::{MIN_MESSAGE, Settings, SettingsError};

/// The sets of templates (RFC 7011, section 3.3.2).
const TEMPLATE_SET: u16 = 2;
const OPTIONS_TEMPLATE_SET: u16 = 3;

/// The shortest time between two announcements of templates.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is sent before data: the template of type records, a type record for each of our own elements, and then the
/// other templates. A collector that learns types interprets the fields of a template by the types that it knows when
/// it gets the template.
const ANNOUNCEMENTS: usize = 1 + ELEMENTS.len() + TEMPLATES.len();

/// A record does not fit into the message: fetch the message with [`Exporter::poll_transmit`], and pass the record
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Full;

/// What an exporter has sent, and what it could not send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Statistics {
    /// Records that were lost: those that the caller counted with [`Exporter::lost`].
    pub not_sent: u64,
    /// Messages that were fetched.
    pub messages: u64,
    /// Data records in them, those about types and counters included.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A translator's counters with its limits, for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Totals {
    /// Its counters.
    pub counters: Counters,
    /// How many connections there is room for.
    pub capacity: u32,
    /// How many connections one client may have; zero means no limit.
    pub client_limit: u32,
}

impl Totals {
    /// The totals of a translator.
    #[must_use]
    pub fn of<S: Storage>(translator: &Translator<S>) -> Self {
        Self {
            counters: *translator.counters(),
            capacity: u32::try_from(translator.capacity()).unwrap_or(u32::MAX),
            client_limit: translator.client_limit(),
        }
    }
}

/// Writes IPFIX messages: the exporting process of one observation domain. See the [module's documentation](self).
///
/// It fills one message at a time, in a buffer of the caller's. The buffer's length is that of the longest message, and
/// is at least 512 bytes. Each call writes a bounded number of records, and never a part of one.
#[derive(Clone, Debug)]
pub struct Exporter<B> {
    settings: Settings,
    message: Message<B>,
    /// The message was lent to the caller, and is to be emptied.
    is_lent: bool,
    /// Something did not fit: the message is sent as it is.
    is_full: bool,
    /// When the first record of the message was written.
    since: Instant,
    /// How many announcements have been written of those that are due.
    announced: usize,
    /// When they were all written last, and when they are due again.
    announced_at: Instant,
    announce_at: Option<Instant>,
    sequence: u32,
    statistics: Statistics,
    /// The counts of dropped packets that have been reported, and the reason that comes next.
    dropped: [u64; DropReason::COUNT],
    reason: usize,
}

#[cfg(feature = "defmt")]
impl<B> defmt::Format for Exporter<B> {
    /// What waits in the message, and what was sent.
    fn format(&self, f: defmt::Formatter<'_>) {
        let (waiting, sent) = (self.message.records, self.statistics);
        defmt::write!(f, "Exporter {{ waiting: {}, sent: {} }}", waiting, sent);
    }
}

impl<B: AsMut<[u8]> + AsRef<[u8]>> Exporter<B> {
    /// Creates an exporter that fills this buffer: 1472 bytes for UDP over Ethernet, 512 where the path MTU is not
    /// known (RFC 7011, section 10.3.3), up to 65 535 for TCP.
    ///
    /// # Errors
    /// [`SettingsError`] if the buffer is too short, or a setting cannot be used.
    pub fn new(settings: Settings, buffer: B) -> Result<Self, SettingsError> {
        settings.check(buffer.as_ref().len())?;
        Ok(Self {
            settings,
            message: Message::new(buffer),
            is_lent: false,
            is_full: false,
            since: Instant::ZERO,
            announced: 0,
            announced_at: Instant::ZERO,
            announce_at: None,
            sequence: 0,
            statistics: Statistics { not_sent: 0, messages: 0, records: 0, bytes: 0 },
            dropped: [0; DropReason::COUNT],
            reason: 0,
        })
    }

    /// Writes the records of an event: a NAT event where a session begins or ends, the connection's record if it has
    /// ended and was measured, the move if it was moved.
    ///
    /// # Errors
    /// [`Full`]: nothing was written.
    pub fn report(&mut self, now: Instant, report: &Report) -> Result<(), Full> {
        let settings = self.settings;
        match (&report.event, &report.measured) {
            (Event::Changed(_), _) => Ok(()),
            (Event::Opened(connection), _) => {
                if !settings.nat_events {
                    return Ok(());
                }
                self.reserve(now, &[SESSION])?;
                self.write(&SESSION, 0, |out| {
                    let what = (connection, connection.server_side);
                    record::session(out, &settings, report.at, (NatEvent::Create, None), what);
                })
            }
            (Event::Closed { connection, why }, measured) => {
                self.reserve(now, if measured.is_some() { &[CONNECTION, SESSION] } else { &[SESSION] })?;
                if let Some(measured) = measured {
                    self.write(&CONNECTION, 0, |out| {
                        record::connection(out, &settings, connection, *why, measured);
                    })?;
                }
                if !settings.nat_events {
                    return Ok(());
                }
                self.write(&SESSION, 0, |out| {
                    let what = (connection, connection.server_side);
                    record::session(out, &settings, report.at, (NatEvent::Delete, Some(*why)), what);
                })
            }
            (Event::Moved { connection, from }, _) => {
                self.reserve(now, &[MOVE, SESSION, SESSION])?;
                let unknown = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                let alternative = report.moved.map_or(unknown, |moved| moved.from.source);
                let how = report.moved.map(|moved| (moved.how, moved.generation));
                self.write(&MOVE, 0, |out| {
                    record::moved(out, &settings, report.at, connection, (alternative, *from), how);
                })?;
                let Some(moved) = report.moved.filter(|_| settings.nat_events) else {
                    return Ok(());
                };
                // For a log of who had which address, this is another session.
                for (event, pair, why) in [
                    (NatEvent::Delete, moved.from, Some(Closed::Rediverted)),
                    (NatEvent::Create, connection.server_side, None),
                ] {
                    self.write(&SESSION, 0, |out| {
                        record::session(out, &settings, report.at, (event, why), (connection, pair));
                    })?;
                }
                Ok(())
            }
        }
    }

    /// Writes what was measured of a server since `from`: the difference that
    /// [`Measurements::between`] gives, or the whole.
    ///
    /// A histogram that is too long for a message of this size has fewer, wider buckets there.
    ///
    /// # Errors
    /// [`Full`]: nothing was written.
    pub fn server(&mut self, now: Instant, from: Instant, measured: &Measurements) -> Result<(), Full> {
        let settings = self.settings;
        let room = self.message.capacity().saturating_sub(HEADER + SET_HEADER + SERVER.data());
        let length = record::histogram_length(&measured.response, room);
        self.reserve_bytes(now, 1, SERVER.data() + length)?;
        self.write(&SERVER, length, |out| record::server(out, &settings, (from, now), measured, room))
    }

    /// Writes the translator's counters, for each reason the packets that were dropped since the last time, an event
    /// where room or ports have run out, and what this exporter has sent.
    ///
    /// # Errors
    /// [`Full`]: not all of it was written. The next call continues where this one stopped.
    pub fn counters(&mut self, now: Instant, totals: &Totals) -> Result<(), Full> {
        let settings = self.settings;
        while let Some(&reason) = DropReason::ALL.get(self.reason) {
            let (all, before) = (totals.counters.dropped(reason), self.dropped.get(self.reason).copied());
            let more = all.wrapping_sub(before.unwrap_or(0));
            if more != 0 {
                self.drops(now, totals, reason, more)?;
            }
            if let Some(before) = self.dropped.get_mut(self.reason) {
                *before = all;
            }
            self.reason += 1;
        }
        self.reserve(now, &[COUNTERS, STATISTICS])?;
        self.write(&COUNTERS, 0, |out| record::counters(out, &settings, now, totals))?;
        let statistics = self.statistics;
        self.write(&STATISTICS, 0, |out| record::statistics(out, &settings, now, &statistics))?;
        self.reason = 0;
        Ok(())
    }

    /// Writes that `more` packets were dropped for a reason.
    fn drops(&mut self, now: Instant, totals: &Totals, reason: DropReason, more: u64) -> Result<(), Full> {
        let settings = self.settings;
        let all = totals.counters.dropped(reason);
        let name = reason.name().len();
        self.reserve_bytes(now, 2, DROP.data() + name + TABLE_FULL.data())?;
        self.write(&DROP, name, |out| record::drop(out, &settings, now, reason, (more, all)))?;
        let (template, event, quota) = match reason {
            DropReason::TableFull => {
                (&TABLE_FULL, NatEvent::QuotaExceeded, Some((Quota::SessionEntries, totals.capacity)))
            }
            DropReason::ClientLimit => {
                (&CLIENT_LIMIT, NatEvent::QuotaExceeded, Some((Quota::EntriesPerUser, totals.client_limit)))
            }
            DropReason::NoPort => (&NO_PORT, NatEvent::PortsExhausted, None),
            _ => return Ok(()),
        };
        self.write(template, 0, |out| record::exhausted(out, &settings, now, event, quota, more))
    }

    /// Counts records that were lost on their way to the exporter or from it: the next [`counters`](Self::counters)
    /// reports them to the collector.
    pub const fn lost(&mut self, records: u64) {
        self.statistics.not_sent = self.statistics.not_sent.wrapping_add(records);
    }

    /// The next message to send: templates if they are due, otherwise records, if the message is full or its first
    /// record has waited for [`Settings::patience`]. `None` if nothing is to be sent yet.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<&[u8]> {
        self.begin();
        if self.announced >= ANNOUNCEMENTS && self.announce_at.is_some_and(|at| at <= now) {
            if !self.message.is_empty() {
                return Some(self.close(now));
            }
            self.announced = 0;
        }
        if self.announced < ANNOUNCEMENTS {
            self.announce(now);
            return Some(self.close(now));
        }
        let is_due = self.is_full || self.since + self.settings.patience <= now;
        if self.message.is_empty() || !is_due {
            return None;
        }
        Some(self.close(now))
    }

    /// When to call [`poll_transmit`](Self::poll_transmit) next, if nothing is written until then; a time that has
    /// passed means now. Templates that are due again wait for the next record.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        if self.announced < ANNOUNCEMENTS || self.is_full {
            return Some(Instant::ZERO);
        }
        (!self.is_lent && !self.message.is_empty()).then(|| self.since + self.settings.patience)
    }

    /// Closes the message, also a short one: the next [`poll_transmit`](Self::poll_transmit) returns it.
    pub fn flush(&mut self) {
        self.begin();
        self.is_full = !self.message.is_empty();
    }

    /// Starts again for another transport session, such as a new TCP connection: templates come first, and the sequence
    /// number is zero again. Records that have not been fetched are lost, and counted.
    pub fn restart(&mut self) {
        self.begin();
        self.lost(u64::from(self.message.records));
        self.message.clear();
        (self.announced, self.sequence, self.is_full) = (0, 0, false);
    }

    /// Schedules templates and types to be sent again, a second after the last time at the earliest: the collector may
    /// have been restarted, or may not have been there.
    pub fn announce_again(&mut self) {
        self.announce_at = Some(self.announced_at + SHORTEST);
    }

    /// Changes the settings. With another enterprise number or observation domain it starts again, as by
    /// [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`SettingsError`]: nothing has changed.
    pub fn change(&mut self, settings: Settings) -> Result<(), SettingsError> {
        settings.check(self.message.capacity())?;
        if (settings.enterprise, settings.domain) != (self.settings.enterprise, self.settings.domain) {
            self.restart();
        }
        self.settings = settings;
        Ok(())
    }

    /// What it has sent.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// How many type records come with the templates.
    #[must_use]
    pub const fn types(&self) -> u64 {
        ELEMENTS.len() as u64
    }

    /// Its settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Empties the message if it was sent.
    const fn begin(&mut self) {
        if self.is_lent {
            self.message.clear();
            (self.is_lent, self.is_full) = (false, false);
        }
    }

    fn reserve(&mut self, now: Instant, templates: &[Template]) -> Result<(), Full> {
        let length = templates.iter().map(Template::data).sum();
        self.reserve_bytes(now, templates.len(), length)
    }

    /// Makes sure that `records` records of `length` bytes in all fit.
    fn reserve_bytes(&mut self, now: Instant, records: usize, length: usize) -> Result<(), Full> {
        self.begin();
        if self.announced < ANNOUNCEMENTS {
            return Err(Full);
        }
        if !self.message.fits(records, length) {
            self.is_full = true;
            return Err(Full);
        }
        if self.message.is_empty() {
            self.since = now;
        }
        Ok(())
    }

    fn write(&mut self, template: &Template, texts: usize, record: impl FnOnce(&mut Writer<'_>)) -> Result<(), Full> {
        let mut out = self.message.add(template.kind as u16, template.data() + texts).ok_or(Full)?;
        record(&mut out);
        self.message.records += 1;
        Ok(())
    }

    /// Writes as many announcements as fit.
    fn announce(&mut self, now: Instant) {
        let settings = self.settings;
        while self.announced < ANNOUNCEMENTS {
            let place = self.announced;
            let number = place as u16;
            let written = match (place.checked_sub(1).and_then(|n| ELEMENTS.get(n)), place) {
                (Some(element), _) => {
                    self.write(&TYPE, record::texts(element), |out| record::element(out, &settings, number, element))
                }
                (None, 0) => self.write_template(&TYPE),
                (None, _) => TEMPLATES.get(place - 1 - ELEMENTS.len()).map_or(Ok(()), |t| self.write_template(t)),
            };
            if written.is_err() {
                return;
            }
            self.announced += 1;
        }
        self.announced_at = now;
        self.announce_at = settings.templates.map(|interval| now + interval.max(SHORTEST));
    }

    fn write_template(&mut self, template: &Template) -> Result<(), Full> {
        let set = if template.scope == 0 { TEMPLATE_SET } else { OPTIONS_TEMPLATE_SET };
        let mut out = self.message.add(set, template.record()).ok_or(Full)?;
        template.write(self.settings.enterprise, &mut out);
        Ok(())
    }

    fn close(&mut self, now: Instant) -> &[u8] {
        self.is_lent = true;
        self.is_full = false;
        let (records, length) = (self.message.records, self.message.length());
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(records);
        self.statistics.messages += 1;
        self.statistics.records += u64::from(records);
        self.statistics.bytes += length as u64;
        let time = (self.settings.unix_micros(now) / 1_000_000) as u32;
        self.message.close(time, sequence, self.settings.domain)
    }
}

#[cfg(test)]
mod tests;

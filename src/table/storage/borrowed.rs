//! Slices that the caller lends.

use crate::table::connection::ConnectionSlot;
use crate::table::event_queue::EventSlot;
use crate::table::redivert_log::MoveSlot;
use crate::table::rule::DivertSlot;
use crate::table::server::ServerSlot;
use crate::table::storage::{Parts, View, numbered, sealed};
use crate::track::fragments::FragmentSlot;
use crate::track::measure::MeasureSlot;
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::resume::ResumeSlot;

/// Slices that the caller owns, of any length. Their contents are cleared when the translator is created.
///
/// ```
/// use byway::{Borrowed, Config, Translator, slots};
///
/// let mut connections = [slots::Connection::EMPTY; 100];
/// let mut index = [0; 100 * byway::INDEX_WORDS];
/// let mut diverts = [slots::Divert::EMPTY; 4];
/// let mut servers = [slots::Server::EMPTY; 8];
/// let mut moves = [slots::Move::EMPTY; 4];
/// let storage = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves);
/// let translator = Translator::new(Config::new([7; 32]), storage)?;
/// # let _ = translator;
/// # Ok::<(), byway::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Borrowed<'a>(Parts<'a>);

impl<'a> Borrowed<'a> {
    /// Tables over these slices: one connection slot per connection, [`INDEX_WORDS`](crate::INDEX_WORDS) words of index
    /// per connection (preferably 16 more, so that it can start on a cache line), one slot per rule, one per server of
    /// a rule, one per re-divert within one sweep.
    #[must_use]
    pub fn new(
        connections: &'a mut [ConnectionSlot],
        index: &'a mut [u32],
        diverts: &'a mut [DivertSlot],
        servers: &'a mut [ServerSlot],
        moves: &'a mut [MoveSlot],
    ) -> Self {
        Self(Parts {
            connections,
            index,
            diverts,
            servers: numbered(servers),
            #[cfg(target_pointer_width = "64")]
            rule_index: &mut [],
            #[cfg(target_pointer_width = "64")]
            rule_filter: &mut [],
            #[cfg(target_pointer_width = "64")]
            server_index: &mut [],
            #[cfg(target_pointer_width = "64")]
            group_index: &mut [],
            moves,
            fragments: &mut [],
            events: &mut [],
            measured: &mut [],
            measured_servers: &mut [],
            resumable: &mut [],
        })
    }

    /// Adds room for fragmented datagrams in progress, one slot each. Without it fragments are held.
    #[must_use]
    pub fn fragments(mut self, fragments: &'a mut [FragmentSlot]) -> Self {
        self.0.fragments = fragments;
        self
    }

    /// Adds room for events that wait to be fetched. Without it no events are kept, and none are counted as lost.
    #[must_use]
    pub fn events(mut self, events: &'a mut [EventSlot]) -> Self {
        self.0.events = events;
        self
    }

    /// Adds room for measurements, one slot per connection, and one more per event for what else is known about it
    /// (`Translator::poll_report`, feature `report`). Without it none are made.
    #[must_use]
    pub fn measured(mut self, measured: &'a mut [MeasureSlot]) -> Self {
        self.0.measured = measured;
        self
    }

    /// Adds room for measurements of servers, one slot per server of a rule; connections must be
    /// [measured](Self::measured) too. Without it none are made.
    #[must_use]
    pub fn measured_servers(mut self, measured: &'a mut [MeasuredServerSlot]) -> Self {
        self.0.measured_servers = measured;
        self
    }

    /// Adds room for connections that can be handed over, one slot per connection. Without it no rule can ask for it
    /// ([`Divert::resumable`](crate::Divert::resumable)).
    #[must_use]
    pub fn resumable(mut self, resumable: &'a mut [ResumeSlot]) -> Self {
        self.0.resumable = resumable;
        self
    }
}

impl sealed::Memory for Borrowed<'_> {
    #[inline(always)]
    fn parts(&mut self) -> Parts<'_> {
        parts!(self.0, self.0.index)
    }

    #[inline(always)]
    fn view(&self) -> View<'_> {
        view!(self.0, self.0.index)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Borrowed<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        sealed::Memory::view(self).format(f);
    }
}

//! Arrays, without any allocator.

use crate::table::connection::ConnectionSlot;
use crate::table::event_queue::EventSlot;
use crate::table::index::INDEX_WORDS;
use crate::table::redivert_log::MoveSlot;
use crate::table::rule::DivertSlot;
use crate::table::server::{MAX_SERVERS, ServerSlot};
#[cfg(target_pointer_width = "64")]
use crate::table::storage::FEW_RULES;
use crate::table::storage::{Parts, View, numbered, sealed};
use crate::track::fragments::FragmentSlot;
use crate::track::measure::MeasureSlot;
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::resume::ResumeSlot;

/// An array that starts on a cache line, so that an index bucket is one line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Lines<T>(T);

#[cfg(target_pointer_width = "64")]
impl<const N: usize, const M: usize> AsRef<[u32]> for Lines<[[u32; N]; M]> {
    fn as_ref(&self) -> &[u32] {
        self.0.as_flattened()
    }
}

#[cfg(target_pointer_width = "64")]
impl<const N: usize, const M: usize> AsMut<[u32]> for Lines<[[u32; N]; M]> {
    fn as_mut(&mut self) -> &mut [u32] {
        self.0.as_flattened_mut()
    }
}

/// Arrays: `Fixed<CONNECTIONS, DIVERTS>`, all zeros when new, without any allocator.
///
/// `DIVERTS` is the number of rules, of servers of all rules together, and of re-diverts in one sweep (at most 64 of
/// these). `FRAGMENTS` fragmented datagrams can be in progress at once, `EVENTS` events can wait to be fetched, and
/// `MEASURED` is zero, or `CONNECTIONS` to have each connection measured, or `CONNECTIONS + EVENTS` to also have, with
/// the event of a connection's end, what was measured of it (`Translator::poll_report`, feature `report`). `RESUMABLE`
/// is zero, or `CONNECTIONS` to have room for connections that can be handed over
/// ([`Divert::resumable`](crate::Divert::resumable)). `MEASURED_SERVERS` is zero, or `DIVERTS` to have each server
/// measured too ([`Translator::measurements`](crate::Translator::measurements)).
///
/// A `static` of it, in a cell, is placed in `.bss`. A translator takes it by value, or by `&mut` where it is too large
/// for the stack:
///
/// ```
/// use byway::{Config, Fixed, Translator};
///
/// let mut storage = Box::new(Fixed::<1024, 64>::new()); // or a `static` in a cell
/// let translator = Translator::new(Config::new([7; 32]), &mut *storage)?;
/// # let _ = translator;
/// # Ok::<(), byway::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fixed<
    const CONNECTIONS: usize,
    const DIVERTS: usize,
    const FRAGMENTS: usize = 8,
    const EVENTS: usize = 8,
    const MEASURED: usize = 0,
    const RESUMABLE: usize = 0,
    const MEASURED_SERVERS: usize = 0,
> {
    connections: [ConnectionSlot; CONNECTIONS],
    index: Lines<[[u32; INDEX_WORDS]; CONNECTIONS]>,
    diverts: [DivertSlot; DIVERTS],
    servers: [ServerSlot; DIVERTS],
    #[cfg(target_pointer_width = "64")]
    rule_index: Lines<[[u32; 2]; DIVERTS]>,
    #[cfg(target_pointer_width = "64")]
    rule_filter: [u16; DIVERTS],
    #[cfg(target_pointer_width = "64")]
    server_index: [u16; DIVERTS],
    #[cfg(target_pointer_width = "64")]
    group_index: [u32; 0],
    moves: [MoveSlot; DIVERTS],
    fragments: [FragmentSlot; FRAGMENTS],
    events: [EventSlot; EVENTS],
    measured: [MeasureSlot; MEASURED],
    measured_servers: [MeasuredServerSlot; MEASURED_SERVERS],
    resumable: [ResumeSlot; RESUMABLE],
}

impl<const CONNECTIONS: usize, const DIVERTS: usize> Fixed<CONNECTIONS, DIVERTS> {
    /// Empty tables, with room for 8 fragmented datagrams and 8 events, and without measurements.
    #[must_use]
    pub const fn new() -> Self {
        Self::sized()
    }
}

impl<const C: usize, const D: usize, const F: usize, const E: usize, const M: usize, const R: usize, const S: usize>
    Fixed<C, D, F, E, M, R, S>
{
    const CLEAR: Self = Self::sized();

    /// Empty tables, with all sizes as the type says.
    ///
    /// ```
    /// // 100 connections, 4 rules, 2 fragmented datagrams, 16 events, every connection measured.
    /// let storage = byway::Fixed::<100, 4, 2, 16, 100>::sized();
    /// # let _ = storage;
    /// ```
    #[must_use]
    pub const fn sized() -> Self {
        Self {
            connections: [ConnectionSlot::EMPTY; C],
            index: Lines([[0; INDEX_WORDS]; C]),
            diverts: [DivertSlot::EMPTY; D],
            servers: [ServerSlot::EMPTY; D],
            #[cfg(target_pointer_width = "64")]
            rule_index: Lines([[0; 2]; D]),
            #[cfg(target_pointer_width = "64")]
            rule_filter: [0; D],
            #[cfg(target_pointer_width = "64")]
            server_index: [0; D],
            #[cfg(target_pointer_width = "64")]
            group_index: [],
            moves: [MoveSlot::EMPTY; D],
            fragments: [FragmentSlot::EMPTY; F],
            events: [EventSlot::EMPTY; E],
            measured: [MeasureSlot::EMPTY; M],
            measured_servers: [MeasuredServerSlot::EMPTY; S],
            resumable: [ResumeSlot::EMPTY; R],
        }
    }
}

impl<const C: usize, const D: usize, const F: usize, const E: usize, const M: usize, const R: usize, const S: usize>
    Default for Fixed<C, D, F, E, M, R, S>
{
    fn default() -> Self {
        Self::sized()
    }
}

impl<const C: usize, const D: usize, const F: usize, const E: usize, const M: usize, const R: usize, const S: usize>
    sealed::Memory for Fixed<C, D, F, E, M, R, S>
{
    const MEASURES: bool = M != 0;
    const MEASURES_SERVERS: bool = S != 0;
    const RESUMES: bool = R != 0;

    #[inline(always)]
    fn parts(&mut self) -> Parts<'_> {
        let mut parts = parts!(self, self.index.0.as_flattened_mut());
        if D > MAX_SERVERS {
            parts.servers = numbered(parts.servers);
        }
        #[cfg(target_pointer_width = "64")]
        let parts = {
            if D > FEW_RULES {
                parts
            } else {
                Parts { rule_index: &mut [], rule_filter: &mut [], server_index: &mut [], ..parts }
            }
        };
        parts
    }

    #[inline(always)]
    fn view(&self) -> View<'_> {
        view!(self, self.index.0.as_flattened())
    }

    // All zeros: one fill of the whole, where clearing each part separately would be a loop each.
    #[inline(always)]
    fn clear(&mut self) {
        *self = Self::CLEAR;
    }
}

#[cfg(feature = "defmt")]
impl<const C: usize, const D: usize, const F: usize, const E: usize, const M: usize, const R: usize, const S: usize>
    defmt::Format for Fixed<C, D, F, E, M, R, S>
{
    fn format(&self, f: defmt::Formatter<'_>) {
        sealed::Memory::view(self).format(f);
    }
}

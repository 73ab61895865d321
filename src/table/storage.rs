//! Ownership of the memory: one algorithm over slices, and three owners of them.

use crate::error::ConfigError;
use crate::limits::MAX_CONNECTIONS;
use crate::table::connection::ConnectionSlot;
use crate::table::event_queue::EventSlot;
#[cfg(all(feature = "alloc", target_pointer_width = "64"))]
use crate::table::groups::{GROUP_WORDS, groups_for};
use crate::table::index::INDEX_WORDS;
#[cfg(feature = "alloc")]
use crate::table::redivert_log::MAX_OUTSTANDING;
use crate::table::redivert_log::MoveSlot;
use crate::table::rule::DivertSlot;
#[cfg(all(feature = "alloc", target_pointer_width = "64"))]
use crate::table::rule_index::CLASS_WORDS;
use crate::table::server::{MAX_SERVERS, ServerSlot};
use crate::track::fragments::FragmentSlot;
use crate::track::measure::MeasureSlot;
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::resume::ResumeSlot;

/// With room for more rules than this a storage has an index of them, on machines of 64 bits, and rules that have one
/// server alone share its entry.
#[cfg(target_pointer_width = "64")]
pub(crate) const FEW_RULES: usize = 1_024;

/// The memory of a translator: [`Fixed`], [`Borrowed`], `Heap` (feature `alloc`), or a `&mut` to one of them.
///
/// Sealed: the three differ only in who owns the slices.
pub trait Storage: sealed::Memory {}

impl<T: sealed::Memory> Storage for T {}

pub(crate) mod sealed {
    use super::{Parts, View};

    pub trait Memory {
        /// Whether there may be room for measurements.
        const MEASURES: bool = true;
        /// Whether there may be room for measurements of servers.
        const MEASURES_SERVERS: bool = true;
        /// Whether there may be room for resumable connections.
        const RESUMES: bool = true;

        fn parts(&mut self) -> Parts<'_>;
        fn view(&self) -> View<'_>;
    }

    impl<T: Memory> Memory for &mut T {
        const MEASURES: bool = T::MEASURES;
        const MEASURES_SERVERS: bool = T::MEASURES_SERVERS;
        const RESUMES: bool = T::RESUMES;

        #[inline(always)]
        fn parts(&mut self) -> Parts<'_> {
            (**self).parts()
        }

        #[inline(always)]
        fn view(&self) -> View<'_> {
            (**self).view()
        }
    }
}

/// The slices that the algorithm works on.
#[derive(Debug)]
pub struct Parts<'a> {
    pub(crate) connections: &'a mut [ConnectionSlot],
    pub(crate) index: &'a mut [u32],
    pub(crate) diverts: &'a mut [DivertSlot],
    pub(crate) servers: &'a mut [ServerSlot],
    /// The index of rules, and the filter of their destinations; empty like the next one.
    #[cfg(target_pointer_width = "64")]
    pub(crate) rule_index: &'a mut [u32],
    #[cfg(target_pointer_width = "64")]
    pub(crate) rule_filter: &'a mut [u16],
    /// The index of servers that rules share; empty where there is room for no more than [`FEW_RULES`].
    #[cfg(target_pointer_width = "64")]
    pub(crate) server_index: &'a mut [u16],
    /// The index of large groups.
    #[cfg(target_pointer_width = "64")]
    pub(crate) group_index: &'a mut [u32],
    pub(crate) moves: &'a mut [MoveSlot],
    pub(crate) fragments: &'a mut [FragmentSlot],
    pub(crate) events: &'a mut [EventSlot],
    pub(crate) measured: &'a mut [MeasureSlot],
    pub(crate) measured_servers: &'a mut [MeasuredServerSlot],
    pub(crate) resumable: &'a mut [ResumeSlot],
}

/// The slices that listing reads.
#[derive(Debug)]
pub struct View<'a> {
    pub(crate) connections: &'a [ConnectionSlot],
    pub(crate) index: &'a [u32],
    pub(crate) diverts: &'a [DivertSlot],
    pub(crate) servers: &'a [ServerSlot],
    #[cfg(target_pointer_width = "64")]
    pub(crate) rule_index: &'a [u32],
    pub(crate) measured: &'a [MeasureSlot],
    pub(crate) measured_servers: &'a [MeasuredServerSlot],
    pub(crate) resumable: &'a [ResumeSlot],
}

/// Lends every table of an owner whose fields have the same names as those of [`Parts`], and these words of index.
macro_rules! parts {
    ($owner:expr, $index:expr) => {
        Parts {
            connections: &mut $owner.connections,
            index: $index,
            diverts: &mut $owner.diverts,
            servers: &mut $owner.servers,
            #[cfg(target_pointer_width = "64")]
            rule_index: $owner.rule_index.as_mut(),
            #[cfg(target_pointer_width = "64")]
            rule_filter: &mut $owner.rule_filter,
            #[cfg(target_pointer_width = "64")]
            server_index: &mut $owner.server_index,
            #[cfg(target_pointer_width = "64")]
            group_index: &mut $owner.group_index,
            moves: &mut $owner.moves,
            fragments: &mut $owner.fragments,
            events: &mut $owner.events,
            measured: &mut $owner.measured,
            measured_servers: &mut $owner.measured_servers,
            resumable: &mut $owner.resumable,
        }
    };
}

/// The same for [`View`].
macro_rules! view {
    ($owner:expr, $index:expr) => {
        View {
            connections: &$owner.connections,
            index: $index,
            diverts: &$owner.diverts,
            servers: &$owner.servers,
            #[cfg(target_pointer_width = "64")]
            rule_index: $owner.rule_index.as_ref(),
            measured: &$owner.measured,
            measured_servers: &$owner.measured_servers,
            resumable: &$owner.resumable,
        }
    };
}

/// As many of these entries for servers as can be told apart.
fn numbered(servers: &mut [ServerSlot]) -> &mut [ServerSlot] {
    let count = servers.len().min(MAX_SERVERS);
    servers.get_mut(..count).unwrap_or_default()
}

impl Parts<'_> {
    /// Empties every table, whatever was in it.
    pub(crate) fn clear(&mut self) {
        self.connections.fill(ConnectionSlot::EMPTY);
        self.index.fill(0);
        self.diverts.fill(DivertSlot::EMPTY);
        self.servers.fill(ServerSlot::EMPTY);
        #[cfg(target_pointer_width = "64")]
        {
            self.rule_index.fill(0);
            self.rule_filter.fill(0);
            self.server_index.fill(0);
            self.group_index.fill(0);
        }
        self.moves.fill(MoveSlot::EMPTY);
        self.fragments.fill(FragmentSlot::EMPTY);
        self.events.fill(EventSlot::EMPTY);
        self.measured.fill(MeasureSlot::EMPTY);
        self.measured_servers.fill(MeasuredServerSlot::EMPTY);
        self.resumable.fill(ResumeSlot::EMPTY);
    }
}

impl View<'_> {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let connections = self.connections.len();
        // Below 16 connections an index is one bucket of 12 entries. Two buckets would take 64 of the 65 to 75 words
        // that 13 to 15 connections bring, leaving one to eleven for the counts of clients: the limit per client would
        // hold for only some of them.
        if !matches!(connections, 8..=12 | 16..=MAX_CONNECTIONS) {
            return Err(ConfigError::Capacity { connections });
        }
        let expected = connections * INDEX_WORDS;
        if self.index.len() < expected {
            return Err(ConfigError::MismatchedStorage { name: "index", length: self.index.len(), expected });
        }
        let measured = self.measured.len();
        if measured != 0 && measured != connections {
            return Err(ConfigError::MismatchedStorage { name: "measured", length: measured, expected: connections });
        }
        let (found, expected) = (self.measured_servers.len(), self.servers.len());
        if found != 0 && found != expected {
            return Err(ConfigError::MismatchedStorage { name: "measured_servers", length: found, expected });
        }
        if found != 0 && measured == 0 {
            return Err(ConfigError::MismatchedStorage { name: "measured", length: 0, expected: connections });
        }
        let resumable = self.resumable.len();
        if resumable != 0 && resumable != connections {
            return Err(ConfigError::MismatchedStorage { name: "resumable", length: resumable, expected: connections });
        }
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for View<'_> {
    /// How much room there is, not what is in it.
    fn format(&self, f: defmt::Formatter<'_>) {
        let Self { connections, diverts, servers, measured, .. } = self;
        let (connections, diverts) = (connections.len(), diverts.len());
        defmt::write!(f, "Storage {{ connections: {}, diverts: {}, ", connections, diverts);
        defmt::write!(f, "servers: {}, measured: {} }}", servers.len(), measured.len());
    }
}

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
/// `DIVERTS` is the number of rules, of servers of all rules together, and of re-diverts in one sweep (of those at most
/// 64). `FRAGMENTS` fragmented datagrams can be in progress at once, `EVENTS` events can wait to be fetched, and
/// `MEASURED` is zero, or `CONNECTIONS` to have each connection measured. So is `RESUMABLE`, to have room for
/// connections that can be handed over ([`Divert::resumable`](crate::Divert::resumable)). `MEASURED_SERVERS` is zero, or
/// `DIVERTS` to have each server measured too ([`Translator::measurements`](crate::Translator::measurements)).
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
}

#[cfg(feature = "defmt")]
impl<const C: usize, const D: usize, const F: usize, const E: usize, const M: usize, const R: usize, const S: usize>
    defmt::Format for Fixed<C, D, F, E, M, R, S>
{
    fn format(&self, f: defmt::Formatter<'_>) {
        sealed::Memory::view(self).format(f);
    }
}

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
    /// Tables over these slices: one connection slot per connection, [`INDEX_WORDS`] words of index per connection
    /// (preferably 16 more, so that it can start on a cache line), one slot per rule, one per server of a rule, one per
    /// re-divert within one sweep.
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

    /// Adds room for measurements, one slot per connection. Without it none are made.
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

#[cfg(feature = "alloc")]
pub use heap::Heap;

#[cfg(feature = "alloc")]
mod heap {
    use alloc::vec;
    use alloc::vec::Vec;

    #[cfg(target_pointer_width = "64")]
    use super::{CLASS_WORDS, FEW_RULES, GROUP_WORDS, groups_for};
    use super::{
        ConnectionSlot, DivertSlot, EventSlot, FragmentSlot, INDEX_WORDS, MAX_OUTSTANDING, MAX_SERVERS, MeasureSlot,
        MeasuredServerSlot, MoveSlot, Parts, ResumeSlot, ServerSlot, View, sealed,
    };

    /// Memory from the heap, all of it allocated at construction: nothing is allocated after that.
    ///
    /// ```
    /// use byway::{Config, Heap, Translator};
    ///
    /// let storage = Heap::new(100_000, 64).events(1_000).measured();
    /// let translator = Translator::new(Config::new([7; 32]), storage)?;
    /// # let _ = translator;
    /// # Ok::<(), byway::ConfigError>(())
    /// ```
    #[derive(Debug)]
    pub struct Heap {
        connections: Vec<ConnectionSlot>,
        index: Vec<u32>,
        diverts: Vec<DivertSlot>,
        servers: Vec<ServerSlot>,
        #[cfg(target_pointer_width = "64")]
        rule_index: Vec<u32>,
        #[cfg(target_pointer_width = "64")]
        rule_filter: Vec<u16>,
        #[cfg(target_pointer_width = "64")]
        server_index: Vec<u16>,
        #[cfg(target_pointer_width = "64")]
        group_index: Vec<u32>,
        moves: Vec<MoveSlot>,
        fragments: Vec<FragmentSlot>,
        events: Vec<EventSlot>,
        measured: Vec<MeasureSlot>,
        measured_servers: Vec<MeasuredServerSlot>,
        resumable: Vec<ResumeSlot>,
    }

    impl Heap {
        /// Empty tables for this many connections, and for this many rules, servers of rules, and re-diverts in one
        /// sweep (at most 64 of those); with room for 64 fragmented datagrams and 64 events, and without measurements.
        #[must_use]
        pub fn new(connections: usize, diverts: usize) -> Self {
            #[cfg(target_pointer_width = "64")]
            let indexed = if diverts > FEW_RULES { diverts } else { 0 };
            Self {
                connections: vec![ConnectionSlot::EMPTY; connections],
                // One line more, so that the index can start on a line wherever the allocator puts it.
                index: vec![0; connections.saturating_mul(INDEX_WORDS) + 16],
                diverts: vec![DivertSlot::EMPTY; diverts],
                servers: Vec::new(),
                #[cfg(target_pointer_width = "64")]
                rule_index: vec![0; if indexed == 0 { 0 } else { indexed.saturating_mul(2) + CLASS_WORDS + 16 }],
                #[cfg(target_pointer_width = "64")]
                rule_filter: vec![0; indexed],
                #[cfg(target_pointer_width = "64")]
                server_index: vec![0; indexed.min(MAX_SERVERS)],
                #[cfg(target_pointer_width = "64")]
                group_index: Vec::new(),
                moves: vec![MoveSlot::EMPTY; diverts.min(MAX_OUTSTANDING)],
                fragments: vec![FragmentSlot::EMPTY; 64],
                events: vec![EventSlot::EMPTY; 64],
                measured: Vec::new(),
                measured_servers: Vec::new(),
                resumable: Vec::new(),
            }
            .servers(diverts)
        }

        /// Room for `count` servers of rules in all; 65 534 is the most that can be told apart.
        #[must_use]
        pub fn servers(mut self, count: usize) -> Self {
            let count = count.min(MAX_SERVERS);
            self.servers = vec![ServerSlot::EMPTY; count];
            if !self.measured_servers.is_empty() {
                self.measured_servers = vec![MeasuredServerSlot::EMPTY; count];
            }
            #[cfg(target_pointer_width = "64")]
            {
                self.group_index = vec![0; groups_for(count) * GROUP_WORDS];
            }
            self
        }

        /// Room for `count` fragmented datagrams in progress.
        #[must_use]
        pub fn fragments(mut self, count: usize) -> Self {
            self.fragments = vec![FragmentSlot::EMPTY; count];
            self
        }

        /// Room for `count` events that wait to be fetched.
        #[must_use]
        pub fn events(mut self, count: usize) -> Self {
            self.events = vec![EventSlot::EMPTY; count];
            self
        }

        /// Measures each connection, and each server of a rule.
        #[must_use]
        pub fn measured(mut self) -> Self {
            self.measured = vec![MeasureSlot::EMPTY; self.connections.len()];
            self.measured_servers = vec![MeasuredServerSlot::EMPTY; self.servers.len()];
            self
        }

        /// Has room for connections that can be handed over ([`Divert::resumable`](crate::Divert::resumable)).
        #[must_use]
        pub fn resumable(mut self) -> Self {
            self.resumable = vec![ResumeSlot::EMPTY; self.connections.len()];
            self
        }
    }

    #[cfg(feature = "defmt")]
    impl defmt::Format for Heap {
        fn format(&self, f: defmt::Formatter<'_>) {
            sealed::Memory::view(self).format(f);
        }
    }

    impl sealed::Memory for Heap {
        #[inline(always)]
        fn parts(&mut self) -> Parts<'_> {
            parts!(self, &mut self.index)
        }

        #[inline(always)]
        fn view(&self) -> View<'_> {
            view!(self, &self.index)
        }
    }
}

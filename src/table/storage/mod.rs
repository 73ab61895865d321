//! Ownership of the memory: one algorithm over slices, and three owners of them.

use crate::error::ConfigError;
use crate::limits::MAX_CONNECTIONS;
use crate::table::connection::ConnectionSlot;
use crate::table::event_queue::EventSlot;
use crate::table::index::INDEX_WORDS;
use crate::table::redivert_log::MoveSlot;
use crate::table::rule::DivertSlot;
use crate::table::server::{MAX_SERVERS, ServerSlot};
use crate::track::fragments::FragmentSlot;
use crate::track::measure::MeasureSlot;
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::resume::ResumeSlot;

/// A storage with room for more rules than this has an index of them, on 64-bit machines, and rules that have only one
/// server share its entry.
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

        /// Clears all of it, as if it had just been created.
        fn clear(&mut self) {
            self.parts().clear();
        }
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

        #[inline(always)]
        fn clear(&mut self) {
            (**self).clear();
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
    /// The index of rules, and the filter of their destinations; empty where `server_index` is.
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

// After the macros that they use.
mod borrowed;
mod fixed;
#[cfg(feature = "alloc")]
mod heap;

pub use borrowed::Borrowed;
pub use fixed::Fixed;
#[cfg(feature = "alloc")]
pub use heap::Heap;

/// These server entries, or as many of them as can be numbered.
fn numbered(servers: &mut [ServerSlot]) -> &mut [ServerSlot] {
    let count = servers.len().min(MAX_SERVERS);
    servers.get_mut(..count).unwrap_or_default()
}

impl Parts<'_> {
    /// Empties every table.
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
        // Slots beyond that number are for events.
        if measured != 0 && measured < connections {
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

//! The memory of the relay, and its owners.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::MAX_RELAY_QUERY;
use crate::endpoint::Endpoint;

/// How many words each index needs for each query at a time.
pub const RELAY_INDEX_WORDS: usize = 4;

/// One query that waits for its answer, or room for one: 568 bytes. Opaque; what [`BorrowedRelay`] is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySlot {
    /// Until when the server may answer, in microseconds.
    pub(super) deadline: u64,
    /// What identifier, port and case of the last attempt were drawn with.
    pub(super) nonce: u64,
    /// The client and what it has asked: addresses and ports.
    pub(super) client: Endpoint,
    pub(super) asked: Endpoint,
    /// Neighbours in the list of waiting queries, or the next unused slot: numbers counted from one.
    pub(super) next: u32,
    pub(super) previous: u32,
    /// How many queries of the clients whose hash selects this slot are waiting; unrelated to the query in the slot.
    pub(super) of_clients: u32,
    /// The port and the identifier of the last attempt.
    pub(super) port: u16,
    pub(super) id: u16,
    /// How long the query is; zero if unused.
    pub(super) length: u16,
    /// How long the name of its question is.
    pub(super) name: u8,
    pub(super) server: u8,
    pub(super) attempts: u8,
    pub(super) flags: u8,
    /// The query as the client wrote it.
    pub(super) message: [u8; MAX_RELAY_QUERY],
}

const _: () = assert!(size_of::<RelaySlot>() == 568, "its documentation says so");

/// The bits of [`RelaySlot::flags`].
pub(super) mod flag {
    /// The last attempt was sent in random case.
    pub(crate) const MIXED: u8 = 1;
    /// An answer had the letters in another case, so the query is no longer sent in random case.
    pub(crate) const PLAIN: u8 = 2;
    /// It is to be sent again at once.
    pub(crate) const AGAIN: u8 = 4;
    /// It is signed, so only its identifier may be changed.
    pub(crate) const SIGNED: u8 = 8;
    /// Another relay has asked for it: see [`Relay::import`](super::super::Relay::import).
    pub(crate) const IMPORTED: u8 = 16;
}

impl RelaySlot {
    /// An unused slot, all zeros.
    pub const EMPTY: Self = Self {
        deadline: 0,
        nonce: 0,
        client: Endpoint::NONE,
        asked: Endpoint::NONE,
        next: 0,
        previous: 0,
        of_clients: 0,
        port: 0,
        id: 0,
        length: 0,
        name: 0,
        server: 0,
        attempts: 0,
        flags: 0,
        message: [0; MAX_RELAY_QUERY],
    };

    pub(super) fn query(&self) -> &[u8] {
        self.message.get(..usize::from(self.length)).unwrap_or_default()
    }

    pub(super) const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for RelaySlot {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "RelaySlot {{ length: {}, attempts: {} }}", self.length, self.attempts);
    }
}

/// The memory of a [`Relay`](super::Relay): [`FixedRelay`], [`BorrowedRelay`], `HeapRelay` (feature `alloc`), or a `&mut` to
/// one of them.
///
/// Sealed: they differ only in who owns the slices.
pub trait RelayStorage: sealed::Memory {}

impl<T: sealed::Memory> RelayStorage for T {}

pub(crate) mod sealed {
    use super::{RelayParts, RelayView};

    pub trait Memory {
        fn parts(&mut self) -> RelayParts<'_>;
        fn view(&self) -> RelayView<'_>;
    }

    impl<T: Memory> Memory for &mut T {
        #[inline(always)]
        fn parts(&mut self) -> RelayParts<'_> {
            (**self).parts()
        }

        #[inline(always)]
        fn view(&self) -> RelayView<'_> {
            (**self).view()
        }
    }
}

/// The slices for calls that only read.
#[derive(Clone, Copy, Debug)]
pub struct RelayView<'a> {
    pub(super) slots: &'a [RelaySlot],
    pub(super) ports: &'a [u32],
}

/// The slices.
#[derive(Debug)]
pub struct RelayParts<'a> {
    pub(super) slots: &'a mut [RelaySlot],
    pub(super) ports: &'a mut [u32],
    pub(super) clients: &'a mut [u32],
}

/// Arrays: room for `QUERIES` queries at a time. All zeros when new.
#[derive(Clone, Debug)]
pub struct FixedRelay<const QUERIES: usize> {
    slots: [RelaySlot; QUERIES],
    ports: [[u32; RELAY_INDEX_WORDS]; QUERIES],
    clients: [[u32; RELAY_INDEX_WORDS]; QUERIES],
}

impl<const QUERIES: usize> FixedRelay<QUERIES> {
    /// Empty tables.
    #[must_use]
    pub const fn new() -> Self {
        let index = [[0; RELAY_INDEX_WORDS]; QUERIES];
        Self { slots: [RelaySlot::EMPTY; QUERIES], ports: index, clients: index }
    }
}

impl<const QUERIES: usize> Default for FixedRelay<QUERIES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const QUERIES: usize> sealed::Memory for FixedRelay<QUERIES> {
    #[inline(always)]
    fn parts(&mut self) -> RelayParts<'_> {
        RelayParts {
            slots: &mut self.slots,
            ports: self.ports.as_flattened_mut(),
            clients: self.clients.as_flattened_mut(),
        }
    }

    #[inline(always)]
    fn view(&self) -> RelayView<'_> {
        RelayView { slots: &self.slots, ports: self.ports.as_flattened() }
    }
}

/// The caller's slices.
#[derive(Debug)]
pub struct BorrowedRelay<'a> {
    /// One for each query at a time, up to 1 048 575.
    pub queries: &'a mut [RelaySlot],
    /// [`RELAY_INDEX_WORDS`] for each query: finds them by port.
    pub ports: &'a mut [u32],
    /// [`RELAY_INDEX_WORDS`] for each query: finds them by client.
    pub clients: &'a mut [u32],
}

impl sealed::Memory for BorrowedRelay<'_> {
    #[inline(always)]
    fn parts(&mut self) -> RelayParts<'_> {
        RelayParts { slots: self.queries, ports: self.ports, clients: self.clients }
    }

    #[inline(always)]
    fn view(&self) -> RelayView<'_> {
        RelayView { slots: self.queries, ports: self.ports }
    }
}

/// Memory from the allocator. It does not grow.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct HeapRelay {
    slots: Vec<RelaySlot>,
    ports: Vec<u32>,
    clients: Vec<u32>,
}

#[cfg(feature = "alloc")]
impl HeapRelay {
    /// Room for this many queries at a time, up to 1 048 575.
    #[must_use]
    pub fn new(queries: usize) -> Self {
        let index = alloc::vec![0; queries.saturating_mul(RELAY_INDEX_WORDS)];
        Self { slots: alloc::vec![RelaySlot::EMPTY; queries], ports: index.clone(), clients: index }
    }
}

#[cfg(feature = "alloc")]
impl sealed::Memory for HeapRelay {
    #[inline(always)]
    fn parts(&mut self) -> RelayParts<'_> {
        RelayParts { slots: &mut self.slots, ports: &mut self.ports, clients: &mut self.clients }
    }

    #[inline(always)]
    fn view(&self) -> RelayView<'_> {
        RelayView { slots: &self.slots, ports: &self.ports }
    }
}

#[cfg(feature = "defmt")]
mod formats {
    use super::{BorrowedRelay, FixedRelay};

    impl<const QUERIES: usize> defmt::Format for FixedRelay<QUERIES> {
        /// How much room there is, not what is in it.
        fn format(&self, f: defmt::Formatter<'_>) {
            defmt::write!(f, "Relay {{ queries: {} }}", QUERIES);
        }
    }

    impl defmt::Format for BorrowedRelay<'_> {
        /// How much room there is, not what is in it.
        fn format(&self, f: defmt::Formatter<'_>) {
            defmt::write!(f, "Relay {{ queries: {} }}", self.queries.len());
        }
    }

    #[cfg(feature = "alloc")]
    impl defmt::Format for super::HeapRelay {
        /// How much room there is, not what is in it.
        fn format(&self, f: defmt::Formatter<'_>) {
            defmt::write!(f, "Relay {{ queries: {} }}", self.slots.len());
        }
    }
}

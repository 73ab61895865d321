//! The memory of the names, and its owners.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::entry::{MAX_ADDRESSES, WeightedAddress};
use super::name::MAX_NAME;
use crate::divert::Match;
use crate::endpoint::{Prefix, Protocol};

/// How many words of index each entry needs.
pub const NAME_INDEX_WORDS: usize = 4;

/// The most entries that an index word can number.
pub(super) const MAX_NAMES: usize = (1 << 20) - 1;

/// No entry: the end of a list.
pub(super) const NONE: u32 = 0;

/// One entry, used or not: 320 bytes, which are five cache lines. Opaque; what [`BorrowedNames`] is made of.
///
/// What a query needs of an entry with one address and a name of up to 43 bytes is in the first line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct NameSlot {
    /// The next entry with the same pattern, or the next unused one: its number, counted from one, or [`NONE`].
    pub(super) next: u32,
    pub(super) ttl: u32,
    network: u32,
    prefix: u8,
    /// Length of the name; zero if unused, since the root has one byte.
    length: u8,
    count: u8,
    flags: u8,
    address: u32,
    name: [u8; MAX_NAME],
    /// The addresses after the first, and the weights of all. An entry that is tied to a rule has one address; the rest
    /// of the rule's match is stored in place of the second address and of the weights after the first, where zero
    /// means any.
    others: [u32; MAX_ADDRESSES - 1],
    weights: [u16; MAX_ADDRESSES],
}

const _: () = assert!(size_of::<NameSlot>() == 320, "its documentation and docs/naming.md say so");

/// The bits of [`NameSlot::flags`].
const SUFFIX: u8 = 1;
/// The entry's rule is gone, so that its names are not answered.
const SUSPENDED: u8 = 2;
const TIED: u8 = 4;

impl NameSlot {
    /// An unused slot, all zeros.
    pub const EMPTY: Self = Self {
        next: NONE,
        ttl: 0,
        network: 0,
        prefix: 0,
        length: 0,
        count: 0,
        flags: 0,
        address: 0,
        name: [0; MAX_NAME],
        others: [0; MAX_ADDRESSES - 1],
        weights: [0; MAX_ADDRESSES],
    };

    pub(super) fn name(&self) -> &[u8] {
        self.name.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Sets the pattern of an unused slot.
    pub(super) fn set_pattern(&mut self, name: &[u8], suffix: bool) {
        self.flags = if suffix { SUFFIX } else { 0 };
        self.length = name.len() as u8;
        for (to, from) in self.name.iter_mut().zip(name) {
            *to = *from;
        }
    }

    /// Whether it is for exactly this name, in any case, or for the names below it.
    #[inline]
    pub(super) fn is_for(&self, name: &[u8], suffix: bool) -> bool {
        // Lengths of labels are below 64, so they are not letters.
        self.is_suffix() == suffix && self.name().eq_ignore_ascii_case(name)
    }

    pub(super) const fn is_suffix(&self) -> bool {
        self.flags & SUFFIX != 0
    }

    pub(super) const fn is_suspended(&self) -> bool {
        self.flags & SUSPENDED != 0
    }

    pub(super) const fn suspend(&mut self, suspended: bool) {
        self.flags = self.flags & !SUSPENDED | if suspended { SUSPENDED } else { 0 };
    }

    pub(super) const fn is_used(&self) -> bool {
        self.length != 0
    }

    pub(super) fn clients(&self) -> Prefix {
        Prefix::from_parts(self.network, self.prefix)
    }

    pub(super) const fn set_clients(&mut self, clients: Prefix) {
        (self.network, self.prefix) = (clients.bits(), clients.length());
    }

    /// Its address, if it has only one.
    pub(super) const fn only_address(&self) -> Option<u32> {
        if self.count == 1 { Some(self.address) } else { None }
    }

    /// The addresses and weights, as numbers.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u32, u16)> + use<'_> {
        self.weights.iter().take(self.count.into()).enumerate().map_while(|(at, weight)| {
            let address = if at == 0 { &self.address } else { self.others.get(at - 1)? };
            Some((*address, *weight))
        })
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = WeightedAddress> + use<'_> {
        self.pairs().map(|(address, weight)| WeightedAddress { address: Ipv4Addr::from_bits(address), weight })
    }

    pub(super) fn set_addresses(&mut self, addresses: &[WeightedAddress]) {
        self.count = addresses.len().min(MAX_ADDRESSES) as u8;
        for ((at, weight), from) in self.weights.iter_mut().enumerate().zip(addresses) {
            *weight = from.weight;
            let address = if at == 0 { Some(&mut self.address) } else { self.others.get_mut(at - 1) };
            if let Some(address) = address {
                *address = from.address.to_bits();
            }
        }
    }

    /// The match of the rule that the entry is tied to, if any.
    pub(super) fn rule(&self) -> Option<Match> {
        let ([network, ..], [_, port, limits, ..]) = (self.others, self.weights);
        let [protocol, prefix] = limits.to_ne_bytes();
        (self.flags & TIED != 0).then(|| Match {
            destination: Prefix::host(Ipv4Addr::from_bits(self.address)),
            port: (port != 0).then_some(port),
            protocol: Protocol::from_number(protocol),
            clients: Prefix::from_parts(network, prefix),
        })
    }

    /// Ties the entry to a rule for its only address, or unties it.
    pub(super) fn set_rule(&mut self, rule: Option<&Match>) {
        self.flags &= !(TIED | SUSPENDED);
        if let Some(rule) = rule {
            self.flags |= TIED;
            self.count = 1;
            let ([network, ..], [_, port, limits, ..]) = (&mut self.others, &mut self.weights);
            *network = rule.from_clients().bits();
            *port = rule.port().unwrap_or(0);
            let protocol = rule.limited_to().map_or(0, Protocol::number);
            *limits = u16::from_ne_bytes([protocol, rule.from_clients().length()]);
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for NameSlot {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "NameSlot {{ name: {=[u8]:a} }}", self.name());
    }
}

/// How many answers one network of clients may still get: 8 bytes. Opaque; what [`BorrowedNames`] is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RateSlot {
    /// When all answers so far are paid for, in microseconds.
    pub(super) paid: u64,
}

impl RateSlot {
    /// An unused slot, all zeros.
    pub const EMPTY: Self = Self { paid: 0 };
}

/// The memory of [`Names`](super::Names): [`FixedNames`], [`BorrowedNames`], `HeapNames` (feature `alloc`), or a `&mut`
/// to one of them.
///
/// Sealed: they differ only in who owns the slices.
pub trait NameStorage: sealed::Memory {}

impl<T: sealed::Memory> NameStorage for T {}

pub(crate) mod sealed {
    use super::{NameParts, NameView};

    pub trait Memory {
        fn parts(&mut self) -> NameParts<'_>;
        fn view(&self) -> NameView<'_>;
    }

    impl<T: Memory> Memory for &mut T {
        #[inline(always)]
        fn parts(&mut self) -> NameParts<'_> {
            (**self).parts()
        }

        #[inline(always)]
        fn view(&self) -> NameView<'_> {
            (**self).view()
        }
    }
}

/// The slices that instructions change.
#[derive(Debug)]
pub struct NameParts<'a> {
    pub(super) slots: &'a mut [NameSlot],
    pub(super) index: &'a mut [u32],
    pub(super) rates: &'a mut [RateSlot],
}

/// The slices that queries read.
#[derive(Clone, Copy, Debug)]
pub struct NameView<'a> {
    pub(super) slots: &'a [NameSlot],
    pub(super) index: &'a [u32],
}

/// Arrays: room for `NAMES` entries, and for the rates of `RATES` networks of clients. All zeros when new.
///
/// A `static` of it, in a cell, is placed in `.bss`; [`Names`](super::Names) takes it by value or by `&mut`.
#[derive(Clone, Debug)]
pub struct FixedNames<const NAMES: usize, const RATES: usize = 64> {
    slots: [NameSlot; NAMES],
    index: [[u32; NAME_INDEX_WORDS]; NAMES],
    rates: [RateSlot; RATES],
}

impl<const NAMES: usize, const RATES: usize> FixedNames<NAMES, RATES> {
    /// Empty tables.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: [NameSlot::EMPTY; NAMES], index: [[0; NAME_INDEX_WORDS]; NAMES], rates: [RateSlot::EMPTY; RATES] }
    }
}

impl<const NAMES: usize, const RATES: usize> Default for FixedNames<NAMES, RATES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const NAMES: usize, const RATES: usize> sealed::Memory for FixedNames<NAMES, RATES> {
    #[inline(always)]
    fn parts(&mut self) -> NameParts<'_> {
        NameParts { slots: &mut self.slots, index: self.index.as_flattened_mut(), rates: &mut self.rates }
    }

    #[inline(always)]
    fn view(&self) -> NameView<'_> {
        NameView { slots: &self.slots, index: self.index.as_flattened() }
    }
}

/// The caller's slices.
#[derive(Debug)]
pub struct BorrowedNames<'a> {
    /// One for each entry, up to 1 048 575.
    pub names: &'a mut [NameSlot],
    /// [`NAME_INDEX_WORDS`] for each entry.
    pub index: &'a mut [u32],
    /// One for each network of clients whose rate is counted separately; networks that share a slot share its rate. If
    /// it is empty, there is no limit.
    pub rates: &'a mut [RateSlot],
}

impl sealed::Memory for BorrowedNames<'_> {
    #[inline(always)]
    fn parts(&mut self) -> NameParts<'_> {
        NameParts { slots: self.names, index: self.index, rates: self.rates }
    }

    #[inline(always)]
    fn view(&self) -> NameView<'_> {
        NameView { slots: self.names, index: self.index }
    }
}

/// Memory from the allocator. It does not grow.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct HeapNames {
    slots: Vec<NameSlot>,
    index: Vec<u32>,
    rates: Vec<RateSlot>,
}

#[cfg(feature = "alloc")]
impl HeapNames {
    /// Room for `names` entries (up to 1 048 575), and for the rates of `rates` networks of clients.
    #[must_use]
    pub fn new(names: usize, rates: usize) -> Self {
        Self {
            slots: alloc::vec![NameSlot::EMPTY; names],
            index: alloc::vec![0; names.saturating_mul(NAME_INDEX_WORDS)],
            rates: alloc::vec![RateSlot::EMPTY; rates],
        }
    }
}

#[cfg(feature = "alloc")]
impl sealed::Memory for HeapNames {
    #[inline(always)]
    fn parts(&mut self) -> NameParts<'_> {
        NameParts { slots: &mut self.slots, index: &mut self.index, rates: &mut self.rates }
    }

    #[inline(always)]
    fn view(&self) -> NameView<'_> {
        NameView { slots: &self.slots, index: &self.index }
    }
}

#[cfg(feature = "defmt")]
mod formats {
    use super::{BorrowedNames, FixedNames, NameView};

    impl defmt::Format for NameView<'_> {
        /// How much room there is, not what is in it.
        fn format(&self, f: defmt::Formatter<'_>) {
            defmt::write!(f, "Names {{ entries: {} }}", self.slots.len());
        }
    }

    impl<const NAMES: usize, const RATES: usize> defmt::Format for FixedNames<NAMES, RATES> {
        fn format(&self, f: defmt::Formatter<'_>) {
            super::sealed::Memory::view(self).format(f);
        }
    }

    impl defmt::Format for BorrowedNames<'_> {
        fn format(&self, f: defmt::Formatter<'_>) {
            super::sealed::Memory::view(self).format(f);
        }
    }

    #[cfg(feature = "alloc")]
    impl defmt::Format for super::HeapNames {
        fn format(&self, f: defmt::Formatter<'_>) {
            super::sealed::Memory::view(self).format(f);
        }
    }
}

//! The index that finds the entry of a server that rules share, in large storages.

use crate::divert::Target;
use crate::table::hash::Keys;
use crate::table::server::{NONE, seed};

/// The index: for each value of a hash the first entry of a list, by its number plus one. The lists are linked by
/// `weight`.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(super) firsts: &'a mut [u16],
    keys: &'a Keys,
}

impl<'a> Shared<'a> {
    /// Without any room for first entries no entry is shared.
    pub(crate) const fn new(firsts: &'a mut [u16], keys: &'a Keys) -> Self {
        Self { firsts, keys }
    }

    fn place(&self, target: Target) -> usize {
        ((u64::from(seed(self.keys, target)) * self.firsts.len() as u64) >> 32) as usize
    }

    /// The first entry of the list for this server, or [`NONE`].
    pub(super) fn first(&self, target: Target) -> u16 {
        self.firsts.get(self.place(target)).map_or(NONE, |first| first.wrapping_sub(1))
    }

    /// Puts another entry at the front of the list for this server; returns the one that stood there.
    pub(super) fn set_first(&mut self, target: Target, entry: u16) -> u16 {
        let place = self.place(target);
        let Some(first) = self.firsts.get_mut(place) else {
            return NONE;
        };
        core::mem::replace(first, entry.wrapping_add(1)).wrapping_sub(1)
    }
}

//! Address spans: one comparison in place of a search through ranges.

use crate::config::Alternative;

/// The range from the lowest to the highest of some addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    first: u32,
    /// The distance of the last address from the first.
    extent: u32,
}

impl Span {
    /// The span of these ranges. Without ranges it holds one arbitrary address, which does not matter.
    pub(super) fn of<'a>(ranges: impl Iterator<Item = &'a Alternative>) -> Self {
        let ranges = ranges.map(|a| (a.first, a.last));
        let (first, last) = ranges.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).unwrap_or((0, 0));
        Self { first, extent: last.wrapping_sub(first) }
    }

    #[inline(always)]
    pub(super) const fn holds(self, address: u32) -> bool {
        address.wrapping_sub(self.first) <= self.extent
    }
}

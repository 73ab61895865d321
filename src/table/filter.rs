//! Which destinations are worth looking up: most packets that are none of ours are told by one bit.

/// A set of addresses that may hold more than was put in, never less (a Bloom filter with one hash): 1024 bits.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    bits: [u32; 32],
    factor: u32,
    /// Everything is worth looking up: there is a rule for a whole prefix.
    everything: bool,
}

impl Filter {
    /// An empty set; `secret` decides which addresses share a bit.
    pub(crate) const fn new(secret: u32) -> Self {
        Self { bits: [0; 32], factor: secret | 1, everything: false }
    }

    #[inline]
    pub(crate) fn may_hold(&self, address: u32) -> bool {
        let (word, bit) = self.place(address);
        self.everything || self.bits.get(word).is_some_and(|w| w >> bit & 1 != 0)
    }

    pub(crate) fn add(&mut self, address: u32) {
        let (word, bit) = self.place(address);
        if let Some(w) = self.bits.get_mut(word) {
            *w |= 1 << bit;
        }
    }

    /// Whether everything is to be looked up.
    pub(crate) fn set_everything(&mut self, everything: bool) {
        self.everything = everything;
    }

    pub(crate) fn clear(&mut self) {
        self.bits = [0; 32];
    }

    #[inline]
    const fn place(&self, address: u32) -> (usize, u32) {
        let hash = address.wrapping_mul(self.factor) >> 22;
        ((hash >> 5) as usize & 31, hash & 31)
    }
}

//! Which destinations are worth looking up: most packets that are none of ours are told by two bits.

/// Which destinations may be diverted. More may be said to be than are, never fewer (a Bloom filter with two probes of
/// a keyed hash, 1024 places each): the first probe is all that a packet of a connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// A rule or a connection may have it as its original destination.
    first: [u32; WORDS],
    /// The same once more; or it may be the address of a client that keeps it.
    second: [u32; WORDS],
    factor: u32,
}

const WORDS: usize = 32;

impl Filter {
    /// An empty filter; `secret` decides which addresses share a place.
    pub(crate) const fn new(secret: u32) -> Self {
        Self { first: [0; WORDS], second: [0; WORDS], factor: secret | 1 }
    }

    /// Whether a rule or a connection may have `address` as its original destination, at the first look.
    #[inline(always)]
    pub(crate) fn may_hold_at_first(&self, address: u32) -> bool {
        is_set(&self.first, self.hash(address))
    }

    /// The same, looked at twice.
    pub(crate) fn may_hold(&self, address: u32) -> bool {
        let hash = self.hash(address);
        is_set(&self.first, hash) && is_set(&self.second, hash << 10)
    }

    /// Whether `address` may be that of a client that keeps it.
    pub(crate) fn may_be_near(&self, address: u32) -> bool {
        is_set(&self.second, self.hash(address) << 10)
    }

    pub(crate) fn add_diverted(&mut self, address: u32) {
        let hash = self.hash(address);
        set(&mut self.first, hash);
        set(&mut self.second, hash << 10);
    }

    /// Adds the address of a client that keeps it.
    pub(crate) fn add_near(&mut self, address: u32) {
        let hash = self.hash(address);
        set(&mut self.second, hash << 10);
    }

    /// Takes every address for diverted: there is a rule for a whole prefix.
    pub(crate) fn divert_everything(&mut self) {
        self.first.fill(u32::MAX);
        self.second.fill(u32::MAX);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.first.fill(0);
        self.second.fill(0);
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    const fn hash(&self, address: u32) -> u32 {
        // Mixed twice, so that addresses in a row do not fall into places in a row.
        let mixed = address.wrapping_mul(self.factor);
        (mixed ^ mixed >> 15).wrapping_mul(0x9e37_79b1)
    }
}

/// Whether the place that the highest ten bits name is set.
#[inline(always)]
fn is_set(words: &[u32; WORDS], hash: u32) -> bool {
    words.get((hash >> 27) as usize).is_some_and(|word| word >> (hash >> 22 & 31) & 1 != 0)
}

fn set(words: &mut [u32; WORDS], hash: u32) {
    if let Some(word) = words.get_mut((hash >> 27) as usize) {
        *word |= 1 << (hash >> 22 & 31);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers have addresses in a row, and so have the neighbours that no rule speaks of.
    #[test]
    fn neighbours_are_told_apart_whatever_the_secret() {
        for secret in 0..1_000_u32 {
            let mut filter = Filter::new(secret.wrapping_mul(0x85eb_ca6b) ^ 0x1234_5678);
            let base = 0xc633_6400;
            (0..64).for_each(|n| filter.add_diverted(base + 4 * n));
            let strangers = || (0..256).filter(|n| n % 4 != 0);
            let at_first = strangers().filter(|n| filter.may_hold_at_first(base + n)).count();
            let falsely = strangers().filter(|n| filter.may_hold(base + n)).count();
            assert!(at_first < 40 && falsely < 12, "{at_first} and {falsely} of 192 with secret {secret}");
        }
    }

    #[test]
    fn what_was_put_in_is_seen() {
        let mut filter = Filter::new(0x9e37_79b9);
        let seen = |filter: &Filter, a| filter.may_hold(a) || filter.may_be_near(a);
        assert!((0..100_000).all(|a| !seen(&filter, a)));
        filter.add_diverted(7);
        (100..=110).for_each(|a| filter.add_near(a));
        assert!(filter.may_hold(7));
        assert!((100..=110).all(|a| filter.may_be_near(a)));
        let falsely = (1_000..101_000).filter(|a| seen(&filter, *a)).count();
        assert!(falsely < 3_000, "{falsely} of 100000");
        filter.divert_everything();
        assert!((0..1_000).all(|a| filter.may_hold(a)));
        filter.clear();
        assert!((0..100_000).all(|a| !seen(&filter, a)));
    }
}

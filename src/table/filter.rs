//! Which destinations are worth looking up: most packets that are none of ours are told by two bits.

/// Which destinations may be diverted. More may be said to be than are, never fewer (a Bloom filter of a keyed hash, in
/// two looks): the first look is all that a packet of a connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// A rule or a connection may have it as its original destination.
    first: Look<FIRST>,
    /// The same once more; or it may be the address of a client that keeps it.
    second: Look<SECOND>,
    factor: u32,
}

/// Words of the first look. On a large processor, where a packet that is wrongly looked up waits for a cold line, there
/// are more.
const FIRST: usize = if LARGE { 1_024 } else { SECOND };
const SECOND: usize = 32;
const LARGE: bool = cfg!(target_pointer_width = "64");

/// On a large processor addresses less than so far apart have different places in the first look.
const APART: u32 = 256;

impl Filter {
    /// An empty filter; `secret` decides which addresses share a place.
    pub(crate) const fn new(secret: u32) -> Self {
        let mut factor = secret | 1;
        // One in sixty does not do. These steps lead through all odd numbers.
        while LARGE && !keeps_apart(factor) {
            factor = factor.wrapping_mul(0x9e37_79b1).wrapping_add(2);
        }
        Self { first: Look([0; FIRST]), second: Look([0; SECOND]), factor }
    }

    /// Whether a rule or a connection may have `address` as its original destination, at the first look.
    #[inline(always)]
    pub(crate) fn may_hold_at_first(&self, address: u32) -> bool {
        self.first.holds(self.hash(address))
    }

    /// The same, looked at twice.
    pub(crate) fn may_hold(&self, address: u32) -> bool {
        let hash = self.hash(address);
        self.first.holds(hash) && self.second.holds(behind_first(hash))
    }

    /// Whether `address` may be that of a client that keeps it.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn may_be_near(&self, address: u32) -> bool {
        self.second.holds(behind_first(self.hash(address)))
    }

    pub(crate) fn add_diverted(&mut self, address: u32) {
        let hash = self.hash(address);
        self.first.add(hash);
        self.second.add(behind_first(hash));
    }

    /// Adds the address of a client that keeps it.
    pub(crate) fn add_near(&mut self, address: u32) {
        let hash = self.hash(address);
        self.second.add(behind_first(hash));
    }

    /// Takes every address for diverted: there is a rule for a whole prefix.
    pub(crate) fn divert_everything(&mut self) {
        self.first.0.fill(u32::MAX);
        self.second.0.fill(u32::MAX);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.first.0.fill(0);
        self.second.0.fill(0);
    }

    /// What the first look looks at. On a large processor, where each packet is to cost few instructions, it is one
    /// multiplication, by a factor that was chosen for it.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    const fn hash(&self, address: u32) -> u32 {
        let multiplied = address.wrapping_mul(self.factor);
        if LARGE { multiplied } else { mix(multiplied) }
    }
}

/// What the second look looks at: the bits that the first one does not take.
const fn behind_first(hash: u32) -> u32 {
    if LARGE { mix(hash) } else { hash << Look::<FIRST>::BITS }
}

/// Mixes the bits of a product, so that addresses in a row do not fall into places in a row.
const fn mix(multiplied: u32) -> u32 {
    (multiplied ^ multiplied >> 15).wrapping_mul(0x9e37_79b1)
}

/// Whether neighbours that are multiplied by this never share a place.
const fn keeps_apart(factor: u32) -> bool {
    let mut distance = 1;
    while distance < APART {
        let product = factor.wrapping_mul(distance);
        // Either way around.
        if product >> (32 - Look::<FIRST>::BITS) == 0 || product.wrapping_neg() >> (32 - Look::<FIRST>::BITS) == 0 {
            return false;
        }
        distance += 1;
    }
    true
}

/// Places of a bit each, of which the highest bits of a hash name one.
#[derive(Clone, Debug)]
struct Look<const WORDS: usize>([u32; WORDS]);

impl<const WORDS: usize> Look<WORDS> {
    /// How many bits of a hash it takes.
    const BITS: u32 = WORDS.ilog2() + 5;

    #[inline(always)]
    fn holds(&self, hash: u32) -> bool {
        let (word, bit) = Self::place(hash);
        self.0.get(word).is_some_and(|word| word >> bit & 1 != 0)
    }

    fn add(&mut self, hash: u32) {
        let (word, bit) = Self::place(hash);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    /// A word, and a bit in it.
    #[inline(always)]
    const fn place(hash: u32) -> (usize, u32) {
        ((hash >> (32 - WORDS.ilog2())) as usize, hash >> (32 - Self::BITS) & 31)
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
            let (most_at_first, most) = if LARGE { (1, 1) } else { (40, 12) };
            let fine = at_first < most_at_first && falsely < most;
            assert!(fine, "{at_first} and {falsely} of 192 with secret {secret}");
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

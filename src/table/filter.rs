//! The filter of destinations that are worth looking up: two bits rule out most packets that no rule and no connection
//! concerns.
//!
//! A bit cannot be cleared, since several addresses may share it. So a removed address stays in the filter until a new
//! filter has been built beside the old one, from all rules and connections, a few of them at a time
//! ([`Table::rebuild_filter`](crate::translator::Table)). An address that is added meanwhile is added to both. The new
//! filter replaces the old one when it is complete, so that the answer is right at all times. On a small processor,
//! where memory is scarce and tables are short, one share of the bits is rebuilt after the other.

/// Which destinations may be diverted: a Bloom filter of a keyed hash, with false positives but no false negatives. It
/// is consulted in two looks; a packet of a connection needs only the first.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// One bit for each place of the first look: a rule or a connection may have such an address as its original
    /// destination. After these, one bit for each place of the second look: the same again, or such an address may be
    /// that of a client that keeps its address.
    words: [u32; WORDS],
    factor: u32,
    /// The share of all words that is being rebuilt, or was rebuilt last.
    share: [u32; SHARE],
    /// Where it begins among the words.
    begin: usize,
}

/// Words of both looks.
const WORDS: usize = FIRST + SECOND;

/// Words of both looks that are rebuilt at once.
const SHARE: usize = if LARGE { WORDS } else { 16 };
const _: () = assert!(WORDS.is_multiple_of(SHARE));

/// Words of the first look. There are more on a large processor, where a packet that is looked up in vain waits for a
/// cold line.
const FIRST: usize = if LARGE { 1_024 } else { SECOND };
const SECOND: usize = 32;
const LARGE: bool = cfg!(target_pointer_width = "64");

/// On a large processor, addresses that are closer together than this have different places in the first look.
const APART: u32 = 256;

impl Filter {
    /// An empty filter without a secret.
    pub(crate) const NONE: Self = Self { words: [0; WORDS], factor: 0, share: [0; SHARE], begin: 0 };

    /// An empty filter; `secret` decides which addresses share a place.
    #[cfg(test)]
    fn new(secret: u32) -> Self {
        let mut filter = Self::NONE;
        filter.set_secret(secret);
        filter
    }

    /// Sets what decides which addresses share a place.
    pub(crate) const fn set_secret(&mut self, secret: u32) {
        let mut factor = secret | 1;
        // One factor in sixty is unsuitable. These steps go through all odd numbers.
        while LARGE && !keeps_apart(factor) {
            factor = factor.wrapping_mul(0x9e37_79b1).wrapping_add(2);
        }
        self.factor = factor;
    }

    /// Whether a rule or a connection may have `address` as its original destination, at the first look.
    #[inline(always)]
    pub(crate) fn may_hold_at_first(&self, address: u32) -> bool {
        self.holds(first(self.hash(address)))
    }

    /// The same, with both looks.
    pub(crate) fn may_hold(&self, address: u32) -> bool {
        let hash = self.hash(address);
        self.holds(first(hash)) && self.holds(second(hash))
    }

    /// Whether `address` may be that of a client that keeps its address.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn may_be_near(&self, address: u32) -> bool {
        self.holds(second(self.hash(address)))
    }

    pub(crate) fn add_diverted(&mut self, address: u32) {
        self.add(first(self.hash(address)));
        self.add_near(address);
    }

    /// Adds the address of a client that keeps its address.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn add_near(&mut self, address: u32) {
        self.add(second(self.hash(address)));
    }

    #[inline(always)]
    fn holds(&self, (word, bit): (usize, u32)) -> bool {
        self.words.get(word).is_some_and(|word| word >> bit & 1 != 0)
    }

    /// Sets a bit, also in the share that is being rebuilt if it lies there.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn add(&mut self, (word, bit): (usize, u32)) {
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << bit;
        }
        if let Some(word) = self.share.get_mut(word.wrapping_sub(self.begin)) {
            *word |= 1 << bit;
        }
    }

    /// Treats every address as diverted: there is a rule for a whole prefix.
    pub(crate) fn divert_everything(&mut self) {
        self.words.fill(u32::MAX);
    }

    /// Starts rebuilding the filter: from now on the caller adds all its contents again.
    pub(crate) fn start_share(&mut self) {
        self.share.fill(0);
        self.begin = 0;
    }

    /// Replaces the old share by the rebuilt one, which is complete. True if another share follows, for which
    /// everything must be added again.
    pub(crate) fn finish_share(&mut self) -> bool {
        for (old, new) in self.words.iter_mut().skip(self.begin).zip(&mut self.share) {
            *old = core::mem::take(new);
        }
        self.begin += SHARE;
        self.begin < WORDS
    }

    /// The hash that the first look uses. On a large processor, where each packet must cost few instructions, it is one
    /// multiplication, by a factor that was chosen for this.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    const fn hash(&self, address: u32) -> u32 {
        let multiplied = address.wrapping_mul(self.factor);
        if LARGE { multiplied } else { mix(multiplied) }
    }
}

/// The place of a hash in the first look: a word, and a bit in it.
#[inline(always)]
const fn first(hash: u32) -> (usize, u32) {
    place(hash, FIRST_BITS)
}

/// Its place in the second look, by the bits that the first one does not take.
const fn second(hash: u32) -> (usize, u32) {
    let (word, bit) = place(if LARGE { mix(hash) } else { hash << FIRST_BITS }, SECOND_BITS);
    (FIRST + word, bit)
}

/// A word, and a bit in it, by the highest `bits` of a hash.
#[inline(always)]
const fn place(hash: u32, bits: u32) -> (usize, u32) {
    ((hash >> (32 + 5 - bits)) as usize, hash >> (32 - bits) & 31)
}

/// How many bits of a hash each look takes.
const FIRST_BITS: u32 = FIRST.ilog2() + 5;
const SECOND_BITS: u32 = SECOND.ilog2() + 5;

/// Mixes the bits of a product, so that addresses in a row do not fall into places in a row.
const fn mix(multiplied: u32) -> u32 {
    (multiplied ^ multiplied >> 15).wrapping_mul(0x9e37_79b1)
}

/// Whether neighbours that are multiplied by this never share a place.
const fn keeps_apart(factor: u32) -> bool {
    let mut distance = 1;
    while distance < APART {
        let product = factor.wrapping_mul(distance);
        // For both signs of the distance.
        if product >> (32 - FIRST_BITS) == 0 || product.wrapping_neg() >> (32 - FIRST_BITS) == 0 {
            return false;
        }
        distance += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers have consecutive addresses, and so do their neighbours that no rule names.
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
        rebuild(&mut filter, |_| {});
        assert!((0..100_000).all(|a| !seen(&filter, a)));
    }

    /// Rebuilds a filter; `add` adds its contents, once for each share.
    fn rebuild(filter: &mut Filter, mut add: impl FnMut(&mut Filter)) {
        filter.start_share();
        loop {
            add(filter);
            if !filter.finish_share() {
                return;
            }
        }
    }

    #[test]
    fn a_filter_that_is_rebuilt_misses_nothing_at_any_time() {
        let mut filter = Filter::new(0x1234_5679);
        (0..300).for_each(|a| filter.add_diverted(a));
        (1_000..1_100).for_each(|a| filter.add_near(a));
        let mut late = 5_000;
        rebuild(&mut filter, |filter| {
            (200..300).for_each(|a| filter.add_diverted(a));
            (1_050..1_100).for_each(|a| filter.add_near(a));
            // Addresses that were added meanwhile are added again for the later shares.
            (5_000..late).for_each(|a| filter.add_diverted(a));
            filter.add_diverted(late);
            late += 1;
            assert!((200..300).chain(5_000..late).all(|a| filter.may_hold(a)));
            assert!((1_050..1_100).all(|a| filter.may_be_near(a)));
        });
        assert!((200..300).chain(5_000..late).all(|a| filter.may_hold(a)));
        assert!((1_050..1_100).all(|a| filter.may_be_near(a)));
        let mut fresh = Filter::new(0x1234_5679);
        (200..300).chain(5_000..late).for_each(|a| fresh.add_diverted(a));
        (1_050..1_100).for_each(|a| fresh.add_near(a));
        assert_eq!(filter.words, fresh.words);
        filter.add_diverted(77);
        assert!(filter.may_hold(77));
    }
}

//! Which destinations are worth looking up: most packets that are none of ours are told by two bits.

/// What may be known of a destination. More may be said of an address than was put in, never less (a Bloom filter with
/// one keyed hash): 1024 places of two bits.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    words: [u32; WORDS],
    factor: u32,
}

const WORDS: usize = 64;

/// A rule or a connection may have it as its original destination.
const DIVERTED: u32 = 1;
/// It may be an alternative address.
const ALTERNATIVE: u32 = 2;
/// Either bit of all places of a word.
const EVERY_PLACE: u32 = 0x5555_5555;

/// What the filter says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u32);

impl Seen {
    /// It may be an alternative address.
    #[inline]
    pub(crate) const fn may_be_alternative(self) -> bool {
        self.0 & ALTERNATIVE != 0
    }

    /// It may be diverted.
    #[inline]
    pub(crate) const fn may_be_diverted(self) -> bool {
        self.0 & DIVERTED != 0
    }
}

impl Filter {
    /// An empty filter; `secret` decides which addresses share a place.
    pub(crate) const fn new(secret: u32) -> Self {
        Self { words: [0; WORDS], factor: secret | 1 }
    }

    #[inline]
    pub(crate) fn look(&self, address: u32) -> Seen {
        let (word, shift) = self.place(address);
        Seen(self.words.get(word).map_or(0, |w| w >> shift & 3))
    }

    /// Whether a rule or a connection may have `address` as its original destination.
    pub(crate) fn may_hold(&self, address: u32) -> bool {
        self.look(address).may_be_diverted()
    }

    pub(crate) fn add_diverted(&mut self, address: u32) {
        self.add(address, DIVERTED);
    }

    /// Takes every address for diverted: there is a rule for a whole prefix.
    pub(crate) fn divert_everything(&mut self) {
        for word in &mut self.words {
            *word |= EVERY_PLACE * DIVERTED;
        }
    }

    /// Forgets which addresses are diverted.
    pub(crate) fn clear_diverted(&mut self) {
        for word in &mut self.words {
            *word &= EVERY_PLACE * ALTERNATIVE;
        }
    }

    /// Adds the alternative addresses from `first` to `last`.
    pub(crate) fn add_alternatives(&mut self, first: u32, last: u32) {
        // More addresses than places take every place.
        if last - first >= (WORDS * 16) as u32 {
            for word in &mut self.words {
                *word |= EVERY_PLACE * ALTERNATIVE;
            }
            return;
        }
        for ahead in 0..last - first + 1 {
            self.add(first + ahead, ALTERNATIVE);
        }
    }

    fn add(&mut self, address: u32, bit: u32) {
        let (word, shift) = self.place(address);
        if let Some(w) = self.words.get_mut(word) {
            *w |= bit << shift;
        }
    }

    #[inline]
    const fn place(&self, address: u32) -> (usize, u32) {
        let hash = address.wrapping_mul(self.factor);
        ((hash >> 26) as usize, hash >> 22 << 1 & 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_seen() {
        let mut filter = Filter::new(0x9e37_79b9);
        assert!((0..100_000).all(|a| filter.look(a) == Seen(0)));
        filter.add_diverted(7);
        filter.add_alternatives(100, 110);
        assert!(filter.may_hold(7));
        assert!((100..=110).all(|a| filter.look(a).may_be_alternative()));
        let falsely = (1_000..101_000).filter(|a| filter.look(*a) != Seen(0)).count();
        assert!(falsely < 3_000, "{falsely} of 100000");
        filter.divert_everything();
        assert!((0..1_000).all(|a| filter.look(a).may_be_diverted()));
        filter.clear_diverted();
        assert!(!filter.may_hold(7) && filter.look(105).may_be_alternative());
    }
}

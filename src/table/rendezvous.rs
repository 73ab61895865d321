//! Weighted rendezvous hashing: which of several candidates a client gets.
//!
//! A client gets the candidate with the lowest `-log(hash) / weight`, where the hash is of the client and the
//! candidate. So each candidate's share of the clients is its share of the weights, and adding or removing a candidate
//! moves only its own clients.

/// The best candidate so far. Initially there is none, with weight zero: any candidate is better.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    best: u32,
    cost: u32,
    weight: u32,
    /// Decides between candidates of equal cost, so that their order does not matter: the higher one wins.
    hash: u64,
}

impl Rendezvous {
    /// Before the first candidate.
    pub(crate) const fn new() -> Self {
        Self { best: 0, cost: 1, weight: 0, hash: 0 }
    }

    /// Considers another candidate. One with weight zero is never chosen.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn look(&mut self, best: u32, hash: u64, weight: u32) {
        // Most candidates of a group are no better in either way. A small processor compares all of them in the same way.
        if cfg!(target_pointer_width = "64") && weight <= self.weight && hash <= self.hash {
            return;
        }
        let cost = negative_log2((hash >> 32) as u32);
        // cost / weight and best cost / best weight, without the division.
        let (own, least) = (u64::from(cost) * u64::from(self.weight), u64::from(self.cost) * u64::from(weight));
        if weight != 0 && (own < least || (own == least && hash > self.hash)) {
            *self = Self { best, cost, weight, hash };
        }
    }

    /// The candidate that the client gets; `None` if none had a weight.
    pub(crate) fn best(&self) -> Option<u32> {
        (self.weight != 0).then_some(self.best)
    }
}

/// `-log2((hash + 1) / 2^32)` in units of 2^-16, by the position of the highest bit and a parabola between powers of two
/// (within 0.01 of the true value).
const fn negative_log2(hash: u32) -> u32 {
    let value = hash.saturating_add(1);
    let zeros = value.leading_zeros();
    let fraction = match value.checked_shl(zeros + 1) {
        Some(bits) => bits >> 16,
        None => 0,
    };
    // log2(1 + f) is about f + 0.3431 f (1 - f) for f in 0..1, in 16-bit fixed point.
    let bend = (fraction * (0x1_0000 - fraction)) >> 16;
    ((zeros + 1) << 16) - fraction - ((bend * 22_485) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_near_enough() {
        let mut before = u32::MAX;
        for hash in (0..=u32::MAX).step_by(65_537).chain(u32::MAX - 70_000..=u32::MAX) {
            assert!(negative_log2(hash) <= before || hash == u32::MAX - 70_000, "it never rises: {hash}");
            before = negative_log2(hash);
            let exact = 32.0 - (f64::from(hash) + 1.0).log2();
            let ours = f64::from(negative_log2(hash)) / f64::from(1 << 16);
            assert!((exact - ours).abs() < 0.01, "{hash}: {ours}, not {exact}");
        }
    }

    #[test]
    fn nobody_gets_what_has_no_weight_and_the_order_does_not_matter() {
        let choose = |candidates: &[(u32, u64, u32)]| {
            let mut rendezvous = Rendezvous::new();
            candidates.iter().for_each(|&(candidate, hash, weight)| rendezvous.look(candidate, hash, weight));
            rendezvous.best()
        };
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[(1, u64::MAX, 0)]), None);
        assert_eq!(choose(&[(1, u64::MAX, 0), (2, 0, 1)]), Some(2));
        // The same cost, but different hashes.
        let (a, b) = ((1, 7 << 32 | 1, 3), (2, 7 << 32 | 2, 3));
        assert_eq!((choose(&[a, b]), choose(&[b, a])), (Some(2), Some(2)));
        let (a, b) = ((1, u64::MAX - 1, 3), (2, u64::MAX, 3));
        assert_eq!((choose(&[a, b]), choose(&[b, a])), (Some(2), Some(2)));
        // Whatever the hashes and weights, in any order.
        let mut random = 1_u64;
        let mut draw = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random
        };
        for _ in 0..10_000 {
            let mut all: Vec<(u32, u64, u32)> =
                (0..6).map(|n| (n, (draw() >> (draw() >> 58)) & !7 | u64::from(n), (draw() >> 62) as u32)).collect();
            let first = choose(&all);
            all.reverse();
            assert_eq!(choose(&all), first, "{all:?}");
        }
    }
}

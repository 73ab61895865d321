//! Twelve tags of one octet, compared with another eight and four at a time, in arithmetic that every processor has.

/// Tags in a bucket.
pub(crate) const ENTRIES: usize = 12;

/// The words that hold them.
pub(crate) type Words = [u32; 3];

const ONES: u64 = u64::MAX / 255;

/// The places whose tags are equal, from the lowest up, first among eight tags and then among four. The first place of
/// each is certain; one that follows may be wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// A mark is the highest bit of its tag's octet.
    marks: u64,
    /// The last four tags, as long as they have not been compared.
    left: Option<u32>,
    tag: u8,
}

/// Where `tag` stands among the tags.
#[inline(always)]
pub(crate) const fn equal([a, b, c]: Words, tag: u8) -> Places {
    Places { marks: marks(a as u64 | (b as u64) << 32, tag), left: Some(c), tag }
}

/// Marks the octets that equal `tag`. A subtraction borrows from the octet above only if this one was zero: so the
/// lowest mark is true, and one above it may be false.
#[inline(always)]
const fn marks(tags: u64, tag: u8) -> u64 {
    let differs = tags ^ (ONES * tag as u64);
    differs.wrapping_sub(ONES) & !differs & (ONES << 7)
}

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.marks == 0 {
            // The upper half of the word is filled with what cannot be equal.
            let unequal = u64::from(u32::from_ne_bytes([!self.tag; 4])) << 32;
            self.marks = marks(u64::from(self.left.take()?) | unequal, self.tag);
            if self.marks == 0 {
                return None;
            }
        }
        let place = self.marks.trailing_zeros() / 8 + if self.left.is_none() { 8 } else { 0 };
        self.marks &= self.marks - 1;
        Some(place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_is_missed_and_the_first_is_right() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few different octets, so that there are hits, neighbours of hits, and zeros.
            state >> 16 & 0x0301_0301 | (state >> 3 & 0x80ff_0000)
        };
        for _ in 0..10_000 {
            let words = [next(), next(), next()];
            for tag in [0, 1, 2, 3, 0x80, 0xff] {
                let octets: std::vec::Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                let expected: std::vec::Vec<usize> = (0..ENTRIES).filter(|p| octets[*p] == tag).collect();
                let found: std::vec::Vec<usize> = equal(words, tag).collect();
                assert_eq!(found.first(), expected.first());
                assert!(expected.iter().all(|p| found.contains(p)));
                assert!(found.iter().all(|p| *p < ENTRIES));
            }
        }
    }
}

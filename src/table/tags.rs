//! Compares twelve one-byte tags with another tag: all at once where the processor can, otherwise eight or four at a
//! time with arithmetic that every processor has.

#[cfg(target_arch = "x86_64")]
use crate::intrinsics::equal_bytes;

/// Tags in a bucket.
pub(super) const ENTRIES: usize = 12;

/// The words that hold the tags, and one that is ignored, to make sixteen bytes.
pub(super) type Words = [u32; 4];

/// The places of equal tags, lowest first. The first one is certain; later ones may be wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// One bit of every [`BITS`] is the mark of a tag.
    marks: Marks,
    offset: usize,
}

#[cfg(all(target_pointer_width = "64", not(target_arch = "x86_64")))]
type Marks = u64;
#[cfg(any(not(target_pointer_width = "64"), target_arch = "x86_64"))]
type Marks = u32;

const BITS: usize = if cfg!(target_arch = "x86_64") { 1 } else { 8 };

/// The places of `tag` among all tags.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn among_all(words: &Words, tag: u8) -> Places {
    const ALL: u32 = (1 << ENTRIES) - 1;
    Places { marks: equal_bytes(words, tag) & ALL, offset: 0 }
}

/// The places of `tag` among the first eight tags.
#[cfg(all(target_pointer_width = "64", not(target_arch = "x86_64")))]
#[inline(always)]
const fn among_eight([a, b, ..]: &Words, tag: u8) -> Places {
    const ONES: u64 = u64::MAX / 255;
    let differs = (*a as u64 | (*b as u64) << 32) ^ (ONES * tag as u64);
    // A subtraction borrows from the byte above only if this one was zero: so the lowest mark is true, and one above it
    // may be false.
    Places { marks: differs.wrapping_sub(ONES) & !differs & (ONES << 7), offset: 0 }
}

/// The places of `tag` among the four tags of a word, whose places start at `offset`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
const fn among_four(word: u32, offset: usize, tag: u8) -> Places {
    const ONES: u32 = u32::MAX / 255;
    let differs = word ^ (ONES * tag as u32);
    Places { marks: (differs.wrapping_sub(ONES) & !differs & (ONES << 7)) as Marks, offset }
}

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.marks == 0 {
            return None;
        }
        let place = self.marks.trailing_zeros() as usize / BITS;
        self.marks &= self.marks - 1;
        Some(self.offset + place)
    }
}

/// The places of `tag`, by a cheap comparison: the first one, and some of any others, which are rare.
#[cfg(target_pointer_width = "64")]
#[inline(always)]
pub(super) fn likely(words: &Words, tag: u8) -> Places {
    #[cfg(target_arch = "x86_64")]
    {
        among_all(words, tag)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let places = among_eight(words, tag);
        if places.marks == 0 { among_four(words[2], 8, tag) } else { places }
    }
}

/// The first result of `found` for the places whose tag is `tag`.
#[inline(always)]
pub(super) fn find<T>(words: &Words, tag: u8, found: impl FnMut(usize) -> Option<T>) -> Option<T> {
    #[cfg(target_arch = "x86_64")]
    {
        among_all(words, tag).find_map(found)
    }
    #[cfg(all(target_pointer_width = "64", not(target_arch = "x86_64")))]
    {
        let mut found = found;
        among_eight(words, tag).find_map(&mut found).or_else(|| among_four(words[2], 8, tag).find_map(found))
    }
    // A loop rather than three searches, so that it is compiled once.
    #[cfg(not(target_pointer_width = "64"))]
    {
        let (mut found, mut offset) = (found, 0);
        for word in words.iter().take(ENTRIES / 4) {
            for place in among_four(*word, offset, tag) {
                if let Some(found) = found(place) {
                    return Some(found);
                }
            }
            offset += 4;
        }
        None
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
            // Few different bytes, so that there are hits, neighbours of hits, and zeros.
            state >> 16 & 0x0301_0301 | (state >> 3 & 0x80ff_0000)
        };
        for _ in 0..10_000 {
            let words = [next(), next(), next(), next()];
            for tag in [0, 1, 2, 3, 0x80, 0xff] {
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                let expected: Vec<usize> = (0..ENTRIES).filter(|p| bytes[*p] == tag).collect();
                let mut found = Vec::new();
                let none: Option<()> = find(&words, tag, |place| {
                    found.push(place);
                    None
                });
                assert_eq!(none, None);
                assert_eq!(found.first(), expected.first());
                assert!(expected.iter().all(|p| found.contains(p)));
                assert!(found.iter().all(|p| *p < ENTRIES));
            }
        }
    }
}

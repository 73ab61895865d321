//! From a key to a slot in at most two cache lines: an index of buckets, one line each.
//!
//! A bucket is sixteen 32-bit words. A word is zero, or the number of a slot plus one in its lower bits and a piece of
//! the key's hash, the tag, in all bits above. A key has a first bucket and a second one; its word lies in the first
//! unless that was full. Used words stand in front of unused ones, so that a search ends at the first zero. With two
//! words of room for each connection a bucket is half full on average, and one key in two thousand lies in its second
//! bucket. If both are full, one of the words in them is moved to its own other bucket, which takes its tag alone.
//!
//! So every call looks at two buckets at most, or at [`WORDS`] more while it makes room: there is no load, and no set
//! of keys, that makes it longer.

use super::hash::reduce;

/// Words in a bucket: one line of 64 octets.
pub(crate) const WORDS: usize = 16;

/// An index over the words of the storage.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    words: &'a mut [u32],
    layout: Layout,
}

/// How the words of an index are parted into slot number and tag, and how many buckets there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    buckets: u32,
    slot_mask: u32,
}

impl Layout {
    /// For this many connections.
    pub(crate) const fn new(connections: usize) -> Self {
        let buckets = (connections * 2 / WORDS) as u32;
        // One value more than there are slots, for the zero that marks an unused word.
        let slot_bits = u32::BITS - (connections as u32).leading_zeros();
        Self { buckets, slot_mask: (1_u32 << slot_bits) - 1 }
    }

    #[inline]
    const fn tag(self, hash: u64) -> u32 {
        hash as u32 & !self.slot_mask
    }

    #[inline]
    const fn first(self, hash: u64) -> u32 {
        reduce((hash >> 32) as u32, self.buckets)
    }

    /// The other bucket of a word that lies in `bucket`; the other of the other is the first again.
    #[inline]
    const fn other(self, bucket: u32, tag: u32) -> u32 {
        let sum = reduce(tag.wrapping_mul(0x9e37_79b1), self.buckets);
        if sum >= bucket { sum - bucket } else { sum + self.buckets - bucket }
    }

    /// The slot that `found` accepts, among those in an index's words whose tag is that of `hash`.
    #[inline(always)]
    pub(crate) fn find(self, words: &[u32], hash: u64, mut found: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = self.tag(hash);
        let first = self.first(hash);
        if let Some(slot) = self.scan(words, first, tag, &mut found) {
            return Some(slot);
        }
        self.scan(words, self.other(first, tag), tag, &mut found)
    }

    /// The first slot in the key's first bucket whose tag is that of `hash`: most likely, but not surely, the right
    /// one.
    #[inline]
    pub(crate) fn guess(self, words: &[u32], hash: u64) -> Option<u32> {
        let tag = self.tag(hash);
        self.scan(words, self.first(hash), tag, &mut |_| true)
    }

    #[inline(always)]
    fn scan(self, words: &[u32], bucket: u32, tag: u32, found: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let start = bucket as usize * WORDS;
        let words = words.get(start..)?.first_chunk::<WORDS>()?;
        for &word in words {
            let differs = word ^ tag;
            if differs <= self.slot_mask && word != 0 {
                // The tag is equal, so what differs is the slot number alone.
                let slot = differs.wrapping_sub(1);
                if found(slot) {
                    return Some(slot);
                }
            } else if word == 0 {
                return None;
            }
        }
        None
    }

    /// The position of the first word of a key's first bucket, for prefetching.
    #[inline]
    pub(crate) const fn position(self, hash: u64) -> usize {
        self.first(hash) as usize * WORDS
    }
}

impl<'a> Index<'a> {
    #[inline]
    pub(crate) const fn new(words: &'a mut [u32], layout: Layout) -> Self {
        Self { words, layout }
    }

    /// See [`Layout::find`].
    #[cfg(test)]
    pub(crate) fn find(&self, hash: u64, found: impl FnMut(u32) -> bool) -> Option<u32> {
        self.layout.find(self.words, hash, found)
    }

    /// Enters `slot` under `hash`. False if there is no room for it, in which case nothing is changed.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) -> bool {
        let tag = self.layout.tag(hash);
        let word = tag | (slot + 1);
        let first = self.layout.first(hash);
        let second = self.layout.other(first, tag);
        if self.append(first, word) || self.append(second, word) {
            return true;
        }
        self.replace(first, word) || self.replace(second, word)
    }

    /// Removes `slot` from under `hash`. False if it is not there.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let tag = self.layout.tag(hash);
        let word = tag | (slot + 1);
        let first = self.layout.first(hash);
        self.take(first, word) || self.take(self.layout.other(first, tag), word)
    }

    fn bucket(&mut self, bucket: u32) -> Option<&mut [u32; WORDS]> {
        self.words.get_mut(bucket as usize * WORDS..)?.first_chunk_mut::<WORDS>()
    }

    fn append(&mut self, bucket: u32, word: u32) -> bool {
        let Some(words) = self.bucket(bucket) else {
            return false;
        };
        match words.iter_mut().find(|w| **w == 0) {
            Some(free) => {
                *free = word;
                true
            }
            None => false,
        }
    }

    /// Puts `word` in the place of one that has room in its own other bucket.
    #[cold]
    fn replace(&mut self, bucket: u32, word: u32) -> bool {
        for place in 0..WORDS {
            let Some(&old) = self.bucket(bucket).and_then(|words| words.get(place)) else {
                return false;
            };
            let other = self.layout.other(bucket, old & !self.layout.slot_mask);
            if other != bucket && self.append(other, old) {
                if let Some(here) = self.bucket(bucket).and_then(|words| words.get_mut(place)) {
                    *here = word;
                }
                return true;
            }
        }
        false
    }

    fn take(&mut self, bucket: u32, word: u32) -> bool {
        let Some(words) = self.bucket(bucket) else {
            return false;
        };
        let used = words.iter().position(|w| *w == 0).unwrap_or(WORDS);
        let Some(place) = words.iter().position(|w| *w == word) else {
            return false;
        };
        // The last used word takes the place, so that used words go on standing in front.
        let last = words.get(used.wrapping_sub(1)).copied().unwrap_or(0);
        if let Some(here) = words.get_mut(place) {
            *here = last;
        }
        if let Some(end) = words.get_mut(used.wrapping_sub(1)) {
            *end = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::{vec, vec::Vec};

    fn hashes(count: usize) -> Vec<u64> {
        let mut state = 0x1234_5678_9abc_def0_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_full_table_is_found_again_and_emptied() {
        for connections in [8, 15, 16, 31, 170, 1_000, 65_536, 200_000] {
            let mut words = vec![0; connections * 2];
            let mut index = Index::new(&mut words, Layout::new(connections));
            let hashes = hashes(connections);
            for (slot, hash) in hashes.iter().enumerate() {
                assert!(index.insert(*hash, slot as u32), "{connections}: {slot}");
            }
            for (slot, hash) in hashes.iter().enumerate() {
                assert_eq!(index.find(*hash, |s| s == slot as u32), Some(slot as u32));
            }
            for (slot, hash) in hashes.iter().enumerate() {
                assert!(index.remove(*hash, slot as u32));
                assert!(!index.remove(*hash, slot as u32));
            }
            assert!(words.iter().all(|w| *w == 0));
        }
    }

    #[test]
    fn it_agrees_with_a_map_under_churn() {
        let connections = 64;
        let mut words = vec![0; connections * 2];
        let mut index = Index::new(&mut words, Layout::new(connections));
        let mut model = HashMap::new();
        let hashes = hashes(20_000);
        for (step, hash) in hashes.iter().enumerate() {
            let slot = (hash >> 7) as u32 % connections as u32;
            match model.remove(&slot) {
                Some(old) => assert!(index.remove(old, slot)),
                None => {
                    assert!(index.insert(*hash, slot), "step {step}");
                    model.insert(slot, *hash);
                }
            }
            for (slot, hash) in &model {
                assert_eq!(index.find(*hash, |s| s == *slot), Some(*slot));
            }
        }
    }

    #[test]
    fn colliding_keys_fill_two_buckets_and_no_more() {
        let connections = 1_000;
        let mut words = vec![0; connections * 2];
        let mut index = Index::new(&mut words, Layout::new(connections));
        let entered = (0..100).filter(|slot| index.insert(0xdead_beef_0000_0000, *slot)).count();
        assert_eq!(entered, 2 * WORDS);
        let mut looked_at = 0;
        index.find(0xdead_beef_0000_0000, |_| {
            looked_at += 1;
            false
        });
        assert_eq!(looked_at, 2 * WORDS);
    }

    #[test]
    fn nothing_is_lost_when_there_is_no_room() {
        let mut words = vec![0; 16];
        let mut index = Index::new(&mut words, Layout::new(8));
        for slot in 0..16 {
            assert!(index.insert(u64::from(slot) << 7, slot % 8));
        }
        assert!(!index.insert(99, 3));
        assert!(words.iter().all(|w| *w != 0));
    }
}

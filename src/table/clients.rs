//! How many connections each client has.
//!
//! One 32-bit word per client, in buckets like those of the index: 16 bits of the keyed hash of its address, and a
//! count of 16 bits. Two clients share a count only if bucket and tag are equal, which depends on the secret and not on
//! an attacker. When both buckets of a client are full, its connections are not counted, and no limit holds for it. That
//! takes a table that is nearly full of clients with one connection each: then few connections are left for one client.

#[cfg(target_pointer_width = "64")]
use crate::intrinsics::prefetch;
use crate::table::hash::reduce;
use crate::table::index::WORDS;

/// The counts, over the words of the storage.
#[derive(Debug)]
pub(crate) struct Clients<'a> {
    words: &'a mut [u32],
}

const COUNT: u32 = 0xffff;

/// A value that is no tag: tags leave the lower bits zero.
const FREE: u32 = 1;

impl<'a> Clients<'a> {
    pub(crate) const fn new(words: &'a mut [u32]) -> Self {
        Self { words }
    }

    /// How many connections the client with this hash has.
    #[cfg(not(target_pointer_width = "64"))]
    pub(crate) fn count(&mut self, hash: u64) -> u32 {
        self.word(hash, tag(hash)).map_or(0, |word| *word & COUNT)
    }

    /// The same without an early exit from a bucket: a large processor compares several words at once, and mispredicts
    /// no loop exit.
    #[cfg(target_pointer_width = "64")]
    pub(crate) fn count(&mut self, hash: u64) -> u32 {
        let tag = tag(hash);
        let of = |words: &[u32]| words.iter().fold(0, |sum, word| sum | if has(*word, tag) { word & COUNT } else { 0 });
        let of_bucket = |bucket| {
            let words = self.words.get(self.range(bucket)).unwrap_or_default();
            words.first_chunk::<WORDS>().map_or_else(|| of(words), |words| of(words))
        };
        let [first, second] = buckets(hash, self.words.len());
        match of_bucket(first) {
            0 => of_bucket(second),
            count => count,
        }
    }

    /// Prefetches the line in which the count of the client with this hash most likely lies.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        let [first, _] = buckets(hash, self.words.len());
        prefetch(self.words, first);
    }

    /// Adds one. False if there is no room to count it.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn add(&mut self, hash: u64) -> bool {
        let tag = tag(hash);
        if let Some(word) = self.word(hash, tag) {
            let room = *word & COUNT != COUNT;
            *word += u32::from(room);
            return room;
        }
        let Some(word) = self.word(hash, FREE) else {
            return false;
        };
        *word = tag | 1;
        true
    }

    /// Subtracts one.
    pub(crate) fn subtract(&mut self, hash: u64) {
        if let Some(word) = self.word(hash, tag(hash)) {
            *word -= 1;
        }
    }

    /// The word in the buckets of this hash that counts under this tag, or, if the tag is [`FREE`], one that is unused.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn word(&mut self, hash: u64, tag: u32) -> Option<&mut u32> {
        for bucket in &buckets(hash, self.words.len()) {
            if let Some(place) = self.place(*bucket, tag) {
                return self.words.get_mut(place);
            }
        }
        None
    }

    /// The place of such a word in a bucket.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    fn place(&self, bucket: usize, tag: u32) -> Option<usize> {
        let words = self.words.get(self.range(bucket)).unwrap_or_default();
        words.iter().position(|word| is_it(*word, tag)).map(|place| bucket + place)
    }

    /// The same in less flash.
    #[cfg(not(target_pointer_width = "64"))]
    fn place(&self, bucket: usize, tag: u32) -> Option<usize> {
        self.range(bucket).find(|place| self.words.get(*place).is_some_and(|word| is_it(*word, tag)))
    }

    fn range(&self, bucket: usize) -> core::ops::Range<usize> {
        bucket..(bucket + WORDS).min(self.words.len())
    }
}

/// Whether a word counts under this tag. Without its tag, such a word is a count of at least 1.
#[cfg(target_pointer_width = "64")]
#[inline(always)]
const fn has(word: u32, tag: u32) -> bool {
    (word ^ tag).wrapping_sub(1) < COUNT
}

/// Whether a word counts under this tag, or, if the tag is [`FREE`], is unused.
#[inline(always)]
const fn is_it(word: u32, tag: u32) -> bool {
    if word & COUNT == 0 { tag == FREE } else { word & !COUNT == tag }
}

/// Where the two buckets of a client start among this many words. First buckets are counted from the start and second
/// ones from the end, so that no word is left out if the number is no multiple of 16. A table of fewer than 16
/// connections has one bucket, which is shorter.
const fn buckets(hash: u64, words: usize) -> [usize; 2] {
    let count = (words / WORDS) as u32;
    let first = reduce((hash >> 32) as u32, count);
    let second = reduce((hash as u32) << 8, count);
    [first as usize * WORDS, words % WORDS + second as usize * WORDS]
}

const fn tag(hash: u64) -> u32 {
    (hash as u32) & !COUNT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_and_down() {
        for words in [8, 16, 100] {
            let mut words = std::vec![0; words];
            let mut clients = Clients::new(&mut words);
            let (a, b) = (0x1111_2222_3333_4444, 0x9999_8888_7777_6666);
            for count in 1..=3 {
                assert!(clients.add(a));
                assert_eq!(clients.count(a), count);
            }
            assert!(clients.add(b));
            clients.subtract(a);
            assert_eq!((clients.count(a), clients.count(b)), (2, 1));
            for _ in 0..5 {
                clients.subtract(a);
            }
            assert_eq!((clients.count(a), clients.count(b)), (0, 1));
        }
    }

    #[test]
    fn what_finds_no_room_goes_uncounted() {
        let mut words = [0; 8];
        let mut clients = Clients::new(&mut words);
        for client in 1..=8_u64 {
            assert!(clients.add(client << 16));
        }
        assert!(!clients.add(9 << 16));
        assert_eq!(clients.count(9 << 16), 0);
        clients.subtract(9 << 16);
        assert_eq!(clients.count(8 << 16), 1);
    }
}

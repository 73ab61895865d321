//! How many connections each client has.
//!
//! One 32-bit word a client, in buckets like the index's: 16 bits of the keyed hash of its address, and a count of 16
//! bits. Two clients share a count only if bucket and tag are the same, which the secret decides and no stranger. When
//! both buckets of a client are full, its connections go uncounted: then the table holds as many clients as
//! connections, and no client many of them.

use super::hash::reduce;
use super::index::WORDS;

/// The counts, over the words of the storage.
#[derive(Debug)]
pub(crate) struct Clients<'a> {
    words: &'a mut [u32],
}

const COUNT: u32 = 0xffff;

impl<'a> Clients<'a> {
    pub(crate) const fn new(words: &'a mut [u32]) -> Self {
        Self { words }
    }

    /// How many connections the client with this hash has.
    pub(crate) fn count(&self, hash: u64) -> u32 {
        let tag = tag(hash);
        for bucket in self.buckets(hash) {
            for word in self.words.get(self.range(bucket)).unwrap_or_default() {
                if word & !COUNT == tag && *word & COUNT != 0 {
                    return word & COUNT;
                }
            }
        }
        0
    }

    /// Counts one more. False if there is no room to count it.
    pub(crate) fn add(&mut self, hash: u64) -> bool {
        let tag = tag(hash);
        let buckets = self.buckets(hash);
        for bucket in buckets {
            for word in self.bucket(bucket) {
                if *word & !COUNT == tag && *word & COUNT != 0 {
                    if *word & COUNT == COUNT {
                        return false;
                    }
                    *word += 1;
                    return true;
                }
            }
        }
        for bucket in buckets {
            for word in self.bucket(bucket) {
                if *word & COUNT == 0 {
                    *word = tag | 1;
                    return true;
                }
            }
        }
        false
    }

    /// Counts one less.
    pub(crate) fn subtract(&mut self, hash: u64) {
        let tag = tag(hash);
        for bucket in self.buckets(hash) {
            for word in self.bucket(bucket) {
                if *word & !COUNT == tag && *word & COUNT != 0 {
                    *word -= 1;
                    return;
                }
            }
        }
    }

    fn range(&self, bucket: usize) -> core::ops::Range<usize> {
        bucket..(bucket + WORDS).min(self.words.len())
    }

    fn bucket(&mut self, bucket: usize) -> &mut [u32] {
        let range = self.range(bucket);
        self.words.get_mut(range).unwrap_or_default()
    }

    /// Where the two buckets begin. A table of fewer than 16 connections has one, and it is shorter.
    fn buckets(&self, hash: u64) -> [usize; 2] {
        let count = (self.words.len() / WORDS) as u32;
        let first = reduce((hash >> 32) as u32, count);
        let second = reduce((hash as u32) << 8, count);
        [first as usize * WORDS, second as usize * WORDS]
    }
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

//! Finds the entries of a pattern: a hash table with two choices of a bucket, and the hash of a name.
//!
//! An index word is an entry's number plus one in its lower 20 bits, and 12 bits of the hash. A bucket is eight words.
//! With four words for each entry the buckets are a quarter full, and the emptier of two never overflows in practice
//! (the fullest of a million has six). Only instructions insert; a query looks at two buckets, and an attacker who does
//! not know the secret cannot even make it compare a name in vain.

use super::storage::{MAX_NAMES, NONE, NameSlot};
use crate::table::hash::{Key, Keys, reduce};

const BUCKET: usize = 8;
const NUMBER: u32 = MAX_NAMES as u32;

/// How many bytes of a name are hashed at once.
const BLOCK: usize = 16;

/// The hash of the name from `start` to `end`, in any case.
///
/// No name is a prefix of another, so padding the last block with zeros cannot make two names equal.
#[cfg_attr(target_pointer_width = "64", inline(always))]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(super) fn hash(keys: &Keys, bytes: &[u8], start: usize, end: usize) -> u64 {
    let (mut hash, mut at) = (0, start);
    while at < end {
        let [addresses, ports] = block(bytes, at, end.min(at + BLOCK));
        hash = keys.hash(&Key { addresses: addresses ^ hash, ports });
        at += BLOCK;
    }
    hash
}

/// The bytes from `at` to `end`, 16 at most, in lower case, little-endian. Lengths of labels are not letters, so they
/// do not change.
#[inline(always)]
fn block(bytes: &[u8], at: usize, end: usize) -> [u64; 2] {
    // A 64-bit processor reads the 16 bytes before `end`, and shifts out those before `at`.
    #[cfg(target_pointer_width = "64")]
    if let Some(bytes) = bytes.get(..end).and_then(<[u8]>::last_chunk::<BLOCK>) {
        let block = u128::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase())) >> ((at + BLOCK - end) * 8);
        return [block as u64, (block >> 64) as u64];
    }
    each_byte(bytes.iter().take(end).skip(at))
}

/// Like [`block`], byte by byte.
#[cfg_attr(target_pointer_width = "64", cold, inline(never))]
fn each_byte<'a>(bytes: impl Iterator<Item = &'a u8>) -> [u64; 2] {
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = from.to_ascii_lowercase();
    }
    let block = u128::from_le_bytes(block);
    [block as u64, (block >> 64) as u64]
}

/// The hash of a pattern, made from the hash of its name.
#[inline]
pub(super) const fn of_pattern(hash: u64, suffix: bool) -> u64 {
    if suffix { !hash.rotate_left(32) } else { hash }
}

/// Where the two buckets of a hash start.
#[inline]
fn buckets(words: usize, hash: u64) -> [usize; 2] {
    let count = (words / BUCKET).max(1) as u32;
    let start = |half| reduce(half, count) as usize * BUCKET;
    [start((hash >> 32) as u32), start(hash as u32)]
}

#[inline]
fn bucket(index: &[u32], start: usize) -> &[u32] {
    index.get(start..index.len().min(start + BUCKET)).unwrap_or_default()
}

/// Begins to fetch the buckets of a hash. Each can be in two cache lines.
#[cfg(target_pointer_width = "64")]
#[inline]
pub(super) fn prefetch(index: &[u32], hash: u64) {
    for start in buckets(index.len(), hash) {
        crate::intrinsics::prefetch(index, start);
        crate::intrinsics::prefetch(index, start + BUCKET - 1);
    }
}

/// The tag of a hash, in the upper bits: of those that choose no bucket where there are less than a million.
const fn tag(hash: u64) -> u32 {
    ((hash ^ hash >> 40) as u32) << 20
}

/// The words in the two buckets of a hash that have its tag: 16 at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates {
    starts: [usize; 2],
    /// A bit for each word.
    marks: u32,
}

impl Candidates {
    pub(super) const NONE: Self = Self { starts: [0; 2], marks: 0 };

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn of(index: &[u32], hash: u64) -> Self {
        let (tag, starts) = (tag(hash), buckets(index.len(), hash));
        let marks = marked(index, starts[0], tag) | marked(index, starts[1], tag) << BUCKET;
        Self { starts, marks }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.marks == 0
    }

    /// The entry in the next candidate word; [`NONE`] for an unused word, whose tag is zero.
    #[inline]
    fn next(&mut self, index: &[u32]) -> Option<u32> {
        let others = self.marks & self.marks.checked_sub(1)?;
        let at = self.marks.trailing_zeros() as usize;
        self.marks = others;
        let [first, second] = self.starts;
        let start = if at < BUCKET { first } else { second };
        index.get(start + at % BUCKET).map(|word| word & NUMBER)
    }

    /// The numbers of the entries.
    #[inline]
    pub(super) fn numbers(mut self, index: &[u32]) -> impl Iterator<Item = u32> {
        core::iter::from_fn(move || self.next(index))
    }
}

/// A bit for each word with this tag in the bucket that starts here.
#[cfg_attr(target_pointer_width = "64", inline(always))]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn marked(index: &[u32], start: usize, tag: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(([first, second], _)) =
        index.get(start..).and_then(|bucket| bucket.split_first_chunk::<BUCKET>()).map(|(bucket, _)| bucket.as_chunks())
    {
        let marks = |words| crate::intrinsics::equal_words(words, !NUMBER, tag);
        return marks(first) | marks(second) << 4;
    }
    let words = bucket(index, start).iter().rev();
    words.fold(0, |marks, word| marks << 1 | u32::from(word & !NUMBER == tag))
}

/// The first entry of the list with this pattern; [`NONE`] if there is none.
#[cfg_attr(target_pointer_width = "64", inline)]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(super) fn find(index: &[u32], slots: &[NameSlot], among: Candidates, name: &[u8], suffix: bool) -> u32 {
    let is_it = |number: &u32| slot(slots, *number).is_some_and(|slot| slot.is_for(name, suffix));
    among.numbers(index).find(is_it).unwrap_or(NONE)
}

/// The entry with this number, counted from one.
#[inline]
pub(super) fn slot(slots: &[NameSlot], number: u32) -> Option<&NameSlot> {
    slots.get((number as usize).wrapping_sub(1))
}

/// Puts the first entry of a list into the index. Returns whether there was room.
pub(super) fn insert(index: &mut [u32], hash: u64, number: u32) -> bool {
    let start = place_for(index, hash, |_| 0).start;
    put(index, start, NONE, tag(hash) | number)
}

/// Replaces the word of the entry `old` in a bucket, or an unused word if `old` is [`NONE`]. Returns whether there was
/// one.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn put(index: &mut [u32], start: usize, old: u32, new: u32) -> bool {
    let mut words = index.get_mut(start..).unwrap_or_default().iter_mut().take(BUCKET);
    words.find(|word| **word & NUMBER == old).map(|word| *word = new).is_some()
}

/// The bucket that the first entry of a list goes into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Insertion {
    pub(super) start: usize,
    /// How many words are used there.
    used: isize,
}

impl Insertion {
    #[cfg(feature = "control")]
    pub(super) fn has_room(self, index: &[u32]) -> bool {
        self.used < bucket(index, self.start).len() as isize
    }
}

/// The emptier of the two buckets, counting as many additional words in each as `more` says.
#[inline]
pub(super) fn place_for(index: &[u32], hash: u64, more: impl Fn(usize) -> isize) -> Insertion {
    let of = |start| Insertion { start, used: used(index, start) + more(start) };
    let [first, second] = buckets(index.len(), hash);
    let (first, second) = (of(first), of(second));
    if second.used < first.used { second } else { first }
}

/// How many words of a bucket are used.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn used(index: &[u32], start: usize) -> isize {
    bucket(index, start).iter().filter(|word| **word & NUMBER != NONE).count() as isize
}

/// The bucket that holds the first entry of a list.
#[cfg(feature = "control")]
pub(super) fn place_of(index: &[u32], hash: u64, number: u32) -> Option<usize> {
    let holds = |start: &usize| bucket(index, *start).iter().any(|word| *word & NUMBER == number);
    buckets(index.len(), hash).into_iter().find(holds)
}

/// Replaces the first entry of a list by another, or by none.
pub(super) fn replace(index: &mut [u32], hash: u64, old: u32, new: u32) {
    let [first, second] = buckets(index.len(), hash);
    let word = if new == NONE { 0 } else { tag(hash) | new };
    if !put(index, first, old, word) {
        put(index, second, old, word);
    }
}

//! Finds the entries of a pattern: a hash table with two choices of a bucket, and a name's hash made label by label.
//!
//! An index word is an entry's number plus one in its lower 20 bits, and 12 bits of the hash. A bucket is eight words.
//! With four words for each entry the buckets are a quarter full, of which the emptier of two never overflows in practice
//! (the fullest of a million has six). Only instructions insert; a query looks at two buckets, and a stranger who does not
//! know the secret cannot even make it compare a name in vain.

use super::question::Asked;
use super::storage::{MAX_NAMES, NONE, NameSlot};
use crate::table::hash::{Key, Keys, reduce};

const BUCKET: usize = 8;
const NUMBER: u32 = MAX_NAMES as u32;

/// The hash of the root.
const ROOT: u64 = 0x6e61_6d69_6e67;

/// The hash of a name, of that without its leftmost label, and this label with its length before it, which takes the bytes from
/// `start` to `end`.
#[cfg_attr(target_pointer_width = "64", inline)]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn absorb(keys: &Keys, mut hash: u64, asked: &Asked, start: usize, end: usize) -> u64 {
    // The label's length tells whether the last word is a whole one.
    for at in (start..end).step_by(size_of::<u64>()) {
        hash = keys.hash(&Key { addresses: hash ^ asked.word(at, end), ports: ROOT });
    }
    hash
}

/// The hash of each name that a question's name ends with, the root's first: `look` gets it, with the number of labels and
/// where it starts, and all of its labels for the whole name.
#[inline]
pub(super) fn walk(keys: &Keys, asked: &Asked, mut look: impl FnMut(u64, usize, usize)) {
    let (mut hash, mut end) = (ROOT, asked.length().saturating_sub(1));
    look(hash, 0, end);
    for (labels, start) in (1..).zip(asked.starts().rev()) {
        hash = absorb(keys, hash, asked, start, end);
        look(hash, labels, start);
        end = start;
    }
}

/// The hash of a pattern, by that of its name.
#[inline]
pub(super) const fn of_pattern(hash: u64, suffix: bool) -> u64 {
    if suffix { hash.rotate_left(32) ^ ROOT } else { hash }
}

/// Where the two buckets of a hash start.
#[inline]
fn buckets(words: usize, hash: u64) -> [usize; 2] {
    let count = (words / BUCKET).max(1) as u32;
    [(hash >> 32) as u32, hash as u32].map(|half| reduce(half, count) as usize * BUCKET)
}

#[inline]
fn bucket(index: &[u32], start: usize) -> &[u32] {
    index.get(start..index.len().min(start + BUCKET)).unwrap_or_default()
}

/// The tag of a hash, in the upper bits: of those that choose no bucket where there are less than a million.
const fn tag(hash: u64) -> u32 {
    ((hash ^ hash >> 40) as u32) << 20
}

/// The first entry of the list with this pattern; [`NONE`] if there is none.
#[inline]
pub(super) fn find(index: &[u32], slots: &[NameSlot], hash: u64, name: &[u8], suffix: bool) -> u32 {
    let tag = tag(hash);
    for start in buckets(index.len(), hash) {
        for word in bucket(index, start) {
            if word & !NUMBER == tag && word & NUMBER != NONE {
                let number = word & NUMBER;
                if slot(slots, number).is_some_and(|s| s.is_for(name, suffix)) {
                    return number;
                }
            }
        }
    }
    NONE
}

/// The numbers in the two buckets of a hash that have its tag: 16 at most.
pub(super) fn candidates(index: &[u32], hash: u64) -> impl Iterator<Item = u32> {
    let tag = tag(hash);
    let words = buckets(index.len(), hash).into_iter().flat_map(|start| bucket(index, start));
    words.filter(move |word| **word & !NUMBER == tag && **word & NUMBER != NONE).map(|word| word & NUMBER)
}

/// The entry with this number, counted from one.
#[inline]
pub(super) fn slot(slots: &[NameSlot], number: u32) -> Option<&NameSlot> {
    slots.get((number as usize).wrapping_sub(1))
}

/// Puts the first entry of a list into the index. Whether there was room.
pub(super) fn insert(index: &mut [u32], hash: u64, number: u32) -> bool {
    let Insertion { start, has_room } = place_for(index, hash, |_| (0, 0));
    if !has_room {
        return false;
    }
    let end = index.len().min(start + BUCKET);
    let free = index.get_mut(start..end).unwrap_or_default().iter_mut().find(|word| **word & NUMBER == NONE);
    free.map(|word| *word = tag(hash) | number).is_some()
}

/// The bucket that the first entry of a list goes into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Insertion {
    pub(super) start: usize,
    pub(super) has_room: bool,
}

/// The emptier of the two buckets, once each has got some words and lost others: `balance` says how many.
#[inline]
pub(super) fn place_for(index: &[u32], hash: u64, balance: impl Fn(usize) -> (usize, usize)) -> Insertion {
    let used = |start: usize| {
        let (more, less) = balance(start);
        (bucket(index, start).iter().filter(|word| **word & NUMBER != NONE).count() + more).saturating_sub(less)
    };
    let [first, second] = buckets(index.len(), hash);
    let start = if used(second) < used(first) { second } else { first };
    Insertion { start, has_room: used(start) < bucket(index, start).len() }
}

/// The bucket that holds the first entry of a list.
#[cfg(feature = "control")]
pub(super) fn place_of(index: &[u32], hash: u64, number: u32) -> Option<usize> {
    let holds = |start: &usize| bucket(index, *start).iter().any(|word| *word & NUMBER == number);
    buckets(index.len(), hash).into_iter().find(holds)
}

/// Replaces the first entry of a list by another, or by none.
pub(super) fn replace(index: &mut [u32], hash: u64, old: u32, new: u32) {
    for start in buckets(index.len(), hash) {
        let end = index.len().min(start + BUCKET);
        let words = index.get_mut(start..end).unwrap_or_default();
        if let Some(word) = words.iter_mut().find(|word| **word & NUMBER == old) {
            *word = if new == NONE { 0 } else { tag(hash) | new };
            return;
        }
    }
}

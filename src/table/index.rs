//! Finds a slot by its key in at most two cache lines: an index of buckets, one line each.
//!
//! A bucket is sixteen 32-bit words: twelve one-byte tags in the first three, a word about displaced entries, and
//! twelve slot numbers. A tag is a part of the key's hash, and zero where there is no entry. All tags of a bucket are
//! compared at once (see `tags`).
//!
//! A key has a first and a second bucket; its entry lies in the first unless that was full. With two words per
//! connection, a bucket is two thirds full when the table is full, and one key in sixty lies in its second bucket.
//! (Connections with any-port replies have two entries; the table counts as full before they fill an index.) If
//! both are full, one of the entries in them is moved to its own other bucket, which can be computed from its tag
//! alone.
//!
//! On a large processor, where looking at a second bucket means waiting for a second line, the first bucket counts the
//! entries that are displaced from it: for nine in ten absent keys no second look is needed.
//!
//! So every call examines at most two buckets, plus two dozen more when it makes room. No load and no set of keys makes
//! it longer.

use crate::connection::Direction;
use crate::table::hash::reduce;
use crate::table::tags::{self, ENTRIES};
use crate::track::claims::Claims;

/// How many 32-bit words of index a connection takes: two for each direction, so that a bucket of the index is two
/// thirds full when the table is full; one for its client's count; three for TCP state that is seldom needed.
pub const INDEX_WORDS: usize = 5 + Claims::WORDS;

/// Words in a bucket: one line of 64 bytes.
pub(super) const WORDS: usize = 16;

/// Where the slot numbers start.
const SLOTS: usize = WORDS - ENTRIES;

/// The word about displaced entries. The lower half has a bit for each place whose entry is displaced from its first
/// bucket, and so lies in its second. The upper half counts the entries that are displaced from this bucket.
const AWAY: usize = SLOTS - 1;

const ONE_AWAY: u32 = 1 << 16;
const ONE_BACK: u32 = ONE_AWAY.wrapping_neg();

/// The contents of a free place: no tag, and slot zero.
const NO_ENTRY: (u8, u32) = (0, 0);

/// Whether the word about displaced entries is maintained. On a processor without caches it would only cost time.
const COUNTS_AWAY: bool = cfg!(target_pointer_width = "64");

/// The buckets of an index.
#[derive(Debug)]
pub(crate) struct Index<'a>(&'a mut [Bucket]);

type Bucket = [u32; WORDS];

/// How the storage's words are divided into the two indexes, the clients' counts and the connections' claims.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Where the two indexes start, in words.
    bases: [u32; 2],
    /// Where the clients' counts start and end; the connections' claims start at their end.
    clients: (usize, usize),
    buckets: u32,
}

impl Layout {
    /// The layout for this many connections over these words, of which there must be enough.
    pub(crate) fn new(words: &[u32], connections: usize) -> Self {
        // Start the indexes on a cache line if there are words to spare.
        let spare = words.len().saturating_sub(connections * INDEX_WORDS);
        let skip = words.as_ptr().align_offset(WORDS * size_of::<u32>());
        let start = if skip <= spare { skip } else { 0 };
        let buckets = connections * 2 / WORDS;
        let share = buckets * WORDS;
        Self {
            bases: [start as u32, (start + share) as u32],
            clients: (start + 2 * share, start + 2 * share + connections),
            buckets: buckets as u32,
        }
    }

    /// Whether there is any bucket.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) const fn has_room(self) -> bool {
        self.buckets != 0
    }

    /// The layout of a single index over all of these words.
    #[cfg(target_pointer_width = "64")]
    pub(crate) fn of_one(words: &[u32]) -> Self {
        let skip = words.as_ptr().align_offset(WORDS * size_of::<u32>());
        let start = if skip < WORDS && words.len() > WORDS { skip } else { 0 };
        let buckets = words.len().saturating_sub(start) / WORDS;
        Self { bases: [start as u32; 2], clients: (0, 0), buckets: buckets as u32 }
    }

    /// How many entries one index may have, so that another one nearly always finds room: eleven of the twelve places of
    /// each bucket.
    #[inline]
    pub(crate) const fn most_entries(self) -> u32 {
        self.buckets * (ENTRIES as u32 - 1)
    }

    pub(crate) fn index(self, words: &mut [u32], direction: Direction) -> Index<'_> {
        let base = self.base(direction);
        let words = words.get_mut(base..base + self.buckets as usize * WORDS).unwrap_or_default();
        Index(words.as_chunks_mut().0)
    }

    /// The words of the clients' counts.
    pub(crate) fn clients(self, words: &mut [u32]) -> &mut [u32] {
        words.get_mut(self.clients.0..self.clients.1).unwrap_or_default()
    }

    /// The words of a TCP connection's claims.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn claims(self, words: &mut [u32], slot: u32) -> Option<&mut [u32; Claims::WORDS]> {
        words.get_mut(self.clients.1 + slot as usize * Claims::WORDS..)?.first_chunk_mut()
    }

    /// The same, read-only.
    pub(crate) fn claims_of(self, words: &[u32], slot: u32) -> Option<&[u32; Claims::WORDS]> {
        words.get(self.clients.1 + slot as usize * Claims::WORDS..)?.first_chunk()
    }

    /// Every entry of the index of this direction: tag and slot.
    #[cfg(all(test, feature = "alloc"))]
    pub(crate) fn entries(self, words: &mut [u32], direction: Direction) -> Vec<(u8, u32)> {
        let buckets = self.index(words, direction).0;
        let all = buckets.iter().flat_map(|words| (0..ENTRIES).map(|place| (tag_at(words, place), slot(words, place))));
        all.filter(|(tag, _)| *tag != 0).collect()
    }

    #[inline(always)]
    const fn base(self, direction: Direction) -> usize {
        match direction {
            Direction::ToServer => self.bases[0] as usize,
            Direction::ToClient => self.bases[1] as usize,
        }
    }

    #[inline(always)]
    const fn first(self, hash: u64) -> u32 {
        first(hash, self.buckets)
    }

    /// Whether a key that is not in its first bucket may be in its second one.
    #[inline(always)]
    fn may_be_away(self, words: &[u32], direction: Direction, first: u32) -> bool {
        !COUNTS_AWAY || at(words, self.base(direction), first).is_some_and(|words| words[AWAY] >= ONE_AWAY)
    }

    /// The slot that `found` accepts, among those in the index of this direction whose tag is that of `hash`.
    #[inline(always)]
    pub(crate) fn find(
        self,
        words: &[u32],
        direction: Direction,
        hash: u64,
        mut found: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let tag = tag(hash);
        let mut bucket = self.first(hash);
        let mut second = false;
        // A loop rather than two searches, so that the comparison of keys is compiled once.
        loop {
            let slot = self.find_within(words, direction, bucket, tag, &mut found);
            if slot.is_some() || second || !self.may_be_away(words, direction, bucket) {
                return slot;
            }
            second = true;
            bucket = other(bucket, tag, self.buckets);
        }
    }

    #[inline(always)]
    fn find_within(
        self,
        words: &[u32],
        direction: Direction,
        bucket: u32,
        tag: u8,
        found: &mut impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let words = at(words, self.base(direction), bucket)?;
        tags::find(tags_of(words), tag, |place| Some(slot(words, place)).filter(|slot| found(*slot)))
    }

    /// The position of a key's first bucket among the words.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) const fn position(self, direction: Direction, hash: u64) -> u32 {
        self.base(direction) as u32 + self.first(hash) * WORDS as u32
    }

    /// Enters `slot` under `hash` into the key's first bucket. False, with nothing changed, if that is full.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    #[must_use]
    pub(crate) fn insert_early(self, words: &mut [u32], direction: Direction, hash: u64, slot: u32) -> bool {
        self.index(words, direction).put(self.first(hash), (tag(hash), slot), false)
    }

    /// The slots in the bucket at this position that have this tag, by a cheap comparison: the first one
    /// is most likely, but not certainly, the right one.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) fn guesses(words: &[u32], position: u32, tag: u8) -> Option<impl Iterator<Item = u32>> {
        let words = at(words, position as usize, 0)?;
        Some(tags::likely(tags_of(words), tag).map(|place| slot(words, place)))
    }

    /// The position of the second bucket of a key with this tag and this position of its first bucket, if the key may
    /// be there.
    #[cfg(target_pointer_width = "64")]
    pub(crate) fn second_position(self, words: &[u32], direction: Direction, position: u32, tag: u8) -> Option<usize> {
        let base = self.base(direction);
        let first = (position as usize).checked_sub(base)? / WORDS;
        let second = other(first as u32, tag, self.buckets);
        self.may_be_away(words, direction, first as u32).then_some(base + second as usize * WORDS)
    }
}

/// The first bucket of a key, among this many.
#[inline(always)]
const fn first(hash: u64, buckets: u32) -> u32 {
    if cfg!(target_pointer_width = "64") {
        // One multiplication, without a shift before it.
        ((hash as u128 * buckets as u128) >> 64) as u32
    } else {
        reduce((hash >> 32) as u32, buckets)
    }
}

/// The other bucket of an entry in `bucket`. The other bucket of the result is `bucket` again.
#[inline]
const fn other(bucket: u32, tag: u8, buckets: u32) -> u32 {
    let sum = reduce((tag as u32).wrapping_mul(0x9e37_79b1), buckets);
    if sum >= bucket { sum - bucket } else { sum + buckets - bucket }
}

/// The words of a bucket.
#[inline(always)]
fn at(words: &[u32], base: usize, bucket: u32) -> Option<&[u32; WORDS]> {
    let start = base + bucket as usize * WORDS;
    words.get(start..start + WORDS)?.first_chunk()
}

/// A key's tag: never zero.
#[inline(always)]
pub(crate) const fn tag(hash: u64) -> u8 {
    let tag = hash as u8;
    if tag == 0 { 1 } else { tag }
}

#[inline(always)]
fn tags_of(words: &[u32; WORDS]) -> &tags::Words {
    words.first_chunk().unwrap_or(&[0; 4])
}

/// The slot number of an entry.
#[inline(always)]
fn slot(words: &[u32; WORDS], place: usize) -> u32 {
    words.get(SLOTS + place).copied().unwrap_or(0)
}

impl Index<'_> {
    /// Enters `slot` under `hash`. False, with nothing changed, if there is no room.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) -> bool {
        let entry = (tag(hash), slot);
        let (first, second) = self.both(hash);
        if self.put(first, entry, false) {
            return true;
        }
        if self.put(second, entry, true) {
            self.count_away(first, ONE_AWAY);
            return true;
        }
        if self.replace(first, entry, false) {
            return true;
        }
        if self.replace(second, entry, true) {
            self.count_away(first, ONE_AWAY);
            return true;
        }
        false
    }

    /// Removes `slot` under `hash`. False if it is not there.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let entry = (tag(hash), slot);
        let (first, second) = self.both(hash);
        if self.exchange(first, entry, NO_ENTRY, false) {
            return true;
        }
        let removed = self.exchange(second, entry, NO_ENTRY, false);
        if removed {
            self.count_away(first, ONE_BACK);
        }
        removed
    }

    /// The two buckets of a key.
    fn both(&self, hash: u64) -> (u32, u32) {
        let buckets = self.0.len() as u32;
        let first = first(hash, buckets);
        (first, other(first, tag(hash), buckets))
    }

    /// Puts an entry into this bucket if there is room. `away` says that this is not its first bucket.
    fn put(&mut self, bucket: u32, entry: (u8, u32), away: bool) -> bool {
        self.exchange(bucket, NO_ENTRY, entry, away)
    }

    /// Replaces an entry by another, if it is there.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn exchange(&mut self, bucket: u32, old: (u8, u32), new: (u8, u32), away: bool) -> bool {
        let Some(words) = self.0.get_mut(bucket as usize) else { return false };
        let is_it = |place: usize| (words.get(SLOTS + place) == Some(&old.1)).then_some(place);
        let Some(place) = tags::find(tags_of(words), old.0, is_it) else { return false };
        set(words, place, new, away);
        true
    }

    /// Puts an entry in the place of another one, which moves to its own other bucket if there is room.
    #[cold]
    fn replace(&mut self, bucket: u32, entry: (u8, u32), away: bool) -> bool {
        let buckets = self.0.len() as u32;
        for place in 0..ENTRIES {
            let Some(words) = self.0.get(bucket as usize) else { return false };
            let old = (tag_at(words, place), slot(words, place));
            let was_away = is_away(words, place);
            let other = other(bucket, old.0, buckets);
            if other != bucket && self.put(other, old, !was_away) {
                if was_away {
                    self.count_away(other, ONE_BACK);
                } else {
                    self.count_away(bucket, ONE_AWAY);
                }
                if let Some(words) = self.0.get_mut(bucket as usize) {
                    set(words, place, entry, away);
                }
                return true;
            }
        }
        false
    }

    /// Counts one more entry that is displaced from this bucket, or one less.
    fn count_away(&mut self, bucket: u32, one: u32) {
        if COUNTS_AWAY && let Some(words) = self.0.get_mut(bucket as usize) {
            words[AWAY] = words[AWAY].wrapping_add(one);
        }
    }
}

fn tag_at(words: &Bucket, place: usize) -> u8 {
    words.get(place / 4).map_or(0, |w| (w >> (place % 4 * 8)) as u8)
}

/// Whether the entry at this place is displaced from its first bucket.
const fn is_away(words: &Bucket, place: usize) -> bool {
    COUNTS_AWAY && words[AWAY] >> place & 1 != 0
}

/// Writes an entry of a bucket.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn set(words: &mut Bucket, place: usize, (tag, slot): (u8, u32), away: bool) {
    let shift = place % 4 * 8;
    if let Some(tags) = words.get_mut(place / 4) {
        *tags = *tags & !(0xff << shift) | u32::from(tag) << shift;
    }
    if let Some(word) = words.get_mut(SLOTS + place) {
        *word = slot;
    }
    if COUNTS_AWAY {
        words[AWAY] = words[AWAY] & !(1 << place) | u32::from(away) << place;
    }
}

#[cfg(test)]
mod tests;

//! Tests of `index.rs`.

use super::*;
use std::collections::HashMap;
use std::{vec, vec::Vec};

const BACK: Direction = Direction::ToClient;

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

fn words(connections: usize) -> (Vec<u32>, Layout) {
    let words = vec![0; connections * INDEX_WORDS + WORDS];
    let layout = Layout::new(&words, connections);
    (words, layout)
}

#[test]
fn a_full_table_is_found_again_and_emptied() {
    for connections in [8, 31, 170, 1_000, 65_536, 200_000] {
        let (mut words, layout) = words(connections);
        let hashes = hashes(connections);
        for (slot, hash) in hashes.iter().enumerate() {
            assert!(layout.index(&mut words, BACK).insert(*hash, slot as u32), "{connections}: {slot}");
        }
        for (slot, hash) in hashes.iter().enumerate() {
            assert_eq!(layout.find(&words, BACK, *hash, |s| s == slot as u32), Some(slot as u32));
        }
        for (slot, hash) in hashes.iter().enumerate() {
            assert!(layout.index(&mut words, BACK).remove(*hash, slot as u32));
            assert!(!layout.index(&mut words, BACK).remove(*hash, slot as u32));
        }
        assert!(words.iter().all(|w| *w == 0));
    }
}

#[test]
fn it_agrees_with_a_map_under_churn() {
    let connections = 64;
    let (mut words, layout) = words(connections);
    let mut model = HashMap::new();
    let hashes = hashes(20_000);
    for (step, hash) in hashes.iter().enumerate() {
        let slot = (hash >> 7) as u32 % connections as u32;
        match model.remove(&slot) {
            Some(old) => assert!(layout.index(&mut words, BACK).remove(old, slot)),
            None => {
                assert!(layout.index(&mut words, BACK).insert(*hash, slot), "step {step}");
                model.insert(slot, *hash);
            }
        }
        for (slot, hash) in &model {
            assert_eq!(layout.find(&words, BACK, *hash, |s| s == *slot), Some(*slot));
        }
    }
}

/// Every entry that is displaced from its first bucket is counted there, and nothing else is. On small processors
/// nothing is counted.
#[test]
fn what_is_away_is_counted() {
    let connections = 96;
    let (mut words, layout) = words(connections);
    let mut there: Vec<Option<u64>> = vec![None; connections];
    let mut most_away = 0;
    for hash in hashes(20_000) {
        // Every key's first bucket is one of the last two of the twelve.
        let hash = hash & !(7 << 61) | 7 << 61;
        let slot = (hash >> 7) as usize % connections;
        let mut index = layout.index(&mut words, BACK);
        match there[slot].take() {
            Some(old) => assert!(index.remove(old, slot as u32)),
            None if index.insert(hash, slot as u32) => there[slot] = Some(hash),
            None => {}
        }
        let mut away = vec![0_u32; index.0.len()];
        for (slot, hash) in there.iter().enumerate() {
            let Some(hash) = *hash else { continue };
            let (first, second) = index.both(hash);
            let holds = |bucket: u32| {
                let words = &index.0[bucket as usize];
                (0..ENTRIES).find(|p| tag_at(words, *p) == tag(hash) && super::slot(words, *p) == slot as u32)
            };
            let (near, far) = (holds(first), holds(second).filter(|_| first != second));
            assert!(near.is_some() != far.is_some());
            away[first as usize] += u32::from(near.is_none());
            assert!(near.is_none_or(|place| !is_away(&index.0[first as usize], place)));
            assert!(far.is_none_or(|place| is_away(&index.0[second as usize], place) == COUNTS_AWAY));
        }
        for (bucket, words) in index.0.iter().enumerate() {
            assert_eq!(words[AWAY] >> 16, if COUNTS_AWAY { away[bucket] } else { 0 });
        }
        most_away = most_away.max(away.iter().sum());
    }
    assert!(most_away > 20, "{most_away}");
}

#[test]
fn colliding_keys_fill_two_buckets_and_no_more() {
    let (mut words, layout) = words(1_000);
    let mut index = layout.index(&mut words, BACK);
    let hash = 0xdead_beef_0000_0000;
    let entered = (0..100).filter(|slot| index.insert(hash, *slot)).count();
    assert_eq!(entered, 2 * ENTRIES);
    let mut looked_at = 0;
    layout.find(&words, BACK, hash, |_| {
        looked_at += 1;
        false
    });
    assert!(looked_at <= 2 * ENTRIES);
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_first_bucket_takes_twelve_and_no_more() {
    let (mut words, layout) = words(1_000);
    let hash = 0xdead_beef_0000_0007;
    let entered = (0..100).filter(|slot| layout.insert_early(&mut words, BACK, hash, *slot)).count();
    assert_eq!(entered, ENTRIES);
    for slot in 0..ENTRIES as u32 {
        assert_eq!(layout.find(&words, BACK, hash, |s| s == slot), Some(slot));
        assert!(layout.index(&mut words, BACK).remove(hash, slot));
    }
    assert!(words.iter().all(|w| *w == 0));
}

#[test]
fn nothing_is_lost_when_there_is_no_room() {
    let (mut words, layout) = words(8);
    let mut index = layout.index(&mut words, BACK);
    for slot in 0..ENTRIES as u32 {
        assert!(index.insert(u64::from(slot) << 7 | 3, slot));
    }
    assert!(!index.insert(99, 3));
    for slot in 0..ENTRIES as u32 {
        assert!(index.remove(u64::from(slot) << 7 | 3, slot));
    }
}

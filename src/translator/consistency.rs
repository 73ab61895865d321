//! Checks that redundant state agrees: slots, both indexes, age lists, counts, filter.
//!
//! The tests cannot see any of this from outside, so they are run again from inside the crate, and after each step
//! every slot is checked against everything that refers to it.

#![allow(
    dead_code,
    missing_docs,
    unreachable_patterns,
    unreachable_pub,
    unused_imports,
    clippy::std_instead_of_core,
    reason = "the included files are written for use outside the crate, and only a part of them is used"
)]

// Included by path: it must use the types of the crate under test, and cargo offers no other way to do that.
#[path = "../../testing/src/targets/mod.rs"]
mod targets;

use byway_testing::{is_emulated, sample};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::connection::Direction;
use crate::table::connection::{
    ANY_PORT_REPLIES, CLIENT_COUNTED, Entry, IndexKey, NONE, OWES_CLIENT, OWES_SERVER, SERVER_COUNTED, SOURCE_KEPT,
};
use crate::table::index::tag;
use crate::table::rule::{Target, servers_of};
use crate::table::server::{Holder, Kind};
use crate::table::storage::Heap;
use crate::track::phase::{Class, Phase};
use crate::translator::Translator;
use crate::translator::state::HIDES_SERVERS;
use crate::translator::state::Table;
use crate::wire::ipv4::TCP;
use targets::{archive, operations, records};

/// Panics if any of this state is inconsistent.
fn check(byway: &mut Translator<Heap>) {
    let mut table = byway.table();
    let fresh = table.state.fresh;
    let all: Vec<(u32, Entry)> = (0..fresh).map(|slot| (slot, *table.slot(slot).expect("within the table"))).collect();
    let used: Vec<(u32, Entry)> = all.iter().filter(|(_, c)| c.phase != Phase::Free).copied().collect();
    let count = |flag| used.iter().filter(|(_, c)| c.has(flag)).count() as u32;
    assert_eq!(table.state.used, used.len() as u32);
    assert_eq!(table.state.kept & !HIDES_SERVERS, count(SOURCE_KEPT));
    assert_eq!(table.state.any_port_replies, count(ANY_PORT_REPLIES));
    let forgotten =
        |(_, c): &&(u32, Entry)| c.phase != Phase::Quarantined && table.state.redivert_log.has_forgotten(c.epoch);
    assert!(table.state.close_dead.is_some() || used.iter().find(forgotten).is_none(), "forgotten, but never swept");
    check_free(&table, &all);
    check_indexes(&mut table, &used);
    check_ages(&table, &used);
    check_counts(&mut table, &used);
    #[cfg(target_pointer_width = "64")]
    check_rules(&mut table, &used);
    for (_, c) in &used {
        let mut computed = *c;
        computed.set_deltas(table.state.config.checksums);
        assert_eq!((c.network.0, c.transport.0), (computed.network.0, computed.transport.0), "{c:?}");
        assert!(table.state.filter.may_hold(c.original), "{c:?}");
        assert!(!c.has(SOURCE_KEPT) || table.state.filter.may_be_near(c.client), "{c:?}");
        assert!(!c.has(OWES_CLIENT | OWES_SERVER) || c.protocol == TCP, "{c:?}");
    }
}

/// Every free slot that was used before is in the free list exactly once.
fn check_free(table: &Table<'_>, all: &[(u32, Entry)]) {
    let mut listed = BTreeSet::new();
    let mut free = table.state.free;
    while free != NONE {
        assert!(listed.insert(free), "the free list has a cycle");
        free = table.slot(free).expect("within the table").next;
    }
    let free: BTreeSet<u32> = all.iter().filter(|(_, c)| c.phase == Phase::Free).map(|(slot, _)| *slot).collect();
    assert_eq!(listed, free);
}

/// Each index has exactly the entries that the slots require, and a lookup finds each of them.
fn check_indexes(table: &mut Table<'_>, used: &[(u32, Entry)]) {
    for direction in Direction::both() {
        let mut expected = Vec::new();
        let mut keys = BTreeSet::new();
        for (slot, c) in used {
            let which: &[IndexKey] = match direction {
                Direction::ToServer if c.phase.is_listed() => &[IndexKey::Forward],
                Direction::ToServer => &[],
                Direction::ToClient if c.has(ANY_PORT_REPLIES) => &[IndexKey::Reply, IndexKey::AnyPortReply],
                Direction::ToClient => &[IndexKey::Reply],
            };
            for which in which {
                let (way, key) = c.entry(*which);
                assert_eq!(way, direction);
                let hash = table.state.keys.hash(&key);
                let found = table.state.layout.find(table.memory.index, direction, hash, |s| s == *slot);
                assert_eq!(found, Some(*slot), "a lookup does not find it: {which:?} of {c:?}");
                let unique = keys.insert((key.addresses, key.ports));
                assert!(unique || *which == IndexKey::AnyPortReply, "duplicate key: {which:?} of {c:?}");
                expected.push((tag(hash), *slot));
            }
        }
        let mut entries = table.state.layout.entries(table.memory.index, direction);
        entries.sort_unstable();
        expected.sort_unstable();
        assert_eq!(entries, expected, "{direction:?}");
    }
}

/// Each slot in use is in the age list of its class, and the links agree in both directions.
fn check_ages(table: &Table<'_>, used: &[(u32, Entry)]) {
    let mut in_lists = BTreeSet::new();
    for class in Class::all() {
        let (mut before, mut slot) = (NONE, table.state.ages.head(class));
        while slot != NONE {
            let c = table.slot(slot).expect("within the table");
            assert!(in_lists.insert(slot), "twice in the age lists: {c:?}");
            assert_eq!((c.phase.class(), c.previous), (class, before), "{c:?}");
            (before, slot) = (slot, c.next);
        }
        assert_eq!(table.state.ages.tail(class), before);
    }
    assert!(in_lists.into_iter().eq(used.iter().map(|(slot, _)| *slot)));
}

/// The count of each client and server equals the number of connections that are marked as counted with it.
fn check_counts(table: &mut Table<'_>, used: &[(u32, Entry)]) {
    let (mut by_client, mut by_server) = (BTreeMap::new(), BTreeMap::new());
    for (_, c) in used {
        assert!(!(c.phase.is_over() && c.has(CLIENT_COUNTED | SERVER_COUNTED)), "counted, but finished: {c:?}");
        if c.has(CLIENT_COUNTED) {
            *by_client.entry(c.client).or_insert(0) += 1;
        }
        if c.has(SERVER_COUNTED) && !table.state.redivert_log.has_forgotten(c.epoch) {
            *by_server.entry(c.member).or_insert(0) += 1;
        }
    }
    for (client, connections) in &by_client {
        let hash = table.state.keys.hash_client(*client);
        assert!(table.clients().count(hash) >= *connections, "{client:#x}");
    }
    let words = table.state.layout.clients(table.memory.index);
    let counted: u32 = words.iter().map(|word| word & 0xffff).sum();
    assert_eq!(counted, by_client.values().sum());

    let slots = table.memory.servers.to_vec();
    let rules = table.rules().to_vec();
    let mut of_rules = BTreeMap::new();
    for rule in &rules {
        let entries: Vec<u16> = servers_of(&slots, rule.servers).collect();
        assert!(!entries.is_empty(), "a rule without servers: {rule:?}");
        for entry in entries {
            *of_rules.entry(entry).or_insert(0) += 1;
        }
    }
    let mut used = 0;
    for (entry, slot) in slots.iter().enumerate() {
        let entry = entry as u16;
        assert_eq!(slot.connections, by_server.get(&entry).copied().unwrap_or(0), "{entry}: {slot:?}");
        let free = slot.kind == Kind::Free;
        used += usize::from(!free);
        let pointing = of_rules.get(&entry).copied().unwrap_or(0);
        assert_eq!(slot.rules(), pointing, "{entry}: {slot:?}");
        #[cfg(target_pointer_width = "64")]
        let drained = slot.holder == Holder::Drained;
        #[cfg(not(target_pointer_width = "64"))]
        let drained = false;
        let pointed_at = rules.iter().filter(|rule| rule.servers == entry).count() as u32;
        assert!(!drained || (pointed_at == slot.seed && pointed_at != 0), "{entry}: {slot:?}");
        let needed = drained || pointing != 0 || slot.holder == Holder::Redivert || slot.connections != 0;
        assert_eq!(free, !needed, "{entry}: {slot:?}");
        #[cfg(target_pointer_width = "64")]
        if slot.is_shared() {
            let known = table.servers().shared(slot.target()).expect("in the index");
            assert_eq!(slots[usize::from(known)].target(), slot.target());
        }
    }
    let mut servers = table.servers();
    assert_eq!(servers.free(), slots.len() - used);
    let mut taken = BTreeSet::new();
    while let Some(entry) = servers.take(Target::Same, Holder::Group, 0) {
        assert_eq!(slots[usize::from(entry)].kind, Kind::Free);
        assert!(taken.insert(entry), "listed as unused twice: {entry}");
    }
    assert_eq!(taken.len(), slots.len() - used);
    taken.iter().rev().for_each(|entry| servers.detach(*entry));
}

/// Each rule is found in the index, if there is one, and the filter contains its destination.
#[cfg(target_pointer_width = "64")]
fn check_rules(table: &mut Table<'_>, used: &[(u32, Entry)]) {
    let rules = table.rules().to_vec();
    for (place, rule) in rules.iter().enumerate() {
        assert_eq!(table.diverts().place(&rule.matches()), Ok(place), "{rule:?}");
        let addressed = rule.host().unwrap_or_else(|| rule.network());
        assert!(!table.is_unruled(addressed), "{rule:?}");
    }
    for (_, c) in used {
        assert!(!(table.state.renewal.covers_connections && table.is_unruled(c.original)), "{c:?}");
    }
    let slots = table.memory.servers.to_vec();
    if let Some(index) = table.rule_index() {
        for (place, rule) in rules.iter().enumerate() {
            assert_eq!(place < index.directory.apart(), table.stands_apart(rule), "{place}: {rule:?}");
            let mut hidden = rule.chain(&slots).filter(|_| rule.hides_servers());
            assert!(hidden.all(|server| index.may_hide(server.address)), "{rule:?}");
        }
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(format!("{target}.bin"));
    let archive = std::fs::read(path).expect("a corpus");
    archive::unpack(&archive).map(<[u8]>::to_vec).collect()
}

#[test]
fn what_the_fuzzers_found_leaves_nothing_behind() {
    let mut checked = 0;
    for input in sample(corpus("operations")) {
        operations::run_watched(&input, &mut |byway| {
            checked += 1;
            check(byway);
        });
    }
    for input in sample(corpus("records")) {
        records::run_watched(&input, &mut |byway| {
            checked += 1;
            check(byway);
        });
    }
    let least = if is_emulated() { 500 } else { 5_000 };
    assert!(checked > least, "{checked} steps are too few");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 200 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_sequence_of_operations_leaves_anything_behind(
        settings in any::<[u8; operations::STRETCH]>(),
        stretches in prop::collection::vec(any::<[u8; operations::STRETCH]>(), 1..100),
    ) {
        let mut input = settings.to_vec();
        input.extend(stretches.iter().flatten());
        operations::run_watched(&input, &mut check);
    }

    #[test]
    fn no_sequence_of_records_leaves_anything_behind(input in prop::collection::vec(any::<u8>(), 1..2_000)) {
        records::run_watched(&input, &mut check);
    }
}

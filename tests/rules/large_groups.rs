//! Groups of many servers: each server has its share, a client keeps to its server, and a change moves few clients.

use std::collections::HashMap;

use byway::{Borrowed, Divert, DivertError, Heap, Redivert, Storage, Translator, Weighted, slots};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

fn server(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x1700_0000 + number), 80)
}

fn group(numbers: impl IntoIterator<Item = u32>) -> Vec<Weighted> {
    numbers.into_iter().map(|n| Weighted::new(server(n), 1)).collect()
}

fn table(rules: usize) -> Translator<Heap> {
    Translator::new(config(), Heap::new(30_000, rules).servers(4_000)).unwrap()
}

/// Where each of so many clients goes.
fn spread<S: Storage>(t: &mut Translator<S>, clients: u32) -> Vec<SocketAddrV4> {
    let chosen = (0..clients).map(|n| ask(t, s(0), client(n), at(ORIGINAL)).1).collect();
    t.forget();
    (0..600).for_each(|_| t.poll(s(0)));
    chosen
}

fn moved(before: &[SocketAddrV4], after: &[SocketAddrV4]) -> usize {
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}

/// Of a thousand servers one goes or comes, or weighs more: not one client in a hundred is moved, whatever the server.
#[test]
fn a_change_moves_few_clients_and_each_keeps_its_server() {
    // A small machine looks at all thousand servers for each.
    const CLIENTS: u32 = if cfg!(target_pointer_width = "64") { 10_000 } else { 1_000 };
    for rules in [8, 2_000] {
        let mut t = table(rules);
        let whole = group(0..1_000);
        t.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).unwrap();
        let all = spread(&mut t, CLIENTS);
        assert_eq!(moved(&all, &spread(&mut t, CLIENTS)), 0);
        for gone in [0, 500, 999] {
            let fewer: Vec<_> = whole.iter().copied().filter(|w| w.target != server(gone).into()).collect();
            t.divert(Divert::new(at(ORIGINAL)).to_group(&fewer)).unwrap();
            let rest = spread(&mut t, CLIENTS);
            assert!(!rest.contains(&server(gone)));
            assert!(moved(&all, &rest) < CLIENTS as usize / 100, "{} of {CLIENTS}", moved(&all, &rest));
            t.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).unwrap();
            assert_eq!(moved(&all, &spread(&mut t, CLIENTS)), 0);
        }
        let mut heavier = whole.clone();
        heavier[77].weight = 3;
        t.divert(Divert::new(at(ORIGINAL)).to_group(&heavier)).unwrap();
        assert!(moved(&all, &spread(&mut t, CLIENTS)) < CLIENTS as usize * 3 / 200);
        // The order does not matter to clients, but where two servers cost the same: on small machines, which compare all.
        let most = if cfg!(target_pointer_width = "64") { 0 } else { CLIENTS as usize / 100 };
        let mut reversed = whole.clone();
        reversed.reverse();
        t.divert(Divert::new(at(ORIGINAL)).to_group(&reversed)).unwrap();
        assert!(moved(&all, &spread(&mut t, CLIENTS)) <= most);
    }
}

#[test]
fn each_server_has_the_share_of_its_weight() {
    let mut t = table(8);
    let weighted: Vec<_> = (0..100).map(|n| Weighted::new(server(n), (n % 5) as u16)).collect();
    t.divert(Divert::new(at(ORIGINAL)).to_group(&weighted)).unwrap();
    let mut counts = HashMap::new();
    for server in spread(&mut t, 30_000) {
        *counts.entry(server).or_insert(0_u32) += 1;
    }
    for (n, w) in (0..100).zip(&weighted) {
        let count = counts.get(&server(n)).copied().unwrap_or(0);
        let expected = 150 * u32::from(w.weight);
        assert!(count.abs_diff(expected) <= expected / 3, "server {n}: {count}, not {expected}");
    }
}

/// Without an index of groups the choice is the same, only slower.
#[test]
fn the_choice_does_not_depend_on_the_storage() {
    let whole = group(0..300);
    let mut heap = table(8);
    heap.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).unwrap();
    let mut connections = vec![slots::Connection::EMPTY; 2_000];
    let mut index = vec![0; 2_000 * byway::INDEX_WORDS];
    let (mut diverts, mut servers) = (vec![slots::Divert::EMPTY; 8], vec![slots::Server::EMPTY; 400]);
    let mut moves = vec![slots::Move::EMPTY; 8];
    let storage = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves);
    let mut borrowed = Translator::new(config(), storage).unwrap();
    borrowed.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).unwrap();
    assert_eq!(moved(&spread(&mut heap, 1_000), &spread(&mut borrowed, 1_000)), 0);
}

/// A re-divert moves a server's clients to another, and nobody else's; also where its connections stay until they end.
#[test]
fn a_redivert_moves_one_server_of_a_large_group() {
    for how in [Redivert::Switch, Redivert::Drain] {
        let mut t = table(8);
        let whole = group(0..200);
        t.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).unwrap();
        let before: Vec<_> = (0..5_000).map(|n| ask(&mut t, s(0), client(n), at(ORIGINAL)).1).collect();
        for n in [0, 1, 63, 64, 199] {
            let done = t.redivert(server(n), server(1_000 + n), how).unwrap();
            assert_eq!(done.servers, 1);
            assert_eq!(done.connections as usize, before.iter().filter(|s| **s == server(n)).count());
        }
        t.forget();
        (0..600).for_each(|_| t.poll(s(0)));
        let after = spread(&mut t, 5_000);
        for (before, after) in before.iter().zip(&after) {
            let number = before.ip().to_bits() - 0x1700_0000;
            let expected = if [0, 1, 63, 64, 199].contains(&number) { server(1_000 + number) } else { *before };
            assert_eq!(*after, expected);
        }
        // Named as they are now they keep their clients.
        let renamed = group((0..200).map(|n| if [0, 1, 63, 64, 199].contains(&n) { 1_000 + n } else { n }));
        t.divert(Divert::new(at(ORIGINAL)).to_group(&renamed)).unwrap();
        assert_eq!(moved(&after, &spread(&mut t, 5_000)), 0);
        assert_eq!(t.remove(at(ORIGINAL)).unwrap().left_behind, 0);
    }
}

#[test]
fn a_large_group_that_cannot_be_is_refused() {
    let mut t = Translator::new(config(), Heap::new(64, 8).servers(1_000)).unwrap();
    let mut twice = group(0..900);
    twice[899] = twice[3];
    let target = twice[3].target;
    assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(&twice)), Err(DivertError::DuplicateServer { target }));
    let full = Err(DivertError::ServersFull { capacity: 1_000 });
    assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(&group(0..1_001))), full);
    assert!(t.divert(Divert::new(at(ORIGINAL)).to_group(&group(0..1_000))).is_ok());
    // Half of them stay, half are new: there is room.
    assert!(t.divert(Divert::new(at(ORIGINAL)).to_group(&group(500..1_500))).unwrap().updated);
    assert_eq!(t.find_divert(at(ORIGINAL)).unwrap().servers().count(), 1_000);
    assert!(t.divert(Divert::new(at(ORIGINAL)).to(server(7))).is_ok());
    assert_eq!(t.find_divert(at(ORIGINAL)).unwrap().servers().count(), 1);
    assert!(t.divert(Divert::new(at(ORIGINAL)).to_group(&group(0..1_000))).is_ok());
    assert!(t.remove(at(ORIGINAL)).is_some());
    assert!(t.divert(Divert::new(at(ORIGINAL)).to_group(&group(2_000..3_000))).is_ok());
}

/// An instruction's work is bounded: a group that would take too much is refused from the beginning, whatever the room.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_group_can_have_4095_servers_and_no_more() {
    let mut t = Translator::new(config(), Heap::new(64, 8).servers(20_000)).unwrap();
    let error = DivertError::GroupTooLarge { capacity: 4_095 };
    assert_eq!(error.to_string(), "the group has more than 4095 servers");
    let too_large = Err(error);
    for many in [4_096, 5_000, 8_192, 12_000] {
        let group = group(0..many);
        assert_eq!(t.plan().divert(&Divert::new(at(ORIGINAL)).to_group(&group)).map(|d| d.updated), too_large);
        assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(&group)).map(|d| d.updated), too_large);
    }
    let mut whole = group(0..4_095);
    assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).map(|d| d.updated), Ok(false));
    // Another weight, another server, and all others: each is done in place.
    whole[17].weight = 2;
    assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).map(|d| d.updated), Ok(true));
    whole[17] = Weighted::new(server(9_000), 1);
    assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(&whole)).map(|d| d.updated), Ok(true));
    assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(&group(10_000..14_095))).map(|d| d.updated), Ok(true));
    assert_eq!(t.find_divert(at(ORIGINAL)).unwrap().servers().count(), 4_095);
    // One group beside another is no matter.
    assert!(t.divert(Divert::new(at("100.100.100.101:80")).to_group(&whole)).is_ok());
}

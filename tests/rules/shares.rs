//! The shares of a group's servers, after re-diverts that have left one of them the share of another.

use byway::{Divert, Heap, Redivert, Translator, Weighted};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

fn server(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x1700_0000 + number), 80)
}

fn group(numbers: impl IntoIterator<Item = u32>) -> Vec<Weighted> {
    numbers.into_iter().map(|n| Weighted::new(server(n), 1)).collect()
}

/// How many of so many new clients each of the first servers gets.
fn shares<const N: usize>(t: &mut Translator<Heap>, clients: u32) -> [usize; N] {
    let chosen: Vec<_> = (0..clients).map(|n| ask(t, s(1), client(n), at(ORIGINAL)).1).collect();
    core::array::from_fn(|n| chosen.iter().filter(|c| **c == server(n as u32)).count())
}

/// A server that takes another one's place has its clients. Once the other is back, each has its own.
#[test]
fn a_server_that_comes_back_and_the_one_that_stood_in_for_it_both_have_clients() {
    for rules in [8, 2_000] {
        for how in [Redivert::Switch, Redivert::Drain] {
            let mut t = Translator::new(config(), Heap::new(8_192, rules)).unwrap();
            t.divert(Divert::new(at(ORIGINAL)).to_group(&group([0, 2]))).unwrap();
            // A drained server keeps its entry for its connections.
            for n in 5_000..5_020 {
                ask(&mut t, s(0), client(n), at(ORIGINAL));
            }
            t.redivert(server(0), server(1), how).unwrap();
            t.divert(Divert::new(at(ORIGINAL)).to_group(&group([0, 1, 2]))).unwrap();
            let shares: [usize; 3] = shares(&mut t, 3_000);
            assert!(shares.iter().all(|share| share.abs_diff(1_000) < 150), "{rules} rules, {how}: {shares:?}");
        }
    }
}

/// The same along a chain of such servers, and where the group names only some of them.
#[test]
fn no_two_servers_have_the_same_share_after_several_re_diverts() {
    let mut t = Translator::new(config(), Heap::new(8_192, 8)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group([0, 1, 3]))).unwrap();
    t.redivert(server(1), server(2), Redivert::Switch).unwrap();
    t.redivert(server(0), server(1), Redivert::Switch).unwrap();
    let before: [usize; 4] = shares(&mut t, 3_000);
    t.forget();
    (0..600).for_each(|_| t.poll(s(1)));
    // Who has the share of a server that is not named keeps it.
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group([3, 1]))).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group([3, 1, 9]))).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group([0, 1, 2, 3]))).unwrap();
    let after: [usize; 4] = shares(&mut t, 3_000);
    assert_eq!(before[0], 0);
    assert!(after.iter().all(|share| share.abs_diff(750) < 120), "{after:?}");
}

/// The same in a group that chooses by clusters (64-bit machines).
#[test]
fn a_server_that_comes_back_to_a_large_group_has_clients_too() {
    let mut t = Translator::new(config(), Heap::new(30_000, 8).servers(1_000)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group((0..50).chain(100..150)))).unwrap();
    for n in 0..50 {
        t.redivert(server(n), server(50 + n), Redivert::Switch).unwrap();
        (0..10).for_each(|_| t.poll(s(0)));
    }
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group(0..150))).unwrap();
    let shares: [usize; 150] = shares(&mut t, 20_000);
    assert!(shares.iter().all(|share| (60..250).contains(share)), "{shares:?}");
}

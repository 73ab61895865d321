//! The divert table: insert, update in place, remove, list, look up; groups of servers.

mod support;

use std::collections::HashMap;

use byway::{
    Config, Divert, DivertError, DropReason, Fixed, Heap, Match, Prefix, Protocol, Redivert, RedivertError, Target,
    Translator, Verdict, Weighted,
};
use core::net::{Ipv4Addr, SocketAddrV4};
use support::talk::*;
use support::*;

/// A re-divert can leave a group with one server twice; an update of the rule makes one of them again.
#[test]
fn an_update_after_a_merge_leaves_no_entry_behind() {
    let mut t = Translator::new(config(), Heap::new(100, 4).servers(3)).unwrap();
    let group = [Weighted::new(at(SERVER), 1), Weighted::new(at(OTHER), 1)];
    for _ in 0..10 {
        t.divert(Divert::new(at(ORIGINAL)).to_group(&group)).unwrap();
        assert_eq!(t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap().servers, 1);
        for _ in 0..3 {
            t.poll(s(0));
        }
        let listed = t.find_divert(at(ORIGINAL)).unwrap().servers().count();
        assert_eq!(listed, 2);
        t.divert(Divert::new(at(ORIGINAL)).to(at(OTHER))).unwrap();
        assert_eq!(t.find_divert(at(ORIGINAL)).unwrap().servers().count(), 1);
    }
}

#[test]
fn a_group_of_one_server_without_weight_is_empty() {
    let mut t = translator(config());
    for group in
        [&[][..], &[Weighted::new(at(SERVER), 0)], &[Weighted::new(at(SERVER), 0), Weighted::new(at(OTHER), 0)]]
    {
        assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to_group(group)), Err(DivertError::EmptyGroup));
    }
    assert_eq!((t.generation(), t.diverts().count()), (0, 0));
}

/// A rule for a prefix, above all one for everything, does not speak of multicast, broadcast and this machine.
#[test]
fn a_prefix_does_not_speak_of_broadcast_nor_of_our_own_addresses() {
    let mut t = translator(config().own(ip("192.168.0.1")));
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    for destination in ["192.168.0.1:80", "255.255.255.255:67", "224.0.0.251:5353", "127.0.0.1:80", "0.0.0.0:9"] {
        assert_eq!(verdict(&mut t, s(0), &udp(at(CLIENT), at(destination), b"")), Verdict::Pass, "{destination}");
    }
    // A host that has no address yet asks for one.
    assert_eq!(verdict(&mut t, s(0), &udp(at("0.0.0.0:68"), at("255.255.255.255:67"), b"")), Verdict::Pass);
    assert_eq!(t.connections().count(), 0);
    // A rule for exactly such an address does.
    t.divert(Divert::new(ip("192.168.0.1")).to(at(SERVER))).unwrap();
    assert_eq!(ask(&mut t, s(0), at(CLIENT), at("192.168.0.1:80")).1, at(SERVER));
}

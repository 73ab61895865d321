//! Rules and servers at any number: 100 000 rules, servers that they share, and what does not fit.

mod support;

use byway::{
    Borrowed, Divert, DivertError, Heap, Redivert, RedivertError, Storage, Translator, Verdict, Weighted, slots,
};
use core::net::{Ipv4Addr, SocketAddrV4};
use support::talk::*;
use support::*;

/// The original destination of a rule by number.
fn original(rule: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x6440_0000 + rule), 80)
}

/// A server by number.
fn server(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x1700_0000 + number), 8_080)
}

fn with_rules<S: Storage>(storage: S, rules: u32, servers: u32) -> Translator<S> {
    let mut t = Translator::new(config(), storage).unwrap();
    for rule in 0..rules {
        t.divert(Divert::new(original(rule)).to(server(rule % servers))).unwrap();
    }
    t
}

/// With more entries than there are numbers for them the first instruction did not return.
#[test]
fn more_entries_for_servers_than_have_numbers_do_no_harm() {
    for servers in [65_533, 65_534, 65_535, 65_536, 65_537, 100_000] {
        let mut t = with_rules(Heap::new(64, 8).servers(servers), 4, 2);
        assert_eq!(ask(&mut t, s(0), client(1), original(3)).1, server(1));
        assert_eq!(t.redivert(server(1), server(7), Redivert::Switch).unwrap().servers, 2);
        assert_eq!(t.remove(original(0)).unwrap().left_behind, 0);
        assert_eq!(t.connections_on(server(7)), 1);
    }
    let mut connections = vec![slots::Connection::EMPTY; 64];
    let mut index = vec![0; 64 * byway::INDEX_WORDS];
    let (mut diverts, mut servers) = (vec![slots::Divert::EMPTY; 70_000], vec![slots::Server::EMPTY; 70_000]);
    let mut moves = vec![slots::Move::EMPTY; 8];
    let mut t = with_rules(Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves), 4, 2);
    assert_eq!(ask(&mut t, s(0), client(1), original(3)).1, server(1));
}

#[test]
fn a_hundred_thousand_rules_share_the_entries_of_their_servers() {
    let mut t = with_rules(Heap::new(1_000, 100_000).servers(1_000), 100_000, 1_000);
    assert_eq!(t.diverts().count(), 100_000);
    for (n, rule) in (0..100_000).step_by(997).enumerate() {
        assert_eq!(ask(&mut t, s(0), client(n as u32), original(rule)).1, server(rule % 1_000));
        assert_eq!(t.find_divert(original(rule)).unwrap().servers().count(), 1);
    }
    let full = DivertError::TableFull { capacity: 100_000 };
    assert_eq!(t.divert(Divert::new(original(100_000)).to(server(0))), Err(full));
    // Every entry is taken, so that there is no room for another server.
    let updated = t.divert(Divert::new(original(5)).to(server(1_000)));
    assert_eq!(updated, Err(DivertError::ServersFull { capacity: 1_000 }));
    assert!(t.divert(Divert::new(original(5)).to(server(6))).unwrap().updated);
    // A re-divert moves all rules of a server at once.
    assert_eq!(t.redivert(server(6), server(7_000), Redivert::Switch).unwrap().servers, 101);
    assert_eq!(ask(&mut t, s(1), client(5_000), original(5)).1, server(7_000));
    assert_eq!(ask(&mut t, s(1), client(5_001), original(99_006)).1, server(7_000));
    for rule in 0..100_000 {
        assert!(t.remove(original(rule)).is_some());
    }
    assert_eq!(t.diverts().count(), 0);
    assert_eq!(verdict(&mut t, s(2), &udp(client(9_999), original(7), b"")), Verdict::Pass);
}

#[test]
fn too_many_different_servers_are_an_error() {
    let mut t = with_rules(Heap::new(64, 100_000), 65_534, 100_000);
    let full = DivertError::ServersFull { capacity: 65_534 };
    assert_eq!(t.divert(Divert::new(original(65_534)).to(server(65_534))), Err(full));
    assert!(t.divert(Divert::new(original(65_534)).to(server(9))).is_ok());
    // An entry that its last rule leaves can be used again.
    assert!(t.remove(original(17)).is_some());
    assert!(t.divert(Divert::new(original(17)).to(server(70_000))).is_ok());
    assert_eq!(ask(&mut t, s(0), client(1), original(17)).1, server(70_000));
    // The server of two rules stays when one of them goes.
    assert!(t.remove(original(9)).is_some());
    assert_eq!(ask(&mut t, s(0), client(1), original(65_534)).1, server(9));
}

/// Where rules share a server's entry, its connections are counted there for all of them.
#[test]
fn connections_are_counted_once_where_rules_share_a_server() {
    let mut t = with_rules(Heap::new(1_000, 2_000).servers(8), 10, 2);
    for n in 0..30 {
        ask(&mut t, s(0), client(n), original(n % 10));
    }
    let listed = |t: &Translator<Heap>, rule| t.find_divert(original(rule)).unwrap().servers().next().unwrap();
    assert_eq!(listed(&t, 0), (Weighted::new(server(0), 1), 15));
    assert_eq!((t.connections_on(server(0)), t.connections_on(server(1))), (15, 15));
    // One rule goes; the others keep the entry, and if it comes back it finds it again.
    assert_eq!(t.remove(original(0)).unwrap().left_behind, 15);
    assert_eq!(listed(&t, 2), (Weighted::new(server(0), 1), 15));
    t.divert(Divert::new(original(0)).to(server(0))).unwrap();
    // All of them go, and the connections still stand there.
    (0..5).for_each(|n| assert!(t.remove(original(2 * n)).is_some()));
    assert_eq!(t.connections_on(server(0)), 15);
    t.divert(Divert::new(original(0)).to(server(0))).unwrap();
    assert_eq!(listed(&t, 0), (Weighted::new(server(0), 1), 15));
    // A group has entries of its own, and takes over that of a rule alone.
    let group = [Weighted::new(server(0), 2), Weighted::new(server(5), 1)];
    assert_eq!(t.divert(Divert::new(original(0)).to_group(&group)).unwrap().left_behind, 0);
    assert_eq!(listed(&t, 0), (Weighted::new(server(0), 2), 15));
    assert_eq!(t.divert(Divert::new(original(0)).to(server(0))).unwrap().left_behind, 0);
    assert_eq!(listed(&t, 0), (Weighted::new(server(0), 1), 15));
    // Drained: the rules lead elsewhere, the connections stay and are counted where they stand.
    assert_eq!(t.redivert(server(1), server(0), Redivert::Drain).unwrap().servers, 5);
    assert_eq!((t.connections_on(server(0)), t.connections_on(server(1))), (15, 15));
    assert_eq!(ask(&mut t, s(1), client(100), original(1)).1, server(0));
    assert_eq!(ask(&mut t, s(1), client(1), original(1)).1, server(1));
    assert_eq!((t.connections_on(server(0)), t.connections_on(server(1))), (16, 15));
    // Switched: they move, and so does their count.
    assert_eq!(t.redivert(server(1), server(0), Redivert::Switch).unwrap().connections, 15);
    assert_eq!(t.connections_on(server(0)), 31);
    t.poll(s(1_000));
    t.poll(s(2_000));
    assert_eq!(t.connections_on(server(0)), 0);
    assert_eq!(
        t.redivert(server(0), server(0), Redivert::Switch).unwrap_err(),
        RedivertError::SameServer { target: server(0).into() }
    );
}

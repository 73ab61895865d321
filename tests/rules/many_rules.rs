//! Rules and servers at any number: 100 000 rules, servers that they share, and what does not fit.

#![cfg_attr(not(target_pointer_width = "64"), allow(dead_code, unused_imports))]

use byway::{
    Borrowed, Divert, DivertError, Heap, Match, Prefix, Protocol, Redivert, RedivertError, Storage, Translator,
    Verdict, Weighted, slots,
};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

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

// Rules share entries for servers on machines of 64 bits.
#[cfg(target_pointer_width = "64")]
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

// Rules share entries for servers on machines of 64 bits.
#[cfg(target_pointer_width = "64")]
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
// Rules share entries for servers on machines of 64 bits.
#[cfg(target_pointer_width = "64")]
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

/// Rules follow a drain one after the other; meanwhile each leads where the last re-divert says.
// Rules share entries for servers on machines of 64 bits.
#[cfg(target_pointer_width = "64")]
#[test]
fn rules_lead_where_the_last_drain_says_whether_they_have_followed_or_not() {
    let mut t = with_rules(Heap::new(1_000, 2_000).servers(20), 1_500, 1);
    let group = [Weighted::new(server(0), 1), Weighted::new(server(50), 0)];
    t.divert(Divert::new(original(5_000)).to_group(&group)).unwrap();
    let drained = 1_501;
    for n in 0..6 {
        assert_eq!(ask(&mut t, s(0), client(n), original(n)).1, server(n));
        assert_eq!(ask(&mut t, s(0), client(100 + n), original(5_000)).1, server(n));
        assert_eq!(t.redivert(server(n), server(n + 1), Redivert::Drain).unwrap().servers, drained);
        (0..n).for_each(|_| t.poll(s(0)));
        assert_eq!(ask(&mut t, s(0), client(1_000 + n), original(1_499)).1, server(n + 1));
        assert_eq!(t.connections_on(server(n)), if n == 0 { 2 } else { 3 });
    }
    // Rules may go, come and change meanwhile.
    assert!(t.remove(original(1_400)).is_some());
    assert!(t.divert(Divert::new(original(1_300)).to(server(6))).unwrap().updated);
    assert!(t.divert(Divert::new(original(1_200)).to(server(9))).unwrap().updated);
    assert_eq!(t.redivert(server(6), server(7), Redivert::Switch).unwrap().servers, 1_499);
    assert_eq!(ask(&mut t, s(0), client(2_000), original(1_300)).1, server(7));
    assert_eq!(ask(&mut t, s(0), client(2_001), original(1_200)).1, server(9));
    for _ in 0..60 {
        t.poll(s(0));
    }
    for rule in (0..1_500).chain([5_000]).filter(|rule| ![1_200, 1_400].contains(rule)) {
        assert!(t.find_divert(original(rule)).unwrap().servers().any(|(s, _)| s.target == server(7).into()));
    }
    // Everything that was drained is given back when its connections have ended.
    (1..40).for_each(|n| t.poll(s(100 * n)));
    let twelve =
        (0..12).map(|n| t.divert(Divert::new(original(n)).to(server(100 + n))).is_ok()).filter(|ok| *ok).count();
    assert_eq!(twelve, 12);
}

/// Two servers that have become one are drained to the same one by another name: the entry that the first of them gets is
/// drained itself.
// Rules share entries for servers on machines of 64 bits.
#[cfg(target_pointer_width = "64")]
#[test]
fn two_entries_for_one_server_are_drained_together() {
    let mut t = with_rules(Heap::new(100, 2_000).servers(20), 2, 2);
    assert_eq!(t.redivert(server(1), server(0), Redivert::Switch).unwrap().servers, 1);
    (0..2).for_each(|n| assert_eq!(ask(&mut t, s(0), client(n), original(n)).1, server(0)));
    assert_eq!(t.redivert(server(0), *server(0).ip(), Redivert::Drain).unwrap().servers, 2);
    for round in 0..2 {
        for rule in 0..2 {
            let listed: Vec<_> = t.find_divert(original(rule)).unwrap().servers().map(|(s, _)| s).collect();
            assert_eq!(listed, [Weighted::new(server(0), 1)], "rule {rule}, round {round}");
            assert_eq!(ask(&mut t, s(0), client(10 + 2 * round + rule), original(rule)).1, server(0));
        }
        t.poll(s(0));
    }
    assert_eq!(t.connections_on(server(0)), 6);
}

/// A stupid model, a list of rules, agrees with a large table under any instructions.
// Rules share entries for servers on machines of 64 bits.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_large_table_does_what_a_list_of_rules_does() {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for _ in 0..6 {
        let mut t = Translator::new(config(), Heap::new(64, 4_000).servers(64)).unwrap();
        let mut model: Vec<(Match, u32)> = Vec::new();
        for step in 0..4_000_u32 {
            let length = [32, 32, 24, 16, 8, 0][dice.below(6) as usize];
            let near = Ipv4Addr::from_bits(0x6440_0000 | (dice.below(1 << 10) as u32 * 0x41));
            let mut matches = Match::from(Prefix::new(near, length).unwrap());
            if dice.below(2) == 0 {
                matches = Match::from((Prefix::new(near, length).unwrap(), 80 + dice.below(2) as u16));
            }
            if dice.below(3) == 0 {
                matches = matches.protocol([Protocol::Tcp, Protocol::Udp, Protocol::Icmp][dice.below(3) as usize]);
            }
            if dice.below(3) == 0 {
                let clients = Ipv4Addr::from_bits(0xc0a8_0000 | dice.below(1 << 10) as u32);
                matches = matches.clients(Prefix::new(clients, 20 + dice.below(13) as u8).unwrap());
            }
            let known = model.iter().position(|(m, _)| *m == matches);
            let to = dice.below(40) as u32;
            match dice.below(4) {
                0 if !model.is_empty() => {
                    let (gone, _) = model.swap_remove(dice.below(model.len() as u64) as usize);
                    assert!(t.remove(gone).is_some());
                    assert!(t.find_divert(gone).is_none());
                }
                1 if step % 50 == 0 => {
                    let from = dice.below(40) as u32;
                    if from != to {
                        let servers = model.iter_mut().filter(|(_, server)| *server == from);
                        let count = servers.map(|(_, server)| *server = to).count();
                        let how = [Redivert::Switch, Redivert::Drain][dice.below(2) as usize];
                        assert_eq!(t.redivert(server(from), server(to), how).unwrap().servers, count);
                    }
                }
                _ => {
                    let done = t.divert(Divert::new(matches).to(server(to))).unwrap();
                    assert_eq!(done.updated, known.is_some());
                    match known {
                        Some(known) => model[known].1 = to,
                        None => model.push((matches, to)),
                    }
                }
            }
            t.poll(s(0));
            let packet = udp(client(dice.below(1 << 10) as u32), SocketAddrV4::new(near, 80), b"");
            let (from, destination) = ends(&packet);
            let admits = |m: &Match| {
                m.destination().contains(*destination.ip())
                    && m.port().is_none_or(|port| port == destination.port())
                    && m.limited_to().is_none_or(|p| p == Protocol::Udp)
                    && m.from_clients().contains(*from.ip())
            };
            let rank = |m: &Match| {
                let lengths = (m.destination().length(), m.port().is_some());
                (lengths, m.limited_to().is_some(), m.from_clients().length())
            };
            let expected = model.iter().filter(|(m, _)| admits(m)).max_by_key(|(m, _)| rank(m));
            let (verdict, sent) = run(&mut t, s(0), &packet);
            match expected {
                Some((matches, to)) => assert_eq!(ends(&sent).1, server(*to), "{matches}"),
                None => assert_eq!(verdict, Verdict::Pass),
            }
            t.forget();
        }
        assert_eq!(t.diverts().count(), model.len());
        for (matches, to) in &model {
            let listed: Vec<_> = t.find_divert(*matches).unwrap().servers().map(|(s, _)| s.target).collect();
            assert_eq!(listed, [server(*to).into()]);
        }
    }
}

//! The divert table: insert, update in place, remove, list, look up; groups of servers.

use std::collections::HashMap;

use byway::{
    Config, Divert, DivertError, DropReason, Fixed, Heap, Match, Prefix, Protocol, Redivert, RedivertError, Target,
    Translator, Verdict, Weighted,
};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

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
        assert_eq!(
            t.divert(Divert::new(at(ORIGINAL)).to_group(group)),
            Err(DivertError::EmptyGroup { servers: group.len() })
        );
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

fn prefix(text: &str, length: u8) -> Prefix {
    Prefix::new(ip(text), length).unwrap()
}

#[test]
fn the_most_specific_rule_decides_whatever_the_order_of_instructions() {
    let host = "192.0.2.9";
    let clients = |length| prefix("192.168.7.7", length);
    let web = || Match::from(at("192.0.2.9:80"));
    let rules: Vec<(Match, &str)> = vec![
        (Match::from(Prefix::ALL), "9.0.0.1"),
        (Match::from(prefix(host, 8)), "9.0.0.2"),
        (Match::from(prefix(host, 24)), "9.0.0.3"),
        (Match::from((prefix(host, 24), 53)), "9.0.0.4"),
        (Match::from(ip(host)), "9.0.0.5"),
        (Match::from(ip(host)).protocol(Protocol::Tcp), "9.0.0.6"),
        (web(), "9.0.0.7"),
        (web().protocol(Protocol::Udp), "9.0.0.8"),
        (web().clients(clients(16)), "9.0.0.9"),
        (web().clients(clients(24)), "9.0.0.10"),
        (web().protocol(Protocol::Udp).clients(clients(24)), "9.0.0.11"),
        (Match::from(Prefix::ALL).clients(clients(32)), "9.0.0.12"),
    ];
    let near = at("192.168.7.7:5");
    let same_16 = at("192.168.8.1:5");
    let far = at("172.16.0.1:5");
    for turn in 0..rules.len() {
        let mut t = translator(config());
        for i in 0..rules.len() {
            // 5 and 12 have no common divisor: each turn is another order.
            let (matches, target) = rules[(turn + i * 5) % rules.len()];
            t.divert(Divert::new(matches).to(ip(target))).unwrap();
        }
        for (client, destination, udp_goes, tcp_goes) in [
            (far, "8.8.8.8:80", "9.0.0.1", "9.0.0.1"),
            (near, "8.8.8.8:80", "9.0.0.12", "9.0.0.12"),
            (far, "192.1.1.1:80", "9.0.0.2", "9.0.0.2"),
            (near, "192.1.1.1:80", "9.0.0.2", "9.0.0.2"),
            (far, "192.0.2.1:80", "9.0.0.3", "9.0.0.3"),
            (far, "192.0.2.1:53", "9.0.0.4", "9.0.0.4"),
            (far, "192.0.2.9:53", "9.0.0.5", "9.0.0.6"),
            (far, "192.0.2.9:80", "9.0.0.8", "9.0.0.7"),
            (same_16, "192.0.2.9:80", "9.0.0.8", "9.0.0.9"),
            (near, "192.0.2.9:80", "9.0.0.11", "9.0.0.10"),
            (near, "192.0.2.9:81", "9.0.0.5", "9.0.0.6"),
        ] {
            let destination = at(destination);
            let expected = |address: &str| SocketAddrV4::new(ip(address), destination.port());
            assert_eq!(ask(&mut t, s(0), client, destination).1, expected(udp_goes), "udp {client} {destination}");
            let seen = there(&mut t, s(0), &tcp(client, destination, (SYN, 1, 0), b""));
            assert_eq!(ends(&seen).1, expected(tcp_goes), "tcp {client} {destination}");
        }
        // ICMP echo has no port, and is matched by rules that have none.
        let ping = there(&mut t, s(0), &echo(8, *far.ip(), ip(host), 7, b""));
        assert_eq!(address(&ping, 16), ip("9.0.0.5"));
        // They are listed the most specific first, and looked up by what they match.
        let listed: Vec<Match> = t.diverts().map(|entry| entry.matches()).collect();
        assert_eq!(listed.len(), rules.len());
        assert_eq!((listed[0], listed[11]), (rules[10].0, rules[0].0));
        for (matches, target) in &rules {
            let (server, _) = t.find_divert(*matches).unwrap().servers().next().unwrap();
            assert_eq!(server, Weighted::new(ip(target), 1));
        }
    }
}

#[test]
fn targets_keep_the_port_or_replace_it_or_are_the_original_itself() {
    let mut t = translator(config());
    t.divert(Divert::new(prefix("100.0.0.0", 8)).to(ip("9.9.9.9"))).unwrap();
    t.divert(Divert::new(prefix("101.0.0.0", 8)).to(at("9.9.9.9:99"))).unwrap();
    t.divert(Divert::new(prefix("102.0.0.0", 8))).unwrap();
    t.divert(Divert::new(prefix("103.0.0.0", 8)).to(ip("9.9.9.9")).keep_source()).unwrap();
    for (original, server, kept) in [
        ("100.1.1.1:7", "9.9.9.9:7", false),
        ("101.1.1.1:7", "9.9.9.9:99", false),
        ("102.1.1.1:7", "102.1.1.1:7", false),
        ("103.1.1.1:7", "9.9.9.9:7", true),
    ] {
        let (source, to) = ask_and_answer(&mut t, s(0), at(CLIENT), at(original));
        assert_eq!((to, source == at(CLIENT)), (at(server), kept), "{original}");
        assert_eq!(*source.ip() == ip(ALTERNATIVE), !kept);
    }
    let entry = t.find_divert(prefix("103.0.0.0", 8)).unwrap();
    assert!(entry.keeps_source() && !entry.takes_replies_from_any_port());
}

#[test]
fn a_second_instruction_updates_in_place() {
    let mut t = translator(config());
    let done = t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    assert_eq!((done.generation, done.updated, done.left_behind), (1, false, 0));
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let done = t.divert(Divert::new(at(ORIGINAL)).to(at(OTHER))).unwrap();
    assert_eq!((done.generation, done.updated, done.left_behind), (2, true, 1));
    assert_eq!(t.diverts().count(), 1);
    // What began stays; what begins goes to the new one.
    assert_eq!(ask_and_answer(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at(SERVER));
    assert_eq!(ask_and_answer(&mut t, s(1), client(1), at(ORIGINAL)).1, at(OTHER));
    assert_eq!((t.connections_on(at(SERVER)), t.connections_on(at(OTHER))), (1, 1));
    // The same once more changes nothing but the generation.
    let done = t.divert(Divert::new(at(ORIGINAL)).to(at(OTHER))).unwrap();
    assert_eq!((done.generation, done.updated, done.left_behind), (3, true, 0));
    assert_eq!(t.find_divert(at(ORIGINAL)).unwrap().servers().next(), Some((Weighted::new(at(OTHER), 1), 1)));
    assert_eq!(t.generation(), 3);
}

#[test]
fn a_removed_rule_leaves_its_connections_and_opens_no_more() {
    let mut t = diverting(config());
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let removed = t.remove(at(ORIGINAL)).unwrap();
    assert_eq!((removed.generation, removed.left_behind), (2, 1));
    assert_eq!(t.remove(at(ORIGINAL)), None);
    assert_eq!(t.generation(), 2);
    assert!(t.find_divert(at(ORIGINAL)).is_none());
    assert_eq!(ask_and_answer(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at(SERVER));
    assert_eq!(verdict(&mut t, s(1), &udp(client(1), at(ORIGINAL), b"")), Verdict::Pass);
    assert_eq!(t.connections_on(at(SERVER)), 1);
}

#[test]
fn every_wrong_instruction_is_refused_and_changes_nothing() {
    let mut t = translator(config().own(ip("192.168.0.1")));
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let own = Target::Endpoint(at("10.10.10.10:80"));
    let lan = Target::Address(ip("192.168.0.1"));
    let itself = Target::Endpoint(at(ORIGINAL));
    let address = Target::Address(ip("100.100.100.100"));
    let zero = Target::Endpoint(at("9.9.9.9:0"));
    let host = |text: &str| Prefix::host(ip(text));
    let martian = |text: &str| Target::Address(ip(text));
    let twice = [Weighted::new(at(SERVER), 1), Weighted::new(at(OTHER), 1), Weighted::new(at(SERVER), 2)];
    let d = || Divert::new(at(ORIGINAL));
    for (divert, error) in [
        (d().to(own), DivertError::OwnTarget { target: own }),
        (d().to(lan), DivertError::OwnTarget { target: lan }),
        (d().to(itself), DivertError::ToItself { target: itself }),
        (d().to(address), DivertError::ToItself { target: address }),
        (d().to(martian("127.0.0.1")), DivertError::MartianTarget { target: martian("127.0.0.1") }),
        (d().to(martian("0.0.0.0")), DivertError::MartianTarget { target: martian("0.0.0.0") }),
        (d().to(martian("224.1.1.1")), DivertError::MartianTarget { target: martian("224.1.1.1") }),
        (d().to(martian("255.255.255.255")), DivertError::MartianTarget { target: martian("255.255.255.255") }),
        (d().to(at("9.9.9.9:0")), DivertError::TargetPortZero { target: at("9.9.9.9:0").into() }),
        (Divert::new(at("9.9.9.9:0")).to(at(SERVER)), DivertError::MatchesPortZero { destination: host("9.9.9.9") }),
        (d().to_group(&twice), DivertError::DuplicateServer { target: at(SERVER).into() }),
    ] {
        assert_eq!(t.divert(divert), Err(error));
        assert_eq!((t.generation(), t.diverts().count()), (1, 1));
        assert_eq!(t.find_divert(at(ORIGINAL)).unwrap().servers().next(), Some((Weighted::new(at(SERVER), 1), 0)));
    }
    let mut bare = translator(Config::new([1; 32]));
    assert_eq!(
        bare.divert(d().to(at(SERVER))),
        Err(DivertError::NoAlternative { destination: host("100.100.100.100") })
    );
    bare.divert(d().to(at(SERVER)).keep_source()).unwrap();

    for (from, to, error) in [
        (Target::Same, Target::from(at(OTHER)), RedivertError::NoServer { name: "from" }),
        (at(SERVER).into(), Target::Same, RedivertError::NoServer { name: "to" }),
        (at(SERVER).into(), at(SERVER).into(), RedivertError::SameServer { target: at(SERVER).into() }),
        (at(SERVER).into(), zero, RedivertError::TargetPortZero { target: zero }),
        (at(SERVER).into(), martian("127.0.0.1"), RedivertError::MartianTarget { target: martian("127.0.0.1") }),
        (at(SERVER).into(), own, RedivertError::OwnTarget { target: own }),
    ] {
        for how in [Redivert::Switch, Redivert::Drain, Redivert::Reset] {
            assert_eq!(t.redivert(from, to, how), Err(error));
            assert_eq!(t.generation(), 1);
        }
    }
}

#[test]
fn full_tables_of_rules_and_servers_say_so_and_stay_as_they_were() {
    let mut t = Translator::new(config(), Fixed::<16, 2>::new()).unwrap();
    t.divert(Divert::new(ip("1.1.1.1")).to(at(SERVER))).unwrap();
    let group = [Weighted::new(at(SERVER), 1), Weighted::new(at(OTHER), 1)];
    let error = DivertError::ServersFull { capacity: 2 };
    assert_eq!(t.divert(Divert::new(ip("2.2.2.2")).to_group(&group)), Err(error));
    t.divert(Divert::new(ip("2.2.2.2")).to(at(SERVER))).unwrap();
    assert_eq!(t.divert(Divert::new(ip("3.3.3.3")).to(at(SERVER))), Err(DivertError::TableFull { capacity: 2 }));
    // An update that swaps its one server for another needs no more room.
    t.divert(Divert::new(ip("2.2.2.2")).to(at(OTHER))).unwrap();
    // But a server that connections stand on keeps its entry until they end.
    ask(&mut t, s(0), at(CLIENT), at("2.2.2.2:80"));
    assert_eq!(t.divert(Divert::new(ip("2.2.2.2")).to(at(SERVER))), Err(error));
    assert_eq!(t.redivert(at(OTHER), at(SERVER), Redivert::Drain), Err(RedivertError::ServersFull { capacity: 2 }));
    assert_eq!(t.generation(), 3);
    t.poll(s(400));
    t.divert(Divert::new(ip("2.2.2.2")).to(at(SERVER))).unwrap();
}

/// Where each of `count` clients goes, asked on a table of its own.
fn spread(group: &[Weighted], count: u32) -> Vec<Ipv4Addr> {
    let mut t = Translator::new(config(), Heap::new(count as usize + 8, 16)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to_group(group)).unwrap();
    (0..count).map(|n| *ask(&mut t, s(0), client(n), at(ORIGINAL)).1.ip()).collect()
}

fn shares(spread: &[Ipv4Addr]) -> HashMap<Ipv4Addr, usize> {
    let mut shares = HashMap::new();
    for server in spread {
        *shares.entry(*server).or_default() += 1;
    }
    shares
}

#[test]
fn a_group_shares_clients_by_weight() {
    const COUNT: usize = 6_000;
    let of = |address, weight| Weighted::new(ip(address), weight);
    for weights in [[1, 1, 1], [1, 2, 3], [0, 1, 9], [100, 400, 500]] {
        let [a, b, c] = weights;
        let group = [of("9.0.0.1", a), of("9.0.0.2", b), of("9.0.0.3", c)];
        let shares = shares(&spread(&group, COUNT as u32));
        let all = usize::from(a + b + c);
        for Weighted { target, weight } in group {
            let Target::Address(address) = target else { unreachable!() };
            let (got, due) = (shares.get(&address).copied().unwrap_or(0), COUNT * usize::from(weight) / all);
            assert!(got.abs_diff(due) <= COUNT / 33, "{weights:?}: {address} has {got} of {due}");
        }
    }
}

#[test]
fn a_client_sticks_to_its_server_and_a_change_moves_as_few_as_possible() {
    const COUNT: u32 = 3_000;
    let of = |n: u8, weight| Weighted::new(Ipv4Addr::new(9, 0, 0, n), weight);
    let three = [of(1, 1), of(2, 2), of(3, 1)];
    let before = spread(&three, COUNT);
    assert_eq!(before, spread(&three, COUNT), "the choice is the client's, not the table's");
    assert_eq!(before, spread(&[three[2], three[0], three[1]], COUNT), "the order does not matter");

    let gone = spread(&[of(1, 1), of(3, 1)], COUNT);
    let came = spread(&[of(1, 1), of(2, 2), of(3, 1), of(4, 1)], COUNT);
    let heavier = spread(&[of(1, 1), of(2, 2), of(3, 5)], COUNT);
    for n in 0..COUNT as usize {
        let was = before[n].octets()[3];
        assert!(was == 2 || gone[n] == before[n], "server 2 has gone: only its clients move");
        assert!(came[n] == before[n] || came[n].octets()[3] == 4, "server 4 has come: clients move to it alone");
        assert!(heavier[n] == before[n] || heavier[n].octets()[3] == 3, "server 3 weighs more: clients move to it");
    }
    let moved = came.iter().zip(&before).filter(|(a, b)| a != b).count();
    assert!(moved.abs_diff(COUNT as usize / 5) < COUNT as usize / 25, "{moved} moved; a fifth is due");
}

#[test]
fn a_redivert_moves_the_clients_of_its_server_and_no_other() {
    const COUNT: u32 = 1_000;
    let of = |n: u8| Weighted::new(Ipv4Addr::new(9, 0, 0, n), 1);
    for how in [Redivert::Switch, Redivert::Drain] {
        let mut t = Translator::new(config(), Heap::new(2 * COUNT as usize + 8, 16)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to_group(&[of(1), of(2), of(3)])).unwrap();
        let goes = |t: &mut Translator<Heap>, from: SocketAddrV4| ask(t, s(0), from, at(ORIGINAL)).1.ip().octets()[3];
        let before: Vec<u8> = (0..COUNT).map(|n| goes(&mut t, client(n))).collect();
        let on_two = before.iter().filter(|s| **s == 2).count();
        let done = t.redivert(ip("9.0.0.2"), ip("9.0.0.7"), how).unwrap();
        assert_eq!((done.servers, done.connections), (1, on_two as u32));
        for n in 0..COUNT {
            let (was, port) = (before[n as usize], client(n).port() + 1);
            let due = if was == 2 { 7 } else { was };
            assert_eq!(goes(&mut t, SocketAddrV4::new(*client(n).ip(), port)), due, "a new connection, {how:?}");
            let same = if how == Redivert::Drain { was } else { due };
            assert_eq!(goes(&mut t, client(n)), same, "a connection that was there, {how:?}");
        }
        let on = [2, 7].map(|n| t.connections_on(Ipv4Addr::new(9, 0, 0, n)) as usize);
        let due = if how == Redivert::Drain { [on_two, on_two] } else { [0, 2 * on_two] };
        assert_eq!(on, due);
    }
}

/// Both servers of a group may be the same after a re-divert; one of them can be drained, and all still count.
#[test]
fn drain_and_switch_one_after_the_other_lose_no_count() {
    let mut t = translator(config());
    let group = [Weighted::new(at(SERVER), 1), Weighted::new(at(OTHER), 1)];
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group)).unwrap();
    for n in 0..100 {
        ask(&mut t, s(0), client(n), at(ORIGINAL));
    }
    let third = at("123.45.67.91:80");
    let on = |t: &Translator<Heap>| [at(SERVER), at(OTHER), third].map(|server| t.connections_on(server));
    let [a, b, _] = on(&t);
    assert_eq!(a + b, 100);
    t.redivert(at(SERVER), at(OTHER), Redivert::Drain).unwrap();
    assert_eq!(on(&t), [a, b, 0]);
    t.redivert(at(OTHER), third, Redivert::Drain).unwrap();
    assert_eq!(on(&t), [a, b, 0]);
    for n in 100..150 {
        ask(&mut t, s(0), client(n), at(ORIGINAL));
    }
    assert_eq!(on(&t), [a, b, 50]);
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    t.redivert(at(OTHER), third, Redivert::Switch).unwrap();
    assert_eq!(on(&t), [0, 0, 150]);
    for n in 0..150 {
        assert_eq!(ask(&mut t, s(1), client(n), at(ORIGINAL)).1, third);
    }
    assert_eq!((on(&t), t.counters().moved), ([0, 0, 150], 100));
    t.poll(s(1));
    for n in 0..20 {
        t.poll(s(400 + n));
    }
    assert_eq!(on(&t), [0, 0, 0]);
    assert_eq!(t.counters().expired, 150);
    assert_eq!(t.counters().dropped(DropReason::OldServer), 0);
}

/// A rule that was read gets another server: the weight that it was read with was that of the server before.
#[test]
fn a_single_server_has_the_weight_one() {
    let mut room = [Weighted::new(Target::Same, 0); 4];
    let read = Divert::parse("100.100.100.100:80 to 20.0.0.1*0", &mut room).unwrap();
    assert_eq!(read.to(at(SERVER)), Divert::new(at(ORIGINAL)).to(at(SERVER)));
    assert!(translator(config()).divert(read.to(at(SERVER))).is_ok());
}

/// RFC 6888, REQ-6: destinations that a wider rule speaks of and that are not to be translated.
#[test]
fn a_rule_that_keeps_both_is_an_exception() {
    let mut t = translator(config());
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    t.divert(Divert::new(ip("100.100.100.0")).keep_source()).unwrap();
    assert_eq!(run(&mut t, s(0), &udp(at("1.2.3.4:5"), at("100.100.100.0:53"), b"")).0, Verdict::Pass);
    assert_eq!(run(&mut t, s(0), &udp(at("1.2.3.4:5"), at("100.100.100.1:53"), b"")).0, Verdict::ToServer);
    assert_eq!((t.connections().count(), t.counters().passed), (1, 1));
}

/// A reload compares rules to see what has changed.
#[test]
fn rules_that_ask_for_something_else_are_different() {
    const OPTIONS: [&str; 8] = [
        "keep-source",
        "any-port",
        "resumable",
        "least-loaded",
        "eject",
        "midstream pass",
        "midstream adopt",
        "midstream drop",
    ];
    let parse = |options: &str| {
        let mut room = [Weighted::new(Target::Same, 0); 1];
        let text = format!("100.100.100.100:80 to 20.0.0.1 {options}");
        let rule = Divert::parse(text.trim_end(), &mut room).unwrap();
        assert_eq!(rule.to_string(), text.trim_end());
        Divert::new(rule.matches()).to(ip("20.0.0.1")).with_options(rule.options())
    };
    let mut all = OPTIONS.map(&parse).to_vec();
    all.push(parse(""));
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(one == other, i == j, "{one} and {other}");
        }
    }
}

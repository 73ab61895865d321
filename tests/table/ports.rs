//! Which alternative ports connections get: RFC 6056, RFC 4787 REQ-3, RFC 6888 REQ-8.

use byway::{Config, Divert, DropReason, Heap, PortChoice, Prefix, Protocol, Redivert, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

/// A port is held for the sake of strangers. The client that had it may have it again at once.
#[test]
fn a_client_that_comes_back_is_not_shut_out_by_its_own_held_port() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).keep_source()).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    assert_eq!(ask(&mut t, s(400), at(CLIENT), at(ORIGINAL)).0, at(CLIENT), "the source is kept");
    assert_eq!(t.counters().expired, 1);
    assert_eq!((t.slots_in_use(), t.connections().count()), (1, 1));

    let one_port = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_000);
    let mut t = diverting(one_port);
    let first = ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    assert_eq!(ask_and_answer(&mut t, s(400), at(CLIENT), at(ORIGINAL)), first);
    assert_eq!((t.slots_in_use(), t.connections().count()), (1, 1));
    // Somebody else has to wait for it: 120 s from its end at 700 s.
    let stranger = udp(client(9), at(ORIGINAL), b"");
    assert_eq!(verdict(&mut t, s(702), &stranger), Verdict::Drop(DropReason::NoPort));
    assert_eq!(verdict(&mut t, s(819), &stranger), Verdict::Drop(DropReason::NoPort));
    assert_eq!(verdict(&mut t, s(822), &stranger), Verdict::ToServer);
}

/// An endpoint is held for 120 s from the end of its connection (RFC 6888, REQ-8), however late the end is noticed, and
/// whatever notices it.
#[test]
fn an_endpoint_is_held_from_the_end_of_its_connection_not_from_when_that_is_noticed() {
    let stranger = udp(client(9), at(ORIGINAL), b"");
    let no_port = Verdict::Drop(DropReason::NoPort);
    let poll = |t: &mut Translator<Heap>| t.poll(s(410));
    let late_answer = |t: &mut Translator<Heap>| {
        let late = udp(at(SERVER), SocketAddrV4::new(ip(ALTERNATIVE), 2_000), b"late");
        assert_eq!(verdict(t, s(410), &late), Verdict::Drop(DropReason::NoConnection));
    };
    let newcomer = |t: &mut Translator<Heap>| assert_eq!(verdict(t, s(410), &stranger), no_port);
    let nobody = |_: &mut Translator<Heap>| {};
    let notices: [&dyn Fn(&mut _); 4] = [&nobody, &poll, &late_answer, &newcomer];
    for (number, notice) in notices.iter().enumerate() {
        for storage in [Heap::new(8, 4), Heap::new(8, 4).measured()] {
            let one_port = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_000);
            let mut t = Translator::new(one_port, storage).unwrap();
            t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
            // It ends after 300 s.
            ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
            notice(&mut t);
            assert_eq!(verdict(&mut t, s(419), &stranger), no_port, "{number}");
            assert_eq!(verdict(&mut t, s(422), &stranger), Verdict::ToServer, "{number}");
            assert_eq!((t.counters().expired, t.slots_in_use()), (1, 1), "{number}");
        }
    }
}

/// A client's own endpoint is held too where its source is kept: an answer that is still on its way would come from the wrong
/// original destination. That does not hang on who has swept the table meanwhile.
#[test]
fn a_kept_endpoint_is_held_whether_its_end_was_swept_or_not() {
    for polls in [false, true] {
        let mut t = translator(config());
        t.divert(Divert::new(Prefix::new(ip("100.100.100.0"), 24).unwrap()).to(ip("123.45.67.89")).keep_source())
            .unwrap();
        let ping = |original: &str| echo(8, ip("1.2.3.4"), ip(original), 77, b"");
        assert_eq!(verdict(&mut t, s(0), &ping("100.100.100.1")), Verdict::ToServer);
        if polls {
            t.poll(s(61));
        }
        assert_eq!(verdict(&mut t, s(61), &ping("100.100.100.2")), Verdict::Drop(DropReason::NoPort));
        assert_eq!(t.counters().expired, 1);
        assert_eq!(verdict(&mut t, s(180), &ping("100.100.100.2")), Verdict::Drop(DropReason::NoPort));
        assert_eq!(verdict(&mut t, s(182), &ping("100.100.100.2")), Verdict::ToServer);
    }
}

/// A server's fresh port that the client talks to already, by its own choice, is no second connection with the same
/// addresses on the client's side.
#[test]
fn a_sibling_never_doubles_a_connection_of_the_client() {
    let mut t = translator(config());
    let network = Prefix::host(ip("100.100.100.100"));
    t.divert(Divert::new(network).to(ip("123.45.67.89")).replies_from_any_port()).unwrap();
    let (first, _) = ask(&mut t, s(0), at(CLIENT), at("100.100.100.100:69"));
    let (second, _) = ask(&mut t, s(0), at(CLIENT), at("100.100.100.100:2000"));
    assert_ne!(first, second);
    let stray = udp(at("123.45.67.89:2000"), first, b"");
    assert_eq!(verdict(&mut t, s(0), &stray), Verdict::Drop(DropReason::NoConnection));
    assert_eq!(t.connections().count(), 2);
    // Once that connection is dead, the server's port is free to be a sibling.
    let mut now = 0;
    while now < 290 {
        now += 100;
        ask(&mut t, s(now), at(CLIENT), at("100.100.100.100:69"));
    }
    let seen = back(&mut t, s(310), &stray);
    assert_eq!(ends(&seen), (at("100.100.100.100:2000"), at(CLIENT)));
    assert_eq!(state(&t, Protocol::Udp, at(CLIENT), at("100.100.100.100:2000")), Some(State::Unanswered));
    assert_eq!(t.connections().count(), 2);
}

/// The alternative ports of many connections, one after the other, to one server.
fn drawn(secret: u8, count: u32) -> Vec<u16> {
    let config = Config::new([secret; 32]).alternative(ip(ALTERNATIVE), 1024..=65535);
    let mut t = Translator::new(config, Heap::new(count as usize + 8, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    (0..count).map(|n| ask(&mut t, s(0), client(n), at(ORIGINAL)).0.port()).collect()
}

#[test]
fn ports_cannot_be_foretold() {
    const COUNT: u32 = 20_000;
    let ports = drawn(1, COUNT);
    assert!(ports.iter().all(|p| *p >= 1024));
    // Differences between neighbours: with chance alone none comes often, least of all a small one.
    let mut steps = std::collections::HashMap::<u16, u32>::new();
    for pair in ports.windows(2) {
        *steps.entry(pair[1].wrapping_sub(pair[0])).or_default() += 1;
    }
    assert!(*steps.values().max().unwrap() <= 8, "one step is commoner than chance allows");
    let small = ports.windows(2).filter(|p| p[1].abs_diff(p[0]) < 64).count();
    assert!((20..=70).contains(&small), "{small} small steps; about 39 are due");
    // Each sixteenth of the range, and each of the lower four bits, gets its share.
    for part in 0..16_u32 {
        let high = ports.iter().filter(|p| (u32::from(**p) - 1024) * 16 / 64_512 == part).count();
        let low = ports.iter().filter(|p| u32::from(**p) % 16 == part).count();
        for count in [high, low] {
            assert!(count.abs_diff(COUNT as usize / 16) < 200, "part {part} has {count}");
        }
    }
    // The last port says nothing about the next one's upper half.
    let same_half = ports.windows(2).filter(|p| (p[0] > 33_280) == (p[1] > 33_280)).count();
    assert!(same_half.abs_diff(COUNT as usize / 2) < 400);
    // Another secret, other ports; the same secret, the same ports.
    let other = drawn(2, 1_000);
    assert!(other.iter().zip(&ports).filter(|(a, b)| a == b).count() < 5);
    assert_eq!(drawn(2, 1_000), other);
}

/// Two different clients' ports tell nothing of one another, nor does one client's past of its future.
#[test]
fn a_client_cannot_foretell_its_own_next_port() {
    let mut t = diverting(config());
    let mut seen = Vec::new();
    for turn in 0..200 {
        // The same client, port and server each time, the table emptied in between.
        seen.push(ask(&mut t, s(turn * 1_000), at(CLIENT), at(ORIGINAL)).0.port());
        t.poll(s(turn * 1_000 + 400));
        t.poll(s(turn * 1_000 + 800));
        assert_eq!(t.slots_in_use(), 0);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 190, "{} different ports in 200 draws", seen.len());
}

/// A connection is unique by alternative endpoint and server, so one port serves several servers at once.
#[test]
fn a_hundred_thousand_connections_to_two_servers_fit_behind_one_address() {
    const COUNT: u32 = 100_000;
    let mut t = Translator::new(config(), Heap::new(COUNT as usize, 4)).unwrap();
    let originals = [at("100.0.0.1:80"), at("100.0.0.2:80")];
    let servers = [at("9.0.0.1:80"), at("9.0.0.2:80")];
    for (original, server) in originals.into_iter().zip(servers) {
        t.divert(Divert::new(original).to(server)).unwrap();
    }
    let mut taken = std::collections::HashSet::new();
    for n in 0..COUNT {
        let which = n as usize % 2;
        let mut packet = udp(client(n), originals[which], b"");
        // A client whose draw found no port sends again.
        let tries = (1..=4).find(|_| t.translate(s(0), &mut packet) == Verdict::ToServer);
        assert!(tries.is_some(), "no port for connection {n}");
        let (alternative, server) = ends(&packet);
        assert_eq!((*alternative.ip(), server), (ip(ALTERNATIVE), servers[which]));
        assert!(taken.insert((alternative.port(), which)), "{alternative} towards {server} was given twice");
    }
    assert_eq!((t.connections().count(), t.slots_in_use()), (COUNT as usize, COUNT));
    assert_eq!(t.counters().opened, u64::from(COUNT));
    // Each finds its way back.
    for connection in t.connections().step_by(997).collect::<Vec<_>>() {
        let pair = connection.server_side;
        let seen = back(&mut t, s(1), &udp(pair.destination, pair.source, b""));
        assert_eq!(ends(&seen), (connection.client_side.destination, connection.client_side.source));
    }
}

/// RFC 4787, REQ-2, "paired": a client keeps to one address as long as that has ports.
#[test]
fn with_several_addresses_each_client_keeps_to_one() {
    let addresses = ["10.10.10.10", "10.10.10.11", "10.10.10.12", "10.20.0.1"].map(ip);
    let config = Config::new([1; 32]).alternatives(addresses[0], addresses[2], 1024..=65535);
    let mut t = translator(config.alternative(addresses[3], 2_000..=2_999));
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    let mut used = std::collections::HashMap::new();
    for n in 0..60 {
        let mut mine = std::collections::HashSet::new();
        for server in 1..=4 {
            let original = SocketAddrV4::new(Ipv4Addr::new(100, 0, 0, server), 80);
            let (alternative, _) = ask_and_answer(&mut t, s(0), client(n), original);
            mine.insert(*alternative.ip());
            let range = if *alternative.ip() == addresses[3] { 2_000..=2_999 } else { 1024..=65535 };
            assert!(addresses.contains(alternative.ip()) && range.contains(&alternative.port()));
        }
        assert_eq!(mine.len(), 1, "client {n} is seen at several addresses");
        *used.entry(*mine.iter().next().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 4, "some address is never used: {used:?}");

    // When its address has no port left, it gets another one rather than nothing.
    let mut t = translator(Config::new([1; 32]).alternatives(addresses[0], addresses[1], 5_000..=5_003));
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let mut all = std::collections::HashSet::new();
    for port in 1..=8 {
        all.insert(ask(&mut t, s(0), SocketAddrV4::new(ip("192.168.7.7"), port), at(ORIGINAL)).0);
    }
    assert_eq!(all.len(), 8);
}

#[test]
fn the_clients_port_or_its_range_is_kept_where_that_is_asked_for() {
    let open = |choice, range: core::ops::RangeInclusive<u16>, port: u16, times: u32| {
        let config = Config::new([1; 32]).alternative(ip(ALTERNATIVE), range).port_choice(choice);
        let mut t = diverting(config);
        let each = (0..times).map(|n| SocketAddrV4::new(*client(n).ip(), port));
        each.map(|from| ask(&mut t, s(0), from, at(ORIGINAL)).0.port()).collect::<Vec<_>>()
    };
    // Kept if it is free; the second client with the same port gets another of the same range (RFC 4787, REQ-3a).
    for port in [123, 700, 1023, 1024, 40_000, 65_535] {
        let ports = open(PortChoice::Keep, 1..=65_535, port, 200);
        assert_eq!(ports[0], port);
        assert!(ports[1..].iter().all(|p| *p != port && (*p < 1024) == (port < 1024)), "{ports:?}");
        let ports = open(PortChoice::SameRange, 1..=65_535, port, 200);
        assert!(ports.iter().all(|p| (*p < 1024) == (port < 1024)), "{ports:?}");
    }
    // What the range does not have cannot be kept.
    assert!(open(PortChoice::Keep, 2_000..=2_999, 123, 20).iter().all(|p| (2_000..=2_999).contains(p)));
    assert!(open(PortChoice::SameRange, 2_000..=2_999, 123, 20).iter().all(|p| (2_000..=2_999).contains(p)));
    // At random, both ranges serve everybody.
    let ports = open(PortChoice::Random, 512..=1_535, 40_000, 200);
    assert!(ports.iter().any(|p| *p < 1024) && ports.iter().any(|p| *p >= 1024));
    // Port zero is never given.
    assert!(!open(PortChoice::Random, 0..=3, 40_000, 3).contains(&0));
}

/// RFC 6888, REQ-8: 120 s after a close that was not tracked to its end.
#[test]
fn a_port_is_not_used_again_within_120_seconds_after_its_connection_died() {
    let two_ports = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 3_000..=3_001);
    let mut t = diverting(two_ports);
    ask(&mut t, s(0), client(1), at(ORIGINAL));
    ask(&mut t, s(0), client(2), at(ORIGINAL));
    t.poll(s(301));
    t.poll(s(301));
    assert_eq!((t.connections().count(), t.counters().expired, t.slots_in_use()), (0, 2, 2));
    let strangers = udp(client(3), at(ORIGINAL), b"");
    for now in [301, 360, 420] {
        assert_eq!(verdict(&mut t, s(now), &strangers), Verdict::Drop(DropReason::NoPort));
    }
    // What comes late from the server finds nobody.
    for port in [3_000, 3_001] {
        let late = udp(at(SERVER), SocketAddrV4::new(ip(ALTERNATIVE), port), b"");
        assert_eq!(verdict(&mut t, s(420), &late), Verdict::Drop(DropReason::NoConnection));
    }
    assert_eq!(verdict(&mut t, s(422), &strangers), Verdict::ToServer);
    // The hold is towards the same server alone.
    t.divert(Divert::new(at("100.0.0.1:80")).to(at(OTHER))).unwrap();
    t.poll(s(800));
    assert_eq!(verdict(&mut t, s(801), &udp(client(4), at("100.0.0.1:80"), b"")), Verdict::ToServer);
}

/// The same for connections that had to go while they were used: there is no slot to hold the endpoint with.
#[test]
fn the_endpoints_of_evicted_connections_are_not_drawn_again_for_120_seconds() {
    let config = Config::new([9; 32]).alternative(ip(ALTERNATIVE), 1_024..=2_047);
    let mut t = Translator::new(config, Heap::new(16, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let mut used = std::collections::HashSet::new();
    for n in 0..16 + 200 {
        let (alternative, _) = ask(&mut t, s(0), client(n), at(ORIGINAL));
        assert!(used.insert(alternative), "{alternative} was left a moment ago");
    }
    assert_eq!(t.counters().evicted, 200);
    for n in 300..330 {
        let (alternative, _) = ask(&mut t, s(119), client(n), at(ORIGINAL));
        assert!(used.insert(alternative), "{alternative} was left 119 s ago");
    }
    // In the end they serve again.
    ask(&mut t, s(10_000), client(399), at(ORIGINAL));
    let again = (400..600).filter(|n| !used.insert(ask(&mut t, s(20_000), client(*n), at(ORIGINAL)).0)).count();
    assert!(again > 0, "none of {} in 1024 came again", used.len());
}

/// The same for connections that a re-divert has moved: the old server may still send to where they were.
#[test]
fn the_endpoints_that_moved_connections_have_left_are_not_drawn_again_for_120_seconds() {
    let config = Config::new([9; 32]).alternative(ip(ALTERNATIVE), 1_024..=2_047);
    let mut t = diverting(config);
    let left: std::collections::HashSet<_> =
        (0..200).map(|n| ask_and_answer(&mut t, s(0), client(n), at(ORIGINAL)).0).collect();
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    for n in 0..200 {
        ask(&mut t, s(1), client(n), at(ORIGINAL));
    }
    assert_eq!(t.counters().moved, 200);
    t.divert(Divert::new(at("100.100.100.200:80")).to(at(SERVER))).unwrap();
    for (n, now) in (1_000..1_100).map(|n| (n, 1)).chain((2_000..2_100).map(|n| (n, 120))) {
        let (alternative, server) = ask(&mut t, s(now), client(n), at("100.100.100.200:80"));
        assert!(server == at(SERVER) && !left.contains(&alternative), "{alternative} was left a moment ago");
    }
}

/// Where there is no other port, one that was left a moment ago is better than none.
#[test]
fn the_last_port_is_given_away_though_it_was_left_a_moment_ago() {
    let config = Config::new([9; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_015);
    let mut t = Translator::new(config, Heap::new(8, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..100 {
        ask(&mut t, s(0), client(n), at(ORIGINAL));
    }
    assert_eq!((t.counters().evicted, t.slots_in_use()), (92, 8));
}

/// TIME-WAIT: the port of a connection that both sides closed is kept for the stragglers, and no longer.
#[test]
fn a_port_is_kept_through_time_wait() {
    let one_port = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 3_000..=3_000);
    let mut t = diverting(one_port);
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (FIN | ACK, c, v), b""));
    back(&mut t, s(1), &tcp(server, alternative, (FIN | ACK, v, c + 1), b""));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, c + 1, v + 1), b""));
    assert_eq!(tcp_state(&t), Some(State::TimeWait));
    // The server did not get the last segment: its FIN comes again and goes to the client.
    back(&mut t, s(2), &tcp(server, alternative, (FIN | ACK, v, c + 1), b""));
    there(&mut t, s(2), &tcp(at(CLIENT), at(ORIGINAL), (ACK, c + 1, v + 1), b""));
    let stranger = tcp(client(1), at(ORIGINAL), (SYN, 1, 0), b"");
    assert_eq!(verdict(&mut t, s(121), &stranger), Verdict::Drop(DropReason::NoPort));
    assert_eq!(verdict(&mut t, s(123), &stranger), Verdict::ToServer);
    assert_eq!((t.counters().closed, t.counters().expired), (1, 0));
}

/// A client that begins anew on its port while its server may still know the old connection: nobody else gets the old
/// endpoint yet, and it may have it itself.
#[test]
fn the_endpoint_of_a_connection_that_began_anew_is_not_given_to_others() {
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    for (acknowledged, second) in [(false, 60), (true, 60)] {
        let mut own = 0;
        for secret in 0..16 {
            let two_ports = Config::new([secret; 32]).alternative(ip(ALTERNATIVE), 3_000..=3_001);
            let mut t = diverting(two_ports);
            let (old, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
            there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (FIN | ACK, c, v), b""));
            back(&mut t, s(1), &tcp(server, old, (FIN | ACK, v, c + 1), b""));
            if acknowledged {
                there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, c + 1, v + 1), b""));
            }
            let anew = tcp(at(CLIENT), at(ORIGINAL), (SYN, 0x7000_0000, 0), b"");
            let new = ends(&there(&mut t, s(second), &anew)).0;
            own += u32::from(new == old);
            let stranger = tcp(client(1), at(ORIGINAL), (SYN, 1, 0), b"");
            let (other, seen) = run(&mut t, s(second), &stranger);
            if new == old {
                assert_eq!(other, Verdict::ToServer);
            } else {
                assert_eq!(other, Verdict::Drop(DropReason::NoPort), "a stranger got {}", ends(&seen).0);
            }
            let later = s(second + 121);
            there(&mut t, later, &stranger);
            assert_eq!(t.counters().closed, 1);
        }
        assert!((1..16).contains(&own), "{own} of 16 had their own endpoint again");
    }
}

/// The port shadow (CVE-2021-3773): a client whose own port is that of a service behind us must not be given it.
#[test]
fn a_forwarded_port_is_never_given_away() {
    let service = at("10.10.10.10:2001");
    let config = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_003).port_choice(PortChoice::Keep);
    let mut t = translator(config);
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    t.divert(Divert::new(service).to(at("192.168.0.9:22")).protocol(Protocol::Tcp)).unwrap();
    let from = |n: u32, port| SocketAddrV4::new(*client(n).ip(), port);
    let syn = |n| tcp(from(n, 2_001), at("8.8.8.8:53"), (SYN, 1, 0), b"");
    for n in 0..3 {
        assert_ne!(ends(&there(&mut t, s(0), &syn(n))).0, service, "the client shadows the service");
    }
    assert_eq!(verdict(&mut t, s(0), &syn(3)), Verdict::Drop(DropReason::NoPort));
    // The rule is about TCP: UDP may have the port.
    assert_eq!(ask(&mut t, s(0), from(4, 2_001), at("8.8.8.8:53")).0, service);
    // And the service is reached, also by the very server that the clients talk to, from its very port.
    let (seen, to) = ends(&there(&mut t, s(0), &tcp(at("8.8.8.8:53"), service, (SYN, 1, 0), b"")));
    assert_eq!((*seen.ip(), to), (ip(ALTERNATIVE), at("192.168.0.9:22")));
    // Hairpin: a client reaches the service by its outside address.
    let hairpin = there(&mut t, s(0), &tcp(client(7), service, (SYN, 1, 0), b""));
    let (outside, inside) = ends(&hairpin);
    assert_eq!((*outside.ip(), inside), (ip(ALTERNATIVE), at("192.168.0.9:22")));
    let answer = back(&mut t, s(0), &tcp(inside, outside, (SYN | ACK, 1, 2), b""));
    assert_eq!(ends(&answer), (service, client(7)));
}

/// A failed allocation must not take anything from anybody (a real bug of a well-known NAT).
#[test]
fn exhausted_ports_leave_the_connections_there_are_intact() {
    let two_ports = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 3_000..=3_001);
    let mut t = diverting(two_ports);
    let first = ask_and_answer(&mut t, s(0), client(1), at(ORIGINAL));
    let second = ask_and_answer(&mut t, s(0), client(2), at(ORIGINAL));
    assert_ne!(first, second);
    for n in 3..500 {
        let third = udp(client(n), at(ORIGINAL), b"");
        assert_eq!(verdict(&mut t, s(1), &third), Verdict::Drop(DropReason::NoPort));
    }
    assert_eq!(ask_and_answer(&mut t, s(2), client(1), at(ORIGINAL)), first);
    assert_eq!(ask_and_answer(&mut t, s(2), client(2), at(ORIGINAL)), second);
    assert_eq!((t.slots_in_use(), t.counters().opened, t.counters().dropped(DropReason::NoPort)), (2, 2, 497));
}

/// TFTP (RFC 1350): the server answers from a fresh port, and the client goes on with that one.
#[test]
fn a_tftp_transfer_goes_through() {
    let mut t = translator(config());
    let tftp = at("100.100.100.100:69");
    t.divert(Divert::new(tftp).to(at("123.45.67.89:69")).replies_from_any_port()).unwrap();
    for n in 0..20 {
        let (alternative, _) = ask(&mut t, s(0), client(n), tftp);
        let fresh = SocketAddrV4::new(ip("123.45.67.89"), 30_000 + n as u16);
        let looks = SocketAddrV4::new(ip("100.100.100.100"), fresh.port());
        for block in 0..5 {
            let data = back(&mut t, s(block), &udp(fresh, alternative, &[7; 512]));
            assert_eq!((ends(&data), checksums(&data)), ((looks, client(n)), BOTH));
            let ack = there(&mut t, s(block), &udp(client(n), looks, b"ack"));
            assert_eq!((ends(&ack), checksums(&ack)), ((alternative, fresh), BOTH));
        }
        let sibling = t.connection(Protocol::Udp, client(n), looks).unwrap().0;
        assert_eq!((sibling.original(), sibling.server()), (looks, fresh));
    }
    assert_eq!((t.counters().opened, t.connections_on(at("123.45.67.89:69"))), (40, 40));
    // Another host cannot use it, nor another protocol, nor a connection whose rule does not say so.
    let (alternative, _) = ask(&mut t, s(5), at(CLIENT), tftp);
    let stranger = udp(at("123.45.67.90:69"), alternative, b"");
    assert_eq!(verdict(&mut t, s(5), &stranger), Verdict::Drop(DropReason::NoConnection));
    let other_protocol = tcp(at("123.45.67.89:7"), alternative, (SYN, 1, 0), b"");
    assert_eq!(verdict(&mut t, s(5), &other_protocol), Verdict::Drop(DropReason::NoConnection));
    let mut plain = diverting(config());
    let (alternative, server) = ask(&mut plain, s(0), at(CLIENT), at(ORIGINAL));
    let other_port = udp(SocketAddrV4::new(*server.ip(), 81), alternative, b"");
    assert_eq!(verdict(&mut plain, s(0), &other_port), Verdict::Drop(DropReason::NoConnection));
}

/// The second entry of a connection in the index goes when the connection goes.
#[test]
fn siblings_do_not_outlive_the_connection_that_they_came_by() {
    let mut t = translator(config());
    let tftp = at("100.100.100.100:69");
    t.divert(Divert::new(tftp).to(at("123.45.67.89:69")).replies_from_any_port()).unwrap();
    let (alternative, server) = ask(&mut t, s(0), at(CLIENT), tftp);
    let fresh = |port| udp(SocketAddrV4::new(*server.ip(), port), alternative, b"");
    back(&mut t, s(0), &fresh(1_000));
    t.poll(s(301));
    assert_eq!(verdict(&mut t, s(301), &fresh(1_001)), Verdict::Drop(DropReason::NoConnection));
    for now in [302, 430, 430, 700] {
        t.poll(s(now));
        t.poll(s(now));
    }
    assert_eq!(t.slots_in_use(), 0);
    assert_eq!(verdict(&mut t, s(700), &fresh(1_002)), Verdict::Drop(DropReason::NoConnection));
    // The dead parent, not yet swept, has no children either.
    ask(&mut t, s(1_000), at(CLIENT), tftp);
    let side = connection_at(&t, tftp);
    let late = udp(at("123.45.67.89:77"), side, b"");
    assert_eq!(verdict(&mut t, s(1_400), &late), Verdict::Drop(DropReason::NoConnection));
}

fn connection_at(t: &Translator<Heap>, original: SocketAddrV4) -> SocketAddrV4 {
    t.connection(Protocol::Udp, at(CLIENT), original).unwrap().0.server_side.source
}

/// What the translator says of an endpoint is what becomes of a packet there that belongs to no connection.
#[test]
fn own_addresses_and_alternative_endpoints_are_told() {
    let config = || {
        Config::new([1; 32]).alternatives(ip("10.10.10.10"), ip("10.10.10.13"), 2_000..=3_000).own(ip("192.168.7.1"))
    };
    let mut t = translator(config());
    let set = byway::Sharded::new(config(), (0..4).map(|_| Heap::new(16, 4))).unwrap();
    let shard = set.shards().nth(1).unwrap();
    for (endpoint, own, alternative) in [
        ("10.10.10.10:2000", true, true),
        ("10.10.10.13:3000", true, true),
        ("10.10.10.12:1999", true, false),
        ("10.10.10.12:3001", true, false),
        ("10.10.10.12:0", true, false),
        ("10.10.10.9:2000", false, false),
        ("10.10.10.14:2000", false, false),
        ("192.168.7.1:2000", true, false),
        ("0.0.0.0:2000", false, false),
    ] {
        let (address, endpoint) = (*at(endpoint).ip(), at(endpoint));
        assert_eq!((t.is_own(address), t.is_alternative(endpoint)), (own, alternative), "{endpoint}");
        assert_eq!((set.is_own(address), set.is_alternative(endpoint)), (own, alternative), "{endpoint}");
        // A shard knows whose addresses are the machine's, and gives away its own alone.
        assert_eq!(shard.is_own(address), own, "{endpoint}");
        assert_eq!(shard.is_alternative(endpoint), alternative && address == ip("10.10.10.11"), "{endpoint}");
        let stray = tcp(at("8.8.8.8:80"), endpoint, (ACK, 1, 1), b"");
        let due = if alternative { Verdict::Drop(DropReason::NoConnection) } else { Verdict::Pass };
        assert_eq!(verdict(&mut t, s(0), &stray), due, "{endpoint}");
    }
}

//! `Translator::forget`: every connection ends at once, the rules stay, and new connections open as ever while the slots
//! of the old ones are swept.

use byway::{
    Closed, Config, Divert, DropReason, Event, Fixed, Heap, Imported, Instant, Midstream, Protocol, Redivert, Sharded,
    State, Storage, Translator, Verdict,
};
use byway_testing::talk::*;
use byway_testing::*;

const ELSEWHERE: &str = "100.100.100.101:80";

/// All ways to be found, and all ways to be seen.
fn assert_gone<S: Storage>(t: &mut Translator<S>, now: Instant, was: &[(Protocol, u32, byway::Pair)]) {
    assert_eq!(t.connections().count(), 0);
    assert_eq!(t.records().count(), 0);
    assert_eq!(t.connections_on(at(SERVER)), 0);
    assert!(t.diverts().flat_map(|d| d.servers()).all(|(_, connections)| connections == 0));
    for (protocol, n, side) in was {
        assert_eq!(t.connection(*protocol, client(*n), at(ORIGINAL)), None);
        let reply = match *protocol {
            Protocol::Tcp => tcp(side.destination, side.source, (ACK, SERVER_START + 1, CLIENT_START + 1), b"late"),
            Protocol::Udp => udp(side.destination, side.source, b"late"),
            _ => echo(0, *side.destination.ip(), *side.source.ip(), side.source.port(), b"late"),
        };
        assert_eq!(verdict(t, now, &reply), Verdict::Drop(DropReason::NoConnection), "{protocol} {n}");
        let about = icmp_error(3, 1, *side.destination.ip(), &packet::mirrored(&reply), 28);
        assert_eq!(verdict(t, now, &about), Verdict::Drop(DropReason::IcmpUnrelated), "{protocol} {n}");
    }
}

fn open<S: Storage>(t: &mut Translator<S>, now: Instant, n: u32) -> (Protocol, u32, byway::Pair) {
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp][n as usize % 3];
    match protocol {
        Protocol::Tcp => drop(connect(t, now, client(n), at(ORIGINAL)).0),
        Protocol::Udp => drop(ask_and_answer(t, now, client(n), at(ORIGINAL)).0),
        _ => drop(there(t, now, &echo(8, *client(n).ip(), *at(ORIGINAL).ip(), 40_000, b"?"))),
    }
    let side = t.connections().find(|c| c.client_side.source.ip() == client(n).ip()).unwrap().server_side;
    (protocol, n, side)
}

#[test]
fn nothing_of_what_was_there_is_found() {
    for capacity in [16, 1_000] {
        for measured in [false, true] {
            let storage = Heap::new(capacity, 16).events(2_000);
            let storage = if measured { storage.measured() } else { storage };
            let mut t = Translator::new(config().midstream(Midstream::Drop), storage).unwrap();
            // Without a port, so that the rule is for echoes too.
            t.divert(Divert::new(*at(ORIGINAL).ip()).to(*at(SERVER).ip())).unwrap();
            let was: Vec<_> = (0..capacity as u32).map(|n| open(&mut t, s(0), n)).collect();
            events(&mut t);
            let generation = t.generation();
            assert_eq!(t.forget().connections as usize, capacity);
            assert_gone(&mut t, s(1), &was);
            assert_eq!((t.diverts().count(), t.generation()), (1, generation), "the rules stay");

            // The client goes on in the middle, and is told nothing.
            let middle = tcp(client(0), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"");
            assert_eq!(verdict(&mut t, s(1), &middle), Verdict::Drop(DropReason::Midstream));
            assert!(say(&mut t, s(1)).is_empty());

            // Swept in bounded steps, each told and counted.
            let mut steps = 0;
            while t.poll_at() == Some(s(1)) {
                t.poll(s(1));
                steps += 1;
            }
            assert!(steps <= capacity / 32 + 2, "{steps}");
            let told = events(&mut t);
            let forgotten = |e: &&Event| matches!(e, Event::Closed { why: Closed::Forgotten, .. });
            assert_eq!(told.iter().filter(forgotten).count(), capacity);
            assert_eq!((t.counters().forgotten as usize, t.counters().expired), (capacity, 0));

            // The endpoints are held, and then free.
            assert_eq!(t.slots_in_use() as usize, capacity);
            while let Some(due) = t.poll_at() {
                t.poll(due);
                assert!(due <= s(1 + 120 + 120 / 4 + 5), "{due:?}");
            }
            assert_eq!(t.slots_in_use(), 0);
        }
    }
}

/// One connection is closed; it is gone in every way, and no other is.
#[test]
fn one_is_closed_alone() {
    for measured in [false, true] {
        let storage = Heap::new(64, 16).events(200);
        let storage = if measured { storage.measured() } else { storage };
        let mut t = Translator::new(config().midstream(Midstream::Drop), storage).unwrap();
        t.divert(Divert::new(*at(ORIGINAL).ip()).to(*at(SERVER).ip())).unwrap();
        let was: Vec<_> = (0..6).map(|n| open(&mut t, s(0), n)).collect();
        let all: Vec<_> = t.connections().collect();
        events(&mut t);
        for (closed, (protocol, n, side)) in was.iter().enumerate() {
            let of = |c: &&byway::Connection| c.client_side.source.ip() == client(*n).ip();
            let connection = all.iter().find(of).unwrap();
            // A later one of the same client would have another alternative.
            let mut later = *connection;
            later.server_side.source.set_port(connection.server_side.source.port() ^ 1);
            assert!(!t.close(&later));
            assert_eq!(events(&mut t), []);
            assert!(t.close(connection));
            assert!(!t.close(connection), "it is gone");
            let ended = |e: &Event| matches!(e, Event::Closed { connection: c, why: Closed::Forgotten } if c.client_side == connection.client_side);
            let told = events(&mut t);
            assert!(told.len() == 1 && ended(&told[0]), "{told:?}");
            assert_eq!(t.connections().count(), 5 - closed);
            assert_eq!(t.connections_on(*at(SERVER).ip()) as usize, 5 - closed);
            assert_eq!(t.records().count(), 5 - closed);
            if *protocol == Protocol::Udp {
                let late = udp(side.destination, side.source, b"late");
                assert_eq!(verdict(&mut t, s(1), &late), Verdict::Drop(DropReason::NoConnection));
            }
        }
        assert_eq!((t.counters().forgotten, t.counters().expired), (6, 0));
        assert!(say(&mut t, s(1)).is_empty(), "nobody is told");
        assert_eq!(t.slots_in_use(), 6, "their alternatives are in quarantine");
        // The clients may begin anew.
        (0..6).for_each(|n| {
            open(&mut t, s(2), n);
        });
        assert_eq!(t.connections().count(), 6);
    }
}

/// It has not followed a re-divert yet: the new server's count is right all the same, and what a reset owes is said.
#[test]
fn one_that_is_stale_is_closed() {
    for how in [Redivert::Switch, Redivert::Reset, Redivert::Drain] {
        let mut t = diverting(config());
        for n in 0..3 {
            connect(&mut t, s(0), client(n), at(ORIGINAL));
        }
        let all: Vec<_> = t.connections().collect();
        t.redivert(at(SERVER), at(OTHER), how).unwrap();
        assert!(t.close(&all[0]));
        (0..20).for_each(|_| t.poll(s(0)));
        let said = say(&mut t, s(0)).len();
        let expected = match how {
            Redivert::Reset => (0, 0, 6),
            Redivert::Switch => (0, 2, 0),
            _ => (2, 0, 0),
        };
        assert_eq!((t.connections_on(at(SERVER)), t.connections_on(at(OTHER)), said), expected, "{how:?}");
    }
}

/// One connection is reset: both its ends are told, with the numbers that they expect, and no other is.
#[test]
fn one_is_reset_alone() {
    let mut t = diverting(config());
    let all: Vec<_> = (0..3)
        .map(|n| {
            connect(&mut t, s(0), client(n), at(ORIGINAL));
            t.connections().find(|c| c.client_side.source == client(n)).unwrap()
        })
        .collect();
    ask(&mut t, s(0), client(7), at(ORIGINAL));
    let other = t.connections().find(|c| c.protocol == Protocol::Udp).unwrap();
    events(&mut t);
    assert!(!t.reset(&other), "not TCP");
    assert!(t.reset(&all[1]));
    assert!(!t.reset(&all[1]), "it is over");
    let said = say(&mut t, s(0));
    let numbers: Vec<_> = said.iter().map(|p| u32::from_be_bytes(p[24..28].try_into().unwrap())).collect();
    assert_eq!(said.len(), 2);
    assert!(numbers.contains(&(CLIENT_START + 1)) && numbers.contains(&(SERVER_START + 1)), "{numbers:x?}");
    let told = events(&mut t);
    assert!(matches!(told[..], [Event::Closed { why: Closed::Rediverted, .. }]), "{told:?}");
    assert_eq!((t.connections().count(), t.connections_on(at(SERVER)), t.counters().reset), (3, 3, 1));
    // Whoever has not heard of it is told again.
    let late = tcp(client(1), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"late");
    let _ = verdict(&mut t, s(1), &late);
    assert_eq!(say(&mut t, s(1)).len(), 1);
    // One that a re-divert resets is reset once.
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    assert!(t.reset(&all[0]));
    assert!(!t.reset(&all[0]));
    (0..20).for_each(|_| t.poll(s(1)));
    assert_eq!((say(&mut t, s(1)).len(), t.counters().reset), (4, 3));
}

/// The table is full of what was forgotten, and nobody polls.
#[test]
fn a_full_table_takes_new_connections_at_once() {
    for swept in [0, 3, 40] {
        let mut t = Translator::new(config(), Heap::new(1_000, 8)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        for n in 0..1_000 {
            connect(&mut t, s(0), client(n), at(ORIGINAL));
        }
        let syn = tcp(client(2_000), at(ORIGINAL), (SYN, 1, 0), b"");
        assert_eq!(verdict(&mut t, s(0), &syn), Verdict::Drop(DropReason::TableFull));
        t.forget();
        (0..swept).for_each(|_| t.poll(s(0)));
        for n in 1_000..2_000 {
            connect(&mut t, s(0), client(n), at(ORIGINAL));
        }
        assert_eq!((t.connections().count(), t.connections_on(at(SERVER))), (1_000, 1_000));
        assert_eq!((t.counters().forgotten, t.counters().evicted), (1_000, 0));
        // What is new stays.
        for n in 1_000..2_000 {
            let data = tcp(client(n), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"");
            there(&mut t, s(1), &data);
        }
    }
}

/// Clients that were at their limit, or come from the same port again.
#[test]
fn its_client_can_begin_anew_at_once() {
    let mut t = Translator::new(config().client_limit(2), Heap::new(1_000, 8)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..900 {
        connect(&mut t, s(0), client(n), at(ORIGINAL));
    }
    let mut old = Vec::new();
    for n in [1, 2] {
        old.push(connect(&mut t, s(0), core::net::SocketAddrV4::new(ip("1.2.3.4"), n), at(ORIGINAL)));
    }
    t.forget();
    for (n, old) in [1, 2].into_iter().zip(old) {
        let new = connect(&mut t, s(0), core::net::SocketAddrV4::new(ip("1.2.3.4"), n), at(ORIGINAL));
        assert_ne!(new.0, old.0, "an endpoint that is held for another reason than its own");
    }
    while t.poll_at() == Some(s(0)) {
        t.poll(s(0));
    }
    let third = tcp(at("1.2.3.4:3"), at(ORIGINAL), (SYN, 1, 0), b"");
    assert_eq!(verdict(&mut t, s(0), &third), Verdict::Drop(DropReason::ClientLimit), "counted again");
}

/// Nobody else gets an endpoint before its time, also where there are few.
#[test]
fn alternative_endpoints_are_held_as_after_any_other_end() {
    let config = || Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_001);
    let mut t = diverting(config());
    ask(&mut t, s(0), client(0), at(ORIGINAL));
    ask(&mut t, s(0), client(1), at(ORIGINAL));
    t.forget();
    let question = |n| udp(client(n), at(ORIGINAL), b"");
    assert_eq!(verdict(&mut t, s(1), &question(7)), Verdict::Drop(DropReason::NoPort));
    // One of those that had one gets one, its own or what is free.
    assert_eq!(verdict(&mut t, s(1), &question(1)), Verdict::ToServer);
    t.poll(s(200));
    assert_eq!(verdict(&mut t, s(200), &question(7)), Verdict::ToServer);
}

/// Re-diverts that were being followed, and RSTs that were owed.
#[test]
fn it_can_come_while_a_re_divert_is_being_followed() {
    for how in [Redivert::Switch, Redivert::Reset, Redivert::Drain] {
        for early in [false, true] {
            let mut t = Translator::new(config(), Heap::new(1_000, 3).events(4_000)).unwrap();
            t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
            for n in 0..500 {
                connect(&mut t, s(0), client(n), at(ORIGINAL));
            }
            let forget = |t: &mut Translator<Heap>| {
                t.forget();
            };
            if early {
                forget(&mut t);
            }
            t.redivert(at(SERVER), at(OTHER), how).unwrap();
            t.poll(s(0));
            forget(&mut t);
            // As many as there is room for, again and again.
            for (from, to) in [(OTHER, SERVER), (SERVER, OTHER), (OTHER, "9.9.9.9:80")] {
                t.redivert(at(from), at(to), Redivert::Switch).unwrap();
            }
            let new = connect(&mut t, s(1), client(7), at(ORIGINAL));
            assert_eq!(new.1, at("9.9.9.9:80"));
            assert_eq!((t.connections_on(at("9.9.9.9:80")), t.connections().count()), (1, 1));
            let said = say(&mut t, s(1)).len();
            while t.poll_at() == Some(s(1)) {
                t.poll(s(1));
                assert!(say(&mut t, s(1)).is_empty());
            }
            let k = *t.counters();
            assert_eq!((k.forgotten + k.reset, k.moved), (500, if early { 0 } else { k.moved }), "{how:?}");
            assert_eq!(said as u64, 2 * k.reset, "{how:?}: what was ordered before is said");
            assert_eq!(t.connections().count(), 1);
            there(&mut t, s(2), &tcp(client(7), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b""));
        }
    }
}

/// What was dead when it was forgotten has expired.
#[test]
fn each_end_has_its_own_cause() {
    let mut t = diverting(config());
    ask(&mut t, s(0), client(0), at(ORIGINAL));
    ask(&mut t, s(200), client(1), at(ORIGINAL));
    connect(&mut t, s(350), client(2), at(ORIGINAL));
    t.forget();
    while t.poll_at().is_some_and(|due| due <= s(350)) {
        t.poll(s(350));
    }
    assert_eq!((t.counters().expired, t.counters().forgotten), (1, 2));
}

/// Again and again, with connections in between: more often than there are epochs, without a poll.
#[test]
fn it_can_be_done_any_number_of_times() {
    for (capacity, opened) in [(8, 1), (100, 3), (9_000, 30)] {
        let mut t = Translator::new(config(), Heap::new(capacity, 8)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        let mut last = Vec::new();
        let mut refused = 0;
        for round in 0..700_u32 {
            for n in 0..opened {
                let n = round * opened + n;
                let seen = run(&mut t, s(0), &udp(client(n), at(ORIGINAL), b""));
                match seen.0 {
                    Verdict::ToServer => last.push((Protocol::Udp, n, ends(&seen.1))),
                    Verdict::Drop(DropReason::TableFull) => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
            t.forget();
            t.forget();
            assert_eq!((t.connections().count(), t.connections_on(at(SERVER))), (0, 0));
            for (_, n, (source, server)) in last.drain(..) {
                let late = udp(server, source, b"");
                assert!(matches!(verdict(&mut t, s(0), &late), Verdict::Drop(_)), "{round} {n}");
            }
        }
        assert!(capacity > 10_000 || refused == 0, "{refused} of {} refused", 700 * opened);
        while t.poll_at() == Some(s(0)) {
            t.poll(s(0));
        }
        assert_eq!(u64::from(700 * opened) - refused, t.counters().forgotten);
        ask(&mut t, s(0), client(1), at(ORIGINAL));
        assert_eq!(t.connections().count(), 1);
    }
}

/// A record of what was forgotten brings it back: that is asked for.
#[test]
fn a_snapshot_can_be_restored_afterwards() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let record = t.records().next().unwrap();
    t.forget();
    assert_eq!(t.import(s(1), &record), Ok(Imported::New));
    assert_eq!(tcp_state(&t), Some(State::Established));
    back(&mut t, s(1), &tcp(server, alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), b""));
    assert_eq!(t.connections_on(at(SERVER)), 1);
}

#[test]
fn sources_that_are_kept_and_replies_from_any_port_are_forgotten_too() {
    let mut t = Translator::new(config(), Fixed::<64, 8>::new()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).keep_source()).unwrap();
    t.divert(Divert::new(at(ELSEWHERE)).to(at(SERVER)).replies_from_any_port()).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let (alternative, server) = ask(&mut t, s(0), at(CLIENT), at(ELSEWHERE));
    t.forget();
    // It is nobody's, and would show an address that the client does not know.
    assert_eq!(verdict(&mut t, s(0), &udp(at(SERVER), at(CLIENT), b"")), Verdict::Drop(DropReason::NoConnection));
    let other_port = core::net::SocketAddrV4::new(*server.ip(), 999);
    assert_eq!(verdict(&mut t, s(0), &udp(other_port, alternative, b"")), Verdict::Drop(DropReason::NoConnection));
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    ask(&mut t, s(0), at(CLIENT), at(ELSEWHERE));
    assert_eq!(t.connections().count(), 2);
}

#[test]
fn a_set_of_shards_forgets_as_one() {
    let config = Config::new([7; 32]).alternatives(ip("10.10.10.10"), ip("10.10.10.13"), 1024..=65535);
    let mut t = Sharded::new(config, (0..4).map(|_| Heap::new(100, 8))).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..80 {
        assert_eq!(t.translate(s(0), &mut udp(client(n), at(ORIGINAL), b"")), Verdict::ToServer);
    }
    assert_eq!(t.forget().connections, 80);
    assert_eq!((t.records().count(), t.connections_on(at(SERVER))), (0, 0));
    while t.poll_at() == Some(s(0)) {
        t.poll(s(0));
    }
    assert_eq!(t.counters().forgotten, 80);
}

/// A table whose finished connections are gone before it is forgotten has nothing to go through for them: the sweep ends,
/// and the limit holds again.
#[test]
fn the_sweep_ends_if_no_finished_connection_is_left() {
    let mut t = Translator::new(config().client_limit(2), Heap::new(8, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    there(&mut t, s(0), &tcp(client(99), at(ORIGINAL), (SYN, 100, 0), b""));
    there(&mut t, s(1), &tcp(client(99), at(ORIGINAL), (RST, 101, 0), b""));
    t.poll(s(300));
    t.poll(s(600));
    assert_eq!(t.slots_in_use(), 0);
    for n in 0..8 {
        there(&mut t, s(601), &udp(client(n), at(ORIGINAL), b""));
    }
    t.forget();
    for n in 10..18 {
        there(&mut t, s(602), &udp(client(n), at(ORIGINAL), b""));
    }
    for _ in 0..10 {
        t.poll(s(602));
    }
    assert!(t.poll_at().is_some_and(|due| due > s(602)), "it is due for ever");
    let more = |port| udp(core::net::SocketAddrV4::new(*client(17).ip(), port), at(ORIGINAL), b"");
    there(&mut t, s(602), &more(1));
    assert_eq!(verdict(&mut t, s(602), &more(2)), Verdict::Drop(DropReason::ClientLimit));
}

//! What an event brings with it: what was measured of a connection until its very end, and what it was moved from.

use byway::{
    Borrowed, Closed, Config, Event, Fixed, Heap, INDEX_WORDS, Instant, Measured, Moving, Record, Redivert, Report,
    Storage, Timeouts, Translator, slots,
};
use byway_testing::talk::*;
use byway_testing::*;

fn reporting(config: Config) -> Translator<Heap> {
    let mut t = Translator::new(config, Heap::new(1_000, 100).measured_events().events(32)).unwrap();
    t.divert(byway::Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    t
}

fn reports<S: Storage>(t: &mut Translator<S>) -> Vec<Report> {
    core::iter::from_fn(|| t.poll_report()).collect()
}

/// The one report of an end, and what was measured.
#[track_caller]
fn end<S: Storage>(t: &mut Translator<S>) -> (Report, Closed, Measured) {
    let closed: Vec<_> = reports(t).into_iter().filter(|r| matches!(r.event, Event::Closed { .. })).collect();
    let [report] = closed[..] else { panic!("{closed:?}") };
    let Event::Closed { why, .. } = report.event else { unreachable!() };
    (report, why, report.measured.expect("there is room for it"))
}

/// A conversation with FINs: the packets of both directions, each at its own second.
fn talk_to_the_end<S: Storage>(t: &mut Translator<S>) -> (u64, u64) {
    let (client, original) = (at(CLIENT), at(ORIGINAL));
    let (alternative, server) = connect(t, s(10), client, original);
    let (c, r) = (CLIENT_START + 1, SERVER_START + 1);
    there(t, s(11), &tcp(client, original, (ACK, c, r), b"hello"));
    back(t, s(12), &tcp(server, alternative, (ACK, r, c + 5), b"good day"));
    there(t, s(13), &tcp(client, original, (ACK | FIN, c + 5, r + 8), b""));
    back(t, s(14), &tcp(server, alternative, (ACK | FIN, r + 8, c + 6), b""));
    there(t, s(15), &tcp(client, original, (ACK, c + 6, r + 9), b""));
    (5 * 40 + 5, 3 * 40 + 8)
}

#[test]
fn the_last_acknowledgement_is_in_the_count() {
    let mut t = reporting(config());
    let (there_bytes, back_bytes) = talk_to_the_end(&mut t);
    t.poll(s(20)); // fetched later, it is still the time of the end
    let (report, why, m) = end(&mut t);
    assert_eq!((why, report.at), (Closed::Finished, s(15)));
    assert_eq!((m.to_server.packets, m.to_server.bytes), (5, there_bytes));
    assert_eq!((m.to_client.packets, m.to_client.bytes), (3, back_bytes));
    assert_eq!((m.first, m.last), (s(10), s(15)));
}

/// Late segments are not in the report of the end, nor do they change it.
#[test]
fn what_comes_after_the_end_is_not() {
    let mut t = reporting(config());
    let (there_bytes, _) = talk_to_the_end(&mut t);
    there(&mut t, s(16), &tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 7, SERVER_START + 10), b""));
    let (_, _, m) = end(&mut t);
    assert_eq!((m.to_server.bytes, m.last), (there_bytes, s(15)));
}

#[test]
fn a_reset_is_in_the_count_of_what_it_ended() {
    let mut t = reporting(config());
    let (alternative, server) = connect(&mut t, s(10), at(CLIENT), at(ORIGINAL));
    back(&mut t, s(12), &tcp(server, alternative, (RST | ACK, SERVER_START + 1, CLIENT_START + 1), b""));
    let (report, why, m) = end(&mut t);
    assert_eq!((why, report.at, m.last, m.resets), (Closed::Reset, s(12), s(12), 1));
    assert_eq!((m.to_server.packets, m.to_client.packets), (2, 2));
}

#[test]
fn one_that_expired_ended_with_its_last_packet() {
    let mut t = reporting(config());
    ask_and_answer(&mut t, s(10), at(CLIENT), at(ORIGINAL));
    t.poll(s(1_000));
    let (report, why, m) = end(&mut t);
    assert_eq!((why, report.at, m.first), (Closed::Expired, s(1_000), s(10)));
    assert!(m.last >= s(10) && m.last < Instant::from_millis(10_100), "{:?}", m.last);
    assert_eq!((m.to_server.packets, m.to_client.packets), (1, 1));
}

/// The slot of an evicted connection is another's at once; what was measured of it must not be.
#[test]
fn one_that_was_evicted_is_reported_as_it_was() {
    let mut t = Translator::new(config(), Fixed::<16, 4, 8, 64, 80, 0, 4>::sized()).unwrap();
    t.divert(byway::Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..17 {
        for _ in 0..=n {
            ask(&mut t, s(10 + u64::from(n)), client(n), at(ORIGINAL));
        }
    }
    let evicted: Vec<_> = reports(&mut t)
        .into_iter()
        .filter_map(|r| match r.event {
            Event::Closed { connection, why: Closed::Evicted } => Some((connection, r)),
            _ => None,
        })
        .collect();
    let [(connection, report)] = evicted[..] else { panic!("{evicted:?}") };
    let number = connection.client_side.source.ip().to_bits() - 0xc0a8_0000;
    let m = report.measured.unwrap();
    assert_eq!((m.to_server.packets, m.first), (u64::from(number) + 1, s(10 + u64::from(number))));
    assert_eq!(report.at, s(26));
}

#[test]
fn a_move_says_what_it_was_from() {
    let mut t = reporting(config());
    let (alternative, server) = ask(&mut t, s(10), at(CLIENT), at(ORIGINAL));
    let generation = t.redivert(server, at(OTHER), Redivert::Switch).unwrap().generation;
    let (after, other) = ask(&mut t, s(11), at(CLIENT), at(ORIGINAL));
    let moved: Vec<_> = reports(&mut t).into_iter().filter(|r| matches!(r.event, Event::Moved { .. })).collect();
    let [report] = moved[..] else { panic!("{moved:?}") };
    let m = report.moved.expect("there is room for it");
    assert_eq!((m.from.source, m.from.destination), (alternative, server));
    assert_eq!((m.generation, m.how, report.at), (generation, Moving::Instruction, s(11)));
    let Event::Moved { connection, from } = report.event else { unreachable!() };
    assert_eq!((connection.server_side.source, connection.server_side.destination, from), (after, other, server));
}

/// Its alternative port is another's towards the new server, so that it gets another one.
#[test]
fn a_move_to_another_port_says_both() {
    // One port only, and two servers: both connections have it.
    let narrow = Config::new([7; 32]).alternative(ip(ALTERNATIVE), 5_000..=5_001);
    let mut t = reporting(narrow);
    t.divert(byway::Divert::new(at("100.100.100.101:80")).to(at(OTHER))).unwrap();
    let mut seen = Vec::new();
    for n in 0..2 {
        seen.push(ask(&mut t, s(10), client(n), at(ORIGINAL)).0);
    }
    let (taken, _) = ask(&mut t, s(10), client(2), at("100.100.100.101:80"));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    let mover = seen.iter().position(|port| *port == taken).expect("there are two ports");
    let (after, _) = ask(&mut t, s(11), client(mover as u32), at(ORIGINAL));
    assert_ne!(after, taken);
    let moved = reports(&mut t).into_iter().find_map(|r| r.moved).unwrap();
    assert_eq!(moved.from.source, taken);
}

/// A record of another portion, which has moved the connection.
#[test]
fn a_move_by_a_record_says_so() {
    let (mut one, mut two) = (reporting(config()), reporting(config()));
    let (alternative, server) = ask(&mut one, s(10), at(CLIENT), at(ORIGINAL));
    let record = |t: &Translator<Heap>| -> Record { t.records().next().unwrap() };
    two.import(s(10), &record(&one)).unwrap();
    one.redivert(server, at(OTHER), Redivert::Switch).unwrap();
    ask(&mut one, s(11), at(CLIENT), at(ORIGINAL));
    two.import(s(12), &record(&one)).unwrap();
    let moved: Vec<_> = reports(&mut two).into_iter().filter_map(|r| r.moved.map(|m| (m, r.at))).collect();
    let [(m, when)] = moved[..] else { panic!("{moved:?}") };
    assert_eq!((m.from.source, m.from.destination, m.how, when), (alternative, server, Moving::Record, s(12)));
}

/// Without slots for events, events come as ever, and nothing is said beyond them; nor if the queue is longer than those.
#[test]
fn without_room_there_is_the_event_alone() {
    let ends = |storage: Heap| {
        let mut t = Translator::new(config(), storage).unwrap();
        t.divert(byway::Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        talk_to_the_end(&mut t);
        reports(&mut t)
    };
    for storage in [Heap::new(100, 4), Heap::new(100, 4).measured()] {
        let all = ends(storage);
        assert!(
            all.len() >= 2 && all.iter().all(|r| r.measured.is_none() && r.moved.is_none() && r.at == s(15)),
            "{all:?}"
        );
    }
    let (connections, index) = (&mut [slots::Connection::EMPTY; 16], &mut [0; 16 * INDEX_WORDS]);
    let (diverts, servers) = (&mut [slots::Divert::EMPTY; 2], &mut [slots::Server::EMPTY; 2]);
    // Slots for one event of four.
    let (events, measured) = (&mut [slots::Event::EMPTY; 4], &mut [slots::Measure::EMPTY; 17]);
    let storage = Borrowed::new(connections, index, diverts, servers, &mut []).events(events).measured(measured);
    let mut t = Translator::new(config(), storage).unwrap();
    t.divert(byway::Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    talk_to_the_end(&mut t);
    let all = reports(&mut t);
    assert!(all.len() >= 2 && all[1..].iter().all(|r| r.measured.is_none()), "{all:?}");
}

/// Whatever happens in whatever order: what an event says of its connection's volume is what was translated until its end.
#[test]
fn volumes_are_those_of_the_packets() {
    let timeouts = Timeouts::RECOMMENDED;
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut t = Translator::new(config().timeouts(timeouts), Heap::new(16, 4).events(8).measured_events()).unwrap();
        t.divert(byway::Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        let (mut sent, mut told, mut lost) = (0_u64, 0_u64, 0_u64);
        let mut now = 10;
        for _ in 0..600 {
            now += dice.below(20);
            let from = client(dice.below(40) as u32);
            let packet = if dice.below(2) == 0 {
                udp(from, at(ORIGINAL), b"question")
            } else {
                let flags = [SYN, ACK, ACK | FIN, RST][dice.below(4) as usize];
                tcp(from, at(ORIGINAL), (flags, dice.below(3) as u32, 0), b"")
            };
            if run(&mut t, s(now), &packet).0 == byway::Verdict::ToServer {
                sent += 1;
            }
            match dice.below(40) {
                0 => drop(t.redivert(at(SERVER), at(OTHER), Redivert::Switch)),
                1 => drop(t.redivert(at(OTHER), at(SERVER), Redivert::Switch)),
                2 => drop(t.forget()),
                3 => t.poll(s(now)),
                _ => {}
            }
            if dice.below(3) == 0 {
                for report in reports(&mut t) {
                    if let Event::Closed { .. } = report.event {
                        told += report.measured.expect("there is room").to_server.packets;
                    }
                }
            }
            lost = t.counters().events_lost;
        }
        for report in reports(&mut t) {
            if let Event::Closed { .. } = report.event {
                told += report.measured.expect("there is room").to_server.packets;
            }
        }
        let live: u64 = {
            let mut all = t.connections();
            core::iter::from_fn(|| all.next_measured()).filter_map(|(_, m)| m).map(|m| m.to_server.packets).sum()
        };
        assert!(told <= sent, "{seed}: {told} of {sent}");
        assert!(told > 50, "{seed}: {told} of {sent} told, {live} live, {lost} lost");
    }
}

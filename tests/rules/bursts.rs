//! The owner of the memory, and whether packets come one by one or in bursts, make no difference to what happens.

use byway::{Borrowed, Divert, Event, Fixed, INDEX_WORDS, Prefix, Storage, Translator, Verdict, slots};
use byway_testing::talk::*;
use byway_testing::*;

/// What a translator has done with packets, in all that can be seen of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    verdicts: Vec<Verdict>,
    packets: Vec<Vec<u8>>,
    counters: byway::Counters,
    connections: Vec<byway::Connection>,
    events: Vec<Event>,
}

/// A few clients at a few places that are diverted, masqueraded, or passed: everything that opens, answers, moves and
/// is dropped, in an order that mixes them.
fn traffic<S: Storage>(t: &mut Translator<S>) -> Vec<Vec<u8>> {
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    t.divert(Divert::new(at("100.0.0.1:53")).to(at("9.0.0.1:53")).keep_source()).unwrap();
    t.divert(Divert::new(Prefix::new(ip("8.0.0.0"), 8).unwrap())).unwrap();
    let mut dice = Dice(1);
    let mut next = |range: u32| dice.below(range.into()) as u32;
    let mut packets = Vec::new();
    for _ in 0..3_000 {
        let from = client(next(40));
        let to = [at(ORIGINAL), at("100.0.0.1:53"), at("8.8.8.8:53"), at("7.7.7.7:7")][next(4) as usize];
        let server = [at(SERVER), at("9.0.0.1:53"), at("8.8.8.8:53")][next(3) as usize];
        let us = core::net::SocketAddrV4::new(ip(ALTERNATIVE), 1_024 + next(16) as u16);
        let flags = [SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST][next(6) as usize];
        let mut packet = match next(8) {
            0..=2 => tcp(from, to, (flags, next(4), next(4)), b"data"),
            3 => udp(from, to, b"data"),
            4 => udp(server, us, b"answer"),
            5 => tcp(server, us, (flags, next(4), next(4)), b"answer"),
            6 => udp(server, from, b"answer"),
            _ => echo(8, *from.ip(), *to.ip(), 7, b"ping"),
        };
        if next(20) == 0 {
            packet.truncate(next(60) as usize);
        }
        packets.push(packet);
    }
    packets
}

/// Gives the packets to a translator, `burst` at a time; one by one if that is zero.
fn outcome<S: Storage>(storage: S, burst: usize) -> Outcome {
    // Sixteen ports, so that what the servers say often is for somebody.
    let config = byway::Config::new([9; 32]).alternative(ip(ALTERNATIVE), 1_024..=1_039);
    let mut t = Translator::new(config, storage).unwrap();
    let mut packets = traffic(&mut t);
    let mut verdicts = vec![Verdict::Pass; packets.len()];
    let mut events = Vec::new();
    for (second, (packets, verdicts)) in packets.chunks_mut(100).zip(verdicts.chunks_mut(100)).enumerate() {
        let now = s(second as u64);
        if second == 15 {
            t.redivert(at(SERVER), at(OTHER), byway::Redivert::Switch).unwrap();
        }
        if burst == 0 {
            for (packet, verdict) in packets.iter_mut().zip(verdicts) {
                *verdict = t.translate(now, packet);
            }
        } else {
            for (packets, verdicts) in packets.chunks_mut(burst).zip(verdicts.chunks_mut(burst)) {
                assert_eq!(t.translate_burst(now, packets, verdicts), packets.len());
            }
        }
        t.poll(now);
        events.extend(core::iter::from_fn(|| t.poll_event()));
    }
    Outcome { verdicts, packets, counters: *t.counters(), connections: t.connections().collect(), events }
}

#[test]
fn bursts_and_storages_make_no_difference() {
    let one_by_one = outcome(byway::Heap::new(50, 8), 0);
    for verdict in [Verdict::ToServer, Verdict::ToClient, Verdict::Pass] {
        let count = one_by_one.verdicts.iter().filter(|v| **v == verdict).count();
        assert!(count > 100, "{verdict:?}: {count}");
    }
    assert!(one_by_one.counters.moved > 0 && one_by_one.counters.dropped_in_all() > 100);
    for burst in [1, 2, 31, 32, 33, 64, 65, 97, 100] {
        assert_eq!(outcome(byway::Heap::new(50, 8), burst), one_by_one, "bursts of {burst}");
    }

    // As many events, fragments and rules as the heap has by default.
    let mut fixed = Fixed::<50, 8, 64, 64>::sized();
    assert_eq!(outcome(&mut fixed, 0), one_by_one);
    assert_eq!(outcome(&mut fixed, 7), one_by_one, "what was in the storage is cleared");

    let mut connections = [slots::Connection::EMPTY; 50];
    let mut index = [0; 50 * INDEX_WORDS];
    let (mut diverts, mut servers) = ([slots::Divert::EMPTY; 8], [slots::Server::EMPTY; 8]);
    let (mut moves, mut fragments) = ([slots::Move::EMPTY; 8], [slots::Fragment::EMPTY; 64]);
    let mut events = [slots::Event::EMPTY; 64];
    let borrowed = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves);
    assert_eq!(outcome(borrowed.fragments(&mut fragments).events(&mut events), 32), one_by_one);
}

/// A burst does as much as the shorter of its two slices.
#[test]
fn a_burst_ends_with_the_shorter_slice() {
    let mut t = diverting(config());
    let packet = udp(at(CLIENT), at(ORIGINAL), b"x");
    let mut packets = vec![packet.clone(); 40];
    let mut verdicts = vec![Verdict::Pass; 35];
    assert_eq!(t.translate_burst(s(0), &mut packets, &mut verdicts), 35);
    assert_eq!(t.counters().to_server, 35);
    assert!(packets[35..].iter().all(|p| *p == packet));
    assert_eq!(t.translate_burst(s(0), &mut packets[..0], &mut verdicts), 0);
}

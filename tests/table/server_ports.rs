//! Rules with replies from any port: what a server can take of the table by itself.

use core::net::SocketAddrV4;

use byway::{Closed, Config, Divert, Event, Heap, Prefix, Protocol, Redivert, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// A table of 1024 slots that masquerades with any-port replies, its client's connection to a server, and the
/// alternative endpoint of that.
fn one_victim(config: Config) -> (Translator<Heap>, SocketAddrV4) {
    let mut t = Translator::new(config, Heap::new(1_024, 4).events(10_000)).unwrap();
    let inside = Prefix::new(ip("192.168.0.0"), 16).unwrap();
    let rule = Divert::new(Prefix::ALL).clients(inside).protocol(Protocol::Udp).replies_from_any_port();
    t.divert(rule).unwrap();
    let (alternative, _) = ask_and_answer(&mut t, s(0), at(CLIENT), at("8.8.8.8:53"));
    (t, alternative)
}

fn from_port(port: u16, alternative: SocketAddrV4) -> Vec<u8> {
    udp(SocketAddrV4::new(ip("8.8.8.8"), port), alternative, b"unasked")
}

/// What a server sends from ports that its client never answers takes few slots, and none that others need.
#[test]
fn a_server_cannot_fill_the_table_by_itself() {
    let (mut t, alternative) = one_victim(config());
    for port in 1_000..3_000 {
        back(&mut t, s(1), &from_port(port, alternative));
    }
    assert!(t.slots_in_use() <= 1 + 4, "{} slots", t.slots_in_use());
    // The same with a client that has many connections to the server: they are given up for the sake of others.
    let mut t = Translator::new(config(), Heap::new(64, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(ip("8.8.8.8")).replies_from_any_port()).unwrap();
    for n in 0..10 {
        let (alternative, _) =
            ask_and_answer(&mut t, s(0), SocketAddrV4::new(ip("192.168.7.7"), 5_000 + n), at(ORIGINAL));
        for port in 1_000..1_010 {
            back(&mut t, s(1), &from_port(port, alternative));
        }
    }
    for n in 0..100 {
        assert_eq!(verdict(&mut t, s(2), &udp(client(n), at(ORIGINAL), b"")), Verdict::ToServer, "{n}");
    }
}

/// Nor does it keep its victim from connections of its own for longer than the time-out, or with more than four of
/// them.
#[test]
fn a_server_cannot_use_up_its_victims_limit() {
    let (mut t, alternative) = one_victim(config().client_limit(10));
    for round in 0..20 {
        // It keeps its client's own connection alive (RFC 4787, REQ-6a).
        back(&mut t, s(round * 240), &from_port(53, alternative));
        for port in 1_000..1_100 {
            back(&mut t, s(round * 240), &from_port(port, alternative));
        }
    }
    for n in 0..5 {
        there(&mut t, s(20 * 240), &udp(at(CLIENT), SocketAddrV4::new(ip("9.9.9.9"), 53 + n), b""));
    }
}

/// Only its client prolongs such a connection, until the client has sent to that port (RFC 4787, REQ-6); from then on
/// it is a connection like any other.
#[test]
fn a_connection_that_the_server_has_opened_waits_for_the_client() {
    let (mut t, alternative) = one_victim(config());
    let looks = at("8.8.8.8:1000");
    back(&mut t, s(0), &from_port(1_000, alternative));
    assert_eq!(state(&t, Protocol::Udp, at(CLIENT), looks), Some(State::Unanswered));
    for now in (0..=300).step_by(60) {
        ask_and_answer(&mut t, s(now), at(CLIENT), at("8.8.8.8:53"));
        back(&mut t, s(now), &from_port(1_000, alternative));
    }
    // Its time is over. The next packet from there opens another one.
    events(&mut t);
    back(&mut t, s(302), &from_port(1_000, alternative));
    let told = events(&mut t);
    assert!(matches!(told[..], [Event::Closed { why: Closed::Expired, .. }, Event::Opened(_)]), "{told:?}");
    // The client sends: both sides have been heard, and it lasts.
    there(&mut t, s(303), &udp(at(CLIENT), looks, b"ack"));
    assert_eq!(state(&t, Protocol::Udp, at(CLIENT), looks), Some(State::Answered));
    for now in (400..2_000).step_by(200) {
        back(&mut t, s(now), &from_port(1_000, alternative));
        ask_and_answer(&mut t, s(now), at(CLIENT), at("8.8.8.8:53"));
    }
    assert_eq!(events(&mut t), []);
    // And other ports of the server do not drive it out.
    for port in 2_000..2_100 {
        back(&mut t, s(1_900), &from_port(port, alternative));
    }
    assert_eq!(state(&t, Protocol::Udp, at(CLIENT), looks), Some(State::Answered));
}

/// Four ports that the client has not answered yet are kept apart: a request that was repeated, and that the server has
/// answered from several ports (RFC 1350, section 4), goes on with the one that the client chooses.
#[test]
fn a_client_can_choose_among_four_ports() {
    let (mut t, alternative) = one_victim(config());
    for port in 1_000..1_004 {
        back(&mut t, s(0), &from_port(port, alternative));
    }
    for port in 1_000..1_004 {
        let ack = there(&mut t, s(1), &udp(at(CLIENT), SocketAddrV4::new(ip("8.8.8.8"), port), b"ack"));
        assert_eq!(ends(&ack).0, alternative);
    }
    assert_eq!((t.connections().count(), t.counters().evicted), (5, 0));
}

/// The same after re-diverts: what waits at the old server counts too.
#[test]
fn four_wait_also_after_a_redivert() {
    let mut t = Translator::new(config(), Heap::new(1_024, 16)).unwrap();
    let server = |n: u8| SocketAddrV4::new([20, 0, 0, n].into(), 69);
    t.divert(Divert::new(at(ORIGINAL)).to(server(1)).replies_from_any_port()).unwrap();
    for n in 1..6 {
        let (alternative, at_server) = ask_and_answer(&mut t, s(n.into()), at(CLIENT), at(ORIGINAL));
        assert_eq!(at_server, server(n));
        for port in 1_000..1_004 {
            back(
                &mut t,
                s(n.into()),
                &udp(SocketAddrV4::new(*server(n).ip(), port + 10 * u16::from(n)), alternative, b""),
            );
        }
        let waiting = t.connections().filter(|c| c.state == State::Unanswered).count();
        assert_eq!(waiting, 4, "at server {n}");
        t.redivert(server(n), server(n + 1), Redivert::Switch).unwrap();
    }
}

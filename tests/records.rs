//! Connections as bytes: snapshot and restore, and portions on two machines.

mod support;

use byway::{Divert, Heap, Imported, Protocol, RecordError, Redivert, Translator, Verdict};
use support::talk::*;
use support::*;

/// What the other portion moved stays what it was: counted where it is, and open to replies from any port.
#[test]
fn a_connection_that_a_record_moves_is_counted_and_keeps_its_siblings() {
    let rule = || Divert::new(at(ORIGINAL)).to(at("9.9.9.9:69")).replies_from_any_port();
    let (mut one, mut two) = (translator(config()), translator(config()));
    one.divert(rule()).unwrap();
    two.divert(rule()).unwrap();
    let (alternative, _) = ask(&mut one, s(0), at(CLIENT), at(ORIGINAL));
    let record = |t: &Translator<Heap>| t.record(&connection(t, Protocol::Udp)).unwrap();
    assert_eq!(two.import(s(0), &record(&one)), Ok(Imported::New));
    one.redivert(at("9.9.9.9:69"), at(SERVER), Redivert::Switch).unwrap();
    ask(&mut one, s(1), at(CLIENT), at(ORIGINAL));
    two.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).replies_from_any_port()).unwrap();
    assert_eq!(two.connections_on(at("9.9.9.9:69")), 1);
    assert_eq!(two.import(s(1), &record(&one)), Ok(Imported::Updated));
    assert_eq!((two.connections_on(at("9.9.9.9:69")), two.connections_on(at(SERVER))), (0, 1));
    let sibling = back(&mut two, s(1), &udp(at("123.45.67.89:5000"), alternative, b""));
    assert_eq!(ends(&sibling), (at("100.100.100.100:5000"), at(CLIENT)));
}

/// A record of a connection that loses its life in catching up with a re-divert.
#[test]
fn a_record_of_a_connection_that_is_stranded_changes_nothing_more() {
    let config = || byway::Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_000);
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    t.divert(Divert::new(at("100.100.100.101:80")).to(at(OTHER))).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    ask(&mut t, s(0), at(CLIENT), at("100.100.100.101:80"));
    let record = t.record(&connection(&t, Protocol::Udp)).unwrap();
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    assert_eq!(t.import(s(1), &record), Err(RecordError::AlternativeTaken));
    assert_eq!((t.counters().stranded, t.slots_in_use(), t.connections().count()), (1, 1, 1));
    let lost = udp(at(SERVER), at("10.10.10.10:2000"), b"");
    assert!(matches!(verdict(&mut t, s(2), &lost), Verdict::Drop(_)));
    // The slot is as good as new.
    assert_eq!(t.import(s(2), &record), Ok(Imported::New));
    assert_eq!(ends(&back(&mut t, s(2), &lost)), (at(ORIGINAL), at(CLIENT)));
}

/// A connection whose time-out has passed is in nobody's way.
#[test]
fn a_dead_connection_gives_its_endpoint_to_a_record() {
    let one_port = || byway::Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_000);
    let mut other = diverting(one_port());
    ask(&mut other, s(1_000), client(5), at(ORIGINAL));
    let record = other.records().next().unwrap();
    let mut t = diverting(one_port());
    for number in 0..4 {
        // Enough that sweeping two of them by the way does not find it.
        t.divert(
            Divert::new(core::net::SocketAddrV4::new(client(900 + number).ip().to_owned(), 80))
                .to(client(800 + number)),
        )
        .unwrap();
        ask(&mut t, s(0), client(1), core::net::SocketAddrV4::new(client(900 + number).ip().to_owned(), 80));
    }
    ask(&mut t, s(0), client(1), at(ORIGINAL));
    assert_eq!(t.import(s(299), &record), Err(RecordError::AlternativeTaken));
    assert_eq!(t.import(s(1_000), &record), Ok(Imported::New));
}

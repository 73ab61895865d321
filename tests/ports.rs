//! Which alternative ports connections get: RFC 6056, RFC 4787 REQ-3, RFC 6888 REQ-8.

mod support;

use byway::{Config, Divert, DropReason, Prefix, Protocol, State, Verdict};
use support::talk::*;
use support::*;

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
    // Somebody else has to wait for it: 120 s from when its end was found out about.
    let stranger = udp(client(9), at(ORIGINAL), b"");
    assert_eq!(verdict(&mut t, s(1_000), &stranger), Verdict::Drop(DropReason::NoPort));
    assert_eq!(verdict(&mut t, s(1_119), &stranger), Verdict::Drop(DropReason::NoPort));
    assert_eq!(verdict(&mut t, s(1_121), &stranger), Verdict::ToServer);
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
    assert_eq!(state(&t, Protocol::Udp, at(CLIENT), at("100.100.100.100:2000")), Some(State::Answered));
    assert_eq!(t.connections().count(), 2);
}

//! Faults that the naive model and the fuzzers found, one test each.

mod support;

use core::net::SocketAddrV4;

use byway::{
    Config, Divert, DropReason, Heap, Imported, PortChoice, Protocol, Record, Redivert, State, Target, Translator,
    Verdict,
};
use support::*;

const CLIENT: &str = "1.2.3.4:3456";
const ORIGINAL: &str = "100.100.100.100:80";

fn targets(t: &Translator<Heap>, original: SocketAddrV4) -> Vec<Target> {
    t.find_divert(original).unwrap().servers().map(|(w, _)| w.target).collect()
}

/// for those that are there.
#[test]
fn an_address_that_is_exchanged_keeps_the_port_of_the_rule() {
    for how in [Redivert::Switch, Redivert::Drain] {
        let mut t = translator(config());
        t.divert(Divert::new(at(ORIGINAL)).to(at("123.45.67.89:8080"))).unwrap();
        t.redivert(ip("123.45.67.89"), ip("123.45.67.90"), how).unwrap();
        assert_eq!(targets(&t, at(ORIGINAL)), [Target::Endpoint(at("123.45.67.90:8080"))]);
        let sent = there(&mut t, s(0), &udp(at(CLIENT), at(ORIGINAL), b""));
        assert_eq!(ends(&sent).1, at("123.45.67.90:8080"));
        assert_eq!(t.connections_on(at("123.45.67.90:8080")), 1);
    }
}

/// `PortChoice` says that every choice falls back to a port of the whole range.
#[test]
fn a_client_of_a_low_port_gets_a_high_one_when_no_low_one_is_free() {
    let config = Config::new([7; 32]).alternative(ip("10.10.10.10"), 1023..=1030).port_choice(PortChoice::SameRange);
    let mut t = translator(config);
    t.divert(Divert::new(at(ORIGINAL)).to(at("123.45.67.89:80"))).unwrap();
    for port in 1..=2 {
        let sent = there(&mut t, s(0), &udp(SocketAddrV4::new(ip("1.2.3.4"), port), at(ORIGINAL), b""));
        assert_eq!(ends(&sent).0.port() == 1023, port == 1);
    }
}

/// An echo has no port, also on its way over several servers: a re-divert of one port does not catch it.
#[test]
fn an_echo_that_follows_two_re_diverts_has_no_port_in_between() {
    for prompt in [true, false] {
        let mut t = translator(config());
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
        let ping = echo(8, ip("1.2.3.4"), ip("100.100.100.100"), 7, b"");
        let _ = there(&mut t, s(0), &ping);
        t.redivert(ip("123.45.67.89"), at("123.45.67.90:80"), Redivert::Switch).unwrap();
        if prompt {
            t.poll(s(0));
        }
        t.redivert(at("123.45.67.90:80"), ip("123.45.67.91"), Redivert::Switch).unwrap();
        let sent = there(&mut t, s(0), &ping);
        assert_eq!(address(&sent, 16), ip("123.45.67.90"), "prompt: {prompt}");
    }
}

/// A client's SYN begins anew in TIME-WAIT; its SYN+ACK begins nothing, and ends nothing either.
#[test]
fn a_syn_ack_does_not_end_a_time_wait() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at("123.45.67.89:80"))).unwrap();
    let sent = there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 100, 0), b""));
    let (alternative, server) = ends(&sent);
    let _ = back(&mut t, s(0), &tcp(server, alternative, (RST | ACK, 0, 101), b""));
    let state = |t: &Translator<Heap>| t.connection(Protocol::Tcp, at(CLIENT), at(ORIGINAL)).map(|(c, _)| c.state);
    assert_eq!(state(&t), Some(State::TimeWait));
    let _ = there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN | ACK, 100, 1), b""));
    assert_eq!(state(&t), Some(State::TimeWait));
    let _ = there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 900, 0), b""));
    assert_eq!(state(&t), Some(State::Opening));
}

fn record(t: &Translator<Heap>) -> Record {
    t.records().next().unwrap()
}

/// A record that says that the source is kept makes the way back known under the client's address.
#[test]
fn a_record_that_keeps_the_source_is_found_from_both_sides() {
    let rule = Divert::new(at(ORIGINAL)).to(at("123.45.67.89:80"));
    let (mut from, mut to) = (translator(config()), translator(config()));
    from.divert(rule.keep_source()).unwrap();
    to.divert(rule).unwrap();
    let question = udp(at(CLIENT), at(ORIGINAL), b"");
    let _ = there(&mut from, s(0), &question);
    let _ = there(&mut to, s(0), &question);
    let known = record(&to);
    assert_eq!(to.import(s(0), &record(&from)), Ok(Imported::Updated));
    let sent = there(&mut to, s(0), &question);
    assert_eq!(ends(&sent), (at(CLIENT), at("123.45.67.89:80")));
    let _ = back(&mut to, s(0), &udp(at("123.45.67.89:80"), at(CLIENT), b""));
    // And the other way round.
    assert_eq!(to.import(s(0), &known), Ok(Imported::Updated));
    let sent = there(&mut to, s(0), &question);
    assert_eq!(*ends(&sent).0.ip(), ip("10.10.10.10"));
    let _ = back(&mut to, s(0), &udp(at("123.45.67.89:80"), ends(&sent).0, b""));
}

/// Hardware that computes the checksums of IPv4, TCP and UDP knows nothing of ICMP.
#[test]
fn an_echo_has_its_checksum_also_where_the_hardware_does_the_others() {
    let mut t = translator(config().checksums(byway::Checksums::Hardware));
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    let sent = there(&mut t, s(0), &echo(8, ip("1.2.3.4"), ip("100.100.100.100"), 7, b"ping"));
    assert!(checksums(&sent).transport);
    assert_ne!(sent[24..26], [0, 7]);
}

/// The connections of a rule that is removed go on, also those of a port forward.
#[test]
fn a_forwarded_connection_outlives_its_rule() {
    let mut t = translator(config());
    let (forwarded, server) = (at("10.10.10.10:8080"), at("192.168.1.9:80"));
    t.divert(Divert::new(forwarded).to(server)).unwrap();
    let sent = there(&mut t, s(0), &udp(at(CLIENT), forwarded, b""));
    t.remove(forwarded).unwrap();
    let again = there(&mut t, s(1), &udp(at(CLIENT), forwarded, b""));
    assert_eq!(ends(&again), ends(&sent));
    let _ = back(&mut t, s(1), &udp(server, ends(&sent).0, b""));
}

/// One of our own addresses has no other server to masquerade to.
#[test]
fn an_own_address_is_not_masqueraded_to_itself() {
    let mut t = translator(config());
    let rule = Divert::new(at("10.10.10.10:8080"));
    assert_eq!(t.divert(rule), Err(byway::DivertError::OwnTarget { target: Target::Same }));
}

/// An ICMP error about what was sent to the old server is an old one, also if the new server has the same address.
#[test]
fn an_error_about_the_old_port_is_dropped() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at("123.45.67.89:69"))).unwrap();
    let sent = there(&mut t, s(0), &udp(at(CLIENT), at(ORIGINAL), b""));
    t.redivert(at("123.45.67.89:69"), at("123.45.67.89:8080"), Redivert::Switch).unwrap();
    let error = icmp_error(3, 3, ip("123.45.67.89"), &sent, 28);
    assert_eq!(run(&mut t, s(0), &error).0, Verdict::Drop(DropReason::OldServer));
}

/// The first number that an end of an adopted connection acknowledges is believed, however high it is.
#[test]
fn an_adopted_connection_learns_high_numbers() {
    // Measurements would take the segments the long way.
    let mut t = Translator::new(config().midstream(byway::Midstream::Adopt), Heap::new(16, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at("123.45.67.89:80"))).unwrap();
    let sent = there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (ACK, 0x9000_0000, 500), b""));
    let (near, far) = ends(&sent);
    let _ = back(&mut t, s(0), &tcp(far, near, (ACK, 500, 0x9000_0000), b""));
    let _ = there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (RST, 0x9000_0000, 0), b""));
    assert_eq!(t.counters().reset, 1);
}

/// A record of a connection with other addresses on the server's side, as another portion may have moved it.
fn moved(t: &Translator<Heap>, client: SocketAddrV4, kept: bool, alternative: SocketAddrV4) -> Record {
    let connection = t.connection(Protocol::Udp, client, at(ORIGINAL)).unwrap().0;
    let mut bytes = *t.record(&connection).unwrap().as_bytes();
    bytes[5] = u8::from(kept);
    bytes[20..24].copy_from_slice(&alternative.ip().octets());
    bytes[24..26].copy_from_slice(&alternative.port().to_be_bytes());
    let sum = crc(&bytes[..52]);
    bytes[52..].copy_from_slice(&sum.to_be_bytes());
    Record::from_bytes(&bytes).unwrap()
}

/// The endpoint that a record gives a connection is taken from one that is dead: its neighbour in the list of those that
/// will expire. All of them expire all the same.
#[test]
fn a_record_that_moves_a_connection_leaves_the_age_lists_whole() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at("123.45.67.89:80"))).unwrap();
    let clients = ["1.2.3.1:1", "1.2.3.2:1", "1.2.3.3:1", "1.2.3.4:1"].map(at);
    let mut alternatives = [0, 200, 200, 200]
        .into_iter()
        .zip(clients)
        .map(|(second, client)| ends(&there(&mut t, s(second), &udp(client, at(ORIGINAL), b""))).0);
    let dead = alternatives.next().unwrap();
    assert_eq!(alternatives.count(), 3);
    for client in &clients[1..] {
        let record = moved(&t, *client, false, dead);
        let done = t.import(s(302), &record);
        assert!(done == Ok(Imported::Updated) || *client != clients[1], "{done:?}");
    }
    for second in 303..1_000 {
        t.poll(s(second));
    }
    assert_eq!((t.slots_in_use(), t.counters().expired), (0, 4));
}

/// A record says that a connection keeps its source, and this portion did not know: a fragment of an answer that comes
/// before the first one is held, and does not pass with the server's address on it.
#[test]
fn a_client_that_a_record_says_keeps_its_source_is_known_by_its_address() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at("123.45.67.89:80"))).unwrap();
    there(&mut t, s(0), &udp(at(CLIENT), at(ORIGINAL), b""));
    let record = moved(&t, at(CLIENT), true, at(CLIENT));
    assert_eq!(t.import(s(0), &record), Ok(Imported::Updated));
    let answer = udp(at("123.45.67.89:80"), at(CLIENT), &[7; 100]);
    let pieces = talk::fragments(&answer, 9, 48);
    assert_eq!(run(&mut t, s(0), &pieces[1]).0, Verdict::Hold);
    assert_eq!(run(&mut t, s(0), &pieces[0]).0, Verdict::ToClient);
    assert_eq!(run(&mut t, s(0), &pieces[1]).0, Verdict::ToClient);
}

/// A connection that begins anew after a re-divert to another port of its server takes what other ports of that send,
/// although its former endpoint, on the old port, is still held.
#[test]
fn replies_from_any_port_find_a_connection_that_has_lived_before() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(ip("123.45.67.89")).keep_source().replies_from_any_port()).unwrap();
    let request = udp(at(CLIENT), at(ORIGINAL), b"");
    let _ = there(&mut t, s(0), &request);
    t.redivert(ip("123.45.67.89"), at("123.45.67.89:53"), Redivert::Switch).unwrap();
    let sent = there(&mut t, s(301), &request);
    assert_eq!(ends(&sent).1, at("123.45.67.89:53"));
    let answer = back(&mut t, s(301), &udp(at("123.45.67.89:69"), at(CLIENT), b""));
    assert_eq!(ends(&answer), (at("100.100.100.100:69"), at(CLIENT)));
}

/// What the server sends from the port to which a re-divert has brought its connection belongs to that, even if nothing
/// else has told the connection of the re-divert yet.
#[test]
fn replies_from_any_port_may_come_from_the_port_that_a_re_divert_names() {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89")).keep_source().replies_from_any_port()).unwrap();
    let [tftp, client] = [at("100.100.100.100:69"), at(CLIENT)];
    for port in [8080, 69] {
        let server = SocketAddrV4::new(ip("123.45.67.89"), port);
        let _ = there(&mut t, s(0), &udp(client, tftp, b""));
        t.redivert(ip("123.45.67.89"), server, Redivert::Switch).unwrap();
        let answer = back(&mut t, s(0), &udp(server, client, b""));
        assert_eq!(ends(&answer), (tftp, client));
        assert_eq!(t.connections().count(), 1);
    }
}

/// A connection that takes replies from any port may get another alternative port by a re-divert, where one of those
/// replies has its own: what then comes to the former port is not its own any more, and is not translated as if it were.
#[test]
fn replies_from_any_port_do_not_follow_to_another_alternative_port() {
    let mut t = translator(config());
    t.divert(Divert::new(at("100.100.100.100:69")).to(ip("123.45.67.89")).replies_from_any_port()).unwrap();
    let sent = there(&mut t, s(0), &udp(at(CLIENT), at("100.100.100.100:69"), b""));
    let alternative = ends(&sent).0;
    let _ = back(&mut t, s(0), &udp(at("123.45.67.89:8080"), alternative, b""));
    t.redivert(at("123.45.67.89:69"), at("123.45.67.89:8080"), Redivert::Switch).unwrap();
    for _ in 0..2 {
        let (verdict, _) = run(&mut t, s(0), &udp(at("123.45.67.89:80"), alternative, b"from elsewhere"));
        assert_eq!(verdict, Verdict::Drop(DropReason::NoConnection));
    }
    assert_eq!(t.connections().count(), 2);
    let sent = there(&mut t, s(0), &udp(at(CLIENT), at("100.100.100.100:69"), b""));
    assert_ne!(ends(&sent).0, alternative);
}

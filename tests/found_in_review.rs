//! What a review of the whole core found, a test for each fault.

mod support;

use byway::{Checksums, Config, Divert, Protocol, Record, Redivert, State, Target, Verdict, Weighted};
use support::talk::*;
use support::*;

/// RFC 9293, section 3.6.1, and RFC 5382, REQ-5: the last ACK of the old connection was lost; the client begins anew on
/// its port and the server agrees. The new connection is established, not closing.
#[test]
fn a_fresh_connection_on_the_port_of_a_closing_one_is_established() {
    let mut t = diverting(config());
    let (c, o) = (at(CLIENT), at(ORIGINAL));
    let (alt, srv) = connect(&mut t, s(0), c, o);
    there(&mut t, s(1), &tcp(c, o, (FIN | ACK, 1_001, 5_001), b""));
    back(&mut t, s(1), &tcp(srv, alt, (FIN | ACK, 5_001, 1_002), b""));
    assert_eq!(tcp_state(&t), Some(State::Closing));
    let (alt, srv) = ends(&there(&mut t, s(60), &tcp(c, o, (SYN, 900_000, 0), b"")));
    back(&mut t, s(60), &tcp(srv, alt, (SYN | ACK, 700_000, 900_001), b""));
    there(&mut t, s(60), &tcp(c, o, (ACK, 900_001, 700_001), b""));
    assert_eq!(tcp_state(&t), Some(State::Established));
}

/// The server was restarted and knows nothing; the client begins anew on the same port. A RST of ours afterwards has the
/// new connection's numbers.
#[test]
fn a_reset_after_a_fresh_start_has_the_numbers_of_the_new_connection() {
    let mut t = diverting(config());
    let (c, o) = (at(CLIENT), at(ORIGINAL));
    let start = 0x7000_0000;
    let (alt, srv) = ends(&there(&mut t, s(0), &tcp(c, o, (SYN, start, 0), b"")));
    back(&mut t, s(0), &tcp(srv, alt, (SYN | ACK, start, start + 1), b""));
    there(&mut t, s(0), &tcp(c, o, (ACK, start + 1, start + 1), b""));
    there(&mut t, s(60), &tcp(c, o, (SYN, 1_000, 0), b""));
    back(&mut t, s(60), &tcp(srv, alt, (SYN | ACK, 5_000, 1_001), b""));
    there(&mut t, s(60), &tcp(c, o, (ACK, 1_001, 5_001), b""));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    let said = say(&mut t, s(61));
    let numbers: Vec<(u8, u32)> = said.iter().map(|p| (segment(p).0, segment(p).1)).collect();
    assert_eq!(numbers, [(RST | ACK, 5_001), (RST | ACK, 1_001)]);
}

/// RFC 5961: one forged segment without data, from somebody who knows the addresses and no number, must not spoil what
/// the table knows: the RSTs of a re-divert still have the exact numbers.
#[test]
fn an_acknowledgement_of_what_was_never_sent_is_not_believed() {
    let mut t = diverting(config());
    let (alt, srv) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    back(&mut t, s(1), &tcp(srv, alt, (ACK, 0x3333_3333, 0x4444_4444), b""));
    there(&mut t, s(2), &tcp(at(CLIENT), at(ORIGINAL), (ACK, 1_001, 5_001), b"real"));
    back(&mut t, s(2), &tcp(srv, alt, (ACK, 5_001, 1_005), b""));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    let said = say(&mut t, s(3));
    assert_eq!(segment(&said[1]).1, 1_005, "the server expects another number");
}

/// The same, as an attack: two forged segments, and no number known, do nothing to a connection.
#[test]
fn a_forged_acknowledgement_does_not_make_a_forged_reset_exact() {
    let mut t = diverting(config());
    let (alt, srv) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, 0x3333_3333, 0x4444_4444), b""));
    back(&mut t, s(1), &tcp(srv, alt, (RST, 0x4444_4444, 0), b""));
    assert_eq!(tcp_state(&t), Some(State::Established));
}

/// A SYN+ACK that does not acknowledge the SYN is not the server's.
#[test]
fn a_forged_syn_ack_does_not_end_an_opening_connection() {
    let mut t = diverting(config());
    let (alt, srv) = ends(&there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 1_000, 0), b"")));
    back(&mut t, s(0), &tcp(srv, alt, (SYN | ACK, 77, 0x4444_4444), b""));
    // RFC 9293, section 3.10.7.3: the client refuses it with its number.
    there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (RST, 0x4444_4444, 0), b""));
    back(&mut t, s(0), &tcp(srv, alt, (SYN | ACK, 5_000, 1_001), b""));
    there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (ACK, 1_001, 5_001), b""));
    assert_eq!(tcp_state(&t), Some(State::Established));
}

/// A record that was written before a re-divert and comes after it must not undo it.
#[test]
fn an_old_record_does_not_undo_a_redivert() {
    let mut t = diverting(config());
    ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let record = t.record(&connection(&t, Protocol::Udp)).unwrap();
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    assert_eq!(ask(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at(OTHER));
    let record = Record::from_bytes(record.as_bytes()).unwrap();
    let _ = t.import(s(1), &record);
    assert_eq!(ask(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at(OTHER));
}

/// Two ranges of ports of one address, as somebody sets them who leaves out the ports of his own services.
#[test]
fn two_ranges_of_ports_of_one_address_survive_a_restart() {
    let both =
        || Config::new([1; 32]).alternative(ip(ALTERNATIVE), 1024..=1033).alternative(ip(ALTERNATIVE), 5000..=5009);
    let mut t = diverting(both());
    for n in 0..15 {
        ask(&mut t, s(0), client(n), at(ORIGINAL));
    }
    let mut after = diverting(both());
    let outcomes: Vec<_> = t.records().map(|r| after.import(s(0), &r).map(|_| ())).collect();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    // And a stray packet to either range is an answer to nobody.
    for port in [1030, 5009] {
        let stray = udp(at("9.9.9.9:9"), core::net::SocketAddrV4::new(ip(ALTERNATIVE), port), b"");
        assert!(matches!(verdict(&mut after, s(0), &stray), Verdict::Drop(_)), "port {port}");
    }
}

/// RFC 1812, section 5.3.7: an ICMP error from a source that no packet may come from, or from our own address.
#[test]
fn an_icmp_error_from_a_martian_or_from_ourselves_is_dropped() {
    let mut t = diverting(config());
    let arrived = there(&mut t, s(0), &udp(at(CLIENT), at(ORIGINAL), b"question"));
    for source in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", ALTERNATIVE] {
        let error = icmp_error(3, 1, ip(source), &arrived, 28);
        assert!(matches!(verdict(&mut t, s(0), &error), Verdict::Drop(_)), "from {source}");
    }
}

/// Contract 1, the other way round: what is not changed is not said to be translated.
#[test]
fn what_does_not_change_passes() {
    let mut t = translator(config());
    let group = [Weighted::new(Target::Same, 1), Weighted::new(at(SERVER), 1)];
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group).keep_source()).unwrap();
    for n in 0..20 {
        let packet = udp(client(n), at(ORIGINAL), b"x");
        let (verdict, after) = run(&mut t, s(0), &packet);
        assert_eq!(after != packet, verdict == Verdict::ToServer, "client {n}");
    }
}

/// The same by a re-divert home: `divert` refuses a rule to itself, `redivert` makes one.
#[test]
fn a_redivert_to_the_original_leaves_nothing_to_translate() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).keep_source()).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    if t.redivert(at(SERVER), at(ORIGINAL), Redivert::Switch).is_ok() {
        let packet = udp(at(CLIENT), at(ORIGINAL), b"x");
        let (verdict, after) = run(&mut t, s(1), &packet);
        assert_eq!(after != packet, verdict == Verdict::ToServer);
    }
}

/// Who never fetches RSTs loses them, and nothing else: the sweep ends, and re-diverts are not refused for ever.
#[test]
fn resets_that_nobody_fetches_do_not_stop_the_sweep() {
    let mut t = diverting(config());
    for n in 0..10 {
        connect(&mut t, s(0), client(n), at(ORIGINAL));
    }
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    for second in 1..=300 {
        t.poll(s(second));
    }
    assert_ne!(t.poll_at(), Some(s(300)), "poll_at says at once, for ever");
}

/// Fragments of an answer to a client that keeps its address, the last one first: it must be held, not passed with the
/// server's address on it.
#[test]
fn a_later_fragment_towards_a_client_that_keeps_its_address_is_held() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).keep_source()).unwrap();
    there(&mut t, s(0), &udp(at(CLIENT), at(ORIGINAL), b"question"));
    let answer = udp(at(SERVER), at(CLIENT), &[7; 100]);
    let pieces = fragments(&answer, 9, 48);
    assert_eq!(verdict(&mut t, s(0), &pieces[1]), Verdict::Hold);
}

/// With `Checksums::Hardware` no hardware can compute the transport checksum of a datagram that leaves in fragments.
#[test]
fn fragments_have_a_right_checksum_whoever_computes_the_others() {
    let mut t = diverting(config().checksums(Checksums::Hardware));
    let sent = udp(at(CLIENT), at(ORIGINAL), &[7; 100]);
    let arrived: Vec<Vec<u8>> = fragments(&sent, 9, 48).iter().map(|f| there(&mut t, s(0), f)).collect();
    assert!(checksums(&reassemble(&arrived)).transport);
}

/// An end counts once, whoever tells of it: what is told to have opened is told to have closed.
#[test]
fn a_record_of_a_connection_that_is_over_is_told_to_be_over() {
    let mut before = diverting(config());
    let (alt, srv) = connect(&mut before, s(0), at(CLIENT), at(ORIGINAL));
    back(&mut before, s(1), &tcp(srv, alt, (RST, SERVER_START + 1, 0), b""));
    assert_eq!(tcp_state(&before), Some(State::TimeWait));
    let mut after = diverting(config());
    for record in before.records() {
        after.import(s(1), &record).unwrap();
    }
    for second in 0..200 {
        after.poll(s(second));
    }
    assert_eq!(after.slots_in_use(), 0);
    let told = events(&mut after);
    let opened = told.iter().filter(|e| matches!(e, byway::Event::Opened(_))).count();
    let closed = told.iter().filter(|e| matches!(e, byway::Event::Closed { .. })).count();
    assert_eq!(opened, closed, "{told:?}");
}

/// The server that a record names is checked like the target of a rule (`DivertError::OwnTarget`).
#[test]
fn a_record_whose_server_is_ourselves_is_refused() {
    let config = || config().own(ip("172.16.0.1"));
    let mut other = translator(Config::new([1; 32]).alternative(ip(ALTERNATIVE), 1024..=65535));
    other.divert(Divert::new(at(ORIGINAL)).to(at("172.16.0.1:80"))).unwrap();
    ask(&mut other, s(0), at(CLIENT), at(ORIGINAL));
    let record = other.records().next().unwrap();
    assert!(diverting(config()).import(s(0), &record).is_err());
}

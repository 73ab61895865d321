//! The IPFIX exporter, as a collector that goes by the RFCs understands it.

mod counted;

use core::time::Duration;

use crate::support::*;
use byway::report::{Exporter, MIN_MESSAGE, Settings, SettingsError, Totals};
use byway::{Config, Divert, DropReason, Event, Heap, Instant, Measurements, Redivert, Report, Target, Translator};
use byway_testing::talk::*;
use byway_testing::*;

/// Seconds from 1970 to the translator's zero.
const ZERO: u64 = 1_700_000_000;

const IANA: u32 = 0;
const CONNECTION: u16 = 256;
const SESSION: u16 = 257;
const MOVE: u16 = 258;
const SERVER_TEMPLATE: u16 = 259;
const DROP: u16 = 260;

fn settings() -> Settings {
    Settings::new(OWN).zero(Duration::from_secs(ZERO)).domain(3)
}

fn exporter(length: usize) -> Exporter<Vec<u8>> {
    Exporter::new(settings(), vec![0xaa; length]).unwrap()
}

fn reporting() -> Translator<Heap> {
    let mut t = Translator::new(config(), Heap::new(1_000, 100).events(256).measured_events()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    t
}

/// Everything that is due, as messages.
fn messages(e: &mut Exporter<Vec<u8>>, now: Instant) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(message) = e.poll_transmit(now) {
        all.push(message.to_vec());
        assert!(all.len() < 1_000, "it never ends");
    }
    all
}

/// Gives the exporter all events of a translator; what it sends goes to the collector.
fn pass(t: &mut Translator<Heap>, e: &mut Exporter<Vec<u8>>, now: Instant, c: &mut Collector) -> Vec<Record> {
    let mut all = Vec::new();
    let reports: Vec<Report> = core::iter::from_fn(|| t.poll_report()).collect();
    for report in reports {
        while e.report(now, &report).is_err() {
            let sent = messages(e, now);
            assert!(!sent.is_empty(), "it is full and sends nothing");
            all.extend(sent.iter().flat_map(|m| c.read(m)));
        }
    }
    e.flush();
    all.extend(messages(e, now).iter().flat_map(|m| c.read(m)));
    all
}

fn of(records: &[Record], template: u16) -> Vec<&Record> {
    records.iter().filter(|r| r.template == template).collect()
}

/// One connection from beginning to end: every field of its record, and its two NAT events.
#[test]
fn a_connection_is_one_record_of_both_directions() {
    let (mut t, mut e, mut collector) = (reporting(), exporter(1_472), Collector::default());
    let (client, original) = (at(CLIENT), at(ORIGINAL));
    let ms = Instant::from_millis;
    let seen = there(&mut t, ms(10_000), &tcp(client, original, (SYN, 100, 0), b""));
    let (alternative, server) = ends(&seen);
    back(&mut t, ms(10_030), &tcp(server, alternative, (SYN | ACK, 900, 101), b""));
    there(&mut t, ms(10_035), &tcp(client, original, (ACK, 101, 901), b""));
    there(&mut t, ms(10_040), &tcp(client, original, (ACK, 101, 901), &[1; 50]));
    there(&mut t, ms(10_050), &tcp(client, original, (ACK, 101, 901), &[1; 50])); // again
    back(&mut t, ms(10_060), &tcp(server, alternative, (ACK, 901, 151), &[2; 500]));
    there(&mut t, ms(10_100), &tcp(client, original, (ACK | FIN, 151, 1_401), b""));
    back(&mut t, ms(10_120), &tcp(server, alternative, (ACK | FIN, 1_401, 152), b""));
    there(&mut t, ms(10_125), &tcp(client, original, (ACK, 152, 1_402), b""));
    let records = pass(&mut t, &mut e, s(11), &mut collector);
    let [r] = of(&records, CONNECTION)[..] else { panic!("{records:?}") };

    let iana = |number| (IANA, number);
    assert_eq!((r.number(iana(152)), r.number(iana(153))), (ZERO * 1_000 + 10_000, ZERO * 1_000 + 10_125));
    assert_eq!((r.address(iana(8)), r.number(iana(7))), (*client.ip(), u64::from(client.port())));
    assert_eq!((r.address(iana(12)), r.number(iana(11))), (*original.ip(), 80));
    assert_eq!((r.address(iana(225)), r.number(iana(227))), (*alternative.ip(), u64::from(alternative.port())));
    assert_eq!((r.address(iana(226)), r.number(iana(228))), (*server.ip(), 80));
    assert_eq!((r.number(iana(4)), r.number(iana(239)), r.number(iana(136))), (6, 1, 3));
    assert_eq!((r.number(iana(2)), r.number(iana(1))), (6, 6 * 40 + 100));
    assert_eq!((r.number((REVERSE, 2)), r.number((REVERSE, 1))), (3, 3 * 40 + 500));
    assert_eq!((r.number(iana(25)), r.number(iana(26))), (40, 90));
    assert_eq!((r.number((REVERSE, 25)), r.number((REVERSE, 26))), (40, 540));
    let own = |name| r.number(collector.own(name));
    assert_eq!(own("connectionEndCause"), 1);
    assert_eq!(own("serverHandshakeMicroseconds"), 30_000);
    assert_eq!(own("clientHandshakeMicroseconds"), 5_000);
    // RFC 8912, section 10: the sum of both legs.
    assert_eq!(own("handshakeRoundTripMicroseconds"), 35_000);
    assert_eq!(own("retransmittedSegmentCount"), 1);
    assert_eq!((own("resetSegmentCount"), own("icmpErrorCount")), (0, 0));

    let [create, delete] = of(&records, SESSION)[..] else { panic!("{records:?}") };
    for (n, event, at_ms, cause) in [(create, 4, 10_000, 0), (delete, 5, 10_125, 1)] {
        assert_eq!((n.number(iana(230)), n.number(iana(323))), (event, ZERO * 1_000 + at_ms));
        assert_eq!((n.number(iana(463)), n.number(iana(4))), (3, 6));
        assert_eq!((n.address(iana(8)), n.number(iana(7))), (*client.ip(), u64::from(client.port())));
        assert_eq!((n.address(iana(225)), n.number(iana(227))), (*alternative.ip(), u64::from(alternative.port())));
        assert_eq!((n.address(iana(226)), n.number(iana(228))), (*server.ip(), 80));
        assert_eq!(n.number(collector.own("connectionEndCause")), cause);
    }
    assert_eq!((collector.gaps, &collector.unknown[..]), (0, &[][..]));
}

/// `flowEndReason` and the cause for each kind of end.
#[test]
fn each_end_has_its_reason() {
    let (mut e, mut collector) = (exporter(1_472), Collector::default());
    let mut told = Vec::new();
    let mut ended = |t: &mut Translator<Heap>, now| {
        let records = pass(t, &mut e, now, &mut collector);
        let [r] = of(&records, CONNECTION)[..] else { panic!("{records:?}") };
        let cause = r.number(collector.own("connectionEndCause"));
        told.push((cause, r.number((IANA, 136))));
    };
    let mut t = reporting();
    let (alternative, server) = connect(&mut t, s(1), at(CLIENT), at(ORIGINAL));
    back(&mut t, s(2), &tcp(server, alternative, (RST | ACK, SERVER_START + 1, CLIENT_START + 1), b""));
    ended(&mut t, s(3));
    let mut t = reporting();
    connect(&mut t, s(1), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    t.poll(s(3));
    there_is_nothing_else(&mut t, s(3));
    ended(&mut t, s(3));
    let mut t = reporting();
    ask(&mut t, s(1), at(CLIENT), at(ORIGINAL));
    t.poll(s(10_000));
    ended(&mut t, s(10_000));
    let mut t = reporting();
    ask(&mut t, s(1), at(CLIENT), at(ORIGINAL));
    t.forget();
    t.poll(s(3));
    ended(&mut t, s(3));
    assert_eq!(told, [(2, 3), (3, 4), (1 + 3, 1), (7, 4)]);
}

fn there_is_nothing_else(t: &mut Translator<Heap>, now: Instant) {
    assert_eq!(say(t, now).len(), 2, "a RST for each end");
}

/// A re-divert: old pair, new pair, generation and cause, and for a log of addresses the end of one session and the begin of
/// another.
#[test]
fn a_redivert_is_a_record() {
    let (mut t, mut e, mut collector) = (reporting(), exporter(1_472), Collector::default());
    let (alternative, server) = ask(&mut t, s(10), at(CLIENT), at(ORIGINAL));
    pass(&mut t, &mut e, s(10), &mut collector);
    let generation = t.redivert(server, at(OTHER), Redivert::Switch).unwrap().generation;
    let (after, _) = ask(&mut t, s(11), at(CLIENT), at(ORIGINAL));
    let records = pass(&mut t, &mut e, s(12), &mut collector);
    let [m] = of(&records, MOVE)[..] else { panic!("{records:?}") };
    let own = |name| collector.own(name);
    assert_eq!(m.number((IANA, 323)), ZERO * 1_000 + 11_000);
    assert_eq!((m.address((IANA, 8)), m.address((IANA, 12))), (*at(CLIENT).ip(), *at(ORIGINAL).ip()));
    assert_eq!((m.address((IANA, 225)), m.number((IANA, 227))), (*after.ip(), u64::from(after.port())));
    assert_eq!((m.address((IANA, 226)), m.number((IANA, 228))), (*at(OTHER).ip(), 80));
    assert_eq!(m.address(own("previousAlternativeIPv4Address")), *alternative.ip());
    assert_eq!(m.number(own("previousAlternativeTransportPort")), u64::from(alternative.port()));
    assert_eq!(m.address(own("previousServerIPv4Address")), *server.ip());
    assert_eq!(m.number(own("previousServerTransportPort")), 80);
    assert_eq!(m.number(own("redivertGeneration")), u64::from(generation));
    assert_eq!(m.number(own("redivertCause")), 1);
    let events: Vec<_> =
        of(&records, SESSION).iter().map(|n| (n.number((IANA, 230)), n.address((IANA, 226)))).collect();
    assert_eq!(events, [(5, *server.ip()), (4, *at(OTHER).ip())]);
}

#[test]
fn nat_events_can_be_left_out() {
    let (mut t, mut collector) = (reporting(), Collector::default());
    let mut e = Exporter::new(settings().nat_events(false), vec![0; 1_472]).unwrap();
    ask(&mut t, s(10), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    ask(&mut t, s(11), at(CLIENT), at(ORIGINAL));
    t.poll(s(10_000));
    let records = pass(&mut t, &mut e, s(10_000), &mut collector);
    let kinds: Vec<u16> = records.iter().map(|r| r.template).filter(|t| *t < 260).collect();
    assert_eq!(kinds, [MOVE, CONNECTION]);
}

/// Every element of ours that a template uses is described, with the type that the template gives it.
#[test]
fn type_records_describe_what_templates_use() {
    let (mut e, mut collector) = (exporter(1_472), Collector::default());
    let all = messages(&mut e, s(1));
    let records: Vec<Record> = all.iter().flat_map(|m| collector.read(m)).collect();
    assert_eq!(records.len() as u64, e.types());
    let mut described = std::collections::HashMap::new();
    for r in &records {
        assert_eq!(r.number((IANA, 346)), u64::from(OWN));
        // IANA registers nothing longer, RFC 5610 defines data types 0 to 22, semantics 0 to 6 and units 0 to 15.
        assert!(r.number((IANA, 339)) <= 22 && r.number((IANA, 344)) <= 6 && r.number((IANA, 345)) <= 15);
        assert!(!r.text((IANA, 340)).is_empty());
        described.insert(r.number((IANA, 303)) as u16, r.number((IANA, 339)));
    }
    for (number, length) in collector.lengths(OWN) {
        let bytes = match described[&number] {
            1 => 1,
            2 => 2,
            3 | 18 => 4,
            4 => 8,
            0 | 13 => 65_535,
            other => panic!("data type {other}"),
        };
        assert_eq!(bytes, length, "element {number}");
    }
}

/// No message is longer than the buffer, no record is split, and the sequence number counts records.
#[test]
fn messages_keep_to_their_length() {
    for length in [512, 513, 548, 700, 1_472, 9_000, 65_535, 70_000] {
        let (mut t, mut e, mut collector) = (reporting(), exporter(length), Collector::default());
        let mut longest = 0;
        for n in 0..300 {
            ask(&mut t, s(10), client(n), at(ORIGINAL));
        }
        t.poll(s(10_000));
        let mut sent = Vec::new();
        while let Some(report) = t.poll_report() {
            while e.report(s(10_000), &report).is_err() {
                sent.extend(messages(&mut e, s(10_000)));
            }
        }
        e.flush();
        sent.extend(messages(&mut e, s(10_000)));
        let mut records = 0;
        for message in &sent {
            longest = longest.max(message.len());
            records += collector.read(message).len();
        }
        assert!(longest <= length.min(65_535) && longest > length.min(9_000) - 400, "{longest} of {length}");
        assert_eq!((collector.gaps, collector.unknown.len()), (0, 0));
        assert_eq!(e.statistics().records, records as u64);
        assert_eq!(e.statistics().messages, sent.len() as u64);
        assert_eq!(e.statistics().bytes, sent.iter().map(Vec::len).sum::<usize>() as u64);
        // 256 events of 300 openings and ends have found room.
        assert_eq!(records as u64 - e.types(), 256);
    }
    assert_eq!(
        Exporter::new(settings(), vec![0; MIN_MESSAGE - 1]).map(drop),
        Err(SettingsError::Buffer { length: MIN_MESSAGE - 1 })
    );
    for value in [0, REVERSE] {
        let refused = Exporter::new(Settings::new(value), vec![0; 600]).map(drop);
        assert_eq!(refused, Err(SettingsError::Enterprise { value }));
    }
}

/// A record waits for others, but not longer than it may.
#[test]
fn a_record_waits_for_others_and_not_for_ever() {
    let (mut t, mut e, mut collector) = (reporting(), exporter(1_472), Collector::default());
    assert_eq!(e.poll_at(), Some(Instant::ZERO), "templates are due");
    messages(&mut e, s(10)).iter().for_each(|m| drop(collector.read(m)));
    assert_eq!(e.poll_at(), None);
    ask(&mut t, s(10), at(CLIENT), at(ORIGINAL));
    let report = t.poll_report().unwrap();
    e.report(s(10), &report).unwrap();
    let due = Instant::from_millis(10_500);
    assert_eq!(e.poll_at(), Some(due));
    assert_eq!(e.poll_transmit(Instant::from_millis(10_499)), None);
    let message = e.poll_transmit(due).expect("it is due").to_vec();
    assert_eq!(collector.read(&message).len(), 1);
    assert_eq!((e.poll_at(), e.poll_transmit(s(11))), (None, None));
}

/// A collector that is started in mid-stream understands everything after the next templates; over TCP they come once.
#[test]
fn templates_come_again() {
    let (mut t, mut e) = (reporting(), exporter(1_472));
    let (mut first, mut late) = (Collector::default(), Collector::default());
    pass(&mut t, &mut e, s(10), &mut first);
    let mut understood = 0;
    for second in 11..=80 {
        ask(&mut t, s(second), client(second as u32), at(ORIGINAL));
        let report = t.poll_report().unwrap();
        e.report(s(second), &report).unwrap();
        for message in messages(&mut e, Instant::from_millis(second * 1_000 + 600)) {
            first.read(&message);
            understood += late.read(&message).len() as u64;
        }
    }
    assert_eq!((first.gaps, first.unknown.len()), (0, 0));
    assert_eq!(late.unknown.len(), 60, "what came before the templates");
    assert_eq!((late.names.len() as u64, understood), (e.types(), e.types() + 10));

    let mut e = Exporter::new(settings().templates(None), vec![0; 1_472]).unwrap();
    let mut over_tcp = Collector::default();
    messages(&mut e, s(10)).iter().for_each(|m| drop(over_tcp.read(m)));
    assert!(messages(&mut e, s(1_000_000)).is_empty());
    // Another connection: from the beginning, without what was written for the one before.
    ask(&mut t, s(100), client(200), at(ORIGINAL));
    e.report(s(100), &t.poll_report().unwrap()).unwrap();
    e.restart();
    let mut anew = Collector::default();
    let again = messages(&mut e, s(1_000_001));
    assert_eq!(again[0][8..12], [0; 4], "the sequence number of the first message");
    again.iter().for_each(|m| drop(anew.read(m)));
    assert_eq!((anew.names.len() as u64, e.statistics().not_sent), (e.types(), 1));
}

/// A collector that was not there gets templates as soon as that is known.
#[test]
fn templates_come_again_when_asked_for() {
    let (mut t, mut e) = (reporting(), exporter(1_472));
    let count = messages(&mut e, s(10)).len();
    e.announce_again();
    assert!(messages(&mut e, Instant::from_millis(10_999)).is_empty(), "once a second at most");
    // What was written before goes first, so that no record waits for the next message.
    ask(&mut t, s(10), at(CLIENT), at(ORIGINAL));
    e.report(s(10), &t.poll_report().unwrap()).unwrap();
    let again = messages(&mut e, s(11));
    assert_eq!((again.len(), &again[1][16..18]), (count + 1, &[0, 3][..]));
    assert!(messages(&mut e, s(12)).is_empty());
}

/// An interval as short as can be does not make templates all there is.
#[test]
fn templates_are_bounded() {
    let mut e = Exporter::new(settings().templates(Some(Duration::ZERO)), vec![0; 512]).unwrap();
    let once = messages(&mut e, s(10)).len();
    assert_eq!(messages(&mut e, s(10)).len(), 0);
    assert_eq!(messages(&mut e, s(11)).len(), once);
}

//! The IPFIX exporter, as a collector that goes by the RFCs understands it.

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
        let octets = match described[&number] {
            1 => 1,
            2 => 2,
            3 | 18 => 4,
            4 => 8,
            0 | 13 => 65_535,
            other => panic!("data type {other}"),
        };
        assert_eq!(octets, length, "element {number}");
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

fn measured(spread: u64) -> Measurements {
    let mut m = Measurements::none(Target::Endpoint(at(SERVER)), s(5));
    (m.connections, m.started, m.established) = (7, 9, 8);
    (m.ends.finished, m.ends.refused, m.ends.reset_before_data, m.ends.reset_after_data) = (11, 12, 13, 14);
    (m.ends.aborted, m.ends.handshake_timeouts, m.ends.expired, m.ends.withdrawn) = (15, 16, 17, 18);
    (m.unreachable, m.retransmissions) = (19, 20);
    (m.to_server.packets, m.to_server.bytes) = (21, 22);
    (m.to_client.packets, m.to_client.bytes) = (23, 24);
    (m.server_handshake.count, m.server_handshake.micros) = (2, 2_500);
    (m.client_handshake.count, m.client_handshake.micros) = (4, 4_400);
    (m.connecting.count, m.connecting.micros) = (1, 777);
    (m.waiting.count, m.waiting.micros) = (3, 3_000_000);
    (m.unanswered.count, m.unanswered.micros) = (5, 50_000_000);
    m.silent = Some(Duration::from_secs(7_000));
    (0..1_000).for_each(|n| m.response.add(Duration::from_micros(1_000 + n * spread)));
    m
}

/// What was measured of a server, and the histogram in it: whole where it fits, with wider buckets where it does not.
#[test]
fn servers_are_reported_with_their_response_times() {
    for (length, spread) in [(1_472, 1), (1_472, 60_000), (512, 1), (512, 60_000), (MIN_MESSAGE + 100, 60_000)] {
        let (mut e, mut c) = (exporter(length), Collector::default());
        messages(&mut e, s(1)).iter().for_each(|m| drop(c.read(m)));
        let m = measured(spread);
        e.server(s(10), s(9), &m).unwrap();
        e.flush();
        let records: Vec<Record> = messages(&mut e, s(10)).iter().flat_map(|m| c.read(m)).collect();
        let [r] = of(&records, SERVER_TEMPLATE)[..] else { panic!("{records:?}") };
        assert_eq!((r.number((IANA, 152)), r.number((IANA, 153))), (ZERO * 1_000 + 9_000, ZERO * 1_000 + 10_000));
        assert_eq!((r.address((IANA, 12)), r.number((IANA, 11))), (*at(SERVER).ip(), 80));
        // Its bytes are in the records of connections, which collectors add up.
        assert!(!r.has((IANA, 1)) && !r.has((REVERSE, 1)));
        for (name, value) in [
            ("packetToServerDeltaCount", 21),
            ("octetToServerDeltaCount", 22),
            ("packetToClientDeltaCount", 23),
            ("octetToClientDeltaCount", 24),
            ("connectionCount", 7),
            ("startedConnectionDeltaCount", 9),
            ("establishedConnectionDeltaCount", 8),
            ("finishedConnectionDeltaCount", 11),
            ("refusedConnectionDeltaCount", 12),
            ("resetBeforeDataConnectionDeltaCount", 13),
            ("resetAfterDataConnectionDeltaCount", 14),
            ("abortedConnectionDeltaCount", 15),
            ("handshakeTimeoutConnectionDeltaCount", 16),
            ("expiredConnectionDeltaCount", 17),
            ("withdrawnConnectionDeltaCount", 18),
            ("unreachableConnectionDeltaCount", 19),
            ("retransmittedSegmentDeltaCount", 20),
            ("serverHandshakeDeltaCount", 2),
            ("serverHandshakeMeanMicroseconds", 1_250),
            ("clientHandshakeDeltaCount", 4),
            ("clientHandshakeMeanMicroseconds", 1_100),
            ("connectingConnectionCount", 1),
            ("connectingMeanMicroseconds", 777),
            ("responseDeltaCount", 1_000),
            ("responseTimeMeanMicroseconds", 1_000 + 999 * spread / 2),
            ("waitingRequestCount", 3),
            ("waitingMeanMicroseconds", 1_000_000),
            ("unansweredRequestDeltaCount", 5),
            ("unansweredMeanMicroseconds", 10_000_000),
            ("serverSilenceMicroseconds", 7_000_000_000),
        ] {
            assert_eq!(r.number(c.own(name)), value, "{name}");
        }
        for (name, truth) in [
            ("responseTimeP50Microseconds", 1_000 + 499 * spread),
            ("responseTimeP90Microseconds", 1_000 + 899 * spread),
            ("responseTimeP99Microseconds", 1_000 + 989 * spread),
        ] {
            let ratio = r.number(c.own(name)) as f64 / truth as f64;
            assert!((ratio - 1.0).abs() < 0.09, "{name}: {ratio}");
        }
        let histogram = r.bytes(c.own("responseTimeHistogram"));
        let word = |bytes: &[u8]| u64::from(u32::from_be_bytes(bytes.try_into().unwrap()));
        let buckets: Vec<(u64, u64)> = histogram.chunks(8).map(|b| (word(&b[..4]), word(&b[4..]))).collect();
        assert!(buckets.windows(2).all(|two| two[0].0 < two[1].0), "{buckets:?}");
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 1_000, "{buckets:?}");
        let truth =
            |from: u64, to: u64| (0..1_000).map(|n| 1_000 + n * spread).filter(|t| (from..to).contains(t)).count();
        for (place, (from, count)) in buckets.iter().enumerate() {
            let to = buckets.get(place + 1).map_or(u64::MAX, |next| next.0);
            assert_eq!(truth(*from, to) as u64, *count, "from {from} to {to} of {buckets:?}");
        }
    }
}

/// Packets that were dropped, by reason, and an event where room or ports have run out.
#[test]
fn drops_and_quotas_are_reported() {
    for length in [512, 1_472] {
        let narrow = Config::new([7; 32]).alternative(ip(ALTERNATIVE), 5_000..=5_003).client_limit(2);
        let mut t = Translator::new(narrow, Heap::new(8, 4).events(0).measured_events()).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        t.divert(Divert::new(at("100.100.100.101:80")).to(at(OTHER))).unwrap();
        for n in 0..3 {
            // The third is one too many of this client.
            let from = core::net::SocketAddrV4::new(*at(CLIENT).ip(), 1_000 + n);
            let _ = run(&mut t, s(1), &udp(from, at(ORIGINAL), b"x"));
        }
        for n in 0..2 {
            ask_and_answer(&mut t, s(1), client(n), at(ORIGINAL));
        }
        // No port is left.
        let _ = run(&mut t, s(1), &udp(client(9), at(ORIGINAL), b"x"));
        for n in 10..14 {
            connect(&mut t, s(1), client(n), at("100.100.100.101:80"));
        }
        // The two that nobody has answered make room, and then there is none.
        for n in 14..17 {
            let _ = run(&mut t, s(1), &udp(client(n), at("9.9.9.9:9"), b"x"));
            let _ = run(&mut t, s(1), &udp(client(n), at(ORIGINAL), b"x"));
        }
        let _ = run(&mut t, s(1), &[0x45; 10]);
        let counters = *t.counters();
        assert!(
            counters.dropped(DropReason::NoPort) > 0 && counters.dropped(DropReason::ClientLimit) > 0,
            "{counters:?}"
        );

        let (mut e, mut c) = (exporter(length), Collector::default());
        let mut records = Vec::new();
        let tell = |e: &mut Exporter<Vec<u8>>, c: &mut Collector, totals: &Totals, records: &mut Vec<Record>| {
            while e.counters(s(2), totals).is_err() {
                let sent = messages(e, s(2));
                assert!(!sent.is_empty());
                records.extend(sent.iter().flat_map(|m| c.read(m)));
            }
            e.flush();
            records.extend(messages(e, s(2)).iter().flat_map(|m| c.read(m)));
        };
        e.lost(41);
        tell(&mut e, &mut c, &Totals::of(&t), &mut records);
        let drops = of(&records, DROP);
        for reason in DropReason::ALL {
            let found = drops.iter().find(|r| r.text(c.own("dropReasonName")) == reason.name());
            let count = counters.dropped(*reason);
            assert_eq!(found.map_or(0, |r| r.number((IANA, 135))), count, "{reason}");
            assert_eq!(found.map_or(0, |r| r.number((IANA, 133))), count, "{reason}");
        }
        let limit = records.iter().find(|r| r.has((IANA, 473))).expect("a client has reached its limit");
        assert_eq!((limit.number((IANA, 230)), limit.number((IANA, 466)), limit.number((IANA, 473))), (13, 3, 2));
        let ports =
            records.iter().find(|r| r.has((IANA, 230)) && r.number((IANA, 230)) == 12).expect("no port was left");
        assert_eq!(ports.number((IANA, 133)), counters.dropped(DropReason::NoPort));
        let sums = records.iter().find(|r| r.has(c.own("packetToServerTotalCount"))).expect("counters");
        assert_eq!(sums.number((IANA, 135)), counters.dropped_in_all());
        assert_eq!(sums.number(c.own("openedConnectionTotalCount")), counters.opened);
        assert_eq!(sums.number(c.own("connectionCapacity")), 8);
        let own = records.iter().find(|r| r.has((IANA, 166))).expect("statistics");
        assert_eq!(own.number((IANA, 166)), 41);

        // What has not changed is not said again, and a difference is one.
        let _ = run(&mut t, s(2), &[0x45; 10]);
        records.clear();
        tell(&mut e, &mut c, &Totals::of(&t), &mut records);
        let [again] = of(&records, DROP)[..] else { panic!("{records:?}") };
        assert_eq!((again.number((IANA, 133)), again.number((IANA, 135))), (1, 2));
        assert_eq!(c.gaps, 0);
    }
}

#[test]
fn a_full_table_is_a_quota_event() {
    let mut t = Translator::new(config(), Heap::new(8, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..9 {
        if n < 8 {
            connect(&mut t, s(1), client(n), at(ORIGINAL));
        } else {
            let _ = run(&mut t, s(1), &tcp(client(n), at(ORIGINAL), (SYN, 1, 0), b""));
        }
    }
    let (mut e, mut c) = (exporter(1_472), Collector::default());
    let mut sent = messages(&mut e, s(2));
    e.counters(s(2), &Totals::of(&t)).unwrap();
    e.flush();
    sent.extend(messages(&mut e, s(2)));
    let records: Vec<Record> = sent.iter().flat_map(|m| c.read(m)).collect();
    let full = records.iter().find(|r| r.has((IANA, 471))).expect("the table is full");
    let fields = [230, 463, 466, 471, 133].map(|number| full.number((IANA, number)));
    assert_eq!(fields, [13, 3, 1, 8, 1]);
}

/// Whatever comes in whatever order, at whatever time, into whatever buffer: each message is sound, and each event is in one
/// of them or counted as lost.
#[test]
fn nothing_is_lost_in_silence() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut t = reporting();
        let length = 512 + dice.below(1_200) as usize;
        let patience = Duration::from_millis(dice.below(3_000));
        let mut e = Exporter::new(settings().patience(patience), vec![0; length]).unwrap();
        let mut c = Collector::default();
        let (mut expected, mut records, mut told_lost) = (0_u64, 0_u64, 0_u64);
        let mut now = 10_000_u64;
        for _ in 0..300 {
            now = if dice.below(30) == 0 { now.saturating_sub(5_000) } else { now + dice.below(20_000) };
            let at_now = Instant::from_millis(now);
            let from = client(dice.below(30) as u32);
            match dice.below(8) {
                0 => drop(t.redivert(at(SERVER), at(OTHER), Redivert::Switch)),
                1 => drop(t.redivert(at(OTHER), at(SERVER), Redivert::Switch)),
                2 => t.poll(at_now),
                _ => drop(run(&mut t, at_now, &udp(from, at(ORIGINAL), b"x"))),
            }
            while let Some(report) = t.poll_report() {
                let more = match report.event {
                    Event::Opened(_) => 1,
                    Event::Closed { .. } => 2,
                    Event::Moved { .. } => 3,
                    _ => 0,
                };
                if dice.below(20) == 0 {
                    // As a caller does who has no room for it.
                    e.lost(more);
                    told_lost += more;
                    continue;
                }
                expected += more;
                while e.report(at_now, &report).is_err() {
                    let before = records;
                    let sent = messages(&mut e, at_now);
                    records += sent
                        .iter()
                        .inspect(|m| assert!(m.len() <= length))
                        .map(|m| c.read(m).len() as u64)
                        .sum::<u64>();
                    assert!(!sent.is_empty() || records > before);
                }
            }
            if dice.below(4) == 0 {
                if dice.below(2) == 0 && e.counters(at_now, &Totals::of(&t)).is_ok() {
                    expected += 2;
                }
                if e.server(at_now, s(1), &measured(dice.below(9_000))).is_ok() {
                    expected += 1;
                }
                records += messages(&mut e, at_now).iter().map(|m| c.read(m).len() as u64).sum::<u64>();
            }
        }
        e.flush();
        let end = Instant::from_millis(now + 100_000);
        records += messages(&mut e, end).iter().map(|m| c.read(m).len() as u64).sum::<u64>();
        let announced = records - expected;
        assert_eq!(announced % e.types(), 0, "{seed}: all but type records are accounted for");
        assert!(announced > 0 && expected > 100, "{seed}: {expected}");
        assert_eq!((c.gaps, c.unknown.len()), (0, 0), "{seed}");
        assert_eq!((e.statistics().not_sent, e.statistics().records), (told_lost, records), "{seed}");
    }
}

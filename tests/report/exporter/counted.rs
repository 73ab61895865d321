//! Records of what is counted: servers, drops, quotas, and what was lost.

use super::*;

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
        // Whoever adds up the element of all records counts each packet once.
        let once: u64 = records.iter().filter(|r| r.has((IANA, 133))).map(|r| r.number((IANA, 133))).sum();
        assert_eq!(once, counters.dropped_in_all());
        let limit = records.iter().find(|r| r.has((IANA, 473))).expect("a client has reached its limit");
        assert_eq!((limit.number((IANA, 230)), limit.number((IANA, 466)), limit.number((IANA, 473))), (13, 3, 2));
        let ports =
            records.iter().find(|r| r.has((IANA, 230)) && r.number((IANA, 230)) == 12).expect("no port was left");
        let unserved = c.own("unservedPacketDeltaCount");
        assert_eq!(ports.number(unserved), counters.dropped(DropReason::NoPort));
        assert_eq!(limit.number(unserved), counters.dropped(DropReason::ClientLimit));
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
    let fields = [230, 463, 466, 471].map(|number| full.number((IANA, number)));
    assert_eq!(fields, [13, 3, 1, 8]);
    assert_eq!(full.number(c.own("unservedPacketDeltaCount")), 1);
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

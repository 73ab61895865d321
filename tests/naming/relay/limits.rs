//! How much a relay takes: of one client, of a query, and in all.

use super::*;

/// One that asks for what nobody answers leaves room for the others.
#[test]
fn a_client_has_its_share() {
    let mut out = [0; MAX_RELAY_QUERY];
    let from = |last: u8, port: u16| Pair { source: SocketAddrV4::new([10, 0, 0, last].into(), port), ..client(1) };
    let mut relay = Relay::new(config().queries_per_client(5), FixedRelay::<16>::new()).unwrap();
    // Until the limit, and again once there is room, however a query has ended.
    let mut greedy: Vec<_> = (1..=5).map(|port| ask(&mut relay, from(1, port), &query("a.test", A))).collect();
    for round in 0..20 {
        let more = relay.query(NOW, from(1, 99), &query("a.test", A), &mut out);
        assert_eq!(more, Relayed::Drop(RelayOutcome::ClientLimit), "{round}");
        let sent = greedy.remove(0);
        assert!(relay.answer(NOW, FIRST, sent.port, &mut sent.answer()).is_some());
        greedy.push(ask(&mut relay, from(1, 100 + round), &query("a.test", A)));
    }
    // Others find room; those that share its place in the table of counts do not, and they are few.
    let mut refused = 0;
    for last in 2..=12 {
        refused +=
            u32::from(matches!(relay.query(NOW, from(last, 1), &query("a.test", A), &mut out), Relayed::Drop(_)));
    }
    assert!(refused <= 4, "{refused}");
    assert_eq!(relay.counters().of(RelayOutcome::ClientLimit), 20 + u64::from(refused));
    assert_eq!(relay.counters().of(RelayOutcome::Full), 0);
    // When nobody answers, all of them end, and nothing stays counted.
    let mut now = NOW;
    while let Some(due) = relay.poll_at() {
        now = now.max(due);
        while relay.poll(now, &mut out).is_some() {}
    }
    for port in 1..=5 {
        let _ = ask(&mut relay, from(1, port), &query("a.test", A));
    }
    let more = relay.query(now, from(1, 99), &query("a.test", A), &mut out);
    assert_eq!((more, relay.len()), (Relayed::Drop(RelayOutcome::ClientLimit), 5));
    // One place for all, and none.
    let mut one = Relay::new(config().queries_per_client(1), FixedRelay::<1>::new()).unwrap();
    let _ = ask(&mut one, from(1, 1), &query("a.test", A));
    assert_eq!(one.query(NOW, from(2, 1), &query("a.test", A), &mut out), Relayed::Drop(RelayOutcome::ClientLimit));
    let mut none = Relay::new(config().queries_per_client(1), FixedRelay::<0>::new()).unwrap();
    assert_eq!(none.query(NOW, client(1), &query("a.test", A), &mut out), Relayed::Drop(RelayOutcome::Full));
}

/// The OPT record need not be the first, and its name is the root's; other records stay as they are.
#[test]
fn the_payload_is_limited_wherever_it_stands() {
    let mut relay = relay();
    // For the root, for a name, and for a pointer to the question; the last has data.
    let others: [&[u8]; 3] = [
        b"\0\0\x0a\xff\xff\0\0\0\0\0\0",
        b"\x01x\x02yz\0\0\x0a\xff\xff\0\0\0\0\0\x03abc",
        b"\xc0\x0c\0\x0a\xff\xff\0\0\0\0\0\x0c\0\0\x29\xff\xff\0\0\0\0\0\0\0",
    ];
    for count in 0..=others.len() {
        for (payload, expected) in [(4096, 1232), (1233, 1232), (1232, 1232), (512, 512), (0, 0)] {
            let message_of = |payload| {
                let record = opt(payload, 0, true, &cookie_option(&[1; 8]));
                let parts = [&question("bt.org", A), &others[..count].concat()[..], &record].concat();
                message(0x0100, [1, 0, 0, count as u16 + 1], &[&parts])
            };
            let asked = ask(&mut relay, client(4000), &message_of(payload));
            assert_eq!(asked.query[24..], message_of(expected)[24..], "{count} records before, {payload}");
            assert!(relay.answer(NOW, FIRST, asked.port, &mut asked.answer()).is_some());
        }
    }
}

/// More letters than there are bits in a draw.
#[test]
fn each_letter_of_a_long_name_has_its_own_case() {
    let mut relay = relay();
    let name = [&"a".repeat(63)[..]; 3].join(".") + &format!(".{}", "b".repeat(61));
    let drawn: Vec<Sent> = (0..64)
        .map(|_| {
            let asked = ask(&mut relay, client(4000), &query(&name, A));
            assert!(relay.answer(NOW, FIRST, asked.port, &mut asked.answer()).is_some());
            asked
        })
        .collect();
    let places: Vec<usize> = (12..12 + 254).filter(|at| drawn[0].query[*at].is_ascii_alphabetic()).collect();
    assert_eq!(places.len(), 3 * 63 + 61);
    // As bits over the draws, no two letters are the same, and none is constant.
    let case = |at: &usize| drawn.iter().map(|sent| sent.query[*at].is_ascii_uppercase()).collect::<Vec<_>>();
    let different: HashSet<_> = places.iter().map(case).collect();
    assert_eq!(different.len(), places.len());
    assert!(different.iter().all(|bits| bits.contains(&true) && bits.contains(&false)));
}

/// TSIG covers the whole message but its identifier (RFC 8945, section 4.3.2).
#[test]
fn a_signed_query_keeps_its_letters() {
    let mut relay = relay();
    let record = b"\x03key\0\0\xfa\0\xff\0\0\0\0\0\x03abc";
    let parts: [&[u8]; 3] = [&question("www.Bt.example.org", A), &opt(4096, 0, true, &[]), record];
    let signed = message(0x0100, [1, 0, 0, 2], &parts);
    for port in 0..20 {
        let asked = ask(&mut relay, client(4000 + port), &signed);
        assert_eq!(asked.query[2..], signed[2..]);
        let mut answer = asked.answer();
        assert!(relay.answer(NOW, FIRST, asked.port, &mut answer).is_some());
        assert_eq!((&answer[..2], &answer[12..]), (&signed[..2], &asked.answer()[12..]));
    }
}

#[test]
fn bad_settings_are_named() {
    let bad = |config: RelayConfig| config.check().unwrap_err();
    let at = |last: u8| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), 53);
    let many = (1..=MAX_RELAY_SERVERS as u8).fold(RelayConfig::new([0; 32], at(0)), |config, n| config.server(at(n)));
    let prefixes = (0..=MAX_RELAY_SERVERS).fold(config(), |config, _| config.clients(Prefix::ALL));
    for (error, text) in [
        (bad(many), "server 192.0.2.8:53: there are more than 8"),
        (bad(prefixes), "clients 0.0.0.0/0: there are more than 8 prefixes"),
        (bad(config().server(FIRST)), "server 192.0.2.53:53: it is there twice"),
        (
            bad(config().server("224.0.0.1:53".parse().unwrap())),
            "server 224.0.0.1:53: no host can have this address and port",
        ),
        (
            bad(config().server("192.0.2.9:0".parse().unwrap())),
            "server 192.0.2.9:0: no host can have this address and port",
        ),
        (bad(config().ports(9, 8)), "ports 9 to 8: the range is empty or has port 0"),
        (bad(config().ports(0, 8)), "ports 0 to 8: the range is empty or has port 0"),
        (bad(config().patience(Duration::ZERO)), "patience of 0ns: expected more than none and at most 60s"),
        (bad(config().attempts(0)), "no attempt: expected 1 to 255"),
        (bad(config().payload(511)), "payload of 511 bytes: expected at least 512"),
    ] {
        assert_eq!(error.to_string(), text);
        assert!(!matches!(Relay::new(config().attempts(0), FixedRelay::<1>::new()), Err(RelayError::Payload { .. })));
    }
    let shown = format!("{:?}", Relay::new(config(), FixedRelay::<1>::new()).unwrap());
    assert!(shown.contains("192.0.2.53:53") && !shown.contains("secret") && !shown.contains("7, 7"), "{shown}");
}

/// With few ports there are as many queries at a time as there are ports, and no more; memory that was used before is
/// cleared; slots without words of the index are not used.
#[test]
fn memory_and_ports_are_what_there_is() {
    let mut slots = vec![RelaySlot::EMPTY; 9];
    let (mut ports, mut clients) = ([u32::MAX; 5 * RELAY_INDEX_WORDS + 3], [u32::MAX; 7 * RELAY_INDEX_WORDS]);
    for _ in 0..2 {
        let memory = BorrowedRelay { queries: &mut slots, ports: &mut ports, clients: &mut clients };
        let mut relay = Relay::new(config().ports(7_000, 7_001), memory).unwrap();
        assert_eq!(relay.capacity(), 5);
        let mut used = HashSet::new();
        let mut out = [0; MAX_RELAY_QUERY];
        for port in 1..50 {
            match relay.query(NOW, client(port), &query("a", A), &mut out) {
                Relayed::Ask { port, .. } => assert!(used.insert(port)),
                other => assert_eq!(other, Relayed::Drop(RelayOutcome::NoPort)),
            }
        }
        assert_eq!((used.len(), relay.len()), (2, 2));
    }
    let mut none = Relay::new(config(), FixedRelay::<0>::new()).unwrap();
    let mut out = [0; MAX_RELAY_QUERY];
    assert_eq!(none.query(NOW, client(1), &query("a", A), &mut out), Relayed::Drop(RelayOutcome::Full));
}

/// Ten thousand at a time, which are all found, in any order.
#[cfg(feature = "alloc")]
#[test]
fn ten_thousand_at_a_time() {
    const COUNT: usize = 10_000;
    let mut relay = Relay::new(config(), byway::naming::HeapRelay::new(COUNT)).unwrap();
    let ask = |relay: &mut Relay<_>, n: usize| ask(relay, client(1 + n as u16), &query(&format!("host-{n}.test"), A));
    let mut open: Vec<(usize, Sent)> = (0..COUNT).map(|n| (n, ask(&mut relay, n))).collect();
    let mut out = [0; MAX_RELAY_QUERY];
    assert_eq!(relay.query(NOW, client(60_000), &query("a", A), &mut out), Relayed::Drop(RelayOutcome::Full));
    open.sort_by_key(|(_, sent)| sent.id());
    for (n, sent) in open {
        assert!(letters(&sent.query[12..]) >= 8);
        assert_eq!(relay.answer(NOW, FIRST, sent.port, &mut sent.answer()), Some(client(1 + n as u16)));
    }
    assert!(relay.is_empty());
}

proptest! {
    /// Whatever clients, servers and forgers send, in whatever order: the table stays bounded, each client gets at most one
    /// answer to each query, and it is the right one.
    #[test]
    fn whatever_comes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz::run(&bytes);
    }

    /// The same from good sequences with some bytes changed.
    #[test]
    fn whatever_comes_of_good_sequences(
        seeds in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let all = fuzz::seeds();
        let mut bytes: Vec<u8> = vec![0];
        for (number, seed) in seeds.iter().enumerate() {
            let seed = seed.get(&all);
            if number == 0 {
                bytes[0] = seed[0];
            }
            bytes.extend(&seed[1..]);
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz::run(&bytes);
    }
}

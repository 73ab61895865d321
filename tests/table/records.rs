//! Connections as bytes: snapshot and restore, and portions on two machines.

use byway::{
    Divert, Event, Heap, Imported, Protocol, RECORD_LENGTH, Record, RecordError, Redivert, State, Translator, Verdict,
};
use byway_testing::talk::*;
use byway_testing::*;

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
    assert_eq!(t.import(s(1), &record), Err(RecordError::AlternativeTaken { alternative: at("10.10.10.10:2000") }));
    assert_eq!((t.counters().stranded, t.slots_in_use(), t.connections().count()), (1, 1, 1));
    let lost = udp(at(SERVER), at("10.10.10.10:2000"), b"");
    assert!(matches!(verdict(&mut t, s(2), &lost), Verdict::Drop(_)));
    // The record is of a server that was left. Once a rule leads there again, the slot is as good as new.
    assert_eq!(t.import(s(2), &record), Err(RecordError::Outdated { server: at(SERVER) }));
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
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
    assert_eq!(t.import(s(299), &record), Err(RecordError::AlternativeTaken { alternative: at("10.10.10.10:2000") }));
    assert_eq!(t.import(s(1_000), &record), Ok(Imported::New));
}

fn bytes_of(t: &Translator<Heap>) -> Vec<[u8; RECORD_LENGTH]> {
    t.records().map(|record| *record.as_bytes()).collect()
}

fn rules(t: &mut Translator<Heap>) {
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    t.divert(Divert::new(ip("100.100.100.101")).to(ip("123.45.67.90")).keep_source()).unwrap();
    t.divert(Divert::new(at("100.100.100.102:69")).to(at("123.45.67.91:69")).replies_from_any_port()).unwrap();
}

/// A restart in the middle of everything, with another secret and another clock: nobody notices.
#[test]
fn a_restart_with_a_snapshot_loses_no_connection() {
    let mut before = translator(config());
    rules(&mut before);
    let (original, kept, tftp) = (at(ORIGINAL), at("100.100.100.101:53"), at("100.100.100.102:69"));
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    let mut tcp_ends = Vec::new();
    for n in 0..20 {
        tcp_ends.push(connect(&mut before, s(1_000), client(n), original));
        ask_and_answer(&mut before, s(1_000), client(n), original);
        ask(&mut before, s(1_000), client(n), kept);
        let ping = echo(8, *client(n).ip(), *original.ip(), 7, b"");
        there(&mut before, s(1_000), &ping);
    }
    let (transfer, _) = ask(&mut before, s(1_000), client(1), tftp);
    // One is half closed, one is over, one has only begun.
    there(&mut before, s(1_001), &tcp(client(0), original, (FIN | ACK, c, v), b""));
    there(&mut before, s(1_001), &tcp(client(1), original, (RST, c, 0), b""));
    there(&mut before, s(1_001), &tcp(client(50), original, (SYN, 7, 0), b""));
    let listed: Vec<_> = before.connections().collect();
    let snapshot = bytes_of(&before);
    assert_eq!((snapshot.len(), listed.len()), (82, 82));

    let other_secret = byway::Config::new([0x99; 32]).alternative(ip(ALTERNATIVE), 1024..=65535);
    let mut after = translator(other_secret);
    rules(&mut after);
    for bytes in &snapshot {
        let record = Record::from_bytes(bytes).unwrap();
        assert_eq!(after.import(s(5), &record), Ok(Imported::New));
        assert_eq!(record.as_bytes(), bytes);
        assert!(listed.contains(&record.connection().unwrap()));
    }
    let mut restored: Vec<_> = after.connections().collect();
    restored.sort_by_key(|c| (c.protocol, c.client_side));
    let mut listed_sorted = listed.clone();
    listed_sorted.sort_by_key(|c| (c.protocol, c.client_side));
    assert_eq!(restored, listed_sorted);
    // A connection that is over is on no server.
    let on = |t: &Translator<Heap>| ["123.45.67.89", "123.45.67.90", "123.45.67.91"].map(|a| t.connections_on(ip(a)));
    assert_eq!(on(&after), on(&before));

    // Everything goes on, with exactly the packets that it would have had, by another clock.
    let (now_before, now_after) = (s(1_002), s(6));
    for (n, &(alternative, server)) in tcp_ends.iter().enumerate() {
        let n = n as u32;
        let same = |before: &mut Translator<Heap>, after: &mut Translator<Heap>, packet: Vec<u8>| {
            let seen = run(before, now_before, &packet);
            assert!(matches!(seen.0, Verdict::ToServer | Verdict::ToClient), "{:?}", seen.0);
            assert_eq!(run(after, now_after, &packet), seen);
            seen.1
        };
        for original in [original, kept] {
            let question = same(&mut before, &mut after, udp(client(n), original, b"again"));
            let (source, target) = ends(&question);
            same(&mut before, &mut after, udp(target, source, b"answer"));
        }
        same(&mut before, &mut after, echo(8, *client(n).ip(), *original.ip(), 7, b""));
        if n > 1 {
            let data = same(&mut before, &mut after, tcp(client(n), original, (ACK, c, v), b"data"));
            assert_eq!(data, tcp(alternative, server, (ACK, c, v), b"data"));
            same(&mut before, &mut after, tcp(server, alternative, (RST, v, 0), b""));
            assert_eq!(state(&after, Protocol::Tcp, client(n), original), Some(State::TimeWait));
        }
    }
    assert_eq!((after.counters().opened, after.counters().imported), (0, 82));
    let fresh = udp(at("123.45.67.91:3333"), transfer, b"");
    assert_eq!(back(&mut before, now_before, &fresh), back(&mut after, now_after, &fresh));
    let fin = tcp(tcp_ends[0].1, tcp_ends[0].0, (FIN | ACK, v, c + 1), b"");
    back(&mut after, now_after, &fin);
    assert_eq!(state(&after, Protocol::Tcp, client(0), original), Some(State::Closing));
}

/// A burst is what as many single calls are, also where records are about one connection, are refused, or find no room.
#[test]
fn a_burst_of_records_is_as_many_imports() {
    let mut before = translator(config());
    rules(&mut before);
    for n in 0..150 {
        connect(&mut before, s(1_000), client(n), at(ORIGINAL));
        ask_and_answer(&mut before, s(1_000 + u64::from(n)), client(n), at("100.100.100.101:53"));
    }
    let mut records: Vec<_> = before.records().collect();
    // Once more, out of order: those that are known by then are updated.
    records.extend(records.clone().into_iter().step_by(3));
    records.rotate_left(75);
    assert_eq!(records.len(), 400);
    for room in [1024, 64] {
        let new = || {
            let mut t = Translator::new(config(), Heap::new(room, 16)).unwrap();
            rules(&mut t);
            t
        };
        let (mut singly, mut at_once) = (new(), new());
        let mut results = vec![Ok(Imported::New); records.len() + 1];
        let now = s(5);
        assert_eq!(at_once.import_burst(now, &records, &mut results), records.len());
        let expected: Vec<_> = records.iter().map(|record| singly.import(now, record)).collect();
        assert_eq!(results[..records.len()], expected);
        let kinds = [
            expected.iter().filter(|r| r.is_err()).count(),
            expected.iter().filter(|r| **r == Ok(Imported::Updated)).count(),
        ];
        assert!(kinds[usize::from(room != 64)] > 20, "{kinds:?}");
        assert_eq!(bytes_of(&singly), bytes_of(&at_once));
        assert_eq!(singly.counters(), at_once.counters());
        assert_eq!(at_once.import_burst(now, &records[..3], &mut results[..2]), 2);
        assert_eq!(at_once.import_burst(now, &[], &mut results), 0);
    }
}

/// The time without a packet goes along: a restart prolongs nothing.
#[test]
fn a_restored_connection_is_as_old_as_it_was() {
    let mut before = diverting(config());
    ask_and_answer(&mut before, s(1_000), at(CLIENT), at(ORIGINAL));
    // Time goes on for the translator although the connection is silent.
    before.poll(s(1_200));
    let record = before.record(&connection(&before, Protocol::Udp)).unwrap();
    let mut after = diverting(config());
    assert_eq!(after.import(s(10_000), &record), Ok(Imported::New));
    after.poll(s(10_099));
    assert_eq!(after.connections().count(), 1);
    after.poll(s(10_102));
    assert_eq!(after.connections().count(), 0);
    before.poll(s(1_301));
    assert_eq!(before.record(&record.connection().unwrap()), None, "it is dead");
    assert_eq!(bytes_of(&before).len(), 0);
    // A record that lay about for too long.
    let mut late = translator(config().allow_short_timeouts());
    let short = byway::Timeouts { udp: core::time::Duration::from_secs(100), ..byway::Timeouts::RECOMMENDED };
    late.set_timeouts(short).unwrap();
    let refused = late.import(s(0), &record);
    assert!(matches!(refused, Err(RecordError::Expired { idle }) if idle.as_secs() == 200), "{refused:?}");
    assert_eq!((late.slots_in_use(), late.counters().imported), (0, 0));
}

/// A record is taken whole or not at all: each bit counts.
#[test]
fn every_damaged_octet_and_every_length_is_refused() {
    let mut t = translator(config());
    rules(&mut t);
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    ask(&mut t, s(0), at(CLIENT), at("100.100.100.101:53"));
    ask(&mut t, s(0), at(CLIENT), at("100.100.100.102:69"));
    there(&mut t, s(0), &echo(8, *at(CLIENT).ip(), ip("100.100.100.100"), 7, b""));
    let records = bytes_of(&t);
    assert_eq!(records.len(), 4);
    for good in records {
        assert!(Record::from_bytes(&good).is_ok());
        for place in 0..RECORD_LENGTH {
            for bit in 0..8 {
                let mut bad = good;
                bad[place] ^= 1 << bit;
                let error = Record::from_bytes(&bad).unwrap_err();
                match place {
                    0 | 1 => assert_eq!(error, RecordError::NoRecord { found: [bad[0], bad[1]] }),
                    2 => assert_eq!(error, RecordError::Version { found: bad[2] }),
                    _ => assert!(matches!(error, RecordError::Checksum { .. }), "byte {place}: {error}"),
                }
            }
        }
        for length in 0..RECORD_LENGTH {
            assert_eq!(Record::from_bytes(&good[..length]), Err(RecordError::Truncated { length }));
        }
        let longer = [&good[..], &[1, 2, 3]].concat();
        assert_eq!(Record::from_bytes(&longer).unwrap().as_bytes(), &good);
    }
    for garbage in [[0_u8; RECORD_LENGTH], [0xff; RECORD_LENGTH]] {
        assert_eq!(Record::from_bytes(&garbage), Err(RecordError::NoRecord { found: [garbage[0], garbage[1]] }));
    }
}

/// With a right checksum, but nonsense in it: named, and nothing is taken over.
#[test]
fn a_record_of_what_cannot_be_is_refused_by_name() {
    let mut t = translator(config());
    rules(&mut t);
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    ask(&mut t, s(0), at(CLIENT), at("100.100.100.101:53"));
    let records = bytes_of(&t);
    let (plain, kept) = (records[0], records[1]);
    assert_eq!(crc(&plain[..52]).to_be_bytes(), plain[52..], "the checksum is the one that is documented");
    let forged = |record: [u8; RECORD_LENGTH], at: usize, bytes: &[u8]| {
        let mut record = record;
        record[at..at + bytes.len()].copy_from_slice(bytes);
        let sum = crc(&record[..52]);
        record[52..].copy_from_slice(&sum.to_be_bytes());
        Record::from_bytes(&record)
    };
    let name = |result: Result<Record, RecordError>| match result {
        Err(RecordError::Field { name, .. } | RecordError::Endpoint { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    for (at, bytes, field) in [
        (3, &[0][..], "protocol"),
        (3, &[2], "protocol"),
        (3, &[6], "state"),
        (4, &[0], "state"),
        (4, &[3], "state"),
        (4, &[13], "state"),
        (4, &[255], "state"),
        (5, &[4], "flags"),
        (5, &[0xff], "flags"),
        (8, &[0, 0, 0, 0], "client"),
        (8, &[127, 0, 0, 1], "client"),
        (14, &[224, 0, 0, 1], "original"),
        (20, &[255, 255, 255, 255], "alternative"),
        (26, &[169, 254, 0, 1], "server"),
    ] {
        assert_eq!(name(forged(plain, at, bytes)), field, "{bytes:?} at {at}");
    }
    assert_eq!(name(forged(kept, 20, &[9, 9, 9, 9])), "alternative", "a kept source is the client");
    // It says that the source is kept, and it is not: any packet of anybody could be caught with that.
    assert_eq!(name(forged(plain, 5, &[1])), "alternative");
    // Well formed, but none of ours.
    let mut other = translator(config());
    let foreign = forged(plain, 20, &[9, 9, 9, 9]).unwrap();
    let mut refused = |foreign: &Record| {
        let alternative = foreign.connection().unwrap().server_side.source;
        assert_eq!(other.import(s(0), foreign), Err(RecordError::ForeignAlternative { alternative }));
    };
    refused(&foreign);
    let low_port = forged(plain, 24, &[0, 80]).unwrap();
    refused(&low_port);
    assert_eq!((other.slots_in_use(), other.counters().imported), (0, 0));
    // Taken by somebody else.
    assert_eq!(other.import(s(0), &Record::from_bytes(&plain).unwrap()), Ok(Imported::New));
    let rival = forged(plain, 8, &[192, 168, 1, 1]).unwrap();
    let alternative = rival.connection().unwrap().server_side.source;
    assert_eq!(other.import(s(0), &rival), Err(RecordError::AlternativeTaken { alternative }));
    assert_eq!(other.import(s(0), &Record::from_bytes(&plain).unwrap()), Ok(Imported::Updated));
    assert_eq!((other.slots_in_use(), other.counters().imported), (1, 1));
}

/// A full table takes no more than it can, and gives nothing established away for a record.
#[test]
fn records_find_a_full_table() {
    let mut source = diverting(config());
    for n in 0..30 {
        connect(&mut source, s(0), client(n), at(ORIGINAL));
    }
    let mut t = Translator::new(config(), Heap::new(16, 4)).unwrap();
    let mut taken = 0;
    for record in source.records() {
        match t.import(s(0), &record) {
            Ok(Imported::New) => taken += 1,
            other => assert_eq!(other, Err(RecordError::TableFull { capacity: 16 })),
        }
    }
    assert_eq!((taken, t.slots_in_use(), t.counters().evicted), (16, 16, 0));
}

/// A record may come for a connection that only holds its port any more: it was ahead of its time here.
#[test]
fn a_record_revives_a_held_connection() {
    let mut t = diverting(config());
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let record = t.record(&connection(&t, Protocol::Udp)).unwrap();
    t.poll(s(302));
    assert_eq!((t.connections().count(), t.slots_in_use()), (0, 1));
    assert_eq!(t.import(s(303), &record), Ok(Imported::New));
    assert_eq!((t.connections().count(), t.slots_in_use()), (1, 1));
    let side = record.connection().unwrap().server_side;
    back(&mut t, s(303), &udp(side.destination, side.source, b""));
}

/// Two portions: one sees the way there only, the other the way back only. Each tells the other what it learns.
struct Portions {
    there: Translator<Heap>,
    back: Translator<Heap>,
}

impl Portions {
    fn new() -> Self {
        let portion = |secret| {
            let config = byway::Config::new([secret; 32]).alternative(ip(ALTERNATIVE), 1024..=65535);
            let mut t = translator(config.tell_changes(true));
            t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
            t
        };
        Self { there: portion(1), back: portion(2) }
    }

    /// Sends a record of each connection that an event names to the other portion, until neither has anything new.
    fn exchange(&mut self, now: byway::Instant) {
        for _ in 0..10 {
            let mut sent = 0;
            for turn in 0..2 {
                let (from, to) =
                    if turn == 0 { (&mut self.there, &mut self.back) } else { (&mut self.back, &mut self.there) };
                for event in events(from) {
                    let (Event::Opened(c) | Event::Changed(c) | Event::Moved { connection: c, .. }) = event else {
                        continue;
                    };
                    if let Some(record) = from.record(&c) {
                        let wire = *record.as_bytes();
                        to.import(now, &Record::from_bytes(&wire).unwrap()).unwrap();
                        sent += 1;
                    }
                }
            }
            if sent == 0 {
                return;
            }
        }
        panic!("they talk for ever");
    }

    #[track_caller]
    fn client(&mut self, now: byway::Instant, packet: &[u8]) -> Vec<u8> {
        let seen = there(&mut self.there, now, packet);
        self.exchange(now);
        seen
    }

    #[track_caller]
    fn server(&mut self, now: byway::Instant, packet: &[u8]) -> Vec<u8> {
        let seen = back(&mut self.back, now, packet);
        self.exchange(now);
        seen
    }

    #[track_caller]
    fn both_are(&self, state: State) {
        assert_eq!((tcp_state(&self.there), tcp_state(&self.back)), (Some(state), Some(state)));
    }
}

#[test]
fn two_portions_carry_a_tcp_connection_from_its_first_to_its_last_segment() {
    let mut p = Portions::new();
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    let client = |segment, data: &[u8]| tcp(at(CLIENT), at(ORIGINAL), segment, data);
    let seen = p.client(s(0), &client((SYN, CLIENT_START, 0), b""));
    let (alternative, server) = ends(&seen);
    let said = |from, segment, data: &[u8]| tcp(from, alternative, segment, data);
    p.both_are(State::Opening);
    let seen = p.server(s(0), &said(server, (SYN | ACK, SERVER_START, c), b""));
    assert_eq!((ends(&seen), checksums(&seen)), ((at(ORIGINAL), at(CLIENT)), BOTH));
    p.both_are(State::Opened);
    p.client(s(0), &client((ACK, c, v), b""));
    p.both_are(State::Established);
    p.client(s(1), &client((ACK, c, v), &[1; 100]));
    p.server(s(1), &said(server, (ACK, v, c + 100), &[2; 1_000]));
    p.client(s(1), &client((ACK, c + 100, v + 1_000), b""));

    // The instruction goes to one portion; the other learns of it by the record.
    p.there.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    let seen = p.client(s(2), &client((ACK, c + 100, v + 1_000), &[3; 50]));
    assert_eq!(ends(&seen), (alternative, at(OTHER)));
    assert_eq!(connection(&p.back, Protocol::Tcp).server(), at(OTHER));
    let late = said(server, (ACK, v, c + 100), &[2; 1_000]);
    assert!(matches!(verdict(&mut p.back, s(2), &late), Verdict::Drop(_)));
    let seen = p.server(s(2), &said(at(OTHER), (ACK, v + 1_000, c + 150), &[4; 20]));
    assert_eq!(ends(&seen), (at(ORIGINAL), at(CLIENT)));

    p.client(s(3), &client((FIN | ACK, c + 150, v + 1_020), b""));
    p.both_are(State::ClientClosed);
    p.server(s(3), &said(at(OTHER), (FIN | ACK, v + 1_020, c + 151), b""));
    p.both_are(State::Closing);
    p.client(s(3), &client((ACK, c + 151, v + 1_021), b""));
    p.both_are(State::TimeWait);
    for t in [&mut p.there, &mut p.back] {
        assert_eq!((t.counters().closed, t.connections_on(at(SERVER)), t.connections_on(at(OTHER))), (1, 0, 0));
        t.poll(s(126));
        t.poll(s(126));
        assert_eq!(t.slots_in_use(), 0);
    }
}

#[test]
fn two_portions_carry_datagrams_and_pings() {
    let mut p = Portions::new();
    for t in [&mut p.there, &mut p.back] {
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    }
    for n in 0..10 {
        let question = udp(client(n), at(ORIGINAL), b"question");
        let (alternative, server) = ends(&p.client(s(0), &question));
        let answer = p.server(s(0), &udp(server, alternative, b"answer"));
        assert_eq!(answer, udp(at(ORIGINAL), client(n), b"answer"));
        let ping = echo(8, *client(n).ip(), ip("100.100.100.100"), 7, b"ping");
        let seen = p.client(s(0), &ping);
        let id = u16::from_be_bytes([seen[24], seen[25]]);
        let pong = p.server(s(0), &echo(0, address(&seen, 16), address(&seen, 12), id, b"ping"));
        assert_eq!(pong, echo(0, ip("100.100.100.100"), *client(n).ip(), 7, b"ping"));
        assert_eq!(state(&p.there, Protocol::Udp, client(n), at(ORIGINAL)), Some(State::Answered));
    }
    // Each portion hears one side only, and forgets those that it does not hear; unless it is told now and then.
    for step in 1..10_u64 {
        there(&mut p.there, s(step * 200), &udp(client(1), at(ORIGINAL), b"still here"));
        for record in p.there.records().collect::<Vec<_>>() {
            p.back.import(s(step * 200), &record).unwrap();
        }
    }
    let side = p.there.connection(Protocol::Udp, client(1), at(ORIGINAL)).unwrap().0.server_side;
    back(&mut p.back, s(1_800), &udp(side.destination, side.source, b"I know"));
}

/// RFC 9293, section 3.6.1: a client that begins anew on its port within TIME-WAIT, and before its last acknowledgement
/// came: the other portion learns of a new connection, not of an old one with other numbers.
#[test]
fn two_portions_carry_a_connection_that_begins_anew_on_the_same_port() {
    for (acknowledged, start) in [(true, 0x9000_0000), (true, 10), (false, 0x9000_0000), (false, 10)] {
        let mut p = Portions::new();
        let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
        let client = |segment| tcp(at(CLIENT), at(ORIGINAL), segment, b"");
        let (old, server) = ends(&p.client(s(0), &client((SYN, CLIENT_START, 0))));
        p.server(s(0), &tcp(server, old, (SYN | ACK, SERVER_START, c), b""));
        p.client(s(0), &client((ACK, c, v)));
        p.client(s(3), &client((FIN | ACK, c, v)));
        p.server(s(3), &tcp(server, old, (FIN | ACK, v, c + 1), b""));
        if acknowledged {
            p.client(s(3), &client((ACK, c + 1, v + 1)));
        }
        p.both_are(if acknowledged { State::TimeWait } else { State::Closing });
        let stale = p.there.records().next().unwrap();

        let new = ends(&p.client(s(10), &client((SYN, start, 0)))).0;
        p.both_are(State::Opening);
        // What was said of the old connection and comes late is no news of the new one.
        assert_eq!(p.back.import(s(10), &stale), Err(RecordError::Outdated { server }));
        p.both_are(State::Opening);
        p.server(s(10), &tcp(server, new, (SYN | ACK, 77_000, start + 1), b""));
        p.both_are(State::Opened);
        p.client(s(10), &client((ACK, start + 1, 77_001)));
        p.both_are(State::Established);
        for t in [&p.there, &p.back] {
            assert_eq!((t.counters().closed, t.connections_on(at(SERVER))), (1, 1));
        }
        // It is as long-lived as any, and a RST is measured by its own numbers.
        p.server(s(7_000), &tcp(server, new, (ACK, 77_001, start + 1), b"still here"));
        p.server(s(7_000), &tcp(server, new, (RST, 77_001, 0), b""));
        p.both_are(State::TimeWait);
    }
}

//! Snapshots: the order of rules, records and packets, and what `now` means when records are taken over.

use byway::{Config, Divert, Heap, Imported, Instant, Protocol, RECORD_LENGTH, Record, RecordError, Redivert};
use byway::{Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

fn fresh() -> Translator<Heap> {
    Translator::new(config(), Heap::new(1_000, 8)).unwrap()
}

fn snapshot(t: &Translator<Heap>) -> Vec<Record> {
    t.records().collect()
}

/// Records before their rules: they count as if they had come after them.
#[test]
fn records_before_their_rules_count_where_they_belong() {
    for rules_first in [true, false] {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut old = diverting(config());
            match protocol {
                Protocol::Tcp => connect(&mut old, s(1_000), at(CLIENT), at(ORIGINAL)),
                _ => ask_and_answer(&mut old, s(1_000), at(CLIENT), at(ORIGINAL)),
            };
            let rule = Divert::new(at(ORIGINAL)).to(at(SERVER));
            let mut new = fresh();
            if rules_first {
                new.divert(rule).unwrap();
            }
            for record in snapshot(&old) {
                assert_eq!(new.import(s(1), &record), Ok(Imported::New));
            }
            new.divert(rule).unwrap();
            assert_eq!(new.connections_on(at(SERVER)), 1, "{rules_first} {protocol}");
            let listed = new.find_divert(at(ORIGINAL)).unwrap().servers().next().unwrap().1;
            assert_eq!(listed, 1);
            let done = new.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
            assert_eq!((done.servers, done.connections), (1, 1), "{rules_first} {protocol}");
            let packet = match protocol {
                Protocol::Tcp => tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b""),
                _ => udp(at(CLIENT), at(ORIGINAL), b""),
            };
            assert_eq!(ends(&there(&mut new, s(2), &packet)).1, at(OTHER));
            assert_eq!((new.connections_on(at(SERVER)), new.connections_on(at(OTHER))), (0, 1));
        }
    }
}

/// More than one step's worth: `poll` goes on, and `poll_at` says so. The counts go down again as connections end.
#[test]
fn a_large_snapshot_is_counted_in_bounded_steps() {
    let mut old = diverting(config());
    old.divert(Divert::new(at("100.100.100.101:80")).to(at("9.9.9.9:80"))).unwrap();
    for n in 0..900 {
        ask(&mut old, s(0), client(n), if n % 3 == 0 { at("100.100.100.101:80") } else { at(ORIGINAL) });
    }
    let mut new = fresh();
    for record in snapshot(&old) {
        new.import(s(0), &record).unwrap();
    }
    let settle = |t: &mut Translator<Heap>| {
        let mut steps = 0;
        while t.poll_at() == Some(s(0)) {
            t.poll(s(0));
            steps += 1;
        }
        steps
    };
    assert_eq!(settle(&mut new), 0, "without a rule there is nothing to do");
    new.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    assert!((10..=20).contains(&settle(&mut new)));
    assert_eq!((new.connections_on(at(SERVER)), new.connections_on(at("9.9.9.9:80"))), (600, 0));
    // The others have no rule yet: they still do when one comes that leads elsewhere.
    new.divert(Divert::new(at("100.100.100.101:80")).to(at("8.8.8.8:80"))).unwrap();
    settle(&mut new);
    assert_eq!(new.connections_on(at("8.8.8.8:80")), 0);
    new.divert(Divert::new(at("100.100.100.101:80")).to(at("9.9.9.9:80"))).unwrap();
    settle(&mut new);
    assert_eq!((new.connections_on(at(SERVER)), new.connections_on(at("9.9.9.9:80"))), (600, 300));
    while let Some(due) = new.poll_at() {
        new.poll(due);
    }
    assert_eq!((new.connections_on(at(SERVER)), new.connections_on(at("9.9.9.9:80"))), (0, 0));
    assert_eq!(new.slots_in_use(), 0);
}

/// Re-diverted before there was any rule: it is counted on the server that it stands on then.
#[test]
fn a_record_that_was_moved_before_its_rule_came_is_counted_where_it_stands() {
    for swept in [false, true] {
        let mut old = diverting(config());
        ask(&mut old, s(0), at(CLIENT), at(ORIGINAL));
        let mut new = fresh();
        new.import(s(0), &snapshot(&old)[0]).unwrap();
        new.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
        if swept {
            new.poll(s(0));
        }
        new.divert(Divert::new(at(ORIGINAL)).to(at(OTHER))).unwrap();
        assert_eq!((new.connections_on(at(SERVER)), new.connections_on(at(OTHER))), (0, 1), "{swept}");
        assert_eq!(ask(&mut new, s(0), at(CLIENT), at(ORIGINAL)).1, at(OTHER));
    }
}

/// A record that was written before a re-divert and comes after it, of a connection that is not known here.
#[test]
fn a_record_on_a_server_that_was_left_is_refused() {
    let mut old = diverting(config());
    ask(&mut old, s(0), at(CLIENT), at(ORIGINAL));
    connect(&mut old, s(0), client(5), at(ORIGINAL));
    for how in [Redivert::Switch, Redivert::Reset] {
        for swept in [false, true] {
            let mut new = diverting(config());
            new.redivert(at(SERVER), at(OTHER), how).unwrap();
            if swept {
                new.poll(s(0));
            }
            for record in snapshot(&old) {
                let refused = Err(RecordError::Outdated { server: at(SERVER) });
                assert_eq!(new.import(s(0), &record), refused, "{how:?} {swept}");
            }
            assert_eq!((new.connections().count(), new.slots_in_use()), (0, 0));
        }
    }
    // Where everything was moved back since, or a rule leads there again, it is as good as any.
    let mut new = diverting(config());
    new.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    new.redivert(at(OTHER), at(SERVER), Redivert::Switch).unwrap();
    assert_eq!(new.import(s(0), &snapshot(&old)[0]), Ok(Imported::New));
    let mut new = diverting(config());
    new.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    new.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    assert_eq!(new.import(s(0), &snapshot(&old)[0]), Ok(Imported::New));
    // Drained connections stay where they are.
    let mut new = diverting(config());
    new.redivert(at(SERVER), at(OTHER), Redivert::Drain).unwrap();
    assert_eq!(new.import(s(0), &snapshot(&old)[0]), Ok(Imported::New));
}

/// The new clock begins at zero, or anywhere; the connection was idle for 200 s of its 300 s.
#[test]
fn idle_time_goes_on_whatever_the_new_clock_says() {
    for start in [0, 1, 150, 5_000, 1_800_000_000] {
        let mut old = diverting(config());
        ask(&mut old, s(1_000), at(CLIENT), at(ORIGINAL));
        old.poll(s(1_200));
        let record = snapshot(&old)[0];
        let mut new = diverting(config());
        new.import(s(start), &record).unwrap();
        assert_eq!(snapshot(&new)[0].as_bytes(), record.as_bytes(), "{start}: still idle for 200 s");
        assert_eq!(new.connections().count(), 1);
        let due = loop {
            let due = new.poll_at().expect("it is there");
            new.poll(due);
            if new.connections().next().is_none() {
                break due;
            }
        };
        let lived = due.duration_since(s(start)).as_millis();
        assert!((100_000..=100_200).contains(&lived), "{start}: {lived} ms more");
    }
}

/// `now` is the moment at which the snapshot was made, on the new clock; the time that nothing ran counts.
#[test]
fn the_time_that_nothing_ran_counts_if_the_clock_says_so() {
    let mut old = diverting(config());
    ask(&mut old, s(1_000), at(CLIENT), at(ORIGINAL));
    old.poll(s(1_200));
    let record = snapshot(&old)[0];
    let mut new = diverting(config());
    new.import(Instant::ZERO, &record).unwrap();
    // The program comes up again 101 s after the snapshot, and its clock began with that.
    let late = udp(at(SERVER), connection(&new, Protocol::Udp).server_side.source, b"");
    assert!(matches!(verdict(&mut new, s(101), &late), Verdict::Drop(_)));
}

/// The documented layout, offset by offset.
#[test]
fn a_record_is_laid_out_as_documented() {
    let config = Config::new([7; 32]).alternative(ip("10.10.10.10"), 513..=513);
    let mut t = Translator::new(config, Heap::new(16, 4)).unwrap();
    t.divert(Divert::new(at("100.100.100.100:80")).to(at("123.45.67.89:8080"))).unwrap();
    connect(&mut t, s(1), at("1.2.3.4:3456"), at("100.100.100.100:80"));
    t.poll(s(9));
    let record = t.records().next().unwrap();
    let bytes = record.as_bytes();
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((RECORD_LENGTH, &bytes[0..2]), (56, &b"bw"[..]));
    assert_eq!(bytes[2..8], [1, 6, 3, 0, 0, 0], "version, TCP, established, no flags, zeros");
    assert_eq!(bytes[8..14], [1, 2, 3, 4, 0x0d, 0x80], "client");
    assert_eq!(bytes[14..20], [100, 100, 100, 100, 0, 80], "original");
    assert_eq!(bytes[20..26], [10, 10, 10, 10, 2, 1], "alternative");
    assert_eq!(bytes[26..32], [123, 45, 67, 89, 31, 144], "server");
    assert!(word(32).abs_diff(8_000) < 66, "idle for 8 s: {} ms", word(32));
    assert_eq!((word(36), word(40)), (CLIENT_START + 1, SERVER_START + 1), "used");
    assert_eq!((word(44), word(48)), (SERVER_START + 1, CLIENT_START + 1), "acknowledged");
    assert_eq!(word(52), crc(&bytes[..52]));
    // The documents say the same.
    let layout = include_str!("../../src/translator/sync/record.rs");
    let documented = &layout[layout.find("# Layout").expect("it is documented")..];
    for line in ["0 | 2 |", "2 | 1 |", "3 | 1 |", "4 | 1 |", "5 | 1 |", "6 | 2 |", "8 | 6 |", "14 | 6 |", "20 | 6 |"]
        .into_iter()
        .chain(["26 | 6 |", "32 | 4 |", "36 | 4 |", "40 | 4 |", "44 | 4 |", "48 | 4 |", "52 | 4 |"])
    {
        assert!(documented.contains(&format!("/// | {line}")), "no row {line}");
    }
}

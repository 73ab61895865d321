//! Silence of any length: hours without a poll, years without a call. What is dead stays dead, to packets and to every
//! other operation, and gives way to what is new.

use core::time::Duration;

use byway::{
    Closed, Divert, Event, Fixed, Heap, Imported, Instant, Protocol, RecordError, Redivert, Storage, Timeouts,
    Translator, Verdict,
};
use byway_testing::talk::*;
use byway_testing::*;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Ticks of 2^16 microseconds wrap around after 2^32: 8.9 years.
const WRAP: u64 = (1 << 48) / 1_000_000;

/// The age lists count in units of 4.2 s modulo 2^16, ticks modulo 2^32: lengths on both sides of every half and whole.
const SILENCES: [u64; 16] = [
    3 * HOUR,
    38 * HOUR,
    39 * HOUR,
    76 * HOUR,
    76 * HOUR + 400,
    77 * HOUR,
    5 * DAY,
    6 * DAY,
    50 * DAY,
    400 * DAY,
    WRAP / 2 - 60,
    WRAP / 2 + 60,
    WRAP - 60,
    WRAP + 1,
    WRAP + 60,
    3 * WRAP + 100,
];

fn syn(n: u32) -> Vec<u8> {
    tcp(client(n), at(ORIGINAL), (SYN, 1, 0), b"")
}

fn data(n: u32) -> Vec<u8> {
    tcp(client(n), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"")
}

fn fill<S: Storage>(t: &mut Translator<S>, connections: u32) {
    for n in 0..connections {
        connect(t, s(0), client(n), at(ORIGINAL));
    }
}

fn small() -> Translator<Fixed<8, 4>> {
    let mut t = Translator::new(config(), Fixed::<8, 4>::new()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    t
}

/// A caller that only forwards, without a new connection and without a poll. Seven of eight connections are dead.
#[test]
fn a_table_of_dead_connections_takes_new_ones() {
    for silence in SILENCES.into_iter().filter(|s| *s < 10 * DAY) {
        for polls in [true, false] {
            let mut t = small();
            fill(&mut t, 8);
            let mut now = 0;
            while now < silence {
                now += HOUR;
                there(&mut t, s(now), &data(0));
            }
            for n in 0..600 {
                now += 1;
                if polls {
                    t.poll(s(now));
                }
                assert_eq!(verdict(&mut t, s(now), &syn(100 + n)), Verdict::ToServer, "{silence} {polls} {n}");
                there(&mut t, s(now), &data(0));
            }
        }
    }
}

/// The busy connection was put at the end of its list a moment ago, by a poll, and stands in front of the dead.
#[test]
fn what_is_dead_behind_a_busy_connection_gives_way() {
    let mut t = small();
    fill(&mut t, 8);
    for now in [5_000, 5_001] {
        t.poll(s(now));
        there(&mut t, s(now), &data(0));
    }
    // Just dead, and within a lap of the list's last round.
    for (n, now) in (0..7).zip(7_441..) {
        assert_eq!(verdict(&mut t, s(now), &syn(100 + n)), Verdict::ToServer, "{n}");
    }
    there(&mut t, s(7_450), &data(0));
    assert_eq!(t.counters().evicted, 0, "what is alive and worth more stays");
}

/// Nothing at all is called for that long; then a packet of a connection that was there comes.
#[test]
fn no_silence_brings_a_dead_connection_back() {
    for silence in SILENCES {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for polls in [true, false] {
                let mut t = small();
                let (alternative, server) = match protocol {
                    Protocol::Tcp => connect(&mut t, s(5), at(CLIENT), at(ORIGINAL)),
                    _ => ask_and_answer(&mut t, s(5), at(CLIENT), at(ORIGINAL)),
                };
                let now = s(5 + silence);
                if polls {
                    t.poll(now);
                }
                let late = match protocol {
                    Protocol::Tcp => tcp(server, alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), b"late"),
                    _ => udp(server, alternative, b"late"),
                };
                let seen = verdict(&mut t, now, &late);
                assert!(matches!(seen, Verdict::Drop(_)), "{silence} {protocol} {polls}: {seen:?}");
                assert_eq!((t.connections().count(), t.connections_on(at(SERVER))), (0, 0), "{silence} {protocol}");
                assert_eq!(t.records().count(), 0);
                t.poll(now);
                assert_eq!((t.counters().expired, t.counters().forgotten), (1, 0), "{silence} {protocol}");
                assert!(events(&mut t).iter().any(|e| matches!(e, Event::Closed { why: Closed::Expired, .. })));
            }
        }
    }
}

/// Years go by in steps, each shorter or longer than the longest time-out. One connection is busy, if the step allows.
#[test]
fn ticks_wrap_around_under_a_caller_that_only_forwards() {
    let longest = Timeouts { tcp_established: Timeouts::MAX, ..Timeouts::RECOMMENDED };
    for step in [HOUR, 30 * HOUR, 4 * DAY, 6 * DAY, 100 * DAY, 3 * 365 * DAY] {
        let mut t = Translator::new(config().timeouts(longest), Heap::new(600, 4)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        let sides: Vec<_> = (0..500).map(|n| connect(&mut t, s(0), client(n), at(ORIGINAL))).collect();
        let mut now = 0;
        while now < WRAP + DAY {
            now = (now + step).min(WRAP + DAY);
            let (alternative, server) = sides[0];
            let reply = tcp(server, alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), b"");
            let alive = step < Timeouts::MAX.as_secs();
            assert_eq!(verdict(&mut t, s(now), &reply) == Verdict::ToClient, alive, "{step} {now}");
        }
        for (alternative, server) in &sides[1..] {
            let reply = tcp(*server, *alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), b"late");
            assert!(matches!(verdict(&mut t, s(now), &reply), Verdict::Drop(_)), "{step}");
        }
        assert_eq!(t.connections().count(), usize::from(step < Timeouts::MAX.as_secs()), "{step}");
    }
}

/// A caller that sleeps until `poll_at` and does nothing else: each wait has an end, and nothing ends late by more than
/// a quarter of its time-out, whenever it begins to sleep.
#[test]
fn poll_at_leads_to_the_end_whenever_it_is_asked_for() {
    for silence in SILENCES.into_iter().chain([0, 10]) {
        let mut t = small();
        fill(&mut t, 6);
        ask(&mut t, s(0), client(6), at(ORIGINAL));
        there(&mut t, s(1_000), &data(0));
        let mut now = s(1_000 + silence);
        let mut slept = 0;
        t.poll(now);
        while let Some(due) = t.poll_at() {
            assert!(due >= now);
            now = due;
            t.poll(now);
            slept += 1;
            assert!(slept < 60, "{silence}: it does not come to an end");
        }
        assert_eq!((t.slots_in_use(), t.counters().expired), (0, 7), "{silence}");
        let last = Duration::from_secs(1_000 + silence.max(7_440 * 5 / 4) + 7_440 + 125);
        assert!(now.duration_since(Instant::ZERO) <= last, "{silence}: {now:?}");
    }
}

/// Each operation that could take a dead connection for one that is alive. Nobody has swept: only time went on, with
/// the packet of somebody else.
#[test]
fn a_dead_connection_is_neither_moved_nor_reset_nor_counted_nor_listed() {
    for how in [Redivert::Switch, Redivert::Reset, Redivert::Drain] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut t = diverting(config());
            t.divert(Divert::new(at("100.100.100.101:80")).to(at("9.9.9.9:80"))).unwrap();
            let (late, busy) = match protocol {
                Protocol::Tcp => (7_440, 7_400),
                _ => (300, 290),
            };
            // The first is busy, and so the head of the list is alive.
            for n in 0..100 {
                let _ = match protocol {
                    Protocol::Tcp => connect(&mut t, s(0), client(n), at(ORIGINAL)),
                    _ => ask(&mut t, s(0), client(n), at(ORIGINAL)),
                };
            }
            t.poll(s(busy));
            let again = if protocol == Protocol::Tcp { data(0) } else { udp(client(0), at(ORIGINAL), b"") };
            there(&mut t, s(busy), &again);
            t.poll(s(busy));
            ask(&mut t, s(late + 1), at(CLIENT), at("100.100.100.101:80"));
            events(&mut t);
            assert_eq!(t.connections_on(at(SERVER)), 1, "{how:?} {protocol}");
            assert_eq!(t.plan().redivert(at(SERVER), at(OTHER), how).unwrap().connections, 1);
            assert_eq!(t.redivert(at(SERVER), at(OTHER), how).unwrap().connections, 1);
            let mut said = Vec::new();
            for _ in 0..20 {
                t.poll(s(late + 1));
                said.extend(say(&mut t, s(late + 1)));
            }
            let k = *t.counters();
            assert_eq!(k.moved + k.reset, u64::from(how != Redivert::Drain), "{how:?} {protocol}");
            assert!(how == Redivert::Drain || k.expired == 99, "{how:?} {protocol}: {}", k.expired);
            assert_eq!(said.len(), if how == Redivert::Reset && protocol == Protocol::Tcp { 2 } else { 0 });
            assert!(t.connections().count() <= 2);
        }
    }
}

/// A record of a dead connection is refused, and one of the same endpoints as a dead connection is not.
#[test]
fn a_dead_connection_is_in_no_records_way() {
    for silence in SILENCES {
        let mut t = small();
        connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        let record = t.records().next().unwrap();
        let now = s(silence);
        assert_eq!(t.import(now, &record), Ok(Imported::New), "{silence}: it is as old as `now` says");
        assert_eq!((t.counters().expired, t.connections().count()), (1, 1));
    }
    let mut t = small();
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.poll(s(7_000));
    let record = t.records().next().unwrap();
    let mut later = small();
    let short = Timeouts { tcp_established: Duration::from_secs(6_000), ..Timeouts::RECOMMENDED };
    let mut strict = Translator::new(config().timeouts(short).allow_short_timeouts(), Fixed::<8, 4>::new()).unwrap();
    assert!(matches!(strict.import(s(3), &record), Err(RecordError::Expired { .. })));
    assert_eq!(later.import(s(3), &record), Ok(Imported::New));
}

/// A connection past its time-out does not keep its endpoint from another one that has to have just that.
#[test]
fn a_dead_connection_gives_its_kept_source_away() {
    fn both<S: Storage>(t: &mut Translator<S>) {
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).keep_source()).unwrap();
        t.divert(Divert::new(at("100.100.100.101:80")).to(at(SERVER)).keep_source()).unwrap();
    }
    let mut t = Translator::new(config(), Heap::new(1_000, 8)).unwrap();
    both(&mut t);
    // So many that a bounded sweep does not find the one in question.
    for n in 0..300 {
        ask(&mut t, s(0), client(n), at(ORIGINAL));
    }
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let packet = udp(at(CLIENT), at("100.100.100.101:80"), b"");
    assert_ne!(verdict(&mut t, s(299), &packet), Verdict::ToServer, "that one is alive");
    assert_eq!(verdict(&mut t, s(10_000), &packet), Verdict::ToServer);
}

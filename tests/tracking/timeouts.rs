//! How long things live, on a simulated clock.

use byway::{Divert, DropReason, Heap, Instant, Midstream, Protocol, State, Timeouts, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;
use core::time::Duration;

/// A RST that does not lie within what is under way does nothing to an idle connection, and one that does costs it no
/// more than its long time-out (RFC 5961, section 3; RFC 7857, section 2.2).
#[test]
fn an_inexact_rst_on_an_idle_connection_does_not_end_it() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let start = SERVER_START + 1;
    back(&mut t, s(3_600), &tcp(server, alternative, (RST, start + 7, 0), b""));
    assert_eq!(tcp_state(&t), Some(State::Established));

    // Ten bytes are under way, and the RST comes behind them.
    back(&mut t, s(3_601), &tcp(server, alternative, (ACK, start, CLIENT_START + 1), &[0; 10]));
    back(&mut t, s(7_000), &tcp(server, alternative, (RST, start + 10, 0), b""));
    assert_eq!(tcp_state(&t), Some(State::Doubtful));
    there(&mut t, s(7_239), &tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, start), b"."));
    assert_eq!(tcp_state(&t), Some(State::Established));

    back(&mut t, s(7_300), &tcp(server, alternative, (RST, start + 10, 0), b""));
    // It is no sign of life: another one does not prolong the time.
    back(&mut t, s(7_400), &tcp(server, alternative, (RST, start + 9, 0), b""));
    let late = tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 2, start), b".");
    assert_eq!(verdict(&mut t, s(7_541), &late), Verdict::Pass);
    assert_eq!(t.counters().expired, 1);
}

/// A state with a shorter time-out begins with the packet that brought it, whether or not that packet refreshes.
#[test]
fn a_servers_fin_does_not_end_a_connection_that_its_packets_do_not_refresh() {
    let mut t = diverting(config().refresh_from_server(false).midstream(Midstream::Drop));
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (FIN | ACK, CLIENT_START + 1, SERVER_START + 1), b""));
    back(&mut t, s(600), &tcp(server, alternative, (FIN | ACK, SERVER_START + 1, CLIENT_START + 2), b""));
    there(&mut t, s(601), &tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 2, SERVER_START + 2), b""));
    assert_eq!(tcp_state(&t), Some(State::TimeWait));
    assert_eq!(t.counters().closed, 1);
}

#[test]
fn poll_at_is_never_in_the_past_not_even_at_the_end_of_time() {
    for last in [u64::MAX, u64::MAX - (1 << 16), u64::MAX - 1_000_000, u64::MAX - 100_000_000] {
        let now = Instant::from_micros(last);
        let mut t = diverting(config());
        connect(&mut t, now, at(CLIENT), at(ORIGINAL));
        let wake = t.poll_at().unwrap();
        assert!(wake >= now, "{wake:?} is before {now:?}");
        t.poll(wake);
        let side = connection(&t, Protocol::Tcp).server_side;
        let packet = tcp(side.destination, side.source, (ACK, SERVER_START + 1, CLIENT_START + 1), b"still here");
        back(&mut t, wake, &packet);
    }
}

/// A connection of one kind, brought into one state; and what it may do after `idle` seconds.
struct Idle {
    name: &'static str,
    /// The time-out that the state has, in seconds.
    lives: u64,
    open: fn(&mut Translator<Heap>, Instant),
    protocol: Protocol,
}

fn from_client(flags: u8, c: u32, v: u32) -> Vec<u8> {
    tcp(at(CLIENT), at(ORIGINAL), (flags, CLIENT_START + c, SERVER_START + v), b"")
}

fn from_server(t: &Translator<Heap>, flags: u8, v: u32, c: u32) -> Vec<u8> {
    let side = connection(t, Protocol::Tcp).server_side;
    tcp(side.destination, side.source, (flags, SERVER_START + v, CLIENT_START + c), b"")
}

const STATES: [Idle; 11] = [
    Idle {
        name: "opening",
        lives: 240,
        protocol: Protocol::Tcp,
        open: |t, now| drop(there(t, now, &tcp(at(CLIENT), at(ORIGINAL), (SYN, CLIENT_START, 0), b""))),
    },
    Idle {
        name: "opened",
        lives: 240,
        protocol: Protocol::Tcp,
        open: |t, now| {
            there(t, now, &tcp(at(CLIENT), at(ORIGINAL), (SYN, CLIENT_START, 0), b""));
            let answer = from_server(t, SYN | ACK, 0, 1);
            back(t, now, &answer);
        },
    },
    Idle {
        name: "established",
        lives: 7_440,
        protocol: Protocol::Tcp,
        open: |t, now| {
            connect(t, now, at(CLIENT), at(ORIGINAL));
        },
    },
    Idle {
        name: "client closed",
        lives: 7_440,
        protocol: Protocol::Tcp,
        open: |t, now| {
            connect(t, now, at(CLIENT), at(ORIGINAL));
            there(t, now, &from_client(FIN | ACK, 1, 1));
        },
    },
    Idle {
        name: "server closed",
        lives: 7_440,
        protocol: Protocol::Tcp,
        open: |t, now| {
            connect(t, now, at(CLIENT), at(ORIGINAL));
            let fin = from_server(t, FIN | ACK, 1, 1);
            back(t, now, &fin);
        },
    },
    Idle {
        name: "closing",
        lives: 240,
        protocol: Protocol::Tcp,
        open: |t, now| {
            connect(t, now, at(CLIENT), at(ORIGINAL));
            there(t, now, &from_client(FIN | ACK, 1, 1));
            let fin = from_server(t, FIN | ACK, 1, 1);
            back(t, now, &fin);
        },
    },
    Idle {
        name: "time-wait",
        lives: 120,
        protocol: Protocol::Tcp,
        open: |t, now| {
            connect(t, now, at(CLIENT), at(ORIGINAL));
            let rst = from_server(t, RST, 1, 0);
            back(t, now, &rst);
        },
    },
    Idle {
        name: "doubtful",
        lives: 240,
        protocol: Protocol::Tcp,
        open: |t, now| {
            connect(t, now, at(CLIENT), at(ORIGINAL));
            let (alternative, server) = (connection(t, Protocol::Tcp).server_side.source, at(SERVER));
            back(t, now, &tcp(server, alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), &[0; 98]));
            let rst = from_server(t, RST, 99, 0);
            back(t, now, &rst);
        },
    },
    Idle {
        name: "udp unanswered",
        lives: 300,
        protocol: Protocol::Udp,
        open: |t, now| {
            ask(t, now, at(CLIENT), at(ORIGINAL));
        },
    },
    Idle {
        name: "udp answered",
        lives: 300,
        protocol: Protocol::Udp,
        open: |t, now| {
            ask_and_answer(t, now, at(CLIENT), at(ORIGINAL));
        },
    },
    Idle {
        name: "echo",
        lives: 60,
        protocol: Protocol::Icmp,
        open: |t, now| drop(there(t, now, &echo(8, *at(CLIENT).ip(), *at(ORIGINAL).ip(), 40_000, b""))),
    },
];

fn table() -> Translator<Heap> {
    let mut t = translator(config().midstream(Midstream::Drop));
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    t
}

fn is_there(t: &Translator<Heap>, protocol: Protocol) -> bool {
    let original = if protocol == Protocol::Icmp { at("100.100.100.100:0") } else { at(ORIGINAL) };
    t.connection(protocol, at(CLIENT), original).is_some()
}

/// A packet of the server for the open connection.
fn from_server_of(t: &Translator<Heap>, protocol: Protocol) -> Vec<u8> {
    let found = t.connections().find(|c| c.protocol == protocol).expect("it is there");
    let (near, far) = (found.server_side.source, found.server_side.destination);
    match protocol {
        Protocol::Tcp => tcp(far, near, (ACK, SERVER_START + 1, CLIENT_START + 1), b""),
        Protocol::Udp => udp(far, near, b""),
        _ => echo(0, *far.ip(), *near.ip(), near.port(), b""),
    }
}

/// RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2, RFC 7857 section 2.1: alive a second before, dead a second after,
/// for a packet, for the list, and for poll; at the start, in the middle and where 32 bits of ticks wrap.
#[test]
fn each_state_lives_as_long_as_it_should() {
    // 8.9 years are 2^32 ticks of 2^16 microseconds.
    let wrap = Instant::from_micros((1 << 48) - 10_000_000);
    let wrap_later = Instant::from_micros((1 << 48) - 100_000_000);
    for start in [s(0), s(1_000_000), wrap, wrap_later, Instant::from_micros(1_790_000_000_000_000)] {
        for Idle { name, lives, open, protocol } in &STATES {
            for polled in [false, true] {
                let mut t = table();
                open(&mut t, start);
                let packet = from_server_of(&t, *protocol);
                let before = start + Duration::from_secs(lives - 1);
                if polled {
                    t.poll(before);
                }
                let mut other = packet.clone();
                assert!(is_there(&t, *protocol), "{name}");
                assert_eq!(t.translate(before, &mut other), Verdict::ToClient, "{name} at {before:?}");

                let mut t = table();
                open(&mut t, start);
                let after = start + Duration::from_secs(lives + 1);
                if polled {
                    t.poll(after);
                    assert_eq!(t.connections().count(), 0, "{name}");
                }
                assert_eq!(verdict(&mut t, after, &packet), Verdict::Drop(DropReason::NoConnection), "{name}");
                assert!(!is_there(&t, *protocol), "{name}");
                assert_eq!(t.connections().count(), 0, "{name}");
            }
        }
    }
}

/// Exactly at the end, in steps of one tick, nothing strange happens in any state: a packet is translated or finds
/// nothing, and never leaks.
#[test]
fn a_packet_at_the_very_moment_of_expiry() {
    for Idle { name, lives, open, protocol } in &STATES {
        let mut t = table();
        open(&mut t, s(5));
        let packet = from_server_of(&t, *protocol);
        let mut alive = true;
        for tick in 0..40_u64 {
            let now = Instant::from_micros((5 + lives) * 1_000_000 - 1_300_000 + tick * 65_536);
            let mut fresh = table();
            open(&mut fresh, s(5));
            let got = verdict(&mut fresh, now, &packet);
            match got {
                Verdict::ToClient => assert!(alive, "{name} came back to life"),
                Verdict::Drop(DropReason::NoConnection) => alive = false,
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(!alive);
    }
}

/// Who polls when [`Translator::poll_at`] says so learns of the end of one idle connection in time, and is not woken
/// more than a few times for it.
#[test]
fn poll_at_leads_to_the_end_of_one_idle_connection() {
    for Idle { name, lives, open, .. } in &STATES {
        for start in [s(0), s(77), Instant::from_micros((1 << 48) - 20_000_000)] {
            let mut t = table();
            open(&mut t, start);
            let (mut now, mut wakes) = (start, 0);
            while t.connections().count() > 0 {
                let next = t.poll_at().expect("something is waited for");
                assert!(next > now, "{name}: woken at {next:?} for nothing new");
                now = next;
                t.poll(now);
                wakes += 1;
            }
            let lived = now.duration_since(start);
            let late = lived.checked_sub(Duration::from_secs(*lives)).expect("it ended before its time");
            // A doubtful connection stands in the list of the established ones, but at its head.
            assert!(late <= Duration::from_millis(300), "{name}: {late:?} late");
            assert!(wakes <= 6, "{name}: {wakes} wakes");
            // The hold afterwards ends as well, and then there is nothing to wait for.
            for _ in 0..10 {
                let Some(next) = t.poll_at() else { break };
                assert!(next > now);
                now = next;
                t.poll(now);
            }
            assert_eq!((t.poll_at(), t.slots_in_use()), (None, 0), "{name}");
        }
    }
}

/// What keeps a connection alive, and what must not: RSTs and ICMP errors (RFC 7857, section 7.1; RFC 5508, REQ-6).
#[test]
fn only_signs_of_life_refresh() {
    type Say = fn(&mut Translator<Heap>, Instant);
    let error_to_client: Say = |t, now| {
        let side = connection(t, Protocol::Udp).server_side;
        let about = udp(side.source, side.destination, b"");
        back(t, now, &icmp_error(3, 3, *side.destination.ip(), &about, 28));
    };
    let error_to_server: Say = |t, now| {
        let about = udp(at(ORIGINAL), at(CLIENT), b"");
        there(t, now, &icmp_error(3, 3, *at(CLIENT).ip(), &about, 28));
    };
    let from_the_client: Say = |t, now| drop(there(t, now, &udp(at(CLIENT), at(ORIGINAL), b"")));
    let from_the_server: Say = |t, now| {
        let side = connection(t, Protocol::Udp).server_side;
        back(t, now, &udp(side.destination, side.source, b""));
    };
    let a_record: Say = |t, _| assert!(t.record(&connection(t, Protocol::Udp)).is_some());
    for (say, refresh_from_server, refreshes) in [
        (error_to_client, true, false),
        (error_to_server, true, false),
        (a_record, true, false),
        (from_the_client, true, true),
        (from_the_client, false, true),
        (from_the_server, true, true),
        (from_the_server, false, false),
    ] {
        let mut t = translator(config().refresh_from_server(refresh_from_server));
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
        ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        say(&mut t, s(150));
        say(&mut t, s(299));
        t.poll(s(302));
        assert_eq!(is_there(&t, Protocol::Udp), refreshes);
        if refreshes {
            let mut idle = udp(at(CLIENT), at(ORIGINAL), b"");
            assert_eq!(t.translate(s(598), &mut idle), Verdict::ToServer);
        }
    }
    // A RST with a wrong number, on a connection that is half closed.
    let mut t = table();
    (STATES[3].open)(&mut t, s(0));
    for now in [3_000, 6_000, 7_400] {
        let rst = from_server(&t, RST, 77, 0);
        back(&mut t, s(now), &rst);
    }
    t.poll(s(7_442));
    assert!(!is_there(&t, Protocol::Tcp));
}

/// Time may stand still, jump ahead, and seem to go back; it is never taken to have gone back.
#[test]
fn time_that_goes_back_is_clamped() {
    let mut t = table();
    ask_and_answer(&mut t, s(1_000), at(CLIENT), at(ORIGINAL));
    for now in [0, 999, 500, 1] {
        ask_and_answer(&mut t, s(now), at(CLIENT), at(ORIGINAL));
        t.poll(s(now));
        assert!(t.poll_at().unwrap() > s(1_000));
    }
    t.poll(s(1_299));
    assert!(is_there(&t, Protocol::Udp));
    t.poll(s(1_302));
    assert!(!is_there(&t, Protocol::Udp));
    // From one end of time to the other.
    let mut t = table();
    ask(&mut t, Instant::ZERO, at(CLIENT), at(ORIGINAL));
    let end = Instant::from_micros(u64::MAX);
    t.poll(end);
    t.poll(end);
    ask_and_answer(&mut t, end, client(1), at(ORIGINAL));
    ask_and_answer(&mut t, Instant::ZERO, client(1), at(ORIGINAL));
    assert!(t.poll_at().is_some_and(|at| at >= end));
    assert!(say(&mut t, end).is_empty());
}

/// New time-outs count for connections that are there: shorter ones at once, and nothing is stuck behind the others.
#[test]
fn changed_time_outs_count_at_once() {
    let mut t = translator(config().allow_short_timeouts());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    for n in 0..50 {
        ask_and_answer(&mut t, s(u64::from(n)), client(n), at(ORIGINAL));
    }
    let short = Timeouts { udp: Duration::from_secs(10), hold: Duration::from_secs(1), ..Timeouts::RECOMMENDED };
    t.set_timeouts(short).unwrap();
    assert_eq!(t.timeouts(), short);
    t.poll(s(50));
    assert_eq!(t.connections().count(), 10, "those of the last ten seconds");
    assert_eq!(t.counters().expired, 40);
    let mut now = s(50);
    while let Some(next) = t.poll_at() {
        assert!(next > now);
        now = next;
        t.poll(now);
    }
    assert!(now < s(70), "{now:?}");
    assert_eq!((t.slots_in_use(), t.counters().expired), (0, 50));
    // Longer ones, too.
    ask_and_answer(&mut t, s(100), at(CLIENT), at(ORIGINAL));
    t.set_timeouts(Timeouts { udp: Duration::from_secs(1_000), ..short }).unwrap();
    t.poll(s(1_099));
    assert!(is_there(&t, Protocol::Udp));

    let mut strict = translator(config());
    let error = strict.set_timeouts(short).unwrap_err();
    let floor = Duration::from_secs(120);
    let named = byway::ConfigError::TimeoutTooShort { name: "udp", value: Duration::from_secs(10), floor };
    assert_eq!((error, strict.timeouts()), (named, Timeouts::RECOMMENDED));
    let long = Timeouts { icmp: Timeouts::MAX + Duration::from_secs(1), ..Timeouts::RECOMMENDED };
    assert!(matches!(strict.set_timeouts(long), Err(byway::ConfigError::TimeoutTooLong { name: "icmp", .. })));
}

/// A busy connection outlives its time-out many times over, whether or not anybody polls.
#[test]
fn a_busy_connection_never_ends() {
    for polls in [false, true] {
        let mut t = table();
        let first = ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        for turn in 1..200 {
            let now = s(turn * 290);
            assert_eq!(ask_and_answer(&mut t, now, at(CLIENT), at(ORIGINAL)), first);
            if polls {
                t.poll(now);
                assert!(t.poll_at().is_some_and(|at| at > now));
            }
            // Others come and go meanwhile.
            ask(&mut t, now, client(turn as u32), at(ORIGINAL));
        }
        assert_eq!(t.counters().opened, 200);
    }
}

/// All dead connections are swept, a bounded share at each call, however many there are.
#[test]
fn a_thousand_dead_connections_are_swept_in_shares() {
    let mut t = Translator::new(config(), Heap::new(1_000, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..1_000 {
        ask(&mut t, s(0), client(n), at(ORIGINAL));
    }
    let mut polls = 0;
    while t.counters().expired < 1_000 {
        let before = t.counters().expired;
        assert!(t.poll_at().is_some_and(|at| at <= s(301)), "it says to come back");
        t.poll(s(301));
        assert!(t.counters().expired - before <= 64);
        polls += 1;
        assert!(polls < 50);
    }
    assert!(polls >= 16);
}

/// Who never polls has the tables swept by new connections, whatever rule opens them.
#[test]
fn new_connections_sweep_every_list_also_where_the_source_is_kept() {
    for keep in [false, true] {
        let mut t = translator(config());
        let divert = Divert::new(at(ORIGINAL)).to(at(SERVER));
        t.divert(if keep { divert.keep_source() } else { divert }).unwrap();
        for n in 0..60 {
            // Each comes when those before it have outlived their time-out.
            ask(&mut t, s(u64::from(n) * 301), client(n), at(ORIGINAL));
        }
        // Each looks at one of six lists.
        assert!(t.counters().expired >= 9, "kept: {keep}, {} of 59 dead ones were buried", t.counters().expired);
        assert!(t.slots_in_use() <= 60 - 9, "kept: {keep}, {} slots in use", t.slots_in_use());
    }
}

//! A table that is full, and clients that want too much.

use byway::{Closed, Config, Divert, DropReason, Event, Heap, Instant, Protocol, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// Connections whose time-out has passed count against nobody, even if nobody ever polls.
#[test]
fn dead_connections_do_not_use_up_a_clients_limit() {
    let mut t = diverting(config().client_limit(3));
    let from = |port: u16| udp(core::net::SocketAddrV4::new(ip("192.168.7.7"), port), at(ORIGINAL), b"");
    for port in 1..=3 {
        there(&mut t, s(0), &from(port));
    }
    assert_eq!(verdict(&mut t, s(299), &from(4)), Verdict::Drop(DropReason::ClientLimit));
    for port in 5..=7 {
        there(&mut t, s(302), &from(port));
    }
    assert_eq!(verdict(&mut t, s(302), &from(8)), Verdict::Drop(DropReason::ClientLimit));
}

const SIZE: u32 = 64;

/// A table of [`SIZE`] slots.
fn small(config: Config) -> Translator<Heap> {
    let mut t = Translator::new(config, Heap::new(SIZE as usize, 4).events(1_000)).unwrap();
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    t
}

fn syn(from: u32) -> Vec<u8> {
    tcp(client(from), at(ORIGINAL), (SYN, CLIENT_START, 0), b"")
}

fn data(from: u32) -> Vec<u8> {
    tcp(client(from), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b".")
}

fn alive(t: &Translator<Heap>, protocol: Protocol, from: u32) -> bool {
    t.connection(protocol, client(from), at(ORIGINAL)).is_some()
}

/// As many connections as there is room for really fit, for storage of every odd size but 13 to 15: there the one
/// bucket of the index is full at 12.
#[test]
fn a_table_holds_as_many_as_it_says() {
    for size in (8..=12).chain(16..80).chain([100, 170, 255, 256, 257, 1_000]) {
        let mut t = Translator::new(config(), Heap::new(size, 2)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        for n in 0..size as u32 {
            ask_and_answer(&mut t, s(0), client(n), at(ORIGINAL));
        }
        assert_eq!((t.capacity(), t.slots_in_use(), t.connections().count()), (size, size as u32, size));
        assert_eq!(t.counters().evicted, 0);
        let one_more = udp(client(9_999), at(ORIGINAL), b"");
        assert_eq!(verdict(&mut t, s(0), &one_more), Verdict::Drop(DropReason::TableFull), "{size}");
        for n in 0..size as u32 {
            ask_and_answer(&mut t, s(1), client(n), at(ORIGINAL));
        }
    }
}

/// First the dead, then what only holds its port, then half-open TCP, unanswered UDP and echo; never the rest.
#[test]
fn the_order_in_which_connections_are_given_up() {
    let mut t = small(config());
    // A quarter each: established, answered, half-open, unanswered.
    for n in 0..SIZE / 4 {
        connect(&mut t, s(1_000), client(n), at(ORIGINAL));
        ask_and_answer(&mut t, s(1_000), client(100 + n), at(ORIGINAL));
        there(&mut t, s(1_000), &syn(200 + n));
        ask(&mut t, s(1_000), client(300 + n), at(ORIGINAL));
    }
    assert_eq!(t.slots_in_use(), SIZE);
    // Two end: their slots are taken first, though TIME-WAIT has not passed.
    for n in 0..2 {
        there(&mut t, s(1_001), &tcp(client(n), at(ORIGINAL), (RST, CLIENT_START + 1, 0), b""));
    }
    let mut new = 10_000;
    let mut open = |t: &mut Translator<Heap>, count: u32| {
        for _ in 0..count {
            connect(t, s(1_002), client(new), at(ORIGINAL));
            new += 1;
        }
    };
    open(&mut t, 2);
    assert_eq!((t.counters().evicted, t.slots_in_use()), (0, SIZE));
    // Then the cheap ones, and no others.
    open(&mut t, SIZE / 2);
    assert_eq!(t.counters().evicted, u64::from(SIZE / 2));
    for n in 0..SIZE / 4 {
        assert_eq!(alive(&t, Protocol::Tcp, n), n >= 2);
        assert!(alive(&t, Protocol::Udp, 100 + n), "an answered connection was given up");
        assert!(!alive(&t, Protocol::Tcp, 200 + n) && !alive(&t, Protocol::Udp, 300 + n));
    }
    // Now there is nothing left that may be given up.
    assert_eq!(verdict(&mut t, s(1_002), &syn(20_000)), Verdict::Drop(DropReason::TableFull));
    assert_eq!(t.counters().evicted, u64::from(SIZE / 2));
    // The dead are nobody's: after the UDP time-out there is room, also without poll.
    for n in 0..SIZE / 4 {
        connect(&mut t, s(1_400), client(30_000 + n), at(ORIGINAL));
    }
    assert_eq!((t.counters().expired, t.counters().evicted), (u64::from(SIZE / 4), u64::from(SIZE / 2)));
    assert_eq!(verdict(&mut t, s(1_400), &syn(20_000)), Verdict::Drop(DropReason::TableFull));
    let closed = events(&mut t).into_iter().filter_map(|e| match e {
        Event::Closed { why, .. } => Some(why),
        _ => None,
    });
    let evicted = closed.filter(|why| *why == Closed::Evicted).count();
    assert_eq!(evicted, SIZE as usize / 2);
}

/// SYNs from everywhere: who has a connection keeps it, and the flood only drives out itself.
#[test]
fn a_syn_flood_drives_out_nobody_but_itself() {
    let mut t = small(config());
    for n in 0..SIZE / 4 {
        connect(&mut t, s(0), client(n), at(ORIGINAL));
        ask_and_answer(&mut t, s(0), client(n), at(ORIGINAL));
    }
    for n in 0..20_000 {
        assert_eq!(verdict(&mut t, s(1), &syn(1_000 + n)), Verdict::ToServer);
    }
    for n in 0..SIZE / 4 {
        there(&mut t, s(2), &data(n));
        ask_and_answer(&mut t, s(2), client(n), at(ORIGINAL));
        // And new ones get through, if their handshake is not outrun.
        connect(&mut t, s(2), client(500 + n), at(ORIGINAL));
    }
    assert_eq!(t.counters().opened, u64::from(SIZE / 2 + 20_000 + SIZE / 4));
    assert_eq!(t.counters().evicted, u64::from(20_000 - SIZE / 2 + SIZE / 4));
    assert_eq!(t.slots_in_use(), SIZE);
}

/// The same with datagrams that nobody answers, and with pings.
#[test]
fn floods_of_datagrams_and_pings_drive_out_nobody_but_themselves() {
    for pings in [false, true] {
        let mut t = small(config());
        for n in 0..SIZE / 4 {
            connect(&mut t, s(0), client(n), at(ORIGINAL));
            ask_and_answer(&mut t, s(0), client(n), at(ORIGINAL));
        }
        for n in 0..5_000 {
            let from = client(1_000 + n);
            let packet =
                if pings { echo(8, *from.ip(), ip("100.100.100.100"), 7, b"") } else { udp(from, at(ORIGINAL), b"") };
            assert_eq!(verdict(&mut t, s(1), &packet), Verdict::ToServer);
        }
        for n in 0..SIZE / 4 {
            there(&mut t, s(2), &data(n));
            ask_and_answer(&mut t, s(2), client(n), at(ORIGINAL));
        }
    }
}

/// Of the oldest half-open connections, the one goes whose client has most.
#[test]
fn the_client_that_holds_most_pays() {
    let mut t = small(config());
    let greedy = |port: u16| {
        let from = core::net::SocketAddrV4::new(ip("192.168.9.9"), port);
        tcp(from, at(ORIGINAL), (SYN, 1, 0), b"")
    };
    there(&mut t, s(0), &syn(1));
    there(&mut t, s(0), &greedy(1));
    there(&mut t, s(0), &syn(2));
    for port in 2..SIZE as u16 - 1 {
        there(&mut t, s(0), &greedy(port));
    }
    for n in 0..20 {
        there(&mut t, s(1), &syn(100 + n));
        assert!(alive(&t, Protocol::Tcp, 1) && alive(&t, Protocol::Tcp, 2), "a modest client paid");
    }
    assert_eq!(t.counters().evicted, 20);
}

/// Who is given up is told, so that it need not wait for its own time-out.
#[test]
fn an_evicted_connection_is_told_with_a_reset() {
    let mut t = small(config());
    for n in 0..SIZE {
        there(&mut t, s(0), &syn(n));
    }
    there(&mut t, s(0), &syn(1_000));
    let said = say(&mut t, s(0));
    assert_eq!(said.len(), 1, "the server knows nothing of a connection that was only opening");
    assert_eq!((said[0][9], ends(&said[0]).0, segment(&said[0]).0), (6, at(ORIGINAL), RST | ACK));
    assert_eq!(segment(&said[0]).2, CLIENT_START + 1, "a SYN is refused by acknowledging it");

    // A connection whose server has answered: both are told.
    let mut t = small(config());
    let seen = there(&mut t, s(0), &syn(0));
    let (alternative, server) = ends(&seen);
    back(&mut t, s(0), &tcp(server, alternative, (SYN | ACK, SERVER_START, CLIENT_START + 1), b""));
    for n in 1..=SIZE {
        there(&mut t, s(0), &syn(n));
    }
    let said = say(&mut t, s(0));
    let told: Vec<_> = said.iter().map(|p| (ends(p), segment(p))).collect();
    assert_eq!(
        told,
        [
            ((at(ORIGINAL), client(0)), (RST | ACK, SERVER_START + 1, CLIENT_START + 1)),
            ((alternative, server), (RST | ACK, CLIENT_START + 1, SERVER_START + 1)),
        ]
    );
    // UDP has no way to say it.
    let mut t = small(config());
    for n in 0..=SIZE {
        ask(&mut t, s(0), client(n), at(ORIGINAL));
    }
    assert!(say(&mut t, s(0)).is_empty());
    assert_eq!(t.counters().evicted, 1);
}

fn full_of_established(config: Config) -> Translator<Heap> {
    let mut t = small(config);
    for n in 0..SIZE {
        connect(&mut t, s(0), client(n), at(ORIGINAL));
    }
    t
}

/// RFC 5508, REQ-8 and RFC 6888, REQ-11: who is refused is told why, with a message that quotes its packet.
#[test]
fn a_refused_client_is_told_that_it_is_prohibited() {
    let mut t = full_of_established(config().own(ip("172.16.0.1")));
    let mut with_options = [&syn(999)[..20], &[1; 40], &syn(999)[20..]].concat();
    with_options[0] = 0x4f;
    with_options[3] += 40;
    header_checksum(&mut with_options);
    for packet in [
        syn(1_000),
        udp(client(1_000), at(ORIGINAL), b"data that is not quoted"),
        echo(8, *client(1_000).ip(), ip("100.100.100.100"), 7, b"ping"),
        with_options,
    ] {
        assert_eq!(verdict(&mut t, s(1), &packet), Verdict::Drop(DropReason::TableFull));
        let said = say(&mut t, s(1));
        assert_eq!(said.len(), 1);
        let told = &said[0];
        assert_eq!((told[9], told[20], told[21]), (1, 3, 13));
        assert_eq!((address(told, 12), address(told, 16)), (ip("172.16.0.1"), address(&packet, 12)));
        let header = usize::from(packet[0] & 15) * 4;
        assert_eq!(told[28..], packet[..header + 8]);
    }
    // Without another own address it is the alternative one that speaks.
    let mut t = full_of_established(config());
    assert_eq!(verdict(&mut t, s(1), &syn(1_000)), Verdict::Drop(DropReason::TableFull));
    assert_eq!(address(&say(&mut t, s(1))[0], 12), ip(ALTERNATIVE));
    // Those that were there are as they were.
    for n in 0..SIZE {
        there(&mut t, s(2), &data(n));
    }
}

/// The same for the other reasons to refuse.
#[test]
fn limits_and_exhausted_ports_are_told_as_well() {
    let mut t = diverting(config().client_limit(1));
    ask(&mut t, s(0), client(1), at(ORIGINAL));
    let second = udp(core::net::SocketAddrV4::new(*client(1).ip(), 1), at(ORIGINAL), b"");
    assert_eq!(verdict(&mut t, s(0), &second), Verdict::Drop(DropReason::ClientLimit));
    assert_eq!(say(&mut t, s(0))[0][20..22], [3, 13]);
    let mut t = diverting(Config::new([1; 32]).alternative(ip(ALTERNATIVE), 5_000..=5_000));
    ask(&mut t, s(0), client(1), at(ORIGINAL));
    assert_eq!(verdict(&mut t, s(0), &second), Verdict::Drop(DropReason::NoPort));
    assert_eq!(say(&mut t, s(0))[0][20..22], [3, 13]);
}

/// RFC 1122, section 3.2.2: what no error may be about.
#[test]
fn nothing_is_said_about_what_no_error_may_be_about() {
    let mut t = full_of_established(config());
    t.divert(Divert::new(ip("224.0.0.5"))).unwrap();
    t.divert(Divert::new(ip("255.255.255.255"))).unwrap();
    let refused = udp(client(1_000), at(ORIGINAL), &[0; 100]);
    let about = udp(at("10.10.10.10:5000"), at(SERVER), b"");
    for packet in [
        icmp_error(3, 3, ip("123.45.67.89"), &about, 28),
        fragment(&refused, 5, 10, false, &refused[20..60]),
        udp(client(1_000), at("224.0.0.5:80"), b""),
        udp(client(1_000), at("255.255.255.255:80"), b""),
        udp(at("0.0.0.0:68"), at(ORIGINAL), b""),
        udp(at("127.0.0.1:68"), at(ORIGINAL), b""),
        udp(at("224.0.0.1:68"), at(ORIGINAL), b""),
        tcp(client(1_000), at(ORIGINAL), (ACK, 1, 1), b""),
        echo(0, *client(1_000).ip(), ip("100.100.100.100"), 7, b""),
    ] {
        let _ = run(&mut t, s(1), &packet);
        assert!(say(&mut t, s(1)).is_empty(), "{packet:02x?}");
    }
    // A first fragment is told of, like a whole packet.
    let first = fragment(&refused, 6, 0, true, &refused[20..60]);
    assert_eq!(verdict(&mut t, s(1), &first), Verdict::Drop(DropReason::TableFull));
    assert_eq!(say(&mut t, s(1)).len(), 1);
}

/// RFC 1812, section 4.3.2.8: no more than the rate allows, and what is not said is counted.
#[test]
fn errors_are_limited_in_rate() {
    let mut t = full_of_established(config().transmit_rates(5, 5));
    let refuse = |t: &mut Translator<Heap>, now| {
        let mut said = 0;
        for n in 0..50 {
            assert_eq!(verdict(t, now, &syn(1_000 + n)), Verdict::Drop(DropReason::TableFull));
            said += say(t, now).len();
        }
        said
    };
    assert_eq!(refuse(&mut t, s(1)), 5);
    assert_eq!(refuse(&mut t, s(1)), 0);
    assert_eq!(refuse(&mut t, Instant::from_micros(1_200_000)), 1);
    assert_eq!(refuse(&mut t, s(100)), 5, "no more than a second's worth is saved");
    assert_eq!((t.counters().transmitted, t.counters().transmit_lost), (11, 189));
    // Who does not fetch loses all but the few that wait.
    let mut t = full_of_established(config());
    for n in 0..50 {
        assert_eq!(verdict(&mut t, s(1), &syn(n + 1_000)), Verdict::Drop(DropReason::TableFull));
    }
    let mut small_buffer = [0; byway::TRANSMIT_BUFFER - 1];
    assert_eq!(t.poll_transmit(s(1), &mut small_buffer), None);
    let said = say(&mut t, s(1)).len() as u64;
    assert_eq!((said, t.counters().transmit_lost), (3, 47));
    let mut silent = full_of_established(config().transmit_rates(0, 0));
    assert_eq!(refuse(&mut silent, s(1)), 0);
}

/// RFC 6888, REQ-4 and REQ-5: one client's appetite is nobody else's loss.
#[test]
fn a_client_limit_counts_all_protocols_and_lets_go_of_what_ended() {
    let mut t = small(config().client_limit(3));
    let me = *client(1).ip();
    let from = |port: u16| core::net::SocketAddrV4::new(me, port);
    connect(&mut t, s(0), from(1), at(ORIGINAL));
    ask(&mut t, s(0), from(1), at(ORIGINAL));
    there(&mut t, s(0), &echo(8, me, ip("100.100.100.100"), 1, b""));
    let limit = Verdict::Drop(DropReason::ClientLimit);
    assert_eq!(verdict(&mut t, s(0), &udp(from(2), at(ORIGINAL), b"")), limit);
    assert_eq!(verdict(&mut t, s(0), &echo(8, me, ip("100.100.100.100"), 2, b"")), limit);
    // What is there goes on; others are not concerned.
    ask_and_answer(&mut t, s(0), from(1), at(ORIGINAL));
    ask(&mut t, s(0), client(2), at(ORIGINAL));
    // One ends by itself: there is room for one.
    there(&mut t, s(1), &tcp(from(1), at(ORIGINAL), (RST, CLIENT_START + 1, 0), b""));
    ask(&mut t, s(1), from(2), at(ORIGINAL));
    assert_eq!(verdict(&mut t, s(1), &udp(from(3), at(ORIGINAL), b"")), limit);
    // The limit can be changed; those that are there stay.
    t.set_client_limit(1).unwrap();
    ask(&mut t, s(1), from(2), at(ORIGINAL));
    assert_eq!(verdict(&mut t, s(1), &udp(from(3), at(ORIGINAL), b"")), limit);
    t.set_client_limit(0).unwrap();
    for port in 10..30 {
        ask(&mut t, s(1), from(port), at(ORIGINAL));
    }
    assert!(t.set_client_limit(65_535).is_err());
    assert_eq!(t.client_limit(), 0);
}

/// However often the table is filled and emptied: nothing is lost, nothing is left.
#[test]
fn a_table_that_was_full_a_hundred_times_is_as_good_as_new() {
    let mut t = small(config().client_limit(10));
    for round in 0..100_u64 {
        let now = s(round * 1_000);
        for n in 0..2 * SIZE {
            ask(&mut t, now, client(round as u32 * 7 + n), at(ORIGINAL));
        }
        assert_eq!((t.slots_in_use(), t.connections_on(ip("123.45.67.89"))), (SIZE, SIZE));
        for step in 1..8 {
            t.poll(s(round * 1_000 + step * 120));
            t.poll(s(round * 1_000 + step * 120));
        }
        assert_eq!((t.slots_in_use(), t.connections_on(ip("123.45.67.89"))), (0, 0));
        assert_eq!(t.poll_at(), None);
    }
    let c = t.counters();
    assert_eq!(c.opened, c.expired + c.evicted);
}

/// A client that floods the table pays for it, also where others were there before.
#[test]
fn who_floods_the_table_gives_up_his_own() {
    let mut t = Translator::new(config(), Heap::new(32, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..12 {
        there(&mut t, s(0), &tcp(client(n), at(ORIGINAL), (SYN, 1, 0), b""));
    }
    let flood = |port| tcp(core::net::SocketAddrV4::new(ip("6.6.6.6"), port), at(ORIGINAL), (SYN, 1, 0), b"");
    for port in 0..200 {
        there(&mut t, s(1), &flood(10_000 + port));
    }
    let patient = t.connections().filter(|c| *c.client_side.source.ip() != ip("6.6.6.6")).count();
    assert_eq!((patient, t.connections().count()), (12, 32));
}

/// The limit holds in tables of any size, also if each bucket of counts is full of other clients but one word.
#[test]
fn a_client_limit_holds_in_small_tables_of_any_size() {
    for size in (8..=12).chain(16..=32) {
        for secret in 0..20 {
            let config = Config::new([secret; 32]).alternative(ip("10.10.10.10"), 1_024..=65_535).client_limit(2);
            let mut t = Translator::new(config, Heap::new(size, 4)).unwrap();
            t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
            let others = if size < 16 { size - 1 } else { 16.min(size - 1) };
            for n in 0..others as u32 {
                let _ = verdict(&mut t, s(0), &udp(client(n), at(ORIGINAL), b""));
            }
            let mine = |port| udp(core::net::SocketAddrV4::new(ip("6.6.6.6"), port), at(ORIGINAL), b"");
            let got = (0..20).filter(|n| verdict(&mut t, s(0), &mine(1_000 + n)) == Verdict::ToServer).count();
            assert!(got <= 2, "{got} in a table of {size}");
        }
    }
}

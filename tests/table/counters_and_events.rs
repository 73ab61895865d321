//! What is counted, told, listed and measured.

use std::collections::BTreeMap;

use byway::{
    AtRest, Closed, Config, Connection, Divert, DropReason, Event, HandOvers, Heap, InexactReset, Instant, Measured,
    Midstream, Pair, Protocol, Redivert, State, Translator, Verdict, Volume,
};
use byway_testing::talk::*;
use byway_testing::*;
use core::time::Duration;

/// Every counter by its name.
fn all(t: &Translator<Heap>) -> BTreeMap<&'static str, u64> {
    let c = t.counters();
    let named = [
        ("to_server", c.to_server),
        ("to_client", c.to_client),
        ("passed", c.passed),
        ("held", c.held),
        ("opened", c.opened),
        ("imported", c.imported),
        ("moved", c.moved),
        ("closed", c.closed),
        ("reset", c.reset),
        ("expired", c.expired),
        ("evicted", c.evicted),
        ("stranded", c.stranded),
        ("transmitted", c.transmitted),
        ("transmit_lost", c.transmit_lost),
        ("events_lost", c.events_lost),
        ("fragments_evicted", c.fragments_evicted),
        ("dropped_in_all", c.dropped_in_all()),
    ];
    named.into_iter().chain(DropReason::ALL.iter().map(|reason| (reason.name(), c.dropped(*reason)))).collect()
}

/// Checks that a step changed these counters by one each time that they are named, and no other.
#[track_caller]
fn counts<R>(t: &mut Translator<Heap>, due: &[&'static str], step: impl FnOnce(&mut Translator<Heap>) -> R) -> R {
    let before = all(t);
    let result = step(t);
    let changed: Vec<(&str, u64)> =
        all(t).into_iter().filter_map(|(name, now)| Some((name, now - before[name])).filter(|c| c.1 != 0)).collect();
    let mut expected = BTreeMap::new();
    for name in due {
        *expected.entry(*name).or_insert(0) += 1;
    }
    assert_eq!(changed, expected.into_iter().collect::<Vec<_>>());
    result
}

/// Offers a packet; the verdict and the counters must say the same.
#[track_caller]
fn offer(t: &mut Translator<Heap>, now: Instant, packet: &[u8], due: &[&'static str]) -> Vec<u8> {
    let (verdict, seen) = counts(t, due, |t| run(t, now, packet));
    let name = match verdict {
        Verdict::ToServer => "to_server",
        Verdict::ToClient => "to_client",
        Verdict::Pass => "passed",
        Verdict::Hold => "held",
        Verdict::Drop(reason) => {
            assert!(due.contains(&"dropped_in_all"));
            reason.name()
        }
    };
    assert!(due.contains(&name), "{verdict:?}");
    seen
}

#[track_caller]
fn dropped(t: &mut Translator<Heap>, now: Instant, packet: &[u8], reason: DropReason) {
    offer(t, now, packet, &["dropped_in_all", reason.name()]);
}

/// Each outcome and each reason to drop has its own number, and nothing else moves.
#[test]
fn one_counter_for_each_outcome_and_each_reason() {
    use DropReason as R;
    let mut seen = std::collections::BTreeSet::new();
    let mut drop = |t: &mut Translator<Heap>, now, packet: &[u8], reason| {
        seen.insert(reason);
        dropped(t, now, packet, reason);
    };
    let config = || Config::new([1; 32]).alternative(ip(ALTERNATIVE), 3_000..=3_002);
    let mut t = diverting(config().inexact_reset(InexactReset::Drop).midstream(Midstream::Drop).client_limit(2));
    let (from, to) = (at(CLIENT), at(ORIGINAL));

    offer(&mut t, s(0), &udp(from, at("8.8.8.8:53"), b""), &["passed"]);
    offer(&mut t, s(0), &[0x60; 40], &["passed"]);
    let arrived = offer(&mut t, s(0), &udp(from, to, b""), &["to_server", "opened"]);
    let (alternative, server) = ends(&arrived);
    offer(&mut t, s(0), &udp(from, to, b""), &["to_server"]);
    let answer = udp(server, alternative, b"");
    offer(&mut t, s(0), &answer, &["to_client"]);

    drop(&mut t, s(0), &[0x45; 19], R::MalformedIpv4);
    let mut contradicting = udp(from, to, b"");
    contradicting[25] = 7;
    drop(&mut t, s(0), &contradicting, R::MalformedTransport);
    drop(&mut t, s(0), &udp(at("127.0.0.1:1"), to, b""), R::MartianSource);
    drop(&mut t, s(0), &udp(at("10.10.10.10:1"), to, b""), R::OwnSource);
    drop(&mut t, s(0), &udp(at("8.8.8.8:53"), alternative, b""), R::NoConnection);
    drop(&mut t, s(0), &tcp(from, to, (ACK, 1, 1), b""), R::Midstream);

    let syn = offer(&mut t, s(0), &tcp(from, to, (SYN, CLIENT_START, 0), b""), &["to_server", "opened"]);
    let (tcp_alternative, _) = ends(&syn);
    let said = |segment| tcp(server, tcp_alternative, segment, b"");
    offer(&mut t, s(0), &said((SYN | ACK, SERVER_START, CLIENT_START + 1)), &["to_client"]);
    offer(&mut t, s(0), &tcp(from, to, (ACK, CLIENT_START + 1, SERVER_START + 1), b""), &["to_server"]);
    drop(&mut t, s(0), &said((RST, 7, 0)), R::InexactReset);
    let third = udp(core::net::SocketAddrV4::new(*from.ip(), 9), to, b"");
    drop(&mut t, s(0), &third, R::ClientLimit);
    counts(&mut t, &["transmitted"], |t| assert_eq!(say(t, s(0)).len(), 1));

    let whole = udp(from, to, &[0; 900]);
    let part = |offset: u16, length: usize| fragment(&whole, 7, offset, true, &whole[20..20 + length]);
    offer(&mut t, s(0), &part(100, 8), &["held"]);
    offer(&mut t, s(0), &part(0, 8), &["to_server"]);
    for offset in 1..12 {
        offer(&mut t, s(0), &part(8 * offset, 8), &["to_server"]);
    }
    drop(&mut t, s(0), &part(0, 8), R::OverlappingFragment);
    drop(&mut t, s(0), &part(100, 8), R::ScatteredFragment);
    let tiny = fragment(&whole, 8, 0, true, &whole[20..27]);
    drop(&mut t, s(0), &tiny, R::TinyFragment);

    let error = icmp_error(3, 3, *server.ip(), &arrived, 28);
    offer(&mut t, s(0), &error, &["to_client"]);
    let mut wrong = error.clone();
    wrong[22] ^= 1;
    drop(&mut t, s(0), &wrong, R::IcmpChecksum);
    let unrelated = udp(at("10.10.10.10:3001"), at("8.8.8.8:53"), b"");
    drop(&mut t, s(0), &icmp_error(3, 3, ip("8.8.8.8"), &unrelated, 28), R::IcmpUnrelated);

    // All three ports are taken now towards this server.
    offer(&mut t, s(0), &udp(client(1), to, b""), &["to_server", "opened"]);
    offer(&mut t, s(0), &udp(client(2), to, b""), &["to_server", "opened"]);
    drop(&mut t, s(0), &udp(client(3), to, b""), R::NoPort);
    counts(&mut t, &["transmitted"], |t| assert_eq!(say(t, s(0)).len(), 1));

    counts(&mut t, &[], |t| t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap());
    let before = t.counters().moved;
    assert_eq!(verdict(&mut t, s(0), &answer), Verdict::Drop(R::OldServer));
    assert_eq!(t.counters().moved, before + 1, "finding out moves it");
    drop(&mut t, s(0), &answer, R::OldServer);
    offer(&mut t, s(0), &udp(client(1), to, b""), &["to_server", "moved"]);
    t.poll(s(0));
    counts(&mut t, &[], |t| t.redivert(at(OTHER), at(SERVER), Redivert::Reset).unwrap());
    let due = ["reset", "moved", "moved", "moved", "transmitted", "transmitted"];
    counts(&mut t, &due, |t| assert_eq!(say(t, s(0)).len(), 2));
    drop(&mut t, s(0), &tcp(from, to, (RST, CLIENT_START + 1, 0), b""), R::Resetting);

    let mut full = Translator::new(config(), Heap::new(8, 2)).unwrap();
    full.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    for n in 0..8 {
        connect(&mut full, s(0), client(n), core::net::SocketAddrV4::new(*to.ip(), 80 + n as u16));
    }
    drop(&mut full, s(0), &udp(client(9), to, b""), R::TableFull);
    full.divert(Divert::new(ip("8.8.8.8"))).unwrap();
    drop(&mut full, s(0), &ipv4(47, *from.ip(), ip("8.8.8.8"), b"GRE"), R::Untranslatable);
    seen.insert(hand_over_is_counted());
    let never: Vec<_> = R::ALL.iter().filter(|reason| !seen.contains(reason)).collect();
    assert!(never.is_empty(), "not seen: {never:?}");
    assert_eq!(R::ALL.len(), R::COUNT);
}

/// A new server's answer while it takes a connection over is counted with the translator's drops.
fn hand_over_is_counted() -> DropReason {
    let config = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 3_000..=3_002);
    let mut t = Translator::new(config, Heap::new(16, 2).resumable()).unwrap();
    let (original, first, second) = (at(ORIGINAL), at(SERVER), at(OTHER));
    t.divert(Divert::new(original).to(first).resumable()).unwrap();
    connect(&mut t, s(0), at(CLIENT), original);
    let mut none = [];
    let mut mover = HandOvers::<_, 1>::new(AtRest::after(Duration::ZERO), &mut none);
    let pair = Pair { source: at(CLIENT), destination: original };
    mover.begin(s(0), &mut t, &pair, second).unwrap();
    let mut buffer = [0; 200];
    let length = mover.poll_transmit(s(0), &mut t, &mut buffer).expect("a SYN").length;
    let ((leg, to), (flags, number, _)) = (ends(&buffer[..length]), segment(&buffer[..length]));
    assert_eq!((to, flags), (second, SYN));
    let mut answer = tcp(second, leg, (SYN | ACK, 77, number + 1), b"");
    let before = t.counters().dropped_in_all();
    assert_eq!(mover.translate(s(0), &mut t, &mut answer), Verdict::Drop(DropReason::HandingOver));
    assert_eq!((t.counters().dropped_in_all(), t.counters().moved, mover.moved()), (before + 1, 1, 1));
    assert_eq!(t.counters().dropped(DropReason::HandingOver), 1);
    DropReason::HandingOver
}

/// The ends of connections: by good-bye, by RST, by time, by force, and for want of a port.
#[test]
fn one_counter_for_each_end() {
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    let mut t = Translator::new(
        Config::new([1; 32]).alternative(ip(ALTERNATIVE), 3_000..=3_001).transmit_rates(0, 0),
        Heap::new(8, 4).events(40),
    )
    .unwrap();
    let originals = ["100.0.0.1:80", "100.0.0.2:80"].map(at);
    for (original, server) in originals.into_iter().zip([SERVER, OTHER]) {
        t.divert(Divert::new(original).to(at(server))).unwrap();
    }
    let said = |original, segment| tcp(at(CLIENT), original, segment, b"");
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), originals[0]);
    offer(&mut t, s(0), &said(originals[0], (FIN | ACK, c, v)), &["to_server"]);
    offer(&mut t, s(0), &tcp(server, alternative, (FIN | ACK, v, c + 1), b""), &["to_client"]);
    offer(&mut t, s(0), &said(originals[0], (ACK, c + 1, v + 1)), &["to_server", "closed"]);
    connect(&mut t, s(0), at(CLIENT), originals[1]);
    offer(&mut t, s(0), &said(originals[1], (RST, c, 0)), &["to_server", "reset"]);
    counts(&mut t, &[], |t| t.poll(s(121)));
    assert_eq!((t.slots_in_use(), events(&mut t).len()), (0, 4));

    ask(&mut t, s(200), at(CLIENT), originals[0]);
    counts(&mut t, &["expired"], |t| t.poll(s(501)));
    // The second time there is nothing left to expire but the hold.
    counts(&mut t, &[], |t| t.poll(s(623)));
    assert_eq!(t.slots_in_use(), 0);

    // Two on each server, and only two ports: after the move two have none.
    for n in 0..2 {
        for original in originals {
            ask(&mut t, s(1_000), client(n), original);
        }
    }
    t.redivert(at(OTHER), at(SERVER), Redivert::Switch).unwrap();
    counts(&mut t, &["stranded", "stranded"], |t| t.poll(s(1_000)));
    assert_eq!(events(&mut t).len(), 8);
    t.divert(Divert::new(ip("100.0.0.9")).to(ip("9.9.9.9"))).unwrap();
    for port in 1..=6 {
        let original = core::net::SocketAddrV4::new(ip("100.0.0.9"), port);
        ask(&mut t, s(1_000), at(CLIENT), original);
    }
    events(&mut t);
    let seventh = core::net::SocketAddrV4::new(ip("100.0.0.9"), 7);
    offer(&mut t, s(1_000), &udp(at(CLIENT), seventh, b""), &["to_server", "opened", "evicted"]);
    assert_eq!(events(&mut t).len(), 2);

    let k = t.counters();
    let live = t.connections().count() as u64;
    assert_eq!(k.opened, k.closed + k.reset + k.expired + k.evicted + k.stranded + live);
}

fn opened(event: &Event) -> Connection {
    let Event::Opened(connection) = event else { panic!("{event:?}") };
    *connection
}

#[test]
fn events_tell_a_life_in_order() {
    let mut t = diverting(config().tell_changes(true));
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    t.poll(s(0));
    // A FIN counts once its receiver has acknowledged it.
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (FIN | ACK, c, v), b""));
    back(&mut t, s(1), &tcp(at(OTHER), alternative, (ACK, v, c + 1), b""));
    back(&mut t, s(1), &tcp(at(OTHER), alternative, (FIN | ACK, v, c + 1), b""));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, c + 1, v + 1), b""));
    let told = events(&mut t);
    let states: Vec<_> = told
        .iter()
        .map(|event| match event {
            Event::Opened(c) => ("opened", c.state),
            Event::Changed(c) => ("changed", c.state),
            Event::Moved { connection, from } => {
                assert_eq!((*from, connection.server()), (server, at(OTHER)));
                ("moved", connection.state)
            }
            Event::Closed { connection, why } => {
                assert_eq!(*why, Closed::Finished);
                ("closed", connection.state)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        states,
        [
            ("opened", State::Opening),
            ("changed", State::Opened),
            ("changed", State::Established),
            ("moved", State::Established),
            ("changed", State::ClientClosed),
            ("changed", State::Closing),
            ("closed", State::Closing),
            ("changed", State::TimeWait),
        ]
    );
    assert_eq!(opened(&told[0]).server_side.source, alternative);
    // Without being asked for, changes are not told.
    let mut quiet = diverting(config());
    connect(&mut quiet, s(0), at(CLIENT), at(ORIGINAL));
    assert_eq!(events(&mut quiet).len(), 1);
}

/// A queue that nobody empties keeps how the story began, and counts the rest.
#[test]
fn a_full_queue_counts_what_it_lost() {
    let mut t = Translator::new(config(), Heap::new(100, 4).events(5)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..12 {
        let due: &[&str] = if n < 5 { &["to_server", "opened"] } else { &["to_server", "opened", "events_lost"] };
        offer(&mut t, s(0), &udp(client(n), at(ORIGINAL), b""), due);
    }
    let told: Vec<_> = events(&mut t).iter().map(|e| opened(e).client_side.source).collect();
    assert_eq!(told, (0..5).map(client).collect::<Vec<_>>());
    offer(&mut t, s(0), &udp(client(20), at(ORIGINAL), b""), &["to_server", "opened"]);
    assert_eq!(events(&mut t).len(), 1);
    // Who has no room for events misses none.
    let mut t = Translator::new(config(), Heap::new(100, 4).events(0)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    assert_eq!((t.poll_event(), t.counters().events_lost), (None, 0));
}

#[test]
fn listing_shows_each_connection_once_also_in_pages() {
    let mut t = diverting(config());
    for n in 0..100 {
        ask(&mut t, s(u64::from(n)), client(n), at(ORIGINAL));
    }
    // Some have gone, without anybody sweeping them.
    ask(&mut t, s(320), client(0), at(ORIGINAL));
    let whole: Vec<Connection> = t.connections().collect();
    let alive = (0..100).filter(|n| t.connection(Protocol::Udp, client(*n), at(ORIGINAL)).is_some()).count();
    assert_eq!((whole.len(), alive), (81, 81));
    let mut pages = Vec::new();
    let mut position = 0;
    loop {
        let mut page = t.connections_from(position);
        let got: Vec<_> = page.by_ref().take(7).collect();
        position = page.position();
        if got.is_empty() {
            break;
        }
        pages.extend(got);
    }
    assert_eq!(pages, whole);
    let clients: std::collections::HashSet<_> = whole.iter().map(|c| c.client_side.source).collect();
    assert_eq!(clients.len(), 81);
    assert!(t.connection(Protocol::Tcp, client(0), at(ORIGINAL)).is_none());
}

fn measured(t: &Translator<Heap>, protocol: Protocol, original: core::net::SocketAddrV4) -> Measured {
    t.connection(protocol, at(CLIENT), original).expect("it is there").1.expect("it is measured")
}

fn ms(millis: u64) -> Instant {
    Instant::from_millis(1_000_000 + millis)
}

/// The document's performance information: how much, how large, how long, how often again.
#[test]
fn a_tcp_connection_is_measured() {
    let mut t = diverting(config());
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    let said = |segment, data: &[u8]| tcp(at(CLIENT), at(ORIGINAL), segment, data);
    let (alternative, server) = ends(&there(&mut t, ms(0), &said((SYN, c - 1, 0), b"")));
    let answered = |segment, data: &[u8]| tcp(server, alternative, segment, data);
    back(&mut t, ms(40), &answered((SYN | ACK, v - 1, c), b""));
    there(&mut t, ms(47), &said((ACK, c, v), b""));
    let m = measured(&t, Protocol::Tcp, at(ORIGINAL));
    assert_eq!(
        (m.server_handshake, m.client_handshake),
        (Some(Duration::from_millis(40)), Some(Duration::from_millis(7)))
    );
    assert_eq!((m.round_trip, m.retransmissions, m.resets, m.icmp_errors), (None, 0, 0, 0));
    assert_eq!(m.first, ms(0));

    there(&mut t, ms(100), &said((ACK, c, v), &[1; 200]));
    back(&mut t, ms(120), &answered((ACK, v, c + 200), &[2; 1_400]));
    assert_eq!(measured(&t, Protocol::Tcp, at(ORIGINAL)).round_trip, Some(Duration::from_millis(20)));
    // The smoothed time moves by an eighth of the difference (RFC 6298).
    there(&mut t, ms(200), &said((ACK, c + 200, v + 1_400), &[1; 100]));
    back(&mut t, ms(300), &answered((ACK, v + 1_400, c + 300), b""));
    assert_eq!(measured(&t, Protocol::Tcp, at(ORIGINAL)).round_trip, Some(Duration::from_millis(30)));
    // What is sent again is counted, and not timed (Karn).
    there(&mut t, ms(400), &said((ACK, c + 300, v + 1_400), &[1; 100]));
    there(&mut t, ms(600), &said((ACK, c + 300, v + 1_400), &[1; 100]));
    back(&mut t, ms(601), &answered((ACK, v + 1_400, c + 400), b""));
    back(&mut t, ms(700), &answered((ACK, v, c + 400), &[2; 1_400]));
    let m = measured(&t, Protocol::Tcp, at(ORIGINAL));
    assert_eq!((m.round_trip, m.retransmissions), (Some(Duration::from_millis(30)), 2));

    let about = tcp(alternative, server, (ACK, c, v), b"");
    back(&mut t, ms(800), &icmp_error(3, 4, ip("62.1.1.1"), &about, 28));
    back(&mut t, ms(900), &answered((RST, 7, 0), b""));
    let m = measured(&t, Protocol::Tcp, at(ORIGINAL));
    assert_eq!((m.icmp_errors, m.resets), (1, 1));
    assert_eq!(m.to_server, volume(6, 40 * 6 + 500, 40, 240));
    assert_eq!(m.to_client, volume(6, 40 * 6 + 2_800, 40, 1_440));
    assert!(m.last <= ms(900) && m.last + Duration::from_millis(66) >= ms(700), "{:?}", m.last);
}

fn volume(packets: u64, bytes: u64, smallest: u16, largest: u16) -> Volume {
    let mut volume = Volume::default();
    (volume.packets, volume.bytes, volume.smallest, volume.largest) = (packets, bytes, smallest, largest);
    volume
}

#[test]
fn datagrams_and_pings_are_measured() {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    let (alternative, server) = ends(&there(&mut t, ms(0), &udp(at(CLIENT), at(ORIGINAL), b"?")));
    there(&mut t, ms(5), &udp(at(CLIENT), at(ORIGINAL), b"???"));
    back(&mut t, ms(30), &udp(server, alternative, b"!!"));
    back(&mut t, ms(90), &udp(server, alternative, b"!"));
    let m = measured(&t, Protocol::Udp, at(ORIGINAL));
    assert_eq!(m.round_trip, Some(Duration::from_millis(30)), "from the first question to the first answer");
    assert_eq!((m.to_server, m.to_client), (volume(2, 60, 29, 31), volume(2, 59, 29, 30)));
    assert_eq!((m.server_handshake, m.client_handshake), (None, None));

    let ping = there(&mut t, ms(100), &echo(8, *at(CLIENT).ip(), *at(ORIGINAL).ip(), 40_000, b"12345678"));
    let id = u16::from_be_bytes([ping[24], ping[25]]);
    back(&mut t, ms(116), &echo(0, address(&ping, 16), address(&ping, 12), id, b"12345678"));
    let m = measured(&t, Protocol::Icmp, at("100.100.100.100:0"));
    assert_eq!((m.round_trip, m.to_client), (Some(Duration::from_millis(16)), volume(1, 36, 36, 36)));
    // A slot that is used again begins at nothing.
    t.poll(s(2_000));
    t.poll(s(3_000));
    assert_eq!(t.slots_in_use(), 0);
    let now = s(4_000);
    for n in 0..4 {
        ask(&mut t, now, client(n), at(ORIGINAL));
    }
    let mut listing = t.connections();
    while let Some((_, measured)) = listing.next_measured() {
        let m = measured.unwrap();
        assert_eq!((m.first, m.to_server.packets, m.to_client.packets, m.round_trip), (now, 1, 0, None));
    }
}

/// What is not asked for is not measured, and changes nothing that a packet sees.
#[test]
fn measuring_changes_no_packet() {
    let plain = |measured| {
        let storage = Heap::new(100, 4);
        let mut t = Translator::new(config(), if measured { storage.measured() } else { storage }).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        t
    };
    let (mut with, mut without) = (plain(true), plain(false));
    for n in 0..50 {
        for packet in [
            udp(client(n), at(ORIGINAL), b"question"),
            tcp(client(n), at(ORIGINAL), (SYN, 1, 0), b""),
            tcp(client(n), at(ORIGINAL), (RST, 2, 0), b""),
        ] {
            assert_eq!(run(&mut with, s(0), &packet), run(&mut without, s(0), &packet));
        }
    }
    assert_eq!(with.counters(), without.counters());
    assert!(without.connection(Protocol::Udp, client(1), at(ORIGINAL)).unwrap().1.is_none());
    assert!(without.connections().next_measured().unwrap().1.is_none());
}

/// Names are what logs and monitors keep: they are different from each other, and in lower case.
#[test]
fn names_are_stable_and_different() {
    let names: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    let different: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len());
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())));
    assert_eq!(DropReason::OldServer.to_string(), "old_server");
    assert_eq!((State::TimeWait.name(), Closed::Rediverted.name()), ("time_wait", "rediverted"));
}

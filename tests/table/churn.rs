//! Everything at once, many times over, on a table that is too small: at the end nothing is lost and nothing is left.

use std::collections::HashSet;

use byway::{Config, Divert, Heap, Pair, Prefix, Protocol, Record, Redivert, State, Translator, Verdict, Weighted};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

const SLOTS: u32 = 24;
const ORIGINALS: [&str; 3] = ["100.0.0.1", "100.0.0.2", "100.0.0.3"];

fn server(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(9, 0, 0, 1 + number as u8), 80)
}

fn rules(t: &mut Translator<Heap>, roll: &mut impl FnMut(u32) -> u32) {
    let original = ip(ORIGINALS[roll(3) as usize]);
    let group = [Weighted::new(server(roll(2)), 1), Weighted::new(server(2 + roll(2)), 2)];
    let rule = match roll(4) {
        0 => Divert::new(original).to(server(roll(4))),
        1 => Divert::new(original).to(server(roll(4))).keep_source(),
        2 => Divert::new(original).to(*server(roll(4)).ip()).replies_from_any_port(),
        _ => Divert::new(original).to_group(&group),
    };
    // It may be refused where a draining server has taken the last entry.
    let _ = t.divert(rule);
}

/// What must be true after every step.
fn check(t: &Translator<Heap>) {
    let live: Vec<_> = t.connections().collect();
    let near: HashSet<_> = live.iter().map(|c| (c.protocol, c.client_side)).collect();
    let far: HashSet<_> = live.iter().map(|c| (c.protocol, c.server_side)).collect();
    assert_eq!((near.len(), far.len()), (live.len(), live.len()), "two connections have the same addresses");
    assert!(live.len() <= t.slots_in_use() as usize && t.slots_in_use() <= SLOTS);
    for c in &live {
        let found = t.connection(c.protocol, c.client_side.source, c.client_side.destination);
        assert_eq!(found.map(|f| f.0), Some(*c), "a connection that is listed cannot be found");
    }
}

/// An end comes to be for each beginning.
fn check_sums(t: &Translator<Heap>) {
    let k = t.counters();
    let over = |state| matches!(state, State::TimeWait | State::Resetting);
    let listed: Vec<_> = t.connections().collect();
    let live = listed.iter().filter(|c| !over(c.state)).count() as u64;
    let ended = k.closed + k.reset + k.expired + k.evicted + k.stranded;
    // What is dead and not yet swept is neither listed nor ended.
    assert!(k.opened + k.imported >= ended + live, "{k:?}, {live} live");
}

fn churn(seed: u64, ports: core::ops::RangeInclusive<u16>) -> u64 {
    let mut dice = Dice(seed);
    let mut roll = |sides: u32| dice.below(sides.into()) as u32;
    let config = Config::new([seed as u8; 32]).alternative(ip(ALTERNATIVE), ports).client_limit(9);
    let storage = || Heap::new(SLOTS as usize, 4).servers(12).fragments(2).events(3);
    let mut t = Translator::new(config.clone(), storage()).unwrap();
    let mut now = 0_u64;
    let mut saved: Vec<Record> = Vec::new();
    let mut translated = 0;
    for _ in 0..3 {
        rules(&mut t, &mut roll);
    }
    for _ in 0..1_500 {
        let time = byway::Instant::from_millis(now);
        match roll(30) {
            0 => rules(&mut t, &mut roll),
            1 => drop(t.remove(ip(ORIGINALS[roll(3) as usize]))),
            2..=4 => {
                let how = [Redivert::Switch, Redivert::Drain, Redivert::Reset][roll(3) as usize];
                let (from, to) = (server(roll(4)), server(roll(4)));
                let _ = if roll(3) == 0 { t.redivert(*from.ip(), *to.ip(), how) } else { t.redivert(from, to, how) };
            }
            5 => now += u64::from(roll(200_000)),
            6 => now += u64::from(roll(5_000)),
            7..=9 => t.poll(time),
            10 => drop(say(&mut t, time)),
            11 => saved = t.records().collect(),
            12 => {
                for record in saved.drain(..) {
                    let _ = t.import(time, &record);
                }
            }
            13 => drop(events(&mut t)),
            14..=19 => {
                // The server of some connection says something, now and then from another port.
                let live: Vec<_> = t.connections().collect();
                if let Some(c) = live.get(roll(live.len().max(1) as u32) as usize) {
                    let (far, near) = (c.server_side.destination, c.server_side.source);
                    let elsewhere = roll(4) == 0 && c.protocol != Protocol::Icmp;
                    let far = if elsewhere { SocketAddrV4::new(*far.ip(), 5_000) } else { far };
                    let flags = [ACK, SYN | ACK, FIN | ACK, RST, SYN][roll(5) as usize];
                    let packet = match c.protocol.number() {
                        6 => tcp(far, near, (flags, SERVER_START + roll(3), CLIENT_START + roll(3)), b""),
                        17 => udp(far, near, b"answer"),
                        _ => echo(0, *far.ip(), *near.ip(), near.port(), b""),
                    };
                    let (verdict, seen) = run(&mut t, time, &packet);
                    if verdict == Verdict::ToClient {
                        translated += 1;
                        assert_eq!(checksums(&seen), BOTH);
                        // It may be another connection by now, which takes replies from any port.
                        let pair = Pair { source: near, destination: far };
                        let c = t.connections().find(|l| l.protocol == c.protocol && l.server_side == pair);
                        let c = c.expect("a reply that belongs to no connection");
                        assert_eq!(
                            (address(&seen, 12), address(&seen, 16)),
                            (*c.original().ip(), *c.client_side.source.ip())
                        );
                    }
                }
            }
            _ => {
                let from = SocketAddrV4::new(*client(roll(6)).ip(), 7_000 + roll(4) as u16);
                let to = SocketAddrV4::new(ip(ORIGINALS[roll(3) as usize]), 80 + roll(2) as u16);
                let flags = [SYN, ACK, ACK, FIN | ACK, RST][roll(5) as usize];
                let packet = match roll(5) {
                    0 | 1 => tcp(from, to, (flags, CLIENT_START + roll(3), SERVER_START + roll(3)), b""),
                    2 | 3 => udp(from, to, b"question"),
                    _ => echo(8, *from.ip(), *to.ip(), from.port(), b""),
                };
                let (verdict, seen) = run(&mut t, time, &packet);
                if verdict == Verdict::ToServer {
                    translated += 1;
                    assert_eq!(checksums(&seen), BOTH);
                }
            }
        }
        check(&t);
        check_sums(&t);
    }

    // Silence. Everything ends, and then there is nothing left and nothing to wait for.
    for original in ORIGINALS {
        t.remove(ip(original));
    }
    for _ in 0..1_000 {
        say(&mut t, byway::Instant::from_millis(now));
        t.poll(byway::Instant::from_millis(now));
        now += 60_000;
    }
    assert_eq!((t.slots_in_use(), t.poll_at()), (0, None), "seed {seed}");
    let k = *t.counters();
    let ended = k.closed + k.reset + k.expired + k.evicted + k.stranded;
    assert_eq!(k.opened + k.imported, ended, "seed {seed}: {k:?}");
    for number in 0..4 {
        assert_eq!(t.connections_on(*server(number).ip()), 0, "seed {seed}: server {number}");
    }
    // It is as good as new: as many rules, servers and connections fit as at first.
    let group: Vec<_> = (0..12).map(|n| Weighted::new(server(n), 1)).collect();
    t.divert(Divert::new(ip("100.0.0.9")).to_group(&group)).unwrap();
    t.remove(ip("100.0.0.9")).unwrap();
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    let time = byway::Instant::from_millis(now);
    t.set_client_limit(0).unwrap();
    for n in 0..SLOTS {
        let original = SocketAddrV4::new(Ipv4Addr::new(100, 1, 0, n as u8), 80);
        ask_and_answer(&mut t, time, client(n), original);
    }
    assert_eq!(t.slots_in_use(), SLOTS, "seed {seed}");
    translated
}

#[test]
fn nothing_is_lost_and_nothing_is_left() {
    let translated: u64 = (0..30).map(|seed| churn(seed, 1024..=65535)).sum();
    assert!(translated > 5_000, "{translated} packets got through");
}

/// The same with hardly any ports, so that moves and records collide all the time.
#[test]
fn nothing_is_lost_and_nothing_is_left_where_ports_are_short() {
    let translated: u64 = (0..30).map(|seed| churn(1_000 + seed, 6_999..=7_003)).sum();
    assert!(translated > 5_000, "{translated} packets got through");
}

//! What rules cost at any number: instructions, new connections and packets that pass, in nanoseconds each; medians of
//! several runs, and the longest single instruction. `cargo bench --bench rules`.
//!
//! A ratio between two rows of one run says more than a row: the machine is the same for both.

use core::hint::black_box;
use std::time::Instant as Clock;

use byway::{Config, Divert, Heap, Instant, Match, Prefix, Redivert, Translator, Verdict, Weighted};
use core::net::{Ipv4Addr, SocketAddrV4};

const RUNS: usize = 5;
const CONNECTIONS: usize = 1_000;

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(number)
}

fn server(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(address(0x1700_0000 + number), 8_080)
}

/// The original destinations of exact rules are spread over many networks.
fn original(rule: u32) -> SocketAddrV4 {
    SocketAddrV4::new(address(0x6440_0000 + rule * 7), 80)
}

fn client(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(address(0x0a00_0000 + number.wrapping_mul(0x9e37) % 0xff_ffff), 1_024 + (number % 60_000) as u16)
}

fn udp(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 28] {
    let udp = include!("../docs/doctest_udp.rs");
    udp(from, to)
}

fn translator(rules: usize, servers: usize) -> Translator<Heap> {
    let first = Ipv4Addr::new(10, 10, 10, 10);
    let config = Config::new([7; 32]).alternative(first, 1_024..=65_535);
    Translator::new(config, Heap::new(CONNECTIONS, rules).servers(servers)).expect("a good configuration")
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn row(what: &str, nanoseconds: f64) {
    println!("{what:<58} {nanoseconds:>12.1} ns");
}

/// Nanoseconds for each of `count` calls, and the longest one.
fn each(count: u32, mut call: impl FnMut(u32)) -> (f64, f64) {
    let start = Clock::now();
    let mut longest = 0;
    for n in 0..count {
        let before = Clock::now();
        call(n);
        longest = longest.max(before.elapsed().as_nanos());
    }
    (start.elapsed().as_nanos() as f64 / f64::from(count), longest as f64)
}

/// New connections, each to the destination that `to` says.
fn opening(what: &str, t: &mut Translator<Heap>, to: impl Fn(u32) -> SocketAddrV4) {
    let mut number = 0;
    let runs = (0..RUNS).map(|_| {
        let packets: Vec<_> = (0..CONNECTIONS as u32 / 2).map(|n| udp(client(number + n), to(number + n))).collect();
        number += packets.len() as u32;
        let mut copies = packets.clone();
        let start = Clock::now();
        for packet in &mut copies {
            assert_eq!(t.translate(Instant::from_millis(u64::from(number)), packet), Verdict::ToServer);
        }
        let taken = start.elapsed().as_nanos() as f64 / packets.len() as f64;
        t.forget();
        for _ in 0..40 {
            t.poll(Instant::from_millis(u64::from(number)));
        }
        taken
    });
    row(what, median(runs.collect()));
}

/// Packets that pass.
fn passing(what: &str, t: &mut Translator<Heap>, to: impl Fn(u32) -> SocketAddrV4) {
    let mut packets: Vec<_> = (0..1_000).map(|n| udp(client(n), to(n))).collect();
    let runs = (0..RUNS * 5).map(|_| {
        let start = Clock::now();
        for packet in &mut packets {
            assert_eq!(t.translate(Instant::from_millis(1), black_box(packet)), Verdict::Pass);
        }
        start.elapsed().as_nanos() as f64 / packets.len() as f64
    });
    row(what, median(runs.collect()));
}

fn exact() {
    for rules in [64, 1_024, 10_000, 100_000] {
        let mut t = translator(rules as usize, 60_000);
        let divert = |t: &mut Translator<Heap>, n, to| t.divert(Divert::new(original(n)).to(server(to))).map(|_| ());
        let (building, longest) = each(rules, |n| divert(&mut t, n, n % 60_000).expect("room"));
        row(&format!("insert, {rules} exact rules"), building);
        row("  the longest", longest);
        let (updating, longest) = each(rules, |n| divert(&mut t, n, (n + 1) % 60_000).expect("room"));
        row("  update", updating);
        row("  the longest", longest);
        row("  look up", each(rules, |n| assert!(black_box(t.find_divert(original(n))).is_some())).0);
        opening("  new connection", &mut t, |n| original(n.wrapping_mul(0x9e37_79b1) % rules));
        opening("  new connection, 64 of them in use", &mut t, |n| original(n % 64));
        passing("  passing packet", &mut t, |n| SocketAddrV4::new(address(0x6440_0003 + n * 7 * 5), 80));
        let (removing, longest) = each(rules, |n| assert!(t.remove(original(n)).is_some()));
        row("  remove", removing);
        row("  the longest", longest);
    }
}

fn by_client() {
    for rules in [64, 1_025, 10_000] {
        let mut t = translator(10_000, 60_000);
        let to = SocketAddrV4::new(address(0x6440_0000), 80);
        for n in 0..rules {
            let one = Prefix::host(*client(n).ip());
            t.divert(Divert::new(Match::from(to).clients(one)).to(server(n))).expect("room");
        }
        let mut number = 0;
        let runs = (0..RUNS).map(|_| {
            let packets: Vec<_> = (0..500).map(|n| udp(client((number + n) % rules), to)).collect();
            number += 500;
            let mut copies = packets;
            let start = Clock::now();
            for packet in &mut copies {
                let _ = t.translate(Instant::from_millis(u64::from(number)), packet);
            }
            let taken = start.elapsed().as_nanos() as f64 / 500.0;
            t.forget();
            (0..40).for_each(|_| t.poll(Instant::from_millis(u64::from(number))));
            taken
        });
        row(&format!("new connection, {rules} client rules for one destination"), median(runs.collect()));
    }
}

fn prefixes() {
    for rules in [64, 1_025, 10_000] {
        let mut t = translator(10_000, 60_000);
        for n in 0..rules {
            let network = Prefix::new(address(0x6000_0000 + n * 512), 24).expect("a length");
            t.divert(Divert::new(network).to(server(n).ip().to_owned())).expect("room");
        }
        passing(&format!("passing packet, {rules} prefixes of one length"), &mut t, |n| {
            SocketAddrV4::new(address(0x6000_0100 + n * 512 * 7), 80)
        });
        opening("  new connection", &mut t, |n| {
            SocketAddrV4::new(address(0x6000_0005 + n.wrapping_mul(0x9e37) % rules * 512), 80)
        });
    }
    for room in [1_024, 2_000] {
        let mut t = translator(room, 2_000);
        for n in 0..1_000_u32 {
            let length = 8 + (n % 24) as u8;
            let network = Prefix::new(address(0x6000_0000 + (n << (32 - length))), length).expect("a length");
            let clients = Prefix::new(address(0xac10_0000 + n * 256), 16 + (n % 9) as u8).expect("a length");
            t.divert(Divert::new(Match::from(network).clients(clients)).to(*server(n).ip())).expect("room");
        }
        passing(&format!("passing packet, 24 lengths with client prefixes, room for {room}"), &mut t, |n| {
            SocketAddrV4::new(address(0x6000_0100 + n * 513), 80)
        });
    }
}

fn groups() {
    for size in [1, 10, 64, 100, 1_000] {
        let mut t = translator(2_000, 4_000);
        let to = SocketAddrV4::new(address(0x6440_0000), 80);
        let group: Vec<Weighted> = (0..size).map(|n| Weighted::new(server(n), 1 + (n % 3) as u16)).collect();
        let changed: Vec<Weighted> = group.iter().copied().filter(|w| w.target != server(size / 2).into()).collect();
        let instruct = |t: &mut Translator<Heap>, group: &[Weighted]| {
            let start = Clock::now();
            let _ = t.divert(Divert::new(to).to_group(group));
            start.elapsed().as_nanos() as f64
        };
        row(&format!("group of {size}: the instruction"), instruct(&mut t, &group));
        if size > 1 {
            let runs = (0..RUNS).map(|n| instruct(&mut t, if n % 2 == 0 { &changed } else { &group }));
            row("  an update without one of them", median(runs.collect()));
        }
        opening("  new connection", &mut t, |_| to);
    }
}

fn rediverts() {
    for rules in [64, 10_000, 100_000] {
        let mut t = translator(rules as usize, 60_000);
        for n in 0..rules {
            t.divert(Divert::new(original(n)).to(server(0))).expect("room");
        }
        let _ = t.translate(Instant::from_millis(1), &mut udp(client(1), original(1)));
        let mut redivert = |from, to, how| {
            let start = Clock::now();
            let done = t.redivert(server(from), server(to), how).expect("room");
            assert_eq!(done.servers, rules as usize);
            start.elapsed().as_nanos() as f64
        };
        row(&format!("switch of a server with {rules} rules"), redivert(0, 1, Redivert::Switch));
        row("  drain", redivert(1, 2, Redivert::Drain));
    }
}

/// What the longest call of each kind takes: the same calls are made three times, on fresh tables, and of each call the
/// shortest time counts, so that what the machine does meanwhile is left out.
struct Steps {
    /// For each call its kind and its shortest time so far, in nanoseconds.
    calls: Vec<(&'static str, f64)>,
    /// How many of them this run has made.
    made: usize,
}

impl Steps {
    fn call<R>(&mut self, kind: &'static str, call: impl FnOnce() -> R) -> R {
        let before = Clock::now();
        let result = black_box(call());
        let taken = before.elapsed().as_nanos() as f64;
        match self.calls.get_mut(self.made) {
            Some((of, least)) => {
                assert_eq!(*of, kind, "the runs are the same");
                *least = least.min(taken);
            }
            None => self.calls.push((kind, taken)),
        }
        self.made += 1;
        result
    }

    fn print(&self) {
        let mut kinds: Vec<&str> = Vec::new();
        for (kind, _) in &self.calls {
            if !kinds.contains(kind) {
                kinds.push(kind);
            }
        }
        for kind in kinds {
            let times = self.calls.iter().filter(|(of, _)| *of == kind).map(|(_, time)| *time);
            row(&format!("longest of {:>6}: {kind}", times.clone().count()), times.fold(0.0, f64::max));
        }
    }
}

/// Every kind of call on a table with 100 000 rules, of which 1000 are port forwards that keep the source.
fn steps() {
    const RULES: u32 = 100_000;
    const SERVERS: u32 = 60_000;
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
    let mut steps = Steps { calls: Vec::new(), made: 0 };
    for _ in 0..3 {
        steps.made = 0;
        let mut t = translator(RULES as usize + 1_000, 65_000);
        let mut now = Instant::from_millis(1);
        for n in 0..RULES {
            steps.call("insert", || t.divert(Divert::new(original(n)).to(server(n % SERVERS)))).expect("room");
        }
        for n in 0..1_000 {
            let clients = Prefix::new(address(0x0a00_0000 + n * 256), 24).expect("a length");
            let forward = Match::from(SocketAddrV4::new(OWN, 2_000 + n as u16)).clients(clients);
            let divert = Divert::new(forward).to(server(SERVERS + n)).keep_source();
            steps.call("insert a forward for some clients that keeps the source", || t.divert(divert)).expect("room");
        }
        for n in 0..2_000 {
            let mut packet = udp(client(n), original(n * 41));
            let _ = steps.call("new connection", || t.translate(now, &mut packet));
        }
        for n in 0..2_000 {
            let mut packet = udp(client(n), SocketAddrV4::new(address(0x6440_0003 + n * 35), 80));
            let _ = steps.call("passing packet", || t.translate(now, &mut packet));
            let mut packet = udp(server(SERVERS + n % 1_000), client(n));
            let _ = steps.call("packet from a server that a rule hides", || t.translate(now, &mut packet));
            let mut packet = udp(client(n), SocketAddrV4::new(OWN, 1_900 + n as u16));
            let _ = steps.call("packet to a port of our own", || t.translate(now, &mut packet));
        }
        for n in 0..10_000 {
            steps.call("look up", || t.find_divert(original(n)).is_some());
            steps.call("update", || t.divert(Divert::new(original(n)).to(server((n + 1) % SERVERS)))).expect("room");
        }
        for n in 0..1_000 {
            steps.call("count connections", || t.connections_on(server(n)));
        }
        for n in 0..20 {
            let how = if n % 2 == 0 { Redivert::Switch } else { Redivert::Drain };
            let kind = if n % 2 == 0 { "switch" } else { "drain" };
            steps.call(kind, || t.redivert(server(n), server(n + 1_000), how)).expect("room");
        }
        let poll = |steps: &mut Steps, t: &mut Translator<Heap>, now: &mut Instant, polls: u32| {
            for _ in 0..polls {
                let Some(due) = steps.call("ask when to poll", || t.poll_at()) else {
                    return;
                };
                *now = due.max(*now);
                steps.call("poll", || t.poll(*now));
            }
        };
        poll(&mut steps, &mut t, &mut now, 10_000);
        for n in 0..RULES / 2 {
            steps.call("remove", || t.remove(original(n)).is_some());
        }
        poll(&mut steps, &mut t, &mut now, 10_000);
        steps.call("forget", || t.forget());
        poll(&mut steps, &mut t, &mut now, 1_000);
    }
    steps.print();
}

fn main() {
    // One alone: `cargo bench --bench rules -- steps`.
    if std::env::args().any(|argument| argument == "steps") {
        return steps();
    }
    exact();
    by_client();
    prefixes();
    groups();
    rediverts();
    steps();
}

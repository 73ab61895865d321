//! What rules cost at any number: instructions, new connections and packets that pass.
//!
//! A ratio between two rows of one run says more than a row: the machine is the same for both.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Instant as Clock;

use byway::{Config, Divert, Heap, Instant, Match, Prefix, Redivert, Translator, Verdict, Weighted};
use byway_testing::packet;

use crate::labels::{Limit, Protocol};
use crate::report::median;
use crate::rules_report::Table;
use crate::steps::LONGEST;
use crate::timed::Effort;
use crate::{limits, steps};

const RUNS: usize = 5;
const CONNECTIONS: usize = 1_000;

pub(crate) fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(number)
}

pub(crate) fn server(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(address(0x1700_0000 + number), 8_080)
}

/// The original destinations of exact rules are spread over many networks.
pub(crate) fn original(rule: u32) -> SocketAddrV4 {
    SocketAddrV4::new(address(0x6440_0000 + rule * 7), 80)
}

pub(crate) fn client(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(address(0x0a00_0000 + number.wrapping_mul(0x9e37) % 0xff_ffff), 1_024 + (number % 60_000) as u16)
}

pub(crate) fn udp(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 28] {
    packet::udp(from, to, &[]).try_into().expect("two headers")
}

pub(crate) fn translator(rules: usize, servers: usize) -> Translator<Heap> {
    let first = Ipv4Addr::new(10, 10, 10, 10);
    let config = Config::new([7; 32]).alternative(first, 1_024..=65_535);
    Translator::new(config, Heap::new(CONNECTIONS, rules).servers(servers)).expect("a good configuration")
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

/// All rows, those of the longest calls last.
///
/// # Errors
/// If the limit that packets which pass are held against cannot be measured.
pub(crate) fn measure() -> Result<Table, String> {
    let flows = Rc::new(limits::flows(1_000, Protocol::Udp)?);
    let touch = limits::rows(&flows).into_iter().find(|row| row.label().limit == Some(Limit::L1));
    let touch = touch.ok_or("there is no L1")?.pass(Effort::USUAL)?.nanoseconds_per_item;
    let mut table = Table::default();
    table.row("L1: a packet is touched, and nothing looked up", touch);
    start_up(&mut table);
    exact(&mut table, touch);
    by_client(&mut table);
    prefixes(&mut table, touch);
    groups(&mut table);
    rediverts(&mut table);
    steps::measure(&mut table);
    Ok(table)
}

/// A translator that is made.
fn start_up(table: &mut Table) {
    for connections in [1_000, 100_000, 1_000_000] {
        let made = (0..RUNS).map(|_| {
            let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1_024..=65_535);
            let start = Clock::now();
            let translator = Translator::new(config, Heap::new(connections, 1_024));
            let taken = start.elapsed().as_nanos() as f64;
            drop(black_box(translator.expect("a good configuration")));
            taken
        });
        table.row(format!("a translator with room for {connections} connections"), median(made));
    }
}

/// New connections, each to the destination that `to` says.
fn opening(t: &mut Translator<Heap>, to: impl Fn(u32) -> SocketAddrV4) -> f64 {
    let mut number = 0;
    median((0..RUNS).map(|_| {
        let packets: Vec<_> = (0..CONNECTIONS as u32 / 2).map(|n| udp(client(number + n), to(number + n))).collect();
        number += packets.len() as u32;
        let mut copies = packets.clone();
        let start = Clock::now();
        for packet in &mut copies {
            assert_eq!(t.translate(Instant::from_millis(u64::from(number)), packet), Verdict::ToServer);
        }
        let taken = start.elapsed().as_nanos() as f64 / packets.len() as f64;
        forget(t, number);
        taken
    }))
}

fn forget(t: &mut Translator<Heap>, now: u32) {
    t.forget();
    for _ in 0..40 {
        t.poll(Instant::from_millis(u64::from(now)));
    }
}

/// Packets that pass.
fn passing(t: &mut Translator<Heap>, to: impl Fn(u32) -> SocketAddrV4) -> f64 {
    let mut packets: Vec<_> = (0..1_000).map(|n| udp(client(n), to(n))).collect();
    median((0..RUNS * 5).map(|_| {
        let start = Clock::now();
        for packet in &mut packets {
            assert_eq!(t.translate(Instant::from_millis(1), black_box(packet)), Verdict::Pass);
        }
        start.elapsed().as_nanos() as f64 / packets.len() as f64
    }))
}

fn exact(table: &mut Table, touch: f64) {
    let mut few = None;
    for rules in [64, 1_024, 10_000, 100_000] {
        // What is demanded of an instruction is demanded of the largest table.
        let instruction = |table: &mut Table, what: &str, taken: f64, most: f64| match rules {
            100_000 => table.within(what, taken, most, ""),
            _ => table.row(what, taken),
        };
        let mut t = translator(rules as usize, 60_000);
        let divert = |t: &mut Translator<Heap>, n, to| t.divert(Divert::new(original(n)).to(server(to))).map(|_| ());
        let (building, longest) = each(rules, |n| divert(&mut t, n, n % 60_000).expect("room"));
        // All of them in 0.3 s would be 3000.
        instruction(table, &format!("{rules} exact rules: insert"), building, 2_000.0);
        instruction(table, "  the longest", longest, LONGEST);
        let (updating, longest) = each(rules, |n| divert(&mut t, n, (n + 1) % 60_000).expect("room"));
        instruction(table, "  update", updating, 2_000.0);
        instruction(table, "  the longest", longest, LONGEST);
        let looking = each(rules, |n| assert!(black_box(t.find_divert(original(n))).is_some())).0;
        instruction(table, "  look up", looking, 2_000.0);
        let new = opening(&mut t, |n| original(n.wrapping_mul(0x9e37_79b1) % rules));
        let base = *few.get_or_insert(new);
        table.within("  new connection", new, 1.3 * base, "1.3 with 64 rules");
        let new = opening(&mut t, |n| original(n % 64));
        table.within("  new connection, 64 of them in use", new, 1.3 * base, "1.3 with 64 rules");
        let passed = passing(&mut t, |n| SocketAddrV4::new(address(0x6440_0003 + n * 7 * 5), 80));
        table.within("  passing packet", passed, 2.0 * touch, "2 L1");
        let (removing, longest) = each(rules, |n| assert!(t.remove(original(n)).is_some()));
        instruction(table, "  remove", removing, 2_000.0);
        instruction(table, "  the longest", longest, LONGEST);
    }
}

fn by_client(table: &mut Table) {
    let mut few = None;
    for rules in [64, 1_025, 10_000] {
        let mut t = translator(10_000, 60_000);
        let to = SocketAddrV4::new(address(0x6440_0000), 80);
        for n in 0..rules {
            let one = Prefix::host(*client(n).ip());
            t.divert(Divert::new(Match::from(to).clients(one)).to(server(n))).expect("room");
        }
        let mut number = 0;
        let new = median((0..RUNS).map(|_| {
            let from = |n| SocketAddrV4::new(*client((number + n) % rules).ip(), 1_024 + n as u16);
            let mut packets: Vec<_> = (0..500).map(|n| udp(from(n), to)).collect();
            number += 500;
            let start = Clock::now();
            for packet in &mut packets {
                assert_eq!(t.translate(Instant::from_millis(u64::from(number)), packet), Verdict::ToServer);
            }
            let taken = start.elapsed().as_nanos() as f64 / 500.0;
            forget(&mut t, number);
            taken
        }));
        let base = *few.get_or_insert(new);
        let what = format!("{rules} client rules for one destination: new connection");
        table.within(what, new, 2.0 * base, "2 with 64 rules");
    }
}

fn prefixes(table: &mut Table, touch: f64) {
    for rules in [64, 1_025, 10_000] {
        let mut t = translator(10_000, 60_000);
        for n in 0..rules {
            let network = Prefix::new(address(0x6000_0000 + n * 512), 24).expect("a length");
            t.divert(Divert::new(network).to(server(n).ip().to_owned())).expect("room");
        }
        let passed = passing(&mut t, |n| SocketAddrV4::new(address(0x6000_0100 + n * 512 * 7), 80));
        table.within(format!("{rules} prefixes of one length: passing packet"), passed, 5.0 * touch, "5 L1");
        let new =
            opening(&mut t, |n| SocketAddrV4::new(address(0x6000_0005 + n.wrapping_mul(0x9e37) % rules * 512), 80));
        table.row("  new connection", new);
    }
    for room in [1_024, 2_000] {
        let mut t = translator(room, 2_000);
        for n in 0..1_000_u32 {
            let length = 8 + (n % 24) as u8;
            let network = Prefix::new(address(0x6000_0000 + (n << (32 - length))), length).expect("a length");
            let clients = Prefix::new(address(0xac10_0000 + n * 256), 16 + (n % 9) as u8).expect("a length");
            t.divert(Divert::new(Match::from(network).clients(clients)).to(*server(n).ip())).expect("room");
        }
        let passed = passing(&mut t, |n| SocketAddrV4::new(address(0x6000_0100 + n * 513), 80));
        table.within(format!("24 lengths with client prefixes, room for {room}: passing packet"), passed, 100.0, "");
    }
}

fn groups(table: &mut Table) {
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
        table.within(format!("group of {size}: the instruction"), instruct(&mut t, &group), 200_000.0, "");
        if size > 1 {
            let runs = (0..RUNS).map(|n| instruct(&mut t, if n % 2 == 0 { &changed } else { &group }));
            table.within("  an update without one of them", median(runs), 200_000.0, "");
        }
        table.within("  new connection", opening(&mut t, |_| to), 500.0, "");
    }
}

fn rediverts(table: &mut Table) {
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
        table.within(format!("{rules} rules of one server: switch"), redivert(0, 1, Redivert::Switch), LONGEST, "");
        table.within("  drain", redivert(1, 2, Redivert::Drain), LONGEST, "");
    }
}

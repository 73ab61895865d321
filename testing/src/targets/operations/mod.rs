//! Sequences of operations against the naive model: a stretch of 16 bytes for each operation, read with `arbitrary`.
//!
//! Three translators are told the same: one over arrays, one over slices of the caller, and one over the heap, which takes
//! packets in bursts where the sequence says so. The one over slices measures connections and no servers, so that each packet
//! takes the slow path, with which the fast paths of the others are compared. After each operation they must agree with each
//! other and with the model.

mod draw;
mod input;
mod instructions;
mod packets;
mod run;
mod segment;

use core::net::Ipv4Addr;
use std::fmt::Write;

use arbitrary::{Arbitrary, Unstructured};
use byway::{Borrowed, Config, Fixed, Heap, InexactReset, Midstream, PortChoice, Translator, slots};

use super::checks::Told;
use super::model::{Model, Settings};
pub use input::Operation;
use run::{Burst, Run};
pub use segment::{PLAIN, SEGMENT};

/// Bytes of input that one operation takes.
pub const STRETCH: usize = 16;
/// More operations than this are not carried out.
const LONGEST: usize = 120;
/// Rules, and their servers, and re-diverts within one sweep.
const RULES: usize = 24;
const MANY_RULES: usize = 1_100;
/// In the byte that chooses the first rules.
const LARGE: u8 = 0x80;
const FRAGMENTS: usize = 160;
const EVENTS: usize = 256;
const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 11);
const CLIENTS: [Ipv4Addr; 6] = [
    Ipv4Addr::new(1, 2, 3, 4),
    Ipv4Addr::new(1, 2, 3, 5),
    Ipv4Addr::new(1, 2, 4, 4),
    Ipv4Addr::new(192, 168, 7, 7),
    Ipv4Addr::new(127, 0, 0, 1),
    OWN,
];

const ORIGINALS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(100, 100, 100, 100),
    Ipv4Addr::new(100, 100, 100, 101),
    Ipv4Addr::new(100, 100, 200, 1),
    ALTERNATIVE,
];

const PORTS: [u16; 4] = [80, 53, 69, 8080];
const MIRRORS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(123, 45, 67, 89), Ipv4Addr::new(123, 45, 67, 90), Ipv4Addr::new(100, 100, 100, 101)];

const ROUTER: Ipv4Addr = Ipv4Addr::new(5, 6, 7, 2);

/// Reads the operations of an input: the first stretch is the settings.
pub fn operations(data: &[u8]) -> Vec<Operation> {
    data.chunks(STRETCH)
        .skip(1)
        .take(LONGEST)
        .filter_map(|stretch| Operation::arbitrary(&mut Unstructured::new(stretch)).ok())
        .collect()
}

fn settings(data: &[u8]) -> (Settings, PortChoice) {
    let byte = |n: usize| data.get(n).copied().unwrap_or(0);
    let settings = Settings {
        alternative: ALTERNATIVE,
        ports: if byte(0) % 3 == 0 { 1020..=1027 } else { 600..=65_535 },
        own: OWN,
        // With a byte of its own, so that sequences that were found before mean what they meant.
        midstream: (byte(9) & 3 != 3)
            .then_some([Midstream::Pass, Midstream::Adopt, Midstream::Drop][usize::from(byte(1) % 3)]),
        inexact_reset: if byte(2) & 1 == 0 { InexactReset::Pass } else { InexactReset::Drop },
        client_limit: [0, 0, 4][usize::from(byte(3) % 3)],
        refresh_from_server: byte(4) & 1 == 0,
        rewrite_identification: byte(5) & 1 != 0,
        keep_port: byte(6) % 3 == 2,
        capacity: if byte(7) & 1 == 0 { 8 } else { 32 },
    };
    (settings, [PortChoice::Random, PortChoice::SameRange, PortChoice::Keep][usize::from(byte(6) % 3)])
}

fn config(settings: &Settings, choice: PortChoice) -> Config {
    let config = Config::new([0x42; 32]).alternative(settings.alternative, settings.ports.clone()).own(settings.own);
    settings
        .midstream
        .map_or(config.clone(), |midstream| config.midstream(midstream))
        .inexact_reset(settings.inexact_reset)
        .client_limit(settings.client_limit)
        .refresh_from_server(settings.refresh_from_server)
        .rewrite_identification(settings.rewrite_identification)
        .port_choice(choice)
}

/// Carries out the operations of an input.
pub fn run(data: &[u8]) {
    run_watched(data, &mut |_| {});
}

/// Looks into a translator.
pub type Watch<'a> = dyn FnMut(&mut Translator<Heap>) + 'a;

/// The same; `watch` sees the third translator after each step.
pub fn run_watched(data: &[u8], watch: &mut Watch<'_>) {
    if std::env::var_os("BYWAY_EXPLAIN").is_some() {
        eprint!("{}", explain(data));
    }
    let (settings, choice) = settings(data);
    let rules = data.get(8).copied().unwrap_or(0);
    if settings.capacity == 8 {
        sequence::<8>(settings, choice, rules, &operations(data), watch);
    } else {
        sequence::<32>(settings, choice, rules, &operations(data), watch);
    }
}

/// An input in readable form, to find out why it fails.
pub fn explain(data: &[u8]) -> String {
    let mut text = format!("{:?}\n", settings(data));
    for operation in operations(data) {
        let _ = writeln!(text, "{operation:?}");
    }
    text
}

fn sequence<const C: usize>(
    settings: Settings,
    choice: PortChoice,
    rules: u8,
    operations: &[Operation],
    watch: &mut Watch<'_>,
) {
    let mut connections = [slots::Connection::EMPTY; C];
    let mut index = vec![0; C * byway::INDEX_WORDS];
    let mut diverts = [slots::Divert::EMPTY; RULES];
    let mut servers = [slots::Server::EMPTY; RULES];
    let mut moves = [slots::Move::EMPTY; RULES];
    let mut fragments = vec![slots::Fragment::EMPTY; FRAGMENTS];
    let mut events = vec![slots::Event::EMPTY; EVENTS];
    let mut measured = [slots::Measure::EMPTY; C];
    let borrowed = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves)
        .fragments(&mut fragments)
        .events(&mut events)
        .measured(&mut measured);
    // The third has, for every other input, room for so many rules that they are found in another way.
    let large = rules & LARGE != 0;
    let heap = Heap::new(C, if large { MANY_RULES } else { RULES }).fragments(FRAGMENTS).events(EVENTS);
    let mut fixed = Box::new(Fixed::<C, RULES, FRAGMENTS, EVENTS>::sized());
    let config = config(&settings, choice);
    let mut run = Run {
        one: Translator::new(config.clone(), borrowed).expect("a good configuration"),
        two: Translator::new(config.clone(), &mut *fixed).expect("a good configuration"),
        bursting: Translator::new(config.clone(), heap).expect("a good configuration"),
        large,
        config,
        model: Model::new(settings),
        told: Told::default(),
        last: Vec::new(),
        burst: Burst::default(),
        wanted: 0,
    };
    run.first_rules(rules);
    for operation in operations {
        run.step(operation);
        watch(&mut run.bursting);
    }
    run.end();
}

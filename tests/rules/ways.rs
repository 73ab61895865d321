//! The short ways through the translator do what the long way does, re-diverts included.
//!
//! A translator that writes identifications takes the long way with every packet; others take the short ways where they
//! can, one packet at a time or in bursts, measured or not. All get the same packets, and nothing may tell them apart.

use byway::{
    Closed, Counters, Divert, DropReason, Event, Heap, Midstream, Prefix, Redivert, Translator, Verdict, Weighted,
};
use byway_testing::talk::*;
use byway_testing::*;

const THIRD: &str = "123.45.67.91:80";
/// It keeps its source.
const KEPT: &str = "100.0.0.1:53";
/// Only its source is replaced.
const MASQUERADED: &str = "100.0.0.3:80";
/// One of the translator's own, forwarded to a server that sees its clients' addresses.
const FORWARD: &str = "10.10.10.10:22";
const HIDDEN: &str = "9.0.0.2:22";
/// Replies may come from any port.
const SIBLINGS: &str = "100.0.0.2:69";
/// Two servers share it.
const SHARED: &str = "100.0.0.4:80";
/// A prefix of which only the source is replaced holds this, ...
const BEYOND: &str = "120.0.0.1:80";
/// ... and this, which is the translator's own in some configurations.
const OWN: &str = "120.0.0.2:80";

/// Translators that get the same packets.
struct Ways {
    seconds: u64,
    /// It measures too.
    long: Translator<Heap>,
    short: Translator<Heap>,
    bursts: Translator<Heap>,
    measured: Translator<Heap>,
    /// What the one that takes bursts has not got yet, and what the others made of it.
    waiting: Vec<(Vec<u8>, Verdict, Vec<u8>)>,
    events: Vec<Event>,
    /// How often a record told of each state, of TCP that is being opened, talked over, and closed.
    states: [u64; 14],
}

impl Ways {
    /// `keeps` and `forwards` say whether there are rules that keep the source, and rules about an address of our own;
    /// `resumes`, whether the connections of some could be handed over.
    fn new(config: &byway::Config, (keeps, forwards, resumes): (bool, bool, bool)) -> Self {
        let new = |config: &byway::Config, heap: Heap| {
            let heap = if resumes { heap.resumable() } else { heap };
            let mut t = Translator::new(config.clone(), heap).unwrap();
            for (original, server) in [(ORIGINAL, SERVER), ("100.100.100.101:80", OTHER)] {
                let rule = Divert::new(at(original)).to(at(server));
                t.divert(if resumes { rule.resumable() } else { rule }).unwrap();
            }
            if keeps {
                t.divert(Divert::new(at(KEPT)).to(at("9.0.0.1:53")).keep_source()).unwrap();
            }
            t.divert(Divert::new(at(MASQUERADED))).unwrap();
            t.divert(Divert::new(at(SIBLINGS)).to(at("9.9.9.9:69")).replies_from_any_port()).unwrap();
            let group = [Weighted::new(at("9.0.0.3:80"), 3), Weighted::new(at("9.0.0.4:80"), 1)];
            t.divert(Divert::new(at(SHARED)).to_group(&group)).unwrap();
            t.divert(Divert::new("120.0.0.0/8".parse::<Prefix>().unwrap())).unwrap();
            if forwards {
                t.divert(Divert::new(at(FORWARD)).to(at(HIDDEN)).keep_source()).unwrap();
            }
            t
        };
        let heap = || Heap::new(40, 12);
        Self {
            seconds: 0,
            long: new(&config.clone().rewrite_identification(true), heap().measured()),
            short: new(config, heap()),
            bursts: new(config, heap()),
            measured: new(config, heap().measured()),
            waiting: Vec::new(),
            events: Vec::new(),
            states: [0; 14],
        }
    }

    /// Translates a packet one by one; returns it if it goes to a server.
    fn packet(&mut self, packet: Vec<u8>) -> Option<Vec<u8>> {
        let (verdict, long) = run(&mut self.long, s(self.seconds), &packet);
        for t in [&mut self.short, &mut self.measured] {
            assert_eq!(run(t, s(self.seconds), &packet), (verdict, long.clone()), "{packet:x?}");
            assert_eq!(t.counters(), self.long.counters(), "{packet:x?}");
        }
        let answered = (verdict == Verdict::ToServer).then(|| long.clone());
        self.waiting.push((packet, verdict, long));
        answered
    }

    /// Lets the one that takes bursts catch up, and compares what is to be seen of all three.
    fn compare(&mut self) {
        let mut packets: Vec<_> = self.waiting.iter().map(|(packet, ..)| packet.clone()).collect();
        let mut verdicts = vec![Verdict::Pass; packets.len()];
        if !packets.is_empty() {
            self.bursts.translate_burst(s(self.seconds), &mut packets, &mut verdicts);
        }
        for ((packet, verdict), (before, expected, long)) in packets.iter().zip(&verdicts).zip(&self.waiting) {
            assert_eq!((verdict, packet), (expected, long), "{before:x?}");
        }
        self.waiting.clear();
        let connections = |t: &Translator<Heap>| t.connections().collect::<Vec<_>>();
        // Sequence numbers and time-outs too.
        let records = |t: &Translator<Heap>| t.records().map(|record| *record.as_bytes()).collect::<Vec<_>>();
        let (listed, recorded) = (connections(&self.long), records(&self.long));
        for record in &recorded {
            self.states[usize::from(record[4]).min(13)] += 1;
        }
        let told = events(&mut self.long);
        for t in [&mut self.short, &mut self.bursts, &mut self.measured] {
            assert_eq!(t.counters(), self.long.counters());
            assert_eq!(connections(t), listed);
            assert_eq!(records(t), recorded);
            assert_eq!((t.slots_in_use(), t.poll_at()), (self.long.slots_in_use(), self.long.poll_at()));
            assert_eq!(events(t), told);
        }
        self.events.extend(told);
        let by_connection = |t: &Translator<Heap>| {
            let mut all = t.connections();
            core::iter::from_fn(|| all.next_measured()).collect::<Vec<_>>()
        };
        assert_eq!(by_connection(&self.measured), by_connection(&self.long));
        assert!(self.measured.measurements().eq(self.long.measurements()));
    }

    /// Does the same with all three.
    fn all<T: PartialEq + core::fmt::Debug>(&mut self, what: impl Fn(&mut Translator<Heap>) -> T) {
        self.compare();
        let long = what(&mut self.long);
        assert_eq!(what(&mut self.short), long);
        assert_eq!(what(&mut self.bursts), long);
        assert_eq!(what(&mut self.measured), long);
    }
}

/// The TCP segment with these options.
fn with_options(mut packet: Vec<u8>, options: &[u8]) -> Vec<u8> {
    packet.splice(40..40, options.iter().copied());
    packet[32] = (5 + options.len() as u8 / 4) << 4;
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    fill_checksums(&mut packet);
    packet
}

/// Options as segments have them: in the usual order, in others, and none; with numbers that hardly advance.
fn options(dice: &mut Dice, flags: u8) -> Vec<u8> {
    let number = |dice: &mut Dice| (1_000 + dice.below(9) as u32).to_be_bytes();
    let times = |dice: &mut Dice| [&[1, 1, 8, 10][..], &number(dice), &number(dice)].concat();
    let blocks = |dice: &mut Dice| {
        let edges = [CLIENT_START, SERVER_START].map(|start| start.wrapping_add(dice.below(9) as u32).to_be_bytes());
        [&[1, 1, 5, 10], &edges[0][..], &edges[1][..]].concat()
    };
    if flags & SYN != 0 {
        let offers: [&[u8]; 4] =
            [&[], &[2, 4, 5, 180], &[2, 4, 5, 180, 4, 2, 3, 3, 7, 0, 0, 0], &[30, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]];
        return [offers[dice.below(4) as usize].to_vec(), times(dice)].concat();
    }
    match dice.below(5) {
        0 => Vec::new(),
        1 => blocks(dice),
        2 => [times(dice), blocks(dice)].concat(),
        3 => [blocks(dice), times(dice)].concat(),
        _ => times(dice),
    }
}

/// Some thousand things that happen; what all of them did in the end.
fn story(config: &byway::Config, rules: (bool, bool, bool), seed: u64) -> (Counters, Vec<Event>, [u64; 14]) {
    let mut ways = Ways::new(config, rules);
    let mut dice = Dice(seed);
    // What servers have seen, for them to answer.
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for _ in 0..2_000 {
        let pick = |dice: &mut Dice, from: &[&str]| at(from[dice.below(from.len() as u64) as usize]);
        let flags = [ACK, ACK, ACK, ACK, ACK, ACK, SYN, SYN, SYN | ACK, FIN | ACK, FIN | ACK, RST, RST | ACK]
            [dice.below(13) as usize];
        let data: &[u8] = if dice.below(3) == 0 { b"data" } else { b"" };
        // Now and then what nobody has sent, up to the number that stands for "not known".
        let wild = [0, 1 << 24, (1 << 24) - 1, 1 << 31, CLIENT_START.wrapping_neg(), SERVER_START.wrapping_neg()];
        let mut ahead = || match dice.below(8) {
            0 => wild[dice.below(wild.len() as u64) as usize].wrapping_add(dice.below(3) as u32),
            // Numbers of another connection, that both sides may come to agree on.
            1 => (1 << 30) + dice.below(3) as u32,
            2 => dice.below(12) as u32,
            _ => dice.below(3) as u32,
        };
        let numbers = (CLIENT_START.wrapping_add(ahead()), SERVER_START.wrapping_add(ahead()));
        match dice.below(64) {
            0..=27 => {
                let from = if dice.below(40) == 0 { at(OWN) } else { client(dice.below(12) as u32) };
                let places = [
                    [ORIGINAL, ORIGINAL, "100.100.100.101:80", KEPT, SIBLINGS],
                    [MASQUERADED, FORWARD, SHARED, BEYOND, OWN],
                ];
                let to = pick(&mut dice, places.as_flattened());
                let packet = if dice.below(2) == 0 {
                    udp(from, to, b"question")
                } else {
                    let segment = tcp(from, to, (flags, numbers.0, numbers.1), data);
                    if rules.2 { with_options(segment, &options(&mut dice, flags)) } else { segment }
                };
                seen.extend(ways.packet(packet));
            }
            28..=55 if !seen.is_empty() => {
                let asked = &seen[seen.len() - 1 - dice.below(seen.len().min(30) as u64) as usize];
                let (us, mut server) = ends(asked);
                if dice.below(8) == 0 {
                    server.set_port(4_000);
                }
                let answer = if asked[9] == 17 {
                    udp(server, us, b"answer")
                } else {
                    let flags = if segment(asked).0 == SYN { SYN | ACK } else { flags };
                    let segment = tcp(server, us, (flags, numbers.1, numbers.0), data);
                    if rules.2 { with_options(segment, &options(&mut dice, flags)) } else { segment }
                };
                ways.packet(answer);
            }
            56 if dice.below(2) == 0 => {
                let (from, to) = (at(HIDDEN), client(dice.below(12) as u32));
                ways.packet(if dice.below(2) == 0 {
                    udp(from, to, b"question")
                } else {
                    tcp(from, to, (flags, numbers.0, numbers.1), b"")
                });
            }
            56..=58 => {
                let places = [SERVER, OTHER, THIRD, "9.0.0.1:53", KEPT, "9.9.9.9:69", "9.9.9.9:70"];
                let (from, to) = (pick(&mut dice, &places), pick(&mut dice, &places));
                let how =
                    [Redivert::Switch, Redivert::Switch, Redivert::Reset, Redivert::Drain][dice.below(4) as usize];
                ways.all(|t| t.redivert(from, to, how));
            }
            59 => {
                ways.compare();
                let seconds = [1, 1, 10, 100, 200, 400, 8_000][dice.below(7) as usize];
                ways.seconds += seconds;
            }
            60 => {
                let now = s(ways.seconds);
                ways.all(|t| t.poll(now));
            }
            61 => {
                let now = s(ways.seconds);
                ways.all(|t| say(t, now));
            }
            _ => ways.compare(),
        }
    }
    ways.compare();
    (*ways.long.counters(), ways.events, ways.states)
}

#[test]
fn the_short_ways_do_what_the_long_way_does() {
    let config = || byway::Config::new([8; 32]).tell_changes(true);
    let roomy = || config().alternative(ip(ALTERNATIVE), 1_024..=65_535);
    // The originals lie between the two.
    let two = || roomy().alternative(ip("110.0.0.1"), 1_024..=65_535);
    // One of three shards: the other addresses are its own, and it gives away no port of them.
    let shard = |all: byway::Config, number| byway::Sharding::new(&all, 3).unwrap().config(&all, number).unwrap();
    let in_a_row = || config().alternatives(ip("10.10.10.9"), ip("10.10.10.11"), 1_024..=65_535);
    let apart = || two().alternative(ip("99.0.0.1"), 1_024..=1_040);
    let narrow = || config().alternative(ip(ALTERNATIVE), 1_024..=1_031);
    let mut counters = [(); 8].map(|()| 0);
    let mut states = [0; 14];
    for seed in sample(0..26) {
        for config in [
            roomy(),
            roomy().transmit_rates(0, 0).midstream(Midstream::Adopt),
            roomy().refresh_from_server(true).midstream(Midstream::Pass),
            roomy().own(*at(OWN).ip()).client_limit(2),
            two().own(*at(OWN).ip()),
            two().midstream(Midstream::Adopt),
            shard(in_a_row(), 0),
            shard(in_a_row(), 1).midstream(Midstream::Adopt),
            shard(apart(), 2),
            narrow().midstream(Midstream::Drop),
            narrow().transmit_rates(0, 0).client_limit(3),
        ] {
            let (did, events, told) = story(&config, (seed % 2 == 0, seed % 3 == 0, seed % 4 > 1), seed);
            for (sum, count) in states.iter_mut().zip(told) {
                *sum += count;
            }
            let home = |event: &&Event| {
                matches!(event, Event::Closed { connection, why: Closed::Rediverted }
                    if connection.client_side.destination == at(KEPT))
            };
            let dropped = [DropReason::OldServer, DropReason::NoPort, DropReason::Resetting].map(|r| did.dropped(r));
            let home = events.iter().filter(home).count() as u64;
            let of_this = [did.moved, did.reset, did.stranded, did.expired, dropped[0], dropped[1], dropped[2], home];
            for (sum, count) in counters.iter_mut().zip(of_this) {
                *sum += count;
            }
        }
    }
    let least = if is_emulated() { 0 } else { 100 };
    assert!(counters.iter().all(|count| *count > least), "moved, reset, stranded, expired, drops, home: {counters:?}");
    let of_tcp = [1, 2, 3, 4, 5, 6, 7, 8, 13].map(|number| states[number]);
    assert!(of_tcp.iter().all(|count| *count > least), "states of TCP, by their number in a record: {of_tcp:?}");
}

/// Whoever is measured counts every packet, also where another server could take over.
#[test]
fn resumable_connections_are_measured_like_others() {
    let measured = |resumes: bool| {
        let config = byway::Config::new([8; 32]).alternative(ip(ALTERNATIVE), 1_024..=65_535);
        let heap = if resumes { Heap::new(8, 2).resumable() } else { Heap::new(8, 2) };
        let mut t = Translator::new(config, heap.measured()).unwrap();
        let rule = Divert::new(at(ORIGINAL)).to(at(SERVER));
        t.divert(if resumes { rule.resumable() } else { rule }).unwrap();
        let (mut client, mut server) = (CLIENT_START, SERVER_START);
        let mut us = None;
        for n in 0..40_u64 {
            let now = byway::Instant::from_millis(10 * n);
            let (flags, data): (u8, &[u8]) = match n {
                0 => (SYN, b""),
                1 => (SYN | ACK, b""),
                _ => (ACK, [&b""[..], b"four"][n as usize / 2 % 2]),
            };
            let length = data.len() as u32 + u32::from(flags & SYN != 0);
            if n % 2 == 0 {
                let sent = there(&mut t, now, &tcp(at(CLIENT), at(ORIGINAL), (flags, client, server), data));
                us = Some(ends(&sent).0);
                client = client.wrapping_add(length);
            } else {
                let back = tcp(at(SERVER), us.unwrap(), (flags, server, client), data);
                assert_eq!(run(&mut t, now, &back).0, Verdict::ToClient);
                server = server.wrapping_add(length);
            }
        }
        let (_, of_connection) = t.connections().next_measured().unwrap();
        (of_connection.unwrap(), t.measurements().collect::<Vec<_>>())
    };
    let (plain, resumable) = (measured(false), measured(true));
    assert_eq!(plain, resumable);
    assert_eq!((plain.0.to_server.packets, plain.0.to_client.packets), (20, 20));
    assert!(plain.1[0].response.count() > 5, "{:?}", plain.1[0].response);
}

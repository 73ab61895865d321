//! Rules that eject failing servers, with made-up servers in simulated time: who gets the connections of which clients.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::VecDeque;

use byway::{
    Divert, DivertError, Heap, Instant, Measurements, Protocol, Redivert, RedivertError, State, Translator, Weighted,
};
use byway_testing::talk::*;
use byway_testing::*;
use proptest::prelude::*;

/// What a server does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Well,
    /// A RST for each SYN.
    Refuses,
    /// It accepts and never answers.
    Hangs,
    /// No answer to any SYN.
    Vanished,
    /// A RST for each request.
    Resets,
    /// A FIN for each request.
    Closes,
    /// One connection in so many is refused.
    RefusesOneIn(u64),
    /// As `Refuses`, for clients with this address.
    Bans(Ipv4Addr),
    /// It answers, but the client waits in the middle of its request: a slow request, as attackers send.
    HearsHalf(Ipv4Addr),
}
use Server::{Bans, Closes, Hangs, HearsHalf, Refuses, RefusesOneIn, Resets, Vanished, Well};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Sticky,
    LeastLoaded,
}
const BOTH_CHOICES: [Choice; 2] = [Choice::Sticky, Choice::LeastLoaded];

struct World {
    t: Translator<Heap>,
    now: Instant,
    servers: Vec<Server>,
    weights: Vec<u16>,
    choice: Choice,
    dice: Dice,
    port: u16,
    /// Clients of connections that nobody answers.
    open: Vec<SocketAddrV4>,
    /// Those that were answered and end half a second later.
    served: VecDeque<(Instant, SocketAddrV4, SocketAddrV4, SocketAddrV4)>,
}

fn server(number: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x1400_0001 + number as u32), 80)
}

impl World {
    fn new(servers: &[Server], choice: Choice) -> Self {
        Self::with_rules(10, servers, choice)
    }

    /// With room for so many rules. With more than 1024 they have an index.
    fn with_rules(rules: usize, servers: &[Server], choice: Choice) -> Self {
        let t = Translator::new(config(), Heap::new(20_000, rules).servers(4_000).measured()).unwrap();
        let (servers, weights) = (servers.to_vec(), vec![1; servers.len()]);
        let (now, dice) = (s(100), Dice(1));
        let mut world =
            Self { t, now, servers, weights, choice, dice, port: 1_000, open: Vec::new(), served: VecDeque::new() };
        world.divert();
        world
    }

    fn divert(&mut self) {
        let group: Vec<_> = self.weights.iter().enumerate().map(|(n, w)| Weighted::new(server(n), *w)).collect();
        let rule = Divert::new(at(ORIGINAL)).to_group(&group).ejecting();
        let rule = if self.choice == Choice::LeastLoaded { rule.least_loaded() } else { rule };
        self.t.divert(rule).unwrap();
        let entry = self.t.diverts().next().unwrap();
        // A large group stands in an order of its own.
        let (mut listed, mut asked) = (entry.to_string(), rule.to_string());
        if self.weights.len() > 64 {
            let sorted = |text: String| {
                let mut words: Vec<_> = text.split(' ').map(|word| word.trim_end_matches(',')).collect();
                words.sort();
                words.join(" ")
            };
            (listed, asked) = (sorted(listed), sorted(asked));
        }
        assert_eq!(listed, asked, "whatever is ejected, the rule is what was asked for");
    }

    /// As soon as one that was given before is done with, of which so many may be under way.
    fn redivert(&mut self, from: SocketAddrV4, to: SocketAddrV4, how: Redivert) {
        while let Err(RedivertError::Busy { .. }) = self.t.redivert(from, to, how).inspect_err(|why| {
            assert!(matches!(why, RedivertError::Busy { .. }), "{why}");
        }) {
            self.t.poll(self.now);
        }
    }

    fn client(&mut self, number: u32) -> SocketAddrV4 {
        self.port = self.port.checked_add(1).unwrap_or(1_000);
        SocketAddrV4::new(Ipv4Addr::from_bits(0xc0a8_0000 + number), self.port)
    }

    /// A client connects and asks. Returns its server.
    fn go(&mut self, client: u32) -> usize {
        let client = self.client(client);
        let original = at(ORIGINAL);
        let (now, t) = (self.now, &mut self.t);
        let seen = there(t, now, &tcp(client, original, (SYN, 1, 0), b""));
        let (alternative, to) = ends(&seen);
        let number = (to.ip().to_bits() - 0x1400_0001) as usize;
        let does = match self.servers[number] {
            RefusesOneIn(many) => {
                if self.dice.below(many) == 0 {
                    Refuses
                } else {
                    Well
                }
            }
            Bans(address) => {
                if address == *client.ip() {
                    Refuses
                } else {
                    Well
                }
            }
            HearsHalf(address) => {
                if address == *client.ip() {
                    Hangs
                } else {
                    Well
                }
            }
            does => does,
        };
        if does == Vanished {
            self.open.push(client);
            return number;
        }
        if does == Refuses {
            back(t, now, &tcp(to, alternative, (RST | ACK, 0, 2), b""));
            return number;
        }
        back(t, now, &tcp(to, alternative, (SYN | ACK, 50, 2), b""));
        there(t, now, &tcp(client, original, (ACK, 2, 51), b""));
        there(t, now, &tcp(client, original, (ACK, 2, 51), b"question"));
        let (flags, answer): (u8, &[u8]) = match does {
            Hangs => {
                // Its kernel goes on.
                back(t, now, &tcp(to, alternative, (ACK, 51, 10), b""));
                self.open.push(client);
                return number;
            }
            Resets => (RST, b""),
            Closes => (FIN | ACK, b""),
            _ => (ACK, b"answer"),
        };
        back(t, now, &tcp(to, alternative, (flags, 51, 10), answer));
        match flags {
            RST => {}
            ACK => self.served.push_back((Instant::from_micros(now.as_micros() + 500_000), client, to, alternative)),
            _ => {
                there(t, now, &tcp(client, original, (FIN | ACK, 10, 52), b""));
                back(t, now, &tcp(to, alternative, (ACK, 52, 11), b""));
            }
        }
        number
    }

    /// Ends what has been served.
    fn end(&mut self) {
        while let Some((_, client, to, alternative)) = self.served.pop_front_if(|(until, ..)| *until <= self.now) {
            let (now, t) = (self.now, &mut self.t);
            there(t, now, &tcp(client, at(ORIGINAL), (FIN | ACK, 10, 57), b""));
            back(t, now, &tcp(to, alternative, (FIN | ACK, 57, 11), b""));
            there(t, now, &tcp(client, at(ORIGINAL), (ACK, 11, 58), b""));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Instant::from_micros(self.now.as_micros() + time.as_micros() as u64);
        self.end();
    }

    /// A hundred connections a second of a thousand clients. Returns how many each server got.
    fn run(&mut self, seconds: u64) -> Vec<u32> {
        self.run_at(100, seconds)
    }

    /// The same with another number of connections a second.
    fn run_at(&mut self, rate: u64, seconds: u64) -> Vec<u32> {
        let mut got = vec![0; self.servers.len()];
        for _ in 0..seconds * rate {
            let client = self.dice.below(1_000) as u32;
            got[self.go(client)] += 1;
            self.pass(Duration::from_micros(1_000_000 / rate));
        }
        got
    }

    fn measured(&self, number: usize) -> Measurements {
        self.t.measurements_of(server(number)).unwrap()
    }

    fn ejected(&self) -> Vec<bool> {
        (0..self.servers.len()).map(|n| self.measured(n).ejected).collect()
    }
}

/// Whatever a server does instead of serving, it is ejected within 2 s, gets a probe now and then, and comes back when it is
/// well.
#[test]
fn a_failing_server_goes_and_comes_back() {
    for choice in BOTH_CHOICES {
        for how in [Refuses, Hangs, Vanished, Resets, Closes, RefusesOneIn(2)] {
            let mut world = World::new(&[Well; 4], choice);
            let before = world.run(10);
            assert!(before.iter().all(|n| *n > 150), "{choice:?}: {before:?}");
            world.servers[1] = how;
            let mut until = 0;
            while !world.measured(1).ejected {
                world.run(1);
                until += 1;
                assert!(until <= if how == RefusesOneIn(2) { 20 } else { 2 }, "{choice:?}: {how:?} stays");
            }
            let (probes, failed) = (world.run(60), world.measured(1));
            assert_eq!(failed.ejections, if how == RefusesOneIn(2) { failed.ejections } else { 1 });
            if how != RefusesOneIn(2) {
                // 6000 connections have come.
                assert!((2..=8).contains(&probes[1]), "{choice:?} {how:?}: {probes:?}");
                assert_eq!(world.ejected(), [false, true, false, false]);
            }
            world.servers[1] = Well;
            // Requests that nobody answers any more are given up by their clients.
            let next = if how == Vanished { 2 } else { 10 };
            for client in core::mem::take(&mut world.open) {
                let _ = run(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (RST, next, 0), b""));
            }
            world.run(90);
            let after = world.run(20);
            assert!(after.iter().all(|n| *n > 300), "{choice:?} {how:?}: {after:?}");
        }
    }
}

/// A server with a few failures stays, as does one whose failures are those of single clients.
#[test]
fn few_failures_are_no_reason() {
    for choice in BOTH_CHOICES {
        for how in [RefusesOneIn(100), RefusesOneIn(20)] {
            let mut world = World::new(&[how; 3], choice);
            world.run(100);
            assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0, "{choice:?} {how:?}");
        }
    }
}

/// One client cannot eject a server that serves others: neither if the server bans it, nor with requests that it
/// never ends, nor with SYNs that it takes back, however many.
#[test]
fn a_client_cannot_eject_a_server_for_others() {
    let attacker = Ipv4Addr::from_bits(0xc0a8_ffff);
    for choice in BOTH_CHOICES {
        for how in [Bans(attacker), HearsHalf(attacker)] {
            let mut world = World::new(&[how; 3], choice);
            world.run(5);
            for _ in 0..300 {
                for _ in 0..10 {
                    world.go(0xffff);
                }
                let client = world.dice.below(100) as u32;
                world.go(client);
                world.pass(Duration::from_millis(100));
            }
            assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0, "{choice:?} {how:?}");
        }
        let mut world = World::new(&[Well; 3], choice);
        world.run(5);
        for n in 0..3_000 {
            // Forged sources, and a RST right behind each SYN, as a client sends that has changed its mind.
            let client = world.client(0x1_0000 + n);
            there(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
            there(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (RST, 2, 0), b""));
            world.pass(Duration::from_millis(5));
        }
        // And from forged sources, answered by the server, and never completed: a SYN flood.
        for n in 0..3_000 {
            let client = world.client(0x1_0000 + n);
            let seen = there(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
            let (alternative, to) = ends(&seen);
            back(&mut world.t, world.now, &tcp(to, alternative, (SYN | ACK, 50, 2), b""));
            world.pass(Duration::from_millis(5));
        }
        assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0, "{choice:?}");
    }
}

/// What a host off the path can forge ejects nothing: a RST that does not acknowledge the SYN, a RST with a wrong sequence
/// number, an ICMP error that quotes what it could guess.
#[test]
fn what_can_be_forged_does_not_count() {
    let mut world = World::new(&[Well; 3], Choice::Sticky);
    world.run(5);
    for n in 0..200 {
        let client = world.client(n);
        let (now, t) = (world.now, &mut world.t);
        let syn = there(t, now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
        let (alternative, to) = ends(&syn);
        let _ = run(t, now, &tcp(to, alternative, (RST | ACK, 0, 77), b""));
        let _ = run(t, now, &tcp(to, alternative, (RST, 99, 0), b""));
        let _ = run(t, now, &icmp_error(3, 1, ip("20.0.0.99"), &syn, 28));
        back(t, now, &tcp(to, alternative, (SYN | ACK, 50, 2), b""));
        there(t, now, &tcp(client, at(ORIGINAL), (ACK, 2, 51), b""));
        let _ = run(t, now, &tcp(to, alternative, (RST, 5_000, 0), b""));
        there(t, now, &tcp(client, at(ORIGINAL), (RST, 2, 0), b""));
        world.pass(Duration::from_millis(10));
    }
    assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0);
}

/// If all fail, at most half are out, never the last one, and the others keep their clients.
#[test]
fn some_stay_whatever_happens() {
    for (choice, sizes) in [(Choice::Sticky, [1, 3]), (Choice::LeastLoaded, [2, 5])] {
        for how in [Refuses, Hangs, Vanished, Resets, Closes] {
            for many in sizes {
                let mut world = World::new(&vec![how; many], choice);
                let got = world.run(60);
                let out = world.ejected().iter().filter(|out| **out).count();
                assert!(out <= many.div_ceil(2).min(many - 1), "{choice:?} {how:?}: {out} of {many}");
                assert!(many == 1 || out > 0);
                assert_eq!(got.iter().sum::<u32>(), 6_000);
                // They all return when they are well again.
                world.servers.fill(Well);
                world.run(90);
                assert_eq!(world.ejected(), vec![false; many], "{choice:?} {how:?} {many}");
            }
        }
    }
}

/// An ejection moves the server's own clients and nobody else's, and they come back to it; open connections stay.
#[test]
fn clients_stick_to_their_servers() {
    let mut world = World::new(&[Well; 5], Choice::Sticky);
    let before: Vec<usize> = (0..500).map(|client| world.go(client)).collect();
    let open = world.client(before.iter().position(|n| *n == 2).unwrap() as u32);
    let (_, to) = connect(&mut world.t, world.now, open, at(ORIGINAL));
    assert_eq!(to, server(2));
    world.servers[2] = Refuses;
    world.run(1);
    assert!(world.measured(2).ejected);
    for client in 0..500 {
        let now = world.go(client);
        let was = before[client as usize];
        assert!(if was == 2 { now != 2 } else { now == was }, "{client}: {was}, then {now}");
    }
    let seen =
        there(&mut world.t, world.now, &tcp(open, at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"more"));
    assert_eq!(ends(&seen).1, server(2));
    world.servers[2] = Well;
    // On its way back it has a part of its clients, more and more, and never somebody else's.
    let mut shares = Vec::new();
    for _ in 0..30 {
        world.run(1);
        let mut share = 0;
        for client in 0..500 {
            let (now, was) = (world.go(client), before[client as usize]);
            assert!(now == was || was == 2, "{client}: {was}, then {now}");
            share += usize::from(now == 2);
        }
        shares.push(share);
    }
    let all = before.iter().filter(|n| **n == 2).count();
    assert!(shares.is_sorted() && shares.last() == Some(&all), "{shares:?} of {all}");
    assert!(shares.iter().any(|share| *share > all / 20 && *share < all / 2), "at once: {shares:?} of {all}");
}

/// Rests double while a server flaps, and one that held out for long begins anew.
/// A portion that only gets records of connections has seen no SYN that waits, and what it takes over later was served before.
#[test]
fn whoever_gets_records_ejects_nobody() {
    let mut active = World::new(&[Well; 2], Choice::Sticky);
    let mut standby = World::new(&[Well; 2], Choice::Sticky);
    let mut open = Vec::new();
    for n in 0..60 {
        let client = active.client(n);
        let seen = there(&mut active.t, active.now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
        let (alternative, server) = ends(&seen);
        let copy = |active: &World, standby: &mut World| {
            let (connection, _) = active.t.connection(Protocol::Tcp, client, at(ORIGINAL)).unwrap();
            standby.t.import(standby.now, &active.t.record(&connection).unwrap()).unwrap();
        };
        copy(&active, &mut standby);
        active.now = active.now + Duration::from_millis(200);
        standby.now = active.now;
        back(&mut active.t, active.now, &tcp(server, alternative, (SYN | ACK, 1, 2), b""));
        there(&mut active.t, active.now, &tcp(client, at(ORIGINAL), (ACK, 2, 2), b""));
        copy(&active, &mut standby);
        open.push((client, alternative, server));
    }
    for number in 0..2 {
        let measured = standby.measured(number);
        assert!(!measured.ejected && measured.ejections == 0 && measured.connecting.count == 0, "{measured:?}");
    }
    // Now its packets come here, and the servers end what is idle.
    for (client, alternative, server) in open {
        back(&mut standby.t, standby.now, &tcp(server, alternative, (RST | ACK, 2, 2), b""));
        let (connection, _) = standby.t.connection(Protocol::Tcp, client, at(ORIGINAL)).unwrap();
        assert_eq!(connection.state, State::TimeWait);
    }
    assert!((0..2).all(|number| standby.measured(number).ejections == 0));
}

/// What was ejected is forgotten with the rule that ejects, and is not passed on to another server.
#[test]
fn a_rule_that_no_longer_ejects_forgets_who_failed() {
    let mut world = World::new(&[Refuses, Well, Well], Choice::Sticky);
    world.run(10);
    assert!(world.measured(0).ejected);
    let group: Vec<_> = (0..3).map(|n| Weighted::new(server(n), 1)).collect();
    world.t.divert(Divert::new(at(ORIGINAL)).to_group(&group)).unwrap();
    assert!(!world.measured(0).ejected);
    world.servers[0] = Well;
    world.run(1);
    world.divert();
    assert!(!world.measured(0).ejected);
    let before = world.measured(0).started;
    world.run(5);
    assert!(world.measured(0).started > before + 5, "it has its whole share at once");
}

/// A probe whose client asks late is not the server's failure, and neither is one that ends after nobody has looked for a while.
#[test]
fn a_probe_is_judged_by_its_server() {
    let mut world = World::new(&[Refuses, Well, Well], Choice::LeastLoaded);
    world.run(10);
    world.servers[0] = Well;
    let original = at(ORIGINAL);
    // The next connection to the server is its probe: it is open for long before its client asks.
    let (client, alternative) = loop {
        world.now = world.now + Duration::from_millis(100);
        let client = world.client(7);
        let seen = there(&mut world.t, world.now, &tcp(client, original, (SYN, 1, 0), b""));
        let (alternative, to) = ends(&seen);
        back(&mut world.t, world.now, &tcp(to, alternative, (SYN | ACK, 1, 2), b""));
        there(&mut world.t, world.now, &tcp(client, original, (ACK, 2, 2), b""));
        if to == server(0) {
            break (client, alternative);
        }
        there(&mut world.t, world.now, &tcp(client, original, (RST, 2, 0), b""));
    };
    let ejections = world.measured(0).ejections;
    world.now = world.now + Duration::from_millis(4_990);
    there(&mut world.t, world.now, &tcp(client, original, (ACK, 2, 2), b"question"));
    world.now = world.now + Duration::from_millis(20);
    back(&mut world.t, world.now, &tcp(server(0), alternative, (ACK, 2, 10), b"answer"));
    // The probe has succeeded: the next ones follow at once, without another rest.
    world.run(2);
    assert!(!world.measured(0).ejected && world.measured(0).ejections == ejections, "{:?}", world.measured(0));
}

/// Where many connections come, a probe more costs next to nothing, while a server that is well again is missed: the others carry
/// its load. Where few come, a probe that fails is one client in few.
#[test]
fn a_busy_group_looks_for_its_servers_more_often() {
    for choice in BOTH_CHOICES {
        for how in [Refuses, Hangs] {
            let dead = |rate, seconds| {
                let mut world = World::new(&[Well; 3], choice);
                world.run_at(rate, 4);
                world.servers[0] = how;
                while !world.measured(0).ejected {
                    world.run_at(rate, 1);
                }
                let probes = world.run_at(rate, seconds)[0];
                world.servers[0] = Well;
                let before = world.now;
                while world.measured(0).ejected {
                    world.run_at(rate, 1);
                }
                (probes, (world.now.as_micros() - before.as_micros()) / 1_000_000)
            };
            let (probes, missed) = dead(500, 16);
            assert!((4..=8).contains(&probes) && missed <= 4, "{choice:?} {how:?}: {probes} probes, {missed} s");
            let (probes, _) = dead(10, 100);
            assert!(probes <= 6, "{choice:?} {how:?}: {probes} probes");
        }
    }
}

#[test]
fn a_flapping_server_rests_longer_and_longer() {
    let mut world = World::new(&[Well; 3], Choice::LeastLoaded);
    let mut rests = Vec::new();
    for _ in 0..5 {
        world.servers[0] = Refuses;
        while !world.measured(0).ejected {
            world.run(1);
        }
        world.servers[0] = Well;
        let before = world.now;
        while world.measured(0).ejected {
            world.run(1);
        }
        rests.push((world.now.as_micros() - before.as_micros()) / 1_000_000);
    }
    assert!(rests.windows(2).all(|two| two[1] > two[0]) && rests[4] >= 30 && rests[4] <= 40, "{rests:?}");
    world.run(120);
    world.servers[0] = Refuses;
    world.run(2);
    world.servers[0] = Well;
    world.run(5);
    assert!(!world.measured(0).ejected);
}

/// Weights change in place, and a re-divert goes on as before: what is out stays out, what is new is in.
#[test]
fn instructions_keep_what_is_out() {
    for (choice, rules) in BOTH_CHOICES.into_iter().flat_map(|choice| [(choice, 10), (choice, 2_000)]) {
        let mut world = World::with_rules(rules, &[Well; 4], choice);
        world.run(5);
        world.servers[3] = Refuses;
        world.run(1);
        assert_eq!(world.ejected(), [false, false, false, true]);
        world.weights = vec![3, 2, 1, 40];
        world.divert();
        assert_eq!(world.ejected(), [false, false, false, true]);
        let got = world.run(1);
        assert!(got[3] <= 1, "{choice:?}: {got:?}");
        // A rule that is refused changes nothing.
        let twice = [Weighted::new(server(0), 1), Weighted::new(server(0), 1)];
        assert!(world.t.divert(Divert::new(at(ORIGINAL)).to_group(&twice)).is_err());
        let before = world.t.diverts().next().unwrap().to_string();
        assert!(before.contains("20.0.0.4:80*40") && before.ends_with("eject"), "{before}");
        assert!(world.measured(3).ejected);
        // Another server in its place is in, and has its weight.
        for how in [Redivert::Switch, Redivert::Drain] {
            let (old, new) = if how == Redivert::Switch { (3, 4) } else { (4, 5) };
            world.t.redivert(server(old), server(new), how).unwrap();
            world.servers.resize(6, Well);
            let text = world.t.diverts().next().unwrap().to_string();
            assert_eq!(text, before.replace("20.0.0.4:", &format!("20.0.0.{}:", new + 1)), "{choice:?} {how:?}");
            let got = world.run(2);
            assert!(got[new] > 100, "{choice:?} {how:?}: {got:?}");
        }
        // It ejects as the one before it did.
        world.servers[5] = Hangs;
        world.run(3);
        assert!(world.measured(5).ejected, "{choice:?}");
        // Where those that carried on leave, the one that is out has to do.
        let rest = [Weighted::new(server(5), 1)];
        world.t.divert(Divert::new(at(ORIGINAL)).to_group(&rest).ejecting()).unwrap();
        assert_eq!(world.go(1), 5);
        // Without the option nothing is ejected.
        let rest = [Weighted::new(server(5), 1), Weighted::new(server(0), 1)];
        world.t.divert(Divert::new(at(ORIGINAL)).to_group(&rest)).unwrap();
        world.run(3);
        assert!(!world.measured(5).ejected && !world.t.diverts().next().unwrap().is_ejecting());
        assert!(world.t.remove(at(ORIGINAL)).is_some());
    }
}

/// A large group, which chooses by clusters, ejects in the same way.
#[test]
fn a_large_group_ejects_too() {
    for choice in BOTH_CHOICES {
        let mut world = World::new(&[Well; 100], choice);
        world.run(20);
        world.servers[7] = Refuses;
        world.servers[8] = Vanished;
        world.run(60);
        let got = world.run(10);
        // The least loaded of two is seldom one on which a SYN waits already, so that two wait there at most.
        let by_load = choice == Choice::LeastLoaded;
        assert!(world.measured(7).ejected && (by_load || world.measured(8).ejected), "{choice:?}");
        assert!(got[7] <= 2 && got[8] <= 2, "{choice:?}: {got:?}");
        let out = world.ejected().iter().filter(|out| **out).count();
        assert!(out == 2 || by_load && out == 1, "{choice:?}: {out}");
        (world.servers[7], world.servers[8]) = (Well, Well);
        world.run(300);
        let got = world.run(60);
        assert!(got[7] > 20 && got[8] > 20, "{choice:?}: {got:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: no more than half of the group is out, listings say what was asked for, servers
    /// without a weight get nothing, and what is well gets its share in the end.
    #[test]
    fn no_order_of_things_confuses_it(
        size in prop_oneof![1_usize..6, Just(70)],
        rules in prop_oneof![Just(10), Just(2_000)],
        by_load in any::<bool>(),
        steps in prop::collection::vec((0_usize..80, 0_u8..14, 0_u16..5), 1..40),
    ) {
        let choice = if by_load { Choice::LeastLoaded } else { Choice::Sticky };
        let mut world = World::with_rules(rules, &vec![Well; size], choice);
        for (which, what, weight) in steps {
            let which = which % world.servers.len();
            match what {
                0 => world.servers[which] = Refuses,
                1 => world.servers[which] = Hangs,
                2 => world.servers[which] = Vanished,
                3 => world.servers[which] = RefusesOneIn(2),
                4 | 5 => world.servers[which] = Well,
                6 => {
                    let before = core::mem::replace(&mut world.weights[which], weight);
                    if world.weights.iter().all(|weight| *weight == 0) {
                        world.weights[which] = before.max(1);
                    }
                    world.divert();
                }
                7 | 8 => {
                    // Another server in its place, with a number of its own, and back again.
                    let how = if what == 7 { Redivert::Switch } else { Redivert::Drain };
                    let other = SocketAddrV4::new(ip("20.9.9.9"), 80);
                    world.redivert(server(which), other, how);
                    world.redivert(other, server(which), how);
                    world.served.clear();
                }
                9 => {
                    world.t.remove(at(ORIGINAL)).unwrap();
                    world.divert();
                }
                10 => world.pass(Duration::from_secs(u64::from(weight) * 20)),
                _ => {
                    world.run(u64::from(weight));
                }
            }
            let (members, out) = (world.weights.iter().filter(|weight| **weight != 0).count(), world.ejected());
            let out = (0..size).filter(|n| out[*n] && world.weights[*n] != 0).count();
            prop_assert!(out <= members.div_ceil(2).min(members - 1), "{out} of {members}");
            let text = world.t.diverts().next().unwrap().to_string();
            for (n, weight) in world.weights.iter().enumerate() {
                let name = Weighted::new(server(n), *weight).to_string();
                prop_assert!(text.replace(',', " ").split(' ').any(|word| word == name), "{name} is not in {text}");
            }
            let got = world.run(1);
            prop_assert!((0..size).all(|n| got[n] == 0 || world.weights[n] != 0), "{got:?} {:?}", world.weights);
        }
        // As many rests as there may be, with what was left open at an end.
        world.servers.fill(Well);
        world.served.clear();
        world.pass(Duration::from_secs(9_000));
        for _ in 0..40 {
            world.t.poll(world.now);
            world.pass(Duration::from_millis(10));
        }
        world.run(if size > 10 { 200 } else { 60 });
        prop_assert_eq!(world.ejected().iter().zip(&world.weights).filter(|(out, w)| **out && **w != 0).count(), 0);
    }
}

/// UDP: a server that answers nobody is ejected, and one that serves others is not, whatever one client sends it.
#[test]
fn datagrams_without_answers() {
    let mut world = World::new(&[Well; 3], Choice::Sticky);
    for n in 0..2_000 {
        let client = world.client(n % 300);
        let now = world.now;
        let (alternative, to) = ask(&mut world.t, now, client, at(ORIGINAL));
        if to != server(0) || n < 500 {
            back(&mut world.t, now, &udp(to, alternative, b"answer"));
        }
        // One client asks server 1 for what it does not know.
        let odd = world.client(0xffff);
        ask(&mut world.t, now, odd, at(ORIGINAL));
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(world.ejected(), [true, false, false]);
}

/// Storage that does not measure servers cannot eject.
#[test]
fn without_measurements_the_rule_is_refused() {
    let rule = Divert::new(at(ORIGINAL)).to(at(SERVER)).ejecting();
    let refused = Err(DivertError::NotMeasured { destination: rule.matches().destination() });
    let mut t = Translator::new(config(), Heap::new(100, 10)).unwrap();
    assert_eq!(t.plan().divert(&rule).map(|_| ()), refused);
    assert_eq!(t.divert(rule).map(|_| ()), refused);
    assert_eq!((t.diverts().count(), t.generation()), (0, 0));
    let mut t = Translator::new(config(), byway::Fixed::<64, 4>::new()).unwrap();
    assert_eq!(t.divert(rule).map(|_| ()), refused);
    // Connections alone are not enough.
    let mut t = Translator::new(config(), byway::Fixed::<64, 4, 8, 8, 64>::sized()).unwrap();
    assert_eq!(t.divert(rule).map(|_| ()), refused);
    let mut t = translator(config());
    assert!(t.plan().divert(&rule).is_ok());
    assert!(t.divert(rule).is_ok());
    assert_eq!(t.diverts().next().unwrap().to_string(), rule.to_string());
}

#[cfg(feature = "control")]
#[test]
fn an_instruction_carries_the_option() {
    let text = "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2 eject";
    let rule: byway::control::Rule = text.parse().unwrap();
    assert!(rule.options().ejecting);
    assert_eq!(rule.to_string(), text);
    let without: byway::control::Rule = "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2".parse().unwrap();
    assert_ne!(rule, without);
}

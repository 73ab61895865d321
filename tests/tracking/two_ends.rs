//! Two TCP endpoints by the RFCs (`testing/src/endpoint.rs`) around a translator, which is held against what both know:
//! clients and servers that lose their state and begin anew, with numbers that are far, near or the same, data in the SYN,
//! lost answers; whatever the connection before was doing. In the end both are reset, and have to obey.

use std::collections::VecDeque;

use byway::{Divert, Heap, InexactReset, Instant, Protocol, Redivert, State, TRANSMIT_BUFFER, Translator, Verdict};
use byway_testing::endpoint::{Block, Ends, Host};
use byway_testing::talk::{CLIENT, ORIGINAL, OTHER, SERVER, tcp_state};
use byway_testing::truth::{End, RST, Segment, is_long_lived, permitted};
use byway_testing::*;

/// What happens. What the client sends waits before the translator, and so does what the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// With this much data in the SYN.
    Connect(u32),
    /// By the client, or by the server.
    Write(bool),
    Close(bool),
    Abort(bool),
    Repeat(bool),
    /// Its state is lost.
    Forget(bool),
    Listen(bool),
    /// What waits is carried, and what it is answered with, until all is still.
    Settle,
    /// What one side has sent is carried.
    Carry(bool),
    /// The same, but lost behind the translator; and before it.
    LoseBehind(bool),
    LoseBefore(bool),
    /// A second passes.
    Wait,
}
use Step::*;

const C: bool = true;
const V: bool = false;

struct World {
    byway: Translator<Heap>,
    hosts: [Host; 2],
    waiting: [VecDeque<Vec<u8>>; 2],
    now: u64,
    log: Vec<String>,
}

fn clients() -> Ends {
    (at(CLIENT), at(ORIGINAL))
}

impl World {
    fn new(drops: bool, keeps: bool, takes: u32, starts: [Vec<u32>; 2]) -> Self {
        let policy = if drops { InexactReset::Drop } else { InexactReset::Pass };
        let mut byway = translator(config().inexact_reset(policy));
        let rule = Divert::new(at(ORIGINAL)).to(at(SERVER));
        byway.divert(if keeps { rule.keep_source() } else { rule }).unwrap();
        let mut hosts = starts.map(Host::new);
        hosts[1].takes = takes;
        Self { byway, hosts, waiting: Default::default(), now: 1_000, log: Vec::new() }
    }

    fn time(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    /// The connection as this side sees it; the server's end is where the translator has put it.
    fn ends_of(&self, client: bool) -> Option<Ends> {
        if client {
            return Some(clients());
        }
        let pair = self.byway.connection(Protocol::Tcp, at(CLIENT), at(ORIGINAL))?.0.server_side;
        Some((pair.destination, pair.source))
    }

    fn block(&self, client: bool) -> Option<Block> {
        self.hosts[usize::from(!client)].blocks.get(&self.ends_of(client)?).copied()
    }

    /// Both ends, if they talk with each other.
    fn pair(&self) -> Option<(Block, Block)> {
        let (client, server) = (self.block(C)?, self.block(V)?);
        client.is_paired_with(&server).then_some((client, server))
    }

    fn step(&mut self, step: Step) {
        self.now += 10;
        self.log.push(format!("{step:?}"));
        let ends = |client: bool| self.ends_of(client);
        let side = |client: bool| usize::from(!client);
        match step {
            Connect(data) if self.block(C).is_none_or(|c| c.state == End::TimeWait) => {
                self.hosts[0].connect(clients(), data);
            }
            Connect(_) => {}
            Write(by) => ends(by).into_iter().for_each(|at| self.hosts[side(by)].write(at, 300)),
            Close(by) => ends(by).into_iter().for_each(|at| self.hosts[side(by)].close(at)),
            Abort(by) => ends(by).into_iter().for_each(|at| self.hosts[side(by)].abort(at)),
            Repeat(by) => ends(by).into_iter().for_each(|at| self.hosts[side(by)].repeat(at)),
            Forget(by) => self.hosts[side(by)].blocks.clear(),
            Listen(listens) => self.hosts[1].listens = listens,
            Settle => {
                for _ in 0..30 {
                    self.carry(C, true);
                    self.carry(V, true);
                }
            }
            Carry(by) => self.carry(by, true),
            LoseBehind(by) => self.carry(by, false),
            LoseBefore(by) => {
                self.collect();
                self.waiting[side(by)].clear();
            }
            Wait => self.now += 1_000,
        }
        self.byway.poll(self.time());
        self.collect();
        self.check();
    }

    fn collect(&mut self) {
        for (host, waiting) in self.hosts.iter_mut().zip(&mut self.waiting) {
            waiting.append(&mut host.out);
        }
    }

    fn carry(&mut self, client: bool, arrives: bool) {
        self.collect();
        for mut packet in core::mem::take(&mut self.waiting[usize::from(!client)]) {
            let segment = Segment::read(&packet).unwrap();
            let verdict = self.byway.translate(self.time(), &mut packet);
            let who = if client { "client" } else { "server" };
            self.log.push(format!("    {who}: {segment} {verdict:?}, {:?}", tcp_state(&self.byway)));
            match verdict {
                Verdict::ToServer | Verdict::ToClient if arrives => self.hosts[usize::from(client)].receive(&packet),
                Verdict::ToServer | Verdict::ToClient => {}
                _ => assert!(segment.has(RST) || self.pair().is_none(), "{}", self.story("not carried")),
            }
        }
    }

    /// The translator's state is one that both ends permit.
    fn check(&self) {
        let state = tcp_state(&self.byway);
        if let Some((client, server)) = self.pair() {
            let permitted = permitted(client.state, server.state);
            let is_permitted = state.is_some_and(|s| permitted.contains(&s) || s == State::Doubtful);
            let story = || self.story(&format!("{:?} and {:?}, but {state:?}", client.state, server.state));
            // Of an attempt over another connection nothing is known before it is complete.
            let is_complete = client.state.is_synchronized() && server.state.is_synchronized();
            assert!(permitted.is_empty() || is_permitted || !is_complete, "{}", story());
        }
    }

    fn story(&self, what: &str) -> String {
        format!("{what}:\n{}", self.log.join("\n"))
    }

    /// Both ends repeat what was lost, until all is acknowledged.
    fn calm_down(&mut self) {
        for _ in 0..3 {
            for step in [Repeat(C), Repeat(V), Settle] {
                self.step(step);
            }
        }
    }

    /// Both ends get a RST from the translator, and obey: at once, or when their challenge is answered.
    fn reset(&mut self) {
        let Some(pair) = self.pair() else {
            return;
        };
        let server = self.ends_of(V).expect("there is a pair");
        let is_live = |end: End| end.is_synchronized() && !end.is_gone();
        let state = tcp_state(&self.byway);
        self.byway.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
        for _ in 0..4 {
            self.now += 10;
            let mut buffer = [0; TRANSMIT_BUFFER];
            while let Some(own) = self.byway.poll_transmit(self.time(), &mut buffer) {
                let packet = &buffer[..own.length];
                self.log.push(format!("    our own: {} to {}", Segment::read(packet).unwrap(), ends(packet).1));
                self.hosts[usize::from(ends(packet).1 != at(CLIENT))].receive(packet);
            }
            self.collect();
            for packet in self.waiting.iter_mut().flatten() {
                let _ = self.byway.translate(Instant::from_millis(self.now), packet);
            }
            self.waiting = Default::default();
        }
        let left = [self.hosts[0].state(clients()), self.hosts[1].state(server)];
        for (end, before) in left.into_iter().zip([pair.0, pair.1]) {
            let what = format!("{:?} and {:?}, {state:?}, {left:?} after the RSTs", pair.0.state, pair.1.state);
            assert!(end.is_none() || !is_live(before.state), "{}", self.story(&what));
        }
    }
}

/// What the connection before was doing.
const BEFORE: [&[Step]; 17] = [
    &[],
    &[Connect(0), LoseBehind(C)],
    &[Connect(0), Carry(C), LoseBehind(V)],
    &[Connect(0), Settle],
    &[Connect(0), Settle, Write(C), Settle, Write(V), Settle],
    &[Connect(10), Settle, Write(V), Settle],
    &[Connect(0), Settle, Write(C), LoseBehind(C)],
    &[Connect(0), Settle, Write(C), Settle, Write(V), LoseBehind(V)],
    &[Connect(0), Settle, Write(C), Settle, Close(C), Settle],
    &[Connect(0), Settle, Write(C), Settle, Close(V), Settle],
    &[Connect(0), Settle, Close(C), LoseBehind(C)],
    &[Connect(0), Settle, Close(V), LoseBehind(V)],
    &[Connect(0), Settle, Close(C), LoseBehind(C), Close(V), LoseBehind(V)],
    &[Connect(0), Settle, Close(C), Settle, Close(V), Settle],
    &[Connect(0), Settle, Write(C), LoseBehind(C), Abort(C), LoseBehind(C)],
    &[Connect(0), Settle, Write(V), Abort(V), Settle],
    &[Listen(false), Connect(0), Settle, Listen(true)],
];

/// How both begin anew. The SYN has as much data as it says here, or none.
const ANEW: [&[Step]; 10] = [
    &[Forget(C), Forget(V), Connect(10), Settle],
    &[Forget(C), Connect(10), Settle, Wait, Repeat(C), Settle, Wait, Repeat(C), Settle],
    &[Forget(C), Forget(V), Connect(10), Carry(C), LoseBehind(V), Wait, Repeat(C), Settle],
    &[Forget(C), Forget(V), Connect(10), LoseBehind(C), Wait, Repeat(C), Settle],
    &[Forget(C), Forget(V), Connect(10), Carry(C), Carry(V), LoseBehind(C), Wait, Repeat(V), Settle],
    &[Forget(C), Forget(V), Connect(10), Carry(C), Carry(V), LoseBefore(C), Wait, Repeat(V), Settle],
    &[Forget(C), Forget(V), Connect(10), LoseBehind(C), Forget(C), Connect(0), Settle],
    &[
        Forget(C),
        Forget(V),
        Connect(10),
        Carry(C),
        LoseBehind(V),
        Forget(C),
        Connect(0),
        Settle,
        Wait,
        Repeat(C),
        Settle,
    ],
    &[Forget(C), Forget(V), Connect(10), Carry(C), LoseBehind(V), Forget(V), Wait, Repeat(C), Settle],
    &[Forget(V), Write(C), Settle, Repeat(C), Settle, Connect(10), Settle],
];

const AFTERWARDS: [&[Step]; 6] = [
    &[Write(C), Settle],
    &[Write(V), Settle],
    &[Write(C), Settle, Write(V), Settle, Close(C), Settle],
    &[Write(V), Settle, Write(C), Settle, Close(V), Settle],
    &[Close(C), Close(V), Settle],
    &[Write(C), Write(V), Settle, Abort(C), Settle],
];

/// How far the numbers of a connection are from those of the one before.
const CLIENTS: [u32; 7] = [0x4000_0000, 1, 64_000, (1 << 24) - 1, 1 << 24, 0xffff_fc18, 0xc000_0000];
const SERVERS: [u32; 4] = [0x3000_0000, 0, 1_000, 1 << 24];

#[test]
fn both_ends_begin_anew() {
    let stories =
        BEFORE.iter().flat_map(|b| ANEW.iter().flat_map(move |a| AFTERWARDS.iter().map(move |c| (*b, *a, *c))));
    for (story, (before, anew, afterwards)) in sample(stories.enumerate()) {
        let numbers = CLIENTS.iter().flat_map(|c| SERVERS.map(|v| (*c, v)));
        for (number, (client, server)) in (1 + story * numbers.clone().count()..).zip(numbers) {
            let first = [1_000, 0xffff_ff00, 0x7fff_fff0][number % 3];
            let starts = [(first, client), (first ^ 0x1111_0000, server)]
                .map(|(first, by)| (0..12).map(|n| by.wrapping_mul(n).wrapping_add(first)).collect());
            let (drops, keeps, takes) = (number.is_multiple_of(2), number % 5 < 2, [0, 3, 1_000][number / 3 % 3]);
            let mut world = World::new(drops, keeps, takes, starts);
            let steps: Vec<_> = [&[Listen(true)], before, anew, afterwards].concat();
            // Every second one is reset on the way.
            let end = if number.is_multiple_of(2) { steps.len() } else { number / 2 % steps.len() };
            for step in &steps[..end] {
                world.step(match step {
                    Connect(_) if number % 7 < 3 => Connect(0),
                    step => *step,
                });
            }
            if number.is_multiple_of(3) {
                world.calm_down();
            }
            if number % 4 < 2 {
                world.now += 3_000;
            }
            world.reset();
        }
    }
}

/// Nobody hears of a live connection for ten minutes, and it goes on; nothing is left of one that both ends have ended.
#[test]
fn the_living_outlive_ten_idle_minutes_and_the_dead_do_not() {
    for (anew, afterwards) in ANEW.iter().flat_map(|a| AFTERWARDS.iter().map(move |c| (*a, *c))) {
        for before in BEFORE {
            let starts = [1_000, 9_000].map(|first| (0..12).map(|n| 0x0100_0000 * n + first).collect());
            let mut world = World::new(false, false, 3, starts);
            [&[Listen(true)], before, anew, afterwards].concat().into_iter().for_each(|step| world.step(step));
            world.calm_down();
            let state = tcp_state(&world.byway);
            let is_gone =
                world.block(C).is_none_or(|c| c.state.is_gone()) && world.block(V).is_none_or(|v| v.state.is_gone());
            assert!(!(is_gone && state.is_some_and(is_long_lived)), "{}", world.story(&format!("gone, but {state:?}")));
            for _ in 0..60 {
                world.now += 10_000;
                world.byway.poll(world.time());
            }
            if is_gone {
                assert_eq!(world.byway.slots_in_use(), 0, "{}", world.story("dead"));
            } else if world.pair().is_some_and(|(c, v)| c.state == End::Established && v.state == End::Established) {
                [Write(C), Write(V), Settle].into_iter().for_each(|step| world.step(step));
                let is_heard = |b: Option<Block>| b.is_some_and(|b| b.is_all_acknowledged());
                assert!(is_heard(world.block(C)) && is_heard(world.block(V)), "{}", world.story("cut off"));
            }
        }
    }
}

/// After a silence nobody knows whether what was not acknowledged has arrived: the RSTs are obeyed either way.
#[test]
fn a_reset_in_silence_is_obeyed_whatever_has_arrived() {
    for (by, ends_with) in [(C, Write(C)), (V, Write(V)), (C, Close(C)), (V, Close(V))] {
        let lost: [&[Step]; 4] = [
            &[LoseBehind(by)],
            &[Carry(by), LoseBefore(!by)],
            &[Carry(by), LoseBehind(!by)],
            &[Carry(by), LoseBefore(!by), Write(!by), LoseBehind(!by)],
        ];
        for (lost, seconds) in lost.into_iter().flat_map(|lost| [0, 1, 2, 60].map(|s| (lost, s))) {
            let starts = [1_000, u32::MAX - 1].map(|first| vec![first]);
            let mut world = World::new(false, seconds == 2, 0, starts);
            let begins = [Listen(true), Connect(0), Settle, Write(C), Settle, Write(V), Settle, ends_with];
            [&begins, lost].concat().into_iter().for_each(|step| world.step(step));
            (0..seconds).for_each(|_| world.step(Wait));
            world.reset();
            let ours = world.log.iter().filter(|line| line.contains("our own")).count();
            assert!(ours <= 4, "{}", world.story("too many"));
        }
    }
}

//! Clients, servers, a real translator between them, and who sets its weights, in simulated time.

use core::cmp::Reverse;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::{BinaryHeap, VecDeque};

use byway::monitor::{Decision, LoadKind, LoadReading, LoadSample, Monitor, Observation, Reading, Settings};
use byway::{Config, Divert, Heap, Instant, Measurements, Translator, Verdict, Weighted};

use crate::hearing::Hearing;
use crate::servers::{Health, SERVERS, Server, WORK, WORKERS};
use byway_testing::random::Dice;

const N: usize = SERVERS.len();
const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
/// A client gives up after so many seconds.
const PATIENCE: f64 = 2.0;
/// How often what was measured is read.
const READ: f64 = 0.25;
/// How many of these pass between two reports of a server's own load.
const SCRAPE: u64 = 8;

/// Who chooses servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Clients are shared by the nominal speeds, always the same.
    Static,
    /// The server with the fewest connections.
    LeastConnections,
    /// The fewest connections, and the translator ejects servers that fail: all that there is without a monitor.
    Alone,
    /// The fewest for what the monitor thinks that a server can carry.
    Monitor,
    /// The same, where servers report their load too.
    Loads,
    /// The fewest for what a server can really carry, known at once.
    Clairvoyant,
}

/// What happens, and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub name: &'static str,
    /// Share of the capacity of all servers when they are well.
    pub load: f64,
    /// The server that is not well, by how much it is slower, and what else is wrong with it.
    pub wrong: Option<(usize, f64, Health)>,
}

pub(crate) const PHASES: [Phase; 6] = [
    Phase { name: "60 % load", load: 0.6, wrong: None },
    Phase { name: "the strongest at a third", load: 0.6, wrong: Some((3, 3.0, Health::Well)) },
    Phase { name: "one fails half, fast", load: 0.6, wrong: Some((1, 1.0, Health::Fails(0.5))) },
    Phase { name: "all well again", load: 0.6, wrong: None },
    Phase { name: "one hangs, 50 % load", load: 0.5, wrong: Some((1, 1.0, Health::Hangs)) },
    Phase { name: "75 % load", load: 0.75, wrong: None },
];

/// What a translator has measured.
struct Report {
    due: f64,
    translator: usize,
    at: Instant,
    measured: [Option<Measurements>; N],
    /// Those that its rule had then.
    weights: [u16; N],
}

/// One request, as its client knows it.
struct Request {
    begun: f64,
    work: f64,
    server: usize,
    alternative: SocketAddrV4,
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Arrive,
    Accept(usize),
    Serve(usize),
    Done(usize),
    Respond(usize),
    Refuse(usize),
    Timeout(usize),
    Read,
}

/// When something happens; in order of time, and of origin among equals.
#[derive(PartialEq)]
struct At(f64, u64, Event);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// What clients saw: when each request began, how long it took, whether it failed, and which server it went to.
pub(crate) struct Seen {
    pub requests: Vec<(f64, f64, bool, usize)>,
    pub decisions: Vec<Decision<N>>,
    /// How much of all shares was moved, with the time.
    pub moved: Vec<(f64, f64)>,
    pub dropped: u64,
}

pub(crate) struct World {
    translators: Vec<Translator<Heap>>,
    hearing: Hearing,
    /// Reports that have not arrived yet.
    reports: VecDeque<Report>,
    readings: Vec<[Reading; N]>,
    /// The weights in force, and those in the last report of each translator.
    weights: [u16; N],
    reported: Vec<[u16; N]>,
    loads: [LoadReading; N],
    reads: u64,
    /// What is lost is drawn from numbers of its own, so that the arrivals stay the same.
    luck: Dice,
    servers: Vec<Server>,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<At>>,
    sent: u64,
    now: f64,
    dice: Dice,
    rate: f64,
    policy: Policy,
    monitor: Monitor<N>,
    seen: Seen,
    /// The monitor is killed at this time.
    dies: f64,
}

fn server_at(number: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(20, 0, 0, 1 + number as u8), 80)
}

fn client_of(request: usize) -> SocketAddrV4 {
    let address = Ipv4Addr::from_bits(0x0100_0001 + (request / 50_000) as u32 + 7 * (request % 4_096) as u32 * 64);
    SocketAddrV4::new(address, 1_024 + (request % 50_000) as u16)
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A TCP segment, with `data` bytes. The translator updates checksums and does not judge them, so they are left zero.
fn segment(from: SocketAddrV4, to: SocketAddrV4, flags: u8, numbers: [u32; 2], data: usize) -> Vec<u8> {
    let mut packet = vec![0; 40 + data];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 40 + data as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&numbers[0].to_be_bytes());
    packet[28..32].copy_from_slice(&numbers[1].to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, flags, 0x20, 0]);
    packet
}

impl World {
    #[cfg(test)]
    pub(crate) fn new(policy: Policy, seed: u64, equal: bool) -> Self {
        Self::heard(policy, seed, equal, Hearing::GOOD)
    }

    /// The same, where the monitor hears its translators like this.
    pub(crate) fn heard(policy: Policy, seed: u64, equal: bool, hearing: Hearing) -> Self {
        let speeds = SERVERS.map(|(speed, _)| if equal { 1.0 } else { speed });
        let translator = |number: usize| {
            let at = |last| Ipv4Addr::new(10, 10, 10 + number as u8, last);
            let config =
                Config::new([seed as u8 + 100 * number as u8; 32]).alternatives(at(10), at(13), 1_024..=65_535);
            Translator::new(config, Heap::new(1 << 17, 64).measured()).expect("good settings")
        };
        let busy = LoadReading::new(LoadKind::Busy, 1.0).expect("a number above zero");
        let mut world = Self {
            translators: (0..hearing.translators).map(translator).collect(),
            hearing,
            reports: VecDeque::new(),
            readings: vec![[Reading::default(); N]; hearing.translators],
            weights: [0; N],
            reported: vec![[0; N]; hearing.translators],
            loads: [busy; N],
            reads: 0,
            luck: Dice(!seed),
            servers: speeds.map(Server::new).into(),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            sent: 0,
            now: 0.0,
            dice: Dice(seed),
            rate: 1.0,
            policy,
            monitor: Monitor::new(Settings::default(), [10_000; N]),
            seen: Seen { requests: Vec::new(), decisions: Vec::new(), moved: Vec::new(), dropped: 0 },
            dies: f64::INFINITY,
        };
        let nominal = speeds.map(|speed| (speed * 4_000.0) as u16);
        world.set_weights(match policy {
            Policy::Static | Policy::Clairvoyant => nominal,
            Policy::LeastConnections | Policy::Alone | Policy::Monitor | Policy::Loads => [10_000; N],
        });
        world.at(0.0, Event::Arrive);
        world.at(READ, Event::Read);
        world
    }

    #[cfg(test)]
    pub(crate) fn kill_monitor_at(&mut self, seconds: f64) {
        self.dies = seconds;
    }

    fn set_weights(&mut self, weights: [u16; N]) {
        self.weights = weights;
        let group: Vec<_> =
            weights.iter().enumerate().map(|(n, weight)| Weighted::new(server_at(n), *weight)).collect();
        let divert = Divert::new(SERVICE).to_group(&group);
        let divert = match self.policy {
            Policy::Static => divert,
            Policy::Alone => divert.least_loaded().ejecting(),
            _ => divert.least_loaded(),
        };
        for translator in &mut self.translators {
            translator.divert(divert).expect("a good rule");
        }
    }

    fn at(&mut self, time: f64, event: Event) {
        self.sent += 1;
        self.events.push(Reverse(At(time, self.sent, event)));
    }

    /// What a translator's clock shows.
    fn clock(&self, translator: usize) -> Instant {
        Instant::from_micros(((self.now + self.hearing.apart * translator as f64) * 1e6) as u64)
    }

    /// Translates a segment of a request. `None` if the translator did not let it through.
    fn translate(&mut self, request: usize, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let number = request % self.translators.len();
        let now = self.clock(number);
        match self.translators[number].translate(now, &mut packet) {
            Verdict::ToServer | Verdict::ToClient => Some(packet),
            _ => {
                self.seen.dropped += 1;
                None
            }
        }
    }

    fn client_sends(&mut self, request: usize, flags: u8, numbers: [u32; 2], data: usize) -> Option<Vec<u8>> {
        self.translate(request, segment(client_of(request), SERVICE, flags, numbers, data))
    }

    fn server_sends(&mut self, request: usize, flags: u8, numbers: [u32; 2], data: usize) {
        let Request { server, alternative, .. } = self.requests[request];
        self.translate(request, segment(server_at(server), alternative, flags, numbers, data));
    }

    /// Goes through a phase.
    pub(crate) fn run(&mut self, phase: &Phase, seconds: f64, equal: bool) {
        let speeds = SERVERS.map(|(speed, _)| if equal { 1.0 } else { speed });
        let mut truth = speeds.map(|speed| (speed * 4_000.0) as u16);
        for (number, speed) in speeds.into_iter().enumerate() {
            let (slower, health) = match phase.wrong {
                Some((wrong, slower, health)) if wrong == number => (slower, health),
                _ => (1.0, Health::Well),
            };
            truth[number] = (f64::from(truth[number]) / slower) as u16 * u16::from(health == Health::Well);
            let hung = self.servers[number].health == Health::Hangs && health != Health::Hangs;
            self.servers[number].speed = speed / slower;
            self.servers[number].health = health;
            if hung {
                let (done, begun) = self.servers[number].wake();
                done.into_iter().for_each(|request| self.respond(request));
                begun.into_iter().for_each(|(request, after)| self.at(self.now + after, Event::Done(request)));
            }
        }
        if self.policy == Policy::Clairvoyant {
            self.set_weights(truth);
        }
        let all: f64 = speeds.iter().sum::<f64>() * WORKERS as f64 / WORK;
        self.rate = phase.load * all;
        let end = self.now + seconds;
        while self.events.peek().is_some_and(|Reverse(at)| at.0 < end) {
            if let Some(Reverse(At(time, _, event))) = self.events.pop() {
                self.now = time;
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn respond(&mut self, request: usize) {
        let floor = SERVERS[self.requests[request].server].1;
        self.at(self.now + floor / 2.0, Event::Respond(request));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => {
                let next = self.now + self.dice.exponential(1.0 / self.rate);
                self.at(next, Event::Arrive);
                let request = self.requests.len();
                let work = self.dice.log_normal(WORK);
                let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                self.requests.push(Request { begun: self.now, work, server: 0, alternative: nowhere, over: false });
                let Some(syn) = self.client_sends(request, SYN, [1_000, 0], 0) else {
                    return self.finish(request, true);
                };
                let address = |at: usize| Ipv4Addr::new(syn[at], syn[at + 1], syn[at + 2], syn[at + 3]);
                let (server, port) = (usize::from(syn[19]) - 1, u16::from_be_bytes([syn[20], syn[21]]));
                self.requests[request].server = server;
                self.requests[request].alternative = SocketAddrV4::new(address(12), port);
                self.at(self.now + SERVERS[server].1, Event::Accept(request));
                self.at(self.now + PATIENCE, Event::Timeout(request));
            }
            Event::Accept(request) => {
                self.server_sends(request, SYN | ACK, [5_000, 1_001], 0);
                self.client_sends(request, ACK, [1_001, 5_001], 100);
                let floor = SERVERS[self.requests[request].server].1;
                self.at(self.now + floor / 2.0, Event::Serve(request));
            }
            Event::Serve(request) => {
                let (number, work) = (self.requests[request].server, self.requests[request].work);
                if let Health::Fails(share) = self.servers[number].health
                    && self.dice.unit() < share
                {
                    self.at(self.now + SERVERS[number].1 / 2.0, Event::Refuse(request));
                } else if let Some((begun, after)) = self.servers[number].take(request, work) {
                    self.at(self.now + after, Event::Done(begun));
                }
            }
            Event::Done(request) => {
                let Request { server: number, work, .. } = self.requests[request];
                let (answers, next) = self.servers[number].done(request, work);
                if answers {
                    self.respond(request);
                }
                if let Some((begun, after)) = next {
                    self.at(self.now + after, Event::Done(begun));
                }
            }
            Event::Respond(request) => {
                if !self.requests[request].over {
                    self.server_sends(request, ACK | FIN, [5_001, 1_101], 100);
                    self.client_sends(request, ACK | FIN, [1_101, 5_102], 0);
                    self.server_sends(request, ACK, [5_102, 1_102], 0);
                    self.finish(request, false);
                }
            }
            Event::Refuse(request) => {
                if !self.requests[request].over {
                    self.server_sends(request, ACK | RST, [5_001, 1_101], 0);
                    self.finish(request, true);
                }
            }
            Event::Timeout(request) => {
                if !self.requests[request].over {
                    // The server's kernel has acknowledged the request long ago.
                    self.server_sends(request, ACK, [5_001, 1_101], 0);
                    self.client_sends(request, RST, [1_101, 0], 0);
                    self.finish(request, true);
                }
            }
            Event::Read => self.read(),
        }
    }

    fn finish(&mut self, request: usize, failed: bool) {
        let Request { begun, over, server, .. } = &mut self.requests[request];
        *over = true;
        // A client whose request fails has got nothing: that counts like its whole patience.
        let took = if failed { PATIENCE } else { self.now - *begun };
        self.seen.requests.push((*begun, took, failed, *server));
    }

    /// What the monitor does, four times a second.
    fn read(&mut self) {
        self.at(self.now + READ, Event::Read);
        for number in 0..self.translators.len() {
            let at = self.clock(number);
            let translator = &mut self.translators[number];
            translator.poll(at);
            let measured = core::array::from_fn(|server| translator.measurements_of(server_at(server)));
            if self.luck.unit() >= self.hearing.lost {
                let (due, weights) = (self.now + self.hearing.late, self.weights);
                self.reports.push_back(Report { due, translator: number, at, measured, weights });
            }
        }
        if !matches!(self.policy, Policy::Monitor | Policy::Loads) || self.now >= self.dies {
            return self.reports.clear();
        }
        let now = Instant::from_micros((self.now * 1e6) as u64);
        self.reads += 1;
        if self.policy == Policy::Loads && self.reads.is_multiple_of(SCRAPE) {
            self.scrape(now);
        }
        let mut seen = [Observation::default(); N];
        while let Some(report) = self.reports.pop_front_if(|report| report.due <= self.now) {
            self.reported[report.translator] = report.weights;
            for ((seen, reading), measured) in
                seen.iter_mut().zip(&mut self.readings[report.translator]).zip(report.measured)
            {
                if let Some(Ok(Some(new))) = measured.map(|measured| reading.take(report.at, &measured)) {
                    seen.merge(&new);
                }
            }
        }
        let is_current = self.reported.iter().all(|weights| *weights == self.weights);
        if let Some(decision) = self.monitor.observe_late(now, &seen, is_current).copied() {
            let shares = |weights: [u16; N]| {
                let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
                weights.map(|w| f64::from(w) / sum)
            };
            let (old, new) = (shares(decision.inputs.weights), shares(decision.weights));
            let moved = old.iter().zip(new).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
            self.seen.moved.push((self.now, moved));
            self.seen.decisions.push(decision);
            self.set_weights(decision.weights);
        }
        // Outcomes become known later.
        for decision in self.monitor.decisions() {
            if let Some(mine) = self.seen.decisions.iter_mut().rev().find(|mine| mine.number == decision.number) {
                mine.outcome = decision.outcome;
            }
        }
    }

    /// Reads the load that each server reports.
    fn scrape(&mut self, now: Instant) {
        for (number, reading) in self.loads.iter_mut().enumerate() {
            let busy = LoadSample { at: now, value: self.servers[number].worked, series: WORKERS as u32, stamp: None };
            let load = match self.hearing.liar {
                Some((liar, share)) if liar == number => byway::monitor::Load::new(share, now),
                _ => reading.take(&busy).ok().flatten(),
            };
            if let Some(load) = load {
                self.monitor.report_load(number, load);
            }
        }
    }

    pub(crate) fn into_seen(self) -> Seen {
        self.seen
    }
}

/// The response time in milliseconds that `percent` of the requests begun in this time did not exceed, and how many per
/// cent of them failed.
pub(crate) fn summary(seen: &Seen, from: f64, to: f64, percent: f64) -> (f64, f64) {
    let mut times: Vec<f64> = Vec::new();
    let mut failed = 0;
    for (begun, took, has_failed, _) in &seen.requests {
        if (from..to).contains(begun) {
            times.push(*took);
            failed += usize::from(*has_failed);
        }
    }
    if times.is_empty() {
        return (0.0, 0.0);
    }
    times.sort_unstable_by(f64::total_cmp);
    let rank = ((times.len() as f64 * percent / 100.0).ceil() as usize).clamp(1, times.len());
    (times[rank - 1] * 1e3, failed as f64 * 100.0 / times.len() as f64)
}

/// A whole run.
pub(crate) fn run(policy: Policy, seed: u64, seconds: f64, hearing: Hearing) -> Seen {
    let mut world = World::heard(policy, seed, false, hearing);
    for phase in &PHASES {
        world.run(phase, seconds, false);
    }
    world.into_seen()
}

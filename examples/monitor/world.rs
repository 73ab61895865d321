//! Clients, servers, a real translator between them, and who sets its weights, in simulated time.

mod reports;

use core::cmp::Reverse;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::{BinaryHeap, VecDeque};

use byway::monitor::{Decision, LoadKind, LoadReading, Monitor, Reading, Settings};
use byway::{Config, Divert, Heap, Instant, Translator, Verdict, Weighted};

use self::reports::Report;
use crate::hearing::Hearing;
use crate::joint;
use crate::offers::{Scene, address_of};
use crate::packets::{ACK, FIN, RST, SYN, client_of, segment};
use crate::servers::{Health, SERVERS, Server, WORK, WORKERS};
use byway_testing::random::Dice;

pub(crate) const N: usize = SERVERS.len();
/// A client gives up after so many seconds.
const PATIENCE: f64 = 2.0;
/// How often what was measured is read.
const READ: f64 = 0.25;

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
    /// The same, where the monitors of several services take all requests of a server for their own.
    Apart,
    /// The fewest for what a server can really carry, known at once.
    Clairvoyant,
    /// The shares that are best for all services together, known at once.
    Joint,
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

/// One request, as its client knows it.
struct Request {
    begun: f64,
    work: f64,
    service: usize,
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
    /// By translator and service.
    readings: Vec<Vec<[Reading; N]>>,
    /// The weights in force by service, and those in the last report of each translator.
    weights: Vec<[u16; N]>,
    reported: Vec<Vec<[u16; N]>>,
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
    scene: Scene,
    monitors: Vec<Monitor<N>>,
    seen: Seen,
    /// The monitor is killed at this time.
    dies: f64,
}

fn server_at(number: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(20, 0, 0, 1 + number as u8), 80)
}

impl World {
    #[cfg(test)]
    pub(crate) fn new(policy: Policy, seed: u64, equal: bool) -> Self {
        Self::heard(policy, seed, equal, Hearing::GOOD)
    }

    /// The same, where the monitor hears its translators like this.
    pub(crate) fn heard(policy: Policy, seed: u64, equal: bool, hearing: Hearing) -> Self {
        Self::in_scene(policy, seed, Scene::usual(equal), hearing)
    }

    /// The same in a scene.
    pub(crate) fn in_scene(policy: Policy, seed: u64, scene: Scene, hearing: Hearing) -> Self {
        let (speeds, services) = (scene.speeds, scene.offers.len());
        let deciders = scene.offers.iter().map(|offer| offer.monitor + 1).max().unwrap_or(0);
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
            readings: vec![vec![[Reading::default(); N]; services]; hearing.translators],
            weights: vec![[0; N]; services],
            reported: vec![vec![[0; N]; services]; hearing.translators],
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
            monitors: vec![],
            scene,
            seen: Seen { requests: Vec::new(), decisions: Vec::new(), moved: Vec::new(), dropped: 0 },
            dies: f64::INFINITY,
        };
        let nominal = speeds.map(|speed| (speed * 4_000.0) as u16);
        for monitor in 0..deciders {
            let has = |server: usize| {
                world.scene.offers.iter().any(|offer| offer.monitor == monitor && offer.servers[server])
            };
            let weights = core::array::from_fn(|server| if has(server) { 10_000 } else { 0 });
            world.monitors.push(Monitor::new(Settings::default(), weights));
        }
        for service in 0..services {
            let weights = match policy {
                Policy::Static | Policy::Clairvoyant | Policy::Joint => nominal,
                _ => [10_000; N],
            };
            world.set_weights(service, &weights);
        }
        world.at(0.0, Event::Arrive);
        world.at(READ, Event::Read);
        world
    }

    #[cfg(test)]
    pub(crate) fn kill_monitor_at(&mut self, seconds: f64) {
        self.dies = seconds;
    }

    fn set_weights(&mut self, service: usize, weights: &[u16; N]) {
        let offer = &self.scene.offers[service];
        let weights = offer.mask(weights);
        self.weights[service] = weights;
        let own = (0..N).filter(|server| offer.servers[*server]);
        let group: Vec<_> = own.map(|n| Weighted::new(server_at(n), weights[n])).collect();
        let divert = Divert::new(address_of(service)).to_group(&group);
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
        let service = address_of(self.requests[request].service);
        self.translate(request, segment(client_of(request), service, flags, numbers, data))
    }

    fn server_sends(&mut self, request: usize, flags: u8, numbers: [u32; 2], data: usize) {
        let Request { server, alternative, .. } = self.requests[request];
        self.translate(request, segment(server_at(server), alternative, flags, numbers, data));
    }

    /// Goes through a phase.
    pub(crate) fn run(&mut self, phase: &Phase, seconds: f64) {
        let speeds = self.scene.speeds;
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
        let all: f64 = speeds.iter().sum::<f64>() * WORKERS as f64 / WORK;
        self.rate = phase.load * all;
        match self.policy {
            Policy::Clairvoyant => (0..self.weights.len()).for_each(|service| self.set_weights(service, &truth)),
            Policy::Joint => {
                let now: [f64; N] = core::array::from_fn(|n| f64::from(truth[n]) / 4_000.0);
                let best = joint::weights(&now, &self.scene.offers, self.rate);
                best.iter().enumerate().for_each(|(service, weights)| self.set_weights(service, weights));
            }
            _ => {}
        }
        let end = self.now + seconds;
        while self.events.peek().is_some_and(|Reverse(at)| at.0 < end) {
            if let Some(Reverse(At(time, _, event))) = self.events.pop() {
                self.now = time;
                self.happen(event);
            }
        }
        self.now = end;
    }

    /// How long a packet takes to a request's server and back.
    fn floor(&self, request: usize) -> f64 {
        let Request { service, server, .. } = self.requests[request];
        self.scene.offers[service].floors[server]
    }

    /// Which service the next request is for.
    fn draw_service(&mut self) -> usize {
        let offers = &self.scene.offers;
        if offers.len() == 1 {
            return 0;
        }
        let mut left = self.dice.unit();
        offers
            .iter()
            .position(|offer| {
                left -= offer.share;
                left < 0.0
            })
            .unwrap_or(offers.len() - 1)
    }

    fn respond(&mut self, request: usize) {
        let floor = self.floor(request);
        self.at(self.now + floor / 2.0, Event::Respond(request));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => {
                let next = self.now + self.dice.exponential(1.0 / self.rate);
                self.at(next, Event::Arrive);
                let request = self.requests.len();
                let (work, service) = (self.dice.log_normal(WORK), self.draw_service());
                let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                self.requests.push(Request {
                    begun: self.now,
                    work,
                    service,
                    server: 0,
                    alternative: nowhere,
                    over: false,
                });
                let Some(syn) = self.client_sends(request, SYN, [1_000, 0], 0) else {
                    return self.finish(request, true);
                };
                let address = |at: usize| Ipv4Addr::new(syn[at], syn[at + 1], syn[at + 2], syn[at + 3]);
                let (server, port) = (usize::from(syn[19]) - 1, u16::from_be_bytes([syn[20], syn[21]]));
                self.requests[request].server = server;
                self.requests[request].alternative = SocketAddrV4::new(address(12), port);
                self.at(self.now + self.floor(request), Event::Accept(request));
                self.at(self.now + PATIENCE, Event::Timeout(request));
            }
            Event::Accept(request) => {
                self.server_sends(request, SYN | ACK, [5_000, 1_001], 0);
                self.client_sends(request, ACK, [1_001, 5_001], 100);
                let floor = self.floor(request);
                self.at(self.now + floor / 2.0, Event::Serve(request));
            }
            Event::Serve(request) => {
                let (number, work) = (self.requests[request].server, self.requests[request].work);
                if let Health::Fails(share) = self.servers[number].health
                    && self.dice.unit() < share
                {
                    self.at(self.now + self.floor(request) / 2.0, Event::Refuse(request));
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
        world.run(phase, seconds);
    }
    world.into_seen()
}

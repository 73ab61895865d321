//! The hosts, the lines between them, and the translator in the middle.

use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use byway::{Config, Divert, Event, HandOvers, Heap, Instant, Outcome, Pair, Resumption, Translator, Verdict};

use super::host::{Host, Setup};
use super::web::{Asking, Fault, Serving};
use super::witness::{Witness, read};
use crate::{Dice, at};

pub const SERVERS: usize = 3;
/// Sockets of a server.
const SOCKETS: usize = 24;
/// Hand-overs at once.
pub const AT_ONCE: usize = 2;

/// A line between the translator and a host.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Microseconds one way.
    pub delay: u64,
    /// Packets of a thousand that are lost, repeated, and late by up to twice the delay.
    pub lost: u64,
    pub repeated: u64,
    pub late: u64,
}

pub const GOOD: Line = Line { delay: 5_000, lost: 0, repeated: 0, late: 0 };

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub client: Line,
    pub servers: [Line; SERVERS],
    pub client_clock: Option<u32>,
    pub server_clocks: [Option<u32>; SERVERS],
    pub client_receive: usize,
    pub server_receive: [usize; SERVERS],
    pub client_mtu: usize,
    pub server_mtu: [usize; SERVERS],
    pub faults: [Fault; SERVERS],
    pub buffer: usize,
    /// The numbers of packets, of all that go over any line, that are lost.
    pub losses: Vec<u64>,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            client: GOOD,
            servers: [GOOD; SERVERS],
            client_clock: Some(u32::MAX - 40),
            server_clocks: [Some(1_000_000), Some(7), Some(u32::MAX - 100)],
            client_receive: 1 << 17,
            server_receive: [1 << 16, 1 << 14, 1 << 18],
            client_mtu: 1_500,
            server_mtu: [1_500, 1_400, 1_500],
            faults: [Fault::None; SERVERS],
            buffer: 16_384,
            losses: Vec::new(),
        }
    }

    /// The same with all lines losing, repeating and delaying so many packets of a thousand.
    pub fn lines(mut self, lost: u64, repeated: u64, late: u64) -> Self {
        for line in core::iter::once(&mut self.client).chain(&mut self.servers) {
            (line.lost, line.repeated, line.late) = (lost, repeated, late);
        }
        // The stack recovers one segment at a time, and would need minutes for a large window.
        self.client_receive = 12_000;
        self
    }

    fn is_in_order(&self) -> bool {
        let bad = |line: &Line| line.lost + line.repeated + line.late != 0;
        !bad(&self.client) && !self.servers.iter().any(bad) && self.losses.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Translator,
    Client,
    Server(usize),
}

pub fn original() -> SocketAddrV4 {
    at("100.100.100.100:80")
}

pub fn server(number: usize) -> SocketAddrV4 {
    [at("123.45.67.89:80"), at("123.45.67.90:8080"), at("20.0.0.3:80")][number]
}

/// The client's address, and the port that it connects from.
pub fn client() -> SocketAddrV4 {
    at("1.2.3.4:3456")
}

/// A translator whose only rule leads to this server.
pub fn translator(to: usize) -> Translator<Heap> {
    let config = Config::new([0x42; 32]).alternative(at("10.10.10.10:1").ip().to_owned(), 1024..=65535);
    let mut byway = Translator::new(config, Heap::new(64, 8).resumable()).expect("a good configuration");
    byway.divert(Divert::new(original()).to(server(to)).resumable()).expect("a good rule");
    byway
}

pub type Tap = Box<dyn FnMut(u64, &[u8])>;

pub struct Net<R> {
    pub plan: Plan,
    pub now: u64,
    pub byway: Translator<Heap>,
    pub mover: HandOvers<'static, R, AT_ONCE>,
    /// The portion for packets of servers, if that is another.
    pub replies: Option<Translator<Heap>>,
    pub client: Host,
    pub servers: Vec<Host>,
    pub asking: Asking,
    serving: Vec<Vec<Serving>>,
    /// Packets on the lines: when they arrive, in which order they were sent, where, and what.
    lines: BTreeMap<(u64, u64), (Place, Vec<u8>)>,
    sent: u64,
    dice: Dice,
    pub client_sees: Witness,
    pub servers_see: Vec<Witness>,
    pub outcomes: Vec<Outcome>,
    pub moved_events: usize,
    /// The longest time that the client got no data while it waited for some.
    pub longest_wait: u64,
    waited_since: u64,
    /// Which servers are there at all.
    pub alive: BTreeSet<usize>,
    /// Called with the time on each packet that reaches the translator or leaves it.
    pub tap: Option<Tap>,
}

impl<R: Resumption> Net<R> {
    pub fn new(plan: Plan, resumption: R, paths: &[&str]) -> Self {
        let byway = translator(0);
        let buffer = Box::leak(vec![0; plan.buffer * AT_ONCE].into_boxed_slice());
        let host = |address, receive, clock, mtu, sockets, seed| {
            Host::new(Setup { address, receive, clock, mtu, sockets, seed })
        };
        let client_host = host(client(), plan.client_receive, plan.client_clock, plan.client_mtu, 1, plan.seed * 8 + 1);
        let servers: Vec<_> = (0..SERVERS)
            .map(|n| {
                let seed = plan.seed * 8 + 2 + n as u64;
                host(server(n), plan.server_receive[n], plan.server_clocks[n], plan.server_mtu[n], SOCKETS, seed)
            })
            .collect();
        let in_order = plan.is_in_order();
        Self {
            now: 1_000_000,
            byway,
            mover: HandOvers::new(resumption, buffer),
            replies: None,
            client: client_host,
            servers,
            asking: Asking::new(paths),
            serving: vec![vec![Serving::default(); SOCKETS]; SERVERS],
            lines: BTreeMap::new(),
            sent: 0,
            dice: Dice(plan.seed),
            client_sees: Witness { in_order, only: Some(original()), ..Witness::default() },
            servers_see: (0..SERVERS).map(|_| Witness { in_order, older_echo: 1_000, ..Witness::default() }).collect(),
            outcomes: Vec::new(),
            moved_events: 0,
            longest_wait: 0,
            waited_since: 0,
            alive: (0..SERVERS).collect(),
            tap: None,
            plan,
        }
    }

    pub fn instant(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    pub fn pair(&self) -> Pair {
        Pair { source: client(), destination: original() }
    }

    /// The client connects.
    pub fn connect(&mut self) {
        for server in &mut self.servers {
            server.listen();
        }
        self.client.connect(0, original());
        self.waited_since = self.now;
    }

    /// Begins to hand the client's connection over.
    pub fn hand_over(&mut self, to: usize) -> Result<(), byway::Kept> {
        let (now, pair) = (self.instant(), self.pair());
        let begun = self.mover.begin(now, &mut self.byway, &pair, server(to));
        self.transmit();
        begun
    }

    /// The server that the connection stands on.
    pub fn stands_on(&self) -> Option<usize> {
        let connection = self.byway.connections().next()?;
        (0..SERVERS).find(|n| server(*n) == connection.server_side.destination)
    }

    fn put(&mut self, line: Line, to: Place, packet: Vec<u8>) {
        let number = self.sent;
        self.sent += 1;
        if self.dice.below(1_000) < line.lost || self.plan.losses.contains(&number) {
            return;
        }
        let mut delay = line.delay;
        if self.dice.below(1_000) < line.late {
            delay += self.dice.below(line.delay * 2);
        }
        if self.dice.below(1_000) < line.repeated {
            self.lines.insert((self.now + delay + self.dice.below(line.delay), self.sent), (to, packet.clone()));
            self.sent += 1;
        }
        self.lines.insert((self.now + delay, number), (to, packet));
    }

    /// Puts a packet from the translator on the line to its destination.
    fn send(&mut self, packet: Vec<u8>) {
        if let Some(tap) = &mut self.tap {
            tap(self.now, &packet);
        }
        let destination = read(&packet).destination;
        if destination.ip() == client().ip() {
            self.put(self.plan.client, Place::Client, packet);
        } else {
            let number = (0..SERVERS).find(|n| server(*n).ip() == destination.ip());
            let number = number.unwrap_or_else(|| panic!("a packet to nobody: {:?}", read(&packet)));
            self.put(self.plan.servers[number], Place::Server(number), packet);
        }
    }

    /// A packet arrives at the translator.
    pub fn arrive(&mut self, mut packet: Vec<u8>) -> Verdict {
        if let Some(tap) = &mut self.tap {
            tap(self.now, &packet);
        }
        let before = packet.clone();
        let now = self.instant();
        let portion = self.replies.as_mut().filter(|_| read(&packet).source.ip() != client().ip());
        let verdict = match portion {
            Some(replies) => replies.translate(now, &mut packet),
            None => self.mover.translate(now, &mut self.byway, &mut packet),
        };
        match verdict {
            Verdict::ToServer | Verdict::ToClient => self.send(packet),
            _ => assert_eq!(packet, before, "{verdict:?} changes the packet"),
        }
        self.transmit();
        verdict
    }

    /// Fetches the translator's own packets.
    pub fn transmit(&mut self) {
        let now = self.instant();
        let mut buffer = [0; 1_500];
        while let Some(transmit) = self.mover.poll_transmit(now, &mut self.byway, &mut buffer) {
            self.send(buffer[..transmit.length].to_vec());
        }
        while let Some(transmit) = self.byway.poll_transmit(now, &mut buffer) {
            self.send(buffer[..transmit.length].to_vec());
        }
        while let Some(outcome) = self.mover.poll_outcome() {
            self.outcomes.push(outcome);
        }
        while let Some(event) = self.byway.poll_event() {
            self.moved_events += usize::from(matches!(event, Event::Moved { .. }));
        }
    }

    /// Lets time pass until the next event, but no further than this.
    pub fn step(&mut self, until: u64) {
        let now = self.now;
        let before = self.asking.bytes;
        while let Some(packet) = self.client.wire.sent.pop_front() {
            self.client_sees.sends(&packet);
            self.put(self.plan.client, Place::Translator, packet);
        }
        for number in 0..SERVERS {
            while let Some(packet) = self.servers[number].wire.sent.pop_front() {
                self.servers_see[number].sends(&packet);
                if self.alive.contains(&number) {
                    self.put(self.plan.servers[number], Place::Translator, packet);
                }
            }
        }
        while let Some(entry) = self.lines.first_entry().filter(|entry| entry.key().0 <= now) {
            let (place, packet) = entry.remove();
            match place {
                Place::Translator => {
                    let _ = self.arrive(packet);
                }
                Place::Client => {
                    self.client_sees.gets(&packet);
                    self.client.wire.received.push_back(packet);
                }
                Place::Server(number) if self.alive.contains(&number) => {
                    self.servers_see[number].gets(&packet);
                    self.servers[number].wire.received.push_back(packet);
                }
                Place::Server(_) => {}
            }
        }
        self.client.poll(now);
        self.asking.work(self.client.socket(0));
        self.client.poll(now);
        for (number, host) in self.servers.iter_mut().enumerate() {
            host.poll(now);
            for (socket, serving) in self.serving[number].iter_mut().enumerate() {
                serving.work(host.socket(socket), &"B".repeat(number * 7 + 1), self.plan.faults[number]);
            }
            host.listen();
            host.poll(now);
        }
        self.byway.poll(Instant::from_micros(now));
        self.mover.poll(Instant::from_micros(now), &mut self.byway);
        self.transmit();
        if self.asking.bytes != before || self.asking.is_idle() {
            self.waited_since = now;
        }
        self.longest_wait = self.longest_wait.max(now - self.waited_since);

        let mut next = until.min(now + 50_000);
        let busy = !self.client.wire.sent.is_empty() || self.servers.iter().any(|server| !server.wire.sent.is_empty());
        if busy {
            next = now;
        }
        for due in core::iter::once(self.client.due(now)).chain(self.servers.iter_mut().map(|s| s.due(now))).flatten() {
            next = next.min(due.max(now + 1));
        }
        if let Some(((arrives, _), _)) = self.lines.first_key_value() {
            next = next.min(*arrives);
        }
        if let Some(due) = self.mover.poll_at(Instant::from_micros(now)) {
            next = next.min(due.as_micros().max(now + 1));
        }
        self.now = next.max(now);
        if next == now && !busy {
            self.now += 1;
        }
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time.as_micros() as u64;
        while self.now < until {
            self.step(until);
        }
    }

    /// Goes on until `is_so` holds. False if it does not within this time.
    pub fn until(&mut self, within: Duration, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + within.as_micros() as u64;
        while !is_so(self) {
            if self.now >= end {
                return false;
            }
            self.step(end);
        }
        true
    }

    /// The client gets both bodies whole within this time, and no reset, whatever became of moves.
    #[track_caller]
    pub fn complete(&mut self, within: Duration) {
        let is_done = self.until(within, |net| net.asking.is_done());
        assert!(is_done, "stands at {}: {:?}", self.asking.received, self.outcomes);
        assert_eq!((self.asking.done, self.client_sees.resets), (2, 0));
    }

    /// How many packets were put on lines.
    pub const fn packets(&self) -> u64 {
        self.sent
    }

    /// The last outcome.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcomes.last()
    }
}

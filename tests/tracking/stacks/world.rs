//! A client, two servers, a translator between them, four lines, and an attacker beside them.

use core::fmt;
use core::net::SocketAddrV4;
use std::collections::{HashMap, VecDeque};

use byway::{
    Config, Connection, Direction, Divert, DropReason, Heap, InexactReset, Midstream, Protocol, State, TRANSMIT_BUFFER,
    Translator, Verdict,
};
use smoltcp::time::Duration;

use super::host::{Host, Leg, Quality, Setup};
use byway_testing::talk::{CLIENT, ORIGINAL, OTHER, SERVER};
use byway_testing::truth::{ACK, End, Passed, RST, SYN, Segment, Shown, is_long_lived, numbers_of};
use byway_testing::{Dice, address, at, ends};

pub(super) const SECOND: u64 = 1_000_000;
/// [`byway::Timeouts::RECOMMENDED`], in microseconds.
pub(super) const ESTABLISHED: u64 = (2 * 3600 + 4 * 60) * SECOND;
pub(super) const TRANSITORY: u64 = 4 * 60 * SECOND;
const CLIENT_HOST: usize = 0;

/// One line of the log.
#[derive(Clone)]
pub(super) enum Line {
    Packet { from: &'static str, segment: Segment, verdict: Verdict, state: Option<State>, fate: &'static str },
    Note(String),
}

/// What a run is made of; all of it follows from the seed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub steps: u32,
    /// Lines that neither lose nor reorder.
    pub clean: bool,
    /// Forged packets now and then.
    pub attacked: bool,
    /// Hours without a word, but for keep-alives.
    pub idle: bool,
    /// Re-diverts.
    pub moved: bool,
    /// The translator is restarted with a snapshot.
    pub restarted: bool,
    /// Check the test itself: what passes, without what is forged, against what both ends say.
    pub check_shown: bool,
}

/// How often each rule was held against something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    pub established: u64,
    pub closing: u64,
    pub gone: u64,
    pub told: u64,
    pub numbers: u64,
    pub exact_resets: u64,
    pub idle: u64,
    pub expired: u64,
    pub flooded: u64,
    pub simultaneous: u64,
}

impl Checked {
    pub fn add(&mut self, other: &Self) {
        self.established += other.established;
        self.closing += other.closing;
        self.gone += other.gone;
        self.told += other.told;
        self.numbers += other.numbers;
        self.exact_resets += other.exact_resets;
        self.idle += other.idle;
        self.expired += other.expired;
        self.flooded += other.flooded;
        self.simultaneous += other.simultaneous;
    }
}

/// The numbers of the translator are not certain: it was restarted with old ones, or an attacker met the handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// Segments with data from the client and from the server since then that the other has acknowledged.
    pub(super) agreed: [u32; 2],
    pub(super) ahead: [u32; 2],
    /// The number of the client's SYN then.
    pub(super) start: Option<u32>,
}

impl Doubt {
    /// From what has passed so far.
    pub(super) fn since(passed: &Passed) -> Self {
        Self { agreed: [0; 2], ahead: [passed.client.next, passed.server.next], start: passed.client.start }
    }
}

/// A connection whose two ends both exist: their states, and which host the server is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Couple {
    pub(super) connection: Connection,
    pub(super) client: End,
    pub(super) server: End,
    pub(super) host: usize,
}

/// Both ends of a connection that a re-divert with `Reset` ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: u64,
    pub(super) client_start: u32,
    pub(super) server: usize,
    pub(super) alternative: SocketAddrV4,
    pub(super) server_start: u32,
}

pub struct World {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) setup: Setup,
    pub(super) now: u64,
    pub(super) config: Config,
    pub(super) measured: bool,
    pub(super) translator: Translator<Heap>,
    /// The server that the rule leads to.
    pub(super) target: usize,
    pub(super) hosts: [Host; 3],
    /// Client to translator, translator to client, servers to translator, translator to servers.
    pub(super) legs: [Leg; 4],
    /// What has passed the translator, by server and alternative endpoint.
    pub(super) passed: HashMap<(SocketAddrV4, SocketAddrV4), Passed>,
    /// What that shows, for whoever knows which packets are forged.
    pub(super) shown: HashMap<(SocketAddrV4, SocketAddrV4), Shown>,
    /// When the last packet of a connection was translated.
    pub(super) last_passed: u64,
    pub(super) doubt: Option<Doubt>,
    /// The number of the client's SYN whose connection was hidden by the end of the one before it.
    pub(super) hidden: Option<u32>,
    pub(super) told: Option<Told>,
    pub(super) log: VecDeque<(u64, Line)>,
    pub checked: Checked,
}

/// What went wrong: the rule's name, and everything that helps.
pub struct Violation {
    pub rule: String,
    pub story: String,
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (time, line) in &self.log {
            write!(f, "  {:>14.6}  ", *time as f64 / 1e6)?;
            match line {
                Line::Packet { from, segment, verdict, state, fate } => {
                    writeln!(f, "{from:<8} {segment:<40} {verdict:?} {fate}-> {state:?}")?;
                }
                Line::Note(note) => writeln!(f, "-- {note}")?,
            }
        }
        let states: Vec<_> = (0..self.hosts[1].count()).map(|n| self.hosts[1].state(n)).collect();
        let others: Vec<_> = (0..self.hosts[2].count()).map(|n| self.hosts[2].state(n)).collect();
        writeln!(f, "  client {:?}, server {states:?}, other {others:?}", self.hosts[0].state(0))?;
        let connection = self.connection();
        let numbers = connection.and_then(|c| self.translator.record(&c)).map(|r| numbers_of(&r));
        if let Some(c) = connection {
            let client = self.hosts[0].numbers(c.client_side.destination);
            let host = &self.hosts[self.host_of(c.server())];
            writeln!(f, "  client says {client:x?}\n  server says {:x?}", host.numbers(c.server_side.source))?;
            writeln!(f, "  passed {:x?}", self.passed.get(&(c.server(), c.server_side.source)))?;
        }
        writeln!(f, "  translator {connection:?} numbers {numbers:08x?}\n  {:?} doubt {:?}", self.plan, self.doubt)
    }
}

pub(super) fn translator(config: &Config, measured: bool, target: usize) -> Translator<Heap> {
    let heap = Heap::new(64, 4);
    let mut t = Translator::new(config.clone(), if measured { heap.measured() } else { heap }).expect("good settings");
    t.divert(Divert::new(at(ORIGINAL)).to(at([SERVER, OTHER][target - 1]))).expect("a good rule");
    t
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut dice = Dice(plan.seed.wrapping_mul(0x1234_5678_9abc_def1));
        let buffer = [600, 4096, 65_535, 262_144][dice.below(4) as usize];
        let (keep_alive, timeout) = match plan.idle {
            true => (Some(Duration::from_secs(30 * 60)), None),
            false => match dice.below(3) {
                0 => (Some(Duration::from_secs(15)), Some(Duration::from_secs(60))),
                1 => (None, Some(Duration::from_secs(40))),
                _ => (None, None),
            },
        };
        let setup = Setup { buffer, keep_alive, timeout };
        let policy = [InexactReset::Pass, InexactReset::Drop][dice.below(2) as usize];
        let config = Config::new([plan.seed as u8; 32])
            .alternative(byway_testing::ip("10.10.10.10"), 1024..=65535)
            .inexact_reset(policy)
            .midstream(Midstream::Pass);
        let measured = dice.below(2) == 0;
        let delay = [200, 5_000, 40_000, 150_000][dice.below(4) as usize];
        let legs = [0; 4].map(|_| {
            let quality = match plan.clean {
                true => Quality { delay, ..Quality::default() },
                false => Quality {
                    loss: [0, 0, 5, 25][dice.below(4) as usize],
                    twice: [0, 0, 10][dice.below(3) as usize],
                    overtaken: [0, 0, 20][dice.below(3) as usize],
                    delay,
                },
            };
            Leg::new(quality)
        });
        let seed = plan.seed * 4;
        let hosts = [
            Host::new(at(CLIENT), 1, seed + 1, setup),
            Host::new(at(SERVER), 3, seed + 2, setup),
            Host::new(at(OTHER), 3, seed + 3, setup),
        ];
        let translator = translator(&config, measured, 1);
        let (passed, shown, log) = (HashMap::new(), HashMap::new(), VecDeque::new());
        let checked = Checked::default();
        let (now, last_passed, target, doubt, told) = (SECOND, 0, 1, None, None);
        let mut world = Self {
            plan,
            dice,
            setup,
            now,
            config,
            measured,
            translator,
            target,
            hosts,
            legs,
            passed,
            shown,
            last_passed,
            doubt,
            hidden: None,
            told,
            log,
            checked,
        };
        world.note(format!(
            "buffers of {buffer}, {policy:?}, delay {delay} us, {:?}",
            world.legs.each_ref().map(|l| l.quality)
        ));
        world
    }

    pub(super) fn note(&mut self, note: String) {
        self.write(Line::Note(note));
    }

    pub(super) fn write(&mut self, line: Line) {
        self.log.push_back((self.now, line));
        if self.log.len() > 60 {
            self.log.pop_front();
        }
    }

    pub(super) fn fail(&self, rule: impl Into<String>) -> Violation {
        Violation { rule: rule.into(), story: self.to_string() }
    }

    pub(super) fn instant(&self) -> byway::Instant {
        byway::Instant::from_micros(self.now)
    }

    pub fn connection(&self) -> Option<Connection> {
        Some(self.translator.connection(Protocol::Tcp, at(CLIENT), at(ORIGINAL))?.0)
    }

    pub(super) fn host_of(&self, server: SocketAddrV4) -> usize {
        if server == at(OTHER) { 2 } else { 1 }
    }

    /// Everything that happens until then.
    pub fn run_until(&mut self, end: u64) -> Result<(), Violation> {
        // A stack that has nothing to say although its time has come must not stop the clock.
        let mut patience = 50;
        loop {
            let hosts = self.hosts.iter_mut().filter_map(|host| host.poll_at(self.now)).min();
            let hosts = hosts.map(|at| at.max(self.now + patience));
            let next = hosts.into_iter().chain(self.legs.iter().filter_map(Leg::next)).min().unwrap_or(u64::MAX);
            if next > end {
                self.now = end;
                return Ok(());
            }
            self.now = next.max(self.now);
            patience = if self.turn()? { 50 } else { (2 * patience).min(SECOND / 4) };
        }
    }

    /// Whatever is due now. Says whether there was a packet.
    pub(super) fn turn(&mut self) -> Result<bool, Violation> {
        let now = self.instant();
        let mut busy = false;
        self.translator.poll(now);
        while let Some(packet) = self.legs[1].receive(self.now) {
            busy = true;
            self.hosts[CLIENT_HOST].deliver(packet);
        }
        while let Some(packet) = self.legs[3].receive(self.now) {
            busy = true;
            let host = self.host_of(SocketAddrV4::new(address(&packet, 16), 80));
            self.hosts[host].deliver(packet);
        }
        for number in 0..3 {
            for packet in self.hosts[number].poll(self.now) {
                busy = true;
                let leg = if number == CLIENT_HOST { 0 } else { 2 };
                let segment = Segment::read(&packet);
                if !self.legs[leg].send(self.now, &mut self.dice, packet)
                    && let Some(segment) = segment
                {
                    let from = ["client", "server", "other"][number];
                    let state = self.connection().map(|c| c.state);
                    self.write(Line::Packet { from, segment, verdict: Verdict::Pass, state, fate: "lost before " });
                }
            }
        }
        for leg in [0, 2] {
            while let Some(packet) = self.legs[leg].receive(self.now) {
                busy = true;
                self.translate(packet, false)?;
            }
        }
        let mut buffer = [0; TRANSMIT_BUFFER];
        while let Some(transmit) = self.translator.poll_transmit(now, &mut buffer) {
            let packet = buffer[..transmit.length].to_vec();
            if let Some(segment) = Segment::read(&packet) {
                let verdict = match transmit.direction {
                    Direction::ToClient => Verdict::ToClient,
                    Direction::ToServer => Verdict::ToServer,
                };
                let state = self.connection().map(|c| c.state);
                self.write(Line::Packet { from: "itself", segment, verdict, state, fate: "" });
                let leg = if transmit.direction == Direction::ToClient { 1 } else { 3 };
                self.legs[leg].send(self.now, &mut self.dice, packet);
            }
        }
        self.check().map(|()| busy)
    }

    /// A packet at the translator.
    pub(super) fn translate(&mut self, mut packet: Vec<u8>, forged: bool) -> Result<(), Violation> {
        let Some(segment) = Segment::read(&packet) else {
            return Ok(());
        };
        let (source, destination) = ends(&packet);
        let from_client = destination == at(ORIGINAL);
        let before = self.connection();
        let exact = !forged && segment.has(RST) && self.is_exact(from_client, &segment);
        let verdict = self.translator.translate(self.instant(), &mut packet);
        let after = self.connection();
        let from = match (forged, from_client) {
            (true, true) => "FORGED c",
            (true, false) => "FORGED s",
            (false, true) => "client",
            (false, false) => ["server", "other"][usize::from(source == at(OTHER))],
        };
        let leg = match verdict {
            Verdict::ToServer => 3,
            Verdict::ToClient => 1,
            _ => {
                self.write(Line::Packet { from, segment, verdict, state: after.map(|c| c.state), fate: "" });
                if exact && matches!(verdict, Verdict::Drop(DropReason::InexactReset)) {
                    return Err(self.fail("a RST that its receiver obeys was dropped as inexact"));
                }
                return Ok(());
            }
        };
        self.checked.exact_resets += u64::from(exact);
        // The connection that it belongs to, as it is now: a SYN may have begun a new one.
        let key = match verdict {
            Verdict::ToServer => {
                let (alternative, server) = ends(&packet);
                (server, alternative)
            }
            _ => (source, destination),
        };
        let passed = self.passed.entry(key).or_default();
        if !forged && from_client && segment.flags & (SYN | ACK) == SYN {
            let conversation = after.is_some_and(|c| !matches!(c.state, State::Opening | State::Opened));
            let again = passed.client.start == Some(segment.sequence);
            // A late segment may have completed the attempt before this one, which comes again because it was lost.
            passed.over_another =
                if again { passed.over_another || conversation && !passed.accepted } else { conversation };
        }
        // It has changed something, so it may be the later attempt's numbers that are in doubt now.
        let changed = before.map(|c| c.state) != after.map(|c| c.state);
        let earlier = !forged && from_client && changed && passed.completes_earlier(&segment);
        passed.note(from_client, &segment, forged);
        let passed = *passed;
        if !forged {
            self.shown.entry(key).or_default().note(from_client, &segment);
            self.last_passed = self.now;
            self.agree(from_client, &segment, (passed.client.acknowledged, passed.server.acknowledged));
        }
        let is_short = |c: Option<Connection>| c.is_none_or(|c| !is_long_lived(c.state));
        if earlier || forged && (is_short(before) || is_short(after)) {
            self.doubt = Some(Doubt::since(&passed));
        }
        let arrives = self.legs[leg].send(self.now, &mut self.dice, packet);
        let fate = if arrives { "" } else { "lost behind " };
        self.write(Line::Packet { from, segment, verdict, state: after.map(|c| c.state), fate });
        self.check()
    }
}

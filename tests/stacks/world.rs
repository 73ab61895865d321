//! A client, two servers, a translator between them, four lines, and an attacker beside them.

use core::fmt;
use core::net::SocketAddrV4;
use std::collections::{HashMap, VecDeque};

use byway::{
    Config, Connection, Direction, Divert, DropReason, Heap, InexactReset, Midstream, Protocol, Record, Redivert,
    State, TRANSMIT_BUFFER, Translator, Verdict,
};
use smoltcp::time::Duration;

use super::host::{Host, Leg, Quality, Setup};
use super::truth::{
    ACK, End, FIN, PSH, Passed, RST, SYN, Segment, Shown, are_paired, is_long_lived, numbers_of, permitted,
};
use crate::support::talk::{CLIENT, ORIGINAL, OTHER, SERVER};
use crate::support::{Dice, address, at, crc, ends, tcp};

const SECOND: u64 = 1_000_000;
/// [`byway::Timeouts::RECOMMENDED`], in microseconds.
const ESTABLISHED: u64 = (2 * 3600 + 4 * 60) * SECOND;
const TRANSITORY: u64 = 4 * 60 * SECOND;
const CLIENT_HOST: usize = 0;
/// How many segments with data each end must have sent, and have had acknowledged, before numbers that were in doubt must
/// be known again.
const CERTAIN_AFTER: u32 = 12;

/// One line of the log.
#[derive(Clone)]
enum Line {
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
struct Doubt {
    /// Segments with data from the client and from the server since then that the other has acknowledged.
    agreed: [u32; 2],
    ahead: [u32; 2],
}

/// A connection whose two ends both exist: their states, and which host the server is.
#[derive(Clone, Copy, Debug)]
struct Couple {
    connection: Connection,
    client: End,
    server: End,
    host: usize,
}

/// Both ends of a connection that a re-divert with `Reset` ends.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: u64,
    client_start: u32,
    server: usize,
    alternative: SocketAddrV4,
    server_start: u32,
}

pub struct World {
    plan: Plan,
    dice: Dice,
    setup: Setup,
    now: u64,
    config: Config,
    measured: bool,
    translator: Translator<Heap>,
    /// The server that the rule leads to.
    target: usize,
    hosts: [Host; 3],
    /// Client to translator, translator to client, servers to translator, translator to servers.
    legs: [Leg; 4],
    /// What has passed the translator, by server and alternative endpoint.
    passed: HashMap<(SocketAddrV4, SocketAddrV4), Passed>,
    /// What that shows, for whoever knows which packets are forged.
    shown: HashMap<(SocketAddrV4, SocketAddrV4), Shown>,
    /// When the last packet of a connection was translated.
    last_passed: u64,
    doubt: Option<Doubt>,
    told: Option<Told>,
    log: VecDeque<(u64, Line)>,
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

fn translator(config: &Config, measured: bool, target: usize) -> Translator<Heap> {
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
            .alternative(crate::support::ip("10.10.10.10"), 1024..=65535)
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

    fn note(&mut self, note: String) {
        self.write(Line::Note(note));
    }

    fn write(&mut self, line: Line) {
        self.log.push_back((self.now, line));
        if self.log.len() > 60 {
            self.log.pop_front();
        }
    }

    fn fail(&self, rule: impl Into<String>) -> Violation {
        Violation { rule: rule.into(), story: self.to_string() }
    }

    fn instant(&self) -> byway::Instant {
        byway::Instant::from_micros(self.now)
    }

    pub fn connection(&self) -> Option<Connection> {
        Some(self.translator.connection(Protocol::Tcp, at(CLIENT), at(ORIGINAL))?.0)
    }

    fn host_of(&self, server: SocketAddrV4) -> usize {
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
    fn turn(&mut self) -> Result<bool, Violation> {
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
    fn translate(&mut self, mut packet: Vec<u8>, forged: bool) -> Result<(), Violation> {
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
        if !forged && from_client && segment.flags & (SYN | ACK) == SYN && passed.client.start != Some(segment.sequence)
        {
            passed.over_another = after.is_some_and(|c| !matches!(c.state, State::Opening | State::Opened));
        }
        passed.note(from_client, &segment, forged);
        let sides = (passed.client, passed.server);
        if !forged {
            self.shown.entry(key).or_default().note(from_client, &segment);
            self.last_passed = self.now;
            self.agree(from_client, &segment, (sides.0.acknowledged, sides.1.acknowledged));
        } else if before.is_none_or(|c| !is_long_lived(c.state)) || after.is_none_or(|c| !is_long_lived(c.state)) {
            self.doubt = Some(Doubt { agreed: [0; 2], ahead: [sides.0.next, sides.1.next] });
        }
        let arrives = self.legs[leg].send(self.now, &mut self.dice, packet);
        let fate = if arrives { "" } else { "lost behind " };
        self.write(Line::Packet { from, segment, verdict, state: after.map(|c| c.state), fate });
        self.check()
    }

    /// Whether the receiver of this RST expects just this number, so that it obeys (RFC 5961, section 3.2), and the
    /// translator cannot but know so: the RST ends a connection, or answers a challenge or an old SYN+ACK.
    fn is_exact(&self, from_client: bool, segment: &Segment) -> bool {
        let Some(Couple { connection, client, server, host }) = self.pair() else {
            return false;
        };
        let (sender, receiver) = if from_client { (client, server) } else { (server, client) };
        let answers = from_client && sender == End::SynSent && receiver >= End::SynReceived;
        if self.doubt.is_some() || !(answers || client.is_synchronized() && server.is_synchronized()) {
            return false;
        }
        let numbers = match from_client {
            true => self.hosts[host].numbers(connection.server_side.source),
            false => self.hosts[0].numbers(connection.client_side.destination),
        };
        numbers.is_some_and(|n| n.acknowledged == Some(segment.sequence))
    }

    /// Counts the segments that end a doubt about numbers.
    fn agree(&mut self, from_client: bool, segment: &Segment, acknowledged: (u32, u32)) {
        let Some(doubt) = &mut self.doubt else {
            return;
        };
        if segment.has(SYN) {
            // A new attempt has numbers of its own; those of the one before do not matter any more.
            if segment.flags == SYN && from_client {
                self.doubt = None;
            }
            return;
        }
        let acknowledged = [acknowledged.0, acknowledged.1];
        for (side, acknowledged) in acknowledged.into_iter().enumerate() {
            if doubt.ahead[side] != acknowledged && acknowledged != 0 {
                doubt.ahead[side] = acknowledged;
                doubt.agreed[side] += 1;
            }
        }
        if doubt.agreed.iter().all(|n| *n >= CERTAIN_AFTER) {
            self.doubt = None;
            self.note("numbers must be certain again".into());
        }
    }

    /// The connection with the host and state of both ends, if both have a part in it.
    fn pair(&self) -> Option<Couple> {
        let connection = self.connection()?;
        let host = self.host_of(connection.server());
        let socket = self.hosts[host].with(connection.server_side.source)?;
        Some(Couple { connection, client: self.hosts[0].state(0), server: self.hosts[host].state(socket), host })
    }

    /// Everything that must hold at any time.
    fn check(&mut self) -> Result<(), Violation> {
        self.check_told()?;
        let now = self.instant();
        self.translator.poll(now);
        self.check_live()?;
        self.check_gone()
    }

    /// Two ends that talk with each other.
    fn check_live(&mut self) -> Result<(), Violation> {
        // The server's end is found by the client's numbers, so that a connection which the translator has forgotten is
        // noticed too.
        let client = self.hosts[0].state(0);
        let Some(client_numbers) = self.hosts[0].numbers(at(ORIGINAL)) else {
            return Ok(());
        };
        let connection = self.connection();
        let (host, alternative) = match connection {
            Some(c) => (self.host_of(c.server()), c.server_side.source),
            None => {
                let paired = (1..3).find_map(|host| self.partner(host, &client_numbers).map(|_| host));
                let silent = self.now - self.last_passed > ESTABLISHED;
                return match paired {
                    Some(_) if client == End::Established && !silent => {
                        Err(self.fail("a live connection was forgotten"))
                    }
                    _ => Ok(()),
                };
            }
        };
        let Some(socket) = self.hosts[host].with(alternative) else {
            return Ok(());
        };
        let server = self.hosts[host].state(socket);
        let Some(server_numbers) = self.hosts[host].numbers(alternative) else {
            return Ok(());
        };
        let Some(connection) = connection else {
            return Ok(());
        };
        let state = connection.state;
        if state == State::Resetting {
            return Ok(());
        }
        let passed = self.passed.get(&(connection.server(), alternative)).copied().unwrap_or_default();
        let paired = match (client, server) {
            (End::SynSent, End::SynReceived) => {
                passed.answered
                    && passed.client.start == Some(client_numbers.start)
                    && passed.server.start == Some(server_numbers.start)
                    && server_numbers.acknowledged == Some(client_numbers.next)
            }
            (End::SynReceived, End::SynReceived) => are_paired(&client_numbers, &server_numbers),
            _ => are_paired(&client_numbers, &server_numbers),
        };
        if !paired {
            return Ok(());
        }
        let mut allowed = permitted(client, server);
        if allowed.is_empty() {
            return Ok(());
        }
        if passed.reset {
            allowed.push(State::Doubtful);
        }
        let established = (client, server) == (End::Established, End::Established);
        let opening = !client.is_synchronized() || !server.is_synchronized();
        if (self.doubt.is_some() && !established)
            || (opening && (passed.over_another || passed.was_reset || passed.server.start.is_none()))
        {
            return Ok(());
        }
        let shown = self.shown.get(&(connection.server(), alternative)).copied().unwrap_or_default().states();
        // Not the translator, but the test: what the segments show to somebody who knows the forged ones.
        if self.plan.check_shown && !shown.iter().any(|s| allowed.contains(s)) {
            return Err(self.fail(format!("TEST client {client:?}, server {server:?}: {shown:?}")));
        }
        self.checked.established += u64::from(established);
        self.checked.closing += u64::from(is_long_lived(state) && state != State::Established);
        if !self.plan.check_shown && !allowed.contains(&state) {
            return Err(self.fail(format!("client {client:?}, server {server:?}: translator {state:?}")));
        }
        // The numbers, once nothing is under way and both have had everything acknowledged.
        let quiet = self.legs.iter().all(Leg::is_empty)
            && client.is_synchronized()
            && server.is_synchronized()
            && !client.waits_for_its_fin()
            && !server.waits_for_its_fin()
            && self.hosts[0].get(0).send_queue() == 0
            && self.hosts[host].get(socket).send_queue() == 0
            && client_numbers.acknowledged == Some(server_numbers.next)
            && server_numbers.acknowledged == Some(client_numbers.next);
        if !quiet || self.doubt.is_some() {
            return Ok(());
        }
        let Some(record) = self.translator.record(&connection) else {
            return Ok(());
        };
        let wanted = [client_numbers.next, server_numbers.next, server_numbers.next, client_numbers.next];
        self.checked.numbers += 1;
        if self.plan.check_shown {
            let Passed { client, server, .. } = passed;
            let shown = [client.next, server.next, server.acknowledged, client.acknowledged];
            let other = client.start != Some(client_numbers.start) || server.start != Some(server_numbers.start);
            return match other || shown == wanted {
                true => Ok(()),
                false => Err(self.fail(format!("TEST numbers {shown:x?}, not {wanted:x?}"))),
            };
        }
        if numbers_of(&record) != wanted {
            let found = numbers_of(&record);
            let unknown = wanted.iter().zip(found).all(|(wanted, found)| *wanted == found || found == 0);
            let rule = if unknown { "numbers that must be known are not" } else { "wrong numbers" };
            return Err(self.fail(format!("{rule}: client {client:?}, server {server:?}")));
        }
        Ok(())
    }

    /// A server's established socket that talks with the client.
    fn partner(&self, host: usize, client: &super::truth::Numbers) -> Option<usize> {
        let server = &self.hosts[host];
        (0..server.count()).find(|number| {
            server.state(*number) == End::Established
                && server.get(*number).remote_endpoint().is_some_and(|peer| {
                    let smoltcp::wire::IpAddress::Ipv4(address) = peer.addr;
                    let numbers = server.numbers(SocketAddrV4::new(address, peer.port));
                    numbers.is_some_and(|n| are_paired(client, &n))
                        && self.target == host
                        && self.hosts[0].get(0).remote_endpoint().is_some()
                })
        })
    }

    /// Two ends that are gone, as could be seen.
    fn check_gone(&mut self) -> Result<(), Violation> {
        let Some(connection) = self.connection() else {
            return Ok(());
        };
        let host = self.host_of(connection.server());
        let alternative = connection.server_side.source;
        let is_gone = self.hosts[0].state(0).is_gone()
            && self.hosts[host].with(alternative).is_none_or(|n| self.hosts[host].state(n).is_gone());
        let quiet = self.legs.iter().all(Leg::is_empty);
        let passed = self.passed.get(&(connection.server(), alternative)).copied().unwrap_or_default();
        if !is_gone || !quiet || self.doubt.is_some() || !(passed.reset || passed.is_over()) {
            return Ok(());
        }
        self.checked.gone += 1;
        if is_long_lived(connection.state) {
            let how = if passed.reset { "reset" } else { "closed" };
            return Err(self.fail(format!("both ends are gone ({how}): translator {:?}", connection.state)));
        }
        Ok(())
    }

    /// A re-divert with `Reset` has told both ends.
    fn check_told(&mut self) -> Result<(), Violation> {
        let Some(told) = self.told else {
            return Ok(());
        };
        // A round trip, one challenge that a stack may put off for a second, another round trip.
        let patience = 8 * self.legs[0].quality.delay + 1_200_000;
        if self.now < told.at + patience {
            return Ok(());
        }
        self.told = None;
        self.checked.told += 1;
        let client = self.hosts[0].state(0);
        let same = self.hosts[0].numbers(at(ORIGINAL)).is_some_and(|n| n.start == told.client_start);
        if same && client.is_synchronized() && !client.is_gone() {
            return Err(self.fail(format!("the client was not told of the re-divert: {client:?}")));
        }
        let host = &self.hosts[told.server];
        let Some(socket) = host.with(told.alternative) else {
            return Ok(());
        };
        let server = host.state(socket);
        let same = host.numbers(told.alternative).is_some_and(|n| n.start == told.server_start);
        if same && server.is_synchronized() && !server.is_gone() {
            return Err(self.fail(format!("the server was not told of the re-divert: {server:?}")));
        }
        Ok(())
    }

    /// One thing that somebody does.
    pub fn step(&mut self) -> Result<(), Violation> {
        let mut pause = [1_000, 20_000, 300_000, 2 * SECOND, 8 * SECOND][self.dice.below(5) as usize];
        if self.plan.idle && self.dice.below(6) == 0 {
            pause = [600, 3_600][self.dice.below(2) as usize] * SECOND;
        }
        match self.dice.below(100) {
            0 => {
                self.note("client aborts".into());
                self.hosts[0].socket(0).abort();
            }
            1..3 => self.with_server("aborts", |host, n| host.socket(n).abort()),
            3..6 if self.hosts[0].state(0) != End::SynReceived => {
                self.note("client closes".into());
                self.hosts[0].socket(0).close();
            }
            6..9 => self.with_server("closes", |host, n| {
                if host.state(n) != End::SynReceived {
                    host.socket(n).close();
                }
            }),
            9 => {
                self.note("client restarts".into());
                let seed = self.dice.below(u64::MAX);
                self.hosts[0] = Host::new(at(CLIENT), 1, seed, self.setup);
                self.told = None;
            }
            10 => {
                let host = 1 + self.dice.below(2) as usize;
                self.note(format!("server {host} restarts"));
                let seed = self.dice.below(u64::MAX);
                self.hosts[host] = Host::new(at([SERVER, OTHER][host - 1]), 3, seed, self.setup);
                self.told = None;
            }
            11..14 if self.plan.moved => self.redivert(),
            14..17 if self.plan.restarted => self.restart(),
            17..30 if self.plan.attacked => self.attack()?,
            30..36 => self.open_from_the_server(),
            36..60 => {
                let length = self.some_length();
                self.hosts[0].send(0, length);
            }
            60..85 => {
                let length = self.some_length();
                let host = self.target;
                let number = self.dice.below(self.hosts[host].count() as u64) as usize;
                self.hosts[host].send(number, length);
            }
            _ => {}
        }
        self.routine()?;
        self.turn()?;
        self.run_until(self.now + pause)
    }

    fn some_length(&mut self) -> usize {
        [1, 100, 1_460, 5_000, 30_000][self.dice.below(5) as usize]
    }

    /// What applications do anyway: read, connect, listen.
    fn routine(&mut self) -> Result<(), Violation> {
        let limit = [0, 500, 1 << 18, 1 << 18][self.dice.below(4) as usize];
        let mut good = self.hosts[0].receive(0, at(SERVER).port(), limit);
        for host in 1..3 {
            for number in 0..self.hosts[host].count() {
                good &= self.hosts[host].receive(number, at(CLIENT).port(), limit);
                if self.hosts[host].state(number) == End::Closed && self.dice.below(3) == 0 {
                    self.hosts[host].listen(number);
                }
            }
        }
        if !good {
            return Err(self.fail("data arrived that was not sent"));
        }
        if self.hosts[0].state(0) == End::Closed && self.dice.below(2) == 0 && self.hosts[0].connect(0, at(ORIGINAL)) {
            self.note("client connects".into());
            if self.dice.below(5) == 0 {
                // The server's SYN crosses the client's.
                self.turn()?;
                self.run_until(self.now + self.legs[0].quality.delay + 60)?;
                self.open_from_the_server();
            }
        }
        Ok(())
    }

    fn with_server(&mut self, what: &str, act: impl FnOnce(&mut Host, usize)) {
        let host = self.target;
        let open =
            (0..self.hosts[host].count()).find(|n| !matches!(self.hosts[host].state(*n), End::Listen | End::Closed));
        if let Some(number) = open {
            self.note(format!("server {host} {what}"));
            act(&mut self.hosts[host], number);
        }
    }

    /// Simultaneous open: the server sends a SYN from its port, without having seen the client's.
    fn open_from_the_server(&mut self) {
        let Some(connection) = self.connection().filter(|c| c.state == State::Opening) else {
            return;
        };
        let host = self.host_of(connection.server());
        if self.hosts[host].with(connection.server_side.source).is_some() {
            return;
        }
        let idle =
            (0..self.hosts[host].count()).find(|n| matches!(self.hosts[host].state(*n), End::Listen | End::Closed));
        if let Some(number) = idle {
            self.hosts[host].socket(number).abort();
            if self.hosts[host].connect(number, connection.server_side.source) {
                self.checked.simultaneous += 1;
                self.note("server connects from its port".into());
            }
        }
    }

    fn redivert(&mut self) {
        let how = [Redivert::Switch, Redivert::Reset, Redivert::Reset][self.dice.below(3) as usize];
        let (from, to) = (self.target, 3 - self.target);
        self.told = None;
        if how == Redivert::Reset
            && self.plan.clean
            && self.doubt.is_none()
            && let Some(Couple { connection, client, server, host }) = self.pair()
            && let Some(client_numbers) = self.hosts[0].numbers(at(ORIGINAL))
            && let Some(server_numbers) = self.hosts[host].numbers(connection.server_side.source)
            && are_paired(&client_numbers, &server_numbers)
            && client.is_synchronized()
            && server.is_synchronized()
            && connection.server() == at([SERVER, OTHER][from - 1])
            && !matches!(connection.state, State::TimeWait | State::Resetting | State::Closing)
        {
            let (server, alternative) = (host, connection.server_side.source);
            let (client_start, server_start) = (client_numbers.start, server_numbers.start);
            self.told = Some(Told { at: self.now, client_start, server, alternative, server_start });
        }
        self.note(format!("re-divert from {from} to {to}: {how:?}"));
        let servers = [SERVER, OTHER];
        self.translator.redivert(at(servers[from - 1]), at(servers[to - 1]), how).expect("two good servers");
        self.target = to;
    }

    /// The translator is restarted with a snapshot, whose numbers may be far behind: that stands for more than 16 MiB
    /// that went another way.
    fn restart(&mut self) {
        if self.connection().is_none_or(|c| !is_long_lived(c.state)) || self.told.is_some() {
            return;
        }
        let shift = [0, 0, 20 << 20, 0x4000_0000][self.dice.below(4) as usize];
        let snapshot: Vec<_> = self.translator.records().map(|record| *record.as_bytes()).collect();
        let mut fresh = translator(&self.config, self.measured, self.target);
        for mut bytes in snapshot {
            for place in [36, 40, 44, 48] {
                let number = u32::from_be_bytes(bytes[place..place + 4].try_into().expect("four bytes"));
                if number != 0 {
                    bytes[place..place + 4].copy_from_slice(&number.wrapping_sub(shift).to_be_bytes());
                }
            }
            let checksum = crc(&bytes[..52]);
            bytes[52..].copy_from_slice(&checksum.to_be_bytes());
            let record = Record::from_bytes(&bytes).expect("a good record");
            let _ = fresh.import(self.instant(), &record);
        }
        self.translator = fresh;
        self.note(format!("the translator is restarted; numbers {shift:#x} behind"));
        if shift != 0 {
            self.doubt = Some(Doubt { agreed: [0; 2], ahead: [0; 2] });
        }
    }

    /// Packets of an attacker that knows addresses and ports and does not see numbers.
    fn attack(&mut self) -> Result<(), Violation> {
        let Some(connection) = self.connection() else {
            return Ok(());
        };
        let classic = self.dice.below(3) == 0;
        let sides = self.dice.below(3);
        for turn in 0..self.dice.below(12) {
            let all = [SYN, FIN | ACK, ACK, RST, RST | ACK, SYN | ACK, PSH | ACK, FIN, FIN | PSH | ACK];
            let flags = match (classic, turn) {
                (true, 0 | 1) => FIN | ACK,
                (true, 2) => SYN,
                _ => all[self.dice.below(all.len() as u64) as usize],
            };
            let from_client = match (classic, turn, sides) {
                (true, 0 | 2, _) | (_, _, 0) => true,
                (true, 1, _) | (_, _, 1) => false,
                _ => self.dice.below(2) == 0,
            };
            let numbers = (flags, self.dice.below(1 << 32) as u32, self.dice.below(1 << 32) as u32);
            let data = if flags & PSH != 0 { &b"forged"[..] } else { b"" };
            let packet = if from_client {
                tcp(connection.client_side.source, connection.client_side.destination, numbers, data)
            } else {
                tcp(connection.server(), connection.server_side.source, numbers, data)
            };
            self.translate(packet, true)?;
        }
        Ok(())
    }

    /// The lines are good from now on; then the time-outs are what the states say.
    pub fn finish(&mut self) -> Result<(), Violation> {
        for leg in &mut self.legs {
            leg.quality = Quality { delay: leg.quality.delay, ..Quality::default() };
        }
        self.note("the lines are good from now on".into());
        for _ in 0..10 {
            self.turn()?;
            for (host, salt) in [(0, 80), (1, 40_000), (2, 40_000)] {
                for number in 0..self.hosts[host].count() {
                    self.hosts[host].receive(number, salt, 1 << 18);
                }
            }
            self.run_until(self.now + 12 * SECOND)?;
        }
        let Some(Couple { connection, client, server, host }) = self.pair() else {
            return self.finish_gone();
        };
        let numbers = (self.hosts[0].numbers(at(ORIGINAL)), self.hosts[host].numbers(connection.server_side.source));
        let paired = matches!(numbers, (Some(client), Some(server)) if are_paired(&client, &server));
        let open = |e| matches!(e, End::Established | End::CloseWait | End::FinWait2);
        if !paired || !open(client) || !open(server) || connection.state == State::Resetting {
            return self.finish_gone();
        }
        let passed =
            self.passed.get(&(connection.server(), connection.server_side.source)).copied().unwrap_or_default();
        let certain = self.doubt.is_none() || (client, server) == (End::Established, End::Established);
        if passed.reset || !certain {
            return Ok(());
        }
        // A flood of other clients' SYNs does not push it out.
        self.checked.flooded += 1;
        for number in 0..300 {
            let other = SocketAddrV4::new(core::net::Ipv4Addr::from_bits(0xc633_6400 + number), 1_000);
            let mut syn = tcp(other, at(ORIGINAL), (SYN, number, 0), b"");
            let _ = self.translator.translate(self.instant(), &mut syn);
        }
        if self.connection().is_none() {
            return Err(self.fail("a flood pushed a live connection out"));
        }
        // Neither does silence, up to the time-out.
        self.checked.idle += 1;
        let end = self.last_passed + ESTABLISHED - 2 * SECOND;
        while self.now < end {
            self.now = end.min(self.now + 60 * SECOND);
            let now = self.instant();
            self.translator.poll(now);
            if self.connection().is_none() {
                let idle = (self.now - self.last_passed) / SECOND;
                return Err(self.fail(format!("a live connection was forgotten after {} idle minutes", idle / 60)));
            }
        }
        Ok(())
    }

    /// Both ends are gone, and four minutes later the translator has forgotten them.
    fn finish_gone(&mut self) -> Result<(), Violation> {
        let Some(connection) = self.connection() else {
            return Ok(());
        };
        let passed =
            self.passed.get(&(connection.server(), connection.server_side.source)).copied().unwrap_or_default();
        let host = self.host_of(connection.server());
        let gone = self.hosts[0].state(0).is_gone()
            && self.hosts[host].with(connection.server_side.source).is_none_or(|n| self.hosts[host].state(n).is_gone());
        if !gone || self.doubt.is_some() || !(passed.reset || passed.is_over()) {
            return Ok(());
        }
        self.checked.expired += 1;
        let end = self.now + TRANSITORY + 2 * SECOND;
        while self.now < end {
            self.now += SECOND;
            let now = self.instant();
            self.translator.poll(now);
        }
        if self.connection().is_some() {
            return Err(self.fail(format!("both ends are gone for four minutes: translator {:?}", connection.state)));
        }
        Ok(())
    }
}

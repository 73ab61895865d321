//! Network namespaces with a TUN device each, and a relay with a translator between them.

#![allow(unreachable_pub, reason = "it is part of one test")]

mod space;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use byway::{
    Config, Connection, Direction, Divert, Heap, PortChoice, Protocol, Record, State, TRANSMIT_BUFFER, Translator,
    Verdict,
};
use tun_rs::SyncDevice;

pub use byway_testing::namespace::in_namespace;
pub use space::{Space, abort, fast_open, keep_alive, socket};

use byway_testing::Dice;
use byway_testing::truth::{self, ACK, End, Numbers, SYN, Segment, are_paired, between, numbers_of, permitted};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);
pub const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(123, 45, 67, 89);
pub const OTHER: Ipv4Addr = Ipv4Addr::new(123, 45, 67, 90);
pub const CLIENT_PORT: u16 = 40_000;
pub const PORT: u16 = 8080;

/// The translator, and what passes it.
pub struct Relay {
    start: Instant,
    pub translator: Translator<Heap>,
    config: Config,
    target: Ipv4Addr,
    client: Arc<SyncDevice>,
    servers: HashMap<Ipv4Addr, Arc<SyncDevice>>,
    /// What each end has sent, by its own address and the peer it sent to.
    said: HashMap<(SocketAddrV4, SocketAddrV4), Numbers>,
    /// When a packet last came.
    last: Instant,
    /// How much of the data in a SYN the last SYN+ACK acknowledged.
    pub taken: Option<u32>,
    /// Packets wait while this is set, after they were translated.
    pub hold: bool,
    held: Vec<(Arc<SyncDevice>, Vec<u8>)>,
    /// Percent that are lost before the translator, and behind it.
    pub loss: [u64; 2],
    dice: Dice,
    pub log: VecDeque<String>,
}

impl Relay {
    pub fn random(&mut self) -> u64 {
        self.dice.number()
    }

    fn is_lost(&mut self, place: usize) -> bool {
        self.loss[place] > 0 && self.random() % 100 < self.loss[place]
    }

    pub fn now(&self) -> byway::Instant {
        byway::Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    fn note(&mut self, line: String) {
        let time = self.start.elapsed().as_secs_f64();
        self.log.push_back(format!("  {time:>10.6} {line}"));
        if self.log.len() > 60 {
            self.log.pop_front();
        }
    }

    fn send(&mut self, device: Arc<SyncDevice>, packet: Vec<u8>) {
        if self.hold {
            self.held.push((device, packet));
        } else {
            let _ = device.send(&packet);
        }
    }

    pub fn release(&mut self) {
        self.hold = false;
        for (device, packet) in core::mem::take(&mut self.held) {
            let _ = device.send(&packet);
        }
    }

    /// A packet of an end, or of an attacker.
    pub fn packet(&mut self, packet: &[u8], forged: bool) {
        let Some(segment) = Segment::read(packet) else {
            return;
        };
        let (source, destination) = truth_ends(packet);
        self.last = Instant::now();
        if !forged {
            let mut numbers = self.said.get(&(source, destination)).copied();
            Numbers::note(&mut numbers, &segment);
            if let Some(numbers) = numbers {
                self.said.insert((source, destination), numbers);
            }
            let peer = self.said.values().find(|n| between(n.start, segment.acknowledgment, n.next));
            if segment.has(SYN)
                && segment.has(ACK)
                && let Some(peer) = peer
            {
                self.taken = Some(segment.acknowledgment.wrapping_sub(peer.start) - 1);
            }
            if self.is_lost(0) {
                return self.note(format!("{source} {segment} lost before"));
            }
        }
        let mut packet = packet.to_vec();
        let now = self.now();
        let verdict = self.translator.translate(now, &mut packet);
        let state = self.connection(destination.port()).or_else(|| self.connection(source.port())).map(|c| c.state);
        let lost = !forged && self.is_lost(1);
        let what = if forged { "FORGED " } else { "" };
        self.note(format!(
            "{what}{source} {segment} {verdict:?}{} -> {state:?}",
            if lost { " lost behind" } else { "" }
        ));
        let to = Ipv4Addr::from_octets(packet[16..20].try_into().expect("four bytes"));
        match (verdict, self.servers.get(&to)) {
            _ if lost => {}
            (Verdict::ToServer, Some(server)) => self.send(server.clone(), packet),
            (Verdict::ToClient, _) => self.send(self.client.clone(), packet),
            _ => {}
        }
        self.speak();
    }

    /// What the translator says itself.
    fn speak(&mut self) {
        let mut buffer = [0; TRANSMIT_BUFFER];
        let now = self.now();
        self.translator.poll(now);
        while let Some(transmit) = self.translator.poll_transmit(now, &mut buffer) {
            let packet = buffer[..transmit.length].to_vec();
            if let Some(segment) = Segment::read(&packet) {
                self.note(format!("itself {:?} {segment}", transmit.direction));
            }
            let to = Ipv4Addr::from_octets(packet[16..20].try_into().expect("four bytes"));
            match (transmit.direction, self.servers.get(&to)) {
                (Direction::ToServer, Some(server)) => self.send(server.clone(), packet),
                (Direction::ToClient, _) => self.send(self.client.clone(), packet),
                _ => {}
            }
        }
    }

    /// The client's connection to a port of the original.
    pub fn connection(&self, port: u16) -> Option<Connection> {
        let client = SocketAddrV4::new(CLIENT, CLIENT_PORT);
        Some(self.translator.connection(Protocol::Tcp, client, SocketAddrV4::new(ORIGINAL, port))?.0)
    }

    pub fn state(&self, port: u16) -> Option<State> {
        self.connection(port).map(|c| c.state)
    }

    fn fresh(config: &Config, target: Ipv4Addr) -> Translator<Heap> {
        let mut translator = Translator::new(config.clone(), Heap::new(64, 4)).expect("good settings");
        translator.divert(Divert::new(ORIGINAL).to(target)).expect("a good rule");
        translator
    }

    /// The numbers of the end that seems to speak, and of its peer, as their own segments tell them.
    fn numbers_of_pair(&self, direction: Direction) -> Option<(Numbers, Numbers)> {
        let c = self.connection(PORT)?;
        let client = *self.said.get(&(c.client_side.source, c.client_side.destination))?;
        let server = *self.said.get(&(c.server_side.destination, c.server_side.source))?;
        Some(if direction == Direction::ToServer { (client, server) } else { (server, client) })
    }

    /// Whether a segment that nobody has sent has both numbers close enough to those of the ends to be believed (RFC 9293,
    /// section 3.10.7.4; the distances are those of `docs/tcp.md`, and more). Of random segments, one in 65 536.
    pub fn is_lucky(&self, direction: Direction, segment: &Segment) -> bool {
        self.numbers_of_pair(direction).is_some_and(|(own, peer)| {
            between(own.next.wrapping_sub(1 << 24), segment.end(), own.next.wrapping_add(1 << 24))
                && between(peer.next.wrapping_sub(1 << 23), segment.acknowledgment, peer.next)
        })
    }

    /// Whether a RST has the number of a byte on its way: its receiver will obey it if that is what arrives last.
    pub fn is_in_flight(&self, direction: Direction, reset: &Segment) -> bool {
        self.numbers_of_pair(direction)
            .is_some_and(|(own, peer)| peer.acknowledged.is_some_and(|n| between(n, reset.sequence, own.next)))
    }

    pub fn redivert(&mut self, to: Ipv4Addr, how: byway::Redivert) {
        self.note(format!("re-divert to {to}: {how:?}"));
        self.translator.redivert(self.target, to, how).expect("two servers");
        self.target = to;
        self.speak();
    }

    pub fn snapshot(&self) -> Vec<Record> {
        self.translator.records().collect()
    }

    /// A translator that knows what is in the snapshot and nothing more.
    pub fn restart(&mut self, snapshot: &[Record]) {
        self.note(format!("the translator is restarted with {} records", snapshot.len()));
        self.translator = Self::fresh(&self.config, self.target);
        let now = self.now();
        for record in snapshot {
            self.translator.import(now, record).expect("a good record");
        }
    }
}

pub fn truth_ends(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let header = usize::from(packet[0] & 15) * 4;
    let address = |at: usize| Ipv4Addr::from_octets(packet[at..at + 4].try_into().expect("four bytes"));
    let port = |at: usize| u16::from_be_bytes([packet[header + at], packet[header + at + 1]]);
    (SocketAddrV4::new(address(12), port(0)), SocketAddrV4::new(address(16), port(2)))
}

/// A client, servers, and the relay between them.
pub struct Lab {
    pub client: Space,
    pub server: Space,
    pub other: Space,
    pub relay: Arc<Mutex<Relay>>,
    stop: Arc<AtomicBool>,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    /// The alternative port is the client's own, so that a translator that has forgotten everything takes it again.
    pub fn with(settings: impl FnOnce(Config) -> Config) -> Self {
        let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
        let config = settings(config.port_choice(PortChoice::Keep));
        let (client, server, other) = (Space::new(CLIENT), Space::new(SERVER), Space::new(OTHER));
        let servers = [(SERVER, server.device.clone()), (OTHER, other.device.clone())].into_iter().collect();
        let relay = Relay {
            start: Instant::now(),
            translator: Relay::fresh(&config, SERVER),
            config,
            target: SERVER,
            client: client.device.clone(),
            servers,
            said: HashMap::new(),
            last: Instant::now(),
            taken: None,
            hold: false,
            held: Vec::new(),
            loss: [0; 2],
            dice: Dice(1),
            log: VecDeque::new(),
        };
        let lab = Self { client, server, other, relay: Arc::new(Mutex::new(relay)), stop: Arc::default() };
        for space in [&lab.client, &lab.server, &lab.other] {
            lab.attend(space);
        }
        let (relay, stop) = (lab.relay.clone(), lab.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                relay.lock().expect("nobody panics").speak();
            }
        });
        lab
    }

    /// Reads what comes out of a namespace, as long as it is the one in use.
    fn attend(&self, space: &Space) {
        let (device, relay) = (space.device.clone(), self.relay.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(length) = device.recv(&mut buffer) {
                let mut relay = relay.lock().expect("nobody panics");
                let known = relay.servers.values().chain([&relay.client]).any(|d| Arc::ptr_eq(d, &device));
                if known {
                    relay.packet(&buffer[..length], false);
                }
            }
        });
    }

    pub fn relay(&self) -> MutexGuard<'_, Relay> {
        self.relay.lock().expect("nobody panics")
    }

    /// The client's machine is switched off, and another one with its address on.
    pub fn restart_client(&mut self) {
        let fresh = Space::new(CLIENT);
        self.relay().client = fresh.device.clone();
        self.attend(&fresh);
        core::mem::forget(core::mem::replace(&mut self.client, fresh));
        self.relay().note("the client has restarted".into());
    }

    /// The same of the server.
    pub fn restart_server(&mut self) {
        let fresh = Space::new(SERVER);
        self.relay().servers.insert(SERVER, fresh.device.clone());
        self.attend(&fresh);
        core::mem::forget(core::mem::replace(&mut self.server, fresh));
        self.relay().note("the server has restarted".into());
    }

    pub fn try_connect(&self, port: u16) -> io::Result<TcpStream> {
        let task = move || {
            let fd = socket(SocketAddrV4::new(CLIENT, CLIENT_PORT));
            rustix::net::connect(&fd, &SocketAddrV4::new(ORIGINAL, port))?;
            Ok(TcpStream::from(fd))
        };
        self.client.run(task)
    }

    /// A connection with both ends.
    pub fn connect(&self) -> (TcpStream, TcpStream) {
        let listener = self.server.listen(SERVER, PORT);
        let client = self.try_connect(PORT).expect("the server listens");
        let (server, _) = listener.accept().expect("the client has connected");
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a good time");
            stream.set_nodelay(true).expect("a good option");
        }
        (client, server)
    }

    fn space_of(&self, server: Ipv4Addr) -> &Space {
        if server == OTHER { &self.other } else { &self.server }
    }

    /// The states of both ends of the connection, as their kernels say.
    pub fn ends(&self) -> (End, End) {
        let client = self.client.state(SocketAddrV4::new(CLIENT, CLIENT_PORT), SocketAddrV4::new(ORIGINAL, PORT));
        let connection = self.relay().connection(PORT);
        let server =
            connection.map_or(End::Closed, |c| self.space_of(*c.server().ip()).state(c.server(), c.server_side.source));
        (client, server)
    }

    /// Waits until no packet has come for a while, which is longer than an ACK is put off (RFC 9293, section 3.8.6.3;
    /// Linux waits 40 to 200 ms).
    pub fn settle(&self) {
        let (start, calm) = (Instant::now(), Duration::from_millis(230));
        while (start.elapsed() < calm || self.relay().last.elapsed() < calm) && start.elapsed() < Duration::from_secs(8)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn story(&self) -> String {
        let relay = self.relay();
        let lines: Vec<_> = relay.log.iter().cloned().collect();
        let connection = relay.connection(PORT);
        let numbers = connection.and_then(|c| relay.translator.record(&c)).map(|r| numbers_of(&r));
        format!("{}\n  {connection:?} {numbers:08x?}\n  {:x?}", lines.join("\n"), relay.said)
    }

    /// Both kernels are in these states, the translator is in one that belongs to them, and it has their numbers. A busy
    /// machine gets some time to come to rest.
    #[track_caller]
    pub fn agree(&self, client: End, server: End) {
        self.in_time(|| {
            let ends = self.ends();
            if ends != (client, server) {
                return Err(format!("the ends themselves are {ends:?}, not {:?}", (client, server)));
            }
            let (state, allowed) = (self.relay().state(PORT), permitted(client, server));
            if !state.is_some_and(|s| allowed.contains(&s)) {
                return Err(format!("{ends:?}: {state:?}, not of {allowed:?}"));
            }
            let (found, wanted) = self.numbers();
            if found != wanted {
                return Err(format!("{ends:?}: numbers {found:08x?} (sent and acknowledged), not {wanted:08x?}"));
            }
            Ok(())
        });
    }

    #[track_caller]
    fn in_time(&self, check: impl Fn() -> Result<(), String>) {
        let start = Instant::now();
        loop {
            self.settle();
            match check() {
                Ok(()) => return,
                Err(fault) if start.elapsed() > Duration::from_secs(2) => panic!("{fault}\n{}", self.story()),
                Err(_) => {}
            }
        }
    }

    /// The translator's numbers, and the ends' own.
    fn numbers(&self) -> (Option<[u32; 4]>, Option<[u32; 4]>) {
        let relay = self.relay();
        let Some(connection) = relay.connection(PORT) else {
            return (None, None);
        };
        let found = relay.translator.record(&connection).map(|r| numbers_of(&r));
        let (c, s) = (connection.client_side, connection.server_side);
        let client = relay.said.get(&(c.source, c.destination));
        let server = relay.said.get(&(s.destination, s.source));
        let wanted = client.zip(server).map(|(client, server)| {
            assert!(are_paired(client, server), "{client:x?} {server:x?}");
            [client.next, server.next, client.acknowledged.unwrap_or(0), server.acknowledged.unwrap_or(0)]
        });
        (found, wanted)
    }

    /// The ends are gone, or one is and the other in TIME-WAIT: nothing that lives for two hours is left.
    #[track_caller]
    pub fn gone(&self) {
        self.in_time(|| {
            let ends = self.ends();
            if !ends.0.is_gone() || !ends.1.is_gone() {
                return Err(format!("the ends themselves are not gone: {ends:?}"));
            }
            match self.relay().state(PORT) {
                Some(state) if truth::is_long_lived(state) || state == State::Opened => {
                    Err(format!("both ends are gone: {state:?}"))
                }
                _ => Ok(()),
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = io::stdout().flush();
    }
}

//! Clients and servers with real TCP stacks around a translator that measures; what their applications did is the truth.

#![allow(unreachable_pub, reason = "the test that has this module uses it")]

use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::BTreeMap;

use byway::{Config, Divert, Heap, Instant, Translator, Verdict, Weighted};
use smoltcp::socket::tcp::State;

use byway_testing::moving::host::{Host, Setup};
use byway_testing::{Dice, at};

pub const SERVICE: &str = "100.100.100.100:80";
/// Microseconds from the translator to a client, one way.
pub const CLIENT_DELAY: u64 = 3_000;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Answers after a time between these two, in microseconds, with so many bytes.
    Answer(u64, u64, usize),
    /// Accepts and never answers.
    Hang,
    /// Answers with a RST.
    Reset,
    /// Answers, and sends a RST after that.
    AnswerAndReset(u64),
    /// Closes without an answer.
    Close,
    /// Listens no longer: its stack refuses connections.
    Refuse,
    /// All packets to it vanish.
    Vanish,
}

/// What the ends know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// SYNs that clients have begun with, and handshakes that they have seen completed.
    pub started: u32,
    pub established: u32,
    /// Response times as the translator must see them, in microseconds.
    pub responses: Vec<u64>,
    /// Requests that have reached the server and wait.
    pub waiting: u32,
    /// Clients that have seen the server close, or reset.
    pub closed: u32,
    pub reset: u32,
}

pub struct Server {
    pub host: Host,
    pub does: Does,
    /// Microseconds from the translator, one way.
    pub delay: u64,
    pub truth: Truth,
    /// Of each socket: bytes of its request so far, and when it will be answered, with how many bytes.
    jobs: Vec<(usize, Option<(u64, usize)>)>,
}

pub struct Client {
    pub host: Host,
    /// The server that it is on.
    pub on: usize,
    requests: u32,
    pub pause: u64,
    next: u64,
    left: usize,
    opened: bool,
    ended: bool,
    /// Bytes of the response that have come.
    got: usize,
    pub answers: u32,
    /// Closes in this way when all is done.
    pub abort: bool,
}

/// Length of every request; more than one segment.
const REQUEST: usize = 2_000;

pub struct Net {
    pub translator: Translator<Heap>,
    pub servers: Vec<Server>,
    pub clients: Vec<Client>,
    /// Packets on their way, by when they arrive: to the translator, to a client or to a server.
    flying: BTreeMap<(u64, u64), (To, Vec<u8>)>,
    sent: u64,
    pub now: u64,
    /// The clients are switched off.
    pub is_over: bool,
    dice: Dice,
    /// Packets and bytes of the translator's, by server and direction, as counted on the lines.
    pub volume: Vec<[(u64, u64); 2]>,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Translator,
    Client(usize),
    Server(usize),
}

fn server_at(number: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 1 + number as u8), 80)
}

impl Net {
    /// Servers that do this, at these distances, with equal shares of the clients.
    pub fn new(seed: u64, servers: &[(Does, u64)]) -> Self {
        let config = Config::new([seed as u8; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(4_096, 64).measured()).unwrap();
        let group: Vec<_> = (0..servers.len()).map(|n| Weighted::new(server_at(n), 1)).collect();
        translator.divert(Divert::new(at(SERVICE)).to_group(&group)).unwrap();
        let servers = servers.iter().enumerate().map(|(n, (does, delay))| {
            let setup = Setup { address: server_at(n), receive: 1 << 14, clock: None, mtu: 1_500, sockets: 60, seed };
            let mut host = Host::new(setup);
            if *does != Does::Refuse {
                host.listen();
            }
            let jobs = vec![(0, None); 60];
            Server { host, does: *does, delay: *delay, truth: Truth::default(), jobs }
        });
        let servers: Vec<_> = servers.collect();
        let volume = vec![[(0, 0); 2]; servers.len()];
        let (clients, flying) = (Vec::new(), BTreeMap::new());
        Self { translator, servers, clients, flying, sent: 0, now: 1_000_000, is_over: false, dice: Dice(seed), volume }
    }

    pub fn server(number: usize) -> SocketAddrV4 {
        server_at(number)
    }

    /// A client that begins at this time and sends so many requests, one after the other.
    pub fn client(&mut self, begins: u64, requests: u32, pause: u64, abort: bool) {
        let number = self.clients.len() as u32;
        let address = SocketAddrV4::new(Ipv4Addr::from_bits(0xc0a8_0001 + number), 40_000);
        let seed = u64::from(number) * 77 + 5;
        let host = Host::new(Setup { address, receive: 1 << 16, clock: None, mtu: 1_500, sockets: 1, seed });
        let next = self.now + begins;
        self.clients.push(Client {
            host,
            on: usize::MAX,
            requests,
            pause,
            next,
            left: 0,
            opened: false,
            ended: false,
            got: 0,
            answers: 0,
            abort,
        });
    }

    fn send(&mut self, to: To, delay: u64, packet: Vec<u8>) {
        self.sent += 1;
        self.flying.insert((self.now + delay, self.sent), (to, packet));
    }

    /// Goes on for so many microseconds.
    pub fn run(&mut self, micros: u64) {
        let end = self.now + micros;
        while self.now < end {
            self.step(end);
        }
        self.translator.poll(Instant::from_micros(self.now));
    }

    fn step(&mut self, end: u64) {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, packet) = entry.remove();
            self.arrive(to, packet);
        }
        if self.is_over {
            self.now = end;
            return;
        }
        self.clients_work();
        self.servers_work();
        let now = self.now;
        let mut next = self.flying.first_key_value().map_or(end, |(at, _)| at.0);
        for client in &mut self.clients {
            next = next.min(client.host.due(now).unwrap_or(end));
            if client.next > now {
                next = next.min(client.next);
            }
        }
        for server in &mut self.servers {
            next = next.min(server.host.due(now).unwrap_or(end));
            let jobs = server.jobs.iter().filter_map(|job| job.1.map(|job| job.0));
            next = jobs.filter(|at| *at > now).fold(next, u64::min);
        }
        self.now = next.clamp(now + 1, end);
    }

    fn arrive(&mut self, to: To, mut packet: Vec<u8>) {
        match to {
            To::Translator => {
                let length = packet.len() as u64;
                let (client, _) = byway_testing::ends(&packet);
                let verdict = self.translator.translate(Instant::from_micros(self.now), &mut packet);
                let (_, destination) = byway_testing::ends(&packet);
                let (source, _) = byway_testing::ends(&packet);
                match verdict {
                    Verdict::ToServer => {
                        let number = usize::from(destination.ip().octets()[3]) - 1;
                        self.count(number, 0, length);
                        self.note_server(*client.ip(), &packet, number);
                        if self.servers[number].does != Does::Vanish {
                            self.send(To::Server(number), self.servers[number].delay, packet);
                        }
                    }
                    Verdict::ToClient => {
                        let number = destination.ip().to_bits() - 0xc0a8_0001;
                        let on = self.clients[number as usize].on;
                        self.count(on, 1, length);
                        self.send(To::Client(number as usize), CLIENT_DELAY, packet);
                    }
                    other => panic!("{other:?} for a packet of {source}"),
                }
            }
            To::Client(number) => {
                self.clients[number].host.wire.received.push_back(packet);
            }
            To::Server(number) => self.servers[number].host.wire.received.push_back(packet),
        }
    }

    fn count(&mut self, server: usize, way: usize, bytes: u64) {
        let volume = &mut self.volume[server][way];
        *volume = (volume.0 + 1, volume.1 + bytes);
    }

    /// Learns which server the client is on that has sent this, if it is its first SYN.
    fn note_server(&mut self, client: Ipv4Addr, packet: &[u8], server: usize) {
        let client = &mut self.clients[(client.to_bits() - 0xc0a8_0001) as usize];
        if packet[33] & 2 != 0 && client.on == usize::MAX {
            client.on = server;
            self.servers[server].truth.started += 1;
        }
    }

    fn clients_work(&mut self) {
        let now = self.now;
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            if !client.opened && client.next <= now {
                client.host.connect(0, at(SERVICE));
                client.opened = true;
            }
            client.host.poll(now);
            let was_waiting = client.left != 0;
            let socket = client.host.socket(0);
            let state = socket.state();
            if client.opened && !client.ended && client.on != usize::MAX {
                let truth = &mut self.servers[client.on].truth;
                if state == State::Established && client.got == 0 && client.answers == 0 && client.next != u64::MAX {
                    // Just established: the first request goes at once.
                    truth.established += 1;
                    client.next = u64::MAX;
                    socket.send_slice(&[7; REQUEST]).unwrap();
                    client.left = 1;
                } else if client.left == 0 && client.next <= now && state == State::Established {
                    client.next = u64::MAX;
                    socket.send_slice(&[7; REQUEST]).unwrap();
                    client.left = 1;
                }
                while let Ok(bytes) = socket.recv(|bytes| (bytes.len(), bytes.to_vec())) {
                    if bytes.is_empty() {
                        break;
                    }
                    client.got += bytes.len();
                    if bytes.last() == Some(&b'.') && was_waiting {
                        (client.left, client.answers) = (0, client.answers + 1);
                        client.next = now + client.pause;
                        if client.answers == client.requests {
                            client.next = u64::MAX;
                            if client.abort {
                                socket.abort();
                                client.ended = true;
                            } else {
                                socket.close();
                            }
                        }
                    }
                }
                match socket.state() {
                    State::Closed if !client.abort => {
                        (client.ended, truth.reset) = (true, truth.reset + 1);
                    }
                    State::CloseWait => {
                        truth.closed += 1;
                        (client.ended, client.next) = (true, u64::MAX);
                        socket.close();
                    }
                    State::TimeWait => client.ended = true,
                    _ => {}
                }
            }
            client.host.poll(now);
            while let Some(packet) = self.clients[number].host.wire.sent.pop_front() {
                self.send(To::Translator, CLIENT_DELAY, packet);
            }
        }
    }

    fn servers_work(&mut self) {
        let now = self.now;
        for number in 0..self.servers.len() {
            let Server { host, does, delay, truth, jobs } = &mut self.servers[number];
            host.poll(now);
            for (place, (got, job)) in jobs.iter_mut().enumerate() {
                let socket = host.socket(place);
                while let Ok(length) = socket.recv(|bytes| (bytes.len(), bytes.len())) {
                    if length == 0 {
                        break;
                    }
                    *got += length;
                    if *got < REQUEST {
                        continue;
                    }
                    *got -= REQUEST;
                    match *does {
                        Does::Answer(least, most, length) => {
                            let think = least + self.dice.below(most - least + 1);
                            *job = Some((now + think, length));
                            truth.responses.push(think + 2 * *delay);
                        }
                        Does::AnswerAndReset(think) => {
                            *job = Some((now + think, 100));
                            truth.responses.push(think + 2 * *delay);
                        }
                        Does::Hang => truth.waiting += 1,
                        Does::Reset => socket.abort(),
                        Does::Close => socket.close(),
                        Does::Refuse | Does::Vanish => {}
                    }
                }
                if let Some((at, length)) = *job
                    && at <= now
                {
                    let mut answer = vec![b'x'; length];
                    *answer.last_mut().unwrap() = b'.';
                    socket.send_slice(&answer).unwrap();
                    *job = if matches!(does, Does::AnswerAndReset(_)) { Some((u64::MAX, 0)) } else { None };
                }
                if matches!(job, Some((u64::MAX, _))) && socket.send_queue() == 0 {
                    *job = None;
                    socket.abort();
                }
                if socket.state() == State::CloseWait {
                    socket.close();
                }
            }
            // What was aborted still has its RST to send.
            host.poll(now);
            if *does != Does::Refuse {
                host.listen();
            }
            let delay = *delay;
            while let Some(packet) = self.servers[number].host.wire.sent.pop_front() {
                self.send(To::Translator, delay, packet);
            }
        }
    }
}

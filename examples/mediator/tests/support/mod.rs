//! A mediator in memory: HTTP clients on pipes, CoAP servers behind a network with a delay and loss, and a clock that
//! the test advances.

#![allow(dead_code, reason = "each test uses its own part")]

use core::cell::RefCell;
use core::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use byway::{Divert, Heap, Instant, Redivert, Translator};
use byway_mediator::counters::Reason;
use byway_mediator::far::link::Link;
use byway_mediator::http::host::Hosts;
use byway_mediator::map::uri::Origin;
use byway_mediator::mediator::{Config, ConnectionId, Mediator};
use byway_mediator::server::{Resource, Server, SharedServer};
use byway_mediator::session::Stream;

pub const ORIGIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 5683);
pub const SERVERS: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 5683), SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 2), 5684)];
const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);

/// Both ends of a TCP connection, as the test has them.
#[derive(Default)]
pub struct Wire {
    to_proxy: VecDeque<u8>,
    from_proxy: VecDeque<u8>,
    pub capacity: usize,
    pub client_has_finished: bool,
    pub proxy_has_finished: bool,
    pub is_aborted: bool,
    pub is_closed: bool,
}

#[derive(Clone)]
pub struct Pipe(Rc<RefCell<Wire>>);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.to_proxy.is_empty() && !wire.client_has_finished {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.to_proxy.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let room = wire.capacity - wire.from_proxy.len();
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let length = bytes.len().min(room);
        wire.from_proxy.extend(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Pipe {
    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().proxy_has_finished = true;
        Ok(())
    }

    fn abort(&mut self) {
        self.0.borrow_mut().is_aborted = true;
    }
}

pub struct World {
    pub mediator: Mediator<Link, Pipe>,
    pub now: Instant,
    pub servers: [SharedServer; 2],
}

pub struct Network {
    /// In each direction.
    pub delay: Duration,
    /// Of a million packets.
    pub loss: u32,
    pub seed: u64,
    pub nstart: usize,
    /// How many alternative ports there are.
    pub ports: u16,
    /// HTTP connections at once, and of one client.
    pub connections: usize,
    pub per_client: usize,
    /// How many bytes a second a client must move.
    pub min_rate: u32,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5),
            loss: 0,
            seed: 1,
            nstart: 1,
            ports: 256,
            connections: 4096,
            per_client: 4096,
            min_rate: 240,
        }
    }
}

pub fn content(length: usize) -> Arc<[u8]> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

impl World {
    /// Two servers, of which the origin is diverted to the first.
    pub fn new(network: Network) -> Self {
        let now = Instant::from_secs(1000);
        let mut link = Link::new(network.delay, network.loss, network.seed);
        let servers = SERVERS.map(|at| {
            let server: SharedServer = Arc::new(Mutex::new(Server::default()));
            link.add(at, server.clone());
            server
        });
        let config = byway::Config::new([7; 32]).alternative(ALTERNATIVE, 40_000..=39_999 + network.ports);
        let mut translator = Translator::new(config, Heap::new(256, 16)).unwrap();
        translator.divert(Divert::new(ORIGIN).to(SERVERS[0])).unwrap();
        let origin: Origin = format!("coap://{ORIGIN}").parse().unwrap();
        let mut config = Config::new(vec![origin], [9; 32]);
        config.hosts = Hosts::new(["x"]).unwrap();
        config.coap.nstart = network.nstart;
        (config.connections, config.per_client) = (network.connections, network.per_client);
        config.pace.min_rate = network.min_rate;
        Self { mediator: Mediator::new(config, link, translator, now), now, servers }
    }

    pub fn put(&mut self, path: &str, resource: &Resource) {
        for server in &self.servers {
            server.lock().unwrap().resources.insert(path.to_owned(), resource.clone());
        }
    }

    /// Moves what is on one server to the other.
    pub fn redivert(&mut self, from: usize, how: Redivert) {
        self.mediator.translator_mut().redivert(SERVERS[from], SERVERS[1 - from], how).unwrap();
    }

    pub fn count(&self, reason: Reason) -> u64 {
        self.mediator.counters().of(reason)
    }

    /// Goes to the next moment at which something happens.
    pub fn step(&mut self) {
        let timer = self.mediator.poll_at(self.now);
        let arrival = self.mediator.device().next_at();
        let next = arrival.map_or(timer, |arrival| arrival.min(timer));
        self.now = next.max(self.now + Duration::from_micros(1));
        self.mediator.poll(self.now);
        self.close();
    }

    pub fn close(&mut self) {
        while let Some((_, pipe)) = self.mediator.closed() {
            pipe.0.borrow_mut().is_closed = true;
        }
    }

    pub fn connect(&mut self) -> Client {
        self.connect_from(IpAddr::from([198, 51, 100, 7]))
    }

    pub fn connect_from(&mut self, address: IpAddr) -> Client {
        let wire = Rc::new(RefCell::new(Wire { capacity: 8192, ..Wire::default() }));
        let id = self.mediator.accept(self.now, address, Pipe(wire.clone())).ok().unwrap();
        Client { id, wire, received: Vec::new(), idle: 0 }
    }

    /// Whether a client from there gets no connection.
    pub fn refuses(&mut self, address: IpAddr) -> bool {
        self.mediator.accept(self.now, address, Pipe(Rc::default())).is_err()
    }

    pub fn requests(&self) -> [u64; 2] {
        [0, 1].map(|at| self.servers[at].lock().unwrap().requests)
    }

    /// Sends a request on a connection of its own, and waits for the response.
    pub fn ask(&mut self, request: &str) -> Response {
        let mut client = self.connect();
        client.send(self, request.as_bytes());
        client.response(self, request.starts_with("HEAD")).expect("a whole response")
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }
}

pub struct Client {
    pub id: ConnectionId,
    pub wire: Rc<RefCell<Wire>>,
    /// What has come and was not taken yet.
    pub received: Vec<u8>,
    idle: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The connection has ended before the response had.
#[derive(Debug, PartialEq, Eq)]
pub struct Aborted;

impl Client {
    pub fn send(&mut self, world: &mut World, bytes: &[u8]) {
        self.wire.borrow_mut().to_proxy.extend(bytes);
        world.mediator.ready(world.now, self.id, true, false);
    }

    pub fn finish(&mut self, world: &mut World) {
        self.wire.borrow_mut().client_has_finished = true;
        world.mediator.ready(world.now, self.id, true, false);
        world.close();
    }

    /// Reads at most so many bytes of what has come.
    pub fn take(&mut self, world: &mut World, most: usize) -> usize {
        let length = {
            let mut wire = self.wire.borrow_mut();
            let length = wire.from_proxy.len().min(most);
            self.received.extend(wire.from_proxy.drain(..length));
            length
        };
        world.mediator.ready(world.now, self.id, false, true);
        world.close();
        length
    }

    pub fn waiting(&self) -> usize {
        self.wire.borrow().from_proxy.len()
    }

    pub fn is_over(&self) -> bool {
        let wire = self.wire.borrow();
        wire.from_proxy.is_empty() && (wire.is_closed || wire.proxy_has_finished || wire.is_aborted)
    }

    /// Steps and reads until a head has come, and takes it.
    pub fn head(&mut self, world: &mut World) -> Result<Response, Aborted> {
        loop {
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Ok(Response { status, head, body: Vec::new() });
            }
            self.more(world)?;
        }
    }

    pub fn more(&mut self, world: &mut World) -> Result<(), Aborted> {
        if self.take(world, usize::MAX) == 0 {
            if self.is_over() {
                return Err(Aborted);
            }
            self.idle += 1;
            assert!(self.idle < 10_000, "nothing comes: {}", world.mediator.counters());
            world.step();
        } else {
            self.idle = 0;
        }
        Ok(())
    }

    /// A whole response, read the way RFC 9112 says.
    pub fn response(&mut self, world: &mut World, is_head: bool) -> Result<Response, Aborted> {
        let mut response = self.head(world)?;
        self.body(world, &mut response, is_head)?;
        Ok(response)
    }

    pub fn body(&mut self, world: &mut World, response: &mut Response, is_head: bool) -> Result<(), Aborted> {
        if is_head || matches!(response.status, 100 | 204 | 304) {
            return Ok(());
        }
        if response.field("Transfer-Encoding") == Some("chunked") {
            while self.chunk(world, response)? {}
            return Ok(());
        }
        if let Some(length) = response.field("Content-Length") {
            let length: usize = length.parse().unwrap();
            while self.received.len() < length {
                self.more(world)?;
            }
            response.body = self.received.drain(..length).collect();
            return Ok(());
        }
        while self.more(world).is_ok() {}
        if self.wire.borrow().is_aborted {
            return Err(Aborted);
        }
        response.body = core::mem::take(&mut self.received);
        Ok(())
    }

    /// Reads a chunk. False for the last one.
    pub fn chunk(&mut self, world: &mut World, response: &mut Response) -> Result<bool, Aborted> {
        let end = loop {
            match self.received.windows(2).position(|bytes| bytes == b"\r\n") {
                Some(end) => break end,
                None => self.more(world)?,
            }
        };
        let size = usize::from_str_radix(core::str::from_utf8(&self.received[..end]).unwrap(), 16).unwrap();
        while self.received.len() < end + 2 + size + 2 {
            self.more(world)?;
        }
        response.body.extend_from_slice(&self.received[end + 2..end + 2 + size]);
        assert_eq!(&self.received[end + 2 + size..][..2], b"\r\n");
        self.received.drain(..end + 2 + size + 2);
        Ok(size != 0)
    }
}

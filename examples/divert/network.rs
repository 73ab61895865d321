//! Four machines and the lines between them, in simulated time.
//!
//! ```text
//!   client ---- 1 ms ---- proxy ---- 12 ms ---- server A
//!                             \----- 12 ms ---- server B
//! ```

use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::VecDeque;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::Ipv4Packet;

use crate::client::Client;
use crate::observer::{Observer, Place};
use crate::proxy::{Proxy, Side};
use crate::server::Server;
use byway_examples::host::Host;

/// How long a packet takes from the client to the proxy.
const NEAR: Duration = Duration::from_millis(1);

/// How long a packet takes from the proxy to a server.
const FAR: Duration = Duration::from_millis(12);

/// How long a byte keeps a line busy, in nanoseconds: 100 Mbit/s.
const OCTET: u64 = 80;

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) client: Host,
    pub(crate) proxy: Proxy,
    pub(crate) observer: Observer,
    servers: Vec<Site>,
    to_client: Line,
    to_proxy: Line,
}

/// A server and the two lines to it.
struct Site {
    name: char,
    address: Ipv4Addr,
    host: Host,
    server: Server,
    to_server: Line,
    to_proxy: Line,
}

impl Network {
    pub(crate) fn new(client: Ipv4Addr, servers: &[(char, SocketAddrV4)], proxy: Proxy, observer: Observer) -> Self {
        let site = |&(name, endpoint): &(char, SocketAddrV4)| {
            let mut host = Host::new(*endpoint.ip(), u64::from(name));
            let server = Server::new(name, endpoint.port(), &mut host);
            let (to_server, to_proxy) = (Line::new(FAR), Line::new(FAR));
            Site { name, address: *endpoint.ip(), host, server, to_server, to_proxy }
        };
        Self {
            now: Instant::ZERO,
            client: Host::new(client, 1),
            proxy,
            observer,
            servers: servers.iter().map(site).collect(),
            to_client: Line::new(NEAR),
            to_proxy: Line::new(NEAR),
        }
    }

    /// Lets everything happen that happens now.
    pub(crate) fn act(&mut self, client: &mut dyn Client) {
        let now = self.now;
        self.arrive_at_proxy();
        while let Some(packet) = self.to_client.arrived(now) {
            self.observer.receives(Place::Client, &packet);
            self.client.plug.received.push_back(packet);
        }
        self.client.poll(now);
        client.act(now, &mut self.client);
        self.client.poll(now);
        for packet in self.client.plug.sent.drain(..) {
            self.observer.sends(Place::Client, &packet);
            self.to_proxy.send(now, packet);
        }
        for site in &mut self.servers {
            site.act(now, &mut self.observer);
        }
    }

    /// Moves time on to when the next thing happens, but not beyond `limit`.
    pub(crate) fn advance(&mut self, client: &dyn Client, limit: Instant) {
        let soonest = self.now + Duration::from_micros(1);
        self.now = self.next(client).unwrap_or(limit).max(soonest).min(limit);
    }

    /// When the next thing happens.
    pub(crate) fn next(&mut self, client: &dyn Client) -> Option<Instant> {
        let proxy = self.proxy.translator.poll_at().map(smoltcp_time);
        let client = [client.wake_at(), self.client.poll_at(self.now), self.to_client.next(), self.to_proxy.next()];
        let site = |site: &mut Site| [site.host.poll_at(self.now), site.to_server.next(), site.to_proxy.next()];
        self.servers.iter_mut().flat_map(site).chain(client).chain([proxy]).flatten().min()
    }

    /// The proxy's work: all that came on one side goes out on the other, or not.
    fn arrive_at_proxy(&mut self) {
        let now = byway_time(self.now);
        while let Some(packet) = self.to_proxy.arrived(self.now) {
            if let Some(packet) = self.proxy.forward(now, Side::Client, packet, &mut self.observer) {
                self.route(packet);
            }
        }
        for place in 0..self.servers.len() {
            while let Some(packet) = self.servers[place].to_proxy.arrived(self.now) {
                if let Some(packet) = self.proxy.forward(now, Side::Network, packet, &mut self.observer) {
                    self.to_client.send(self.now, packet);
                }
            }
        }
        for (side, packet) in self.proxy.poll(now) {
            match side {
                Side::Client => self.to_client.send(self.now, packet),
                Side::Network => self.route(packet),
            }
        }
    }

    /// Sends a packet to the server that it is for. What is for nobody, such as the original destination, is lost.
    fn route(&mut self, packet: Vec<u8>) {
        let destination = Ipv4Packet::new_checked(&packet[..]).map(|packet| packet.dst_addr());
        if let Some(site) = self.servers.iter_mut().find(|site| Ok(site.address) == destination) {
            site.to_server.send(self.now, packet);
        }
    }
}

impl Site {
    fn act(&mut self, now: Instant, observer: &mut Observer) {
        while let Some(packet) = self.to_server.arrived(now) {
            observer.receives(Place::Server(self.name), &packet);
            self.host.plug.received.push_back(packet);
        }
        self.host.poll(now);
        self.server.act(&mut self.host);
        self.host.poll(now);
        for packet in self.host.plug.sent.drain(..) {
            observer.sends(Place::Server(self.name), &packet);
            self.to_proxy.send(now, packet);
        }
    }
}

/// One way of a line: it has a delay and a rate, and loses nothing.
struct Line {
    delay: Duration,
    /// When it has sent what it was given so far.
    free: Instant,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Line {
    fn new(delay: Duration) -> Self {
        Self { delay, free: Instant::ZERO, under_way: VecDeque::new() }
    }

    fn send(&mut self, now: Instant, packet: Vec<u8>) {
        let busy = Duration::from_micros((packet.len() as u64 * OCTET).div_ceil(1000));
        self.free = self.free.max(now) + busy;
        self.under_way.push_back((self.free + self.delay, packet));
    }

    fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next().filter(|at| *at <= now)?;
        self.under_way.pop_front().map(|(_, packet)| packet)
    }

    fn next(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, _)| *at)
    }
}

/// The simulation begins at zero, so that no time is negative.
pub(crate) fn byway_time(time: Instant) -> byway::Instant {
    byway::Instant::from_micros(time.total_micros().unsigned_abs())
}

fn smoltcp_time(time: byway::Instant) -> Instant {
    Instant::from_micros(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

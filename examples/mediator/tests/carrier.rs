//! The device over UDP sockets: what it carries, and what it drops and counts.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::net::UdpSocket;

use byway::{Config, Divert, Heap, Instant, Translator};
use byway_mediator::far::carrier::{Carrier, Dropped, Ports, client, inside, outside};
use byway_mediator::far::{Far, Lane, STACK, Way};
use smoltcp::phy;

const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
const ORIGIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5683);
const SOCKETS: u16 = 8;

struct World {
    far: Far<Carrier>,
    server: UdpSocket,
    now: Instant,
    lane: Lane,
}

impl World {
    fn new() -> Self {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let SocketAddr::V4(at) = server.local_addr().unwrap() else { unreachable!() };
        let ports = 40_000..=39_999 + SOCKETS;
        let carrier = Carrier::open(Ipv4Addr::UNSPECIFIED, ALTERNATIVE, ports.clone(), Ports::Any).unwrap();
        let config = Config::new([3; 32]).alternative(ALTERNATIVE, ports);
        let mut byway = Translator::new(config, Heap::new(64, 4)).unwrap();
        byway.divert(Divert::new(ORIGIN).to(SocketAddrV4::new(inside(*at.ip()), at.port()))).unwrap();
        let now = Instant::from_secs(1);
        let mut far = Far::new(carrier, byway, 9, now);
        let lane = far.lease(now, STACK, ORIGIN, None).unwrap();
        Self { far, server, now, lane }
    }

    fn way(&self, client: u8) -> Way {
        Way { lane: self.lane, client: Ipv4Addr::new(198, 51, 100, client), origin: ORIGIN }
    }

    fn send(&mut self, way: Way, bytes: &[u8]) {
        assert!(self.far.send(way, bytes));
        self.far.poll(self.now);
    }

    /// The next datagram that comes within a second.
    fn receive(&mut self) -> Option<(Way, Vec<u8>)> {
        let mut buffer = Vec::new();
        for _ in 0..100 {
            (0..usize::from(SOCKETS)).for_each(|socket| self.far.device_mut().mark_ready(socket));
            self.now = self.now + Duration::from_millis(10);
            self.far.poll(self.now);
            if let Some(way) = self.far.receive(&mut buffer) {
                return Some((way, buffer));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

#[test]
fn each_connection_has_a_socket_of_its_own_and_answers_find_it() {
    let mut world = World::new();
    let mut sources = Vec::new();
    for number in 1..=4 {
        world.send(world.way(number), &[number]);
        let mut byte = [0; 8];
        let (length, from) = world.server.recv_from(&mut byte).unwrap();
        assert_eq!(byte[..length], [number]);
        sources.push(from);
    }
    let mut distinct = sources.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
    for (number, from) in (1..=4).zip(&sources).rev() {
        world.server.send_to(&[number, number], from).unwrap();
        assert_eq!(world.receive(), Some((world.way(number), vec![number, number])));
    }
    assert_eq!(world.far.device().dropped(), Dropped::default());
}

#[test]
fn what_is_not_carried_is_counted() {
    let mut world = World::new();
    // No rule is about this origin.
    let elsewhere = Way { origin: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 5683), ..world.way(1) };
    world.send(elsewhere, b"nowhere");
    assert_eq!(world.far.device().dropped(), Dropped { undiverted: 1, ..Dropped::default() });
    // An answer that is longer than the stack's packets, one that is just not, and one of somebody else.
    world.send(world.way(1), b"?");
    let mut byte = [0; 8];
    let (_, from) = world.server.recv_from(&mut byte).unwrap();
    world.server.send_to(&[7; 1473], from).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"forged", from).unwrap();
    world.server.send_to(&[8; 1472], from).unwrap();
    assert_eq!(world.receive(), Some((world.way(1), vec![8; 1472])));
    assert_eq!(world.far.device().dropped(), Dropped { undiverted: 1, oversized: 1, ..Dropped::default() });
    assert_eq!(world.far.translator().counters().dropped_in_all(), 1);
}

/// Somebody may always send another one.
#[test]
fn what_is_dropped_takes_turns_with_everything_else() {
    let (ports, which) = (40_000..=40_000, Ports::Any);
    let mut carrier = Carrier::open(Ipv4Addr::LOCALHOST, ALTERNATIVE, ports, which).unwrap();
    let at = carrier.endpoints().next().unwrap().unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..66 {
        assert_eq!(server.send_to(&[7; 1473], at).unwrap(), 1473);
    }
    carrier.mark_ready(0);
    let mut turns = 0;
    while carrier.is_ready() {
        assert!(phy::Device::receive(&mut carrier, smoltcp::time::Instant::ZERO).is_none());
        turns += 1;
    }
    assert_eq!((turns, carrier.dropped().oversized), (2, 66));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let ports = taken.port()..=taken.port();
    let error = Carrier::open(Ipv4Addr::LOCALHOST, ALTERNATIVE, ports, Ports::Same).unwrap_err();
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}

#[test]
fn loopback_addresses_have_other_names_inside() {
    let [loopback, name] = [[127, 0, 3, 4], [198, 18, 3, 4]].map(Ipv4Addr::from);
    assert_eq!((inside(loopback), outside(name)), (name, loopback));
    let clients =
        ["198.51.100.7", "::ffff:198.51.100.7", "127.0.0.1", "198.18.0.1", "2001:db8::1", "224.0.0.1", "0.0.0.0"];
    let known = clients.map(|text| client(text.parse().unwrap()).to_string());
    let stack = "192.0.0.8";
    assert_eq!(known, ["198.51.100.7", "198.51.100.7", stack, stack, stack, stack, stack]);
}

//! The smoltcp device hands connections over: a client's stack sits on it, servers are behind the wrapped device, and a
//! download changes servers in the middle.

use core::net::SocketAddrV4;
use std::collections::VecDeque;

use byway::device::TranslatingDevice;
use byway::{Config, Divert, HandOvers, Heap, HttpGet, Outcome, Redivert, Translator};
use byway_testing::at;
use byway_testing::moving::host::{Host, Setup, endpoint};
use byway_testing::moving::http;
use byway_testing::moving::net::{client, original, server};
use byway_testing::moving::web::{Asking, Fault, Serving};
use smoltcp::iface::{Config as Settings, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

const STACK: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ETHERNET: usize = 14;

/// The network that the servers are in: a router behind a cable, which takes so many frames at a time.
#[derive(Debug)]
struct Cable {
    medium: Medium,
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    room: usize,
}

struct Received(Vec<u8>);
struct Leave<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Leave<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Cable {
    type RxToken<'a> = Received;
    type TxToken<'a> = Leave<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = if self.medium == Medium::Ethernet { 1514 } else { 1500 };
        capabilities
    }

    fn receive(&mut self, _: Instant) -> Option<(Received, Leave<'_>)> {
        if self.sent.len() >= self.room {
            return None;
        }
        Some((Received(self.received.pop_front()?), Leave(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leave<'_>> {
        (self.sent.len() < self.room).then_some(Leave(&mut self.sent))
    }
}

type Tested = TranslatingDevice<Cable, Heap, Vec<u8>, HandOvers<'static, HttpGet<4>, 2>>;

/// A client on the device, and three servers behind it.
struct World {
    now: i64,
    device: Tested,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    asking: Asking,
    servers: Vec<Host>,
    serving: Vec<Vec<Serving>>,
    outcomes: Vec<Outcome>,
}

const SOCKETS: usize = 24;

impl World {
    fn new(medium: Medium, room: usize, paths: &[&str]) -> Self {
        let config = Config::new([7; 32]).alternative(at("10.10.10.10:1").ip().to_owned(), 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(64, 8).resumable()).unwrap();
        translator.divert(Divert::new(original()).to(server(0)).resumable()).unwrap();
        let cable = Cable { medium, received: VecDeque::new(), sent: VecDeque::new(), room };
        let buffer = Box::leak(vec![0; 32_768].into_boxed_slice());
        let device = TranslatingDevice::new(cable, translator, [vec![0; 1514], vec![0; 1514]]);
        let mut device = device.with_hand_overs(HandOvers::new(http(), buffer));
        let hardware = match medium {
            Medium::Ethernet => HardwareAddress::Ethernet(EthernetAddress(STACK)),
            _ => HardwareAddress::Ip,
        };
        let mut interface = Interface::new(Settings::new(hardware), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|all| {
            all.push(IpCidr::new(IpAddress::Ipv4(*client().ip()), 24)).unwrap();
            // It answers ARP requests for the alternative address too.
            all.push(IpCidr::new(IpAddress::Ipv4(*at("10.10.10.10:1").ip()), 32)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(*at("1.2.3.1:1").ip()).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 1 << 16]), SocketBuffer::new(vec![0; 4096]));
        socket.set_tsval_generator(Some(clock));
        let socket = sockets.add(socket);
        let host = |number: usize| {
            let clock = Some(1_000_000 * number as u32 + 7);
            let (receive, seed) = (1 << 16, 3 + number as u64);
            Host::new(Setup { address: server(number), receive, clock, mtu: 1_500, sockets: SOCKETS, seed })
        };
        let serving = vec![vec![Serving::default(); SOCKETS]; 3];
        let asking = Asking::new(paths);
        let servers = (0..3).map(host).collect();
        Self { now: 1_000, device, interface, sockets, socket, asking, servers, serving, outcomes: Vec::new() }
    }

    fn connect(&mut self) {
        self.servers.iter_mut().for_each(Host::listen);
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        socket.connect(self.interface.context(), endpoint(original()), client().port()).unwrap();
    }

    /// Lets a millisecond pass.
    fn step(&mut self) {
        self.now += 1;
        CLOCK.set(self.now as u32);
        let now = Instant::from_millis(self.now);
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        self.asking.work(self.sockets.get_mut::<Socket>(self.socket));
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        let cable = self.device.inner_mut();
        while let Some(frame) = cable.sent.pop_front() {
            route(cable, &mut self.servers, frame);
        }
        for (number, host) in self.servers.iter_mut().enumerate() {
            host.poll(self.now as u64 * 1_000);
            for (socket, serving) in self.serving[number].iter_mut().enumerate() {
                serving.work(host.socket(socket), &"B".repeat(number * 7 + 1), Fault::None);
            }
            host.listen();
            host.poll(self.now as u64 * 1_000);
            while let Some(packet) = host.wire.sent.pop_front() {
                let frame = match cable.medium {
                    Medium::Ethernet => [&STACK[..], &ROUTER, &[8, 0], &packet].concat(),
                    _ => packet,
                };
                cable.received.push_back(frame);
            }
        }
        let (_, hand_overs) = self.device.parts_mut();
        self.outcomes.extend(core::iter::from_fn(|| hand_overs.poll_outcome()));
    }

    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..60_000 {
            if is_so(self) {
                return;
            }
            self.step();
        }
        panic!("{what}: stands at {}, {:?}", self.asking.received, self.outcomes);
    }

    fn stands_on(&self) -> SocketAddrV4 {
        self.device.translator().connections().next().unwrap().server_side.destination
    }
}

thread_local! {
    static CLOCK: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}

fn clock() -> u32 {
    CLOCK.get()
}

/// The router: it answers ARP requests, and delivers packets.
fn route(cable: &mut Cable, servers: &mut [Host], frame: Vec<u8>) {
    let packet = match cable.medium {
        Medium::Ethernet if frame[12..ETHERNET] == [8, 6] => {
            let mut reply = frame.clone();
            let (asks, wants) = (frame[22..32].to_vec(), frame[38..42].to_vec());
            reply[..6].copy_from_slice(&STACK);
            reply[6..12].copy_from_slice(&ROUTER);
            reply[21] = 2;
            reply[22..28].copy_from_slice(&ROUTER);
            reply[28..32].copy_from_slice(&wants);
            reply[32..42].copy_from_slice(&asks);
            return cable.received.push_back(reply);
        }
        Medium::Ethernet => {
            assert_eq!(frame[..12], [ROUTER, STACK].concat(), "a frame to the router");
            frame[ETHERNET..].to_vec()
        }
        _ => frame,
    };
    let to = servers.iter_mut().find(|host| packet[16..20] == host.setup.address.ip().octets());
    to.expect("a packet to a server").wire.received.push_back(packet);
}

/// A download, moved twice in the middle and once by a re-divert at rest; on both media, and where the cable has hardly
/// any room.
#[test]
fn a_download_changes_servers_behind_the_device() {
    for (medium, room) in [(Medium::Ip, 1_000), (Medium::Ethernet, 1_000), (Medium::Ip, 2), (Medium::Ethernet, 1)] {
        let mut world = World::new(medium, room, &["/c/2000", "/large/400000"]);
        world.connect();
        for (received, to) in [(100_000, 1), (200_000, 2)] {
            world.until("there", |world| world.asking.done == 1 && world.asking.received > received);
            let mut begun = Err(byway::Kept::NotNow);
            for _ in 0..500 {
                let now = byway::Instant::from_millis(world.now as u64);
                let pair = byway::Pair { source: client(), destination: original() };
                let (translator, hand_overs) = world.device.parts_mut();
                begun = hand_overs.begin(now, translator, &pair, server(to));
                if begun.is_ok() {
                    break;
                }
                world.step();
            }
            assert_eq!(begun, Ok(()), "{medium:?} {room}");
            world.until("an outcome", |world| !world.outcomes.is_empty());
            let outcome = world.outcomes.pop();
            assert!(matches!(outcome, Some(Outcome::Moved { .. })), "{medium:?} {room}: {outcome:?}");
            assert_eq!(world.stands_on(), server(to));
        }
        world.until("the end", |world| world.asking.done == 2);
        // By an instruction, which the device itself follows.
        let how = Redivert::HandOver;
        world.device.translator_mut().redivert(server(2), server(0), how).unwrap();
        world.until("the re-divert", |world| world.stands_on() == server(0));
        world.asking.paths = vec!["/b/3000".into()];
        world.until("a third answer", |world| world.asking.done == 3);
        assert_eq!(world.device.hand_overs().moved(), 3, "{medium:?} {room}");
        assert_eq!((world.device.unaddressed(), world.device.oversized()), (0, 0));
        assert!(world.sockets.get::<Socket>(world.socket).is_active(), "the client's one connection");
    }
}

/// The device says when it has to be polled for a hand-over, and does nothing of that kind without one.
#[test]
fn a_hand_over_is_due() {
    let mut world = World::new(Medium::Ip, 1_000, &["/c/2000"]);
    world.connect();
    world.until("the answer", |world| world.asking.done == 1);
    (0..500).for_each(|_| world.step());
    let idle = world.device.poll_at().unwrap();
    assert!(idle > Instant::from_millis(world.now + 1_000), "{idle}");
    let now = byway::Instant::from_millis(world.now as u64);
    let pair = byway::Pair { source: client(), destination: original() };
    let (translator, hand_overs) = world.device.parts_mut();
    hand_overs.begin(now, translator, &pair, server(1)).unwrap();
    let due = world.device.poll_at().unwrap();
    assert!(due <= Instant::from_millis(world.now), "{due}");
    world.until("an outcome", |world| !world.outcomes.is_empty());
    assert!(matches!(world.outcomes[..], [Outcome::Moved { replayed: 0, .. }]), "{:?}", world.outcomes);
}

use core::cell::RefCell;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use byway::{Config, Divert, Fixed, Instant, Redivert, Translator};
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken as _, TxToken as _};

use crate::{Shared, TranslatingDriver};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
const A: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 20);
const B: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 30);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// A driver whose other end is the test.
struct Fake {
    came: Queue,
    sent: Queue,
    medium: HardwareAddress,
    /// How many calls of `transmit` find room before one finds the queue full.
    room: Option<usize>,
}

struct Came(Vec<u8>);
struct Sent(Queue);

impl embassy_net_driver::RxToken for Came {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

impl embassy_net_driver::TxToken for Sent {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.borrow_mut().push_back(frame);
        result
    }
}

impl Driver for Fake {
    type RxToken<'a> = Came;
    type TxToken<'a> = Sent;

    fn receive(&mut self, _: &mut Context<'_>) -> Option<(Came, Sent)> {
        Some((Came(self.came.borrow_mut().pop_front()?), Sent(self.sent.clone())))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Sent> {
        self.room = match self.room {
            Some(0) => {
                self.room = None;
                return None;
            }
            room => room.map(|room| room - 1),
        };
        Some(Sent(self.sent.clone()))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.medium
    }
}

/// The one's complement sum of `bytes`, complemented (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn packet(protocol: u8, source: SocketAddrV4, destination: SocketAddrV4, rest: &[u8]) -> Vec<u8> {
    let total = (24 + rest.len() as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(source.ip().octets());
    packet.extend(destination.ip().octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(source.port().to_be_bytes());
    packet.extend(destination.port().to_be_bytes());
    packet.extend(rest);
    packet
}

/// A datagram without a checksum.
fn udp(source: SocketAddrV4, destination: SocketAddrV4) -> Vec<u8> {
    packet(17, source, destination, &[0, 12, 0, 0, b'd', b'a', b't', b'a'])
}

fn tcp(source: SocketAddrV4, destination: SocketAddrV4, flags: u8, sequence: u32, acknowledgement: u32) -> Vec<u8> {
    let mut rest = [sequence.to_be_bytes(), acknowledgement.to_be_bytes()].concat();
    rest.extend([5 << 4, flags, 32, 0, 0, 0, 0, 0]);
    let mut segment = packet(6, source, destination, &rest);
    let pseudo = [&segment[12..20], &[0, 6, 0, 20], &segment[20..]].concat();
    let sum = checksum(&pseudo);
    segment[36..38].copy_from_slice(&sum);
    segment
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

fn ends(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let address = |place: usize| Ipv4Addr::new(packet[place], packet[place + 1], packet[place + 2], packet[place + 3]);
    let port = |place: usize| u16::from_be_bytes([packet[place], packet[place + 1]]);
    (at(address(12), port(20)), at(address(16), port(22)))
}

type Storage = Fixed<64, 4>;

fn shared() -> Shared<Storage> {
    let config = Config::new([7; 32]).alternative(NEAR, 1024..=65535);
    let mut translator = Translator::new(config, Storage::new()).expect("the configuration is good");
    translator.divert(Divert::new(ORIGINAL).to(A)).expect("there is room");
    Shared::new(translator, || Instant::from_secs(1))
}

struct Bench<'s> {
    driver: TranslatingDriver<'s, Fake, Storage, [u8; 1514]>,
    came: Queue,
    sent: Queue,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'s> Bench<'s> {
    fn new(shared: &'s Shared<Storage>, medium: HardwareAddress) -> Self {
        Self::full_after(shared, medium, None)
    }

    fn full_after(shared: &'s Shared<Storage>, medium: HardwareAddress, room: Option<usize>) -> Self {
        let (came, sent) = (Queue::default(), Queue::default());
        let fake = Fake { came: came.clone(), sent: sent.clone(), medium, room };
        Self { driver: TranslatingDriver::new(fake, shared, [0; 1514]), came, sent, woken: Arc::default() }
    }

    fn header(&self, out: bool) -> Vec<u8> {
        match self.driver.hardware_address() {
            HardwareAddress::Ethernet(_) if out => [&ROUTER[..], &MAC, &[8, 0]].concat(),
            HardwareAddress::Ethernet(_) => [&MAC[..], &ROUTER, &[8, 0]].concat(),
            _ => Vec::new(),
        }
    }

    /// The stack sends a packet; what the wrapped driver sends.
    fn send(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let frame = [self.header(true), packet.to_vec()].concat();
        let waker = Waker::from(self.woken.clone());
        let token = self.driver.transmit(&mut Context::from_waker(&waker)).expect("there is room");
        token.consume(frame.len(), |room| room.copy_from_slice(&frame));
        self.sent.borrow_mut().pop_front()
    }

    /// What the stack gets next.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let waker = Waker::from(self.woken.clone());
        let (received, _) = self.driver.receive(&mut Context::from_waker(&waker))?;
        Some(received.consume(|frame| frame.to_vec()))
    }

    /// A client opens a connection to the original; where its server sees it.
    fn connect(&mut self, client: SocketAddrV4) -> SocketAddrV4 {
        let sent = self.send(&tcp(client, at(ORIGINAL, 80), 2, 100, 0)).expect("it is sent");
        let (near, server) = ends(&sent[self.header(true).len()..]);
        assert!(!self.came(&tcp(server, near, 0x12, 500, 101)).is_empty());
        assert!(self.send(&tcp(client, at(ORIGINAL, 80), 0x10, 101, 501)).is_some());
        near
    }

    /// A packet comes from the network; what the stack gets.
    fn came(&mut self, packet: &[u8]) -> Vec<u8> {
        let frame = [self.header(false), packet.to_vec()].concat();
        self.came.borrow_mut().push_back(frame);
        self.receive().expect("a frame came")
    }
}

const MEDIA: [HardwareAddress; 2] = [HardwareAddress::Ethernet(MAC), HardwareAddress::Ip];

#[test]
fn what_the_stack_asks_for_is_diverted_and_the_answer_restored() {
    for medium in MEDIA {
        let shared = shared();
        let mut bench = Bench::new(&shared, medium);
        let sent = bench.send(&udp(at(CLIENT, 5000), at(ORIGINAL, 53))).expect("it is sent");
        let header = bench.header(true).len();
        assert_eq!(sent[..header], bench.header(true));
        let (near, server) = ends(&sent[header..]);
        assert_eq!((*near.ip(), server), (NEAR, at(A, 53)));
        let got = bench.came(&udp(server, near));
        assert_eq!(got[..header], bench.header(false));
        assert_eq!(ends(&got[header..]), (at(ORIGINAL, 53), at(CLIENT, 5000)));
    }
}

#[test]
fn what_is_not_ours_passes_untouched() {
    for medium in MEDIA {
        let shared = shared();
        let mut bench = Bench::new(&shared, medium);
        let header = bench.header(true).len();
        let other = udp(at(CLIENT, 5000), at(B, 53));
        assert_eq!(bench.send(&other).expect("it is sent")[header..], other);
        let answer = udp(at(B, 53), at(CLIENT, 5000));
        assert_eq!(bench.came(&answer)[header..], answer);
    }
    // ARP is none of ours either, whatever it contains.
    let shared = shared();
    let mut bench = Bench::new(&shared, HardwareAddress::Ethernet(MAC));
    let arp = [&MAC[..], &ROUTER, &[8, 6], &udp(at(CLIENT, 1), at(ORIGINAL, 2))].concat();
    bench.came.borrow_mut().push_back(arp.clone());
    assert_eq!(bench.receive(), Some(arp));
    assert_eq!(shared.with(|_, translator| translator.slots_in_use()), 0);
}

#[test]
fn what_is_dropped_is_not_sent_and_reaches_the_stack_empty() {
    for medium in MEDIA {
        let shared = shared();
        let mut bench = Bench::new(&shared, medium);
        assert!(bench.came(&udp(at(A, 53), at(NEAR, 2000))).is_empty());
        let mut damaged = udp(at(CLIENT, 5000), at(ORIGINAL, 53));
        damaged[3] = 21;
        assert_eq!(bench.send(&damaged), None);
    }
}

#[test]
fn a_reset_wakes_the_network_and_reaches_both_ends() {
    for medium in MEDIA {
        let shared = shared();
        let mut bench = Bench::new(&shared, medium);
        let header = bench.header(true).len();
        let client = at(CLIENT, 5000);
        let near = bench.connect(client);
        assert_eq!(bench.receive(), None);

        bench.woken.0.store(false, Ordering::Relaxed);
        let moved = shared.with(|_, translator| translator.redivert(A, B, Redivert::Reset)).expect("A is known");
        assert_eq!(moved.connections, 1);
        assert!(bench.woken.0.load(Ordering::Relaxed));

        let told = bench.receive().expect("the client is told");
        assert_eq!(told[..header], bench.header(false));
        assert_eq!(ends(&told[header..]), (at(ORIGINAL, 80), client));
        assert_eq!((told[header + 33] & 4, &told[header + 24..header + 28]), (4, &501_u32.to_be_bytes()[..]));
        while bench.receive().is_some() {}
        let told = bench.sent.borrow_mut().pop_front().expect("the server is told");
        assert_eq!(told[..header], bench.header(true));
        assert_eq!((ends(&told[header..]), told[header + 33] & 4), ((near, at(A, 80)), 4));
    }
}

/// The queue is full at one call and has room at the next: whichever call it is, each end gets its own RST and nothing
/// else, and a frame that comes meanwhile arrives.
#[test]
fn a_full_queue_sends_no_reset_to_the_wrong_side() {
    for (medium, full) in MEDIA.into_iter().flat_map(|medium| (0..8).map(move |full| (medium, full))) {
        let shared = shared();
        let mut bench = Bench::full_after(&shared, medium, Some(2 + full));
        let header = bench.header(true).len();
        let client = at(CLIENT, 5000);
        let near = bench.connect(client);
        shared.with(|_, translator| translator.redivert(A, B, Redivert::Reset)).expect("A is known");
        let other = udp(at(B, 53), client);
        bench.came.borrow_mut().push_back([bench.header(false), other.clone()].concat());

        let got: Vec<_> = (0..8).filter_map(|_| bench.receive()).map(|frame| frame[header..].to_vec()).collect();
        let told: Vec<_> = got.iter().filter(|packet| **packet != other).map(|packet| ends(packet)).collect();
        assert_eq!((told, got.len()), (vec![(at(ORIGINAL, 80), client)], 2), "{medium:?}, full at {full}");
        let sent: Vec<_> = bench.sent.borrow().iter().map(|frame| ends(&frame[header..])).collect();
        assert_eq!(sent, [(near, at(A, 80))], "{medium:?}, full at {full}");
    }
}

#[test]
fn a_frame_that_is_longer_than_the_buffer_is_translated_all_the_same() {
    let shared = shared();
    let fake = Fake { came: Queue::default(), sent: Queue::default(), medium: HardwareAddress::Ip, room: None };
    let sent = fake.sent.clone();
    let mut driver = TranslatingDriver::new(fake, &shared, [0; 16]);
    assert_eq!(driver.capabilities().max_transmission_unit, 590);
    let mut cx = Context::from_waker(Waker::noop());
    let datagram = udp(at(CLIENT, 5000), at(ORIGINAL, 53));
    for byte in [12, 200] {
        // The second one's length contradicts itself, and is dropped.
        let token = driver.transmit(&mut cx).expect("there is room");
        token.consume(datagram.len(), |room| {
            room.copy_from_slice(&datagram);
            room[25] = byte;
        });
    }
    assert_eq!(ends(&sent.borrow()[0]).1, at(A, 53));
    assert!(sent.borrow()[1].iter().all(|&byte| byte == 0));
}

#[test]
fn time_is_told_when_it_is_due() {
    let shared = shared();
    assert_eq!(shared.poll(), None);
    let mut bench = Bench::new(&shared, HardwareAddress::Ip);
    assert!(bench.send(&udp(at(CLIENT, 5000), at(ORIGINAL, 53))).is_some());
    assert!(shared.poll().is_some_and(|due| due > Instant::from_secs(1)));
}

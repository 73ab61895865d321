//! The smoltcp device over a driver whose queue is full at one call and has room at the next, as that of every driver with
//! DMA or interrupts is.
//!
//! Fault class: a request for a token fails and a later one succeeds, in `receive` or `transmit`, while the device has a
//! packet of its own to hand over (a RST for the client or the server, an ICMP error) or a frame to translate. One story is
//! told with a driver that never fails, and then again with drivers that fail at every possible call: the stack must get
//! the same, and so must the wire. Nothing is lost or comes twice, nothing goes to the wrong side, and of the frames that
//! pass through none overtakes another, nor of the device's own.

use core::net::SocketAddrV4;
use core::ops::Range;
use std::collections::VecDeque;

use byway::device::TranslatingDevice;
use byway::{Config, Divert, Fixed, Redivert, Translator};
use byway_testing::*;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

const ORIGINAL: &str = "100.100.100.100:80";
const SERVER: &str = "123.45.67.89:80";
const OTHER: &str = "123.45.67.90:80";
const STACK: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Which calls can find the queue full: `receive` and `transmit`, or `transmit` alone, since some drivers keep a place in
/// the queue for the answer to each frame.
#[derive(Clone, Copy, Debug)]
enum Counted {
    Both,
    Transmit,
}

/// A driver whose counted calls with these numbers find the queue full.
struct Driver {
    medium: Medium,
    counted: Counted,
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    calls: usize,
    full: Range<usize>,
}

impl Driver {
    fn has_room(&mut self) -> bool {
        self.calls += 1;
        !self.full.contains(&self.calls)
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Room<'a>(&'a mut Driver);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.sent.push(frame);
        result
    }
}

impl Device for Driver {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn receive(&mut self, _: Instant) -> Option<(Received, Room<'_>)> {
        if matches!(self.counted, Counted::Both) && !self.has_room() {
            return None;
        }
        let frame = self.received.pop_front()?;
        Some((Received(frame), Room(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        self.has_room().then_some(Room(self))
    }
}

type Tested = TranslatingDevice<Driver, Fixed<16, 4>, Vec<u8>>;

/// A stack on a translating device. Like smoltcp's it receives until there is no more, and keeps what it cannot send.
struct Stack {
    device: Tested,
    got: Vec<Vec<u8>>,
    second: i64,
}

impl Stack {
    fn new(medium: Medium, counted: Counted, full: Range<usize>) -> Self {
        let config = Config::new([7; 32]).alternative(ip("10.10.10.10"), 513..=600).client_limit(3);
        let mut translator = Translator::new(config, Fixed::<16, 4>::new()).unwrap();
        translator.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        let driver = Driver { medium, counted, received: VecDeque::new(), sent: Vec::new(), calls: 0, full };
        let device = TranslatingDevice::new(driver, translator, [vec![0; 1514], vec![0; 1514]]);
        Self { device, got: Vec::new(), second: 0 }
    }

    fn frame(&self, from: [u8; 6], to: [u8; 6], packet: &[u8]) -> Vec<u8> {
        match self.device.inner().medium {
            Medium::Ethernet => [&to[..], &from, &[8, 0], packet].concat(),
            _ => packet.to_vec(),
        }
    }

    /// Lets packets come and sends others, and polls as often as the longest time without room takes.
    fn step(&mut self, come: &[Vec<u8>], go: &[Vec<u8>]) {
        self.second += 1;
        let now = Instant::from_secs(self.second);
        let come: Vec<_> = come.iter().map(|packet| self.frame(ROUTER, STACK, packet)).collect();
        let mut go: VecDeque<_> = go.iter().map(|packet| self.frame(STACK, ROUTER, packet)).collect();
        self.device.inner_mut().received.extend(come);
        for _ in 0..12 {
            while let Some((token, _)) = self.device.receive(now) {
                token.consume(|frame| self.got.push(frame.to_vec()));
            }
            while let Some(frame) = go.pop_front() {
                let Some(token) = self.device.transmit(now) else {
                    go.push_front(frame);
                    break;
                };
                token.consume(frame.len(), |room| room.copy_from_slice(&frame));
            }
        }
        assert!(go.is_empty() && self.device.inner().received.is_empty(), "the story goes on too early");
    }

    /// The port that the translator has chosen for the packet that was sent last.
    fn alternative(&self) -> SocketAddrV4 {
        ends(self.packet(self.device.inner().sent.last().unwrap())).0
    }

    fn packet<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        if self.device.inner().medium == Medium::Ethernet { &frame[14..] } else { frame }
    }
}

/// What the stack got, what the wire got, and how many calls the driver had.
type Told = (Vec<Vec<u8>>, Vec<Vec<u8>>, usize);

/// Three connections of one client; one more, which is refused; a re-divert that resets all three while frames come and go.
fn story(medium: Medium, counted: Counted, full: Range<usize>) -> Told {
    let mut stack = Stack::new(medium, counted, full);
    let clients = ["1.2.3.4:1001", "1.2.3.4:1002", "1.2.3.4:1003", "1.2.3.4:1004"].map(at);
    for client in &clients[..3] {
        stack.step(&[], &[tcp(*client, at(ORIGINAL), (SYN, 100, 0), b"")]);
        let alternative = stack.alternative();
        let accepted = tcp(at(SERVER), alternative, (SYN | ACK, 500, 101), b"");
        stack.step(&[accepted], &[]);
        stack.step(&[], &[tcp(*client, at(ORIGINAL), (ACK, 101, 501), b"ask")]);
        stack.step(&[tcp(at(SERVER), alternative, (ACK, 501, 104), b"answer")], &[]);
        stack.step(&[], &[tcp(*client, at(ORIGINAL), (ACK, 104, 507), b"")]);
    }
    let others = |n: u8| udp(at("1.2.3.4:9"), at("9.9.9.9:9"), &[n]);
    let to_us = |n: u8| udp(at("9.9.9.9:9"), at("1.2.3.4:9"), &[n]);
    let refused = tcp(clients[3], at(ORIGINAL), (SYN, 100, 0), b"");
    stack.step(&[to_us(1), to_us(2)], &[others(1), refused, others(2)]);
    stack.step(&[to_us(3)], &[others(3)]);
    stack.device.translator_mut().redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    stack.step(&[], &[others(4), others(5)]);
    stack.step(&[to_us(4), to_us(5)], &[others(6)]);
    stack.step(&[], &[]);

    assert_eq!(stack.device.translator().counters().transmit_lost, 0);
    for frame in &stack.got {
        assert_eq!(address(stack.packet(frame), 16), ip("1.2.3.4"), "the stack got what is for somebody else");
    }
    for frame in &stack.device.inner().sent {
        assert_ne!(address(stack.packet(frame), 16), ip("1.2.3.4"), "what is for the stack was sent");
    }
    assert_eq!((stack.device.oversized(), stack.device.unaddressed()), (0, 0));
    let Driver { sent, calls, .. } = stack.device.into_inner().0;
    (stack.got, sent, calls)
}

/// The frames that passed through the device, and those that it made.
fn by_origin(frames: Vec<Vec<u8>>, header: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    frames.into_iter().partition(|f| f[header + 9] == 17 || (f[header + 9] == 6 && f[header + 33] & RST == 0))
}

#[test]
fn a_full_queue_at_any_call_loses_nothing_and_diverts_nothing() {
    for (medium, counted) in
        [Medium::Ip, Medium::Ethernet].into_iter().flat_map(|m| [(m, Counted::Both), (m, Counted::Transmit)])
    {
        let (got, sent, calls) = story(medium, counted, 0..0);
        let header = if medium == Medium::Ethernet { 14 } else { 0 };
        let count = |frames: &[Vec<u8>], protocol: u8, flags: u8| {
            let of = |f: &&Vec<u8>| f[header + 9] == protocol && (protocol != 6 || f[header + 33] == flags);
            frames.iter().filter(of).count()
        };
        // All that the device sends on its own is in the story.
        assert_eq!((count(&got, 6, RST | ACK), count(&sent, 6, RST | ACK), count(&got, 1, 0)), (3, 3, 1));
        assert_eq!((got.len(), sent.len()), (3 + 1 + 3 * 2 + 5, 3 + 3 * 3 + 6));
        let (got, sent) = (by_origin(got, header), by_origin(sent, header));
        for length in [1, 2, 3, 8] {
            for first in 1..=calls {
                let (got_then, sent_then, _) = story(medium, counted, first..first + length);
                let full = format!("{medium:?}, {counted:?}, full from call {first} for {length}");
                assert!(by_origin(got_then, header) == got, "{full}: the stack got something else");
                assert!(by_origin(sent_then, header) == sent, "{full}: something else was sent");
            }
        }
    }
}

/// A connection is opened without a frame that passes through the device, and then reset.
fn reset_a_connection(translator: &mut Translator<Fixed<16, 4>>) {
    let (client, now) = (at("1.2.3.4:1001"), s(0));
    let asked = there(translator, now, &tcp(client, at(ORIGINAL), (SYN, 100, 0), b""));
    back(translator, now, &tcp(at(SERVER), ends(&asked).0, (SYN | ACK, 500, 101), b""));
    there(translator, now, &tcp(client, at(ORIGINAL), (ACK, 101, 501), b""));
    translator.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
}

/// On Ethernet a RST for a server cannot be sent before a frame has shown the way there. It is counted, and the client's
/// arrives all the same.
#[test]
fn what_cannot_be_addressed_is_counted() {
    let mut stack = Stack::new(Medium::Ethernet, Counted::Both, 0..0);
    // The connection was opened elsewhere: no frame of it has passed here.
    reset_a_connection(stack.device.translator_mut());
    stack.step(&[], &[]);
    assert_eq!(stack.got.iter().map(|frame| address(frame, 14 + 16)).collect::<Vec<_>>(), [ip("1.2.3.4")]);
    assert_eq!((stack.device.inner().sent.len(), stack.device.unaddressed()), (0, 1));
}

/// The buffers of the caller are for the stack's frames: the translator's own packets need none of them.
#[test]
fn short_buffers_keep_nothing_from_being_told() {
    let mut stack = Stack::new(Medium::Ip, Counted::Both, 0..0);
    reset_a_connection(stack.device.translator_mut());
    let (driver, translator) = stack.device.into_inner();
    stack.device = TranslatingDevice::new(driver, translator, [vec![0; 40], vec![]]);
    stack.step(&[], &[]);
    assert_eq!((stack.got.len(), stack.device.inner().sent.len()), (1, 1));
}

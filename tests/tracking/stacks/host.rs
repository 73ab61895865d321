//! A host with a real TCP stack (smoltcp), and an application that sends and checks a pattern.

use core::net::SocketAddrV4;
use std::collections::{HashMap, VecDeque};
use std::sync::OnceLock;

use smoltcp::iface::{Config as Settings, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use byway_testing::truth::{ACK, End, Numbers, RST, SYN, Segment};
use byway_testing::wire::Wire;
use byway_testing::{Dice, ends, tcp};

/// How the sockets of a host are set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub buffer: usize,
    pub keep_alive: Option<Duration>,
    pub timeout: Option<Duration>,
}

/// What the application of one socket has sent and received.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    sent: usize,
    received: usize,
}

/// A stack without any memory of what was before it.
pub struct Host {
    address: SocketAddrV4,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
    streams: Vec<Stream>,
    /// What the stack has said, by the peer it said it to.
    said: HashMap<SocketAddrV4, Numbers>,
}

/// The bytes of a stream repeat after so many, which no segment and no window is a multiple of.
const PERIOD: usize = 4_093;

/// The bytes of a stream from a place on; `salt` is the sender's port.
fn pattern(place: usize, length: usize, salt: u16) -> &'static [u8] {
    static BYTES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let make = |salt| (0..PERIOD + MOST).map(|n| (((n % PERIOD) * 37) >> 3) as u8 ^ salt).collect();
    let bytes = &BYTES.get_or_init(|| [make(0), make(0x5a)])[usize::from(salt & 1)];
    &bytes[place % PERIOD..][..length]
}

/// An application sends or reads no more at a time.
const MOST: usize = 1 << 18;

pub fn end(state: State) -> End {
    match state {
        State::Closed => End::Closed,
        State::Listen => End::Listen,
        State::SynSent => End::SynSent,
        State::SynReceived => End::SynReceived,
        State::Established => End::Established,
        State::FinWait1 => End::FinWait1,
        State::FinWait2 => End::FinWait2,
        State::CloseWait => End::CloseWait,
        State::Closing => End::Closing,
        State::LastAck => End::LastAck,
        State::TimeWait => End::TimeWait,
    }
}

fn outside(endpoint: SocketAddrV4) -> IpEndpoint {
    IpEndpoint::new(IpAddress::Ipv4(*endpoint.ip()), endpoint.port())
}

fn inside(endpoint: IpEndpoint) -> SocketAddrV4 {
    let IpAddress::Ipv4(address) = endpoint.addr;
    SocketAddrV4::new(address, endpoint.port)
}

impl Host {
    /// `address` has the port that its sockets are bound to.
    pub fn new(address: SocketAddrV4, sockets: usize, seed: u64, setup: Setup) -> Self {
        let mut wire = Wire::new(1500);
        let mut settings = Settings::new(HardwareAddress::Ip);
        settings.random_seed = seed;
        let mut interface = Interface::new(settings, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|all| all.push(IpCidr::new(IpAddress::Ipv4(*address.ip()), 0)).expect("one fits"));
        let mut set = SocketSet::new(Vec::new());
        let buffer = || SocketBuffer::new(vec![0; setup.buffer]);
        let handles: Vec<_> = (0..sockets)
            .map(|_| {
                let mut socket = Socket::new(buffer(), buffer());
                socket.set_keep_alive(setup.keep_alive);
                socket.set_timeout(setup.timeout);
                set.add(socket)
            })
            .collect();
        let streams = vec![Stream::default(); sockets];
        Self { address, wire, interface, sockets: set, handles, streams, said: HashMap::new() }
    }

    pub fn socket(&mut self, number: usize) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handles[number])
    }

    pub fn get(&self, number: usize) -> &Socket<'static> {
        self.sockets.get(self.handles[number])
    }

    pub fn state(&self, number: usize) -> End {
        end(self.get(number).state())
    }

    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// The socket that is connected with this peer, if there is one.
    pub fn with(&self, peer: SocketAddrV4) -> Option<usize> {
        let is = |number: &usize| {
            let socket = self.get(*number);
            socket.state() != State::Closed && socket.remote_endpoint().map(inside) == Some(peer)
        };
        (0..self.count()).find(is)
    }

    pub fn numbers(&self, peer: SocketAddrV4) -> Option<Numbers> {
        self.said.get(&peer).copied()
    }

    pub fn connect(&mut self, number: usize, to: SocketAddrV4) -> bool {
        self.streams[number] = Stream::default();
        let port = self.address.port();
        let socket = self.sockets.get_mut::<Socket>(self.handles[number]);
        socket.connect(self.interface.context(), outside(to), port).is_ok()
    }

    pub fn listen(&mut self, number: usize) {
        self.streams[number] = Stream::default();
        let port = self.address.port();
        let _ = self.socket(number).listen(port);
    }

    /// Sends the next bytes of the pattern, as many as there is room for.
    pub fn send(&mut self, number: usize, length: usize) {
        let (sent, salt) = (self.streams[number].sent, self.address.port() / 80);
        let socket = self.socket(number);
        if socket.can_send() {
            let length = length.min(MOST).min(socket.send_capacity() - socket.send_queue());
            let taken = socket.send_slice(pattern(sent, length, salt)).unwrap_or(0);
            self.streams[number].sent += taken;
        }
    }

    /// Reads what has arrived. `false` if it is not what the peer has sent; `salt` is the peer's port.
    pub fn receive(&mut self, number: usize, salt: u16, limit: usize) -> bool {
        let mut place = self.streams[number].received;
        let mut good = true;
        // smoltcp's keep-alive repeats the last number that it has sent with a zero instead of the byte, and if that byte was lost
        // its peer takes the zero.
        let filler = self.get(number).keep_alive().map(|_| 0);
        let mut read = 0;
        while read < limit && self.get(number).can_recv() {
            let taken = self.socket(number).recv(|data| {
                let data = &data[..data.len().min(limit - read)];
                let sent = pattern(place, data.len(), salt / 80);
                let mut wrong = data.iter().zip(sent).enumerate().filter(|(_, (byte, sent))| byte != sent);
                // One byte is repeated at a time.
                let mut before = None;
                good &= wrong.all(|(place, (byte, _))| {
                    Some(*byte) == filler && before.replace(place).is_none_or(|before| before + 1 != place)
                });
                (data.len(), data.len())
            });
            let Ok(taken) = taken else {
                break;
            };
            place += taken;
            read += taken;
        }
        self.streams[number].received = place;
        good
    }

    /// When the stack wants to be called.
    pub fn poll_at(&mut self, now: u64) -> Option<u64> {
        let at = self.interface.poll_at(Instant::from_micros(now as i64), &self.sockets)?;
        Some(at.total_micros().max(0) as u64)
    }

    pub fn deliver(&mut self, packet: Vec<u8>) {
        match self.challenge(&packet) {
            Some(answer) => self.wire.sent.push_back(answer),
            None => self.wire.received.push_back(packet),
        }
    }

    /// The ACK that answers a SYN for a connection that is there (RFC 5961, section 4.2). smoltcp has none: it drops the
    /// SYN, or opens a second connection with the same endpoints if another socket listens.
    fn challenge(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let segment = Segment::read(packet)?;
        if !segment.has(SYN) || segment.has(ACK) || segment.has(RST) {
            return None;
        }
        let (peer, own) = ends(packet);
        self.with(peer).filter(|n| self.state(*n) > End::SynSent)?;
        let numbers = self.said.get(&peer)?;
        Some(tcp(own, peer, (ACK, numbers.next, numbers.acknowledged?), b""))
    }

    /// Lets the stack work; returns what it sends.
    pub fn poll(&mut self, now: u64) -> Vec<Vec<u8>> {
        self.interface.poll(Instant::from_micros(now as i64), &mut self.wire, &mut self.sockets);
        let sent = Vec::from(core::mem::take(&mut self.wire.sent));
        for packet in &sent {
            if let Some(segment) = Segment::read(packet) {
                let peer = ends(packet).1;
                let mut numbers = self.said.get(&peer).copied();
                Numbers::note(&mut numbers, &segment);
                if let Some(numbers) = numbers {
                    self.said.insert(peer, numbers);
                }
            }
        }
        sent
    }
}

/// A line that one packet at a time goes into, and comes out of later, more than once, or never.
#[derive(Debug)]
pub struct Leg {
    pub quality: Quality,
    /// Packets and when they arrive, in the order in which they do.
    waiting: VecDeque<(u64, Vec<u8>)>,
    last: u64,
}

/// Shares in percent, delays in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quality {
    pub loss: u64,
    pub twice: u64,
    pub overtaken: u64,
    pub delay: u64,
}

impl Leg {
    pub fn new(quality: Quality) -> Self {
        Self { quality, waiting: VecDeque::new(), last: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn next(&self) -> Option<u64> {
        self.waiting.front().map(|(at, _)| *at)
    }

    /// `false` if the packet is lost.
    pub fn send(&mut self, now: u64, dice: &mut Dice, packet: Vec<u8>) -> bool {
        let Quality { loss, twice, overtaken, delay } = self.quality;
        if loss > 0 && dice.below(100) < loss {
            return false;
        }
        let copies = if twice > 0 && dice.below(100) < twice { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = now + delay;
            if overtaken > 0 && dice.below(100) < overtaken {
                at += dice.below(4 * delay + 20_000);
            } else if overtaken == 0 {
                at = at.max(self.last);
                self.last = at;
            }
            let place = self.waiting.partition_point(|(other, _)| *other <= at);
            self.waiting.insert(place, (at, packet.clone()));
        }
        true
    }

    pub fn receive(&mut self, now: u64) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        self.waiting.pop_front().map(|(_, packet)| packet)
    }
}

//! A smoltcp device over ordinary UDP sockets, so that a stack's datagrams travel without a TUN device and without root.
//!
//! byway gives each connection an alternative endpoint. The carrier has one socket of the operating system for each
//! alternative port, so a server's answer comes back to the port that byway finds the connection by:
//!
//! ```text
//!   10.10.10.10:40000  <->  socket 0, bound to BIND:40000 (or to any port)
//!   10.10.10.10:40001  <->  socket 1
//! ```
//!
//! [`Ports::Same`] binds each socket to the alternative port's own number, so what `byway ctl connections` shows is what
//! is on the wire. [`Ports::Any`] lets the operating system choose; then the alternative endpoint is only a name.
//!
//! What it does not carry is dropped and [counted](Carrier::dropped): packets other than UDP, fragments, and packets
//! whose source is not an alternative endpoint, which are those that no rule matched. ICMP errors about its datagrams stay
//! with the operating system.
//!
//! # Servers on this machine
//!
//! A router must not forward to loopback addresses (RFC 1812, section 5.3.7), and byway refuses them as targets. In the
//! stack `198.18.x.y` ([`LOOPBACK`], of the range for benchmarks that the Internet does not route) stands for
//! `127.0.x.y`; the carrier replaces one by the other.

use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use core::ops::{Range, RangeInclusive};
use std::collections::VecDeque;
use std::io;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities};
use smoltcp::time::Instant;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};

use super::MTU;

/// `198.18.x.y` in the stack is `127.0.x.y` outside.
pub const LOOPBACK: [u8; 2] = [198, 18];

/// IPv4 and UDP headers, in bytes.
const HEADERS: usize = 28;

/// How many datagrams are dropped before others have their turn.
const BURST: usize = 64;

/// Which ports the sockets are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Each to the number of its alternative port.
    Same,
    /// Whatever the operating system chooses.
    Any,
}

/// Why a packet or a datagram was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// From the stack: not UDP, or a fragment.
    pub not_udp: u64,
    /// From the stack: its source is no alternative endpoint, since no rule matched it.
    pub undiverted: u64,
    /// From the stack: the operating system had no room for it, or no route.
    pub unsent: u64,
    /// From a server: longer than the stack's packets.
    pub oversized: u64,
    /// From something that is not an IPv4 endpoint.
    pub foreign: u64,
}

/// The device.
#[derive(Debug)]
pub struct Carrier {
    sockets: Sockets,
    /// Sockets that may have something.
    ready: VecDeque<usize>,
    is_ready: Vec<bool>,
    received: Vec<u8>,
}

/// The sockets, and what a packet needs on its way to one of them.
#[derive(Debug)]
struct Sockets {
    alternative: Ipv4Addr,
    first: u16,
    all: Vec<UdpSocket>,
    sent: Vec<u8>,
    dropped: Dropped,
}

impl Carrier {
    /// Opens a socket at `bind` for each of the `ports` of `alternative`, which must be those that the translator was
    /// configured with.
    ///
    /// # Errors
    /// A socket cannot be opened or bound; the error names its endpoint.
    pub fn open(bind: Ipv4Addr, alternative: Ipv4Addr, ports: RangeInclusive<u16>, which: Ports) -> io::Result<Self> {
        let first = *ports.start();
        let mut sockets = Vec::with_capacity(ports.len());
        for port in ports {
            let at = SocketAddr::from((bind, if which == Ports::Same { port } else { 0 }));
            let socket = UdpSocket::bind(at)
                .map_err(|error| io::Error::new(error.kind(), format!("UDP socket at {at}: {error}")))?;
            sockets.push(socket);
        }
        let (ready, is_ready) = (VecDeque::with_capacity(sockets.len()), vec![false; sockets.len()]);
        let sent = Vec::with_capacity(MTU);
        let sockets = Sockets { alternative, first, all: sockets, sent, dropped: Dropped::default() };
        Ok(Self { sockets, ready, is_ready, received: vec![0; MTU + 1] })
    }

    /// Registers the sockets for reading, with the tokens from `first` on. Returns the tokens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn register(&mut self, registry: &Registry, first: usize) -> io::Result<Range<usize>> {
        for (number, socket) in self.sockets.all.iter_mut().enumerate() {
            registry.register(socket, Token(first + number), Interest::READABLE)?;
        }
        Ok(first..first + self.sockets.all.len())
    }

    /// Says that the socket with this number, from zero, may have something. [`receive`](phy::Device::receive) looks
    /// only at such sockets, and at each until it has nothing more.
    pub fn mark_ready(&mut self, number: usize) {
        if let Some(is_ready) = self.is_ready.get_mut(number)
            && !core::mem::replace(is_ready, true)
        {
            self.ready.push_back(number);
        }
    }

    /// Whether a socket may still have something.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What was dropped, by reason.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.sockets.dropped
    }

    /// Where the sockets are bound.
    pub fn endpoints(&self) -> impl Iterator<Item = io::Result<SocketAddr>> + '_ {
        self.sockets.all.iter().map(UdpSocket::local_addr)
    }

    /// The next datagram, as a packet of which this is the length.
    fn fetch(&mut self) -> Option<usize> {
        // What is dropped has no end either.
        for _ in 0..BURST {
            let number = *self.ready.front()?;
            // A byte more than fits shows that a datagram is too long.
            let received = self.sockets.all.get(number)?.recv_from(self.received.get_mut(HEADERS..)?);
            match received {
                Ok((length, from)) => {
                    // A busy socket waits for the others.
                    self.ready.rotate_left(1);
                    let SocketAddr::V4(from) = from else {
                        self.sockets.dropped.foreign += 1;
                        continue;
                    };
                    if length > MTU - HEADERS {
                        self.sockets.dropped.oversized += 1;
                        continue;
                    }
                    return Some(self.frame(number, from, length));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.pop_front();
                    if let Some(is_ready) = self.is_ready.get_mut(number) {
                        *is_ready = false;
                    }
                }
                // An error of an earlier datagram.
                Err(_) => self.sockets.dropped.unsent += 1,
            }
        }
        None
    }

    /// Writes the headers before a datagram of `length` bytes.
    fn frame(&mut self, number: usize, from: SocketAddrV4, length: usize) -> usize {
        let port = self.sockets.first.wrapping_add(number as u16);
        let repr = Ipv4Repr {
            src_addr: inside(*from.ip()),
            dst_addr: self.sockets.alternative,
            next_header: IpProtocol::Udp,
            payload_len: length + HEADERS - 20,
            hop_limit: 64,
        };
        let mut packet = Ipv4Packet::new_unchecked(self.received.as_mut_slice());
        repr.emit(&mut packet, &ChecksumCapabilities::default());
        let mut packet = UdpPacket::new_unchecked(packet.payload_mut());
        packet.set_src_port(from.port());
        packet.set_dst_port(port);
        packet.set_len((length + HEADERS - 20) as u16);
        // The operating system has verified the datagram's own.
        packet.set_checksum(0);
        length + HEADERS
    }
}

impl Sockets {
    /// Sends what is in `sent`.
    fn send(&mut self) {
        let Some((from, to, payload)) = datagram(&self.sent) else {
            self.dropped.not_udp += 1;
            return;
        };
        let number = usize::from(from.port().wrapping_sub(self.first));
        let Some(socket) = self.all.get(number).filter(|_| *from.ip() == self.alternative) else {
            self.dropped.undiverted += 1;
            return;
        };
        let to = SocketAddrV4::new(outside(*to.ip()), to.port());
        if socket.send_to(payload, to.into()).is_err() {
            // Dropped, as in a network; its sender sends it again.
            self.dropped.unsent += 1;
        }
    }
}

/// The addresses and the payload of a UDP datagram in one piece.
pub(crate) fn datagram(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    if ip.next_header() != IpProtocol::Udp || ip.more_frags() || ip.frag_offset() != 0 {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    let from = SocketAddrV4::new(ip.src_addr(), udp.src_port());
    let to = SocketAddrV4::new(ip.dst_addr(), udp.dst_port());
    Some((from, to, udp.payload()))
}

/// Whether the checksums are right, which the stack does not see.
pub(crate) fn is_intact(packet: &[u8]) -> bool {
    Ipv4Packet::new_checked(packet).is_ok_and(|ip| {
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        ip.verify_checksum() && UdpPacket::new_checked(ip.payload()).is_ok_and(|udp| udp.verify_checksum(&from, &to))
    })
}

/// A packet with this datagram.
#[must_use]
pub fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let ip = Ipv4Repr {
        src_addr: *from.ip(),
        dst_addr: *to.ip(),
        next_header: IpProtocol::Udp,
        payload_len: HEADERS - 20 + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; HEADERS + payload.len()];
    let mut packet = Ipv4Packet::new_unchecked(bytes.as_mut_slice());
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &(*from.ip()).into(),
        &(*to.ip()).into(),
        payload.len(),
        |place| place.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    bytes
}

/// The stack's name for an address.
#[must_use]
pub fn inside(address: Ipv4Addr) -> Ipv4Addr {
    match address.octets() {
        [127, 0, c, d] => Ipv4Addr::from([LOOPBACK[0], LOOPBACK[1], c, d]),
        _ => address,
    }
}

/// The address that the stack's name stands for.
#[must_use]
pub fn outside(address: Ipv4Addr) -> Ipv4Addr {
    match address.octets() {
        [a, b, c, d] if [a, b] == LOOPBACK => Ipv4Addr::new(127, 0, c, d),
        _ => address,
    }
}

/// The stack's name for the address of an HTTP client: its own if it is one of IPv4 that a host can have; otherwise
/// [`STACK`](super::STACK), as for every client of IPv6.
#[must_use]
pub fn client(address: IpAddr) -> Ipv4Addr {
    let address = match address.to_canonical() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => return super::STACK,
    };
    let first = address.octets()[0];
    let is_host = first != 0 && first < 224 && !outside(address).is_loopback() && !address.is_link_local();
    if is_host { address } else { super::STACK }
}

impl phy::Device for Carrier {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = super::ip_device();
        // The operating system computes and verifies those of its datagrams.
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        let length = self.fetch()?;
        Some((RxToken(self.received.get(..length)?), TxToken(&mut self.sockets)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        Some(TxToken(&mut self.sockets))
    }
}

/// A packet that was received.
#[derive(Debug)]
pub struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Permission to send a packet.
#[derive(Debug)]
pub struct TxToken<'a>(&'a mut Sockets);

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.0.sent.clear();
        self.0.sent.resize(length, 0);
        let result = f(&mut self.0.sent);
        self.0.send();
        result
    }
}

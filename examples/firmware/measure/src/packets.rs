//! Packets, made without an allocator.

use core::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

const HEADER: usize = 20;
const ROOM: usize = 192;

/// An IPv4 packet.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    bytes: [u8; ROOM],
    length: usize,
}

impl Packet {
    /// A packet around the `parts` of a payload, its checksums right.
    pub(crate) fn new(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, parts: &[&[u8]]) -> Self {
        let mut packet = Self { bytes: [0; ROOM], length: HEADER };
        packet.bytes[..10].copy_from_slice(&[0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol]);
        packet.bytes[12..16].copy_from_slice(&source.octets());
        packet.bytes[16..20].copy_from_slice(&destination.octets());
        for part in parts {
            packet.bytes[packet.length..][..part.len()].copy_from_slice(part);
            packet.length += part.len();
        }
        packet.finish();
        packet
    }

    /// Writes the length and the checksums.
    fn finish(&mut self) {
        self.bytes[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
        self.fill_header_checksum();
        let place = match self.bytes[9] {
            ICMP => HEADER + 2,
            TCP => HEADER + 16,
            _ => HEADER + 6,
        };
        self.bytes[place..place + 2].fill(0);
        let payload = (self.length - HEADER) as u32;
        let pseudo = if self.bytes[9] == ICMP { 0 } else { u32::from(self.bytes[9]) + payload };
        let addresses = if self.bytes[9] == ICMP { &[][..] } else { &self.bytes[12..20] };
        let sum = checksum(pseudo, &[addresses, &self.bytes[HEADER..self.length]]);
        self.bytes[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn fill_header_checksum(&mut self) {
        self.bytes[10..12].fill(0);
        let sum = checksum(0, &[&self.bytes[..HEADER]]);
        self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    pub(crate) fn udp(source: SocketAddrV4, destination: SocketAddrV4) -> Self {
        let data = [7; 32];
        let length = (8 + data.len() as u16).to_be_bytes();
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()];
        Self::new(UDP, *source.ip(), *destination.ip(), &[ports.as_flattened(), &length, &[0; 2], &data])
    }

    /// A segment: flags, sequence number, acknowledgement.
    pub(crate) fn tcp(source: SocketAddrV4, destination: SocketAddrV4, segment: (u8, u32, u32), data: &[u8]) -> Self {
        let (flags, sequence, acknowledgement) = segment;
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()];
        let numbers = [sequence.to_be_bytes(), acknowledgement.to_be_bytes()];
        let rest = [5 << 4, flags, 0x20, 0, 0, 0, 0, 0];
        Self::new(TCP, *source.ip(), *destination.ip(), &[ports.as_flattened(), numbers.as_flattened(), &rest, data])
    }

    pub(crate) fn echo(kind: u8, source: Ipv4Addr, destination: Ipv4Addr, identifier: u16) -> Self {
        let identifier = identifier.to_be_bytes();
        Self::new(ICMP, source, destination, &[&[kind, 0, 0, 0], &identifier, &[0, 1], &[7; 32]])
    }

    /// An error of `source` about `self`, to whom sent it.
    pub(crate) fn error(&self, kind: u8, code: u8, source: Ipv4Addr) -> Self {
        let quoted = self.length.min(HEADER + 64);
        Self::new(ICMP, source, self.address(12), &[&[kind, code, 0, 0, 0, 0, 0, 0], &self.bytes[..quoted]])
    }

    /// The answer to `self`: both ends exchanged, which no checksum notices; an echo request becomes a reply.
    pub(crate) fn answer(&self) -> Self {
        let mut answer = *self;
        answer.bytes[12..16].copy_from_slice(&self.bytes[16..20]);
        answer.bytes[16..20].copy_from_slice(&self.bytes[12..16]);
        if self.bytes[9] == ICMP {
            answer.bytes[HEADER] = 0;
            answer.finish();
        } else {
            answer.bytes[20..22].copy_from_slice(&self.bytes[22..24]);
            answer.bytes[22..24].copy_from_slice(&self.bytes[20..22]);
        }
        answer
    }

    /// The answering segment, with flags and numbers of its own.
    pub(crate) fn answer_with(&self, segment: (u8, u32, u32)) -> Self {
        let answer = self.answer();
        Self::tcp(answer.source(), answer.destination(), segment, &[])
    }

    /// Cuts the payload from `from` to `to` out as a fragment; more follow if `to` is not the end.
    pub(crate) fn fragment(&self, from: usize, to: usize) -> Self {
        let mut piece = *self;
        let to = to.min(self.length - HEADER);
        piece.bytes[HEADER..][..to - from].copy_from_slice(&self.bytes[HEADER + from..HEADER + to]);
        piece.length = HEADER + to - from;
        let more = u16::from(HEADER + to < self.length) << 13;
        piece.bytes[6..8].copy_from_slice(&(more | (from / 8) as u16).to_be_bytes());
        piece.bytes[2..4].copy_from_slice(&(piece.length as u16).to_be_bytes());
        piece.fill_header_checksum();
        piece
    }

    /// The same with another identification, as another datagram.
    pub(crate) fn numbered(mut self, identification: u16) -> Self {
        self.bytes[4..6].copy_from_slice(&identification.to_be_bytes());
        self.fill_header_checksum();
        self
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// Cuts the packet short.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    fn address(&self, place: usize) -> Ipv4Addr {
        let [a, b, c, d] = [0, 1, 2, 3].map(|byte| self.bytes[place + byte]);
        Ipv4Addr::new(a, b, c, d)
    }

    fn port(&self, place: usize) -> u16 {
        u16::from_be_bytes([self.bytes[place], self.bytes[place + 1]])
    }

    pub(crate) fn source(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(12), self.port(20))
    }

    pub(crate) fn destination(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(16), self.port(22))
    }
}

/// The checksum (RFC 1071) over `parts` of even length but for the last.
fn checksum(start: u32, parts: &[&[u8]]) -> u16 {
    let mut sum = start;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

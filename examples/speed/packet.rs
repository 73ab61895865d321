//! One packet in its 64-byte slot, built whole with checksums summed from nothing: what the timed code is held against.

use core::net::SocketAddrV4;

use crate::labels::{Direction, Protocol};

/// The addresses and ports of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
}

impl Pair {
    /// Of the answer.
    pub(crate) fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

/// A packet buffer of one cache line: the bytes first, from the IP header on, and their number at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(crate) bytes: [u8; 62],
    length: u16,
}

impl Slot {
    pub(crate) const EMPTY: Self = Self { bytes: [0; 62], length: 0 };

    #[inline(always)]
    pub(crate) fn length(&self) -> u16 {
        self.length
    }

    /// Writes the packet of `content` from and to the endpoints of `pair`.
    pub(crate) fn write(&mut self, content: Content, pair: Pair) {
        let length: u16 = match content {
            Content::Datagram => 28,
            Content::Query { name, .. } => 28 + 12 + name.len() as u16 + 4,
            Content::Segment { .. } => 40,
        };
        *self = Self::EMPTY;
        self.length = length;
        let packet = &mut self.bytes[..usize::from(length)];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[4..6].copy_from_slice(&0x1d0f_u16.to_be_bytes());
        packet[6] = 0x40; // do not fragment
        packet[8] = 64;
        packet[12..16].copy_from_slice(&pair.source.ip().octets());
        packet[16..20].copy_from_slice(&pair.destination.ip().octets());
        packet[20..22].copy_from_slice(&pair.source.port().to_be_bytes());
        packet[22..24].copy_from_slice(&pair.destination.port().to_be_bytes());
        let checksum_at = match content {
            Content::Datagram | Content::Query { .. } => {
                packet[9] = 17;
                packet[24..26].copy_from_slice(&(length - 20).to_be_bytes());
                if let Content::Query { id, name } = content {
                    packet[28..30].copy_from_slice(&id.to_be_bytes());
                    packet[30] = 1; // recursion desired
                    packet[33] = 1; // one question
                    packet[40..40 + name.len()].copy_from_slice(&name);
                    packet[40 + name.len()..].copy_from_slice(&[0, 1, 0, 1]); // A, IN
                }
                26
            }
            Content::Segment { flags, sequence, acknowledgment } => {
                packet[9] = 6;
                packet[24..28].copy_from_slice(&sequence.to_be_bytes());
                packet[28..32].copy_from_slice(&acknowledgment.to_be_bytes());
                packet[32] = 0x50;
                packet[33] = flags;
                packet[34..36].copy_from_slice(&u16::MAX.to_be_bytes());
                36
            }
        };
        let header = !fold(sum(&packet[..20]));
        packet[10..12].copy_from_slice(&header.to_be_bytes());
        let pseudo_header = sum(&packet[12..20]) + u32::from(packet[9]) + u32::from(length - 20);
        let transport = !fold(pseudo_header + sum(&packet[20..]));
        // RFC 768: a computed zero is sent as all ones. (In TCP it stays.)
        let transport = match content {
            Content::Datagram | Content::Query { .. } if transport == 0 => u16::MAX,
            Content::Datagram | Content::Query { .. } | Content::Segment { .. } => transport,
        };
        packet[checksum_at..checksum_at + 2].copy_from_slice(&transport.to_be_bytes());
    }
}

impl Slot {
    /// Where the packet says that it comes from.
    pub(crate) fn source(&self) -> SocketAddrV4 {
        let [a, b, c, d] = [12, 13, 14, 15].map(|at| self.bytes[at]);
        SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([self.bytes[20], self.bytes[21]]))
    }
}

impl AsRef<[u8]> for Slot {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl AsMut<[u8]> for Slot {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.length)]
    }
}

impl core::fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for byte in self.as_ref() {
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Whether a datagram has the length and the checksums that it says.
pub(crate) fn is_sound(packet: &[u8]) -> bool {
    let length = packet.len() as u16;
    let pseudo_header = sum(&packet[12..20]) + u32::from(packet[9]) + u32::from(length - 20);
    packet[2..4] == length.to_be_bytes()
        && packet[24..26] == (length - 20).to_be_bytes()
        && fold(sum(&packet[..20])) == u16::MAX
        && fold(pseudo_header + sum(&packet[20..])) == u16::MAX
}

/// What a packet carries beside its addresses. None but a query has a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Datagram,
    /// A DNS query for the address of a name, in wire form.
    Query {
        id: u16,
        name: [u8; 17],
    },
    Segment {
        flags: u8,
        sequence: u32,
        acknowledgment: u32,
    },
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

impl Content {
    /// The packet with which the client opens the flow.
    pub(crate) fn first(flow: u32, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Udp => Self::Datagram,
            Protocol::Tcp => Self::Segment { flags: SYN, sequence: initial_sequences(flow).0, acknowledgment: 0 },
        }
    }

    /// The first packet of the server.
    pub(crate) fn answer(flow: u32, protocol: Protocol) -> Self {
        let (client, server) = initial_sequences(flow);
        match protocol {
            Protocol::Udp => Self::Datagram,
            Protocol::Tcp => {
                Self::Segment { flags: SYN | ACK, sequence: server, acknowledgment: client.wrapping_add(1) }
            }
        }
    }

    /// A packet in the middle of the flow: a datagram, or a segment that only acknowledges.
    pub(crate) fn middle(flow: u32, protocol: Protocol, direction: Direction) -> Self {
        let (client, server) = initial_sequences(flow);
        let (sequence, acknowledgment) = match direction {
            Direction::ToServer => (client, server),
            Direction::ToClient => (server, client),
        };
        match protocol {
            Protocol::Udp => Self::Datagram,
            Protocol::Tcp => Self::Segment {
                flags: ACK,
                sequence: sequence.wrapping_add(1),
                acknowledgment: acknowledgment.wrapping_add(1),
            },
        }
    }
}

/// The numbers that the SYN of each side of the flow carries.
fn initial_sequences(flow: u32) -> (u32, u32) {
    (flow.wrapping_mul(0x9e37_79b1), flow.wrapping_mul(0x85eb_ca77))
}

fn sum(bytes: &[u8]) -> u32 {
    // An odd last byte is followed by a zero (RFC 1071).
    let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
    bytes.chunks(2).map(|pair| u32::from(word(pair))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

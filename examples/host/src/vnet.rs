//! The header that virtio puts before each packet (virtio 1.2, section 5.1.6): what is left to be done to the packet.

use byway::{ChecksumState, PacketMeta};

use crate::packet::{self, TCP, UDP};

/// How many bytes of it stand before a packet.
pub const LENGTH: usize = 10;

/// The checksum at `csum_start + csum_offset` holds the sum of the pseudo-header.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
/// Fragments of one datagram (UFO), not several datagrams.
const GSO_UDP: u8 = 3;
const GSO_UDP_L4: u8 = 5;
/// Beside the kind: the first segment alone has CWR.
const GSO_ECN: u8 = 0x80;

/// What the header says. Its numbers have the machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    flags: u8,
    gso_type: u8,
    header_length: u16,
    gso_size: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

/// Which packets a super-packet becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Super {
    /// TCP segments with this many bytes each.
    Tcp {
        /// Bytes of a segment, without headers.
        size: usize,
        /// Only the first segment keeps CWR.
        ecn: bool,
    },
    /// UDP datagrams with this many bytes each.
    Udp {
        /// Bytes of a datagram, without headers.
        size: usize,
    },
}

impl Super {
    /// Bytes that each of its packets carries, but the last.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Tcp { size, .. } | Self::Udp { size } => size,
        }
    }
}

impl VnetHeader {
    /// A packet that is complete.
    pub const NONE: Self =
        Self { flags: 0, gso_type: 0, header_length: 0, gso_size: 0, checksum_start: 0, checksum_offset: 0 };

    /// Reads it.
    #[must_use]
    pub fn read(bytes: &[u8; LENGTH]) -> Self {
        let [flags, gso_type, rest @ ..] = *bytes;
        let word = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        Self {
            flags,
            gso_type,
            header_length: word(0),
            gso_size: word(2),
            checksum_start: word(4),
            checksum_offset: word(6),
        }
    }

    /// The header of a packet whose checksum is left to its sender.
    #[must_use]
    pub const fn partial(checksum_start: u16, checksum_offset: u16) -> Self {
        Self { flags: NEEDS_CSUM, checksum_start, checksum_offset, ..Self::NONE }
    }

    /// The same packet as a super-packet.
    #[must_use]
    pub const fn split(mut self, parts: Super, header_length: u16) -> Self {
        self.header_length = header_length;
        (self.gso_type, self.gso_size) = match parts {
            Super::Tcp { size, ecn } => (if ecn { GSO_TCPV4 | GSO_ECN } else { GSO_TCPV4 }, size as u16),
            Super::Udp { size } => (GSO_UDP_L4, size as u16),
        };
        self
    }

    /// Writes it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let words = [self.header_length, self.gso_size, self.checksum_start, self.checksum_offset];
        let [[a, b], [c, d], [e, f], [g, h]] = words.map(u16::to_ne_bytes);
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }

    /// Where the unfinished checksum's sum begins, and where in the packet it lies.
    #[must_use]
    pub fn checksum(&self) -> Option<(usize, usize)> {
        let start = usize::from(self.checksum_start);
        (self.flags & NEEDS_CSUM != 0).then(|| (start, start + usize::from(self.checksum_offset)))
    }

    /// Whether this is a kind of super-packet, and which. The fragments of one datagram are not: it has one
    /// identification, and nothing but its IPv4 header is repeated.
    #[must_use]
    pub fn super_packet(&self) -> Option<Super> {
        let size = usize::from(self.gso_size);
        match self.gso_type & !GSO_ECN {
            _ if size == 0 => None,
            GSO_TCPV4 => Some(Super::Tcp { size, ecn: self.gso_type & GSO_ECN != 0 }),
            GSO_UDP_L4 => Some(Super::Udp { size }),
            _ => None,
        }
    }

    /// Whether the packet has to be split when it is sent.
    #[must_use]
    pub const fn is_split(&self) -> bool {
        self.gso_type != GSO_NONE
    }

    /// What the translator has to know about the packet.
    #[must_use]
    pub fn meta(&self, packet: &[u8]) -> PacketMeta {
        let mut meta = PacketMeta::new();
        if self.flags & NEEDS_CSUM != 0 {
            meta = meta.checksum(ChecksumState::Partial);
        }
        if let Some(parts) = self.super_packet() {
            let payload = packet.len().saturating_sub(headers(packet));
            meta = meta.segments(u16::try_from(payload.div_ceil(parts.size())).unwrap_or(u16::MAX));
        }
        meta
    }

    /// The length of the longest packet that will be on the wire, which is not the length of a super-packet.
    #[must_use]
    pub fn longest(&self, packet: &[u8]) -> usize {
        match (self.super_packet(), self.gso_type) {
            (Some(parts), _) => packet.len().min(headers(packet) + parts.size()),
            // It leaves in fragments.
            (None, GSO_UDP) => packet.len().min(packet::header_length(packet) + usize::from(self.gso_size)),
            (None, _) => packet.len(),
        }
    }
}

/// The length of a packet's IPv4 header and of the TCP or UDP header behind it. It must have an IPv4 header.
#[must_use]
pub fn headers(packet: &[u8]) -> usize {
    let ip = packet::header_length(packet);
    let transport = match packet::protocol(packet) {
        TCP => packet.get(ip + 12).map_or(20, |offset| usize::from(offset >> 4) * 4),
        UDP => 8,
        _ => 0,
    };
    ip + transport
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{tcp, udp};

    #[test]
    fn it_is_read_as_it_was_written() {
        let header = VnetHeader::partial(20, 16).split(Super::Tcp { size: 1448, ecn: true }, 52);
        assert_eq!(VnetHeader::read(&header.to_bytes()), header);
        assert_eq!(header.super_packet(), Some(Super::Tcp { size: 1448, ecn: true }));
        assert_eq!(header.checksum(), Some((20, 36)));
        assert_eq!(VnetHeader::read(&[0; LENGTH]), VnetHeader::NONE);
    }

    #[test]
    fn a_super_packet_is_as_long_as_the_packets_that_it_becomes() {
        let packet = tcp([1, 2, 3, 4], [5, 6, 7, 8], &[0; 10_000]);
        let header = VnetHeader::partial(20, 16).split(Super::Tcp { size: 1448, ecn: false }, 40);
        assert_eq!(header.longest(&packet), 1488);
        let meta = PacketMeta::new().checksum(ChecksumState::Partial);
        assert_eq!(header.meta(&packet), meta.segments(7));
        assert_eq!(VnetHeader::partial(20, 16).meta(&packet), meta);
        assert_eq!((VnetHeader::NONE.longest(&packet), VnetHeader::NONE.meta(&packet)), (10_040, PacketMeta::new()));
        let packet = udp([1, 2, 3, 4], [5, 6, 7, 8], &[0; 3_000]);
        let header = VnetHeader::partial(20, 6).split(Super::Udp { size: 1000 }, 28);
        assert_eq!((header.longest(&packet), header.meta(&packet)), (1028, meta.segments(3)));
    }

    /// UFO: one datagram that leaves in fragments, which has one identification.
    #[test]
    fn fragments_of_one_datagram_are_no_super_packet() {
        let packet = udp([1, 2, 3, 4], [5, 6, 7, 8], &[0; 3_000]);
        let mut bytes = VnetHeader::partial(20, 6).split(Super::Udp { size: 1480 }, 28).to_bytes();
        bytes[1] = GSO_UDP;
        let header = VnetHeader::read(&bytes);
        assert_eq!((header.super_packet(), header.longest(&packet)), (None, 1500));
        assert_eq!(header.meta(&packet).segments, 1);
    }
}

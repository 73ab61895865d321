//! What an IPv4 packet says of itself, read without the library's help: the example is the library's witness.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::Protocol;

/// An IPv4 packet whose header is there in full; of the rest there may be less than the header says.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a>(&'a [u8]);

/// Where a packet comes from and where it goes. An ICMP echo has its identifier as the port of the one who asks, and
/// zero as the port of the one who answers, as in the library's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub protocol: Protocol,
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
}

/// What the fragments of one datagram have in common (RFC 791, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    protocol: u8,
    identification: u16,
}

pub const ECHO_REPLY: u8 = 0;
pub const ECHO_REQUEST: u8 = 8;
/// Bytes of an ICMP header, and where the quoted packet of an error begins.
pub const ICMP_HEADER: usize = 8;

impl<'a> Packet<'a> {
    /// `None` if the header is not there in full.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let packet = Self(bytes);
        let is_header = bytes.len() >= 20 && bytes[0] >> 4 == 4 && packet.header_length() >= 20;
        (is_header && bytes.len() >= packet.header_length()).then_some(packet)
    }

    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub fn header_length(self) -> usize {
        usize::from(self.0[0] & 15) * 4
    }

    pub fn total_length(self) -> usize {
        usize::from(self.number(2))
    }

    pub fn protocol(self) -> u8 {
        self.0[9]
    }

    pub fn source(self) -> Ipv4Addr {
        self.address(12)
    }

    pub fn destination(self) -> Ipv4Addr {
        self.address(16)
    }

    pub fn payload(self) -> &'a [u8] {
        &self.0[self.header_length()..]
    }

    /// Which datagram it is a fragment of; `None` if it is a whole one.
    pub fn fragment_of(self) -> Option<Datagram> {
        let is_fragment = self.number(6) & 0x3fff != 0;
        is_fragment.then(|| Datagram {
            source: self.source(),
            destination: self.destination(),
            protocol: self.protocol(),
            identification: self.number(4),
        })
    }

    /// Whether it is a fragment that does not begin its datagram, and so has no ports.
    pub fn is_later_fragment(self) -> bool {
        self.number(6) & 0x1fff != 0
    }

    /// Its ends; `None` if it has no ports and no echo identifier.
    pub fn ends(self) -> Option<Ends> {
        if self.is_later_fragment() {
            return None;
        }
        let protocol = Protocol::from_number(self.protocol())?;
        let payload = self.payload().first_chunk::<8>()?;
        let pair = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        let (source, destination) = match (protocol, payload[0]) {
            (Protocol::Icmp, ECHO_REQUEST) => (pair(4), 0),
            (Protocol::Icmp, ECHO_REPLY) => (0, pair(4)),
            (Protocol::Icmp, _) => return None,
            _ => (pair(0), pair(2)),
        };
        Some(Ends {
            protocol,
            source: SocketAddrV4::new(self.source(), source),
            destination: SocketAddrV4::new(self.destination(), destination),
        })
    }

    /// The packet that an ICMP error quotes, the beginning of it at least; `None` if this is no ICMP error.
    pub fn quoted(self) -> Option<Self> {
        if self.protocol() != Protocol::Icmp.number() || self.fragment_of().is_some() {
            return None;
        }
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
        let is_error = matches!(self.payload().first()?, 3 | 4 | 5 | 11 | 12);
        if is_error { Self::read(self.payload().get(ICMP_HEADER..)?) } else { None }
    }

    /// Where its checksums are that may be written 0xFFFF in place of 0x0000 without a difference, those of a quoted packet
    /// included. UDP's are not among them: zero says there that there is none.
    pub fn checksums(self) -> Vec<usize> {
        let start = self.header_length();
        // In front of it there is a header, so not all that it covers can be zero.
        let mut fields = vec![10];
        match Protocol::from_number(self.protocol()) {
            _ if self.is_later_fragment() => {}
            Some(Protocol::Tcp) => fields.push(start + 16),
            // Nothing but zeros adds up to zero, which is not what adds up to 0xFFFF: then it makes a difference.
            Some(Protocol::Icmp) => {
                let message = self.payload();
                let is_zero = |at: usize| (2..4).contains(&at) || message[at] == 0;
                if !(0..message.len()).all(is_zero) {
                    fields.push(start + 2);
                }
            }
            _ => {}
        }
        let quoted = self.quoted().map_or_else(Vec::new, Self::checksums);
        fields.extend(quoted.iter().map(|field| start + ICMP_HEADER + field));
        fields
    }

    fn number(self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn address(self, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3])
    }
}

//! The addresses and ports of a packet: the only output of the parser.

use super::ipv4::{self, Header, ICMP, Parts, TCP, UDP};
use super::{icmp, tcp};

use crate::endpoint::Endpoint;
use crate::verdict::DropReason;

/// One packet's addresses. Ports are zero where the packet has none. An ICMP echo has its identifier as the port of the
/// host that asks, and zero as the port of the host that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
    pub(crate) shape: Shape,
}

/// What kind of packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A whole TCP segment, UDP datagram or ICMP echo.
    Whole,
    /// The first fragment of one of those.
    FirstFragment,
    /// A later fragment of anything: it has no ports.
    LaterFragment,
    /// An ICMP error, which is about the packet that it quotes.
    IcmpError,
    /// A protocol or an ICMP message that is not translated.
    Other,
}

impl Flow {
    #[inline(always)]
    pub(crate) const fn source_endpoint(&self) -> Endpoint {
        Endpoint::new(self.source, self.source_port)
    }

    #[inline(always)]
    pub(crate) const fn destination_endpoint(&self) -> Endpoint {
        Endpoint::new(self.destination, self.destination_port)
    }

    /// Reads the flow of a packet.
    ///
    /// # Errors
    /// [`DropReason::MalformedTransport`] if a whole packet's transport header is truncated or inconsistent;
    /// [`DropReason::TinyFragment`] if a first fragment does not contain all of it (RFC 1858).
    pub(crate) fn read(parts: &Parts<'_>) -> Result<Self, DropReason> {
        let header = Header(parts.header);
        let fragmentation = header.fragmentation();
        let flow = Self {
            source: header.source(),
            destination: header.destination(),
            source_port: 0,
            destination_port: 0,
            protocol: header.protocol(),
            shape: Shape::Other,
        };
        let (shape, too_short) = match (ipv4::is_fragment(fragmentation), ipv4::offset(fragmentation)) {
            (false, _) => (Shape::Whole, DropReason::MalformedTransport),
            (true, 0) => (Shape::FirstFragment, DropReason::TinyFragment),
            (true, _) => return Ok(Self { shape: Shape::LaterFragment, ..flow }),
        };
        let length = parts.payload.len();
        let least = match flow.protocol {
            TCP => tcp::HEADER,
            UDP | ICMP => 8,
            _ => return Ok(flow),
        };
        let first = parts.payload.first_chunk::<8>().filter(|_| length >= least).ok_or(too_short)?;
        let word = |at: usize| u16::from_be_bytes([first[at & 7], first[(at + 1) & 7]]);
        match flow.protocol {
            ICMP => {
                let echo = Self { shape, ..flow };
                return Ok(match icmp::kind(first[0]) {
                    icmp::Kind::EchoRequest => Self { source_port: word(4), ..echo },
                    icmp::Kind::EchoReply => Self { destination_port: word(4), ..echo },
                    // A real error is too small to be fragmented; one that claims to be a fragment is not parsed.
                    icmp::Kind::Error if shape == Shape::Whole => Self { shape: Shape::IcmpError, ..flow },
                    icmp::Kind::Error | icmp::Kind::Other => flow,
                });
            }
            TCP => {
                let header = parts.payload.get(12).map_or(0, |byte| usize::from(byte >> 4) << 2);
                if header < tcp::HEADER {
                    return Err(DropReason::MalformedTransport);
                }
                if header > length {
                    return Err(too_short);
                }
            }
            _ => {
                let datagram = usize::from(word(4));
                if shape == Shape::Whole && (datagram < 8 || datagram > length) {
                    return Err(DropReason::MalformedTransport);
                }
            }
        }
        Ok(Self { source_port: word(0), destination_port: word(2), shape, ..flow })
    }
}

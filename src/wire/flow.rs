//! What a packet says about where it belongs: the only output of the parser.

use super::ipv4::{self, Header, Parts};
use super::{icmp, tcp};
use crate::verdict::DropReason;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// One packet's addresses. Ports are zero where the packet has none; an ICMP echo bears its identifier as the port of
/// the one who asks, and zero as the port of the one who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
    pub(crate) shape: Shape,
}

/// What kind of packet bears the addresses.
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
    /// Reads the flow of a packet.
    ///
    /// # Errors
    /// [`DropReason::MalformedTransport`] if a whole packet's transport header is cut short or contradicts itself;
    /// [`DropReason::TinyFragment`] if a first fragment does not hold it (RFC 1858).
    pub(crate) fn read(parts: &Parts<'_>) -> Result<Self, DropReason> {
        let header = Header(parts.header);
        let protocol = header.protocol();
        let fragmentation = header.fragmentation();
        let mut flow = Self {
            source: header.source(),
            destination: header.destination(),
            source_port: 0,
            destination_port: 0,
            protocol,
            shape: Shape::Whole,
        };
        if ipv4::is_fragment(fragmentation) {
            flow.shape = if ipv4::offset(fragmentation) == 0 { Shape::FirstFragment } else { Shape::LaterFragment };
            return flow.read_fragment(parts);
        }
        match protocol {
            TCP => match parts.payload.first_chunk::<{ tcp::HEADER }>() {
                Some(h) if usize::from(h[12] >> 4) << 2 <= parts.payload.len() && h[12] >> 4 >= 5 => {
                    Ok(flow.with_ports(&[h[0], h[1], h[2], h[3]]))
                }
                _ => Err(DropReason::MalformedTransport),
            },
            UDP => match parts.payload.first_chunk::<8>() {
                Some(h) => {
                    let length = usize::from(u16::from_be_bytes([h[4], h[5]]));
                    if length < 8 || length > parts.payload.len() {
                        return Err(DropReason::MalformedTransport);
                    }
                    Ok(flow.with_ports(&[h[0], h[1], h[2], h[3]]))
                }
                None => Err(DropReason::MalformedTransport),
            },
            _ => flow.read_rare(parts),
        }
    }

    const fn with_ports(mut self, ports: &[u8; 4]) -> Self {
        self.source_port = u16::from_be_bytes([ports[0], ports[1]]);
        self.destination_port = u16::from_be_bytes([ports[2], ports[3]]);
        self
    }

    fn read_fragment(self, parts: &Parts<'_>) -> Result<Self, DropReason> {
        if self.shape == Shape::LaterFragment {
            return Ok(self);
        }
        let needed = match self.protocol {
            TCP => tcp::HEADER,
            UDP | ICMP => 8,
            _ => {
                return Ok(Self { shape: Shape::Other, ..self });
            }
        };
        if parts.payload.len() < needed {
            return Err(DropReason::TinyFragment);
        }
        if self.protocol == ICMP {
            // An ICMP error is too small to be fragmented; what claims to be one is not looked into.
            let flow = self.read_icmp(parts)?;
            let error = flow.shape == Shape::IcmpError;
            return Ok(Self { shape: if error { Shape::Other } else { flow.shape }, ..flow });
        }
        if self.protocol == TCP {
            let length = parts.payload.get(12).map_or(0, |octet| usize::from(octet >> 4) << 2);
            if length < tcp::HEADER {
                return Err(DropReason::MalformedTransport);
            }
            if length > parts.payload.len() {
                return Err(DropReason::TinyFragment);
            }
        }
        match parts.payload.first_chunk::<4>() {
            Some(ports) => Ok(self.with_ports(ports)),
            None => Err(DropReason::TinyFragment),
        }
    }

    fn read_rare(self, parts: &Parts<'_>) -> Result<Self, DropReason> {
        match self.protocol {
            ICMP => self.read_icmp(parts),
            _ => Ok(Self { shape: Shape::Other, ..self }),
        }
    }

    fn read_icmp(self, parts: &Parts<'_>) -> Result<Self, DropReason> {
        let header = parts.payload.first_chunk::<8>().ok_or(DropReason::MalformedTransport)?;
        let identifier = u16::from_be_bytes([header[4], header[5]]);
        Ok(match icmp::kind(header[0]) {
            icmp::Kind::EchoRequest => Self { source_port: identifier, ..self },
            icmp::Kind::EchoReply => Self { destination_port: identifier, ..self },
            icmp::Kind::Error => Self { shape: Shape::IcmpError, ..self },
            icmp::Kind::Other => Self { shape: Shape::Other, ..self },
        })
    }
}

//! Whose data a packet carries, for observers.

use core::net::SocketAddrV4;
use core::ops::Range;

use crate::endpoint::Endpoint;
use crate::wire::ipv4::{self, HEADER, Header, TCP};

/// Whose segment with data a packet is, and where its data lies.
pub(super) struct Labels {
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) data: Range<usize>,
}

impl Labels {
    /// `None` if the packet is no TCP segment with data, or a fragment.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let header = Header(packet.first_chunk::<HEADER>()?);
        if header.protocol() != TCP || ipv4::is_fragment(header.fragmentation()) {
            return None;
        }
        let start = header.header_length();
        let [a, b, c, d, e, f, g, h, i, j, k, l, offset] = *packet.get(start..)?.first_chunk::<13>()?;
        let data = start + (usize::from(offset >> 4) << 2)..header.total_length();
        (!data.is_empty()).then_some(Self {
            source: Endpoint::new(header.source(), u16::from_be_bytes([a, b])).socket(),
            destination: Endpoint::new(header.destination(), u16::from_be_bytes([c, d])).socket(),
            sequence: u32::from_be_bytes([e, f, g, h]),
            acknowledgment: u32::from_be_bytes([i, j, k, l]),
            data,
        })
    }
}

//! Reads the data of TCP segments, and shows it to the protocol above TCP.

use core::net::SocketAddrV4;
use core::ops::Range;

use crate::connection::Direction;
use crate::endpoint::{Endpoint, Pair};
use crate::translator::handover::resumption::{Observed, Resumption};
use crate::verdict::Verdict;
use crate::wire::ipv4::{self, HEADER, Header, TCP};

/// The endpoints and numbers of a TCP segment with data, and where its data lies in the packet.
pub(super) struct Labels {
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) data: Range<usize>,
}

impl Labels {
    /// `None` if the packet is not a TCP segment with data, or is a fragment.
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

/// Shows the protocol above TCP a packet that has passed. `before` is what was read from the packet before its
/// translation.
pub(super) fn show<R: Resumption>(resumption: &mut R, verdict: Verdict, before: Option<Labels>, packet: &[u8]) {
    let (direction, labels) = match verdict {
        Verdict::ToServer => (Direction::ToServer, before),
        Verdict::ToClient => (Direction::ToClient, Labels::of(packet)),
        _ => return,
    };
    let Some(Labels { source, destination, sequence, acknowledgment, data }) = labels else {
        return;
    };
    let Some(data) = packet.get(data) else {
        return;
    };
    let client_side = match direction {
        Direction::ToServer => Pair { source, destination },
        Direction::ToClient => Pair { source: destination, destination: source },
    };
    resumption.observe(&Observed { client_side, direction, sequence, acknowledgment, data });
}

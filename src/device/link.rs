//! The link layer: where a frame's packet begins, and which addresses the translator's own packets need.

use smoltcp::phy::Medium;

use crate::connection::Direction;
use crate::verdict::Verdict;

/// Length in bytes of an Ethernet header without tags.
pub(super) const ETHERNET: usize = 14;

/// The EtherType of IPv4 (RFC 894).
const IPV4: [u8; 2] = [0x08, 0x00];

/// Link addresses that the stack has used, as whole Ethernet headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    to_server: Option<[u8; ETHERNET]>,
    to_client: [u8; ETHERNET],
}

impl Links {
    /// Broadcast to the stack until it has shown its address.
    pub(super) const NEW: Self =
        Self { to_server: None, to_client: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, IPV4[0], IPV4[1]] };

    /// Learns from the header of an IPv4 frame that the stack sent.
    pub(super) fn learn(&mut self, header: [u8; ETHERNET], verdict: Verdict) {
        let [destination, source] = [&header[..6], &header[6..12]];
        self.to_client[..6].copy_from_slice(source);
        self.to_client[6..12].copy_from_slice(destination);
        if verdict == Verdict::ToServer {
            self.to_server = Some(header);
        }
    }

    /// Writes the Ethernet header of one of the translator's own packets, if the medium has one. False if its addresses
    /// are not known.
    pub(super) fn address(&self, frame: &mut [u8], header: usize, direction: Direction) -> bool {
        let Some(place) = frame.first_chunk_mut::<ETHERNET>().filter(|_| header == ETHERNET) else {
            return true;
        };
        let known = match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => Some(self.to_client),
        };
        *place = known.unwrap_or_default();
        known.is_some()
    }
}

/// The IPv4 packet in a frame. On an IP medium it may be of another version, which the translator passes.
pub(super) fn packet(medium: Medium, frame: &mut [u8]) -> Option<&mut [u8]> {
    match header_length(medium)? {
        0 => Some(frame).filter(|frame| !frame.is_empty()),
        header => {
            let (header, packet) = frame.split_at_mut_checked(header)?;
            header.ends_with(&IPV4).then_some(packet)
        }
    }
}

/// Bytes before the packet; `None` for a medium that is not supported.
pub(super) fn header_length(medium: Medium) -> Option<usize> {
    // Not a `match`: smoltcp has more media when more of its features are enabled.
    if medium == Medium::Ethernet {
        Some(ETHERNET)
    } else if medium == Medium::Ip {
        Some(0)
    } else {
        None
    }
}

/// Copies without a panic even if a device provides a buffer of a length other than requested.
pub(super) fn copy(from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..length), to.get_mut(..length)) {
        to.copy_from_slice(from);
    }
}

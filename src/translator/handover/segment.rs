//! The TCP segments that a hand-over exchanges with the new server.

use crate::endpoint::Endpoint;
use crate::packet_meta::{ChecksumState, PacketMeta};
use crate::track::resume::{put, word};
use crate::wire::ipv4::{self, Header, TCP};
use crate::wire::options::{self, Offer};
use crate::wire::originate::{transport_checksum, write_ipv4};
use crate::wire::tcp::{self, Segment};

/// Bytes of the headers of a segment: IPv4, TCP, and the options of a SYN, which are the longest.
pub(super) const HEADERS: usize = ipv4::HEADER + tcp::HEADER + SYN_OPTIONS;
const SYN_OPTIONS: usize = 20;
pub(super) const PSH: u8 = 0x08;

/// A segment to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// TSval and TSecr.
    pub(super) clocks: Option<(u32, u32)>,
    pub(super) offer: Option<Offer>,
    pub(super) data: &'a [u8],
}

impl Outgoing<'_> {
    /// Writes the packet, with valid checksums. Returns its length; `None` if the buffer is too small.
    pub(super) fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let (header, segment) = buffer.split_first_chunk_mut::<{ ipv4::HEADER }>()?;
        let fixed = segment.first_chunk_mut::<{ tcp::HEADER }>()?;
        fixed[0..2].copy_from_slice(&self.source.port.to_be_bytes());
        fixed[2..4].copy_from_slice(&self.destination.port.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.acknowledgment.to_be_bytes());
        fixed[13] = self.flags;
        fixed[14..16].copy_from_slice(&self.window.to_be_bytes());
        fixed[16..20].fill(0);
        let mut offset = tcp::HEADER;
        let mut add = |word: u32| {
            put(segment, offset, word);
            offset += 4;
        };
        let mut pair = [options::NOP, options::NOP];
        if let Some(Offer { mss, scale, sack, .. }) = self.offer {
            add(u32::from_be_bytes([options::MSS, 4, 0, 0]) | u32::from(mss));
            if let Some(scale) = scale {
                add(u32::from_be_bytes([options::NOP, options::WINDOW_SCALE, 3, scale]));
            }
            if sack {
                pair = [options::SACK_PERMITTED, 2];
            }
        }
        let [first, second] = pair;
        if let Some((value, echo)) = self.clocks {
            add(u32::from_be_bytes([first, second, options::TIMESTAMPS, 10]));
            add(value);
            add(echo);
        } else if first != options::NOP {
            add(u32::from_be_bytes([first, second, options::NOP, options::NOP]));
        }
        let length = offset + self.data.len();
        let segment = segment.get_mut(..length)?;
        *segment.get_mut(12)? = (offset as u8 >> 2) << 4;
        copy(segment.get_mut(offset..)?, self.data)?;
        let sum = transport_checksum(TCP, self.source.address, self.destination.address, segment);
        segment.get_mut(16..18)?.copy_from_slice(&sum.to_be_bytes());
        let total = ipv4::HEADER + length;
        write_ipv4(header, u16::try_from(total).ok()?, TCP, self.source.address, self.destination.address);
        Some(total)
    }
}

/// A whole TCP segment as it arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    pub(super) segment: Segment,
    pub(super) window: u16,
    /// TSval and TSecr.
    pub(super) clocks: Option<(u32, u32)>,
    pub(super) data: &'a [u8],
    tcp: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// Reads a packet. `None` if it is anything but a whole TCP segment. The checksum is not checked: see [`Self::is_intact`].
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        let header = packet.first_chunk::<{ ipv4::HEADER }>()?;
        let view = Header(header);
        let (start, total) = (view.header_length(), view.total_length());
        if header[0] >> 4 != 4 || view.protocol() != TCP || ipv4::is_fragment(view.fragmentation()) {
            return None;
        }
        let tcp = packet.get(start.max(ipv4::HEADER)..total)?;
        let segment = Segment::of(tcp)?;
        let data = tcp.get(tcp.len() - segment.data as usize..)?;
        let fixed = tcp.first_chunk::<{ tcp::HEADER }>()?;
        Some(Self {
            source: Endpoint::new(view.source(), u16::from_be_bytes([fixed[0], fixed[1]])),
            destination: Endpoint::new(view.destination(), u16::from_be_bytes([fixed[2], fixed[3]])),
            segment,
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            clocks: options::timestamps(tcp).and_then(|at| Some((word(tcp, at)?, word(tcp, at + 4)?))),
            data,
            tcp,
        })
    }

    /// Whether its checksum is right, or is to be completed later.
    pub(super) fn is_intact(&self, meta: PacketMeta) -> bool {
        meta.checksum != ChecksumState::Complete
            || transport_checksum(TCP, self.source.address, self.destination.address, self.tcp) == 0
    }

    /// What its options say.
    pub(super) fn offer(&self) -> Offer {
        Offer::of(self.tcp)
    }
}

/// Copies all bytes. `None` if the lengths differ.
pub(super) fn copy(to: &mut [u8], from: &[u8]) -> Option<()> {
    let fits = to.len() == from.len();
    fits.then(|| to.copy_from_slice(from))
}

/// Completes the checksum of a packet that is a whole TCP segment: no hardware will complete it any more.
pub(super) fn finish_checksum(packet: &mut [u8]) {
    let Some(header) = packet.first_chunk::<{ ipv4::HEADER }>().map(Header) else {
        return;
    };
    let (source, destination) = (header.source(), header.destination());
    let range = header.header_length()..header.total_length();
    let Some(tcp) = packet.get_mut(range).filter(|tcp| tcp.len() >= 18) else {
        return;
    };
    if let Some(field) = tcp.get_mut(16..18) {
        field.fill(0);
    }
    let sum = transport_checksum(TCP, source, destination, tcp);
    if let Some(field) = tcp.get_mut(16..18) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

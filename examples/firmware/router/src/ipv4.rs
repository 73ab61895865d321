//! The IPv4 header, as far as a router looks at it.

use core::net::Ipv4Addr;

use crate::counters::Reason;

pub(crate) const HEADER: usize = 20;
pub(crate) const ICMP: u8 = 1;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// What a router reads of a header that it has checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) header_len: usize,
    pub(crate) total_len: usize,
    pub(crate) ttl: u8,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    fragment: u16,
}

impl Header {
    /// Checks a packet that may be followed by the padding of its frame (RFC 1812, section 5.2.2).
    pub(crate) fn check(bytes: &[u8]) -> Result<Self, Reason> {
        let header = Self::read(bytes).ok_or(Reason::Ipv4)?;
        let sane = bytes[0] >> 4 == 4
            && header.header_len >= HEADER
            && header.total_len >= header.header_len
            && header.total_len <= bytes.len()
            && checksum(&bytes[..header.header_len]) == 0;
        if sane { Ok(header) } else { Err(Reason::Ipv4) }
    }

    /// Reads a packet that was checked before it was rewritten. `None` if it is cut short.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let fixed: &[u8; HEADER] = bytes.first_chunk()?;
        Some(Self {
            header_len: usize::from(fixed[0] & 0x0f) * 4,
            total_len: usize::from(u16::from_be_bytes([fixed[2], fixed[3]])),
            fragment: u16::from_be_bytes([fixed[6], fixed[7]]),
            ttl: fixed[8],
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
        })
    }

    pub(crate) fn dont_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT != 0
    }
}

/// Whether a packet may come from `address` or be forwarded to it: one host on some network. Not this network, loopback,
/// multicast, reserved or broadcast (RFC 1812, sections 5.3.7 and 4.2.2.11), nor link-local (RFC 3927, section 7).
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224 && !address.is_link_local()
}

/// Takes one off the TTL of a checked packet, and corrects the checksum by the difference (RFC 1624, equation 3).
pub(crate) fn decrement_ttl(packet: &mut [u8]) {
    let Some(header) = packet.first_chunk_mut::<HEADER>() else { return };
    let before = u16::from_be_bytes([header[8], header[9]]);
    header[8] = header[8].saturating_sub(1);
    let after = u16::from_be_bytes([header[8], header[9]]);
    let old = u16::from_be_bytes([header[10], header[11]]);
    let sum = fold(u32::from(!old) + u32::from(!before) + u32::from(after));
    header[10..12].copy_from_slice(&(!sum).to_be_bytes());
}

/// The Internet checksum (RFC 1071); 0 over bytes that contain their own right checksum.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum: u32 = pairs.iter().map(|&pair| u32::from(u16::from_be_bytes(pair))).sum();
    if let [last] = rest {
        sum += u32::from(*last) << 8;
    }
    !fold(sum)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pieces of a packet that is longer than the next link takes (RFC 791, section 3.2; RFC 1812, section 5.2.6).
#[derive(Debug)]
pub(crate) struct Fragments<'a> {
    header: [u8; HEADER],
    fragment: u16,
    /// The data that has not been sent yet.
    data: &'a [u8],
    /// Bytes of data in every piece but the last: a multiple of 8.
    step: usize,
}

impl<'a> Fragments<'a> {
    /// Splits a checked packet without options. `mtu` is at least 68, as for every link that carries IPv4 (RFC 791).
    pub(crate) fn of(packet: &'a [u8], mtu: usize) -> Result<Self, Reason> {
        let (header, data) = packet.split_first_chunk::<HEADER>().ok_or(Reason::Ipv4)?;
        if usize::from(header[0] & 0x0f) * 4 != HEADER {
            return Err(Reason::Options);
        }
        let step = mtu.saturating_sub(HEADER) & !7;
        if step == 0 {
            return Err(Reason::TooBig);
        }
        Ok(Self { header: *header, fragment: u16::from_be_bytes([header[6], header[7]]), data, step })
    }

    /// Writes the next piece into `out` and returns its length; `None` when all is sent or `out` is too short.
    pub(crate) fn next_into(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.data.is_empty() {
            return None;
        }
        let (piece, rest) = self.data.split_at_checked(self.step).unwrap_or((self.data, &[]));
        let len = HEADER + piece.len();
        let out = out.get_mut(..len)?;
        let mut header = self.header;
        let more = if rest.is_empty() { self.fragment & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let fragment = (self.fragment & !MORE_FRAGMENTS) | more;
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        out[..HEADER].copy_from_slice(&header);
        out[HEADER..].copy_from_slice(piece);
        // An offset that would wrap belongs to a datagram of more than 65,535 bytes, which nobody can put together:
        // it keeps within its 13 bits, so that no other field is touched.
        let offset = (self.fragment & OFFSET).wrapping_add((piece.len() / 8) as u16) & OFFSET;
        self.fragment = (self.fragment & !OFFSET) | offset;
        self.data = rest;
        Some(len)
    }
}

/// Whether a packet is TCP to port 53, as far as it can be seen: a later fragment has no port, and nothing without the first.
pub(crate) fn is_dns_over_tcp(packet: &[u8]) -> bool {
    const TCP: u8 = 6;
    const DNS: u16 = 53;
    let is_tcp = packet.get(9) == Some(&TCP) && !is_later_fragment(packet);
    let header = Header::read(packet).map_or(0, |header| header.header_len);
    is_tcp && packet.get(header + 2..header + 4) == Some(&DNS.to_be_bytes())
}

/// Whether this packet is a fragment other than the first.
pub(crate) fn is_later_fragment(packet: &[u8]) -> bool {
    Header::read(packet).is_some_and(|header| header.fragment & OFFSET != 0)
}

//! Packets by the book: what RFC 791, 768, 9293 and 792 say of a packet's bytes, and checksums by summing everything
//! up (RFC 1071). None of it is taken from the library.

use core::net::{Ipv4Addr, SocketAddrV4};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// The one's complement sum of all bytes; an odd last one counts as the upper half of a word.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    let all = parts.concat();
    for pair in all.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(long(bytes, at))
}

/// Where the parts of an IPv4 packet lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the header, options included.
    pub header: usize,
    /// Bytes of the packet; what lies behind is padding.
    pub total: usize,
}

/// `None` if the IPv4 header is cut short or contradicts itself.
pub fn layout(packet: &[u8]) -> Option<Layout> {
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return None;
    }
    let (header, total) = (usize::from(packet[0] & 15) * 4, usize::from(word(packet, 2)));
    (header >= 20 && total >= header && total <= packet.len()).then_some(Layout { header, total })
}

/// Where the transport checksum of a protocol lies in its header.
pub const fn checksum_place(protocol: u8) -> Option<usize> {
    match protocol {
        ICMP => Some(2),
        TCP => Some(16),
        UDP => Some(6),
        _ => None,
    }
}

/// The sums over everything that the two checksums cover, the checksums included: 0xFFFF where a checksum is right.
/// `None` for the transport where it has no checksum or not all of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    pub header: u16,
    pub transport: Option<u16>,
}

/// Sums up a packet that has a layout. For a first fragment the transport's sum is over what is there: it is not right,
/// but a translation must not change it either, but for zero, which one's complement writes in two ways.
pub fn sums(packet: &[u8], layout: Layout) -> Sums {
    let field = layout.header + 6;
    let none = packet[9] == UDP && layout.total >= field + 2 && packet[field..field + 2] == [0, 0];
    let transport = transport_sum(packet, layout).filter(|_| !none);
    Sums { header: sum(&[&packet[..layout.header]]), transport }
}

/// The sum over everything that the transport checksum covers, also where UDP has none.
pub fn transport_sum(packet: &[u8], layout: Layout) -> Option<u16> {
    let (header, payload) = (&packet[..layout.header], &packet[layout.header..layout.total]);
    let protocol = packet[9];
    let later = word(packet, 6) & 0x1fff != 0;
    checksum_place(protocol).filter(|at| !later && payload.len() >= at + 2).map(|_| {
        let length = if protocol == UDP { word(payload, 4) } else { payload.len() as u16 };
        let covered = &payload[..usize::from(length).clamp(8.min(payload.len()), payload.len())];
        let pseudo = [&header[12..20], &[0, protocol], &length.to_be_bytes()].concat();
        if protocol == ICMP { sum(&[payload]) } else { sum(&[&pseudo, covered]) }
    })
}

/// Whether two sums stand for the same number: 0x0000 and 0xFFFF do.
pub fn same_sum(a: u16, b: u16) -> bool {
    a % 0xffff == b % 0xffff
}

/// Puts both checksums of a packet right, from scratch. A fragment gets its header's alone.
pub fn fill_checksums(packet: &mut [u8]) {
    let Some(Layout { header, total }) = layout(packet) else {
        return;
    };
    packet[10..12].fill(0);
    let right = !sum(&[&packet[..header]]);
    packet[10..12].copy_from_slice(&right.to_be_bytes());
    if word(packet, 6) & 0x3fff == 0 {
        fill_transport(packet, Layout { header, total });
    }
}

fn fill_transport(packet: &mut [u8], Layout { header, total }: Layout) {
    let protocol = packet[9];
    let Some(at) = checksum_place(protocol).map(|at| header + at).filter(|at| at + 2 <= total) else {
        return;
    };
    let length = if protocol == UDP { usize::from(word(packet, header + 4)) } else { total - header };
    if length > total - header || length < at + 2 - header {
        return;
    }
    packet[at..at + 2].fill(0);
    let covered = &packet[header..header + length];
    let pseudo = [&packet[12..20], &[0, protocol], &(length as u16).to_be_bytes()].concat();
    let right = if protocol == ICMP { !sum(&[covered]) } else { !sum(&[&pseudo, covered]) };
    let written = if protocol == UDP && right == 0 { 0xffff } else { right };
    packet[at..at + 2].copy_from_slice(&written.to_be_bytes());
}

/// An IPv4 packet around `payload`, all checksums right.
pub fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    fill_checksums(&mut packet);
    packet
}

pub fn udp(source: SocketAddrV4, destination: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    let mut payload = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    payload.extend((data.len() as u16 + 8).to_be_bytes());
    payload.extend([0, 0]);
    payload.extend(data);
    ipv4(UDP, *source.ip(), *destination.ip(), &payload)
}

/// A TCP segment: flags, sequence number, acknowledgement.
pub fn tcp(source: SocketAddrV4, destination: SocketAddrV4, segment: (u8, u32, u32), data: &[u8]) -> Vec<u8> {
    let (flags, sequence, acknowledgment) = segment;
    let mut payload = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    payload.extend(sequence.to_be_bytes());
    payload.extend(acknowledgment.to_be_bytes());
    payload.extend([5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    payload.extend(data);
    ipv4(TCP, *source.ip(), *destination.ip(), &payload)
}

/// An ICMP echo request (8) or reply (0).
pub fn echo(kind: u8, source: Ipv4Addr, destination: Ipv4Addr, identifier: u16, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![kind, 0, 0, 0];
    payload.extend(identifier.to_be_bytes());
    payload.extend([0, 1]);
    payload.extend(data);
    ipv4(ICMP, source, destination, &payload)
}

/// An ICMP error from `source` to `destination` that quotes `quoted` bytes of a packet.
pub fn icmp_error(kind: u8, source: Ipv4Addr, destination: Ipv4Addr, about: &[u8], quoted: usize) -> Vec<u8> {
    let mut payload = vec![kind, 1, 0, 0, 0, 0, 0, 0];
    payload.extend(&about[..quoted.min(about.len())]);
    ipv4(ICMP, source, destination, &payload)
}

/// The answer to a packet: addresses, ports and kind of echo the other way round, checksums right.
pub fn mirrored(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet.to_vec();
    let Some(Layout { header, total }) = layout(packet) else {
        return answer;
    };
    answer[12..16].copy_from_slice(&packet[16..20]);
    answer[16..20].copy_from_slice(&packet[12..16]);
    match packet[9] {
        TCP | UDP if total >= header + 4 => {
            answer[header..header + 2].copy_from_slice(&packet[header + 2..header + 4]);
            answer[header + 2..header + 4].copy_from_slice(&packet[header..header + 2]);
        }
        ICMP if total > header => answer[header] = if packet[header] == 8 { 0 } else { 8 },
        _ => {}
    }
    fill_checksums(&mut answer);
    answer
}

/// The checksum that makes a packet as right or as wrong as it was, by the sum over everything that it covers: 0 to
/// 0xFFFE, as a host computes it, and 0xFFFF in place of 0 over nothing but zeros. `sum` writes a value in its place and
/// sums up.
pub fn as_far_off(old: u16, mut sum: impl FnMut(u16) -> u16) -> u16 {
    let rest = sum(0);
    let checksum = ((u32::from(old % 0xffff) + 0xffff - u32::from(rest % 0xffff)) % 0xffff) as u16;
    // Only zeros add up to 0x0000.
    if rest == 0 && checksum == 0 { 0xffff } else { checksum }
}

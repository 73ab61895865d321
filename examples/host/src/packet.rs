//! What a router reads and writes in an IPv4 header.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::Protocol;

/// The shortest IPv4 header, in bytes.
pub const HEADER: usize = 20;
/// Protocol numbers.
pub const ICMP: u8 = 1;
/// TCP's.
pub const TCP: u8 = 6;
/// UDP's.
pub const UDP: u8 = 17;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Why a packet is not routed (RFC 1812, section 5.2.2 and 5.3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not an IPv4 packet.
    NotIpv4,
    /// Its header is cut short, contradicts itself, or has a wrong checksum.
    Malformed,
    /// Its source or its destination is an address that is never routed.
    Martian,
}

/// Checks a packet as a router does, and returns its total length: what is behind that is padding.
///
/// # Errors
/// [`Fault`] says why it is not to be routed.
pub fn check(packet: &[u8]) -> Result<usize, Fault> {
    if packet.first().is_none_or(|first| first >> 4 != 4) {
        return Err(Fault::NotIpv4);
    }
    let header = packet.get(..header_length(packet)).ok_or(Fault::Malformed)?;
    if header.len() < HEADER || sum(header) != 0xffff {
        return Err(Fault::Malformed);
    }
    let total = usize::from(word(packet, 2));
    if total < header.len() || total > packet.len() {
        return Err(Fault::Malformed);
    }
    let (source, destination) = (source(packet), destination(packet));
    if !may_be_source(source) || !may_be_routed_to(destination) {
        return Err(Fault::Martian);
    }
    Ok(total)
}

/// Whether this can be the source address of a packet: it must be a host's.
#[must_use]
pub fn may_be_source(address: Ipv4Addr) -> bool {
    may_be_routed_to(address)
}

/// Whether a router forwards packets to this address: "this network", loopback, link-local, multicast, reserved and
/// broadcast addresses stay where they are (RFC 1812, section 5.3.7; RFC 3927, section 2.7).
#[must_use]
pub fn may_be_routed_to(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    !(first == 0 || first == 127 || first >= 224 || (first, second) == (169, 254))
}

/// The length that the IPv4 header claims to have.
#[must_use]
pub fn header_length(packet: &[u8]) -> usize {
    packet.first().map_or(0, |first| usize::from(first & 15) * 4)
}

/// The source; the packet must have an IPv4 header, here and below.
#[must_use]
pub fn source(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from_octets([packet[12], packet[13], packet[14], packet[15]])
}

/// The destination.
#[must_use]
pub fn destination(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from_octets([packet[16], packet[17], packet[18], packet[19]])
}

/// The protocol's number.
#[must_use]
pub fn protocol(packet: &[u8]) -> u8 {
    packet[9]
}

/// How many more routers the packet may pass.
#[must_use]
pub fn ttl(packet: &[u8]) -> u8 {
    packet[8]
}

/// Whether it must not be fragmented.
#[must_use]
pub fn is_whole_or_nothing(packet: &[u8]) -> bool {
    word(packet, 6) & DONT_FRAGMENT != 0
}

/// Whether it is a fragment.
#[must_use]
pub fn is_fragment(packet: &[u8]) -> bool {
    word(packet, 6) & (MORE_FRAGMENTS | OFFSET) != 0
}

/// Whether it is a fragment other than the first: it has no ports.
#[must_use]
pub fn is_later_fragment(packet: &[u8]) -> bool {
    word(packet, 6) & OFFSET != 0
}

/// The destination port of a TCP segment or UDP datagram.
#[must_use]
pub fn destination_port(packet: &[u8]) -> Option<u16> {
    let at = header_length(packet) + 2;
    let has_ports = matches!(protocol(packet), TCP | UDP) && !is_later_fragment(packet) && packet.len() >= at + 2;
    has_ports.then(|| word(packet, at))
}

/// The protocol and the endpoint that a server's packet goes to; of an ICMP echo reply the identifier is the port.
#[must_use]
pub fn reply_to(packet: &[u8]) -> Option<(Protocol, SocketAddrV4)> {
    let at = header_length(packet);
    let (protocol, port) = match protocol(packet) {
        ICMP if packet.len() >= at + 8 && !is_later_fragment(packet) && packet[at] == 0 => {
            (Protocol::Icmp, word(packet, at + 4))
        }
        TCP => (Protocol::Tcp, destination_port(packet)?),
        UDP => (Protocol::Udp, destination_port(packet)?),
        _ => return None,
    };
    Some((protocol, SocketAddrV4::new(destination(packet), port)))
}

/// Source and destination of a TCP segment that is neither SYN nor RST: its sender believes that it has a connection.
#[must_use]
pub fn goes_on(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    const RST: u8 = 4;
    let (from, to, flags) = segment(packet)?;
    (flags & (SYN | RST) == 0).then_some((from, to))
}

/// The flags that open and continue a TCP connection.
pub const SYN: u8 = 2;
/// Set in all segments of a connection but the first.
pub const ACK: u8 = 16;

/// Source, destination and flags of a TCP segment.
#[must_use]
pub fn segment(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, u8)> {
    let flags = *packet.get(header_length(packet) + 13).filter(|_| protocol(packet) == TCP)?;
    let (from, to) = source_port(packet).zip(destination_port(packet))?;
    Some((SocketAddrV4::new(source(packet), from), SocketAddrV4::new(destination(packet), to), flags))
}

/// The source port of a TCP segment or UDP datagram.
#[must_use]
pub fn source_port(packet: &[u8]) -> Option<u16> {
    destination_port(packet).map(|_| word(packet, header_length(packet)))
}

/// Decrements the TTL, which must not be zero, and updates the header's checksum (RFC 1624).
pub fn decrement_ttl(packet: &mut [u8]) {
    packet[8] -= 1;
    let (sum, carry) = word(packet, 10).overflowing_add(0x0100);
    // A checksum of 0xffff would say the same as 0, which is what a sender computes.
    let sum = sum + u16::from(carry);
    put(packet, 10, if sum == 0xffff { 0 } else { sum });
}

/// Computes the checksum of the IPv4 header anew.
pub fn seal(packet: &mut [u8]) {
    let length = header_length(packet).min(packet.len());
    put(packet, 10, 0);
    let checksum = !sum(&packet[..length]);
    put(packet, 10, checksum);
}

/// The big-endian word at this place.
#[must_use]
pub fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Writes a big-endian word.
pub fn put(packet: &mut [u8], at: usize, value: u16) {
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The ones' complement sum of these bytes (RFC 1071).
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    fold(add(bytes))
}

/// The sum of the pseudo-header of a whole segment or datagram of this length (RFC 9293, section 3.1; RFC 768).
#[must_use]
pub fn pseudo_sum(packet: &[u8], length: usize) -> u16 {
    fold(add(&packet[12..20]) + u64::from(protocol(packet)) + length as u64)
}

/// Adds two sums.
#[must_use]
pub fn add_sums(one: u16, other: u16) -> u16 {
    fold(u64::from(one) + u64::from(other))
}

fn add(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let all: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    all + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A packet with this payload behind its IPv4 header.
    pub(crate) fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
        packet.extend([from, to].concat());
        packet.extend(payload);
        let length = packet.len() as u16;
        put(&mut packet, 2, length);
        seal(&mut packet);
        packet
    }

    /// A UDP datagram from port 3456 to port 80.
    pub(crate) fn udp(from: [u8; 4], to: [u8; 4], data: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0x0d, 0x80, 0, 80, 0, 0, 0, 0];
        datagram.extend(data);
        let length = datagram.len();
        put(&mut datagram, 4, length as u16);
        let mut packet = ipv4(UDP, from, to, &datagram);
        let sum = add_sums(pseudo_sum(&packet, length), sum(&packet[HEADER..]));
        put(&mut packet, 26, !sum);
        packet
    }

    /// A TCP segment with ACK and PSH from port 3456 to port 80.
    pub(crate) fn tcp(from: [u8; 4], to: [u8; 4], data: &[u8]) -> Vec<u8> {
        let mut segment = vec![0x0d, 0x80, 0, 80, 0, 0, 3, 0xe8, 0, 0, 7, 0xd0, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
        segment.extend(data);
        let mut packet = ipv4(TCP, from, to, &segment);
        let sum = add_sums(pseudo_sum(&packet, segment.len()), sum(&packet[HEADER..]));
        put(&mut packet, 36, !sum);
        packet
    }

    #[test]
    fn only_what_a_router_may_route_is_routed() {
        let good = udp([1, 2, 3, 4], [100, 100, 100, 100], &[7; 9]);
        assert_eq!(check(&good), Ok(37));
        let mut padded = good.clone();
        padded.extend([0; 9]);
        assert_eq!(check(&padded), Ok(37));
        assert_eq!(check(&good[..36]), Err(Fault::Malformed));
        assert_eq!(check(&good[..19]), Err(Fault::Malformed));
        assert_eq!((check(&[]), check(&[0x60; 40])), (Err(Fault::NotIpv4), Err(Fault::NotIpv4)));
        let mut wrong = good.clone();
        wrong[8] = 9;
        assert_eq!(check(&wrong), Err(Fault::Malformed));
        for martian in [[0, 1, 1, 1], [127, 0, 0, 1], [169, 254, 1, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
            assert_eq!(check(&udp(martian, [1, 1, 1, 1], &[])), Err(Fault::Martian), "from {martian:?}");
            assert_eq!(check(&udp([1, 1, 1, 1], martian, &[])), Err(Fault::Martian), "to {martian:?}");
        }
    }

    #[test]
    fn the_checksum_follows_the_ttl() {
        for identification in 0..=u16::MAX {
            let mut packet = udp([1, 2, 3, 4], [5, 6, 7, 8], &[]);
            put(&mut packet, 4, identification);
            seal(&mut packet);
            decrement_ttl(&mut packet);
            let mut sealed = packet.clone();
            seal(&mut sealed);
            assert_eq!(packet, sealed);
        }
    }

    #[test]
    fn a_later_fragment_has_no_port() {
        let mut packet = udp([1, 2, 3, 4], [5, 6, 7, 8], &[7; 16]);
        assert_eq!(destination_port(&packet), Some(80));
        put(&mut packet, 6, 0x2000);
        assert_eq!((destination_port(&packet), is_fragment(&packet)), (Some(80), true));
        put(&mut packet, 6, 1);
        assert_eq!((destination_port(&packet), is_fragment(&packet)), (None, true));
        assert_eq!(destination_port(&ipv4(47, [1, 2, 3, 4], [5, 6, 7, 8], &[0; 8])), None);
    }
}

//! Link layers: where the IPv4 packet begins in a frame.

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Ethernet,
    /// The IP header itself.
    Raw,
    /// What `tcpdump -i any` writes, version 1.
    Cooked1,
    /// Version 2, from libpcap 1.10 on.
    Cooked2,
    /// The loopback of BSD and macOS: the address family, in the byte order of the machine that captured or of the network.
    Loopback,
    /// PPP, with the address and control bytes of RFC 1662 or without them.
    Ppp,
    /// The same behind a byte for the direction.
    PppWithDirection,
    /// The same with a byte for the direction in place of the address.
    PppOfDaemon,
    /// A PPPoE session (RFC 2516) without Ethernet around it.
    Pppoe,
    /// What OpenBSD takes out of IPsec: address family, security parameter index, flags.
    Enc,
    /// Cisco's HDLC: address, control, EtherType.
    CiscoHdlc,
    /// Apple's IP over FireWire: two addresses of 8 bytes, EtherType.
    FireWire,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// An IPv4 packet, and the link layer's padding if there is any.
    Ipv4(&'a [u8]),
    /// Another protocol.
    Other,
    /// It ends before it says what it holds.
    Short,
}

const IPV4: u16 = 0x0800;
/// No EtherType: those begin at 0x0600.
const NOT_IPV4: u16 = 0;

/// Version, code, session, length.
const PPPOE_HEADER: usize = 6;

impl Link {
    /// The link layer with this number in pcap and pcapng files, if it is one that we read.
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            0 | 108 => Some(Self::Loopback),
            1 => Some(Self::Ethernet),
            9 | 50 => Some(Self::Ppp),
            51 => Some(Self::Pppoe),
            109 => Some(Self::Enc),
            166 => Some(Self::PppOfDaemon),
            204 => Some(Self::PppWithDirection),
            // 12 and 14 are what raw IP was called on some systems before it got a number of its own; 228 and 229 say
            // the version of IP as well.
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            104 => Some(Self::CiscoHdlc),
            113 => Some(Self::Cooked1),
            138 => Some(Self::FireWire),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// What is in a frame.
    pub fn content(self, frame: &[u8]) -> Content<'_> {
        let (kind, header) = match self {
            Self::Ethernet => (number(frame, 12), 14),
            Self::Raw => (Some(IPV4), 0),
            Self::Cooked1 => (number(frame, 14), 16),
            Self::Cooked2 => (number(frame, 0), 20),
            Self::Loopback => (frame.first_chunk().map(family), 4),
            Self::Enc => (frame.first_chunk().map(family), 12),
            Self::Ppp => ppp(frame, 0),
            Self::PppWithDirection => ppp(frame, 1),
            Self::PppOfDaemon => ppp(frame, if matches!(frame, [0 | 1, 0x03, ..]) { 2 } else { 0 }),
            Self::Pppoe => ppp(frame, PPPOE_HEADER),
            Self::CiscoHdlc => (number(frame, 2), 4),
            Self::FireWire => (number(frame, 16), 18),
        };
        match (kind, frame.get(header..)) {
            (Some(kind), Some(rest)) => behind(kind, rest),
            _ => Content::Short,
        }
    }
}

/// The EtherType of an address family: AF_INET is 2 everywhere, in either byte order; the others differ among systems.
const fn family(bytes: &[u8; 4]) -> u16 {
    match bytes {
        [2, 0, 0, 0] | [0, 0, 0, 2] => IPV4,
        _ => NOT_IPV4,
    }
}

/// The EtherType of what a PPP frame at `start` holds (RFC 1332), and where that begins. A protocol number whose first byte
/// is odd has no second one (RFC 1661, section 6.5).
fn ppp(frame: &[u8], start: usize) -> (Option<u16>, usize) {
    let framed = frame.get(start..).is_some_and(|rest| rest.starts_with(&[0xff, 0x03]));
    let start = if framed { start + 2 } else { start };
    let (protocol, length) = match frame.get(start) {
        Some(&first) if first & 1 == 1 => (Some(u16::from(first)), 1),
        _ => (number(frame, start), 2),
    };
    (protocol.map(|protocol| if protocol == 0x0021 { IPV4 } else { NOT_IPV4 }), start + length)
}

/// What is behind an EtherType, and behind what may stand in front of a packet: VLAN tags (802.1Q, 802.1ad, and the number
/// that QinQ had before the standard), a PPPoE session, or a length and the EtherType behind it (RFC 1042).
fn behind(mut kind: u16, mut rest: &[u8]) -> Content<'_> {
    loop {
        let (inner, header) = match kind {
            0x8100 | 0x88a8 | 0x9100 => (number(rest, 2), 4),
            0x8864 => ppp(rest, PPPOE_HEADER),
            1..0x0600 if rest.starts_with(&[0xaa, 0xaa, 0x03, 0, 0, 0]) => (number(rest, 6), 8),
            _ => break,
        };
        let (Some(inner), Some(behind)) = (inner, rest.get(header..)) else {
            return Content::Short;
        };
        (kind, rest) = (inner, behind);
    }
    let is_version_4 = rest.first().is_none_or(|first| first >> 4 == 4);
    if kind == IPV4 && is_version_4 { Content::Ipv4(rest) } else { Content::Other }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_begins_behind_the_link_layer_and_its_tags() {
        let packet = [0x45, 1, 2, 3];
        let ethernet = |tags: &[u8]| [&[0xee; 12], tags, &[8, 0], &packet].concat();
        let cooked1 = [&[0; 14][..], &[8, 0], &packet].concat();
        let cooked2 = [&[8, 0][..], &[0; 18], &packet].concat();
        for (link, frame) in [
            (1, ethernet(&[])),
            (1, ethernet(&[0x81, 0, 0, 7])),
            (1, ethernet(&[0x88, 0xa8, 0, 70, 0x81, 0, 0, 7])),
            (101, packet.to_vec()),
            (113, cooked1),
            (276, cooked2),
            (0, [&[2, 0, 0, 0], &packet[..]].concat()),
            (0, [&[0, 0, 0, 2], &packet[..]].concat()),
            (108, [&[0, 0, 0, 2], &packet[..]].concat()),
            (9, [&[0, 0x21], &packet[..]].concat()),
            (9, [&[0x21], &packet[..]].concat()),
            (9, [&[0xff, 3, 0x21], &packet[..]].concat()),
            (50, [&[0xff, 3, 0, 0x21], &packet[..]].concat()),
            (51, [&[0x11, 0, 0, 1, 0, 6, 0, 0x21], &packet[..]].concat()),
            (1, [&[0xee; 12], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 6, 0, 0x21][..], &packet].concat()),
            (1, ethernet(&[0x81, 0, 0, 7, 0, 12, 0xaa, 0xaa, 3, 0, 0, 0])),
            (109, [&[2, 0, 0, 0], &[0; 8][..], &packet].concat()),
            (166, [&[1, 3, 0, 0x21], &packet[..]].concat()),
            (204, [&[1, 0xff, 3, 0, 0x21], &packet[..]].concat()),
            (204, [&[0, 0, 0x21], &packet[..]].concat()),
            (104, [&[0x0f, 0, 8, 0], &packet[..]].concat()),
            (138, [&[0xee; 16], &[8, 0][..], &packet].concat()),
        ] {
            let content = Link::from_number(link).unwrap().content(&frame);
            assert_eq!(content, Content::Ipv4(&packet), "{link} {frame:02x?}");
        }
        assert_eq!(Link::from_number(127), None);
    }

    #[test]
    fn other_protocols_and_short_frames_hold_none() {
        let arp = [&[0; 12][..], &[8, 6], &[0; 28]].concat();
        let ipv6 = [&[0; 12][..], &[0x86, 0xdd], &[0x60; 40]].concat();
        for frame in [&arp, &ipv6] {
            assert_eq!(Link::Ethernet.content(frame), Content::Other);
        }
        assert_eq!(Link::Raw.content(&[0x60; 40]), Content::Other);
        for family in [[30, 0, 0, 0], [0, 0, 0, 24], [2, 0, 0, 2], [0; 4]] {
            assert_eq!(Link::Loopback.content(&[&family[..], &[0x45; 20]].concat()), Content::Other);
        }
        for ppp in [&[0xc0, 0x21, 0x45][..], &[0xff, 3, 0, 0x57, 0x45]] {
            assert_eq!(Link::Ppp.content(ppp), Content::Other);
        }
        let half_a_tag = [&[0; 12][..], &[0x81, 0, 0]].concat();
        let pppoe_without_protocol = [&[0; 12][..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 0]].concat();
        for (link, frame) in [
            (Link::Ethernet, &[0; 13][..]),
            (Link::Ethernet, &half_a_tag),
            (Link::Cooked1, &[8, 0, 8, 0]),
            (Link::Cooked2, &[8, 0, 8, 0]),
            (Link::Loopback, &[2, 0, 0]),
            (Link::Ppp, &[0xff, 3, 0]),
            (Link::PppWithDirection, &[1]),
            (Link::PppOfDaemon, &[0, 3]),
            (Link::Pppoe, &[0x11, 0, 0, 1, 0, 2, 0]),
            (Link::Enc, &[2, 0, 0, 0, 0, 0, 0, 0]),
            (Link::Ethernet, &pppoe_without_protocol),
            (Link::CiscoHdlc, &[0x0f, 0, 8]),
            (Link::FireWire, &[8; 17]),
        ] {
            assert_eq!(link.content(frame), Content::Short, "{link:?} {frame:?}");
        }
    }
}

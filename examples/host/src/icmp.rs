//! The ICMP messages that a router sends itself.

use core::net::Ipv4Addr;

use crate::packet::{self, HEADER, ICMP};
use crate::segment;
use crate::vnet::VnetHeader;

/// The longest error, so that none is ever fragmented (RFC 1812, section 4.3.2.3).
const LONGEST: usize = 576;
/// Bytes in front of the quoted packet.
const HEAD: usize = HEADER + 8;
const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
/// The TTL of our own packets.
const TTL: u8 = 64;

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Its TTL has run out.
    TimeExceeded,
    /// It is longer than this many bytes, and must not be fragmented (RFC 1191).
    FragmentationNeeded(u16),
    /// No program has the port.
    PortUnreachable,
    /// No program uses the protocol.
    ProtocolUnreachable,
    /// A rule matches it, and it cannot be translated.
    Prohibited,
}

impl Error {
    /// Type, code, and what the last two bytes of the header say.
    const fn numbers(self) -> (u8, u8, u16) {
        match self {
            Self::TimeExceeded => (11, 0, 0),
            Self::ProtocolUnreachable => (3, 2, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::FragmentationNeeded(mtu) => (3, 4, mtu),
            Self::Prohibited => (3, 13, 0),
        }
    }
}

/// A packet as it came, for an error about it.
#[derive(Clone, Debug)]
pub struct Quote(Vec<u8>);

impl Quote {
    /// Keeps the beginning of a packet, with the checksum that it would have had on the wire. `None` if no error may be
    /// about it (RFC 1122, section 3.2.2): an ICMP error, a later fragment, what does not come from a host.
    #[must_use]
    pub fn of(header: &VnetHeader, packet: &[u8]) -> Option<Self> {
        let kind = packet.get(packet::header_length(packet));
        let is_error = packet::protocol(packet) == ICMP && !matches!(kind, Some(0 | 8 | 9 | 10 | 13..=18));
        if is_error || packet::is_later_fragment(packet) || !packet::may_be_source(packet::source(packet)) {
            return None;
        }
        let most = LONGEST - HEAD;
        if header.checksum().is_none() {
            return Some(Self(packet.get(..most).unwrap_or(packet).to_vec()));
        }
        let mut whole = packet.to_vec();
        segment::complete(header, &mut whole);
        whole.truncate(most);
        Some(Self(whole))
    }

    /// The error about it, from this address: a whole packet.
    #[must_use]
    pub fn error(&self, error: Error, from: Ipv4Addr) -> Vec<u8> {
        let (kind, code, word) = error.numbers();
        let mut packet = vec![0; HEAD];
        packet.extend_from_slice(&self.0);
        packet[HEADER..HEADER + 2].copy_from_slice(&[kind, code]);
        packet::put(&mut packet, HEADER + 6, word);
        let length = packet.len() as u16;
        // Precedence 6, internetwork control (RFC 1812, section 4.3.2.5); not to be fragmented, and so without identification.
        packet[..2].copy_from_slice(&[0x45, 0xc0]);
        packet::put(&mut packet, 2, length);
        packet::put(&mut packet, 6, 0x4000);
        packet[8..10].copy_from_slice(&[TTL, ICMP]);
        packet[12..16].copy_from_slice(&from.octets());
        packet[16..20].copy_from_slice(&packet::source(&self.0).octets());
        packet::seal(&mut packet);
        let checksum = !packet::sum(&packet[HEADER..]);
        packet::put(&mut packet, HEADER + 2, checksum);
        packet
    }
}

/// Whether this is an ICMP error that quotes the beginning of `packet`. The error has a header without options.
#[must_use]
pub fn quotes(error: &[u8], packet: &[u8]) -> bool {
    let is_error = packet::protocol(error) == ICMP && error.get(HEADER) == Some(&UNREACHABLE);
    is_error && error.get(HEAD..).is_some_and(|quote| !quote.is_empty() && packet.starts_with(quote))
}

/// Turns an echo request into its reply. Returns whether it was one, whole and with a valid checksum.
pub fn reply(packet: &mut [u8]) -> bool {
    let ip = packet::header_length(packet);
    let message = packet.get(ip..).unwrap_or_default();
    let is_request = packet::protocol(packet) == ICMP && message.len() >= 8 && message[..2] == [ECHO_REQUEST, 0];
    if !is_request || packet::is_fragment(packet) || packet::sum(message) != 0xffff {
        return false;
    }
    let (source, destination) = (packet::source(packet), packet::destination(packet));
    packet[12..16].copy_from_slice(&destination.octets());
    packet[16..20].copy_from_slice(&source.octets());
    packet[8] = TTL;
    packet[ip] = ECHO_REPLY;
    packet::put(packet, ip + 2, 0);
    let checksum = !packet::sum(&packet[ip..]);
    packet::put(packet, ip + 2, checksum);
    packet::seal(packet);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{ipv4, tcp, udp};

    const FROM: [u8; 4] = [1, 2, 3, 4];
    const TO: [u8; 4] = [5, 6, 7, 8];

    #[test]
    fn an_error_quotes_the_packet_as_it_was_on_the_wire() {
        let whole = udp(FROM, TO, &[7; 100]);
        let mut packet = whole.clone();
        let pseudo = packet::pseudo_sum(&packet, packet.len() - HEADER);
        packet::put(&mut packet, 26, pseudo);
        let quote = Quote::of(&VnetHeader::partial(20, 6), &packet).unwrap();
        let error = quote.error(Error::FragmentationNeeded(1400), Ipv4Addr::new(9, 9, 9, 9));
        assert_eq!(packet::check(&error), Ok(error.len()));
        assert_eq!((packet::source(&error).octets(), packet::destination(&error).octets()), ([9; 4], FROM));
        assert_eq!(packet::sum(&error[HEADER..]), 0xffff);
        assert_eq!(error[20..22], [3, 4]);
        assert_eq!((packet::word(&error, 24), packet::word(&error, 26)), (0, 1400));
        assert_eq!(error[28..], whole);
        let long = Quote::of(&VnetHeader::NONE, &tcp(FROM, TO, &[0; 1400])).unwrap();
        assert_eq!(long.error(Error::TimeExceeded, Ipv4Addr::new(9, 9, 9, 9)).len(), 576);
    }

    #[test]
    fn nobody_is_told_about_an_error_or_a_later_fragment() {
        let about = |packet: &[u8]| Quote::of(&VnetHeader::NONE, packet).is_some();
        for (kind, told) in [(0, true), (3, false), (4, false), (5, false), (8, true), (11, false), (12, false)] {
            assert_eq!(about(&ipv4(ICMP, FROM, TO, &[kind, 0, 0, 0, 0, 0, 0, 0])), told, "type {kind}");
        }
        let mut fragment = udp(FROM, TO, &[0; 16]);
        packet::put(&mut fragment, 6, 0x2000);
        assert!(about(&fragment));
        packet::put(&mut fragment, 6, 1);
        assert!(!about(&fragment) && !about(&udp([224, 0, 0, 1], TO, &[])));
    }

    #[test]
    fn an_echo_is_replied_to_once_it_is_known_to_be_whole() {
        let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, 9, 9, 9];
        let checksum = !packet::sum(&message);
        packet::put(&mut message, 2, checksum);
        let mut packet = ipv4(ICMP, FROM, TO, &message);
        let mut wrong = packet.clone();
        assert!(reply(&mut packet));
        assert_eq!((packet::source(&packet).octets(), packet::destination(&packet).octets()), (TO, FROM));
        assert_eq!((packet[20], &packet[24..], packet::sum(&packet[20..])), (0, &message[4..], 0xffff));
        assert!(packet::check(&packet).is_ok() && !reply(&mut packet));
        wrong[30] ^= 1;
        let before = wrong.clone();
        assert!(!reply(&mut wrong) && !reply(&mut udp(FROM, TO, &[0; 9])));
        assert_eq!(wrong, before);
    }
}

//! What the new server would have sent: the packets that the capture shows the original server sending, with the
//! addresses of the server's side of the translator.
//!
//! All that is known of a connection is what the library lists of it. Checksums are summed up here, byte by byte;
//! the library never does that, so an error in its arithmetic cannot hide in ours.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::Range;
use std::collections::HashMap;

use byway::{Connection, Protocol, Storage, Translator};

use crate::packet::{ECHO_REQUEST, Ends, ICMP_HEADER, Packet};

/// New addresses for a packet of the original server.
#[derive(Clone, Copy, Debug)]
pub struct Mirrored {
    source: SocketAddrV4,
    destination: SocketAddrV4,
}

/// Knows which packets are the original servers' answers.
#[derive(Debug, Default)]
pub struct Mirror {
    /// Where each UDP client has asked each original server last, if servers may answer from another port.
    asked: Option<HashMap<(SocketAddrV4, Ipv4Addr), u16>>,
}

impl Mirror {
    pub fn new(replies_from_any_port: bool) -> Self {
        Self { asked: replies_from_any_port.then(HashMap::new) }
    }

    /// Takes note of a packet that went to a server, as it was before it was translated.
    pub fn asked(&mut self, packet: Packet<'_>) {
        if let (Some(asked), Some(ends)) = (&mut self.asked, packet.ends())
            && ends.protocol == Protocol::Udp
        {
            asked.insert((ends.source, *ends.destination.ip()), ends.destination.port());
        }
    }

    /// The addresses that the new server's packet bears in place of this packet's, if this one is an answer to a
    /// client: its ends are those of a connection's client side, the other way round. A later fragment has no ends,
    /// and follows its first one.
    pub fn answer<S: Storage>(&self, translator: &Translator<S>, packet: Packet<'_>) -> Option<Mirrored> {
        let Ends { protocol, source, destination } = packet.ends()?;
        if let Some((connection, _)) = translator.connection(protocol, destination, source) {
            return Some(Mirrored::of(&connection));
        }
        let port = *self.asked.as_ref()?.get(&(destination, *source.ip())).filter(|_| protocol == Protocol::Udp)?;
        let asked = SocketAddrV4::new(*source.ip(), port);
        let (connection, _) = translator.connection(protocol, destination, asked)?;
        let server = SocketAddrV4::new(*connection.server().ip(), source.port());
        Some(Mirrored { source: server, ..Mirrored::of(&connection) })
    }

    /// The ICMP error that the network behind the translator would have sent, if this is one about a client's packet.
    pub fn error<S: Storage>(&self, translator: &Translator<S>, packet: Packet<'_>) -> Option<Vec<u8>> {
        let quoted = packet.quoted()?;
        let Ends { protocol, source, destination } = quoted.ends()?;
        if *source.ip() != packet.destination() {
            return None;
        }
        let (connection, _) = translator.connection(protocol, source, destination)?;
        let answer = Mirrored::of(&connection);
        let question = Mirrored { source: answer.destination, destination: answer.source };
        // The server itself has another address there; a router on the way has the same.
        let from_server = packet.source() == *destination.ip();
        let reporter = if from_server { *connection.server().ip() } else { packet.source() };

        let before = packet.bytes();
        let mut error = before.to_vec();
        let message = packet.header_length()..before.len();
        question.write(&mut error[message.start + ICMP_HEADER..]);
        carry_checksum(before, &mut error, message.start + 2, &[message]);
        write_addresses(&mut error, reporter, *answer.destination.ip());
        Some(error)
    }
}

impl Mirrored {
    fn of(connection: &Connection) -> Self {
        Self { source: connection.server(), destination: connection.server_side.source }
    }

    /// Writes the addresses, and the ports where there are any, into the packet at the start of `bytes`, and puts its
    /// checksums right.
    pub fn write(self, bytes: &mut [u8]) {
        let before = bytes.to_vec();
        let Some(packet) = Packet::read(&before) else {
            return;
        };
        write_addresses(bytes, *self.source.ip(), *self.destination.ip());
        let Some(ends) = packet.ends() else {
            return;
        };
        let start = packet.header_length();
        let (addresses, transport) = (12..20, start..bytes.len());
        let mut write_port = |at: usize, port: u16| bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
        if ends.protocol == Protocol::Icmp {
            let is_request = packet.payload()[0] == ECHO_REQUEST;
            write_port(start + 4, if is_request { self.source.port() } else { self.destination.port() });
            return carry_checksum(&before, bytes, start + 2, &[transport]);
        }
        write_port(start, self.source.port());
        write_port(start + 2, self.destination.port());
        if ends.protocol == Protocol::Tcp {
            return carry_checksum(&before, bytes, start + 16, &[addresses, transport]);
        }
        // UDP: zero means that there is none, and a computed zero is written 0xFFFF (RFC 768).
        let field = start + 6..start + 8;
        if bytes[field.clone()] != [0, 0] {
            carry_checksum(&before, bytes, field.start, &[addresses, transport]);
            if bytes[field.clone()] == [0, 0] {
                bytes[field].fill(0xff);
            }
        }
    }
}

/// Writes the addresses of an IPv4 header, and its checksum.
fn write_addresses(bytes: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr) {
    let before = bytes.to_vec();
    bytes[12..16].copy_from_slice(&source.octets());
    bytes[16..20].copy_from_slice(&destination.octets());
    let header = 0..usize::from(bytes[0] & 15) * 4;
    carry_checksum(&before, bytes, 10, &[header]);
}

/// Writes the length of these bytes into the IPv4 header at their start, if the field can hold it, and puts its checksum
/// right.
pub fn write_total_length(bytes: &mut [u8]) {
    let Ok(length) = u16::try_from(bytes.len()) else {
        return;
    };
    let before = bytes.to_vec();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let header = 0..usize::from(bytes[0] & 15) * 4;
    carry_checksum(&before, bytes, 10, &[header]);
}

/// Writes the checksum at `field` that covers `covered`, given what it was when the bytes were as `before`.
///
/// A right checksum becomes the right one, from a sum over all bytes. A wrong one stays wrong by as much, since what
/// was broken (or left for the network card to compute) is to come back as it was. That serves for the checksum of a
/// fragment or of a quoted packet too, which covers bytes that are not here: they are "wrong" by those bytes. A field
/// that is not here itself is left out.
fn carry_checksum(before: &[u8], after: &mut [u8], field: usize, covered: &[Range<usize>]) {
    let Some(old) = before.get(field..field + 2).map(|b| u16::from_be_bytes([b[0], b[1]])) else {
        return;
    };
    if covered.iter().all(|range| after[range.clone()] == before[range.clone()]) {
        return;
    }
    after[field..field + 2].copy_from_slice(&[0, 0]);
    let without_field = [&before[..field], &[0, 0], &before[field + 2..]].concat();
    // In one's complement arithmetic, that is modulo 65535: sum of all words + checksum + what is wrong = 0.
    let wrong = (2 * 65_535 - sum(&without_field, covered) - u64::from(old) % 65_535) % 65_535;
    let mut new = (2 * 65_535 - sum(after, covered) - wrong) % 65_535;
    // Over nothing but zeros, as in an echo reply with identifier and sequence number 0, the checksum is all ones.
    if new == 0 && covered.iter().all(|range| after[range.clone()].iter().all(|byte| *byte == 0)) {
        new = 65_535;
    }
    after[field..field + 2].copy_from_slice(&(new as u16).to_be_bytes());
}

/// The sum of the 16-bit words of some ranges, modulo 65535; an odd last byte is the upper half of a word.
fn sum(bytes: &[u8], ranges: &[Range<usize>]) -> u64 {
    let words = ranges.iter().flat_map(|range| bytes[range.clone()].chunks(2));
    let sum: u64 = words.map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low))).sum();
    sum % 65_535
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway::{Config, Divert, Heap, Instant, Verdict};

    const CLIENT: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);
    const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
    const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
    const SERVER: Ipv4Addr = Ipv4Addr::new(123, 45, 67, 89);

    /// All words of a checksum's coverage, that of the checksum included, add up to 0xFFFF (RFC 1071).
    fn adds_up(parts: &[&[u8]]) -> bool {
        let all = parts.concat();
        let mut sum: u32 = all.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0))).sum();
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum == 0xffff
    }

    fn is_right(packet: &[u8]) -> (bool, bool) {
        let (header, payload) = packet.split_at(20);
        let pseudo = [&header[12..20], &[0, packet[9]], &(payload.len() as u16).to_be_bytes()].concat();
        let transport = if packet[9] == 1 { adds_up(&[payload]) } else { adds_up(&[&pseudo, payload]) };
        (adds_up(&[header]), transport)
    }

    /// A packet whose checksums are right, by trying all of them.
    fn packet(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8, 1, 2, 0, 0, 64, protocol, 0, 0];
        packet.extend([source.octets(), destination.octets()].concat());
        packet.extend(payload);
        let field = 20 + [2, 16, 6][[1, 6, 17].iter().position(|p| *p == protocol).unwrap()];
        for at in [10, field] {
            let is_right = |c: &u16, packet: &mut Vec<u8>| {
                packet[at..at + 2].copy_from_slice(&c.to_be_bytes());
                if at == 10 { is_right(packet).0 } else { is_right(packet).1 }
            };
            (0..=u16::MAX).find(|c| is_right(c, &mut packet)).unwrap();
        }
        packet
    }

    fn ports(source: u16, destination: u16, rest: &[u8]) -> Vec<u8> {
        [&source.to_be_bytes(), &destination.to_be_bytes(), rest].concat()
    }

    /// A translator, and what it made of the client's question.
    fn asked(question: &[u8]) -> (Translator<Heap>, Vec<u8>) {
        let config = Config::new([1; 32]).alternative(ALTERNATIVE, 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(8, 1)).unwrap();
        translator.divert(Divert::new(ORIGINAL).to(SERVER)).unwrap();
        let mut sent = question.to_vec();
        assert_eq!(translator.translate(Instant::ZERO, &mut sent), Verdict::ToServer);
        (translator, sent)
    }

    fn mirrored(translator: &Translator<Heap>, answer: &[u8]) -> Vec<u8> {
        let mirrored = Mirror::default().answer(translator, Packet::read(answer).unwrap()).unwrap();
        let mut bytes = answer.to_vec();
        mirrored.write(&mut bytes);
        bytes
    }

    #[test]
    fn an_answer_is_what_the_new_server_would_have_sent() {
        let syn = |flags| [&[0; 8][..], &[0x50, flags, 0, 0, 0, 0, 0, 0]].concat();
        let udp = [0, 13, 0, 0, 1, 2, 3, 4, 5];
        for (protocol, question, answer) in [
            (6, ports(3456, 80, &syn(2)), ports(80, 3456, &syn(0x12))),
            (17, ports(3456, 53, &udp), ports(53, 3456, &udp)),
        ] {
            let (translator, sent) = asked(&packet(protocol, CLIENT, ORIGINAL, &question));
            let port = u16::from_be_bytes([sent[20], sent[21]]);
            let mut expected = answer.clone();
            expected[2..4].copy_from_slice(&port.to_be_bytes());
            let expected = packet(protocol, SERVER, ALTERNATIVE, &expected);
            assert_eq!(mirrored(&translator, &packet(protocol, ORIGINAL, CLIENT, &answer)), expected);
        }
        let echo = |kind, identifier: u16| [&[kind, 0, 0, 0][..], &identifier.to_be_bytes(), &[0, 1, 9]].concat();
        let (translator, sent) = asked(&packet(1, CLIENT, ORIGINAL, &echo(8, 77)));
        let identifier = u16::from_be_bytes([sent[24], sent[25]]);
        let expected = packet(1, SERVER, ALTERNATIVE, &echo(0, identifier));
        assert_eq!(mirrored(&translator, &packet(1, ORIGINAL, CLIENT, &echo(0, 77))), expected);
    }

    /// An echo reply of nothing but zeros has the checksum 0xFFFF, and none other is right.
    #[test]
    fn an_answer_of_all_zeros_comes_back_as_it_was_captured() {
        let echo = |kind| [&[kind, 0, 0, 0][..], &[0; 36]].concat();
        let captured = packet(1, ORIGINAL, CLIENT, &echo(0));
        assert_eq!(captured[22..24], [0xff, 0xff]);
        let config = || Config::new([1; 32]).alternative(ALTERNATIVE, 1024..=65535);
        for rule in [Divert::new(ORIGINAL).to(SERVER), Divert::new(ORIGINAL).to(SERVER).keep_source()] {
            let mut translator = Translator::new(config(), Heap::new(8, 1)).unwrap();
            translator.divert(rule).unwrap();
            let mut question = packet(1, CLIENT, ORIGINAL, &echo(8));
            assert_eq!(translator.translate(Instant::ZERO, &mut question), Verdict::ToServer);
            let mut answer = mirrored(&translator, &captured);
            assert_eq!(is_right(&answer), (true, true));
            assert_eq!(translator.translate(Instant::ZERO, &mut answer), Verdict::ToClient);
            assert_eq!(answer, captured);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_and_none_stays_none() {
        let udp = [0, 13, 0, 0, 1, 2, 3, 4, 5];
        let (translator, _) = asked(&packet(17, CLIENT, ORIGINAL, &ports(3456, 53, &udp)));
        let answer = packet(17, ORIGINAL, CLIENT, &ports(53, 3456, &udp));
        assert_eq!(is_right(&mirrored(&translator, &answer)), (true, true));
        for (byte, right) in [(10, (false, true)), (26, (true, false)), (30, (true, false))] {
            let mut wrong = answer.clone();
            wrong[byte] ^= 0x10;
            assert_eq!(is_right(&mirrored(&translator, &wrong)), right);
        }
        let mut none = answer;
        none[26..28].fill(0);
        assert_eq!(mirrored(&translator, &none)[26..28], [0, 0]);
    }

    #[test]
    fn an_error_quotes_what_the_new_server_was_sent() {
        let syn = ports(3456, 80, &[[0; 8], [0x50, 2, 0, 0, 0, 0, 0, 0]].concat());
        let question = packet(6, CLIENT, ORIGINAL, &syn);
        let (translator, sent) = asked(&question);
        let router = Ipv4Addr::new(5, 6, 7, 2);
        for quoted in [28, 40] {
            for (from, reporter) in [(router, router), (ORIGINAL, SERVER)] {
                let error = |from, to, about: &[u8]| {
                    packet(1, from, to, &[&[11, 0, 0, 0, 0, 0, 0, 0][..], &about[..quoted]].concat())
                };
                let captured = error(from, CLIENT, &question);
                let mirrored = Mirror::default().error(&translator, Packet::read(&captured).unwrap());
                assert_eq!(mirrored, Some(error(reporter, ALTERNATIVE, &sent)), "{quoted} bytes from {from}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_left_alone() {
        let udp = [0, 8, 0, 0];
        let (translator, _) = asked(&packet(17, CLIENT, ORIGINAL, &ports(3456, 69, &udp)));
        let other_port = packet(17, ORIGINAL, CLIENT, &ports(70, 3456, &udp));
        let other_client = packet(17, ORIGINAL, CLIENT, &ports(69, 3457, &udp));
        let question = packet(17, CLIENT, ORIGINAL, &ports(3456, 69, &udp));
        for captured in [&other_port, &other_client, &question] {
            assert!(Mirror::default().answer(&translator, Packet::read(captured).unwrap()).is_none());
        }
        let mut mirror = Mirror::new(true);
        mirror.asked(Packet::read(&question).unwrap());
        let answer = mirror.answer(&translator, Packet::read(&other_port).unwrap()).unwrap();
        assert_eq!(answer.source, SocketAddrV4::new(SERVER, 70));
        assert!(mirror.answer(&translator, Packet::read(&other_client).unwrap()).is_none());
    }
}

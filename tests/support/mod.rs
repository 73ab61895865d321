//! What the tests share: packets, and a reference for their checksums that sums every octet.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod talk;

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Config, Heap, Instant, Translator, Verdict};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// `"1.2.3.4:80"` as an endpoint.
pub fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap_or_else(|_| panic!("no endpoint: {text}"))
}

/// `"1.2.3.4"` as an address.
pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap_or_else(|_| panic!("no address: {text}"))
}

/// Seconds since the start.
pub fn s(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

/// Figure 3's proxy: one alternative address, 10.10.10.10.
pub fn config() -> Config {
    Config::new([0x42; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535)
}

/// A translator for `config` with room for 1000 connections and 100 rules.
pub fn translator(config: Config) -> Translator<Heap> {
    Translator::new(config, Heap::new(1000, 100).measured()).expect("the configuration is good")
}

/// The one's complement sum of all octets, by the book (RFC 1071), without any of the library's tricks.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let all: Vec<u8> = parts.concat();
    let mut sum = 0_u64;
    for pair in all.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// CRC-32 (ISO-HDLC), bit by bit.
pub fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for octet in bytes {
        crc ^= u32::from(*octet);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Which checksums of a packet are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub header: bool,
    pub transport: bool,
}

pub const BOTH: Right = Right { header: true, transport: true };

/// Checks the checksums of a whole packet by summing everything up.
pub fn checksums(packet: &[u8]) -> Right {
    let length = usize::from(packet[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let (header, payload) = (&packet[..length], &packet[length..total]);
    let pseudo = [&header[12..20], &[0, packet[9]], &(payload.len() as u16).to_be_bytes()].concat();
    let transport = match packet[9] {
        1 => sum(&[payload]) == 0xffff,
        6 => sum(&[&pseudo, payload]) == 0xffff,
        17 => payload[6..8] == [0, 0] || sum(&[&pseudo, payload]) == 0xffff,
        _ => true,
    };
    Right { header: sum(&[header]) == 0xffff, transport }
}

/// Puts the checksums of a whole packet right, from scratch.
pub fn fill_checksums(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let header = !sum(&[&packet[..length]]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    let field = length
        + match packet[9] {
            1 => 2,
            6 => 16,
            17 => 6,
            _ => return,
        };
    packet[field..field + 2].fill(0);
    let transport = packet.len() - length;
    let pseudo = [&packet[12..20], &[0, packet[9]], &(transport as u16).to_be_bytes()].concat();
    let sum = if packet[9] == 1 { sum(&[&packet[length..]]) } else { sum(&[&pseudo, &packet[length..]]) };
    let checksum = if packet[9] == 17 && sum == 0xffff { 0xffff } else { !sum };
    packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
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
    ipv4(17, *source.ip(), *destination.ip(), &payload)
}

/// A TCP segment: flags, sequence number, acknowledgement.
pub fn tcp(source: SocketAddrV4, destination: SocketAddrV4, segment: (u8, u32, u32), data: &[u8]) -> Vec<u8> {
    let (flags, sequence, acknowledgment) = segment;
    let mut payload = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    payload.extend(sequence.to_be_bytes());
    payload.extend(acknowledgment.to_be_bytes());
    payload.extend([5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    payload.extend(data);
    ipv4(6, *source.ip(), *destination.ip(), &payload)
}

pub fn echo(kind: u8, source: Ipv4Addr, destination: Ipv4Addr, identifier: u16, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![kind, 0, 0, 0];
    payload.extend(identifier.to_be_bytes());
    payload.extend([0, 1]);
    payload.extend(data);
    ipv4(1, source, destination, &payload)
}

/// An ICMP error from `source` to the source of the packet that it quotes, of which it quotes `quoted` octets.
pub fn icmp_error(kind: u8, code: u8, source: Ipv4Addr, about: &[u8], quoted: usize) -> Vec<u8> {
    let mut payload = vec![kind, code, 0, 0, 0, 0, 0, 0];
    payload.extend(&about[..quoted.min(about.len())]);
    ipv4(1, source, address(about, 12), &payload)
}

pub fn address(packet: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3])
}

/// Source and destination of a packet with ports.
pub fn ends(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let length = usize::from(packet[0] & 15) * 4;
    let port = |at: usize| u16::from_be_bytes([packet[length + at], packet[length + at + 1]]);
    (SocketAddrV4::new(address(packet, 12), port(0)), SocketAddrV4::new(address(packet, 16), port(2)))
}

/// Translates a copy of a packet.
pub fn run<S: byway::Storage>(t: &mut Translator<S>, now: Instant, packet: &[u8]) -> (Verdict, Vec<u8>) {
    let mut copy = packet.to_vec();
    let verdict = t.translate(now, &mut copy);
    let changed = copy != packet;
    let translated = matches!(verdict, Verdict::ToServer | Verdict::ToClient);
    assert!(translated || !changed, "{verdict:?} changed the packet");
    (verdict, copy)
}

/// Translates a packet that must go to the server; returns what the server sees.
#[track_caller]
pub fn there<S: byway::Storage>(t: &mut Translator<S>, now: Instant, packet: &[u8]) -> Vec<u8> {
    let (verdict, packet) = run(t, now, packet);
    assert_eq!(verdict, Verdict::ToServer);
    packet
}

/// Translates a packet that must go to the client; returns what the client sees.
#[track_caller]
pub fn back<S: byway::Storage>(t: &mut Translator<S>, now: Instant, packet: &[u8]) -> Vec<u8> {
    let (verdict, packet) = run(t, now, packet);
    assert_eq!(verdict, Verdict::ToClient);
    packet
}

//! What the tests of several packages share.
//!
//! It is a package of its own because a test cannot name a module of another package; the library's features are passed
//! on to it, so that no test runs with more of the library than was asked for.

#![allow(missing_docs, missing_debug_implementations, clippy::std_instead_of_core, reason = "only tests use it")]

// The unit tests of the library include `targets`, so its files name this crate as others do.
extern crate self as byway_testing;

pub mod endpoint;
pub mod moving;
pub mod namespace;
pub mod packet;
pub mod programs;
pub mod random;
#[cfg(feature = "alloc")]
pub mod talk;
pub mod targets;
pub mod truth;
#[cfg(all(feature = "alloc", feature = "control"))]
pub mod udp;
pub mod waiting;
pub mod wire;

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Config, Instant, Translator, Verdict};

pub use packet::{ACK, FIN, RST, SYN, address, echo, fill_checksums, ipv4, sum, tcp, udp};
pub use random::{Dice, cases};

/// `"1.2.3.4:80"` as an endpoint.
pub fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap_or_else(|_| panic!("no endpoint: {text}"))
}

/// `"1.2.3.4"` as an address.
pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap_or_else(|_| panic!("no address: {text}"))
}

/// Whether the machine is emulated (`BYWAY_ONE_IN` is set), so that what takes long is left to others.
pub fn is_emulated() -> bool {
    std::env::var_os("BYWAY_ONE_IN").is_some()
}

/// All cases of a test; on an emulated machine, where `BYWAY_ONE_IN` is set, about one in that many, the first included.
pub fn sample<T>(all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let one_in = std::env::var("BYWAY_ONE_IN").map_or(1, |text| text.parse().expect("BYWAY_ONE_IN is a number"));
    // Not at regular distances, since cases may have several dimensions.
    let is_in = move |place: usize| place == 0 || Dice(1_000 + place as u64).number().is_multiple_of(one_in);
    all.into_iter().enumerate().filter(move |(place, _)| is_in(*place)).map(|(_, one)| one)
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
#[cfg(feature = "alloc")]
pub fn translator(config: Config) -> Translator<byway::Heap> {
    Translator::new(config, byway::Heap::new(1000, 100).measured()).expect("the configuration is good")
}

/// CRC-32 (ISO-HDLC), bit by bit.
pub fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
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
    let sums = packet::sums(packet, packet::layout(packet).expect("a whole packet"));
    Right { header: sums.header == 0xffff, transport: sums.transport.is_none_or(|sum| sum == 0xffff) }
}

/// An ICMP error from `source` to the source of the packet that it quotes, of which it quotes `quoted` bytes.
pub fn icmp_error(kind: u8, code: u8, source: Ipv4Addr, about: &[u8], quoted: usize) -> Vec<u8> {
    let mut payload = vec![kind, code, 0, 0, 0, 0, 0, 0];
    payload.extend(&about[..quoted.min(about.len())]);
    ipv4(1, source, address(about, 12), &payload)
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

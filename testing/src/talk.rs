//! Short names for what the tests do often.

use core::net::SocketAddrV4;

use byway::{Config, Connection, Divert, Event, Heap, Instant, Protocol, State, Storage, Translator, Verdict};

use core::net::Ipv4Addr;

use crate::packet::*;
use crate::*;

pub const CLIENT: &str = "192.168.7.7:40000";
pub const ORIGINAL: &str = "100.100.100.100:80";
pub const SERVER: &str = "123.45.67.89:80";
pub const OTHER: &str = "123.45.67.90:80";
pub const ALTERNATIVE: &str = "10.10.10.10";

/// The sequence numbers that both ends of [`connect`] begin with.
pub const CLIENT_START: u32 = 1_000;
pub const SERVER_START: u32 = 5_000;

/// A translator with one rule: from [`ORIGINAL`] to [`SERVER`].
pub fn diverting(config: Config) -> Translator<Heap> {
    let mut t = translator(config);
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).expect("the rule is good");
    t
}

/// An endpoint by number: 192.168.0.0 upwards.
pub fn client(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0xc0a8_0000 + number), 40_000)
}

/// Opens a TCP connection from `client` to `original` with a handshake; returns (alternative, server).
#[track_caller]
pub fn connect<S: Storage>(
    t: &mut Translator<S>,
    now: Instant,
    client: SocketAddrV4,
    original: SocketAddrV4,
) -> (SocketAddrV4, SocketAddrV4) {
    let seen = there(t, now, &tcp(client, original, (SYN, CLIENT_START, 0), b""));
    let (alternative, server) = ends(&seen);
    back(t, now, &tcp(server, alternative, (SYN | ACK, SERVER_START, CLIENT_START + 1), b""));
    there(t, now, &tcp(client, original, (ACK, CLIENT_START + 1, SERVER_START + 1), b""));
    assert_eq!(state(t, Protocol::Tcp, client, original), Some(State::Established));
    (alternative, server)
}

/// Sends a UDP datagram from `client` to `original`; returns (alternative, server).
#[track_caller]
pub fn ask<S: Storage>(
    t: &mut Translator<S>,
    now: Instant,
    client: SocketAddrV4,
    original: SocketAddrV4,
) -> (SocketAddrV4, SocketAddrV4) {
    ends(&there(t, now, &udp(client, original, b"question")))
}

/// The same, and the server answers.
#[track_caller]
pub fn ask_and_answer<S: Storage>(
    t: &mut Translator<S>,
    now: Instant,
    client: SocketAddrV4,
    original: SocketAddrV4,
) -> (SocketAddrV4, SocketAddrV4) {
    let (alternative, server) = ask(t, now, client, original);
    assert_eq!(ends(&back(t, now, &udp(server, alternative, b"answer"))), (original, client));
    (alternative, server)
}

pub fn state<S: Storage>(
    t: &Translator<S>,
    protocol: Protocol,
    client: SocketAddrV4,
    original: SocketAddrV4,
) -> Option<State> {
    Some(t.connection(protocol, client, original)?.0.state)
}

/// The TCP connection from [`CLIENT`] to [`ORIGINAL`].
pub fn tcp_state<S: Storage>(t: &Translator<S>) -> Option<State> {
    state(t, Protocol::Tcp, at(CLIENT), at(ORIGINAL))
}

pub fn connection<S: Storage>(t: &Translator<S>, protocol: Protocol) -> Connection {
    t.connection(protocol, at(CLIENT), at(ORIGINAL)).expect("the connection is there").0
}

/// All events that wait.
pub fn events<S: Storage>(t: &mut Translator<S>) -> Vec<Event> {
    core::iter::from_fn(|| t.poll_event()).collect()
}

/// The translator's own packets that wait.
pub fn say<S: Storage>(t: &mut Translator<S>, now: Instant) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    let mut buffer = [0xaa; byway::TRANSMIT_BUFFER];
    while let Some(transmit) = t.poll_transmit(now, &mut buffer) {
        let packet = buffer[..transmit.length].to_vec();
        assert_eq!(checksums(&packet), BOTH);
        said.push(packet);
    }
    said
}

/// Flags, sequence number and acknowledgement of a TCP packet without IP options.
pub fn segment(packet: &[u8]) -> (u8, u32, u32) {
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
    (packet[33], word(24), word(28))
}

/// The verdict on a packet.
pub fn verdict<S: Storage>(t: &mut Translator<S>, now: Instant, packet: &[u8]) -> Verdict {
    run(t, now, packet).0
}

/// Cuts a packet without IP options into fragments that carry `size` bytes each (a multiple of 8).
pub fn fragments(packet: &[u8], identification: u16, size: usize) -> Vec<Vec<u8>> {
    let payload = &packet[20..];
    let count = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(i, part)| fragment(packet, identification, (i * size / 8) as u16, i + 1 < count, part))
        .collect()
}

/// One fragment with the addresses of `packet`: its offset in units of 8 bytes, and whether more follow.
pub fn fragment(packet: &[u8], identification: u16, offset: u16, more: bool, part: &[u8]) -> Vec<u8> {
    let mut bytes = [&packet[..20], part].concat();
    let total = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    bytes[4..6].copy_from_slice(&identification.to_be_bytes());
    bytes[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
    header_checksum(&mut bytes);
    bytes
}

/// Puts the checksum of the IPv4 header right, and no other.
pub fn header_checksum(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let header = !sum(&[&packet[..length]]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
}

/// Puts fragments together again, in any order.
pub fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut pieces: Vec<(usize, &Vec<u8>)> =
        fragments.iter().map(|f| (usize::from(u16::from_be_bytes([f[6], f[7]]) & 0x1fff) * 8, f)).collect();
    pieces.sort();
    let mut packet = pieces[0].1[..20].to_vec();
    for (offset, piece) in pieces {
        assert_eq!(packet.len() - 20, offset, "a hole or an overlap");
        packet.extend(&piece[20..]);
    }
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[6..8].fill(0);
    header_checksum(&mut packet);
    packet
}

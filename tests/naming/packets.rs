//! Queries in packets: what is answered, with which addresses and checksums, and what passes bit for bit.

use crate::support::*;
use byway::Instant;
use byway::naming::{Answered, MAX_ANSWER_PACKET, NamesConfig, Outcome};
use byway_testing::Dice;
use smoltcp::wire::{IpProtocol, Ipv4Packet, UdpPacket};

const SERVER: [u8; 4] = [192, 0, 2, 53];

/// A UDP packet with valid checksums, made by smoltcp.
fn packet(from: ([u8; 4], u16), to: ([u8; 4], u16), options: usize, payload: &[u8]) -> Vec<u8> {
    let header = 20 + 4 * options;
    let mut bytes = vec![0; header + 8 + payload.len()];
    let total = bytes.len() as u16;
    let mut ip = Ipv4Packet::new_unchecked(&mut bytes[..]);
    ip.set_version(4);
    ip.set_header_len(header as u8);
    ip.set_total_len(total);
    ip.set_hop_limit(17);
    ip.set_next_header(IpProtocol::Udp);
    ip.set_src_addr(from.0.into());
    ip.set_dst_addr(to.0.into());
    let mut udp = UdpPacket::new_unchecked(&mut bytes[header..]);
    udp.set_src_port(from.1);
    udp.set_dst_port(to.1);
    udp.set_len(8 + payload.len() as u16);
    udp.payload_mut().copy_from_slice(payload);
    udp.fill_checksum(&core::net::Ipv4Addr::from(from.0).into(), &core::net::Ipv4Addr::from(to.0).into());
    // Options: all "no operation".
    bytes[20..header].fill(1);
    Ipv4Packet::new_unchecked(&mut bytes[..]).fill_checksum();
    bytes
}

fn intercept(names: &mut Table, packet: &[u8]) -> Result<Vec<u8>, Answered> {
    let mut out = [0xaa; MAX_ANSWER_PACKET];
    match names.intercept(Instant::ZERO, packet, &mut out) {
        Answered::Answer { length } => Ok(out[..length].to_vec()),
        other => Err(other),
    }
}

const CLIENT_END: ([u8; 4], u16) = ([192, 0, 2, 77], 40_000);

#[test]
fn the_answer_comes_from_the_server_that_was_asked() {
    let mut names = names();
    for options in [0, 1, 10] {
        for name in ["www.bt.com", "q.xyz.com", "Ab.XYZ.com"] {
            let asked = query(name, A);
            for port in [1, 53, 40_000, 65_535] {
                let sent = packet((CLIENT_END.0, port), (SERVER, 53), options, &asked);
                let answer = intercept(&mut names, &sent).unwrap();
                let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
                assert!(ip.verify_checksum());
                assert_eq!((ip.src_addr().octets(), ip.dst_addr().octets()), (SERVER, CLIENT_END.0));
                assert_eq!((ip.header_len(), ip.total_len() as usize, ip.hop_limit()), (20, answer.len(), 64));
                let udp = UdpPacket::new_checked(ip.payload()).unwrap();
                assert!(udp.checksum() != 0 && udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
                assert_eq!((udp.src_port(), udp.dst_port()), (53, port));
                // What a socket would have got.
                assert_eq!(udp.payload(), crate::support::udp(&mut names, &asked));
            }
        }
    }
}

/// Every checksum that an answer can have is right, the computed zero included, which is sent as 0xFFFF.
#[test]
fn all_checksums() {
    let mut names = names();
    let mut asked = query("www.bt.com", A);
    let mut all_ones = 0;
    for id in 0..=u16::MAX {
        asked[..2].copy_from_slice(&id.to_be_bytes());
        let answer = intercept(&mut names, &packet(CLIENT_END, (SERVER, 53), 0, &asked)).unwrap();
        let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_ne!(udp.checksum(), 0);
        all_ones += usize::from(udp.checksum() == 0xffff);
    }
    assert!(all_ones > 0);
}

#[test]
fn everything_else_passes() {
    let mut names = with(NamesConfig::new([7; 32]).answers_per_second(0).servers("192.0.2.53".parse().unwrap()));
    let own = query("www.bt.com", A);
    let good = packet(CLIENT_END, (SERVER, 53), 0, &own);
    assert!(intercept(&mut names, &good).is_ok());
    let edit = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        // With a header checksum that is right again.
        if bytes.len() >= 20 {
            Ipv4Packet::new_unchecked(&mut bytes[..]).fill_checksum();
        }
        bytes
    };
    let counted = names.counters().in_all();
    for (what, bytes) in [
        ("another server", packet(CLIENT_END, ([192, 0, 2, 54], 53), 0, &own)),
        ("another port", packet(CLIENT_END, (SERVER, 5353), 0, &own)),
        ("an answer of the server", packet((SERVER, 53), CLIENT_END, 0, &own)),
        ("no source port", packet((CLIENT_END.0, 0), (SERVER, 53), 0, &own)),
        ("loopback", packet(([127, 0, 0, 1], 9), (SERVER, 53), 0, &own)),
        ("multicast source", packet(([224, 0, 0, 1], 9), (SERVER, 53), 0, &own)),
        ("TCP", edit(&|p| p[9] = 6)),
        ("a first fragment", edit(&|p| p[6] = 0x20)),
        ("a later fragment", edit(&|p| p[7] = 1)),
        ("IPv6", edit(&|p| p[0] = 0x65)),
        ("a short header", edit(&|p| p[0] = 0x44)),
        ("longer than it is", edit(&|p| p[3] += 1)),
        ("UDP longer than the packet", edit(&|p| p[25] += 1)),
        ("UDP shorter than its header", edit(&|p| p[25] = 7)),
    ] {
        assert_eq!(intercept(&mut names, &bytes), Err(Answered::Pass), "{what}");
    }
    // Each bit that the wire turns over: the receiver drops it, and nobody answers what was not asked.
    for bit in 0..8 * good.len() {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(intercept(&mut names, &bytes), Err(Answered::Pass), "bit {bit}");
    }
    assert_eq!(names.counters().in_all(), counted, "only DNS queries with good checksums are looked at");
    // Without a UDP checksum it is answered (RFC 768).
    assert!(intercept(&mut names, &edit(&|p| p[26..28].fill(0))).is_ok());
    // Of what reaches port 53, other names pass, and so do responses, empty datagrams and noise.
    for message in [query("example.org", A), message(0x8000, [1, 0, 0, 0], &[&own[12..]]), vec![], vec![0x45; 200]] {
        assert_eq!(intercept(&mut names, &packet(CLIENT_END, (SERVER, 53), 0, &message)), Err(Answered::Pass));
    }
    // A tunnel on port 53: the four kinds of WireGuard's messages, with numbers that look random.
    let mut dice = Dice(1);
    for round in 0..20_000 {
        let mut message: Vec<u8> = vec![round as u8 % 4 + 1, 0, 0, 0];
        for _ in 0..18 {
            message.extend(&dice.number().to_be_bytes()[..4]);
        }
        assert_eq!(intercept(&mut names, &packet(CLIENT_END, (SERVER, 53), 0, &message)), Err(Answered::Pass));
    }
    // Behind the packet there may be padding.
    assert!(intercept(&mut names, &[&good[..], &[0; 9]].concat()).is_ok());
    for length in 0..good.len() {
        assert_eq!(intercept(&mut names, &good[..length]), Err(Answered::Pass), "{length}");
    }
}

#[test]
fn a_small_buffer_does_no_harm() {
    let mut names = names();
    let sent = packet(CLIENT_END, (SERVER, 53), 0, &query("www.bt.com", A));
    for room in 0..MAX_ANSWER_PACKET {
        let mut out = vec![0; room];
        match names.intercept(Instant::ZERO, &sent, &mut out) {
            Answered::Answer { length } => assert!(length <= room && room >= sent.len()),
            other => assert_eq!((other, room < sent.len()), (Answered::Drop(Outcome::NoRoom), true)),
        }
    }
}

/// Packets of any kind, any number at a time: the same answers, the same counts, and the same limits as one by one.
#[test]
fn a_burst_does_what_single_calls_do() {
    let mut dice = Dice(9);
    let table = || with(NamesConfig::new([7; 32]).answers_per_second(3));
    let (mut single, mut burst) = (table(), table());
    let (mut answers, mut limited) = (0, 0);
    for round in 0..3_000_u64 {
        let now = Instant::from_millis(round * 20);
        let packets: Vec<Vec<u8>> = (0..dice.number() % 50)
            .map(|_| {
                let name = ["www.bt.com", "WWW.bt.com", "a.xyz.com", "b.a.xyz.com", "example.org", "xyz.com", "."];
                let name = name[dice.number() as usize % name.len()];
                let kind = [A, A, A, AAAA, SOA, ANY][dice.number() as usize % 6];
                let message = match dice.number() % 8 {
                    0 => message(0x8000, [1, 0, 0, 0], &[&question(name, kind)]),
                    1 => message(0, [2, 0, 0, 0], &[&question(name, kind)]),
                    2 => vec![0xc0; dice.number() as usize % 40],
                    _ => query(name, kind),
                };
                let client = [192, 0, dice.number() as u8 % 4, dice.number() as u8];
                let port = if dice.number().is_multiple_of(8) { 443 } else { 53 };
                let mut bytes = packet((client, 4_000), (SERVER, port), dice.number() as usize % 3, &message);
                if dice.number().is_multiple_of(8) {
                    let at = dice.number() as usize % bytes.len();
                    bytes[at] ^= 1 << (dice.number() % 8);
                }
                if dice.number().is_multiple_of(16) {
                    bytes.truncate(dice.number() as usize % bytes.len());
                }
                bytes
            })
            .collect();
        let room = [MAX_ANSWER_PACKET, MAX_ANSWER_PACKET, 60][dice.number() as usize % 3];
        let mut out = vec![vec![0xaa; room]; dice.number() as usize % 60];
        let mut answered = vec![Answered::Drop(Outcome::NoHeader); dice.number() as usize % 60];
        let count = burst.intercept_burst(now, &packets, &mut out, &mut answered);
        assert_eq!(count, packets.len().min(out.len()).min(answered.len()));
        for (packet, (out, answered)) in packets.iter().zip(out.iter().zip(&answered)) {
            let mut alone = vec![0xaa; room];
            assert_eq!((single.intercept(now, packet, &mut alone), &alone), (*answered, out), "round {round}");
            answers += u32::from(matches!(answered, Answered::Answer { .. }));
            limited += u32::from(matches!(answered, Answered::Drop(Outcome::LimitedDropped)));
        }
        assert!(answered[count..].iter().all(|answered| *answered == Answered::Drop(Outcome::NoHeader)));
        assert!(out[count..].iter().all(|out| *out == vec![0xaa; room]));
    }
    assert_eq!(burst.counters(), single.counters());
    assert!(answers > 1_000 && limited > 1_000, "the test itself: {answers} answers, {limited} limited");
}

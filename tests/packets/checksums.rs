//! Checksums follow what is rewritten, and nothing else: RFC 768, RFC 1071, RFC 1624.

use byway::{Checksums, Divert, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

fn udp_checksum(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[26], packet[27]])
}

/// A UDP datagram without a checksum stays without one, both ways; addresses and ports are rewritten all the same.
#[test]
fn no_udp_checksum_stays_none() {
    let mut t = diverting(config());
    let mut question = udp(at(CLIENT), at(ORIGINAL), b"question");
    question[26..28].fill(0);
    let seen = there(&mut t, s(0), &question);
    assert_eq!((udp_checksum(&seen), checksums(&seen)), (0, BOTH));
    let (alternative, server) = ends(&seen);
    assert_eq!(server, at(SERVER));
    let mut answer = udp(server, alternative, b"answer");
    answer[26..28].fill(0);
    let seen = back(&mut t, s(0), &answer);
    assert_eq!((udp_checksum(&seen), checksums(&seen), ends(&seen)), (0, BOTH, (at(ORIGINAL), at(CLIENT))));
}

/// A sum that comes out as zero is written 0xFFFF (RFC 768), and 0xFFFF comes back as what it was.
#[test]
fn a_computed_zero_is_written_as_all_ones() {
    let mut t = diverting(config());
    let (alternative, server) = ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let mut ones = 0;
    for word in 0..=u16::MAX {
        let data = word.to_be_bytes();
        // Only those whose checksum comes out as zero on the far side are worth the time.
        let far = udp(alternative, server, &data);
        let near = udp(at(CLIENT), at(ORIGINAL), &data);
        if udp_checksum(&far) != 0xffff && udp_checksum(&near) != 0xffff && word % 4_097 != 0 {
            continue;
        }
        ones += 1;
        let mut seen = near.clone();
        assert_eq!(t.translate(s(0), &mut seen), Verdict::ToServer);
        assert_eq!(seen, far);
        let answer = udp(server, alternative, &data);
        assert_eq!(back(&mut t, s(0), &answer), udp(at(ORIGINAL), at(CLIENT), &data));
    }
    assert!(ones >= 18, "{ones} cases");
}

/// Every checksum of a TCP segment, right or wrong: it changes by the same amount, so that wrong stays exactly as wrong.
#[test]
fn a_wrong_checksum_stays_wrong_by_the_same_amount() {
    let mut t = diverting(config());
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let off = |right: &[u8], seen: &[u8], at: usize| {
        let value = |p: &[u8]| u32::from(u16::from_be_bytes([p[at], p[at + 1]]));
        (value(seen) + 0xffff - value(right)) % 0xffff
    };
    let right = tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"data");
    let seen_right = there(&mut t, s(0), &right);
    assert_eq!(checksums(&seen_right), BOTH);
    let datagram = udp(at(CLIENT), at(ORIGINAL), b"data");
    let seen_datagram = there(&mut t, s(0), &datagram);
    for step in 0..=u16::MAX {
        if step % 251 != 0 && step > 16 && step < 0xfff0 {
            continue;
        }
        // The TCP checksum, then that of the IPv4 header, then that of UDP.
        for (right, seen_right, at) in
            [(&right, &seen_right, 36), (&right, &seen_right, 10), (&datagram, &seen_datagram, 26)]
        {
            let mut wrong = right.clone();
            wrong[at..at + 2].copy_from_slice(&step.to_be_bytes());
            if at == 26 && step == 0 {
                continue; // that is no checksum
            }
            let seen = there(&mut t, s(0), &wrong);
            assert_eq!(off(seen_right, &seen, at), off(right, &wrong, at), "{step:#06x} at {at}");
        }
    }
}

/// Odd lengths, and every kind of address and port that makes carries.
#[test]
fn carries_of_every_kind() {
    let hosts = ["1.0.0.1", "100.64.255.255", "126.255.255.255", "192.0.2.255", "223.255.255.254", "128.0.128.0"];
    let mut t = translator(byway::Config::new([1; 32]).alternative(ip("223.255.255.255"), 1..=65_535));
    for (i, target) in hosts.iter().enumerate() {
        let original = core::net::Ipv4Addr::new(50, 0, 0, i as u8);
        t.divert(Divert::new(original).to(ip(target))).unwrap();
        for source in hosts {
            for (from_port, to_port) in [(1, 1), (0xffff, 0xffff), (0xff00, 0x00ff), (0x8000, 0x7fff)] {
                let from = core::net::SocketAddrV4::new(ip(source), from_port);
                let to = core::net::SocketAddrV4::new(original, to_port);
                for data in [&b""[..], b"o", b"od", b"odd", &[0xff; 101], &[0; 100]] {
                    let seen = there(&mut t, s(0), &udp(from, to, data));
                    assert_eq!(checksums(&seen), BOTH);
                    let (alternative, server) = ends(&seen);
                    let seen = back(&mut t, s(0), &udp(server, alternative, data));
                    assert_eq!(seen, udp(to, from, data));
                    let seen = there(&mut t, s(0), &tcp(from, to, (SYN, 0xffff_ffff, 0), data));
                    assert_eq!(checksums(&seen), BOTH);
                    let (alternative, server) = ends(&seen);
                    let answer = (SYN | ACK, 0xffff_0000, 0);
                    let seen = back(&mut t, s(0), &tcp(server, alternative, answer, data));
                    assert_eq!(seen, tcp(to, from, answer, data));
                }
            }
        }
    }
}

/// Hardware that computes checksums overwrites whatever is there: it is left alone, except in ICMP.
#[test]
fn for_hardware_they_are_left_as_they_came() {
    let mut t = translator(config().checksums(Checksums::Hardware));
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    let question = udp(at(CLIENT), at(ORIGINAL), b"question");
    let syn = tcp(at(CLIENT), at(ORIGINAL), (SYN, 1, 0), b"fast");
    for (packet, field) in [(&question, 26), (&syn, 36)] {
        let seen = there(&mut t, s(0), packet);
        assert_eq!((&seen[10..12], &seen[field..field + 2]), (&packet[10..12], &packet[field..field + 2]));
        // What the hardware makes of it is right.
        let (alternative, server) = ends(&seen);
        let mut finished = seen.clone();
        fill_checksums(&mut finished);
        assert_eq!(checksums(&finished), BOTH);
        assert_eq!(server, at("123.45.67.89:80"));
        let later = fragment(packet, 5, 0, true, &packet[20..]);
        let seen = there(&mut t, s(0), &later);
        assert_eq!(seen[10..12], later[10..12]);
        let answer = icmp_error(3, 3, *server.ip(), &finished, 28);
        let seen = back(&mut t, s(0), &answer);
        assert!(sum(&[&seen[20..]]) == 0xffff, "no hardware knows what an ICMP error quotes");
        assert!(sum(&[&seen[28..48]]) == 0xffff, "nor the header in it");
        assert_eq!(seen[28..56], packet[..28]);
        assert_eq!(alternative.ip(), &ip(ALTERNATIVE));
    }
    let ping = there(&mut t, s(0), &echo(8, *at(CLIENT).ip(), ip("100.100.100.100"), 1, b"ping"));
    assert!(checksums(&ping).transport);
}

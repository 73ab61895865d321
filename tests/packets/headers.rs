//! Headers that are short, long, odd or wrong: RFC 791, RFC 1812, RFC 3704.

use byway::{Divert, DropReason, Heap, Prefix, Translator, Verdict, Verdict::Drop};
use byway_testing::talk::*;
use byway_testing::*;

/// A table with an open connection of each protocol, and a packet of each kind both ways.
fn all_kinds() -> (Translator<Heap>, Vec<(&'static str, Vec<u8>)>) {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89")).replies_from_any_port()).unwrap();
    let (client, original) = (at(CLIENT), at(ORIGINAL));
    let question = udp(client, original, b"question");
    let arrived = there(&mut t, s(0), &question);
    let (alternative, server) = ends(&arrived);
    let answer = udp(server, alternative, b"answer");
    let restored = back(&mut t, s(0), &answer);
    let (tcp_alternative, tcp_server) = connect(&mut t, s(0), client, original);
    let ping = echo(8, *client.ip(), *original.ip(), 7, b"ping");
    let pinged = there(&mut t, s(0), &ping);
    let id = u16::from_be_bytes([pinged[24], pinged[25]]);
    let with_options = |packet: &[u8], words: u8| {
        let mut packet = [&packet[..20], &vec![1; usize::from(words - 5) * 4], &packet[20..]].concat();
        packet[0] = 0x40 | words;
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        header_checksum(&mut packet);
        packet
    };
    let kinds = vec![
        ("udp there", question.clone()),
        ("udp back", answer.clone()),
        ("udp of nobody", udp(at("1.1.1.1:1"), alternative, b"who?")),
        ("udp sibling", udp(at("123.45.67.89:7777"), alternative, b"")),
        ("tcp there", tcp(client, original, (ACK, CLIENT_START + 1, SERVER_START + 1), b"data")),
        ("tcp back", tcp(tcp_server, tcp_alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), b"data")),
        ("tcp syn", tcp(talk::client(5), original, (SYN, 1, 0), b"")),
        ("echo there", ping),
        ("echo back", echo(0, *server.ip(), *alternative.ip(), id, b"pong")),
        ("error to the client", icmp_error(3, 3, *server.ip(), &arrived, 28)),
        ("error to the server", icmp_error(3, 3, *client.ip(), &restored, 28)),
        ("udp with options", with_options(&question, 15)),
        (
            "tcp with options",
            with_options(&tcp(tcp_server, tcp_alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), b""), 7),
        ),
        ("first fragment", fragment(&question, 5, 0, true, &question[20..36])),
        ("later fragment", fragment(&question, 6, 100, false, &question[20..36])),
        ("gre", ipv4(47, *client.ip(), *original.ip(), &[7; 40])),
    ];
    (t, kinds)
}

/// What [`run`] checks, and that nothing behind the total length is touched.
fn offer(t: &mut Translator<Heap>, packet: &[u8]) -> Verdict {
    let (verdict, after) = run(t, s(1), packet);
    if let [_, _, a, b, ..] = *packet {
        let total = usize::from(u16::from_be_bytes([a, b])).min(packet.len());
        assert_eq!(after[total..], packet[total..], "{verdict:?}: the padding was written to");
    }
    verdict
}

/// Every prefix of every packet, both cut off and with the total length saying so before guard bytes.
#[test]
fn every_prefix_of_every_kind_of_packet() {
    let (_, kinds) = all_kinds();
    for (name, packet) in &kinds {
        for length in 0..packet.len() {
            let (mut t, _) = all_kinds();
            let cut = offer(&mut t, &packet[..length]);
            assert_eq!(cut, Drop(DropReason::MalformedIpv4), "{name} cut to {length}");

            let mut guarded = packet.clone();
            guarded.extend([0xee; 64]);
            guarded[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            let got = offer(&mut t, &guarded);
            let header = usize::from(packet[0] & 15) * 4;
            if length < header {
                assert_eq!(got, Drop(DropReason::MalformedIpv4), "{name} with total length {length}");
            } else if length < header + 8 && !name.contains("later") && *name != "gre" {
                assert!(matches!(got, Drop(_)), "{name} with total length {length}: {got:?}");
            }
        }
    }
}

/// Ethernet pads short packets: what lies behind the total length is neither read nor written.
#[test]
fn padding_is_ignored() {
    let (_, kinds) = all_kinds();
    for (name, packet) in &kinds {
        let plain = offer(&mut all_kinds().0, packet);
        for padding in [1, 2, 18, 46, 1_000] {
            let mut padded = packet.clone();
            padded.extend(vec![0xee; padding]);
            let mut bare = packet.clone();
            let mut t = all_kinds().0;
            assert_eq!(offer(&mut t, &padded), plain, "{name}");
            let (mut one, mut two) = (all_kinds().0, all_kinds().0);
            let _ = one.translate(s(1), &mut padded);
            let _ = two.translate(s(1), &mut bare);
            assert_eq!(padded[..bare.len()], bare, "{name} with {padding} bytes behind it");
        }
    }
}

/// Every length of header that can be claimed, on every length of packet.
#[test]
fn every_header_length() {
    let (mut t, kinds) = all_kinds();
    for (name, packet) in &kinds {
        for words in 0..16_u8 {
            for length in 20..=packet.len() {
                let mut odd = packet[..length].to_vec();
                odd[0] = 0x40 | words;
                odd[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                let got = offer(&mut t, &odd);
                if words < 5 || usize::from(words) * 4 > length {
                    assert_eq!(got, Drop(DropReason::MalformedIpv4), "{name}, {words} words, {length} bytes");
                }
            }
        }
    }
}

/// IP options: no operation, record route, source routes, options of length 0 and 1: not our business, not a trap.
#[test]
fn ip_options_pass_as_they_are() {
    let question = udp(at(CLIENT), at(ORIGINAL), b"question");
    for options in [
        [0_u8, 0, 0, 0],
        [1, 1, 1, 1],
        [7, 0, 0, 0],
        [7, 1, 0, 0],
        [131, 3, 4, 0],
        [137, 3, 4, 0],
        [0xff, 0xff, 0xff, 0xff],
        [148, 4, 0, 0],
    ] {
        let mut t = diverting(config());
        let mut packet = [&question[..20], &options, &question[20..]].concat();
        packet[0] = 0x46;
        packet[3] += 4;
        header_checksum(&mut packet);
        let seen = there(&mut t, s(0), &packet);
        assert_eq!((checksums(&seen), &seen[20..24]), (BOTH, &options[..]));
        assert_eq!(ends(&seen).1, at(SERVER));
    }
}

/// TCP data offsets 0 to 15 on every length (a real fault: an offset of 15 on 20 bytes).
#[test]
fn every_tcp_data_offset() {
    let mut t = diverting(config());
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    for words in 0..16_u8 {
        for length in 0..=64_usize {
            let mut segment = tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), &[0; 64]);
            segment[32] = words << 4;
            segment.truncate(20 + length);
            segment[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
            let good = words >= 5 && length >= 20 && usize::from(words) * 4 <= length;
            let due = if good { Verdict::ToServer } else { Drop(DropReason::MalformedTransport) };
            assert_eq!(offer(&mut t, &segment), due, "offset {words}, {length} bytes");
        }
    }
}

/// UDP lengths that contradict the IPv4 header's.
#[test]
fn every_udp_length() {
    let mut t = diverting(config());
    for claimed in (0..64).chain([255, 256, 65_535]) {
        let mut datagram = udp(at(CLIENT), at(ORIGINAL), &[0; 20]);
        datagram[24..26].copy_from_slice(&u16::to_be_bytes(claimed));
        // Shorter than what carries it: the rest is no part of it (RFC 768 does not forbid it).
        let due = if (8..=28).contains(&claimed) { Verdict::ToServer } else { Drop(DropReason::MalformedTransport) };
        assert_eq!(offer(&mut t, &datagram), due, "{claimed}");
    }
    // An empty datagram is a datagram (RFC 8085).
    assert_eq!(offer(&mut t, &udp(at(CLIENT), at(ORIGINAL), b"")), Verdict::ToServer);
    // And so is the largest.
    let largest = udp(at(CLIENT), at(ORIGINAL), &vec![5; 65_507]);
    assert_eq!(checksums(&there(&mut t, s(1), &largest)), BOTH);
}

/// Protocols 0 to 255, with and without state. Where they would leave with a source that a rule hides they are dropped;
/// `masquerade.rs` has more of that.
#[test]
fn protocols_without_ports_pass_or_are_dropped_where_a_rule_masquerades() {
    let masquerade = Divert::new(Prefix::ALL);
    for (rule, with_state) in
        [(masquerade, false), (masquerade, true), (masquerade.to(at(SERVER)), false), (masquerade.to(at(SERVER)), true)]
    {
        let mut t = translator(config());
        t.divert(rule).unwrap();
        let masquerades = t.diverts().any(|rule| rule.servers().any(|(s, _)| s.target == byway::Target::Same));
        if with_state {
            ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        }
        for protocol in (0..=255_u8).filter(|p| ![1, 6, 17].contains(p)) {
            for length in [0, 1, 7, 8, 20, 100] {
                for destination in [ORIGINAL, "10.10.10.10:9"] {
                    let packet = ipv4(protocol, *at(CLIENT).ip(), *at(destination).ip(), &vec![0xff; length]);
                    let dropped = masquerades && destination == ORIGINAL;
                    let due = if dropped { Drop(DropReason::Untranslatable) } else { Verdict::Pass };
                    assert_eq!(offer(&mut t, &packet), due, "{protocol} {length}");
                }
            }
        }
        assert_eq!(t.slots_in_use(), u32::from(with_state));
    }
}

#[test]
fn other_versions_pass_and_no_packet_is_none() {
    let mut t = diverting(config());
    for version in (0..16_u8).filter(|v| *v != 4) {
        for length in [1, 20, 40, 1_500] {
            let mut packet = vec![0x11; length];
            packet[0] = version << 4 | 5;
            assert_eq!(offer(&mut t, &packet), Verdict::Pass, "version {version}");
        }
    }
    assert_eq!(offer(&mut t, &[]), Drop(DropReason::MalformedIpv4));
    assert_eq!((t.counters().passed, t.counters().dropped_in_all()), (60, 1));
}

/// RFC 1812, section 5.3.7: nothing begins from an address that no host has, and nobody is told.
#[test]
fn martian_and_own_sources_are_dropped_and_make_nothing() {
    let mut t = diverting(config().own(ip("192.168.0.1")));
    let mut expected = 0;
    for (source, reason) in [
        ("0.0.0.0", DropReason::MartianSource),
        ("0.1.2.3", DropReason::MartianSource),
        ("127.0.0.1", DropReason::MartianSource),
        ("127.255.255.254", DropReason::MartianSource),
        ("169.254.1.1", DropReason::MartianSource),
        ("224.0.0.1", DropReason::MartianSource),
        ("239.255.255.255", DropReason::MartianSource),
        ("240.0.0.1", DropReason::MartianSource),
        ("255.255.255.255", DropReason::MartianSource),
        ("10.10.10.10", DropReason::OwnSource),
        ("192.168.0.1", DropReason::OwnSource),
    ] {
        let from = core::net::SocketAddrV4::new(ip(source), 5_000);
        for packet in [udp(from, at(ORIGINAL), b"spoofed"), tcp(from, at(ORIGINAL), (SYN, 1, 0), b"")] {
            assert_eq!(offer(&mut t, &packet), Drop(reason), "{source}");
            expected += 1;
        }
    }
    assert_eq!((t.counters().dropped_in_all(), t.slots_in_use()), (expected, 0));
    assert!(say(&mut t, s(1)).is_empty());
    // Neighbours of those ranges are hosts.
    for source in ["1.0.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "223.255.255.255"] {
        let from = core::net::SocketAddrV4::new(ip(source), 5_000);
        assert_eq!(offer(&mut t, &udp(from, at(ORIGINAL), b"")), Verdict::ToServer, "{source}");
    }
}

/// Port zero is an odd port, and no more than that.
#[test]
fn port_zero_is_a_port() {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89")).replies_from_any_port()).unwrap();
    let from = core::net::SocketAddrV4::new(ip("192.168.7.7"), 0);
    let (_, server) = ask_and_answer(&mut t, s(0), from, at("100.100.100.100:0"));
    assert_eq!(server.port(), 0);
    t.poll(s(302));
    t.poll(s(500));
    assert_eq!(t.slots_in_use(), 0);
}

//! ICMP: echo and errors, RFC 5508.

use byway::{Divert, DropReason, Heap, Prefix, Protocol, State, Translator, Verdict, Verdict::Drop};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

/// A router between us and the server.
const ROUTER: &str = "62.1.2.3";
/// A router on the client's side.
const INNER_ROUTER: &str = "192.168.7.1";

fn masquerading() -> Translator<Heap> {
    let mut t = translator(config());
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    t
}

/// An ICMP error with any header word and any quote, its checksum right.
fn error(kind: u8, code: u8, word: u32, source: Ipv4Addr, to: Ipv4Addr, quote: &[u8]) -> Vec<u8> {
    let mut payload = vec![kind, code, 0, 0];
    payload.extend(word.to_be_bytes());
    payload.extend(quote);
    ipv4(1, source, to, &payload)
}

fn identifier(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[24], packet[25]])
}

/// Whether the bytes of `address` stand anywhere in `packet`.
fn tells_of(packet: &[u8], address: Ipv4Addr) -> bool {
    packet.windows(4).any(|w| w == address.octets())
}

#[test]
fn an_echo_goes_there_and_back_through_its_identifier() {
    let mut t = translator(config());
    let original = ip("100.100.100.100");
    t.divert(Divert::new(original).to(ip("123.45.67.89"))).unwrap();
    for length in [0, 1, 56, 57, 1_400] {
        let data = vec![0xa5; length];
        let request = echo(8, ip("192.168.7.7"), original, 0x1234, &data);
        let seen = there(&mut t, s(0), &request);
        assert_eq!((address(&seen, 12), address(&seen, 16)), (ip(ALTERNATIVE), ip("123.45.67.89")));
        assert_eq!((checksums(&seen), &seen[26..]), (BOTH, &request[26..]));
        let reply = back(&mut t, s(0), &echo(0, ip("123.45.67.89"), ip(ALTERNATIVE), identifier(&seen), &data));
        assert_eq!(reply, echo(0, original, ip("192.168.7.7"), 0x1234, &data));
    }
    assert_eq!(t.counters().opened, 1);
    let (connection, _) = t.connection(Protocol::Icmp, at("192.168.7.7:4660"), at("100.100.100.100:0")).unwrap();
    assert_eq!(connection.state, State::Answered);
}

/// RFC 5508, REQ-1: the identifiers of two clients collide, and those of one client to two hosts.
#[test]
fn colliding_identifiers_are_told_apart() {
    let mut t = masquerading();
    let hosts = ["8.8.8.8", "9.9.9.9"].map(ip);
    let mut seen = Vec::new();
    for n in 0..20 {
        for host in hosts {
            let packet = there(&mut t, s(0), &echo(8, *client(n).ip(), host, 1, &[n as u8]));
            seen.push((host, identifier(&packet), n));
        }
    }
    for &(host, id, n) in seen.iter().rev() {
        let reply = back(&mut t, s(0), &echo(0, host, ip(ALTERNATIVE), id, &[n as u8]));
        assert_eq!(reply, echo(0, host, *client(n).ip(), 1, &[n as u8]));
    }
    // Who was not asked has nothing to answer.
    for &(_, id, _) in &seen {
        let stray = echo(0, ip("7.7.7.7"), ip(ALTERNATIVE), id, b"");
        assert_eq!(verdict(&mut t, s(0), &stray), Drop(DropReason::NoConnection));
    }
    // A request to us is for this machine itself.
    assert_eq!(verdict(&mut t, s(0), &echo(8, ip("7.7.7.7"), ip(ALTERNATIVE), 1, b"")), Verdict::Pass);
}

/// A checksum that came wrong stays wrong, by the same amount.
#[test]
fn a_wrong_checksum_of_an_echo_is_not_repaired() {
    let mut t = masquerading();
    let right = echo(8, *client(1).ip(), ip("8.8.8.8"), 1, b"data");
    let mut wrong = right.clone();
    wrong[22] ^= 0x40;
    let (seen_right, seen_wrong) = (there(&mut t, s(0), &right), there(&mut t, s(0), &wrong));
    assert_eq!(checksums(&seen_right), BOTH);
    assert_eq!(checksums(&seen_wrong), Right { header: true, transport: false });
}

#[test]
fn other_messages_are_not_ours() {
    let mut t = diverting(config());
    for kind in 0..=255_u8 {
        if matches!(kind, 0 | 3 | 4 | 5 | 8 | 11 | 12) {
            continue;
        }
        for (from, to) in [(at(CLIENT), at(ORIGINAL)), (at(SERVER), at("10.10.10.10:0"))] {
            let packet = echo(kind, *from.ip(), *to.ip(), 7, b"timestamp, router, mask, photuris");
            assert_eq!(verdict(&mut t, s(0), &packet), Verdict::Pass, "type {kind}");
        }
    }
    // An echo reply of a client that nobody asked is none of ours either.
    assert_eq!(verdict(&mut t, s(0), &echo(0, *client(1).ip(), *at(ORIGINAL).ip(), 1, b"")), Verdict::Pass);
    assert_eq!(t.slots_in_use(), 0);
}

/// One open connection of each protocol, and what its packets look like on both sides.
struct Case {
    name: &'static str,
    t: Translator<Heap>,
    /// The client's packet as it sent it, and as the server saw it.
    sent: Vec<u8>,
    arrived: Vec<u8>,
    /// The server's packet as it sent it, and as the client saw it.
    answered: Vec<u8>,
    restored: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let zero = |mut packet: Vec<u8>| {
        packet[26..28].fill(0);
        packet
    };
    let rule = |t: &mut Translator<Heap>| {
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    };
    let mut all = Vec::new();
    for name in ["tcp", "udp", "udp without checksum", "echo"] {
        let mut t = translator(config());
        rule(&mut t);
        let (client, original) = (at(CLIENT), at(ORIGINAL));
        let sent = match name {
            "tcp" => tcp(client, original, (SYN, CLIENT_START, 0), b""),
            "udp" => udp(client, original, b"some data"),
            "echo" => echo(8, *client.ip(), *original.ip(), 0x7777, b"ping"),
            _ => zero(udp(client, original, b"some data")),
        };
        let arrived = there(&mut t, s(0), &sent);
        let (alternative, server) = ends(&arrived);
        let answered = match name {
            "tcp" => tcp(server, alternative, (SYN | ACK, SERVER_START, CLIENT_START + 1), b""),
            "udp" => udp(server, alternative, b"an answer"),
            "echo" => echo(0, *server.ip(), *alternative.ip(), identifier(&arrived), b"pong"),
            _ => zero(udp(server, alternative, b"an answer")),
        };
        let restored = back(&mut t, s(0), &answered);
        all.push(Case { name, t, sent, arrived, answered, restored });
    }
    all
}

/// RFC 5508, REQ-4: an error about a client's packet quotes what the client sent, down to the checksums, for every
/// kind of error and however much is quoted.
#[test]
fn an_error_from_outside_quotes_what_the_client_sent() {
    for Case { name, mut t, sent, arrived, .. } in cases() {
        for (kind, codes) in [(3, 0..=15), (4, 0..=0), (5, 0..=3), (11, 0..=1), (12, 0..=2)] {
            for code in codes {
                // A quote that ends within the TCP checksum (its 37th byte) cannot be put right.
                for quoted in (28..=arrived.len()).filter(|q| name != "tcp" || *q != 37) {
                    for source in [ip(ROUTER), address(&arrived, 16)] {
                        let word = 0x0000_0578; // an MTU, a pointer, a gateway: not ours to touch
                        let message = error(kind, code, word, source, address(&arrived, 12), &arrived[..quoted]);
                        let seen = back(&mut t, s(1), &message);
                        // From the diverted server it seems to come from the original.
                        let from = if source == ip(ROUTER) { source } else { address(&sent, 16) };
                        let due = error(kind, code, word, from, address(&sent, 12), &sent[..quoted]);
                        assert_eq!(seen, due, "{name}, type {kind}/{code}, {quoted} bytes");
                        assert!(!tells_of(&seen, address(&arrived, 16)), "the client learns of the diverted server");
                        assert!(!tells_of(&seen, ip(ALTERNATIVE)));
                    }
                }
            }
        }
        assert_eq!(t.connections().count(), 1, "no error opens or ends a connection");
        assert_eq!(t.counters().dropped_in_all(), 0);
    }
}

/// RFC 5508, REQ-5 (and CVE-2002-0704): an error about a server's packet tells nothing of who is behind us.
#[test]
fn an_error_from_inside_quotes_what_the_server_sent_and_hides_the_client() {
    for Case { name, mut t, answered, restored, sent, .. } in cases() {
        for (kind, code) in [(3, 3), (3, 4), (4, 0), (11, 0), (11, 1), (12, 0)] {
            for quoted in (28..=restored.len()).filter(|q| name != "tcp" || *q != 37) {
                for source in [address(&sent, 12), ip(INNER_ROUTER)] {
                    let message = error(kind, code, 0, source, address(&restored, 12), &restored[..quoted]);
                    let seen = there(&mut t, s(1), &message);
                    let due = error(kind, code, 0, ip(ALTERNATIVE), address(&answered, 12), &answered[..quoted]);
                    assert_eq!(seen, due, "{name}, type {kind}/{code}, {quoted} bytes");
                    assert!(!tells_of(&seen, address(&sent, 12)) && !tells_of(&seen, ip(INNER_ROUTER)));
                }
            }
        }
        assert_eq!(t.connections().count(), 1);
    }
}

/// RFC 5508, REQ-3b: IP options inside, up to the longest header.
#[test]
fn options_in_the_quoted_header_are_stepped_over() {
    for Case { name, mut t, sent, arrived, .. } in cases() {
        for words in 5..=15_u8 {
            let options = vec![1; usize::from(words - 5) * 4];
            let with_options = |packet: &[u8]| {
                let mut quote = [&packet[..20], &options, &packet[20..]].concat();
                quote[0] = 0x40 | words;
                header_checksum(&mut quote);
                quote
            };
            let (from, to) = (with_options(&arrived), with_options(&sent));
            for length in [20 + options.len() + 8, from.len()] {
                let message = error(11, 0, 0, ip(ROUTER), ip(ALTERNATIVE), &from[..length]);
                let seen = back(&mut t, s(0), &message);
                assert_eq!(seen, error(11, 0, 0, ip(ROUTER), address(&sent, 12), &to[..length]), "{name}, IHL {words}");
            }
        }
    }
}

/// RFC 5508, REQ-3d (RFC 4884): extensions behind the quote, and its length in the header, stay.
#[test]
fn extensions_behind_the_quote_stay() {
    for Case { name, mut t, sent, arrived, .. } in cases() {
        let extended = |packet: &[u8]| {
            let mut quote = packet.to_vec();
            quote.resize(128, 0);
            quote.extend([0x20, 0, 0xab, 0xcd, 0, 8, 1, 1, 0, 1, 0x80, 0xff]);
            quote
        };
        let message = error(11, 0, 32 << 16, ip(ROUTER), ip(ALTERNATIVE), &extended(&arrived));
        let seen = back(&mut t, s(0), &message);
        assert_eq!(seen, error(11, 0, 32 << 16, ip(ROUTER), address(&sent, 12), &extended(&sent)), "{name}");
    }
}

/// RFC 5508, REQ-3 and REQ-3a: with a wrong checksum it is dropped; the quoted transport checksum is not looked at.
#[test]
fn errors_with_wrong_checksums_are_dropped() {
    for Case { name, mut t, sent, arrived, .. } in cases() {
        let good = error(3, 1, 0, ip(ROUTER), ip(ALTERNATIVE), &arrived);
        for bit in 0..(8 + arrived.len()) * 8 {
            let mut damaged = good.clone();
            damaged[20 + bit / 8] ^= 1 << (bit % 8);
            let due = match damaged[20] {
                3 | 4 | 5 | 11 | 12 => matches!(verdict(&mut t, s(0), &damaged), Drop(DropReason::IcmpChecksum)),
                _ => true,
            };
            assert!(due, "{name}: bit {bit} of the message is wrong, and nobody noticed");
        }
        let mut quote = arrived.clone();
        quote[8] ^= 1; // its checksum does not fit any more
        let message = error(3, 1, 0, ip(ROUTER), ip(ALTERNATIVE), &quote);
        assert_eq!(verdict(&mut t, s(0), &message), Drop(DropReason::IcmpChecksum));

        if name != "udp without checksum" {
            // A wrong checksum inside stays wrong, and the message around it right.
            let at = if name == "tcp" {
                36
            } else if name == "udp" {
                26
            } else {
                22
            };
            let spoiled = |packet: &[u8]| {
                let mut packet = packet.to_vec();
                packet[at] ^= 0x11;
                packet
            };
            let message = error(3, 1, 0, ip(ROUTER), ip(ALTERNATIVE), &spoiled(&arrived));
            let seen = back(&mut t, s(0), &message);
            assert_eq!(checksums(&seen), BOTH);
            assert!(!checksums(&seen[28..]).transport, "{name}: it was repaired");
        }
        assert_eq!(address(&sent, 12), ip("192.168.7.7"));
    }
}

/// CVE-2019-5598: the quoted packet is of a connection, but the message goes to somebody else than its sender.
#[test]
fn an_error_for_somebody_else_than_the_sender_is_dropped() {
    for Case { name, mut t, arrived, restored, .. } in cases() {
        let to_other = error(3, 3, 0, ip(ROUTER), ip("100.100.100.100"), &arrived);
        assert_eq!(verdict(&mut t, s(0), &to_other), Drop(DropReason::IcmpUnrelated), "{name}");
        let to_us = error(3, 3, 0, ip(ROUTER), ip(ALTERNATIVE), &restored);
        assert_eq!(verdict(&mut t, s(0), &to_us), Drop(DropReason::IcmpUnrelated), "{name}");
    }
}

/// RFC 5508, REQ-4: nothing known of the packet that it quotes.
#[test]
fn an_error_about_nothing_known_is_dropped_or_passed() {
    let mut t = diverting(config());
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let unknown = udp(at("10.10.10.10:5000"), at("8.8.8.8:53"), b"");
    let message = error(3, 3, 0, ip(ROUTER), ip(ALTERNATIVE), &unknown);
    assert_eq!(verdict(&mut t, s(0), &message), Drop(DropReason::IcmpUnrelated));
    // About a packet of this machine itself: its port is none that we give away.
    let own = udp(at("10.10.10.10:53"), at("8.8.8.8:53"), b"");
    let message = error(3, 3, 0, ip(ROUTER), ip(ALTERNATIVE), &own);
    assert_eq!(verdict(&mut t, s(0), &message), Verdict::Pass);
    // About somebody else's packet.
    let foreign = udp(at("1.1.1.1:53"), at("8.8.8.8:53"), b"");
    assert_eq!(verdict(&mut t, s(0), &error(3, 3, 0, ip(ROUTER), ip("1.1.1.1"), &foreign)), Verdict::Pass);
    // About a later fragment, and about a protocol without ports: nothing can be told of them.
    let later = fragment(&unknown, 1, 100, false, &[0; 16]);
    assert_eq!(verdict(&mut t, s(0), &error(11, 1, 0, ip(ROUTER), ip(ALTERNATIVE), &later)), Verdict::Pass);
    // An error about an error, which nobody may send.
    let about = error(3, 3, 0, ip(ROUTER), ip(ALTERNATIVE), &unknown);
    let twice = error(3, 3, 0, ip(ROUTER), ip(ROUTER), &about);
    assert_eq!(verdict(&mut t, s(0), &twice), Verdict::Pass);
    assert_eq!(t.counters().dropped(DropReason::IcmpUnrelated), 1);
}

/// An error about a packet to a server that the connection was moved away from is old news.
#[test]
fn an_error_about_a_packet_to_the_old_server_is_dropped() {
    let mut t = diverting(config());
    let sent = udp(at(CLIENT), at(ORIGINAL), b"question");
    let arrived = there(&mut t, s(0), &sent);
    t.redivert(at(SERVER), at(OTHER), byway::Redivert::Switch).unwrap();
    let message = error(3, 3, 0, address(&arrived, 16), ip(ALTERNATIVE), &arrived);
    assert!(matches!(verdict(&mut t, s(1), &message), Drop(DropReason::OldServer)));
    assert!(matches!(verdict(&mut t, s(1), &message), Drop(_)));
    let arrived = there(&mut t, s(1), &sent);
    let message = error(3, 3, 0, address(&arrived, 16), ip(ALTERNATIVE), &arrived);
    assert_eq!(back(&mut t, s(1), &message), error(3, 3, 0, ip("100.100.100.100"), address(&sent, 12), &sent));
}

/// Traceroute by UDP, TCP and echo: each router on the way is seen with its own address, and the last answer comes
/// from the original.
#[test]
fn traceroute_sees_the_way() {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    for hop in 1..=6_u8 {
        let router = if hop == 6 { ip("123.45.67.89") } else { Ipv4Addr::new(62, 0, 0, hop) };
        let probe = SocketAddrV4::new(ip("100.100.100.100"), 33_434 + u16::from(hop));
        for mut sent in [
            udp(at(CLIENT), probe, b"probe"),
            tcp(at(CLIENT), probe, (SYN, 7, 0), b""),
            echo(8, *at(CLIENT).ip(), *probe.ip(), u16::from(hop), b"probe"),
        ] {
            sent[8] = hop;
            header_checksum(&mut sent);
            let mut arrived = there(&mut t, s(0), &sent);
            assert_eq!(arrived[8], hop, "the hop count is the router's business");
            // The router has counted it down to one, and put the header checksum right.
            arrived[8] = 1;
            header_checksum(&mut arrived);
            let mut quote = sent.clone();
            quote[8] = 1;
            header_checksum(&mut quote);
            let kind = if hop == 6 { 3 } else { 11 };
            let seen = back(&mut t, s(0), &error(kind, 0, 0, router, ip(ALTERNATIVE), &arrived[..28]));
            let from = if hop == 6 { ip("100.100.100.100") } else { router };
            assert_eq!(seen, error(kind, 0, 0, from, *at(CLIENT).ip(), &quote[..28]));
        }
    }
}

/// The host and the rule that forwards a port of ours: errors about it find their way, and hide who is behind it.
#[test]
fn errors_about_a_forwarded_port() {
    let mut t = translator(config());
    let (service, inside, outside) = (at("10.10.10.10:8080"), at("192.168.0.9:80"), at("77.7.7.7:5000"));
    t.divert(Divert::new(service).to(inside).keep_source()).unwrap();
    let sent = udp(outside, service, b"hello");
    let arrived = there(&mut t, s(0), &sent);
    assert_eq!(ends(&arrived), (outside, inside));
    // The host inside refuses: it seems to be us who do.
    let refusal = error(3, 3, 0, *inside.ip(), *outside.ip(), &arrived);
    let seen = back(&mut t, s(0), &refusal);
    assert_eq!(seen, error(3, 3, 0, *service.ip(), *outside.ip(), &sent));
    assert!(!tells_of(&seen, *inside.ip()));
    // So does a router between us and it.
    let unreachable = error(3, 1, 0, ip(INNER_ROUTER), *outside.ip(), &arrived);
    let seen = back(&mut t, s(0), &unreachable);
    assert_eq!(seen, error(3, 1, 0, *service.ip(), *outside.ip(), &sent));
    // Its answer does not reach the outside: the error about it reaches the host inside.
    let answered = udp(inside, outside, b"answer");
    let restored = back(&mut t, s(0), &answered);
    assert_eq!(ends(&restored), (service, outside));
    let seen = there(&mut t, s(0), &error(3, 1, 0, ip(ROUTER), *service.ip(), &restored));
    assert_eq!(seen, error(3, 1, 0, ip(ROUTER), *inside.ip(), &answered));
    assert_eq!(checksums(&seen), BOTH);
    assert_eq!(t.connections().count(), 1);
}

/// Errors about connections whose client keeps its address.
#[test]
fn errors_where_the_source_is_kept() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).keep_source()).unwrap();
    let sent = udp(at(CLIENT), at(ORIGINAL), b"question");
    let arrived = there(&mut t, s(0), &sent);
    let seen = back(&mut t, s(0), &error(3, 4, 1_400, ip(ROUTER), *at(CLIENT).ip(), &arrived));
    assert_eq!(seen, error(3, 4, 1_400, ip(ROUTER), *at(CLIENT).ip(), &sent));
    let answered = udp(at(SERVER), at(CLIENT), b"answer");
    let restored = back(&mut t, s(0), &answered);
    let seen = there(&mut t, s(0), &error(3, 3, 0, *at(CLIENT).ip(), *at(ORIGINAL).ip(), &restored));
    assert_eq!(seen, error(3, 3, 0, *at(CLIENT).ip(), *at(SERVER).ip(), &answered));
    // Somebody else's errors pass.
    let foreign = udp(at(CLIENT), at("8.8.8.8:53"), b"");
    let message = error(3, 3, 0, ip(ROUTER), *at(CLIENT).ip(), &foreign);
    assert_eq!(verdict(&mut t, s(0), &message), Verdict::Pass);
}

/// Whatever goes out towards servers never bears the client's address, not even in what it quotes.
#[test]
fn the_clients_address_never_leaks() {
    let inside = *at(CLIENT).ip();
    for Case { mut t, sent, restored, .. } in cases() {
        let mut outputs = Vec::new();
        for length in 0..=restored.len() {
            for kind in [3, 4, 5, 11, 12] {
                outputs.push(run(
                    &mut t,
                    s(0),
                    &error(kind, 0, 0, inside, address(&restored, 12), &restored[..length]),
                ));
            }
        }
        for ttl in 1..10 {
            let mut packet = sent.clone();
            packet[8] = ttl;
            header_checksum(&mut packet);
            outputs.push(run(&mut t, s(0), &packet));
        }
        outputs.push(run(&mut t, s(0), &fragment(&sent, 9, 0, true, &sent[20..])));
        let mut translated = 0;
        for (verdict, packet) in outputs {
            if verdict == Verdict::ToServer {
                translated += 1;
                assert!(!tells_of(&packet, inside), "{packet:02x?}");
            } else {
                assert!(matches!(verdict, Drop(_)), "{verdict:?}");
            }
        }
        assert!(translated > 9, "{translated}");
    }
}

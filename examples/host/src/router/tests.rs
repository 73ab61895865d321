use byway::{Config, Divert, Target, Weighted};

use super::*;
use crate::packet::tests::{ipv4, tcp, udp};
use crate::packet::{HEADER, ICMP, TCP, UDP, put, word};

const CLIENT: [u8; 4] = [1, 2, 3, 4];
const ORIGINAL: [u8; 4] = [100, 100, 100, 100];
const SERVER: [u8; 4] = [123, 45, 67, 89];
const ALTERNATIVE: [u8; 4] = [10, 10, 10, 10];
const OWN: [u8; 4] = [10, 9, 9, 9];
const NOW: Instant = Instant::from_secs(10);

#[derive(Default)]
struct Sent(Vec<Vec<u8>>);

impl Output for Sent {
    fn send(&mut self, frame: &[u8], counters: &mut Counters) {
        assert!(packet::check(&frame[LENGTH..]).is_ok(), "a good packet");
        counters.sent += 1;
        self.0.push(frame.to_vec());
    }
}

fn router(rules: &[&str]) -> Router {
    let config = Config::new([7; 32]).alternative(ALTERNATIVE.into(), 1024..=65535).own(OWN.into());
    with_rules(Translator::new(config.client_limit(2), Heap::new(64, 16)).unwrap(), rules)
}

fn with_rules(mut translator: Translator<Heap>, rules: &[&str]) -> Router {
    for rule in rules {
        let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
        translator.divert(Divert::parse(rule, &mut room).unwrap()).unwrap();
    }
    Router::new(translator, Settings { address: OWN.into(), mtu: 1500, errors_per_second: 10, held: 4, resumable: None, early: None })
}

fn framed(header: VnetHeader, packet: &[u8]) -> Vec<u8> {
    [&header.to_bytes(), packet].concat()
}

/// What comes out for a packet: the packets without their headers.
fn route(router: &mut Router, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut sent = Sent::default();
    router.forward(NOW, &mut framed(VnetHeader::NONE, packet), &mut sent);
    sent.0.into_iter().map(|frame| frame[LENGTH..].to_vec()).collect()
}

fn is_error(packet: &[u8], kind: [u8; 2], quoted: &[u8]) -> bool {
    packet[9] == ICMP && packet[20..22] == kind && packet[28..] == quoted[..(packet.len() - 28)]
}

#[test]
fn what_is_translated_is_routed() {
    let mut router = router(&["100.100.100.100:80 to 123.45.67.89:80"]);
    let [there] = &route(&mut router, &udp(CLIENT, ORIGINAL, &[7; 9]))[..] else { panic!() };
    assert_eq!((&there[12..16], &there[16..20], there[8]), (&ALTERNATIVE[..], &SERVER[..], 63));
    let mut back = there.clone();
    back[12..20].rotate_left(4);
    back[20..24].rotate_left(2);
    let [back] = &route(&mut router, &back)[..] else { panic!() };
    assert_eq!((&back[12..16], &back[16..20], back[8]), (&ORIGINAL[..], &CLIENT[..], 62));
    assert_eq!((router.counters.received, router.counters.sent), (2, 2));
}

#[test]
fn a_super_packet_stays_whole_with_its_header() {
    let mut router = router(&["100.100.100.100:80 to 123.45.67.89:80"]);
    let packet = udp(CLIENT, ORIGINAL, &[7; 9_000]);
    let header = VnetHeader::partial(20, 6).split(crate::vnet::Super::Udp { size: 1_000 }, 28);
    let mut sent = Sent::default();
    router.forward(NOW, &mut framed(header, &packet), &mut sent);
    let [frame] = &sent.0[..] else { panic!() };
    assert_eq!((frame.len(), &frame[..LENGTH]), (LENGTH + packet.len(), &header.to_bytes()[..]));
    assert_eq!(
        (frame[LENGTH + 12..LENGTH + 20].to_vec(), router.counters.super_packets),
        ([ALTERNATIVE, SERVER].concat(), 1)
    );
}

#[test]
fn a_packet_that_may_go_no_further_is_reported_as_it_came() {
    let mut router = router(&["100.100.100.100:80 to 123.45.67.89:80"]);
    for ttl in [1, 0] {
        let mut packet = udp(CLIENT, ORIGINAL, &[7; 9]);
        packet[8] = ttl;
        packet::seal(&mut packet);
        let [error] = &route(&mut router, &packet)[..] else { panic!() };
        assert!(is_error(error, [11, 0], &packet) && error[12..20] == [OWN, CLIENT].concat());
    }
    assert_eq!(router.translator.connections().count(), 0, "nothing was opened for it");
    // The way back is known only after it was translated; its sender is told of what it sent.
    let there = route(&mut router, &udp(CLIENT, ORIGINAL, &[])).remove(0);
    let mut back = there;
    back[12..20].rotate_left(4);
    back[20..24].rotate_left(2);
    back[8] = 1;
    packet::seal(&mut back);
    let [error] = &route(&mut router, &back)[..] else { panic!() };
    assert!(is_error(error, [11, 0], &back) && error[12..20] == [OWN, SERVER].concat());
}

#[test]
fn length_is_judged_by_the_packets_on_the_wire() {
    let mut router = router(&["100.100.100.100:80 to 123.45.67.89:80"]);
    let mut packet = udp(CLIENT, ORIGINAL, &[7; 2_000]);
    assert_eq!(route(&mut router, &packet).len(), 1, "it may be fragmented");
    put(&mut packet, 6, 0x4000);
    packet::seal(&mut packet);
    let [error] = &route(&mut router, &packet)[..] else { panic!() };
    assert!(is_error(error, [3, 4], &packet) && word(error, 26) == 1500);
    let mut sent = Sent::default();
    let header = |size| VnetHeader::NONE.split(crate::vnet::Super::Udp { size }, 28);
    router.forward(NOW, &mut framed(header(1_472), &packet), &mut sent);
    assert_eq!(sent.0.pop().unwrap().len(), LENGTH + packet.len());
    router.forward(NOW, &mut framed(header(1_473), &packet), &mut sent);
    assert!(is_error(&sent.0.pop().unwrap()[LENGTH..], [3, 4], &packet));
}

#[test]
fn its_own_addresses_answer() {
    let mut router = router(&[]);
    let mut message = vec![8, 0, 0, 0, 1, 2, 0, 1];
    let checksum = !packet::sum(&message);
    put(&mut message, 2, checksum);
    for own in [OWN, ALTERNATIVE] {
        let mut request = ipv4(ICMP, CLIENT, own, &message);
        request[8] = 1;
        packet::seal(&mut request);
        let [reply] = &route(&mut router, &request)[..] else { panic!() };
        assert_eq!((&reply[12..20], reply[20], reply[8]), (&[own, CLIENT].concat()[..], 0, 64));
    }
    let query = udp(CLIENT, OWN, &[]);
    let [error] = &route(&mut router, &query)[..] else { panic!() };
    assert!(is_error(error, [3, 3], &query) && error[12..16] == OWN);
    let [error] = &route(&mut router, &ipv4(47, CLIENT, OWN, &[0; 8]))[..] else { panic!() };
    assert_eq!(error[20..22], [3, 2]);
    // A port of an alternative address that is given away is no program's.
    let mut stray = udp(CLIENT, ALTERNATIVE, &[]);
    put(&mut stray, 22, 2000);
    assert!(route(&mut router, &stray).is_empty());
}

#[test]
fn martians_and_rubbish_are_not_routed() {
    let mut router = router(&["0.0.0.0/0 to same"]);
    for packet in [udp([127, 0, 0, 1], ORIGINAL, &[]), udp(CLIENT, [224, 0, 0, 1], &[]), vec![0x60; 40], vec![0x45; 30]]
    {
        assert!(route(&mut router, &packet).is_empty());
    }
    router.forward(NOW, &mut [0; 5], &mut Sent::default());
    let Counters { martian, not_ipv4, malformed, .. } = router.counters;
    assert_eq!((martian, not_ipv4, malformed), (2, 1, 2));
}

#[test]
fn what_a_rule_is_about_leaves_translated_or_not_at_all() {
    let rules = ["100.100.100.100 to 123.45.67.89", "100.100.100.101 to 123.45.67.89"];
    let mut router = router(&rules);
    router.fail_open(["100.100.100.101".parse().unwrap()].into());
    let (closed, open) = (ORIGINAL, [100, 100, 100, 101]);
    // From the middle of a connection that is not known; and of a protocol without ports.
    for packet in [tcp(CLIENT, closed, &[1]), ipv4(47, CLIENT, closed, &[0; 8])] {
        let [error] = &route(&mut router, &packet)[..] else { panic!() };
        assert!(is_error(error, [3, 13], &packet));
    }
    for packet in [tcp(CLIENT, open, &[1]), ipv4(47, CLIENT, open, &[0; 8])] {
        let [same] = &route(&mut router, &packet)[..] else { panic!() };
        assert_eq!((&same[12..], same[8]), (&packet[12..], 63));
    }
    assert_eq!((router.counters.failed_closed, router.counters.failed_open), (2, 2));
    // No rule matches it.
    assert_eq!(route(&mut router, &tcp(CLIENT, [8, 8, 8, 8], &[1])).len(), 1);
}

/// A client is told that there is no room for its connection where its packet is dropped, and only there: a client that is told
/// gives up, whatever the server then answers.
#[test]
fn who_has_no_room_is_told_only_if_its_packet_is_dropped() {
    let (closed, open) = (ORIGINAL, [100, 100, 100, 101]);
    let rules = ["100.100.100.100 to 123.45.67.89", "100.100.100.101 to 123.45.67.89"];
    let config = || Config::new([7; 32]).own(OWN.into());
    let many = config().alternative(ALTERNATIVE.into(), 1024..=65535);
    // More connections than a client may have, than there are ports, and than there is memory for.
    let (one_port, few) = (config().alternative(ALTERNATIVE.into(), 2000..=2000), many.clone().client_limit(1));
    for (what, config, connections) in [("limit", few, 1), ("ports", one_port, 1), ("table", many, 64)] {
        for (to, protocol) in [(closed, UDP), (open, UDP), (closed, TCP), (open, TCP)] {
            let mut router = with_rules(Translator::new(config.clone(), Heap::new(64, 16)).unwrap(), &rules);
            router.fail_open(["100.100.100.101".parse().unwrap()].into());
            let of = |protocol, port: u16| {
                let mut packet = if protocol == UDP { udp(CLIENT, to, &[7; 9]) } else { tcp(CLIENT, to, &[]) };
                put(&mut packet, 20, port);
                if protocol == TCP {
                    packet[33] = 2;
                }
                packet
            };
            // Answered connections over UDP stay in a full table.
            let first = if what == "table" { UDP } else { protocol };
            for port in 1..=connections {
                let [there] = &route(&mut router, &of(first, port))[..] else { panic!("{what}: there is room") };
                if first == UDP {
                    let mut back = there.clone();
                    back[12..20].rotate_left(4);
                    back[20..24].rotate_left(2);
                    assert_eq!(route(&mut router, &back).len(), 1);
                }
            }
            for port in 1001..1003 {
                let packet = of(protocol, port);
                let sent = route(&mut router, &packet);
                let [only] = &sent[..] else { panic!("{what}, {protocol}, {to:?}: {} packets: {sent:?}", sent.len()) };
                if to == closed {
                    assert!(is_error(only, [3, 13], &packet), "{what}");
                } else {
                    assert_eq!((&only[12..], only[8]), (&packet[12..], 63), "{what}");
                }
            }
            assert_eq!(router.counters.failed_open, if to == open { 2 } else { 0 });
        }
    }
}

/// A rule that an instruction has added is followed as well.
#[test]
fn a_new_rule_fails_closed() {
    let mut router = router(&[]);
    let packet = ipv4(47, CLIENT, ORIGINAL, &[0; 8]);
    assert_eq!(route(&mut router, &packet)[0][16..20], ORIGINAL);
    router.translator.divert(Divert::new(Ipv4Addr::from(ORIGINAL)).to(Ipv4Addr::from(SERVER))).unwrap();
    assert!(is_error(&route(&mut router, &packet)[0], [3, 13], &packet));
}

#[test]
fn fragments_may_come_before_their_first() {
    let mut router = router(&["100.100.100.100:80 to 123.45.67.89:80"]);
    let whole = udp(CLIENT, ORIGINAL, &[7; 24]);
    let part = |offset: usize, more: u16| {
        let end = (HEADER + offset + 16).min(whole.len());
        let mut packet = [&whole[..HEADER], &whole[HEADER + offset..end]].concat();
        let length = packet.len() as u16;
        put(&mut packet, 2, length);
        put(&mut packet, 6, more | (offset / 8) as u16);
        packet::seal(&mut packet);
        packet
    };
    assert!(route(&mut router, &part(16, 0)).is_empty());
    assert_eq!(router.held(), 1);
    let both = route(&mut router, &part(0, 0x2000));
    assert_eq!(both.iter().map(|p| (p[7], p[16..20] == SERVER)).collect::<Vec<_>>(), [(0, true), (2, true)]);
    // Others wait in vain, no more than there is room for, and the oldest make way.
    for identification in 50..56 {
        let mut late = part(16, 0);
        put(&mut late, 4, identification);
        packet::seal(&mut late);
        assert!(route(&mut router, &late).is_empty());
    }
    let Counters { fragments_kept, fragments_displaced, fragments_refused, .. } = router.counters;
    assert_eq!((router.held(), fragments_kept, fragments_displaced, fragments_refused), (4, 7, 2, 0));
    router.poll(NOW + core::time::Duration::from_secs(31), &mut Sent::default());
    assert_eq!((router.held(), router.counters.fragments_expired), (0, 4));
}

/// Whatever becomes of a first fragment, those that have waited for it are looked at once.
#[test]
fn fragments_whose_first_is_dropped_are_looked_at_once() {
    let mut router = router(&["100.100.100.100:80 to 123.45.67.89:80"]);
    let fragment = |to: [u8; 4], ttl: u8, offset: u16, more: u16| {
        let mut packet = udp(SERVER, to, &[7; 24]);
        packet.truncate(HEADER + 16);
        let length = packet.len() as u16;
        put(&mut packet, 2, length);
        put(&mut packet, 6, more | offset);
        packet[8] = ttl;
        packet::seal(&mut packet);
        packet
    };
    // One to an alternative that no connection has is dropped, and the others with it; one whose TTL has run out is not
    // looked at, and may come again.
    for (to, ttl, waiting) in [(ALTERNATIVE, 64, 0), (ORIGINAL, 1, 1)] {
        assert!(route(&mut router, &fragment(to, 64, 2, 0)).is_empty());
        assert_eq!(router.held(), 1, "{to:?}");
        let said = route(&mut router, &fragment(to, ttl, 0, 0x2000));
        assert!(said.iter().all(|packet| packet[9] == ICMP), "nothing but a complaint");
        assert_eq!(router.held(), waiting, "{to:?}");
        router.poll(NOW + core::time::Duration::from_secs(31), &mut Sent::default());
        assert_eq!(router.held(), 0);
    }
}

#[test]
fn complaints_are_few() {
    let mut router = router(&[]);
    let sent: usize = (0..50).map(|_| route(&mut router, &udp(CLIENT, OWN, &[])).len()).sum();
    assert_eq!((sent, router.counters.icmp_errors, router.counters.icmp_errors_limited), (10, 10, 40));
}

/// After a crash servers still send what is on its way. It leaves with the original's address or not at all.
#[test]
fn a_server_is_not_seen_by_what_it_still_sends() {
    let mut router = router(&["100.100.100.100:80 tcp to 123.45.67.89 keep-source"]);
    let reply = |flags: u8| {
        let mut packet = tcp(SERVER, CLIENT, &[7; 9]);
        put(&mut packet, 20, 80);
        put(&mut packet, 22, 3456);
        packet[33] = flags;
        packet
    };
    assert_eq!(route(&mut router, &reply(16)).len(), 1, "a client may talk to the server itself");
    router.strays = Strays::until(NOW + core::time::Duration::from_secs(120));
    assert!(route(&mut router, &reply(16)).is_empty(), "nobody is told");
    assert_eq!((router.counters.strays_dropped, router.counters.icmp_errors), (1, 0));
    // Unless a rule says that this client talks to the server itself.
    let mut room = [Weighted { target: Target::Same, weight: 1 }];
    let exception = Divert::parse("1.2.3.0/24 tcp from 123.45.67.89 to same keep-source", &mut room).unwrap();
    router.translator.divert(exception).unwrap();
    assert_eq!(route(&mut router, &reply(16)).len(), 1);
    // The client begins anew: then the connection is known.
    let mut syn = tcp(CLIENT, ORIGINAL, &[]);
    syn[33] = 2;
    assert_eq!(route(&mut router, &syn).len(), 1);
    let [answer] = &route(&mut router, &reply(18))[..] else { panic!() };
    assert_eq!(answer[12..16], ORIGINAL);
    assert_eq!(router.counters.strays_dropped, 1);
}

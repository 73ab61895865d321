//! The whole router, seen from its wires.

mod any_frame;

use core::net::Ipv4Addr;

use byway::Redivert;
use byway::control::{Client, Incoming, Instruction, Request};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet,
    Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use crate::{Instant, MAX_FRAME, Reason, Router, SocketMemory, Wires, lab};

const ROUTER_MACS: [EthernetAddress; 2] = [EthernetAddress([2, 0, 0, 0, 1, 1]), EthernetAddress([2, 0, 0, 0, 1, 2])];
const CLIENT_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 2, 1]);
const SERVER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 2, 2]);
const ROUTER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1)];
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 20);
const SERVER_MTU: usize = 1400;

/// Two wires that remember what was sent on them.
#[derive(Default)]
struct Sent {
    frames: Vec<(usize, Vec<u8>)>,
    full: bool,
}

impl Wires for Sent {
    fn send(&mut self, wire: usize, frame: &[u8]) -> bool {
        assert!(frame.len() <= MAX_FRAME);
        if !self.full {
            self.frames.push((wire, frame.to_vec()));
        }
        !self.full
    }
}

struct Bench {
    router: Router<lab::Tables, lab::NameTables>,
    wires: Sent,
    now: Instant,
    stick: bool,
}

impl Bench {
    fn new() -> Self {
        Self::on(false)
    }

    fn on(stick: bool) -> Self {
        let now = Instant::from_secs(1);
        let feet = [0, 1].map(|index| if stick { 0 } else { index }).map(|wire| (wire, ROUTER_MACS[wire]));
        let (translator, control) = (lab::translator([7; 32], lab::Tables::new()), lab::control([8; 32]));
        let names = lab::names([7; 32], &translator, lab::NameTables::new());
        let memory = Box::leak(Box::new(SocketMemory::new()));
        let router = Router::new(now, lab::config(feet, [1; 8]), translator, names, control, memory);
        Self { router, wires: Sent::default(), now, stick }
    }

    /// Both hosts have spoken to the router.
    fn acquainted(mut self) -> Self {
        let client = self.request(0, CLIENT_MAC, CLIENT, ROUTER[0]);
        let server = self.request(1, SERVER_MAC, SERVER, ROUTER[1]);
        assert_eq!((client.len(), server.len()), (1, 1));
        self
    }

    fn receive(&mut self, side: usize, frame: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let wire = if self.stick { 0 } else { side };
        self.router.receive(self.now, wire, &mut frame.to_vec(), &mut self.wires);
        core::mem::take(&mut self.wires.frames)
    }

    fn poll(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.router.poll(self.now, &mut self.wires);
        core::mem::take(&mut self.wires.frames)
    }

    fn request(&mut self, side: usize, mac: EthernetAddress, from: Ipv4Addr, whom: Ipv4Addr) -> Vec<(usize, Vec<u8>)> {
        self.receive(side, &arp(ArpOperation::Request, mac, from, EthernetAddress::BROADCAST, whom))
    }

    fn ip(&mut self, side: usize, packet: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mac = if side == 0 { CLIENT_MAC } else { SERVER_MAC };
        let to = ROUTER_MACS[if self.stick { 0 } else { side }];
        self.receive(side, &frame(mac, to, packet))
    }

    fn dropped(&self, reason: Reason) -> u32 {
        self.router.counters().dropped(reason)
    }
}

fn frame(from: EthernetAddress, to: EthernetAddress, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14 + packet.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr { src_addr: from, dst_addr: to, ethertype: EthernetProtocol::Ipv4 }.emit(&mut frame);
    bytes[14..].copy_from_slice(packet);
    bytes
}

fn arp(operation: ArpOperation, mac: EthernetAddress, from: Ipv4Addr, to: EthernetAddress, whom: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; 14 + 28];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr { src_addr: mac, dst_addr: to, ethertype: EthernetProtocol::Arp }.emit(&mut frame);
    ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: mac,
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: whom,
    }
    .emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: IpProtocol, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let repr =
        Ipv4Repr { src_addr: from, dst_addr: to, next_header: protocol, payload_len: payload.len(), hop_limit: ttl };
    let mut bytes = vec![0; 20 + payload.len()];
    repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &ChecksumCapabilities::default());
    bytes[20..].copy_from_slice(payload);
    bytes
}

fn echo_request(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, data: &[u8]) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data };
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut message), &ChecksumCapabilities::default());
    ipv4(from, to, IpProtocol::Icmp, ttl, &message)
}

/// A UDP packet of this many bytes in all; its payload counts up, so that misplaced pieces show.
fn udp(from: Ipv4Addr, to: Ipv4Addr, len: usize, dont_fragment: bool) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..len - 20).map(|index| (index / 7) as u8).collect();
    payload[..8].copy_from_slice(&[0x10, 0, 0x20, 0, ((len - 20) >> 8) as u8, (len - 20) as u8, 0, 0]);
    let mut bytes = ipv4(from, to, IpProtocol::Udp, 64, &payload);
    set_fragment(&mut bytes, dont_fragment, 0x1234);
    bytes
}

fn set_fragment(bytes: &mut [u8], dont_fragment: bool, ident: u16) {
    let mut packet = Ipv4Packet::new_unchecked(bytes);
    packet.set_ident(ident);
    packet.set_dont_frag(dont_fragment);
    packet.fill_checksum();
}

/// The IP packet in a frame that is checked to be from the router's side to that host.
fn packet_to(sent: &(usize, Vec<u8>), side: usize) -> Ipv4Packet<&[u8]> {
    let (wire, bytes) = sent;
    assert_eq!(*wire, side);
    let frame = EthernetFrame::new_checked(&bytes[..]).expect("a frame");
    assert_eq!(frame.src_addr(), ROUTER_MACS[side]);
    assert_eq!(frame.dst_addr(), if side == 0 { CLIENT_MAC } else { SERVER_MAC });
    let packet = Ipv4Packet::new_checked(&bytes[14..]).expect("a packet");
    assert!(packet.verify_checksum());
    packet
}

/// Type and code of an ICMP message, and the packet that it quotes. (smoltcp reads no quote that is cut short.)
fn icmp<'a>(packet: &Ipv4Packet<&'a [u8]>) -> (u8, u8, &'a [u8]) {
    let message = Icmpv4Packet::new_checked(packet.payload()).expect("a message");
    assert!(message.verify_checksum());
    (message.msg_type().into(), message.msg_code(), &packet.payload()[8..])
}

#[test]
fn a_packet_is_forwarded_with_one_less_to_live() {
    let mut bench = Bench::new().acquainted();
    let original = udp(CLIENT, SERVER, 100, false);
    let sent = bench.ip(0, &original);
    assert_eq!(sent.len(), 1);
    let packet = packet_to(&sent[0], 1);
    assert_eq!(packet.hop_limit(), 63);
    let mut expected = Ipv4Packet::new_unchecked(original);
    expected.set_hop_limit(63);
    expected.fill_checksum();
    assert_eq!(packet.into_inner(), &expected.into_inner()[..]);
    assert_eq!(packet_to(&bench.ip(1, &udp(SERVER, CLIENT, 60, true))[0], 0).src_addr(), SERVER);
    assert_eq!(bench.router.counters().forwarded, 2);
}

#[test]
fn on_a_stick_both_subnets_share_the_wire() {
    let mut bench = Bench::on(true).acquainted();
    let sent = bench.ip(0, &udp(CLIENT, SERVER, 100, false));
    assert_eq!(sent.len(), 1);
    let (wire, bytes) = &sent[0];
    assert_eq!((*wire, &bytes[..6], &bytes[6..12]), (0, &SERVER_MAC.0[..], &ROUTER_MACS[0].0[..]));
}

#[test]
fn the_ttl_keeps_its_checksum_right_from_every_value() {
    let mut bench = Bench::new().acquainted();
    for ident in [0, 0xffff, 0x1234, 0xfeff, 0xfefe] {
        for ttl in 2..=255 {
            let mut bytes = ipv4(CLIENT, SERVER, IpProtocol::Udp, ttl, &[0; 8]);
            set_fragment(&mut bytes, false, ident);
            assert_eq!(packet_to(&bench.ip(0, &bytes)[0], 1).hop_limit(), ttl - 1);
        }
    }
}

#[test]
fn the_last_hop_is_told_with_the_routers_own_address() {
    for ttl in [0, 1] {
        let mut bench = Bench::new().acquainted();
        let original = echo_request(CLIENT, SERVER, ttl, b"trace");
        let sent = bench.ip(0, &original);
        assert_eq!(sent.len(), 1);
        let packet = packet_to(&sent[0], 0);
        assert_eq!((packet.src_addr(), packet.dst_addr()), (ROUTER[0], CLIENT));
        assert_eq!(icmp(&packet), (11, 0, &original[..28]));
        assert_eq!(bench.dropped(Reason::Ttl), 1);
    }
}

#[test]
fn no_error_about_an_error_or_a_later_fragment() {
    let mut bench = Bench::new().acquainted();
    let mut unreachable = echo_request(CLIENT, SERVER, 1, b"trace");
    unreachable[20] = 3;
    assert!(bench.ip(0, &unreachable).is_empty());
    let mut later = ipv4(CLIENT, SERVER, IpProtocol::Udp, 1, &[0; 64]);
    let mut packet = Ipv4Packet::new_unchecked(&mut later[..]);
    packet.set_frag_offset(64);
    packet.fill_checksum();
    assert!(bench.ip(0, &later).is_empty());
    assert_eq!(bench.dropped(Reason::Ttl), 2);
}

#[test]
fn errors_are_limited_and_the_limit_recovers() {
    let mut bench = Bench::new().acquainted();
    let dying = echo_request(CLIENT, SERVER, 1, b"trace");
    let answered = (0..200).filter(|_| !bench.ip(0, &dying).is_empty()).count();
    assert_eq!(answered, 50);
    assert_eq!(bench.dropped(Reason::IcmpLimited), 150);
    bench.now += crate::Duration::from_millis(105);
    let answered = (0..200).filter(|_| !bench.ip(0, &dying).is_empty()).count();
    assert_eq!(answered, 10);
}

#[test]
fn it_answers_to_both_of_its_addresses_from_both_sides() {
    let mut bench = Bench::new().acquainted();
    for (side, host) in [(0, CLIENT), (1, SERVER)] {
        for own in ROUTER {
            let sent = bench.ip(side, &echo_request(host, own, 1, b"hello"));
            assert_eq!(sent.len(), 1);
            let packet = packet_to(&sent[0], side);
            assert_eq!((packet.src_addr(), packet.dst_addr()), (own, host));
            assert_eq!(icmp(&packet), (0, 0, &b"hello"[..]));
        }
    }
}

#[test]
fn a_next_hop_is_asked_for_and_gets_the_packet() {
    let mut bench = Bench::new();
    let sent = bench.ip(0, &udp(CLIENT, SERVER, 100, false));
    assert_eq!(sent.len(), 1);
    let (wire, bytes) = &sent[0];
    assert_eq!((*wire, &bytes[..6]), (1, &[0xff; 6][..]));
    let asked = ArpRepr::parse(&ArpPacket::new_checked(&bytes[14..]).expect("ARP")).expect("ARP");
    let ArpRepr::EthernetIpv4 { operation, source_protocol_addr, target_protocol_addr, .. } = asked else { panic!() };
    assert_eq!((operation, source_protocol_addr, target_protocol_addr), (ArpOperation::Request, ROUTER[1], SERVER));
    let answer = arp(ArpOperation::Reply, SERVER_MAC, SERVER, ROUTER_MACS[1], ROUTER[1]);
    // From the other wire it is not believed.
    assert!(bench.receive(0, &answer).is_empty());
    let sent = bench.receive(1, &answer);
    assert_eq!(sent.len(), 1);
    assert_eq!(packet_to(&sent[0], 1).hop_limit(), 63);
}

#[test]
fn a_next_hop_that_is_silent_is_reported() {
    let mut bench = Bench::new().acquainted();
    let nobody = Ipv4Addr::new(10, 2, 0, 99);
    let original = udp(CLIENT, nobody, 100, false);
    assert_eq!(bench.ip(0, &original).len(), 1);
    for _ in 0..2 {
        bench.now = bench.router.poll_at().expect("a question is open");
        assert_eq!(bench.poll()[0].1[12..14], [8, 6]);
    }
    bench.now = bench.router.poll_at().expect("a question is open");
    let sent = bench.poll();
    let packet = packet_to(&sent[0], 0);
    assert_eq!(icmp(&packet), (3, 1, &original[..28]));
    assert_eq!(bench.router.poll_at(), None);
}

#[test]
fn what_must_not_be_fragmented_is_reported_with_the_mtu() {
    let mut bench = Bench::new().acquainted();
    let original = udp(CLIENT, SERVER, SERVER_MTU + 1, true);
    let sent = bench.ip(0, &original);
    assert_eq!(sent.len(), 1);
    let packet = packet_to(&sent[0], 0);
    assert_eq!(icmp(&packet), (3, 4, &original[..28]));
    assert_eq!(packet.payload()[6..8], (SERVER_MTU as u16).to_be_bytes());
    assert_eq!(packet_to(&bench.ip(0, &udp(CLIENT, SERVER, SERVER_MTU, true))[0], 1).total_len(), SERVER_MTU as u16);
}

#[test]
fn the_rest_is_fragmented() {
    let mut bench = Bench::new().acquainted();
    let original = udp(CLIENT, SERVER, 1500, false);
    let sent = bench.ip(0, &original);
    assert_eq!(sent.len(), 2);
    let mut data = vec![0; 1480];
    for (index, sent) in sent.iter().enumerate() {
        let packet = packet_to(sent, 1);
        assert!(usize::from(packet.total_len()) <= SERVER_MTU);
        assert_eq!((packet.ident(), packet.more_frags()), (0x1234, index == 0));
        let offset = usize::from(packet.frag_offset());
        data[offset..][..packet.payload().len()].copy_from_slice(packet.payload());
    }
    assert_eq!(data, original[20..]);
}

#[test]
fn a_fragment_of_a_fragment_keeps_its_place() {
    let mut bench = Bench::new().acquainted();
    let mut middle = udp(CLIENT, SERVER, 1500, false);
    let mut packet = Ipv4Packet::new_unchecked(&mut middle[..]);
    packet.set_frag_offset(2960);
    packet.set_more_frags(true);
    packet.fill_checksum();
    let sent = bench.ip(0, &middle);
    let places: Vec<_> =
        sent.iter().map(|sent| packet_to(sent, 1)).map(|p| (p.frag_offset(), p.more_frags())).collect();
    assert_eq!(places, [(2960, true), (2960 + 1376, true)]);
}

#[test]
fn what_is_in_no_subnet_has_no_route() {
    let mut bench = Bench::new().acquainted();
    let original = udp(CLIENT, Ipv4Addr::new(192, 0, 2, 1), 100, false);
    let sent = bench.ip(0, &original);
    let packet = packet_to(&sent[0], 0);
    assert_eq!(icmp(&packet), (3, 0, &original[..28]));
}

#[test]
fn martians_and_broadcasts_stay_where_they_are() {
    let mut bench = Bench::new().acquainted();
    let sources =
        ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1", "10.1.0.1", "10.2.0.1", "10.1.0.255"];
    for source in sources.map(|text| text.parse().expect("an address")) {
        assert!(bench.ip(0, &udp(source, SERVER, 100, false)).is_empty());
    }
    assert_eq!(bench.dropped(Reason::MartianSource), sources.len() as u32);
    let destinations = ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "10.2.0.255", "10.2.0.0", "240.0.0.1"];
    for destination in destinations.map(|text| text.parse().expect("an address")) {
        assert!(bench.ip(0, &udp(CLIENT, destination, 100, false)).is_empty());
    }
    assert_eq!(bench.dropped(Reason::MartianDestination), destinations.len() as u32);
}

#[test]
fn somebody_who_claims_our_address_is_noticed_and_not_believed() {
    let mut bench = Bench::new().acquainted();
    assert!(bench.request(0, CLIENT_MAC, ROUTER[0], CLIENT).is_empty());
    assert_eq!(bench.dropped(Reason::ArpConflict), 1);
    // A probe from somebody who has no address yet is answered (RFC 5227).
    assert_eq!(bench.request(0, CLIENT_MAC, Ipv4Addr::UNSPECIFIED, ROUTER[0]).len(), 1);
}

#[test]
fn a_full_queue_is_counted() {
    let mut bench = Bench::new().acquainted();
    bench.wires.full = true;
    assert!(bench.ip(0, &udp(CLIENT, SERVER, 100, false)).is_empty());
    assert_eq!(bench.dropped(Reason::QueueFull), 1);
}

/// What the client asks for, and where it is sent instead.
const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);

#[test]
fn a_diverted_packet_is_routed_by_its_new_destination_and_its_answer_comes_back_restored() {
    let mut bench = Bench::new().acquainted();
    let sent = bench.ip(0, &udp(CLIENT, ORIGINAL, 100, false));
    let there = packet_to(&sent[0], 1);
    assert_eq!((there.src_addr(), there.dst_addr(), there.hop_limit()), (ROUTER[1], SERVER, 63));
    let mut answer = udp(SERVER, ROUTER[1], 100, false);
    let ports = [&there.payload()[2..4], &there.payload()[..2]].concat();
    answer[20..24].copy_from_slice(&ports);
    let sent = bench.ip(1, &answer);
    let back = packet_to(&sent[0], 0);
    assert_eq!((back.src_addr(), back.dst_addr(), back.hop_limit()), (ORIGINAL, CLIENT, 63));
    assert_eq!(back.payload()[..4], [0x20, 0, 0x10, 0]);
    assert_eq!(bench.router.counters().translated, 2);

    // On its last hop, and quoted to the server as the server sent it.
    let mut last = Ipv4Packet::new_unchecked(answer);
    last.set_hop_limit(1);
    last.fill_checksum();
    let last = last.into_inner();
    let sent = bench.ip(1, &last);
    let error = packet_to(&sent[0], 1);
    assert_eq!((error.dst_addr(), icmp(&error)), (SERVER, (11, 0, &last[..28])));
    assert_eq!(bench.dropped(Reason::Translator), 0);
}

#[test]
fn an_error_about_a_diverted_packet_quotes_it_as_the_client_sent_it() {
    let mut bench = Bench::new().acquainted();
    let original = udp(CLIENT, ORIGINAL, SERVER_MTU + 1, true);
    let sent = bench.ip(0, &original);
    let error = packet_to(&sent[0], 0);
    assert_eq!((error.src_addr(), icmp(&error)), (ROUTER[0], (3, 4, &original[..28])));
}

#[test]
fn what_nobody_waits_for_is_dropped_by_the_translator() {
    let mut bench = Bench::new().acquainted();
    assert!(bench.ip(1, &udp(SERVER, ROUTER[1], 100, false)).is_empty());
    assert_eq!(bench.dropped(Reason::Translator), 1);
    assert!(bench.router.watchdog().to_string().ends_with(" dropped: byway.no_connection=1"));
}

#[test]
fn an_instruction_moves_the_traffic_and_one_with_the_wrong_key_is_not_answered() {
    let other = Ipv4Addr::new(10, 2, 0, 30);
    for (secret, obeyed) in [(*b"of this lab only, not of any use", true), ([0; 32], false)] {
        let mut bench = Bench::new().acquainted();
        let instruction = Instruction::Redivert { from: SERVER.into(), to: other.into(), how: Redivert::Switch };
        let mut monitor = Client::new(byway::Instant::ZERO, 1, secret, [3; 16]);
        let mut answered = false;
        while let Ok(Some(said)) = monitor.poll_transmit(byway::Instant::ZERO) {
            let ports = [[0x10, 0], 213_u16.to_be_bytes(), (8 + said.len() as u16).to_be_bytes(), [0; 2]].concat();
            let datagram = ipv4(CLIENT, ROUTER[0], IpProtocol::Udp, 64, &[&ports, said].concat());
            let sent = bench.ip(0, &datagram);
            let Some(sent) = sent.first() else { break };
            let packet = packet_to(sent, 0);
            assert_eq!((packet.src_addr(), packet.dst_addr()), (ROUTER[0], CLIENT));
            match monitor.handle(byway::Instant::ZERO, &packet.payload()[8..]).expect("an answer") {
                Incoming::Opened(_) => {
                    monitor.send(byway::Instant::ZERO, &Request::one(instruction)).expect("the session is open");
                }
                Incoming::Answer(answer) => answered = answer.refused().is_none(),
                _ => {}
            }
        }
        assert_eq!(answered, obeyed);
        let moved = bench
            .router
            .translator()
            .diverts()
            .flat_map(|rule| rule.servers())
            .all(|(server, _)| server.target == other.into());
        assert_eq!(moved, obeyed);
    }
}

#[test]
fn the_watchdog_line_names_only_what_was_met() {
    let mut bench = Bench::new();
    bench.receive(0, &[1, 2, 3]);
    let line = bench.router.counters().to_string();
    assert_eq!(line, "received=1 sent=0 forwarded=0 translated=0 local=0 named=0 icmp_errors=0 dropped: frame=1");
}

/// A query for a name, in a packet to a server.
fn dns(name: &[u8], protocol: IpProtocol) -> Vec<u8> {
    let message = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], name, &[0, 1, 0, 1]].concat();
    let mut datagram = vec![0x9c, 0x40, 0, 53, 0, 0, 0, 0];
    datagram[4..6].copy_from_slice(&(8 + message.len() as u16).to_be_bytes());
    datagram.extend(message);
    ipv4(CLIENT, SERVER, protocol, 64, &datagram)
}

/// Figure 5 in an image: a name of the table is answered as if by the server, another one goes there as it came.
#[test]
fn names_are_answered() {
    let mut bench = Bench::new().acquainted();
    let [(0, answer)] = &bench.ip(0, &dns(b"\x03wWw\x02bt\x03com\0", IpProtocol::Udp))[..] else {
        panic!("one frame to the client")
    };
    let packet = Ipv4Packet::new_checked(&answer[14..]).unwrap();
    assert_eq!((packet.src_addr(), packet.dst_addr()), (SERVER, CLIENT));
    assert_eq!(answer[answer.len() - 4..], [100, 100, 100, 100]);
    let other = dns(b"\x03www\x03com\0", IpProtocol::Udp);
    let [(1, forwarded)] = &bench.ip(0, &other)[..] else { panic!("one frame to the server") };
    assert_eq!(forwarded[14 + 20..], other[20..]);
    // Over TCP nothing gets there, whatever it asks for.
    let [(0, refusal)] = &bench.ip(0, &dns(b"\x03www\x03com\0", IpProtocol::Tcp))[..] else { panic!("an ICMP error") };
    assert_eq!(refusal[14 + 20..14 + 22], [3, 13]);
    assert_eq!((bench.router.counters().named, bench.dropped(Reason::DnsOverTcp)), (1, 1));
}

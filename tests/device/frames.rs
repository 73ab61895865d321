//! The smoltcp device: what passes through it is translated, both ways, on both media.

use std::collections::VecDeque;

use byway::device::TranslatingDevice;
use byway::{Config, Divert, DropReason, Fixed, Redivert, Translator};
use byway_testing::*;
use smoltcp::iface::{Config as Settings, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::socket::{tcp as tcp_socket, udp as udp_socket};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

const CLIENT: &str = "1.2.3.4:3456";
const ORIGINAL: &str = "100.100.100.100:80";
const ALTERNATIVE: &str = "10.10.10.10:513";
const SERVER: &str = "123.45.67.89:80";
const OTHER: &str = "123.45.67.90:80";

/// A device that a test can look into.
#[derive(Debug)]
struct Wire {
    medium: Medium,
    mtu: usize,
    checksum: ChecksumCapabilities,
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    /// The last frame's.
    sent_meta: PacketMeta,
    /// Whether it takes frames to send.
    room: bool,
}

impl Wire {
    fn new(medium: Medium) -> Self {
        let mtu = if medium == Medium::Ethernet { 1514 } else { 1500 };
        let checksum = ChecksumCapabilities::default();
        let (received, sent, sent_meta) = (VecDeque::new(), Vec::new(), PacketMeta::default());
        Self { medium, mtu, checksum, received, sent, sent_meta, room: true }
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }

    fn meta(&self) -> PacketMeta {
        meta(7)
    }
}

fn meta(id: u32) -> PacketMeta {
    let mut meta = PacketMeta::default();
    meta.id = id;
    meta
}

struct Leave<'a>(&'a mut Wire);

impl TxToken for Leave<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0xee; length];
        let result = f(&mut frame);
        self.0.sent.push(frame);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.0.sent_meta = meta;
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Leave<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.max_burst_size = Some(3);
        capabilities.checksum = self.checksum.clone();
        capabilities
    }

    fn receive(&mut self, _: Instant) -> Option<(Received, Leave<'_>)> {
        let frame = self.received.pop_front().filter(|_| self.room)?;
        Some((Received(frame), Leave(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leave<'_>> {
        self.room.then_some(Leave(self))
    }
}

type Tested = TranslatingDevice<Wire, Fixed<16, 4>, Vec<u8>>;

fn device(wire: Wire, config: Config) -> Tested {
    let mut translator = Translator::new(config, Fixed::<16, 4>::new()).unwrap();
    translator.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    TranslatingDevice::new(wire, translator, [vec![0; 1514], vec![0; 1514]])
}

fn figure_3() -> Config {
    Config::new([7; 32]).alternative(ip("10.10.10.10"), 513..=513)
}

const STACK: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn ethernet(source: [u8; 6], destination: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes(), payload].concat()
}

/// The frame that the stack sends, or that comes for it, around an IPv4 packet.
fn out(medium: Medium, packet: &[u8]) -> Vec<u8> {
    if medium == Medium::Ip { packet.to_vec() } else { ethernet(STACK, ROUTER, 0x0800, packet) }
}

fn back_in(medium: Medium, packet: &[u8]) -> Vec<u8> {
    if medium == Medium::Ip { packet.to_vec() } else { ethernet(ROUTER, STACK, 0x0800, packet) }
}

/// Sends a frame as a stack does; returns what went out.
fn send(device: &mut Tested, frame: &[u8]) -> Option<Vec<u8>> {
    let token = device.transmit(Instant::ZERO).unwrap();
    let result = token.consume(frame.len(), |buffer| {
        buffer.copy_from_slice(frame);
        "result"
    });
    assert_eq!(result, "result");
    let mut sent = core::mem::take(&mut device.inner_mut().sent);
    assert!(sent.len() < 2);
    sent.pop()
}

/// Lets a frame come; returns what the stack gets.
fn receive(device: &mut Tested, frame: &[u8]) -> Vec<u8> {
    device.inner_mut().received.push_back(frame.to_vec());
    next(device).unwrap()
}

fn next(device: &mut Tested) -> Option<Vec<u8>> {
    device.receive(Instant::ZERO).map(|(token, _)| token.consume(<[u8]>::to_vec))
}

#[test]
fn figure_3_on_both_media() {
    for medium in [Medium::Ethernet, Medium::Ip] {
        let mut device = device(Wire::new(medium), figure_3());
        // A short frame on Ethernet is padded to 60 bytes.
        let padding = [0xa5; 14];
        let pad = |frame: Vec<u8>| [&frame[..], &padding].concat();
        let there = pad(out(medium, &udp(at(CLIENT), at(ORIGINAL), b"?")));
        let sent = send(&mut device, &there);
        assert_eq!(sent, Some(pad(out(medium, &udp(at(ALTERNATIVE), at(SERVER), b"?")))), "{medium:?}");
        let reply = pad(back_in(medium, &udp(at(SERVER), at(ALTERNATIVE), b"!")));
        let received = receive(&mut device, &reply);
        assert_eq!(received, pad(back_in(medium, &udp(at(ORIGINAL), at(CLIENT), b"!"))), "{medium:?}");
        let counters = device.translator().counters();
        assert_eq!((counters.to_server, counters.to_client, counters.passed), (1, 1, 0));
    }
}

/// A reply that smoltcp writes while it reads the received frame goes the same way.
#[test]
fn the_token_that_comes_with_a_frame_translates_too() {
    let mut device = device(Wire::new(Medium::Ip), figure_3());
    let other = udp(at("9.9.9.9:9"), at(CLIENT), b"other");
    device.inner_mut().received.push_back(other.clone());
    let question = udp(at(CLIENT), at(ORIGINAL), b"?");
    let (received, mut token) = device.receive(Instant::ZERO).unwrap();
    assert_eq!(received.meta(), meta(7));
    token.set_meta(meta(8));
    received.consume(|frame| {
        assert_eq!(frame, other);
        token.consume(question.len(), |buffer| buffer.copy_from_slice(&question));
        assert_eq!(frame, other);
    });
    assert_eq!(device.inner().sent, [udp(at(ALTERNATIVE), at(SERVER), b"?")]);
    assert_eq!(device.inner().sent_meta, meta(8));
}

#[test]
fn what_is_no_ipv4_is_not_touched() {
    let diverted = udp(at(CLIENT), at(ORIGINAL), b"?");
    let tagged = [&[0, 7, 8, 0], &diverted[..]].concat();
    let mut sixth = diverted.clone();
    sixth[0] = 0x65;
    let mut frames = vec![
        (Medium::Ethernet, ethernet(STACK, ROUTER, 0x0806, &[1; 28])),
        (Medium::Ethernet, ethernet(STACK, ROUTER, 0x86dd, &diverted)),
        (Medium::Ethernet, ethernet(STACK, ROUTER, 0x8100, &tagged)),
        (Medium::Ip, sixth),
        (Medium::Ip, out(Medium::Ip, &udp(at(CLIENT), at("100.100.100.100:81"), b"other port"))),
        (Medium::Ethernet, out(Medium::Ethernet, &udp(at(CLIENT), at("100.100.100.101:80"), b"other host"))),
    ];
    frames.extend((0..14).map(|length| (Medium::Ethernet, vec![8; length])));
    frames.push((Medium::Ip, Vec::new()));
    for (medium, frame) in frames {
        let mut device = device(Wire::new(medium), figure_3());
        assert_eq!(send(&mut device, &frame).as_ref(), Some(&frame));
        assert_eq!(receive(&mut device, &frame), frame);
        let counters = device.translator().counters();
        assert_eq!((counters.to_server, counters.dropped_in_all()), (0, 0));
    }
}

#[test]
fn what_is_to_be_dropped_is_not_sent_and_comes_as_an_empty_frame() {
    for medium in [Medium::Ethernet, Medium::Ip] {
        let mut device = device(Wire::new(medium), figure_3());
        assert_eq!(send(&mut device, &out(medium, &udp(at("10.10.10.10:9"), at(ORIGINAL), b"spoofed"))), None);
        assert_eq!(receive(&mut device, &back_in(medium, &udp(at(SERVER), at(ALTERNATIVE), b"late"))), []);
        // Cut short within the IPv4 header.
        assert_eq!(send(&mut device, &out(medium, &[0x45; 19])), None);
        assert_eq!(receive(&mut device, &back_in(medium, &[0x45; 19])), []);
        let mut later = udp(at(CLIENT), at(ORIGINAL), &[0; 64]);
        later[6..8].copy_from_slice(&[0, 9]);
        fill_header_checksum(&mut later);
        assert_eq!(send(&mut device, &out(medium, &later)), None);
        assert_eq!(receive(&mut device, &back_in(medium, &later)), []);
        let counters = device.translator().counters();
        assert_eq!(counters.dropped(DropReason::OwnSource), 1);
        assert_eq!(counters.dropped(DropReason::NoConnection), 1);
        assert_eq!(counters.dropped(DropReason::MalformedIpv4), 2);
        assert_eq!((counters.held, counters.dropped_in_all()), (2, 4));
        // Nothing of that has made a lasting impression.
        assert!(send(&mut device, &out(medium, &udp(at(CLIENT), at(ORIGINAL), b"?"))).is_some());
    }
}

fn fill_header_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let checksum = !sum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn what_the_translator_has_to_say_reaches_both_ends() {
    for medium in [Medium::Ethernet, Medium::Ip] {
        let mut device = device(Wire::new(medium), figure_3());
        let handshake = [
            (true, tcp(at(CLIENT), at(ORIGINAL), (SYN, 100, 0), b"")),
            (false, tcp(at(SERVER), at(ALTERNATIVE), (SYN | ACK, 500, 101), b"")),
            (true, tcp(at(CLIENT), at(ORIGINAL), (ACK, 101, 501), b"")),
        ];
        for (there, packet) in handshake {
            if there {
                assert!(send(&mut device, &out(medium, &packet)).is_some());
            } else {
                assert_ne!(receive(&mut device, &back_in(medium, &packet)), []);
            }
        }
        // The stack talks to a neighbour too; the way to the server stays the router's.
        let neighbour = [2, 0, 0, 0, 0, 3];
        let aside = udp(at(CLIENT), at("1.2.3.5:9"), b"neighbour");
        if medium == Medium::Ethernet {
            assert!(send(&mut device, &ethernet(STACK, neighbour, 0x0800, &aside)).is_some());
        }
        device.translator_mut().redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
        assert!(device.poll_at().is_some_and(|at| at <= Instant::ZERO));

        // As long as the wrapped device has no room, nothing is lost.
        device.inner_mut().room = false;
        assert_eq!(next(&mut device), None);
        assert_eq!(next(&mut device), None);
        assert!(device.poll_at().is_some_and(|at| at <= Instant::ZERO));
        device.inner_mut().room = true;

        let to_client = next(&mut device).unwrap();
        let expected = rst(tcp(at(ORIGINAL), at(CLIENT), (RST | ACK, 501, 101), b""));
        match medium {
            Medium::Ethernet => assert_eq!(to_client, ethernet(neighbour, STACK, 0x0800, &expected)),
            Medium::Ip => assert_eq!(to_client, expected),
        }
        assert_eq!(next(&mut device), None);
        let expected = rst(tcp(at(ALTERNATIVE), at(SERVER), (RST | ACK, 101, 501), b""));
        assert_eq!(device.inner().sent, [out(medium, &expected)], "{medium:?}");
        assert_eq!(device.translator().counters().transmitted, 2);
    }
}

/// What the translator's RSTs have otherwise than our segments: no identification, no window.
fn rst(mut packet: Vec<u8>) -> Vec<u8> {
    packet[4..6].fill(0);
    packet[34..36].fill(0);
    fill_checksums(&mut packet);
    packet
}

#[test]
fn a_client_whose_connection_is_refused_is_told() {
    for medium in [Medium::Ethernet, Medium::Ip] {
        let mut device = device(Wire::new(medium), figure_3().client_limit(1));
        assert!(send(&mut device, &out(medium, &udp(at(CLIENT), at(ORIGINAL), b"1"))).is_some());
        let refused = udp(at("1.2.3.4:3457"), at(ORIGINAL), b"2");
        assert_eq!(send(&mut device, &out(medium, &refused)), None);
        device.inner_mut().room = false;
        assert_eq!(next(&mut device), None);
        assert!(device.poll_at().is_some_and(|at| at <= Instant::ZERO), "it waits in the device");
        device.inner_mut().room = true;
        let told = next(&mut device).unwrap();
        let packet = &told[told.len() - 56..];
        assert_eq!(told, back_in(medium, packet));
        assert_eq!((packet[9], packet[20], packet[21], address(packet, 16)), (1, 3, 13, ip("1.2.3.4")));
        assert_eq!(checksums(packet), BOTH);
        assert_eq!(packet[28..], refused[..28]);
    }
}

#[test]
fn frames_that_do_not_fit() {
    let mut wire = Wire::new(Medium::Ip);
    wire.mtu = 9000;
    let mut device = device(wire, figure_3());
    assert_eq!(device.capabilities().max_transmission_unit, 1514);
    let long = udp(at(CLIENT), at(ORIGINAL), &[7; 2000]);
    let translated = udp(at(ALTERNATIVE), at(SERVER), &[7; 2000]);
    assert_eq!(send(&mut device, &long), Some(translated));
    let spoofed = udp(at("10.10.10.10:9"), at(ORIGINAL), &[7; 2000]);
    assert_eq!(send(&mut device, &spoofed), Some(vec![0; spoofed.len()]));
    assert_eq!(receive(&mut device, &udp(at(SERVER), at(ALTERNATIVE), &[7; 2000])), []);
    assert_eq!(device.oversized(), 1);

    let translator = Translator::new(figure_3(), Fixed::<16, 4>::new()).unwrap();
    let tiny = TranslatingDevice::new(Wire::new(Medium::Ip), translator, [vec![], vec![]]);
    assert_eq!(tiny.capabilities().max_transmission_unit, 590);
}

#[test]
fn capabilities_are_those_of_the_wrapped_device() {
    let mut wire = Wire::new(Medium::Ethernet);
    wire.checksum = ChecksumCapabilities::ignored();
    wire.checksum.tcp = Checksum::Rx;
    let mut device = device(wire, figure_3());
    let capabilities = device.capabilities();
    assert_eq!((capabilities.medium, capabilities.max_transmission_unit), (Medium::Ethernet, 1514));
    assert_eq!(capabilities.max_burst_size, Some(3));
    let checksum = capabilities.checksum;
    assert!(!checksum.ipv4.rx() && !checksum.udp.tx() && checksum.tcp.rx() && !checksum.tcp.tx());
    // The translator looks into ICMP errors, and would drop what has no checksum.
    assert!(!checksum.icmpv4.rx() && checksum.icmpv4.tx());
    device.inner_mut().checksum.icmpv4 = Checksum::Rx;
    assert!(device.capabilities().checksum.icmpv4.rx() && device.capabilities().checksum.icmpv4.tx());
}

/// Polling the interface is enough to have dead connections closed, and `poll_at` says when.
#[test]
fn time_does_its_work() {
    let mut device = device(Wire::new(Medium::Ip), figure_3());
    assert_eq!(device.poll_at(), None);
    assert!(send(&mut device, &udp(at(CLIENT), at(ORIGINAL), b"?")).is_some());
    let mut now = Instant::ZERO;
    for _ in 0..100 {
        let Some(next) = device.poll_at().filter(|next| *next > now) else {
            break;
        };
        now = next;
        assert!(device.receive(now).is_none());
    }
    assert_eq!((device.translator().counters().expired, device.translator().connections().count()), (1, 0));
    assert!((300..=750).contains(&now.secs()), "closed or released at {now}");
}

#[test]
fn a_time_before_zero_is_zero() {
    let mut device = device(Wire::new(Medium::Ip), figure_3());
    for micros in [i64::MIN, -1, i64::MAX] {
        assert!(device.receive(Instant::from_micros(micros)).is_none());
        assert!(device.transmit(Instant::from_micros(micros)).is_some());
    }
}

/// A host: a stack and what it is plugged into.
struct Host<D> {
    device: D,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl<D: Device> Host<D> {
    fn new(mut device: D, link: [u8; 6], addresses: &[(&str, u8)], gateway: &str) -> Self {
        let mut interface = Interface::new(settings(link), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for (address, length) in addresses {
                list.push(IpCidr::new(IpAddress::Ipv4(ip(address)), *length)).unwrap();
            }
        });
        interface.routes_mut().add_default_ipv4_route(ip(gateway)).unwrap();
        Self { device, interface, sockets: SocketSet::new(Vec::new()) }
    }

    fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp_socket::SocketBuffer::new(vec![0; 4096]);
        self.sockets.add(tcp_socket::Socket::new(buffer(), buffer()))
    }
}

fn settings(link: [u8; 6]) -> Settings {
    Settings::new(HardwareAddress::Ethernet(EthernetAddress(link)))
}

/// Lets two hosts talk for a while, link addresses and all.
fn talk(now: &mut Instant, client: &mut Host<Tested>, server: &mut Host<Wire>) {
    for _ in 0..40 {
        client.interface.poll(*now, &mut client.device, &mut client.sockets);
        server.device.received.extend(client.device.inner_mut().sent.drain(..));
        server.interface.poll(*now, &mut server.device, &mut server.sockets);
        client.device.inner_mut().received.extend(server.device.sent.drain(..));
        *now += Duration::from_millis(1);
    }
}

/// The client's stack on Ethernet, and one machine that is its router and both servers.
fn network() -> (Host<Tested>, Host<Wire>) {
    let device = device(Wire::new(Medium::Ethernet), figure_3());
    let client = Host::new(device, STACK, &[("1.2.3.4", 24), ("10.10.10.10", 24)], "1.2.3.1");
    let addresses = [("1.2.3.1", 24), ("10.10.10.1", 24), ("123.45.67.89", 24), ("123.45.67.90", 24)];
    let server = Host::new(Wire::new(Medium::Ethernet), ROUTER, &addresses, "10.10.10.10");
    (client, server)
}

#[test]
fn two_stacks_talk_over_tcp_until_a_redivert_resets_both() {
    let (mut client, mut server) = network();
    let mut now = Instant::ZERO;
    let (c, s) = (client.tcp(), server.tcp());
    server.sockets.get_mut::<tcp_socket::Socket<'_>>(s).listen(80).unwrap();
    let socket = client.sockets.get_mut::<tcp_socket::Socket<'_>>(c);
    socket.connect(client.interface.context(), (ip("100.100.100.100"), 80), 3456).unwrap();
    talk(&mut now, &mut client, &mut server);

    client.sockets.get_mut::<tcp_socket::Socket<'_>>(c).send_slice(b"question").unwrap();
    talk(&mut now, &mut client, &mut server);
    let socket = server.sockets.get_mut::<tcp_socket::Socket<'_>>(s);
    let mut buffer = [0; 16];
    assert_eq!(socket.recv_slice(&mut buffer), Ok(8));
    assert_eq!(&buffer[..8], b"question");
    let seen = (socket.local_endpoint().unwrap(), socket.remote_endpoint().unwrap());
    assert_eq!(seen, (at(SERVER).into(), at(ALTERNATIVE).into()));
    socket.send_slice(b"answer").unwrap();
    talk(&mut now, &mut client, &mut server);
    let socket = client.sockets.get_mut::<tcp_socket::Socket<'_>>(c);
    assert_eq!(socket.recv_slice(&mut buffer), Ok(6));
    assert_eq!(&buffer[..6], b"answer");

    client.device.translator_mut().redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    talk(&mut now, &mut client, &mut server);
    assert_eq!(client.sockets.get::<tcp_socket::Socket<'_>>(c).state(), tcp_socket::State::Closed);
    // A listening socket that is reset listens no more.
    assert_eq!(server.sockets.get::<tcp_socket::Socket<'_>>(s).state(), tcp_socket::State::Closed);
}

#[test]
fn two_stacks_talk_over_udp_and_a_redivert_moves_them() {
    let (mut client, mut server) = network();
    let mut now = Instant::ZERO;
    let socket = || {
        let buffer = || udp_socket::PacketBuffer::new(vec![udp_socket::PacketMetadata::EMPTY; 4], vec![0; 4096]);
        udp_socket::Socket::new(buffer(), buffer())
    };
    let (c, s) = (client.sockets.add(socket()), server.sockets.add(socket()));
    client.sockets.get_mut::<udp_socket::Socket<'_>>(c).bind(3456).unwrap();
    server.sockets.get_mut::<udp_socket::Socket<'_>>(s).bind(80).unwrap();
    for target in [SERVER, OTHER] {
        let socket = client.sockets.get_mut::<udp_socket::Socket<'_>>(c);
        socket.send_slice(b"?", (ip("100.100.100.100"), 80)).unwrap();
        talk(&mut now, &mut client, &mut server);
        let socket = server.sockets.get_mut::<udp_socket::Socket<'_>>(s);
        let (data, from) = socket.recv().map(|(data, meta)| (data.to_vec(), meta)).unwrap();
        assert_eq!((&data[..], from.endpoint), (&b"?"[..], at(ALTERNATIVE).into()));
        assert_eq!(from.local_address, Some(IpAddress::Ipv4(*at(target).ip())));
        socket.send_slice(b"!", from).unwrap();
        talk(&mut now, &mut client, &mut server);
        let socket = client.sockets.get_mut::<udp_socket::Socket<'_>>(c);
        let (data, from) = socket.recv().unwrap();
        assert_eq!((data, from.endpoint), (&b"!"[..], at(ORIGINAL).into()));
        if target == SERVER {
            client.device.translator_mut().redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
        }
    }
    assert_eq!(client.device.translator().counters().moved, 1);
}

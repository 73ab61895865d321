//! The same packets through byway and through nftables (`dnat` and `snat`): what comes out is compared field by field, and
//! every difference is in a list that says why.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::network::{Options, World, in_namespace};
use byway_host::lab::network::{A, ALTERNATIVE, CLIENT, ORIGINAL};
use byway_host::lab::space::Space;
use byway_host::packet::{self, ICMP, TCP, UDP};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, eth, ipproto, recv, sendto};

/// A packet from the client's port 40 000 + its number, which is its identification as well.
struct Sent {
    name: &'static str,
    packet: Vec<u8>,
    /// Whether it comes out of byway, and of nftables; and why not of both, or of neither.
    comes_out: (bool, bool),
    why: &'static str,
}

fn ipv4(number: u16, protocol: u8, tos: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, tos, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend([CLIENT.octets(), ORIGINAL.octets()].concat());
    packet.extend_from_slice(options);
    packet.extend_from_slice(payload);
    let length = packet.len() as u16;
    packet::put(&mut packet, 2, length);
    packet::put(&mut packet, 4, 1000 + number);
    packet::seal(&mut packet);
    packet
}

/// Completes the checksum that lies so many bytes behind the IPv4 header.
fn sealed(mut packet: Vec<u8>, at: usize) -> Vec<u8> {
    let header = packet::header_length(&packet);
    let length = packet.len() - header;
    packet::put(&mut packet, header + at, 0);
    let pseudo = if packet[9] == ICMP { 0 } else { packet::pseudo_sum(&packet, length) };
    let sum = packet::add_sums(pseudo, packet::sum(&packet[header..]));
    packet::put(&mut packet, header + at, !sum);
    packet
}

fn udp(number: u16, port: u16, tos: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len()) as u16;
    let datagram = [&[40_000 + number, port, length, 0].map(u16::to_be_bytes).concat()[..], data].concat();
    sealed(ipv4(number, UDP, tos, options, &datagram), 6)
}

fn tcp(number: u16, flags: u16, options: &[u8], data: &[u8]) -> Vec<u8> {
    let offset = ((20 + options.len()) as u16 / 4) << 12;
    let head = [40_000 + number, 80, 7, 77, 0, if flags & 0x10 == 0 { 0 } else { 99 }, offset | flags, 512, 0, 0];
    let segment = [&head.map(u16::to_be_bytes).concat()[..], options, data].concat();
    sealed(ipv4(number, TCP, 0, &[], &segment), 16)
}

fn packets() -> Vec<Sent> {
    const BOTH: (bool, bool) = (true, true);
    let mut all: Vec<Sent> = Vec::new();
    let mut add = |name, comes_out, why, make: &dyn Fn(u16) -> Vec<u8>| {
        let packet = make(all.len() as u16);
        all.push(Sent { name, packet, comes_out, why });
    };
    add("UDP", BOTH, "", &|n| udp(n, 53, 0, &[], b"a question"));
    add("UDP, odd length", BOTH, "", &|n| udp(n, 53, 0, &[], b"a questio"));
    add("UDP, no data", BOTH, "", &|n| udp(n, 53, 0, &[], b""));
    add("UDP, DSCP and ECN", BOTH, "", &|n| udp(n, 53, 0xb9, &[], b"a question"));
    add("UDP, IPv4 options", BOTH, "", &|n| udp(n, 53, 0, &[1, 1, 1, 0], b"a question"));
    add("UDP to a closed port", BOTH, "", &|n| udp(n, 9, 0, &[], b"is anybody there?"));
    add("UDP without a checksum", BOTH, "", &|n| {
        let mut packet = udp(n, 53, 0, &[], b"a question");
        packet::put(&mut packet, 26, 0);
        packet
    });
    let wrong = "conntrack does not track what has a wrong checksum, and so it leaves untranslated; byway translates it, \
                 wrong as it is, for its receiver to drop";
    add("UDP with a wrong checksum", (true, false), wrong, &|n| {
        let mut packet = udp(n, 53, 0, &[], b"a question");
        packet[26] ^= 1;
        packet
    });
    add("ICMP echo", BOTH, "", &|n| sealed(ipv4(n, ICMP, 0, &[], &[8, 0, 0, 0, 9, n as u8, 0, 1, 1, 2, 3]), 2));
    let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
    add("TCP SYN with options", BOTH, "", &|n| tcp(n, 2, &options, &[]));
    add("TCP SYN, no options", BOTH, "", &|n| tcp(n, 2, &[], &[]));
    add("TCP SYN, ECN", BOTH, "", &|n| tcp(n, 0xc2, &[], &[]));
    let midstream = "conntrack takes up what it finds in the middle (nf_conntrack_tcp_loose); a rule of byway that leads \
                     elsewhere does not, unless it says midstream = \"adopt\", and the client is told";
    add("TCP from the middle", (false, true), midstream, &|n| tcp(n, 0x18, &[], b"data"));
    add("TCP RST of nothing", (false, false), "neither knows of a connection", &|n| tcp(n, 4, &[], &[]));
    all
}

/// Everything that a machine gets, as long as somebody listens.
fn record(space: &Space) -> Receiver<Vec<u8>> {
    let socket = space.run(|| {
        rustix::net::socket(AddressFamily::PACKET, SocketType::DGRAM, Some(eth::ALL)).expect("root may capture")
    });
    let (found, packets) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, _)) = recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            if buffer[0] >> 4 == 4 && found.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    packets
}

/// What the mirror got, and what the client got back.
type Passed = (Option<Vec<u8>>, Vec<Vec<u8>>);

/// Sends all of them; returns what the mirror got of each, and what the client got back.
fn pass(world: &World, sent: &[Sent]) -> Vec<Passed> {
    let (there, back) = (record(&world.network.a), record(&world.network.client));
    let packets: Vec<_> = sent.iter().map(|sent| sent.packet.clone()).collect();
    world.network.client.run(move || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap();
        for packet in packets {
            sendto(&socket, &packet, SendFlags::empty(), &SocketAddrV4::new(ORIGINAL, 0)).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    let all_there: Vec<_> = there.try_iter().collect();
    let all_back: Vec<_> = back.try_iter().filter(|packet| packet::destination(packet) == CLIENT).collect();
    let one = |(number, sent): (usize, &Sent)| {
        let is_it =
            |packet: &&Vec<u8>| packet::word(packet, 4) == 1000 + number as u16 && packet::destination(packet) == A;
        let answers = |packet: &&Vec<u8>| {
            let header = packet::header_length(packet);
            match (packet[9], sent.packet[9]) {
                (ICMP, ICMP) => packet[header + 4..header + 8] == sent.packet[24..28],
                // What an error quotes.
                (ICMP, _) => packet.len() > header + 14 && packet::word(packet, header + 12) == 1000 + number as u16,
                (protocol, own) => protocol == own && packet::word(packet, header + 2) == 40_000 + number as u16,
            }
        };
        (all_there.iter().find(is_it).cloned(), all_back.iter().filter(answers).cloned().collect())
    };
    sent.iter().enumerate().map(one).collect()
}

/// What must be equal: all but the TTL, since byway and the kernel behind it are routers too, the alternative port, and what
/// hangs on those. The checksum must be as right or wrong as it was.
fn normal(packet: &[u8]) -> (Vec<u8>, Option<bool>) {
    let (mut packet, header) = (packet.to_vec(), packet::header_length(packet));
    assert!(packet::check(&packet).is_ok(), "{packet:02x?}");
    let payload = &packet[header..];
    let (at, sum) = match packet[9] {
        TCP => (16, packet::add_sums(packet::pseudo_sum(&packet, payload.len()), packet::sum(payload))),
        UDP => (6, packet::add_sums(packet::pseudo_sum(&packet, payload.len()), packet::sum(payload))),
        _ => (2, packet::sum(payload)),
    };
    let is_right = (packet::word(payload, at) != 0 || packet[9] != UDP).then_some(sum == 0xffff);
    let is_error = packet[9] == ICMP && matches!(payload[0], 3 | 11);
    let own = (packet::source(&packet), if packet[9] == ICMP { 4 } else { 0 });
    for (at, length) in [(8, 1), (10, 2), (header + at, 2)] {
        packet[at..at + length].fill(0);
    }
    if own.0 == ALTERNATIVE {
        packet[header + own.1..header + own.1 + 2].fill(0);
    }
    if own.0 != ALTERNATIVE {
        // Answers have identifications of the mirror's choice, and TCP numbers as well.
        packet[4..6].fill(0);
        if packet[9] == TCP {
            packet[header + 4..header + 8].fill(0);
        }
    }
    if is_error {
        // The quoted packet has a TTL too; the checksum in it hangs on the alternative port that it had.
        for (at, length) in [(8, 1), (10, 2)] {
            packet[header + 8 + at..header + 8 + at + length].fill(0);
        }
    }
    (packet, is_right)
}

#[test]
fn what_comes_out_is_what_nftables_makes_of_it() {
    in_namespace(|| {
        let mut world = World::new(Options::PLAIN);
        crate::network::run(&world.network.a, "ethtool -K eth0 tx off tso off gso off");
        crate::network::run(&world.network.proxy, "ethtool -K to-a tx off tso off gso off");
        // They begin at another number for each connection.
        world.network.a.set(&[("tcp_timestamps", "0")]).unwrap();
        let _listener = world.network.a.run(|| TcpListener::bind((A, 80)).unwrap());
        world.network.a.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
            std::thread::spawn(move || {
                let mut question = [0; 100];
                while let Ok((length, from)) = socket.recv_from(&mut question) {
                    let _ = socket.send_to(&question[..length], from);
                }
            });
        });
        let sent = packets();
        let byway = pass(&world, &sent);
        world.proxy.take().unwrap().stop().unwrap();
        crate::network::run(&world.network.proxy, "ip rule del priority 7207");
        let rules = format!(
            "table ip t {{\n chain pre {{ type nat hook prerouting priority -100; ip daddr {ORIGINAL} dnat to {A}; }}\n\
             chain post {{ type nat hook postrouting priority 100; ip daddr {A} snat to {ALTERNATIVE}; }}\n}}\n"
        );
        world.network.proxy.run(move || {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables");
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success());
        });
        let linux = pass(&world, &sent);
        for ((sent, ours), theirs) in sent.iter().zip(&byway).zip(&linux) {
            let (name, why) = (sent.name, sent.why);
            assert_eq!((ours.0.is_some(), theirs.0.is_some()), sent.comes_out, "{name}: {why}");
            if let (Some(ours), Some(theirs)) = (&ours.0, &theirs.0) {
                assert_eq!(normal(ours), normal(theirs), "{name}, towards the mirror");
            }
            if sent.comes_out == (true, true) {
                let [ours, theirs] = [&ours.1, &theirs.1].map(|all| all.iter().map(|p| normal(p)).collect::<Vec<_>>());
                assert!(!ours.is_empty(), "{name}: it has an answer");
                assert_eq!(ours.first(), theirs.first(), "{name}, towards the client");
            }
        }
    });
}

//! Valid captures that the `replay` example has to read to their end, and count right. Fault classes: interfaces of
//! different kinds in one file (the-tcpdump-group/libpcap#1259 and #1252, Rup0rt/pcapfix#23; test006, 100 to 102, 201 and 202
//! of hadrielk/pcapng-test-generator are such files); a total length of zero, where the network card cuts large segments
//! (appneta/tcpreplay#730, the-tcpdump-group/tcpdump#1085, zeek/zeek#1831); a checksum that is written 0xFFFF, which is as
//! right as 0x0000; old Packet Blocks; and link layers that common machines write.

mod programs;

use std::path::Path;
use std::process::Command;

fn replay(name: &str, file: &[u8]) -> (String, Option<i32>) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, file).unwrap();
    let arguments = "--alternative 10.10.10.10:1024-65535 --divert-all 198.18.0.9 --json".split(' ');
    let output = Command::new(programs::built("replay")).arg(&path).args(arguments).output().unwrap();
    (String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(), output.status.code())
}

fn sum(parts: &[&[u8]]) -> u16 {
    let all = parts.concat();
    let words = all.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

const CLIENT: [u8; 4] = [192, 0, 2, 10];
const SERVER: [u8; 4] = [198, 51, 100, 20];

fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, protocol, 0, 0];
    p.extend([from, to].concat());
    p.extend(payload);
    let total = p.len() as u16;
    p[2..4].copy_from_slice(&total.to_be_bytes());
    let field = 20 + if protocol == 6 { 16 } else { 6 };
    let pseudo = [&from[..], &to, &[0, protocol], &(payload.len() as u16).to_be_bytes()].concat();
    let transport = !sum(&[&pseudo, &p[20..]]);
    p[field..field + 2].copy_from_slice(&transport.to_be_bytes());
    let header = !sum(&[&p[..20]]);
    p[10..12].copy_from_slice(&header.to_be_bytes());
    p
}

fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16), data: &[u8]) -> Vec<u8> {
    let length = 8 + data.len() as u16;
    let head = [from.1, to.1, length, 0].map(u16::to_be_bytes).concat();
    ipv4(17, from.0, to.0, &[&head, data].concat())
}

fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8, numbers: [u32; 2], data: &[u8]) -> Vec<u8> {
    let mut head = [from.1, to.1].map(u16::to_be_bytes).concat();
    head.extend(numbers.map(u32::to_be_bytes).concat());
    head.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    ipv4(6, from.0, to.0, &[&head, data].concat())
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, &body, &length].concat()
}

fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat())
}

fn interface(link: u16) -> Vec<u8> {
    block(1, &[&link.to_le_bytes()[..], &[0, 0], &262_144_u32.to_le_bytes()].concat())
}

fn packet(interface: u32, microseconds: u32, frame: &[u8]) -> Vec<u8> {
    let length = frame.len() as u32;
    block(6, &[&[interface, 0, microseconds, length, length].map(u32::to_le_bytes).concat(), frame].concat())
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&[2; 6][..], &[4; 6], &[8, 0], packet].concat()
}

fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link].map(u32::to_le_bytes).concat();
    for (n, frame) in frames.iter().enumerate() {
        let length = frame.len() as u32;
        file.extend([1_700_000_000, n as u32, length, length].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    file
}

/// macOS's `tcpdump -i any`: Ethernet beside the loopback (link type 0); a vehicle's: Ethernet beside CAN (227).
#[test]
fn an_interface_of_another_kind_does_not_end_the_replay() {
    let ask = ethernet(&udp((CLIENT, 1000), (SERVER, 53), b"query"));
    let answer = ethernet(&udp((SERVER, 53), (CLIENT, 1000), b"reply"));
    let loopback = [&[2, 0, 0, 0], &udp(([127, 0, 0, 1], 5), ([127, 0, 0, 1], 6), b"x")[..]].concat();
    for (link, other) in [(0, loopback), (227, vec![0, 0, 1, 0x23, 4, 0, 0, 0, 1, 2, 3, 4])] {
        let file =
            [section(), interface(1), interface(link), packet(0, 1, &ask), packet(1, 2, &other), packet(0, 3, &answer)];
        let (said, code) = replay(&format!("mixed-{link}.pcapng"), &file.concat());
        for part in ["\"packets\":3", "\"to_server\":1", "\"to_client\":1", "\"exact\":1"] {
            assert!(said.contains(part), "link type {link}: no {part} in {said}");
        }
        assert_eq!(code, Some(0), "{said}");
    }
}

/// The length of the frame counts where the header says zero.
#[test]
fn a_total_length_of_zero_is_a_large_segment() {
    let (c, v) = ((CLIENT, 1000), (SERVER, 80));
    let mut large = tcp(v, c, 0x10, [901, 104], &[7; 2_896]);
    large[2..4].fill(0);
    let frames = [
        tcp(c, v, 2, [100, 0], b""),
        tcp(v, c, 0x12, [900, 101], b""),
        tcp(c, v, 0x10, [101, 901], b"GET"),
        large,
        tcp(c, v, 0x10, [104, 3_797], b""),
    ];
    let (said, code) = replay("tso.pcap", &pcap(1, &frames.map(|f| ethernet(&f))));
    assert!(said.contains("\"to_client\":2") && said.contains("\"dropped\":{}"), "{said}");
    assert_eq!(code, Some(0));
}

/// A checksum may be written 0xFFFF in place of 0x0000; what comes back is right either way.
#[test]
fn a_checksum_of_all_ones_makes_no_difference() {
    let (c, v) = ((CLIENT, 1000), (SERVER, 80));
    let zero = (0..=u16::MAX).map(|w| tcp(v, c, 0x12, [900, 101], &w.to_be_bytes())).find(|p| p[36..38] == [0, 0]);
    let mut ones = zero.unwrap();
    ones[36..38].fill(0xff);
    let (said, code) = replay("ones.pcap", &pcap(101, &[tcp(c, v, 2, [100, 0], b""), ones]));
    assert!(said.contains("\"differed\":0"), "{said}");
    assert_eq!(code, Some(0));
}

/// pcapng's old Packet Block, in either byte order (secdev/scapy test/pcaps/pfcp.pcap is big-endian and has 200 of them), is
/// not taken for a block that nobody needs.
#[test]
fn old_packet_blocks_are_not_passed_over() {
    let ask = udp((CLIENT, 1000), (SERVER, 53), b"query");
    for big in [false, true] {
        let word = |w: u32| if big { w.to_be_bytes() } else { w.to_le_bytes() };
        let half = |h: u16| if big { h.to_be_bytes() } else { h.to_le_bytes() };
        let block = |kind: u32, body: Vec<u8>| {
            let mut body = body;
            body.resize(body.len().next_multiple_of(4), 0);
            let length = word(body.len() as u32 + 12);
            [&word(kind)[..], &length, &body, &length].concat()
        };
        let length = ask.len() as u32;
        let head = [half(0), half(0)].concat();
        let rest = [0, 1, length, length].map(word).concat();
        let file = [
            block(0x0a0d_0d0a, [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat()),
            block(1, [&half(101)[..], &half(0), &word(262_144)].concat()),
            block(2, [&head[..], &rest, &ask].concat()),
        ];
        let (said, code) = replay(&format!("old-{big}.pcapng"), &file.concat());
        assert!(code == Some(0) && said.contains("\"packets\":1,"), "big-endian {big}: {said}");
    }
}

/// One question and its answer, as each link layer carries them.
#[test]
fn link_layers_of_common_machines_are_read() {
    let (ask, answer) = (udp((CLIENT, 1000), (SERVER, 53), b"query"), udp((SERVER, 53), (CLIENT, 1000), b"reply"));
    let tagged = |tags: &[u8]| [&[2; 6][..], &[4; 6], tags, &[8, 0]].concat();
    for (name, link, header) in [
        ("ethernet", 1, tagged(&[])),
        ("802.1Q", 1, tagged(&[0x81, 0, 0, 7])),
        ("802.1ad", 1, tagged(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8])),
        ("raw 12", 12, vec![]),
        ("raw 14", 14, vec![]),
        ("raw 101", 101, vec![]),
        ("ipv4", 228, vec![]),
        ("cooked", 113, [&[0; 14][..], &[8, 0]].concat()),
        ("cooked 2", 276, [&[8, 0][..], &[0; 18]].concat()),
        ("null, little-endian", 0, vec![2, 0, 0, 0]),
        ("null, big-endian", 0, vec![0, 0, 0, 2]),
        ("loop", 108, vec![0, 0, 0, 2]),
        ("ppp", 9, vec![0xff, 3, 0, 0x21]),
        ("ppp without address", 9, vec![0, 0x21]),
        ("ppp hdlc", 50, vec![0xff, 3, 0, 0x21]),
        ("cisco hdlc", 104, vec![0x0f, 0, 8, 0]),
        ("fire wire", 138, [&[9; 16][..], &[8, 0]].concat()),
    ] {
        let frames = [&ask, &answer].map(|packet| [&header[..], packet].concat());
        let (said, code) = replay(&format!("link-{link}.pcap"), &pcap(link, &frames));
        assert!(said.contains("\"to_server\":1,\"to_client\":1") && said.contains("\"exact\":1"), "{name}: {said}");
        assert_eq!(code, Some(0), "{name}");
    }
}

/// The kinds that are not read are counted by their numbers; a file that has nothing else is refused, after it was read.
#[test]
fn other_links_are_counted_by_their_number() {
    let ask = udp((CLIENT, 1000), (SERVER, 53), b"query");
    let blocks =
        [section(), interface(227), interface(101), interface(195), packet(0, 1, b"can"), packet(2, 2, b"mesh")];
    let mut file = [blocks.concat(), packet(0, 3, b"can")].concat();
    let (said, code) = replay("only-others.pcapng", &file);
    assert!(said.contains("\"not_ipv4\":3") && said.contains("\"other_links\":{\"195\":1,\"227\":2}"), "{said}");
    assert!(said.contains("packet 1: link type 227"), "{said}");
    assert_eq!(code, Some(1));
    file.extend(packet(1, 4, &ask));
    let (said, code) = replay("also-others.pcapng", &file);
    assert!(said.contains("\"packets\":4,\"not_ipv4\":3") && said.contains("\"to_server\":1"), "{said}");
    assert!(said.contains("\"other_links\":{\"195\":1,\"227\":2}"), "{said}");
    assert_eq!(code, Some(0), "{said}");
}

/// Large datagrams too, and a large segment that was cut when it was captured.
#[test]
fn a_total_length_of_zero_in_datagrams_and_in_cut_frames() {
    let (c, v) = ((CLIENT, 1000), (SERVER, 53));
    let [mut ask, mut answer] = [udp(c, v, &[1; 3_000]), udp(v, c, &[2; 9_000])];
    ask[2..4].fill(0);
    answer[2..4].fill(0);
    let mut file = pcap(101, &[ask, answer.clone()]);
    let head = [1_700_000_000, 9, 60, 9_028].map(u32::to_le_bytes).concat();
    file.extend([&head[..], &answer[..60]].concat());
    let (said, code) = replay("large-datagrams.pcap", &file);
    for part in ["\"packets\":3", "\"truncated\":1", "\"to_server\":1,\"to_client\":1", "\"exact\":1"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert_eq!(code, Some(0), "{said}");
}

/// All ones where zero was meant: in the header, in TCP, in an ICMP error, and in what it quotes. In UDP it is a number of its
/// own, since zero says there that nothing was computed.
#[test]
fn a_checksum_of_all_ones_in_every_protocol() {
    let (c, v) = ((CLIENT, 1000), (SERVER, 80));
    let find = |field: usize, make: &dyn Fn(u16) -> Vec<u8>| {
        let mut packet =
            (0..=u16::MAX).map(make).find(|p| matches!(p[field..field + 2], [0, 0] | [0xff, 0xff])).unwrap();
        packet[field..field + 2].fill(0xff);
        packet
    };
    let with_identification = |mut packet: Vec<u8>, identification: u16| {
        packet[4..6].copy_from_slice(&identification.to_be_bytes());
        packet[10..12].fill(0);
        let header = !sum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&header.to_be_bytes());
        packet
    };
    let syn = tcp(c, v, 2, [100, 0], b"");
    let ask = udp((CLIENT, 1000), (SERVER, 53), b"query");
    let error = |quote: &[u8], w: u16| {
        let mut message = [&[3, 1, 0, 0][..], &w.to_be_bytes(), &[0, 0], quote].concat();
        let checksum = !sum(&[&message]);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut packet = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 1, 0, 0];
        packet.extend([SERVER, CLIENT].concat());
        packet.extend(message);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        with_identification(packet, 7)
    };
    let ones_in_header = find(10, &|w| with_identification(syn.clone(), w));
    let ones_in_tcp = find(36, &|w| tcp(c, v, 2, [100, 0], &w.to_be_bytes()));
    for (name, question, answer) in [
        ("header", &syn, find(10, &|w| with_identification(tcp(v, c, 0x12, [900, 101], b""), w))),
        ("tcp", &syn, find(36, &|w| tcp(v, c, 0x12, [900, 101], &w.to_be_bytes()))),
        ("udp", &ask, find(26, &|w| udp((SERVER, 53), (CLIENT, 1000), &w.to_be_bytes()))),
        ("icmp error", &syn, find(22, &|w| error(&syn, w))),
        ("quoted header", &ones_in_header, error(&ones_in_header, 0)),
        ("quoted tcp", &ones_in_tcp, error(&ones_in_tcp, 0)),
    ] {
        let (said, code) = replay(&format!("ones-{name}.pcap"), &pcap(101, &[question.clone(), answer]));
        assert!(said.contains("\"exact\":1,\"differed\":0"), "{name}: {said}");
        assert_eq!(code, Some(0), "{name}");
    }
}

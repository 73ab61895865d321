//! The `replay` example as its users run it: every capture in `tests/captures` comes back byte for byte, and captures
//! that are cut, shuffled or damaged are reported as what they are.

mod files;

use core::fmt::Write as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const CAPTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/captures");
const ALTERNATIVE: &str = "--alternative 10.10.10.10:1024-65535";
const CLIENT: [u8; 4] = [1, 2, 3, 4];
const SERVER: [u8; 4] = [100, 100, 100, 100];

/// A capture, what is diverted, and what must become of it. That nothing is passed or dropped and that every round trip
/// is exact holds for all of them.
struct Case {
    file: &'static str,
    arguments: &'static str,
    packets: u32,
    not_ipv4: u32,
    /// What the client sends: all of it is to a server that is diverted.
    to_server: u32,
    /// What the servers and the routers send to the client: each of these is a round trip.
    to_client: u32,
    connections: u32,
}

/// The numbers were counted by tshark 4.0.17, in which `all_captures_are_as_tshark_counts_them` counts them again:
/// packets that are not IPv4, packets from 1.2.3.4, and packets to it, of which the ICMP errors are, in this order,
/// 0, 1, 3, 44, 16, 0, 0, 0 and six in each of the mixtures. Connections are its TCP streams, its UDP streams and the
/// different identifiers of echo requests.
const CASES: [Case; 15] = [
    case("http.pcap", HTTP, [151, 4, 71, 76, 9]),
    case(
        "dns.pcap",
        "--divert 100.100.100.100:53=123.45.67.89 --divert 100.100.100.100:54=5.5.5.5:5454",
        [45, 4, 22, 19, 10],
    ),
    case("ping.pcap", "--divert 100.100.100.0/24=123.45.67.89", [71, 9, 31, 31, 13]),
    case("traceroute.pcap", HOST, [151, 3, 80, 68, 51]),
    case("pmtu.pcap", HOST, [125, 4, 68, 53, 13]),
    case("iperf-udp-fragments.pcap", "--divert 100.100.100.0/24:5201=123.45.67.89:5202", [263, 13, 125, 125, 4]),
    case("iperf-tcp.pcap", "--divert 100.100.100.100:5201=123.45.67.89", [596, 6, 291, 299, 4]),
    case("tftp.pcap", "--divert 100.100.100.100:69=123.45.67.89 --replies-from-any-port", [104, 2, 52, 50, 6]),
    case("linux-cooked.pcap", HOST, [36, 4, 17, 15, 9]),
    case("linux-cooked.pcapng", HOST, [36, 4, 17, 15, 9]),
    case("linux-cooked-v1.pcap", HOST, [36, 4, 17, 15, 9]),
    case("vlan.pcap", HOST, [35, 3, 17, 15, 9]),
    case("vlan-qinq.pcap", HOST, [35, 3, 17, 15, 9]),
    case("raw-ip.pcap", HOST, [32, 0, 17, 15, 9]),
    case("raw-ip.pcapng", "--divert-all 123.45.67.89", [32, 0, 17, 15, 9]),
];

const HOST: &str = "--divert 100.100.100.100=123.45.67.89";
const HTTP: &str = "--divert 100.100.100.100:80=123.45.67.89:8080 --divert 100.100.100.100:81=123.45.67.89";

const fn case(file: &'static str, arguments: &'static str, counts: [u32; 5]) -> Case {
    let [packets, not_ipv4, to_server, to_client, connections] = counts;
    Case { file, arguments, packets, not_ipv4, to_server, to_client, connections }
}

impl Case {
    fn summary(&self) -> String {
        let Self { packets, not_ipv4, to_server, to_client, connections, .. } = self;
        summary(&[
            ("packets", *packets),
            ("not_ipv4", *not_ipv4),
            ("to_server", *to_server),
            ("to_client", *to_client),
            ("exact", *to_client),
            ("connections", *connections),
        ])
    }
}

/// The JSON object with these numbers; what is not named is zero.
fn summary(numbers: &[(&str, u32)]) -> String {
    let n = |name: &str| numbers.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| *value);
    let mut text = String::from("{");
    for name in ["packets", "not_ipv4", "truncated", "to_server", "to_client", "passed"] {
        write!(text, "\"{name}\":{},", n(name)).unwrap();
    }
    write!(text, "\"dropped\":{{}},\"held\":{},", n("held")).unwrap();
    write!(text, "\"round_trips\":{{\"exact\":{},\"differed\":0,\"passed\":0,\"dropped\":{{}}}},", n("exact")).unwrap();
    writeln!(text, "\"connections\":{}}}", n("connections")).unwrap();
    text
}

/// Runs the example as cargo has built it.
fn replay(arguments: &[&str]) -> Output {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--package", "byway-examples", "--example", "replay", "--message-format", "json"]);
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
        let text = String::from_utf8(output.stdout).expect("cargo prints text");
        let (_, rest) = text.rsplit_once("\"executable\":\"").expect("cargo has built it");
        PathBuf::from(rest.split_once('"').expect("the name ends").0)
    });
    Command::new(program).args(arguments).output().expect("the example runs")
}

/// Replays a file and returns the summary in JSON.
#[track_caller]
fn json(input: &Path, output: Option<&Path>, arguments: &str) -> String {
    let files = [Some(input), output].into_iter().flatten().map(|path| path.to_str().unwrap());
    let all: Vec<&str> = files.chain([ALTERNATIVE, arguments, "--json"].iter().flat_map(|a| a.split(' '))).collect();
    let result = replay(&all);
    assert_eq!(String::from_utf8_lossy(&result.stderr), "", "{all:?}");
    assert!(result.status.success(), "{all:?}: {}", result.status);
    String::from_utf8(result.stdout).unwrap()
}

fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn every_capture_comes_back_byte_for_byte() {
    for case in &CASES {
        let output = temporary(&format!("out-{}", case.file));
        let summary = json(&Path::new(CAPTURES).join(case.file), Some(&output), case.arguments);
        assert_eq!(summary, case.summary(), "{}", case.file);

        let sent = Pcap::read(&output);
        assert_eq!(sent.records.len() as u32, case.to_server + case.to_client, "{}", case.file);
        for packet in &sent.records {
            let (source, destination) = (&packet.data[12..16], &packet.data[16..20]);
            let to_server = source == [10, 10, 10, 10] && destination[0] != 100;
            assert!(to_server || destination == CLIENT, "{}: {source:?} to {destination:?}", case.file);
        }
    }
}

#[test]
fn no_capture_is_forgotten() {
    let files = fs::read_dir(CAPTURES).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|name| name.contains(".pcap")).collect();
    files.sort();
    let mut named = CASES.map(|case| case.file);
    named.sort_unstable();
    assert_eq!(files, named);
}

/// The restored packets in the output are those of the capture, in its order and with its times; compared here without
/// any of the example's code.
#[test]
fn the_output_holds_what_the_client_saw() {
    let input = Path::new(CAPTURES).join("raw-ip.pcap");
    let output = temporary("what-the-client-saw.pcap");
    json(&input, Some(&output), HOST);
    let (captured, sent) = (Pcap::read(&input), Pcap::read(&output));
    assert_eq!((sent.magic, sent.link), (0xa1b2_3c4d, 101));
    assert_eq!(sent.records.len(), captured.records.len());
    for (captured, sent) in captured.records.iter().zip(&sent.records) {
        assert_eq!(captured.time, sent.time);
        if captured.data[16..20] == CLIENT {
            assert_eq!(captured.data, sent.data);
        } else {
            assert_eq!(sent.data[12..20], [10, 10, 10, 10, 123, 45, 67, 89]);
            assert_eq!(captured.data.len(), sent.data.len());
        }
    }
}

#[test]
fn all_captures_are_as_tshark_counts_them() {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("SKIPPED: tshark is not installed");
        return;
    }
    for case in &CASES {
        let input = Path::new(CAPTURES).join(case.file);
        // Of each field the first: an ICMP error has those of the packet that it quotes as well.
        let fields = ["ip.src", "ip.dst", "ip.proto", "tcp.stream", "udp.stream", "icmp.type", "icmp.ident"];
        let packets = tshark(&input, "f", &fields);
        let count = |field: usize, value| packets.iter().filter(|fields| fields[field] == value).count() as u32;
        assert_eq!(packets.len() as u32, case.packets, "{}", case.file);
        assert_eq!(count(0, ""), case.not_ipv4, "{}", case.file);
        assert_eq!(count(0, "1.2.3.4"), case.to_server, "{}", case.file);
        assert_eq!(count(1, "1.2.3.4"), case.to_client, "{}", case.file);
        let connection = |fields: &[String; 7]| {
            let value = |i: usize| fields[i].clone();
            match fields[2].as_str() {
                "6" => Some((value(3), String::new())).filter(|(stream, _)| !stream.is_empty()),
                "17" => Some((String::new(), value(4))).filter(|(_, stream)| !stream.is_empty()),
                _ => Some((value(1), value(6))).filter(|_| fields[5] == "8"),
            }
        };
        let connections: BTreeSet<_> = packets.iter().filter_map(connection).collect();
        assert_eq!(connections.len() as u32, case.connections, "{}", case.file);

        let output = temporary(&format!("tshark-{}", case.file));
        json(&input, Some(&output), case.arguments);
        let fields = ["ip", "udp", "icmp", "tcp"].map(|protocol| format!("{protocol}.checksum.status"));
        let [ip, udp, icmp, tcp] = fields.each_ref().map(String::as_str);
        let sent = tshark(&output, "a", &[ip, udp, icmp, tcp, "icmp.type"]);
        assert_eq!(sent.len() as u32, case.to_server + case.to_client, "{}", case.file);
        for packet in &sent {
            let [ip, udp, icmp, tcp, kind] = packet.each_ref();
            assert!(ip.starts_with(GOOD), "{}: {packet:?}", case.file);
            // Of a TCP segment that an ICMP error quotes most is missing, and tshark calls its checksum wrong.
            let tcp = if kind.is_empty() { tcp } else { "" };
            assert!(![ip, udp, icmp, tcp].iter().any(|all| all.contains(BAD)), "{}: {packet:?}", case.file);
        }
    }
}

/// What tshark says of a checksum.
const BAD: char = '0';
const GOOD: char = '1';

/// The first (`f`) or all (`a`) occurrences of these fields in each packet of a file.
fn tshark<const N: usize>(file: &Path, occurrence: &str, fields: &[&str; N]) -> Vec<[String; N]> {
    let mut tshark = Command::new("tshark");
    for option in ["ip", "tcp", "udp"] {
        tshark.args(["-o", &format!("{option}.check_checksum:TRUE")]);
    }
    tshark.arg("-r").arg(file).args(["-T", "fields", "-E", &format!("occurrence={occurrence}")]);
    let output = tshark.args(fields.iter().flat_map(|field| ["-e", field])).output().expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("tshark prints text");
    let fields = |line: &str| -> Vec<String> { line.split('\t').map(str::to_owned).collect() };
    text.lines().map(|line| fields(line).try_into().expect("as many fields as were asked for")).collect()
}

/// A pcap file in the order of bytes of most machines, as its own reader and writer see it.
#[derive(Clone)]
struct Pcap {
    magic: u32,
    link: u32,
    records: Vec<Record>,
}

#[derive(Clone)]
struct Record {
    /// Seconds, and micro- or nanoseconds.
    time: (u32, u32),
    length: u32,
    data: Vec<u8>,
}

impl Pcap {
    fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let (mut records, mut at) = (Vec::new(), 24);
        while at < file.len() {
            let end = at + 16 + word(at + 8) as usize;
            let time = (word(at), word(at + 4));
            records.push(Record { time, length: word(at + 12), data: file[at + 16..end].to_vec() });
            at = end;
        }
        Self { magic: word(0), link: word(20), records }
    }

    fn capture(name: &str) -> Self {
        Self::read(&Path::new(CAPTURES).join(name))
    }

    fn write(&self, name: &str) -> PathBuf {
        self.write_as(name, u32::to_le_bytes)
    }

    fn write_as(&self, name: &str, word: fn(u32) -> [u8; 4]) -> PathBuf {
        let version = if word(1)[0] == 1 { [2, 0, 4, 0] } else { [0, 2, 0, 4] };
        let mut file = [word(self.magic), version, [0; 4], [0; 4], word(65_535), word(self.link)].concat();
        for Record { time, length, data } in &self.records {
            file.extend([word(time.0), word(time.1), word(data.len() as u32), word(*length)].concat());
            file.extend(data);
        }
        let path = temporary(name);
        fs::write(&path, file).unwrap();
        path
    }

    /// The IPv4 packet of an Ethernet record.
    fn ip(&self, record: usize) -> Option<&[u8]> {
        let data = &self.records[record].data;
        (data[12..14] == [8, 0]).then_some(&data[14..])
    }

    /// The records of each fragmented datagram, in order, by its addresses and identification.
    fn fragments(&self) -> Vec<Vec<usize>> {
        let mut datagrams = BTreeMap::<_, Vec<usize>>::new();
        for record in 0..self.records.len() {
            if let Some(ip) = self.ip(record).filter(|ip| u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0) {
                datagrams.entry((ip[4..6].to_vec(), ip[9..10].to_vec(), ip[12..20].to_vec())).or_default().push(record);
            }
        }
        datagrams.into_values().collect()
    }
}

fn case_of(file: &str) -> &'static Case {
    CASES.iter().find(|case| case.file == file).unwrap()
}

/// One capture with two servers of which one is diverted: nothing of the other one is touched.
#[test]
fn what_is_not_diverted_passes() {
    let summary_of = |rule: &str| json(&Path::new(CAPTURES).join("http.pcap"), None, rule);
    let only_81 = summary_of("--divert 100.100.100.100:81=123.45.67.89");
    let refused =
        [("packets", 151), ("not_ipv4", 4), ("to_server", 1), ("to_client", 1), ("exact", 1), ("passed", 145)];
    assert_eq!(only_81, summary(&[&refused[..], &[("connections", 1)]].concat()));
    let none = summary_of("--divert 100.100.101.0/24=123.45.67.89");
    assert_eq!(none, summary(&[("packets", 151), ("not_ipv4", 4), ("passed", 147)]));
}

#[test]
fn the_summary_for_people_says_the_same() {
    let file = Path::new(CAPTURES).join("ping.pcap");
    let arguments = ["--alternative=10.10.10.10:1024-65535", "--divert=100.100.100.0/24=123.45.67.89"];
    let result = replay(&[&[file.to_str().unwrap()], &arguments[..]].concat());
    assert!(result.status.success());
    let text = String::from_utf8(result.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..2], ["packets", "71"]);
    let expected = ["not IPv4 9", "truncated 0", "to the server 31", "to the client 31", "passed 0", "dropped 0"];
    let more =
        ["fragments held 0", "connections 13", "round trips 31", "exact 31", "differed 0", "passed 0", "dropped 0"];
    let rest: Vec<String> = lines[1..].iter().map(|words| words.join(" ")).collect();
    assert_eq!(rest, [&expected[..], &more].concat());
}

#[test]
fn wrong_arguments_and_files_get_one_line() {
    let http = Path::new(CAPTURES).join("http.pcap");
    let http = http.to_str().unwrap();
    let file = |name: &str, content: &[u8]| {
        fs::write(temporary(name), content).unwrap();
        temporary(name).into_os_string().into_string().unwrap()
    };
    let whole = fs::read(http).unwrap();
    let empty = file("empty.pcap", b"");
    let garbage = file("garbage.pcap", &[0x5a; 1000]);
    let short = file("short.pcap", &whole[..5000]);
    let wireless = file("wireless.pcap", &[&whole[..20], &[127, 0, 0, 0], &whole[24..]].concat());
    let good = ["--alternative=10.10.10.10:1024-65535", "--divert=100.100.100.100=123.45.67.89"];
    let own = "--divert=100.100.100.101=10.10.10.10";
    for (arguments, code, error) in [
        (&["--divert=1.1.1.1"][..], 2, "--divert 1.1.1.1: it should be ORIGINAL=TARGET".to_owned()),
        (&[http, http], 2, format!("{http}: it is the capture itself, and would be overwritten")),
        (
            &[http, own],
            2,
            "100.100.100.101=10.10.10.10: target 10.10.10.10 is an address of the translator itself".into(),
        ),
        (&[http, good[1]], 2, "100.100.100.100=123.45.67.89: 100.100.100.100 is diverted twice".into()),
        (&[http, "--alternative=127.0.0.1:1-2"], 2, "alternative 127.0.0.1: no packet may bear this address".into()),
        (&["/nowhere/at.all"], 1, "/nowhere/at.all: No such file or directory (os error 2)".into()),
        (&[&empty], 1, format!("{empty}: the file is empty")),
        (&[&garbage], 1, format!("{garbage}: it is neither a pcap nor a pcapng file")),
        (&[&wireless], 1, format!("{wireless}: packet 1: link type 127 is none of those that are read")),
        (&[&short], 1, format!("{short}: the file ends in the middle of packet 41")),
    ] {
        let result = replay(&[arguments, &good].concat());
        assert_eq!(String::from_utf8_lossy(&result.stderr), format!("replay: {error}\n"), "{arguments:?}");
        assert_eq!(result.status.code(), Some(code), "{arguments:?}");
        // What is before the damage has been replayed.
        let damaged = arguments == [&short] || arguments == [&wireless];
        assert_eq!(result.stdout.is_empty(), !damaged, "{arguments:?}");
    }
    let header_only = file("header-only.pcap", &whole[..24]);
    assert_eq!(json(Path::new(&header_only), None, good[1]), summary(&[]));
}

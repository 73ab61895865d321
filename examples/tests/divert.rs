//! The main job as a user runs it: what it prints, what it writes, and what it says to wrong arguments.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CLIENT: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);
const ORIGINAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
const PROXY: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
const SERVERS: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 80), SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 90), 80)];

/// `cargo run --example divert`, at the root and with the profile that the test has.
fn divert(arguments: &[&str]) -> Output {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["run", "--quiet", "--profile", profile, "--example", "divert", "--"])
        .args(arguments)
        .output()
        .expect("cargo runs")
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).expect("it is text")
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// The numbers in the row of the table that has this name: one for each download.
fn row(output: &str, name: &str) -> Vec<u64> {
    let row = output.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let row = row.unwrap_or_else(|| panic!("no row {name} in:\n{output}"));
    row.split("  ")
        .filter(|cell| !cell.is_empty())
        .map(|cell| cell.replace(' ', "").parse().expect("a number"))
        .collect()
}

#[test]
fn it_prints_what_happened_and_writes_what_was_seen() {
    let folder = folder("divert");
    let output = divert(&["--pcap", folder.to_str().expect("the path is text")]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    assert!(printed.ends_with("\nAll of it came, from two servers, and the client saw one.\n"), "{printed}");
    assert!(printed.lines().all(|line| line.chars().count() <= 100), "{printed}");

    let events: Vec<Vec<&str>> = printed
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("event"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let alternative = events[2][3];
    assert_eq!(alternative.parse::<SocketAddrV4>().map(|endpoint| *endpoint.ip()), Ok(PROXY));
    let (client, original, server) = ("1.2.3.4:3456", "100.100.100.100:80", "123.45.67.89:80");
    let expected = [
        ["1", "client", "sends", client, original],
        ["2", "proxy, client side", "receives", client, original],
        ["3", "proxy, network side", "sends", alternative, server],
        ["4", "server A", "receives", alternative, server],
        ["4", "server A", "sends", server, alternative],
        ["5", "proxy, network side", "receives", server, alternative],
        ["6", "proxy, client side", "sends", original, client],
        ["7", "client", "receives", original, client],
    ];
    assert_eq!(events, expected);
    assert!(printed.contains(&format!("({client}, {original}), ({alternative}, {server})")));

    let (a, b) = (row(printed, "server A delivered"), row(printed, "server B delivered"));
    for (a, b) in a.into_iter().zip(b) {
        assert_eq!(a + b, 2 << 20);
        assert!(a.abs_diff(b) < 200_000, "the move was not half-way: {a} and {b}");
    }
    assert_eq!(printed.matches("  right").count(), 2);

    let packets = packets(&folder.join("client-side.pcap"));
    let (mut from_original, mut from_client) = (0, 0);
    for packet in &packets {
        let (from, to) = ends(packet);
        match (*from.ip(), *to.ip()) {
            (CLIENT, _) if to == ORIGINAL => from_client += 1,
            (_, CLIENT) if from == ORIGINAL => from_original += 1,
            _ => panic!("the client's side saw {from} -> {to}"),
        }
    }
    let seen: u64 = row(printed, "client saw packets of 100.100.100.100").iter().sum();
    assert_eq!(from_original, seen);
    assert!(from_client > 2000);
    read_by_tshark(&folder.join("client-side.pcap"), packets.len());

    let packets = self::packets(&folder.join("server-side.pcap"));
    let mut from_servers = [0; 2];
    let mut to_servers = 0;
    for packet in &packets {
        let (from, to) = ends(packet);
        let server = SERVERS.iter().position(|server| [from, to].contains(server)).expect("a server's end");
        match (*from.ip(), *to.ip()) {
            (PROXY, _) => to_servers += 1,
            (_, PROXY) => from_servers[server] += 1,
            _ => panic!("the servers' side saw {from} -> {to}"),
        }
    }
    let seen: u64 = row(printed, "servers saw packets of 10.10.10.10").iter().sum();
    assert_eq!(to_servers, seen);
    let late: u64 = row(printed, "late packets of A, dropped").iter().sum();
    assert!(late > 0);
    assert!(from_servers.iter().all(|count| *count > 1000), "{from_servers:?}");
    read_by_tshark(&folder.join("server-side.pcap"), packets.len());

    let again = divert(&[]);
    let without = |printed: &str| -> Vec<String> {
        printed.lines().filter(|line| !line.is_empty() && !line.contains("Wireshark")).map(String::from).collect()
    };
    assert_eq!(without(text(&again.stdout)), without(printed), "it is not the same each time");
}

#[test]
fn wrong_arguments_get_one_line() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let file = file.to_str().expect("the path is text");
    let cases: [(&[&str], i32, &str); 10] = [
        (&["--fast"], 2, "--fast"),
        (&["--pcap"], 2, "--pcap"),
        (&["folder"], 2, "folder"),
        (&["--pcap", file], 1, file),
        (&["--control", "127.0.0.1:0"], 2, "--key"),
        (&["--key", file], 2, "--control"),
        (&["--seconds", "5"], 2, "--control"),
        (&["--control", "nowhere", "--key", file], 2, "nowhere"),
        (&["--control", "127.0.0.1:0", "--key", file, "--protocol", "icmp"], 2, "tcp or udp"),
        (&["--control", "127.0.0.1:0", "--key", "/nowhere/key"], 1, "/nowhere/key"),
    ];
    for (arguments, code, named) in cases {
        let output = divert(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert_eq!((error.lines().count(), text(&output.stdout)), (1, ""), "{arguments:?}: {error}");
        assert!(error.starts_with("divert: ") && error.contains(named), "{arguments:?}: {error}");
    }
    let help = divert(&["--help"]);
    assert!(help.status.success());
    for option in ["--pcap DIR", "--control ADDRESS:PORT", "--key FILE", "ctl AGENT redivert"] {
        assert!(text(&help.stdout).contains(option), "{option}");
    }
    assert!(text(&help.stdout).lines().all(|line| line.chars().count() <= 120));
}

/// The packets of a file of raw IPv4 packets, all checksums of which must be right.
fn packets(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).expect("the file is there");
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 101));
    let mut packets = Vec::new();
    let (mut at, mut before) = (24, (0, 0));
    while at < file.len() {
        let (time, length) = ((word(at), word(at + 4)), word(at + 8) as usize);
        assert!(before <= time && length == word(at + 12) as usize);
        before = time;
        packets.push(file[at + 16..at + 16 + length].to_vec());
        at += 16 + length;
    }
    assert!(packets.iter().all(|packet| has_right_checksums(packet)));
    packets
}

fn has_right_checksums(packet: &[u8]) -> bool {
    let sum = |data: &[u8]| {
        let words = data.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let sum: u32 = words.sum();
        (sum >> 16) + (sum & 0xffff)
    };
    let (header, segment) = packet.split_at(20);
    let pseudo = [&header[12..20], &[0, header[9]], &(segment.len() as u16).to_be_bytes(), segment].concat();
    [sum(header), sum(&pseudo)].iter().all(|sum| *sum == 0xffff)
}

fn ends(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    (SocketAddrV4::new(address(12), port(20)), SocketAddrV4::new(address(16), port(22)))
}

/// Wireshark finds as many packets, and nothing wrong with any.
fn read_by_tshark(path: &Path, packets: usize) {
    const WRONG: &str = "_ws.malformed || _ws.expert.severity == error || ip.checksum.status == bad \
                         || tcp.checksum.status == bad || udp.checksum.status == bad";
    let tshark = |filter: &str| {
        let checked = ["ip", "tcp", "udp"].map(|protocol| format!("-o{protocol}.check_checksum:TRUE"));
        Command::new("tshark")
            .arg("-r")
            .arg(path)
            .args(checked)
            .args(["-Tfields", "-eframe.number", "-Y", filter])
            .output()
    };
    let Ok(wrong) = tshark(WRONG) else {
        println!("SKIPPED: there is no tshark to read {}", path.display());
        return;
    };
    assert!(wrong.status.success(), "{}", text(&wrong.stderr));
    assert_eq!(text(&wrong.stdout), "", "tshark finds fault with these packets of {}", path.display());
    let all = tshark("ip").expect("it ran a moment ago");
    assert_eq!(text(&all.stdout).lines().count(), packets);
}

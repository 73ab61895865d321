//! The captures in `tests/captures` through a translator: after each packet the state and the numbers of its TCP
//! connection are what the capture alone shows (RFC 9293, section 3.10; RFC 5961, section 3.2): which SYNs and FINs were
//! acknowledged, and which RSTs bore the number that their receiver had last asked for.

use core::net::SocketAddrV4;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use byway::{Divert, Instant, Midstream, Protocol, Translator, Verdict};
use byway_testing::truth::{Passed, Segment, Shown, numbers_of};
use byway_testing::{config, ends, ip, translator};

const CAPTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures");

/// The IPv4 packets of a pcap or pcapng file, with their times in microseconds.
fn packets(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let file = std::fs::read(path).expect("the file is there");
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let mut frames = Vec::new();
    let link = match word(0) {
        0x0a0d_0d0a => {
            let (mut at, mut link) = (0, 0);
            while at < file.len() {
                match word(at) {
                    1 => link = word(at + 8) & 0xffff,
                    // An Enhanced Packet Block. Which unit the time has does not matter here: its order is what counts.
                    6 => {
                        let length = word(at + 20) as usize;
                        frames.push((frames.len() as u64 * 1_000, &file[at + 28..at + 28 + length]));
                    }
                    _ => {}
                }
                at += word(at + 4) as usize;
            }
            link
        }
        magic => {
            let unit = if magic == 0xa1b2_3c4d { 1_000 } else { 1 };
            let mut at = 24;
            while at < file.len() {
                let length = word(at + 8) as usize;
                let time = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4)) / unit;
                frames.push((time, &file[at + 16..at + 16 + length]));
                at += 16 + length;
            }
            word(20)
        }
    };
    let start = frames.first().map_or(0, |(time, _)| *time);
    frames.into_iter().filter_map(|(time, frame)| Some((time - start, network(link, frame)?))).collect()
}

/// The IPv4 packet in a frame.
fn network(link: u32, frame: &[u8]) -> Option<Vec<u8>> {
    let kind = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let (mut kind_at, mut header) = match link {
        1 => (12, 14),
        101 => return Some(frame.to_vec()).filter(|f| f.first().is_some_and(|b| b >> 4 == 4)),
        113 => (14, 16),
        276 => (0, 20),
        other => panic!("link type {other}"),
    };
    while matches!(kind(kind_at)?, 0x8100 | 0x88a8) {
        (kind_at, header) = (kind_at + 4, header + 4);
    }
    if kind(kind_at)? != 0x0800 {
        return None;
    }
    // What lies behind the packet is padding.
    let packet = frame.get(header..)?;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    Some(packet.get(..total)?.to_vec())
}

/// Replays a capture; returns how its connections end.
fn replay(path: &Path, mut t: Translator<byway::Heap>) -> BTreeMap<String, u32> {
    let name = path.file_name().expect("a file").to_string_lossy().into_owned();
    let mut shown = HashMap::<(SocketAddrV4, SocketAddrV4), Shown>::new();
    for (number, (time, packet)) in packets(path).into_iter().enumerate() {
        let now = Instant::from_micros(time);
        t.poll(now);
        let Some(segment) = Segment::read(&packet) else {
            continue;
        };
        let (source, destination) = ends(&packet);
        let from_client = *source.ip() == ip("1.2.3.4");
        let (client, original) = if from_client { (source, destination) } else { (destination, source) };
        let mut sent = packet.clone();
        if !from_client {
            // The new server would have sent it to where the client seems to be.
            let Some((connection, _)) = t.connection(Protocol::Tcp, client, original) else {
                panic!("{name}, packet {number}: the connection of {client} is not known");
            };
            let header = usize::from(packet[0] & 15) * 4;
            let (server, alternative) = (connection.server(), connection.server_side.source);
            sent[12..16].copy_from_slice(&server.ip().octets());
            sent[16..20].copy_from_slice(&alternative.ip().octets());
            sent[header..header + 2].copy_from_slice(&server.port().to_be_bytes());
            sent[header + 2..header + 4].copy_from_slice(&alternative.port().to_be_bytes());
        }
        let verdict = t.translate(now, &mut sent);
        let wanted = if from_client { Verdict::ToServer } else { Verdict::ToClient };
        assert_eq!(verdict, wanted, "{name}, packet {number}: {segment}");
        let shown = shown.entry((client, original)).or_default();
        shown.note(from_client, &segment);
        let (connection, _) = t.connection(Protocol::Tcp, client, original).expect("it has just been translated");
        let states = shown.states();
        assert!(
            states.contains(&connection.state),
            "{name}, packet {number}, {segment}: {:?}, and the capture shows {states:?}",
            connection.state
        );
        let Some(record) = t.record(&connection).filter(|_| shown.acknowledged == (true, true)) else {
            continue;
        };
        let Passed { client, server, .. } = shown.passed;
        let wanted = [client.next, server.next, server.acknowledged, client.acknowledged];
        assert_eq!(numbers_of(&record), wanted, "{name}, packet {number}, {segment}: numbers, {shown:?}");
    }
    let mut ends = BTreeMap::new();
    for shown in shown.values() {
        *ends.entry(format!("{:?}", shown.states())).or_default() += 1;
    }
    ends
}

#[test]
fn every_connection_is_what_its_capture_shows() {
    let mut all = BTreeMap::<String, u32>::new();
    for file in std::fs::read_dir(CAPTURES).expect("the folder is there") {
        let path = file.expect("a file").path();
        if path.extension().is_none_or(|e| e != "pcap" && e != "pcapng") {
            continue;
        }
        let mut t = translator(config().midstream(Midstream::Drop));
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).expect("a good rule");
        for (end, count) in replay(&path, t) {
            *all.entry(end).or_default() += count;
        }
    }
    // Nothing would be checked if nothing were read: this is what the captures hold.
    println!("{all:?}");
    assert!(all.get("[TimeWait]").is_some_and(|n| *n >= 20), "{all:?}");
    assert!(all.get("[Opening]").is_some_and(|n| *n >= 3), "{all:?}");
}

//! Writes seed corpora: `cargo run --bin seeds` in `fuzz/`.
//!
//! For `translate` from the captures: each gives some files of a few packets each, in the form that the target reads.
//! For `names` queries of every kind, for `relay` queries, answers and time-outs, and for `mediator`
//! and `mediator_parsers` requests, answers and whole downloads.
//! For the targets of the control protocol from the conversation in `docs/control-vectors.txt`.

use std::{fs, io};

use byway_testing::targets::{names, relay};

#[path = "../examples/mediator/tests/fuzz/mod.rs"]
mod mediator;
#[path = "../examples/mediator/tests/support/mod.rs"]
mod support;

/// Packets of a classic pcap file in the byte order of most machines, from their IPv4 header on.
fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let long = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let link = long(20);
    let mut packets = Vec::new();
    let mut at = 24;
    while at + 16 <= bytes.len() {
        let length = long(at + 8) as usize;
        let frame = &bytes[at + 16..at + 16 + length];
        at += 16 + length;
        let start = match link {
            1 if frame.get(12..14) == Some(&[8, 0]) => 14,
            1 if frame.get(16..18) == Some(&[8, 0]) => 18,
            101 => 0,
            113 => 16,
            276 => 20,
            _ => continue,
        };
        if frame.get(start).is_some_and(|first| first >> 4 == 4) {
            packets.push(frame[start..].to_vec());
        }
    }
    packets
}

fn main() -> io::Result<()> {
    translate()?;
    queries()?;
    control()
}

/// Queries for names of the table and for others; and those that are relayed.
fn queries() -> io::Result<()> {
    let mediator = mediator::seeds();
    let targets = [
        ("names", names::seeds()),
        ("relay", relay::seeds()),
        ("mediator", mediator.clone()),
        ("mediator_parsers", mediator),
    ];
    for (target, seeds) in targets {
        fs::create_dir_all(format!("seeds/{target}"))?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(format!("seeds/{target}/seed-{number:03}"), seed)?;
        }
    }
    Ok(())
}

/// The datagrams of a recorded conversation.
fn datagrams() -> io::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string("../docs/control-vectors.txt")?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("hexadecimal digits");
    let values = lines.map(|(_, digits)| digits).filter(|digits| digits.len() > 64);
    Ok(values.map(|digits| digits.as_bytes().chunks(2).map(byte).collect()).collect())
}

fn control() -> io::Result<()> {
    let datagrams = datagrams()?;
    let body = |datagram: &Vec<u8>| datagram[16..datagram.len() - 16].to_vec();
    let of_kind = |kind: &'static [u8]| datagrams.iter().filter(|d| kind.contains(&d[3])).map(body).collect::<Vec<_>>();
    let steps: Vec<Vec<u8>> = of_kind(&[4]).iter().map(|b| [&[4, (b.len() / 2) as u8], &b[..]].concat()).collect();
    // A packet that a rule of the conversation diverts, so that there is something to list, to move and to tell of.
    let packet =
        [69, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0xae, 0x03, 1, 2, 3, 4, 100, 100, 100, 100, 1, 1, 0, 80, 0, 8, 0, 0];
    let with_packets = steps.iter().map(|step| [&step[..], &[1, packet.len() as u8], &packet, &[3, 0, 0, 9]].concat());
    let whole = [steps.concat(), with_packets.collect::<Vec<_>>().concat()];
    // HELLO and OPEN, of this version and of another one.
    let handshakes = datagrams.iter().filter(|d| d.len() == 64 && [1, 3].contains(&d[3]));
    let handshakes = handshakes.map(|d| [&[7, d[2], d[3]], &d[4..48]].concat());
    let steps: Vec<_> = steps.into_iter().chain(handshakes).collect();
    let seeds = [
        ("control_parsers", datagrams.clone()),
        ("control_answers", of_kind(&[5, 6])),
        ("control_session", steps.into_iter().chain(whole).collect()),
    ];
    for (target, seeds) in seeds {
        fs::create_dir_all(format!("seeds/{target}"))?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(format!("seeds/{target}/{number:02}"), seed)?;
        }
        println!("{} files in seeds/{target}", seeds.len());
    }
    Ok(())
}

fn translate() -> io::Result<()> {
    let mut count = 0;
    fs::create_dir_all("seeds/translate")?;
    for entry in fs::read_dir("../tests/captures")? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "pcap") {
            continue;
        }
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        for (n, packets) in packets(&fs::read(&path)?).chunks(8).enumerate().take(12) {
            // The settings vary with the file, and each packet of a client is followed by its answer.
            let mut seed = vec![(n as u8).wrapping_mul(37)];
            for packet in packets {
                seed.push(0);
                seed.extend((packet.len() as u16).to_le_bytes());
                seed.extend(packet);
                seed.extend([8, 0, 0]);
            }
            fs::write(format!("seeds/translate/{name}-{n}"), seed)?;
            count += 1;
        }
    }
    println!("{count} files in seeds/translate");
    Ok(())
}

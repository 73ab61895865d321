//! Writes a seed corpus for `translate` from the captures: `cargo run --bin seeds` in `fuzz/`.
//!
//! Each capture gives some files of a few packets each, in the form that the target reads.

use std::{fs, io};

/// Packets of a classic pcap file in the byte order of most machines, from their IPv4 header on.
fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let long = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets"));
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

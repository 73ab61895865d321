//! Records: garbage, damaged ones, and ones that are well-formed but lie.
//!
//! The input is steps of a byte that says what to do and the bytes that it needs.

use byway::{Config, Divert, Heap, Imported, Instant, Protocol, RECORD_LENGTH, Record, Redivert, Translator};
use core::net::{Ipv4Addr, SocketAddrV4};

use super::checks::{self, Told};
use super::take;
use byway_testing::packet;

/// CRC-32 (ISO-HDLC), a bit at a time.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Puts a record's frame right, so that its fields are looked at.
pub fn frame(bytes: &mut [u8; RECORD_LENGTH]) {
    bytes[..3].copy_from_slice(b"bw\x01");
    let crc = crc32(&bytes[..RECORD_LENGTH - 4]);
    bytes[RECORD_LENGTH - 4..].copy_from_slice(&crc.to_be_bytes());
}

fn at(address: [u8; 4], port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(address), port)
}

pub fn run(data: &[u8]) {
    run_watched(data, &mut |_| {});
}

/// The same; `watch` sees the translator after each step.
pub fn run_watched(mut data: &[u8], watch: &mut dyn FnMut(&mut Translator<Heap>)) {
    // Whatever it is, reading it does no harm, and what was read is written the same.
    if let Ok(record) = Record::from_bytes(data) {
        assert_eq!(record.as_bytes()[..], data[..RECORD_LENGTH]);
        assert_ne!(record.connection().is_some(), record.is_second());
    }

    let config = Config::new([0x42; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    let mut byway = Translator::new(config, Heap::new(16, 8).events(64)).expect("a good configuration");
    let original = at([100, 100, 100, 100], 80);
    let (first, second) = (at([123, 45, 67, 89], 80), at([123, 45, 67, 90], 80));
    byway.divert(Divert::new(original).to(first)).expect("room for rules");
    let tftp = Divert::new(at([100, 100, 100, 100], 69)).protocol(Protocol::Udp).to(*second.ip());
    byway.divert(tftp.replies_from_any_port()).expect("room for rules");
    byway.divert(Divert::new(Ipv4Addr::new(100, 100, 100, 101)).to(*first.ip()).keep_source()).expect("room for rules");

    let (mut now, mut packets, mut told) = (Instant::from_secs(1_000), 0, Told::default());
    for _ in 0..100 {
        let [step] = take(&mut data);
        match step & 7 {
            0..=3 => {
                let mut bytes: [u8; RECORD_LENGTH] = take(&mut data);
                if step & 3 != 0 {
                    frame(&mut bytes);
                }
                import(&mut byway, now, &bytes);
            }
            // A record of our own with a few bytes changed.
            4 | 5 => {
                let [which, place, value, place2, value2] = take(&mut data);
                let count = byway.records().count().max(1);
                let record = byway.records().nth(usize::from(which) % count);
                if let Some(record) = record {
                    let mut bytes = *record.as_bytes();
                    bytes[usize::from(place) % RECORD_LENGTH] = value;
                    bytes[usize::from(place2) % RECORD_LENGTH] ^= value2;
                    frame(&mut bytes);
                    import(&mut byway, now, &bytes);
                }
            }
            // A packet of a client.
            6 => {
                let [host, port, kind] = take(&mut data);
                let client = at([1, 2, 3, host % 4], 1000 + u16::from(port % 4));
                let packet = match kind % 4 {
                    0 => packet::udp(client, at([100, 100, 100, 100], 69), b"read"),
                    1 => packet::udp(client, at([100, 100, 100, 101], 69), b"kept"),
                    _ => packet::tcp(client, original, (kind & 0x17, u32::from(kind), 5), b""),
                };
                packets += 1;
                let _ = byway.translate(now, &mut packet.clone());
            }
            _ => {
                let [what] = take(&mut data);
                match what % 8 {
                    0 => drop(byway.redivert(first, second, Redivert::Switch)),
                    1 => drop(byway.redivert(*second.ip(), *first.ip(), Redivert::Reset)),
                    2 => drop(byway.redivert(second, first, Redivert::Drain)),
                    3 => byway.poll(now),
                    _ => now = now + core::time::Duration::from_secs(1 << (what >> 4)),
                }
            }
        }
        while let Some(event) = byway.poll_event() {
            told.hear(&event);
        }
        assert_eq!(checks::outcomes(byway.counters()), packets);
        told.check(byway.counters());
        watch(&mut byway);
        if data.is_empty() {
            break;
        }
    }
    packets += checks::both_halves(&mut byway, now);
    assert_eq!(checks::outcomes(byway.counters()), packets);
}

fn import(byway: &mut Translator<Heap>, now: Instant, bytes: &[u8; RECORD_LENGTH]) {
    let before: Vec<_> = byway.connections().collect();
    match Record::from_bytes(bytes) {
        Ok(record) => {
            assert_eq!(record.as_bytes(), bytes);
            let connection = record.connection().expect("a record is well-formed");
            let (client, server) = (connection.client_side, connection.server_side);
            let done = byway.import(now, &record);
            let found = byway.connection(connection.protocol, client.source, client.destination);
            match (done, found) {
                (Ok(Imported::New), None) => panic!("what was taken over is not found: {connection}"),
                // What two portions know of a connection can together mean that it ended long ago.
                (Ok(_), None) => {}
                (Ok(_), Some((found, _))) if checks::is_over(found.state) => {}
                (Ok(_), Some((found, _))) => assert_eq!(found.server_side, server, "it was taken over halfway"),
                (Err(_), _) => {}
            }
        }
        Err(_) => assert!(before.into_iter().eq(byway.connections()), "what was refused changed something"),
    }
}

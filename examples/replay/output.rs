//! The packets that the translator sent, as a pcap file: raw IP, with times in nanoseconds.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Link type of raw IP.
const RAW: u32 = 101;
/// Says that the file is a pcap file in our order of bytes with times in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// No packet is cut.
const SNAPLEN: u32 = 262_144;

/// A pcap file that is written in the capture's order, whatever order the packets are sent in: a fragment that was held
/// is sent late.
pub(crate) struct Output {
    file: Box<dyn Write>,
    waiting: BTreeMap<u64, (Duration, Vec<u8>)>,
}

impl Output {
    pub(crate) fn new(mut file: Box<dyn Write>) -> io::Result<Self> {
        let version = [2_u16.to_le_bytes(), 4_u16.to_le_bytes()].concat();
        file.write_all(&[&MAGIC.to_le_bytes()[..], &version, &[0; 8]].concat())?;
        file.write_all(&[SNAPLEN.to_le_bytes(), RAW.to_le_bytes()].concat())?;
        Ok(Self { file, waiting: BTreeMap::new() })
    }

    /// Takes what was sent in place of the capture's packet `number`.
    pub(crate) fn send(&mut self, number: u64, time: Duration, packet: Vec<u8>) {
        self.waiting.insert(number, (time, packet));
    }

    /// Writes what was sent in place of the packets before `number`.
    pub(crate) fn write_before(&mut self, number: u64) -> io::Result<()> {
        while let Some(first) = self.waiting.first_entry().filter(|first| *first.key() < number) {
            let (time, packet) = first.remove();
            // The format has 32 bits for the seconds since 1970: they end in 2106.
            let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
            let length = packet.len() as u32;
            for word in [seconds, time.subsec_nanos(), length, length] {
                self.file.write_all(&word.to_le_bytes())?;
            }
            self.file.write_all(&packet)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.write_before(u64::MAX)?;
        self.file.flush()
    }
}

//! Reads pcap and pcapng files: link-layer frames and the times at which they were captured.

use core::fmt;
use core::time::Duration;
use std::io::{self, Read};

use pcap_parser::pcapng::{Block, InterfaceDescriptionBlock};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Linktype, OptionCode, PcapBlockOwned, PcapError, create_reader};

use crate::link::Link;

/// Bytes that are read at once, and the size of the largest record before the buffer has to grow.
const BUFFER: usize = 1 << 20;

/// The largest record that is believed in. Packets have at most 65 535 bytes, or 256 KiB where a network card has put
/// several into one; a file that claims more is damaged.
const LARGEST: usize = 1 << 24;

/// The block type of pcapng's Packet Block, which was replaced by the Enhanced Packet Block in 2009, and the bytes before
/// the packet in it: interface, drops, time in two halves, captured length, length.
const PACKET_BLOCK: u32 = 2;
const PACKET_BLOCK_HEADER: usize = 20;

/// One frame of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its place in the file, from 1.
    pub number: u64,
    /// Since 1970, by the capture's own clock.
    pub time: Duration,
    /// The link layer, or the number in the file of one that we do not read.
    pub link: Result<Link, i32>,
    /// As much of it as was captured.
    pub frame: &'a [u8],
    /// Whether the frame was longer than what was captured of it.
    pub cut: bool,
}

/// A capture that is being read.
pub struct Capture<'r> {
    reader: Box<dyn PcapReaderIterator + Send + 'r>,
    capacity: usize,
    last: Last,
}

/// What was read last, and what the file has said that later records rest on.
#[derive(Debug, Default)]
struct Last {
    number: u64,
    time: Duration,
    link: Option<Result<Link, i32>>,
    /// The first record whose link layer we do not read, until there is one that we do.
    unread: Option<CaptureError>,
    readable: bool,
    frame: Vec<u8>,
    cut: bool,
    interfaces: Vec<Interface>,
    big_endian: bool,
}

/// What the file says of where its packets were captured.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Linktype,
    /// Units of time in a second.
    resolution: u128,
    /// Seconds to be added to each time.
    offset: i64,
    snaplen: u32,
}

/// Why a file cannot be read, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureError {
    Empty,
    NoCapture,
    Unreadable,
    LinkType { record: u64, number: i32 },
    TimeResolution { interface: usize, exponent: u8 },
    NoInterface { record: u64, interface: u32 },
    TooLarge { record: u64 },
    EndsWithin { record: u64 },
    Damaged { record: u64 },
}

impl<'r> Capture<'r> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`CaptureError`] if it is no capture.
    pub fn open(reader: impl Read + Send + 'r) -> Result<Self, CaptureError> {
        let reader = create_reader(BUFFER, Filling(reader)).map_err(|error| match error {
            PcapError::Eof => CaptureError::Empty,
            PcapError::ReadError => CaptureError::Unreadable,
            _ => CaptureError::NoCapture,
        })?;
        Ok(Self { reader, capacity: BUFFER, last: Last::default() })
    }

    /// The next frame; `None` at the end of the file.
    ///
    /// # Errors
    /// [`CaptureError`] if the file is damaged from here on; and at its end, if we do not read the link layer of any of its
    /// frames.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let record = self.last.number + 1;
        loop {
            let (length, found) = match self.reader.next() {
                Ok((length, block)) => (length, self.last.block(block)?),
                Err(PcapError::Eof) => return self.last.unread.map_or(Ok(None), Err),
                Err(PcapError::Incomplete(_)) => {
                    self.reader.refill().map_err(|_| CaptureError::Unreadable)?;
                    continue;
                }
                Err(PcapError::BufferTooSmall) => {
                    self.capacity *= 2;
                    if self.capacity > LARGEST || !self.reader.grow(self.capacity) {
                        return Err(CaptureError::TooLarge { record });
                    }
                    self.reader.refill().map_err(|_| CaptureError::Unreadable)?;
                    continue;
                }
                Err(PcapError::UnexpectedEof) => return Err(CaptureError::EndsWithin { record }),
                Err(PcapError::ReadError) => return Err(CaptureError::Unreadable),
                Err(_) => return Err(CaptureError::Damaged { record }),
            };
            self.reader.consume(length);
            if found {
                break;
            }
        }
        let last = &self.last;
        let link = last.link.ok_or(CaptureError::Damaged { record })?;
        Ok(Some(Record { number: last.number, time: last.time, link, frame: &last.frame, cut: last.cut }))
    }
}

impl Last {
    /// Takes in a block; true if it was a frame.
    fn block(&mut self, block: PcapBlockOwned<'_>) -> Result<bool, CaptureError> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                // The upper half says how long the frame check sequence is; it lies behind the packet and is ignored.
                let link = Linktype(header.network.0 & 0xffff);
                self.interfaces = vec![Interface { link, resolution, offset: 0, snaplen: header.snaplen }];
            }
            PcapBlockOwned::Legacy(packet) => {
                self.begin(0)?;
                let units = |interface: &Interface| {
                    u128::from(packet.ts_sec) * interface.resolution + u128::from(packet.ts_usec)
                };
                self.time = self.interfaces.first().map_or(self.time, |i| i.time(units(i)));
                self.take(packet.data, packet.origlen);
                return Ok(true);
            }
            PcapBlockOwned::NG(Block::SectionHeader(header)) => {
                self.interfaces.clear();
                self.big_endian = header.big_endian();
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => self.interface(&description)?,
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let interface = self.begin(packet.if_id)?;
                self.time = interface.time(u128::from(packet.ts_high) << 32 | u128::from(packet.ts_low));
                self.take(packet.packet_data(), packet.origlen);
                return Ok(true);
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                // It has no time of its own.
                let interface = self.begin(0)?;
                let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen } as usize;
                let data = packet.packet_data();
                self.take(&data[..data.len().min(snaplen)], packet.origlen);
                return Ok(true);
            }
            PcapBlockOwned::NG(Block::Unknown(block)) if self.in_order(block.block_type) == PACKET_BLOCK => {
                self.packet_block(block.data)?;
                return Ok(true);
            }
            PcapBlockOwned::NG(_) => {}
        }
        Ok(false)
    }

    /// Begins a record that was captured on this interface.
    fn begin(&mut self, number: u32) -> Result<Interface, CaptureError> {
        self.number += 1;
        let record = self.number;
        let interface = self.interfaces.get(number as usize).copied();
        let interface = interface.ok_or(CaptureError::NoInterface { record, interface: number })?;
        let number = interface.link.0;
        let link = Link::from_number(number).ok_or(number);
        self.readable |= link.is_ok();
        self.unread = match self.unread {
            _ if self.readable => None,
            None => Some(CaptureError::LinkType { record, number }),
            first => first,
        };
        self.link = Some(link);
        Ok(interface)
    }

    /// A number that was read as little-endian, in the order of bytes of the section.
    const fn in_order(&self, number: u32) -> u32 {
        if self.big_endian { number.swap_bytes() } else { number }
    }

    /// Takes in the body of a Packet Block, which the crate does not read.
    fn packet_block(&mut self, body: &[u8]) -> Result<(), CaptureError> {
        let damaged = CaptureError::Damaged { record: self.number + 1 };
        let header: &[u8; PACKET_BLOCK_HEADER] = body.first_chunk().ok_or(damaged)?;
        let half = [header[0], header[1]];
        let number = if self.big_endian { u16::from_be_bytes(half) } else { u16::from_le_bytes(half) };
        let word = |at: usize| self.in_order(u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i])));
        let [high, low, captured, length] = [word(4), word(8), word(12), word(16)];
        let end = PACKET_BLOCK_HEADER.saturating_add(captured as usize);
        let data = body.get(PACKET_BLOCK_HEADER..end).ok_or(damaged)?;
        let interface = self.begin(u32::from(number))?;
        self.time = interface.time(u128::from(high) << 32 | u128::from(low));
        self.take(data, length);
        Ok(())
    }

    fn take(&mut self, data: &[u8], length: u32) {
        self.frame.clear();
        self.frame.extend(data);
        self.cut = data.len() < length as usize;
    }

    fn interface(&mut self, description: &InterfaceDescriptionBlock<'_>) -> Result<(), CaptureError> {
        let mut new =
            Interface { link: description.linktype, resolution: 1_000_000, offset: 0, snaplen: description.snaplen };
        for option in &description.options {
            match (option.code, option.as_bytes()) {
                (OptionCode::IfTsresol, Ok([exponent, ..])) => {
                    // The highest bit says whether it is a power of two or of ten.
                    let (base, power) = (if exponent & 0x80 == 0 { 10_u128 } else { 2 }, u32::from(exponent & 0x7f));
                    let error = CaptureError::TimeResolution { interface: self.interfaces.len(), exponent: *exponent };
                    new.resolution = base.checked_pow(power).ok_or(error)?;
                }
                (OptionCode::IfTsoffset, Ok(value)) => {
                    if let Some(&bytes) = value.first_chunk() {
                        new.offset =
                            if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                    }
                }
                _ => {}
            }
        }
        self.interfaces.push(new);
        Ok(())
    }
}

impl Interface {
    /// The time since 1970 that is written as this many units; the nearest one that can be had.
    fn time(&self, units: u128) -> Duration {
        let seconds = u64::try_from(units / self.resolution).unwrap_or(u64::MAX);
        let part = units % self.resolution;
        // Below a second in any resolution: the quotient fits.
        let nanos = part.checked_mul(1_000_000_000).map_or(0, |n| (n / self.resolution) as u32);
        Duration::new(seconds.saturating_add_signed(self.offset), nanos)
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::NoCapture => f.write_str("it is neither a pcap nor a pcapng file"),
            Self::Unreadable => f.write_str("it cannot be read"),
            Self::LinkType { record, number } => {
                write!(f, "packet {record}: link type {number} is none of those that are read")
            }
            Self::TimeResolution { interface, exponent } => {
                write!(f, "interface {interface}: no clock has the resolution {exponent:#04x}")
            }
            Self::NoInterface { record, interface } => {
                write!(f, "packet {record}: it was captured on interface {interface}, of which the file does not tell")
            }
            Self::TooLarge { record } => write!(f, "packet {record}: it claims to be larger than {LARGEST} bytes"),
            Self::EndsWithin { record } => write!(f, "the file ends in the middle of packet {record}"),
            Self::Damaged { record } => write!(f, "packet {record}: the file is damaged here"),
        }
    }
}

impl core::error::Error for CaptureError {}

/// Reads until the buffer is full or the input ends, as `create_reader` expects and a pipe does not do.
struct Filling<R>(R);

impl<R: Read> Read for Filling<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read(rest) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests;

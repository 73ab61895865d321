//! The least that a full translation does to a packet: parse four fields, write twelve bytes, correct two checksums.
//!
//! No check of version, length or fragments, no options: a translator that is to be trusted does more. The arithmetic is
//! the plain one of RFC 1624, sixteen bits at a time, as in the C code by which the project's targets were set; sums of
//! whole words in 64 bits would save some twelve instructions more.

use core::net::SocketAddrV4;

use crate::labels::Protocol;
use crate::packet::{Pair, Slot};

/// Four fields in the byte order of the wire, as they lie in memory; the sums need no other (RFC 1071, section 2 B).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Fields {
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
}

impl Fields {
    pub(crate) fn of_pair(pair: Pair) -> Self {
        let address = |endpoint: SocketAddrV4| u32::from_ne_bytes(endpoint.ip().octets());
        Self {
            source: address(pair.source),
            destination: address(pair.destination),
            source_port: pair.source.port().to_be(),
            destination_port: pair.destination.port().to_be(),
        }
    }

    #[inline(always)]
    pub(crate) fn of_packet(slot: &Slot) -> Self {
        Self {
            source: word(slot, 12),
            destination: word(slot, 16),
            source_port: half_word(slot, 20),
            destination_port: half_word(slot, 22),
        }
    }

    /// A fold of one 128-bit product over the five fields that name a flow.
    #[inline(always)]
    pub(crate) fn hash(&self, protocol: u8) -> u64 {
        let addresses = u64::from(self.source) << 32 | u64::from(self.destination);
        let ports = u64::from(self.source_port) << 16 | u64::from(self.destination_port);
        let left = addresses ^ 0x2d35_8dcc_aa6c_78a5;
        let right = (ports << 8 | u64::from(protocol)) ^ 0x8bb8_4b93_962e_acc9;
        let product = u128::from(left) * u128::from(right);
        product as u64 ^ (product >> 64) as u64
    }
}

pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Udp => 17,
        Protocol::Tcp => 6,
    }
}

#[inline(always)]
pub(crate) fn protocol_of(slot: &Slot) -> u8 {
    slot.bytes[9]
}

/// Rewrites the packet, whose fields are `old`, to `new`.
#[inline(always)]
pub(crate) fn rewrite(slot: &mut Slot, old: Fields, new: Fields) {
    // RFC 1624, equation 3: the new checksum is ~(~checksum + ~old + new).
    let addresses = halves(!old.source) + halves(!old.destination) + halves(new.source) + halves(new.destination);
    let ports = u32::from(!old.source_port)
        + u32::from(!old.destination_port)
        + u32::from(new.source_port)
        + u32::from(new.destination_port);

    let header = !fold(u32::from(!half_word(slot, 10)) + addresses);
    put(slot, 10, header.to_ne_bytes());
    put(slot, 12, new.source.to_ne_bytes());
    put(slot, 16, new.destination.to_ne_bytes());
    put(slot, 20, new.source_port.to_ne_bytes());
    put(slot, 22, new.destination_port.to_ne_bytes());

    if protocol_of(slot) == 17 {
        let checksum = half_word(slot, 26);
        // RFC 768: zero means that there is none, so a computed zero is sent as all ones.
        if checksum != 0 {
            let checksum = match !fold(u32::from(!checksum) + addresses + ports) {
                0 => u16::MAX,
                checksum => checksum,
            };
            put(slot, 26, checksum.to_ne_bytes());
        }
    } else {
        let checksum = !fold(u32::from(!half_word(slot, 36)) + addresses + ports);
        put(slot, 36, checksum.to_ne_bytes());
    }
}

#[inline(always)]
fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    halves(halves(sum)) as u16
}

#[inline(always)]
fn word(slot: &Slot, at: usize) -> u32 {
    let bytes = &slot.bytes;
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn half_word(slot: &Slot, at: usize) -> u16 {
    u16::from_ne_bytes([slot.bytes[at], slot.bytes[at + 1]])
}

#[inline(always)]
fn put<const N: usize>(slot: &mut Slot, at: usize, bytes: [u8; N]) {
    slot.bytes[at..at + N].copy_from_slice(&bytes);
}

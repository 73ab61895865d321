//! Headers of packets that the machine itself originates, with their checksums.

use super::checksum;
use super::ipv4::{DONT_FRAGMENT, HEADER, PROTOCOL};

/// The time to live of packets of our own (RFC 1700's recommendation).
const TIME_TO_LIVE: u8 = 64;

/// Writes the IPv4 header of a packet of `total` bytes.
pub(crate) fn write_ipv4(header: &mut [u8; HEADER], total: u16, protocol: u8, source: u32, destination: u32) {
    header.fill(0);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    // A packet that is never fragmented needs no identification (RFC 6864).
    header[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
    header[8] = TIME_TO_LIVE;
    header[PROTOCOL] = protocol;
    header[12..16].copy_from_slice(&source.to_be_bytes());
    header[16..20].copy_from_slice(&destination.to_be_bytes());
    let sum = checksum::finish(checksum::sum(0, header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// The checksum of a TCP segment or UDP datagram between these addresses: the value for its field if the field is zero,
/// and zero if the field is already right.
pub(crate) fn transport_checksum(protocol: u8, source: u32, destination: u32, transport: &[u8]) -> u16 {
    // The pseudo-header (RFC 768, RFC 9293), as words of 32 bits.
    let pseudo = u64::from(source) + u64::from(destination) + u64::from(protocol) + transport.len() as u64;
    checksum::finish(checksum::sum(u32::from(checksum::fold64(pseudo)), transport))
}

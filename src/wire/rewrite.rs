//! Replaces the addresses in a packet, and updates its checksums.

use super::checksum::{self, Delta};
use super::icmp;
use super::ipv4::{HEADER, Parts};
use super::ipv4::{ICMP, TCP, UDP};

use crate::wire::checksum::Checksums;

/// New addresses for a packet, and the deltas of its checksums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// Delta of the IPv4 header checksum: both addresses.
    pub(crate) network: Delta,
    /// Delta of the transport checksum: both addresses and both ports; for ICMP echo, the identifier.
    pub(crate) transport: Delta,
}

/// Rewrites the addresses of the IPv4 header, which is all that a later fragment has.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) fn network(header: &mut [u8; HEADER], source: u32, destination: u32, delta: Delta) {
    header[12..16].copy_from_slice(&source.to_be_bytes());
    header[16..20].copy_from_slice(&destination.to_be_bytes());
    [header[10], header[11]] = checksum::update([header[10], header[11]], delta);
}

impl Change {
    /// Rewrites addresses and ports of a whole packet, of a first fragment, or of a packet quoted in an ICMP error. The
    /// caller has parsed it: its payload contains the transport header, or for a quoted packet at least the first 8
    /// bytes.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn apply(&self, parts: &mut Parts<'_>, protocol: u8) {
        network(parts.header, self.source, self.destination, self.network);
        if protocol == ICMP {
            // One of the two ports is the identifier, the other is zero.
            return icmp::set_identifier(parts.payload, self.source_port | self.destination_port, self.transport);
        }
        let Some((ports, rest)) = parts.payload.split_first_chunk_mut() else { return };
        *ports = (u32::from(self.source_port) << 16 | u32::from(self.destination_port)).to_be_bytes();
        match protocol {
            UDP => {
                if let Some([_, _, field @ ..]) = rest.first_chunk_mut::<4>() {
                    checksum::update_udp(field, self.transport);
                }
            }
            TCP => {
                if let Some([.., high, low]) = rest.first_chunk_mut::<14>() {
                    [*high, *low] = checksum::update([*high, *low], self.transport);
                }
            }
            _ => {}
        }
    }
}

/// Replaces the identification of a packet, and updates the header checksum unless the hardware does.
pub(crate) fn identification(header: &mut [u8; HEADER], new: u16, checksums: Checksums) {
    let old = u16::from_be_bytes([header[4], header[5]]);
    header[4..6].copy_from_slice(&new.to_be_bytes());
    if checksums == Checksums::Software {
        let delta = Delta::of([u32::from(old)], [u32::from(new)]);
        [header[10], header[11]] = checksum::update([header[10], header[11]], delta);
    }
}

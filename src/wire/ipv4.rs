//! The IPv4 header (RFC 791, section 3.1).

use crate::verdict::DropReason;

/// Protocol numbers (RFC 790).
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Length in bytes of a header without options.
pub(crate) const HEADER: usize = 20;

/// The offset of the protocol field in the header.
pub(crate) const PROTOCOL: usize = 9;

/// Header bits: the packet must not be fragmented.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// The fixed part of a header, by its fields.
#[derive(Clone, Copy)]
pub(crate) struct Header<'a>(pub(crate) &'a [u8; HEADER]);

impl Header<'_> {
    #[inline]
    pub(crate) const fn header_length(self) -> usize {
        ((self.0[0] & 0x0f) as usize) << 2
    }

    #[inline]
    pub(crate) const fn total_length(self) -> usize {
        u16::from_be_bytes([self.0[2], self.0[3]]) as usize
    }

    #[inline]
    pub(crate) const fn identification(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Flags and fragment offset, as they stand in the header.
    #[inline]
    pub(crate) const fn fragmentation(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }

    #[inline]
    pub(crate) const fn protocol(self) -> u8 {
        self.0[PROTOCOL]
    }

    #[inline]
    pub(crate) const fn source(self) -> u32 {
        u32::from_be_bytes([self.0[12], self.0[13], self.0[14], self.0[15]])
    }

    #[inline]
    pub(crate) const fn destination(self) -> u32 {
        u32::from_be_bytes([self.0[16], self.0[17], self.0[18], self.0[19]])
    }
}

/// Whether flags and offset say that the packet is a fragment, including a first one.
#[inline]
pub(crate) const fn is_fragment(fragmentation: u16) -> bool {
    fragmentation & (MORE_FRAGMENTS | OFFSET) != 0
}

/// Where the fragment starts in its datagram, in units of 8 bytes.
pub(crate) const fn offset(fragmentation: u16) -> u16 {
    fragmentation & OFFSET
}

pub(crate) const fn more_fragments(fragmentation: u16) -> bool {
    fragmentation & MORE_FRAGMENTS != 0
}

/// The packet split into its fixed header, its options and its payload. Bytes after the total length are link-layer
/// padding and are left out.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a mut [u8; HEADER],
    pub(crate) options: &'a [u8],
    pub(crate) payload: &'a mut [u8],
}

/// Splits a packet.
///
/// # Errors
/// [`DropReason::MalformedIpv4`] if the header is truncated, is not version 4, or gives a length that is too short or
/// longer than the packet.
#[inline]
pub(crate) fn split(packet: &mut [u8]) -> Result<Parts<'_>, DropReason> {
    const MALFORMED: DropReason = DropReason::MalformedIpv4;
    let (header, rest) = packet.split_first_chunk_mut::<HEADER>().ok_or(MALFORMED)?;
    let view = Header(header);
    if header[0] == 0x45 {
        let payload = rest.get_mut(..view.total_length().wrapping_sub(HEADER)).ok_or(MALFORMED)?;
        return Ok(Parts { header, options: &[], payload });
    }
    let (length, total) = (view.header_length(), view.total_length());
    if header[0] >> 4 != 4 || length < HEADER || total < length {
        return Err(MALFORMED);
    }
    let rest = rest.get_mut(..total - HEADER).ok_or(MALFORMED)?;
    let (options, payload) = rest.split_at_mut_checked(length - HEADER).ok_or(MALFORMED)?;
    Ok(Parts { header, options, payload })
}

/// Whether no forwarded packet may come from this address: this network, loopback, link-local, multicast, reserved,
/// broadcast (RFC 1812, section 5.3.7; RFC 6890).
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) const fn is_martian(address: u32) -> bool {
    matches!(address >> 24, 0 | 127 | 224..=255) || address >> 16 == 0xa9fe
}

/// The lowest address from `first` to `last` that no packet may come from.
pub(crate) fn martian_within(first: u32, last: u32) -> Option<u32> {
    if is_martian(first) {
        return Some(first);
    }
    // The start of each range of such addresses, except the one that is below all others.
    [0x7f00_0000, 0xa9fe_0000, 0xe000_0000].iter().find(|start| (first..=last).contains(start)).copied()
}

/// Whether a datagram to this address may be answered with an ICMP error: not multicast, not broadcast (RFC 1122,
/// section 3.2.2).
pub(crate) const fn is_unicast(address: u32) -> bool {
    address >> 28 < 0xe && address != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u8, total: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        if length > 3 {
            bytes[2..4].copy_from_slice(&total.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn padding_is_left_out() {
        let mut bytes = packet(0x45, 28, 46);
        assert_eq!(split(&mut bytes).unwrap().payload.len(), 8);
        let mut bytes = packet(0x47, 36, 46);
        assert_eq!(split(&mut bytes).unwrap().payload.len(), 8);
    }

    #[test]
    fn a_header_that_contradicts_itself_is_malformed() {
        for (version, total, length) in [
            (0x45, 20, 19),
            (0x45, 19, 20),
            (0x45, 21, 20),
            (0x44, 20, 20),
            (0x40, 20, 20),
            (0x65, 20, 20),
            (0x46, 20, 24),
            (0x4f, 60, 59),
            (0x45, 0, 40),
            (0, 0, 0),
        ] {
            assert!(split(&mut packet(version, total, length)).is_err(), "{version:#x} {total} {length}");
        }
    }

    #[test]
    fn martians() {
        use core::net::Ipv4Addr;
        for (address, martian) in [
            ([0, 1, 2, 3], true),
            ([127, 0, 0, 1], true),
            ([169, 254, 9, 9], true),
            ([224, 0, 0, 1], true),
            ([240, 0, 0, 1], true),
            ([255, 255, 255, 255], true),
            ([10, 0, 0, 1], false),
            ([169, 253, 0, 1], false),
            ([223, 255, 255, 255], false),
        ] {
            let address = Ipv4Addr::from(address).to_bits();
            assert_eq!(is_martian(address), martian, "{address:#x}");
            assert_eq!(martian_within(address, address), martian.then_some(address));
        }
        assert_eq!(martian_within(0x7e00_0000, 0x8000_0000), Some(0x7f00_0000));
        assert_eq!(martian_within(0x8000_0000, 0x8100_0000), None);
    }
}

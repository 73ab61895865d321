//! The Internet checksum (RFC 1071), and its incremental update (RFC 1624).
//!
//! A checksum is the one's complement of the one's complement sum of the 16-bit words that it covers. When a word `m`
//! becomes `m'`, equation 3 of RFC 1624 gives the new checksum: `HC' = ~(~HC + ~m + m')`. The order of the terms does
//! not matter, so all of `~m + m'` of a connection's addresses and ports fold into one 16-bit [`Delta`], computed once;
//! the reply direction uses its complement. The code relies on three facts:
//!
//! - A sum `m1 + m2 + ...` is 0x0000 only when every word is zero; otherwise a sum of zero comes out as 0xFFFF. So
//!   senders write checksums 0x0000 to 0xFFFE over anything that is not all zeros; equation 3 maps those into the same
//!   set, and back without loss. An IPv4 header contains its version, and the sums of TCP and UDP the protocol of the
//!   pseudo-header: they are never all zeros. ICMP has no pseudo-header.
//! - An echo reply (type 0) with identifier 0, sequence number 0 and no data but zeros is all zeros. Its checksum is
//!   0xFFFF, and 0x0000 is wrong there, although both stand for the same number: see
//!   [`icmp::set_identifier`](super::icmp::set_identifier).
//! - UDP (RFC 768) takes 0x0000 for "no checksum" and writes 0xFFFF instead of a computed zero. To a receiver's sum the
//!   two are equal, so only the written form needs care: see [`update_udp`].

use crate::connection::Direction;

/// What updates the checksums of translated packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Checksums {
    /// The translator, incrementally (RFC 1624): a wrong checksum stays wrong.
    Software,
    /// The hardware that sends the packet computes those of the IPv4 header, TCP and UDP, so the translator does not
    /// update them. It does update those of ICMP, and those in packets that ICMP errors quote.
    Hardware,
}

/// The one's complement sum of the new words minus the old ones, folded to 16 bits, in network byte order.
///
/// The sum is the same in either byte order, except for the order of its own two bytes (RFC 1071, section 2B). Stored
/// in the order of a packet, it is added to a packet's checksum without swapping either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Delta(pub(crate) u16);

impl Delta {
    /// The delta of replacing the 32-bit words `old` by the 32-bit words `new`.
    pub(crate) fn of<const N: usize>(old: [u32; N], new: [u32; N]) -> Self {
        let mut sum = 0_u64;
        for word in old {
            sum += u64::from(!word);
        }
        for word in new {
            sum += u64::from(word);
        }
        // 32-bit words fold to 16 bits just as 16-bit words do, since 2^32 - 1 is a multiple of 2^16 - 1.
        Self(fold64(sum).to_be())
    }

    /// Both changes together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(fold(u32::from(self.0) + u32::from(other.0)))
    }

    /// This change for a packet in the forward direction, the opposite for a reply.
    #[inline(always)]
    pub(crate) const fn along(self, direction: Direction) -> Self {
        match direction {
            Direction::ToServer => self,
            Direction::ToClient => self.reversed(),
        }
    }

    /// The change that undoes this one.
    #[inline]
    const fn reversed(self) -> Self {
        Self(!self.0)
    }
}

#[inline]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

pub(super) const fn fold64(sum: u64) -> u16 {
    // A sum that overflows is not the largest number, so that its carry does not overflow again.
    let (sum, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
    let sum = sum.wrapping_add(carry as u32);
    let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
    sum.wrapping_add(carry as u16)
}

/// The checksum after `delta` (RFC 1624, equation 3), both as they stand in the packet.
#[inline(always)]
pub(super) const fn update(checksum: [u8; 2], delta: Delta) -> [u8; 2] {
    // ~(~HC + d) with the carry added back is HC - d with the borrow subtracted again, zeros included.
    let (difference, borrow) = u16::from_ne_bytes(checksum).overflowing_sub(delta.0);
    difference.wrapping_sub(borrow as u16).to_ne_bytes()
}

/// The checksum after `delta` in this direction, both as they stand in the packet. A large processor has other work to
/// do while it waits for `delta`; once `delta` has arrived, the reply direction needs no more steps than the forward
/// direction.
#[inline(always)]
pub(crate) const fn update_along(checksum: [u8; 2], delta: Delta, direction: Direction) -> [u8; 2] {
    match direction {
        Direction::ToClient if cfg!(target_pointer_width = "64") => {
            // HC - ~d with the borrow subtracted again is HC + d + 1, less one if that does not overflow.
            let sum = u16::from_ne_bytes(checksum) as u32 + delta.0 as u32;
            ((sum + (sum >= 0xffff) as u32) as u16).to_ne_bytes()
        }
        _ => update(checksum, delta.along(direction)),
    }
}

/// Updates a UDP checksum by `delta`: zero, which means none, stays zero, and a computed zero is written as 0xFFFF (RFC
/// 768).
#[inline(always)]
pub(crate) const fn update_udp(checksum: &mut [u8; 2], delta: Delta) {
    let before = u16::from_ne_bytes(*checksum);
    if before != 0 {
        // HC + ~d with the carry added back: the same number as HC - d, and never written as 0x0000.
        let (sum, carry) = before.overflowing_add(!delta.0);
        *checksum = sum.wrapping_add(carry as u16).to_ne_bytes();
    }
}

/// The partial checksum after `delta` of the addresses alone, both as they stand in the packet. It holds a sum, where a
/// checksum holds the complement of one.
pub(crate) const fn update_partial(partial: [u8; 2], delta: Delta) -> [u8; 2] {
    let (sum, carry) = u16::from_ne_bytes(partial).overflowing_add(delta.0);
    sum.wrapping_add(carry as u16).to_ne_bytes()
}

/// The one's complement sum of `bytes`, added to `start`; an odd last byte counts as the upper half of a word.
///
/// Translation never needs it. It is used for packets that the translator itself originates, and for the checks of ICMP
/// errors that RFC 5508 requires.
pub(crate) fn sum(start: u32, bytes: &[u8]) -> u32 {
    // Words as large as the machine's, in its own order, fold to the same 16 bits, except for the order of these two bytes
    // (RFC 1071, section 2).
    const WIDTH: usize = size_of::<usize>();
    let (words, rest) = bytes.as_chunks::<WIDTH>();
    let mut sum = match bytes.last_chunk() {
        // A large processor reads the last bytes together with those before them, and shifts the latter out.
        Some(last) if cfg!(target_pointer_width = "64") && !rest.is_empty() => {
            (usize::from_le_bytes(*last) >> ((WIDTH - rest.len()) * 8)).to_le()
        }
        _ => rest.iter().rev().fold(0_usize, |word, byte| word << 8 | usize::from(*byte)).to_le(),
    };
    for word in words {
        let (more, carry) = sum.overflowing_add(usize::from_ne_bytes(*word));
        sum = more.wrapping_add(usize::from(carry));
    }
    let own = u16::from_be(fold64(sum as u64));
    u32::from(fold(u32::from(fold(start)) + u32::from(own)))
}

/// The checksum for a sum.
pub(crate) const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `update` on numbers.
    fn updated(checksum: u16, delta: Delta) -> u16 {
        u16::from_be_bytes(update(checksum.to_be_bytes(), delta))
    }

    #[test]
    fn the_example_of_rfc_1624_section_4() {
        let delta = Delta::of([0x5555], [0x3285]);
        assert_eq!(updated(0xdd2f, delta), 0x0000);
    }

    /// Equation 3 against a full recomputation: every remainder of a sum, every old word, and new words with all kinds
    /// of carries.
    #[test]
    fn equation_3_equals_recomputation() {
        for rest in (0..=0xffff_u32).step_by(13) {
            for old in (0..=0xffff_u32).step_by(1021) {
                let before = finish(rest + old);
                for new in [0_u32, 1, 0x7fff, 0x8000, 0xfffe, 0xffff] {
                    let after = updated(before, Delta::of([old], [new]));
                    let full = finish(rest + new);
                    let same = after == full || (after ^ full == 0xffff && (after == 0 || full == 0));
                    assert!(same, "rest {rest:#x}, {old:#x} -> {new:#x}: {after:#x}, not {full:#x}");
                }
            }
        }
    }

    #[test]
    fn either_way_it_is_the_same_arithmetic() {
        for delta in (0..=0xffff).step_by(1021).chain([0xffff]).map(Delta) {
            for checksum in (0..=0xffff_u16).map(u16::to_be_bytes) {
                for direction in [Direction::ToServer, Direction::ToClient] {
                    let along = update_along(checksum, delta, direction);
                    assert_eq!(along, update(checksum, delta.along(direction)), "{checksum:?} {delta:?}");
                }
            }
        }
    }

    #[test]
    fn the_way_back_undoes_the_way_there() {
        let delta = Delta::of([0x0102_0304, 80], [0xffff_ffff, 65535]);
        for checksum in 0..0xffff_u16 {
            assert_eq!(updated(updated(checksum, delta), delta.reversed()), checksum);
        }
    }

    #[test]
    fn udp_never_turns_a_checksum_into_none_nor_none_into_one() {
        for checksum in 0..=0xffff_u16 {
            for delta in [0, 1, 0x1234, 0xfffe, 0xffff].map(Delta) {
                let mut field = checksum.to_be_bytes();
                update_udp(&mut field, delta);
                assert_eq!(field == [0, 0], checksum == 0);
            }
        }
    }

    #[test]
    fn a_sum_takes_any_length() {
        assert_eq!(finish(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
        assert_eq!(sum(0, &[0xab]), 0xab00);
        assert_eq!(sum(0, &[0xff; 65_535]), sum(0, &[0xff, 0x00]));
        assert_eq!(sum(7, &[]), 7);
    }
}

//! What hardware would do to a packet, in software: for queues that refuse a super-packet or an unfinished checksum.

use crate::packet::{self, UDP};
use crate::vnet::{self, Super, VnetHeader};

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// Finishes the checksum of a whole packet. Returns whether there is one at the place that the header names.
pub fn complete(header: &VnetHeader, packet: &mut [u8]) -> bool {
    let Some((start, at)) = header.checksum() else {
        return true;
    };
    if start > packet.len() || at + 2 > packet.len() {
        return false;
    }
    // The field holds the pseudo-header's sum, and so is a part of the sum itself.
    let sum = !packet::sum(&packet[start..]);
    let zero = sum == 0 && packet::protocol(packet) == UDP;
    packet::put(packet, at, if zero { 0xffff } else { sum });
    true
}

/// Splits a super-packet into the packets that it stands for, all of them complete, and calls `each` with them. Returns whether
/// it was a super-packet.
pub fn split(header: &VnetHeader, packet: &[u8], mut each: impl FnMut(&[u8])) -> bool {
    let (Some(parts), headers) = (header.super_packet(), vnet::headers(packet)) else {
        return false;
    };
    let (ip, Some(payload)) = (packet::header_length(packet), packet.get(headers..)) else {
        return false;
    };
    let identification = packet::word(packet, 4);
    let count = payload.len().div_ceil(parts.size());
    let mut one = Vec::with_capacity(headers + parts.size());
    for (number, data) in payload.chunks(parts.size()).enumerate() {
        one.clear();
        one.extend_from_slice(&packet[..headers]);
        one.extend_from_slice(data);
        let length = one.len();
        packet::put(&mut one, 2, length as u16);
        packet::put(&mut one, 4, identification.wrapping_add(number as u16));
        packet::seal(&mut one);
        let checksum = match parts {
            Super::Tcp { size, ecn } => {
                let sequence = u32::from_be_bytes([one[ip + 4], one[ip + 5], one[ip + 6], one[ip + 7]]);
                let sequence = sequence.wrapping_add((number * size) as u32);
                one[ip + 4..ip + 8].copy_from_slice(&sequence.to_be_bytes());
                if number + 1 != count {
                    one[ip + 13] &= !FIN_PSH;
                }
                if ecn && number != 0 {
                    one[ip + 13] &= !CWR;
                }
                ip + 16
            }
            Super::Udp { .. } => {
                packet::put(&mut one, ip + 4, (length - ip) as u16);
                ip + 6
            }
        };
        let pseudo = packet::pseudo_sum(&one, length - ip);
        packet::put(&mut one, checksum, pseudo);
        let (start, offset) = (ip as u16, (checksum - ip) as u16);
        complete(&VnetHeader::partial(start, offset), &mut one);
        each(&one);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{tcp, udp};
    use crate::packet::{HEADER, put, word};

    const FROM: [u8; 4] = [1, 2, 3, 4];
    const TO: [u8; 4] = [5, 6, 7, 8];

    /// A packet whose checksum the sender leaves to its network card.
    fn unfinished(mut packet: Vec<u8>, offset: u16) -> (VnetHeader, Vec<u8>) {
        let pseudo = packet::pseudo_sum(&packet, packet.len() - HEADER);
        put(&mut packet, HEADER + usize::from(offset), pseudo);
        (VnetHeader::partial(HEADER as u16, offset), packet)
    }

    #[test]
    fn a_checksum_is_finished_as_the_sender_would_have_done_it() {
        for length in 0..40 {
            for (whole, offset) in [(tcp(FROM, TO, &vec![7; length]), 16), (udp(FROM, TO, &vec![9; length]), 6)] {
                let (header, mut packet) = unfinished(whole.clone(), offset);
                assert_ne!(packet, whole);
                assert!(complete(&header, &mut packet));
                assert_eq!(packet, whole);
            }
        }
        let mut packet = udp(FROM, TO, &[]);
        assert!(!complete(&VnetHeader::partial(28, 6), &mut packet), "there is no such place");
    }

    /// A checksum of UDP that comes out as zero is sent as 0xffff (RFC 768).
    #[test]
    fn a_computed_zero_is_sent_as_ones() {
        let mut packet = udp(FROM, TO, &[0, 0]);
        let checksum = word(&packet, 26);
        put(&mut packet, 28, checksum);
        let (header, mut packet) = unfinished(packet, 6);
        complete(&header, &mut packet);
        assert_eq!(word(&packet, 26), 0xffff);
    }

    #[test]
    fn segments_continue_each_other() {
        let data: Vec<u8> = (0..2_500).map(|n| n as u8).collect();
        let (header, mut packet) = unfinished(tcp(FROM, TO, &data), 16);
        packet[HEADER + 13] |= 0x81;
        let header = header.split(Super::Tcp { size: 1_000, ecn: true }, 40);
        let (mut all, mut seen) = (Vec::new(), Vec::new());
        assert!(split(&header, &packet, |one| {
            assert_eq!(packet::check(one), Ok(one.len()));
            let sum = packet::add_sums(packet::pseudo_sum(one, one.len() - HEADER), packet::sum(&one[HEADER..]));
            assert_eq!(sum, 0xffff, "a valid checksum");
            seen.push((word(one, 4), word(one, 26), one[33]));
            all.extend_from_slice(&one[40..]);
        }));
        assert_eq!(all, data);
        // Identification, sequence number, flags: CWR on the first alone, FIN and PSH on the last.
        assert_eq!(seen, [(1, 1_000, 0x90), (2, 2_000, 0x10), (3, 3_000, 0x19)]);
    }

    #[test]
    fn datagrams_have_lengths_of_their_own() {
        let (header, packet) = unfinished(udp(FROM, TO, &[7; 2_500]), 6);
        let header = header.split(Super::Udp { size: 1_000 }, 28);
        let mut expected = Vec::new();
        for (number, length) in [1_000, 1_000, 500].into_iter().enumerate() {
            let mut one = udp(FROM, TO, &vec![7; length]);
            put(&mut one, 4, 1 + number as u16);
            packet::seal(&mut one);
            expected.push(one);
        }
        let mut found = Vec::new();
        assert!(split(&header, &packet, |one| found.push(one.to_vec())));
        assert_eq!(found, expected);
        assert!(!split(&VnetHeader::partial(20, 6), &packet, |_| panic!("it is one packet")));
    }
}

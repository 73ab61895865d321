//! What a packet becomes when its addresses change, computed from scratch.

use byway::Pair;
use byway_testing::packet::{self, ICMP, TCP, UDP, layout, word};

use super::{Flow, Settings};

/// The ends of an answer.
pub(super) fn turned(pair: Pair) -> Pair {
    Pair { source: pair.destination, destination: pair.source }
}

pub(super) fn pair(flow: Flow) -> Pair {
    Pair { source: flow.source, destination: flow.destination }
}

/// The identification that a packet should have now: any, where it may be fragmented and is to get one of its own.
pub(super) fn identification(settings: &Settings, before: &[u8], after: &[u8]) -> u16 {
    let atomic = word(before, 6) & 0x4000 != 0 && word(before, 6) & 0x3fff == 0;
    word(if settings.rewrite_identification && !atomic { after } else { before }, 4)
}

/// The packet with other addresses. A checksum that was right is computed anew from scratch; one that was wrong, or
/// that covers more than is there, must stay as far off as it was.
pub(super) fn rewritten(before: &[u8], pair: Pair, identification: u16) -> Vec<u8> {
    let at = layout(before).expect("it was parsed");
    let mut new = before.to_vec();
    new[4..6].copy_from_slice(&identification.to_be_bytes());
    new[12..16].copy_from_slice(&pair.source.ip().octets());
    new[16..20].copy_from_slice(&pair.destination.ip().octets());
    let ports = at.header;
    match before[9] {
        TCP | UDP => {
            new[ports..ports + 2].copy_from_slice(&pair.source.port().to_be_bytes());
            new[ports + 2..ports + 4].copy_from_slice(&pair.destination.port().to_be_bytes());
        }
        _ => {
            let identifier = pair.source.port() | pair.destination.port();
            new[ports + 4..ports + 6].copy_from_slice(&identifier.to_be_bytes());
        }
    }
    follow_checksums(before, &mut new);
    new
}

/// Gives `new` the checksums that are as right or as wrong as those of `before`.
pub(super) fn follow_checksums(before: &[u8], new: &mut [u8]) {
    let at = layout(before).expect("it was parsed");
    let old = packet::sums(before, at);
    let header = packet::as_far_off(old.header, |field| {
        new[10..12].copy_from_slice(&field.to_be_bytes());
        packet::sums(new, at).header
    });
    new[10..12].copy_from_slice(&header.to_be_bytes());
    if before[9] == ICMP && before[at.header..] == new[at.header..] {
        return;
    }
    if let (Some(old), Some(field)) = (old.transport, packet::checksum_place(before[9]).map(|f| at.header + f)) {
        let checksum = packet::as_far_off(old, |value| {
            new[field..field + 2].copy_from_slice(&value.to_be_bytes());
            packet::transport_sum(new, at).unwrap_or(0)
        });
        let written = if before[9] == UDP && checksum == 0 { 0xffff } else { checksum };
        new[field..field + 2].copy_from_slice(&written.to_be_bytes());
    }
}

//! Sequence numbers that nobody can predict. The stack draws initial sequence numbers from a generator whose next number follows
//! from those before. So the numbers of each connection are offset by a keyed hash of its ends (RFC 6528, section 3): what one
//! client sees says nothing about another's.

use core::hash::BuildHasher;
use std::hash::RandomState;

use crate::packet;

const TCP_HEADER: usize = 20;
const ACK: u8 = 0x10;

/// The key: the system's, SipHash's as the standard library has it.
#[derive(Debug)]
pub(super) struct Numbers(RandomState);

impl Numbers {
    pub(super) fn new() -> Self {
        Self(RandomState::new())
    }

    /// A number to start something else with.
    pub(super) fn seed() -> u64 {
        RandomState::new().hash_one("seed")
    }

    /// Adds the offset to the sequence number of a packet from the stack.
    pub(super) fn hide(&self, packet: &mut [u8]) {
        let at = packet::header_length(packet);
        if packet.len() >= at + TCP_HEADER {
            let moved = self.of([12, 16, at, at + 2], packet);
            add(packet, at, at + 4, moved);
        }
    }

    /// Subtracts the offset from the acknowledgement of a packet to the stack.
    pub(super) fn reveal(&self, packet: &mut [u8]) {
        let at = packet::header_length(packet);
        if packet.len() >= at + TCP_HEADER && packet[at + 13] & ACK != 0 {
            let moved = self.of([16, 12, at + 2, at], packet);
            add(packet, at, at + 8, moved.wrapping_neg());
        }
    }

    /// The offset of a connection's numbers. `places` are those of the addresses and ports, the stack's first.
    fn of(&self, [own, other, own_port, other_port]: [usize; 4], packet: &[u8]) -> u32 {
        let words = [own, own + 2, other, other + 2, own_port, other_port].map(|at| packet::word(packet, at));
        self.0.hash_one(words) as u32
    }
}

/// Adds to the number at this place, and corrects the checksum for it (RFC 1624): what was wrong stays wrong.
fn add(packet: &mut [u8], header: usize, at: usize, moved: u32) {
    let words = [packet::word(packet, at), packet::word(packet, at + 2)];
    let number = (u32::from(words[0]) << 16 | u32::from(words[1])).wrapping_add(moved);
    let new = [(number >> 16) as u16, number as u16];
    let sum = !packet::word(packet, header + 16);
    let changed = words.map(|word| !word).into_iter().chain(new).fold(sum, packet::add_sums);
    packet::put(packet, at, new[0]);
    packet::put(packet, at + 2, new[1]);
    packet::put(packet, header + 16, !changed);
}

//! The keyed hashes.
//!
//! Two kinds, for two kinds of stranger:
//!
//! - [`Keys::hash`] places connections in the index, once or twice per packet. It folds two 64x64-bit multiplications
//!   of the addresses, each masked with 64 secret bits, and is fast. A stranger who does not know the secret cannot
//!   choose addresses that collide; and if he could, the index never looks at more than two buckets (see `index`), so
//!   that collisions would cost him his own new connections, not the work of others.
//! - [`Keys::choose`] picks what a stranger may see and must not foresee (ports, servers of a group, identifications).
//!   It is SipHash-1-3, a pseudo-random function.

use crate::connection::Direction;
use crate::wire::flow::{Flow, UDP};

/// The secret, laid out for use: four words for [`Keys::hash`], and two for [`Keys::choose`].
#[derive(Clone)]
pub(crate) struct Keys([u64; 6]);

impl core::fmt::Debug for Keys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let (words, _) = secret.as_chunks::<8>();
        let mut key = [0_u64; 4];
        for (slot, word) in key.iter_mut().zip(words) {
            *slot = u64::from_le_bytes(*word);
        }
        // Each use gets keys of its own, derived by the pseudo-random function, so that what leaks from one tells
        // nothing of another.
        let [k0, k1, k2, k3] = key;
        let root = Self([0, 0, 0, 0, k0, k1]);
        let mut derived = [0; 6];
        for (use_of, key) in derived.iter_mut().enumerate() {
            *key = root.choose(Label::Derive, [k2 ^ use_of as u64, k3]);
        }
        // The last factor is odd, so that it loses nothing.
        derived[3] |= 1;
        Self(derived)
    }

    /// Where a connection's key is placed. On a small processor it is compiled once.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) const fn hash(&self, key: &Key) -> u64 {
        let [k0, k1, k2, k3, ..] = self.0;
        let first = fold(key.addresses ^ k0, key.ports ^ k1);
        fold(first ^ k2, k3)
    }

    /// Where a client's count is placed.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn hash_client(&self, client: u32) -> u64 {
        self.hash(&Key::of_address(client))
    }

    /// Where a destination of rules is placed in their filter.
    #[cfg(target_pointer_width = "64")]
    #[inline]
    pub(crate) const fn hash_network(&self, length: u8, network: u32) -> u64 {
        let [k0, _, k2, k3, ..] = self.0;
        fold(((length as u64) << 32 | network as u64) ^ k0, k3) ^ k2
    }

    /// A number that a stranger cannot foresee, the same for the same words.
    #[inline(never)]
    pub(crate) fn choose(&self, label: Label, words: [u64; 2]) -> u64 {
        let [.., k0, k1] = self.0;
        sip13((k0 ^ label as u64, k1), words)
    }
}

/// SipHash-1-3 of two words, as if they were their 16 octets, the lowest first.
///
/// A library's hash takes octets of any number, and three times the flash; a test holds this one to it.
// One call in `Keys` and one in `Sharding`, which small images do without.
#[inline(always)]
pub(crate) fn sip13((k0, k1): (u64, u64), words: [u64; 2]) -> u64 {
    const OCTETS: u64 = 16 << 56;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    for word in [words[0], words[1], OCTETS] {
        v[3] ^= word;
        sip_round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
const fn sip_round([v0, v1, v2, v3]: &mut [u64; 4]) {
    *v0 = v0.wrapping_add(*v1);
    *v2 = v2.wrapping_add(*v3);
    *v1 = v1.rotate_left(13) ^ *v0;
    *v3 = v3.rotate_left(16) ^ *v2;
    *v0 = v0.rotate_left(32).wrapping_add(*v3);
    *v2 = v2.wrapping_add(*v1);
    *v1 = v1.rotate_left(17) ^ *v2;
    *v3 = v3.rotate_left(21) ^ *v0;
    *v2 = v2.rotate_left(32);
}

/// What a choice is for.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Label {
    Derive = 0,
    Port,
    Alternative,
    Server,
    Filter,
    Identification,
    Shard,
}

/// A pair of endpoints and a protocol, packed for hashing and comparison: the nearer endpoint (client or alternative)
/// in the upper halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) addresses: u64,
    pub(crate) ports: u64,
}

impl Key {
    /// A key of an address alone, which is that of no connection.
    pub(crate) const fn of_address(address: u32) -> Self {
        Self { addresses: address as u64, ports: u64::MAX }
    }

    /// From addresses and ports that are packed already, the nearer in the upper half.
    #[inline]
    pub(crate) const fn packed(protocol: u8, addresses: u64, ports: u32) -> Self {
        Self { addresses, ports: (ports as u64) << 16 | protocol as u64 }
    }

    /// The key with its two ends exchanged.
    #[inline(always)]
    pub(crate) const fn reversed(self) -> Self {
        let (ports, protocol) = ((self.ports >> 16) as u32, self.ports as u8);
        Self::packed(protocol, self.addresses.rotate_left(32), ports.rotate_left(16))
    }

    /// The key of the connection that a packet belongs to if it goes this way.
    pub(crate) const fn of(flow: &Flow, direction: Direction) -> Self {
        let source = (flow.source, flow.source_port);
        let destination = (flow.destination, flow.destination_port);
        match direction {
            Direction::ToServer => Self::new(flow.protocol, source, destination),
            Direction::ToClient => Self::new(flow.protocol, destination, source),
        }
    }

    /// The key under which all ports of a server look for the UDP connection that takes what they send. No packet has
    /// it: there is no protocol of that number.
    pub(crate) const fn of_siblings(near: (u32, u16), server: u32) -> Self {
        let key = Self::new(UDP, near, (server, 0));
        Self { ports: key.ports | ALL_PORTS, ..key }
    }

    #[inline(always)]
    pub(crate) const fn is_of_siblings(self) -> bool {
        self.ports & ALL_PORTS != 0
    }

    #[inline]
    pub(crate) const fn new(protocol: u8, near: (u32, u16), far: (u32, u16)) -> Self {
        Self {
            addresses: (near.0 as u64) << 32 | far.0 as u64,
            ports: (near.1 as u64) << 32 | (far.1 as u64) << 16 | protocol as u64,
        }
    }
}

/// Above the protocol's number in the keys of [`Key::of_siblings`].
const ALL_PORTS: u64 = 0x100;

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Maps the upper half of `hash` to `0..range` without a division.
#[inline]
pub(crate) const fn reduce(hash: u32, range: u32) -> u32 {
    ((hash as u64 * range as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;

    #[test]
    fn it_is_siphash() {
        let mut words = [0_u64, 1, 2, 3];
        for _ in 0..1_000 {
            for word in &mut words {
                *word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            }
            let [k0, k1, a, b] = words;
            let octets = [a.to_le_bytes(), b.to_le_bytes()].concat();
            assert_eq!(sip13((k0, k1), [a, b]), SipHasher13::new_with_keys(k0, k1).hash(&octets));
        }
    }
}

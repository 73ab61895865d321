//! The keyed hashes.
//!
//! There are two, for two kinds of attack:
//!
//! - [`Keys::hash`] places connections in the index, once or twice per packet. It folds two 64x64-bit multiplications
//!   of the addresses, each masked with 64 secret bits, and is fast. An attacker who does not know the secret cannot
//!   choose addresses that collide. Even if he could, the index never looks at more than two buckets (see `index`), so
//!   collisions would cost him his own new connections, and no one else any work.
//! - [`Keys::choose`] picks what an attacker may see but must not predict (ports, servers of a group, identifications).
//!   It is SipHash-1-3, a pseudo-random function.

use crate::connection::Direction;
use crate::endpoint::Endpoint;
use crate::wire::flow::Flow;
#[cfg(target_pointer_width = "64")]
use crate::wire::flow::Shape;
use crate::wire::ipv4::UDP;

/// The secret, expanded for use: four words for [`Keys::hash`], and two for [`Keys::choose`].
#[derive(Clone)]
pub(crate) struct Keys([u64; 6]);

impl core::fmt::Debug for Keys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Keys that have not been derived yet.
    pub(crate) const NONE: Self = Self([0; 6]);

    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let mut keys = Self::NONE;
        keys.derive(secret);
        keys
    }

    /// The same in place.
    pub(crate) fn derive(&mut self, secret: &[u8; 32]) {
        let (words, _) = secret.as_chunks::<8>();
        let mut key = [0_u64; 4];
        for (slot, word) in key.iter_mut().zip(words) {
            *slot = u64::from_le_bytes(*word);
        }
        // Each use gets its own keys, derived by the pseudo-random function, so that what one of them leaks reveals
        // nothing about another.
        let [k0, k1, k2, k3] = key;
        let root = Self([0, 0, 0, 0, k0, k1]);
        for (use_of, key) in self.0.iter_mut().enumerate() {
            *key = root.choose(Label::Derive, [k2 ^ use_of as u64, k3]);
        }
        // The last factor must be odd, so that the multiplication loses no information.
        self.0[3] |= 1;
    }

    /// The hash of a connection's key, for its place in the index. On a small processor it is compiled once.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) const fn hash(&self, key: &Key) -> u64 {
        let [k0, k1, k2, k3, ..] = self.0;
        let first = fold(key.addresses ^ k0, key.ports ^ k1);
        fold(first ^ k2, k3)
    }

    /// The hash of a client, for the place of its count.
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

    /// A number that an attacker cannot predict, always the same for the same words.
    #[inline(never)]
    pub(crate) fn choose(&self, label: Label, words: [u64; 2]) -> u64 {
        let [.., k0, k1] = self.0;
        sip13((k0 ^ label as u64, k1), words)
    }
}

/// SipHash-1-3 of two words, taken as their 16 bytes, lowest first.
///
/// A library's version hashes any number of bytes, and takes three times the flash. A test compares this one with it.
// Called once in `Keys` and once in `Sharding`, which small images do without.
#[inline(always)]
pub(crate) fn sip13(key: (u64, u64), words: [u64; 2]) -> u64 {
    const BYTES: u64 = 16 << 56;
    sip(key, [words[0], words[1], BYTES], (1, 3))
}

/// SipHash of words, the last of which has the length of all bytes in its top byte: `each` rounds after each word, and
/// `last` rounds at the end. It is compiled once for a small processor that needs several numbers of rounds.
#[cfg_attr(any(target_pointer_width = "64", not(feature = "naming")), inline(always))]
#[cfg_attr(all(not(target_pointer_width = "64"), feature = "naming"), inline(never))]
pub(crate) fn sip((k0, k1): (u64, u64), words: [u64; 3], (each, last): (usize, usize)) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    for word in words {
        v[3] ^= word;
        for _ in 0..each {
            sip_round(&mut v);
        }
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..last {
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
    #[cfg(feature = "naming")]
    Name,
    #[cfg(feature = "naming")]
    Cookie,
    #[cfg(feature = "naming")]
    Relay,
}

/// A pair of endpoints and a protocol, packed for hashing and comparison, with the near endpoint (client or
/// alternative) in the upper halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) addresses: u64,
    pub(crate) ports: u64,
}

impl Key {
    /// The key of an address alone; no connection has such a key.
    const fn of_address(address: u32) -> Self {
        Self { addresses: address as u64, ports: u64::MAX }
    }

    /// From packed addresses and ports, with the near end in the upper half.
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

    /// Both ends, the near one first.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) const fn ends(self) -> (Endpoint, Endpoint) {
        let near = Endpoint::new((self.addresses >> 32) as u32, (self.ports >> 32) as u16);
        (near, Endpoint::new(self.addresses as u32, (self.ports >> 16) as u16))
    }

    /// The flow of a whole packet from the near end to the far end.
    #[cfg(target_pointer_width = "64")]
    pub(crate) const fn flow(self) -> Flow {
        let (source, destination) = self.ends();
        Flow {
            source: source.address,
            destination: destination.address,
            source_port: source.port,
            destination_port: destination.port,
            protocol: self.ports as u8,
            shape: Shape::Whole,
        }
    }

    /// The key of the connection that a packet belongs to if it goes in this direction.
    pub(crate) const fn of(flow: &Flow, direction: Direction) -> Self {
        let (source, destination) = (flow.source_endpoint(), flow.destination_endpoint());
        match direction {
            Direction::ToServer => Self::new(flow.protocol, source, destination),
            Direction::ToClient => Self::new(flow.protocol, destination, source),
        }
    }

    /// The key that packets from any port of a server use to find the UDP connection they belong to. No packet has it
    /// itself: there is no protocol with that number.
    pub(crate) const fn of_any_port_replies(near: Endpoint, server: u32) -> Self {
        let key = Self::new(UDP, near, Endpoint::new(server, 0));
        Self { ports: key.ports | ALL_PORTS, ..key }
    }

    #[inline(always)]
    pub(super) const fn is_of_siblings(self) -> bool {
        self.ports & ALL_PORTS != 0
    }

    #[inline]
    pub(crate) const fn new(protocol: u8, near: Endpoint, far: Endpoint) -> Self {
        Self {
            addresses: (near.address as u64) << 32 | far.address as u64,
            ports: (near.port as u64) << 32 | (far.port as u64) << 16 | protocol as u64,
        }
    }
}

/// A bit above the protocol's number in the keys of [`Key::of_any_port_replies`].
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
            let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
            assert_eq!(sip13((k0, k1), [a, b]), SipHasher13::new_with_keys(k0, k1).hash(&bytes));
        }
    }
}

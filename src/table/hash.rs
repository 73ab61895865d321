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

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::connection::Direction;
use crate::wire::flow::Flow;

/// The secret, laid out for use.
#[derive(Clone)]
pub(crate) struct Keys {
    fold: [u64; 4],
    sip: (u64, u64),
}

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
        let derive = |label: u64| {
            let mut hasher = SipHasher13::new_with_keys(key[0] ^ key[2], key[1] ^ key[3].rotate_left(32));
            hasher.write_u64(label);
            hasher.write(secret);
            hasher.finish()
        };
        Self { fold: [derive(1), derive(2), derive(3), derive(4) | 1], sip: (derive(5), derive(6)) }
    }

    /// Where a connection's key is placed.
    #[inline]
    pub(crate) const fn hash(&self, key: Key) -> u64 {
        let [k0, k1, k2, k3] = self.fold;
        let first = fold(key.addresses ^ k0, key.ports ^ k1);
        fold(first ^ k2, k3)
    }

    /// A number that a stranger cannot foresee, the same for the same words.
    pub(crate) fn choose(&self, label: Label, words: [u64; 2]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.sip.0 ^ label as u64, self.sip.1);
        hasher.write_u64(words[0]);
        hasher.write_u64(words[1]);
        hasher.finish()
    }
}

/// What a choice is for.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Label {
    Port = 1,
    Alternative,
    Server,
    Client,
    Identification,
}

/// A pair of endpoints and a protocol, packed for hashing and comparison: the nearer endpoint (client or alternative)
/// in the upper halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) addresses: u64,
    pub(crate) ports: u64,
}

impl Key {
    /// From addresses and ports that are packed already, the nearer in the upper half.
    #[inline]
    pub(crate) const fn packed(protocol: u8, addresses: u64, ports: u32) -> Self {
        Self { addresses, ports: (ports as u64) << 16 | protocol as u64 }
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

    #[inline]
    pub(crate) const fn new(protocol: u8, near: (u32, u16), far: (u32, u16)) -> Self {
        Self {
            addresses: (near.0 as u64) << 32 | far.0 as u64,
            ports: (near.1 as u64) << 32 | (far.1 as u64) << 16 | protocol as u64,
        }
    }
}

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

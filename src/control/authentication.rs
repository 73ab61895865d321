//! Keys, the rights of each, and the tags that authenticate datagrams.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use hmac::digest::{CtOutput, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroize;

use crate::endpoint::Prefix;

/// Length in bytes of the tag at the end of each datagram: the first half of an HMAC-SHA-256 (RFC 2104, RFC 6234; RFC
/// 2104, section 5, allows half and not less).
pub(super) const TAG: usize = 16;

/// Length in bytes of a nonce.
pub(super) const NONCE: usize = 16;

/// A number that is used once.
pub(super) type Nonce = [u8; NONCE];

/// A 256-bit secret: a distributed key, a session key, or an agent's own secret from its machine's source of
/// randomness. Wiped when it is dropped.
#[derive(Clone)]
pub(super) struct Secret(pub(crate) [u8; 32]);

impl Zeroize for Secret {
    /// Not inlined: secrets are dropped in many places.
    #[inline(never)]
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The HMAC of these parts, concatenated.
    ///
    /// Not inlined, so that there is only one copy of the code around the hash.
    #[inline(never)]
    fn mac(&self, parts: &[&[u8]]) -> CtOutput<Hmac<Sha256>> {
        // HMAC pads a key with zeros to one block of the hash (RFC 2104, section 2).
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(self.0) {
            *to = from;
        }
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block);
        block.as_mut_slice().zeroize();
        for part in parts {
            mac.update(part);
        }
        mac.finalize()
    }

    /// All 32 bytes, for deriving another key.
    fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.mac(parts).into_bytes().into()
    }

    /// The tag of a datagram.
    pub(super) fn tag(&self, bytes: &[u8]) -> [u8; TAG] {
        first_half(&self.derive(&[bytes]))
    }

    /// Whether a whole datagram ends with its tag. The time taken depends on the length alone.
    #[inline(never)]
    pub(super) fn verifies(&self, datagram: &[u8]) -> bool {
        let Some((said, tag)) = datagram.split_last_chunk::<TAG>() else {
            return false;
        };
        let mac = self.mac(&[said]);
        // Fill in the part that the tag omits, to compare all bytes in constant time.
        let mut claimed = *mac.as_bytes();
        for (to, from) in claimed.iter_mut().zip(tag) {
            *to = *from;
        }
        mac == CtOutput::new(claimed)
    }

    /// The translator's nonce for a session, derived from the agent's own secret. It is computed again from each
    /// request, so that a request costs no memory, and no one else can predict it. It differs for each address that
    /// asks, so that a session can only be opened from the address that its challenge was sent to.
    pub(super) fn challenge(&self, key: u16, number: u32, client: &Nonce, from: &SocketAddr) -> Nonce {
        let port = from.port().to_be_bytes();
        let (v4, v6);
        let address: &[u8] = match from {
            SocketAddr::V4(from) => {
                v4 = from.ip().octets();
                &v4
            }
            SocketAddr::V6(from) => {
                v6 = from.ip().octets();
                &v6
            }
        };
        first_half(&self.derive(&[b"challenge", &key.to_be_bytes(), &number.to_be_bytes(), client, &port, address]))
    }

    /// The key of a session, derived from a distributed key.
    pub(super) fn session(&self, key: u16, number: u32, client: &Nonce, server: &Nonce) -> Self {
        Self(self.derive(&[b"byway control 1 session", &key.to_be_bytes(), &number.to_be_bytes(), client, server]))
    }
}

fn first_half(bytes: &[u8; 32]) -> [u8; TAG] {
    let mut half = [0; TAG];
    for (to, from) in half.iter_mut().zip(bytes) {
        *to = *from;
    }
    half
}

/// What the owner of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Rights {
    /// Read: rules, connections, counters, settings and events.
    Read,
    /// Read; and insert, update, remove and re-divert rules whose destinations are within this prefix.
    Divert(Prefix),
    /// Everything.
    All,
}

impl Rights {
    /// Whether they permit changing a rule for these destinations.
    #[inline(never)]
    pub(super) const fn cover(self, destinations: Prefix) -> bool {
        match self {
            Self::Read => false,
            Self::Divert(prefix) => destinations.length() >= prefix.length() && prefix.contains(destinations.network()),
            Self::All => true,
        }
    }

    pub(super) const fn parts(self) -> (u8, Prefix) {
        match self {
            Self::Read => (0, Prefix::host(Ipv4Addr::UNSPECIFIED)),
            Self::Divert(prefix) => (1, prefix),
            Self::All => (2, Prefix::ALL),
        }
    }

    pub(super) const fn from_parts(kind: u8, prefix: Prefix) -> Option<Self> {
        match kind {
            0 => Some(Self::Read),
            1 => Some(Self::Divert(prefix)),
            2 => Some(Self::All),
            _ => None,
        }
    }
}

/// A key that both sides know, and the rights of its owner.
///
/// Its secret is wiped from memory when it is dropped or removed, as are the secrets of sessions and the states of
/// hashes. The caller's own copies of a secret are not wiped, and neither are those that stay in memory when the
/// compiler moves a value.
#[derive(Clone)]
pub struct Key {
    pub(super) id: u16,
    pub(super) secret: Secret,
    pub(super) rights: Rights,
}

impl Key {
    /// A key. The `id` identifies it and is not secret. The `secret` must come from a source of randomness, not be
    /// chosen by a person: anyone who sees one datagram can try guesses at it.
    #[must_use]
    pub const fn new(id: u16, secret: [u8; 32], rights: Rights) -> Self {
        Self { id, secret: Secret(secret), rights }
    }

    /// The number that identifies it.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// What its owner may do.
    #[must_use]
    pub const fn rights(&self) -> Rights {
        self.rights
    }
}

impl fmt::Debug for Key {
    /// Everything but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("rights", &self.rights).finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Key {
    /// Everything but the secret.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Key {{ id: {}, rights: {} }}", self.id, self.rights);
    }
}

/// Why a key was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum KeyError {
    /// There is another key with this number.
    Taken {
        /// The number.
        id: u16,
    },
    /// There is no room for another key.
    Full {
        /// The number of the key that does not fit.
        id: u16,
        /// How many keys there is room for.
        capacity: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { id } => write!(f, "there is another key {id}"),
            Self::Full { id, capacity } => write!(f, "no room for key {id}: there are {capacity} already"),
        }
    }
}

impl core::error::Error for KeyError {}

/// All keys; those in use come first. All zeros when empty, so that an agent in a `static` takes no flash.
#[derive(Clone, Debug)]
pub(super) struct Keys<const N: usize> {
    keys: [Key; N],
    count: usize,
}

impl<const N: usize> Keys<N> {
    pub(super) const NONE: Self = Self { keys: [const { Key::new(0, [0; 32], Rights::Read) }; N], count: 0 };

    #[inline(never)]
    pub(super) fn get(&self, id: u16) -> Option<&Key> {
        self.keys.iter().take(self.count).find(|k| k.id == id)
    }

    /// Adds a key. False if there is no room.
    pub(super) fn push(&mut self, key: Key) -> bool {
        let place = self.keys.get_mut(self.count);
        let pushed = place.map(|place| *place = key).is_some();
        self.count += usize::from(pushed);
        pushed
    }

    /// Removes a key. False if there was none.
    pub(super) fn remove(&mut self, id: u16) -> bool {
        let Some(place) = self.keys.iter().take(self.count).position(|k| k.id == id) else {
            return false;
        };
        // The last key takes the place of the removed one, and no secret stays in its old place.
        if let Some((hole, rest)) = self.keys.get_mut(place..self.count).and_then(<[Key]>::split_first_mut) {
            let last = rest.last_mut().unwrap_or(hole);
            let moved = core::mem::replace(last, Key::new(0, [0; 32], Rights::Read));
            self.count -= 1;
            if place < self.count
                && let Some(hole) = self.keys.get_mut(place)
            {
                *hole = moved;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, section 4.2 (test case 1, whose key is padded with zeros to 32 bytes: the HMAC is the same).
    #[test]
    fn the_hash_is_the_one_of_the_rfc() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let tag = [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b, 0xf1, 0x2b];
        assert_eq!(Secret(key).tag(b"Hi There"), tag);
        let whole = [&b"Hi There"[..], &tag].concat();
        assert!(Secret(key).verifies(&whole));
        for i in 0..whole.len() {
            let mut other = whole.clone();
            other[i] ^= 1;
            assert!(!Secret(key).verifies(&other), "{i}");
            assert!(!Secret(key).verifies(&whole[..i]), "{i}");
        }
    }

    #[test]
    fn keys_come_and_go() {
        let mut keys = Keys::<3>::NONE;
        for id in 1..=3 {
            assert!(keys.push(Key::new(id, [id as u8; 32], Rights::All)));
        }
        assert!(!keys.push(Key::new(4, [4; 32], Rights::All)));
        for (gone, left) in [(1, [2, 3].as_slice()), (3, &[2]), (2, &[])] {
            assert!(keys.remove(gone) && !keys.remove(gone) && keys.get(gone).is_none());
            for id in left {
                assert_eq!(keys.get(*id).unwrap().secret.0, [*id as u8; 32]);
            }
            assert_eq!(keys.count, left.len());
            assert!(keys.keys[keys.count..].iter().all(|k| k.secret.0 == [0; 32]));
        }
    }

    #[test]
    fn rights_end_at_the_prefix() {
        let prefix = |length| Prefix::new(Ipv4Addr::new(10, 1, 0, 0), length).unwrap();
        let rights = Rights::Divert(prefix(16));
        assert!(rights.cover(prefix(16)) && rights.cover(prefix(32)));
        assert!(!rights.cover(prefix(15)) && !rights.cover(Prefix::ALL));
        assert!(!rights.cover(Prefix::host(Ipv4Addr::new(10, 2, 0, 0))));
        assert!(Rights::All.cover(Prefix::ALL) && !Rights::Read.cover(prefix(32)));
    }

    #[test]
    fn secrets_are_wiped() {
        let mut secret = Secret([0xab; 32]);
        secret.zeroize();
        assert_eq!(secret.0, [0; 32]);
        assert!(core::mem::needs_drop::<Secret>() && core::mem::needs_drop::<Key>());
        // Fails to compile if the hashes do not wipe their states.
        fn wiped(_: &impl zeroize::ZeroizeOnDrop) {}
        wiped(&Sha256::default());
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = std::format!("{:?} {:?}", Key::new(1, [0xab; 32], Rights::All), Secret([0xab; 32]));
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab,"));
    }
}

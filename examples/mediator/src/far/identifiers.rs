//! Message identifiers, by which a server tells a new message from a repetition.
//!
//! A server answers a repetition from memory, so an identifier must not be used again for [`EXCHANGE_LIFETIME`] between the
//! same two endpoints (RFC 7252, section 4.4). To a server our endpoint is an alternative address and port. byway gives one
//! to several connections in turn, also sooner than that after an instruction, and a transfer that stays at its server
//! ([`bypass`](super::bypass)) uses one that byway may have given to another connection already. Identifiers therefore belong
//! to the alternative endpoint, whoever sends from there and to whichever server.

use core::hash::{Hash, Hasher};
use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::HashMap;

use byway::Instant;
use siphasher::sip::SipHasher13;

/// For how long a server may remember a message (RFC 7252, section 4.8.2).
pub const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

/// How many identifiers an endpoint uses in each period of [`EXCHANGE_LIFETIME`]: half of them, since any such span of time
/// overlaps with two periods.
const PER_PERIOD: u32 = 1 << 15;

/// With so many endpoints those that have not been used lately are forgotten for the first time.
const MANY: usize = 1024;

/// The identifiers of all alternative endpoints.
#[derive(Debug)]
pub(super) struct Identifiers {
    of: HashMap<SocketAddrV4, Sequence>,
    /// With so many endpoints some are forgotten.
    many: usize,
    key: u64,
}

impl Identifiers {
    /// `key` makes it unpredictable with which one an endpoint begins, so that it is hardly where it was before a restart.
    pub(super) fn new(key: u64) -> Self {
        Self { of: HashMap::new(), many: MANY, key }
    }

    /// Whether an endpoint has one.
    pub(super) fn any(&self, at: SocketAddrV4, now: Instant) -> bool {
        self.of.get(&at).is_none_or(|sequence| sequence.any(now))
    }

    /// The next one of an endpoint.
    pub(super) fn take(&mut self, at: SocketAddrV4, now: Instant) -> Option<u16> {
        if self.of.len() >= self.many && !self.of.contains_key(&at) {
            self.of.retain(|_, sequence| !sequence.is_forgotten(now));
            self.many = MANY.max(2 * self.of.len());
        }
        let key = self.key;
        let first = || {
            let mut hasher = SipHasher13::new_with_keys(key, 0);
            at.hash(&mut hasher);
            hasher.finish() as u16
        };
        self.of.entry(at).or_insert_with(|| Sequence::new(first(), now)).take(now)
    }
}

/// Identifiers, none of which is used twice within [`EXCHANGE_LIFETIME`].
#[derive(Clone, Copy, Debug)]
struct Sequence {
    next: u16,
    used: u32,
    since: Instant,
}

impl Sequence {
    const fn new(first: u16, now: Instant) -> Self {
        Self { next: first, used: 0, since: now }
    }

    fn any(&self, now: Instant) -> bool {
        self.used < PER_PERIOD || now >= self.since + EXCHANGE_LIFETIME
    }

    fn take(&mut self, now: Instant) -> Option<u16> {
        if now >= self.since + EXCHANGE_LIFETIME {
            (self.used, self.since) = (0, now);
        }
        if self.used >= PER_PERIOD {
            return None;
        }
        self.used += 1;
        let id = self.next;
        self.next = id.wrapping_add(1);
        Some(id)
    }

    /// Whether each may be used again: the last one was used within a lifetime after `since`.
    fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.since + 2 * EXCHANGE_LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn at(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 10, 10, 10), port)
    }

    #[test]
    fn no_identifier_is_used_twice_within_the_lifetime_of_an_exchange() {
        let (mut now, mut last) = (Instant::from_millis(5), HashMap::new());
        let mut ids = Identifiers::new(7);
        let mut given = 0;
        // As fast as it can, for five lifetimes, in steps that do not divide it.
        for _ in 0..1300 {
            while let Some(id) = ids.take(at(1), now) {
                given += 1;
                if let Some(earlier) = last.insert(id, now) {
                    assert!(now.duration_since(earlier) >= EXCHANGE_LIFETIME, "{id}");
                }
            }
            assert!(!ids.any(at(1), now) && ids.any(at(2), now));
            now = now + Duration::from_millis(977);
        }
        assert!(given >= 5 * PER_PERIOD);
    }

    /// An endpoint is forgotten only when no server remembers what came from there.
    #[test]
    fn endpoints_that_are_not_used_any_more_take_no_room_for_ever() {
        let (mut now, mut last) = (Instant::ZERO, HashMap::new());
        let mut ids = Identifiers::new(7);
        for round in 0..20_u16 {
            for number in 0..2000 {
                // Half of them are used in each round.
                let at = at(if number % 2 == 0 { number } else { 2000 * round + number });
                let id = ids.take(at, now).unwrap();
                if let Some(earlier) = last.insert((at, id), now) {
                    assert!(now.duration_since(earlier) >= EXCHANGE_LIFETIME, "{at} {id}");
                }
            }
            now = now + Duration::from_secs(61);
        }
        assert!(ids.of.len() <= 20_000, "{}", ids.of.len());
    }
}

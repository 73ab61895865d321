//! Lanes: the stack's UDP sockets, each with its port and its message identifiers.
//!
//! To byway a lane and an HTTP client's address are one client endpoint, so they are one connection for each origin.
//! Two things make a lane unusable for new transfers:
//!
//! - **The rules have changed.** byway leaves connections on their server when a rule changes or is drained, and a lane
//!   that is never idle would stay there for ever. New transfers therefore take a lane whose port is younger than the
//!   last instruction.
//! - **Its message identifiers are used up.** One must not be used again for [`EXCHANGE_LIFETIME`] (RFC 7252, section
//!   4.4): servers answer a repetition from memory.

use core::time::Duration;

use byway::Instant;

/// For how long a server may remember a message (RFC 7252, section 4.8.2).
pub const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

/// How many identifiers a lane uses in each period of [`EXCHANGE_LIFETIME`]: half of them, since any such span of time
/// overlaps with two periods.
const PER_PERIOD: u32 = 1 << 15;

/// How many lanes there are at most: 8490 messages a second for ever, and two million at once.
pub const MAX_LANES: usize = 64;

/// The number of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub(super) usize);

/// Message identifiers, none of which is used twice within [`EXCHANGE_LIFETIME`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Identifiers {
    next: u16,
    used: u32,
    since: Instant,
}

impl Identifiers {
    pub(super) const fn new(first: u16, now: Instant) -> Self {
        Self { next: first, used: 0, since: now }
    }

    /// Whether there is one.
    pub(super) fn any(&self, now: Instant) -> bool {
        self.used < PER_PERIOD || now >= self.since + EXCHANGE_LIFETIME
    }

    /// The next one.
    pub(super) fn take(&mut self, now: Instant) -> Option<u16> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn no_identifier_is_used_twice_within_the_lifetime_of_an_exchange() {
        let (mut now, mut last) = (Instant::from_millis(5), HashMap::new());
        let mut ids = Identifiers::new(65_000, now);
        let mut given = 0;
        // As fast as it can, for five lifetimes, in steps that do not divide it.
        for _ in 0..1300 {
            while let Some(id) = ids.take(now) {
                given += 1;
                if let Some(earlier) = last.insert(id, now) {
                    assert!(now.duration_since(earlier) >= EXCHANGE_LIFETIME, "{id}");
                }
            }
            assert!(!ids.any(now));
            now = now + Duration::from_millis(977);
        }
        assert!(given >= 5 * PER_PERIOD);
    }
}

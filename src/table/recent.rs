//! Alternative endpoints that a connection has left recently, because it ended or moved.
//!
//! Such an endpoint must not be given to another connection with the same server for 120 s (RFC 6888, REQ-8): packets
//! that the server still sends to it would reach the wrong client. A connection that ends normally quarantines its
//! endpoint in its slot. One that is evicted because the table is full, or moved by a re-divert, has no slot for that;
//! one bit here remembers its endpoint instead. Many endpoints share a bit. A shared bit only costs another attempt to
//! find a port, so the place of an endpoint's bit needs no key: it depends on the port, which was chosen at random.
//!
//! There is one set of bits for the current time-out and one for the previous one, so that each endpoint is remembered
//! for at least one time-out, and for up to two where connections come and go. A set takes at most [`MOST`] endpoints:
//! with two full sets, four attempts in ten still find an endpoint whose bit is not in use, so that a flood costs an
//! attempt or two and not a hundred. Further endpoints are not remembered, and only the random choice among all ports
//! protects them. When half of all attempts (`ATTEMPTS` in `ports`) have failed, the others take any port that is free:
//! a shared bit never prevents a connection.

use crate::endpoint::Endpoint;
use crate::time::Tick;

const WORDS: usize = 32;

/// How many endpoints a set takes: half as many as it has bits.
const MOST: u16 = 256;

/// The endpoints that were left recently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recent {
    /// The lower half of each word has sixteen bits of the current set, the upper half those of the previous one.
    words: [u32; WORDS],
    since: Tick,
    /// How many endpoints the current set has taken.
    added: u16,
}

impl Recent {
    pub(crate) const EMPTY: Self = Self { words: [0; WORDS], since: Tick(0), added: 0 };

    /// Moves on to the next set if the current one is more than `hold` ticks old, and forgets the previous one. Call it
    /// for each new connection; endpoints that are added between calls count from the last call.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn advance(&mut self, now: Tick, hold: u32) {
        if now.since_past(self.since) > hold {
            (self.since, self.added) = (now, 0);
            for word in &mut self.words {
                *word <<= 16;
            }
        }
    }

    /// Remembers that this alternative endpoint was left towards this server, if there is room.
    pub(crate) fn add(&mut self, alternative: Endpoint, server: u32) {
        let (word, bits) = place(alternative, server);
        if self.added < MOST
            && let Some(word) = self.words.get_mut(word)
        {
            *word |= bits & 0xffff;
            self.added += 1;
        }
    }

    /// Whether this alternative endpoint may have been left towards this server.
    pub(crate) fn may_hold(&self, alternative: Endpoint, server: u32) -> bool {
        let (word, bits) = place(alternative, server);
        self.words.get(word).is_some_and(|word| word & bits != 0)
    }
}

/// The word of an endpoint, and its bit in both sets.
const fn place(alternative: Endpoint, server: u32) -> (usize, u32) {
    let mixed = alternative.address ^ alternative.port as u32 ^ server;
    ((mixed >> 4) as usize % WORDS, 0x0001_0001 << (mixed & 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: u32 = 100;

    const SERVER: u32 = 0xc633_6401;

    /// The nth of a sequence of endpoints that looks random.
    fn nth(n: u32) -> Endpoint {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b1);
        Endpoint::new(0x0a0a_0a0a, ((mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b) >> 13) as u16)
    }

    #[test]
    fn what_was_left_is_remembered_for_one_time_out_and_forgotten_after_two() {
        for left in (0..=1_000).step_by(7) {
            let mut recent = Recent::EMPTY;
            for tick in 0..left {
                recent.advance(Tick(tick), HOLD);
                recent.add(nth(tick % 3), SERVER);
            }
            recent.advance(Tick(left), HOLD);
            recent.add(nth(77), SERVER);
            for tick in left..left + 3 * HOLD {
                recent.advance(Tick(tick), HOLD);
                let age = tick - left;
                assert!(recent.may_hold(nth(77), SERVER) || age > HOLD, "{left}: forgotten after {age}");
                assert!(!recent.may_hold(nth(77), SERVER) || age <= 2 * HOLD + 2, "{left}: still there after {age}");
            }
        }
    }

    #[test]
    fn so_many_are_remembered_and_leave_room_for_others() {
        let mut recent = Recent::EMPTY;
        for n in 0..100_000 {
            recent.add(nth(n), SERVER);
        }
        recent.advance(Tick(HOLD + 1), HOLD);
        for n in 100_000..200_000 {
            recent.add(nth(n), SERVER);
        }
        let most = u32::from(MOST);
        assert!((0..most).chain(100_000..100_000 + most).all(|n| recent.may_hold(nth(n), SERVER)));
        let others = (1_000..2_000).filter(|n| !recent.may_hold(nth(*n), SERVER)).count();
        assert!((300..450).contains(&others), "{others} of 1000 other endpoints can be drawn");
    }
}

//! How many messages may be sent in a second (RFC 1812, section 4.3.2.8).

use core::time::Duration;

use byway::Instant;

/// A bucket of tokens: it fills at a rate, and holds what comes in a second.
#[derive(Clone, Debug)]
pub struct Limiter {
    per_second: u32,
    tokens: u32,
    filled: Instant,
}

impl Limiter {
    /// A full bucket that gives so many tokens a second. Zero gives none.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        Self { per_second, tokens: per_second, filled: Instant::ZERO }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.duration_since(self.filled);
        let new = elapsed.as_micros().saturating_mul(u128::from(self.per_second)) / 1_000_000;
        if new > 0 {
            let full = u128::from(self.tokens) + new >= u128::from(self.per_second);
            self.tokens = if full { self.per_second } else { self.tokens + new as u32 };
            // What is left of a token stays, unless the bucket is full.
            let used = Duration::from_micros((new * 1_000_000 / u128::from(self.per_second)) as u64);
            self.filled = if full { now } else { self.filled + used };
        }
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_the_limit_and_a_burst() {
        let mut limiter = Limiter::new(100);
        let mut taken = |millis| limiter.take(Instant::from_millis(millis));
        assert_eq!((0..500).filter(|_| taken(5_000)).count(), 100);
        assert_eq!((5_001..=15_000).filter(|now| taken(*now)).count(), 1_000);
        assert!(!taken(4_000), "time that runs backwards brings nothing");
        assert_eq!((0..500).filter(|_| taken(u64::MAX / 2_000)).count(), 100);
        assert!(!Limiter::new(0).take(Instant::from_secs(9)));
    }
}

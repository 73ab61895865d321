//! The clock of the translators.

use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 that never run backwards, so that the times in a snapshot and after the restart are on one clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    base: byway::Instant,
}

impl Clock {
    /// A clock that starts at the system time, or at `earliest` if that is later: the system clock may have been set back since.
    #[must_use]
    pub fn new(earliest: byway::Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { start: Instant::now(), base: (byway::Instant::ZERO + since).max(earliest) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> byway::Instant {
        self.base + self.start.elapsed()
    }
}

//! The time, as the translators want it.

use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 that never run backwards: so a snapshot's time and the time after the restart are on one
/// clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    base: byway::Instant,
}

impl Clock {
    /// A clock that shows the time, but not one before `earliest`: the machine's own may have been set back since.
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

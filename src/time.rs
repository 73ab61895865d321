//! Time as an argument: the library has no clock of its own.

use core::time::Duration;

/// A point in time, in microseconds since an arbitrary zero that the caller chooses once.
///
/// Zero may be the start of the program, the start of a capture, or 1970; only differences matter. A call whose time is
/// earlier than that of a previous call is treated as happening at the later time. The range ends after 584 942 years:
/// what would be due after that is due at once, so a loop around [`poll_at`](crate::Translator::poll_at) must not
/// come near the end.
///
/// ```
/// use byway::Instant;
/// use core::time::Duration;
///
/// let start = Instant::from_millis(1_500);
/// assert_eq!(start + Duration::from_secs(2), Instant::from_micros(3_500_000));
/// assert_eq!(start.duration_since(Instant::ZERO), Duration::from_millis(1_500));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant {
    micros: u64,
}

impl Instant {
    /// The caller's zero.
    pub const ZERO: Self = Self { micros: 0 };

    /// `micros` microseconds after the caller's zero.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// `millis` milliseconds after the caller's zero; saturates.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { micros: millis.saturating_mul(1_000) }
    }

    /// `secs` seconds after the caller's zero; saturates.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self { micros: secs.saturating_mul(1_000_000) }
    }

    /// Microseconds since the caller's zero.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        let (seconds, micros) = divide(self.micros_since(earlier));
        Duration::new(seconds, micros * 1_000)
    }

    /// Whole seconds since the caller's zero.
    #[cfg(feature = "naming")]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) const fn seconds(self) -> u32 {
        divide(self.micros).0 as u32
    }

    /// [`duration_since`](Self::duration_since) in microseconds.
    pub(crate) const fn micros_since(self, earlier: Self) -> u64 {
        self.micros.saturating_sub(earlier.micros)
    }

    /// `micros` microseconds later; saturates.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) const fn plus_micros(self, micros: u64) -> Self {
        Self { micros: self.micros.saturating_add(micros) }
    }

    pub(crate) const fn tick(self) -> Tick {
        Tick((self.micros >> Tick::SHIFT) as u32)
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the largest value.
    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self { micros: self.micros.saturating_add(micros) }
    }
}

/// Whole seconds, and the remaining microseconds. Small processors have no 64-bit division instruction, and a function
/// for any divisor takes 500 bytes of flash: so they use long division, with digits of 16 bits.
const fn divide(micros: u64) -> (u64, u32) {
    if cfg!(target_pointer_width = "64") {
        return (micros / 1_000_000, (micros % 1_000_000) as u32);
    }
    by_hand(micros)
}

const fn by_hand(micros: u64) -> (u64, u32) {
    // A million is 64 times this.
    const DIVISOR: u32 = 15_625;
    let (mut seconds, mut rest, mut digits) = (0, 0, micros >> 6);
    let mut count = 4;
    while count != 0 {
        count -= 1;
        rest = rest << 16 | (digits >> 48) as u32;
        digits <<= 16;
        seconds = seconds << 16 | (rest / DIVISOR) as u64;
        rest %= DIVISOR;
    }
    (seconds, rest << 6 | micros as u32 & 63)
}

/// Time as the tables store it: units of 2^16 microseconds (65.536 ms), modulo 2^32 (8.9 years).
///
/// A shift converts an [`Instant`], where milliseconds would take a 64-bit division, which a small processor does not
/// have. And 32 bits of milliseconds would wrap after 49 days; routers run longer than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    const SHIFT: u32 = 16;

    /// Ticks in `duration`, rounded up, so that nothing expires early.
    #[inline(never)]
    pub(crate) fn count(duration: &Duration) -> u32 {
        let Ok(seconds) = u32::try_from(duration.as_secs()) else {
            return u32::MAX;
        };
        // Testing the remainder, as `div_ceil` does, takes 16 bytes more on a small processor.
        #[allow(clippy::manual_div_ceil, reason = "see above")]
        let micros = (duration.subsec_nanos() + 999) / 1_000;
        let micros = u64::from(seconds) * 1_000_000 + u64::from(micros);
        let ticks = (micros + (1 << Self::SHIFT) - 1) >> Self::SHIFT;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Ticks since `earlier`. A time that appears to be in the future (by less than half the range) counts as now.
    #[inline]
    pub(crate) const fn since(self, earlier: Self) -> u32 {
        let elapsed = self.0.wrapping_sub(earlier.0);
        if elapsed > u32::MAX / 2 { 0 } else { elapsed }
    }

    /// Ticks since `past`, which was a present time once: never in the future, and up to 8.9 years ago.
    #[inline]
    pub(crate) const fn since_past(self, past: Self) -> u32 {
        self.0.wrapping_sub(past.0)
    }

    pub(crate) const fn plus(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// The first instant at which this tick has come, seen from `now`; `now` itself if it has come already. Saturates.
    pub(crate) fn instant(self, now: Instant) -> Instant {
        let ahead = self.0.wrapping_sub(now.tick().0);
        if ahead == 0 || ahead > u32::MAX / 2 {
            return now;
        }
        let ticks = (now.micros >> Self::SHIFT) + u64::from(ahead);
        Instant { micros: ticks.saturating_mul(1 << Self::SHIFT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_core() {
        let few = [0, 1, 63, 64, 999_999, 1_000_000, 1_999_999, 1_559_731_985_000_000, 1_559_731_985_999_999];
        let many = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, u64::MAX >> bit]);
        for micros in few.into_iter().chain(many) {
            let instant = Instant::from_micros(micros);
            assert_eq!(instant.duration_since(Instant::ZERO), Duration::from_micros(micros), "{micros}");
            assert_eq!(by_hand(micros), (micros / 1_000_000, (micros % 1_000_000) as u32), "{micros}");
        }
    }

    #[test]
    fn a_duration_is_never_rounded_down() {
        assert_eq!(Tick::count(&Duration::from_micros(0)), 0);
        assert_eq!(Tick::count(&Duration::from_micros(1)), 1);
        assert_eq!(Tick::count(&Duration::from_micros(65_536)), 1);
        assert_eq!(Tick::count(&Duration::from_micros(65_537)), 2);
        assert_eq!(Tick::count(&Duration::MAX), u32::MAX);
    }

    #[test]
    fn ticks_wrap_without_losing_their_order() {
        let before = Tick(u32::MAX - 1);
        assert_eq!(before.plus(5).since(before), 5);
        assert_eq!(before.since(before.plus(5)), 0);
    }

    #[test]
    fn a_tick_comes_back_as_the_first_instant_of_its_unit() {
        let now = Instant::from_micros(70_000);
        assert_eq!(now.tick(), Tick(1));
        assert_eq!(Tick(3).instant(now), Instant::from_micros(3 << 16));
        assert_eq!(Tick(0).instant(now), now);
    }
}

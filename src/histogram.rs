//! A histogram of times, with buckets of equal ratio.

use core::fmt;
use core::time::Duration;

/// Buckets in one octave, each 2^(1/4) times as long as the one before.
const PER_OCTAVE: u32 = 4;
/// Times below 2^4 µs share the first bucket.
const FIRST_OCTAVE: u32 = 4;
/// Octaves: from 16 µs to 67.1 s.
const OCTAVES: u32 = 22;
/// Buckets in all.
pub(crate) const BUCKETS: usize = (PER_OCTAVE * OCTAVES) as usize;

/// 2^(1/4), 2^(1/2) and 2^(3/4), times 2^31: where the buckets of an octave begin.
const STEPS: [u64; 4] = [1 << 31, 2_553_802_834, 3_037_000_500, 3_611_622_603];

/// How often times of each length occurred.
///
/// Four buckets to each factor of two, from 16 µs to 67 s: a time that [`percentile`](Self::percentile) returns is at
/// most 9 % from the true one within these bounds. Times below 16 µs are in the first bucket, those above 67.1 s in the
/// last. Counts wrap around at 2^32, so that [`since`](Self::since) is right as long as fewer times than that were
/// added in between.
///
/// ```
/// use byway::Histogram;
/// use core::time::Duration;
///
/// let mut times = Histogram::default();
/// (1..=100).for_each(|millis| times.add(Duration::from_millis(millis)));
/// let median = times.percentile(50.0).unwrap().as_secs_f64();
/// assert!((median / 0.050 - 1.0).abs() < 0.09);
/// assert_eq!((times.count(), times.mean()), (100, Some(Duration::from_micros(50_500))));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u32; BUCKETS],
    /// Microseconds, wrapping around.
    sum: u64,
}

impl Histogram {
    /// No times.
    pub const EMPTY: Self = Self { buckets: [0; BUCKETS], sum: 0 };

    /// The counts of all buckets, and the sum of all times in microseconds.
    #[cfg(feature = "control")]
    pub(crate) const fn raw(&self) -> (&[u32; BUCKETS], u64) {
        (&self.buckets, self.sum)
    }

    /// A histogram of these counts and this sum, without checking that they are consistent.
    #[cfg(feature = "control")]
    pub(crate) const fn from_raw(buckets: [u32; BUCKETS], sum: u64) -> Self {
        Self { buckets, sum }
    }

    /// The sum of all times in microseconds.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        self.add_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds a time in microseconds.
    #[inline]
    pub(crate) fn add_micros(&mut self, micros: u64) {
        self.sum = self.sum.wrapping_add(micros);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(micros)) {
            *bucket = bucket.wrapping_add(1);
        }
    }

    /// How many times there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| u64::from(*bucket)).sum()
    }

    /// The sum of all times; exact, not from the buckets.
    #[must_use]
    pub const fn total(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// The mean; exact, not from the buckets. `None` if there are no times.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count()).map(Duration::from_micros)
    }

    /// The time that at least this many per cent of all times do not exceed: 50 for the median. `None` if there are no
    /// times. Below 0 counts as 0 and above 100 as 100.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = count as f64 * percent.clamp(0.0, 100.0) / 100.0;
        // The number of times that must not be longer, rounded up; casting NaN gives zero.
        let rank = (wanted as u64 + u64::from(wanted > wanted as u64 as f64)).max(1);
        let mut seen = 0;
        let place = self.buckets.iter().position(|bucket| {
            seen += u64::from(*bucket);
            seen >= rank
        })?;
        Some(middle(place))
    }

    /// The buckets that are not empty: the least time of the bucket, the first time beyond it, and the number of times
    /// in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u32)> + '_ {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count != 0);
        filled.map(|(place, count)| (start(place), start(place + 1), *count))
    }

    /// What has been added since `earlier`, an earlier copy of this histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut new = *self;
        new.sum = new.sum.wrapping_sub(earlier.sum);
        for (bucket, before) in new.buckets.iter_mut().zip(earlier.buckets) {
            *bucket = bucket.wrapping_sub(before);
        }
        new
    }

    /// Adds all times of another one.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.wrapping_add(more);
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for Histogram {
    /// The buckets that have times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets().map(|(from, to, count)| (from..to, count))).finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Histogram {
    /// How many times there are, and their sum in microseconds.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Histogram {{ count: {}, sum: {} us }}", self.count(), self.sum);
    }
}

/// The bucket of a time in microseconds.
#[inline]
fn bucket_of(micros: u64) -> usize {
    let Some(octave) = micros.checked_ilog2().and_then(|log| log.checked_sub(FIRST_OCTAVE)) else {
        return 0;
    };
    if octave >= OCTAVES {
        return BUCKETS - 1;
    }
    // The leading 32 bits: from 2^31 on.
    let leading = (micros << 31) >> (octave + FIRST_OCTAVE);
    let step = STEPS.iter().skip(1).filter(|step| leading >= **step).count();
    octave as usize * PER_OCTAVE as usize + step
}

/// Where a bucket begins. The first one begins at zero.
fn start(place: usize) -> Duration {
    let (octave, step) = (place as u32 / PER_OCTAVE + FIRST_OCTAVE, place % PER_OCTAVE as usize);
    if place == 0 {
        return Duration::ZERO;
    }
    let step = STEPS.get(step).copied().unwrap_or(1 << 31);
    // Rounded up: the least number of microseconds that the bucket takes.
    Duration::from_micros((step << octave).div_ceil(1 << 31))
}

/// The time whose relative error is the same at both ends of a bucket, so that the largest error is as small as
/// possible.
fn middle(place: usize) -> Duration {
    let (octave, step) = (place as u32 / PER_OCTAVE + FIRST_OCTAVE, place % PER_OCTAVE as usize);
    let step = STEPS.get(step).copied().unwrap_or(1 << 31);
    // 2 a b / (a + b) of a bucket from a to b = 2^(1/4) a: 1.0864 a.
    Duration::from_nanos((step * 10_864 / 10_000 * 1_000) >> (31 - octave))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_time_lies_in_its_bucket() {
        for place in 0..BUCKETS {
            let (from, to) = (start(place).as_micros() as u64, start(place + 1).as_micros() as u64);
            assert!(from < to, "{place}");
            for micros in [from, (from + to) / 2, to - 1] {
                assert_eq!(bucket_of(micros), place, "{micros}");
            }
        }
        assert_eq!(start(BUCKETS), Duration::from_micros(1 << 26));
        assert_eq!([0, 15, 1 << 26, u64::MAX].map(bucket_of), [0, 0, BUCKETS - 1, BUCKETS - 1]);
    }

    proptest! {
        /// Against the sorted list of the times themselves.
        #[test]
        fn a_percentile_is_within_nine_per_cent(
            mut times in prop::collection::vec((4.0_f64..26.0).prop_map(|log| log.exp2() as u64), 1..300),
            percent in 0.0_f64..=100.0,
        ) {
            let mut histogram = Histogram::EMPTY;
            times.iter().for_each(|micros| histogram.add(Duration::from_micros(*micros)));
            times.sort_unstable();
            let rank = ((times.len() as f64 * percent / 100.0).ceil() as usize).max(1);
            let truth = times[rank - 1] as f64;
            let found = histogram.percentile(percent).unwrap().as_secs_f64() * 1e6;
            prop_assert!((found / truth - 1.0).abs() < 0.09, "{found} instead of {truth}");
            prop_assert_eq!(histogram.count(), times.len() as u64);
            prop_assert_eq!(histogram.total(), Duration::from_micros(times.iter().sum()));
        }

        /// The difference is what was added since, also when the counts have wrapped around.
        #[test]
        fn a_difference_is_what_was_added(
            before in prop::collection::vec(0_u64..1 << 27, 0..50),
            after in prop::collection::vec(0_u64..1 << 27, 0..50),
            wrapped in any::<u32>(),
        ) {
            let mut all = Histogram { buckets: [wrapped; BUCKETS], sum: u64::MAX - u64::from(wrapped) };
            let mut new = Histogram::EMPTY;
            before.iter().for_each(|micros| all.add_micros(*micros));
            let earlier = all;
            for micros in &after {
                all.add_micros(*micros);
                new.add_micros(*micros);
            }
            prop_assert_eq!(all.since(&earlier), new);
            let mut joined = earlier;
            joined.merge(&new);
            prop_assert_eq!(joined, all);
        }
    }

    #[test]
    fn nothing_has_no_percentile_and_odd_percentages_are_bounded() {
        assert_eq!((Histogram::EMPTY.percentile(50.0), Histogram::EMPTY.mean()), (None, None));
        let mut one = Histogram::EMPTY;
        one.add(Duration::from_millis(3));
        for percent in [-5.0, 0.0, 50.0, 100.0, 700.0, f64::NAN, f64::INFINITY] {
            assert_eq!(one.percentile(percent), one.percentile(50.0), "{percent}");
        }
        one.add(Duration::MAX);
        assert!(one.percentile(100.0).unwrap() > Duration::from_secs(56));
    }
}

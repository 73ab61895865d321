//! The clock of the translators.

use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A hand-over that took longer than this has not happened: the other process has another monotonic clock.
const LONGEST: Duration = Duration::from_secs(60);

/// Microseconds since 1970 that never run backwards, so that the times in a snapshot and after the restart are on one clock.
///
/// It is set by the system clock when the first process starts, and runs with `CLOCK_MONOTONIC` then. What the system clock
/// is set to later does not matter to it, nor to the processes that carry its connections on: else all of them would
/// age at once, or not at all. Time during which the machine is suspended does not count, in one process or over several.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// `CLOCK_MONOTONIC` at the start: a process cannot tell another what its [`Instant`] is.
    monotonic: Duration,
    base: byway::Instant,
}

impl Default for Clock {
    /// A clock that starts at the system time.
    fn default() -> Self {
        Self::new(byway::Instant::ZERO)
    }
}

impl Clock {
    /// A clock that starts at the system time, or at `earliest` if that is later: the system clock may have been set back since.
    #[must_use]
    pub fn new(earliest: byway::Instant) -> Self {
        Self::starting_at(system_time().max(earliest))
    }

    /// The clock of a process that has ended, and that was at `time` when the system clock said `written`. `None` for one that
    /// did not say so: its clock is taken for the system's.
    #[must_use]
    pub fn restarted(time: byway::Instant, written: Option<byway::Instant>) -> Self {
        match written {
            Some(written) => Self::starting_at(time + system_time().duration_since(written)),
            None => Self::new(time),
        }
    }

    /// The clock of another process of this machine, which was at `time` when its [`monotonic`](Self::monotonic) clock said
    /// `then`. `None` for one that did not say so: its clock is taken for the system's.
    #[must_use]
    pub fn after(time: byway::Instant, then: Option<Duration>) -> Self {
        let Some(then) = then else {
            return Self::new(time);
        };
        // In another time namespace it may have any value.
        let since = monotonic().checked_sub(then).filter(|since| *since <= LONGEST);
        Self::starting_at(time + since.unwrap_or_default())
    }

    fn starting_at(base: byway::Instant) -> Self {
        Self { start: Instant::now(), monotonic: monotonic(), base }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> byway::Instant {
        self.base + self.start.elapsed()
    }

    /// What `CLOCK_MONOTONIC` said at this time, for [`after`](Self::after).
    #[must_use]
    pub fn monotonic(&self, at: byway::Instant) -> Duration {
        self.monotonic + at.duration_since(self.base)
    }

    /// How much it is behind the system clock now, for those who want to know the time of the day.
    #[must_use]
    pub fn behind(&self) -> Duration {
        system_time().duration_since(self.now())
    }
}

/// The system clock: microseconds since 1970.
#[must_use]
pub fn system_time() -> byway::Instant {
    byway::Instant::ZERO + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

fn monotonic() -> Duration {
    // It is never negative.
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use byway::{Config, Divert, Heap, Target, Translator, Weighted};

    use super::*;
    use crate::packet::tests::udp;

    const DAY: Duration = Duration::from_secs(86_400);
    /// What a busy machine may take for a few lines.
    const SLACK: Duration = Duration::from_secs(20);

    fn a_day_ago() -> byway::Instant {
        byway::Instant::from_micros(system_time().as_micros() - DAY.as_micros() as u64)
    }

    fn translator() -> Translator<Heap> {
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(64, 16)).unwrap();
        let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
        translator.divert(Divert::parse("100.1.1.1 to 20.0.0.1", &mut room).unwrap()).unwrap();
        translator
    }

    /// How many connections are left of one that was used at `time`, on this clock.
    fn left(time: byway::Instant, clock: &Clock) -> usize {
        let (mut old, mut new) = (translator(), translator());
        let _ = old.translate(time, &mut udp([1, 2, 3, 4], [100, 1, 1, 1], &[7; 9]));
        for record in old.records() {
            new.import(time, &record).unwrap();
        }
        new.poll(clock.now());
        new.connections().count()
    }

    /// The old process started before the system clock was set: that is no time that has passed.
    #[test]
    fn connections_stay_whatever_the_system_clock_was_set_to() {
        let kept = a_day_ago();
        let second = Duration::from_secs(1);
        let clock = Clock::after(kept, Some(monotonic().saturating_sub(second)));
        let since = clock.now().duration_since(kept);
        assert!(since >= second.min(monotonic() / 2) && since < SLACK, "{since:?}");
        assert_eq!(left(kept, &clock), 1);
        assert!(clock.behind() > DAY - SLACK && clock.behind() < DAY + SLACK);
        // Over a restart what counts is how long it took.
        let minute = Duration::from_secs(60);
        let written = byway::Instant::from_micros(system_time().as_micros() - minute.as_micros() as u64);
        let clock = Clock::restarted(kept, Some(written));
        let since = clock.now().duration_since(kept);
        assert!(since >= minute && since < minute + SLACK, "{since:?}");
        assert_eq!(left(kept, &clock), 1);
        assert_eq!(left(kept, &Clock::restarted(kept, Some(kept))), 0, "a day has passed");
        // One that says neither is taken to have had the system's time.
        for clock in [Clock::after(kept, None), Clock::restarted(kept, None), Clock::new(kept)] {
            assert!(clock.now().duration_since(kept) >= DAY && clock.behind() < SLACK);
            assert_eq!(left(kept, &clock), 0);
        }
    }

    #[test]
    fn it_never_runs_backwards() {
        let ahead = system_time() + DAY;
        let written = Some(system_time() + Duration::from_secs(9));
        let hour = Duration::from_secs(3600);
        for clock in [
            Clock::new(ahead),
            Clock::restarted(ahead, written),
            Clock::after(ahead, Some(monotonic() + hour)),
            Clock::after(ahead, Some(monotonic().saturating_sub(hour).saturating_sub(hour))),
        ] {
            let now = clock.now();
            assert!(now >= ahead && now < ahead + SLACK.max(LONGEST));
            assert_eq!(clock.behind(), Duration::ZERO);
        }
    }

    #[test]
    fn the_clock_of_one_process_goes_on_in_the_next() {
        let first = Clock::new(byway::Instant::ZERO);
        std::thread::sleep(Duration::from_millis(20));
        let time = first.now();
        let second = Clock::after(time, Some(first.monotonic(time)));
        let (before, then, after) = (first.now(), second.now(), first.now());
        let little = Duration::from_millis(2);
        assert!(then + little >= before && after + little >= then, "{before:?} {then:?} {after:?}");
    }
}

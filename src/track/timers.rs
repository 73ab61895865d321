//! How long each phase may last, in ticks.

use super::phase::{Class, Phase};

use crate::time::Tick;
use crate::timeouts::Timeouts;

/// The time-outs, laid out by phase, so that a packet needs one look-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    by_phase: [u32; Phase::COUNT],
    /// The interval between two passes over each age list: a quarter of its time-out, in units of [`CoarseTime`].
    scan_intervals: [u16; Class::COUNT],
    pub(crate) fragment: u32,
}

/// When a connection was put at the end of its age list: units of 64 ticks (4.2 s), modulo 2^16 (76 h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct CoarseTime(pub(crate) u16);

impl CoarseTime {
    const SHIFT: u32 = 6;

    pub(crate) const fn of(tick: Tick) -> Self {
        Self((tick.0 >> Self::SHIFT) as u16)
    }
}

impl Timers {
    pub(crate) const NONE: Self = Self { by_phase: [0; Phase::COUNT], scan_intervals: [0; Class::COUNT], fragment: 0 };

    /// Computes the table of time-outs again.
    pub(crate) fn set(&mut self, timeouts: &Timeouts) {
        let transitory = Tick::count(&timeouts.tcp_transitory);
        let udp = Tick::count(&timeouts.udp);
        let by_class = [
            Tick::count(&timeouts.hold),
            transitory,
            udp,
            Tick::count(&timeouts.icmp),
            udp,
            Tick::count(&timeouts.tcp_established),
        ];
        for (phase, ticks) in Phase::ALL.iter().zip(&mut self.by_phase) {
            *ticks = by_class.get(phase.class() as usize).copied().unwrap_or(0);
        }
        // A doubtful connection stands in the list of the established ones, but has the shorter time-out.
        self.by_phase[Phase::Doubtful as usize] = transitory;
        for (scan_interval, ticks) in self.scan_intervals.iter_mut().zip(&by_class) {
            *scan_interval = ((ticks / 4) >> CoarseTime::SHIFT) as u16;
        }
        self.fragment = Tick::count(&timeouts.fragment);
    }

    /// Whether a connection in this phase, last seen at `last`, has outlived its time-out.
    #[inline(always)]
    pub(crate) fn is_dead(&self, phase: Phase, last: Tick, now: Tick) -> bool {
        // No connection was last seen in the future, since time never goes back.
        self.is_outlived(phase, now.0.wrapping_sub(last.0))
    }

    /// Whether this many ticks without a packet are too long.
    #[inline(always)]
    pub(crate) fn is_outlived(&self, phase: Phase, ticks: u32) -> bool {
        ticks > self.of(phase)
    }

    /// The first tick at which it will have outlived its time-out.
    pub(crate) fn death(&self, phase: Phase, last: Tick) -> Tick {
        last.plus(self.of(phase).saturating_add(1))
    }

    /// When a connection that is closed now has ended: at the end of its time-out, if that has passed.
    pub(crate) fn end(&self, phase: Phase, last: Tick, now: Tick) -> Tick {
        last.plus(self.of(phase).min(now.since_past(last)))
    }

    /// How long an alternative endpoint is not given to another connection, in ticks.
    pub(crate) fn quarantine(&self) -> u32 {
        self.of(Phase::Quarantined)
    }

    #[inline(always)]
    fn of(&self, phase: Phase) -> u32 {
        self.by_phase.get(phase as usize & (Phase::COUNT - 1)).copied().unwrap_or(0)
    }

    /// Whether the head of an age list has been in the list for more than a scan interval, and must be examined.
    pub(crate) fn scan_is_due(&self, class: Class, listed_at: CoarseTime, now: Tick) -> bool {
        self.has_stood_for(listed_at, now) > self.scan_interval(class)
    }

    /// How long a connection has been in its age list, modulo 76 h. After a longer time the age seems less than it is.
    /// No scan interval is longer than 30 h, so a busy connection is examined at most one interval late.
    pub(crate) const fn has_stood_for(&self, listed_at: CoarseTime, now: Tick) -> u16 {
        CoarseTime::of(now).0.wrapping_sub(listed_at.0)
    }

    fn scan_interval(&self, class: Class) -> u16 {
        self.scan_intervals.get(class as usize).copied().unwrap_or(0)
    }

    /// The first tick at which the scan interval will be over.
    pub(crate) fn next_scan(&self, class: Class, listed_at: CoarseTime, now: Tick) -> Tick {
        match self.scan_interval(class).checked_sub(self.has_stood_for(listed_at, now)) {
            Some(left) => Tick((now.0 >> CoarseTime::SHIFT).wrapping_add(u32::from(left) + 1) << CoarseTime::SHIFT),
            None => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_dies_early() {
        let mut timers = Timers::NONE;
        timers.set(&Timeouts::RECOMMENDED);
        let start = crate::Instant::from_secs(1_000).tick();
        let at = |seconds: u64| crate::Instant::from_secs(1_000 + seconds).tick();
        assert!(!timers.is_dead(Phase::Established, start, at(7_440)));
        assert!(timers.is_dead(Phase::Established, start, at(7_441)));
        assert!(!timers.is_dead(Phase::UdpAnswered, start, at(300)));
        assert!(timers.is_dead(Phase::UdpAnswered, start, at(301)));
    }

    #[test]
    fn a_lap_ends_when_it_says_it_will() {
        let mut timers = Timers::NONE;
        timers.set(&Timeouts::RECOMMENDED);
        for class in Class::all() {
            for tick in [0, 1, 63, 64, 1_000_000, u32::MAX - 70] {
                let now = Tick(tick);
                let listed_at = CoarseTime::of(now);
                let end = timers.next_scan(class, listed_at, now);
                assert!(end.since(now) > 0, "{class:?} {tick}");
                assert!(timers.scan_is_due(class, listed_at, end), "{class:?} {tick}");
                assert!(!timers.scan_is_due(class, listed_at, Tick(end.0.wrapping_sub(1))), "{class:?} {tick}");
            }
        }
    }
}

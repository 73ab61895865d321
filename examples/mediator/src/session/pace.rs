//! How slow a client may be.
//!
//! Time runs against a client while it is its turn: while it has to send the rest of a request, or to read what there is of a
//! response. It does not run while a server is waited for. Each byte that moves gives some of it back, so whoever moves fewer
//! bytes a second than [`Pace::min_rate`] falls behind, and whoever is [`Pace::patience`] behind is let go.

use core::time::Duration;

use byway::Instant;

/// What is expected of clients.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a client may be silent when it is its turn, and how far it may fall behind. The whole head of a request may
    /// take as long.
    pub patience: Duration,
    /// How many bytes a second of a body or of a response must move in the long run. Zero: a byte is as good as many.
    pub min_rate: u32,
}

impl Pace {
    /// For how long so many bytes are enough.
    fn worth(&self, bytes: usize) -> Duration {
        let micros = (bytes as u64).saturating_mul(1_000_000).checked_div(self.min_rate.into());
        micros.map_or(self.patience, Duration::from_micros)
    }
}

/// How far a client is behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    behind: Duration,
    /// Since when it is the client's turn, as far as that is not in `behind`.
    since: Option<Instant>,
}

impl Clock {
    /// It is the client's turn.
    pub(super) const fn new(now: Instant) -> Self {
        Self { behind: Duration::ZERO, since: Some(now) }
    }

    /// Whether it is the client's turn from now on.
    pub(super) fn turn(&mut self, now: Instant, is_clients: bool) {
        self.read(now);
        self.since = is_clients.then_some(self.since.unwrap_or(now));
    }

    /// Something new begins.
    pub(super) const fn reset(&mut self) {
        self.behind = Duration::ZERO;
    }

    /// So many bytes have moved. [Read](Self::read) it first.
    pub(super) fn moved(&mut self, bytes: usize, pace: &Pace) {
        self.behind = self.behind.saturating_sub(pace.worth(bytes));
    }

    /// Takes account of the time until now.
    pub(super) fn read(&mut self, now: Instant) {
        if let Some(since) = &mut self.since {
            self.behind += now.duration_since(*since);
            *since = now.max(*since);
        }
    }

    /// Whether it is the client's turn, and the client is to be let go.
    pub(super) fn is_over(&self, pace: &Pace) -> bool {
        self.since.is_some() && self.behind >= pace.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { patience: Duration::from_secs(60), min_rate: 240 };

    /// After how many seconds a client is let go that moves so many bytes at the end of each interval, at most a day.
    fn lasts(pace: &Pace, bytes: usize, interval: u64) -> Option<u64> {
        let mut clock = Clock::new(Instant::ZERO);
        (1..86_400).find(|second| {
            clock.read(Instant::from_secs(*second));
            let is_over = clock.is_over(pace);
            if second % interval == 0 {
                clock.moved(bytes, pace);
            }
            is_over
        })
    }

    #[test]
    fn whoever_is_slower_than_the_rate_falls_behind() {
        assert_eq!(lasts(&PACE, 0, 1), Some(60));
        assert_eq!(lasts(&PACE, 1, 50), Some(61));
        assert_eq!(lasts(&PACE, 120, 1), Some(119));
        assert_eq!(lasts(&PACE, 239, 1), Some(14_160));
        assert_eq!(lasts(&PACE, 240, 1), None);
        // In lumps, as long as they come in time.
        assert_eq!(lasts(&PACE, 240 * 59, 59), None);
        assert_eq!(lasts(&PACE, 1 << 20, 61), Some(60));
        let any = Pace { min_rate: 0, ..PACE };
        assert_eq!((lasts(&any, 1, 59), lasts(&any, 1, 60)), (None, Some(60)));
    }

    #[test]
    fn it_stands_while_it_is_the_servers_turn_and_never_runs_backwards() {
        let at = Instant::from_secs;
        let mut clock = Clock::new(at(100));
        clock.turn(at(159), false);
        clock.read(at(10_000));
        assert!(!clock.is_over(&PACE));
        clock.turn(at(10_000), true);
        clock.read(at(9000));
        assert!(!clock.is_over(&PACE));
        clock.read(at(10_001));
        assert!(clock.is_over(&PACE));
        clock.reset();
        assert!(!clock.is_over(&PACE));
    }
}

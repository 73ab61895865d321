//! What is observed of a server in an interval, and what is estimated of it.

use core::time::Duration;

use crate::measurements::Measurements;
use crate::monitor::allocate::Carries;

/// What was counted of one server in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Observation {
    /// Responses.
    pub answered: u32,
    /// Their response times, added up.
    pub response: Duration,
    /// Requests that ended without a response, connections refused, reset before any data, and SYNs that timed out.
    pub failures: u32,
    /// Requests that had no response when their connection ended.
    pub unanswered: u32,
    /// How long those had waited, added up.
    pub unanswered_waited: Duration,
    /// Requests and SYNs that wait at the end of the interval.
    pub waiting: u32,
    /// How long they have waited, added up.
    pub waited: Duration,
    /// How long there has been no response while requests wait.
    pub silent: Duration,
}

impl Observation {
    /// Nothing was observed.
    pub const NONE: Self = Self {
        answered: 0,
        response: Duration::ZERO,
        failures: 0,
        unanswered: 0,
        unanswered_waited: Duration::ZERO,
        waiting: 0,
        waited: Duration::ZERO,
        silent: Duration::ZERO,
    };

    /// What was measured between two readings: of [`Measurements::between`].
    #[must_use]
    pub fn of(interval: &Measurements) -> Self {
        let micros = |total: u64| Duration::from_micros(total);
        let connecting = interval.connecting;
        Self {
            answered: u32::try_from(interval.response.count()).unwrap_or(u32::MAX),
            response: interval.response.total(),
            failures: interval.ends.failures().wrapping_add(interval.unreachable),
            unanswered: interval.unanswered.count,
            unanswered_waited: micros(interval.unanswered.micros),
            waiting: interval.waiting.count.saturating_add(connecting.count),
            waited: micros(interval.waiting.micros.saturating_add(connecting.micros)),
            silent: interval.silent.or(connecting.mean()).unwrap_or(Duration::ZERO),
        }
    }

    /// Adds what was counted in the interval after this one.
    pub fn add(&mut self, later: &Self) {
        self.answered = self.answered.saturating_add(later.answered);
        self.response = self.response.saturating_add(later.response);
        self.failures = self.failures.saturating_add(later.failures);
        self.unanswered = self.unanswered.saturating_add(later.unanswered);
        self.unanswered_waited = self.unanswered_waited.saturating_add(later.unanswered_waited);
        (self.waiting, self.waited, self.silent) = (later.waiting, later.waited, later.silent);
    }

    /// The state at the end of the interval, without what was counted in it.
    pub(super) const fn state(&self) -> Self {
        Self { waiting: self.waiting, waited: self.waited, silent: self.silent, ..Self::NONE }
    }

    /// Like [`mean`](Self::mean), with what the requests that still wait have waited so far. `None` if there are no requests.
    pub(super) fn bound(&self) -> Option<f64> {
        let waited = self.response + self.unanswered_waited + self.waited;
        (self.answered != 0 || self.waiting != 0).then(|| waited.as_secs_f64() / f64::from(self.answered.max(1)))
    }

    /// The mean response time in seconds, counting requests that were left unanswered as lower bounds: if times are
    /// exponentially distributed, the total time waited divided by the number of responses is the best estimate.
    pub(super) fn mean(&self) -> Option<f64> {
        let waited = self.response.as_secs_f64() + self.unanswered_waited.as_secs_f64();
        (self.answered != 0).then(|| waited / f64::from(self.answered))
    }
}

/// The estimate of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Estimate {
    /// Requests a second that it can serve; zero while nothing is known.
    pub capacity: f64,
    /// Seconds that a request takes when the server has no other.
    pub floor: f64,
    /// The last mean response time in seconds, smoothed; zero while nothing is known.
    pub response: f64,
    /// Requests a second that it has served lately.
    pub rate: f64,
}

/// The largest factor by which an estimated capacity grows in an interval.
const GROWTH: f64 = 1.5;
/// A capacity below this share of its estimate has fallen.
const FALL: f64 = 0.6;
/// The factor by which an estimated floor rises in an interval in which no response time came near it.
const CREEP: f64 = 1.02;

impl Estimate {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { capacity: 0.0, floor: 0.0, response: 0.0, rate: 0.0 };

    /// Whether anything is known.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.capacity > 0.0
    }

    /// Learns from an interval of `seconds`.
    ///
    /// With a shared processor T = d + 1 / (μ - λ), so μ = λ + 1 / (T - d). Where requests queue for a long time, what is
    /// served is all that can be served. Little's law says how many are there: where far more wait than λ T, the responses
    /// that came are not those of the requests that wait, and the longer time counts. How many wait is known for one moment
    /// only, so more than three standard deviations of a Poisson distribution count, and fewer than [`FEW`] do not.
    pub(super) fn learn(&mut self, seen: &Observation, seconds: f64) {
        let Some(mean) = seen.mean().filter(|_| seconds > 0.0 && seen.answered >= FEW) else {
            return;
        };
        let rate = f64::from(seen.answered) / seconds;
        let (waiting, expected) = (f64::from(seen.waiting), rate * mean);
        let is_queue = seen.waiting >= FEW && waiting > 2.0 * expected + 3.0 * libm::sqrt(expected);
        let time = if is_queue { waiting / rate } else { mean };
        self.floor = if self.floor == 0.0 { mean } else { (self.floor * CREEP).min(mean) };
        let spare = 1.0 / (time - 0.8 * self.floor).max(0.1 * time).max(1e-6);
        let capacity = rate + spare;
        // A large fall is believed at once, a rise only step by step.
        let new = if capacity < FALL * self.capacity { 0.7 } else { 0.3 };
        self.capacity = if self.is_known() {
            ((1.0 - new) * self.capacity + new * capacity).min(self.capacity * GROWTH)
        } else {
            capacity
        };
        self.response = if self.response == 0.0 { mean } else { 0.7 * self.response + 0.3 * mean };
        self.rate = rate;
    }

    /// Lowers the capacity of a server that comes back, until it has shown what it can do.
    pub(super) fn ramp(&mut self) {
        self.capacity *= 0.6;
    }

    pub(super) fn carries(&self) -> Carries {
        Carries { capacity: self.capacity, floor: 0.8 * self.floor }
    }
}

/// Nothing is learnt from fewer responses in an interval, or from fewer requests that wait.
pub(super) const FEW: u32 = 5;

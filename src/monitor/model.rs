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
    /// How many of them were to requests of others, which the monitor's weights do not steer: of another service that
    /// has this server too. See [`of_others`](Self::of_others).
    pub others: u32,
    /// Their response times, added up.
    pub response: Duration,
    /// The longest of them, as exactly as a [`Histogram`](crate::Histogram) knows it; zero if that is not known.
    pub slowest: Duration,
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
        others: 0,
        response: Duration::ZERO,
        slowest: Duration::ZERO,
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
            others: 0,
            response: interval.response.total(),
            slowest: interval.response.percentile(100.0).unwrap_or(Duration::ZERO),
            failures: interval.ends.failures().wrapping_add(interval.unreachable),
            unanswered: interval.unanswered.count,
            unanswered_waited: micros(interval.unanswered.micros),
            waiting: interval.waiting.count.saturating_add(connecting.count),
            waited: micros(interval.waiting.micros.saturating_add(connecting.micros)),
            silent: interval.silent.or(connecting.mean()).unwrap_or(Duration::ZERO),
        }
    }

    /// The same, of requests that the monitor's weights do not steer, such as those of another service that has this
    /// server too. [`merge`](Self::merge) it with what was counted of the monitor's own: the capacity of a server is
    /// estimated from all of its requests, and its own get what is best for all of them together.
    #[must_use]
    pub const fn of_others(mut self) -> Self {
        self.others = self.answered;
        self
    }

    /// Responses to the monitor's own requests.
    pub(super) const fn own(&self) -> u32 {
        self.answered.saturating_sub(self.others)
    }

    /// Adds what was counted in the interval after this one.
    pub fn add(&mut self, later: &Self) {
        self.answered = self.answered.saturating_add(later.answered);
        self.others = self.others.saturating_add(later.others);
        self.response = self.response.saturating_add(later.response);
        self.slowest = self.slowest.max(later.slowest);
        self.failures = self.failures.saturating_add(later.failures);
        self.unanswered = self.unanswered.saturating_add(later.unanswered);
        self.unanswered_waited = self.unanswered_waited.saturating_add(later.unanswered_waited);
        (self.waiting, self.waited, self.silent) = (later.waiting, later.waited, later.silent);
    }

    /// The state at the end of the interval, without what was counted in it.
    pub(super) const fn state(&self) -> Self {
        Self { waiting: self.waiting, waited: self.waited, silent: self.silent, ..Self::NONE }
    }

    /// Like [`mean`](Self::mean), with what the requests that still wait have waited so far. `None` if there are no
    /// requests.
    pub(super) fn bound(&self) -> Option<f64> {
        let waited = self.response.saturating_add(self.unanswered_waited).saturating_add(self.waited);
        (self.answered != 0 || self.waiting != 0).then(|| waited.as_secs_f64() / f64::from(self.answered.max(1)))
    }

    /// The mean response time in seconds, counting requests that were left unanswered as lower bounds: if times are
    /// exponentially distributed, the total time waited divided by the number of responses is the best estimate.
    pub(super) fn mean(&self) -> Option<f64> {
        let waited = self.response.as_secs_f64() + self.unanswered_waited.as_secs_f64();
        (self.answered != 0).then(|| waited / f64::from(self.answered))
    }

    /// Whether far more requests wait than so many. How many wait is known for one moment only, so more than three
    /// standard deviations of a Poisson distribution count, and fewer than [`FEW`] do not.
    fn has_more_waiting_than(&self, expected: f64) -> bool {
        self.waiting >= FEW && f64::from(self.waiting) > 2.0 * expected + 3.0 * libm::sqrt(expected)
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
    /// How many requests usually wait there at once: follows a rise slowly.
    pub waiting: f64,
    /// Requests of [others](Observation::others) a second that it has served, smoothed.
    pub others: f64,
    /// The part of its capacity that is for the monitor's own requests: 1 if there are no others.
    pub part: f64,
}

/// What is usual at a server, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    /// A response time.
    pub(super) response: f64,
    /// How long a request waits. More than a response time where some are never answered, as in protocols in which
    /// clients wait for events.
    pub(super) wait: f64,
}

/// The largest factor by which an estimated capacity grows in an interval.
const GROWTH: f64 = 1.5;
/// A capacity below this share of its estimate has fallen.
const FALL: f64 = 0.6;
/// The factor by which the number of requests that usually wait rises in an interval at most, apart from one more.
const RISE: f64 = 1.1;
/// The factor by which an estimated floor rises in an interval in which no response time came near it.
const CREEP: f64 = 1.02;

impl Estimate {
    /// Nothing is known.
    pub const UNKNOWN: Self =
        Self { capacity: 0.0, floor: 0.0, response: 0.0, rate: 0.0, waiting: 0.0, others: 0.0, part: 1.0 };

    /// Whether anything is known.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.capacity > 0.0
    }

    /// Requests a second that it can carry of the monitor's own.
    #[must_use]
    pub const fn own_capacity(&self) -> f64 {
        self.capacity * self.part
    }

    /// Learns from an interval of `seconds`.
    ///
    /// With a shared processor T = d + 1 / (μ - λ), so μ = λ + 1 / (T - d). Where requests queue for a long time, what
    /// is served is all that can be served. Little's law says how many are there: where far more wait than λ T, the
    /// responses that came are not those of the requests that wait, and the longer time counts.
    pub(super) fn learn(&mut self, seen: &Observation, seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        let is_crowded = self.is_crowded(seen, seconds);
        let others = f64::from(seen.others) / seconds;
        self.others = if self.is_known() { 0.7 * self.others + 0.3 * others } else { others };
        let waiting = f64::from(seen.waiting);
        self.waiting = waiting.min(self.waiting * RISE + 1.0).max(0.7 * self.waiting + 0.3 * waiting.min(self.waiting));
        let rate = f64::from(seen.answered) / seconds;
        let Some(mean) = seen.mean().filter(|_| seen.answered >= FEW) else {
            self.learn_little(seen, seconds, is_crowded);
            return;
        };
        let time = if seen.has_more_waiting_than(rate * mean) { f64::from(seen.waiting) / rate } else { mean };
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

    /// Few answers say something about the usual response time, but nothing about what a server can carry; unless more
    /// requests wait than usual, and for longer than they usually take.
    fn learn_little(&mut self, seen: &Observation, seconds: f64, is_crowded: bool) {
        let (answered, waiting) = (f64::from(seen.answered), f64::from(seen.waiting));
        if self.is_known() && is_crowded && seen.waited.as_secs_f64() > self.response * waiting {
            // It serves all that it can, one in the interval at least.
            let rate = answered.max(1.0) / seconds;
            let capacity = rate + rate / waiting;
            (self.capacity, self.rate) = (0.3 * self.capacity + 0.7 * self.capacity.min(capacity), rate);
        }
        if seen.answered != 0 {
            let mean = seen.response.as_secs_f64() / answered;
            let new = if self.response == 0.0 { 1.0 } else { 0.3 * answered / f64::from(FEW) };
            self.response += new * (mean - self.response);
        }
    }

    /// What is usual there, if that is known.
    pub(super) fn usual(&self) -> Option<Usual> {
        let response = Some(self.response).filter(|response| *response > 0.0)?;
        // By Little's law.
        let wait = if self.rate > 0.0 { self.waiting / self.rate } else { 0.0 };
        Some(Usual { response, wait: wait.max(response) })
    }

    /// Whether far more requests wait than usual: than there were until now, and than Little's law allows for the rate
    /// and the response time until now.
    pub(super) fn is_crowded(&self, seen: &Observation, seconds: f64) -> bool {
        let rate = self.rate.max(f64::from(seen.answered) / seconds.max(1e-6));
        seen.has_more_waiting_than(self.waiting.max(rate * self.response))
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
